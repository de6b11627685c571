//! Merging what waits for a slow connection: per group, the last state of each document, or of an
//! aggregate the last values.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
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
    // The documents of which the last that any group tells is that they are deleted.
    let mut deleted = HashSet::new();
    for entry in run {
        match entry {
            Entry::Delta { delta, .. } => {
                version = delta.version;
                note_deleted(&delta, &mut deleted);
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
            delta: Arc::new(Delta::new(group, version, merged.into_body(&deleted))),
            partial: index < last || ends_partial,
        })
        .collect();
    if entries.is_empty() {
        entries.push(Entry::Current(version));
    }
    entries
}

/// Takes note of the documents that are deleted with this change, and of those that exist again.
fn note_deleted(delta: &Delta, deleted: &mut HashSet<DocumentPath>) {
    let Body::Changes(changes) = &delta.body else { return };
    for (path, change) in changes {
        match change {
            DocumentChange::Removed { deleted: true } => {
                deleted.insert(path.clone());
            }
            DocumentChange::Present(_) | DocumentChange::Removed { deleted: false } => {
                deleted.remove(path);
            }
        }
    }
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

    /// A group is of documents or of values, never of both. What is told is as of one version: a document
    /// that one group lost by a deletion may have come back since in a form that only another group has,
    /// and is not to be taken from that one.
    fn into_body(mut self, gone: &HashSet<DocumentPath>) -> Body {
        for (path, change) in &mut self.changes {
            if let DocumentChange::Removed { deleted } = change {
                *deleted = *deleted && gone.contains(path);
            }
        }
        self.values.map_or(Body::Changes(self.changes), Body::Values)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn entry(group: u32, version: u64, path: &str, change: DocumentChange, partial: bool) -> Entry {
        let body = Body::Changes(vec![(DocumentPath::parse(path).unwrap(), change)]);
        let delta = Arc::new(Delta::new(GroupId(group), Version(version), body));
        Entry::Delta { delta, partial }
    }

    /// Group, path, and how the document left; none if it is there.
    fn merged(entries: Vec<Entry>) -> Vec<(u32, String, Option<bool>)> {
        let mut stream = VecDeque::from(entries);
        merge_stream(&mut stream);
        let mut told = Vec::new();
        for entry in &stream {
            let Entry::Delta { delta, .. } = entry else { continue };
            let Body::Changes(changes) = &delta.body else { continue };
            for (path, change) in changes {
                let left = match change {
                    DocumentChange::Present(_) => None,
                    DocumentChange::Removed { deleted } => Some(*deleted),
                };
                told.push((delta.group.0, path.to_string(), left));
            }
        }
        told
    }

    #[test]
    fn a_document_that_came_back_elsewhere_is_not_told_to_be_deleted() {
        let deleted = || DocumentChange::Removed { deleted: true };
        let present = || DocumentChange::Present(Bytes::new());
        let told = merged(vec![
            entry(1, 10, "c/a", deleted(), true),
            entry(2, 10, "c/a", deleted(), false),
            entry(1, 11, "c/a", present(), false),
            entry(1, 12, "c/b", present(), false),
            entry(1, 13, "c/b", deleted(), true),
            entry(2, 13, "c/b", deleted(), false),
        ]);
        let expected = [
            (1, "c/a".to_owned(), None),
            (1, "c/b".to_owned(), Some(true)),
            (2, "c/a".to_owned(), Some(false)),
            (2, "c/b".to_owned(), Some(true)),
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn a_document_that_came_back_and_left_again_exists() {
        let removed = |deleted| DocumentChange::Removed { deleted };
        let told = merged(vec![
            entry(1, 10, "c/a", removed(true), true),
            entry(2, 10, "c/a", removed(true), false),
            entry(1, 11, "c/a", DocumentChange::Present(Bytes::new()), false),
            entry(1, 12, "c/a", removed(false), false),
        ]);
        let left = Some(false);
        assert_eq!(told, [(1, "c/a".to_owned(), left), (2, "c/a".to_owned(), left)]);
    }
}
