//! Chapter 5: pull, push, and a small registry.
//!
//! An image travels as what it is in the store: a manifest, a configuration and layers, each named by its
//! digest. The wire between is the OCI distribution specification, plain HTTP that `curl` can speak.
//!
//! | module | what it explains |
//! |---|---|
//! | [`mod@reference`] | `alpine` is `docker.io/library/alpine:latest`: names |
//! | [`client`] | one request to a registry: where it goes, and who asks |
//! | [`auth`] | how a registry asks for a token, and who may be told the password |
//! | [`manifest`] | the document that lists the parts, and which of several is ours |
//! | [`pull`] | manifest, platform, layers, each digest checked |
//! | [`push`] | what the registry has already is not sent |
//! | [`server`] | the other side |
//!
//! Beside the way, what production needs: `transport` (TLS, proxies, timeouts), `resume` (a download
//! that breaks off goes on where it was), `upload` (the same outwards), `refusal` (answers that say no, in docker's words), [`platform`]
//! (which variant runs where), [`credentials`] (docker's login), [`list`] (all tags of a repository), `crew` (several at a time), and the
//! rooms of the server.

pub mod auth;
pub mod client;
pub mod credentials;

mod crew;
mod error;
pub mod list;
pub mod manifest;
pub mod platform;
pub mod pull;
pub mod push;
pub mod reference;
mod refusal;
mod resume;
pub mod server;
mod transport;
mod upload;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

pub use error::{Error, Result};
pub use reference::Reference;

/// A user's name and password (or identity token) at a registry.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    /// The user.
    pub username: String,
    /// The password.
    pub password: String,
    /// A refresh token instead.
    pub identity_token: Option<String>,
}

// A password in a log is a password lost: only whose it is may be shown.
impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("username", &self.username).finish_non_exhaustive()
    }
}

/// How to talk to a registry.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Plain HTTP, or TLS with a certificate that is not checked, is allowed. Loopback always may use plain HTTP.
    pub insecure: bool,
    /// Who is asking.
    pub credentials: Option<Credentials>,
    /// `os/arch[/variant]`; this machine's if `None`.
    pub platform: Option<String>,
    /// Set to `true` from any thread, it ends a pull or push at the next block of data.
    pub cancel: Arc<AtomicBool>,
}

impl Options {
    /// Whether someone has set `cancel`.
    pub(crate) fn cancelled(&self) -> bool {
        self.cancel.load(Ordering::Relaxed)
    }
}

/// What happens to one blob, as it happens.
#[derive(Clone, Debug)]
pub struct Progress<'a> {
    /// The blob's digest; the tag in the line `Pulling from …`; empty for other lines about the whole image.
    pub id: &'a str,
    /// docker's words: `Pulling fs layer`, `Downloading`, `Download complete`, `Extracting`, `Pull complete`, `Already exists`,
    /// `Preparing`, `Pushing`, `Pushed`, `Layer already exists`, `Mounted from …`.
    pub status: &'a str,
    /// Bytes so far and in all.
    pub bytes: Option<(u64, u64)>,
}
