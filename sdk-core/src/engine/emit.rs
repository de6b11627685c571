//! The engine's flow of documents: from consistent points, through the overlay, into views, out to
//! listeners. Part of [`Engine`](super::Engine).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tidemark_protocol::model::{DocumentPath, Target, TargetId, Version};

use super::listen::{Listened, Point, Staged, TargetSet};
use super::overlay::Before;
use super::resume::Resuming;
use super::view::{Edit, Step};
use super::{Action, Engine, all_added};
use crate::cache::{CacheBatch, Known, TargetChange};
use crate::snapshot::{QuerySnapshot, SnapshotMetadata};

impl Engine {
    /// A consistent point has come. What it says of a document may contain an increment of this client
    /// that the server has not answered yet: shown under its own overlay it would count twice, so the
    /// point waits for that answer.
    pub(super) fn consistent(&mut self, version: Version) {
        self.targets.complete(version);
        self.apply_points();
    }

    pub(super) fn apply_points(&mut self) {
        let (documents, outbox) = (&self.documents, &self.outbox);
        self.targets.form_point(|staged| {
            let document = |step: &Staged| match step {
                Staged::Document { document, .. } => {
                    documents.last_uncertain(&document.path, outbox)
                }
                Staged::Removal { .. }
                | Staged::Values { .. }
                | Staged::Gone { .. }
                | Staged::Clear { .. }
                | Staged::Attached { .. } => None,
            };
            // In most moments no increment is under way.
            if outbox.is_uncertain() { staged.iter().filter_map(document).max() } else { None }
        });
        while let Some(point) = self.targets.next_point(|id| self.outbox.is_uncertain_through(id)) {
            self.apply_point(point);
        }
        self.release_answers();
    }

    fn apply_point(&mut self, point: Point) {
        let Point { staged, version, .. } = point;
        let mut batch = CacheBatch::default();
        let mut turned = BTreeSet::new();
        let mut memberships: BTreeMap<TargetId, Vec<(DocumentPath, bool)>> = BTreeMap::new();
        let mut left: Vec<DocumentPath> = Vec::new();
        let mut removed: BTreeSet<DocumentPath> = BTreeSet::new();
        self.documents.reserve(staged.len());
        for step in staged {
            match step {
                Staged::Document { mut targets, document } => {
                    self.keep_live(&mut targets);
                    if targets.is_empty() {
                        continue;
                    }
                    for id in targets.as_slice() {
                        memberships.entry(*id).or_default().push((document.path.clone(), true));
                    }
                    if removed.remove(&document.path) {
                        // The point tells of its removal and of what came after it.
                        self.documents.forget_version(&document.path);
                    }
                    if self.documents.put(document.clone(), &targets) {
                        let path = document.path.clone();
                        batch.documents.push((path, Known::Document(document)));
                    }
                }
                Staged::Removal { targets, path, deleted } => {
                    let gone = self.documents.remove(&path, &targets, deleted, version);
                    for id in targets.as_slice() {
                        memberships.entry(*id).or_default().push((path.clone(), false));
                    }
                    if !deleted && targets.as_slice().iter().any(|id| self.tells_of_change(*id)) {
                        left.push(path.clone());
                    }
                    // What is not known here may be in the cache, which is to know that it is gone.
                    if deleted {
                        removed.insert(path.clone());
                    }
                    if gone || (deleted && self.documents.remote(&path).is_none()) {
                        batch.documents.push((path, Known::Missing { at: version }));
                    }
                }
                Staged::Values { targets, values } => {
                    for id in targets.as_slice() {
                        if let Some(listened) = self.targets.by_id.get_mut(id) {
                            listened.values = Some(values.clone());
                            listened.current = listened.attached;
                            turned.insert(*id);
                        }
                    }
                }
                Staged::Gone { target, path } => {
                    self.documents.remove(&path, &TargetSet::One(target), false, version);
                    memberships.entry(target).or_default().push((path.clone(), false));
                    left.push(path);
                }
                Staged::Clear { target } => {
                    left.extend(self.documents.members(target).map(|(path, _)| path.clone()));
                    self.documents.clear(target);
                    memberships.remove(&target);
                    if let Some(listened) = self.targets.by_id.get(&target) {
                        batch.targets.push(TargetChange::Clear { key: listened.key.clone() });
                    }
                }
                Staged::Attached { target } => {
                    if let Some(listened) = self.targets.by_id.get_mut(&target) {
                        listened.attached = true;
                        listened.resuming = Resuming::default();
                        // An aggregate is current with its values, not before.
                        if !listened.current && !listened.is_aggregate() {
                            listened.current = true;
                            listened.view.set_from_cache(false);
                        }
                        turned.insert(target);
                    }
                }
            }
        }
        left.retain(|path| !self.documents.is_in_a_target(path));
        self.limbo.add(left);
        self.release();
        self.settle_committed();
        self.store_memberships(batch, memberships, &turned);
        self.refresh(turned);
    }

