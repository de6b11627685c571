//! The suite that every store must pass; [`model`] compares a store with an ordered map besides.
//!
//! Tests drive it: [`crate::store_conformance`] makes one test per case for a [`Fixture`]. It uses
//! nothing but the traits of [`super`], so that it says what any engine must do.

#![allow(clippy::unwrap_used)] // It is test code; it lives here so that every engine can run it.

pub mod model;

use std::sync::Arc;

use bytes::Bytes;
use tokio::task::JoinSet;

use super::{
    Key, KeyRange, MAX_KEY, MAX_TRANSACTION, PER_WRITE, ScanDirection, Snapshot, Store, StoreError,
    Transaction, open,
};

/// Where a case finds an empty store.
pub trait Fixture {
    /// Whether what was committed is there after closing and opening again.
    const DURABLE: bool;

    /// An empty place.
    fn fresh() -> Self;

    /// The URL of the place; the same at each call.
    fn url(&self) -> String;

    /// Opens the store at the place; a store that no URL names does this itself.
    fn open(&self) -> impl Future<Output = Result<Arc<dyn Store>, StoreError>> + Send {
        let url = self.url();
        async move { open(&url).await }
    }
}

/// Makes a module with one test per case of the suite for a [`Fixture`].
#[macro_export]
macro_rules! store_conformance {
    ($module:ident, $fixture:ty) => {
        $crate::store_conformance!(
            @cases $module, $fixture,
            values_are_put_read_overwritten_and_deleted
            empty_values_are_not_missing_values
            keys_are_ordered_as_bytes
            ranges_are_half_open
            scans_go_both_ways_and_stop_at_the_limit
            long_scans_cross_pages
            many_keys_are_read_in_order
            a_transaction_sees_its_own_writes
            a_snapshot_never_changes
            a_transaction_reads_as_of_its_begin
            a_written_key_conflicts
            a_read_key_conflicts
            blind_writes_of_one_key_conflict
            disjoint_transactions_do_not_conflict
            a_dropped_transaction_leaves_nothing
            invalid_keys_fail_the_whole_commit
            a_transaction_that_is_too_large_is_refused
            large_values_and_batches_survive
            a_snapshot_outlives_a_full_write_buffer
            concurrent_commits_lose_nothing
            a_closed_store_refuses_work
            reopening_keeps_what_a_durable_store_holds
        );
    };
    (@cases $module:ident, $fixture:ty, $($case:ident)*) => {
        mod $module {
            use super::*;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    $crate::store::conformance::$case::<$fixture>().await;
                }
            )*
        }
    };
}

async fn opened<F: Fixture>() -> (F, Arc<dyn Store>) {
    let fixture = F::fresh();
    let store = fixture.open().await.unwrap();
    (fixture, store)
}

fn bytes(value: impl AsRef<[u8]>) -> Bytes {
    Bytes::copy_from_slice(value.as_ref())
}

async fn put_all<K: AsRef<[u8]>, V: AsRef<[u8]>>(store: &dyn Store, pairs: &[(K, V)]) {
    let mut transaction = store.begin().await.unwrap();
    for (key, value) in pairs {
        transaction.put(key.as_ref().to_vec(), bytes(value));
    }
    transaction.commit().await.unwrap();
}

async fn get(store: &dyn Store, key: impl AsRef<[u8]>) -> Option<Bytes> {
    store.snapshot().await.unwrap().get(key.as_ref()).await.unwrap()
}

async fn keys(snapshot: &dyn Snapshot, start: &[u8], end: &[u8]) -> Vec<Key> {
    let range = KeyRange { start: start.to_vec(), end: end.to_vec() };
    let rows = snapshot.scan(range, ScanDirection::Forward, usize::MAX).await.unwrap();
    rows.into_iter().map(|(key, _)| key).collect()
}

