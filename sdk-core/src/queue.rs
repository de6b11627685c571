//! What waits between the driver and one listener: a bounded number of items. When the app is slow,
//! the newest waiting one takes in the next.

use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use tidemark_protocol::model::DocumentPath;

use crate::aggregate::AggregateSnapshot;
use crate::engine::diff;
use crate::error::Error;
use crate::snapshot::{ChangeKind, DocumentSnapshot, QuerySnapshot};

/// How many snapshots wait for a slow app before they are merged.
const QUEUE_LENGTH: usize = 16;

/// What can wait in a queue.
pub(crate) trait Queued {
    /// Becomes what a listener sees that missed the moment between this and `next`.
    fn take_in(&mut self, next: Self);
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
        match state.waiting.back_mut() {
            Some(Ok(last)) if full => last.take_in(snapshot),
            Some(Ok(_) | Err(_)) | None => state.waiting.push_back(Ok(snapshot)),
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
    fn take_in(&mut self, next: QuerySnapshot) {
        let base = undo(&next.documents, self.changes.iter().chain(&next.changes));
        let touched: HashSet<DocumentPath> = self
            .changes
            .iter()
            .chain(&next.changes)
            .map(|change| change.document.path().clone())
            .collect();
        let changes =
            diff::steps(&base, &next.documents, |_, document| touched.contains(document.path()));
        *self = QuerySnapshot { changes, ..next };
    }
}

impl Queued for AggregateSnapshot {
    fn take_in(&mut self, next: AggregateSnapshot) {
        *self = next;
    }
}

/// The documents before these changes; those changed in place keep their new content.
fn undo<'a>(
    documents: &[DocumentSnapshot],
    changes: impl DoubleEndedIterator<Item = &'a crate::snapshot::DocumentChange>,
) -> Vec<DocumentSnapshot> {
    let mut documents = documents.to_vec();
    for change in changes.rev() {
        let document = match (change.kind, change.new_index) {
            (ChangeKind::Added | ChangeKind::Modified, Some(index)) => documents.remove(index),
            (ChangeKind::Removed, _) | (_, None) => change.document.clone(),
        };
        if let Some(index) = change.old_index {
            documents.insert(index, document);
        }
    }
    documents
}
