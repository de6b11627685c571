//! The network of a test: one TCP proxy for each client, under the client's name, that can be cut, stalled and
//! slowed while the test runs. It forwards bytes and never changes them.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::trace::{PrintOnFailure, Trace, Way};
use crate::websocket::{Seen, Tap};

/// The proxy asks the kernel for a small receive buffer, so that a client that does not read is felt by the server
/// soon.
const RECEIVE_BUFFER: u32 = 16 * 1024;

/// The links of a test by client name. Prints what passed when a failing test drops it.
#[derive(Debug)]
pub struct Net {
    upstream: SocketAddr,
    links: Mutex<HashMap<String, Arc<Link>>>,
    trace: PrintOnFailure,
}

#[derive(Debug)]
struct Link {
    name: String,
    address: SocketAddr,
    condition: watch::Sender<Condition>,
    up: AtomicU64,
    down: AtomicU64,
    connections: AtomicU64,
}

/// How a link is; only [`Net`]'s methods change it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Condition {
    /// Connections are closed as soon as they come.
    refused: bool,
    /// Nothing passes, and nothing says so.
    frozen: bool,
    /// Nothing is taken from the server.
    stalled: bool,
    delay: Duration,
    /// Connections of an older generation end.
    generation: u64,
}

impl Condition {
    fn holds(&self, way: Way) -> bool {
        self.frozen || (self.stalled && way == Way::Down)
    }
}

/// Bytes that passed a link since the test began, WebSocket framing included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traffic {
    /// To the server.
    pub up: u64,
    /// To the client.
    pub down: u64,
}

impl Net {
    /// A network in front of a server.
    pub fn new(upstream: SocketAddr) -> Net {
        Net { upstream, links: Mutex::default(), trace: PrintOnFailure(Arc::default()) }
    }

    /// What passed.
    pub fn trace(&self) -> &Trace {
        &self.trace.0
    }

    /// The address at which the client of this name reaches the server.
    pub fn address(&self, name: &str) -> SocketAddr {
        self.link(name).address
    }

    /// Cuts the client off: its connections end and new ones are refused.
    pub fn partition(&self, name: &str) {
        self.change(name, "partition", |condition| {
            condition.refused = true;
            condition.generation += 1;
        });
    }

    /// Lets nothing pass, without a sign to either side.
    pub fn freeze(&self, name: &str) {
        self.change(name, "freeze", |condition| condition.frozen = true);
    }

    /// Takes nothing more from the server: a client that does not read.
    pub fn stall(&self, name: &str) {
        self.change(name, "stall", |condition| condition.stalled = true);
    }

    /// Ends a partition, a freeze, a stall and a delay.
    pub fn heal(&self, name: &str) {
        self.change(name, "heal", |condition| {
            *condition = Condition { generation: condition.generation, ..Condition::default() };
        });
    }

    /// Ends the client's connections; new ones pass.
    pub fn drop_connections(&self, name: &str) {
        self.change(name, "drop connections", |condition| condition.generation += 1);
    }

    /// Delays everything, in both directions.
    pub fn delay(&self, name: &str, delay: Duration) {
        self.change(name, "delay", |condition| condition.delay = delay);
    }

    /// What passed the link so far.
    pub fn traffic(&self, name: &str) -> Traffic {
        let link = self.link(name);
        Traffic { up: link.up.load(Ordering::Relaxed), down: link.down.load(Ordering::Relaxed) }
    }

    /// How many connections the client has made so far.
    pub fn connections(&self, name: &str) -> u64 {
        self.link(name).connections.load(Ordering::Relaxed)
    }

    fn change(&self, name: &str, note: &str, change: impl FnOnce(&mut Condition)) {
        self.trace().note(name, note);
        self.link(name).condition.send_modify(change);
    }

