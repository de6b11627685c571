//! Keeps what a listener was told and holds it against the model: versions only rise, changes build the documents,
//! nothing is told twice, nothing is left out, and every snapshot is the result at its version.

use std::collections::BTreeMap;

use tidemark_core::{ChangeKind, DocumentSnapshot, QuerySnapshot};
use tidemark_protocol::model::{Value, Version};

use crate::history::{History, State};

/// The paths that a target's result has in a state, in order. Written by hand for each target of a test, so
/// that the query code is not its own judge.
pub type Expect = fn(&State) -> Vec<String>;

/// What one listener was told.
#[derive(Debug)]
pub struct Recorder {
    name: String,
    /// The documents as the changes alone built them.
    built: Vec<Line>,
    /// The newest version of each document that was told as added or modified.
    told: BTreeMap<String, Version>,
    points: Vec<Point>,
}

/// A document as it was told.
#[derive(Clone, Debug, PartialEq)]
struct Line {
    path: String,
    updated: Version,
    fields: BTreeMap<String, Value>,
}

/// A snapshot: its version and what changed.
#[derive(Debug)]
struct Point {
    version: Version,
    from_cache: bool,
    changed: Vec<(ChangeKind, Line)>,
    order: Vec<String>,
}

impl Recorder {
    /// A recorder for the listener of this name.
    pub fn new(name: &str) -> Recorder {
        Recorder {
            name: name.to_owned(),
            built: Vec::new(),
            told: BTreeMap::new(),
            points: Vec::new(),
        }
    }

    /// How many snapshots came.
    pub fn len(&self) -> usize {
        self.points.len()
    }

    /// Whether none came.
    pub fn is_empty(&self) -> bool {
        self.points.is_empty()
    }

    /// How many changes came.
    pub fn changes(&self) -> usize {
        self.points.iter().map(|point| point.changed.len()).sum()
    }

    /// Takes a snapshot and checks what can be checked without the model.
    pub fn take(&mut self, snapshot: &QuerySnapshot) {
        let name = &self.name;
        let version = snapshot.version();
        let changed: Vec<(ChangeKind, Line)> =
            snapshot.changes().iter().map(|change| (change.kind, line(&change.document))).collect();
        if let Some(last) = self.points.last() {
            assert!(version >= last.version, "{name}: from {} back to {version}", last.version);
            assert!(
                changed.is_empty() || version > last.version,
                "{name}: version {version} was told twice: {changed:?}"
            );
        }
        assert!(
            !snapshot.metadata().has_pending_writes,
            "{name}: a listener without writes has none pending"
        );
        for change in snapshot.changes() {
            self.build(change.kind, &change.document, change.old_index, change.new_index, version);
        }
        let documents: Vec<Line> = snapshot.documents().iter().map(line).collect();
        assert_eq!(
            self.built, documents,
            "{}: the changes do not make the documents at {version}",
            self.name
        );
        let order = documents.into_iter().map(|line| line.path).collect();
        let from_cache = snapshot.metadata().from_cache;
        self.points.push(Point { version, from_cache, changed, order });
    }

    fn build(
        &mut self,
        kind: ChangeKind,
        document: &DocumentSnapshot,
        old: Option<usize>,
        new: Option<usize>,
        version: Version,
    ) {
        let (name, path) = (&self.name, document.path().as_str());
        let former = old.map(|index| self.built.remove(index));
        if let Some(former) = &former {
            assert_eq!(former.path, path, "{name}: the old index is another document's");
        }
        assert_eq!(
            former.is_some(),
            kind != ChangeKind::Added,
            "{name}: {kind:?} of {path} at {version}"
        );
        assert_eq!(
            new.is_some(),
            kind != ChangeKind::Removed,
            "{name}: {kind:?} of {path} at {version}"
        );
        let Some(index) = new else { return };
        let line = line(document);
        assert!(line.updated <= version, "{name}: {path} is ahead of its snapshot");
        let told = self.told.insert(line.path.clone(), line.updated).unwrap_or(Version::NONE);
        assert!(
            told <= line.updated,
            "{name}: {path} stepped back from {told} to {}",
            line.updated
        );
        if kind == ChangeKind::Modified {
            assert!(told < line.updated, "{name}: {path} was told twice at {told}");
        }
        self.built.insert(index, line);
    }

    /// How the last snapshot differs from the result in this state; none: it does not.
    pub fn difference(&self, state: &State, expect: Expect) -> Option<String> {
        let expected: Vec<(String, Option<Version>)> = expect(state)
            .into_iter()
            .map(|path| {
                let updated = state.get(&path).map(|document| document.updated);
                (path, updated)
            })
            .collect();
        let shown = self.built.iter().map(|line| (line.path.clone(), Some(line.updated)));
        let shown: Vec<_> = shown.collect();
        if shown == expected {
            return None;
        }
        let missing = expected.iter().filter(|line| !shown.contains(line)).take(5);
        let surplus = shown.iter().filter(|line| !expected.contains(line)).take(5);
        let (missing, surplus): (Vec<_>, Vec<_>) = (missing.collect(), surplus.collect());
        let (name, count, all) = (&self.name, shown.len(), expected.len());
        Some(format!(
            "{name}: {count} documents for {all}; missing {missing:?}, surplus {surplus:?}"
        ))
    }

    /// Checks every snapshot against the result at its version.
    pub fn check(&self, history: &History, expect: Expect) {
        let name = &self.name;
        let mut replay = history.replay();
        let mut current: BTreeMap<&str, &Line> = BTreeMap::new();
        for point in &self.points {
            for (kind, line) in &point.changed {
                match kind {
                    ChangeKind::Added | ChangeKind::Modified => current.insert(&line.path, line),
                    ChangeKind::Removed => current.remove(line.path.as_str()),
                };
            }
            // Before the first answer of the server there is no version to compare with.
            if point.version == Version::NONE {
                assert!(point.from_cache && current.is_empty(), "{name}: documents of no version");
                continue;
            }
            let version = point.version;
            let state = replay.to(version);
            assert_eq!(point.order, expect(state), "{name}: the result at {version} is another");
            for (path, line) in &current {
                let document = &state[*path];
                assert_eq!(line.updated, document.updated, "{name}: {path} at {version}");
            }
            for (_, line) in point.changed.iter().filter(|(kind, _)| *kind != ChangeKind::Removed) {
                assert_eq!(
                    line.fields, state[&line.path].fields,
                    "{name}: {} at {version}",
                    line.path
                );
            }
        }
    }
}

fn line(document: &DocumentSnapshot) -> Line {
    Line {
        path: document.path().as_str().to_owned(),
        updated: document.update_version(),
        fields: document.fields().cloned().unwrap_or_default(),
    }
}
