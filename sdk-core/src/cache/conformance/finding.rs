//! Queries over what is kept: whatever a cache does to be quick, it finds what asking each document
//! finds, in the same order, also after the documents have changed.

use std::ops::ControlFlow;
use std::sync::Arc;

use tidemark_protocol::model::{
    CollectionPath, Cursor, Direction, Document, FieldFilter, FieldPath, Fields, Filter, Matcher,
    Operator, Query, Value,
};

use super::super::{Cache, CacheBatch, Known};
use super::{Case, FAILED, apply, collect, find, path, with_fields};

pub(super) const CASES: &[Case] = &[
    finds_what_each_document_says,
    finds_what_has_changed,
    finds_with_more_shapes_than_are_worth_an_index,
    drops_indexes_before_documents,
    stops_when_told,
    finds_long_values,
    finds_nothing_of_the_missing,
];

/// Numbers that look random and are the same each time.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn roll(&mut self, sides: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

fn value(dice: &mut Dice) -> Value {
    let number = i64::try_from(dice.roll(9)).unwrap_or_default() - 4;
    match dice.roll(14) {
        0 => Value::Null,
        1 => Value::from(number > 0),
        2 => Value::Double(f64::NAN),
        3 => Value::Double(number as f64),
        4 => Value::Double(number as f64 + 0.5),
        5 => Value::from(["", "a", "a\0", "b"][dice.roll(4) as usize]),
        6 => Value::Reference(path(["c/001", "c/100"][dice.roll(2) as usize])),
        7 => Value::Array(vec![Value::from(number), Value::from("a"), Value::from(number)]),
        8 => Value::from([("x", Value::from(number))]),
        _ => Value::from(number),
    }
}

fn random_document(dice: &mut Dice, name: &str, version: u64) -> Arc<Document> {
    let mut fields = Fields::new();
    for name in ["a", "b", "d"] {
        if dice.roll(8) > 0 {
            fields.insert(name.to_owned(), value(dice));
        }
    }
    let tags = (0..dice.roll(4)).map(|_| Value::from(dice.roll(5) as i64)).collect();
    fields.insert("tags".to_owned(), Value::Array(tags));
    with_fields(name, version, fields)
}

/// Where the documents are: two collections and a group of three.
fn names() -> Vec<String> {
    let of = |collection: &'static str, count: u32| {
        (0..count).map(move |number| format!("{collection}/{number:03}"))
    };
    let all = of("c", 150).chain(of("c/001/sub", 40)).chain(of("c/002/sub", 120));
    all.chain(of("sub", 30)).chain(of("small", 5)).collect()
}

fn put_all(cache: &mut dyn Cache, documents: &[Arc<Document>]) {
    let known =
        |document: &Arc<Document>| (document.path.clone(), Known::Document(document.clone()));
    let documents = documents.iter().map(known).collect();
    apply(cache, CacheBatch { documents, ..CacheBatch::default() });
}

fn field(name: &str) -> FieldPath {
    FieldPath::parse(name).expect(FAILED)
}

fn condition(dice: &mut Dice, contains: bool) -> Filter {
    use Operator::*;
    let name = ["a", "b", "d"][dice.roll(3) as usize];
    let some = |dice: &mut Dice| Value::Array((0..3).map(|_| value(dice)).collect());
    let operand = |dice: &mut Dice| Value::from(dice.roll(5) as i64);
    let (name, operator, value) = match dice.roll(12) {
        0 if contains => ("tags", ArrayContains, operand(dice)),
        1 if contains => {
            ("tags", ArrayContainsAny, Value::Array(vec![operand(dice), operand(dice)]))
        }
        2 => (name, In, some(dice)),
        3 => (name, NotIn, some(dice)),
        4 => (name, NotEqual, value(dice)),
        5 => (name, LessThan, value(dice)),
        6 => (name, LessThanOrEqual, value(dice)),
        7 => (name, GreaterThan, value(dice)),
        8 => (name, GreaterThanOrEqual, value(dice)),
        9 => ("__name__", GreaterThan, Value::Reference(path("c/070"))),
        _ => (name, Equal, value(dice)),
    };
    Filter::Field(FieldFilter { field: field(name), operator, value })
}

