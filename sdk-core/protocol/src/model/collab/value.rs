//! Values as Automerge holds them, and back.
//!
//! Automerge has no references, places, vectors or timestamps of microseconds: timestamps are kept
//! as microseconds where Automerge means milliseconds, the others as bytes whose first says what
//! they are. What another writer put there and has no counterpart is shown as near as can be: the
//! conversion back never fails.

use std::collections::{BTreeMap, HashMap};

use automerge::{ObjId, ObjType, ReadDoc, ScalarValue, ScalarValueRef, ValueRef, hydrate};
use bytes::Bytes;

use super::super::limits;
use super::super::path::DocumentPath;
use super::super::timestamp::Timestamp;
use super::super::value::{GeoPoint, Value};

/// A step down into a map or a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Of a map.
    Key(String),
    /// Of a list.
    Index(usize),
}

impl From<&str> for Step {
    fn from(key: &str) -> Step {
        Step::Key(key.to_owned())
    }
}

impl From<usize> for Step {
    fn from(index: usize) -> Step {
        Step::Index(index)
    }
}

const BYTES: u8 = 0;
const REFERENCE: u8 = 1;
const PLACE: u8 = 2;
const VECTOR: u8 = 3;

/// A value that is neither an array nor a map.
fn scalar(value: &Value) -> Option<ScalarValue> {
    let tagged = |tag: u8, content: &[u8]| {
        let mut bytes = Vec::with_capacity(content.len() + 1);
        bytes.push(tag);
        bytes.extend_from_slice(content);
        ScalarValue::Bytes(bytes)
    };
    Some(match value {
        Value::Null => ScalarValue::Null,
        Value::Boolean(value) => ScalarValue::Boolean(*value),
        Value::Integer(value) => ScalarValue::Int(*value),
        Value::Double(value) => ScalarValue::F64(*value),
        Value::Timestamp(value) => ScalarValue::Timestamp(value.as_micros()),
        Value::String(value) => ScalarValue::Str(value.as_str().into()),
        Value::Bytes(value) => tagged(BYTES, value),
        Value::Reference(path) => tagged(REFERENCE, path.as_str().as_bytes()),
        Value::GeoPoint(place) => {
            let numbers = [place.latitude().to_le_bytes(), place.longitude().to_le_bytes()];
            tagged(PLACE, numbers.as_flattened())
        }
        Value::Vector(numbers) => {
            let numbers: Vec<[u8; 8]> = numbers.iter().map(|number| number.to_le_bytes()).collect();
            tagged(VECTOR, numbers.as_flattened())
        }
        Value::Array(_) | Value::Map(_) => return None,
    })
}

/// The value as Automerge takes it.
pub(super) fn to_automerge(value: &Value) -> hydrate::Value {
    match value {
        Value::Array(values) => {
            hydrate::Value::from(values.iter().map(to_automerge).collect::<Vec<_>>())
        }
        Value::Map(fields) => {
            let entries = fields.iter().map(|(key, value)| (key.as_str(), to_automerge(value)));
            hydrate::Value::from(entries.collect::<HashMap<_, _>>())
        }
        Value::Null
        | Value::Boolean(_)
        | Value::Integer(_)
        | Value::Double(_)
        | Value::Timestamp(_)
        | Value::String(_)
        | Value::Bytes(_)
        | Value::Reference(_)
        | Value::GeoPoint(_)
        | Value::Vector(_) => hydrate::Value::Scalar(scalar(value).unwrap_or(ScalarValue::Null)),
    }
}

