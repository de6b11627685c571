//! Random queries in whatever state the indexes are: what is found is what evaluation without
//! indexes finds.

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use tidemark_protocol::model::{
    CollectionPath, Direction, Document, FieldFilter, FieldPath, Filter, IndexDefinition,
    IndexField, IndexMode, IndexScope, Operator, Query, Value, evaluate,
};
use tidemark_protocol::wire::codec;
use tidemark_protocol::wire::server::ServerMessage;

use crate::random::{COLLECTION_IDS, COLLECTIONS, FIELDS, any, random_value};
use crate::world::{World, field};

const OPERATORS: [Operator; 8] = [
    Operator::Equal,
    Operator::Equal,
    Operator::LessThan,
    Operator::GreaterThanOrEqual,
    Operator::NotEqual,
    Operator::In,
    Operator::ArrayContains,
    Operator::ArrayContainsAny,
];

/// All documents, in the order of names and without a filter: that reads no index.
pub(crate) async fn documents(world: &mut World) -> Result<Vec<Document>, String> {
    let mut documents = Vec::new();
    for collection in COLLECTIONS {
        let all = Query::collection(&CollectionPath::parse(collection).unwrap());
        documents.extend(run(world, &all).await?.0);
    }
    Ok(documents)
}

/// How many documents were found; an error is a wrong answer.
pub(crate) async fn ask(
    world: &mut World,
    documents: &[Document],
    rng: &mut StdRng,
    count: usize,
) -> Result<u64, String> {
    let mut seen = 0;
    for _ in 0..count {
        let indexes = world.database.indexes();
        let query = match indexes.choose(rng) {
            Some(index) if rng.random_bool(0.5) => fitting_query(rng, &index.definition, documents),
            Some(_) | None => random_query(rng, documents),
        };
        if query.validate().is_err() {
            continue;
        }
        let (found, steps) = run(world, &query).await?;
        let expected: Vec<_> = evaluate(&query, documents).into_iter().cloned().collect();
        if found != expected {
            let paths = |documents: &[Document]| -> Vec<String> {
                documents.iter().map(|document| document.path.to_string()).collect()
            };
            let (found, expected) = (paths(&found), paths(&expected));
            return Err(format!("{query:?}\n{steps}\nfound {found:?}\nexpected {expected:?}"));
        }
        seen += found.len() as u64;
    }
    Ok(seen)
}

async fn run(world: &mut World, query: &Query) -> Result<(Vec<Document>, String), String> {
    world.request += 1;
    world.connection.query(world.request, query.clone(), true);
    let (mut documents, mut steps) = (Vec::new(), String::new());
    loop {
        match world.next().await {
            ServerMessage::Result(result) if result.request == world.request => {
                documents
                    .extend(result.documents.iter().map(|it| codec::decode_document(it).unwrap()));
                steps.extend(result.explanation.map(|it| it.steps.join("\n")));
                if !result.more {
                    return Ok((documents, steps));
                }
            }
            ServerMessage::RequestError { status, .. } => {
                return Err(format!("{query:?}: {status:?}"));
            }
            _ => {}
        }
    }
}

fn random_query(rng: &mut StdRng, documents: &[Document]) -> Query {
    let mut query = if rng.random_bool(0.4) {
        Query::group(any(rng, &COLLECTION_IDS))
    } else {
        Query::collection(&CollectionPath::parse(any(rng, &COLLECTIONS)).unwrap())
    };
    for _ in 0..rng.random_range(0..3) {
        query = query.and(Filter::Field(random_filter(rng, documents)));
    }
    for _ in 0..rng.random_range(0..2) {
        let direction = any(rng, &[Direction::Ascending, Direction::Descending]);
        query = query.with_order(field(any(rng, &FIELDS)), direction);
    }
    if rng.random_bool(0.3) { query.with_limit(rng.random_range(1..4)) } else { query }
}

/// What a declared index is for.
fn fitting_query(rng: &mut StdRng, index: &IndexDefinition, documents: &[Document]) -> Query {
    let mut query = match index.scope {
        IndexScope::Group => Query::group(index.collection_id.clone()),
        IndexScope::Collection => {
            let of_id = COLLECTIONS.map(|path| CollectionPath::parse(path).unwrap());
            let of_id: Vec<_> = of_id.iter().filter(|it| it.id() == index.collection_id).collect();
            Query::collection(any(rng, &of_id))
        }
    };
    for (at, IndexField { field, mode }) in index.fields.iter().enumerate() {
        let is_last = at + 1 == index.fields.len();
        let operator = match mode {
            IndexMode::Contains => Operator::ArrayContains,
            IndexMode::Ascending | IndexMode::Descending if is_last => {
                let direction = match mode {
                    IndexMode::Descending => Direction::Descending,
                    IndexMode::Ascending | IndexMode::Contains => Direction::Ascending,
                };
                return query.with_order(field.clone(), direction);
            }
            IndexMode::Ascending | IndexMode::Descending => Operator::Equal,
        };
        query = query.and(Filter::Field(filter(rng, field.clone(), operator, documents)));
    }
    query
}

fn random_filter(rng: &mut StdRng, documents: &[Document]) -> FieldFilter {
    let operator = any(rng, &OPERATORS);
    let field = field(any(rng, &FIELDS));
    filter(rng, field, operator, documents)
}

/// With an operand that some document has, more often than not.
fn filter(
    rng: &mut StdRng,
    field: FieldPath,
    operator: Operator,
    documents: &[Document],
) -> FieldFilter {
    let operand = |rng: &mut StdRng| {
        let there: Vec<&Value> = documents.iter().filter_map(|it| it.get(&field)).collect();
        match rng.random_range(0..there.len() + 1) {
            0 => random_value(rng, 2),
            at => there[at - 1].clone(),
        }
    };
    let value = match operator {
        Operator::In | Operator::ArrayContainsAny => {
            let values = (0..rng.random_range(1..3)).map(|_| operand(rng));
            Value::Array(values.filter(|value| !matches!(value, Value::Array(_))).collect())
        }
        Operator::ArrayContains => match operand(rng) {
            Value::Array(elements) => elements.first().cloned().unwrap_or(Value::Null),
            other => other,
        },
        Operator::Equal
        | Operator::NotEqual
        | Operator::LessThan
        | Operator::LessThanOrEqual
        | Operator::GreaterThan
        | Operator::GreaterThanOrEqual
        | Operator::NotIn => operand(rng),
    };
    FieldFilter { field, operator, value }
}
