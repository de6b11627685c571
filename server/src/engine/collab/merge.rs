//! Changes of collaborative fields.

use std::collections::BTreeSet;

use bytes::Bytes;
use tidemark_protocol::model::collab::{CollabDocument, CollabError, TextUnit};
use tidemark_protocol::model::{
    Applied, Code, Collaboration, Collaborative, CommitTime, Document, DocumentPath, EditTime,
    FieldPath, Fields, ModelError, Superseded, Write, WriteOp, apply_write,
};

use super::super::error::Rejection;
use super::cache::Collab;
use super::history::{History, refused};
use super::view::View;
use super::{ACTOR, Written, archive, late};

/// The bytes of one epoch: its snapshot and the changes since. A new epoch is begun long before,
/// so this is what is left if the content itself is large or one commit brings very much.
const BUDGET: usize = 8 << 20;
/// A new epoch must be this many times smaller.
const WORTH: usize = 2;

/// The document that changes are for.
#[derive(Clone, Copy)]
pub(super) struct Target<'a> {
    pub(super) path: &'a DocumentPath,
    pub(super) current: Option<&'a Document>,
    pub(super) deleted: Option<EditTime>,
    pub(super) at: CommitTime,
}

/// Applies a [`WriteOp::Merge`].
pub(super) async fn merge(
    collab: &mut Collab,
    view: View<'_>,
    target: Target<'_>,
    collaboration: &Collaboration,
) -> Result<Written, Rejection> {
    let unchanged = show(target, Fields::new(), target.at)?;
    if unchanged.result.superseded == Superseded::Whole {
        return Ok(Written { applied: unchanged, history: vec![], archive: vec![] });
    }
    let known = target.current.and_then(|document| document.merge.collaborative.as_deref());
    let mut history = match known {
        Some(known) => collab.take(view, target.path, known.epoch).await?,
        None if collaboration.epoch.0 == 0 => {
            let document = CollabDocument::new(ACTOR, TextUnit::CodePoints);
            History::new(target.at.version, document)
        }
        None => return Err(unknown_epoch(collaboration)),
    };
    let mut out = Written { applied: unchanged, history: vec![], archive: vec![] };
    let is_current = collaboration.epoch.0 == 0 || collaboration.epoch == history.epoch;
    let direct = match is_current && !begins_elsewhere(known, &mut history, collaboration)? {
        true => match merge_direct(&mut history, target, collaboration) {
            // Its first changes may have been carried over from another beginning.
            Err(CollabError::MissingDependencies) if collaboration.epoch.0 == 0 => None,
            merged => Some(merged.map_err(refused)?),
        },
        false => None,
    };
    let (changes, fields) = match direct {
        Some(merged) => merged,
        None => late::merge(view, target, &mut history, collaboration, &mut out).await?,
    };
    finish(collab, view, target, history, &changes, fields, out).await
}

fn begins_elsewhere(
    known: Option<&Collaborative>,
    history: &mut History,
    collaboration: &Collaboration,
) -> Result<bool, Rejection> {
    let changes = collaboration.changes.iter().map(|change| &change[..]);
    let is_new = known.is_none() || collaboration.epoch.0 != 0;
    Ok(!is_new && history.document.begins_elsewhere(changes).map_err(refused)?)
}

/// What the author of changes against a history that is not here is told.
pub(super) fn unknown_epoch(collaboration: &Collaboration) -> Rejection {
    let message = format!(
        "the collaborative fields have no epoch {} that these changes continue",
        collaboration.epoch
    );
    ModelError::new(Code::FailedPrecondition, message).into()
}

/// The changes added, and the fields they may have changed.
pub(super) type Added = (Vec<Bytes>, BTreeSet<String>);

/// Merges changes into the epoch they were made for.
fn merge_direct(
    history: &mut History,
    target: Target<'_>,
    collaboration: &Collaboration,
) -> Result<Added, CollabError> {
    let bytes = || collaboration.changes.iter().map(|change| &change[..]);
    let before = history.document.kinds();
    let merged = history.document.merge(bytes())?;
    let mut added = merged.new;
    let mut fields: BTreeSet<String> =
        merged.patches.into_iter().map(|patch| patch.field).collect();
    let new = history.document.kinds().into_keys().filter(|field| !before.contains_key(field));
    let new: Vec<String> = new.collect();
    if !new.is_empty() {
        added.extend(fold_plain(history, target, &new, bytes())?);
        fields.extend(new);
    }
    Ok((added, fields))
}

