//! W1, durable writes: `set` of a new document with 256 bytes of text, acknowledged after fsync.
//!
//! One client that awaits each answer gives latencies; 64 writes in flight give a rate. The floor
//! is the storage engine alone with the same puts, one fsync per transaction of 1 and of 64.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidemark_protocol::model::WriteId;
use tokio::sync::Barrier;

use crate::child::{self, Kind, Server};
use crate::floor::{EngineFigures, load_path, random_text};
use crate::plan::Plan;
use crate::raw::{self, Session};
use crate::report::{Bound, Figure, Unit};
use crate::sdk;
use crate::stats::{Latencies, median};

/// Bytes of text in a document.
const TEXT: usize = 256;
/// Turns of the floor and Tidemark in each repetition.
const TURNS: usize = 3;
/// Writes in flight.
pub(crate) const WRITERS: usize = 64;

/// What one repetition measured; the latencies in microseconds, the rates in writes per second.
#[derive(Clone, Copy, Debug)]
struct Sample {
    floor_one: EngineFigures,
    floor_many: EngineFigures,
    raw_one: (f64, f64),
    core_one: (f64, f64),
    connections: f64,
    /// The server's processor time per 10,000 writes meanwhile, in seconds.
    connections_cpu: f64,
    pipelined: f64,
    core_many: f64,
}

/// Runs the workload.
pub(crate) async fn run(plan: &Plan) -> anyhow::Result<Vec<Figure>> {
    let mut samples = Vec::new();
    // A disk's speed changes within seconds: short turns, so that each meets the same.
    let rounds = plan.repetitions * TURNS;
    for round in 0..rounds {
        eprintln!("W1: round {} of {rounds}", round + 1);
        samples.push(sample(plan).await?);
    }
    Ok(figures(&samples))
}

async fn sample(plan: &Plan) -> anyhow::Result<Sample> {
    let time = plan.phase / TURNS as u32;
    let data = tempfile::tempdir_in(&plan.data)?;
    let server = Server::start(&Kind::Tidemark { data: data.path().to_owned() }).await?;
    let at = server.address;
    // Not measured: the first writes of a fresh store and of a fresh process.
    many_connections(at, time / 5).await?;

    let floor_one = bare_engine(plan, 1, 1, time).await?;
    let raw_one = one_writer(at, time).await?;
    let core_one = sdk::one_writer(at, time).await?;

    let floor_many = bare_engine(plan, WRITERS, 1, time).await?;
    let cpu = server.cpu()?;
    let begin = Instant::now();
    let connections = many_connections(at, time).await?;
    let cpu = server.cpu()?.saturating_sub(cpu).as_secs_f64();
    let connections_cpu = cpu / (connections * begin.elapsed().as_secs_f64()) * 10_000.0;
    let pipelined = one_connection(at, time).await?;
    let core_many = sdk::many_writes(at, WRITERS, time).await?;
    server.stop().await?;
    Ok(Sample {
        floor_one,
        floor_many,
        raw_one,
        core_one,
        connections,
        connections_cpu,
        pipelined,
        core_many,
    })
}

/// The storage engine alone: `group` commits per transaction, of documents with so many fields.
pub(crate) async fn bare_engine(
    plan: &Plan,
    group: usize,
    fields: usize,
    time: Duration,
) -> anyhow::Result<EngineFigures> {
    let data = tempfile::tempdir_in(&plan.data)?;
    let arguments = engine_arguments(data.path(), group, fields, time);
    Ok(serde_json::from_str(&child::run(arguments).await?)?)
}

fn engine_arguments(
    data: &Path,
    group: usize,
    fields: usize,
    time: Duration,
) -> Vec<std::ffi::OsString> {
    let millis = time.as_millis().to_string();
    let (group, fields) = (group.to_string(), fields.to_string());
    let words =
        ["child", "engine", "--group", &group, "--fields", &fields, "--millis", &millis, "--data"];
    words.into_iter().map(Into::into).chain([data.into()]).collect()
}

