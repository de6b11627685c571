//! Matching and sorting against another way to the same answer: the keys of documents' values,
//! which is also how a store finds them. What single filters find is in `oracle`.

use proptest::prelude::*;
use tidemark_protocol::model::*;

use crate::generate::{fields, query_of};

pub(crate) fn collection() -> CollectionPath {
    CollectionPath::parse("c").unwrap()
}

pub(crate) fn documents() -> impl Strategy<Value = Vec<Document>> {
    prop::collection::vec(fields(), 0..12).prop_map(|all| {
        let document = |(index, fields)| Document {
            path: collection().doc(&format!("d{index:02}")).unwrap(),
            fields,
            create_version: Version(1),
            update_version: Version(1),
            merge: Default::default(),
        };
        all.into_iter().enumerate().map(document).collect()
    })
}

fn value_of(document: &Document, field: &FieldPath) -> Option<Value> {
    if field.is_document_id() {
        Some(Value::Reference(document.path.clone()))
    } else {
        document.get(field).cloned()
    }
}

/// The key of values under an order.
fn key<'a>(order: &[Order], values: impl IntoIterator<Item = &'a Value>) -> Vec<u8> {
    let mut out = Vec::new();
    for (order, value) in order.iter().zip(values) {
        match order.direction {
            Direction::Ascending => key::encode_value(value, &mut out),
            Direction::Descending => key::encode_value_descending(value, &mut out),
        }
    }
    out
}

/// Filters by the keys of operand and value.
fn satisfies(document: &Document, filter: &FieldFilter) -> bool {
    let Some(value) = value_of(document, &filter.field) else { return false };
    let by_order = |value: &Value| !matches!(value, Value::Null) && !value.is_nan();
    let ascending = [Order { field: filter.field.clone(), direction: Direction::Ascending }];
    let (a, b) = (key(&ascending, [&value]), key(&ascending, [&filter.value]));
    let comparable = value.type_order() == filter.value.type_order()
        && by_order(&value)
        && by_order(&filter.value);
    match filter.operator {
        Operator::Equal => a == b,
        Operator::LessThan => comparable && a < b,
        Operator::LessThanOrEqual => comparable && a <= b,
        Operator::GreaterThan => comparable && a > b,
        Operator::GreaterThanOrEqual => comparable && a >= b,
        Operator::NotEqual => !matches!(value, Value::Null) && a != b,
        Operator::In => by_order(&value) && keys_of(&filter.value).contains(&a),
        Operator::NotIn => {
            let excluded = keys_of(&filter.value);
            let null = key(&ascending, [&Value::Null]);
            a != null && !excluded.contains(&null) && (value.is_nan() || !excluded.contains(&a))
        }
        Operator::ArrayContains => by_order(&filter.value) && keys_of(&value).contains(&b),
        Operator::ArrayContainsAny => {
            let Value::Array(wanted) = &filter.value else { return false };
            let wanted = wanted.iter().filter(|it| by_order(it)).cloned().collect();
            let wanted = keys_of(&Value::Array(wanted));
            keys_of(&value).iter().any(|element| wanted.contains(element))
        }
    }
}

/// The keys of an array's elements; of any other value, none.
fn keys_of(value: &Value) -> Vec<Vec<u8>> {
    let Value::Array(elements) = value else { return vec![] };
    let key = |element| {
        let mut out = Vec::new();
        key::encode_value(element, &mut out);
        out
    };
    elements.iter().map(key).collect()
}

pub(crate) fn holds(document: &Document, filter: &Filter) -> bool {
    match filter {
        Filter::Field(filter) => satisfies(document, filter),
        Filter::And(filters) => filters.iter().all(|filter| holds(document, filter)),
        Filter::Or(filters) => filters.iter().any(|filter| holds(document, filter)),
    }
}

