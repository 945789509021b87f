//! The commands that do one thing and end.

use crate::{
    cli::{Command, Create, Delete, Format, Global, Id},
    console, template,
};
use anyhow::{Context, Result, bail};
use cgroups::{
    runtime::{CreateOptions, Created, Runtime},
    state::State,
};
use namespaces::process::Stdio;
use std::{
    fs,
    io::Write,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process,
};

pub(crate) fn command(global: &Global, command: &Command) -> Result<()> {
    let runtime = runtime(global)?;
    match command {
        Command::Create(options) => {
            let created = create(global, options, true)?;
            // Its parent is whoever adopts our children: conmon and containerd's shim arrange to be that.
            drop(created);
            Ok(())
        }
        Command::Start(Id { id }) => Ok(runtime.start(id)?),
        Command::State(Id { id }) => print_json(&runtime.state(id)?),
        Command::Kill(kill) => Ok(runtime.kill_number(&kill.id, signal(&kill.signal)?, kill.all)?),
        Command::Delete(Delete { id, force, regex: false }) => Ok(runtime.delete(id, *force)?),
        Command::Delete(Delete { id, force, .. }) => delete_matching(&runtime, id, *force),
        Command::Pause(Id { id }) => Ok(runtime.pause(id)?),
        Command::Resume(Id { id }) => Ok(runtime.resume(id)?),
        Command::List { format, quiet } => list(&runtime, *format, *quiet),
        Command::Ps { format, id, options } => ps(&runtime, id, *format, options),
        Command::Spec { bundle } => write_spec(bundle, global.rootless.as_deref() == Some("true")),
        Command::Checkpoint { .. } | Command::Restore { .. } => bail!(
            "checkpoint and restore are not supported: they need CRIU, which this runtime does not drive; use pause \
             and resume to hold a container"
        ),
        _ => unreachable!("main() sends every other command elsewhere"),
    }
}

/// The runtime that the global options describe.
pub(crate) fn runtime(global: &Global) -> Result<Runtime> {
    let systemd = global.systemd_cgroup || global.cgroup_manager.as_deref() == Some("systemd");
    let root = match &global.root {
        Some(root) => root.clone(),
        None => default_root()?,
    };
    Ok(Runtime::new(root).systemd_paths(systemd))
}

/// A directory that is gone after a reboot, as the containers are, and that is the user's own.
fn default_root() -> Result<PathBuf> {
    let uid = nix::unistd::geteuid();
    match std::env::var_os("XDG_RUNTIME_DIR") {
        _ if uid.is_root() => return Ok("/run/teu/runtime".into()),
        Some(directory) if !directory.is_empty() => return Ok(Path::new(&directory).join("teu/runtime")),
        _ => {}
    }
    // Anyone may make a directory in /tmp, also one that waits for our state with state of its own.
    let root = PathBuf::from(format!("/tmp/teu-runtime-{uid}"));
    match fs::symlink_metadata(&root) {
        Ok(there) if !there.is_dir() || there.uid() != uid.as_raw() => {
            bail!("{} is another user's: set XDG_RUNTIME_DIR, or give --root", root.display())
        }
        _ => Ok(root),
    }
}

