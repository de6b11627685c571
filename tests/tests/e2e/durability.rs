//! Acknowledged means kept: kills at random moments, commits sent twice, connections that overlap.

use rand::Rng;
use tidemark_core::Value;
use tidemark_protocol::model::{
    DocumentPath, FieldPath, FieldTransform, Precondition, Read, Transform, Version, Write,
    WriteId, WriteOp,
};
use tidemark_protocol::wire::client::{ClientMessage, Commit};
use tidemark_protocol::wire::codec;
use tidemark_protocol::wire::server::ServerMessage;
use tidemark_tests::raw::{self, Heard, RawClient};
use tidemark_tests::server::client_id;
use tidemark_tests::{Seed, ServerProcess, TestServer};

use crate::{fields, set};

fn path(text: &str) -> DocumentPath {
    DocumentPath::parse(text).unwrap()
}

/// Adds one to `n`: what shows at once whether a write took effect twice.
fn add_one(document: &str) -> Write {
    let field = FieldPath::parse("n").unwrap();
    Write {
        path: path(document),
        op: WriteOp::Update { fields: fields([]), mask: Vec::new() },
        transforms: vec![FieldTransform { field, transform: Transform::Increment(Value::from(1)) }],
        precondition: None,
    }
}

async fn number(client: &mut RawClient, request: u32, document: &str) -> Option<(i64, Version)> {
    let result = client.get(request, vec![path(document)]).await;
    let document = codec::decode_document(result.documents.first()?).unwrap();
    match document.fields.get("n") {
        Some(Value::Integer(n)) => Some((*n, document.update_version)),
        other => panic!("{other:?}"),
    }
}

