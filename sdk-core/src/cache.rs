//! What outlives a connection: documents, targets with their resume tokens, the outbox, what was
//! rejected, and who this client is. The engine goes through [`Cache`] for all of it and decides
//! everything; a cache only keeps, finds, and drops what it is told may go. [`conformance`] is what
//! every cache must pass.

mod collect;
pub mod conformance;
mod index;
mod kv;
mod memory;
mod merge;
#[cfg(feature = "native")]
mod native;

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use tidemark_protocol::model::{
    ClientId, Code, Document, DocumentPath, EditTime, Incarnation, Query, Read, ResumeToken,
    Version, Write, WriteId,
};

pub use kv::{KvBatch, KvCache, KvChange, KvRead, KvStore, MemoryStore, Pair};
pub use memory::MemoryCache;
#[cfg(feature = "native")]
pub use native::{FileStore, NativeCache, Options};

use crate::error::Error;

/// A cache that could not read or write.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CacheError {
    /// Another process, or another client of this one, has it open.
    #[error("the cache {place} is in use by another client; a cache has one at a time")]
    InUse {
        /// Where it is.
        place: String,
    },
    /// It was written by a later release.
    #[error("the cache has layout {found}; this release knows layouts up to {known}")]
    Newer {
        /// The layout it has.
        found: u32,
        /// The last one that is known.
        known: u32,
    },
    /// What is stored does not make sense.
    #[error("the cache is damaged: {0}")]
    Damaged(String),
    /// The store below it failed.
    #[error("the cache failed: {0}")]
    Failed(String),
}

impl From<CacheError> for Error {
    fn from(error: CacheError) -> Error {
        let code = match &error {
            CacheError::InUse { .. } | CacheError::Newer { .. } => Code::FailedPrecondition,
            CacheError::Damaged(_) => Code::DataLoss,
            CacheError::Failed(_) => Code::Internal,
        };
        Error::new(code, error.to_string())
    }
}

/// How far the server's clock is ahead of this machine's, as last observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockAnchor {
    /// Microseconds to add to the wall clock; negative where it is ahead of the server's.
    pub offset: i64,
}

/// Who this client is to the server, and what it knows of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// Names the outbox.
    pub client_id: ClientId,
    /// The next write's id; those below are used.
    pub next_write_id: WriteId,
    /// The outcomes of all ids up to this one are known.
    pub acknowledged_through: WriteId,
    /// None until a server has been met.
    pub clock: Option<ClockAnchor>,
    /// The latest edit time given to a write: none after it is given an earlier one.
    pub last_edit: EditTime,
    /// The life of the database that versions in the cache belong to; none until a server has been met.
    pub incarnation: Option<Incarnation>,
}

/// A write without an answer.
#[derive(Clone, Debug, PartialEq)]
pub struct OutboxEntry {
    /// Its id.
    pub id: WriteId,
    /// What it writes.
    pub writes: Arc<[Write]>,
    /// What it depends on.
    pub reads: Vec<Read>,
    /// The local time of the call, as the estimate of its version.
    pub at: Version,
    /// The time of the edit by the server's clock, as far as it was known.
    pub edit: EditTime,
    /// How it was made.
    pub making: Making,
}

/// The circumstances in which a write was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Making {
    /// While there was a connection: it may have been sent without its edit time.
    Online,
    /// Without a connection, its edit time by the server's clock.
    Offline,
    /// Before the run met the server: its edit time is the wall clock's, corrected by what was known.
    Unaligned,
}

/// A write that the server has refused for good, kept until the app has decided about it.
#[derive(Clone, Debug, PartialEq)]
pub struct RejectedEntry {
    /// Its id.
    pub id: WriteId,
    /// What it was to write.
    pub writes: Arc<[Write]>,
    /// The local time of the call.
    pub at: Version,
    /// Why.
    pub code: Code,
    /// Why, for people.
    pub message: String,
}

