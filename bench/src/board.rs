//! Counts deliveries: which update reached how many listeners, and how long it took.
//!
//! The writer calls [`Board::send`] before an update leaves; each listener calls
//! [`Board::deliver`] for each frame. Both are in this process, so that one clock serves. An
//! update carries its number in a [`marker`], which the listener finds without decoding the
//! frame: the same work against Tidemark and against the bare broadcaster.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::stats::Latencies;

/// Most updates that one board can number.
const UPDATES: usize = 1 << 20;
const PREFIX: &[u8] = b"~seq:";

/// The text that carries an update's number.
pub(crate) fn marker(update: u64) -> String {
    format!("~seq:{update:016x}")
}

/// The number of the update in a frame, if it carries one.
pub(crate) fn find_marker(frame: &[u8]) -> Option<u64> {
    let mut rest = frame;
    loop {
        let at = rest.iter().position(|byte| *byte == PREFIX[0])?;
        rest = &rest[at..];
        if rest.starts_with(PREFIX) {
            let digits = std::str::from_utf8(rest.get(PREFIX.len()..PREFIX.len() + 16)?).ok()?;
            return u64::from_str_radix(digits, 16).ok();
        }
        rest = &rest[1..];
    }
}

/// What has been delivered so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Totals {
    /// Frames with an update that listeners received.
    pub(crate) frames: u64,
    /// Updates that a listener did not see by themselves, because a later state came first.
    pub(crate) merged: u64,
}

/// The common account of one writer and its listeners.
pub(crate) struct Board {
    begin: Instant,
    listeners: u32,
    sent: Box<[AtomicU64]>,
    arrived: Box<[AtomicU32]>,
    next: AtomicU64,
    through: AtomicU64,
    frames: AtomicU64,
    merged: AtomicU64,
    timing: AtomicBool,
    moved: Notify,
}

impl Board {
    /// A board for this many listeners. Updates are numbered from 1.
    pub(crate) fn new(listeners: usize) -> Board {
        Board {
            begin: Instant::now(),
            listeners: u32::try_from(listeners).expect("fewer than 2^32 listeners"),
            sent: (0..UPDATES).map(|_| AtomicU64::new(0)).collect(),
            arrived: (0..UPDATES).map(|_| AtomicU32::new(0)).collect(),
            next: AtomicU64::new(1),
            through: AtomicU64::new(0),
            frames: AtomicU64::new(0),
            merged: AtomicU64::new(0),
            timing: AtomicBool::new(false),
            moved: Notify::new(),
        }
    }

    /// Numbers the next update and notes the time.
    pub(crate) fn send(&self) -> u64 {
        let update = self.next.fetch_add(1, Relaxed);
        assert!((update as usize) < UPDATES, "the board has no room for more updates");
        self.sent[update as usize].store(self.begin.elapsed().as_nanos() as u64, Relaxed);
        update
    }

    /// Notes that a listener whose last update was `last` received `update`; gives the time since
    /// it was sent while latencies are wanted.
    pub(crate) fn deliver(&self, last: u64, update: u64) -> Option<Duration> {
        let now = self.begin.elapsed().as_nanos() as u64;
        self.frames.fetch_add(1, Relaxed);
        if update > last + 1 && last > 0 {
            self.merged.fetch_add(update - last - 1, Relaxed);
        }
        for covered in last + 1..=update {
            let arrived = self.arrived[covered as usize].fetch_add(1, Relaxed) + 1;
            if arrived == self.listeners {
                self.through.fetch_max(covered, Relaxed);
                self.moved.notify_one();
            }
        }
        let sent = self.sent[update as usize].load(Relaxed);
        self.timing.load(Relaxed).then(|| Duration::from_nanos(now.saturating_sub(sent)))
    }

    /// Whether latencies are wanted.
    pub(crate) fn set_timing(&self, on: bool) {
        self.timing.store(on, Relaxed);
    }

    /// The last update that was sent.
    pub(crate) fn last(&self) -> u64 {
        self.next.load(Relaxed) - 1
    }

    /// Waits until every listener has seen `update` or a later state.
    pub(crate) async fn wait_for(&self, update: u64) {
        while self.through.load(Relaxed) < update {
            self.moved.notified().await;
        }
    }

    /// The totals so far.
    pub(crate) fn totals(&self) -> Totals {
        Totals { frames: self.frames.load(Relaxed), merged: self.merged.load(Relaxed) }
    }
}

/// One listener's own part: what it saw last, and its latencies.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    last: u64,
    latencies: Latencies,
}

impl Tally {
    /// Notes an update.
    pub(crate) fn note(&mut self, board: &Board, update: u64) {
        // A resent state is no delivery.
        if update <= self.last {
            return;
        }
        if let Some(latency) = board.deliver(self.last, update) {
            self.latencies.push(latency);
        }
        self.last = update;
    }

    /// The latencies so far, which begin anew.
    pub(crate) fn take(&mut self) -> Latencies {
        std::mem::take(&mut self.latencies)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_is_found_anywhere() {
        let frame = format!("~~se~seq {} tail", marker(0xab));
        assert_eq!(find_marker(frame.as_bytes()), Some(0xab));
        assert_eq!(find_marker(b"~seq:12"), None);
        assert_eq!(find_marker(b"nothing"), None);
    }

    #[test]
    fn skipped_updates_count_as_merged_and_as_seen() {
        let board = Board::new(2);
        for expected in 1..=3 {
            assert_eq!(board.send(), expected);
        }
        let (mut quick, mut slow) = (Tally::default(), Tally::default());
        quick.note(&board, 1);
        slow.note(&board, 1);
        quick.note(&board, 2);
        quick.note(&board, 3);
        assert_eq!(board.through.load(Relaxed), 1);
        slow.note(&board, 3);
        slow.note(&board, 3);
        assert_eq!(board.through.load(Relaxed), 3);
        let totals = board.totals();
        assert_eq!((totals.frames, totals.merged), (5, 1));
    }
}
