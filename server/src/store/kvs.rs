//! The store over SurrealDB's key-value crates: memory and SurrealKV.
//!
//! [`super::open`] drives it. It is the only file that names those crates, and it must let neither
//! their types nor their error texts' meaning out: callers see [`StoreError`].
//!
//! SurrealKV runs with `sync=every`: a commit appends its batch to the write-ahead log, puts it into
//! the write buffer and then waits for the engine's coordinator thread to fsync the log.
//!
//! Two defects of SurrealKV 0.21.4 would break that promise; both concern crashes, and
//! `server/tests/store_crash.rs` fails without what is done about them here:
//!
//! - A batch that finds the write buffer full has already been appended to the old log file. The
//!   engine then begins a new file and a new buffer, puts the batch there, writes the old buffer out
//!   and removes the old file. Until the new buffer is written out too, the batch is in no file. So
//!   [`Shared::commit`] looks whether a log file was begun, and if so commits the same writes once
//!   more, which puts them into the new file, before it acknowledges. Durable commits go one at a
//!   time for this: nothing can come in between.
//! - After a crash the engine goes on appending to the log file it recovered from: behind a torn
//!   record, where the next recovery stops; or, after it repaired the file, to the copy it had just
//!   replaced; or, when the file holds more than one buffer, to a file it has marked as done. So
//!   [`open_directory`] first opens a store that was not closed in order to close it, which moves
//!   everything into sorted files, and only then opens it for use, with a new log file.

use std::collections::BTreeMap;
use std::path::Path;
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
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::backward::{Forward, Row, last_rows};
use super::wal::LogFiles;
use super::{
    Key, KeyRange, MAX_KEY, MAX_TRANSACTION, PER_WRITE, ScanDirection, Snapshot, Store, StoreError,
    Transaction,
};

/// The write buffer. Up to three live at once (one that fills, two that are being written out), so
/// this bounds memory at about three times its size. A transaction and its repetition fit an empty
/// one twice over; one that does not fit makes the engine fail each recovery from then on.
const MEMTABLE_BYTES: usize = 4 * MAX_TRANSACTION;
/// The write buffer during recovery. It holds all that one log file can: a full buffer and the batch
/// that did not fit any more. The engine loses data if it has to divide a file between buffers.
const RECOVERY_MEMTABLE_BYTES: usize = 2 * MEMTABLE_BYTES;
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
    KvsStore::connect("mem", "", None, MEMTABLE_BYTES).await
}

/// Opens or creates the SurrealKV store in a directory.
pub(super) async fn open_directory(url: &str) -> Result<KvsStore, StoreError> {
    let path = directory_of(url)?;
    // The engine would create it too, but reports a failure as text without its kind.
    std::fs::create_dir_all(path).map_err(|error| StoreError::Io {
        action: "create the directory",
        reason: format!("{path}: {error}"),
    })?;
    let log = LogFiles::of_store(Path::new(path));
    if log.hold_data().map_err(|error| log_error("open", &error))? {
        recover(path).await?;
        if log.hold_data().map_err(|error| log_error("recover", &error))? {
            let reason = "the log could not be written out, is the disk full?".to_owned();
            return Err(StoreError::Unavailable { action: "recover", reason });
        }
    }
    let store = KvsStore::connect("surrealkv", path, Some(log), MEMTABLE_BYTES).await?;
    if let Some(log) = &store.shared.log {
        log.lock().await.look().map_err(|error| log_error("open", &error))?;
    }
    Ok(store)
}

/// Moves what a crash left in the log into sorted files.
async fn recover(path: &str) -> Result<(), StoreError> {
    let store = KvsStore::connect("surrealkv", path, None, RECOVERY_MEMTABLE_BYTES).await?;
    // The engine keeps a log of which it could read nothing, unless there is something to write out.
    // No caller can own a key of this length.
    let nothing = BTreeMap::from([(vec![0xFF; MAX_KEY + 1], None)]);
    let open = store.shared.start(TransactionType::Write, "recover").await?;
    commit_once(&open, &nothing).await?;
    drop(open);
    tracing::info!("the store was not closed, recovered it from its log");
    store.close().await
}

fn log_error(action: &'static str, error: &std::io::Error) -> StoreError {
    StoreError::Io { action, reason: format!("log files: {error}") }
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
fn settings(memtable_bytes: usize) -> ConfigMap {
    ConfigMap::empty()
        .with_key_value("datastore_sync", "every")
        .with_key_value("datastore_versioned", "false")
        // Values stay in the sorted files: the separate value log is not checksummed when read, and
        // its space comes back only when every value in a log file is dead.
        .with_key_value("surrealkv_enable_vlog", "false")
        .with_key_value("surrealkv_max_memtable_size", memtable_bytes.to_string())
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
    /// The engine's log, if it has one that this store must watch. Held for the whole of a commit.
    log: Option<Mutex<LogFiles>>,
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
                reason: "the outcome of an earlier commit is unknown, open the store again"
                    .to_owned(),
            });
        }
        Ok(())
    }

    /// Commits the writes in `open`, and once more in a transaction of their own if the engine began
    /// a new log file meanwhile.
    async fn commit(&self, open: &Open, writes: &Writes) -> Result<(), StoreError> {
        let mut log = match &self.log {
            Some(log) => Some(log.lock().await),
            None => None,
        };
        self.check_usable()?;
        let mut outcome = Outcome { broken: &self.broken, known: false };
        let first = commit_once(open, writes).await;
        if first.is_ok()
            && let Some(log) = &mut log
        {
            while log.advanced().map_err(|error| log_error("commit", &error))? {
                let again = self.start(TransactionType::Write, "commit").await?;
                commit_once(&again, writes).await?;
            }
        }
        outcome.known = first.as_ref().err().is_none_or(leaves_nothing);
        first
    }
}

