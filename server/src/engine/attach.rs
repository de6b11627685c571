//! Bringing a target to a version: its whole result, or what changed since its resume token. Runs
//! in a task of its own over a snapshot and sends into the place kept for it in the stream.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use prost::Message;
use tidemark_protocol::model::{DocumentPath, Matcher, TargetId, Value, Version};
use tidemark_protocol::wire::codec;
use tidemark_protocol::wire::server::{Aggregated, Changes, Removal, ServerMessage};
use tokio::sync::mpsc;

use super::commit::Stored;
use super::connection::ConnectionId;
use super::delta::{DocumentChange, GroupId};
use super::error::EngineError;
use super::fanout::FanoutCommand;
use super::groups::Present;
use super::load::Basis;
use super::query::{Rows, Undo, Wanted, top};
use super::records::{LogRecord, MetaRecord};
use super::shared::Shared;
use super::source::{Shape, Source, Span};
use super::window::Moves;
use crate::store::ScanDirection;

/// Bytes of documents in one frame. The socket keeps a buffer of the largest frame it has sent, for
/// as long as the connection lives: larger frames save a few per cent of time and cost every
/// listener their size.
const FRAME_BYTES: usize = 32 << 10;
/// Log entries read at a time.
const LOG_ROWS: usize = 512;

/// Where the client's copy of a target is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Since {
    /// It has none.
    Nothing,
    /// It is at this version of this database.
    Version(Version),
    /// It is at a version that cannot be continued from.
    Unusable(&'static str),
}

/// One target to bring to the version.
pub(super) struct Job {
    pub(super) target: TargetId,
    pub(super) group: GroupId,
    pub(super) source: Arc<Source>,
    pub(super) since: Since,
    /// Whether, if it cannot be continued from there, the client is told so and nothing else.
    pub(super) reconciles: bool,
    /// The result at the version, as far as the group keeps it.
    pub(super) present: Present,
    /// Set when the client no longer wants it.
    pub(super) cancelled: Arc<AtomicBool>,
}

/// The targets of one connection that are brought to a version together.
pub(super) struct Attach {
    pub(super) connection: ConnectionId,
    pub(super) fanout: mpsc::WeakSender<FanoutCommand>,
    pub(super) shared: Arc<Shared>,
    /// The state at the version.
    pub(super) basis: Basis,
    pub(super) version: Version,
    pub(super) frames: mpsc::Sender<Bytes>,
}

/// Why an attach stops early.
enum Stop {
    /// The connection is gone or the target is no longer wanted.
    Unwanted,
    Failed(EngineError),
}

impl<E: Into<EngineError>> From<E> for Stop {
    fn from(error: E) -> Stop {
        Stop::Failed(error.into())
    }
}

/// A document's state before the first and after the last of the changes replayed.
struct Net {
    before: Option<Bytes>,
    after: Option<Bytes>,
}

type Nets = BTreeMap<DocumentPath, Net>;

impl Attach {
    /// Does the jobs in order, then sends the consistent point.
    pub(super) async fn run(self, jobs: Vec<Job>) {
        for job in jobs {
            match self.run_job(&job).await {
                Ok(()) | Err(Stop::Unwanted) => {}
                // What failed may be what was given up.
                Err(Stop::Failed(_)) if self.check_wanted(&job).is_err() => {}
                Err(Stop::Failed(error)) => {
                    tracing::error!(%error, target_id = %job.target, "a target could not be attached");
                    let (target, status) = (job.target, error.status());
                    // If the connection is gone nobody needs to be told.
                    let _ = self.send(&ServerMessage::TargetError { target, status }).await;
                }
            }
        }
        let _ = self.send(&ServerMessage::Current { version: self.version }).await;
    }

    async fn send(&self, message: &ServerMessage) -> Result<(), Stop> {
        self.send_frame(codec::encode_server(message)).await
    }