/// `create`, and the first half of `run`.
pub(crate) fn create(global: &Global, options: &Create, detached: bool) -> Result<Created> {
    check_preserved(options.preserve_fds)?;
    // Socket activation reaches through us, as it does through runc and crun.
    let sockets = std::env::var("LISTEN_FDS").ok().and_then(|n| n.parse::<u16>().ok()).unwrap_or(0);
    let inherited = (3..).take(sockets.into()).take_while(|fd| is_inherited(*fd)).count() as u32;
    // (A name that begins with @ is in no file system, and stays the host's.)
    let notify = std::env::var_os("NOTIFY_SOCKET").map(PathBuf::from).filter(|socket| socket.is_absolute());
    let runtime = runtime(global)?.config_file(&options.config).listening(sockets).notifying(notify);
    let created = runtime.create(
        &options.id,
        &options.bundle,
        &CreateOptions {
            stdio: Stdio::Inherit,
            preserve_fds: options.preserve_fds.saturating_add(inherited),
            no_pivot: options.no_pivot,
            no_new_keyring: options.no_new_keyring,
            die_with_me: false,
        },
    )?;
    let hand_over = || -> Result<()> {
        match (&options.console_socket, &created.console) {
            (Some(socket), Some(master)) if detached => console::send(socket, master, "/dev/ptmx")?,
            (None, None) => {}
            (None, Some(_)) if !detached => {}
            // Without a reader the master's end would close with us, and the container would be hung up.
            (None, Some(_)) => bail!(
                "the container wants a terminal (process.terminal), and nobody would hold its other end: \
                 give --console-socket, or use run without --detach"
            ),
            (Some(_), _) => bail!(
                "--console-socket is for a container with a terminal (process.terminal) that runs detached"
            ),
        }
        if let Some(socket) = &options.pidfd_socket {
            console::send(socket, &created.pidfd, "pidfd")?;
        }
        match &options.pid_file {
            Some(file) => write_pid(file, created.pid.as_raw()),
            None => Ok(()),
        }
    };
    if let Err(error) = hand_over() {
        let _ = runtime.delete(&options.id, true);
        return Err(error);
    }
    Ok(created)
}

/// To preserve one descriptor is to mean that one, and it must be there. (A larger number is a bound, which callers give
/// generously.)
pub(crate) fn check_preserved(count: u32) -> Result<()> {
    if count == 1 && !is_inherited(3) {
        bail!("--preserve-fds 1: preserved-fd 0 (descriptor 3) is not open");
    }
    Ok(())
}

/// Each container by itself: one that cannot be deleted keeps none of the others.
fn delete_matching(runtime: &Runtime, expression: &str, force: bool) -> Result<()> {
    let matching = regex::Regex::new(expression).context("reading the regular expression")?;
    let ids = runtime.list()?.into_iter().map(|state| state.id).filter(|id| matching.is_match(id));
    let failed: Vec<_> = ids.filter_map(|id| runtime.delete(&id, force).err()).collect();
    match failed.into_iter().next() {
        Some(first) => Err(first.into()),
        None => Ok(()),
    }
}

/// Whether a caller left it to us. What is close-on-exec is our own.
fn is_inherited(fd: i32) -> bool {
    // SAFETY: F_GETFD reads a number's flags, and fails where it is no descriptor.
    unsafe { libc::fcntl(fd, libc::F_GETFD) == 0 }
}

/// Written beside and renamed, since someone may be waiting for it to appear.
pub(crate) fn write_pid(file: &Path, pid: i32) -> Result<()> {
    let name = file.file_name().with_context(|| format!("{} is no file's name", file.display()))?;
    let beside = file.with_file_name(format!(".{}", name.to_string_lossy()));
    fs::write(&beside, pid.to_string())
        .and_then(|()| fs::rename(&beside, file))
        .with_context(|| format!("writing the process ID into {}", file.display()))
}

pub(crate) fn print_json(value: &impl serde::Serialize) -> Result<()> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, value)?;
    Ok(writeln!(out)?)
}

/// `9`, `KILL`, `SIGKILL`, `RTMIN+3`.
pub(crate) fn signal(text: &str) -> Result<i32> {
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let number = if let Ok(number) = name.parse::<i32>() {
        Some(number)
    } else if let Some(rest) = name.strip_prefix("RTMIN") {
        offset(rest).map(|n| libc::SIGRTMIN() + n)
    } else if let Some(rest) = name.strip_prefix("RTMAX") {
        offset(rest).map(|n| libc::SIGRTMAX() + n)
    } else {
        format!("SIG{name}").parse::<nix::sys::signal::Signal>().ok().map(|s| s as i32)
    };
    match number.filter(|n| (0..=libc::SIGRTMAX()).contains(n)) {
        Some(number) => Ok(number),
        None => bail!("unknown signal '{text}': give a name such as TERM, or a number from 1 to 64"),
    }
}

