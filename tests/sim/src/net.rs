//! The virtual network, and the agenda of everything that is to happen. A link is one connection: it
//! keeps the order of its frames, as TCP does; what is lost on the way is sent again until the link is
//! closed. Links do not wait for each other: the frames of a new one overtake those of the old.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tidemark_core::engine::ConnectionId;
use tokio::sync::{Notify, Semaphore, mpsc};

use crate::chance::Chance;
use crate::clock::Now;

/// Frames that the server may have on their way to one client.
const WINDOW: usize = 8;

/// Names a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LinkId(pub u64);

/// What travels to the server.
#[derive(Debug)]
pub enum Up {
    /// A frame.
    Frame(Bytes),
    /// The answer to a ping.
    Pong,
    /// The client has closed the link.
    Closed,
}

/// What travels to the client.
#[derive(Debug)]
pub enum Down {
    /// The link is open.
    Opened,
    /// A frame.
    Frame(Bytes),
    /// Is it alive?
    Ping,
    /// The server has closed the link, or is not there.
    Closed,
}

/// Something that happens at its time.
#[derive(Debug)]
#[allow(missing_docs)] // Of whom, says the name.
pub enum Happening {
    /// A client's attempt to connect has come to the server.
    Knock(LinkId),
    /// Something has come to the server.
    AtServer(LinkId, Up),
    /// Something has come to the client.
    AtClient(LinkId, Down),
    /// A client's deadline; of this life of its process.
    Tick { client: usize, life: u64 },
    /// A client's driver stores what could wait; of this life of its process.
    Settle { client: usize, life: u64 },
    /// The next step of the plan.
    Step(usize),
    /// A client's process starts.
    StartClient(usize),
    /// A client's app wants the network again.
    Online { client: usize, life: u64 },
    /// The server starts.
    StartServer,
    /// Somebody looks whether all is quiet.
    Look,
}

/// One connection.
struct Link {
    client: usize,
    /// The life of the client's process that opened it, and what its engine calls it.
    life: u64,
    connection: ConnectionId,
    latency: [Duration; 2],
    /// When the last thing arrives, in either direction.
    last: [Duration; 2],
    chance: Chance,
    /// Set when the server accepts.
    inbox: Option<mpsc::UnboundedSender<Up>>,
    window: Arc<Semaphore>,
}

/// What a client's network is like now.
#[derive(Clone, Copy, Default)]
struct Weather {
    partitioned_until: Duration,
    slow_until: Duration,
    bytes_per_second: u64,
}

struct Inner {
    agenda: BTreeMap<(Duration, u64), Happening>,
    last: u64,
    links: BTreeMap<LinkId, Link>,
    last_link: u64,
    weather: BTreeMap<usize, Weather>,
    /// Bytes of frames that have arrived at each client.
    received: BTreeMap<usize, u64>,
}

/// The network; shared by the world and the server's sessions.
pub struct Net {
    now: Now,
    seed: u64,
    inner: Mutex<Inner>,
    /// Told when something is put on the agenda by a task of the server.
    changed: Notify,
}

const UP: usize = 0;
const DOWN: usize = 1;

