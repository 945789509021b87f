//! What can go wrong in this chapter.

/// A failure, saying what was being done and on what.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The process could not be made or configured.
    #[error(transparent)]
    Process(#[from] namespaces::Error),
}

/// This chapter's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;
