//! The outbox: what the app wrote and the server has not answered, in order; and what it has answered
//! but listeners have not seen yet. Driven by the engine; sends nothing itself.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tidemark_protocol::model::{
    DocumentPath, FieldTransform, Read, Transform, Version, Write, WriteId,
};

use super::connection::Backoff;
use super::{Moment, Ticket};
use crate::cache::{Metadata, OutboxEntry};

/// Writes that take effect together.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) id: WriteId,
    pub(crate) writes: Arc<[Write]>,
    pub(crate) reads: Vec<Read>,
    /// Whether it takes effect locally before the server's word.
    pub(crate) local: bool,
    /// The local time of the call: the estimate of its version.
    pub(crate) at: Version,
    /// Who waits; none for what a former run of the app wrote.
    pub(crate) ticket: Option<Ticket>,
    state: State,
    backoff: Backoff,
}

#[derive(Debug, PartialEq)]
enum State {
    /// To be sent.
    Queued,
    /// Sent on this connection.
    Sent,
    /// Refused for now; to be sent again at this time.
    Resting { until: Duration },
    /// Answered; its effect stays until listeners have it from the server.
    Committed { version: Version },
}

/// All batches.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    batches: BTreeMap<WriteId, Batch>,
    last_id: WriteId,
    /// Without an answer; what is below the first of them is acknowledged.
    open: BTreeSet<WriteId>,
    /// To be sent, in order.
    queued: BTreeSet<WriteId>,
    /// Sent on this connection, without an answer.
    in_flight: usize,
    /// Those with increments that were sent, now or on an earlier connection: what the server says may or
    /// may not contain them already. Cleared by their answers.
    uncertain: BTreeSet<WriteId>,
    /// Refused for now.
    resting: BTreeSet<WriteId>,
    /// Answered, with their effect still shown; by version.
    committed: BTreeSet<(Version, WriteId)>,
    /// Who waits for all writes up to an id.
    waiters: Vec<(WriteId, Ticket)>,
}

/// Other writes may be laid over what contains them: they make of it what it is.
fn has_increment(write: &Write) -> bool {
    let increments =
        |transform: &FieldTransform| matches!(transform.transform, Transform::Increment(_));
    write.transforms.iter().any(increments)
}

impl Outbox {
    /// What a former run of the app left.
    pub(crate) fn restore(metadata: Option<&Metadata>, entries: Vec<OutboxEntry>) -> Outbox {
        let mut outbox = Outbox {
            last_id: WriteId(
                metadata.map_or(0, |metadata| metadata.next_write_id.0.saturating_sub(1)),
            ),
            ..Outbox::default()
        };
        for entry in entries {
            outbox.last_id = outbox.last_id.max(entry.id);
            // It may have been sent just before that run ended.
            if entry.writes.iter().any(has_increment) {
                outbox.uncertain.insert(entry.id);
            }
            outbox.insert(entry.id, entry.writes, entry.reads, entry.at, true, None);
        }
        outbox
    }

    fn insert(
        &mut self,
        id: WriteId,
        writes: Arc<[Write]>,
        reads: Vec<Read>,
        at: Version,
        local: bool,
        ticket: Option<Ticket>,
    ) {
        let (state, backoff) = (State::Queued, Backoff::default());
        self.batches.insert(id, Batch { id, writes, reads, local, at, ticket, state, backoff });
        self.open.insert(id);
        self.queued.insert(id);
    }

    /// Adds a batch; gives its id.
    pub(crate) fn push(
        &mut self,
        writes: Arc<[Write]>,
        reads: Vec<Read>,
        at: Version,
        local: bool,
        ticket: Ticket,
    ) -> WriteId {
        self.last_id = self.next_id();
        self.insert(self.last_id, writes, reads, at, local, Some(ticket));
        self.last_id
    }

    pub(crate) fn next_id(&self) -> WriteId {
        WriteId(self.last_id.0 + 1)
    }

