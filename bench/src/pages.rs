//! Pages: 50 documents from the middle of a large collection and of a small one, in turns on one
//! server. What a page costs must follow the page and not the collection.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use tidemark_protocol::model::{
    CollectionPath, Cursor, Direction, FieldPath, Fields, Operator, Query, Value, Write, WriteId,
    WriteOp,
};
use tidemark_protocol::wire::server::Explanation;

use crate::child::{Kind, Server};
use crate::floor::random_text;
use crate::plan::Plan;
use crate::raw::{Session, large_buffers};
use crate::report::{Bound, Figure, Unit};
use crate::stats::Latencies;

/// Documents of a page.
const PAGE: u32 = 50;
/// Documents of a commit while a collection is filled.
const BATCH: u64 = 500;
/// Commits in flight meanwhile.
const WINDOW: usize = 4;
/// Rooms that the documents are in, so that an equality leaves one of so many.
const ROOMS: u64 = 5;
/// Bytes of text in a document.
const TEXT: usize = 100;

/// The queries that pages are taken of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Ascending,
    Descending,
    /// Within a room, by a declared index.
    Composite,
}

const SHAPES: [(Shape, &str); 3] = [
    (Shape::Ascending, "by a field"),
    (Shape::Descending, "by a field, descending"),
    (Shape::Composite, "of a room, by a declared index"),
];

/// Runs the workload.
pub(crate) async fn run(plan: &Plan) -> anyhow::Result<Vec<Figure>> {
    let data = tempfile::tempdir_in(&plan.data)?;
    let server = Server::start(&Kind::Tidemark { data: data.path().to_owned() }).await?;
    let sizes = plan.pages;
    for size in sizes {
        declare_index(server.address, size).await?;
    }
    for size in sizes {
        eprintln!("pages: filling a collection with {size} documents");
        fill(server.address, size).await?;
    }
    eprintln!("pages: reading pages");
    let mut session = Session::open_with(server.address, large_buffers()).await?;
    let mut figures = Vec::new();
    for (shape, what) in SHAPES {
        let mut latencies = [Latencies::default(), Latencies::default()];
        let mut explained = [Explanation::default(), Explanation::default()];
        let end = Instant::now() + plan.phase * u32::try_from(plan.repetitions)?;
        let mut warm = 20;
        while Instant::now() < end {
            for (at, size) in sizes.into_iter().enumerate() {
                let (time, explanation) = page(&mut session, shape, size).await?;
                if warm == 0 {
                    latencies[at].push(time);
                    explained[at] = explanation;
                }
            }
            warm = u32::saturating_sub(warm, 1);
        }
        let [mut small, mut large] = latencies;
        ensure!(small.len() > 0, "there was no time for a page");
        let name = format!("a page of {PAGE} {what}, of {} documents, p50", sizes[1]);
        let floor = format!("of {} documents", sizes[0]);
        figures.push(
            Figure::new("pages", name, Unit::Micros, large.percentile(0.5))
                .floor(floor, small.percentile(0.5))
                .target(Bound::AtMost(2.0)),
        );
        let name = format!("a page of {PAGE} {what}: entries scanned per document");
        let scanned = explained[1].entries_scanned as f64 / explained[1].results as f64;
        figures.push(Figure::new("pages", name, Unit::Share, scanned));
    }
    server.stop().await?;
    Ok(figures)
}

fn collection(size: u64) -> String {
    format!("pages{size}")
}

/// Declares (room, at) through the server's own API.
async fn declare_index(address: SocketAddr, size: u64) -> anyhow::Result<()> {
    let body = serde_json::json!({
        "collectionGroup": collection(size),
        "queryScope": "COLLECTION",
        "fields": [
            { "fieldPath": "room", "order": "ASCENDING" },
            { "fieldPath": "at", "order": "ASCENDING" },
        ],
    });
    let path = "/v1/projects/default/databases/(default)/indexes";
    let answer = crate::raw::post_json(address, path, &body).await?;
    if !answer.starts_with("HTTP/1.1 2") {
        bail!("the index was not declared: {answer}");
    }
    Ok(())
}

async fn fill(address: SocketAddr, size: u64) -> anyhow::Result<()> {
    let mut session = Session::open(address).await?;
    let mut acknowledged = WriteId(0);
    let mut in_flight = 0;
    for first in (0..size).step_by(usize::try_from(BATCH)?) {
        if in_flight == WINDOW {
            acknowledged = session.committed().await?;
            in_flight -= 1;
        }
        let batch = first..size.min(first + BATCH);
        let writes = batch.map(|number| document(size, number)).collect::<Result<_, _>>()?;
        session.commit(writes, acknowledged).await?;
        in_flight += 1;
    }
    for _ in 0..in_flight {
        session.committed().await?;
    }
    Ok(())
}

/// Its place in the order has nothing to do with when it was written.
fn document(size: u64, number: u64) -> anyhow::Result<Write> {
    let at = number * 7_919 % size;
    let fields = Fields::from([
        ("at".to_owned(), Value::Integer(i64::try_from(at)?)),
        ("room".to_owned(), Value::Integer(i64::try_from(at % ROOMS)?)),
        ("text".to_owned(), Value::String(random_text(TEXT))),
    ]);
    Ok(Write {
        path: format!("{}/d{number:07}", collection(size)).parse()?,
        op: WriteOp::Set(fields),
        transforms: Vec::new(),
        precondition: None,
    })
}

/// One page from a random place.
async fn page(
    session: &mut Session,
    shape: Shape,
    size: u64,
) -> anyhow::Result<(Duration, Explanation)> {
    let at = FieldPath::parse("at")?;
    // With enough on both sides, so that every page is full.
    let place = rand::random_range(size / 4..size / 2);
    let after = Cursor { values: vec![Value::Integer(i64::try_from(place)?)], before: false };
    let all = Query::collection(&CollectionPath::parse(&collection(size))?);
    let query = match shape {
        Shape::Ascending => all.with_order(at, Direction::Ascending),
        Shape::Descending => all.with_order(at, Direction::Descending),
        Shape::Composite => {
            let room = Value::Integer(i64::try_from(place % ROOMS)?);
            all.with_filter(FieldPath::parse("room")?, Operator::Equal, room)
                .with_order(at, Direction::Ascending)
        }
    };
    let query = query.with_start(after).with_limit(PAGE);
    let begin = Instant::now();
    let (documents, explanation) = session.query(query).await?;
    let time = begin.elapsed();
    ensure!(documents == PAGE as usize, "a page of {documents} documents: {shape:?} at {place}");
    Ok((time, explanation.context("the server did not explain")?))
}
