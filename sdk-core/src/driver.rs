//! The only loop: owns the engine and the transport. Takes commands, frames and time, hands them to
//! the engine as events, and does what it says. It drains what is ready before it flushes what that
//! led to, so that many small things share one trip to the socket. It decides nothing.

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::channel::{mpsc, oneshot};
use tidemark_protocol::model::{DocumentPath, Read, Target, Write, WriteId};
use tidemark_protocol::wire::codec::{decode_server, encode_client};

use crate::aggregate::AggregateSnapshot;
use crate::cache::Cache;
use crate::engine::{
    Action, Answer, CollabView, ConnectionId, Engine, Event, ListenerId, Moment, Request, Settings,
    Source, Ticket,
};
use crate::error::Error;
use crate::pending::{Committed, OutboxWrite, RejectedWrite, WriteEvent};
use crate::queue::SnapshotQueue;
use crate::runtime::{Runtime, Task, Transport};
use crate::subscription::{ListenOptions, StateCell};

/// How many inputs are taken before other tasks get their turn.
const INPUTS_PER_TURN: usize = 256;

/// What a client wants of its driver.
pub(crate) enum Command {
    Commit {
        writes: Vec<Write>,
        reads: Vec<Read>,
        local: bool,
        promise: Promise,
    },
    Retry {
        id: WriteId,
        promise: Promise,
    },
    Discard {
        id: WriteId,
        reply: oneshot::Sender<Result<(), Error>>,
    },
    ListWrites {
        reply: oneshot::Sender<(Vec<OutboxWrite>, Vec<RejectedWrite>)>,
    },
    WatchWrites {
        events: mpsc::UnboundedSender<WriteEvent>,
    },
    Listen {
        listener: ListenerId,
        target: Target,
        options: ListenOptions,
        inbox: Inbox,
    },
    Unlisten {
        listener: ListenerId,
    },
    Request {
        request: Request,
        source: Source,
        timeout: Duration,
        reply: oneshot::Sender<Result<Answer, Error>>,
    },
    WaitForWrites {
        reply: oneshot::Sender<()>,
    },
    Network {
        enabled: bool,
    },
    Collaborative {
        path: DocumentPath,
        view: Option<CollabView>,
    },
    Close {
        reply: oneshot::Sender<()>,
    },
}

/// Who waits for a write: for it to be stored, and for the server's word.
pub(crate) struct Promise {
    pub(crate) stored: oneshot::Sender<WriteId>,
    pub(crate) word: oneshot::Sender<Result<Committed, Error>>,
}

/// Where a listener reads.
pub(crate) enum Inbox {
    Documents(Arc<SnapshotQueue>),
    Aggregates(Arc<SnapshotQueue<AggregateSnapshot>>),
}

impl Inbox {
    pub(crate) fn fail(&self, error: Error) {
        match self {
            Inbox::Documents(queue) => queue.fail(error),
            Inbox::Aggregates(queue) => queue.fail(error),
        }
    }

    fn end(&self) {
        match self {
            Inbox::Documents(queue) => queue.end(),
            Inbox::Aggregates(queue) => queue.end(),
        }
    }
}

enum Link {
    None,
    Opening(Task<Result<Transport, Error>>),
    Open(Transport),
}

/// What waits for the server, and what it has refused.
type WriteLists = (Vec<OutboxWrite>, Vec<RejectedWrite>);

/// The loop's state.
pub(crate) struct Driver {
    engine: Engine,
    runtime: Arc<dyn Runtime>,
    url: String,
    /// Ends when the last handle of the client is dropped.
    commands: mpsc::UnboundedReceiver<Command>,
    state: Arc<StateCell>,
    link: Link,
    /// The attempt that `link` is of; set by `Action::Connect`.
    connection: ConnectionId,
    /// Encoded, not yet taken by the transport.
    outgoing: VecDeque<Bytes>,
    /// Taken by the transport, not yet flushed.
    unflushed: bool,
    timer: Option<(Duration, Task<()>)>,
    last_ticket: u64,
    stored: HashMap<Ticket, oneshot::Sender<WriteId>>,
    words: HashMap<Ticket, oneshot::Sender<Result<Committed, Error>>>,
    discards: HashMap<Ticket, oneshot::Sender<Result<(), Error>>>,
    lists: HashMap<Ticket, oneshot::Sender<WriteLists>>,
    /// Who is told of the stages of writes.
    watchers: Vec<mpsc::UnboundedSender<WriteEvent>>,
    requests: HashMap<Ticket, oneshot::Sender<Result<Answer, Error>>>,
    waiters: HashMap<Ticket, oneshot::Sender<()>>,
    listeners: HashMap<ListenerId, Inbox>,
    closers: Vec<oneshot::Sender<()>>,
    stopped: bool,
}

