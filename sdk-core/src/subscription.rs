//! Listeners as streams of what the engine put in their queues, and the connection's state. Decides
//! nothing.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use futures::Stream;
use tidemark_protocol::model::DocumentPath;

use crate::client::Client;
use crate::engine::ListenerId;
use crate::error::Error;
use crate::queue::SnapshotQueue;
use crate::snapshot::{DocumentSnapshot, QuerySnapshot};

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

/// What all public listeners share: the end of the listening when dropped.
pub(crate) struct Listener {
    client: Client,
    id: ListenerId,
}

impl Listener {
    pub(crate) fn new(client: Client, id: ListenerId) -> Listener {
        Listener { client, id }
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
    /// Ends the listening when dropped.
    _listener: Listener,
    queue: Arc<SnapshotQueue>,
}

impl QueryListener {
    pub(crate) fn new((listener, queue): (Listener, Arc<SnapshotQueue>)) -> QueryListener {
        QueryListener { _listener: listener, queue }
    }
}

impl Stream for QueryListener {
    type Item = Result<QuerySnapshot, Error>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.queue.poll(context)
    }
}

/// A document, now and after every change. An error is the last item. Dropping it ends the
/// listening.
#[must_use = "a listener does nothing unless it is polled"]
pub struct DocumentListener {
    path: DocumentPath,
    /// Ends the listening when dropped.
    _listener: Listener,
    queue: Arc<SnapshotQueue>,
}

impl DocumentListener {
    pub(crate) fn new(
        path: DocumentPath,
        (listener, queue): (Listener, Arc<SnapshotQueue>),
    ) -> DocumentListener {
        DocumentListener { path, _listener: listener, queue }
    }
}

impl Stream for DocumentListener {
    type Item = Result<DocumentSnapshot, Error>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let path = &self.path;
        self.queue.poll(context).map(|item| {
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
