//! Changes that no client would send: the server refuses them and goes on.

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tidemark_protocol::model::{CollaborativeKind, Value};
use tidemark_server::engine::DatabaseOptions;

use super::world::{World, merge};

#[tokio::test]
async fn mutated_changes_are_refused_and_leave_no_trace() {
    let world = World::new(DatabaseOptions::default()).await;
    let (mut good, mut bad) = (world.editor(1).await, world.editor(2).await);
    good.document.ensure("text", CollaborativeKind::Text, None).unwrap();
    good.document.splice("text", 0, 0, "good").unwrap();
    let version = good.send().await.unwrap();
    bad.until(version).await;
    bad.document.splice("text", 4, 0, "bad").unwrap();
    let change = bad.document.take_changes().pop().unwrap();
    let mut rng = StdRng::seed_from_u64(7);
    for round in 0..300 {
        let mut bytes = change.to_vec();
        for _ in 0..rng.random_range(1..4) {
            let at = rng.random_range(0..bytes.len());
            bytes[at] = rng.random();
        }
        if rng.random_bool(0.2) {
            bytes.truncate(rng.random_range(0..bytes.len()));
        }
        let changes = vec![Bytes::from(bytes)];
        if changes[0] == change {
            continue;
        }
        let error = bad.client.commit(vec![merge(good.epoch, changes)]).await.unwrap_err();
        assert!(error.contains("invalid-argument"), "{error}");
        if round % 50 == 0 {
            let end = good.document.length("text", &[]).unwrap();
            good.document.splice("text", end, 0, "!").unwrap();
            good.send().await.unwrap();
        }
    }
    assert_eq!(good.field("text"), Some(Value::from("good!!!!!!")));
}

#[tokio::test]
async fn a_document_keeps_to_its_limits() {
    let world = World::new(DatabaseOptions::default()).await;
    let mut editor = world.editor(1).await;
    editor.document.ensure("text", CollaborativeKind::Text, None).unwrap();
    editor.document.splice("text", 0, 0, &"👍".repeat(1 << 18)).unwrap();
    let write = editor.write();
    let error = editor.client.commit(vec![write]).await.unwrap_err();
    assert!(error.contains("limit is"), "{error}");
    assert_eq!(editor.stored(), None);
    editor.document.undo().unwrap();
    editor.document = world.editor(2).await.document;
    editor.document.ensure("text", CollaborativeKind::Text, None).unwrap();
    editor.send().await.unwrap();
    assert_eq!(editor.field("text"), Some(Value::from("")));
}
