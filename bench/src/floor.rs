//! The floors: the least that this machine needs for the same work, without Tidemark.
//!
//! [`serve`] is a bare WebSocket server: it hands every binary message of a writer to all
//! listeners, and sends plain bytes on demand. [`engine`] is the storage engine alone, doing the
//! puts of a commit, one durable transaction per group.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use serde::{Deserialize, Serialize};
use tidemark_protocol::model::{
    CollectionPath, Document, DocumentPath, Fields, Value, Version, key,
};
use tidemark_protocol::wire::codec;
use tidemark_server::store::{Key, KeyRange, ScanDirection, Store};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::HeaderValue;

use crate::stats::{Latencies, median};
use crate::{child, raw};

/// The first message of a listener of the bare server; the server repeats it when it is attached.
pub(crate) const LISTEN: &[u8] = b"listen";
/// The first message of a writer; the server repeats it, then answers each message.
pub(crate) const WRITE: &[u8] = b"write";
/// What follows is the size of a transfer and of its messages, both as u64, little endian.
pub(crate) const TRANSFER: &[u8] = b"transfer";
/// What the bare server answers to an update: as long as the frame `Committed`.
const ACKNOWLEDGED: &[u8] = &[0; 16];

/// How far a listener may be behind before it misses updates.
const BACKLOG: usize = 1024;
/// Frames fed to a socket before it is flushed.
const FEED: usize = 64;

/// Runs the bare server until the parent ends.
pub(crate) async fn serve() -> anyhow::Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    println!("{}", listener.local_addr()?);
    let (updates, _) = broadcast::channel(BACKLOG);
    let accept = async {
        loop {
            let Ok((stream, _)) = listener.accept().await else { continue };
            let updates = updates.clone();
            tokio::spawn(async move {
                // A connection that breaks ends by itself; the load notices.
                let _ = connection(stream, updates).await;
            });
        }
    };
    tokio::select! {
        () = accept => {}
        () = child::parent_gone() => {}
    }
    Ok(())
}

type Stream = WebSocketStream<TcpStream>;

// The signature is the library's.
#[allow(clippy::result_large_err)]
fn accept_protocol(request: &Request, mut response: Response) -> Result<Response, ErrorResponse> {
    if let Some(protocol) = request.headers().get("Sec-WebSocket-Protocol") {
        let protocol: HeaderValue = protocol.clone();
        response.headers_mut().insert("Sec-WebSocket-Protocol", protocol);
    }
    Ok(response)
}

async fn connection(stream: TcpStream, updates: broadcast::Sender<Bytes>) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let mut socket = tokio_tungstenite::accept_hdr_async_with_config(
        stream,
        accept_protocol,
        Some(raw::small_buffers()),
    )
    .await?;
    let first = loop {
        match socket.next().await.context("closed")?? {
            Message::Binary(first) => break first,
            _ => continue,
        }
    };
    if first == LISTEN {
        let receiver = updates.subscribe();
        socket.send(Message::Binary(first)).await?;
        drop(updates);
        return listener(socket, receiver).await;
    }
    if first == WRITE {
        socket.send(Message::Binary(first)).await?;
        return writer(socket, updates).await;
    }
    transfer(socket, first).await
}

async fn listener(
    mut socket: Stream,
    mut updates: broadcast::Receiver<Bytes>,
) -> anyhow::Result<()> {
    loop {
        tokio::select! {
            update = updates.recv() => {
                match update {
                    Ok(update) => socket.feed(Message::Binary(update)).await?,
                    Err(RecvError::Lagged(_)) => continue,
                    Err(RecvError::Closed) => return Ok(()),
                }
                for _ in 1..FEED {
                    let Ok(update) = updates.try_recv() else { break };
                    socket.feed(Message::Binary(update)).await?;
                }
                socket.flush().await?;
            }
            incoming = socket.next() => match incoming {
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Ok(()),
            }
        }
    }
}

