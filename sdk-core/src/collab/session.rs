//! The task of an open document: takes in its history and the fate of its writes, and puts edits into
//! the outbox. It ends when the last handle is gone and everything is stored.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures::channel::{mpsc, oneshot};
use futures::{FutureExt, StreamExt};
use tidemark_protocol::model::{Collaboration, DocumentPath, Write, WriteOp};

use super::history::History;
use super::replica::{CollabEvent, Replica};
use crate::client::Client;
use crate::engine::CollabView;
use crate::error::Error;
use crate::pending::{PendingWrite, WriteEvent, WriteEvents, WriteStage};
use crate::runtime::Task;
use crate::snapshot::QuerySnapshot;
use crate::subscription::QueryListener;

/// How long edits wait for the answer to those before them.
const ANSWER_WAIT: Duration = Duration::from_millis(200);

/// What the handles and the session share.
pub(crate) struct Shared {
    pub(crate) path: DocumentPath,
    state: Mutex<State>,
}

pub(crate) struct State {
    pub(crate) replica: Replica,
    /// Who is told what happens.
    pub(crate) watchers: Vec<mpsc::UnboundedSender<CollabEvent>>,
    /// Who waits for all edits to be in the outbox.
    pub(crate) savers: Vec<oneshot::Sender<Result<(), Error>>>,
    /// Set when the session has ended before its handles.
    pub(crate) ended: Option<Error>,
}

impl Shared {
    pub(crate) fn new(path: DocumentPath, replica: Replica) -> Arc<Shared> {
        let state = State { replica, watchers: vec![], savers: vec![], ended: None };
        Arc::new(Shared { path, state: Mutex::new(state) })
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic happens while a document is locked")
    }
}

impl State {
    /// Tells what has happened.
    pub(crate) fn tell(&mut self) {
        for event in std::mem::take(&mut self.replica.events) {
            self.watchers.retain(|watcher| watcher.unbounded_send(event.clone()).is_ok());
        }
    }
}

pub(crate) struct Session {
    client: Client,
    shared: Arc<Shared>,
    history: QueryListener,
    writes: WriteEvents,
    /// Says that there are edits; ends with the last handle.
    wakes: mpsc::Receiver<()>,
    /// The write that is being stored.
    storing: Option<PendingWrite>,
    /// Ends the wait for an answer, so that edits are not kept from the outbox for long.
    waiting: Option<Task<()>>,
    /// Told when the history is there for the first time.
    ready: Option<oneshot::Sender<()>>,
}

enum Input {
    History(Option<Result<QuerySnapshot, Error>>),
    Write(Option<WriteEvent>),
    Stored(Result<(), Error>),
    Edited,
    Waited,
    Released,
}

impl Session {
    pub(crate) fn new(
        client: Client,
        shared: Arc<Shared>,
        history: QueryListener,
        wakes: mpsc::Receiver<()>,
        ready: oneshot::Sender<()>,
    ) -> Session {
        let writes = client.write_events();
        let (storing, waiting, ready) = (None, None, Some(ready));
        Session { client, shared, history, writes, wakes, storing, waiting, ready }
    }

    pub(crate) async fn run(mut self) {
        self.adopt_pending().await;
        let ended = self.serve().await;
        let mut state = self.shared.lock();
        for saver in std::mem::take(&mut state.savers) {
            // Who waited may have stopped waiting.
            let _ = saver.send(ended.clone());
        }
        state.ended = Some(ended.err().unwrap_or_else(Error::closed));
        state.watchers.clear();
        drop(state);
        self.client.show_collaborative(&self.shared.path, None);
    }

    /// What a former run left in the outbox.
    async fn adopt_pending(&mut self) {
        let Ok(pending) = self.client.pending_writes().await else { return };
        let mut state = self.shared.lock();
        for write in pending.iter().flat_map(|pending| pending.writes.iter()) {
            if let Some(collaboration) = merge_of(&self.shared.path, write) {
                state.replica.adopt(collaboration);
            }
        }
        drop(state);
        self.show();
    }

    async fn serve(&mut self) -> Result<(), Error> {
        let mut released = false;
        loop {
            if released {
                self.flush();
                if self.storing.is_none() {
                    return Ok(());
                }
            } else {
                self.flush_in_time();
            }
            match self.next(released).await {
                Input::History(Some(Ok(snapshot))) => self.received(&snapshot),
                Input::History(Some(Err(error))) => return Err(error),
                Input::History(None) | Input::Write(None) => return Err(Error::closed()),
                Input::Write(Some(event)) => self.written(&event),
                Input::Stored(stored) => {
                    self.storing = None;
                    stored?;
                }
                Input::Edited => {}
                Input::Waited => {
                    self.waiting = None;
                    self.flush();
                }
                Input::Released => released = true,
            }
        }
    }

