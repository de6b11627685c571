//! Listeners as streams. The engine's snapshots wait here, a bounded number of them: when the app is
//! slow, the newest waiting one takes in the next, with changes relative to what came before both.

use std::collections::{HashSet, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use futures::Stream;
use tidemark_protocol::model::DocumentPath;

use crate::client::Client;
use crate::engine::{ListenerId, diff};
use crate::error::Error;
use crate::snapshot::{ChangeKind, DocumentSnapshot, QuerySnapshot};

/// How many snapshots wait for a slow app before they are merged.
const QUEUE_LENGTH: usize = 16;

/// What a listener is told of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ListenOptions {
    /// Also tell when only the metadata has changed.
    pub include_metadata_changes: bool,
}

/// The state of the connection.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum ConnectionState {
    /// Being made, or made again; for at most ten seconds.
    #[default]
    Connecting,
    /// The server has welcomed this client.
    Online,
    /// Given up for now: listeners show the cache. Attempts go on, unless the network is disabled or
    /// the server has refused this client for good.
    Offline {
        /// Why.
        reason: Error,
    },
}

/// What waits between the driver and one listener.
#[derive(Default)]
pub(crate) struct SnapshotQueue {
    state: Mutex<QueueState>,
}

#[derive(Default)]
struct QueueState {
    waiting: VecDeque<Result<QuerySnapshot, Error>>,
    /// Set when nothing will follow.
    ended: bool,
    /// Set by the listener when it found nothing; taken by the next arrival.
    waker: Option<Waker>,
}

impl SnapshotQueue {
    fn state(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().expect("no panic happens while a queue is locked")
    }

    pub(crate) fn push(&self, snapshot: QuerySnapshot) {
        let mut state = self.state();
        let full = state.waiting.len() >= QUEUE_LENGTH;
        match state.waiting.back_mut() {
            Some(Ok(last)) if full => merge(last, snapshot),
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

    pub(crate) fn poll(&self, context: &Context<'_>) -> Poll<Option<Result<QuerySnapshot, Error>>> {
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

impl QueueState {
    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// Makes `last` what a listener sees that missed the moment between `last` and `next`.
fn merge(last: &mut QuerySnapshot, next: QuerySnapshot) {
    let base = undo(&next.documents, last.changes.iter().chain(&next.changes));
    let touched: HashSet<DocumentPath> = last
        .changes
        .iter()
        .chain(&next.changes)
        .map(|change| change.document.path().clone())
        .collect();
    let changes =
        diff::steps(&base, &next.documents, |_, document| touched.contains(document.path()));
    *last = QuerySnapshot { changes, ..next };
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

/// What the two public listeners share: the queue, and the end of the listening when dropped.
pub(crate) struct Listener {
    client: Client,
    id: ListenerId,
    queue: Arc<SnapshotQueue>,
}

impl Listener {
    pub(crate) fn new(client: Client, id: ListenerId, queue: Arc<SnapshotQueue>) -> Listener {
        Listener { client, id, queue }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.client.unlisten(self.id);
    }
}

/// The result of a query, now and after every change. An error is the last item. Dropping it ends
/// the listening.
#[must_use = "a listener does nothing unless it is polled"]
pub struct QueryListener {
    listener: Listener,
}

impl QueryListener {
    pub(crate) fn new(listener: Listener) -> QueryListener {
        QueryListener { listener }
    }
}

impl Stream for QueryListener {
    type Item = Result<QuerySnapshot, Error>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.listener.queue.poll(context)
    }
}

/// A document, now and after every change. An error is the last item. Dropping it ends the
/// listening.
#[must_use = "a listener does nothing unless it is polled"]
pub struct DocumentListener {
    path: DocumentPath,
    listener: Listener,
}

impl DocumentListener {
    pub(crate) fn new(path: DocumentPath, listener: Listener) -> DocumentListener {
        DocumentListener { path, listener }
    }
}

impl Stream for DocumentListener {
    type Item = Result<DocumentSnapshot, Error>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let path = &self.path;
        self.listener.queue.poll(context).map(|item| {
            item.map(|result| {
                result.map(|snapshot| match snapshot.documents.first() {
                    Some(document) => document.clone(),
                    None => DocumentSnapshot::missing(path.clone(), snapshot.metadata),
                })
            })
        })
    }
}

/// The connection's state, set by the driver, watched by any number of streams.
#[derive(Default)]
pub(crate) struct StateCell {
    watched: Mutex<Watched>,
}

#[derive(Default)]
struct Watched {
    state: ConnectionState,
    /// Counts the changes, so that a watcher knows whether it has seen the last.
    generation: u64,
    ended: bool,
    wakers: Vec<Waker>,
}

impl StateCell {
    fn watched(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().expect("no panic happens while the state is locked")
    }

    pub(crate) fn set(&self, state: ConnectionState) {
        let mut watched = self.watched();
        watched.state = state;
        watched.generation += 1;
        watched.wakers.drain(..).for_each(Waker::wake);
    }

    pub(crate) fn end(&self) {
        let mut watched = self.watched();
        watched.ended = true;
        watched.wakers.drain(..).for_each(Waker::wake);
    }
}

/// A stream of [`ConnectionState`]s, the current one first.
pub struct ConnectionStates {
    cell: Arc<StateCell>,
    seen: Option<u64>,
}

impl ConnectionStates {
    pub(crate) fn new(cell: Arc<StateCell>) -> ConnectionStates {
        ConnectionStates { cell, seen: None }
    }
}

impl Stream for ConnectionStates {
    type Item = ConnectionState;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let (generation, state) = {
            let mut watched = self.cell.watched();
            if self.seen == Some(watched.generation) {
                if watched.ended {
                    return Poll::Ready(None);
                }
                if !watched.wakers.iter().any(|waker| waker.will_wake(context.waker())) {
                    watched.wakers.push(context.waker().clone());
                }
                return Poll::Pending;
            }
            (watched.generation, watched.state.clone())
        };
        self.seen = Some(generation);
        Poll::Ready(Some(state))
    }
}
