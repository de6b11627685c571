//! What one index can do for one conjunction: which keys of it to read, in which direction, and how
//! much of the conditions and of the order that settles. Pure; the planner compares the answers.

use std::cmp::Ordering;

use tidemark_protocol::model::{
    CollectionPath, Cursor, Direction, DocumentPath, FieldFilter, FieldPath, IndexMode, Matcher,
    Operator, Order, Value, key,
};

use super::conjunction::Conjunction;
use super::plan::{Scan, Site, Source};
use super::span::{Position, Span, ValueSpans, narrow};
use crate::engine::index::{Composite, EntryKind, append_indexed, invert};
use crate::engine::keys::Keys;
use crate::store::{Key, ScanDirection};

/// What is asked of an index.
pub(super) struct Shape<'a> {
    pub(super) matcher: &'a Matcher,
    pub(super) conjunction: &'a Conjunction,
    pub(super) site: &'a Site,
    /// Whether the order matters.
    pub(super) ordered: bool,
}

/// What an index has, or the documents themselves.
pub(super) struct Candidate<'a> {
    label: Option<String>,
    fields: Vec<(FieldPath, IndexMode)>,
    prefix: Key,
    source: Source,
    composite: Option<&'a Composite>,
}

/// What it does.
pub(super) struct Fit {
    pub(super) scan: Scan,
    /// The equalities that it settles, by their place in the conjunction.
    pub(super) settled: Vec<usize>,
    /// It has nothing but them: its documents come in the order of names.
    pub(super) is_list: bool,
    /// Ranges narrow what is read.
    pub(super) is_narrowed: bool,
    /// It has the whole order.
    pub(super) is_ordered: bool,
}

/// A position in the order as far as an index can tell it.
struct Place {
    bytes: Vec<u8>,
    /// Whether keys that begin with the bytes are within.
    include: bool,
    exact: bool,
}

impl Site {
    fn collection(&self) -> Option<&CollectionPath> {
        match self {
            Site::Collection(collection) => Some(collection),
            Site::Group { .. } => None,
        }
    }
}

impl<'a> Candidate<'a> {
    /// The documents of a collection.
    pub(super) fn documents(keys: Keys, collection: &CollectionPath) -> Candidate<'a> {
        Candidate {
            label: None,
            fields: vec![],
            prefix: keys.collection(collection).start,
            source: Source::Documents,
            composite: None,
        }
    }

    /// The automatic index of a field, or of the elements of its arrays.
    pub(super) fn automatic(
        keys: Keys,
        collection: &CollectionPath,
        field: &FieldPath,
        kind: EntryKind,
    ) -> Candidate<'a> {
        let (mode, suffix) = match kind {
            EntryKind::Value => (IndexMode::Ascending, ""),
            EntryKind::Element => (IndexMode::Contains, " contains"),
        };
        Candidate {
            label: Some(format!("{}({field}{suffix})", collection.id())),
            fields: vec![(field.clone(), mode)],
            prefix: keys.field_index(collection, field, kind),
            source: Source::Ids { collection: collection.clone(), inverted: false },
            composite: None,
        }
    }

    /// A declared index.
    pub(super) fn composite(keys: Keys, composite: &'a Composite, site: &Site) -> Candidate<'a> {
        let inverted = composite.has_inverted_names();
        let (prefix, source) = match site {
            Site::Collection(collection) => (
                keys.composite(composite.id, Some(collection)),
                Source::Ids { collection: collection.clone(), inverted },
            ),
            Site::Group { parent } => (
                keys.composite(composite.id, None),
                Source::Paths { parent: parent.clone(), inverted },
            ),
        };
        let fields = composite.definition.fields.iter();
        Candidate {
            label: Some(composite.definition.to_string()),
            fields: fields.map(|it| (it.field.clone(), it.mode)).collect(),
            prefix,
            source,
            composite: Some(composite),
        }
    }

    fn inverted_names(&self) -> bool {
        match self.source {
            Source::Documents => false,
            Source::Ids { inverted, .. } | Source::Paths { inverted, .. } => inverted,
        }
    }

    /// A value as the entries have it at this position, and whether it was cut off.
    fn encode(&self, position: usize, value: &Value) -> (Vec<u8>, bool) {
        let mut bytes = Vec::new();
        let cut = match self.composite {
            Some(composite) => composite.append_value(position, value, &mut bytes),
            None => append_indexed(value, false, &mut bytes),
        };
        (bytes, cut)
    }

    fn is_descending(&self, position: usize) -> bool {
        self.fields[position].1 == IndexMode::Descending
    }
}

