//! The documents of a batch of commits while it is being built: what earlier commits of the batch
//! made of them, over the newest snapshot. A commit that is rejected leaves nothing here.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use tidemark_protocol::model::{
    Applied, Code, CommitTime, DocumentPath, EditTime, ModelError, Read, Version, Write, WriteOp,
    WriteResult, apply_write, check_precondition, validate_commit,
};

use super::collab::{self, Collab, View};
use super::commit::{Change, Stored};
use super::error::{EngineError, Rejection};
use super::index::{IndexSet, KeyWrite, KnownCollections, TooManyBytes, write_bytes};
use super::keys::Keys;
use super::tombstones::{self, Tombstone};
use crate::store::{MAX_TRANSACTION, PER_WRITE, Snapshot};

/// What one commit may store: leaves room in a transaction for the batch it joins.
const COMMIT_BYTES: usize = MAX_TRANSACTION - (5 << 20);

type Documents = HashMap<DocumentPath, State>;

/// What is known of a document.
#[derive(Clone, Default)]
pub(super) struct State {
    /// It, if it exists.
    pub(super) stored: Option<Arc<Stored>>,
    /// If it does not: when it was deleted. Read only where it matters; a state that is left unread
    /// leaves no tombstone.
    pub(super) deleted: Deleted,
}

#[derive(Clone, Copy, Default, PartialEq)]
pub(super) enum Deleted {
    #[default]
    Unread,
    At(Option<EditTime>),
}

/// What the writes of one commit have made of documents; merged into the stage when all of them have
/// succeeded.
#[derive(Default)]
pub(super) struct Own {
    documents: Documents,
    /// In the order in which they were first written.
    order: Vec<DocumentPath>,
}

/// The documents as of the last commit staged.
pub(super) struct Stage {
    keys: Keys,
    snapshot: Arc<dyn Snapshot>,
    indexes: Arc<IndexSet>,
    collections: KnownCollections,
    collab: Collab,
    documents: Documents,
    /// What the commits have written to the archive of collaborative fields.
    archived: Vec<KeyWrite>,
}

/// What a staged commit changed and what its author is told.
pub(super) struct Staged {
    pub(super) changes: Vec<Change>,
    /// Of the documents that it left deleted.
    pub(super) tombstones: Vec<Tombstone>,
    pub(super) results: Vec<WriteResult>,
    /// The index entries that it adds and removes.
    pub(super) index: Vec<KeyWrite>,
    /// What it will store: documents, index entries, and the log entry with the documents' states
    /// before and after.
    pub(super) stored_bytes: usize,
}

impl Stage {
    /// `collections` and `collab` must come back through [`Stage::into_known`], or be forgotten,
    /// because the batch may not become durable.
    pub(super) fn new(
        keys: Keys,
        snapshot: Arc<dyn Snapshot>,
        indexes: Arc<IndexSet>,
        collections: KnownCollections,
        collab: Collab,
    ) -> Stage {
        let (documents, archived) = (HashMap::new(), Vec::new());
        Stage { keys, snapshot, indexes, collections, collab, documents, archived }
    }

    /// The collections and the histories that are known when the batch is durable.
    pub(super) fn into_known(self) -> (KnownCollections, Collab) {
        (self.collections, self.collab)
    }

    /// Applies a commit at its time, or rejects it as a whole.
    pub(super) async fn apply(
        &mut self,
        writes: &[Write],
        reads: &[Read],
        at: CommitTime,
    ) -> Result<Staged, Rejection> {
        let archived = self.archived.len();
        let mut staged = self.try_apply(writes, reads, at).await;
        match &mut staged {
            Ok(staged) => {
                let entries = &self.archived[archived..];
                staged.stored_bytes += entries.iter().map(write_bytes).sum::<usize>();
                staged.index.extend_from_slice(entries);
                self.collab.staged();
            }
            Err(_) => {
                self.archived.truncate(archived);
                self.collab.refused();
            }
        }
        staged
    }

    async fn try_apply(
        &mut self,
        writes: &[Write],
        reads: &[Read],
        at: CommitTime,
    ) -> Result<Staged, Rejection> {
        validate_commit(writes)?;
        for read in reads {
            self.check_read(read).await?;
        }
        let mut own = Own::default();
        let mut results = Vec::with_capacity(writes.len());
        for write in writes {
            results.push(self.write(&mut own, write, at).await?);
        }
        let (index, stored_bytes) = self.index(&own).await?;
        let (changes, tombstones) = self.merge(own);
        Ok(Staged { changes, tombstones, results, index, stored_bytes })
    }

    /// Applies one write of a commit.
    async fn write(
        &mut self,
        own: &mut Own,
        write: &Write,
        at: CommitTime,
    ) -> Result<WriteResult, Rejection> {
        let mut current = self.state(own, &write.path).await?;
        check_precondition(current.stored.as_deref().map(|stored| &stored.document), write)?;
        if is_decided_by_tombstone(write, at) {
            self.read_tombstone(&write.path, &mut current).await?;
        }
        let before = current.stored.as_deref().map(|stored| &stored.document);
        let applied = if collab::concerns(before, write) {
            self.write_collaborative(own, write, &current, at).await?
        } else {
            apply_write(before, current.deleted_at(), write, at)?
        };
        let Applied { document, deleted, result, changed } = applied;
        let is_raised = deleted > current.deleted_at();
        let deleted = Deleted::At(deleted);
        if changed {
            own.put(&write.path, State { stored: document.map(Stored::encode), deleted });
        } else if current.stored.is_none() && is_raised {
            // A delete of nothing that was made after what is remembered.
            own.put(&write.path, State { stored: None, deleted });
        }
        Ok(result)
    }

