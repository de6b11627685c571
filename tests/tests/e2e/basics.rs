//! Writes, reads, transforms and preconditions through the client core.

use std::collections::BTreeMap;

use serde_json::json;
use tidemark_core::{FieldValue, Value};
use tidemark_protocol::model::{
    DocumentPath, FieldPath, FieldTransform, GeoPoint, Precondition, Timestamp, Transform, Version,
    Write, WriteOp,
};
use tidemark_tests::TestServer;

use crate::{code, fields, integer};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_document_is_written_read_changed_and_deleted() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.client("alice"), server.client("bob"));
    let doc = alice.doc("rooms/a").unwrap();
    let seen = bob.doc("rooms/a").unwrap();

    assert!(!seen.get().await.unwrap().exists());
    let created =
        doc.set(&json!({"title": "Hall", "seats": {"free": 3, "taken": 0}})).await.unwrap();
    let snapshot = seen.get().await.unwrap();
    assert!(snapshot.exists());
    assert_eq!(
        (snapshot.create_version(), snapshot.update_version()),
        (created.version, created.version)
    );
    assert_eq!(snapshot.get("seats.free"), Some(&Value::from(3)));

    let changes = [("seats.free", FieldValue::from(2)), ("title", FieldValue::delete())];
    let updated = doc.update(changes).await.unwrap();
    assert!(updated.version > created.version);
    let snapshot = seen.get().await.unwrap();
    assert_eq!(
        (snapshot.create_version(), snapshot.update_version()),
        (created.version, updated.version)
    );
    let data: serde_json::Value = snapshot.data().unwrap();
    assert_eq!(data, json!({"seats": {"free": 2, "taken": 0}}));

    doc.set_merge(&json!({"seats": {"taken": 1}, "open": true})).await.unwrap();
    let data: serde_json::Value = seen.get().await.unwrap().data().unwrap();
    assert_eq!(data, json!({"seats": {"free": 2, "taken": 1}, "open": true}));

    doc.set(&json!({"only": 1})).await.unwrap();
    let data: serde_json::Value = seen.get().await.unwrap().data().unwrap();
    assert_eq!(data, json!({"only": 1}));

    doc.delete().await.unwrap();
    assert!(!seen.get().await.unwrap().exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn added_documents_have_ids_of_their_own() {
    let server = TestServer::start().await;
    let alice = server.client("alice");
    let rooms = alice.collection("rooms").unwrap();
    let first = rooms.add(&json!({"n": 1}));
    let second = rooms.add(&json!({"n": 2}));
    let (first_doc, second_doc) = (first.doc.clone(), second.doc.clone());
    assert_eq!(first_doc.id().len(), 20);
    assert_ne!(first_doc.id(), second_doc.id());
    first.await.unwrap();
    second.await.unwrap();
    assert_eq!(integer(&second_doc.get().await.unwrap(), "n"), Some(2));
    assert_eq!(rooms.query().get().await.unwrap().documents().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_takes_effect_as_a_whole_or_not_at_all() {
    let server = TestServer::start().await;
    let alice = server.client("alice");
    let (a, b, gone) =
        (alice.doc("c/a").unwrap(), alice.doc("c/b").unwrap(), alice.doc("c/gone").unwrap());
    gone.set(&json!({})).await.unwrap();

    let mut batch = alice.batch();
    batch.set(&a, &json!({"n": 1})).unwrap();
    batch.set(&b, &json!({"n": 1})).unwrap();
    batch.delete(&gone);
    let committed = batch.commit().await.unwrap();
    let snapshots = alice.get_all(&[a.clone(), b.clone(), gone.clone()]).await.unwrap();
    assert_eq!(snapshots[0].update_version(), committed.version);
    assert_eq!(snapshots[1].update_version(), committed.version);
    assert!(!snapshots[2].exists());
    assert_eq!(snapshots[2].path().as_str(), "c/gone");

    let mut batch = alice.batch();
    batch.set(&a, &json!({"n": 2})).unwrap();
    batch.update(&gone, [("n", FieldValue::from(2))]).unwrap();
    assert_eq!(code(batch.commit().await), "not-found");
    assert_eq!(integer(&a.get().await.unwrap(), "n"), Some(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transforms_are_computed_by_the_server_and_their_results_told() {
    let server = TestServer::start().await;
    let alice = server.client("alice");
    let doc = alice.doc("c/d").unwrap();
    doc.set(&json!({"n": 40, "low": 5, "high": 5, "tags": ["a", "b"]})).await.unwrap();
    let committed = doc
        .update([
            ("n", FieldValue::increment(2)),
            ("low", FieldValue::minimum(3)),
            ("high", FieldValue::maximum(3)),
            ("tags", FieldValue::array_union([Value::from("b"), Value::from("c")])),
            ("fresh", FieldValue::increment(1)),
            ("at", FieldValue::server_timestamp()),
        ])
        .await
        .unwrap();
    let snapshot = doc.get().await.unwrap();
    let time = snapshot.get("at").cloned().unwrap();
    assert!(matches!(time, Value::Timestamp(_)), "{time:?}");
    let results = &committed.results[0].transform_results;
    assert_eq!(results.len(), 6);
    for expected in
        [Value::from(42), Value::from(3), Value::from(5), Value::Null, Value::from(1), time]
    {
        assert!(results.contains(&expected), "{expected:?} is missing in {results:?}");
    }
    assert_eq!(integer(&snapshot, "n"), Some(42));
    assert_eq!(snapshot.get("tags"), Some(&Value::Array(vec!["a".into(), "b".into(), "c".into()])));
    doc.update([("tags", FieldValue::array_remove([Value::from("a")]))]).await.unwrap();
    let tags = doc.get().await.unwrap().get("tags").cloned();
    assert_eq!(tags, Some(Value::Array(vec!["b".into(), "c".into()])));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn results_of_transforms_come_in_their_order() {
    let server = TestServer::start().await;
    let alice = server.client("alice");
    let transform = |field: &str, transform| FieldTransform {
        field: FieldPath::parse(field).unwrap(),
        transform,
    };
    let write = Write {
        path: DocumentPath::parse("c/d").unwrap(),
        op: WriteOp::Set(fields([("n", Value::from(1))])),
        transforms: vec![
            transform("n", Transform::Increment(Value::from(4))),
            transform("n", Transform::Maximum(Value::from(9))),
            transform("list", Transform::ArrayUnion(vec![Value::from(1)])),
            transform("at", Transform::ServerTimestamp),
        ],
        precondition: None,
    };
    let committed = alice.commit(vec![write]).await.unwrap();
    let [n, most, list, at] = &committed.results[0].transform_results[..] else {
        panic!("{committed:?}");
    };
    assert_eq!((n, most, list), (&Value::from(5), &Value::from(9), &Value::Null));
    let read = alice.doc("c/d").unwrap().get().await.unwrap();
    assert_eq!(read.get("at"), Some(at));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn preconditions_refuse_with_their_codes_and_change_nothing() {
    let server = TestServer::start().await;
    let alice = server.client("alice");
    let (doc, missing) = (alice.doc("c/d").unwrap(), alice.doc("c/missing").unwrap());
    let first = doc.create(&json!({"n": 1})).await.unwrap();
    assert_eq!(code(doc.create(&json!({"n": 2})).await), "already-exists");
    assert_eq!(code(missing.update([("n", FieldValue::from(2))]).await), "not-found");
    assert_eq!(code(missing.delete_if(Precondition::Exists(true)).await), "not-found");

    let at_first = Precondition::UpdateVersion(first.version);
    let second = doc.update_if([("n", FieldValue::from(2))], at_first).await.unwrap();
    assert_eq!(
        code(doc.update_if([("n", FieldValue::from(3))], at_first).await),
        "failed-precondition"
    );
    assert_eq!(code(doc.delete_if(at_first).await), "failed-precondition");
    assert_eq!(integer(&doc.get().await.unwrap(), "n"), Some(2));
    doc.delete_if(Precondition::UpdateVersion(second.version)).await.unwrap();
    assert!(!doc.get().await.unwrap().exists());
    missing.delete().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_of_every_type_come_back_as_they_were() {
    let server = TestServer::start().await;
    let alice = server.client("alice");
    let nested =
        Value::Map(fields([("none", Value::Null), ("a.b", Value::from("dots and `ticks`"))]));
    let written: BTreeMap<String, Value> = fields([
        ("null", Value::Null),
        ("yes", Value::from(true)),
        ("least", Value::from(i64::MIN)),
        ("most", Value::from(i64::MAX)),
        ("nan", Value::Double(f64::NAN)),
        ("minus_zero", Value::Double(-0.0)),
        ("infinite", Value::Double(f64::NEG_INFINITY)),
        ("whole", Value::Double(1.0)),
        ("time", Value::Timestamp(Timestamp::from_micros(1_700_000_000_123_456).unwrap())),
        ("text", Value::from("zwölf \u{1F30A}\n\0")),
        ("bytes", Value::Bytes(vec![0, 255, 10].into())),
        ("reference", Value::Reference(DocumentPath::parse("rooms/a/messages/1").unwrap())),
        ("place", Value::GeoPoint(GeoPoint::new(52.5, 13.4).unwrap())),
        ("array", Value::Array(vec![Value::Null, Value::from(1), nested.clone()])),
        ("vector", Value::Vector(vec![0.5, -1.0])),
        ("map", nested),
        ("empty", Value::Map(BTreeMap::new())),
    ]);
    let doc = alice.doc("c/d").unwrap();
    doc.set_fields(written.clone()).await.unwrap();
    let read = server.client("bob").doc("c/d").unwrap().get().await.unwrap();
    assert_eq!(read.fields(), Some(&written));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invalid_input_is_refused_by_name() {
    let server = TestServer::start().await;
    let alice = server.client("alice");
    assert_eq!(code(alice.doc("rooms").map(|doc| doc.path().clone())), "invalid-argument");
    assert_eq!(
        code(alice.collection("rooms/a").map(|rooms| rooms.path().clone())),
        "invalid-argument"
    );
    let big = "x".repeat(1_100_000);
    let doc = alice.doc("c/d").unwrap();
    assert_eq!(code(doc.set(&json!({"big": big})).await), "invalid-argument");
    assert_eq!(code(alice.commit(Vec::new()).await), "invalid-argument");
    // The refused writes are gone; the client goes on.
    doc.set(&json!({"big": "x"})).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn versions_are_times() {
    let server = TestServer::start().await;
    let alice = server.client("alice");
    let committed = alice
        .doc("c/d")
        .unwrap()
        .set_fields([("at", FieldValue::server_timestamp())])
        .await
        .unwrap();
    let [Value::Timestamp(time)] = committed.results[0].transform_results[..] else {
        panic!("{committed:?}");
    };
    assert_eq!(u64::try_from(time.as_micros()).map(Version), Ok(committed.version));
}
