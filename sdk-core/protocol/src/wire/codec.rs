//! Encoding and decoding of frames and documents, with their limits: what the rest of the
//! project calls.
//!
//! The encoding is that of `tidemark.proto`, written by hand between bytes and the model. It
//! spares documents a detour through generated messages, shares their bytes with the frame, and
//! checks each count before memory is spent on it. Tests hold it against the generated code.
//!
//! Decoding accepts what protobuf accepts, but for three things that nobody sends: a frame with
//! two messages, a message split in two that is no value (its last part counts; values and
//! documents are put together as the standard asks), and groups nested more than 100 deep.

use bytes::Bytes;

use super::client::ClientMessage;
use super::fault::Fault;
use super::reader::Reader;
use super::server::ServerMessage;
use super::{client_codec, query, server_codec, value, write};
use crate::model::{Document, ModelError, Query, Target, TargetId, Value, Version, Write, WriteId};

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
    /// A message that breaks a rule of the model. `scope` names what it was about, so that the
    /// answer can say so.
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
    Target(TargetId),
    Write(WriteId),
    Request(u32),
}

impl DecodeError {
    fn new(scope: Scope, fault: Fault) -> DecodeError {
        match fault {
            Fault::Malformed(problem) => DecodeError::Malformed(problem),
            Fault::Model(error) => DecodeError::Invalid { scope, error },
        }
    }

    fn unscoped(fault: Fault) -> DecodeError {
        DecodeError::new(Scope::Connection, fault)
    }
}

/// Encodes a frame towards the server.
pub fn encode_client(message: &ClientMessage) -> Bytes {
    client_codec::write_message(message)
}

/// Decodes a frame from a client, of at most `limit` bytes. Queries, targets and commits have been
/// validated by the model.
pub fn decode_client(frame: &Bytes, limit: usize) -> Result<ClientMessage, DecodeError> {
    if frame.len() > limit {
        return Err(DecodeError::TooLarge { limit, actual: frame.len() });
    }
    client_codec::read_message(frame).map_err(|(scope, fault)| DecodeError::new(scope, fault))
}

/// Encodes a frame towards the client.
pub fn encode_server(message: &ServerMessage) -> Bytes {
    server_codec::write_message(message)
}

/// Decodes a frame from the server. Documents share the frame's buffer.
pub fn decode_server(frame: &Bytes) -> Result<ServerMessage, DecodeError> {
    server_codec::read_message(frame).map_err(DecodeError::unscoped)
}

/// Encodes a document: its stored bytes and its wire bytes.
pub fn encode_document(document: &Document) -> Bytes {
    encode(|out| value::write_document(document, out))
}

/// Decodes a document.
pub fn decode_document(bytes: &Bytes) -> Result<Document, DecodeError> {
    value::read_document(Reader::new(bytes)).map_err(DecodeError::unscoped)
}

/// The path, create version and update version of an encoded document, without decoding its fields.
pub fn peek_document(bytes: &[u8]) -> Result<(&str, Version, Version), DecodeError> {
    value::peek_document(Reader::new(bytes)).map_err(DecodeError::unscoped)
}

/// One encoding per meaning: identical targets have identical bytes.
pub fn canonical_target(target: &Target) -> Bytes {
    encode(|out| query::write_canonical(target, out))
}

/// Encodes a value by itself (for stores and caches).
pub fn encode_value(value: &Value) -> Bytes {
    encode(|out| value::write_value(value, out))
}

/// Decodes a value.
pub fn decode_value(bytes: &Bytes) -> Result<Value, DecodeError> {
    value::read_value(Reader::new(bytes)).map_err(DecodeError::unscoped)
}

/// Encodes a write by itself (for an outbox on disk).
pub fn encode_write(write: &Write) -> Bytes {
    encode(|out| write::write_write(write, out))
}

/// Decodes a write, which the model has not judged.
pub fn decode_write(bytes: &Bytes) -> Result<Write, DecodeError> {
    write::read_write(Reader::new(bytes)).map_err(DecodeError::unscoped)
}

/// Encodes a query by itself.
pub fn encode_query(query: &Query) -> Bytes {
    encode(|out| query::write_query(query, out))
}

/// Decodes a query, which the model has not judged.
pub fn decode_query(bytes: &Bytes) -> Result<Query, DecodeError> {
    query::read_query(Reader::new(bytes)).map_err(DecodeError::unscoped)
}

fn encode(write: impl FnOnce(&mut Vec<u8>)) -> Bytes {
    let mut out = Vec::with_capacity(256);
    write(&mut out);
    out.into()
}
