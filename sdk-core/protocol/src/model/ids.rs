//! Identifiers and versions as types of their own.

use std::fmt;

/// A commit version: microseconds since the Unix epoch, strictly increasing within a database.
/// It is also the update time of every document the commit wrote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u64);

impl Version {
    /// The version of what does not exist.
    pub const NONE: Version = Version(0);
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// When an edit was made: microseconds since the Unix epoch by a clock that follows the server's and
/// is strictly increasing for a client. Of two edits of one field, the later one holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EditTime(pub u64);

impl EditTime {
    /// Before all edits.
    pub const NONE: EditTime = EditTime(0);
    /// After all edits: what is written now, wherever it is looked at.
    pub const NOW: EditTime = EditTime(u64::MAX);
}

impl From<Version> for EditTime {
    /// The commit's own time.
    fn from(version: Version) -> EditTime {
        EditTime(version.0)
    }
}

impl fmt::Display for EditTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Names a client's outbox for as long as it lives; together with a [`WriteId`] it makes a write
/// take effect once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId(pub [u8; 16]);

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Numbers the commits of one client, strictly increasing from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WriteId(pub u64);

impl fmt::Display for WriteId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Names a target on one connection; chosen by the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TargetId(pub u32);

impl fmt::Display for TargetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Names one life of a database: a wiped or restored database has another, and resume tokens of
/// the former one no longer hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Incarnation(pub u64);

/// Where a listen continues: everything up to `version` has been received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResumeToken {
    /// The life of the database that `version` belongs to.
    pub incarnation: Incarnation,
    /// The last consistent point received.
    pub version: Version,
}
