//! What a document remembers so that concurrent edits can be merged: when its fields were edited, and
//! which of them are collaborative. Part of its stored bytes; empty for a document that was written
//! once, as most are. [`apply_write`](super::apply_write) keeps it.

use std::collections::BTreeMap;

use super::field_path::FieldPath;
use super::ids::{EditTime, Version};

/// What merging needs of a document, besides its fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MergeState {
    /// When fields were edited; none: all at the document's update version.
    pub clocks: Option<Box<Clocks>>,
    /// Its collaborative fields; none: all are plain.
    pub collaborative: Option<Box<Collaborative>>,
}

/// When the fields of a document were edited last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Clocks {
    /// When the document as a whole was written.
    pub base: EditTime,
    /// The edits since then, those that deleted a field included.
    pub fields: BTreeMap<FieldPath, EditTime>,
}

/// The collaborative fields of a document. Their values are among its fields; their history is in the
/// documents below it, see [`COLLABORATIVE_ID`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collaborative {
    /// The epoch of the history: the version of the commit that began it.
    pub epoch: Version,
    /// Which fields, and of which kind.
    pub fields: BTreeMap<String, CollaborativeKind>,
}

/// What a collaborative field is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CollaborativeKind {
    /// A string, edited by splices.
    Text,
    /// An array, edited by element.
    List,
    /// A map, edited by key.
    Map,
    /// An integer, edited by increments.
    Counter,
}

/// The collection below a document that holds the history of its collaborative fields. Only the server
/// writes to it.
pub const COLLABORATIVE_ID: &str = "__collab__";
