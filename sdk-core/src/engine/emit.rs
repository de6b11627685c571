//! The engine's flow of documents: from consistent points, through the overlay, into views, out to
//! listeners. Part of [`Engine`](super::Engine).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use tidemark_protocol::model::{DocumentPath, Target, TargetId, Version};
use tidemark_protocol::wire::client::ClientMessage;

use super::listen::{ListenerState, Point, Staged, TargetSet};
use super::overlay::Before;
use super::projection::Projection;
use super::view::{Edit, Step, View};
use super::{Action, Engine, ListenerId, all_added};
use crate::aggregate::AggregateSnapshot;
use crate::cache::{CacheBatch, Durability, Known, TargetChange};
use crate::error::Error;
use crate::snapshot::{QuerySnapshot, SnapshotMetadata};

/// How many targets that nobody listens to are remembered, and how many documents they may have.
const RELEASED_TARGETS: usize = 32;
const RELEASED_DOCUMENTS: usize = 20_000;

/// Targets that nobody listens to any more, the latest last: listening again resumes.
#[derive(Default)]
pub(crate) struct Released {
    targets: VecDeque<(Bytes, usize)>,
    documents: usize,
}

impl Released {
    fn add(&mut self, key: Bytes, documents: usize) {
        self.documents += documents;
        self.targets.push_back((key, documents));
    }

    fn take(&mut self, key: &Bytes) {
        if let Some(index) = self.targets.iter().position(|(other, _)| other == key)
            && let Some((_, documents)) = self.targets.remove(index)
        {
            self.documents -= documents;
        }
    }

