//! Runs a plan: opens a stream for each conjunction in each collection, when it is needed, and merges
//! them in the query's order without repetitions.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidemark_protocol::model::{CollectionPath, Direction, DocumentPath, Matcher};
use tidemark_protocol::wire::server::Explanation;

use super::conjunction::{Conjunction, are_disjoint};
use super::context::{Cancelled, Context, Cost, View};
use super::plan::Access;
use super::planner::{Planner, Targets};
use super::sites::Sites;
use super::stream::Stream;
use crate::engine::commit::Stored;
use crate::engine::error::EngineError;

/// Documents given out at a time.
const CHUNK: usize = 256;

/// What is wanted of a query's documents.
#[derive(Clone, Copy)]
pub(in crate::engine) struct Wanted<'a> {
    /// Whether they have to come in the query's order.
    pub(in crate::engine) ordered: bool,
    /// How many at most.
    pub(in crate::engine) take: usize,
    /// Whether they are not wanted any more.
    pub(in crate::engine) cancelled: Cancelled<'a>,
}

impl Wanted<'_> {
    /// The first so many in order.
    pub(in crate::engine) fn first(take: usize) -> Wanted<'static> {
        Wanted { ordered: true, take, cancelled: &|| false }
    }

    /// All of them.
    pub(in crate::engine) fn all_in_any_order() -> Wanted<'static> {
        Wanted { ordered: false, take: usize::MAX, cancelled: &|| false }
    }
}

/// The collections that have not been opened.
enum Rest {
    None,
    /// All at once, or one after the other if the order is not wanted.
    Collections(Sites),
    /// In the order of names: each when its turn comes.
    ByName(Sites),
}

/// The documents of a query, without its offset and its limit, which are in `Wanted::take`.
pub(in crate::engine) struct Rows<'a> {
    cx: Context<'a>,
    branches: Vec<Conjunction>,
    /// Of each conjunction, if there are several.
    matchers: Vec<Arc<Matcher>>,
    rest: Rest,
    streams: Vec<Stream>,
    /// Those that have a next document, the first one last.
    heads: Vec<usize>,
    /// Those of which it is not known whether they have one.
    unfilled: Vec<usize>,
    given: usize,
    last: Option<DocumentPath>,
    /// What was given, where that may come again.
    seen: Option<HashSet<DocumentPath>>,
    steps: Vec<String>,
    accesses: Vec<Access>,
    /// The first conjunction that no index answers alone.
    partial: Option<usize>,
    has_points: bool,
    sites_opened: u64,
}

