//! The engine's flow of writes: from the app into the overlay and the outbox, and the server's word on
//! them back to the app. What concerns the outbox is collected in a [`Journal`] and stored in one step
//! after the views have been told. Part of [`Engine`](super::Engine).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tidemark_protocol::model::{
    Code, EditTime, Precondition, Read, Timestamp, Version, Write, WriteId, WriteOp,
    validate_commit,
};
use tidemark_protocol::wire::client::{ClientMessage, Commit};

use super::writes::{Batch, NewBatch};
use super::{Action, Engine, Ticket, requests};
use crate::cache::{CacheBatch, CacheError, Durability, Making, RejectedEntry};
use crate::error::Error;
use crate::pending::{Committed, OutboxWrite, RejectedWrite, WriteEvent, WriteStage};

/// How long after the last answer the server is told that outcomes need not be kept any more.
const ACKNOWLEDGE_DELAY: Duration = Duration::from_secs(1);
/// How many rejected writes are kept for the app to decide on; the oldest go first.
const REJECTED_MAX: usize = 1_000;

/// What is to be stored of the outbox.
#[derive(Default)]
pub(crate) struct Journal {
    /// New writes: not sent, and not said to be kept, before they are stored.
    unstored: Vec<WriteId>,
    /// Of the new writes, those that repeat a rejected one.
    retried: BTreeMap<WriteId, RejectedEntry>,
    batch: CacheBatch,
    /// Whether the metadata has changed.
    touched: bool,
    /// Whether it has to be on stable storage although there are no new writes.
    durable: bool,
    /// Whether an attempt has failed: the next one is with whatever comes next.
    postponed: bool,
}

impl Journal {
    pub(super) fn is_empty(&self) -> bool {
        self.unstored.is_empty() && self.batch.is_empty() && !self.touched && !self.durable
    }
}

impl Engine {
    pub(super) fn write(
        &mut self,
        ticket: Ticket,
        writes: Vec<Write>,
        reads: Vec<Read>,
        local: bool,
    ) {
        if self.closing.is_some() {
            let outcome = Err(Error::closed());
            return self.actions.push(Action::WriteDone { ticket, outcome });
        }
        self.accept(ticket, &writes.into(), reads, local);
    }

    fn accept(
        &mut self,
        ticket: Ticket,
        writes: &Arc<[Write]>,
        reads: Vec<Read>,
        local: bool,
    ) -> WriteId {
        let at = Version(u64::try_from(self.now.wall.as_micros()).unwrap_or_default());
        let edit = self.clock.next(self.now);
        let making = match self.connection.online() {
            Some(_) => Making::Online,
            None if self.clock.is_aligned() => Making::Offline,
            None => Making::Unaligned,
        };
        let new = NewBatch { writes: writes.clone(), reads, at, edit, making, local, ticket };
        let id = self.outbox.push(new, self.now);
        self.journal.unstored.push(id);
        if local {
            // What is changed may be known from before, and shows with the change.
            self.load_bases(writes.iter().map(|write| &write.path));
            self.compute_views(writes);
            self.documents.push(id, writes);
            self.refresh(BTreeSet::new());
        }
        id
    }

    /// Makes a rejected write again, as a new one.
    pub(super) fn retry(&mut self, ticket: Ticket, id: WriteId) {
        let refusal = match self.rejected_writes.get(&id) {
            _ if self.closing.is_some() => Error::closed(),
            None => no_such_write(id),
            Some(entry) => match validate_commit(&entry.writes) {
                Ok(()) => {
                    let entry = self.forget_rejected(id).expect("it has just been found");
                    let new = self.accept(ticket, &entry.writes, Vec::new(), true);
                    self.journal.retried.insert(new, entry);
                    return;
                }
                Err(error) => error.into(),
            },
        };
        self.actions.push(Action::WriteDone { ticket, outcome: Err(refusal) });
    }

