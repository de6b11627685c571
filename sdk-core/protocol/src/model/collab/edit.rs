//! Local edits. Each is applied at once and gathered into the change that
//! [`CollabDocument::take_changes`] hands out, is told as a patch, and can be undone.

use automerge::marks::ExpandMark;
use automerge::transaction::Transactable;
use automerge::{
    ChangeHash, Cursor, CursorPosition, MoveCursor, ObjId, ObjType, Prop, ROOT, ReadDoc,
};

use super::super::CollaborativeKind;
use super::super::value::Value;
use super::assign::{entry, put};
use super::document::CollabDocument;
use super::error::CollabError;
use super::patch::{CollabPatch, PatchAction};
use super::undo::{Inverse, Sequence};
use super::value::{Step, from_owned, to_automerge};

/// A property of a range of text: bold, a link, a comment.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub struct Mark {
    pub start: usize,
    pub end: usize,
    pub name: String,
    /// Null removes it.
    pub value: Value,
}

impl Mark {
    pub(super) fn from_automerge(mark: &automerge::marks::Mark) -> Mark {
        Mark {
            start: mark.start,
            end: mark.end,
            name: mark.name().to_owned(),
            value: from_owned(&mark.value),
        }
    }
}

/// Whether text inserted at an end of a mark belongs to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Expand {
    Before,
    #[default]
    After,
    Both,
    None,
}

impl From<Expand> for ExpandMark {
    fn from(expand: Expand) -> ExpandMark {
        match expand {
            Expand::Before => ExpandMark::Before,
            Expand::After => ExpandMark::After,
            Expand::Both => ExpandMark::Both,
            Expand::None => ExpandMark::None,
        }
    }
}

/// Where a cursor goes when the character it is at is deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Side {
    Before,
    #[default]
    After,
}

/// A place in a text that stays where it is while others edit around it. It is a short text that can
/// be stored and sent, and holds within one epoch of the document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CollabCursor(pub String);

impl CollabDocument {
    /// Deletes and inserts at a place of a text.
    pub fn splice(
        &mut self,
        field: &str,
        at: usize,
        delete: usize,
        insert: &str,
    ) -> Result<CollabPatch, CollabError> {
        let id = self.root(field, CollaborativeKind::Text)?;
        self.check_range(&id, at, delete)?;
        let deleted = self.text_between(&id, at, delete);
        self.doc
            .splice_text(&id, at, delete.cast_signed(), insert)
            .map_err(CollabError::automerge)?;
        let inserted = self.unit.length(insert);
        let inverse = Sequence::text(at, inserted, deleted, delete);
        self.undo.record(Inverse::Sequence { object: id.clone(), change: inverse });
        let action = PatchAction::Splice { at, delete, insert: insert.to_owned() };
        Ok(self.patch(field, &[], action, id))
    }

    /// As [`CollabDocument::splice`], in the text as it was at a state of the history: for who edits
    /// what they last saw, while edits of others have come in. It merges with those like an edit made
    /// elsewhere, and cannot be undone. Gives the state that has it and nothing else more.
    pub fn splice_at(
        &mut self,
        field: &str,
        state: &[[u8; 32]],
        at: usize,
        delete: usize,
        insert: &str,
    ) -> Result<(Vec<CollabPatch>, Vec<[u8; 32]>), CollabError> {
        let id = self.root(field, CollaborativeKind::Text)?;
        if !self.has(state) {
            return Err(CollabError::MissingDependencies);
        }
        let heads: Vec<ChangeHash> = state.iter().map(|hash| ChangeHash(*hash)).collect();
        let (patches, made) = self.edit_at(&heads, |doc| {
            let (index, length) = (at.saturating_add(delete), doc.length(&id));
            if index > length {
                return Err(CollabError::OutOfBounds { index, length });
            }
            doc.splice_text(&id, at, delete.cast_signed(), insert).map_err(CollabError::automerge)
        })?;
        Ok((patches, made.map_or_else(|| state.to_vec(), |made| vec![made])))
    }

    /// Character by character: each is found at once, where an iterator would begin at the front.
    fn text_between(&self, id: &ObjId, at: usize, count: usize) -> String {
        let (mut text, mut place) = (String::new(), at);
        while place < at + count {
            let found = self.doc.get(id, place).ok().flatten();
            let found = found.as_ref().and_then(|(value, _)| value.as_str()).unwrap_or_default();
            text.push_str(found);
            place += self.unit.length(found).max(1);
        }
        text
    }

