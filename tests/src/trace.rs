//! What passed between the clients and the server, by name: the last messages of each client, printed when a test
//! fails. Messages are kept as bytes and decoded only then.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tidemark_protocol::model::{Target, limits};
use tidemark_protocol::wire::client::ClientMessage;
use tidemark_protocol::wire::codec;
use tidemark_protocol::wire::server::ServerMessage;
use tokio::time::Instant;

/// How many messages are kept for each client.
const KEPT: usize = 60;

/// The way a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// To the server.
    Up,
    /// To the client.
    Down,
}

#[derive(Debug)]
enum What {
    Note(String),
    Frame(Way, Bytes),
}

/// The memory of the network.
#[derive(Debug)]
pub struct Trace {
    start: Instant,
    lines: Mutex<BTreeMap<String, VecDeque<(Duration, What)>>>,
}

impl Default for Trace {
    fn default() -> Self {
        Trace { start: Instant::now(), lines: Mutex::default() }
    }
}

impl Trace {
    /// Keeps a remark: a kill, a partition, a close.
    pub fn note(&self, name: &str, text: impl Into<String>) {
        self.push(name, What::Note(text.into()));
    }

    pub(crate) fn frame(&self, name: &str, way: Way, frame: Bytes) {
        self.push(name, What::Frame(way, frame));
    }

    fn push(&self, name: &str, what: What) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let line = match lines.get_mut(name) {
            Some(line) => line,
            None => lines.entry(name.to_owned()).or_default(),
        };
        if line.len() == KEPT {
            line.pop_front();
        }
        line.push_back((self.start.elapsed(), what));
    }

    /// The recent messages of all clients, in order.
    pub fn render(&self) -> String {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<(Duration, &str, &What)> = lines
            .iter()
            .flat_map(|(name, line)| line.iter().map(|(at, what)| (*at, name.as_str(), what)))
            .collect();
        all.sort_by_key(|(at, _, _)| *at);
        let mut text = String::new();
        for (at, name, what) in all {
            let what = describe(what);
            let _ = writeln!(text, "{:9.3}s {name:>12} {what}", at.as_secs_f64());
        }
        text
    }
}

/// Prints the trace when dropped by a failing test. Held by what a test holds: the trace itself lives on in the tasks
/// of the network.
#[derive(Debug)]
pub(crate) struct PrintOnFailure(pub(crate) Arc<Trace>);

impl Drop for PrintOnFailure {
    #[allow(clippy::print_stderr)]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the last messages of each client:\n{}", self.0.render());
        }
    }
}

fn describe(what: &What) -> String {
    match what {
        What::Note(text) => format!("--- {text}"),
        What::Frame(Way::Up, frame) => format!("  -> {}", describe_client(frame)),
        What::Frame(Way::Down, frame) => format!("<-   {}", describe_server(frame)),
    }
}

fn describe_client(frame: &Bytes) -> String {
    match codec::decode_client(frame, limits::REQUEST_BYTES) {
        Ok(ClientMessage::Commit(commit)) => {
            let paths: Vec<&str> = commit.writes.iter().map(|write| write.path.as_str()).collect();
            let (id, through) = (commit.write_id, commit.acknowledged_through);
            shorten(format!("Commit {id} (acknowledged {through}) {}", paths.join(" ")))
        }
        Ok(ClientMessage::Listen(listen)) => {
            let target = match &listen.target {
                Target::Query(query) => format!("{query:?}"),
                Target::Aggregate(aggregate) => format!("{aggregate:?}"),
                Target::Documents(paths) => format!("{paths:?}"),
            };
            shorten(format!("Listen {} from {:?} {target}", listen.target_id, listen.resume))
        }
        Ok(message) => shorten(format!("{message:?}")),
        Err(error) => format!("{} bytes that are no message: {error}", frame.len()),
    }
}

fn describe_server(frame: &Bytes) -> String {
    match codec::decode_server(frame) {
        Ok(ServerMessage::Changes(changes)) => {
            let partial = if changes.partial { " partial" } else { "" };
            let removed: Vec<String> = changes
                .removals
                .iter()
                .map(|removal| {
                    format!("-{}{}", removal.path, if removal.deleted { "!" } else { "" })
                })
                .collect();
            let (group, version, count) = (changes.group, changes.version, changes.documents.len());
            let documents = documents(&changes.documents);
            shorten(format!(
                "Changes group {group} at {version}{partial}: {count} {documents} {}",
                removed.join(" ")
            ))
        }
        Ok(ServerMessage::Result(result)) => shorten(format!(
            "Result {} at {}: {}",
            result.request,
            result.version,
            documents(&result.documents)
        )),
        Ok(message) => shorten(format!("{message:?}")),
        Err(error) => format!("{} bytes that are no message: {error}", frame.len()),
    }
}

fn documents(documents: &[Bytes]) -> String {
    let shown: Vec<String> = documents
        .iter()
        .map(|document| match codec::peek_document(document) {
            Ok((path, _, update)) => format!("+{path}@{update}"),
            Err(error) => format!("+({error})"),
        })
        .collect();
    shown.join(" ")
}

fn shorten(text: String) -> String {
    match text.char_indices().nth(400) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