/// Case: the life of one key.
pub async fn values_are_put_read_overwritten_and_deleted<F: Fixture>() {
    let (_fixture, store) = opened::<F>().await;
    assert_eq!(get(&*store, "k").await, None);
    put_all(&*store, &[("k", "1")]).await;
    assert_eq!(get(&*store, "k").await, Some(bytes("1")));
    put_all(&*store, &[("k", "22")]).await;
    assert_eq!(get(&*store, "k").await, Some(bytes("22")));

    let mut transaction = store.begin().await.unwrap();
    transaction.delete(b"k".to_vec());
    transaction.delete(b"never there".to_vec());
    transaction.commit().await.unwrap();
    assert_eq!(get(&*store, "k").await, None);
    put_all(&*store, &[("k", "3")]).await;
    assert_eq!(get(&*store, "k").await, Some(bytes("3")));
    store.close().await.unwrap();
}

/// Case: an empty value is there, in reads and in scans.
pub async fn empty_values_are_not_missing_values<F: Fixture>() {
    let (_fixture, store) = opened::<F>().await;
    put_all(&*store, &[("k", "")]).await;
    assert_eq!(get(&*store, "k").await, Some(Bytes::new()));
    let snapshot = store.snapshot().await.unwrap();
    let rows = snapshot.scan(KeyRange::prefix(b"k"), ScanDirection::Forward, 9).await.unwrap();
    assert_eq!(rows, vec![(b"k".to_vec(), Bytes::new())]);
    drop(snapshot);
    store.close().await.unwrap();
}

/// Case: keys may hold any byte and sort as unsigned bytes, a prefix before what it starts.
pub async fn keys_are_ordered_as_bytes<F: Fixture>() {
    let (_fixture, store) = opened::<F>().await;
    let sorted: Vec<Key> = vec![
        vec![0],
        vec![0, 0],
        vec![0, 0xFF],
        vec![1],
        b"a".to_vec(),
        b"a\0".to_vec(),
        b"a\0b".to_vec(),
        b"a\xFF".to_vec(),
        vec![0x7F],
        vec![0x80],
        vec![0xFF],
        vec![0xFF, 0],
        vec![0xFF, 0xFF],
        vec![0xFF, 0xFF, 0xFF],
    ];
    let mut shuffled = sorted.clone();
    shuffled.rotate_left(5);
    shuffled.swap(0, 8);
    let pairs: Vec<_> = shuffled.iter().map(|key| (key, key)).collect();
    put_all(&*store, &pairs).await;

    let snapshot = store.snapshot().await.unwrap();
    let all = KeyRange::prefix(b"");
    let rows = snapshot.scan(all.clone(), ScanDirection::Forward, 99).await.unwrap();
    assert_eq!(rows.iter().map(|(key, _)| key.clone()).collect::<Vec<_>>(), sorted);
    assert!(rows.iter().all(|(key, value)| key == value));
    let mut rows = snapshot.scan(all, ScanDirection::Backward, 99).await.unwrap();
    rows.reverse();
    assert_eq!(rows.into_iter().map(|(key, _)| key).collect::<Vec<_>>(), sorted);

    let top = snapshot.scan(KeyRange::prefix(&[0xFF]), ScanDirection::Forward, 99).await.unwrap();
    assert_eq!(top.len(), 4);
    let a = snapshot.scan(KeyRange::prefix(b"a"), ScanDirection::Forward, 99).await.unwrap();
    assert_eq!(a.len(), 4);
    for key in &sorted {
        assert_eq!(snapshot.get(key).await.unwrap(), Some(bytes(key)));
    }
    drop(snapshot);
    store.close().await.unwrap();
}

