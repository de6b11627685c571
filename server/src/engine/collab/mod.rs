//! Collaborative fields on the server: merges changes into a document's history, shows their values
//! in the document, turns plain writes onto them into differences, and bounds the history.
//!
//! The stage drives it, one write at a time, and stores what it returns in the commit of the write:
//! the documents below `__collab__` that hold the history, and the archive of former epochs. The
//! histories in memory belong to the lane. They are ahead of the store while a batch is being built:
//! if it fails, or a commit is refused, they are forgotten and read again.

mod archive;
mod cache;
mod history;
mod late;
mod merge;
mod plain;
mod view;

pub(super) use cache::Collab;
pub(super) use view::View;

use tidemark_protocol::model::{Applied, COLLABORATIVE_ID, Document, DocumentPath, Write, WriteOp};

use super::index::KeyWrite;

/// The author of the changes that the server makes. It is the only one, and its changes follow one
/// another.
const ACTOR: &[u8] = b"tidemark";

/// What a write does to a document with collaborative fields.
pub(super) struct Written {
    pub(super) applied: Applied,
    /// The documents of the history that it adds, replaces or, without a document, deletes.
    pub(super) history: Vec<(DocumentPath, Option<Document>)>,
    /// What it stores beside documents.
    pub(super) archive: Vec<KeyWrite>,
}

/// Whether a write is to be applied here.
pub(super) fn concerns(current: Option<&Document>, write: &Write) -> bool {
    matches!(write.op, WriteOp::Merge(_))
        || current.is_some_and(|document| document.merge.collaborative.is_some())
}

/// Whether a document is part of a history: it is neither indexed nor found by collection groups.
pub(super) fn is_history(path: &DocumentPath) -> bool {
    path.collection_id() == COLLABORATIVE_ID
}
