//! Gets, queries and aggregates: asked again on every connection until answered, as long as their time lasts.
//! Driven by the engine; sends nothing itself.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidemark_protocol::model::{Code, Document, ModelError, Query, Value, Version, Write, WriteOp};
use tidemark_protocol::wire::client::ClientMessage;
use tidemark_protocol::wire::codec::{decode_document, encode_client};
use tidemark_protocol::wire::server::{AggregateResult, Explanation, QueryResult};

use super::connection::Backoff;
use super::{Moment, Request, Source, Ticket};
use crate::error::Error;

/// Tickets of the engine's own requests have this bit: drivers count up from the other end.
const OWN: u64 = 1 << 63;

/// Whether the engine asks for its own use.
pub(crate) fn is_own(ticket: Ticket) -> bool {
    ticket.0 & OWN != 0
}

#[derive(Debug)]
struct Waiting {
    request: Request,
    source: Source,
    deadline: Duration,
    state: State,
    backoff: Backoff,
    /// Whether documents are asked for whole, whatever the query's projection. Set when it is sent.
    whole: bool,
    /// The parts of the answer that came on this connection.
    documents: Vec<Arc<Document>>,
}

#[derive(Debug, PartialEq)]
enum State {
    Queued,
    Sent { number: u32 },
    Resting { until: Duration },
}

/// A whole answer, as the server gave it.
#[derive(Debug)]
pub(crate) struct Complete {
    pub(crate) ticket: Ticket,
    pub(crate) request: Request,
    pub(crate) source: Source,
    pub(crate) deadline: Duration,
    pub(crate) version: Version,
    pub(crate) documents: Vec<Arc<Document>>,
    pub(crate) values: Vec<Value>,
    pub(crate) explanation: Option<Box<Explanation>>,
    /// Whether the documents came whole, whatever the query's projection.
    pub(crate) whole: bool,
}

/// All that waits for an answer.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    waiting: BTreeMap<Ticket, Waiting>,
    /// Those sent on this connection, by their number on the wire.
    sent: BTreeMap<u32, Ticket>,
    last_number: u32,
    /// The last ticket for the engine's own use.
    last_own: u64,
    /// How many are queued, so that most events cost nothing.
    queued: usize,
}

impl Requests {
    pub(crate) fn add(
        &mut self,
        ticket: Ticket,
        request: Request,
        source: Source,
        deadline: Duration,
    ) {
        let waiting = Waiting {
            request,
            source,
            deadline,
            state: State::Queued,
            backoff: Backoff::default(),
            whole: false,
            documents: Vec::new(),
        };
        self.waiting.insert(ticket, waiting);
        self.queued += 1;
    }

    /// Asks for the engine's own use, until it is answered.
    pub(crate) fn add_own(&mut self, request: Request) -> Ticket {
        self.last_own += 1;
        let ticket = Ticket(OWN | self.last_own);
        self.add(ticket, request, Source::Server, Duration::MAX);
        ticket
    }

    /// Asks again for what has been answered; `whole`: for whole documents.
    pub(crate) fn add_again(&mut self, complete: Complete, whole: bool) {
        let Complete { ticket, request, source, deadline, .. } = complete;
        self.add(ticket, request, source, deadline);
        if let Some(waiting) = self.waiting.get_mut(&ticket) {
            waiting.whole = whole;
        }
    }

    /// A number for a question that is asked on this connection only.
    pub(crate) fn number(&mut self) -> u32 {
        self.last_number = self.last_number.wrapping_add(1);
        self.last_number
    }

    /// Nobody waits for the answer any more.
    pub(crate) fn forget(&mut self, ticket: Ticket) {
        self.remove(ticket);
    }

    fn remove(&mut self, ticket: Ticket) -> Option<Waiting> {
        let waiting = self.waiting.remove(&ticket)?;
        match waiting.state {
            State::Queued => self.queued -= 1,
            State::Sent { number } => {
                self.sent.remove(&number);
            }
            State::Resting { .. } => {}
        }
        Some(waiting)
    }

    /// The number that the last request was sent with.
    pub(crate) fn last_number(&self) -> u32 {
        self.last_number
    }

    /// The number of the oldest request that is not answered on this connection.
    pub(crate) fn oldest(&self) -> Option<u32> {
        self.sent.first_key_value().map(|(number, _)| *number)
    }

