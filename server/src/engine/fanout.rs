//! The fan-out: the one task that knows who listens to what, and hands each commit to the groups it
//! changes, in commit order. It never waits for a connection.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tidemark_protocol::model::{Code, ResumeToken, Target, TargetId, Version};
use tidemark_protocol::wire::client::Listen;
use tidemark_protocol::wire::server::{ServerMessage, Status};
use tokio::sync::mpsc;

use super::attach::{Attach, Job, Since};
use super::commit::CommitRecord;
use super::connection::ConnectionId;
use super::delta::{Delta, GroupId};
use super::error::EngineError;
use super::groups::{BatchView, Content, Groups, Subscriber};
use super::index::IndexSet;
use super::load::{Basis, Loaded, load};
use super::outbox::Outbox;
use super::shared::{Published, Shared};
use crate::store::Snapshot;

/// Durable commits, in order, and the state after the last. Without commits it is the indexes that
/// have changed.
pub(super) struct Batch {
    pub(super) commits: Vec<CommitRecord>,
    pub(super) snapshot: Arc<dyn Snapshot>,
    pub(super) indexes: Arc<IndexSet>,
}

/// What the fan-out is asked to do.
pub(super) enum FanoutCommand {
    Listen {
        outbox: Arc<Outbox>,
        listen: Box<Listen>,
    },
    Unlisten {
        connection: ConnectionId,
        target: TargetId,
    },
    /// A target has not begun: its token is too old. `listening` tells it from a later one of its id.
    Stale {
        connection: ConnectionId,
        target: TargetId,
        listening: Arc<AtomicBool>,
    },
    /// Changes of this connection were dropped and everything before them was taken.
    Replay {
        connection: ConnectionId,
    },
    Disconnect {
        connection: ConnectionId,
    },
    /// What a group keeps of its result has been read.
    Loaded {
        group: GroupId,
        loaded: Result<Loaded, EngineError>,
    },
}

/// One target of a connection.
struct Listening {
    group: GroupId,
    since: Since,
    /// Its client would rather compare digests than be sent everything.
    reconciles: bool,
    /// Its result has a place in the stream; before that `since` is where it begins.
    attached: bool,
    cancelled: Arc<AtomicBool>,
}

struct Listener {
    outbox: Arc<Outbox>,
    targets: BTreeMap<TargetId, Listening>,
}

/// The state of the fan-out's task.
pub(super) struct Fanout {
    shared: Arc<Shared>,
    /// To itself: what has been read comes back as a command.
    commands: mpsc::WeakSender<FanoutCommand>,
    /// The last commit handed out, and the state as of then.
    version: Version,
    basis: Basis,
    groups: Groups,
    listeners: BTreeMap<ConnectionId, Listener>,
    targets: u64,
}

impl Fanout {
    pub(super) fn new(
        shared: Arc<Shared>,
        commands: mpsc::WeakSender<FanoutCommand>,
        published: Published,
    ) -> Fanout {
        let Published { version, snapshot, indexes } = published;
        Fanout {
            basis: Basis { snapshot, indexes, keys: shared.keys },
            shared,
            commands,
            version,
            groups: Groups::default(),
            listeners: BTreeMap::new(),
            targets: 0,
        }
    }

    /// Runs until the lane and all connections are gone.
    pub(super) async fn run(
        mut self,
        mut batches: mpsc::Receiver<Batch>,
        mut commands: mpsc::Receiver<FanoutCommand>,
    ) {
        let mut heartbeat = tokio::time::interval(self.shared.options.heartbeat);
        loop {
            tokio::select! {
                // In this order, so that a simulated run repeats. Batches are bounded by the lane's
                // fsyncs, so commands get their turn.
                biased;
                batch = batches.recv() => match batch {
                    Some(batch) => self.batch(batch).await,
                    None => return,
                },
                Some(command) = commands.recv() => self.command(command).await,
                _ = heartbeat.tick() => self.heartbeat(),
            }
        }
    }

    async fn batch(&mut self, batch: Batch) {
        let commits: Vec<Arc<CommitRecord>> = batch.commits.into_iter().map(Arc::new).collect();
        (self.basis.snapshot, self.basis.indexes) = (batch.snapshot, batch.indexes);
        for (index, commit) in commits.iter().enumerate() {
            self.commit(commit, &commits[index + 1..]).await;
        }
    }

    async fn commit(&mut self, commit: &Arc<CommitRecord>, later: &[Arc<CommitRecord>]) {
        self.version = commit.version;
        let shared = Arc::clone(&self.shared);
        let metrics = &shared.metrics;
        let mut deltas = Vec::new();
        for (id, indexes) in self.groups.candidates(commit) {
            let Some(group) = self.groups.get_mut(id) else { continue };
            metrics.candidates.add(1);
            let batch = BatchView { basis: &self.basis, metrics, later };
            match group.delta(commit, &indexes, &batch).await {
                Ok(Some(delta)) => deltas.push(Arc::new(delta)),
                Ok(None) => {}
                Err(error) => self.fail_group(id, &error),
            }
        }
        metrics.matched.add(deltas.len() as u64);
        self.deliver(&deltas);
        // The author waits for a consistent point at its own commit, also if none of its targets
        // changed.
        if let Some(listener) = self.listeners.get(&commit.origin)
            && !listener.targets.is_empty()
        {
            listener.outbox.push_current(commit.version);
        }
    }

