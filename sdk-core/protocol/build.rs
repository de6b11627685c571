//! Compiles `tidemark.proto` with a pure-Rust compiler, so that no `protoc` is needed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let proto = "src/wire/tidemark.proto";
    println!("cargo:rerun-if-changed={proto}");
    let descriptors = protox::compile([proto], ["src/wire"])?;
    prost_build::Config::new()
        // Maps in key order make the encoding of a message deterministic.
        .btree_map(["."])
        // Byte fields share the buffer of the frame they came in.
        .bytes(["."])
        .compile_fds(descriptors)?;
    Ok(())
}
