//! What can go wrong in the engine.

use tidemark_protocol::model::{Code, ModelError};
use tidemark_protocol::wire::server::Status;

use crate::store::StoreError;

/// An error of the engine. [`EngineError::status`] is what a client may see of it.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The store failed.
    #[error("the store failed: {0}")]
    Store(#[from] StoreError),
    /// The request breaks a rule.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// What is stored cannot be read: a bug, or damage.
    #[error("stored data cannot be read: {0}")]
    Corrupt(String),
    /// The engine is shutting down, or a commit failed in a way that needs a restart.
    #[error("the database takes no commits: {0}")]
    Unavailable(String),
}

impl EngineError {
    pub(super) fn corrupt(error: impl std::fmt::Display) -> EngineError {
        EngineError::Corrupt(error.to_string())
    }

    /// The error as a client may see it; details of the store stay in the log.
    pub fn status(&self) -> Status {
        let (code, message) = match self {
            EngineError::Model(error) => (error.code, error.message.clone()),
            EngineError::Store(_) => {
                (Code::Unavailable, "the store is unavailable; retry".to_owned())
            }
            EngineError::Corrupt(_) => (Code::DataLoss, "stored data cannot be read".to_owned()),
            EngineError::Unavailable(reason) => (Code::Unavailable, reason.clone()),
        };
        Status { code, message }
    }
}

impl From<ModelError> for Rejection {
    fn from(error: ModelError) -> Rejection {
        Rejection::Refused(Status { code: error.code, message: error.message })
    }
}

/// Why a commit did not take effect.
#[derive(Debug)]
pub(super) enum Rejection {
    /// The author is told, nothing else happens.
    Refused(Status),
    /// The engine itself failed; the author may retry.
    Failed(EngineError),
}

impl From<EngineError> for Rejection {
    fn from(error: EngineError) -> Rejection {
        Rejection::Failed(error)
    }
}
