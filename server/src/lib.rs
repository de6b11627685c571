//! The Tidemark server.
//!
//! A reading list: [`config`] is every setting; [`server`] binds, serves and drains; [`http`] is
//! the port and its resources; [`session`] is one connection (its rules are pure, in
//! [`session::state`]); [`engine`] is commits, the change log and live queries; [`store`] is the
//! storage seam. [`clock`], [`tasks`] and [`telemetry`] are the runtime they share.

pub mod clock;
pub mod config;
pub mod engine;
pub mod http;
mod refusals;
pub mod server;
pub mod session;
pub mod store;
pub mod tasks;
pub mod telemetry;
