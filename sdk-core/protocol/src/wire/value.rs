//! Values, maps and documents between bytes and the model, without generated messages in between:
//! the hot path of snapshots. Tests hold it against the generated code.

use bytes::Bytes;

use super::fault::Fault;
use super::merge_state::{read_clocks, read_collaborative, write_merge_state};
use super::reader::{Reader, WireType};
use super::writer;
use crate::model::{
    Document, DocumentPath, Fields, GeoPoint, MergeState, Timestamp, Value, Version, limits,
};

/// How deep values may be nested before decoding stops: deeper than the model allows, so that
/// the model can say what is wrong, but far from the end of the stack.
const NESTING: usize = limits::DEPTH + 12;

/// The field that holds a message inside a map entry.
const ENTRY_KEY: u32 = 1;
const ENTRY_VALUE: u32 = 2;

/// Appends the fields of a Value.
pub(super) fn write_value(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Null => writer::one_of_uint(1, 1, out),
        Value::Boolean(value) => writer::one_of_uint(2, u64::from(*value), out),
        Value::Integer(value) => writer::one_of_sint(3, *value, out),
        Value::Double(value) => writer::one_of_fixed(4, value.to_bits(), out),
        Value::Timestamp(value) => writer::one_of_sint(5, value.as_micros(), out),
        Value::String(value) => writer::one_of_bytes(6, value.as_bytes(), out),
        Value::Bytes(value) => writer::one_of_bytes(7, value, out),
        Value::Reference(value) => writer::one_of_bytes(8, value.as_str().as_bytes(), out),
        Value::GeoPoint(value) => writer::message(9, out, |out| {
            writer::put_fixed(1, value.latitude().to_bits(), out);
            writer::put_fixed(2, value.longitude().to_bits(), out);
        }),
        Value::Array(values) => writer::message(10, out, |out| write_values(1, values, out)),
        Value::Map(fields) => writer::message(11, out, |out| write_fields(1, fields, out)),
        Value::Vector(values) => writer::message(12, out, |out| write_vector(values, out)),
    }
}

/// Appends the fields of a VectorValue.
pub(super) fn write_vector(values: &[f64], out: &mut Vec<u8>) {
    if !values.is_empty() {
        writer::message(1, out, |out| {
            values.iter().for_each(|value| out.extend_from_slice(&value.to_le_bytes()));
        });
    }
}

/// Appends a repeated Value.
pub(super) fn write_values(field: u32, values: &[Value], out: &mut Vec<u8>) {
    for value in values {
        writer::message(field, out, |out| write_value(value, out));
    }
}

/// Appends a map of Values.
pub(super) fn write_fields(field: u32, fields: &Fields, out: &mut Vec<u8>) {
    for (name, value) in fields {
        writer::message(field, out, |out| {
            writer::put_bytes(ENTRY_KEY, name.as_bytes(), out);
            writer::message(ENTRY_VALUE, out, |out| write_value(value, out));
        });
    }
}

/// Reads a Value.
pub(super) fn read_value(reader: Reader<'_>) -> Result<Value, Fault> {
    let mut value = None;
    merge_value(&mut value, reader, NESTING)?;
    value.ok_or_else(no_kind)
}

/// Reads a VectorValue.
pub(super) fn read_vector(reader: Reader<'_>) -> Result<Vec<f64>, Fault> {
    let mut values = Vec::new();
    merge_vector(&mut values, reader)?;
    Ok(values)
}

/// Reads a MapValue.
pub(super) fn read_map(mut reader: Reader<'_>) -> Result<Fields, Fault> {
    let mut fields = Fields::new();
    merge_map(&mut fields, &mut reader, NESTING)?;
    Ok(fields)
}

/// Reads an ArrayValue.
pub(super) fn read_array(mut reader: Reader<'_>) -> Result<Vec<Value>, Fault> {
    let mut values = Vec::new();
    merge_array(&mut values, &mut reader, NESTING)?;
    Ok(values)
}

