//! One-shot and live queries: comparisons, orders, cursors and limits; and that live results equal fresh
//! ones, of every shape.

use futures::StreamExt;
use rand::Rng;
use rand::seq::IndexedRandom;
use tidemark_core::{
    Aggregate, AggregateListener, AggregateReference, Client, Direction, FieldValue, Filter,
    ListenOptions, Operator, Query, QueryListener, Value,
};
use tidemark_tests::{Seed, TestServer, until};

use crate::{code, fields, ids};

/// `a` to `f`; `n` rises, `kind` alternates, `f` has no `n` and `e` has a text in it.
async fn letters(client: &Client) {
    let documents = [
        ("a", vec![("n", Value::from(1)), ("kind", Value::from("odd"))]),
        ("b", vec![("n", Value::from(2)), ("kind", Value::from("even"))]),
        ("c", vec![("n", Value::Double(2.5)), ("kind", Value::from("odd"))]),
        ("d", vec![("n", Value::from(2)), ("kind", Value::from("even")), ("nested", nested())]),
        ("e", vec![("n", Value::from("text")), ("kind", Value::from("odd"))]),
        ("f", vec![("kind", Value::from("even"))]),
    ];
    for (id, fields) in documents {
        let fields =
            fields.into_iter().map(|(name, value)| (name.to_owned(), FieldValue::from(value)));
        client.doc(&format!("letters/{id}")).unwrap().set_fields(fields).await.unwrap();
    }
}

fn nested() -> Value {
    Value::Map(fields([("deep", Value::from(7))]))
}

