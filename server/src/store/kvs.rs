//! The store over SurrealDB's key-value crates: memory and SurrealKV.
//!
//! [`super::open`] drives it. It is the only file that names those crates, and it must let neither
//! their types nor their error texts' meaning out: callers see [`StoreError`].
//!
//! SurrealKV runs with `sync=every`: a commit writes its batch to the write-ahead log and then waits
//! for the engine's coordinator thread to fsync it, one fsync for all commits that wait.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt;
use surrealdb_cnf::ConfigMap;
use surrealdb_kvs::{
    Error, Key as KvsKey, KeyRange as KvsRange, Transactable, TransactionBuilder, TransactionType,
};
use surrealdb_kvs_any::Backends;
use tokio_util::sync::CancellationToken;

use super::{Key, KeyRange, MAX_KEY, ScanDirection, Snapshot, Store, StoreError, Transaction};

/// The write buffer. A transaction larger than this is refused. Up to three live at once (one that
/// fills, two that are being written out), so this bounds memory at about three times its size.
const MEMTABLE_BYTES: usize = 64 << 20;
/// Decoded blocks of the files, kept for reads.
const BLOCK_CACHE_BYTES: usize = 256 << 20;
/// As many waiters as the coordinator takes at once: with the threshold for waiting at the same
/// number it never delays an fsync to collect more. The engine above groups commits itself.
const COORDINATOR_BATCH: usize = 4096;
/// Rows that a scan reads before it lets other tasks run.
const SCAN_PAGE: usize = 1024;

/// Opens the store that lives in memory.
pub(super) async fn open_memory(url: &str) -> Result<KvsStore, StoreError> {
    if url != "mem:" && url != "mem" {
        return Err(StoreError::InvalidUrl {
            url: url.to_owned(),
            reason: "mem: takes neither path nor settings",
        });
    }
    KvsStore::connect("mem", "", false).await
}

/// Opens or creates the SurrealKV store in a directory.
pub(super) async fn open_directory(url: &str) -> Result<KvsStore, StoreError> {
    let path = directory_of(url)?;
    // The engine would create it too, but reports a failure as text without its kind.
    std::fs::create_dir_all(path).map_err(|error| StoreError::Io {
        action: "create the directory",
        reason: format!("{path}: {error}"),
    })?;
    KvsStore::connect("surrealkv", path, true).await
}

/// The directory that a `surrealkv:` URL names.
fn directory_of(url: &str) -> Result<&str, StoreError> {
    let invalid = |reason| StoreError::InvalidUrl { url: url.to_owned(), reason };
    let path = url.strip_prefix("surrealkv://").ok_or_else(|| invalid("write surrealkv://path"))?;
    if path.is_empty() {
        return Err(invalid("the path is missing"));
    }
    // The engine reads what follows as settings, among them one that turns fsync off.
    if path.contains('?') {
        return Err(invalid("a path must not contain a question mark"));
    }
    Ok(path)
}

/// The settings of the engine; it ignores unknown names without a word, hence the test below.
fn settings() -> ConfigMap {
    ConfigMap::empty()
        .with_key_value("datastore_sync", "every")
        .with_key_value("datastore_versioned", "false")
        // Values stay in the sorted files: the separate value log is not checksummed when read, and
        // its space comes back only when every value in a log file is dead.
        .with_key_value("surrealkv_enable_vlog", "false")
        .with_key_value("surrealkv_max_memtable_size", MEMTABLE_BYTES.to_string())
        .with_key_value("surrealkv_block_cache_capacity", BLOCK_CACHE_BYTES.to_string())
        .with_key_value("surrealkv_grouped_commit_wait_threshold", COORDINATOR_BATCH.to_string())
        .with_key_value("surrealkv_grouped_commit_max_batch_size", COORDINATOR_BATCH.to_string())
}

/// What the store and its transactions share.
struct Shared {
    builder: Box<dyn TransactionBuilder>,
    /// Set by `close`, never cleared.
    closed: AtomicBool,
    /// Set by a commit whose outcome is unknown, never cleared.
    broken: AtomicBool,
}

impl Shared {
    async fn start(&self, kind: TransactionType, action: &'static str) -> Result<Open, StoreError> {
        if self.closed.load(Ordering::Acquire) {
            return Err(StoreError::Closed);
        }
        let (inner, _) =
            self.builder.new_transaction(kind).await.map_err(|error| classify(action, error))?;
        Ok(Open(inner))
    }

    fn check_usable(&self) -> Result<(), StoreError> {
        if self.closed.load(Ordering::Acquire) {
            return Err(StoreError::Closed);
        }
        if self.broken.load(Ordering::Acquire) {
            return Err(StoreError::Unavailable {
                action: "commit",
                reason: "an earlier commit failed with unknown outcome, open the store again"
                    .to_owned(),
            });
        }
        Ok(())
    }
}

/// A store of SurrealDB's key-value crates.
pub(super) struct KvsStore {
    shared: Arc<Shared>,
    /// Whether it holds files, and with them a lock.
    durable: bool,
}

