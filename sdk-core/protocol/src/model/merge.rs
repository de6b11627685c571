//! Applying a write to a document: the same code at commit and under latency compensation.
//!
//! Among concurrent edits of one field the later *edit* wins, not the later arrival; what a write
//! could not change because it was edited since is reported as superseded. The rules, with an
//! example of each, are in `docs/consistency.md`.

use std::cmp::Ordering;

use super::clocks::{Clocks, MergeState};
use super::document::{Document, Fields, delete_field, get_field, set_field};
use super::error::{Code, ModelError, excerpt};
use super::field_path::FieldPath;
use super::ids::{EditTime, Version};
use super::mutation::{
    FieldTransform, Precondition, Superseded, Transform, Write, WriteOp, WriteResult,
};
use super::number;
use super::timestamp::Timestamp;
use super::value::Value;

/// When a write is applied, and when it was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommitTime {
    /// The commit: what the document's versions and `ServerTimestamp` take.
    pub version: Version,
    /// The edit: what is compared with the clocks of the document's fields.
    pub edit: EditTime,
}

impl CommitTime {
    /// As the server sees it: a write without a stamp is made now, and none is made in the future.
    pub fn at_commit(version: Version, stamp: Option<EditTime>) -> CommitTime {
        let now = EditTime::from(version);
        CommitTime { version, edit: stamp.map_or(now, |stamp| stamp.min(now)) }
    }

    /// As a client sees a write that it has not stamped: later than everything known.
    pub fn pending(version: Version) -> CommitTime {
        CommitTime { version, edit: EditTime::NOW }
    }

    fn is_now(self) -> bool {
        self.edit >= self.version.into()
    }
}

impl From<Version> for CommitTime {
    /// Made and committed at once.
    fn from(version: Version) -> CommitTime {
        CommitTime::at_commit(version, None)
    }
}

/// What a write makes of a document.
#[derive(Clone, Debug, PartialEq)]
pub struct Applied {
    /// The document after it; none if it does not exist then.
    pub document: Option<Document>,
    /// If it does not exist: when it was deleted, as far as that is remembered.
    pub deleted: Option<EditTime>,
    /// What is told to the author.
    pub result: WriteResult,
    /// Whether the document differs from before. `Verify`, a delete of nothing, and writing now what
    /// is there already do not change it, and it keeps its update version, as in Firestore. A stamped
    /// write of what is there changes when that was edited, so that edits end the same in whatever
    /// order they arrive.
    pub changed: bool,
}

/// Checks a write's precondition against the document as it is. `not-found` when it should exist,
/// `already-exists` when it should not, `failed-precondition` on another update version.
pub fn check_precondition(current: Option<&Document>, write: &Write) -> Result<(), ModelError> {
    let refuse = |code, problem: String| {
        let path = excerpt(write.path.as_str());
        Err(ModelError::new(code, format!("the document {path} {problem}")))
    };
    match (write.precondition, current) {
        (None, _)
        | (Some(Precondition::Exists(true)), Some(_))
        | (Some(Precondition::Exists(false)), None) => Ok(()),
        (Some(Precondition::Exists(true)), None) => {
            refuse(Code::NotFound, "does not exist".to_owned())
        }
        (Some(Precondition::Exists(false)), Some(_)) => {
            refuse(Code::AlreadyExists, "exists already".to_owned())
        }
        (Some(Precondition::UpdateVersion(wanted)), found) => {
            let found = found.map_or(Version::NONE, |document| document.update_version);
            if found == wanted {
                return Ok(());
            }
            refuse(Code::FailedPrecondition, format!("is at version {found}, not {wanted}"))
        }
    }
}

/// What a write finds.
#[derive(Clone, Copy)]
struct Before<'a> {
    current: Option<&'a Document>,
    deleted: Option<EditTime>,
}

/// A document that a write is changing.
struct Draft {
    fields: Fields,
    clocks: Clocks,
    superseded: Vec<FieldPath>,
}

