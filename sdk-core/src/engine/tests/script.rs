//! The language of the engine's tests. A line is an event; the result is the text of all actions.
//!
//! Documents are written `rooms/a:n=1,s=x`; versions `@10`; `seconds` may have a fraction.
//!
//! ```text
//! tick SECONDS | connected | lost TEXT | undecodable | online [window=N] [incarnation=N]
//! welcome [window=N] [incarnation=N] [version=N] | go-away CODE [SECONDS] | pong | error CODE
//! listen NAME QUERY [meta] | listen NAME DOC [meta] | unlisten NAME
//! set DOC [server] | add PATH FIELD N | update DOC | delete PATH | batch DOC DOC… | transaction DOC read=PATH@V
//! listening TARGET GROUP @V | reset TARGET | changes GROUP @V DOC… -PATH… ~PATH… [partial] | current @V
//! target-error TARGET CODE | committed ID @V [superseded[=FIELD]] | rejected ID CODE
//! get PATH… [from=cache|server] | transaction-get PATH | query QUERY [explain] [from=cache|server] | result REQUEST @V DOC… [more] [explained]
//! aggregated GROUP @V VALUE… [partial] | computed REQUEST @V VALUE… [explained] | request-error REQUEST CODE
//! wait | network on | network off | close | writes | retry ID | discard ID
//! restart | crash | disk-full | stages
//! ```
//!
//! A QUERY is `COLLECTION [group] [limit=N] [last=N] [offset=N] [order=FIELD[:desc]] [min=N] [any=N,N…]
//! [select=FIELD,…] [near]`; `min` and `any` are about the field `n`. With `count` or `sum=FIELD` it is an
//! aggregate. In `changes`, `-PATH` is a deletion and `~PATH` a document that left the target.

mod text;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use tidemark_protocol::model::*;
use tidemark_protocol::wire::codec::encode_document;
use tidemark_protocol::wire::server::{
    AggregateResult, Aggregated, Changes, Explanation, QueryResult, Removal, ServerMessage,
    SessionLimits, Status, Welcome,
};

use super::crash::CrashCache;
use crate::engine::{
    Action, ConnectionId, Engine, Event, ListenerId, Moment, Request, Settings, Source, Ticket,
};
use crate::error::Error;
use crate::subscription::ConnectionState;
use text::{listed, plain, reached, refused, row, sent, shown};

/// Runs a script from a new engine; gives the text of its actions.
pub(super) fn run(script: &str) -> String {
    Bench::new().run(script)
}

pub(super) struct Bench {
    engine: Engine,
    cache: CrashCache,
    /// Whether the stages of writes are printed.
    stages: bool,
    elapsed: Duration,
    connection: ConnectionId,
    tickets: u64,
    listeners: BTreeMap<String, ListenerId>,
}

/// The local clock, in microseconds: versions of the scripts are below it.
const WALL: i64 = 1_000_000;

impl Bench {
    pub(super) fn new() -> Bench {
        Bench::over(CrashCache::default())
    }

    pub(super) fn over(cache: CrashCache) -> Bench {
        Bench {
            engine: engine(&cache),
            cache,
            stages: false,
            elapsed: Duration::ZERO,
            connection: ConnectionId::default(),
            tickets: 0,
            listeners: BTreeMap::new(),
        }
    }

