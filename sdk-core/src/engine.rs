//! The client's decisions: events in, actions out. No async, no clock, no randomness, no sockets;
//! time and random bits come with each event. The driver is the only one to drive it.
//!
//! - `connection` knows whether there is a server to talk to, and when to try again.
//! - `listen` knows what is listened to, and holds back changes until they are consistent.
//! - `writes` is the outbox: what the server has not answered yet, in order; `clock` says when a write was
//!   made, and `commit` carries writes from the app to the outbox, and answers back.
//! - `overlay` lays pending writes over remote documents: what this client believes.
//! - `view` keeps each target's result sorted and tells what changed; `projection` leaves out fields
//!   that a listener does not want.
//! - `local` finds documents and values in the cache, with the pending writes on top.
//! - `requests` are gets, queries and aggregates that want one answer; `answer` makes it.
//! - `collab` says what pending changes of collaborative fields look like.
//! - `emit` carries documents from consistent points through overlay and views to listeners;
//!   `listening` begins and ends that, `values` does the same for aggregates.
//! - `reconcile` compares a result with the server's by digests; `resume` does it where a token is too old.
//! - `limbo` looks at documents that a result had and the server's has not.
//!
//! This file joins them: it dispatches events and passes what one part decided on to the next.

mod answer;
pub(crate) mod clock;
mod collab;
mod commit;
pub(crate) mod connection;
pub(crate) mod diff;
mod emit;
mod event;
mod limbo;
pub(crate) mod listen;
mod listening;
mod local;
pub(crate) mod overlay;
pub(crate) mod projection;
mod reconcile;
pub(crate) mod requests;
mod resume;
#[cfg(test)]
mod tests;
mod values;
pub(crate) mod view;
pub(crate) mod writes;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tidemark_protocol::model::{Code, EditTime, Version, WriteId};
use tidemark_protocol::wire::client::ClientMessage;
use tidemark_protocol::wire::server::{ServerMessage, Welcome};

use crate::cache::{
    Cache, CacheBatch, CacheError, ClockAnchor, Durability, Keep, Metadata, RejectedEntry,
};
use crate::error::Error;
use crate::pending::Committed;

use clock::EditClock;
use commit::Journal;
use connection::{Connection, Step};
use limbo::Limbo;
use listen::Targets;
use overlay::Documents;
use requests::{Complete, Requests};
use writes::Outbox;

pub use collab::CollabView;
pub(crate) use event::all_added;
pub use event::{
    Action, Answer, ConnectionId, Event, ListenerId, Moment, Request, Settings, Source, Ticket,
};

/// How long in-flight writes may take to be answered at a close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long what the server said may be lost by a crash, where that costs a second transfer.
const SYNC_DELAY: Duration = Duration::from_secs(1);

/// The state machine of one client.
pub struct Engine {
    settings: Settings,
    cache: Box<dyn Cache>,
    now: Moment,
    connection: Connection,
    targets: Targets,
    documents: Documents,
    outbox: Outbox,
    clock: EditClock,
    /// The writes that the server has refused, until the app decides what becomes of them.
    rejected_writes: BTreeMap<WriteId, RejectedEntry>,
    /// What is to be stored of the outbox, after the actions.
    journal: Journal,
    /// What the server may be told is acknowledged: the cache has it on stable storage.
    acknowledged: WriteId,
    /// The server's time when this connection began, or the last one.
    connected_at: Version,
    requests: Requests,
    /// Answers that may contain a write without one, and the write.
    held_answers: Vec<(WriteId, Complete)>,
    /// Documents that are to be looked at, as what is known of them may be out of date.
    limbo: Limbo,
    /// The size of the cache after it was last made room in.
    uncollected: u64,
    /// How many targets were listened to then: when there are fewer, more may go.
    uncollected_for: usize,
    /// What the server said and the cache has not stored yet: listeners are told first.
    deferred: Vec<CacheBatch>,
    /// Set by the first batch that a crash may lose, until it is durable.
    sync_at: Option<Duration>,
    /// Whether committed writes are still shown only for answers that are under way.
    held_for_answers: bool,
    /// Set by a close: when to stop, answered or not.
    closing: Option<Duration>,
    /// Whether it has stopped.
    stopped: bool,
    actions: Vec<Action>,
}

