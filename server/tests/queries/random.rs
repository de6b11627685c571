//! Random queries over random documents with random indexes: what the engine finds is what evaluation
//! without indexes finds.

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use tidemark_protocol::model::*;

use crate::world::{World, field, path};

const SEEDS: u64 = 48;
const QUERIES: usize = 250;
/// Found by longer runs.
const FAILED_ONCE: [u64; 1] = [2_342];

const COLLECTIONS: [&str; 6] = ["c", "d/x/c", "d/x/c/1/c", "d/y/c", "c/1/c", "d"];
const FIELDS: [&str; 5] = ["f", "g", "m.f", "l", "`a.b`"];

fn any<T: Clone>(rng: &mut StdRng, of: &[T]) -> T {
    of.choose(rng).unwrap().clone()
}

fn scalar(rng: &mut StdRng) -> Value {
    match rng.random_range(0..16) {
        0 => Value::Null,
        1 => Value::from(rng.random_bool(0.5)),
        2..6 => Value::from(rng.random_range(-1..3)),
        6 => Value::from(any(rng, &[-1.0, 0.0, 1.0, 2.0])),
        7 => Value::from(any(rng, &[f64::NAN, -0.0, 0.5, f64::INFINITY, 1e300])),
        8 => Value::from(any(rng, &[i64::MIN, i64::MAX])),
        9 | 10 => Value::from(any(rng, &["", "a", "\0", "b"])),
        // Longer than an index orders by, with the same beginning.
        11 => Value::from("x".repeat(any(rng, &[1_000, 1_600])) + any(rng, &["", "a", "b"])),
        12 => Value::Bytes(Bytes::from(vec![0; any(rng, &[0, 1, 2_000])])),
        13 => Value::Reference(path(any(rng, &["c/1", "d/x/c/2"]))),
        14 => Value::Timestamp(Timestamp::from_micros(rng.random_range(0..3)).unwrap()),
        _ => Value::GeoPoint(GeoPoint::new(1.0, f64::from(rng.random_range(0..3))).unwrap()),
    }
}

fn value(rng: &mut StdRng) -> Value {
    match rng.random_range(0..10) {
        0 => Value::Array((0..rng.random_range(0..4)).map(|_| scalar(rng)).collect()),
        1 => Value::from([("f", scalar(rng))]),
        2 => Value::Vector(
            (0..any(rng, &[2, 2, 3])).map(|_| rng.random_range(-1..3).into()).collect(),
        ),
        _ => scalar(rng),
    }
}

fn fields(rng: &mut StdRng) -> Fields {
    let mut fields = Fields::new();
    for name in ["f", "g", "a.b"] {
        if rng.random_bool(0.8) {
            fields.insert(name.to_owned(), value(rng));
        }
    }
    if rng.random_bool(0.7) {
        fields.insert("m".to_owned(), Value::from([("f", value(rng))]));
    }
    if rng.random_bool(0.8) {
        let elements = (0..rng.random_range(0..4)).map(|_| scalar(rng)).collect();
        fields.insert("l".to_owned(), Value::Array(elements));
    }
    if rng.random_bool(0.5) {
        fields.insert("v".to_owned(), value(rng));
    }
    fields
}

fn id(rng: &mut StdRng) -> String {
    if rng.random_bool(0.6) {
        return rng.random_range(1..150).to_string();
    }
    any(rng, &["1", "2", "3", "4", "5", "a", "b", "é", "\0", "z"]).to_owned()
}

#[derive(Clone)]
struct Setting {
    documents: Vec<Document>,
    indexes: Vec<IndexDefinition>,
    exempt: Vec<Option<FieldPath>>,
}

