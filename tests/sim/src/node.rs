//! A client: the pure engine of `tidemark-core`, its cache on a virtual disk, and what its app has
//! seen. Does what the driver of `tidemark-core` does, in virtual time; decides nothing. The world
//! brings it events.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tidemark_core::engine::{
    Action, Answer, ConnectionId, Engine, Event, ListenerId, Moment, Request, Settings, Source,
    Ticket,
};
use tidemark_core::{
    AggregateSnapshot, ConnectionState, DocumentSnapshot, Error, QuerySnapshot, SnapshotMetadata,
};
use tidemark_protocol::model::{ClientId, Read, Target, Value, Version, Write};
use tidemark_protocol::wire::client::ClientMessage;
use tidemark_protocol::wire::codec::{decode_server, encode_client};
use tidemark_protocol::wire::server::ServerMessage;

use crate::chance::Chance;
use crate::clock::Now;
use crate::disk::ClientDisk;
use crate::mutation::Mutation;
use crate::net::{Down, Happening, LinkId, Net, Up};
use crate::tap::{Intent, Tap};

/// What a listener was shown.
#[derive(Clone, Debug)]
pub enum Shown {
    /// Documents.
    Documents(QuerySnapshot),
    /// Values.
    Values(AggregateSnapshot),
}

impl Shown {
    /// The consistent point it shows.
    pub fn version(&self) -> Version {
        match self {
            Shown::Documents(snapshot) => snapshot.version(),
            Shown::Values(snapshot) => snapshot.version(),
        }
    }

    /// How much of it the server has confirmed.
    pub fn metadata(&self) -> SnapshotMetadata {
        match self {
            Shown::Documents(snapshot) => snapshot.metadata(),
            Shown::Values(snapshot) => snapshot.metadata(),
        }
    }

    /// What is to be compared.
    pub fn view(&self) -> View<'_> {
        match self {
            Shown::Documents(snapshot) => View::Rows(snapshot.documents()),
            Shown::Values(snapshot) => {
                View::Values(snapshot.values().iter().map(|(_, value)| value).collect())
            }
        }
    }
}

/// What a target shows, however it was asked for.
#[derive(Clone, Debug)]
pub enum View<'a> {
    /// Of documents.
    Rows(&'a [DocumentSnapshot]),
    /// Of an aggregate.
    Values(Vec<&'a Value>),
}

/// When a listener was shown something.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The event of the client that brought it.
    pub event: u64,
    /// What.
    pub shown: Shown,
}

/// A listener of the app.
#[derive(Debug)]
pub struct Listener {
    /// To what.
    pub target: Target,
    /// All that it was shown, in order.
    pub history: Vec<Seen>,
    /// Why it ended, if it did by itself.
    pub failed: Option<Error>,
    /// Whether it is told when nothing but metadata changes.
    pub metadata: bool,
}

/// What the app asked for once.
#[derive(Debug)]
#[allow(missing_docs, clippy::large_enum_variant)] // The names say it; they are few.
pub enum Asked {
    /// For its own sake, and to compare with what the listener of this slot shows at the end.
    Once { target: Target },
    /// For a transaction that goes on with these writes.
    Transaction { writes: Vec<Write>, reads: Vec<Read> },
}

/// An answer to something asked once.
#[derive(Debug)]
pub struct Answered {
    /// What was asked.
    pub target: Target,
    /// The event that brought it.
    pub event: u64,
    /// The answer.
    pub outcome: Result<Answer, Error>,
}

/// What the world gives a client with each event.
pub struct Around<'a> {
    /// Virtual time.
    pub now: Now,
    /// The network.
    pub net: &'a Arc<Net>,
    /// Knows of all writes.
    pub tap: &'a Arc<Tap>,
}

