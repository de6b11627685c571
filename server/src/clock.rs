//! Where the time and the randomness come from: the only file that asks the machine for either.
//! Everything else takes a [`Clock`] or a [`Seed`], so that tests set both.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tidemark_protocol::model::Timestamp;

/// Wall and monotonic time.
pub trait Clock: Send + Sync + 'static {
    /// The wall clock.
    fn now(&self) -> Timestamp;
    /// Time since some fixed moment; never steps back.
    fn monotonic(&self) -> Duration;
    /// Randomness; a simulation gives one that repeats.
    fn seed(&self) -> Seed {
        Seed::from_system()
    }
}

/// The machine's clocks.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    started: std::time::Instant,
}

impl Default for SystemClock {
    #[allow(clippy::disallowed_methods)] // The one place that reads the clock.
    fn default() -> Self {
        SystemClock { started: std::time::Instant::now() }
    }
}

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods)] // The one place that reads the clock.
    fn now(&self) -> Timestamp {
        let since_epoch = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or(Duration::ZERO);
        timestamp(since_epoch)
    }

    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }
}

/// A clock that stands still until it is told otherwise.
#[derive(Debug, Default)]
pub struct ManualClock {
    micros: AtomicU64,
}

impl ManualClock {
    /// A clock that shows this time since the Unix epoch, on the wall and as monotonic time.
    pub fn at(since_epoch: Duration) -> ManualClock {
        ManualClock { micros: AtomicU64::new(micros(since_epoch)) }
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        self.micros.fetch_add(micros(by), Ordering::Relaxed);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        timestamp(self.monotonic())
    }

    fn monotonic(&self) -> Duration {
        Duration::from_micros(self.micros.load(Ordering::Relaxed))
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn timestamp(since_epoch: Duration) -> Timestamp {
    let micros = i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX);
    Timestamp::from_micros(micros).unwrap_or_default()
}

/// Random numbers for session names and jitter; not for secrets.
#[derive(Debug)]
pub struct Seed {
    state: AtomicU64,
}

impl Seed {
    /// Differs from run to run.
    pub fn from_system() -> Seed {
        Seed::new(rand::random())
    }

    /// The same numbers each time.
    pub fn new(seed: u64) -> Seed {
        Seed { state: AtomicU64::new(seed) }
    }

    /// The next number (splitmix64: a counter through a mixing function, so callers never wait).
    pub fn next(&self) -> u64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut z = self.state.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manual_clock_moves_only_when_told() {
        let clock = ManualClock::at(Duration::from_secs(5));
        assert_eq!(clock.monotonic(), Duration::from_secs(5));
        clock.advance(Duration::from_secs(2));
        assert_eq!(clock.monotonic(), Duration::from_secs(7));
    }

    #[test]
    fn the_system_clock_shows_this_century_and_does_not_step_back() {
        let clock = SystemClock::default();
        assert!(clock.now() > timestamp(Duration::from_secs(1_700_000_000)));
        let before = clock.monotonic();
        assert!(clock.monotonic() >= before);
    }

    #[test]
    fn a_seed_repeats_and_its_numbers_differ() {
        let (a, b) = (Seed::new(1), Seed::new(1));
        let first: Vec<u64> = (0..4).map(|_| a.next()).collect();
        assert_eq!(first, (0..4).map(|_| b.next()).collect::<Vec<_>>());
        assert!(first.windows(2).all(|pair| pair[0] != pair[1]));
    }
}
