//! Checks the bytes of a change that came from the network before Automerge decodes them: a run
//! length of a few bytes can stand for more operations than there is memory, and a compressed
//! change for more bytes.

use automerge::Change;

use super::error::CollabError;
use super::reader::Reader;

/// The bytes of one change.
pub const MAX_CHANGE_BYTES: usize = 4 << 20;
/// The operations of one change.
pub const MAX_CHANGE_OPS: usize = 1 << 20;

const MAGIC: [u8; 4] = [0x85, 0x6f, 0x4a, 0x83];
/// The type of a chunk that holds one change, not compressed.
const CHANGE: u8 = 1;
/// An actor's name: a field's name and a little more, in seeds.
const MAX_ACTOR_BYTES: usize = 2_048;
/// The bit of a column's specification that says it is compressed.
const DEFLATED: u64 = 0b1000;

/// The change that the bytes are, if they are exactly one, not compressed, within the limits.
pub fn check_change(bytes: &[u8]) -> Result<Change, CollabError> {
    if bytes.len() > MAX_CHANGE_BYTES {
        return Err(CollabError::TooLarge {
            what: "the bytes of a change",
            limit: MAX_CHANGE_BYTES,
            size: bytes.len(),
        });
    }
    let rows = count_rows(bytes).ok_or_else(|| {
        CollabError::Malformed("the bytes are not one uncompressed change".to_owned())
    })?;
    if rows > MAX_CHANGE_OPS as u64 {
        return Err(CollabError::TooLarge {
            what: "the operations of a change",
            limit: MAX_CHANGE_OPS,
            size: usize::try_from(rows).unwrap_or(usize::MAX),
        });
    }
    let change = super::document::guarded(|| {
        Change::from_bytes(bytes.to_vec()).map_err(CollabError::automerge)
    })?;
    match change.hash().0[..4] == bytes[4..8] {
        true => Ok(change),
        false => Err(CollabError::Malformed("the checksum does not fit".to_owned())),
    }
}

/// The rows of the longest column; none if the bytes are not a change.
fn count_rows(bytes: &[u8]) -> Option<u64> {
    let mut reader = Reader(bytes);
    if reader.take(4)? != MAGIC {
        return None;
    }
    reader.take(4)?;
    if reader.take(1)? != [CHANGE] {
        return None;
    }
    let mut body = Reader(reader.bytes()?);
    if !reader.is_empty() {
        return None;
    }
    let dependencies = body.number()?;
    body.take(dependencies.checked_mul(32)?)?;
    actor(&mut body)?;
    let (_seq, _start, _time) = (body.number()?, body.number()?, body.signed()?);
    body.bytes()?;
    for _ in 0..bounded(body.number()?, &body)? {
        actor(&mut body)?;
    }
    let mut columns = Vec::new();
    for _ in 0..bounded(body.number()?, &body)? {
        columns.push((body.number()?, body.number()?));
    }
    let (mut rows, mut elements) = (0, 0_u64);
    for (specification, length) in columns {
        let mut column = Reader(body.take(length)?);
        let count = column_rows(specification, &mut column)?;
        // The columns of a group (the predecessors) have as many rows as all its numbers together.
        elements = elements.saturating_add(count);
        rows = count.max(rows);
    }
    Some(rows.max(elements / 8))
}

fn actor(reader: &mut Reader<'_>) -> Option<()> {
    (reader.bytes()?.len() <= MAX_ACTOR_BYTES).then_some(())
}

/// A count of things that take at least a byte each.
fn bounded(count: u64, rest: &Reader<'_>) -> Option<u64> {
    (count <= rest.0.len() as u64).then_some(count)
}

/// The rows of a column. Group columns count what their numbers add up to.
fn column_rows(specification: u64, column: &mut Reader<'_>) -> Option<u64> {
    if specification & DEFLATED != 0 {
        return None;
    }
    match specification & 0b111 {
        0 => runs(column, Item::Group),
        1 | 2 | 6 => runs(column, Item::Number),
        3 => runs(column, Item::Signed),
        4 => booleans(column),
        5 => runs(column, Item::Text),
        _ => Some(0),
    }
}

#[derive(Clone, Copy)]
enum Item {
    Group,
    Number,
    Signed,
    Text,
}

fn runs(column: &mut Reader<'_>, item: Item) -> Option<u64> {
    let mut rows = 0_u64;
    while !column.is_empty() {
        let count = column.signed()?;
        let run = count.unsigned_abs();
        let added = match count {
            1.. => run.saturating_mul(value(column, item)?),
            0 => column.number()?,
            _ => {
                let mut sum = 0_u64;
                for _ in 0..bounded(run, column)? {
                    sum = sum.saturating_add(value(column, item)?);
                }
                sum
            }
        };
        rows = rows.saturating_add(added.max(run));
    }
    Some(rows)
}

/// Reads a value; how many rows it stands for.
fn value(column: &mut Reader<'_>, item: Item) -> Option<u64> {
    match item {
        Item::Group => column.number(),
        Item::Number => column.number().map(|_| 1),
        Item::Signed => column.signed().map(|_| 1),
        Item::Text => column.bytes().map(|_| 1),
    }
}

fn booleans(column: &mut Reader<'_>) -> Option<u64> {
    let mut rows = 0_u64;
    while !column.is_empty() {
        rows = rows.saturating_add(column.number()?);
    }
    Some(rows)
}
