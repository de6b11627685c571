//! What holds for any course of events: a model of the server, a few listeners, and chance. A failure
//! names its seed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tidemark_protocol::model::*;
use tidemark_protocol::wire::client::ClientMessage;
use tidemark_protocol::wire::codec::encode_document;
use tidemark_protocol::wire::server::{
    AggregateResult, Aggregated, Changes, Removal, ServerMessage, Status,
};

use super::script::{query, target};
use super::server::{COUNTER, Chance, Server, computed, result, welcome};
use crate::aggregate::AggregateSnapshot;
use crate::cache::MemoryCache;
use crate::engine::{
    Action, ConnectionId, Engine, Event, ListenerId, Moment, Request, Settings, Source, Ticket,
};
use crate::error::Error;
use crate::queue::SnapshotQueue;
use crate::snapshot::{ChangeKind, DocumentSnapshot, QuerySnapshot, SnapshotMetadata};

/// Someone who listens to an aggregate.
struct Counter {
    aggregate: AggregateQuery,
    include_metadata: bool,
    last: Option<AggregateSnapshot>,
}

impl Counter {
    fn read(&mut self, snapshot: AggregateSnapshot) {
        if let Some(last) = &self.last {
            assert!(last.version() <= snapshot.version(), "a step back");
            let same = last.values() == snapshot.values();
            assert!(!same || self.include_metadata, "what is known is told again");
            assert!(!same || last.metadata() != snapshot.metadata(), "nothing new is told");
        }
        self.last = Some(snapshot);
    }
}

/// Someone who listens, reads when he likes, and keeps a copy by changes alone.
struct Reader {
    target: Target,
    include_metadata: bool,
    queue: Arc<SnapshotQueue>,
    copy: Vec<DocumentSnapshot>,
    last: Option<QuerySnapshot>,
}

impl Reader {
    fn read(&mut self) {
        let waker = futures::task::noop_waker();
        while let Poll::Ready(item) = self.queue.poll(&Context::from_waker(&waker)) {
            let snapshot = item.unwrap().unwrap();
            if let Some(last) = &self.last {
                assert!(last.version() <= snapshot.version(), "a step back");
            }
            replay(&mut self.copy, &snapshot);
            self.check_counter(&snapshot);
            self.last = Some(snapshot);
        }
    }

    /// Nobody else writes it and no increment is refused: it only grows.
    fn check_counter(&self, snapshot: &QuerySnapshot) {
        let count = |snapshot: &QuerySnapshot| {
            let counter =
                snapshot.documents().iter().find(|document| document.path().as_str() == COUNTER);
            match counter.and_then(|counter| counter.get("n")) {
                Some(Value::Integer(count)) => *count,
                _ => 0,
            }
        };
        if let Some(last) = &self.last {
            assert!(count(last) <= count(snapshot), "the counter flickers");
        }
    }
}

fn replay(copy: &mut Vec<DocumentSnapshot>, snapshot: &QuerySnapshot) {
    for change in snapshot.changes() {
        if let Some(index) = change.old_index {
            let old = copy.remove(index);
            assert_eq!(old.path(), change.document.path(), "another document is at the old place");
        }
        match (change.kind, change.new_index) {
            (ChangeKind::Removed, None) => {}
            (ChangeKind::Added | ChangeKind::Modified, Some(index)) => {
                copy.insert(index, change.document.clone());
            }
            other => panic!("{other:?} makes no sense"),
        }
    }
    assert_eq!(copy.as_slice(), snapshot.documents(), "the changes do not add up");
}

struct World {
    chance: Chance,
    engine: Engine,
    elapsed: Duration,
    connection: Option<ConnectionId>,
    server: Server,
    to_server: VecDeque<ClientMessage>,
    readers: BTreeMap<ListenerId, Reader>,
    counters: BTreeMap<ListenerId, Counter>,
    last_id: u64,
    open_writes: BTreeSet<Ticket>,
    open_requests: BTreeSet<Ticket>,
    increments: i64,
}

