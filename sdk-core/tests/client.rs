//! The client over a transport in memory: driver, references, listeners and transactions together,
//! against a few lines of a server.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::channel::mpsc;
use futures::{SinkExt, StreamExt};
use serde::{Deserialize, Serialize};
use tidemark_core::runtime::native::NativeRuntime;
use tidemark_core::runtime::{Runtime, Task, Transport};
use tidemark_core::{
    Aggregate, ChangeKind, Client, ClientBuilder, Code, ConnectionState, DistanceMeasure,
    DocumentSnapshot, Error, FieldValue, Operator, Source, Value, Version, WriteEvent, WriteStage,
};
use tidemark_protocol::model::{
    AggregateQuery, AggregateState, Document, DocumentPath, Incarnation, Query, Target, TargetId,
    Timestamp, WriteResult, apply_write, check_precondition,
};
use tidemark_protocol::wire::client::{ClientMessage, Commit};
use tidemark_protocol::wire::codec::{decode_client, encode_document, encode_server};
use tidemark_protocol::wire::server::{
    AggregateResult, Aggregated, Changes, Explanation, QueryResult, Removal, ServerMessage,
    SessionLimits, Status, Welcome,
};

/// The tokio clock with a network of our own.
struct MemoryRuntime {
    native: NativeRuntime,
    server: Arc<Mutex<Server>>,
}

impl Runtime for MemoryRuntime {
    fn elapsed(&self) -> Duration {
        self.native.elapsed()
    }
    fn wall(&self) -> Timestamp {
        self.native.wall()
    }
    fn random(&self) -> u64 {
        self.native.random()
    }
    fn spawn(&self, name: &'static str, task: Task<()>) {
        self.native.spawn(name, task);
    }
    fn sleep(&self, duration: Duration) -> Task<()> {
        self.native.sleep(duration)
    }
    fn connect(&self, url: &str) -> Task<Result<Transport, Error>> {
        assert_eq!(url, "ws://memory/v1/sync");
        let (to_client, stream) = mpsc::unbounded();
        let mut server = self.server.lock().unwrap();
        server.connections += 1;
        server.targets.clear();
        server.to_client = Some(to_client);
        let server = self.server.clone();
        let sink = futures::sink::unfold((), move |(), frame: Bytes| {
            let message = decode_client(&frame, 1 << 20).unwrap();
            server.lock().unwrap().receive(message);
            std::future::ready(Ok(()))
        });
        let sink = Box::pin(sink.buffer(8));
        Box::pin(std::future::ready(Ok(Transport { sink, stream: Box::pin(stream) })))
    }
}

#[derive(Default)]
struct Server {
    documents: BTreeMap<DocumentPath, Document>,
    version: u64,
    targets: BTreeMap<TargetId, Target>,
    to_client: Option<mpsc::UnboundedSender<Result<Bytes, Error>>>,
    connections: usize,
    /// How many transactions to abort.
    abort: usize,
    /// Whether commits wait for an answer that never comes.
    mute: bool,
}

impl Server {
    fn send(&self, message: &ServerMessage) {
        if let Some(to_client) = &self.to_client {
            // The client may have left.
            let _ = to_client.unbounded_send(Ok(encode_server(message)));
        }
    }

    fn drop_connection(&mut self) {
        if let Some(to_client) = self.to_client.take() {
            let _ = to_client.unbounded_send(Err(Error::new(Code::Unavailable, "dropped")));
        }
    }

