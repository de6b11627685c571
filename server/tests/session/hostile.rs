//! Bad input: each ends in a typed error or a bounded refusal, and the witness notices nothing.

use futures::{SinkExt, StreamExt};
use tidemark_protocol::model::{Code, Version};
use tidemark_protocol::wire::client::{ClientMessage, Hello};
use tidemark_protocol::wire::codec::{decode_server, encode_client};
use tidemark_protocol::wire::server::ServerMessage;
use tidemark_server::clock::Seed;
use tidemark_server::config::{ByteSize, Config};
use tokio::io::AsyncWriteExt;
use tokio_tungstenite::tungstenite::Message;

use crate::raw::{End, Raw, Witness, commit, config, hello, join_as_tcp, listen, serve, soon};

#[tokio::test]
async fn garbage_is_answered_sixteen_times() {
    let server = serve(config()).await;
    let mut witness = Witness::join(&server).await;
    let mut raw = Raw::join(&server, 1).await;
    let random = Seed::new(7);
    for _ in 0..15 {
        // A first byte that no field of the protocol has.
        let mut frame = vec![0xff];
        frame.extend((0..random.next() % 200).map(|_| random.next().to_le_bytes()[0]));
        raw.bytes(frame).await;
        let answer = raw.hear().await;
        assert!(
            matches!(&answer, ServerMessage::Error { status } if status.code == Code::InvalidArgument)
        );
    }
    // Still served.
    raw.set(1, "rooms/a", "between two errors").await;
    raw.socket.send(Message::text("hello?")).await.unwrap();
    let (status, end) = raw.gone().await;
    assert_eq!((status.code, end), (Code::InvalidArgument, End::Closed(4003)));
    witness.is_served().await;
    server.shutdown().await.unwrap();
}

