//! The layout of a database in the store. All keys begin with the database's number, then a table:
//!
//! | table | key | value |
//! |---|---|---|
//! | `m` | | [`MetaRecord`](super::records::MetaRecord) |
//! | `d` | document path | encoded document |
//! | `l` | commit version | [`LogRecord`](super::records::LogRecord) |
//! | `c` | client id | [`ClientRecord`](super::records::ClientRecord) |
//!
//! Number 0 is the catalog, which maps names to numbers. Encodings preserve order, so a collection
//! is one range and so is a stretch of the log.

use tidemark_protocol::model::{ClientId, CollectionPath, DocumentPath, Version, key};

use crate::store::{Key, KeyRange};

const META: u8 = b'm';
const DOCUMENTS: u8 = b'd';
const LOG: u8 = b'l';
const CLIENTS: u8 = b'c';
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

/// The keys of one database.
#[derive(Clone, Copy, Debug)]
pub(super) struct Keys {
    database: u32,
}

impl Keys {
    pub(super) fn new(database: u32) -> Keys {
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

    pub(super) fn client(self, client: ClientId) -> Key {
        let mut out = self.table(CLIENTS, 16);
        out.extend_from_slice(&client.0);
        out
    }
}
