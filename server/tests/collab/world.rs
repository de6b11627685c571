//! A database that can be restarted, and editors that work as a client with an open document does.

use std::sync::Arc;

use bytes::Bytes;
use tidemark_protocol::model::collab::{CollabDocument, TextUnit};
use tidemark_protocol::model::{
    ClientId, Collaboration, Document, DocumentPath, Fields, Query, Target, Value, Version, Write,
    WriteId, WriteOp,
};
use tidemark_server::clock::SystemClock;
use tidemark_server::engine::{Database, DatabaseName, DatabaseOptions};
use tidemark_server::store::{self, Store};
use tidemark_server::tasks::Tasks;

use super::client::Client;

pub(crate) struct World {
    pub(crate) store: Arc<dyn Store>,
    options: DatabaseOptions,
    database: Option<(Database, Tasks)>,
}

pub(crate) fn path() -> DocumentPath {
    DocumentPath::parse("docs/one").unwrap()
}

impl World {
    pub(crate) async fn new(options: DatabaseOptions) -> World {
        let store = store::open("mem:").await.unwrap();
        let mut world = World { store, options, database: None };
        world.restart().await;
        world
    }

    /// Ends the database and opens it again over the same store: nothing is left in memory.
    pub(crate) async fn restart(&mut self) {
        if let Some((database, _)) = self.database.take() {
            database.close().await;
        }
        let tasks = Tasks::default();
        let name = DatabaseName { project: "default".into(), database: "(default)".into() };
        let clock = Arc::new(SystemClock::default());
        let store = Arc::clone(&self.store);
        let database =
            Database::open(store, &name, self.options.clone(), clock, &tasks).await.unwrap();
        self.database = Some((database, tasks));
    }

    pub(crate) async fn editor(&self, id: u8) -> Editor {
        let (database, _) = self.database.as_ref().unwrap();
        let connection = database.connect(ClientId([id; 16]), WriteId(0)).await.unwrap();
        let mut client = Client::new(connection);
        let history = path().collection("__collab__").unwrap();
        client.listen(1, Target::Documents(vec![path()]), None).await;
        client.listen(2, Target::Query(Query::collection(&history)), None).await;
        let document = CollabDocument::new(&[id; 16], TextUnit::CodePoints);
        let mut editor = Editor { client, document, epoch: Version(0), id };
        editor.sync().await;
        editor
    }
}

/// A client with the document open.
pub(crate) struct Editor {
    pub(crate) client: Client,
    pub(crate) document: CollabDocument,
    pub(crate) epoch: Version,
    id: u8,
}

impl Editor {
    /// Receives everything, and takes the history in.
    pub(crate) async fn sync(&mut self) {
        while !self.client.is_current() {
            self.client.next().await;
        }
        self.take_in();
    }

    /// Loads the history that has been received.
    fn take_in(&mut self) {
        let Some(stored) = self.stored() else { return };
        let Some(known) = &stored.merge.collaborative else { return };
        let (parts, chunks) = self.history(known.epoch);
        self.epoch = known.epoch;
        let actor = [&[self.id; 16][..], &self.client.at.0.to_be_bytes()].concat();
        self.document = CollabDocument::load(
            &actor,
            TextUnit::CodePoints,
            parts.iter().map(|it| &it[..]),
            chunks.iter().map(|it| &it[..]),
        )
        .unwrap();
        assert_eq!(self.document.kinds(), known.fields);
        for (field, value) in self.document.values() {
            assert_eq!(stored.fields.get(&field), Some(&value), "the value that is shown");
        }
    }

    /// The document as the server shows it.
    pub(crate) fn stored(&self) -> Option<Document> {
        self.client.targets[&1].documents.get(path().as_str()).cloned()
    }

    pub(crate) fn field(&self, field: &str) -> Option<Value> {
        self.stored()?.fields.get(field).cloned()
    }

    /// The names of the documents of the history.
    pub(crate) fn names(&self) -> Vec<String> {
        self.client.targets[&2].documents.keys().cloned().collect()
    }

    fn history(&self, epoch: Version) -> (Vec<Bytes>, Vec<Bytes>) {
        let (mut parts, mut chunks) = (vec![], vec![]);
        for document in self.client.targets[&2].documents.values() {
            let id = document.path.id().to_owned();
            let Some(Value::Bytes(data)) = document.fields.get("data") else { panic!("{id}") };
            assert!(id.starts_with(&format!("{:020}-", epoch.0)), "{id} is of epoch {epoch}");
            if id.contains("-s") { &mut parts } else { &mut chunks }.push(data.clone());
        }
        (parts, chunks)
    }

    /// The edits made since the last time, as a write.
    pub(crate) fn write(&mut self) -> Write {
        merge(self.epoch, self.document.take_changes())
    }

    /// Commits the edits, and receives what they made.
    pub(crate) async fn send(&mut self) -> Result<Version, String> {
        let write = self.write();
        self.commit(vec![write]).await
    }

    pub(crate) async fn commit(&mut self, writes: Vec<Write>) -> Result<Version, String> {
        let version = self.client.commit(writes).await?;
        self.client.until(version).await;
        self.take_in();
        Ok(version)
    }

    /// Receives what others did up to a version.
    pub(crate) async fn until(&mut self, version: Version) {
        self.client.until(version).await;
        self.take_in();
    }
}

pub(crate) fn merge(epoch: Version, changes: Vec<Bytes>) -> Write {
    plain(WriteOp::Merge(Collaboration { epoch, changes }))
}

pub(crate) fn plain(op: WriteOp) -> Write {
    Write { path: path(), op, transforms: vec![], precondition: None }
}

pub(crate) fn set(fields: &[(&str, Value)]) -> Write {
    let fields: Fields =
        fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    plain(WriteOp::Set(fields))
}

pub(crate) fn update(field: &str, value: Option<Value>) -> Write {
    let mask = vec![tidemark_protocol::model::FieldPath::parse(field).unwrap()];
    let fields = value.map(|value| (field.to_owned(), value)).into_iter().collect();
    plain(WriteOp::Update { fields, mask })
}
