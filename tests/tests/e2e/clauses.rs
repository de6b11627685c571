//! Every clause of a query through the client and the server, once and live; aggregates; explanations;
//! and queries that break a rule.

use tidemark_core::{
    Aggregate, AggregateSnapshot, Client, Direction, DistanceMeasure, DocumentSnapshot, FieldValue,
    Filter, IndexMode, IndexScope, ListenOptions, Operator, Query, QuerySnapshot, Value, Vector,
};
use tidemark_protocol::model::{
    AggregateQuery, Aggregation, AggregationKind, Code, CollectionPath, Cursor, FieldFilter,
    FieldPath, Filter as ModelFilter, Nearest, Query as ModelQuery, Target, TargetId,
};
use tidemark_protocol::wire::client::{ClientMessage, Listen};
use tidemark_protocol::wire::server::ServerMessage;
use tidemark_tests::observe::next;
use tidemark_tests::raw::RawClient;
use tidemark_tests::server::client_id;
use tidemark_tests::{TestServer, until};

use crate::queries::result;
use crate::{fields, ids, set};

/// Books `a` to `f` in two shelves; the year rises, the last has none.
async fn books(client: &Client) {
    type Book = (&'static str, &'static str, &'static str, &'static [&'static str], Option<i64>);
    let books: [Book; 6] = [
        ("x", "a", "tragedy", &["king", "ghost"], Some(1590)),
        ("x", "b", "comedy", &["twins"], Some(1592)),
        ("x", "c", "tragedy", &["king", "witch"], Some(1606)),
        ("y", "d", "history", &["king"], Some(1610)),
        ("y", "e", "comedy", &["island", "ghost"], Some(1611)),
        ("y", "f", "history", &[], None),
    ];
    for (shelf, id, kind, tags, year) in books {
        let mut book = vec![
            ("kind".to_owned(), FieldValue::from(kind)),
            ("tags".to_owned(), FieldValue::from(tags.to_vec())),
            ("place".to_owned(), FieldValue::from(Value::from([("shelf", shelf)]))),
        ];
        book.extend(year.map(|year| ("year".to_owned(), FieldValue::from(year))));
        let path = format!("shelves/{shelf}/books/{id}");
        client.doc(&path).unwrap().set_fields(book).await.unwrap();
    }
}

fn group(client: &Client) -> Query {
    client.collection_group("books")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_operator_and_their_combinations() {
    let server = TestServer::start().await;
    let alice = server.client("alice");
    books(&alice).await;
    let field = |name: &str, operator, value: Value| Filter::field(name, operator, value);
    let kinds = |kinds: &[&str]| Value::from(kinds.to_vec());
    let cases: Vec<(Filter, &[&str])> = vec![
        (field("kind", Operator::NotEqual, "comedy".into()), &["a", "c", "d", "f"]),
        (field("kind", Operator::In, kinds(&["comedy", "history"])), &["b", "d", "e", "f"]),
        (field("kind", Operator::NotIn, kinds(&["comedy", "history"])), &["a", "c"]),
        (field("tags", Operator::ArrayContains, "king".into()), &["a", "c", "d"]),
        (field("tags", Operator::ArrayContainsAny, kinds(&["witch", "ghost"])), &["a", "c", "e"]),
        (field("place.shelf", Operator::Equal, "y".into()), &["d", "e", "f"]),
        (
            field("kind", Operator::Equal, "history".into()).or(field(
                "tags",
                Operator::ArrayContains,
                "twins".into(),
            )),
            &["b", "d", "f"],
        ),
        (
            field("year", Operator::GreaterThan, 1592.into()).and(field(
                "kind",
                Operator::NotEqual,
                "history".into(),
            )),
            &["e", "c"],
        ),
        (
            field("place.shelf", Operator::Equal, "x".into()).and(
                field("kind", Operator::Equal, "comedy".into()).or(field(
                    "tags",
                    Operator::ArrayContains,
                    "witch".into(),
                )),
            ),
            &["b", "c"],
        ),
    ];
    for (filter, expected) in cases {
        let mut found = result(&group(&alice).matching(filter.clone())).await;
        // Orders are the next test's: here `!=` orders by its own field.
        found.sort();
        let mut expected = expected.to_vec();
        expected.sort_unstable();
        assert_eq!(found, expected, "{filter:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_windows_and_cursors_at_documents() {
    let server = TestServer::start().await;
    let alice = server.client("alice");
    books(&alice).await;
    let up = || group(&alice).order_by("year", Direction::Ascending);
    assert_eq!(result(&up()).await, ["a", "b", "c", "d", "e"]);
    assert_eq!(result(&up().limit_to_last(2)).await, ["d", "e"]);
    assert_eq!(result(&up().offset(1).limit(2)).await, ["b", "c"]);
    assert_eq!(result(&up().offset(9)).await, [""; 0]);
    assert_eq!(result(&up().offset(1).limit_to_last(2)).await, ["c", "d"]);
    let shelf = alice.doc("shelves/y").unwrap();
    assert_eq!(result(&shelf.collection_group("books")).await, ["d", "e", "f"]);
    let inner = shelf.collection("books").unwrap().query().limit(2);
    assert_eq!(result(&inner).await, ["d", "e"]);

    let of_kind = || group(&alice).filter("kind", Operator::GreaterThan, "b");
    let all = of_kind().get().await.unwrap();
    assert_eq!(ids(&all), ["b", "e", "d", "f", "a", "c"], "the implied order");
    let at = |id: &str| all.documents().iter().find(|document| document.id() == id).unwrap();
    assert_eq!(result(&of_kind().start_at_document(at("d"))).await, ["d", "f", "a", "c"]);
    assert_eq!(result(&of_kind().start_after_document(at("d")).limit(2)).await, ["f", "a"]);
    assert_eq!(result(&of_kind().end_at_document(at("d"))).await, ["b", "e", "d"]);
    let between = of_kind().start_after_document(at("b")).end_before_document(at("a"));
    assert_eq!(result(&between).await, ["e", "d", "f"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_part_of_each_document_once_and_live() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.client("alice"), server.client("bob"));
    books(&alice).await;
    let up = group(&bob).order_by("year", Direction::Ascending);
    let part = up.clone().select(["kind", "place.shelf"]).limit(2);
    let fits = |snapshot: &QuerySnapshot| {
        let place = Value::from([("shelf", "x")]);
        let kinds = ["tragedy", "comedy"];
        assert_eq!(snapshot.len(), 2, "{snapshot:?}");
        for (document, kind) in snapshot.documents().iter().zip(kinds) {
            let expected = fields([("kind", kind.into()), ("place", place.clone())]);
            assert_eq!(document.fields(), Some(&expected));
        }
    };
    fits(&part.get().await.unwrap());
    let mut whole = up.limit(2).listen();
    let seen = next(&mut whole, "the whole documents").await;
    assert!(seen.documents()[0].get("year").is_some());
    let mut listener = part.listen();
    fits(&next(&mut listener, "the part").await);
    let gone = up_to_date(&mut listener, &alice).await;
    assert_eq!(gone.get("year"), None);
    let none = group(&bob).select([""; 0]).get().await.unwrap();
    assert!(
        none.len() == 6
            && none.documents().iter().all(|document| {
                document.fields().is_some_and(std::collections::BTreeMap::is_empty)
            })
    );
}

/// Somebody else changes the first document: the listener sees its part of it.
async fn up_to_date(
    listener: &mut tidemark_core::QueryListener,
    other: &Client,
) -> DocumentSnapshot {
    other.doc("shelves/x/books/a").unwrap().update([("kind", "farce")]).await.unwrap();
    let snapshot = until(listener, "the changed kind", |snapshot: &QuerySnapshot| {
        snapshot.documents()[0].get("kind") == Some(&Value::from("farce"))
    });
    snapshot.await.documents()[0].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_nearest_come_nearest_first() {
    let server = TestServer::start().await;
    let alice = server.client("alice");
    let points = alice.collection("points").unwrap();
    for (id, point) in [("a", [1.0, 0.0]), ("b", [0.0, 2.0]), ("c", [3.0, 4.0])] {
        let vector = Value::from(Vector::from(point.to_vec()));
        points.doc(id).unwrap().set_fields([("v", vector)]).await.unwrap();
    }
    let find = |measure| points.query().find_nearest("v", [0.0, 1.0], measure, 2);
    let near = find(DistanceMeasure::Euclidean).distance_field("d").get().await.unwrap();
    assert_eq!(ids(&near), ["b", "a"]);
    assert_eq!(near.documents()[0].get("d"), Some(&Value::Double(1.0)));
    let near = find(DistanceMeasure::Cosine).get().await.unwrap();
    assert_eq!(ids(&near), ["b", "c"]);
    let near = find(DistanceMeasure::DotProduct).distance_threshold(3.0).get().await.unwrap();
    assert_eq!(ids(&near), ["c"]);
}

fn shown(snapshot: &AggregateSnapshot) -> Vec<Value> {
    snapshot.values().iter().map(|(_, value)| value.clone()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn aggregates_follow_what_is_written_and_outlive_connections() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.client("alice"), server.client("bob"));
    books(&alice).await;
    let dated = |client| {
        let kings = group(client).filter("tags", Operator::ArrayContains, "king");
        kings.aggregate([Aggregate::count(), Aggregate::sum("year"), Aggregate::average("year")])
    };
    let options = ListenOptions { include_metadata_changes: true };
    let mut listener = dated(&bob).listen_with(options);
    let mut count = group(&bob).count().listen();
    let mut windows =
        group(&bob).order_by("year", Direction::Descending).limit(2).sum("year").listen();
    let first = next(&mut listener, "the first values").await;
    let expected = [3.into(), (1590 + 1606 + 1610).into(), Value::Double(4806.0 / 3.0)];
    assert_eq!(shown(&first), expected);
    assert_eq!(shown(&dated(&bob).get().await.unwrap()), expected);
    assert_eq!(next(&mut count, "the count").await.count(), Some(6));
    assert_eq!(next(&mut windows, "the sum").await.value(), &Value::Integer(1610 + 1611));

    let book = alice.doc("shelves/x/books/a").unwrap();
    book.update([("year", Value::Double(0.5))]).await.unwrap();
    let changed = next(&mut listener, "the changed sum").await;
    assert_eq!(changed.get("sum(year)"), Some(&Value::Double(3216.5)));
    alice.doc("shelves/y/books/e").unwrap().delete().await.unwrap();
    assert_eq!(next(&mut count, "the lower count").await.count(), Some(5), "each once");
    assert_eq!(next(&mut windows, "the refilled sum").await.value(), &Value::Integer(1610 + 1606));

    // While the server is away, the last values; when it is back, the present ones.
    server.net.partition("bob");
    server.net.drop_connections("bob");
    let away = until(&mut listener, "the outage", |values| values.metadata().from_cache).await;
    assert_eq!(shown(&away), shown(&changed));
    book.delete().await.unwrap();
    server.net.heal("bob");
    let back = until(&mut listener, "the values after it", |values| !values.metadata().from_cache);
    assert_eq!(back.await.get("count"), Some(&Value::Integer(2)));
    let mut none = alice.collection("nothing").unwrap().query().average("n").listen();
    assert_eq!(next(&mut none, "no average").await.value(), &Value::Null);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pending_writes_count_when_they_are_committed() {
    let server = TestServer::start().await;
    let alice = server.client("alice");
    let letters = alice.collection("letters").unwrap();
    let mut documents = letters.listen();
    let mut count = letters.count().listen();
    next(&mut documents, "no documents").await;
    assert_eq!(next(&mut count, "none").await.count(), Some(0));
    server.net.stall("alice");
    let write = letters.doc("a").unwrap().set_fields([("n", 1)]);
    let shown = next(&mut documents, "the pending document").await;
    assert!(shown.metadata().has_pending_writes && shown.len() == 1);
    server.net.heal("alice");
    write.await.unwrap();
    assert_eq!(next(&mut count, "one").await.count(), Some(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn explanations_tell_the_cost_and_the_index_that_would_help() {
    let server = TestServer::start().await;
    let alice = server.client("alice");
    for batch in 0..4 {
        let mut writes = alice.batch();
        for n in batch * 100..(batch + 1) * 100 {
            let doc = alice.doc(&format!("rooms/r/items/{n:03}")).unwrap();
            let kind = n % 20;
            writes
                .set(&doc, &std::collections::BTreeMap::from([("n", n), ("kind", kind)]))
                .unwrap();
        }
        writes.commit().await.unwrap();
    }
    let items = alice.collection("rooms/r/items").unwrap();
    let of_kind = items.filter("kind", Operator::Equal, 7);
    let (found, explained) = of_kind.clone().explain().await.unwrap();
    assert_eq!((found.len(), explained.results), (20, 20));
    assert!(explained.entries_scanned <= 22 && explained.documents_read <= 22, "{explained:?}");
    assert!(!explained.steps.is_empty() && !explained.indexes.is_empty(), "{explained:?}");
    assert_eq!(explained.suggestion, None, "{explained:?}");

    let (found, explained) =
        items.order_by("n", Direction::Descending).limit(5).explain().await.unwrap();
    assert_eq!((found.len(), ids(&found)[0]), (5, "399"));
    assert!(explained.entries_scanned <= 6, "{explained:?}");

    let count = of_kind.clone().filter("n", Operator::GreaterThan, 200).count();
    let (values, explained) = count.explain().await.unwrap();
    assert_eq!((values.count(), explained.results), (Some(10), 10));

    let last = of_kind.order_by("n", Direction::Ascending).limit(3);
    let (found, explained) = last.explain().await.unwrap();
    assert_eq!(ids(&found), ["007", "027", "047"]);
    let help = explained.suggestion.expect("an index of both fields would help");
    assert_eq!((help.collection_id.as_str(), help.scope), ("items", IndexScope::Collection));
    let modes: Vec<_> =
        help.fields.iter().map(|field| (field.field.to_string(), field.mode)).collect();
    let ascending = |name: &str| (name.to_owned(), IndexMode::Ascending);
    assert_eq!(modes, [ascending("kind"), ascending("n")]);
}

/// Queries that break a rule, by what their refusal must say.
fn wrong() -> Vec<(ModelQuery, &'static str)> {
    let name = |text: &str| FieldPath::parse(text).unwrap();
    let base = || ModelQuery::collection(&CollectionPath::parse("c").unwrap());
    let array = |count: i64| Value::from((0..count).collect::<Vec<_>>());
    let equal = |n: i64| {
        let (field, value) = (name("n"), Value::Integer(n));
        ModelFilter::Field(FieldFilter { field, operator: Operator::Equal, value })
    };
    let of = |operator, value: Value| base().with_filter(name("n"), operator, value);
    let nearest = |vector: Vec<f64>, limit| Nearest {
        field: name("v"),
        vector,
        measure: DistanceMeasure::Cosine,
        limit,
        threshold: None,
        distance_field: None,
    };
    let ordered = || base().with_order(name("n"), Direction::Ascending);
    let start = |values: Vec<Value>| Cursor { values, before: true };
    vec![
        (of(Operator::In, array(31)), "30"),
        (base().and(ModelFilter::Or((0..1_000).map(equal).collect())), ""),
        (of(Operator::NotIn, array(11)), "10"),
        (of(Operator::In, Value::Integer(1)), "array"),
        (of(Operator::In, array(0)), ""),
        (of(Operator::NotEqual, 1.into()).with_filter(name("n"), Operator::NotIn, array(2)), ""),
        (ordered().with_start(start(vec![1.into(), 2.into(), 3.into()])), "cursor"),
        (
            base()
                .with_order(FieldPath::document_id(), Direction::Ascending)
                .with_start(start(vec![1.into()])),
            "__name__",
        ),
        (ModelQuery { limit_to_last: true, ..ordered() }, "limit"),
        (base().with_limit_to_last(3), "order"),
        (ModelQuery { nearest: Some(nearest(vec![], 3)), ..base() }, "vector"),
        (ModelQuery { nearest: Some(nearest(vec![1.0], 1_001)), ..base() }, "1000"),
        (ModelQuery { collection_id: "a/b".to_owned(), ..ModelQuery::default() }, ""),
    ]
}

/// The next refusal, and what it refuses.
async fn refusal(client: &mut RawClient) -> (Code, String) {
    client
        .find(|message| {
            let status = message.refusal()?;
            Some((status.code, status.message.clone()))
        })
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queries_that_break_a_rule_are_refused_by_client_and_server_and_nothing_else_is_lost() {
    let server = TestServer::start().await;
    let alice = server.client("alice");
    let (mut raw, _) = RawClient::connect(server.address(), client_id(7)).await;
    for (number, (query, message)) in (1u32..).zip(wrong()) {
        let error = alice.query(query.clone()).get().await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument, "{query:?}: {error}");
        assert!(error.message().contains(message), "{query:?}: {error}");
        // A client that does not check is told by the server, and stays connected.
        let request = number * 3;
        let explain = number % 2 == 0;
        raw.send(&ClientMessage::Query { request, query: query.clone(), explain }).await;
        assert_eq!(refusal(&mut raw).await.0, Code::InvalidArgument, "{query:?}");
        let (target_id, target) = (TargetId(number), Target::Query(query.clone()));
        raw.send(&ClientMessage::Listen(Listen {
            target_id,
            target,
            resume: None,
            reconciles: false,
        }))
        .await;
        assert_eq!(refusal(&mut raw).await.0, Code::InvalidArgument, "{query:?}");
        let kind = AggregationKind::Count { up_to: None };
        let aggregations = vec![Aggregation { alias: "count".to_owned(), kind }];
        let aggregate = AggregateQuery { query: query.clone(), aggregations };
        raw.send(&ClientMessage::Aggregate { request: request + 1, aggregate, explain }).await;
        assert_eq!(refusal(&mut raw).await.0, Code::InvalidArgument, "{query:?}");
    }
    raw.commit(1, vec![set("c/d", [("n", 1.into())])]).await.unwrap();
    let query = ModelQuery::collection(&CollectionPath::parse("c").unwrap());
    raw.send(&ClientMessage::Query { request: 1_000, query, explain: false }).await;
    let found = raw.find(|message| match message {
        ServerMessage::Result(result) => Some(result.documents.len()),
        _ => None,
    });
    assert_eq!(found.await, 1, "the connection goes on");

    let all = alice.collection("c").unwrap().query();
    let none = all.aggregate([]).get().await.unwrap_err();
    assert_eq!(none.code(), Code::InvalidArgument);
    let six = (0..6).map(|n| Aggregate::count().called(format!("c{n}")));
    assert_eq!(all.aggregate(six).get().await.unwrap_err().code(), Code::InvalidArgument);
    let mut listener = all.find_nearest("v", [1.0], DistanceMeasure::Cosine, 1).listen();
    let error = futures::StreamExt::next(&mut listener).await.unwrap().unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
}