    /// Forgets a rejected write.
    pub(super) fn discard(&mut self, ticket: Ticket, id: WriteId) {
        let outcome = match self.forget_rejected(id) {
            Some(_) => {
                self.journal.durable = true;
                Ok(())
            }
            None => Err(no_such_write(id)),
        };
        self.actions.push(Action::Discarded { ticket, outcome });
    }

    fn forget_rejected(&mut self, id: WriteId) -> Option<RejectedEntry> {
        let entry = self.rejected_writes.remove(&id)?;
        self.journal.batch.rejected_put.retain(|other| other.id != id);
        self.journal.batch.rejected_remove.push(id);
        Some(entry)
    }

    /// Says what waits for the server, and what it has refused.
    pub(super) fn list_writes(&mut self, ticket: Ticket) {
        let pending = self.outbox.open_batches();
        let pending = pending.map(|batch| OutboxWrite {
            id: batch.id,
            writes: batch.writes.clone(),
            edit_time: batch.edit,
            waiting: batch.is_waiting(),
        });
        let rejected = self.rejected_writes.values().map(RejectedWrite::from);
        let (pending, rejected) = (pending.collect(), rejected.collect());
        self.actions.push(Action::WritesListed { ticket, pending, rejected });
    }

    /// The server has committed a write.
    pub(super) fn committed(&mut self, id: WriteId, committed: Committed) {
        let version = committed.version;
        self.clock.observe(version);
        let asked = self.requests.last_number();
        let taken = self.outbox.committed(id, version, self.connected_at, asked);
        let Some(taken) = taken else { return };
        self.journal.batch.outbox_put.extend(taken.moved);
        self.journal.batch.outbox_remove.push(id);
        self.let_go();
        self.documents.reconsider(&taken.writes, version);
        self.settle_committed();
        self.release();
        self.refresh(BTreeSet::new());
        self.apply_points();
        if taken.local {
            let (writes, stage) = (taken.writes, WriteStage::Committed(committed.clone()));
            self.actions.push(Action::Write(WriteEvent { id, writes, stage }));
        }
        if let Some(ticket) = taken.ticket {
            self.actions.push(Action::WriteDone { ticket, outcome: Ok(committed) });
        }
    }

    /// The server has refused a write, for now or for good.
    pub(super) fn rejected(&mut self, id: WriteId, error: Error) {
        let Some(batch) = self.outbox.batch(id) else { return };
        if batch.is_open() && is_answered(batch, &error) {
            let committed = Committed { version: Version::NONE, results: Vec::new() };
            return self.committed(id, committed);
        }
        // A transaction is repeated from its reads, by whoever started it.
        let repeat = error.code().is_retryable() && (batch.local || error.code() != Code::Aborted);
        if repeat {
            self.outbox.rest(id, self.now);
        } else {
            self.reject(id, error);
        }
        self.apply_points();
    }

    /// With the last pending write, what the cache had to keep for them may go.
    fn let_go(&mut self) {
        if self.outbox.acknowledged_through().0 + 1 == self.outbox.next_id().0 {
            self.uncollected = 0;
        }
    }

    /// Rolls a write back for good; its contents wait for the app to decide.
    pub(super) fn reject(&mut self, id: WriteId, error: Error) {
        let Some((batch, moved)) = self.outbox.rejected(id) else { return };
        self.journal.batch.outbox_put.extend(moved);
        self.journal.batch.outbox_remove.push(id);
        self.let_go();
        if batch.local {
            self.keep_rejected(&batch, &error);
            self.documents.pop(id, &batch.writes);
            self.refresh(BTreeSet::new());
            let (writes, stage) = (batch.writes, WriteStage::Rejected(error.clone()));
            self.actions.push(Action::Write(WriteEvent { id, writes, stage }));
        }
        if let Some(ticket) = batch.ticket {
            self.actions.push(Action::WriteDone { ticket, outcome: Err(error) });
        }
    }

