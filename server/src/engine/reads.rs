//! One-shot reads: get and query, answered from the newest durable state.

use std::sync::Arc;

use bytes::Bytes;
use tidemark_protocol::model::{AggregateQuery, DocumentPath, Matcher, ModelError, Query};
use tidemark_protocol::wire::server::{QueryResult, ServerMessage, Status};

use super::error::EngineError;
use super::outbox::Outbox;
use super::shared::{Published, Shared};
use super::view::{Scan, Undo, top};

/// Bytes of documents in one frame.
const FRAME_BYTES: usize = 256 << 10;
/// Documents got at a time.
const GET_ROWS: usize = 256;

/// What is read.
pub(super) enum Read {
    Get(Vec<DocumentPath>),
    Query { query: Query, explain: bool },
    Aggregate { aggregate: AggregateQuery, explain: bool },
}

/// Answers a request; an error becomes a typed refusal.
pub(super) async fn answer(shared: Arc<Shared>, outbox: Arc<Outbox>, request: u32, read: Read) {
    shared.metrics.reads.add(1);
    let published = shared.published();
    let mut frames = Frames::new(&outbox, request, &published);
    let result = match read {
        Read::Get(paths) => get(&shared, &published, &paths, &mut frames).await,
        Read::Query { query, explain: false } => {
            run_query(&shared, &published, query, &mut frames).await
        }
        Read::Query { explain: true, .. } | Read::Aggregate { .. } => {
            let error = ModelError::unimplemented("an explained or an aggregate query");
            let status = Status { code: error.code, message: error.message };
            outbox.send(&ServerMessage::RequestError { request, status });
            return;
        }
    };
    match result {
        Ok(()) => frames.finish().await,
        Err(error) => {
            tracing::error!(%error, "a read failed");
            outbox.send(&ServerMessage::RequestError { request, status: error.status() });
        }
    }
}

async fn get(
    shared: &Shared,
    published: &Published,
    paths: &[DocumentPath],
    frames: &mut Frames<'_>,
) -> Result<(), EngineError> {
    for chunk in paths.chunks(GET_ROWS) {
        let keys: Vec<_> = chunk.iter().map(|path| shared.keys.document(path)).collect();
        let found = published.snapshot.get_many(&keys).await?;
        for (path, bytes) in chunk.iter().zip(found) {
            match bytes {
                Some(bytes) => frames.push(bytes).await,
                None => frames.result.missing.push(path.clone()),
            }
        }
    }
    Ok(())
}

async fn run_query(
    shared: &Shared,
    published: &Published,
    query: Query,
    frames: &mut Frames<'_>,
) -> Result<(), EngineError> {
    let limit = query.limit;
    let matcher = Matcher::new(query);
    if limit.is_none() && matcher.order().len() == 1 && matcher.order()[0].field.is_document_id() {
        // The store has the order: documents go out as they are read.
        let mut scan = Scan::new(&*published.snapshot, shared.keys, &matcher);
        while let Some(rows) = scan.next_bytes().await? {
            for bytes in rows {
                frames.push(bytes).await;
            }
            if frames.closed {
                return Ok(());
            }
        }
        return Ok(());
    }
    let take = limit.map_or(usize::MAX, |limit| limit as usize);
    let rows = top(&*published.snapshot, shared.keys, &matcher, take, &Undo::new()).await?;
    for row in rows {
        frames.push(row.bytes.clone()).await;
    }
    Ok(())
}

/// Gathers documents into frames; all but the last say that more follow.
struct Frames<'a> {
    outbox: &'a Outbox,
    result: QueryResult,
    bytes: usize,
    closed: bool,
}

impl<'a> Frames<'a> {
    fn new(outbox: &'a Outbox, request: u32, published: &Published) -> Frames<'a> {
        let version = published.version;
        let result = QueryResult { request, version, ..QueryResult::default() };
        Frames { outbox, result, bytes: 0, closed: false }
    }

    async fn push(&mut self, bytes: Bytes) {
        if self.bytes >= FRAME_BYTES {
            self.flush(true).await;
        }
        self.bytes += bytes.len();
        self.result.documents.push(bytes);
    }

    async fn flush(&mut self, more: bool) {
        let rest = QueryResult {
            request: self.result.request,
            version: self.result.version,
            ..QueryResult::default()
        };
        let mut result = std::mem::replace(&mut self.result, rest);
        result.more = more;
        self.bytes = 0;
        self.closed |= !self.outbox.send_result(&ServerMessage::Result(result)).await;
    }

    async fn finish(mut self) {
        self.flush(false).await;
    }
}
