//! One connection at the server, without a socket: the rules of `tidemark_server::session::state` on
//! top of the engine, frames from and to the virtual network. What `session.rs` of the server does,
//! this does in virtual time; it decides nothing.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidemark_protocol::model::Version;
use tidemark_protocol::wire::codec;
use tidemark_protocol::wire::server::SessionLimits;
use tidemark_server::clock::Clock;
use tidemark_server::engine::{Connection, Database};
use tidemark_server::session::state::{Action, Event, Rules, State, World};
use tokio::sync::{Semaphore, mpsc};

use crate::clock::{Now, ServerClock};
use crate::mutation::Mutation;
use crate::net::{Down, LinkId, Net, Up};
use crate::tap::Tap;

/// What holds for all sessions of a run.
pub fn rules(heartbeat: Duration) -> Rules {
    let limits = SessionLimits { frame_bytes: 4 << 20, targets: 100, commits_in_flight: 10 };
    let handshake_timeout = Duration::from_secs(10);
    Rules { project: "default".to_owned(), limits, heartbeat, handshake_timeout }
}

/// What a session needs.
pub struct Host {
    /// The network.
    pub net: Arc<Net>,
    /// The database.
    pub database: Database,
    /// The server's clock.
    pub clock: Arc<ServerClock>,
    /// Virtual time.
    pub now: Now,
    /// Sees what goes through.
    pub tap: Arc<Tap>,
    /// What holds for the session.
    pub rules: Arc<Rules>,
    /// What is broken on purpose.
    pub mutation: Option<Mutation>,
}

struct Session {
    host: Host,
    link: LinkId,
    state: State,
    connection: Option<Connection>,
    client: Option<tidemark_protocol::model::ClientId>,
    over: bool,
}

/// Serves one link until it ends.
pub async fn serve(
    host: Host,
    link: LinkId,
    mut inbox: mpsc::UnboundedReceiver<Up>,
    window: Arc<Semaphore>,
) {
    let state = State::new(Arc::clone(&host.rules), link.0, host.now.elapsed());
    let mut session = Session { host, link, state, connection: None, client: None, over: false };
    while !session.over {
        let deadline = session.state.deadline().unwrap_or(Duration::MAX / 4);
        let timer = tokio::time::sleep_until(session.host.now.instant(deadline));
        tokio::select! {
            biased;
            arrived = inbox.recv() => match arrived {
                Some(Up::Frame(frame)) => session.handle(Event::Frame(frame)).await,
                Some(Up::Pong) => session.handle(Event::Alive).await,
                Some(Up::Closed) | None => session.over = true,
            },
            frame = next_frame(session.connection.as_ref(), &window) => match frame {
                Some(frame) => session.send(frame),
                None => session.handle(Event::Ended).await,
            },
            () = timer => session.handle(Event::Tick).await,
        }
    }
    if let Some(connection) = &session.connection {
        while let Some(frame) = connection.try_next_frame() {
            session.host.net.send_down(session.link, Down::Frame(frame));
        }
        connection.close();
    }
    session.host.net.send_down(session.link, Down::Closed);
}

async fn next_frame(connection: Option<&Connection>, window: &Semaphore) -> Option<Bytes> {
    let Some(connection) = connection else { return std::future::pending().await };
    let permit = window.acquire().await.expect("nobody closes it");
    let frame = connection.next_frame().await;
    // Given back when the frame has arrived.
    permit.forget();
    frame
}

impl Session {
    fn send(&self, frame: Bytes) {
        if let Some(client) = self.client {
            self.host.tap.answered(client, &frame);
        }
        self.host.net.send_down(self.link, Down::Frame(frame));
    }

    async fn handle(&mut self, event: Event) {
        let mut next = Some(event);
        let mut actions = Vec::new();
        while let Some(event) = next.take() {
            self.state.handle(event, self.world(), &mut actions);
            for action in actions.drain(..) {
                if let Some(event) = self.act(action).await {
                    next = Some(event);
                }
            }
        }
    }

    fn world(&self) -> World {
        World {
            now: self.host.now.elapsed(),
            wall: self.host.clock.now(),
            commits_in_flight: self.connection.as_ref().map_or(0, Connection::commits_in_flight),
        }
    }

    async fn act(&mut self, action: Action) -> Option<Event> {
        match action {
            Action::Connect(hello) => {
                let client = hello.client_id;
                let asked = self.host.database.connect(client, hello.acknowledged_through);
                return Some(match asked.await {
                    Ok(connection) => {
                        (self.connection, self.client) = (Some(connection), Some(client));
                        Event::Connected { incarnation: self.host.database.incarnation() }
                    }
                    Err(status) => Event::Refused(status),
                });
            }
            Action::Send(message) => match &self.connection {
                Some(connection) => connection.send(&message),
                None => self.send(codec::encode_server(&message)),
            },
            Action::Ping => self.host.net.send_down(self.link, Down::Ping),
            Action::Close { .. } | Action::Drop { .. } => self.over = true,
            other => self.ask(other).await,
        }
        None
    }

    async fn ask(&self, action: Action) {
        let Some(connection) = &self.connection else { return };
        match action {
            Action::Commit(mut commit) => {
                if let Some(client) = self.client {
                    // The version that it would get now, at the earliest.
                    let now = u64::try_from(self.host.clock.now().as_micros()).unwrap_or(0);
                    let next = self.host.database.version().0 + 1;
                    self.host.tap.asked(client, &commit, Version(now.max(next)));
                }
                if self.host.mutation == Some(Mutation::ClocksIgnored) {
                    commit.edit_time = None;
                }
                connection.commit(commit, None).await;
            }
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
            | Action::Drop { .. } => {}
        }
    }
}
