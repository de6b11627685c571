//! Writes as an app states them: what a field becomes, and batches. Turns them into protocol writes;
//! does not send or apply anything.

use serde::Serialize;
use tidemark_protocol::model::{
    DocumentPath, FieldPath, FieldTransform, Fields, Precondition, Transform, Value, Write, WriteOp,
};

use crate::client::Client;
use crate::convert::to_fields;
use crate::error::Error;
use crate::pending::PendingWrite;
use crate::reference::DocumentRef;

/// What a field becomes: a value, something the server computes, or nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldValue(Change);

#[derive(Clone, Debug, PartialEq)]
enum Change {
    Value(Value),
    Transform(Transform),
    Delete,
}

impl FieldValue {
    /// The time of the commit. Until it is known, snapshots show an estimate by the local clock.
    pub fn server_timestamp() -> FieldValue {
        FieldValue(Change::Transform(Transform::ServerTimestamp))
    }

    /// Adds a number to the field; concurrent increments all count. Integers saturate.
    pub fn increment(by: impl Into<Value>) -> FieldValue {
        FieldValue(Change::Transform(Transform::Increment(by.into())))
    }

    /// The lesser of the field and this number.
    pub fn minimum(operand: impl Into<Value>) -> FieldValue {
        FieldValue(Change::Transform(Transform::Minimum(operand.into())))
    }

    /// The greater of the field and this number.
    pub fn maximum(operand: impl Into<Value>) -> FieldValue {
        FieldValue(Change::Transform(Transform::Maximum(operand.into())))
    }

    /// Appends the elements that the array does not have yet.
    pub fn array_union<V: Into<Value>>(elements: impl IntoIterator<Item = V>) -> FieldValue {
        let elements = elements.into_iter().map(Into::into).collect();
        FieldValue(Change::Transform(Transform::ArrayUnion(elements)))
    }

    /// Removes all occurrences of the elements from the array.
    pub fn array_remove<V: Into<Value>>(elements: impl IntoIterator<Item = V>) -> FieldValue {
        let elements = elements.into_iter().map(Into::into).collect();
        FieldValue(Change::Transform(Transform::ArrayRemove(elements)))
    }

    /// Removes the field; only for updates and merges.
    pub fn delete() -> FieldValue {
        FieldValue(Change::Delete)
    }
}

impl<T: Into<Value>> From<T> for FieldValue {
    fn from(value: T) -> FieldValue {
        FieldValue(Change::Value(value.into()))
    }
}

/// Several writes that take effect together or not at all.
#[must_use = "a batch does nothing until it is committed"]
pub struct Batch {
    client: Client,
    writes: Vec<Write>,
}

impl Batch {
    pub(crate) fn new(client: Client) -> Batch {
        Batch { client, writes: Vec::new() }
    }

    /// Replaces the document. `invalid-argument` when the value is no document.
    pub fn set<T: Serialize + ?Sized>(
        &mut self,
        doc: &DocumentRef,
        value: &T,
    ) -> Result<(), Error> {
        self.writes.push(set(doc.path(), to_fields(value)?));
        Ok(())
    }

    /// Replaces the document, field by field, with values and transforms.
    pub fn set_fields<K, V>(
        &mut self,
        doc: &DocumentRef,
        fields: impl IntoIterator<Item = (K, V)>,
    ) -> Result<(), Error>
    where
        K: Into<String>,
        V: Into<FieldValue>,
    {
        self.writes.push(set_fields(doc.path(), fields)?);
        Ok(())
    }

    /// Creates the document or merges these fields into it.
    pub fn set_merge<T: Serialize + ?Sized>(
        &mut self,
        doc: &DocumentRef,
        value: &T,
    ) -> Result<(), Error> {
        self.writes.push(merge(doc.path(), to_fields(value)?)?);
        Ok(())
    }

    /// Creates the document; the commit is rejected if it exists.
    pub fn create<T: Serialize + ?Sized>(
        &mut self,
        doc: &DocumentRef,
        value: &T,
    ) -> Result<(), Error> {
        self.writes.push(create(doc.path(), to_fields(value)?));
        Ok(())
    }

    /// Changes fields of the document; the commit is rejected if it does not exist.
    pub fn update<K, V>(
        &mut self,
        doc: &DocumentRef,
        fields: impl IntoIterator<Item = (K, V)>,
    ) -> Result<(), Error>
    where
        K: AsRef<str>,
        V: Into<FieldValue>,
    {
        self.writes.push(update(doc.path(), fields, Precondition::Exists(true))?);
        Ok(())
    }

