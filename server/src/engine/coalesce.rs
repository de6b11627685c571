//! Merging what waits for a slow connection: per group, the last state of each document, or of an
//! aggregate the last values.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use tidemark_protocol::model::{DocumentPath, Value, Version};

use super::delta::{Body, Delta, DocumentChange, GroupId};
use super::outbox::Entry;

/// Takes off the rest of a commit of which a part has been sent, up to its consistent point.
pub(super) fn split_open(stream: &mut VecDeque<Entry>, open: bool) -> VecDeque<Entry> {
    let ends = |entry: &Entry| !matches!(entry, Entry::Delta { partial: true, .. });
    let rest = match stream.iter().position(ends) {
        Some(end) if open => end + 1,
        None if open => stream.len(),
        Some(_) | None => 0,
    };
    stream.drain(..rest).collect()
}

/// Merges each run of changes between attaches into one consistent point. Returns the bytes left.
pub(super) fn merge_stream(stream: &mut VecDeque<Entry>) -> usize {
    let mut run = Vec::new();
    let mut merged = VecDeque::new();
    for entry in stream.drain(..) {
        match entry {
            Entry::Bulk { .. } => {
                merged.extend(merge_run(std::mem::take(&mut run)));
                merged.push_back(entry);
            }
            Entry::Delta { .. } | Entry::Current(_) => run.push(entry),
        }
    }
    merged.extend(merge_run(run));
    *stream = merged;
    bytes(stream)
}

/// Drops what is behind the last attach.
pub(super) fn drop_tail(stream: &mut VecDeque<Entry>) {
    let is_bulk = |entry: &Entry| matches!(entry, Entry::Bulk { .. });
    let keep = stream.iter().rposition(is_bulk).map_or(0, |last| last + 1);
    stream.truncate(keep);
}

/// The bytes of the changes.
pub(super) fn bytes(stream: &VecDeque<Entry>) -> usize {
    stream
        .iter()
        .map(|entry| match entry {
            Entry::Delta { delta, partial } => delta.frame(*partial).len(),
            Entry::Current(_) | Entry::Bulk { .. } => 0,
        })
        .sum()
}

fn merge_run(run: Vec<Entry>) -> Vec<Entry> {
    if run.len() < 2 {
        return run;
    }
    // In the middle of a commit, the rest of it is still to come.
    let ends_partial = matches!(run.last(), Some(Entry::Delta { partial: true, .. }));
    let mut version = Version::NONE;
    let mut groups: BTreeMap<GroupId, Merged> = BTreeMap::new();
    for entry in run {
        match entry {
            Entry::Delta { delta, .. } => {
                version = delta.version;
                groups.entry(delta.group).or_default().add(&delta);
            }
            Entry::Current(at) => version = at,
            Entry::Bulk { .. } => unreachable!("attaches separate runs"),
        }
    }
    let last = groups.len().saturating_sub(1);
    let mut entries: Vec<Entry> = groups
        .into_iter()
        .enumerate()
        .map(|(index, (group, merged))| Entry::Delta {
            delta: Arc::new(Delta::new(group, version, merged.into_body())),
            partial: index < last || ends_partial,
        })
        .collect();
    if entries.is_empty() {
        entries.push(Entry::Current(version));
    }
    entries
}

/// The last state of each document, in the order of their first change, or the last values.
#[derive(Default)]
struct Merged {
    changes: Vec<(DocumentPath, DocumentChange)>,
    positions: HashMap<DocumentPath, usize>,
    values: Option<Vec<Value>>,
}

impl Merged {
    fn add(&mut self, delta: &Delta) {
        let changes = match &delta.body {
            Body::Changes(changes) => changes,
            Body::Values(values) => {
                self.values = Some(values.clone());
                return;
            }
        };
        for (path, change) in changes {
            match self.positions.get(path) {
                Some(&position) => self.changes[position].1 = change.clone(),
                None => {
                    self.positions.insert(path.clone(), self.changes.len());
                    self.changes.push((path.clone(), change.clone()));
                }
            }
        }
    }

    /// A group is of documents or of values, never of both.
    fn into_body(self) -> Body {
        self.values.map_or(Body::Changes(self.changes), Body::Values)
    }
}