impl<'a> Rows<'a> {
    /// The documents of the matcher's query.
    pub(in crate::engine) fn new(
        view: View<'a>,
        matcher: &'a Matcher,
        wanted: Wanted<'a>,
    ) -> Rows<'a> {
        let Wanted { ordered, take, cancelled } = wanted;
        let cost = Cost::default();
        let cx = Context { view, matcher, ordered, take, cancelled, cost };
        let mut rows = Rows {
            cx,
            branches: vec![],
            matchers: vec![],
            rest: Rest::None,
            streams: vec![],
            heads: vec![],
            unfilled: vec![],
            given: 0,
            last: None,
            seen: None,
            steps: vec![],
            accesses: vec![],
            partial: None,
            has_points: false,
            sites_opened: 0,
        };
        rows.plan();
        rows
    }

    fn planner(&self) -> Planner<'a> {
        let View { keys, indexes, .. } = self.cx.view;
        let Context { matcher, ordered, take, .. } = self.cx;
        Planner { keys, indexes, matcher, ordered, limited: take < usize::MAX }
    }

    fn plan(&mut self) {
        let planner = self.planner();
        let query = self.cx.matcher.query();
        let Targets { branches, points } = planner.targets();
        let may_repeat = !are_disjoint(&branches) || (!points.is_empty() && !branches.is_empty());
        self.seen = (may_repeat && !self.cx.ordered).then(HashSet::new);
        if !points.is_empty() {
            self.has_points = true;
            // They are sorted: it does not matter which conjunction finds them.
            self.open(vec![Access::Points(points)]);
        }
        if branches.len() > 1 {
            let matchers = branches.iter().map(|branch| Arc::new(branch.matcher(self.cx.matcher)));
            self.matchers = matchers.collect();
        }
        self.branches = branches;
        if self.branches.is_empty() {
            return;
        }
        if !query.all_descendants {
            return self.open_collection(&query.collection_path());
        }
        let of_group: Option<Vec<Access>> =
            self.branches.iter().map(|branch| planner.in_group(branch)).collect();
        if let Some(accesses) = of_group {
            return self.open(accesses);
        }
        if !self.cx.view.indexes.collections_are_known() {
            return self.open(vec![planner.everywhere()]);
        }
        let keys = self.cx.view.keys;
        self.rest = match self.cx.matcher.order() {
            [only] if only.field.is_document_id() && self.cx.ordered => {
                Rest::ByName(Sites::new(keys, query, only.direction))
            }
            _ => Rest::Collections(Sites::new(keys, query, Direction::Ascending)),
        };
    }

    fn open_collection(&mut self, collection: &CollectionPath) {
        let planner = self.planner();
        let accesses =
            self.branches.iter().map(|branch| planner.in_collection(branch, collection)).collect();
        self.open(accesses);
        self.sites_opened += 1;
    }

    /// Opens streams: one for each conjunction, or one for all.
    fn open(&mut self, accesses: Vec<Access>) {
        let clauses = if self.cx.ordered { self.cx.matcher.order().len() } else { 0 };
        // Of many collections the first stands for all.
        let is_first = self.sites_opened == 0;
        for (at, access) in accesses.into_iter().enumerate() {
            if is_first {
                let is_complete = access.is_exact() && access.presorted() >= clauses;
                if !is_complete && self.partial.is_none() && !self.branches.is_empty() {
                    self.partial = Some(at);
                }
                access.describe(clauses, 0, &mut self.steps);
                self.accesses.push(access.clone());
            }
            self.streams.push(Stream::new(access, self.matchers.get(at).cloned()));
            self.unfilled.push(self.streams.len() - 1);
        }
    }

    /// The next documents; none at the end.
    pub(in crate::engine) async fn next(
        &mut self,
    ) -> Result<Option<Vec<Arc<Stored>>>, EngineError> {
        let mut chunk = Vec::new();
        while chunk.len() < CHUNK && self.given < self.cx.take {
            let next =
                if self.cx.ordered { self.pop_ordered().await? } else { self.pop_any().await? };
            let Some(row) = next else { break };
            self.given += 1;
            chunk.push(row);
        }
        Ok((!chunk.is_empty()).then_some(chunk))
    }

    /// The next documents as they are stored; none at the end. Not to be mixed with `next`.
    pub(in crate::engine) async fn next_bytes(
        &mut self,
    ) -> Result<Option<Vec<Bytes>>, EngineError> {
        let left = self.cx.take - self.given;
        if let ([stream], Rest::None) = (&mut self.streams[..], &self.rest)
            && self.seen.is_none()
            && let Some(rows) = stream.next_bytes(&mut self.cx, left).await?
        {
            self.given += rows.len();
            return Ok((!rows.is_empty()).then_some(rows));
        }
        let rows = self.next().await?;
        Ok(rows.map(|rows| rows.iter().map(|row| row.bytes.clone()).collect()))
    }

    /// Whether a document may be found by two streams.
    pub(super) fn may_repeat(&self) -> bool {
        self.seen.is_some()
    }

    /// The next stream, of those of an order that is not wanted.
    pub(super) async fn next_stream(
        &mut self,
    ) -> Result<Option<(&mut Stream, &mut Context<'a>)>, EngineError> {
        while self.unfilled.is_empty() {
            if !self.open_next(None).await? {
                return Ok(None);
            }
        }
        let at = self.unfilled.pop().expect("one has been opened");
        Ok(Some((&mut self.streams[at], &mut self.cx)))
    }

    async fn pop_any(&mut self) -> Result<Option<Arc<Stored>>, EngineError> {
        loop {
            let Some(at) = self.unfilled.last().copied() else {
                if self.open_next(None).await? {
                    continue;
                }
                return Ok(None);
            };
            if !self.streams[at].fill(&mut self.cx, usize::MAX).await? {
                self.unfilled.pop();
                // Nothing is left in it; its memory is not needed any more.
                self.streams[at] = Stream::new(Access::Nothing, None);
                continue;
            }
            let Some(row) = self.streams[at].pop() else { continue };
            let is_new =
                self.seen.as_mut().is_none_or(|seen| seen.insert(row.document.path.clone()));
            if is_new {
                return Ok(Some(row));
            }
        }
    }

    async fn pop_ordered(&mut self) -> Result<Option<Arc<Stored>>, EngineError> {
        loop {
            self.fill().await?;
            let Some(at) = self.heads.pop() else { return Ok(None) };
            let row = self.streams[at].pop().expect("a stream among the heads has a document");
            self.unfilled.push(at);
            // The order is total: what comes twice comes next.
            if self.last.as_ref() != Some(&row.document.path) {
                self.last = Some(row.document.path.clone());
                return Ok(Some(row));
            }
        }
    }

    /// Makes known which document comes next.
    async fn fill(&mut self) -> Result<(), EngineError> {
        // All of them are known first, so that none is read as if it were alone.
        while matches!(self.rest, Rest::Collections(_)) && self.open_next(None).await? {}
        loop {
            while let Some(at) = self.unfilled.pop() {
                let left = self.cx.take - self.given;
                let live = self.heads.len() + self.unfilled.len() + 1;
                let hint = if live == 1 { left } else { left.div_ceil(live).max(2) };
                if self.streams[at].fill(&mut self.cx, hint).await? {
                    self.insert_head(at);
                } else {
                    self.streams[at] = Stream::new(Access::Nothing, None);
                }
            }
            let head = self.heads.last().and_then(|at| self.streams[*at].head());
            let head = head.map(|row| row.document.path.clone());
            if !self.open_next(head.as_ref()).await? {
                return Ok(());
            }
        }
    }

    fn insert_head(&mut self, at: usize) {
        let Some(head) = self.streams[at].head() else { return };
        let comes_later = |other: &usize| {
            self.streams[*other].head().is_some_and(|other| {
                self.cx.matcher.compare(&other.document, &head.document).is_gt()
            })
        };
        let place = self.heads.partition_point(comes_later);
        self.heads.insert(place, at);
    }

    /// Opens further collections if documents of theirs may come before `head`. False: there are none.
    async fn open_next(&mut self, head: Option<&DocumentPath>) -> Result<bool, EngineError> {
        let (sites, head) = match &mut self.rest {
            Rest::None => return Ok(false),
            Rest::Collections(sites) => (sites, None),
            Rest::ByName(sites) => (sites, head),
        };
        let collections = sites.next(&mut self.cx, head).await?;
        for collection in &collections {
            self.open_collection(collection);
        }
        Ok(!collections.is_empty())
    }

    /// How it is done, and what it took so far. `results` is how many documents were made of it.
    pub(in crate::engine) fn explain(&self, results: u64, time: Duration) -> Explanation {
        let cost = &self.cx.cost;
        let mut steps = self.header();
        let depth = "  ".repeat(steps.len());
        steps.extend(self.steps.iter().map(|step| format!("{depth}{step}")));
        steps.extend(cost.notes().iter().map(|note| format!("decided: {note}")));
        let is_expensive = cost.entries.max(cost.documents) > 2 * results + 20
            || (cost.sorted && self.cx.take < usize::MAX);
        let planner = self.planner();
        // What the collections of a group answer one by one an index of the group answers alone.
        let partial = self.partial.or((!matches!(self.rest, Rest::None)).then_some(0));
        let branch = partial.and_then(|at| self.branches.get(at));
        let suggestion = match branch.filter(|_| is_expensive) {
            Some(branch) => planner.suggestion(branch),
            None => None,
        };
        let mut indexes: Vec<String> = cost.indexes.iter().cloned().collect();
        if indexes.is_empty() {
            self.accesses.iter().for_each(|access| access.indexes(&mut indexes));
        }
        Explanation {
            steps,
            entries_scanned: cost.entries,
            documents_read: cost.documents,
            results,
            time,
            indexes,
            suggestion,
        }
    }

    fn header(&self) -> Vec<String> {
        let mut header = Vec::new();
        let mut line = |text: String| header.push(format!("{}{text}", "  ".repeat(header.len())));
        let is_group = !matches!(self.rest, Rest::None);
        if is_group {
            let id = &self.cx.matcher.query().collection_id;
            line(format!("merge the collections {id} ({} opened)", self.sites_opened));
        }
        if self.branches.len() + usize::from(self.has_points) > 1 {
            line(format!("merge {} conditions", self.accesses.len()));
        }
        header
    }
}