    async fn send_frame(&self, frame: Bytes) -> Result<(), Stop> {
        self.frames.send(frame).await.map_err(|_| Stop::Unwanted)
    }

    async fn run_job(&self, job: &Job) -> Result<(), Stop> {
        if let Present::Values(values) = &job.present {
            self.listening(job).await?;
            return self.values(job, values).await;
        }
        let nets = match job.since {
            Since::Nothing => {
                self.listening(job).await?;
                return self.whole_result(job).await;
            }
            Since::Unusable(reason) => Err(reason),
            Since::Version(from) => self.nets(job, from).await?,
        };
        match nets {
            Ok(nets) => {
                self.listening(job).await?;
                self.replay(job, nets).await?;
                self.shared.metrics.resumed.add(1);
                Ok(())
            }
            Err(reason) if job.reconciles => self.stale(job, reason).await,
            Err(reason) => {
                self.listening(job).await?;
                self.shared.metrics.resets.add(1);
                let (target, reason) = (job.target, reason.to_owned());
                self.send(&ServerMessage::Reset { target, reason }).await?;
                self.whole_result(job).await
            }
        }
    }

    async fn listening(&self, job: &Job) -> Result<(), Stop> {
        let (target, group) = (job.target, job.group.0);
        self.send(&ServerMessage::Listening { target, group, version: self.version }).await
    }

    /// Leaves it to the client to compare digests and to listen from there. The fan-out is told first:
    /// the client may choose the same target id again as soon as it is told.
    async fn stale(&self, job: &Job, reason: &str) -> Result<(), Stop> {
        self.check_wanted(job)?;
        self.shared.metrics.stale.add(1);
        let (connection, target) = (self.connection, job.target);
        let listening = Arc::clone(&job.cancelled);
        if let Some(fanout) = self.fanout.upgrade() {
            // A fan-out that has ended sends nothing any more.
            let _ = fanout.send(FanoutCommand::Stale { connection, target, listening }).await;
        }
        self.send(&ServerMessage::Stale { target, reason: reason.to_owned() }).await
    }

    /// An aggregate is told whole, whatever the client has of it.
    async fn values(&self, job: &Job, values: &[Value]) -> Result<(), Stop> {
        let (group, version, values) = (job.group.0, self.version, values.to_vec());
        let aggregated = Aggregated { group, version, values, partial: true };
        self.send(&ServerMessage::Aggregated(aggregated)).await
    }

    async fn whole_result(&self, job: &Job) -> Result<(), Stop> {
        let mut frames = Frames::new(self, job);
        match (&*job.source, &job.present) {
            (Source::Query { matcher, shape }, _) => {
                let unwanted = || self.check_wanted(job).is_err();
                let wanted = Wanted { cancelled: &unwanted, ..Wanted::all_in_any_order() };
                let mut found = Rows::new(self.basis.view(), matcher, wanted);
                while let Some(rows) = found.next_bytes().await? {
                    for bytes in rows {
                        if frames.add(shape.encode_bytes(bytes)?) {
                            frames.flush().await?;
                        }
                    }
                }
            }
            (Source::Window { shape, .. }, Present::Rows(rows)) => {
                for row in rows {
                    frames.push_document(shape.encode(row)).await?;
                }
            }
            (Source::Documents(paths), _) => {
                for (path, bytes) in paths.iter().zip(self.get(paths).await?) {
                    let removed = DocumentChange::Removed { deleted: true };
                    let change = bytes.map_or(removed, DocumentChange::Present);
                    frames.push(path.clone(), change).await?;
                }
            }
            (Source::Window { .. } | Source::Aggregate { .. }, _) => {
                unreachable!("it is attached with what its group keeps")
            }
        }
        self.shared.metrics.snapshot_documents.add(frames.documents);
        frames.finish().await
    }

