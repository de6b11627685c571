//! The rules of a connection, without a socket: an [`Event`] and the time go in, [`Action`]s come
//! out. `session.rs` drives it; it must not wait, read a clock, or touch the engine.
//!
//! ```text
//! AwaitHello ── Hello ──► Connecting ── Connected ──► Ready ── Drain ──► Draining
//!      └───────────────────── any of them ──────────────────────────────────┴──► Closed
//! ```

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidemark_protocol::model::{
    AggregateQuery, Code, DigestNode, DocumentPath, Incarnation, ModelError, Query, Target,
    TargetId, Timestamp, WriteId,
};
use tidemark_protocol::wire::client::{ClientMessage, Commit, Hello, Listen};
use tidemark_protocol::wire::codec::{DecodeError, Scope, decode_client};
use tidemark_protocol::wire::server::{ServerMessage, SessionLimits, Status, Welcome};
use tidemark_protocol::wire::version;

use crate::refusals::Refusals;

use super::limits::{BAD_FRAMES, PATHS, SILENT_HEARTBEATS};

/// The database that a project has.
pub const DATABASE: &str = "(default)";

/// What holds for all sessions of a server.
#[derive(Clone, Debug)]
pub struct Rules {
    /// The project that Hello must name.
    pub project: String,
    /// What Welcome promises.
    pub limits: SessionLimits,
    /// How often a silent client is asked for a sign of life.
    pub heartbeat: Duration,
    /// How long Hello may take.
    pub handshake_timeout: Duration,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// A binary message.
    Frame(Bytes),
    /// A text message, which the protocol does not have.
    Text,
    /// A WebSocket ping or pong, or bytes that the peer accepted: it is alive.
    Alive,
    /// The WebSocket itself was broken by the peer: a message too large, a frame unmasked.
    Broken(String),
    /// The engine answered [`Action::Connect`].
    Connected {
        /// The life of the database.
        incarnation: Incarnation,
    },
    /// The engine refused [`Action::Connect`].
    Refused(Status),
    /// Frames were sent; the number of commits in flight may have changed.
    Sent,
    /// The engine ended the connection and everything it said was sent.
    Ended,
    /// The server is stopping.
    Drain,
    /// The moment of [`State::deadline`] came.
    Tick,
}

/// What the state may know of the world.
#[derive(Clone, Copy, Debug)]
pub struct World {
    /// Monotonic time.
    pub now: Duration,
    /// Wall time.
    pub wall: Timestamp,
    /// Commits of this connection that have no outcome yet.
    pub commits_in_flight: usize,
}

/// What is to be done, in order.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Action {
    /// Ask the engine for a connection; answered by Connected or Refused before the next frame.
    Connect(Hello),
    Send(ServerMessage),
    Listen(Listen),
    Unlisten(TargetId),
    Commit(Commit),
    Acknowledge(WriteId),
    Get {
        request: u32,
        paths: Vec<DocumentPath>,
    },
    Query {
        request: u32,
        query: Query,
        explain: bool,
    },
    Aggregate {
        request: u32,
        aggregate: AggregateQuery,
        explain: bool,
    },
    Digest {
        request: u32,
        target: Target,
        nodes: Vec<DigestNode>,
    },
    /// A WebSocket ping, which any client answers.
    Ping,
    /// Send what is queued, then close with the close code of `code`.
    Close {
        code: Code,
        reason: String,
    },
    /// The peer is gone: drop the socket.
    Drop {
        reason: &'static str,
    },
}

/// Where a connection is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    AwaitHello,
    Connecting { version: u32 },
    Ready,
    Draining,
    Closed,
}

