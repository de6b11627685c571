//! The local query engine: gets, queries and aggregates answered from the cache with this client's pending
//! writes on top. Part of [`Engine`](super::Engine). Asks nobody and changes nothing that is shown.
//!
//! The cache finds documents in the order of a query; those with pending writes are taken out of that and
//! put in where they belong now. Of a query that was listened to, the cache also knows what the server
//! said was in the result: what it has of other documents from before that is out of date, and left out.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::iter::Peekable;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::vec::IntoIter;

use tidemark_protocol::model::{
    AggregateQuery, AggregateState, Document, DocumentPath, Matcher, Query, Target, Value, Version,
};
use tidemark_protocol::wire::codec::canonical_target;

use super::{Answer, Engine, Request};
use crate::cache::{CacheError, Known};
use crate::error::Error;
use crate::snapshot::{DocumentSnapshot, SnapshotMetadata};

/// A document, and whether it shows pending writes.
pub(super) type Row = (Arc<Document>, bool);

/// What the server told last of a document, if it exists, and as of when.
pub(super) type Base = (Option<Arc<Document>>, Version);

/// What the cache says of a document, and this client's pending writes make of it.
pub(super) enum Local {
    /// Neither the cache nor a pending write tells what it is.
    Unknown,
    /// It is this, or missing; with pending writes or not.
    Known(Option<Arc<Document>>, bool),
}

/// What was in a result when it was listened to, and when that was.
struct Remembered {
    members: HashSet<DocumentPath>,
    version: Version,
}

impl Remembered {
    fn allows(&self, document: &Document) -> bool {
        document.update_version > self.version || self.members.contains(&document.path)
    }
}

/// A result in the making: what the cache finds, merged with what has pending writes.
struct Merge<'a> {
    matcher: &'a Matcher,
    overlaid: Peekable<IntoIter<Row>>,
    /// How many are left out first, and how many are wanted then.
    skip: usize,
    limit: usize,
    rows: Vec<Row>,
}

