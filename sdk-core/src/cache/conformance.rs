//! What every cache must do, as one suite: [`check`] panics where an implementation departs from it.

mod finding;
mod keeping;
mod pending;

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use tidemark_protocol::model::{
    Document, DocumentPath, Fields, Incarnation, MergeState, Query, ResumeToken, Value, Version,
};

use super::{Cache, CacheBatch, Durability, Keep, Known, TargetChange};

/// Runs the whole suite; `open` makes an empty cache with this budget each time.
pub fn check(open: &mut dyn FnMut(u64) -> Box<dyn Cache>) {
    let large = 1 << 30;
    for case in keeping::CASES.iter().chain(pending::CASES).chain(finding::CASES) {
        case(&mut *open(large));
    }
    tells_its_budget(&*open(12_345));
}

/// What [`sample`] left in a cache.
#[derive(Clone, Debug)]
pub struct Sample {
    queries: Vec<(Query, Vec<Arc<Document>>)>,
}

/// Fills an empty cache with something of everything, indexes too.
pub fn sample(cache: &mut dyn Cache) -> Sample {
    let targets = vec![put("a", 5), members("a", &[("c/000", true), ("c/001", true)])];
    let queries = finding::fill(cache);
    store(cache, &[("x/gone", 0)], targets);
    pending::keep_pending(cache, "c/002", "c/003");
    let queries = queries.into_iter().map(|query| {
        let found = find(cache, &query);
        (query, found)
    });
    Sample { queries: queries.collect() }
}

impl Sample {
    /// Panics where a cache does not have all of it.
    pub fn check(&self, cache: &dyn Cache) {
        assert_eq!(known(cache, "x/gone"), Known::Missing { at: Version(99) });
        assert_eq!(cache.target(&Bytes::from_static(b"a")).expect(FAILED), token(5));
        assert_eq!(contents(cache, "a").len(), 2);
        pending::expect_pending(cache, "c/002", "c/003");
        for (query, expected) in &self.queries {
            assert_eq!(find(cache, query), *expected, "{query:?}");
        }
    }
}

/// What a case does with an empty cache.
type Case = fn(&mut dyn Cache);

const FAILED: &str = "the cache works";

fn path(name: &str) -> DocumentPath {
    DocumentPath::parse(name).expect("the suite's paths are valid")
}

fn with_fields(name: &str, version: u64, fields: Fields) -> Arc<Document> {
    let (create_version, update_version) = (Version(1), Version(version));
    let merge = MergeState::default();
    Arc::new(Document { path: path(name), fields, create_version, update_version, merge })
}

fn document(name: &str, version: u64) -> Arc<Document> {
    let n = Value::Integer(i64::from(version as u32));
    with_fields(name, version, Fields::from([("n".to_owned(), n)]))
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

fn apply(cache: &mut dyn Cache, batch: CacheBatch) {
    cache.apply(batch, Durability::Durable).expect(FAILED);
}

fn store(cache: &mut dyn Cache, documents: &[(&str, u64)], targets: Vec<TargetChange>) {
    // Version 0 stands for a deletion at 99.
    let documents = documents.iter().map(|(name, version)| {
        let known = match version {
            0 => Known::Missing { at: Version(99) },
            _ => Known::Document(document(name, *version)),
        };
        (path(name), known)
    });
    let documents = documents.collect();
    apply(cache, CacheBatch { documents, targets, ..CacheBatch::default() });
}

fn known(cache: &dyn Cache, name: &str) -> Known {
    cache.document(&path(name)).expect(FAILED)
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

fn find(cache: &dyn Cache, query: &Query) -> Vec<Arc<Document>> {
    let mut found = Vec::new();
    let each = &mut |document| {
        found.push(document);
        ControlFlow::Continue(())
    };
    cache.find(query, each).expect(FAILED);
    found
}

fn collect(cache: &mut dyn Cache, targets: &[&'static str], documents: &[&str], budget: u64) {
    let targets = targets.iter().map(|key| Bytes::from_static(key.as_bytes())).collect();
    let documents = documents.iter().map(|name| path(name)).collect();
    cache.collect(Keep { targets: &targets, documents: &documents }, budget).expect(FAILED);
}

fn tells_its_budget(cache: &dyn Cache) {
    assert_eq!(cache.budget(), 12_345);
}
