//! Choosing the terms that a query is found by. Pure; the interest index drives it.
//!
//! A cover of a query is a set of terms of which every document of its result satisfies at least
//! one. An `and` needs the cover of one of its conditions only, so the one expected to be asked
//! about least in vain is taken: it depends on the terms that other queries are found by already.

use std::collections::BTreeMap;

use tidemark_protocol::model::{
    Cursor, Direction, FieldFilter, FieldPath, Filter, Operator, Order, Query, Value, key, limits,
};

use super::Shelf;
use super::intervals::{End, Interval};

/// Something about one field that a document can be looked up by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Term {
    /// It is this encoded value.
    Equal(FieldPath, Vec<u8>),
    /// It is an array with this encoded element.
    Contains(FieldPath, Vec<u8>),
    /// It is in an interval.
    Range(FieldPath, Interval),
    /// Nothing: every document of the collection is looked at.
    Any,
}

/// Terms and what they are expected to cost.
struct Cover {
    terms: Vec<Term>,
    cost: usize,
}

/// How a range came about; the wider it is expected to be, the dearer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Width {
    Bounded,
    HalfBounded,
    Cursor,
    Exists,
}

/// Beyond so many intervals at one place, how many there are is guessed.
const COUNTED: usize = 64;

impl Width {
    /// What an interval costs besides those that begin before it and reach into it.
    fn cost(self) -> usize {
        match self {
            Width::Bounded => 2,
            Width::HalfBounded => 4,
            Width::Cursor => 6,
            Width::Exists => 8,
        }
    }
}

/// What must hold together of one field's value.
struct Range {
    interval: Option<Interval>,
    width: Width,
}

/// The cover of a query, given what else is on its shelf.
pub(super) fn cover(query: &Query, order: &[Order], shelf: &Shelf) -> Vec<Term> {
    let mut ranges = BTreeMap::new();
    for clause in query.order_by.iter().filter(|clause| !clause.field.is_document_id()) {
        narrow(&mut ranges, &clause.field, &Interval::everything(), Width::Exists);
    }
    // What a field that only an inequality orders by needs, the inequality says.
    let explicit = |first: &&Order| first.field.is_document_id() || !query.order_by.is_empty();
    if let Some(first) = order.first().filter(explicit) {
        for (cursor, is_start) in
            query.start.iter().map(|it| (it, true)).chain(query.end.iter().map(|it| (it, false)))
        {
            if let Some(interval) = cursor_interval(first.direction, cursor, is_start) {
                narrow(&mut ranges, &first.field, &interval, Width::Cursor);
            }
        }
    }
    let filters: Vec<&Filter> = query.filter.iter().collect();
    conjunction(&filters, ranges, shelf).terms
}

/// The best cover of what must hold together.
fn conjunction<'a>(
    filters: &[&'a Filter],
    mut ranges: BTreeMap<FieldPath, Range>,
    shelf: &Shelf,
) -> Cover {
    let mut best = Cover { terms: vec![Term::Any], cost: 16 + shelf.scanned.len() };
    let mut take = |cover: Cover| {
        if cover.cost < best.cost {
            best = cover;
        }
    };
    let mut waiting: Vec<&'a Filter> = filters.to_vec();
    while let Some(filter) = waiting.pop() {
        match filter {
            Filter::And(filters) => waiting.extend(filters),
            Filter::Or(filters) => take(disjunction(filters, shelf)),
            Filter::Field(filter) => match terms(filter) {
                Terms::Each(terms) => take(priced(terms, shelf)),
                Terms::Range(interval, width) => {
                    narrow(&mut ranges, &filter.field, &interval, width);
                }
            },
        }
    }
    for (field, range) in ranges {
        let width = range.width;
        take(match range.interval {
            Some(interval) => {
                let cost = width.cost() + shelf.intervals_at(&field, &interval.start, COUNTED);
                Cover { terms: vec![Term::Range(field, interval)], cost }
            }
            // Nothing can satisfy it.
            None => Cover { terms: vec![], cost: 0 },
        });
    }
    best
}

fn disjunction(filters: &[Filter], shelf: &Shelf) -> Cover {
    let mut all = Cover { terms: vec![], cost: 0 };
    for filter in filters {
        let cover = conjunction(&[filter], BTreeMap::new(), shelf);
        all.cost += cover.cost;
        for term in cover.terms {
            if !all.terms.contains(&term) {
                all.terms.push(term);
            }
        }
    }
    all
}

/// A cover of equalities and memberships.
fn priced(terms: Vec<Term>, shelf: &Shelf) -> Cover {
    let cost = terms.iter().map(|term| shelf.groups_of(term) + 1).sum();
    Cover { terms, cost }
}

