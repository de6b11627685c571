//! Which entries of the change log have outlived their retention. The lane deletes them with its
//! next batch, a few at a time, so that no commit waits long for it.

use std::sync::Arc;

use tidemark_protocol::model::{Timestamp, Version};

use super::error::EngineError;
use super::keys::Keys;
use super::options::DatabaseOptions;
use super::records::MetaRecord;
use crate::store::{Key, ScanDirection, Snapshot};

/// How many entries go with one batch.
const TRIM_PER_BATCH: usize = 256;

/// The keys to delete; `meta` is moved on as if they were.
pub(super) async fn expired(
    options: &DatabaseOptions,
    now: Timestamp,
    keys: Keys,
    meta: &mut MetaRecord,
    snapshot: &Arc<dyn Snapshot>,
) -> Result<Vec<Key>, EngineError> {
    let retention = u64::try_from(options.log_retention.as_micros()).unwrap_or(u64::MAX);
    let cutoff = u64::try_from(now.as_micros()).unwrap_or(0).saturating_sub(retention);
    if meta.log_start >= cutoff && meta.log_bytes <= options.log_bytes {
        return Ok(vec![]);
    }
    let range = keys.log_range(Version(meta.log_start), Version(meta.last_version));
    let entries = snapshot.scan(range, ScanDirection::Forward, TRIM_PER_BATCH).await?;
    let exhausted = entries.len() < TRIM_PER_BATCH;
    let mut trimmed = Vec::new();
    for (key, value) in entries {
        let Some(version) = Keys::log_version(&key) else { continue };
        if version.0 >= cutoff && meta.log_bytes <= options.log_bytes {
            return Ok(trimmed);
        }
        meta.log_start = version.0;
        meta.log_bytes = meta.log_bytes.saturating_sub((key.len() + value.len()) as u64);
        trimmed.push(key);
    }
    if exhausted {
        // Nothing is left before the cutoff: a token from before it still misses nothing, but
        // remembering the cutoff saves looking again.
        meta.log_start = meta.log_start.max(cutoff.min(meta.last_version));
    }
    Ok(trimmed)
}
