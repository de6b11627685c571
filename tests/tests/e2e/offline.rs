//! A client with a cache on disk: it reads, queries and writes without a network, survives its own restart,
//! catches up with a server that has forgotten its log, and tells its app what became of each write.

use std::path::Path;

use futures::StreamExt;
use serde_json::json;
use tidemark_core::{
    Aggregate, Client, Code, Direction, FieldValue, ListenOptions, Operator, Source, Value,
    WriteEvents, WriteStage,
};
use tidemark_tests::{ServerOptions, TestServer, until, within};

use crate::integer;

/// A client of a link with its cache in a folder; starting it again is a restart of its app.
fn client_in(server: &TestServer, name: &str, folder: &Path) -> Client {
    let url = format!("ws://{}", server.net.address(name));
    Client::builder(url).cache_dir(folder).build().expect("the cache opens")
}

async fn fill(client: &Client, count: usize) {
    let speech = "All the world's a stage, and all the men and women merely players. ".repeat(3);
    for numbers in (0..count).collect::<Vec<_>>().chunks(500) {
        let mut batch = client.batch();
        for n in numbers {
            let doc = client.doc(&format!("plays/{n:04}")).unwrap();
            batch.set(&doc, &json!({"n": n, "act": n % 5, "text": speech})).unwrap();
        }
        batch.commit().await.unwrap();
    }
}

/// Listens until the server has said what there is, so that it is in the cache.
async fn learn(client: &Client, count: usize) {
    let plays = client.collection("plays").unwrap().query();
    let mut listener = plays.listen_with(ListenOptions { include_metadata_changes: true });
    until(&mut listener, "all plays", |snapshot| {
        !snapshot.metadata().from_cache && snapshot.documents().len() == count
    })
    .await;
}

