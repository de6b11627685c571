//! The corpus: every line spoken in the plays, as chat messages.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;

use flate2::read::GzDecoder;
use serde_json::Value as Json;

/// One message of the corpus.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// The room: a scene.
    pub room: String,
    /// The number in the room, from 1.
    pub seq: i64,
    /// The line as it stands in the file.
    pub json: Json,
}

impl Message {
    /// Where the message belongs.
    pub fn path(&self) -> String {
        format!("rooms/{0}/messages/{0}-{1}", self.room, self.seq)
    }
}

/// The corpus' file.
pub fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../examples/data/plays.jsonl.gz")
}

/// The first `count` messages.
pub fn messages(count: usize) -> Vec<Message> {
    let file = std::fs::File::open(path()).expect("the corpus is part of the repository");
    BufReader::new(GzDecoder::new(file))
        .lines()
        .take(count)
        .map(|line| parse(&line.expect("the corpus is readable")))
        .collect()
}

fn parse(line: &str) -> Message {
    let json: Json = serde_json::from_str(line).expect("each line of the corpus is JSON");
    let room = json["room"].as_str().expect("each message has a room").to_owned();
    let seq = json["seq"].as_i64().expect("each message has a number");
    Message { room, seq, json }
}
