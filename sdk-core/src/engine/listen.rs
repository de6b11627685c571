//! What is listened to: targets, one per canonical query, shared by its listeners; the server's groups
//! and what they stand for; and the changes that came since the last consistent point. Changes become
//! visible only together, at a consistent point. Driven by the engine; applies nothing itself.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use tidemark_protocol::model::{
    Code, Document, DocumentPath, Incarnation, ResumeToken, Target, TargetId, Value, Version,
    WriteId,
};
use tidemark_protocol::wire::client::{ClientMessage, Listen};
use tidemark_protocol::wire::codec::{DecodeError, canonical_target, decode_document};
use tidemark_protocol::wire::server::{Aggregated, Changes};

use super::ListenerId;
use super::projection::Projection;
use super::resume::Resuming;
use super::view::View;
use crate::error::Error;
use crate::snapshot::SnapshotMetadata;

/// A few targets, mostly one, without an allocation of their own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum TargetSet {
    #[default]
    None,
    One(TargetId),
    Many(Vec<TargetId>),
}

impl TargetSet {
    pub(crate) fn as_slice(&self) -> &[TargetId] {
        match self {
            TargetSet::None => &[],
            TargetSet::One(id) => std::slice::from_ref(id),
            TargetSet::Many(ids) => ids,
        }
    }

    pub(crate) fn contains(&self, id: TargetId) -> bool {
        self.as_slice().contains(&id)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.as_slice().is_empty()
    }

    pub(crate) fn insert(&mut self, id: TargetId) {
        match self {
            TargetSet::None => *self = TargetSet::One(id),
            TargetSet::One(only) if *only == id => {}
            TargetSet::One(only) => *self = TargetSet::Many(vec![*only, id]),
            TargetSet::Many(ids) if ids.contains(&id) => {}
            TargetSet::Many(ids) => ids.push(id),
        }
    }

    pub(crate) fn remove(&mut self, id: TargetId) -> bool {
        let found = self.contains(id);
        match self {
            TargetSet::One(only) if *only == id => *self = TargetSet::None,
            TargetSet::Many(ids) => ids.retain(|other| *other != id),
            TargetSet::None | TargetSet::One(_) => {}
        }
        found
    }
}

/// Something that is listened to.
pub(crate) struct Listened {
    /// Its canonical form, which the cache knows it by.
    pub(crate) key: Bytes,
    pub(crate) target: Target,
    pub(crate) view: View,
    /// The values of an aggregate that came last, and those that listeners know.
    pub(crate) values: Option<Arc<[Value]>>,
    pub(crate) told: Option<Arc<[Value]>>,
    /// In the order of their arrival.
    pub(crate) listeners: Vec<ListenerId>,
    /// Set when a connection ends that it was attached on; where the next one continues.
    token: Option<ResumeToken>,
    /// Whether it has documents from the cache that the server has not confirmed.
    pub(crate) cached: bool,
    /// On the way from a token that is too old.
    pub(crate) resuming: Resuming,
    /// Whether consistent points of this connection are points of this target, too.
    pub(crate) attached: bool,
    /// Whether the view or the values are what the server said last, as opposed to what the cache
    /// remembers.
    pub(crate) current: bool,
    /// The metadata that listeners know.
    pub(crate) metadata: SnapshotMetadata,
}

impl Listened {
    /// Whether what comes replaces all that it has.
    fn begins_anew(&self) -> bool {
        self.token.is_none() || self.resuming.anew
    }

    /// Whether it has values instead of documents.
    pub(crate) fn is_aggregate(&self) -> bool {
        match self.target {
            Target::Aggregate(_) => true,
            Target::Query(_) | Target::Documents(_) => false,
        }
    }
}

/// Someone who listens.
pub(crate) struct ListenerState {
    pub(crate) target: TargetId,
    pub(crate) include_metadata: bool,
    /// The fields that it wants, if not all.
    pub(crate) projection: Option<Projection>,
    /// Whether the first snapshot has been delivered.
    pub(crate) started: bool,
}

