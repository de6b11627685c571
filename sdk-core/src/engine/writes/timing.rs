//! When an edit counts as made. What is sent at once counts as of its arrival and carries no time; what
//! has waited carries the time of its making, so that it does not win over what was edited since. Part
//! of the [`Outbox`].

use std::time::Duration;

use tidemark_protocol::model::{EditTime, Version, Write, WriteId};

use super::{Batch, Outbox, State};
use crate::cache::{Making, OutboxEntry};

/// How long after its making a write still counts as sent at once.
pub(crate) const FRESH: Duration = Duration::from_secs(1);

/// How far versions may be ahead of the server's clock, in microseconds: commits of one instant count on.
pub(super) const VERSIONS_AHEAD: u64 = 100;

impl Batch {
    /// The time of the edit as the server will see it, as well as can be known.
    pub(super) fn believed(&self) -> EditTime {
        match self.state {
            State::Committed { version } => self.effective(version),
            // What the server tells may contain it already, as made when it arrived.
            State::Unstored | State::Queued | State::Sent | State::Resting { .. } if self.bare => {
                EditTime::NOW
            }
            State::Unstored | State::Queued | State::Sent | State::Resting { .. } => {
                self.stamp().unwrap_or(EditTime::NOW)
            }
        }
    }

    /// What is to be stored again, as its edit has moved; what is not stored yet will be as it is.
    fn moved(&mut self) -> Option<OutboxEntry> {
        if !self.local || self.stored_edit == self.edit || self.state == State::Unstored {
            return None;
        }
        self.stored_edit = self.edit;
        Some(self.entry())
    }

    /// The time of the edit as the server saw it.
    pub(super) fn effective(&self, version: Version) -> EditTime {
        match self.stamp() {
            Some(edit) if !self.bare => edit.min(EditTime(version.0)),
            Some(_) | None => EditTime(version.0),
        }
    }
}

impl Outbox {
    /// Stamps what was not sent while it was fresh. Gives the batches for which their edit time is new.
    pub(crate) fn age(&mut self, now: Duration) -> Vec<WriteId> {
        let mut turned = Vec::new();
        while let Some((made, id)) = self.fresh.front().copied()
            && now > made + FRESH
        {
            self.fresh.pop_front();
            let Some(batch) = self.batches.get_mut(&id) else { continue };
            let unsent = match batch.state {
                State::Unstored | State::Queued | State::Resting { .. } => true,
                State::Sent | State::Committed { .. } => false,
            };
            if unsent && !batch.stamped {
                batch.stamped = true;
                turned.push(id);
                self.review(id);
            }
        }
        turned
    }

    /// Gives the last batch under way on one of the batch's documents; its edit is not earlier than that.
    pub(super) fn follow_sent(&mut self, id: WriteId) -> Option<WriteId> {
        let before = self.order.before(id, &self.batches.get(&id)?.writes);
        let edit =
            before.iter().filter_map(|id| self.batches.get(id)).map(|batch| batch.edit).max();
        if let (Some(batch), Some(edit)) = (self.batches.get_mut(&id), edit) {
            batch.edit = batch.edit.max(edit);
        }
        before.last().copied()
    }

    /// What follows a batch on its documents is not earlier than it. Gives what was moved for that.
    pub(super) fn follow(
        &mut self,
        writes: &[Write],
        id: WriteId,
        effective: EditTime,
    ) -> Vec<OutboxEntry> {
        let mut moved = Vec::new();
        for write in writes {
            if let Some(next) = self.order.after(id, &write.path)
                && let Some(batch) = self.batches.get_mut(&next)
            {
                batch.edit = batch.edit.max(effective);
                moved.extend(batch.moved());
            }
        }
        self.review_documents(writes);
        moved
    }

    /// The edit clock has been aligned: moves the edits made before by so much, but not before what was
    /// `known` then nor beyond `now`, and keeps their order. Gives what was moved.
    pub(crate) fn align(&mut self, shift: i64, known: EditTime, now: EditTime) -> Vec<OutboxEntry> {
        let mut moved = Vec::new();
        let mut last = known;
        for id in &self.open {
            let Some(batch) = self.batches.get_mut(id) else { continue };
            if batch.making == Making::Unaligned {
                batch.making = Making::Offline;
                batch.edit = EditTime(batch.edit.0.saturating_add_signed(shift)).min(now).max(last);
                // How it was made has changed in any case.
                batch.stored_edit = EditTime::NOW;
                moved.extend(batch.moved());
            }
            last = last.max(batch.edit);
        }
        moved
    }

    /// The latest edit that waits.
    pub(crate) fn last_edit(&self) -> EditTime {
        let edits = self.open.iter().filter_map(|id| self.batches.get(id));
        edits.map(|batch| batch.edit).max().unwrap_or(EditTime(0))
    }
}
