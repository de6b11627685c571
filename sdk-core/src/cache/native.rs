//! The cache of servers, desktops and phones: [`KvCache`] in a file, with redb below. The folder is
//! locked: one client at a time. What is durable survives a crash at any instruction; of the batches
//! after it, a crash loses the last ones, never a part of one.

#[cfg(test)]
mod tests;

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use redb::{Database, ReadOnlyTable, ReadableDatabase, TableDefinition};

use super::kv::{KvBatch, KvCache, KvRead, KvStore, Pair};
use super::{CacheError, Durability};

const TABLE: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("cache");
/// The file within the cache's folder.
const FILE: &str = "cache.redb";
/// What it is called until it is complete: a crash leaves no file that is half made.
const NEW_FILE: &str = "cache.redb.new";
/// Locked by who has the cache open.
const LOCK: &str = "lock";
/// How much of the file is kept in memory.
const PAGE_CACHE_BYTES: usize = 8 << 20;
/// How many batches may wait for a durable one: the file cannot use their former pages again before.
const BATCHES_AT_RISK: usize = 64;

/// How a cache is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// How many bytes of documents and indexes there should be at most. The file may be two to three
    /// times as large.
    pub size: u64,
}

impl Default for Options {
    /// 100 MiB.
    fn default() -> Options {
        Options { size: 100 << 20 }
    }
}

/// A cache in a file.
pub type NativeCache = KvCache<FileStore>;

impl NativeCache {
    /// Opens the cache in a folder; makes both if there are none.
    ///
    /// # Errors
    /// [`CacheError::InUse`] while another client has it open.
    pub fn open_in(folder: &Path, options: Options) -> Result<NativeCache, CacheError> {
        KvCache::open(FileStore::open(folder)?, options.size)
    }

    /// Removes the cache from a folder, if there is one, whatever state it is in.
    ///
    /// # Errors
    /// [`CacheError::InUse`] while a client has it open.
    pub fn remove(folder: &Path) -> Result<(), CacheError> {
        if !folder.try_exists().map_err(|error| unreadable(&error))? {
            return Ok(());
        }
        let _lock = lock(folder)?;
        remove_if_there(&folder.join(NEW_FILE))?;
        remove_if_there(&folder.join(FILE))
    }
}

/// Makes sure that nobody else has the cache open.
fn lock(folder: &Path) -> Result<File, CacheError> {
    let lock = File::create(folder.join(LOCK)).map_err(|error| unreadable(&error))?;
    lock.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => CacheError::InUse { place: folder.display().to_string() },
        TryLockError::Error(error) => unreadable(&error),
    })?;
    Ok(lock)
}

fn remove_if_there(file: &Path) -> Result<(), CacheError> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(unreadable(&error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Keys and values in a redb database.
pub struct FileStore {
    database: Database,
    /// Batches since the last durable one.
    at_risk: AtomicUsize,
    /// Held as long as the cache is open; none for what is no file.
    _lock: Option<File>,
}

impl FileStore {
    fn open(folder: &Path) -> Result<FileStore, CacheError> {
        fs::create_dir_all(folder).map_err(|error| unreadable(&error))?;
        let lock = lock(folder)?;
        let file = folder.join(FILE);
        if !file.try_exists().map_err(|error| unreadable(&error))? {
            make(folder)?;
        }
        let mut builder = Database::builder();
        let database = builder.set_cache_size(PAGE_CACHE_BYTES).open(file).map_err(failed)?;
        FileStore::with(database, Some(lock))
    }

    fn with(database: Database, lock: Option<File>) -> Result<FileStore, CacheError> {
        let write = database.begin_write().map_err(failed)?;
        write.open_table(TABLE).map_err(failed)?;
        write.commit().map_err(failed)?;
        Ok(FileStore { database, at_risk: AtomicUsize::new(0), _lock: lock })
    }
}

/// Makes an empty database.
fn make(folder: &Path) -> Result<(), CacheError> {
    let new = folder.join(NEW_FILE);
    remove_if_there(&new)?;
    Database::create(&new).map_err(failed)?.close().map_err(failed)?;
    File::open(&new).and_then(|file| file.sync_all()).map_err(|error| unreadable(&error))?;
    fs::rename(&new, folder.join(FILE)).map_err(|error| unreadable(&error))?;
    // A folder cannot be synced everywhere; where it cannot, a crash may leave no file: an empty cache.
    let _ = File::open(folder).and_then(|folder| folder.sync_all());
    Ok(())
}

fn unreadable(error: &io::Error) -> CacheError {
    CacheError::Failed(error.to_string())
}

fn failed(error: impl Into<redb::Error>) -> CacheError {
    match error.into() {
        redb::Error::Corrupted(what) => CacheError::Damaged(what),
        other => CacheError::Failed(other.to_string()),
    }
}

struct Snapshot(ReadOnlyTable<&'static [u8], &'static [u8]>);

impl KvRead for Snapshot {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, CacheError> {
        let value = self.0.get(key).map_err(failed)?;
        Ok(value.map(|value| value.value().to_vec()))
    }

    fn range<'a>(
        &'a self,
        from: &[u8],
        to: Option<&[u8]>,
        reverse: bool,
    ) -> Result<Box<dyn Iterator<Item = Result<Pair, CacheError>> + 'a>, CacheError> {
        let range = match to {
            Some(to) if to <= from => return Ok(Box::new(std::iter::empty())),
            Some(to) => self.0.range::<&[u8]>(from..to),
            None => self.0.range::<&[u8]>(from..),
        };
        let range = range.map_err(failed)?;
        let pair = |pair: Result<(redb::AccessGuard<'_, _>, redb::AccessGuard<'_, _>), _>| {
            let (key, value): (
                redb::AccessGuard<'_, &'static [u8]>,
                redb::AccessGuard<'_, &'static [u8]>,
            ) = pair.map_err(|error: redb::StorageError| failed(error))?;
            Ok((key.value().to_vec(), value.value().to_vec()))
        };
        Ok(if reverse { Box::new(range.rev().map(pair)) } else { Box::new(range.map(pair)) })
    }
}

impl KvStore for FileStore {
    fn read(&self) -> Result<Box<dyn KvRead + '_>, CacheError> {
        let read = self.database.begin_read().map_err(failed)?;
        Ok(Box::new(Snapshot(read.open_table(TABLE).map_err(failed)?)))
    }

    fn write(&self, batch: KvBatch, durability: Durability) -> Result<(), CacheError> {
        let at_risk = self.at_risk.fetch_add(1, Ordering::Relaxed) + 1;
        let durable = durability == Durability::Durable || at_risk >= BATCHES_AT_RISK;
        let mut write = self.database.begin_write().map_err(failed)?;
        let durability = if durable { redb::Durability::Immediate } else { redb::Durability::None };
        write.set_durability(durability).map_err(failed)?;
        {
            let mut table = write.open_table(TABLE).map_err(failed)?;
            for (key, value) in batch {
                match value {
                    Some(value) => drop(table.insert(&*key, &*value).map_err(failed)?),
                    None => drop(table.remove(&*key).map_err(failed)?),
                }
            }
        }
        write.commit().map_err(failed)?;
        if durable {
            self.at_risk.store(0, Ordering::Relaxed);
        }
        Ok(())
    }

    fn shrink(&mut self) -> Result<(), CacheError> {
        self.database.compact().map_err(failed)?;
        Ok(())
    }
}
