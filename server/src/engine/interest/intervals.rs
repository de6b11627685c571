//! Intervals of encoded values, and which of them a value is in: a balanced tree whose nodes know
//! the highest end below them. Pure; the interest index drives it.

use std::cmp::Ordering;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use crate::engine::delta::GroupId;

/// The upper end of an interval; it belongs to it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum End {
    At(Arc<[u8]>),
    /// Above everything.
    Open,
}

/// Encoded values from `start` to `end`, both included.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Interval {
    /// Nothing is below empty bytes.
    pub(super) start: Arc<[u8]>,
    pub(super) end: End,
}

impl Interval {
    /// All values.
    pub(super) fn everything() -> Interval {
        Interval { start: Arc::default(), end: End::Open }
    }

    /// What is in both; none if nothing can be.
    pub(super) fn intersect(&self, other: &Interval) -> Option<Interval> {
        let start = Ord::max(&self.start, &other.start).clone();
        let end = Ord::min(&self.end, &other.end).clone();
        let both = Interval { start, end };
        (!both.is_empty()).then_some(both)
    }

    fn is_empty(&self) -> bool {
        match &self.end {
            End::At(end) => *end < self.start,
            End::Open => false,
        }
    }

    fn ends_before(end: &End, at: &[u8]) -> bool {
        match end {
            End::At(end) => **end < *at,
            End::Open => false,
        }
    }
}

/// A set of intervals, each of a group.
#[derive(Default)]
pub(super) struct Intervals {
    root: Link,
    len: usize,
    /// Makes priorities that nobody can foresee, so that no choice of intervals unbalances the tree.
    random: RandomState,
    inserted: u64,
}

type Link = Option<Box<Node>>;

struct Node {
    interval: Interval,
    group: GroupId,
    /// Not below that of any node under it.
    priority: u64,
    /// The highest end of this node and all under it.
    highest: End,
    left: Link,
    right: Link,
}

impl Node {
    fn update(&mut self) {
        let below = [&self.left, &self.right].into_iter().flatten().map(|node| &node.highest);
        self.highest = below.fold(&self.interval.end, Ord::max).clone();
    }

    fn compare(&self, interval: &Interval, group: GroupId) -> Ordering {
        self.interval.cmp(interval).then(self.group.cmp(&group))
    }
}

impl Intervals {
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds an interval of a group. It must not be there yet.
    pub(super) fn insert(&mut self, interval: Interval, group: GroupId) {
        self.inserted += 1;
        self.len += 1;
        let (left, right) = split(self.root.take(), &interval, group);
        let (priority, highest) = (self.random.hash_one(self.inserted), interval.end.clone());
        let node = Node { interval, group, priority, highest, left: None, right: None };
        self.root = merge(merge(left, Some(Box::new(node))), right);
    }

    /// Removes what was added.
    pub(super) fn remove(&mut self, interval: &Interval, group: GroupId) {
        if remove(&mut self.root, interval, group) {
            self.len -= 1;
        }
    }

    /// How many intervals an encoded value is in; from `most` on, a guess.
    pub(super) fn count(&self, at: &[u8], most: usize) -> usize {
        let mut left = most;
        count(&self.root, at, &mut left);
        if left > 0 { most - left } else { most.max(self.len / 4) }
    }

    /// The groups with an interval that the encoded value is in.
    pub(super) fn stab(&self, at: &[u8], found: &mut Vec<GroupId>) {
        stab(&self.root, at, found);
    }
}

/// The nodes before and not before a place.
fn split(link: Link, interval: &Interval, group: GroupId) -> (Link, Link) {
    let Some(mut node) = link else { return (None, None) };
    if node.compare(interval, group).is_lt() {
        let (left, right) = split(node.right.take(), interval, group);
        node.right = left;
        node.update();
        (Some(node), right)
    } else {
        let (left, right) = split(node.left.take(), interval, group);
        node.left = right;
        node.update();
        (left, Some(node))
    }
}

