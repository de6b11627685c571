//! A database from before there were indexes answers as it always did while they are being built.

use std::sync::Arc;
use std::time::Duration;

use tidemark_protocol::model::*;
use tidemark_server::engine::DatabaseOptions;
use tidemark_server::store::{self, KeyRange, ScanDirection, Store};

use crate::world::{World, collection, field, path};

/// Takes away all that has to do with indexes.
async fn forget_indexes(store: &dyn Store) {
    let all = KeyRange { start: vec![0, 0, 0, 1], end: vec![0xFF] };
    let snapshot = store.snapshot().await.unwrap();
    let rows = snapshot.scan(all, ScanDirection::Forward, usize::MAX).await.unwrap();
    let mut transaction = store.begin().await.unwrap();
    let mut forgotten = 0;
    for (key, _) in rows.into_iter().filter(|(key, _)| b"xygn".contains(&key[4])) {
        transaction.delete(key);
        forgotten += 1;
    }
    transaction.commit().await.unwrap();
    assert!(forgotten > 200);
}

#[tokio::test]
async fn queries_are_answered_while_indexes_are_built() {
    let place = tempfile::TempDir::new().unwrap();
    let url = format!("surrealkv://{}", place.path().join("store").display());
    let documents: Vec<Document> = (0..200)
        .map(|at| {
            let path = path(&format!("r/{}/c/d{at}", at % 7));
            let fields = Fields::from([("a".to_owned(), Value::from(at % 10))]);
            let (create_version, update_version) = (Version(1), Version(1));
            Document { path, fields, create_version, update_version, merge: Default::default() }
        })
        .collect();
    let mut world = World::open(&url, DatabaseOptions::default()).await;
    world.set(documents.iter().map(|it| (it.path.clone(), it.fields.clone()))).await;
    world.close().await;

    let store: Arc<dyn Store> = store::open(&url).await.unwrap();
    forget_indexes(&*store).await;
    store.close().await.unwrap();
    drop(store);

    let options = DatabaseOptions { index_chunk: 1, ..DatabaseOptions::default() };
    let mut world = World::open(&url, options).await;
    let queries = [
        Query::group("c").with_filter(field("a"), Operator::Equal, 3),
        Query::group("c").with_order(field("a"), Direction::Descending).with_limit(20),
        collection("r/2/c").with_filter(field("a"), Operator::GreaterThan, 4),
        Query::group("c"),
    ];
    let mut during_the_build = 0;
    loop {
        let is_built = world.database.automatic_build().is_none();
        for query in &queries {
            let (found, explanation) = world.explained(query).await;
            let found: Vec<_> = found.iter().map(|it| &it.path).collect();
            let expected: Vec<_> =
                evaluate(query, &documents).into_iter().map(|it| &it.path).collect();
            assert_eq!(found, expected, "{explanation:?}");
            during_the_build += usize::from(explanation.indexes.is_empty());
        }
        if is_built {
            break;
        }
    }
    assert!(during_the_build >= queries.len(), "the build was too fast to see");
    tokio::time::timeout(Duration::from_secs(60), world.close()).await.unwrap();
}
