//! W4, the initial snapshot: a new listener receives a collection of documents with 200 bytes of
//! text each. The floor is the same number of bytes through a bare WebSocket, in messages of 1 MiB.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::ensure;
use tidemark_protocol::model::{CollectionPath, Query, Target, WriteId};

use crate::child::{self, Kind, Server};
use crate::floor::{random_text, transfer_request};
use crate::plan::Plan;
use crate::raw::{self, Session, Socket};
use crate::report::{Bound, Figure, Unit};
use crate::sdk;
use crate::stats::median;

/// The collection.
pub(crate) const COLLECTION: &str = "snapshots";
/// Bytes of text in a document.
const TEXT: usize = 200;
/// Documents of a commit while the collection is filled.
const BATCH: usize = 500;
/// Bytes of a message of the bare transfer.
const MESSAGE: usize = 1024 * 1024;
/// Transfers per repetition.
const ROUNDS: usize = 50;
/// Connections that keep their snapshot, to see what they cost.
const HELD: usize = 50;
/// How long memory is left to settle before it is read.
const SETTLE: Duration = Duration::from_millis(200);

/// One transfer: milliseconds, and bytes on the wire.
#[derive(Clone, Copy, Debug)]
struct Transfer {
    millis: f64,
    bytes: u64,
}

/// Runs the workload.
pub(crate) async fn run(plan: &Plan) -> anyhow::Result<Vec<Figure>> {
    eprintln!("W4: filling a collection with {} documents", plan.documents);
    let data = tempfile::tempdir_in(&plan.data)?;
    let kind = Kind::Tidemark { data: data.path().to_owned() };
    let server = Server::start(&kind).await?;
    fill(server.address, plan.documents).await?;
    // A process that has not seen the documents being written.
    server.stop().await?;
    let server = Server::start(&kind).await?;
    let bare = Server::start(&Kind::Bare).await?;

    let first = snapshot(server.address, plan.documents).await?;
    let total = usize::try_from(first.bytes)?;
    bare_transfer(bare.address, total).await?;
    let (mut floors, mut snapshots, mut core) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..plan.repetitions {
        for _ in 0..ROUNDS {
            floors.push(bare_transfer(bare.address, total).await?.millis);
        }
        for _ in 0..ROUNDS {
            snapshots.push(snapshot(server.address, plan.documents).await?.millis);
        }
        for _ in 0..ROUNDS {
            core.push(sdk::snapshot(server.address, plan.documents).await?.as_secs_f64() * 1e3);
        }
    }
    let held = resident_after_snapshot(&server, plan.documents).await?;
    server.stop().await?;
    bare.stop().await?;
    let scan = bare_scan(data.path(), plan).await?;

    let floor = median(floors);
    let count = plan.documents;
    let row = |name: String, value: f64| {
        Figure::new("W4", name, Unit::Millis, value).floor("bare transfer", floor)
    };
    let text_bytes = (count * TEXT) as f64;
    Ok(vec![
        row(format!("{count} documents"), median(snapshots)).target(Bound::AtMost(3.0)),
        row(format!("{count} documents, first listener after the start"), first.millis),
        row(format!("{count} documents through the SDK core"), median(core)),
        row(format!("{count} documents read from the store by the engine alone"), scan),
        Figure::new("W4", "resident per connection after its snapshot", Unit::KiB, held),
        Figure::new("W4", "bytes on the wire", Unit::KiB, first.bytes as f64)
            .floor("the text alone", text_bytes),
    ])
}

async fn fill(address: SocketAddr, documents: usize) -> anyhow::Result<()> {
    let mut session = Session::open(address).await?;
    let mut acknowledged = WriteId(0);
    for first in (0..documents).step_by(BATCH) {
        let batch = first..documents.min(first + BATCH);
        let writes = batch
            .map(|number| raw::set_text(&format!("{COLLECTION}/d{number:06}"), random_text(TEXT)));
        session.commit(writes.collect::<Result<_, _>>()?, acknowledged).await?;
        acknowledged = session.committed().await?;
    }
    Ok(())
}

/// The engine alone, on the store that the server has left.
async fn bare_scan(data: &Path, plan: &Plan) -> anyhow::Result<f64> {
    let millis = plan.phase.as_millis().to_string();
    let documents = plan.documents.to_string();
    let words = ["child", "scan", "--documents", &documents, "--millis", &millis, "--data"];
    let store = data.join("store").into();
    let output = child::run(words.into_iter().map(Into::into).chain([store]).collect()).await?;
    Ok(output.trim().parse()?)
}

/// Bytes by which the server grows for each connection that has received the collection.
async fn resident_after_snapshot(server: &Server, documents: usize) -> anyhow::Result<f64> {
    let before = server.resident()?;
    let mut sessions = Vec::new();
    for _ in 0..HELD {
        let mut session = Session::open(server.address).await?;
        let received = raw::count_documents(&session.receive_attach(target()?).await?)?;
        ensure!(received == documents, "{received} documents came instead of {documents}");
        sessions.push(session);
    }
    tokio::time::sleep(SETTLE).await;
    Ok(server.resident()?.saturating_sub(before) as f64 / HELD as f64)
}

fn target() -> anyhow::Result<Target> {
    Ok(Target::Query(Query::collection(&CollectionPath::parse(COLLECTION)?)))
}

/// From the request to the consistent point, on a connection that is open already.
async fn snapshot(address: SocketAddr, documents: usize) -> anyhow::Result<Transfer> {
    let mut session = Session::open_with(address, raw::large_buffers()).await?;
    let before = session.socket().received_bytes();
    let begin = Instant::now();
    let frames = session.receive_attach(target()?).await?;
    let millis = begin.elapsed().as_secs_f64() * 1e3;
    let received = raw::count_documents(&frames)?;
    ensure!(received == documents, "{received} documents came instead of {documents}");
    Ok(Transfer { millis, bytes: session.socket().received_bytes() - before })
}

/// From the request to the last byte, on a connection that is open already.
async fn bare_transfer(address: SocketAddr, total: usize) -> anyhow::Result<Transfer> {
    let mut socket = Socket::connect(address, raw::large_buffers()).await?;
    let before = socket.received_bytes();
    let begin = Instant::now();
    socket.send(transfer_request(total, MESSAGE)).await?;
    let mut left = total;
    while left > 0 {
        left = left.saturating_sub(socket.receive().await?.len());
    }
    let millis = begin.elapsed().as_secs_f64() * 1e3;
    Ok(Transfer { millis, bytes: socket.received_bytes() - before })
}
