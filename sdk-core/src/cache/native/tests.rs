//! The cache in a file: conformance, the lock, and (in `crashes`) what is left after a crash.
#![allow(clippy::unwrap_used)]

mod crashes;

use std::path::{Path, PathBuf};
use std::process::Command;

use super::*;
use crate::cache::conformance::{check, sample};
use crate::cache::{Cache, CacheBatch, TargetChange};

fn open(folder: &Path) -> Result<NativeCache, CacheError> {
    NativeCache::open_in(folder, Options::default())
}

#[test]
fn conforms() {
    let folder = tempfile::tempdir().unwrap();
    let mut count = 0;
    check(&mut |size| {
        count += 1;
        let place = folder.path().join(count.to_string());
        Box::new(NativeCache::open_in(&place, Options { size }).unwrap())
    });
}

#[test]
fn everything_is_there_when_it_is_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut cache = open(folder.path()).unwrap();
    let sample = sample(&mut cache);
    let size = cache.size();
    for _ in 0..2 {
        drop(cache);
        cache = open(folder.path()).unwrap();
        sample.check(&cache);
        assert!(cache.size() >= size, "{} {size}", cache.size());
    }
}

#[test]
fn an_orderly_end_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut cache = open(folder.path()).unwrap();
    let key = bytes::Bytes::from_static(b"a target");
    let targets = vec![TargetChange::Put { key: key.clone(), token: None }];
    let batch = CacheBatch { targets, ..CacheBatch::default() };
    cache.apply(batch, Durability::Soon).unwrap();
    drop(cache);
    assert_eq!(open(folder.path()).unwrap().targets().unwrap(), [key]);
}

#[test]
fn a_second_client_is_told_that_the_cache_is_in_use() {
    let folder = tempfile::tempdir().unwrap();
    let first = open(folder.path()).unwrap();
    let place = folder.path().display().to_string();
    assert_eq!(open(folder.path()).err(), Some(CacheError::InUse { place }));
    drop(first);
    open(folder.path()).unwrap();
}

/// Tells the other process, which is this test again, where the cache is.
const PLACE: &str = "TIDEMARK_TEST_CACHE_IN_USE";

#[test]
fn a_second_process_is_told_that_the_cache_is_in_use() {
    if let Some(place) = std::env::var_os(PLACE) {
        let error = open(&PathBuf::from(place)).err();
        assert!(matches!(error, Some(CacheError::InUse { .. })), "{error:?}");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let _first = open(folder.path()).unwrap();
    let name = "cache::native::tests::a_second_process_is_told_that_the_cache_is_in_use";
    let other = Command::new(std::env::current_exe().unwrap())
        .args([name, "--exact"])
        .env(PLACE, folder.path())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&other.stdout);
    assert!(other.status.success() && told.contains("1 passed"), "{told}");
}

#[test]
fn what_a_crash_left_half_made_is_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(NEW_FILE), [0; 5_000]).unwrap();
    let mut cache = open(folder.path()).unwrap();
    let sample = sample(&mut cache);
    drop(cache);
    assert!(!folder.path().join(NEW_FILE).exists());
    sample.check(&open(folder.path()).unwrap());
}

#[test]
fn what_is_no_database_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(FILE);
    std::fs::write(&file, b"someone else's").unwrap();
    assert!(matches!(open(folder.path()), Err(CacheError::Failed(_) | CacheError::Damaged(_))));
    assert_eq!(std::fs::read(&file).unwrap(), b"someone else's");
}

#[test]
fn clearing_gives_the_room_back() {
    let folder = tempfile::tempdir().unwrap();
    let mut cache = open(folder.path()).unwrap();
    sample(&mut cache);
    let file = folder.path().join(FILE);
    let before = std::fs::metadata(&file).unwrap().len();
    cache.clear().unwrap();
    let after = std::fs::metadata(&file).unwrap().len();
    assert!(after < before, "{after} {before}");
}
