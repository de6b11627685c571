//! What changed, for editors: splices of text and lists, keys, increments, marks.

use automerge::{AutoCommit, ObjId, ObjType, Patch, Prop, ReadDoc};

use super::super::value::Value;
use super::edit::Mark;
use super::value::{Step, from_owned};

/// One change of the values, to be applied in order.
#[derive(Clone, Debug, PartialEq)]
pub struct CollabPatch {
    /// Which field.
    pub field: String,
    /// The map or list inside it; empty for the field's own.
    pub path: Vec<Step>,
    /// What happened there.
    pub action: PatchAction,
    /// The object it happened in, by which later positions are followed.
    pub(super) object: ObjId,
}

/// What happened to a text, list, map or counter. Positions in text are in the document's unit.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum PatchAction {
    /// Text was deleted and inserted at a place.
    Splice { at: usize, delete: usize, insert: String },
    /// Elements were deleted and inserted at a place. An inserted map or list is empty; patches
    /// that follow fill it.
    Elements { at: usize, delete: usize, insert: Vec<Value> },
    /// An element got another value.
    Set { at: usize, value: Value },
    /// A key got a value.
    Put { key: String, value: Value },
    /// A key was removed.
    Remove { key: String },
    /// A counter was incremented.
    Increment { by: i64 },
    /// Marks were set or, with null, removed.
    Mark { marks: Vec<Mark> },
}

/// Automerge's patches as ours; what concerns root keys as such is left out.
pub(super) fn convert(doc: &AutoCommit, patches: Vec<Patch>) -> Vec<CollabPatch> {
    patches.into_iter().filter_map(|patch| convert_one(doc, patch)).collect()
}

fn convert_one(doc: &AutoCommit, patch: Patch) -> Option<CollabPatch> {
    let mut steps = patch.path.into_iter().map(|(_, prop)| step(prop));
    let first = steps.next();
    let mut path: Vec<Step> = steps.collect();
    let object = patch.obj;
    let mut action = action(patch.action, &mut path, first.is_none())?;
    if let PatchAction::Elements { at, delete, insert } = &action
        && insert.is_empty()
        && matches!(doc.object_type(&object), Ok(ObjType::Text))
    {
        action = PatchAction::Splice { at: *at, delete: *delete, insert: String::new() };
    }
    let field = match first {
        Some(Step::Key(field)) => field,
        // A root counter: the increment named it.
        _ => match path.pop()? {
            Step::Key(field) => field,
            Step::Index(_) => return None,
        },
    };
    Some(CollabPatch { field, path, action, object })
}

fn step(prop: Prop) -> Step {
    match prop {
        Prop::Map(key) => Step::Key(key),
        Prop::Seq(index) => Step::Index(index),
    }
}

fn action(
    action: automerge::PatchAction,
    path: &mut Vec<Step>,
    is_root: bool,
) -> Option<PatchAction> {
    use automerge::PatchAction as Theirs;
    if is_root && !matches!(action, Theirs::Increment { .. }) {
        return None;
    }
    Some(match action {
        Theirs::PutMap { key, value, .. } => PatchAction::Put { key, value: value_of(&value.0) },
        Theirs::PutSeq { index, value, .. } => {
            PatchAction::Set { at: index, value: value_of(&value.0) }
        }
        Theirs::Insert { index, values } => {
            let insert = values.iter().map(|(value, _, _)| value_of(value)).collect();
            PatchAction::Elements { at: index, delete: 0, insert }
        }
        Theirs::SpliceText { index, value, .. } => {
            PatchAction::Splice { at: index, delete: 0, insert: value.make_string() }
        }
        Theirs::DeleteSeq { index, length } => {
            PatchAction::Elements { at: index, delete: length, insert: vec![] }
        }
        Theirs::DeleteMap { key } => PatchAction::Remove { key },
        Theirs::Increment { prop, value } => {
            path.push(step(prop));
            PatchAction::Increment { by: value }
        }
        Theirs::Mark { marks } => {
            PatchAction::Mark { marks: marks.iter().map(Mark::from_automerge).collect() }
        }
        Theirs::Conflict { .. } => return None,
    })
}

fn value_of(value: &automerge::Value<'_>) -> Value {
    match value {
        automerge::Value::Scalar(scalar) => from_owned(scalar),
        automerge::Value::Object(ObjType::Map | ObjType::Table) => Value::Map(Default::default()),
        automerge::Value::Object(ObjType::List) => Value::Array(vec![]),
        automerge::Value::Object(ObjType::Text) => Value::String(String::new()),
    }
}
