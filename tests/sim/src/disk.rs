//! A client's cache on a virtual disk. What was applied durably survives a crash; of what was applied
//! since, a beginning does. The engine drives it through the `Cache` trait; the world crashes it.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tidemark_core::cache::{
    Cache, CacheBatch, CacheError, Durability, Keep, Known, MemoryCache, Metadata, OutboxEntry,
    RejectedEntry,
};
use tidemark_protocol::model::{Document, DocumentPath, Query, ResumeToken};

use crate::mutation::Mutation;

/// Something that was done to the disk.
#[derive(Clone)]
enum Change {
    Apply(CacheBatch),
    Collect { targets: BTreeSet<Bytes>, documents: BTreeSet<DocumentPath>, budget: u64 },
    Clear,
}

#[derive(Default)]
struct Platters {
    changes: Vec<Change>,
    /// How many of them are safe.
    safe: usize,
    /// Bytes there may be; none at all just after an eviction was asked for.
    budget: u64,
    evict: bool,
    /// How large the cache is.
    size: u64,
}

/// A virtual disk; survives the process of the client. Clones are the same disk.
#[derive(Clone)]
pub struct ClientDisk {
    platters: Arc<Mutex<Platters>>,
    mutation: Option<Mutation>,
}

impl ClientDisk {
    /// An empty disk for a cache of this budget.
    pub fn new(budget: u64, mutation: Option<Mutation>) -> ClientDisk {
        let platters = Platters { budget, ..Platters::default() };
        ClientDisk { platters: Arc::new(Mutex::new(platters)), mutation }
    }

    fn lock(&self) -> MutexGuard<'_, Platters> {
        self.platters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The cache as the disk has it.
    pub fn open(&self) -> DiskCache {
        let (changes, budget) = {
            let platters = self.lock();
            (platters.changes.clone(), platters.budget)
        };
        let mut memory = MemoryCache::with_budget(budget);
        for change in changes {
            // What could be applied once can be applied again.
            let _ = match change {
                Change::Apply(batch) => memory.apply(batch, Durability::Soon),
                Change::Collect { targets, documents, budget } => {
                    memory.collect(Keep { targets: &targets, documents: &documents }, budget)
                }
                Change::Clear => memory.clear(),
            };
        }
        DiskCache { memory, disk: self.clone() }
    }

    /// The process dies: of what is not safe, the last so many batches are lost.
    pub fn crash(&self, lost: u8) {
        let mut platters = self.lock();
        let kept = platters.changes.len().saturating_sub(usize::from(lost)).max(platters.safe);
        platters.changes.truncate(kept);
        platters.safe = kept;
    }

    /// The next look at the budget finds none.
    pub fn evict(&self) {
        self.lock().evict = true;
    }

    /// How large the cache is, and how large it should be at most.
    pub fn size_and_budget(&self) -> (u64, u64) {
        let platters = self.lock();
        (platters.size, platters.budget)
    }

    fn add(&self, change: Change, durability: Durability) {
        let mut platters = self.lock();
        platters.changes.push(change);
        if durability == Durability::Durable {
            platters.safe = platters.changes.len();
        }
    }
}

/// A cache on a [`ClientDisk`].
pub struct DiskCache {
    memory: MemoryCache,
    disk: ClientDisk,
}

impl Cache for DiskCache {
    fn metadata(&self) -> Result<Option<Metadata>, CacheError> {
        self.memory.metadata()
    }

    fn outbox(&self) -> Result<Vec<OutboxEntry>, CacheError> {
        self.memory.outbox()
    }

    fn rejected(&self) -> Result<Vec<RejectedEntry>, CacheError> {
        self.memory.rejected()
    }

    fn document(&self, path: &DocumentPath) -> Result<Known, CacheError> {
        self.memory.document(path)
    }

    fn target(&self, key: &Bytes) -> Result<Option<ResumeToken>, CacheError> {
        self.memory.target(key)
    }

    fn target_documents(&self, key: &Bytes) -> Result<Vec<Arc<Document>>, CacheError> {
        let mut found = self.memory.target_documents(key)?;
        // "In any order" is the same order in every run.
        found.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(found)
    }

    fn targets(&self) -> Result<Vec<Bytes>, CacheError> {
        let mut found = self.memory.targets()?;
        found.sort();
        Ok(found)
    }

    fn find(
        &self,
        query: &Query,
        each: &mut dyn FnMut(Arc<Document>) -> ControlFlow<()>,
    ) -> Result<(), CacheError> {
        self.memory.find(query, each)
    }

    fn apply(&mut self, batch: CacheBatch, durability: Durability) -> Result<(), CacheError> {
        self.memory.apply(batch.clone(), durability)?;
        let durability = match self.disk.mutation {
            // A disk that says that it has synced and has not.
            Some(Mutation::DiskForgetsDurable) => Durability::Soon,
            _ => durability,
        };
        self.disk.lock().size = self.memory.size();
        self.disk.add(Change::Apply(batch), durability);
        Ok(())
    }

    fn size(&self) -> u64 {
        self.memory.size()
    }

    fn budget(&self) -> u64 {
        if self.disk.lock().evict { 0 } else { self.memory.budget() }
    }

    fn collect(&mut self, keep: Keep<'_>, budget: u64) -> Result<(), CacheError> {
        let (targets, documents) = (keep.targets.clone(), keep.documents.clone());
        if self.disk.mutation == Some(Mutation::NothingCollected) {
            return Ok(());
        }
        self.memory.collect(keep, budget)?;
        {
            let mut platters = self.disk.lock();
            platters.evict = false;
            platters.size = self.memory.size();
        }
        self.disk.add(Change::Collect { targets, documents, budget }, Durability::Soon);
        Ok(())
    }

    fn clear(&mut self) -> Result<(), CacheError> {
        self.memory.clear()?;
        self.disk.add(Change::Clear, Durability::Durable);
        Ok(())
    }
}
