//! Documents that left a result, so that what the cache has of them is out of date: a result had them by
//! the cache's word and the server's has not, or they changed so that they are in none that is listened
//! to. They are not shown any more; they are looked at, so that the cache does not show them later as they
//! are not. Part of [`Engine`](super::Engine); shows nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tidemark_protocol::model::{Document, DocumentPath, Version};

use super::listen::TargetSet;
use super::requests::Complete;
use super::{Engine, Request, Ticket};
use crate::cache::{CacheBatch, Known};

/// How many documents are looked at by one request.
const AT_ONCE: usize = 100;
/// How many may wait for that. Beyond, some stay as they are until someone asks for them.
const WAITING: usize = 1_000;

/// What waits to be looked at, and what is being looked at.
#[derive(Debug, Default)]
pub(crate) struct Limbo {
    waiting: BTreeSet<DocumentPath>,
    /// One request at a time: there is no hurry.
    asked: BTreeMap<Ticket, Vec<DocumentPath>>,
}

impl Limbo {
    pub(crate) fn add(&mut self, paths: impl IntoIterator<Item = DocumentPath>) {
        for path in paths {
            if self.waiting.len() >= WAITING {
                break;
            }
            self.waiting.insert(path);
        }
    }

    /// The next to look at.
    fn next(&mut self) -> Option<Vec<DocumentPath>> {
        if !self.asked.is_empty() || self.waiting.is_empty() {
            return None;
        }
        let beyond = self.waiting.iter().nth(AT_ONCE).cloned();
        let rest = beyond.map_or_else(BTreeSet::new, |path| self.waiting.split_off(&path));
        Some(std::mem::replace(&mut self.waiting, rest).into_iter().collect())
    }

    /// The request is over; whether it was one of these.
    pub(crate) fn done(&mut self, ticket: Ticket) -> bool {
        self.asked.remove(&ticket).is_some()
    }
}

impl Engine {
    /// Looks at the next documents, one request after the other.
    pub(super) fn pump_limbo(&mut self) {
        let Some(paths) = self.limbo.next() else { return };
        // What a target has is looked after.
        let lost = |path: &DocumentPath| !self.documents.is_in_a_target(path);
        let paths: Vec<DocumentPath> = paths.into_iter().filter(lost).collect();
        if !paths.is_empty() {
            let request = Request::Get { paths: paths.clone(), overlay: false };
            let ticket = self.requests.add_own(request);
            self.limbo.asked.insert(ticket, paths);
        }
    }

    /// What was looked at is known now.
    pub(super) fn looked_at(&mut self, complete: &Complete) {
        if let Request::Get { paths, .. } = &complete.request {
            self.remember(paths, &complete.documents, complete.version);
        }
    }

    /// Keeps documents that the server told outside of any target. Those `asked` for that it did not find
    /// are known to be missing. What is in a target is left to it: it knows more, or is about to.
    pub(super) fn remember(
        &mut self,
        asked: &[DocumentPath],
        found: &[Arc<Document>],
        version: Version,
    ) {
        let mut batch = CacheBatch::default();
        // Under pending writes that listeners see lies what they have been shown, and nothing later.
        let is_shown = version <= self.shown_through();
        let mut missing: BTreeSet<&DocumentPath> = asked.iter().collect();
        for document in found {
            let path = &document.path;
            missing.remove(path);
            if !self.documents.is_in_a_target(path) {
                if is_shown {
                    self.documents.put_known(document.clone());
                }
                batch.documents.push((path.clone(), Known::Document(document.clone())));
            }
        }
        for path in missing {
            if !self.documents.is_in_a_target(path) {
                if is_shown {
                    self.documents.remove(path, &TargetSet::None, true, version);
                }
                batch.documents.push((path.clone(), Known::Missing { at: version }));
            }
        }
        if !batch.documents.is_empty() {
            self.deferred.push(batch);
            self.refresh(BTreeSet::new());
        }
    }
}