async fn writer(mut socket: Stream, updates: broadcast::Sender<Bytes>) -> anyhow::Result<()> {
    while let Some(message) = socket.next().await {
        if let Message::Binary(update) = message? {
            // Without listeners there is nobody to tell.
            let _ = updates.send(update);
            socket.send(Message::Binary(Bytes::from_static(ACKNOWLEDGED))).await?;
        }
    }
    Ok(())
}

async fn transfer(mut socket: Stream, first: Bytes) -> anyhow::Result<()> {
    let mut request = Some(first);
    while let Some(wanted) = request {
        let sizes = wanted.strip_prefix(TRANSFER).context("not a request of the bare server")?;
        let (total, chunk) = sizes.split_first_chunk::<8>().context("a transfer needs sizes")?;
        let total = usize::try_from(u64::from_le_bytes(*total))?;
        let chunk = usize::try_from(u64::from_le_bytes(chunk.try_into()?))?.max(1);
        let bytes = Bytes::from(vec![b'x'; chunk.min(total)]);
        let mut left = total;
        while left > 0 {
            let part = left.min(chunk);
            socket.feed(Message::Binary(bytes.slice(..part))).await?;
            left -= part;
        }
        socket.flush().await?;
        request = loop {
            match socket.next().await {
                Some(Ok(Message::Binary(next))) => break Some(next),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => break None,
            }
        };
    }
    Ok(())
}

/// A request for `total` bytes in messages of `chunk` bytes.
pub(crate) fn transfer_request(total: usize, chunk: usize) -> Bytes {
    let mut request = TRANSFER.to_vec();
    request.extend((total as u64).to_le_bytes());
    request.extend((chunk as u64).to_le_bytes());
    request.into()
}

/// What [`engine`] measured.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct EngineFigures {
    /// Commits per second.
    pub(crate) rate: f64,
    /// Median time of one transaction, in microseconds.
    pub(crate) p50: f64,
    /// 99th percentile.
    pub(crate) p99: f64,
    /// Seconds of processor time per 10,000 commits.
    pub(crate) cpu: f64,
}

/// Puts what `group` commits of documents with so many fields put into one transaction, makes it
/// durable, and so on until the time is up.
pub(crate) async fn engine(
    data: &Path,
    group: usize,
    fields: usize,
    time: Duration,
) -> anyhow::Result<EngineFigures> {
    let store = tidemark_server::store::open(&store_url(data)).await?;
    let mut commits = Commits::new(group, fields);
    let warm = Instant::now() + time / 5;
    while Instant::now() < warm {
        commits.transaction(store.as_ref()).await?;
    }
    let mut latencies = Latencies::default();
    let cpu = child::process_cpu(std::process::id())?;
    let begin = Instant::now();
    let mut last = begin;
    while last - begin < time {
        commits.transaction(store.as_ref()).await?;
        let now = Instant::now();
        latencies.push(now - last);
        last = now;
    }
    let cpu = child::process_cpu(std::process::id())?.saturating_sub(cpu);
    store.close().await?;
    let commits = (latencies.len() * group) as f64;
    Ok(EngineFigures {
        rate: commits / (last - begin).as_secs_f64(),
        cpu: cpu.as_secs_f64() / commits * 10_000.0,
        p50: latencies.percentile(0.5),
        p99: latencies.percentile(0.99),
    })
}

/// Reads all documents of a store that a server has left, again and again until the time is up.
/// Gives the median time in milliseconds.
pub(crate) async fn scan(data: &Path, documents: usize, time: Duration) -> anyhow::Result<f64> {
    let store = tidemark_server::store::open(&store_url(data)).await?;
    let mut times = Vec::new();
    let end = Instant::now() + time;
    while Instant::now() < end {
        let begin = Instant::now();
        let snapshot = store.snapshot().await?;
        let range = KeyRange::prefix(&table(b'd'));
        let rows = snapshot.scan(range, ScanDirection::Forward, usize::MAX).await?;
        times.push(begin.elapsed().as_secs_f64() * 1e3);
        ensure!(rows.len() == documents, "the store has {} documents", rows.len());
    }
    store.close().await?;
    Ok(median(times))
}

