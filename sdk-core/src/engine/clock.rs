//! The edit clock: when an edit was made, by the server's clock as well as this client can know it. The
//! engine asks it for the time of each write, tells it every version it sees, and aligns it at each
//! welcome. It reads no clock itself: time comes with the [`Moment`] of an event.

use std::time::Duration;

use tidemark_protocol::model::{EditTime, Timestamp, Version};

use super::Moment;

/// The server's time at a welcome, and when that was.
#[derive(Clone, Copy, Debug)]
struct Anchor {
    server: u64,
    elapsed: Duration,
}

/// Strictly increasing, and above every version seen.
#[derive(Debug, Default)]
pub(crate) struct EditClock {
    /// Server time less the wall clock's, as measured at the last welcome, in this run or a former one.
    offset: Option<i64>,
    /// Set by the welcomes of this run: wall clocks may jump, so from then on they do not matter.
    anchor: Option<Anchor>,
    /// What it never goes below again: the versions seen, and the times given while it was aligned.
    settled: u64,
    /// The last time given.
    last: u64,
}

impl EditClock {
    /// The clock of a new run. `settled` is what the former one stored, `last` its last pending edit.
    pub(crate) fn restore(offset: Option<i64>, settled: EditTime, last: EditTime) -> EditClock {
        EditClock { offset, anchor: None, settled: settled.0, last: last.0.max(settled.0) }
    }

    /// Whether its times are the server's. Those given before are moved when it becomes so.
    pub(crate) fn is_aligned(&self) -> bool {
        self.anchor.is_some()
    }

    fn read(&self, now: Moment) -> u64 {
        match self.anchor {
            Some(Anchor { server, elapsed }) => {
                server.saturating_add(micros(now.elapsed.saturating_sub(elapsed)))
            }
            None => wall(now).saturating_add_signed(self.offset.unwrap_or_default()),
        }
    }

    /// The time of an edit made now.
    pub(crate) fn next(&mut self, now: Moment) -> EditTime {
        self.last = self.read(now).max(self.last.saturating_add(1));
        if self.is_aligned() {
            self.settled = self.last;
        }
        EditTime(self.last)
    }

    /// The server has this version: whatever is edited from now on is later.
    pub(crate) fn observe(&mut self, version: Version) {
        // No version at all is sometimes written as the greatest.
        if version.0 < u64::MAX {
            self.settled = self.settled.max(version.0);
            self.last = self.last.max(version.0);
        }
    }

    /// The server says what time it is. Gives by how much the times are to be moved that were given
    /// while this clock was not aligned.
    pub(crate) fn align(&mut self, server: Timestamp, now: Moment) -> i64 {
        let server = u64::try_from(server.as_micros()).unwrap_or_default();
        let offset = server.wrapping_sub(wall(now)).cast_signed();
        let shift = match self.anchor {
            Some(_) => 0,
            None => offset.saturating_sub(self.offset.unwrap_or_default()),
        };
        self.offset = Some(offset);
        self.anchor = Some(Anchor { server, elapsed: now.elapsed });
        // Where the wall clock was set anew between runs, that can be wrong; later than now it is not.
        self.last = self.last.saturating_add_signed(shift).min(server).max(self.settled);
        self.settled = self.last;
        shift
    }

    /// What the next run is to know.
    pub(crate) fn offset(&self) -> Option<i64> {
        self.offset
    }

    /// What the next run is to know.
    pub(crate) fn settled(&self) -> EditTime {
        EditTime(self.settled)
    }
}

fn wall(now: Moment) -> u64 {
    u64::try_from(now.wall.as_micros()).unwrap_or_default()
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000_000;

    fn at(seconds: u64, wall: i64) -> Moment {
        let wall = Timestamp::from_micros(wall).unwrap();
        Moment { elapsed: Duration::from_secs(seconds), wall, random: 0 }
    }

    fn time(micros: i64) -> Timestamp {
        Timestamp::from_micros(micros).unwrap()
    }

    #[test]
    fn it_follows_the_server_whatever_the_wall_says() {
        let mut clock = EditClock::default();
        clock.align(time(5 * HOUR), at(10, 9 * HOUR));
        assert_eq!(clock.next(at(12, 9 * HOUR)), EditTime(5 * HOUR as u64 + 2_000_000));
        // The wall clock is set back: nothing happens to edits.
        assert_eq!(clock.next(at(13, HOUR)), EditTime(5 * HOUR as u64 + 3_000_000));
        assert_eq!(clock.offset(), Some(-4 * HOUR));
    }

    #[test]
    fn it_never_repeats_and_is_above_every_version_seen() {
        let mut clock = EditClock::default();
        let first = clock.next(at(1, 100));
        let second = clock.next(at(1, 100));
        assert_eq!((first, second), (EditTime(100), EditTime(101)));
        clock.observe(Version(7_000));
        assert_eq!(clock.next(at(1, 100)), EditTime(7_001));
        clock.observe(Version(u64::MAX));
        assert_eq!(clock.next(at(1, 100)), EditTime(7_002));
    }

    #[test]
    fn what_was_given_before_the_first_contact_is_moved() {
        let mut clock = EditClock::default();
        let early = clock.next(at(1, 9 * HOUR));
        let shift = clock.align(time(5 * HOUR), at(2, 9 * HOUR + 1_000_000));
        assert_eq!(shift, -4 * HOUR - 1_000_000);
        let moved = early.0.saturating_add_signed(shift);
        assert!(clock.next(at(2, 0)).0 > moved);
        assert!(clock.next(at(2, 0)).0 < 6 * HOUR as u64, "its future is forgotten");
        assert_eq!(clock.align(time(6 * HOUR), at(3, 0)), 0, "only once");
    }

    #[test]
    fn the_next_run_goes_by_the_wall_and_what_is_known_of_it() {
        let mut clock = EditClock::default();
        clock.align(time(5 * HOUR), at(0, 9 * HOUR));
        let last = clock.next(at(1, 9 * HOUR));
        let mut next = EditClock::restore(clock.offset(), clock.settled(), EditTime(0));
        assert_eq!(next.next(at(0, 10 * HOUR)), EditTime(6 * HOUR as u64));
        let mut behind = EditClock::restore(clock.offset(), clock.settled(), EditTime(0));
        assert_eq!(behind.next(at(0, HOUR)), EditTime(last.0 + 1));
    }
}