/// What a cache knows of a document.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Known {
    /// Nothing: there may be one.
    #[default]
    Unknown,
    /// That there was none.
    Missing {
        /// As of this version.
        at: Version,
    },
    /// What it was.
    Document(Arc<Document>),
}

impl Known {
    /// The document, if there is one.
    pub fn into_document(self) -> Option<Arc<Document>> {
        match self {
            Known::Document(document) => Some(document),
            Known::Unknown | Known::Missing { .. } => None,
        }
    }
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
    /// Documents as the server told them; [`Known::Unknown`] forgets. In order: the last word on a path
    /// holds.
    pub documents: Vec<(DocumentPath, Known)>,
    /// In order, after the documents.
    pub targets: Vec<TargetChange>,
    /// Added to the outbox.
    pub outbox_put: Vec<OutboxEntry>,
    /// Removed from the outbox.
    pub outbox_remove: Vec<WriteId>,
    /// Added to what was rejected.
    pub rejected_put: Vec<RejectedEntry>,
    /// Removed from what was rejected.
    pub rejected_remove: Vec<WriteId>,
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
            && self.rejected_put.is_empty()
            && self.rejected_remove.is_empty()
            && self.metadata.is_none()
    }
}

/// When a batch must be safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Before [`Cache::apply`] returns; and all batches before it.
    Durable,
    /// Some time later: a crash may lose it, together with all batches after it, never a part of it.
    Soon,
}

/// What [`Cache::collect`] must not touch, besides what is in the outbox or was rejected.
#[derive(Clone, Copy, Debug)]
pub struct Keep<'a> {
    /// Targets that are listened to, by their keys.
    pub targets: &'a BTreeSet<Bytes>,
    /// Documents that are needed for another reason.
    pub documents: &'a BTreeSet<DocumentPath>,
}

/// What every cache can do. Documents stay when they leave their last target; only
/// [`collect`](Cache::collect) and [`clear`](Cache::clear) drop them.
pub trait Cache: Send {
    /// The metadata; none in a new cache.
    fn metadata(&self) -> Result<Option<Metadata>, CacheError>;

    /// The outbox, by ascending id.
    fn outbox(&self) -> Result<Vec<OutboxEntry>, CacheError>;

    /// What was rejected, by ascending id.
    fn rejected(&self) -> Result<Vec<RejectedEntry>, CacheError>;

    /// What is known of a document.
    fn document(&self, path: &DocumentPath) -> Result<Known, CacheError>;

    /// A kept target's token; none if the target is not kept, or has no token.
    fn target(&self, key: &Bytes) -> Result<Option<ResumeToken>, CacheError>;

    /// The documents of a kept target, in any order.
    fn target_documents(&self, key: &Bytes) -> Result<Vec<Arc<Document>>, CacheError>;

    /// The keys of the kept targets, in any order.
    fn targets(&self) -> Result<Vec<Bytes>, CacheError>;

    /// The kept documents that are in the result of a query, of any target or none, in the query's
    /// order from its start to its end, until `each` breaks. Limit, offset, projection and nearest
    /// are the caller's. The query must [`validate`](Query::validate).
    fn find(
        &self,
        query: &Query,
        each: &mut dyn FnMut(Arc<Document>) -> ControlFlow<()>,
    ) -> Result<(), CacheError>;

    /// Stores a batch, all of it or nothing.
    fn apply(&mut self, batch: CacheBatch, durability: Durability) -> Result<(), CacheError>;

    /// How many bytes documents, targets and indexes take, as far as a cache can tell.
    fn size(&self) -> u64;

    /// How many there should be at most: beyond, [`collect`](Cache::collect) is due.
    fn budget(&self) -> u64;

    /// Drops what was not used for the longest time until there are at most `budget` bytes, or
    /// nothing more may go: documents, and the targets that are not complete without them.
    fn collect(&mut self, keep: Keep<'_>, budget: u64) -> Result<(), CacheError>;

    /// Forgets everything but who the client is, its outbox and what was rejected.
    fn clear(&mut self) -> Result<(), CacheError>;
}