    /// Notes all that is queued as sent. Documents that pending writes may be laid over are asked for
    /// whole: a projection may lack what decides whether and where they are in the result.
    pub(crate) fn take_queued(
        &mut self,
        has_pending: impl Fn(&Query) -> bool,
    ) -> Vec<(Ticket, ClientMessage)> {
        if self.queued == 0 {
            return Vec::new();
        }
        self.queued = 0;
        let mut messages = Vec::new();
        for (ticket, waiting) in &mut self.waiting {
            if waiting.state != State::Queued {
                continue;
            }
            self.last_number = self.last_number.wrapping_add(1);
            let number = self.last_number;
            waiting.state = State::Sent { number };
            self.sent.insert(number, *ticket);
            let message = match &waiting.request {
                Request::Get { paths, .. } => {
                    ClientMessage::Get { request: number, paths: paths.clone() }
                }
                Request::Query { query, explain } => {
                    let mut query = query.clone();
                    waiting.whole |= is_cut(&query) && has_pending(&query);
                    if waiting.whole {
                        query.projection = None;
                    }
                    ClientMessage::Query { request: number, query, explain: *explain }
                }
                Request::Aggregate { aggregate, explain } => ClientMessage::Aggregate {
                    request: number,
                    aggregate: aggregate.clone(),
                    explain: *explain,
                },
            };
            messages.push((*ticket, message));
        }
        messages
    }

    /// Takes a part of an answer; gives the whole once it is there.
    pub(crate) fn answered(&mut self, result: QueryResult) -> Result<Option<Complete>, Error> {
        let Some(ticket) = self.sent.get(&result.request).copied() else { return Ok(None) };
        let waiting = self.waiting.get_mut(&ticket).expect("what is sent is waiting");
        if let Request::Aggregate { .. } = waiting.request {
            return Err(misunderstood());
        }
        waiting.documents.reserve(result.documents.len());
        for bytes in &result.documents {
            waiting.documents.push(Arc::new(decode_document(bytes)?));
        }
        if result.more {
            return Ok(None);
        }
        let mut complete = self.complete(result.request, ticket, result.version);
        complete.explanation = result.explanation.map(Box::new);
        Ok(Some(complete))
    }

    /// Takes the answer to an aggregate.
    pub(crate) fn computed(&mut self, result: AggregateResult) -> Result<Option<Complete>, Error> {
        let Some(ticket) = self.sent.get(&result.request).copied() else { return Ok(None) };
        match &self.waiting.get(&ticket).expect("what is sent is waiting").request {
            Request::Aggregate { aggregate, .. }
                if aggregate.aggregations.len() == result.values.len() => {}
            Request::Aggregate { .. } | Request::Get { .. } | Request::Query { .. } => {
                return Err(misunderstood());
            }
        }
        let mut complete = self.complete(result.request, ticket, result.version);
        complete.values = result.values;
        complete.explanation = result.explanation.map(Box::new);
        Ok(Some(complete))
    }

    fn complete(&mut self, number: u32, ticket: Ticket, version: Version) -> Complete {
        self.sent.remove(&number);
        let waiting = self.waiting.remove(&ticket).expect("what is sent is waiting");
        let Waiting { request, source, deadline, documents, whole, .. } = waiting;
        let (values, explanation) = (Vec::new(), None);
        Complete {
            ticket,
            request,
            source,
            deadline,
            version,
            documents,
            values,
            explanation,
            whole,
        }
    }

    /// The server refused: gives who is to be told, unless it is worth asking again.
    pub(crate) fn failed(
        &mut self,
        number: u32,
        error: Error,
        now: Moment,
    ) -> Option<(Ticket, Error)> {
        let ticket = self.sent.remove(&number)?;
        let waiting = self.waiting.get_mut(&ticket).expect("what is sent is waiting");
        if !error.code().is_retryable() {
            self.waiting.remove(&ticket);
            return Some((ticket, error));
        }
        waiting.documents.clear();
        waiting.state = State::Resting { until: now.elapsed + waiting.backoff.next(now.random) };
        None
    }

