//! Where things are: collections and documents. References are cheap to clone and hold their
//! client; they state requests and hand them to it.

use std::fmt;

use serde::Serialize;
use tidemark_protocol::model::{
    CollectionPath, Direction, DocumentPath, Operator, Precondition, Query as ModelQuery, Target,
    Value, Write,
};

use crate::aggregate::AggregateReference;
use crate::client::Client;
use crate::convert::to_fields;
use crate::engine::Source;
use crate::error::Error;
use crate::filter::Filter;
use crate::pending::{PendingAdd, PendingWrite};
use crate::query::Query;
use crate::snapshot::{DocumentSnapshot, QuerySnapshot};
use crate::subscription::{DocumentListener, ListenOptions, QueryListener};
use crate::write::{self, FieldValue};

/// The place of a document.
#[derive(Clone)]
pub struct DocumentRef {
    client: Client,
    path: DocumentPath,
}

impl fmt::Debug for DocumentRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DocumentRef").field(&self.path.as_str()).finish()
    }
}

impl DocumentRef {
    pub(crate) fn new(client: Client, path: DocumentPath) -> DocumentRef {
        DocumentRef { client, path }
    }

    #[cfg(feature = "collab")]
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Opens its collaborative fields for editing: text, lists, maps and counters that merge with the
    /// edits of others. Resolves when their history is there, from the cache or the server.
    #[cfg(feature = "collab")]
    pub async fn collaborate(&self) -> Result<crate::collab::OpenDocument, Error> {
        self.collaborate_with(crate::collab::CollabOptions::default()).await
    }

    /// As [`collaborate`](Self::collaborate), with options.
    #[cfg(feature = "collab")]
    pub async fn collaborate_with(
        &self,
        options: crate::collab::CollabOptions,
    ) -> Result<crate::collab::OpenDocument, Error> {
        crate::collab::OpenDocument::open(self, options).await
    }

    /// Its path.
    pub fn path(&self) -> &DocumentPath {
        &self.path
    }

    /// The last segment of its path.
    pub fn id(&self) -> &str {
        self.path.id()
    }

    /// The collection it is in.
    pub fn parent(&self) -> CollectionRef {
        CollectionRef::new(self.client.clone(), self.path.parent())
    }

    /// A collection under it.
    pub fn collection(&self, id: &str) -> Result<CollectionRef, Error> {
        Ok(CollectionRef::new(self.client.clone(), self.path.collection(id)?))
    }

    /// All documents of the collections with this id that are anywhere under it, as a query to refine.
    pub fn collection_group(&self, id: &str) -> Query {
        let parent = Some(self.path.clone());
        Query::new(self.client.clone(), ModelQuery { parent, ..ModelQuery::group(id) })
    }

    /// The document as the server has it now, with this client's pending writes on top; while there is
    /// no connection, as the cache has it. `unavailable` if the cache does not know it either.
    pub async fn get(&self) -> Result<DocumentSnapshot, Error> {
        self.get_from(Source::Default).await
    }

    /// As [`get`](Self::get), from where the caller says.
    pub async fn get_from(&self, source: Source) -> Result<DocumentSnapshot, Error> {
        let mut found = self.client.get_paths(vec![self.path.clone()], true, source).await?;
        found.documents.pop().ok_or_else(|| {
            Error::new(tidemark_protocol::model::Code::Internal, "the server answered with nothing")
        })
    }

    /// The document now and after every change.
    pub fn listen(&self) -> DocumentListener {
        self.listen_with(ListenOptions::default())
    }

    /// As [`listen`](Self::listen), with options.
    pub fn listen_with(&self, options: ListenOptions) -> DocumentListener {
        let target = Target::Documents(vec![self.path.clone()]);
        DocumentListener::new(self.path.clone(), self.client.listen(Ok(target), options))
    }

    fn commit(&self, write: Result<Write, Error>) -> PendingWrite {
        match write {
            Ok(write) => self.client.commit(vec![write]),
            Err(error) => PendingWrite::failed(error),
        }
    }

    /// Replaces the document.
    pub fn set<T: Serialize + ?Sized>(&self, value: &T) -> PendingWrite {
        self.commit(to_fields(value).map(|fields| write::set(&self.path, fields)))
    }

    /// Replaces the document, field by field, with values and transforms.
    pub fn set_fields<K, V>(&self, fields: impl IntoIterator<Item = (K, V)>) -> PendingWrite
    where
        K: Into<String>,
        V: Into<FieldValue>,
    {
        self.commit(write::set_fields(&self.path, fields))
    }

