//! A database that tests write to and ask, and the shapes of what they write.

use std::sync::Arc;
use std::time::Duration;

use tidemark_protocol::model::{
    ClientId, Code, DocumentPath, FieldPath, Fields, IndexDefinition, IndexField, IndexMode,
    IndexScope, Value, Write, WriteId, WriteOp,
};
use tidemark_protocol::wire::client::Commit;
use tidemark_protocol::wire::codec;
use tidemark_protocol::wire::server::{ServerMessage, Status};
use tidemark_server::clock::SystemClock;
use tidemark_server::engine::{
    Connection, Database, DatabaseName, DatabaseOptions, EngineError, IndexState,
};
use tidemark_server::store::{self, Store};
use tidemark_server::tasks::Tasks;

/// An open database and a client of it.
pub(crate) struct World {
    pub(crate) database: Database,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) tasks: Tasks,
    pub(crate) connection: Connection,
    pub(crate) write: u64,
    pub(crate) request: u32,
}

impl World {
    pub(crate) async fn open(url: &str, client: u8) -> World {
        World::open_with(url, client, DatabaseOptions::default()).await
    }

    pub(crate) async fn open_with(url: &str, client: u8, options: DatabaseOptions) -> World {
        let tasks = Tasks::default();
        let store = store::open(url).await.unwrap();
        let name = DatabaseName { project: "default".into(), database: "(default)".into() };
        let clock = Arc::new(SystemClock::default());
        let database =
            Database::open(Arc::clone(&store), &name, options, clock, &tasks).await.unwrap();
        let connection = database.connect(ClientId([client; 16]), WriteId(0)).await.unwrap();
        World { database, store, tasks, connection, write: 0, request: 0 }
    }

    pub(crate) async fn memory() -> World {
        World::open("mem:", 1).await
    }

    /// Commits that are in the queue together; what became of each.
    pub(crate) async fn commit_all(&mut self, commits: Vec<Vec<Write>>) -> Vec<Result<(), Status>> {
        let (count, through) = (commits.len(), WriteId(self.write));
        for writes in commits {
            self.write += 1;
            let (write_id, reads) = (WriteId(self.write), vec![]);
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
        let mut outcomes = Vec::new();
        while outcomes.len() < count {
            match self.next().await {
                ServerMessage::Committed { .. } => outcomes.push(Ok(())),
                ServerMessage::Rejected { status, .. } => outcomes.push(Err(status)),
                _ => {}
            }
        }
        outcomes
    }

    pub(crate) async fn next(&self) -> ServerMessage {
        let frame = tokio::time::timeout(Duration::from_secs(60), self.connection.next_frame());
        let frame = frame.await.expect("a frame within 60 s").expect("an open connection");
        codec::decode_server(&frame).unwrap()
    }

    pub(crate) async fn commit(&mut self, writes: Vec<Write>) -> Result<(), Status> {
        self.commit_all(vec![writes]).await.remove(0)
    }

    /// Stops the tasks where they are, and opens the store again.
    pub(crate) async fn restart(self, url: &str, client: u8, options: DatabaseOptions) -> World {
        self.tasks.finish(Duration::ZERO).await;
        self.store.close().await.unwrap();
        World::open_with(url, client, options).await
    }

    pub(crate) async fn check(&self) -> Result<u64, String> {
        let check = self.database.check_indexes().await.map_err(|error| error.to_string())?;
        if check.is_clean() { Ok(check.entries) } else { Err(format!("{check:?}")) }
    }

    pub(crate) async fn check_settled(&self) -> Result<u64, String> {
        self.database.indexes_settled().await.map_err(|error| error.to_string())?;
        if let Some(index) =
            self.database.indexes().iter().find(|index| index.state != IndexState::Ready)
        {
            return Err(format!("not ready: {index:?}"));
        }
        self.check().await
    }
}

pub(crate) fn path(text: &str) -> DocumentPath {
    DocumentPath::parse(text).unwrap()
}

pub(crate) fn field(text: &str) -> FieldPath {
    FieldPath::parse(text).unwrap()
}

pub(crate) fn set(path: &str, fields: Fields) -> Write {
    let (path, op) = (self::path(path), WriteOp::Set(fields));
    Write { path, op, transforms: vec![], precondition: None }
}

pub(crate) fn fields<const N: usize>(fields: [(&str, Value); N]) -> Fields {
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

pub(crate) fn index(
    collection_id: &str,
    scope: IndexScope,
    of: &[(&str, IndexMode)],
) -> IndexDefinition {
    let field = |(path, mode): &(&str, IndexMode)| IndexField { field: field(path), mode: *mode };
    let collection_id = collection_id.to_owned();
    IndexDefinition { collection_id, scope, fields: of.iter().map(field).collect() }
}

pub(crate) fn model_error(error: EngineError) -> Code {
    match error {
        EngineError::Model(error) => error.code,
        other => panic!("{other}"),
    }
}

/// Writes documents `from..to` of a collection, 500 to a commit.
pub(crate) async fn fill(world: &mut World, collection: &str, documents: std::ops::Range<u32>) {
    let all: Vec<_> = documents
        .map(|at| {
            let values = vec![Value::from(at % 3), Value::from(at)];
            let fields = fields([
                ("n", Value::from(at)),
                ("m", [("k", at % 7)].into()),
                ("l", Value::Array(values)),
            ]);
            set(&format!("{collection}/{at}"), fields)
        })
        .collect();
    for writes in all.chunks(500) {
        world.commit(writes.to_vec()).await.unwrap();
    }
}
