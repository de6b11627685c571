//! The client: builds the driver and hands it commands. A handle only; it decides nothing.

mod storage;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::channel::{mpsc, oneshot};
use tidemark_protocol::model::{
    AggregateQuery, ClientId, CollectionPath, DocumentPath, Query as ModelQuery, Read, Target,
    Write, WriteId, validate_commit,
};
use tidemark_protocol::wire::server::Explanation;

use crate::aggregate::AggregateSnapshot;
use crate::cache::Cache;
use crate::driver::{Command, Driver, Inbox, Promise};
use crate::engine::{Answer, ListenerId, Request, Settings, Source};
use crate::error::Error;
use crate::pending::{Committed, OutboxWrite, PendingWrite, RejectedWrite, WriteEvents};
use crate::query::Query;
use crate::queue::SnapshotQueue;
use crate::reference::{CollectionRef, DocumentRef};
use crate::runtime::Runtime;
use crate::snapshot::{DocumentSnapshot, QuerySnapshot};
use crate::subscription::{ConnectionStates, ListenOptions, Listener, StateCell};
use crate::write::Batch;

use storage::Storage;

const DEFAULT_PATH: &str = "/v1/sync";
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
const ID_LETTERS: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
const ID_LENGTH: usize = 20;

/// A client of one database. Cheap to clone; all clones share one connection, one outbox, one cache.
/// It stops when the last of its clones, references, listeners and awaited writes is dropped.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    commands: mpsc::UnboundedSender<Command>,
    state: Arc<StateCell>,
    runtime: Arc<dyn Runtime>,
    request_timeout: Duration,
    /// Counts listeners, to name them.
    listeners: AtomicU64,
}

/// Says which database, and how to reach it.
#[must_use = "a builder does nothing until it builds"]
pub struct ClientBuilder {
    url: String,
    project: String,
    database: String,
    token: String,
    agent: String,
    request_timeout: Duration,
    runtime: Option<Arc<dyn Runtime>>,
    storage: Storage,
    cache_size: Option<u64>,
}

impl ClientBuilder {
    /// The project; "default" unless told.
    pub fn project(mut self, project: impl Into<String>) -> Self {
        self.project = project.into();
        self
    }

    /// The database of the project; "(default)" unless told.
    pub fn database(mut self, database: impl Into<String>) -> Self {
        self.database = database.into();
        self
    }

    /// The identity of the user; empty unless told.
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = token.into();
        self
    }

    /// How the server's logs name this client.
    pub fn agent(mut self, agent: impl Into<String>) -> Self {
        self.agent = agent.into();
        self
    }

    /// How long a get or a query may wait for its answer, over any number of reconnects; 60 seconds
    /// unless told.
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.request_timeout = timeout;
        self
    }

    /// The platform; the current tokio runtime unless told.
    pub fn runtime(mut self, runtime: Arc<dyn Runtime>) -> Self {
        self.runtime = Some(runtime);
        self
    }

    /// Where documents and pending writes are kept; in memory unless told.
    pub fn cache(mut self, cache: Box<dyn Cache>) -> Self {
        self.storage = Storage::Other(cache);
        self
    }

    /// Keeps documents and pending writes in this folder, which is made if need be: they are there in the
    /// next run, with or without a network. Each project and database has a cache of its own in it, and
    /// each cache has one client at a time.
    #[cfg(feature = "native")]
    pub fn cache_dir(mut self, folder: impl AsRef<std::path::Path>) -> Self {
        self.storage = Storage::Folder(folder.as_ref().to_owned());
        self
    }

    /// How many bytes of documents and indexes are kept at most, in memory or in the folder: beyond, what
    /// was not used for the longest time goes, never what is pending or listened to. 100 MiB unless told.
    pub fn cache_size(mut self, bytes: u64) -> Self {
        self.cache_size = Some(bytes);
        self
    }

    /// Removes the cache of this project and database from the folder of [`cache_dir`](Self::cache_dir):
    /// documents, and the writes that the server has not got or has rejected, for good.
    /// `failed-precondition` while a client has it open.
    #[cfg(feature = "native")]
    pub fn clear_cache(&self) -> Result<(), Error> {
        Ok(self.storage.remove(&self.project, &self.database)?)
    }

    /// Starts the client. It connects in the background: this neither waits for the network nor fails
    /// for lack of it. `invalid-argument` when the URL is not one, `failed-precondition` when there is
    /// no runtime, or when another client has the cache open: [`close`](Client::close) that one first.
    pub fn build(self) -> Result<Client, Error> {
        let url = normalize(&self.url)?;
        let runtime = match self.runtime {
            Some(runtime) => runtime,
            None => default_runtime()?,
        };
        let cache = self.storage.open(&self.project, &self.database, self.cache_size)?;
        let (commands, receiver) = mpsc::unbounded();
        let state = Arc::new(StateCell::default());
        let settings = Settings {
            project: self.project,
            database: self.database,
            token: self.token,
            agent: self.agent,
            client_id: new_client_id(&*runtime),
        };
        let driver = Driver::new(url, settings, cache, runtime.clone(), receiver, state.clone())?;
        runtime.spawn("tidemark-driver", Box::pin(driver.run()));
        let inner = Inner {
            commands,
            state,
            runtime,
            request_timeout: self.request_timeout,
            listeners: AtomicU64::new(1),
        };
        Ok(Client { inner: Arc::new(inner) })
    }
}

