//! The window of a query for a part of its order: the documents up to the end of that part and some
//! slack behind them, so that a removal needs the store only when the slack is spent.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use tidemark_protocol::model::{Document, DocumentPath, Matcher};

use super::commit::{Change, Stored};
use super::delta::DocumentChange;
use super::source::{Shape, Span};

/// The first documents of an order as of one version.
#[derive(Debug)]
pub(super) struct Window {
    span: Span,
    /// In order; those in the span are the result.
    rows: Vec<Arc<Stored>>,
    /// No document of the order is missing from `rows`.
    complete: bool,
}

impl Window {
    /// How many documents a full window has.
    pub(super) fn capacity(span: Span) -> usize {
        let end = span.end();
        end.saturating_add((end / 2).clamp(8, 256))
    }

    /// A window from the first `capacity` documents.
    pub(super) fn new(span: Span, rows: Vec<Arc<Stored>>) -> Window {
        let complete = rows.len() < Window::capacity(span);
        Window { span, rows, complete }
    }

    /// The result.
    pub(super) fn visible(&self) -> &[Arc<Stored>] {
        self.span.within(&self.rows)
    }

    /// Whether documents of the result may be missing.
    pub(super) fn needs_refill(&self) -> bool {
        self.rows.len() < self.span.end() && !self.complete
    }

    /// Takes the place of this window, which was about the same state.
    pub(super) fn replace(&mut self, other: Window, moves: &mut Moves) {
        self.visible().iter().for_each(|row| moves.leave(row));
        other.visible().iter().for_each(|row| moves.enter(row));
        *self = other;
    }

    /// Brings the window past a change, and notes what that does to the result.
    pub(super) fn apply(&mut self, matcher: &Matcher, change: &Change, moves: &mut Moves) {
        if let Some(before) = &change.before
            && !self.is_beyond(matcher, &before.document)
        {
            let at = self.place(matcher, &before.document);
            if self.rows.get(at).is_some_and(|row| row.document.path == change.path) {
                self.take_out(at, moves);
            }
        }
        let Some(after) = &change.after else { return };
        // Behind the last row there may be others that are not in the window.
        if !self.complete && self.is_beyond(matcher, &after.document) {
            return;
        }
        if matcher.matches(&after.document) {
            self.put_in(self.place(matcher, &after.document), after, moves);
        }
        if self.rows.len() > Window::capacity(self.span) {
            self.rows.pop();
            self.complete = false;
        }
    }

    fn is_beyond(&self, matcher: &Matcher, document: &Document) -> bool {
        self.rows.last().is_none_or(|last| matcher.compare(&last.document, document).is_lt())
    }

    /// Where the document is, or would be.
    fn place(&self, matcher: &Matcher, document: &Document) -> usize {
        self.rows.partition_point(|row| matcher.compare(&row.document, document).is_lt())
    }

    fn take_out(&mut self, at: usize, moves: &mut Moves) {
        let row = self.rows.remove(at);
        if at < self.span.skip {
            // All behind it move up: the first of the result leaves it.
            if let Some(first) = self.rows.get(self.span.skip - 1) {
                moves.leave(first);
            }
        } else if at < self.span.end() {
            moves.leave(&row);
        } else {
            return;
        }
        if let Some(last) = self.rows.get(self.span.end() - 1) {
            moves.enter(last);
        }
    }

    fn put_in(&mut self, at: usize, row: &Arc<Stored>, moves: &mut Moves) {
        self.rows.insert(at, Arc::clone(row));
        if at < self.span.skip {
            // All behind it move down: the last before the result enters it.
            if let Some(first) = self.rows.get(self.span.skip) {
                moves.enter(first);
            }
        } else if at < self.span.end() {
            moves.enter(row);
        } else {
            return;
        }
        if let Some(next) = self.rows.get(self.span.end()) {
            moves.leave(next);
        }
    }
}

/// What happened to each document of a result between two versions.
#[derive(Default)]
pub(super) struct Moves {
    moves: Vec<Move>,
    positions: HashMap<DocumentPath, usize>,
}

/// A document in the result before and after; none is out of it.
#[derive(Default)]
pub(super) struct Move {
    pub(super) before: Option<Arc<Stored>>,
    pub(super) after: Option<Arc<Stored>>,
}

impl Moves {
    /// From one result to another.
    pub(super) fn between(before: &[Arc<Stored>], after: &[Arc<Stored>]) -> Moves {
        let mut moves = Moves::default();
        before.iter().for_each(|row| moves.leave(row));
        after.iter().for_each(|row| moves.enter(row));
        moves
    }

    fn leave(&mut self, row: &Arc<Stored>) {
        let (new, it) = self.entry(row);
        if new {
            it.before = Some(Arc::clone(row));
        }
        it.after = None;
    }

    fn enter(&mut self, row: &Arc<Stored>) {
        self.entry(row).1.after = Some(Arc::clone(row));
    }

    /// The move of a document; true if there was none yet.
    fn entry(&mut self, row: &Stored) -> (bool, &mut Move) {
        let path = &row.document.path;
        let known = self.positions.get(path).copied();
        let at = known.unwrap_or_else(|| {
            self.positions.insert(path.clone(), self.moves.len());
            self.moves.push(Move::default());
            self.moves.len() - 1
        });
        (known.is_none(), &mut self.moves[at])
    }