async fn one_writer(address: SocketAddr, time: Duration) -> anyhow::Result<(f64, f64)> {
    let mut session = Session::open(address).await?;
    let run = run_id();
    let mut latencies = Latencies::default();
    let begin = Instant::now();
    let mut acknowledged = WriteId(0);
    let mut number = 0;
    while begin.elapsed() < time {
        let write = raw::set_text(&format!("{run}/{}", id(0, number)), random_text(TEXT))?;
        let sent = Instant::now();
        session.commit(vec![write], acknowledged).await?;
        acknowledged = session.committed().await?;
        latencies.push(sent.elapsed());
        number += 1;
    }
    Ok((latencies.percentile(0.5), latencies.percentile(0.99)))
}

/// 64 connections, each with one commit in flight. Gives writes per second.
async fn many_connections(address: SocketAddr, time: Duration) -> anyhow::Result<f64> {
    let run = Arc::new(run_id());
    let barrier = Arc::new(Barrier::new(WRITERS));
    let writers = (0..WRITERS).map(|slot| {
        let (run, barrier) = (Arc::clone(&run), Arc::clone(&barrier));
        tokio::spawn(async move {
            let mut session = Session::open(address).await?;
            barrier.wait().await;
            let begin = Instant::now();
            let mut acknowledged = WriteId(0);
            let mut number = 0;
            while begin.elapsed() < time {
                let path = format!("{run}/{}", id(slot, number));
                session
                    .commit(vec![raw::set_text(&path, random_text(TEXT))?], acknowledged)
                    .await?;
                acknowledged = session.committed().await?;
                number += 1;
            }
            anyhow::Ok((number, begin.elapsed()))
        })
    });
    let mut rate = 0.0;
    for writer in futures::future::join_all(writers).await {
        let (writes, elapsed) = writer??;
        rate += writes as f64 / elapsed.as_secs_f64();
    }
    Ok(rate)
}

/// 64 commits in flight on one connection. Gives writes per second.
async fn one_connection(address: SocketAddr, time: Duration) -> anyhow::Result<f64> {
    let mut session = Session::open(address).await?;
    let run = run_id();
    let mut acknowledged = WriteId(0);
    let write = |number: u64| raw::set_text(&format!("{run}/{}", id(0, number)), random_text(TEXT));
    for number in 0..WRITERS as u64 {
        session.commit(vec![write(number)?], acknowledged).await?;
    }
    let begin = Instant::now();
    let mut answers = 0;
    while begin.elapsed() < time {
        acknowledged = session.committed().await?;
        session.commit(vec![write(WRITERS as u64 + answers)?], acknowledged).await?;
        answers += 1;
    }
    Ok(answers as f64 / begin.elapsed().as_secs_f64())
}

/// A collection of its own for each phase, so that every write creates a document.
fn run_id() -> String {
    format!("load{}", random_text(4))
}

fn id(slot: usize, number: u64) -> String {
    load_path(slot, number).replace("load/", "")
}

fn figures(samples: &[Sample]) -> Vec<Figure> {
    let of = |pick: fn(&Sample) -> f64| median(samples.iter().map(pick));
    let one = |name: &str, value: f64, floor: f64| {
        Figure::new("W1", name, Unit::Micros, value).floor("engine, 1 commit per fsync", floor)
    };
    let many = |name: &str, value: f64| {
        Figure::new("W1", name, Unit::PerSecond, value)
            .floor("engine, 64 commits per fsync", of(|s| s.floor_many.rate))
    };
    let (p50, p99) = (of(|s| s.floor_one.p50), of(|s| s.floor_one.p99));
    vec![
        one("1 writer, p50", of(|s| s.raw_one.0), p50),
        one("1 writer, p99", of(|s| s.raw_one.1), p99),
        one("1 writer through the SDK core, p50", of(|s| s.core_one.0), p50),
        one("1 writer through the SDK core, p99", of(|s| s.core_one.1), p99),
        many("64 writers, each on its connection", of(|s| s.connections))
            .target(Bound::AtLeast(0.6)),
        Figure::new(
            "W1",
            "CPU per 10,000 writes of 64 writers",
            Unit::CpuSeconds,
            of(|s| s.connections_cpu),
        )
        .floor("engine, 64 commits per fsync", of(|s| s.floor_many.cpu)),
        many("64 writes in flight on one connection", of(|s| s.pipelined)),
        many("64 writes in flight through one SDK core client", of(|s| s.core_many)),
    ]
}