impl World {
    fn new(seed: u64) -> World {
        let settings = Settings {
            project: String::new(),
            database: String::new(),
            token: String::new(),
            agent: String::new(),
            client_id: ClientId([1; 16]),
        };
        World {
            chance: Chance(seed),
            engine: Engine::new(settings, Box::new(MemoryCache::new())).unwrap(),
            elapsed: Duration::ZERO,
            connection: None,
            server: Server::default(),
            to_server: VecDeque::new(),
            readers: BTreeMap::new(),
            counters: BTreeMap::new(),
            last_id: 0,
            open_writes: BTreeSet::new(),
            open_requests: BTreeSet::new(),
            increments: 0,
        }
    }

    fn id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    fn handle(&mut self, event: Event) {
        let wall = Timestamp::from_micros(1_000_000 + self.elapsed.as_micros() as i64).unwrap();
        let now = Moment { elapsed: self.elapsed, wall, random: self.chance.next() };
        let mut actions = self.engine.handle(event, now);
        actions.extend(self.engine.settle());
        for action in actions {
            match action {
                Action::Connect { connection } => self.connection = Some(connection),
                Action::Send(message) => self.to_server.push_back(message),
                Action::Disconnect => self.unlink(),
                Action::State(_)
                | Action::WritesSettled { .. }
                | Action::WriteStored { .. }
                | Action::Write(_)
                | Action::WritesListed { .. }
                | Action::Discarded { .. } => {}
                Action::Snapshot { listener, snapshot } => {
                    if let Some(reader) = self.readers.get(&listener) {
                        reader.queue.push(snapshot);
                    }
                }
                Action::Aggregated { listener, snapshot } => {
                    if let Some(counter) = self.counters.get_mut(&listener) {
                        counter.read(snapshot);
                    }
                }
                Action::ListenerFailed { error, .. } => panic!("a listener failed: {error}"),
                Action::WriteDone { ticket, .. } => {
                    assert!(self.open_writes.remove(&ticket), "a write is answered twice");
                }
                Action::RequestDone { ticket, .. } => {
                    assert!(self.open_requests.remove(&ticket), "a request is answered twice");
                }
                Action::Stop => panic!("nobody asked to stop"),
            }
        }
    }

    fn unlink(&mut self) {
        self.connection = None;
        self.to_server.clear();
        self.server.targets.clear();
        self.server.sent.clear();
        self.server.answers.clear();
    }

    fn path(&mut self) -> DocumentPath {
        DocumentPath::parse(&format!("rooms/{}", self.chance.below(12))).unwrap()
    }

    fn random_writes(&mut self) -> Vec<Write> {
        let count = 1 + self.chance.below(3) * self.chance.below(2);
        (0..count).map(|_| self.random_write()).collect()
    }

    fn random_write(&mut self) -> Write {
        let path = self.path();
        let number = Value::Integer(self.chance.below(20) as i64);
        let fields = Fields::from([("n".to_owned(), number)]);
        let mask = vec![FieldPath::parse("n").unwrap()];
        let (op, precondition) = match self.chance.below(6) {
            0 => (WriteOp::Delete, None),
            1 => (WriteOp::Update { fields, mask }, Some(Precondition::Exists(true))),
            2 => (WriteOp::Update { fields, mask }, None),
            3 => (WriteOp::Set(fields), Some(Precondition::Exists(false))),
            _ => (WriteOp::Set(fields), None),
        };
        Write { path, op, transforms: Vec::new(), precondition }
    }

    fn write(&mut self, writes: Vec<Write>) {
        let ticket = Ticket(self.id());
        self.open_writes.insert(ticket);
        self.handle(Event::Commit { ticket, writes, reads: Vec::new(), local: true });
    }

    fn count(&mut self) {
        self.increments += 1;
        let transform = Transform::Increment(Value::Integer(1));
        let transforms = vec![FieldTransform { field: FieldPath::parse("n").unwrap(), transform }];
        let op = WriteOp::Update { fields: Fields::new(), mask: Vec::new() };
        let path = DocumentPath::parse(COUNTER).unwrap();
        self.write(vec![Write { path, op, transforms, precondition: None }]);
    }

