//! What the store costs on this machine: `cargo test --release -p tidemark-server --test store_bench
//! -- --ignored --nocapture`.
//!
//! The first figures are the floor for durable writes: nothing above the store can be cheaper.

#![allow(clippy::print_stdout, clippy::disallowed_methods)] // It measures time and prints it.

use std::fs;
use std::io::Write;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tempfile::TempDir;
use tidemark_server::store::{KeyRange, ScanDirection, Store, open};

const GROUPS: u32 = 200;
const COMMITS_PER_GROUP: u32 = 64;
const DOCUMENTS: u32 = GROUPS * COMMITS_PER_GROUP;

/// Processor time of all threads of this process so far.
fn processor_time() -> Duration {
    let threads = fs::read_dir("/proc/self/task").expect("Linux");
    let spent = threads.filter_map(|thread| {
        let text = fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse().ok().map(Duration::from_nanos)
    });
    spent.sum()
}

struct Watch(Instant, Duration);

impl Watch {
    fn start() -> Self {
        Self(Instant::now(), processor_time())
    }

    /// Wall and processor time in microseconds per unit.
    fn per(&self, units: u32) -> String {
        let wall = self.0.elapsed().as_secs_f64() * 1e6 / f64::from(units);
        let processor = (processor_time() - self.1).as_secs_f64() * 1e6 / f64::from(units);
        format!("{wall:8.2} µs wall, {processor:8.2} µs processor")
    }
}

fn document_key(number: u32) -> Vec<u8> {
    format!("d/messages/{:010}", number.wrapping_mul(2_654_435_761)).into_bytes()
}

/// A document, a log entry with its before-image, and an outcome: what a commit writes.
async fn write_group(store: &dyn Store, group: u32) {
    let mut transaction = store.begin().await.expect("begin");
    for commit in 0..COMMITS_PER_GROUP {
        let number = group * COMMITS_PER_GROUP + commit;
        transaction.put(document_key(number), Bytes::from(vec![b'd'; 300]));
        transaction.put(format!("l/{number:020}").into_bytes(), Bytes::from(vec![b'l'; 300]));
        transaction
            .put(format!("o/{commit:016}/{group}").into_bytes(), Bytes::from(vec![b'o'; 40]));
    }
    transaction.commit().await.expect("commit");
}

fn sync_floor(directory: &TempDir) {
    let mut file = fs::File::create(directory.path().join("floor")).expect("a file");
    let group = vec![7; COMMITS_PER_GROUP as usize * 700];
    let watch = Watch::start();
    for _ in 0..GROUPS {
        file.write_all(&group).and_then(|()| file.sync_all()).expect("written");
    }
    println!("floor: append a group to a file and fsync: {} per group", watch.per(GROUPS));
}

async fn measure(name: &str, url: &str) {
    let store = open(url).await.expect("opens");
    let watch = Watch::start();
    for group in 0..GROUPS {
        write_group(&*store, group).await;
    }
    println!("{name}: group of 64 × 3 puts, one commit: {} per group", watch.per(GROUPS));
    println!("{name}:   the same per put:               {}", watch.per(DOCUMENTS * 3));
    read(name, "in the write buffer", &*store).await;
    store.close().await.expect("closes");
    if !url.starts_with("mem") {
        let store = open(url).await.expect("opens");
        read(name, "in sorted files, cold", &*store).await;
        read(name, "in sorted files, warm", &*store).await;
        store.close().await.expect("closes");
    }
}

async fn read(name: &str, place: &str, store: &dyn Store) {
    let snapshot = store.snapshot().await.expect("a snapshot");
    for direction in [ScanDirection::Forward, ScanDirection::Backward] {
        let watch = Watch::start();
        let rows =
            snapshot.scan(KeyRange::prefix(b"d/"), direction, usize::MAX).await.expect("rows");
        assert_eq!(rows.len() as u32, DOCUMENTS);
        println!("{name}: {place}: {direction:?} scan: {} per document", watch.per(DOCUMENTS));
    }
    let watch = Watch::start();
    for number in 0..DOCUMENTS {
        snapshot.get(&document_key(number)).await.expect("read").expect("there");
    }
    println!("{name}: {place}: get:           {} per get", watch.per(DOCUMENTS));
    let mut transaction = store.begin().await.expect("begin");
    let watch = Watch::start();
    for number in 0..DOCUMENTS {
        transaction.get(&document_key(number)).await.expect("read").expect("there");
    }
    println!("{name}: {place}: locked get:    {} per get", watch.per(DOCUMENTS));
    let watch = Watch::start();
    for _ in 0..1000 {
        store.snapshot().await.expect("a snapshot");
    }
    println!("{name}: {place}: snapshot:      {} each", watch.per(1000));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement, not a check; run it in a release build"]
async fn what_the_store_costs() {
    let directory = TempDir::new_in(".").expect("a directory on the disk of the project");
    sync_floor(&directory);
    measure("mem", "mem:").await;
    let url = format!("surrealkv://{}", directory.path().join("store").display());
    measure("surrealkv", &url).await;
}
