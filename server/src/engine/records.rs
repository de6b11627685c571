//! What the engine stores besides documents, as protobuf records.

use bytes::Bytes;
use prost::Message;
use tidemark_protocol::model::{FieldPath, Superseded, Version, WriteId, WriteResult};
use tidemark_protocol::wire::codec;

use super::error::EngineError;

/// The state of a database that every commit moves on.
#[derive(Clone, PartialEq, Message)]
pub(super) struct MetaRecord {
    #[prost(fixed64, tag = "1")]
    pub(super) incarnation: u64,
    #[prost(fixed64, tag = "2")]
    pub(super) last_version: u64,
    /// Every commit after this version is in the log.
    #[prost(fixed64, tag = "3")]
    pub(super) log_start: u64,
    /// Bytes of keys and values in the log.
    #[prost(uint64, tag = "4")]
    pub(super) log_bytes: u64,
}

/// One commit: its changed documents as they were before and after.
#[derive(Clone, PartialEq, Message)]
pub(super) struct LogRecord {
    #[prost(message, repeated, tag = "1")]
    pub(super) changes: Vec<ChangeRecord>,
}

/// One changed document; at least one of the two is there.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ChangeRecord {
    #[prost(bytes = "bytes", optional, tag = "1")]
    pub(super) before: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "2")]
    pub(super) after: Option<Bytes>,
}

/// When a document that does not exist was deleted.
#[derive(Clone, PartialEq, Message)]
pub(super) struct TombstoneRecord {
    /// The edit time of the delete.
    #[prost(fixed64, tag = "1")]
    pub(super) edit: u64,
    /// The commit, which says how long it is kept.
    #[prost(fixed64, tag = "2")]
    pub(super) version: u64,
}

/// What a client's unacknowledged writes came to.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ClientRecord {
    #[prost(uint64, tag = "1")]
    pub(super) acknowledged_through: u64,
    #[prost(message, repeated, tag = "2")]
    pub(super) outcomes: Vec<OutcomeRecord>,
}

/// The outcome of one committed write.
#[derive(Clone, PartialEq, Message)]
pub(super) struct OutcomeRecord {
    #[prost(uint64, tag = "1")]
    pub(super) write_id: u64,
    #[prost(fixed64, tag = "2")]
    pub(super) version: u64,
    #[prost(message, repeated, tag = "3")]
    pub(super) results: Vec<ResultRecord>,
}

/// The transform results of one write, each an encoded value, and what of it came too late.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ResultRecord {
    #[prost(bytes = "bytes", repeated, tag = "1")]
    pub(super) transform_results: Vec<Bytes>,
    /// The field paths that were superseded.
    #[prost(string, repeated, tag = "2")]
    pub(super) superseded: Vec<String>,
    /// The whole write was superseded.
    #[prost(bool, tag = "3")]
    pub(super) superseded_whole: bool,
}

impl OutcomeRecord {
    pub(super) fn new(write_id: WriteId, version: Version, results: &[WriteResult]) -> Self {
        // Most writes have no results: an empty list stands for as many empty ones.
        let has_results = results.iter().any(|result| *result != WriteResult::default());
        let results =
            if has_results { results.iter().map(ResultRecord::new).collect() } else { vec![] };
        OutcomeRecord { write_id: write_id.0, version: version.0, results }
    }

    /// The results, one for each of `writes` writes.
    pub(super) fn results(&self, writes: usize) -> Result<Vec<WriteResult>, EngineError> {
        let mut results =
            self.results.iter().map(ResultRecord::decode_values).collect::<Result<Vec<_>, _>>()?;
        results.resize(writes.max(results.len()), WriteResult::default());
        Ok(results)
    }
}

impl ResultRecord {
    fn new(result: &WriteResult) -> ResultRecord {
        let transform_results = result.transform_results.iter().map(codec::encode_value).collect();
        let (superseded, superseded_whole) = match &result.superseded {
            Superseded::Nothing => (vec![], false),
            Superseded::Fields(fields) => {
                (fields.iter().map(FieldPath::to_string).collect(), false)
            }
            Superseded::Whole => (vec![], true),
        };
        ResultRecord { transform_results, superseded, superseded_whole }
    }

    fn decode_values(&self) -> Result<WriteResult, EngineError> {
        let values = self.transform_results.iter().map(codec::decode_value);
        let transform_results =
            values.collect::<Result<Vec<_>, _>>().map_err(EngineError::corrupt)?;
        let fields = self.superseded.iter().map(|field| FieldPath::parse(field));
        let fields = fields.collect::<Result<Vec<_>, _>>().map_err(EngineError::corrupt)?;
        let superseded = match (self.superseded_whole, fields.is_empty()) {
            (true, _) => Superseded::Whole,
            (false, true) => Superseded::Nothing,
            (false, false) => Superseded::Fields(fields),
        };
        Ok(WriteResult { transform_results, superseded })
    }
}