/// One connection.
#[derive(Debug)]
pub struct State {
    rules: Arc<Rules>,
    /// For logs and support; told to the client in Welcome.
    name: u64,
    /// Added to `reconnect_after`, so that the clients of a stopped server do not return as one.
    jitter: Duration,
    phase: Phase,
    /// When the socket opened.
    opened: Duration,
    /// When the peer last showed life; set by all events that prove it.
    heard: Duration,
    /// Pings sent since `heard`.
    pings: u32,
    /// Frames that could not be understood, ever.
    bad_frames: u32,
    /// Targets the client listens to; set by Listen, cleared by Unlisten. Those the engine refused
    /// stay until the client unlistens.
    targets: HashSet<TargetId>,
    /// Commits that were refused for now before they reached the engine.
    refusals: Refusals,
}

impl State {
    /// A connection whose socket just opened. `random` names it and spreads reconnects.
    pub fn new(rules: Arc<Rules>, random: u64, now: Duration) -> State {
        State {
            rules,
            name: random,
            jitter: Duration::from_millis(random % 2_000),
            phase: Phase::AwaitHello,
            opened: now,
            heard: now,
            pings: 0,
            bad_frames: 0,
            targets: HashSet::new(),
            refusals: Refusals::default(),
        }
    }

    /// The name of the session.
    pub fn name(&self) -> String {
        format!("{:016x}", self.name)
    }

    /// Whether it is over: nothing more will be asked for.
    pub fn is_closed(&self) -> bool {
        self.phase == Phase::Closed
    }

    /// Whether the connection ends as soon as its commits have their outcomes.
    pub fn is_draining(&self) -> bool {
        self.phase == Phase::Draining
    }

    /// When the next Tick is due.
    pub fn deadline(&self) -> Option<Duration> {
        match self.phase {
            Phase::AwaitHello | Phase::Connecting { .. } => {
                Some(self.opened + self.rules.handshake_timeout)
            }
            Phase::Ready | Phase::Draining => Some(self.heard + self.patience()),
            Phase::Closed => None,
        }
    }

    /// How long the peer may be silent before the next ping, or before it counts as dead. A client
    /// shows life at each heartbeat, so it is asked half a heartbeat after it should have.
    fn patience(&self) -> Duration {
        let heartbeat = self.rules.heartbeat;
        if self.pings + 1 < SILENT_HEARTBEATS {
            heartbeat * self.pings + heartbeat * 3 / 2
        } else {
            heartbeat * SILENT_HEARTBEATS
        }
    }

    /// Takes one event; what is to be done is added to `actions`.
    pub fn handle(&mut self, event: Event, world: World, actions: &mut Vec<Action>) {
        if self.phase == Phase::Closed {
            return;
        }
        match event {
            Event::Frame(frame) => {
                self.show_life(world);
                self.frame(&frame, world, actions);
            }
            Event::Text => {
                self.show_life(world);
                let message = "the message is text; frames are binary messages";
                self.bad_frame(status(Code::InvalidArgument, message), actions);
            }
            Event::Alive => self.show_life(world),
            Event::Broken(problem) => {
                let message = format!("the WebSocket failed: {problem}");
                self.go_away(status(Code::InvalidArgument, message), Some(self.jitter), actions);
            }
            Event::Connected { incarnation } => self.connected(incarnation, world, actions),
            Event::Refused(refusal) => {
                let again = refusal.code.is_retryable().then_some(self.jitter);
                self.go_away(refusal, again, actions);
            }
            Event::Sent => self.close_if_drained(world, actions),
            Event::Ended => {
                self.close(Code::Aborted, "the connection was ended by the server", actions);
            }
            Event::Drain => self.drain(world, actions),
            Event::Tick => self.tick(world, actions),
        }
    }

    fn show_life(&mut self, world: World) {
        self.heard = world.now;
        self.pings = 0;
    }

