//! Collaborative fields: text, lists, maps and counters whose concurrent edits all survive, merged
//! by Automerge. This is its one home.
//!
//! A document's collaborative fields are the root keys of one Automerge document, a
//! [`CollabDocument`]. The server drives one to merge commits and to materialise their values, a
//! client drives one to edit. Both get the same values from the same changes, in any order. Changes
//! that come from the network are checked before Automerge sees them ([`check_change`]), because a
//! few bytes can describe very much. Nothing here does I/O, knows paths or versions, or reads a
//! clock.

mod assign;
mod bare;
mod branch;
mod change;
mod diff;
mod document;
mod edit;
mod epoch;
mod error;
mod patch;
mod reader;
mod seed;
mod undo;
mod value;

pub use bare::bare_text;
pub use change::{MAX_CHANGE_BYTES, MAX_CHANGE_OPS, check_change};
pub use document::{CollabDocument, Merged, PART_BYTES, TextUnit};
pub use edit::{CollabCursor, Expand, Mark, Side};
pub use epoch::{merge_values, rebase_late};
pub use error::CollabError;
pub use patch::{CollabPatch, PatchAction};
pub use value::Step;

#[cfg(test)]
mod tests;
