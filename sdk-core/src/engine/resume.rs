//! Listening on from a token that is too old to be replayed, by comparing digests: see
//! [`reconcile`](super::reconcile). Part of [`Engine`](super::Engine); what it finds becomes visible at the
//! target's next consistent point. Whatever goes wrong, the target is listened to without a token, or,
//! when the connection is lost, all begins again on the next; what was fetched is not fetched again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tidemark_protocol::model::{Document, DocumentPath, ResumeToken, Target, TargetId, Version};
use tidemark_protocol::wire::client::ClientMessage;
use tidemark_protocol::wire::server::DigestResult;

use super::connection::Backoff;
use super::reconcile::{Difference, Next, Reconcile};
use super::requests::Complete;
use super::{Engine, Request, Ticket};
use crate::error::Error;

/// How often a target is compared on one connection before it is listened to without a token.
const ATTEMPTS: u32 = 3;

/// Where a target is on its way from an old token.
#[derive(Debug, Default)]
pub(crate) struct Resuming {
    /// The comparison under way; of one connection.
    comparison: Option<Reconcile>,
    /// What it has come to, once the target is listened to again; of one connection.
    pub(crate) difference: Option<Difference>,
    /// Fetched so far, on this connection or an earlier one.
    pub(crate) fetched: BTreeMap<DocumentPath, Arc<Document>>,
    /// Whether the token is not to be continued from, on this connection.
    pub(crate) anew: bool,
    /// How often it was tried on this connection.
    attempts: u32,
    /// When to try again what was refused for now; of one connection.
    again_at: Option<Duration>,
    backoff: Backoff,
}

impl Resuming {
    /// Whether an old token leads to a comparison.
    pub(crate) fn may_compare(&self) -> bool {
        self.attempts < ATTEMPTS
    }

    /// The connection is gone, or all begins again: gives the requests that nobody waits for any more.
    pub(crate) fn stop(&mut self) -> Vec<Ticket> {
        self.difference = None;
        self.again_at = None;
        self.comparison.take().map_or_else(Vec::new, |it| it.tickets().collect())
    }
}

impl Engine {
    /// The server cannot continue from the target's token.
    pub(super) fn stale(&mut self, id: TargetId) {
        let mut members: BTreeMap<DocumentPath, Version> =
            self.documents.members(id).map(|(path, at)| (path.clone(), at)).collect();
        let Some(listened) = self.targets.by_id.get_mut(&id) else { return };
        if listened.is_aggregate() || listened.attached {
            return;
        }
        let resuming = &mut listened.resuming;
        for ticket in resuming.stop() {
            self.requests.forget(ticket);
        }
        let fetched = resuming.fetched.values();
        members.extend(fetched.map(|document| (document.path.clone(), document.update_version)));
        resuming.attempts += 1;
        let window = match &listened.target {
            Target::Query(query) => query.limit.is_some() || query.offset > 0,
            Target::Documents(_) | Target::Aggregate(_) => false,
        };
        match Reconcile::begin(members, window).filter(|_| resuming.attempts <= ATTEMPTS) {
            Some(mut comparison) => {
                let next = comparison.first();
                resuming.comparison = Some(comparison);
                self.compare(id, next);
            }
            None => self.listen_anew(id),
        }
    }

    /// Does what the comparison wants next.
    fn compare(&mut self, id: TargetId, next: Next) {
        let Some(listened) = self.targets.by_id.get_mut(&id) else { return };
        let resuming = &mut listened.resuming;
        let Some(comparison) = &mut resuming.comparison else { return };
        match next {
            Next::Ask(nodes) => {
                let request = self.requests.number();
                comparison.sent(request, nodes.clone());
                let target = listened.target.clone();
                self.send(ClientMessage::Digest { request, target, nodes });
            }
            Next::Fetch(batches) => {
                for paths in batches {
                    let request = Request::Get { paths, overlay: false };
                    comparison.fetching(self.requests.add_own(request));
                }
            }
            Next::Finish => {
                let difference = resuming.comparison.take().map(Reconcile::into_difference);
                let version = difference.as_ref().map_or(Version::NONE, |it| it.version);
                resuming.difference = difference;
                let token = |incarnation| ResumeToken { incarnation, version };
                let token = self.targets.incarnation().map(token);
                if let Some(message) = self.targets.listen_message_from(id, token) {
                    self.send(message);
                }
            }
            Next::GiveUp => self.listen_anew(id),
            Next::Misunderstood => {
                let message = "the digests are not those that were asked for";
                let code = tidemark_protocol::model::Code::Internal;
                self.drop_connection(Error::new(code, message));
            }
        }
    }

