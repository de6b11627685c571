//! The storage seam: an ordered key-value store with snapshots and atomic, durable transactions.
//!
//! The engine drives it, through these traits only; [`open`] picks the engine behind a URL. Every
//! implementation passes the suite in [`conformance`]. Nothing of a storage engine's own API may
//! appear here: [`kvs`] is the one file to replace.

mod backward;
pub mod conformance;
mod kvs;
mod wal;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

/// A key: 1 to [`MAX_KEY`] bytes, ordered as unsigned bytes.
pub type Key = Vec<u8>;

/// The longest key in bytes. The bound is what lets [`KeyRange::prefix`] name an end for a prefix
/// of `0xFF` bytes.
pub const MAX_KEY: usize = 16 * 1024;

/// The most that one transaction may write: its keys and values in bytes, and [`PER_WRITE`] for each
/// of them. Who groups commits stays below.
pub const MAX_TRANSACTION: usize = 32 << 20;

/// What a write counts for towards [`MAX_TRANSACTION`] besides its bytes.
pub const PER_WRITE: usize = 512;

/// What the URL given to [`open`] may start with.
pub const SCHEMES: &[&str] = &["mem", "surrealkv"];

/// A key-value store.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// The engine, for logs and metrics.
    fn name(&self) -> &'static str;

    /// A consistent view of everything that was committed before this call.
    async fn snapshot(&self) -> Result<Arc<dyn Snapshot>, StoreError>;

    /// Starts a transaction. Its reads come from a consistent view as of now.
    async fn begin(&self) -> Result<Box<dyn Transaction>, StoreError>;

    /// Refuses new work, syncs and releases the files, so that they can be opened again at once.
    /// Closing twice is fine. Dropping a store without it loses nothing, but keeps the files for an
    /// unknown time.
    async fn close(&self) -> Result<(), StoreError>;
}

/// A read view that later commits do not change.
#[async_trait]
pub trait Snapshot: Send + Sync {
    /// The value of a key.
    async fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError>;

    /// The values of the keys, in their order.
    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Bytes>>, StoreError>;

    /// Up to `limit` pairs of the range, in the direction: backward starts at the last key.
    async fn scan(
        &self,
        range: KeyRange,
        direction: ScanDirection,
        limit: usize,
    ) -> Result<Vec<(Key, Bytes)>, StoreError>;
}

/// A read-write transaction. Writes wait in memory until the commit; dropping it discards them.
#[async_trait]
pub trait Transaction: Send {
    /// The value of a key, own writes included. The commit fails with [`StoreError::Conflict`] if
    /// another transaction wrote the key since this one began.
    async fn get(&mut self, key: &[u8]) -> Result<Option<Bytes>, StoreError>;

    /// Sets a value. A key that is empty or too long fails the commit.
    fn put(&mut self, key: Key, value: Bytes);

    /// Removes a key; fine if it is absent.
    fn delete(&mut self, key: Key);

    /// Applies all writes or none. They are on disk (fsync) when this returns. Two transactions
    /// that write one key conflict as well. A durable store commits one transaction at a time, each
    /// with its fsync, so that what a crash leaves is always a prefix: group above it.
    ///
    /// [`StoreError::Conflict`], [`StoreError::InvalidKey`] and [`StoreError::TooLarge`] promise
    /// that nothing was applied. After any other error, or when the future is dropped halfway, the
    /// outcome is unknown; the store then takes no more commits until it is opened again, because a
    /// later fsync that succeeds proves nothing about pages that an earlier one failed to write.
    async fn commit(self: Box<Self>) -> Result<(), StoreError>;
}

/// Keys from `start` up to but not including `end`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRange {
    /// The first key of the range.
    pub start: Key,
    /// The first key after the range.
    pub end: Key,
}

impl KeyRange {
    /// All keys that start with the prefix, the prefix itself included.
    #[must_use]
    pub fn prefix(prefix: &[u8]) -> Self {
        Self { start: prefix.to_vec(), end: after_prefix(prefix) }
    }

    /// Leaves out a key that was read last, in this direction, and what was read before it.
    pub fn go_past(&mut self, last: &[u8], direction: ScanDirection) {
        match direction {
            ScanDirection::Forward => {
                self.start.clear();
                self.start.extend_from_slice(last);
                // The least key above it.
                self.start.push(0);
            }
            ScanDirection::Backward => {
                self.end.clear();
                self.end.extend_from_slice(last);
            }
        }
    }

