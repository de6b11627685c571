//! `sim run`: many seeds. `sim replay FILE`: the plan of a failure. For people and for CI.

#![allow(clippy::print_stdout)] // It is a command.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use anyhow::Context;
use clap::{Parser, Subcommand};
use tidemark_sim::generate::plan;
use tidemark_sim::plan::Plan;
use tidemark_sim::run::run;
use tidemark_sim::shrink::{Failing, shrink};
use tidemark_sim::verdict::Report;

/// Runs that shrinking a failure may take.
const SHRINKING: usize = 1_500;

#[derive(Parser)]
#[command(about = "Clients and the server in one thread, with virtual clock, network and disk")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the plans of many seeds; a failure is made shorter and written to a file.
    Run {
        /// How many.
        #[arg(long, default_value_t = 2_000)]
        seeds: u64,
        /// How many steps each.
        #[arg(long, default_value_t = 500)]
        steps: usize,
        /// The first.
        #[arg(long, default_value_t = 0)]
        first: u64,
        /// How many at a time.
        #[arg(long, default_value_t = 2)]
        threads: usize,
        /// Goes on after this many failures.
        #[arg(long, default_value_t = 0)]
        tolerate: usize,
        /// Where the plans of failures go.
        #[arg(long, default_value = "target/sim")]
        plans: PathBuf,
        /// Leaves out steps whose name begins so, such as `Crash`.
        #[arg(long)]
        without: Vec<String>,
        /// Writes failing plans as they are.
        #[arg(long)]
        as_is: bool,
    },
    /// Runs a plan from a file.
    Replay {
        /// The plan.
        file: PathBuf,
        /// Makes it shorter, and writes it back.
        #[arg(long)]
        shrink: bool,
    },
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Run { seeds, steps, first, threads, tolerate, plans, without, as_is } => {
            let shrinking = if as_is { 0 } else { SHRINKING };
            let many = Many { first, seeds, steps, tolerate, plans, without, shrinking };
            many.run(threads)
        }
        Command::Replay { file, shrink } => replay(&file, shrink),
    }
}

struct Many {
    first: u64,
    seeds: u64,
    steps: usize,
    tolerate: usize,
    plans: PathBuf,
    without: Vec<String>,
    shrinking: usize,
}

impl Many {
    fn run(&self, threads: usize) -> anyhow::Result<()> {
        let next = AtomicU64::new(self.first);
        let sum = Mutex::new((Report::default(), 0_u64, Vec::new()));
        std::thread::scope(|scope| {
            for _ in 0..threads.max(1) {
                scope.spawn(|| self.work(&next, &sum));
            }
        });
        let (report, runs, failures) = sum.into_inner().unwrap_or_else(PoisonError::into_inner);
        println!("{runs} runs of {} steps: {report:?}", self.steps);
        for failure in &failures {
            println!("{failure}");
        }
        anyhow::ensure!(failures.is_empty(), "{} seeds fail", failures.len());
        Ok(())
    }

    fn plan(&self, seed: u64) -> Plan {
        let mut plan = plan(seed, self.steps);
        plan.steps.retain(|step| {
            let name = format!("{:?}", step.what);
            !self.without.iter().any(|left_out| name.starts_with(left_out))
        });
        plan
    }

    fn work(&self, next: &AtomicU64, sum: &Mutex<(Report, u64, Vec<String>)>) {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= self.first + self.seeds {
                return;
            }
            let plan = self.plan(seed);
            let outcome = run(&plan, None);
            let failed = outcome.as_ref().err().map(|broken| {
                self.failed(seed, Failing { plan: plan.clone(), broken: broken.clone() })
            });
            let mut sum = sum.lock().unwrap_or_else(PoisonError::into_inner);
            sum.1 += 1;
            if let Ok(report) = &outcome {
                sum.0.add(report);
            }
            if let Some(failed) = failed {
                println!("{failed}");
                sum.2.push(failed);
            }
            if sum.2.len() > self.tolerate {
                return;
            }
        }
    }

    fn failed(&self, seed: u64, failing: Failing) -> String {
        let failing = shrink(failing, None, self.shrinking);
        let file = self.plans.join(format!("seed-{seed}.json"));
        let written = write(&file, &failing.plan);
        let told = match written {
            Ok(()) => format!("sim replay {} runs it again", file.display()),
            Err(error) => format!("its plan could not be written: {error}"),
        };
        let (steps, broken) = (failing.plan.steps.len(), &failing.broken);
        format!("seed {seed} fails, in {steps} steps; {told}\n  {broken}")
    }
}

fn write(file: &Path, plan: &Plan) -> anyhow::Result<()> {
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder)?;
    }
    Ok(std::fs::write(file, serde_json::to_vec_pretty(plan)?)?)
}

fn replay(file: &Path, shorter: bool) -> anyhow::Result<()> {
    let text = std::fs::read(file).with_context(|| format!("reading {}", file.display()))?;
    let plan: Plan = serde_json::from_slice(&text).context("a plan")?;
    let broken = match run(&plan, None) {
        Ok(report) => {
            println!("it holds: {report:?}");
            return Ok(());
        }
        Err(broken) => broken,
    };
    if shorter {
        let failing = shrink(Failing { plan, broken: broken.clone() }, None, SHRINKING);
        write(file, &failing.plan)?;
        anyhow::bail!("{} (in {} steps)", failing.broken, failing.plan.steps.len());
    }
    anyhow::bail!("{broken}")
}
