//! Work in the background, one chunk at a time: the lane asks for the next chunk of what it has to
//! write, and writes it between two batches. A chunk carries its own progress, so a restart goes on
//! where the last one ended.

use std::sync::Arc;

use bytes::Bytes;
use tidemark_protocol::model::{CollectionPath, FieldPath, key};

use super::list::{EntryList, KeyWrite};
use super::set::{CollectionIndexes, Cursor, IndexSet, Job, Phase, Rule, Work, governing};
use crate::engine::commit::Stored;
use crate::engine::error::EngineError;
use crate::engine::keys::{EntryPlace, Keys};
use crate::store::{Key, KeyRange, MAX_TRANSACTION, PER_WRITE, ScanDirection, Snapshot};

/// What one chunk may read and write, so that commits wait for it only briefly.
const CHUNK_BYTES: usize = 1 << 20;
/// Entries that one chunk may look at, for each document that it may read.
const ROWS_PER_DOCUMENT: usize = 4;
/// Rows read at a time: each may be as large as a document.
const PAGE_ROWS: usize = 32;
/// Bytes of one transaction of a chunk; one document alone can have more entries than fit.
const TRANSACTION_BYTES: usize = MAX_TRANSACTION / 4;

/// A part of the work.
pub(in crate::engine) struct Chunk {
    /// To be committed in this order. Only the last moves the work on.
    pub(in crate::engine) transactions: Vec<Vec<KeyWrite>>,
    /// What is indexed when they are.
    pub(in crate::engine) indexes: IndexSet,
    /// Whether that makes a difference to readers.
    pub(in crate::engine) finishes: bool,
    pub(in crate::engine) entries: u64,
    pub(in crate::engine) documents: u64,
}

/// The next chunk of what is to be done; none if there is nothing.
pub(in crate::engine) async fn next_chunk(
    indexes: &IndexSet,
    snapshot: &Arc<dyn Snapshot>,
    keys: Keys,
    most_documents: usize,
) -> Result<Option<Chunk>, EngineError> {
    let Some((job, work)) = indexes.next_job() else { return Ok(None) };
    let mut chunk = Chunking::new(indexes, snapshot, keys, work, most_documents);
    let ended = match (&job, work.phase) {
        (Job::Base, Phase::Clear | Phase::Fill) => chunk.documents(&job, keys.documents()).await?,
        (Job::Composite { id, .. }, Phase::Clear) => {
            let range = KeyRange::prefix(&keys.composite(*id, None));
            chunk.clear(range, |_| Ok(true)).await?
        }
        (Job::Fields { collection_id, prefix }, Phase::Clear) => {
            chunk.clear_fields(collection_id, prefix.as_ref()).await?
        }
        (Job::Composite { collection_id, .. } | Job::Fields { collection_id, .. }, Phase::Fill) => {
            chunk.documents_of(&job, collection_id).await?
        }
    };
    let Chunking { writes, cursor, documents, .. } = chunk;
    let entries = writes.len() as u64;
    let done = if work.phase == Phase::Fill { documents } else { entries };
    let mut indexes = indexes.clone();
    let mut moved = work.clone();
    moved.cursor = cursor;
    moved.progress.done += done;
    let record = indexes.move_on(keys, &job, moved, ended);
    let transactions = divide(writes, record);
    Ok(Some(Chunk { transactions, indexes, finishes: ended, entries, documents }))
}

impl IndexSet {
    /// Sets how far a work has come. Returns what is to be stored for it.
    fn move_on(&mut self, keys: Keys, job: &Job, work: Work, ended: bool) -> Vec<KeyWrite> {
        match job {
            Job::Base => {
                self.base = (!ended).then_some(work);
                vec![self.state_write(keys)]
            }
            Job::Composite { collection_id, id } => {
                let is_gone = ended && work.phase == Phase::Clear;
                if is_gone {
                    let collection = self.collections.entry(collection_id.clone()).or_default();
                    collection.composites.retain(|composite| composite.id != *id);
                    return vec![(keys.composite_record(*id), None)];
                }
                let composite = self.composite_mut(collection_id, *id);
                let composite = composite.expect("the job was found in this set");
                composite.work = (!ended).then_some(work);
                vec![composite.write(keys)]
            }
            Job::Fields { collection_id, prefix } => {
                let setting = self.setting_mut(collection_id, prefix.as_ref());
                let setting = setting.expect("the job was found in this set");
                setting.work = match (ended, work.phase) {
                    (false, Phase::Clear | Phase::Fill) => Some(work),
                    (true, Phase::Clear) => setting.on.then(Work::filling),
                    (true, Phase::Fill) => None,
                };
                if setting.work.is_some() || setting.rule != Rule::Inherit {
                    return vec![setting.write(keys, collection_id)];
                }
                let key = setting.key(keys, collection_id);
                let collection = self.collections.entry(collection_id.clone()).or_default();
                collection.settings.retain(|setting| setting.prefix != *prefix);
                vec![(key, None)]
            }
        }
    }

