//! Queries in a store: through an index made for the query's shape where its collection is large
//! enough, one by one where it is not.

use std::cell::Cell;
use std::ops::ControlFlow;
use std::sync::Arc;

use tidemark_protocol::model::{Document, IndexDefinition, Matcher, Query};

use super::draft::Draft;
use super::layout::{self, Kind};
use super::records::DocumentRecord;
use super::store::{KvRead, KvStore, prefixed};
use super::{KvCache, Pair};
use crate::cache::index::{
    Access, Entries, LIMIT, Scan, WORTHWHILE, decode_definition, encode_definition, entries, plan,
};
use crate::cache::merge::{Stream, merge, sorted};
use crate::cache::{CacheError, Durability};

/// The indexes that there are.
#[derive(Default)]
pub(super) struct Indexes {
    all: Vec<Index>,
    /// Counts queries: what the least used is told by.
    now: u64,
}

pub(super) struct Index {
    /// Its number, in the keys of its entries.
    pub(super) number: u32,
    pub(super) definition: IndexDefinition,
    used: Cell<u64>,
}

impl Indexes {
    pub(super) fn load(read: &dyn KvRead) -> Result<Indexes, CacheError> {
        let damaged =
            || CacheError::Damaged("the definition of an index cannot be read".to_owned());
        let mut all = Vec::new();
        for pair in prefixed(read, &[Kind::Index.byte()])? {
            let (key, value) = pair?;
            let number = key[1..].try_into().map(u32::from_be_bytes).map_err(|_| damaged())?;
            let definition = decode_definition(&value).map_err(|_| damaged())?;
            all.push(Index { number, definition, used: Cell::new(0) });
        }
        Ok(Indexes { all, now: 0 })
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Index> {
        self.all.iter()
    }

    fn find(&self, definition: &IndexDefinition) -> Option<&Index> {
        self.all.iter().find(|index| index.definition == *definition)
    }

    /// The index that was not used for the longest time.
    fn least_used(&self) -> Option<usize> {
        (0..self.all.len()).min_by_key(|at| self.all[*at].used.get())
    }

    /// The least used, without which the entries of all take at most so many bytes; and how many
    /// bytes less that is.
    pub(super) fn surplus(
        &self,
        read: &dyn KvRead,
        bytes: u64,
    ) -> Result<(Vec<u32>, u64), CacheError> {
        let mut sizes = Vec::new();
        for index in &self.all {
            let mut size = 0;
            for pair in prefixed(read, &layout::entries(index.number))? {
                let (key, value) = pair?;
                size += (key.len() + value.len()) as u64;
            }
            sizes.push((index.used.get(), index.number, size));
        }
        sizes.sort_unstable();
        let mut left: u64 = sizes.iter().map(|(_, _, size)| size).sum();
        let (mut surplus, mut freed) = (Vec::new(), 0);
        for (_, number, size) in sizes {
            if left <= bytes {
                break;
            }
            left -= size;
            freed += size;
            surplus.push(number);
        }
        Ok((surplus, freed))
    }

    pub(super) fn remove(&mut self, numbers: &[u32]) {
        self.all.retain(|index| !numbers.contains(&index.number));
    }

    fn next_number(&self) -> u32 {
        self.all.iter().map(|index| index.number + 1).max().unwrap_or(0)
    }
}

/// See [`Cache::find`](crate::cache::Cache::find).
pub(super) fn find<S: KvStore>(
    cache: &KvCache<S>,
    query: &Query,
    each: &mut dyn FnMut(Arc<Document>) -> ControlFlow<()>,
) -> Result<(), CacheError> {
    let matcher = Matcher::new(query.clone());
    let each = &mut |document: Arc<Document>| {
        cache.use_document(layout::document(&document.path));
        each(document)
    };
    let few = few_documents(&*cache.store.read()?, query)?;
    let accesses = if few.is_none() { plan(query, matcher.order()) } else { None };
    let Some(accesses) = accesses else {
        let documents = match few {
            Some(documents) => documents,
            None => all_documents(&*cache.store.read()?, query)?,
        };
        return merge(&matcher, vec![sorted(&matcher, documents)], each);
    };
    prepare(cache, &accesses)?;
    let read = cache.store.read()?;
    let mut streams = Vec::new();
    {
        let indexes = cache.indexes.borrow();
        for access in &accesses {
            match access {
                Access::Document(path) => {
                    let record = read.get(&layout::document(path))?;
                    let document = record.map(decode).transpose()?.flatten();
                    streams.push(sorted(&matcher, document.into_iter().collect()));
                }
                Access::Scan(scan) if scan.is_collection => {
                    streams.push(collection(&*read, query, scan.reverse)?);
                }
                Access::Scan(scan) => {
                    let index = indexes.find(&scan.index).expect("it has been prepared");
                    streams.push(ordered(&*read, index.number, scan)?);
                    streams.push(sorted(&matcher, long(&*read, index.number)?));
                }
            }
        }
    }
    merge(&matcher, streams, each)
}

fn decode(record: Vec<u8>) -> Result<Option<Arc<Document>>, CacheError> {
    DocumentRecord::decode(record)?.document()
}

fn decode_pair(pair: Result<Pair, CacheError>) -> Option<Result<Arc<Document>, CacheError>> {
    pair.and_then(|(_, record)| decode(record)).transpose()
}

/// The documents of a collection that is too small for an index.
fn few_documents(
    read: &dyn KvRead,
    query: &Query,
) -> Result<Option<Vec<Arc<Document>>>, CacheError> {
    if query.all_descendants {
        return Ok(None);
    }
    let prefix = layout::collection(&query.collection_path());
    let pairs: Vec<Result<Pair, CacheError>> = prefixed(read, &prefix)?.take(WORTHWHILE).collect();
    if pairs.len() == WORTHWHILE {
        return Ok(None);
    }
    pairs.into_iter().filter_map(decode_pair).collect::<Result<_, _>>().map(Some)
}

/// The documents of a query's collections.
fn all_documents(read: &dyn KvRead, query: &Query) -> Result<Vec<Arc<Document>>, CacheError> {
    let documents = prefixed(read, &[Kind::Document.byte()])?;
    let is_over = |document: &Result<Arc<Document>, CacheError>| {
        document.as_ref().map_or(true, |document| query.is_over(document.path.as_str()))
    };
    documents.filter_map(decode_pair).filter(is_over).collect()
}

/// The documents of a collection in the order of their names.
fn collection<'a>(
    read: &'a dyn KvRead,
    query: &Query,
    reverse: bool,
) -> Result<Stream<'a>, CacheError> {
    let prefix = layout::collection(&query.collection_path());
    let pairs = read.range(&prefix, super::store::after(&prefix).as_deref(), reverse)?;
    Ok(Box::new(pairs.filter_map(decode_pair)))
}

