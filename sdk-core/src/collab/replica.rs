//! What this client holds of an open document: the history as the listener has it, its own changes that
//! the server has not taken in, and the edits that are not yet on their way. Pure: the session tells it
//! what happens, the handle edits it.

use std::collections::BTreeSet;

use bytes::Bytes;
use tidemark_protocol::model::collab::{
    CollabDocument, CollabError, CollabPatch, TextUnit, merge_values,
};
use tidemark_protocol::model::{Collaboration, Fields, Value, Version};

use super::history::History;
use crate::error::Error;

/// What is told to whoever shows the document.
#[derive(Clone, Debug, PartialEq)]
pub enum CollabEvent {
    /// Values changed, by an edit here (`local`) or elsewhere. To be applied in order.
    Changed {
        /// What changed; nothing where an edit made no difference to what others had done.
        patches: Vec<CollabPatch>,
        /// Whether an edit of this handle did it.
        local: bool,
    },
    /// Values changed in another way: they are to be read again. Cursors and undo begin anew.
    Reset,
    /// The server has refused edits for good: their effect is gone. Their contents are among the
    /// client's rejected writes.
    Rejected(Error),
}

/// Changes that are in the outbox, or were.
#[derive(Clone, Debug)]
struct Pending {
    collaboration: Collaboration,
    /// The commit, when it is known.
    committed: Option<Version>,
    /// Whether the document has had them from the beginning.
    applied: bool,
}

/// An open document.
pub(crate) struct Replica {
    pub(crate) document: CollabDocument,
    actor: Vec<u8>,
    /// Counts the documents begun, so that no two share an actor.
    generation: u64,
    unit: TextUnit,
    /// What `document` contains of the server's history.
    history: History,
    /// The newest epoch that the listener has, while changes against the former one are not answered.
    newer: Option<(History, Version)>,
    pending: Vec<Pending>,
    /// Own edits that another document made, to be sent before those of this one.
    kept: Vec<Bytes>,
    /// The document's fields as last read, for those that are not collaborative yet.
    pub(crate) plain: Fields,
    /// What happened and was not told yet.
    pub(crate) events: Vec<CollabEvent>,
}

impl Replica {
    pub(crate) fn new(actor: [u8; 16], unit: TextUnit) -> Replica {
        Replica {
            document: CollabDocument::new(&actor, unit),
            actor: actor.to_vec(),
            generation: 0,
            unit,
            history: History::default(),
            newer: None,
            pending: Vec::new(),
            kept: Vec::new(),
            plain: Fields::new(),
            events: Vec::new(),
        }
    }

    fn next_actor(&mut self) -> Vec<u8> {
        self.generation += 1;
        [&self.actor[..], &self.generation.to_be_bytes()].concat()
    }

    /// The values shown.
    pub(crate) fn values(&self) -> Fields {
        self.document.values()
    }

    /// The value of a field, collaborative or not yet.
    pub(crate) fn value(&self, field: &str) -> Option<Value> {
        self.document.value(field).or_else(|| self.plain.get(field).cloned())
    }

    pub(crate) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// The edits to be committed next; none while the history that they would continue is going away.
    pub(crate) fn take(&mut self) -> Option<Collaboration> {
        if self.newer.is_some() {
            return None;
        }
        let mut changes = std::mem::take(&mut self.kept);
        changes.extend(self.document.take_changes());
        if changes.is_empty() {
            return None;
        }
        let collaboration = Collaboration { epoch: self.history.epoch, changes };
        let pending =
            Pending { collaboration: collaboration.clone(), committed: None, applied: true };
        self.pending.push(pending);
        Some(collaboration)
    }

    /// Whether there are edits that are not in the outbox.
    pub(crate) fn has_edits(&self) -> bool {
        !self.kept.is_empty() || self.document.has_changes()
    }

