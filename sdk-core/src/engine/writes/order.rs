//! Which batch may be sent next. Batches of one document keep their order, however many are under way;
//! those of different documents do not wait for each other. Part of the [`Outbox`].

use std::collections::{BTreeSet, HashMap};

use tidemark_protocol::model::{DocumentPath, Write, WriteId, WriteOp};

use super::{Batch, Outbox, State};

/// The batches without an answer, by document.
#[derive(Debug, Default)]
pub(super) struct Order {
    by_document: HashMap<DocumentPath, BTreeSet<WriteId>>,
    ready: BTreeSet<WriteId>,
}

impl Order {
    pub(super) fn add(&mut self, id: WriteId, writes: &[Write]) {
        for write in writes {
            self.by_document.entry(write.path.clone()).or_default().insert(id);
        }
    }

    pub(super) fn remove(&mut self, id: WriteId, writes: &[Write]) {
        self.ready.remove(&id);
        for write in writes {
            if let Some(ids) = self.by_document.get_mut(&write.path) {
                ids.remove(&id);
                if ids.is_empty() {
                    self.by_document.remove(&write.path);
                }
            }
        }
    }

    pub(super) fn first_ready(&self) -> Option<WriteId> {
        self.ready.first().copied()
    }

    fn of(&self, path: &DocumentPath) -> impl DoubleEndedIterator<Item = &WriteId> {
        self.by_document.get(path).into_iter().flatten()
    }

    /// The batches that come right before this one on its documents.
    pub(super) fn before(&self, id: WriteId, writes: &[Write]) -> BTreeSet<WriteId> {
        let last = |write: &Write| {
            let ids = self.by_document.get(&write.path)?;
            ids.range(..id).next_back().copied()
        };
        writes.iter().filter_map(last).collect()
    }

    /// The batch that comes right after this one on a document.
    pub(super) fn after(&self, id: WriteId, path: &DocumentPath) -> Option<WriteId> {
        let ids = self.by_document.get(path)?;
        ids.range(WriteId(id.0 + 1)..).next().copied()
    }
}

/// Whether it matters when the edit was made: even an increment has no effect on what was deleted later.
/// Changes of collaborative fields count whenever they come.
fn is_timed(write: &Write) -> bool {
    match &write.op {
        WriteOp::Set(_) | WriteOp::Update { .. } | WriteOp::Delete => true,
        WriteOp::Merge(_) | WriteOp::Verify => false,
    }
}

impl Outbox {
    /// The batch is new, or its state has changed: says anew which batches of its documents may be sent.
    pub(super) fn review(&mut self, id: WriteId) {
        let Some(batch) = self.batches.get(&id) else { return };
        let writes = batch.writes.clone();
        self.judge(id);
        self.review_documents(&writes);
    }

    pub(super) fn review_documents(&mut self, writes: &[Write]) {
        for write in writes {
            // Only the first that is not sent can be ready; the second may have been until now.
            let unsent = |id: &&WriteId| !self.is_sent(**id);
            let first: Vec<WriteId> =
                self.order.of(&write.path).filter(unsent).take(2).copied().collect();
            for id in first {
                self.judge(id);
            }
        }
    }

    pub(super) fn review_all(&mut self) {
        self.order.ready.clear();
        for id in self.open.clone() {
            self.judge(id);
        }
    }

    fn is_sent(&self, id: WriteId) -> bool {
        self.batches.get(&id).is_some_and(|batch| batch.state == State::Sent)
    }

    fn judge(&mut self, id: WriteId) {
        if self.batches.get(&id).is_some_and(|batch| self.may_be_sent(batch)) {
            self.order.ready.insert(id);
        } else {
            self.order.ready.remove(&id);
        }
    }

    fn may_be_sent(&self, batch: &Batch) -> bool {
        if batch.state != State::Queued {
            return false;
        }
        // While one before it may have been taken without its edit time, that is later than what this
        // one would carry: it would lose to its own predecessor.
        let carries = batch.stamp().is_some() && batch.writes.iter().any(is_timed);
        let free = |write: &Write| {
            let before = self.order.of(&write.path).take_while(|id| **id < batch.id);
            before
                .filter_map(|id| self.batches.get(id))
                .all(|earlier| earlier.state == State::Sent && !(carries && earlier.bare))
        };
        // The server can be told of one predecessor.
        batch.writes.iter().all(free) && self.order.before(batch.id, &batch.writes).len() <= 1
    }
}