    /// Listens as if nothing were known, and is sent everything.
    fn listen_anew(&mut self, id: TargetId) {
        let Some(listened) = self.targets.by_id.get_mut(&id) else { return };
        for ticket in listened.resuming.stop() {
            self.requests.forget(ticket);
        }
        listened.resuming.anew = true;
        if let Some(message) = self.targets.listen_message(id) {
            self.send(message);
        }
    }

    fn comparing(&self, is_it: impl Fn(&Reconcile) -> bool) -> Option<TargetId> {
        let comparisons = self.targets.by_id.iter();
        comparisons
            .filter(|(_, listened)| listened.resuming.comparison.as_ref().is_some_and(&is_it))
            .map(|(id, _)| *id)
            .next()
    }

    pub(super) fn digest_answered(&mut self, result: DigestResult) {
        // What is not waited for any more is late.
        let Some(id) = self.comparing(|it| it.awaits(result.request)) else { return };
        let Some(listened) = self.targets.by_id.get_mut(&id) else { return };
        let Some(comparison) = &mut listened.resuming.comparison else { return };
        let next = comparison.answered(result.version, result.nodes);
        self.compare(id, next);
    }

    /// The server refused a digest: whether it was one.
    pub(super) fn digest_failed(&mut self, request: u32, error: &Error) -> bool {
        let Some(id) = self.comparing(|it| it.awaits(request)) else { return false };
        if error.code().is_retryable() {
            let now = self.now;
            if let Some(listened) = self.targets.by_id.get_mut(&id) {
                let resuming = &mut listened.resuming;
                for ticket in resuming.stop() {
                    self.requests.forget(ticket);
                }
                resuming.attempts = resuming.attempts.saturating_sub(1);
                resuming.again_at = Some(now.elapsed + resuming.backoff.next(now.random));
            }
        } else {
            self.listen_anew(id);
        }
        true
    }

    /// When a comparison that was refused for now is to be tried again.
    pub(super) fn reconcile_deadline(&self) -> Option<Duration> {
        self.targets.by_id.values().filter_map(|listened| listened.resuming.again_at).min()
    }

    pub(super) fn reconcile_again(&mut self) {
        let now = self.now.elapsed;
        let due = |listened: &super::listen::Listened| {
            listened.resuming.again_at.is_some_and(|at| at <= now)
        };
        let due: Vec<TargetId> =
            self.targets.by_id.iter().filter(|(_, it)| due(it)).map(|(id, _)| *id).collect();
        due.into_iter().for_each(|id| self.stale(id));
    }

    /// A request of the engine's own is answered.
    pub(super) fn own_request_answered(&mut self, complete: Complete) {
        let ticket = complete.ticket;
        if self.limbo.done(ticket) {
            return self.looked_at(&complete);
        }
        let Some(id) = self.comparing(|it| it.fetches(ticket)) else { return };
        let Some(listened) = self.targets.by_id.get_mut(&id) else { return };
        let resuming = &mut listened.resuming;
        let Some(comparison) = &mut resuming.comparison else { return };
        let Request::Get { paths, .. } = complete.request else { return };
        let (kept, next) = comparison.fetched(ticket, paths, complete.documents);
        resuming.fetched.extend(kept.into_iter().map(|document| (document.path.clone(), document)));
        self.compare(id, next);
    }

    /// A request of the engine's own has failed for good.
    pub(super) fn own_request_failed(&mut self, ticket: Ticket, error: &Error) {
        if self.limbo.done(ticket) {
            tracing::debug!(%error, "documents out of a result could not be looked at");
        } else if let Some(id) = self.comparing(|it| it.fetches(ticket)) {
            self.listen_anew(id);
        }
    }

    /// The connection is gone.
    pub(super) fn leave_reconciles(&mut self) {
        for listened in self.targets.by_id.values_mut() {
            for ticket in listened.resuming.stop() {
                self.requests.forget(ticket);
            }
            listened.resuming.attempts = 0;
            listened.resuming.anew = false;
        }
    }
}
