//! A model of the server, for the properties: it keeps every state that ever was, and answers as slowly
//! and in as many pieces as chance wants.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tidemark_protocol::model::*;
use tidemark_protocol::wire::client::{ClientMessage, Commit, Listen};
use tidemark_protocol::wire::codec::encode_document;
use tidemark_protocol::wire::server::{
    AggregateResult, Aggregated, Changes, QueryResult, Removal, ServerMessage, SessionLimits,
    Status, Welcome,
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
    committed: BTreeMap<WriteId, Version>,
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

    pub(super) fn apply(
        &mut self,
        writes: &[Write],
        chance: &mut Chance,
    ) -> Result<Version, ModelError> {
        let (last, before) = self.state();
        let version = Version(last.0 + 1);
        let mut after = before.clone();
        for write in writes {
            check_precondition(after.get(&write.path), write)?;
            match apply_write(after.get(&write.path), None, write, version.into())?.document {
                Some(document) => after.insert(write.path.clone(), document),
                None => after.remove(&write.path),
            };
        }
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
        Ok(version)
    }

    pub(super) fn receive(&mut self, message: ClientMessage, chance: &mut Chance) {
        match message {
            ClientMessage::Hello(_) => self.sent.push_back(welcome()),
            ClientMessage::Listen(listen) => self.attach(&listen, chance),
            ClientMessage::Unlisten { target } => {
                self.targets.remove(&target);
            }
            ClientMessage::Commit(commit) => self.commit(&commit, chance),
            ClientMessage::Get { request, paths } => {
                let (version, state) = self.state();
                let found = paths.iter().filter_map(|path| state.get(path));
                let documents = found.map(encode_document).collect();
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
            ClientMessage::Acknowledge { .. } | ClientMessage::Digest { .. } => {}
        }
    }

    fn commit(&mut self, commit: &Commit, chance: &mut Chance) {
        let write_id = commit.write_id;
        if let Some(version) = self.committed.get(&write_id) {
            let results = Vec::new();
            self.answers.push_back(ServerMessage::Committed {
                write_id,
                version: *version,
                results,
            });
            return;
        }
        let mine = commit.writes.iter().any(|write| write.path.as_str() == COUNTER);
        let refused = if mine {
            None
        } else {
            [Code::PermissionDenied, Code::Unavailable].get(chance.below(20) as usize).copied()
        };
        let refusal = |code| {
            let status = Status { code, message: "because".to_owned() };
            ServerMessage::Rejected { write_id, status }
        };
        if let Some(code) = refused {
            return self.answers.push_back(refusal(code));
        }
        match self.apply(&commit.writes, chance) {
            Ok(version) => {
                self.committed.insert(write_id, version);
                let results = vec![WriteResult::default(); commit.writes.len()];
                let answer = ServerMessage::Committed { write_id, version, results };
                self.answers.push_back(answer);
            }
            Err(error) => self.answers.push_back(refusal(error.code)),
        }
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
        let forgotten = chance.below(5) == 0;
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
    ServerMessage::Welcome(Welcome {
        protocol_version: 1,
        server_time: Timestamp::default(),
        session: String::new(),
        incarnation: Incarnation(1),
        limits: SessionLimits { frame_bytes: 1 << 20, targets: 100, commits_in_flight: 3 },
        heartbeat: Duration::from_secs(15),
    })
}