fn narrow(
    ranges: &mut BTreeMap<FieldPath, Range>,
    field: &FieldPath,
    interval: &Interval,
    width: Width,
) {
    match ranges.get_mut(field) {
        None => {
            let range = Range { interval: Some(interval.clone()), width };
            ranges.insert(field.clone(), range);
        }
        Some(range) => {
            let both_halves = range.width == Width::HalfBounded && width == Width::HalfBounded;
            range.width = if both_halves { Width::Bounded } else { range.width.min(width) };
            range.interval = range.interval.as_ref().and_then(|it| it.intersect(interval));
        }
    }
}

/// What one condition says.
enum Terms {
    /// At least one of these.
    Each(Vec<Term>),
    Range(Interval, Width),
}

fn terms(filter: &FieldFilter) -> Terms {
    let operands = match &filter.value {
        Value::Array(values) => &values[..],
        _ => &[],
    };
    let equal = |value: &Value| Term::Equal(filter.field.clone(), encode(value));
    let contains = |value: &Value| Term::Contains(filter.field.clone(), encode(value));
    let each = |values: &[Value], term: &dyn Fn(&Value) -> Term| {
        let mut terms: Vec<Term> = Vec::with_capacity(values.len());
        for term in values.iter().map(term) {
            if !terms.contains(&term) {
                terms.push(term);
            }
        }
        Terms::Each(terms)
    };
    match filter.operator {
        Operator::Equal => Terms::Each(vec![equal(&filter.value)]),
        Operator::In => each(operands, &equal),
        Operator::ArrayContains => Terms::Each(vec![contains(&filter.value)]),
        Operator::ArrayContainsAny => each(operands, &contains),
        // They hold for values of any type, but not without a value.
        Operator::NotEqual | Operator::NotIn => Terms::Range(Interval::everything(), Width::Exists),
        Operator::LessThan | Operator::LessThanOrEqual => {
            let end = encode(&filter.value);
            let interval = Interval { start: [type_start(&end)].into(), end: End::At(end.into()) };
            Terms::Range(interval, Width::HalfBounded)
        }
        Operator::GreaterThan | Operator::GreaterThanOrEqual => {
            let start = encode(&filter.value);
            let end = End::At([type_start(&start) + TYPE_TAGS].into());
            Terms::Range(Interval { start: start.into(), end }, Width::HalfBounded)
        }
    }
}

/// Where the values of a cursor leave the first field of the order.
fn cursor_interval(direction: Direction, cursor: &Cursor, is_start: bool) -> Option<Interval> {
    let value = encode(cursor.values.first()?);
    let everything = Interval::everything();
    Some(match (direction, is_start) {
        (Direction::Ascending, true) | (Direction::Descending, false) => {
            Interval { start: value.into(), ..everything }
        }
        (Direction::Ascending, false) | (Direction::Descending, true) => {
            Interval { end: End::At(value.into()), ..everything }
        }
    })
}

/// A value as it is looked up: long ones by their beginning, which keeps their order but for ties.
pub(super) fn encode_into(value: &Value, out: &mut Vec<u8>) {
    out.clear();
    key::encode_value_cut(value, limits::INDEXED_BYTES, out);
}

fn encode(value: &Value) -> Vec<u8> {
    let mut encoded = Vec::new();
    encode_into(value, &mut encoded);
    encoded
}

/// The types of values differ in their first byte by at least this, the values of one by less.
const TYPE_TAGS: u8 = 8;

/// What the encodings of the values of a type begin at.
fn type_start(encoded: &[u8]) -> u8 {
    encoded.first().map_or(0, |tag| tag / TYPE_TAGS * TYPE_TAGS)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use tidemark_protocol::model::{DocumentPath, GeoPoint, Timestamp};

    use super::*;

    #[test]
    fn the_first_byte_tells_the_types_apart() {
        let values = [
            vec![Value::Null],
            vec![Value::Boolean(false), Value::Boolean(true)],
            vec![Value::Double(f64::NAN), Value::Integer(i64::MIN), Value::Double(f64::INFINITY)],
            vec![Value::Timestamp(Timestamp::from_micros(0).unwrap())],
            vec![Value::from(""), Value::from("\u{10FFFF}")],
            vec![Value::Bytes(vec![255].into())],
            vec![Value::Reference(DocumentPath::parse("a/b").unwrap())],
            vec![Value::GeoPoint(GeoPoint::new(90.0, 180.0).unwrap())],
            vec![Value::Array(vec![]), Value::from(vec![1])],
            vec![Value::Vector(vec![1.0])],
            vec![Value::from([("a", 1)])],
        ];
        for (at, values) in values.iter().enumerate() {
            for value in values {
                let encoded = encode(value);
                let start = type_start(&encoded);
                assert!(encoded >= vec![start], "{value:?}");
                assert!(encoded < vec![start + TYPE_TAGS], "{value:?}");
                assert_eq!(start, type_start(&encode(&values[0])));
                assert!(at == 0 || start > 0);
            }
        }
        let starts: Vec<u8> = values.iter().map(|it| type_start(&encode(&it[0]))).collect();
        assert!(starts.is_sorted_by(|a, b| a < b), "{starts:?}");
    }
}
