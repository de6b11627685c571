//! The commit lane: the one task that orders and writes the commits of a database.
//!
//! It drains its queue into one storage transaction, acknowledges when that is durable, and hands
//! the commits to the fan-out together with a snapshot of the state they left. Nothing else writes.

use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use tidemark_protocol::model::{ClientId, Code, CommitTime, Version, WriteId};
use tidemark_protocol::wire::client::Commit;
use tidemark_protocol::wire::server::{ServerMessage, Status};
use tokio::sync::{mpsc, oneshot, watch};

use super::Admission;
use super::collab::Collab;
use super::commit::CommitRecord;
use super::connection::ConnectionId;
use super::error::{EngineError, Rejection};
use super::fanout::Batch;
use super::index::{
    Chunk, Expected, IndexChange, IndexCommand, IndexSet, KeyWrite, KnownCollections, Step,
    next_chunk,
};
use super::keys::Keys;
use super::outbox::Outbox;
use super::outcomes::{Known, Outcomes};
use super::records::MetaRecord;
use super::refusals::ClientRefusals;
use super::retention;
use super::shared::{Published, Shared};
use super::stage::Stage;
use super::tombstones::{Tombstone, Trimming};
use crate::store::{Snapshot, Store, StoreError, Transaction};

/// How long after the last arrival a batch waits for the commits expected: a part of what writing
/// the last batch took, between these two.
const MIN_PAUSE: Duration = Duration::from_micros(50);
const MAX_PAUSE: Duration = Duration::from_micros(500);
/// How often the lane looks in vain before it stops waiting, whatever the clock says.
const MAX_IDLE_ROUNDS: u32 = 2_000;

/// How often an idle lane looks for log entries that have outlived their retention.
const TRIM_INTERVAL: Duration = Duration::from_secs(60);

/// Stored bytes after which a batch is written, however many commits wait.
const BATCH_BYTES: usize = 2 << 20;

/// What the lane is asked to do.
pub(super) enum LaneCommand {
    /// A commit; the answer goes to the outbox.
    Commit {
        client: ClientId,
        connection: ConnectionId,
        commit: Commit,
        outbox: Arc<Outbox>,
        /// Dropped when the commit has been staged.
        admission: Option<Admission>,
    },
    /// Outcomes have been received.
    Acknowledge { client: ClientId, connection: ConnectionId, through: WriteId },
    /// The client's connection has ended.
    Forget { client: ClientId },
    /// Change the indexes, or build them.
    Index(IndexCommand),
    /// Finish: everything queued before has been answered.
    Close { done: oneshot::Sender<()> },
}

/// An answer that leaves when the batch is durable.
struct Reply {
    client: ClientId,
    outbox: Arc<Outbox>,
    message: ServerMessage,
}

/// The state of the lane's task.
pub(super) struct Lane {
    store: Arc<dyn Store>,
    keys: Keys,
    shared: Arc<Shared>,
    fanout: mpsc::Sender<Batch>,
    /// As of the last durable batch.
    meta: MetaRecord,
    /// The state after the last durable batch.
    snapshot: Arc<dyn Snapshot>,
    /// What is indexed in it.
    indexes: Arc<IndexSet>,
    /// Told when there is work in the background.
    index_work: watch::Sender<()>,
    collections: KnownCollections,
    /// The histories of collaborative fields that are in memory, as of the last durable batch.
    collab: Collab,
    outcomes: Outcomes,
    /// What was refused for now on the newest connection of each client.
    refusals: ClientRefusals,
    /// Which tombstones go next.
    trimming: Trimming,
    /// Set when a batch failed: what is on disk is unknown, so nothing more is committed.
    failed: Option<String>,
    /// How many commands the next batch can be expected to hold: as many as the last one answered,
    /// whose writers may write again, and those that came while it was being written.
    expected: usize,
    /// How long the last batch took to write.
    writing: Duration,
}

/// A batch while it is being built.
struct Building {
    stage: Stage,
    commits: Vec<CommitRecord>,
    /// Of the documents that each commit left deleted.
    tombstones: Vec<(Version, Vec<Tombstone>)>,
    /// Index entries of the commits, in their order.
    index: Vec<KeyWrite>,
    replies: Vec<Reply>,
    last_version: Version,
    /// What its commits will store.
    bytes: usize,
}

