//! The engine's answers: gets and queries on their way in, and what the server and the pending writes
//! make of them on their way out. Part of [`Engine`](super::Engine).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tidemark_protocol::model::{Document, DocumentPath, Query, Target, Version, WriteId};
use tidemark_protocol::wire::server::{AggregateResult, QueryResult};

use super::projection::cut;
use super::requests::{Complete, is_cut, is_own};
use super::view::{Edit, View};
use super::{Action, Answer, Engine, Request, Source, Ticket};
use crate::error::Error;
use crate::snapshot::{DocumentSnapshot, SnapshotMetadata};

impl Engine {
    pub(super) fn request(
        &mut self,
        ticket: Ticket,
        request: Request,
        source: Source,
        timeout: Duration,
    ) {
        if self.closing.is_some() {
            let outcome = Err(Error::closed());
            return self.actions.push(Action::RequestDone { ticket, outcome });
        }
        let offline = self.connection.is_offline();
        if source == Source::Cache || offline {
            return self.answer_offline(ticket, &request, source);
        }
        self.requests.add(ticket, request, source, self.now.elapsed + timeout);
    }

    /// Answers without a server.
    fn answer_offline(&mut self, ticket: Ticket, request: &Request, source: Source) {
        let outcome = match source {
            Source::Server => Err(Error::unavailable(self.connection.reason().message())),
            Source::Default | Source::Cache => self.answer_locally(request),
        };
        self.actions.push(Action::RequestDone { ticket, outcome });
    }

    /// There is no connection for now: who waits for an answer gets the cache's, if that will do.
    pub(super) fn answer_all_offline(&mut self) {
        for (ticket, request, source) in self.requests.clear() {
            self.answer_offline(ticket, &request, source);
        }
    }

    /// A request has failed for good.
    pub(super) fn request_failed(&mut self, ticket: Ticket, error: Error) {
        if is_own(ticket) {
            self.own_request_failed(ticket, &error);
        } else {
            self.actions.push(Action::RequestDone { ticket, outcome: Err(error) });
        }
    }

    pub(super) fn answered(&mut self, result: QueryResult) {
        let complete = self.requests.answered(result);
        self.completed(complete);
    }

    pub(super) fn computed(&mut self, result: AggregateResult) {
        let complete = self.requests.computed(result);
        self.completed(complete);
    }

    fn completed(&mut self, complete: Result<Option<Complete>, Error>) {
        match complete {
            Ok(None) => {}
            Ok(Some(complete)) if is_own(complete.ticket) => self.own_request_answered(complete),
            Ok(Some(complete)) if self.lacks_fields(&complete) => {
                self.requests.add_again(complete, true);
            }
            Ok(Some(complete)) => match self.last_uncertain(&complete) {
                Some(id) => self.held_answers.push((id, complete)),
                None => self.give(complete),
            },
            Err(error) => self.drop_connection(error),
        }
    }

    /// Whether writes have been made, since it was asked, that cannot be laid over what was answered.
    fn lacks_fields(&self, complete: &Complete) -> bool {
        match &complete.request {
            Request::Query { query, .. } => {
                is_cut(query) && !complete.whole && self.documents.has_pending_of(query)
            }
            Request::Get { .. } | Request::Aggregate { .. } => false,
        }
    }

    /// As with consistent points: the last write that the answer has to wait for.
    fn last_uncertain(&self, complete: &Complete) -> Option<WriteId> {
        let overlay = match &complete.request {
            Request::Get { overlay, .. } => *overlay,
            Request::Query { query, .. } => query.nearest.is_none(),
            Request::Aggregate { .. } => false,
        };
        let last = |path| self.documents.last_uncertain(path, &self.outbox);
        let wanted = overlay && self.outbox.is_uncertain();
        let paths = complete.documents.iter().map(|document| &document.path).filter(|_| wanted);
        paths.filter_map(last).max()
    }

    /// Gives the answers that need not wait any longer.
    pub(super) fn release_answers(&mut self) {
        let over = |held: &mut (WriteId, Complete)| !self.outbox.is_uncertain_through(held.0);
        let over: Vec<_> = self.held_answers.extract_if(.., over).collect();
        over.into_iter().for_each(|(_, complete)| self.give(complete));
    }