fn collection(name: &str) -> CollectionPath {
    CollectionPath::parse(name).expect(FAILED)
}

fn random_query(dice: &mut Dice) -> Query {
    let mut query = match dice.roll(8) {
        0 => Query::group("sub"),
        1 => Query { parent: Some(path("c/002")), ..Query::group("sub") },
        2 => Query::collection(&collection("c/002/sub")),
        3 => Query::collection(&collection("small")),
        _ => Query::collection(&collection("c")),
    };
    let contains = dice.roll(3) == 0;
    for at in 0..dice.roll(4) {
        query = query.and(condition(dice, contains && at == 0));
    }
    if dice.roll(4) == 0 {
        query = query.and(Filter::Or(vec![condition(dice, false), condition(dice, false)]));
    }
    let direction = |dice: &mut Dice| match dice.roll(2) {
        0 => Direction::Ascending,
        _ => Direction::Descending,
    };
    for name in ["b", "a", "__name__"] {
        if dice.roll(3) == 0 {
            query = query.with_order(field(name), direction(dice));
        }
    }
    let clauses = query.full_order();
    let cursor = |dice: &mut Dice| -> Option<Cursor> {
        let values = clauses.iter().take(1 + dice.roll(2) as usize).map(|clause| {
            if clause.field.is_document_id() {
                Value::Reference(path("c/050"))
            } else {
                value(dice)
            }
        });
        let values = values.collect();
        let before = dice.roll(2) == 0;
        (dice.roll(4) == 0).then_some(Cursor { values, before })
    };
    Query { start: cursor(dice), end: cursor(dice), ..query }
}

fn expect_found(cache: &dyn Cache, documents: &[Arc<Document>], query: &Query) {
    let matcher = Matcher::new(query.clone());
    let mut expected: Vec<Arc<Document>> =
        documents.iter().filter(|document| matcher.matches(document)).cloned().collect();
    expected.sort_by(|a, b| matcher.compare(a, b));
    let names = |documents: &[Arc<Document>]| -> Vec<String> {
        documents.iter().map(|document| document.path.as_str().to_owned()).collect()
    };
    let found = find(cache, query);
    assert_eq!(names(&found), names(&expected), "{query:?}");
}

fn random_documents(dice: &mut Dice) -> Vec<Arc<Document>> {
    names().iter().map(|name| random_document(dice, name, 1)).collect()
}

fn valid_query(dice: &mut Dice) -> Query {
    loop {
        let query = random_query(dice);
        if query.validate().is_ok() {
            return query;
        }
    }
}

/// Stores many documents; gives queries that find some of them.
pub(super) fn fill(cache: &mut dyn Cache) -> Vec<Query> {
    let dice = &mut Dice(5);
    put_all(cache, &random_documents(dice));
    let mut queries = vec![Query::collection(&collection("c"))];
    queries.extend((0..12).map(|_| valid_query(dice)));
    queries
}

fn finds_what_each_document_says(cache: &mut dyn Cache) {
    let dice = &mut Dice(1);
    let documents = random_documents(dice);
    put_all(cache, &documents);
    for _ in 0..400 {
        expect_found(cache, &documents, &valid_query(dice));
    }
}

fn finds_what_has_changed(cache: &mut dyn Cache) {
    let dice = &mut Dice(2);
    let mut documents = random_documents(dice);
    put_all(cache, &documents);
    let queries: Vec<Query> = (0..30).map(|_| valid_query(dice)).collect();
    for round in 2..8 {
        queries.iter().for_each(|query| expect_found(cache, &documents, query));
        for _ in 0..60 {
            let at = dice.roll(documents.len() as u64) as usize;
            let name = documents[at].path.as_str().to_owned();
            let known = if dice.roll(4) == 0 {
                documents.remove(at);
                Known::Missing { at: tidemark_protocol::model::Version(round) }
            } else {
                documents[at] = random_document(dice, &name, round);
                Known::Document(documents[at].clone())
            };
            let documents = vec![(path(&name), known)];
            apply(cache, CacheBatch { documents, ..CacheBatch::default() });
        }
    }
    let half = cache.size() / 2;
    collect(cache, &[], &[], half);
    documents.retain(|document| super::known(cache, document.path.as_str()) != Known::Unknown);
    queries.iter().for_each(|query| expect_found(cache, &documents, query));
    cache.clear().expect(FAILED);
    queries.iter().for_each(|query| expect_found(cache, &[], query));
    put_all(cache, &documents);
    queries.iter().for_each(|query| expect_found(cache, &documents, query));
}

