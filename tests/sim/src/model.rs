//! What the documents must be: the rules of `docs/consistency.md`, written a second time and as
//! plainly as possible. It keeps every state that ever was. Nothing of the product's merging is used.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use tidemark_protocol::model::{
    Document, DocumentPath, Fields, Precondition, Timestamp, Transform, Value, Version, Write,
    WriteOp,
};

/// Later than every edit.
pub const PENDING: u64 = u64::MAX;

#[derive(Clone, Debug, PartialEq)]
struct Doc {
    fields: Fields,
    /// When the document as a whole was written.
    base: u64,
    /// When what is at a path was written; a path that is deleted as well.
    edits: BTreeMap<Vec<String>, u64>,
    created: Version,
    updated: Version,
}

impl Doc {
    fn clock(&self, path: &[String]) -> u64 {
        let above = self.edits.iter().filter(|(other, _)| path.starts_with(other));
        above.map(|(_, edit)| *edit).max().unwrap_or(0).max(self.base)
    }

    fn has_clocks_of(&self, other: &Doc) -> bool {
        let mut paths = self.edits.keys().chain(other.edits.keys());
        self.base == other.base && paths.all(|path| self.clock(path) == other.clock(path))
    }

    fn newest(&self) -> u64 {
        self.edits.values().copied().max().unwrap_or(0).max(self.base)
    }

    /// The parts below a path that were written later than then, outer ones first.
    fn later_below(&self, path: &[String], edit: u64) -> Vec<(Vec<String>, u64, Option<Value>)> {
        let later = self.edits.iter().filter(|(other, at)| {
            other.len() > path.len() && other.starts_with(path) && **at > edit
        });
        later.map(|(other, at)| (other.clone(), *at, get(&self.fields, other).cloned())).collect()
    }

    fn document(&self, path: &DocumentPath) -> Document {
        Document {
            path: path.clone(),
            fields: self.fields.clone(),
            create_version: self.created,
            update_version: self.updated,
            merge: Default::default(),
        }
    }
}

fn get<'a>(fields: &'a Fields, path: &[String]) -> Option<&'a Value> {
    let (first, rest) = path.split_first()?;
    match (fields.get(first)?, rest) {
        (value, []) => Some(value),
        (Value::Map(inner), rest) => get(inner, rest),
        _ => None,
    }
}

fn put(fields: &mut Fields, path: &[String], value: Option<Value>) {
    let Some((first, rest)) = path.split_first() else { return };
    if rest.is_empty() {
        match value {
            Some(value) => fields.insert(first.clone(), value),
            None => fields.remove(first),
        };
        return;
    }
    let is_map = matches!(fields.get(first), Some(Value::Map(_)));
    if !is_map {
        if value.is_none() {
            return;
        }
        fields.insert(first.clone(), Value::Map(Fields::new()));
    }
    if let Some(Value::Map(inner)) = fields.get_mut(first) {
        put(inner, rest, value);
    }
}

/// The documents at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Documents {
    docs: BTreeMap<DocumentPath, Arc<Doc>>,
    /// When those that do not exist were deleted.
    graves: BTreeMap<DocumentPath, u64>,
}

/// A write whose condition did not hold.
#[derive(Debug)]
pub struct Refused(pub String);

impl Documents {
    /// The documents.
    pub fn all(&self) -> Vec<Document> {
        self.docs.iter().map(|(path, doc)| doc.document(path)).collect()
    }

    /// Of these, one document and what is remembered of it.
    pub fn only(&self, path: &DocumentPath) -> Documents {
        let docs = self.docs.get(path).map(|doc| (path.clone(), doc.clone()));
        // A client does not know when what it does not have was deleted.
        Documents { docs: docs.into_iter().collect(), graves: BTreeMap::new() }
    }

