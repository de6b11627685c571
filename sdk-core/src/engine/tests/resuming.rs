//! Catching up from tokens that are too old: by digests, through writes and lost connections meanwhile.

use std::collections::VecDeque;
use std::time::Duration;

use tidemark_protocol::model::*;
use tidemark_protocol::wire::client::ClientMessage;
use tidemark_protocol::wire::server::ServerMessage;

use super::crash::CrashCache;
use super::script::target;
use super::server::{Chance, Server, result};
use crate::engine::{Action, ConnectionId, Engine, Event, ListenerId, Moment, Settings};
use crate::error::Error;
use crate::snapshot::QuerySnapshot;

/// A client with one listener for each target, a server, and many documents.
struct World {
    chance: Chance,
    cache: CrashCache,
    engine: Engine,
    server: Server,
    elapsed: Duration,
    connection: Option<ConnectionId>,
    connected: bool,
    to_server: VecDeque<ClientMessage>,
    targets: Vec<Target>,
    last: Vec<Option<QuerySnapshot>>,
    /// How many documents there may be.
    paths: u64,
    resets: usize,
    lost: usize,
}

fn settings() -> Settings {
    Settings {
        project: String::new(),
        database: String::new(),
        token: String::new(),
        agent: String::new(),
        client_id: ClientId([1; 16]),
    }
}

impl World {
    fn new(seed: u64, paths: u64, targets: &[&[&str]]) -> World {
        let cache = CrashCache::default();
        let engine = Engine::new(settings(), Box::new(cache.clone())).unwrap();
        let targets: Vec<Target> = targets.iter().map(|words| target(words)).collect();
        let last = targets.iter().map(|_| None).collect();
        let mut world = World {
            chance: Chance(seed),
            cache,
            engine,
            server: Server::default(),
            elapsed: Duration::ZERO,
            connection: None,
            connected: false,
            to_server: VecDeque::new(),
            targets,
            last,
            paths,
            resets: 0,
            lost: 0,
        };
        let writes: Vec<Write> = (0..paths).map(|index| world.write(index)).collect();
        world.apply(&writes);
        world
    }

    fn write(&mut self, index: u64) -> Write {
        let path = DocumentPath::parse(&format!("rooms/{index}")).unwrap();
        let number = Value::Integer(self.chance.below(20) as i64);
        let op = WriteOp::Set(Fields::from([("n".to_owned(), number)]));
        Write { path, op, transforms: Vec::new(), precondition: None }
    }

    fn apply(&mut self, writes: &[Write]) {
        self.server.apply(writes, &mut self.chance).unwrap();
    }

    /// Others change some documents.
    fn change(&mut self, count: u64) {
        for _ in 0..count {
            let index = self.chance.below(self.paths + self.paths / 4);
            let mut write = self.write(index);
            if self.chance.below(3) == 0 {
                write.op = WriteOp::Delete;
            }
            self.apply(&[write]);
        }
    }