impl Driver {
    pub(crate) fn new(
        url: String,
        settings: Settings,
        cache: Box<dyn Cache>,
        runtime: Arc<dyn Runtime>,
        commands: mpsc::UnboundedReceiver<Command>,
        state: Arc<StateCell>,
    ) -> Result<Driver, Error> {
        Ok(Driver {
            engine: Engine::new(settings, cache)?,
            runtime,
            url,
            commands,
            state,
            link: Link::None,
            connection: ConnectionId::default(),
            outgoing: VecDeque::new(),
            unflushed: false,
            timer: None,
            last_ticket: 0,
            stored: HashMap::new(),
            words: HashMap::new(),
            discards: HashMap::new(),
            lists: HashMap::new(),
            watchers: Vec::new(),
            requests: HashMap::new(),
            waiters: HashMap::new(),
            listeners: HashMap::new(),
            closers: Vec::new(),
            stopped: false,
        })
    }

    /// Runs until the client is closed or its last handle is dropped.
    pub(crate) async fn run(mut self) {
        self.handle(Event::Tick);
        std::future::poll_fn(|context| self.turn(context)).await;
        self.settle();
        let Driver { engine, listeners, state, closers, .. } = self;
        listeners.values().for_each(Inbox::end);
        state.end();
        // With it goes the cache: who asked to close may open it again at once.
        drop(engine);
        for reply in closers {
            // Who asked may have stopped waiting.
            let _ = reply.send(());
        }
    }

    fn turn(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.settle();
        let mut inputs = 0;
        while !self.stopped {
            let before = inputs;
            inputs += usize::from(self.take_command(context));
            inputs += usize::from(self.take_frame(context));
            inputs += usize::from(self.take_time(context));
            if inputs == before {
                break;
            }
            if inputs >= INPUTS_PER_TURN {
                // There may be more: other tasks first, then again.
                context.waker().wake_by_ref();
                break;
            }
        }
        self.write(context);
        if self.engine.is_unsettled() {
            // Others see first what has happened; then it is stored, all of it in one step.
            context.waker().wake_by_ref();
        }
        if self.stopped { Poll::Ready(()) } else { Poll::Pending }
    }

    fn take_command(&mut self, context: &mut Context<'_>) -> bool {
        match self.commands.poll_next_unpin(context) {
            Poll::Ready(Some(command)) => self.command(command),
            Poll::Ready(None) => self.stopped = true,
            Poll::Pending => return false,
        }
        true
    }

    fn take_frame(&mut self, context: &mut Context<'_>) -> bool {
        let connection = self.connection;
        let event = match &mut self.link {
            Link::None => return false,
            Link::Opening(opening) => match opening.as_mut().poll(context) {
                Poll::Pending => return false,
                Poll::Ready(Ok(transport)) => {
                    self.link = Link::Open(transport);
                    Event::Connected { connection }
                }
                Poll::Ready(Err(error)) => {
                    self.unlink();
                    Event::Disconnected { connection, error }
                }
            },
            Link::Open(transport) => match transport.stream.as_mut().poll_next(context) {
                Poll::Pending => return false,
                Poll::Ready(Some(Ok(frame))) => match decode_server(&frame) {
                    Ok(message) => Event::Received { connection, message },
                    Err(error) => Event::Undecodable { connection, error: error.into() },
                },
                Poll::Ready(Some(Err(error))) => {
                    self.unlink();
                    Event::Disconnected { connection, error }
                }
                Poll::Ready(None) => {
                    self.unlink();
                    let error = Error::unavailable("the connection was closed");
                    Event::Disconnected { connection, error }
                }
            },
        };
        self.handle(event);
        true
    }

    /// Ticks when the engine's deadline has come, and sees to being woken then.
    fn take_time(&mut self, context: &mut Context<'_>) -> bool {
        let Some(deadline) = self.engine.deadline() else {
            self.timer = None;
            return false;
        };
        // A timer that is early does no harm: most deadlines only move away.
        if self.timer.as_ref().is_none_or(|(at, _)| *at > deadline) {
            self.arm(deadline);
        }
        while let Some((at, timer)) = &mut self.timer {
            let at = *at;
            if timer.as_mut().poll(context).is_pending() {
                return false;
            }
            if at >= deadline {
                self.timer = None;
                self.handle(Event::Tick);
                return true;
            }
            self.arm(deadline);
        }
        false
    }

    fn arm(&mut self, deadline: Duration) {
        let delay = deadline.saturating_sub(self.runtime.elapsed());
        self.timer = Some((deadline, self.runtime.sleep(delay)));
    }

    /// Gives the transport what it takes; it wakes the loop when it can take more.
    fn write(&mut self, context: &mut Context<'_>) {
        let Link::Open(transport) = &mut self.link else { return };
        if let Err(error) = write_all(transport, &mut self.outgoing, &mut self.unflushed, context) {
            let connection = self.connection;
            self.unlink();
            self.handle(Event::Disconnected { connection, error });
            // What the engine made of it is waited for in the next turn.
            context.waker().wake_by_ref();
        }
    }

    fn unlink(&mut self) {
        self.link = Link::None;
        self.outgoing.clear();
        self.unflushed = false;
    }

    fn ticket(&mut self) -> Ticket {
        self.last_ticket += 1;
        Ticket(self.last_ticket)
    }

