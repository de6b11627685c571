//! `import`: documents from JSON lines, many in flight, each counted only when the server has
//! acknowledged it. Survives restarts of the server (the client sends again, once) and of itself
//! (a state file says how many lines are done).

mod mapping;
mod reader;
mod report;
mod source;
mod state;
mod template;

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesOrdered;
use serde_json::json;
use tidemark_core::{Client, Error};
use tokio::sync::mpsc;

use self::mapping::Mapping;
use self::reader::{BATCH, BadLines, Batch};
use self::report::{Report, per_second};
use self::source::Source;
use self::state::{Identity, Progress, StateFile};
use crate::args::{ClientArgs, ImportArgs};
use crate::connection::{Connection, Monitor};
use crate::failure::{Failure, Kind, Outcome};
use crate::output::{Output, note};

const SAVE_EVERY: Duration = Duration::from_secs(1);

/// Imports what is not imported yet.
pub(crate) async fn run(client: &ClientArgs, args: &ImportArgs) -> Outcome<u8> {
    let mapping = Mapping::new(args.template.as_deref())?;
    let template = args.template.as_deref();
    let identity = Identity::of(&args.file, template, &client.url, &client.project)?;
    let source = Source::open(&args.file)?;
    let connection = Connection::open_cached(client, &args.cache)?;
    let total = identity.as_ref().map(|identity| identity.size);
    let record = Record::open(identity, args, &connection).await?;
    if record.progress.as_ref().is_some_and(|progress| progress.complete) {
        return finished_before(client, args, &record);
    }
    let bad_lines = if args.skip_bad { BadLines::Skip } else { BadLines::Stop };
    let done = record.lines();
    if done > 0 {
        note(format_args!("continuing after line {done}, where an earlier import stopped"));
    }
    let batches = reader::start(source, mapping, bad_lines, done);
    let mut import = Import {
        client: connection.client().clone(),
        window: usize::from(args.window).div_ceil(BATCH),
        in_flight: FuturesOrdered::new(),
        report: Report::new(total),
        record,
        counts: Counts::default(),
    };
    let outcome = import.run(batches, Monitor::new(&connection)).await;
    import.report.finish();
    let saved = import.record.save(outcome.is_ok());
    summary(client, &import, done, outcome.is_ok())?;
    outcome.map_err(|failure| import.explain(failure))?;
    saved?;
    connection.close().await;
    Ok(0)
}

fn finished_before(client: &ClientArgs, args: &ImportArgs, record: &Record) -> Outcome<u8> {
    let documents = record.progress.as_ref().map_or(0, |progress| progress.documents);
    let file = args.file.display();
    note(format_args!(
        "already imported: {documents} documents of {file}; nothing to do (--fresh imports them again)"
    ));
    if client.json {
        let mut out = Output::new(true);
        out.line(summary_json(&Counts::default(), record.lines(), 0.0, 0.0, true))?;
        out.flush()?;
    }
    Ok(0)
}

/// What is known and kept about this import. Without a state file (stdin) nothing is.
struct Record {
    file: Option<StateFile>,
    progress: Option<Progress>,
    /// Whether there is progress that is not saved. Set by `advance`, cleared by `save`.
    unsaved: bool,
}

impl Record {
    async fn open(
        identity: Option<Identity>,
        args: &ImportArgs,
        connection: &Connection,
    ) -> Outcome<Record> {
        let Some(identity) = identity else {
            return Ok(Record { file: None, progress: None, unsaved: false });
        };
        let file = StateFile::locate(args.state_dir.as_deref(), &identity);
        let found = file.as_ref().filter(|_| !args.fresh).and_then(|file| file.load(&identity));
        let progress = match found {
            Some(progress) if still_there(&progress, connection).await? => progress,
            Some(_) => {
                note("the server does not have what was imported before; starting again");
                Progress::start(identity)
            }
            None => Progress::start(identity),
        };
        Ok(Record { file, progress: Some(progress), unsaved: false })
    }

    fn lines(&self) -> u64 {
        self.progress.as_ref().map_or(0, |progress| progress.lines)
    }

    fn advance(&mut self, done: &Done) {
        if let Some(progress) = &mut self.progress {
            progress.lines = done.last_line;
            progress.documents += done.documents;
            progress.bad += done.bad;
            progress.last = done.last_path.clone().or_else(|| progress.last.take());
        }
        self.unsaved = true;
    }

    fn save_progress(&mut self) -> Outcome<()> {
        if self.unsaved { self.save(false) } else { Ok(()) }
    }

    fn save(&mut self, complete: bool) -> Outcome<()> {
        let (Some(file), Some(progress)) = (&self.file, &mut self.progress) else { return Ok(()) };
        progress.complete = complete;
        self.unsaved = false;
        file.save(progress)
    }
}

/// Whether the server still has the last document that was imported: another database, or one
/// that was wiped, starts from nothing.
async fn still_there(progress: &Progress, connection: &Connection) -> Outcome<bool> {
    let Some(last) = &progress.last else { return Ok(false) };
    let document = connection.client().doc(last)?;
    Ok(connection.wait(document.get()).await?.exists())
}