    fn frame(&mut self, frame: &Bytes, world: World, actions: &mut Vec<Action>) {
        let limit = usize::try_from(self.rules.limits.frame_bytes).unwrap_or(usize::MAX);
        let decoded = decode_client(frame, limit);
        match self.phase {
            Phase::AwaitHello => self.greeting(decoded, actions),
            Phase::Connecting { .. } => {
                let refusal = status(Code::FailedPrecondition, "wait for Welcome after Hello");
                self.go_away(refusal, Some(self.jitter), actions);
            }
            Phase::Ready | Phase::Draining => match decoded {
                Ok(message) => self.message(message, world, actions),
                Err(error) => self.undecodable(&error, actions),
            },
            Phase::Closed => {}
        }
    }

    fn greeting(&mut self, first: Result<ClientMessage, DecodeError>, actions: &mut Vec<Action>) {
        let greeted = match first {
            Ok(ClientMessage::Hello(hello)) => self.check(&hello).map(|version| (version, hello)),
            Ok(_) => Err(status(Code::FailedPrecondition, "the first frame must be Hello")),
            Err(error) => Err(decode_status(&error)),
        };
        match greeted {
            Ok((version, hello)) => {
                self.phase = Phase::Connecting { version };
                actions.push(Action::Connect(hello));
            }
            Err(refusal) => self.go_away(refusal, None, actions),
        }
    }

    fn check(&self, hello: &Hello) -> Result<u32, Status> {
        let Hello { protocol_version: newest, minimum_version: oldest, .. } = *hello;
        let version = version::negotiate(newest, oldest).ok_or_else(|| {
            let (first, last) = (version::MINIMUM_VERSION, version::PROTOCOL_VERSION);
            let message = format!(
                "the client speaks protocol versions {oldest} to {newest}, the server {first} to {last}"
            );
            status(Code::FailedPrecondition, message)
        })?;
        if hello.project != self.rules.project {
            let message = format!("there is no project {:?} here", shown(&hello.project));
            return Err(status(Code::NotFound, message));
        }
        if hello.database != DATABASE {
            let message = format!(
                "there is no database {:?} here; the database is {DATABASE:?}",
                shown(&hello.database)
            );
            return Err(status(Code::NotFound, message));
        }
        Ok(version)
    }

    fn connected(&mut self, incarnation: Incarnation, world: World, actions: &mut Vec<Action>) {
        let Phase::Connecting { version } = self.phase else { return };
        self.phase = Phase::Ready;
        self.show_life(world);
        actions.push(Action::Send(ServerMessage::Welcome(Welcome {
            protocol_version: version,
            server_time: world.wall,
            session: self.name(),
            incarnation,
            limits: self.rules.limits,
            heartbeat: self.rules.heartbeat,
        })));
    }

    fn message(&mut self, message: ClientMessage, world: World, actions: &mut Vec<Action>) {
        match message {
            ClientMessage::Hello(_) => {
                let message = "Hello was said; only the first frame may be Hello";
                self.bad_frame(status(Code::FailedPrecondition, message), actions);
            }
            ClientMessage::Listen(listen) => self.listen(listen, actions),
            ClientMessage::Unlisten { target } => {
                self.targets.remove(&target);
                actions.push(Action::Unlisten(target));
            }
            ClientMessage::Commit(commit) => self.commit(commit, world, actions),
            ClientMessage::Get { request, paths } => match check_paths(&paths) {
                Ok(()) => actions.push(Action::Get { request, paths }),
                Err(status) => {
                    actions.push(Action::Send(ServerMessage::RequestError { request, status }));
                }
            },
            ClientMessage::Query { request, query, explain } => {
                actions.push(Action::Query { request, query, explain });
            }
            ClientMessage::Aggregate { request, aggregate, explain } => {
                actions.push(Action::Aggregate { request, aggregate, explain });
            }
            ClientMessage::Digest { request, target, nodes } => match check_digest(&target, &nodes)
            {
                Ok(()) => actions.push(Action::Digest { request, target, nodes }),
                Err(status) => {
                    actions.push(Action::Send(ServerMessage::RequestError { request, status }));
                }
            },
            ClientMessage::Ping { nonce } => {
                actions.push(Action::Send(ServerMessage::Pong { nonce, server_time: world.wall }));
            }
            ClientMessage::Acknowledge { through } => actions.push(Action::Acknowledge(through)),
        }
    }

