//! A store on a virtual disk: ordered, with snapshots, and able to crash with its last commit kept or
//! lost. The server's engine drives it through the traits of `tidemark_server::store`; the world
//! crashes it. It must not know a time or chance of its own.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tidemark_server::store::{
    Key, KeyRange, MAX_KEY, MAX_TRANSACTION, PER_WRITE, ScanDirection, Snapshot, Store, StoreError,
    Transaction,
};

type Writes = BTreeMap<Key, Option<Bytes>>;

/// What the platters hold; survives the crash of the server.
#[derive(Default)]
struct Platters {
    /// The states of each key that a snapshot may still want to see, newest last.
    rows: BTreeMap<Key, Vec<(u64, Option<Bytes>)>>,
    /// Numbers the commits.
    last: u64,
    /// What was deleted, and by which commit: forgotten when no reader is older.
    deleted: VecDeque<(u64, Key)>,
    /// How many snapshots and transactions look at each commit.
    readers: BTreeMap<u64, usize>,
    /// Whoever opened the store before this many crashes or closings has no say any more.
    epoch: u64,
    /// Handed over for commit, not yet on the platters.
    in_flight: Option<Writes>,
}

impl Platters {
    fn apply(&mut self, writes: Writes) {
        self.last += 1;
        let oldest = self.readers.keys().next().copied().unwrap_or(self.last);
        for (key, value) in writes {
            let states = self.rows.entry(key.clone()).or_default();
            states.push((self.last, value));
            // Those before the last that the oldest reader sees are seen by nobody.
            let seen = states.iter().rposition(|(at, _)| *at <= oldest).unwrap_or(0);
            states.drain(..seen);
            if let Some((at, None)) = states.last() {
                self.deleted.push_back((*at, key));
            }
        }
        self.forget_deleted(oldest);
    }

    fn forget_deleted(&mut self, oldest: u64) {
        while let Some((at, key)) = self.deleted.pop_front() {
            if at > oldest {
                return self.deleted.push_front((at, key));
            }
            let last = self.rows.get(&key).and_then(|states| states.last());
            if last.is_some_and(|(last, value)| *last == at && value.is_none()) {
                self.rows.remove(&key);
            }
        }
    }

    fn state(states: &[(u64, Option<Bytes>)], at: u64) -> Option<&Bytes> {
        states.iter().rev().find(|(written, _)| *written <= at)?.1.as_ref()
    }

    fn get(&self, key: &[u8], at: u64) -> Option<Bytes> {
        Platters::state(self.rows.get(key)?, at).cloned()
    }

    fn changed_since(&self, key: &[u8], at: u64) -> bool {
        self.rows.get(key).and_then(|states| states.last()).is_some_and(|(last, _)| *last > at)
    }
}

/// A virtual disk. Clones are the same disk.
#[derive(Clone, Default)]
pub struct Disk {
    platters: Arc<Mutex<Platters>>,
    /// One commit at a time.
    turn: Arc<tokio::sync::Mutex<()>>,
    /// How long a commit takes.
    sync: Duration,
}

