//! What a document remembers so that concurrent edits can be merged: when its fields were edited, and
//! which of them are collaborative. Part of its stored bytes; empty for a document that was written
//! once, as most are. [`apply_write`](super::apply_write) keeps it.

use std::collections::BTreeMap;

use super::document::Document;
use super::field_path::FieldPath;
use super::ids::{EditTime, Version};
use super::limits;

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
    /// When the document as a whole was written; the clock of every field without a later one.
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

impl Clocks {
    /// Of a document that was written as a whole then.
    pub fn new(base: EditTime) -> Clocks {
        Clocks { base, fields: BTreeMap::new() }
    }

    /// The clocks of a document. One that has none was written as a whole by its last commit.
    pub fn of(document: &Document) -> Clocks {
        match &document.merge.clocks {
            Some(clocks) => (**clocks).clone(),
            None => Clocks::new(document.update_version.into()),
        }
    }

    /// The clocks as a document of this update version keeps them: none where that says it all.
    pub(crate) fn stored(mut self, update_version: Version) -> Option<Box<Clocks>> {
        self.bound();
        let is_said = self.fields.is_empty() && self.base == update_version.into();
        (!is_said).then(|| Box::new(self))
    }

    /// The last edit of a field: of its own path, or of one that it is in.
    pub fn at(&self, path: &FieldPath) -> EditTime {
        if self.fields.is_empty() {
            return self.base;
        }
        // In order, the paths that it is in come before it.
        let over = self.fields.range(..=path).filter(|(other, _)| other.is_prefix_of(path));
        over.map(|(_, edit)| *edit).max().unwrap_or_default().max(self.base)
    }

    /// The newest edit of the document.
    pub fn newest(&self) -> EditTime {
        self.fields.values().copied().max().unwrap_or_default().max(self.base)
    }

    /// The paths inside a field that were edited later than then, outer ones first.
    pub(crate) fn later_within(
        &self,
        path: &FieldPath,
        edit: EditTime,
    ) -> impl Iterator<Item = &FieldPath> {
        self.within(path).filter(move |(_, later)| **later > edit).map(|(path, _)| path)
    }

    /// Records an edit of a field that is not older than [`Clocks::at`]; what is inside it and was
    /// edited later keeps its clock.
    pub(crate) fn edit(&mut self, path: &FieldPath, edit: EditTime) {
        self.forget_within(path, edit);
        self.insert(path, edit);
    }

    /// Records that a field has been computed anew, with everything inside it, whatever was edited
    /// later.
    pub(crate) fn overwrite(&mut self, path: &FieldPath, edit: EditTime) {
        let newest = self.within(path).map(|(_, edit)| *edit).max().unwrap_or_default();
        let edit = edit.max(newest).max(self.at(path));
        self.forget_within(path, edit);
        self.insert(path, edit);
    }

    /// Records a write of the whole document; fields edited later keep their clocks.
    pub(crate) fn replace(&mut self, edit: EditTime) {
        self.base = edit;
        self.fields.retain(|_, later| *later > edit);
    }

    fn within(&self, path: &FieldPath) -> impl Iterator<Item = (&FieldPath, &EditTime)> {
        // In order, what is inside a path comes right after it.
        let from = self.fields.range(path..).skip_while(move |(other, _)| *other == path);
        from.take_while(move |(other, _)| path.is_prefix_of(other))
    }

    fn forget_within(&mut self, path: &FieldPath, through: EditTime) {
        if !self.fields.is_empty() {
            self.fields.retain(|other, edit| *edit > through || !path.is_prefix_of(other));
        }
    }

    fn insert(&mut self, path: &FieldPath, edit: EditTime) {
        if edit > self.at(path) {
            self.fields.insert(path.clone(), edit);
        }
    }

    /// Folds the oldest clocks into the base when there are more than the limit.
    fn bound(&mut self) {
        let Some(excess) = self.fields.len().checked_sub(limits::CLOCKS_PER_DOCUMENT) else {
            return;
        };
        if excess == 0 {
            return;
        }
        let mut edits: Vec<EditTime> = self.fields.values().copied().collect();
        edits.sort_unstable();
        self.replace(self.base.max(edits[excess - 1]));
    }
}
