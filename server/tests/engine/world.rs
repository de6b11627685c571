//! A database without sockets, and clients that keep what they are told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidemark_protocol::model::{
    ClientId, Document, ResumeToken, Target, TargetId, Value, Version, Write, WriteId,
};
use tidemark_protocol::wire::client::{Commit, Listen};
use tidemark_protocol::wire::codec;
use tidemark_protocol::wire::server::{Aggregated, Changes, ServerMessage};
use tidemark_server::clock::SystemClock;
use tidemark_server::engine::{Connection, Database, DatabaseName, DatabaseOptions};
use tidemark_server::store;
use tidemark_server::tasks::Tasks;

/// A database in memory.
pub(crate) struct World {
    pub(crate) database: Database,
    _tasks: Tasks,
}

impl World {
    pub(crate) async fn new(options: DatabaseOptions) -> World {
        let tasks = Tasks::default();
        let store = store::open("mem:").await.unwrap();
        let name = DatabaseName { project: "default".into(), database: "(default)".into() };
        let clock = Arc::new(SystemClock::default());
        let database = Database::open(store, &name, options, clock, &tasks).await.unwrap();
        World { database, _tasks: tasks }
    }

    pub(crate) async fn connect(&self, client: u8) -> Client {
        let connection = self.database.connect(ClientId([client; 16]), WriteId(0)).await.unwrap();
        Client::new(connection)
    }
}

/// What a client knows of one target.
#[derive(Default)]
pub(crate) struct Copy {
    pub(crate) documents: BTreeMap<String, Document>,
    /// Of an aggregate.
    pub(crate) values: Vec<Value>,
    pub(crate) listening: bool,
    /// A consistent point has come since it was attached.
    pub(crate) current: bool,
}

/// A connection, and what has come over it.
pub(crate) struct Client {
    pub(crate) connection: Connection,
    pub(crate) targets: BTreeMap<u32, Copy>,
    /// Targets no longer listened to, of which something may still come.
    dropped: BTreeSet<u32>,
    groups: BTreeMap<u32, Vec<u32>>,
    /// The last consistent point.
    pub(crate) at: Version,
    pub(crate) write: u64,
}

pub(crate) enum Seen {
    Consistent,
    Committed(Version),
    Rejected(String),
    Other,
}

impl Client {
    pub(crate) fn new(connection: Connection) -> Client {
        Client {
            connection,
            targets: BTreeMap::new(),
            dropped: BTreeSet::new(),
            groups: BTreeMap::new(),
            at: Version::NONE,
            write: 0,
        }
    }

    pub(crate) async fn listen(&mut self, id: u32, target: Target, resume: Option<ResumeToken>) {
        if resume.is_none() {
            self.targets.insert(id, Copy::default());
        }
        self.connection
            .listen(Listen { target_id: TargetId(id), target, resume, reconciles: false })
            .await;
    }

    pub(crate) async fn unlisten(&mut self, id: u32) {
        self.targets.remove(&id);
        self.dropped.insert(id);
        self.connection.unlisten(TargetId(id)).await;
    }

    /// Commits that are in the queue together, so that they may share a batch.
    pub(crate) async fn commit_all(&mut self, commits: &[Vec<Write>]) -> Vec<Version> {
        let through = WriteId(self.write);
        for writes in commits {
            self.write += 1;
            let write_id = WriteId(self.write);
            let (writes, reads) = (writes.clone(), vec![]);
            let commit = Commit {
                write_id,
                writes,
                reads,
                acknowledged_through: through,
                edit_time: None,
                follows: None,
            };
            self.connection.commit(commit, None).await;
        }
        let mut versions = Vec::new();
        while versions.len() < commits.len() {
            match self.next().await {
                Seen::Committed(version) => versions.push(version),
                Seen::Rejected(reason) => panic!("rejected: {reason}"),
                Seen::Consistent | Seen::Other => {}
            }
        }
        versions
    }

    pub(crate) async fn commit(&mut self, writes: Vec<Write>) -> Result<Version, String> {
        self.write += 1;
        let (write_id, through) = (WriteId(self.write), WriteId(self.write - 1));
        let commit = Commit {
            write_id,
            writes,
            reads: vec![],
            acknowledged_through: through,
            edit_time: None,
            follows: None,
        };
        self.connection.commit(commit, None).await;
        loop {
            match self.next().await {
                Seen::Committed(version) => return Ok(version),
                Seen::Rejected(reason) => return Err(reason),
                Seen::Consistent | Seen::Other => {}
            }
        }
    }

    pub(crate) async fn next(&mut self) -> Seen {
        let frame = tokio::time::timeout(Duration::from_secs(20), self.connection.next_frame());
        let frame = frame.await.expect("a frame within 20 s").expect("an open connection");
        self.apply(&frame)
    }

    pub(crate) fn is_current(&self) -> bool {
        self.targets.values().all(|copy| copy.current)
    }

    /// Takes frames until all targets are at `version` or later.
    pub(crate) async fn until(&mut self, version: Version) {
        while self.at < version || !self.is_current() {
            self.next().await;
        }
    }

    fn copy(&mut self, target: u32, change: impl FnOnce(&mut Copy)) {
        match self.targets.get_mut(&target) {
            Some(copy) => change(copy),
            None => assert!(self.dropped.contains(&target), "target {target} is not known"),
        }
    }

    fn consistent(&mut self, version: Version) -> Seen {
        assert!(version >= self.at, "{version} after {}", self.at);
        self.at = version;
        for copy in self.targets.values_mut() {
            copy.current = copy.listening;
        }
        Seen::Consistent
    }

    fn apply(&mut self, frame: &Bytes) -> Seen {
        match codec::decode_server(frame).unwrap() {
            ServerMessage::Listening { target, group, version } => {
                assert!(version >= self.at);
                let targets = self.groups.entry(group).or_default();
                if !targets.contains(&target.0) {
                    targets.push(target.0);
                }
                self.copy(target.0, |copy| copy.listening = true);
                Seen::Other
            }
            ServerMessage::Reset { target, .. } => {
                self.copy(target.0, |copy| copy.documents.clear());
                Seen::Other
            }
            ServerMessage::Aggregated(Aggregated { group, version, values, partial }) => {
                assert!(version >= self.at);
                for target in self.groups[&group].clone() {
                    self.copy(target, |copy| copy.values.clone_from(&values));
                }
                if partial { Seen::Other } else { self.consistent(version) }
            }
            ServerMessage::Changes(changes) => {
                assert!(changes.version >= self.at);
                for target in self.groups[&changes.group].clone() {
                    self.copy(target, |copy| take(&mut copy.documents, &changes));
                }
                if changes.partial { Seen::Other } else { self.consistent(changes.version) }
            }
            ServerMessage::Current { version } => self.consistent(version),
            ServerMessage::Committed { version, .. } => Seen::Committed(version),
            ServerMessage::Rejected { status, .. } => Seen::Rejected(status.to_string()),
            ServerMessage::TargetError { status, .. } => panic!("target error: {status}"),
            other => panic!("unexpected: {other:?}"),
        }
    }
}

fn take(documents: &mut BTreeMap<String, Document>, changes: &Changes) {
    for bytes in &changes.documents {
        let document = codec::decode_document(bytes).unwrap();
        assert!(document.update_version <= changes.version);
        documents.insert(document.path.to_string(), document);
    }
    for removal in &changes.removals {
        documents.remove(removal.path.as_str());
    }
}
