//! Opening a database: its number in the store, and its state.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use tidemark_protocol::model::{Incarnation, Timestamp};

use super::error::EngineError;
use super::index;
use super::keys::{self, Keys};
use super::records::MetaRecord;
use crate::store::Store;

/// Finds a database by name, or creates it.
pub(super) async fn open(
    store: &Arc<dyn Store>,
    project: &str,
    database: &str,
    now: Timestamp,
    incarnation: Incarnation,
) -> Result<(Keys, MetaRecord), EngineError> {
    let mut transaction = store.begin().await?;
    let name = keys::catalog(project, database);
    if let Some(number) = transaction.get(&name).await? {
        let keys = Keys::new(number_from(&number)?);
        let meta = transaction.get(&keys.meta()).await?;
        let meta = meta.ok_or_else(|| EngineError::corrupt("a database has no state record"))?;
        return Ok((keys, MetaRecord::decode(meta).map_err(EngineError::corrupt)?));
    }
    let last = transaction.get(&keys::catalog_last()).await?;
    let number = last.map_or(Ok(0), |last| number_from(&last))? + 1;
    let keys = Keys::new(number);
    // Tokens of a former life are from before: none of them can be continued from.
    let version = u64::try_from(now.as_micros()).unwrap_or(0);
    let meta = MetaRecord {
        incarnation: incarnation.0,
        last_version: version,
        log_start: version,
        log_bytes: 0,
    };
    transaction.put(name, Bytes::copy_from_slice(&number.to_be_bytes()));
    transaction.put(keys::catalog_last(), Bytes::copy_from_slice(&number.to_be_bytes()));
    transaction.put(keys.meta(), meta.encode_to_vec().into());
    let (key, record) = index::fresh(keys);
    transaction.put(key, record);
    transaction.commit().await?;
    Ok((keys, meta))
}

fn number_from(bytes: &[u8]) -> Result<u32, EngineError> {
    let bytes = bytes.try_into().map_err(|_| EngineError::corrupt("a database number"))?;
    Ok(u32::from_be_bytes(bytes))
}
