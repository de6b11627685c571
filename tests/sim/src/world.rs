//! A run: the clients, the network, the server and its disk under one virtual clock. It brings
//! everything to everyone in the order of the agenda, carries out the plan, then heals what it broke
//! and waits until all is quiet. The judge looks at what is left.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tidemark_core::DocumentSnapshot;
use tidemark_protocol::model::{DocumentPath, Fields, Query, Target, Write, WriteOp};
use tidemark_server::engine::{Database, DatabaseName, DatabaseOptions};
use tidemark_server::tasks::Tasks;
use tokio::sync::mpsc;

use crate::clock::{Now, ServerClock};
use crate::mutation::Mutation;
use crate::net::{Down, Happening, LinkId, Net};
use crate::node::{Around, Node, View};
use crate::plan::{Edit, Op, Plan, What};
use crate::session::{self, Host};
use crate::shapes;
use crate::store::Disk;
use crate::tap::{Intent, Tap};
use crate::trace::Trace;
use crate::verdict::{Broken, Invariant};

/// How long healing may take.
const PATIENCE: Duration = Duration::from_secs(300);
/// How often one looks whether all is quiet.
const LOOK: Duration = Duration::from_millis(500);

struct Life {
    database: Database,
    /// Ends them when dropped.
    tasks: Tasks,
}

/// How full a cache is, and what it must keep.
#[derive(Clone, Copy, Debug)]
pub struct CacheUse {
    /// Bytes.
    pub size: u64,
    /// How many there should be at most.
    pub budget: u64,
    /// Documents that are listened to.
    pub documents: u64,
    /// Listeners.
    pub listeners: u64,
}

impl CacheUse {
    fn of(node: &Node) -> CacheUse {
        let (size, budget) = node.disk.size_and_budget();
        let mut listened = BTreeSet::new();
        for last in node.listening().filter_map(|listener| listener.history.last()) {
            if let View::Rows(rows) = last.shown.view() {
                listened.extend(rows.iter().map(DocumentSnapshot::path));
            }
        }
        let (documents, listeners) = (listened.len() as u64, node.listening().count() as u64);
        CacheUse { size, budget, documents, listeners }
    }
}

/// Everything there is.
pub struct World {
    /// What happens.
    pub plan: Plan,
    /// What is broken on purpose.
    pub mutation: Option<Mutation>,
    /// Virtual time.
    pub now: Now,
    /// The network.
    pub net: Arc<Net>,
    /// The writes.
    pub tap: Arc<Tap>,
    /// The clients, and after healing the auditor.
    pub nodes: Vec<Node>,
    /// What was delivered.
    pub trace: Trace,
    /// How full the clients' caches were when all was quiet.
    pub caches: Vec<CacheUse>,
    /// Bytes that clients received when they came again after one document had changed.
    pub resumed: Vec<(usize, u64)>,
    /// Crashes of the server.
    pub server_crashes: u64,
    /// Replays after an overflow, of all lives of the server.
    pub resyncs: u64,
    clock: Arc<ServerClock>,
    disk: Disk,
    server: Option<Life>,
    /// For the names of transactions.
    transactions: u64,
    steps_done: bool,
}

impl World {
    /// The beginning of a run. Within a runtime whose time is paused.
    pub fn new(plan: Plan, mutation: Option<Mutation>) -> World {
        let now = Now::begin();
        let tap = Arc::new(Tap::default());
        let budget = plan.server.cache_bytes;
        let node = |index| Node::new(index, plan.seed, budget, mutation);
        let nodes: Vec<Node> = (0..plan.clients).map(node).collect();
        for node in &nodes {
            tap.record().name(Node::client_id(node.index), node.index);
        }
        World {
            now,
            net: Arc::new(Net::new(now, plan.seed)),
            tap,
            nodes,
            trace: Trace::default(),
            caches: Vec::new(),
            resumed: Vec::new(),
            server_crashes: 0,
            resyncs: 0,
            clock: Arc::new(ServerClock::new(now, plan.seed)),
            disk: Disk::new(Duration::from_millis(plan.server.sync_ms)),
            server: None,
            transactions: 0,
            steps_done: false,
            plan,
            mutation,
        }
    }

