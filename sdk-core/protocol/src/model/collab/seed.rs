//! The changes that make the root objects. Everybody makes the same one for a field and kind, so
//! that concurrent first edits meet in one object. Likewise everybody makes the same change from
//! the plain value that a field held before it became collaborative.

use automerge::transaction::{CommitOptions, Transactable};
use automerge::{ActorId, AutoCommit, Change, ObjId, ObjType, ROOT, ScalarValue, TextEncoding};

use super::super::CollaborativeKind;
use super::super::value::Value;
use super::assign::assign_root;
use super::error::CollabError;

const SEED: &[u8] = b"seed";
const IMPORT: &[u8] = b"import";

fn kind_byte(kind: CollaborativeKind) -> u8 {
    match kind {
        CollaborativeKind::Text => b't',
        CollaborativeKind::List => b'l',
        CollaborativeKind::Map => b'm',
        CollaborativeKind::Counter => b'c',
    }
}

fn seed_actor(field: &str, kind: CollaborativeKind) -> ActorId {
    ActorId::from([SEED, &[kind_byte(kind)], field.as_bytes()].concat())
}

/// The kind of the root object that a seed made; none if no seed made it.
pub(super) fn seeded_kind(field: &str, id: &ObjId) -> Option<CollaborativeKind> {
    let ObjId::Id(1, actor, _) = id else { return None };
    let (kind, name) = actor.to_bytes().strip_prefix(SEED)?.split_first()?;
    let kind = match kind {
        b't' => CollaborativeKind::Text,
        b'l' => CollaborativeKind::List,
        b'm' => CollaborativeKind::Map,
        b'c' => CollaborativeKind::Counter,
        _ => return None,
    };
    (name == field.as_bytes()).then_some(kind)
}

/// A document that holds an empty root object and nothing else.
fn seeded(field: &str, kind: CollaborativeKind) -> Result<AutoCommit, CollabError> {
    let mut doc = AutoCommit::new_with_encoding(TextEncoding::UnicodeCodePoint)
        .with_actor(seed_actor(field, kind));
    let made = match kind {
        CollaborativeKind::Text => doc.put_object(ROOT, field, ObjType::Text).map(drop),
        CollaborativeKind::List => doc.put_object(ROOT, field, ObjType::List).map(drop),
        CollaborativeKind::Map => doc.put_object(ROOT, field, ObjType::Map).map(drop),
        CollaborativeKind::Counter => doc.put(ROOT, field, ScalarValue::counter(0)),
    };
    made.map_err(CollabError::automerge)?;
    doc.commit_with(CommitOptions::default().with_time(0));
    Ok(doc)
}

/// The change that makes a field's root object.
pub(super) fn seed(field: &str, kind: CollaborativeKind) -> Result<Change, CollabError> {
    seeded(field, kind)?
        .get_last_local_change()
        .ok_or_else(|| CollabError::Malformed("a seed is empty".to_owned()))
}

/// Whether a change is one of [`import`]'s.
pub(super) fn is_import(change: &Change) -> bool {
    change.actor_id().to_bytes().starts_with(IMPORT)
}

/// The seed, and the change that makes its content the plain value the field had. The second's
/// author is named by what it says, so that two who begin with different values do not share one.
pub(super) fn import(
    field: &str,
    kind: CollaborativeKind,
    value: &Value,
) -> Result<Vec<Change>, CollabError> {
    let draft = content(field, kind, value, ActorId::from(IMPORT.to_vec()))?;
    let Some(draft) = draft else { return Ok(vec![seed(field, kind)?]) };
    let actor = ActorId::from([IMPORT, &draft.hash().0[..16]].concat());
    Ok([Some(seed(field, kind)?), content(field, kind, value, actor)?]
        .into_iter()
        .flatten()
        .collect())
}

fn content(
    field: &str,
    kind: CollaborativeKind,
    value: &Value,
    actor: ActorId,
) -> Result<Option<Change>, CollabError> {
    let mut doc = seeded(field, kind)?.with_actor(actor);
    assign_root(&mut doc, field, kind, value)?;
    if doc.pending_ops() == 0 {
        return Ok(None);
    }
    doc.commit_with(CommitOptions::default().with_time(0));
    Ok(doc.get_last_local_change())
}