fn store_url(data: &Path) -> String {
    format!("surrealkv://{}", data.display())
}

/// The puts of the server's commits, in its layout: each commit a document, the index entries of
/// its fields, its log entry and its client's outcomes; each transaction the state of the database.
struct Commits {
    group: usize,
    next: u64,
    /// Made beforehand: encoding is not the engine's work.
    documents: Vec<Encoded>,
}

/// A document, and the keys of its index entries up to its name.
struct Encoded {
    document: Bytes,
    entries: Vec<Key>,
}

impl Encoded {
    fn new(fields: usize) -> Encoded {
        let document = Document {
            path: DocumentPath::parse(&load_path(0, 0)).expect("a valid path"),
            fields: load_fields(fields),
            create_version: Version(u64::MAX / 2),
            update_version: Version(u64::MAX / 2),
            merge: Default::default(),
        };
        let collection = CollectionPath::parse(LOAD).expect("a valid path");
        let entry = |(name, value): (&String, &Value)| {
            let mut key = table(b'x');
            key::encode_collection(&collection, &mut key);
            key::encode_bytes(name.as_bytes(), &mut key);
            key.push(b'v');
            key::encode_value(value, &mut key);
            key
        };
        let entries = document.fields.iter().map(entry).collect();
        Encoded { document: codec::encode_document(&document), entries }
    }
}

impl Commits {
    fn new(group: usize, fields: usize) -> Commits {
        let documents = (0..256).map(|_| Encoded::new(fields)).collect();
        Commits { group, next: 0, documents }
    }

    async fn transaction(&mut self, store: &dyn Store) -> anyhow::Result<()> {
        let mut transaction = store.begin().await?;
        for slot in 0..self.group {
            let Encoded { document, entries } =
                &self.documents[self.next as usize % self.documents.len()];
            let path = DocumentPath::parse(&load_path(slot, self.next))?;
            let mut document_key = table(b'd');
            key::encode_document(&path, &mut document_key);
            transaction.put(document_key, document.clone());
            for entry in entries {
                let mut entry_key = entry.clone();
                key::encode_bytes(path.id().as_bytes(), &mut entry_key);
                transaction.put(entry_key, Bytes::from_static(&[0, 0, 15]));
            }

            let mut log_key = table(b'l');
            log_key.extend(self.next.to_be_bytes());
            let log_entry = [&[0; 6], document.as_ref()].concat();
            transaction.put(log_key, log_entry.into());

            let mut client_key = table(b'c');
            client_key.extend((slot as u128).to_be_bytes());
            transaction.put(client_key, Bytes::from_static(&[1; 20]));
            self.next += 1;
        }
        transaction.put(table(b'm'), Bytes::from_static(&[1; 32]));
        Ok(transaction.commit().await?)
    }
}

fn table(name: u8) -> Key {
    vec![0, 0, 0, 1, name]
}

/// The collection of the writes that are measured.
const LOAD: &str = "load";

/// The document that writer `slot` writes as its `number`th.
pub(crate) fn load_path(slot: usize, number: u64) -> String {
    format!("{LOAD}/w{slot:02}-{number:08}")
}

/// Fields of a document of a messenger.
pub(crate) const FIVE_FIELDS: usize = 5;

/// The first so many fields of a document with 256 bytes of text.
pub(crate) fn load_fields(fields: usize) -> Fields {
    let all = [
        ("text", Value::String(random_text(256))),
        ("room", Value::String(random_text(8))),
        ("from", Value::String(random_text(8))),
        ("seq", Value::Integer(rand::random_range(0..1 << 40))),
        ("edited", Value::Boolean(rand::random())),
    ];
    all.into_iter().take(fields).map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Text that does not compress, of `size` bytes.
pub(crate) fn random_text(size: usize) -> String {
    use rand::Rng as _;
    use rand::distr::Alphanumeric;
    rand::rng().sample_iter(Alphanumeric).take(size).map(char::from).collect()
}
