//! Every store passes the conformance suite, behaves as an ordered map, and opens with clear errors.
//!
//! Crashes and torn files are in `store_crash.rs`.

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use tempfile::TempDir;
use tidemark_server::store::conformance::Fixture;
use tidemark_server::store::conformance::model::{Step, follow_model};
use tidemark_server::store::{ScanDirection, StoreError, open};
use tidemark_server::store_conformance;

struct Memory;

impl Fixture for Memory {
    const DURABLE: bool = false;

    fn fresh() -> Self {
        Self
    }

    fn url(&self) -> String {
        "mem:".to_owned()
    }
}

struct Directory(TempDir);

impl Fixture for Directory {
    const DURABLE: bool = true;

    fn fresh() -> Self {
        Self(TempDir::new().expect("a directory"))
    }

    fn url(&self) -> String {
        format!("surrealkv://{}", self.0.path().join("not/yet/there").display())
    }
}

store_conformance!(memory, Memory);
store_conformance!(surrealkv, Directory);

fn key() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop::sample::select(vec![0, 1, b'a', 0xFE, 0xFF]), 1..4)
}

fn direction() -> impl Strategy<Value = ScanDirection> {
    prop_oneof![Just(ScanDirection::Forward), Just(ScanDirection::Backward)]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (key(), prop::collection::vec(any::<u8>(), 0..12)).prop_map(|(k, v)| Step::Put(k, v)),
        5 => key().prop_map(Step::Delete),
        5 => key().prop_map(Step::Get),
        5 => Just(Step::Commit),
        1 => Just(Step::Abort),
        2 => Just(Step::Snapshot),
        5 => (key(), key(), direction(), 0..12_usize)
            .prop_map(|(a, b, direction, limit)| Step::Scan(a, b, direction, limit)),
        1 => Just(Step::Reopen),
    ]
}

/// Random histories from a fixed seed, so that each run tests the same ones.
fn compare_with_the_model<F: Fixture>(cases: u32) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    TestRunner::new_with_rng(config, rng)
        .run(&prop::collection::vec(step(), 1..80), |steps| {
            runtime.block_on(follow_model::<F>(steps));
            Ok(())
        })
        .expect("the store agrees with the model");
}

#[test]
fn memory_behaves_as_an_ordered_map() {
    compare_with_the_model::<Memory>(300);
}

#[test]
fn surrealkv_behaves_as_an_ordered_map() {
    compare_with_the_model::<Directory>(40);
}

async fn refused(url: &str) -> StoreError {
    open(url).await.err().unwrap_or_else(|| panic!("{url} was opened"))
}

#[tokio::test]
async fn an_unknown_scheme_is_told_what_is_supported() {
    for url in ["rocksdb://x", "file:///x", "", "surrealkv+versioned://x", "memory"] {
        let error = refused(url).await;
        assert!(matches!(error, StoreError::UnknownScheme { .. }), "{url}: {error}");
        let text = error.to_string();
        assert!(text.contains("mem") && text.contains("surrealkv"), "{text}");
    }
}

#[tokio::test]
async fn settings_in_a_url_are_refused() {
    for url in ["surrealkv://x?sync=never", "mem:?x=1", "mem:///x/y", "surrealkv:", "surrealkv://"]
    {
        let error = refused(url).await;
        assert!(matches!(error, StoreError::InvalidUrl { .. }), "{url}: {error}");
    }
}

#[tokio::test]
async fn a_directory_that_cannot_be_made_is_an_io_error() {
    let place = TempDir::new().expect("a directory");
    let file = place.path().join("file");
    std::fs::write(&file, b"in the way").expect("a file");
    let error = refused(&format!("surrealkv://{}/below", file.display())).await;
    assert!(matches!(&error, StoreError::Io { reason, .. } if reason.contains("below")), "{error}");
    let error = refused(&format!("surrealkv://{}", file.display())).await;
    assert!(matches!(error, StoreError::Io { .. }), "{error}");
    let error = refused("surrealkv:///proc/tidemark").await;
    assert!(matches!(error, StoreError::Io { .. }), "{error}");
}

#[tokio::test]
async fn an_open_directory_is_locked_until_it_is_closed() {
    let place = Directory::fresh();
    let store = open(&place.url()).await.expect("the first");
    let error = refused(&place.url()).await;
    assert!(
        matches!(&error, StoreError::Locked { path } if place.url().ends_with(path)),
        "{error}"
    );
    store.close().await.expect("closed");
    open(&place.url()).await.expect("free again").close().await.expect("closed");
}
