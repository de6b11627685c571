//! The layout of a database in the store. All keys begin with the database's number, then a table:
//!
//! | table | key | value |
//! |---|---|---|
//! | `m` | | [`MetaRecord`](super::records::MetaRecord) |
//! | `d` | document path | encoded document |
//! | `l` | commit version | [`LogRecord`](super::records::LogRecord) |
//! | `t` | document path | [`TombstoneRecord`](super::records::TombstoneRecord) |
//! | `u` | commit version, document path | nothing: the tombstones by age |
//! | `a` | document path, id, part | former epochs of its collaborative fields, see [`super::collab`] |
//! | `c` | client id | [`ClientRecord`](super::records::ClientRecord) |
//! | `x` | collection, field, kind, value, document id | automatic indexes, see [`super::index`] |
//! | `y` | index, collection unless of a group, values, document id or path | declared indexes |
//! | `g` | collection id, collection | nothing: the collections in which documents were written |
//! | `n` | | definitions of indexes |
//!
//! Number 0 is the catalog, which maps names to numbers. Encodings preserve order, so a collection
//! is one range and so is a stretch of the log.

use tidemark_protocol::model::{
    ClientId, CollectionPath, DocumentPath, FieldPath, ModelError, Version, key,
};

use super::index::EntryKind;
use crate::store::{Key, KeyRange};

const META: u8 = b'm';
const DOCUMENTS: u8 = b'd';
const LOG: u8 = b'l';
const TOMBSTONES: u8 = b't';
const TOMBSTONE_AGES: u8 = b'u';
const ARCHIVE: u8 = b'a';
const CLIENTS: u8 = b'c';
const FIELD_INDEXES: u8 = b'x';
const COMPOSITES: u8 = b'y';
const COLLECTIONS: u8 = b'g';
const INDEXES: u8 = b'n';
/// In the table of definitions: the state, declared indexes, settings of fields.
const INDEX_STATE: u8 = b'm';
const COMPOSITE_RECORDS: u8 = b'i';
const SETTING_RECORDS: u8 = b'e';
const PREFIX_BYTES: usize = 5;

/// The key of a database's number in the catalog.
pub(super) fn catalog(project: &str, database: &str) -> Key {
    let mut out = vec![0; 4];
    out.push(b'p');
    key::encode_bytes(project.as_bytes(), &mut out);
    key::encode_bytes(database.as_bytes(), &mut out);
    out
}

/// The key of the highest database number given out.
pub(super) fn catalog_last() -> Key {
    vec![0, 0, 0, 0, b'n']
}

/// Which index an entry belongs to.
pub(super) enum EntryPlace {
    Field { collection: CollectionPath, field: FieldPath },
    Composite(u32),
    Collection,
}

/// The keys of one database.
#[derive(Clone, Copy, Debug)]
pub(super) struct Keys {
    database: u32,
}

impl Keys {
    pub(super) const fn new(database: u32) -> Keys {
        Keys { database }
    }

    fn table(self, table: u8, capacity: usize) -> Key {
        let mut out = Vec::with_capacity(PREFIX_BYTES + capacity);
        out.extend_from_slice(&self.database.to_be_bytes());
        out.push(table);
        out
    }

    pub(super) fn meta(self) -> Key {
        self.table(META, 0)
    }

    pub(super) fn document(self, path: &DocumentPath) -> Key {
        let mut out = self.table(DOCUMENTS, path.as_str().len() + 16);
        key::encode_document(path, &mut out);
        out
    }

    /// The documents directly in a collection.
    pub(super) fn collection(self, path: &CollectionPath) -> KeyRange {
        let mut prefix = self.table(DOCUMENTS, path.as_str().len() + 16);
        key::encode_collection(path, &mut prefix);
        KeyRange::prefix(&prefix)
    }

    pub(super) fn log(self, version: Version) -> Key {
        let mut out = self.table(LOG, 8);
        out.extend_from_slice(&version.0.to_be_bytes());
        out
    }

    /// The log entries after `after`, up to and including `through`.
    pub(super) fn log_range(self, after: Version, through: Version) -> KeyRange {
        KeyRange {
            start: self.log(Version(after.0.saturating_add(1))),
            end: self.log(Version(through.0.saturating_add(1))),
        }
    }