/// A client.
pub struct Node {
    /// Its number.
    pub index: usize,
    /// Its cache's disk.
    pub disk: ClientDisk,
    /// How wrong its clock is.
    pub skew_ms: i64,
    /// Counts its processes; of the present one, or the last.
    pub life: u64,
    /// Counts its events, over all lives.
    pub events: u64,
    /// The listeners by slot.
    pub slots: BTreeMap<u8, ListenerId>,
    /// All listeners there ever were.
    pub listeners: BTreeMap<ListenerId, Listener>,
    /// All answers to what was asked once.
    pub answers: Vec<Answered>,
    /// How often it was online.
    pub connections: u64,
    /// The event of each crash.
    pub crashes: Vec<u64>,
    engine: Option<Engine>,
    state: ConnectionState,
    chance: Chance,
    link: Option<LinkId>,
    connection: ConnectionId,
    last_ticket: u64,
    last_listener: u64,
    writes: BTreeMap<Ticket, usize>,
    requests: BTreeMap<Ticket, Asked>,
    /// When the next tick is on the agenda.
    armed: Option<Duration>,
    mutation: Option<Mutation>,
    /// What is still to be done with what the engine answered.
    transactions: Vec<(Vec<Write>, Vec<Read>)>,
}

impl Node {
    /// A client that was never started.
    pub fn new(index: usize, seed: u64, budget: u64, mutation: Option<Mutation>) -> Node {
        Node {
            index,
            disk: ClientDisk::new(budget, mutation),
            skew_ms: 0,
            life: 0,
            events: 0,
            slots: BTreeMap::new(),
            listeners: BTreeMap::new(),
            answers: Vec::new(),
            connections: 0,
            crashes: Vec::new(),
            engine: None,
            state: ConnectionState::Connecting,
            chance: Chance::of(&[seed, 2, index as u64]),
            link: None,
            connection: ConnectionId(0),
            last_ticket: 0,
            last_listener: 0,
            writes: BTreeMap::new(),
            requests: BTreeMap::new(),
            armed: None,
            mutation,
            transactions: Vec::new(),
        }
    }

    /// Who it is to the server.
    pub fn client_id(index: usize) -> ClientId {
        let byte = u8::try_from(index + 1).unwrap_or(u8::MAX);
        ClientId([byte; 16])
    }

    /// Whether its process runs.
    pub fn is_running(&self) -> bool {
        self.engine.is_some()
    }

    /// Whether it is connected.
    pub fn is_online(&self) -> bool {
        self.is_running() && self.state == ConnectionState::Online
    }

    /// Requests without an answer.
    pub fn waiting(&self) -> usize {
        self.requests.len()
    }

    /// The listeners of the present process that have not ended.
    pub fn listening(&self) -> impl Iterator<Item = &Listener> {
        let ids = self.slots.values();
        ids.filter_map(|id| self.listeners.get(id)).filter(|listener| listener.failed.is_none())
    }

    /// What its app listens to.
    pub fn listened_to(&self) -> Vec<Target> {
        self.listening().map(|listener| listener.target.clone()).collect()
    }

    /// What a listener still waits for.
    pub fn unsettled_listener(&self) -> Option<String> {
        self.listening().find_map(|listener| {
            let target = &listener.target;
            let Some(last) = listener.history.last() else {
                return Some(format!("a listener to {target:?} was shown nothing"));
            };
            let metadata = last.shown.metadata();
            // The others are not told of metadata alone.
            (listener.metadata && (metadata.from_cache || metadata.has_pending_writes))
                .then(|| format!("a listener to {target:?} is not current: {metadata:?}"))
        })
    }

    /// The process starts, from what the disk has.
    pub fn start(&mut self, around: &Around<'_>) -> Result<(), Error> {
        if self.is_running() {
            return Ok(());
        }
        self.life += 1;
        let settings = Settings {
            project: "default".to_owned(),
            database: "(default)".to_owned(),
            token: String::new(),
            agent: "sim".to_owned(),
            client_id: Node::client_id(self.index),
        };
        self.engine = Some(Engine::new(settings, Box::new(self.disk.open()))?);
        self.state = ConnectionState::Connecting;
        self.handle(Event::Tick, around);
        Ok(())
    }

