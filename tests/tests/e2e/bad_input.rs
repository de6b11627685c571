//! Any bytes get an answer with a code, and other clients notice nothing.

use bytes::Bytes;
use rand::{Rng, RngCore};
use tidemark_protocol::model::{Code, CollectionPath, Query, Target, TargetId, WriteId};
use tidemark_protocol::wire::client::{ClientMessage, Hello, Listen};
use tidemark_protocol::wire::codec;
use tidemark_protocol::wire::server::ServerMessage;
use tidemark_tests::raw::{self, Heard, RawClient};
use tidemark_tests::server::client_id;
use tidemark_tests::{Seed, TestServer};

use crate::set;

/// Another client is served as if nothing had happened.
async fn unharmed(server: &TestServer) {
    let (mut bystander, _) = RawClient::connect(server.address(), client_id(255)).await;
    bystander.commit(1, vec![set("c/bystander", [])]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frame_of_nonsense_gets_an_error_and_the_connection_goes_on() {
    let server = TestServer::start().await;
    let (mut client, _) = RawClient::connect(server.address(), client_id(1)).await;
    client.send_bytes(Bytes::from_static(b"\xff\xff\xff nonsense")).await;
    match client.next().await {
        ServerMessage::Error { status } => {
            assert_eq!(status.code, Code::InvalidArgument, "{status}");
        }
        other => panic!("{other:?}"),
    }
    client.commit(1, vec![set("c/d", [])]).await.unwrap();
    // Frames that say nothing (no kind, or one of the future) are told too.
    client.send_bytes(Bytes::new()).await;
    assert!(matches!(client.next().await, ServerMessage::Error { .. }));
    client.commit(2, vec![set("c/d", [])]).await.unwrap();
    unharmed(&server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_and_truncated_frames_never_harm() {
    let seed = Seed::or(3);
    let mut rng = seed.rng(0);
    let server = TestServer::start().await;
    let valid = codec::encode_client(&raw::commit(1, vec![set("c/d", [("n", 1.into())])]));
    for number in 0..30 {
        let (mut client, _) = RawClient::connect(server.address(), client_id(number)).await;
        for _ in 0..30 {
            let frame = if rng.random_bool(0.5) {
                let mut bytes = vec![0; rng.random_range(0..200)];
                rng.fill_bytes(&mut bytes);
                bytes
            } else {
                let mut bytes = valid[..rng.random_range(0..valid.len())].to_vec();
                if let Some(last) = bytes.last_mut() {
                    *last ^= rng.random::<u8>();
                }
                bytes
            };
            client.send_bytes(frame.into()).await;
        }
        // Too much of it ends the connection, with a reason.
        loop {
            match client.hear().await {
                Heard::Message(ServerMessage::GoAway { .. }) => break,
                Heard::Message(_) => {}
                Heard::Closed(code) => panic!("closed without a word: {code:?}"),
            }
        }
    }
    unharmed(&server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn before_hello_nothing_else_is_heard() {
    let server = TestServer::start().await;
    let mut client = RawClient::open(server.address()).await;
    client.send(&ClientMessage::Ping { nonce: 1 }).await;
    let (status, code) = client.until_closed().await;
    let status = status.expect("a reason");
    assert_eq!(code, Some(status.code.close_code()), "{status}");
    unharmed(&server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_version_or_project_is_refused_for_good() {
    let server = TestServer::start().await;
    let refused = [
        Hello { protocol_version: 99, minimum_version: 99, ..raw::hello(client_id(1)) },
        Hello { protocol_version: 0, minimum_version: 0, ..raw::hello(client_id(1)) },
        Hello { project: "another".to_owned(), ..raw::hello(client_id(1)) },
        Hello { database: "another".to_owned(), ..raw::hello(client_id(1)) },
    ];
    for hello in refused {
        let mut client = RawClient::open(server.address()).await;
        client.send(&ClientMessage::Hello(hello.clone())).await;
        match client.next().await {
            ServerMessage::GoAway { reconnect_after, .. } => {
                assert_eq!(reconnect_after, None, "{hello:?}");
            }
            other => panic!("{other:?} to {hello:?}"),
        }
        assert!(matches!(client.hear().await, Heard::Closed(Some(4000..))));
    }
    // A newer client that still speaks our version is welcome.
    let mut client = RawClient::open(server.address()).await;
    client
        .send(&ClientMessage::Hello(Hello { protocol_version: 99, ..raw::hello(client_id(1)) }))
        .await;
    match client.next().await {
        ServerMessage::Welcome(welcome) => assert_eq!(welcome.protocol_version, 1),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn oversized_frames_and_documents_are_refused() {
    let server = TestServer::start().await;
    let (mut client, welcome) = RawClient::connect(server.address(), client_id(1)).await;
    let big = "x".repeat(1_100_000);
    let status = client.commit(1, vec![set("c/big", [("text", big.into())])]).await.unwrap_err();
    assert_eq!(status.code, Code::InvalidArgument, "{status}");
    client.commit(2, vec![set("c/small", [])]).await.unwrap();
    let frame = vec![0; welcome.limits.frame_bytes as usize + 1];
    client.send_bytes(frame.into()).await;
    client.until_closed().await;
    unharmed(&server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_listens_on_one_connection_end_at_the_limit() {
    let server = TestServer::start().await;
    let (mut client, welcome) = RawClient::connect(server.address(), client_id(1)).await;
    let (mut attached, mut refused) = (0, 0);
    for chunk in (1..=10_000_u32).collect::<Vec<_>>().chunks(100) {
        for id in chunk {
            let path = CollectionPath::parse(&format!("c{id}")).unwrap();
            let target = Target::Query(Query::collection(&path));
            let listen =
                Listen { target_id: TargetId(*id), target, resume: None, reconciles: false };
            client.send(&ClientMessage::Listen(listen)).await;
        }
        for _ in chunk {
            let answer = client.find(|message| match message {
                ServerMessage::Listening { .. } => Some(None),
                ServerMessage::TargetError { status, .. } => Some(Some(status)),
                _ => None,
            });
            match answer.await {
                None => attached += 1,
                Some(status) => {
                    assert_eq!(status.code, Code::ResourceExhausted, "{status}");
                    refused += 1;
                }
            }
        }
    }
    assert_eq!((attached, refused), (welcome.limits.targets, 10_000 - welcome.limits.targets));
    client.commit(1, vec![set("c1/d", [])]).await.unwrap();
    unharmed(&server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn misused_ids_get_typed_answers() {
    let server = TestServer::start().await;
    let (mut client, _) = RawClient::connect(server.address(), client_id(1)).await;
    client.send(&raw::commit(0, vec![set("c/d", [])])).await;
    let code = client
        .find(|message| match message {
            ServerMessage::Rejected { write_id: WriteId(0), status }
            | ServerMessage::Error { status } => Some(status.code),
            _ => None,
        })
        .await;
    assert_eq!(code, Code::InvalidArgument);
    client.send(&ClientMessage::Unlisten { target: TargetId(77) }).await;
    let target = Target::Query(Query::collection(&CollectionPath::parse("c").unwrap()));
    client.listen(1, target.clone(), None).await;
    // A second Hello, and a target id that is in use, are errors of the client.
    client
        .send(&ClientMessage::Listen(Listen {
            target_id: TargetId(1),
            target,
            resume: None,
            reconciles: false,
        }))
        .await;
    client
        .find(|message| {
            matches!(message, ServerMessage::TargetError { .. } | ServerMessage::Error { .. })
                .then_some(())
        })
        .await;
    unharmed(&server).await;
}