    /// Notes how many documents a work will read.
    pub(in crate::engine) fn expect(&mut self, collection_id: Option<&str>, documents: u64) {
        let Some((job, _)) = self.next_job() else { return };
        if job.collection_id() != collection_id {
            return;
        }
        let work = match &job {
            Job::Base => self.base.as_mut(),
            Job::Composite { collection_id, id } => {
                self.composite_mut(collection_id, *id).and_then(|it| it.work.as_mut())
            }
            Job::Fields { collection_id, prefix } => self
                .setting_mut(collection_id, prefix.as_ref())
                .and_then(|setting| setting.work.as_mut()),
        };
        if let Some(work) = work {
            work.progress.about = documents;
        }
    }
}

impl Job {
    /// The id of the collections it is about; none: all.
    pub(super) fn collection_id(&self) -> Option<&str> {
        match self {
            Job::Base => None,
            Job::Composite { collection_id, .. } | Job::Fields { collection_id, .. } => {
                Some(collection_id)
            }
        }
    }
}

/// Divides what is to be written into transactions; the record goes with the last.
fn divide(writes: Vec<KeyWrite>, record: Vec<KeyWrite>) -> Vec<Vec<KeyWrite>> {
    let mut transactions = vec![vec![]];
    let mut bytes = 0;
    for write in writes.into_iter().chain(record) {
        bytes += write_bytes(&write);
        if bytes > TRANSACTION_BYTES {
            transactions.push(vec![]);
            bytes = write_bytes(&write);
        }
        transactions.last_mut().expect("there is always one").push(write);
    }
    transactions
}

/// What a write counts for in a transaction.
pub(in crate::engine) fn write_bytes((key, value): &KeyWrite) -> usize {
    key.len() + value.as_ref().map_or(0, Bytes::len) + PER_WRITE
}

/// A chunk while it is being made.
struct Chunking<'a> {
    indexes: &'a IndexSet,
    snapshot: &'a Arc<dyn Snapshot>,
    keys: Keys,
    cursor: Cursor,
    writes: Vec<KeyWrite>,
    /// The collection that was last put into the table of collections.
    collection: Option<CollectionPath>,
    rows: usize,
    documents: u64,
    most_documents: usize,
    bytes: usize,
}

