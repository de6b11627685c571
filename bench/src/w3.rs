//! W3, many live queries: Q of them on one collection, each of its own, and one writer whose
//! documents concern a few. What a write costs the server must follow those few and not Q.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use anyhow::{Context, ensure};
use tidemark_protocol::model::{
    CollectionPath, Direction, FieldPath, Fields, Operator, Query, Target, TargetId, Value, Write,
    WriteId, WriteOp,
};
use tidemark_protocol::wire::client::{ClientMessage, Listen};
use tidemark_protocol::wire::codec;
use tidemark_protocol::wire::server::ServerMessage;
use tokio::task::JoinSet;

use crate::child::{Kind, Server};
use crate::floor::random_text;
use crate::plan::Plan;
use crate::raw::{Receiver, Session};
use crate::report::{Bound, Figure, Unit};
use crate::stats::median;

/// Connections that the queries are spread over, however many there are.
const CONNECTIONS: usize = 100;
/// Documents in flight.
const WINDOW: usize = 16;
/// Bytes of text in a document.
const TEXT: usize = 200;
/// Distinct documents: their sets replace each other, so that the collection stays small.
const DOCUMENTS: u64 = 4_000;
/// The range of `at`, of which each range query wants an equal part.
const SPAN: i64 = 1_000_000;
/// How long deliveries may take to come to an end.
const PATIENCE: Duration = Duration::from_secs(60);

/// Which queries are listened to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// `room == X_i`.
    Equality,
    /// A quarter each: equality, a range, a limit window, an equality in a collection group.
    Mixed,
}

/// What one stage measured.
#[derive(Clone, Copy, Debug)]
struct Sample {
    shape: Shape,
    queries: usize,
    /// Microseconds of the server's processor time.
    cpu_per_write: f64,
    /// Documents sent to listeners.
    deliveries_per_write: f64,
}

/// Runs the workload.
pub(crate) async fn run(plan: &Plan) -> anyhow::Result<Vec<Figure>> {
    let mut samples = Vec::new();
    for repetition in 0..plan.repetitions {
        eprintln!("W3: repetition {} of {}", repetition + 1, plan.repetitions);
        for &queries in &plan.queries {
            samples.push(sample(plan, Shape::Equality, queries).await?);
        }
        for &queries in &plan.queries {
            samples.push(sample(plan, Shape::Mixed, queries).await?);
        }
    }
    Ok(figures(plan, &samples))
}

async fn sample(plan: &Plan, shape: Shape, queries: usize) -> anyhow::Result<Sample> {
    let data = tempfile::tempdir_in(&plan.data)?;
    let server = Server::start(&Kind::Tidemark { data: data.path().to_owned() }).await?;
    let mut writer = Load { session: Session::open(server.address).await?, queries, number: 0 };
    // The windows have something to hold, and every document of the measured writes exists.
    writer.write(DOCUMENTS).await?;

    let delivered = Arc::new(AtomicU64::new(0));
    let mut listeners = JoinSet::new();
    for connection in 0..CONNECTIONS.min(queries) {
        let mine = (connection..queries).step_by(CONNECTIONS);
        let receiver = attach(server.address, shape, mine, queries).await?;
        listeners.spawn(count(receiver, Arc::clone(&delivered)));
    }
    writer.write(plan.writes / 4).await?;

    let (cpu, before) = (server.cpu()?, delivered.load(Relaxed));
    writer.write(plan.writes).await?;
    let cpu = server.cpu()?.saturating_sub(cpu);
    let deliveries = delivered.load(Relaxed) - before;
    listeners.abort_all();
    server.stop().await?;
    ensure!(deliveries > 0, "nothing was delivered");
    let writes = plan.writes as f64;
    Ok(Sample {
        shape,
        queries,
        cpu_per_write: cpu.as_secs_f64() * 1e6 / writes,
        deliveries_per_write: deliveries as f64 / writes,
    })
}

/// The one writer.
struct Load {
    session: Session,
    queries: usize,
    number: u64,
}

impl Load {
    /// Sets so many documents, each in a random room; returns when all are committed.
    async fn write(&mut self, writes: u64) -> anyhow::Result<()> {
        let mut acknowledged = WriteId(0);
        let mut in_flight = 0;
        for _ in 0..writes {
            if in_flight == WINDOW {
                acknowledged = self.session.committed().await?;
                in_flight -= 1;
            }
            let write = self.document()?;
            self.session.commit(vec![write], acknowledged).await?;
            in_flight += 1;
        }
        for _ in 0..in_flight {
            self.session.committed().await?;
        }
        Ok(())
    }

