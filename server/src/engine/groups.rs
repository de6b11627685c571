//! Groups of identical targets, and how a commit finds those it changes. Driven by the fan-out.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use tidemark_protocol::model::{DocumentPath, Matcher, Target, TargetId, Value};
use tidemark_protocol::wire::codec;

use super::commit::{Change, CommitRecord, Stored};
use super::connection::ConnectionId;
use super::delta::{Body, Delta, DocumentChange, GroupId};
use super::error::EngineError;
use super::interest::Interest;
use super::load::{Basis, Loaded, read_window};
use super::metrics::EngineMetrics;
use super::outbox::Outbox;
use super::source::{Shape, Source, Span};
use super::tally::Tally;
use super::window::{Moves, Window};

/// One connection that listens through a group.
pub(super) struct Subscriber {
    pub(super) outbox: Arc<Outbox>,
    /// Its targets that are this one.
    pub(super) targets: BTreeSet<TargetId>,
}

/// What a group keeps of its result.
pub(super) enum Content {
    /// Nothing: every change decides for itself.
    Stateless,
    /// The window of a query for a part of its order.
    Window(Window),
    /// The values of an aggregate.
    Tally(Tally),
    /// What is kept is being read; commits after its version wait here.
    Loading(Vec<Arc<CommitRecord>>),
}

/// The present result of a group, as far as it keeps one.
pub(super) enum Present {
    /// It is in the store only.
    Stored,
    Rows(Vec<Arc<Stored>>),
    Values(Vec<Value>),
}

/// Identical targets of any number of connections.
pub(super) struct Group {
    pub(super) id: GroupId,
    pub(super) source: Arc<Source>,
    pub(super) content: Content,
    pub(super) subscribers: BTreeMap<ConnectionId, Subscriber>,
    canonical: Bytes,
}

/// Where a batch stands while its commits are matched.
pub(super) struct BatchView<'a> {
    pub(super) basis: &'a Basis,
    pub(super) metrics: &'a EngineMetrics,
    /// The commits of the batch that come after the one being matched.
    pub(super) later: &'a [Arc<CommitRecord>],
}

/// All groups, found by target and by what they are interested in.
#[derive(Default)]
pub(super) struct Groups {
    groups: HashMap<GroupId, Group>,
    by_target: HashMap<Bytes, GroupId>,
    interest: Interest,
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
        let source = Arc::new(Source::new(target));
        match (&*source, source.matcher()) {
            (Source::Documents(paths), _) => self.interest.add_documents(id, paths),
            (_, Some(matcher)) => self.interest.add_query(id, matcher),
            (_, None) => unreachable!("only named documents have no query"),
        }
        let content = match &*source {
            Source::Window { .. } | Source::Aggregate { .. } => Content::Loading(vec![]),
            Source::Query { .. } | Source::Documents(_) => Content::Stateless,
        };
        self.by_target.insert(canonical.clone(), id);
        let subscribers = BTreeMap::new();
        self.groups.insert(id, Group { id, source, content, subscribers, canonical });
        (id, true)
    }

    /// Removes a group that nobody listens to.
    pub(super) fn remove(&mut self, id: GroupId) {
        let Some(group) = self.groups.remove(&id) else { return };
        self.by_target.remove(&group.canonical);
        self.interest.remove(id);
    }

    /// The groups that a commit may change, each once, with the changes they should look at.
    pub(super) fn candidates(&self, commit: &CommitRecord) -> Vec<(GroupId, Vec<usize>)> {
        let mut found: BTreeMap<GroupId, Vec<usize>> = BTreeMap::new();
        for (index, change) in commit.changes.iter().enumerate() {
            let before = change.before.as_ref().map(|stored| &stored.document);
            let after = change.after.as_ref().map(|stored| &stored.document);
            for id in self.interest.concerned(&change.path, before, after) {
                found.entry(id).or_default().push(index);
            }
        }
        found.into_iter().collect()
    }
}

impl Group {
    /// What a commit changes in the group's result.
    pub(super) async fn delta(
        &mut self,
        commit: &Arc<CommitRecord>,
        indexes: &[usize],
        batch: &BatchView<'_>,
    ) -> Result<Option<Delta>, EngineError> {
        let changes = || indexes.iter().map(|&index| &commit.changes[index]);
        let body = match (&*self.source, &mut self.content) {
            (_, Content::Loading(waiting)) => {
                waiting.push(Arc::clone(commit));
                None
            }
            (Source::Query { matcher, shape }, _) => {
                let changed = changes().filter_map(|change| query_change(matcher, shape, change));
                some_changes(changed.collect())
            }
            (Source::Documents(_), _) => some_changes(changes().map(document_change).collect()),
            (Source::Window { matcher, span, shape }, Content::Window(window)) => {
                let mut moves = Moves::default();
                changes().for_each(|change| window.apply(matcher, change, &mut moves));
                if window.needs_refill() {
                    let filled = refill(&self.source, matcher, *span, batch).await?;
                    window.replace(filled, &mut moves);
                }
                let gone = changes().filter(|it| it.after.is_none()).map(|it| &it.path);
                some_changes(moves.into_changes(shape, &HashSet::from_iter(gone)))
            }
            (Source::Aggregate { matcher, span, .. }, Content::Tally(tally)) => {
                let mut moves = Moves::default();
                changes().for_each(|change| tally.apply(matcher, change, &mut moves));
                if let Some(span) = span
                    && tally.needs_refill()
                {
                    let filled = refill(&self.source, matcher, *span, batch).await?;
                    tally.replace(filled, &mut moves);
                }
                tally.settle(moves).map(Body::Values)
            }
            (Source::Window { .. }, Content::Stateless | Content::Tally(_))
            | (Source::Aggregate { .. }, Content::Stateless | Content::Window(_)) => {
                unreachable!("a group keeps what its source needs")
            }
        };
        Ok(body.map(|body| Delta::new(self.id, commit.version, body)))
    }