/// Reads the rest of a Value into what came before: of a oneof the last field counts, except that
/// a message continues the same message before it.
fn merge_value(
    value: &mut Option<Value>,
    mut reader: Reader<'_>,
    nesting: usize,
) -> Result<(), Fault> {
    while let Some((number, wire_type)) = reader.tag()? {
        let next = match number {
            1 => reader.boolean(wire_type).map(|_| Value::Null)?,
            2 => Value::Boolean(reader.boolean(wire_type)?),
            3 => Value::Integer(reader.sint64(wire_type)?),
            4 => Value::Double(reader.double(wire_type)?),
            5 => Value::Timestamp(Timestamp::from_micros(reader.sint64(wire_type)?)?),
            6 => Value::String(reader.text(wire_type)?.to_owned()),
            // Copied: a small value must not keep a large frame alive.
            7 => Value::Bytes(Bytes::copy_from_slice(reader.bytes(wire_type)?)),
            8 => Value::Reference(DocumentPath::parse(reader.text(wire_type)?)?),
            9 => Value::GeoPoint(read_geo_point(value.as_ref(), reader.message(wire_type)?)?),
            10 => {
                let mut values = match value.take() {
                    Some(Value::Array(values)) => values,
                    _ => Vec::new(),
                };
                merge_array(&mut values, &mut reader.message(wire_type)?, nesting)?;
                Value::Array(values)
            }
            11 => {
                let mut fields = match value.take() {
                    Some(Value::Map(fields)) => fields,
                    _ => Fields::new(),
                };
                merge_map(&mut fields, &mut reader.message(wire_type)?, nesting)?;
                Value::Map(fields)
            }
            12 => {
                let mut values = match value.take() {
                    Some(Value::Vector(values)) => values,
                    _ => Vec::new(),
                };
                merge_vector(&mut values, reader.message(wire_type)?)?;
                Value::Vector(values)
            }
            _ => {
                reader.skip((number, wire_type))?;
                continue;
            }
        };
        *value = Some(next);
    }
    Ok(())
}

fn read_geo_point(before: Option<&Value>, mut reader: Reader<'_>) -> Result<GeoPoint, Fault> {
    let (mut latitude, mut longitude) = match before {
        Some(Value::GeoPoint(place)) => (place.latitude(), place.longitude()),
        _ => (0.0, 0.0),
    };
    while let Some(tag @ (number, wire_type)) = reader.tag()? {
        match number {
            1 => latitude = reader.double(wire_type)?,
            2 => longitude = reader.double(wire_type)?,
            _ => reader.skip(tag)?,
        }
    }
    Ok(GeoPoint::new(latitude, longitude)?)
}

fn merge_array(
    values: &mut Vec<Value>,
    reader: &mut Reader<'_>,
    nesting: usize,
) -> Result<(), Fault> {
    let nesting = deeper(nesting)?;
    while let Some(tag @ (number, wire_type)) = reader.tag()? {
        match number {
            1 => {
                let mut value = None;
                merge_value(&mut value, reader.message(wire_type)?, nesting)?;
                values.push(value.ok_or_else(no_kind)?);
            }
            _ => reader.skip(tag)?,
        }
    }
    Ok(())
}

fn merge_map(fields: &mut Fields, reader: &mut Reader<'_>, nesting: usize) -> Result<(), Fault> {
    let nesting = deeper(nesting)?;
    while let Some(tag @ (number, wire_type)) = reader.tag()? {
        match number {
            1 => read_entry(fields, reader.message(wire_type)?, nesting)?,
            _ => reader.skip(tag)?,
        }
    }
    Ok(())
}

