//! The outbox: what the app wrote and the server has not answered; and what it has answered but
//! listeners have not seen yet. Ordered per document, independent across documents: `order` says which
//! write may be sent next. Driven by the engine; sends and stores nothing itself.

mod order;
pub(crate) mod timing;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tidemark_protocol::model::{
    DocumentPath, EditTime, FieldTransform, Read, Transform, Version, Write, WriteId,
};

use super::connection::Backoff;
use super::{Moment, Ticket};
use crate::cache::{Making, Metadata, OutboxEntry};
use order::Order;

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
    /// When it was made, by the edit clock; not before the edits of its documents that precede it.
    pub(crate) edit: EditTime,
    /// What the cache has of that.
    stored_edit: EditTime,
    making: Making,
    /// Whether it goes to the server with its edit time, having waited. Set when it turns out to have
    /// waited; never cleared.
    stamped: bool,
    /// Whether the server may have it without its edit time: then its time is that of its arrival. Set
    /// when it is sent so; cleared when it is refused for now.
    bare: bool,
    /// Whether it may have been sent on an earlier connection.
    repeated: bool,
    /// The last request that was sent before its answer came: the answer to that may not contain it.
    asked: u32,
    /// Who waits; none for what a former run of the app wrote.
    pub(crate) ticket: Option<Ticket>,
    state: State,
    backoff: Backoff,
}

/// What a new batch is made of.
#[derive(Debug)]
pub(crate) struct NewBatch {
    pub(crate) writes: Arc<[Write]>,
    pub(crate) reads: Vec<Read>,
    pub(crate) at: Version,
    pub(crate) edit: EditTime,
    pub(crate) making: Making,
    pub(crate) local: bool,
    pub(crate) ticket: Ticket,
}

#[derive(Debug, PartialEq)]
enum State {
    /// Not stored yet: not to be sent.
    Unstored,
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
    /// Those without an answer by document, and which of them may be sent.
    order: Order,
    /// Sent on this connection, without an answer.
    in_flight: usize,
    /// Those with increments that were sent, now or on an earlier connection: what the server says may or
    /// may not contain them already. Cleared by their answers.
    uncertain: BTreeSet<WriteId>,
    /// Refused for now.
    resting: BTreeSet<WriteId>,
    /// Answered, with their effect still shown; by version.
    committed: BTreeSet<(Version, WriteId)>,
    /// Made while there was a connection, and when: they go without their edit time as long as they are
    /// fresh. In order.
    fresh: VecDeque<(Duration, WriteId)>,
    /// Who waits for all writes up to an id.
    waiters: Vec<(WriteId, Ticket)>,
}

/// The server's word on a batch has been taken in.
pub(crate) struct Taken {
    pub(crate) ticket: Option<Ticket>,
    pub(crate) writes: Arc<[Write]>,
    pub(crate) local: bool,
    /// Later batches whose edit time was moved behind it: to be stored again.
    pub(crate) moved: Vec<OutboxEntry>,
}

/// Other writes may be laid over what contains them: they make of it what it is.
fn has_increment(write: &Write) -> bool {
    let increments =
        |transform: &FieldTransform| matches!(transform.transform, Transform::Increment(_));
    write.transforms.iter().any(increments)
}

impl Batch {
    fn entry(&self) -> OutboxEntry {
        OutboxEntry {
            id: self.id,
            writes: self.writes.clone(),
            reads: self.reads.clone(),
            at: self.at,
            edit: self.edit,
            making: self.making,
        }
    }

    /// The edit time to send with it; none means now.
    pub(crate) fn stamp(&self) -> Option<EditTime> {
        // What a transaction has read holds at its commit.
        (self.stamped && self.reads.is_empty()).then_some(self.edit)
    }

    /// Whether the server may know it from an earlier connection.
    pub(crate) fn is_repeated(&self) -> bool {
        self.repeated
    }

    /// Whether the server has not answered it.
    pub(crate) fn is_open(&self) -> bool {
        !matches!(self.state, State::Committed { .. })
    }

