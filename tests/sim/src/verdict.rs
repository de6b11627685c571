//! What must hold, and what is said when it does not.

use std::fmt;

/// What must hold in every run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Invariant {
    /// No acknowledged write is lost.
    NothingLost,
    /// No write is applied twice.
    AppliedOnce,
    /// Every listener's history is a subsequence of the commit order, with consistent snapshots.
    History,
    /// After healing all clients converge to the server and to each other.
    Convergence,
    /// The server's documents are what the last edit of each field says.
    LastEditWins,
    /// Text equals Automerge's own merge of the same edits.
    Text,
    /// A rejected write leaves no trace in local views.
    RejectedLeavesNoTrace,
    /// A resumed result equals a fresh query.
    ResumedEqualsFresh,
    /// The bytes of a resume are bounded by the difference.
    ResumeBytes,
    /// Memory and cache stay within their limits.
    Limits,
    /// Nothing panics.
    NoPanic,
}

/// What was broken, and how it showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// What should have held.
    pub invariant: Invariant,
    /// What was seen instead.
    pub why: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.invariant, self.why)
    }
}

/// What a run that held came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// A hash of everything that was delivered, and when.
    pub trace: u64,
    /// Commits.
    pub commits: u64,
    /// Writes that were refused.
    pub rejected: u64,
    /// Snapshots compared with the model.
    pub snapshots: u64,
    /// Connections made.
    pub connections: u64,
    /// Crashes of clients and of the server.
    pub crashes: u64,
    /// Resumes whose bytes were measured.
    pub resumes: u64,
    /// Replays after an overflow of the fan-out.
    pub resyncs: u64,
    /// Writes of which a part was superseded by a later edit.
    pub superseded: u64,
}

impl Report {
    /// Adds the counts of another run.
    pub fn add(&mut self, other: &Report) {
        self.trace ^= other.trace;
        self.commits += other.commits;
        self.rejected += other.rejected;
        self.snapshots += other.snapshots;
        self.connections += other.connections;
        self.crashes += other.crashes;
        self.resumes += other.resumes;
        self.resyncs += other.resyncs;
        self.superseded += other.superseded;
    }
}