/// Case: the start of a range is in it, the end is not.
pub async fn ranges_are_half_open<F: Fixture>() {
    let (_fixture, store) = opened::<F>().await;
    put_all(&*store, &[("a", ""), ("b", ""), ("b\0", ""), ("c", "")]).await;
    let snapshot = store.snapshot().await.unwrap();
    assert_eq!(keys(&*snapshot, b"a", b"c").await, [&b"a"[..], b"b", b"b\0"]);
    assert_eq!(keys(&*snapshot, b"b", b"b\0").await, [b"b"]);
    assert_eq!(keys(&*snapshot, b"aa", b"bb").await, [&b"b"[..], b"b\0"]);
    assert_eq!(keys(&*snapshot, b"b", b"b").await, [b""; 0]);
    assert_eq!(keys(&*snapshot, b"c", b"a").await, [b""; 0]);
    assert_eq!(keys(&*snapshot, b"d", b"e").await, [b""; 0]);
    for (end, last) in [("c", "b\0"), ("b\0", "b"), ("cc", "c")] {
        let range = KeyRange { start: b"a".to_vec(), end: end.as_bytes().to_vec() };
        let rows = snapshot.scan(range, ScanDirection::Backward, 1).await.unwrap();
        assert_eq!(rows[0].0, last.as_bytes(), "the last key before {end:?}");
    }
    drop(snapshot);
    store.close().await.unwrap();
}

/// Case: a limit cuts the far end of a scan, whichever way it goes.
pub async fn scans_go_both_ways_and_stop_at_the_limit<F: Fixture>() {
    let (_fixture, store) = opened::<F>().await;
    put_all(&*store, &[("p/1", "x"), ("p/2", "y"), ("p/3", "z"), ("q", "")]).await;
    let snapshot = store.snapshot().await.unwrap();
    for (direction, limit, expected) in [
        (ScanDirection::Forward, 0, &[][..]),
        (ScanDirection::Backward, 0, &[]),
        (ScanDirection::Forward, 2, &["p/1", "p/2"]),
        (ScanDirection::Backward, 2, &["p/3", "p/2"]),
        (ScanDirection::Forward, 3, &["p/1", "p/2", "p/3"]),
        (ScanDirection::Backward, usize::MAX, &["p/3", "p/2", "p/1"]),
    ] {
        let rows = snapshot.scan(KeyRange::prefix(b"p/"), direction, limit).await.unwrap();
        let found: Vec<_> = rows.iter().map(|(key, _)| std::str::from_utf8(key).unwrap()).collect();
        assert_eq!(found, expected, "{direction:?} limit {limit}");
    }
    drop(snapshot);
    store.close().await.unwrap();
}

/// Case: scans of thousands of rows return each row once.
pub async fn long_scans_cross_pages<F: Fixture>() {
    let (_fixture, store) = opened::<F>().await;
    let rows: Vec<_> = (0..4096_u32).map(|n| (n.to_be_bytes(), n.to_le_bytes())).collect();
    put_all(&*store, &rows).await;
    let snapshot = store.snapshot().await.unwrap();
    let all = || KeyRange { start: vec![0], end: vec![1] };
    for limit in [1023, 1024, 1025, 2048, 4095, 4096, 5000] {
        let expected = limit.min(4096);
        let forward = snapshot.scan(all(), ScanDirection::Forward, limit).await.unwrap();
        assert!(
            forward.iter().map(|(key, _)| key).eq(rows.iter().take(expected).map(|row| &row.0))
        );
        let backward = snapshot.scan(all(), ScanDirection::Backward, limit).await.unwrap();
        let from_end = rows.iter().rev().take(expected).map(|row| &row.0);
        assert!(backward.iter().map(|(key, _)| key).eq(from_end), "limit {limit}");
    }
    drop(snapshot);
    store.close().await.unwrap();
}

/// Case: a read of many keys answers each at its place, repeated and missing ones included.
pub async fn many_keys_are_read_in_order<F: Fixture>() {
    let (_fixture, store) = opened::<F>().await;
    put_all(&*store, &[("a", "1"), ("b", "2")]).await;
    let snapshot = store.snapshot().await.unwrap();
    let asked = [b"b".to_vec(), b"x".to_vec(), b"a".to_vec(), b"b".to_vec()];
    let found = snapshot.get_many(&asked).await.unwrap();
    assert_eq!(found, [Some(bytes("2")), None, Some(bytes("1")), Some(bytes("2"))]);
    assert!(snapshot.get_many(&[]).await.unwrap().is_empty());
    drop(snapshot);
    store.close().await.unwrap();
}