    fn keep_rejected(&mut self, batch: &Batch, error: &Error) {
        let entry = RejectedEntry {
            id: batch.id,
            writes: batch.writes.clone(),
            code: error.code(),
            message: error.message().to_owned(),
            at: batch.at,
        };
        self.journal.batch.rejected_put.push(entry.clone());
        self.journal.durable = true;
        self.rejected_writes.insert(batch.id, entry);
        while self.rejected_writes.len() > REJECTED_MAX
            && let Some((oldest, _)) = self.rejected_writes.first_key_value()
        {
            let oldest = *oldest;
            tracing::warn!(%oldest, "a rejected write is forgotten: nobody has decided on it");
            self.forget_rejected(oldest);
        }
    }

    /// Takes off the writes that all listeners have from the server, and the answers under way will have.
    pub(super) fn release(&mut self) {
        let oldest = match self.held_answers.is_empty() {
            true => self.requests.oldest(),
            false => Some(0),
        };
        let (released, held) = self.outbox.release(self.targets.settled_through(), oldest);
        self.held_for_answers = held;
        for batch in released {
            self.documents.pop(batch.id, &batch.writes);
        }
    }

    /// Answers may have come that writes were kept for.
    pub(super) fn pump_release(&mut self) {
        if self.held_for_answers {
            self.release();
            self.refresh(BTreeSet::new());
        }
    }

    /// What is shown of these batches may have changed: the times of their edits have.
    pub(super) fn revise(&mut self, batches: &[WriteId]) {
        let mut any = false;
        for batch in batches.iter().filter_map(|id| self.outbox.batch(*id)) {
            if batch.local {
                self.documents.revise(&batch.writes);
                any = true;
            }
        }
        if any {
            self.refresh(BTreeSet::new());
        }
    }

    /// The server has said what time it is.
    pub(super) fn align_clock(&mut self, server_time: Timestamp) {
        self.connected_at = Version(u64::try_from(server_time.as_micros()).unwrap_or_default());
        let known = self.clock.settled();
        let shift = self.clock.align(server_time, self.now);
        let moved = self.outbox.align(shift, known, EditTime(self.connected_at.0));
        let ids: Vec<WriteId> = moved.iter().map(|entry| entry.id).collect();
        self.journal.touched = true;
        if !moved.is_empty() {
            // Sent again after a crash, they carry the times that they are sent with now.
            self.journal.batch.outbox_put.extend(moved);
            self.journal.durable = true;
            self.store_journal();
        }
        self.revise(&ids);
    }

    /// Whether [`settle`](Self::settle) has something to store that it has not failed to store.
    pub fn is_unsettled(&self) -> bool {
        let journal = &self.journal;
        let waits = !journal.is_empty() && (!journal.postponed || !journal.unstored.is_empty());
        waits || !self.deferred.is_empty()
    }

    /// Stores the journal: writes that are new may be sent from then on.
    pub(super) fn store_journal(&mut self) {
        if self.journal.is_empty() {
            return;
        }
        self.flush();
        let journal = std::mem::take(&mut self.journal);
        let Journal { unstored, mut retried, mut batch, durable, .. } = journal;
        let entries = unstored.iter().filter_map(|id| self.outbox.entry(*id));
        batch.outbox_put.extend(entries);
        batch.metadata = Some(self.metadata());
        let acknowledged = self.outbox.acknowledged_through();
        let durability = match durable || !unstored.is_empty() {
            true => Durability::Durable,
            false => Durability::Soon,
        };
        match self.cache.apply(batch.clone(), durability) {
            Ok(()) => {
                if durability == Durability::Durable {
                    self.acknowledged = acknowledged;
                }
                unstored.into_iter().for_each(|id| self.stored(id));
            }
            Err(error) => {
                tracing::warn!(%error, "the cache did not store writes");
                for id in &unstored {
                    self.fail(*id, &error, retried.remove(id));
                }
                self.keep_for_later(batch, &unstored, durable);
            }
        }
    }