    fn receive(&mut self, message: ClientMessage) {
        let version = Version(self.version);
        match message {
            ClientMessage::Hello(_) => self.send(&ServerMessage::Welcome(Welcome {
                protocol_version: 1,
                server_time: Timestamp::default(),
                session: String::new(),
                incarnation: Incarnation(1),
                limits: SessionLimits { frame_bytes: 1 << 20, targets: 10, commits_in_flight: 4 },
                heartbeat: Duration::from_secs(15),
            })),
            ClientMessage::Listen(listen) => {
                let (target, group) = (listen.target_id, listen.target_id.0);
                self.send(&ServerMessage::Listening { target, group, version });
                self.show(target, &listen.target, Vec::new());
                self.send(&ServerMessage::Current { version });
                self.targets.insert(target, listen.target);
            }
            ClientMessage::Unlisten { target } => {
                self.targets.remove(&target);
            }
            ClientMessage::Commit(commit) if !self.mute => self.commit(&commit),
            ClientMessage::Get { request, paths } => {
                let found = paths.iter().filter_map(|path| self.documents.get(path));
                let documents = found.map(encode_document).collect();
                let result = QueryResult { request, version, documents, ..QueryResult::default() };
                self.send(&ServerMessage::Result(result));
            }
            ClientMessage::Query { request, query, explain } => {
                let documents = self.select(&query);
                let results = documents.len() as u64;
                let explanation =
                    explain.then(|| Explanation { results, ..Explanation::default() });
                let result = QueryResult {
                    request,
                    version,
                    documents,
                    explanation,
                    ..QueryResult::default()
                };
                self.send(&ServerMessage::Result(result));
            }
            ClientMessage::Aggregate { request, aggregate, explain } => {
                let values = self.compute(&aggregate);
                let explanation = explain.then(Explanation::default);
                let result = AggregateResult { request, version, values, explanation };
                self.send(&ServerMessage::AggregateResult(result));
            }
            ClientMessage::Commit(_)
            | ClientMessage::Ping { .. }
            | ClientMessage::Digest { .. }
            | ClientMessage::Acknowledge { .. } => {}
        }
    }

    /// All that a target has now.
    fn show(&self, id: TargetId, target: &Target, removals: Vec<Removal>) {
        let (group, version) = (id.0, Version(self.version));
        let documents = match target {
            Target::Query(query) => self.select(query),
            Target::Documents(paths) => {
                let found = paths.iter().filter_map(|path| self.documents.get(path));
                found.map(encode_document).collect()
            }
            Target::Aggregate(aggregate) => {
                let values = self.compute(aggregate);
                let aggregated = Aggregated { group, version, values, partial: true };
                return self.send(&ServerMessage::Aggregated(aggregated));
            }
        };
        let changes = Changes { group, version, documents, removals, partial: true };
        self.send(&ServerMessage::Changes(changes));
    }

    fn matching(&self, query: &Query) -> Vec<&Document> {
        let mut found: Vec<&Document> =
            self.documents.values().filter(|document| query.matches(document)).collect();
        found.sort_by(|a, b| query.compare(a, b));
        found
    }

    fn select(&self, query: &Query) -> Vec<Bytes> {
        let cut = |document: &&Document| match &query.projection {
            Some(fields) => encode_document(&document.projected(fields)),
            None => encode_document(document),
        };
        self.matching(query).iter().map(cut).collect()
    }

    fn compute(&self, aggregate: &AggregateQuery) -> Vec<Value> {
        let mut state = AggregateState::new(&aggregate.aggregations);
        self.matching(&aggregate.query).iter().for_each(|document| state.add(document));
        state.values()
    }

    fn commit(&mut self, commit: &Commit) {
        let write_id = commit.write_id;
        let refused = if commit.reads.is_empty() || self.abort == 0 {
            let conflict = |write| check_precondition(self.documents.get(path(write)), write).err();
            commit.writes.iter().find_map(conflict)
        } else {
            self.abort -= 1;
            Some(tidemark_protocol::model::ModelError::new(Code::Aborted, "again"))
        };
        if let Some(error) = refused {
            let status = Status { code: error.code, message: error.message };
            return self.send(&ServerMessage::Rejected { write_id, status });
        }
        self.version += 1;
        let version = Version(self.version);
        for write in &commit.writes {
            match apply_write(self.documents.get(&write.path), None, write, version.into())
                .unwrap()
                .document
            {
                Some(document) => self.documents.insert(write.path.clone(), document),
                None => self.documents.remove(&write.path),
            };
        }
        let results = vec![WriteResult::default(); commit.writes.len()];
        self.send(&ServerMessage::Committed { write_id, version, results });
        for (id, target) in &self.targets {
            let gone =
                commit.writes.iter().filter(|write| !self.documents.contains_key(path(write)));
            let removals = gone.map(|write| Removal { path: write.path.clone(), deleted: true });
            self.show(*id, target, removals.collect());
        }
        self.send(&ServerMessage::Current { version });
    }
}

