//! What holds for any course of events: a model of the server, a few listeners, and chance. A failure
//! names its seed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tidemark_protocol::model::*;
use tidemark_protocol::wire::client::{ClientMessage, Commit, Listen};
use tidemark_protocol::wire::codec::encode_document;
use tidemark_protocol::wire::server::{
    Changes, QueryResult, Removal, ServerMessage, SessionLimits, Status, Welcome,
};

use super::script::query;
use crate::cache::MemoryCache;
use crate::engine::{
    Action, ConnectionId, Engine, Event, ListenerId, Moment, Request, Settings, Ticket,
};
use crate::error::Error;
use crate::snapshot::{ChangeKind, DocumentSnapshot, QuerySnapshot, SnapshotMetadata};
use crate::subscription::SnapshotQueue;

const COUNTER: &str = "counters/mine";

struct Chance(u64);

impl Chance {
    /// A number below `bound`.
    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

type State = BTreeMap<DocumentPath, Document>;

/// What the server does, without its efficiency: it keeps every state that ever was.
#[derive(Default)]
struct Server {
    history: Vec<(Version, State)>,
    committed: BTreeMap<WriteId, Version>,
    /// Of the present connection.
    targets: BTreeMap<TargetId, Target>,
    sent: VecDeque<ServerMessage>,
    /// Answers to commits: they come in their order, before or after the changes.
    answers: VecDeque<ServerMessage>,
}

fn result(target: &Target, state: &State) -> Vec<Document> {
    match target {
        Target::Documents(paths) => {
            paths.iter().filter_map(|path| state.get(path).cloned()).collect()
        }
        Target::Query(query) => {
            let mut found: Vec<_> =
                state.values().filter(|document| query.matches(document)).cloned().collect();
            found.sort_by(|a, b| query.compare(a, b));
            found.truncate(query.limit.map_or(usize::MAX, |limit| limit as usize));
            found
        }
    }
}

impl Server {
    fn state(&self) -> (Version, State) {
        self.history.last().cloned().unwrap_or((Version(1), State::new()))
    }

    fn group(id: TargetId) -> u32 {
        id.0 + 100
    }

    /// The difference of two results, as the frames of a group.
    fn difference(id: TargetId, before: &[Document], after: &[Document], state: &State) -> Changes {
        let group = Server::group(id);
        let mut changes = Changes { group, ..Changes::default() };
        for document in after.iter().filter(|document| !before.contains(document)) {
            changes.documents.push(encode_document(document));
        }
        for old in before.iter().filter(|old| !after.iter().any(|new| new.path == old.path)) {
            let deleted = !state.contains_key(&old.path);
            changes.removals.push(Removal { path: old.path.clone(), deleted });
        }
        changes
    }

    fn send(&mut self, mut changes: Changes, version: Version, partial: bool, chance: &mut Chance) {
        changes.version = version;
        // Sometimes in pieces.
        while changes.documents.len() > 1 && chance.below(3) == 0 {
            let documents = vec![changes.documents.remove(0)];
            let piece =
                Changes { documents, removals: Vec::new(), partial: true, ..changes.clone() };
            self.sent.push_back(ServerMessage::Changes(piece));
        }
        changes.partial = partial;
        self.sent.push_back(ServerMessage::Changes(changes));
    }

    fn apply(&mut self, writes: &[Write], chance: &mut Chance) -> Result<Version, ModelError> {
        let (last, before) = self.state();
        let version = Version(last.0 + 1);
        let mut after = before.clone();
        for write in writes {
            check_precondition(after.get(&write.path), write)?;
            match apply_write(after.get(&write.path), write, version)?.document {
                Some(document) => after.insert(write.path.clone(), document),
                None => after.remove(&write.path),
            };
        }
        self.history.push((version, after.clone()));
        let mut hits = Vec::new();
        for (id, target) in &self.targets {
            let (old, new) = (result(target, &before), result(target, &after));
            let changes = Server::difference(*id, &old, &new, &after);
            if !changes.documents.is_empty() || !changes.removals.is_empty() {
                hits.push(changes);
            }
        }
        let count = hits.len();
        for (index, changes) in hits.into_iter().enumerate() {
            self.send(changes, version, index + 1 < count, chance);
        }
        if count == 0 {
            self.sent.push_back(ServerMessage::Current { version });
        }
        Ok(version)
    }

    fn receive(&mut self, message: ClientMessage, chance: &mut Chance) {
        match message {
            ClientMessage::Hello(_) => self.sent.push_back(welcome()),
            ClientMessage::Listen(listen) => self.attach(&listen, chance),
            ClientMessage::Unlisten { target } => {
                self.targets.remove(&target);
            }
            ClientMessage::Commit(commit) => self.commit(&commit, chance),
            ClientMessage::Get { request, paths } => {
                let (version, state) = self.state();
                let found = paths.iter().filter_map(|path| state.get(path));
                let documents = found.map(encode_document).collect();
                let result = QueryResult { request, version, documents, ..QueryResult::default() };
                self.sent.push_back(ServerMessage::Result(result));
            }
            ClientMessage::Query { request, query } => {
                let (version, state) = self.state();
                let found = result(&Target::Query(query), &state);
                let documents = found.iter().map(encode_document).collect();
                let result = QueryResult { request, version, documents, ..QueryResult::default() };
                self.sent.push_back(ServerMessage::Result(result));
            }
            ClientMessage::Ping { nonce } => {
                self.sent
                    .push_back(ServerMessage::Pong { nonce, server_time: Timestamp::default() });
            }
            ClientMessage::Acknowledge { .. } => {}
        }
    }

