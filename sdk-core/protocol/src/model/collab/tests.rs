//! Fields that merge: replicas against Automerge's own merge, undo against remote edits, epochs,
//! plain writes, hostile bytes.

#![allow(clippy::unwrap_used)]

mod editing;
mod hostile;
mod merging;

use super::super::CollaborativeKind;
use super::{CollabDocument, TextUnit};

/// A document with one field of each kind.
fn document(actor: u8) -> CollabDocument {
    let mut document = CollabDocument::new(&[actor; 16], TextUnit::CodePoints);
    for (field, kind) in KINDS {
        document.ensure(field, kind, None).unwrap();
    }
    document
}

const KINDS: [(&str, CollaborativeKind); 4] = [
    ("text", CollaborativeKind::Text),
    ("list", CollaborativeKind::List),
    ("map", CollaborativeKind::Map),
    ("count", CollaborativeKind::Counter),
];

/// Gives a document's edits to others.
fn send(from: &mut CollabDocument, to: &mut [&mut CollabDocument]) {
    let changes = from.take_changes();
    for document in to {
        document.apply(changes.iter().map(|change| &change[..])).unwrap();
    }
}
