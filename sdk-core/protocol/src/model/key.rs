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

/// Appends the first `limit` bytes of what [`encode_value`] appends, without encoding much of the
/// rest. Returns whether anything was cut off.
pub fn encode_value_cut(value: &Value, limit: usize, out: &mut Vec<u8>) -> bool {
    let end = out.len() + limit;
    encode_start(value, end, out);
    let cut = out.len() > end;
    out.truncate(end);
    cut
}

/// Appends a value, of which what would come after `end` may be missing.
fn encode_start(value: &Value, end: usize, out: &mut Vec<u8>) {
    let room = end.saturating_sub(out.len());
    match value {
        // The tag and as many bytes as there is room for are already too much.
        Value::String(text) if text.len() > room => {
            out.push(tag::STRING);
            encode_bytes(&text.as_bytes()[..room], out);
        }
        Value::Bytes(bytes) if bytes.len() > room => {
            out.push(tag::BYTES);
            encode_bytes(&bytes[..room], out);
        }
        Value::Array(values) => {
            out.push(tag::ARRAY);
            for value in values {
                if out.len() > end {
                    return;
                }
                encode_start(value, end, out);
            }
            out.push(END_OF_ARRAY);
        }
        Value::Map(fields) => {
            out.push(tag::MAP);
            for (key, value) in fields {
                if out.len() > end {
                    return;
                }
                encode_bytes(key.as_bytes(), out);
                encode_start(value, end, out);
            }
            out.extend_from_slice(&END_OF_SEGMENTS);
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
        | Value::Vector(_) => encode_value(value, out),
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

/// The text that [`encode_bytes`] encoded at the start of `key`, and what follows it.
pub fn decode_text(key: &[u8]) -> Result<(String, &[u8]), ModelError> {
    let malformed = || ModelError::invalid("the bytes are not the key of a text");
    let mut text = Vec::new();
    let rest = decode_bytes(key, &mut text).ok_or_else(malformed)?;
    Ok((String::from_utf8(text).map_err(|_| malformed())?, rest))
}

/// The path that [`encode_collection`] encoded at the start of `key`, and what follows it.
pub fn decode_collection(key: &[u8]) -> Result<(CollectionPath, &[u8]), ModelError> {
    let (path, rest) = decode_segments(key)?;
    Ok((CollectionPath::parse(&path)?, rest))
}

/// The path of which `key` is the whole encoding as a reference, without its tag.
pub fn decode_reference(key: &[u8]) -> Result<DocumentPath, ModelError> {
    let (path, rest) = decode_segments(key)?;
    if rest.is_empty() {
        DocumentPath::parse(&path)
    } else {
        Err(ModelError::invalid("bytes follow the key of a reference"))
    }
}

/// What [`encode_segments`] encoded at the start of `key`, joined by slashes; what follows it.
fn decode_segments(key: &[u8]) -> Result<(String, &[u8]), ModelError> {
    let malformed = || ModelError::invalid("the bytes are not the key of a path");
    let mut path = Vec::with_capacity(key.len());
    let mut rest = key;
    while !rest.starts_with(&END_OF_SEGMENTS) {
        if !path.is_empty() {
            path.push(b'/');
        }
        rest = decode_bytes(rest, &mut path).ok_or_else(malformed)?;
    }
    let path = String::from_utf8(path).map_err(|_| malformed())?;
    Ok((path, &rest[END_OF_SEGMENTS.len()..]))
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn cut(value: &Value, limit: usize) -> (Vec<u8>, bool) {
        let mut out = vec![7];
        let cut = encode_value_cut(value, limit, &mut out);
        (out.split_off(1), cut)
    }

    #[test]
    fn a_cut_value_is_the_beginning_of_the_whole() {
        let text = Value::from("a\0bc".repeat(5));
        let bytes = Value::Bytes(vec![0; 20].into());
        let map = Value::from([("k", text.clone()), ("l", bytes.clone())]);
        let array = Value::Array(vec![map.clone(), Value::from(1), text.clone(), Value::Null]);
        for value in [Value::Null, Value::from(true), Value::from(1.5), text, bytes, map, array] {
            let mut whole = Vec::new();
            encode_value(&value, &mut whole);
            for limit in 0..whole.len() + 3 {
                let (start, is_cut) = cut(&value, limit);
                assert_eq!(is_cut, limit < whole.len(), "{value:?} {limit}");
                assert_eq!(start, whole[..limit.min(whole.len())], "{value:?} {limit}");
            }
        }
    }

    #[test]
    fn paths_and_texts_are_read_back() {
        let mut key = Vec::new();
        let document = DocumentPath::parse("a/b\0/c/d").unwrap();
        encode_collection(&document.parent(), &mut key);
        encode_bytes(b"t\0", &mut key);
        let (collection, rest) = decode_collection(&key).unwrap();
        assert_eq!(collection, document.parent());
        assert_eq!(decode_text(rest).unwrap(), ("t\0".to_owned(), &[][..]));

        key.clear();
        encode_value(&Value::Reference(document.clone()), &mut key);
        assert_eq!(decode_reference(&key[1..]).unwrap(), document);
        for end in 1..key.len() {
            assert!(decode_reference(&key[1..end]).is_err());
        }
        key.push(0);
        assert!(decode_reference(&key[1..]).is_err());
    }
}