/// Case: a transaction reads what it wrote; nobody else does before the commit.
pub async fn a_transaction_sees_its_own_writes<F: Fixture>() {
    let (_fixture, store) = opened::<F>().await;
    put_all(&*store, &[("a", "old"), ("b", "old")]).await;
    let mut transaction = store.begin().await.unwrap();
    transaction.put(b"a".to_vec(), bytes("new"));
    transaction.delete(b"b".to_vec());
    transaction.put(b"c".to_vec(), bytes("x"));
    transaction.delete(b"c".to_vec());
    transaction.put(b"c".to_vec(), bytes("y"));
    assert_eq!(transaction.get(b"a").await.unwrap(), Some(bytes("new")));
    assert_eq!(transaction.get(b"b").await.unwrap(), None);
    assert_eq!(transaction.get(b"c").await.unwrap(), Some(bytes("y")));
    assert_eq!(get(&*store, "a").await, Some(bytes("old")));
    assert_eq!(get(&*store, "c").await, None);
    transaction.commit().await.unwrap();
    assert_eq!(get(&*store, "a").await, Some(bytes("new")));
    assert_eq!(get(&*store, "b").await, None);
    assert_eq!(get(&*store, "c").await, Some(bytes("y")));
    store.close().await.unwrap();
}

/// Case: a snapshot that lives through many commits still reads the same.
pub async fn a_snapshot_never_changes<F: Fixture>() {
    let (_fixture, store) = opened::<F>().await;
    let pairs: Vec<_> = (0..20_u8).map(|n| ([b'k', n], [n])).collect();
    put_all(&*store, &pairs).await;
    let snapshot = store.snapshot().await.unwrap();
    for round in 0..100_u8 {
        let mut transaction = store.begin().await.unwrap();
        transaction.put(vec![b'k', round % 20], bytes([round, round]));
        transaction.put(vec![b'k', 20 + round], bytes([round]));
        transaction.delete(vec![b'k', (round + 7) % 20]);
        transaction.commit().await.unwrap();
    }
    for (key, value) in &pairs {
        assert_eq!(snapshot.get(key).await.unwrap(), Some(bytes(value)));
    }
    assert_eq!(snapshot.get(b"k\x14").await.unwrap(), None);
    for direction in [ScanDirection::Forward, ScanDirection::Backward] {
        let mut rows = snapshot.scan(KeyRange::prefix(b"k"), direction, 99).await.unwrap();
        rows.sort();
        assert!(
            rows.iter()
                .map(|(key, value)| (&key[..], &value[..]))
                .eq(pairs.iter().map(|(key, value)| (&key[..], &value[..])))
        );
    }
    let now = store.snapshot().await.unwrap();
    assert_eq!(now.get(b"k\x14").await.unwrap(), Some(bytes([0])));
    drop((snapshot, now));
    store.close().await.unwrap();
}

/// Case: a transaction does not see what was committed after it began.
pub async fn a_transaction_reads_as_of_its_begin<F: Fixture>() {
    let (_fixture, store) = opened::<F>().await;
    put_all(&*store, &[("a", "1"), ("b", "1")]).await;
    let mut transaction = store.begin().await.unwrap();
    assert_eq!(transaction.get(b"a").await.unwrap(), Some(bytes("1")));
    put_all(&*store, &[("b", "2")]).await;
    assert_eq!(transaction.get(b"b").await.unwrap(), Some(bytes("1")));
    drop(transaction);
    store.close().await.unwrap();
}

async fn add_one(transaction: &mut dyn Transaction, key: &[u8]) {
    let old = transaction.get(key).await.unwrap().map_or(0, |value| value[0]);
    transaction.put(key.to_vec(), bytes([old + 1]));
}