#[cfg(feature = "native")]
fn default_runtime() -> Result<Arc<dyn Runtime>, Error> {
    Ok(Arc::new(crate::runtime::native::NativeRuntime::current()?))
}

#[cfg(not(feature = "native"))]
fn default_runtime() -> Result<Arc<dyn Runtime>, Error> {
    Err(Error::new(
        tidemark_protocol::model::Code::FailedPrecondition,
        "this build has no runtime of its own: give one to the builder",
    ))
}

fn new_client_id(runtime: &dyn Runtime) -> ClientId {
    let bits = (u128::from(runtime.random()) << 64) | u128::from(runtime.random());
    ClientId(bits.to_be_bytes())
}

/// `ws://host[:port][/path]`; `http` is taken as `ws`, and the path defaults to the sync endpoint.
fn normalize(url: &str) -> Result<String, Error> {
    let Some((scheme, rest)) = url.split_once("://") else {
        return Err(Error::invalid(format!("{url:?} is not a URL such as ws://127.0.0.1:7700")));
    };
    if !matches!(scheme, "ws" | "http") {
        return Err(Error::invalid(format!(
            "{url:?} begins with {scheme}://; this build speaks ws:// and http://"
        )));
    }
    let (host, path) = rest.find('/').map_or((rest, ""), |slash| rest.split_at(slash));
    if host.is_empty() {
        return Err(Error::invalid(format!("{url:?} names no host")));
    }
    let path = if path.len() > 1 { path } else { DEFAULT_PATH };
    Ok(format!("ws://{host}{path}"))
}

impl Client {
    /// A client of the server at this URL: `ws://127.0.0.1:7700`. `http://` is accepted too; the path
    /// defaults to `/v1/sync`.
    pub fn builder(url: impl Into<String>) -> ClientBuilder {
        ClientBuilder {
            url: url.into(),
            project: "default".to_owned(),
            database: "(default)".to_owned(),
            token: String::new(),
            agent: concat!("tidemark-core/", env!("CARGO_PKG_VERSION")).to_owned(),
            request_timeout: REQUEST_TIMEOUT,
            runtime: None,
            storage: Storage::Memory,
            cache_size: None,
        }
    }

    /// A collection: "rooms", "rooms/a/messages". `invalid-argument` when the path is not one.
    pub fn collection(&self, path: &str) -> Result<CollectionRef, Error> {
        Ok(CollectionRef::new(self.clone(), CollectionPath::parse(path)?))
    }

    /// A document: "rooms/a". `invalid-argument` when the path is not one.
    pub fn doc(&self, path: &str) -> Result<DocumentRef, Error> {
        Ok(DocumentRef::new(self.clone(), DocumentPath::parse(path)?))
    }

    /// All documents of the collections with this id, wherever they are, as a query to refine:
    /// "messages" for the messages of all rooms.
    pub fn collection_group(&self, id: &str) -> Query {
        Query::new(self.clone(), ModelQuery::group(id))
    }

    /// A query of the protocol, for tools.
    pub fn query(&self, query: ModelQuery) -> Query {
        Query::new(self.clone(), query)
    }

    /// An empty batch.
    pub fn batch(&self) -> Batch {
        Batch::new(self.clone())
    }

    /// Commits writes of the protocol together: they take effect locally now; await the result for the
    /// server's word.
    pub fn commit(&self, writes: Vec<Write>) -> PendingWrite {
        self.send_commit(writes, Vec::new(), true)
    }

    pub(crate) async fn commit_transaction(
        &self,
        writes: Vec<Write>,
        reads: Vec<Read>,
    ) -> Result<Committed, Error> {
        self.send_commit(writes, reads, false).await
    }

    fn send_commit(&self, writes: Vec<Write>, reads: Vec<Read>, local: bool) -> PendingWrite {
        if let Err(error) = validate_commit(&writes) {
            return PendingWrite::failed(error.into());
        }
        self.promise(|promise| Command::Commit { writes, reads, local, promise })
    }

