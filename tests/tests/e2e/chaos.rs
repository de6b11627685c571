//! The main promise under fire: writers, listeners, a server that is killed, connections that are dropped, readers
//! that stall; afterwards everything is exact, and every listener was told each state in order.
//!
//! The long run is ignored by default: `cargo test -p tidemark-tests --test e2e -- --ignored chaos`, with
//! `CHAOS_KILLS`, `CHAOS_DROPS` and `CHAOS_MESSAGES` to make it longer still.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use tidemark_core::{Client, Direction, Filter, Operator, PendingWrite, Query, Value};
use tidemark_protocol::model::{
    DocumentPath, FieldPath, FieldTransform, Transform, Write, WriteOp,
};
use tidemark_tests::history::State;
use tidemark_tests::observe::{PATIENCE, within_time};
use tidemark_tests::plays::{self, Message};
use tidemark_tests::recorder::Expect;
use tidemark_tests::{Effect, History, Recorder, Seed, ServerOptions, ServerProcess};
use tokio::sync::watch;
use tokio::task::JoinSet;

const WRITERS: usize = 4;
const IN_FLIGHT: usize = 24;
const COUNTERS: usize = 5;
const STALLS: usize = 3;
/// How many of the documents below each writer writes in the end, while a reader stalls: together more
/// than the sockets on the way can hold, which is some ten megabytes.
const FLOOD: usize = 320;
/// Bytes of the documents whose only purpose is to be more than a reader takes that has stalled.
const BALLAST: usize = 16 * 1024;
/// A small outbox, so that a stalled reader is coalesced and falls back to its token.
const OUTBOX: usize = 128 * 1024;
/// How long the whole run may take for each kill.
const PATIENCE_PER_KILL: Duration = Duration::from_secs(60);

fn setting(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

type Step = (String, Effect);

/// What one writer does, in order. A document belongs to one writer; counters belong to all.
fn script(messages: &[Message], writer: usize, rng: &mut StdRng) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut written: Vec<String> = Vec::new();
    for message in messages.iter().skip(writer).step_by(WRITERS) {
        // All in one collection, so that it is a large one; some of them in the room that all listen to.
        let path = if message.seq % 8 == 0 {
            format!("rooms/busy/messages/{}-{}", message.room, message.seq)
        } else {
            format!("lines/{}-{}", message.room, message.seq)
        };
        steps.push((path.clone(), Effect::Set(message_fields(message))));
        written.push(path);
        let earlier = written.choose(rng).expect("one was just added").clone();
        match rng.random_range(0..10) {
            0 => steps.push((earlier, Effect::Merge(edited(rng.random_range(0..1_000))))),
            1 => {
                steps.push((earlier.clone(), Effect::Delete));
                written.retain(|path| *path != earlier);
            }
            2..4 => steps.push(ballast(writer, 0, steps.len())),
            4..7 => {
                let counter = format!("counters/{}", rng.random_range(0..COUNTERS));
                steps.push((counter, Effect::Increment("n".to_owned(), rng.random_range(1..4))));
            }
            _ => {}
        }
    }
    steps.extend((0..FLOOD).map(|number| ballast(writer, number % 3, number)));
    steps
}

fn ballast(writer: usize, number: usize, content: usize) -> Step {
    let text = format!("{content:->BALLAST$}");
    (format!("ballast/{writer}-{number}"), Effect::Set(crate::fields([("text", text.into())])))
}

fn message_fields(message: &Message) -> BTreeMap<String, Value> {
    let text = message.json["text"].as_str().unwrap().to_owned();
    let from = message.json["from"].as_str().unwrap().to_owned();
    crate::fields([("seq", Value::from(message.seq)), ("text", text.into()), ("from", from.into())])
}

fn edited(seq: i64) -> BTreeMap<String, Value> {
    crate::fields([("seq", Value::from(seq)), ("edited", Value::from(true))])
}

fn begin(client: &Client, (path, effect): &Step) -> PendingWrite {
    let doc = client.doc(path).unwrap();
    let owned = |fields: &BTreeMap<String, Value>| fields.clone().into_iter();
    match effect {
        Effect::Set(fields) => doc.set_fields(owned(fields)),
        Effect::Merge(fields) => doc.update(owned(fields)),
        Effect::Increment(field, by) => client.commit(vec![increment(path, field, *by)]),
        Effect::Delete => doc.delete(),
    }
}