impl Lane {
    pub(super) fn new(
        store: Arc<dyn Store>,
        keys: Keys,
        shared: Arc<Shared>,
        fanout: mpsc::Sender<Batch>,
        meta: MetaRecord,
        published: Published,
    ) -> Lane {
        let outcomes = Outcomes::default();
        let collab = Collab::new(shared.options.collaborative_bytes);
        let Published { snapshot, indexes, .. } = published;
        shared.metrics.index_builds.set(indexes.under_way());
        Lane {
            store,
            keys,
            shared,
            fanout,
            meta,
            snapshot,
            indexes,
            index_work: watch::Sender::new(()),
            collections: KnownCollections::default(),
            collab,
            outcomes,
            refusals: ClientRefusals::default(),
            trimming: Trimming::default(),
            failed: None,
            expected: 0,
            writing: Duration::ZERO,
        }
    }

    /// Runs until it is closed or nobody can send to it any more.
    pub(super) async fn run(mut self, mut commands: mpsc::Receiver<LaneCommand>) {
        let mut trim = tokio::time::interval(TRIM_INTERVAL);
        let mut queue = Vec::new();
        loop {
            let max = self.shared.options.group_commit_max;
            let received = tokio::select! {
                // In this order, so that a simulated run repeats: who waits goes before housekeeping.
                biased;
                received = commands.recv_many(&mut queue, max) => received,
                _ = trim.tick() => {
                    self.run_batch(vec![], &commands).await;
                    continue;
                }
            };
            if received == 0 {
                return;
            }
            self.gather(&mut queue, &mut commands).await;
            let batch = std::mem::take(&mut queue);
            if let Some(done) = self.run_batch(batch, &commands).await {
                // Whoever closes waits for this; if it does not, there is nobody to tell.
                let _ = done.send(());
                return;
            }
        }
    }

    /// Gives the expected commands a moment to come. A batch costs one fsync however much is in it:
    /// without this, writers that wait for their answers fall into two halves that take turns, and
    /// each waits for the other's fsync as well. A lone writer is never waited for.
    async fn gather(&self, batch: &mut Vec<LaneCommand>, queue: &mut mpsc::Receiver<LaneCommand>) {
        let wanted = self.expected.min(self.shared.options.group_commit_max);
        let pause = (self.writing / 8).clamp(MIN_PAUSE, MAX_PAUSE);
        let mut last = self.shared.clock.monotonic();
        // Bounded also by rounds, for a clock that stands still.
        let mut idle = 0;
        while batch.len() < wanted && idle < MAX_IDLE_ROUNDS {
            // Sessions read their sockets meanwhile. A timer would be too coarse.
            tokio::task::yield_now().await;
            let now = self.shared.clock.monotonic();
            if let Ok(command) = queue.try_recv() {
                batch.push(command);
                (last, idle) = (now, 0);
                continue;
            }
            idle += 1;
            if now.saturating_sub(last) > pause {
                return;
            }
        }
    }

    fn new_batch(&mut self) -> Building {
        let (snapshot, indexes) = (Arc::clone(&self.snapshot), Arc::clone(&self.indexes));
        let collections = std::mem::take(&mut self.collections);
        // Forgotten unless the batch becomes durable.
        let collab = Collab::new(self.shared.options.collaborative_bytes);
        let collab = std::mem::replace(&mut self.collab, collab);
        Building {
            stage: Stage::new(self.keys, snapshot, indexes, collections, collab),
            commits: Vec::new(),
            tombstones: Vec::new(),
            index: Vec::new(),
            replies: Vec::new(),
            last_version: Version(self.meta.last_version),
            bytes: 0,
        }
    }

