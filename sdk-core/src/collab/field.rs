//! The fields of an open document: what can be done to each kind. Edits take effect at once.

use tidemark_protocol::model::collab::{CollabCursor, CollabError, Expand, Mark, Side, Step};
use tidemark_protocol::model::{CollaborativeKind, Value};

use super::handle::OpenDocument;
use crate::error::Error;

/// What an open document held at a moment: the edits made until then, here and elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CollabState(pub(super) Vec<[u8; 32]>);

impl CollabState {
    pub(super) fn new(mut hashes: Vec<[u8; 32]>) -> CollabState {
        hashes.sort_unstable();
        hashes.dedup();
        CollabState(hashes)
    }

    /// What held all that these held.
    pub fn union<'a>(states: impl IntoIterator<Item = &'a CollabState>) -> CollabState {
        CollabState::new(states.into_iter().flat_map(|state| state.0.iter().copied()).collect())
    }
}

/// A text that several edit. Positions are in the unit the document was opened with.
#[derive(Clone, Debug)]
pub struct SharedText {
    pub(super) document: OpenDocument,
    pub(super) field: String,
}

impl SharedText {
    /// The text.
    pub fn value(&self) -> String {
        match self.document.value(&self.field) {
            Some(Value::String(text)) => text,
            _ => String::new(),
        }
    }

    /// How long it is.
    pub fn len(&self) -> usize {
        self.document.read(|document| document.length(&self.field, &[])).unwrap_or(0)
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn edit(
        &self,
        edit: impl FnOnce(
            &mut tidemark_protocol::model::collab::CollabDocument,
        ) -> Result<tidemark_protocol::model::collab::CollabPatch, CollabError>,
    ) -> Result<(), Error> {
        let edit = |document: &mut _| Ok(vec![edit(document)?]);
        self.document.edit(&self.field, CollaborativeKind::Text, edit)
    }

    /// Deletes and inserts at a place.
    pub fn splice(&self, at: usize, delete: usize, insert: &str) -> Result<(), Error> {
        self.edit(|document| document.splice(&self.field, at, delete, insert))
    }

    /// As [`splice`](Self::splice), in the text as it was then: for an editor that shows what it last
    /// saw, while edits of others have come in. It cannot be undone. Gives what was held then, with
    /// the edit.
    pub fn splice_at(
        &self,
        then: &CollabState,
        at: usize,
        delete: usize,
        insert: &str,
    ) -> Result<CollabState, Error> {
        let mut made = Vec::new();
        self.document.edit(&self.field, CollaborativeKind::Text, |document| {
            let (patches, state) = document.splice_at(&self.field, &then.0, at, delete, insert)?;
            made = state;
            Ok(patches)
        })?;
        Ok(CollabState::new(made))
    }

    /// Inserts at a place.
    pub fn insert(&self, at: usize, text: &str) -> Result<(), Error> {
        self.splice(at, 0, text)
    }

    /// Deletes from a place on.
    pub fn delete(&self, at: usize, count: usize) -> Result<(), Error> {
        self.splice(at, count, "")
    }

    /// Makes it this text, by what differs. It cannot be undone.
    pub fn set(&self, text: &str) -> Result<(), Error> {
        let edit = |document: &mut tidemark_protocol::model::collab::CollabDocument| {
            document.assign(&self.field, &Value::from(text))
        };
        self.document.edit(&self.field, CollaborativeKind::Text, edit)
    }

    /// Marks a range, or removes a mark if its value is null.
    pub fn mark(&self, mark: &Mark, expand: Expand) -> Result<(), Error> {
        self.edit(|document| document.mark(&self.field, mark, expand))
    }

    /// The marks.
    pub fn marks(&self) -> Result<Vec<Mark>, Error> {
        self.document.read(|document| document.marks(&self.field))
    }

    /// A cursor at a place, which stays there while the text around it changes.
    pub fn cursor(&self, at: usize, side: Side) -> Result<CollabCursor, Error> {
        self.document.read(|document| document.cursor(&self.field, at, side))
    }

    /// Where a cursor is. `not-found` when it is of another epoch of the document: after a
    /// [`CollabEvent::Reset`](super::CollabEvent::Reset).
    pub fn position(&self, cursor: &CollabCursor) -> Result<usize, Error> {
        self.document.read(|document| document.position(&self.field, cursor))
    }
}

/// A list that several edit: the field's own, or one inside it.
#[derive(Clone, Debug)]
pub struct SharedList {
    pub(super) document: OpenDocument,
    pub(super) field: String,
    pub(super) path: Vec<Step>,
}

/// The kind of the field that a list or map of this path is in.
fn kind_of(path: &[Step], own: CollaborativeKind) -> CollaborativeKind {
    match path.first() {
        None => own,
        Some(Step::Key(_)) => CollaborativeKind::Map,
        Some(Step::Index(_)) => CollaborativeKind::List,
    }
}

fn inside(path: &[Step], step: Step) -> Vec<Step> {
    let mut path = path.to_vec();
    path.push(step);
    path
}

impl SharedList {
    /// How many elements it has.
    pub fn len(&self) -> usize {
        self.document.read(|document| document.length(&self.field, &self.path)).unwrap_or(0)
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Deletes and inserts elements at a place.
    pub fn splice(&self, at: usize, delete: usize, insert: &[Value]) -> Result<(), Error> {
        let kind = kind_of(&self.path, CollaborativeKind::List);
        self.document.edit(&self.field, kind, |document| {
            Ok(vec![document.splice_list(&self.field, &self.path, at, delete, insert)?])
        })
    }

    /// Inserts an element at a place.
    pub fn insert(&self, at: usize, value: impl Into<Value>) -> Result<(), Error> {
        self.splice(at, 0, &[value.into()])
    }

    /// Deletes elements from a place on.
    pub fn delete(&self, at: usize, count: usize) -> Result<(), Error> {
        self.splice(at, count, &[])
    }

    /// Replaces an element.
    pub fn set(&self, at: usize, value: impl Into<Value>) -> Result<(), Error> {
        let (kind, value) = (kind_of(&self.path, CollaborativeKind::List), value.into());
        self.document.edit(&self.field, kind, |document| {
            Ok(vec![document.set(&self.field, &self.path, at, &value)?])
        })
    }

    /// The map that is an element. It is found by its place with each edit.
    #[must_use]
    pub fn map(&self, at: usize) -> SharedMap {
        let path = inside(&self.path, Step::Index(at));
        SharedMap { document: self.document.clone(), field: self.field.clone(), path }
    }
}

/// A map that several edit: the field's own, or one inside it.
#[derive(Clone, Debug)]
pub struct SharedMap {
    pub(super) document: OpenDocument,
    pub(super) field: String,
    pub(super) path: Vec<Step>,
}

impl SharedMap {
    /// Sets a key.
    pub fn put(&self, key: &str, value: impl Into<Value>) -> Result<(), Error> {
        let (kind, value) = (kind_of(&self.path, CollaborativeKind::Map), value.into());
        self.document.edit(&self.field, kind, |document| {
            Ok(vec![document.put(&self.field, &self.path, key, &value)?])
        })
    }