impl KvsStore {
    async fn connect(scheme: &str, path: &str, durable: bool) -> Result<Self, StoreError> {
        let builder = Backends::community()
            .new_transaction_builder(
                &format!("{scheme}://{path}"),
                CancellationToken::new(),
                settings(),
            )
            .await
            .map_err(|error| match classify("open", error) {
                StoreError::Unavailable { reason, .. } if reason.contains("already locked") => {
                    StoreError::Locked { path: path.to_owned() }
                }
                other => other,
            })?;
        let shared =
            Shared { builder, closed: AtomicBool::new(false), broken: AtomicBool::new(false) };
        Ok(Self { shared: Arc::new(shared), durable })
    }
}

#[async_trait]
impl Store for KvsStore {
    fn name(&self) -> &'static str {
        self.shared.builder.name()
    }

    async fn snapshot(&self) -> Result<Arc<dyn Snapshot>, StoreError> {
        let open = self.shared.start(TransactionType::Read, "a snapshot").await?;
        Ok(Arc::new(KvsSnapshot { open }))
    }

    async fn begin(&self) -> Result<Box<dyn Transaction>, StoreError> {
        self.shared.check_usable()?;
        let open = self.shared.start(TransactionType::Write, "a transaction").await?;
        let shared = Arc::clone(&self.shared);
        Ok(Box::new(KvsTransaction { open, shared, writes: BTreeMap::new() }))
    }

    async fn close(&self) -> Result<(), StoreError> {
        if self.shared.closed.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        self.shared.builder.shutdown().await.map_err(|error| classify("close", error))
    }
}

impl Drop for KvsStore {
    fn drop(&mut self) {
        if self.durable && !self.shared.closed.load(Ordering::Acquire) {
            tracing::warn!("the store was dropped without being closed and stays locked");
        }
    }
}

/// A transaction of the engine that is cancelled unless it was committed.
struct Open(Box<dyn Transactable>);

impl Drop for Open {
    fn drop(&mut self) {
        if !self.0.closed() {
            // Cancelling waits for nothing but a lock that nobody else can hold here.
            let _ = self.0.cancel().now_or_never();
        }
    }
}

struct KvsSnapshot {
    open: Open,
}

#[async_trait]
impl Snapshot for KvsSnapshot {
    async fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        check_key(key)?;
        let value = self.open.0.get(KvsKey::from(key), None).await;
        Ok(value.map_err(|error| classify("get", error))?.map(Bytes::from))
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Bytes>>, StoreError> {
        for key in keys {
            check_key(key)?;
        }
        let keys: Vec<_> = keys.iter().map(|key| KvsKey::from(key.as_slice())).collect();
        let found =
            self.open.0.getm(&keys, None).await.map_err(|error| classify("get_many", error))?;
        Ok(found.values.into_iter().map(|value| value.map(Bytes::from)).collect())
    }

    async fn scan(
        &self,
        range: KeyRange,
        direction: ScanDirection,
        limit: usize,
    ) -> Result<Vec<(Key, Bytes)>, StoreError> {
        let mut rest = range;
        let mut rows = Vec::new();
        while !rest.is_empty() && rows.len() < limit {
            let page = SCAN_PAGE.min(limit - rows.len());
            let values = self.page(&rest, direction, page).await?;
            let last = values.len() < page;
            rows.extend(values.into_iter().map(|(key, value)| (key, Bytes::from(value))));
            let Some((key, _)) = rows.last().filter(|_| !last && rows.len() < limit) else { break };
            match direction {
                ScanDirection::Forward => {
                    rest.start.clone_from(key);
                    rest.start.push(0);
                }
                ScanDirection::Backward => rest.end.clone_from(key),
            }
            tokio::task::yield_now().await;
        }
        Ok(rows)
    }
}

impl KvsSnapshot {
    async fn page(
        &self,
        range: &KeyRange,
        direction: ScanDirection,
        limit: usize,
    ) -> Result<Vec<(Vec<u8>, Vec<u8>)>, StoreError> {
        let range = KvsRange {
            start: KvsKey::from(range.start.as_slice()),
            end: KvsKey::from(range.end.as_slice()),
        };
        let limit = u32::try_from(limit).expect("a page is small");
        let page = match direction {
            ScanDirection::Forward => self.open.0.scan(range, limit, 0, None).await,
            ScanDirection::Backward => self.open.0.scanr(range, limit, 0, None).await,
        };
        Ok(page.map_err(|error| classify("scan", error))?.values)
    }
}

struct KvsTransaction {
    open: Open,
    shared: Arc<Shared>,
    /// Own writes; `None` deletes. They reach the engine at the commit.
    writes: BTreeMap<Key, Option<Bytes>>,
}

#[async_trait]
impl Transaction for KvsTransaction {
    async fn get(&mut self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        if let Some(own) = self.writes.get(key) {
            return Ok(own.clone());
        }
        check_key(key)?;
        // The locked read is what makes the commit notice a concurrent write of this key.
        let value = self.open.0.getu(KvsKey::from(key)).await;
        Ok(value.map_err(|error| classify("get", error))?.map(Bytes::from))
    }