    fn listen(&mut self) {
        let listener = ListenerId(self.id());
        let target = match self.chance.below(15) {
            0 => Target::Documents(vec![self.path()]),
            1 => Target::Documents(vec![DocumentPath::parse(COUNTER).unwrap()]),
            2 => target(&["rooms", "order=n", "limit=3"]),
            3 => target(&["rooms", "min=8", "order=n"]),
            4 => target(&["rooms", "order=n"]),
            5 => target(&["rooms", "order=n", "last=3"]),
            6 => target(&["rooms", "order=n:desc", "offset=2", "limit=3"]),
            7 => target(&["rooms", "order=n", "offset=1", "last=4"]),
            8 => target(&["rooms", "group", "any=3,5,7"]),
            9 => target(&["rooms", "group", "order=n", "limit=4", "select=other"]),
            10 => target(&["rooms", "order=n", "select=n"]),
            11..=12 => target(&["rooms", "min=8", "count", "sum=n"]),
            13 => target(&["rooms", "group", "order=n", "limit=4", "sum=n"]),
            _ => target(&["rooms"]),
        };
        let queue = Arc::new(SnapshotQueue::default());
        let include_metadata = self.chance.below(3) == 0;
        if let Target::Aggregate(aggregate) = &target {
            let counter = Counter { aggregate: aggregate.clone(), include_metadata, last: None };
            self.counters.insert(listener, counter);
            return self.handle(Event::Listen { listener, target, include_metadata });
        }
        let copy = Vec::new();
        let reader = Reader { target: target.clone(), include_metadata, queue, copy, last: None };
        self.readers.insert(listener, reader);
        self.handle(Event::Listen { listener, target, include_metadata });
    }

    fn unlisten(&mut self) {
        if self.chance.below(4) == 0
            && let Some((listener, _)) = self.counters.pop_last()
        {
            return self.handle(Event::Unlisten { listener });
        }
        let nth = self.chance.below(self.readers.len().max(1) as u64) as usize;
        if let Some(listener) = self.readers.keys().nth(nth).copied() {
            self.readers.remove(&listener);
            self.handle(Event::Unlisten { listener });
        }
    }

    fn ask(&mut self) {
        let ticket = Ticket(self.id());
        self.open_requests.insert(ticket);
        let clauses: &[&str] = match self.chance.below(6) {
            0 => &["rooms", "order=n", "limit=4"],
            1 => &["rooms", "order=n", "offset=2", "last=4"],
            2 => &["rooms", "order=n", "select=other"],
            _ => &["rooms", "min=8", "count", "sum=n"],
        };
        let request = match target(clauses) {
            Target::Query(_) if self.chance.below(2) == 0 => {
                Request::Get { paths: vec![self.path()], overlay: self.chance.below(2) == 0 }
            }
            Target::Query(query) => Request::Query { query, explain: false },
            Target::Aggregate(aggregate) => Request::Aggregate { aggregate, explain: false },
            Target::Documents(_) => unreachable!(),
        };
        let source = match request {
            Request::Get { overlay: false, .. } => Source::Server,
            Request::Get { .. } | Request::Query { .. } | Request::Aggregate { .. } => {
                [Source::Default, Source::Server, Source::Cache][self.chance.below(3) as usize]
            }
        };
        let timeout = Duration::from_secs(60);
        self.handle(Event::Request { ticket, request, source, timeout });
    }

    fn connect(&mut self) {
        if let Some(connection) = self.connection {
            self.handle(Event::Connected { connection });
        }
    }

    fn disconnect(&mut self) {
        if let Some(connection) = self.connection {
            self.unlink();
            self.handle(Event::Disconnected { connection, error: Error::unavailable("chance") });
        }
    }

    fn pass(&mut self, time: Duration) {
        self.elapsed += time;
        self.server.now = 1_000_000 + self.elapsed.as_micros() as u64;
        self.handle(Event::Tick);
    }

    fn serve(&mut self) {
        if let Some(message) = self.to_server.pop_front() {
            self.server.receive(message, &mut self.chance);
        }
    }

    fn deliver(&mut self) {
        let queue = match self.chance.below(2) {
            0 => &mut self.server.sent,
            _ => &mut self.server.answers,
        };
        if let (Some(connection), Some(message)) = (self.connection, queue.pop_front()) {
            self.handle(Event::Received { connection, message });
        }
    }