/// Applies a write, after its precondition has been checked. `deleted` is when a document that does
/// not exist was deleted, if that is known. The result is validated against the limits.
/// `ServerTimestamp` takes the time of the commit's version.
pub fn apply_write(
    current: Option<&Document>,
    deleted: Option<EditTime>,
    write: &Write,
    at: CommitTime,
) -> Result<Applied, ModelError> {
    let before = Before { current, deleted };
    let mut draft = match &write.op {
        WriteOp::Set(fields) if at.edit >= before.base() => before.set(fields, at.edit),
        WriteOp::Update { fields, mask } if !before.is_deleted_after(at.edit) => {
            before.update(fields, mask, at.edit)
        }
        WriteOp::Delete if current.is_none() => return Ok(before.delete_nothing(at)),
        WriteOp::Delete if at.edit >= before.clocks().newest() => return Ok(deleted_at(at.edit)),
        WriteOp::Set(_) | WriteOp::Update { .. } | WriteOp::Delete => {
            return Ok(before.unchanged(superseded_whole(write)));
        }
        WriteOp::Verify => return Ok(before.unchanged(WriteResult::default())),
        WriteOp::Merge(_) => {
            let message = "changes of collaborative fields need their history, which is not here";
            return Err(ModelError::new(Code::Unimplemented, message));
        }
    };
    let transform_results = draft.transform(&write.transforms, at);
    Document::validate(&write.path, &draft.fields)?;
    let superseded = match draft.superseded.is_empty() {
        true => Superseded::Nothing,
        false => Superseded::Fields(std::mem::take(&mut draft.superseded)),
    };
    let result = WriteResult { transform_results, superseded };
    if before.is(&draft, at) {
        return Ok(before.unchanged(result));
    }
    let document = Document {
        path: write.path.clone(),
        fields: draft.fields,
        create_version: current.map_or(at.version, |current| current.create_version),
        update_version: at.version,
        merge: MergeState {
            clocks: draft.clocks.stored(at.version),
            collaborative: current.and_then(|current| current.merge.collaborative.clone()),
        },
    };
    Ok(Applied { document: Some(document), deleted: None, result, changed: true })
}

fn deleted_at(edit: EditTime) -> Applied {
    let result = WriteResult::default();
    Applied { document: None, deleted: Some(edit), result, changed: true }
}

fn superseded_whole(write: &Write) -> WriteResult {
    let transform_results = vec![Value::Null; write.transforms.len()];
    WriteResult { transform_results, superseded: Superseded::Whole }
}

impl Before<'_> {
    /// The clocks of the document; of one that does not exist, when it was deleted.
    fn clocks(self) -> Clocks {
        self.current.map_or_else(|| Clocks::new(self.deleted.unwrap_or_default()), Clocks::of)
    }

    /// The base of the clocks.
    fn base(self) -> EditTime {
        match self.current {
            Some(current) => match &current.merge.clocks {
                Some(clocks) => clocks.base,
                None => current.update_version.into(),
            },
            None => self.deleted.unwrap_or_default(),
        }
    }

    fn is_deleted_after(self, edit: EditTime) -> bool {
        self.current.is_none() && self.deleted.is_some_and(|deleted| edit < deleted)
    }

    /// Replaces everything but the fields edited later.
    fn set(self, fields: &Fields, edit: EditTime) -> Draft {
        let mut clocks = self.clocks();
        let mut fields = fields.clone();
        clocks.replace(edit);
        let superseded: Vec<FieldPath> = clocks.fields.keys().cloned().collect();
        if let Some(current) = self.current {
            for path in &superseded {
                put_field(&mut fields, path, get_field(&current.fields, path.segments()));
            }
        }
        Draft { fields, clocks, superseded }
    }

    /// Changes the fields of the mask that were not edited later.
    fn update(self, fields: &Fields, mask: &[FieldPath], edit: EditTime) -> Draft {
        let current = self.current.map_or_else(Fields::new, |current| current.fields.clone());
        let mut draft = Draft { fields: current, clocks: self.clocks(), superseded: Vec::new() };
        for path in mask {
            draft.update_field(path, get_field(fields, path.segments()), edit);
        }
        draft
    }

    /// Deletes what is not there: a stamped delete is remembered all the same.
    fn delete_nothing(self, at: CommitTime) -> Applied {
        let deleted = if at.is_now() { self.deleted } else { self.deleted.max(Some(at.edit)) };
        Applied { deleted, ..self.unchanged(WriteResult::default()) }
    }

    /// Whether a write has left everything as it was.
    fn is(self, draft: &Draft, at: CommitTime) -> bool {
        self.current.is_some_and(|current| {
            current.fields == draft.fields && (at.is_now() || self.clocks() == draft.clocks)
        })
    }

    fn unchanged(self, result: WriteResult) -> Applied {
        let document = self.current.cloned();
        let deleted = if document.is_some() { None } else { self.deleted };
        Applied { document, deleted, result, changed: false }
    }
}

