//! What goes wrong while decoding, before it is known what the frame was about.

use crate::model::ModelError;

/// Either no protobuf of ours, or a message that breaks a rule.
#[derive(Debug)]
pub(super) enum Fault {
    Malformed(String),
    Model(ModelError),
}

impl Fault {
    pub(super) fn malformed(problem: impl Into<String>) -> Fault {
        Fault::Malformed(problem.into())
    }

    pub(super) fn invalid(problem: impl Into<String>) -> Fault {
        Fault::Model(ModelError::invalid(problem))
    }

    pub(super) fn unimplemented(what: &str) -> Fault {
        Fault::Model(ModelError::unimplemented(what))
    }
}

impl From<ModelError> for Fault {
    fn from(error: ModelError) -> Fault {
        Fault::Model(error)
    }
}
