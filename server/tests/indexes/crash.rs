//! Processes that are killed while they build.

use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tempfile::TempDir;
use tidemark_protocol::model::{IndexMode, IndexScope};
use tidemark_server::engine::IndexState;

use crate::world::{World, field, fill, index};

const DIRECTORY: &str = "TIDEMARK_INDEX_CRASH_DIRECTORY";
/// Each process is another client: its writes are numbered from the first.
const CLIENT: &str = "TIDEMARK_INDEX_CRASH_CLIENT";

/// What the crash test starts and kills: it writes, declares, drops and exempts.
#[test]
#[ignore = "started by a_killed_process_goes_on_with_its_builds"]
fn building_process() {
    let directory = std::env::var(DIRECTORY).expect("set by the parent");
    let client = std::env::var(CLIENT).expect("set by the parent").parse().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let world = &mut World::open(&format!("surrealkv://{directory}"), client).await;
        let rng = &mut StdRng::seed_from_u64(u64::from(client));
        fill(world, "c", 0..3_000).await;
        for index in world.database.indexes() {
            world.database.drop_index(index.id).await.unwrap();
        }
        for fields in [[("n", IndexMode::Ascending)], [("m.k", IndexMode::Descending)]] {
            world.database.create_index(index("c", IndexScope::Group, &fields)).await.unwrap();
        }
        let all_exempt = rng.random_bool(0.5);
        world.database.exempt("c", Some(field("l")), !all_exempt).await.unwrap();
        world.database.exempt("c", None, all_exempt).await.unwrap();
        for step in 0.. {
            let from = rng.random_range(0..3_000);
            fill(world, "c", from..from + 20).await;
            // Not println, which the test harness may hold back.
            let mut out = std::io::stdout().lock();
            writeln!(out, "\nstep {step}").and_then(|()| out.flush()).expect("a parent");
        }
    });
}

/// Starts a process, and kills it some steps after its builds began.
fn start_and_kill(directory: &Path, client: u8, steps: u32, spins: u32) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crash::building_process", "--ignored", "--nocapture"])
        .env(DIRECTORY, directory)
        .env(CLIENT, client.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut said = lines.map_while(Result::ok).filter(|line| line.starts_with("step "));
    for _ in 0..steps {
        assert!(said.next().is_some(), "the process ended by itself");
    }
    (0..spins).for_each(|_| std::thread::yield_now());
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_killed_process_goes_on_with_its_builds() {
    let place = TempDir::new().unwrap();
    let directory = place.path().join("store");
    let url = format!("surrealkv://{}", directory.display());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut under_way = 0;
    for seed in 0..4_u8 {
        let rng = &mut StdRng::seed_from_u64(u64::from(seed));
        start_and_kill(&directory, seed, rng.random_range(1..4), rng.random_range(0..3_000));
        runtime.block_on(async {
            let world = World::open(&url, 99).await;
            let indexes = world.database.indexes();
            under_way += indexes.iter().filter(|it| it.state != IndexState::Ready).count();
            world.check().await.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
            world.check_settled().await.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
            world.tasks.finish(Duration::ZERO).await;
            world.store.close().await.unwrap();
        });
    }
    assert!(under_way > 0, "every kill came too late");
}