    fn put(&mut self, key: Key, value: Bytes) {
        self.writes.insert(key, Some(value));
    }

    fn delete(&mut self, key: Key) {
        self.writes.insert(key, None);
    }

    async fn commit(mut self: Box<Self>) -> Result<(), StoreError> {
        self.shared.check_usable()?;
        let mut bytes = 0;
        for (key, value) in std::mem::take(&mut self.writes) {
            check_key(&key)?;
            bytes += key.len() + value.as_ref().map_or(0, Bytes::len);
            let key = KvsKey::from(key);
            let applied = match value {
                Some(value) => self.open.0.set(key, Vec::from(value)).await,
                None => self.open.0.del(key).await,
            };
            applied.map_err(|error| classify("put", error))?;
        }
        let outcome = self.open.0.commit().await.map_err(|error| commit_error(bytes, error));
        if let Err(error) = &outcome
            && leaves_outcome_unknown(error)
        {
            self.shared.broken.store(true, Ordering::Release);
        }
        outcome
    }
}

/// Whether a failed commit may have been applied.
fn leaves_outcome_unknown(error: &StoreError) -> bool {
    match error {
        StoreError::Conflict
        | StoreError::Closed
        | StoreError::InvalidKey { .. }
        | StoreError::TooLarge { .. }
        | StoreError::UnknownScheme { .. }
        | StoreError::InvalidUrl { .. }
        | StoreError::Locked { .. } => false,
        StoreError::Unavailable { .. } | StoreError::Corrupt { .. } | StoreError::Io { .. } => true,
    }
}

fn check_key(key: &[u8]) -> Result<(), StoreError> {
    if key.is_empty() || key.len() > MAX_KEY {
        return Err(StoreError::InvalidKey { length: key.len() });
    }
    Ok(())
}

/// [`classify`] for a commit, where the engine also refuses batches that do not fit its buffer.
fn commit_error(bytes: usize, error: Error) -> StoreError {
    match classify("commit", error) {
        StoreError::Unavailable { reason, .. }
            if ["Batch too large", "Memtable arena is full"].iter().any(|t| reason.contains(t)) =>
        {
            StoreError::TooLarge { bytes, reason }
        }
        other => other,
    }
}

/// Our error for one of the engine. It keeps most of its causes as text only, so the text decides
/// between damage, the file system and the rest.
fn classify(action: &'static str, error: Error) -> StoreError {
    let reason = match error {
        Error::TransactionConflict(_) => return StoreError::Conflict,
        Error::Shutdown => return StoreError::Closed,
        Error::TransactionTooLarge => "Batch too large".to_owned(),
        Error::Transaction(reason) | Error::Datastore(reason) => reason,
        other => other.to_string(),
    };
    // The engine keeps the history it needs to check conflicts only for so long.
    if reason.starts_with("Transaction retry required") {
        return StoreError::Conflict;
    }
    if reason.contains("IO error") {
        return StoreError::Io { action, reason };
    }
    if ["orrupt", "SSTable error", "manifest", "checksum"].iter().any(|t| reason.contains(t)) {
        return StoreError::Corrupt { action, reason };
    }
    StoreError::Unavailable { action, reason }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use surrealdb_kvs::config::SyncMode;
    use surrealdb_kvs_any::surrealkv::SurrealKvConfig;

    use super::*;

    #[test]
    fn the_settings_arrive_at_the_engine() {
        let config: SurrealKvConfig = settings().load();
        assert_eq!(config.sync_mode, SyncMode::Every);
        assert!(!config.versioned);
        assert!(!config.enable_vlog);
        assert_eq!(config.retention, Duration::ZERO);
        assert_eq!(config.max_memtable_size, MEMTABLE_BYTES);
        assert_eq!(config.block_cache_capacity, BLOCK_CACHE_BYTES as u64);
        assert_eq!(config.grouped_commit_wait_threshold, config.grouped_commit_max_batch_size);
    }

    #[test]
    fn a_url_must_name_a_plain_directory() {
        assert_eq!(directory_of("surrealkv:///a/b").expect("absolute"), "/a/b");
        assert_eq!(directory_of("surrealkv://a/b").expect("relative"), "a/b");
        for url in ["surrealkv:", "surrealkv://", "surrealkv:a", "surrealkv://a?sync=never"] {
            assert!(matches!(directory_of(url), Err(StoreError::InvalidUrl { .. })), "{url}");
        }
    }

    #[test]
    fn engine_errors_become_ours() {
        let text = |text: &str| classify("get", Error::Transaction(text.to_owned()));
        assert!(matches!(text("IO error: disk full"), StoreError::Io { .. }));
        assert!(matches!(text("Data corruption detected: x"), StoreError::Corrupt { .. }));
        assert!(matches!(text("Transaction retry required: old"), StoreError::Conflict));
        assert!(matches!(text("Write stall: x"), StoreError::Unavailable { .. }));
        let large = commit_error(7, Error::Transaction("Batch too large".to_owned()));
        assert!(matches!(large, StoreError::TooLarge { bytes: 7, .. }));
    }
}