/// Adds to a number of a document that may not exist yet.
fn increment(path: &str, field: &str, by: i64) -> Write {
    let transform = Transform::Increment(Value::from(by));
    Write {
        path: DocumentPath::parse(path).unwrap(),
        op: WriteOp::Update { fields: BTreeMap::new(), mask: Vec::new() },
        transforms: vec![FieldTransform { field: FieldPath::parse(field).unwrap(), transform }],
        precondition: None,
    }
}

/// Runs a script with many writes in flight; each must be acknowledged.
async fn write(
    client: Client,
    steps: Vec<Step>,
    acknowledged: Arc<watch::Sender<usize>>,
) -> History {
    let mut history = History::default();
    let mut flying = FuturesUnordered::new();
    let mut steps = steps.into_iter();
    loop {
        while flying.len() < IN_FLIGHT {
            let Some(step) = steps.next() else { break };
            flying.push(begin(&client, &step).map(|result| (step, result)));
        }
        let Some((step, result)) = flying.next().await else { return history };
        let committed = result.unwrap_or_else(|error| panic!("{step:?} was refused: {error}"));
        history.committed(committed.version, vec![step]);
        acknowledged.send_modify(|count| *count += 1);
    }
}

/// What is listened to, and the same by hand.
fn targets(client: &Client) -> Vec<(&'static str, Query, Expect)> {
    let collection = |path: &str| client.collection(path).unwrap().query();
    let busy = || collection("rooms/busy/messages");
    vec![
        ("lines", collection("lines"), |state| under(state, "lines/")),
        ("busy", busy().order_by("seq", Direction::Ascending), |state| {
            by_seq(state, "rooms/busy/")
        }),
        ("newest", busy().order_by("seq", Direction::Descending).limit(10), |state| {
            by_seq(state, "rooms/busy/").into_iter().rev().take(10).collect()
        }),
        ("few", collection("lines").filter("seq", Operator::LessThan, 4).limit(20), |state| {
            let few = by_seq(state, "lines/").into_iter().filter(|path| seq(state, path) < 4);
            few.take(20).collect()
        }),
        ("edited", collection("lines").filter("edited", Operator::Equal, true), |state| {
            let edited =
                |path: &&str| state[*path].fields.get("edited") == Some(&Value::from(true));
            under(state, "lines/").into_iter().filter(edited).collect()
        }),
        ("last", busy().order_by("seq", Direction::Ascending).limit_to_last(7), |state| {
            let all = by_seq(state, "rooms/busy/");
            all[all.len().saturating_sub(7)..].to_vec()
        }),
        (
            "page",
            collection("lines").order_by("seq", Direction::Ascending).offset(5).limit(10),
            |state| by_seq(state, "lines/").into_iter().skip(5).take(10).collect(),
        ),
        (
            "group",
            client.collection_group("messages").filter("seq", Operator::GreaterThan, 40),
            |state| {
                let all = by_seq(state, "rooms/busy/").into_iter();
                all.filter(|path| seq(state, path) > 40).collect()
            },
        ),
        (
            "either",
            collection("lines").matching(Filter::any([
                Filter::field("seq", Operator::In, vec![1, 2]),
                Filter::field("edited", Operator::Equal, true),
            ])),
            |state| {
                let is_edited =
                    |path: &str| state[path].fields.get("edited") == Some(&Value::from(true));
                let all = under(state, "lines/").into_iter();
                all.filter(|path| [1, 2].contains(&seq(state, path)) || is_edited(path)).collect()
            },
        ),
        ("counters", collection("counters"), |state| under(state, "counters/")),
        ("ballast", collection("ballast"), |state| under(state, "ballast/")),
    ]
}

fn under<'a>(state: &'a State, prefix: &str) -> Vec<&'a str> {
    let from = state.range(prefix.to_owned()..).map(|(path, _)| path.as_str());
    from.take_while(|path| path.starts_with(prefix)).collect()
}