    /// The process dies.
    pub fn crash(&mut self, lost: u8, around: &Around<'_>) {
        if self.engine.take().is_none() {
            return;
        }
        self.events += 1;
        self.crashes.push(self.events);
        self.disk.crash(lost);
        if let Some(link) = self.link.take() {
            around.net.send_up(link, Up::Closed);
        }
        self.slots.clear();
        self.writes.clear();
        self.requests.clear();
        self.transactions.clear();
        self.armed = None;
    }

    /// The app writes.
    pub fn write(&mut self, writes: Vec<Write>, around: &Around<'_>) {
        self.commit(writes, Vec::new(), true, around);
        self.go_on(around);
    }

    fn commit(&mut self, writes: Vec<Write>, reads: Vec<Read>, local: bool, around: &Around<'_>) {
        if !self.is_running() {
            return;
        }
        let at = {
            let mut record = around.tap.record();
            record.intents.push(Intent {
                client: self.index,
                writes: writes.clone(),
                reads: reads.clone(),
                local,
                stored: None,
                made: self.events + 1,
                life: self.life,
                told: None,
                id: None,
                asked: Vec::new(),
                committed: None,
                rejected: false,
            });
            record.intents.len() - 1
        };
        let ticket = self.ticket();
        self.writes.insert(ticket, at);
        self.handle(Event::Commit { ticket, writes, reads, local }, around);
    }

    /// The app begins a transaction: reads first.
    pub fn transact(&mut self, writes: Vec<Write>, around: &Around<'_>) {
        let paths = writes.iter().map(|write| write.path.clone()).collect();
        let asked = Asked::Transaction { writes, reads: Vec::new() };
        self.ask(Request::Get { paths, overlay: false }, asked, around);
    }

    /// The app asks once for what a target shows.
    pub fn ask_target(&mut self, target: Target, around: &Around<'_>) {
        let request = match &target {
            Target::Documents(paths) => Request::Get { paths: paths.clone(), overlay: true },
            Target::Query(query) => Request::Query { query: query.clone(), explain: false },
            Target::Aggregate(aggregate) => {
                Request::Aggregate { aggregate: aggregate.clone(), explain: false }
            }
        };
        self.ask(request, Asked::Once { target }, around);
    }

    fn ask(&mut self, request: Request, asked: Asked, around: &Around<'_>) {
        if !self.is_running() {
            return;
        }
        let ticket = self.ticket();
        self.requests.insert(ticket, asked);
        let timeout = Duration::from_secs(10);
        self.handle(Event::Request { ticket, request, source: Source::Default, timeout }, around);
        self.go_on(around);
    }

    /// The app listens; the slot's former listener ends.
    pub fn listen(&mut self, slot: u8, target: Target, metadata: bool, around: &Around<'_>) {
        if !self.is_running() {
            return;
        }
        self.unlisten(slot, around);
        self.last_listener += 1;
        let id = ListenerId(self.last_listener);
        self.slots.insert(slot, id);
        let (history, failed) = (Vec::new(), None);
        let listener = Listener { target: target.clone(), history, failed, metadata };
        self.listeners.insert(id, listener);
        let event = Event::Listen { listener: id, target, include_metadata: metadata };
        self.handle(event, around);
    }

    /// The listener of a slot ends.
    pub fn unlisten(&mut self, slot: u8, around: &Around<'_>) {
        if let Some(listener) = self.slots.remove(&slot) {
            self.handle(Event::Unlisten { listener }, around);
        }
    }

    /// The app wants the network or not.
    pub fn set_network(&mut self, enabled: bool, around: &Around<'_>) {
        self.handle(Event::Network { enabled }, around);
    }

    /// The connection breaks.
    pub fn disconnect(&mut self, around: &Around<'_>) {
        if let Some(link) = self.link.take() {
            around.net.send_up(link, Up::Closed);
            let error = Error::new(tidemark_core::Code::Unavailable, "the connection broke");
            let connection = self.connection;
            self.handle(Event::Disconnected { connection, error }, around);
        }
    }

