//! Named tasks that are supervised and end with their owner.

use std::future::Future;

use tokio_util::sync::CancellationToken;

/// The tasks of a server. Dropping it cancels them.
#[derive(Debug)]
pub struct Tasks {
    cancel: CancellationToken,
}

impl Default for Tasks {
    fn default() -> Self {
        Tasks { cancel: CancellationToken::new() }
    }
}

impl Tasks {
    /// Runs a task until it ends or the tasks are cancelled. A panic in it is logged as a bug.
    pub fn spawn(&self, name: &'static str, future: impl Future<Output = ()> + Send + 'static) {
        supervise(name, self.cancel.clone(), future);
    }
}

impl Tasks {
    /// A handle that spawns among these tasks without owning them.
    pub fn spawner(&self) -> Spawner {
        Spawner { cancel: self.cancel.clone() }
    }
}

/// Spawns among the [`Tasks`] of a server without owning them.
#[derive(Clone, Debug)]
pub struct Spawner {
    cancel: CancellationToken,
}

impl Spawner {
    /// As [`Tasks::spawn`].
    pub fn spawn(&self, name: &'static str, future: impl Future<Output = ()> + Send + 'static) {
        supervise(name, self.cancel.clone(), future);
    }
}

/// The one place that spawns.
#[allow(clippy::disallowed_methods)]
fn supervise(
    name: &'static str,
    cancel: CancellationToken,
    future: impl Future<Output = ()> + Send + 'static,
) {
    tokio::spawn(async move {
        tokio::select! {
            () = future => {}
            () = cancel.cancelled() => tracing::debug!(task = name, "cancelled"),
        }
    });
}

impl Drop for Tasks {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}
