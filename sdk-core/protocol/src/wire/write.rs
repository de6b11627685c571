//! Writes, reads and write results between bytes and the model.

use bytes::Bytes;

use super::fault::Fault;
use super::reader::Reader;
use super::value::{read_array, read_map, read_value, write_fields, write_value, write_values};
use super::writer;
use crate::model::{
    Collaboration, DocumentPath, FieldPath, FieldTransform, Fields, Precondition, Read, Superseded,
    Transform, Value, Version, Write, WriteOp, WriteResult, limits,
};

/// Appends the fields of a Write.
pub(super) fn write_write(write: &Write, out: &mut Vec<u8>) {
    writer::put_bytes(1, write.path.as_str().as_bytes(), out);
    match &write.op {
        WriteOp::Set(fields) => writer::message(2, out, |out| write_fields(1, fields, out)),
        WriteOp::Update { fields, mask } => writer::message(3, out, |out| {
            writer::message(1, out, |out| write_fields(1, fields, out));
            for path in mask {
                writer::one_of_bytes(2, path.to_string().as_bytes(), out);
            }
        }),
        WriteOp::Delete => writer::message(4, out, |_| {}),
        WriteOp::Verify => writer::message(5, out, |_| {}),
        WriteOp::Merge(collaboration) => writer::message(8, out, |out| {
            writer::put_fixed(1, collaboration.epoch.0, out);
            for change in &collaboration.changes {
                writer::one_of_bytes(2, change, out);
            }
        }),
    }
    for transform in &write.transforms {
        writer::message(6, out, |out| write_transform(transform, out));
    }
    match write.precondition {
        None => {}
        Some(Precondition::Exists(exists)) => {
            writer::message(7, out, |out| writer::one_of_uint(1, u64::from(exists), out));
        }
        Some(Precondition::UpdateVersion(version)) => {
            writer::message(7, out, |out| writer::one_of_fixed(2, version.0, out));
        }
    }
}

fn write_transform(transform: &FieldTransform, out: &mut Vec<u8>) {
    writer::put_bytes(1, transform.field.to_string().as_bytes(), out);
    let number = |field, value: &Value, out: &mut Vec<u8>| {
        writer::message(field, out, |out| write_value(value, out));
    };
    match &transform.transform {
        Transform::ServerTimestamp => writer::message(2, out, |_| {}),
        Transform::Increment(value) => number(3, value, out),
        Transform::Minimum(value) => number(4, value, out),
        Transform::Maximum(value) => number(5, value, out),
        Transform::ArrayUnion(values) => {
            writer::message(6, out, |out| write_values(1, values, out));
        }
        Transform::ArrayRemove(values) => {
            writer::message(7, out, |out| write_values(1, values, out));
        }
    }
}

/// Reads a Write; the model has not judged it yet.
pub(super) fn read_write(mut reader: Reader<'_>) -> Result<Write, Fault> {
    let (mut path, mut op, mut transforms, mut precondition) = ("", None, Vec::new(), None);
    while let Some(tag @ (number, wire_type)) = reader.tag()? {
        match number {
            1 => path = reader.text(wire_type)?,
            2 => op = Some(WriteOp::Set(read_map(reader.message(wire_type)?)?)),
            3 => op = Some(read_update(reader.message(wire_type)?)?),
            4 => op = Some(read_empty(reader.message(wire_type)?, WriteOp::Delete)?),
            5 => op = Some(read_empty(reader.message(wire_type)?, WriteOp::Verify)?),
            6 => {
                check_count(
                    "transforms of a document",
                    &transforms,
                    limits::TRANSFORMS_PER_DOCUMENT,
                )?;
                transforms.push(read_transform(reader.message(wire_type)?)?);
            }
            7 => precondition = Some(read_precondition(reader.message(wire_type)?)?),
            8 => op = Some(read_collaboration(reader.message(wire_type)?)?),
            _ => reader.skip(tag)?,
        }
    }
    let path = DocumentPath::parse(path)?;
    let op =
        op.ok_or_else(|| Fault::invalid("a write has no operation that this version knows"))?;
    Ok(Write { path, op, transforms, precondition })
}

fn read_update(mut reader: Reader<'_>) -> Result<WriteOp, Fault> {
    let (mut fields, mut mask) = (Fields::new(), Vec::new());
    while let Some(tag @ (number, wire_type)) = reader.tag()? {
        match number {
            1 => fields = read_map(reader.message(wire_type)?)?,
            2 => mask.push(FieldPath::parse(reader.text(wire_type)?)?),
            _ => reader.skip(tag)?,
        }
    }
    Ok(WriteOp::Update { fields, mask })
}

