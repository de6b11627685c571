//! Writes: what a commit is made of.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::clocks::COLLABORATIVE_ID;
use super::document::{Document, Fields};
use super::error::{ModelError, excerpt};
use super::field_path::FieldPath;
use super::ids::Version;
use super::limits;
use super::path::DocumentPath;
use super::size::validate_element;
use super::value::Value;

/// One write of a commit.
#[derive(Clone, Debug, PartialEq)]
pub struct Write {
    /// The document.
    pub path: DocumentPath,
    /// What is done to it.
    pub op: WriteOp,
    /// Applied after `op`, in order; only for `Set` and `Update`.
    pub transforms: Vec<FieldTransform>,
    /// What must hold before, or the whole commit is rejected.
    pub precondition: Option<Precondition>,
}

/// The four writes.
#[derive(Clone, Debug, PartialEq)]
pub enum WriteOp {
    /// Replaces the document.
    Set(Fields),
    /// Sets the fields of `mask` to their value in `fields`, or deletes those that have none there.
    /// Without a precondition it creates the document if need be (`set` with merge); with
    /// `Exists(true)` it is `update`.
    Update {
        /// Values, nested by path.
        fields: Fields,
        /// The field paths to set or delete; none is a prefix of another.
        mask: Vec<FieldPath>,
    },
    /// Deletes the document, if it is there.
    Delete,
    /// Merges changes into the document's collaborative fields. Without a precondition it creates the
    /// document if need be.
    Merge(Collaboration),
    /// Changes nothing; only the precondition counts.
    Verify,
}

/// Changes of collaborative fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collaboration {
    /// The epoch of the history that they continue; 0: the document had no collaborative fields.
    pub epoch: Version,
    /// Encoded changes, each after those it depends on.
    pub changes: Vec<Bytes>,
}

/// A change that the server computes from the field's value at commit.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldTransform {
    /// The field.
    pub field: FieldPath,
    /// The change.
    pub transform: Transform,
}

/// The transforms.
#[derive(Clone, Debug, PartialEq)]
pub enum Transform {
    /// The commit's time.
    ServerTimestamp,
    /// Adds a number; integers saturate.
    Increment(Value),
    /// The lesser of the field and the operand.
    Minimum(Value),
    /// The greater of the field and the operand.
    Maximum(Value),
    /// Appends the elements that are missing.
    ArrayUnion(Vec<Value>),
    /// Removes all occurrences.
    ArrayRemove(Vec<Value>),
}

/// What must hold for a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precondition {
    /// The document exists, or does not.
    Exists(bool),
    /// The document exists and was last changed by this commit.
    UpdateVersion(Version),
}

/// A document that a transaction has read, at the version it saw ([`Version::NONE`]: missing).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    /// The document.
    pub path: DocumentPath,
    /// What the transaction saw.
    pub version: Version,
}

/// What came of one write.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WriteResult {
    /// One per transform, in order; null for array transforms.
    pub transform_results: Vec<Value>,
    /// What later edits had decided already.
    pub superseded: Superseded,
}

/// What of a write had no effect, because a later edit had decided it already.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Superseded {
    /// Nothing: all of it took effect.
    #[default]
    Nothing,
    /// These fields.
    Fields(Vec<FieldPath>),
    /// The whole write.
    Whole,
}

impl Write {
    /// Checks what can be checked without the document: masks, transforms' operands, counts, limits.
    pub fn validate(&self) -> Result<(), ModelError> {
        self.validate_operation().and_then(|()| self.validate_transforms()).map_err(|error| {
            let path = excerpt(self.path.as_str());
            ModelError::new(error.code, format!("in the write of {path}: {}", error.message))
        })
    }

