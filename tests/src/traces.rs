//! Recorded keystrokes: three documents as they were really typed (josephg's editing-traces), two of
//! them by several people at once.

use std::io::Read;
use std::path::PathBuf;

use flate2::read::GzDecoder;
use serde_json::Value as Json;

/// Deletes and inserts at a place, counted in code points.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Splice {
    /// Where.
    pub at: usize,
    /// How many are deleted.
    pub delete: usize,
    /// What is inserted.
    pub insert: String,
}

/// Some splices by one author, on the text as it was after `parents`.
#[derive(Clone, Debug)]
pub struct Keystroke {
    /// Who.
    pub agent: usize,
    /// The keystrokes seen, and with them all that those had seen; none: the empty text.
    pub parents: Vec<usize>,
    /// What, each after those before it.
    pub splices: Vec<Splice>,
}

/// A recording.
#[derive(Clone, Debug)]
pub struct Keystrokes {
    /// The keystrokes, each after its parents.
    pub strokes: Vec<Keystroke>,
    /// The text in the end.
    pub end: String,
}

/// Reads a recording of the fixtures.
pub fn read(name: &str) -> Keystrokes {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/traces");
    let file = std::fs::File::open(folder.join(format!("{name}.json.gz")));
    let mut text = String::new();
    GzDecoder::new(file.expect("the recording is part of the repository"))
        .read_to_string(&mut text)
        .expect("the recording is readable");
    let json: Json = serde_json::from_str(&text).expect("the recording is JSON");
    let strokes = json["txns"].as_array().expect("it has transactions");
    Keystrokes {
        strokes: strokes.iter().enumerate().map(|(at, stroke)| keystroke(at, stroke)).collect(),
        end: json["endContent"].as_str().expect("it has an end").to_owned(),
    }
}

fn number(json: &Json) -> usize {
    json.as_u64().and_then(|number| usize::try_from(number).ok()).expect("a number")
}

fn keystroke(at: usize, json: &Json) -> Keystroke {
    let parents = match json.get("parents") {
        Some(parents) => parents.as_array().expect("a list").iter().map(number).collect(),
        // Recorded from one author: each follows the one before.
        None => at.checked_sub(1).into_iter().collect(),
    };
    let splice = |patch: &Json| Splice {
        at: number(&patch[0]),
        delete: number(&patch[1]),
        insert: patch[2].as_str().expect("a text").to_owned(),
    };
    let patches = json["patches"].as_array().expect("a list");
    Keystroke {
        agent: json.get("agent").map_or(0, number),
        parents,
        splices: patches.iter().map(splice).collect(),
    }
}
