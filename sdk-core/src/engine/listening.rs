//! How listening begins and ends: what the cache has is shown until the server's word comes, and stays in
//! the cache when nobody listens any more. Part of [`Engine`](super::Engine).

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use tidemark_protocol::model::{Document, DocumentPath, ResumeToken, Target, TargetId, Version};
use tidemark_protocol::wire::client::ClientMessage;

use super::listen::{ListenerState, TargetSet};
use super::projection::Projection;
use super::view::Edit;
use super::{Action, Engine, ListenerId};
use crate::cache::{CacheBatch, CacheError, Durability, TargetChange};
use crate::error::Error;

impl Engine {
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

    /// Begins to listen to a target, with what the cache has of it.
    fn begin(&mut self, key: Bytes, target: Target) -> TargetId {
        let id = self.targets.new_id();
        self.flush();
        let (mut token, cached) = self.remembered_target(&key, &target).unwrap_or_else(|error| {
            tracing::warn!(%error, "the cache did not tell what it has of a target");
            (None, Vec::new())
        });
        let is_cached = !cached.is_empty();
        let paths: BTreeSet<DocumentPath> = cached
            .iter()
            .map(|document| document.path.clone())
            .chain(self.documents.pending_paths().cloned())
            .collect();
        let only = TargetSet::One(id);
        let shown = self.shown_through();
        for document in cached {
            let later = document.update_version > shown;
            if later && self.documents.is_overlaid(&document.path, &self.outbox) {
                // It may not be shown yet, so it is not in the target, and the server has to send it.
                token = None;
            } else {
                self.documents.put(document, &only);
            }
        }
        // Where other targets show a pending write, what the cache has may lie under it.
        self.refresh(BTreeSet::new());
        if self.targets.is_empty() {
            self.documents.refold(&self.outbox);
        }
        self.targets.add(id, key, target, token);
        let mut edits = Vec::new();
        if let Some(listened) = self.targets.by_id.get_mut(&id) {
            listened.cached = is_cached;
            for path in &paths {
                let seen = self.documents.seen(path);
                if let Some(document) = listened.view.visible(id, &seen, Version::NONE) {
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

    /// A target that was listened to before is as it was then; of any other, the cache has some documents.
    fn remembered_target(
        &mut self,
        key: &Bytes,
        target: &Target,
    ) -> Result<(Option<ResumeToken>, Vec<Arc<Document>>), CacheError> {
        match target {
            Target::Aggregate(_) => return Ok((None, Vec::new())),
            Target::Query(query) => self.load_bases_of(query),
            Target::Documents(paths) => {
                let pending = |path: &&DocumentPath| self.documents.is_overlaid(path, &self.outbox);
                let pending: Vec<DocumentPath> = paths.iter().filter(pending).cloned().collect();
                self.load_bases(&pending);
            }
        }
        let token = self.cache.target(key)?;
        let documents = match (token, target) {
            (Some(_), _) => self.cache.target_documents(key)?,
            (None, Target::Documents(paths)) => {
                let mut documents = Vec::new();
                for path in paths {
                    documents.extend(self.cache.document(path)?.into_document());
                }
                documents
            }
            (None, Target::Query(query)) => {
                let mut documents = Vec::new();
                for (document, pending) in self.local_result(query)? {
                    // The pending writes are laid over it again.
                    documents.extend(match pending {
                        true => self.base(&document.path)?.and_then(|(base, _)| base),
                        false => Some(document),
                    });
                }
                documents
            }
            (None, Target::Aggregate(_)) => Vec::new(),
        };
        Ok((token, documents))
    }

    pub(super) fn unlisten(&mut self, listener: ListenerId) {
        let Some(state) = self.targets.listeners.remove(&listener) else { return };
        let Some(listened) = self.targets.by_id.get_mut(&state.target) else { return };
        listened.listeners.retain(|other| *other != listener);
        if !listened.listeners.is_empty() {
            return;
        }
        let listened = &self.targets.by_id[&state.target];
        // Of values, nothing is kept; and what the server has not said anything of is as it was.
        let token = self.targets.token(listened).filter(|_| !listened.is_aggregate());
        let Some(key) = self.end(state.target) else { return };
        if token.is_some() {
            let targets = vec![TargetChange::Put { key, token }];
            // What is remembered of it only saves a transfer.
            let _ = self.store(CacheBatch { targets, ..CacheBatch::default() }, Durability::Soon);
        }
        if self.connection.online().is_some() {
            self.send(ClientMessage::Unlisten { target: state.target });
        }
    }

    /// Ends a target; gives its key.
    fn end(&mut self, id: TargetId) -> Option<Bytes> {
        let mut listened = self.targets.remove(id)?;
        for ticket in listened.resuming.stop() {
            self.requests.forget(ticket);
        }
        match &listened.target {
            Target::Documents(paths) => self.documents.clear_paths(id, paths),
            Target::Query(_) => self.documents.clear(id),
            Target::Aggregate(_) => {}
        }
        self.release();
        self.refresh(BTreeSet::new());
        // The others may have waited for this one.
        self.apply_points();
        // What the cache had to keep for it may go.
        self.uncollected = 0;
        Some(listened.key)
    }

    pub(super) fn target_failed(&mut self, id: TargetId, error: &Error) {
        let Some(listened) = self.targets.by_id.get(&id) else { return };
        for listener in listened.listeners.clone() {
            let error = error.clone();
            self.actions.push(Action::ListenerFailed { listener, error });
        }
        if let Some(key) = self.end(id) {
            let targets = vec![TargetChange::Remove { key }];
            // What is left of it in the cache is never listened to without asking the server.
            let batch = CacheBatch { targets, ..CacheBatch::default() };
            let _ = self.store(batch, Durability::Soon);
        }
    }

    /// Given up for now: listeners and those who ask see the cache.
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
        self.answer_all_offline();
    }

    /// The versions of what is kept are of another life of the database: none of it means anything.
    pub(super) fn forget_life(&mut self) {
        self.documents.forget_versions();
        self.outbox.forget_versions();
        for listened in self.targets.by_id.values_mut() {
            listened.resuming.fetched.clear();
        }
        self.deferred.clear();
        if let Err(error) = self.cache.clear() {
            tracing::warn!(%error, "the cache did not forget another life of the database");
        }
    }
}
