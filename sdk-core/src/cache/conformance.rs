//! What every cache must do, as one suite: [`check`] panics where an implementation departs from it.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use tidemark_protocol::model::{
    ClientId, Document, DocumentPath, Fields, Incarnation, ResumeToken, Value, Version, Write,
    WriteId, WriteOp,
};

use super::{Cache, CacheBatch, Metadata, OutboxEntry, TargetChange};

/// Runs the whole suite; `open` makes an empty cache each time.
pub fn check(open: &mut dyn FnMut() -> Box<dyn Cache>) {
    starts_empty(&*open());
    keeps_documents_of_targets(&mut *open());
    counts_the_targets_of_a_document(&mut *open());
    takes_the_last_word(&mut *open());
    clears_and_removes_targets(&mut *open());
    keeps_the_outbox_in_order(&mut *open());
    keeps_metadata(&mut *open());
}

const FAILED: &str = "the cache works";

fn path(name: &str) -> DocumentPath {
    DocumentPath::parse(name).expect("the suite's paths are valid")
}

fn document(name: &str, version: u64) -> Arc<Document> {
    let fields = Fields::from([("n".to_owned(), Value::Integer(i64::from(version as u32)))]);
    let (create_version, update_version) = (Version(1), Version(version));
    Arc::new(Document {
        path: path(name),
        fields,
        create_version,
        update_version,
        merge: Default::default(),
    })
}

fn token(version: u64) -> Option<ResumeToken> {
    Some(ResumeToken { incarnation: Incarnation(7), version: Version(version) })
}

fn put(key: &'static str, version: u64) -> TargetChange {
    TargetChange::Put { key: Bytes::from_static(key.as_bytes()), token: token(version) }
}

fn members(key: &'static str, documents: &[(&str, bool)]) -> TargetChange {
    let documents = documents.iter().map(|(name, inside)| (path(name), *inside)).collect();
    TargetChange::Members { key: Bytes::from_static(key.as_bytes()), documents }
}

fn store(cache: &mut dyn Cache, documents: &[(&str, u64)], targets: Vec<TargetChange>) {
    // Version 0 stands for a deletion.
    let documents = documents
        .iter()
        .map(|(name, version)| (path(name), (*version > 0).then(|| document(name, *version))))
        .collect();
    cache.apply(CacheBatch { documents, targets, ..CacheBatch::default() }).expect(FAILED);
}

fn contents(cache: &dyn Cache, key: &'static str) -> BTreeSet<(String, u64)> {
    let key = Bytes::from_static(key.as_bytes());
    let documents = cache.target_documents(&key).expect(FAILED);
    documents
        .iter()
        .map(|document| (document.path.as_str().to_owned(), document.update_version.0))
        .collect()
}

fn expect_contents(cache: &dyn Cache, key: &'static str, expected: &[(&str, u64)]) {
    let expected = expected.iter().map(|(name, version)| ((*name).to_owned(), *version)).collect();
    assert_eq!(contents(cache, key), expected, "the documents of target {key}");
}

fn starts_empty(cache: &dyn Cache) {
    assert_eq!(cache.metadata().expect(FAILED), None);
    assert_eq!(cache.outbox().expect(FAILED), Vec::new());
    assert_eq!(cache.targets().expect(FAILED), Vec::<Bytes>::new());
    assert_eq!(cache.target(&Bytes::from_static(b"a")).expect(FAILED), None);
    expect_contents(cache, "a", &[]);
}

fn keeps_documents_of_targets(cache: &mut dyn Cache) {
    let targets = vec![put("a", 5), members("a", &[("c/1", true)])];
    store(cache, &[("c/1", 3), ("c/2", 4)], targets);
    assert_eq!(cache.target(&Bytes::from_static(b"a")).expect(FAILED), token(5));
    assert_eq!(cache.document(&path("c/1")).expect(FAILED), Some(document("c/1", 3)));
    assert_eq!(cache.document(&path("c/2")).expect(FAILED), None, "it is in no target");
    expect_contents(cache, "a", &[("c/1", 3)]);
    store(cache, &[("c/1", 8)], vec![put("a", 8)]);
    expect_contents(cache, "a", &[("c/1", 8)]);
    store(cache, &[("c/1", 0)], Vec::new());
    expect_contents(cache, "a", &[]);
}

