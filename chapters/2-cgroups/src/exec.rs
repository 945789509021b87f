//! `exec`: another process in a container that runs, described by options or by a `process.json`.

use crate::{cli::Global, console, oci};
use anyhow::{Context, Result, bail};
use cgroups::live::ExecOptions;
use clap::Args;
use namespaces::{
    foreground::{self, Signals},
    process::Stdio,
    spec, terminal,
};
use oci_spec::runtime::{BoxBuilder, Capabilities, Capability, LinuxCapabilities, Process, User};
use std::{fs, path::PathBuf};

/// What is to be executed.
#[derive(Args)]
pub(crate) struct Exec {
    /// The unix socket to which the master side of the terminal is sent
    #[arg(long, value_name = "SOCKET")]
    pub(crate) console_socket: Option<PathBuf>,
    /// The working directory
    #[arg(long)]
    pub(crate) cwd: Option<PathBuf>,
    /// NAME=VALUE, besides the container's own environment
    #[arg(short, long)]
    pub(crate) env: Vec<String>,
    /// Give it a terminal
    #[arg(short, long)]
    pub(crate) tty: bool,
    /// UID[:GID]
    #[arg(short, long)]
    pub(crate) user: Option<String>,
    /// Further groups, by number
    #[arg(short = 'g', long)]
    pub(crate) additional_gids: Vec<u32>,
    /// A process.json that says all of it
    #[arg(short, long, value_name = "FILE")]
    pub(crate) process: Option<PathBuf>,
    /// Do not wait for its end
    #[arg(short, long)]
    pub(crate) detach: bool,
    /// Where to write the process ID
    #[arg(long, value_name = "FILE")]
    pub(crate) pid_file: Option<PathBuf>,
    /// An SELinux label
    #[arg(long)]
    pub(crate) process_label: Option<String>,
    /// An AppArmor profile
    #[arg(long)]
    pub(crate) apparmor: Option<String>,
    /// It may gain no privileges by execve(2)
    #[arg(long)]
    pub(crate) no_new_privs: bool,
    /// A capability to add
    #[arg(short, long)]
    pub(crate) cap: Vec<String>,
    /// How many descriptors from 3 on it inherits
    #[arg(long, default_value_t = 0)]
    pub(crate) preserve_fds: u32,
    /// Accepted for runc's sake
    #[arg(long, hide = true)]
    pub(crate) no_subreaper: bool,
    /// Into a paused container too: it runs when the container is resumed
    #[arg(long)]
    pub(crate) ignore_paused: bool,
    /// Into a group below the container's; on v1 CONTROLLERS:PATH for some
    #[arg(long, value_name = "PATH")]
    pub(crate) cgroup: Vec<String>,
    /// The unix socket to which a descriptor of the process (pidfd_open(2)) is sent
    #[arg(long, value_name = "SOCKET")]
    pub(crate) pidfd_socket: Option<PathBuf>,
    /// The container's ID
    pub(crate) id: String,
    /// The command and its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) command: Vec<String>,
}

/// Another process in a container that runs.
pub(crate) fn exec(global: &Global, options: &Exec) -> Result<i32> {
    let runtime = oci::runtime(global)?;
    let process = match &options.process {
        Some(file) => {
            let text = fs::read(file).with_context(|| format!("reading {}", file.display()))?;
            spec::parse_process(&text, file)?
        }
        None => process(runtime.process(&options.id)?, options)?,
    };
    let terminal = process.terminal().unwrap_or(false);
    if terminal && options.detach && options.console_socket.is_none() {
        bail!("a detached process with a terminal needs --console-socket, or nobody holds its other end");
    }
    let signals = if options.detach { None } else { Some(Signals::take()?) };
    oci::check_preserved(options.preserve_fds)?;
    let more = ExecOptions {
        preserve_fds: options.preserve_fds,
        ignore_paused: options.ignore_paused,
        cgroups: options.cgroup.clone(),
    };
    let running = runtime.exec(&options.id, &process, Stdio::Inherit, &more)?;
    if let Some(socket) = &options.pidfd_socket {
        console::send(socket, &running.pidfd, "pidfd")?;
    }
    if let Some(file) = &options.pid_file {
        oci::write_pid(file, running.pid.as_raw())?;
    }
    let mut console = running.console;
    if let Some(socket) = &options.console_socket
        && let Some(master) = console.take()
    {
        console::send(socket, &master, "/dev/ptmx")?;
    }
    match signals {
        None => Ok(0),
        Some(signals) => Ok(foreground::wait(running.pid, &running.pidfd, console.as_ref(), signals)?),
    }
}

/// The container's own process description, changed as the options say.
fn process(mut process: Process, options: &Exec) -> Result<Process> {
    if options.command.is_empty() {
        bail!("what shall be executed? Give a command after the ID, or --process");
    }
    process.set_args(Some(options.command.clone())).set_terminal(Some(options.tty));
    // It runs as soon as it is there, so it is born with the size of our terminal.
    let size = terminal::size(std::io::stdin())
        .map(|(rows, columns)| BoxBuilder::default().height(rows).width(columns).build());
    process.set_console_size(size.transpose()?);
    if let Some(cwd) = &options.cwd {
        process.set_cwd(cwd.clone());
    }
    let mut env = process.env().clone().unwrap_or_default();
    env.extend(options.env.iter().cloned());
    process.set_env(Some(env));
    if let Some(user) = &options.user {
        process.set_user(parse_user(user)?);
    }
    if !options.additional_gids.is_empty() {
        process.user_mut().set_additional_gids(Some(options.additional_gids.clone()));
    }
    if options.no_new_privs {
        process.set_no_new_privileges(Some(true));
    }
    if let Some(profile) = &options.apparmor {
        process.set_apparmor_profile(Some(profile.clone()));
    }
    if let Some(label) = &options.process_label {
        process.set_selinux_label(Some(label.clone()));
    }
    if !options.cap.is_empty() {
        let mut sets = process.capabilities().clone().unwrap_or_default();
        add_capabilities(&mut sets, &options.cap);
        process.set_capabilities(Some(sets));
    }
    Ok(process)
}

fn parse_user(text: &str) -> Result<User> {
    let (uid, gid) = text.split_once(':').unwrap_or((text, "0"));
    let number =
        |t: &str| t.parse::<u32>().with_context(|| format!("--user {text}: give numbers, as in 1000:1000"));
    let mut user = User::default();
    user.set_uid(number(uid)?).set_gid(number(gid)?);
    Ok(user)
}

/// Into the sets by which a process has a capability now, but not into the inheritable one (CVE-2022-24769).
fn add_capabilities(sets: &mut LinuxCapabilities, names: &[String]) {
    let mut added = Capabilities::new();
    for name in names {
        match serde_json::from_value::<Capability>(serde_json::json!(name)) {
            Ok(capability) => {
                added.insert(capability);
            }
            // As in a configuration.
            Err(_) => tracing::warn!("the capability {name} is unknown: left out"),
        }
    }
    let join = |set: &Option<Capabilities>| Some(set.iter().flatten().chain(&added).copied().collect());
    let (bounding, permitted, effective) =
        (join(sets.bounding()), join(sets.permitted()), join(sets.effective()));
    sets.set_bounding(bounding).set_permitted(permitted).set_effective(effective);
}