    /// Creates the document or merges these fields into it.
    pub fn set_merge<T: Serialize + ?Sized>(&self, value: &T) -> PendingWrite {
        self.commit(to_fields(value).and_then(|fields| write::merge(&self.path, fields)))
    }

    /// Creates the document; rejected with `already-exists` if it is there.
    pub fn create<T: Serialize + ?Sized>(&self, value: &T) -> PendingWrite {
        self.commit(to_fields(value).map(|fields| write::create(&self.path, fields)))
    }

    /// Changes fields, named by their paths ("a.b"); rejected with `not-found` if there is no document.
    pub fn update<K, V>(&self, fields: impl IntoIterator<Item = (K, V)>) -> PendingWrite
    where
        K: AsRef<str>,
        V: Into<FieldValue>,
    {
        self.update_if(fields, Precondition::Exists(true))
    }

    /// As [`update`](Self::update), under another condition.
    pub fn update_if<K, V>(
        &self,
        fields: impl IntoIterator<Item = (K, V)>,
        precondition: Precondition,
    ) -> PendingWrite
    where
        K: AsRef<str>,
        V: Into<FieldValue>,
    {
        self.commit(write::update(&self.path, fields, precondition))
    }

    /// Deletes the document, if it is there.
    pub fn delete(&self) -> PendingWrite {
        self.commit(Ok(write::delete(&self.path, None)))
    }

    /// Deletes the document under a condition.
    pub fn delete_if(&self, precondition: Precondition) -> PendingWrite {
        self.commit(Ok(write::delete(&self.path, Some(precondition))))
    }
}

/// A collection.
#[derive(Clone)]
pub struct CollectionRef {
    client: Client,
    path: CollectionPath,
}

impl fmt::Debug for CollectionRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CollectionRef").field(&self.path.as_str()).finish()
    }
}

impl CollectionRef {
    pub(crate) fn new(client: Client, path: CollectionPath) -> CollectionRef {
        CollectionRef { client, path }
    }

    /// Its path.
    pub fn path(&self) -> &CollectionPath {
        &self.path
    }

    /// The last segment of its path.
    pub fn id(&self) -> &str {
        self.path.id()
    }

    /// The document it is under; none at the root.
    pub fn parent(&self) -> Option<DocumentRef> {
        self.path.parent().map(|path| DocumentRef::new(self.client.clone(), path))
    }

    /// A document in it.
    pub fn doc(&self, id: &str) -> Result<DocumentRef, Error> {
        Ok(DocumentRef::new(self.client.clone(), self.path.doc(id)?))
    }

    /// A place for a new document, with a random id of 20 letters and digits.
    pub fn new_doc(&self) -> DocumentRef {
        let id = self.client.new_id();
        let path = self.path.doc(&id).expect("20 letters and digits are a valid id");
        DocumentRef::new(self.client.clone(), path)
    }

    /// Adds a document under a random id.
    pub fn add<T: Serialize + ?Sized>(&self, value: &T) -> PendingAdd {
        let doc = self.new_doc();
        let write = doc.set(value);
        PendingAdd { doc, write }
    }

    /// All its documents, as a query to refine.
    pub fn query(&self) -> Query {
        Query::new(self.client.clone(), ModelQuery::collection(&self.path))
    }

    /// See [`Query::filter`].
    pub fn filter(&self, field: &str, operator: Operator, value: impl Into<Value>) -> Query {
        self.query().filter(field, operator, value)
    }

    /// See [`Query::matching`].
    pub fn matching(&self, filter: Filter) -> Query {
        self.query().matching(filter)
    }

    /// See [`Query::order_by`].
    pub fn order_by(&self, field: &str, direction: Direction) -> Query {
        self.query().order_by(field, direction)
    }

    /// See [`Query::limit`].
    pub fn limit(&self, limit: u32) -> Query {
        self.query().limit(limit)
    }

    /// See [`Query::count`].
    pub fn count(&self) -> AggregateReference {
        self.query().count()
    }

    /// See [`Query::get`].
    pub async fn get(&self) -> Result<QuerySnapshot, Error> {
        self.query().get().await
    }

    /// See [`Query::get_from`].
    pub async fn get_from(&self, source: Source) -> Result<QuerySnapshot, Error> {
        self.query().get_from(source).await
    }

    /// See [`Query::listen`].
    pub fn listen(&self) -> QueryListener {
        self.query().listen()
    }
}