/// The result of a query as a store would find it, limit aside.
fn by_keys(query: &Query, documents: &[Document]) -> Vec<DocumentPath> {
    let order = query.full_order();
    let mut found = std::collections::BTreeMap::new();
    for document in documents {
        let values: Option<Vec<Value>> =
            order.iter().map(|order| value_of(document, &order.field)).collect();
        let Some(values) = values else { continue };
        if query.filter.iter().all(|filter| holds(document, filter)) {
            found.insert(key(&order, &values), document.path.clone());
        }
    }
    // A cursor is a prefix of keys: at it are the keys that begin with it.
    if let Some(start) = &query.start {
        let bound = key(&order, &start.values);
        found.retain(|key, _| (start.before && key.starts_with(&bound)) || *key > bound);
        found.retain(|key, _| start.before || !key.starts_with(&bound));
    }
    if let Some(end) = &query.end {
        let bound = key(&order, &end.values);
        found.retain(|key, _| key.starts_with(&bound) && !end.before || *key < bound);
    }
    found.into_values().collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_query_finds_what_its_keys_find(documents in documents(), query in query_of(collection())) {
        let matcher = Matcher::new(query.clone());
        let mut found: Vec<&Document> =
            documents.iter().filter(|document| matcher.matches(document)).collect();
        found.sort_by(|a, b| matcher.compare(a, b));
        let found: Vec<DocumentPath> = found.into_iter().map(|document| document.path.clone()).collect();
        prop_assert_eq!(found, by_keys(&query, &documents));
    }

    #[test]
    fn the_order_of_documents_is_total(documents in documents(), query in query_of(collection())) {
        let matcher = Matcher::new(query);
        for a in &documents {
            for b in &documents {
                prop_assert_eq!(matcher.compare(a, b), matcher.compare(b, a).reverse());
                prop_assert_eq!(matcher.compare(a, b).is_eq(), a.path == b.path);
            }
        }
    }
}

#[test]
fn only_documents_right_in_the_collection_are_found() {
    let document = |path: &str| Document {
        path: DocumentPath::parse(path).unwrap(),
        fields: Fields::new(),
        create_version: Version(1),
        update_version: Version(1),
        merge: Default::default(),
    };
    let query = Query::collection(&collection());
    assert!(query.matches(&document("c/d")));
    assert!(!query.matches(&document("c/d/c/d")));
    assert!(!query.matches(&document("cc/d")));
    let nested = Query::collection(&CollectionPath::parse("c/d/c").unwrap());
    assert_eq!(nested.collection_path().as_str(), "c/d/c");
    assert!(nested.matches(&document("c/d/c/d")));
    assert!(!nested.matches(&document("c/d")));
}

#[test]
fn the_full_order_adds_inequalities_and_the_name() {
    let field = |path: &str| FieldPath::parse(path).unwrap();
    let query = Query::collection(&collection())
        .with_filter(field("z"), Operator::LessThan, 1)
        .with_filter(field("m"), Operator::GreaterThan, 1)
        .with_filter(field("e"), Operator::Equal, 1)
        .with_filter(field("m"), Operator::LessThan, 5)
        .with_order(field("x"), Direction::Ascending)
        .with_order(field("y"), Direction::Descending);
    let order: Vec<String> = query
        .full_order()
        .iter()
        .map(|order| format!("{} {:?}", order.field, order.direction))
        .collect();
    let expected =
        ["x Ascending", "y Descending", "m Descending", "z Descending", "__name__ Descending"];
    assert_eq!(order, expected);
}

