//! The data model: pure types and rules, shared by client and server.

mod aggregate;
mod clocks;
#[cfg(feature = "collab")]
pub mod collab;
mod digest;
mod disjunctions;
mod document;
mod error;
mod evaluate;
mod exact_sum;
mod field_path;
mod ids;
mod index;
pub mod key;
pub mod limits;
mod matching;
mod merge;
mod mutation;
mod nearest;
mod number;
mod path;
mod query;
mod size;
mod timestamp;
mod validation;
mod value;

pub use aggregate::{AggregateQuery, AggregateState, Aggregation, AggregationKind};
pub use clocks::{COLLABORATIVE_ID, Clocks, Collaborative, CollaborativeKind, MergeState};
pub use digest::{DigestAnswer, DigestNode, DigestPart, DigestSurvey, DigestTree, Fingerprint};
pub use document::{Document, Fields};
pub use error::{Code, ModelError};
pub use evaluate::{aggregate, evaluate};
pub use field_path::FieldPath;
pub use ids::{ClientId, EditTime, Incarnation, ResumeToken, TargetId, Version, WriteId};
pub use index::{IndexDefinition, IndexField, IndexMode, IndexScope};
pub use matching::Matcher;
pub use merge::{Applied, CommitTime, apply_write, check_precondition};
pub use mutation::{
    Collaboration, FieldTransform, Precondition, Read, Superseded, Transform, Write, WriteOp,
    WriteResult, validate_commit,
};
pub use nearest::{DistanceMeasure, Nearest};
pub use path::{CollectionPath, DocumentPath};
pub use query::{Cursor, Direction, FieldFilter, Filter, Operator, Order, Query, Target};
pub use timestamp::Timestamp;
pub use value::{GeoPoint, TypeOrder, Value};
