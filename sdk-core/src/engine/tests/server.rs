//! A model of the server, for the properties: it keeps every state that ever was, and answers as slowly
//! and in as many pieces as chance wants.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use tidemark_protocol::model::*;
use tidemark_protocol::wire::client::{ClientMessage, Commit, Listen};
use tidemark_protocol::wire::codec::encode_document;
use tidemark_protocol::wire::server::{
    AggregateResult, Aggregated, Changes, DigestResult, QueryResult, Removal, ServerMessage,
    SessionLimits, Status, Welcome,
};

/// The one document that nobody else writes: its increments are counted.
pub(super) const COUNTER: &str = "counters/mine";

/// Repeatable chance.
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

pub(super) type State = BTreeMap<DocumentPath, Document>;

/// What the server does, without its efficiency: it keeps every state that ever was.
#[derive(Default)]
pub(super) struct Server {
    history: Vec<(Version, State)>,
    /// Tokens from before are too old.
    pub(super) log_start: Version,
    /// Others are not: by chance some are forgotten.
    pub(super) keeps_all: bool,
    /// How many members and fingerprints were sent in digests, and how many documents at all.
    pub(super) compared: usize,
    pub(super) documents: usize,
    /// When documents were deleted that do not exist.
    deleted: BTreeMap<DocumentPath, EditTime>,
    /// Its clock, in microseconds; versions follow it.
    pub(super) now: u64,
    /// What the client's writes came to, as far as it has not acknowledged that.
    pub(super) outcomes: BTreeMap<WriteId, (Version, Vec<WriteResult>)>,
    acknowledged: WriteId,
    /// How many writes were sent again that the client had acknowledged.
    pub(super) forgotten: usize,
    /// The client's writes that took effect, in order, with their results.
    pub(super) applied: Vec<(Commit, Vec<WriteResult>)>,
    /// The writes that were refused for now, of the present connection.
    refused: BTreeSet<WriteId>,
    /// Of the present connection.
    pub(super) targets: BTreeMap<TargetId, Target>,
    pub(super) sent: VecDeque<ServerMessage>,
    /// Answers to commits: they come in their order, before or after the changes.
    pub(super) answers: VecDeque<ServerMessage>,
}

pub(super) fn result(target: &Target, state: &State) -> Vec<Document> {
    match target {
        Target::Documents(paths) => {
            paths.iter().filter_map(|path| state.get(path).cloned()).collect()
        }
        Target::Query(query) => {
            let mut found: Vec<_> =
                state.values().filter(|document| query.matches(document)).cloned().collect();
            found.sort_by(|a, b| query.compare(a, b));
            // What is left out is at the end if the last are asked for.
            if query.limit_to_last {
                found.reverse();
            }
            found.drain(..found.len().min(query.offset as usize));
            found.truncate(query.limit.map_or(usize::MAX, |limit| limit as usize));
            if query.limit_to_last {
                found.reverse();
            }
            match &query.projection {
                Some(fields) => found.iter().map(|document| document.projected(fields)).collect(),
                None => found,
            }
        }
        Target::Aggregate(_) => Vec::new(),
    }
}

fn size_of_answer(answer: &DigestAnswer) -> usize {
    match &answer.part {
        DigestPart::Members(members) => members.len(),
        DigestPart::Children(prints) => prints.len(),
    }
}

pub(super) fn computed(aggregate: &AggregateQuery, state: &State) -> Vec<Value> {
    let mut running = AggregateState::new(&aggregate.aggregations);
    let documents = result(&Target::Query(aggregate.query.clone()), state);
    documents.iter().for_each(|document| running.add(document));
    running.values()
}

impl Server {
    pub(super) fn state(&self) -> (Version, State) {
        self.history.last().cloned().unwrap_or((Version(1), State::new()))
    }

    /// The state as of a version.
    pub(super) fn at(&self, version: Version) -> State {
        let then = self.history.iter().rev().find(|(at, _)| *at <= version);
        then.map(|(_, state)| state.clone()).unwrap_or_default()
    }

    fn group(id: TargetId) -> u32 {
        id.0 + 100
    }

    /// The difference of two results, as the frames of a group.
    fn difference(id: TargetId, before: &[Document], after: &[Document], state: &State) -> Changes {
        let group = Server::group(id);
        let mut changes = Changes { group, ..Changes::default() };
        for document in after.iter().filter(|document| !before.contains(document)) {
            changes.documents.push(encode_document(document));
        }
        for old in before.iter().filter(|old| !after.iter().any(|new| new.path == old.path)) {
            let deleted = !state.contains_key(&old.path);
            changes.removals.push(Removal { path: old.path.clone(), deleted });
        }
        changes
    }