    /// What targets show of documents contains the writes that were committed up to their point, also those
    /// that changed nothing.
    pub(super) fn settle_committed(&mut self) {
        let version = self.targets.consistent();
        let settled = self.outbox.committed_paths(version);
        let attached = |id| self.targets.by_id.get(&id).is_some_and(|it| it.attached);
        self.documents.settle(settled, version, attached);
    }

    /// Whether a document that leaves the target has changed: a window it may leave because of others.
    fn tells_of_change(&self, id: TargetId) -> bool {
        match self.targets.by_id.get(&id).map(|listened| &listened.target) {
            Some(Target::Query(query)) => query.limit.is_none() && query.offset == 0,
            Some(Target::Documents(_) | Target::Aggregate(_)) | None => false,
        }
    }

    fn keep_live(&self, targets: &mut TargetSet) {
        let live = |id: &TargetId| self.targets.by_id.contains_key(id);
        if !targets.as_slice().iter().all(live) {
            let ids: Vec<TargetId> = targets.as_slice().iter().copied().filter(live).collect();
            *targets = TargetSet::None;
            ids.into_iter().for_each(|id| targets.insert(id));
        }
    }

    fn store_memberships(
        &mut self,
        mut batch: CacheBatch,
        memberships: BTreeMap<TargetId, Vec<(DocumentPath, bool)>>,
        turned: &BTreeSet<TargetId>,
    ) {
        let ids: BTreeSet<TargetId> = memberships.keys().chain(turned).copied().collect();
        for id in ids {
            let Some(listened) = self.targets.by_id.get(&id) else { continue };
            if listened.is_aggregate() {
                continue;
            }
            batch.targets.push(TargetChange::Put {
                key: listened.key.clone(),
                token: self.targets.token(listened),
            });
        }
        for (id, documents) in memberships {
            let Some(listened) = self.targets.by_id.get(&id) else { continue };
            batch.targets.push(TargetChange::Members { key: listened.key.clone(), documents });
        }
        self.deferred.push(batch);
    }

    /// Carries what has changed in the documents into the views, and out to listeners. Those in
    /// `turned` are told even when no document of theirs has changed.
    pub(super) fn refresh(&mut self, turned: BTreeSet<TargetId>) {
        let watched = !self.targets.is_empty();
        let touched = self.documents.finish(&self.outbox, watched);
        let mut edits: BTreeMap<TargetId, Vec<Edit>> =
            turned.into_iter().map(|id| (id, Vec::new())).collect();
        if watched {
            for before in &touched {
                self.collect_edits(before, &mut edits);
            }
        }
        self.documents.forget_unneeded(&touched);
        for (id, edits) in edits {
            let Some(listened) = self.targets.by_id.get_mut(&id) else { continue };
            let steps = listened.view.apply(edits);
            self.emit(id, &steps);
        }
    }

