//! Traces: a paper of 260,000 recorded keystrokes, typed by one client into a collaborative text at a server
//! with a store on disk. The floor is Automerge alone, applying and saving the same edits.

use std::io::Read;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use flate2::read::GzDecoder;
use futures::{FutureExt, StreamExt};
use tidemark_core::{Client, Value};
use tidemark_protocol::model::collab::bare_text;

use crate::child::{Kind, Server};
use crate::plan::Plan;
use crate::replay;
use crate::report::{Bound, Figure, Unit};
use crate::stats::{Latencies, median};

/// The recording, in the project.
const RECORDING: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/traces/automerge-paper.json.gz");
/// How many edits a client makes before it lets other tasks run.
const BURST: usize = 64;

/// Deletes and inserts at a place.
type Splice = (usize, usize, String);

/// Runs the workload.
pub(crate) async fn run(plan: &Plan) -> anyhow::Result<Vec<Figure>> {
    let (mut splices, mut end) = read()?;
    if splices.len() > plan.keystrokes {
        splices.truncate(plan.keystrokes);
        let edits = splices.iter().map(|(at, delete, insert)| (*at, *delete, insert.as_str()));
        end = bare_text(edits)?.0;
    }
    let count = splices.len();
    eprintln!("traces: typing {count} edits");
    let (mut bare_times, mut times, mut answered) = (Vec::new(), Vec::new(), Vec::new());
    let (mut views, mut bare_size, mut size) = (Latencies::default(), 0, 0);
    for _ in 0..plan.repetitions {
        let begun = Instant::now();
        let edits = splices.iter().map(|(at, delete, insert)| (*at, *delete, insert.as_str()));
        let (text, saved) = bare_text(edits)?;
        bare_times.push(begun.elapsed().as_secs_f64() * 1e3);
        ensure!(text == end, "Automerge makes another text");
        bare_size = saved.len();
        let typed = type_all(plan, &splices, &end, &mut views).await?;
        times.push(typed.saved.as_secs_f64() * 1e3);
        answered.push(typed.answered.as_secs_f64() * 1e3);
        size = typed.size;
    }
    let mut figures = Vec::new();
    let recordings: &[&str] =
        if plan.keystrokes < usize::MAX { &[] } else { &["friendsforever", "clownschool"] };
    for name in recordings {
        eprintln!("traces: two clients type {name}");
        let replayed = replay::run(plan, name).await?;
        let label = format!("{name} by two clients, {} offline periods", replayed.offline_periods);
        let time = replayed.time.as_secs_f64() * 1e3;
        figures.push(Figure::new("traces", label, Unit::Millis, time));
    }
    let bare = median(bare_times);
    let p99 = views.percentile(0.99);
    figures.extend([
        Figure::new("traces", "all edits, kept in the outbox", Unit::Millis, median(times))
            .floor("Automerge alone", bare),
        Figure::new("traces", "all edits, durable at the server", Unit::Millis, median(answered))
            .floor("Automerge alone", bare)
            .target(Bound::AtMost(1.5)),
        Figure::new("traces", "the history at the server", Unit::KiB, size as f64)
            .floor("Automerge alone", bare_size as f64)
            .target(Bound::AtMost(1.2)),
        Figure::new("traces", "a keystroke to its own view, p99", Unit::Micros, p99)
            .target(Bound::ValueAtMost(2_000.0)),
    ]);
    Ok(figures)
}

struct Typed {
    saved: Duration,
    answered: Duration,
    /// Bytes of the history as the server stores it.
    size: usize,
}

async fn type_all(
    plan: &Plan,
    splices: &[Splice],
    end: &str,
    views: &mut Latencies,
) -> anyhow::Result<Typed> {
    let data = tempfile::tempdir_in(&plan.data)?;
    let server = Server::start(&Kind::Tidemark { data: data.path().to_owned() }).await?;
    let client = Client::builder(format!("ws://{}", server.address)).build()?;
    let doc = client.doc("docs/paper")?;
    let document = doc.collaborate().await?;
    let (text, mut events) = (document.text("text")?, document.events());
    let begun = Instant::now();
    for (number, (at, delete, insert)) in splices.iter().enumerate() {
        let pressed = Instant::now();
        text.splice(*at, *delete, insert)?;
        while events.next().now_or_never().flatten().is_some() {}
        views.push(pressed.elapsed());
        if number % BURST == 0 {
            tokio::task::yield_now().await;
        }
    }
    document.saved().await?;
    let saved = begun.elapsed();
    client.wait_for_pending_writes().await?;
    let answered = begun.elapsed();
    ensure!(text.value() == end, "the client has another text");
    let stored = doc.get().await?;
    ensure!(stored.get("text") == Some(&Value::from(end)), "the server has another text");
    let history = doc.collection("__collab__")?.get().await?;
    let bytes = |document: &tidemark_core::DocumentSnapshot| match document.get("data") {
        Some(Value::Bytes(data)) => data.len(),
        _ => 0,
    };
    let size = history.documents().iter().map(bytes).sum();
    client.close().await;
    Ok(Typed { saved, answered, size })
}

fn read() -> anyhow::Result<(Vec<Splice>, String)> {
    let file = std::fs::File::open(RECORDING).context("the recording is part of the project")?;
    let mut text = String::new();
    GzDecoder::new(file).read_to_string(&mut text)?;
    let json: serde_json::Value = serde_json::from_str(&text)?;
    let end = json["endContent"].as_str().context("no end")?.to_owned();
    let mut splices = Vec::new();
    for stroke in json["txns"].as_array().context("no keystrokes")? {
        for patch in stroke["patches"].as_array().context("no splices")? {
            splices.push(serde_json::from_value(patch.clone())?);
        }
    }
    Ok((splices, end))
}
