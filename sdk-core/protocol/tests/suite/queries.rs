//! Thousands of queries, aggregates and searches, answered by going through all documents, against
//! what the official Firestore emulator answered.

use std::collections::BTreeMap;

use tidemark_protocol::model::*;

use crate::fixtures::{Answer, Case, Request, recorded_queries};

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
fn the_recorded_answers_are_ours() {
    let mut wrong = BTreeMap::<String, Vec<String>>::new();
    let mut total = 0;
    for (number, set) in recorded_queries().enumerate() {
        for case in &set.cases {
            total += 1;
            let ours = answer(case, &set.documents);
            if ours != case.answer {
                let text = case.json.to_string();
                wrong.entry(case.kind.clone()).or_default().push(format!(
                    "set {number} {:.1500}\n   ours {:.600}  {:?}",
                    text,
                    format!("{ours:?}"),
                    case.request.as_ref().map(|r| r.validate().err()).err()
                ));
            }
        }
    }
    for (kind, list) in &wrong {
        eprintln!("== {kind}: {}", list.len());
        for l in list {
            eprintln!("{l}");
        }
    }
    eprintln!("{total} cases");
    assert!(wrong.is_empty());
}