    /// Deletes the document, if it is there.
    pub fn delete(&mut self, doc: &DocumentRef) {
        self.writes.push(delete(doc.path(), None));
    }

    /// Adds a write of the protocol.
    pub fn write(&mut self, write: Write) {
        self.writes.push(write);
    }

    /// The number of writes.
    pub fn len(&self) -> usize {
        self.writes.len()
    }

    /// Whether there are none; committing that is `invalid-argument`.
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    /// Takes effect locally now; await the result for the server's word.
    pub fn commit(self) -> PendingWrite {
        self.client.commit(self.writes)
    }
}

fn plain(path: &DocumentPath, op: WriteOp, precondition: Option<Precondition>) -> Write {
    Write { path: path.clone(), op, transforms: Vec::new(), precondition }
}

pub(crate) fn set(path: &DocumentPath, fields: Fields) -> Write {
    plain(path, WriteOp::Set(fields), None)
}

pub(crate) fn create(path: &DocumentPath, fields: Fields) -> Write {
    plain(path, WriteOp::Set(fields), Some(Precondition::Exists(false)))
}

pub(crate) fn delete(path: &DocumentPath, precondition: Option<Precondition>) -> Write {
    plain(path, WriteOp::Delete, precondition)
}

/// Every leaf is set; an empty map replaces what is there, as in Firestore.
pub(crate) fn merge(path: &DocumentPath, fields: Fields) -> Result<Write, Error> {
    let mut mask = Vec::new();
    leaves(&fields, &mut Vec::new(), &mut mask)?;
    Ok(plain(path, WriteOp::Update { fields, mask }, None))
}

fn leaves(
    fields: &Fields,
    prefix: &mut Vec<String>,
    mask: &mut Vec<FieldPath>,
) -> Result<(), Error> {
    for (name, value) in fields {
        prefix.push(name.clone());
        match value {
            Value::Map(inner) if !inner.is_empty() => leaves(inner, prefix, mask)?,
            _ => mask.push(FieldPath::from_segments(prefix.iter().cloned())?),
        }
        prefix.pop();
    }
    Ok(())
}

pub(crate) fn set_fields<K, V>(
    path: &DocumentPath,
    fields: impl IntoIterator<Item = (K, V)>,
) -> Result<Write, Error>
where
    K: Into<String>,
    V: Into<FieldValue>,
{
    let mut values = Fields::new();
    let mut transforms = Vec::new();
    for (name, value) in fields {
        let name = name.into();
        match value.into().0 {
            Change::Value(value) => {
                values.insert(name, value);
            }
            Change::Transform(transform) => {
                let field = FieldPath::from_segments([name])?;
                transforms.push(FieldTransform { field, transform });
            }
            Change::Delete => {
                return Err(Error::invalid(format!(
                    "field {name}: FieldValue::delete() is for updates; a set has only what it names"
                )));
            }
        }
    }
    Ok(Write { transforms, ..set(path, values) })
}

pub(crate) fn update<K, V>(
    path: &DocumentPath,
    fields: impl IntoIterator<Item = (K, V)>,
    precondition: Precondition,
) -> Result<Write, Error>
where
    K: AsRef<str>,
    V: Into<FieldValue>,
{
    let mut values = Fields::new();
    let mut mask = Vec::new();
    let mut transforms = Vec::new();
    for (field, value) in fields {
        let field = FieldPath::parse(field.as_ref())?;
        match value.into().0 {
            Change::Value(value) => {
                put(&mut values, &field, value)?;
                mask.push(field);
            }
            Change::Transform(transform) => transforms.push(FieldTransform { field, transform }),
            Change::Delete => mask.push(field),
        }
    }
    let op = WriteOp::Update { fields: values, mask };
    Ok(Write { path: path.clone(), op, transforms, precondition: Some(precondition) })
}

fn put(fields: &mut Fields, field: &FieldPath, value: Value) -> Result<(), Error> {
    let (last, parents) =
        field.segments().split_last().expect("a field path has at least one segment");
    let mut map = fields;
    for segment in parents {
        let inner = map.entry(segment.clone()).or_insert_with(|| Value::Map(Fields::new()));
        let Value::Map(inner) = inner else {
            return Err(Error::invalid(format!(
                "field {field} is under another field of the update"
            )));
        };
        map = inner;
    }
    if map.insert(last.clone(), value).is_some() {
        return Err(Error::invalid(format!("field {field} is given twice")));
    }
    Ok(())
}
