//! W2, fan-out: one writer changes one document, S listeners are told, each on its connection.
//!
//! Paced at 20 updates per second it gives latencies; saturated it gives deliveries per second and
//! the server's processor time per delivery. The floor is a bare broadcaster of frames of the same
//! size, loaded by the same socket code.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use tempfile::TempDir;
use tokio::time::MissedTickBehavior;

use crate::board::Board;
use crate::child::{Kind, Server};
use crate::fans::{Listeners, Side, Writer};
use crate::plan::Plan;
use crate::report::{Bound, Figure, Unit};
use crate::sdk;
use crate::stats::median;

/// Updates per second of the paced phase.
const PACE: u32 = 20;
/// Saturated: updates that may be on their way to some listener.
const WINDOW: u64 = 64;
/// How long deliveries may take to come to an end.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long memory is left to settle before it is read.
const SETTLE: Duration = Duration::from_millis(200);

/// What one repetition measured of one server with one number of listeners.
#[derive(Clone, Copy, Debug)]
struct Sample {
    side: Side,
    listeners: usize,
    resident: f64,
    paced: Paced,
    saturated: Phase,
    overload: Phase,
}

#[derive(Clone, Copy, Debug)]
struct Paced {
    p50: f64,
    p99: f64,
    phase: Phase,
}

/// Deliveries of a phase and what they cost.
#[derive(Clone, Copy, Debug)]
struct Phase {
    deliveries: f64,
    merged: f64,
    seconds: f64,
    cpu: f64,
}

impl Phase {
    fn rate(&self) -> f64 {
        self.deliveries / self.seconds
    }

    fn cpu_per_10k(&self) -> f64 {
        self.cpu / self.deliveries * 10_000.0
    }
}

/// Runs the workload.
pub(crate) async fn run(plan: &Plan) -> anyhow::Result<Vec<Figure>> {
    let mut samples = Vec::new();
    let mut core = Vec::new();
    for repetition in 0..plan.repetitions {
        eprintln!("W2: repetition {} of {}", repetition + 1, plan.repetitions);
        for &listeners in &plan.listeners {
            for side in [Side::Bare, Side::Tidemark] {
                samples.push(sample(plan, side, listeners).await?);
            }
        }
        core.push(through_core(plan).await?);
    }
    Ok(figures(plan, &samples, &core))
}

/// A server under load.
struct Stage {
    server: Server,
    board: Arc<Board>,
    writer: Writer,
    _data: TempDir,
}

impl Stage {
    async fn start(plan: &Plan, side: Side, listeners: usize) -> anyhow::Result<Stage> {
        let data = tempfile::tempdir_in(&plan.data)?;
        let kind = match side {
            Side::Bare => Kind::Bare,
            Side::Tidemark => Kind::Tidemark { data: data.path().to_owned() },
        };
        let server = Server::start(&kind).await?;
        let writer = Writer::open(side, server.address).await?;
        Ok(Stage { server, board: Arc::new(Board::new(listeners)), writer, _data: data })
    }

    async fn update(&mut self) -> anyhow::Result<()> {
        let update = self.board.send();
        self.writer.send(update).await
    }

    /// Waits until all listeners have seen the update.
    async fn seen(&self, update: u64) -> anyhow::Result<()> {
        tokio::time::timeout(PATIENCE, self.board.wait_for(update))
            .await
            .with_context(|| format!("update {update} did not reach all listeners"))
    }

    /// Updates at a fixed pace.
    async fn paced(&mut self, time: Duration) -> anyhow::Result<Phase> {
        let mut ticks = tokio::time::interval(Duration::from_secs(1) / PACE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let meter = Meter::start(self)?;
        for _ in 0..(time.as_secs_f64() * f64::from(PACE)).ceil() as u64 {
            ticks.tick().await;
            self.update().await?;
        }
        self.seen(self.board.last()).await?;
        meter.stop(self)
    }

    /// As many updates as reach every listener, with at most [`WINDOW`] on their way.
    async fn saturated(&mut self, time: Duration) -> anyhow::Result<Phase> {
        let meter = Meter::start(self)?;
        while meter.begin.elapsed() < time {
            self.seen((self.board.last() + 1).saturating_sub(WINDOW)).await?;
            self.update().await?;
        }
        self.seen(self.board.last()).await?;
        meter.stop(self)
    }

    /// Updates as fast as the server answers the writer, whether listeners keep up or not.
    async fn overload(&mut self, time: Duration) -> anyhow::Result<Phase> {
        let meter = Meter::start(self)?;
        while meter.begin.elapsed() < time {
            tokio::time::timeout(PATIENCE, self.writer.wait_in_flight(WINDOW))
                .await
                .context("the server does not answer the writer")??;
            self.update().await?;
        }
        let phase = meter.stop(self)?;
        self.seen(self.board.last()).await?;
        Ok(phase)
    }
}

/// What the counters said when a phase began.
struct Meter {
    begin: Instant,
    cpu: Duration,
    frames: u64,
    merged: u64,
}

impl Meter {
    fn start(stage: &Stage) -> anyhow::Result<Meter> {
        let totals = stage.board.totals();
        Ok(Meter {
            cpu: stage.server.cpu()?,
            frames: totals.frames,
            merged: totals.merged,
            begin: Instant::now(),
        })
    }

