//! Entries gathered in memory, a bounded amount of them, and what turns those from before into those
//! from now.

use std::collections::HashSet;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

use bytes::Bytes;
use tidemark_protocol::model::limits;

use super::entries::Entry;
use crate::store::{Key, PER_WRITE};

/// What a key is set to; none removes it.
pub(in crate::engine) type KeyWrite = (Key, Option<Bytes>);

/// Entries of one side of a change, a bounded amount of them.
pub(super) struct EntryList {
    pub(super) entries: Vec<Entry>,
    bytes: usize,
    limit: usize,
    /// When the bytes reach this, repetitions are removed.
    tidy_at: usize,
    /// Set when there are more than may be; what is pushed from then on is dropped.
    pub(super) overflowed: bool,
    /// Set when entries are only counted: those that are distinct.
    counted: Option<(HashSet<u64>, RandomState)>,
}

impl EntryList {
    pub(super) fn new(limit: usize) -> EntryList {
        EntryList {
            entries: Vec::new(),
            bytes: 0,
            limit,
            tidy_at: limit,
            overflowed: false,
            counted: None,
        }
    }

    /// Overflows when a document has more entries than it may have.
    pub(super) fn counting() -> EntryList {
        EntryList { counted: Some(Default::default()), ..EntryList::new(0) }
    }

    pub(super) fn push(&mut self, entry: Entry) {
        if self.overflowed {
            return;
        }
        if let Some((distinct, hasher)) = &mut self.counted {
            distinct.insert(hasher.hash_one(&entry.key));
            self.overflowed = distinct.len() > limits::INDEX_ENTRIES;
            return;
        }
        self.bytes += entry_bytes(&entry);
        self.entries.push(entry);
        if self.bytes > self.tidy_at {
            self.tidy();
            self.tidy_at = self.limit.max(self.bytes.saturating_mul(2));
        }
    }

    /// Sorts, and removes repetitions: an array may hold a value twice.
    pub(super) fn tidy(&mut self) {
        self.entries.sort_unstable();
        self.entries.dedup();
        self.bytes = self.entries.iter().map(entry_bytes).sum();
        self.overflowed |= self.bytes > self.limit;
    }
}

fn entry_bytes(entry: &Entry) -> usize {
    entry.key.len() + entry.value.len() + PER_WRITE
}

/// What turns one list of entries, sorted, into the other.
pub(super) fn difference(before: Vec<Entry>, after: Vec<Entry>, out: &mut Vec<KeyWrite>) {
    out.reserve(before.len() + after.len());
    let mut after = after.into_iter().peekable();
    for old in before {
        while let Some(new) = after.next_if(|new| new.key < old.key) {
            out.push(new.put());
        }
        match after.next_if(|new| new.key == old.key) {
            Some(new) if new.value == old.value => {}
            Some(new) => out.push(new.put()),
            None => out.push((old.key, None)),
        }
    }
    out.extend(after.map(Entry::put));
}