    /// Changes in the outbox that a former run or another handle made.
    pub(crate) fn adopt(&mut self, collaboration: &Collaboration) {
        let known = |pending: &Pending| pending.collaboration.changes == collaboration.changes;
        if self.pending.iter().any(known) {
            return;
        }
        let collaboration = collaboration.clone();
        if self.fits(&collaboration) {
            self.apply_own(&collaboration);
        }
        self.pending.push(Pending { collaboration, committed: None, applied: false });
    }

    fn fits(&self, collaboration: &Collaboration) -> bool {
        collaboration.epoch == self.history.epoch || collaboration.epoch == Version::NONE
    }

    fn changed(&mut self, patches: Vec<CollabPatch>, local: bool) {
        if !patches.is_empty() {
            self.events.push(CollabEvent::Changed { patches, local });
        }
    }

    /// An edit was made here.
    pub(crate) fn edited(&mut self, patches: Vec<CollabPatch>) {
        self.changed(patches, true);
    }

    /// The listener has the history as of a version.
    pub(crate) fn receive(&mut self, history: History, version: Version) {
        let same = history.epoch == self.history.epoch;
        let received = if same && self.newer.is_none() {
            self.merge(history)
        } else if self.history.epoch == Version::NONE && self.newer.is_none() {
            self.begin(history, version)
        } else {
            self.turn(history, version)
        };
        if let Err(error) = received {
            // Of a cache, not all of the history may be there: the server sends the rest.
            tracing::debug!(%error, "the history is not complete");
        }
        self.forget_contained(version);
    }

    fn merge(&mut self, history: History) -> Result<(), CollabError> {
        let news = history.news(&self.history, &self.own_commits(), &mut self.document);
        if !news.is_empty() {
            let patches = self.document.apply_chunks(news.iter().map(|it| &it[..]))?;
            // Also where no value changed, something is held now that was not.
            self.events.push(CollabEvent::Changed { patches, local: false });
        }
        self.history = history;
        Ok(())
    }

    /// The first history: what was edited without one fits it, unless it began with other values.
    fn begin(&mut self, history: History, version: Version) -> Result<(), CollabError> {
        let mut loaded = history.load(&self.actor, self.unit)?;
        if self.document.began_apart_from(&mut loaded) && self.has_unanswered() {
            self.newer = Some((history, version));
            return Ok(());
        }
        if self.document.began_apart_from(&mut loaded) {
            return self.replace(history);
        }
        self.merge(history)?;
        self.apply_pending();
        Ok(())
    }

    /// Shows the pending changes that continue the history.
    fn apply_pending(&mut self) {
        for pending in self.pending.clone() {
            if self.fits(&pending.collaboration) {
                self.apply_own(&pending.collaboration);
            }
        }
    }

    fn apply_own(&mut self, collaboration: &Collaboration) {
        let changes = || collaboration.changes.iter().map(|change| &change[..]);
        // What does not fit is shown when the server has taken it in.
        match self.document.clone().apply(changes()) {
            Ok(_) => {
                let patches = self.document.apply(changes()).unwrap_or_default();
                self.changed(patches, false);
            }
            Err(error) => tracing::debug!(%error, "pending changes do not fit"),
        }
    }

    /// The commits whose changes are here and are all that was committed: in an epoch that was known.
    fn own_commits(&self) -> BTreeSet<Version> {
        let own = self.pending.iter().filter(|it| {
            it.applied
                && it.collaboration.epoch == self.history.epoch
                && it.collaboration.epoch.0 > 0
        });
        own.filter_map(|it| it.committed).filter(|version| version.0 > 0).collect()
    }

    /// Whether changes wait for the server's word.
    pub(crate) fn has_unanswered(&self) -> bool {
        self.pending.iter().any(|pending| pending.committed.is_none())
    }

