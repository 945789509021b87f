//! The command line of this chapter.

mod connect;

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use namespaces::{
    Error, enter,
    foreground::{self, Signals},
    gate, process, sealed, show, spec,
    table::{self, Cell, Colour},
    tell,
};
use nix::unistd::{Pid, mkdtemp};
use std::{
    io::{IsTerminal, Write, stdin, stdout},
    os::fd::AsFd,
    path::{Path, PathBuf},
    process::ExitCode,
};

/// A process with its own world: run an OCI bundle, join one that runs, look at namespaces.
///
/// Chapter 1 of teu. The exit code is the program's own, or 128 and the number of the signal that
/// killed it; 127 if there is no such program, 126 if it cannot be executed, 125 for any other failure.
#[derive(Parser)]
#[command(name = "namespaces", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the bundle's program in namespaces of its own, in the foreground
    ///
    /// A bundle is a directory with config.json and the root filesystem that it names. Make one:
    /// mkdir -p b/rootfs; namespaces spec >b/config.json; then put a system into b/rootfs.
    Run {
        /// Tell each step as it is done: how long it took, the system call, what it did, the book's section
        #[arg(long)]
        explain: bool,
        /// Move the root over the old one instead of pivot_root(2), for a root on the initial ramfs
        #[arg(long)]
        no_pivot: bool,
        /// The bundle
        bundle: PathBuf,
    },
    /// Run a program in the namespaces and the root of a process
    #[command(trailing_var_arg = true)]
    Enter {
        /// Tell each step as it is done
        #[arg(long)]
        explain: bool,
        /// The process to join, for example a container's first
        pid: i32,
        /// As this user: uid, or uid:gid
        #[arg(short, long, default_value = "0:0")]
        user: String,
        /// In this directory
        #[arg(short, long, default_value = "/")]
        cwd: PathBuf,
        /// With this variable set (NAME=VALUE)
        #[arg(short, long)]
        env: Vec<String>,
        /// The program and its arguments
        #[arg(required = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Connect a process's network namespace to a bridge: a veth pair, an address, a default route
    Connect(connect::Connect),
    /// Show which namespaces a process has, beside mine: which are the same, and which are new
    Show {
        /// The process; this one if none is named
        pid: Option<i32>,
    },
    /// Print a config.json: what docker gives a container when nothing is asked
    Spec {
        /// For an ordinary user: in a user namespace in which you are root
        #[arg(long)]
        rootless: bool,
    },
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Run { explain, no_pivot, bundle } => start(explain).and_then(|()| run(&bundle, no_pivot)),
        Command::Enter { explain, pid, user, cwd, env, args } => {
            start(explain).and_then(|()| join(pid, &user, cwd, env, args))
        }
        Command::Connect(options) => connect::connect(&options),
        Command::Show { pid } => print_namespaces(pid),
        Command::Spec { rootless } => print_spec(rootless),
    };
    match done {
        Ok(code) => ExitCode::from(code as u8),
        Err(error) => {
            eprintln!("namespaces: {error:#}");
            let code = error.downcast_ref::<Error>().map_or(1, Error::exit_code);
            ExitCode::from(if code == 1 { 125 } else { code as u8 })
        }
    }
}

/// What comes first whenever a process is to be made: out of its reach, and ready to tell.
fn start(explain: bool) -> Result<()> {
    sealed::ensure()?;
    tell::people("namespaces", explain);
    Ok(())
}

fn run(bundle: &Path, no_pivot: bool) -> Result<i32> {
    let spec = spec::load(bundle)?;
    let dir = PrivateDir::new()?;
    let gate_path = dir.0.join("gate");
    let gate = gate::listen(&gate_path)?;
    // Nobody else is to start it, so it need not wait: and whatever kills us later, no file of ours stays behind.
    let door = gate::knock(&gate_path)?;
    drop(dir);
    let signals = Signals::take()?;
    let mut cloned = process::clone(&process::Request {
        spec: &spec,
        bundle,
        stdio: process::Stdio::Inherit,
        cgroup: None,
        tasks: &[],
        gate: gate.as_fd(),
        preserve_fds: 0,
        no_pivot,
        no_new_keyring: false,
    })?;
    cloned.die_with_me();
    drop(gate); // the child's copy is the one that counts: with the child it closes
    let pid = cloned.pid.as_raw();
    let bundle = bundle.canonicalize().context("find the bundle")?;
    let state = serde_json::json!({
        "ociVersion": "1.2.0", "id": pid.to_string(), "status": "created", "pid": pid, "bundle": bundle,
    });
    let ready = cloned.configure(state.to_string().as_bytes())?;
    gate::hear(door)?;
    Ok(foreground::wait(ready.pid, &ready.pidfd, ready.console.as_ref(), signals)?)
}

