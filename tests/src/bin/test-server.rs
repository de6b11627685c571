//! The server as a process of a test: what `tidemark serve` runs, and it ends with the test that started it.

use std::io::Read;

use tidemark_server::config::{Config, Flags};

fn main() -> anyhow::Result<()> {
    // Standard input is a pipe that only the test holds: its end is the test's end, however it came.
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(1);
    });
    let config = Config::load(&Flags::default())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(tidemark_server::server::run(config))?;
    Ok(())
}
