//! The reading side of an import: a thread that turns lines into batches of writes, a few batches
//! ahead of the sending side. It stops when the sending side goes away.

use tidemark_protocol::model::Write;
use tokio::sync::mpsc;

use super::mapping::Mapping;
use super::source::{Line, Source};
use crate::failure::{Failure, Kind, Outcome};

/// Documents per commit: enough that the server's work for each commit does not count, few enough
/// that a window has many commits in flight.
pub(super) const BATCH: usize = 25;
/// Bytes of lines per commit, far below the limit of a request.
const BATCH_BYTES: usize = 1024 * 1024;
const AHEAD: usize = 8;

/// Consecutive lines.
pub(super) struct Batch {
    /// The documents with their line numbers.
    pub(super) writes: Vec<(u64, Write)>,
    /// The lines that are no documents, and why.
    pub(super) bad: Vec<Failure>,
    /// The last line of the batch, blank lines aside.
    pub(super) last_line: u64,
    /// How far the raw input had been read.
    pub(super) position: u64,
}

/// What to do with a bad line.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum BadLines {
    /// Stop there; what precedes it is imported.
    Stop,
    /// Report it and go on.
    Skip,
}

/// Starts reading after the lines that are done.
pub(super) fn start(
    mut source: Source,
    mapping: Mapping,
    bad_lines: BadLines,
    done: u64,
) -> mpsc::Receiver<Outcome<Batch>> {
    let (sender, receiver) = mpsc::channel(AHEAD);
    std::thread::spawn(move || {
        loop {
            let (batch, end) = read(&mut source, &mapping, bad_lines, done);
            if batch.last_line > 0 && sender.blocking_send(Ok(batch)).is_err() {
                return;
            }
            match end {
                End::Full => {}
                End::Input => return,
                // The receiver may be gone; then nobody asks any more.
                End::Failed(failure) => return drop(sender.blocking_send(Err(failure))),
            }
        }
    });
    receiver
}

enum End {
    Full,
    Input,
    Failed(Failure),
}

fn read(source: &mut Source, mapping: &Mapping, bad_lines: BadLines, done: u64) -> (Batch, End) {
    let mut batch = Batch { writes: Vec::new(), bad: Vec::new(), last_line: 0, position: 0 };
    let mut bytes = 0;
    while batch.writes.len() + batch.bad.len() < BATCH && bytes < BATCH_BYTES {
        let line = match source.next_line() {
            Ok(Some(line)) => line,
            Ok(None) => return (batch, End::Input),
            // What follows cannot be told apart into lines.
            Err(failure) => return (batch, End::Failed(failure)),
        };
        if line.number <= done {
            continue;
        }
        bytes += line.bytes.len();
        match take(&mut batch, mapping, &line) {
            Ok(()) => {}
            Err(failure) if bad_lines == BadLines::Skip && failure.kind() == Kind::BadInput => {
                batch.bad.push(failure);
            }
            Err(failure) => return (batch, End::Failed(failure)),
        }
        batch.last_line = line.number;
        batch.position = source.position();
    }
    (batch, End::Full)
}

fn take(batch: &mut Batch, mapping: &Mapping, line: &Line) -> Outcome<()> {
    batch.writes.push((line.number, mapping.write(line)?));
    Ok(())
}
