//! What is stored, as of the write being applied: the snapshot, under the commits of the batch, under
//! the writes of the commit.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use tidemark_protocol::model::{CollectionPath, DocumentPath};

use super::super::commit::Stored;
use super::super::error::EngineError;
use super::super::index::KeyWrite;
use super::super::keys::Keys;
use super::super::stage::State;
use crate::store::{Key, KeyRange, ScanDirection, Snapshot};

/// How many keys are read at a time.
const PAGE: usize = 256;

type Documents = HashMap<DocumentPath, State>;

/// The documents and the archive.
#[derive(Clone, Copy)]
pub(in crate::engine) struct View<'a> {
    pub(in crate::engine) keys: Keys,
    pub(in crate::engine) snapshot: &'a Arc<dyn Snapshot>,
    /// Of the batch.
    pub(in crate::engine) staged: &'a Documents,
    /// Of the commit.
    pub(in crate::engine) own: &'a Documents,
    /// What the batch and the commit write to the archive.
    pub(in crate::engine) archived: &'a [KeyWrite],
}

impl View<'_> {
    /// The documents of a collection, by name.
    pub(super) async fn collection(
        &self,
        path: &CollectionPath,
    ) -> Result<BTreeMap<DocumentPath, Arc<Stored>>, EngineError> {
        let mut found = BTreeMap::new();
        for (_, bytes) in self.scan(self.keys.collection(path)).await? {
            let stored = Stored::decode(bytes)?;
            found.insert(stored.document.path.clone(), stored);
        }
        for (document, state) in self.staged.iter().chain(self.own) {
            if path.contains(document) {
                match &state.stored {
                    Some(stored) => found.insert(document.clone(), Arc::clone(stored)),
                    None => found.remove(document),
                };
            }
        }
        Ok(found)
    }

    /// All of a range of the snapshot.
    pub(super) async fn scan(&self, mut range: KeyRange) -> Result<Vec<(Key, Bytes)>, EngineError> {
        let mut found = Vec::new();
        loop {
            let page = self.snapshot.scan(range.clone(), ScanDirection::Forward, PAGE).await?;
            let is_last = page.len() < PAGE;
            if let Some((last, _)) = page.last() {
                range.start.clone_from(last);
                range.start.push(0);
            }
            found.extend(page);
            if is_last {
                return Ok(found);
            }
        }
    }
}
