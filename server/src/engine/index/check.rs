//! Compares the indexes with what the documents say: for tests, and for an administrator who
//! doubts a database.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::list::KeyWrite;
use super::set::{IndexSet, governing};
use crate::engine::Database;
use crate::engine::commit::Stored;
use crate::engine::error::EngineError;
use crate::engine::keys::{EntryPlace, Keys};
use crate::store::{Key, KeyRange, ScanDirection, Snapshot};

/// Rows read at a time.
const PAGE_ROWS: usize = 256;

/// How indexes and documents agree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IndexCheck {
    /// Entries that the documents have, in indexes that are complete.
    pub entries: u64,
    /// Entries that are missing, or have a wrong value.
    pub missing: u64,
    /// Entries that no document has.
    pub unexpected: u64,
    /// Some of the keys that are wrong.
    pub examples: Vec<String>,
}

impl IndexCheck {
    /// Whether nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.missing == 0 && self.unexpected == 0
    }

    fn example(&mut self, what: &str, key: &[u8]) {
        const EXAMPLES: usize = 5;
        if self.examples.len() < EXAMPLES {
            self.examples.push(format!("{what} {}", key.escape_ascii()));
        }
    }
}

impl Database {
    /// Works out all entries from the documents of one snapshot and compares them with the stored
    /// ones. What is being built or removed is left out. Keeps all entries in memory.
    pub async fn check_indexes(&self) -> Result<IndexCheck, EngineError> {
        let (published, keys) = (self.shared.published(), self.shared.keys);
        let (snapshot, indexes) = (&*published.snapshot, &*published.indexes);
        let mut expected = BTreeMap::new();
        let mut documents = Pages::new(snapshot, keys.documents());
        while let Some(rows) = documents.next().await? {
            for (_, bytes) in rows {
                let stored = Stored::decode(bytes)?;
                expected.extend(all_entries(indexes, keys, &stored));
            }
        }
        let mut check = IndexCheck { entries: expected.len() as u64, ..IndexCheck::default() };
        for table in keys.index_entries() {
            let mut entries = Pages::new(snapshot, table);
            while let Some(rows) = entries.next().await? {
                for (key, value) in rows {
                    compare(indexes, &mut expected, &mut check, &key, &value)?;
                }
            }
        }
        check.missing += expected.len() as u64;
        expected.keys().for_each(|key| check.example("missing", key));
        Ok(check)
    }
}

/// The entries of a document in the indexes that are complete.
fn all_entries(indexes: &IndexSet, keys: Keys, stored: &Stored) -> Vec<(Key, Option<Bytes>)> {
    let document = &stored.document;
    let mut writes: Vec<KeyWrite> = Vec::new();
    // The bound is for commits; here memory is asked for anyway.
    let changed =
        indexes.change(keys, &document.path, None, Some(document), usize::MAX, &mut writes);
    changed.expect("there is no bound");
    if indexes.collections_are_known() {
        writes.push((keys.collection_entry(&document.path.parent()), Some(Bytes::new())));
    }
    let is_complete = |(key, _): &KeyWrite| is_complete(indexes, key).unwrap_or(true);
    writes.retain(is_complete);
    writes
}

/// Whether the index that a key belongs to is complete, or gone.
fn is_complete(indexes: &IndexSet, key: &[u8]) -> Result<bool, EngineError> {
    match Keys::entry_place(key).map_err(EngineError::corrupt)? {
        EntryPlace::Field { collection, field } => {
            let collection = indexes.collections.get(collection.id());
            let setting = collection.and_then(|it| governing(&it.settings, field.segments()));
            Ok(indexes.base.is_none() && setting.is_none_or(|setting| setting.work.is_none()))
        }
        EntryPlace::Composite(id) => {
            let composite = indexes.all_composites().find(|composite| composite.id == id);
            Ok(composite.is_none_or(|composite| composite.work.is_none()))
        }
        EntryPlace::Collection => Ok(indexes.base.is_none()),
    }
}

/// Strikes a stored entry off those that are expected.
fn compare(
    indexes: &IndexSet,
    expected: &mut BTreeMap<Key, Option<Bytes>>,
    check: &mut IndexCheck,
    key: &Key,
    value: &Bytes,
) -> Result<(), EngineError> {
    match expected.remove(key) {
        Some(Some(other)) if other == *value => {}
        Some(_) => {
            check.missing += 1;
            check.example("wrong value", key);
        }
        None if is_collection_entry(key) || !is_complete(indexes, key)? => {}
        None => {
            check.unexpected += 1;
            check.example("unexpected", key);
        }
    }
    Ok(())
}

/// Collections stay in their table when their last document goes.
fn is_collection_entry(key: &[u8]) -> bool {
    matches!(Keys::entry_place(key), Ok(EntryPlace::Collection))
}

/// The rows of a range, page by page.
struct Pages<'a> {
    snapshot: &'a dyn Snapshot,
    rest: KeyRange,
}

impl<'a> Pages<'a> {
    fn new(snapshot: &'a dyn Snapshot, rest: KeyRange) -> Pages<'a> {
        Pages { snapshot, rest }
    }

    async fn next(&mut self) -> Result<Option<Vec<(Key, Bytes)>>, EngineError> {
        let range = self.rest.clone();
        let rows = self.snapshot.scan(range, ScanDirection::Forward, PAGE_ROWS).await?;
        let Some((last, _)) = rows.last() else { return Ok(None) };
        self.rest.go_past(last, ScanDirection::Forward);
        Ok(Some(rows))
    }
}