/// Own writes of a transaction; `None` deletes.
type Writes = BTreeMap<Key, Option<Bytes>>;

/// Breaks the store when a commit ends, or is dropped, with an unknown outcome.
struct Outcome<'a> {
    broken: &'a AtomicBool,
    known: bool,
}

impl Drop for Outcome<'_> {
    fn drop(&mut self) {
        if !self.known {
            self.broken.store(true, Ordering::Release);
        }
    }
}

async fn commit_once(open: &Open, writes: &Writes) -> Result<(), StoreError> {
    for (key, value) in writes {
        let key = KvsKey::from(key.as_slice());
        let applied = match value {
            Some(value) => open.0.set(key, value.to_vec()).await,
            None => open.0.del(key).await,
        };
        applied.map_err(|error| classify("put", error))?;
    }
    open.0.commit().await.map_err(|error| classify("commit", error))
}

/// A store of SurrealDB's key-value crates.
pub(super) struct KvsStore {
    shared: Arc<Shared>,
}

impl KvsStore {
    async fn connect(
        scheme: &str,
        path: &str,
        log: Option<LogFiles>,
        memtable_bytes: usize,
    ) -> Result<Self, StoreError> {
        let builder = Backends::community()
            .new_transaction_builder(
                &format!("{scheme}://{path}"),
                CancellationToken::new(),
                settings(memtable_bytes),
            )
            .await
            .map_err(|error| match classify("open", error) {
                StoreError::Unavailable { reason, .. } if reason.contains("already locked") => {
                    StoreError::Locked { path: path.to_owned() }
                }
                other => other,
            })?;
        let shared = Shared {
            builder,
            closed: AtomicBool::new(false),
            broken: AtomicBool::new(false),
            log: log.map(Mutex::new),
        };
        Ok(Self { shared: Arc::new(shared) })
    }
}

#[async_trait]
impl Store for KvsStore {
    fn name(&self) -> &'static str {
        self.shared.builder.name()
    }

    async fn snapshot(&self) -> Result<Arc<dyn Snapshot>, StoreError> {
        let open = self.shared.start(TransactionType::Read, "a snapshot").await?;
        Ok(Arc::new(KvsSnapshot { open, walks_back: self.shared.log.is_some() }))
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
    /// Backward scans are slow to begin: see [`last_rows`].
    walks_back: bool,
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
            rest.go_past(key, direction);
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
    ) -> Result<Vec<Row>, StoreError> {
        if direction == ScanDirection::Backward && self.walks_back {
            return last_rows(self, range.clone(), limit).await;
        }
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

#[async_trait]
impl Forward for KvsSnapshot {
    async fn first_rows(&self, range: KeyRange, limit: usize) -> Result<Vec<Row>, StoreError> {
        if range.is_empty() {
            return Ok(vec![]);
        }
        self.page(&range, ScanDirection::Forward, limit).await
    }
}

struct KvsTransaction {
    open: Open,
    shared: Arc<Shared>,
    /// They reach the engine at the commit.
    writes: Writes,
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

    async fn commit(self: Box<Self>) -> Result<(), StoreError> {
        let mut bytes = 0;
        for (key, value) in &self.writes {
            check_key(key)?;
            bytes += PER_WRITE + key.len() + value.as_ref().map_or(0, Bytes::len);
        }
        if bytes > MAX_TRANSACTION {
            return Err(StoreError::TooLarge { bytes });
        }
        self.shared.commit(&self.open, &self.writes).await
    }
}

/// Whether a commit that failed this way was not applied.
fn leaves_nothing(error: &StoreError) -> bool {
    match error {
        StoreError::Conflict
        | StoreError::Closed
        | StoreError::InvalidKey { .. }
        | StoreError::TooLarge { .. }
        | StoreError::UnknownScheme { .. }
        | StoreError::InvalidUrl { .. }
        | StoreError::Locked { .. } => true,
        StoreError::Unavailable { .. } | StoreError::Corrupt { .. } | StoreError::Io { .. } => {
            false
        }
    }
}

fn check_key(key: &[u8]) -> Result<(), StoreError> {
    if key.is_empty() || key.len() > MAX_KEY {
        return Err(StoreError::InvalidKey { length: key.len() });
    }
    Ok(())
}

/// Our error for one of the engine. It keeps most of its causes as text only, so the text decides
/// between damage, the file system and the rest.
fn classify(action: &'static str, error: Error) -> StoreError {
    let reason = match error {
        Error::TransactionConflict(_) => return StoreError::Conflict,
        Error::Shutdown => return StoreError::Closed,
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
        let config: SurrealKvConfig = settings(MEMTABLE_BYTES).load();
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
    }
}
