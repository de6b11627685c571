//! The Tidemark server.
//!
//! Read [`engine`] for commits, the change log and live queries; [`store`] for the storage seam;
//! [`session`] for a connection; [`http`] for the port.

pub mod clock;
pub mod engine;
pub mod store;
pub mod tasks;