    /// Carries out the plan, heals, and waits until all is quiet.
    pub async fn run(&mut self) -> Result<(), Broken> {
        self.start_server().await;
        for client in 0..self.nodes.len() {
            self.start_client(client)?;
        }
        if self.plan.steps.is_empty() {
            self.steps_done = true;
        } else {
            let first = Duration::from_millis(self.plan.steps[0].wait_ms);
            self.net.at(first, Happening::Step(0));
        }
        while !self.steps_done {
            self.next().await?;
        }
        self.heal().await?;
        self.until_quiet().await?;
        self.caches = self.nodes.iter().map(CacheUse::of).collect();
        self.resume_after_one_write().await?;
        self.audit().await
    }

    /// All clients go, one document changes, and they come again: how many bytes that takes.
    async fn resume_after_one_write(&mut self) -> Result<(), Broken> {
        let clients = self.nodes.len();
        self.start_auditor()?;
        self.listen_to_much(clients).await?;
        let around = |world: &mut World, enabled: bool| {
            for client in 0..clients {
                world.with(client, |node, around| node.set_network(enabled, around));
            }
        };
        around(self, false);
        let edit = Edit { document: 0, op: Op::Set { a: 1, b: 2, tags: vec![1, 2] } };
        self.auditor_writes(vec![shapes::write(&edit)]).await?;
        let before: Vec<u64> = (0..clients).map(|client| self.net.received(client)).collect();
        around(self, true);
        self.until_quiet().await?;
        for (client, before) in before.into_iter().enumerate() {
            self.resumed.push((client, self.net.received(client) - before));
        }
        Ok(())
    }

    /// One more client, that was never there.
    fn start_auditor(&mut self) -> Result<(), Broken> {
        let auditor = self.nodes.len();
        self.tap.record().name(Node::client_id(auditor), auditor);
        self.nodes.push(Node::new(auditor, self.plan.seed, 1 << 30, None));
        self.start_client(auditor)
    }

    /// Every client gets a listener whose result is much to send, and does not change.
    async fn listen_to_much(&mut self, clients: usize) -> Result<(), Broken> {
        self.auditor_writes(shapes::much()).await?;
        for client in 0..clients {
            let target = shapes::target(shapes::MUCH, 0);
            self.with(client, |node, around| node.listen(u8::MAX, target, true, around));
        }
        self.until_quiet().await
    }

    async fn auditor_writes(&mut self, writes: Vec<Write>) -> Result<(), Broken> {
        let auditor = self.nodes.len() - 1;
        self.with(auditor, |node, around| node.write(writes, around));
        self.until(|world| world.tap.record().intents.last().is_some_and(Intent::is_answered)).await
    }

    /// Waits until something is so.
    async fn until(&mut self, mut holds: impl FnMut(&World) -> bool) -> Result<(), Broken> {
        let begun = self.now.elapsed();
        while !holds(self) {
            if self.now.elapsed() > begun + PATIENCE {
                let why = "the auditor's write has no outcome".to_owned();
                return Err(Broken { invariant: Invariant::Convergence, why });
            }
            self.wait_a_little().await?;
        }
        Ok(())
    }

    fn broken(&self) -> Result<(), Broken> {
        self.tap.record().broken.take().map_or(Ok(()), Err)
    }

    /// Lets the next thing on the agenda happen; the server's tasks run while it is waited for.
    async fn next(&mut self) -> Result<(), Broken> {
        if let Some(happening) = self.net.take_due() {
            self.trace.add(self.now.elapsed(), &happening);
            self.happens(happening).await?;
            return self.broken();
        }
        let next = self.net.next_time().unwrap_or(self.now.elapsed() + PATIENCE);
        tokio::select! {
            biased;
            () = self.net.changed() => {}
            () = tokio::time::sleep_until(self.now.instant(next)) => {}
        }
        Ok(())
    }

    async fn happens(&mut self, happening: Happening) -> Result<(), Broken> {
        match happening {
            Happening::Knock(link) => self.knock(link),
            Happening::AtServer(link, what) => self.net.deliver_up(link, what),
            Happening::AtClient(link, what) => self.at_client(link, what),
            Happening::Tick { client, life } => self.with(client, |node, around| {
                node.tick(life, around);
            }),
            Happening::Settle { client, life } => self.with(client, |node, around| {
                node.settle_later(life, around);
            }),
            Happening::Step(at) => self.step(at).await,
            Happening::StartClient(client) => self.start_client(client)?,
            Happening::Online { client, life } => self.with(client, |node, around| {
                if node.life == life {
                    node.set_network(true, around);
                }
            }),
            Happening::StartServer => self.start_server().await,
            Happening::Look => {}
        }
        Ok(())
    }

