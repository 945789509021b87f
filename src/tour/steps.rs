//! The steps of the tour. Each returns what the next ones need, and fails where it was not as it says.

use super::stage::{Stage, below};
use crate::{
    client::align,
    doctor::{Here, Report},
};
use anyhow::{Context, Result, ensure};
use layers::pagecache;
use nix::unistd::{Pid, getpid};
use std::{collections::BTreeSet, fs, os::unix::fs::MetadataExt, path::PathBuf};

/// The three containers.
const NAMES: [&str; 3] = ["one", "two", "three"];
/// The image that is built.
const BUILT: &str = "hello";

/// Whether containers can run here.
pub(super) fn machine(stage: &Stage, report: &Report) -> Result<()> {
    stage
        .step("The machine", "Containers are made of features of the kernel. The doctor tries each of them.");
    println!("$ teu doctor\n{}", report.machine);
    let list = |here: Here| {
        let names: Vec<_> =
            report.checks.iter().filter(|c| c.here == here).map(|c| c.name.as_str()).collect();
        if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
    };
    println!("here:    {}\nmissing: {}", list(Here::Yes), list(Here::No));
    let lost: Vec<_> = report.checks.iter().filter(|c| c.essential && c.here == Here::No).collect();
    for check in &lost {
        println!("{}: {} ({})", check.name, check.remedy, check.found);
    }
    ensure!(
        report.able,
        "containers cannot run on this machine; `teu doctor` says what is missing and what to do"
    );
    Ok(())
}

/// An image without a network.
pub(super) fn base(stage: &Stage) -> Result<()> {
    stage.step(
        "An image",
        "An image is a root directory in a tar, and a few lines of JSON. This one is made of the machine itself:\n\
         a shell, the usual tools, and the libraries that they name.",
    );
    stage.teu(&["image", "base"])?;
    let said = stage.teu(&["images"])?;
    ensure!(said.out.contains("base"), "the image is not in the list");
    Ok(())
}

/// To a registry and back.
pub(super) fn pull(stage: &Stage) -> Result<String> {
    stage.step(
        "A registry: push and pull",
        &format!(
            "A registry keeps images for others. This one listens on {} (it is chapter 5's own:\n\
             cargo run -p registry -- serve). The image goes there, is removed here, and comes back.",
            stage.registry()
        ),
    );
    let name = format!("{}/base:1", stage.registry());
    stage.teu(&["tag", "base", &name])?;
    let pushed = digest(&stage.teu(&["push", &name])?.out).context("the push told no digest")?;
    stage.teu(&["rmi", "base", &name])?;
    ensure!(stage.ask(&["images", "-q"])?.is_empty(), "there is still an image after it was removed");
    let pulled = digest(&stage.teu(&["pull", "--explain", &name])?.out).context("the pull told no digest")?;
    ensure!(pushed == pulled, "{pulled} came back, but {pushed} was sent");
    stage.say(&format!("What was pulled is what was pushed: {pulled}."));
    Ok(name)
}

/// The digest in a line such as `Digest: sha256:…` or `1: digest: sha256:… size: 528`.
fn digest(said: &str) -> Option<String> {
    let line = said.lines().find(|line| line.to_lowercase().contains("digest: sha256:"))?;
    line.split_whitespace().find(|word| word.starts_with("sha256:")).map(str::to_owned)
}

/// Three instructions.
pub(super) fn build(stage: &Stage, from: &str) -> Result<()> {
    stage.step(
        "A build",
        "A Dockerfile is the source of an image. Each instruction adds a layer, or a line of configuration.",
    );
    let dockerfile = format!(
        "FROM {from}\nRUN echo 'built in a container of its own' > /hello\nCMD [\"sh\", \"-c\", \"cat /hello; exec sleep 1000\"]\n"
    );
    let context = stage.scratch("context")?;
    fs::write(context.join("Dockerfile"), &dockerfile)?;
    println!("$ cat Dockerfile\n{dockerfile}");
    let context = context.display().to_string();
    let said = stage.teu(&["build", "--explain", "--network", "none", "-t", BUILT, &context])?;
    ensure!(
        said.out.contains("Successfully tagged"),
        "the build did not say that it gave the image its name"
    );
    let layers = stage.ask(&["inspect", "-f", "{{len .RootFS.Layers}}", BUILT])?;
    ensure!(layers == "2", "the image has {layers} layers; FROM brings one, and RUN makes one");
    stage.teu(&["history", BUILT])?;
    Ok(())
}

