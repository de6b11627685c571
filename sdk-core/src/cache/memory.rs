//! A cache in memory: as good as any until the process ends. It keeps documents as they are, so that
//! what it is asked for costs no decoding; the engine is its only user.

mod indexes;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use tidemark_protocol::model::{Document, DocumentPath, Matcher, Query, ResumeToken, WriteId};

use super::collect::{Candidate, CandidateTarget, select};
use super::index::{Access, SHARE, Scan, WORTHWHILE, plan};
use super::merge::{Stream, merge, sorted};
use indexes::Indexes;

use super::{
    Cache, CacheBatch, CacheError, Durability, Keep, Known, Metadata, OutboxEntry, RejectedEntry,
    TargetChange,
};

/// The budget of a cache that was given none.
const BUDGET: u64 = 64 << 20;
/// What a document costs besides its contents, about: its slot, and its place in a target.
const OVERHEAD: u64 = 128;

struct Kept {
    known: Known,
    bytes: u64,
    /// When it was stored or read last, by the count of batches.
    used: Cell<u64>,
}

#[derive(Default)]
struct KeptTarget {
    token: Option<ResumeToken>,
    members: HashSet<DocumentPath>,
    /// When it was stored last.
    used: u64,
}

/// See the module.
pub struct MemoryCache {
    documents: HashMap<DocumentPath, Kept>,
    targets: HashMap<Bytes, KeptTarget>,
    outbox: BTreeMap<WriteId, OutboxEntry>,
    rejected: BTreeMap<WriteId, RejectedEntry>,
    metadata: Option<Metadata>,
    /// Of all documents, without indexes.
    bytes: u64,
    budget: u64,
    /// Counts batches.
    now: u64,
    indexes: RefCell<Indexes>,
}

impl Default for MemoryCache {
    fn default() -> MemoryCache {
        MemoryCache::new()
    }
}

impl MemoryCache {
    /// An empty cache with room for 64 MiB.
    pub fn new() -> MemoryCache {
        MemoryCache::with_budget(BUDGET)
    }

    /// An empty cache with room for this many bytes.
    pub fn with_budget(budget: u64) -> MemoryCache {
        MemoryCache {
            documents: HashMap::new(),
            targets: HashMap::new(),
            outbox: BTreeMap::new(),
            rejected: BTreeMap::new(),
            metadata: None,
            bytes: 0,
            budget,
            now: 0,
            indexes: RefCell::default(),
        }
    }

    fn put(&mut self, path: DocumentPath, known: Known) {
        let content = match &known {
            Known::Unknown => return self.forget(&path),
            Known::Missing { .. } => 0,
            Known::Document(document) => size_of(document),
        };
        let bytes = content + path.as_str().len() as u64 + OVERHEAD;
        let kept = Kept { known, bytes, used: Cell::new(self.now) };
        self.bytes += bytes;
        let indexes = self.indexes.get_mut();
        if indexes.is_empty() {
            if let Some(former) = self.documents.insert(path, kept) {
                self.bytes -= former.bytes;
            }
            return;
        }
        let after = document_of(&kept).cloned();
        let former = self.documents.insert(path.clone(), kept);
        indexes.change(&path, former.as_ref().and_then(document_of), after.as_ref());
        self.bytes -= former.map_or(0, |former| former.bytes);
    }

    fn forget(&mut self, path: &DocumentPath) {
        if let Some(kept) = self.documents.remove(path) {
            self.bytes -= kept.bytes;
            self.indexes.get_mut().change(path, document_of(&kept), None);
        }
    }

    fn all_documents(&self) -> impl Iterator<Item = &Arc<Document>> {
        self.documents.values().filter_map(document_of)
    }

    fn change_target(&mut self, change: TargetChange) {
        match change {
            TargetChange::Put { key, token } => {
                let target = self.targets.entry(key).or_default();
                target.token = token;
                target.used = self.now;
            }
            TargetChange::Members { key, documents } => {
                let Some(target) = self.targets.get_mut(&key) else { return };
                target.used = self.now;
                for (path, inside) in documents {
                    if inside {
                        target.members.insert(path);
                    } else {
                        target.members.remove(&path);
                    }
                }
            }
            TargetChange::Clear { key } => {
                if let Some(target) = self.targets.get_mut(&key) {
                    target.members.clear();
                }
            }
            TargetChange::Remove { key } => {
                self.targets.remove(&key);
            }
        }
    }

    fn pending_paths(&self) -> HashSet<DocumentPath> {
        let outbox = self.outbox.values().map(|entry| &entry.writes);
        let rejected = self.rejected.values().map(|entry| &entry.writes);
        let writes = outbox.chain(rejected).flat_map(|writes| writes.iter());
        writes.map(|write| write.path.clone()).collect()
    }
}

impl Cache for MemoryCache {
    fn metadata(&self) -> Result<Option<Metadata>, CacheError> {
        Ok(self.metadata)
    }

    fn outbox(&self) -> Result<Vec<OutboxEntry>, CacheError> {
        Ok(self.outbox.values().cloned().collect())
    }

    fn rejected(&self) -> Result<Vec<RejectedEntry>, CacheError> {
        Ok(self.rejected.values().cloned().collect())
    }