    /// Takes over what was read at an earlier version and brings it past the commits since. False:
    /// the slack of a window did not suffice; it has to be read again.
    pub(super) fn loaded(&mut self, loaded: Loaded) -> bool {
        let Content::Loading(waiting) = &mut self.content else { return true };
        let Some(matcher) = self.source.matcher() else { return true };
        let changes = std::mem::take(waiting);
        let changes = changes.iter().flat_map(|commit| &commit.changes);
        let mut moves = Moves::default();
        let (content, enough) = match (&*self.source, loaded) {
            (Source::Window { span, .. }, Loaded::Rows(rows)) => {
                let mut window = Window::new(*span, rows);
                changes.for_each(|change| window.apply(matcher, change, &mut moves));
                let enough = !window.needs_refill();
                (Content::Window(window), enough)
            }
            (Source::Aggregate { span, aggregations, .. }, loaded) => {
                let mut tally = match (span, loaded) {
                    (Some(span), Loaded::Rows(rows)) => {
                        Tally::of_window(aggregations, Window::new(*span, rows))
                    }
                    (_, Loaded::State(state)) => Tally::of_state(state),
                    (None, Loaded::Rows(_)) => unreachable!("rows are read for a span only"),
                };
                changes.for_each(|change| tally.apply(matcher, change, &mut moves));
                let enough = !tally.needs_refill();
                // Nobody has been told values yet.
                tally.settle(moves);
                (Content::Tally(tally), enough)
            }
            (Source::Query { .. } | Source::Documents(_) | Source::Window { .. }, _) => {
                unreachable!("what is read is what the source needs")
            }
        };
        if enough {
            self.content = content;
        }
        enough
    }

    /// The result as of the last commit, as far as the group keeps it.
    pub(super) fn present(&self) -> Present {
        match &self.content {
            Content::Window(window) => Present::Rows(window.visible().to_vec()),
            Content::Tally(tally) => Present::Values(tally.values().to_vec()),
            Content::Stateless | Content::Loading(_) => Present::Stored,
        }
    }
}

fn some_changes(changes: Vec<(DocumentPath, DocumentChange)>) -> Option<Body> {
    (!changes.is_empty()).then_some(Body::Changes(changes))
}

fn query_change(
    matcher: &Matcher,
    shape: &Shape,
    change: &Change,
) -> Option<(DocumentPath, DocumentChange)> {
    let matching = |stored: &Option<Arc<Stored>>| {
        stored.as_ref().filter(|stored| matcher.matches(&stored.document)).cloned()
    };
    if let Some(after) = matching(&change.after) {
        return Some((change.path.clone(), DocumentChange::Present(shape.encode(&after))));
    }
    matching(&change.before)?;
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
    source: &Source,
    matcher: &Matcher,
    span: Span,
    batch: &BatchView<'_>,
) -> Result<Window, EngineError> {
    let mut undo = HashMap::new();
    for change in batch.later.iter().flat_map(|commit| &commit.changes) {
        if source.may_contain(change.path.as_str()) {
            undo.entry(change.path.clone()).or_insert_with(|| change.before.clone());
        }
    }
    batch.metrics.refills.add(1);
    read_window(batch.basis, matcher, span, &undo).await
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use tidemark_protocol::model::{CollectionPath, Document, Fields, Query, Version};

    use super::*;

    fn stored(id: u64) -> Arc<Stored> {
        let path = DocumentPath::parse(&format!("c/{id:02}")).unwrap();
        let (create_version, update_version) = (Version(1), Version(1));
        let fields = Fields::new();
        Stored::encode(Document {
            path,
            fields,
            create_version,
            update_version,
            merge: Default::default(),
        })
    }

    fn deleting(ids: std::ops::Range<u64>) -> Arc<CommitRecord> {
        let change = |id| {
            let before = stored(id);
            Change { path: before.document.path.clone(), before: Some(before), after: None }
        };
        let changes = ids.map(change).collect();
        Arc::new(CommitRecord { version: Version(2), changes, origin: ConnectionId(0) })
    }

    #[test]
    fn a_window_whose_slack_was_spent_while_it_was_read_is_read_again() {
        let mut groups = Groups::default();
        let query = Query::collection(&CollectionPath::parse("c").unwrap()).with_limit(2);
        let (id, new) = groups.find_or_create(&Target::Query(query));
        assert!(new);
        let group = groups.get_mut(id).unwrap();
        group.content = Content::Loading(vec![deleting(0..9)]);
        assert!(!group.loaded(Loaded::Rows((0..10).map(stored).collect())));
        assert!(matches!(group.present(), Present::Stored));
        assert!(group.loaded(Loaded::Rows((9..19).map(stored).collect())));
        let Present::Rows(rows) = group.present() else { panic!("it has been read") };
        let paths: Vec<&str> = rows.iter().map(|row| row.document.path.as_str()).collect();
        assert_eq!(paths, ["c/09", "c/10"]);
    }
}