    async fn next(&mut self, released: bool) -> Input {
        let (wakes, storing, waiting) = (&mut self.wakes, &mut self.storing, &mut self.waiting);
        let waited = async {
            match waiting {
                Some(waiting) => waiting.await,
                None => std::future::pending().await,
            }
        };
        let stored = async {
            match storing {
                Some(write) => write.local().await.map(drop),
                None => std::future::pending().await,
            }
        };
        let wake = async {
            match released {
                true => std::future::pending().await,
                false => wakes.next().await,
            }
        };
        futures::select_biased! {
            event = self.writes.next().fuse() => Input::Write(event),
            stored = Box::pin(stored).fuse() => Input::Stored(stored),
            snapshot = self.history.next().fuse() => Input::History(snapshot),
            () = Box::pin(waited).fuse() => Input::Waited,
            wake = Box::pin(wake).fuse() => match wake {
                Some(()) => Input::Edited,
                None => Input::Released,
            },
        }
    }

    fn received(&mut self, snapshot: &QuerySnapshot) {
        let documents = snapshot.documents().iter().filter_map(|document| document.document());
        let history = History::read(documents);
        let mut state = self.shared.lock();
        state.replica.receive(history, snapshot.version());
        state.tell();
        let is_shown = state.replica.has_pending();
        drop(state);
        if is_shown {
            self.show();
        }
        // Where nothing is known yet, the server's word is waited for; offline there is none.
        if let Some(ready) = self.ready.take() {
            // Who opened it may be gone.
            let _ = ready.send(());
        }
    }

    fn written(&mut self, event: &WriteEvent) {
        let mut state = self.shared.lock();
        for (index, write) in event.writes.iter().enumerate() {
            let Some(collaboration) = merge_of(&self.shared.path, write) else { continue };
            match &event.stage {
                WriteStage::Local => state.replica.adopt(collaboration),
                WriteStage::Committed(committed) => {
                    let superseded = committed.superseded().any(|(at, _)| at == index);
                    if superseded {
                        let message = "the document was deleted after these edits were made";
                        let code = tidemark_protocol::model::Code::FailedPrecondition;
                        state.replica.rejected(collaboration, Error::new(code, message));
                    } else {
                        state.replica.committed(collaboration, committed.version);
                    }
                }
                WriteStage::Rejected(error) => {
                    state.replica.rejected(collaboration, error.clone());
                }
            }
        }
        state.tell();
    }

    /// Puts edits into the outbox when the changes before them have been answered, or have waited for
    /// that: what is typed meanwhile goes together. Whoever waits for edits to be stored does not wait
    /// for a server.
    fn flush_in_time(&mut self) {
        let state = self.shared.lock();
        let can_wait = state.savers.is_empty() && state.replica.has_unanswered();
        let has_edits = state.replica.has_edits();
        drop(state);
        if !can_wait || !has_edits {
            self.waiting = None;
            self.flush();
        } else if self.waiting.is_none() {
            self.waiting = Some(self.client.sleep(ANSWER_WAIT));
        }
    }

    /// Puts the edits made so far into the outbox, unless others are being stored.
    fn flush(&mut self) {
        if self.storing.is_some() {
            return;
        }
        let mut state = self.shared.lock();
        let taken = state.replica.take();
        if taken.is_none() && !state.replica.has_edits() {
            for saver in std::mem::take(&mut state.savers) {
                let _ = saver.send(Ok(()));
            }
        }
        drop(state);
        let Some(collaboration) = taken else { return };
        self.show();
        let write = Write {
            path: self.shared.path.clone(),
            op: WriteOp::Merge(collaboration),
            transforms: vec![],
            precondition: None,
        };
        self.storing = Some(self.client.commit(vec![write]));
    }

    /// Has listeners to the document see the values that are here.
    fn show(&self) {
        let shared = Arc::clone(&self.shared);
        let view = CollabView::new(move || shared.lock().replica.values());
        self.client.show_collaborative(&self.shared.path, Some(view));
    }
}

/// The changes that a write makes to the collaborative fields of a document.
fn merge_of<'a>(path: &DocumentPath, write: &'a Write) -> Option<&'a Collaboration> {
    match &write.op {
        WriteOp::Merge(collaboration) if write.path == *path => Some(collaboration),
        WriteOp::Merge(_)
        | WriteOp::Set(_)
        | WriteOp::Update { .. }
        | WriteOp::Delete
        | WriteOp::Verify => None,
    }
}
