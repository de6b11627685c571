//! What waits to be sent on one connection: bounded, in version order, and never losing anything.
//!
//! Answers and small control frames go first. Then comes the stream of changes. An attach puts a
//! [`Bulk`](Entry::Bulk) into the stream, filled by its own task as fast as the connection takes
//! it; what is behind it waits, so that versions never decrease. When the changes of a slow
//! connection exceed the bound they are merged per document; when that is not enough, those at the
//! end are dropped and the connection continues from the version it was sent last, by replay.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tidemark_protocol::model::Version;
use tidemark_protocol::wire::codec;
use tidemark_protocol::wire::server::ServerMessage;
use tokio::sync::{Notify, mpsc};

use super::coalesce;
use super::connection::ConnectionId;
use super::delta::Delta;
use super::fanout::FanoutCommand;
use super::shared::Shared;

/// Bytes of one-shot results that may wait before their producers do.
const RESULT_BYTES: usize = 1 << 20;
/// Frames of an attach that may wait; its task waits beyond that.
const BULK_FRAMES: usize = 2;

/// One element of the stream of changes.
pub(super) enum Entry {
    /// Changes of a group; `partial` if the same commit goes on with another group.
    Delta { delta: Arc<Delta>, partial: bool },
    /// A consistent point without changes.
    Current(Version),
    /// The frames of an attach, ending with a consistent point at this version.
    Bulk { frames: mpsc::Receiver<Bytes>, version: Version },
}

#[derive(Default)]
struct Inner {
    control: VecDeque<Bytes>,
    control_bytes: usize,
    stream: VecDeque<Entry>,
    /// Bytes of the deltas in `stream`.
    stream_bytes: usize,
    /// The last consistent point taken for sending: where a dropped connection continues.
    sent: Version,
    /// Set when a partial frame is taken, cleared by the next that is not: the version whose changes
    /// the peer has been told in part. The rest of them must come, so it is neither merged nor
    /// dropped: a replay from `sent` would not take back what the part has told.
    open: Option<Version>,
    /// The last consistent point put in.
    queued: Version,
    /// Set when changes were dropped, cleared when a replay is put in.
    behind: bool,
    /// Whether the replay has been asked for.
    replay_requested: bool,
    /// The attach at the front has been taken out to wait for its next frame.
    bulk_taken: bool,
    closed: bool,
}

impl Inner {
    /// Whether a replay is to be asked for, once the stream is empty.
    fn wants_replay(&self) -> bool {
        self.behind && !self.replay_requested && !self.bulk_taken && self.open.is_none()
    }
}

/// The queue of one connection: the engine puts in, the session takes out.
pub(super) struct Outbox {
    pub(super) id: ConnectionId,
    shared: Arc<Shared>,
    fanout: mpsc::Sender<FanoutCommand>,
    inner: Mutex<Inner>,
    /// Something can be taken, or it is closed.
    ready: Notify,
    /// Results can be put in, or it is closed.
    room: Notify,
    commits_in_flight: AtomicUsize,
}

enum Next {
    Frame(Bytes),
    /// The front of the stream is an attach that has no frame ready.
    Wait(mpsc::Receiver<Bytes>, Version),
    /// Everything before what was dropped has been taken.
    Replay,
    Empty,
    Closed,
}

