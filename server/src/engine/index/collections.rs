//! The collections of which the lane knows that table `g` has them, so that a write need not look.

use std::collections::HashSet;
use std::sync::Arc;

use tidemark_protocol::model::CollectionPath;

use crate::engine::error::EngineError;
use crate::engine::keys::Keys;
use crate::store::Snapshot;

/// How many are remembered; the store knows the others.
const REMEMBERED: usize = 10_000;

/// Collections that are in the table. Forgotten when a batch fails.
#[derive(Debug, Default)]
pub(in crate::engine) struct KnownCollections(HashSet<CollectionPath>);

impl KnownCollections {
    /// Whether the collection must be put into the table.
    pub(in crate::engine) async fn is_new(
        &mut self,
        keys: Keys,
        snapshot: &Arc<dyn Snapshot>,
        collection: &CollectionPath,
    ) -> Result<bool, EngineError> {
        if self.0.contains(collection) {
            return Ok(false);
        }
        let is_new = snapshot.get(&keys.collection_entry(collection)).await?.is_none();
        if !is_new {
            self.add(collection.clone());
        }
        Ok(is_new)
    }

    /// The collection will be in the table when the batch is durable.
    pub(in crate::engine) fn add(&mut self, collection: CollectionPath) {
        if self.0.len() >= REMEMBERED {
            self.0.clear();
        }
        self.0.insert(collection);
    }
}