    /// Something has come over a link.
    pub fn arrived(
        &mut self,
        link: LinkId,
        connection: ConnectionId,
        what: Down,
        around: &Around<'_>,
    ) {
        let event = match what {
            Down::Opened => Event::Connected { connection },
            Down::Frame(frame) => match decode_server(&frame) {
                Ok(message) => match self.mutated(message) {
                    Some(message) => Event::Received { connection, message },
                    None => return,
                },
                Err(error) => Event::Undecodable { connection, error: error.into() },
            },
            Down::Ping => return around.net.send_up(link, Up::Pong),
            Down::Closed => {
                if self.link == Some(link) {
                    self.link = None;
                }
                let error = Error::new(tidemark_core::Code::Unavailable, "the server closed");
                Event::Disconnected { connection, error }
            }
        };
        self.handle(event, around);
        self.go_on(around);
    }

    /// A deadline may have come.
    pub fn tick(&mut self, life: u64, around: &Around<'_>) {
        if life != self.life || !self.is_running() {
            return;
        }
        self.armed = None;
        let due = self.engine.as_ref().and_then(Engine::deadline);
        if due.is_some_and(|due| due <= around.now.elapsed()) {
            self.handle(Event::Tick, around);
            self.go_on(around);
        } else {
            self.arm(around);
        }
    }

    fn ticket(&mut self) -> Ticket {
        self.last_ticket += 1;
        Ticket(self.last_ticket)
    }

    fn arm(&mut self, around: &Around<'_>) {
        let Some(due) = self.engine.as_ref().and_then(Engine::deadline) else { return };
        if self.armed.is_none_or(|armed| due < armed) {
            self.armed = Some(due);
            let (client, life) = (self.index, self.life);
            around.net.at(due, Happening::Tick { client, life });
        }
    }

    /// What a transaction read has come: it goes on.
    fn go_on(&mut self, around: &Around<'_>) {
        for (writes, reads) in std::mem::take(&mut self.transactions) {
            self.commit(writes, reads, false, around);
        }
    }

    fn handle(&mut self, event: Event, around: &Around<'_>) {
        let Some(engine) = &mut self.engine else { return };
        self.events += 1;
        let elapsed = around.now.elapsed();
        let wall = around.now.wall(self.skew_ms);
        let now = Moment { elapsed, wall, random: self.chance.next() };
        let actions = engine.handle(event, now);
        for action in actions {
            self.act(action, around);
        }
        if self.chance.percent(30) {
            // The driver may be busy with other events before it comes to this; a crash too.
            let at = elapsed + Duration::from_millis(self.chance.below(4));
            let (client, life) = (self.index, self.life);
            around.net.at(at, Happening::Settle { client, life });
            self.arm(around);
        } else {
            self.settle(around);
        }
    }

    /// What waited until the actions were done is stored.
    fn settle(&mut self, around: &Around<'_>) {
        let Some(engine) = &mut self.engine else { return };
        for action in engine.settle() {
            self.act(action, around);
        }
        self.arm(around);
    }

    /// The driver comes to storing.
    pub fn settle_later(&mut self, life: u64, around: &Around<'_>) {
        if life == self.life {
            self.settle(around);
        }
    }

