//! The engine's language: what happens to it, and what it wants done. Types only.

use std::time::Duration;

use tidemark_protocol::model::{
    AggregateQuery, ClientId, DocumentPath, Query, Read, Target, Timestamp, Value, Version, Write,
    WriteId,
};
use tidemark_protocol::wire::client::ClientMessage;
use tidemark_protocol::wire::server::{Explanation, ServerMessage};

use super::collab::CollabView;
use crate::aggregate::AggregateSnapshot;
use crate::error::Error;
use crate::pending::{Committed, OutboxWrite, RejectedWrite, WriteEvent};
use crate::snapshot::{
    ChangeKind, DocumentChange, DocumentSnapshot, QuerySnapshot, SnapshotMetadata,
};
use crate::subscription::ConnectionState;

/// The time and the randomness of an event.
#[derive(Clone, Copy, Debug, Default)]
pub struct Moment {
    /// Time since some fixed moment; never goes back.
    pub elapsed: Duration,
    /// The time of day.
    pub wall: Timestamp,
    /// Random bits, for jitter.
    pub random: u64,
}

/// Names a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListenerId(pub u64);

/// Names something that waits for an answer; chosen by the driver, never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// Names an attempt to connect, so that what comes late from a former one is not mistaken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// Who this client is to the server.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The project.
    pub project: String,
    /// The database of the project.
    pub database: String,
    /// The user's identity.
    pub token: String,
    /// For the server's logs.
    pub agent: String,
    /// Names the outbox, unless the cache holds one with another name.
    pub client_id: ClientId,
}

/// Who answers a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Source {
    /// The server; while it is given up for now, or the network is disabled, the cache.
    #[default]
    Default,
    /// The server, or nobody: `unavailable` while it is given up for now or the network is disabled.
    Server,
    /// The cache, at once, with this client's pending writes on top.
    Cache,
}

/// What wants one answer.
#[derive(Clone, Debug)]
pub enum Request {
    /// Documents by their paths, without duplicates.
    Get {
        /// Which.
        paths: Vec<DocumentPath>,
        /// Whether this client's pending writes are laid over them.
        overlay: bool,
    },
    /// The result of a query, with this client's pending writes on top; a search for the nearest as
    /// the server answers it.
    Query {
        /// Which.
        query: Query,
        /// Whether the server is to say how it came by it.
        explain: bool,
    },
    /// Values computed over the result of a query, without pending writes.
    Aggregate {
        /// Which.
        aggregate: AggregateQuery,
        /// Whether the server is to say how it came by them.
        explain: bool,
    },
}

/// The answer to a [`Request`].
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// The consistent point it shows.
    pub version: Version,
    /// Whether it is the cache's, and whether it shows pending writes.
    pub metadata: SnapshotMetadata,
    /// In the order of the paths or of the query.
    pub documents: Vec<DocumentSnapshot>,
    /// Of an aggregate, in the order of the aggregations.
    pub values: Vec<Value>,
    /// If it was asked for.
    pub explanation: Option<Box<Explanation>>,
}

impl Answer {
    pub(crate) fn into_snapshot(self) -> QuerySnapshot {
        QuerySnapshot {
            changes: all_added(&self.documents),
            documents: std::sync::Arc::new(self.documents),
            metadata: self.metadata,
            version: self.version,
        }
    }
}

pub(crate) fn all_added(documents: &[DocumentSnapshot]) -> Vec<DocumentChange> {
    let added = |(index, document): (usize, &DocumentSnapshot)| DocumentChange {
        kind: ChangeKind::Added,
        document: document.clone(),
        old_index: None,
        new_index: Some(index),
    };
    documents.iter().enumerate().map(added).collect()
}