/// Reads an entry of a map; of entries with the same name the last counts.
fn read_entry(fields: &mut Fields, mut reader: Reader<'_>, nesting: usize) -> Result<(), Fault> {
    let mut name = "";
    let mut value = None;
    while let Some(tag @ (number, wire_type)) = reader.tag()? {
        match number {
            ENTRY_KEY => name = reader.text(wire_type)?,
            ENTRY_VALUE => merge_value(&mut value, reader.message(wire_type)?, nesting)?,
            _ => reader.skip(tag)?,
        }
    }
    fields.insert(name.to_owned(), value.ok_or_else(no_kind)?);
    Ok(())
}

fn merge_vector(values: &mut Vec<f64>, mut reader: Reader<'_>) -> Result<(), Fault> {
    while let Some(tag @ (number, wire_type)) = reader.tag()? {
        match (number, wire_type) {
            (1, WireType::Length) => {
                let packed = reader.bytes(wire_type)?;
                let (doubles, rest) = packed.as_chunks();
                if !rest.is_empty() {
                    return Err(Fault::malformed("a vector ends in the middle of a number"));
                }
                values.extend(doubles.iter().map(|double| f64::from_le_bytes(*double)));
            }
            (1, _) => values.push(reader.double(wire_type)?),
            _ => reader.skip(tag)?,
        }
    }
    Ok(())
}

/// One level deeper, or a refusal.
fn deeper(nesting: usize) -> Result<usize, Fault> {
    nesting.checked_sub(1).ok_or_else(|| {
        Fault::invalid(format!(
            "maps and arrays are nested more than {} deep, which is the limit",
            limits::DEPTH
        ))
    })
}

fn no_kind() -> Fault {
    Fault::invalid("a value has no type that this version knows")
}

/// Appends the fields of a Document.
pub(super) fn write_document(document: &Document, out: &mut Vec<u8>) {
    writer::put_bytes(1, document.path.as_str().as_bytes(), out);
    writer::put_fixed(2, document.create_version.0, out);
    writer::put_fixed(3, document.update_version.0, out);
    write_fields(4, &document.fields, out);
    write_merge_state(&document.merge, out);
}

/// Reads a Document.
pub(super) fn read_document(mut reader: Reader<'_>) -> Result<Document, Fault> {
    let mut header = Header::default();
    let (mut fields, mut merge) = (Fields::new(), MergeState::default());
    while let Some(tag @ (number, wire_type)) = reader.tag()? {
        match number {
            4 => read_entry(&mut fields, reader.message(wire_type)?, NESTING)?,
            5 => merge.clocks = Some(Box::new(read_clocks(reader.message(wire_type)?)?)),
            6 => {
                let collaborative = read_collaborative(reader.message(wire_type)?)?;
                merge.collaborative = Some(Box::new(collaborative));
            }
            _ => header.read(&mut reader, tag)?,
        }
    }
    Ok(Document {
        path: DocumentPath::parse(header.path)?,
        fields,
        create_version: Version(header.create_version),
        update_version: Version(header.update_version),
        merge,
    })
}

/// Reads the path, the create and the update version of a Document, passing over its fields.
pub(super) fn peek_document(mut reader: Reader<'_>) -> Result<(&str, Version, Version), Fault> {
    let mut header = Header::default();
    while let Some(tag) = reader.tag()? {
        header.read(&mut reader, tag)?;
    }
    Ok((header.path, Version(header.create_version), Version(header.update_version)))
}

/// A Document without its fields.
#[derive(Default)]
struct Header<'a> {
    path: &'a str,
    create_version: u64,
    update_version: u64,
}

impl<'a> Header<'a> {
    fn read(&mut self, reader: &mut Reader<'a>, tag: (u32, WireType)) -> Result<(), Fault> {
        match tag {
            (1, wire_type) => self.path = reader.text(wire_type)?,
            (2, wire_type) => self.create_version = reader.fixed64(wire_type)?,
            (3, wire_type) => self.update_version = reader.fixed64(wire_type)?,
            _ => reader.skip(tag)?,
        }
        Ok(())
    }
}