impl Engine {
    /// An engine over what the cache holds. The first event starts it.
    pub fn new(mut settings: Settings, cache: Box<dyn Cache>) -> Result<Engine, CacheError> {
        let metadata = cache.metadata()?;
        if let Some(metadata) = &metadata {
            settings.client_id = metadata.client_id;
        }
        let outbox = Outbox::restore(metadata.as_ref(), cache.outbox()?);
        let clock = EditClock::restore(
            metadata.and_then(|metadata| Some(metadata.clock?.offset)),
            metadata.map_or(EditTime(0), |metadata| metadata.last_edit),
            outbox.last_edit(),
        );
        let rejected = cache.rejected()?.into_iter().map(|entry| (entry.id, entry));
        let mut engine = Engine {
            connection: Connection::default(),
            targets: Targets::default(),
            documents: Documents::default(),
            outbox,
            clock,
            rejected_writes: rejected.collect(),
            journal: Journal::default(),
            acknowledged: metadata.map_or(WriteId(0), |metadata| metadata.acknowledged_through),
            connected_at: Version::NONE,
            requests: Requests::default(),
            held_answers: Vec::new(),
            limbo: Limbo::default(),
            uncollected: 0,
            uncollected_for: 0,
            deferred: Vec::new(),
            sync_at: None,
            settings,
            cache,
            now: Moment::default(),
            held_for_answers: false,
            closing: None,
            stopped: false,
            actions: Vec::new(),
        };
        engine.targets.restore(metadata.and_then(|metadata| metadata.incarnation));
        engine.documents.lay(&engine.outbox);
        let left: Vec<_> = engine.outbox.local_batches().map(|it| it.writes.clone()).collect();
        left.iter().for_each(|writes| engine.compute_views(writes));
        Ok(engine)
    }

