//! What becomes of a write after the app has stated it: the promise of the server's word, the stages it
//! goes through, and what an app can learn about writes that wait or were rejected. Tells; decides
//! nothing.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::channel::{mpsc, oneshot};
use futures::{Stream, StreamExt};
use tidemark_protocol::model::{
    Code, DocumentPath, EditTime, Superseded, Timestamp, Version, Write, WriteId, WriteResult,
};

use crate::cache::RejectedEntry;
use crate::client::Client;
use crate::error::Error;
use crate::reference::DocumentRef;

/// What the server says of a commit.
#[derive(Clone, Debug, PartialEq)]
pub struct Committed {
    /// The commit's version. [`Version::NONE`] where only that it was answered is known: this client
    /// had acknowledged the answer, and its cache was put back to a state from before that.
    pub version: Version,
    /// One per write, in order.
    pub results: Vec<WriteResult>,
}

impl Committed {
    /// What had no effect, because it was edited later by someone else before this write arrived: the
    /// places of the writes, and what of them.
    pub fn superseded(&self) -> impl Iterator<Item = (usize, &Superseded)> {
        let results = self.results.iter().map(|result| &result.superseded).enumerate();
        results.filter(|(_, superseded)| **superseded != Superseded::Nothing)
    }

    /// Whether all of it took effect.
    pub fn is_whole(&self) -> bool {
        self.superseded().next().is_none()
    }
}

/// How far a write has come.
#[derive(Clone, Debug, PartialEq)]
pub enum WriteStage {
    /// It is in the outbox, on stable storage where the cache is on any: it survives a restart and will
    /// be sent.
    Local,
    /// The server has it on stable storage.
    Committed(Committed),
    /// The server has refused it for good; its local effect is gone. See [`Client::rejected_writes`].
    Rejected(Error),
}

/// A write has reached a stage.
#[derive(Clone, Debug, PartialEq)]
pub struct WriteEvent {
    /// The write.
    pub id: WriteId,
    /// What it writes.
    pub writes: Arc<[Write]>,
    /// How far it has come.
    pub stage: WriteStage,
}

impl WriteEvent {
    /// The documents that it writes.
    pub fn paths(&self) -> impl Iterator<Item = &DocumentPath> {
        self.writes.iter().map(|write| &write.path)
    }
}

/// What becomes of this client's writes, from now on, in order; those of former runs included, and
/// transactions aside. Nothing is left out, so whoever holds it has to read it.
#[must_use = "a stream does nothing unless it is polled"]
pub struct WriteEvents {
    events: mpsc::UnboundedReceiver<WriteEvent>,
}

impl WriteEvents {
    pub(crate) fn new(events: mpsc::UnboundedReceiver<WriteEvent>) -> WriteEvents {
        WriteEvents { events }
    }
}

impl Stream for WriteEvents {
    type Item = WriteEvent;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<WriteEvent>> {
        self.events.poll_next_unpin(context)
    }
}

/// A write that the server has not answered yet.
#[derive(Clone, Debug, PartialEq)]
pub struct OutboxWrite {
    /// Names it.
    pub id: WriteId,
    /// What it writes.
    pub writes: Arc<[Write]>,
    /// When it was made, by the server's clock as well as this client knows it.
    pub edit_time: EditTime,
    /// Whether it waits to be sent; otherwise the server's answer is awaited, or it is being stored.
    pub waiting: bool,
}

/// A write that the server has refused for good. It is kept until the app has decided: to make it again
/// ([`Client::retry`]), to give it up ([`Client::discard`]), or to give it up and make another one
/// instead.
#[derive(Clone, Debug, PartialEq)]
pub struct RejectedWrite {
    /// Names it.
    pub id: WriteId,
    /// What it would have written.
    pub writes: Arc<[Write]>,
    /// Why it was refused, to decide by.
    pub code: Code,
    /// Why it was refused, for a developer.
    pub message: String,
    /// When it was made, by the local clock.
    pub made_at: Timestamp,
}

impl From<&RejectedEntry> for RejectedWrite {
    fn from(entry: &RejectedEntry) -> RejectedWrite {
        RejectedWrite {
            id: entry.id,
            writes: entry.writes.clone(),
            code: entry.code,
            message: entry.message.clone(),
            made_at: Timestamp::from(entry.at),
        }
    }
}

type Word = Result<Committed, Error>;

enum Promise {
    Failed(Error),
    Waiting(Waiting),
}

struct Waiting {
    /// Set when it is known.
    id: Option<WriteId>,
    stored: oneshot::Receiver<WriteId>,
    word: oneshot::Receiver<Word>,
    // The outbox lives as long as somebody waits for it.
    _client: Client,
}

/// A write that has taken effect locally. Awaiting it gives the server's word: the commit, or the
/// reason of its rejection (its local effect is then gone). Dropping it does not take it back.
///
/// While the network is away, or the server has refused this client for good, the word is simply not
/// there yet: the write waits in the outbox ([`Client::connection`] tells why). When the client is
/// closed before the word came, it is `cancelled`; with a durable cache, the next run sends it.
pub struct PendingWrite {
    promise: Promise,
}

impl PendingWrite {
    pub(crate) fn waiting(
        stored: oneshot::Receiver<WriteId>,
        word: oneshot::Receiver<Word>,
        client: Client,
    ) -> PendingWrite {
        let waiting = Waiting { id: None, stored, word, _client: client };
        PendingWrite { promise: Promise::Waiting(waiting) }
    }

    pub(crate) fn failed(error: Error) -> PendingWrite {
        PendingWrite { promise: Promise::Failed(error) }
    }

    /// Resolves when the write is in the outbox, on stable storage where the cache is on any: it
    /// survives a restart. Gives its id; an error says why it could not be kept.
    pub async fn local(&mut self) -> Result<WriteId, Error> {
        let waiting = match &mut self.promise {
            Promise::Failed(error) => return Err(error.clone()),
            Promise::Waiting(waiting) => waiting,
        };
        if let Some(id) = waiting.id {
            return Ok(id);
        }
        if let Ok(id) = (&mut waiting.stored).await {
            waiting.id = Some(id);
            return Ok(id);
        }
        // It was never stored: the word says why.
        let error = match (&mut waiting.word).await {
            Ok(Err(error)) => error,
            Ok(Ok(_)) | Err(_) => Error::closed(),
        };
        self.promise = Promise::Failed(error.clone());
        Err(error)
    }

    /// The write's id, once [`local`](Self::local) has given it.
    pub fn id(&self) -> Option<WriteId> {
        match &self.promise {
            Promise::Failed(_) => None,
            Promise::Waiting(waiting) => waiting.id,
        }
    }
}

impl Future for PendingWrite {
    type Output = Word;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Word> {
        match &mut self.promise {
            Promise::Failed(error) => Poll::Ready(Err(error.clone())),
            Promise::Waiting(waiting) => Pin::new(&mut waiting.word)
                .poll(context)
                .map(|word| word.unwrap_or_else(|_| Err(Error::closed()))),
        }
    }
}

/// [`CollectionRef::add`](crate::CollectionRef::add): the new document's place, and the same promise
/// as [`PendingWrite`].
pub struct PendingAdd {
    /// The new document.
    pub doc: DocumentRef,
    pub(crate) write: PendingWrite,
}

impl PendingAdd {
    /// See [`PendingWrite::local`].
    pub async fn local(&mut self) -> Result<WriteId, Error> {
        self.write.local().await
    }
}

impl Future for PendingAdd {
    type Output = Word;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Word> {
        Pin::new(&mut self.write).poll(context)
    }
}