    fn promised(&mut self, promise: Promise) -> Ticket {
        let ticket = self.ticket();
        self.stored.insert(ticket, promise.stored);
        self.words.insert(ticket, promise.word);
        ticket
    }

    fn command(&mut self, command: Command) {
        let event = match command {
            Command::Commit { writes, reads, local, promise } => {
                let ticket = self.promised(promise);
                Event::Commit { ticket, writes, reads, local }
            }
            Command::Retry { id, promise } => Event::Retry { ticket: self.promised(promise), id },
            Command::Discard { id, reply } => {
                let ticket = self.ticket();
                self.discards.insert(ticket, reply);
                Event::Discard { ticket, id }
            }
            Command::ListWrites { reply } => {
                let ticket = self.ticket();
                self.lists.insert(ticket, reply);
                Event::ListWrites { ticket }
            }
            Command::WatchWrites { events } => {
                self.watchers.push(events);
                return;
            }
            Command::Listen { listener, target, options, inbox } => {
                self.listeners.insert(listener, inbox);
                let include_metadata = options.include_metadata_changes;
                Event::Listen { listener, target, include_metadata }
            }
            Command::Unlisten { listener } => {
                self.listeners.remove(&listener);
                Event::Unlisten { listener }
            }
            Command::Request { request, source, timeout, reply } => {
                let ticket = self.ticket();
                self.requests.insert(ticket, reply);
                Event::Request { ticket, request, source, timeout }
            }
            Command::WaitForWrites { reply } => {
                let ticket = self.ticket();
                self.waiters.insert(ticket, reply);
                Event::WaitForWrites { ticket }
            }
            Command::Network { enabled } => Event::Network { enabled },
            Command::Collaborative { path, view } => Event::Collaborative { path, view },
            Command::Close { reply } => {
                self.closers.push(reply);
                Event::Close
            }
        };
        self.handle(event);
    }

    fn handle(&mut self, event: Event) {
        let now = Moment {
            elapsed: self.runtime.elapsed(),
            wall: self.runtime.wall(),
            random: self.runtime.random(),
        };
        for action in self.engine.handle(event, now) {
            self.act(action);
        }
    }

    fn settle(&mut self) {
        for action in self.engine.settle() {
            self.act(action);
        }
    }

    fn act(&mut self, action: Action) {
        // Where an answer finds nobody, whoever asked has stopped waiting.
        match action {
            Action::Connect { connection } => {
                self.unlink();
                self.connection = connection;
                self.link = Link::Opening(self.runtime.connect(&self.url));
            }
            Action::Send(message) => self.outgoing.push_back(encode_client(&message)),
            Action::Disconnect => self.unlink(),
            Action::State(state) => self.state.set(state),
            Action::Snapshot { listener, snapshot } => {
                if let Some(Inbox::Documents(queue)) = self.listeners.get(&listener) {
                    queue.push(snapshot);
                }
            }
            Action::Aggregated { listener, snapshot } => {
                if let Some(Inbox::Aggregates(queue)) = self.listeners.get(&listener) {
                    queue.push(snapshot);
                }
            }
            Action::ListenerFailed { listener, error } => {
                if let Some(inbox) = self.listeners.remove(&listener) {
                    inbox.fail(error);
                }
            }
            Action::WriteDone { ticket, outcome } => {
                self.stored.remove(&ticket);
                self.words.remove(&ticket).map(|reply| reply.send(outcome));
            }
            Action::WriteStored { ticket, id } => {
                self.stored.remove(&ticket).map(|reply| reply.send(id));
            }
            Action::Write(event) => {
                self.watchers.retain(|watcher| watcher.unbounded_send(event.clone()).is_ok());
            }
            Action::WritesListed { ticket, pending, rejected } => {
                self.lists.remove(&ticket).map(|reply| reply.send((pending, rejected)));
            }
            Action::Discarded { ticket, outcome } => {
                self.discards.remove(&ticket).map(|reply| reply.send(outcome));
            }
            Action::RequestDone { ticket, outcome } => {
                self.requests.remove(&ticket).map(|reply| reply.send(outcome));
            }
            Action::WritesSettled { ticket } => {
                self.waiters.remove(&ticket).map(|reply| reply.send(()));
            }
            Action::Stop => self.stopped = true,
        }
    }
}

fn write_all(
    transport: &mut Transport,
    outgoing: &mut VecDeque<Bytes>,
    unflushed: &mut bool,
    context: &mut Context<'_>,
) -> Result<(), Error> {
    let mut sink: Pin<_> = transport.sink.as_mut();
    while !outgoing.is_empty() {
        if sink.as_mut().poll_ready(context)?.is_pending() {
            return Ok(());
        }
        if let Some(frame) = outgoing.pop_front() {
            sink.as_mut().start_send(frame)?;
            *unflushed = true;
        }
    }
    if *unflushed && sink.as_mut().poll_flush(context)?.is_ready() {
        *unflushed = false;
    }
    Ok(())
}
