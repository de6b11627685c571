//! One-shot reads: get, query, aggregate and digest, answered from the newest durable state.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidemark_protocol::model::{
    AggregateQuery, AggregateState, AggregationKind, Code, DigestNode, DocumentPath, Matcher,
    Query, Target,
};
use tidemark_protocol::wire::codec;
use tidemark_protocol::wire::server::{AggregateResult, DigestResult, QueryResult, ServerMessage};

use super::commit::Stored;
use super::digest;
use super::error::EngineError;
use super::outbox::Outbox;
use super::query::{Rows, View, Wanted, nearest};
use super::shared::{Published, Shared};

/// Bytes of documents in one frame.
const FRAME_BYTES: usize = 256 << 10;
/// Documents got at a time.
const GET_ROWS: usize = 256;

/// What is read.
pub(super) enum Read {
    Get(Vec<DocumentPath>),
    Query { query: Query, explain: bool },
    Aggregate { aggregate: AggregateQuery, explain: bool },
    Digest { target: Target, nodes: Vec<DigestNode> },
}

/// One request being answered.
struct Answer<'a> {
    shared: &'a Shared,
    published: &'a Published,
    outbox: &'a Outbox,
    request: u32,
    started: Duration,
}

/// Answers a request; an error becomes a typed refusal.
pub(super) async fn answer(shared: Arc<Shared>, outbox: Arc<Outbox>, request: u32, read: Read) {
    shared.metrics.reads.add(1);
    let (published, started) = (shared.published(), shared.clock.monotonic());
    let answer =
        Answer { shared: &shared, published: &published, outbox: &outbox, request, started };
    let result = match read {
        Read::Get(paths) => answer.get(&paths).await,
        Read::Query { query, explain } => answer.query(&query, explain).await,
        Read::Aggregate { aggregate, explain } => answer.aggregate(&aggregate, explain).await,
        Read::Digest { target, nodes } => answer.digest(&target, nodes).await,
    };
    let Err(error) = result else { return };
    let status = error.status();
    if status.code != Code::Cancelled {
        tracing::error!(%error, "a read failed");
    }
    outbox.send(&ServerMessage::RequestError { request, status });
}

impl Answer<'_> {
    fn view(&self) -> View<'_> {
        let Published { snapshot, indexes, .. } = self.published;
        View { snapshot: &**snapshot, keys: self.shared.keys, indexes }
    }

    fn frames(&self) -> Frames<'_> {
        Frames::new(self.outbox, self.request, self.published)
    }

    fn time(&self) -> Duration {
        self.shared.clock.monotonic().saturating_sub(self.started)
    }

    async fn get(&self, paths: &[DocumentPath]) -> Result<(), EngineError> {
        let mut frames = self.frames();
        for chunk in paths.chunks(GET_ROWS) {
            let keys: Vec<_> = chunk.iter().map(|path| self.shared.keys.document(path)).collect();
            let found = self.published.snapshot.get_many(&keys).await?;
            for (path, bytes) in chunk.iter().zip(found) {
                match bytes {
                    Some(bytes) => frames.push(bytes).await,
                    None => frames.result.missing.push(path.clone()),
                }
            }
        }
        frames.finish().await;
        Ok(())
    }

    async fn query(&self, query: &Query, explain: bool) -> Result<(), EngineError> {
        let cancelled = || self.outbox.is_closed();
        let matcher = Matcher::new(query.forward());
        let wanted = Wanted { ordered: true, take: reach(query), cancelled: &cancelled };
        let mut rows = Rows::new(self.view(), &matcher, wanted);
        let mut frames = self.frames();
        let results = if let Some(wanted) = &query.nearest {
            let found = nearest(&mut rows, wanted).await?;
            for row in &found {
                frames.push(shape(query, row)).await;
            }
            found.len() as u64
        } else if query.limit_to_last {
            let found = gather(&mut rows, query).await?;
            for row in found.iter().rev() {
                frames.push(shape(query, row)).await;
            }
            found.len() as u64
        } else if is_whole(query) && query.offset == 0 {
            send_stored(&mut rows, &mut frames).await?
        } else {
            send_shaped(&mut rows, &mut frames, query).await?
        };
        frames.result.explanation = explain.then(|| rows.explain(results, self.time()));
        frames.finish().await;
        Ok(())
    }

    async fn aggregate(
        &self,
        aggregate: &AggregateQuery,
        explain: bool,
    ) -> Result<(), EngineError> {
        let cancelled = || self.outbox.is_closed();
        let query = &aggregate.matched();
        let matcher = Matcher::new(query.forward());
        let most = counted_at_most(aggregate);
        let take = reach(query).min(most.saturating_add(query.offset as usize));
        let is_part = query.limit.is_some() || query.offset > 0 || query.nearest.is_some();
        let ordered = is_part && !is_count(aggregate);
        let wanted = Wanted { ordered, take, cancelled: &cancelled };
        let mut rows = Rows::new(self.view(), &matcher, wanted);
        let mut state = AggregateState::new(&aggregate.aggregations);
        if let Some(wanted) = &query.nearest {
            nearest(&mut rows, wanted).await?.iter().for_each(|row| state.add(&row.document));
        } else if is_count(aggregate) {
            let count = rows.count().await?.saturating_sub(query.offset.into());
            state.add_count(count.min(query.limit.map_or(u64::MAX, u64::from)));
        } else {
            let mut skip = query.offset as usize;
            while let Some(chunk) = rows.next().await? {
                chunk.iter().skip(skip).for_each(|row| state.add(&row.document));
                skip = skip.saturating_sub(chunk.len());
            }
        }
        let explanation = explain.then(|| rows.explain(state.documents(), self.time()));
        let (request, version) = (self.request, self.published.version);
        let result = AggregateResult { request, version, values: state.values(), explanation };
        self.outbox.send_result(&ServerMessage::AggregateResult(result)).await;
        Ok(())
    }

    async fn digest(&self, target: &Target, nodes: Vec<DigestNode>) -> Result<(), EngineError> {
        let cancelled = || self.outbox.is_closed();
        let nodes = digest::survey(self.view(), target, nodes, &cancelled).await?;
        let (request, version) = (self.request, self.published.version);
        let result = DigestResult { request, version, nodes };
        self.outbox.send_result(&ServerMessage::DigestResult(result)).await;
        Ok(())
    }
}

