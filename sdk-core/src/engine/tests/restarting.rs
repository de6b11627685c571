//! What holds for writes over any course of events, restarts and crashes among them: none is lost, none
//! takes effect twice, those of one document keep their order. A failure names its seed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use tidemark_protocol::model::*;
use tidemark_protocol::wire::client::ClientMessage;

use super::crash::CrashCache;
use super::server::{Chance, Server};
use crate::engine::{Action, ConnectionId, Engine, Event, Moment, Settings, Ticket};
use crate::error::Error;
use crate::pending::{WriteEvent, WriteStage};

/// Documents below it are written by this client alone.
const OWN: &str = "own";

struct World {
    chance: Chance,
    cache: CrashCache,
    engine: Engine,
    elapsed: Duration,
    /// What the wall clock of this run is wrong by, in microseconds.
    skew: i64,
    connection: Option<ConnectionId>,
    server: Server,
    to_server: VecDeque<ClientMessage>,
    tickets: u64,
    /// What was written, of this run.
    stated: BTreeMap<Ticket, Vec<Write>>,
    /// What the client said it would not lose.
    local: BTreeMap<WriteId, Vec<Write>>,
    committed: BTreeMap<WriteId, Version>,
    rejected: BTreeSet<WriteId>,
    listed: BTreeSet<WriteId>,
}

fn engine(cache: &CrashCache) -> Engine {
    let settings = Settings {
        project: String::new(),
        database: String::new(),
        token: String::new(),
        agent: String::new(),
        client_id: ClientId([1; 16]),
    };
    Engine::new(settings, Box::new(cache.clone())).unwrap()
}

impl World {
    fn new(seed: u64) -> World {
        let cache = CrashCache::default();
        World {
            chance: Chance(seed),
            engine: engine(&cache),
            cache,
            elapsed: Duration::ZERO,
            skew: 0,
            connection: None,
            server: Server::default(),
            to_server: VecDeque::new(),
            tickets: 0,
            stated: BTreeMap::new(),
            local: BTreeMap::new(),
            committed: BTreeMap::new(),
            rejected: BTreeSet::new(),
            listed: BTreeSet::new(),
        }
    }

    fn handle(&mut self, event: Event) {
        let micros = 20_000_000_000 + self.elapsed.as_micros() as i64 + self.skew;
        let wall = Timestamp::from_micros(micros).unwrap();
        let now = Moment { elapsed: self.elapsed, wall, random: self.chance.next() };
        let actions = self.engine.handle(event, now);
        self.act(actions);
        // Many events may share a step of storing.
        if self.chance.below(3) > 0 {
            self.store();
        }
    }

    fn store(&mut self) {
        let actions = self.engine.settle();
        self.act(actions);
    }