    fn document(&self, path: &DocumentPath) -> Result<Known, CacheError> {
        let Some(kept) = self.documents.get(path) else { return Ok(Known::Unknown) };
        kept.used.set(self.now);
        Ok(kept.known.clone())
    }

    fn target(&self, key: &Bytes) -> Result<Option<ResumeToken>, CacheError> {
        Ok(self.targets.get(key).and_then(|target| target.token))
    }

    fn target_documents(&self, key: &Bytes) -> Result<Vec<Arc<Document>>, CacheError> {
        let Some(target) = self.targets.get(key) else { return Ok(Vec::new()) };
        let document = |path| self.documents.get(path).and_then(document_of);
        Ok(target.members.iter().filter_map(document).cloned().collect())
    }

    fn targets(&self) -> Result<Vec<Bytes>, CacheError> {
        Ok(self.targets.keys().cloned().collect())
    }

    fn find(
        &self,
        query: &Query,
        each: &mut dyn FnMut(Arc<Document>) -> ControlFlow<()>,
    ) -> Result<(), CacheError> {
        let matcher = Matcher::new(query.clone());
        let each = &mut |document: Arc<Document>| {
            if let Some(kept) = self.documents.get(&document.path) {
                kept.used.set(self.now);
            }
            each(document)
        };
        let accesses = plan(query, matcher.order()).filter(|_| self.documents.len() >= WORTHWHILE);
        let Some(accesses) = accesses else {
            let documents = self.all_documents().cloned().collect();
            return merge(&matcher, vec![sorted(&matcher, documents)], each);
        };
        let scans: Vec<&Scan> = accesses.iter().filter_map(Access::scan).collect();
        self.indexes.borrow_mut().prepare(&scans, || self.all_documents());
        let indexes = self.indexes.borrow();
        let document =
            |path: &DocumentPath| self.documents.get(path).and_then(document_of).cloned();
        let mut streams: Vec<Stream<'_>> = Vec::new();
        for access in &accesses {
            match access {
                Access::Document(path) => {
                    streams.push(sorted(&matcher, document(path).into_iter().collect()));
                }
                Access::Scan(scan) => {
                    let index = indexes.find(&scan.index).expect("it has been prepared");
                    streams.push(Box::new(index.scan(scan).filter_map(document).map(Ok)));
                    streams.push(sorted(&matcher, index.long().filter_map(document).collect()));
                }
            }
        }
        merge(&matcher, streams, each)
    }

    fn apply(&mut self, batch: CacheBatch, _: Durability) -> Result<(), CacheError> {
        self.now += 1;
        self.documents.reserve(batch.documents.len());
        for (path, known) in batch.documents {
            self.put(path, known);
        }
        for change in batch.targets {
            self.change_target(change);
        }
        self.outbox.extend(batch.outbox_put.into_iter().map(|entry| (entry.id, entry)));
        for id in batch.outbox_remove {
            self.outbox.remove(&id);
        }
        self.rejected.extend(batch.rejected_put.into_iter().map(|entry| (entry.id, entry)));
        for id in batch.rejected_remove {
            self.rejected.remove(&id);
        }
        self.metadata = batch.metadata.or(self.metadata);
        Ok(())
    }

    fn size(&self) -> u64 {
        self.bytes + self.indexes.borrow().bytes()
    }

    fn budget(&self) -> u64 {
        self.budget
    }

    fn collect(&mut self, keep: Keep<'_>, budget: u64) -> Result<(), CacheError> {
        if self.size() <= budget {
            return Ok(());
        }
        self.indexes.get_mut().shrink(budget / SHARE);
        let excess = self.size().saturating_sub(budget);
        let pending = self.pending_paths();
        let pinned = |path: &DocumentPath| pending.contains(path) || keep.documents.contains(path);
        let documents = self.documents.iter().map(|(path, kept)| Candidate {
            name: path,
            bytes: kept.bytes,
            used: kept.used.get(),
            pinned: pinned(path),
        });
        let targets = self.targets.iter().map(|(key, target)| CandidateTarget {
            name: key,
            used: target.used,
            active: keep.targets.contains(key),
            members: target.members.iter().collect(),
        });
        let dropped = select(documents.collect(), targets.collect(), excess);
        let documents: Vec<DocumentPath> = dropped.documents.into_iter().cloned().collect();
        let targets: Vec<Bytes> = dropped.targets.into_iter().cloned().collect();
        documents.iter().for_each(|path| self.forget(path));
        for key in targets {
            self.targets.remove(&key);
        }
        Ok(())
    }

    fn clear(&mut self) -> Result<(), CacheError> {
        self.documents.clear();
        self.targets.clear();
        self.indexes.get_mut().clear();
        self.bytes = 0;
        Ok(())
    }
}

fn size_of(document: &Document) -> u64 {
    let fields = document.fields.iter();
    fields.map(|(name, value)| (name.len() + value.size()) as u64).sum()
}

fn document_of(kept: &Kept) -> Option<&Arc<Document>> {
    match &kept.known {
        Known::Document(document) => Some(document),
        Known::Unknown | Known::Missing { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::MemoryCache;

    #[test]
    fn conforms() {
        crate::cache::conformance::check(&mut |budget| Box::new(MemoryCache::with_budget(budget)));
    }
}
