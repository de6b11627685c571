//! Random writes and targets of every shape, and what the result of a target is, computed from
//! nothing.

use std::collections::BTreeMap;

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use tidemark_protocol::model::{
    AggregateQuery, AggregateState, Aggregation, AggregationKind, CollectionPath, Cursor,
    Direction, Document, DocumentPath, FieldFilter, FieldPath, Fields, Filter, Matcher, Operator,
    Query, Target, Value, Write, WriteOp,
};

pub(crate) type State = BTreeMap<String, Document>;

const COLLECTIONS: &[&str] = &["c", "c", "c", "p/1/c", "p/2/c", "p/1/q/1/c", "d"];
const FIELDS: &[&str] = &["a", "b", "t", "m.f"];

fn field(name: &str) -> FieldPath {
    FieldPath::parse(name).unwrap()
}

fn path(rng: &mut StdRng) -> DocumentPath {
    let collection = COLLECTIONS.choose(rng).unwrap();
    DocumentPath::parse(&format!("{collection}/{}", rng.random_range(0..20))).unwrap()
}

fn scalar(rng: &mut StdRng) -> Value {
    match rng.random_range(0..12) {
        0 => Value::Null,
        1 => Value::Boolean(rng.random()),
        2 => Value::Double(*[f64::NAN, -0.0, 1e300, -1e300, f64::INFINITY].choose(rng).unwrap()),
        3 => Value::Double(f64::from(rng.random_range(-2..4)) / 10.0),
        4 => Value::Integer(*[i64::MAX, i64::MIN].choose(rng).unwrap()),
        5..9 => Value::Integer(rng.random_range(-1..4)),
        _ => Value::from(*["", "a", "b", "ab"].choose(rng).unwrap()),
    }
}

fn array(rng: &mut StdRng) -> Value {
    Value::Array((0..rng.random_range(0..3)).map(|_| scalar(rng)).collect())
}

pub(crate) fn write(rng: &mut StdRng) -> Write {
    let mut fields = Fields::new();
    for name in ["a", "b"] {
        if rng.random_bool(0.8) {
            fields.insert(name.into(), if rng.random_bool(0.1) { array(rng) } else { scalar(rng) });
        }
    }
    if rng.random_bool(0.5) {
        fields.insert("t".into(), array(rng));
    }
    if rng.random_bool(0.5) {
        fields.insert("m".into(), Value::from([("f", scalar(rng)), ("g", scalar(rng))]));
    }
    let op = if rng.random_bool(0.15) { WriteOp::Delete } else { WriteOp::Set(fields) };
    Write { path: path(rng), op, transforms: vec![], precondition: None }
}

/// Deletes enough to empty the slack of a window.
pub(crate) fn sweep(rng: &mut StdRng) -> Vec<Write> {
    let mut paths: Vec<DocumentPath> = (0..30).map(|_| path(rng)).collect();
    paths.sort();
    paths.dedup();
    let delete = |path| Write { path, op: WriteOp::Delete, transforms: vec![], precondition: None };
    paths.into_iter().map(delete).collect()
}

fn condition(rng: &mut StdRng) -> Filter {
    use Operator as O;
    let (fields, operators, of_array): (_, &[Operator], _) = match rng.random_range(0..10) {
        0..3 => (FIELDS, &[O::Equal, O::Equal, O::NotEqual], false),
        3..6 => {
            let ranges = &[O::LessThan, O::LessThanOrEqual, O::GreaterThan, O::GreaterThanOrEqual];
            (FIELDS, ranges, false)
        }
        6 => (FIELDS, &[O::In, O::NotIn], true),
        7 => (&["t", "t", "a"], &[O::ArrayContains], false),
        8 => (&["t", "t", "a"], &[O::ArrayContainsAny], true),
        _ => {
            let operator = *[O::Equal, O::LessThan, O::GreaterThanOrEqual].choose(rng).unwrap();
            let (field, value) = (FieldPath::document_id(), Value::Reference(path(rng)));
            return Filter::Field(FieldFilter { field, operator, value });
        }
    };
    let (field, operator) = (field(fields.choose(rng).unwrap()), *operators.choose(rng).unwrap());
    let value = if of_array {
        Value::Array((0..rng.random_range(1..4)).map(|_| scalar(rng)).collect())
    } else {
        scalar(rng)
    };
    Filter::Field(FieldFilter { field, operator, value })
}

fn filter(rng: &mut StdRng, depth: usize) -> Filter {
    match rng.random_range(0..if depth == 0 { 3 } else { 5 }) {
        3 => Filter::And((0..2).map(|_| filter(rng, depth - 1)).collect()),
        4 => Filter::Or((0..rng.random_range(1..4)).map(|_| filter(rng, depth - 1)).collect()),
        _ => condition(rng),
    }
}