/// How an index and a conjunction go together, found step by step.
struct Fitting<'a> {
    shape: &'a Shape<'a>,
    candidate: &'a Candidate<'a>,
    /// The clauses of the order in which documents can differ.
    clauses: Vec<&'a Order>,
    settled: Vec<usize>,
    /// Whether reading backward gives the query's order.
    backward: bool,
    /// How many of `clauses` the index has.
    ordered: usize,
    exact: bool,
    conditions: Vec<String>,
}

/// What the candidate does for the shape; none: it lacks documents, or has them twice.
pub(super) fn fit(shape: &Shape<'_>, candidate: &Candidate<'_>) -> Option<Fit> {
    let conjunction = shape.conjunction;
    let order = shape.matcher.order().iter();
    let clauses = order.filter(|clause| conjunction.fixed(&clause.field).is_none()).collect();
    let mut fitting = Fitting {
        shape,
        candidate,
        clauses,
        settled: vec![],
        backward: false,
        ordered: 0,
        exact: true,
        conditions: vec![],
    };
    let mut prefix = candidate.prefix.clone();
    let tail = fitting.take_equalities(&mut prefix);
    if !candidate.fields[tail..].iter().all(|field| fitting.has_documents_of(field)) {
        return None;
    }
    fitting.take_order(tail);
    Some(fitting.finish(&prefix, tail))
}

