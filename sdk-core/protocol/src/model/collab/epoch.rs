//! Epochs bound the history: a new one begins with the values and no past. What was changed against
//! a former epoch is merged there, and the difference is made in the new one, upon the state that
//! it began with, as one more concurrent edit.

use automerge::transaction::{CommitOptions, Transactable};
use automerge::{ChangeHash, ROOT, ReadDoc};
use bytes::Bytes;

use super::super::CollaborativeKind;
use super::assign::assign_root;
use super::document::{CollabDocument, TextUnit};
use super::edit::{Expand, Mark};
use super::error::CollabError;
use super::seed;

impl CollabDocument {
    /// The beginning of a new epoch: the same values and marks, in one change upon the seeds.
    /// `fields` says which fields go on.
    pub fn fresh(
        &self,
        actor: &[u8],
        fields: impl Fn(&str) -> bool,
    ) -> Result<CollabDocument, CollabError> {
        let mut fresh = CollabDocument::new(actor, self.unit);
        for (field, root) in self.roots.iter().filter(|(field, _)| fields(field)) {
            fresh.ensure(field, root.kind, None)?;
            let value = self.value(field).ok_or_else(|| CollabError::NotFound(field.clone()))?;
            fresh.assign(field, &value)?;
            if root.kind == CollaborativeKind::Text {
                for mark in self.marks(field)? {
                    fresh.mark(field, &mark, Expand::After)?;
                }
            }
        }
        fresh.commit_local();
        fresh.undo.clear();
        Ok(fresh)
    }

    /// A copy whose edits are another author's.
    fn forked(&self, actor: &[u8]) -> CollabDocument {
        let mut forked = self.clone();
        forked.take_changes();
        forked.doc.set_actor(automerge::ActorId::from(actor));
        forked
    }

    /// Whether this document began with a plain value that the other did not begin with.
    pub fn began_apart_from(&mut self, other: &mut CollabDocument) -> bool {
        self.commit_local();
        let changes = self.doc.get_changes(&[]);
        let mut imports = changes.iter().filter(|change| seed::is_import(change));
        imports.any(|change| other.doc.get_change_meta_by_hash(&change.hash()).is_none())
    }

