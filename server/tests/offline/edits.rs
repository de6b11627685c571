//! Edits that arrive late, what their authors are told, and the order of writes sent ahead.

use std::collections::BTreeMap;

use tidemark_protocol::model::*;
use tidemark_protocol::wire::client::Commit;
use tidemark_protocol::wire::codec;
use tidemark_server::engine::DatabaseOptions;

use crate::world::{World, delete, field, fields, path, set, update, write};

async fn world() -> World {
    World::new(DatabaseOptions::default()).await
}

#[tokio::test]
async fn a_late_edit_keeps_what_nobody_else_edited_and_its_author_is_told_of_the_rest() {
    let world = world().await;
    let (mut phone, mut desk) = (world.connect(1).await, world.connect(2).await);
    desk.write(set("c/d", &[("title", 1), ("body", 1)]), None).await;
    world.advance(86_400);
    let monday = world.now();
    world.advance(86_400);
    desk.write(update("c/d", &[("title", 2)]), None).await;
    world.advance(86_400);
    let late = update("c/d", &[("title", 3), ("body", 3)]);
    let told = phone.write(late.clone(), Some(monday)).await;
    assert_eq!(told, Superseded::Fields(vec![field("title")]));
    let found = world.documents().await.remove(&path("c/d")).unwrap();
    assert_eq!(found.fields, fields(&[("title", 2), ("body", 3)]));
    // Without a stamp it is an edit of now.
    assert_eq!(desk.write(late, None).await, Superseded::Nothing);
    let found = world.documents().await.remove(&path("c/d")).unwrap();
    assert_eq!(found.fields, fields(&[("title", 3), ("body", 3)]));
}

#[tokio::test]
async fn a_commit_that_comes_too_late_as_a_whole_is_committed_without_a_change() {
    let mut world = world().await;
    let mut client = world.connect(1).await;
    client.write(set("c/d", &[("a", 1)]), None).await;
    client.write(set("c/n", &[("n", 1)]), None).await;
    let logged = world.table(b'l').await.len();
    let late = vec![set("c/d", &[("a", 2)]), update("c/d", &[("a", 3), ("b", 3)]), delete("c/n")];
    let late = Commit { edit_time: Some(world.ago(60)), ..client.numbered(late) };
    client.send(late.clone()).await;
    let (_, outcome) = client.answer().await;
    let (version, results) = outcome.clone().unwrap();
    let superseded: Vec<Superseded> = results.into_iter().map(|it| it.superseded).collect();
    let both = Superseded::Fields(vec![field("a"), field("b")]);
    assert_eq!(superseded, [Superseded::Whole, both, Superseded::Whole]);
    let documents = world.documents().await;
    assert_eq!(documents[&path("c/d")].fields, fields(&[("a", 1)]));
    assert!(documents.values().all(|document| document.update_version < version));
    assert_eq!(world.table(b'l').await.len(), logged, "it is not in the log");
    // Whoever asks again, also after a restart, is told the same.
    client.send(late.clone()).await;
    assert_eq!(client.answer().await.1, outcome);
    world.restart().await;
    let again = world.connect(1).await;
    again.send(late).await;
    assert_eq!(again.answer().await.1, outcome);
}

#[tokio::test]
async fn transactions_and_stamps_from_the_future_are_edits_of_now() {
    let world = world().await;
    let mut client = world.connect(1).await;
    let (version, _) = client.commit(vec![set("c/d", &[("a", 1)])], None).await.unwrap();
    let reads = vec![Read { path: path("c/d"), version }];
    let made = Some(world.ago(60));
    let transaction = client.numbered(vec![update("c/d", &[("a", 2)])]);
    client.send(Commit { reads, edit_time: made, ..transaction }).await;
    let (_, results) = client.answer().await.1.unwrap();
    assert_eq!(results[0].superseded, Superseded::Nothing);
    // If this counted as made tomorrow, what is written now would come too late.
    let tomorrow = EditTime(world.now().0 + 86_400_000_000);
    client.write(update("c/d", &[("a", 3)]), Some(tomorrow)).await;
    world.advance(1);
    assert_eq!(client.write(update("c/d", &[("a", 4)]), None).await, Superseded::Nothing);
    assert_eq!(world.documents().await[&path("c/d")].fields, fields(&[("a", 4)]));
}

