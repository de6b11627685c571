//! A cache over any ordered store of keys and values: [`KvCache`]. A store needs to know nothing but
//! bytes; `layout` says what the keys are, `records` what the values are, `draft` turns a batch into
//! changes of the store, `find` answers queries, `migrate` brings what an earlier release stored up
//! to date.

mod draft;
mod find;
mod garbage;
mod layout;
mod migrate;
mod records;
mod store;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use tidemark_protocol::model::{Document, DocumentPath, Query, ResumeToken};

pub use store::{KvBatch, KvChange, KvRead, KvStore, MemoryStore, Pair};

use super::index::SHARE;
use super::{
    Cache, CacheBatch, CacheError, Durability, Keep, Known, Metadata, OutboxEntry, RejectedEntry,
};
use draft::Draft;
use find::Indexes;
use layout::Kind;
use records::{DocumentRecord, State, TargetRecord};

/// How many documents that were read are remembered as used until that is noted, and how many are noted
/// by one batch.
const USES: usize = 20_000;
const NOTED_USES: usize = 256;

/// A cache over a store.
pub struct KvCache<S> {
    store: S,
    budget: u64,
    state: Cell<State>,
    indexes: RefCell<Indexes>,
    /// Documents that were read since they were last noted as used, by their keys; and when.
    uses: RefCell<HashMap<Vec<u8>, u64>>,
}

impl<S: KvStore> KvCache<S> {
    /// The cache that a store has; an empty store has an empty one. `budget`: how many bytes it
    /// should hold at most.
    ///
    /// # Errors
    /// If a later release stored it, or it is damaged.
    pub fn open(store: S, budget: u64) -> Result<KvCache<S>, CacheError> {
        migrate::migrate(&store)?;
        let (state, indexes) = {
            let read = store.read()?;
            let state = read.get(&layout::state())?;
            let state = state.map(|record| State::decode(&record)).transpose()?;
            (state.unwrap_or_default(), Indexes::load(&*read)?)
        };
        let (state, indexes) = (Cell::new(state), RefCell::new(indexes));
        Ok(KvCache { store, budget, state, indexes, uses: RefCell::default() })
    }

    /// The store.
    pub fn store(&self) -> &S {
        &self.store
    }

    /// Writes what a draft has changed.
    fn write(
        &mut self,
        work: impl FnOnce(&mut Draft<'_>) -> Result<(), CacheError>,
        durability: Durability,
    ) -> Result<(), CacheError> {
        let (batch, state) = {
            let read = self.store.read()?;
            let indexes = self.indexes.borrow();
            let mut draft = Draft::new(&*read, &indexes, self.state.get());
            work(&mut draft)?;
            draft.finish()?
        };
        self.store.write(batch, durability)?;
        self.state.set(state);
        Ok(())
    }

    fn use_document(&self, key: Vec<u8>) {
        if self.uses.borrow().len() >= USES {
            return;
        }
        self.uses.borrow_mut().insert(key, self.state.get().now);
    }

    /// Some of the documents that were read and are not noted as used yet.
    fn take_uses(&self, limit: usize) -> Vec<(Vec<u8>, u64)> {
        let mut uses = self.uses.borrow_mut();
        if uses.len() <= limit {
            return uses.drain().collect();
        }
        let some: Vec<Vec<u8>> = uses.keys().take(limit).cloned().collect();
        some.into_iter().filter_map(|key| uses.remove_entry(&key)).collect()
    }
}

impl<S: KvStore> Cache for KvCache<S> {
    fn metadata(&self) -> Result<Option<Metadata>, CacheError> {
        let record = self.store.read()?.get(&layout::metadata())?;
        record.map(|record| records::decode_metadata(&record)).transpose()
    }

    fn outbox(&self) -> Result<Vec<OutboxEntry>, CacheError> {
        let read = self.store.read()?;
        let entries = store::prefixed(&*read, &[Kind::Outbox.byte()])?;
        entries.map(|pair| records::decode_outbox(&pair?.1)).collect()
    }

