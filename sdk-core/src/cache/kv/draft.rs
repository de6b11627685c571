//! A batch of the cache on its way to becoming one of the store: it is worked out against what the
//! store has and what it has changed so far, and its end adds what follows from it: index entries,
//! and counters.

use std::collections::BTreeMap;
use std::sync::Arc;

use tidemark_protocol::model::{Document, DocumentPath};

use super::find::Indexes;
use super::layout::{self, Kind};
use super::records::{self, DocumentRecord, State, TargetRecord};
use super::store::{KvBatch, KvRead, Pair, prefixed};
use crate::cache::index::{Entries, entries};
use crate::cache::{CacheBatch, CacheError, TargetChange};

/// See the module.
pub(super) struct Draft<'a> {
    read: &'a dyn KvRead,
    indexes: &'a Indexes,
    state: State,
    changes: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
}

impl<'a> Draft<'a> {
    pub(super) fn new(read: &'a dyn KvRead, indexes: &'a Indexes, state: State) -> Draft<'a> {
        let state = State { now: state.now + 1, ..state };
        Draft { read, indexes, state, changes: BTreeMap::new() }
    }

    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, CacheError> {
        match self.changes.get(key) {
            Some(change) => Ok(change.clone()),
            None => self.read.get(key),
        }
    }

    pub(super) fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.changes.insert(key, Some(value));
    }

    pub(super) fn remove(&mut self, key: Vec<u8>) {
        self.changes.insert(key, None);
    }

    /// All keys that begin with `prefix`, with their values.
    pub(super) fn prefixed(&self, prefix: &[u8]) -> Result<Vec<Pair>, CacheError> {
        let mut found: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
        for pair in prefixed(self.read, prefix)? {
            let (key, value) = pair?;
            found.insert(key, value);
        }
        let changes = self.changes.range(prefix.to_vec()..);
        for (key, change) in changes.take_while(|(key, _)| key.starts_with(prefix)) {
            match change {
                Some(value) => found.insert(key.clone(), value.clone()),
                None => found.remove(key),
            };
        }
        Ok(found.into_iter().collect())
    }

    /// Removes all keys that begin with `prefix`.
    pub(super) fn remove_prefixed(&mut self, prefix: &[u8]) -> Result<(), CacheError> {
        for (key, _) in self.prefixed(prefix)? {
            self.remove(key);
        }
        Ok(())
    }

    /// Notes when documents were read, if they are still there.
    pub(super) fn note_uses(&mut self, uses: Vec<(Vec<u8>, u64)>) -> Result<(), CacheError> {
        for (document, at) in uses {
            if self.get(&document)?.is_some() {
                self.put(layout::usage(&document), at.to_be_bytes().to_vec());
            }
        }
        Ok(())
    }

    pub(super) fn apply(&mut self, batch: CacheBatch) -> Result<(), CacheError> {
        for (path, known) in batch.documents {
            let key = layout::document(&path);
            match DocumentRecord::encode(&known, self.state.now) {
                Some(record) => self.put(key, record),
                None => self.forget(key),
            }
        }
        for change in batch.targets {
            self.change_target(change)?;
        }
        for entry in batch.outbox_put {
            self.put(layout::outbox(entry.id), records::encode_outbox(&entry));
        }
        for id in batch.outbox_remove {
            self.remove(layout::outbox(id));
        }
        for entry in batch.rejected_put {
            self.put(layout::rejected(entry.id), records::encode_rejected(&entry));
        }
        for id in batch.rejected_remove {
            self.remove(layout::rejected(id));
        }
        if let Some(metadata) = batch.metadata {
            self.put(layout::metadata(), records::encode_metadata(&metadata));
        }
        Ok(())
    }

    /// Forgets the document of this key.
    pub(super) fn forget(&mut self, document: Vec<u8>) {
        self.remove(layout::usage(&document));
        self.remove(document);
    }

    fn target(&self, key: &[u8]) -> Result<Option<TargetRecord>, CacheError> {
        let record = self.get(&layout::target(key))?;
        record.map(|record| TargetRecord::decode(&record)).transpose()
    }

    fn change_target(&mut self, change: TargetChange) -> Result<(), CacheError> {
        match change {
            TargetChange::Put { key, token } => {
                let id = match self.target(&key)? {
                    Some(record) => record.id,
                    None => {
                        self.state.next_target += 1;
                        self.state.next_target
                    }
                };
                let record = TargetRecord { id, stored: self.state.now, token };
                self.put(layout::target(&key), record.encode());
            }
            TargetChange::Members { key, documents } => {
                let Some(target) = self.target(&key)? else { return Ok(()) };
                for (path, inside) in documents {
                    self.change_member(target.id, &path, inside)?;
                }
            }
            TargetChange::Clear { key } => {
                let Some(target) = self.target(&key)? else { return Ok(()) };
                self.remove_prefixed(&layout::members(target.id))?;
            }
            TargetChange::Remove { key } => self.remove_target(&key)?,
        }
        Ok(())
    }

    fn change_member(
        &mut self,
        target: u32,
        path: &DocumentPath,
        inside: bool,
    ) -> Result<(), CacheError> {
        let key = layout::member(target, &layout::document(path));
        let was_inside = self.get(&key)?.is_some();
        match (was_inside, inside) {
            (false, true) => self.put(key, Vec::new()),
            (true, false) => self.remove(key),
            (true, true) | (false, false) => {}
        }
        Ok(())
    }

    /// `key`: the target's own.
    pub(super) fn remove_target(&mut self, key: &[u8]) -> Result<(), CacheError> {
        let Some(target) = self.target(key)? else { return Ok(()) };
        self.remove_prefixed(&layout::members(target.id))?;
        self.remove(layout::target(key));
        Ok(())
    }

    pub(super) fn remove_index(&mut self, number: u32) -> Result<(), CacheError> {
        self.remove_prefixed(&layout::entries(number))?;
        self.remove(layout::index(number));
        Ok(())
    }

    pub(super) fn clear(&mut self) -> Result<(), CacheError> {
        let kinds =
            [Kind::Document, Kind::Index, Kind::Member, Kind::Target, Kind::Use, Kind::Entry];
        for kind in kinds {
            self.remove_prefixed(&[kind.byte()])?;
        }
        Ok(())
    }

    /// The changes of the store, and the counters after them.
    pub(super) fn finish(mut self) -> Result<(KvBatch, State), CacheError> {
        self.maintain_indexes()?;
        let mut bytes = self.state.bytes;
        for (key, change) in self.changes.iter().filter(|(key, _)| layout::counts(key[0])) {
            let size = |value: &Vec<u8>| (key.len() + value.len()) as u64;
            let was = self.read.get(key)?.as_ref().map_or(0, size);
            bytes = (bytes + change.as_ref().map_or(0, size)).saturating_sub(was);
        }
        self.state.bytes = bytes;
        self.put(layout::state(), self.state.encode());
        Ok((self.changes.into_iter().collect(), self.state))
    }

    /// Brings the entries of the documents that have changed up to date.
    fn maintain_indexes(&mut self) -> Result<(), CacheError> {
        let keeps = |index: u32| self.changes.get(&layout::index(index)) != Some(&None);
        let indexes: Vec<_> = self.indexes.iter().filter(|index| keeps(index.number)).collect();
        if indexes.is_empty() {
            return Ok(());
        }
        let documents = [Kind::Document.byte()];
        let changed: Vec<(Vec<u8>, Option<Vec<u8>>)> = self
            .changes
            .range(documents.to_vec()..)
            .take_while(|(key, _)| key.starts_with(&documents))
            .map(|(key, change)| (key.clone(), change.clone()))
            .collect();
        for (key, change) in changed {
            let document = |record: Option<Vec<u8>>| match record {
                Some(record) => DocumentRecord::decode(record)?.document(),
                None => Ok(None),
            };
            let (before, after) = (document(self.read.get(&key)?)?, document(change)?);
            for index in &indexes {
                let of = |document: &Option<Arc<Document>>| match document {
                    Some(document) => entries(&index.definition, document),
                    None => Entries::default(),
                };
                self.change_entries(index.number, &key, &of(&before), &of(&after));
            }
        }
        Ok(())
    }

    /// Replaces what a document has in an index. `document`: its key.
    pub(super) fn change_entries(
        &mut self,
        index: u32,
        document: &[u8],
        before: &Entries,
        after: &Entries,
    ) {
        let ordered = |key: &[u8]| [&layout::ordered_entries(index), key].concat();
        for key in before.keys.difference(&after.keys) {
            self.remove(ordered(key));
        }
        for key in after.keys.difference(&before.keys) {
            self.put(ordered(key), document.to_vec());
        }
        let long = [&layout::long_entries(index), document].concat();
        match (before.long, after.long) {
            (false, true) => self.put(long, document.to_vec()),
            (true, false) => self.remove(long),
            (true, true) | (false, false) => {}
        }
    }
}
