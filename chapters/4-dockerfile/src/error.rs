//! What can go wrong in this chapter.

/// A failure, saying what was being done and on what.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call failed.
    #[error("{doing}: {errno}")]
    Sys {
        /// What was being done, and on what.
        doing: String,
        /// The errno, named.
        errno: nix::errno::Errno,
    },
}

/// This chapter's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;
