//! A store that counts what is read of it, by table.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use tidemark_server::store::{
    Key, KeyRange, ScanDirection, Snapshot, Store, StoreError, Transaction,
};

/// How many keys of each table have been got.
pub(crate) type Reads = Arc<Mutex<BTreeMap<char, usize>>>;

/// A store and its count.
pub(crate) struct Counting {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) reads: Reads,
}

struct View {
    snapshot: Arc<dyn Snapshot>,
    reads: Reads,
}

fn count(reads: &Reads, key: &[u8]) {
    // A number of four bytes comes before the table.
    let table = key.get(4).copied().unwrap_or_default();
    *reads.lock().unwrap().entry(table.into()).or_default() += 1;
}

#[async_trait]
impl Store for Counting {
    fn name(&self) -> &'static str {
        self.store.name()
    }

    async fn snapshot(&self) -> Result<Arc<dyn Snapshot>, StoreError> {
        let (snapshot, reads) = (self.store.snapshot().await?, Arc::clone(&self.reads));
        Ok(Arc::new(View { snapshot, reads }))
    }

    async fn begin(&self) -> Result<Box<dyn Transaction>, StoreError> {
        self.store.begin().await
    }

    async fn close(&self) -> Result<(), StoreError> {
        self.store.close().await
    }
}

#[async_trait]
impl Snapshot for View {
    async fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        count(&self.reads, key);
        self.snapshot.get(key).await
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Bytes>>, StoreError> {
        keys.iter().for_each(|key| count(&self.reads, key));
        self.snapshot.get_many(keys).await
    }

    async fn scan(
        &self,
        range: KeyRange,
        direction: ScanDirection,
        limit: usize,
    ) -> Result<Vec<(Key, Bytes)>, StoreError> {
        count(&self.reads, &range.start);
        self.snapshot.scan(range, direction, limit).await
    }
}
