//! What is known about a container, and how it is kept.

use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, path::PathBuf};

/// Where in its life a container is (OCI runtime-spec, runtime.md, State).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It is being made.
    Creating,
    /// It waits for its start.
    Created,
    /// Its program runs.
    Running,
    /// All its processes are held (a status that the spec leaves to the runtime).
    Paused,
    /// Its first process has ended.
    #[default]
    Stopped,
}

/// The state of a container. The JSON is the spec's, with what `runc state` adds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    /// The version of the spec that this follows.
    #[serde(rename = "ociVersion")]
    pub version: String,
    /// Its name, unique below one `--root`.
    pub id: String,
    /// Its first process, as the host sees it; 0 when there is none.
    pub pid: i32,
    /// Where in its life it is.
    pub status: Status,
    /// The directory that it was made from, absolute.
    pub bundle: PathBuf,
    /// Its root, absolute.
    pub rootfs: PathBuf,
    /// When it was made, as RFC 3339 says.
    pub created: String,
    /// From the bundle.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Who made it.
    pub owner: String,
}