/// One image, three processes.
pub(super) fn run(stage: &Stage) -> Result<[Pid; 3]> {
    stage.step(
        "One image, three processes",
        "An image is a program; a container is that program running. One may run as often as one likes.",
    );
    let mut pids = [Pid::from_raw(0); 3];
    for (pid, name) in pids.iter_mut().zip(NAMES) {
        let explain = if name == NAMES[0] { &["--explain"][..] } else { &[] };
        stage.teu(&[&["run", "-d", "--name", name, "--network", "none"], explain, &[BUILT]].concat())?;
        let text = stage.ask(&["inspect", "-f", "{{.State.Pid}}", name])?;
        *pid = Pid::from_raw(text.parse().with_context(|| format!("{name} has no process: {text}"))?);
    }
    stage.teu(&["ps"])?;
    let different: BTreeSet<_> = pids.iter().map(|pid| pid.as_raw()).collect();
    ensure!(different.len() == 3 && !different.contains(&0), "these are not three processes: {different:?}");
    // The first line may still be on its way into the log.
    let mut logs = String::new();
    for _ in 0..50 {
        logs = stage.ask(&["logs", NAMES[0]])?;
        if !logs.is_empty() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    ensure!(logs == "built in a container of its own", "the container printed: {logs}");
    stage.teu(&["logs", NAMES[0]])?;
    Ok(pids)
}

/// The same namespaces from outside and inside.
pub(super) fn namespaces(stage: &Stage, pids: &[Pid; 3]) -> Result<()> {
    stage.step(
        "Namespaces",
        "Each of the three sees a world of its own. A namespace is named by a number (its inode): the same\n\
         number, the same world. From outside, in /proc/PID/ns:",
    );
    let mine = ::namespaces::show::namespaces(getpid())?;
    let theirs =
        pids.iter().map(|pid| ::namespaces::show::namespaces(*pid)).collect::<Result<Vec<_>, _>>()?;
    let mut rows = vec![["", "this program", NAMES[0], NAMES[1], NAMES[2]].map(str::to_owned).to_vec()];
    rows.push(
        ["pid, outside".to_owned(), getpid().to_string()]
            .into_iter()
            .chain(pids.iter().map(Pid::to_string))
            .collect(),
    );
    for own in &mine {
        let of = |all: &[::namespaces::show::Namespace]| {
            all.iter().find(|n| n.kind == own.kind).map(|n| n.inode.to_string()).unwrap_or_default()
        };
        rows.push(
            [own.kind.clone(), own.inode.to_string()]
                .into_iter()
                .chain(theirs.iter().map(|t| of(t)))
                .collect(),
        );
    }
    println!("{}", align(&rows));
    for kind in ["pid", "mnt", "uts", "ipc", "net"] {
        let inode =
            |all: &[::namespaces::show::Namespace]| all.iter().find(|n| n.kind == kind).map(|n| n.inode);
        let all: BTreeSet<_> = theirs.iter().map(|t| inode(t)).chain([inode(&mine)]).collect();
        ensure!(all.len() == 4, "of four {kind} namespaces, only {} are different", all.len());
    }
    stage.say("From inside, the first container is process 1 of its world, and the host's other processes are not there:");
    let script = "echo I am in $(readlink /proc/1/ns/pid), and see these processes:; cd /proc; for p in [0-9]*; do read c < $p/comm; echo $p $c; done";
    let said = stage.teu(&["exec", NAMES[0], "sh", "-c", script])?;
    let inode = theirs[0].iter().find(|n| n.kind == "pid").map(|n| n.inode).unwrap_or_default();
    ensure!(said.out.contains(&format!("pid:[{inode}]")), "inside, the PID namespace is not {inode}");
    ensure!(said.out.lines().any(|line| line == "1 sleep"), "inside, process 1 is not the container's own");
    Ok(())
}

/// Too much memory.
pub(super) fn limit(stage: &Stage, report: &Report) -> Result<()> {
    stage.step(
        "A limit",
        "Namespaces limit what a process sees; control groups limit what it uses. This one may use 32 MB, and\n\
         doubles a string until the kernel ends it.",
    );
    let memory = report.checks.iter().find(|c| c.name == "memory");
    if let Some(check) = memory.filter(|c| c.here == Here::No) {
        println!(
            "Skipped here: this user may not limit memory ({}).\nTo see it: {}.",
            check.found, check.remedy
        );
        return Ok(());
    }
    let script = "x=0123456789abcdef; while :; do x=$x$x; done";
    let said = stage.teu_any(&[
        "run",
        "--name",
        "hungry",
        "--memory",
        "32m",
        "--network",
        "none",
        BUILT,
        "sh",
        "-c",
        script,
    ])?;
    println!("exit code {}", said.code);
    ensure!(said.code == 137, "its exit code is {}, not 137 (128 and SIGKILL)", said.code);
    let state = stage.teu(&[
        "inspect",
        "-f",
        "OOMKilled={{.State.OOMKilled}} ExitCode={{.State.ExitCode}}",
        "hungry",
    ])?;
    ensure!(state.out.trim() == "OOMKilled=true ExitCode=137", "the daemon does not know what killed it");
    stage.say("137 alone would only be \"killed\"; the group's own count of OOM kills tells by what.");
    Ok(())
}

/// One copy for all.
pub(super) fn share(stage: &Stage, pids: &[Pid; 3]) -> Result<()> {
    stage.step(
        "What is shared",
        "Three containers, two layers: each layer is on disk once, and what is read of it is in memory once.\n\
         Only what a container changes is its own.",
    );
    let lower = stage.ask(&["inspect", "-f", "{{.GraphDriver.Data.LowerDir}}", NAMES[0]])?;
    let layers: Vec<PathBuf> = lower.split(':').map(PathBuf::from).collect();
    let root = stage.data_root();
    let base = layers.last().context("the container has no layers")?;
    // The shell: every container runs it, so it is certainly in memory.
    let shell = shell_in(base).with_context(|| format!("no shell in {}", base.display()))?;
    let mut rows = vec![["container", "/bin/sh is inode", "on device"].map(str::to_owned).to_vec()];
    let mut seen = BTreeSet::new();
    for (name, pid) in NAMES.iter().zip(pids) {
        let place = format!("/proc/{pid}/root/bin/sh");
        // Overlay gives a lower file's own inode number, on a device of the container's.
        if let Ok(about) = fs::metadata(&place) {
            seen.insert(about.ino());
            rows.push(vec![(*name).to_owned(), about.ino().to_string(), about.dev().to_string()]);
        }
    }
    if seen.is_empty() {
        println!("(/proc/PID/root is closed to this user, so the containers' own view is not shown.)");
    } else {
        println!("{}", align(&rows));
        ensure!(seen.len() == 1, "the three have different shells: inodes {seen:?}");
    }
    let resident = pagecache::resident(&shell)?;
    println!(
        "{} is {} bytes; {} of them are in the page cache, once, for all three.",
        below(&shell, &root).display(),
        resident.size,
        resident.bytes
    );
    ensure!(resident.bytes > 0, "the shell that runs is not in memory");
    let mut rows = vec![["layer", "on disk", "used by"].map(str::to_owned).to_vec()];
    for layer in &layers {
        rows.push(vec![
            shown(layer, &root),
            format!("{} kB", disk_usage(layer)? / 1024),
            "all three".to_owned(),
        ]);
    }
    for name in NAMES {
        let upper = PathBuf::from(stage.ask(&["inspect", "-f", "{{.GraphDriver.Data.UpperDir}}", name])?);
        rows.push(vec![shown(&upper, &root), format!("{} kB", disk_usage(&upper)? / 1024), name.to_owned()]);
    }
    println!("\n{}", align(&rows));
    for name in NAMES {
        let others = stage.ask(&["inspect", "-f", "{{.GraphDriver.Data.LowerDir}}", name])?;
        ensure!(others == lower, "{name} has other layers than {}", NAMES[0]);
    }
    stage.teu(&["system", "df"])?;
    Ok(())
}

/// The file of /bin/sh in a layer, links followed inside it.
fn shell_in(layer: &std::path::Path) -> Option<PathBuf> {
    let mut path = layer.join("bin/sh");
    for _ in 0..8 {
        let about = fs::symlink_metadata(&path);
        match about {
            Ok(about) if about.is_file() => return Some(path),
            Ok(about) if about.is_symlink() => {
                let target = fs::read_link(&path).ok()?;
                path = match target.strip_prefix("/") {
                    Ok(inside) => layer.join(inside),
                    Err(_) => path.parent()?.join(target),
                };
            }
            _ => {
                // /bin itself may be the link.
                let name = path.file_name()?.to_owned();
                path = layer.join("usr/bin").join(name);
            }
        }
    }
    None
}

/// The end of a path, its digest or ID cut.
fn shown(path: &std::path::Path, root: &std::path::Path) -> String {
    let short = |part: &std::ffi::OsStr| {
        let text = part.to_string_lossy().into_owned();
        if text.len() == 64 { text[..12].to_owned() } else { text }
    };
    below(path, root).iter().map(short).collect::<Vec<_>>().join("/")
}

/// Bytes that a directory takes on disk, each inode counted once. What is closed to this user is not counted.
fn disk_usage(directory: &std::path::Path) -> Result<u64> {
    let (mut bytes, mut seen, mut left) = (0, BTreeSet::new(), vec![directory.to_owned()]);
    while let Some(path) = left.pop() {
        let about =
            fs::symlink_metadata(&path).with_context(|| format!("cannot look at {}", path.display()))?;
        if seen.insert((about.dev(), about.ino())) {
            bytes += about.blocks() * 512;
        }
        if about.is_dir() {
            left.extend(fs::read_dir(&path).into_iter().flatten().flatten().map(|entry| entry.path()));
        }
    }
    Ok(bytes)
}

/// The end.
pub(super) fn read_on(stage: &Stage) {
    stage.step(
        "Where to read on",
        "Every line that ran here is in five small crates, and the book explains each of them.",
    );
    println!(
        "  cargo book                       the book: how all of this works, built from the code that just ran\n\
         \x20 cargo lab list                   exercises: write the same lines yourself, and have them checked\n\
         \x20 cargo run -p namespaces -- show  chapter 1 by itself; and so for cgroups, layers, dockerfile, registry\n\
         \x20 teu run --explain IMAGE          every step of a start, with the section that explains it"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_found_in_both_lines() {
        let sum = format!("sha256:{}", "0".repeat(64));
        assert_eq!(digest(&format!("x\n1: digest: {sum} size: 528\n")), Some(sum.clone()));
        assert_eq!(digest(&format!("Digest: {sum}\n")), Some(sum));
        assert_eq!(digest("no such line"), None);
    }
}
