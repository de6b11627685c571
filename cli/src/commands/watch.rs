//! `watch`: prints every change of a query or a document, once and in commit order, or the values
//! computed over a query as they change, for as long as it runs: across reconnects, server restarts and
//! its own slowness.

use std::collections::BTreeMap;

use futures::StreamExt;
use futures::stream::BoxStream;
use serde_json::{Value as Json, json};
use tidemark_core::{
    AggregateSnapshot, ChangeKind, DocumentPath, DocumentSnapshot, Error, ListenOptions,
    QuerySnapshot, Value, Version,
};

use super::query;
use crate::args::{AggregateArgs, ClientArgs, QueryArgs, WatchArgs};
use crate::connection::{Connection, Monitor, sleep_or_forever};
use crate::failure::{Failure, Outcome};
use crate::output::{
    Output, display_width, document_json, fields_text, note, printable, time, value_text,
};

/// Prints until told to stop.
pub(crate) async fn run(client: &ClientArgs, args: &WatchArgs) -> Outcome<u8> {
    let connection = Connection::open_cached(client, &args.cache)?;
    let mut out = Output::new(client.json);
    let mut states = listen(&connection, args, &mut out).await?;
    let mut printer = Printer { out, seen: Version::NONE, current: false };
    let mut monitor = Monitor::new(&connection);
    let deadline = sleep_or_forever(args.duration);
    tokio::pin!(deadline);
    let stop = stop_signal();
    tokio::pin!(stop);
    loop {
        let state = tokio::select! {
            biased;
            () = &mut stop => break,
            () = &mut deadline => break,
            refused = monitor.next() => return Err(refused),
            state = states.next() => state,
        };
        let Some(state) = state else { break };
        let state = state?;
        printer.print(&state)?;
        if printer.current && args.until_count.is_some_and(|count| state.count >= count) {
            break;
        }
    }
    drop(states);
    connection.close().await;
    Ok(0)
}

/// Ctrl-C or a request to terminate.
pub(super) async fn stop_signal() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminate) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => return,
                _ = terminate.recv() => return,
            }
        }
    }
    // Without signals there is nothing to wait for but Ctrl-C.
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// What one snapshot says, of a query, a document or an aggregate.
struct State {
    /// The values of an aggregate, and how they are printed.
    values: Option<Values>,
    changes: Vec<(ChangeKind, DocumentSnapshot)>,
    /// The consistent point, as far as the listener tells.
    version: Version,
    /// Whether the server has confirmed it.
    confirmed: bool,
    /// How many documents there are.
    count: usize,
}

/// The values of an aggregate.
struct Values {
    json: Json,
    text: String,
}

impl State {
    fn of_values(snapshot: &AggregateSnapshot) -> State {
        let value =
            |(name, value): &(String, Value)| format!("{} {}", printable(name), value_text(value));
        let text: Vec<String> = snapshot.values().iter().map(value).collect();
        let (json, text) = (query::values_json(snapshot), text.join("  "));
        State {
            values: Some(Values { json, text }),
            changes: Vec::new(),
            version: snapshot.version(),
            confirmed: !snapshot.metadata().from_cache,
            count: snapshot.count().and_then(|count| count.try_into().ok()).unwrap_or_default(),
        }
    }

    fn of_query(snapshot: &QuerySnapshot) -> State {
        let changes = snapshot.changes().iter();
        State {
            values: None,
            changes: changes.map(|change| (change.kind, change.document.clone())).collect(),
            version: snapshot.version(),
            confirmed: !snapshot.metadata().from_cache,
            count: snapshot.documents().len(),
        }
    }
}

/// Turns the states of one document into changes.
#[derive(Default)]
struct DocumentStates {
    /// The document as last seen, while it exists. Set and cleared by `next`.
    last: Option<DocumentSnapshot>,
}

impl DocumentStates {
    fn next(&mut self, document: DocumentSnapshot) -> State {
        let confirmed = !document.metadata().from_cache;
        let version = document.update_version();
        let present = document.exists().then_some(document);
        let count = usize::from(present.is_some());
        let last = std::mem::replace(&mut self.last, present.clone());
        let change = match (last, present) {
            (None, Some(now)) => Some((ChangeKind::Added, now)),
            (Some(before), None) => Some((ChangeKind::Removed, before)),
            (Some(before), Some(now)) if before.update_version() != now.update_version() => {
                Some((ChangeKind::Modified, now))
            }
            (Some(_), Some(_)) | (None, None) => None,
        };
        State { values: None, changes: change.into_iter().collect(), version, confirmed, count }
    }
}