fn read_collaboration(mut reader: Reader<'_>) -> Result<WriteOp, Fault> {
    let mut collaboration = Collaboration::default();
    while let Some(tag @ (number, wire_type)) = reader.tag()? {
        match number {
            1 => collaboration.epoch = Version(reader.fixed64(wire_type)?),
            // Copied: small changes must not keep a large frame alive.
            2 => collaboration.changes.push(Bytes::copy_from_slice(reader.bytes(wire_type)?)),
            _ => reader.skip(tag)?,
        }
    }
    Ok(WriteOp::Merge(collaboration))
}

/// Reads an Empty, which stands for `meaning`.
fn read_empty<T>(mut reader: Reader<'_>, meaning: T) -> Result<T, Fault> {
    while let Some(tag) = reader.tag()? {
        reader.skip(tag)?;
    }
    Ok(meaning)
}

fn read_transform(mut reader: Reader<'_>) -> Result<FieldTransform, Fault> {
    let (mut field, mut transform) = ("", None);
    while let Some(tag @ (number, wire_type)) = reader.tag()? {
        transform = Some(match number {
            1 => {
                field = reader.text(wire_type)?;
                continue;
            }
            2 => read_empty(reader.message(wire_type)?, Transform::ServerTimestamp)?,
            3 => Transform::Increment(read_value(reader.message(wire_type)?)?),
            4 => Transform::Minimum(read_value(reader.message(wire_type)?)?),
            5 => Transform::Maximum(read_value(reader.message(wire_type)?)?),
            6 => Transform::ArrayUnion(read_array(reader.message(wire_type)?)?),
            7 => Transform::ArrayRemove(read_array(reader.message(wire_type)?)?),
            _ => {
                reader.skip(tag)?;
                continue;
            }
        });
    }
    let field = FieldPath::parse(field)?;
    let unknown = || Fault::invalid(format!("this version does not know the transform of {field}"));
    let transform = transform.ok_or_else(unknown)?;
    Ok(FieldTransform { field, transform })
}

fn read_precondition(mut reader: Reader<'_>) -> Result<Precondition, Fault> {
    let mut precondition = None;
    while let Some(tag @ (number, wire_type)) = reader.tag()? {
        match number {
            1 => precondition = Some(Precondition::Exists(reader.boolean(wire_type)?)),
            2 => {
                let version = Version(reader.fixed64(wire_type)?);
                precondition = Some(Precondition::UpdateVersion(version));
            }
            _ => reader.skip(tag)?,
        }
    }
    precondition
        .ok_or_else(|| Fault::invalid("this version does not know the precondition of a write"))
}

/// Appends the fields of a Read.
pub(super) fn write_read(read: &Read, out: &mut Vec<u8>) {
    writer::put_bytes(1, read.path.as_str().as_bytes(), out);
    writer::put_fixed(2, read.version.0, out);
}

/// Reads a Read.
pub(super) fn read_read(mut reader: Reader<'_>) -> Result<Read, Fault> {
    let (mut path, mut version) = ("", Version::NONE);
    while let Some(tag @ (number, wire_type)) = reader.tag()? {
        match number {
            1 => path = reader.text(wire_type)?,
            2 => version = Version(reader.fixed64(wire_type)?),
            _ => reader.skip(tag)?,
        }
    }
    Ok(Read { path: DocumentPath::parse(path)?, version })
}

/// Appends the fields of a WriteResult.
pub(super) fn write_result(result: &WriteResult, out: &mut Vec<u8>) {
    write_values(1, &result.transform_results, out);
    match &result.superseded {
        Superseded::Nothing => {}
        Superseded::Fields(fields) => {
            for field in fields {
                writer::one_of_bytes(2, field.to_string().as_bytes(), out);
            }
        }
        Superseded::Whole => writer::put_bool(3, true, out),
    }
}

/// Reads a WriteResult.
pub(super) fn read_result(mut reader: Reader<'_>) -> Result<WriteResult, Fault> {
    let (mut transform_results, mut fields, mut whole) = (Vec::new(), Vec::new(), false);
    while let Some(tag @ (number, wire_type)) = reader.tag()? {
        match number {
            1 => transform_results.push(read_value(reader.message(wire_type)?)?),
            2 => fields.push(FieldPath::parse(reader.text(wire_type)?)?),
            3 => whole = reader.boolean(wire_type)?,
            _ => reader.skip(tag)?,
        }
    }
    let superseded = match (whole, fields.is_empty()) {
        (true, _) => Superseded::Whole,
        (false, true) => Superseded::Nothing,
        (false, false) => Superseded::Fields(fields),
    };
    Ok(WriteResult { transform_results, superseded })
}

/// Refuses one more than `limit`, before it is read: what a frame makes us hold stays bounded.
pub(super) fn check_count<T>(what: &str, found: &[T], limit: usize) -> Result<(), Fault> {
    if found.len() < limit {
        return Ok(());
    }
    Err(Fault::invalid(format!("there are more than {limit} {what}, which is the limit")))
}
