//! Listeners of documents and queries.

use futures::StreamExt;
use serde_json::json;
use tidemark_core::{ChangeKind, FieldValue};
use tidemark_tests::{TestServer, observe, until};

use crate::{ids, integer};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_document_is_told_and_then_followed() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.client("alice"), server.client("bob"));
    let mut listener = bob.doc("rooms/a").unwrap().listen();
    let first = observe::next(&mut listener, "the first word on a missing document").await;
    assert!(!first.exists() && !first.metadata().from_cache);
    let doc = alice.doc("rooms/a").unwrap();
    let created = doc.set(&json!({"n": 1})).await.unwrap();
    let seen =
        until(&mut listener, "the new document", tidemark_core::DocumentSnapshot::exists).await;
    assert_eq!(seen.update_version(), created.version);
    doc.delete().await.unwrap();
    until(&mut listener, "the deletion", |snapshot| !snapshot.exists()).await;
    doc.set(&json!({"n": 2})).await.unwrap();
    until(&mut listener, "the document again", |snapshot| integer(snapshot, "n") == Some(2)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_tells_each_change_once_with_its_place() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.client("alice"), server.client("bob"));
    alice.doc("rooms/b").unwrap().set(&json!({"n": 1})).await.unwrap();
    let mut listener = bob.collection("rooms").unwrap().query().listen();
    let first = observe::next(&mut listener, "the first result").await;
    assert_eq!((ids(&first), first.changes().len()), (vec!["b"], 1));

    alice.doc("rooms/a").unwrap().set(&json!({"n": 1})).await.unwrap();
    let added = observe::next(&mut listener, "an addition").await;
    let [change] = added.changes() else { panic!("{:?}", added.changes()) };
    assert_eq!((change.kind, change.document.id()), (ChangeKind::Added, "a"));
    assert_eq!((change.old_index, change.new_index), (None, Some(0)));

    let committed =
        alice.doc("rooms/b").unwrap().update([("n", FieldValue::from(2))]).await.unwrap();
    let modified = observe::next(&mut listener, "a modification").await;
    let [change] = modified.changes() else { panic!("{:?}", modified.changes()) };
    assert_eq!((change.kind, change.document.id()), (ChangeKind::Modified, "b"));
    assert_eq!((change.old_index, change.new_index), (Some(1), Some(1)));
    assert!(modified.version() >= committed.version);

    alice.doc("rooms/a").unwrap().delete().await.unwrap();
    let removed = observe::next(&mut listener, "a removal").await;
    let [change] = removed.changes() else { panic!("{:?}", removed.changes()) };
    assert_eq!((change.kind, change.document.id()), (ChangeKind::Removed, "a"));
    assert_eq!((change.old_index, change.new_index), (Some(0), None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn documents_of_other_collections_and_deeper_ones_are_not_told() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.client("alice"), server.client("bob"));
    let mut listener = bob.collection("rooms").unwrap().query().listen();
    observe::next(&mut listener, "the first result").await;
    for path in ["rooms2/x", "room/x", "rooms/a/messages/1", "other/rooms/rooms/x"] {
        alice.doc(path).unwrap().set(&json!({})).await.unwrap();
    }
    alice.doc("rooms/last").unwrap().set(&json!({})).await.unwrap();
    let snapshot = observe::next(&mut listener, "the one document of the collection").await;
    assert_eq!(ids(&snapshot), ["last"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_query_by_many_clients_shows_all_the_same() {
    let server = TestServer::start().await;
    let alice = server.client("alice");
    let clients: Vec<_> =
        (0..20).map(|number| server.client(&format!("reader {number}"))).collect();
    let mut listeners: Vec<_> =
        clients.iter().map(|client| client.collection("rooms").unwrap().query().listen()).collect();
    // One client has the same query twice.
    listeners.push(clients[0].collection("rooms").unwrap().query().listen());
    for listener in &mut listeners {
        observe::next(listener, "the first result").await;
    }
    let mut last = None;
    for n in 0..30 {
        let doc = alice.doc(&format!("rooms/{}", n % 10)).unwrap();
        last = Some(doc.set(&json!({"n": n})).await.unwrap().version);
    }
    let newest = |snapshot: &tidemark_core::QuerySnapshot| {
        snapshot.documents().iter().map(tidemark_core::DocumentSnapshot::update_version).max()
    };
    for listener in &mut listeners {
        let snapshot = until(listener, "the last write", |snapshot| newest(snapshot) == last).await;
        let numbers: Vec<_> =
            snapshot.documents().iter().map(|document| integer(document, "n").unwrap()).collect();
        assert_eq!(numbers, (20..30).collect::<Vec<_>>());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_listener_leaves_the_others_alone() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.client("alice"), server.client("bob"));
    let query = bob.collection("rooms").unwrap().query();
    let mut kept = query.listen();
    observe::next(&mut kept, "the first result").await;
    for n in 0..5 {
        let mut other = query.listen();
        observe::next(&mut other, "the first result of another listener").await;
        drop(other);
        let doc = bob.doc("rooms/0").unwrap();
        drop(doc.listen());
        alice.doc(&format!("rooms/{n}")).unwrap().set(&json!({})).await.unwrap();
        until(&mut kept, "the next document", |snapshot| snapshot.documents().len() == n + 1).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_client_ends_its_listeners_and_refuses_work() {
    let server = TestServer::start().await;
    let alice = server.client("alice");
    let mut listener = alice.collection("rooms").unwrap().query().listen();
    observe::next(&mut listener, "the first result").await;
    let doc = alice.doc("rooms/a").unwrap();
    alice.close().await;
    let end = observe::within("the listener's end", async {
        while let Some(item) = listener.next().await {
            if item.is_err() {
                return;
            }
        }
    });
    end.await;
    assert!(observe::within("an answer after the end", doc.get()).await.is_err());
    assert!(observe::within("an answer after the end", doc.set(&json!({}))).await.is_err());
}