fn by_seq<'a>(state: &'a State, prefix: &str) -> Vec<&'a str> {
    let mut paths = under(state, prefix);
    paths.sort_by_key(|path| (seq(state, path), *path));
    paths
}

fn seq(state: &State, path: &str) -> i64 {
    match state[path].fields.get("seq") {
        Some(Value::Integer(seq)) => *seq,
        other => panic!("{path} has {other:?}"),
    }
}

/// Records a listener until the writers are done and it shows the final state.
async fn record(
    name: String,
    query: Query,
    expect: Expect,
    mut end: watch::Receiver<Option<Arc<State>>>,
) -> Recorder {
    let mut recorder = Recorder::new(&name);
    let mut listener = query.listen();
    loop {
        let last = end.borrow_and_update().clone();
        let difference = last.as_ref().map(|last| recorder.difference(last, expect));
        let patience = match &difference {
            Some(None) => return recorder,
            Some(Some(_)) => PATIENCE,
            None => Duration::MAX,
        };
        tokio::select! {
            item = tokio::time::timeout(patience, listener.next()) => match item {
                Ok(Some(Ok(snapshot))) => recorder.take(&snapshot),
                Ok(other) => panic!("{name}: {other:?}"),
                Err(_) => panic!("{}", difference.flatten().unwrap_or_default()),
            },
            changed = end.changed(), if last.is_none() => changed.expect("the test goes on"),
        }
    }
}

/// What a task of the test has to show in the end.
enum Done {
    Written(History),
    Recorded(Recorder, Expect),
}

/// All writers and listeners. The test fails as soon as one of them does.
#[derive(Default)]
struct Crew {
    tasks: JoinSet<Done>,
    histories: Vec<History>,
    recorders: Vec<(Recorder, Expect)>,
}

impl Crew {
    /// Waits for the next one to be done.
    async fn next(&mut self) {
        match self.tasks.join_next().await.expect("somebody is still working") {
            Ok(Done::Written(history)) => self.histories.push(history),
            Ok(Done::Recorded(recorder, expect)) => self.recorders.push((recorder, expect)),
            Err(failed) => std::panic::resume_unwind(failed.into_panic()),
        }
    }

    /// Looks after them until something happens.
    async fn work_until(&mut self, event: impl Future<Output = ()>) {
        tokio::pin!(event);
        loop {
            tokio::select! {
                () = &mut event => return,
                () = self.next() => {}
            }
        }
    }
}

/// What slow readers made the server do, in all its lives.
#[derive(Debug, Default)]
struct Slowness {
    coalesced: u64,
    resyncs: u64,
}

impl Slowness {
    async fn add(&mut self, server: &ServerProcess) {
        self.coalesced += server.metric("coalesced_total").await;
        self.resyncs += server.metric("resyncs_total").await;
    }
}

#[derive(Clone, Copy, Debug)]
enum Trouble {
    Kill,
    Drop(usize),
    Stall(usize),
    Heal,
}

/// The troubles in order, each at a number of acknowledged writes.
fn plan(
    rng: &mut StdRng,
    names: usize,
    total: usize,
    kills: usize,
    drops: usize,
) -> Vec<(usize, Trouble)> {
    let mut plan = Vec::new();
    for number in 0..kills {
        plan.push((at(rng, total, number, kills), Trouble::Kill));
    }
    for number in 0..drops {
        plan.push((at(rng, total, number, drops), Trouble::Drop(rng.random_range(0..names))));
    }
    for number in 0..STALLS {
        // Two in three of the run: a reader that stalls shortly stalls in vain.
        let (begin, end) =
            (at(rng, total, 3 * number, 3 * STALLS), at(rng, total, 3 * number + 2, 3 * STALLS));
        plan.push((begin, Trouble::Stall(rng.random_range(WRITERS..names))));
        plan.push((end, Trouble::Heal));
    }
    plan.push((total, Trouble::Stall(rng.random_range(WRITERS..names))));
    plan.sort_by_key(|(at, _)| *at);
    plan
}

