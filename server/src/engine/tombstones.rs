//! When deleted documents were deleted, so that a write that was made before and arrives late does
//! not bring them back. The lane writes a tombstone with the delete and trims the oldest, a few with
//! each batch; they outlive the change log.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use tidemark_protocol::model::{DocumentPath, EditTime, Timestamp, Version};

use super::error::EngineError;
use super::index::KeyWrite;
use super::keys::Keys;
use super::records::TombstoneRecord;
use crate::store::{Key, ScanDirection, Snapshot};

/// How many tombstones go with one batch.
const TRIM_PER_BATCH: usize = 256;
/// Bytes of keys after which the rest waits: a transaction has room for little more than its commits.
const TRIM_BYTES: usize = 256 << 10;

/// A document that a commit left deleted, and when that edit was made.
#[derive(Clone, Debug)]
pub(super) struct Tombstone {
    pub(super) path: DocumentPath,
    pub(super) edit: EditTime,
}

impl Tombstone {
    /// What is stored of it: the tombstone itself, and an entry by the commit, for trimming. The entry of
    /// a former tombstone of the document stays until its time comes.
    pub(super) fn entries(&self, keys: Keys, version: Version) -> [KeyWrite; 2] {
        let record = TombstoneRecord { edit: self.edit.0, version: version.0 };
        [
            (keys.tombstone(&self.path), Some(record.encode_to_vec().into())),
            (keys.tombstone_age(version, &self.path), Some(Bytes::new())),
        ]
    }
}

/// When a document that does not exist was deleted, if that is remembered.
pub(super) async fn deleted_at(
    snapshot: &Arc<dyn Snapshot>,
    keys: Keys,
    path: &DocumentPath,
) -> Result<Option<EditTime>, EngineError> {
    let Some(bytes) = snapshot.get(&keys.tombstone(path)).await? else { return Ok(None) };
    let record = TombstoneRecord::decode(bytes).map_err(EngineError::corrupt)?;
    Ok(Some(EditTime(record.edit)))
}

/// Which tombstones have outlived their retention.
#[derive(Debug, Default)]
pub(super) struct Trimming {
    /// No tombstone is older; saves looking.
    oldest: Version,
}

impl Trimming {
    /// The keys to delete with the next batch, and what holds when that is done.
    pub(super) async fn expired(
        &self,
        retention: Duration,
        now: Timestamp,
        keys: Keys,
        last: Version,
        snapshot: &Arc<dyn Snapshot>,
    ) -> Result<(Vec<Key>, Trimming), EngineError> {
        let retention = u64::try_from(retention.as_micros()).unwrap_or(u64::MAX);
        let now = u64::try_from(now.as_micros()).unwrap_or(0);
        let cutoff = Version(now.saturating_sub(retention));
        if self.oldest >= cutoff {
            return Ok((vec![], Trimming { oldest: self.oldest }));
        }
        let range = keys.tombstone_ages();
        let ages = snapshot.scan(range, ScanDirection::Forward, TRIM_PER_BATCH).await?;
        let mut expired = Vec::new();
        // Without any, the next is of a later commit.
        let (mut oldest, mut bytes) = (last, 0);
        for (age, _) in ages {
            let Some((version, tombstone)) = keys.aged(&age) else { continue };
            oldest = version;
            if version >= cutoff || bytes > TRIM_BYTES {
                break;
            }
            bytes += age.len() + tombstone.len();
            expired.push((age, version, tombstone));
        }
        let found: Vec<Key> = expired.iter().map(|(_, _, tombstone)| tombstone.clone()).collect();
        let records = snapshot.get_many(&found).await?;
        let mut trimmed = Vec::with_capacity(2 * expired.len());
        for ((age, version, tombstone), record) in expired.into_iter().zip(records) {
            let record = TombstoneRecord::decode(record.unwrap_or_default());
            // The document may have been deleted again since.
            if record.map_err(EngineError::corrupt)?.version == version.0 {
                trimmed.push(tombstone);
            }
            trimmed.push(age);
        }
        Ok((trimmed, Trimming { oldest }))
    }
}