    /// Carries out commands as one storage transaction. Returns who waits for the lane to close.
    async fn run_batch(
        &mut self,
        commands: Vec<LaneCommand>,
        queue: &mpsc::Receiver<LaneCommand>,
    ) -> Option<oneshot::Sender<()>> {
        let mut batch = self.new_batch();
        let (mut closing, mut index_commands) = (None, Vec::new());
        for command in commands {
            match command {
                LaneCommand::Commit { client, connection, commit, outbox, admission } => {
                    self.commit(&mut batch, client, connection, &commit, outbox).await;
                    drop((commit, admission));
                    if batch.bytes >= BATCH_BYTES {
                        self.finish(batch, queue).await;
                        batch = self.new_batch();
                    }
                }
                LaneCommand::Acknowledge { client, connection, through } => {
                    if self.shared.is_current(client, connection) {
                        self.outcomes.acknowledge(client, through);
                    }
                }
                LaneCommand::Forget { client } => {
                    self.outcomes.unload(client);
                    self.refusals.forget(client, &self.shared);
                }
                LaneCommand::Index(command) => index_commands.push(command),
                LaneCommand::Close { done } => closing = Some(done),
            }
        }
        self.finish(batch, queue).await;
        // They are transactions of their own: in between they would divide the batch.
        for command in index_commands {
            self.index(command).await;
        }
        closing
    }

    async fn commit(
        &mut self,
        batch: &mut Building,
        client: ClientId,
        connection: ConnectionId,
        commit: &Commit,
        outbox: Arc<Outbox>,
    ) {
        if !self.shared.is_current(client, connection) {
            // A newer connection of this client sends what it has no outcome for again.
            return;
        }
        let write_id = commit.write_id;
        let message = match self.try_commit(batch, client, connection, commit).await {
            Ok(message) => message,
            Err(rejection) => {
                let status = match rejection {
                    Rejection::Refused(status) => status,
                    Rejection::Failed(error) => {
                        tracing::error!(%error, "a commit could not be carried out");
                        error.status()
                    }
                };
                self.shared.metrics.commits_rejected.add(1);
                ServerMessage::Rejected { write_id, status }
            }
        };
        self.refusals.answered(client, connection, &message);
        // Also a rejection waits: it may rest on a commit of this batch that is not durable yet.
        batch.replies.push(Reply { client, outbox, message });
    }

    async fn try_commit(
        &mut self,
        batch: &mut Building,
        client: ClientId,
        connection: ConnectionId,
        commit: &Commit,
    ) -> Result<ServerMessage, Rejection> {
        if let Some(reason) = &self.failed {
            return Err(EngineError::Unavailable(reason.clone()).into());
        }
        let write_id = commit.write_id;
        self.outcomes.load(client, self.keys, &self.snapshot).await?;
        self.outcomes.acknowledge(client, commit.acknowledged_through);
        if let Known::Committed(outcome) = self.outcomes.lookup(client, write_id)? {
            self.shared.metrics.commits_repeated.add(1);
            let results = outcome.results(commit.writes.len())?;
            let version = Version(outcome.version);
            return Ok(ServerMessage::Committed { write_id, version, results });
        }
        if let Some(status) = self.refusals.of_follower(client, connection, commit.follows) {
            return Err(Rejection::Refused(status));
        }
        let now = u64::try_from(self.shared.clock.now().as_micros()).unwrap_or(0);
        let version = Version(now.max(batch.last_version.0 + 1));
        // A transaction has read what is now.
        let stamp = commit.edit_time.filter(|_| commit.reads.is_empty());
        let at = CommitTime::at_commit(version, stamp);
        let staged = batch.stage.apply(&commit.writes, &commit.reads, at).await?;
        batch.last_version = version;
        batch.bytes += staged.stored_bytes;
        batch.index.extend(staged.index);
        if !staged.tombstones.is_empty() {
            batch.tombstones.push((version, staged.tombstones));
        }
        self.outcomes.record(client, write_id, version, &staged.results);
        batch.commits.push(CommitRecord { version, changes: staged.changes, origin: connection });
        Ok(ServerMessage::Committed { write_id, version, results: staged.results })
    }

    /// Makes the batch durable, then answers and tells the fan-out.
    async fn finish(&mut self, batch: Building, queue: &mpsc::Receiver<LaneCommand>) {
        let Building { stage, commits, tombstones, index, mut replies, last_version, .. } = batch;
        let written = match &self.failed {
            Some(_) => false,
            None => match self.write(&commits, &tombstones, index, last_version).await {
                Ok(()) => {
                    (self.collections, self.collab) = stage.into_known();
                    self.collab.shrink();
                    true
                }
                Err(error) => {
                    self.batch_failed(&error, &mut replies);
                    false
                }
            },
        };
        self.expected = replies.len() + queue.len();
        if written && !commits.is_empty() {
            self.shared.metrics.commits.add(commits.len() as u64);
            let (snapshot, indexes) = (Arc::clone(&self.snapshot), Arc::clone(&self.indexes));
            // Waits when the fan-out is behind, so that commits never outrun it without bound. It
            // ends only after the lane.
            let _ = self.fanout.send(Batch { commits, snapshot, indexes }).await;
        }
        for Reply { outbox, message, .. } in replies {
            outbox.answer_commit(&message);
        }
    }