    fn collect_edits(&self, before: &Before, edits: &mut BTreeMap<TargetId, Vec<Edit>>) {
        let after = self.documents.seen_after(before);
        let mut consider = |id: TargetId, listened: &Listened| {
            let view = &listened.view;
            let mut was = view.visible(id, &before.state, Version::NONE);
            if before.state.pending {
                // It may have been known already what came of the writes.
                was = was.filter(|document| view.has(document));
            }
            let is = view.visible(id, &after, self.targets.through(listened));
            let same = match (&was, &is) {
                (None, None) => true,
                (Some(was), Some(is)) => {
                    Arc::ptr_eq(was, is) && before.state.pending == after.pending
                }
                (None, Some(_)) | (Some(_), None) => false,
            };
            if !same {
                let after = is.map(|document| (document, after.pending));
                edits.entry(id).or_default().push(Edit { before: was, after });
            } else if before.state.pending != after.pending {
                // A pending deletion of a listened document is only in the metadata.
                edits.entry(id).or_default();
            }
        };
        if before.state.pending || after.pending {
            // A pending write can be in any query's result.
            for (id, listened) in &self.targets.by_id {
                consider(*id, listened);
            }
            for (id, listened) in &self.targets.by_id {
                if let Target::Aggregate(aggregate) = &listened.target
                    && aggregate.query.is_over(before.path.as_str())
                {
                    edits.entry(*id).or_default();
                }
            }
            return;
        }
        let former = before.state.targets.as_slice();
        let joined = after.targets.as_slice().iter().filter(|id| !former.contains(id));
        for id in former.iter().chain(joined) {
            if let Some(listened) = self.targets.by_id.get(id) {
                consider(*id, listened);
            }
        }
    }

    /// Tells a target's listeners what they want to know.
    pub(super) fn emit(&mut self, id: TargetId, steps: &[Step]) {
        let Some(listened) = self.targets.by_id.get(&id) else { return };
        if listened.is_aggregate() {
            return self.emit_values(id);
        }
        let metadata = self.metadata_of(id);
        let metadata_changed =
            metadata != listened.metadata || steps.iter().any(|(_, metadata_only)| *metadata_only);
        let content_changed = steps.iter().any(|(_, metadata_only)| !metadata_only);
        // What the cache has is worth showing before the server's word; that it has nothing is not.
        let may_start =
            listened.current || self.connection.is_offline() || !listened.view.is_empty();
        let version = self.version_of(id);
        let mut shown = None;
        for listener in &listened.listeners {
            let Some(state) = self.targets.listeners.get_mut(listener) else { continue };
            let mut whole = || shown.get_or_insert_with(|| listened.view.shown()).clone();
            let own = state.projection.as_mut().filter(|_| state.started);
            let own = own.map(|own| own.follow(steps, metadata.from_cache, &mut whole));
            let steps = own.as_deref().unwrap_or(steps);
            let changes = if !state.started {
                if !may_start {
                    continue;
                }
                state.started = true;
                None
            } else if content_changed || (state.include_metadata && metadata_changed) {
                let wanted = steps.iter().filter(|(_, only)| state.include_metadata || !only);
                Some(wanted.map(|(change, _)| change.clone()).collect())
            } else {
                continue;
            };
            let documents = match &mut state.projection {
                Some(own) if changes.is_none() => {
                    own.start(&whole(), metadata.from_cache);
                    own.shown()
                }
                Some(own) => own.shown(),
                None => whole(),
            };
            let changes = changes.unwrap_or_else(|| all_added(&documents));
            let snapshot = QuerySnapshot { documents, changes, metadata, version };
            self.actions.push(Action::Snapshot { listener: *listener, snapshot });
        }
        if let Some(listened) = self.targets.by_id.get_mut(&id) {
            listened.metadata = metadata;
        }
    }

    fn metadata_of(&self, id: TargetId) -> SnapshotMetadata {
        let Some(listened) = self.targets.by_id.get(&id) else {
            return SnapshotMetadata::default();
        };
        let has_pending_writes = listened.view.has_pending()
            || match &listened.target {
                // A pending deletion leaves nothing in the view.
                Target::Documents(paths) => {
                    paths.iter().any(|path| self.documents.has_pending(path))
                }
                Target::Query(_) | Target::Aggregate(_) => false,
            };
        SnapshotMetadata { from_cache: !listened.current, has_pending_writes }
    }

    pub(super) fn version_of(&self, id: TargetId) -> Version {
        let listened = self.targets.by_id.get(&id);
        let token = listened.and_then(|listened| self.targets.token(listened));
        token.map_or(Version::NONE, |token| token.version)
    }
}