    pub(super) fn run(&mut self, script: &str) -> String {
        let mut out = String::new();
        for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let words: Vec<&str> = line.split_whitespace().collect();
            if self.prepare(words[0]) {
                continue;
            }
            if words[0] == "online" {
                // Three events, whose own actions every script would repeat.
                self.handle(Event::Tick);
                self.handle(Event::Connected { connection: self.connection });
                let actions = self.handle(self.welcome(&words));
                let news = actions.iter().filter(|action| !matches!(action, Action::State(_)));
                news.for_each(|action| self.print(action, &mut out));
                continue;
            }
            let event = self.event(&words);
            let actions = self.handle(event);
            actions.iter().for_each(|action| self.print(action, &mut out));
        }
        out
    }

    /// What is no event; whether it was.
    fn prepare(&mut self, word: &str) -> bool {
        match word {
            "stages" => self.stages = true,
            "disk-full" => self.cache.fail(),
            // The process ends, or the machine.
            "restart" => self.engine = engine(&self.cache),
            "crash" => {
                self.cache.crash(0);
                self.engine = engine(&self.cache);
            }
            _ => return false,
        }
        true
    }

    pub(super) fn handle(&mut self, event: Event) -> Vec<Action> {
        let wall = Timestamp::from_micros(WALL + self.elapsed.as_micros() as i64).unwrap();
        // In the middle of the jitter.
        let now = Moment { elapsed: self.elapsed, wall, random: u64::MAX / 2 };
        let mut actions = self.engine.handle(event, now);
        actions.extend(self.engine.settle());
        for action in &actions {
            if let Action::Connect { connection } = action {
                self.connection = *connection;
            }
        }
        actions
    }

    fn ticket(&mut self) -> Ticket {
        self.tickets += 1;
        Ticket(self.tickets)
    }

    pub(super) fn receive(&mut self, message: ServerMessage) -> Vec<Action> {
        self.handle(self.received(message))
    }

    fn received(&self, message: ServerMessage) -> Event {
        Event::Received { connection: self.connection, message }
    }

    fn welcome(&self, words: &[&str]) -> Event {
        self.received(ServerMessage::Welcome(Welcome {
            protocol_version: option(words, "version").unwrap_or(1),
            server_time: self.server_time(words),
            session: String::new(),
            incarnation: Incarnation(u64::from(option(words, "incarnation").unwrap_or(1))),
            limits: SessionLimits {
                frame_bytes: option(words, "frame").unwrap_or(1 << 20),
                targets: 100,
                commits_in_flight: option(words, "window").unwrap_or(10),
            },
            heartbeat: Duration::from_secs(15),
        }))
    }

    /// The server's clock: this one's, unless it is told to be so many seconds ahead.
    fn server_time(&self, words: &[&str]) -> Timestamp {
        let ahead = i64::from(option(words, "ahead").unwrap_or_default());
        let elapsed = self.elapsed.as_micros() as i64;
        Timestamp::from_micros(WALL + elapsed + ahead * 1_000_000).unwrap()
    }

    fn event(&mut self, words: &[&str]) -> Event {
        let connection = self.connection;
        match words[0] {
            "tick" => {
                self.elapsed += seconds(words[1]);
                Event::Tick
            }
            "connected" => Event::Connected { connection },
            "lost" => Event::Disconnected { connection, error: Error::unavailable(words[1]) },
            "late" => Event::Disconnected {
                connection: ConnectionId(connection.0 - 1),
                error: Error::unavailable("late"),
            },
            "undecodable" => {
                Event::Undecodable { connection, error: Error::new(Code::DataLoss, "garbled") }
            }
            "network" => Event::Network { enabled: words[1] == "on" },
            "close" => Event::Close,
            "wait" => Event::WaitForWrites { ticket: self.ticket() },
            "writes" => Event::ListWrites { ticket: self.ticket() },
            "retry" => Event::Retry { ticket: self.ticket(), id: write_id(words[1]) },
            "discard" => Event::Discard { ticket: self.ticket(), id: write_id(words[1]) },
            "listen" => self.listen(words),
            "unlisten" => Event::Unlisten { listener: self.listeners[words[1]] },
            "get" | "transaction-get" | "query" => self.request(words),
            "set" | "add" | "update" | "delete" | "batch" | "transaction" => self.write(words),
            _ => self.received(self.message(words)),
        }
    }

    fn listen(&mut self, words: &[&str]) -> Event {
        let listener = ListenerId(self.listeners.len() as u64 + 1);
        self.listeners.insert(words[1].to_owned(), listener);
        let target = match DocumentPath::parse(words[2]) {
            Ok(path) => Target::Documents(vec![path]),
            Err(_) => target(&words[2..]),
        };
        Event::Listen { listener, target, include_metadata: words.contains(&"meta") }
    }

    fn request(&mut self, words: &[&str]) -> Event {
        let request = match words[0] {
            "query" => {
                let explain = words.contains(&"explain");
                match target(&words[1..]) {
                    Target::Query(query) => Request::Query { query, explain },
                    Target::Aggregate(aggregate) => Request::Aggregate { aggregate, explain },
                    Target::Documents(_) => unreachable!(),
                }
            }
            kind => Request::Get {
                paths: words[1..]
                    .iter()
                    .filter(|word| !word.starts_with("from="))
                    .map(|word| path(word))
                    .collect(),
                overlay: kind == "get",
            },
        };
        let source = match words.iter().find_map(|word| word.strip_prefix("from=")) {
            Some("cache") => Source::Cache,
            Some("server") => Source::Server,
            Some(other) => panic!("there is no source {other}"),
            None if words[0] == "transaction-get" => Source::Server,
            None => Source::Default,
        };
        let ticket = self.ticket();
        Event::Request { ticket, request, source, timeout: Duration::from_secs(60) }
    }

    fn write(&mut self, words: &[&str]) -> Event {
        let ticket = self.ticket();
        let mut writes = Vec::new();
        let mut reads = Vec::new();
        let plain = |path, op| Write { path, op, transforms: Vec::new(), precondition: None };
        match words[0] {
            "delete" => writes.push(plain(path(words[1]), WriteOp::Delete)),
            "add" => {
                let field = FieldPath::parse(words[2]).unwrap();
                let transform = Transform::Increment(value(words[3]));
                let op = WriteOp::Update { fields: Fields::new(), mask: Vec::new() };
                let transforms = vec![FieldTransform { field, transform }];
                writes.push(Write { transforms, ..plain(path(words[1]), op) });
            }
            "update" => {
                let (path, fields) = parse_document(words[1]);
                let mask = fields.keys().map(|name| FieldPath::parse(name).unwrap()).collect();
                let precondition = Some(Precondition::Exists(true));
                let op = WriteOp::Update { fields, mask };
                writes.push(Write { precondition, ..plain(path, op) });
            }
            _ => {
                for word in &words[1..] {
                    if let Some(read) = word.strip_prefix("read=") {
                        let (name, version) = read.split_once('@').unwrap();
                        reads.push(Read {
                            path: path(name),
                            version: Version(version.parse().unwrap()),
                        });
                    } else if *word == "server" {
                        let field = FieldPath::parse("at").unwrap();
                        let transform = Transform::ServerTimestamp;
                        let last: &mut Write = writes.last_mut().unwrap();
                        last.transforms.push(FieldTransform { field, transform });
                    } else {
                        let (path, fields) = parse_document(word);
                        writes.push(plain(path, WriteOp::Set(fields)));
                    }
                }
            }
        }
        Event::Commit { ticket, writes, reads, local: words[0] != "transaction" }
    }

    fn message(&self, words: &[&str]) -> ServerMessage {
        let number = |index: usize| words[index].parse::<u32>().unwrap();
        let status = |word: &str| Status { code: code(word), message: "because".to_owned() };
        match words[0] {
            "welcome" => match self.welcome(words) {
                Event::Received { message, .. } => message,
                _ => unreachable!(),
            },
            "go-away" => ServerMessage::GoAway {
                status: status(words[1]),
                reconnect_after: words.get(2).map(|word| seconds(word)),
            },
            "pong" => ServerMessage::Pong { nonce: 1, server_time: Timestamp::default() },
            "error" => ServerMessage::Error { status: status(words[1]) },
            "listening" => ServerMessage::Listening {
                target: TargetId(number(1)),
                group: number(2),
                version: version(words[3]),
            },
            "reset" => {
                ServerMessage::Reset { target: TargetId(number(1)), reason: "too old".to_owned() }
            }
            "changes" => ServerMessage::Changes(changes(number(1), &words[2..])),
            "current" => ServerMessage::Current { version: version(words[1]) },
            "target-error" => {
                ServerMessage::TargetError { target: TargetId(number(1)), status: status(words[2]) }
            }
            "committed" => ServerMessage::Committed {
                write_id: WriteId(u64::from(number(1))),
                version: version(words[2]),
                results: vec![WriteResult { superseded: superseded(words), ..Default::default() }],
            },
            "rejected" => ServerMessage::Rejected {
                write_id: WriteId(u64::from(number(1))),
                status: status(words[2]),
            },
            "result" => {
                let Changes { version, documents, .. } = changes(0, &words[2..]);
                ServerMessage::Result(QueryResult {
                    request: number(1),
                    version,
                    documents,
                    missing: Vec::new(),
                    more: words.contains(&"more"),
                    explanation: explanation(words),
                })
            }
            "aggregated" => ServerMessage::Aggregated(Aggregated {
                group: number(1),
                version: version(words[2]),
                values: values(&words[3..]),
                partial: words.contains(&"partial"),
            }),
            "computed" => ServerMessage::AggregateResult(AggregateResult {
                request: number(1),
                version: version(words[2]),
                values: values(&words[3..]),
                explanation: explanation(words),
            }),
            "request-error" => {
                ServerMessage::RequestError { request: number(1), status: status(words[2]) }
            }
            other => panic!("the scripts have no event {other}"),
        }
    }

    fn print(&self, action: &Action, out: &mut String) {
        let name = |listener: &ListenerId| {
            let found = self.listeners.iter().find(|(_, id)| *id == listener);
            found.map_or("?", |(name, _)| name).to_owned()
        };
        match action {
            Action::Connect { connection } => writeln!(out, "connect {}", connection.0),
            Action::Send(message) => writeln!(out, "send {}", sent(message)),
            Action::Disconnect => writeln!(out, "disconnect"),
            Action::State(ConnectionState::Connecting) => writeln!(out, "state connecting"),
            Action::State(ConnectionState::Online) => writeln!(out, "state online"),
            Action::State(ConnectionState::Offline { reason }) => {
                writeln!(out, "state offline: {reason}")
            }
            Action::Snapshot { listener, snapshot } => {
                writeln!(out, "{} {}", name(listener), shown(snapshot))
            }
            Action::ListenerFailed { listener, error } => {
                writeln!(out, "{} failed: {error}", name(listener))
            }
            Action::WriteDone { ticket, outcome: Ok(committed) } => {
                writeln!(out, "write {} committed @{}", ticket.0, committed.version)
            }
            Action::WriteDone { ticket, outcome: Err(error) } => {
                writeln!(out, "write {} failed: {error}", ticket.0)
            }
            Action::Aggregated { listener, snapshot } => {
                let values = snapshot.values().iter();
                let values: Vec<String> =
                    values.map(|(name, value)| format!("{name}={}", plain(value))).collect();
                let cache = if snapshot.metadata().from_cache { " cache" } else { "" };
                let version = snapshot.version();
                writeln!(out, "{} @{version} {}{cache}", name(listener), values.join(" "))
            }
            Action::RequestDone { ticket, outcome: Ok(answer) } => {
                let documents = answer.documents.iter().map(row);
                let shown: Vec<String> = documents.chain(answer.values.iter().map(plain)).collect();
                let explained =
                    answer.explanation.as_ref().map_or_else(String::new, |explanation| {
                        format!(" explained: {}", explanation.steps.join(", "))
                    });
                let (version, shown) = (answer.version, shown.join(" "));
                let cache = if answer.metadata.from_cache { " cache" } else { "" };
                writeln!(out, "request {} @{version} [{shown}]{cache}{explained}", ticket.0)
            }
            Action::RequestDone { ticket, outcome: Err(error) } => {
                writeln!(out, "request {} failed: {error}", ticket.0)
            }
            Action::WritesSettled { ticket } => writeln!(out, "settled {}", ticket.0),
            Action::WriteStored { .. } | Action::Write(_) if !self.stages => Ok(()),
            Action::WriteStored { ticket, id } => writeln!(out, "write {} is {id}", ticket.0),
            Action::Write(event) => writeln!(out, "{}", reached(event)),
            Action::WritesListed { ticket, pending, rejected } => {
                let pending: Vec<String> = pending.iter().map(listed).collect();
                let rejected: Vec<String> = rejected.iter().map(refused).collect();
                let (pending, rejected) = (pending.join(", "), rejected.join(", "));
                writeln!(out, "writes {}: pending [{pending}] rejected [{rejected}]", ticket.0)
            }
            Action::Discarded { ticket, outcome: Ok(()) } => {
                writeln!(out, "discarded {}", ticket.0)
            }
            Action::Discarded { ticket, outcome: Err(error) } => {
                writeln!(out, "discarded {} failed: {error}", ticket.0)
            }
            Action::Stop => writeln!(out, "stop"),
        }
        .unwrap();
    }
}

