//! Laws of what is made from a query: its disjunctions, its slices, its aggregates, the nearest.

use proptest::prelude::*;
use tidemark_protocol::model::*;

use crate::generate::{aggregate, fields, query_of};
use crate::matching::{collection, documents, holds};

fn paths(found: &[&Document]) -> Vec<DocumentPath> {
    found.iter().map(|document| document.path.clone()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn disjunctions_hold_where_the_filter_does(query in query_of(collection()), documents in documents()) {
        let Some(filter) = &query.filter else { return Ok(()) };
        let disjunctions = filter.disjunctions().unwrap();
        prop_assert!(disjunctions.len() <= limits::DISJUNCTIONS);
        for conjunction in &disjunctions {
            for filter in conjunction {
                prop_assert!(!matches!(filter.operator, Operator::In | Operator::ArrayContainsAny));
            }
        }
        for document in &documents {
            let by_parts = disjunctions.iter().any(|conjunction| {
                conjunction.iter().all(|part| holds(document, &Filter::Field(part.clone())))
            });
            prop_assert_eq!(by_parts, holds(document, filter), "{:?}", document);
        }
    }

    #[test]
    fn limits_and_offsets_cut_slices(query in query_of(collection()), documents in documents(), limit in 1_usize..5, offset in 0_usize..4) {
        let whole = Query { limit: None, offset: 0, limit_to_last: false, nearest: None, ..query };
        let found = paths(&evaluate(&whole, &documents));
        let (count, skipped) = (limit as u32, offset as u32);
        let first = Query { limit: Some(count), offset: skipped, ..whole.clone() };
        let slice: Vec<_> = found.iter().skip(offset).take(limit).cloned().collect();
        prop_assert_eq!(paths(&evaluate(&first, &documents)), slice);
        let last = Query { limit_to_last: true, ..first };
        let end = found.len().saturating_sub(offset);
        let slice = &found[end.saturating_sub(limit)..end];
        prop_assert_eq!(&paths(&evaluate(&last, &documents)), slice);
    }

    #[test]
    fn what_was_taken_in_can_be_taken_out(query in aggregate(), documents in documents(), kept in prop::collection::vec(any::<bool>(), 12)) {
        let mut state = AggregateState::new(&query.aggregations);
        documents.iter().for_each(|document| state.add(document));
        let mut rest = AggregateState::new(&query.aggregations);
        for (document, kept) in documents.iter().zip(kept).rev() {
            if kept { rest.add(document) } else { state.remove(document) }
        }
        prop_assert_eq!(state.values(), rest.values());
        prop_assert_eq!(state, rest);
    }

    #[test]
    fn aggregated_documents_have_the_fields(query in aggregate(), documents in documents()) {
        let all = Query {
            filter: query.query.filter,
            order_by: query.query.order_by,
            projection: query.query.projection,
            ..Query::collection(&collection())
        };
        let query = AggregateQuery { query: all, ..query };
        let has_all = |document: &&Document| {
            let mut fields = query.aggregations.iter().filter_map(|it| it.kind.field());
            fields.all(|field| document.get(field).is_some())
        };
        let mut expected = paths(&evaluate(&query.query, &documents).into_iter().filter(has_all).collect::<Vec<_>>());
        let mut found = paths(&evaluate(&query.matched(), &documents));
        expected.sort();
        found.sort();
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn the_nearest_are_no_farther_than_the_others(
        vectors in prop::collection::vec(prop::collection::vec(-3_i8..3, 2..4), 0..10),
        target in prop::collection::vec(-3_i8..3, 2..4),
        measure in prop::sample::select(vec![DistanceMeasure::Euclidean, DistanceMeasure::Cosine, DistanceMeasure::DotProduct]),
        limit in 1_u32..5,
        fields in fields(),
    ) {
        let vector = |numbers: &Vec<i8>| numbers.iter().copied().map(f64::from).collect::<Vec<f64>>();
        let field = FieldPath::parse("v").unwrap();
        let documents: Vec<Document> = vectors.iter().enumerate().map(|(at, numbers)| {
            let mut fields = fields.clone();
            fields.insert("v".to_owned(), Value::Vector(vector(numbers)));
            Document { path: collection().doc(&format!("d{at}")).unwrap(), fields, create_version: Version(1), update_version: Version(1), merge: Default::default() }
        }).collect();
        let nearest = Nearest { field, vector: vector(&target), measure, limit, threshold: None, distance_field: None };
        let query = Query { nearest: Some(nearest.clone()), ..Query::collection(&collection()) };
        let found = evaluate(&query, &documents);
        let comparable = vectors.iter().filter(|vector| vector.len() == target.len()).count();
        prop_assert_eq!(found.len(), comparable.min(limit as usize));
        let distance = |document: &Document| nearest.distance(document).unwrap();
        prop_assert!(found.windows(2).all(|pair| nearest.compare(distance(pair[0]), distance(pair[1])).is_le()));
        if let Some(farthest) = found.last() {
            let left = documents.iter().filter(|document| !found.contains(document));
            for document in left {
                let Some(other) = nearest.distance(document) else { continue };
                prop_assert!(nearest.compare(distance(farthest), other).is_le());
            }
        }
    }
}

fn equal(field: &str, value: i64) -> Filter {
    let field = FieldPath::parse(field).unwrap();
    Filter::Field(FieldFilter { field, operator: Operator::Equal, value: value.into() })
}

fn refusal(filter: &Filter) -> String {
    let query = Query { filter: Some(filter.clone()), ..Query::collection(&collection()) };
    let error = query.validate().unwrap_err();
    assert_eq!(error.code, Code::InvalidArgument);
    assert_eq!(filter.disjunctions().unwrap_err().code, Code::InvalidArgument);
    error.message
}

#[test]
fn many_disjunctions_are_refused_without_writing_them_out() {
    let pair = |at: i64| Filter::Or(vec![equal("a", at), equal("b", at)]);
    // 2^50 disjunctions.
    let message = refusal(&Filter::And((0..50).map(pair).collect()));
    assert!(message.contains("more than 256 disjunctions"), "{message}");
    let message = refusal(&Filter::Or((0..31).map(|at| equal("a", at)).collect()));
    assert!(
        message.contains("31 disjunctions, written as an `or` of `and`s; the limit is 30"),
        "{message}"
    );
    let message = refusal(&Filter::Or((0..1_000).map(|at| equal("a", at)).collect()));
    assert!(message.contains("more than 100 conditions"), "{message}");
    let message = refusal(&Filter::Or(vec![equal("a", 1); 100_000]));
    assert!(message.contains("more than 100 conditions"), "{message}");
    // The same again and again, in layers, each of which would double what is below.
    let layered = (0..10).fold(equal("a", 0), |inner, at| {
        Filter::And(vec![
            Filter::Or(vec![inner.clone(), equal("b", at)]),
            Filter::Or(vec![inner, equal("c", at)]),
        ])
    });
    refusal(&layered);
}

#[test]
fn the_same_twice_is_one_disjunction() {
    let one = Filter::Or((0..30).map(|at| equal("a", at)).collect());
    let thrice = Filter::And(vec![one.clone(), one.clone(), one]);
    assert_eq!(thrice.disjunctions().unwrap().len(), 30);
    let of = |values: Vec<Value>| {
        let field = FieldPath::parse("a").unwrap();
        Filter::Field(FieldFilter { field, operator: Operator::In, value: Value::Array(values) })
    };
    assert_eq!(of(vec![1.into(), 1.into(), Value::Null]).disjunctions().unwrap().len(), 1);
    assert_eq!(of(vec![Value::Null]).disjunctions().unwrap().len(), 0);
    assert_eq!(Filter::And(vec![]).disjunctions().unwrap(), [[]]);
}