    /// The outcomes of all ids up to this one are known.
    pub(crate) fn acknowledged_through(&self) -> WriteId {
        self.open.first().map_or(self.last_id, |first| WriteId(first.0 - 1))
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Whether the server may have committed this write, which would count twice if it were laid over a
    /// document that contains it.
    pub(crate) fn may_count_twice(&self, id: WriteId, index: u32) -> bool {
        self.uncertain.contains(&id)
            && self.write(id, index).is_some_and(|(write, _)| has_increment(write))
    }

    /// Whether there is any such write.
    pub(crate) fn is_uncertain(&self) -> bool {
        !self.uncertain.is_empty()
    }

    /// Whether the server's word on one of these, or on an earlier one, is still to come.
    pub(crate) fn is_uncertain_through(&self, id: WriteId) -> bool {
        self.uncertain.first().is_some_and(|first| *first <= id)
    }

    pub(crate) fn batch(&self, id: WriteId) -> Option<&Batch> {
        self.batches.get(&id)
    }

    pub(crate) fn local_batches(&self) -> impl Iterator<Item = &Batch> {
        self.batches.values().filter(|batch| batch.local)
    }

    /// A write, and the estimate of its version.
    pub(crate) fn write(&self, id: WriteId, index: u32) -> Option<(&Write, Version)> {
        let batch = self.batches.get(&id)?;
        Some((batch.writes.get(usize::try_from(index).ok()?)?, batch.at))
    }

    /// Whether what the server says as of `version` contains the batch.
    pub(crate) fn is_contained(&self, id: WriteId, version: Version) -> bool {
        self.batches.get(&id).is_none_or(
            |batch| matches!(batch.state, State::Committed { version: at } if at <= version),
        )
    }

    /// The next batch to send, noted as sent. One that rests holds back later ones of the same
    /// documents, and no others.
    pub(crate) fn next_to_send(&mut self) -> Option<WriteId> {
        let id = if self.resting.is_empty() {
            self.queued.first().copied()
        } else {
            self.first_unblocked()
        }?;
        self.queued.remove(&id);
        self.in_flight += 1;
        let batch = self.batches.get_mut(&id).expect("what is queued is in the outbox");
        batch.state = State::Sent;
        if batch.writes.iter().any(has_increment) {
            self.uncertain.insert(id);
        }
        Some(id)
    }

    fn first_unblocked(&self) -> Option<WriteId> {
        let mut blocked: HashSet<&DocumentPath> = HashSet::new();
        for id in &self.open {
            let batch = self.batches.get(id).expect("what is open is in the outbox");
            let free = !batch.writes.iter().any(|write| blocked.contains(&write.path));
            if batch.state == State::Queued && free {
                return Some(*id);
            }
            if batch.state != State::Sent {
                blocked.extend(batch.writes.iter().map(|write| &write.path));
            }
        }
        None
    }

    fn settle(&mut self, id: WriteId) -> bool {
        let open = self.open.remove(&id);
        self.uncertain.remove(&id);
        self.queued.remove(&id);
        self.resting.remove(&id);
        if open && self.batches.get(&id).is_some_and(|batch| batch.state == State::Sent) {
            self.in_flight -= 1;
        }
        open
    }

    /// The server has committed the batch: gives who waits. None if that is known already.
    pub(crate) fn committed(&mut self, id: WriteId, version: Version) -> Option<Option<Ticket>> {
        if !self.settle(id) {
            return None;
        }
        let batch = self.batches.get_mut(&id).expect("what is open is in the outbox");
        batch.state = State::Committed { version };
        let ticket = batch.ticket.take();
        if batch.local {
            self.committed.insert((version, id));
        } else {
            self.batches.remove(&id);
        }
        Some(ticket)
    }

    /// The server has refused the batch for good: it leaves the outbox.
    pub(crate) fn rejected(&mut self, id: WriteId) -> Option<Batch> {
        if !self.settle(id) {
            return None;
        }
        self.batches.remove(&id)
    }

    /// The server has refused the batch for now.
    pub(crate) fn rest(&mut self, id: WriteId, now: Moment) {
        let Some(batch) = self.batches.get_mut(&id) else { return };
        if batch.state != State::Sent {
            return;
        }
        batch.state = State::Resting { until: now.elapsed + batch.backoff.next(now.random) };
        self.in_flight -= 1;
        // A refused commit had no effect.
        self.uncertain.remove(&id);
        self.resting.insert(id);
    }

    /// Queues again what has rested long enough.
    pub(crate) fn wake(&mut self, now: Duration) {
        let rested: Vec<WriteId> =
            self.resting.iter().copied().filter(|id| self.rest_until(*id) <= now).collect();
        for id in rested {
            self.requeue(id);
        }
    }

    fn rest_until(&self, id: WriteId) -> Duration {
        match self.batches.get(&id).map(|batch| &batch.state) {
            Some(State::Resting { until }) => *until,
            Some(State::Queued | State::Sent | State::Committed { .. }) | None => Duration::ZERO,
        }
    }

    fn requeue(&mut self, id: WriteId) {
        self.resting.remove(&id);
        self.queued.insert(id);
        if let Some(batch) = self.batches.get_mut(&id) {
            batch.state = State::Queued;
        }
    }

    pub(crate) fn deadline(&self) -> Option<Duration> {
        self.resting.iter().map(|id| self.rest_until(*id)).min()
    }

    /// The connection is gone: what was sent is to be sent again, in order.
    pub(crate) fn leave(&mut self) {
        for id in self.open.clone() {
            self.requeue(id);
        }
        self.in_flight = 0;
    }

    /// Takes out what was committed up to this version: listeners have it from the server now.
    pub(crate) fn release(&mut self, version: Version) -> Vec<Batch> {
        let mut released = Vec::new();
        while let Some(&(at, id)) = self.committed.first()
            && at <= version
        {
            self.committed.pop_first();
            released.extend(self.batches.remove(&id));
        }
        released
    }

    /// Versions of another life of the database are not comparable: whatever comes is newer.
    pub(crate) fn forget_versions(&mut self) {
        let known = std::mem::take(&mut self.committed);
        for (_, id) in known {
            self.committed.insert((Version::NONE, id));
            if let Some(batch) = self.batches.get_mut(&id) {
                batch.state = State::Committed { version: Version::NONE };
            }
        }
    }

    pub(crate) fn wait(&mut self, ticket: Ticket) {
        self.waiters.push((self.last_id, ticket));
    }

    /// Those whose wait is over.
    pub(crate) fn settled_waiters(&mut self) -> Vec<Ticket> {
        if self.waiters.is_empty() {
            return Vec::new();
        }
        let through = self.acknowledged_through();
        let over = |waiter: &mut (WriteId, Ticket)| waiter.0 <= through;
        self.waiters.extract_if(.., over).map(|(_, ticket)| ticket).collect()
    }
}
