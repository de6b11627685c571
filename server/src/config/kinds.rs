//! The kinds of values that settings have, as text: how each is read, and what to tell someone
//! who wrote it wrong.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// A type that a setting may have.
pub trait SettingValue: Sized {
    /// What a value looks like, for errors and docs.
    const EXPECTED: &'static str;
    /// The value, or none if the text is not one.
    fn read(text: &str) -> Option<Self>;
}

impl SettingValue for SocketAddr {
    const EXPECTED: &'static str = "an address and a port, like `127.0.0.1:7700` or `[::]:7700`";

    fn read(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

impl SettingValue for PathBuf {
    const EXPECTED: &'static str = "a path";

    fn read(text: &str) -> Option<Self> {
        (!text.is_empty()).then(|| PathBuf::from(text))
    }
}

impl SettingValue for String {
    const EXPECTED: &'static str = "a name of 1 to 63 letters, digits, `-` and `_`";

    fn read(text: &str) -> Option<Self> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        ((1..=63).contains(&text.len()) && text.chars().all(allowed)).then(|| text.to_owned())
    }
}

impl SettingValue for u32 {
    const EXPECTED: &'static str = "a whole number from 1 to 4294967295";

    fn read(text: &str) -> Option<Self> {
        text.parse().ok().filter(|number| *number > 0)
    }
}

impl SettingValue for Duration {
    const EXPECTED: &'static str =
        "a whole number with a unit, greater than zero: `500ms`, `15s`, `10m`, `12h`, `7d`";

    fn read(text: &str) -> Option<Self> {
        let (number, unit) = number_and_unit(text)?;
        let duration = match unit {
            "ms" => Duration::from_millis(number),
            "s" => Duration::from_secs(number),
            "m" => Duration::from_secs(number.checked_mul(60)?),
            "h" => Duration::from_secs(number.checked_mul(3_600)?),
            "d" => Duration::from_secs(number.checked_mul(86_400)?),
            _ => return None,
        };
        // Later arithmetic on it (three heartbeats, now + timeout) must not overflow.
        let century = Duration::from_secs(100 * 366 * 86_400);
        (!duration.is_zero() && duration <= century).then_some(duration)
    }
}

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

impl ByteSize {
    /// As a size in memory; on a machine that cannot hold it, the largest that it can.
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl SettingValue for ByteSize {
    const EXPECTED: &'static str = "a whole number of at least 1024 bytes, with or without a unit: `65536`, `64KiB`, `10MiB`, `1GiB`";

    fn read(text: &str) -> Option<Self> {
        let (number, unit) = number_and_unit(text)?;
        let factor = match unit {
            "" | "B" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            "TiB" => 1 << 40,
            _ => return None,
        };
        number.checked_mul(factor).filter(|bytes| *bytes >= 1024).map(ByteSize)
    }
}

/// Which storage engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreUrl {
    /// The embedded one, in the data folder.
    Auto,
    /// This one.
    Url(String),
}

impl SettingValue for StoreUrl {
    const EXPECTED: &'static str = "`auto`, `mem:` or `surrealkv://PATH`";

    fn read(text: &str) -> Option<Self> {
        match text {
            "auto" => Some(StoreUrl::Auto),
            "mem:" => Some(StoreUrl::Url(text.to_owned())),
            other => {
                let path = other.strip_prefix("surrealkv://")?;
                (!path.is_empty()).then(|| StoreUrl::Url(other.to_owned()))
            }
        }
    }
}

/// How logs are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object per line.
    Json,
}

impl SettingValue for LogFormat {
    const EXPECTED: &'static str = "`text` or `json`";

    fn read(text: &str) -> Option<Self> {
        match text {
            "text" => Some(LogFormat::Text),
            "json" => Some(LogFormat::Json),
            _ => None,
        }
    }
}

/// What is logged: the directives of a filter, known to be valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLevel(String);

impl LogLevel {
    /// The directives.
    pub fn directives(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl SettingValue for LogLevel {
    const EXPECTED: &'static str = "`error`, `warn`, `info`, `debug`, `trace` or `off`, \
        and after it `module=level` pairs: `info,tidemark_server::session=debug`";

    fn read(text: &str) -> Option<Self> {
        let level = |text: &str| {
            matches!(text, "error" | "warn" | "info" | "debug" | "trace" | "off").then_some(())
        };
        for (place, directive) in text.split(',').enumerate() {
            match directive.split_once('=') {
                Some((module, of_module)) if place > 0 && !module.is_empty() => level(of_module)?,
                Some(_) => return None,
                None if place == 0 => level(directive)?,
                None => return None,
            }
        }
        Some(LogLevel(text.to_owned()))
    }
}

fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    Some((number.parse().ok()?, unit.trim_start()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(Duration::read("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(Duration::read("2h"), Some(Duration::from_secs(7200)));
        for wrong in
            ["", "15", "0s", "-1s", "1.5s", "s", "1w", "99999999999999999999d", "999999999d"]
        {
            assert_eq!(Duration::read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn sizes() {
        assert_eq!(ByteSize::read("65536"), Some(ByteSize(65_536)));
        assert_eq!(ByteSize::read("1 GiB"), Some(ByteSize(1 << 30)));
        for wrong in ["", "10MB", "1023", "99999999999TiB", "MiB"] {
            assert_eq!(ByteSize::read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn stores_names_and_levels() {
        assert_eq!(StoreUrl::read("mem:"), Some(StoreUrl::Url("mem:".into())));
        assert_eq!(StoreUrl::read("postgres://x"), None);
        assert_eq!(StoreUrl::read("surrealkv://"), None);
        assert_eq!(String::read("a b"), None);
        assert_eq!(String::read("my-project"), Some("my-project".into()));
        assert!(LogLevel::read("info,tidemark_server=debug").is_some());
        for wrong in ["", "loud", "info,debug", "x=info", "info,=debug", "info,a=loud"] {
            assert_eq!(LogLevel::read(wrong), None, "{wrong}");
        }
    }
}