impl Draft {
    fn update_field(&mut self, path: &FieldPath, value: Option<&Value>, edit: EditTime) {
        if self.clocks.at(path) > edit {
            self.superseded.push(path.clone());
            return;
        }
        let kept: Vec<(FieldPath, Option<Value>)> = self
            .clocks
            .later_within(path, edit)
            .map(|path| (path.clone(), get_field(&self.fields, path.segments()).cloned()))
            .collect();
        put_field(&mut self.fields, path, value);
        for (path, value) in kept {
            put_field(&mut self.fields, &path, value.as_ref());
            self.superseded.push(path);
        }
        self.clocks.edit(path, edit);
    }

    /// Applies the transforms in order; their results.
    fn transform(&mut self, transforms: &[FieldTransform], at: CommitTime) -> Vec<Value> {
        let apply = |step: &FieldTransform| {
            let segments = step.field.segments();
            let base = get_field(&self.fields, segments);
            let (value, is_told) = transformed(base, &step.transform, at.version);
            let result = if is_told { value.clone() } else { Value::Null };
            set_field(&mut self.fields, segments, value);
            self.clocks.overwrite(&step.field, at.edit);
            result
        };
        transforms.iter().map(apply).collect()
    }
}

/// Sets a field, or deletes it if it is to have no value.
fn put_field(fields: &mut Fields, path: &FieldPath, value: Option<&Value>) {
    match value {
        Some(value) => set_field(fields, path.segments(), value.clone()),
        None => delete_field(fields, path.segments()),
    }
}

/// The field's new value, and whether the author is told it.
fn transformed(base: Option<&Value>, transform: &Transform, version: Version) -> (Value, bool) {
    match transform {
        Transform::ServerTimestamp => (Value::Timestamp(Timestamp::from(version)), true),
        Transform::Increment(operand) => (number::increment(base, operand), true),
        Transform::Minimum(operand) => (number::extremum(base, operand, Ordering::Less), true),
        Transform::Maximum(operand) => (number::extremum(base, operand, Ordering::Greater), true),
        Transform::ArrayUnion(elements) => {
            let mut array = array_of(base);
            for element in elements {
                if !contains(&array, element) {
                    array.push(element.clone());
                }
            }
            (Value::Array(array), false)
        }
        Transform::ArrayRemove(elements) => {
            let mut array = array_of(base);
            array.retain(|element| !contains(elements, element));
            (Value::Array(array), false)
        }
    }
}

fn array_of(base: Option<&Value>) -> Vec<Value> {
    match base {
        Some(Value::Array(array)) => array.clone(),
        _ => Vec::new(),
    }
}

fn contains(array: &[Value], element: &Value) -> bool {
    array.iter().any(|other| other.compare(element) == Ordering::Equal)
}
