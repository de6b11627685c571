//! The interest index against the matchers themselves: random queries come and go, random documents
//! change. Also what it must not cost.

#![allow(clippy::unwrap_used)]

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use tidemark_protocol::model::{
    CollectionPath, Cursor, Direction, FieldFilter, Fields, Filter, Operator, Query, Version,
};

use super::*;

fn field(name: &str) -> FieldPath {
    FieldPath::parse(name).unwrap()
}

fn document(path: &str, fields: Fields) -> Document {
    let (create_version, update_version) = (Version(1), Version(1));
    Document {
        path: DocumentPath::parse(path).unwrap(),
        fields,
        create_version,
        update_version,
        merge: Default::default(),
    }
}

fn scalar(rng: &mut StdRng) -> Value {
    match rng.random_range(0..9) {
        0 => Value::Null,
        1 => Value::Boolean(rng.random()),
        2 => Value::Double(*[f64::NAN, -0.0, 0.0, 1.5, 2.0].choose(rng).unwrap()),
        3..6 => Value::Integer(rng.random_range(-1..4)),
        6 => Value::from("x".repeat(rng.random_range(1_490..1_510))),
        _ => Value::from(*["", "a", "b", "ab"].choose(rng).unwrap()),
    }
}

fn value(rng: &mut StdRng) -> Value {
    match rng.random_range(0..8) {
        0 => Value::Array((0..rng.random_range(0..3)).map(|_| scalar(rng)).collect()),
        1 => Value::from([("f", scalar(rng))]),
        _ => scalar(rng),
    }
}

const PATHS: &[&str] = &["c/1", "c/2", "d/1", "p/1/c/1", "p/1/c/2", "p/2/c/1", "p/1/q/1/c/1"];
const FIELDS: &[&str] = &["a", "b", "m.f"];

fn random_document(rng: &mut StdRng) -> Document {
    let mut fields = Fields::new();
    for name in ["a", "b", "m"] {
        if rng.random_bool(0.7) {
            fields.insert(name.into(), value(rng));
        }
    }
    document(PATHS.choose(rng).unwrap(), fields)
}

fn condition(rng: &mut StdRng) -> Filter {
    use Operator as O;
    let operators = [
        O::Equal,
        O::NotEqual,
        O::LessThan,
        O::LessThanOrEqual,
        O::GreaterThan,
        O::GreaterThanOrEqual,
        O::In,
        O::NotIn,
        O::ArrayContains,
        O::ArrayContainsAny,
    ];
    let operator = *operators.choose(rng).unwrap();
    if rng.random_bool(0.15) {
        let name = |rng: &mut StdRng| {
            Value::Reference(DocumentPath::parse(PATHS.choose(rng).unwrap()).unwrap())
        };
        let value = match operator {
            O::In | O::NotIn => Value::Array((0..2).map(|_| name(rng)).collect()),
            O::ArrayContains | O::ArrayContainsAny => return condition(rng),
            _ => name(rng),
        };
        return Filter::Field(FieldFilter { field: FieldPath::document_id(), operator, value });
    }
    let value = match operator {
        O::In | O::NotIn | O::ArrayContainsAny => {
            Value::Array((0..rng.random_range(1..4)).map(|_| scalar(rng)).collect())
        }
        _ => value(rng),
    };
    Filter::Field(FieldFilter { field: field(FIELDS.choose(rng).unwrap()), operator, value })
}

fn filter(rng: &mut StdRng, depth: usize) -> Filter {
    match rng.random_range(0..if depth == 0 { 2 } else { 4 }) {
        2 => Filter::And((0..rng.random_range(1..4)).map(|_| filter(rng, depth - 1)).collect()),
        3 => Filter::Or((0..rng.random_range(1..4)).map(|_| filter(rng, depth - 1)).collect()),
        _ => condition(rng),
    }
}

