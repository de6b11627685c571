//! One client connection as the engine sees it. The session drives it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use tidemark_protocol::model::{
    AggregateQuery, ClientId, Code, DigestNode, DocumentPath, ModelError, Query, Target, TargetId,
    WriteId,
};
use tidemark_protocol::wire::client::{Commit, Listen};
use tidemark_protocol::wire::server::{ServerMessage, Status};
use tokio::sync::mpsc;

use super::Admission;
use super::fanout::FanoutCommand;
use super::lane::LaneCommand;
use super::outbox::Outbox;
use super::reads::{self, Read};
use super::shared::Shared;

/// Names a connection for the life of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub(super) u64);

/// A client's way into the database: requests go in, frames come out. Clones are the same
/// connection; it ends with [`Connection::close`] or the last of them.
#[derive(Clone)]
pub struct Connection {
    inner: Arc<Inner>,
}

struct Inner {
    client: ClientId,
    outbox: Arc<Outbox>,
    shared: Arc<Shared>,
    lane: mpsc::Sender<LaneCommand>,
    fanout: mpsc::Sender<FanoutCommand>,
    reads: Arc<AtomicUsize>,
    closed: AtomicBool,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("id", &self.inner.outbox.id).finish_non_exhaustive()
    }
}

impl Connection {
    pub(super) fn new(
        client: ClientId,
        outbox: Arc<Outbox>,
        shared: Arc<Shared>,
        lane: mpsc::Sender<LaneCommand>,
        fanout: mpsc::Sender<FanoutCommand>,
    ) -> Connection {
        let (reads, closed) = (Arc::default(), AtomicBool::new(false));
        Connection {
            inner: Arc::new(Inner { client, outbox, shared, lane, fanout, reads, closed }),
        }
    }

    /// Queues a control frame: Welcome, Pong, Error, GoAway.
    pub fn send(&self, message: &ServerMessage) {
        self.inner.outbox.send(message);
    }

    /// Queues a commit, waiting for room in the lane; its admission ends when the lane has taken it
    /// up. Committed or Rejected comes as a frame.
    pub async fn commit(&self, commit: Commit, admission: Option<Admission>) {
        let Inner { client, outbox, lane, .. } = &*self.inner;
        outbox.commit_queued();
        let (connection, write_id) = (outbox.id, commit.write_id);
        let outbox = Arc::clone(outbox);
        let client = *client;
        let command = LaneCommand::Commit { client, connection, commit, outbox, admission };
        if lane.send(command).await.is_err() {
            let message = "the server is shutting down; send the write again".to_owned();
            let status = Status { code: Code::Unavailable, message };
            self.inner.outbox.answer_commit(&ServerMessage::Rejected { write_id, status });
        }
    }

    /// Commits that were queued and not answered yet.
    pub fn commits_in_flight(&self) -> usize {
        self.inner.outbox.commits_in_flight()
    }

    /// The client has received the outcomes of all writes through this one.
    pub async fn acknowledge(&self, through: WriteId) {
        let Inner { client, outbox, lane, .. } = &*self.inner;
        let command = LaneCommand::Acknowledge { client: *client, connection: outbox.id, through };
        // A lane that has ended has nothing left to trim.
        let _ = lane.send(command).await;
    }

    /// Begins to listen. Listening and changes, or TargetError, come as frames.
    pub async fn listen(&self, listen: Listen) {
        if let Err(error) = check_target(&listen.target) {
            let (target, status) = (listen.target_id, status(error));
            return self.send(&ServerMessage::TargetError { target, status });
        }
        let target = listen.target_id;
        let (outbox, listen) = (Arc::clone(&self.inner.outbox), Box::new(listen));
        if self.inner.fanout.send(FanoutCommand::Listen { outbox, listen }).await.is_err() {
            let status = closing();
            self.send(&ServerMessage::TargetError { target, status });
        }
    }

    /// Ends a listen.
    pub async fn unlisten(&self, target: TargetId) {
        let connection = self.inner.outbox.id;
        // A fan-out that has ended sends nothing any more.
        let _ = self.inner.fanout.send(FanoutCommand::Unlisten { connection, target }).await;
    }

