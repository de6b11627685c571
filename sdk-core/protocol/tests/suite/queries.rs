//! Thousands of queries, aggregates and searches, answered by going through all documents, against
//! what the official Firestore emulator answered.

use std::collections::BTreeMap;

use tidemark_protocol::model::*;

use crate::fixtures::{Answer, Case, Difference, Request, difference, recorded_queries};

/// How many cases of each kind are recorded.
const CASES: [(&str, usize); 9] = [
    ("aggregate", 621),
    ("cursor", 682),
    ("filter", 1053),
    ("group", 550),
    ("last", 376),
    ("nearest", 367),
    ("order", 616),
    ("projection", 271),
    ("refused", 1943),
];

/// How many of them we answer otherwise, and why. A difference that is none any more is not listed.
const DIFFERENCES: [(Difference, usize); 13] = [
    (Difference::ComparisonWithNull, 5),
    (Difference::FilterDepth, 8),
    (Difference::LimitZero, 7),
    (Difference::AllCollections, 6),
    (Difference::CursorIntoImpliedOrder, 34),
    (Difference::OtherDatabase, 6),
    (Difference::VectorInMap, 1),
    (Difference::ExactSum, 5),
    (Difference::ManyAggregations, 4),
    (Difference::GroupBelowDocument, 6),
    (Difference::DescendingNames, 21),
    (Difference::NegativeZero, 14),
    (Difference::Nanoseconds, 9),
];

/// Our answer to a case.
fn answer(case: &Case, documents: &[Document]) -> Answer {
    let request = match &case.request {
        Ok(request) => request,
        Err(error) => return Answer::Refused(error.code),
    };
    if let Err(error) = request.validate() {
        return Answer::Refused(error.code);
    }
    let place = |found: &Document| {
        documents.iter().position(|document| document.path == found.path).unwrap()
    };
    match request {
        Request::Query(query) => {
            let found = evaluate(query, documents);
            if matches!(case.answer, Answer::Fields(_)) {
                let fields = |found: &&Document| (place(found), query.result(found).fields);
                Answer::Fields(found.iter().map(fields).collect())
            } else {
                Answer::Found(found.into_iter().map(place).collect())
            }
        }
        Request::Aggregate(query) => {
            let aliases = query.aggregations.iter().map(|aggregation| aggregation.alias.clone());
            Answer::Values(aliases.zip(aggregate(query, documents)).collect())
        }
    }
}

#[test]
#[allow(clippy::print_stdout)] // The numbers are what one asks of this test.
fn the_recorded_answers_are_ours() {
    let (mut cases, mut differences) = (BTreeMap::new(), BTreeMap::new());
    let mut wrong = Vec::new();
    for set in recorded_queries() {
        for case in &set.cases {
            *cases.entry(case.kind.clone()).or_insert(0) += 1;
            let ours = answer(case, &set.documents);
            if ours == case.answer {
                continue;
            }
            match difference(case, &ours) {
                Some(difference) => *differences.entry(difference).or_insert(0) += 1,
                None => wrong.push(format!("{}\n  ours: {ours:?}", case.json)),
            }
        }
    }
    let total: usize = cases.values().sum();
    println!("{total} cases: {cases:?}\nanswered otherwise: {differences:?}");
    assert!(wrong.is_empty(), "{} of {total} are wrong:\n{}", wrong.len(), wrong.join("\n"));
    let listed = |(kind, count): (&str, usize)| (kind.to_owned(), count);
    assert_eq!(cases, CASES.into_iter().map(listed).collect());
    assert_eq!(differences, DIFFERENCES.into_iter().collect());
}
