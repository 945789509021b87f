//! What can go wrong in this chapter.

use nix::errno::Errno;
use std::io;

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

    /// Reading or writing failed above the kernel (a stream that ends too early, a broken gzip stream).
    #[error("{doing}: {source}")]
    Io {
        /// What was being done, and on what.
        doing: String,
        /// What the stream said.
        source: io::Error,
    },

    /// Content is not what its digest or size says. It was not stored.
    #[error(
        "{what} does not match: {expected} was expected, {found} came; fetch it again from a source that you trust"
    )]
    Mismatch {
        /// Which content.
        what: String,
        /// What the descriptor says.
        expected: String,
        /// What it is.
        found: String,
    },

    /// A digest of an algorithm that is not in the OCI's registered list (sha256, sha512).
    #[error("digest {0}: the algorithm is not one of sha256, sha512")]
    Algorithm(String),

    /// A blob, name or image that is not in the store.
    #[error("{0} is not in the store")]
    Missing(String),

    /// A document (manifest, index, config, layout) that is not what the image-spec says.
    #[error("{what} is not valid: {why}")]
    Document {
        /// Which document.
        what: String,
        /// What is wrong with it.
        why: String,
    },

    /// An index that holds nothing for this machine.
    #[error("no image for platform {wanted} in {what}; it has: {offered}")]
    Platform {
        /// The index.
        what: String,
        /// This machine's platform.
        wanted: String,
        /// What there is.
        offered: String,
    },

    /// A tar that is broken, or that tries something which no honest layer does.
    #[error("tar entry {entry:?} is refused: {why}")]
    Entry {
        /// The entry's path as the tar has it.
        entry: String,
        /// Why.
        why: String,
    },

    /// More than a named limit allows.
    #[error("{what} exceeds the limit of {limit}")]
    Limit {
        /// What there is too much of.
        what: String,
        /// The limit, with its unit.
        limit: String,
    },

    /// A user or group that cannot be had from the root's /etc/passwd and /etc/group.
    #[error("{0}")]
    User(String),
}

/// This chapter's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Says what was being done, on the way up. The words are made only if there is an error.
pub(crate) trait Doing<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T> Doing<T> for nix::Result<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|errno| Error::Sys { doing: what(), errno })
    }
}

impl<T> Doing<T> for io::Result<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| match source.raw_os_error() {
            Some(raw) => Error::Sys { doing: what(), errno: Errno::from_raw(raw) },
            None => Error::Io { doing: what(), source },
        })
    }
}

impl Error {
    /// The errno behind it, for a caller that wants to tell a missing file from a broken one.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Error::Sys { errno, .. } => Some(*errno),
            _ => None,
        }
    }
}
