//! Order-preserving byte keys: the order of the encodings is the order of
//! [`Value::compare`](super::Value::compare), and equal means equal, also for tuples of values,
//! some of them descending. Stores and indexes use them; the encoding is for good.
//!
//! Documents are an exception in one respect: their keys are grouped by collection, so that the
//! documents of a collection are one range. Within a collection they are in order of their ids.
//!
//! | what | encoding |
//! |---|---|
//! | text, bytes | each 00 as 00 FF; then 00 01 |
//! | number | the largest double that is not above it, its bits ordered (NaN is 0); the rest as u16 |
//! | array | its elements; then 00 |
//! | map | each key and value; then 00 00 |
//! | vector | the number of elements as u32; the elements as doubles |
//! | reference | each segment; then 00 00 |
//! | document | each segment of its collection; 00 00; its id |

use super::document::Fields;
use super::error::ModelError;
use super::path::{CollectionPath, DocumentPath};
use super::value::Value;

/// The first byte of each type, in the order of types, with room between them. None is as low as
/// the end of an array.
mod tag {
    pub(super) const NULL: u8 = 0x10;
    pub(super) const FALSE: u8 = 0x18;
    pub(super) const TRUE: u8 = 0x19;
    pub(super) const NUMBER: u8 = 0x20;
    pub(super) const TIMESTAMP: u8 = 0x28;
    pub(super) const STRING: u8 = 0x30;
    pub(super) const BYTES: u8 = 0x38;
    pub(super) const REFERENCE: u8 = 0x40;
    pub(super) const GEO_POINT: u8 = 0x48;
    pub(super) const ARRAY: u8 = 0x50;
    pub(super) const VECTOR: u8 = 0x58;
    pub(super) const MAP: u8 = 0x60;
}

const ESCAPED_ZERO: [u8; 2] = [0x00, 0xFF];
const END_OF_BYTES: [u8; 2] = [0x00, 0x01];
/// Below every text's first byte, and below `END_OF_BYTES` of an empty one.
const END_OF_SEGMENTS: [u8; 2] = [0x00, 0x00];
const END_OF_ARRAY: u8 = 0x00;

/// Appends a value; no encoding is a prefix of another, so encodings can be concatenated.
pub fn encode_value(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Null => out.push(tag::NULL),
        Value::Boolean(false) => out.push(tag::FALSE),
        Value::Boolean(true) => out.push(tag::TRUE),
        Value::Integer(integer) => {
            out.push(tag::NUMBER);
            encode_integer(*integer, out);
        }
        Value::Double(double) => {
            out.push(tag::NUMBER);
            encode_double(*double, out);
            out.extend_from_slice(&[0, 0]);
        }
        Value::Timestamp(timestamp) => {
            out.push(tag::TIMESTAMP);
            out.extend_from_slice(&(timestamp.as_micros() ^ i64::MIN).to_be_bytes());
        }
        Value::String(text) => {
            out.push(tag::STRING);
            encode_bytes(text.as_bytes(), out);
        }
        Value::Bytes(bytes) => {
            out.push(tag::BYTES);
            encode_bytes(bytes, out);
        }
        Value::Reference(path) => {
            out.push(tag::REFERENCE);
            encode_segments(path.segments(), out);
        }
        Value::GeoPoint(place) => {
            out.push(tag::GEO_POINT);
            encode_double(place.latitude(), out);
            encode_double(place.longitude(), out);
        }
        Value::Array(values) => {
            out.push(tag::ARRAY);
            values.iter().for_each(|value| encode_value(value, out));
            out.push(END_OF_ARRAY);
        }
        Value::Vector(values) => {
            out.push(tag::VECTOR);
            let length = u32::try_from(values.len()).unwrap_or(u32::MAX);
            out.extend_from_slice(&length.to_be_bytes());
            values.iter().for_each(|value| encode_double(*value, out));
        }
        Value::Map(fields) => {
            out.push(tag::MAP);
            encode_fields(fields, out);
        }
    }
}

