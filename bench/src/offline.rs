//! Offline: what an app waits for that has a cache in a file and no network: its first snapshot after
//! a start, a query's answer, a write's way into its own view. The floor is the store below the cache,
//! asked for the same bytes directly.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use futures::StreamExt;
use tidemark_core::cache::{
    Cache, CacheBatch, Durability, Known, KvStore, NativeCache, Options, TargetChange,
};
use tidemark_core::{Client, Direction, QueryListener, Source, Value};
use tidemark_protocol::model::{
    CollectionPath, Document, DocumentPath, Fields, Incarnation, MergeState, Query, ResumeToken,
    Target, Version,
};
use tidemark_protocol::wire::codec::canonical_target;

use crate::floor::random_text;
use crate::plan::Plan;
use crate::report::{Bound, Figure, Unit};
use crate::stats::{Latencies, median};

/// Bytes of text in a document.
const TEXT: usize = 200;
/// Documents of a query's result.
const PAGE: usize = 50;
/// Starts per repetition.
const STARTS: usize = 10;
/// Queries per repetition.
const QUERIES: u64 = 300;
/// Writes per repetition, and the documents that they are spread over.
const WRITES: u64 = 500;
const WRITTEN: u64 = 100;
/// What the store's keys of documents begin with, and what comes after.
const DOCUMENTS: (&[u8], &[u8]) = (b"d", b"e");

/// Runs the workload.
pub(crate) async fn run(plan: &Plan) -> anyhow::Result<Vec<Figure>> {
    let count = plan.documents;
    eprintln!("offline: filling a cache with {count} documents");
    let folder = tempfile::tempdir_in(&plan.data)?;
    fill(folder.path(), count)?;
    let (mut starts, mut bare_starts) = (Vec::new(), Vec::new());
    let (mut queries, mut bare_reads) = (Latencies::default(), Latencies::default());
    let (mut views, mut bare_puts) = (Latencies::default(), Latencies::default());
    for _ in 0..plan.repetitions {
        for _ in 0..STARTS {
            bare_starts.push(bare_start(folder.path(), count)?);
            starts.push(start(folder.path(), count).await?);
        }
        read_bare(folder.path(), &mut bare_reads)?;
        ask(folder.path(), count, &mut queries).await?;
        let puts = tempfile::tempdir_in(&plan.data)?;
        put_bare(puts.path(), &mut bare_puts)?;
        // What is written stays pending: each repetition has a cache of its own.
        let written = tempfile::tempdir_in(&plan.data)?;
        fill(written.path(), count)?;
        write(written.path(), &mut views).await?;
    }
    let row = |name: String, unit, value, floor: (&str, f64)| {
        Figure::new("offline", name, unit, value).floor(floor.0, floor.1)
    };
    let reads = |fraction, reads: &mut Latencies| ("the store's reads", reads.percentile(fraction));
    let puts = |fraction, puts: &mut Latencies| ("a durable put", puts.percentile(fraction));
    let name = format!("reopening a cache of {count} documents, to the first snapshot");
    let bare = ("open and read the store", median(bare_starts));
    let query = format!("a query for {PAGE} of {count} cached documents");
    let view = "a local write, to the local view";
    Ok(vec![
        row(name, Unit::Millis, median(starts), bare).target(Bound::ValueAtMost(200.0)),
        row(
            format!("{query}, p50"),
            Unit::Micros,
            queries.percentile(0.5),
            reads(0.5, &mut bare_reads),
        ),
        row(
            format!("{query}, p99"),
            Unit::Micros,
            queries.percentile(0.99),
            reads(0.99, &mut bare_reads),
        )
        .target(Bound::ValueAtMost(5_000.0)),
        row(format!("{view}, p50"), Unit::Micros, views.percentile(0.5), puts(0.5, &mut bare_puts)),
        row(
            format!("{view}, p99"),
            Unit::Micros,
            views.percentile(0.99),
            puts(0.99, &mut bare_puts),
        )
        .target(Bound::ValueAtMost(1_000.0)),
    ])
}

fn open(folder: &Path) -> anyhow::Result<NativeCache> {
    Ok(NativeCache::open_in(folder, Options::default())?)
}

/// A client that finds no server.
async fn client(folder: &Path) -> anyhow::Result<Client> {
    let client = Client::builder("ws://127.0.0.1:9").cache(Box::new(open(folder)?)).build()?;
    client.disable_network();
    Ok(client)
}

fn path(number: usize) -> anyhow::Result<DocumentPath> {
    Ok(format!("messages/m{number:07}").parse()?)
}

fn everything() -> anyhow::Result<Query> {
    Ok(Query::collection(&CollectionPath::parse("messages")?))
}

