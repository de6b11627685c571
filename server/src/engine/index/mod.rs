//! Indexes: which entries documents have, which indexes there are, and how they are built while
//! commits go on.
//!
//! Every field is indexed automatically within its collection, unless it is exempted; indexes of
//! several fields, or of all collections of an id, are declared. [`set`] is what is indexed,
//! [`document`] the entries of a document, [`entries`] what they look like. The lane writes entries
//! together with the documents, and carries out what [`change`] and [`work`] work out; [`builder`]
//! is the task that asks it to. Nothing here writes to the store itself.

mod admin;
mod builder;
mod change;
mod check;
mod collections;
mod document;
mod entries;
mod list;
mod records;
mod set;
mod status;
mod work;

pub(super) use builder::{Expected, IndexCommand, Step, run};
pub(super) use change::IndexChange;
pub use check::IndexCheck;
pub(super) use collections::KnownCollections;
pub(super) use document::TooManyBytes;
pub(super) use entries::{EntryKind, append_indexed, entry_name, invert};
pub(super) use list::KeyWrite;
pub(super) use records::{fresh, load};
pub(super) use set::{Composite, IndexSet};
pub use status::{ExemptionStatus, IndexState, IndexStatus, Progress};
pub(super) use work::{Chunk, next_chunk, write_bytes};
