//! Chapter 5: pull, push, and a small registry.
//!
//! | module | what it explains |
//! |---|---|
//! | [`reference`] | `alpine` is `docker.io/library/alpine:latest`: names |
//! | [`pull`] | manifest, platform, layers, each digest checked |
//! | [`push`] | what the registry has already is not sent |
//! | [`server`] | the other side |

mod error;
pub mod pull;
pub mod push;
pub mod reference;
pub mod server;

pub use error::{Error, Result};
pub use reference::Reference;

/// A user's name and password (or identity token) at a registry.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    /// The user.
    pub username: String,
    /// The password.
    pub password: String,
    /// A refresh token instead.
    pub identity_token: Option<String>,
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
}

/// What happens to one blob, as it happens.
#[derive(Clone, Debug)]
pub struct Progress<'a> {
    /// The blob's digest; empty for a line about the whole image.
    pub id: &'a str,
    /// docker's words: `Pulling fs layer`, `Downloading`, `Download complete`, `Extracting`, `Pull complete`, `Already exists`,
    /// `Pushing`, `Pushed`, `Layer already exists`.
    pub status: &'a str,
    /// Bytes so far and in all.
    pub bytes: Option<(u64, u64)>,
}