/// One tree of two, all of the first being before all of the second.
fn merge(first: Link, second: Link) -> Link {
    match (first, second) {
        (None, link) | (link, None) => link,
        (Some(mut first), Some(mut second)) => {
            if first.priority >= second.priority {
                first.right = merge(first.right.take(), Some(second));
                first.update();
                Some(first)
            } else {
                second.left = merge(Some(first), second.left.take());
                second.update();
                Some(second)
            }
        }
    }
}

fn remove(link: &mut Link, interval: &Interval, group: GroupId) -> bool {
    let Some(node) = link else { return false };
    let removed = match node.compare(interval, group) {
        Ordering::Equal => {
            *link = merge(node.left.take(), node.right.take());
            return true;
        }
        Ordering::Less => remove(&mut node.right, interval, group),
        Ordering::Greater => remove(&mut node.left, interval, group),
    };
    if removed {
        node.update();
    }
    removed
}

fn stab(link: &Link, at: &[u8], found: &mut Vec<GroupId>) {
    let Some(node) = link else { return };
    if Interval::ends_before(&node.highest, at) {
        return;
    }
    stab(&node.left, at, found);
    if *node.interval.start <= *at {
        if !Interval::ends_before(&node.interval.end, at) {
            found.push(node.group);
        }
        stab(&node.right, at, found);
    }
}

fn count(link: &Link, at: &[u8], left: &mut usize) {
    let Some(node) = link else { return };
    if *left == 0 || Interval::ends_before(&node.highest, at) {
        return;
    }
    count(&node.left, at, left);
    if *node.interval.start <= *at {
        if !Interval::ends_before(&node.interval.end, at) {
            *left = left.saturating_sub(1);
        }
        count(&node.right, at, left);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    fn depth(link: &Link) -> usize {
        link.as_ref().map_or(0, |node| 1 + depth(&node.left).max(depth(&node.right)))
    }

    fn random_interval(rng: &mut StdRng) -> Interval {
        let mut point = || -> Arc<[u8]> {
            (0..rng.random_range(0..3)).map(|_| rng.random_range(0..6)).collect()
        };
        let (a, b) = (point(), point());
        let end = if rng.random_bool(0.2) { End::Open } else { End::At(Ord::max(&a, &b).clone()) };
        Interval { start: a.min(b), end }
    }

    #[test]
    fn a_value_finds_the_intervals_it_is_in() {
        for seed in 0..40 {
            let mut rng = StdRng::seed_from_u64(seed);
            let (mut tree, mut model) = (Intervals::default(), Vec::new());
            for id in 0..200 {
                if rng.random_bool(0.3) && !model.is_empty() {
                    let at = rng.random_range(0..model.len());
                    let (interval, group) = model.swap_remove(at);
                    tree.remove(&interval, group);
                } else {
                    let interval = random_interval(&mut rng);
                    tree.insert(interval.clone(), GroupId(id));
                    model.push((interval, GroupId(id)));
                }
                assert_eq!(tree.len, model.len());
                let at: Vec<u8> =
                    (0..rng.random_range(0..4)).map(|_| rng.random_range(0..6)).collect();
                let mut found = Vec::new();
                tree.stab(&at, &mut found);
                found.sort();
                let point =
                    Interval { start: at.as_slice().into(), end: End::At(at.as_slice().into()) };
                let inside = model.iter().filter(|(it, _)| it.intersect(&point).is_some());
                let mut expected: Vec<GroupId> = inside.map(|(_, group)| *group).collect();
                expected.sort();
                assert_eq!(found, expected, "seed {seed}");
                assert_eq!(tree.count(&at, usize::MAX), found.len());
            }
            for (interval, group) in model {
                tree.remove(&interval, group);
            }
            assert!(tree.is_empty() && tree.root.is_none());
        }
    }

    #[test]
    fn sorted_insertions_leave_the_tree_flat() {
        let mut tree = Intervals::default();
        for id in 0..10_000_u32 {
            let start: Arc<[u8]> = id.to_be_bytes().as_slice().into();
            tree.insert(Interval { end: End::At(start.clone()), start }, GroupId(id));
        }
        assert!(depth(&tree.root) < 100, "{}", depth(&tree.root));
    }
}