    /// Reads documents. Result or RequestError comes as frames.
    pub fn get(&self, request: u32, paths: Vec<DocumentPath>) {
        self.read(request, Read::Get(paths));
    }

    /// Answers a query. Result or RequestError comes as frames.
    pub fn query(&self, request: u32, query: Query, explain: bool) {
        if let Err(error) = query.validate() {
            let status = status(error);
            return self.send(&ServerMessage::RequestError { request, status });
        }
        self.read(request, Read::Query { query, explain });
    }

    /// Answers an aggregate query. AggregateResult or RequestError comes as a frame.
    pub fn aggregate(&self, request: u32, aggregate: AggregateQuery, explain: bool) {
        if let Err(error) = aggregate.validate() {
            let status = status(error);
            return self.send(&ServerMessage::RequestError { request, status });
        }
        self.read(request, Read::Aggregate { aggregate, explain });
    }

    /// Tells what branches of a target's digest hold. DigestResult or RequestError comes as a frame.
    pub fn digest(&self, request: u32, target: Target, nodes: Vec<DigestNode>) {
        if let Err(error) = check_target(&target) {
            let status = status(error);
            return self.send(&ServerMessage::RequestError { request, status });
        }
        self.read(request, Read::Digest { target, nodes });
    }

    fn read(&self, request: u32, read: Read) {
        let Inner { shared, outbox, reads, .. } = &*self.inner;
        let limit = shared.options.reads_in_flight;
        if reads.fetch_add(1, Ordering::Relaxed) >= limit {
            reads.fetch_sub(1, Ordering::Relaxed);
            let message = format!("{limit} reads are under way on this connection; await some");
            let status = Status { code: Code::ResourceExhausted, message };
            return self.send(&ServerMessage::RequestError { request, status });
        }
        let (reads, outbox) = (Arc::clone(reads), Arc::clone(outbox));
        let answer = reads::answer(Arc::clone(shared), outbox, request, read);
        shared.spawner.spawn("read", async move {
            answer.await;
            reads.fetch_sub(1, Ordering::Relaxed);
        });
    }

    /// The next frame to send; none when the connection is closed and control frames are taken. For
    /// one caller; giving up the future loses nothing.
    pub async fn next_frame(&self) -> Option<Bytes> {
        self.inner.outbox.next().await
    }

    /// A further frame that can be sent without waiting: what to send before a flush.
    pub fn try_next_frame(&self) -> Option<Bytes> {
        self.inner.outbox.try_next()
    }

    /// Bytes that wait to be sent.
    pub fn queued_bytes(&self) -> usize {
        self.inner.outbox.queued_bytes()
    }

    /// Ends the connection: its listens end, control frames can still be taken.
    pub fn close(&self) {
        self.inner.close();
    }
}

impl Inner {
    fn close(&self) {
        self.outbox.close();
        if self.closed.swap(true, Ordering::Relaxed) {
            return;
        }
        let (connection, client) = (self.outbox.id, self.client);
        let newest = self.shared.unregister(client, connection);
        let (lane, fanout) = (self.lane.clone(), self.fanout.clone());
        self.shared.spawner.spawn("disconnect", async move {
            // Tasks that have ended have forgotten already.
            let _ = fanout.send(FanoutCommand::Disconnect { connection }).await;
            if newest {
                let _ = lane.send(LaneCommand::Forget { client }).await;
            }
        });
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.close();
    }
}

/// Whether a target can be listened to.
fn check_target(target: &Target) -> Result<(), ModelError> {
    match target {
        Target::Query(query) => query.validate().and_then(|()| check_live(query)),
        Target::Aggregate(aggregate) => {
            aggregate.validate().and_then(|()| check_live(&aggregate.query))
        }
        Target::Documents(_) => Ok(()),
    }
}

fn check_live(query: &Query) -> Result<(), ModelError> {
    match &query.nearest {
        None => Ok(()),
        Some(_) => Err(ModelError::invalid(
            "a search for the nearest answers once, it cannot be listened to",
        )),
    }
}

fn status(error: ModelError) -> Status {
    Status { code: error.code, message: error.message }
}

fn closing() -> Status {
    let message = "the server is shutting down; connect again".to_owned();
    Status { code: Code::Unavailable, message }
}
