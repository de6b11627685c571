//! What a client sends.

use crate::model::{
    AggregateQuery, ClientId, DigestNode, DocumentPath, EditTime, Query, Read, ResumeToken, Target,
    TargetId, Write, WriteId,
};

/// A frame towards the server.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum ClientMessage {
    Hello(Hello),
    Listen(Listen),
    Unlisten { target: TargetId },
    Commit(Commit),
    Get { request: u32, paths: Vec<DocumentPath> },
    Query { request: u32, query: Query, explain: bool },
    Aggregate { request: u32, aggregate: AggregateQuery, explain: bool },
    Ping { nonce: u64 },
    Acknowledge { through: WriteId },
    Digest { request: u32, target: Target, nodes: Vec<DigestNode> },
}

/// The first message of a connection.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub struct Hello {
    pub protocol_version: u32,
    pub minimum_version: u32,
    pub project: String,
    pub database: String,
    pub token: String,
    pub client_id: ClientId,
    pub acknowledged_through: WriteId,
    pub agent: String,
}

/// Begins to listen.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub struct Listen {
    pub target_id: TargetId,
    pub target: Target,
    pub resume: Option<ResumeToken>,
    /// Whether, if the token is too old, the client rather compares digests than be sent everything.
    pub reconciles: bool,
}

/// Writes that take effect together or not at all.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub struct Commit {
    pub write_id: WriteId,
    pub writes: Vec<Write>,
    pub reads: Vec<Read>,
    pub acknowledged_through: WriteId,
    /// When it was made; none: now.
    pub edit_time: Option<EditTime>,
    /// The write before it that is not answered yet and that writes one of the same documents.
    pub follows: Option<WriteId>,
}