/// What happens to the engine.
#[derive(Debug)]
pub enum Event {
    /// Time has passed; also the first event.
    Tick,
    /// The transport is open.
    Connected {
        /// Which attempt.
        connection: ConnectionId,
    },
    /// The transport could not be opened, or closed.
    Disconnected {
        /// Which attempt.
        connection: ConnectionId,
        /// Why.
        error: Error,
    },
    /// A frame came.
    Received {
        /// On which connection.
        connection: ConnectionId,
        /// What it says.
        message: ServerMessage,
    },
    /// A frame came that could not be understood. What it said is lost, so the connection is of no
    /// more use: the next one resumes from what was understood.
    Undecodable {
        /// On which connection.
        connection: ConnectionId,
        /// What is wrong with it.
        error: Error,
    },
    /// The app writes.
    Commit {
        /// Who waits for the outcome.
        ticket: Ticket,
        /// What; validated.
        writes: Vec<Write>,
        /// Of a transaction.
        reads: Vec<Read>,
        /// Whether it takes effect locally at once; transactions do not.
        local: bool,
    },
    /// The app listens.
    Listen {
        /// Who.
        listener: ListenerId,
        /// To what; validated.
        target: Target,
        /// Whether changes of metadata alone are told.
        include_metadata: bool,
    },
    /// A listener is gone.
    Unlisten {
        /// Which.
        listener: ListenerId,
    },
    /// The app asks.
    Request {
        /// Who waits for the answer.
        ticket: Ticket,
        /// For what; validated.
        request: Request,
        /// Of whom.
        source: Source,
        /// How long it may take.
        timeout: Duration,
    },
    /// The app waits for all writes made so far to be answered.
    WaitForWrites {
        /// Who.
        ticket: Ticket,
    },
    /// The app wants to know which writes wait for the server, and which it has refused.
    ListWrites {
        /// Who.
        ticket: Ticket,
    },
    /// The app makes a rejected write again.
    Retry {
        /// Who waits for the outcome.
        ticket: Ticket,
        /// Which.
        id: WriteId,
    },
    /// The app gives a rejected write up.
    Discard {
        /// Who waits for that.
        ticket: Ticket,
        /// Which.
        id: WriteId,
    },
    /// The app wants the network, or wants it no more.
    Network {
        /// Which of the two.
        enabled: bool,
    },
    /// A document's collaborative fields are open for editing, or closed.
    Collaborative {
        /// Which document.
        path: DocumentPath,
        /// What its fields hold, with the edits made here; none: it is closed.
        view: Option<CollabView>,
    },
    /// The app closes the client.
    Close,
}

/// What the driver is to do.
#[derive(Debug)]
#[allow(clippy::large_enum_variant)] // They are few, and done at once.
pub enum Action {
    /// Open the transport.
    Connect {
        /// The name of this attempt.
        connection: ConnectionId,
    },
    /// Send a frame.
    Send(ClientMessage),
    /// Drop the transport.
    Disconnect,
    /// The connection's state has changed.
    State(ConnectionState),
    /// A listener sees this.
    Snapshot {
        /// Who.
        listener: ListenerId,
        /// What.
        snapshot: QuerySnapshot,
    },
    /// A listener to an aggregate sees this.
    Aggregated {
        /// Who.
        listener: ListenerId,
        /// What.
        snapshot: AggregateSnapshot,
    },
    /// A listener has ended.
    ListenerFailed {
        /// Who.
        listener: ListenerId,
        /// Why.
        error: Error,
    },
    /// The server's word on a commit.
    WriteDone {
        /// Who waits for it.
        ticket: Ticket,
        /// The word.
        outcome: Result<Committed, Error>,
    },
    /// A write is in the durable outbox: it will be sent, whatever happens.
    WriteStored {
        /// Who waits for it.
        ticket: Ticket,
        /// Its id.
        id: WriteId,
    },
    /// A write has reached a stage; transactions aside.
    Write(WriteEvent),
    /// The writes without an answer, and those that wait for the app's decision; by ascending id.
    WritesListed {
        /// Who wanted to know.
        ticket: Ticket,
        /// Without an answer.
        pending: Vec<OutboxWrite>,
        /// Rejected.
        rejected: Vec<RejectedWrite>,
    },
    /// A rejected write is given up, or was not found.
    Discarded {
        /// Who waits for it.
        ticket: Ticket,
        /// Whether it was there.
        outcome: Result<(), Error>,
    },
    /// The answer to a request.
    RequestDone {
        /// Who waits for it.
        ticket: Ticket,
        /// The answer.
        outcome: Result<Answer, Error>,
    },
    /// The writes waited for are answered.
    WritesSettled {
        /// Who waits for it.
        ticket: Ticket,
    },
    /// The client is closed: nothing more will happen.
    Stop,
}