fn engine(cache: &CrashCache) -> Engine {
    let settings = Settings {
        project: "default".to_owned(),
        database: "(default)".to_owned(),
        token: String::new(),
        agent: "test".to_owned(),
        client_id: ClientId([1; 16]),
    };
    Engine::new(settings, Box::new(cache.clone())).unwrap()
}

/// `superseded` for the whole write, `superseded=FIELD` for a field.
fn superseded(words: &[&str]) -> Superseded {
    match words.iter().find_map(|word| word.strip_prefix("superseded")) {
        None => Superseded::Nothing,
        Some("") => Superseded::Whole,
        Some(field) => Superseded::Fields(vec![FieldPath::parse(&field[1..]).unwrap()]),
    }
}

fn write_id(word: &str) -> WriteId {
    WriteId(word.parse().unwrap())
}

fn changes(group: u32, words: &[&str]) -> Changes {
    let mut changes = Changes { group, version: version(words[0]), ..Changes::default() };
    for word in &words[1..] {
        match (word.chars().next(), *word) {
            (_, "partial") => changes.partial = true,
            (_, "more" | "explained") => {}
            (Some('-'), _) => {
                changes.removals.push(Removal { path: path(&word[1..]), deleted: true });
            }
            (Some('~'), _) => {
                changes.removals.push(Removal { path: path(&word[1..]), deleted: false });
            }
            _ => changes.documents.push(encode_document(&document(word, changes.version))),
        }
    }
    changes
}

