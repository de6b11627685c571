//! The load generator: Tidemark's figures next to their floors, on the same machine, in one run.
//!
//! [`w1`], [`w2`], [`w3`], [`w4`], [`pages`], [`indexed`], [`offline`] and [`traces`] are the workloads; [`floor`] is what they
//! are compared with; [`child`] runs either as a process of its own. `bench/README.md` explains the method. Nothing here may
//! decide whether a build is good: the figures are for people.

// A load generator takes the time, spawns tasks and prints by itself.
#![allow(clippy::disallowed_methods, clippy::print_stdout, clippy::print_stderr)]

mod board;
mod child;
mod fans;
mod floor;
mod indexed;
mod machine;
mod offline;
mod pages;
mod plan;
mod raw;
mod replay;
mod report;
mod sdk;
mod stats;
mod tidemark;
mod traces;
mod w1;
mod w2;
mod w3;
mod w4;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::{Parser, Subcommand, ValueEnum};

use machine::Machine;
use plan::Plan;
use report::Report;

/// Measures Tidemark next to what this machine can do without it.
#[derive(Debug, Parser)]
#[command(name = "tidemark-bench", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// All workloads.
    All(Options),
    /// Durable writes.
    W1(Options),
    /// Fan-out to listeners.
    W2(Options),
    /// Many live queries.
    W3(Options),
    /// The initial snapshot.
    W4(Options),
    /// Pages of a large collection.
    Pages(Options),
    /// Writes with five indexed fields.
    Indexed(Options),
    /// What a client does without a network.
    Offline(Options),
    /// Recorded keystrokes in a collaborative text.
    Traces(Options),
    /// What the load generator runs in processes of their own.
    #[command(hide = true, subcommand)]
    Child(ChildCommand),
}

#[derive(Debug, clap::Args)]
struct Options {
    /// Everything once and briefly: shows that it works, the figures mean little.
    #[arg(long)]
    quick: bool,
    /// Also writes the report as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Replaces the results in the README (run it at the top of the project).
    #[arg(long)]
    write_readme: bool,
    /// Where the stores are made; its disk is what W1 measures [default: the system's folder for
    /// temporary files].
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum ChildCommand {
    /// A Tidemark server.
    Tidemark {
        #[arg(long)]
        data: PathBuf,
    },
    /// The bare WebSocket server.
    Bare,
    /// The bare storage engine.
    Engine {
        #[arg(long)]
        data: PathBuf,
        #[arg(long)]
        group: usize,
        #[arg(long)]
        fields: usize,
        #[arg(long)]
        millis: u64,
    },
    /// Reading all documents of a store.
    Scan {
        #[arg(long)]
        data: PathBuf,
        #[arg(long)]
        documents: usize,
        #[arg(long)]
        millis: u64,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Workload {
    W1,
    W2,
    W3,
    W4,
    Pages,
    Indexed,
    Offline,
    Traces,
}

impl Workload {
    const ALL: [Workload; 8] = [
        Workload::W1,
        Workload::W2,
        Workload::W3,
        Workload::W4,
        Workload::Pages,
        Workload::Indexed,
        Workload::Offline,
        Workload::Traces,
    ];
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::All(options) => measure(&options, &Workload::ALL).await,
        Command::W1(options) => measure(&options, &[Workload::W1]).await,
        Command::W2(options) => measure(&options, &[Workload::W2]).await,
        Command::W3(options) => measure(&options, &[Workload::W3]).await,
        Command::W4(options) => measure(&options, &[Workload::W4]).await,
        Command::Pages(options) => measure(&options, &[Workload::Pages]).await,
        Command::Indexed(options) => measure(&options, &[Workload::Indexed]).await,
        Command::Offline(options) => measure(&options, &[Workload::Offline]).await,
        Command::Traces(options) => measure(&options, &[Workload::Traces]).await,
        Command::Child(command) => child(command).await,
    }
}

async fn child(command: ChildCommand) -> anyhow::Result<()> {
    match command {
        ChildCommand::Tidemark { data } => tidemark::serve(&data).await,
        ChildCommand::Bare => floor::serve().await,
        ChildCommand::Engine { data, group, fields, millis } => {
            let time = Duration::from_millis(millis);
            let figures = floor::engine(&data, group, fields, time).await?;
            println!("{}", serde_json::to_string(&figures)?);
            Ok(())
        }
        ChildCommand::Scan { data, documents, millis } => {
            let time = floor::scan(&data, documents, Duration::from_millis(millis)).await?;
            println!("{time}");
            Ok(())
        }
    }
}

async fn measure(options: &Options, workloads: &[Workload]) -> anyhow::Result<()> {
    if options.write_readme && (options.quick || workloads.len() < Workload::ALL.len()) {
        bail!("the README holds full runs: --write-readme goes with `all`, without --quick");
    }
    let data = options.data.clone().unwrap_or_else(std::env::temp_dir);
    std::fs::create_dir_all(&data)
        .with_context(|| format!("cannot make the folder {}", data.display()))?;
    let plan = if options.quick { Plan::quick(data) } else { Plan::full(data) };
    raise_file_limit(plan.connections())?;

    let begin = Instant::now();
    let machine = Machine::inspect(&plan.data)?;
    let mut figures = Vec::new();
    for workload in workloads {
        figures.extend(match workload {
            Workload::W1 => w1::run(&plan).await?,
            Workload::W2 => w2::run(&plan).await?,
            Workload::W3 => w3::run(&plan).await?,
            Workload::W4 => w4::run(&plan).await?,
            Workload::Pages => pages::run(&plan).await?,
            Workload::Indexed => indexed::run(&plan).await?,
            Workload::Offline => offline::run(&plan).await?,
            Workload::Traces => traces::run(&plan).await?,
        });
    }
    let repetitions = plan.repetitions;
    let report = Report { machine, figures, repetitions, seconds: begin.elapsed().as_secs() };
    print!("{}", report.markdown());
    if let Some(file) = &options.json {
        report.write_json(file)?;
    }
    if options.write_readme {
        report.write_readme("bench/README.md".as_ref())?;
    }
    Ok(())
}

/// Each connection is a file of this process, and one of the server's, which inherits the limit.
fn raise_file_limit(connections: u64) -> anyhow::Result<()> {
    let wanted = connections + 256;
    let allowed = rlimit::increase_nofile_limit(wanted).context("cannot read the file limit")?;
    if allowed < wanted {
        bail!(
            "this process may open {allowed} files, {connections} connections need {wanted}: \
             raise the limit (ulimit -Hn) or use --quick"
        );
    }
    Ok(())
}