async fn listen(
    connection: &Connection,
    args: &WatchArgs,
    out: &mut Output,
) -> Outcome<BoxStream<'static, Result<State, Error>>> {
    // Metadata tells when the result is current, and when it is again after an outage.
    let options = ListenOptions { include_metadata_changes: true };
    let is_document = DocumentPath::parse(&args.path).is_ok();
    let is_plain = args.query == QueryArgs::default() && args.aggregate == AggregateArgs::default();
    if !is_document {
        let query = query::build(connection, &args.path, &args.query).await?;
        let aggregate = query::aggregate(&query, &args.aggregate);
        if args.explain {
            let explanation = match &aggregate {
                Some(aggregate) => connection.wait(aggregate.explain()).await?.1,
                None => connection.wait(query.explain()).await?.1,
            };
            query::print_explanation(out, &explanation)?;
            out.flush()?;
        }
        if let Some(aggregate) = aggregate {
            let states = aggregate.listen();
            return Ok(states.map(|item| item.map(|values| State::of_values(&values))).boxed());
        }
        let states = query.listen_with(options);
        return Ok(states.map(|item| item.map(|found| State::of_query(&found))).boxed());
    }
    if !is_plain || args.explain {
        return Err(Failure::usage(format!(
            "{} is a document; queries are for collections",
            args.path
        )));
    }
    let client = connection.client();
    let mut states = DocumentStates::default();
    let listener = client.doc(&args.path)?.listen_with(options);
    Ok(listener.map(move |item| item.map(|document| states.next(document))).boxed())
}

struct Printer {
    out: Output,
    /// The version of the last line. Only grows.
    seen: Version,
    /// Whether the last state was confirmed by the server. Set by `print`.
    current: bool,
}

impl Printer {
    fn print(&mut self, state: &State) -> Outcome<()> {
        if let Some(values) = &state.values {
            self.values(values, state.version)?;
            self.current = state.confirmed;
            return self.out.flush();
        }
        let before = self.seen;
        for ((version, _), (kind, document)) in in_commit_order(state, before) {
            self.seen = self.seen.max(version);
            self.change(*kind, document, version)?;
        }
        self.seen = self.seen.max(state.version);
        if state.confirmed && !self.current {
            self.caught_up(state.count)?;
        }
        self.current = state.confirmed;
        self.out.flush()
    }

    fn values(&mut self, values: &Values, version: Version) -> Outcome<()> {
        self.seen = self.seen.max(version);
        let version = self.seen;
        if self.out.is_json() {
            let Values { json: values, .. } = values;
            return self.out.line(json!({
                "type": "values", "version": version.0, "values": values,
            }));
        }
        let time = self.out.colour().paint("2", &time(version));
        self.out.line(format_args!("{time}  {}", values.text))
    }

    fn change(
        &mut self,
        kind: ChangeKind,
        document: &DocumentSnapshot,
        version: Version,
    ) -> Outcome<()> {
        if self.out.is_json() {
            return self.out.line(change_json(kind, document, version));
        }
        let colour = self.out.colour();
        let (word, sgr) = match kind {
            ChangeKind::Added => ("+", "32"),
            ChangeKind::Modified => ("~", "33"),
            ChangeKind::Removed => ("-", "31"),
        };
        let path = printable(&document.path().to_string());
        let gap = " ".repeat(2usize.saturating_sub(display_width(word)));
        let mark = colour.paint(sgr, word);
        let path = colour.paint("1", &path);
        self.out.line(format_args!("{mark}{gap}{path}  {}", colour.paint("2", &time(version))))?;
        match kind {
            ChangeKind::Removed => Ok(()),
            ChangeKind::Added | ChangeKind::Modified => {
                let text = fields_text(colour, document.fields());
                self.out.line(text.trim_end_matches('\n'))
            }
        }
    }

    fn caught_up(&mut self, count: usize) -> Outcome<()> {
        if self.out.is_json() {
            return self.out.line(json!({
                "type": "current", "version": self.seen.0, "count": count,
            }));
        }
        self.out.flush()?;
        note(format_args!("current: {count} documents; waiting for changes"));
        Ok(())
    }
}

/// The changes by commit, then path. A removal, and a document that came into the result without
/// having changed itself, happened at the snapshot's version.
fn in_commit_order(
    state: &State,
    before: Version,
) -> BTreeMap<(Version, &DocumentPath), &(ChangeKind, DocumentSnapshot)> {
    let at = |kind: ChangeKind, document: &DocumentSnapshot| match kind {
        ChangeKind::Added | ChangeKind::Modified if document.update_version() > before => {
            document.update_version()
        }
        ChangeKind::Added | ChangeKind::Modified | ChangeKind::Removed => state.version.max(before),
    };
    let changes = state.changes.iter();
    changes.map(|change| ((at(change.0, &change.1), change.1.path()), change)).collect()
}

fn change_json(kind: ChangeKind, document: &DocumentSnapshot, version: Version) -> Json {
    let word = match kind {
        ChangeKind::Added => "added",
        ChangeKind::Modified => "modified",
        ChangeKind::Removed => {
            let path = document.path().to_string();
            return json!({"type": "removed", "path": path, "version": version.0});
        }
    };
    let mut line = document_json(document);
    if let Json::Object(members) = &mut line {
        members.insert("type".to_owned(), json!(word));
        members.insert("version".to_owned(), json!(version.0));
    }
    line
}
