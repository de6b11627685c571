//! The model: what the documents must be after each commit, computed from what the writers were told, by rules
//! written here a second time and as simply as they can be.

use std::collections::BTreeMap;

use tidemark_protocol::model::{Value, Version};

/// Documents by path.
pub type State = BTreeMap<String, ModelDocument>;

/// A document as it must be.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelDocument {
    /// What it holds.
    pub fields: BTreeMap<String, Value>,
    /// The commit that created it.
    pub created: Version,
    /// The commit that changed it last.
    pub updated: Version,
}

/// What a write does to one document.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Replaces it.
    Set(BTreeMap<String, Value>),
    /// Sets some of its fields.
    Merge(BTreeMap<String, Value>),
    /// Adds to a number.
    Increment(String, i64),
    /// Removes it.
    Delete,
}

/// All acknowledged commits in order.
#[derive(Clone, Debug, Default)]
pub struct History {
    commits: BTreeMap<Version, Vec<(String, Effect)>>,
}

impl History {
    /// Adds an acknowledged commit. Two commits never have the same version.
    pub fn committed(&mut self, version: Version, effects: Vec<(String, Effect)>) {
        assert_ne!(version, Version::NONE, "a commit has a version");
        let former = self.commits.insert(version, effects);
        assert!(former.is_none(), "two commits were given version {version}");
    }

    /// Adds the commits of another writer.
    pub fn extend(&mut self, other: History) {
        other.commits.into_iter().for_each(|(version, effects)| self.committed(version, effects));
    }

    /// How many commits there are.
    pub fn len(&self) -> usize {
        self.commits.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.commits.is_empty()
    }

    /// Goes through the history from its beginning.
    pub fn replay(&self) -> Replay<'_> {
        Replay { rest: self.commits.iter().peekable(), state: State::new() }
    }

    /// The documents after the last commit.
    pub fn last(&self) -> State {
        let mut replay = self.replay();
        replay.to(Version(u64::MAX));
        replay.state
    }
}

/// A place in the history.
#[derive(Debug)]
pub struct Replay<'a> {
    rest:
        std::iter::Peekable<std::collections::btree_map::Iter<'a, Version, Vec<(String, Effect)>>>,
    state: State,
}

impl Replay<'_> {
    /// Goes on to a version, and gives the documents as they were then. Never goes back.
    pub fn to(&mut self, version: Version) -> &State {
        while let Some((at, effects)) = self.rest.next_if(|(at, _)| **at <= version) {
            for (path, effect) in effects {
                apply(&mut self.state, *at, path, effect);
            }
        }
        &self.state
    }
}

fn apply(state: &mut State, at: Version, path: &str, effect: &Effect) {
    let before = state.get(path);
    let mut fields = before.map(|document| document.fields.clone()).unwrap_or_default();
    let created = before.map_or(at, |document| document.created);
    match effect {
        Effect::Set(new) => fields = new.clone(),
        Effect::Merge(new) => fields.extend(new.clone()),
        Effect::Increment(field, by) => {
            let sum = match fields.get(field) {
                Some(Value::Integer(number)) => number + by,
                _ => *by,
            };
            fields.insert(field.clone(), Value::Integer(sum));
        }
        Effect::Delete => {
            state.remove(path);
            return;
        }
    }
    // A write that changes nothing leaves the document's version as it is.
    let unchanged = before.is_some_and(|document| document.fields == fields);
    let updated = before.filter(|_| unchanged).map_or(at, |document| document.updated);
    state.insert(path.to_owned(), ModelDocument { fields, created, updated });
}
