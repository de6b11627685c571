//! What queries cost on 100,000 documents: the entries they read for each document they return. Counts,
//! not times.

use tidemark_protocol::model::*;
use tidemark_protocol::wire::server::Explanation;

use crate::world::{World, collection, definition, field, path};

const PEOPLE: u64 = 100_000;
const ROOMS: u64 = 756;
const SPEAKERS: u64 = 8;

/// Spreads numbers evenly and without a pattern.
fn mix(number: u64) -> u64 {
    let mixed = (number + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mixed ^ mixed >> 31).wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 20
}

fn number(value: u64) -> Value {
    Value::Integer(i64::try_from(value).unwrap())
}

/// Cities have 500 people each and lie in one country each; a team is in one city, nearly.
fn person(at: u64) -> (DocumentPath, Fields) {
    let city = mix(at) % 200;
    let team = if mix(at + 7).is_multiple_of(50) { city + 1 } else { city };
    let tags = [mix(at + 1) % 300, 300 + mix(at + 2) % 300];
    let tags = tags.map(|tag| Value::from(format!("tag{tag}"))).to_vec();
    let fields = [
        ("city", Value::from(format!("city{city}"))),
        ("country", Value::from(format!("country{}", city / 40))),
        ("team", Value::from(format!("team{team}"))),
        ("age", number(mix(at + 3) % 90)),
        ("score", number(mix(at + 4) % 1_000_000)),
        ("tags", Value::Array(tags)),
    ];
    let fields = fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    (path(&format!("people/p{:06}", mix(at + 5) % 1_000_000_000)), fields)
}

fn speaker(at: u64) -> (DocumentPath, Fields) {
    let fields = [("votes", mix(at) % 100_000), ("stars", mix(at + 9) % 100)];
    let fields = fields.map(|(name, value)| (name.to_owned(), number(value)));
    (path(&format!("rooms/r{}/speakers/s{}", at / SPEAKERS, at % SPEAKERS)), fields.into())
}

async fn world() -> World {
    let mut world = World::new().await;
    for fields in ["city, score", "country, score desc", "tags contains, age desc"] {
        world.index(definition("people", IndexScope::Collection, fields)).await;
    }
    world.index(definition("speakers", IndexScope::Group, "votes")).await;
    world.set((0..PEOPLE).map(person)).await;
    world.set((0..ROOMS * SPEAKERS).map(speaker)).await;
    world
}

fn people() -> Query {
    collection("people")
}

fn by(query: Query, name: &str, direction: Direction) -> Query {
    query.with_order(field(name), direction)
}

fn shapes() -> Vec<(&'static str, Query)> {
    use Direction::{Ascending, Descending};
    use Operator::{
        ArrayContains, ArrayContainsAny, Equal, GreaterThan, GreaterThanOrEqual, In, LessThan,
    };
    let city = || people().with_filter(field("city"), Equal, "city7");
    let cities = vec!["city1", "city50", "city99"];
    let after = Cursor { values: vec![number(500_000)], before: false };
    let votes = Query::group("speakers").with_filter(field("votes"), GreaterThan, number(50_000));
    vec![
        ("an equality", city()),
        ("an equality, a page of it", city().with_limit(50)),
        ("an equality and an order", by(city(), "score", Ascending).with_limit(50)),
        ("an equality and an order, backward", by(city(), "score", Descending).with_limit(50)),
        ("an equality and a range", city().with_filter(field("score"), LessThan, number(300_000))),
        (
            "a composite with a descending field and a range",
            by(people().with_filter(field("country"), Equal, "country2"), "score", Descending)
                .with_filter(field("score"), LessThan, number(900_000))
                .with_limit(100),
        ),
        (
            "a range, its order and a limit",
            by(people(), "score", Ascending)
                .with_filter(field("score"), GreaterThanOrEqual, number(250_000))
                .with_limit(100),
        ),
        ("an order and a limit", by(people(), "score", Descending).with_limit(50)),
        ("merged equalities", city().with_filter(field("country"), Equal, "country0")),
        (
            "merged equalities that nearly agree",
            people()
                .with_filter(field("country"), Equal, "country0")
                .with_filter(field("city"), Equal, "city7")
                .with_filter(field("team"), Equal, "team7"),
        ),
        ("in", people().with_filter(field("city"), In, cities.clone())),
        ("in, a page of it", people().with_filter(field("city"), In, cities).with_limit(100)),
        ("array-contains", people().with_filter(field("tags"), ArrayContains, "tag5")),
        (
            "array-contains and an order",
            by(people().with_filter(field("tags"), ArrayContains, "tag5"), "age", Descending)
                .with_limit(30),
        ),
        (
            "array-contains-any",
            people().with_filter(field("tags"), ArrayContainsAny, vec!["tag5", "tag305"]),
        ),
        ("a group, a range and a limit", by(votes, "votes", Ascending).with_limit(50)),
        ("the last of an order", by(people(), "score", Ascending).with_limit_to_last(50)),
        ("the last of an equality", by(city(), "score", Ascending).with_limit_to_last(50)),
        ("a page in the middle", by(people(), "score", Ascending).with_start(after).with_limit(50)),
        (
            "a page in the middle of names",
            people()
                .with_start(Cursor {
                    values: vec![Value::Reference(path("people/p5"))],
                    before: true,
                })
                .with_limit(50),
        ),
    ]
}