fn counts_the_targets_of_a_document(cache: &mut dyn Cache) {
    let both = vec![
        put("a", 1),
        put("b", 1),
        members("a", &[("c/1", true)]),
        members("b", &[("c/1", true)]),
    ];
    store(cache, &[("c/1", 3)], both);
    store(cache, &[], vec![members("a", &[("c/1", true), ("c/1", false)])]);
    expect_contents(cache, "a", &[]);
    expect_contents(cache, "b", &[("c/1", 3)]);
    store(cache, &[], vec![members("b", &[("c/1", false)])]);
    assert_eq!(cache.document(&path("c/1")).expect(FAILED), None, "it has left its last target");
}

fn takes_the_last_word(cache: &mut dyn Cache) {
    let targets = vec![put("a", 1), members("a", &[("c/1", true), ("c/1", false), ("c/1", true)])];
    store(cache, &[("c/1", 2), ("c/1", 0), ("c/1", 4)], targets);
    expect_contents(cache, "a", &[("c/1", 4)]);
    store(cache, &[("c/2", 2)], vec![members("unknown", &[("c/2", true)])]);
    expect_contents(cache, "unknown", &[]);
}

fn clears_and_removes_targets(cache: &mut dyn Cache) {
    let targets = vec![put("a", 1), members("a", &[("c/1", true), ("c/2", true)])];
    store(cache, &[("c/1", 2), ("c/2", 2)], targets);
    let clear = TargetChange::Clear { key: Bytes::from_static(b"a") };
    store(cache, &[("c/2", 6)], vec![clear, members("a", &[("c/2", true)])]);
    expect_contents(cache, "a", &[("c/2", 6)]);
    assert_eq!(cache.document(&path("c/1")).expect(FAILED), None, "it was cleared");
    store(cache, &[], vec![TargetChange::Remove { key: Bytes::from_static(b"a") }]);
    assert_eq!(cache.targets().expect(FAILED), Vec::<Bytes>::new());
    assert_eq!(cache.document(&path("c/2")).expect(FAILED), None, "its target is gone");
}

fn keeps_the_outbox_in_order(cache: &mut dyn Cache) {
    let entry = |id: u64| {
        let (transforms, precondition) = (Vec::new(), None);
        let write = Write { path: path("c/1"), op: WriteOp::Delete, transforms, precondition };
        OutboxEntry { id: WriteId(id), writes: Arc::from([write]), at: Version(id) }
    };
    for ids in [vec![10, 2], vec![9]] {
        let outbox_put = ids.into_iter().map(entry).collect();
        cache.apply(CacheBatch { outbox_put, ..CacheBatch::default() }).expect(FAILED);
    }
    assert_eq!(cache.outbox().expect(FAILED), [entry(2), entry(9), entry(10)]);
    let outbox_remove = vec![WriteId(9), WriteId(77)];
    cache.apply(CacheBatch { outbox_remove, ..CacheBatch::default() }).expect(FAILED);
    assert_eq!(cache.outbox().expect(FAILED), [entry(2), entry(10)]);
}

fn keeps_metadata(cache: &mut dyn Cache) {
    let metadata = |next| Metadata {
        client_id: ClientId([3; 16]),
        next_write_id: WriteId(next),
        acknowledged_through: WriteId(1),
    };
    for next in [4, 5] {
        let metadata = Some(metadata(next));
        cache.apply(CacheBatch { metadata, ..CacheBatch::default() }).expect(FAILED);
    }
    cache.apply(CacheBatch::default()).expect(FAILED);
    assert_eq!(cache.metadata().expect(FAILED), Some(metadata(5)));
}