    /// Another epoch: when all changes against the former one have been answered, and are contained in
    /// what the listener has, the new one takes its place.
    fn turn(&mut self, history: History, version: Version) -> Result<(), CollabError> {
        let awaited = |pending: &Pending| pending.committed.is_none_or(|at| at > version);
        let former = self.pending.iter().filter(|it| it.collaboration.epoch != history.epoch);
        if former.into_iter().any(awaited) {
            self.newer = Some((history, version));
            return Ok(());
        }
        self.replace(history)
    }

    /// Puts the document of a history in the place of this one. Edits that are not in the outbox are
    /// made in it beside what changed.
    fn replace(&mut self, history: History) -> Result<(), CollabError> {
        let actor = self.next_actor();
        let mut document = history.load(&actor, self.unit)?;
        for pending in &self.pending {
            if pending.collaboration.epoch == history.epoch {
                // What rests on refused changes is refused as well.
                let changes = pending.collaboration.changes.iter().map(|change| &change[..]);
                let mut with = document.clone();
                if with.apply(changes).is_ok() {
                    document = with;
                }
            }
        }
        if self.has_edits() {
            let before = self.without_edits()?;
            merge_values(&before, &self.document, &mut document)?;
            self.kept.clear();
        }
        self.document = document;
        self.history = history;
        self.newer = None;
        self.pending.iter_mut().for_each(|pending| pending.applied = false);
        self.events.push(CollabEvent::Reset);
        Ok(())
    }

    /// The document without the edits that are not in the outbox.
    fn without_edits(&mut self) -> Result<CollabDocument, CollabError> {
        let mut before = self.history.load(b"before", self.unit)?;
        for pending in &self.pending {
            let changes = pending.collaboration.changes.iter().map(|change| &change[..]);
            let mut with = before.clone();
            if with.apply(changes).is_ok() {
                before = with;
            }
        }
        Ok(before)
    }

    /// The server has committed changes.
    pub(crate) fn committed(&mut self, collaboration: &Collaboration, version: Version) {
        let found = |it: &&mut Pending| it.collaboration.changes == collaboration.changes;
        if let Some(pending) = self.pending.iter_mut().find(found) {
            pending.committed = Some(version);
        }
        if let Some((history, at)) = self.newer.take() {
            self.receive(history, at);
        }
    }

    /// The server has refused changes for good: the document is built without them, and without what
    /// rests on them.
    pub(crate) fn rejected(&mut self, collaboration: &Collaboration, error: Error) {
        let found = |it: &Pending| it.collaboration.changes == collaboration.changes;
        let Some(place) = self.pending.iter().position(found) else { return };
        let history = match &self.newer {
            Some((history, _)) => history.clone(),
            None => self.history.clone(),
        };
        let edited = self.has_edits().then(|| self.without_edits());
        self.pending.remove(place);
        let actor = self.next_actor();
        let rebuilt = self.rebuild(&history, &actor, edited);
        if let Err(error) = rebuilt {
            tracing::warn!(%error, "the document could not be built anew");
        }
        self.events.push(CollabEvent::Rejected(error));
        self.events.push(CollabEvent::Reset);
    }

    fn rebuild(
        &mut self,
        history: &History,
        actor: &[u8],
        edited: Option<Result<CollabDocument, CollabError>>,
    ) -> Result<(), CollabError> {
        let mut document = history.load(actor, self.unit)?;
        for pending in &self.pending {
            let changes = pending.collaboration.changes.iter().map(|change| &change[..]);
            let mut with = document.clone();
            if with.apply(changes).is_ok() {
                document = with;
            }
        }
        if let Some(before) = edited {
            merge_values(&before?, &self.document, &mut document)?;
            self.kept.clear();
        }
        self.document = document;
        self.history = history.clone();
        self.newer = None;
        self.pending.iter_mut().for_each(|pending| pending.applied = false);
        Ok(())
    }

    /// Own changes that the history contains need not be kept.
    fn forget_contained(&mut self, version: Version) {
        if self.newer.is_none() {
            self.pending.retain(|it| it.committed.is_none_or(|at| at > version));
        }
    }
}
