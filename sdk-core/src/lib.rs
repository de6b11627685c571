//! The Tidemark client.
//!
//! Reading order, from the app's side to the wire:
//!
//! 1. [`Client`] and the references ([`CollectionRef`], [`DocumentRef`]) are what an app holds;
//!    [`Query`] with its [`Filter`]s says which documents, [`AggregateReference`] what to compute of them.
//! 2. [`Batch`] and [`Transaction`] change documents; [`FieldValue`] says how, and [`PendingWrite`] and
//!    [`WriteEvents`] what became of it.
//! 3. [`QueryListener`], [`DocumentListener`] and [`AggregateListener`] are streams of
//!    [`QuerySnapshot`]s, [`DocumentSnapshot`]s and [`AggregateSnapshot`]s.
//!    [`DocumentRef::collaborate`] opens fields that several edit at once, see `collab`.
//! 4. [`convert`] turns serde types into values and back; [`json`] does it for the command line.
//! 5. `driver` is the only loop: it owns the engine and the transport.
//! 6. [`engine`] decides everything: events in, actions out, without I/O, clock or randomness.
//! 7. [`cache`] is where the engine keeps what must outlive a connection.
//! 8. [`runtime`] is the platform: clock, randomness, tasks, transport.

mod aggregate;
pub mod cache;
mod client;
#[cfg(feature = "collab")]
pub mod collab;
pub mod convert;
mod driver;
pub mod engine;
mod error;
mod filter;
pub mod json;
mod pending;
mod query;
mod queue;
mod reference;
pub mod runtime;
mod snapshot;
mod subscription;
mod transaction;
mod write;

pub use aggregate::{Aggregate, AggregateListener, AggregateReference, AggregateSnapshot};
pub use client::{Client, ClientBuilder};
pub use convert::{Bytes, GeoPoint, Reference, Timestamp, Vector};
pub use convert::{from_fields, from_value, to_fields, to_value};
pub use engine::Source;
pub use error::Error;
pub use filter::Filter;
pub use pending::{
    Committed, OutboxWrite, PendingAdd, PendingWrite, RejectedWrite, WriteEvent, WriteEvents,
    WriteStage,
};
pub use query::Query;
pub use reference::{CollectionRef, DocumentRef};
pub use snapshot::{ChangeKind, DocumentChange, DocumentSnapshot, QuerySnapshot, SnapshotMetadata};
pub use subscription::{
    ConnectionState, ConnectionStates, DocumentListener, ListenOptions, QueryListener,
};
pub use tidemark_protocol::model::{
    Code, CollectionPath, Direction, DistanceMeasure, DocumentPath, EditTime, FieldPath, Fields,
    IndexDefinition, IndexField, IndexMode, IndexScope, Nearest, Operator, Precondition,
    Superseded, Value, Version, Write, WriteId, WriteResult,
};
pub use tidemark_protocol::wire::server::Explanation;
pub use transaction::Transaction;
pub use write::{Batch, FieldValue};
