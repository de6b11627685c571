//! The documents of one conjunction in one place, in the query's order: fetched in batches, checked by
//! the matcher, and sorted as far as the index has left that to do.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use tidemark_protocol::model::{DocumentPath, Matcher};

use super::context::Context;
use super::feed::{Batch, Feed, Found};
use super::intersect::Intersection;
use super::plan::{Access, Scan};
use super::sort::sorted;
use crate::engine::commit::Stored;
use crate::engine::error::EngineError;
use crate::store::Key;

/// Rows read at a time: where many do not match, at first; of an unlimited query, at first; at most.
const FIRST_ROWS: (usize, usize) = (4, 64);
const MOST_ROWS: usize = 1_024;
/// What a contender may read before the other has its turn; doubles.
const FIRST_BUDGET: u64 = 16;

/// Where the documents come from.
enum Origin {
    Scan(Feed),
    Intersection(Intersection),
    Points(Vec<DocumentPath>),
    /// Answers are not known to be better from any of them yet.
    Race(Vec<Stream>),
    Nothing,
}

pub(super) struct Stream {
    origin: Origin,
    label: String,
    /// Decides about its documents; none: the query's own. What only another conjunction finds would
    /// come here in no order.
    matcher: Option<Arc<Matcher>>,
    /// How many of the first clauses of the order the documents come in.
    presorted: usize,
    /// What is read is what is returned.
    exact: bool,
    /// The most rows of the next batch.
    rows: usize,
    /// Documents in order that can go out.
    ready: VecDeque<Arc<Stored>>,
    /// Documents that have to be sorted among each other.
    run: Vec<Arc<Stored>>,
    /// The last document put into the run.
    last: Option<(Arc<Stored>, bool)>,
    done: bool,
}

impl Stream {
    pub(super) fn new(access: Access, matcher: Option<Arc<Matcher>>) -> Stream {
        let (presorted, exact) = (access.presorted(), access.is_exact());
        let label = label(&access);
        let origin = match access {
            Access::Nothing => Origin::Nothing,
            Access::Points(paths) => Origin::Points(paths),
            Access::Scan(scan) => Origin::Scan(Feed::new(scan)),
            Access::Intersection(lists) => Origin::Intersection(Intersection::new(lists)),
            Access::Race(contenders) => {
                let stream = |access| Stream::new(access, matcher.clone());
                Origin::Race(contenders.into_iter().map(stream).collect())
            }
        };
        Stream {
            origin,
            label,
            matcher,
            presorted,
            exact,
            rows: 0,
            ready: VecDeque::new(),
            run: Vec::new(),
            last: None,
            done: false,
        }
    }

    /// The next document, if it has been read.
    pub(super) fn head(&self) -> Option<&Arc<Stored>> {
        self.ready.front()
    }

    /// Takes it.
    pub(super) fn pop(&mut self) -> Option<Arc<Stored>> {
        self.ready.pop_front()
    }

    /// How many of the next keys there are, if each stands for a document of the result; 0 at the end.
    pub(super) async fn count_keys(
        &mut self,
        cx: &mut Context<'_>,
        most: usize,
    ) -> Result<Option<usize>, EngineError> {
        match &mut self.origin {
            Origin::Scan(feed) if self.exact => {
                Ok(Some(feed.rows(cx, most.min(MOST_ROWS)).await?.len()))
            }
            Origin::Nothing => Ok(Some(0)),
            Origin::Scan(_) | Origin::Intersection(_) | Origin::Points(_) | Origin::Race(_) => {
                Ok(None)
            }
        }
    }

    /// The next documents as they are stored, if these are all documents of a range: no need to
    /// decode them. Empty at the end.
    pub(super) async fn next_bytes(
        &mut self,
        cx: &mut Context<'_>,
        most: usize,
    ) -> Result<Option<Vec<Bytes>>, EngineError> {
        let Origin::Scan(feed) = &mut self.origin else { return Ok(None) };
        if !self.exact || !feed.is_of_documents() || !self.ready.is_empty() {
            return Ok(None);
        }
        let rows = feed.rows(cx, most.min(MOST_ROWS)).await?;
        cx.cost.documents += rows.len() as u64;
        Ok(Some(rows.into_iter().map(|(_, value)| value).collect()))
    }

    /// Takes away documents that are ready.
    pub(super) fn take_ready(&mut self, most: usize) -> usize {
        let count = self.ready.len().min(most);
        self.ready.drain(..count);
        count
    }

    /// Reads until there is a next document or the end; `hint` is how many are wanted soon. False:
    /// this is the end.
    pub(super) async fn fill(
        &mut self,
        cx: &mut Context<'_>,
        hint: usize,
    ) -> Result<bool, EngineError> {
        if let Origin::Race(_) = self.origin {
            self.race(cx).await?;
        }
        while self.ready.is_empty() && !self.done {
            self.step(cx, hint, usize::MAX).await?;
        }
        Ok(!self.ready.is_empty())
    }

    /// Lets the contenders read in turns, each with a budget that doubles, and becomes the one that is
    /// done first: at most about four times its cost is spent.
    async fn race(&mut self, cx: &mut Context<'_>) -> Result<(), EngineError> {
        let Origin::Race(contenders) = &mut self.origin else { return Ok(()) };
        let mut contenders = std::mem::take(contenders);
        let mut budget = FIRST_BUDGET;
        loop {
            for at in 0..contenders.len() {
                let contender = &mut contenders[at];
                let until = cx.cost.entries + budget;
                while !contender.is_satisfied(cx) && cx.cost.entries < until {
                    let most = usize::try_from(until - cx.cost.entries).unwrap_or(usize::MAX);
                    contender.step(cx, cx.take, most).await?;
                }
                if contender.is_satisfied(cx) {
                    cx.cost.note(|| format!("done first: {}", contender.label));
                    *self = contenders.swap_remove(at);
                    return Ok(());
                }
            }
            budget *= 2;
        }
    }