/// A step towards the next consistent point.
#[derive(Debug)]
pub(crate) enum Staged {
    /// The document is in these targets, and is this.
    Document { targets: TargetSet, document: Arc<Document> },
    /// The document is not in these targets any more.
    Removal { targets: TargetSet, path: DocumentPath, deleted: bool },
    /// The document is not in what was compared of the target: what became of it is not known.
    Gone { target: TargetId, path: DocumentPath },
    /// The values of these targets are these.
    Values { targets: TargetSet, values: Arc<[Value]> },
    /// All that was known of the target's documents is void.
    Clear { target: TargetId },
    /// The server has attached the target: the next consistent point is one for it, too.
    Attached { target: TargetId },
}

/// What becomes visible together.
#[derive(Debug)]
pub(crate) struct Point {
    pub(crate) staged: Vec<Staged>,
    pub(crate) version: Version,
    /// The last write of this client that it may contain, and that would count twice then: it waits for
    /// the server's word on it.
    pub(crate) waits_for: Option<WriteId>,
}

/// All targets, and what is staged for them.
#[derive(Default)]
pub(crate) struct Targets {
    pub(crate) by_id: BTreeMap<TargetId, Listened>,
    by_key: HashMap<Bytes, TargetId>,
    pub(crate) listeners: HashMap<ListenerId, ListenerState>,
    last_id: u32,
    /// Targets of earlier connections that this one has not attached yet. Set when it begins, each taken
    /// out when it is attached or gone. Documents are shared: until all are there, no point is consistent
    /// for what listeners have been shown. Aggregates have none: their values come when they come.
    returning: BTreeSet<TargetId>,
    /// What the server's groups stand for; of one connection.
    groups: HashMap<u32, TargetSet>,
    /// In the order of arrival; of one connection.
    staged: Vec<Staged>,
    /// How many of them the last consistent point covers, and its version; of one connection.
    complete: Option<(usize, Version)>,
    /// Consistent points to be applied, the earliest first; of one connection.
    points: VecDeque<Point>,
    /// The life of the database that tokens are of.
    incarnation: Option<Incarnation>,
    /// The last consistent point applied.
    consistent: Version,
}

impl Targets {
    pub(crate) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// Everything up to this version has been applied for all targets of documents, or of values if there
    /// are no others: no write of it needs to be laid over any of them. Without targets, that is everything;
    /// while one is not attached, nothing.
    pub(crate) fn settled_through(&self) -> Version {
        if self.by_id.is_empty() {
            return Version(u64::MAX);
        }
        // Values come when they come; but where there are only values, they are waited for, lest a write
        // counts neither as pending nor as committed.
        let no_documents = self.by_id.values().all(Listened::is_aggregate);
        let mut relevant = self.by_id.values().filter(|it| no_documents || !it.is_aggregate());
        if relevant.all(|listened| listened.attached) { self.consistent } else { Version::NONE }
    }

    /// The last consistent point.
    pub(crate) fn consistent(&self) -> Version {
        self.consistent
    }

    /// Up to where the target has the server's word on everything; of this connection.
    pub(crate) fn through(&self, listened: &Listened) -> Version {
        if listened.attached { self.consistent } else { Version::NONE }
    }

    /// Where the target would continue on another connection.
    pub(crate) fn token(&self, listened: &Listened) -> Option<ResumeToken> {
        match self.incarnation {
            Some(incarnation) if listened.attached => {
                Some(ResumeToken { incarnation, version: self.consistent })
            }
            Some(_) | None => listened.token,
        }
    }

    /// The target's canonical form, and its id if it is listened to already.
    pub(crate) fn find(&self, target: &Target) -> (Bytes, Option<TargetId>) {
        let key = canonical_target(target);
        let id = self.by_key.get(&key).copied();
        (key, id)
    }

    /// An id that no target had before.
    pub(crate) fn new_id(&mut self) -> TargetId {
        self.last_id += 1;
        TargetId(self.last_id)
    }

