//! What outlives a connection: documents, targets with their resume tokens, the outbox, and who this
//! client is. The engine goes through [`Cache`] for all of it and decides everything; a cache only
//! keeps, and forgets documents that are in no target. [`conformance`] is what every cache must pass.

pub mod conformance;
mod memory;

use std::sync::Arc;

use bytes::Bytes;
use tidemark_protocol::model::{
    ClientId, Code, Document, DocumentPath, ResumeToken, Version, Write, WriteId,
};

pub use memory::MemoryCache;

use crate::error::Error;

/// A cache that could not read or write.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the cache failed: {0}")]
pub struct CacheError(pub String);

impl From<CacheError> for Error {
    fn from(error: CacheError) -> Error {
        Error::new(Code::Internal, error.to_string())
    }
}

/// Who this client is to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// Names the outbox.
    pub client_id: ClientId,
    /// The next write's id; those below are used.
    pub next_write_id: WriteId,
    /// The outcomes of all ids up to this one are known.
    pub acknowledged_through: WriteId,
}

/// A write without an answer.
#[derive(Clone, Debug, PartialEq)]
pub struct OutboxEntry {
    /// Its id.
    pub id: WriteId,
    /// What it writes.
    pub writes: Arc<[Write]>,
    /// The local time of the call, as the estimate of its version.
    pub at: Version,
}

/// A change of what is kept of a target. Keys are canonical encodings of targets.
#[derive(Clone, Debug, PartialEq)]
pub enum TargetChange {
    /// The target is kept, with this token.
    Put {
        /// Which.
        key: Bytes,
        /// Where a listen continues; none if it has to begin anew.
        token: Option<ResumeToken>,
    },
    /// Documents entered (true) or left (false) the target; of a target that is not kept: nothing.
    Members {
        /// Which.
        key: Bytes,
        /// In order: the last word on a path holds.
        documents: Vec<(DocumentPath, bool)>,
    },
    /// All documents left the target.
    Clear {
        /// Which.
        key: Bytes,
    },
    /// The target is kept no more.
    Remove {
        /// Which.
        key: Bytes,
    },
}

/// Changes that are stored together or not at all.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CacheBatch {
    /// Documents as the server told them; none: deleted. In order: the last word on a path holds.
    pub documents: Vec<(DocumentPath, Option<Arc<Document>>)>,
    /// In order, after the documents.
    pub targets: Vec<TargetChange>,
    /// Added to the outbox.
    pub outbox_put: Vec<OutboxEntry>,
    /// Removed from the outbox.
    pub outbox_remove: Vec<WriteId>,
    /// Replaces the metadata.
    pub metadata: Option<Metadata>,
}

impl CacheBatch {
    /// Whether there is nothing to store.
    pub fn is_empty(&self) -> bool {
        self.documents.is_empty()
            && self.targets.is_empty()
            && self.outbox_put.is_empty()
            && self.outbox_remove.is_empty()
            && self.metadata.is_none()
    }
}

/// What every cache can do. A document lives as long as a target has it: after a batch, documents in
/// no target are gone.
pub trait Cache: Send {
    /// The metadata; none in a new cache.
    fn metadata(&self) -> Result<Option<Metadata>, CacheError>;

    /// The outbox, by ascending id.
    fn outbox(&self) -> Result<Vec<OutboxEntry>, CacheError>;

    /// A document, if it is kept.
    fn document(&self, path: &DocumentPath) -> Result<Option<Arc<Document>>, CacheError>;

    /// A kept target's token; none if the target is not kept, or has no token.
    fn target(&self, key: &Bytes) -> Result<Option<ResumeToken>, CacheError>;

    /// The documents of a kept target, in any order.
    fn target_documents(&self, key: &Bytes) -> Result<Vec<Arc<Document>>, CacheError>;

    /// The keys of the kept targets, in any order.
    fn targets(&self) -> Result<Vec<Bytes>, CacheError>;

    /// Stores a batch, all of it or nothing; durably, if the cache is durable.
    fn apply(&mut self, batch: CacheBatch) -> Result<(), CacheError>;
}