fn source(rng: &mut StdRng) -> Query {
    if rng.random_bool(0.6) {
        let path = *["c", "d", "p/1/c", "p/2/c"].choose(rng).unwrap();
        return Query::collection(&CollectionPath::parse(path).unwrap());
    }
    let mut query = Query::group(*["c", "q"].choose(rng).unwrap());
    let under = [None, Some("p/1"), Some("p/2"), Some("p/1/q/1")];
    query.parent = under.choose(rng).unwrap().map(|path| DocumentPath::parse(path).unwrap());
    query
}

fn random_query(rng: &mut StdRng) -> Query {
    let mut query = source(rng);
    if rng.random_bool(0.8) {
        query = query.and(filter(rng, 2));
    }
    if rng.random_bool(0.4) {
        let direction = *[Direction::Ascending, Direction::Descending].choose(rng).unwrap();
        query = query.with_order(field(FIELDS.choose(rng).unwrap()), direction);
        let mut cursor = || Cursor { values: vec![value(rng)], before: rng.random() };
        let (start, end) = (cursor(), cursor());
        query.start = rng.random_bool(0.4).then_some(start);
        query.end = rng.random_bool(0.4).then_some(end);
    }
    query
}

/// The groups whose queries one of the states matches.
fn matching<'a>(
    queries: impl IntoIterator<Item = (&'a GroupId, &'a Matcher)>,
    states: &[Option<&Document>],
) -> Vec<GroupId> {
    let matches = |matcher: &Matcher| states.iter().flatten().any(|it| matcher.matches(it));
    let found = queries.into_iter().filter(|(_, matcher)| matches(matcher));
    let mut found: Vec<GroupId> = found.map(|(group, _)| *group).collect();
    found.sort_unstable();
    found
}

/// Runs random queries in and out, and random changes; returns how many groups were found, and how
/// many of them matched.
fn run(seed: u64, query: impl Fn(&mut StdRng) -> Query, exact: bool) -> (usize, usize) {
    let mut rng = StdRng::seed_from_u64(seed);
    let (mut interest, mut queries) = (Interest::default(), HashMap::new());
    let (mut found_in_all, mut matched_in_all) = (0, 0);
    for id in 0..150 {
        if rng.random_bool(0.3) && !queries.is_empty() {
            let mut ids: Vec<GroupId> = queries.keys().copied().collect();
            ids.sort_unstable();
            let group = *ids.choose(&mut rng).unwrap();
            queries.remove(&group);
            interest.remove(group);
        } else {
            let query = query(&mut rng);
            if query.validate().is_err() {
                continue;
            }
            let matcher = Matcher::new(query);
            interest.add_query(GroupId(id), &matcher);
            queries.insert(GroupId(id), matcher);
        }
        for _ in 0..4 {
            let (before, mut after) = (random_document(&mut rng), random_document(&mut rng));
            after.path = before.path.clone();
            let before = rng.random_bool(0.8).then_some(&before);
            let state = (before.is_none() || rng.random_bool(0.8)).then_some(&after);
            let found = interest.concerned(&after.path, before, state);
            let matching = matching(&queries, &[before, state]);
            (found_in_all, matched_in_all) =
                (found_in_all + found.len(), matched_in_all + matching.len());
            if exact {
                assert_eq!(found, matching, "seed {seed}: {before:?} -> {state:?}");
            }
            for group in matching {
                assert!(
                    found.binary_search(&group).is_ok(),
                    "seed {seed}: {:?} misses {before:?} -> {state:?}",
                    queries[&group].query()
                );
            }
            assert!(found.is_sorted_by(|a, b| a < b), "seed {seed}: found twice");
        }
    }
    for group in queries.into_keys() {
        interest.remove(group);
    }
    assert!(interest.collections.is_empty(), "seed {seed}: left behind");
    assert!(interest.collection_groups.is_empty(), "seed {seed}: left behind");
    assert!(interest.places.is_empty(), "seed {seed}: left behind");
    (found_in_all, matched_in_all)
}