    pub(crate) fn add(
        &mut self,
        id: TargetId,
        key: Bytes,
        target: Target,
        token: Option<ResumeToken>,
    ) {
        self.by_key.insert(key.clone(), id);
        let listened = Listened {
            key,
            view: View::new(&target),
            target,
            values: None,
            told: None,
            listeners: Vec::new(),
            token,
            cached: false,
            resuming: Resuming::default(),
            attached: false,
            current: false,
            metadata: SnapshotMetadata { from_cache: true, has_pending_writes: false },
        };
        self.by_id.insert(id, listened);
    }

    /// Forgets the target; its listeners are the caller's to tell.
    pub(crate) fn remove(&mut self, id: TargetId) -> Option<Listened> {
        let listened = self.by_id.remove(&id)?;
        self.by_key.remove(&listened.key);
        self.returning.remove(&id);
        for listener in &listened.listeners {
            self.listeners.remove(listener);
        }
        self.groups.retain(|_, targets| {
            targets.remove(id);
            !targets.is_empty()
        });
        Some(listened)
    }

    /// The life of the database that is known.
    pub(crate) fn incarnation(&self) -> Option<Incarnation> {
        self.incarnation
    }

    /// Takes note of what a former run knew.
    pub(crate) fn restore(&mut self, incarnation: Option<Incarnation>) {
        self.incarnation = incarnation;
    }

    /// Takes note of the database's incarnation; whether it is another than before.
    pub(crate) fn enter(&mut self, incarnation: Incarnation) -> bool {
        let known = self.incarnation.replace(incarnation);
        let other = known.is_some_and(|known| known != incarnation);
        if other {
            self.consistent = Version::NONE;
        }
        other
    }

    /// What to send for all targets at the beginning of a connection.
    pub(crate) fn listens(&mut self) -> Vec<ClientMessage> {
        let seen = self.by_id.iter();
        let seen = seen.filter(|(_, it)| it.token.is_some() && !it.is_aggregate());
        self.returning = seen.map(|(id, _)| *id).collect();
        self.by_id.keys().filter_map(|id| self.listen_message(*id)).collect()
    }

    pub(crate) fn listen_message(&self, id: TargetId) -> Option<ClientMessage> {
        self.listen_message_from(id, self.token(self.by_id.get(&id)?))
    }

    /// What to send to listen on from a token.
    pub(crate) fn listen_message_from(
        &self,
        id: TargetId,
        token: Option<ResumeToken>,
    ) -> Option<ClientMessage> {
        let listened = self.by_id.get(&id)?;
        // The values of an aggregate are sent in any case.
        let resume = token.filter(|_| !listened.is_aggregate() && !listened.resuming.anew);
        // Versions of another life of the database say nothing of documents.
        let comparable = resume.is_some_and(|token| Some(token.incarnation) == self.incarnation);
        Some(ClientMessage::Listen(Listen {
            target_id: id,
            target: listened.target.clone(),
            resume,
            reconciles: comparable && listened.resuming.may_compare(),
        }))
    }

    /// The connection is gone, and with it its groups and what was not consistent yet.
    pub(crate) fn leave(&mut self) {
        self.groups.clear();
        self.staged.clear();
        self.complete = None;
        self.points.clear();
        self.returning.clear();
        let Some(incarnation) = self.incarnation else { return };
        let token = ResumeToken { incarnation, version: self.consistent };
        for listened in self.by_id.values_mut().filter(|listened| listened.attached) {
            listened.attached = false;
            listened.token = Some(token);
        }
    }