/// Case: of two transactions that read and write one key, one fails and leaves nothing, and the
/// store goes on.
pub async fn a_written_key_conflicts<F: Fixture>() {
    let (_fixture, store) = opened::<F>().await;
    for expected in [1, 2] {
        let mut first = store.begin().await.unwrap();
        let mut second = store.begin().await.unwrap();
        add_one(&mut *first, b"n").await;
        add_one(&mut *second, b"n").await;
        second.put(b"trace".to_vec(), bytes("of the loser"));
        first.commit().await.unwrap();
        assert!(matches!(second.commit().await, Err(StoreError::Conflict)));
        assert_eq!(get(&*store, "n").await, Some(bytes([expected])));
        assert_eq!(get(&*store, "trace").await, None);
    }
    store.close().await.unwrap();
}

/// Case: a key that was only read conflicts as well, present or absent.
pub async fn a_read_key_conflicts<F: Fixture>() {
    let (_fixture, store) = opened::<F>().await;
    put_all(&*store, &[("present", "1")]).await;
    for key in ["present", "absent"] {
        let mut reader = store.begin().await.unwrap();
        reader.get(key.as_bytes()).await.unwrap();
        reader.put(b"derived".to_vec(), bytes("stale"));
        put_all(&*store, &[(key, "2")]).await;
        assert!(matches!(reader.commit().await, Err(StoreError::Conflict)), "{key}");
        assert_eq!(get(&*store, "derived").await, None);
    }
    let mut reader = store.begin().await.unwrap();
    reader.get(b"present").await.unwrap();
    reader.put(b"derived".to_vec(), bytes("stale"));
    let mut remover = store.begin().await.unwrap();
    remover.delete(b"present".to_vec());
    remover.commit().await.unwrap();
    assert!(matches!(reader.commit().await, Err(StoreError::Conflict)), "removed");
    store.close().await.unwrap();
}

/// Case: two transactions that write one key without reading it conflict.
pub async fn blind_writes_of_one_key_conflict<F: Fixture>() {
    let (_fixture, store) = opened::<F>().await;
    let mut first = store.begin().await.unwrap();
    let mut second = store.begin().await.unwrap();
    first.put(b"k".to_vec(), bytes("first"));
    second.put(b"k".to_vec(), bytes("second"));
    second.commit().await.unwrap();
    assert!(matches!(first.commit().await, Err(StoreError::Conflict)));
    assert_eq!(get(&*store, "k").await, Some(bytes("second")));
    store.close().await.unwrap();
}

/// Case: transactions that share no key all commit.
pub async fn disjoint_transactions_do_not_conflict<F: Fixture>() {
    let (_fixture, store) = opened::<F>().await;
    let mut first = store.begin().await.unwrap();
    let mut second = store.begin().await.unwrap();
    add_one(&mut *first, b"a").await;
    add_one(&mut *second, b"b").await;
    second.commit().await.unwrap();
    first.commit().await.unwrap();
    assert_eq!(get(&*store, "a").await, Some(bytes([1])));
    assert_eq!(get(&*store, "b").await, Some(bytes([1])));
    store.begin().await.unwrap().commit().await.unwrap();
    store.close().await.unwrap();
}

/// Case: dropping a transaction discards its writes and blocks nobody.
pub async fn a_dropped_transaction_leaves_nothing<F: Fixture>() {
    let (_fixture, store) = opened::<F>().await;
    put_all(&*store, &[("a", "1")]).await;
    let mut transaction = store.begin().await.unwrap();
    add_one(&mut *transaction, b"a").await;
    transaction.put(b"b".to_vec(), bytes("2"));
    drop(transaction);
    assert_eq!(get(&*store, "a").await, Some(bytes("1")));
    assert_eq!(get(&*store, "b").await, None);
    put_all(&*store, &[("a", "3")]).await;
    assert_eq!(get(&*store, "a").await, Some(bytes("3")));
    store.close().await.unwrap();
}

