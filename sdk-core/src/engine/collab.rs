//! What pending changes of collaborative fields look like: an open document says it; of one that is not
//! open, it is computed from the history in the cache. Part of [`Engine`](super::Engine).

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use tidemark_protocol::model::{DocumentPath, Fields, Write};

use super::Engine;

/// Tells the values of an open document's collaborative fields, as they are at that moment.
#[derive(Clone)]
pub struct CollabView(Arc<dyn Fn() -> Fields + Send + Sync>);

impl CollabView {
    /// A view that asks for the values.
    pub fn new(values: impl Fn() -> Fields + Send + Sync + 'static) -> CollabView {
        CollabView(Arc::new(values))
    }

    pub(crate) fn values(&self) -> Fields {
        (self.0)()
    }
}

impl fmt::Debug for CollabView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CollabView")
    }
}

impl Engine {
    /// An open document shows these values while changes of it are pending; none: it is closed.
    pub(super) fn show_collaborative(&mut self, path: &DocumentPath, view: Option<CollabView>) {
        let is_open = view.is_some();
        self.documents.show(path, view);
        if !is_open {
            self.compute_view(path);
        }
        self.documents.revise_path(path);
        self.refresh(BTreeSet::new());
    }

    /// Changes of these documents are pending; of those that are not open, what they come to is
    /// computed.
    pub(super) fn compute_views(&mut self, writes: &[Write]) {
        for write in writes {
            if is_merge(write) && !self.documents.is_open(&write.path) {
                self.compute_view(&write.path);
            }
        }
    }

    #[cfg(not(feature = "collab"))]
    fn compute_view(&mut self, _path: &DocumentPath) {}

    #[cfg(feature = "collab")]
    fn compute_view(&mut self, path: &DocumentPath) {
        match self.merged_values(path) {
            Ok(values) => self.documents.show_computed(path, values),
            Err(error) => tracing::warn!(%error, "the history of a document could not be read"),
        }
    }

    /// The values of the cached history with the pending changes merged into it, those that fit.
    #[cfg(feature = "collab")]
    fn merged_values(&self, path: &DocumentPath) -> Result<Option<Fields>, crate::error::Error> {
        use crate::collab::history::History;
        use std::ops::ControlFlow;
        use tidemark_protocol::model::collab::{CollabDocument, TextUnit};
        use tidemark_protocol::model::{COLLABORATIVE_ID, Query, Version, WriteOp};

        let collection = path.collection(COLLABORATIVE_ID)?;
        let mut stored = Vec::new();
        self.cache.find(&Query::collection(&collection), &mut |document| {
            stored.push(document);
            ControlFlow::Continue(())
        })?;
        let history = History::read(&stored);
        // The cache may not have all of the history: then only what the server made of it is shown.
        let loaded = history.load(b"view", TextUnit::CodePoints).ok();
        let mut document =
            loaded.unwrap_or_else(|| CollabDocument::new(b"view", TextUnit::CodePoints));
        let mut any = false;
        for write in self.outbox.local_batches().flat_map(|batch| batch.writes.iter()) {
            let WriteOp::Merge(changes) = &write.op else { continue };
            let fits = changes.epoch == history.epoch || changes.epoch == Version::NONE;
            if write.path == *path && fits {
                let mut with = document.clone();
                if with.apply(changes.changes.iter().map(|change| &change[..])).is_ok() {
                    document = with;
                    any = true;
                }
            }
        }
        Ok(any.then(|| document.values()))
    }
}

pub(super) fn is_merge(write: &Write) -> bool {
    use tidemark_protocol::model::WriteOp;
    match &write.op {
        WriteOp::Merge(_) => true,
        WriteOp::Set(_) | WriteOp::Update { .. } | WriteOp::Delete | WriteOp::Verify => false,
    }
}
