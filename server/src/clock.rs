//! Where the time comes from.

use std::time::Duration;

use tidemark_protocol::model::Timestamp;

/// Wall and monotonic time.
pub trait Clock: Send + Sync + 'static {
    /// The wall clock.
    fn now(&self) -> Timestamp;
    /// Time since some fixed moment; never steps back.
    fn monotonic(&self) -> Duration;
}
