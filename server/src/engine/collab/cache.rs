//! The histories in memory: those used last, within a number of bytes.

use std::collections::BTreeMap;

use tidemark_protocol::model::{
    CommitTime, Document, DocumentPath, EditTime, Version, Write, WriteOp,
};

use super::super::error::Rejection;
use super::history::History;
use super::view::View;
use super::{Written, merge, plain};

/// What all histories in memory may take, about.
const CACHE_BYTES: usize = 128 << 20;

/// A history in memory.
struct Cached {
    history: History,
    used: u64,
}

/// The histories of a database.
#[derive(Default)]
pub(in crate::engine) struct Collab {
    cached: BTreeMap<DocumentPath, Cached>,
    /// Counts uses.
    clock: u64,
    /// Documents whose history the commit being staged has changed; it is forgotten if the commit
    /// is refused.
    changed: Vec<DocumentPath>,
    /// History bytes from which a new epoch is begun.
    pub(super) epoch_bytes: usize,
}

impl Collab {
    /// `epoch_bytes`: how large a history becomes before one without a past takes its place.
    pub(in crate::engine) fn new(epoch_bytes: usize) -> Collab {
        Collab { epoch_bytes, ..Collab::default() }
    }

    /// Applies a write that [`concerns`](super::concerns) collaborative fields.
    pub(in crate::engine) async fn write(
        &mut self,
        view: View<'_>,
        current: Option<&Document>,
        deleted: Option<EditTime>,
        write: &Write,
        at: CommitTime,
    ) -> Result<Written, Rejection> {
        match &write.op {
            WriteOp::Merge(collaboration) => {
                let target = merge::Target { path: &write.path, current, deleted, at };
                merge::merge(self, view, target, collaboration).await
            }
            WriteOp::Set(_) | WriteOp::Update { .. } | WriteOp::Delete | WriteOp::Verify => {
                plain::write(self, view, current, deleted, write, at).await
            }
        }
    }

    /// The commit has been staged.
    pub(in crate::engine) fn staged(&mut self) {
        self.changed.clear();
    }

    /// The commit was refused: what it changed in memory is no longer so.
    pub(in crate::engine) fn refused(&mut self) {
        for path in std::mem::take(&mut self.changed) {
            self.cached.remove(&path);
        }
    }

    /// The batch is durable: what was not used for longest makes room.
    pub(in crate::engine) fn shrink(&mut self) {
        let mut total: usize = self.cached.values().map(|it| it.history.cost()).sum();
        while total > CACHE_BYTES {
            let oldest = self.cached.iter().min_by_key(|(_, it)| it.used);
            let Some(path) = oldest.map(|(path, _)| path.clone()) else { return };
            let removed = self.cached.remove(&path);
            total -= removed.map_or(0, |it| it.history.cost());
        }
    }

    /// Takes a history out, to be changed. It comes back through [`Collab::put`].
    pub(super) async fn take(
        &mut self,
        view: View<'_>,
        path: &DocumentPath,
        epoch: Version,
    ) -> Result<History, Rejection> {
        match self.cached.remove(path) {
            Some(cached) if cached.history.epoch == epoch => Ok(cached.history),
            Some(_) | None => History::load(view, path, epoch).await,
        }
    }

    pub(super) fn put(&mut self, path: &DocumentPath, history: History) {
        self.clock += 1;
        self.changed.push(path.clone());
        self.cached.insert(path.clone(), Cached { history, used: self.clock });
    }

    /// The document has no history any more.
    pub(super) fn forget(&mut self, path: &DocumentPath) {
        self.changed.push(path.clone());
        self.cached.remove(path);
    }
}
