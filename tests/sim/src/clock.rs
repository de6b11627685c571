//! The server's clock in virtual time: tokio's paused clock, a wall clock that can be wrong, and
//! randomness from the seed.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use tidemark_protocol::model::Timestamp;
use tidemark_server::clock::{Clock, Seed};
use tokio::time::Instant;

/// Where virtual time begins: 2027-01-15, in seconds since the Unix epoch.
const BEGINNING: i64 = 1_800_000_000;
/// What looking at the monotonic clock costs. The commit lane waits for this clock to move on.
const GLANCE: Duration = Duration::from_micros(10);

/// The time since a run began, and the time of day of those whose clock is right.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    started: Instant,
}

impl Now {
    /// Begins a run. Within a runtime whose time is paused.
    pub fn begin() -> Now {
        Now { started: Instant::now() }
    }

    /// Virtual time since the beginning.
    pub fn elapsed(self) -> Duration {
        self.started.elapsed()
    }

    /// When tokio's clock shows this much virtual time.
    pub fn instant(self, at: Duration) -> Instant {
        self.started + at
    }

    /// The time of day on a clock that is wrong by so many milliseconds.
    pub fn wall(self, skew_ms: i64) -> Timestamp {
        let micros = i64::try_from(self.elapsed().as_micros()).unwrap_or(i64::MAX);
        let shown = BEGINNING * 1_000_000 + micros + skew_ms * 1_000;
        Timestamp::from_micros(shown).unwrap_or_default()
    }
}

/// The server's clock.
#[derive(Debug)]
pub struct ServerClock {
    now: Now,
    skew_ms: AtomicI64,
    glances: AtomicU64,
    seed: u64,
}

impl ServerClock {
    /// A clock that is right.
    pub fn new(now: Now, seed: u64) -> ServerClock {
        ServerClock { now, skew_ms: AtomicI64::new(0), glances: AtomicU64::new(0), seed }
    }

    /// Makes the wall clock jump.
    pub fn set_skew(&self, skew_ms: i64) {
        self.skew_ms.store(skew_ms, Ordering::Relaxed);
    }
}

impl Clock for ServerClock {
    fn now(&self) -> Timestamp {
        self.now.wall(self.skew_ms.load(Ordering::Relaxed))
    }

    fn monotonic(&self) -> Duration {
        let glances = self.glances.fetch_add(1, Ordering::Relaxed);
        self.now.elapsed() + GLANCE * u32::try_from(glances).unwrap_or(u32::MAX)
    }

    fn seed(&self) -> Seed {
        Seed::new(self.seed)
    }
}