#[tokio::test]
async fn truncated_and_unknown_frames_are_errors_unknown_fields_are_not() {
    let server = serve(config()).await;
    let mut raw = Raw::join(&server, 1).await;
    let whole = encode_client(&commit(1, "rooms/a", "a text that is long enough"));
    for length in [1, 2, whole.len() / 2, whole.len() - 1] {
        raw.bytes(whole.slice(..length)).await;
        let answer = raw.hear().await;
        assert!(
            matches!(answer, ServerMessage::Error { .. } | ServerMessage::Rejected { .. }),
            "{answer:?}"
        );
    }
    // Field 9 of ClientMessage is reserved for a kind to come; no kind at all is an error too.
    for frame in [&[0x4a, 0x00][..], &[]] {
        raw.bytes(frame.to_vec()).await;
        let answer = raw.hear().await;
        assert!(matches!(answer, ServerMessage::Error { .. }), "{answer:?}");
    }
    // Field 999, a string, before and after what is known.
    let unknown = [0xba, 0x3e, 0x02, b'h', b'i'];
    raw.bytes([&unknown[..], &whole, &unknown].concat()).await;
    let answer = raw.hear().await;
    assert!(matches!(answer, ServerMessage::Committed { .. }), "{answer:?}");
    server.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_wrong_first_frame_is_told_why() {
    let server = serve(config()).await;
    let wrong = [
        (Hello { protocol_version: 9, minimum_version: 9, ..hello(1) }, Code::FailedPrecondition),
        (Hello { project: "other".to_owned(), ..hello(1) }, Code::NotFound),
        (Hello { database: "other".to_owned(), ..hello(1) }, Code::NotFound),
    ];
    for (hello, code) in wrong {
        let mut raw = Raw::open(&server).await;
        raw.say(&ClientMessage::Hello(hello)).await;
        let (status, end) = raw.gone().await;
        assert_eq!((status.code, end), (code, End::Closed(code.close_code())));
    }
    let mut raw = Raw::open(&server).await;
    raw.say(&ClientMessage::Ping { nonce: 1 }).await;
    assert_eq!(raw.gone().await.1, End::Closed(4009));
    server.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_frame_beyond_the_limit_ends_the_connection() {
    let server = serve(Config { frame_bytes: ByteSize(64 << 10), ..config() }).await;
    let mut witness = Witness::join(&server).await;
    for size in [(64 << 10) + 1, 4 << 20] {
        let mut raw = Raw::join(&server, 1).await;
        // The server may close before all is sent; what matters is what it says.
        let _ = raw.socket.send(Message::binary(vec![0; size])).await;
        let (status, end) = raw.gone().await;
        assert_eq!((status.code, end), (Code::InvalidArgument, End::Closed(4003)));
        assert!(status.message.contains("65536"), "the limit is in {}", status.message);
    }
    witness.is_served().await;
    server.shutdown().await.unwrap();
}

#[tokio::test]
async fn broken_websocket_frames_hurt_nobody() {
    let server = serve(config()).await;
    let mut witness = Witness::join(&server).await;
    let frames: [&[u8]; 5] = [
        // Half a header; half a frame; a reserved opcode; an unmasked frame; a length of 2^63.
        b"\x82",
        b"\x82\xfe\x10\x00\x01\x02\x03\x04half",
        b"\x83\x80\x00\x00\x00\x00",
        b"\x82\x04ping",
        b"\x82\xff\x80\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
    ];
    for (client, frame) in (1..).zip(frames) {
        let mut stream = join_as_tcp(&server, client).await;
        stream.write_all(frame).await.unwrap();
        drop(stream);
        witness.is_served().await;
    }
    soon(async {
        while server.metrics().sessions.get() > 1 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    server.shutdown().await.unwrap();
}

#[tokio::test]
async fn ten_thousand_listens_are_a_thousand_and_refusals() {
    let server = serve(config()).await;
    let mut witness = Witness::join(&server).await;
    let raw = Raw::join(&server, 1).await;
    let (mut out, mut back) = raw.socket.split();
    let asking = async {
        for target in 1..=10_000 {
            let frame = encode_client(&listen(target, &format!("rooms/a/c{target}"), None));
            out.send(Message::Binary(frame)).await.unwrap();
        }
    };
    let hearing = async {
        let (mut listening, mut refused) = (0, 0);
        while listening + refused < 10_000 {
            let Message::Binary(frame) = back.next().await.unwrap().unwrap() else { continue };
            match decode_server(&frame).unwrap() {
                ServerMessage::Listening { .. } => listening += 1,
                ServerMessage::TargetError { status, .. } => {
                    assert_eq!(status.code, Code::ResourceExhausted);
                    refused += 1;
                }
                ServerMessage::Current { .. } | ServerMessage::Changes(_) => {}
                other => panic!("unexpected: {other:?}"),
            }
        }
        (listening, refused)
    };
    let (heard, ()) = soon(futures::future::join(hearing, asking)).await;
    assert_eq!(heard, (1_000, 9_000));
    assert_eq!(server.database().metrics().targets.get(), 1_001);
    witness.is_served().await;
    server.shutdown().await.unwrap();
}

#[tokio::test]
async fn random_frames_after_a_greeting_never_break_the_server() {
    let server = serve(config()).await;
    let mut witness = Witness::join(&server).await;
    let random = Seed::new(11);
    let byte = || random.next().to_le_bytes()[0];
    let samples = [
        encode_client(&commit(1, "rooms/a", "x")),
        encode_client(&listen(1, "rooms", None)),
        encode_client(&ClientMessage::Hello(hello(9))),
        encode_client(&ClientMessage::Ping { nonce: 4 }),
    ];
    for round in 0..30 {
        let mut raw = Raw::join(&server, round).await;
        for _ in 0..20 {
            let sample = &samples[usize::from(byte()) % samples.len()];
            let mut frame = sample.to_vec();
            let place = usize::from(byte()) % frame.len();
            frame[place] = byte();
            if raw.socket.send(Message::binary(frame)).await.is_err() {
                break;
            }
        }
        // Whatever was said, the session answers or has ended with a close.
        let asked = raw.socket.send(Message::Binary(samples[3].clone())).await;
        loop {
            match soon(raw.next()).await {
                Ok(ServerMessage::Pong { .. }) => break,
                Ok(_) => {}
                Err(end) => {
                    assert!(matches!(end, End::Closed(_)) || asked.is_err(), "{end:?}");
                    break;
                }
            }
        }
    }
    witness.is_served().await;
    assert!(server.database().version() > Version::NONE);
    server.shutdown().await.unwrap();
}