/// Case: a key of a wrong length fails the commit with nothing applied, and only that commit.
pub async fn invalid_keys_fail_the_whole_commit<F: Fixture>() {
    let (_fixture, store) = opened::<F>().await;
    for length in [0, MAX_KEY + 1] {
        let mut transaction = store.begin().await.unwrap();
        transaction.put(b"valid".to_vec(), bytes("1"));
        transaction.put(vec![b'z'; length], bytes("2"));
        let outcome = transaction.commit().await;
        assert!(matches!(outcome, Err(StoreError::InvalidKey { length: l }) if l == length));
        assert_eq!(get(&*store, "valid").await, None);
        let snapshot = store.snapshot().await.unwrap();
        let key = vec![b'z'; length];
        assert!(matches!(snapshot.get(&key).await, Err(StoreError::InvalidKey { .. })));
        assert!(matches!(snapshot.get_many(&[key]).await, Err(StoreError::InvalidKey { .. })));
    }
    let longest = vec![0xFF; MAX_KEY];
    put_all(&*store, &[(&longest, "fits")]).await;
    assert_eq!(get(&*store, &longest).await, Some(bytes("fits")));
    store.close().await.unwrap();
}

/// Case: the size limit refuses a transaction as a whole, and one at the limit passes, repeatedly.
pub async fn a_transaction_that_is_too_large_is_refused<F: Fixture>() {
    let (_fixture, store) = opened::<F>().await;
    let largest = Bytes::from(vec![7; MAX_TRANSACTION - PER_WRITE - 1]);
    let mut transaction = store.begin().await.unwrap();
    transaction.put(b"k".to_vec(), largest.clone());
    transaction.put(b"l".to_vec(), Bytes::new());
    let outcome = transaction.commit().await;
    assert!(
        matches!(outcome, Err(StoreError::TooLarge { bytes }) if bytes > MAX_TRANSACTION),
        "{outcome:?}"
    );
    assert_eq!(get(&*store, "l").await, None);
    for key in ["a", "b", "c", "d", "e", "f"] {
        let mut transaction = store.begin().await.unwrap();
        transaction.put(key.as_bytes().to_vec(), largest.clone());
        transaction.commit().await.unwrap();
    }
    assert_eq!(get(&*store, "f").await, Some(largest));
    store.close().await.unwrap();
}

fn filled(seed: u8, length: usize) -> Bytes {
    (0..length).map(|n| seed.wrapping_add((n % 251) as u8)).collect()
}

/// Case: a value of 1 MiB and a batch of 5,000 puts.
pub async fn large_values_and_batches_survive<F: Fixture>() {
    let (fixture, store) = opened::<F>().await;
    let large = filled(3, 1 << 20);
    let mut transaction = store.begin().await.unwrap();
    transaction.put(b"large".to_vec(), large.clone());
    for n in 0..5000_u32 {
        transaction.put([b"n/".as_slice(), &n.to_be_bytes()].concat(), filled(n as u8, 40));
    }
    transaction.commit().await.unwrap();
    let store = if F::DURABLE {
        store.close().await.unwrap();
        fixture.open().await.unwrap()
    } else {
        store
    };
    assert_eq!(get(&*store, "large").await, Some(large));
    let snapshot = store.snapshot().await.unwrap();
    let rows = snapshot.scan(KeyRange::prefix(b"n/"), ScanDirection::Forward, 9999).await.unwrap();
    assert_eq!(rows.len(), 5000);
    assert!(rows.iter().enumerate().all(|(n, (_, value))| *value == filled(n as u8, 40)));
    drop(snapshot);
    store.close().await.unwrap();
}