fn source(rng: &mut StdRng) -> Query {
    if rng.random_bool(0.5) {
        return Query::collection(&CollectionPath::parse("c").unwrap());
    }
    if rng.random_bool(0.2) {
        return Query::collection(&CollectionPath::parse("p/1/c").unwrap());
    }
    let mut query = Query::group("c");
    let parent = [None, None, Some("p/1"), Some("p/2")].choose(rng).unwrap();
    query.parent = parent.map(|path| DocumentPath::parse(path).unwrap());
    query
}

fn cursor(rng: &mut StdRng, query: &Query) -> Cursor {
    let order = query.full_order();
    let count = rng.random_range(1..=order.len());
    let value = |field: &FieldPath, rng: &mut StdRng| {
        if field.is_document_id() { Value::Reference(path(rng)) } else { scalar(rng) }
    };
    let values = order[..count].iter().map(|it| value(&it.field, rng)).collect();
    Cursor { values, before: rng.random() }
}

/// A query that is valid.
fn query(rng: &mut StdRng) -> Query {
    loop {
        let mut query = source(rng);
        if rng.random_bool(0.7) {
            query = query.and(filter(rng, 2));
        }
        for _ in 0..*[0, 0, 1, 1, 2].choose(rng).unwrap() {
            let direction = *[Direction::Ascending, Direction::Descending].choose(rng).unwrap();
            query = query.with_order(field(FIELDS.choose(rng).unwrap()), direction);
        }
        match rng.random_range(0..6) {
            0 | 1 => query = query.with_limit(rng.random_range(1..6)),
            2 => query = query.with_limit_to_last(rng.random_range(1..6)),
            _ => {}
        }
        if rng.random_bool(0.2) {
            query = query.with_offset(rng.random_range(1..4));
        }
        if rng.random_bool(0.15) {
            let count = rng.random_range(0..3);
            query = query
                .with_projection(FIELDS.choose_multiple(rng, count).map(|it| field(it)).collect());
        }
        if rng.random_bool(0.15) {
            query.start = Some(cursor(rng, &query));
        }
        if rng.random_bool(0.15) {
            query.end = Some(cursor(rng, &query));
        }
        if query.validate().is_ok() {
            return query;
        }
    }
}

fn aggregations(rng: &mut StdRng) -> Vec<Aggregation> {
    let up_to = rng.random_bool(0.3).then(|| rng.random_range(1..5));
    let mut kinds = vec![AggregationKind::Count { up_to }];
    if rng.random_bool(0.7) {
        kinds.push(AggregationKind::Sum(field(FIELDS.choose(rng).unwrap())));
        kinds.push(AggregationKind::Average(field(FIELDS.choose(rng).unwrap())));
    }
    let named = kinds.into_iter().enumerate();
    named.map(|(at, kind)| Aggregation { alias: format!("v{at}"), kind }).collect()
}

pub(crate) fn target(rng: &mut StdRng) -> Target {
    match rng.random_range(0..10) {
        0 => {
            let mut paths: Vec<_> = (0..rng.random_range(1..5)).map(|_| path(rng)).collect();
            paths.sort();
            paths.dedup();
            Target::Documents(paths)
        }
        1..4 => loop {
            let query = Query { projection: None, ..query(rng) };
            let aggregate = AggregateQuery { query, aggregations: aggregations(rng) };
            if aggregate.validate().is_ok() {
                return Target::Aggregate(aggregate);
            }
        },
        _ => Target::Query(query(rng)),
    }
}

fn documents(state: &State, query: &Query) -> Vec<Document> {
    let all = Query { limit: None, limit_to_last: false, offset: 0, ..query.clone() };
    let all = Matcher::new(all);
    let mut found: Vec<&Document> = state.values().filter(|it| all.matches(it)).collect();
    found.sort_by(|a, b| all.compare(a, b));
    // The last documents are those before the offset, counted from the end.
    if query.limit_to_last {
        found.reverse();
    }
    let limit = query.limit.map_or(usize::MAX, |limit| limit as usize);
    let found = found.into_iter().skip(query.offset as usize).take(limit);
    let shown = |it: &Document| match &query.projection {
        Some(fields) => it.projected(fields),
        None => it.clone(),
    };
    found.map(shown).collect()
}

/// The documents and the values of a target.
pub(crate) fn result(state: &State, target: &Target) -> (State, Vec<Value>) {
    let (found, values): (Vec<Document>, _) = match target {
        Target::Query(query) => (documents(state, query), vec![]),
        Target::Aggregate(aggregate) => {
            let mut counted = AggregateState::new(&aggregate.aggregations);
            documents(state, &aggregate.matched()).iter().for_each(|it| counted.add(it));
            (vec![], counted.values())
        }
        Target::Documents(paths) => {
            (paths.iter().filter_map(|path| state.get(path.as_str())).cloned().collect(), vec![])
        }
    };
    (found.into_iter().map(|it| (it.path.to_string(), it)).collect(), values)
}