    fn listen(&mut self, listen: Listen, actions: &mut Vec<Action>) {
        if self.phase == Phase::Draining {
            // GoAway has answered it: the client listens again where it reconnects.
            return;
        }
        match self.check_listen(&listen) {
            Ok(()) => {
                self.targets.insert(listen.target_id);
                actions.push(Action::Listen(listen));
            }
            Err(status) => {
                let target = listen.target_id;
                actions.push(Action::Send(ServerMessage::TargetError { target, status }));
            }
        }
    }

    fn check_listen(&self, listen: &Listen) -> Result<(), Status> {
        if let Target::Documents(paths) = &listen.target {
            check_paths(paths)?;
        }
        let limit = usize::try_from(self.rules.limits.targets).unwrap_or(usize::MAX);
        if self.targets.len() >= limit && !self.targets.contains(&listen.target_id) {
            let message = format!("the connection listens to {limit} targets, which is the limit");
            return Err(status(Code::ResourceExhausted, message));
        }
        Ok(())
    }

    fn commit(&mut self, commit: Commit, world: World, actions: &mut Vec<Action>) {
        if self.phase == Phase::Draining {
            // GoAway has answered it: a commit without an outcome is sent again.
            return;
        }
        let write_id = commit.write_id;
        match self.check_commit(&commit, world) {
            Ok(()) => {
                self.refusals.answered(write_id, None);
                actions.push(Action::Commit(commit));
            }
            Err(status) => {
                self.refusals.answered(write_id, Some(status.code));
                actions.push(Action::Send(ServerMessage::Rejected { write_id, status }));
            }
        }
    }

    fn check_commit(&self, commit: &Commit, world: World) -> Result<(), Status> {
        if commit.write_id == WriteId(0) {
            return Err(status(Code::InvalidArgument, "a write id must be greater than 0"));
        }
        if let Some(status) = self.refusals.of_follower(commit.follows) {
            return Err(status);
        }
        let limit = self.rules.limits.commits_in_flight;
        if world.commits_in_flight >= usize::try_from(limit).unwrap_or(usize::MAX) {
            let message = format!("{limit} commits wait for their outcome, which is the limit");
            return Err(status(Code::ResourceExhausted, message));
        }
        Ok(())
    }

    fn undecodable(&mut self, error: &DecodeError, actions: &mut Vec<Action>) {
        let status = decode_status(error);
        let answer = match *error {
            DecodeError::TooLarge { .. } | DecodeError::Malformed(_) => None,
            DecodeError::Invalid { scope, .. } => match scope {
                Scope::Connection => None,
                Scope::Target(target) => {
                    Some(ServerMessage::TargetError { target, status: status.clone() })
                }
                Scope::Write(write_id) => {
                    self.refusals.answered(write_id, Some(status.code));
                    Some(ServerMessage::Rejected { write_id, status: status.clone() })
                }
                Scope::Request(request) => {
                    Some(ServerMessage::RequestError { request, status: status.clone() })
                }
            },
        };
        match answer {
            Some(answer) => actions.push(Action::Send(answer)),
            None => self.bad_frame(status, actions),
        }
    }

    /// A frame that could not be understood is answered, and forgiven a limited number of times.
    fn bad_frame(&mut self, status: Status, actions: &mut Vec<Action>) {
        if matches!(self.phase, Phase::AwaitHello | Phase::Connecting { .. }) {
            return self.go_away(status, None, actions);
        }
        actions.push(Action::Send(ServerMessage::Error { status }));
        self.bad_frames += 1;
        if self.bad_frames >= BAD_FRAMES {
            let message = format!("{BAD_FRAMES} frames could not be understood");
            self.go_away(self::status(Code::InvalidArgument, message), Some(self.jitter), actions);
        }
    }