    /// Those that are too many.
    fn trim(&mut self) -> Vec<Bytes> {
        let mut trimmed = Vec::new();
        while self.targets.len() > RELEASED_TARGETS || self.documents > RELEASED_DOCUMENTS {
            let Some((key, documents)) = self.targets.pop_front() else { break };
            self.documents -= documents;
            trimmed.push(key);
        }
        trimmed
    }
}

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
                    if gone {
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
                Staged::Clear { target } => {
                    self.documents.clear(target);
                    memberships.remove(&target);
                    if let Some(listened) = self.targets.by_id.get(&target) {
                        batch.targets.push(TargetChange::Clear { key: listened.key.clone() });
                    }
                }
                Staged::Attached { target } => {
                    if let Some(listened) = self.targets.by_id.get_mut(&target) {
                        listened.attached = true;
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
        self.release();
        self.store_memberships(batch, memberships, &turned);
        self.refresh(turned);
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
        let mut consider = |id: TargetId, view: &View| {
            let was = view.visible(id, &before.state);
            let is = view.visible(id, &after);
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
                consider(*id, &listened.view);
            }
            return;
        }
        let former = before.state.targets.as_slice();
        let joined = after.targets.as_slice().iter().filter(|id| !former.contains(id));
        for id in former.iter().chain(joined) {
            if let Some(listened) = self.targets.by_id.get(id) {
                consider(*id, &listened.view);
            }
        }
    }

    /// Tells a target's listeners what they want to know.
    fn emit(&mut self, id: TargetId, steps: &[Step]) {
        let Some(listened) = self.targets.by_id.get(&id) else { return };
        if listened.is_aggregate() {
            return self.emit_values(id);
        }
        let metadata = self.metadata_of(id);
        let metadata_changed =
            metadata != listened.metadata || steps.iter().any(|(_, metadata_only)| *metadata_only);
        let content_changed = steps.iter().any(|(_, metadata_only)| !metadata_only);
        let may_start = listened.current || self.connection.is_offline();
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

    /// Tells an aggregate's listeners what they want to know.
    fn emit_values(&mut self, id: TargetId) {
        let metadata = self.metadata_of(id);
        let version = self.version_of(id);
        let Some(listened) = self.targets.by_id.get_mut(&id) else { return };
        let Target::Aggregate(aggregate) = &listened.target else { return };
        let Some(values) = listened.values.clone() else { return };
        let changed = listened.told.as_ref() != Some(&values);
        let metadata_changed = metadata != listened.metadata;
        let may_start = listened.current || self.connection.is_offline();
        for listener in &listened.listeners {
            let Some(state) = self.targets.listeners.get_mut(listener) else { continue };
            let told = if state.started {
                changed || (state.include_metadata && metadata_changed)
            } else {
                state.started = may_start;
                may_start
            };
            if told {
                let snapshot =
                    AggregateSnapshot::new(&aggregate.aggregations, &values, metadata, version);
                self.actions.push(Action::Aggregated { listener: *listener, snapshot });
            }
        }
        listened.metadata = metadata;
        listened.told = Some(values);
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

    fn version_of(&self, id: TargetId) -> Version {
        let listened = self.targets.by_id.get(&id);
        let token = listened.and_then(|listened| self.targets.token(listened));
        token.map_or(Version::NONE, |token| token.version)
    }

    pub(super) fn listen(
        &mut self,
        listener: ListenerId,
        mut target: Target,
        include_metadata: bool,
    ) {
        if self.closing.is_some() {
            let error = Error::closed();
            return self.actions.push(Action::ListenerFailed { listener, error });
        }
        let projection = match &mut target {
            Target::Query(query) => query.projection.take().map(Projection::new),
            Target::Documents(_) | Target::Aggregate(_) => None,
        };
        let (key, known) = self.targets.find(&target);
        let id = match known {
            Some(id) => id,
            None => self.begin(key, target),
        };
        let state = ListenerState { target: id, include_metadata, projection, started: false };
        self.targets.listeners.insert(listener, state);
        if let Some(listened) = self.targets.by_id.get_mut(&id) {
            listened.listeners.push(listener);
        }
        self.emit(id, &[]);
    }

    /// Begins to listen to a target, with what the cache remembers of it.
    fn begin(&mut self, key: Bytes, target: Target) -> TargetId {
        let id = self.targets.new_id();
        self.released.take(&key);
        self.flush();
        let token = match &target {
            Target::Query(_) | Target::Documents(_) => self.cache.target(&key).unwrap_or_default(),
            Target::Aggregate(_) => None,
        };
        let cached = match token {
            Some(_) => self.cache.target_documents(&key).unwrap_or_default(),
            None => Vec::new(),
        };
        let paths: BTreeSet<DocumentPath> = cached
            .iter()
            .map(|document| document.path.clone())
            .chain(self.documents.pending_paths().cloned())
            .collect();
        let only = TargetSet::One(id);
        for document in cached {
            self.documents.put(document, &only);
        }
        // Where other targets show a pending write, what the cache has may lie under it.
        self.refresh(BTreeSet::new());
        if self.targets.is_empty() {
            self.documents.refold(&self.outbox);
        }
        self.targets.add(id, key, target, token);
        let mut edits = Vec::new();
        if let Some(listened) = self.targets.by_id.get_mut(&id) {
            for path in &paths {
                let seen = self.documents.seen(path);
                if let Some(document) = listened.view.visible(id, &seen) {
                    edits.push(Edit { before: None, after: Some((document, seen.pending)) });
                }
            }
            listened.view.apply(edits);
        }
        if self.connection.online().is_some()
            && let Some(message) = self.targets.listen_message(id)
        {
            self.send(message);
        }
        id
    }

    pub(super) fn unlisten(&mut self, listener: ListenerId) {
        let Some(state) = self.targets.listeners.remove(&listener) else { return };
        let Some(listened) = self.targets.by_id.get_mut(&state.target) else { return };
        listened.listeners.retain(|other| *other != listener);
        if !listened.listeners.is_empty() {
            return;
        }
        let listened = &self.targets.by_id[&state.target];
        // Of values, nothing is kept.
        let token = if listened.is_aggregate() { None } else { self.targets.token(listened) };
        let Some((key, documents)) = self.end(state.target) else { return };
        let mut batch = CacheBatch::default();
        match token {
            Some(_) => {
                batch.targets.push(TargetChange::Put { key: key.clone(), token });
                self.released.add(key, documents);
            }
            None => batch.targets.push(TargetChange::Remove { key }),
        }
        for key in self.released.trim() {
            batch.targets.push(TargetChange::Remove { key });
        }
        // What is remembered of it only saves a transfer.
        let _ = self.store(batch, Durability::Soon);
        if self.connection.online().is_some() {
            self.send(ClientMessage::Unlisten { target: state.target });
        }
    }

    /// Ends a target; gives its key and the number of its documents.
    fn end(&mut self, id: TargetId) -> Option<(Bytes, usize)> {
        let listened = self.targets.remove(id)?;
        match &listened.target {
            Target::Documents(paths) => self.documents.clear_paths(id, paths),
            Target::Query(_) => self.documents.clear(id),
            Target::Aggregate(_) => {}
        }
        self.release();
        self.refresh(BTreeSet::new());
        // The others may have waited for this one.
        self.apply_points();
        Some((listened.key, listened.view.shown().len()))
    }

    pub(super) fn target_failed(&mut self, id: TargetId, error: &Error) {
        let Some(listened) = self.targets.by_id.get(&id) else { return };
        for listener in listened.listeners.clone() {
            let error = error.clone();
            self.actions.push(Action::ListenerFailed { listener, error });
        }
        if let Some((key, _)) = self.end(id) {
            let targets = vec![TargetChange::Remove { key }];
            // What is left of it in the cache is never listened to without asking the server.
            let batch = CacheBatch { targets, ..CacheBatch::default() };
            let _ = self.store(batch, Durability::Soon);
        }
    }

    /// Given up for now: listeners see the cache.
    pub(super) fn go_offline(&mut self) {
        self.connection.set_offline();
        self.report_state();
        let ids: Vec<TargetId> = self.targets.by_id.keys().copied().collect();
        for id in ids {
            if let Some(listened) = self.targets.by_id.get_mut(&id) {
                listened.current = false;
                listened.view.set_from_cache(true);
            }
            self.emit(id, &[]);
        }
    }
}
