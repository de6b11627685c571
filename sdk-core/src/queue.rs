//! What waits between the driver and one listener: a bounded number of items. When the app is slow,
//! the newest waiting one takes in the next.

use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use tidemark_protocol::model::DocumentPath;

use crate::aggregate::AggregateSnapshot;
use crate::engine::diff;
use crate::error::Error;
use crate::snapshot::QuerySnapshot;

/// How many snapshots wait for a slow app before they are merged.
const QUEUE_LENGTH: usize = 16;

/// What can wait in a queue.
pub(crate) trait Queued {
    /// Becomes what a listener sees that missed the moment between this and `next`; `before` is what
    /// it sees just before.
    fn take_in(&mut self, before: &Self, next: Self);
}

/// A queue with one reader.
pub(crate) struct SnapshotQueue<S = QuerySnapshot> {
    state: Mutex<QueueState<S>>,
}

struct QueueState<S> {
    waiting: VecDeque<Result<S, Error>>,
    /// Set when nothing will follow.
    ended: bool,
    /// Set by the listener when it found nothing; taken by the next arrival.
    waker: Option<Waker>,
}

impl<S> Default for SnapshotQueue<S> {
    fn default() -> Self {
        let state = QueueState { waiting: VecDeque::new(), ended: false, waker: None };
        SnapshotQueue { state: Mutex::new(state) }
    }
}

impl<S: Queued> SnapshotQueue<S> {
    fn state(&self) -> MutexGuard<'_, QueueState<S>> {
        self.state.lock().expect("no panic happens while a queue is locked")
    }

    pub(crate) fn push(&self, snapshot: S) {
        let mut state = self.state();
        let full = state.waiting.len() >= QUEUE_LENGTH;
        match state.waiting.make_contiguous() {
            [.., Ok(before), Ok(last)] if full => last.take_in(before, snapshot),
            _ => state.waiting.push_back(Ok(snapshot)),
        }
        state.wake();
    }

    /// The last item is this error.
    pub(crate) fn fail(&self, error: Error) {
        let mut state = self.state();
        if !state.ended {
            state.waiting.push_back(Err(error));
            state.ended = true;
        }
        state.wake();
    }

    /// Nothing follows.
    pub(crate) fn end(&self) {
        let mut state = self.state();
        state.ended = true;
        state.wake();
    }

    /// Whether the next snapshot would be merged.
    #[cfg(test)]
    pub(crate) fn is_long(&self) -> bool {
        self.state().waiting.len() >= QUEUE_LENGTH + 2
    }

    pub(crate) fn poll(&self, context: &Context<'_>) -> Poll<Option<Result<S, Error>>> {
        let mut state = self.state();
        if let Some(item) = state.waiting.pop_front() {
            return Poll::Ready(Some(item));
        }
        if state.ended {
            return Poll::Ready(None);
        }
        state.waker = Some(context.waker().clone());
        Poll::Pending
    }
}

impl<S> QueueState<S> {
    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl Queued for QuerySnapshot {
    fn take_in(&mut self, before: &QuerySnapshot, next: QuerySnapshot) {
        // Not all that differs was told: some listeners do not want to know of metadata.
        let told: HashSet<&DocumentPath> =
            self.changes.iter().chain(&next.changes).map(|change| change.document.path()).collect();
        let changes = diff::steps(&before.documents, &next.documents, |old, new| {
            told.contains(new.path()) && !old.looks_like(new)
        });
        *self = QuerySnapshot { changes, ..next };
    }
}

impl Queued for AggregateSnapshot {
    fn take_in(&mut self, _before: &AggregateSnapshot, next: AggregateSnapshot) {
        *self = next;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use tidemark_protocol::model::{Document, Fields, Value, Version};

    use super::*;
    use crate::snapshot::{ChangeKind, DocumentChange, DocumentSnapshot, SnapshotMetadata};

    fn row(n: i64, version: u64) -> DocumentSnapshot {
        let document = Document {
            path: DocumentPath::parse("c/a").unwrap(),
            fields: Fields::from([("n".to_owned(), Value::Integer(n))]),
            create_version: Version(1),
            update_version: Version(version),
            merge: Default::default(),
        };
        DocumentSnapshot::existing(Arc::new(document), SnapshotMetadata::default())
    }

    fn snapshot(
        version: u64,
        changes: Vec<DocumentChange>,
        rows: &[&DocumentSnapshot],
    ) -> QuerySnapshot {
        let documents = Arc::new(rows.iter().map(|row| (*row).clone()).collect());
        let metadata = SnapshotMetadata::default();
        QuerySnapshot { documents, changes, metadata, version: Version(version) }
    }

    /// What is told of a document that the app saw, that left, and that is there again.
    fn told(seen: &DocumentSnapshot, left: &DocumentSnapshot, back: &DocumentSnapshot) -> usize {
        let change = |kind, row: &DocumentSnapshot, old_index, new_index| DocumentChange {
            kind,
            document: row.clone(),
            old_index,
            new_index,
        };
        let before = snapshot(1, vec![], &[seen]);
        let removed = change(ChangeKind::Removed, left, Some(0), None);
        let added = change(ChangeKind::Added, back, None, Some(0));
        let mut merged = snapshot(2, vec![removed], &[]);
        merged.take_in(&before, snapshot(3, vec![added], &[back]));
        assert_eq!(merged.documents.len(), 1);
        assert!(merged.changes.iter().all(|change| change.kind == ChangeKind::Modified));
        merged.changes.len()
    }

    #[test]
    fn what_left_and_came_back_while_nobody_looked_is_told_only_if_it_changed() {
        let (old, newer, other) = (row(1, 1), row(1, 2), row(2, 2));
        assert_eq!(told(&old, &old, &old), 0);
        assert_eq!(told(&old, &old, &newer), 1);
        assert_eq!(told(&old, &old, &other), 1);
        // It changed before it left.
        assert_eq!(told(&old, &other, &other), 1);
    }
}
