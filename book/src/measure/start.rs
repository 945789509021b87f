//! One run of `true` from return key to prompt: the runtimes alone, from one and the same bundle, and whole
//! engines, from one and the same image. Nobody has a network, which each would make in its own way.

use super::{
    Found, command,
    peers::{self, LIMITS, said, version},
    rounds::{Contestant, take_turns, time},
};
use crate::data::Row;
use anyhow::{Context, Result};
use serde_json::json;
use std::fs;

const ROUNDS: usize = 25;
/// Podman with the runtime that it prefers.
const PODMAN: &str = "podman --runtime crun";

pub(super) fn run() -> Result<Found> {
    let dockerd = peers::dockerd()?;
    peers::share_base(PODMAN)?;
    bundle()?;
    let at = std::env::current_dir()?.display().to_string();
    let alone = |program: &str| format!("{program} --root {at}/state-{program} run --bundle {at}/bundle box");
    let contestants = vec![
        contestant("runtime", "teu", "cgroups (chapter 2)", alone("cgroups")),
        contestant("crun", "crun", "crun", alone("crun")),
        contestant("runc", "runc", "runc", alone("runc")),
        contestant("teu", "teu", "teu run", "teu run --rm --network none base true".into()),
        contestant(
            "podman",
            "podman",
            "podman run",
            format!("{PODMAN} run --rm --network none {LIMITS} base true"),
        ),
        contestant("docker", "docker", "docker run", "docker run --rm --network none base true".into()),
    ];
    let rows = take_turns(ROUNDS, |_| Ok(()), contestants)?;
    let with = ["crun", "runc", "podman", "docker"].map(version).into_iter().collect::<Result<_>>()?;
    drop(dockerd);
    Ok(Found { title: "One run of true", unit: "ms", with, rounds: Some(ROUNDS), rows })
}

fn contestant(key: &str, who: &str, name: &str, line: String) -> Contestant<'static> {
    let group = if line.contains("--bundle") { "the runtime alone" } else { "the whole engine" };
    let row =
        Row { key: key.into(), name: name.into(), group: group.into(), ours: who == "teu", ..Row::default() };
    Contestant { rows: vec![row], turn: Box::new(move |_| Ok(vec![time(&mut command(&line))?])) }
}

/// The image's root with our own default configuration, which is Docker's.
fn bundle() -> Result<()> {
    fs::create_dir_all("bundle/rootfs")?;
    said("teu create --name root base true")?;
    said("teu cp root:/ bundle/rootfs")?;
    said("teu rm root")?;
    let mut config = serde_json::to_value(namespaces::spec::docker_default())?;
    config["process"]["args"] = json!(["true"]);
    let process = config["process"].as_object_mut().context("a process")?;
    // Which of them a machine forbids to raise, each runtime takes differently.
    process.remove("rlimits");
    fs::write("bundle/config.json", config.to_string())?;
    Ok(())
}
