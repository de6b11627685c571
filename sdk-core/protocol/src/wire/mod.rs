//! The sync protocol: messages, their encoding, their limits, and version negotiation.
//!
//! `proto` is generated from `tidemark.proto`. [`client`] and [`server`] are the messages in terms of the model;
//! [`codec`] converts and enforces limits; [`version`] negotiates.

pub mod client;
pub mod codec;
mod convert;
pub mod server;
pub mod version;

/// The generated messages, as they are on the wire.
#[allow(missing_docs, clippy::all, unreachable_pub)]
pub mod proto {
    include!(concat!(env!("OUT_DIR"), "/tidemark.v1.rs"));
}

/// The WebSocket subprotocol.
pub const SUBPROTOCOL: &str = "tidemark.v1";
