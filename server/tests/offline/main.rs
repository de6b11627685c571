//! What the server does for clients that were away: edits that arrive late, documents deleted
//! meanwhile, writes sent ahead, and results compared by digests. Without sockets, under a clock that
//! stands still until it is told.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::disallowed_methods, missing_docs)]

mod counting;
mod digests;
mod edits;
mod random;
mod tombstones;
mod world;