    /// Whether it needs to read no further.
    fn is_satisfied(&self, cx: &Context<'_>) -> bool {
        self.done || self.ready.len() >= cx.take
    }

    /// Reads one batch.
    async fn step(
        &mut self,
        cx: &mut Context<'_>,
        hint: usize,
        most: usize,
    ) -> Result<(), EngineError> {
        let rows = self.next_rows(cx, hint).min(most);
        match &mut self.origin {
            Origin::Nothing | Origin::Race(_) => self.done = true,
            Origin::Points(paths) => {
                let keys: Vec<Key> = paths.iter().map(|path| cx.view.keys.document(path)).collect();
                let found = cx.view.snapshot.get_many(&keys).await?;
                cx.cost.documents += found.iter().flatten().count() as u64;
                self.done = true;
                for bytes in found.into_iter().flatten() {
                    self.push(cx, bytes, false).await?;
                }
            }
            Origin::Scan(feed) => {
                let batch = feed.batch(cx, rows).await?;
                self.done = feed.is_done();
                match batch {
                    Batch::Documents(documents) => {
                        cx.cost.documents += documents.len() as u64;
                        for bytes in documents {
                            self.push(cx, bytes, false).await?;
                        }
                    }
                    Batch::Found(found) => {
                        self.push_found(cx, found).await?;
                    }
                }
            }
            Origin::Intersection(lists) if lists.is_fresh() => {
                let found = lists.probe(cx).await?;
                let probed = found.len();
                let matched = self.push_found(cx, found).await?;
                if let Origin::Intersection(lists) = &mut self.origin {
                    lists.decide(cx, probed, matched);
                    self.done = lists.is_done();
                }
            }
            Origin::Intersection(lists) => {
                let found = lists.batch(cx, rows).await?;
                self.done = lists.is_done();
                self.push_found(cx, found).await?;
            }
        }
        if self.done {
            self.close_run(cx).await?;
        }
        Ok(())
    }

    /// How many rows to read: as many as are wanted, but more and more where few of them match.
    fn next_rows(&mut self, cx: &Context<'_>, hint: usize) -> usize {
        if self.rows == 0 {
            let is_sorted = self.presorted > 0 || !cx.ordered;
            self.rows = match (self.exact, hint < MOST_ROWS && is_sorted) {
                (true, true) => MOST_ROWS,
                (false, true) => hint.clamp(FIRST_ROWS.0, FIRST_ROWS.1),
                (true | false, false) => FIRST_ROWS.1,
            };
        }
        let rows = self.rows;
        self.rows = (self.rows * 2).min(MOST_ROWS);
        let is_ready = self.presorted >= cx.matcher.order().len();
        if self.exact && is_ready { rows.min(hint.max(1)) } else { rows }
    }

    /// Returns how many matched.
    async fn push_found(
        &mut self,
        cx: &mut Context<'_>,
        found: Vec<Found>,
    ) -> Result<usize, EngineError> {
        let (keys, truncated): (Vec<Key>, Vec<bool>) =
            found.into_iter().map(|found| (found.key, found.truncated)).unzip();
        let documents = cx.fetch(&keys).await?;
        let mut matched = 0;
        for (bytes, truncated) in documents.into_iter().zip(truncated) {
            matched += usize::from(self.push(cx, bytes, truncated).await?);
        }
        Ok(matched)
    }

    /// Puts in a document, if it matches.
    async fn push(
        &mut self,
        cx: &mut Context<'_>,
        bytes: Bytes,
        truncated: bool,
    ) -> Result<bool, EngineError> {
        let stored = Stored::decode(bytes)?;
        if !self.matcher.as_deref().unwrap_or(cx.matcher).matches(&stored.document) {
            return Ok(false);
        }
        let clauses = cx.matcher.order().len();
        let is_ready = !cx.ordered || (self.presorted >= clauses && !truncated);
        let continues = !is_ready
            && self.last.as_ref().is_some_and(|(last, last_truncated)| {
                (truncated && *last_truncated)
                    || (self.presorted < clauses
                        && cx
                            .matcher
                            .compare_by_first(self.presorted, &last.document, &stored.document)
                            .is_eq())
            });
        if !continues {
            self.close_run(cx).await?;
        }
        if is_ready {
            self.ready.push_back(stored);
            return Ok(true);
        }
        self.last = Some((Arc::clone(&stored), truncated));
        self.run.push(stored);
        // What cannot be among the first is let go, so that a small limit needs little memory.
        if self.run.len() > cx.take.saturating_mul(2).saturating_add(MOST_ROWS) {
            let run = sorted(std::mem::take(&mut self.run), cx).await?;
            self.run = run;
        }
        Ok(true)
    }

    async fn close_run(&mut self, cx: &mut Context<'_>) -> Result<(), EngineError> {
        self.last = None;
        if self.run.is_empty() {
            return Ok(());
        }
        cx.cost.sorted |= self.presorted == 0 && self.run.len() > 1;
        let run = sorted(std::mem::take(&mut self.run), cx).await?;
        self.ready.extend(run);
        Ok(())
    }
}

fn label(access: &Access) -> String {
    let of = |scan: &Scan| scan.index.clone().unwrap_or_else(|| "documents".to_owned());
    match access {
        Access::Nothing | Access::Points(_) | Access::Race(_) => String::new(),
        Access::Scan(scan) => of(scan),
        Access::Intersection(lists) => lists.iter().map(of).collect::<Vec<_>>().join(" with "),
    }
}
