//! Resume tokens: inside the log's retention only what changed comes, beyond it everything comes again.

use std::collections::BTreeMap;

use serde_json::json;
use tidemark_core::{Client, ListenOptions};
use tidemark_protocol::model::{CollectionPath, Incarnation, Query, ResumeToken, Target, Version};
use tidemark_protocol::wire::codec;
use tidemark_tests::raw::{Attached, RawClient};
use tidemark_tests::server::client_id;
use tidemark_tests::{ServerOptions, TestServer, until};

use crate::integer;

async fn fill(client: &Client, count: usize) {
    let texts = "All the world's a stage, and all the men and women merely players. ".repeat(3);
    for chunk in (0..count).collect::<Vec<_>>().chunks(250) {
        let mut batch = client.batch();
        for number in chunk {
            let doc = client.doc(&format!("c/{number:04}")).unwrap();
            batch.set(&doc, &json!({"n": number, "text": texts})).unwrap();
        }
        batch.commit().await.unwrap();
    }
}

fn everything() -> Target {
    Target::Query(Query::collection(&CollectionPath::parse("c").unwrap()))
}

/// The documents that an attach brought, with their `n`.
fn brought(attached: &Attached) -> BTreeMap<String, i64> {
    let documents = attached.changes.iter().flat_map(|changes| &changes.documents);
    documents
        .map(|bytes| {
            let document = codec::decode_document(bytes).unwrap();
            let Some(tidemark_core::Value::Integer(n)) = document.fields.get("n") else {
                panic!("{document:?}");
            };
            (document.path.id().to_owned(), *n)
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn within_retention_the_bytes_follow_the_difference() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.client("alice"), server.client("bob"));
    fill(&alice, 1_000).await;
    let mut listener = bob
        .collection("c")
        .unwrap()
        .query()
        .listen_with(ListenOptions { include_metadata_changes: true });
    until(&mut listener, "all documents", |snapshot| snapshot.documents().len() == 1_000).await;
    let initial = server.net.traffic("bob").down;

    server.net.partition("bob");
    until(&mut listener, "the lost connection", |snapshot| snapshot.metadata().from_cache).await;
    for round in 0..3 {
        for number in 0..10 {
            let n = 10_000 + round;
            alice.doc(&format!("c/{number:04}")).unwrap().set(&json!({"n": n})).await.unwrap();
        }
    }
    alice.doc("c/0999").unwrap().delete().await.unwrap();
    server.net.heal("bob");
    let resumed = until(&mut listener, "the difference", |snapshot| {
        !snapshot.metadata().from_cache && snapshot.documents().len() == 999
    })
    .await;
    assert!(
        resumed.documents()[..10].iter().all(|document| integer(document, "n") == Some(10_002))
    );
    let difference = server.net.traffic("bob").down - initial;
    assert!(difference * 20 < initial, "{difference} bytes of {initial} came again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beyond_retention_a_client_begins_anew_and_is_exact() {
    let options = ServerOptions { log_bytes: Some(64 * 1024), ..ServerOptions::default() };
    let server = TestServer::with(options).await;
    let (alice, bob) = (server.client("alice"), server.client("bob"));
    fill(&alice, 50).await;
    let (mut raw, welcome) = RawClient::connect(server.address(), client_id(1)).await;
    let before = raw.listen(1, everything(), None).await;
    assert_eq!(before.documents(), 50);
    let token = ResumeToken { incarnation: welcome.incarnation, version: before.version };

    let mut listener = bob
        .collection("c")
        .unwrap()
        .query()
        .listen_with(ListenOptions { include_metadata_changes: true });
    until(&mut listener, "all documents", |snapshot| snapshot.documents().len() == 50).await;
    server.net.partition("bob");
    until(&mut listener, "the lost connection", |snapshot| snapshot.metadata().from_cache).await;
    alice.doc("c/0007").unwrap().delete().await.unwrap();
    // Many times the size of the log.
    for _ in 0..40 {
        fill(&alice, 5).await;
        alice
            .doc("c/0003")
            .unwrap()
            .set(&json!({"n": -1, "text": "x".repeat(20_000)}))
            .await
            .unwrap();
    }
    let (mut raw, _) = RawClient::connect(server.address(), client_id(2)).await;
    let anew = raw.listen(1, everything(), Some(token)).await;
    assert!(anew.reset, "the token is older than the log");
    let anew = brought(&anew);
    assert_eq!((anew.len(), anew.contains_key("0007"), anew["0003"]), (49, false, -1));

    server.net.heal("bob");
    let seen = until(&mut listener, "the exact result", |snapshot| {
        !snapshot.metadata().from_cache && snapshot.documents().len() == 49
    })
    .await;
    assert_eq!(integer(&seen.documents()[3], "n"), Some(-1));
    assert!(seen.documents().iter().all(|document| document.id() != "0007"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_of_another_life_of_the_database_begins_anew() {
    let server = TestServer::start().await;
    let alice = server.client("alice");
    fill(&alice, 20).await;
    let (mut raw, welcome) = RawClient::connect(server.address(), client_id(1)).await;
    let first = raw.listen(1, everything(), None).await;
    let of = |incarnation, version| Some(ResumeToken { incarnation, version });
    let other = Incarnation(welcome.incarnation.0 ^ 1);
    let anew = raw.listen(2, everything(), of(other, first.version)).await;
    assert_eq!((anew.reset, anew.documents()), (true, 20));
    // A version that the database has not reached cannot be one of its tokens.
    let future = Version(first.version.0 + 1_000_000_000);
    let anew = raw.listen(3, everything(), of(welcome.incarnation, future)).await;
    assert_eq!((anew.reset, anew.documents()), (true, 20));
    let same = raw.listen(4, everything(), of(welcome.incarnation, first.version)).await;
    assert_eq!((same.reset, same.documents()), (false, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wiped_server_is_another_database() {
    let first = TestServer::start().await;
    let (_, one) = RawClient::connect(first.address(), client_id(1)).await;
    let second = TestServer::start().await;
    let (_, other) = RawClient::connect(second.address(), client_id(1)).await;
    assert_ne!(one.incarnation, other.incarnation);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_is_the_net_change_of_each_document() {
    let server = TestServer::start().await;
    let alice = server.client("alice");
    fill(&alice, 10).await;
    let (mut raw, welcome) = RawClient::connect(server.address(), client_id(1)).await;
    let first = raw.listen(1, everything(), None).await;
    for n in 0..5 {
        alice.doc("c/0001").unwrap().set(&json!({"n": n})).await.unwrap();
    }
    alice.doc("c/0002").unwrap().delete().await.unwrap();
    alice.doc("c/passing").unwrap().set(&json!({"n": 1})).await.unwrap();
    alice.doc("c/passing").unwrap().delete().await.unwrap();
    alice.doc("elsewhere/x").unwrap().set(&json!({"n": 1})).await.unwrap();
    let token = ResumeToken { incarnation: welcome.incarnation, version: first.version };
    let resumed = raw.listen(2, everything(), Some(token)).await;
    assert!(!resumed.reset);
    assert_eq!(brought(&resumed), BTreeMap::from([("0001".to_owned(), 4)]));
    let removals: Vec<String> = resumed
        .changes
        .iter()
        .flat_map(|changes| &changes.removals)
        .map(|removal| {
            assert!(removal.deleted);
            removal.path.id().to_owned()
        })
        .collect();
    assert!(removals.contains(&"0002".to_owned()), "{removals:?}");
    assert!(removals.iter().all(|id| id == "0002" || id == "passing"), "{removals:?}");
}
