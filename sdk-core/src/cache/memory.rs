//! A cache in memory: as good as any until the process ends.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use tidemark_protocol::model::{Document, DocumentPath, ResumeToken, WriteId};

use super::{Cache, CacheBatch, CacheError, Metadata, OutboxEntry, TargetChange};

#[derive(Default)]
struct Kept {
    document: Option<Arc<Document>>,
    /// How many targets have it.
    targets: usize,
}

#[derive(Default)]
struct KeptTarget {
    token: Option<ResumeToken>,
    members: HashSet<DocumentPath>,
}

/// See the module.
#[derive(Default)]
pub struct MemoryCache {
    documents: HashMap<DocumentPath, Kept>,
    targets: HashMap<Bytes, KeptTarget>,
    outbox: BTreeMap<WriteId, OutboxEntry>,
    metadata: Option<Metadata>,
}

impl MemoryCache {
    /// An empty cache.
    pub fn new() -> MemoryCache {
        MemoryCache::default()
    }

    fn change_target(&mut self, change: TargetChange, touched: &mut Vec<DocumentPath>) {
        match change {
            TargetChange::Put { key, token } => self.targets.entry(key).or_default().token = token,
            TargetChange::Members { key, documents } => {
                let Some(target) = self.targets.get_mut(&key) else { return };
                for (path, inside) in documents {
                    if inside {
                        if target.members.insert(path.clone()) {
                            self.documents.entry(path).or_default().targets += 1;
                        }
                    } else if target.members.remove(&path) {
                        leave(&mut self.documents, path, touched);
                    }
                }
            }
            TargetChange::Clear { key } => {
                let Some(target) = self.targets.get_mut(&key) else { return };
                for path in target.members.drain() {
                    leave(&mut self.documents, path, touched);
                }
            }
            TargetChange::Remove { key } => {
                for path in self.targets.remove(&key).unwrap_or_default().members {
                    leave(&mut self.documents, path, touched);
                }
            }
        }
    }
}

fn leave(
    documents: &mut HashMap<DocumentPath, Kept>,
    path: DocumentPath,
    touched: &mut Vec<DocumentPath>,
) {
    if let Some(kept) = documents.get_mut(&path) {
        kept.targets -= 1;
        touched.push(path);
    }
}

impl Cache for MemoryCache {
    fn metadata(&self) -> Result<Option<Metadata>, CacheError> {
        Ok(self.metadata)
    }

    fn outbox(&self) -> Result<Vec<OutboxEntry>, CacheError> {
        Ok(self.outbox.values().cloned().collect())
    }

    fn document(&self, path: &DocumentPath) -> Result<Option<Arc<Document>>, CacheError> {
        Ok(self.documents.get(path).and_then(|kept| kept.document.clone()))
    }

    fn target(&self, key: &Bytes) -> Result<Option<ResumeToken>, CacheError> {
        Ok(self.targets.get(key).and_then(|target| target.token))
    }

    fn target_documents(&self, key: &Bytes) -> Result<Vec<Arc<Document>>, CacheError> {
        let Some(target) = self.targets.get(key) else { return Ok(Vec::new()) };
        let document = |path| self.documents.get(path).and_then(|kept| kept.document.clone());
        Ok(target.members.iter().filter_map(document).collect())
    }

    fn targets(&self) -> Result<Vec<Bytes>, CacheError> {
        Ok(self.targets.keys().cloned().collect())
    }

    fn apply(&mut self, batch: CacheBatch) -> Result<(), CacheError> {
        let mut touched = Vec::new();
        self.documents.reserve(batch.documents.len());
        for (path, document) in batch.documents {
            let kept = self.documents.entry(path.clone()).or_default();
            kept.document = document;
            if kept.targets == 0 {
                touched.push(path);
            }
        }
        for change in batch.targets {
            self.change_target(change, &mut touched);
        }
        for path in touched {
            if self.documents.get(&path).is_some_and(|kept| kept.targets == 0) {
                self.documents.remove(&path);
            }
        }
        self.outbox.extend(batch.outbox_put.into_iter().map(|entry| (entry.id, entry)));
        for id in batch.outbox_remove {
            self.outbox.remove(&id);
        }
        self.metadata = batch.metadata.or(self.metadata);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::MemoryCache;

    #[test]
    fn conforms() {
        crate::cache::conformance::check(&mut || Box::new(MemoryCache::new()));
    }
}