#[tokio::test]
async fn what_is_written_as_a_whole_online_is_stored_without_clocks() {
    let world = world().await;
    let mut client = world.connect(1).await;
    let text = WriteOp::Set(Fields::from([("text".to_owned(), Value::from("x".repeat(200)))]));
    let create = Some(Precondition::Exists(false));
    let message = Write { precondition: create, ..write("rooms/a/messages/1", text.clone()) };
    client.write(message, None).await;
    client.write(write("rooms/a/messages/2", text.clone()), None).await;
    client.write(write("rooms/a/messages/2", WriteOp::Set(Fields::new())), None).await;
    client.write(write("rooms/a/messages/2", text), None).await;
    let stored = world.table(b'd').await;
    assert_eq!(stored.len(), 2);
    for (_, bytes) in stored {
        let document = codec::decode_document(&bytes).unwrap();
        assert_eq!(document.merge, MergeState::default());
        // The path, two versions, the name and the text of the field, and what tells them apart.
        assert_eq!(bytes.len(), 2 + 18 + 2 * 9 + 2 + (2 + 4) + 2 + (3 + 200) + 2, "{bytes:?}");
    }
    assert_eq!(world.table(b't').await, []);
}

#[tokio::test]
async fn what_is_written_online_reads_no_more_than_its_documents() {
    let world = world().await;
    let mut client = world.connect(1).await;
    client.write(set("c/first", &[]), None).await;
    world.reads();
    let create = Some(Precondition::Exists(false));
    client.write(Write { precondition: create, ..set("c/d", &[("a", 1)]) }, None).await;
    client.write(update("c/d", &[("a", 2)]), None).await;
    client.write(set("c/d", &[("a", 3)]), None).await;
    client.write(delete("c/d"), None).await;
    assert_eq!(world.reads(), BTreeMap::from([('d', 4)]));
    // Only where it decides: of a write from before, and of an update that creates.
    client.write(set("c/d", &[]), Some(world.ago(60))).await;
    client.write(update("c/e", &[("a", 1)]), None).await;
    assert_eq!(world.reads(), BTreeMap::from([('d', 2), ('t', 2)]));
}

#[tokio::test]
async fn writes_sent_ahead_keep_their_order_when_one_is_refused_for_now() {
    let world = world().await;
    let mut client = world.connect(1).await;
    // So many unacknowledged outcomes as a client may have.
    for _ in 0..2_000 {
        let commit = client.numbered(vec![set("c/other", &[])]);
        client.send(commit).await;
        client.answer().await.1.unwrap();
    }
    let first = client.numbered(vec![set("c/d", &[("n", 1)])]);
    let second = Commit {
        follows: Some(first.write_id),
        acknowledged_through: WriteId(2_000),
        ..client.numbered(vec![update("c/d", &[("n", 2)])])
    };
    let third = Commit { follows: Some(second.write_id), ..client.numbered(vec![delete("c/d")]) };
    let apart = client.numbered(vec![set("c/apart", &[])]);
    for commit in [&first, &second, &third, &apart] {
        client.send(commit.clone()).await;
    }
    let mut refused = Vec::new();
    for _ in 0..3 {
        refused.push(client.answer().await.1.unwrap_err().code);
    }
    // The second would have been taken but for the first.
    assert_eq!(refused, [Code::ResourceExhausted, Code::Unavailable, Code::Unavailable]);
    client.answer().await.1.unwrap();
    for commit in [&first, &second] {
        client.send(commit.clone()).await;
        client.answer().await.1.unwrap();
    }
    assert_eq!(world.documents().await[&path("c/d")].fields, fields(&[("n", 2)]));
    // On another connection what was refused before does not count: all is sent again there.
    let again = world.connect(1).await;
    again.send(third).await;
    again.answer().await.1.unwrap();
    assert!(!world.documents().await.contains_key(&path("c/d")));
}
