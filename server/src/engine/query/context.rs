//! What all parts of the execution of one query share: where they read, what they look for, and the
//! count of what that takes.

use std::collections::BTreeSet;

use tidemark_protocol::model::{Matcher, ModelError};

use crate::engine::error::EngineError;
use crate::engine::index::IndexSet;
use crate::engine::keys::Keys;
use crate::store::{Key, Snapshot};

/// A state of the database, with the indexes that belong to it.
#[derive(Clone, Copy)]
pub(in crate::engine) struct View<'a> {
    pub(in crate::engine) snapshot: &'a dyn Snapshot,
    pub(in crate::engine) keys: Keys,
    pub(in crate::engine) indexes: &'a IndexSet,
}

/// What a query took so far.
#[derive(Clone, Debug, Default)]
pub(in crate::engine) struct Cost {
    /// Entries of indexes, or documents where no index was used.
    pub(in crate::engine) entries: u64,
    /// Documents fetched.
    pub(in crate::engine) documents: u64,
    /// Documents were gathered to be sorted.
    pub(super) sorted: bool,
    /// The indexes read.
    pub(super) indexes: BTreeSet<String>,
    /// What was decided on the way.
    notes: Vec<String>,
}

/// Decisions that are kept.
const MOST_NOTES: usize = 8;

impl Cost {
    /// Keeps what was decided, if there is room.
    pub(super) fn note(&mut self, note: impl FnOnce() -> String) {
        if self.notes.len() < MOST_NOTES {
            self.notes.push(note());
        }
    }

    pub(super) fn notes(&self) -> &[String] {
        &self.notes
    }
}

/// Whether the answer is not wanted any more.
pub(in crate::engine) type Cancelled<'a> = &'a (dyn Fn() -> bool + Send + Sync);

pub(super) struct Context<'a> {
    pub(super) view: View<'a>,
    pub(super) matcher: &'a Matcher,
    /// Whether documents have to come in the order of the query.
    pub(super) ordered: bool,
    /// How many documents are wanted at most.
    pub(super) take: usize,
    pub(super) cancelled: Cancelled<'a>,
    pub(super) cost: Cost,
}

impl Context<'_> {
    /// Fails if the answer is not wanted any more; lets others have the thread.
    pub(super) async fn breathe(&self) -> Result<(), EngineError> {
        tokio::task::yield_now().await;
        if (self.cancelled)() {
            let error = ModelError::new(
                tidemark_protocol::model::Code::Cancelled,
                "the query is not wanted any more",
            );
            return Err(error.into());
        }
        Ok(())
    }

    /// The documents of keys that stand for them in an index.
    pub(super) async fn fetch(&mut self, keys: &[Key]) -> Result<Vec<bytes::Bytes>, EngineError> {
        let found = self.view.snapshot.get_many(keys).await?;
        self.cost.documents += found.len() as u64;
        let missing = || EngineError::corrupt("an index entry without its document");
        found.into_iter().map(|bytes| bytes.ok_or_else(missing)).collect()
    }
}