    fn act(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Connect { connection } => self.connection = Some(connection),
                Action::Send(message) => self.to_server.push_back(message),
                Action::Disconnect => self.unlink(),
                Action::WriteStored { ticket, id } => {
                    let writes = self.stated[&ticket].clone();
                    assert!(self.local.insert(id, writes).is_none(), "an id is used twice");
                }
                Action::Write(event) => self.reached(event),
                Action::WritesListed { rejected, pending, .. } => {
                    assert!(pending.is_empty(), "without an answer: {pending:?}");
                    self.listed = rejected.iter().map(|write| write.id).collect();
                }
                Action::State(_)
                | Action::Snapshot { .. }
                | Action::Aggregated { .. }
                | Action::ListenerFailed { .. }
                | Action::WriteDone { .. }
                | Action::Discarded { .. }
                | Action::RequestDone { .. }
                | Action::WritesSettled { .. }
                | Action::Stop => {}
            }
        }
    }

    fn reached(&mut self, event: WriteEvent) {
        let id = event.id;
        match event.stage {
            WriteStage::Local => {
                assert!(!self.committed.contains_key(&id) && !self.rejected.contains(&id));
            }
            WriteStage::Committed(committed) => {
                let known = self.committed.insert(id, committed.version);
                // A crash may forget that it was answered; the answer is the same then.
                assert!(known.is_none_or(|known| known == committed.version), "another outcome");
                assert_eq!(self.local[&id].as_slice(), &*event.writes);
            }
            WriteStage::Rejected(error) => {
                assert!(!error.code().is_retryable(), "{error}");
                self.rejected.insert(id);
            }
        }
        assert!(!(self.committed.contains_key(&id) && self.rejected.contains(&id)));
    }

    fn unlink(&mut self) {
        self.connection = None;
        self.to_server.clear();
        self.server.sent.clear();
        self.server.answers.clear();
    }

    fn random_write(&mut self, own: bool) -> Write {
        let collection = if own { OWN } else { "rooms" };
        let path = DocumentPath::parse(&format!("{collection}/{}", self.chance.below(4))).unwrap();
        let field = FieldPath::parse(["a", "b"][self.chance.below(2) as usize]).unwrap();
        let number = Value::Integer(self.chance.below(1_000) as i64);
        let fields = Fields::from([(field.segments()[0].clone(), number)]);
        let nothing = WriteOp::Update { fields: Fields::new(), mask: Vec::new() };
        let transform = Transform::Increment(Value::Integer(1));
        let (op, transforms) = match self.chance.below(6) {
            0 => (WriteOp::Delete, Vec::new()),
            1 => (WriteOp::Set(fields), Vec::new()),
            2 => (nothing, vec![FieldTransform { field, transform }]),
            _ => (WriteOp::Update { fields, mask: vec![field] }, Vec::new()),
        };
        Write { path, op, transforms, precondition: None }
    }

    fn write(&mut self) {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        let count = 1 + self.chance.below(3) * self.chance.below(2);
        let kind = self.chance.below(2);
        let writes: Vec<Write> =
            (0..count).map(|index| self.random_write((index + kind).is_multiple_of(2))).collect();
        self.stated.insert(ticket, writes.clone());
        self.handle(Event::Commit { ticket, writes, reads: Vec::new(), local: true });
    }

    /// The process ends; with it the machine, perhaps.
    fn restart(&mut self) {
        let keep = match self.chance.below(2) {
            0 => usize::MAX,
            _ => self.chance.below(self.cache.at_risk() as u64 + 1) as usize,
        };
        self.unlink();
        self.cache.crash(keep.min(self.cache.at_risk()));
        self.engine = engine(&self.cache);
        self.stated.clear();
        self.skew = (self.chance.below(7) as i64 - 3) * 3_600_000_000;
        self.handle(Event::Tick);
    }

    fn pass(&mut self, time: Duration) {
        self.elapsed += time;
        self.server.now = 20_000_000_000 + self.elapsed.as_micros() as u64;
        self.handle(Event::Tick);
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
            10..=17 => self.deliver(),
            18..=25 => self.write(),
            26..=28 => {
                let writes = [self.random_write(false)];
                self.server.apply(&writes, &mut self.chance).unwrap();
            }
            29..=31 => self.connect(),
            32 if self.chance.below(3) == 0 => self.disconnect(),
            33 if self.chance.below(4) == 0 => self.restart(),
            34 if self.chance.below(8) == 0 => self.cache.fail(),
            35 if self.chance.below(20) == 0 => self.handle(Event::Network { enabled: false }),
            36 => self.handle(Event::Network { enabled: true }),
            37 => self.pass(Duration::from_millis(300)),
            38 if self.chance.below(4) == 0 => self.pass(Duration::from_secs(5)),
            _ => self.pass(Duration::from_millis(20)),
        }
    }

    fn settle(&mut self) {
        self.handle(Event::Network { enabled: true });
        for _ in 0..300 {
            self.pass(Duration::from_millis(500));
            self.store();
            self.connect();
            while !self.to_server.is_empty()
                || !self.server.sent.is_empty()
                || !self.server.answers.is_empty()
            {
                self.serve();
                self.deliver();
                self.store();
            }
        }
        self.handle(Event::ListWrites { ticket: Ticket(0) });
        assert_eq!(self.listed, self.rejected, "what was rejected waits for a decision");
        assert_eq!(self.server.forgotten, 0, "what was acknowledged is sent again");
        assert!(self.server.outcomes.is_empty(), "not acknowledged: {:?}", self.server.outcomes);
        self.check_once_and_in_order();
        self.check_own_documents();
    }

    fn check_once_and_in_order(&self) {
        let mut seen = BTreeSet::new();
        let mut last: BTreeMap<&DocumentPath, WriteId> = BTreeMap::new();
        for (commit, _) in &self.server.applied {
            let id = commit.write_id;
            assert!(seen.insert(id), "{id} takes effect twice");
            assert_eq!(
                self.local.get(&id),
                Some(&commit.writes),
                "{id} was sent before it was kept"
            );
            for write in &commit.writes {
                let before = last.insert(&write.path, id).unwrap_or_default();
                assert!(before <= id, "{id} comes after {before} on {}", write.path);
            }
        }
        for id in self.local.keys() {
            let (applied, refused) = (seen.contains(id), self.rejected.contains(id));
            assert!(applied != refused, "{id}: took effect {applied}, rejected {refused}");
            assert_eq!(applied, self.committed.contains_key(id), "{id}");
        }
    }

    /// A client's own earlier edits never win over its later ones.
    fn check_own_documents(&self) {
        let mut expected: BTreeMap<DocumentPath, Document> = BTreeMap::new();
        for (commit, results) in &self.server.applied {
            for (write, result) in commit.writes.iter().zip(results) {
                if !write.path.as_str().starts_with(OWN) {
                    continue;
                }
                assert_eq!(result.superseded, Superseded::Nothing, "{commit:?}");
                let now = CommitTime::pending(Version(1));
                let applied = apply_write(expected.get(&write.path), None, write, now).unwrap();
                match applied.document {
                    Some(document) => expected.insert(write.path.clone(), document),
                    None => expected.remove(&write.path),
                };
            }
        }
        let (_, state) = self.server.state();
        for number in 0..4 {
            let path = DocumentPath::parse(&format!("{OWN}/{number}")).unwrap();
            let fields = |found: Option<&Document>| found.map(|document| document.fields.clone());
            assert_eq!(fields(state.get(&path)), fields(expected.get(&path)));
        }
    }
}

#[test]
fn no_write_is_lost_none_takes_effect_twice_and_each_document_keeps_its_order() {
    let (mut local, mut committed) = (0, 0);
    for seed in 0..150 {
        let outcome = std::panic::catch_unwind(|| {
            let mut world = World::new(seed);
            world.pass(Duration::ZERO);
            for _ in 0..500 {
                world.step();
            }
            world.settle();
            (world.local.len(), world.committed.len())
        });
        let counts = outcome.unwrap_or_else(|_| panic!("seed {seed} fails"));
        local += counts.0;
        committed += counts.1;
    }
    assert!(local > 10_000 && committed > 9_000, "{local} writes, {committed} committed");
}
