//! One connection: reads frames from its socket, lets [`state`] decide, asks the engine, and
//! writes what the engine's outbox holds. The only file with a socket; `http/sync.rs` starts it,
//! one task per connection. Every wait here is bounded, and an idle connection keeps no buffer
//! beyond the socket's small one.

pub mod limits;
mod metrics;
pub mod state;

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket};
use bytes::Bytes;
use futures::{FutureExt, SinkExt};
use tidemark_protocol::wire::client::Hello;
use tidemark_protocol::wire::codec;
use tidemark_protocol::wire::server::{ServerMessage, SessionLimits};
use tokio::sync::watch;
use tracing::Instrument;

pub use metrics::{Count, SessionMetrics};

use self::limits::SILENT_HEARTBEATS;
use self::state::{Action, Event, Rules, State, World};
use crate::clock::{Clock, Seed};
use crate::config::Config;

use crate::engine::{Admission, Connection, Database};
use crate::http::link::Link;
use crate::tasks::Spawner;

/// Frames written before the socket is flushed and read again.
const BATCH: u64 = 256;

/// How long the last frames of a closing connection may take.
const CLOSING: Duration = Duration::from_secs(5);

/// What all sessions of a server share.
pub(crate) struct Host {
    pub(crate) rules: Arc<Rules>,
    pub(crate) metrics: Arc<SessionMetrics>,
    pub(crate) session_tasks: Spawner,
    clock: Arc<dyn Clock>,
    seed: Seed,
    /// Set once by the server, when the database is open.
    database: OnceLock<Database>,
    /// Set once by the server, when it stops.
    stopping: watch::Sender<bool>,
}

/// Why a session cannot begin now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unready {
    #[error("the server is opening its database")]
    Opening,
    #[error("the server is stopping")]
    Stopping,
    #[error("the store failed; the server must be restarted")]
    Failed,
}

impl Host {
    pub(crate) fn new(
        config: &Config,
        clock: Arc<dyn Clock>,
        seed: Seed,
        session_tasks: Spawner,
    ) -> Host {
        let frame_bytes = u32::try_from(config.frame_bytes.0).unwrap_or(u32::MAX);
        let rules = Rules {
            project: config.project.clone(),
            limits: SessionLimits {
                frame_bytes,
                targets: config.targets,
                commits_in_flight: config.commits_in_flight,
            },
            heartbeat: config.heartbeat,
            handshake_timeout: config.handshake_timeout,
        };
        Host {
            rules: Arc::new(rules),
            metrics: Arc::default(),
            session_tasks,
            clock,
            seed,
            database: OnceLock::new(),
            stopping: watch::Sender::new(false),
        }
    }

    /// The database, once it is open and unless the server stops.
    pub(crate) fn database(&self) -> Result<&Database, Unready> {
        if *self.stopping.borrow() {
            return Err(Unready::Stopping);
        }
        let database = self.database.get().ok_or(Unready::Opening)?;
        match database.failure() {
            None => Ok(database),
            Some(_) => Err(Unready::Failed),
        }
    }

    /// Sessions may begin.
    pub(crate) fn opened(&self, database: Database) {
        let first = self.database.set(database).is_ok();
        debug_assert!(first, "a server opens one database");
    }

    /// No session may begin; those that are there end as soon as they can.
    pub(crate) fn stop(&self) {
        self.stopping.send_replace(true);
    }
}

/// Serves one connection until it ends.
pub(crate) async fn run(socket: WebSocket, link: Arc<Link>, database: Database, host: Arc<Host>) {
    let state = State::new(Arc::clone(&host.rules), host.seed.next(), host.clock.monotonic());
    let span = tracing::info_span!("session", id = state.name());
    let stopping = host.stopping.subscribe();
    host.metrics.sessions.increment();
    host.metrics.sessions_opened.increment();
    let session = Session {
        socket,
        link,
        database,
        host,
        state,
        connection: None,
        queueing: None,
        unconnected: Vec::new(),
        admission: None,
    };
    session.serve(stopping).instrument(span).await;
}

