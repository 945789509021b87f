//! Why a request failed, as the API tells it: a status, and a sentence.

use std::fmt;

/// What the client gets as `{"message": …}` with this status.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    /// The HTTP status.
    pub(crate) status: u16,
    /// The sentence.
    pub(crate) message: String,
}

/// The engine's result.
pub(crate) type Result<T, E = Failure> = std::result::Result<T, E>;

impl Failure {
    fn new(status: u16, message: impl fmt::Display) -> Failure {
        Failure { status, message: message.to_string() }
    }

    /// The request itself is wrong.
    pub(crate) fn bad(message: impl fmt::Display) -> Failure {
        Failure::new(400, message)
    }

    /// It may not be done.
    pub(crate) fn forbidden(message: impl fmt::Display) -> Failure {
        Failure::new(403, message)
    }

    /// What it names is not there.
    pub(crate) fn missing(message: impl fmt::Display) -> Failure {
        Failure::new(404, message)
    }

    /// It cannot be done in the state that things are in.
    pub(crate) fn conflict(message: impl fmt::Display) -> Failure {
        Failure::new(409, message)
    }

    /// Something on this machine went wrong.
    pub(crate) fn internal(message: impl fmt::Display) -> Failure {
        Failure::new(500, message)
    }

    /// Says what was being done when it went wrong.
    pub(crate) fn doing(self, what: impl fmt::Display) -> Failure {
        Failure { message: format!("{what}: {}", self.message), ..self }
    }
}

/// An error of a chapter, or of the system: the whole chain in one line.
impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Failure {
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            let cause_text = cause.to_string();
            if !message.ends_with(&cause_text) {
                message = format!("{message}: {cause_text}");
            }
            source = cause.source();
        }
        Failure::internal(message)
    }
}