/// The result, read once and as the first state of a listener, which must be the same.
pub(crate) async fn result(query: &Query) -> Vec<String> {
    let once = query.get().await.unwrap();
    // What the cache knows of it comes first; that the server says the same is in the metadata alone.
    let mut live = query.listen_with(ListenOptions { include_metadata_changes: true });
    let live = until(&mut live, "the server's result", |snapshot| !snapshot.metadata().from_cache);
    let live = live.await;
    assert_eq!(ids(&once), ids(&live));
    ids(&once).into_iter().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn filters_compare_within_a_type() {
    let server = TestServer::start().await;
    let alice = server.client("alice");
    letters(&alice).await;
    let query = || alice.collection("letters").unwrap().query();
    let cases = [
        (Operator::Equal, Value::from(2), vec!["b", "d"]),
        (Operator::Equal, Value::Double(2.0), vec!["b", "d"]),
        (Operator::Equal, Value::from("text"), vec!["e"]),
        (Operator::LessThan, Value::from(2), vec!["a"]),
        (Operator::LessThanOrEqual, Value::from(2), vec!["a", "b", "d"]),
        (Operator::GreaterThan, Value::from(2), vec!["c"]),
        (Operator::GreaterThanOrEqual, Value::from(2), vec!["b", "d", "c"]),
        (Operator::GreaterThan, Value::from("a"), vec!["e"]),
        (Operator::Equal, Value::Null, vec![]),
    ];
    for (operator, value, expected) in cases {
        let found = result(&query().filter("n", operator, value.clone())).await;
        assert_eq!(found, expected, "n {operator:?} {value:?}");
    }
    assert_eq!(result(&query().filter("nested.deep", Operator::Equal, 7)).await, ["d"]);
    let both = query().filter("kind", Operator::Equal, "odd").filter("n", Operator::LessThan, 2);
    assert_eq!(result(&both).await, ["a"]);
    let range = query().filter("n", Operator::GreaterThan, 1).filter(
        "n",
        Operator::LessThanOrEqual,
        Value::Double(2.5),
    );
    assert_eq!(result(&range).await, ["b", "d", "c"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_cursors_and_limits_cut_the_result() {
    let server = TestServer::start().await;
    let alice = server.client("alice");
    letters(&alice).await;
    let query = || alice.collection("letters").unwrap().query();
    let up = || query().order_by("n", Direction::Ascending);
    let down = || query().order_by("n", Direction::Descending);
    assert_eq!(result(&query()).await, ["a", "b", "c", "d", "e", "f"]);
    assert_eq!(result(&up()).await, ["a", "b", "d", "c", "e"]);
    assert_eq!(result(&down()).await, ["e", "c", "d", "b", "a"]);
    let two = query().order_by("kind", Direction::Descending).order_by("n", Direction::Ascending);
    assert_eq!(result(&two).await, ["a", "c", "e", "b", "d"]);
    assert_eq!(result(&up().limit(3)).await, ["a", "b", "d"]);
    assert_eq!(result(&up().start_at([Value::from(2)])).await, ["b", "d", "c", "e"]);
    assert_eq!(result(&up().start_after([Value::from(2)])).await, ["c", "e"]);
    assert_eq!(result(&up().end_at([Value::from(2)])).await, ["a", "b", "d"]);
    assert_eq!(result(&up().end_before([Value::from(2)])).await, ["a"]);
    assert_eq!(result(&down().start_after([Value::from(2)])).await, ["a"]);
    let between = up().start_at([Value::from(2)]).end_before([Value::from("text")]).limit(2);
    assert_eq!(result(&between).await, ["b", "d"]);
    let names = query().order_by("__name__", Direction::Descending).limit(2);
    assert_eq!(result(&names).await, ["f", "e"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_that_breaks_a_rule_ends_with_its_reason() {
    let server = TestServer::start().await;
    let alice = server.client("alice");
    let wrong = || {
        let letters = alice.collection("letters").unwrap().query();
        letters.order_by("n", Direction::Ascending).start_at([
            Value::from(1),
            Value::from(2),
            Value::from(3),
        ])
    };
    assert_eq!(code(wrong().get().await), "invalid-argument");
    let mut listener = wrong().listen();
    assert_eq!(code(listener.next().await.unwrap()), "invalid-argument");
    assert!(listener.next().await.is_none(), "a listener ends with its error");
}

/// The oracle: whatever was written, a listener shows what a fresh query shows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn live_results_equal_fresh_queries_under_random_writes() {
    let seed = Seed::or(7);
    let mut rng = seed.rng(0);
    let server = TestServer::start().await;
    let (alice, bob) = (server.client("alice"), server.client("bob"));
    let of = |client: &Client| -> Vec<Query> {
        let all = || client.collection("items").unwrap().query();
        vec![
            all(),
            all().filter("kind", Operator::Equal, 1),
            all().filter("n", Operator::GreaterThan, 10).order_by("n", Direction::Descending),
            all().order_by("n", Direction::Ascending).limit(5),
            all().order_by("n", Direction::Descending).limit(3),
            all().filter("kind", Operator::Equal, 0).order_by("n", Direction::Ascending).limit(4),
            all()
                .order_by("n", Direction::Ascending)
                .start_after([Value::from(5)])
                .end_at([Value::from(15)]),
            all().order_by("n", Direction::Ascending).limit_to_last(4),
            all().order_by("n", Direction::Descending).offset(2).limit(5),
            all()
                .filter("kind", Operator::NotEqual, 1)
                .order_by("n", Direction::Ascending)
                .limit(6),
            all().filter("kind", Operator::In, vec![0, 2]),
            all().filter("n", Operator::NotIn, vec![3, 4]).offset(3),
            client
                .collection_group("items")
                .matching(equal("kind", 2).or(equal("n", 7).and(equal("kind", 0)))),
            client.collection_group("items").order_by("n", Direction::Ascending).limit(3),
            all().order_by("n", Direction::Ascending).limit(5).select(["kind"]),
        ]
    };
    let aggregates = |client: &Client| -> Vec<AggregateReference> {
        let mut aggregates: Vec<AggregateReference> = of(client).iter().map(Query::count).collect();
        let mut whole = of(client);
        // What a projection leaves out cannot be summed.
        whole.pop();
        aggregates.extend(whole.iter().map(|query| {
            query.aggregate([Aggregate::sum("n"), Aggregate::average("n"), Aggregate::count()])
        }));
        aggregates
    };
    let asked = aggregates(&alice);
    let mut counters: Vec<AggregateListener> =
        aggregates(&bob).iter().map(AggregateReference::listen).collect();
    let mut counted: Vec<Vec<(String, Value)>> = vec![Vec::new(); counters.len()];
    let queries = of(&alice);
    let mut listeners: Vec<QueryListener> = of(&bob).iter().map(Query::listen).collect();
    let mut shown: Vec<Vec<String>> = vec![Vec::new(); listeners.len()];
    for round in 0..15 {
        for _ in 0..12 {
            let doc = alice.doc(&format!("items/{}", rng.random_range(0..30))).unwrap();
            let n = FieldValue::from(rng.random_range(0..20));
            let kind = FieldValue::from(*[0, 1, 2].choose(&mut rng).unwrap());
            let write = match rng.random_range(0..5) {
                0 => doc.delete(),
                1 => doc.set_fields([("kind", kind)]),
                _ => doc.set_fields([("kind", kind), ("n", n)]),
            };
            drop(write);
        }
        alice.wait_for_pending_writes().await.unwrap();
        for (index, query) in queries.iter().enumerate() {
            let fresh: Vec<String> = versions(&query.get().await.unwrap());
            if shown[index] != fresh || round == 0 {
                let what = format!("query {index} in round {round} to show {fresh:?}");
                let same = |snapshot: &_| versions(snapshot) == fresh;
                until(&mut listeners[index], &what, same).await;
                shown[index] = fresh;
            }
        }
        for (index, aggregate) in asked.iter().enumerate() {
            let fresh = aggregate.get().await.unwrap().values().to_vec();
            if counted[index] != fresh {
                let what = format!("aggregate {index} in round {round} to show {fresh:?}");
                until(&mut counters[index], &what, |values| values.values() == fresh).await;
                counted[index] = fresh;
            }
        }
    }
}

fn equal(field: &str, value: i64) -> Filter {
    Filter::field(field, Operator::Equal, value)
}

fn versions(snapshot: &tidemark_core::QuerySnapshot) -> Vec<String> {
    let documents = snapshot.documents().iter();
    documents.map(|document| format!("{}@{}", document.id(), document.update_version())).collect()
}