    fn document(&mut self) -> anyhow::Result<Write> {
        self.number += 1;
        let room = rand::random_range(0..self.queries);
        let at = rand::random_range(0..SPAN);
        let fields = Fields::from([
            ("room".to_owned(), Value::String(format!("room-{room}"))),
            ("at".to_owned(), Value::Integer(at)),
            ("text".to_owned(), Value::String(random_text(TEXT))),
        ]);
        Ok(Write {
            path: format!("{COLLECTION}/m{:06}", self.number % DOCUMENTS).parse()?,
            op: WriteOp::Set(fields),
            transforms: Vec::new(),
            precondition: None,
        })
    }
}

/// The collection that all queries are about.
const COLLECTION: &str = "messages";

fn query(shape: Shape, number: usize, queries: usize) -> anyhow::Result<Query> {
    let field = FieldPath::parse;
    let all = Query::collection(&CollectionPath::parse(COLLECTION)?);
    let room = Value::String(format!("room-{number}"));
    Ok(match (shape, number % 4) {
        (Shape::Equality, _) | (Shape::Mixed, 0) => {
            all.with_filter(field("room")?, Operator::Equal, room)
        }
        (Shape::Mixed, 1) => {
            let width = SPAN / i64::try_from(queries)?;
            let from = i64::try_from(number)? * width;
            all.with_filter(field("at")?, Operator::GreaterThanOrEqual, from).with_filter(
                field("at")?,
                Operator::LessThan,
                from + width,
            )
        }
        (Shape::Mixed, 2) => all
            .with_filter(field("room")?, Operator::Equal, room)
            .with_order(field("at")?, Direction::Descending)
            .with_limit(20),
        (Shape::Mixed, _) => {
            Query::group(COLLECTION).with_filter(field("room")?, Operator::Equal, room)
        }
    })
}

/// Listens to the queries of these numbers, and returns when all are attached.
async fn attach(
    address: SocketAddr,
    shape: Shape,
    numbers: impl Iterator<Item = usize>,
    queries: usize,
) -> anyhow::Result<Receiver> {
    let (mut sender, mut receiver) = Session::open(address).await?.into_socket().split();
    let mut waiting = 0;
    for (at, number) in numbers.enumerate() {
        let target = Target::Query(query(shape, number, queries)?);
        let target_id = TargetId(u32::try_from(at)? + 1);
        let listen = Listen { target_id, target, resume: None, reconciles: false };
        sender.send(codec::encode_client(&ClientMessage::Listen(listen))).await?;
        waiting += 1;
    }
    let attached = async {
        while waiting > 0 {
            let message = codec::decode_server(&receiver.receive().await?)?;
            waiting -= usize::from(matches!(message, ServerMessage::Listening { .. }));
            ensure!(message.refusal().is_none(), "the server refused: {message:?}");
        }
        Ok(())
    };
    tokio::time::timeout(PATIENCE, attached).await.context("not all targets were attached")??;
    // The sending half must live as long as the connection.
    tokio::spawn(async move {
        let _sender = sender;
        std::future::pending::<()>().await;
    });
    Ok(receiver)
}

async fn count(mut receiver: Receiver, delivered: Arc<AtomicU64>) {
    while let Ok(frame) = receiver.receive().await {
        if let Ok(ServerMessage::Changes(changes)) = codec::decode_server(&frame) {
            delivered.fetch_add(changes.documents.len() as u64, Relaxed);
        }
    }
}

fn figures(plan: &Plan, samples: &[Sample]) -> Vec<Figure> {
    let of = |shape: Shape, queries: usize, pick: fn(&Sample) -> f64| {
        let wanted = samples.iter().filter(|s| s.shape == shape && s.queries == queries);
        median(wanted.map(pick))
    };
    let least = plan.queries.first().copied().unwrap_or(0);
    let most = plan.queries.last().copied().unwrap_or(0);
    let mut figures = Vec::new();
    for (shape, what) in [(Shape::Equality, "room == X"), (Shape::Mixed, "mixed shapes")] {
        let floor = of(shape, least, |s| s.cpu_per_write);
        for &queries in &plan.queries {
            let name = format!("{queries} live queries, {what}: server CPU per write");
            let cpu = of(shape, queries, |s| s.cpu_per_write);
            let figure =
                Figure::new("W3", name, Unit::Micros, cpu).floor(format!("{least} queries"), floor);
            let is_asked = shape == Shape::Equality && queries == most;
            figures.push(if is_asked { figure.target(Bound::AtMost(1.3)) } else { figure });
        }
        let name = format!("{most} live queries, {what}: documents delivered per write");
        let deliveries = of(shape, most, |s| s.deliveries_per_write);
        figures.push(Figure::new("W3", name, Unit::Share, deliveries));
    }
    figures
}
