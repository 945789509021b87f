//! The container of a RUN: the runtime of chapter 2, on the files that become the next layer.

use crate::{
    Error, Result,
    cache::{Layer, hex},
    error::Doing,
    request::{Event, Network},
    run_mount::Wanted,
    session::Session,
    stage::Stage,
    tree::Heredoc,
};
use cgroups::runtime::{CreateOptions, Runtime};
use layers::{
    bundle::{self, Overrides},
    overlay,
};
use namespaces::process::Stdio;
use nix::{
    fcntl::OFlag,
    sys::wait::{WaitStatus, waitpid},
    unistd::{pipe2, read},
};
use oci_spec::runtime::{LinuxNamespaceBuilder, LinuxNamespaceType, Mount, MountBuilder, Spec};
use std::{
    fs::File,
    io::{ErrorKind, Read, Write},
    os::{fd::AsFd, unix::fs::PermissionsExt},
    path::{Path, PathBuf},
};

/// The file that names a container as long as there is one.
const NOTE: &str = "container";

/// Removes what is left of a container whose builder was killed.
pub(crate) fn remove_left(directory: &Path) {
    let note = std::fs::read_to_string(directory.join(NOTE)).unwrap_or_default();
    if let Some((id, root)) = note.split_once(' ') {
        // Best effort: its state may be gone with the machine's last boot.
        let _ = Runtime::new(root).delete(id, true);
        let _ = std::fs::remove_dir(root);
    }
}

/// What is to be executed.
pub(crate) struct Command<'a> {
    /// The program and its arguments.
    pub(crate) words: &'a [String],
    /// What is in its environment besides the image's `ENV`.
    pub(crate) env: Vec<String>,
    pub(crate) network: Network,
    /// `--mount`.
    pub(crate) mounts: &'a [Wanted],
    /// A script to be found at /dev/pipes/NAME.
    pub(crate) script: Option<&'a Heredoc>,
}

/// Executes it, tells what it prints, and makes a layer of what it changed.
pub(crate) fn run(stage: &mut Stage, command: &Command) -> Result<Option<Layer>> {
    let session = stage.session;
    let id = random_id()?;
    let mut spec = namespaces::spec::docker_default();
    spec.set_hostname(Some(id[..12].to_owned()));
    network(&mut spec, &command.network)?;

    // What is mounted into it, made ready outside: paths of a context or an image are resolved here, once.
    let files = session.directory()?;
    let mut mounts = system_files(&files, &id[..12], &command.network)?;
    if let Some(script) = command.script {
        mounts.push(program(&files, script)?);
    }
    let mut held = Vec::new();
    for wanted in command.mounts {
        let (mount, hold) = wanted.prepare(stage)?;
        mounts.push(mount);
        held.push(hold);
    }
    let all = spec.mounts().clone().unwrap_or_default().into_iter().chain(mounts).collect::<Vec<_>>();

    let config = stage.image()?.config;
    let layer = stage.change_under(&all, |_, change| {
        spec.set_mounts(Some(all.clone()));
        let (entrypoint, cmd) = (Some(Vec::new()), Some(command.words.to_vec()));
        let overrides = Overrides { entrypoint, cmd, env: command.env.clone(), ..Overrides::default() };
        bundle::apply(&mut spec, &config, &overrides, &change.root()?)?;
        let mut root = spec.root().clone().unwrap_or_default();
        root.set_path(change.merged.clone()).set_readonly(Some(false));
        spec.set_root(Some(root));
        if overlay::in_user_namespace() {
            namespaces::spec::for_rootless(&mut spec);
        }
        match execute(session, &id, &change.directory, &spec)? {
            0 => Ok(()),
            code => Err(Error::Command { command: command.words.join(" "), code }),
        }
    });
    // Only now: until here the command may have been using them.
    drop(held);
    layer
}

