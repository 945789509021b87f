//! What is asked of a build, and what it tells.

use layers::Image;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// The network of a RUN.
#[derive(Clone, Debug, Default)]
pub enum Network {
    /// A namespace of its own with only loopback.
    #[default]
    None,
    /// The host's.
    Host,
    /// One that the caller made (for example on the engine's bridge).
    Path(PathBuf),
}

/// What to build.
pub struct Build<'a> {
    /// The context's directory. Nothing outside it is ever read.
    pub context: &'a Path,
    /// The Dockerfile's text.
    pub dockerfile: &'a str,
    /// The ignore file's text (`NAME.dockerignore`, for a Dockerfile with one of its own). With none, the
    /// context's `.dockerignore` is read if it is there.
    pub ignore: Option<&'a str>,
    /// `--build-arg`; `None` takes nothing. `SOURCE_DATE_EPOCH` among them sets every time that is written.
    pub args: BTreeMap<String, Option<String>>,
    /// `--target`.
    pub target: Option<String>,
    /// `--label`.
    pub labels: BTreeMap<String, String>,
    /// `--secret`: the file of each id that a `RUN --mount=type=secret` may ask for.
    pub secrets: BTreeMap<String, PathBuf>,
    /// `--no-cache`.
    pub no_cache: bool,
    /// The network of each RUN.
    pub network: Network,
    /// Where containers of RUN keep their state while they run.
    pub scratch: &'a Path,
    /// Finds the image that FROM or COPY --from names, pulling it if it must. Its error, which should name
    /// the image, is the build's.
    pub resolve: &'a dyn Fn(&str) -> std::result::Result<Image, String>,
}

/// What happens while building, as it happens.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// `Step 2/5 : RUN make`.
    Step {
        /// From 1.
        number: usize,
        /// Of so many.
        of: usize,
        /// The instruction as it was written.
        text: &'a str,
    },
    /// `# Executing 2 build triggers`: the ONBUILD instructions of the base.
    Triggers(usize),
    /// ` ---> Running in 0123456789ab`: a container that executes a RUN.
    Running(&'a str),
    /// ` ---> Removed intermediate container 0123456789ab`.
    Removed(&'a str),
    /// ` ---> Using cache`.
    Cached,
    /// ` ---> 0123456789ab`: the image so far.
    Image(&'a str),
    /// What a RUN printed (stdout and stderr).
    Output(&'a [u8]),
    /// Something to be told (`[Warning] ...`).
    Warning(&'a str),
}
