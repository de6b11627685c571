//! What the server sends. Documents stay encoded ([`bytes::Bytes`]), shared with the frame or the store;
//! decode them with [`codec::decode_document`](super::codec::decode_document).

use std::time::Duration;

use bytes::Bytes;

use crate::model::{
    Code, DigestAnswer, DocumentPath, Incarnation, IndexDefinition, TargetId, Timestamp, Value,
    Version, WriteId, WriteResult,
};

/// A frame towards the client.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum ServerMessage {
    Welcome(Welcome),
    Listening { target: TargetId, group: u32, version: Version },
    Reset { target: TargetId, reason: String },
    Stale { target: TargetId, reason: String },
    Changes(Changes),
    Aggregated(Aggregated),
    Current { version: Version },
    TargetError { target: TargetId, status: Status },
    Committed { write_id: WriteId, version: Version, results: Vec<WriteResult> },
    Rejected { write_id: WriteId, status: Status },
    Result(QueryResult),
    AggregateResult(AggregateResult),
    DigestResult(DigestResult),
    RequestError { request: u32, status: Status },
    Pong { nonce: u64, server_time: Timestamp },
    Error { status: Status },
    GoAway { status: Status, reconnect_after: Option<Duration> },
}

impl ServerMessage {
    /// Why the server refuses, if that is what the message says.
    pub fn refusal(&self) -> Option<&Status> {
        match self {
            ServerMessage::TargetError { status, .. }
            | ServerMessage::Rejected { status, .. }
            | ServerMessage::RequestError { status, .. }
            | ServerMessage::Error { status }
            | ServerMessage::GoAway { status, .. } => Some(status),
            ServerMessage::Welcome(_)
            | ServerMessage::Listening { .. }
            | ServerMessage::Reset { .. }
            | ServerMessage::Changes(_)
            | ServerMessage::Aggregated(_)
            | ServerMessage::Current { .. }
            | ServerMessage::Committed { .. }
            | ServerMessage::Result(_)
            | ServerMessage::AggregateResult(_)
            | ServerMessage::DigestResult(_)
            | ServerMessage::Stale { .. }
            | ServerMessage::Pong { .. } => None,
        }
    }
}

/// Answers Hello.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub struct Welcome {
    pub protocol_version: u32,
    pub server_time: Timestamp,
    pub session: String,
    pub incarnation: Incarnation,
    pub limits: SessionLimits,
    pub heartbeat: Duration,
}

/// What one connection may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct SessionLimits {
    pub frame_bytes: u32,
    pub targets: u32,
    pub commits_in_flight: u32,
}

/// Changed documents and removals of a group at a version.
#[derive(Clone, Debug, Default, PartialEq)]
#[allow(missing_docs)]
pub struct Changes {
    pub group: u32,
    pub version: Version,
    pub documents: Vec<Bytes>,
    pub removals: Vec<Removal>,
    pub partial: bool,
}

/// A document that left a target.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Removal {
    pub path: DocumentPath,
    pub deleted: bool,
}

/// (A part of) the answer to Get or Query.
#[derive(Clone, Debug, Default, PartialEq)]
#[allow(missing_docs)]
pub struct QueryResult {
    pub request: u32,
    pub version: Version,
    pub documents: Vec<Bytes>,
    pub missing: Vec<DocumentPath>,
    pub more: bool,
    /// With the last part, if asked for.
    pub explanation: Option<Explanation>,
}

/// The present values of a group of aggregate targets at a version.
#[derive(Clone, Debug, Default, PartialEq)]
#[allow(missing_docs)]
pub struct Aggregated {
    pub group: u32,
    pub version: Version,
    pub values: Vec<Value>,
    pub partial: bool,
}

/// The answer to Aggregate: one value for each aggregation.
#[derive(Clone, Debug, Default, PartialEq)]
#[allow(missing_docs)]
pub struct AggregateResult {
    pub request: u32,
    pub version: Version,
    pub values: Vec<Value>,
    pub explanation: Option<Explanation>,
}

/// The answer to Digest: what the server has in each branch that was asked for.
#[derive(Clone, Debug, Default, PartialEq)]
#[allow(missing_docs)]
pub struct DigestResult {
    pub request: u32,
    pub version: Version,
    pub nodes: Vec<DigestAnswer>,
}

/// How a query was answered, and what that took.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Explanation {
    /// For people; indented steps feed the one above them.
    pub steps: Vec<String>,
    /// Entries of indexes, or documents where no index was used.
    pub entries_scanned: u64,
    /// Documents fetched.
    pub documents_read: u64,
    /// Documents returned, or aggregated.
    pub results: u64,
    /// On the server.
    pub time: Duration,
    /// The indexes used.
    pub indexes: Vec<String>,
    /// An index that would make it cheaper.
    pub suggestion: Option<IndexDefinition>,
}

/// Why something was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
#[allow(missing_docs)]
pub struct Status {
    pub code: Code,
    pub message: String,
}