/// Creates the container, starts it, reads what it prints until nobody can print any more, and removes it.
fn execute(session: &Session, id: &str, directory: &Path, spec: &Spec) -> Result<i32> {
    let bundle = directory.join("bundle");
    std::fs::create_dir(&bundle).doing(|| format!("make the bundle {}", bundle.display()))?;
    let bytes = serde_json::to_vec(spec).doing(|| "write the bundle's config.json".into())?;
    std::fs::write(bundle.join("config.json"), bytes).doing(|| format!("write {}", bundle.display()))?;

    let (output, input) = pipe2(OFlag::O_CLOEXEC).doing(|| "make a pipe".into())?;
    let null = File::open("/dev/null").doing(|| "open /dev/null".into())?;
    let runtime = Runtime::new(session.build.scratch);
    let stdio = Stdio::Fds([null.as_fd(), input.as_fd(), input.as_fd()]);
    let options =
        CreateOptions { stdio, preserve_fds: 0, no_pivot: false, no_new_keyring: false, die_with_me: true };
    // If we are killed the kernel kills the container; the rest of it is the next build's to remove.
    std::fs::write(directory.join(NOTE), format!("{id} {}", runtime.root().display()))
        .doing(|| "note the container".into())?;
    let created = runtime.create(id, &bundle, &options)?;
    // Our own copy of the pipe's end: while we hold it, the pipe would never end.
    drop(input);
    session.tell(Event::Running(&id[..12]));
    let code = runtime.start(id).map_err(Error::from).and_then(|()| {
        let mut buffer = [0; 16 << 10];
        // The end comes when the last process of the container is gone: with its first, the kernel ends
        // all others of the pid namespace, so that nothing in the background can hold the build.
        loop {
            match read(output.as_fd(), &mut buffer) {
                Ok(0) => break,
                Ok(n) => session.tell(Event::Output(&buffer[..n])),
                Err(nix::errno::Errno::EINTR) => {}
                Err(errno) => {
                    return Err(Error::Sys { doing: "read what the container prints".into(), errno });
                }
            }
        }
        match waitpid(created.pid, None).doing(|| "wait for the container".into())? {
            WaitStatus::Exited(_, code) => Ok(code),
            WaitStatus::Signaled(_, signal, _) => Ok(128 + signal as i32),
            _ => Ok(255),
        }
    });
    // Also when it could not be started: nothing of it stays.
    let deleted = runtime.delete(id, true);
    if code.is_err() {
        // The child that waited at the gate was killed with it.
        let _ = waitpid(created.pid, None);
    }
    let code = code?;
    deleted?;
    let _ = std::fs::remove_file(directory.join(NOTE));
    if code == 0 {
        session.tell(Event::Removed(&id[..12]));
    }
    Ok(code)
}

/// Which network it sees.
fn network(spec: &mut Spec, network: &Network) -> Result<()> {
    let wrong = |e: oci_spec::OciSpecError| Error::Plan(format!("describe the container's network: {e}"));
    let mut linux = spec.linux().clone().unwrap_or_default();
    let mut namespaces = linux.namespaces().clone().unwrap_or_default();
    namespaces.retain(|n| n.typ() != LinuxNamespaceType::Network);
    let kind = LinuxNamespaceBuilder::default().typ(LinuxNamespaceType::Network);
    match network {
        Network::Host => {}
        Network::None => namespaces.push(kind.build().map_err(wrong)?),
        Network::Path(path) => namespaces.push(kind.path(path.clone()).build().map_err(wrong)?),
    }
    linux.set_namespaces(Some(namespaces));
    spec.set_linux(Some(linux));
    Ok(())
}

/// /etc/hosts, /etc/hostname and /etc/resolv.conf: of the container, not of the image, so they are mounted.
fn system_files(directory: &Path, hostname: &str, network: &Network) -> Result<Vec<Mount>> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let own =
        format!("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n127.0.0.1\t{hostname}\n");
    let (hosts, resolv) = match network {
        Network::None => (own, String::new()),
        Network::Host => (read("/etc/hosts"), read("/etc/resolv.conf")),
        // The host's loopback is not this network's: a resolver that listens there is out of reach.
        Network::Path(_) => {
            let far = |line: &&str| !line.contains("127.0.0.") && !line.contains("::1");
            (own, read("/etc/resolv.conf").lines().filter(far).map(|l| format!("{l}\n")).collect())
        }
    };
    let files = [("hosts", hosts), ("hostname", format!("{hostname}\n")), ("resolv.conf", resolv)];
    let file = |(name, text): (&str, String)| {
        let path = directory.join(name);
        std::fs::write(&path, text).doing(|| format!("write {}", path.display()))?;
        bind(&path, &Path::new("/etc").join(name), &["rbind", "rprivate"])
    };
    files.into_iter().map(file).collect()
}

/// A document that begins with `#!`, as a program.
fn program(directory: &Path, script: &Heredoc) -> Result<Mount> {
    let path = directory.join("script");
    let mut file = File::create(&path).doing(|| format!("write {}", path.display()))?;
    file.write_all(script.content.as_bytes()).doing(|| format!("write {}", path.display()))?;
    file.set_permissions(PermissionsExt::from_mode(0o755)).doing(|| format!("chmod {}", path.display()))?;
    bind(&path, &Path::new("/dev/pipes").join(&script.name), &["rbind", "rprivate", "ro"])
}

/// A bind mount.
pub(crate) fn bind(source: &Path, target: &Path, options: &[&str]) -> Result<Mount> {
    let options: Vec<String> = options.iter().map(|&o| o.to_owned()).collect();
    MountBuilder::default()
        .typ("bind")
        .source(PathBuf::from(source))
        .destination(PathBuf::from(target))
        .options(options)
        .build()
        .map_err(|e| Error::Plan(format!("describe the mount {}: {e}", target.display())))
}

fn random_id() -> Result<String> {
    let mut bytes = [0; 32];
    let doing = || "read /dev/urandom".to_owned();
    let mut file = File::open("/dev/urandom").doing(doing)?;
    while let Err(error) = file.read_exact(&mut bytes) {
        if error.kind() != ErrorKind::Interrupted {
            return Err(error).doing(doing);
        }
    }
    Ok(hex(&bytes))
}
