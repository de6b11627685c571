//! Applying a write to a document: the same code at commit and under latency compensation.

use std::cmp::Ordering;

use super::document::{Document, Fields, delete_field, get_field, set_field};
use super::error::{Code, ModelError, excerpt};
use super::field_path::FieldPath;
use super::ids::Version;
use super::mutation::{Precondition, Transform, Write, WriteOp, WriteResult};
use super::number;
use super::timestamp::Timestamp;
use super::value::Value;

/// What a write makes of a document.
#[derive(Clone, Debug, PartialEq)]
pub struct Applied {
    /// The document after it; none if it does not exist then.
    pub document: Option<Document>,
    /// What is told to the author.
    pub result: WriteResult,
    /// Whether the document differs from before (`Verify`, a delete of nothing, and setting what
    /// is there already do not change it; it then keeps its update version, as in Firestore).
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

/// Applies a write at a commit version, after its precondition has been checked. The result is
/// validated against the limits. `ServerTimestamp` takes the version's time.
pub fn apply_write(
    current: Option<&Document>,
    write: &Write,
    version: Version,
) -> Result<Applied, ModelError> {
    let mut fields = match &write.op {
        WriteOp::Set(fields) => fields.clone(),
        WriteOp::Update { fields, mask } => {
            let mut merged = current.map_or_else(Fields::new, |current| current.fields.clone());
            merge_fields(&mut merged, fields, mask);
            merged
        }
        WriteOp::Delete => return Ok(without_fields(None, current.is_some())),
        WriteOp::Verify => return Ok(without_fields(current.cloned(), false)),
        WriteOp::Merge(_) => {
            return Err(ModelError::new(
                Code::Unimplemented,
                "collaborative fields are not merged here",
            ));
        }
    };
    let transform_results = apply_transforms(&mut fields, write, version);
    let result = WriteResult { transform_results, ..WriteResult::default() };
    Document::validate(&write.path, &fields)?;
    Ok(match current.filter(|current| current.fields == fields) {
        Some(same) => Applied { document: Some(same.clone()), result, changed: false },
        None => Applied {
            document: Some(Document {
                path: write.path.clone(),
                fields,
                create_version: current.map_or(version, |current| current.create_version),
                update_version: version,
                merge: current.map_or_else(Default::default, |current| current.merge.clone()),
            }),
            result,
            changed: true,
        },
    })
}

fn without_fields(document: Option<Document>, changed: bool) -> Applied {
    Applied { document, result: WriteResult::default(), changed }
}

fn merge_fields(merged: &mut Fields, fields: &Fields, mask: &[FieldPath]) {
    for path in mask {
        match get_field(fields, path.segments()) {
            Some(value) => set_field(merged, path.segments(), value.clone()),
            None => delete_field(merged, path.segments()),
        }
    }
}

/// Applies the transforms in order; their results.
fn apply_transforms(fields: &mut Fields, write: &Write, version: Version) -> Vec<Value> {
    let apply = |step: &super::mutation::FieldTransform| {
        let segments = step.field.segments();
        let base = get_field(fields, segments);
        let (value, is_told) = transformed(base, &step.transform, version);
        let result = if is_told { value.clone() } else { Value::Null };
        set_field(fields, segments, value);
        result
    };
    write.transforms.iter().map(apply).collect()
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