    /// Something else is written, and the server forgets how it came to its present state.
    fn forget(&mut self) {
        let path = DocumentPath::parse("other/a").unwrap();
        let write = Write { path, ..self.write(0) };
        self.apply(&[write]);
        self.server.log_start = self.server.state().0;
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
                Action::Snapshot { listener, snapshot } => {
                    let index = usize::try_from(listener.0).unwrap();
                    if !snapshot.metadata().from_cache {
                        self.check(index, &snapshot);
                    }
                    self.last[index] = Some(snapshot);
                }
                Action::ListenerFailed { error, .. } => panic!("a listener failed: {error}"),
                _ => {}
            }
        }
    }

    /// What is said to be current is what the server had at that version.
    fn check(&self, index: usize, snapshot: &QuerySnapshot) {
        let state = self.server.at(snapshot.version());
        let truth = result(&self.targets[index], &state);
        let shown: Vec<_> =
            snapshot.documents().iter().map(|row| row.document().unwrap()).collect();
        let same = shown.len() == truth.len()
            && shown.iter().zip(&truth).all(|(shown, truth)| ***shown == *truth);
        assert!(same, "{:?} @{}", self.targets[index], snapshot.version());
    }

    fn unlink(&mut self) {
        self.connection = None;
        self.connected = false;
        self.to_server.clear();
        self.server.targets.clear();
        self.server.sent.clear();
        self.server.answers.clear();
    }

    fn listen(&mut self) {
        for (index, target) in self.targets.clone().into_iter().enumerate() {
            let (listener, include_metadata) = (ListenerId(index as u64), true);
            self.handle(Event::Listen { listener, target, include_metadata });
        }
    }

    fn disconnect(&mut self) {
        if let Some(connection) = self.connection {
            self.unlink();
            self.handle(Event::Disconnected { connection, error: Error::unavailable("chance") });
        }
    }

    /// The process ends and begins again, with what the cache has.
    fn restart(&mut self) {
        self.unlink();
        self.cache.crash(1 << 30);
        self.engine = Engine::new(settings(), Box::new(self.cache.clone())).unwrap();
        self.last.iter_mut().for_each(|last| *last = None);
        self.handle(Event::Tick);
        self.listen();
    }

    /// Talks until nobody has anything to say; others write, and connections are lost, as often as that.
    fn talk(&mut self, mut writes: u64, mut losses: u64) {
        for _ in 0..20_000 {
            match self.connection {
                Some(connection) if !self.connected => {
                    self.connected = true;
                    self.handle(Event::Connected { connection });
                }
                Some(_) => {}
                None => {
                    self.server.sent.clear();
                    self.pass();
                    continue;
                }
            }
            if writes > 0 && self.chance.below(3) == 0 {
                writes -= 1;
                self.change(1);
            }
            if losses > 0 && self.chance.below(12) == 0 {
                losses -= 1;
                self.lost += 1;
                self.disconnect();
                continue;
            }
            if let Some(message) = self.to_server.pop_front() {
                self.server.receive(message, &mut self.chance);
            } else if let Some(message) = self.server.sent.pop_front() {
                self.resets += usize::from(matches!(message, ServerMessage::Reset { .. }));
                let connection = self.connection.unwrap();
                self.handle(Event::Received { connection, message });
            } else if writes == 0 && losses == 0 && self.is_current() {
                return;
            } else {
                self.pass();
            }
        }
        panic!("it never becomes current");
    }

    fn pass(&mut self) {
        self.elapsed += Duration::from_secs(1);
        self.handle(Event::Tick);
    }

    fn is_current(&self) -> bool {
        let version = self.server.state().0;
        self.last.iter().flatten().count() == self.targets.len()
            && self
                .last
                .iter()
                .flatten()
                .all(|last| !last.metadata().from_cache && last.version() <= version)
    }

    /// Everyone sees what the server has.
    fn settle(&mut self) {
        self.talk(0, 0);
        let (_, state) = self.server.state();
        for (index, target) in self.targets.iter().enumerate() {
            let last = self.last[index].as_ref().unwrap();
            let truth = result(target, &state);
            let shown: Vec<_> =
                last.documents().iter().map(|row| row.document().unwrap()).collect();
            assert!(shown.iter().zip(&truth).all(|(shown, truth)| ***shown == *truth));
            assert_eq!(shown.len(), truth.len(), "{target:?}");
        }
    }
}

const TARGETS: &[&[&str]] = &[
    &["rooms"],
    &["rooms", "min=8", "order=n"],
    &["rooms", "order=n", "limit=20"],
    &["rooms", "order=n", "limit=60"],
];

#[test]
fn random_histories_end_as_a_fresh_query_does() {
    for seed in 0..40 {
        let outcome = std::panic::catch_unwind(|| {
            let mut world = World::new(seed, 40 + 13 * (seed % 9), TARGETS);
            world.handle(Event::Tick);
            world.listen();
            world.talk(3, 0);
            for _ in 0..4 {
                world.disconnect();
                let count = world.chance.below(30);
                world.change(count);
                world.forget();
                if world.chance.below(3) == 0 {
                    world.restart();
                }
                let (writes, losses) = (world.chance.below(12), world.chance.below(4));
                world.talk(writes, losses);
            }
            world.settle();
        });
        assert!(outcome.is_ok(), "seed {seed} fails");
    }
}

#[test]
fn what_is_sent_follows_the_difference_and_not_the_result() {
    for (differing, losses) in [(0, 0), (1, 0), (25, 0), (25, 3)] {
        let mut world = World::new(7, 3_000, &[&["rooms"]]);
        world.handle(Event::Tick);
        world.listen();
        world.talk(0, 0);
        world.disconnect();
        world.change(differing);
        world.forget();
        world.restart();
        // Sends everything once in a while, by chance; not here.
        (world.server.documents, world.server.compared) = (0, 0);
        world.server.keeps_all = true;
        world.talk(0, losses);
        assert_eq!((world.resets, world.lost), (0, losses as usize));
        let (documents, compared) = (world.server.documents, world.server.compared);
        let bound = differing as usize * (1 + losses as usize);
        assert!(documents <= bound, "{documents} documents for {differing} that differ");
        let bound = (16 + bound * (3 * 16 + limits::DIGEST_MEMBERS)) * (1 + losses as usize);
        assert!(compared <= bound, "{compared} members and prints for {differing} that differ");
        world.settle();
    }
}

#[test]
fn who_has_nothing_is_sent_everything() {
    let mut world = World::new(3, 50, &[&["rooms", "min=100"]]);
    world.handle(Event::Tick);
    world.listen();
    world.talk(0, 0);
    world.disconnect();
    world.change(5);
    world.forget();
    world.talk(0, 0);
    assert_eq!(world.server.compared, 0);
    world.settle();
}
