//! Layouts of the store, and the way from an earlier one to this one. Each step is one durable batch:
//! a crash leaves the layout before it or after it.
//!
//! | layout | what changed |
//! |---|---|
//! | 1 | |
//! | 2 | documents and targets know when they were stored; the cache has counters |

use super::layout::{self, Kind};
use super::records::State;
use super::store::{KvBatch, KvRead, KvStore};
use crate::cache::{CacheError, Durability};

/// The layout that this release writes.
pub(super) const LAYOUT: u32 = 2;

/// Brings a store up to date.
pub(super) fn migrate(store: &dyn KvStore) -> Result<(), CacheError> {
    loop {
        let batch = {
            let read = store.read()?;
            match layout_of(&*read)? {
                None => vec![(layout::layout(), Some(LAYOUT.to_be_bytes().to_vec()))],
                Some(LAYOUT) => return Ok(()),
                Some(1) => add_stamps(&*read)?,
                Some(found) if found > LAYOUT => {
                    return Err(CacheError::Newer { found, known: LAYOUT });
                }
                Some(found) => {
                    return Err(CacheError::Damaged(format!("there was no layout {found}")));
                }
            }
        };
        store.write(batch, Durability::Durable)?;
    }
}

/// None for an empty store.
fn layout_of(read: &dyn KvRead) -> Result<Option<u32>, CacheError> {
    if let Some(value) = read.get(&layout::layout())? {
        let number = value.try_into().map(u32::from_be_bytes);
        let damaged = |_| CacheError::Damaged("the number of its layout cannot be read".to_owned());
        return number.map(Some).map_err(damaged);
    }
    match read.range(&[], None, false)?.next().transpose()? {
        None => Ok(None),
        Some(_) => Err(CacheError::Damaged("it is no cache of a Tidemark client".to_owned())),
    }
}

/// From layout 1: documents and targets get the time 0, which is before all others.
fn add_stamps(read: &dyn KvRead) -> Result<KvBatch, CacheError> {
    let mut batch = KvBatch::new();
    let mut state = State::default();
    let (documents, targets) = ([Kind::Document.byte()], [Kind::Target.byte()]);
    for pair in read.range(&[], None, false)? {
        let (key, value) = pair?;
        let value = if key.starts_with(&documents) {
            let value = [&[0; 8], &value[..]].concat();
            batch.push((key.clone(), Some(value.clone())));
            value
        } else if key.starts_with(&targets) {
            let (id, token) = value
                .split_first_chunk::<4>()
                .ok_or_else(|| CacheError::Damaged("a target cannot be read".to_owned()))?;
            state.next_target = state.next_target.max(u32::from_be_bytes(*id));
            let value = [&id[..], &[0; 8], token].concat();
            batch.push((key.clone(), Some(value.clone())));
            value
        } else {
            value
        };
        if layout::counts(key[0]) {
            state.bytes += (key.len() + value.len()) as u64;
        }
    }
    batch.push((layout::state(), Some(state.encode())));
    batch.push((layout::layout(), Some(2_u32.to_be_bytes().to_vec())));
    batch.sort();
    Ok(batch)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeSet;

    use bytes::Bytes;

    use super::super::{KvCache, MemoryStore};
    use super::*;
    use crate::cache::conformance::{Sample, sample};
    use crate::cache::{Cache, Keep};

    /// A store as layout 1 had it, made from one of this layout.
    fn of_layout_1(store: &MemoryStore) -> MemoryStore {
        let old = MemoryStore::new();
        let mut batch = KvBatch::new();
        let read = store.read().unwrap();
        for pair in read.range(&[], None, false).unwrap() {
            let (key, mut value) = pair.unwrap();
            match key[0] {
                b'd' => drop(value.drain(..8)),
                b't' => drop(value.drain(4..12)),
                b's' | b'u' => continue,
                b'v' => value = 1_u32.to_be_bytes().to_vec(),
                _ => {}
            }
            batch.push((key, Some(value)));
        }
        old.write(batch, Durability::Durable).unwrap();
        old
    }

    fn filled() -> (KvCache<MemoryStore>, Sample) {
        let mut cache = KvCache::open(MemoryStore::new(), 1 << 20).unwrap();
        let sample = sample(&mut cache);
        (cache, sample)
    }

    #[test]
    fn what_an_earlier_layout_has_is_kept() {
        let (cache, sample) = filled();
        let mut migrated = KvCache::open(of_layout_1(cache.store()), 1 << 20).unwrap();
        sample.check(&migrated);
        assert_eq!(migrated.size(), cache.size());
        // New targets get numbers of their own, and what was migrated may be collected.
        let key = Bytes::from_static(b"another");
        let put = crate::cache::TargetChange::Put { key: key.clone(), token: None };
        let batch = crate::cache::CacheBatch { targets: vec![put], ..Default::default() };
        migrated.apply(batch, Durability::Durable).unwrap();
        assert_eq!(migrated.target_documents(&key).unwrap(), []);
        let none = (BTreeSet::new(), BTreeSet::new());
        migrated.collect(Keep { targets: &none.0, documents: &none.1 }, 0).unwrap();
        assert!(migrated.size() < cache.size());
    }

    #[test]
    fn a_later_layout_is_refused_and_left_alone() {
        let (cache, _) = filled();
        let later = (LAYOUT + 1).to_be_bytes().to_vec();
        let batch = vec![(layout::layout(), Some(later))];
        cache.store().write(batch, Durability::Durable).unwrap();
        let store = cache.store().crashed(0);
        let error = KvCache::open(store, 1).err().unwrap();
        assert_eq!(error, CacheError::Newer { found: LAYOUT + 1, known: LAYOUT });
    }

    #[test]
    fn what_is_no_cache_is_refused() {
        let store = MemoryStore::new();
        store.write(vec![(vec![7], Some(vec![7]))], Durability::Durable).unwrap();
        assert!(matches!(KvCache::open(store, 1), Err(CacheError::Damaged(_))));
    }
}
