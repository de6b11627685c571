//! Client-side indexes: which one answers a query, which part of it, and what a document has in it.
//! Shared by all caches, which keep the entries and decide when an index is made and dropped.
//!
//! An index has the documents of a collection's id that have all its fields. An entry's key is the
//! collection (unless the index is over the group), the fields that a query fixes, at most one
//! element of an array, the fields that it orders by, and the name: the entries with the same
//! beginning are in the order of the query. Documents with a longer key than is worth keeping are
//! listed apart, and asked one by one.

mod plan;

use std::collections::BTreeSet;

use tidemark_protocol::model::key::{
    decode_text, encode_bytes, encode_collection, encode_value, encode_value_descending,
};
use tidemark_protocol::model::{
    Document, FieldPath, IndexDefinition, IndexField, IndexMode, IndexScope, ModelError, Value,
};

pub(super) use plan::{Access, Scan, plan};

/// How many indexes a cache has at most: the least used make room.
pub(super) const LIMIT: usize = 64;
/// Of the budget of a cache that is too large, which part its indexes may take: the least used go
/// before documents do, as they can be made again.
pub(super) const SHARE: u64 = 4;
/// How many documents a collection has before an index is worth its upkeep.
pub(super) const WORTHWHILE: usize = 100;
/// The longest key of an entry.
const KEY_BYTES: usize = 1_024;

/// What a document has in an index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Entries {
    pub(super) keys: BTreeSet<Vec<u8>>,
    /// Whether it is listed apart; it has no keys then.
    pub(super) long: bool,
}

/// What a document has in an index of its collection's id.
pub(super) fn entries(definition: &IndexDefinition, document: &Document) -> Entries {
    let mut none = Entries::default();
    if document.path.collection_id() != definition.collection_id {
        return none;
    }
    let mut start = Vec::new();
    if definition.scope == IndexScope::Collection {
        encode_collection(&document.path.parent(), &mut start);
    }
    let mut keys = BTreeSet::from([start]);
    for field in &definition.fields {
        let Some(value) = document.get(&field.field) else { return none };
        keys = match (field.mode, value) {
            (IndexMode::Contains, Value::Array(elements)) => {
                let with = |key: &Vec<u8>, element| extended(key, IndexMode::Contains, element);
                keys.iter().flat_map(|key| elements.iter().map(|it| with(key, it))).collect()
            }
            (IndexMode::Contains, _) => return none,
            (mode @ (IndexMode::Ascending | IndexMode::Descending), value) => {
                keys.iter().map(|key| extended(key, mode, value)).collect()
            }
        };
    }
    let name = Value::Reference(document.path.clone());
    none.keys = keys.iter().map(|key| extended(key, IndexMode::Ascending, &name)).collect();
    if none.keys.iter().any(|key| key.len() > KEY_BYTES) {
        return Entries { keys: BTreeSet::new(), long: true };
    }
    none
}

fn extended(key: &[u8], mode: IndexMode, value: &Value) -> Vec<u8> {
    let mut key = key.to_vec();
    match mode {
        IndexMode::Ascending | IndexMode::Contains => encode_value(value, &mut key),
        IndexMode::Descending => encode_value_descending(value, &mut key),
    }
    key
}

/// A definition as bytes, to be stored.
pub(super) fn encode_definition(definition: &IndexDefinition) -> Vec<u8> {
    let mut out = vec![match definition.scope {
        IndexScope::Collection => 0,
        IndexScope::Group => 1,
    }];
    encode_bytes(definition.collection_id.as_bytes(), &mut out);
    for field in &definition.fields {
        out.push(match field.mode {
            IndexMode::Ascending => 0,
            IndexMode::Descending => 1,
            IndexMode::Contains => 2,
        });
        encode_bytes(field.field.to_string().as_bytes(), &mut out);
    }
    out
}

/// The definition that [`encode_definition`] made these bytes of.
pub(super) fn decode_definition(bytes: &[u8]) -> Result<IndexDefinition, ModelError> {
    let malformed = || ModelError::invalid("the bytes are not the definition of an index");
    let (scope, rest) = bytes.split_first().ok_or_else(malformed)?;
    let scope = match scope {
        0 => IndexScope::Collection,
        1 => IndexScope::Group,
        _ => return Err(malformed()),
    };
    let (collection_id, mut rest) = decode_text(rest)?;
    let mut fields = Vec::new();
    while let Some((mode, after)) = rest.split_first() {
        let mode = match mode {
            0 => IndexMode::Ascending,
            1 => IndexMode::Descending,
            2 => IndexMode::Contains,
            _ => return Err(malformed()),
        };
        let (field, after) = decode_text(after)?;
        fields.push(IndexField { field: FieldPath::parse(&field)?, mode });
        rest = after;
    }
    Ok(IndexDefinition { collection_id, scope, fields })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_definition_is_read_back() {
        let field = |name: &str, mode| IndexField { field: FieldPath::parse(name).unwrap(), mode };
        let fields = vec![
            field("a.`b c`", IndexMode::Descending),
            field("tags", IndexMode::Contains),
            field("z", IndexMode::Ascending),
        ];
        for scope in [IndexScope::Collection, IndexScope::Group] {
            let collection_id = "c\0".to_owned();
            let definition = IndexDefinition { collection_id, scope, fields: fields.clone() };
            let bytes = encode_definition(&definition);
            assert_eq!(decode_definition(&bytes).unwrap(), definition);
            assert!(decode_definition(&bytes[..bytes.len() - 1]).is_err());
        }
        assert!(decode_definition(&[]).is_err());
        assert!(decode_definition(&[9]).is_err());
    }
}
