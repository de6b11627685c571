//! Explanations, and the indexes they suggest, between bytes and the model.

use std::time::Duration;

use super::fault::Fault;
use super::reader::Reader;
use super::server::Explanation;
use super::writer;
use crate::model::{FieldPath, IndexDefinition, IndexField, IndexMode, IndexScope};

/// Appends the fields of an Explanation.
pub(super) fn write_explanation(explanation: &Explanation, out: &mut Vec<u8>) {
    for step in &explanation.steps {
        writer::one_of_bytes(1, step.as_bytes(), out);
    }
    writer::put_uint(2, explanation.entries_scanned, out);
    writer::put_uint(3, explanation.documents_read, out);
    writer::put_uint(4, explanation.results, out);
    writer::put_uint(5, u64::try_from(explanation.time.as_micros()).unwrap_or(u64::MAX), out);
    for index in &explanation.indexes {
        writer::one_of_bytes(6, index.as_bytes(), out);
    }
    if let Some(index) = &explanation.suggestion {
        writer::message(7, out, |out| write_index(index, out));
    }
}

fn write_index(index: &IndexDefinition, out: &mut Vec<u8>) {
    writer::put_bytes(1, index.collection_id.as_bytes(), out);
    writer::put_bool(2, index.scope == IndexScope::Group, out);
    for field in &index.fields {
        writer::message(3, out, |out| {
            writer::put_bytes(1, field.field.to_string().as_bytes(), out);
            writer::put_uint(2, mode_number(field.mode), out);
        });
    }
}

/// Reads an Explanation.
pub(super) fn read_explanation(mut reader: Reader<'_>) -> Result<Explanation, Fault> {
    let mut explanation = Explanation::default();
    while let Some(tag @ (number, wire_type)) = reader.tag()? {
        match number {
            1 => explanation.steps.push(reader.text(wire_type)?.to_owned()),
            2 => explanation.entries_scanned = reader.uint64(wire_type)?,
            3 => explanation.documents_read = reader.uint64(wire_type)?,
            4 => explanation.results = reader.uint64(wire_type)?,
            5 => explanation.time = Duration::from_micros(reader.uint64(wire_type)?),
            6 => explanation.indexes.push(reader.text(wire_type)?.to_owned()),
            7 => explanation.suggestion = Some(read_index(reader.message(wire_type)?)?),
            _ => reader.skip(tag)?,
        }
    }
    Ok(explanation)
}

fn read_index(mut reader: Reader<'_>) -> Result<IndexDefinition, Fault> {
    let (mut collection_id, mut scope, mut fields) = ("", IndexScope::Collection, Vec::new());
    while let Some(tag @ (number, wire_type)) = reader.tag()? {
        match number {
            1 => collection_id = reader.text(wire_type)?,
            2 if reader.boolean(wire_type)? => scope = IndexScope::Group,
            2 => scope = IndexScope::Collection,
            3 => fields.push(read_field(reader.message(wire_type)?)?),
            _ => reader.skip(tag)?,
        }
    }
    Ok(IndexDefinition { collection_id: collection_id.to_owned(), scope, fields })
}

fn read_field(mut reader: Reader<'_>) -> Result<IndexField, Fault> {
    let (mut field, mut mode) = ("", 0);
    while let Some(tag @ (number, wire_type)) = reader.tag()? {
        match number {
            1 => field = reader.text(wire_type)?,
            2 => mode = reader.uint64(wire_type)?,
            _ => reader.skip(tag)?,
        }
    }
    Ok(IndexField { field: FieldPath::parse(field)?, mode: mode_of(mode)? })
}

fn mode_number(mode: IndexMode) -> u64 {
    match mode {
        IndexMode::Ascending => 0,
        IndexMode::Descending => 1,
        IndexMode::Contains => 2,
    }
}

fn mode_of(number: u64) -> Result<IndexMode, Fault> {
    Ok(match number {
        0 => IndexMode::Ascending,
        1 => IndexMode::Descending,
        2 => IndexMode::Contains,
        _ => return Err(Fault::invalid("an index has a mode that this version does not know")),
    })
}
