//! A commit as the fan-out and the log see it: changed documents, before and after.

use std::sync::Arc;

use bytes::Bytes;
use tidemark_protocol::model::{Document, DocumentPath, Version};
use tidemark_protocol::wire::codec;

use super::connection::ConnectionId;
use super::error::EngineError;
use super::records::{ChangeRecord, LogRecord};

/// A document with the bytes it is stored and sent as.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) bytes: Bytes,
    pub(super) document: Document,
}

impl Stored {
    pub(super) fn encode(document: Document) -> Arc<Stored> {
        Arc::new(Stored { bytes: codec::encode_document(&document), document })
    }

    pub(super) fn decode(bytes: Bytes) -> Result<Arc<Stored>, EngineError> {
        let document = codec::decode_document(&bytes).map_err(EngineError::corrupt)?;
        Ok(Arc::new(Stored { bytes, document }))
    }
}

/// One document changed by a commit.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub(super) path: DocumentPath,
    pub(super) before: Option<Arc<Stored>>,
    pub(super) after: Option<Arc<Stored>>,
}

/// A durable commit.
#[derive(Debug)]
pub(super) struct CommitRecord {
    pub(super) version: Version,
    pub(super) changes: Vec<Change>,
    /// Who wrote it, and is owed a consistent point at this version.
    pub(super) origin: ConnectionId,
}

impl CommitRecord {
    pub(super) fn log_record(&self) -> LogRecord {
        let bytes = |stored: &Option<Arc<Stored>>| stored.as_ref().map(|s| s.bytes.clone());
        let changes = self.changes.iter();
        LogRecord {
            changes: changes
                .map(|change| ChangeRecord {
                    before: bytes(&change.before),
                    after: bytes(&change.after),
                })
                .collect(),
        }
    }
}
