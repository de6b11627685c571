//! What is written for one change, what is refused, and that the longest keys fit.

use tidemark_protocol::model::{Code, FieldPath, Fields, IndexMode, IndexScope, Value};

use crate::world::{World, field, fields, index, model_error, set};

#[tokio::test]
async fn an_update_of_one_field_writes_its_entries_only() {
    let mut world = World::memory().await;
    let many = || (0..50).map(|n| (format!("f{n}"), Value::from(n))).collect::<Fields>();
    world.commit(vec![set("c/d", many())]).await.unwrap();
    let entries = || world.database.metrics().index_entries.get();
    // One for each field, and one for the collection.
    assert_eq!(entries(), 51);
    let mut changed = many();
    changed.insert("f7".into(), Value::from("x"));
    // An integer that becomes a double has the same place.
    changed.insert("f8".into(), Value::from(8.0));
    let before = entries();
    world.commit(vec![set("c/d", changed)]).await.unwrap();
    assert_eq!(world.database.metrics().index_entries.get() - before, 2);
    world.check().await.unwrap();
}

#[tokio::test]
async fn definitions_are_checked() {
    use IndexMode::{Ascending, Contains, Descending};
    let world = World::memory().await;
    let database = &world.database;
    let two = index("c", IndexScope::Collection, &[("a", Ascending), ("b", Descending)]);
    let created = database.create_index(two.clone()).await.unwrap();
    let again = database.create_index(two.clone()).await.unwrap_err();
    assert_eq!(model_error(again), Code::AlreadyExists);
    for bad in [
        index("c/d", IndexScope::Collection, &[("a", Ascending)]),
        index("c", IndexScope::Collection, &[]),
        index("c", IndexScope::Group, &[("a", Contains), ("b", Contains)]),
        index("c", IndexScope::Group, &[("a", Ascending), ("a", Descending)]),
    ] {
        let error = database.create_index(bad).await.unwrap_err();
        assert_eq!(model_error(error), Code::InvalidArgument);
    }
    for (collection, prefix) in [("c/d", None), ("", None), ("c", Some(FieldPath::document_id()))] {
        let error = database.exempt(collection, prefix, true).await.unwrap_err();
        assert_eq!(model_error(error), Code::InvalidArgument);
    }
    database.drop_index(created.id).await.unwrap();
    database.indexes_settled().await.unwrap();
    assert_eq!(database.indexes(), []);
    let gone = database.drop_index(created.id).await.unwrap_err();
    assert_eq!(model_error(gone), Code::NotFound);
    assert_eq!(model_error(database.drop_index(77).await.unwrap_err()), Code::NotFound);
    let second = database.create_index(two).await.unwrap();
    assert!(second.id > created.id, "a number is never given out again");
}

#[tokio::test]
async fn there_is_a_limit_of_declared_indexes() {
    let world = World::memory().await;
    let definition =
        |n: u32| index("c", IndexScope::Collection, &[(&format!("f{n}"), IndexMode::Ascending)]);
    for n in 0..200 {
        world.database.create_index(definition(n)).await.unwrap();
    }
    let error = world.database.create_index(definition(200)).await.unwrap_err();
    assert_eq!(model_error(error), Code::ResourceExhausted);
    world.database.drop_index(1).await.unwrap();
    world.database.create_index(definition(200)).await.unwrap();
    world.check_settled().await.unwrap();
}

#[tokio::test]
async fn a_document_has_a_limit_of_entries() {
    let mut world = World::memory().await;
    let array = |count: u32| fields([("l", Value::Array((0..count).map(Value::from).collect()))]);
    // The array itself is an entry as well.
    world.commit(vec![set("c/fits", array(39_999))]).await.unwrap();
    let status = world.commit(vec![set("c/not", array(40_000))]).await.unwrap_err();
    assert_eq!(status.code, Code::InvalidArgument);
    assert!(status.message.contains("more than 40000 index entries"), "{status:?}");
    // Repetitions do not count.
    let same = fields([("l", Value::Array(vec![Value::from(1); 100_000]))]);
    world.commit(vec![set("c/same", same)]).await.unwrap();
    world.database.exempt("c", Some(field("l")), true).await.unwrap();
    world.commit(vec![set("c/not", array(40_000))]).await.unwrap();
    assert_eq!(world.check_settled().await.unwrap(), 1);
}

#[tokio::test]
async fn a_commit_of_too_many_entries_is_refused_and_can_be_divided() {
    let mut world = World::memory().await;
    let large = |id: u32| {
        let values = (0..200).map(|n| (format!("f{n}"), Value::from("x".repeat(20))));
        set(&format!("c/{id}"), values.collect())
    };
    let all: Vec<_> = (0..500).map(large).collect();
    let status = world.commit(all.clone()).await.unwrap_err();
    assert_eq!(status.code, Code::ResourceExhausted);
    for part in all.chunks(100) {
        world.commit(part.to_vec()).await.unwrap();
    }
    assert_eq!(world.check().await.unwrap(), 500 * 200 + 1);
}

/// The longest paths, with every byte one that takes two in a key, and the longest values.
#[tokio::test]
async fn the_longest_keys_fit() {
    let mut world = World::memory().await;
    let mut longest = vec!["\0".repeat(1_500); 4].join("/");
    longest.push('/');
    longest += &"\0".repeat(100);
    longest.push('/');
    longest += &"\0".repeat(6_144 - longest.len());
    assert_eq!(longest.len(), 6_144);
    let collection_id = "\0".repeat(100);
    let name = "\u{0}".repeat(749);
    let text = || Value::from("\0".repeat(5_000));
    let nested = Value::from([(name.as_str(), text())]);
    let document = [("f".to_owned(), text()), (name.clone(), text()), ("m".to_owned(), nested)];
    for scope in [IndexScope::Collection, IndexScope::Group] {
        let two = [("f", IndexMode::Ascending), ("m", IndexMode::Descending)];
        world.database.create_index(index(&collection_id, scope, &two)).await.unwrap();
        let path = FieldPath::from_segments([name.clone()]).unwrap().to_string();
        let three = [two[1], (path.as_str(), IndexMode::Descending), two[0]];
        world.database.create_index(index(&collection_id, scope, &three)).await.unwrap();
    }
    world.commit(vec![set(&longest, document.into())]).await.unwrap();
    // Four automatic fields of which the nested one has too long a path, four composites, and the
    // collection.
    assert_eq!(world.check_settled().await.unwrap(), 3 + 4 + 1);
    world.database.exempt(&collection_id, None, true).await.unwrap();
    assert_eq!(world.check_settled().await.unwrap(), 4 + 1);
    world.database.exempt(&collection_id, None, false).await.unwrap();
    assert_eq!(world.check_settled().await.unwrap(), 3 + 4 + 1);
}