type Queueing = Pin<Box<dyn Future<Output = ()> + Send>>;

struct Session {
    socket: WebSocket,
    link: Arc<Link>,
    database: Database,
    host: Arc<Host>,
    state: State,
    /// Set when the engine accepts Hello.
    connection: Option<Connection>,
    /// A request that waits for room in the engine. Nothing is read meanwhile, so that a client
    /// cannot put in more than the engine takes.
    queueing: Option<Queueing>,
    /// Frames from before there is a connection.
    unconnected: Vec<Bytes>,
    /// For the frame being handled; a commit takes it along.
    admission: Option<Admission>,
}

/// Why the session goes on.
enum Wake {
    Received(Option<Result<Message, axum::Error>>),
    Outgoing(Option<Bytes>),
    Queued,
    Time,
    Stopping,
}

/// The session is over.
enum Over {
    /// Say so to the peer.
    Close(CloseFrame),
    /// The peer closed, or has vanished.
    Gone,
    /// Nothing was heard, or nothing could be written.
    Lost(&'static str),
}

impl Drop for Session {
    fn drop(&mut self) {
        // Also when the task is cancelled or panics.
        self.host.metrics.sessions.decrement();
        if let Some(connection) = &self.connection {
            connection.close();
        }
    }
}

impl Session {
    async fn serve(mut self, mut stopping: watch::Receiver<bool>) {
        let stopped = async move {
            // The sender lives in the host, which the session holds.
            let _ = stopping.wait_for(|stopping| *stopping).await;
        };
        tokio::pin!(stopped);
        let over = self.until_over(stopped).await;
        match over {
            Over::Close(frame) => self.finish(frame).await,
            Over::Gone => tracing::debug!("the peer closed"),
            Over::Lost(reason) => {
                self.host.metrics.sessions_lost.increment();
                tracing::debug!(reason, "the peer is lost");
            }
        }
    }

    async fn until_over(&mut self, mut stopped: Pin<&mut impl Future<Output = ()>>) -> Over {
        let mut told = false;
        let mut armed = self.host.clock.monotonic() + self.host.rules.handshake_timeout;
        let timer = tokio::time::sleep(self.host.rules.handshake_timeout);
        tokio::pin!(timer);
        loop {
            let wake = tokio::select! {
                received = self.socket.recv(), if self.queueing.is_none() => Wake::Received(received),
                frame = next_frame(self.connection.as_ref()) => Wake::Outgoing(frame),
                () = queued(&mut self.queueing) => Wake::Queued,
                () = &mut stopped, if !told => Wake::Stopping,
                () = &mut timer => Wake::Time,
            };
            told |= matches!(wake, Wake::Stopping);
            let fired = matches!(wake, Wake::Time);
            if let Err(over) = self.wake(wake).await {
                return over;
            }
            // Deadlines mostly move away, with each sign of life: the timer is left to fire early
            // then, and set again.
            if let Some(deadline) = self.state.deadline()
                && (fired || deadline < armed)
            {
                armed = deadline;
                let left = deadline.saturating_sub(self.host.clock.monotonic());
                timer.as_mut().reset(tokio::time::Instant::now() + left);
            }
        }
    }

    async fn wake(&mut self, wake: Wake) -> Result<(), Over> {
        match wake {
            Wake::Received(message) => self.received(message).await,
            Wake::Outgoing(Some(frame)) => self.write(frame).await,
            Wake::Outgoing(None) => self.handle(Event::Ended).await,
            Wake::Queued => {
                self.queueing = None;
                Ok(())
            }
            Wake::Time => self.handle(Event::Tick).await,
            Wake::Stopping => self.handle(Event::Drain).await,
        }
    }

