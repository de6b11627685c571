//! A client that does not read costs the server a bounded amount of memory and the other clients nothing.

use serde_json::json;
use tidemark_core::{Client, DocumentSnapshot};
use tidemark_tests::{ServerOptions, ServerProcess, observe, until};

use crate::integer;

const DOCUMENTS: usize = 40;
const ROUNDS: i64 = 60;
/// With the rounds, far more than the outbox, the sockets' buffers and the slack below together.
const SIZE: usize = 20_000;
const OUTBOX: usize = 256 * 1024;
const SLACK: u64 = 24 << 20;

/// Writes every document once per round, all of a round at a time.
async fn flood(client: &Client, rounds: std::ops::Range<i64>) {
    for round in rounds {
        let text = format!("{round:_>SIZE$}");
        let writes: Vec<_> = (0..DOCUMENTS)
            .map(|number| {
                client
                    .doc(&format!("c/{number:02}"))
                    .unwrap()
                    .set(&json!({"n": round, "text": text}))
            })
            .collect();
        for write in writes {
            write.await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_stays_bounded_while_a_client_does_not_read() {
    let options = ServerOptions {
        outbox_bytes: Some(OUTBOX),
        log_bytes: Some(2 << 20),
        ..ServerOptions::default()
    };
    let server = ServerProcess::with(options).await;
    let (alice, quick, slow) =
        (server.client("alice"), server.client("quick"), server.client("slow"));
    let all = |client: &Client| client.collection("c").unwrap().query().listen();
    let (mut quick_listener, mut slow_listener) = (all(&quick), all(&slow));
    let at = |documents: &[DocumentSnapshot], round: i64| {
        documents.len() == DOCUMENTS
            && documents.iter().all(|document| integer(document, "n") == Some(round))
    };
    // The same flood with readers that keep up: what the store and the allocator take for themselves.
    let following = tidemark_tests::spawn(async move {
        until(&mut quick_listener, "the first flood", |snapshot| {
            at(snapshot.documents(), ROUNDS - 1)
        })
        .await;
        until(&mut quick_listener, "the second", |snapshot| {
            at(snapshot.documents(), 2 * ROUNDS - 1)
        })
        .await;
        quick_listener
    });
    flood(&alice, 0..ROUNDS).await;
    until(&mut slow_listener, "the first flood", |snapshot| at(snapshot.documents(), ROUNDS - 1))
        .await;
    let before = server.resident_bytes();

    server.net.stall("slow");
    flood(&alice, ROUNDS..2 * ROUNDS).await;
    // The quick one saw the end of it while the slow one is still stuck.
    let quick_listener = observe::within("the quick listener", following).await.unwrap();
    let after = server.resident_bytes();
    assert!(server.metric("coalesced_total").await > 0, "the slow one was not slow");
    let flooded = (DOCUMENTS * SIZE) as u64 * u64::try_from(ROUNDS).unwrap();
    assert!(
        after < before + SLACK,
        "{} MiB more for {} MiB that were not read",
        (after - before) >> 20,
        flooded >> 20
    );

    server.net.heal("slow");
    until(&mut slow_listener, "the second flood", |snapshot| {
        at(snapshot.documents(), 2 * ROUNDS - 1)
    })
    .await;
    alice.doc("c/00").unwrap().delete().await.unwrap();
    let count =
        |snapshot: &tidemark_core::QuerySnapshot| snapshot.documents().len() == DOCUMENTS - 1;
    until(&mut slow_listener, "the deletion", count).await;
    drop(quick_listener);
}