impl Net {
    /// A network without links.
    pub fn new(now: Now, seed: u64) -> Net {
        let inner = Inner {
            agenda: BTreeMap::new(),
            last: 0,
            links: BTreeMap::new(),
            last_link: 0,
            weather: BTreeMap::new(),
            received: BTreeMap::new(),
        };
        Net { now, seed, inner: Mutex::new(inner), changed: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts something on the agenda.
    pub fn at(&self, time: Duration, what: Happening) {
        self.lock().push(time, what);
        self.changed.notify_one();
    }

    /// When something happens next.
    pub fn next_time(&self) -> Option<Duration> {
        self.lock().agenda.keys().next().map(|(time, _)| *time)
    }

    /// Takes what is due.
    pub fn take_due(&self) -> Option<Happening> {
        let now = self.now.elapsed();
        let mut inner = self.lock();
        let first = inner.agenda.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }

    /// Waits until the agenda has changed.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// A client opens a link.
    pub fn connect(&self, client: usize, life: u64, connection: ConnectionId) -> LinkId {
        let mut inner = self.lock();
        inner.last_link += 1;
        let id = LinkId(inner.last_link);
        let mut chance = Chance::of(&[self.seed, client as u64, life, connection.0]);
        // Mostly near, sometimes far: what is sent on a new link overtakes what is under way.
        let mut latency = || {
            let most = *chance.pick(&[3, 40, 400]);
            Duration::from_millis(1 + chance.below(most))
        };
        let latency = [latency(), latency()];
        let link = Link {
            client,
            life,
            connection,
            latency,
            last: [Duration::ZERO; 2],
            chance,
            inbox: None,
            window: Arc::new(Semaphore::new(WINDOW)),
        };
        inner.links.insert(id, link);
        inner.send(self.now.elapsed(), id, UP, 0, |_| Happening::Knock(id));
        id
    }

    /// The server accepts: what arrives goes here. Gives the room for frames on their way.
    pub fn accept(&self, id: LinkId, inbox: mpsc::UnboundedSender<Up>) -> Option<Arc<Semaphore>> {
        let mut inner = self.lock();
        let link = inner.links.get_mut(&id)?;
        link.inbox = Some(inbox);
        let window = Arc::clone(&link.window);
        drop(inner);
        self.send_down(id, Down::Opened);
        Some(window)
    }

    /// Sends to the server.
    pub fn send_up(&self, id: LinkId, what: Up) {
        let bytes = if let Up::Frame(frame) = &what { frame.len() } else { 0 };
        let now = self.now.elapsed();
        self.lock().send(now, id, UP, bytes, |_| Happening::AtServer(id, what));
    }

    /// Sends to the client.
    pub fn send_down(&self, id: LinkId, what: Down) {
        let bytes = if let Down::Frame(frame) = &what { frame.len() } else { 0 };
        let now = self.now.elapsed();
        self.lock().send(now, id, DOWN, bytes, |_| Happening::AtClient(id, what));
        self.changed.notify_one();
    }

    /// Something has come to the server: hands it to the session, if there is one.
    pub fn deliver_up(&self, id: LinkId, what: Up) {
        let inner = self.lock();
        if let Some(inbox) = inner.links.get(&id).and_then(|link| link.inbox.as_ref()) {
            // A session that has ended hears nothing.
            let _ = inbox.send(what);
        }
    }

    /// A frame has come to the client, whose it is: client, life and connection.
    pub fn arrived(&self, id: LinkId, what: &Down) -> Option<(usize, u64, ConnectionId)> {
        let mut inner = self.lock();
        let link = inner.links.get(&id)?;
        let whose = (link.client, link.life, link.connection);
        if let Down::Frame(frame) = what {
            link.window.add_permits(1);
            *inner.received.entry(whose.0).or_default() += frame.len() as u64;
        }
        Some(whose)
    }

    /// Bytes of frames that have come to a client.
    pub fn received(&self, client: usize) -> u64 {
        self.lock().received.get(&client).copied().unwrap_or_default()
    }

    /// The links that a client has not seen closed.
    pub fn links_of(&self, client: usize) -> Vec<LinkId> {
        let inner = self.lock();
        inner.links.iter().filter(|(_, link)| link.client == client).map(|(id, _)| *id).collect()
    }

    /// The server is gone: nobody hears what arrives, and the clients learn of it.
    pub fn server_died(&self) {
        let mut inner = self.lock();
        let open: Vec<LinkId> = inner.links.keys().copied().collect();
        for id in open {
            if let Some(link) = inner.links.get_mut(&id) {
                link.inbox = None;
            }
            inner.send(self.now.elapsed(), id, DOWN, 0, |_| Happening::AtClient(id, Down::Closed));
        }
    }

    /// Nothing arrives from or at the client until then.
    pub fn partition(&self, client: usize, until: Duration) {
        self.lock().weather.entry(client).or_default().partitioned_until = until;
    }

    /// The client takes bytes slowly until then.
    pub fn slow(&self, client: usize, bytes_per_second: u64, until: Duration) {
        let mut inner = self.lock();
        let weather = inner.weather.entry(client).or_default();
        (weather.slow_until, weather.bytes_per_second) = (until, bytes_per_second);
    }

    /// The weather is fine from now on.
    pub fn heal(&self) {
        self.lock().weather.clear();
    }
}

impl Inner {
    fn push(&mut self, time: Duration, what: Happening) {
        self.last += 1;
        self.agenda.insert((time, self.last), what);
    }

    fn send(
        &mut self,
        now: Duration,
        id: LinkId,
        direction: usize,
        bytes: usize,
        what: impl FnOnce(&Link) -> Happening,
    ) {
        let Some(link) = self.links.get_mut(&id) else { return };
        let weather = self.weather.get(&link.client).copied().unwrap_or_default();
        let jitter = Duration::from_millis(link.chance.below(3));
        let mut at = now.max(weather.partitioned_until) + link.latency[direction] + jitter;
        at = at.max(link.last[direction]);
        if direction == DOWN && now < weather.slow_until {
            let micros = bytes as u64 * 1_000_000 / weather.bytes_per_second.max(1);
            at += Duration::from_micros(micros);
        }
        link.last[direction] = at;
        let what = what(link);
        self.push(at, what);
    }
}
