//! A cache in memory: as good as any until the process ends. It keeps documents as they are, so that
//! what it is asked for costs no decoding; the engine is its only user.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use tidemark_protocol::model::{Document, DocumentPath, Matcher, Query, ResumeToken, WriteId};

use super::collect::{Candidate, CandidateTarget, select};
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
    /// Of all documents.
    bytes: u64,
    budget: u64,
    /// Counts batches.
    now: u64,
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
        if let Some(former) = self.documents.insert(path, kept) {
            self.bytes -= former.bytes;
        }
    }

    fn forget(&mut self, path: &DocumentPath) {
        if let Some(kept) = self.documents.remove(path) {
            self.bytes -= kept.bytes;
        }
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
        let mut found: Vec<(&Arc<Document>, &Kept)> = self
            .documents
            .values()
            .filter_map(|kept| document_of(kept).map(|document| (document, kept)))
            .filter(|(document, _)| matcher.matches(document))
            .collect();
        found.sort_by(|(a, _), (b, _)| matcher.compare(a, b));
        for (document, kept) in found {
            kept.used.set(self.now);
            if each(document.clone()).is_break() {
                break;
            }
        }
        Ok(())
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
        self.bytes
    }

    fn budget(&self) -> u64 {
        self.budget
    }

    fn collect(&mut self, keep: Keep<'_>, budget: u64) -> Result<(), CacheError> {
        let Some(excess) = self.bytes.checked_sub(budget).filter(|excess| *excess > 0) else {
            return Ok(());
        };
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