    fn validate_operation(&self) -> Result<(), ModelError> {
        if self.path.segments().any(|segment| segment == COLLABORATIVE_ID) {
            return Err(ModelError::invalid(format!(
                "only the server writes below `{COLLABORATIVE_ID}`"
            )));
        }
        if self.precondition == Some(Precondition::UpdateVersion(Version::NONE)) {
            return Err(ModelError::invalid("no document has the update version 0; use `exists`"));
        }
        match &self.op {
            WriteOp::Set(fields) => Document::validate(&self.path, fields),
            WriteOp::Update { fields, mask } => {
                validate_mask(mask)?;
                Document::validate(&self.path, fields)
            }
            WriteOp::Delete | WriteOp::Merge(_) | WriteOp::Verify
                if !self.transforms.is_empty() =>
            {
                Err(ModelError::invalid("transforms go with `set` and `update` only"))
            }
            WriteOp::Verify if self.precondition.is_none() => {
                Err(ModelError::invalid("`verify` needs a precondition"))
            }
            WriteOp::Merge(collaboration) if collaboration.changes.is_empty() => {
                Err(ModelError::invalid("there are no changes to merge"))
            }
            WriteOp::Delete | WriteOp::Merge(_) | WriteOp::Verify => Ok(()),
        }
    }

    fn validate_transforms(&self) -> Result<(), ModelError> {
        check_transform_count(self.transforms.len())?;
        check_conflicts(self.transforms.iter().map(|transform| &transform.field))?;
        self.transforms.iter().try_for_each(FieldTransform::validate)
    }
}

impl FieldTransform {
    fn validate(&self) -> Result<(), ModelError> {
        if self.field.is_document_id() {
            return Err(ModelError::invalid("`__name__` cannot be transformed"));
        }
        match &self.transform {
            Transform::ServerTimestamp => Ok(()),
            Transform::Increment(operand)
            | Transform::Minimum(operand)
            | Transform::Maximum(operand) => {
                if operand.is_number() {
                    return Ok(());
                }
                Err(ModelError::invalid(format!(
                    "the transform of the field {} takes a number",
                    self.field
                )))
            }
            Transform::ArrayUnion(elements) | Transform::ArrayRemove(elements) => {
                let depth = self.field.segments().len();
                elements.iter().try_for_each(|element| validate_element(element, depth))
            }
        }
    }
}

fn validate_mask(mask: &[FieldPath]) -> Result<(), ModelError> {
    if mask.iter().any(FieldPath::is_document_id) {
        return Err(ModelError::invalid("`__name__` cannot be written"));
    }
    check_conflicts(mask.iter())
}

/// Refuses field paths of which one is within another; the same twice is fine.
fn check_conflicts<'a>(paths: impl Iterator<Item = &'a FieldPath>) -> Result<(), ModelError> {
    // In order, a path that is a prefix of others comes right before one of them.
    let sorted: BTreeSet<&FieldPath> = paths.collect();
    let mut pairs = sorted.iter().zip(sorted.iter().skip(1));
    if let Some((a, b)) = pairs.find(|(a, b)| a.is_prefix_of(b)) {
        return Err(ModelError::invalid(format!("the field paths {a} and {b} conflict")));
    }
    Ok(())
}

fn check_transform_count(count: usize) -> Result<(), ModelError> {
    if count > limits::TRANSFORMS_PER_DOCUMENT {
        return Err(ModelError::invalid(format!(
            "a document has {count} transforms in one commit; the limit is {}",
            limits::TRANSFORMS_PER_DOCUMENT
        )));
    }
    Ok(())
}

/// Checks a whole commit: at least one write, the limits on writes and on transforms per document,
/// and each write.
pub fn validate_commit(writes: &[Write]) -> Result<(), ModelError> {
    if writes.is_empty() || writes.len() > limits::WRITES_PER_COMMIT {
        return Err(ModelError::invalid(format!(
            "a commit has {} writes; it must have 1 to {}",
            writes.len(),
            limits::WRITES_PER_COMMIT
        )));
    }
    let mut transforms = BTreeMap::<&DocumentPath, usize>::new();
    for write in writes.iter().filter(|write| !write.transforms.is_empty()) {
        *transforms.entry(&write.path).or_default() += write.transforms.len();
    }
    transforms.into_values().try_for_each(check_transform_count)?;
    writes.iter().try_for_each(Write::validate)
}