/// Case: enough writes to fill and write out a buffer of 64 MiB change nothing for a snapshot from
/// before, nor for later readers.
pub async fn a_snapshot_outlives_a_full_write_buffer<F: Fixture>() {
    let (_fixture, store) = opened::<F>().await;
    let old: Vec<_> = (0..4_u8).map(|n| ([b'k', n], filled(n, 1000))).collect();
    put_all(&*store, &old).await;
    let snapshot = store.snapshot().await.unwrap();
    for round in 0..80_u8 {
        put_all(&*store, &[([b'k', round % 4], filled(round, 1 << 20))]).await;
    }
    for (key, value) in &old {
        assert_eq!(snapshot.get(key).await.unwrap().as_ref(), Some(value));
    }
    let rows = snapshot.scan(KeyRange::prefix(b"k"), ScanDirection::Backward, 9).await.unwrap();
    assert!(rows.iter().rev().map(|(_, value)| value).eq(old.iter().map(|(_, value)| value)));
    for n in 0..4_u8 {
        assert_eq!(get(&*store, [b'k', n]).await, Some(filled(76 + n, 1 << 20)));
    }
    drop(snapshot);
    store.close().await.unwrap();
}

/// Case: tasks that count in one shared key and write keys of their own lose no update.
pub async fn concurrent_commits_lose_nothing<F: Fixture>() {
    const TASKS: u8 = 8;
    const ROUNDS: u8 = 15;
    let (_fixture, store) = opened::<F>().await;
    let mut tasks = JoinSet::new();
    for task in 0..TASKS {
        let store = Arc::clone(&store);
        tasks.spawn(async move {
            for round in 0..ROUNDS {
                loop {
                    let mut transaction = store.begin().await.unwrap();
                    add_one(&mut *transaction, b"shared").await;
                    transaction.put(vec![b'k', task, round], bytes([task]));
                    match transaction.commit().await {
                        Ok(()) => break,
                        Err(StoreError::Conflict) => tokio::task::yield_now().await,
                        Err(other) => panic!("{other}"),
                    }
                }
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    assert_eq!(get(&*store, "shared").await, Some(bytes([TASKS * ROUNDS])));
    let snapshot = store.snapshot().await.unwrap();
    let rows = snapshot.scan(KeyRange::prefix(b"k"), ScanDirection::Forward, 999).await.unwrap();
    assert_eq!(rows.len(), usize::from(TASKS * ROUNDS));
    drop(snapshot);
    store.close().await.unwrap();
}

/// Case: closing is final, even for a transaction that began before, and may be repeated.
pub async fn a_closed_store_refuses_work<F: Fixture>() {
    let (_fixture, store) = opened::<F>().await;
    let mut late = store.begin().await.unwrap();
    late.put(b"late".to_vec(), bytes("1"));
    store.close().await.unwrap();
    store.close().await.unwrap();
    assert!(matches!(late.commit().await, Err(StoreError::Closed)));
    assert!(matches!(store.snapshot().await.err(), Some(StoreError::Closed)));
    assert!(matches!(store.begin().await.err(), Some(StoreError::Closed)));
}

/// Case: closing and opening again, several times, keeps everything; memory starts empty.
pub async fn reopening_keeps_what_a_durable_store_holds<F: Fixture>() {
    let fixture = F::fresh();
    for round in 0..4_u8 {
        let store = fixture.open().await.unwrap();
        let snapshot = store.snapshot().await.unwrap();
        let found = keys(&*snapshot, b"k", b"l").await;
        let expected: Vec<Key> = (0..round).map(|n| vec![b'k', n]).collect();
        assert_eq!(found, if F::DURABLE { expected } else { vec![] });
        if F::DURABLE && round > 0 {
            assert_eq!(snapshot.get(b"overwritten").await.unwrap(), Some(bytes([round - 1])));
            assert_eq!(snapshot.get(b"deleted").await.unwrap(), None);
        }
        drop(snapshot);
        put_all(&*store, &[(vec![b'k', round], "v"), (b"deleted".to_vec(), "v")]).await;
        let mut transaction = store.begin().await.unwrap();
        transaction.put(b"overwritten".to_vec(), bytes([round]));
        transaction.delete(b"deleted".to_vec());
        transaction.commit().await.unwrap();
        store.close().await.unwrap();
    }
}