fn check(name: &str, results: usize, explanation: &Explanation) {
    let returned = results as f64;
    let scanned = explanation.entries_scanned as f64 / returned;
    let read = explanation.documents_read as f64 / returned;
    println!("{name}: {results} returned, {scanned:.3} entries and {read:.3} documents for each");
    let told = explanation.steps.join("\n");
    assert_eq!(explanation.results, results as u64);
    assert!(results >= 30, "{name}: too few\n{told}");
    assert!(scanned <= 1.1 && read <= 1.1, "{name}: {scanned} {read}\n{told}");
    assert_eq!(explanation.suggestion, None, "{name}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn indexed_queries_read_what_they_return() {
    let started = std::time::Instant::now();
    let mut world = world().await;
    println!("{PEOPLE} documents in {:.1} s", started.elapsed().as_secs_f64());
    for (name, query) in shapes() {
        let (documents, explanation) = world.explained(&query).await;
        check(name, documents.len(), &explanation);
    }
    counted(&mut world).await;
    unindexed(&mut world).await;
    grouped(&mut world).await;
}

/// Counts that an index answers read no documents.
async fn counted(world: &mut World) {
    let count =
        || vec![Aggregation { alias: "n".into(), kind: AggregationKind::Count { up_to: None } }];
    let in_city = people().with_filter(field("city"), Operator::Equal, "city7");
    let old = people().with_filter(field("age"), Operator::GreaterThan, number(80));
    let cities = people().with_filter(field("city"), Operator::In, vec!["city1", "city2"]);
    for query in [in_city, old, cities] {
        let aggregate = AggregateQuery { query, aggregations: count() };
        let (values, explanation) = world.aggregate(&aggregate, true).await.unwrap();
        let explanation = explanation.unwrap();
        let expected = world.explained(&aggregate.query).await.0.len() as u64;
        assert_eq!(values, [number(expected)]);
        assert_eq!((explanation.documents_read, explanation.entries_scanned), (0, expected));
    }
}

/// Without the right index a query costs more, and says which would help.
async fn unindexed(world: &mut World) {
    let query = people()
        .with_filter(field("team"), Operator::Equal, "team7")
        .with_order(field("age"), Direction::Descending)
        .with_limit(10);
    let (documents, explanation) = world.explained(&query).await;
    assert_eq!(documents.len(), 10);
    // The team has 500 people; in the order of age one in 200 is of the team.
    assert!(explanation.entries_scanned < 4 * 600, "{explanation:?}");
    let suggested = definition("people", IndexScope::Collection, "team, age desc");
    assert_eq!(explanation.suggestion, Some(suggested.clone()));
    world.index(suggested).await;
    let (same, explanation) = world.explained(&query).await;
    assert_eq!(same, documents);
    assert_eq!((explanation.entries_scanned, explanation.suggestion), (10, None));
}

/// A group without an index of its own: in the order of names its collections are opened in turn.
async fn grouped(world: &mut World) {
    let (documents, explanation) = world.explained(&Query::group("speakers").with_limit(50)).await;
    assert_eq!(documents.len(), 50);
    assert!(explanation.entries_scanned <= 50 + 16, "{explanation:?}");
    let query = Query::group("speakers")
        .with_filter(field("stars"), Operator::GreaterThan, number(50))
        .with_limit(50);
    let (documents, explanation) = world.explained(&query).await;
    assert_eq!(documents.len(), 50);
    assert!(explanation.entries_scanned <= 4 * ROOMS, "{explanation:?}");
    let suggested = definition("speakers", IndexScope::Group, "stars");
    assert_eq!(explanation.suggestion, Some(suggested.clone()));
    world.index(suggested).await;
    let (same, explanation) = world.explained(&query).await;
    assert_eq!(same, documents);
    assert_eq!((explanation.entries_scanned, explanation.suggestion), (50, None));
}
