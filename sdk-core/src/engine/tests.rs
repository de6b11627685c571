//! The engine's tests: scripts in, text out. [`script`] knows the language; the other modules hold the
//! scripts, by topic. Expected texts are updated with `UPDATE_EXPECT=1`.

#![allow(clippy::unwrap_used)]

mod aggregating;
mod connecting;
mod crash;
mod listening;
mod offline;
mod outbox;
mod properties;
mod requesting;
mod restarting;
mod resuming;
mod script;
pub(super) mod server;
mod windows;
mod writing;
