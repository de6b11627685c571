//! The simulator holds what it promises, and sees what it must: runs repeat, its disks are what the
//! product's suites ask of a store and of a cache, and everything broken on purpose is found.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use tidemark_server::store::conformance::Fixture;
use tidemark_server::store::{Store, StoreError};
use tidemark_server::store_conformance;
use tidemark_sim::disk::ClientDisk;
use tidemark_sim::generate::plan;
use tidemark_sim::mutation::Mutation;
use tidemark_sim::run::run;
use tidemark_sim::shrink::{Failing, shrink};
use tidemark_sim::store::Disk;

/// The server's virtual disk.
struct Simulated(Disk);

impl Fixture for Simulated {
    const DURABLE: bool = true;

    fn fresh() -> Self {
        Simulated(Disk::new(Duration::ZERO))
    }

    fn url(&self) -> String {
        "of no engine".to_owned()
    }

    fn open(&self) -> impl Future<Output = Result<Arc<dyn Store>, StoreError>> + Send {
        let store = self.0.open();
        async move { Ok(store) }
    }
}

store_conformance!(simulated, Simulated);

#[test]
fn the_clients_disk_is_a_cache() {
    tidemark_core::cache::conformance::check(&mut |budget| {
        Box::new(ClientDisk::new(budget, None).open())
    });
}

#[test]
fn a_seed_is_the_same_run_every_time() {
    for seed in 0..12 {
        let plan = plan(seed, 150);
        let runs: Vec<String> = (0..3)
            // On other threads: nothing may depend on what a thread remembers.
            .map(|_| {
                let plan = plan.clone();
                std::thread::spawn(move || format!("{:?}", run(&plan, None))).join().unwrap()
            })
            .collect();
        assert_eq!(runs[0], runs[1], "seed {seed}");
        assert_eq!(runs[0], runs[2], "seed {seed}");
    }
}

#[test]
fn plans_survive_being_written() {
    let plan = plan(7, 300);
    let text = serde_json::to_string(&plan).unwrap();
    assert_eq!(serde_json::from_str::<tidemark_sim::plan::Plan>(&text).unwrap(), plan);
}

/// How many seeds may pass before something broken on purpose shows.
const SEEDS: u64 = 60;

/// Runs seeds until the mutation is found out, by an invariant that it is about.
fn found_out(mutation: Mutation) -> Result<Failing, String> {
    for seed in 0..SEEDS {
        // A cache takes some time to become too large.
        let steps = if mutation == Mutation::NothingCollected { 500 } else { 150 };
        let plan = plan(seed, steps);
        let Err(broken) = run(&plan, Some(mutation)) else { continue };
        if let Err(also) = run(&plan, None) {
            return Err(format!("seed {seed} fails without {mutation:?}: {also}"));
        }
        if !mutation.breaks().contains(&broken.invariant) {
            let about = mutation.breaks();
            return Err(format!("{mutation:?} is about {about:?}; seed {seed} found {broken}"));
        }
        return Ok(Failing { plan, broken });
    }
    Err(format!("{SEEDS} seeds do not show {mutation:?}"))
}

#[test]
fn everything_broken_on_purpose_is_found() {
    let missed: Vec<String> =
        Mutation::ALL.iter().filter_map(|mutation| found_out(*mutation).err()).collect();
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}

#[test]
fn a_failing_plan_becomes_short() {
    let failing = found_out(Mutation::CommitRepeated).unwrap();
    let invariant = failing.broken.invariant;
    let short = shrink(failing, Some(Mutation::CommitRepeated), 400);
    assert_eq!(short.broken.invariant, invariant);
    assert!(short.plan.steps.len() <= 12, "{} steps are left", short.plan.steps.len());
    assert!(short.plan.clients <= 2);
    assert!(run(&short.plan, Some(Mutation::CommitRepeated)).is_err());
}