/// A cache as it is after a listener has received the collection.
fn fill(folder: &Path, count: usize) -> anyhow::Result<()> {
    let mut cache = open(folder)?;
    let key = canonical_target(&Target::Query(everything()?));
    let token = ResumeToken { incarnation: Incarnation(1), version: Version(2) };
    let mut documents = Vec::new();
    for number in 0..count {
        // Its place in the order has nothing to do with its name.
        let at = number * 7_919 % count;
        let fields = Fields::from([
            ("at".to_owned(), Value::Integer(i64::try_from(at)?)),
            ("text".to_owned(), Value::String(random_text(TEXT))),
        ]);
        let (create_version, update_version) = (Version(1), Version(1));
        let (path, merge) = (path(number)?, MergeState::default());
        let document =
            Document { path: path.clone(), fields, create_version, update_version, merge };
        documents.push((path, Known::Document(Arc::new(document))));
    }
    let members = documents.iter().map(|(path, _)| (path.clone(), true)).collect();
    let targets = vec![
        TargetChange::Put { key: key.clone(), token: Some(token) },
        TargetChange::Members { key, documents: members },
    ];
    let batch = CacheBatch { documents, targets, ..CacheBatch::default() };
    Ok(cache.apply(batch, Durability::Durable)?)
}

/// From nothing to the first snapshot of all documents: milliseconds.
async fn start(folder: &Path, count: usize) -> anyhow::Result<f64> {
    let begin = Instant::now();
    let client = client(folder).await?;
    let mut listener = client.collection("messages")?.listen();
    let snapshot = listener.next().await.context("the listener has ended")??;
    let elapsed = begin.elapsed();
    ensure!(snapshot.len() == count, "{} documents instead of {count}", snapshot.len());
    drop(listener);
    client.close().await;
    Ok(millis(elapsed))
}

fn bare_start(folder: &Path, count: usize) -> anyhow::Result<f64> {
    let begin = Instant::now();
    let cache = open(folder)?;
    let read = cache.store().read()?;
    let documents = read.range(DOCUMENTS.0, Some(DOCUMENTS.1), false)?;
    let bytes: Vec<usize> =
        documents.map(|pair| pair.map(|(_, value)| value.len())).collect::<Result<_, _>>()?;
    let elapsed = begin.elapsed();
    ensure!(bytes.len() == count, "{} documents instead of {count}", bytes.len());
    Ok(millis(elapsed))
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Pages from anywhere in the collection, in the order of a field.
async fn ask(folder: &Path, count: usize, latencies: &mut Latencies) -> anyhow::Result<()> {
    let client = client(folder).await?;
    let query = client.collection("messages")?.order_by("at", Direction::Descending);
    let last = u64::try_from(count - PAGE)?;
    for number in 0..QUERIES {
        let from = Value::Integer(i64::try_from(number * 7_919 % last)? + PAGE as i64 - 1);
        let page = query.clone().start_at([from]).limit(u32::try_from(PAGE)?);
        let begin = Instant::now();
        let found = page.get_from(Source::Cache).await?;
        let elapsed = begin.elapsed();
        ensure!(found.len() == PAGE, "{} documents instead of {PAGE}", found.len());
        // The first makes the index.
        if number > 0 {
            latencies.push(elapsed);
        }
    }
    client.close().await;
    Ok(())
}

fn read_bare(folder: &Path, latencies: &mut Latencies) -> anyhow::Result<()> {
    let cache = open(folder)?;
    let keys: Vec<Vec<u8>> = {
        let read = cache.store().read()?;
        let documents = read.range(DOCUMENTS.0, Some(DOCUMENTS.1), false)?;
        documents.map(|pair| pair.map(|(key, _)| key)).collect::<Result<_, _>>()?
    };
    for number in 0..usize::try_from(QUERIES)? {
        let begin = Instant::now();
        let read = cache.store().read()?;
        for place in 0..PAGE {
            let key = &keys[(number * 7_919 + place * 104_729) % keys.len()];
            ensure!(read.get(key)?.is_some(), "a document is missing");
        }
        latencies.push(begin.elapsed());
    }
    Ok(())
}

/// Writes to a listened collection, each awaited in the listener.
async fn write(folder: &Path, latencies: &mut Latencies) -> anyhow::Result<()> {
    let client = client(folder).await?;
    let live = client.collection("live")?;
    let mut listener = live.listen();
    for number in 0..WRITTEN + WRITES {
        let document = live.doc(&format!("d{:03}", number % WRITTEN))?;
        let value = Value::Integer(i64::try_from(number)?);
        let begin = Instant::now();
        let mut pending =
            document.set_fields([("n", value.clone()), ("text", Value::String(random_text(TEXT)))]);
        until_shown(&mut listener, &value).await?;
        // The first make the documents.
        if number >= WRITTEN {
            latencies.push(begin.elapsed());
        }
        // The next does not wait for the disk that this one is written to.
        pending.local().await?;
    }
    client.close().await;
    Ok(())
}

async fn until_shown(listener: &mut QueryListener, value: &Value) -> anyhow::Result<()> {
    loop {
        let snapshot = listener.next().await.context("the listener has ended")??;
        if snapshot.changes().iter().any(|change| change.document.get("n") == Some(value)) {
            return Ok(());
        }
    }
}

fn put_bare(folder: &Path, latencies: &mut Latencies) -> anyhow::Result<()> {
    let cache = open(folder)?;
    for number in 0..WRITES {
        let key = [b"o", &number.to_be_bytes()[..]].concat();
        let begin = Instant::now();
        cache.store().write(vec![(key, Some(vec![7; TEXT]))], Durability::Durable)?;
        latencies.push(begin.elapsed());
    }
    Ok(())
}
