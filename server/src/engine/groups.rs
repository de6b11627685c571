//! Groups of identical targets, and how a commit finds those it changes. Driven by the fan-out.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use tidemark_protocol::model::{DocumentPath, Matcher, Target};
use tidemark_protocol::wire::codec;

use super::attach::Source;
use super::commit::{Change, CommitRecord, Stored};
use super::connection::ConnectionId;
use super::delta::{Delta, DocumentChange, GroupId};
use super::error::EngineError;
use super::keys::Keys;
use super::metrics::EngineMetrics;
use super::outbox::Outbox;
use super::view::{Undo, top};
use super::window::{self, Window};
use crate::store::Snapshot;

/// One connection that listens through a group.
pub(super) struct Subscriber {
    pub(super) outbox: Arc<Outbox>,
    /// How many of its targets are this one.
    pub(super) targets: u32,
}

/// The result that a group keeps.
pub(super) enum Content {
    /// None: every change decides for itself.
    Stateless,
    /// The window of a limit query.
    Window(Window),
    /// A window that is being read; commits after its version wait here.
    Loading(Vec<Arc<CommitRecord>>),
}

/// Identical targets of any number of connections.
pub(super) struct Group {
    pub(super) id: GroupId,
    pub(super) source: Arc<Source>,
    pub(super) content: Content,
    pub(super) subscribers: HashMap<ConnectionId, Subscriber>,
    canonical: Bytes,
}

/// Where a batch stands while its commits are matched.
pub(super) struct BatchView<'a> {
    pub(super) snapshot: &'a dyn Snapshot,
    pub(super) keys: Keys,
    pub(super) metrics: &'a EngineMetrics,
    /// The commits of the batch that come after the one being matched.
    pub(super) later: &'a [Arc<CommitRecord>],
}

/// All groups, found by target and by document.
#[derive(Default)]
pub(super) struct Groups {
    groups: HashMap<GroupId, Group>,
    by_target: HashMap<Bytes, GroupId>,
    by_collection: HashMap<String, Vec<GroupId>>,
    by_document: HashMap<String, Vec<GroupId>>,
    last_id: u32,
}

impl Groups {
    pub(super) fn len(&self) -> usize {
        self.groups.len()
    }

    pub(super) fn get_mut(&mut self, id: GroupId) -> Option<&mut Group> {
        self.groups.get_mut(&id)
    }

    /// The group of a target; true if it is new.
    pub(super) fn find_or_create(&mut self, target: &Target) -> (GroupId, bool) {
        let canonical = codec::canonical_target(target);
        if let Some(&id) = self.by_target.get(&canonical) {
            return (id, false);
        }
        self.last_id += 1;
        let id = GroupId(self.last_id);
        let source = Arc::new(source(target));
        for (index, key) in index_keys(&source) {
            self.index(index).entry(key).or_default().push(id);
        }
        let content = match &*source {
            Source::Limited { .. } => Content::Loading(vec![]),
            Source::Query(_) | Source::Documents(_) => Content::Stateless,
        };
        self.by_target.insert(canonical.clone(), id);
        let subscribers = HashMap::new();
        self.groups.insert(id, Group { id, source, content, subscribers, canonical });
        (id, true)
    }

    /// Removes a group that nobody listens to.
    pub(super) fn remove(&mut self, id: GroupId) {
        let Some(group) = self.groups.remove(&id) else { return };
        self.by_target.remove(&group.canonical);
        for (index, key) in index_keys(&group.source) {
            let index = self.index(index);
            if let Some(ids) = index.get_mut(&key) {
                ids.retain(|it| *it != id);
                if ids.is_empty() {
                    index.remove(&key);
                }
            }
        }
    }

    fn index(&mut self, index: Index) -> &mut HashMap<String, Vec<GroupId>> {
        match index {
            Index::Collection => &mut self.by_collection,
            Index::Document => &mut self.by_document,
        }
    }

    /// The groups that a commit may change, each once, with the changes they should look at.
    pub(super) fn candidates(&self, commit: &CommitRecord) -> Vec<(GroupId, Vec<usize>)> {
        let mut found: Vec<(GroupId, Vec<usize>)> = Vec::new();
        let mut positions: HashMap<GroupId, usize> = HashMap::new();
        for (index, change) in commit.changes.iter().enumerate() {
            let path = change.path.as_str();
            let collection = path.rsplit_once('/').map_or("", |(collection, _)| collection);
            let by_collection = self.by_collection.get(collection).into_iter().flatten();
            let by_document = self.by_document.get(path).into_iter().flatten();
            for id in by_collection.chain(by_document) {
                let position = *positions.entry(*id).or_insert_with(|| {
                    found.push((*id, vec![]));
                    found.len() - 1
                });
                found[position].1.push(index);
            }
        }
        found
    }
}

#[derive(Clone, Copy)]
enum Index {
    Collection,
    Document,
}

