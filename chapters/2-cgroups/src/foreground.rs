//! `run` and `exec`: a process that somebody waits for. Its exit code becomes ours, signals sent to us go to
//! it, and if it has a terminal, ours is joined to it.

use crate::{
    cli::{Exec, Global, Run},
    console, oci,
    terminal::{self, Link, Raw},
};
use anyhow::{Context, Result, bail};
use namespaces::process::Stdio;
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::{SigSet, SigmaskHow, Signal, kill, sigprocmask},
        signalfd::{SfdFlags, SignalFd},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};
use oci_spec::runtime::{BoxBuilder, Capabilities, LinuxCapabilities, Process, User};
use std::{fs, os::fd::AsFd};

/// create, start, wait, delete.
pub(crate) fn run(global: &Global, options: &Run) -> Result<i32> {
    let runtime = oci::runtime(global);
    let id = &options.create.id;
    let created = oci::create(global, &options.create, options.detach)?;
    // From here on what is left of it is ours to remove, however this ends.
    let end = || -> Result<i32> {
        if options.detach {
            return runtime.start(id).map(|()| 0).map_err(Into::into);
        }
        let signals = Signals::block()?;
        // Before the start, or the program would find a terminal without a size.
        let link = created.console.map(Link::new).transpose()?;
        runtime.start(id)?;
        wait(created.pid, link, &signals)
    };
    let code = end();
    if code.is_err() || !(options.detach || options.keep) {
        runtime.delete(id, true)?;
    }
    code
}

/// Another process in a container that runs.
pub(crate) fn exec(global: &Global, options: &Exec) -> Result<i32> {
    let runtime = oci::runtime(global);
    let process = match &options.process {
        Some(file) => {
            let text = fs::read(file).with_context(|| format!("reading {}", file.display()))?;
            serde_json::from_slice(&text).with_context(|| format!("reading {}", file.display()))?
        }
        None => process(runtime.process(&options.id)?, options)?,
    };
    let terminal = process.terminal().unwrap_or(false);
    if terminal && options.detach && options.console_socket.is_none() {
        bail!("a detached process with a terminal needs --console-socket, or nobody holds its other end");
    }
    let running = runtime.exec(&options.id, &process, Stdio::Inherit, options.preserve_fds)?;
    let signals = Signals::block()?;
    if let Some(file) = &options.pid_file {
        oci::write_pid(file, running.pid.as_raw())?;
    }
    let mut console = running.console;
    if let Some(socket) = &options.console_socket
        && let Some(master) = console.take()
    {
        console::send(socket, &master)?;
    }
    if options.detach {
        return Ok(0);
    }
    wait(running.pid, console.map(Link::new).transpose()?, &signals)
}

/// The container's own process description, changed as the options say.
fn process(mut process: Process, options: &Exec) -> Result<Process> {
    if options.command.is_empty() {
        bail!("what shall be executed? Give a command after the ID, or --process");
    }
    process.set_args(Some(options.command.clone())).set_terminal(Some(options.tty));
    // It runs as soon as it is there, so it is born with the size of our terminal.
    let size =
        terminal::size().map(|(height, width)| BoxBuilder::default().height(height).width(width).build());
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
        add_capabilities(&mut sets, &options.cap)?;
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
fn add_capabilities(sets: &mut LinuxCapabilities, names: &[String]) -> Result<()> {
    let added: Capabilities = serde_json::from_value(serde_json::json!(names))
        .with_context(|| format!("--cap {}: give names such as CAP_NET_ADMIN", names.join(" ")))?;
    let join = |set: &Option<Capabilities>| Some(set.iter().flatten().chain(&added).copied().collect());
    let (bounding, permitted, effective) =
        (join(sets.bounding()), join(sets.permitted()), join(sets.effective()));
    sets.set_bounding(bounding).set_permitted(permitted).set_effective(effective);
    Ok(())
}

/// The signals that go on to the container, held back from doing to us what they would do.
struct Signals(SignalFd);

impl Signals {
    /// Called when the container's process exists already, or that would begin its life with them blocked.
    fn block() -> Result<Signals> {
        let mut set = SigSet::all();
        // Those that tell of our own faults, or stop us, stay what they are.
        for own in [
            Signal::SIGSEGV,
            Signal::SIGBUS,
            Signal::SIGFPE,
            Signal::SIGILL,
            Signal::SIGABRT,
            Signal::SIGTRAP,
            Signal::SIGSYS,
            Signal::SIGPIPE,
            Signal::SIGTTIN,
            Signal::SIGTTOU,
            Signal::SIGTSTP,
        ] {
            set.remove(own);
        }
        sigprocmask(SigmaskHow::SIG_BLOCK, Some(&set), None).context("blocking signals")?;
        let fd = SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC);
        Ok(Signals(fd.context("making a signalfd")?))
    }
}

/// Waits for the process's end, and joins its terminal to ours meanwhile.
fn wait(pid: Pid, mut link: Option<Link>, signals: &Signals) -> Result<i32> {
    // Dropped, it gives our terminal back its manners, also when an error leads out of here.
    let _raw = link.is_some().then(Raw::stdin);
    loop {
        if let Some(code) = ended(pid)? {
            if let Some(link) = &mut link {
                link.drain();
            }
            return Ok(code);
        }
        let mut fds = vec![PollFd::new(signals.0.as_fd(), PollFlags::POLLIN)];
        if let Some(link) = &link {
            fds.extend(link.interests());
        }
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno).context("waiting for the container"),
        }
        let ready: Vec<bool> = fds.iter().map(|f| f.any().unwrap_or(false)).collect();
        while let Ok(Some(signal)) = signals.0.read_signal() {
            match signal.ssi_signo as i32 {
                libc::SIGCHLD => {}
                libc::SIGWINCH => {
                    if let Some(link) = &link {
                        link.resize();
                    }
                }
                // In raw mode Ctrl-C is a byte like others; what comes as a signal was sent by someone who meant it.
                number => {
                    if let Ok(signal) = Signal::try_from(number) {
                        let _ = kill(pid, signal);
                    }
                }
            }
        }
        if let Some(link) = &mut link {
            link.move_bytes(&ready[1..]);
        }
    }
}

/// The exit code of a process that has ended: its own, or 128 and the signal.
fn ended(pid: Pid) -> Result<Option<i32>> {
    match waitpid(pid, Some(WaitPidFlag::WNOHANG)) {
        Ok(WaitStatus::Exited(_, code)) => Ok(Some(code)),
        Ok(WaitStatus::Signaled(_, signal, _)) => Ok(Some(128 + signal as i32)),
        Ok(_) | Err(Errno::EINTR) => Ok(None),
        Err(errno) => Err(errno).context("waiting for the container's process"),
    }
}
