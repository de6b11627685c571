//! Golden frames: one of each kind for protocol version 1, as text of the generated message and as
//! bytes. Encoding must give the bytes, the generated code must read the text in them, and
//! decoding must give the message. A change here is a change of the protocol.
//!
//! `TIDEMARK_REWRITE_GOLDEN=1` writes the files anew, for a review of the difference.

use std::fmt::Debug;
use std::path::PathBuf;

use bytes::Bytes;
use prost::Message;
use tidemark_protocol::model::limits;
use tidemark_protocol::wire::{codec, proto};

use crate::samples;

fn check(side: &str, name: &str, frame: &Bytes, generated: &dyn Debug) {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1").join(side);
    let file = folder.join(format!("{name}.txt"));
    let rows: Vec<String> = frame
        .chunks(32)
        .map(|row| row.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" "))
        .collect();
    let text = format!("{generated:#?}\n\n{}\n", rows.join("\n"));
    if std::env::var_os("TIDEMARK_REWRITE_GOLDEN").is_some() {
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(&file, &text).unwrap();
    }
    let golden = std::fs::read_to_string(&file)
        .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    assert_eq!(golden, text, "{}", file.display());
}

#[test]
fn client_frames() {
    for (name, message) in samples::client() {
        let frame = codec::encode_client(&message);
        check("client", name, &frame, &proto::ClientMessage::decode(frame.clone()).unwrap());
        assert_eq!(codec::decode_client(&frame, limits::REQUEST_BYTES).unwrap(), message, "{name}");
    }
}

#[test]
fn server_frames() {
    for (name, message) in samples::server() {
        let frame = codec::encode_server(&message);
        check("server", name, &frame, &proto::ServerMessage::decode(frame.clone()).unwrap());
        assert_eq!(codec::decode_server(&frame).unwrap(), message, "{name}");
    }
}

#[test]
fn documents() {
    let documents =
        [("all_types", samples::document()), ("merge_state", samples::merged_document())];
    for (name, document) in documents {
        let bytes = codec::encode_document(&document);
        check("document", name, &bytes, &proto::Document::decode(bytes.clone()).unwrap());
        assert_eq!(codec::decode_document(&bytes).unwrap(), document);
    }
}