/// A document, created at version 1; its own version may be given after an `@`.
pub(super) fn document(text: &str, at: Version) -> Document {
    let (text, at) = match text.split_once('@') {
        Some((text, own)) => (text, Version(own.parse().unwrap())),
        None => (text, at),
    };
    let (path, fields) = parse_document(text);
    Document {
        path,
        fields,
        create_version: Version(1),
        update_version: at,
        merge: Default::default(),
    }
}

fn parse_document(text: &str) -> (DocumentPath, Fields) {
    let (name, fields) = text.split_once(':').unwrap_or((text, ""));
    let field = |text: &str| {
        let (name, text) = text.split_once('=').unwrap();
        (name.to_owned(), value(text))
    };
    (path(name), fields.split(',').filter(|text| !text.is_empty()).map(field).collect())
}

pub(super) fn path(text: &str) -> DocumentPath {
    DocumentPath::parse(text).unwrap()
}

fn value(text: &str) -> Value {
    text.parse().map_or_else(|_| Value::from(text), Value::Integer)
}

fn version(text: &str) -> Version {
    Version(text.strip_prefix('@').unwrap().parse().unwrap())
}

fn seconds(text: &str) -> Duration {
    Duration::from_secs_f64(text.parse().unwrap())
}

fn option(words: &[&str], name: &str) -> Option<u32> {
    let found = words.iter().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    found.map(|text| text.parse().unwrap())
}