#[test]
fn queries_that_make_no_sense_are_refused() {
    let field = |path: &str| FieldPath::parse(path).unwrap();
    let all = || Query::collection(&collection());
    let name = FieldPath::document_id;
    let cursor = |values: Vec<Value>| Cursor { values, before: true };
    for (what, bad) in [
        ("no collection", Query { collection_id: String::new(), ..all() }),
        ("a path as collection", Query { collection_id: "a/b/c".to_owned(), ..all() }),
        ("limit 0", all().with_limit(0)),
        (
            "an order twice",
            all()
                .with_order(field("a"), Direction::Ascending)
                .with_order(field("a"), Direction::Descending),
        ),
        (
            "an order after the name",
            all()
                .with_order(name(), Direction::Ascending)
                .with_order(field("a"), Direction::Ascending),
        ),
        (
            "an inequality after the name",
            all().with_order(name(), Direction::Ascending).with_filter(
                field("a"),
                Operator::LessThan,
                1,
            ),
        ),
        ("a name that is text", all().with_filter(name(), Operator::Equal, "d")),
        (
            "a cursor longer than the order",
            all().with_order(field("a"), Direction::Ascending).with_start(cursor(vec![
                1.into(),
                DocumentPath::parse("c/d").unwrap().into(),
                1.into(),
            ])),
        ),
        ("a cursor with a number for the name", all().with_end(cursor(vec![1.into()]))),
    ] {
        assert_eq!(bad.validate().unwrap_err().code, Code::InvalidArgument, "{what}");
    }
    let group = Query { all_descendants: true, collection_id: "a/b".to_owned(), ..all() };
    assert_eq!(group.validate().unwrap_err().code, Code::InvalidArgument);
}

#[test]
fn limits_of_queries_are_stated() {
    let all = || Query::collection(&collection());
    let field = |index: usize| FieldPath::parse(&format!("f{index}")).unwrap();
    let filtered = |count: usize| {
        (0..count).fold(all(), |query, i| query.with_filter(field(i), Operator::Equal, 1))
    };
    let ordered = |count: usize| {
        (0..count).fold(all(), |query, i| query.with_order(field(i), Direction::Ascending))
    };
    assert_eq!(filtered(100).validate(), Ok(()));
    assert!(filtered(101).validate().unwrap_err().message.contains("more than 100 conditions"));
    assert_eq!(ordered(100).validate(), Ok(()));
    assert!(
        ordered(101)
            .validate()
            .unwrap_err()
            .message
            .contains("101 filters and orders, its parent among them; the limit is 100")
    );

    let nested = |depth: usize| {
        let filter = FieldFilter { field: field(0), operator: Operator::Equal, value: 1.into() };
        let filter = (0..depth).fold(Filter::Field(filter), |inner, _| Filter::And(vec![inner]));
        Query { filter: Some(filter), ..all() }
    };
    assert_eq!(nested(limits::FILTER_DEPTH).validate(), Ok(()));
    let error = nested(limits::FILTER_DEPTH + 1).validate().unwrap_err();
    assert!(error.message.contains("more than 20 deep"), "{error}");

    let path = DocumentPath::parse("c/d").unwrap();
    let named = |count: usize| Target::Documents(vec![path.clone(); count]).validate();
    assert_eq!(named(10_000), Ok(()));
    assert!(
        named(10_001)
            .unwrap_err()
            .message
            .contains("names 10001 documents; it must name 1 to 10000")
    );
    assert!(named(0).is_err());
}

#[test]
fn scope_is_told_by_the_path() {
    let collection = |path| Query::collection(&CollectionPath::parse(path).unwrap());
    let under =
        |parent| Query { parent: Some(DocumentPath::parse(parent).unwrap()), ..Query::group("c") };
    for (query, inside) in [
        (collection("c"), vec!["c/1"]),
        (collection("p/1/c"), vec!["p/1/c/1"]),
        (Query::group("c"), vec!["c/1", "p/1/c/1", "p/1/q/1/c/1", "p/10/c/1"]),
        (under("p/1"), vec!["p/1/c/1", "p/1/q/1/c/1"]),
    ] {
        for path in ["c/1", "p/1/c/1", "p/1/q/1/c/1", "p/10/c/1", "p/1", "d/1", "c/1/d/1"] {
            assert_eq!(query.is_over(path), inside.contains(&path), "{query:?} {path}");
        }
    }
}
