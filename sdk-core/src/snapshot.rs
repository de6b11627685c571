//! What an app reads: documents and results as they were at one moment. Snapshots are immutable and
//! share their documents; the engine makes them, nothing here changes them.

use std::sync::Arc;

use serde::de::DeserializeOwned;
use tidemark_protocol::model::{Document, DocumentPath, FieldPath, Fields, Value, Version};

use crate::convert::from_fields;
use crate::error::Error;

/// How much of what is seen the server has confirmed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SnapshotMetadata {
    /// The server has not (yet, or not any more) confirmed that this is the present state.
    pub from_cache: bool,
    /// It shows writes that the server has not confirmed.
    pub has_pending_writes: bool,
}

#[derive(Clone, Debug)]
pub(crate) enum Content {
    Exists(Arc<Document>),
    Missing(DocumentPath),
}

/// A document as it was at one moment, existing or not.
#[derive(Clone, Debug)]
pub struct DocumentSnapshot {
    pub(crate) content: Content,
    pub(crate) metadata: SnapshotMetadata,
}

impl DocumentSnapshot {
    pub(crate) fn existing(document: Arc<Document>, metadata: SnapshotMetadata) -> Self {
        DocumentSnapshot { content: Content::Exists(document), metadata }
    }

    pub(crate) fn missing(path: DocumentPath, metadata: SnapshotMetadata) -> Self {
        DocumentSnapshot { content: Content::Missing(path), metadata }
    }

    pub(crate) fn document(&self) -> Option<&Arc<Document>> {
        match &self.content {
            Content::Exists(document) => Some(document),
            Content::Missing(_) => None,
        }
    }

    /// Whether the document exists.
    pub fn exists(&self) -> bool {
        self.document().is_some()
    }

    /// Where it is, or would be.
    pub fn path(&self) -> &DocumentPath {
        match &self.content {
            Content::Exists(document) => &document.path,
            Content::Missing(path) => path,
        }
    }

    /// The last segment of its path.
    pub fn id(&self) -> &str {
        self.path().id()
    }

    /// The fields as a type of the app. `not-found` when the document does not exist,
    /// `invalid-argument` when its fields do not fit the type.
    pub fn data<T: DeserializeOwned>(&self) -> Result<T, Error> {
        match &self.content {
            Content::Exists(document) => from_fields(&document.fields),
            Content::Missing(path) => Err(Error::new(
                tidemark_protocol::model::Code::NotFound,
                format!("there is no document {path}"),
            )),
        }
    }

    /// The fields; none when the document does not exist.
    pub fn fields(&self) -> Option<&Fields> {
        self.document().map(|document| &document.fields)
    }

    /// The value at a field path ("a.b"); none when it is not there or the path is not valid.
    pub fn get(&self, field: &str) -> Option<&Value> {
        let field = FieldPath::parse(field).ok()?;
        self.document()?.get(&field)
    }

    /// What the server has confirmed of it.
    pub fn metadata(&self) -> SnapshotMetadata {
        self.metadata
    }

    /// The commit that created it; [`Version::NONE`] when it does not exist. An estimate by the local
    /// clock while the creating write is pending.
    pub fn create_version(&self) -> Version {
        self.document().map_or(Version::NONE, |document| document.create_version)
    }

    /// The commit that last changed it; [`Version::NONE`] when it does not exist. An estimate by the
    /// local clock while a write is pending.
    pub fn update_version(&self) -> Version {
        self.document().map_or(Version::NONE, |document| document.update_version)
    }

    /// Whether there is nothing to tell of this after the other: also the versions and what is pending
    /// are the same. `from_cache` is the whole result's.
    pub(crate) fn looks_like(&self, other: &DocumentSnapshot) -> bool {
        self.metadata.has_pending_writes == other.metadata.has_pending_writes
            && self.create_version() == other.create_version()
            && self.update_version() == other.update_version()
            && self == other
    }
}

/// Equal when both show the same document with the same fields; versions and metadata aside.
impl PartialEq for DocumentSnapshot {
    fn eq(&self, other: &DocumentSnapshot) -> bool {
        match (&self.content, &other.content) {
            (Content::Exists(a), Content::Exists(b)) => {
                Arc::ptr_eq(a, b) || (a.path == b.path && a.fields == b.fields)
            }
            (Content::Missing(a), Content::Missing(b)) => a == b,
            (Content::Exists(_), Content::Missing(_))
            | (Content::Missing(_), Content::Exists(_)) => false,
        }
    }
}

/// What happened to a document of a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChangeKind {
    /// It is new in the result.
    Added,
    /// It was in the result and still is, with other fields or at another place.
    Modified,
    /// It is no longer in the result.
    Removed,
}

/// One step from the previous snapshot's documents to this one's. Steps are to be applied in
/// order: `old_index` counts after the steps before it, `new_index` after the step itself.
#[derive(Clone, Debug, PartialEq)]
pub struct DocumentChange {
    /// What happened.
    pub kind: ChangeKind,
    /// The document after the change; for a removal, as it was last seen.
    pub document: DocumentSnapshot,
    /// Where it was; none if added.
    pub old_index: Option<usize>,
    /// Where it is; none if removed.
    pub new_index: Option<usize>,
}

/// The result of a query at one moment.
#[derive(Clone, Debug)]
pub struct QuerySnapshot {
    pub(crate) documents: Arc<Vec<DocumentSnapshot>>,
    pub(crate) changes: Vec<DocumentChange>,
    pub(crate) metadata: SnapshotMetadata,
    pub(crate) version: Version,
}

impl QuerySnapshot {
    /// The documents in the order of the query. Dropping a snapshot before asking for the next lets a
    /// large result be updated in place.
    pub fn documents(&self) -> &[DocumentSnapshot] {
        &self.documents
    }

    /// What changed since the snapshot delivered before (everything is added by the first).
    pub fn changes(&self) -> &[DocumentChange] {
        &self.changes
    }

    /// What the server has confirmed of it.
    pub fn metadata(&self) -> SnapshotMetadata {
        self.metadata
    }

    /// The consistent point it shows: everything committed up to this version, and nothing later
    /// except this client's own pending writes. [`Version::NONE`] when nothing came from the server.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The number of documents.
    pub fn len(&self) -> usize {
        self.documents.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.documents.is_empty()
    }
}