    /// The server has attached the target, perhaps again and under another group.
    pub(crate) fn listening(&mut self, id: TargetId, group: u32) {
        let Some(listened) = self.by_id.get_mut(&id) else { return };
        if self.returning.remove(&id) {
            // What was said to be consistent before was not so for this target.
            self.complete = None;
        }
        // Said again on one connection, it continues from what was sent there.
        let again = self.groups.values().any(|targets| targets.contains(id));
        // Without a token everything is sent: what an earlier life left must not survive.
        let has_any = listened.cached || listened.resuming.anew || !listened.view.is_empty();
        let everything = !again && listened.begins_anew() && has_any;
        let found = listened.resuming.difference.take().map(|difference| {
            // What was fetched stays there until it is shown: if not on this connection, on the next.
            let kept = listened.resuming.fetched.values();
            let kept = kept.filter(|document| !difference.gone.contains(&document.path)).cloned();
            (kept.collect::<Vec<_>>(), difference.gone)
        });
        self.groups.retain(|other, targets| {
            *other == group || !(targets.remove(id) && targets.is_empty())
        });
        self.groups.entry(group).or_default().insert(id);
        if everything {
            self.staged.push(Staged::Clear { target: id });
        }
        if let Some((kept, gone)) = found {
            self.staged.extend(gone.into_iter().map(|path| Staged::Gone { target: id, path }));
            let found = |document| Staged::Document { targets: TargetSet::One(id), document };
            self.staged.extend(kept.into_iter().map(found));
        }
        self.staged.push(Staged::Attached { target: id });
    }

    pub(crate) fn reset(&mut self, id: TargetId) {
        // The values of an aggregate are replaced by the next.
        if self.by_id.get(&id).is_some_and(|listened| !listened.is_aggregate()) {
            self.staged.push(Staged::Clear { target: id });
        }
    }

    /// Keeps values until they are consistent. Those of groups without a target are late: dropped.
    pub(crate) fn stage_values(&mut self, aggregated: Aggregated) -> Result<(), Error> {
        let Some(targets) = self.groups.get(&aggregated.group) else { return Ok(()) };
        let fits = |id: &TargetId| match self.by_id.get(id).map(|listened| &listened.target) {
            Some(Target::Aggregate(wanted)) => wanted.aggregations.len() == aggregated.values.len(),
            Some(Target::Query(_) | Target::Documents(_)) => false,
            None => true,
        };
        if !targets.as_slice().iter().all(fits) {
            return Err(Error::new(Code::Internal, "the values are not those that were asked for"));
        }
        let (targets, values) = (targets.clone(), aggregated.values.into());
        self.staged.push(Staged::Values { targets, values });
        Ok(())
    }

    /// Keeps changes until they are consistent. Those of groups without a target are late: dropped.
    pub(crate) fn stage(&mut self, changes: Changes) -> Result<(), DecodeError> {
        let Some(targets) = self.groups.get(&changes.group) else { return Ok(()) };
        self.staged.reserve(changes.documents.len() + changes.removals.len());
        for removal in changes.removals {
            let (path, deleted) = (removal.path, removal.deleted);
            self.staged.push(Staged::Removal { targets: targets.clone(), path, deleted });
        }
        for bytes in &changes.documents {
            let document = Arc::new(decode_document(bytes)?);
            self.staged.push(Staged::Document { targets: targets.clone(), document });
        }
        Ok(())
    }

    /// Everything staged so far is consistent at this version.
    pub(crate) fn complete(&mut self, version: Version) {
        self.complete = Some((self.staged.len(), version));
    }

    /// Makes a point of what the last consistent point covers, but not before all returning targets are
    /// there. `waits_for` finds the write that it has to wait for.
    pub(crate) fn form_point(&mut self, waits_for: impl FnOnce(&[Staged]) -> Option<WriteId>) {
        if self.returning.is_empty()
            && let Some((count, version)) = self.complete.take()
        {
            let rest = self.staged.split_off(count);
            let staged = std::mem::replace(&mut self.staged, rest);
            let waits_for = waits_for(&staged);
            self.points.push_back(Point { staged, version, waits_for });
        }
    }

    /// The next point, if it need not wait any longer.
    pub(crate) fn next_point(&mut self, must_wait: impl FnOnce(WriteId) -> bool) -> Option<Point> {
        if self.points.front()?.waits_for.is_some_and(must_wait) {
            return None;
        }
        let point = self.points.pop_front()?;
        self.consistent = self.consistent.max(point.version);
        Some(point)
    }
}