    fn deliver(&mut self, deltas: &[Arc<Delta>]) {
        if let [delta] = deltas {
            if let Some(group) = self.groups.get_mut(delta.group) {
                for subscriber in group.subscribers.values() {
                    subscriber.outbox.push_delta(delta, false);
                }
            }
            return;
        }
        // How many more of the groups each connection listens to.
        let mut remaining: HashMap<ConnectionId, usize> = HashMap::new();
        for delta in deltas {
            let Some(group) = self.groups.get_mut(delta.group) else { continue };
            for connection in group.subscribers.keys() {
                *remaining.entry(*connection).or_default() += 1;
            }
        }
        for delta in deltas {
            let Some(group) = self.groups.get_mut(delta.group) else { continue };
            for (connection, subscriber) in &group.subscribers {
                let left = remaining.entry(*connection).or_insert(1);
                *left -= 1;
                subscriber.outbox.push_delta(delta, *left > 0);
            }
        }
    }

    async fn command(&mut self, command: FanoutCommand) {
        match command {
            FanoutCommand::Listen { outbox, listen } => self.listen(&outbox, *listen),
            FanoutCommand::Unlisten { connection, target } => self.unlisten(connection, target),
            FanoutCommand::Stale { connection, target, listening } => {
                self.stale(connection, target, &listening);
            }
            FanoutCommand::Replay { connection } => self.replay(connection),
            FanoutCommand::Disconnect { connection } => self.disconnect(connection),
            FanoutCommand::Loaded { group, loaded } => self.loaded(group, loaded).await,
        }
        self.shared.metrics.groups.set(self.groups.len() as u64);
        self.shared.metrics.targets.set(self.targets);
    }

    fn heartbeat(&self) {
        for listener in self.listeners.values() {
            listener.outbox.push_current(self.version);
        }
    }

    fn listen(&mut self, outbox: &Arc<Outbox>, listen: Listen) {
        let Listen { target_id, target, resume, reconciles } = listen;
        let connection = outbox.id;
        let listener = self
            .listeners
            .entry(connection)
            .or_insert_with(|| Listener { outbox: Arc::clone(outbox), targets: BTreeMap::new() });
        if listener.targets.contains_key(&target_id) {
            let message = format!("target id {target_id} is in use; choose another");
            let status = Status { code: Code::AlreadyExists, message };
            outbox.send(&ServerMessage::TargetError { target: target_id, status });
            return;
        }
        let group = self.subscribe(outbox, target_id, &target);
        let since = self.since(resume);
        let cancelled = Arc::default();
        let listening = Listening { group, since, reconciles, attached: false, cancelled };
        if let Some(listener) = self.listeners.get_mut(&connection) {
            listener.targets.insert(target_id, listening);
            self.targets += 1;
        }
        self.attach(connection, &[target_id]);
    }

    /// Adds a target of a connection to the group of the same targets.
    fn subscribe(&mut self, outbox: &Arc<Outbox>, id: TargetId, target: &Target) -> GroupId {
        let (group_id, new) = self.groups.find_or_create(target);
        if let Some(group) = self.groups.get_mut(group_id) {
            let new = || Subscriber { outbox: Arc::clone(outbox), targets: BTreeSet::new() };
            group.subscribers.entry(outbox.id).or_insert_with(new).targets.insert(id);
        }
        if new {
            self.load(group_id);
        }
        group_id
    }

    fn since(&self, resume: Option<ResumeToken>) -> Since {
        match resume {
            None => Since::Nothing,
            Some(token) if token.incarnation == self.shared.incarnation => {
                Since::Version(token.version)
            }
            Some(_) => Since::Unusable("the resume token belongs to another life of the database"),
        }
    }

    /// Gives those of the targets that are ready a place in their connection's stream.
    fn attach(&mut self, connection: ConnectionId, targets: &[TargetId]) {
        let Some(listener) = self.listeners.get_mut(&connection) else { return };
        if listener.outbox.is_behind() {
            // The replay that comes attaches them.
            return;
        }
        let mut jobs = Vec::new();
        for target in targets {
            let Some(listening) = listener.targets.get_mut(target) else { continue };
            if listening.attached {
                continue;
            }
            let since = listening.since;
            jobs.extend(job(&mut self.groups, *target, listening, since));
        }
        if jobs.is_empty() {
            return;
        }
        if let Some(frames) = listener.outbox.push_bulk(self.version) {
            self.spawn_attach(connection, frames, jobs);
        }
    }

    /// Continues a connection whose changes were dropped, and attaches what waited for that.
    fn replay(&mut self, connection: ConnectionId) {
        let Some(listener) = self.listeners.get_mut(&connection) else { return };
        let Some((from, frames)) = listener.outbox.push_replay(self.version) else { return };
        let mut jobs = Vec::new();
        for (target, listening) in &mut listener.targets {
            let since = if listening.attached { Since::Version(from) } else { listening.since };
            jobs.extend(job(&mut self.groups, *target, listening, since));
        }
        self.spawn_attach(connection, frames, jobs);
    }