    /// Removes a key; `not-found` if it is not there.
    pub fn remove(&self, key: &str) -> Result<(), Error> {
        let kind = kind_of(&self.path, CollaborativeKind::Map);
        self.document.edit(&self.field, kind, |document| {
            Ok(vec![document.remove(&self.field, &self.path, key)?])
        })
    }

    /// The map under a key.
    #[must_use]
    pub fn map(&self, key: &str) -> SharedMap {
        let path = inside(&self.path, Step::from(key));
        SharedMap { document: self.document.clone(), field: self.field.clone(), path }
    }

    /// The list under a key.
    #[must_use]
    pub fn list(&self, key: &str) -> SharedList {
        let path = inside(&self.path, Step::from(key));
        SharedList { document: self.document.clone(), field: self.field.clone(), path }
    }
}

/// A number that several count up and down.
#[derive(Clone, Debug)]
pub struct SharedCounter {
    pub(super) document: OpenDocument,
    pub(super) field: String,
}

impl SharedCounter {
    /// The number.
    pub fn value(&self) -> i64 {
        match self.document.value(&self.field) {
            Some(Value::Integer(value)) => value,
            _ => 0,
        }
    }

    /// Adds to it.
    pub fn increment(&self, by: i64) -> Result<(), Error> {
        self.document.edit(&self.field, CollaborativeKind::Counter, |document| {
            Ok(vec![document.increment(&self.field, by)?])
        })
    }
}
