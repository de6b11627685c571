//! Collaborative fields in the engine, without sockets: clients that edit with the same module, and
//! listeners that see documents and their histories.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, missing_docs, dead_code)]

#[path = "../engine/world.rs"]
mod client;
mod epochs;
mod hostile;
mod merging;
mod world;
