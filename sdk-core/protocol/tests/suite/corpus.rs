//! Replays the corpus of the fuzz targets: the samples, what was cut from them, and whatever a
//! fuzzer found once.
//!
//! `TIDEMARK_REWRITE_GOLDEN=1` writes the samples into it anew.

use std::path::PathBuf;

use bytes::Bytes;
use tidemark_protocol::wire::codec;

use crate::samples;

#[path = "../../fuzz/checks.rs"]
#[allow(unreachable_pub)]
mod checks;

fn replay(target: &str, seeds: &[(&str, Bytes)], check: fn(&[u8])) {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    if std::env::var_os("TIDEMARK_REWRITE_GOLDEN").is_some() {
        std::fs::create_dir_all(&folder).unwrap();
        for (name, bytes) in seeds {
            std::fs::write(folder.join(name), bytes).unwrap();
        }
    }
    let mut count = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        check(&bytes);
        // A fuzzer's first ideas.
        (0..bytes.len()).for_each(|end| check(&bytes[..end]));
        for at in 0..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1 << (at % 8);
            check(&bytes);
        }
        count += 1;
    }
    assert!(count >= seeds.len(), "the corpus of {target} has {count} files");
}

#[test]
fn client() {
    let seeds = samples::client();
    let seeds = seeds.iter().map(|(name, message)| (*name, codec::encode_client(message)));
    replay("decode_client", &seeds.collect::<Vec<_>>(), checks::decode_client);
}

#[test]
fn server() {
    let seeds = samples::server();
    let seeds = seeds.iter().map(|(name, message)| (*name, codec::encode_server(message)));
    replay("decode_server", &seeds.collect::<Vec<_>>(), checks::decode_server);
}

#[test]
fn document() {
    let seeds = vec![("all_types", codec::encode_document(&samples::document()))];
    replay("decode_document", &seeds, checks::decode_document);
}
