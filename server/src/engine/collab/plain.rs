//! Plain writes onto documents with collaborative fields.

use tidemark_protocol::model::collab::CollabDocument;
use tidemark_protocol::model::{
    Applied, Collaborative, CommitTime, Document, EditTime, Write, apply_write,
};

use super::super::error::Rejection;
use super::cache::Collab;
use super::history::{History, collection, refused};
use super::merge::{Target, begin_epoch, set_collaborative};
use super::view::View;
use super::{ACTOR, Written, archive};

/// Applies a plain write: values of collaborative fields become differences; a field that is
/// removed, or gets a value of another type, is plain from then on.
pub(super) async fn write(
    collab: &mut Collab,
    view: View<'_>,
    current: Option<&Document>,
    deleted: Option<EditTime>,
    write: &Write,
    at: CommitTime,
) -> Result<Written, Rejection> {
    let applied = apply_write(current, deleted, write, at)?;
    let mut out = Written { applied, history: vec![], archive: vec![] };
    let known = current.and_then(|document| document.merge.collaborative.as_deref());
    let (Some(current), Some(known), true) = (current, known, out.applied.changed) else {
        return Ok(out);
    };
    let target = Target { path: &write.path, current: Some(current), deleted, at };
    let Some(after) = &out.applied.document else {
        remove_all(collab, view, target, &mut out).await?;
        return Ok(out);
    };
    let (kept, changed) = compare(known, current, after);
    if kept == known.fields.len() && changed.is_empty() {
        return Ok(out);
    }
    if kept == 0 {
        remove_all(collab, view, target, &mut out).await?;
        set_collaborative(&mut out.applied, None, at);
        return Ok(out);
    }
    let mut history = collab.take(view, &write.path, known.epoch).await?;
    for field in &changed {
        if let Some(value) = after.fields.get(field) {
            history.document.assign(field, value).map_err(refused)?;
        }
    }
    let changes = history.document.take_changes();
    if kept == known.fields.len() {
        history.store(&write.path, at.version, &changes, &mut out)?;
    } else {
        // A new epoch does without the fields that are plain now: a seed makes a field only once.
        let stays = |field: &str| still_suits(known, field, &out.applied);
        let fresh = history.document.fresh(ACTOR, stays).map_err(refused)?;
        let mut next = History::new(at.version, fresh);
        next.document.take_changes();
        (history, out) = begin_epoch(view, target, history, next, out).await?;
    }
    let collaborative = Collaborative { epoch: history.epoch, fields: history.document.kinds() };
    set_collaborative(&mut out.applied, Some(collaborative), at);
    collab.put(&write.path, history);
    Ok(out)
}

fn still_suits(known: &Collaborative, field: &str, applied: &Applied) -> bool {
    let value = applied.document.as_ref().and_then(|document| document.fields.get(field));
    let kind = known.fields.get(field);
    kind.zip(value).is_some_and(|(kind, value)| CollabDocument::suits(*kind, value))
}

/// How many collaborative fields stay so, and which of those have another value.
fn compare(known: &Collaborative, before: &Document, after: &Document) -> (usize, Vec<String>) {
    let (mut kept, mut changed) = (0, Vec::new());
    for (field, kind) in &known.fields {
        match after.fields.get(field) {
            Some(value) if CollabDocument::suits(*kind, value) => {
                kept += 1;
                if before.fields.get(field) != Some(value) {
                    changed.push(field.clone());
                }
            }
            Some(_) | None => {}
        }
    }
    (kept, changed)
}

/// Deletes the history and the archive of a document.
async fn remove_all(
    collab: &mut Collab,
    view: View<'_>,
    target: Target<'_>,
    out: &mut Written,
) -> Result<(), Rejection> {
    for path in view.collection(&collection(target.path)?).await?.into_keys() {
        out.history.push((path, None));
    }
    archive::remove_all(view, target.path, out).await?;
    collab.forget(target.path);
    Ok(())
}