impl<'a> Chunking<'a> {
    fn new(
        indexes: &'a IndexSet,
        snapshot: &'a Arc<dyn Snapshot>,
        keys: Keys,
        work: &Work,
        most_documents: usize,
    ) -> Chunking<'a> {
        Chunking {
            indexes,
            snapshot,
            keys,
            cursor: work.cursor.clone(),
            writes: Vec::new(),
            collection: None,
            rows: 0,
            documents: 0,
            most_documents,
            bytes: 0,
        }
    }

    fn is_full(&self) -> bool {
        self.rows >= self.most_documents * ROWS_PER_DOCUMENT
            || self.documents >= self.most_documents as u64
            || self.bytes >= CHUNK_BYTES
    }

    /// The next rows of a range; none at its end.
    async fn page(&self, range: &KeyRange) -> Result<Option<Vec<(Key, Bytes)>>, EngineError> {
        let mut rest = range.clone();
        if self.cursor.after >= rest.start {
            rest.go_past(&self.cursor.after, ScanDirection::Forward);
        }
        if rest.is_empty() {
            return Ok(None);
        }
        let rows = self.snapshot.scan(rest, ScanDirection::Forward, PAGE_ROWS).await?;
        Ok(if rows.is_empty() { None } else { Some(rows) })
    }

    /// Removes the entries of a range that are to go. True at its end.
    async fn clear(
        &mut self,
        range: KeyRange,
        goes: impl Fn(&Key) -> Result<bool, EngineError>,
    ) -> Result<bool, EngineError> {
        while let Some(rows) = self.page(&range).await? {
            for (key, _) in rows {
                if self.is_full() {
                    return Ok(false);
                }
                self.rows += 1;
                self.cursor.after.clone_from(&key);
                if goes(&key)? {
                    self.add((key, None));
                }
            }
        }
        Ok(true)
    }

    fn add(&mut self, write: KeyWrite) {
        self.bytes += write_bytes(&write);
        self.writes.push(write);
    }

    /// Removes the entries of the fields that one setting governs.
    async fn clear_fields(
        &mut self,
        collection_id: &str,
        prefix: Option<&FieldPath>,
    ) -> Result<bool, EngineError> {
        let (indexes, keys) = (self.indexes, self.keys);
        let settings = indexes.collections.get(collection_id).map_or(&[][..], |it| &it.settings);
        while let Some(collection) = self.collection_under_way(collection_id).await? {
            let range = match prefix {
                Some(prefix) => keys.field_and_nested(&collection, prefix),
                None => KeyRange::prefix(&keys.field_indexes(&collection)),
            };
            let goes = |key: &Key| {
                let place = Keys::entry_place(key).map_err(EngineError::corrupt)?;
                let EntryPlace::Field { field, .. } = place else { return Ok(false) };
                let setting = governing(settings, field.segments());
                Ok(setting.is_some_and(|setting| setting.prefix.as_ref() == prefix))
            };
            if !self.clear(range, goes).await? || !self.next_collection(collection_id).await? {
                return Ok(self.cursor.collection.is_empty());
            }
        }
        Ok(true)
    }

    /// Adds the entries of the documents in all collections of an id.
    async fn documents_of(&mut self, job: &Job, collection_id: &str) -> Result<bool, EngineError> {
        while let Some(collection) = self.collection_under_way(collection_id).await? {
            let range = self.keys.collection(&collection);
            if !self.documents(job, range).await? || !self.next_collection(collection_id).await? {
                return Ok(self.cursor.collection.is_empty());
            }
        }
        Ok(true)
    }

    /// Adds the entries of the documents of a range. True at its end.
    async fn documents(&mut self, job: &Job, range: KeyRange) -> Result<bool, EngineError> {
        while let Some(rows) = self.page(&range).await? {
            for (key, bytes) in rows {
                if self.is_full() {
                    return Ok(false);
                }
                self.rows += 1;
                self.documents += 1;
                self.bytes += bytes.len();
                self.cursor.after = key;
                self.document(job, &*Stored::decode(bytes)?);
            }
        }
        Ok(true)
    }

    fn document(&mut self, job: &Job, stored: &Stored) {
        let (document, keys) = (&stored.document, self.keys);
        // Not bounded: a document from before must be added however many entries it has.
        let limit = usize::MAX;
        let mut list = match job {
            Job::Base => {
                let collection = document.path.parent();
                if self.collection.as_ref() != Some(&collection) {
                    self.add((keys.collection_entry(&collection), Some(Bytes::new())));
                    self.collection = Some(collection);
                }
                self.indexes.automatic_entries(keys, document, limit)
            }
            Job::Composite { collection_id, id } => {
                let mut list = EntryList::new(limit);
                let collection = self.indexes.collections.get(collection_id);
                let composites = collection.into_iter().flat_map(CollectionIndexes::maintained);
                for composite in composites.filter(|composite| composite.id == *id) {
                    composite.entries(keys, document, &mut list);
                }
                list
            }
            Job::Fields { prefix, .. } => {
                self.indexes.entries_governed(keys, document, prefix.as_ref(), limit)
            }
        };
        list.tidy();
        list.entries.into_iter().for_each(|entry| self.add(entry.put()));
    }

    /// The collection that the cursor is in, at the beginning the first; none if there is none.
    async fn collection_under_way(
        &mut self,
        collection_id: &str,
    ) -> Result<Option<CollectionPath>, EngineError> {
        if self.cursor.collection.is_empty() && !self.next_collection(collection_id).await? {
            return Ok(None);
        }
        let (path, _) =
            key::decode_collection(&self.cursor.collection).map_err(EngineError::corrupt)?;
        Ok(Some(path))
    }

    /// Moves the cursor to the next collection of the id; false if there is none, or if this is
    /// enough for one chunk. The cursor is in no collection only if there is none.
    async fn next_collection(&mut self, collection_id: &str) -> Result<bool, EngineError> {
        let mut range = self.keys.collections_of(collection_id);
        let prefix = range.start.len();
        if !self.cursor.collection.is_empty() {
            let last = [range.start.as_slice(), &self.cursor.collection].concat();
            range.go_past(&last, ScanDirection::Forward);
        }
        let next = self.snapshot.scan(range, ScanDirection::Forward, 1).await?;
        self.cursor.collection = match next.into_iter().next() {
            Some((mut key, _)) => key.split_off(prefix),
            None => vec![],
        };
        self.rows += 1;
        Ok(!self.cursor.collection.is_empty() && !self.is_full())
    }
}