#[derive(Default)]
struct Counts {
    imported: u64,
    bad: u64,
}

/// A batch that the server has acknowledged.
struct Done {
    documents: u64,
    bad: u64,
    last_line: u64,
    last_path: Option<String>,
    position: u64,
}

type Sending = Pin<Box<dyn Future<Output = Outcome<Done>> + Send>>;

struct Import {
    client: Client,
    /// How many batches may wait for the server.
    window: usize,
    /// Sent, in the order of the input, so that what is done is always a prefix of it.
    in_flight: FuturesOrdered<Sending>,
    report: Report,
    record: Record,
    counts: Counts,
}

impl Import {
    async fn run(
        &mut self,
        mut batches: mpsc::Receiver<Outcome<Batch>>,
        mut monitor: Monitor,
    ) -> Outcome<()> {
        let mut save = tokio::time::interval(SAVE_EVERY);
        let interrupt = tokio::signal::ctrl_c();
        tokio::pin!(interrupt);
        // What ends the reading; the batches in flight are still waited for.
        let mut stopped: Option<Outcome<()>> = None;
        while stopped.is_none() || !self.in_flight.is_empty() {
            tokio::select! {
                biased;
                _ = &mut interrupt => return Err(Failure::interrupted("interrupted")),
                Some(done) = self.in_flight.next(), if !self.in_flight.is_empty() => {
                    self.acknowledged(&done?);
                }
                batch = batches.recv(), if stopped.is_none() && self.in_flight.len() < self.window => {
                    match batch {
                        Some(Ok(batch)) => self.send(batch),
                        Some(Err(failure)) => stopped = Some(Err(failure)),
                        None => stopped = Some(Ok(())),
                    }
                }
                refused = monitor.next() => return Err(refused),
                _ = save.tick() => self.record.save_progress()?,
            }
        }
        stopped.unwrap_or(Ok(()))
    }

    fn send(&mut self, batch: Batch) {
        for failure in &batch.bad {
            self.report.note(&format!("skipped {}", failure.message()));
        }
        self.in_flight.push_back(send(self.client.clone(), batch));
    }

    fn acknowledged(&mut self, done: &Done) {
        self.counts.imported += done.documents;
        self.counts.bad += done.bad;
        self.record.advance(done);
        self.report.show(self.counts.imported, done.position);
    }

    fn explain(&self, failure: Failure) -> Failure {
        if self.record.file.is_none() || failure.hint().is_some() {
            return failure;
        }
        let lines = self.record.lines();
        failure.with_hint(format!("the first {lines} lines are imported; run it again to continue"))
    }
}

/// One commit for the batch, made now, so that commits are made in the order of the input.
fn send(client: Client, batch: Batch) -> Sending {
    let Batch { writes, bad, last_line, position } = batch;
    let last_path = writes.last().map(|(_, write)| write.path.to_string());
    let (documents, bad) = (writes.len() as u64, bad.len() as u64);
    let done = Done { documents, bad, last_line, last_path, position };
    if writes.is_empty() {
        return Box::pin(async { Ok(done) });
    }
    let pending = client.commit(writes.iter().map(|(_, write)| write.clone()).collect());
    Box::pin(async move {
        match pending.await {
            Ok(_) => Ok(done),
            Err(error) if writes.len() == 1 => Err(rejected(writes[0].0, &error)),
            // The server refused the whole commit: one by one tells which line it was.
            Err(_) => one_by_one(&client, writes).await.map(|()| done),
        }
    })
}

async fn one_by_one(client: &Client, writes: Vec<(u64, tidemark_core::Write)>) -> Outcome<()> {
    for (line, write) in writes {
        client.commit(vec![write]).await.map_err(|error| rejected(line, &error))?;
    }
    Ok(())
}

fn rejected(line: u64, error: &Error) -> Failure {
    Failure::new(Kind::Status(error.code()), format!("line {line}: {}", error.message()))
}

fn summary(client: &ClientArgs, import: &Import, done_before: u64, complete: bool) -> Outcome<()> {
    let elapsed = import.report.elapsed();
    let rate = per_second(import.counts.imported, elapsed);
    let Counts { imported, bad } = import.counts;
    if client.json {
        let mut out = Output::new(true);
        let line = summary_json(&import.counts, done_before, elapsed.as_secs_f64(), rate, complete);
        out.line(line)?;
        return out.flush();
    }
    let before = match done_before {
        0 => String::new(),
        lines => format!(", {lines} lines done before"),
    };
    let skipped = if bad == 0 { String::new() } else { format!(", {bad} bad lines skipped") };
    let seconds = elapsed.as_secs_f64();
    note(format_args!(
        "imported {imported} documents{before}{skipped} in {seconds:.1} s ({rate:.0}/s)"
    ));
    Ok(())
}

fn summary_json(
    counts: &Counts,
    done_before: u64,
    seconds: f64,
    rate: f64,
    complete: bool,
) -> serde_json::Value {
    json!({
        "type": "summary",
        "imported": counts.imported,
        "bad": counts.bad,
        "done_before": done_before,
        "seconds": (seconds * 1000.0).round() / 1000.0,
        "documents_per_second": rate.round(),
        "complete": complete,
    })
}
