//! The engine of one database: commits in, changes out.
//!
//! A commit goes through the [`lane`] (order, rules, durability) into the change log and to the
//! [`fanout`] (groups of identical targets), which puts shared frames into the [`outbox`] of every
//! connection that listens. [`attach`] brings a new or resumed target to the point from which live
//! changes continue. The session drives a [`Connection`]; nothing here knows of sockets.

mod attach;
mod catalog;
mod coalesce;
mod collab;
mod commit;
mod connection;
mod delta;
mod digest;
mod error;
mod fanout;
mod groups;
mod index;
mod interest;
mod keys;
mod lane;
mod load;
mod metrics;
mod options;
mod outbox;
mod outcomes;
mod query;
mod reads;
mod records;
mod refusals;
mod retention;
mod shared;
mod source;
mod stage;
mod tally;
mod tombstones;
mod window;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tidemark_protocol::model::{ClientId, Code, Incarnation, Timestamp, Version, WriteId};
use tidemark_protocol::wire::server::{ServerMessage, Status};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

pub use connection::{Connection, ConnectionId};
pub use error::EngineError;
pub use index::{ExemptionStatus, IndexCheck, IndexState, IndexStatus, Progress};
pub use metrics::{EngineMetrics, Metric};
pub use options::DatabaseOptions;

use crate::clock::Clock;
use crate::store::Store;
use crate::tasks::Tasks;
use fanout::{Fanout, FanoutCommand};
use lane::{Lane, LaneCommand};
use outbox::Outbox;
use shared::{ADMISSION_BYTES, ADMISSION_UNIT, Published, Shared};

/// Batches that may wait for the fan-out before the lane does.
const BATCH_QUEUE: usize = 16;
/// Commands that may wait for the fan-out before connections do.
const COMMAND_QUEUE: usize = 1_024;

/// When a connection that another of its client has replaced may come again. Never would be too late: a
/// Hello that was long under way can replace the connection that the client has now. Soon would let two
/// copies of one client push each other out all the time.
const TAKEN_OVER: Duration = Duration::from_secs(5);

/// Names a database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseName {
    /// The project it belongs to.
    pub project: String,
    /// Its own name; Firestore's default is `(default)`.
    pub database: String,
}

/// Memory set aside for one frame; given back when dropped.
#[derive(Debug)]
pub struct Admission {
    _permit: OwnedSemaphorePermit,
}

/// An open database. Clones are the same database.
#[derive(Clone)]
pub struct Database {
    shared: Arc<Shared>,
    lane: mpsc::Sender<LaneCommand>,
    fanout: mpsc::Sender<FanoutCommand>,
    last_connection: Arc<AtomicU64>,
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Database").field("keys", &self.shared.keys).finish_non_exhaustive()
    }
}

impl Database {
    /// Opens a database of the store, creating it if need be, and starts its tasks. At most one at a
    /// time may have a database open.
    pub async fn open(
        store: Arc<dyn Store>,
        name: &DatabaseName,
        options: DatabaseOptions,
        clock: Arc<dyn Clock>,
        tasks: &Tasks,
    ) -> Result<Database, EngineError> {
        let fresh = Incarnation(clock.seed().next());
        let (keys, meta) =
            catalog::open(&store, &name.project, &name.database, clock.now(), fresh).await?;
        let snapshot = store.snapshot().await?;
        let indexes = Arc::new(index::load(&*snapshot, keys).await?);
        let published = Published { version: Version(meta.last_version), snapshot, indexes };
        let shared = Arc::new(Shared::new(
            options,
            clock,
            keys,
            Incarnation(meta.incarnation),
            tasks.spawner(),
            published.clone(),
        ));
        let (lane, lane_commands) = mpsc::channel(shared.options.lane_queue);
        let (fanout, fanout_commands) = mpsc::channel(COMMAND_QUEUE);
        let (batches, batch_queue) = mpsc::channel(BATCH_QUEUE);
        let commit_lane =
            Lane::new(store, keys, Arc::clone(&shared), batches, meta, published.clone());
        let builder = index::run(Arc::clone(&shared), lane.downgrade(), commit_lane.index_work());
        tasks.spawn("index-builder", builder);
        tasks.spawn("commit-lane", commit_lane.run(lane_commands));
        let fan_out = Fanout::new(Arc::clone(&shared), fanout.downgrade(), published);
        tasks.spawn("fan-out", fan_out.run(batch_queue, fanout_commands));
        Ok(Database { shared, lane, fanout, last_connection: Arc::default() })
    }

    /// The life of the database that resume tokens belong to.
    pub fn incarnation(&self) -> Incarnation {
        self.shared.incarnation
    }

    /// The server's time.
    pub fn now(&self) -> Timestamp {
        self.shared.clock.now()
    }

    /// The newest durable commit.
    pub fn version(&self) -> Version {
        self.shared.published().version
    }

    /// Counters and gauges.
    pub fn metrics(&self) -> &EngineMetrics {
        &self.shared.metrics
    }

    /// Waits until there is memory for a frame of this many bytes. To be asked for before the frame
    /// is decoded and kept until it has been carried out, so that the frames of all connections
    /// together stay within a bound.
    pub async fn admit(&self, frame_bytes: usize) -> Admission {
        let units = frame_bytes.min(ADMISSION_BYTES) / ADMISSION_UNIT + 1;
        let units = u32::try_from(units.min(ADMISSION_BYTES / ADMISSION_UNIT)).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.shared.room);
        let permit = room.acquire_many_owned(units).await;
        Admission { _permit: permit.expect("the room is never closed") }
    }

    /// Why the database takes no more commits, if so: its store failed, a restart is needed.
    pub fn failure(&self) -> Option<&str> {
        self.shared.failure()
    }

    /// Connects a client. Older connections of the same client can commit no more: they are told to
    /// go away and end.
    pub async fn connect(
        &self,
        client: ClientId,
        acknowledged_through: WriteId,
    ) -> Result<Connection, Status> {
        let id = ConnectionId(self.last_connection.fetch_add(1, Ordering::Relaxed) + 1);
        let outbox = Arc::new(Outbox::new(id, Arc::clone(&self.shared), self.fanout.clone()));
        if let Some(former) = self.shared.register(client, id, &outbox) {
            let message = "another connection of this client has taken over".to_owned();
            let status = Status { code: Code::Aborted, message };
            former.send(&ServerMessage::GoAway { status, reconnect_after: Some(TAKEN_OVER) });
            former.close();
        }
        let (shared, lane) = (Arc::clone(&self.shared), self.lane.clone());
        let connection = Connection::new(client, outbox, shared, lane, self.fanout.clone());
        if acknowledged_through > WriteId(0) {
            connection.acknowledge(acknowledged_through).await;
        }
        Ok(connection)
    }

    /// Answers the commits that are queued, then takes no more.
    pub async fn close(&self) {
        let (done, finished) = oneshot::channel();
        if self.lane.send(LaneCommand::Close { done }).await.is_ok() {
            // An error means that the lane has ended, which is what is waited for.
            let _ = finished.await;
        }
    }
}
