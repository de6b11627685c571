//! Named tasks that are supervised and end with their owner. Every task of the server is spawned
//! here: a panic in one is logged as the bug it is, and none outlives the part it serves.

use std::any::Any;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures::FutureExt;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The tasks of one part of the server. Dropping it cancels them.
#[derive(Debug, Default)]
pub struct Tasks {
    spawner: Spawner,
}

/// Spawns among the [`Tasks`] of a part without owning them.
#[derive(Clone, Debug, Default)]
pub struct Spawner {
    cancel: CancellationToken,
    running: TaskTracker,
}

impl Spawner {
    /// As [`Tasks::spawn`].
    #[allow(clippy::disallowed_methods)] // The one place that spawns.
    pub fn spawn(&self, name: &'static str, future: impl Future<Output = ()> + Send + 'static) {
        let cancel = self.cancel.clone();
        let supervised = async move {
            tokio::select! {
                // In this order, so that a cancelled task stops where it stands, in every run.
                biased;
                () = cancel.cancelled() => tracing::debug!(task = name, "cancelled"),
                outcome = AssertUnwindSafe(future).catch_unwind() => {
                    if let Err(panic) = outcome {
                        let panic = panic_message(panic.as_ref());
                        tracing::error!(task = name, panic, "a task panicked");
                    }
                }
            }
        };
        tokio::spawn(self.running.track_future(supervised));
    }
}

impl Tasks {
    /// Runs a task until it ends or the tasks are cancelled. A panic in it is logged as a bug.
    pub fn spawn(&self, name: &'static str, future: impl Future<Output = ()> + Send + 'static) {
        self.spawner.spawn(name, future);
    }

    /// A handle that spawns among these tasks without owning them.
    pub fn spawner(&self) -> Spawner {
        self.spawner.clone()
    }

    /// How many tasks have not ended.
    pub fn len(&self) -> usize {
        self.spawner.running.len()
    }

    /// Whether all have ended.
    pub fn is_empty(&self) -> bool {
        self.spawner.running.is_empty()
    }

    /// Tells all tasks to stop where they stand.
    pub fn cancel(&self) {
        self.spawner.cancel.cancel();
    }

    /// Waits until all tasks have ended by themselves, for at most `patience`; cancels the rest.
    /// Returns how many had to be cancelled.
    pub async fn finish(&self, patience: Duration) -> usize {
        self.spawner.running.close();
        let late = match tokio::time::timeout(patience, self.spawner.running.wait()).await {
            Ok(()) => 0,
            Err(_) => self.spawner.running.len(),
        };
        self.spawner.cancel.cancel();
        self.spawner.running.wait().await;
        late
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        self.spawner.cancel.cancel();
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("not a text")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn dropping_the_owner_cancels() {
        let tasks = Tasks::default();
        let (alive, ended) = tokio::sync::oneshot::channel::<()>();
        tasks.spawn("forever", async move {
            let _alive = alive;
            std::future::pending::<()>().await;
        });
        drop(tasks);
        assert!(ended.await.is_err(), "the task was dropped");
    }

    #[tokio::test]
    async fn a_panic_ends_only_its_task() {
        let tasks = Tasks::default();
        tasks.spawn("bug", async { panic!("of the test") });
        let (done, finished) = tokio::sync::oneshot::channel();
        tasks.spawn("other", async move {
            let _ = done.send(());
        });
        finished.await.expect("the other task ran");
        assert_eq!(tasks.finish(Duration::from_secs(5)).await, 0);
        assert!(tasks.is_empty());
    }

    #[tokio::test]
    async fn finishing_cancels_those_that_are_late() {
        let tasks = Tasks::default();
        tasks.spawn("forever", std::future::pending());
        assert_eq!(tasks.finish(Duration::from_millis(1)).await, 1);
        assert_eq!(tasks.len(), 0);
    }
}