    async fn get(&self, paths: &[DocumentPath]) -> Result<Vec<Option<Bytes>>, Stop> {
        let keys: Vec<_> = paths.iter().map(|path| self.shared.keys.document(path)).collect();
        Ok(self.basis.snapshot.get_many(&keys).await?)
    }

    /// Sends what changed.
    async fn replay(&self, job: &Job, nets: Nets) -> Result<(), Stop> {
        let mut changes = match (&*job.source, &job.present) {
            (Source::Query { matcher, shape }, _) => query_changes(matcher, shape, nets)?,
            (Source::Documents(_), _) => nets
                .into_iter()
                .map(|(path, net)| {
                    let removed = DocumentChange::Removed { deleted: true };
                    (path, net.after.map_or(removed, DocumentChange::Present))
                })
                .collect(),
            (Source::Window { matcher, span, shape }, Present::Rows(rows)) => {
                self.window_changes(rows, (matcher, *span, shape), &nets).await?
            }
            (Source::Window { .. } | Source::Aggregate { .. }, _) => {
                unreachable!("it is attached with what its group keeps")
            }
        };
        changes.sort_by_cached_key(|(path, change)| (update_version(change), path.clone()));
        let mut frames = Frames::new(self, job);
        for (path, change) in changes {
            frames.push(path, change).await?;
        }
        frames.finish().await
    }

    /// The documents that changed after `from` and could be in the target, or why that cannot be known.
    async fn nets(&self, job: &Job, from: Version) -> Result<Result<Nets, &'static str>, Stop> {
        let meta = self.basis.snapshot.get(&self.shared.keys.meta()).await?;
        let meta = MetaRecord::decode(meta.unwrap_or_default()).map_err(EngineError::corrupt)?;
        if from.0 < meta.log_start {
            return Ok(Err("the resume token is older than the change log"));
        }
        if from > self.version {
            return Ok(Err("the resume token is newer than the database"));
        }
        let mut nets = Nets::new();
        let mut bytes = 0;
        let mut range = self.shared.keys.log_range(from, self.version);
        loop {
            let rows =
                self.basis.snapshot.scan(range.clone(), ScanDirection::Forward, LOG_ROWS).await?;
            let Some((last, _)) = rows.last() else { return Ok(Ok(nets)) };
            range.go_past(last, ScanDirection::Forward);
            let done = rows.len() < LOG_ROWS;
            for (_, value) in rows {
                bytes += add_nets(&mut nets, &job.source, value)?;
            }
            if bytes > self.shared.options.replay_bytes {
                return Ok(Err("more has changed since the resume token than is replayed"));
            }
            self.check_wanted(job)?;
            if done {
                return Ok(Ok(nets));
            }
        }
    }

    fn check_wanted(&self, job: &Job) -> Result<(), Stop> {
        let unwanted = job.cancelled.load(Ordering::Relaxed) || self.frames.is_closed();
        if unwanted { Err(Stop::Unwanted) } else { Ok(()) }
    }

    async fn window_changes(
        &self,
        rows: &[Arc<Stored>],
        (matcher, span, shape): (&Matcher, Span, &Shape),
        nets: &Nets,
    ) -> Result<Vec<(DocumentPath, DocumentChange)>, Stop> {
        let mut undo = Undo::with_capacity(nets.len());
        for (path, net) in nets {
            undo.insert(path.clone(), net.before.clone().map(Stored::decode).transpose()?);
        }
        let before = top(self.basis.view(), matcher, span.end(), &undo).await?;
        let gone = nets.iter().filter(|(_, net)| net.after.is_none()).map(|(path, _)| path);
        let moves = Moves::between(span.within(&before), rows);
        Ok(moves.into_changes(shape, &HashSet::from_iter(gone)))
    }
}

