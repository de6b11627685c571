//! Limits that live: what enters and leaves a window of a sorted collection.

use serde_json::json;
use tidemark_core::{ChangeKind, Client, Direction, FieldValue, QueryListener, QuerySnapshot};
use tidemark_tests::{TestServer, until};

use crate::ids;

async fn numbers(client: &Client, numbers: impl IntoIterator<Item = i64>) {
    for n in numbers {
        put(client, n).await;
    }
}

async fn put(client: &Client, n: i64) {
    client.doc(&format!("numbers/{n:03}")).unwrap().set(&json!({"n": n})).await.unwrap();
}

async fn delete(client: &Client, n: i64) {
    client.doc(&format!("numbers/{n:03}")).unwrap().delete().await.unwrap();
}

fn smallest(client: &Client, limit: u32) -> QueryListener {
    client
        .collection("numbers")
        .unwrap()
        .query()
        .order_by("n", Direction::Ascending)
        .limit(limit)
        .listen()
}

async fn shows(listener: &mut QueryListener, expected: &[&str]) -> QuerySnapshot {
    until(listener, &format!("{expected:?}"), |snapshot| ids(snapshot) == expected).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_document_enters_a_full_window_and_pushes_the_last_one_out() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.client("alice"), server.client("bob"));
    numbers(&alice, [10, 20, 30, 40]).await;
    let mut window = smallest(&bob, 3);
    shows(&mut window, &["010", "020", "030"]).await;

    put(&alice, 15).await;
    let snapshot = shows(&mut window, &["010", "015", "020"]).await;
    let mut kinds: Vec<(ChangeKind, &str)> =
        snapshot.changes().iter().map(|change| (change.kind, change.document.id())).collect();
    kinds.sort_by_key(|(_, id)| *id);
    assert_eq!(kinds, [(ChangeKind::Added, "015"), (ChangeKind::Removed, "030")]);

    delete(&alice, 10).await;
    shows(&mut window, &["015", "020", "030"]).await;
    alice.doc("numbers/020").unwrap().update([("n", FieldValue::from(99))]).await.unwrap();
    shows(&mut window, &["015", "030", "040"]).await;
    alice.doc("numbers/020").unwrap().update([("n", FieldValue::from(1))]).await.unwrap();
    shows(&mut window, &["020", "015", "030"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_window_refills_however_many_documents_leave_it() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.client("alice"), server.client("bob"));
    numbers(&alice, 0..60).await;
    let mut window = smallest(&bob, 3);
    shows(&mut window, &["000", "001", "002"]).await;
    for n in 0..57 {
        delete(&alice, n).await;
    }
    shows(&mut window, &["057", "058", "059"]).await;
    delete(&alice, 58).await;
    shows(&mut window, &["057", "059"]).await;
    numbers(&alice, [58, 5]).await;
    shows(&mut window, &["005", "057", "058"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn windows_of_one_client_over_the_same_documents_stay_apart() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.client("alice"), server.client("bob"));
    numbers(&alice, 0..10).await;
    let mut small = smallest(&bob, 2);
    let mut large = smallest(&bob, 5);
    shows(&mut small, &["000", "001"]).await;
    shows(&mut large, &["000", "001", "002", "003", "004"]).await;
    // 002 and 003 were known through the large window only.
    delete(&alice, 0).await;
    shows(&mut small, &["001", "002"]).await;
    shows(&mut large, &["001", "002", "003", "004", "005"]).await;
    drop(large);
    delete(&alice, 1).await;
    shows(&mut small, &["002", "003"]).await;
    delete(&alice, 3).await;
    shows(&mut small, &["002", "004"]).await;
}
