//! Counters of the engine, read by the metrics endpoint and by tests.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that tasks change and others read.
#[derive(Debug, Default)]
pub struct Metric(AtomicU64);

impl Metric {
    /// The value now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn add(&self, by: u64) {
        self.0.fetch_add(by, Ordering::Relaxed);
    }

    pub(super) fn set(&self, to: u64) {
        self.0.store(to, Ordering::Relaxed);
    }
}

/// The counters and gauges of one database.
#[derive(Debug, Default)]
pub struct EngineMetrics {
    /// Commits that took effect.
    pub commits: Metric,
    /// Commits that were refused.
    pub commits_rejected: Metric,
    /// Commits that had taken effect before and were sent again.
    pub commits_repeated: Metric,
    /// Storage transactions; commits ÷ batches is the size of a group.
    pub batches: Metric,
    /// Bytes in the change log (gauge).
    pub log_bytes: Metric,
    /// Index entries that commits added or removed.
    pub index_entries: Metric,
    /// Index entries that work in the background added or removed.
    pub index_build_entries: Metric,
    /// Documents that were read to build indexes.
    pub index_build_documents: Metric,
    /// Indexes that are being built or removed (gauge).
    pub index_builds: Metric,
    /// Groups of identical targets (gauge).
    pub groups: Metric,
    /// Targets listening (gauge).
    pub targets: Metric,
    /// Groups that commits were held against: those that could be concerned.
    pub candidates: Metric,
    /// Groups that commits changed.
    pub matched: Metric,
    /// Changes handed to connections.
    pub deltas: Metric,
    /// Times a connection's waiting changes were merged per document.
    pub coalesced: Metric,
    /// Times a connection fell back to its resume token.
    pub resyncs: Metric,
    /// Listens continued from a token.
    pub resumed: Metric,
    /// Listens whose token could not be used.
    pub resets: Metric,
    /// Listens whose client compares digests because its token could not be used.
    pub stale: Metric,
    /// Limit windows filled again from the store.
    pub refills: Metric,
    /// Documents sent as first snapshots.
    pub snapshot_documents: Metric,
    /// One-shot reads.
    pub reads: Metric,
}
