//! The documents of a batch of commits while it is being built: what earlier commits of the batch
//! made of them, over the newest snapshot. A commit that is rejected leaves nothing here.

use std::collections::HashMap;
use std::sync::Arc;

use tidemark_protocol::model::{
    Code, DocumentPath, ModelError, Read, Version, Write, WriteResult, apply_write,
    check_precondition, validate_commit,
};

use super::commit::{Change, Stored};
use super::error::{EngineError, Rejection};
use super::keys::Keys;
use crate::store::{MAX_TRANSACTION, PER_WRITE, Snapshot};

/// What one commit may store: leaves room in a transaction for the batch it joins.
const COMMIT_BYTES: usize = MAX_TRANSACTION - (4 << 20);

type Documents = HashMap<DocumentPath, Option<Arc<Stored>>>;

/// The documents as of the last commit staged.
pub(super) struct Stage {
    keys: Keys,
    snapshot: Arc<dyn Snapshot>,
    documents: Documents,
}

/// What a staged commit changed and what its author is told.
pub(super) struct Staged {
    pub(super) changes: Vec<Change>,
    pub(super) results: Vec<WriteResult>,
    /// What it will store: documents, and the log entry with their states before and after.
    pub(super) stored_bytes: usize,
}

impl Stage {
    pub(super) fn new(keys: Keys, snapshot: Arc<dyn Snapshot>) -> Stage {
        Stage { keys, snapshot, documents: HashMap::new() }
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
            let applied = apply_write(document, write, version)?;
            results.push(applied.result);
            if applied.changed {
                let after = applied.document.map(Stored::encode);
                if own.insert(write.path.clone(), after).is_none() {
                    order.push(write.path.clone());
                }
            }
        }
        let stored_bytes = self.stored_bytes(&own);
        if stored_bytes > COMMIT_BYTES {
            let message = format!(
                "the commit would store {stored_bytes} bytes (its documents, and in the change log \
                 their states before and after); the limit is {COMMIT_BYTES}: split it"
            );
            return Err(ModelError::new(Code::ResourceExhausted, message).into());
        }
        Ok(Staged { changes: self.merge(order, own), results, stored_bytes })
    }

    /// What the changes of a commit will store.
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
