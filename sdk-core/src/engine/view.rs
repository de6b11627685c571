//! A target's result, kept sorted: one changed document costs a binary search and the shift of a few
//! pointers. Tells the steps from the former result to the new one. Driven by the engine.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use tidemark_protocol::model::{Document, DocumentPath, Matcher, Target, TargetId, Version};

use super::diff;
use super::overlay::Seen;
use crate::snapshot::{ChangeKind, DocumentChange, DocumentSnapshot, SnapshotMetadata};

/// From this many on, documents are taken out in one pass instead of one by one.
const MANY: usize = 16;

/// Which documents, and in which order.
enum Selector {
    Query(Box<Matcher>),
    /// Sorted.
    Documents(Vec<DocumentPath>),
}

impl Selector {
    fn matches(&self, document: &Document) -> bool {
        match self {
            Selector::Query(matcher) => matcher.matches(document),
            Selector::Documents(paths) => paths.binary_search(&document.path).is_ok(),
        }
    }

    fn compare(&self, a: &Document, b: &Document) -> Ordering {
        match self {
            Selector::Query(matcher) => matcher.compare(a, b),
            Selector::Documents(_) => a.path.cmp(&b.path),
        }
    }
}

/// What became of one document in a view: as it was there, and as it is.
#[derive(Debug)]
pub(crate) struct Edit {
    pub(crate) before: Option<Arc<Document>>,
    pub(crate) after: Option<(Arc<Document>, bool)>,
}

/// A step, and whether it is of interest only for its metadata.
pub(crate) type Step = (DocumentChange, bool);

/// A target's result.
pub(crate) struct View {
    selector: Selector,
    limit: usize,
    /// Whether the last of them are shown instead of the first.
    to_last: bool,
    /// Whether the first of them are left out: which, is the server's word. It sends those that are not,
    /// so nothing is left out here; and what only pending writes bring could be before or after them.
    offset: bool,
    /// Sorted; may exceed the limit until the server has told which to drop.
    all: Arc<Vec<DocumentSnapshot>>,
    /// How many of them have pending writes.
    pending: usize,
    from_cache: bool,
}

