//! What is known of every write that an app has made, from all sides: when the app made it, under
//! which id the server was asked for it, and what the server and the client said became of it. The
//! sessions and the clients report; the judge reads.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tidemark_protocol::model::{ClientId, Code, EditTime, Read, Version, Write, WriteId};
use tidemark_protocol::wire::client::Commit;
use tidemark_protocol::wire::codec;
use tidemark_protocol::wire::server::ServerMessage;

use crate::verdict::{Broken, Invariant};

/// A write of an app.
#[derive(Clone, Debug)]
pub struct Intent {
    /// Whose.
    pub client: usize,
    /// What it writes.
    pub writes: Vec<Write>,
    /// Of a transaction.
    pub reads: Vec<Read>,
    /// Whether listeners see it before the server has it.
    pub local: bool,
    /// Its id, once it is in the durable outbox: from then on it must not be lost.
    pub stored: Option<WriteId>,
    /// The event of the client that made it.
    pub made: u64,
    /// The life of the process that made it.
    pub life: u64,
    /// What the client told the app, and with which of its events.
    pub told: Option<(u64, Result<Version, Code>)>,
    /// Under which id the server was asked.
    pub id: Option<WriteId>,
    /// How the server was asked for it, each time: its clock then, and when it was said to be made.
    pub asked: Vec<(Version, Option<EditTime>)>,
    /// The server's word.
    pub committed: Option<Version>,
    /// Whether the server refused it for good.
    pub rejected: bool,
}

impl Intent {
    /// When it was made, as the server was told when it carried it out. Later copies only ask what
    /// became of it: they came when its version had passed.
    pub fn edit(&self) -> Option<EditTime> {
        let version = self.committed.unwrap_or_default();
        let before = self.asked.iter().rev().find(|(at, _)| *at <= version);
        before.or(self.asked.first()).and_then(|(_, edit)| *edit)
    }

    /// Whether the server has decided about it.
    pub fn is_answered(&self) -> bool {
        self.committed.is_some() || self.rejected
    }
}

/// All writes of a run.
#[derive(Default)]
pub struct Record {
    /// In the order they were made.
    pub intents: Vec<Intent>,
    clients: BTreeMap<ClientId, usize>,
    ids: BTreeMap<(usize, WriteId), usize>,
    /// The first thing that was wrong.
    pub broken: Option<Broken>,
}

/// Shared by the sessions and the world.
#[derive(Default)]
pub struct Tap {
    record: Mutex<Record>,
}

impl Tap {
    /// The record.
    pub fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The server is asked for a commit.
    pub fn asked(&self, client: ClientId, commit: &Commit, now: Version) {
        self.record().asked(client, commit, now);
    }

    /// The server says something to a client.
    pub fn answered(&self, client: ClientId, frame: &Bytes) {
        // Outcomes are small; what is large is no outcome.
        if frame.len() > 4_096 {
            return;
        }
        match codec::decode_server(frame) {
            Ok(ServerMessage::Committed { write_id, version, .. }) => {
                self.record().committed(client, write_id, version);
            }
            Ok(ServerMessage::Rejected { write_id, status }) if !status.code.is_retryable() => {
                self.record().rejected(client, write_id);
            }
            _ => {}
        }
    }
}

impl Record {
    /// Which client this is.
    pub fn name(&mut self, id: ClientId, client: usize) {
        self.clients.insert(id, client);
    }

    /// Notes what is wrong, unless something else was before.
    pub fn breaks(&mut self, invariant: Invariant, why: String) {
        self.broken.get_or_insert(Broken { invariant, why });
    }

    fn asked(&mut self, client: ClientId, commit: &Commit, now: Version) {
        let Some(client) = self.clients.get(&client).copied() else { return };
        let key = (client, commit.write_id);
        if let Some(intent) = self.ids.get(&key).map(|at| &mut self.intents[*at]) {
            intent.asked.push((now, commit.edit_time));
            if intent.writes != commit.writes {
                let why = format!("client {client} used write id {} twice", commit.write_id);
                self.breaks(Invariant::AppliedOnce, why);
            }
            return;
        }
        let fits = |intent: &Intent| {
            intent.client == client
                && intent.id.is_none()
                && intent.writes == commit.writes
                && intent.reads == commit.reads
        };
        // Those that are in the outbox have their ids; what is not there must not be sent, but for
        // transactions.
        let stored = |it: &Intent| fits(it) && it.stored == Some(commit.write_id);
        let other = |it: &Intent| fits(it) && it.stored.is_none();
        let intents = &self.intents;
        let made = intents.iter().position(stored).or_else(|| intents.iter().rposition(other));
        let Some(at) = made else {
            let why = format!("client {client} sent write {} that no app made", commit.write_id);
            return self.breaks(Invariant::AppliedOnce, why);
        };
        self.ids.insert(key, at);
        let intent = &mut self.intents[at];
        intent.id = Some(commit.write_id);
        intent.asked.push((now, commit.edit_time));
        let early = intent.local && intent.stored != intent.id;
        if early {
            let why = format!(
                "write {at} was sent as {} and stored as {:?}",
                commit.write_id, intent.stored
            );
            self.breaks(Invariant::NothingLost, why);
        }
    }

    /// A write is in the durable outbox.
    pub fn stored(&mut self, at: usize, id: WriteId) {
        self.intents[at].stored = Some(id);
    }

    fn intent(&mut self, client: ClientId, id: WriteId) -> Option<(usize, &mut Intent)> {
        let client = self.clients.get(&client).copied()?;
        let at = self.ids.get(&(client, id)).copied()?;
        Some((at, &mut self.intents[at]))
    }

    fn committed(&mut self, client: ClientId, id: WriteId, version: Version) {
        let Some((at, intent)) = self.intent(client, id) else { return };
        let before = intent.committed.replace(version);
        let rejected = matches!(intent.told, Some((_, Err(_))));
        if before.is_some_and(|before| before != version) {
            let why = format!("write {at} was committed at {before:?} and at {version}");
            self.breaks(Invariant::AppliedOnce, why);
        } else if rejected {
            let why = format!("write {at} was committed at {version} after its app was told no");
            self.breaks(Invariant::RejectedLeavesNoTrace, why);
        }
    }

    fn rejected(&mut self, client: ClientId, id: WriteId) {
        let Some((at, intent)) = self.intent(client, id) else { return };
        intent.rejected = true;
        if let Some(version) = intent.committed {
            let why = format!("write {at} was refused after it was committed at {version}");
            self.breaks(Invariant::AppliedOnce, why);
        }
    }

    /// A client tells its app what became of a write.
    pub fn told(&mut self, at: usize, event: u64, outcome: Result<Version, Code>) {
        let intent = &mut self.intents[at];
        intent.told = Some((event, outcome));
        if intent.local
            && let (Err(code), Some(version)) = (outcome, intent.committed)
        {
            let why = format!("the app was told {code:?} of write {at}, committed at {version}");
            return self.breaks(Invariant::RejectedLeavesNoTrace, why);
        }
        if let Ok(version) = outcome
            && intent.committed != Some(version)
        {
            let why = format!(
                "the app was told that write {at} was committed at {version}; the server said {:?}",
                intent.committed
            );
            self.breaks(Invariant::NothingLost, why);
        }
    }
}