    async fn received(
        &mut self,
        message: Option<Result<Message, axum::Error>>,
    ) -> Result<(), Over> {
        let event = match message {
            Some(Ok(Message::Binary(frame))) => {
                self.host.metrics.frames_received.increment();
                self.admit(&frame).await;
                Event::Frame(frame)
            }
            Some(Ok(Message::Text(_))) => {
                self.host.metrics.frames_received.increment();
                Event::Text
            }
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => Event::Alive,
            Some(Ok(Message::Close(_))) => {
                // The WebSocket has queued the answer; whether the peer reads it is its affair.
                let _ = tokio::time::timeout(CLOSING, self.socket.flush()).await;
                self.link.linger();
                return Err(Over::Gone);
            }
            Some(Err(_)) | None if self.link.ended() => return Err(Over::Gone),
            Some(Err(error)) => Event::Broken(error.to_string()),
            None => return Err(Over::Gone),
        };
        let handled = self.handle(event).await;
        // A commit has taken it along.
        self.admission = None;
        handled
    }

    /// Waits until the engine has memory for what the frame says.
    async fn admit(&mut self, frame: &Bytes) {
        if let Some(database) = self.host.database.get() {
            self.admission = Some(database.admit(frame.len()).await);
        }
    }

    async fn handle(&mut self, event: Event) -> Result<(), Over> {
        let mut next = Some(event);
        let mut actions = Vec::new();
        while let Some(event) = next.take() {
            self.state.handle(event, self.world(), &mut actions);
            for action in actions.drain(..) {
                match action {
                    Action::Connect(hello) => next = Some(self.connect(hello).await),
                    other => self.act(other).await?,
                }
            }
        }
        Ok(())
    }

    fn world(&self) -> World {
        World {
            now: self.host.clock.monotonic(),
            wall: self.host.clock.now(),
            commits_in_flight: self.connection.as_ref().map_or(0, Connection::commits_in_flight),
        }
    }

    async fn act(&mut self, action: Action) -> Result<(), Over> {
        match action {
            Action::Send(message) => self.send(&message),
            Action::Connect(_) => debug_assert!(false, "`handle` does this"),
            Action::Close { code, reason } => {
                let code = code.close_code();
                return Err(Over::Close(CloseFrame { code, reason: reason.into() }));
            }
            Action::Drop { reason } => return Err(Over::Lost(reason)),
            Action::Ping => {
                self.patiently(Writing::Ping).await?;
            }
            Action::Commit(_)
            | Action::Listen(_)
            | Action::Unlisten(_)
            | Action::Acknowledge(_)
            | Action::Get { .. }
            | Action::Query { .. }
            | Action::Aggregate { .. }
            | Action::Digest { .. } => self.ask(action),
        }
        Ok(())
    }

    /// Hands a request to the engine. If the engine has no room, the session reads on only when it
    /// has.
    fn ask(&mut self, action: Action) {
        let Some(connection) = self.connection.clone() else {
            debug_assert!(false, "the state is ready only with a connection");
            return;
        };
        let mut queueing: Queueing = Box::pin(request(connection, action, self.admission.take()));
        if (&mut queueing).now_or_never().is_none() {
            self.queueing = Some(queueing);
        }
    }

    async fn connect(&mut self, hello: Hello) -> Event {
        tracing::debug!(client = %hello.client_id, agent = hello.agent, "hello");
        let asked = self.database.connect(hello.client_id, hello.acknowledged_through);
        match asked.await {
            Ok(connection) => {
                self.connection = Some(connection);
                Event::Connected { incarnation: self.database.incarnation() }
            }
            Err(status) => Event::Refused(status),
        }
    }

    fn send(&mut self, message: &ServerMessage) {
        count_error(&self.host.metrics, message);
        match &self.connection {
            Some(connection) => connection.send(message),
            None => self.unconnected.push(codec::encode_server(message)),
        }
    }

    /// Writes a frame and those that are ready behind it.
    async fn write(&mut self, first: Bytes) -> Result<(), Over> {
        let waited = self.patiently(Writing::Frames(first)).await?;
        if waited {
            // The peer took bytes while nothing was read from it: it is slow, not dead.
            self.handle(Event::Alive).await?;
        }
        if self.state.is_draining() {
            self.handle(Event::Sent).await?;
        }
        Ok(())
    }

