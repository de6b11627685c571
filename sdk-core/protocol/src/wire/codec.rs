//! Encoding and decoding of frames and documents, with their limits.

use bytes::Bytes;

use super::client::ClientMessage;
use super::server::ServerMessage;
use crate::model::{Document, ModelError, Query, Target, Value, Write};

/// A frame or document that cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Larger than the limit.
    #[error("the frame has {actual} bytes; the limit is {limit}")]
    TooLarge {
        /// Bytes allowed.
        limit: usize,
        /// Bytes found.
        actual: usize,
    },
    /// Not a message of this protocol.
    #[error("the frame is not a Tidemark message: {0}")]
    Malformed(String),
    /// A message that breaks a rule of the model. `scope` names what it was about, so that the answer can say so.
    #[error("{error}")]
    Invalid {
        /// What the frame was about.
        scope: Scope,
        /// The rule broken.
        error: ModelError,
    },
}

/// What a frame that breaks a rule was about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Scope {
    Connection,
    Target(crate::model::TargetId),
    Write(crate::model::WriteId),
    Request(u32),
}

/// Encodes a frame towards the server.
pub fn encode_client(message: &ClientMessage) -> Bytes {
    let _ = message;
    todo!()
}
/// Decodes a frame from a client, of at most `limit` bytes.
pub fn decode_client(frame: &Bytes, limit: usize) -> Result<ClientMessage, DecodeError> {
    let _ = (frame, limit);
    todo!()
}
/// Encodes a frame towards the client.
pub fn encode_server(message: &ServerMessage) -> Bytes {
    let _ = message;
    todo!()
}
/// Decodes a frame from the server. Documents share the frame's buffer.
pub fn decode_server(frame: &Bytes) -> Result<ServerMessage, DecodeError> {
    let _ = frame;
    todo!()
}
/// Encodes a document: its stored bytes and its wire bytes.
pub fn encode_document(document: &Document) -> Bytes {
    let _ = document;
    todo!()
}
/// Decodes a document.
pub fn decode_document(bytes: &Bytes) -> Result<Document, DecodeError> {
    let _ = bytes;
    todo!()
}
/// The path, create version and update version of an encoded document, without decoding its fields.
pub fn peek_document(
    bytes: &[u8],
) -> Result<(&str, crate::model::Version, crate::model::Version), DecodeError> {
    let _ = bytes;
    todo!()
}
/// One encoding per meaning: identical targets have identical bytes.
pub fn canonical_target(target: &Target) -> Bytes {
    let _ = target;
    todo!()
}
/// Encodes a value by itself (for stores and caches).
pub fn encode_value(value: &Value) -> Bytes {
    let _ = value;
    todo!()
}
/// Decodes a value.
pub fn decode_value(bytes: &Bytes) -> Result<Value, DecodeError> {
    let _ = bytes;
    todo!()
}
/// Encodes a write by itself (for an outbox on disk).
pub fn encode_write(write: &Write) -> Bytes {
    let _ = write;
    todo!()
}
/// Decodes a write.
pub fn decode_write(bytes: &Bytes) -> Result<Write, DecodeError> {
    let _ = bytes;
    todo!()
}
/// Encodes a query by itself.
pub fn encode_query(query: &Query) -> Bytes {
    let _ = query;
    todo!()
}