/// Appends a value for a descending clause.
pub fn encode_value_descending(value: &Value, out: &mut Vec<u8>) {
    let start = out.len();
    encode_value(value, out);
    out[start..].iter_mut().for_each(|byte| *byte = !*byte);
}

/// Appends text or bytes, self-delimiting.
pub fn encode_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    let mut parts = bytes.split(|byte| *byte == 0);
    out.extend_from_slice(parts.next().unwrap_or_default());
    for part in parts {
        out.extend_from_slice(&ESCAPED_ZERO);
        out.extend_from_slice(part);
    }
    out.extend_from_slice(&END_OF_BYTES);
}

/// Appends a collection path: its documents' keys begin with it, those of deeper collections do not.
pub fn encode_collection(path: &CollectionPath, out: &mut Vec<u8>) {
    encode_segments(path.segments(), out);
}

/// Appends a document path: its collection, then its id.
pub fn encode_document(path: &DocumentPath, out: &mut Vec<u8>) {
    let (collection, id) = path.split();
    encode_segments(collection.split('/'), out);
    encode_bytes(id.as_bytes(), out);
}

/// The path that [`encode_document`] encoded, of which `key` is the whole encoding.
pub fn decode_document(key: &[u8]) -> Result<DocumentPath, ModelError> {
    let malformed = || ModelError::invalid("the bytes are not the key of a document");
    let mut path = Vec::with_capacity(key.len());
    let mut rest = key;
    while !rest.starts_with(&END_OF_SEGMENTS) {
        rest = decode_bytes(rest, &mut path).ok_or_else(malformed)?;
        path.push(b'/');
    }
    rest = decode_bytes(&rest[END_OF_SEGMENTS.len()..], &mut path).ok_or_else(malformed)?;
    let path = str::from_utf8(&path).map_err(|_| malformed())?;
    if rest.is_empty() { DocumentPath::parse(path) } else { Err(malformed()) }
}

fn encode_segments<'a>(segments: impl Iterator<Item = &'a str>, out: &mut Vec<u8>) {
    segments.for_each(|segment| encode_bytes(segment.as_bytes(), out));
    out.extend_from_slice(&END_OF_SEGMENTS);
}

fn encode_fields(fields: &Fields, out: &mut Vec<u8>) {
    for (key, value) in fields {
        encode_bytes(key.as_bytes(), out);
        encode_value(value, out);
    }
    out.extend_from_slice(&END_OF_SEGMENTS);
}

/// Appends what [`encode_bytes`] encoded at the start of `key` to `out`; what follows it.
fn decode_bytes<'a>(key: &'a [u8], out: &mut Vec<u8>) -> Option<&'a [u8]> {
    let mut rest = key;
    loop {
        let zero = rest.iter().position(|byte| *byte == 0)?;
        out.extend_from_slice(&rest[..zero]);
        let (mark, after) = rest[zero..].split_first_chunk::<2>()?;
        rest = after;
        match *mark {
            END_OF_BYTES => return Some(rest),
            ESCAPED_ZERO => out.push(0),
            _ => return None,
        }
    }
}

/// A double at or below the integer, and how far below: at most 1,023, the spacing of doubles
/// near 2^63.
fn encode_integer(integer: i64, out: &mut Vec<u8>) {
    let nearest = integer as f64;
    let is_above = i128::from(integer) < nearest as i128;
    let below = if is_above { nearest.next_down() } else { nearest };
    let rest = i128::from(integer) - below as i128;
    encode_double(below, out);
    let rest = u16::try_from(rest).expect("doubles within i64 are at most 1024 apart");
    out.extend_from_slice(&rest.to_be_bytes());
}

/// Bits in the order of the doubles: NaN is 0, -0.0 is 0.0.
fn encode_double(double: f64, out: &mut Vec<u8>) {
    let bits = (double + 0.0).to_bits();
    let ordered = if double.is_nan() {
        0
    } else if double.is_sign_negative() && double != 0.0 {
        !bits
    } else {
        bits | 1 << 63
    };
    out.extend_from_slice(&ordered.to_be_bytes());
}