    fn step(&mut self) {
        match self.chance.below(40) {
            0..=9 => self.serve(),
            10..=21 => self.deliver(),
            22..=24 => {
                let writes = self.random_writes();
                self.write(writes);
            }
            25 => self.count(),
            26..=29 => {
                let writes = self.random_writes();
                // What a precondition refuses changes nothing.
                let _ = self.server.apply(&writes, &mut self.chance);
            }
            30 => self.listen(),
            31 => self.unlisten(),
            32 => self.ask(),
            33..=34 => self.connect(),
            35 if self.chance.below(4) == 0 => self.disconnect(),
            36 if self.chance.below(40) == 0 => self.handle(Event::Network { enabled: false }),
            37 => self.handle(Event::Network { enabled: true }),
            38 => self.pass(Duration::from_millis(50)),
            39 if self.chance.below(20) == 0 => self.pass(Duration::from_secs(11)),
            _ => self.readers.values_mut().for_each(|reader| {
                if reader.queue.is_long() {
                    reader.read();
                }
            }),
        }
    }

    /// Lets everything that is under way arrive, then compares with the truth.
    fn settle(&mut self) {
        self.handle(Event::Network { enabled: true });
        for _ in 0..200 {
            self.pass(Duration::from_millis(500));
            self.connect();
            while !self.to_server.is_empty()
                || !self.server.sent.is_empty()
                || !self.server.answers.is_empty()
            {
                self.serve();
                self.deliver();
            }
        }
        assert!(self.open_writes.is_empty(), "writes without an answer: {:?}", self.open_writes);
        assert!(self.open_requests.is_empty(), "requests without an answer");
        let (_, state) = self.server.state();
        let count =
            state.get(&DocumentPath::parse(COUNTER).unwrap()).map(|counter| &counter.fields["n"]);
        assert_eq!(count.cloned().unwrap_or(Value::Integer(0)), Value::Integer(self.increments));
        for counter in self.counters.values() {
            let last = counter.last.as_ref().unwrap();
            let values = last.values().iter().map(|(_, value)| value.clone());
            assert_eq!(values.collect::<Vec<_>>(), computed(&counter.aggregate, &state));
            if counter.include_metadata {
                assert_eq!(last.metadata(), SnapshotMetadata::default());
            }
        }
        for reader in self.readers.values_mut() {
            reader.read();
            let seen: Vec<_> = reader.copy.iter().map(|row| row.document().unwrap()).collect();
            let truth = result(&reader.target, &state);
            let same = |(seen, truth): (&&Arc<Document>, &Document)| {
                seen.path == truth.path && seen.fields == truth.fields
            };
            assert!(
                seen.len() == truth.len() && seen.iter().zip(&truth).all(same),
                "{:?}\nshows {seen:?}\nand not {truth:?}",
                reader.target
            );
            // Others are not told when only that changes.
            if reader.include_metadata {
                let last = reader.last.as_ref().unwrap();
                assert_eq!(last.metadata(), SnapshotMetadata::default());
            }
        }
    }
}

#[test]
fn any_course_of_events_leads_to_the_truth_and_its_changes_add_up() {
    for seed in 0..200 {
        let outcome = std::panic::catch_unwind(|| {
            let mut world = World::new(seed);
            world.handle(Event::Tick);
            for _ in 0..600 {
                world.step();
            }
            world.settle();
        });
        assert!(outcome.is_ok(), "seed {seed} fails");
    }
}

#[test]
fn any_frame_at_any_time_is_survived() {
    for seed in 0..150 {
        let mut world = World::new(seed);
        world.handle(Event::Tick);
        for _ in 0..300 {
            match world.chance.below(3) {
                0 => {
                    let (connection, message) = (world.any_connection(), world.any_frame());
                    world.tolerate(Event::Received { connection, message });
                }
                1 => {
                    let event = world.any_event();
                    world.tolerate(event);
                }
                _ => world.connect(),
            }
        }
    }
}

impl World {
    /// Handles an event of which nothing is expected but survival.
    fn tolerate(&mut self, event: Event) {
        self.elapsed += Duration::from_millis(self.chance.below(300));
        let wall = Timestamp::default();
        let now = Moment { elapsed: self.elapsed, wall, random: self.chance.next() };
        let mut actions = self.engine.handle(event, now);
        actions.extend(self.engine.settle());
        for action in actions {
            match action {
                Action::Connect { connection } => self.connection = Some(connection),
                Action::Snapshot { listener, snapshot } => {
                    let reader = self.readers.get_mut(&listener).unwrap();
                    replay(&mut reader.copy, &snapshot);
                }
                Action::Send(_)
                | Action::Disconnect
                | Action::State(_)
                | Action::Aggregated { .. }
                | Action::ListenerFailed { .. }
                | Action::WriteDone { .. }
                | Action::RequestDone { .. }
                | Action::WritesSettled { .. }
                | Action::WriteStored { .. }
                | Action::Write(_)
                | Action::WritesListed { .. }
                | Action::Discarded { .. }
                | Action::Stop => {}
            }
        }
    }

