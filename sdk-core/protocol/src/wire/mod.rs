//! The sync protocol: messages, their encoding, their limits, and version negotiation.
//!
//! [`client`] and [`server`] are the messages in terms of the model; [`codec`] is their encoding
//! and its limits; [`version`] negotiates. [`proto`] is generated from `tidemark.proto`, which
//! specifies the frames: tests hold the codec against it, and tools may use it.

pub mod client;
mod client_codec;
pub mod codec;
mod digest;
mod explanation;
mod fault;
mod merge_state;
mod query;
mod reader;
pub mod server;
mod server_codec;
mod value;
pub mod version;
mod write;
mod writer;

/// The generated messages, as they are on the wire.
#[allow(missing_docs, clippy::all, unreachable_pub)]
pub mod proto {
    include!(concat!(env!("OUT_DIR"), "/tidemark.v1.rs"));
}

/// The WebSocket subprotocol.
pub const SUBPROTOCOL: &str = "tidemark.v1";