/// The value that a scalar of Automerge stands for.
pub(super) fn from_scalar(scalar: &ScalarValueRef<'_>) -> Value {
    match scalar {
        ScalarValueRef::Null => Value::Null,
        ScalarValueRef::Boolean(value) => Value::Boolean(*value),
        ScalarValueRef::Int(value) | ScalarValueRef::Counter(value) => Value::Integer(*value),
        ScalarValueRef::Uint(value) => i64::try_from(*value).map_or(
            #[allow(clippy::cast_precision_loss)]
            Value::Double(*value as f64),
            Value::Integer,
        ),
        ScalarValueRef::F64(value) => Value::Double(*value),
        ScalarValueRef::Timestamp(micros) => {
            Timestamp::from_micros(*micros).map_or(Value::Integer(*micros), Value::Timestamp)
        }
        ScalarValueRef::Str(text) => Value::String(text.to_string()),
        ScalarValueRef::Bytes(bytes) => from_bytes(bytes),
        ScalarValueRef::Unknown { bytes, .. } => Value::Bytes(Bytes::copy_from_slice(bytes)),
    }
}

/// As [`from_scalar`], of a scalar that somebody owns.
pub(super) fn from_owned(scalar: &ScalarValue) -> Value {
    match scalar {
        ScalarValue::Null => Value::Null,
        ScalarValue::Boolean(value) => Value::Boolean(*value),
        ScalarValue::Int(value) => Value::Integer(*value),
        ScalarValue::Counter(value) => Value::Integer(i64::from(value)),
        ScalarValue::Uint(value) => from_scalar(&ScalarValueRef::Uint(*value)),
        ScalarValue::F64(value) => Value::Double(*value),
        ScalarValue::Timestamp(micros) => from_scalar(&ScalarValueRef::Timestamp(*micros)),
        ScalarValue::Str(text) => Value::String(text.to_string()),
        ScalarValue::Bytes(bytes) => from_bytes(bytes),
        ScalarValue::Unknown { bytes, .. } => Value::Bytes(Bytes::copy_from_slice(bytes)),
    }
}

fn from_bytes(bytes: &[u8]) -> Value {
    let decoded = match bytes.split_first() {
        Some((&BYTES, content)) => Some(Value::Bytes(Bytes::copy_from_slice(content))),
        Some((&REFERENCE, path)) => std::str::from_utf8(path)
            .ok()
            .and_then(|path| DocumentPath::parse(path).ok())
            .map(Value::Reference),
        Some((&PLACE, content)) => match numbers(content).as_deref() {
            Some(&[latitude, longitude]) => {
                GeoPoint::new(latitude, longitude).ok().map(Value::GeoPoint)
            }
            _ => None,
        },
        Some((&VECTOR, content)) => numbers(content).map(Value::Vector),
        _ => None,
    };
    decoded.unwrap_or_else(|| Value::Bytes(Bytes::copy_from_slice(bytes)))
}

fn numbers(bytes: &[u8]) -> Option<Vec<f64>> {
    let (chunks, rest) = bytes.as_chunks::<8>();
    rest.is_empty().then(|| chunks.iter().map(|chunk| f64::from_le_bytes(*chunk)).collect())
}

/// The value of an entry: a scalar, or the object under it.
pub(super) fn materialise(
    doc: &impl ReadDoc,
    value: &ValueRef<'_>,
    id: impl FnOnce() -> ObjId,
    depth: usize,
) -> Value {
    match value {
        ValueRef::Scalar(scalar) => from_scalar(scalar),
        ValueRef::Object(kind) => materialise_object(doc, &id(), *kind, depth),
    }
}

/// The value of an object. What is nested deeper than a document may be is left out: the document's
/// own check refuses what reaches that depth.
pub(super) fn materialise_object(
    doc: &impl ReadDoc,
    object: &ObjId,
    kind: ObjType,
    depth: usize,
) -> Value {
    if depth > limits::DEPTH + 1 {
        return Value::Null;
    }
    match kind {
        ObjType::Text => Value::String(doc.text(object).unwrap_or_default()),
        ObjType::List => Value::Array(
            doc.list_range(object, ..)
                .map(|item| materialise(doc, &item.value, || item.id(), depth + 1))
                .collect(),
        ),
        ObjType::Map | ObjType::Table => Value::Map(
            doc.map_range(object, ..)
                .map(|item| {
                    let value = materialise(doc, &item.value, || item.id(), depth + 1);
                    (item.key.to_string(), value)
                })
                .collect::<BTreeMap<_, _>>(),
        ),
    }
}
