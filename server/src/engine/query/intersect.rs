//! The documents that are in all of several lists, each in the order of names. Reads as little of the
//! lists as their lengths allow: a first look tells the shortest, which is then either read alone,
//! each of its documents being checked, or together with the next shortest, each seeking to the
//! other's place.

use std::cmp::Ordering;
use std::collections::VecDeque;

use super::context::Context;
use super::feed::{Feed, Found, Named};
use super::plan::Scan;
use crate::engine::error::EngineError;
use crate::store::ScanDirection;

/// The most entries of each list that are looked at first, and the least.
const PROBE: (usize, usize) = (16, 4);
/// Entries read at a time after a seek, at first and at most.
const STRIDE: (usize, usize) = (4, 512);

/// Some lists, of which the intersection is a subset of what is found.
pub(super) struct Intersection {
    lists: Vec<List>,
    state: State,
    descending: bool,
}

struct List {
    feed: Feed,
    index: Option<String>,
    buffer: VecDeque<Named>,
    /// What all keys of the list begin with; set by the first entry.
    before: Vec<u8>,
    stride: usize,
}

enum State {
    /// Nothing has been read.
    Fresh,
    /// The first list is read alone.
    Alone,
    /// The first two seek to each other.
    Together,
}

impl Intersection {
    pub(super) fn new(scans: Vec<Scan>) -> Intersection {
        let list = |scan: Scan| {
            let index = scan.index.clone();
            let (buffer, before) = (VecDeque::new(), vec![]);
            List { feed: Feed::new(scan), index, buffer, before, stride: STRIDE.0 }
        };
        Intersection {
            lists: scans.into_iter().map(list).collect(),
            state: State::Fresh,
            descending: false,
        }
    }

    /// Whether nothing more can be found.
    pub(super) fn is_done(&self) -> bool {
        let ended = |list: &List| list.buffer.is_empty() && list.feed.is_done();
        match self.state {
            State::Fresh => false,
            State::Alone => ended(&self.lists[0]),
            State::Together => self.lists[..2].iter().any(ended),
        }
    }

    /// Whether a first look has to be taken.
    pub(super) fn is_fresh(&self) -> bool {
        matches!(self.state, State::Fresh)
    }

    /// Looks at the beginning of each list; the documents of the shortest, for
    /// [`Intersection::decide`].
    pub(super) async fn probe(&mut self, cx: &mut Context<'_>) -> Result<Vec<Found>, EngineError> {
        // The names are in one order in all lists.
        let wanted = (cx.take / 16).clamp(PROBE.1, PROBE.0);
        for list in &mut self.lists {
            list.read(cx, wanted).await?;
        }
        self.descending = self.lists[0].descends();
        let descending = self.descending;
        // The list that ends first, else the one whose entries are the farthest apart.
        self.lists.sort_by(|a, b| {
            let ended = |list: &List| list.feed.is_done();
            let reach = |list: &List| list.buffer.back().map(|last| last.name.clone());
            let farther = directed(descending, reach(b).cmp(&reach(a)));
            ended(b)
                .cmp(&ended(a))
                .then_with(|| if ended(a) { a.buffer.len().cmp(&b.buffer.len()) } else { farther })
        });
        let shortest = &mut self.lists[0];
        Ok(shortest.buffer.drain(..).filter_map(|named| named.found).collect())
    }

    /// Chooses how to go on, by how many of the probed documents matched.
    pub(super) fn decide(&mut self, cx: &mut Context<'_>, probed: usize, matched: usize) {
        let name = self.lists[0].index.clone().unwrap_or_default();
        if matched * 2 >= probed || self.lists[0].feed.is_done() {
            self.state = State::Alone;
            cx.cost.note(|| format!("read {name} alone"));
        } else {
            self.state = State::Together;
            let other = self.lists[1].index.clone().unwrap_or_default();
            cx.cost.note(|| format!("read {name} and {other} in turns"));
        }
    }

    /// The next documents that may be in all lists.
    pub(super) async fn batch(
        &mut self,
        cx: &mut Context<'_>,
        limit: usize,
    ) -> Result<Vec<Found>, EngineError> {
        match self.state {
            State::Together => self.batch_together(cx, limit).await,
            State::Fresh | State::Alone => {
                let list = &mut self.lists[0];
                list.read(cx, limit).await?;
                Ok(list.buffer.drain(..).filter_map(|named| named.found).collect())
            }
        }
    }

    async fn batch_together(
        &mut self,
        cx: &mut Context<'_>,
        limit: usize,
    ) -> Result<Vec<Found>, EngineError> {
        let descending = self.descending;
        let [first, second, ..] = &mut self.lists[..] else { return Ok(vec![]) };
        let mut found = Vec::new();
        // Bounded, so that a caller with a budget gets its turn.
        let until = cx.cost.entries + 4 * limit as u64;
        while found.len() < limit && cx.cost.entries < until {
            if !first.fill(cx).await? || !second.fill(cx).await? {
                break;
            }
            let (Some(a), Some(b)) = (first.buffer.front(), second.buffer.front()) else { break };
            match directed(descending, a.name.cmp(&b.name)) {
                Ordering::Equal => {
                    found.extend(first.buffer.pop_front().and_then(|named| named.found));
                    second.buffer.pop_front();
                }
                Ordering::Less => {
                    let target = b.name.clone();
                    first.seek(&target, descending);
                }
                Ordering::Greater => {
                    let target = a.name.clone();
                    second.seek(&target, descending);
                }
            }
        }
        Ok(found)
    }
}

impl List {
    fn descends(&self) -> bool {
        let backward = self.feed.direction() == ScanDirection::Backward;
        backward != self.feed.inverted_names()
    }

    async fn read(&mut self, cx: &mut Context<'_>, limit: usize) -> Result<(), EngineError> {
        for (key, value) in self.feed.rows(cx, limit).await? {
            let named = self.feed.named(cx, &key, &value)?;
            if self.before.is_empty() {
                self.before.clone_from(&named.before);
            }
            self.buffer.push_back(named);
        }
        Ok(())
    }

    /// Reads on if need be. False: the list has ended.
    async fn fill(&mut self, cx: &mut Context<'_>) -> Result<bool, EngineError> {
        if self.buffer.is_empty() && !self.feed.is_done() {
            self.read(cx, self.stride).await?;
            // Shortened again by each seek past what was read.
            self.stride = (self.stride * 2).min(STRIDE.1);
        }
        Ok(!self.buffer.is_empty())
    }

    /// Leaves out what comes before a name.
    fn seek(&mut self, name: &[u8], descending: bool) {
        let is_before =
            |named: &Named| directed(descending, named.name.as_slice().cmp(name)).is_lt();
        let skipped = self.buffer.partition_point(is_before);
        self.buffer.drain(..skipped);
        if skipped > 1 {
            self.stride = (self.stride / 2).max(STRIDE.0);
        }
        if self.buffer.is_empty() && !self.before.is_empty() {
            let key = self.feed.key_of(&self.before, name);
            self.feed.seek(&key);
        }
    }
}

fn directed(descending: bool, ordering: Ordering) -> Ordering {
    if descending { ordering.reverse() } else { ordering }
}
