//! What a document remembers for merging, between bytes and the model.

use super::fault::Fault;
use super::reader::Reader;
use super::writer;
use crate::model::{
    Clocks, Collaborative, CollaborativeKind, EditTime, FieldPath, MergeState, Version,
};

/// Appends the fields 5 and 6 of a Document.
pub(super) fn write_merge_state(state: &MergeState, out: &mut Vec<u8>) {
    if let Some(clocks) = &state.clocks {
        writer::message(5, out, |out| write_clocks(clocks, out));
    }
    if let Some(collaborative) = &state.collaborative {
        writer::message(6, out, |out| write_collaborative(collaborative, out));
    }
}

fn write_clocks(clocks: &Clocks, out: &mut Vec<u8>) {
    writer::put_fixed(1, clocks.base.0, out);
    for (field, time) in &clocks.fields {
        writer::message(2, out, |out| {
            writer::put_bytes(1, field.to_string().as_bytes(), out);
            writer::put_fixed(2, time.0, out);
        });
    }
}

fn write_collaborative(collaborative: &Collaborative, out: &mut Vec<u8>) {
    writer::put_fixed(1, collaborative.epoch.0, out);
    for (name, kind) in &collaborative.fields {
        writer::message(2, out, |out| {
            writer::put_bytes(1, name.as_bytes(), out);
            writer::put_uint(2, number(*kind), out);
        });
    }
}

fn number(kind: CollaborativeKind) -> u64 {
    match kind {
        CollaborativeKind::Text => 1,
        CollaborativeKind::List => 2,
        CollaborativeKind::Map => 3,
        CollaborativeKind::Counter => 4,
    }
}

/// Reads Clocks.
pub(super) fn read_clocks(mut reader: Reader<'_>) -> Result<Clocks, Fault> {
    let mut clocks = Clocks::default();
    while let Some(tag @ (number, wire_type)) = reader.tag()? {
        match number {
            1 => clocks.base = EditTime(reader.fixed64(wire_type)?),
            2 => {
                let (field, time) = read_clock(reader.message(wire_type)?)?;
                clocks.fields.insert(field, time);
            }
            _ => reader.skip(tag)?,
        }
    }
    Ok(clocks)
}

fn read_clock(mut reader: Reader<'_>) -> Result<(FieldPath, EditTime), Fault> {
    let (mut field, mut time) = ("", EditTime::NONE);
    while let Some(tag @ (number, wire_type)) = reader.tag()? {
        match number {
            1 => field = reader.text(wire_type)?,
            2 => time = EditTime(reader.fixed64(wire_type)?),
            _ => reader.skip(tag)?,
        }
    }
    Ok((FieldPath::parse(field)?, time))
}

/// Reads a Collaborative.
pub(super) fn read_collaborative(mut reader: Reader<'_>) -> Result<Collaborative, Fault> {
    let mut collaborative = Collaborative::default();
    while let Some(tag @ (number, wire_type)) = reader.tag()? {
        match number {
            1 => collaborative.epoch = Version(reader.fixed64(wire_type)?),
            2 => {
                let (name, kind) = read_kind(reader.message(wire_type)?)?;
                collaborative.fields.insert(name, kind);
            }
            _ => reader.skip(tag)?,
        }
    }
    Ok(collaborative)
}

fn read_kind(mut reader: Reader<'_>) -> Result<(String, CollaborativeKind), Fault> {
    let (mut name, mut number) = ("", 0);
    while let Some(tag @ (field, wire_type)) = reader.tag()? {
        match field {
            1 => name = reader.text(wire_type)?,
            2 => number = reader.uint64(wire_type)?,
            _ => reader.skip(tag)?,
        }
    }
    let kind = match number {
        1 => CollaborativeKind::Text,
        2 => CollaborativeKind::List,
        3 => CollaborativeKind::Map,
        4 => CollaborativeKind::Counter,
        _ => return Err(Fault::invalid(format!("{number} is no kind of collaborative field"))),
    };
    Ok((name.to_owned(), kind))
}
