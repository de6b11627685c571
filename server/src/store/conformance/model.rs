//! A random history played on a store and on an ordered map, which must agree at every step.
//!
//! Property tests drive it: they make the steps, [`follow_model`] plays them.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Fixture, bytes, opened};
use crate::store::{Key, KeyRange, ScanDirection, Snapshot, Store, Transaction};

/// A step of a random history.
#[derive(Debug, Clone)]
pub enum Step {
    /// Puts in the current transaction.
    Put(Key, Vec<u8>),
    /// Deletes in the current transaction.
    Delete(Key),
    /// Reads in the current transaction.
    Get(Key),
    /// Commits the current transaction and begins the next.
    Commit,
    /// Drops the current transaction and begins the next.
    Abort,
    /// Takes a snapshot and keeps it.
    Snapshot,
    /// Compares a scan of every kept snapshot.
    Scan(Key, Key, ScanDirection, usize),
    /// Closes and opens the store.
    Reopen,
}

type Model = BTreeMap<Key, Vec<u8>>;

/// What a store is compared with: ordered maps.
struct Run<F> {
    fixture: F,
    store: Arc<dyn Store>,
    transaction: Option<Box<dyn Transaction>>,
    committed: Model,
    /// The committed map with the writes of the current transaction.
    current: Model,
    snapshots: Vec<(Arc<dyn Snapshot>, Model)>,
}

/// Plays a history on a fresh store and on a map and panics at the first difference.
pub async fn follow_model<F: Fixture>(steps: Vec<Step>) {
    let (fixture, store) = opened::<F>().await;
    let transaction = Some(store.begin().await.unwrap());
    let (committed, current, snapshots) = (Model::new(), Model::new(), Vec::new());
    let mut run = Run { fixture, store, transaction, committed, current, snapshots };
    for step in steps {
        run.step(step).await;
    }
    run.step(Step::Commit).await;
    run.step(Step::Snapshot).await;
    let all = KeyRange::prefix(b"");
    run.step(Step::Scan(all.start, all.end, ScanDirection::Forward, usize::MAX)).await;
    run.snapshots.clear();
    run.store.close().await.unwrap();
}

impl<F: Fixture> Run<F> {
    async fn step(&mut self, step: Step) {
        let transaction = self.transaction.as_mut().unwrap();
        match step {
            Step::Put(key, value) => {
                transaction.put(key.clone(), bytes(&value));
                self.current.insert(key, value);
            }
            Step::Delete(key) => {
                transaction.delete(key.clone());
                self.current.remove(&key);
            }
            Step::Get(key) => {
                let found = transaction.get(&key).await.unwrap();
                assert_eq!(found.as_deref(), self.current.get(&key).map(Vec::as_slice), "{key:?}");
            }
            Step::Commit => {
                self.transaction.take().unwrap().commit().await.unwrap();
                self.committed.clone_from(&self.current);
                self.transaction = Some(self.store.begin().await.unwrap());
            }
            Step::Abort => {
                self.transaction = Some(self.store.begin().await.unwrap());
                self.current.clone_from(&self.committed);
            }
            Step::Snapshot => {
                let snapshot = self.store.snapshot().await.unwrap();
                self.snapshots.push((snapshot, self.committed.clone()));
            }
            Step::Scan(start, end, direction, limit) => {
                for (snapshot, model) in &self.snapshots {
                    let range = KeyRange { start: start.clone(), end: end.clone() };
                    compare_scan(&**snapshot, model, range, direction, limit).await;
                }
            }
            Step::Reopen => self.reopen().await,
        }
    }

    async fn reopen(&mut self) {
        self.transaction = None;
        self.snapshots.clear();
        self.store.close().await.unwrap();
        self.store = self.fixture.open().await.unwrap();
        if !F::DURABLE {
            self.committed.clear();
        }
        self.current.clone_from(&self.committed);
        self.transaction = Some(self.store.begin().await.unwrap());
    }
}

async fn compare_scan(
    snapshot: &dyn Snapshot,
    model: &Model,
    range: KeyRange,
    direction: ScanDirection,
    limit: usize,
) {
    let inside = || model.iter().filter(|(key, _)| **key >= range.start && **key < range.end);
    let expected: Vec<_> = match direction {
        ScanDirection::Forward => inside().take(limit).collect(),
        ScanDirection::Backward => inside().rev().take(limit).collect(),
    };
    let rows = snapshot.scan(range.clone(), direction, limit).await.unwrap();
    assert!(
        rows.iter()
            .map(|(key, value)| (&key[..], &value[..]))
            .eq(expected.iter().map(|(key, value)| (&key[..], &value[..]))),
        "{direction:?} {range:?} limit {limit}: {rows:?}, expected {expected:?}"
    );
    let asked: Vec<Key> = model.keys().cloned().collect();
    let found = snapshot.get_many(&asked).await.unwrap();
    assert!(found.iter().zip(model.values()).all(|(a, b)| a.as_deref() == Some(&b[..])));
}