impl View {
    pub(crate) fn new(target: &Target) -> View {
        let selector = match target {
            Target::Query(query) => Selector::Query(Box::new(Matcher::new(query.clone()))),
            Target::Documents(paths) => Selector::Documents(paths.clone()),
            // No documents come for it, only values.
            Target::Aggregate(_) => Selector::Documents(vec![]),
        };
        let (limit, to_last, offset) = match target {
            Target::Query(query) => (query.limit, query.limit_to_last, query.offset > 0),
            Target::Documents(_) | Target::Aggregate(_) => (None, false, false),
        };
        let limit = limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
        let all = Arc::default();
        View { selector, limit, to_last, offset, all, pending: 0, from_cache: true }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// The document as this view has it, if it has it: by the server's word or by a pending write,
    /// and only as long as it matches.
    /// `through`: up to where it has the server's word on everything.
    pub(crate) fn visible(
        &self,
        id: TargetId,
        seen: &Seen,
        through: Version,
    ) -> Option<Arc<Document>> {
        let document = seen.document.as_ref()?;
        let by_a_write = seen.pending && !self.offset && seen.until > through;
        let candidate = by_a_write || seen.targets.contains(id);
        (candidate && self.selector.matches(document)).then(|| document.clone())
    }

    /// Whether it has this document, as it is.
    pub(crate) fn has(&self, document: &Document) -> bool {
        self.find(document).is_some()
    }

    /// Whether the document is in the result, limit aside; `known`: the server has it in the result.
    pub(crate) fn selects(&self, document: &Document, known: bool) -> bool {
        (known || !self.offset) && self.selector.matches(document)
    }

    /// Which of all are shown.
    fn window(&self) -> Range<usize> {
        let beyond = self.all.len().saturating_sub(self.limit);
        if self.to_last { beyond..self.all.len() } else { 0..self.all.len() - beyond }
    }

    /// The result.
    pub(crate) fn shown(&self) -> Arc<Vec<DocumentSnapshot>> {
        if self.all.len() <= self.limit {
            self.all.clone()
        } else {
            Arc::new(self.all[self.window()].to_vec())
        }
    }

    /// Whether the result shows pending writes.
    pub(crate) fn has_pending(&self) -> bool {
        self.pending > 0
            && (self.all.len() <= self.limit
                || self.all[self.window()].iter().any(|row| row.metadata.has_pending_writes))
    }

    pub(crate) fn set_from_cache(&mut self, from_cache: bool) {
        if self.from_cache != from_cache {
            self.from_cache = from_cache;
            for row in Arc::make_mut(&mut self.all) {
                row.metadata.from_cache = from_cache;
            }
        }
    }

    /// Applies edits, one per document at most, and tells the steps.
    pub(crate) fn apply(&mut self, edits: Vec<Edit>) -> Vec<Step> {
        let growth = edits.iter().filter(|edit| edit.before.is_none()).count();
        if self.all.len() + growth <= self.limit {
            return self.edit(edits);
        }
        let before = self.shown();
        self.edit(edits);
        let after = self.shown();
        let changes = diff::steps(&before, &after, |old, new| old != new);
        let mut steps: Vec<Step> = changes.into_iter().map(|change| (change, false)).collect();
        // Last, where they do not move: some listeners are not told of them.
        let rows: HashMap<_, _> = before.iter().map(|row| (row.path(), row)).collect();
        for (index, row) in after.iter().enumerate() {
            if rows.get(row.path()).is_some_and(|old| *old == row && !old.looks_like(row)) {
                let (kind, document) = (ChangeKind::Modified, row.clone());
                let (old_index, new_index) = (Some(index), Some(index));
                steps.push((DocumentChange { kind, document, old_index, new_index }, true));
            }
        }
        steps
    }

    fn edit(&mut self, edits: Vec<Edit>) -> Vec<Step> {
        let mut steps = Vec::with_capacity(edits.len());
        let mut removed = Vec::new();
        let mut changed = Vec::new();
        let mut added = Vec::new();
        for edit in edits {
            let place = edit.before.as_ref().and_then(|before| self.find(before));
            match (place, edit.before, edit.after) {
                (Some(place), _, None) => removed.push(place),
                (Some(_), Some(before), Some(after)) => changed.push((before, self.row(after))),
                (_, _, Some(after)) => added.push(self.row(after)),
                (None, _, None) => {}
            }
        }
        self.take_out(removed, &mut steps);
        for (before, row) in changed {
            self.change(&before, row, &mut steps);
        }
        self.put_in(added, &mut steps);
        steps
    }

    fn row(&self, (document, pending): (Arc<Document>, bool)) -> DocumentSnapshot {
        let metadata =
            SnapshotMetadata { from_cache: self.from_cache, has_pending_writes: pending };
        DocumentSnapshot::existing(document, metadata)
    }

    fn order(&self, row: &DocumentSnapshot, document: &Document) -> Ordering {
        let row = row.document().expect("a view holds documents that exist");
        self.selector.compare(row, document)
    }

    fn find(&self, document: &Document) -> Option<usize> {
        self.all.binary_search_by(|row| self.order(row, document)).ok()
    }

    /// Places are of the list as it is, and may come in any order.
    fn take_out(&mut self, mut places: Vec<usize>, steps: &mut Vec<Step>) {
        if places.is_empty() {
            return;
        }
        places.sort_unstable_by_key(|place| std::cmp::Reverse(*place));
        let all = Arc::make_mut(&mut self.all);
        for place in &places {
            let document = all[*place].clone();
            self.pending -= usize::from(document.metadata.has_pending_writes);
            let old_index = Some(*place);
            let kind = ChangeKind::Removed;
            steps.push((DocumentChange { kind, document, old_index, new_index: None }, false));
        }
        if places.len() < MANY {
            places.iter().for_each(|place| drop(all.remove(*place)));
            return;
        }
        let mut index = 0;
        all.retain(|_| {
            let gone = places.last() == Some(&index);
            if gone {
                places.pop();
            }
            index += 1;
            !gone
        });
    }

    fn change(&mut self, before: &Document, row: DocumentSnapshot, steps: &mut Vec<Step>) {
        let old_index =
            self.find(before).expect("it was found, and its order has not changed since");
        let old = &self.all[old_index];
        if old.looks_like(&row) {
            return;
        }
        let metadata_only = *old == row;
        self.pending -= usize::from(old.metadata.has_pending_writes);
        self.pending += usize::from(row.metadata.has_pending_writes);
        let document = row.document().expect("a view holds documents that exist").clone();
        let after_left =
            old_index == 0 || self.order(&self.all[old_index - 1], &document) == Ordering::Less;
        let before_right = self
            .all
            .get(old_index + 1)
            .is_none_or(|right| self.order(right, &document) == Ordering::Greater);
        let new_index = if after_left && before_right {
            Arc::make_mut(&mut self.all)[old_index] = row.clone();
            old_index
        } else {
            Arc::make_mut(&mut self.all).remove(old_index);
            let place =
                self.all.partition_point(|other| self.order(other, &document) == Ordering::Less);
            Arc::make_mut(&mut self.all).insert(place, row.clone());
            place
        };
        let change = DocumentChange {
            kind: ChangeKind::Modified,
            document: row,
            old_index: Some(old_index),
            new_index: Some(new_index),
        };
        steps.push((change, metadata_only));
    }

    fn put_in(&mut self, mut rows: Vec<DocumentSnapshot>, steps: &mut Vec<Step>) {
        if rows.is_empty() {
            return;
        }
        let selector = &self.selector;
        let order = |a: &DocumentSnapshot, b: &DocumentSnapshot| {
            let existing = "a view holds documents that exist";
            selector.compare(a.document().expect(existing), b.document().expect(existing))
        };
        // The server sends them in order: finding that out is all that there is to sort.
        rows.sort_by(order);
        self.pending += rows.iter().filter(|row| row.metadata.has_pending_writes).count();
        let all = Arc::make_mut(&mut self.all);
        let mut added = |index: usize, document: &DocumentSnapshot| {
            let (kind, document) = (ChangeKind::Added, document.clone());
            let change = DocumentChange { kind, document, old_index: None, new_index: Some(index) };
            steps.push((change, false));
        };
        if rows.len() < MANY {
            for row in rows {
                let place = all.partition_point(|other| order(other, &row) == Ordering::Less);
                added(place, &row);
                all.insert(place, row);
            }
            return;
        }
        let former = std::mem::take(all);
        all.reserve_exact(former.len() + rows.len());
        let mut former = former.into_iter().peekable();
        for row in rows {
            while let Some(earlier) = former.next_if(|other| order(other, &row) == Ordering::Less) {
                all.push(earlier);
            }
            added(all.len(), &row);
            all.push(row);
        }
        all.extend(former);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeMap;

    use tidemark_protocol::model::*;

    use super::*;

    fn last(limit: u32) -> Query {
        ordered(None).with_limit_to_last(limit)
    }

    fn ordered(limit: Option<u32>) -> Query {
        let mut query = Query::collection(&CollectionPath::parse("c").unwrap());
        let field = FieldPath::parse("n").unwrap();
        query.order_by = vec![Order { field, direction: Direction::Descending }];
        query.limit = limit;
        query
    }

    fn document(number: u64, n: u64, version: u64) -> Arc<Document> {
        let path = DocumentPath::parse(&format!("c/{number}")).unwrap();
        let fields = Fields::from([("n".to_owned(), Value::Integer(n as i64))]);
        let (create_version, update_version) = (Version(1), Version(version));
        Arc::new(Document {
            path,
            fields,
            create_version,
            update_version,
            merge: Default::default(),
        })
    }

    /// Random sets of edits, small and large: the view is the sorted truth, and its steps lead there.
    fn check(query: &Query, seed: u64) {
        let mut view = View::new(&Target::Query(query.clone()));
        let mut truth: BTreeMap<DocumentPath, (Arc<Document>, bool)> = BTreeMap::new();
        let mut copy: Vec<DocumentSnapshot> = Vec::new();
        let mut state = seed;
        let mut below = move |bound: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(seed | 1);
            (state >> 33) % bound
        };
        for version in 1..60 {
            let count = if below(3) == 0 { below(80) } else { below(4) };
            let mut edits = BTreeMap::new();
            for _ in 0..count {
                let document = document(below(100), below(30), version);
                let path = document.path.clone();
                let before = truth.get(&path).map(|(document, _)| document.clone());
                let after = (below(4) > 0).then_some((document, below(2) == 0));
                edits.entry(path).or_insert(Edit { before, after });
            }
            for (path, edit) in &edits {
                match &edit.after {
                    Some(after) => truth.insert(path.clone(), after.clone()),
                    None => truth.remove(path),
                };
            }
            for (change, _) in view.apply(edits.into_values().collect()) {
                if let Some(index) = change.old_index {
                    assert_eq!(copy.remove(index).path(), change.document.path());
                }
                if let Some(index) = change.new_index {
                    copy.insert(index, change.document);
                }
            }
            let mut sorted: Vec<_> = truth.values().cloned().collect();
            sorted.sort_by(|(a, _), (b, _)| query.compare(a, b));
            let limit = query.limit.map_or(usize::MAX, |limit| limit as usize);
            if query.limit_to_last {
                sorted.drain(..sorted.len().saturating_sub(limit));
            }
            sorted.truncate(limit);
            let shown: Vec<_> = view
                .shown()
                .iter()
                .map(|row| (row.document().unwrap().clone(), row.metadata.has_pending_writes))
                .collect();
            assert_eq!(shown, sorted, "seed {seed} version {version}");
            assert_eq!(copy, *view.shown(), "seed {seed} version {version}");
            assert_eq!(view.has_pending(), sorted.iter().any(|(_, pending)| *pending));
        }
    }

    #[test]
    fn a_view_is_the_sorted_truth_and_its_steps_lead_there() {
        for seed in 0..40 {
            for limit in [None, Some(1), Some(7), Some(60)] {
                check(&ordered(limit), seed);
            }
            for limit in [1, 7, 60] {
                check(&last(limit), seed);
            }
        }
    }

    #[test]
    fn a_changed_document_is_found_without_looking_at_the_others() {
        let mut view = View::new(&Target::Query(ordered(None)));
        let added = |n| Edit { before: None, after: Some((document(n, n, 1), false)) };
        view.apply((0..10_000).map(added).collect());
        let kept = view.shown();
        let addresses = |rows: &[DocumentSnapshot]| -> Vec<*const Document> {
            rows.iter().map(|row| Arc::as_ptr(row.document().unwrap())).collect()
        };
        let before = addresses(&kept);
        drop(kept);
        let edit =
            Edit { before: Some(document(5, 5, 1)), after: Some((document(5, 9_998, 2), false)) };
        let steps = view.apply(vec![edit]);
        assert_eq!((steps[0].0.old_index, steps[0].0.new_index), (Some(9_994), Some(2)));
        let after = addresses(&view.shown());
        assert_eq!(before[..2], after[..2], "documents are shared");
        assert_eq!(before[9_995..], after[9_995..], "documents are shared");
    }
}