    /// Times that are told apart by what is remembered of a document: one before each of its clocks.
    pub fn moments(&self, path: &DocumentPath) -> Vec<u64> {
        let Some(doc) = self.docs.get(path) else { return Vec::new() };
        let clocks = doc.edits.values().copied().chain([doc.base]);
        clocks.map(|clock| clock.saturating_sub(1)).collect()
    }

    /// The version that last changed a document; none if it does not exist.
    pub fn version(&self, path: &DocumentPath) -> Version {
        self.docs.get(path).map_or(Version::NONE, |doc| doc.updated)
    }

    /// Applies a write that was made at `edit`, in the commit `version`. Says whether a part of it was
    /// superseded.
    pub fn apply(&mut self, write: &Write, version: Version, edit: u64) -> Result<bool, Refused> {
        let path = &write.path;
        let found = self.version(path);
        let holds = match write.precondition {
            None => true,
            Some(Precondition::Exists(wanted)) => self.docs.contains_key(path) == wanted,
            Some(Precondition::UpdateVersion(wanted)) => found == wanted,
        };
        if !holds {
            return Err(Refused(format!("{path}: {:?} with {found}", write.precondition)));
        }
        let before = self.docs.get(path).map(|doc| (**doc).clone());
        let grave = self.graves.get(path).copied().unwrap_or(0);
        let (after, superseded) = match (&write.op, before.clone()) {
            (WriteOp::Verify, _) => return Ok(false),
            (WriteOp::Delete, None) => {
                // What was deleted elsewhere in the meantime stays deleted for what was made before.
                if edit < version.0 {
                    self.graves.insert(path.clone(), grave.max(edit));
                }
                return Ok(false);
            }
            (WriteOp::Merge(_), _) => return Ok(false),
            (WriteOp::Delete, Some(doc)) => {
                if edit < doc.newest() {
                    return Ok(true);
                }
                self.docs.remove(path);
                self.graves.insert(path.clone(), edit);
                return Ok(false);
            }
            (WriteOp::Set(_) | WriteOp::Update { .. }, None) if edit < grave => return Ok(true),
            (WriteOp::Set(fields), before) => match set(before, fields, edit) {
                Some(made) => made,
                None => return Ok(true),
            },
            (WriteOp::Update { fields, mask }, before) => {
                let mut doc = before.unwrap_or_else(|| Doc {
                    fields: Fields::new(),
                    base: grave,
                    edits: BTreeMap::new(),
                    created: version,
                    updated: version,
                });
                let mut superseded = false;
                for field in mask {
                    let at = field.segments();
                    superseded |= !update(&mut doc, at, get(fields, at).cloned(), edit);
                }
                (doc, superseded)
            }
        };
        let mut doc = after;
        for step in &write.transforms {
            let at = step.field.segments();
            let value = transformed(get(&doc.fields, at), &step.transform, version);
            let clock = doc.clock(at).max(edit);
            put(&mut doc.fields, at, Some(value));
            doc.edits.insert(at.to_vec(), clock);
        }
        match before {
            // Nothing has changed; of a write that waited, also not when it was made.
            Some(before)
                if before.fields == doc.fields
                    && (edit >= version.0 || before.has_clocks_of(&doc)) => {}
            before => {
                doc.created = before.map_or(version, |before| before.created);
                doc.updated = version;
                self.docs.insert(path.clone(), Arc::new(doc));
                self.graves.remove(path);
            }
        }
        Ok(superseded)
    }
}

/// The document, and whether a part of what was to be replaced was written later.
fn set(before: Option<Doc>, fields: &Fields, edit: u64) -> Option<(Doc, bool)> {
    let mut doc = Doc {
        fields: fields.clone(),
        base: edit,
        edits: BTreeMap::new(),
        created: Version::NONE,
        updated: Version::NONE,
    };
    if let Some(before) = before {
        if edit < before.base {
            return None;
        }
        for (path, at, value) in before.later_below(&[], edit) {
            put(&mut doc.fields, &path, value);
            doc.edits.insert(path, at);
        }
    }
    let superseded = !doc.edits.is_empty();
    Some((doc, superseded))
}

