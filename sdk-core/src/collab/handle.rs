//! The handle of an open document.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::channel::{mpsc, oneshot};
use futures::{Stream, StreamExt};
use tidemark_protocol::model::collab::{CollabDocument, CollabError, CollabPatch, TextUnit};
use tidemark_protocol::model::{COLLABORATIVE_ID, CollaborativeKind, ModelError, Value};

use super::field::{CollabState, SharedCounter, SharedList, SharedMap, SharedText};
use super::replica::{CollabEvent, Replica};
use super::session::{Session, Shared};
use crate::engine::Source;
use crate::error::Error;
use crate::reference::DocumentRef;

/// How a document is opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CollabOptions {
    /// How positions in texts are counted.
    pub unit: TextUnit,
}

/// A document with its collaborative fields open for editing. Cheap to clone; all clones are the same
/// open document. Edits take effect here at once, are kept in the outbox, and are merged with those of
/// others by the server. It works offline with what the cache holds.
#[derive(Clone)]
pub struct OpenDocument {
    shared: Arc<Shared>,
    /// Wakes the session; the session ends when all are gone.
    wake: mpsc::Sender<()>,
}

impl std::fmt::Debug for OpenDocument {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("OpenDocument").field(&self.shared.path.as_str()).finish()
    }
}

impl OpenDocument {
    pub(crate) async fn open(
        document: &DocumentRef,
        options: CollabOptions,
    ) -> Result<OpenDocument, Error> {
        let client = document.client();
        let listener = document.collection(COLLABORATIVE_ID)?.listen();
        let mut replica = Replica::new(client.new_actor(), options.unit);
        // Fields that are plain so far begin with the values they have, as far as is known.
        let mut known = document.get_from(Source::Cache).await;
        if known.is_err() {
            known = document.get().await;
        }
        if let Ok(known) = known {
            replica.plain = known.fields().cloned().unwrap_or_default();
        }
        let shared = Shared::new(document.path().clone(), replica);
        let (wake, wakes) = mpsc::channel(1);
        let (ready, is_ready) = oneshot::channel();
        let session = Session::new(client.clone(), Arc::clone(&shared), listener, wakes, ready);
        client.spawn("tidemark-open-document", Box::pin(session.run()));
        if is_ready.await.is_err() {
            return Err(shared.lock().ended.clone().unwrap_or_else(Error::closed));
        }
        Ok(OpenDocument { shared, wake })
    }

    /// A text field: a string, edited by splices. A field that is not collaborative becomes so with its
    /// first edit, if it is absent or holds a string.
    pub fn text(&self, field: &str) -> Result<SharedText, Error> {
        self.field(field, CollaborativeKind::Text)?;
        Ok(SharedText { document: self.clone(), field: field.to_owned() })
    }

    /// A list field: an array, edited by element.
    pub fn list(&self, field: &str) -> Result<SharedList, Error> {
        self.field(field, CollaborativeKind::List)?;
        Ok(SharedList { document: self.clone(), field: field.to_owned(), path: vec![] })
    }

    /// A map field, edited by key.
    pub fn map(&self, field: &str) -> Result<SharedMap, Error> {
        self.field(field, CollaborativeKind::Map)?;
        Ok(SharedMap { document: self.clone(), field: field.to_owned(), path: vec![] })
    }

    /// A counter field: an integer, edited by increments.
    pub fn counter(&self, field: &str) -> Result<SharedCounter, Error> {
        self.field(field, CollaborativeKind::Counter)?;
        Ok(SharedCounter { document: self.clone(), field: field.to_owned() })
    }

    /// Checks that a field is of a kind, or can become so.
    fn field(&self, field: &str, kind: CollaborativeKind) -> Result<(), Error> {
        let state = self.shared.lock();
        let found = state.replica.document.kind(field);
        let plain = state.replica.plain.get(field);
        if let Some(found) = found {
            if found != kind {
                let field = field.to_owned();
                return Err(failed(CollabError::Kind { field, expected: kind, found }));
            }
        } else if let Some(plain) = plain
            && !CollabDocument::suits(kind, plain)
        {
            return Err(failed(CollabError::Unsuitable { field: field.to_owned(), kind }));
        }
        Ok(())
    }