    /// The connection is gone, and with it what answers wait for: ask again on the next.
    pub(super) fn return_answers(&mut self) {
        for (_, complete) in std::mem::take(&mut self.held_answers) {
            self.requests.add_again(complete, false);
        }
    }

    fn give(&mut self, complete: Complete) {
        let ticket = complete.ticket;
        self.keep_answered(&complete);
        let outcome = Ok(self.answer(complete));
        self.actions.push(Action::RequestDone { ticket, outcome });
    }

    /// Whole documents that were asked for once are worth keeping for when there is no server.
    fn keep_answered(&mut self, complete: &Complete) {
        match &complete.request {
            Request::Get { paths, .. } => {
                self.remember(paths, &complete.documents, complete.version);
            }
            Request::Query { query, .. }
                if query.nearest.is_none() && (query.projection.is_none() || complete.whole) =>
            {
                self.remember(&[], &complete.documents, complete.version);
            }
            Request::Query { .. } | Request::Aggregate { .. } => {}
        }
    }

    fn answer(&self, complete: Complete) -> Answer {
        let Complete { request, version, documents, values, explanation, whole, .. } = complete;
        let documents = match request {
            Request::Get { paths, overlay } => self.found(paths, documents, overlay, version),
            Request::Query { query, .. } => {
                // What is nearest is the server's word; and over what it has cut nothing is pending.
                if query.nearest.is_some() || (query.projection.is_some() && !whole) {
                    let metadata = SnapshotMetadata::default();
                    let row = |document| DocumentSnapshot::existing(document, metadata);
                    documents.into_iter().map(row).collect()
                } else {
                    self.selected(query, documents, version)
                }
            }
            Request::Aggregate { .. } => Vec::new(),
        };
        let has_pending_writes = documents.iter().any(|row| row.metadata.has_pending_writes);
        let metadata = SnapshotMetadata { from_cache: false, has_pending_writes };
        Answer { version, metadata, documents, values, explanation }
    }

    /// The answer to a get, in the order of the paths.
    fn found(
        &self,
        paths: Vec<DocumentPath>,
        documents: Vec<Arc<Document>>,
        overlay: bool,
        version: Version,
    ) -> Vec<DocumentSnapshot> {
        let mut found: HashMap<_, _> =
            documents.into_iter().map(|document| (document.path.clone(), document)).collect();
        let lay = |path: DocumentPath| {
            let base = found.remove(&path);
            let (document, has_pending_writes) = if overlay {
                self.documents.laid_over(&path, base, version, &self.outbox)
            } else {
                (base, false)
            };
            let metadata = SnapshotMetadata { from_cache: false, has_pending_writes };
            match document {
                Some(document) => DocumentSnapshot::existing(document, metadata),
                None => DocumentSnapshot::missing(path, metadata),
            }
        };
        paths.into_iter().map(lay).collect()
    }

    /// The answer to a query out of whole documents.
    fn selected(
        &self,
        mut query: Query,
        documents: Vec<Arc<Document>>,
        version: Version,
    ) -> Vec<DocumentSnapshot> {
        let projection = query.projection.take();
        let mut view = View::new(&Target::Query(query));
        view.set_from_cache(false);
        let mut edits = Vec::with_capacity(documents.len());
        let mut pending: BTreeMap<&DocumentPath, Option<_>> =
            self.documents.pending_paths().map(|path| (path, None)).collect();
        for document in documents {
            match pending.get_mut(&document.path) {
                Some(base) => *base = Some(document),
                None => edits.push(Edit { before: None, after: Some((document, false)) }),
            }
        }
        for (path, base) in pending {
            let known = base.is_some();
            let laid = self.documents.laid_over(path, base, version, &self.outbox);
            if let (Some(document), has_pending) = laid
                && view.selects(&document, known)
            {
                edits.push(Edit { before: None, after: Some((document, has_pending)) });
            }
        }
        view.apply(edits);
        let shown = view.shown();
        drop(view);
        let rows = Arc::unwrap_or_clone(shown);
        match projection {
            Some(fields) => rows.iter().map(|row| cut(row, &fields)).collect(),
            None => rows,
        }
    }
}