    fn commit(&mut self, commit: &Commit, chance: &mut Chance) {
        let write_id = commit.write_id;
        if let Some(version) = self.committed.get(&write_id) {
            let results = Vec::new();
            self.answers.push_back(ServerMessage::Committed {
                write_id,
                version: *version,
                results,
            });
            return;
        }
        let mine = commit.writes.iter().any(|write| write.path.as_str() == COUNTER);
        let refused = if mine {
            None
        } else {
            [Code::PermissionDenied, Code::Unavailable].get(chance.below(20) as usize).copied()
        };
        let refusal = |code| {
            let status = Status { code, message: "because".to_owned() };
            ServerMessage::Rejected { write_id, status }
        };
        if let Some(code) = refused {
            return self.answers.push_back(refusal(code));
        }
        match self.apply(&commit.writes, chance) {
            Ok(version) => {
                self.committed.insert(write_id, version);
                let results = vec![WriteResult::default(); commit.writes.len()];
                let answer = ServerMessage::Committed { write_id, version, results };
                self.answers.push_back(answer);
            }
            Err(error) => self.answers.push_back(refusal(error.code)),
        }
    }

    fn attach(&mut self, listen: &Listen, chance: &mut Chance) {
        let id = listen.target_id;
        let (version, state) = self.state();
        self.targets.insert(id, listen.target.clone());
        let group = Server::group(id);
        self.sent.push_back(ServerMessage::Listening { target: id, group, version });
        let forgotten = chance.below(5) == 0;
        let before = match listen.resume {
            Some(token) if !forgotten => {
                let then = self.history.iter().rev().find(|(at, _)| *at <= token.version);
                then.map(|(_, state)| result(&listen.target, state)).unwrap_or_default()
            }
            Some(_) => {
                self.sent
                    .push_back(ServerMessage::Reset { target: id, reason: "forgotten".to_owned() });
                Vec::new()
            }
            None => Vec::new(),
        };
        let changes = Server::difference(id, &before, &result(&listen.target, &state), &state);
        self.send(changes, version, true, chance);
        self.sent.push_back(ServerMessage::Current { version });
    }
}

fn welcome() -> ServerMessage {
    ServerMessage::Welcome(Welcome {
        protocol_version: 1,
        server_time: Timestamp::default(),
        session: String::new(),
        incarnation: Incarnation(1),
        limits: SessionLimits { frame_bytes: 1 << 20, targets: 100, commits_in_flight: 3 },
        heartbeat: Duration::from_secs(15),
    })
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
        for action in self.engine.handle(event, now) {
            match action {
                Action::Connect { connection } => self.connection = Some(connection),
                Action::Send(message) => self.to_server.push_back(message),
                Action::Disconnect => self.unlink(),
                Action::State(_) | Action::WritesSettled { .. } => {}
                Action::Snapshot { listener, snapshot } => {
                    if let Some(reader) = self.readers.get(&listener) {
                        reader.queue.push(snapshot);
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
        let target = match self.chance.below(6) {
            0 => Target::Documents(vec![self.path()]),
            1 => Target::Documents(vec![DocumentPath::parse(COUNTER).unwrap()]),
            2 => Target::Query(query(&["rooms", "order=n", "limit=3"])),
            3 => Target::Query(query(&["rooms", "min=8", "order=n"])),
            4 => Target::Query(query(&["rooms", "order=n"])),
            _ => Target::Query(query(&["rooms"])),
        };
        let queue = Arc::new(SnapshotQueue::default());
        let include_metadata = self.chance.below(3) == 0;
        let copy = Vec::new();
        let reader = Reader { target: target.clone(), include_metadata, queue, copy, last: None };
        self.readers.insert(listener, reader);
        self.handle(Event::Listen { listener, target, include_metadata });
    }

    fn unlisten(&mut self) {
        let nth = self.chance.below(self.readers.len().max(1) as u64) as usize;
        if let Some(listener) = self.readers.keys().nth(nth).copied() {
            self.readers.remove(&listener);
            self.handle(Event::Unlisten { listener });
        }
    }

    fn ask(&mut self) {
        let ticket = Ticket(self.id());
        self.open_requests.insert(ticket);
        let request = match self.chance.below(2) {
            0 => Request::Get { paths: vec![self.path()], overlay: self.chance.below(2) == 0 },
            _ => Request::Query { query: query(&["rooms", "order=n", "limit=4"]) },
        };
        self.handle(Event::Request { ticket, request, timeout: Duration::from_secs(60) });
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
        for action in self.engine.handle(event, now) {
            match action {
                Action::Connect { connection } => self.connection = Some(connection),
                Action::Snapshot { listener, snapshot } => {
                    let reader = self.readers.get_mut(&listener).unwrap();
                    replay(&mut reader.copy, &snapshot);
                }
                Action::Send(_)
                | Action::Disconnect
                | Action::State(_)
                | Action::ListenerFailed { .. }
                | Action::WriteDone { .. }
                | Action::RequestDone { .. }
                | Action::WritesSettled { .. }
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
        match self.chance.below(14) {
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
            let document = Document { path, fields, create_version: Version(1), update_version };
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