    /// The text of a text field.
    pub fn text(&self, field: &str) -> Result<String, CollabError> {
        let id = self.root(field, CollaborativeKind::Text)?;
        self.doc.text(&id).map_err(CollabError::automerge)
    }

    /// How long a text or list is.
    pub fn length(&self, field: &str, path: &[Step]) -> Result<usize, CollabError> {
        let (id, _) = self.object(field, path)?;
        Ok(self.doc.length(&id))
    }

    /// Marks a range of text.
    pub fn mark(
        &mut self,
        field: &str,
        mark: &Mark,
        expand: Expand,
    ) -> Result<CollabPatch, CollabError> {
        let id = self.root(field, CollaborativeKind::Text)?;
        self.check_range(&id, mark.start, mark.end.saturating_sub(mark.start))?;
        let before = self.marks_between(&id, mark)?;
        self.set_mark(&id, mark, expand)?;
        let inverse =
            Inverse::Marks { object: id.clone(), field: field.to_owned(), restore: before, expand };
        self.undo.record(inverse);
        let action = PatchAction::Mark { marks: vec![mark.clone()] };
        Ok(self.patch(field, &[], action, id))
    }

    fn set_mark(&mut self, id: &ObjId, mark: &Mark, expand: Expand) -> Result<(), CollabError> {
        let automerge::hydrate::Value::Scalar(value) = to_automerge(&mark.value) else {
            let message = "a mark's value is neither a map nor an array".to_owned();
            return Err(CollabError::Malformed(message));
        };
        let (start, end) = (mark.start, mark.end);
        let set = if mark.value == Value::Null {
            self.doc.unmark(id, &mark.name, start, end, expand.into())
        } else {
            let mark = automerge::marks::Mark::new(mark.name.clone(), value, start, end);
            self.doc.mark(id, mark, expand.into())
        };
        set.map_err(CollabError::automerge)
    }

    /// What a range is marked with by a name, without gaps.
    fn marks_between(&self, id: &ObjId, wanted: &Mark) -> Result<Vec<Mark>, CollabError> {
        let clear = Mark { value: Value::Null, ..wanted.clone() };
        let mut found = vec![clear];
        for mark in self.doc.marks(id).map_err(CollabError::automerge)? {
            let (start, end) = (mark.start.max(wanted.start), mark.end.min(wanted.end));
            if mark.name() == wanted.name && start < end {
                found.push(Mark { start, end, ..Mark::from_automerge(&mark) });
            }
        }
        Ok(found)
    }

    /// The marks of a text, by name and place.
    pub fn marks(&self, field: &str) -> Result<Vec<Mark>, CollabError> {
        let id = self.root(field, CollaborativeKind::Text)?;
        let marks = self.doc.marks(&id).map_err(CollabError::automerge)?;
        Ok(marks.iter().map(Mark::from_automerge).collect())
    }

    /// A cursor at a place of a text; its end is a place, too.
    pub fn cursor(&self, field: &str, at: usize, side: Side) -> Result<CollabCursor, CollabError> {
        let id = self.root(field, CollaborativeKind::Text)?;
        self.check_range(&id, at, 0)?;
        let position = match at == self.doc.length(&id) {
            true => CursorPosition::End,
            false => CursorPosition::Index(at),
        };
        let side = match side {
            Side::Before => MoveCursor::Before,
            Side::After => MoveCursor::After,
        };
        let cursor = self
            .doc
            .get_cursor_moving(&id, position, None, side)
            .map_err(CollabError::automerge)?;
        Ok(CollabCursor(cursor.to_string()))
    }

    /// Where a cursor is now.
    pub fn position(&self, field: &str, cursor: &CollabCursor) -> Result<usize, CollabError> {
        let id = self.root(field, CollaborativeKind::Text)?;
        let unknown = || CollabError::NotFound(format!("cursor {}", cursor.0));
        let cursor = Cursor::try_from(cursor.0.as_str()).map_err(|_| unknown())?;
        self.doc.get_cursor_position(&id, &cursor, None).map_err(|_| unknown())
    }

    /// Deletes and inserts elements of a list: the field's own, or one inside it.
    pub fn splice_list(
        &mut self,
        field: &str,
        path: &[Step],
        at: usize,
        delete: usize,
        insert: &[Value],
    ) -> Result<CollabPatch, CollabError> {
        let id = self.object_of(field, path, ObjType::List)?;
        self.check_range(&id, at, delete)?;
        let deleted = self.elements(&id, at, delete);
        self.doc
            .splice(&id, at, delete.cast_signed(), insert.iter().map(to_automerge))
            .map_err(CollabError::automerge)?;
        let inverse = Sequence::elements(at, insert.len(), deleted);
        self.undo.record(Inverse::Sequence { object: id.clone(), change: inverse });
        let action = PatchAction::Elements { at, delete, insert: insert.to_vec() };
        Ok(self.patch(field, path, action, id))
    }

