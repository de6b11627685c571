//! The documents of a batch of commits while it is being built: what earlier commits of the batch
//! made of them, over the newest snapshot. A commit that is rejected leaves nothing here.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use tidemark_protocol::model::{
    Code, DocumentPath, ModelError, Read, Version, Write, WriteResult, apply_write,
    check_precondition, validate_commit,
};

use super::commit::{Change, Stored};
use super::error::{EngineError, Rejection};
use super::index::{IndexSet, KeyWrite, KnownCollections, TooManyBytes, write_bytes};
use super::keys::Keys;
use crate::store::{MAX_TRANSACTION, PER_WRITE, Snapshot};

/// What one commit may store: leaves room in a transaction for the batch it joins.
const COMMIT_BYTES: usize = MAX_TRANSACTION - (5 << 20);

type Documents = HashMap<DocumentPath, Option<Arc<Stored>>>;

/// The documents as of the last commit staged.
pub(super) struct Stage {
    keys: Keys,
    snapshot: Arc<dyn Snapshot>,
    indexes: Arc<IndexSet>,
    collections: KnownCollections,
    documents: Documents,
}

/// What a staged commit changed and what its author is told.
pub(super) struct Staged {
    pub(super) changes: Vec<Change>,
    pub(super) results: Vec<WriteResult>,
    /// The index entries that it adds and removes.
    pub(super) index: Vec<KeyWrite>,
    /// What it will store: documents, index entries, and the log entry with the documents' states
    /// before and after.
    pub(super) stored_bytes: usize,
}

impl Stage {
    /// `collections` must come back through [`Stage::into_collections`], or be forgotten, because
    /// the batch may not become durable.
    pub(super) fn new(
        keys: Keys,
        snapshot: Arc<dyn Snapshot>,
        indexes: Arc<IndexSet>,
        collections: KnownCollections,
    ) -> Stage {
        Stage { keys, snapshot, indexes, collections, documents: HashMap::new() }
    }

    /// The collections that are known when the batch is durable.
    pub(super) fn into_collections(self) -> KnownCollections {
        self.collections
    }

    /// Applies a commit at a version, or rejects it as a whole.
    pub(super) async fn apply(
        &mut self,
        writes: &[Write],
        reads: &[Read],
        version: Version,
    ) -> Result<Staged, Rejection> {
        validate_commit(writes)?;
        for read in reads {
            self.check_read(read).await?;
        }
        // Changes of this commit only: merged into the stage when all writes have succeeded.
        let mut own: Documents = HashMap::with_capacity(writes.len());
        let mut order = Vec::with_capacity(writes.len());
        let mut results = Vec::with_capacity(writes.len());
        for write in writes {
            let current = match own.get(&write.path) {
                Some(current) => current.clone(),
                None => self.current(&write.path).await?,
            };
            let document = current.as_deref().map(|stored| &stored.document);
            check_precondition(document, write)?;
            let applied = apply_write(document, None, write, version.into())?;
            results.push(applied.result);
            if applied.changed {
                let after = applied.document.map(Stored::encode);
                if own.insert(write.path.clone(), after).is_none() {
                    order.push(write.path.clone());
                }
            }
        }
        let (index, stored_bytes) = self.index(&order, &own).await?;
        Ok(Staged { changes: self.merge(order, own), results, index, stored_bytes })
    }

    /// The index entries that the changes of a commit add and remove, and what it will store in
    /// all. Nothing can refuse the commit afterwards.
    async fn index(
        &mut self,
        order: &[DocumentPath],
        own: &Documents,
    ) -> Result<(Vec<KeyWrite>, usize), Rejection> {
        let (mut index, mut new_collections) = (Vec::new(), Vec::new());
        let mut stored_bytes = self.stored_bytes(own);
        for path in order {
            if stored_bytes > COMMIT_BYTES {
                break;
            }
            let before = self.documents.get(path).and_then(Option::as_deref);
            let after = own.get(path).and_then(Option::as_deref);
            if let Some(after) = after {
                self.indexes.check(self.keys, &after.document, after.bytes.len())?;
            }
            let at = index.len();
            if before.is_none() && after.is_some() {
                let collection = path.parent();
                if !new_collections.contains(&collection)
                    && self.collections.is_new(self.keys, &self.snapshot, &collection).await?
                {
                    index.push((self.keys.collection_entry(&collection), Some(Bytes::new())));
                    new_collections.push(collection);
                }
            }
            let before = before.map(|stored| &stored.document);
            let after = after.map(|stored| &stored.document);
            let changed =
                self.indexes.change(self.keys, path, before, after, COMMIT_BYTES, &mut index);
            stored_bytes += match changed {
                Ok(()) => index[at..].iter().map(write_bytes).sum(),
                Err(TooManyBytes) => COMMIT_BYTES,
            };
        }
        if stored_bytes > COMMIT_BYTES {
            let message = format!(
                "the commit would store more than {COMMIT_BYTES} bytes (its documents, their index \
                 entries, and in the change log their states before and after): split it"
            );
            return Err(ModelError::new(Code::ResourceExhausted, message).into());
        }
        new_collections.into_iter().for_each(|collection| self.collections.add(collection));
        Ok((index, stored_bytes))
    }

    /// What the changes of a commit will store, index entries aside.
    fn stored_bytes(&self, own: &Documents) -> usize {
        let size = |stored: &Option<Arc<Stored>>| stored.as_ref().map_or(0, |it| it.bytes.len());
        own.iter()
            .map(|(path, after)| {
                let before = self.documents.get(path).map_or(0, size);
                before + 2 * size(after) + path.as_str().len() + 2 * PER_WRITE
            })
            .sum()
    }

    /// The newest state of a document, read once per batch.
    async fn current(&mut self, path: &DocumentPath) -> Result<Option<Arc<Stored>>, EngineError> {
        if let Some(current) = self.documents.get(path) {
            return Ok(current.clone());
        }
        let bytes = self.snapshot.get(&self.keys.document(path)).await?;
        let stored = bytes.map(Stored::decode).transpose()?;
        self.documents.insert(path.clone(), stored.clone());
        Ok(stored)
    }

    async fn check_read(&mut self, read: &Read) -> Result<(), Rejection> {
        let current = self.current(&read.path).await?;
        let version =
            current.as_deref().map_or(Version::NONE, |stored| stored.document.update_version);
        if version == read.version {
            return Ok(());
        }
        let message = format!(
            "{} changed while the transaction ran (read at version {}, now {version}); run it again",
            read.path, read.version
        );
        Err(ModelError::new(Code::Aborted, message).into())
    }

    /// Takes over the documents of a commit that succeeded. A document created and deleted within
    /// the commit has not changed.
    fn merge(&mut self, order: Vec<DocumentPath>, mut own: Documents) -> Vec<Change> {
        let mut changes = Vec::with_capacity(order.len());
        for path in order {
            let after = own.remove(&path).flatten();
            let before = self.documents.insert(path.clone(), after.clone()).flatten();
            if before.is_some() || after.is_some() {
                changes.push(Change { path, before, after });
            }
        }
        changes
    }
}
