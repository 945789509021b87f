//! `cargo book measure`: every number of the book that a clock or a ruler has said, measured again.
//!
//! | module | what it measures |
//! |---|---|
//! | [`build`] | one Dockerfile, built cold and from the cache: ours, Docker's classic builder, buildah |
//! | [`layers`] | the same files made in three, two and one `RUN`: sizes |
//! | [`memory`] | what a container costs beside others of its image |
//! | [`pull`] | one image from a registry on loopback: ours, Docker, podman, skopeo with umoci |
//! | [`start`] | one run of `true`: the runtimes alone, and whole engines |
//! | [`steps`] | where the time of a start goes, from our own `--explain` |
//! | [`vm`] | a virtual machine and a container: time, memory, disk |
//!
//! Machines are noisy, so who is compared takes turns: in each round everyone has one, and what counts is the median
//! ([`rounds`]). Each measurement happens in a [`World`] of its own, in which the peers' daemons find empty directories and no
//! neighbours, and which ends with all that is in it ([`peers`]).

mod build;
mod layers;
mod memory;
mod peers;
mod pull;
mod rounds;
mod start;
mod steps;
mod vm;

use crate::{
    data::{Data, Row},
    world::World,
};
use anyhow::{Context, Result, anyhow, bail};
use kit::Need;
use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    time::Instant,
};

/// A measurement: its name, what it needs beside root, and how it is done, in a world of its own.
struct Measurement {
    name: &'static str,
    needs: &'static [Need],
    run: fn() -> Result<Found>,
}

const ALL: [Measurement; 9] = [
    Measurement {
        name: "build",
        needs: &[DOCKER, DOCKERD, PODMAN, Need::Program("buildah")],
        run: build::run,
    },
    Measurement { name: "layers", needs: &[], run: layers::run },
    Measurement { name: "memory", needs: &[], run: memory::run },
    Measurement {
        name: "pull",
        needs: &[
            DOCKER,
            DOCKERD,
            PODMAN,
            Need::Program("skopeo"),
            Need::Program("umoci"),
            Need::Program("docker-registry"),
        ],
        run: pull::run,
    },
    Measurement {
        name: "start",
        needs: &[DOCKER, DOCKERD, PODMAN, Need::Program("crun"), Need::Program("runc")],
        run: start::run,
    },
    Measurement { name: "steps", needs: &[], run: steps::run },
    Measurement { name: "vm-disk", needs: &VM, run: vm::disk },
    Measurement { name: "vm-memory", needs: &VM, run: vm::memory },
    Measurement { name: "vm-time", needs: &VM, run: vm::time },
];

const DOCKER: Need = Need::Program("docker");
const DOCKERD: Need = Need::Program("dockerd");
const PODMAN: Need = Need::Program("podman");
const VM: [Need; 3] = [Need::Program("qemu-system-x86_64"), Need::Program("busybox"), Need::Program("cpio")];

/// What was found: the part of [`Data`] that a measurement knows.
struct Found {
    title: &'static str,
    unit: &'static str,
    /// The peers, with their versions.
    with: Vec<String>,
    rounds: Option<usize>,
    rows: Vec<Row>,
}

/// The measurements that there are.
#[cfg(test)]
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    ALL.iter().map(|measurement| measurement.name)
}

/// Measures what `names` asks for, or all, with the programs built in `programs`. What cannot be measured here is
/// skipped with the reason, and keeps the data that it has.
pub(crate) fn measure(root: &Path, names: &[String], programs: &Path) -> Result<()> {
    let programs = fs::canonicalize(programs)
        .with_context(|| format!("{} (cargo build --release --workspace makes it)", programs.display()))?;
    let unknown = names.iter().find(|name| !ALL.iter().any(|one| one.name == **name));
    if let Some(name) = unknown {
        let known: Vec<&str> = ALL.iter().map(|one| one.name).collect();
        bail!("there is no measurement `{name}`; there are {}", known.join(", "));
    }
    let asked = |one: &&Measurement| names.is_empty() || names.iter().any(|name| name == one.name);
    let mut failed = Vec::new();
    for one in ALL.iter().filter(asked) {
        let needs: Vec<Need> = [&[Need::Root], one.needs].concat();
        if let Some(reason) = kit::missing(&needs) {
            println!("{}: skipped, it {reason}; the data that there is stays", one.name);
            continue;
        }
        let began = Instant::now();
        match in_a_world(one.name, &programs).and_then(|data| data.write(root, one.name).map(|()| data)) {
            Ok(data) => {
                println!("{}: {} ({:.0} s)", one.name, data.title, began.elapsed().as_secs_f64());
                for row in &data.rows {
                    let quartiles = row.quartiles.map(|ends| ends.map(|end| data.shown(end)).join(" to "));
                    let spread = quartiles.map_or(String::new(), |between| format!("   {between}"));
                    println!("  {:<10} {:<38} {:>9}{spread}", row.group, row.name, data.shown(row.value));
                }
            }
            Err(error) => {
                println!("{}: failed, and the data that there is stays: {error:#}", one.name);
                failed.push(one.name);
            }
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(anyhow!("not measured: {}", failed.join(", "))) }
}

/// One measurement: this program again, in a new world.
fn in_a_world(name: &str, programs: &Path) -> Result<Data> {
    let world = World::new(programs, true)?;
    let own = std::env::current_exe()?;
    // What daemons leave behind has to be waited for by the world's first process: a shell does.
    let script = "\"$@\"; exit $?";
    let own = own.to_str().context("a path in UTF-8")?;
    let command = world.command(&["bash", "-c", script, "first", own, "measure-inside", name]);
    let output = peers::one_kind_of_groups(&command).stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    world.end();
    peers::remove_groups();
    let output = output.context("cannot make a world")?;
    if !output.status.success() {
        bail!("it ended with {}", output.status);
    }
    serde_json::from_slice(&output.stdout).context("what was measured")
}

/// Inside that world.
pub(crate) fn inside(name: &str) -> Result<()> {
    let one = ALL.iter().find(|one| one.name == name).context("a measurement")?;
    let Found { title, unit, with, rounds, rows } = (one.run)()?;
    let date = peers::said("date -u +%Y-%m-%d")?.trim().to_owned();
    let (title, unit) = (title.into(), unit.into());
    let data = Data { title, unit, date, machine: machine()?, with, rounds, rows };
    println!("{}", serde_json::to_string(&data)?);
    Ok(())
}

/// The machine in a few words.
fn machine() -> Result<String> {
    let info = fs::read_to_string("/proc/cpuinfo")?;
    let model = info.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("\t: a processor");
    let count = info.lines().filter(|line| line.starts_with("processor")).count();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let kernel = kernel.trim().split('-').next().unwrap_or_default();
    Ok(format!("{count} × {}, Linux {kernel}", model.trim_start_matches(['\t', ':', ' '])))
}

/// A command in words; none of ours has a space in it.
fn command(line: &str) -> Command {
    let mut words = line.split_whitespace();
    let mut command = Command::new(words.next().unwrap_or_default());
    command.args(words).stdin(Stdio::null());
    command
}
