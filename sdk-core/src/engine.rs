//! The client's decisions: events in, actions out. No async, no clock, no randomness, no sockets;
//! time and random bits come with each event. The driver is the only one to drive it.
//!
//! - [`connection`] knows whether there is a server to talk to, and when to try again.
//! - [`listen`] knows what is listened to, and holds back changes until they are consistent.
//! - [`writes`] is the outbox: what the server has not answered yet, in order.
//! - [`overlay`] lays pending writes over remote documents: what this client believes.
//! - [`view`] keeps each target's result sorted and tells what changed.
//! - [`requests`] are gets and queries that want one answer.
//!
//! This file joins them: it dispatches events and passes what one part decided on to the next.

pub(crate) mod connection;
pub(crate) mod diff;
mod emit;
pub(crate) mod listen;
pub(crate) mod overlay;
pub(crate) mod requests;
#[cfg(test)]
mod tests;
pub(crate) mod view;
pub(crate) mod writes;

use std::time::Duration;

use tidemark_protocol::model::{
    ClientId, Code, DocumentPath, Query, Read, Target, Timestamp, Version, Write,
};
use tidemark_protocol::wire::client::{ClientMessage, Commit};
use tidemark_protocol::wire::server::{ServerMessage, Welcome};

use crate::cache::{Cache, CacheBatch, CacheError, Metadata};
use crate::error::Error;
use crate::snapshot::{
    ChangeKind, DocumentChange, DocumentSnapshot, QuerySnapshot, SnapshotMetadata,
};
use crate::subscription::ConnectionState;
use crate::write::Committed;

use connection::{Connection, Step};
use emit::Released;
use listen::Targets;
use overlay::Documents;
use requests::Requests;
use writes::Outbox;

/// How long after the last answer the server is told that outcomes need not be kept any more.
const ACKNOWLEDGE_DELAY: Duration = Duration::from_secs(1);
/// How long in-flight writes may take to be answered at a close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

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
    /// The result of a query, with this client's pending writes on top.
    Query {
        /// Which.
        query: Query,
    },
}

/// The answer to a [`Request`].
#[derive(Clone, Debug)]
pub struct Answer {
    /// The consistent point it shows.
    pub version: Version,
    /// In the order of the paths or of the query.
    pub documents: Vec<DocumentSnapshot>,
}

impl Answer {
    pub(crate) fn into_snapshot(self) -> QuerySnapshot {
        let has_pending_writes =
            self.documents.iter().any(|document| document.metadata.has_pending_writes);
        QuerySnapshot {
            changes: all_added(&self.documents),
            documents: std::sync::Arc::new(self.documents),
            metadata: SnapshotMetadata { from_cache: false, has_pending_writes },
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
        /// How long it may take.
        timeout: Duration,
    },
    /// The app waits for all writes made so far to be answered.
    WaitForWrites {
        /// Who.
        ticket: Ticket,
    },
    /// The app wants the network, or wants it no more.
    Network {
        /// Which of the two.
        enabled: bool,
    },
    /// The app closes the client.
    Close,
}

/// What the driver is to do.
#[derive(Debug)]
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

/// The state machine of one client.
pub struct Engine {
    settings: Settings,
    cache: Box<dyn Cache>,
    now: Moment,
    connection: Connection,
    targets: Targets,
    documents: Documents,
    outbox: Outbox,
    requests: Requests,
    /// What nobody listens to any more, and the cache still has.
    released: Released,
    /// Set by a close: when to stop, answered or not.
    closing: Option<Duration>,
    actions: Vec<Action>,
}

impl Engine {
    /// An engine over what the cache holds. The first event starts it.
    pub fn new(mut settings: Settings, cache: Box<dyn Cache>) -> Result<Engine, CacheError> {
        let metadata = cache.metadata()?;
        if let Some(metadata) = &metadata {
            settings.client_id = metadata.client_id;
        }
        let mut engine = Engine {
            connection: Connection::default(),
            targets: Targets::default(),
            documents: Documents::default(),
            outbox: Outbox::restore(metadata.as_ref(), cache.outbox()?),
            requests: Requests::default(),
            released: Released::default(),
            settings,
            cache,
            now: Moment::default(),
            closing: None,
            actions: Vec::new(),
        };
        engine.documents.lay(&engine.outbox);
        Ok(engine)
    }