    fn drain(&mut self, world: World, actions: &mut Vec<Action>) {
        match self.phase {
            Phase::AwaitHello | Phase::Connecting { .. } => {
                self.go_away(stopping(), Some(self.jitter), actions);
            }
            Phase::Ready => {
                self.phase = Phase::Draining;
                let reconnect_after = Some(self.jitter);
                let status = stopping();
                actions.push(Action::Send(ServerMessage::GoAway { status, reconnect_after }));
                self.close_if_drained(world, actions);
            }
            Phase::Draining | Phase::Closed => {}
        }
    }

    fn close_if_drained(&mut self, world: World, actions: &mut Vec<Action>) {
        if self.phase == Phase::Draining && world.commits_in_flight == 0 {
            self.close(Code::Unavailable, "the server is stopping", actions);
        }
    }

    fn tick(&mut self, world: World, actions: &mut Vec<Action>) {
        let Some(deadline) = self.deadline() else { return };
        if world.now < deadline {
            return;
        }
        match self.phase {
            Phase::AwaitHello | Phase::Connecting { .. } => {
                let timeout = self.rules.handshake_timeout;
                let message = format!("no Hello within {timeout:?}");
                self.go_away(status(Code::DeadlineExceeded, message), Some(self.jitter), actions);
            }
            Phase::Ready | Phase::Draining => {
                let silent = world.now.saturating_sub(self.heard);
                if silent >= self.rules.heartbeat * SILENT_HEARTBEATS {
                    self.phase = Phase::Closed;
                    actions.push(Action::Drop { reason: "three silent heartbeats" });
                } else {
                    self.pings += 1;
                    actions.push(Action::Ping);
                }
            }
            Phase::Closed => {}
        }
    }

    fn go_away(
        &mut self,
        status: Status,
        reconnect_after: Option<Duration>,
        actions: &mut Vec<Action>,
    ) {
        let Status { code, message } = status.clone();
        actions.push(Action::Send(ServerMessage::GoAway { status, reconnect_after }));
        self.close(code, &message, actions);
    }

    fn close(&mut self, code: Code, reason: &str, actions: &mut Vec<Action>) {
        self.phase = Phase::Closed;
        actions.push(Action::Close { code, reason: close_reason(reason) });
    }
}

fn status(code: Code, message: impl Into<String>) -> Status {
    Status { code, message: message.into() }
}

fn stopping() -> Status {
    status(Code::Unavailable, "the server is stopping; reconnect")
}

fn check_paths(paths: &[DocumentPath]) -> Result<(), Status> {
    match paths.len() {
        0 => Err(status(Code::InvalidArgument, "no document is named")),
        1..=PATHS => Ok(()),
        found => {
            let message = format!("{found} documents are named; the limit is {PATHS}");
            Err(status(Code::InvalidArgument, message))
        }
    }
}

fn check_digest(target: &Target, nodes: &[DigestNode]) -> Result<(), Status> {
    if let Target::Documents(paths) = target {
        check_paths(paths)?;
    }
    if nodes.is_empty() {
        return Err(status(Code::InvalidArgument, "no branch of the digest is named"));
    }
    Ok(())
}

fn decode_status(error: &DecodeError) -> Status {
    match error {
        DecodeError::TooLarge { .. } | DecodeError::Malformed(_) => {
            status(Code::InvalidArgument, error.to_string())
        }
        DecodeError::Invalid { error: ModelError { code, message }, .. } => {
            status(*code, message.clone())
        }
    }
}

/// A peer's text, short enough to be repeated to it.
fn shown(text: &str) -> &str {
    truncated(text, 64)
}

/// A close frame has room for 123 bytes of reason.
fn close_reason(reason: &str) -> String {
    truncated(reason, 123).to_owned()
}

fn truncated(text: &str, bytes: usize) -> &str {
    let mut end = bytes.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests;