    fn stored(&mut self, id: WriteId) {
        let Some(batch) = self.outbox.batch(id) else { return };
        let (ticket, local, writes) = (batch.ticket, batch.local, batch.writes.clone());
        self.outbox.stored(id);
        if local {
            let event = WriteEvent { id, writes, stage: WriteStage::Local };
            self.actions.push(Action::Write(event));
            if let Some(ticket) = ticket {
                self.actions.push(Action::WriteStored { ticket, id });
            }
        }
    }

    /// A write that would not survive a restart is not accepted.
    fn fail(&mut self, id: WriteId, error: &CacheError, retried: Option<RejectedEntry>) {
        let Some((batch, _)) = self.outbox.rejected(id) else { return };
        if batch.local {
            self.documents.pop(id, &batch.writes);
            self.refresh(BTreeSet::new());
        }
        if let Some(entry) = retried {
            self.rejected_writes.insert(entry.id, entry);
        }
        if let Some(ticket) = batch.ticket {
            let outcome = Err(error.clone().into());
            self.actions.push(Action::WriteDone { ticket, outcome });
        }
    }

    /// What was not stored, new writes aside, goes with the next attempt.
    fn keep_for_later(&mut self, mut batch: CacheBatch, unstored: &[WriteId], durable: bool) {
        batch.metadata = None;
        batch.outbox_put.retain(|entry| !unstored.contains(&entry.id));
        let kept = &self.rejected_writes;
        batch.rejected_remove.retain(|id| !kept.contains_key(id));
        self.journal.batch = batch;
        self.journal.durable = durable;
        self.journal.postponed = true;
    }

    /// Sends what may be sent now, in order.
    pub(super) fn pump_commits(&mut self) {
        let Some(online) = self.connection.online() else { return };
        let limits = online.limits;
        let window = usize::try_from(limits.commits_in_flight.max(1)).unwrap_or(usize::MAX);
        while self.outbox.in_flight() < window {
            let Some((id, follows)) = self.outbox.next_to_send() else { break };
            let batch = self.outbox.batch(id).expect("what is to be sent is in the outbox");
            let commit = Commit {
                write_id: id,
                writes: batch.writes.to_vec(),
                reads: batch.reads.clone(),
                acknowledged_through: self.acknowledged,
                edit_time: batch.stamp(),
                follows,
            };
            let message = ClientMessage::Commit(commit);
            match requests::check_size(&message, limits.frame_bytes) {
                Ok(()) => {
                    self.connection.told(self.acknowledged);
                    self.send(message);
                }
                Err(error) => self.reject(id, error),
            }
        }
    }

    /// The next commit carries the acknowledgement; only when none comes it goes by itself.
    pub(super) fn pump_acknowledge(&mut self) {
        let through = self.outbox.acknowledged_through();
        let idle = self.outbox.in_flight() == 0;
        let now = self.now.elapsed;
        let due = self.connection.acknowledge(through, idle, now, now + ACKNOWLEDGE_DELAY);
        if due {
            self.acknowledge(through);
        }
    }

    /// Says nothing that a restart could forget.
    fn acknowledge(&mut self, through: WriteId) {
        if self.acknowledged < through {
            self.journal.durable = true;
            self.store_journal();
        }
        // If that failed, the next answer is an occasion to try again.
        self.connection.told(through);
        if self.acknowledged >= through {
            self.send(ClientMessage::Acknowledge { through });
        }
    }
}

fn no_such_write(id: WriteId) -> Error {
    Error::new(Code::NotFound, format!("no rejected write {id} waits for a decision"))
}

/// Whether the server refuses only because this client has acknowledged the answer already, in a run
/// that its cache does not remember. Then it was answered, not rejected: repeated writes with nothing
/// that could fail so are refused for no other reason.
fn is_answered(batch: &Batch, error: &Error) -> bool {
    let may_fail = |write: &Write| {
        matches!(write.precondition, Some(Precondition::UpdateVersion(_)))
            || matches!(write.op, WriteOp::Merge(_))
    };
    error.code() == Code::FailedPrecondition
        && batch.is_repeated()
        && batch.reads.is_empty()
        && !batch.writes.iter().any(may_fail)
}
