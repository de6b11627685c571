//! Open documents: two clients edit the same fields through the real server, with and without a network.

use std::path::Path;

use futures::StreamExt;
use serde_json::json;
use tidemark_core::collab::{CollabEvent, Expand, Mark, OpenDocument, Side};
use tidemark_core::{Client, FieldValue, Value};
use tidemark_tests::{TestServer, within};

use crate::code;

/// A client of a link with its cache in a folder; starting it again is a restart of its app.
fn client_in(server: &TestServer, name: &str, folder: &Path) -> Client {
    let url = format!("ws://{}", server.net.address(name));
    Client::builder(url).cache_dir(folder).build().expect("the cache opens")
}

async fn open(client: &Client) -> OpenDocument {
    within("the document", client.doc("docs/one").unwrap().collaborate()).await.unwrap()
}

/// Waits until a text is this.
async fn text_is(document: &OpenDocument, field: &str, wanted: &str) {
    let text = document.text(field).unwrap();
    let mut events = document.events();
    within(&format!("the text {wanted:?}"), async {
        while text.value() != wanted {
            events.next().await.expect("the document is open");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_edit_one_document() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.client("alice"), server.client("bob"));
    let (a, b) = (open(&alice).await, open(&bob).await);
    let (text, mut events) = (a.text("body").unwrap(), b.events());
    text.insert(0, "the fox").unwrap();
    a.counter("edits").unwrap().increment(1).unwrap();
    a.list("tags").unwrap().insert(0, "animal").unwrap();
    a.map("meta").unwrap().put("open", true).unwrap();
    a.saved().await.unwrap();
    text_is(&b, "body", "the fox").await;
    let event = within("an event", events.next()).await.unwrap();
    assert!(matches!(event, CollabEvent::Changed { local: false, .. }), "{event:?}");
    let bold = Mark { start: 4, end: 7, name: "bold".into(), value: Value::from(true) };
    text.mark(&bold, Expand::None).unwrap();
    let cursor = text.cursor(4, Side::After).unwrap();
    b.text("body").unwrap().insert(3, " quick").unwrap();
    b.counter("edits").unwrap().increment(1).unwrap();
    text_is(&a, "body", "the quick fox").await;
    assert_eq!(text.position(&cursor).unwrap(), 10);
    assert_eq!(text.marks().unwrap(), vec![Mark { start: 10, end: 13, ..bold }]);
    assert!(a.undo().unwrap() && a.undo().unwrap());
    assert_eq!(text.marks().unwrap(), vec![]);
    a.saved().await.unwrap();
    b.saved().await.unwrap();
    alice.wait_for_pending_writes().await.unwrap();
    bob.wait_for_pending_writes().await.unwrap();
    let stored = server.client("reader").doc("docs/one").unwrap().get().await.unwrap();
    assert_eq!(stored.get("body"), Some(&Value::from("the quick fox")));
    assert_eq!(stored.get("edits"), Some(&Value::from(2)));
    assert_eq!(stored.get("tags"), Some(&Value::from(vec!["animal"])));
    assert_eq!(code(a.list("body")), "failed-precondition");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plain_write_is_a_difference_and_listeners_see_pending_edits() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.client("alice"), server.client("bob"));
    let doc = bob.doc("docs/one").unwrap();
    doc.set(&json!({"body": "one two", "n": 1})).await.unwrap();
    let a = open(&alice).await;
    let mut seen = alice.doc("docs/one").unwrap().listen();
    within("the document", seen.next()).await.unwrap().unwrap();
    server.net.partition("alice");
    a.text("body").unwrap().insert(7, " three").unwrap();
    let shown = within("the pending edit", async {
        loop {
            let snapshot = seen.next().await.unwrap().unwrap();
            if snapshot.get("body") == Some(&Value::from("one two three")) {
                return snapshot;
            }
        }
    });
    assert!(shown.await.metadata().has_pending_writes);
    doc.update([("body", FieldValue::from("zero one two"))]).await.unwrap();
    server.net.heal("alice");
    text_is(&a, "body", "zero one two three").await;
    alice.wait_for_pending_writes().await.unwrap();
    let stored = doc.get().await.unwrap();
    assert_eq!(stored.get("body"), Some(&Value::from("zero one two three")));
    assert_eq!(stored.get("n"), Some(&Value::from(1)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn edits_survive_a_restart_without_a_network() {
    let (server, folder) = (TestServer::start().await, tempfile::tempdir().unwrap());
    let bob = server.client("bob");
    let b = open(&bob).await;
    b.text("body").unwrap().insert(0, "start").unwrap();
    b.saved().await.unwrap();
    bob.wait_for_pending_writes().await.unwrap();
    let alice = client_in(&server, "alice", folder.path());
    let a = open(&alice).await;
    text_is(&a, "body", "start").await;
    server.net.partition("alice");
    alice.disable_network();
    a.text("body").unwrap().insert(5, " offline").unwrap();
    a.saved().await.unwrap();
    drop(a);
    alice.close().await;
    drop(alice);

    let alice = client_in(&server, "alice", folder.path());
    alice.disable_network();
    let snapshot = alice.doc("docs/one").unwrap().get_from(tidemark_core::Source::Cache).await;
    let known = snapshot.ok().and_then(|it| it.get("body").cloned());
    assert!(known.is_none_or(|body| body == Value::from("start offline")));
    let a = open(&alice).await;
    text_is(&a, "body", "start offline").await;
    a.text("body").unwrap().insert(13, " again").unwrap();
    a.saved().await.unwrap();
    b.text("body").unwrap().insert(0, "> ").unwrap();
    server.net.heal("alice");
    alice.enable_network();
    text_is(&a, "body", "> start offline again").await;
    text_is(&b, "body", "> start offline again").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_edits_leave_no_trace_and_are_told() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.client("alice"), server.client("bob"));
    let a = open(&alice).await;
    a.text("body").unwrap().insert(0, "text").unwrap();
    a.saved().await.unwrap();
    alice.wait_for_pending_writes().await.unwrap();
    let mut events = a.events();
    server.net.partition("alice");
    a.text("body").unwrap().insert(4, &"x".repeat(1 << 20)).unwrap();
    a.saved().await.unwrap();
    server.net.heal("alice");
    let refused = within("the refusal", async {
        loop {
            if let CollabEvent::Rejected(error) = events.next().await.unwrap() {
                return error;
            }
        }
    });
    assert_eq!(refused.await.code().name(), "invalid-argument");
    assert_eq!(a.text("body").unwrap().value(), "text");
    assert_eq!(alice.rejected_writes().await.unwrap().len(), 1, "their contents are kept");
    a.text("body").unwrap().insert(4, "!").unwrap();
    text_is(&open(&bob).await, "body", "text!").await;
}
