//! Chooses how the documents of a query are found: for each conjunction of its filter, and in each
//! place where it looks, the indexes that leave the least to read. Pure. Every document found is
//! checked by the matcher, so that a bad choice costs time and never a wrong answer.

use tidemark_protocol::model::{
    CollectionPath, Direction, DocumentPath, FieldPath, IndexDefinition, IndexField, IndexMode,
    IndexScope, Matcher,
};

use super::conjunction::{Conjunction, disjunctions};
use super::fit::{Candidate, Fit, Shape, fit};
use super::plan::{Access, Scan, Site, Source};
use crate::engine::index::{EntryKind, IndexSet};
use crate::engine::keys::Keys;
use crate::store::ScanDirection;

/// Plans one query.
pub(super) struct Planner<'a> {
    pub(super) keys: Keys,
    pub(super) indexes: &'a IndexSet,
    pub(super) matcher: &'a Matcher,
    /// Whether the order matters.
    pub(super) ordered: bool,
    /// Whether only the first documents are wanted.
    pub(super) limited: bool,
}

/// What a query asks for, and where.
pub(super) struct Targets {
    /// At least one of them holds.
    pub(super) branches: Vec<Conjunction>,
    /// Documents that are asked for by name.
    pub(super) points: Vec<DocumentPath>,
}

impl Planner<'_> {
    /// The conjunctions; those that name a document apart.
    pub(super) fn targets(&self) -> Targets {
        let mut targets = Targets { branches: vec![], points: vec![] };
        for branch in disjunctions(self.matcher.query().filter.as_ref()) {
            match branch.point() {
                Some(path) => targets.points.push(path.clone()),
                None => targets.branches.push(branch),
            }
        }
        targets.points.sort();
        targets.points.dedup();
        targets
    }

    /// How to find the documents of a conjunction in a collection.
    pub(super) fn in_collection(
        &self,
        branch: &Conjunction,
        collection: &CollectionPath,
    ) -> Access {
        let site = Site::Collection(collection.clone());
        let shape = self.shape(branch, &site);
        let mut fits = self.fits(&shape);
        if let Some(best) = take_complete(&mut fits) {
            return Access::Scan(best.scan);
        }
        let documents = fit(&shape, &Candidate::documents(self.keys, collection));
        let documents = documents.expect("a collection has all of its documents");
        if documents.scan.exact && documents.is_ordered {
            return Access::Scan(documents.scan);
        }
        self.choose(fits, Some(documents)).unwrap_or(Access::Nothing)
    }

    /// How to find them in a whole group; none if no index of the group helps.
    pub(super) fn in_group(&self, branch: &Conjunction) -> Option<Access> {
        let site = Site::Group { parent: self.matcher.query().parent.clone() };
        let shape = self.shape(branch, &site);
        let mut fits = self.fits(&shape);
        if let Some(best) = take_complete(&mut fits) {
            return Some(Access::Scan(best.scan));
        }
        let has_filter = !branch.equal.is_empty() || !branch.ranges.is_empty();
        fits.retain(|fit| !has_filter || !fit.settled.is_empty() || fit.is_narrowed);
        self.choose(fits, None)
    }

    /// All documents of the database: when the collections of a group are not known.
    pub(super) fn everywhere(&self) -> Access {
        Access::Scan(Scan {
            source: Source::Documents,
            index: None,
            conditions: vec!["of the whole database".to_owned()],
            ranges: vec![self.keys.documents()],
            direction: ScanDirection::Forward,
            presorted: if self.ordered { 0 } else { usize::MAX },
            exact: false,
        })
    }

    fn shape<'s>(&'s self, conjunction: &'s Conjunction, site: &'s Site) -> Shape<'s> {
        Shape { matcher: self.matcher, conjunction, site, ordered: self.ordered }
    }

    /// What the indexes can do for it.
    fn fits(&self, shape: &Shape<'_>) -> Vec<Fit> {
        let candidates = self.candidates(shape.conjunction, shape.site);
        candidates.iter().filter_map(|candidate| fit(shape, candidate)).collect()
    }

    /// The indexes that have something to do with the conjunction.
    fn candidates<'s>(&'s self, branch: &Conjunction, site: &Site) -> Vec<Candidate<'s>> {
        let id = &self.matcher.query().collection_id;
        let scope = match site {
            Site::Collection(_) => IndexScope::Collection,
            Site::Group { .. } => IndexScope::Group,
        };
        let declared = self.indexes.composites(id).filter(|it| it.definition.scope == scope);
        let mut out: Vec<_> =
            declared.map(|index| Candidate::composite(self.keys, index, site)).collect();
        let Site::Collection(collection) = site else { return out };
        let mut fields: Vec<(&FieldPath, EntryKind)> = Vec::new();
        for equality in &branch.equal {
            let kind = if equality.contains { EntryKind::Element } else { EntryKind::Value };
            fields.push((&equality.field, kind));
        }
        let ranges = branch.ranges.iter().map(|filter| &filter.field);
        let order = self.matcher.order().iter().map(|clause| &clause.field);
        fields.extend(ranges.chain(order).map(|field| (field, EntryKind::Value)));
        for (at, (field, kind)) in fields.iter().enumerate() {
            if !fields[..at].contains(&(*field, *kind)) && self.indexes.automatic(id, field) {
                out.push(Candidate::automatic(self.keys, collection, field, *kind));
            }
        }
        out
    }

    /// The best of what none does alone.
    fn choose(&self, fits: Vec<Fit>, documents: Option<Fit>) -> Option<Access> {
        let lists = lists(&fits);
        let settled = lists.as_ref().map_or(0, |lists| lists.settled);
        let by_equality = lists.map(|mut lists| match lists.scans.len() {
            1 => Access::Scan(lists.scans.remove(0)),
            _ => Access::Intersection(lists.scans),
        });
        let (mut rest, is_narrowed) = others(fits);
        let clauses = self.matcher.order().len();
        if !is_narrowed && by_equality.as_ref().is_some_and(|it| it.presorted() >= clauses) {
            return by_equality;
        }
        rest.extend(documents);
        let rank = |fit: &Fit| {
            let ordered = self.limited && fit.is_ordered;
            (ordered, fit.settled.len(), fit.is_narrowed, fit.scan.presorted)
        };
        rest.sort_by_key(|fit| std::cmp::Reverse(rank(fit)));
        let is_useful = |fit: &Fit| {
            let in_order = self.limited && fit.scan.presorted > 0;
            fit.is_narrowed || !fit.settled.is_empty() || in_order
        };
        let first = rest.iter().position(is_useful).map(|at| rest.remove(at));
        let Some(first) = first else {
            return by_equality
                .or_else(|| (!rest.is_empty()).then(|| Access::Scan(rest.remove(0).scan)));
        };
        if first.settled.len() >= settled && (settled > 0 || (self.ordered && first.is_ordered)) {
            return Some(Access::Scan(first.scan));
        }
        // Another stretch may be shorter than the first.
        let other =
            || rest.into_iter().find(|fit| fit.is_narrowed).map(|fit| Access::Scan(fit.scan));
        match by_equality.or_else(other) {
            None => Some(Access::Scan(first.scan)),
            // The one that is often short comes first.
            Some(second) => Some(Access::Race(vec![second, Access::Scan(first.scan)])),
        }
    }

    /// The declared index that would answer a conjunction alone.
    pub(super) fn suggestion(&self, branch: &Conjunction) -> Option<IndexDefinition> {
        let query = self.matcher.query();
        let scope = if query.all_descendants { IndexScope::Group } else { IndexScope::Collection };
        let mut fields: Vec<IndexField> = Vec::new();
        let mut has_contains = false;
        for equality in &branch.equal {
            if fields.iter().any(|it| it.field == equality.field)
                || (equality.contains && has_contains)
            {
                continue;
            }
            has_contains |= equality.contains;
            let mode = if equality.contains { IndexMode::Contains } else { IndexMode::Ascending };
            fields.push(IndexField { field: equality.field.clone(), mode });
        }
        for clause in self.matcher.order() {
            if clause.field.is_document_id() || fields.iter().any(|it| it.field == clause.field) {
                continue;
            }
            let mode = match clause.direction {
                Direction::Ascending => IndexMode::Ascending,
                Direction::Descending => IndexMode::Descending,
            };
            fields.push(IndexField { field: clause.field.clone(), mode });
        }
        let definition =
            IndexDefinition { collection_id: query.collection_id.clone(), scope, fields };
        let is_automatic = scope == IndexScope::Collection
            && matches!(&definition.fields[..], [only] if self.indexes.automatic(&query.collection_id, &only.field));
        let exists =
            self.indexes.composites(&query.collection_id).any(|it| it.definition == definition);
        (definition.validate().is_ok() && !is_automatic && !exists).then_some(definition)
    }
}

