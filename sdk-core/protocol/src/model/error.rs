//! The error codes of Firestore, and the error of the model.

use std::fmt;

/// Firestore's (gRPC's) status codes; the one table for HTTP, gRPC, close codes and SDKs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum Code {
    Cancelled = 1,
    Unknown = 2,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    AlreadyExists = 6,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    Aborted = 10,
    OutOfRange = 11,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    DataLoss = 15,
    Unauthenticated = 16,
}

/// Close codes from here on carry a [`Code`]; RFC 6455 leaves 4000–4999 to applications.
const CLOSE_CODE_BASE: u16 = 4000;

impl Code {
    /// All codes, by number.
    pub const ALL: [Code; 16] = [
        Code::Cancelled,
        Code::Unknown,
        Code::InvalidArgument,
        Code::DeadlineExceeded,
        Code::NotFound,
        Code::AlreadyExists,
        Code::PermissionDenied,
        Code::ResourceExhausted,
        Code::FailedPrecondition,
        Code::Aborted,
        Code::OutOfRange,
        Code::Unimplemented,
        Code::Internal,
        Code::Unavailable,
        Code::DataLoss,
        Code::Unauthenticated,
    ];

    /// The row of the table: name, REST name, HTTP status (as google.rpc.Code maps them).
    fn row(self) -> (&'static str, &'static str, u16) {
        match self {
            Code::Cancelled => ("cancelled", "CANCELLED", 499),
            Code::Unknown => ("unknown", "UNKNOWN", 500),
            Code::InvalidArgument => ("invalid-argument", "INVALID_ARGUMENT", 400),
            Code::DeadlineExceeded => ("deadline-exceeded", "DEADLINE_EXCEEDED", 504),
            Code::NotFound => ("not-found", "NOT_FOUND", 404),
            Code::AlreadyExists => ("already-exists", "ALREADY_EXISTS", 409),
            Code::PermissionDenied => ("permission-denied", "PERMISSION_DENIED", 403),
            Code::ResourceExhausted => ("resource-exhausted", "RESOURCE_EXHAUSTED", 429),
            Code::FailedPrecondition => ("failed-precondition", "FAILED_PRECONDITION", 400),
            Code::Aborted => ("aborted", "ABORTED", 409),
            Code::OutOfRange => ("out-of-range", "OUT_OF_RANGE", 400),
            Code::Unimplemented => ("unimplemented", "UNIMPLEMENTED", 501),
            Code::Internal => ("internal", "INTERNAL", 500),
            Code::Unavailable => ("unavailable", "UNAVAILABLE", 503),
            Code::DataLoss => ("data-loss", "DATA_LOSS", 500),
            Code::Unauthenticated => ("unauthenticated", "UNAUTHENTICATED", 401),
        }
    }

    /// The name in SDKs, logs and the command line: `not-found`.
    pub fn name(self) -> &'static str {
        self.row().0
    }

    /// The name in REST error bodies: `NOT_FOUND`.
    pub fn status_name(self) -> &'static str {
        self.row().1
    }

    /// The HTTP status.
    pub fn http_status(self) -> u16 {
        self.row().2
    }

    /// The gRPC code, as on the wire.
    pub fn number(self) -> u32 {
        self as u32
    }

    /// The WebSocket close code: 4000 + the gRPC code.
    pub fn close_code(self) -> u16 {
        CLOSE_CODE_BASE + self as u16
    }

    /// The code with this number on the wire; numbers we do not know are [`Code::Unknown`].
    pub fn from_number(number: u32) -> Code {
        Code::known(number).unwrap_or(Code::Unknown)
    }

    /// The code that a close code stands for.
    pub fn from_close_code(close: u16) -> Option<Code> {
        Code::known(u32::from(close.checked_sub(CLOSE_CODE_BASE)?))
    }

    fn known(number: u32) -> Option<Code> {
        let index = usize::try_from(number).ok()?.checked_sub(1)?;
        Code::ALL.get(index).copied()
    }

    /// Whether trying again can succeed: sending the same commit or, for `aborted`, running the
    /// transaction anew. Everything else is the verdict on what was asked.
    pub fn is_retryable(self) -> bool {
        match self {
            Code::Cancelled
            | Code::Unknown
            | Code::DeadlineExceeded
            | Code::ResourceExhausted
            | Code::Aborted
            | Code::Internal
            | Code::Unavailable
            | Code::Unauthenticated => true,
            Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::FailedPrecondition
            | Code::OutOfRange
            | Code::Unimplemented
            | Code::DataLoss => false,
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What the model refuses: which rule, what was found, what would be right. The message is fit
/// for an app developer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct ModelError {
    /// The stable code.
    pub code: Code,
    /// What was wrong and what would be right.
    pub message: String,
}

impl ModelError {
    /// An error with this code.
    pub fn new(code: Code, message: impl Into<String>) -> ModelError {
        ModelError { code, message: message.into() }
    }

    /// The usual case.
    pub fn invalid(message: impl Into<String>) -> ModelError {
        ModelError::new(Code::InvalidArgument, message)
    }

    /// Something of Firestore's that this version does not do.
    pub fn unimplemented(what: impl fmt::Display) -> ModelError {
        ModelError::new(Code::Unimplemented, format!("{what} is not implemented"))
    }
}

/// Text of the user's for an error message, cut where it gets long.
pub(crate) fn excerpt(text: &str) -> String {
    const SHOWN: usize = 60;
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_agrees_with_itself() {
        for code in Code::ALL {
            assert_eq!(Code::from_number(code.number()), code);
            assert_eq!(Code::from_close_code(code.close_code()), Some(code));
            assert_eq!(code.name().to_uppercase().replace('-', "_"), code.status_name());
            assert!((400..600).contains(&code.http_status()));
        }
    }

    #[test]
    fn unknown_numbers_are_unknown() {
        assert_eq!(Code::from_number(0), Code::Unknown);
        assert_eq!(Code::from_number(17), Code::Unknown);
        assert_eq!(Code::from_number(u32::MAX), Code::Unknown);
        for close in [0, 1000, 4000, 4017, u16::MAX] {
            assert_eq!(Code::from_close_code(close), None);
        }
    }

    #[test]
    fn long_text_is_cut_at_a_character() {
        assert_eq!(excerpt("short"), "\"short\"");
        let cut = excerpt(&"é".repeat(100));
        assert_eq!(cut.matches('é').count(), 60);
    }
}
