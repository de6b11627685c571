//! Sizes by Firestore's rules (firebase.google.com/docs/firestore/storage-size), and the checks
//! of what a document may hold.

use super::document::Fields;
use super::error::{ModelError, excerpt};
use super::field_path::validate_field_name;
use super::limits;
use super::path::DocumentPath;
use super::value::Value;

/// A document costs this beyond its name and fields. (The documentation says that a map does,
/// too; the emulator does not count it.)
const DOCUMENT_OVERHEAD: usize = 32;
/// A document's name costs this beyond its segments.
const NAME_OVERHEAD: usize = 16;

impl Value {
    /// The size by Firestore's rules, for the document limit.
    pub fn size(&self) -> usize {
        match self {
            Value::Null | Value::Boolean(_) => 1,
            Value::Integer(_) | Value::Double(_) | Value::Timestamp(_) => 8,
            Value::String(text) => string_size(text),
            Value::Bytes(bytes) => bytes.len(),
            Value::Reference(path) => name_size(path),
            Value::GeoPoint(_) => 16,
            Value::Array(values) => values.iter().map(Value::size).sum(),
            Value::Vector(values) => 8 * values.len(),
            Value::Map(fields) => fields_size(fields),
        }
    }
}

/// The size of a document by Firestore's rules.
pub(crate) fn document_size(path: &DocumentPath, fields: &Fields) -> usize {
    name_size(path) + fields_size(fields) + DOCUMENT_OVERHEAD
}

fn string_size(text: &str) -> usize {
    text.len() + 1
}

fn name_size(path: &DocumentPath) -> usize {
    // Each segment is a string: its bytes and one, which the slashes and one more amount to.
    path.as_str().len() + 1 + NAME_OVERHEAD
}

fn fields_size(fields: &Fields) -> usize {
    fields.iter().map(|(name, value)| string_size(name) + value.size()).sum()
}

/// Checks the names and values of the fields of a document; `depth` is how deep they are already.
pub(crate) fn validate_fields(fields: &Fields, depth: usize) -> Result<(), ModelError> {
    fields.iter().try_for_each(|(name, value)| {
        validate_field_name(name)?;
        validate_value(value, depth).map_err(|error| {
            ModelError::new(
                error.code,
                format!("in the field {}: {}", excerpt(name), error.message),
            )
        })
    })
}

/// Checks a value that is nested in `depth` maps and arrays.
pub(crate) fn validate_value(value: &Value, depth: usize) -> Result<(), ModelError> {
    match value {
        Value::Array(values) => {
            check_depth(depth + 1)?;
            values.iter().try_for_each(|element| validate_element(element, depth + 1))
        }
        Value::Map(fields) => {
            check_depth(depth + 1)?;
            fields.iter().try_for_each(|(name, value)| {
                validate_field_name(name)?;
                validate_value(value, depth + 1)
            })
        }
        Value::Vector(values) => validate_dimensions(values.len()),
        Value::String(text) => check_value_size(text.len()),
        Value::Bytes(bytes) => check_value_size(bytes.len()),
        Value::Null
        | Value::Boolean(_)
        | Value::Integer(_)
        | Value::Double(_)
        | Value::Timestamp(_)
        | Value::Reference(_)
        | Value::GeoPoint(_) => Ok(()),
    }
}

/// Checks an element of an array that is itself nested `depth` deep.
pub(crate) fn validate_element(element: &Value, depth: usize) -> Result<(), ModelError> {
    if matches!(element, Value::Array(_) | Value::Vector(_)) {
        return Err(ModelError::invalid("an array cannot contain an array or a vector directly"));
    }
    validate_value(element, depth)
}

fn check_depth(depth: usize) -> Result<(), ModelError> {
    if depth > limits::DEPTH {
        return Err(ModelError::invalid(format!(
            "maps and arrays are nested more than {} deep, which is the limit",
            limits::DEPTH
        )));
    }
    Ok(())
}

fn check_value_size(size: usize) -> Result<(), ModelError> {
    if size > limits::FIELD_VALUE_BYTES {
        return Err(ModelError::invalid(format!(
            "a value has {size} bytes; the limit is {}",
            limits::FIELD_VALUE_BYTES
        )));
    }
    Ok(())
}

pub(super) fn validate_dimensions(dimensions: usize) -> Result<(), ModelError> {
    if dimensions == 0 || dimensions > limits::VECTOR_DIMENSIONS {
        return Err(ModelError::invalid(format!(
            "a vector has {dimensions} dimensions; it must have 1 to {}",
            limits::VECTOR_DIMENSIONS
        )));
    }
    Ok(())
}