    fn act(&mut self, action: Action, around: &Around<'_>) {
        match action {
            Action::Connect { connection } => {
                self.close(around);
                self.connection = connection;
                self.link = Some(around.net.connect(self.index, self.life, connection));
            }
            Action::Send(message) => self.send(message, around),
            Action::Disconnect => self.close(around),
            Action::State(state) => {
                self.connections += u64::from(state == ConnectionState::Online);
                self.state = state;
            }
            Action::Snapshot { listener, snapshot } => {
                self.see(listener, Shown::Documents(snapshot));
            }
            Action::Aggregated { listener, snapshot } => {
                self.see(listener, Shown::Values(snapshot));
            }
            Action::ListenerFailed { listener, error } => {
                if let Some(listener) = self.listeners.get_mut(&listener) {
                    listener.failed = Some(error);
                }
            }
            Action::WriteDone { ticket, outcome } => {
                let outcome = outcome.map(|done| done.version).map_err(|error| error.code());
                if let Some(at) = self.writes.remove(&ticket) {
                    around.tap.record().told(at, self.events, outcome);
                }
            }
            Action::WriteStored { ticket, id } => {
                if let Some(at) = self.writes.get(&ticket) {
                    around.tap.record().stored(*at, id);
                }
            }
            Action::RequestDone { ticket, outcome } => self.answered(ticket, outcome),
            Action::Write(_)
            | Action::WritesListed { .. }
            | Action::Discarded { .. }
            | Action::WritesSettled { .. }
            | Action::Stop => {}
        }
    }

    fn send(&mut self, mut message: ClientMessage, around: &Around<'_>) {
        let Some(link) = self.link else { return };
        match (&mut message, self.mutation) {
            (ClientMessage::Commit(commit), Some(Mutation::CommitRepeated))
                if self.chance.percent(5) =>
            {
                let mut again = commit.clone();
                again.write_id.0 += 1_000_000;
                let again = encode_client(&ClientMessage::Commit(again));
                around.net.send_up(link, Up::Frame(again));
            }
            (ClientMessage::Listen(listen), Some(Mutation::TokensSpoilt)) => {
                if let Some(token) = &mut listen.resume {
                    token.incarnation.0 ^= 1;
                }
                listen.reconciles = false;
            }
            (ClientMessage::Listen(listen), Some(Mutation::TokenAhead)) => {
                if let Some(token) = &mut listen.resume {
                    token.version.0 += 2_000_000;
                }
            }
            _ => {}
        }
        around.net.send_up(link, Up::Frame(encode_client(&message)));
    }

    fn mutated(&mut self, mut message: ServerMessage) -> Option<ServerMessage> {
        match (&mut message, self.mutation) {
            (ServerMessage::Changes(changes), Some(Mutation::ChangesDropped))
                if self.chance.percent(5) =>
            {
                changes.documents.clear();
                changes.removals.clear();
            }
            (ServerMessage::Committed { write_id, .. }, Some(Mutation::OutcomeTurned))
                if self.chance.percent(5) =>
            {
                let message = "turned".to_owned();
                let status = tidemark_protocol::wire::server::Status {
                    code: tidemark_core::Code::PermissionDenied,
                    message,
                };
                return Some(ServerMessage::Rejected { write_id: *write_id, status });
            }
            _ => {}
        }
        Some(message)
    }

    fn close(&mut self, around: &Around<'_>) {
        if let Some(link) = self.link.take() {
            around.net.send_up(link, Up::Closed);
        }
    }

    fn see(&mut self, listener: ListenerId, shown: Shown) {
        let skips = self.mutation == Some(Mutation::ListenerSkips) && self.chance.percent(3);
        let event = self.events;
        if let Some(listener) = self.listeners.get_mut(&listener)
            && !skips
        {
            listener.history.push(Seen { event, shown });
        }
    }

    fn answered(&mut self, ticket: Ticket, outcome: Result<Answer, Error>) {
        match self.requests.remove(&ticket) {
            Some(Asked::Once { target }) => {
                let event = self.events;
                self.answers.push(Answered { target, event, outcome });
            }
            Some(Asked::Transaction { writes, .. }) => {
                let Ok(answer) = outcome else { return };
                let read = |(document, write): (&DocumentSnapshot, &Write)| Read {
                    path: write.path.clone(),
                    version: document.update_version(),
                };
                let reads = answer.documents.iter().zip(&writes).map(read).collect();
                self.transactions.push((writes, reads));
            }
            None => {}
        }
    }
}