/// A field that becomes collaborative may hold another plain value than its author began with: the
/// difference is made beside the author's edits, so that both stay.
fn fold_plain<'a>(
    history: &mut History,
    target: Target<'_>,
    new: &[String],
    changes: impl Iterator<Item = &'a [u8]>,
) -> Result<Vec<Bytes>, CollabError> {
    let Some(current) = target.current else { return Ok(vec![]) };
    let actor = [b"plain", &target.at.version.0.to_be_bytes()[..]].concat();
    let mut beginning = CollabDocument::beginning(&actor, TextUnit::CodePoints, changes)?;
    for field in new {
        if let Some(plain) = current.fields.get(field) {
            beginning.assign(field, plain)?;
        }
    }
    let folded = beginning.take_changes();
    Ok(history.document.merge(folded.iter().map(|change| &change[..]))?.new)
}

/// Shows the values in the document, stores the changes, and begins a new epoch if it is time.
pub(super) async fn finish(
    collab: &mut Collab,
    view: View<'_>,
    target: Target<'_>,
    mut history: History,
    changes: &[Bytes],
    fields: BTreeSet<String>,
    mut out: Written,
) -> Result<Written, Rejection> {
    if changes.is_empty() {
        collab.put(target.path, history);
        return Ok(out);
    }
    let values = fields
        .into_iter()
        .filter_map(|field| Some((field.clone(), history.document.value(&field)?)))
        .collect();
    // A collaborative edit is never superseded: whenever it was made, it is merged.
    out.applied = show(target, values, CommitTime::from(target.at.version))?;
    history.store(target.path, target.at.version, changes, &mut out)?;
    let size = history.snapshot_bytes + history.chunk_bytes;
    let mut epoch = history.epoch;
    if history.chunk_bytes == 0 && size > collab.epoch_bytes {
        let fresh = history.document.fresh(ACTOR, |_| true).map_err(refused)?;
        let mut next = History::new(target.at.version, fresh);
        next.document.take_changes();
        let saved: usize = next.document.save().iter().map(Bytes::len).sum();
        if saved * WORTH <= size {
            (history, out) = begin_epoch(view, target, history, next, out).await?;
            epoch = history.epoch;
        }
    }
    let size = history.snapshot_bytes + history.chunk_bytes;
    if size > BUDGET {
        let what = "the bytes of the history of the document's collaborative fields";
        return Err(refused(CollabError::TooLarge { what, limit: BUDGET, size }));
    }
    let collaborative = Collaborative { epoch, fields: history.document.kinds() };
    set_collaborative(&mut out.applied, Some(collaborative), target.at);
    collab.put(target.path, history);
    Ok(out)
}

/// Puts an epoch in the place of another, which goes to the archive.
pub(super) async fn begin_epoch(
    view: View<'_>,
    target: Target<'_>,
    history: History,
    mut next: History,
    mut out: Written,
) -> Result<(History, Written), Rejection> {
    // What the former one stored in this very commit was for nothing.
    out.history.retain(|(_, document)| document.is_none());
    let carried = next.document.heads();
    archive::add(view, target, history, &next, carried, &mut out).await?;
    next.compact(target.path, target.at.version, &mut out)?;
    Ok((next, out))
}

/// The document with other values of collaborative fields.
fn show(target: Target<'_>, values: Fields, at: CommitTime) -> Result<Applied, Rejection> {
    let mask = values
        .keys()
        .map(|field| FieldPath::from_segments([field.as_str()]))
        .collect::<Result<Vec<_>, _>>()?;
    let write = Write {
        path: target.path.clone(),
        op: WriteOp::Update { fields: values, mask },
        transforms: vec![],
        precondition: None,
    };
    Ok(apply_write(target.current, target.deleted, &write, at)?)
}

/// Notes which fields are collaborative.
pub(super) fn set_collaborative(
    applied: &mut Applied,
    collaborative: Option<Collaborative>,
    at: CommitTime,
) {
    let Some(document) = &mut applied.document else { return };
    let collaborative = collaborative.map(Box::new);
    if document.merge.collaborative != collaborative {
        document.merge.collaborative = collaborative;
        if !applied.changed {
            document.merge.clocks = keep_clocks(document);
            document.update_version = at.version;
            applied.changed = true;
        }
    }
}

/// The clocks of a document whose update version moves on without an edit.
fn keep_clocks(document: &Document) -> Option<Box<tidemark_protocol::model::Clocks>> {
    Some(Box::new(tidemark_protocol::model::Clocks::of(document)))
}