    fn send(&mut self, mut changes: Changes, version: Version, partial: bool, chance: &mut Chance) {
        changes.version = version;
        self.documents += changes.documents.len();
        // Sometimes in pieces.
        while changes.documents.len() > 1 && chance.below(3) == 0 {
            let documents = vec![changes.documents.remove(0)];
            let piece =
                Changes { documents, removals: Vec::new(), partial: true, ..changes.clone() };
            self.sent.push_back(ServerMessage::Changes(piece));
        }
        changes.partial = partial;
        self.sent.push_back(ServerMessage::Changes(changes));
    }

    /// Someone else writes.
    pub(super) fn apply(
        &mut self,
        writes: &[Write],
        chance: &mut Chance,
    ) -> Result<Version, ModelError> {
        self.apply_stamped(writes, None, chance).map(|(version, _)| version)
    }

    fn apply_stamped(
        &mut self,
        writes: &[Write],
        stamp: Option<EditTime>,
        chance: &mut Chance,
    ) -> Result<(Version, Vec<WriteResult>), ModelError> {
        let (last, before) = self.state();
        let version = Version((last.0 + 1).max(self.now));
        let mut after = before.clone();
        let mut deleted = self.deleted.clone();
        let mut results = Vec::new();
        for write in writes {
            let current = after.get(&write.path);
            check_precondition(current, write)?;
            let at = CommitTime::at_commit(version, stamp);
            let applied = apply_write(current, deleted.get(&write.path).copied(), write, at)?;
            results.push(applied.result);
            deleted.remove(&write.path);
            deleted.extend(applied.deleted.map(|edit| (write.path.clone(), edit)));
            match applied.document {
                Some(document) => after.insert(write.path.clone(), document),
                None => after.remove(&write.path),
            };
        }
        self.deleted = deleted;
        self.history.push((version, after.clone()));
        let mut hits = Vec::new();
        let mut values = Vec::new();
        for (id, target) in &self.targets {
            if let Target::Aggregate(aggregate) = target {
                let new = computed(aggregate, &after);
                // Sometimes it says again what it said.
                if new != computed(aggregate, &before) || chance.below(10) == 0 {
                    values.push((Server::group(*id), new));
                }
                continue;
            }
            assert!(!is_cut(target), "whole documents are what listeners share");
            let (old, new) = (result(target, &before), result(target, &after));
            let changes = Server::difference(*id, &old, &new, &after);
            if !changes.documents.is_empty() || !changes.removals.is_empty() {
                hits.push(changes);
            }
        }
        let last = values.len().saturating_sub(usize::from(hits.is_empty()));
        for (index, (group, values)) in values.iter().enumerate() {
            let (group, values, partial) = (*group, values.clone(), index < last);
            let aggregated = Aggregated { group, version, values, partial };
            self.sent.push_back(ServerMessage::Aggregated(aggregated));
        }
        let count = hits.len();
        for (index, changes) in hits.into_iter().enumerate() {
            self.send(changes, version, index + 1 < count, chance);
        }
        if count == 0 && values.is_empty() {
            self.sent.push_back(ServerMessage::Current { version });
        }
        Ok((version, results))
    }

    pub(super) fn receive(&mut self, message: ClientMessage, chance: &mut Chance) {
        match message {
            ClientMessage::Hello(hello) => {
                self.refused.clear();
                self.acknowledge(hello.acknowledged_through);
                self.sent.push_back(welcome_at(self.now));
            }
            ClientMessage::Listen(listen) => self.attach(&listen, chance),
            ClientMessage::Unlisten { target } => {
                self.targets.remove(&target);
            }
            ClientMessage::Commit(commit) => self.commit(&commit, chance),
            ClientMessage::Get { request, paths } => {
                let (version, state) = self.state();
                let found = paths.iter().filter_map(|path| state.get(path));
                let documents: Vec<_> = found.map(encode_document).collect();
                self.documents += documents.len();
                let result = QueryResult { request, version, documents, ..QueryResult::default() };
                self.sent.push_back(ServerMessage::Result(result));
            }
            ClientMessage::Query { request, query, .. } => {
                let (version, state) = self.state();
                let found = result(&Target::Query(query), &state);
                let documents = found.iter().map(encode_document).collect();
                let result = QueryResult { request, version, documents, ..QueryResult::default() };
                self.sent.push_back(ServerMessage::Result(result));
            }
            ClientMessage::Aggregate { request, aggregate, .. } => {
                let (version, state) = self.state();
                let values = computed(&aggregate, &state);
                let result = AggregateResult { request, version, values, explanation: None };
                self.sent.push_back(ServerMessage::AggregateResult(result));
            }
            ClientMessage::Ping { nonce } => {
                self.sent
                    .push_back(ServerMessage::Pong { nonce, server_time: Timestamp::default() });
            }
            ClientMessage::Digest { request, target, nodes } => {
                let (version, state) = self.state();
                let members = result(&target, &state);
                let members = members.into_iter().map(|it| (it.path, it.update_version));
                let tree = DigestTree::new(members);
                assert!(nodes.iter().all(|node| node.is_valid()));
                assert!(nodes.len() <= limits::DIGEST_NODES);
                let answer = |node: DigestNode| DigestAnswer { node, part: tree.answer(node) };
                let nodes: Vec<_> = nodes.into_iter().map(answer).collect();
                self.compared += nodes.iter().map(size_of_answer).sum::<usize>();
                let result = DigestResult { request, version, nodes };
                self.sent.push_back(ServerMessage::DigestResult(result));
            }
            ClientMessage::Acknowledge { through } => self.acknowledge(through),
        }
    }

