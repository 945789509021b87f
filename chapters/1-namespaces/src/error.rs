//! What can go wrong in this chapter.

use nix::errno::Errno;

/// A failure, saying what was being done and on what.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call failed.
    #[error("{doing}: {errno}")]
    Sys {
        /// What was being done, and on what.
        doing: String,
        /// The errno, named.
        errno: Errno,
    },
    /// The configuration asks for what cannot be; the sentence says what to change.
    #[error("{0}")]
    Invalid(String),
    /// A hook failed.
    #[error("{0}")]
    Hook(String),
    /// The child reported this from inside its namespaces.
    #[error("{0}")]
    Inside(String),
    /// The program cannot be executed. The message is docker's, which tools match on.
    #[error("{message}")]
    Program {
        /// For example `exec: "foo": executable file not found in $PATH`.
        message: String,
        /// 127 if it is not there, 126 if it is there and cannot be executed.
        code: i32,
    },
    /// The process ended before it was ready, without saying why (killed, most likely).
    #[error("{0} ended before it was ready: killed, or out of memory?")]
    Gone(&'static str),
}

impl Error {
    /// The exit code that a shell gives for this failure: 127 for a program that is not there,
    /// 126 for one that cannot be executed, otherwise 1 as runc does.
    pub fn exit_code(&self) -> i32 {
        match self {
            Error::Program { code, .. } => *code,
            _ => 1,
        }
    }

    /// As a frame of a conversation: a byte for what it is, and the message.
    pub(crate) fn frame(&self) -> Vec<u8> {
        let kind = if matches!(self, Error::Hook(_)) { 0 } else { self.exit_code() as u8 };
        [&[kind], self.to_string().as_bytes()].concat()
    }

    /// The errno behind it, where there is one.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Error::Sys { errno, .. } => Some(*errno),
            _ => None,
        }
    }
}

/// This chapter's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Gives a bare errno the words that make it an error message: what, on what.
pub(crate) trait Doing<T> {
    /// `open(..).doing(|| format!("open {path}"))?`
    fn doing(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T> Doing<T> for Result<T, Errno> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|errno| Error::Sys { doing: what(), errno })
    }
}

impl<T> Doing<T> for std::io::Result<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|e| Error::Sys {
            doing: what(),
            errno: e.raw_os_error().map_or(Errno::EINVAL, Errno::from_raw),
        })
    }
}

/// An [`Error::Invalid`] as a value to return.
pub(crate) fn invalid<T>(why: impl Into<String>) -> Result<T> {
    Err(Error::Invalid(why.into()))
}