fn offset(text: &str) -> Option<i32> {
    if text.is_empty() { Some(0) } else { text.parse().ok() }
}

fn list(runtime: &Runtime, format: Format, quiet: bool) -> Result<()> {
    let mut all = runtime.list()?;
    for state in &mut all {
        state.owner = owner(&runtime.root().join(&state.id));
    }
    if quiet {
        for state in &all {
            println!("{}", state.id);
        }
        return Ok(());
    }
    if format == Format::Json {
        println!("{}", serde_json::to_string(&all)?); // one line, as runc has it: scripts read lines
        return Ok(());
    }
    let row = |s: &State| {
        let bundle = s.bundle.display().to_string();
        [s.id.clone(), s.pid.to_string(), s.status.to_string(), bundle, s.created.clone(), s.owner.clone()]
    };
    let heading = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_owned);
    let rows: Vec<_> = std::iter::once(heading).chain(all.iter().map(row)).collect();
    // runc's columns: at least 12 wide, three spaces apart. Scripts cut them.
    let width = |c: usize| rows.iter().map(|r| r[c].len() + 3).max().unwrap_or(0).max(12);
    for row in &rows {
        let cells = row[..5].iter().enumerate().map(|(c, cell)| format!("{cell:0$}", width(c)));
        println!("{}{}", cells.collect::<String>(), row[5]);
    }
    Ok(())
}

/// The user whose directory it is.
fn owner(directory: &Path) -> String {
    let Ok(metadata) = fs::metadata(directory) else { return String::new() };
    namespaces::users::name(metadata.uid().into()).unwrap_or_else(|| format!("#{}", metadata.uid()))
}

/// The container's processes: their IDs, or what ps(1) says of them.
fn ps(runtime: &Runtime, id: &str, format: Format, options: &[String]) -> Result<()> {
    let pids: Vec<i32> = runtime.processes(id)?.iter().map(|p| p.as_raw()).collect();
    if format == Format::Json {
        println!("{}", serde_json::to_string(&pids)?);
        return Ok(());
    }
    let options = if options.is_empty() { vec!["-ef".to_owned()] } else { options.to_vec() };
    let output = process::Command::new("ps")
        .args(&options)
        .output()
        .context("running ps(1): install it (package procps), or use --format json")?;
    if !output.status.success() {
        bail!("ps {}: {}", options.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut lines = text.lines();
    let heading = lines.next().unwrap_or_default();
    let column = heading.split_whitespace().position(|w| w == "PID");
    let column =
        column.context("these options of ps(1) show no PID column, by which processes are told apart")?;
    println!("{heading}");
    for line in lines {
        let pid = line.split_whitespace().nth(column).and_then(|w| w.parse().ok());
        if pid.is_some_and(|pid| pids.contains(&pid)) {
            println!("{line}");
        }
    }
    Ok(())
}

fn write_spec(bundle: &Path, rootless: bool) -> Result<()> {
    let file = bundle.join("config.json");
    let mut text = serde_json::to_vec_pretty(&template::config(rootless)?)?;
    text.push(b'\n');
    let created = fs::OpenOptions::new().write(true).create_new(true).open(&file);
    let mut out =
        created.with_context(|| format!("making {} (remove it first if it exists)", file.display()))?;
    out.write_all(&text).with_context(|| format!("writing {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::signal;

    #[test]
    fn signals() {
        for (text, number) in [
            ("9", 9),
            ("KILL", 9),
            ("SIGKILL", 9),
            ("term", 15),
            ("RTMIN", 34),
            ("SIGRTMIN+3", 37),
            ("RTMAX-1", 63),
        ] {
            assert_eq!(signal(text).unwrap(), number, "{text}");
        }
        for bad in ["", "65", "-1", "NOPE", "RTMIN+99", "9x"] {
            assert!(signal(bad).is_err(), "{bad}");
        }
    }
}
