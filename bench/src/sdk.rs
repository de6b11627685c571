//! The same workloads through `tidemark-core`, as an application would run them.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Context;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tidemark_core::{Client, DocumentListener, Value};
use tokio::task::JoinSet;

use crate::board::{Board, Tally, find_marker};
use crate::fans::PATH;
use crate::floor::random_text;
use crate::stats::Latencies;
use crate::w4::COLLECTION;

/// Bytes of text in a document of W1.
const TEXT: usize = 256;

/// A client that is connected.
async fn connect(address: SocketAddr) -> anyhow::Result<Client> {
    let client = Client::builder(format!("ws://{address}")).build()?;
    client.get_all(&[client.doc("none/none")?]).await?;
    Ok(client)
}

fn fields() -> [(String, Value); 1] {
    [("text".to_owned(), Value::String(random_text(TEXT)))]
}

/// One client that awaits each write. Gives p50 and p99 in microseconds.
pub(crate) async fn one_writer(address: SocketAddr, time: Duration) -> anyhow::Result<(f64, f64)> {
    let client = connect(address).await?;
    let collection = client.collection(&format!("core{}", random_text(4)))?;
    let mut latencies = Latencies::default();
    let begin = Instant::now();
    while begin.elapsed() < time {
        let document = collection.new_doc();
        let sent = Instant::now();
        document.set_fields(fields()).await?;
        latencies.push(sent.elapsed());
    }
    client.close().await;
    Ok((latencies.percentile(0.5), latencies.percentile(0.99)))
}

/// One client with many writes in flight. Gives writes per second.
pub(crate) async fn many_writes(
    address: SocketAddr,
    many: usize,
    time: Duration,
) -> anyhow::Result<f64> {
    let client = connect(address).await?;
    let collection = client.collection(&format!("core{}", random_text(4)))?;
    let write = || collection.new_doc().set_fields(fields());
    let mut in_flight: FuturesUnordered<_> = (0..many).map(|_| write()).collect();
    let begin = Instant::now();
    let mut written = 0;
    while begin.elapsed() < time {
        in_flight.next().await.expect("writes are in flight")?;
        in_flight.push(write());
        written += 1;
    }
    let elapsed = begin.elapsed();
    client.close().await;
    Ok(f64::from(written) / elapsed.as_secs_f64())
}

/// From `listen` to the first snapshot from the server, on a connection that is open already.
pub(crate) async fn snapshot(address: SocketAddr, documents: usize) -> anyhow::Result<Duration> {
    let client = connect(address).await?;
    let query = client.collection(COLLECTION)?.query();
    let begin = Instant::now();
    let mut listener = query.listen();
    loop {
        let snapshot = listener.next().await.context("the listener has ended")??;
        if !snapshot.metadata().from_cache {
            let elapsed = begin.elapsed();
            let received = snapshot.documents().len();
            anyhow::ensure!(received == documents, "{received} documents instead of {documents}");
            drop(listener);
            client.close().await;
            return Ok(elapsed);
        }
    }
}

/// Listeners to the document of W2, each a client of its own.
pub(crate) struct Listeners {
    tallies: Vec<Arc<Mutex<Tally>>>,
    _tasks: JoinSet<()>,
}

impl Listeners {
    /// Opens them; returns when all of them listen.
    pub(crate) async fn open(
        address: SocketAddr,
        count: usize,
        board: &Arc<Board>,
    ) -> anyhow::Result<Listeners> {
        let mut listeners = Listeners { tallies: Vec::new(), _tasks: JoinSet::new() };
        for _ in 0..count {
            let client = connect(address).await?;
            let mut listener = client.doc(PATH)?.listen();
            while listener.next().await.context("the listener has ended")??.metadata().from_cache {}
            let tally = Arc::new(Mutex::new(Tally::default()));
            listeners.tallies.push(Arc::clone(&tally));
            listeners._tasks.spawn(listen(client, listener, Arc::clone(board), tally));
        }
        Ok(listeners)
    }

    /// All latencies since the last call.
    pub(crate) fn latencies(&self) -> Latencies {
        let mut all = Latencies::default();
        for tally in &self.tallies {
            all.absorb(tally.lock().expect("no listener panics").take());
        }
        all
    }
}

/// Holds the client for as long as it listens.
async fn listen(
    _client: Client,
    mut listener: DocumentListener,
    board: Arc<Board>,
    tally: Arc<Mutex<Tally>>,
) {
    while let Some(Ok(snapshot)) = listener.next().await {
        let Some(Value::String(text)) = snapshot.get("text") else { continue };
        if let Some(update) = find_marker(text.as_bytes()) {
            tally.lock().expect("no listener panics").note(&board, update);
        }
    }
}
