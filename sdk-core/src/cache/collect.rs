//! What a cache drops when it is too large: what was not used for the longest time, never what is
//! pending or listened to. A target is dropped with the first of its documents: resuming it would
//! leave them out. Decides only; caches do it.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;

/// A document that may have to go.
pub(super) struct Candidate<D> {
    pub(super) name: D,
    pub(super) bytes: u64,
    /// When it was used last; larger is later.
    pub(super) used: u64,
    /// Whether it must stay whatever its targets are.
    pub(super) pinned: bool,
}

/// A target that may have to go.
pub(super) struct CandidateTarget<D, T> {
    pub(super) name: T,
    pub(super) used: u64,
    /// Whether it is listened to: it and its documents stay.
    pub(super) active: bool,
    pub(super) members: Vec<D>,
}

/// What is to go.
pub(super) struct Dropped<D, T> {
    pub(super) documents: Vec<D>,
    pub(super) targets: Vec<T>,
}

/// Chooses documents of at least `excess` bytes together, if so many may go.
pub(super) fn select<D: Copy + Eq + Hash + Ord, T>(
    documents: Vec<Candidate<D>>,
    targets: Vec<CandidateTarget<D, T>>,
    excess: u64,
) -> Dropped<D, T> {
    // A document is as recent as the most recent target that it is in.
    let mut through_targets: HashMap<D, u64> = HashMap::new();
    for target in &targets {
        let used = if target.active { u64::MAX } else { target.used };
        for member in &target.members {
            let latest = through_targets.entry(*member).or_default();
            *latest = used.max(*latest);
        }
    }
    let mut order: Vec<(u64, D, u64)> = documents
        .into_iter()
        .filter(|document| !document.pinned)
        .map(|document| {
            let used = through_targets.get(&document.name).copied().unwrap_or_default();
            (used.max(document.used), document.name, document.bytes)
        })
        .filter(|(used, ..)| *used < u64::MAX)
        .collect();
    order.sort_unstable();
    let (mut freed, mut horizon) = (0, 0);
    let mut gone: HashSet<D> = HashSet::new();
    for (used, name, bytes) in order {
        if freed >= excess {
            break;
        }
        freed += bytes;
        horizon = used;
        gone.insert(name);
    }
    // An empty target goes with the documents of its time.
    let goes = |target: &CandidateTarget<D, T>| {
        !target.active
            && (target.used < horizon || target.members.iter().any(|member| gone.contains(member)))
    };
    let targets = targets.into_iter().filter(goes).map(|target| target.name).collect();
    Dropped { documents: gone.into_iter().collect(), targets }
}
