//! A cache whose process and machine can die: what was to be durable survives, and of what came since
//! as much as chance wants, from the front.

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use tidemark_protocol::model::*;

use crate::cache::*;

/// What the disk has seen.
#[derive(Default)]
struct Disk {
    now: MemoryCache,
    batches: Vec<CacheBatch>,
    /// How many of them are on stable storage.
    durable: usize,
    /// Whether the next durable batch fails.
    fails: bool,
}

/// A cache over a disk that outlives it; clones share it.
#[derive(Clone, Default)]
pub(super) struct CrashCache {
    disk: Arc<Mutex<Disk>>,
}

impl CrashCache {
    /// With room for so many bytes, until a crash.
    pub(super) fn with_budget(budget: u64) -> CrashCache {
        let disk = Disk { now: MemoryCache::with_budget(budget), ..Disk::default() };
        CrashCache { disk: Arc::new(Mutex::new(disk)) }
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap()
    }

    /// Loses some of the batches that need not survive; `keep` says how many at most are kept.
    pub(super) fn crash(&self, keep: usize) {
        let mut disk = self.disk();
        let kept = disk.batches.len().min(disk.durable + keep);
        disk.batches.truncate(kept);
        let mut now = MemoryCache::new();
        for batch in disk.batches.clone() {
            now.apply(batch, Durability::Durable).unwrap();
        }
        disk.durable = kept;
        disk.now = now;
    }

    /// How many batches a crash may lose.
    pub(super) fn at_risk(&self) -> usize {
        let disk = self.disk();
        disk.batches.len() - disk.durable
    }

    /// The next durable batch is refused.
    pub(super) fn fail(&self) {
        self.disk().fails = true;
    }
}

impl Cache for CrashCache {
    fn metadata(&self) -> Result<Option<Metadata>, CacheError> {
        self.disk().now.metadata()
    }

    fn outbox(&self) -> Result<Vec<OutboxEntry>, CacheError> {
        self.disk().now.outbox()
    }

    fn rejected(&self) -> Result<Vec<RejectedEntry>, CacheError> {
        self.disk().now.rejected()
    }

    fn document(&self, path: &DocumentPath) -> Result<Known, CacheError> {
        self.disk().now.document(path)
    }

    fn target(&self, key: &Bytes) -> Result<Option<ResumeToken>, CacheError> {
        self.disk().now.target(key)
    }

    fn target_documents(&self, key: &Bytes) -> Result<Vec<Arc<Document>>, CacheError> {
        self.disk().now.target_documents(key)
    }

    fn targets(&self) -> Result<Vec<Bytes>, CacheError> {
        self.disk().now.targets()
    }

    fn find(
        &self,
        query: &Query,
        each: &mut dyn FnMut(Arc<Document>) -> ControlFlow<()>,
    ) -> Result<(), CacheError> {
        self.disk().now.find(query, each)
    }

    fn apply(&mut self, batch: CacheBatch, durability: Durability) -> Result<(), CacheError> {
        let mut disk = self.disk();
        if durability == Durability::Durable && std::mem::take(&mut disk.fails) {
            return Err(CacheError::Failed("the disk is full".to_owned()));
        }
        disk.now.apply(batch.clone(), durability)?;
        disk.batches.push(batch);
        if durability == Durability::Durable {
            disk.durable = disk.batches.len();
        }
        Ok(())
    }

    fn size(&self) -> u64 {
        self.disk().now.size()
    }

    fn budget(&self) -> u64 {
        self.disk().now.budget()
    }

    fn collect(&mut self, keep: Keep<'_>, budget: u64) -> Result<(), CacheError> {
        self.disk().now.collect(keep, budget)
    }

    fn clear(&mut self) -> Result<(), CacheError> {
        self.disk().now.clear()
    }
}