/// Somewhere in the given one of equal parts of the run, before its last tenth.
fn at(rng: &mut StdRng, total: usize, part: usize, parts: usize) -> usize {
    let length = total * 9 / 10 / parts;
    part * length + rng.random_range(0..length)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_drops_and_slow_readers_change_nothing() {
    run(4, 6, &plays::messages(1_800)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "minutes long"]
async fn chaos_of_twenty_kills_and_twenty_drops() {
    let messages = plays::messages(setting("CHAOS_MESSAGES", 8_000));
    run(setting("CHAOS_KILLS", 20), setting("CHAOS_DROPS", 20), &messages).await;
}

async fn run(kills: usize, drops: usize, messages: &[Message]) {
    let seed = Seed::or(20);
    let options = ServerOptions { outbox_bytes: Some(OUTBOX), ..ServerOptions::default() };
    let mut server = ServerProcess::with(options).await;
    let patience = PATIENCE_PER_KILL * u32::try_from(kills + 1).unwrap();

    let scripts: Vec<_> =
        (0..WRITERS).map(|writer| script(messages, writer, &mut seed.rng(writer as u64))).collect();
    let total: usize = scripts.iter().map(Vec::len).sum();
    let mut names: Vec<String> = (0..WRITERS).map(|number| format!("writer {number}")).collect();

    let (end, ended) = watch::channel(None);
    let mut crew = Crew::default();
    for number in 0..2 {
        let name = format!("reader {number}");
        let client = server.client(&name);
        for (target, query, expect) in targets(&client) {
            let name = format!("{name} {target}");
            let recording = record(name, query, expect, ended.clone());
            crew.tasks.spawn(recording.map(move |recorder| Done::Recorded(recorder, expect)));
        }
        names.push(name);
    }
    let acknowledged = Arc::new(watch::Sender::new(0));
    for (steps, name) in scripts.into_iter().zip(&names) {
        let writing = write(server.client(name), steps, Arc::clone(&acknowledged));
        crew.tasks.spawn(writing.map(Done::Written));
    }

    let mut slowness = Slowness::default();
    let mut progress = acknowledged.subscribe();
    for (at, trouble) in plan(&mut seed.rng(99), names.len(), total - WRITERS * FLOOD, kills, drops)
    {
        let reached = async { drop(progress.wait_for(|count| *count >= at).await) };
        within_time(patience, &format!("{at} of {total} writes"), crew.work_until(reached)).await;
        match trouble {
            Trouble::Kill => {
                slowness.add(&server).await;
                server.kill9().await;
                server.restart().await;
            }
            Trouble::Drop(name) => server.net.drop_connections(&names[name]),
            Trouble::Stall(name) => server.net.stall(&names[name]),
            Trouble::Heal => names.iter().for_each(|name| server.net.heal(name)),
        }
    }
    within_time(patience, "all writes", async {
        while crew.histories.len() < WRITERS {
            crew.next().await;
        }
    })
    .await;
    let mut history = History::default();
    crew.histories.drain(..).for_each(|written| history.extend(written));
    assert_eq!(history.len(), total, "each write was acknowledged once");
    names.iter().for_each(|name| server.net.heal(name));

    let last = Arc::new(history.last());
    end.send(Some(Arc::clone(&last))).unwrap();
    within_time(patience, "all listeners at the final state", async {
        while !crew.tasks.is_empty() {
            crew.next().await;
        }
    })
    .await;
    slowness.add(&server).await;
    assert!(slowness.coalesced > 0 && slowness.resyncs > 0, "no reader was slow: {slowness:?}");
    for (recorder, expect) in crew.recorders {
        assert!(recorder.len() > 1, "a listener was told states on the way");
        recorder.check(&history, expect);
    }

    // And what is stored is the same, read anew.
    let client = server.client("inspector");
    let mut found = 0;
    for path in ["lines", "rooms/busy/messages", "counters", "ballast"] {
        let snapshot = client.collection(path).unwrap().query().get().await.unwrap();
        for document in snapshot.documents() {
            let expected = &last[document.path().as_str()];
            assert_eq!(document.fields(), Some(&expected.fields), "{}", document.path());
            let versions = (document.create_version(), document.update_version());
            assert_eq!(versions, (expected.created, expected.updated), "{}", document.path());
        }
        found += snapshot.documents().len();
    }
    assert_eq!(found, last.len());
}