    fn with(&mut self, client: usize, act: impl FnOnce(&mut Node, &Around<'_>)) {
        let around = Around { now: self.now, net: &self.net, tap: &self.tap };
        if let Some(node) = self.nodes.get_mut(client) {
            act(node, &around);
        }
    }

    fn at_client(&mut self, link: LinkId, what: Down) {
        let Some((client, life, connection)) = self.net.arrived(link, &what) else { return };
        self.with(client, |node, around| {
            if node.life == life {
                node.arrived(link, connection, what, around);
            }
        });
    }

    fn start_client(&mut self, client: usize) -> Result<(), Broken> {
        let mut started = Ok(());
        self.with(client, |node, around| started = node.start(around));
        started.map_err(|error| {
            let why = format!("client {client} cannot open its cache: {error}");
            Broken { invariant: Invariant::NothingLost, why }
        })
    }

    async fn start_server(&mut self) {
        if self.server.is_some() {
            return;
        }
        let options = DatabaseOptions {
            log_bytes: self.plan.server.log_bytes,
            outbox_bytes: self.plan.server.outbox_bytes,
            heartbeat: Duration::from_millis(self.plan.server.heartbeat_ms),
            ..DatabaseOptions::default()
        };
        let name = DatabaseName { project: "default".into(), database: "(default)".into() };
        let tasks = Tasks::default();
        let clock = Arc::clone(&self.clock);
        let opened = Database::open(self.disk.open(), &name, options, clock, &tasks).await;
        match opened {
            Ok(database) => self.server = Some(Life { database, tasks }),
            Err(error) => {
                let why = format!("the server cannot open its database: {error}");
                self.tap.record().breaks(Invariant::NothingLost, why);
            }
        }
    }

    fn knock(&mut self, link: LinkId) {
        let Some(Life { database, tasks }) = &self.server else {
            return self.net.send_down(link, Down::Closed);
        };
        let (sender, inbox) = mpsc::unbounded_channel();
        let Some(window) = self.net.accept(link, sender) else { return };
        let heartbeat = Duration::from_millis(self.plan.server.heartbeat_ms);
        let host = Host {
            net: Arc::clone(&self.net),
            database: database.clone(),
            clock: Arc::clone(&self.clock),
            now: self.now,
            tap: Arc::clone(&self.tap),
            rules: Arc::new(session::rules(heartbeat)),
            mutation: self.mutation,
        };
        tasks.spawn("session", session::serve(host, link, inbox, window));
    }

    async fn crash_server(&mut self, keep: bool) {
        let Some(Life { database, tasks }) = self.server.take() else { return };
        self.server_crashes += 1;
        self.resyncs += database.metrics().resyncs.get();
        self.net.server_died();
        tasks.cancel();
        let keep = keep && self.mutation != Some(Mutation::StoreForgets);
        self.disk.crash(keep);
        if self.mutation == Some(Mutation::StoreForgets) {
            self.disk.forget_last();
        }
        drop(database);
        tasks.finish(Duration::ZERO).await;
    }

    async fn step(&mut self, at: usize) {
        let Some(step) = self.plan.steps.get(at).cloned() else { return };
        match self.plan.steps.get(at + 1) {
            Some(next) => {
                let then = self.now.elapsed() + Duration::from_millis(next.wait_ms);
                self.net.at(then, Happening::Step(at + 1));
            }
            None => self.steps_done = true,
        }
        self.carry_out(step.what).await;
    }

    async fn carry_out(&mut self, what: What) {
        let later = |ms: u64| self.now.elapsed() + Duration::from_millis(ms);
        match what {
            What::Write { client, writes } => {
                let writes = writes.iter().map(shapes::write).collect();
                self.with(client, |node, around| node.write(writes, around));
            }
            What::Transaction { client, writes } => self.transaction(client, &writes),
            What::Listen { client, slot, shape, argument, metadata } => {
                let target = shapes::target(shape, argument);
                self.with(client, |node, around| node.listen(slot, target, metadata, around));
            }
            What::Unlisten { client, slot } => {
                self.with(client, |node, around| node.unlisten(slot, around));
            }
            What::Ask { client, shape, argument } => {
                let target = shapes::target(shape, argument);
                self.with(client, |node, around| node.ask_target(target, around));
            }
            What::Disconnect { client } => {
                self.with(client, Node::disconnect);
            }
            What::Partition { client, for_ms } => self.net.partition(client, later(for_ms)),
            What::Slow { client, bytes_per_second, for_ms } => {
                self.net.slow(client, bytes_per_second, later(for_ms));
            }
            What::Offline { client, for_ms } => {
                let at = later(for_ms);
                let mut life = 0;
                self.with(client, |node, around| {
                    node.set_network(false, around);
                    life = node.life;
                });
                self.net.at(at, Happening::Online { client, life });
            }
            What::CrashClient { client, down_ms, lost } => {
                let at = later(down_ms);
                self.with(client, |node, around| node.crash(lost, around));
                self.net.at(at, Happening::StartClient(client));
            }
            What::SkewClient { client, skew_ms } => {
                self.with(client, |node, _| node.skew_ms = skew_ms);
            }
            What::Evict { client } => self.with(client, |node, _| node.disk.evict()),
            What::CrashServer { down_ms, keep } => {
                let at = later(down_ms);
                self.crash_server(keep).await;
                self.net.at(at, Happening::StartServer);
            }
            What::SkewServer { skew_ms } => self.clock.set_skew(skew_ms),
        }
    }

    /// Every transaction also makes a document of its own: it tells in the end whether it was
    /// committed, should nobody have heard of it.
    fn transaction(&mut self, client: usize, edits: &[Edit]) {
        self.transactions += 1;
        let path = format!("x/{client}-{}", self.transactions);
        let path = DocumentPath::parse(&path).expect("it is made of good segments");
        let op = WriteOp::Set(Fields::new());
        let mark = Write { path, op, transforms: vec![], precondition: None };
        let writes = edits.iter().map(shapes::write).chain([mark]).collect();
        self.with(client, |node, around| node.transact(writes, around));
    }

    async fn heal(&mut self) -> Result<(), Broken> {
        self.net.heal();
        self.start_server().await;
        for client in 0..self.nodes.len() {
            self.start_client(client)?;
            self.with(client, |node, around| node.set_network(true, around));
        }
        Ok(())
    }

    /// Waits until nobody waits for anything any more, and some time longer.
    async fn until_quiet(&mut self) -> Result<(), Broken> {
        let begun = self.now.elapsed();
        let quiet_for = Duration::from_millis(self.plan.server.heartbeat_ms * 3) + LOOK * 4;
        let mut quiet_since = begun;
        loop {
            let now = self.now.elapsed();
            match self.unrest() {
                Some(unrest) if now > begun + PATIENCE => {
                    let why = format!("{unrest}, {PATIENCE:?} after everything was healed");
                    return Err(Broken { invariant: Invariant::Convergence, why });
                }
                Some(_) => quiet_since = now,
                None if now > quiet_since + quiet_for => return Ok(()),
                None => {}
            }
            self.wait_a_little().await?;
        }
    }

    async fn wait_a_little(&mut self) -> Result<(), Broken> {
        let then = self.now.elapsed() + LOOK;
        self.net.at(then, Happening::Look);
        while self.now.elapsed() < then {
            self.next().await?;
        }
        Ok(())
    }

    /// Who still waits for something.
    fn unrest(&self) -> Option<String> {
        for node in &self.nodes {
            let index = node.index;
            if !node.is_online() {
                return Some(format!("client {index} is not online"));
            }
            if node.waiting() > 0 {
                return Some(format!("client {index} waits for {} answers", node.waiting()));
            }
            if let Some(unrest) = node.unsettled_listener() {
                return Some(format!("client {index}: {unrest}"));
            }
        }
        let record = self.tap.record();
        let open = |(_, intent): &(usize, &Intent)| {
            let crashed = intent.life < self.nodes[intent.client].life;
            match crashed {
                // Nobody waits for it; the client that was started again sees to it.
                true => intent.stored.is_some() && intent.told.is_none() && !intent.is_answered(),
                false => intent.told.is_none(),
            }
        };
        let (at, intent) = record.intents.iter().enumerate().find(open)?;
        Some(format!("write {at} of client {} has no outcome", intent.client))
    }

    /// The one more client, that was never there, asks for everything; the others ask for what they
    /// listen to.
    async fn audit(&mut self) -> Result<(), Broken> {
        let auditor = self.nodes.len() - 1;
        let everything = ["c", "d", "x"].map(|id| Target::Query(Query::group(id)));
        for target in everything {
            self.with(auditor, |node, around| node.ask_target(target, around));
        }
        for client in 0..auditor {
            for target in self.nodes[client].listened_to() {
                self.with(client, |node, around| node.ask_target(target, around));
            }
        }
        self.until_quiet().await
    }

    /// The last life of the server has ended: its counts.
    pub fn finish(&mut self) {
        if let Some(Life { database, tasks }) = self.server.take() {
            self.resyncs += database.metrics().resyncs.get();
            tasks.cancel();
        }
    }
}