/// How many documents of the order have to be known.
fn reach(query: &Query) -> usize {
    match (query.limit, &query.nearest) {
        (Some(limit), None) => (query.offset as usize).saturating_add(limit as usize),
        (None, _) | (Some(_), Some(_)) => usize::MAX,
    }
}

fn is_count(aggregate: &AggregateQuery) -> bool {
    aggregate.aggregations.iter().all(|it| it.kind.field().is_none())
        && aggregate.query.nearest.is_none()
}

/// How many documents decide the values, the offset aside.
fn counted_at_most(aggregate: &AggregateQuery) -> usize {
    if !is_count(aggregate) {
        return usize::MAX;
    }
    let most = aggregate.aggregations.iter().map(|aggregation| match aggregation.kind {
        AggregationKind::Count { up_to: Some(up_to) } => {
            usize::try_from(up_to).unwrap_or(usize::MAX)
        }
        AggregationKind::Count { up_to: None }
        | AggregationKind::Sum(_)
        | AggregationKind::Average(_) => usize::MAX,
    });
    most.max().unwrap_or(usize::MAX)
}

/// Whether stored documents are sent as they are.
fn is_whole(query: &Query) -> bool {
    query.projection.is_none()
        && query.nearest.as_ref().is_none_or(|nearest| nearest.distance_field.is_none())
}

/// A document as the query asks for it.
fn shape(query: &Query, stored: &Stored) -> Bytes {
    if is_whole(query) {
        stored.bytes.clone()
    } else {
        codec::encode_document(&query.result(&stored.document))
    }
}

/// The documents behind the offset.
async fn gather(rows: &mut Rows<'_>, query: &Query) -> Result<Vec<Arc<Stored>>, EngineError> {
    let mut found = Vec::new();
    while let Some(chunk) = rows.next().await? {
        found.extend(chunk);
    }
    found.drain(..found.len().min(query.offset as usize));
    Ok(found)
}

/// Sends documents as they are read. Returns how many.
async fn send_stored(rows: &mut Rows<'_>, frames: &mut Frames<'_>) -> Result<u64, EngineError> {
    let mut sent = 0;
    while let Some(chunk) = rows.next_bytes().await? {
        sent += chunk.len() as u64;
        for bytes in chunk {
            frames.push(bytes).await;
        }
    }
    Ok(sent)
}

/// Sends the documents behind the offset as the query asks for them. Returns how many.
async fn send_shaped(
    rows: &mut Rows<'_>,
    frames: &mut Frames<'_>,
    query: &Query,
) -> Result<u64, EngineError> {
    let (mut skip, mut sent) = (query.offset as usize, 0);
    while let Some(chunk) = rows.next().await? {
        for row in chunk.iter().skip(skip) {
            frames.push(shape(query, row)).await;
            sent += 1;
        }
        skip = skip.saturating_sub(chunk.len());
    }
    Ok(sent)
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
