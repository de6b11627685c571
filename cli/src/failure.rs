//! What a command ends with when it does not succeed: a stable label, a message, a hint, and the
//! exit code. Every command returns it; `main` prints it.

use std::fmt;
use std::io;

use tidemark_core::{Code, Error};

/// The result of a command and its parts.
pub(crate) type Outcome<T> = Result<T, Failure>;

/// What kind of failure; it decides label and exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The server's or the client's word.
    Status(Code),
    /// The command line is wrong.
    Usage,
    /// The input data is wrong.
    BadInput,
    /// A file, terminal or socket of this machine.
    Io,
    /// The server could not start or stopped with an error.
    Server,
    /// The user pressed Ctrl-C.
    Interrupted,
    /// Nobody reads our output any more. Not an error.
    OutputClosed,
}

/// Why a command did not succeed.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    kind: Kind,
    message: String,
    hint: Option<String>,
}

impl Failure {
    /// A failure of this kind.
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Failure {
        Failure { kind, message: message.into(), hint: None }
    }

    /// A wrong command line.
    pub(crate) fn usage(message: impl Into<String>) -> Failure {
        Failure::new(Kind::Usage, message)
    }

    /// Wrong input data.
    pub(crate) fn bad_input(message: impl Into<String>) -> Failure {
        Failure::new(Kind::BadInput, message)
    }

    /// A failed operation on this machine: what was done to what.
    pub(crate) fn io(what: impl fmt::Display, error: &io::Error) -> Failure {
        Failure::new(Kind::Io, format!("{what}: {error}"))
    }

    /// The user stopped it.
    pub(crate) fn interrupted(message: impl Into<String>) -> Failure {
        Failure::new(Kind::Interrupted, message)
    }

    /// Says what to do about it.
    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Failure {
        self.hint = Some(hint.into());
        self
    }

    /// Puts the place before the message: `line 3: …`.
    pub(crate) fn at(mut self, place: impl fmt::Display) -> Failure {
        self.message = format!("{place}: {}", self.message);
        self
    }

    /// Which kind it is.
    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// What happened.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// What to do about it.
    pub(crate) fn hint(&self) -> Option<&str> {
        self.hint.as_deref().or(match self.kind {
            Kind::Status(code) => hint_for(code),
            Kind::Usage => {
                Some("`tidemark help` and `tidemark help COMMAND` explain the arguments")
            }
            Kind::BadInput | Kind::Io | Kind::Server | Kind::Interrupted | Kind::OutputClosed => {
                None
            }
        })
    }

    /// The word in `error[…]`.
    pub(crate) fn label(&self) -> &'static str {
        match self.kind {
            Kind::Status(code) => code.name(),
            Kind::Usage => "usage",
            Kind::BadInput => "bad-input",
            Kind::Io => "io",
            Kind::Server => "server",
            Kind::Interrupted => "interrupted",
            Kind::OutputClosed => "output-closed",
        }
    }

    /// The process's exit code.
    pub(crate) fn exit_code(&self) -> u8 {
        match self.kind {
            Kind::Status(code) => exit_code_for(code),
            Kind::Usage => 2,
            Kind::BadInput => 7,
            Kind::Io | Kind::Server => 1,
            Kind::Interrupted => 130,
            Kind::OutputClosed => 0,
        }
    }
}

fn exit_code_for(code: Code) -> u8 {
    match code {
        Code::InvalidArgument | Code::OutOfRange => 2,
        Code::NotFound => 3,
        Code::AlreadyExists | Code::FailedPrecondition | Code::Aborted => 4,
        Code::PermissionDenied | Code::Unauthenticated => 5,
        Code::Unavailable | Code::DeadlineExceeded => 6,
        Code::Cancelled
        | Code::Unknown
        | Code::ResourceExhausted
        | Code::Unimplemented
        | Code::Internal
        | Code::DataLoss => 1,
    }
}

fn hint_for(code: Code) -> Option<&'static str> {
    match code {
        Code::NotFound => Some("check the path; `tidemark set` creates a document"),
        Code::AlreadyExists => Some("leave out --create to replace it"),
        Code::Unavailable => {
            Some("is the server running? Start one with `tidemark serve`, or set --url")
        }
        Code::Unauthenticated | Code::PermissionDenied => {
            Some("check --token (or TIDEMARK_TOKEN) and --project")
        }
        Code::Aborted => Some("somebody else changed it at the same time; run it again"),
        Code::ResourceExhausted => {
            Some("a limit was reached; ask for less, or wait and run it again")
        }
        Code::Unimplemented => Some("this release does not have it; see CHANGELOG.md"),
        Code::InvalidArgument
        | Code::OutOfRange
        | Code::FailedPrecondition
        | Code::DeadlineExceeded
        | Code::Cancelled
        | Code::Unknown
        | Code::Internal
        | Code::DataLoss => None,
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.message)
    }
}

impl std::error::Error for Failure {}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::new(Kind::Status(error.code()), error.message())
    }
}

impl From<tidemark_protocol::model::ModelError> for Failure {
    fn from(error: tidemark_protocol::model::ModelError) -> Failure {
        Failure::new(Kind::Status(error.code), error.message)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn each_class_of_failure_has_its_exit_code() {
        let of = |code| Failure::new(Kind::Status(code), "x").exit_code();
        assert_eq!(of(Code::InvalidArgument), 2);
        assert_eq!(of(Code::NotFound), 3);
        assert_eq!(of(Code::AlreadyExists), 4);
        assert_eq!(of(Code::PermissionDenied), 5);
        assert_eq!(of(Code::DeadlineExceeded), 6);
        assert_eq!(of(Code::Internal), 1);
        assert_eq!(Failure::usage("x").exit_code(), 2);
        assert_eq!(Failure::bad_input("x").exit_code(), 7);
        assert_eq!(Failure::interrupted("x").exit_code(), 130);
    }

    #[test]
    fn an_own_hint_beats_the_general_one() {
        let general = Failure::new(Kind::Status(Code::NotFound), "x");
        assert!(general.hint().unwrap().contains("path"));
        assert_eq!(general.with_hint("mine").hint(), Some("mine"));
    }
}