/// Adds the changes of a log entry that are about the source. Returns the bytes kept for them.
fn add_nets(nets: &mut Nets, source: &Source, entry: Bytes) -> Result<usize, EngineError> {
    let record = LogRecord::decode(entry).map_err(EngineError::corrupt)?;
    let mut bytes = 0;
    for change in record.changes {
        let Some(either) = change.after.as_ref().or(change.before.as_ref()) else { continue };
        let (path, _, _) = codec::peek_document(either).map_err(EngineError::corrupt)?;
        if !source.may_contain(path) {
            continue;
        }
        let path = DocumentPath::parse(path)?;
        bytes += change.after.as_ref().map_or(0, Bytes::len);
        match nets.get_mut(&path) {
            Some(net) => net.after = change.after,
            None => {
                bytes += change.before.as_ref().map_or(0, Bytes::len);
                nets.insert(path, Net { before: change.before, after: change.after });
            }
        }
    }
    Ok(bytes)
}

fn query_changes(
    matcher: &Matcher,
    shape: &Shape,
    nets: Nets,
) -> Result<Vec<(DocumentPath, DocumentChange)>, EngineError> {
    let matches = |bytes: &Option<Bytes>| -> Result<bool, EngineError> {
        let Some(bytes) = bytes else { return Ok(false) };
        let document = codec::decode_document(bytes).map_err(EngineError::corrupt)?;
        Ok(matcher.matches(&document))
    };
    let mut changes = Vec::with_capacity(nets.len());
    for (path, net) in nets {
        if matches(&net.after)?
            && let Some(bytes) = net.after
        {
            changes.push((path, DocumentChange::Present(shape.encode_bytes(bytes)?)));
        } else if matches(&net.before)? {
            let deleted = net.after.is_none();
            changes.push((path, DocumentChange::Removed { deleted }));
        }
    }
    Ok(changes)
}

/// For sending a replay in commit order; removals carry no version and go first.
fn update_version(change: &DocumentChange) -> Version {
    match change {
        DocumentChange::Present(bytes) => {
            codec::peek_document(bytes).map_or(Version::NONE, |(_, _, update)| update)
        }
        DocumentChange::Removed { .. } => Version::NONE,
    }
}

/// Gathers changes into frames.
struct Frames<'a> {
    attach: &'a Attach,
    job: &'a Job,
    message: Changes,
    bytes: usize,
    documents: u64,
}

impl<'a> Frames<'a> {
    fn new(attach: &'a Attach, job: &'a Job) -> Frames<'a> {
        let message = Frames::empty(attach, job);
        Frames { attach, job, message, bytes: 0, documents: 0 }
    }

    fn empty(attach: &Attach, job: &Job) -> Changes {
        let (group, version) = (job.group.0, attach.version);
        Changes { group, version, partial: true, ..Changes::default() }
    }

    /// Adds a document. True: the frame is full.
    fn add(&mut self, bytes: Bytes) -> bool {
        self.bytes += bytes.len();
        self.documents += 1;
        self.message.documents.push(bytes);
        self.bytes >= FRAME_BYTES
    }

    async fn push_document(&mut self, bytes: Bytes) -> Result<(), Stop> {
        if self.add(bytes) { self.flush().await } else { Ok(()) }
    }

    async fn push(&mut self, path: DocumentPath, change: DocumentChange) -> Result<(), Stop> {
        match change {
            DocumentChange::Present(bytes) => return self.push_document(bytes).await,
            DocumentChange::Removed { deleted } => {
                self.bytes += path.as_str().len();
                self.message.removals.push(Removal { path, deleted });
            }
        }
        if self.bytes >= FRAME_BYTES { self.flush().await } else { Ok(()) }
    }

    async fn flush(&mut self) -> Result<(), Stop> {
        self.attach.check_wanted(self.job)?;
        let empty = Frames::empty(self.attach, self.job);
        let message = std::mem::replace(&mut self.message, empty);
        self.bytes = 0;
        self.attach.send(&ServerMessage::Changes(message)).await
    }

    async fn finish(mut self) -> Result<(), Stop> {
        if self.bytes == 0 { Ok(()) } else { self.flush().await }
    }
}