    fn rejected(&self) -> Result<Vec<RejectedEntry>, CacheError> {
        let read = self.store.read()?;
        let entries = store::prefixed(&*read, &[Kind::Rejected.byte()])?;
        entries.map(|pair| records::decode_rejected(&pair?.1)).collect()
    }

    fn document(&self, path: &DocumentPath) -> Result<Known, CacheError> {
        let key = layout::document(path);
        let Some(record) = self.store.read()?.get(&key)? else { return Ok(Known::Unknown) };
        self.use_document(key);
        DocumentRecord::decode(record)?.known()
    }

    fn target(&self, key: &Bytes) -> Result<Option<ResumeToken>, CacheError> {
        let record = self.store.read()?.get(&layout::target(key))?;
        let record = record.map(|record| TargetRecord::decode(&record)).transpose()?;
        Ok(record.and_then(|record| record.token))
    }

    fn target_documents(&self, key: &Bytes) -> Result<Vec<Arc<Document>>, CacheError> {
        let read = self.store.read()?;
        let Some(record) = read.get(&layout::target(key))? else { return Ok(Vec::new()) };
        let prefix = layout::members(TargetRecord::decode(&record)?.id);
        let mut documents = Vec::new();
        for pair in store::prefixed(&*read, &prefix)? {
            let (member, _) = pair?;
            let document = layout::document_of_member(&member);
            let Some(record) = read.get(&document)? else { continue };
            documents.extend(DocumentRecord::decode(record)?.known()?.into_document());
        }
        Ok(documents)
    }

    fn targets(&self) -> Result<Vec<Bytes>, CacheError> {
        let read = self.store.read()?;
        let targets = store::prefixed(&*read, &[Kind::Target.byte()])?;
        targets.map(|pair| Ok(Bytes::from(pair?.0).slice(1..))).collect()
    }

    fn find(
        &self,
        query: &Query,
        each: &mut dyn FnMut(Arc<Document>) -> ControlFlow<()>,
    ) -> Result<(), CacheError> {
        find::find(self, query, each)
    }

    fn apply(&mut self, batch: CacheBatch, durability: Durability) -> Result<(), CacheError> {
        if batch.is_empty() && durability == Durability::Soon {
            return Ok(());
        }
        let uses = match durability {
            Durability::Durable => Vec::new(),
            Durability::Soon => self.take_uses(NOTED_USES),
        };
        let work = |draft: &mut Draft<'_>| {
            draft.note_uses(uses)?;
            draft.apply(batch)
        };
        self.write(work, durability)
    }

    fn size(&self) -> u64 {
        self.state.get().bytes
    }

    fn budget(&self) -> u64 {
        self.budget
    }

    fn collect(&mut self, keep: Keep<'_>, budget: u64) -> Result<(), CacheError> {
        if self.size() <= budget {
            return Ok(());
        }
        let (surplus, freed) =
            self.indexes.borrow().surplus(&*self.store.read()?, budget / SHARE)?;
        let excess = self.size().saturating_sub(freed).saturating_sub(budget);
        let uses = self.take_uses(usize::MAX);
        let work = |draft: &mut Draft<'_>| {
            surplus.iter().try_for_each(|number| draft.remove_index(*number))?;
            draft.note_uses(uses)?;
            garbage::drop_unused(draft, keep, excess)
        };
        self.write(work, Durability::Soon)?;
        self.indexes.get_mut().remove(&surplus);
        Ok(())
    }

    fn clear(&mut self) -> Result<(), CacheError> {
        self.uses.borrow_mut().clear();
        let work = |draft: &mut Draft<'_>| {
            draft.clear()?;
            Ok(())
        };
        self.write(work, Durability::Durable)?;
        self.indexes.replace(Indexes::default());
        self.store.shrink()
    }
}

#[cfg(test)]
mod tests {
    use super::{KvCache, MemoryStore};

    #[test]
    fn conforms() {
        crate::cache::conformance::check(&mut |budget| {
            Box::new(KvCache::open(MemoryStore::new(), budget).expect("an empty store is a cache"))
        });
    }
}