    fn acknowledge(&mut self, through: WriteId) {
        self.acknowledged = self.acknowledged.max(through);
        self.outcomes = self.outcomes.split_off(&WriteId(through.0 + 1));
    }

    fn commit(&mut self, commit: &Commit, chance: &mut Chance) {
        self.acknowledge(commit.acknowledged_through);
        let write_id = commit.write_id;
        let answer = match self.take(commit, chance) {
            Ok((version, results)) => ServerMessage::Committed { write_id, version, results },
            Err(error) => {
                let status = Status { code: error.code, message: error.message };
                ServerMessage::Rejected { write_id, status }
            }
        };
        self.answers.push_back(answer);
    }

    fn take(
        &mut self,
        commit: &Commit,
        chance: &mut Chance,
    ) -> Result<(Version, Vec<WriteResult>), ModelError> {
        let id = commit.write_id;
        if let Some(outcome) = self.outcomes.get(&id) {
            return Ok(outcome.clone());
        }
        if id <= self.acknowledged {
            self.forgotten += 1;
            return Err(ModelError::new(Code::FailedPrecondition, "acknowledged".to_owned()));
        }
        let mine = commit.writes.iter().any(|write| write.path.as_str() == COUNTER);
        let waits = commit.follows.is_some_and(|follows| self.refused.contains(&follows));
        if waits || (!mine && chance.below(20) == 0) {
            self.refused.insert(id);
            return Err(ModelError::new(Code::Unavailable, "because".to_owned()));
        }
        self.refused.remove(&id);
        // The rules say the same every time; the load does not.
        if !mine && Chance(id.0).below(20) == 0 {
            return Err(ModelError::new(Code::PermissionDenied, "because".to_owned()));
        }
        let stamp = commit.edit_time.filter(|_| commit.reads.is_empty());
        let outcome = self.apply_stamped(&commit.writes, stamp, chance)?;
        self.outcomes.insert(id, outcome.clone());
        self.applied.push((commit.clone(), outcome.1.clone()));
        Ok(outcome)
    }

    fn attach(&mut self, listen: &Listen, chance: &mut Chance) {
        let id = listen.target_id;
        let (version, state) = self.state();
        self.targets.insert(id, listen.target.clone());
        let group = Server::group(id);
        self.sent.push_back(ServerMessage::Listening { target: id, group, version });
        if let Target::Aggregate(aggregate) = &listen.target {
            let values = computed(aggregate, &state);
            let aggregated = Aggregated { group, version, values, partial: true };
            self.sent.push_back(ServerMessage::Aggregated(aggregated));
            self.sent.push_back(ServerMessage::Current { version });
            return;
        }
        let old = listen.resume.is_some_and(|token| token.version < self.log_start);
        let forgotten = old || (!self.keeps_all && chance.below(5) == 0);
        if forgotten && listen.resume.is_some() && listen.reconciles {
            self.targets.remove(&id);
            // In place of the Listening that was sent before.
            self.sent.pop_back();
            let reason = "forgotten".to_owned();
            return self.sent.push_back(ServerMessage::Stale { target: id, reason });
        }
        let before = match listen.resume {
            Some(token) if !forgotten => {
                let then = self.history.iter().rev().find(|(at, _)| *at <= token.version);
                then.map(|(_, state)| result(&listen.target, state)).unwrap_or_default()
            }
            Some(_) => {
                self.sent
                    .push_back(ServerMessage::Reset { target: id, reason: "forgotten".to_owned() });
                Vec::new()
            }
            None => Vec::new(),
        };
        let changes = Server::difference(id, &before, &result(&listen.target, &state), &state);
        self.send(changes, version, true, chance);
        self.sent.push_back(ServerMessage::Current { version });
    }
}

pub(super) fn is_cut(target: &Target) -> bool {
    matches!(target, Target::Query(query) if query.projection.is_some())
}

pub(super) fn welcome() -> ServerMessage {
    welcome_at(0)
}

fn welcome_at(now: u64) -> ServerMessage {
    ServerMessage::Welcome(Welcome {
        protocol_version: 1,
        server_time: Timestamp::from_micros(now as i64).unwrap(),
        session: String::new(),
        incarnation: Incarnation(1),
        limits: SessionLimits { frame_bytes: 1 << 20, targets: 100, commits_in_flight: 3 },
        heartbeat: Duration::from_secs(15),
    })
}
