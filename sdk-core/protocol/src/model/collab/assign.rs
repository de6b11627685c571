//! A plain value becomes the content of a collaborative field by a difference, so that what others
//! insert at the same time stays.

use automerge::transaction::Transactable;
use automerge::{AutoCommit, ObjId, ObjType, Prop, ROOT, ReadDoc};

use super::super::CollaborativeKind;
use super::super::value::Value;
use super::diff::diff;
use super::document::CollabDocument;
use super::error::CollabError;
use super::patch::{self, CollabPatch};
use super::value::{materialise, materialise_object, to_automerge};

impl CollabDocument {
    /// Whether a plain value can be the content of a field of a kind.
    pub fn suits(kind: CollaborativeKind, value: &Value) -> bool {
        matches!(
            (kind, value),
            (CollaborativeKind::Text, Value::String(_))
                | (CollaborativeKind::List, Value::Array(_))
                | (CollaborativeKind::Map, Value::Map(_))
                | (CollaborativeKind::Counter, Value::Integer(_))
        )
    }

    /// Makes the field hold the value: characters, elements and keys that differ are changed, a
    /// counter is incremented by the difference. It counts as an edit of others for undo.
    pub fn assign(&mut self, field: &str, value: &Value) -> Result<Vec<CollabPatch>, CollabError> {
        let kind = self.kind(field).ok_or_else(|| CollabError::NotFound(field.to_owned()))?;
        self.commit_local();
        self.doc.update_diff_cursor();
        let assigned = assign_root(&mut self.doc, field, kind, value);
        self.commit_local();
        let patches = self.doc.diff_incremental();
        self.doc.reset_diff_cursor();
        assigned?;
        let patches = patch::convert(&self.doc, patches);
        self.undo.transform(&patches, self.unit);
        Ok(patches)
    }
}

/// As [`CollabDocument::assign`], of a root object known to be there.
pub(super) fn assign_root(
    doc: &mut AutoCommit,
    field: &str,
    kind: CollaborativeKind,
    value: &Value,
) -> Result<(), CollabError> {
    let unsuitable = || CollabError::Unsuitable { field: field.to_owned(), kind };
    let found = doc.get(ROOT, field).map_err(CollabError::automerge)?;
    let (current, id) = found.ok_or_else(|| CollabError::NotFound(field.to_owned()))?;
    match (kind, value) {
        (CollaborativeKind::Text, Value::String(text)) => assign_text(doc, &id, text),
        (CollaborativeKind::List, Value::Array(values)) => assign_list(doc, &id, values),
        (CollaborativeKind::Map, Value::Map(fields)) => assign_map(doc, &id, fields),
        (CollaborativeKind::Counter, Value::Integer(wanted)) => {
            let difference = wanted.wrapping_sub(current.as_i64().ok_or_else(unsuitable)?);
            match difference {
                0 => Ok(()),
                by => doc.increment(ROOT, field, by).map_err(CollabError::automerge),
            }
        }
        (
            CollaborativeKind::Text
            | CollaborativeKind::List
            | CollaborativeKind::Map
            | CollaborativeKind::Counter,
            _,
        ) => Err(unsuitable()),
    }
}

fn assign_text(doc: &mut AutoCommit, id: &ObjId, text: &str) -> Result<(), CollabError> {
    let current = doc.text(id).map_err(CollabError::automerge)?;
    let (old, new): (Vec<char>, Vec<char>) = (current.chars().collect(), text.chars().collect());
    let encoding = doc.text_encoding();
    let width = |text: &[char]| match encoding {
        automerge::TextEncoding::Utf16CodeUnit => text.iter().map(|c| c.len_utf16()).sum(),
        automerge::TextEncoding::UnicodeCodePoint
        | automerge::TextEncoding::Utf8CodeUnit
        | automerge::TextEncoding::GraphemeCluster => text.len(),
    };
    // From the back, so that positions further in front hold.
    for edit in diff(&old, &new).into_iter().rev() {
        let inserted: String = new[edit.new].iter().collect();
        let (at, deleted) = (width(&old[..edit.old.start]), width(&old[edit.old]));
        doc.splice_text(id, at, deleted.cast_signed(), &inserted)
            .map_err(CollabError::automerge)?;
    }
    Ok(())
}

fn assign_list(doc: &mut AutoCommit, id: &ObjId, new: &[Value]) -> Result<(), CollabError> {
    let Value::Array(old) = materialise_object(doc, id, ObjType::List, 0) else {
        return Err(CollabError::NotFound("list".to_owned()));
    };
    for edit in diff(&old, new).into_iter().rev() {
        // What is replaced one by one is changed inside where it can be.
        let paired = edit.old.len().min(edit.new.len());
        for (at, value) in edit.old.clone().zip(&new[edit.new.clone()]) {
            assign_entry(doc, id, at.into(), Some(&old[at]), value)?;
        }
        let (at, deleted) = (edit.old.start + paired, edit.old.len() - paired);
        let inserted = &new[edit.new.start + paired..edit.new.end];
        if deleted > 0 || !inserted.is_empty() {
            doc.splice(id, at, deleted.cast_signed(), inserted.iter().map(to_automerge))
                .map_err(CollabError::automerge)?;
        }
    }
    Ok(())
}

fn assign_map(
    doc: &mut AutoCommit,
    id: &ObjId,
    new: &super::super::document::Fields,
) -> Result<(), CollabError> {
    let Value::Map(old) = materialise_object(doc, id, ObjType::Map, 0) else {
        return Err(CollabError::NotFound("map".to_owned()));
    };
    for key in old.keys().filter(|key| !new.contains_key(*key)) {
        doc.delete(id, key.as_str()).map_err(CollabError::automerge)?;
    }
    for (key, value) in new {
        assign_entry(doc, id, key.as_str().into(), old.get(key), value)?;
    }
    Ok(())
}

/// Makes an entry of a map or list hold a value: inside, if it is a map or list and stays one.
fn assign_entry(
    doc: &mut AutoCommit,
    id: &ObjId,
    at: Prop,
    old: Option<&Value>,
    new: &Value,
) -> Result<(), CollabError> {
    if old == Some(new) {
        return Ok(());
    }
    let current = doc.get(id, at.clone()).map_err(CollabError::automerge)?;
    if let Some((automerge::Value::Object(kind), object)) = current {
        match (kind, new) {
            (ObjType::List, Value::Array(values)) => return assign_list(doc, &object, values),
            (ObjType::Map, Value::Map(fields)) => return assign_map(doc, &object, fields),
            _ => {}
        }
    }
    put(doc, id, at, new)
}

/// Puts a value at a key or over an element.
pub(super) fn put(
    doc: &mut AutoCommit,
    id: &ObjId,
    at: Prop,
    value: &Value,
) -> Result<(), CollabError> {
    match to_automerge(value) {
        automerge::hydrate::Value::Scalar(scalar) => doc.put(id, at, scalar),
        nested => doc.batch_create_object(id, at, &nested, false).map(drop),
    }
    .map_err(CollabError::automerge)
}

/// The value at a key or index.
pub(super) fn entry(doc: &AutoCommit, id: &ObjId, at: Prop) -> Option<Value> {
    match at {
        Prop::Map(key) => {
            let item = doc.map_range(id, key.clone()..=key).next()?;
            Some(materialise(doc, &item.value, || item.id(), 0))
        }
        Prop::Seq(index) => {
            let item = doc.list_range(id, index..=index).next()?;
            Some(materialise(doc, &item.value, || item.id(), 0))
        }
    }
}
