//! What can be set for a database.

use std::time::Duration;

/// Sizes and times of one database.
#[derive(Clone, Debug)]
pub struct DatabaseOptions {
    /// How long commits stay in the change log; a listen can be resumed that long.
    pub log_retention: Duration,
    /// How large the change log may be; the oldest commits go first.
    pub log_bytes: u64,
    /// How long it is remembered when a document was deleted; a write made before and arriving later
    /// does not bring it back.
    pub tombstone_retention: Duration,
    /// Changes that may wait for one connection before they are coalesced, then dropped to its
    /// resume token.
    pub outbox_bytes: usize,
    /// Commits that share one storage transaction at most.
    pub group_commit_max: usize,
    /// Commits that may wait for the lane; connections wait beyond it.
    pub lane_queue: usize,
    /// One-shot reads that one connection may have under way.
    pub reads_in_flight: usize,
    /// Changes that a resumed listen may replay; beyond it the whole result is sent again.
    pub replay_bytes: usize,
    /// How often an idle listening connection is told that the version has moved.
    pub heartbeat: Duration,
    /// How many bytes the history of a document's collaborative fields may have before one without a
    /// past takes its place, if that is much smaller.
    pub collaborative_bytes: usize,
    /// Documents that a build of an index reads between two batches of commits.
    pub index_chunk: usize,
}

impl Default for DatabaseOptions {
    fn default() -> Self {
        DatabaseOptions {
            log_retention: Duration::from_secs(7 * 24 * 60 * 60),
            log_bytes: 4 << 30,
            tombstone_retention: Duration::from_secs(30 * 24 * 60 * 60),
            outbox_bytes: 1 << 20,
            group_commit_max: 1_024,
            lane_queue: 4_096,
            reads_in_flight: 100,
            replay_bytes: 64 << 20,
            heartbeat: Duration::from_secs(15),
            collaborative_bytes: 1 << 20,
            index_chunk: 256,
        }
    }
}