/// Whether it won.
fn update(doc: &mut Doc, path: &[String], value: Option<Value>, edit: u64) -> bool {
    if edit < doc.clock(path) {
        return false;
    }
    let later = doc.later_below(path, edit);
    put(&mut doc.fields, path, value);
    doc.edits.retain(|other, at| !other.starts_with(path) || *at > edit);
    doc.edits.insert(path.to_vec(), edit);
    for (inner, at, value) in later {
        put(&mut doc.fields, &inner, value);
        doc.edits.insert(inner, at);
    }
    true
}

fn transformed(base: Option<&Value>, transform: &Transform, version: Version) -> Value {
    let number = |value: Option<&Value>| match value {
        Some(Value::Integer(number)) => Some(*number),
        _ => None,
    };
    let array = match base {
        Some(Value::Array(array)) => array.clone(),
        _ => Vec::new(),
    };
    match transform {
        Transform::ServerTimestamp => Value::Timestamp(Timestamp::from(version)),
        Transform::Increment(by) => {
            Value::Integer(number(base).unwrap_or(0) + number(Some(by)).unwrap_or(0))
        }
        Transform::Minimum(other) => {
            let other = number(Some(other)).unwrap_or(0);
            Value::Integer(number(base).map_or(other, |base| base.min(other)))
        }
        Transform::Maximum(other) => {
            let other = number(Some(other)).unwrap_or(0);
            Value::Integer(number(base).map_or(other, |base| base.max(other)))
        }
        Transform::ArrayUnion(elements) => {
            let mut array = array;
            for element in elements {
                if !array.contains(element) {
                    array.push(element.clone());
                }
            }
            Value::Array(array)
        }
        Transform::ArrayRemove(elements) => {
            Value::Array(array.into_iter().filter(|it| !elements.contains(it)).collect())
        }
    }
}

/// All states, by the commits that made them.
#[derive(Default)]
pub struct History {
    now: Documents,
    states: BTreeMap<Version, Arc<State>>,
    /// Of each document, alone.
    each: BTreeMap<DocumentPath, Vec<(Version, Documents)>>,
}

/// The documents after a commit.
#[derive(Default)]
pub struct State {
    documents: Documents,
    all: OnceLock<Vec<Document>>,
}

impl State {
    /// With what is remembered of them.
    pub fn documents(&self) -> &Documents {
        &self.documents
    }

    /// All of them.
    pub fn all(&self) -> &[Document] {
        self.all.get_or_init(|| self.documents.all())
    }
}

impl History {
    /// A commit: all of its writes. Says how many were superseded, in part at least.
    pub fn commit(
        &mut self,
        writes: &[Write],
        version: Version,
        edit: u64,
    ) -> Result<u64, Refused> {
        let mut superseded = 0;
        for write in writes {
            superseded += u64::from(self.now.apply(write, version, edit.min(version.0))?);
        }
        for write in writes {
            let alone = self.now.only(&write.path);
            self.each.entry(write.path.clone()).or_default().push((version, alone));
        }
        let state = State { documents: self.now.clone(), all: OnceLock::new() };
        self.states.insert(version, Arc::new(state));
        Ok(superseded)
    }

    /// The documents after the newest commit.
    pub fn now(&self) -> &Documents {
        &self.now
    }

    /// What a document was before a version, each state once.
    pub fn former(&self, path: &DocumentPath, version: Version) -> Vec<Documents> {
        let states = self.each.get(path).into_iter().flatten();
        let mut found: Vec<Documents> = Vec::new();
        for (_, state) in states.filter(|(at, _)| *at < version) {
            if found.last() != Some(state) {
                found.push(state.clone());
            }
        }
        found
    }

    /// The documents as of a version.
    pub fn at(&self, version: Version) -> Arc<State> {
        let state = self.states.range(..=version).next_back();
        state.map(|(_, state)| Arc::clone(state)).unwrap_or_default()
    }
}
