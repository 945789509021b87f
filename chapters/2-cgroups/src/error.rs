//! What can go wrong in this chapter.

use crate::state::Status;
use nix::errno::Errno;

/// A failure, saying what was being done and on what.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The process could not be made or configured.
    #[error(transparent)]
    Process(#[from] namespaces::Error),
    /// A system call failed.
    #[error("{doing}: {errno}")]
    Sys {
        /// What was being done, and on what.
        doing: String,
        /// The errno, named.
        errno: Errno,
    },
    /// A limit was asked of a controller that this process cannot use.
    #[error("a {controller} limit was asked, but {why}")]
    NoController {
        /// The controller.
        controller: String,
        /// Why not, and how to get it.
        why: String,
    },
    /// A limit that makes no sense, or that this version of cgroups does not have.
    #[error("{0}")]
    Limit(String),
    /// A cgroup path that leads elsewhere, or is taken.
    #[error("cgroup path '{path}' {why}")]
    Path {
        /// The path.
        path: String,
        /// What is wrong with it.
        why: String,
    },
    /// A name that is not one.
    #[error(
        "invalid container ID '{0}': use letters, digits and _ + - . only, and begin with none of - and ."
    )]
    BadId(String),
    /// The name is taken.
    #[error("container with id {0} already exists: choose another ID, or delete that one first")]
    Exists(String),
    /// No such container. (containerd and podman look for these very words.)
    #[error("container {0} does not exist")]
    NotFound(String),
    /// A stopped container has nothing to send a signal to. (containerd looks for these very words.)
    #[error("container not running: {0} is {1}")]
    NotRunning(String, Status),
    /// Nothing runs in a paused container.
    #[error("cannot exec in a paused container: {0} is paused (resume it first, or use --ignore-paused)")]
    Paused(String),
    /// The container is not in the state that the operation asks for.
    #[error("cannot {doing} container {id}: it is {status}{next}")]
    WrongState {
        /// The operation.
        doing: &'static str,
        /// The container.
        id: String,
        /// What it is.
        status: Status,
        /// What to do first.
        next: &'static str,
    },
    /// A file that should hold JSON does not.
    #[error("reading {file}: {source}")]
    Json {
        /// The file.
        file: String,
        /// Where it goes wrong.
        source: serde_json::Error,
    },
    /// The command line asks for something that cannot be.
    #[error("{0}")]
    Usage(String),
}

/// This chapter's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Says what was being done when a system call fails.
pub(crate) trait Doing<T> {
    /// The text is made only when it is needed.
    fn doing(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T> Doing<T> for std::io::Result<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|e| match e.raw_os_error() {
            Some(code) => Error::Sys { doing: what(), errno: Errno::from_raw(code) },
            // std's own kinds (a short read, bytes that are not UTF-8) have no errno.
            None => Error::Usage(format!("{}: {e}", what())),
        })
    }
}

impl<T> Doing<T> for nix::Result<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|errno| Error::Sys { doing: what(), errno })
    }
}
