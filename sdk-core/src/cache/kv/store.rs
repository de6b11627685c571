//! What a cache needs of a store, and the plainest one: ordered keys and values, snapshots of them to
//! read, and batches that take effect together.

use std::cell::{Ref, RefCell};
use std::collections::BTreeMap;
use std::ops::Bound;

use crate::cache::{CacheError, Durability};

/// A key and its value.
pub type Pair = (Vec<u8>, Vec<u8>);

/// A change of one key: its new value, or none.
pub type KvChange = (Vec<u8>, Option<Vec<u8>>);

/// Changes that take effect together or not at all; each key at most once, in order.
pub type KvBatch = Vec<KvChange>;

/// What a store had at one moment.
pub trait KvRead {
    /// The value of a key.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, CacheError>;

    /// The keys from `from` up to but without `to` (none: to the end), in order or from the last to
    /// the first, with their values. Nothing, if `to` is not above `from`.
    fn range<'a>(
        &'a self,
        from: &[u8],
        to: Option<&[u8]>,
        reverse: bool,
    ) -> Result<Box<dyn Iterator<Item = Result<Pair, CacheError>> + 'a>, CacheError>;
}

/// An ordered store of keys and values.
pub trait KvStore: Send {
    /// What it has now. Nothing is written while this lives.
    fn read(&self) -> Result<Box<dyn KvRead + '_>, CacheError>;

    /// Writes a batch.
    fn write(&self, batch: KvBatch, durability: Durability) -> Result<(), CacheError>;

    /// Gives back what room it can: nearly everything was deleted.
    fn shrink(&mut self) -> Result<(), CacheError> {
        Ok(())
    }
}

/// The keys that begin with `prefix`, and their values.
pub(super) fn prefixed<'a>(
    read: &'a dyn KvRead,
    prefix: &[u8],
) -> Result<Box<dyn Iterator<Item = Result<Pair, CacheError>> + 'a>, CacheError> {
    read.range(prefix, after(prefix).as_deref(), false)
}

/// The first key after all that begin with this one.
pub(super) fn after(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte < u8::MAX)?;
    let mut key = prefix[..=last].to_vec();
    key[last] += 1;
    Some(key)
}

/// A store in memory that remembers what would survive a crash: simulations run on it.
#[derive(Default)]
pub struct MemoryStore {
    inner: RefCell<Inner>,
}

#[derive(Default)]
struct Inner {
    now: BTreeMap<Vec<u8>, Vec<u8>>,
    /// As of the last durable batch.
    durable: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The batches since.
    unsynced: Vec<KvBatch>,
}

fn put_all(map: &mut BTreeMap<Vec<u8>, Vec<u8>>, batch: KvBatch) {
    for (key, value) in batch {
        match value {
            Some(value) => map.insert(key, value),
            None => map.remove(&key),
        };
    }
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> MemoryStore {
        MemoryStore::default()
    }

    /// How many batches a crash may lose.
    pub fn unsynced(&self) -> usize {
        self.inner.borrow().unsynced.len()
    }

    /// The store after a crash that lost all but the first `survivors` of the batches that were not
    /// durable yet.
    pub fn crashed(&self, survivors: usize) -> MemoryStore {
        let inner = self.inner.borrow();
        let mut durable = inner.durable.clone();
        inner
            .unsynced
            .iter()
            .take(survivors)
            .for_each(|batch| put_all(&mut durable, batch.clone()));
        let now = durable.clone();
        MemoryStore { inner: RefCell::new(Inner { now, durable, unsynced: Vec::new() }) }
    }
}

struct Snapshot<'a>(Ref<'a, Inner>);

impl KvRead for Snapshot<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, CacheError> {
        Ok(self.0.now.get(key).cloned())
    }

    fn range<'a>(
        &'a self,
        from: &[u8],
        to: Option<&[u8]>,
        reverse: bool,
    ) -> Result<Box<dyn Iterator<Item = Result<Pair, CacheError>> + 'a>, CacheError> {
        if to.is_some_and(|to| to <= from) {
            return Ok(Box::new(std::iter::empty()));
        }
        let bounds = (Bound::Included(from), to.map_or(Bound::Unbounded, Bound::Excluded));
        let pairs = self.0.now.range::<[u8], _>(bounds);
        let owned = |(key, value): (&Vec<u8>, &Vec<u8>)| Ok((key.clone(), value.clone()));
        Ok(if reverse { Box::new(pairs.rev().map(owned)) } else { Box::new(pairs.map(owned)) })
    }
}

impl KvStore for MemoryStore {
    fn read(&self) -> Result<Box<dyn KvRead + '_>, CacheError> {
        Ok(Box::new(Snapshot(self.inner.borrow())))
    }

    fn write(&self, batch: KvBatch, durability: Durability) -> Result<(), CacheError> {
        let inner = &mut *self.inner.borrow_mut();
        put_all(&mut inner.now, batch.clone());
        inner.unsynced.push(batch);
        if durability == Durability::Durable {
            for batch in inner.unsynced.drain(..) {
                put_all(&mut inner.durable, batch);
            }
        }
        Ok(())
    }
}