impl Outbox {
    pub(super) fn new(
        id: ConnectionId,
        shared: Arc<Shared>,
        fanout: mpsc::Sender<FanoutCommand>,
    ) -> Outbox {
        Outbox {
            id,
            shared,
            fanout,
            inner: Mutex::default(),
            ready: Notify::new(),
            room: Notify::new(),
            commits_in_flight: AtomicUsize::new(0),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts in a control frame.
    pub(super) fn send(&self, message: &ServerMessage) {
        self.send_frame(codec::encode_server(message));
    }

    fn send_frame(&self, frame: Bytes) {
        self.put_frame(self.lock(), frame);
    }

    fn put_frame(&self, mut inner: MutexGuard<'_, Inner>, frame: Bytes) {
        if inner.closed {
            return;
        }
        inner.control_bytes += frame.len();
        inner.control.push_back(frame);
        drop(inner);
        self.ready.notify_one();
    }

    /// Puts in a part of a one-shot result when there is room. False: the connection is closed.
    pub(super) async fn send_result(&self, message: &ServerMessage) -> bool {
        let frame = codec::encode_server(message);
        loop {
            let room = self.room.notified();
            tokio::pin!(room);
            // Registered before looking, so that no wake-up is missed.
            room.as_mut().enable();
            {
                let inner = self.lock();
                if inner.closed {
                    return false;
                }
                if inner.control_bytes < RESULT_BYTES {
                    break;
                }
            }
            room.await;
        }
        self.send_frame(frame);
        true
    }

    pub(super) fn commit_queued(&self) {
        self.commits_in_flight.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn answer_commit(&self, message: &ServerMessage) {
        let frame = codec::encode_server(message);
        let inner = self.lock();
        // Under the lock: who then sees no commit in flight and closes still finds the answer.
        self.commits_in_flight.fetch_sub(1, Ordering::Relaxed);
        self.put_frame(inner, frame);
    }

    pub(super) fn commits_in_flight(&self) -> usize {
        self.commits_in_flight.load(Ordering::Relaxed)
    }

    /// Puts in the changes of a group.
    pub(super) fn push_delta(&self, delta: &Arc<Delta>, partial: bool) {
        let mut inner = self.lock();
        let completes = inner.open == Some(delta.version);
        if inner.closed || (inner.behind && !completes) {
            return;
        }
        let size = delta.frame(partial).len();
        if inner.stream_bytes + size > self.shared.options.outbox_bytes && !completes {
            self.make_room(&mut inner, size);
            if inner.behind {
                drop(inner);
                self.ready.notify_one();
                return;
            }
        }
        inner.stream_bytes += size;
        inner.stream.push_back(Entry::Delta { delta: Arc::clone(delta), partial });
        if !partial {
            inner.queued = delta.version;
        }
        drop(inner);
        self.shared.metrics.deltas.add(1);
        self.ready.notify_one();
    }

    /// Puts in a consistent point, if the last one is older.
    pub(super) fn push_current(&self, version: Version) {
        let mut inner = self.lock();
        if inner.closed || inner.behind || inner.queued >= version {
            return;
        }
        inner.queued = version;
        if let Some(Entry::Current(last)) = inner.stream.back_mut() {
            *last = version;
            return;
        }
        inner.stream.push_back(Entry::Current(version));
        drop(inner);
        self.ready.notify_one();
    }

    /// Puts in an attach at a version: its frames, sent to the returned channel, come next in the
    /// stream, and a consistent point at the version after them.
    pub(super) fn push_bulk(&self, version: Version) -> Option<mpsc::Sender<Bytes>> {
        let mut inner = self.lock();
        if inner.closed {
            return None;
        }
        let (sender, frames) = mpsc::channel(BULK_FRAMES);
        inner.queued = version;
        inner.stream.push_back(Entry::Bulk { frames, version });
        drop(inner);
        self.ready.notify_one();
        Some(sender)
    }

    /// Puts in a replay that takes the place of everything dropped, continuing from the returned
    /// version.
    pub(super) fn push_replay(&self, version: Version) -> Option<(Version, mpsc::Sender<Bytes>)> {
        let from = {
            let mut inner = self.lock();
            inner.behind = false;
            inner.replay_requested = false;
            inner.sent
        };
        Some((from, self.push_bulk(version)?))
    }

    /// Whether changes were dropped and the replay has not been put in yet.
    pub(super) fn is_behind(&self) -> bool {
        self.lock().behind
    }

    /// Merges waiting changes; drops those behind the last attach if that does not make room.
    fn make_room(&self, inner: &mut Inner, size: usize) {
        let limit = self.shared.options.outbox_bytes;
        self.shared.metrics.coalesced.add(1);
        let rest = coalesce::split_open(&mut inner.stream, inner.open.is_some());
        let waiting = coalesce::merge_stream(&mut inner.stream);
        // Half the bound: merging again for every further change would cost too much.
        if waiting + size > limit / 2 {
            inner.behind = true;
            coalesce::drop_tail(&mut inner.stream);
        }
        rest.into_iter().rev().for_each(|entry| inner.stream.push_front(entry));
        inner.stream_bytes = coalesce::bytes(&inner.stream);
    }

    /// Asks for the replay of what was dropped. It counts as asked for only when it was.
    async fn request_replay(&self) {
        let Ok(permit) = self.fanout.reserve().await else {
            // The database is closing.
            self.close();
            return;
        };
        self.lock().replay_requested = true;
        self.shared.metrics.resyncs.add(1);
        permit.send(FanoutCommand::Replay { connection: self.id });
    }

    fn take(&self) -> Next {
        let mut inner = self.lock();
        if let Some(frame) = inner.control.pop_front() {
            inner.control_bytes -= frame.len();
            if inner.control_bytes < RESULT_BYTES {
                self.room.notify_waiters();
            }
            return Next::Frame(frame);
        }
        if inner.closed {
            return Next::Closed;
        }
        loop {
            match inner.stream.pop_front() {
                None if inner.wants_replay() => {
                    return Next::Replay;
                }
                None => return Next::Empty,
                Some(Entry::Current(version)) => {
                    inner.sent = version;
                    return Next::Frame(codec::encode_server(&ServerMessage::Current { version }));
                }
                Some(Entry::Delta { delta, partial }) => {
                    let frame = delta.frame(partial);
                    inner.stream_bytes -= frame.len();
                    inner.open = partial.then_some(delta.version);
                    if !partial {
                        inner.sent = delta.version;
                    }
                    return Next::Frame(frame);
                }
                Some(Entry::Bulk { mut frames, version }) => match frames.try_recv() {
                    Ok(frame) => {
                        inner.stream.push_front(Entry::Bulk { frames, version });
                        return Next::Frame(frame);
                    }
                    Err(mpsc::error::TryRecvError::Disconnected) => inner.sent = version,
                    Err(mpsc::error::TryRecvError::Empty) => {
                        inner.bulk_taken = true;
                        return Next::Wait(frames, version);
                    }
                },
            }
        }
    }

    /// Puts an attach that was waited for back at the front.
    fn put_back(&self, frames: mpsc::Receiver<Bytes>, version: Version) {
        let mut inner = self.lock();
        inner.bulk_taken = false;
        if !inner.closed {
            inner.stream.push_front(Entry::Bulk { frames, version });
        }
    }

    /// The attach at the front has ended: the connection is at its version.
    fn finish_bulk(&self, version: Version) {
        let mut inner = self.lock();
        inner.bulk_taken = false;
        inner.sent = version;
    }

    /// The next frame to send; none when closed and all control frames are taken. Only one caller.
    pub(super) async fn next(&self) -> Option<Bytes> {
        loop {
            let (frames, version) = match self.take() {
                Next::Frame(frame) => return Some(frame),
                Next::Closed => return None,
                Next::Empty => {
                    self.ready.notified().await;
                    continue;
                }
                Next::Replay => {
                    self.request_replay().await;
                    continue;
                }
                Next::Wait(frames, version) => (frames, version),
            };
            let mut waiting = Waiting { outbox: self, bulk: Some((frames, version)) };
            if let Some(frame) = waiting.next().await {
                return Some(frame);
            }
        }
    }

    /// A further frame that can be sent without waiting.
    pub(super) fn try_next(&self) -> Option<Bytes> {
        match self.take() {
            Next::Frame(frame) => Some(frame),
            Next::Replay | Next::Empty | Next::Closed => None,
            Next::Wait(frames, version) => {
                self.put_back(frames, version);
                None
            }
        }
    }

    /// Bytes of changes and control frames that wait.
    pub(super) fn queued_bytes(&self) -> usize {
        let inner = self.lock();
        inner.control_bytes + inner.stream_bytes
    }

    /// Whether the connection has ended.
    pub(super) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Ends the connection: control frames can still be taken, the rest is dropped.
    pub(super) fn close(&self) {
        let mut inner = self.lock();
        inner.closed = true;
        inner.stream.clear();
        inner.stream_bytes = 0;
        drop(inner);
        self.ready.notify_one();
        self.room.notify_waiters();
    }
}

/// An attach taken from the front of the stream while its next frame is awaited; goes back there
/// also when the waiting is given up.
struct Waiting<'a> {
    outbox: &'a Outbox,
    bulk: Option<(mpsc::Receiver<Bytes>, Version)>,
}

impl Waiting<'_> {
    /// A control frame or the attach's next one; none: look again.
    async fn next(&mut self) -> Option<Bytes> {
        let (frames, version) = self.bulk.as_mut()?;
        tokio::select! {
            // In this order, so that a simulated run repeats.
            biased;
            frame = frames.recv() => {
                if frame.is_none() {
                    self.outbox.finish_bulk(*version);
                    self.bulk = None;
                }
                frame
            }
            () = self.outbox.ready.notified() => None,
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some((frames, version)) = self.bulk.take() {
            self.outbox.put_back(frames, version);
        }
    }
}
