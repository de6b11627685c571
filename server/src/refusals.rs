//! Writes of one connection that were refused for now, so that what follows them on the same
//! documents is refused as well: else a client that sends ahead would see its writes change places.
//! The session and the commit lane each keep those that they refused.

use std::collections::VecDeque;

use tidemark_protocol::model::{Code, WriteId};
use tidemark_protocol::wire::server::Status;

/// How many are kept. A client has fewer writes without an answer, and follows no others.
const KEPT: usize = 4_096;

/// Writes that were refused for now.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    writes: VecDeque<WriteId>,
}

impl Refusals {
    /// Why a write that follows another must be refused as well, if so.
    pub(crate) fn of_follower(&self, follows: Option<WriteId>) -> Option<Status> {
        let follows = follows.filter(|write_id| self.writes.contains(write_id))?;
        let message =
            format!("it follows write {follows}, which was refused for now; send both again");
        Some(Status { code: Code::Unavailable, message })
    }

    /// Records what became of a write: refused with this code, or not.
    pub(crate) fn answered(&mut self, write_id: WriteId, refused: Option<Code>) {
        if !self.writes.is_empty() {
            self.writes.retain(|other| *other != write_id);
        }
        if refused.is_some_and(Code::is_retryable) {
            if self.writes.len() >= KEPT {
                self.writes.pop_front();
            }
            self.writes.push_back(write_id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_follower_is_refused_until_what_it_follows_is_not() {
        let mut refusals = Refusals::default();
        let is_refused =
            |refusals: &Refusals, id| refusals.of_follower(Some(WriteId(id))).is_some();
        refusals.answered(WriteId(1), Some(Code::ResourceExhausted));
        refusals.answered(WriteId(2), Some(Code::InvalidArgument));
        refusals.answered(WriteId(3), None);
        assert_eq!([1, 2, 3].map(|id| is_refused(&refusals, id)), [true, false, false]);
        assert_eq!(refusals.of_follower(None), None);
        refusals.answered(WriteId(1), None);
        assert!(!is_refused(&refusals, 1));
    }

    #[test]
    fn the_newest_refusals_are_kept() {
        let mut refusals = Refusals::default();
        for id in 1..=2 * KEPT as u64 {
            refusals.answered(WriteId(id), Some(Code::Unavailable));
        }
        assert_eq!(refusals.writes.len(), KEPT);
        assert_eq!(refusals.writes.front(), Some(&WriteId(KEPT as u64 + 1)));
    }
}