fn code(name: &str) -> Code {
    *Code::ALL.iter().find(|code| code.name() == name).unwrap()
}

pub(super) fn query(words: &[&str]) -> Query {
    let mut query = match words.contains(&"group") {
        true => Query::group(words[0]),
        false => Query::collection(&CollectionPath::parse(words[0]).unwrap()),
    };
    query.limit = option(words, "limit");
    query.offset = option(words, "offset").unwrap_or_default();
    if let Some(limit) = option(words, "last") {
        query = query.with_limit_to_last(limit);
    }
    let field = |name: &str| FieldPath::parse(name).unwrap();
    let text = |name: &str| words.iter().find_map(|word| word.strip_prefix(name));
    if let Some(name) = text("order=") {
        query = match name.strip_suffix(":desc") {
            Some(name) => query.with_order(field(name), Direction::Descending),
            None => query.with_order(field(name), Direction::Ascending),
        };
    }
    if let Some(numbers) = text("any=") {
        let equal = |text: &str| {
            let (field, operator, value) = (field("n"), Operator::Equal, value(text));
            Filter::Field(FieldFilter { field, operator, value })
        };
        query = query.and(Filter::Or(numbers.split(',').map(equal).collect()));
    }
    if let Some(fields) = text("select=") {
        query.projection = Some(fields.split(',').map(field).collect());
    }
    if words.contains(&"near") {
        query.nearest = Some(Nearest {
            field: field("v"),
            vector: vec![1.0],
            measure: DistanceMeasure::Euclidean,
            limit: 3,
            threshold: None,
            distance_field: None,
        });
    }
    if let Some(min) = option(words, "min") {
        query.filter = Some(Filter::Field(FieldFilter {
            field: field("n"),
            operator: Operator::GreaterThanOrEqual,
            value: Value::Integer(i64::from(min)),
        }));
    }
    query
}

/// A query, or an aggregate of it.
pub(super) fn target(words: &[&str]) -> Target {
    let query = query(words);
    let aggregation = |word: &&str| {
        let kind = match word.strip_prefix("sum=") {
            Some(field) => AggregationKind::Sum(FieldPath::parse(field).unwrap()),
            None if *word == "count" => AggregationKind::Count { up_to: None },
            None => return None,
        };
        Some(Aggregation { alias: word.split('=').next().unwrap().to_owned(), kind })
    };
    let aggregations: Vec<Aggregation> = words.iter().filter_map(aggregation).collect();
    match aggregations.is_empty() {
        true => Target::Query(query),
        false => Target::Aggregate(AggregateQuery { query, aggregations }),
    }
}

fn values(words: &[&str]) -> Vec<Value> {
    let words = words.iter().filter(|word| !matches!(**word, "partial" | "explained"));
    words.map(|word| value(word)).collect()
}

fn explanation(words: &[&str]) -> Option<Explanation> {
    let steps = vec!["scan".to_owned()];
    words.contains(&"explained").then(|| Explanation { steps, ..Explanation::default() })
}
