//! The indexes of a cache in memory: made for the shape of a query, kept up to date with each
//! document, the least used dropped.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use tidemark_protocol::model::{Document, DocumentPath, IndexDefinition};

use crate::cache::index::{Entries, LIMIT, Scan, entries};

/// What an entry costs besides its key and path, about.
const OVERHEAD: u64 = 64;

#[derive(Default)]
pub(super) struct Indexes {
    all: Vec<Index>,
    /// Counts queries: what the least used is told by.
    now: u64,
}

pub(super) struct Index {
    definition: IndexDefinition,
    ordered: BTreeMap<Vec<u8>, DocumentPath>,
    long: BTreeSet<DocumentPath>,
    used: u64,
    /// Of the ordered entries.
    bytes: u64,
}

impl Indexes {
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.all.clear();
    }

    pub(super) fn bytes(&self) -> u64 {
        self.all.iter().map(|index| index.bytes).sum()
    }

    /// Drops the least used until there are at most so many bytes.
    pub(super) fn shrink(&mut self, bytes: u64) {
        self.all.sort_by_key(|index| std::cmp::Reverse(index.used));
        while self.bytes() > bytes {
            self.all.pop();
        }
    }

    pub(super) fn find(&self, definition: &IndexDefinition) -> Option<&Index> {
        self.all.iter().find(|index| index.definition == *definition)
    }

    /// Sees that there are the indexes of a query, made of these documents.
    pub(super) fn prepare<'a, I: Iterator<Item = &'a Arc<Document>>>(
        &mut self,
        scans: &[&Scan],
        documents: impl Fn() -> I,
    ) {
        self.now += 1;
        for scan in scans {
            match self.all.iter_mut().find(|index| index.definition == scan.index) {
                Some(index) => index.used = self.now,
                None => self.make(scan.index.clone(), documents()),
            }
        }
    }

    fn make<'a>(
        &mut self,
        definition: IndexDefinition,
        documents: impl Iterator<Item = &'a Arc<Document>>,
    ) {
        if self.all.len() >= LIMIT
            && let Some(at) = (0..self.all.len()).min_by_key(|at| self.all[*at].used)
        {
            self.all.swap_remove(at);
        }
        let (ordered, long) = (BTreeMap::new(), BTreeSet::new());
        let mut index = Index { definition, ordered, long, used: self.now, bytes: 0 };
        documents.for_each(|document| index.change(&document.path, None, Some(document)));
        self.all.push(index);
    }

    /// A document has changed.
    pub(super) fn change(
        &mut self,
        path: &DocumentPath,
        before: Option<&Arc<Document>>,
        after: Option<&Arc<Document>>,
    ) {
        self.all.iter_mut().for_each(|index| index.change(path, before, after));
    }
}

impl Index {
    fn change(
        &mut self,
        path: &DocumentPath,
        before: Option<&Arc<Document>>,
        after: Option<&Arc<Document>>,
    ) {
        let of = |document: Option<&Arc<Document>>| match document {
            Some(document) => entries(&self.definition, document),
            None => Entries::default(),
        };
        let (before, after) = (of(before), of(after));
        let bytes = |key: &Vec<u8>| (key.len() + path.as_str().len()) as u64 + OVERHEAD;
        for key in before.keys.difference(&after.keys) {
            self.ordered.remove(key);
            self.bytes -= bytes(key);
        }
        for key in after.keys.into_iter().filter(|key| !before.keys.contains(key)) {
            self.bytes += bytes(&key);
            self.ordered.insert(key, path.clone());
        }
        match (before.long, after.long) {
            (false, true) => drop(self.long.insert(path.clone())),
            (true, false) => drop(self.long.remove(path)),
            (true, true) | (false, false) => {}
        }
    }

    /// The documents of a part of it.
    pub(super) fn scan<'a>(
        &'a self,
        scan: &Scan,
    ) -> Box<dyn Iterator<Item = &'a DocumentPath> + 'a> {
        if scan.to.as_ref().is_some_and(|to| *to <= scan.from) {
            return Box::new(std::iter::empty());
        }
        let from = Bound::Included(scan.from.as_slice());
        let to = scan.to.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let part = self.ordered.range::<[u8], _>((from, to)).map(|(_, path)| path);
        if scan.reverse { Box::new(part.rev()) } else { Box::new(part) }
    }

    /// Those that it lists apart.
    pub(super) fn long(&self) -> impl Iterator<Item = &DocumentPath> {
        self.long.iter()
    }
}