    /// Takes an event; returns what is to be done, in order.
    pub fn handle(&mut self, event: Event, now: Moment) -> Vec<Action> {
        self.now = now;
        match event {
            Event::Tick => self.tick(),
            Event::Connected { connection } => {
                if self.connection.opened(connection, now) {
                    self.greet();
                }
            }
            Event::Disconnected { connection, error } => {
                if self.connection.is_current(connection) {
                    self.lose(error);
                }
            }
            Event::Received { connection, message } => {
                if self.connection.is_current(connection) {
                    self.connection.heard(now);
                    self.receive(message);
                }
            }
            Event::Undecodable { connection, error } => {
                if self.connection.is_current(connection) {
                    self.drop_connection(error);
                }
            }
            Event::Commit { ticket, writes, reads, local } => {
                self.write(ticket, writes, reads, local);
            }
            Event::Listen { listener, target, include_metadata } => {
                self.listen(listener, target, include_metadata);
            }
            Event::Unlisten { listener } => self.unlisten(listener),
            Event::Request { ticket, request, timeout } => self.request(ticket, request, timeout),
            Event::WaitForWrites { ticket } => self.outbox.wait(ticket),
            Event::Network { enabled } => self.set_network(enabled),
            Event::Close => self.closing = Some(now.elapsed + CLOSE_TIMEOUT),
        }
        self.pump();
        std::mem::take(&mut self.actions)
    }

