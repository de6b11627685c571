//! How a connection begins, is kept alive, and ends.

use std::time::Duration;

use tidemark_protocol::model::{Code, Version};
use tidemark_protocol::wire::client::ClientMessage;
use tidemark_protocol::wire::server::ServerMessage;
use tidemark_server::config::Config;
use tokio::io::AsyncReadExt;

use crate::raw::{End, Raw, Witness, commit, config, join_as_tcp, serve, soon};

#[tokio::test]
async fn a_commit_reaches_those_who_listen() {
    let server = serve(config()).await;
    let mut writer = Raw::join(&server, 1).await;
    let mut reader = Raw::join(&server, 2).await;
    let before = writer.set(1, "rooms/a", "first").await;
    let attached = reader.listen(1, "rooms").await;
    assert!(attached >= before);
    let version = writer.set(2, "rooms/b", "second").await;
    assert!(version > before);
    assert_eq!(reader.until_consistent(version).await, (version, vec!["b".to_owned()]));
    server.shutdown().await.unwrap();
}

#[tokio::test]
async fn pings_are_answered() {
    let server = serve(config()).await;
    let mut raw = Raw::join(&server, 1).await;
    raw.say(&ClientMessage::Ping { nonce: 42 }).await;
    assert!(matches!(raw.hear().await, ServerMessage::Pong { nonce: 42, .. }));
    server.shutdown().await.unwrap();
}

#[tokio::test]
async fn who_says_nothing_is_sent_away() {
    let server = serve(Config { handshake_timeout: Duration::from_millis(200), ..config() }).await;
    let mut raw = Raw::open(&server).await;
    let (status, end) = raw.gone().await;
    assert_eq!((status.code, end), (Code::DeadlineExceeded, End::Closed(4004)));
    server.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_dead_peer_is_dropped_and_a_quiet_one_is_not() {
    let server = serve(Config { heartbeat: Duration::from_millis(200), ..config() }).await;
    // Says nothing, but its WebSocket answers pings while it waits for frames.
    let mut quiet = Raw::join(&server, 1).await;
    // Reads, and answers nothing.
    let mut dead = join_as_tcp(&server, 2).await;
    let mut heard = Vec::new();
    tokio::select! {
        end = soon(dead.read_to_end(&mut heard)) => { end.unwrap(); }
        frame = quiet.next() => panic!("the quiet one heard {frame:?}"),
    }
    // Two empty pings came before the end.
    assert_eq!(heard, [0x89, 0x00, 0x89, 0x00]);
    assert_eq!(server.metrics().sessions_lost.get(), 1);
    quiet.set(1, "rooms/a", "still here").await;
    server.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_second_connection_of_a_client_ends_the_first() {
    let server = serve(config()).await;
    let mut first = Raw::join(&server, 1).await;
    first.set(1, "rooms/a", "first").await;
    let mut second = Raw::join(&server, 1).await;
    let (status, end) = first.gone().await;
    assert_eq!((status.code, end), (Code::Aborted, End::Closed(4010)));
    second.set(2, "rooms/a", "second").await;
    server.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopping_gives_commits_their_outcome() {
    let server = serve(config()).await;
    let mut raw = Raw::join(&server, 1).await;
    let mut idle = Raw::join(&server, 2).await;
    let mut unready = Raw::open(&server).await;
    for write in 1..=50 {
        raw.say(&commit(write, &format!("rooms/{write}"), "x")).await;
    }
    // The server has read them all when it answers.
    raw.say(&ClientMessage::Ping { nonce: 1 }).await;
    let mut outcomes = 0;
    loop {
        match raw.hear().await {
            ServerMessage::Pong { .. } => break,
            ServerMessage::Committed { .. } => outcomes += 1,
            other => panic!("unexpected: {other:?}"),
        }
    }
    let (stopped, (frames, end)) = soon(futures::future::join(server.shutdown(), raw.rest())).await;
    stopped.unwrap();
    let committed = |frame: &&ServerMessage| matches!(frame, ServerMessage::Committed { .. });
    outcomes += frames.iter().filter(committed).count();
    assert_eq!((outcomes, end), (50, End::Closed(4014)));
    let away = frames.iter().find_map(|frame| match frame {
        ServerMessage::GoAway { status, reconnect_after } => Some((status.code, *reconnect_after)),
        _ => None,
    });
    assert!(matches!(away, Some((Code::Unavailable, Some(_)))), "{away:?}");
    for raw in [&mut idle, &mut unready] {
        let (status, end) = raw.gone().await;
        assert_eq!((status.code, end), (Code::Unavailable, End::Closed(4014)));
    }
}

#[tokio::test]
async fn what_was_committed_is_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config { data: folder.path().to_owned(), ..Config::default() };
    let config = Config { listen: "127.0.0.1:0".parse().unwrap(), ..config };
    let server = serve(config.clone()).await;
    let mut raw = Raw::join(&server, 1).await;
    let version = raw.set(1, "rooms/a", "kept").await;
    server.shutdown().await.unwrap();

    let server = serve(config).await;
    let mut raw = Raw::join(&server, 1).await;
    // Sent again, it has the outcome it had.
    assert_eq!(raw.set(1, "rooms/a", "kept").await, version);
    raw.say(&crate::raw::listen(1, "rooms", None)).await;
    let (_, ids) = raw.until_consistent(Version::NONE).await;
    assert_eq!(ids, ["a"]);
    server.shutdown().await.unwrap();
}

#[tokio::test]
async fn many_sessions_come_and_go() {
    let server = serve(config()).await;
    let mut witness = Witness::join(&server).await;
    for round in 0..20 {
        let mut raw = Raw::join(&server, round).await;
        raw.listen(1, "rooms").await;
    }
    soon(async {
        while server.metrics().sessions.get() > 1 || server.database().metrics().targets.get() > 1 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    witness.is_served().await;
    server.shutdown().await.unwrap();
}