fn setting(rng: &mut StdRng) -> Setting {
    let mut documents: Vec<Document> = Vec::new();
    let most = any(rng, &[10, 40, 120]);
    for collection in COLLECTIONS {
        for _ in 0..rng.random_range(0..most) {
            let path = path(&format!("{collection}/{}", id(rng)));
            if documents.iter().all(|it| it.path != path) {
                let (create_version, update_version) = (Version(1), Version(1));
                documents.push(Document {
                    path,
                    fields: fields(rng),
                    create_version,
                    update_version,
                    merge: Default::default(),
                });
            }
        }
    }
    let count = rng.random_range(0..7);
    let indexes = (0..count).map(|_| index(rng)).collect();
    let exempt = match rng.random_range(0..6) {
        0 => vec![None],
        1 | 2 => vec![Some(field(any(rng, &FIELDS)))],
        _ => vec![],
    };
    Setting { documents, indexes, exempt }
}

fn index(rng: &mut StdRng) -> IndexDefinition {
    let mut fields: Vec<IndexField> = Vec::new();
    for _ in 0..rng.random_range(1..4) {
        let field = field(any(rng, &FIELDS));
        let contains = fields.iter().all(|it| it.mode != IndexMode::Contains)
            && field.to_string() == "l"
            && rng.random_bool(0.6);
        let mode = if contains {
            IndexMode::Contains
        } else {
            any(rng, &[IndexMode::Ascending, IndexMode::Descending])
        };
        if fields.iter().all(|it| it.field != field) {
            fields.push(IndexField { field, mode });
        }
    }
    let scope = any(rng, &[IndexScope::Collection, IndexScope::Group]);
    IndexDefinition { collection_id: "c".to_owned(), scope, fields }
}

/// A value that documents may well have.
fn operand(rng: &mut StdRng, documents: &[Document], of: &FieldPath) -> Value {
    let found = rng.random_bool(0.7).then(|| documents.choose(rng)).flatten();
    found.and_then(|it| it.get(of)).cloned().unwrap_or_else(|| value(rng))
}

fn condition(rng: &mut StdRng, documents: &[Document]) -> Filter {
    use Operator::*;
    if rng.random_bool(0.12) {
        let operator = any(
            rng,
            &[
                Equal,
                In,
                LessThan,
                LessThanOrEqual,
                GreaterThan,
                GreaterThanOrEqual,
                NotEqual,
                NotIn,
            ],
        );
        let mut name = || {
            let collection = any(rng, &COLLECTIONS);
            Value::Reference(path(&format!("{collection}/{}", id(rng))))
        };
        let value = match operator {
            In | NotIn => Value::Array(vec![name(), name(), name()]),
            _ => name(),
        };
        return Filter::Field(FieldFilter { field: FieldPath::document_id(), operator, value });
    }
    let field = field(any(rng, &FIELDS));
    let operator = any(
        rng,
        &[
            Equal,
            Equal,
            Equal,
            NotEqual,
            LessThan,
            LessThanOrEqual,
            GreaterThan,
            GreaterThanOrEqual,
            In,
            In,
            NotIn,
            ArrayContains,
            ArrayContainsAny,
        ],
    );
    let field = match operator {
        ArrayContains | ArrayContainsAny => FieldPath::parse("l").unwrap(),
        _ => field,
    };
    let value = match operator {
        In | NotIn => {
            let count = rng.random_range(1..4);
            Value::Array((0..count).map(|_| operand(rng, documents, &field)).collect())
        }
        ArrayContains => scalar(rng),
        ArrayContainsAny => {
            Value::Array((0..rng.random_range(1..4)).map(|_| scalar(rng)).collect())
        }
        _ => operand(rng, documents, &field),
    };
    Filter::Field(FieldFilter { field, operator, value })
}

fn filter(rng: &mut StdRng, documents: &[Document], depth: u32) -> Filter {
    match rng.random_range(0..10) {
        0..2 if depth < 2 => {
            let count = rng.random_range(1..4);
            Filter::Or((0..count).map(|_| filter(rng, documents, depth + 1)).collect())
        }
        2..6 if depth < 2 => {
            let count = rng.random_range(1..4);
            Filter::And((0..count).map(|_| filter(rng, documents, depth + 1)).collect())
        }
        _ => condition(rng, documents),
    }
}