    /// Whether changes begin with a plain value that this document did not begin with.
    pub fn begins_elsewhere<'a>(
        &mut self,
        changes: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<bool, CollabError> {
        for bytes in changes {
            let change = super::change::check_change(bytes)?;
            if seed::is_import(&change)
                && self.doc.get_change_meta_by_hash(&change.hash()).is_none()
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// What a document holds that begins with these changes and the plain values in them, without
    /// the edits upon those: what a writer saw who did not know that fields are collaborative.
    pub fn beginning<'a>(
        actor: &[u8],
        unit: TextUnit,
        changes: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<CollabDocument, CollabError> {
        let mut beginning = CollabDocument::new(actor, unit);
        for bytes in changes {
            let change = super::change::check_change(bytes)?;
            if seed::is_import(&change) || change.actor_id().to_bytes().starts_with(b"seed") {
                beginning.apply_checked(vec![change], &mut |_| ())?;
            }
        }
        Ok(beginning)
    }
}

/// Merges late changes into the document of a former epoch, and makes the difference in the new
/// one. `carried` is what the new one's history was when it held exactly the former's values: its
/// beginning or, later, what this returned the last time. Fields that did not go on are left out.
pub fn rebase_late<'a>(
    old: &mut CollabDocument,
    changes: impl IntoIterator<Item = &'a [u8]>,
    new: &mut CollabDocument,
    carried: &[[u8; 32]],
) -> Result<(Vec<Bytes>, Vec<[u8; 32]>), CollabError> {
    let before = old.clone();
    old.apply(changes)?;
    carry_over(&before, old, new, carried)
}

/// Makes the edits that led from one state of a document to another in a document that went on in
/// another way, where no common history tells how: beside the difference to its values.
pub fn merge_values(
    before: &CollabDocument,
    after: &CollabDocument,
    new: &mut CollabDocument,
) -> Result<(), CollabError> {
    for (field, root) in &after.roots {
        let (old, edited) = (before.value(field), after.value(field));
        if old == edited {
            continue;
        }
        if !new.roots.contains_key(field) {
            if before.roots.contains_key(field) {
                continue;
            }
            new.ensure(field, root.kind, None)?;
        }
        let mut common = CollabDocument::new(b"common", new.unit);
        common.ensure(field, root.kind, None)?;
        if let Some(old) = &old {
            common.assign(field, old)?;
        }
        let (mut ours, mut theirs) = (common.forked(b"ours"), common.forked(b"theirs"));
        for (side, value) in [(&mut ours, edited), (&mut theirs, new.value(field))] {
            if let Some(value) = value {
                side.assign(field, &value)?;
            }
        }
        let changes = ours.take_changes();
        theirs.apply(changes.iter().map(|change| &change[..]))?;
        if let Some(merged) = theirs.value(field) {
            new.assign(field, &merged)?;
        }
    }
    Ok(())
}

/// Makes the difference between two states of one document in another, upon the state `carried` of
/// it; the changes, and the state that holds them and no more.
fn carry_over(
    before: &CollabDocument,
    after: &CollabDocument,
    new: &mut CollabDocument,
    carried: &[[u8; 32]],
) -> Result<(Vec<Bytes>, Vec<[u8; 32]>), CollabError> {
    new.commit_local();
    let waiting = new.take_changes();
    for (field, root) in &after.roots {
        if !new.roots.contains_key(field) && !before.roots.contains_key(field) {
            new.ensure(field, root.kind, None)?;
        }
    }
    let mut made = new.take_changes();
    // A field made just now is no part of `carried`; its seed is all it needs.
    let seeds: Vec<ChangeHash> = match made.is_empty() {
        true => vec![],
        false => made
            .iter()
            .map(|bytes| super::change::check_change(bytes).map(|change| change.hash()))
            .collect::<Result<_, _>>()?,
    };
    let heads: Vec<ChangeHash> =
        carried.iter().map(|hash| ChangeHash(*hash)).chain(seeds).collect();
    let previous = new.doc.get_heads();
    new.doc.update_diff_cursor();
    new.doc.isolate(&heads);
    let result = differences(before, after, new);
    let hash = match &result {
        Ok(()) if new.doc.pending_ops() > 0 => {
            new.doc.commit_with(CommitOptions::default().with_time(0))
        }
        Ok(()) | Err(_) => {
            new.doc.rollback();
            None
        }
    };
    new.doc.integrate();
    let now = new.doc.get_heads();
    let patches = new.doc.diff(&previous, &now);
    new.doc.reset_diff_cursor();
    result?;
    let carried = match hash {
        Some(hash) => {
            let change = new.doc.get_change_by_hash(&hash);
            let change = change.ok_or(CollabError::MissingDependencies)?;
            new.note_op(change.max_op());
            made.push(Bytes::copy_from_slice(change.raw_bytes()));
            vec![hash.0]
        }
        None => heads.iter().map(|hash| hash.0).collect(),
    };
    let patches = super::patch::convert(&new.doc, patches);
    new.undo.transform(&patches, new.unit);
    new.put_back(waiting);
    Ok((made, carried))
}

fn differences(
    before: &CollabDocument,
    after: &CollabDocument,
    new: &mut CollabDocument,
) -> Result<(), CollabError> {
    for (field, root) in &after.roots {
        if !new.roots.contains_key(field) {
            continue;
        }
        let value = after.value(field);
        if value != before.value(field)
            && let Some(value) = value
        {
            assign_root(&mut new.doc, field, root.kind, &value)?;
        }
        if root.kind == CollaborativeKind::Text {
            let old = if before.roots.contains_key(field) { before.marks(field)? } else { vec![] };
            mark_differences(field, &old, &after.marks(field)?, new)?;
        }
    }
    Ok(())
}

/// Makes the marks of a text those wanted.
fn mark_differences(
    field: &str,
    old: &[Mark],
    wanted: &[Mark],
    new: &mut CollabDocument,
) -> Result<(), CollabError> {
    if old == wanted {
        return Ok(());
    }
    let Some((_, id)) = new.doc.get(ROOT, field).map_err(CollabError::automerge)? else {
        return Ok(());
    };
    for mark in new.doc.marks(&id).map_err(CollabError::automerge)? {
        let mark = Mark::from_automerge(&mark);
        if !wanted.contains(&mark) {
            new.doc
                .unmark(&id, &mark.name, mark.start, mark.end, Expand::After.into())
                .map_err(CollabError::automerge)?;
        }
    }
    let present: Vec<Mark> = new
        .doc
        .marks(&id)
        .map_err(CollabError::automerge)?
        .iter()
        .map(Mark::from_automerge)
        .collect();
    for mark in wanted.iter().filter(|mark| !present.contains(mark)) {
        let automerge::hydrate::Value::Scalar(value) = super::value::to_automerge(&mark.value)
        else {
            continue;
        };
        let mark = automerge::marks::Mark::new(mark.name.clone(), value, mark.start, mark.end);
        new.doc.mark(&id, mark, Expand::After.into()).map_err(CollabError::automerge)?;
    }
    Ok(())
}