    /// The version in a log entry's key.
    pub(super) fn log_version(key: &[u8]) -> Option<Version> {
        let bytes = key.get(PREFIX_BYTES..)?.try_into().ok()?;
        Some(Version(u64::from_be_bytes(bytes)))
    }

    pub(super) fn tombstone(self, path: &DocumentPath) -> Key {
        let mut out = self.table(TOMBSTONES, path.as_str().len() + 16);
        key::encode_document(path, &mut out);
        out
    }

    pub(super) fn tombstone_age(self, version: Version, path: &DocumentPath) -> Key {
        let mut out = self.table(TOMBSTONE_AGES, path.as_str().len() + 24);
        out.extend_from_slice(&version.0.to_be_bytes());
        key::encode_document(path, &mut out);
        out
    }

    /// The tombstones, the oldest first.
    pub(super) fn tombstone_ages(self) -> KeyRange {
        KeyRange::prefix(&self.table(TOMBSTONE_AGES, 0))
    }

    /// The version in the key of a tombstone's age, and the key of the tombstone.
    pub(super) fn aged(self, key: &[u8]) -> Option<(Version, Key)> {
        let (version, path) = key.get(PREFIX_BYTES..)?.split_first_chunk()?;
        let mut tombstone = self.table(TOMBSTONES, path.len());
        tombstone.extend_from_slice(path);
        Some((Version(u64::from_be_bytes(*version)), tombstone))
    }

    fn archive_prefix(self, path: &DocumentPath) -> Key {
        let mut out = self.table(ARCHIVE, path.as_str().len() + 24);
        // Not as segments: what is below the document is not to be among its own.
        key::encode_bytes(path.as_str().as_bytes(), &mut out);
        out
    }

    /// The former epochs of a document.
    pub(super) fn archive(self, path: &DocumentPath) -> KeyRange {
        KeyRange::prefix(&self.archive_prefix(path))
    }

    pub(super) fn archive_part(self, path: &DocumentPath, id: u64, part: u64) -> Key {
        let mut out = self.archive_prefix(path);
        out.extend_from_slice(&id.to_be_bytes());
        out.extend_from_slice(&part.to_be_bytes());
        out
    }

    /// The id and the part in the key of a former epoch of this document.
    pub(super) fn archive_entry(self, path: &DocumentPath, key: &[u8]) -> Option<(u64, u64)> {
        let rest = key.strip_prefix(&self.archive_prefix(path)[..])?;
        let (id, part) = rest.split_first_chunk()?;
        Some((u64::from_be_bytes(*id), u64::from_be_bytes(part.try_into().ok()?)))
    }

    pub(super) fn client(self, client: ClientId) -> Key {
        let mut out = self.table(CLIENTS, 16);
        out.extend_from_slice(&client.0);
        out
    }

    /// All documents, collection by collection.
    pub(super) fn documents(self) -> KeyRange {
        KeyRange::prefix(&self.table(DOCUMENTS, 0))
    }

    /// A document of a collection by its encoded id.
    pub(super) fn document_named(self, path: &CollectionPath, encoded_id: &[u8]) -> Key {
        let mut out = self.table(DOCUMENTS, path.as_str().len() + encoded_id.len() + 16);
        key::encode_collection(path, &mut out);
        out.extend_from_slice(encoded_id);
        out
    }

    /// What the automatic entries of a collection's documents begin with.
    pub(super) fn field_indexes(self, collection: &CollectionPath) -> Key {
        let mut out = self.table(FIELD_INDEXES, collection.as_str().len() + 80);
        key::encode_collection(collection, &mut out);
        out
    }

    /// What the automatic entries of a field begin with; the value follows, then the name.
    pub(super) fn field_index(
        self,
        collection: &CollectionPath,
        field: &FieldPath,
        kind: EntryKind,
    ) -> Key {
        let mut out = self.field_indexes(collection);
        key::encode_bytes(field.to_string().as_bytes(), &mut out);
        out.push(kind.byte());
        out
    }

