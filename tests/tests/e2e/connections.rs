//! Networks that come and go.

use std::time::Duration;

use futures::StreamExt;
use serde_json::json;
use tidemark_core::{ConnectionState, FieldValue, ListenOptions, Source};
use tidemark_tests::observe::{eventually, within};
use tidemark_tests::{ServerOptions, TestServer, until};

use crate::{code, ids, integer};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_network_the_client_works_on_and_catches_up_later() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.client("alice"), server.client("bob"));
    let rooms = alice.collection("rooms").unwrap();
    let mut listener = rooms.query().listen_with(ListenOptions { include_metadata_changes: true });
    until(&mut listener, "the first result", |snapshot| !snapshot.metadata().from_cache).await;

    alice.disable_network();
    until(&mut listener, "the word that the result is cached", |snapshot| {
        snapshot.metadata().from_cache
    })
    .await;
    let write = rooms.doc("own").unwrap().set(&json!({}));
    let local = until(&mut listener, "the local write", |snapshot| ids(snapshot) == ["own"]).await;
    assert!(local.metadata().from_cache && local.metadata().has_pending_writes);
    let cached = rooms.query().get().await.unwrap();
    assert!(cached.metadata().from_cache && ids(&cached) == ["own"]);
    assert_eq!(code(rooms.query().get_from(Source::Server).await), "unavailable");
    bob.doc("rooms/other").unwrap().set(&json!({})).await.unwrap();

    alice.enable_network();
    alice.wait_for_pending_writes().await.unwrap();
    within("the queued write's answer", write).await.unwrap();
    let both = until(&mut listener, "both documents from the server", |snapshot| {
        ids(snapshot) == ["other", "own"]
            && !snapshot.metadata().from_cache
            && !snapshot.metadata().has_pending_writes
    });
    both.await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_begun_without_a_network_shows_the_cache_and_then_the_server() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.client("alice"), server.client("bob"));
    bob.doc("rooms/a").unwrap().set(&json!({})).await.unwrap();
    alice.disable_network();
    let options = ListenOptions { include_metadata_changes: true };
    let mut listener = alice.collection("rooms").unwrap().query().listen_with(options);
    let cached = until(&mut listener, "the empty cache", |_| true).await;
    assert!(cached.metadata().from_cache && cached.documents().is_empty());
    alice.enable_network();
    until(&mut listener, "the server's result", |snapshot| {
        ids(snapshot) == ["a"] && !snapshot.metadata().from_cache
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_connection_tells_its_state() {
    let server = TestServer::start().await;
    let alice = server.client("alice");
    let mut states = alice.connection();
    let mut wait = async |what: &str, wanted: fn(&ConnectionState) -> bool| {
        within(what, async {
            loop {
                let state = states.next().await.expect("the client lives");
                if wanted(&state) {
                    return;
                }
            }
        })
        .await;
    };
    let online = |state: &ConnectionState| matches!(state, ConnectionState::Online);
    let offline = |state: &ConnectionState| matches!(state, ConnectionState::Offline { .. });
    let _listener = alice.collection("rooms").unwrap().query().listen();
    wait("online", online).await;
    server.net.partition("alice");
    wait("offline", offline).await;
    server.net.heal("alice");
    wait("online again", online).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_and_listeners_survive_many_dropped_connections() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.client("alice"), server.client("bob"));
    let mut listener = bob.doc("c/counter").unwrap().listen();
    let doc = alice.doc("c/counter").unwrap();
    doc.set(&json!({"n": 0})).await.unwrap();
    for round in 1..=10 {
        let writes: Vec<_> =
            (0..20).map(|_| doc.update([("n", FieldValue::increment(1))])).collect();
        server.net.drop_connections(if round % 2 == 0 { "alice" } else { "bob" });
        for write in writes {
            within("a write across a dropped connection", write).await.unwrap();
        }
        let sum = Some(round * 20);
        until(&mut listener, "the sum", |snapshot| integer(snapshot, "n") == sum).await;
    }
    assert!(server.net.connections("alice") > 1 && server.net.connections("bob") > 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_peer_is_noticed_by_its_silence() {
    let heartbeat = Some(Duration::from_millis(200));
    let server = TestServer::with(ServerOptions { heartbeat, ..ServerOptions::default() }).await;
    let (alice, bob) = (server.client("alice"), server.client("bob"));
    let mut listener = alice.doc("c/d").unwrap().listen();
    until(&mut listener, "the missing document", |snapshot| !snapshot.exists()).await;
    server.net.freeze("alice");
    bob.doc("c/d").unwrap().set(&json!({"n": 1})).await.unwrap();
    // Both sides give the connection up; the next one meets a network that works.
    let before = server.net.connections("alice");
    eventually("a new attempt to connect", async || {
        (server.net.connections("alice") > before).then_some(())
    })
    .await;
    server.net.heal("alice");
    until(&mut listener, "the document", tidemark_core::DocumentSnapshot::exists).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_connections_live_on_heartbeats() {
    let heartbeat = Some(Duration::from_millis(100));
    let server = TestServer::with(ServerOptions { heartbeat, ..ServerOptions::default() }).await;
    let alice = server.client("alice");
    let mut listener = alice.doc("c/d").unwrap().listen();
    until(&mut listener, "the missing document", |snapshot| !snapshot.exists()).await;
    let begin = server.net.traffic("alice");
    // Ten round trips of heartbeats: several times the silence after which a side gives up.
    eventually("heartbeats", async || {
        (server.net.traffic("alice").up > begin.up + 40).then_some(())
    })
    .await;
    assert_eq!(server.net.connections("alice"), 1);
    server.client("bob").doc("c/d").unwrap().set(&json!({})).await.unwrap();
    until(&mut listener, "the document", tidemark_core::DocumentSnapshot::exists).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_network_changes_nothing_but_the_time() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.client("alice"), server.client("bob"));
    server.net.delay("alice", Duration::from_millis(30));
    let mut listener = alice.collection("c").unwrap().query().listen();
    until(&mut listener, "the first result", |_| true).await;
    let own = alice.doc("c/own").unwrap().set(&json!({}));
    for n in 0..20 {
        bob.doc(&format!("c/{n:02}")).unwrap().set(&json!({})).await.unwrap();
    }
    own.await.unwrap();
    until(&mut listener, "all documents", |snapshot| snapshot.documents().len() == 21).await;
}
