//! What commits make of collaborative fields, and what is stored.

use tidemark_protocol::model::{
    CollaborativeKind, FieldPath, FieldTransform, Precondition, Transform, Value,
};
use tidemark_server::engine::DatabaseOptions;
use tidemark_server::store::{KeyRange, ScanDirection};

use super::world::{World, plain, set, update};

async fn world() -> World {
    World::new(DatabaseOptions::default()).await
}

#[tokio::test]
async fn edits_of_two_are_merged_and_shown() {
    let mut world = world().await;
    let (mut a, mut b) = (world.editor(1).await, world.editor(2).await);
    a.document.ensure("text", CollaborativeKind::Text, None).unwrap();
    b.document.ensure("text", CollaborativeKind::Text, None).unwrap();
    b.document.ensure("count", CollaborativeKind::Counter, None).unwrap();
    a.document.splice("text", 0, 0, "Hello 👩‍👧").unwrap();
    b.document.splice("text", 0, 0, "World").unwrap();
    b.document.increment("count", 4).unwrap();
    a.send().await.unwrap();
    let version = b.send().await.unwrap();
    a.until(version).await;
    assert_eq!(a.stored(), b.stored());
    assert_eq!(a.field("count"), Some(Value::from(4)));
    let Some(Value::String(text)) = a.field("text") else { panic!("a text") };
    assert!(["Hello 👩‍👧World", "WorldHello 👩‍👧"].contains(&text.as_str()), "{text}");
    assert_eq!(a.names().len(), 2, "one document for each commit");
    drop((a, b));
    world.restart().await;
    let mut c = world.editor(3).await;
    assert_eq!(c.document.text("text").unwrap(), text);
    c.document.splice("text", 0, 0, "> ").unwrap();
    c.send().await.unwrap();
    assert_eq!(c.field("text"), Some(Value::from(format!("> {text}"))));
}

#[tokio::test]
async fn a_commit_that_is_sent_again_or_refused_changes_nothing() {
    let world = world().await;
    let mut a = world.editor(1).await;
    a.document.ensure("text", CollaborativeKind::Text, None).unwrap();
    a.document.splice("text", 0, 0, "one").unwrap();
    let write = a.write();
    let version = a.commit(vec![write.clone()]).await.unwrap();
    a.commit(vec![write]).await.unwrap();
    assert_eq!(a.stored().unwrap().update_version, version);
    assert_eq!(a.names().len(), 1);
    a.document.splice("text", 3, 0, " two").unwrap();
    let refused = plain(tidemark_protocol::model::WriteOp::Delete);
    let refused = tidemark_protocol::model::Write {
        path: tidemark_protocol::model::DocumentPath::parse("docs/none").unwrap(),
        precondition: Some(Precondition::Exists(true)),
        ..refused
    };
    let write = a.write();
    let error = a.client.commit(vec![write, refused]).await.unwrap_err();
    assert!(error.contains("not-found"), "{error}");
    let mut b = world.editor(2).await;
    assert_eq!(b.document.text("text").unwrap(), "one");
    b.document.splice("text", 0, 0, "zero ").unwrap();
    b.send().await.unwrap();
    assert_eq!(b.field("text"), Some(Value::from("zero one")));
}

#[tokio::test]
async fn plain_writes_are_differences() {
    let world = world().await;
    let (mut a, mut b) = (world.editor(1).await, world.editor(2).await);
    for (field, kind) in [
        ("text", CollaborativeKind::Text),
        ("list", CollaborativeKind::List),
        ("map", CollaborativeKind::Map),
        ("count", CollaborativeKind::Counter),
    ] {
        a.document.ensure(field, kind, None).unwrap();
    }
    a.document.splice("text", 0, 0, "the fox").unwrap();
    a.document.splice_list("list", &[], 0, 0, &[Value::from(1), Value::from(2)]).unwrap();
    a.document.increment("count", 5).unwrap();
    let version = a.send().await.unwrap();
    b.until(version).await;
    b.document.splice("text", 4, 0, "quick ").unwrap();
    b.document.splice_list("list", &[], 2, 0, &[Value::from(3)]).unwrap();
    b.document.increment("count", 2).unwrap();
    b.document.put("map", &[], "b", &Value::from(1)).unwrap();
    let plain = set(&[
        ("text", Value::from("the fox jumps")),
        ("list", Value::from(vec![0, 1, 2])),
        ("map", Value::from([("a", 1)])),
        ("count", Value::from(15)),
        ("other", Value::from(true)),
    ]);
    let version = a.commit(vec![plain]).await.unwrap();
    assert_eq!(a.field("text"), Some(Value::from("the fox jumps")));
    assert_eq!(a.field("count"), Some(Value::from(15)));
    b.client.until(version).await;
    b.send().await.unwrap();
    assert_eq!(b.field("text"), Some(Value::from("the quick fox jumps")));
    assert_eq!(b.field("list"), Some(Value::from(vec![0, 1, 2, 3])));
    assert_eq!(b.field("map"), Some(Value::from([("a", 1), ("b", 1)])));
    assert_eq!(b.field("count"), Some(Value::from(17)));
    assert_eq!(b.field("other"), Some(Value::from(true)));
    let increment = FieldTransform {
        field: FieldPath::parse("count").unwrap(),
        transform: Transform::Increment(Value::from(10)),
    };
    let mut write = update("other", Some(Value::from(false)));
    write.transforms.push(increment);
    b.commit(vec![write]).await.unwrap();
    assert_eq!(b.document.value("count"), Some(Value::from(27)));
    assert_eq!(b.field("other"), Some(Value::from(false)));
}

