//! A database in memory and one client of it.

use std::sync::Arc;
use std::time::Duration;

use tidemark_protocol::model::*;
use tidemark_protocol::wire::client::Commit;
use tidemark_protocol::wire::codec;
use tidemark_protocol::wire::server::{Explanation, ServerMessage, Status};
use tidemark_server::clock::SystemClock;
use tidemark_server::engine::{Connection, Database, DatabaseName, DatabaseOptions};
use tidemark_server::store::{self, Store};
use tidemark_server::tasks::Tasks;

pub(crate) struct World {
    pub(crate) database: Database,
    connection: Connection,
    store: Arc<dyn Store>,
    tasks: Tasks,
    write: u64,
    request: u32,
}

/// What a query gave.
pub(crate) struct Found {
    pub(crate) documents: Vec<Document>,
    pub(crate) explanation: Option<Explanation>,
}

impl World {
    pub(crate) async fn new() -> World {
        World::open("mem:", DatabaseOptions::default()).await
    }

    pub(crate) async fn open(url: &str, options: DatabaseOptions) -> World {
        let tasks = Tasks::default();
        let store = store::open(url).await.unwrap();
        let name = DatabaseName { project: "default".into(), database: "(default)".into() };
        let clock = Arc::new(SystemClock::default());
        let opened = Database::open(Arc::clone(&store), &name, options, clock, &tasks).await;
        let database = opened.unwrap();
        let connection = database.connect(ClientId([1; 16]), WriteId(0)).await.unwrap();
        World { database, connection, store, tasks, write: 0, request: 0 }
    }

    /// Stops, so that the store can be opened again.
    pub(crate) async fn close(self) {
        self.tasks.finish(Duration::ZERO).await;
        self.store.close().await.unwrap();
    }

    /// Commits documents, in batches of 500.
    pub(crate) async fn set(
        &mut self,
        documents: impl IntoIterator<Item = (DocumentPath, Fields)>,
    ) {
        let writes: Vec<Write> = documents
            .into_iter()
            .map(|(path, fields)| Write {
                path,
                op: WriteOp::Set(fields),
                transforms: vec![],
                precondition: None,
            })
            .collect();
        for window in writes.chunks(16 * limits::WRITES_PER_COMMIT) {
            let mut expected = 0;
            for batch in window.chunks(limits::WRITES_PER_COMMIT) {
                self.write += 1;
                expected += 1;
                let (write_id, through) = (WriteId(self.write), WriteId(self.write - 1));
                let (writes, reads) = (batch.to_vec(), vec![]);
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
            for _ in 0..expected {
                match self.next().await {
                    ServerMessage::Committed { .. } => {}
                    other => panic!("{other:?}"),
                }
            }
        }
    }

    pub(crate) async fn index(&self, definition: IndexDefinition) {
        self.database.create_index(definition).await.unwrap();
        self.database.indexes_settled().await.unwrap();
    }

    async fn next(&self) -> ServerMessage {
        let frame = tokio::time::timeout(Duration::from_secs(60), self.connection.next_frame());
        let frame = frame.await.expect("a frame within 60 s").expect("an open connection");
        codec::decode_server(&frame).unwrap()
    }

    pub(crate) async fn query(&mut self, query: &Query, explain: bool) -> Result<Found, Status> {
        self.request += 1;
        self.connection.query(self.request, query.clone(), explain);
        let mut documents = Vec::new();
        loop {
            match self.next().await {
                ServerMessage::Result(result) => {
                    assert_eq!(result.request, self.request);
                    let decode = |bytes| codec::decode_document(bytes).unwrap();
                    documents.extend(result.documents.iter().map(decode));
                    if !result.more {
                        return Ok(Found { documents, explanation: result.explanation });
                    }
                }
                ServerMessage::RequestError { status, .. } => return Err(status),
                other => panic!("{other:?}"),
            }
        }
    }

    pub(crate) async fn aggregate(
        &mut self,
        aggregate: &AggregateQuery,
        explain: bool,
    ) -> Result<(Vec<Value>, Option<Explanation>), Status> {
        self.request += 1;
        self.connection.aggregate(self.request, aggregate.clone(), explain);
        match self.next().await {
            ServerMessage::AggregateResult(result) => Ok((result.values, result.explanation)),
            ServerMessage::RequestError { status, .. } => Err(status),
            other => panic!("{other:?}"),
        }
    }

    /// A query that is answered, and how.
    pub(crate) async fn explained(&mut self, query: &Query) -> (Vec<Document>, Explanation) {
        let found = self.query(query, true).await.unwrap();
        (found.documents, found.explanation.unwrap())
    }
}

pub(crate) fn field(text: &str) -> FieldPath {
    FieldPath::parse(text).unwrap()
}

pub(crate) fn path(text: &str) -> DocumentPath {
    DocumentPath::parse(text).unwrap()
}

pub(crate) fn collection(text: &str) -> Query {
    Query::collection(&CollectionPath::parse(text).unwrap())
}

/// `"city, age desc, tags contains"`.
pub(crate) fn definition(collection_id: &str, scope: IndexScope, fields: &str) -> IndexDefinition {
    let fields = fields.split(", ").map(|text| {
        let (name, mode) = match text.split_once(' ') {
            None => (text, IndexMode::Ascending),
            Some((name, "desc")) => (name, IndexMode::Descending),
            Some((name, _)) => (name, IndexMode::Contains),
        };
        IndexField { field: field(name), mode }
    });
    IndexDefinition { collection_id: collection_id.to_owned(), scope, fields: fields.collect() }
}
