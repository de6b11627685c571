//! Collection in a store: reads what there is and when it was used, and removes what
//! [`select`](crate::cache::collect::select) says.

use std::collections::{HashMap, HashSet};

use bytes::Buf;

use super::draft::Draft;
use super::layout::{self, Kind};
use super::records::{DocumentRecord, TargetRecord, decode_outbox, decode_rejected};
use crate::cache::collect::{Candidate, CandidateTarget, select};
use crate::cache::{CacheError, Keep};

/// A document's key, its size, and when it was used.
type Stored = (Vec<u8>, u64, u64);

/// A target's own key, what is kept of it, and the keys of its documents.
type StoredTarget = (Vec<u8>, TargetRecord, Vec<Vec<u8>>);

/// Removes what was not used for the longest time: at least `excess` bytes, if so many may go.
pub(super) fn drop_unused(
    draft: &mut Draft<'_>,
    keep: Keep<'_>,
    excess: u64,
) -> Result<(), CacheError> {
    if excess == 0 {
        return Ok(());
    }
    let (documents, targets) = (stored_documents(draft)?, stored_targets(draft)?);
    let pinned = pinned(draft, keep)?;
    let candidates = documents.iter().map(|(key, bytes, used)| Candidate {
        name: key.as_slice(),
        bytes: *bytes,
        used: *used,
        pinned: pinned.contains(key),
    });
    let candidate_targets = targets.iter().map(|(key, record, members)| CandidateTarget {
        name: key.as_slice(),
        used: record.stored,
        active: keep.targets.contains(key.as_slice()),
        members: members.iter().map(Vec::as_slice).collect(),
    });
    let dropped = select(candidates.collect(), candidate_targets.collect(), excess);
    for document in dropped.documents {
        draft.forget(document.to_vec());
    }
    for target in dropped.targets {
        draft.remove_target(target)?;
    }
    Ok(())
}

fn stored_documents(draft: &Draft<'_>) -> Result<Vec<Stored>, CacheError> {
    let mut uses: HashMap<Vec<u8>, u64> = HashMap::new();
    for (key, value) in draft.prefixed(&[Kind::Use.byte()])? {
        uses.insert(key, value.as_slice().try_get_u64().unwrap_or_default());
    }
    let documents = draft.prefixed(&[Kind::Document.byte()])?.into_iter();
    let stored = |(key, record): (Vec<u8>, Vec<u8>)| {
        let bytes = (key.len() + record.len()) as u64;
        let read = uses.get(&layout::usage(&key)).copied().unwrap_or_default();
        let stored = DocumentRecord::decode(record)?.stored();
        Ok((key, bytes, stored.max(read)))
    };
    documents.map(stored).collect()
}

fn stored_targets(draft: &Draft<'_>) -> Result<Vec<StoredTarget>, CacheError> {
    let mut targets = Vec::new();
    for (key, record) in draft.prefixed(&[Kind::Target.byte()])? {
        let record = TargetRecord::decode(&record)?;
        let members = draft.prefixed(&layout::members(record.id))?;
        let documents = members.iter().map(|(key, _)| layout::document_of_member(key)).collect();
        targets.push((key[1..].to_vec(), record, documents));
    }
    Ok(targets)
}

/// The keys of the documents that must stay whatever their targets are.
fn pinned(draft: &Draft<'_>, keep: Keep<'_>) -> Result<HashSet<Vec<u8>>, CacheError> {
    let mut pinned: HashSet<Vec<u8>> = keep.documents.iter().map(layout::document).collect();
    let mut pin = |writes: &[tidemark_protocol::model::Write]| {
        pinned.extend(writes.iter().map(|write| layout::document(&write.path)));
    };
    for (_, record) in draft.prefixed(&[Kind::Outbox.byte()])? {
        pin(&decode_outbox(&record)?.writes);
    }
    for (_, record) in draft.prefixed(&[Kind::Rejected.byte()])? {
        pin(&decode_rejected(&record)?.writes);
    }
    Ok(pinned)
}