#[tokio::test]
async fn another_type_makes_a_field_plain_and_a_delete_removes_the_history() {
    let world = world().await;
    let mut a = world.editor(1).await;
    a.document.ensure("text", CollaborativeKind::Text, None).unwrap();
    a.document.ensure("list", CollaborativeKind::List, None).unwrap();
    a.document.splice("text", 0, 0, "text").unwrap();
    a.send().await.unwrap();
    let first = a.epoch;
    a.commit(vec![update("text", Some(Value::from(1)))]).await.unwrap();
    assert_eq!(a.field("text"), Some(Value::from(1)));
    assert!(a.epoch > first, "the history goes on without the field");
    assert_eq!(a.document.kinds().len(), 1);
    let Err(error) = ({
        a.document.ensure("text", CollaborativeKind::Text, None).unwrap();
        a.document.splice("text", 0, 0, "no").unwrap();
        a.send().await
    }) else {
        panic!("a number is no text");
    };
    assert!(error.contains("failed-precondition"), "{error}");
    a.commit(vec![update("list", None)]).await.unwrap();
    assert!(a.stored().unwrap().merge.collaborative.is_none());
    assert!(a.names().is_empty(), "{:?}", a.names());
    let mut b = world.editor(2).await;
    b.document.ensure("list", CollaborativeKind::List, None).unwrap();
    b.document.splice_list("list", &[], 0, 0, &[Value::from(1)]).unwrap();
    b.send().await.unwrap();
    assert_eq!(b.field("list"), Some(Value::from(vec![1])));
    b.commit(vec![plain(tidemark_protocol::model::WriteOp::Delete)]).await.unwrap();
    assert_eq!((b.stored(), b.names().len()), (None, 0));
}

#[tokio::test]
async fn a_plain_value_becomes_the_content() {
    let world = world().await;
    let (mut a, mut b) = (world.editor(1).await, world.editor(2).await);
    a.commit(vec![set(&[("text", Value::from("the fox"))])]).await.unwrap();
    let began = Value::from("the fox");
    for editor in [&mut a, &mut b] {
        editor.document.ensure("text", CollaborativeKind::Text, Some(&began)).unwrap();
    }
    a.document.splice("text", 4, 0, "quick ").unwrap();
    b.document.splice("text", 7, 0, " jumps").unwrap();
    a.commit(vec![update("text", Some(Value::from("The fox")))]).await.unwrap();
    a.document.ensure("text", CollaborativeKind::Text, Some(&began)).unwrap();
    a.send().await.unwrap();
    assert_eq!(a.field("text"), Some(Value::from("The quick fox")), "the plain edit stays, too");
    b.send().await.unwrap();
    assert_eq!(b.field("text"), Some(Value::from("The quick fox jumps")));
    let mut c = world.editor(3).await;
    c.epoch = Default::default();
    c.document = tidemark_protocol::model::collab::CollabDocument::new(
        &[9; 16],
        tidemark_protocol::model::collab::TextUnit::CodePoints,
    );
    let other = Value::from("the cat");
    c.document.ensure("text", CollaborativeKind::Text, Some(&other)).unwrap();
    c.document.splice("text", 7, 0, " sleeps").unwrap();
    let first = c.write();
    c.document.splice("text", 14, 0, "!").unwrap();
    let second = c.write();
    c.client.commit(vec![first]).await.unwrap();
    let version = c.client.commit(vec![second]).await.unwrap();
    c.until(version).await;
    let Some(Value::String(text)) = c.field("text") else { panic!("a text") };
    assert!(text.contains("sleeps!"), "{text}");
    assert_eq!(text.matches("The ").count(), 1, "{text}");
}

#[tokio::test]
async fn many_changes_become_a_snapshot() {
    let mut world = world().await;
    let mut a = world.editor(1).await;
    a.document.ensure("text", CollaborativeKind::Text, None).unwrap();
    for at in 0..1_100 {
        a.document.splice("text", at, 0, "x").unwrap();
        let write = a.write();
        a.client.commit(vec![write]).await.unwrap();
    }
    let version = a.commit(vec![update("other", Some(Value::Null))]).await.unwrap();
    assert!(a.names().len() < 600, "{}", a.names().len());
    assert!(
        a.names()[0].ends_with("-c000000000000") || a.names().iter().any(|it| it.contains("-s"))
    );
    drop(a);
    world.restart().await;
    let mut b = world.editor(2).await;
    b.until(version).await;
    assert_eq!(b.document.text("text").unwrap(), "x".repeat(1_100));
}

#[tokio::test]
async fn a_history_is_not_indexed() {
    let world = world().await;
    let mut a = world.editor(1).await;
    a.document.ensure("text", CollaborativeKind::Text, None).unwrap();
    a.send().await.unwrap();
    let all = KeyRange { start: vec![], end: vec![0xff; 8] };
    let snapshot = world.store.snapshot().await.unwrap();
    let stored = snapshot.scan(all, ScanDirection::Forward, 1_000).await.unwrap();
    let has = |key: &[u8]| key.windows(10).any(|window| window == b"__collab__");
    let tables: Vec<u8> =
        stored.iter().filter(|(key, _)| has(key)).map(|(key, _)| key[4]).collect();
    assert_eq!(tables, b"d", "the document alone");
    let error = a
        .client
        .commit(vec![tidemark_protocol::model::Write {
            path: tidemark_protocol::model::DocumentPath::parse("docs/one/__collab__/x").unwrap(),
            ..set(&[])
        }])
        .await
        .unwrap_err();
    assert!(error.contains("invalid-argument"), "{error}");
}