fn cursor(rng: &mut StdRng, documents: &[Document], order: &[Order]) -> Cursor {
    let document = documents.choose(rng);
    let count = rng.random_range(1..=order.len());
    let values = order[..count]
        .iter()
        .map(|clause| {
            let found = document.filter(|_| rng.random_bool(0.8));
            match found {
                Some(found) if clause.field.is_document_id() => {
                    Value::Reference(found.path.clone())
                }
                Some(found) => found.get(&clause.field).cloned().unwrap_or_else(|| value(rng)),
                None if clause.field.is_document_id() => {
                    Value::Reference(path(any(rng, &["c/3", "a/b", "d/x/c/1/c/2", "d/y", "z/z"])))
                }
                None => value(rng),
            }
        })
        .collect();
    Cursor { values, before: rng.random_bool(0.5) }
}

fn query(rng: &mut StdRng, documents: &[Document]) -> Query {
    let parents = [None, None, None, Some("d/x"), Some("d/x/c/1"), Some("c/1")];
    let parent = any(rng, &parents).map(path);
    let all_descendants = rng.random_bool(0.4);
    let mut query =
        Query { parent, collection_id: "c".to_owned(), all_descendants, ..Query::default() };
    if rng.random_bool(0.8) {
        query.filter = Some(filter(rng, documents, 0));
    }
    for _ in 0..any(rng, &[0, 0, 1, 1, 2]) {
        let name = rng.random_bool(0.1);
        let field = if name { FieldPath::document_id() } else { field(any(rng, &FIELDS)) };
        let direction = any(rng, &[Direction::Ascending, Direction::Descending]);
        query.order_by.push(Order { field, direction });
    }
    let order = query.full_order();
    if rng.random_bool(0.25) {
        query.start = Some(cursor(rng, documents, &order));
    }
    if rng.random_bool(0.25) {
        query.end = Some(cursor(rng, documents, &order));
    }
    if rng.random_bool(0.5) {
        query.limit = Some(any(rng, &[1, 2, 3, 5, 8, 20, 50]));
        query.limit_to_last = rng.random_bool(0.3);
    }
    if rng.random_bool(0.2) {
        query.offset = rng.random_range(0..5);
    }
    if rng.random_bool(0.15) {
        query.projection = Some(vec![field(any(rng, &FIELDS)), field(any(rng, &["m", "x.y"]))]);
    }
    if rng.random_bool(0.05) {
        use DistanceMeasure::{Cosine, DotProduct, Euclidean};
        query.nearest = Some(Nearest {
            field: field("v"),
            vector: vec![1.0, rng.random_range(-1..3).into()],
            measure: any(rng, &[Euclidean, Cosine, DotProduct]),
            limit: rng.random_range(1..6),
            threshold: rng.random_bool(0.3).then_some(1.5),
            distance_field: rng.random_bool(0.5).then(|| field("distance")),
        });
    }
    query
}

fn aggregations(rng: &mut StdRng) -> Vec<Aggregation> {
    let kinds = match rng.random_range(0..4) {
        0 => vec![AggregationKind::Count { up_to: None }],
        1 => vec![AggregationKind::Count { up_to: Some(rng.random_range(1..6)) }],
        2 => vec![AggregationKind::Sum(field("f"))],
        _ => vec![
            AggregationKind::Count { up_to: None },
            AggregationKind::Average(field("g")),
            AggregationKind::Sum(field("m.f")),
        ],
    };
    let alias = |(at, kind)| Aggregation { alias: format!("a{at}"), kind };
    kinds.into_iter().enumerate().map(alias).collect()
}

/// The question in words that can be put into a test.
#[derive(Clone, Debug)]
enum Request {
    Query(Query),
    Aggregate(AggregateQuery),
}

impl Request {
    fn random(rng: &mut StdRng, documents: &[Document]) -> Request {
        loop {
            let query = query(rng, documents);
            let request = if rng.random_bool(0.25) {
                Request::Aggregate(AggregateQuery { query, aggregations: aggregations(rng) })
            } else {
                Request::Query(query)
            };
            let valid = match &request {
                Request::Query(query) => query.validate(),
                Request::Aggregate(query) => query.validate(),
            };
            if valid.is_ok() {
                return request;
            }
        }
    }
}