/// Takes out the fit that has everything: all conditions, and the order.
fn take_complete(fits: &mut Vec<Fit>) -> Option<Fit> {
    let at = fits.iter().position(|fit| fit.scan.exact && fit.is_ordered)?;
    Some(fits.swap_remove(at))
}

/// Lists for equalities.
struct Lists {
    scans: Vec<Scan>,
    /// How many equalities they settle together.
    settled: usize,
}

/// Lists that settle as many equalities as can be, none twice.
fn lists(fits: &[Fit]) -> Option<Lists> {
    let mut lists: Vec<&Fit> = fits.iter().filter(|fit| fit.is_list).collect();
    lists.sort_by_key(|fit| std::cmp::Reverse(fit.settled.len()));
    let mut settled: Vec<usize> = Vec::new();
    let mut scans = Vec::new();
    for fit in lists {
        if fit.settled.iter().any(|at| !settled.contains(at)) {
            settled.extend(&fit.settled);
            scans.push(fit.scan.clone());
        }
    }
    settled.sort_unstable();
    settled.dedup();
    (!scans.is_empty()).then_some(Lists { scans, settled: settled.len() })
}

/// Those that are no lists, and whether a range narrows one of them.
fn others(fits: Vec<Fit>) -> (Vec<Fit>, bool) {
    let rest: Vec<Fit> = fits.into_iter().filter(|fit| !fit.is_list).collect();
    let is_narrowed = rest.iter().any(|fit| fit.is_narrowed);
    (rest, is_narrowed)
}