#[test]
fn every_query_that_matches_is_found() {
    let mut sum = (0, 0);
    for seed in 0..150 {
        let (found, matched) = run(seed, random_query, false);
        sum = (sum.0 + found, sum.1 + matched);
    }
    assert!(sum.1 > 10_000, "hardly anything matched: {sum:?}");
    assert!(sum.0 < sum.1 * 2, "most of what is found does not match: {sum:?}");
}

#[test]
fn of_queries_with_one_equality_only_those_that_match_are_found() {
    let equality = |rng: &mut StdRng| {
        let value = Value::Integer(rng.random_range(-1..4));
        let field = field(FIELDS.choose(rng).unwrap());
        let several = Value::Array(vec![value.clone(), Value::from("a"), Value::Boolean(true)]);
        match rng.random_range(0..5) {
            0 => source(rng).with_filter(field, Operator::In, several),
            1 => source(rng).with_filter(field, Operator::ArrayContains, value),
            2 => source(rng).with_filter(field, Operator::ArrayContainsAny, several),
            _ => source(rng).with_filter(field, Operator::Equal, value),
        }
    };
    let matched: usize = (0..80).map(|seed| run(seed, equality, true).1).sum();
    assert!(matched > 2_000, "hardly anything matched: {matched}");
}

fn rooms(count: u32, query: impl Fn(u32) -> Query) -> Interest {
    let mut interest = Interest::default();
    for id in 0..count {
        interest.add_query(GroupId(id), &Matcher::new(query(id)));
    }
    interest
}

fn messages() -> Query {
    Query::collection(&CollectionPath::parse("messages").unwrap())
}

fn found(interest: &Interest, fields: &[(&str, Value)]) -> usize {
    let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    let document = document("messages/1", fields);
    interest.concerned(&document.path, None, Some(&document)).len()
}

#[test]
fn the_selective_condition_is_the_one_asked_about() {
    // The same condition in all of them, first or last, is no way to find them.
    for first in [true, false] {
        let interest = rooms(20_000, |id| {
            let room = (field("room"), Operator::Equal, Value::from(i64::from(id)));
            let open = (field("open"), Operator::Equal, Value::from(true));
            let (one, other) = if first { (room, open) } else { (open, room) };
            messages().with_filter(one.0, one.1, one.2).with_filter(other.0, other.1, other.2)
        });
        let (room, open) = (("room", Value::from(7)), ("open", Value::from(true)));
        assert!(found(&interest, &[room, open]) <= 20, "looked at too many");
    }
    // A range where an equality is shared by all.
    let interest = rooms(20_000, |id| {
        messages()
            .with_filter(field("open"), Operator::Equal, true)
            .with_filter(field("at"), Operator::GreaterThanOrEqual, i64::from(id) * 10)
            .with_filter(field("at"), Operator::LessThan, i64::from(id) * 10 + 10)
    });
    assert!(found(&interest, &[("open", Value::from(true)), ("at", Value::from(55_555))]) <= 40);
}

#[test]
fn documents_are_found_by_their_path() {
    let mut interest = Interest::default();
    let path = |path: &str| DocumentPath::parse(path).unwrap();
    interest.add_documents(GroupId(1), &[path("a/1"), path("a/2")]);
    interest.add_documents(GroupId(2), &[path("a/2")]);
    assert_eq!(interest.concerned(&path("a/2"), None, None), [GroupId(1), GroupId(2)]);
    assert_eq!(interest.concerned(&path("a/3"), None, None), []);
    interest.remove(GroupId(1));
    assert_eq!(interest.concerned(&path("a/2"), None, None), [GroupId(2)]);
    assert_eq!(interest.concerned(&path("a/1"), None, None), []);
    interest.remove(GroupId(2));
    assert!(interest.documents.is_empty() && interest.places.is_empty());
}
