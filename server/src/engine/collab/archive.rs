//! Former epochs, kept for changes that come late. Each is a record in a table of its own, split in
//! parts; only the server reads them.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;
use tidemark_protocol::model::collab::{CollabDocument, TextUnit};
use tidemark_protocol::model::{DocumentPath, Version};

use super::super::error::{EngineError, Rejection};
use super::history::History;
use super::merge::Target;
use super::view::View;
use super::{ACTOR, Written};

/// Former epochs kept of one document; changes against older ones are refused.
const KEPT: usize = 8;

/// A former epoch.
#[derive(Clone, PartialEq, Message)]
struct Record {
    /// The epoch that its changes are made for; 0 for one that began beside an epoch that was there.
    #[prost(fixed64, tag = "1")]
    epoch: u64,
    /// The epoch that took its place.
    #[prost(fixed64, tag = "2")]
    next: u64,
    /// The state of the next epoch that has its values, as hashes one after the other.
    #[prost(bytes = "bytes", tag = "3")]
    carried: Bytes,
    #[prost(bytes = "bytes", repeated, tag = "4")]
    parts: Vec<Bytes>,
}

/// A former epoch in memory.
pub(super) struct Former {
    /// Names the record: the version of the commit that archived it.
    pub(super) id: u64,
    pub(super) epoch: Version,
    pub(super) next: Version,
    pub(super) carried: Vec<[u8; 32]>,
    pub(super) document: CollabDocument,
}

/// The bytes of one part of a stored record.
const PART_BYTES: usize = 900 << 10;

/// All former epochs of a document, the oldest first.
pub(super) async fn load(
    view: View<'_>,
    path: &DocumentPath,
    pending: &Written,
) -> Result<Vec<Former>, EngineError> {
    let mut records: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
    for (key, bytes) in stored(view, path, pending).await? {
        if let Some((id, _)) = view.keys.archive_entry(path, &key) {
            records.entry(id).or_default().extend_from_slice(&bytes);
        }
    }
    records.into_iter().map(|(id, bytes)| decode(id, &bytes)).collect()
}

/// The entries of a document, those that the batch will write included.
async fn stored(
    view: View<'_>,
    path: &DocumentPath,
    pending: &Written,
) -> Result<BTreeMap<Vec<u8>, Bytes>, EngineError> {
    let mut found: BTreeMap<_, _> = view.scan(view.keys.archive(path)).await?.into_iter().collect();
    for (key, value) in view.archived.iter().chain(&pending.archive) {
        if view.keys.archive_entry(path, key).is_some() {
            match value {
                Some(value) => found.insert(key.clone(), value.clone()),
                None => found.remove(key),
            };
        }
    }
    Ok(found)
}

fn decode(id: u64, bytes: &[u8]) -> Result<Former, EngineError> {
    let record = Record::decode(bytes).map_err(EngineError::corrupt)?;
    let parts = record.parts.iter().map(|part| &part[..]);
    let document = CollabDocument::load(ACTOR, TextUnit::CodePoints, parts, [])
        .map_err(EngineError::corrupt)?;
    let (carried, _) = record.carried.as_chunks::<32>();
    Ok(Former {
        id,
        epoch: Version(record.epoch),
        next: Version(record.next),
        carried: carried.to_vec(),
        document,
    })
}

/// Archives an epoch that another takes the place of, and removes what is stored of it.
pub(super) async fn add(
    view: View<'_>,
    target: Target<'_>,
    history: History,
    next: &History,
    carried: Vec<[u8; 32]>,
    out: &mut Written,
) -> Result<(), Rejection> {
    history.remove(target.path, out)?;
    let former = Former {
        id: target.at.version.0,
        epoch: history.epoch,
        next: next.epoch,
        carried,
        document: history.document,
    };
    put(view, target.path, former, out).await
}

/// Stores a former epoch, in the place of what was stored under its id.
pub(super) async fn put(
    view: View<'_>,
    path: &DocumentPath,
    mut former: Former,
    out: &mut Written,
) -> Result<(), Rejection> {
    let record = Record {
        epoch: former.epoch.0,
        next: former.next.0,
        carried: former.carried.concat().into(),
        parts: former.document.save(),
    };
    let keys: Vec<Vec<u8>> = stored(view, path, out).await?.into_keys().collect();
    let mut ids: Vec<u64> = keys
        .iter()
        .filter_map(|key| view.keys.archive_entry(path, key).map(|(id, _)| id))
        .filter(|id| *id != former.id)
        .collect();
    ids.dedup();
    let surplus = &ids[..(ids.len() + 1).saturating_sub(KEPT)];
    for key in keys {
        let id = view.keys.archive_entry(path, &key).map(|(id, _)| id);
        if id.is_some_and(|id| id == former.id || surplus.contains(&id)) {
            out.archive.push((key, None));
        }
    }
    let bytes = Bytes::from(record.encode_to_vec());
    for (part, at) in (0..bytes.len()).step_by(PART_BYTES).enumerate() {
        let key = view.keys.archive_part(path, former.id, part as u64);
        out.archive.push((key, Some(bytes.slice(at..bytes.len().min(at + PART_BYTES)))));
    }
    Ok(())
}

/// Removes all former epochs of a document.
pub(super) async fn remove_all(
    view: View<'_>,
    path: &DocumentPath,
    out: &mut Written,
) -> Result<(), Rejection> {
    for key in stored(view, path, out).await?.into_keys() {
        out.archive.push((key, None));
    }
    Ok(())
}
