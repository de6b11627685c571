//! The command line's only clock: the wall clock for stamps, a monotonic one for rates. Nothing
//! else in this crate asks the machine for the time.
#![allow(clippy::disallowed_methods)]

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Now, for measuring spans.
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Milliseconds since the Unix epoch.
pub(crate) fn unix_millis() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