    fn link(&self, name: &str) -> Arc<Link> {
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(link) = links.get(name) {
            return Arc::clone(link);
        }
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port on loopback");
        listener.set_nonblocking(true).expect("a socket can be made non-blocking");
        let link = Arc::new(Link {
            name: name.to_owned(),
            address: listener.local_addr().expect("a bound socket has an address"),
            condition: watch::Sender::new(Condition::default()),
            up: AtomicU64::new(0),
            down: AtomicU64::new(0),
            connections: AtomicU64::new(0),
        });
        links.insert(name.to_owned(), Arc::clone(&link));
        let listener = TcpListener::from_std(listener).expect("a test runs inside a runtime");
        let (upstream, trace) = (self.upstream, Arc::clone(&self.trace.0));
        crate::spawn(accept(listener, upstream, Arc::clone(&link), trace));
        link
    }
}

async fn accept(listener: TcpListener, upstream: SocketAddr, link: Arc<Link>, trace: Arc<Trace>) {
    while let Ok((client, _)) = listener.accept().await {
        let (link, trace) = (Arc::clone(&link), Arc::clone(&trace));
        crate::spawn(async move {
            let condition = link.condition.subscribe();
            if !condition.borrow().refused {
                connection(client, upstream, &link, &trace, condition).await;
            }
        });
    }
}

/// One connection, until either side ends it or the link's generation moves on.
async fn connection(
    client: TcpStream,
    upstream: SocketAddr,
    link: &Link,
    trace: &Trace,
    mut condition: watch::Receiver<Condition>,
) {
    let generation = condition.borrow().generation;
    let Ok(server) = connect(upstream).await else {
        trace.note(&link.name, "the server does not answer");
        return;
    };
    let number = link.connections.fetch_add(1, Ordering::Relaxed) + 1;
    trace.note(&link.name, format!("connection {number}"));
    // Small frames must not wait for each other: the proxy adds no latency of its own.
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (client_read, client_write) = client.into_split();
    let (server_read, server_write) = server.into_split();
    let ended = condition.clone();
    tokio::select! {
        () = pump(Way::Up, client_read, server_write, link, trace, ended.clone()) => {}
        () = pump(Way::Down, server_read, client_write, link, trace, ended) => {}
        _ = condition.wait_for(|now| now.generation != generation) => {}
    }
    trace.note(&link.name, format!("connection {number} ended"));
}

async fn connect(upstream: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
    socket.connect(upstream).await
}

/// Forwards one direction until it ends, then closes it.
async fn pump(
    way: Way,
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    link: &Link,
    trace: &Trace,
    mut condition: watch::Receiver<Condition>,
) {
    let (queue, mut queued) = mpsc::channel::<(Instant, Bytes)>(16);
    // Owns the queue, so that the queue ends with it.
    let read = async move {
        let mut tap = Tap::default();
        let mut buffer = vec![0; 16 * 1024];
        loop {
            if condition.wait_for(|now| !now.holds(way)).await.is_err() {
                return;
            }
            let count = tokio::select! {
                read = from.read(&mut buffer) => match read {
                    Ok(0) | Err(_) => return,
                    Ok(count) => count,
                },
                // Looks at the condition again before it takes anything.
                _ = condition.changed() => continue,
            };
            let counter = if way == Way::Up { &link.up } else { &link.down };
            counter.fetch_add(count as u64, Ordering::Relaxed);
            for seen in tap.feed(&buffer[..count]) {
                keep(trace, &link.name, way, seen);
            }
            let due = Instant::now() + condition.borrow().delay;
            if queue.send((due, Bytes::copy_from_slice(&buffer[..count]))).await.is_err() {
                return;
            }
        }
    };
    let write = async {
        while let Some((due, bytes)) = queued.recv().await {
            tokio::time::sleep_until(due).await;
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
    };
    // When the source ends, what was read before is still delivered.
    tokio::pin!(read, write);
    tokio::select! {
        () = &mut read => write.await,
        () = &mut write => {}
    }
}

fn keep(trace: &Trace, name: &str, way: Way, seen: Seen) {
    match seen {
        Seen::Head(line) => trace.note(name, line),
        Seen::Message(frame) => trace.frame(name, way, frame),
        Seen::Close(code) => trace.note(name, format!("{way:?}: close {code:?}")),
    }
}