fn finds_with_more_shapes_than_are_worth_an_index(cache: &mut dyn Cache) {
    let dice = &mut Dice(3);
    let documents = random_documents(dice);
    put_all(cache, &documents);
    for round in 0..2 {
        for number in 0..90 {
            let order = field(&format!("f{number}"));
            let query = Query::collection(&collection("c")).with_order(order, Direction::Ascending);
            expect_found(cache, &documents, &query);
        }
        let query =
            Query::collection(&collection("c")).with_order(field("a"), Direction::Descending);
        expect_found(cache, &documents, &query);
        assert!(!find(cache, &query).is_empty(), "round {round}");
    }
}

fn drops_indexes_before_documents(cache: &mut dyn Cache) {
    let documents = random_documents(&mut Dice(7));
    put_all(cache, &documents);
    let alone = cache.size();
    let by_tag = |number: i64| {
        let query = Query::group("sub").with_filter(field("tags"), Operator::ArrayContains, number);
        query.with_order(field(["a", "b", "d"][number as usize % 3]), Direction::Ascending)
    };
    for number in 0..60 {
        find(cache, &by_tag(number));
        let name = field(&format!("f{number}"));
        find(
            cache,
            &Query::group("sub")
                .with_filter(field("a"), Operator::Equal, 1)
                .with_order(name, Direction::Ascending),
        );
        find(cache, &Query::group("sub").with_order(field("a"), Direction::Ascending));
    }
    let filled = cache.size();
    assert!(filled > alone, "indexes take room");
    collect(cache, &[], &[], alone + (filled - alone) / 2);
    assert!(cache.size() <= alone + (filled - alone) / 2);
    for document in &documents {
        assert_ne!(super::known(cache, document.path.as_str()), Known::Unknown);
    }
    (0..6).for_each(|number| expect_found(cache, &documents, &by_tag(number)));
}

fn stops_when_told(cache: &mut dyn Cache) {
    let documents = random_documents(&mut Dice(4));
    put_all(cache, &documents);
    let query = Query::collection(&collection("c")).with_order(field("a"), Direction::Descending);
    let all = find(cache, &query);
    let mut first = Vec::new();
    let each = &mut |document| {
        first.push(document);
        if first.len() == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    cache.find(&query, each).expect(FAILED);
    assert_eq!(first, all[..3]);
}

fn finds_long_values(cache: &mut dyn Cache) {
    let long = |end: &str| Value::from("long ".repeat(1_000) + end);
    let documents: Vec<Arc<Document>> = (0..120)
        .map(|number| {
            let value = match number % 4 {
                0 => long("a"),
                1 => long("b"),
                2 => Value::from("zero"),
                _ => Value::from("a"),
            };
            with_fields(&format!("c/{number:03}"), 1, Fields::from([("a".to_owned(), value)]))
        })
        .collect();
    put_all(cache, &documents);
    let all = Query::collection(&collection("c"));
    for direction in [Direction::Ascending, Direction::Descending] {
        expect_found(cache, &documents, &all.clone().with_order(field("a"), direction));
        let above = all.clone().with_filter(field("a"), Operator::GreaterThan, long("a"));
        expect_found(cache, &documents, &above.with_order(field("a"), direction));
    }
    let one = all.with_filter(field("a"), Operator::Equal, long("b"));
    expect_found(cache, &documents, &one);
    assert_eq!(find(cache, &one).len(), 30);
}

fn finds_nothing_of_the_missing(cache: &mut dyn Cache) {
    let query = Query::collection(&collection("c"));
    expect_found(cache, &[], &query);
    super::store(cache, &[("c/1", 0), ("d/1", 1), ("c/1/c/2", 1)], Vec::new());
    expect_found(cache, &[], &query);
    assert_eq!(find(cache, &Query::group("c")).len(), 1);
}
