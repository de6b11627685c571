//! Moments, and their RFC 3339 text. Pure: it never asks a clock.

use std::fmt;
use std::str::FromStr;

use super::error::{ModelError, excerpt};
use super::ids::Version;

/// A moment, in microseconds since the Unix epoch; years 1 to 9999.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

const MICROS: i64 = 1_000_000;
const SECONDS_PER_DAY: i64 = 86_400;

impl Timestamp {
    /// 0001-01-01T00:00:00Z.
    pub const MIN: Timestamp = Timestamp(-62_135_596_800 * MICROS);
    /// 9999-12-31T23:59:59.999999Z.
    pub const MAX: Timestamp = Timestamp(253_402_300_800 * MICROS - 1);

    /// From microseconds since the epoch, if the year is in 1 to 9999.
    pub fn from_micros(micros: i64) -> Result<Timestamp, ModelError> {
        let timestamp = Timestamp(micros);
        if timestamp < Timestamp::MIN || timestamp > Timestamp::MAX {
            return Err(ModelError::invalid(format!(
                "the timestamp of {micros} microseconds is outside the years 1 to 9999"
            )));
        }
        Ok(timestamp)
    }

    /// From seconds since the epoch and nanoseconds after them, truncated to microseconds.
    pub fn from_seconds_nanos(seconds: i64, nanos: u32) -> Result<Timestamp, ModelError> {
        if nanos >= 1_000_000_000 {
            return Err(ModelError::invalid(format!(
                "a timestamp has less than 1000000000 nanoseconds, not {nanos}"
            )));
        }
        let micros =
            seconds.checked_mul(MICROS).and_then(|s| s.checked_add(i64::from(nanos / 1000)));
        micros.map_or_else(
            || {
                Err(ModelError::invalid(format!(
                    "the timestamp of {seconds} seconds is outside the years 1 to 9999"
                )))
            },
            Timestamp::from_micros,
        )
    }

    /// Microseconds since the epoch.
    pub fn as_micros(self) -> i64 {
        self.0
    }

    /// Whole seconds since the epoch, rounded down.
    pub fn seconds(self) -> i64 {
        self.0.div_euclid(MICROS)
    }

    /// Nanoseconds after [`Timestamp::seconds`].
    pub fn subsec_nanos(self) -> u32 {
        u32::try_from(self.0.rem_euclid(MICROS) * 1000).expect("less than a second fits")
    }

    /// Parses RFC 3339: `2024-02-29T12:30:00.123456Z`, or with an offset such as `+01:00`.
    pub fn parse(text: &str) -> Result<Timestamp, ModelError> {
        parse(text).ok_or_else(|| {
            ModelError::invalid(format!(
                "{} is no RFC 3339 timestamp such as 2024-02-29T12:30:00Z",
                excerpt(text)
            ))
        })
    }
}

/// The time of a commit.
impl From<Version> for Timestamp {
    fn from(version: Version) -> Timestamp {
        i64::try_from(version.0)
            .map_or(Timestamp::MAX, |micros| Timestamp(micros).min(Timestamp::MAX))
    }
}

impl FromStr for Timestamp {
    type Err = ModelError;

    fn from_str(text: &str) -> Result<Timestamp, ModelError> {
        Timestamp::parse(text)
    }
}

/// RFC 3339 in UTC, with as many decimals (0, 3 or 6) as it takes.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.seconds();
        let (year, month, day) = civil_from_days(seconds.div_euclid(SECONDS_PER_DAY));
        let second = seconds.rem_euclid(SECONDS_PER_DAY);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")?;
        let micros = self.0.rem_euclid(MICROS);
        if micros == 0 {
            f.write_str("Z")
        } else if micros % 1000 == 0 {
            write!(f, ".{:03}Z", micros / 1000)
        } else {
            write!(f, ".{micros:06}Z")
        }
    }
}

fn parse(text: &str) -> Option<Timestamp> {
    let bytes = text.as_bytes();
    let number = |from: usize, to: usize| digits(bytes.get(from..to)?);
    let literal =
        |at: usize, allowed: &[u8]| bytes.get(at).filter(|b| allowed.contains(b)).map(drop);
    literal(4, b"-")?;
    literal(7, b"-")?;
    literal(10, b"Tt ")?;
    literal(13, b":")?;
    literal(16, b":")?;
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let in_range = (1..=12).contains(&month)
        && (1..=days_in_month(year, month)).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60;
    if !in_range {
        return None;
    }
    let (micros, zone) = fraction(&bytes[19..])?;
    let seconds =
        days_from_civil(year, month, day) * SECONDS_PER_DAY + hour * 3600 + minute * 60 + second
            - offset(zone)?;
    Timestamp::from_micros(seconds * MICROS + micros).ok()
}