    /// When [`Event::Tick`] is due at the latest.
    pub fn deadline(&self) -> Option<Duration> {
        let acknowledge = self.connection.online().and_then(|online| online.acknowledge_at);
        [
            self.connection.deadline(),
            self.outbox.deadline(),
            self.requests.deadline(),
            acknowledge,
            self.closing,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn tick(&mut self) {
        for step in self.connection.tick(self.now) {
            match step {
                Step::Connect(connection) => self.actions.push(Action::Connect { connection }),
                Step::Lost(error) => self.drop_connection(error),
                Step::Offline => self.go_offline(),
                Step::Ping(nonce) => self.send(ClientMessage::Ping { nonce }),
            }
        }
        self.outbox.wake(self.now.elapsed);
        let reason = self.connection.reason();
        for (ticket, error) in self.requests.expire(self.now.elapsed, &reason) {
            self.actions.push(Action::RequestDone { ticket, outcome: Err(error) });
        }
    }

    fn send(&mut self, message: ClientMessage) {
        self.connection.sent(self.now);
        self.actions.push(Action::Send(message));
    }

    fn greet(&mut self) {
        use tidemark_protocol::wire::client::Hello;
        use tidemark_protocol::wire::version::{MINIMUM_VERSION, PROTOCOL_VERSION};
        let hello = Hello {
            protocol_version: PROTOCOL_VERSION,
            minimum_version: MINIMUM_VERSION,
            project: self.settings.project.clone(),
            database: self.settings.database.clone(),
            token: self.settings.token.clone(),
            client_id: self.settings.client_id,
            acknowledged_through: self.outbox.acknowledged_through(),
            agent: self.settings.agent.clone(),
        };
        self.send(ClientMessage::Hello(hello));
    }

    fn receive(&mut self, message: ServerMessage) {
        if self.connection.online().is_none() {
            return self.receive_greeting(message);
        }
        self.connection.useful();
        match message {
            ServerMessage::Welcome(_) => {
                self.drop_connection(Error::new(Code::Internal, "the server welcomed twice"));
            }
            ServerMessage::Listening { target, group, version: _ } => {
                self.targets.listening(target, group);
            }
            ServerMessage::Reset { target, reason: _ } => self.targets.reset(target),
            ServerMessage::Changes(changes) => {
                let (version, partial) = (changes.version, changes.partial);
                match self.targets.stage(changes) {
                    Ok(()) if !partial => self.consistent(version),
                    Ok(()) => {}
                    Err(error) => self.drop_connection(error.into()),
                }
            }
            ServerMessage::Current { version } => self.consistent(version),
            ServerMessage::TargetError { target, status } => {
                self.target_failed(target, &status.into());
            }
            ServerMessage::Committed { write_id, version, results } => {
                self.committed(write_id, Committed { version, results });
            }
            ServerMessage::Rejected { write_id, status } => self.rejected(write_id, status.into()),
            ServerMessage::Result(result) => self.answered(&result),
            ServerMessage::RequestError { request, status } => {
                if let Some((ticket, error)) =
                    self.requests.failed(request, status.into(), self.now)
                {
                    self.actions.push(Action::RequestDone { ticket, outcome: Err(error) });
                }
            }
            ServerMessage::Pong { .. } => {}
            ServerMessage::Error { status } => {
                // Nothing that waits is named in it, and what waits has deadlines or is sent again.
                tracing::warn!(%status, "the server did not understand a frame");
            }
            ServerMessage::GoAway { status, reconnect_after } => {
                self.go_away(status.into(), reconnect_after);
            }
        }
    }

    /// Before the welcome, only it or a refusal makes sense.
    fn receive_greeting(&mut self, message: ServerMessage) {
        match message {
            ServerMessage::Welcome(welcome) => self.welcome(&welcome),
            ServerMessage::GoAway { status, reconnect_after } => {
                self.go_away(status.into(), reconnect_after);
            }
            ServerMessage::Error { status } => self.drop_connection(status.into()),
            ServerMessage::Listening { .. }
            | ServerMessage::Reset { .. }
            | ServerMessage::Changes(_)
            | ServerMessage::Current { .. }
            | ServerMessage::TargetError { .. }
            | ServerMessage::Committed { .. }
            | ServerMessage::Rejected { .. }
            | ServerMessage::Result(_)
            | ServerMessage::RequestError { .. }
            | ServerMessage::Pong { .. } => self.drop_connection(Error::new(
                Code::Internal,
                "the server spoke before it welcomed this client",
            )),
        }
    }

    fn welcome(&mut self, welcome: &Welcome) {
        use tidemark_protocol::wire::version::{MINIMUM_VERSION, PROTOCOL_VERSION};
        if !(MINIMUM_VERSION..=PROTOCOL_VERSION).contains(&welcome.protocol_version) {
            let message = format!(
                "the server speaks protocol version {}; this client speaks {MINIMUM_VERSION} to {PROTOCOL_VERSION}",
                welcome.protocol_version
            );
            return self.go_away(Error::new(Code::FailedPrecondition, message), None);
        }
        self.connection.welcomed(welcome, self.now);
        if self.targets.enter(welcome.incarnation) {
            self.documents.forget_versions();
            self.outbox.forget_versions();
        }
        self.report_state();
        // Commits go first: their outcomes are known before the documents that contain them come.
        self.pump_commits();
        for message in self.targets.listens() {
            self.send(message);
        }
        self.pump_requests();
    }

    fn go_away(&mut self, error: Error, reconnect_after: Option<Duration>) {
        match reconnect_after {
            Some(delay) => {
                self.connection.postponed(error, delay, self.now);
                self.leave();
            }
            None => {
                self.connection.refused(error);
                self.leave();
                self.go_offline();
                self.fail_requests();
            }
        }
        self.actions.push(Action::Disconnect);
    }

    /// The connection is open but of no use.
    fn drop_connection(&mut self, error: Error) {
        self.lose(error);
        self.actions.push(Action::Disconnect);
    }

    /// The connection is gone.
    fn lose(&mut self, error: Error) {
        self.connection.lost(error, self.now);
        self.leave();
    }

    fn leave(&mut self) {
        self.targets.leave();
        self.outbox.leave();
        self.requests.leave();
        self.report_state();
    }

    fn set_network(&mut self, enabled: bool) {
        if enabled {
            if self.connection.enable(self.now) {
                self.report_state();
                self.tick();
            }
        } else if self.connection.disable() {
            self.actions.push(Action::Disconnect);
            self.leave();
            self.go_offline();
            self.fail_requests();
        }
    }

    fn fail_requests(&mut self) {
        let reason = self.connection.reason();
        for ticket in self.requests.clear() {
            let error = Error::unavailable(reason.message());
            self.actions.push(Action::RequestDone { ticket, outcome: Err(error) });
        }
    }

    fn report_state(&mut self) {
        if let Some(state) = self.connection.changed_state() {
            self.actions.push(Action::State(state));
        }
    }

    /// Sends whatever may be sent now. Called after every event.
    fn pump(&mut self) {
        if self.connection.online().is_some() {
            if self.closing.is_none() {
                self.pump_commits();
                self.pump_requests();
            }
            self.pump_acknowledge();
        }
        for ticket in self.outbox.settled_waiters() {
            self.actions.push(Action::WritesSettled { ticket });
        }
        if let Some(at) = self.closing
            && (self.outbox.in_flight() == 0
                || self.connection.online().is_none()
                || self.now.elapsed >= at)
        {
            self.actions.extend([Action::Disconnect, Action::Stop]);
        }
    }

    fn pump_commits(&mut self) {
        let Some(online) = self.connection.online() else { return };
        let limits = online.limits;
        let window = usize::try_from(limits.commits_in_flight.max(1)).unwrap_or(usize::MAX);
        while self.outbox.in_flight() < window {
            let Some(id) = self.outbox.next_to_send() else { break };
            let batch = self.outbox.batch(id).expect("what is to be sent is in the outbox");
            let commit = Commit {
                write_id: id,
                writes: batch.writes.to_vec(),
                reads: batch.reads.clone(),
                acknowledged_through: self.outbox.acknowledged_through(),
            };
            let message = ClientMessage::Commit(commit);
            match requests::check_size(&message, limits.frame_bytes) {
                Ok(()) => {
                    self.connection.told(self.outbox.acknowledged_through());
                    self.send(message);
                }
                Err(error) => self.reject(id, error),
            }
        }
    }

    fn pump_requests(&mut self) {
        let Some(online) = self.connection.online() else { return };
        let frame_bytes = online.limits.frame_bytes;
        for (ticket, message) in self.requests.take_queued() {
            match requests::check_size(&message, frame_bytes) {
                Ok(()) => self.send(message),
                Err(error) => {
                    self.requests.remove(ticket);
                    self.actions.push(Action::RequestDone { ticket, outcome: Err(error) });
                }
            }
        }
    }

    /// The next commit carries the acknowledgement; only when none comes it goes by itself.
    fn pump_acknowledge(&mut self) {
        let through = self.outbox.acknowledged_through();
        let idle = self.outbox.in_flight() == 0;
        let now = self.now.elapsed;
        let due = self.connection.acknowledge(through, idle, now, now + ACKNOWLEDGE_DELAY);
        if due {
            self.connection.told(through);
            self.send(ClientMessage::Acknowledge { through });
        }
    }

    /// Stores a batch; the engine goes on without what the cache could not store.
    fn store(&mut self, batch: CacheBatch) -> Result<(), CacheError> {
        if batch.is_empty() {
            return Ok(());
        }
        let stored = self.cache.apply(batch);
        if let Err(error) = &stored {
            tracing::warn!(%error, "the cache did not store a batch");
        }
        stored
    }

    fn metadata(&self) -> Metadata {
        Metadata {
            client_id: self.settings.client_id,
            next_write_id: self.outbox.next_id(),
            acknowledged_through: self.outbox.acknowledged_through(),
        }
    }
}