    fn any_connection(&mut self) -> ConnectionId {
        match self.connection {
            Some(connection) if self.chance.below(8) > 0 => connection,
            _ => ConnectionId(self.chance.below(5)),
        }
    }

    fn any_event(&mut self) -> Event {
        let ticket = Ticket(self.id());
        match self.chance.below(8) {
            0 | 1 => Event::Tick,
            2 | 3 => {
                let (writes, reads) = (self.random_writes(), Vec::new());
                Event::Commit { ticket, writes, reads, local: self.chance.below(4) > 0 }
            }
            4 => {
                let listener = ListenerId(ticket.0);
                if self.chance.below(4) == 0 {
                    let target = target(&["rooms", "count"]);
                    return Event::Listen { listener, target, include_metadata: false };
                }
                let target = Target::Query(query(&["rooms", "order=n", "limit=3"]));
                let (queue, copy, include_metadata) = (Arc::default(), Vec::new(), true);
                let reader =
                    Reader { target: target.clone(), include_metadata, queue, copy, last: None };
                self.readers.insert(listener, reader);
                Event::Listen { listener, target, include_metadata }
            }
            5 => Event::Unlisten { listener: ListenerId(self.chance.below(ticket.0)) },
            6 => Event::Network { enabled: self.chance.below(3) > 0 },
            _ => {
                let connection = self.any_connection();
                let error = Error::unavailable("chance");
                match self.chance.below(2) {
                    0 => Event::Disconnected { connection, error },
                    _ => Event::Undecodable { connection, error },
                }
            }
        }
    }

    fn any_frame(&mut self) -> ServerMessage {
        let small = self.chance.below(6) as u32;
        let target = TargetId(small);
        let version = Version(self.chance.below(50));
        let write_id = WriteId(self.chance.below(20));
        let code = Code::ALL[self.chance.below(16) as usize];
        let status = Status { code, message: String::new() };
        match self.chance.below(16) {
            14 => {
                let values = vec![Value::Integer(i64::from(small)); self.chance.below(3) as usize];
                let partial = self.chance.below(2) == 0;
                let group = small % 3;
                ServerMessage::Aggregated(Aggregated { group, version, values, partial })
            }
            15 => {
                let (request, values, explanation) = (small, Vec::new(), None);
                let result = AggregateResult { request, version, values, explanation };
                ServerMessage::AggregateResult(result)
            }
            0..=2 => welcome(),
            3 | 4 => ServerMessage::Listening { target, group: small % 3, version },
            5 => ServerMessage::Reset { target, reason: String::new() },
            6 | 7 => ServerMessage::Changes(self.any_changes(version)),
            8 => ServerMessage::Current { version },
            9 => ServerMessage::TargetError { target, status },
            10 => ServerMessage::Committed { write_id, version, results: Vec::new() },
            11 => ServerMessage::Rejected { write_id, status },
            12 => ServerMessage::RequestError { request: small, status },
            _ => ServerMessage::GoAway { status, reconnect_after: Some(Duration::ZERO) },
        }
    }

    fn any_changes(&mut self, version: Version) -> Changes {
        let mut changes =
            Changes { group: self.chance.below(3) as u32, version, ..Changes::default() };
        for _ in 0..self.chance.below(5) {
            let path = self.path();
            let fields =
                Fields::from([("n".to_owned(), Value::Integer(self.chance.below(9) as i64))]);
            let update_version = Version(self.chance.below(50));
            let document = Document {
                path,
                fields,
                create_version: Version(1),
                update_version,
                merge: Default::default(),
            };
            changes.documents.push(encode_document(&document));
        }
        for _ in 0..self.chance.below(2) {
            changes
                .removals
                .push(Removal { path: self.path(), deleted: self.chance.below(2) == 0 });
        }
        if self.chance.below(10) == 0 {
            changes.documents.push(bytes::Bytes::from_static(&[0xff, 0xff, 0xff]));
        }
        changes.partial = self.chance.below(2) == 0;
        changes
    }
}
