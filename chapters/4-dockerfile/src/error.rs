//! What can go wrong in this chapter.

/// A failure, saying what was being done and on what.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A line that is not an instruction, or not a right one.
    #[error("dockerfile parse error on line {line}: {message}")]
    Syntax {
        /// From 1.
        line: usize,
        /// What was found, and what was expected.
        message: String,
    },
    /// A file that is no Dockerfile as a whole.
    #[error("dockerfile parse error: {0}")]
    File(String),
    /// A line of the ignore file is not a pattern.
    #[error("{file}: {message}")]
    Ignore {
        /// The ignore file.
        file: String,
        /// Which pattern, and why.
        message: String,
    },
    /// An instruction could not be carried out.
    #[error("{instruction} failed: {reason}")]
    Instruction {
        /// Its name.
        instruction: &'static str,
        /// What was wrong, and what to do.
        reason: String,
    },
    /// A command of RUN ended with a failure.
    #[error("The command '{command}' returned a non-zero code: {code}")]
    Command {
        /// With its shell.
        command: String,
        /// Its exit status; 128 and the signal if it was killed.
        code: i32,
    },
    /// A variable's substitution is not one.
    #[error("failed to process {word:?}: {reason}")]
    Expand {
        /// Where it stands.
        word: String,
        /// What is wrong.
        reason: String,
    },
    /// What was asked for is not in the Dockerfile or cannot be had.
    #[error("{0}")]
    Plan(String),
    /// A document (a config, a cache entry) that cannot be read or written.
    #[error("{doing}: {source}")]
    Json {
        /// What was being done, and on what.
        doing: String,
        /// Where it is wrong.
        source: serde_json::Error,
    },
    /// A file of the context, or one that the builder keeps, could not be used.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done, and on what.
        doing: String,
        /// Why not.
        source: std::io::Error,
    },
    /// A system call failed.
    #[error("{doing}: {errno}")]
    Sys {
        /// What was being done, and on what.
        doing: String,
        /// The errno, named.
        errno: nix::errno::Errno,
    },
    /// The store, a layer or a mount failed.
    #[error(transparent)]
    Layers(#[from] layers::Error),
    /// The container of a RUN could not be made.
    #[error(transparent)]
    Runtime(#[from] cgroups::Error),
}

/// This chapter's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Says on the way out what was being done.
pub(crate) trait Doing<T> {
    /// `doing` is called only for a failure.
    fn doing(self, doing: impl FnOnce() -> String) -> Result<T>;
}

impl<T> Doing<T> for std::io::Result<T> {
    fn doing(self, doing: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| Error::Io { doing: doing(), source })
    }
}

impl<T> Doing<T> for nix::Result<T> {
    fn doing(self, doing: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|errno| Error::Sys { doing: doing(), errno })
    }
}

impl<T> Doing<T> for serde_json::Result<T> {
    fn doing(self, doing: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| Error::Json { doing: doing(), source })
    }
}