impl Disk {
    /// An empty disk whose commits take this long.
    pub fn new(sync: Duration) -> Disk {
        Disk { sync, ..Disk::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Platters> {
        self.platters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens the disk.
    pub fn open(&self) -> Arc<dyn Store> {
        let epoch = self.lock().epoch;
        Arc::new(Opened { disk: self.clone(), epoch })
    }

    /// The power goes: the commit under way is on the disk or is not, and whoever has the disk open
    /// can do nothing with it any more.
    pub fn crash(&mut self, keep: bool) {
        // A task that held the turn may have died with it.
        self.turn = Arc::default();
        let mut platters = self.lock();
        platters.epoch += 1;
        let in_flight = platters.in_flight.take();
        if let Some(writes) = in_flight.filter(|_| keep) {
            platters.apply(writes);
        }
    }

    /// Loses the last commit although it was acknowledged: a fault that no disk may have.
    pub fn forget_last(&mut self) {
        let mut platters = self.lock();
        let last = platters.last;
        for states in platters.rows.values_mut().filter(|states| states.len() > 1) {
            states.retain(|(at, _)| *at != last);
        }
    }

    /// Keys and values on the disk, in bytes.
    pub fn bytes(&self) -> usize {
        let newest = |states: &[(u64, Option<Bytes>)]| {
            states.last().and_then(|(_, value)| value.as_ref()).map_or(0, Bytes::len)
        };
        self.lock().rows.iter().map(|(key, states)| key.len() + newest(states)).sum()
    }
}

struct Opened {
    disk: Disk,
    epoch: u64,
}

impl Opened {
    fn check(&self) -> Result<MutexGuard<'_, Platters>, StoreError> {
        let platters = self.disk.lock();
        if platters.epoch == self.epoch { Ok(platters) } else { Err(StoreError::Closed) }
    }

    fn view(&self) -> Result<View, StoreError> {
        let mut platters = self.check()?;
        let at = platters.last;
        *platters.readers.entry(at).or_default() += 1;
        drop(platters);
        Ok(View { disk: self.disk.clone(), at })
    }
}

#[async_trait]
impl Store for Opened {
    fn name(&self) -> &'static str {
        "simulated"
    }

    async fn snapshot(&self) -> Result<Arc<dyn Snapshot>, StoreError> {
        Ok(Arc::new(self.view()?))
    }

    async fn begin(&self) -> Result<Box<dyn Transaction>, StoreError> {
        let (view, epoch) = (self.view()?, self.epoch);
        Ok(Box::new(Begun { view, epoch, writes: Writes::new(), read: Vec::new() }))
    }

    async fn close(&self) -> Result<(), StoreError> {
        let mut platters = self.disk.lock();
        if platters.epoch == self.epoch {
            platters.epoch += 1;
        }
        Ok(())
    }
}

/// The state after a commit; kept on the disk for as long as this is.
struct View {
    disk: Disk,
    at: u64,
}

impl Drop for View {
    fn drop(&mut self) {
        let mut platters = self.disk.lock();
        if let Some(readers) = platters.readers.get_mut(&self.at) {
            *readers -= 1;
            if *readers == 0 {
                platters.readers.remove(&self.at);
            }
        }
    }
}

fn check_key(key: &[u8]) -> Result<(), StoreError> {
    match key.len() {
        1..=MAX_KEY => Ok(()),
        length => Err(StoreError::InvalidKey { length }),
    }
}

#[async_trait]
impl Snapshot for View {
    async fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        check_key(key)?;
        Ok(self.disk.lock().get(key, self.at))
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Bytes>>, StoreError> {
        keys.iter().try_for_each(|key| check_key(key))?;
        let platters = self.disk.lock();
        Ok(keys.iter().map(|key| platters.get(key, self.at)).collect())
    }

    async fn scan(
        &self,
        range: KeyRange,
        direction: ScanDirection,
        limit: usize,
    ) -> Result<Vec<(Key, Bytes)>, StoreError> {
        if range.is_empty() {
            return Ok(vec![]);
        }
        let platters = self.disk.lock();
        let rows = platters.rows.range(range.start..range.end);
        let seen = |(key, states): (&Key, &Vec<(u64, Option<Bytes>)>)| {
            Some((key.clone(), Platters::state(states, self.at)?.clone()))
        };
        Ok(match direction {
            ScanDirection::Forward => rows.filter_map(seen).take(limit).collect(),
            ScanDirection::Backward => rows.rev().filter_map(seen).take(limit).collect(),
        })
    }
}

struct Begun {
    view: View,
    epoch: u64,
    writes: Writes,
    read: Vec<Key>,
}

impl Begun {
    fn check_size(&self) -> Result<(), StoreError> {
        self.writes.keys().try_for_each(|key| check_key(key))?;
        let size = |(key, value): (&Key, &Option<Bytes>)| {
            key.len() + value.as_ref().map_or(0, Bytes::len) + PER_WRITE
        };
        let bytes = self.writes.iter().map(size).sum();
        if bytes > MAX_TRANSACTION { Err(StoreError::TooLarge { bytes }) } else { Ok(()) }
    }
}

#[async_trait]
impl Transaction for Begun {
    async fn get(&mut self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        if let Some(own) = self.writes.get(key) {
            return Ok(own.clone());
        }
        self.read.push(key.to_vec());
        Ok(self.view.disk.lock().get(key, self.view.at))
    }

    fn put(&mut self, key: Key, value: Bytes) {
        self.writes.insert(key, Some(value));
    }

    fn delete(&mut self, key: Key) {
        self.writes.insert(key, None);
    }

    async fn commit(self: Box<Self>) -> Result<(), StoreError> {
        self.check_size()?;
        let Begun { view, epoch, writes, read } = *self;
        let turn = Arc::clone(&view.disk.turn);
        let _turn = turn.lock().await;
        let lock = || {
            let platters = view.disk.lock();
            if platters.epoch == epoch { Ok(platters) } else { Err(StoreError::Closed) }
        };
        {
            let mut platters = lock()?;
            if read.iter().chain(writes.keys()).any(|key| platters.changed_since(key, view.at)) {
                return Err(StoreError::Conflict);
            }
            platters.in_flight = Some(writes);
        }
        if view.disk.sync > Duration::ZERO {
            tokio::time::sleep(view.disk.sync).await;
        }
        let mut platters = lock()?;
        if let Some(writes) = platters.in_flight.take() {
            platters.apply(writes);
        }
        Ok(())
    }
}