async fn open(setting: &Setting) -> World {
    let mut world = World::new().await;
    world.set(setting.documents.iter().map(|it| (it.path.clone(), it.fields.clone()))).await;
    for index in &setting.indexes {
        // Some are made twice.
        let _ = world.database.create_index(index.clone()).await;
    }
    for prefix in &setting.exempt {
        world.database.exempt("c", prefix.clone(), true).await.unwrap();
    }
    world.database.indexes_settled().await.unwrap();
    world
}

/// What is wrong with the engine's answer.
async fn check(world: &mut World, setting: &Setting, request: &Request) -> Result<usize, String> {
    match request {
        Request::Query(query) => {
            let found = world.query(query, true).await.map_err(|error| error.to_string())?;
            let steps = found.explanation.unwrap().steps.join("\n");
            let seen: Vec<_> = found.documents.iter().map(|it| (&it.path, &it.fields)).collect();
            let expected = evaluate(query, &setting.documents);
            let expected: Vec<_> = expected.into_iter().map(|it| query.result(it)).collect();
            let expected: Vec<_> = expected.iter().map(|it| (&it.path, &it.fields)).collect();
            if seen == expected {
                return Ok(seen.len());
            }
            let paths = |list: &[(&DocumentPath, &Fields)]| -> Vec<String> {
                list.iter().map(|(path, _)| path.to_string()).collect()
            };
            Err(format!("found {:?}\nexpected {:?}\n{steps}", paths(&seen), paths(&expected)))
        }
        Request::Aggregate(query) => {
            let answered = world.aggregate(query, true).await.map_err(|error| error.to_string())?;
            let (values, steps) = (answered.0, answered.1.unwrap().steps.join("\n"));
            let expected = aggregate(query, &setting.documents);
            if values == expected {
                return Ok(1);
            }
            Err(format!("values {values:?}\nexpected {expected:?}\n{steps}"))
        }
    }
}

/// Leaves out documents and indexes as long as the request fails, and panics with what is left.
async fn shrink(seed: u64, mut setting: Setting, request: &Request, mut failure: String) -> ! {
    let mut at = 0;
    while at < setting.documents.len() + setting.indexes.len() {
        let mut smaller = setting.clone();
        match at.checked_sub(setting.documents.len()) {
            None => drop(smaller.documents.remove(at)),
            Some(index) => drop(smaller.indexes.remove(index)),
        }
        match check(&mut open(&smaller).await, &smaller, request).await {
            Err(error) => (setting, failure) = (smaller, error),
            Ok(_) => at += 1,
        }
    }
    let documents: Vec<String> =
        setting.documents.iter().map(|it| format!("{} {:?}", it.path, it.fields)).collect();
    let indexes: Vec<String> = setting.indexes.iter().map(ToString::to_string).collect();
    panic!(
        "seed {seed}\n{request:?}\n{}\nindexes {indexes:?} exempt {:?}\n{failure}",
        documents.iter().map(|it| format!("{it:.300}")).collect::<Vec<_>>().join("\n"),
        setting.exempt
    );
}

#[tokio::test]
async fn the_engine_finds_what_evaluation_finds() {
    let seeds = match std::env::var("TIDEMARK_SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) => (0..SEEDS).chain(FAILED_ONCE).collect(),
    };
    let (mut asked, mut found) = (0, 0);
    for seed in seeds {
        let mut rng = StdRng::seed_from_u64(seed);
        let setting = setting(&mut rng);
        let mut world = open(&setting).await;
        for _ in 0..QUERIES {
            let request = Request::random(&mut rng, &setting.documents);
            match check(&mut world, &setting, &request).await {
                Ok(count) => found += count,
                Err(failure) => shrink(seed, setting, &request, failure).await,
            }
            asked += 1;
        }
    }
    println!("{asked} queries, {found} documents found");
}
