//! Clients that do not read: what waits for them is bounded, and nobody else waits.

use std::time::Duration;

use futures::{SinkExt, StreamExt};
use tidemark_protocol::model::{Code, Version};
use tidemark_protocol::wire::client::ClientMessage;
use tidemark_protocol::wire::codec::{decode_server, encode_client};
use tidemark_protocol::wire::server::ServerMessage;
use tidemark_server::config::{ByteSize, Config};
use tokio_tungstenite::tungstenite::Message;

use crate::raw::{Raw, Witness, commit, config, listen, query, serve, soon};

/// Resident bytes of this process, which is server and clients in one.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap();
    status.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

/// A long text that differs from write to write: what does not change a document is not sent.
fn text(write: u64, bytes: usize) -> String {
    format!("{write}{}", "x".repeat(bytes))
}

#[tokio::test]
async fn a_listener_that_never_reads_is_dropped_and_others_are_served() {
    let heartbeat = Duration::from_millis(300);
    let server = serve(Config { heartbeat, outbox_bytes: ByteSize(64 << 10), ..config() }).await;
    let mut stuck = Raw::join(&server, 1).await;
    stuck.say(&listen(1, "rooms", None)).await;
    let mut witness = Witness::join(&server).await;
    let mut writer = Raw::join(&server, 2).await;
    // More than the kernel's buffers take for `stuck`, to few documents: its changes can be merged.
    let mut write = 0;
    soon(async {
        while server.metrics().sessions_lost.get() == 0 {
            write += 1;
            writer.set(write, &format!("rooms/{}", write % 8), &text(write, 100_000)).await;
        }
    })
    .await;
    assert!(server.database().metrics().coalesced.get() > 0);
    witness.is_served().await;
    server.shutdown().await.unwrap();
    drop(stuck);
}

#[tokio::test]
async fn one_that_reads_late_gets_the_last_states() {
    let server = serve(Config { outbox_bytes: ByteSize(32 << 10), ..config() }).await;
    let mut late = Raw::join(&server, 1).await;
    late.listen(1, "rooms").await;
    let mut writer = Raw::join(&server, 2).await;
    let mut last = Version::NONE;
    for write in 1..=200 {
        last = writer.set(write, &format!("rooms/{}", write % 8), &text(write, 100_000)).await;
    }
    let (version, ids) = late.until_consistent(last).await;
    assert!(version >= last);
    for id in 0..8 {
        assert!(ids.contains(&id.to_string()), "{id} is not in {ids:?}");
    }
    server.shutdown().await.unwrap();
}

#[tokio::test]
async fn questions_without_reading_the_answers_do_not_fill_the_memory() {
    let server = serve(config()).await;
    let mut witness = Witness::join(&server).await;
    let mut writer = Raw::join(&server, 2).await;
    let large = text(0, 900_000);
    writer.set(1, "large/a", &large).await;
    writer.set(2, "large/b", &large).await;

    let before = resident();
    let (mut ask, unread) = Raw::join(&server, 1).await.socket.split();
    // 3.6 GB of answers. The server stops reading when the answers wait, then so do the questions.
    let asking = async {
        for request in 0..2_000 {
            let question = ClientMessage::Query { request, query: query("large"), explain: false };
            ask.send(Message::Binary(encode_client(&question))).await.unwrap();
        }
    };
    // Either all questions are taken (most of them refused) or the asker is blocked.
    let _ = tokio::time::timeout(Duration::from_secs(2), asking).await;
    witness.is_served().await;
    let grown = resident().saturating_sub(before);
    assert!(grown < 400 << 20, "the process grew by {} MiB", grown >> 20);
    drop((ask, unread));
    server.shutdown().await.unwrap();
}

#[tokio::test]
async fn every_commit_of_a_flood_has_an_outcome() {
    const FLOOD: u64 = 3_000;
    let server = serve(Config { commits_in_flight: 10, ..config() }).await;
    let mut witness = Witness::join(&server).await;
    let (mut out, mut back) = Raw::join(&server, 1).await.socket.split();
    let committing = async {
        for write in 1..=FLOOD {
            let frame = encode_client(&commit(write, "rooms/a", "x"));
            out.send(Message::Binary(frame)).await.unwrap();
        }
    };
    let hearing = async {
        for _ in 0..FLOOD {
            let Message::Binary(frame) = back.next().await.unwrap().unwrap() else { continue };
            match decode_server(&frame).unwrap() {
                ServerMessage::Committed { .. } => {}
                ServerMessage::Rejected { status, .. } => {
                    assert_eq!(status.code, Code::ResourceExhausted);
                }
                other => panic!("unexpected: {other:?}"),
            }
        }
    };
    soon(futures::future::join(hearing, committing)).await;
    witness.is_served().await;
    server.shutdown().await.unwrap();
}
