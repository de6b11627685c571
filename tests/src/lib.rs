//! The harness that every test tier shares.
//!
//! Read in this order: [`server`] and [`process`] run a server, inside the test or as a process that can be
//! killed; [`net`] is the network between it and each client, by the client's name; [`trace`] is what that
//! network remembers and prints when a test fails; [`raw`] speaks the protocol without the client core;
//! [`observe`] waits for conditions; [`history`] is the model that listeners are compared with;
//! [`recorder`] checks and keeps what a listener was told; [`seed`] makes chance repeatable;
//! [`plays`] is the corpus.

pub mod history;
pub mod net;
pub mod observe;
pub mod plays;
pub mod process;
pub mod raw;
pub mod recorder;
pub mod seed;
pub mod server;
pub mod trace;
mod websocket;

pub use history::{Effect, History};
pub use net::Net;
pub use observe::{PATIENCE, until, within};
pub use process::ServerProcess;
pub use raw::RawClient;
pub use recorder::Recorder;
pub use seed::Seed;
pub use server::{ServerOptions, TestServer};

use std::future::Future;

/// Runs a task beside the test; it ends with the test's runtime. A panic in it surfaces when the handle is
/// awaited.
#[allow(clippy::disallowed_methods)] // The one place that spawns.
pub fn spawn<T: Send + 'static>(
    task: impl Future<Output = T> + Send + 'static,
) -> tokio::task::JoinHandle<T> {
    tokio::spawn(task)
}