    fn spawn_attach(
        &self,
        connection: ConnectionId,
        frames: mpsc::Sender<bytes::Bytes>,
        jobs: Vec<Job>,
    ) {
        let attach = Attach {
            connection,
            fanout: self.commands.clone(),
            shared: Arc::clone(&self.shared),
            basis: self.basis.clone(),
            version: self.version,
            frames,
        };
        self.shared.spawner.spawn("attach", attach.run(jobs));
    }

    /// Reads what a group keeps of its result, in a task of its own.
    fn load(&mut self, id: GroupId) {
        let Some(group) = self.groups.get_mut(id) else { return };
        let (basis, source) = (self.basis.clone(), Arc::clone(&group.source));
        let commands = self.commands.clone();
        self.shared.spawner.spawn("load-group", async move {
            let Some(loaded) = load(&basis, &source).await.transpose() else { return };
            if let Some(commands) = commands.upgrade() {
                // If the fan-out has ended there is no group any more.
                let _ = commands.send(FanoutCommand::Loaded { group: id, loaded }).await;
            }
        });
    }

    async fn loaded(&mut self, id: GroupId, loaded: Result<Loaded, EngineError>) {
        let Some(group) = self.groups.get_mut(id) else { return };
        let mut filled = loaded.map(|loaded| group.loaded(loaded));
        if let Ok(false) = filled {
            // More left the window while it was read than its slack held. Read here, nothing can.
            self.shared.metrics.refills.add(1);
            let again = load(&self.basis, &group.source).await;
            filled = again.map(|loaded| loaded.is_some_and(|loaded| group.loaded(loaded)));
        }
        if let Err(error) = filled {
            return self.fail_group(id, &error);
        }
        let waiting = |(connection, subscriber): (&ConnectionId, &Subscriber)| {
            (*connection, subscriber.targets.iter().copied().collect())
        };
        let subscribers: Vec<(ConnectionId, Vec<TargetId>)> =
            group.subscribers.iter().map(waiting).collect();
        for (connection, targets) in subscribers {
            self.attach(connection, &targets);
        }
    }

    /// Ends all targets of a group whose result can no longer be told.
    fn fail_group(&mut self, id: GroupId, error: &EngineError) {
        tracing::error!(%error, group = id.0, "a group of targets failed");
        let Some(group) = self.groups.get_mut(id) else { return };
        let status = error.status();
        let mut failed = Vec::new();
        for (connection, subscriber) in &group.subscribers {
            for target in &subscriber.targets {
                failed.push((*connection, *target));
                let (target, status) = (*target, status.clone());
                subscriber.outbox.send(&ServerMessage::TargetError { target, status });
            }
        }
        for (connection, target) in failed {
            self.unlisten(connection, target);
        }
    }

    fn unlisten(&mut self, connection: ConnectionId, target: TargetId) {
        let Some(listener) = self.listeners.get_mut(&connection) else { return };
        if let Some(listening) = listener.targets.remove(&target) {
            self.leave(connection, target, &listening);
        }
    }

    fn stale(&mut self, connection: ConnectionId, target: TargetId, listening: &Arc<AtomicBool>) {
        let Some(listener) = self.listeners.get(&connection) else { return };
        let found = listener.targets.get(&target);
        if found.is_some_and(|found| Arc::ptr_eq(&found.cancelled, listening)) {
            self.unlisten(connection, target);
        }
    }

    fn disconnect(&mut self, connection: ConnectionId) {
        let Some(listener) = self.listeners.remove(&connection) else { return };
        for (target, listening) in &listener.targets {
            self.leave(connection, *target, listening);
        }
    }

    fn leave(&mut self, connection: ConnectionId, target: TargetId, listening: &Listening) {
        self.targets -= 1;
        listening.cancelled.store(true, Ordering::Relaxed);
        let Some(group) = self.groups.get_mut(listening.group) else { return };
        if let Some(subscriber) = group.subscribers.get_mut(&connection) {
            subscriber.targets.remove(&target);
            if subscriber.targets.is_empty() {
                group.subscribers.remove(&connection);
            }
        }
        if group.subscribers.is_empty() {
            self.groups.remove(listening.group);
        }
    }
}

/// The work of attaching a target, unless what its group keeps is still being read.
fn job(
    groups: &mut Groups,
    target: TargetId,
    listening: &mut Listening,
    since: Since,
) -> Option<Job> {
    let group = groups.get_mut(listening.group)?;
    if matches!(group.content, Content::Loading(_)) {
        return None;
    }
    // One that was attached before has begun, and goes on.
    let reconciles = listening.reconciles && !listening.attached;
    listening.attached = true;
    Some(Job {
        target,
        group: group.id,
        source: Arc::clone(&group.source),
        since,
        reconciles,
        present: group.present(),
        cancelled: Arc::clone(&listening.cancelled),
    })
}
