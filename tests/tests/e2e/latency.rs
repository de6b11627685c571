//! Latency compensation: local writes show at once, are confirmed or taken back, and the metadata says which.

use serde_json::json;
use tidemark_core::{FieldValue, ListenOptions, Precondition, Value};
use tidemark_tests::{TestServer, observe, until};

use crate::{code, ids, integer};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_local_write_shows_before_the_server_knows_it() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.client("alice"), server.client("bob"));
    let options = ListenOptions { include_metadata_changes: true };
    let mut own = alice.collection("rooms").unwrap().query().listen_with(options);
    let mut others = bob.collection("rooms").unwrap().query().listen();
    until(&mut own, "the first result", |snapshot| !snapshot.metadata().from_cache).await;
    observe::next(&mut others, "the first result").await;

    server.net.freeze("alice");
    let doc = alice.doc("rooms/a").unwrap();
    let write =
        doc.set_fields([("n", FieldValue::from(1)), ("at", FieldValue::server_timestamp())]);
    let local = until(&mut own, "the local write", |snapshot| ids(snapshot) == ["a"]).await;
    assert!(
        local.metadata().has_pending_writes && local.documents()[0].metadata().has_pending_writes
    );
    assert!(
        matches!(local.documents()[0].get("at"), Some(Value::Timestamp(_))),
        "an estimate shows"
    );

    server.net.heal("alice");
    let committed = write.await.unwrap();
    let confirmed =
        until(&mut own, "the confirmation", |snapshot| !snapshot.metadata().has_pending_writes)
            .await;
    assert_eq!(confirmed.documents()[0].update_version(), committed.version);
    assert!(confirmed.version() >= committed.version);
    assert_eq!(
        confirmed.documents()[0].get("at"),
        Some(&committed.results[0].transform_results[0])
    );
    let seen = until(&mut others, "the write of another", |snapshot| ids(snapshot) == ["a"]).await;
    assert!(!seen.metadata().has_pending_writes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rejected_write_is_taken_back_and_blocks_nothing() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.client("alice"), server.client("bob"));
    let doc = alice.doc("rooms/a").unwrap();
    let first = doc.set(&json!({"n": 1})).await.unwrap();
    let mut listener = doc.listen();
    until(&mut listener, "the document", |snapshot| integer(snapshot, "n") == Some(1)).await;

    // What alice knows allows the write; what bob did meanwhile forbids it.
    server.net.freeze("alice");
    bob.doc("rooms/a").unwrap().set(&json!({"n": 100})).await.unwrap();
    let refused =
        doc.update_if([("n", FieldValue::from(2))], Precondition::UpdateVersion(first.version));
    let good = alice.doc("rooms/b").unwrap().set(&json!({"n": 3}));
    until(&mut listener, "the local write", |snapshot| integer(snapshot, "n") == Some(2)).await;
    server.net.heal("alice");
    assert_eq!(code(refused.await), "failed-precondition");
    let back = until(&mut listener, "the write taken back", |snapshot| {
        integer(snapshot, "n") == Some(100)
    })
    .await;
    assert!(!back.metadata().has_pending_writes);
    good.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_cannot_succeed_does_not_show() {
    let server = TestServer::start().await;
    let alice = server.client("alice");
    let doc = alice.doc("rooms/a").unwrap();
    doc.set(&json!({"n": 1})).await.unwrap();
    let mut listener = doc.listen();
    until(&mut listener, "the document", |snapshot| integer(snapshot, "n") == Some(1)).await;
    assert_eq!(code(doc.create(&json!({"n": 2})).await), "already-exists");
    doc.set(&json!({"n": 3})).await.unwrap();
    until(&mut listener, "the next write", |snapshot| {
        assert_ne!(integer(snapshot, "n"), Some(2), "a document that exists was created");
        integer(snapshot, "n") == Some(3)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pending_changes_stack_on_what_others_write() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.client("alice"), server.client("bob"));
    let (own, others) = (alice.doc("c/d").unwrap(), bob.doc("c/d").unwrap());
    own.set(&json!({"n": 0, "text": "old"})).await.unwrap();
    let mut listener = own.listen();
    until(&mut listener, "the document", tidemark_core::DocumentSnapshot::exists).await;

    server.net.partition("alice");
    let added = own.update([("n", FieldValue::increment(5))]);
    until(&mut listener, "the increment", |snapshot| integer(snapshot, "n") == Some(5)).await;
    others
        .update([("n", FieldValue::increment(100)), ("text", FieldValue::from("new"))])
        .await
        .unwrap();
    server.net.heal("alice");
    added.await.unwrap();
    let merged =
        until(&mut listener, "both increments", |snapshot| integer(snapshot, "n") == Some(105))
            .await;
    assert_eq!(merged.get("text"), Some(&Value::from("new")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_writers_own_listener_never_flickers() {
    let server = TestServer::start().await;
    let alice = server.client("alice");
    let doc = alice.doc("c/counter").unwrap();
    doc.set(&json!({"n": 0})).await.unwrap();
    let mut listener = doc.listen_with(ListenOptions { include_metadata_changes: true });
    until(&mut listener, "the document", tidemark_core::DocumentSnapshot::exists).await;
    let writes: Vec<_> = (0..50).map(|_| doc.update([("n", FieldValue::increment(1))])).collect();
    let mut last = 0;
    until(&mut listener, "all increments", |snapshot| {
        let n = integer(snapshot, "n").unwrap();
        assert!(n >= last, "from {last} back to {n}");
        last = n;
        n == 50 && !snapshot.metadata().has_pending_writes
    })
    .await;
    for write in writes {
        write.await.unwrap();
    }
    assert_eq!(integer(&doc.get().await.unwrap(), "n"), Some(50));
}