/// The documents of a part of an index.
fn ordered<'a>(read: &'a dyn KvRead, index: u32, scan: &Scan) -> Result<Stream<'a>, CacheError> {
    let prefix = layout::ordered_entries(index);
    let from = [&prefix[..], &scan.from].concat();
    let to = match &scan.to {
        Some(to) => Some([&prefix[..], to].concat()),
        None => super::store::after(&prefix),
    };
    let pairs = read.range(&from, to.as_deref(), scan.reverse)?;
    let document = move |pair: Result<Pair, CacheError>| {
        let (_, document) = pair?;
        read.get(&document)?.map(decode).transpose().map(Option::flatten)
    };
    Ok(Box::new(pairs.filter_map(move |pair| document(pair).transpose())))
}

/// The documents that an index lists apart.
fn long(read: &dyn KvRead, index: u32) -> Result<Vec<Arc<Document>>, CacheError> {
    let mut documents = Vec::new();
    for pair in prefixed(read, &layout::long_entries(index))? {
        let (_, document) = pair?;
        documents.extend(read.get(&document)?.map(decode).transpose()?.flatten());
    }
    Ok(documents)
}

/// Makes the indexes that there are not yet, in the place of those used least.
fn prepare<S: KvStore>(cache: &KvCache<S>, accesses: &[Access]) -> Result<(), CacheError> {
    let indexes = &mut *cache.indexes.borrow_mut();
    indexes.now += 1;
    let now = indexes.now;
    let scans = accesses.iter().filter_map(|access| match access {
        Access::Scan(scan) if !scan.is_collection => Some(scan),
        Access::Scan(_) | Access::Document(_) => None,
    });
    let (known, new): (Vec<&Scan>, Vec<&Scan>) =
        scans.partition(|scan| indexes.find(&scan.index).is_some());
    for scan in known {
        if let Some(index) = indexes.find(&scan.index) {
            index.used.set(now);
        }
    }
    for scan in new {
        // Two disjunctions may have the same shape.
        if indexes.find(&scan.index).is_none() {
            make(cache, indexes, scan.index.clone())?;
        }
    }
    Ok(())
}

fn make<S: KvStore>(
    cache: &KvCache<S>,
    indexes: &mut Indexes,
    definition: IndexDefinition,
) -> Result<(), CacheError> {
    let number = indexes.next_number();
    let dropped = if indexes.all.len() >= LIMIT { indexes.least_used() } else { None };
    let (batch, state) = {
        let read = cache.store.read()?;
        let mut draft = Draft::new(&*read, indexes, cache.state.get());
        if let Some(dropped) = dropped {
            draft.remove_index(indexes.all[dropped].number)?;
        }
        draft.put(layout::index(number), encode_definition(&definition));
        for pair in prefixed(&*read, &[Kind::Document.byte()])? {
            let (key, record) = pair?;
            let record = DocumentRecord::decode(record)?;
            if record.is_in_group(&definition.collection_id)
                && let Some(document) = record.document()?
            {
                let after = entries(&definition, &document);
                draft.change_entries(number, &key, &Entries::default(), &after);
            }
        }
        draft.finish()?
    };
    cache.store.write(batch, Durability::Soon)?;
    cache.state.set(state);
    if let Some(dropped) = dropped {
        indexes.all.swap_remove(dropped);
    }
    indexes.all.push(Index { number, definition, used: Cell::new(indexes.now) });
    Ok(())
}