    /// Those that are a change: into the result, out of it, or of a document in it.
    pub(super) fn changed(self) -> impl Iterator<Item = Move> {
        let version = |row: &Option<Arc<Stored>>| row.as_ref().map(|it| it.document.update_version);
        self.moves.into_iter().filter(move |it| version(&it.before) != version(&it.after))
    }

    /// As told to those who listen; `deleted` are the documents that do not exist any more.
    pub(super) fn into_changes(
        self,
        shape: &Shape,
        deleted: &HashSet<&DocumentPath>,
    ) -> Vec<(DocumentPath, DocumentChange)> {
        self.changed()
            .filter_map(|Move { before, after }| match (before, after) {
                (_, Some(after)) => {
                    let present = DocumentChange::Present(shape.encode(&after));
                    Some((after.document.path.clone(), present))
                }
                (Some(before), None) => {
                    let path = before.document.path.clone();
                    let deleted = deleted.contains(&path);
                    Some((path, DocumentChange::Removed { deleted }))
                }
                (None, None) => None,
            })
            .collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};
    use tidemark_protocol::model::{
        CollectionPath, Direction, FieldPath, Fields, Query, Value, Version,
    };

    use super::*;

    fn matcher() -> Matcher {
        let query = Query::collection(&CollectionPath::parse("c").unwrap());
        Matcher::new(query.with_order(FieldPath::parse("n").unwrap(), Direction::Ascending))
    }

    fn stored(id: u32, n: Option<i64>, version: u64) -> Arc<Stored> {
        let path = DocumentPath::parse(&format!("c/{id}")).unwrap();
        let fields = n.map(|n| ("n".to_owned(), Value::Integer(n)));
        let fields = Fields::from_iter(fields);
        let (create_version, update_version) = (Version(1), Version(version));
        Stored::encode(Document {
            path,
            fields,
            create_version,
            update_version,
            merge: Default::default(),
        })
    }

    fn sorted(state: &HashMap<u32, Arc<Stored>>, matcher: &Matcher) -> Vec<Arc<Stored>> {
        let matching = state.values().filter(|it| matcher.matches(&it.document));
        let mut rows: Vec<_> = matching.cloned().collect();
        rows.sort_by(|a, b| matcher.compare(&a.document, &b.document));
        rows
    }

    fn names(rows: &[Arc<Stored>]) -> Vec<(String, Version)> {
        rows.iter().map(|it| (it.document.path.to_string(), it.document.update_version)).collect()
    }

    /// The window follows random commits; what its moves make of the result before is the result.
    #[test]
    fn moves_lead_from_one_result_to_the_next() {
        let (matcher, mut refills) = (matcher(), 0);
        for seed in 0..60 {
            let mut rng = StdRng::seed_from_u64(seed);
            let take = (seed % 3 > 0).then(|| rng.random_range(1..5));
            let span = Span { skip: rng.random_range(0..4), take };
            let mut state: HashMap<u32, Arc<Stored>> = HashMap::new();
            let mut window = Window::new(span, vec![]);
            let mut told: HashMap<DocumentPath, Version> = HashMap::new();
            for version in 2..200 {
                let mut moves = Moves::default();
                for _ in 0..rng.random_range(1..4) {
                    let id = rng.random_range(0..30);
                    let n = rng.random_bool(0.8).then(|| rng.random_range(0..6));
                    let after = rng.random_bool(0.6).then(|| stored(id, n, version));
                    let path = DocumentPath::parse(&format!("c/{id}")).unwrap();
                    let before = match &after {
                        Some(after) => state.insert(id, Arc::clone(after)),
                        None => state.remove(&id),
                    };
                    window.apply(&matcher, &Change { path, before, after }, &mut moves);
                }
                let mut rows = sorted(&state, &matcher);
                if window.needs_refill() {
                    refills += 1;
                    rows.truncate(Window::capacity(span));
                    window.replace(Window::new(span, rows.clone()), &mut moves);
                }
                assert_eq!(names(window.visible()), names(span.within(&rows)), "seed {seed}");
                for Move { before, after } in moves.changed() {
                    let row = after.as_ref().or(before.as_ref()).unwrap();
                    let path = row.document.path.clone();
                    let was = match &after {
                        Some(after) => told.insert(path, after.document.update_version),
                        None => told.remove(&path),
                    };
                    assert_eq!(was, before.map(|row| row.document.update_version), "seed {seed}");
                }
                let expected = window.visible().iter();
                let expected =
                    expected.map(|it| (it.document.path.clone(), it.document.update_version));
                assert_eq!(told, expected.collect(), "seed {seed}");
            }
        }
        assert!(refills > 20, "only {refills} refills");
    }

    #[test]
    fn what_is_beyond_the_window_is_compared_and_left_alone() {
        let matcher = matcher();
        let span = Span { skip: 0, take: Some(2) };
        let rows: Vec<_> = (0..10).map(|id| stored(id, Some(i64::from(id)), 1)).collect();
        let mut window = Window::new(span, rows);
        let (before, after) = (stored(50, Some(50), 1), stored(50, Some(40), 2));
        let path = after.document.path.clone();
        let change = Change { path, before: Some(before), after: Some(after) };
        let mut moves = Moves::default();
        window.apply(&matcher, &change, &mut moves);
        assert_eq!(window.rows.len(), 10);
        assert_eq!(moves.changed().count(), 0);
    }
}