impl Fitting<'_> {
    /// Settles the equalities that the index begins with; how many fields those are.
    fn take_equalities(&mut self, prefix: &mut Key) -> usize {
        let equal = &self.shape.conjunction.equal;
        for (position, (field, mode)) in self.candidate.fields.iter().enumerate() {
            let contains = *mode == IndexMode::Contains;
            let found = (0..equal.len()).find(|at| {
                let equality = &equal[*at];
                equality.field == *field
                    && equality.contains == contains
                    && !self.settled.contains(at)
            });
            let Some(at) = found else { return position };
            let (bytes, cut) = self.candidate.encode(position, &equal[at].value);
            self.exact &= !cut;
            prefix.extend_from_slice(&bytes);
            self.settled.push(at);
            let operator = if contains { "contains" } else { "equal" };
            self.conditions.push(format!("{field} {operator}"));
        }
        self.candidate.fields.len()
    }

    /// Whether the index has each document of the result, and once, as far as this field goes.
    fn has_documents_of(&self, (field, mode): &(FieldPath, IndexMode)) -> bool {
        *mode != IndexMode::Contains
            && (self.shape.conjunction.requires(field)
                || self.shape.matcher.order().iter().any(|clause| clause.field == *field))
    }

    /// How much of the order the fields after the equalities have.
    fn take_order(&mut self, tail: usize) {
        let mut backward: Option<bool> = None;
        let mut agrees = |turned: bool| *backward.get_or_insert(turned) == turned;
        let mut complete = true;
        for (field, mode) in &self.candidate.fields[tail..] {
            if self.shape.conjunction.fixed(field).is_some() {
                continue;
            }
            let clause = self.clauses.get(self.ordered).filter(|clause| clause.field == *field);
            let turned = |clause: &Order| {
                (*mode == IndexMode::Descending) != (clause.direction == Direction::Descending)
            };
            if !clause.is_some_and(|clause| agrees(turned(clause))) {
                complete = false;
                break;
            }
            self.ordered += 1;
        }
        let inverted = self.candidate.inverted_names();
        if complete
            && let Some(clause) = self.clauses.get(self.ordered)
            && clause.field.is_document_id()
            && agrees(inverted != (clause.direction == Direction::Descending))
        {
            self.ordered += 1;
        }
        // Lists are read in the order of names, so that they can be intersected.
        let is_list = tail == self.candidate.fields.len();
        self.backward = backward.unwrap_or(is_list && inverted);
    }

    fn finish(mut self, prefix: &[u8], tail: usize) -> Fit {
        let conjunction = self.shape.conjunction;
        let is_list = tail == self.candidate.fields.len();
        let (mut spans, is_narrowed) =
            if is_list { self.name_spans() } else { self.value_spans(tail) };
        self.take_cursors(tail, &mut spans);
        let in_index = |field: &FieldPath| {
            field.is_document_id() || self.candidate.fields.iter().any(|(it, _)| it == field)
        };
        self.exact &= self.settled.len() == conjunction.equal.len()
            && self.shape.matcher.order().iter().all(|clause| in_index(&clause.field));
        if self.backward {
            spans.reverse();
        }
        let presorted = if self.shape.ordered { self.presorted() } else { usize::MAX };
        Fit {
            scan: Scan {
                source: self.candidate.source.clone(),
                index: self.candidate.label.clone(),
                conditions: self.conditions,
                ranges: spans.iter().map(|span| span.keys(prefix)).collect(),
                direction: if self.backward {
                    ScanDirection::Backward
                } else {
                    ScanDirection::Forward
                },
                presorted,
                exact: self.exact,
            },
            settled: self.settled,
            is_list,
            is_narrowed,
            is_ordered: presorted >= self.shape.matcher.order().len(),
        }
    }

    /// How many of the first clauses of the whole order the index has.
    fn presorted(&self) -> usize {
        let mut left = self.ordered;
        let mut count = 0;
        for clause in self.shape.matcher.order() {
            if self.shape.conjunction.fixed(&clause.field).is_none() {
                if left == 0 {
                    break;
                }
                left -= 1;
            }
            count += 1;
        }
        count
    }

    /// The values of the first field after the equalities, as conditions on it leave them.
    fn value_spans(&mut self, tail: usize) -> (Vec<Span>, bool) {
        let Shape { conjunction, site, .. } = *self.shape;
        let field = &self.candidate.fields[tail].0;
        let descending = self.candidate.is_descending(tail);
        let on_field = || conjunction.ranges.iter().filter(|filter| filter.field == *field);
        let found = ValueSpans::of(on_field(), |value| {
            let (mut bytes, cut) = self.candidate.encode(tail, value);
            if descending {
                invert(&mut bytes);
            }
            (bytes, cut)
        });
        self.exact &= found.exact
            && on_field().count() == conjunction.ranges.len()
            && conjunction.names.is_empty()
            && !matches!(site, Site::Group { parent: Some(_) });
        if on_field().next().is_some() {
            self.conditions.push(format!("{field} range"));
        }
        // What leaves out a few values leaves most of an index to read.
        let leaves_out = |operator| matches!(operator, Operator::NotEqual | Operator::NotIn);
        let is_narrowed = on_field().any(|filter| !leaves_out(filter.operator));
        (if descending { inverted(found.spans) } else { found.spans }, is_narrowed)
    }

    /// The names that conditions on them leave.
    fn name_spans(&mut self) -> (Vec<Span>, bool) {
        let Shape { conjunction, site, .. } = *self.shape;
        self.exact &= conjunction.ranges.is_empty();
        let mut spans = vec![Span::all()];
        let mut is_narrowed = false;
        for filter in &conjunction.names {
            match name_span(site, filter) {
                Some(span) => {
                    narrow(&mut spans, &span);
                    is_narrowed = true;
                }
                None => self.exact = false,
            }
        }
        if let Site::Group { parent: Some(parent) } = site {
            let mut bytes = Vec::new();
            parent.segments().for_each(|segment| key::encode_bytes(segment.as_bytes(), &mut bytes));
            let mut below = Span::of(bytes);
            // The parent itself is first, and may be in a collection of the group.
            below.low = Position::after(name_position(site, parent).bytes);
            narrow(&mut spans, &below);
            is_narrowed = true;
        }
        if is_narrowed {
            self.conditions.push("__name__ range".to_owned());
        }
        let spans = if self.candidate.inverted_names() { inverted(spans) } else { spans };
        (spans, is_narrowed)
    }

    /// Narrows to what is between the cursors.
    fn take_cursors(&mut self, tail: usize, spans: &mut Vec<Span>) {
        let query = self.shape.matcher.query();
        for (cursor, is_start) in [(&query.start, true), (&query.end, false)] {
            let Some(cursor) = cursor else { continue };
            if self.ordered == 0 {
                self.exact = false;
                continue;
            }
            let place = self.place(cursor, is_start, tail);
            self.exact &= place.exact;
            let mut span = Span::all();
            if is_start == self.backward {
                span.high = Position { bytes: place.bytes, after: place.include };
            } else {
                span.low = Position { bytes: place.bytes, after: !place.include };
            }
            narrow(spans, &span);
            self.conditions.push(if is_start { "from the start" } else { "to the end" }.to_owned());
        }
    }

    /// Where a cursor is, as far as the index has the order.
    fn place(&self, cursor: &Cursor, is_start: bool, tail: usize) -> Place {
        let mut bytes = Vec::new();
        let mut position = tail;
        let fields = &self.candidate.fields;
        for (clause, value) in self.shape.matcher.order().iter().zip(&cursor.values) {
            if let Some(fixed) = self.shape.conjunction.fixed(&clause.field) {
                match directed(clause.direction, fixed.compare(value)) {
                    Ordering::Equal => continue,
                    Ordering::Less => return Place { bytes, include: !is_start, exact: true },
                    Ordering::Greater => return Place { bytes, include: is_start, exact: true },
                }
            }
            let unknown = |bytes| Place { bytes, include: true, exact: false };
            if position - tail == self.ordered {
                return unknown(bytes);
            }
            if clause.field.is_document_id() {
                let Value::Reference(path) = value else { return unknown(bytes) };
                if position != fields.len() {
                    return unknown(bytes);
                }
                let inverted = self.candidate.inverted_names();
                let name = name_position(self.shape.site, path);
                bytes.extend(name.bytes.iter().map(|byte| if inverted { !byte } else { *byte }));
                if let Some(after) = name.forced {
                    let is_high = is_start == self.backward;
                    return Place { bytes, include: (after != inverted) == is_high, exact: true };
                }
            } else {
                if fields.get(position).is_none_or(|(field, _)| *field != clause.field) {
                    return unknown(bytes);
                }
                let (value, cut) = self.candidate.encode(position, value);
                bytes.extend(value);
                if cut {
                    return unknown(bytes);
                }
            }
            position += 1;
        }
        Place { bytes, include: is_start == cursor.before, exact: true }
    }
}