    /// Takes an event; returns what is to be done, in order.
    pub fn handle(&mut self, event: Event, now: Moment) -> Vec<Action> {
        self.now = now;
        let aged = self.outbox.age(now.elapsed);
        self.revise(&aged);
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
            Event::Request { ticket, request, source, timeout } => {
                self.request(ticket, request, source, timeout);
            }
            Event::WaitForWrites { ticket } => self.outbox.wait(ticket),
            Event::ListWrites { ticket } => self.list_writes(ticket),
            Event::Retry { ticket, id } => self.retry(ticket, id),
            Event::Discard { ticket, id } => self.discard(ticket, id),
            Event::Network { enabled } => self.set_network(enabled),
            Event::Collaborative { path, view } => self.show_collaborative(&path, view),
            Event::Close => self.close(),
        }
        self.pump();
        std::mem::take(&mut self.actions)
    }

    /// Stores what could wait until the actions were done, new writes above all; returns what is to be
    /// done then. The driver calls it after the actions of one event or of several: what the app sees
    /// does not wait for a disk.
    pub fn settle(&mut self) -> Vec<Action> {
        self.flush();
        if !self.journal.is_empty() {
            self.store_journal();
            self.pump();
        }
        self.collect();
        std::mem::take(&mut self.actions)
    }

    /// Lets the cache know all that there is to know.
    fn flush(&mut self) {
        for batch in std::mem::take(&mut self.deferred) {
            // If it is not stored, neither is its token: the next run resumes from before.
            if let Err(error) = self.cache.apply(batch, Durability::Soon) {
                tracing::warn!(%error, "the cache did not store what the server said");
            }
            self.sync_at.get_or_insert(self.now.elapsed + SYNC_DELAY);
        }
    }

    /// Makes durable what has waited long enough.
    fn sync(&mut self) {
        if self.sync_at.is_none_or(|at| self.now.elapsed < at) {
            return;
        }
        self.sync_at = None;
        if let Err(error) = self.cache.apply(CacheBatch::default(), Durability::Durable) {
            tracing::warn!(%error, "the cache is not durable");
        }
    }

    /// Makes room in the cache when it is too large; by more than it must, so that this is rare.
    fn collect(&mut self) {
        let budget = self.cache.budget();
        let listened = self.targets.by_id.len();
        if listened < self.uncollected_for {
            self.uncollected = 0;
        }
        self.uncollected_for = listened;
        // What must stay is not looked through again and again.
        if self.cache.size() <= budget.max(self.uncollected + budget / 10) {
            return;
        }
        let targets = self.targets.by_id.values().map(|listened| listened.key.clone()).collect();
        let keep = Keep { targets: &targets, documents: &BTreeSet::new() };
        if let Err(error) = self.cache.collect(keep, budget / 5 * 4) {
            tracing::warn!(%error, "the cache did not make room");
        }
        self.uncollected = self.cache.size();
    }

    /// What was written before is kept and sent; what comes from now on is refused.
    fn close(&mut self) {
        self.store_journal();
        self.pump_commits();
        self.closing = Some(self.now.elapsed + CLOSE_TIMEOUT);
    }

    /// When [`Event::Tick`] is due at the latest.
    pub fn deadline(&self) -> Option<Duration> {
        let acknowledge = self.connection.online().and_then(|online| online.acknowledge_at);
        [
            self.connection.deadline(),
            self.outbox.deadline(),
            self.requests.deadline(),
            self.reconcile_deadline(),
            self.sync_at,
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
            self.request_failed(ticket, error);
        }
        self.reconcile_again();
        self.sync();
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
            acknowledged_through: self.acknowledged,
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
                self.clock.observe(version);
                match self.targets.stage(changes) {
                    Ok(()) if !partial => self.consistent(version),
                    Ok(()) => {}
                    Err(error) => self.drop_connection(error.into()),
                }
            }
            ServerMessage::Aggregated(aggregated) => {
                let (version, partial) = (aggregated.version, aggregated.partial);
                match self.targets.stage_values(aggregated) {
                    Ok(()) if !partial => self.consistent(version),
                    Ok(()) => {}
                    Err(error) => self.drop_connection(error),
                }
            }
            ServerMessage::Current { version } => {
                self.clock.observe(version);
                self.consistent(version);
            }
            ServerMessage::TargetError { target, status } => {
                self.target_failed(target, &status.into());
            }
            ServerMessage::Committed { write_id, version, results } => {
                self.committed(write_id, Committed { version, results });
            }
            ServerMessage::Rejected { write_id, status } => self.rejected(write_id, status.into()),
            ServerMessage::Result(result) => {
                self.clock.observe(result.version);
                self.answered(result);
            }
            ServerMessage::AggregateResult(result) => self.computed(result),
            ServerMessage::RequestError { request, status } => {
                let error = Error::from(status);
                if self.digest_failed(request, &error) {
                    return;
                }
                if let Some((ticket, error)) = self.requests.failed(request, error, self.now) {
                    self.request_failed(ticket, error);
                }
            }
            ServerMessage::Pong { .. } => {}
            ServerMessage::Stale { target, reason: _ } => self.stale(target),
            ServerMessage::DigestResult(result) => self.digest_answered(result),
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
            | ServerMessage::Aggregated(_)
            | ServerMessage::AggregateResult(_)
            | ServerMessage::Current { .. }
            | ServerMessage::TargetError { .. }
            | ServerMessage::Committed { .. }
            | ServerMessage::Rejected { .. }
            | ServerMessage::Result(_)
            | ServerMessage::RequestError { .. }
            | ServerMessage::Stale { .. }
            | ServerMessage::DigestResult(_)
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
        self.align_clock(welcome.server_time);
        if self.targets.enter(welcome.incarnation) {
            self.forget_life();
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
        self.leave_reconciles();
        self.targets.leave();
        let stamped = self.outbox.leave();
        self.revise(&stamped);
        self.return_answers();
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
        }
    }

    fn report_state(&mut self) {
        if let Some(state) = self.connection.changed_state() {
            self.actions.push(Action::State(state));
        }
    }

    /// Sends whatever may be sent now. Called after every event.
    fn pump(&mut self) {
        self.pump_release();
        if self.connection.online().is_some() {
            if self.closing.is_none() {
                self.pump_commits();
                self.pump_limbo();
                self.pump_requests();
            }
            self.pump_acknowledge();
        }
        for ticket in self.outbox.settled_waiters() {
            self.actions.push(Action::WritesSettled { ticket });
        }
        if let Some(at) = self.closing
            && !self.stopped
            && (self.outbox.in_flight() == 0
                || self.connection.online().is_none()
                || self.now.elapsed >= at)
        {
            self.actions.extend([Action::Disconnect, Action::Stop]);
            self.stopped = true;
        }
    }

    fn pump_requests(&mut self) {
        let Some(online) = self.connection.online() else { return };
        let frame_bytes = online.limits.frame_bytes;
        let documents = &self.documents;
        for (ticket, message) in self.requests.take_queued(|query| documents.has_pending_of(query))
        {
            match requests::check_size(&message, frame_bytes) {
                Ok(()) => self.send(message),
                Err(error) => {
                    self.requests.forget(ticket);
                    self.request_failed(ticket, error);
                }
            }
        }
    }

    /// Stores a batch; the engine goes on without what the cache could not store.
    fn store(&mut self, batch: CacheBatch, durability: Durability) -> Result<(), CacheError> {
        if batch.is_empty() {
            return Ok(());
        }
        self.flush();
        let stored = self.cache.apply(batch, durability);
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
            clock: self.clock.offset().map(|offset| ClockAnchor { offset }),
            last_edit: self.clock.settled(),
            incarnation: self.targets.incarnation(),
        }
    }
}