    /// The automatic entries of a field and of all that is nested in it.
    pub(super) fn field_and_nested(
        self,
        collection: &CollectionPath,
        field: &FieldPath,
    ) -> KeyRange {
        let mut start = self.field_indexes(collection);
        start.extend_from_slice(field.to_string().as_bytes());
        let mut nested = start.clone();
        // After a path comes its end or a dot, and nothing else is between the two.
        start.extend_from_slice(&[0, 1]);
        nested.push(b'.');
        KeyRange { start, end: KeyRange::prefix(&nested).end }
    }

    /// Which index an entry belongs to.
    pub(super) fn entry_place(key: &[u8]) -> Result<EntryPlace, ModelError> {
        let malformed = || ModelError::invalid("the bytes are not the key of an index entry");
        let (prefix, rest) = key.split_at_checked(PREFIX_BYTES).ok_or_else(malformed)?;
        match prefix[PREFIX_BYTES - 1] {
            FIELD_INDEXES => {
                let (collection, rest) = key::decode_collection(rest)?;
                let field = FieldPath::parse(&key::decode_text(rest)?.0)?;
                Ok(EntryPlace::Field { collection, field })
            }
            COMPOSITES => {
                let id = rest.first_chunk().ok_or_else(malformed)?;
                Ok(EntryPlace::Composite(u32::from_be_bytes(*id)))
            }
            COLLECTIONS => Ok(EntryPlace::Collection),
            _ => Err(malformed()),
        }
    }

    /// What the entries of a declared index begin with, in one collection or, without one, in all.
    pub(super) fn composite(self, id: u32, collection: Option<&CollectionPath>) -> Key {
        let mut out = self.table(COMPOSITES, 4 + 80);
        out.extend_from_slice(&id.to_be_bytes());
        if let Some(collection) = collection {
            key::encode_collection(collection, &mut out);
        }
        out
    }

    /// The collections of an id, wherever they are, in which documents were written.
    pub(super) fn collections_of(self, collection_id: &str) -> KeyRange {
        KeyRange::prefix(&self.collections_prefix(collection_id))
    }

    fn collections_prefix(self, collection_id: &str) -> Key {
        let mut out = self.table(COLLECTIONS, 2 * collection_id.len() + 16);
        key::encode_bytes(collection_id.as_bytes(), &mut out);
        out
    }

    /// The entry of a collection among those of its id.
    pub(super) fn collection_entry(self, path: &CollectionPath) -> Key {
        let mut out = self.collections_prefix(path.id());
        key::encode_collection(path, &mut out);
        out
    }

    /// The collection of an entry of [`Keys::collections_of`].
    pub(super) fn collection_of(key: &[u8]) -> Result<CollectionPath, ModelError> {
        let (_, path) = key::decode_text(key.get(PREFIX_BYTES..).unwrap_or_default())?;
        Ok(key::decode_collection(path)?.0)
    }

    fn index_table(self, part: u8) -> Key {
        let mut out = self.table(INDEXES, 64);
        out.push(part);
        out
    }

    pub(super) fn index_state(self) -> Key {
        self.index_table(INDEX_STATE)
    }

    pub(super) fn composite_records(self) -> KeyRange {
        KeyRange::prefix(&self.index_table(COMPOSITE_RECORDS))
    }

    pub(super) fn composite_record(self, id: u32) -> Key {
        let mut out = self.index_table(COMPOSITE_RECORDS);
        out.extend_from_slice(&id.to_be_bytes());
        out
    }

    pub(super) fn setting_records(self) -> KeyRange {
        KeyRange::prefix(&self.index_table(SETTING_RECORDS))
    }

    /// The setting of a field and what is nested in it, or of all fields.
    pub(super) fn setting_record(self, collection_id: &str, field: Option<&FieldPath>) -> Key {
        let mut out = self.index_table(SETTING_RECORDS);
        key::encode_bytes(collection_id.as_bytes(), &mut out);
        // No field has this text: it would be in backticks.
        let text = field.map_or_else(|| "*".to_owned(), FieldPath::to_string);
        key::encode_bytes(text.as_bytes(), &mut out);
        out
    }

    /// The tables that hold index entries.
    pub(super) fn index_entries(self) -> [KeyRange; 3] {
        [FIELD_INDEXES, COMPOSITES, COLLECTIONS]
            .map(|table| KeyRange::prefix(&self.table(table, 0)))
    }
}