    /// Writes for as long as the peer takes bytes. Returns whether it was waited for.
    async fn patiently(&mut self, writing: Writing) -> Result<bool, Over> {
        let (link, metrics) = (&self.link, &self.host.metrics);
        let write = async {
            match writing {
                Writing::Ping => self.socket.feed(Message::Ping(Bytes::new())).await?,
                Writing::Frames(first) => {
                    let mut sent = 0;
                    let mut next = Some(first);
                    while let Some(frame) = next {
                        self.socket.feed(Message::Binary(frame)).await?;
                        sent += 1;
                        next = match &self.connection {
                            Some(connection) if sent < BATCH => connection.try_next_frame(),
                            _ => None,
                        };
                    }
                    metrics.frames_sent.add(sent);
                }
            }
            self.socket.flush().await
        };
        tokio::pin!(write);
        let (mut silent, mut waited, mut before) = (0, false, link.written());
        loop {
            match tokio::time::timeout(self.host.rules.heartbeat, &mut write).await {
                Ok(Ok(())) => return Ok(waited),
                Ok(Err(_)) => return Err(Over::Gone),
                Err(_) => {}
            }
            let written = link.written();
            if written > before {
                (silent, waited, before) = (0, true, written);
                continue;
            }
            silent += 1;
            if silent >= SILENT_HEARTBEATS {
                return Err(Over::Lost("nothing could be written for three heartbeats"));
            }
        }
    }

    /// Sends the last control frames and closes.
    async fn finish(mut self, frame: CloseFrame) {
        tracing::debug!(code = frame.code, reason = frame.reason.as_str(), "closing");
        let mut last: Vec<Bytes> = std::mem::take(&mut self.unconnected);
        if let Some(connection) = &self.connection {
            // What remains are answers; changes are continued from the client's token.
            connection.close();
            last.extend(std::iter::from_fn(|| connection.try_next_frame()));
        }
        self.host.metrics.frames_sent.add(last.len() as u64);
        let closing = async {
            for frame in last {
                self.socket.feed(Message::Binary(frame)).await?;
            }
            self.socket.send(Message::Close(Some(frame))).await
        };
        if let Ok(Ok(())) = tokio::time::timeout(CLOSING, closing).await {
            self.link.linger();
        }
    }
}

/// What is to be written.
enum Writing {
    Ping,
    /// This frame and those that are ready behind it.
    Frames(Bytes),
}

async fn request(connection: Connection, action: Action, admission: Option<Admission>) {
    match action {
        Action::Commit(commit) => connection.commit(commit, admission).await,
        Action::Listen(listen) => connection.listen(listen).await,
        Action::Unlisten(target) => connection.unlisten(target).await,
        Action::Acknowledge(through) => connection.acknowledge(through).await,
        Action::Get { request, paths } => connection.get(request, paths),
        Action::Query { request, query, explain } => connection.query(request, query, explain),
        Action::Aggregate { request, aggregate, explain } => {
            connection.aggregate(request, aggregate, explain);
        }
        Action::Digest { request, target, nodes } => connection.digest(request, target, nodes),
        Action::Connect(_)
        | Action::Send(_)
        | Action::Ping
        | Action::Close { .. }
        | Action::Drop { .. } => debug_assert!(false, "not for the engine: {action:?}"),
    }
}

async fn next_frame(connection: Option<&Connection>) -> Option<Bytes> {
    match connection {
        Some(connection) => connection.next_frame().await,
        None => std::future::pending().await,
    }
}

async fn queued(queueing: &mut Option<Queueing>) {
    match queueing {
        Some(queueing) => queueing.await,
        None => std::future::pending().await,
    }
}

fn count_error(metrics: &SessionMetrics, message: &ServerMessage) {
    if let Some(status) = message.refusal() {
        metrics.error(status.code);
    }
}