    fn promise(&self, command: impl FnOnce(Promise) -> Command) -> PendingWrite {
        let (stored, is_stored) = oneshot::channel();
        let (word, is_said) = oneshot::channel();
        self.send(command(Promise { stored, word }));
        PendingWrite::waiting(is_stored, is_said, self.clone())
    }

    /// What becomes of the writes of this client, from now on.
    pub fn write_events(&self) -> WriteEvents {
        let (events, stream) = mpsc::unbounded();
        self.send(Command::WatchWrites { events });
        WriteEvents::new(stream)
    }

    /// The writes that the server has not answered, in the order of their making.
    pub async fn pending_writes(&self) -> Result<Vec<OutboxWrite>, Error> {
        Ok(self.list_writes().await?.0)
    }

    /// The writes that the server has refused for good, those of former runs included, until the app has
    /// decided what becomes of them. The last thousand are kept.
    pub async fn rejected_writes(&self) -> Result<Vec<RejectedWrite>, Error> {
        Ok(self.list_writes().await?.1)
    }

    async fn list_writes(&self) -> Result<(Vec<OutboxWrite>, Vec<RejectedWrite>), Error> {
        let (reply, lists) = oneshot::channel();
        self.send(Command::ListWrites { reply });
        lists.await.map_err(|_| Error::closed())
    }

    /// Makes a rejected write again: a new write with the same contents, made now. `not-found` when no
    /// such write waits for a decision.
    pub fn retry(&self, id: WriteId) -> PendingWrite {
        self.promise(|promise| Command::Retry { id, promise })
    }

    /// Gives a rejected write up: it is forgotten. `not-found` when no such write waits for a decision.
    pub async fn discard(&self, id: WriteId) -> Result<(), Error> {
        let (reply, done) = oneshot::channel();
        self.send(Command::Discard { id, reply });
        done.await.unwrap_or_else(|_| Err(Error::closed()))
    }

    /// The documents as the server has them now, in the order asked for, with this client's pending
    /// writes on top; while there is no connection, as the cache has them: see [`DocumentRef::get`].
    pub async fn get_all(&self, docs: &[DocumentRef]) -> Result<Vec<DocumentSnapshot>, Error> {
        self.get_all_from(docs, Source::Default).await
    }

    /// As [`get_all`](Self::get_all), from where the caller says.
    pub async fn get_all_from(
        &self,
        docs: &[DocumentRef],
        source: Source,
    ) -> Result<Vec<DocumentSnapshot>, Error> {
        if docs.is_empty() {
            return Ok(Vec::new());
        }
        let paths: Vec<_> = docs.iter().map(|doc| doc.path().clone()).collect();
        let mut unique = paths.clone();
        unique.sort();
        unique.dedup();
        let found = self.get_paths(unique, true, source).await?.documents;
        let by_path: BTreeMap<_, _> = found.iter().map(|doc| (doc.path(), doc)).collect();
        Ok(paths.iter().filter_map(|path| by_path.get(path).map(|doc| (*doc).clone())).collect())
    }

    /// Resolves when the server has answered every write made before this call, well or not.
    pub async fn wait_for_pending_writes(&self) -> Result<(), Error> {
        let (reply, done) = oneshot::channel();
        self.send(Command::WaitForWrites { reply });
        done.await.map_err(|_| Error::closed())
    }

    /// Disconnects, and stays so until [`enable_network`](Self::enable_network). Writes wait in the
    /// outbox, listeners show the cache.
    pub fn disable_network(&self) {
        self.send(Command::Network { enabled: false });
    }

    /// Connects again; also after the server has refused this client for good.
    pub fn enable_network(&self) {
        self.send(Command::Network { enabled: true });
    }

    /// Stops the client: nothing new is sent, and what was sent gets five seconds to be answered.
    /// Writes without an answer end as `cancelled`, listeners end; the cache is free to be opened again.
    /// A client whose last handle is dropped stops as well, but nobody can say when. Call
    /// [`wait_for_pending_writes`](Self::wait_for_pending_writes) before, to have everything sent.
    pub async fn close(&self) {
        let (reply, done) = oneshot::channel();
        self.send(Command::Close { reply });
        // An error means that the driver is gone already: closed is closed.
        let _ = done.await;
    }

    /// The state of the connection: now, and whenever it changes. Only the newest unread is kept.
    pub fn connection(&self) -> ConnectionStates {
        ConnectionStates::new(self.inner.state.clone())
    }

    pub(crate) fn listen(
        &self,
        target: Result<Target, Error>,
        options: ListenOptions,
    ) -> (Listener, Arc<SnapshotQueue>) {
        let queue = Arc::new(SnapshotQueue::default());
        (self.start_listening(target, options, Inbox::Documents(queue.clone())), queue)
    }