fn digits(bytes: &[u8]) -> Option<i64> {
    bytes.iter().try_fold(0_i64, |sum, byte| {
        let digit = byte.is_ascii_digit().then(|| i64::from(byte - b'0'))?;
        sum.checked_mul(10)?.checked_add(digit)
    })
}

/// The microseconds of `.123456789`, truncated, and what follows.
fn fraction(bytes: &[u8]) -> Option<(i64, &[u8])> {
    let Some(rest) = bytes.strip_prefix(b".") else { return Some((0, bytes)) };
    let length = rest.iter().take_while(|b| b.is_ascii_digit()).count();
    if length == 0 {
        return None;
    }
    let kept = length.min(6);
    let scale = (kept..6).fold(1, |scale, _| scale * 10);
    Some((digits(&rest[..kept])? * scale, &rest[length..]))
}

/// The seconds east of UTC of `Z` or `+01:00`.
fn offset(zone: &[u8]) -> Option<i64> {
    match zone {
        b"Z" | b"z" => Some(0),
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let (hours, minutes) = (digits(&[*h1, *h2])?, digits(&[*m1, *m2])?);
            let seconds = hours * 3600 + minutes * 60;
            (hours < 24 && minutes < 60).then_some(if *sign == b'-' { -seconds } else { seconds })
        }
        _ => None,
    }
}

fn days_in_month(year: i64, month: i64) -> i64 {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since the epoch of a proleptic Gregorian date (Howard Hinnant's algorithm).
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// The inverse of [`days_from_civil`].
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn text_of_known_moments() {
        for (micros, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (-1, "1969-12-31T23:59:59.999999Z"),
            (1_709_209_800_123_000, "2024-02-29T12:30:00.123Z"),
            (951_782_400_000_000, "2000-02-29T00:00:00Z"),
            (Timestamp::MIN.0, "0001-01-01T00:00:00Z"),
            (Timestamp::MAX.0, "9999-12-31T23:59:59.999999Z"),
        ] {
            let timestamp = Timestamp::from_micros(micros).unwrap();
            assert_eq!(timestamp.to_string(), text);
            assert_eq!(text.parse::<Timestamp>().unwrap(), timestamp);
        }
    }

    #[test]
    fn offsets_and_long_fractions_are_understood() {
        let utc = Timestamp::parse("2024-01-01T00:30:00.1234567Z").unwrap();
        assert_eq!(utc.as_micros() % 1_000_000, 123_456);
        assert_eq!(Timestamp::parse("2024-01-01T02:00:00.123456+01:30").unwrap(), utc);
        assert_eq!(Timestamp::parse("2023-12-31t23:00:00.123456-01:30").unwrap(), utc);
    }

    #[test]
    fn what_is_no_timestamp_is_refused() {
        for text in [
            "",
            "2024",
            "2023-02-29T00:00:00Z",
            "2024-13-01T00:00:00Z",
            "2024-00-01T00:00:00Z",
            "2024-01-01T24:00:00Z",
            "2024-01-01T00:60:00Z",
            "2024-01-01T00:00:60Z",
            "2024-01-01T00:00:00",
            "2024-01-01T00:00:00.Z",
            "2024-01-01T00:00:00+0100",
            "2024-01-01T00:00:00+24:00",
            "0000-12-31T23:59:59Z",
            "9999-12-31T23:59:59-00:01",
            "２024-01-01T00:00:00Z",
            "+024-01-01T00:00:00Z",
        ] {
            assert!(Timestamp::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_range_is_years_1_to_9999() {
        assert!(Timestamp::from_micros(Timestamp::MIN.0 - 1).is_err());
        assert!(Timestamp::from_micros(Timestamp::MAX.0 + 1).is_err());
        assert!(Timestamp::from_micros(i64::MAX).is_err());
        assert!(Timestamp::from_seconds_nanos(i64::MAX, 0).is_err());
        assert!(Timestamp::from_seconds_nanos(0, 1_000_000_000).is_err());
        assert_eq!(Timestamp::from_seconds_nanos(-1, 999_999_999).unwrap().as_micros(), -1);
        assert_eq!(Timestamp::from(Version(u64::MAX)), Timestamp::MAX);
        assert_eq!(Timestamp::from(Version(7)).as_micros(), 7);
    }

    proptest! {
        #[test]
        fn text_goes_round(micros in Timestamp::MIN.0..=Timestamp::MAX.0) {
            let timestamp = Timestamp::from_micros(micros).unwrap();
            prop_assert_eq!(Timestamp::parse(&timestamp.to_string()).unwrap(), timestamp);
            let parts = Timestamp::from_seconds_nanos(timestamp.seconds(), timestamp.subsec_nanos());
            prop_assert_eq!(parts.unwrap(), timestamp);
        }

        #[test]
        fn any_text_is_answered(text in "[0-9TZtz:+. -]{0,40}|.{0,30}") {
            let _ = Timestamp::parse(&text);
        }
    }
}
