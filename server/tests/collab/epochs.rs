//! Histories that are cut off, and changes that come late.

use tidemark_protocol::model::{CollaborativeKind, Value, Version};
use tidemark_server::engine::DatabaseOptions;

use super::world::{Editor, World, merge, plain};

async fn world() -> World {
    World::new(DatabaseOptions { collaborative_bytes: 2_000, ..Default::default() }).await
}

/// Writes and deletes until a new epoch begins; what is left is a letter.
async fn next_epoch(editor: &mut Editor, letter: &str) {
    let before = editor.epoch;
    let mut round = 0_u32;
    while editor.epoch == before {
        // Text that does not compress.
        let noise: String = (0..3_000_u32)
            .map(|at| {
                let mixed = (at ^ (round << 13)).wrapping_mul(2_654_435_761).rotate_left(13);
                char::from_u32(0x4e00 + mixed % 20_000).unwrap_or('x')
            })
            .collect();
        editor.document.splice("text", 0, 0, &noise).unwrap();
        editor.document.splice("text", 0, 3_000, "").unwrap();
        editor.send().await.unwrap();
        round += 1;
        assert!(round < 50, "no epoch begins");
    }
    editor.document.splice("text", 0, 0, letter).unwrap();
    editor.send().await.unwrap();
}

#[tokio::test]
async fn late_changes_reach_the_current_epoch() {
    let mut world = world().await;
    let (mut a, mut b) = (world.editor(1).await, world.editor(2).await);
    a.document.ensure("text", CollaborativeKind::Text, None).unwrap();
    a.document.ensure("count", CollaborativeKind::Counter, None).unwrap();
    a.document.splice("text", 0, 0, "end").unwrap();
    let version = a.send().await.unwrap();
    b.until(version).await;
    let (old, mut offline) = (b.epoch, b.document.clone());
    next_epoch(&mut a, "1").await;
    let second = a.epoch;
    next_epoch(&mut a, "2").await;
    assert!(old < second && second < a.epoch);
    assert_eq!(a.field("text"), Some(Value::from("21end")));
    let mut late = Vec::new();
    for (text, by) in [(" of", 1), (" it", 2)] {
        let at = offline.length("text", &[]).unwrap();
        offline.splice("text", at, 0, text).unwrap();
        offline.increment("count", by).unwrap();
        late.push(merge(old, offline.take_changes()));
    }
    b.client.commit(vec![late[0].clone()]).await.unwrap();
    drop((a, b));
    world.restart().await;
    let mut b = world.editor(3).await;
    b.commit(vec![late[1].clone()]).await.unwrap();
    assert_eq!(b.field("text"), Some(Value::from("21end of it")));
    assert_eq!(b.field("count"), Some(Value::from(3)));
    let before = b.stored();
    b.commit(late).await.unwrap();
    assert_eq!(b.stored(), before, "what came already is not made again");
}

#[tokio::test]
async fn what_continues_nothing_known_is_refused() {
    let world = world().await;
    let mut a = world.editor(1).await;
    a.document.ensure("text", CollaborativeKind::Text, None).unwrap();
    let unknown = merge(Version(77), a.document.take_changes());
    let error = a.client.commit(vec![unknown.clone()]).await.unwrap_err();
    assert!(error.contains("failed-precondition") && error.contains("77"), "{error}");
    a.document.splice("text", 0, 0, "lost").unwrap();
    let write = a.write();
    let error = a.client.commit(vec![write]).await.unwrap_err();
    assert!(error.contains("failed-precondition"), "{error}");
    let mut b = world.editor(2).await;
    b.document.ensure("text", CollaborativeKind::Text, None).unwrap();
    b.send().await.unwrap();
    let error = b.client.commit(vec![unknown]).await.unwrap_err();
    assert!(error.contains("failed-precondition"), "{error}");
    next_epoch(&mut b, "x").await;
    b.commit(vec![plain(tidemark_protocol::model::WriteOp::Delete)]).await.unwrap();
    assert!(b.names().is_empty());
}
