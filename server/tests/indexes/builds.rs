//! What goes on in the background: builds, drops, exemptions, and databases from before indexes.

use std::time::Duration;

use tempfile::TempDir;
use tidemark_protocol::model::{FieldPath, IndexMode, IndexScope};
use tidemark_server::engine::{DatabaseOptions, IndexState};
use tidemark_server::store;

use crate::world::{World, field, fill, index};

#[tokio::test]
async fn an_index_is_built_over_documents_from_before_while_commits_go_on() {
    let mut world = World::memory().await;
    fill(&mut world, "c", 0..2_000).await;
    fill(&mut world, "c/1/c", 0..1_000).await;
    fill(&mut world, "other", 0..100).await;
    let group =
        index("c", IndexScope::Group, &[("m.k", IndexMode::Ascending), ("l", IndexMode::Contains)]);
    let created = world.database.create_index(group).await.unwrap();
    assert!(matches!(created.state, IndexState::Building(_)), "{created:?}");
    let mut seen = 0;
    for round in 0..10 {
        fill(&mut world, "c", round * 150..round * 150 + 500).await;
        world.check().await.unwrap();
        if let IndexState::Building(progress) = world.database.indexes()[0].state {
            assert!(progress.done >= seen && progress.done <= 3_100, "{progress:?}");
            seen = progress.done;
        }
    }
    // Two elements each, but for those where both are the same.
    let entries = world.check_settled().await.unwrap();
    assert_eq!(world.database.metrics().index_build_documents.get(), 3_000);
    let automatic = world.database.check_indexes().await.unwrap().entries - entries;
    assert_eq!(automatic, 0);
    world.database.drop_index(created.id).await.unwrap();
    let without = world.check_settled().await.unwrap();
    assert!(entries - without > 5_900 && entries - without <= 6_000, "{entries} {without}");
}

#[tokio::test]
async fn a_building_index_can_be_dropped() {
    let mut world = World::memory().await;
    fill(&mut world, "c", 0..3_000).await;
    let before = world.check().await.unwrap();
    let one = index("c", IndexScope::Collection, &[("n", IndexMode::Descending)]);
    let created = world.database.create_index(one).await.unwrap();
    assert!(matches!(created.state, IndexState::Building(_)));
    world.database.drop_index(created.id).await.unwrap();
    assert!(matches!(world.database.indexes()[0].state, IndexState::Dropping(_)));
    assert_eq!(world.check_settled().await.unwrap(), before);
    assert_eq!(world.database.indexes(), []);
}

#[tokio::test]
async fn the_longest_path_decides_about_a_field() {
    let mut world = World::memory().await;
    fill(&mut world, "c", 0..10).await;
    let entries = |each: u64| 10 * each + 1;
    // n, m, m.k, l and its two elements, which for the first three numbers are one.
    let whole = world.check().await.unwrap();
    assert_eq!(whole, entries(6) - 3);
    let exempt = async |prefix: Option<&str>, exempt: bool| {
        world.database.exempt("c", prefix.map(field), exempt).await.unwrap();
        world.check_settled().await.unwrap()
    };
    assert_eq!(exempt(Some("l"), true).await, entries(3));
    assert_eq!(exempt(None, true).await, 1);
    assert_eq!(exempt(Some("m.k"), false).await, entries(1));
    assert_eq!(exempt(Some("m"), true).await, entries(1));
    let listed = world.database.exemptions();
    let listed: Vec<_> = listed
        .iter()
        .map(|it| (it.field.as_ref().map(FieldPath::to_string), it.indexed, it.state))
        .collect();
    let expected = [(None, false), (Some("l"), false), (Some("m"), false), (Some("m.k"), true)];
    let expected = expected.map(|(path, on)| (path.map(str::to_owned), on, IndexState::Ready));
    assert_eq!(listed, expected);
    assert_eq!(exempt(None, false).await, entries(2));
    assert_eq!(exempt(Some("m"), false).await, entries(3));
    assert_eq!(exempt(Some("l"), false).await, whole);
}

#[tokio::test]
async fn an_exemption_that_changes_again_while_entries_are_moved_starts_over() {
    let options = DatabaseOptions { index_chunk: 16, ..DatabaseOptions::default() };
    let mut world = World::open_with("mem:", 1, options).await;
    fill(&mut world, "c", 0..1_000).await;
    let whole = world.check().await.unwrap();
    let mut half_way = 0;
    for field in ["n", "l", "m"].map(field) {
        for exempt in [true, false, true] {
            world.database.exempt("c", Some(field.clone()), exempt).await.unwrap();
            // Until some have been moved, but if possible not all.
            while let Some(IndexState::Building(progress) | IndexState::Dropping(progress)) =
                world.database.exemptions().first().map(|it| it.state)
            {
                if progress.done > 0 {
                    half_way += 1;
                    break;
                }
                fill(&mut world, "c", 0..1).await;
            }
        }
        let without = world.check_settled().await.unwrap();
        assert!(without < whole, "{field} has entries");
        world.database.exempt("c", Some(field), false).await.unwrap();
        assert_eq!(world.check_settled().await.unwrap(), whole);
    }
    assert!(half_way >= 3, "{half_way} of 9 were seen half-way");
}

/// A database that has documents but no indexes, as an older version left it.
async fn without_indexes(url: &str) {
    let store = store::open(url).await.unwrap();
    let mut transaction = store.begin().await.unwrap();
    let all = store::KeyRange { start: vec![0, 0, 0, 1], end: vec![0, 0, 0, 2] };
    let snapshot = store.snapshot().await.unwrap();
    let rows = snapshot.scan(all, store::ScanDirection::Forward, usize::MAX).await.unwrap();
    for (key, _) in rows.into_iter().filter(|(key, _)| b"xygn".contains(&key[4])) {
        transaction.delete(key);
    }
    transaction.commit().await.unwrap();
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_database_from_before_indexes_gets_them_when_it_is_opened() {
    let place = TempDir::new().unwrap();
    let url = format!("surrealkv://{}", place.path().join("store").display());
    let mut world = World::open(&url, 1).await;
    fill(&mut world, "c", 0..1_500).await;
    fill(&mut world, "c/1/d", 0..10).await;
    let entries = world.check().await.unwrap();
    world.tasks.finish(Duration::ZERO).await;
    world.store.close().await.unwrap();
    without_indexes(&url).await;
    let mut world = World::open(&url, 2).await;
    assert!(world.database.automatic_build().is_some());
    // Interrupted at different places, while documents are written and indexes change.
    for round in 0..4_u8 {
        fill(&mut world, "c", 0..50 * (u32::from(round) + 1)).await;
        world.check().await.unwrap();
        world = world.restart(&url, round + 3, DatabaseOptions::default()).await;
    }
    world.database.exempt("c", Some(field("l")), true).await.unwrap();
    world.check_settled().await.unwrap();
    assert_eq!(world.database.automatic_build(), None);
    world.database.exempt("c", Some(field("l")), false).await.unwrap();
    assert_eq!(world.check_settled().await.unwrap(), entries);
    world = world.restart(&url, 9, DatabaseOptions::default()).await;
    assert_eq!(world.database.automatic_build(), None, "not again");
    assert_eq!(world.check().await.unwrap(), entries);
}