/// Where a source is found.
fn index_keys(source: &Source) -> Vec<(Index, String)> {
    match source {
        Source::Query(matcher) | Source::Limited { matcher, .. } => {
            let collection = matcher.query().collection_path();
            vec![(Index::Collection, collection.as_str().to_owned())]
        }
        Source::Documents(paths) => {
            paths.iter().map(|path| (Index::Document, path.as_str().to_owned())).collect()
        }
    }
}

fn source(target: &Target) -> Source {
    match target {
        Target::Query(query) => {
            let matcher = Matcher::new(query.clone());
            match query.limit {
                Some(limit) => Source::Limited { matcher, limit: limit as usize },
                None => Source::Query(matcher),
            }
        }
        // Refused before it comes here.
        Target::Aggregate(_) => Source::Documents(vec![]),
        Target::Documents(paths) => {
            let mut paths = paths.clone();
            paths.sort_by(|a, b| a.as_str().cmp(b.as_str()));
            Source::Documents(paths)
        }
    }
}

impl Group {
    /// What a commit changes in the group's result.
    pub(super) async fn delta(
        &mut self,
        commit: &Arc<CommitRecord>,
        indexes: &[usize],
        view: &BatchView<'_>,
    ) -> Result<Option<Delta>, EngineError> {
        let changes = indexes.iter().map(|&index| &commit.changes[index]);
        let changes: Vec<_> = match (&*self.source, &mut self.content) {
            (_, Content::Loading(waiting)) => {
                waiting.push(Arc::clone(commit));
                return Ok(None);
            }
            (Source::Query(matcher), _) => {
                changes.filter_map(|change| query_change(matcher, change)).collect()
            }
            (Source::Documents(_), _) => changes.map(document_change).collect(),
            (Source::Limited { matcher, limit }, Content::Window(window)) => {
                let before = window.visible().to_vec();
                for change in changes.clone() {
                    window.apply(matcher, change);
                }
                if window.needs_refill() {
                    *window = refill(matcher, *limit, view).await?;
                }
                window::diff(&before, window.visible(), |path| {
                    changes.clone().any(|it| it.path == *path && it.after.is_none())
                })
            }
            (Source::Limited { .. }, Content::Stateless) => vec![],
        };
        if changes.is_empty() {
            return Ok(None);
        }
        Ok(Some(Delta::new(self.id, commit.version, changes)))
    }

    /// Takes over a window read at an earlier version and brings it past the commits since. False:
    /// its slack did not suffice; it has to be read again.
    pub(super) fn loaded(&mut self, rows: Vec<Arc<Stored>>) -> bool {
        let (Source::Limited { matcher, limit }, Content::Loading(waiting)) =
            (&*self.source, &mut self.content)
        else {
            return true;
        };
        let mut window = Window::new(*limit, rows);
        for commit in waiting.drain(..) {
            for change in &commit.changes {
                if matcher.query().collection_path().contains(&change.path) {
                    window.apply(matcher, change);
                }
            }
        }
        let enough = !window.needs_refill();
        if enough {
            self.content = Content::Window(window);
        }
        enough
    }

    /// The result of a limit query; nothing for other targets.
    pub(super) fn rows(&self) -> Vec<Arc<Stored>> {
        match &self.content {
            Content::Window(window) => window.visible().to_vec(),
            Content::Stateless | Content::Loading(_) => vec![],
        }
    }
}

fn query_change(matcher: &Matcher, change: &Change) -> Option<(DocumentPath, DocumentChange)> {
    let matches = |stored: &Option<Arc<Stored>>| {
        stored.as_ref().filter(|stored| matcher.matches(&stored.document)).cloned()
    };
    if let Some(after) = matches(&change.after) {
        return Some((change.path.clone(), DocumentChange::Present(after.bytes.clone())));
    }
    matches(&change.before)?;
    let deleted = change.after.is_none();
    Some((change.path.clone(), DocumentChange::Removed { deleted }))
}

fn document_change(change: &Change) -> (DocumentPath, DocumentChange) {
    let removed = DocumentChange::Removed { deleted: true };
    let present = |after: &Arc<Stored>| DocumentChange::Present(after.bytes.clone());
    (change.path.clone(), change.after.as_ref().map_or(removed, present))
}

/// Reads the window again as of the commit being matched: the snapshot with later commits undone.
async fn refill(
    matcher: &Matcher,
    limit: usize,
    view: &BatchView<'_>,
) -> Result<Window, EngineError> {
    let collection = matcher.query().collection_path();
    let mut undo = Undo::new();
    for change in view.later.iter().flat_map(|commit| &commit.changes) {
        if collection.contains(&change.path) {
            undo.entry(change.path.clone()).or_insert_with(|| change.before.clone());
        }
    }
    view.metrics.refills.add(1);
    let capacity = Window::capacity(limit);
    let rows = top(view.snapshot, view.keys, matcher, capacity, &undo).await?;
    Ok(Window::new(limit, rows))
}