/// What the app is told of a write from now on, up to the server's word.
async fn last_stage(events: &mut WriteEvents, path: &str) -> WriteStage {
    loop {
        let event = within("the next stage", events.next()).await.expect("the client is open");
        let about = event.paths().any(|other| other.to_string() == path);
        if about && event.stage != WriteStage::Local {
            return event.stage;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_is_answered_from_the_cache_after_a_restart_without_a_network() {
    let (server, folder) = (TestServer::start().await, tempfile::tempdir().unwrap());
    fill(&server.client("writer"), 200).await;
    let bob = client_in(&server, "bob", folder.path());
    learn(&bob, 200).await;
    bob.close().await;

    server.net.partition("bob");
    let bob = client_in(&server, "bob", folder.path());
    bob.disable_network();
    let plays = bob.collection("plays").unwrap();
    bob.doc("plays/0007").unwrap().update([("n", FieldValue::from(1_000))]).local().await.unwrap();
    bob.doc("plays/0008").unwrap().delete().local().await.unwrap();

    let found = plays
        .filter("act", Operator::Equal, 2)
        .order_by("n", Direction::Descending)
        .limit(3)
        .get()
        .await
        .unwrap();
    let numbers: Vec<_> = found.documents().iter().map(|it| integer(it, "n").unwrap()).collect();
    assert_eq!(numbers, [1_000, 197, 192], "the local edit is in its place");
    assert!(found.metadata().from_cache && found.metadata().has_pending_writes);

    let values = plays.query().aggregate([Aggregate::count(), Aggregate::sum("n")]);
    let values = values.get_from(Source::Cache).await.unwrap();
    assert_eq!(values.count(), Some(199));
    let sum = (0..200).sum::<i64>() - 7 - 8 + 1_000;
    assert_eq!(values.values()[1].1, Value::Integer(sum));

    let gone = bob.doc("plays/0008").unwrap().get().await.unwrap();
    assert!(!gone.exists());
    let unknown = bob.doc("plays/never-seen").unwrap().get().await.unwrap_err();
    assert_eq!(unknown.code(), Code::Unavailable);
    let server_only = plays.query().get_from(Source::Server).await.unwrap_err();
    assert_eq!(server_only.code(), Code::Unavailable);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_survive_a_restart_and_take_effect_once() {
    let (server, folder) = (TestServer::start().await, tempfile::tempdir().unwrap());
    let watcher = server.client("watcher");
    let counter = "counters/likes";
    watcher.doc(counter).unwrap().set(&json!({"n": 0})).await.unwrap();
    for run in 0..5 {
        let bob = client_in(&server, "bob", folder.path());
        for n in 0..10 {
            let mut write = bob.doc(counter).unwrap().update([("n", FieldValue::increment(1))]);
            write.local().await.unwrap();
            if n == 5 && run % 2 == 0 {
                server.net.partition("bob");
            }
        }
        // The app ends, whatever the server has answered.
        bob.disable_network();
        bob.close().await;
        server.net.heal("bob");
    }
    let bob = client_in(&server, "bob", folder.path());
    bob.wait_for_pending_writes().await.unwrap();
    assert!(bob.pending_writes().await.unwrap().is_empty());
    let likes = watcher.doc(counter).unwrap().get().await.unwrap();
    assert_eq!(integer(&likes, "n"), Some(50));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_edit_loses_to_a_newer_one_and_its_author_is_told() {
    let (server, folder) = (TestServer::start().await, tempfile::tempdir().unwrap());
    let (ann, bob) = (server.client("ann"), client_in(&server, "bob", folder.path()));
    let place = "plays/hamlet";
    ann.doc(place).unwrap().set(&json!({"title": "Hamlet", "acts": 4})).await.unwrap();
    bob.doc(place).unwrap().get().await.unwrap();

    bob.disable_network();
    let fields = [("title", FieldValue::from("Monday")), ("acts", FieldValue::from(5))];
    let mut edit = bob.doc(place).unwrap().update(fields);
    edit.local().await.unwrap();
    drop(edit);
    let play = ann.doc(place).unwrap();
    play.update([("title", FieldValue::from("Tuesday"))]).await.unwrap();

    let mut events = bob.write_events();
    bob.enable_network();
    let WriteStage::Committed(committed) = last_stage(&mut events, place).await else {
        panic!("the edit of another field holds");
    };
    let superseded: Vec<_> = committed.superseded().collect();
    assert_eq!(format!("{superseded:?}"), r#"[(0, Fields([FieldPath(["title"])]))]"#);
    let play = play.get().await.unwrap();
    assert_eq!(play.get("title"), Some(&Value::from("Tuesday")));
    assert_eq!(integer(&play, "acts"), Some(5));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rejected_write_is_kept_for_the_app_across_a_restart() {
    let (server, folder) = (TestServer::start().await, tempfile::tempdir().unwrap());
    let bob = client_in(&server, "bob", folder.path());
    let mut events = bob.write_events();
    let mut refused = bob.doc("plays/none").unwrap().update([("acts", FieldValue::from(5))]);
    refused.local().await.unwrap();
    drop(refused);
    let mut other = bob.doc("plays/other").unwrap().set(&json!({"acts": 1}));
    other.local().await.unwrap();
    let WriteStage::Rejected(error) = last_stage(&mut events, "plays/none").await else {
        panic!("there is no such document");
    };
    assert_eq!(error.code(), Code::NotFound);
    other.await.expect("a write to another document is not held up");
    drop(events);
    bob.close().await;

    let bob = client_in(&server, "bob", folder.path());
    let rejected = bob.rejected_writes().await.unwrap();
    assert_eq!((rejected.len(), rejected[0].code), (1, Code::NotFound));
    bob.doc("plays/none").unwrap().set(&json!({"acts": 0})).await.unwrap();
    bob.retry(rejected[0].id).await.unwrap();
    let play = bob.doc("plays/none").unwrap().get().await.unwrap();
    assert_eq!(integer(&play, "acts"), Some(5));
    assert!(bob.rejected_writes().await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beyond_the_log_a_restarted_client_is_sent_only_the_difference() {
    let options = ServerOptions { log_bytes: Some(64 * 1024), ..ServerOptions::default() };
    let (server, folder) = (TestServer::with(options).await, tempfile::tempdir().unwrap());
    let ann = server.client("ann");
    fill(&ann, 2_000).await;
    let bob = client_in(&server, "bob", folder.path());
    learn(&bob, 2_000).await;
    let initial = server.net.traffic("bob").down;
    bob.close().await;

    for n in 0..10 {
        ann.doc(&format!("plays/{:04}", n * 150)).unwrap().set(&json!({"n": -1})).await.unwrap();
    }
    ann.doc("plays/1999").unwrap().delete().await.unwrap();
    ann.doc("plays/new").unwrap().set(&json!({"n": 7})).await.unwrap();
    // Many times the size of the log.
    for _ in 0..40 {
        let text = "x".repeat(20_000);
        ann.doc("other/large").unwrap().set(&json!({"text": text})).await.unwrap();
        ann.doc("other/large").unwrap().delete().await.unwrap();
    }
    let before = server.net.traffic("bob").down;
    let bob = client_in(&server, "bob", folder.path());
    let plays = bob.collection("plays").unwrap().query();
    let mut listener = plays.listen_with(ListenOptions { include_metadata_changes: true });
    let seen = until(&mut listener, "the exact result", |snapshot| !snapshot.metadata().from_cache);
    let seen = seen.await;
    let fresh = ann.collection("plays").unwrap().query().get().await.unwrap();
    let fields = |documents: &[tidemark_core::DocumentSnapshot]| -> Vec<_> {
        documents.iter().map(|it| (it.path().to_string(), it.fields().cloned())).collect()
    };
    assert_eq!(fields(seen.documents()), fields(fresh.documents()));
    let difference = server.net.traffic("bob").down - before;
    assert!(difference * 10 < initial, "{difference} bytes of {initial} came again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_clients_cannot_have_one_cache() {
    let (server, folder) = (TestServer::start().await, tempfile::tempdir().unwrap());
    let bob = client_in(&server, "bob", folder.path());
    let url = format!("ws://{}", server.net.address("bob"));
    let refusal = Client::builder(&url).cache_dir(folder.path()).build().err();
    assert_eq!(refusal.expect("it is in use").code(), Code::FailedPrecondition);
    let other = Client::builder(&url).project("other").cache_dir(folder.path()).build();
    assert!(other.is_ok(), "another project has a file of its own");
    bob.close().await;
    Client::builder(&url).cache_dir(folder.path()).build().expect("it is free again");
}