    /// Applies a write to a document with collaborative fields. Their history goes with the commit.
    async fn write_collaborative(
        &mut self,
        own: &mut Own,
        write: &Write,
        current: &State,
        at: CommitTime,
    ) -> Result<Applied, Rejection> {
        let view = View {
            keys: self.keys,
            snapshot: &self.snapshot,
            staged: &self.documents,
            own: &own.documents,
            archived: &self.archived,
        };
        let before = current.stored.as_deref().map(|stored| &stored.document);
        let written = self.collab.write(view, before, current.deleted_at(), write, at).await?;
        self.archived.extend(written.archive);
        for (path, document) in written.history {
            let before = self.current(&path).await?;
            let stored = document.map(Stored::encode);
            if stored.is_some() || before.stored.is_some() || own.documents.contains_key(&path) {
                // Without a tombstone: only the server writes there.
                own.put(&path, State { stored, deleted: Deleted::Unread });
            }
        }
        Ok(written.applied)
    }

    /// A document as a write of the commit finds it.
    pub(super) async fn state(
        &mut self,
        own: &Own,
        path: &DocumentPath,
    ) -> Result<State, EngineError> {
        match own.documents.get(path) {
            Some(state) => Ok(state.clone()),
            None => self.current(path).await,
        }
    }

    /// Finds out when a document that does not exist was deleted.
    async fn read_tombstone(
        &mut self,
        path: &DocumentPath,
        state: &mut State,
    ) -> Result<(), EngineError> {
        if state.stored.is_some() || state.deleted != Deleted::Unread {
            return Ok(());
        }
        let deleted = tombstones::deleted_at(&self.snapshot, self.keys, path).await?;
        state.deleted = Deleted::At(deleted);
        // What the commit itself has written has not been read, or is known.
        self.documents.insert(path.clone(), state.clone());
        Ok(())
    }

    /// The index entries that the changes of a commit add and remove, and what it will store in
    /// all. Nothing can refuse the commit afterwards.
    async fn index(&mut self, own: &Own) -> Result<(Vec<KeyWrite>, usize), Rejection> {
        let (mut index, mut new_collections) = (Vec::new(), Vec::new());
        let mut stored_bytes = self.stored_bytes(own);
        for path in &own.order {
            if stored_bytes > COMMIT_BYTES {
                break;
            }
            let before = self.documents.get(path).and_then(|state| state.stored.as_deref());
            let after = own.documents.get(path).and_then(|state| state.stored.as_deref());
            if let Some(after) = after {
                self.indexes.check(self.keys, &after.document, after.bytes.len())?;
            }
            let at = index.len();
            if before.is_none() && after.is_some() && !collab::is_history(path) {
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
    fn stored_bytes(&self, own: &Own) -> usize {
        let size = |state: &State| state.stored.as_ref().map_or(0, |it| it.bytes.len());
        let stored = own.documents.iter().map(|(path, after)| {
            let before = self.documents.get(path).map_or(0, size);
            // A deleted document leaves a tombstone, under two keys.
            let keys = if after.stored.is_some() { 1 } else { 3 };
            before + 2 * size(after) + keys * path.as_str().len() + (keys + 1) * PER_WRITE
        });
        stored.sum()
    }

    /// The newest state of a document, read once per batch.
    async fn current(&mut self, path: &DocumentPath) -> Result<State, EngineError> {
        if let Some(current) = self.documents.get(path) {
            return Ok(current.clone());
        }
        let bytes = self.snapshot.get(&self.keys.document(path)).await?;
        let stored = bytes.map(Stored::decode).transpose()?;
        let state = State { stored, deleted: Deleted::Unread };
        self.documents.insert(path.clone(), state.clone());
        Ok(state)
    }

    async fn check_read(&mut self, read: &Read) -> Result<(), Rejection> {
        let current = self.current(&read.path).await?.stored;
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
    fn merge(&mut self, own: Own) -> (Vec<Change>, Vec<Tombstone>) {
        let Own { mut documents, order } = own;
        let (mut changes, mut tombstones) = (Vec::with_capacity(order.len()), Vec::new());
        for path in order {
            let Some(state) = documents.remove(&path) else { continue };
            let after = state.stored.clone();
            if let (None, Some(edit)) = (&after, state.deleted_at()) {
                tombstones.push(Tombstone { path: path.clone(), edit });
            }
            let before = self.documents.insert(path.clone(), state).and_then(|state| state.stored);
            if before.is_some() || after.is_some() {
                changes.push(Change { path, before, after });
            }
        }
        (changes, tombstones)
    }
}

impl State {
    fn deleted_at(&self) -> Option<EditTime> {
        match self.deleted {
            Deleted::At(deleted) => deleted,
            Deleted::Unread => None,
        }
    }
}

impl Own {
    /// What a write of the commit leaves of a document.
    pub(super) fn put(&mut self, path: &DocumentPath, state: State) {
        if self.documents.insert(path.clone(), state).is_none() {
            self.order.push(path.clone());
        }
    }
}

/// Whether it matters for a document that does not exist when it was deleted. Nothing was deleted
/// later than now, so that for most writes it does not; but a field keeps to when the whole document
/// was last decided.
fn is_decided_by_tombstone(write: &Write, at: CommitTime) -> bool {
    let is_late = at.edit < EditTime::from(at.version);
    match &write.op {
        WriteOp::Set(_) | WriteOp::Delete => is_late,
        WriteOp::Update { .. } | WriteOp::Merge(_) => true,
        WriteOp::Verify => false,
    }
}
