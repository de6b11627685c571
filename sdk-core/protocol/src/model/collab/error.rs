//! What can go wrong with collaborative fields, and the code that it is told with.

use super::super::CollaborativeKind;
use super::super::error::{Code, ModelError};

/// Why changes or edits were refused. After an error of `apply` or `assign` the document may be
/// half changed: it must be loaded again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CollabError {
    /// The bytes are no changes, or Automerge does not take them.
    #[error("the changes are malformed: {0}")]
    Malformed(String),
    /// Changes rest on others that this document does not have.
    #[error(
        "the changes rest on others that are not known here: they were made against another state of the document's collaborative fields"
    )]
    MissingDependencies,
    /// More than is taken.
    #[error("{what} would be {size}; the limit is {limit}")]
    TooLarge {
        /// What is limited, with its unit.
        what: &'static str,
        /// What it may be.
        limit: usize,
        /// What it would be.
        size: usize,
    },
    /// The field is collaborative in another way.
    #[error("the field `{field}` is a collaborative {found:?}, not {expected:?}")]
    Kind {
        /// Which.
        field: String,
        /// As what it was used.
        expected: CollaborativeKind,
        /// What it is.
        found: CollaborativeKind,
    },
    /// A value that cannot become the content of such a field.
    #[error("the field `{field}` holds no value that a collaborative {kind:?} can begin with")]
    Unsuitable {
        /// Which.
        field: String,
        /// What it was to become.
        kind: CollaborativeKind,
    },
    /// There is nothing there.
    #[error("there is no {0}")]
    NotFound(String),
    /// Past the end.
    #[error("the index {index} is past the end, {length}")]
    OutOfBounds {
        /// The index, or the end of the range.
        index: usize,
        /// How long the text or the list is.
        length: usize,
    },
}

impl CollabError {
    pub(super) fn automerge(error: impl std::fmt::Display) -> CollabError {
        CollabError::Malformed(error.to_string())
    }
}

impl From<CollabError> for ModelError {
    fn from(error: CollabError) -> ModelError {
        let code = match &error {
            CollabError::Malformed(_) | CollabError::OutOfBounds { .. } => Code::InvalidArgument,
            CollabError::MissingDependencies
            | CollabError::Kind { .. }
            | CollabError::Unsuitable { .. } => Code::FailedPrecondition,
            CollabError::TooLarge { .. } => Code::ResourceExhausted,
            CollabError::NotFound(_) => Code::NotFound,
        };
        ModelError::new(code, error.to_string())
    }
}
