//! What can go wrong in this chapter.

use std::{io, path::PathBuf};

/// A failure, saying what was being done and on what. Where docker has words for it, these are docker's.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What was typed is not the name of an image.
    #[error("{0}")]
    Reference(String),

    /// No answer at all: no such host, nobody listens, no trust in its certificate, silence.
    #[error("cannot reach the registry at {url}: {why}{hint}")]
    Unreachable {
        /// What was asked for.
        url: String,
        /// The reason in the words of the layer that failed.
        why: String,
        /// What to try, beginning with `; `, or nothing.
        hint: &'static str,
    },

    /// The registry does not have it, or does not say so to us.
    #[error("{0}")]
    NotFound(String),

    /// The registry wants to know who is asking, or does not let them.
    #[error("{0}")]
    Denied(String),

    /// The registry was asked too often.
    #[error("toomanyrequests: {message}; {next}")]
    TooManyRequests {
        /// The registry's own words.
        message: String,
        /// What to do.
        next: String,
    },

    /// Any other answer than the one expected.
    #[error("{doing}: the registry answered {status}: {message}")]
    Answer {
        /// What was asked for.
        doing: String,
        /// The HTTP status.
        status: u16,
        /// The registry's own words.
        message: String,
    },

    /// The registry sent something that is not what was asked for, or not what it says it is.
    #[error("refusing {what}: {why}")]
    Untrusted {
        /// The thing that was received.
        what: String,
        /// What is wrong with it.
        why: String,
    },

    /// An image in a form that no one should use any more.
    #[error(
        "{name} is in Docker's image manifest version 2, schema 1, which is no longer supported; \
         ask its publisher to push it again with a current tool"
    )]
    Schema1 {
        /// The image.
        name: String,
    },

    /// The image is not made for this platform.
    #[error("no matching manifest for {wanted} in the manifest list entries of {name}; it has: {has}")]
    Platform {
        /// The image.
        name: String,
        /// `os/arch[/variant]`.
        wanted: String,
        /// The platforms that the index names.
        has: String,
    },

    /// A single image, made for another platform than the one asked for.
    #[error(
        "image with reference {name} was found but its platform ({has}) does not match the specified platform ({wanted})"
    )]
    OtherPlatform {
        /// The image.
        name: String,
        /// What was asked for.
        wanted: String,
        /// What the image is for.
        has: String,
    },

    /// [`crate::Options::cancel`] was set.
    #[error("{0} was cancelled; what is complete is kept, so that asking again goes on from here")]
    Cancelled(String),

    /// Docker's configuration, or one of its credential helpers.
    #[error("cannot read the credentials for {registry} from {from}: {why}")]
    Credentials {
        /// Whose they are.
        registry: String,
        /// The file or the helper.
        from: String,
        /// What happened.
        why: String,
    },

    /// An image that is not in the store, or not whole.
    #[error("cannot push {name}: {why}")]
    NotPushable {
        /// The image.
        name: String,
        /// What is wrong.
        why: String,
    },

    /// A file or a socket.
    #[error("cannot {doing}: {source}")]
    Io {
        /// What was being done, and on what.
        doing: String,
        /// The system's reason.
        source: io::Error,
    },

    /// The server cannot listen.
    #[error("cannot serve {} on {address}: {source}", root.display())]
    Listen {
        /// The layout.
        root: PathBuf,
        /// The address.
        address: std::net::SocketAddr,
        /// The system's reason.
        source: io::Error,
    },

    /// The image store.
    #[error(transparent)]
    Store(#[from] layers::Error),
}

/// This chapter's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;
