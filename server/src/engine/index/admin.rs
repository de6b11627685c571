//! What an administrator asks a database about its indexes.

use tidemark_protocol::model::{Code, FieldPath, IndexDefinition, ModelError};
use tokio::sync::oneshot;

use super::builder::IndexCommand;
use super::{ExemptionStatus, IndexChange, IndexStatus, Progress};
use crate::engine::error::EngineError;
use crate::engine::lane::LaneCommand;
use crate::engine::{Database, lane};

impl Database {
    /// The declared indexes, by number.
    pub fn indexes(&self) -> Vec<IndexStatus> {
        self.shared.published().indexes.statuses()
    }

    /// For which fields automatic indexes were switched off or on, by collection and field.
    pub fn exemptions(&self) -> Vec<ExemptionStatus> {
        self.shared.published().indexes.exemptions()
    }

    /// How far the automatic indexes of a database from before there were any have come; none:
    /// they are complete.
    pub fn automatic_build(&self) -> Option<Progress> {
        self.shared.published().indexes.automatic_build()
    }

    /// Declares an index. It is built in the background: [`Database::indexes`] tells how far that
    /// has come. Fails with `already-exists`, `invalid-argument`, or `resource-exhausted`.
    pub async fn create_index(
        &self,
        definition: IndexDefinition,
    ) -> Result<IndexStatus, EngineError> {
        self.change(IndexChange::Create(definition.clone())).await?;
        let created = self.indexes().into_iter().rfind(|it| it.definition == definition);
        created.ok_or_else(|| {
            ModelError::new(Code::Aborted, "the index was dropped as soon as it was made").into()
        })
    }

    /// Drops an index, also one that is being built. Its entries are removed in the background.
    /// Fails with `not-found`.
    pub async fn drop_index(&self, id: u32) -> Result<(), EngineError> {
        self.change(IndexChange::Drop(id)).await
    }

    /// Says whether a field and all that is nested in it, or without one all fields, of the
    /// collections of an id have no automatic indexes. The longest path decides about a field.
    pub async fn exempt(
        &self,
        collection_id: &str,
        field: Option<FieldPath>,
        exempt: bool,
    ) -> Result<(), EngineError> {
        let collection_id = collection_id.to_owned();
        self.change(IndexChange::Exempt { collection_id, prefix: field, exempt }).await
    }

    /// Waits until nothing is being built or removed any more.
    pub async fn indexes_settled(&self) -> Result<(), EngineError> {
        let mut changes = self.shared.index_changes.subscribe();
        loop {
            if self.shared.published().indexes.is_settled() {
                return Ok(());
            }
            if let Some(reason) = self.shared.failure() {
                return Err(EngineError::Unavailable(reason.to_owned()));
            }
            tokio::select! {
                // In this order, so that a simulated run repeats.
                biased;
                // The sender lives as long as the database.
                _ = changes.changed() => {}
                () = self.lane.closed() => return Err(lane::closed()),
            }
        }
    }

    async fn change(&self, change: IndexChange) -> Result<(), EngineError> {
        let (done, answer) = oneshot::channel();
        let command = LaneCommand::Index(IndexCommand::Change { change, done });
        self.lane.send(command).await.map_err(|_| lane::closed())?;
        answer.await.map_err(|_| lane::closed())?
    }
}