    /// Nothing of the batch is acknowledged. Unless the store promises that nothing was applied,
    /// nobody knows what a restart will find, and no more is committed until then.
    fn batch_failed(&mut self, error: &EngineError, replies: &mut [Reply]) {
        self.outcomes.clear();
        let status = self.write_failed(error);
        for reply in replies {
            if let ServerMessage::Committed { write_id, .. } = reply.message {
                let status = status.clone();
                reply.message = ServerMessage::Rejected { write_id, status };
                self.refusals.answered(reply.client, reply.outbox.id, &reply.message);
            }
        }
    }

    /// What whoever asked for a write that failed is told.
    fn write_failed(&mut self, error: &EngineError) -> Status {
        if let EngineError::Store(StoreError::TooLarge { .. }) = error {
            let message = "too much was to be written at once; retry".to_owned();
            return Status { code: Code::ResourceExhausted, message };
        }
        let reason = "the store failed; the server must be restarted".to_owned();
        tracing::error!(%error, "a batch could not be made durable; no more commits are taken");
        self.shared.fail(&reason);
        self.failed = Some(reason.clone());
        EngineError::Unavailable(reason).status()
    }

    /// Writes the batch as one transaction and moves the snapshot on.
    async fn write(
        &mut self,
        commits: &[CommitRecord],
        tombstones: &[(Version, Vec<Tombstone>)],
        index: Vec<KeyWrite>,
        last_version: Version,
    ) -> Result<(), EngineError> {
        let mut meta = self.meta.clone();
        let (options, now) = (&self.shared.options, self.shared.clock.now());
        let mut trimmed =
            retention::expired(options, now, self.keys, &mut meta, &self.snapshot).await?;
        let last = Version(meta.last_version);
        let retained = options.tombstone_retention;
        let (forgotten, trimming) =
            self.trimming.expired(retained, now, self.keys, last, &self.snapshot).await?;
        trimmed.extend(forgotten);
        if commits.is_empty() && trimmed.is_empty() && !self.outcomes.is_dirty() {
            self.trimming = trimming;
            return Ok(());
        }
        let begun = self.shared.clock.monotonic();
        let mut transaction = self.store.begin().await?;
        for key in trimmed {
            transaction.delete(key);
        }
        for commit in commits {
            add(&mut *transaction, self.entries(commit, &mut meta));
        }
        for (version, tombstones) in tombstones {
            let entries = tombstones.iter().flat_map(|it| it.entries(self.keys, *version));
            add(&mut *transaction, entries);
        }
        self.shared.metrics.index_entries.add(index.len() as u64);
        add(&mut *transaction, index);
        for (client, record) in self.outcomes.take_dirty() {
            transaction.put(self.keys.client(client), record.into());
        }
        meta.last_version = last_version.0;
        transaction.put(self.keys.meta(), meta.encode_to_vec().into());
        transaction.commit().await?;
        self.writing = self.shared.clock.monotonic().saturating_sub(begun);
        self.snapshot = self.store.snapshot().await?;
        self.shared.metrics.batches.add(1);
        self.shared.metrics.log_bytes.set(meta.log_bytes);
        (self.meta, self.trimming) = (meta, trimming);
        self.publish();
        Ok(())
    }

    /// Shows readers the newest durable state.
    fn publish(&self) {
        self.shared.publish(Published {
            version: Version(self.meta.last_version),
            snapshot: Arc::clone(&self.snapshot),
            indexes: Arc::clone(&self.indexes),
        });
    }

    /// Tells when there is work in the background; ends with the lane.
    pub(super) fn index_work(&self) -> watch::Receiver<()> {
        let mut work = self.index_work.subscribe();
        work.mark_changed();
        work
    }

