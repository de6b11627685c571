//! A database whose clock, store and restarts are the test's, and clients that send what they are
//! told to and hand over what they get.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidemark_protocol::model::*;
use tidemark_protocol::wire::client::{Commit, Listen};
use tidemark_protocol::wire::codec;
use tidemark_protocol::wire::server::{ServerMessage, Status};
use tidemark_server::clock::{Clock, ManualClock};
use tidemark_server::engine::{Connection, Database, DatabaseName, DatabaseOptions};
use tidemark_server::store::{self, KeyRange, ScanDirection, Store};
use tidemark_server::tasks::Tasks;

use crate::counting::{Counting, Reads};

/// When the tests begin, in seconds since 1970.
const BEGIN: u64 = 1_800_000_000;

pub(crate) struct World {
    pub(crate) database: Database,
    pub(crate) clock: Arc<ManualClock>,
    options: DatabaseOptions,
    store: Arc<dyn Store>,
    reads: Reads,
    tasks: Tasks,
}

/// What a write came to.
pub(crate) type Outcome = Result<(Version, Vec<WriteResult>), Status>;

impl World {
    pub(crate) async fn new(options: DatabaseOptions) -> World {
        let clock = Arc::new(ManualClock::at(Duration::from_secs(BEGIN)));
        let (reads, tasks) = (Reads::default(), Tasks::default());
        let store = store::open("mem:").await.unwrap();
        let store: Arc<dyn Store> = Arc::new(Counting { store, reads: Arc::clone(&reads) });
        let database = open(&store, &options, &clock, &tasks).await;
        World { database, clock, options, store, reads, tasks }
    }

    /// Stops the engine and starts it again on the same store.
    pub(crate) async fn restart(&mut self) {
        self.database.close().await;
        self.tasks.finish(Duration::ZERO).await;
        self.tasks = Tasks::default();
        self.database = open(&self.store, &self.options, &self.clock, &self.tasks).await;
    }

    /// What has been read of the store since this was asked last, by table.
    pub(crate) fn reads(&self) -> BTreeMap<char, usize> {
        std::mem::take(&mut self.reads.lock().unwrap())
    }

    /// The server's time, as an edit time.
    pub(crate) fn now(&self) -> EditTime {
        EditTime(u64::try_from(self.clock.now().as_micros()).unwrap())
    }

    /// So many seconds before now.
    pub(crate) fn ago(&self, seconds: u64) -> EditTime {
        EditTime(self.now().0 - seconds * 1_000_000)
    }

    pub(crate) fn advance(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }

    pub(crate) async fn connect(&self, client: u8) -> Client {
        let connection = self.database.connect(ClientId([client; 16]), WriteId(0)).await.unwrap();
        Client { connection, last: 0 }
    }

    /// What is in a table of the first database: keys behind the table's letter, and values.
    pub(crate) async fn table(&self, table: u8) -> Vec<(Vec<u8>, Bytes)> {
        let range = KeyRange::prefix(&[0, 0, 0, 1, table]);
        let snapshot = self.store.snapshot().await.unwrap();
        let rows = snapshot.scan(range, ScanDirection::Forward, usize::MAX >> 1).await.unwrap();
        rows.into_iter().map(|(key, value)| (key[5..].to_vec(), value)).collect()
    }

    /// All documents as they are stored.
    pub(crate) async fn documents(&self) -> BTreeMap<DocumentPath, Document> {
        let decode = |(_, bytes): (Vec<u8>, Bytes)| {
            let document = codec::decode_document(&bytes).unwrap();
            (document.path.clone(), document)
        };
        self.table(b'd').await.into_iter().map(decode).collect()
    }
}

async fn open(
    store: &Arc<dyn Store>,
    options: &DatabaseOptions,
    clock: &Arc<ManualClock>,
    tasks: &Tasks,
) -> Database {
    let name = DatabaseName { project: "default".into(), database: "(default)".into() };
    let (store, clock) = (Arc::clone(store), Arc::clone(clock) as Arc<dyn Clock>);
    Database::open(store, &name, options.clone(), clock, tasks).await.unwrap()
}

/// A connection, and how many writes it has numbered.
pub(crate) struct Client {
    pub(crate) connection: Connection,
    pub(crate) last: u64,
}

impl Client {
    /// A commit with the next number, made now.
    pub(crate) fn numbered(&mut self, writes: Vec<Write>) -> Commit {
        self.last += 1;
        Commit {
            write_id: WriteId(self.last),
            writes,
            reads: vec![],
            acknowledged_through: WriteId(0),
            edit_time: None,
            follows: None,
        }
    }

    pub(crate) async fn send(&self, commit: Commit) {
        self.connection.commit(commit, None).await;
    }

    pub(crate) async fn next(&self) -> ServerMessage {
        codec::decode_server(&self.next_frame().await).unwrap()
    }

    pub(crate) async fn next_frame(&self) -> Bytes {
        let frame = tokio::time::timeout(Duration::from_secs(20), self.connection.next_frame());
        frame.await.expect("a frame within 20 s").expect("an open connection")
    }

    /// What the next write to be answered came to.
    pub(crate) async fn answer(&self) -> (WriteId, Outcome) {
        loop {
            match self.next().await {
                ServerMessage::Committed { write_id, version, results } => {
                    return (write_id, Ok((version, results)));
                }
                ServerMessage::Rejected { write_id, status } => return (write_id, Err(status)),
                _ => {}
            }
        }
    }

    /// Commits writes made then; none: now.
    pub(crate) async fn commit(&mut self, writes: Vec<Write>, made: Option<EditTime>) -> Outcome {
        let commit = Commit { edit_time: made, ..self.numbered(writes) };
        let write_id = commit.write_id;
        self.send(commit).await;
        let (answered, outcome) = self.answer().await;
        assert_eq!(answered, write_id);
        outcome
    }

    /// Commits one write made then, and what of it came too late.
    pub(crate) async fn write(&mut self, write: Write, made: Option<EditTime>) -> Superseded {
        let (_, mut results) = self.commit(vec![write], made).await.unwrap();
        assert_eq!(results.len(), 1);
        results.remove(0).superseded
    }

    pub(crate) async fn listen(&self, id: u32, target: &Target, token: Option<ResumeToken>) {
        let (target_id, target) = (TargetId(id), target.clone());
        let listen = Listen { target_id, target, resume: token, reconciles: true };
        self.connection.listen(listen).await;
    }
}

pub(crate) fn path(text: &str) -> DocumentPath {
    DocumentPath::parse(text).unwrap()
}

pub(crate) fn field(text: &str) -> FieldPath {
    FieldPath::parse(text).unwrap()
}

pub(crate) fn fields(values: &[(&str, i64)]) -> Fields {
    values.iter().map(|(name, value)| ((*name).to_owned(), Value::Integer(*value))).collect()
}

pub(crate) fn write(document: &str, op: WriteOp) -> Write {
    Write { path: path(document), op, transforms: vec![], precondition: None }
}

pub(crate) fn set(document: &str, values: &[(&str, i64)]) -> Write {
    write(document, WriteOp::Set(fields(values)))
}

pub(crate) fn update(document: &str, values: &[(&str, i64)]) -> Write {
    let mask = values.iter().map(|(name, _)| field(name)).collect();
    write(document, WriteOp::Update { fields: fields(values), mask })
}

pub(crate) fn delete(document: &str) -> Write {
    write(document, WriteOp::Delete)
}
