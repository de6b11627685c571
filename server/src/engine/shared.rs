//! What the lane, the fan-out and the connections of a database share.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, Weak};

use tidemark_protocol::model::{ClientId, Incarnation, Version};

use super::connection::ConnectionId;
use super::index::IndexSet;
use super::keys::Keys;
use super::metrics::EngineMetrics;
use super::options::DatabaseOptions;
use super::outbox::Outbox;
use tokio::sync::{Semaphore, watch};

use crate::clock::Clock;
use crate::store::Snapshot;
use crate::tasks::Spawner;

/// Encoded bytes of the frames that are decoded or wait for the lane, over all connections; more
/// than the largest frame.
pub(super) const ADMISSION_BYTES: usize = 32 << 20;
/// What admissions are counted in.
pub(super) const ADMISSION_UNIT: usize = 1 << 10;

/// The newest durable state.
#[derive(Clone)]
pub(super) struct Published {
    pub(super) version: Version,
    pub(super) snapshot: Arc<dyn Snapshot>,
    /// What is indexed in the snapshot.
    pub(super) indexes: Arc<IndexSet>,
}

/// The newest connection of a client.
struct Registered {
    connection: ConnectionId,
    outbox: Weak<Outbox>,
}

pub(super) struct Shared {
    pub(super) options: DatabaseOptions,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) metrics: EngineMetrics,
    pub(super) keys: Keys,
    pub(super) incarnation: Incarnation,
    pub(super) spawner: Spawner,
    /// Room for frames that are decoded or wait for the lane, in units of [`ADMISSION_UNIT`].
    pub(super) room: Arc<Semaphore>,
    /// Told when indexes have changed or come further, after that was published.
    pub(super) index_changes: watch::Sender<()>,
    published: RwLock<Published>,
    clients: Mutex<HashMap<ClientId, Registered>>,
    failed: OnceLock<String>,
}

impl Shared {
    pub(super) fn new(
        options: DatabaseOptions,
        clock: Arc<dyn Clock>,
        keys: Keys,
        incarnation: Incarnation,
        spawner: Spawner,
        published: Published,
    ) -> Shared {
        Shared {
            options,
            clock,
            metrics: EngineMetrics::default(),
            keys,
            incarnation,
            spawner,
            room: Arc::new(Semaphore::new(ADMISSION_BYTES / ADMISSION_UNIT)),
            index_changes: watch::Sender::new(()),
            published: RwLock::new(published),
            clients: Mutex::default(),
            failed: OnceLock::new(),
        }
    }

    /// The newest durable state: what one-shot reads see.
    pub(super) fn published(&self) -> Published {
        self.published.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Set by the lane after each batch and each change of the indexes.
    pub(super) fn publish(&self, published: Published) {
        *self.published.write().unwrap_or_else(PoisonError::into_inner) = published;
    }

    /// Makes this the only connection of the client that may commit; returns the one before.
    pub(super) fn register(
        &self,
        client: ClientId,
        connection: ConnectionId,
        outbox: &Arc<Outbox>,
    ) -> Option<Arc<Outbox>> {
        let registered = Registered { connection, outbox: Arc::downgrade(outbox) };
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        clients.insert(client, registered).and_then(|former| former.outbox.upgrade())
    }

    /// Whether this is the newest connection of the client.
    pub(super) fn is_current(&self, client: ClientId, connection: ConnectionId) -> bool {
        let clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        clients.get(&client).is_some_and(|registered| registered.connection == connection)
    }

    /// Removes the connection; true if it was the newest of the client.
    pub(super) fn unregister(&self, client: ClientId, connection: ConnectionId) -> bool {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let current = clients.get(&client).is_some_and(|it| it.connection == connection);
        if current {
            clients.remove(&client);
        }
        current
    }

    /// Set once by the lane when it can take no more commits.
    pub(super) fn fail(&self, reason: &str) {
        // Only the first reason counts.
        let _ = self.failed.set(reason.to_owned());
    }

    pub(super) fn failure(&self) -> Option<&str> {
        self.failed.get().map(String::as_str)
    }
}