    /// Whether no key can be in the range.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.start >= self.end
    }
}

/// The smallest key above all keys that start with the prefix.
fn after_prefix(prefix: &[u8]) -> Key {
    match prefix.iter().rposition(|byte| *byte != 0xFF) {
        Some(last) => {
            let mut end = prefix[..=last].to_vec();
            end[last] += 1;
            end
        }
        None => vec![0xFF; MAX_KEY + 1],
    }
}

/// The order of a scan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScanDirection {
    /// From the start of the range.
    Forward,
    /// From the end of the range.
    Backward,
}

/// Why the store could not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another transaction wrote what this one read or wrote; begin again.
    #[error("another transaction changed the same keys")]
    Conflict,
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
    /// A key is empty or too long.
    #[error("a key has {length} bytes, allowed are 1 to {MAX_KEY}")]
    InvalidKey {
        /// The length of the refused key.
        length: usize,
    },
    /// A transaction is larger than the store takes at once.
    #[error("a transaction of {bytes} bytes is too large, allowed are {MAX_TRANSACTION}")]
    TooLarge {
        /// Its size, as [`MAX_TRANSACTION`] counts.
        bytes: usize,
    },
    /// The URL names no engine of this build.
    #[error("unknown store scheme {scheme:?}, supported are {}", SCHEMES.join(", "))]
    UnknownScheme {
        /// The scheme as given.
        scheme: String,
    },
    /// The URL of a known engine is malformed.
    #[error("invalid store URL {url:?}: {reason}")]
    InvalidUrl {
        /// The URL as given.
        url: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Another process, or another store of this process, has the directory open.
    #[error("the store at {path:?} is in use by another process")]
    Locked {
        /// The directory.
        path: String,
    },
    /// The store cannot serve this now, or until it is opened again.
    #[error("the store is unavailable for {action}: {reason}")]
    Unavailable {
        /// What was attempted.
        action: &'static str,
        /// What the engine said.
        reason: String,
    },
    /// The files do not hold what was written.
    #[error("the store is corrupt, found by {action}: {reason}")]
    Corrupt {
        /// What was attempted.
        action: &'static str,
        /// What the engine said.
        reason: String,
    },
    /// The file system refused.
    #[error("the store failed to {action}: {reason}")]
    Io {
        /// What was attempted.
        action: &'static str,
        /// What the system said.
        reason: String,
    },
}

/// Opens the store behind a URL: `mem:` (gone with the process) or `surrealkv://path` (a directory,
/// created if it is missing; `surrealkv:///abs/path` for an absolute one).
///
/// # Errors
/// [`StoreError::UnknownScheme`], [`StoreError::InvalidUrl`], [`StoreError::Locked`],
/// [`StoreError::Io`] or [`StoreError::Corrupt`].
pub async fn open(url: &str) -> Result<Arc<dyn Store>, StoreError> {
    let scheme = url.split_once(':').map_or(url, |(scheme, _)| scheme);
    match scheme {
        "mem" => Ok(Arc::new(kvs::open_memory(url).await?)),
        "surrealkv" => Ok(Arc::new(kvs::open_directory(url).await?)),
        other => Err(StoreError::UnknownScheme { scheme: other.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_range_holds_exactly_the_keys_with_the_prefix() {
        let range = KeyRange::prefix(b"a\xFF");
        assert_eq!(range, KeyRange { start: b"a\xFF".to_vec(), end: b"b".to_vec() });
        let top = KeyRange::prefix(&[0xFF, 0xFF]);
        assert!(vec![0xFF; MAX_KEY] < top.end);
        assert!(KeyRange::prefix(b"").start < vec![0]);
        assert!(KeyRange { start: b"b".to_vec(), end: b"b".to_vec() }.is_empty());
    }

    #[test]
    fn what_is_past_a_key_follows_it_at_once() {
        let mut range = KeyRange::prefix(b"a");
        range.go_past(b"a1", ScanDirection::Forward);
        range.go_past(b"a5", ScanDirection::Backward);
        assert_eq!(range, KeyRange { start: b"a1\0".to_vec(), end: b"a5".to_vec() });
    }
}
