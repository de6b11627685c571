//! Keeps what a listener was told and holds it against the model: versions only rise, changes build the documents,
//! nothing is told twice, nothing is left out, and every snapshot is the result at its version.

use std::collections::BTreeMap;
use std::sync::Arc;

use tidemark_core::{ChangeKind, DocumentChange, DocumentSnapshot, QuerySnapshot};
use tidemark_protocol::model::{Value, Version};

use crate::history::{History, State};

/// The paths that a target's result has in a state, in order. Written by hand for each target of a test, so
/// that the query code is not its own judge.
pub type Expect = fn(&State) -> Vec<&str>;

/// Every so many snapshots the fields of all documents are compared; otherwise their versions are.
const THOROUGH: usize = 50;

/// What one listener was told.
#[derive(Debug)]
pub struct Recorder {
    name: String,
    /// The documents as the changes alone built them.
    built: Vec<Arc<Line>>,
    /// The newest version of each document that was told as added or modified.
    told: BTreeMap<String, Version>,
    points: Vec<Point>,
}

/// A document as it was told.
#[derive(Debug, PartialEq)]
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
    changed: Vec<Change>,
}

#[derive(Debug)]
struct Change {
    kind: ChangeKind,
    line: Arc<Line>,
    old: Option<usize>,
    new: Option<usize>,
}

impl Recorder {
    /// A recorder for the listener of this name.
    pub fn new(name: &str) -> Recorder {
        let name = name.to_owned();
        Recorder { name, built: Vec::new(), told: BTreeMap::new(), points: Vec::new() }
    }

    /// How many snapshots came.
    pub fn len(&self) -> usize {
        self.points.len()
    }

    /// Whether none came.
    pub fn is_empty(&self) -> bool {
        self.points.is_empty()
    }

    /// Takes a snapshot and checks what can be checked without the model.
    pub fn take(&mut self, snapshot: &QuerySnapshot) {
        let version = snapshot.version();
        let changed: Vec<Change> = snapshot.changes().iter().map(Change::of).collect();
        let name = &self.name;
        if let Some(last) = self.points.last() {
            assert!(version >= last.version, "{name}: from {} back to {version}", last.version);
            let news = changed.is_empty() || version > last.version;
            assert!(news, "{name}: version {version} was told twice: {changed:?}");
        }
        let metadata = snapshot.metadata();
        assert!(!metadata.has_pending_writes, "{name}: a listener without writes has none pending");
        for change in &changed {
            self.check_change(change, version);
            change.apply(&mut self.built, &self.name);
        }
        let thorough = self.points.len().is_multiple_of(THOROUGH);
        let documents = snapshot.documents();
        let same = self.built.len() == documents.len()
            && self.built.iter().zip(documents).all(|(line, document)| line.is(document, thorough));
        let name = &self.name;
        assert!(same, "{name}: the changes do not make the documents at {version}: {documents:#?}");
        self.points.push(Point { version, from_cache: metadata.from_cache, changed });
    }

    fn check_change(&mut self, change: &Change, version: Version) {
        let (name, kind, line) = (&self.name, change.kind, &change.line);
        let path = &line.path;
        let places = (change.old.is_some(), change.new.is_some());
        let expected = (kind != ChangeKind::Added, kind != ChangeKind::Removed);
        assert_eq!(places, expected, "{name}: the places of {kind:?} of {path} at {version}");
        if kind == ChangeKind::Removed {
            return;
        }
        assert!(line.updated <= version, "{name}: {path} is ahead of its snapshot");
        let told = self.told.insert(path.clone(), line.updated).unwrap_or(Version::NONE);
        assert!(
            told <= line.updated,
            "{name}: {path} stepped back from {told} to {}",
            line.updated
        );
        let news = kind == ChangeKind::Added || told < line.updated;
        let (old, new) = (change.old, change.new);
        assert!(
            news,
            "{name}: {path} of {told} was told twice, at {version} as {kind:?} from {old:?} to {new:?}: \
             {:?}",
            line.fields
        );
    }

    /// How the last snapshot differs from the result in this state; none: it does not.
    pub fn difference(&self, state: &State, expect: Expect) -> Option<String> {
        let at = |path| state.get(path).map_or(Version::NONE, |document| document.updated);
        let expected: Vec<(&str, Version)> =
            expect(state).into_iter().map(|path| (path, at(path))).collect();
        let shown: Vec<(&str, Version)> =
            self.built.iter().map(|line| (line.path.as_str(), line.updated)).collect();
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
        let mut result: Vec<Arc<Line>> = Vec::new();
        for point in &self.points {
            point.changed.iter().for_each(|change| change.apply(&mut result, name));
            // Before the first answer of the server there is no version to compare with.
            if point.version == Version::NONE {
                assert!(point.from_cache && result.is_empty(), "{name}: documents of no version");
                continue;
            }
            let version = point.version;
            let state = replay.to(version);
            let paths: Vec<&str> = result.iter().map(|line| line.path.as_str()).collect();
            assert_eq!(paths, expect(state), "{name}: the result at {version} is another");
            for line in &result {
                let updated = state[&line.path].updated;
                assert_eq!(line.updated, updated, "{name}: {} at {version}", line.path);
            }
            for line in point.changed.iter().filter(|change| change.new.is_some()) {
                let line = &line.line;
                let fields = &state[&line.path].fields;
                assert_eq!(&line.fields, fields, "{name}: {} at {version}", line.path);
            }
        }
    }
}

impl Line {
    fn of(document: &DocumentSnapshot) -> Line {
        Line {
            path: document.path().as_str().to_owned(),
            updated: document.update_version(),
            fields: document.fields().cloned().unwrap_or_default(),
        }
    }

    /// Whether this is the document; `thorough`: with its fields.
    fn is(&self, document: &DocumentSnapshot, thorough: bool) -> bool {
        self.path == document.path().as_str()
            && self.updated == document.update_version()
            && (!thorough || Some(&self.fields) == document.fields())
    }
}

impl Change {
    fn of(change: &DocumentChange) -> Change {
        Change {
            kind: change.kind,
            line: Arc::new(Line::of(&change.document)),
            old: change.old_index,
            new: change.new_index,
        }
    }

    /// Carries the change out, as an app with a list on a screen would.
    fn apply(&self, list: &mut Vec<Arc<Line>>, name: &str) {
        let path = &self.line.path;
        if let Some(old) = self.old {
            let former = list.remove(old);
            assert_eq!(&former.path, path, "{name}: the old place is another document's");
        }
        if let Some(new) = self.new {
            list.insert(new, Arc::clone(&self.line));
        }
    }
}
