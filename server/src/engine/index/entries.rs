//! What index entries look like: an indexed value, then the document's name at the end of the key.
//! Which entries a document has is [`super::document`]'s.

use std::borrow::Cow;

use bytes::Bytes;
use tidemark_protocol::model::{CollectionPath, DocumentPath, FieldPath, Value, key, limits};

use crate::engine::error::EngineError;
use crate::engine::keys::Keys;
use crate::store::Key;

/// Bytes of an indexed value.
pub(super) const VALUE_BYTES: usize = limits::INDEXED_BYTES;
/// Bytes of a field path in a key. Longer ones are not indexed: with the longest path of a
/// document, the longest value, and every zero byte doubled, the key would not fit.
pub(super) const FIELD_BYTES: usize = 1_500;

/// The flag of an entry whose value was cut off.
const TRUNCATED: u8 = 1;

/// The values of entries that are whole and whose names are short, by the names' length.
static PLAIN_VALUES: [[u8; 3]; 256] = {
    let mut values = [[0; 3]; 256];
    let mut length = 0;
    while length < values.len() {
        values[length][2] = length as u8;
        length += 1;
    }
    values
};

/// What an entry of an automatic index stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) enum EntryKind {
    /// The value of the field.
    Value,
    /// An element of the array that is the value.
    Element,
}

impl EntryKind {
    pub(in crate::engine) fn byte(self) -> u8 {
        match self {
            EntryKind::Value => b'v',
            EntryKind::Element => b'e',
        }
    }
}

/// An index entry as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Entry {
    pub(super) key: Key,
    pub(super) value: [u8; 3],
}

impl Entry {
    /// `key` ends with the name.
    pub(super) fn new(key: Key, name_bytes: usize, truncated: bool) -> Entry {
        let length = u16::try_from(name_bytes).expect("a key is at most 16 KiB");
        let [high, low] = length.to_be_bytes();
        Entry { key, value: [if truncated { TRUNCATED } else { 0 }, high, low] }
    }

    pub(super) fn put(self) -> (Key, Option<Bytes>) {
        // Most values are one of few: those take no memory of their own.
        let value = match self.value {
            [0, 0, length] => Bytes::from_static(&PLAIN_VALUES[usize::from(length)]),
            other => Bytes::copy_from_slice(&other),
        };
        (self.key, Some(value))
    }
}

/// Appends a value as the automatic indexes have it. Returns whether it was cut off: entries with
/// the same bytes, of which some are cut, are in no order.
pub(in crate::engine) fn append_indexed(
    value: &Value,
    descending: bool,
    out: &mut Vec<u8>,
) -> bool {
    cut_value(value, descending, VALUE_BYTES, out)
}

pub(super) fn cut_value(value: &Value, descending: bool, limit: usize, out: &mut Vec<u8>) -> bool {
    let start = out.len();
    let truncated = key::encode_value_cut(value, limit, out);
    if descending {
        invert(&mut out[start..]);
    }
    truncated
}

pub(in crate::engine) fn invert(bytes: &mut [u8]) {
    bytes.iter_mut().for_each(|byte| *byte = !*byte);
}

/// Whether a field's path is short enough for its values to be indexed automatically.
pub(in crate::engine) fn is_indexable(field: &FieldPath) -> bool {
    fits(&field.to_string())
}

/// Whether the canonical text of a field's path fits a key.
pub(super) fn fits(text: &str) -> bool {
    text.len() <= FIELD_BYTES
        && text.len() + text.bytes().filter(|byte| *byte == 0).count() <= FIELD_BYTES
}

/// The document that an entry stands for.
#[derive(Clone, Copy, Debug)]
pub(in crate::engine) struct EntryName<'a> {
    /// As it stands in the key: in an index of one collection the document's id, in one of a group
    /// the path as a reference; inverted where [`super::Composite::has_inverted_names`] says so.
    pub(in crate::engine) encoded: &'a [u8],
    /// What is before the name in the key: the prefix of the index and the values.
    pub(in crate::engine) before: &'a [u8],
    /// The values are cut off: only the document tells them.
    pub(in crate::engine) truncated: bool,
}

/// Takes an entry apart.
pub(in crate::engine) fn entry_name<'a>(
    key: &'a [u8],
    value: &[u8],
) -> Result<EntryName<'a>, EngineError> {
    let malformed = || EngineError::corrupt("an index entry");
    let [flags, high, low] = *value else { return Err(malformed()) };
    let length = usize::from(u16::from_be_bytes([high, low]));
    let at = key.len().checked_sub(length).ok_or_else(malformed)?;
    let (before, encoded) = key.split_at(at);
    Ok(EntryName { encoded, before, truncated: flags & TRUNCATED != 0 })
}

impl<'a> EntryName<'a> {
    /// The name in the order of documents, from an index with inverted names or not.
    pub(in crate::engine) fn upright(&self, inverted: bool) -> Cow<'a, [u8]> {
        if !inverted {
            return Cow::Borrowed(self.encoded);
        }
        let mut name = self.encoded.to_vec();
        invert(&mut name);
        Cow::Owned(name)
    }

    /// The key of the document, from an index of this collection.
    pub(in crate::engine) fn document_key(
        &self,
        keys: Keys,
        collection: &CollectionPath,
        inverted: bool,
    ) -> Key {
        keys.document_named(collection, &self.upright(inverted))
    }

    /// The document, from an index of a group.
    pub(in crate::engine) fn group_document(
        &self,
        inverted: bool,
    ) -> Result<DocumentPath, EngineError> {
        key::decode_reference(&self.upright(inverted)).map_err(EngineError::corrupt)
    }
}