impl Merge<'_> {
    fn take(&mut self, row: Row) {
        if self.skip > 0 {
            self.skip -= 1;
        } else if !self.is_full() {
            self.rows.push(row);
        }
    }

    fn is_full(&self) -> bool {
        self.rows.len() >= self.limit
    }

    /// Takes the next that the cache has, and before it what belongs there.
    fn found(&mut self, document: Arc<Document>) -> ControlFlow<()> {
        let matcher = self.matcher;
        let before = |row: &Row| matcher.compare(&row.0, &document) == Ordering::Less;
        while let Some(row) = self.overlaid.next_if(before) {
            self.take(row);
        }
        self.take((document, false));
        if self.is_full() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

impl Engine {
    /// Up to which version listeners have been shown everything: what the cache has of later versions, from
    /// a get, must not lie under pending writes that they see. What the server is about to tell of a new
    /// target may be of an earlier version than an answer that has come.
    pub(super) fn shown_through(&self) -> Version {
        let unknown = match self.connection.online() {
            Some(_) => Version::NONE,
            None => Version(u64::MAX),
        };
        let of_documents = self.targets.by_id.values().filter(|it| !it.is_aggregate());
        let shown = of_documents
            .map(|listened| self.targets.token(listened).map_or(unknown, |token| token.version));
        shown.min().unwrap_or(Version(u64::MAX))
    }

    /// Sees to it that what the cache has of these documents lies under their pending writes.
    pub(super) fn load_bases<'a>(&mut self, paths: impl IntoIterator<Item = &'a DocumentPath>) {
        let shown = self.shown_through();
        for path in paths {
            if self.documents.remote(path).is_none() {
                // What cannot be read is not known.
                let known = self.cached(path).unwrap_or_default();
                if version_of(&known).is_some_and(|at| at <= shown) {
                    self.documents.put_base(path, known);
                }
            }
        }
    }

    /// The same for all that have pending writes and could be in the query's result.
    pub(super) fn load_bases_of(&mut self, query: &Query) {
        let paths = self.pending_of(query);
        self.load_bases(&paths);
    }

    fn pending_of(&self, query: &Query) -> Vec<DocumentPath> {
        let paths = self.documents.pending_paths();
        paths.filter(|path| query.is_over(path.as_str())).cloned().collect()
    }

    /// What the cache has of a document, what it is still to store included.
    pub(super) fn cached(&mut self, path: &DocumentPath) -> Result<Known, CacheError> {
        self.flush();
        self.cache.document(path)
    }

    /// What the server told last of a document, and as of when; none if that is not known.
    pub(super) fn base(&mut self, path: &DocumentPath) -> Result<Option<Base>, CacheError> {
        let remote = self.documents.remote(path);
        if remote.is_some() && self.documents.is_in_a_target(path) {
            return Ok(remote);
        }
        let cached = self.cached(path)?;
        let cached = version_of(&cached).map(|at| (cached.into_document(), at));
        Ok(match (remote, cached) {
            (Some(remote), Some(cached)) if remote.1 < cached.1 => Some(cached),
            (remote, cached) => remote.or(cached),
        })
    }

    /// A document as this client believes it to be.
    pub(super) fn local_document(&mut self, path: &DocumentPath) -> Result<Local, CacheError> {
        let base = self.base(path)?;
        let known = base.is_some();
        let (document, at) = base.unwrap_or((None, Version::NONE));
        let (document, pending) = self.documents.laid_over(path, document, at, &self.outbox);
        if known || pending { Ok(Local::Known(document, pending)) } else { Ok(Local::Unknown) }
    }

    /// The result of a query, whole documents, as this client believes it to be.
    pub(super) fn local_result(&mut self, query: &Query) -> Result<Vec<Row>, CacheError> {
        let forward = Query { projection: None, ..query.forward() };
        let matcher = Matcher::new(forward.clone());
        let paths = self.pending_of(query);
        let mut overlaid = Vec::new();
        for path in &paths {
            if let Local::Known(Some(document), pending) = self.local_document(path)?
                && matcher.matches(&document)
            {
                overlaid.push((document, pending));
            }
        }
        overlaid.sort_by(|(a, _), (b, _)| matcher.compare(a, b));
        let remembered = self.remembered(query)?;
        let aside: HashSet<&DocumentPath> = paths.iter().collect();
        let (skip, limit) = match query.nearest {
            Some(_) => (0, usize::MAX),
            None => window(query),
        };
        let overlaid = overlaid.into_iter().peekable();
        let mut merge = Merge { matcher: &matcher, overlaid, skip, limit, rows: Vec::new() };
        if limit > 0 {
            self.cache.find(&forward, &mut |document| {
                let allowed = remembered.as_ref().is_none_or(|it| it.allows(&document));
                if aside.contains(&document.path) || !allowed {
                    return ControlFlow::Continue(());
                }
                merge.found(document)
            })?;
        }
        while let Some(row) = merge.overlaid.next() {
            merge.take(row);
        }
        let mut rows = merge.rows;
        if query.limit_to_last {
            rows.reverse();
        }
        Ok(rows)
    }

    /// What the cache knows of the query's result itself. Beyond a window there may be others, and whole
    /// documents are what is listened to.
    fn remembered(&mut self, query: &Query) -> Result<Option<Remembered>, CacheError> {
        self.flush();
        let whole = Query { projection: None, nearest: None, ..query.clone() };
        if whole.limit.is_some() || whole.offset > 0 {
            return Ok(None);
        }
        let key = canonical_target(&Target::Query(whole));
        let Some(token) = self.cache.target(&key)? else { return Ok(None) };
        let members = self.cache.target_documents(&key)?;
        let members = members.iter().map(|document| document.path.clone()).collect();
        Ok(Some(Remembered { members, version: token.version }))
    }

    /// The values of an aggregate, computed over what this client believes; and whether pending writes
    /// are in them.
    pub(super) fn local_values(
        &mut self,
        aggregate: &AggregateQuery,
    ) -> Result<(Vec<Value>, bool), CacheError> {
        let mut state = AggregateState::new(&aggregate.aggregations);
        let rows = self.local_result(&aggregate.matched())?;
        rows.iter().for_each(|(document, _)| state.add(document));
        let pending = self.pending_of(&aggregate.query);
        let has_pending = pending.iter().any(|path| self.documents.is_overlaid(path, &self.outbox));
        Ok((state.values(), has_pending))
    }

    /// Answers a request from the cache.
    pub(super) fn answer_locally(&mut self, request: &Request) -> Result<Answer, Error> {
        let mut has_pending_writes = false;
        let mut answer = Answer::default();
        match request {
            Request::Get { paths, overlay } => {
                for path in paths {
                    let row = self.get_locally(path, *overlay)?;
                    has_pending_writes |= row.metadata.has_pending_writes;
                    answer.documents.push(row);
                }
            }
            Request::Query { query, .. } => {
                let mut rows = self.local_result(query)?;
                if let Some(nearest) = &query.nearest {
                    let found = rows.iter().map(|(document, _)| &**document).collect();
                    let near: Vec<DocumentPath> =
                        nearest.select(found).iter().map(|it| it.path.clone()).collect();
                    let place = |row: &Row| near.iter().position(|path| *path == row.0.path);
                    rows.retain(|row| place(row).is_some());
                    rows.sort_by_key(place);
                }
                let cut = query.projection.is_some() || query.nearest.is_some();
                for (document, pending) in rows {
                    let document = if cut { Arc::new(query.result(&document)) } else { document };
                    has_pending_writes |= pending;
                    let metadata = from_cache(pending);
                    answer.documents.push(DocumentSnapshot::existing(document, metadata));
                }
            }
            Request::Aggregate { aggregate, .. } => {
                (answer.values, has_pending_writes) = self.local_values(aggregate)?;
            }
        }
        answer.metadata = from_cache(has_pending_writes);
        Ok(answer)
    }

    fn get_locally(
        &mut self,
        path: &DocumentPath,
        overlay: bool,
    ) -> Result<DocumentSnapshot, Error> {
        let local = match overlay {
            true => self.local_document(path)?,
            false => match self.base(path)? {
                Some((document, _)) => Local::Known(document, false),
                None => Local::Unknown,
            },
        };
        match local {
            Local::Known(Some(document), pending) => {
                Ok(DocumentSnapshot::existing(document, from_cache(pending)))
            }
            Local::Known(None, pending) => {
                Ok(DocumentSnapshot::missing(path.clone(), from_cache(pending)))
            }
            Local::Unknown => Err(Error::unavailable(format!(
                "the document {path} is not in the cache; it may exist on the server"
            ))),
        }
    }
}

/// As of when it is known.
fn version_of(known: &Known) -> Option<Version> {
    match known {
        Known::Unknown => None,
        Known::Missing { at } => Some(*at),
        Known::Document(document) => Some(document.update_version),
    }
}

fn from_cache(has_pending_writes: bool) -> SnapshotMetadata {
    SnapshotMetadata { from_cache: true, has_pending_writes }
}

/// How many documents are left out first, and how many are wanted then.
fn window(query: &Query) -> (usize, usize) {
    let number = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
    (number(query.offset), query.limit.map_or(usize::MAX, number))
}