    /// Whether the app has been told that it is kept, and the server has not been asked yet.
    pub(crate) fn is_waiting(&self) -> bool {
        match self.state {
            State::Queued | State::Resting { .. } => true,
            State::Unstored | State::Sent | State::Committed { .. } => false,
        }
    }
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
        let acknowledged = metadata.map_or(WriteId(0), |metadata| metadata.acknowledged_through);
        for entry in entries.into_iter().filter(|entry| entry.id > acknowledged) {
            outbox.last_id = outbox.last_id.max(entry.id);
            // It may have been sent just before that run ended.
            if entry.writes.iter().any(has_increment) {
                outbox.uncertain.insert(entry.id);
            }
            let batch = Batch {
                id: entry.id,
                writes: entry.writes,
                reads: entry.reads,
                local: true,
                at: entry.at,
                edit: entry.edit,
                stored_edit: entry.edit,
                making: entry.making,
                stamped: true,
                bare: entry.making == Making::Online,
                repeated: true,
                asked: 0,
                ticket: None,
                state: State::Queued,
                backoff: Backoff::default(),
            };
            outbox.insert(batch);
        }
        outbox
    }

    fn insert(&mut self, batch: Batch) {
        let id = batch.id;
        self.order.add(id, &batch.writes);
        self.open.insert(id);
        self.batches.insert(id, batch);
        self.review(id);
    }

    /// Adds a batch, which is not to be sent before it is [`stored`](Self::stored); gives its id.
    pub(crate) fn push(&mut self, new: NewBatch, now: Moment) -> WriteId {
        let id = self.next_id();
        self.last_id = id;
        let fresh = new.making == Making::Online;
        if fresh {
            self.fresh.push_back((now.elapsed, id));
        }
        self.insert(Batch {
            id,
            writes: new.writes,
            reads: new.reads,
            local: new.local,
            at: new.at,
            edit: new.edit,
            stored_edit: new.edit,
            making: new.making,
            stamped: !fresh,
            bare: false,
            repeated: false,
            asked: 0,
            ticket: Some(new.ticket),
            state: State::Unstored,
            backoff: Backoff::default(),
        });
        id
    }

    /// What is to be stored of the batch; nothing of a transaction, which ends with its run.
    pub(crate) fn entry(&self, id: WriteId) -> Option<OutboxEntry> {
        self.batches.get(&id).filter(|batch| batch.local).map(Batch::entry)
    }

    /// The batch will survive a restart: it may be sent.
    pub(crate) fn stored(&mut self, id: WriteId) {
        if let Some(batch) = self.batches.get_mut(&id)
            && batch.state == State::Unstored
        {
            batch.state = State::Queued;
            batch.stored_edit = batch.edit;
            self.review(id);
        }
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
            && self.write(id, index).is_some_and(|(write, ..)| has_increment(write))
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

    /// The batches without an answer that have taken effect locally, in order.
    pub(crate) fn open_batches(&self) -> impl Iterator<Item = &Batch> {
        let open = self.open.iter().filter_map(|id| self.batches.get(id));
        open.filter(|batch| batch.local)
    }

    /// A write, the estimate of its version, and the time of its edit.
    pub(crate) fn write(&self, id: WriteId, index: u32) -> Option<(&Write, Version, EditTime)> {
        let batch = self.batches.get(&id)?;
        let write = batch.writes.get(usize::try_from(index).ok()?)?;
        Some((write, batch.at, batch.believed()))
    }

    /// When the server committed the batch, if it has said so.
    pub(crate) fn committed_at(&self, id: WriteId) -> Option<Version> {
        match self.batches.get(&id).map(|batch| &batch.state) {
            Some(State::Committed { version }) => Some(*version),
            Some(_) | None => None,
        }
    }

    /// The documents of the batches that were committed up to this version, and are still laid.
    pub(crate) fn committed_paths(&self, version: Version) -> Vec<DocumentPath> {
        let committed = self.committed.range(..=(version, WriteId(u64::MAX)));
        let batches = committed.filter_map(|(_, id)| self.batches.get(id));
        batches.flat_map(|batch| batch.writes.iter().map(|write| write.path.clone())).collect()
    }

    /// Whether what the server says as of `version` contains the batch.
    pub(crate) fn is_contained(&self, id: WriteId, version: Version) -> bool {
        self.batches.get(&id).is_none_or(
            |batch| matches!(batch.state, State::Committed { version: at } if at <= version),
        )
    }

    /// The next batch to send, noted as sent; and the last one without an answer that it follows on one
    /// of its documents. One that rests holds back later ones of the same documents, and no others.
    pub(crate) fn next_to_send(&mut self) -> Option<(WriteId, Option<WriteId>)> {
        let id = self.order.first_ready()?;
        let follows = self.follow_sent(id);
        let batch = self.batches.get_mut(&id).expect("what may be sent is in the outbox");
        batch.state = State::Sent;
        batch.bare |= !batch.stamped;
        self.in_flight += 1;
        if batch.writes.iter().any(has_increment) {
            self.uncertain.insert(id);
        }
        self.review(id);
        Some((id, follows))
    }

    /// Takes a batch out of those without an answer. Whether it was one.
    fn settle(&mut self, id: WriteId) -> bool {
        let open = self.open.remove(&id);
        self.uncertain.remove(&id);
        self.resting.remove(&id);
        if open && let Some(batch) = self.batches.get(&id) {
            if batch.state == State::Sent {
                self.in_flight -= 1;
            }
            self.order.remove(id, &batch.writes);
        }
        open
    }

    /// The server has committed the batch. None if that is known already. `connected` is the server's
    /// time when this connection began, `asked` the last request that was sent.
    pub(crate) fn committed(
        &mut self,
        id: WriteId,
        version: Version,
        connected: Version,
        asked: u32,
    ) -> Option<Taken> {
        if !self.settle(id) {
            return None;
        }
        let batch = self.batches.get_mut(&id).expect("what is open is in the outbox");
        // Sent without its time before this connection began, and with it since: which of them the
        // server took, the version tells.
        let before = version.0 <= connected.0.saturating_add(timing::VERSIONS_AHEAD);
        batch.bare &= !batch.stamped || before;
        batch.state = State::Committed { version };
        batch.asked = asked;
        let effective = batch.effective(version);
        let (ticket, writes, local) = (batch.ticket.take(), batch.writes.clone(), batch.local);
        if local {
            self.committed.insert((version, id));
        } else {
            self.batches.remove(&id);
        }
        let moved = self.follow(&writes, id, effective);
        Some(Taken { ticket, writes, local, moved })
    }

    /// The server has refused the batch for good, or it could not be stored: it leaves the outbox.
    pub(crate) fn rejected(&mut self, id: WriteId) -> Option<(Batch, Vec<OutboxEntry>)> {
        if !self.settle(id) {
            return None;
        }
        let batch = self.batches.remove(&id)?;
        let moved = self.follow(&batch.writes, id, batch.edit);
        Some((batch, moved))
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
        batch.bare = false;
        self.resting.insert(id);
        self.review(id);
    }

    /// Queues again what has rested long enough.
    pub(crate) fn wake(&mut self, now: Duration) {
        let rested: Vec<WriteId> =
            self.resting.iter().copied().filter(|id| self.rest_until(*id) <= now).collect();
        for id in rested {
            self.resting.remove(&id);
            if let Some(batch) = self.batches.get_mut(&id) {
                batch.state = State::Queued;
            }
            self.review(id);
        }
    }

    fn rest_until(&self, id: WriteId) -> Duration {
        match self.batches.get(&id).map(|batch| &batch.state) {
            Some(State::Resting { until }) => *until,
            Some(State::Unstored | State::Queued | State::Sent | State::Committed { .. })
            | None => Duration::ZERO,
        }
    }

    pub(crate) fn deadline(&self) -> Option<Duration> {
        self.resting.iter().map(|id| self.rest_until(*id)).min()
    }

    /// The connection is gone, and what was made for it has waited: everything is to be sent in order,
    /// with its edit time. Gives the batches for which that time is new.
    pub(crate) fn leave(&mut self) -> Vec<WriteId> {
        let mut turned = Vec::new();
        for id in &self.open {
            let Some(batch) = self.batches.get_mut(id) else { continue };
            batch.repeated |= batch.state == State::Sent;
            if !batch.stamped {
                batch.stamped = true;
                turned.push(*id);
            }
            if batch.state != State::Unstored {
                batch.state = State::Queued;
            }
        }
        self.fresh.clear();
        self.resting.clear();
        self.in_flight = 0;
        self.review_all();
        turned
    }

    /// Takes out what was committed up to this version, as listeners have it from the server now, and
    /// before the `oldest` request was sent that is under way, as its answer contains it. Whether only
    /// such requests hold others back is the second.
    pub(crate) fn release(&mut self, version: Version, oldest: Option<u32>) -> (Vec<Batch>, bool) {
        let seen = self.committed.range(..=(version, WriteId(u64::MAX)));
        let (free, held): (Vec<_>, Vec<_>) = seen.copied().partition(|(_, id)| {
            let asked = self.batches.get(id).map_or(0, |batch| batch.asked);
            oldest.is_none_or(|oldest| oldest > asked)
        });
        let mut released = Vec::with_capacity(free.len());
        for (at, id) in free {
            self.committed.remove(&(at, id));
            released.extend(self.batches.remove(&id));
        }
        (released, !held.is_empty())
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