    /// Gives those whose time is over, and queues those that have rested.
    pub(crate) fn expire(&mut self, now: Duration, reason: &Error) -> Vec<(Ticket, Error)> {
        let over = |waiting: &Waiting| now >= waiting.deadline;
        let expired: Vec<Ticket> = self
            .waiting
            .iter()
            .filter(|(_, waiting)| over(waiting))
            .map(|(ticket, _)| *ticket)
            .collect();
        for ticket in &expired {
            self.remove(*ticket);
        }
        for waiting in self.waiting.values_mut() {
            if matches!(waiting.state, State::Resting { until } if now >= until) {
                waiting.state = State::Queued;
                self.queued += 1;
            }
        }
        let message = format!("no answer in time: {}", reason.message());
        expired.into_iter().map(|ticket| (ticket, Error::unavailable(&message))).collect()
    }

    pub(crate) fn deadline(&self) -> Option<Duration> {
        let due = |waiting: &Waiting| match waiting.state {
            State::Resting { until } => until.min(waiting.deadline),
            State::Queued | State::Sent { .. } => waiting.deadline,
        };
        self.waiting.values().map(due).min().filter(|at| *at < Duration::MAX)
    }

    /// The connection is gone: everything is to be asked again.
    pub(crate) fn leave(&mut self) {
        self.sent.clear();
        self.queued = self.waiting.len();
        for waiting in self.waiting.values_mut() {
            waiting.state = State::Queued;
            waiting.documents.clear();
        }
    }

    /// Gives up all that the app has asked.
    pub(crate) fn clear(&mut self) -> Vec<(Ticket, Request, Source)> {
        let of_the_app: Vec<Ticket> =
            self.waiting.keys().copied().filter(|ticket| !is_own(*ticket)).collect();
        let mut given_up = Vec::with_capacity(of_the_app.len());
        for ticket in of_the_app {
            if let Some(waiting) = self.remove(ticket) {
                given_up.push((ticket, waiting.request, waiting.source));
            }
        }
        given_up
    }
}

/// Whether the server leaves out fields that this client could do without, too. What is nearest is for
/// the server alone to say.
pub(crate) fn is_cut(query: &Query) -> bool {
    query.projection.is_some() && query.nearest.is_none()
}

fn misunderstood() -> Error {
    Error::new(Code::Internal, "the answer is not of the kind that was asked for")
}

/// Refuses a frame that the server would refuse: it would close the connection, again and again.
pub(crate) fn check_size(message: &ClientMessage, limit: u32) -> Result<(), Error> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    // Encoding twice only to measure is for the rare large frames.
    if estimate(message) < limit / 4 {
        return Ok(());
    }
    let actual = encode_client(message).len();
    if actual <= limit {
        return Ok(());
    }
    let message = format!("the request has {actual} bytes; the server's limit is {limit}");
    Err(ModelError::new(Code::ResourceExhausted, message).into())
}

fn estimate(message: &ClientMessage) -> usize {
    const EMPTY: usize = 64;
    match message {
        ClientMessage::Commit(commit) => {
            let writes: usize =
                commit.writes.iter().map(|write| EMPTY + estimate_write(write)).sum();
            let reads: usize =
                commit.reads.iter().map(|read| EMPTY + read.path.as_str().len()).sum();
            EMPTY + writes + reads
        }
        ClientMessage::Get { paths, .. } => {
            paths.iter().map(|path| EMPTY + path.as_str().len()).sum()
        }
        // Their parts are limited by the model.
        ClientMessage::Query { .. }
        | ClientMessage::Aggregate { .. }
        | ClientMessage::Listen(_)
        | ClientMessage::Hello(_)
        | ClientMessage::Unlisten { .. }
        | ClientMessage::Ping { .. }
        | ClientMessage::Digest { .. }
        | ClientMessage::Acknowledge { .. } => EMPTY,
    }
}

fn estimate_write(write: &Write) -> usize {
    let fields = match &write.op {
        WriteOp::Set(fields) | WriteOp::Update { fields, .. } => {
            fields.iter().map(|(name, value)| name.len() + Value::size(value)).sum()
        }
        WriteOp::Merge(collaboration) => collaboration.changes.iter().map(Bytes::len).sum(),
        WriteOp::Delete | WriteOp::Verify => 0,
    };
    // The operands of transforms are not measured: any large one deserves the exact way.
    let transforms = write.transforms.len() * 4096;
    write.path.as_str().len() + fields + transforms
}