/// A directory that only we can enter, for the gate.
struct PrivateDir(PathBuf);

impl PrivateDir {
    fn new() -> Result<PrivateDir> {
        let template = std::env::temp_dir().join("namespaces.XXXXXX");
        Ok(PrivateDir(mkdtemp(&template).with_context(|| format!("make {}", template.display()))?))
    }
}

impl Drop for PrivateDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn join(pid: i32, user: &str, cwd: PathBuf, env: Vec<String>, args: Vec<String>) -> Result<i32> {
    let mut config = spec::docker_default();
    let Some(process) = config.process_mut() else { bail!("the default has no process") };
    let (uid, gid) = user.split_once(':').unwrap_or((user, "0"));
    process.user_mut().set_uid(uid.parse().with_context(|| format!("{uid} is no uid"))?);
    process.user_mut().set_gid(gid.parse().with_context(|| format!("{gid} is no gid"))?);
    process.set_cwd(cwd);
    process.set_args(Some(args));
    process.set_oom_score_adj(None);
    process.set_terminal(Some(stdin().is_terminal() && stdout().is_terminal()));
    let term = std::env::var("TERM").map(|term| format!("TERM={term}"));
    if let Some(all) = process.env_mut() {
        all.extend(term);
        all.extend(env);
    }
    let signals = Signals::take()?;
    let cloned = enter::clone(&enter::Request {
        target: Pid::from_raw(pid),
        process,
        linux: None,
        state: b"",
        stdio: process::Stdio::Inherit,
        cgroup: None,
        tasks: &[],
        preserve_fds: 0,
    })?;
    let running = enter::exec(cloned)?;
    Ok(foreground::wait(running.pid, &running.pidfd, running.console.as_ref(), signals)?)
}

fn print_namespaces(pid: Option<i32>) -> Result<i32> {
    let all = show::namespaces(pid.map_or_else(Pid::this, Pid::from_raw))?;
    let head = |text: &str| Cell::new(text, Colour::Bold);
    // Beside itself a process has nothing to compare.
    let other = pid.is_some_and(|pid| pid != Pid::this().as_raw());
    let mut rows = vec![match other {
        true => ["NAMESPACE", "INODE", "MINE", "IT IS", "WHAT IS ITS OWN"].map(head).to_vec(),
        false => ["NAMESPACE", "INODE", "WHAT IS ITS OWN"].map(head).to_vec(),
    }];
    for namespace in all {
        let own = match namespace.kind.as_str() {
            "cgroup" => "the root of its control groups",
            "ipc" => "System V IPC, POSIX message queues",
            "net" => "network devices, addresses, ports, routes",
            "mnt" => "mounts: what is where in its tree",
            "pid" => "process IDs, from 1",
            "time" => "the monotonic and the boot-time clock",
            "user" => "user and group IDs, capabilities",
            _ => "hostname and domain name",
        };
        let (same, colour) = if namespace.shared() { ("same", Colour::Dim) } else { ("new", Colour::Green) };
        let mut row = vec![Cell::new(&namespace.kind, Colour::Cyan), Cell::new(namespace.inode, colour)];
        if other {
            row.extend([Cell::new(namespace.mine, Colour::Dim), Cell::new(same, colour)]);
        }
        row.push(Cell::new(own, Colour::Plain));
        rows.push(row);
    }
    write!(stdout(), "{}", table::align(&rows, table::coloured(&stdout())))?;
    Ok(0)
}

fn print_spec(rootless: bool) -> Result<i32> {
    let mut config = spec::docker_default();
    if rootless {
        spec::in_user_namespace(&mut config);
    }
    writeln!(stdout(), "{}", serde_json::to_string_pretty(&config)?)?;
    Ok(0)
}