    pub(crate) fn listen_aggregate(
        &self,
        target: Result<Target, Error>,
        options: ListenOptions,
        queue: Arc<SnapshotQueue<AggregateSnapshot>>,
    ) -> Listener {
        self.start_listening(target, options, Inbox::Aggregates(queue))
    }

    fn start_listening(
        &self,
        target: Result<Target, Error>,
        options: ListenOptions,
        inbox: Inbox,
    ) -> Listener {
        let id = ListenerId(self.inner.listeners.fetch_add(1, Ordering::Relaxed));
        match target {
            Ok(target) => self.send(Command::Listen { listener: id, target, options, inbox }),
            Err(error) => inbox.fail(error),
        }
        Listener::new(self.clone(), id)
    }

    pub(crate) fn unlisten(&self, listener: ListenerId) {
        self.send(Command::Unlisten { listener });
    }

    pub(crate) async fn get_paths(
        &self,
        paths: Vec<DocumentPath>,
        overlay: bool,
        source: Source,
    ) -> Result<Answer, Error> {
        self.request(Request::Get { paths, overlay }, source).await
    }

    pub(crate) async fn run_query(
        &self,
        query: ModelQuery,
        explain: bool,
        source: Source,
    ) -> Result<(QuerySnapshot, Explanation), Error> {
        let mut answer = self.request(Request::Query { query, explain }, source).await?;
        let explanation = answer.explanation.take().unwrap_or_default();
        Ok((answer.into_snapshot(), *explanation))
    }

    pub(crate) async fn run_aggregate(
        &self,
        aggregate: AggregateQuery,
        explain: bool,
        source: Source,
    ) -> Result<(AggregateSnapshot, Explanation), Error> {
        let aggregations = aggregate.aggregations.clone();
        let answer = self.request(Request::Aggregate { aggregate, explain }, source).await?;
        let Answer { version, metadata, values, explanation, .. } = answer;
        let snapshot = AggregateSnapshot::new(&aggregations, &values, metadata, version);
        Ok((snapshot, *explanation.unwrap_or_default()))
    }

    async fn request(&self, request: Request, source: Source) -> Result<Answer, Error> {
        let (reply, answer) = oneshot::channel();
        let timeout = self.inner.request_timeout;
        self.send(Command::Request { request, source, timeout, reply });
        answer.await.unwrap_or_else(|_| Err(Error::closed()))
    }

    fn send(&self, command: Command) {
        // The driver is gone only after close: what waits for an answer then sees its sender dropped.
        let _ = self.inner.commands.unbounded_send(command);
    }

    /// Has listeners to a document see the values of its collaborative fields that are here.
    #[cfg(feature = "collab")]
    pub(crate) fn show_collaborative(
        &self,
        path: &DocumentPath,
        view: Option<crate::engine::CollabView>,
    ) {
        self.send(Command::Collaborative { path: path.clone(), view });
    }

    /// Names an author of changes.
    #[cfg(feature = "collab")]
    pub(crate) fn new_actor(&self) -> [u8; 16] {
        new_client_id(&*self.inner.runtime).0
    }

    /// Resolves after this time.
    #[cfg(feature = "collab")]
    pub(crate) fn sleep(&self, duration: Duration) -> crate::runtime::Task<()> {
        self.inner.runtime.sleep(duration)
    }

    /// Runs a task in the background.
    #[cfg(feature = "collab")]
    pub(crate) fn spawn(&self, name: &'static str, task: crate::runtime::Task<()>) {
        self.inner.runtime.spawn(name, task);
    }

    pub(crate) fn new_id(&self) -> String {
        (0..ID_LENGTH)
            .map(|_| {
                let index = self.inner.runtime.random() % ID_LETTERS.len() as u64;
                char::from(ID_LETTERS[usize::try_from(index).unwrap_or_default()])
            })
            .collect()
    }

    /// Waits this long, give or take half.
    pub(crate) async fn pause(&self, delay: Duration) {
        let jitter = (self.inner.runtime.random() >> 11) as f64 / (1u64 << 53) as f64;
        self.inner.runtime.sleep(delay.mul_f64(0.5 + jitter)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::normalize;

    #[test]
    fn urls_are_completed() {
        let cases = [
            ("ws://127.0.0.1:7700", "ws://127.0.0.1:7700/v1/sync"),
            ("http://localhost:7700/", "ws://localhost:7700/v1/sync"),
            ("ws://[::1]:7700/other", "ws://[::1]:7700/other"),
        ];
        for (url, expected) in cases {
            assert_eq!(normalize(url).as_deref(), Ok(expected));
        }
        for wrong in ["127.0.0.1:7700", "wss://example.org", "ws://", "ws:///path"] {
            assert!(normalize(wrong).is_err(), "{wrong} is accepted");
        }
    }
}
