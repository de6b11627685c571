//! The task that has the lane do the work in the background, chunk after chunk, until there is no
//! more; then it waits for the next change of the indexes.

use std::sync::Arc;

use tidemark_protocol::model::CollectionPath;
use tokio::sync::{mpsc, oneshot, watch};

use super::set::Phase;
use super::{IndexChange, IndexSet};
use crate::engine::error::EngineError;
use crate::engine::keys::Keys;
use crate::engine::lane::LaneCommand;
use crate::engine::shared::Shared;
use crate::store::{KeyRange, ScanDirection, Snapshot};

/// Documents counted at a time: each may be large.
const COUNT_ROWS: usize = 64;

/// What the lane is asked about indexes.
pub(in crate::engine) enum IndexCommand {
    /// From an administrator.
    Change { change: IndexChange, done: oneshot::Sender<Result<(), EngineError>> },
    /// From the builder: write one chunk.
    Step { expected: Option<Expected>, done: oneshot::Sender<Step> },
}

/// How many documents the next work will read.
pub(in crate::engine) struct Expected {
    /// None: all.
    pub(in crate::engine) collection_id: Option<String>,
    pub(in crate::engine) documents: u64,
}

/// What came of asking for a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) enum Step {
    /// It is written.
    Done,
    /// There is nothing to do, or nothing that can be done.
    Idle,
}

/// Runs until the lane has ended. `changes` is the lane's: it tells that there is new work.
pub(in crate::engine) async fn run(
    shared: Arc<Shared>,
    lane: mpsc::WeakSender<LaneCommand>,
    mut changes: watch::Receiver<()>,
) {
    loop {
        while step(&shared, &lane).await == Some(Step::Done) {}
        if changes.changed().await.is_err() {
            return;
        }
    }
}

/// Has the lane write one chunk; none if it has ended.
async fn step(shared: &Shared, lane: &mpsc::WeakSender<LaneCommand>) -> Option<Step> {
    let published = shared.published();
    let expected = expected(&published.indexes, &*published.snapshot, shared.keys).await;
    drop(published);
    let expected = expected.unwrap_or_else(|error| {
        tracing::warn!(%error, "the documents to be indexed could not be counted");
        None
    });
    let (done, answer) = oneshot::channel();
    let command = LaneCommand::Index(IndexCommand::Step { expected, done });
    // Not kept: the lane ends when nobody else can send to it.
    lane.upgrade()?.send(command).await.ok()?;
    answer.await.ok()
}

/// Counts the documents that the next work will read, before it begins.
async fn expected(
    indexes: &IndexSet,
    snapshot: &dyn Snapshot,
    keys: Keys,
) -> Result<Option<Expected>, EngineError> {
    let Some((job, work)) = indexes.next_job() else { return Ok(None) };
    if work.phase != Phase::Fill || !work.cursor.after.is_empty() {
        return Ok(None);
    }
    let Some(collection_id) = job.collection_id() else {
        let documents = count(snapshot, keys.documents()).await?;
        return Ok(Some(Expected { collection_id: None, documents }));
    };
    let mut documents = 0;
    let mut collections = keys.collections_of(collection_id);
    loop {
        let next = snapshot.scan(collections.clone(), ScanDirection::Forward, 1).await?;
        let Some((key, _)) = next.into_iter().next() else { break };
        let collection: CollectionPath = Keys::collection_of(&key).map_err(EngineError::corrupt)?;
        documents += count(snapshot, keys.collection(&collection)).await?;
        collections.go_past(&key, ScanDirection::Forward);
    }
    Ok(Some(Expected { collection_id: Some(collection_id.to_owned()), documents }))
}

async fn count(snapshot: &dyn Snapshot, mut range: KeyRange) -> Result<u64, EngineError> {
    let mut count = 0;
    loop {
        let rows = snapshot.scan(range.clone(), ScanDirection::Forward, COUNT_ROWS).await?;
        count += rows.len() as u64;
        let Some((last, _)) = rows.last() else { return Ok(count) };
        range.go_past(last, ScanDirection::Forward);
        // A store in memory never waits: others get their turn here.
        tokio::task::yield_now().await;
    }
}