    /// Changes the indexes, or writes a chunk of the work in the background. No batch is under way.
    async fn index(&mut self, command: IndexCommand) {
        match command {
            IndexCommand::Change { change, done } => {
                // Nobody may wait for the answer any more.
                let _ = done.send(self.change_indexes(change).await);
            }
            IndexCommand::Step { expected, done } => {
                let step = self.index_step(expected).await.unwrap_or_else(|error| {
                    tracing::error!(%error, "indexes cannot be built");
                    Step::Idle
                });
                let _ = done.send(step);
            }
        }
    }

    async fn change_indexes(&mut self, change: IndexChange) -> Result<(), EngineError> {
        if let Some(reason) = &self.failed {
            return Err(EngineError::Unavailable(reason.clone()));
        }
        let mut indexes = (*self.indexes).clone();
        let writes = indexes.apply(self.keys, change)?;
        self.write_indexes(vec![writes], indexes).await?;
        self.tell_indexes().await;
        self.index_work.send_replace(());
        Ok(())
    }

    async fn index_step(&mut self, expected: Option<Expected>) -> Result<Step, EngineError> {
        if self.failed.is_some() {
            return Ok(Step::Idle);
        }
        if let Some(Expected { collection_id, documents }) = expected {
            Arc::make_mut(&mut self.indexes).expect(collection_id.as_deref(), documents);
        }
        let most = self.shared.options.index_chunk.max(1);
        let chunk = next_chunk(&self.indexes, &self.snapshot, self.keys, most).await?;
        let Some(Chunk { transactions, indexes, finishes, entries, documents }) = chunk else {
            return Ok(Step::Idle);
        };
        self.write_indexes(transactions, indexes).await?;
        self.shared.metrics.index_build_entries.add(entries);
        self.shared.metrics.index_build_documents.add(documents);
        if finishes {
            self.tell_indexes().await;
        }
        Ok(Step::Done)
    }

    /// Writes what moves the indexes on, and shows readers the state after it.
    async fn write_indexes(
        &mut self,
        transactions: Vec<Vec<KeyWrite>>,
        indexes: IndexSet,
    ) -> Result<(), EngineError> {
        let committed = self.commit_indexes(transactions).await;
        self.snapshot = committed.map_err(|error| {
            // What is stored may be ahead of what the lane knows.
            self.write_failed(&error);
            closed()
        })?;
        self.shared.metrics.index_builds.set(indexes.under_way());
        self.indexes = Arc::new(indexes);
        self.publish();
        self.shared.index_changes.send_replace(());
        Ok(())
    }

    async fn commit_indexes(
        &self,
        transactions: Vec<Vec<KeyWrite>>,
    ) -> Result<Arc<dyn Snapshot>, EngineError> {
        for writes in transactions {
            let mut transaction = self.store.begin().await?;
            add(&mut *transaction, writes);
            transaction.commit().await?;
        }
        Ok(self.store.snapshot().await?)
    }

    /// Tells the fan-out that other indexes can be used.
    async fn tell_indexes(&self) {
        let (snapshot, indexes) = (Arc::clone(&self.snapshot), Arc::clone(&self.indexes));
        // It ends only after the lane.
        let _ = self.fanout.send(Batch { commits: vec![], snapshot, indexes }).await;
    }

    /// The documents and the log entry of one commit. A commit that changed nothing has none.
    fn entries(&self, commit: &CommitRecord, meta: &mut MetaRecord) -> Vec<KeyWrite> {
        if commit.changes.is_empty() {
            return vec![];
        }
        let mut entries = Vec::with_capacity(commit.changes.len() + 1);
        for change in &commit.changes {
            let after = change.after.as_ref().map(|stored| stored.bytes.clone());
            entries.push((self.keys.document(&change.path), after));
        }
        let (key, record) = (self.keys.log(commit.version), commit.log_record().encode_to_vec());
        meta.log_bytes += (key.len() + record.len()) as u64;
        entries.push((key, Some(record.into())));
        entries
    }
}

/// Adds writes to a transaction.
fn add(transaction: &mut dyn Transaction, writes: impl IntoIterator<Item = KeyWrite>) {
    for (key, value) in writes {
        match value {
            Some(value) => transaction.put(key, value),
            None => transaction.delete(key),
        }
    }
}

/// What is answered when the lane has ended, or cannot write.
pub(super) fn closed() -> EngineError {
    EngineError::Unavailable("it is closing, or its store has failed".to_owned())
}
