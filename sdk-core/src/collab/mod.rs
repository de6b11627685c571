//! Open documents: collaborative fields that are edited here at once, and merged with the edits of
//! others.
//!
//! [`OpenDocument`] and the fields it hands out are what an app holds. They edit a `replica` under a
//! lock, without waiting for anything. A `session` per open document listens to the document's
//! `history` and puts edits into the outbox as ordinary writes: one at a time, so that what is typed
//! while one is being stored goes together with the next. Everything here goes through the client's
//! public ways: listeners, commits, the stream of writes.

mod field;
mod handle;
pub(crate) mod history;
mod replica;
mod session;

pub use field::{CollabState, SharedCounter, SharedList, SharedMap, SharedText};
pub use handle::{CollabEvents, CollabOptions, OpenDocument};
pub use replica::CollabEvent;
pub use tidemark_protocol::model::CollaborativeKind;
pub use tidemark_protocol::model::collab::{
    CollabCursor, CollabPatch, Expand, Mark, PatchAction, Side, Step, TextUnit,
};