    fn elements(&self, id: &ObjId, at: usize, count: usize) -> Vec<Value> {
        (at..at + count).filter_map(|at| entry(&self.doc, id, at.into())).collect()
    }

    /// Puts another value over an element.
    pub fn set(
        &mut self,
        field: &str,
        path: &[Step],
        at: usize,
        value: &Value,
    ) -> Result<CollabPatch, CollabError> {
        let id = self.object_of(field, path, ObjType::List)?;
        self.check_range(&id, at, 1)?;
        let before = entry(&self.doc, &id, at.into()).unwrap_or(Value::Null);
        put(&mut self.doc, &id, at.into(), value)?;
        self.undo.record(Inverse::Element { object: id.clone(), at, restore: before });
        Ok(self.patch(field, path, PatchAction::Set { at, value: value.clone() }, id))
    }

    /// Puts a value at a key of a map: the field's own, or one inside it.
    pub fn put(
        &mut self,
        field: &str,
        path: &[Step],
        key: &str,
        value: &Value,
    ) -> Result<CollabPatch, CollabError> {
        let id = self.object_of(field, path, ObjType::Map)?;
        let before = entry(&self.doc, &id, key.into());
        put(&mut self.doc, &id, key.into(), value)?;
        self.record_key(&id, key, before);
        let action = PatchAction::Put { key: key.to_owned(), value: value.clone() };
        Ok(self.patch(field, path, action, id))
    }

    /// Removes a key of a map.
    pub fn remove(
        &mut self,
        field: &str,
        path: &[Step],
        key: &str,
    ) -> Result<CollabPatch, CollabError> {
        let id = self.object_of(field, path, ObjType::Map)?;
        let before = entry(&self.doc, &id, key.into());
        if before.is_none() {
            return Err(CollabError::NotFound(format!("key `{key}`")));
        }
        self.doc.delete(&id, key).map_err(CollabError::automerge)?;
        self.record_key(&id, key, before);
        Ok(self.patch(field, path, PatchAction::Remove { key: key.to_owned() }, id))
    }

    fn record_key(&mut self, id: &ObjId, key: &str, restore: Option<Value>) {
        self.undo.record(Inverse::Key { object: id.clone(), key: key.to_owned(), restore });
    }

    /// Increments a counter.
    pub fn increment(&mut self, field: &str, by: i64) -> Result<CollabPatch, CollabError> {
        let id = self.root(field, CollaborativeKind::Counter)?;
        self.doc.increment(ROOT, field, by).map_err(CollabError::automerge)?;
        self.undo.record(Inverse::Count { field: field.to_owned(), by: by.wrapping_neg() });
        Ok(self.patch(field, &[], PatchAction::Increment { by }, id))
    }

    /// Takes edits together, so that they are undone as one.
    pub fn group<T>(&mut self, edits: impl FnOnce(&mut CollabDocument) -> T) -> T {
        self.open_group();
        let result = edits(self);
        self.close_group();
        result
    }

    /// Begins a group, until [`CollabDocument::close_group`].
    pub fn open_group(&mut self) {
        self.undo.open_group();
    }

    /// Ends a group.
    pub fn close_group(&mut self) {
        self.undo.close_group();
    }

    /// Takes back the last edit made here that is not undone, and leaves those of others; none if
    /// there is none. What others did to the same key or element meanwhile stays.
    pub fn undo(&mut self) -> Result<Option<Vec<CollabPatch>>, CollabError> {
        let Some(step) = self.undo.begin_undo() else { return Ok(None) };
        let patches = self.revert(step);
        self.undo.end();
        patches.map(Some)
    }

    /// Makes the last edit undone again.
    pub fn redo(&mut self) -> Result<Option<Vec<CollabPatch>>, CollabError> {
        let Some(step) = self.undo.begin_redo() else { return Ok(None) };
        let patches = self.revert(step);
        self.undo.end();
        patches.map(Some)
    }