/// One writer by hand, killed under it again and again: after each kill it sends again what was not answered.
/// Every answer it ever got must hold, and every increment must count once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_writes_survive_kills_at_random_moments() {
    let seed = Seed::or(1);
    let mut rng = seed.rng(0);
    let mut server = ServerProcess::start().await;
    let mut answered: Vec<Version> = Vec::new();
    let mut sent = 0;
    for round in 0..20 {
        let (mut client, _) = RawClient::connect(server.address(), client_id(1)).await;
        let first_open = answered.len() as u64 + 1;
        for id in first_open..=sent {
            client.send(&raw::commit(id, vec![add_one("c/n"), set(&format!("c/{id}"), [])])).await;
        }
        let more = rng.random_range(1..40);
        for id in sent + 1..=sent + more {
            client.send(&raw::commit(id, vec![add_one("c/n"), set(&format!("c/{id}"), [])])).await;
        }
        sent += more;
        // The kill comes after a random number of answers, while the others are under way.
        for _ in 0..rng.random_range(0..=sent - answered.len() as u64) {
            let id = answered.len() as u64 + 1;
            let (version, _) = client.answer(id).await.unwrap();
            answered.push(version);
        }
        server.kill9().await;
        server.restart().await;
        let (mut reader, _) = RawClient::connect(server.address(), client_id(2)).await;
        if let Some((n, version)) = number(&mut reader, 1, "c/n").await {
            let n = u64::try_from(n).unwrap();
            assert!(n >= answered.len() as u64 && n <= sent, "round {round}: {n} of {sent}");
            assert!(answered.last().is_none_or(|last| version >= *last));
        } else {
            assert!(answered.is_empty(), "round {round}: everything is gone");
        }
    }
    let (mut client, _) = RawClient::connect(server.address(), client_id(1)).await;
    for id in 1..=sent {
        let (version, _) =
            client.commit(id, vec![add_one("c/n"), set(&format!("c/{id}"), [])]).await.unwrap();
        match answered.get(id as usize - 1) {
            Some(former) => assert_eq!(version, *former, "write {id} was given another version"),
            None => answered.push(version),
        }
    }
    assert!(answered.is_sorted_by(|a, b| a < b), "{answered:?}");
    let last = answered.last().copied().unwrap();
    assert_eq!(number(&mut client, 2, "c/n").await, Some((i64::try_from(sent).unwrap(), last)));
    let all = (1..=sent).map(|id| path(&format!("c/{id}"))).collect();
    assert_eq!(client.get(3, all).await.documents.len() as u64, sent);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_sent_again_takes_effect_once_and_has_one_version() {
    let mut server = ServerProcess::start().await;
    let writes = || vec![add_one("c/n")];
    let (mut client, _) = RawClient::connect(server.address(), client_id(1)).await;
    let (first, results) = client.commit(1, writes()).await.unwrap();
    assert_eq!(results[0].transform_results, [Value::from(1)]);

    // On the same connection, twice while the first may be in flight.
    for _ in 0..3 {
        client.send(&raw::commit(2, writes())).await;
    }
    let mut answers = Vec::new();
    for _ in 0..3 {
        answers.push(client.answer(2).await.unwrap());
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    assert_eq!(answers[0].1[0].transform_results, [Value::from(2)]);

    // On a new connection.
    let (mut again, _) = RawClient::connect(server.address(), client_id(1)).await;
    assert_eq!(again.commit(1, writes()).await.unwrap(), (first, results.clone()));

    // After an orderly restart, and after a kill.
    server.stop().await;
    server.restart().await;
    let (mut again, _) = RawClient::connect(server.address(), client_id(1)).await;
    assert_eq!(again.commit(2, writes()).await.unwrap(), answers[0]);
    server.kill9().await;
    server.restart().await;
    let (mut again, _) = RawClient::connect(server.address(), client_id(1)).await;
    assert_eq!(again.commit(1, writes()).await.unwrap(), (first, results));
    assert_eq!(number(&mut again, 1, "c/n").await.map(|(n, _)| n), Some(2));

    // Another client's write of the same number is another write.
    let (mut other, _) = RawClient::connect(server.address(), client_id(2)).await;
    other.commit(1, writes()).await.unwrap();
    assert_eq!(number(&mut other, 1, "c/n").await.map(|(n, _)| n), Some(3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_sent_again_while_the_first_connection_dies_counts_once() {
    let server = TestServer::start().await;
    for round in 1..=20 {
        let (mut first, _) = RawClient::connect(server.address(), client_id(1)).await;
        first.send(&raw::commit(round, vec![add_one("c/n")])).await;
        let (mut second, _) = RawClient::connect(server.address(), client_id(1)).await;
        let (_, results) = second.commit(round, vec![add_one("c/n")]).await.unwrap();
        assert_eq!(results[0].transform_results, [Value::from(i64::try_from(round).unwrap())]);
        drop(first);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_connection_fences_the_older_one() {
    let server = TestServer::start().await;
    let (mut old, _) = RawClient::connect(server.address(), client_id(1)).await;
    old.commit(1, vec![add_one("c/n")]).await.unwrap();
    let (mut new, _) = RawClient::connect(server.address(), client_id(1)).await;
    new.commit(2, vec![add_one("c/n")]).await.unwrap();
    // What the old one still sends has no effect.
    old.send(&raw::commit(3, vec![add_one("c/n")])).await;
    let (status, _) = old.until_closed().await;
    assert!(status.is_some(), "the old connection is told that it has to go");
    assert_eq!(number(&mut new, 1, "c/n").await.map(|(n, _)| n), Some(2));
    new.commit(3, vec![add_one("c/n")]).await.unwrap();
    assert_eq!(number(&mut new, 2, "c/n").await.map(|(n, _)| n), Some(3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rejected_commit_leaves_nothing_and_may_be_tried_again() {
    let server = TestServer::start().await;
    let (mut client, _) = RawClient::connect(server.address(), client_id(1)).await;
    let guarded = || {
        let mut second = set("c/second", []);
        second.precondition = Some(Precondition::Exists(true));
        vec![add_one("c/n"), second]
    };
    let status = client.commit(1, guarded()).await.unwrap_err();
    assert_eq!(status.code.name(), "not-found");
    assert_eq!(number(&mut client, 1, "c/n").await, None);
    client.commit(2, vec![set("c/second", [])]).await.unwrap();
    client.commit(3, guarded()).await.unwrap();
    // The same number again: nothing was recorded for it, so it is judged anew.
    client.commit(1, guarded()).await.unwrap();
    assert_eq!(number(&mut client, 2, "c/n").await.map(|(n, _)| n), Some(2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transactions_reads_must_still_hold() {
    let server = TestServer::start().await;
    let (mut client, _) = RawClient::connect(server.address(), client_id(1)).await;
    let (version, _) = client.commit(1, vec![add_one("c/n")]).await.unwrap();
    let transaction = |id, version| {
        ClientMessage::Commit(Commit {
            write_id: WriteId(id),
            writes: vec![add_one("c/n")],
            reads: vec![Read { path: path("c/n"), version }],
            acknowledged_through: WriteId(0),
            edit_time: None,
            follows: None,
        })
    };
    client.send(&transaction(2, version)).await;
    client.answer(2).await.unwrap();
    for stale in [version, Version::NONE] {
        client.send(&transaction(3, stale)).await;
        assert_eq!(client.answer(3).await.unwrap_err().code.name(), "aborted");
    }
    assert_eq!(number(&mut client, 1, "c/n").await.map(|(n, _)| n), Some(2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopping_server_answers_what_it_took_and_says_goodbye() {
    let mut server = ServerProcess::start().await;
    let (mut client, _) = RawClient::connect(server.address(), client_id(1)).await;
    client.commit(1, vec![add_one("c/n")]).await.unwrap();
    let listening = tidemark_tests::spawn(async move {
        let mut goodbye = None;
        loop {
            match client.hear().await {
                Heard::Message(ServerMessage::GoAway { reconnect_after, .. }) => {
                    goodbye = reconnect_after;
                }
                Heard::Message(_) => {}
                Heard::Closed(_) => return goodbye,
            }
        }
    });
    server.stop().await;
    assert!(listening.await.unwrap().is_some(), "a draining server asks its clients to come again");
    server.restart().await;
    let (mut client, _) = RawClient::connect(server.address(), client_id(1)).await;
    assert_eq!(number(&mut client, 1, "c/n").await.map(|(n, _)| n), Some(1));
}
