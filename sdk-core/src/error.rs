//! The error an app sees: a stable code and a sentence for the developer. Every module turns what
//! went wrong into this at the edge; nothing here decides what to do about it.

use std::sync::Arc;

use tidemark_protocol::model::{Code, ModelError};
use tidemark_protocol::wire::codec::DecodeError;
use tidemark_protocol::wire::server::Status;

/// Why something was refused or could not be done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Error {
    code: Code,
    message: Arc<str>,
}

impl Error {
    /// An error with this code.
    pub fn new(code: Code, message: impl AsRef<str>) -> Error {
        Error { code, message: Arc::from(message.as_ref()) }
    }

    /// The stable code, to decide by.
    pub fn code(&self) -> Code {
        self.code
    }

    /// What was wrong, for a developer; not stable.
    pub fn message(&self) -> &str {
        &self.message
    }

    pub(crate) fn invalid(message: impl AsRef<str>) -> Error {
        Error::new(Code::InvalidArgument, message)
    }

    pub(crate) fn unavailable(message: impl AsRef<str>) -> Error {
        Error::new(Code::Unavailable, message)
    }

    pub(crate) fn closed() -> Error {
        Error::new(Code::Cancelled, "the client was closed")
    }
}

impl From<ModelError> for Error {
    fn from(error: ModelError) -> Error {
        Error::new(error.code, error.message)
    }
}

impl From<Status> for Error {
    fn from(status: Status) -> Error {
        Error::new(status.code, status.message)
    }
}

impl From<DecodeError> for Error {
    fn from(error: DecodeError) -> Error {
        let code = match &error {
            DecodeError::TooLarge { .. } => Code::ResourceExhausted,
            DecodeError::Malformed(_) => Code::DataLoss,
            DecodeError::Invalid { error, .. } => error.code,
        };
        Error::new(code, error.to_string())
    }
}