    fn revert(&mut self, step: Vec<Inverse>) -> Result<Vec<CollabPatch>, CollabError> {
        let mut patches = Vec::new();
        for inverse in step.into_iter().rev() {
            let Some((field, path)) = self.place(&inverse) else { continue };
            match inverse {
                Inverse::Sequence { change, .. } => {
                    for (at, delete, insert) in change.splices() {
                        patches.push(match insert {
                            Some(super::undo::Content::Elements(values)) => {
                                self.splice_list(&field, &path, at, delete, &values)?
                            }
                            Some(super::undo::Content::Text(text, _)) => {
                                self.splice(&field, at, delete, &text)?
                            }
                            None if self.kind(&field) == Some(CollaborativeKind::Text) => {
                                self.splice(&field, at, delete, "")?
                            }
                            None => self.splice_list(&field, &path, at, delete, &[])?,
                        });
                    }
                }
                Inverse::Element { at, restore, .. } => {
                    patches.push(self.set(&field, &path, at, &restore)?);
                }
                Inverse::Key { key, restore: Some(value), .. } => {
                    patches.push(self.put(&field, &path, &key, &value)?);
                }
                Inverse::Key { key, restore: None, object } => {
                    if entry(&self.doc, &object, Prop::Map(key.clone())).is_some() {
                        patches.push(self.remove(&field, &path, &key)?);
                    }
                }
                Inverse::Count { by, .. } => patches.push(self.increment(&field, by)?),
                Inverse::Marks { restore, expand, .. } => {
                    for mark in restore.iter().filter(|mark| mark.start < mark.end) {
                        patches.push(self.mark(&field, mark, expand)?);
                    }
                }
            }
        }
        Ok(patches)
    }

    /// Where an object is now; none if it is no longer there.
    fn place(&self, inverse: &Inverse) -> Option<(String, Vec<Step>)> {
        let object = match inverse {
            Inverse::Count { field, .. } => return Some((field.clone(), vec![])),
            Inverse::Marks { field, .. } => return Some((field.clone(), vec![])),
            Inverse::Sequence { object, .. }
            | Inverse::Element { object, .. }
            | Inverse::Key { object, .. } => object,
        };
        let parents: Vec<_> = self.doc.parents(object).ok()?.collect();
        if parents.iter().any(|parent| !parent.visible) {
            return None;
        }
        let mut steps = parents.into_iter().rev().map(|parent| match parent.prop {
            Prop::Map(key) => Step::Key(key),
            Prop::Seq(index) => Step::Index(index),
        });
        let Some(Step::Key(field)) = steps.next() else { return None };
        Some((field, steps.collect()))
    }

    fn patch(&self, field: &str, path: &[Step], action: PatchAction, object: ObjId) -> CollabPatch {
        CollabPatch { field: field.to_owned(), path: path.to_vec(), action, object }
    }

    fn root(&self, field: &str, expected: CollaborativeKind) -> Result<ObjId, CollabError> {
        let root = self
            .roots
            .get(field)
            .ok_or_else(|| CollabError::NotFound(format!("collaborative field `{field}`")))?;
        if root.kind != expected {
            return Err(CollabError::Kind { field: field.to_owned(), expected, found: root.kind });
        }
        Ok(root.id.clone())
    }

    /// The object at a path into a field.
    fn object(&self, field: &str, path: &[Step]) -> Result<(ObjId, ObjType), CollabError> {
        let root = self
            .roots
            .get(field)
            .ok_or_else(|| CollabError::NotFound(format!("collaborative field `{field}`")))?;
        let missing = || CollabError::NotFound(format!("map or list at {path:?} of `{field}`"));
        let mut at = (root.id.clone(), self.doc.object_type(&root.id).map_err(|_| missing())?);
        for step in path {
            let prop = match (step, at.1) {
                (Step::Key(key), ObjType::Map) => Prop::Map(key.clone()),
                (Step::Index(index), ObjType::List) => Prop::Seq(*index),
                (Step::Key(_) | Step::Index(_), _) => return Err(missing()),
            };
            at = match self.doc.get(&at.0, prop).map_err(|_| missing())? {
                Some((automerge::Value::Object(kind), id)) => (id, kind),
                _ => return Err(missing()),
            };
        }
        Ok(at)
    }

    fn object_of(
        &self,
        field: &str,
        path: &[Step],
        expected: ObjType,
    ) -> Result<ObjId, CollabError> {
        let (id, found) = self.object(field, path)?;
        match found == expected {
            true => Ok(id),
            false => Err(CollabError::NotFound(format!("{expected} at {path:?} of `{field}`"))),
        }
    }

    fn check_range(&self, id: &ObjId, at: usize, count: usize) -> Result<(), CollabError> {
        let length = self.doc.length(id);
        let index = at.saturating_add(count);
        match index <= length {
            true => Ok(()),
            false => Err(CollabError::OutOfBounds { index, length }),
        }
    }
}
