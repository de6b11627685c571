//! Deleted documents: what was written before does not bring them back, for as long as it is
//! remembered.

use std::time::Duration;

use tidemark_protocol::model::*;
use tidemark_server::engine::DatabaseOptions;

use crate::world::{World, delete, fields, path, set, update};

const DAY: u64 = 86_400;

async fn world() -> World {
    let tombstone_retention = Duration::from_secs(30 * DAY);
    World::new(DatabaseOptions { tombstone_retention, ..DatabaseOptions::default() }).await
}

#[tokio::test]
async fn what_was_written_before_a_delete_does_not_bring_the_document_back() {
    let mut world = world().await;
    let mut client = world.connect(1).await;
    let before = world.now();
    world.advance(DAY);
    client.write(set("c/d", &[("a", 1)]), None).await;
    client.write(delete("c/d"), None).await;
    for late in [update("c/d", &[("a", 2)]), set("c/d", &[("a", 2)])] {
        assert_eq!(client.write(late, Some(before)).await, Superseded::Whole);
    }
    // Also when only the store remembers, and long after the log has forgotten.
    world.restart().await;
    world.advance(29 * DAY);
    let mut client = world.connect(1).await;
    client.last = 4;
    assert_eq!(client.write(set("c/d", &[("a", 3)]), Some(before)).await, Superseded::Whole);
    assert!(world.documents().await.is_empty());
    // A later edit creates it, and what was written in between still comes too late.
    let after = world.now();
    world.advance(1);
    assert_eq!(client.write(update("c/d", &[("a", 4)]), Some(after)).await, Superseded::Nothing);
    let late = client.write(update("c/d", &[("b", 5)]), Some(before)).await;
    assert_eq!(late, Superseded::Fields(vec![FieldPath::parse("b").unwrap()]));
    assert_eq!(world.documents().await[&path("c/d")].fields, fields(&[("a", 4)]));
}

#[tokio::test]
async fn a_late_delete_loses_to_what_was_written_since() {
    let world = world().await;
    let mut client = world.connect(1).await;
    client.write(set("c/d", &[("a", 1)]), None).await;
    let then = world.now();
    world.advance(60);
    client.write(update("c/d", &[("b", 2)]), None).await;
    assert_eq!(client.write(delete("c/d"), Some(then)).await, Superseded::Whole);
    assert_eq!(world.documents().await[&path("c/d")].fields, fields(&[("a", 1), ("b", 2)]));
    let later = world.now();
    world.advance(60);
    assert_eq!(client.write(delete("c/d"), Some(later)).await, Superseded::Nothing);
    assert!(world.documents().await.is_empty());
    // The tombstone is of the edit, not of its arrival: what was written in between holds.
    let between = EditTime(later.0 + 1);
    assert_eq!(client.write(set("c/d", &[("a", 3)]), Some(between)).await, Superseded::Nothing);
}

#[tokio::test]
async fn tombstones_are_forgotten_after_their_retention_some_with_each_batch() {
    let mut world = world().await;
    let mut client = world.connect(1).await;
    let before = world.ago(60);
    for chunk in 0..6 {
        let name = |index: u32| format!("c/{}", chunk * 100 + index);
        client.commit((0..100).map(|it| set(&name(it), &[])).collect(), None).await.unwrap();
        client.commit((0..100).map(|it| delete(&name(it))).collect(), None).await.unwrap();
    }
    world.advance(15 * DAY);
    // One of them is deleted again later: its first tombstone must not take the second along.
    client.write(set("c/0", &[]), None).await;
    client.write(delete("c/0"), None).await;
    assert_eq!([world.table(b't').await.len(), world.table(b'u').await.len()], [600, 601]);
    world.advance(16 * DAY);
    world.restart().await;
    let mut client = world.connect(1).await;
    client.last = 14;
    let mut left = Vec::new();
    for _ in 0..5 {
        client.write(set("other/d", &[]), None).await;
        left.push((world.table(b't').await.len(), world.table(b'u').await.len()));
    }
    assert!(left[0].1 > 0 && left[0].1 < 601, "some at a time: {left:?}");
    assert_eq!(left.last(), Some(&(1, 1)), "{left:?}");
    assert_eq!(client.write(set("c/1", &[]), Some(before)).await, Superseded::Nothing);
    assert_eq!(client.write(set("c/0", &[]), Some(before)).await, Superseded::Whole);
    world.advance(16 * DAY);
    client.write(set("other/e", &[]), None).await;
    assert_eq!([world.table(b't').await, world.table(b'u').await], [[], []]);
    assert_eq!(client.write(set("c/0", &[]), Some(before)).await, Superseded::Nothing);
}
