//! The emulator's recorded answers, through the engine: once with the automatic indexes alone, once
//! with declared ones as well.

use tidemark_protocol::model::*;

use crate::fixtures::{Answer, Case, DataSet, Request, recorded_queries};
use crate::world::{World, definition};

/// What the model answers: it differs from the emulator only where that is meant.
fn by_evaluation(case: &Case, documents: &[Document]) -> Answer {
    let place = |found: &Document| {
        documents.iter().position(|document| document.path == found.path).unwrap()
    };
    match &case.request {
        Err(error) => Answer::Refused(error.code),
        Ok(Request::Query(query)) => match query.validate() {
            Err(error) => Answer::Refused(error.code),
            Ok(()) if matches!(case.answer, Answer::Fields(_)) => {
                let found = evaluate(query, documents).into_iter();
                Answer::Fields(found.map(|it| (place(it), query.result(it).fields)).collect())
            }
            Ok(()) => Answer::Found(evaluate(query, documents).into_iter().map(place).collect()),
        },
        Ok(Request::Aggregate(query)) => match query.validate() {
            Err(error) => Answer::Refused(error.code),
            Ok(()) => {
                let aliases = query.aggregations.iter().map(|it| it.alias.clone());
                Answer::Values(aliases.zip(aggregate(query, documents)).collect())
            }
        },
    }
}

async fn answer(world: &mut World, case: &Case, documents: &[Document]) -> Answer {
    let request = match &case.request {
        Ok(request) => request,
        Err(error) => return Answer::Refused(error.code),
    };
    let place = |found: &Document| {
        documents.iter().position(|document| document.path == found.path).unwrap()
    };
    match request {
        Request::Query(query) => match world.query(query, false).await {
            Err(status) => Answer::Refused(status.code),
            Ok(found) if matches!(case.answer, Answer::Fields(_)) => {
                let fields = |found: Document| (place(&found), found.fields);
                Answer::Fields(found.documents.into_iter().map(fields).collect())
            }
            Ok(found) => Answer::Found(found.documents.iter().map(place).collect()),
        },
        Request::Aggregate(query) => match world.aggregate(query, false).await {
            Err(status) => Answer::Refused(status.code),
            Ok((values, _)) => {
                let aliases = query.aggregations.iter().map(|it| it.alias.clone());
                Answer::Values(aliases.zip(values).collect())
            }
        },
    }
}

/// Returns how many cases were asked, and those answered otherwise.
async fn replay(set: &DataSet, indexes: &[IndexDefinition]) -> (usize, Vec<String>) {
    let mut world = World::new().await;
    world.set(set.documents.iter().map(|it| (it.path.clone(), it.fields.clone()))).await;
    for index in indexes {
        world.index(index.clone()).await;
    }
    let mut wrong = Vec::new();
    for case in &set.cases {
        let ours = answer(&mut world, case, &set.documents).await;
        if ours != case.answer && ours != by_evaluation(case, &set.documents) {
            wrong.push(format!("{}\n  ours {:.600}", case.json, format!("{ours:?}")));
        }
    }
    (set.cases.len(), wrong)
}

/// Indexes over the fields that the cases ask for most, in the group and in the collection.
fn declared(set: &DataSet, number: usize) -> Vec<IndexDefinition> {
    let mut fields: Vec<(usize, String)> = Vec::new();
    let mut ids: Vec<&str> = Vec::new();
    for request in set.cases.iter().filter_map(|case| case.request.as_ref().ok()) {
        let (Request::Query(query) | Request::Aggregate(AggregateQuery { query, .. })) = request;
        if !ids.contains(&query.collection_id.as_str()) && query.validate().is_ok() {
            ids.push(&query.collection_id);
        }
        let filters = query.field_filters().map(|filter| &filter.field);
        for field in filters.chain(query.order_by.iter().map(|order| &order.field)) {
            let text = field.to_string();
            match fields.iter_mut().find(|(_, it)| *it == text) {
                _ if field.is_document_id() || text.contains(' ') => {}
                Some((count, _)) => *count += 1,
                None => fields.push((1, text)),
            }
        }
    }
    fields.sort_by_key(|(count, name)| (std::cmp::Reverse(*count), name.clone()));
    let name = |at: usize| fields.get(at % fields.len().max(1)).map_or("a", |(_, name)| name);
    let (a, b, c) = (name(number), name(number + 1), name(number + 2));
    let shapes =
        [a.to_owned(), format!("{a} contains"), format!("{b}, {a}"), format!("{a}, {c} desc")];
    let mut out = Vec::new();
    for id in ids.iter().take(3) {
        for shape in &shapes {
            let scope =
                if number.is_multiple_of(2) { IndexScope::Group } else { IndexScope::Collection };
            let definition = definition(id, scope, shape);
            if definition.validate().is_ok() {
                out.push(definition);
            }
        }
    }
    out
}

#[tokio::test]
async fn the_engine_answers_as_the_emulator() {
    let (mut cases, mut wrong) = (0, Vec::new());
    for (number, set) in recorded_queries().enumerate() {
        let (plain, plainly_wrong) = replay(&set, &[]).await;
        let (indexed, wrong_with_indexes) = replay(&set, &declared(&set, number)).await;
        cases += plain + indexed;
        wrong.extend(plainly_wrong.into_iter().map(|it| format!("set {number}: {it}")));
        wrong.extend(
            wrong_with_indexes.into_iter().map(|it| format!("set {number}, indexed: {it}")),
        );
    }
    println!("{cases} cases");
    assert!(cases > 1_000);
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong[..wrong.len().min(8)].join("\n"));
}
