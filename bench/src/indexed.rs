//! Indexed writes: `set` of a new document with five fields, each of which is indexed, 64 in flight
//! on one connection. The floor is the storage engine alone with the same puts.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tidemark_protocol::model::{Write, WriteId, WriteOp};

use crate::child::{Kind, Server};
use crate::floor::{FIVE_FIELDS, load_fields, load_path, random_text};
use crate::plan::Plan;
use crate::raw::Session;
use crate::report::{Bound, Figure, Unit};
use crate::stats::median;
use crate::w1::{WRITERS, bare_engine};

/// Turns of the floor and Tidemark in each repetition: a disk's speed changes within seconds.
const TURNS: u32 = 3;

/// Runs the workload.
pub(crate) async fn run(plan: &Plan) -> anyhow::Result<Vec<Figure>> {
    let time = plan.phase / TURNS;
    let (mut floors, mut rates, mut floor_cpu, mut cpu) = (vec![], vec![], vec![], vec![]);
    let rounds = plan.repetitions * TURNS as usize;
    for round in 0..rounds {
        eprintln!("indexed writes: round {} of {rounds}", round + 1);
        let data = tempfile::tempdir_in(&plan.data)?;
        let server = Server::start(&Kind::Tidemark { data: data.path().to_owned() }).await?;
        write(server.address, time / 5).await?;
        let floor = bare_engine(plan, WRITERS, FIVE_FIELDS, time).await?;
        floors.push(floor.rate);
        floor_cpu.push(floor.cpu);
        let before = server.cpu()?;
        let (writes, elapsed) = write(server.address, time).await?;
        let used = server.cpu()?.saturating_sub(before);
        rates.push(writes as f64 / elapsed.as_secs_f64());
        cpu.push(used.as_secs_f64() / writes as f64 * 10_000.0);
        server.stop().await?;
    }
    let floor = "engine, the same puts, 64 commits per fsync";
    Ok(vec![
        Figure::new("indexed", "writes with five indexed fields", Unit::PerSecond, median(rates))
            .floor(floor, median(floors))
            .target(Bound::AtLeast(0.5)),
        Figure::new("indexed", "CPU per 10,000 of them", Unit::CpuSeconds, median(cpu))
            .floor(floor, median(floor_cpu)),
    ])
}

/// Commits in flight until the time is up. Gives how many were answered, and when.
async fn write(address: SocketAddr, time: Duration) -> anyhow::Result<(u64, Duration)> {
    let mut session = Session::open(address).await?;
    let run = format!("load{}", random_text(4));
    let set = |number: u64| {
        let path = load_path(0, number).replace("load/", &format!("{run}/"));
        let op = WriteOp::Set(load_fields(FIVE_FIELDS));
        anyhow::Ok(Write { path: path.parse()?, op, transforms: Vec::new(), precondition: None })
    };
    let mut acknowledged = WriteId(0);
    for number in 0..WRITERS as u64 {
        session.commit(vec![set(number)?], acknowledged).await?;
    }
    let begin = Instant::now();
    let mut answers = 0;
    while begin.elapsed() < time {
        acknowledged = session.committed().await?;
        session.commit(vec![set(WRITERS as u64 + answers)?], acknowledged).await?;
        answers += 1;
    }
    Ok((answers, begin.elapsed()))
}