fn path(write: &tidemark_core::Write) -> &DocumentPath {
    &write.path
}

fn start() -> (Client, Arc<Mutex<Server>>) {
    let server = Arc::new(Mutex::new(Server::default()));
    (builder(&server).build().unwrap(), server)
}

fn builder(server: &Arc<Mutex<Server>>) -> ClientBuilder {
    let native = NativeRuntime::current().unwrap();
    let runtime = Arc::new(MemoryRuntime { native, server: server.clone() });
    Client::builder("ws://memory").runtime(runtime)
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Message {
    text: String,
    seq: i64,
}

fn message(seq: i64) -> Message {
    Message { text: format!("number {seq}"), seq }
}

#[tokio::test]
async fn writes_reads_and_listens() {
    let (client, _server) = start();
    let room = client.collection("rooms").unwrap();
    let mut listener = room.order_by("seq", tidemark_core::Direction::Ascending).listen();
    assert!(listener.next().await.unwrap().unwrap().is_empty());

    let doc = room.doc("a").unwrap();
    let write = doc.set(&message(1));
    let shown = listener.next().await.unwrap().unwrap();
    assert!(shown.metadata().has_pending_writes, "it shows before the server has it");
    assert_eq!(shown.documents()[0].data::<Message>().unwrap(), message(1));
    let committed = write.await.unwrap();
    assert_eq!(committed.results.len(), 1);

    doc.update([("seq", FieldValue::increment(4)), ("more.x", FieldValue::from(true))])
        .await
        .unwrap();
    let seen = doc.get().await.unwrap();
    assert_eq!(seen.get("seq"), Some(&Value::Integer(5)));
    assert_eq!(seen.get("more.x"), Some(&Value::Boolean(true)));
    let added = room.add(&message(2));
    let new = added.doc.clone();
    assert_eq!(new.id().len(), 20);
    added.await.unwrap();
    assert_eq!(room.get().await.unwrap().len(), 2);
    let both = client.get_all(&[new.clone(), doc.clone(), new.clone()]).await.unwrap();
    assert_eq!(
        both.iter().map(DocumentSnapshot::id).collect::<Vec<_>>(),
        [new.id(), "a", new.id()]
    );

    let error = room.doc("missing").unwrap().update([("x", 1)]).await.unwrap_err();
    assert_eq!(error.code(), Code::NotFound);
    let error = doc.create(&message(1)).await.unwrap_err();
    assert_eq!(error.code(), Code::AlreadyExists);

    let mut batch = client.batch();
    batch.delete(&new);
    batch.set_merge(&doc, &serde_json::json!({"more": {"y": 2}})).unwrap();
    batch.commit().await.unwrap();
    let fields = doc.get().await.unwrap().fields().unwrap().clone();
    assert_eq!(fields["more"], Value::from([("x", Value::from(true)), ("y", Value::from(2))]));
}

#[tokio::test]
async fn what_an_app_states_wrongly_is_told_at_once() {
    let (client, _server) = start();
    assert_eq!(client.collection("a/b").unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(client.doc("a").unwrap_err().code(), Code::InvalidArgument);
    let doc = client.doc("a/b").unwrap();
    assert_eq!(doc.set(&3).await.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(doc.update([("a..b", 1)]).await.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(doc.update([("a", 1), ("a", 2)]).await.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(client.batch().commit().await.unwrap_err().code(), Code::InvalidArgument);
    let wrong = client.collection("a").unwrap().query().start_at([1, 2, 3]);
    assert_eq!(wrong.get().await.unwrap_err().code(), Code::InvalidArgument);
    let mut listener = wrong.listen();
    assert_eq!(listener.next().await.unwrap().unwrap_err().code(), Code::InvalidArgument);
    assert!(listener.next().await.is_none(), "an error is the last item");
}

#[tokio::test]
async fn aggregates_are_asked_for_listened_to_and_explained() {
    let (client, _server) = start();
    let room = client.collection("rooms").unwrap();
    let wanted =
        [Aggregate::count(), Aggregate::sum("seq"), Aggregate::average("seq").called("mean")];
    let late = room.filter("seq", Operator::GreaterThan, 1);
    let mut listener = late.aggregate(wanted.clone()).listen();
    let first = listener.next().await.unwrap().unwrap();
    assert_eq!((first.count(), first.get("sum(seq)")), (Some(0), Some(&Value::Integer(0))));
    assert_eq!((first.get("mean"), first.get("sum")), (Some(&Value::Null), None));
    assert!(!first.metadata().from_cache);
    for seq in 1..=3 {
        room.doc(&format!("{seq}")).unwrap().set(&message(seq)).await.unwrap();
    }
    let shown: Vec<_> = listener.by_ref().take(2).map(|item| item.unwrap().count()).collect().await;
    assert_eq!(shown, [Some(1), Some(2)], "what changes nothing is not told");

    let once = late.aggregate(wanted).get().await.unwrap();
    assert_eq!(once.get("mean"), Some(&Value::Double(2.5)));
    assert_eq!(room.count().get().await.unwrap().count(), Some(3));
    let (sum, explanation) = room.query().sum("seq").explain().await.unwrap();
    assert_eq!((sum.value(), explanation), (&Value::Integer(6), Explanation::default()));
    let (found, explanation) = late.explain().await.unwrap();
    assert_eq!((found.len(), explanation.results), (2, 2));
    let twice = room.query().aggregate([Aggregate::count(), Aggregate::count()]);
    assert_eq!(twice.get().await.unwrap_err().code(), Code::InvalidArgument);
    let none = room.query().sum("a..b");
    assert_eq!(none.listen().next().await.unwrap().unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn fields_that_are_not_selected_are_left_out_of_gets_and_of_listens() {
    let (client, _server) = start();
    let room = client.collection("rooms").unwrap();
    let query = room.order_by("seq", tidemark_core::Direction::Ascending).select(["text"]);
    let mut listener = query.listen();
    let mut whole = room.order_by("seq", tidemark_core::Direction::Ascending).listen();
    listener.next().await.unwrap().unwrap();
    whole.next().await.unwrap().unwrap();
    // A pending write is shown in its place, whatever is selected.
    let writes = [room.doc("b").unwrap().set(&message(2)), room.doc("a").unwrap().set(&message(1))];
    let texts = |snapshot: &tidemark_core::QuerySnapshot| -> Vec<String> {
        let text = |document: &DocumentSnapshot| {
            assert_eq!(document.fields().unwrap().len(), 1, "{document:?}");
            format!("{:?}", document.get("text").unwrap())
        };
        snapshot.documents().iter().map(text).collect()
    };
    let two = [message(1), message(2)].map(|message| format!("{:?}", Value::from(message.text)));
    assert_eq!(texts(&query.get().await.unwrap()), two);
    for write in writes {
        write.await.unwrap();
    }
    client.wait_for_pending_writes().await.unwrap();
    assert_eq!(texts(&query.get().await.unwrap()), two);
    while texts(&listener.next().await.unwrap().unwrap()) != two {}
    let seen = whole.next().await.unwrap().unwrap();
    assert!(seen.documents()[0].get("seq").is_some(), "others see whole documents");
}

#[tokio::test]
async fn a_document_of_one_page_begins_the_next() {
    let (client, _server) = start();
    let room = client.collection("rooms").unwrap();
    for id in 0..5 {
        room.doc(&format!("{id}")).unwrap().set(&message(id / 2)).await.unwrap();
    }
    let all = room.filter("seq", Operator::LessThan, 2);
    let ids = |found: tidemark_core::QuerySnapshot| -> String {
        found.documents().iter().map(DocumentSnapshot::id).collect()
    };
    let found = all.get().await.unwrap();
    let second = &found.documents()[1];
    assert_eq!(ids(all.clone().start_at_document(second).get().await.unwrap()), "123");
    assert_eq!(ids(all.clone().start_after_document(second).get().await.unwrap()), "23");
    assert_eq!(ids(all.clone().end_at_document(second).get().await.unwrap()), "01");
    assert_eq!(ids(all.clone().end_before_document(second).get().await.unwrap()), "0");
    let gone = room.doc("gone").unwrap().get().await.unwrap();
    let error = all.start_at_document(&gone).get().await.unwrap_err();
    assert!(error.message().contains("does not exist"), "{error}");
}

#[tokio::test]
async fn the_nearest_are_asked_for_and_not_listened_to() {
    let (client, _server) = start();
    let room = client.collection("rooms").unwrap();
    let near = room.query().find_nearest("v", [1.0, 2.0], DistanceMeasure::Cosine, 3);
    near.clone().distance_threshold(0.5).distance_field("d").get().await.unwrap();
    let error = near.listen().next().await.unwrap().unwrap_err();
    assert!(error.message().contains("cannot be listened to"), "{error}");
    let error = room.query().distance_field("d").get().await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_document_listener_tells_existence() {
    let (client, _server) = start();
    let doc = client.doc("rooms/a").unwrap();
    let mut listener = doc.listen();
    assert!(!listener.next().await.unwrap().unwrap().exists());
    doc.set(&message(1)).await.unwrap();
    assert!(listener.next().await.unwrap().unwrap().exists());
    drop(doc.delete());
    assert!(!listener.next().await.unwrap().unwrap().exists());
}

#[tokio::test]
async fn transactions_are_repeated_until_they_fit() {
    let (client, server) = start();
    let doc = client.doc("rooms/a").unwrap();
    doc.set(&message(1)).await.unwrap();
    server.lock().unwrap().abort = 2;
    let runs = Arc::new(Mutex::new(0));
    let outcome = client
        .transaction(|tx| {
            let (doc, runs) = (doc.clone(), runs.clone());
            async move {
                *runs.lock().unwrap() += 1;
                let seen: Message = tx.get(&doc).await?.data()?;
                tx.set(&doc, &message(seen.seq + 1))?;
                assert_eq!(tx.get(&doc).await.unwrap_err().code(), Code::InvalidArgument);
                Ok(seen.seq)
            }
        })
        .await;
    assert_eq!((outcome, *runs.lock().unwrap()), (Ok(1), 3));
    assert_eq!(doc.get().await.unwrap().data::<Message>().unwrap().seq, 2);
    server.lock().unwrap().abort = 9;
    let outcome = client
        .transaction(|tx| {
            let doc = doc.clone();
            async move {
                tx.get(&doc).await?;
                tx.set(&doc, &message(9))
            }
        })
        .await;
    assert_eq!(outcome.unwrap_err().code(), Code::Aborted);
    assert_eq!(server.lock().unwrap().abort, 4, "five attempts");
}

#[tokio::test]
async fn a_dropped_connection_is_made_again() {
    let (client, server) = start();
    let mut states = client.connection();
    while states.next().await != Some(ConnectionState::Online) {}
    let room = client.collection("rooms").unwrap();
    let mut listener = room.listen();
    assert!(listener.next().await.unwrap().unwrap().is_empty());
    server.lock().unwrap().mute = true;
    let write = room.doc("a").unwrap().set(&message(1));
    assert_eq!(listener.next().await.unwrap().unwrap().len(), 1);
    server.lock().unwrap().mute = false;
    server.lock().unwrap().drop_connection();
    write.await.unwrap();
    client.wait_for_pending_writes().await.unwrap();
    assert_eq!(server.lock().unwrap().connections, 2);
    room.doc("b").unwrap().set(&message(2)).await.unwrap();
    assert_eq!(listener.next().await.unwrap().unwrap().len(), 2);
}

#[tokio::test]
async fn a_slow_reader_misses_moments_but_no_changes() {
    let (client, _server) = start();
    let room = client.collection("rooms").unwrap();
    let mut listener = room.order_by("seq", tidemark_core::Direction::Descending).listen();
    listener.next().await.unwrap().unwrap();
    for seq in 0..200 {
        room.doc(&format!("{}", seq % 40)).unwrap().set(&message(seq)).await.unwrap();
    }
    room.doc("7").unwrap().delete().await.unwrap();
    let mut copy: Vec<String> = Vec::new();
    let mut snapshots = 0;
    while copy.len() < 39 {
        let snapshot = listener.next().await.unwrap().unwrap();
        snapshots += 1;
        for change in snapshot.changes() {
            if let Some(index) = change.old_index {
                assert_eq!(copy.remove(index), change.document.id());
            }
            if change.kind != ChangeKind::Removed {
                copy.insert(change.new_index.unwrap(), change.document.id().to_owned());
            }
        }
        let ids: Vec<_> = snapshot.documents().iter().map(DocumentSnapshot::id).collect();
        assert_eq!(copy, ids);
    }
    assert_eq!(copy[0], "39");
    assert!(!copy.contains(&"7".to_owned()));
    assert!(snapshots <= 20, "{snapshots} snapshots waited");
}

#[tokio::test]
async fn without_a_network_things_wait_or_say_so() {
    let (client, server) = start();
    client.disable_network();
    let doc = client.doc("rooms/a").unwrap();
    assert_eq!(doc.get().await.unwrap_err().code(), Code::Unavailable);
    let mut write = doc.set(&message(1));
    assert!(doc.get().await.unwrap().metadata().from_cache);
    assert_eq!(doc.get_from(Source::Server).await.unwrap_err().code(), Code::Unavailable);
    let found = doc.parent().query().get().await.unwrap();
    assert!(found.len() == 1 && found.metadata().from_cache && found.metadata().has_pending_writes);
    let counted = doc.parent().count().get().await.unwrap();
    assert!(counted.count() == Some(1) && counted.metadata().from_cache);
    let snapshot = doc.listen().next().await.unwrap().unwrap();
    assert!(snapshot.exists() && snapshot.metadata().from_cache);
    assert!(futures::poll!(&mut write).is_pending());
    client.enable_network();
    write.await.unwrap();
    assert_eq!(server.lock().unwrap().documents.len(), 1);
}

#[tokio::test]
async fn close_ends_everything() {
    let (client, server) = start();
    let doc = client.doc("rooms/a").unwrap();
    let mut listener = doc.listen();
    listener.next().await.unwrap().unwrap();
    let first = doc.set(&message(1));
    client.close().await;
    first.await.unwrap();
    client.close().await;
    assert_eq!(doc.set(&message(2)).await.unwrap_err().code(), Code::Cancelled);
    assert_eq!(doc.get().await.unwrap_err().code(), Code::Cancelled);
    assert_eq!(client.wait_for_pending_writes().await.unwrap_err().code(), Code::Cancelled);
    listener.next().await.unwrap().unwrap();
    assert!(listener.next().await.is_none());
    assert_eq!(server.lock().unwrap().documents.len(), 1);
}

#[tokio::test]
async fn dropping_every_handle_disconnects() {
    let (client, server) = start();
    client.doc("rooms/a").unwrap().set(&message(1)).await.unwrap();
    let to_client = server.lock().unwrap().to_client.clone().unwrap();
    drop(client);
    // The client's half of the connection goes with its driver.
    let closed = futures::future::poll_fn(|context| {
        context.waker().wake_by_ref();
        if to_client.is_closed() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    });
    tokio::time::timeout(Duration::from_secs(10), async {
        futures::pin_mut!(closed);
        while futures::poll!(&mut closed).is_pending() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn nobody_to_talk_to_is_no_error() {
    // Nothing listens there: port 9 is discard, closed on any machine that runs tests.
    let client = Client::builder("ws://127.0.0.1:9").build().unwrap();
    let write = client.doc("rooms/a").unwrap().set(&message(1));
    client.close().await;
    assert_eq!(write.await.unwrap_err().code(), Code::Cancelled);
}

#[tokio::test]
async fn a_write_goes_through_its_stages() {
    let (client, server) = start();
    let mut events = client.write_events();
    let doc = client.doc("rooms/a").unwrap();
    let mut listener = doc.listen();
    assert!(!listener.next().await.unwrap().unwrap().exists());
    server.lock().unwrap().mute = true;
    let mut write = doc.set(&message(1));
    assert!(listener.next().await.unwrap().unwrap().exists());
    assert_eq!(write.id(), None, "it shows before it is stored");
    let id = write.local().await.unwrap();
    assert_eq!((write.id(), write.local().await.unwrap()), (Some(id), id));
    assert!(futures::poll!(&mut write).is_pending(), "the server has not answered");
    let pending = client.pending_writes().await.unwrap();
    assert_eq!((pending.len(), pending[0].id, pending[0].waiting), (1, id, false));
    assert_eq!(pending[0].writes[0].path.as_str(), "rooms/a");
    server.lock().unwrap().mute = false;
    server.lock().unwrap().drop_connection();
    let committed = write.await.unwrap();
    assert!(committed.is_whole());
    assert_eq!(client.pending_writes().await.unwrap(), []);
    let stage = |event: Option<WriteEvent>| {
        let event = event.unwrap();
        assert_eq!(event.paths().collect::<Vec<_>>(), [doc.path()]);
        (event.id, event.stage)
    };
    assert_eq!(stage(events.next().await), (id, WriteStage::Local));
    assert_eq!(stage(events.next().await), (id, WriteStage::Committed(committed)));
    client.close().await;
    assert!(events.next().await.is_none());
}

#[tokio::test]
async fn what_was_rejected_is_made_again_or_given_up() {
    let (client, _server) = start();
    let (a, b) = (client.doc("rooms/a").unwrap(), client.doc("rooms/b").unwrap());
    assert_eq!(a.update([("x", 1)]).await.unwrap_err().code(), Code::NotFound);
    let mut second = b.update([("x", 2)]);
    let given_up = second.local().await.unwrap();
    second.await.unwrap_err();
    let rejected = client.rejected_writes().await.unwrap();
    assert_eq!(rejected.len(), 2);
    assert_eq!((rejected[0].code, rejected[1].id), (Code::NotFound, given_up));
    assert!(rejected[0].message.contains("does not exist"), "{rejected:?}");

    a.set(&message(1)).await.unwrap();
    let first = rejected[0].id;
    let mut again = client.retry(first);
    assert!(again.local().await.unwrap() > given_up, "it is a new write");
    again.await.unwrap();
    assert_eq!(a.get().await.unwrap().get("x"), Some(&Value::Integer(1)));
    client.discard(given_up).await.unwrap();
    assert_eq!(client.rejected_writes().await.unwrap(), []);
    assert_eq!(client.discard(given_up).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(client.retry(first).local().await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn what_was_written_offline_outlives_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let server = Arc::new(Mutex::new(Server::default()));
    let open = || builder(&server).cache_dir(folder.path()).build();
    let client = open().unwrap();
    client.disable_network();
    let doc = client.doc("rooms/a").unwrap();
    let mut write = doc.set(&message(1));
    let id = write.local().await.unwrap();
    let error = open().map(|_| ()).unwrap_err();
    assert_eq!(error.code(), Code::FailedPrecondition, "one client at a time");
    let same = builder(&server).cache_dir(folder.path());
    assert_eq!(same.clear_cache().unwrap_err().code(), Code::FailedPrecondition);
    let other = same.database("other").build().unwrap();
    assert_eq!(other.pending_writes().await.unwrap(), []);
    client.close().await;
    assert_eq!(write.await.unwrap_err().code(), Code::Cancelled);
    assert!(server.lock().unwrap().documents.is_empty());

    let client = open().unwrap();
    let mut events = client.write_events();
    let event = events.next().await.unwrap();
    assert_eq!(event.id, id);
    assert!(matches!(event.stage, WriteStage::Committed(_)), "{event:?}");
    client.wait_for_pending_writes().await.unwrap();
    assert_eq!(server.lock().unwrap().documents.len(), 1);
    let doc = client.doc("rooms/a").unwrap();
    let error = doc.create(&message(2)).await.unwrap_err();
    assert_eq!(error.code(), Code::AlreadyExists);
    client.close().await;

    let client = open().unwrap();
    let rejected = client.rejected_writes().await.unwrap();
    assert_eq!((rejected.len(), rejected[0].code), (1, Code::AlreadyExists));
    client.close().await;
    builder(&server).cache_dir(folder.path()).clear_cache().unwrap();
    let client = open().unwrap();
    assert_eq!(client.rejected_writes().await.unwrap(), []);
    let mut write = client.doc("rooms/b").unwrap().set(&message(1));
    assert_eq!(write.local().await.unwrap(), tidemark_core::WriteId(1), "it is another client");
}