    /// The value of a field as it is here.
    pub fn value(&self, field: &str) -> Option<Value> {
        self.shared.lock().replica.value(field)
    }

    /// What happens to the document from now on.
    pub fn events(&self) -> CollabEvents {
        let (events, stream) = mpsc::unbounded();
        self.shared.lock().watchers.push(events);
        CollabEvents { events: stream }
    }

    /// Resolves when all edits made so far are in the outbox, on stable storage where the cache is on
    /// any: they survive a restart. See
    /// [`Client::wait_for_pending_writes`](crate::Client::wait_for_pending_writes) for the server.
    pub async fn saved(&self) -> Result<(), Error> {
        let (saver, saved) = oneshot::channel();
        {
            let mut state = self.shared.lock();
            if let Some(error) = &state.ended {
                return Err(error.clone());
            }
            state.savers.push(saver);
        }
        self.wake();
        saved.await.unwrap_or_else(|_| Err(Error::closed()))
    }

    /// What it holds now.
    pub fn state(&self) -> CollabState {
        CollabState::new(self.shared.lock().replica.document.heads())
    }

    /// Whether it holds what was held then, here or by another client.
    pub fn holds(&self, then: &CollabState) -> bool {
        self.shared.lock().replica.document.has(&then.0)
    }

    /// Takes edits together: they reach others together, and are undone as one.
    pub fn group<T>(&self, edits: impl FnOnce() -> T) -> T {
        self.shared.lock().replica.document.open_group();
        let result = edits();
        self.shared.lock().replica.document.close_group();
        result
    }

    /// Takes back the last edit made here that is not undone; others' edits stay. Whether there was one.
    pub fn undo(&self) -> Result<bool, Error> {
        self.revert(CollabDocument::undo)
    }

    /// Makes the last edit undone again. Whether there was one.
    pub fn redo(&self) -> Result<bool, Error> {
        self.revert(CollabDocument::redo)
    }

    fn revert(
        &self,
        revert: impl FnOnce(&mut CollabDocument) -> Result<Option<Vec<CollabPatch>>, CollabError>,
    ) -> Result<bool, Error> {
        let mut state = self.shared.lock();
        let patches = revert(&mut state.replica.document).map_err(failed)?;
        let any = patches.is_some();
        state.replica.edited(patches.unwrap_or_default());
        state.tell();
        drop(state);
        self.wake();
        Ok(any)
    }

    /// Makes an edit of a field.
    pub(super) fn edit(
        &self,
        field: &str,
        kind: CollaborativeKind,
        edit: impl FnOnce(&mut CollabDocument) -> Result<Vec<CollabPatch>, CollabError>,
    ) -> Result<(), Error> {
        let mut state = self.shared.lock();
        if let Some(error) = &state.ended {
            return Err(error.clone());
        }
        let replica = &mut state.replica;
        if replica.document.kind(field).is_none() {
            let plain = replica.plain.get(field).cloned();
            replica.document.ensure(field, kind, plain.as_ref()).map_err(failed)?;
        }
        let patches = edit(&mut replica.document).map_err(failed)?;
        replica.edited(patches);
        state.tell();
        drop(state);
        self.wake();
        Ok(())
    }

    /// Reads a field.
    pub(super) fn read<T>(
        &self,
        read: impl FnOnce(&CollabDocument) -> Result<T, CollabError>,
    ) -> Result<T, Error> {
        read(&self.shared.lock().replica.document).map_err(failed)
    }

    fn wake(&self) {
        // If it is full, the session has not looked since the last time.
        let _ = self.wake.clone().try_send(());
    }
}

fn failed(error: CollabError) -> Error {
    Error::from(ModelError::from(error))
}

/// What happens to an open document, in order. Nothing is left out, so whoever holds it has to read it.
#[must_use = "a stream does nothing unless it is polled"]
pub struct CollabEvents {
    events: mpsc::UnboundedReceiver<CollabEvent>,
}

impl Stream for CollabEvents {
    type Item = CollabEvent;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<CollabEvent>> {
        self.events.poll_next_unpin(context)
    }
}