/// Where a document's name is among those of a site.
struct NamePosition {
    bytes: Vec<u8>,
    /// The document cannot be in the site: its place is after all names that begin with the bytes,
    /// or before them.
    forced: Option<bool>,
}

fn name_position(site: &Site, path: &DocumentPath) -> NamePosition {
    let mut bytes = Vec::new();
    let Some(collection) = site.collection() else {
        key::encode_value(&Value::Reference(path.clone()), &mut bytes);
        // All names are references: entries have them without the tag.
        bytes.remove(0);
        return NamePosition { bytes, forced: None };
    };
    if collection.contains(path) {
        key::encode_bytes(path.id().as_bytes(), &mut bytes);
        return NamePosition { bytes, forced: None };
    }
    let depth = collection.segments().count();
    let mut beyond = path.segments().skip(depth);
    match (path.segments().take(depth).cmp(collection.segments()), beyond.next()) {
        // It is deeper than a document of the collection, which comes right before it.
        (Ordering::Equal, Some(id)) => {
            key::encode_bytes(id.as_bytes(), &mut bytes);
            NamePosition { bytes, forced: Some(true) }
        }
        (Ordering::Less | Ordering::Equal, _) => NamePosition { bytes, forced: Some(false) },
        (Ordering::Greater, _) => NamePosition { bytes, forced: Some(true) },
    }
}

/// The names that satisfy a condition, if they are one stretch.
fn name_span(site: &Site, filter: &FieldFilter) -> Option<Span> {
    let Value::Reference(path) = &filter.value else { return None };
    let NamePosition { bytes, forced } = name_position(site, path);
    let at = |after: bool| Position { bytes: bytes.clone(), after: forced.unwrap_or(after) };
    let mut span = Span::all();
    match filter.operator {
        Operator::LessThan => span.high = at(false),
        Operator::LessThanOrEqual => span.high = at(true),
        Operator::GreaterThan => span.low = at(true),
        Operator::GreaterThanOrEqual => span.low = at(false),
        Operator::Equal
        | Operator::NotEqual
        | Operator::In
        | Operator::NotIn
        | Operator::ArrayContains
        | Operator::ArrayContainsAny => return None,
    }
    Some(span)
}

fn inverted(spans: Vec<Span>) -> Vec<Span> {
    spans.into_iter().rev().map(Span::inverted).collect()
}

fn directed(direction: Direction, ordering: Ordering) -> Ordering {
    match direction {
        Direction::Ascending => ordering,
        Direction::Descending => ordering.reverse(),
    }
}