    fn stop(self, stage: &Stage) -> anyhow::Result<Phase> {
        let seconds = self.begin.elapsed().as_secs_f64();
        let cpu = stage.server.cpu()?.saturating_sub(self.cpu).as_secs_f64();
        let totals = stage.board.totals();
        let deliveries = (totals.frames - self.frames) as f64;
        if deliveries == 0.0 {
            bail!("nothing was delivered");
        }
        Ok(Phase { deliveries, merged: (totals.merged - self.merged) as f64, seconds, cpu })
    }
}

async fn sample(plan: &Plan, side: Side, count: usize) -> anyhow::Result<Sample> {
    let mut stage = Stage::start(plan, side, count).await?;
    let mut listeners = Listeners::new(Arc::clone(&stage.board));
    // The first listeners make the server allocate what it allocates once.
    let first = count / 10;
    listeners.open(side, stage.server.address, first).await?;
    tokio::time::sleep(SETTLE).await;
    let before = stage.server.resident()?;
    listeners.open(side, stage.server.address, count - first).await?;
    tokio::time::sleep(SETTLE).await;
    let resident = stage.server.resident()?.saturating_sub(before) as f64 / (count - first) as f64;

    for _ in 0..WINDOW {
        stage.update().await?;
    }
    stage.seen(stage.board.last()).await?;
    stage.board.set_timing(true);
    let phase = stage.paced(plan.phase).await?;
    stage.board.set_timing(false);
    let mut latencies = listeners.latencies();
    let paced = Paced { p50: latencies.percentile(0.5), p99: latencies.percentile(0.99), phase };
    let saturated = stage.saturated(plan.phase).await?;
    let overload = stage.overload(plan.phase / 2).await?;
    listeners.check()?;
    drop(listeners);
    stage.server.stop().await?;
    Ok(Sample { side, listeners: count, resident, paced, saturated, overload })
}

/// The paced phase with listeners that are SDK core clients. Gives p50 and p99.
async fn through_core(plan: &Plan) -> anyhow::Result<(f64, f64)> {
    let mut stage = Stage::start(plan, Side::Tidemark, plan.core_listeners).await?;
    stage.writer.send(0).await?;
    let listeners =
        sdk::Listeners::open(stage.server.address, plan.core_listeners, &stage.board).await?;
    stage.board.set_timing(true);
    stage.paced(plan.phase).await?;
    let mut latencies = listeners.latencies();
    drop(listeners);
    stage.server.stop().await?;
    Ok((latencies.percentile(0.5), latencies.percentile(0.99)))
}

fn figures(plan: &Plan, samples: &[Sample], core: &[(f64, f64)]) -> Vec<Figure> {
    let of = |side: Side, listeners: usize, pick: fn(&Sample) -> f64| {
        let wanted = samples.iter().filter(|s| s.side == side && s.listeners == listeners);
        median(wanted.map(pick))
    };
    let mut figures = Vec::new();
    let mut row = |count: usize, what: &str, unit, pick: fn(&Sample) -> f64, target| {
        let name = format!("{count} listeners: {what}");
        let figure = Figure::new("W2", name, unit, of(Side::Tidemark, count, pick))
            .floor("bare broadcast", of(Side::Bare, count, pick));
        figures.push(match target {
            Some(bound) => figure.target(bound),
            None => figure,
        });
    };
    for &count in &plan.listeners {
        row(count, "write → delivered, p50", Unit::Micros, |s| s.paced.p50, None);
        row(count, "write → delivered, p99", Unit::Micros, |s| s.paced.p99, None);
        let cpu = Some(Bound::AtMost(2.0));
        row(
            count,
            "CPU per 10,000 deliveries at 20 updates/s",
            Unit::CpuSeconds,
            |s| s.paced.phase.cpu_per_10k(),
            cpu,
        );
        let rate = Some(Bound::AtLeast(0.6));
        row(count, "deliveries/s, saturated", Unit::PerSecond, |s| s.saturated.rate(), rate);
        row(
            count,
            "CPU per 10,000 deliveries, saturated",
            Unit::CpuSeconds,
            |s| s.saturated.cpu_per_10k(),
            cpu,
        );
        let memory = Some(Bound::ValueAtMost(24.0 * 1024.0));
        row(count, "resident per idle listening connection", Unit::KiB, |s| s.resident, memory);
    }
    if let Some(&count) = plan.listeners.last() {
        row(
            count,
            "deliveries/s, writer does not wait",
            Unit::PerSecond,
            |s| s.overload.rate(),
            None,
        );
        row(
            count,
            "updates merged per delivery, writer does not wait",
            Unit::Share,
            |s| s.overload.merged / s.overload.deliveries,
            None,
        );
    }
    let count = plan.core_listeners;
    for (what, value, floor) in [
        ("p50", median(core.iter().map(|c| c.0)), of(Side::Bare, count, |s| s.paced.p50)),
        ("p99", median(core.iter().map(|c| c.1)), of(Side::Bare, count, |s| s.paced.p99)),
    ] {
        let name = format!("{count} listeners through the SDK core: write → delivered, {what}");
        figures.push(Figure::new("W2", name, Unit::Micros, value).floor("bare broadcast", floor));
    }
    figures
}
