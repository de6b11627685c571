//! The resources of the port, and who may connect.

use tokio_tungstenite::tungstenite::Error;

use crate::raw::{Raw, Witness, config, get, serve, soon, tcp};

#[tokio::test]
async fn the_resources_answer() {
    let server = serve(config()).await;
    assert!(get(&server, "/").await.contains("<title>Tidemark</title>"));
    assert!(get(&server, "/healthz").await.starts_with("HTTP/1.1 200"));
    assert!(get(&server, "/readyz").await.starts_with("HTTP/1.1 200"));
    let missing = get(&server, "/v1/nothing").await;
    assert!(missing.starts_with("HTTP/1.1 404"), "{missing}");
    assert!(missing.contains(
        r#"{"error":{"code":404,"message":"there is nothing at /v1/nothing","status":"NOT_FOUND"}}"#
    ));
    let wrong = tcp(&server, b"PUT / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    assert!(wrong.starts_with("HTTP/1.1 405"), "{wrong}");
    server.shutdown().await.unwrap();
}

#[tokio::test]
async fn metrics_count_what_happens() {
    let server = serve(config()).await;
    let mut raw = Raw::join(&server, 1).await;
    raw.set(1, "rooms/a", "hi").await;
    raw.bytes(&b"garbage"[..]).await;
    raw.hear().await;
    let metrics = get(&server, "/metrics").await;
    for line in [
        "# TYPE tidemark_sessions gauge",
        "tidemark_sessions 1",
        "tidemark_sessions_opened_total 1",
        "tidemark_frames_received_total 3",
        "tidemark_commits_total 1",
        "tidemark_session_errors_total{code=\"invalid-argument\"} 1",
        "tidemark_session_errors_total{code=\"internal\"} 0",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} is not in\n{metrics}");
    }
    server.shutdown().await.unwrap();
}

#[tokio::test]
async fn the_subprotocol_must_be_ours() {
    let server = serve(config()).await;
    for subprotocol in [None, Some("tidemark.v0"), Some("graphql-ws")] {
        let Err(Error::Http(refusal)) = Raw::upgrade(&server, subprotocol).await else {
            panic!("{subprotocol:?} must be refused");
        };
        assert_eq!(refusal.status().as_u16(), 400);
        let body = String::from_utf8_lossy(refusal.body().as_deref().unwrap_or_default());
        assert!(body.contains("INVALID_ARGUMENT") && body.contains("tidemark.v1"), "{body}");
    }
    assert!(Raw::upgrade(&server, Some("other, tidemark.v1")).await.is_ok());
    let plain = get(&server, "/v1/sync").await;
    assert!(plain.starts_with("HTTP/1.1 400") && plain.contains("WebSocket"), "{plain}");
    server.shutdown().await.unwrap();
}

#[tokio::test]
async fn too_many_connections_are_told_so() {
    let server = serve(tidemark_server::config::Config { connections: 2, ..config() }).await;
    let mut witness = Witness::join(&server).await;
    let second = Raw::join(&server, 1).await;
    for _ in 0..5 {
        let refusal = get(&server, "/healthz").await;
        assert!(refusal.starts_with("HTTP/1.1 503"), "{refusal}");
        assert!(refusal.contains(r#""status":"UNAVAILABLE""#));
    }
    assert_eq!(server.metrics().connections_refused.get(), 5);
    witness.is_served().await;
    // A place becomes free when a connection ends.
    drop(second);
    soon(async {
        while !get(&server, "/healthz").await.starts_with("HTTP/1.1 200") {
            tokio::task::yield_now().await;
        }
    })
    .await;
    server.shutdown().await.unwrap();
}

#[tokio::test]
async fn what_is_not_http_is_refused() {
    let server = serve(config()).await;
    let mut witness = Witness::join(&server).await;
    let answer =
        tcp(&server, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 not http\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    let endless = [&b"GET / HTTP/1.1\r\nx: "[..], &[b'a'; 1 << 20]].concat();
    let answer = tcp(&server, &endless).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    witness.is_served().await;
    server.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_request_must_come_in_time() {
    let hurry = std::time::Duration::from_millis(200);
    let server =
        serve(tidemark_server::config::Config { handshake_timeout: hurry, ..config() }).await;
    // The head never ends; that the server closes is what `tcp` waits for.
    let answer = tcp(&server, b"GET / HTTP/1.1\r\nhost: x\r\n").await;
    assert!(!answer.starts_with("HTTP/1.1 200"), "{answer}");
    server.shutdown().await.unwrap();
}
