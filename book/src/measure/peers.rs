//! The other engines: started in a world where nobody else is, so that they need no directories of their own.

use anyhow::{Context, Result, bail};
use std::{
    fs, io,
    net::{TcpListener, TcpStream},
    os::unix::net::UnixStream,
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

/// What podman and buildah are called with: left to themselves, they raise these two limits, which not every
/// root may do.
pub(super) const LIMITS: &str = "--ulimit nofile=1024:1024 --ulimit nproc=1000:1000";

/// A daemon that ends with the measurement.
pub(super) struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        // TERM, not KILL: it has mounts to take down. If it does not end, the world's end ends it.
        let _ = command(&format!("kill {}", self.0.id())).status();
        let _ = self.0.wait();
    }
}

/// Docker's daemon.
pub(super) fn dockerd() -> Result<Daemon> {
    let daemon = daemon("dockerd --iptables=false --bridge=none")?;
    until("dockerd answers", || UnixStream::connect("/run/docker.sock").is_ok())?;
    Ok(daemon)
}

/// A registry that is neither ours nor an engine's, and its address.
pub(super) fn registry() -> Result<(Daemon, String)> {
    let address = format!("127.0.0.1:{}", TcpListener::bind("127.0.0.1:0")?.local_addr()?.port());
    let text = format!(
        "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {}/shop}}}}\nhttp: {{addr: '{address}'}}\n",
        std::env::current_dir()?.display()
    );
    fs::write("registry.yml", text)?;
    let daemon = daemon("docker-registry serve registry.yml")?;
    until("docker-registry answers", || TcpStream::connect(&address).is_ok())?;
    Ok((daemon, address))
}

fn daemon(line: &str) -> Result<Daemon> {
    let log = fs::File::create(line.split(' ').next().unwrap_or_default().to_owned() + ".log")?;
    let child = command(line).stdout(log.try_clone()?).stderr(log).spawn();
    Ok(Daemon(child.with_context(|| line.to_owned())?))
}

/// Waits for another program, which tells us in no other way than by answering.
fn until(what: &str, ready: impl Fn() -> bool) -> Result<()> {
    let began = Instant::now();
    while !ready() {
        if began.elapsed() > Duration::from_secs(60) {
            bail!("60 s passed, and not yet: {what}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Before the world is made: on a hybrid host, where crun refuses to run, the tree of version 2 is left out, which has no
/// controllers there. The directory that holds the trees is the world's own, since crun and podman make more in it than they
/// remove.
const APART: &str = r#"
groups=/sys/fs/cgroup new=$BOOK_SESSION/groups
if [ -e $groups/unified/cgroup.procs ]; then
    set -e
    mkdir $new
    mount -t tmpfs -o mode=755 tmpfs $new
    for tree in $groups/*; do
        name=${tree##*/}
        if [ -L $tree ]; then
            cp -P $tree $new
        elif [ $name != unified ] && mountpoint -q $tree; then
            mkdir $new/$name
            mount --bind $tree $new/$name
        fi
    done
    umount -R $groups
    mount --move $new $groups
fi
exec "$@"
"#;

/// The same command in mounts of its own, with control groups of one version.
pub(super) fn one_kind_of_groups(inner: &Command) -> Command {
    // If this program is killed, the world ends: its first process goes with the one that made it.
    let mut outer = Command::new("setpriv");
    outer.args(["--pdeathsig", "KILL", "unshare", "--mount", "--propagation", "private"]);
    outer.args(["sh", "-c", APART, "apart"]);
    outer.arg(inner.get_program()).args(inner.get_args());
    inner.get_current_dir().map(|dir| outer.current_dir(dir));
    for (name, value) in inner.get_envs() {
        match value {
            Some(value) => outer.env(name, value),
            None => outer.env_remove(name),
        };
    }
    outer
}

/// Removes the parents of control groups that Docker and podman leave behind; rmdir(2) takes only what is empty.
pub(super) fn remove_groups() {
    let trees = fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten().map(|tree| tree.path());
    for tree in trees.chain(["/sys/fs/cgroup".into()]) {
        for group in ["libpod_parent/conmon", "libpod_parent", "docker", "buildah"] {
            // Nearly always there is none, and another engine may be using it.
            let _ = fs::remove_dir(tree.join(group));
        }
    }
}

/// Gives `base`, an image of ours, to Docker and to podman (which shares its images with buildah).
pub(super) fn share_base(podman: &str) -> Result<()> {
    said("teu image base")?;
    said("teu save -o base.tar base")?;
    said("docker load -q -i base.tar")?;
    said(&format!("{podman} load -q -i base.tar"))?;
    Ok(())
}

/// A program and its version.
pub(super) fn version(program: &str) -> Result<String> {
    let text = match program {
        "docker" => said("docker version --format {{.Server.Version}}")?,
        _ => said(&format!("{program} --version"))?,
    };
    let number = text.split([' ', '\n', ',']).find(|word| word.starts_with(|c: char| c.is_ascii_digit()));
    let number = number.unwrap_or_default().split(['+', '-', '~']).next().unwrap_or_default();
    let name = program.strip_suffix("-system-x86_64").unwrap_or(program);
    Ok(format!("{name} {number}"))
}

/// What a command prints. It has to succeed.
pub(super) fn said(line: &str) -> Result<String> {
    let mut command = command(line);
    let output = command.output();
    succeeded(&command, output).map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Its output, if it succeeded; else an error with its own words.
pub(super) fn succeeded(command: &Command, output: io::Result<Output>) -> Result<Output> {
    let output = output.with_context(|| format!("{command:?}"))?;
    if !output.status.success() {
        bail!("{command:?}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(output)
}

fn command(line: &str) -> Command {
    let mut command = super::command(line);
    command.stdin(Stdio::null());
    command
}
