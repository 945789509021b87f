//! One container, from the mount of its root to the record of its end.

use super::{
    copy_up, proxy,
    pump::Pump,
    wire::{Exit, Report},
};
use crate::engine::{
    disk::{self, Durable},
    failure::{Failure, Result},
    logs, now,
    plan::{Endpoint, Plan},
    spec,
};
use cgroups::{
    cgroup::Cgroup,
    runtime::{CreateOptions, Runtime},
};
use namespaces::process::Stdio;
use nix::{
    fcntl::OFlag,
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    unistd::pipe2,
};
use std::{
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixListener,
    },
    path::Path,
};

/// The role `container`: `dir` is the run directory with the plan.
pub(crate) fn main(dir: &Path, listener: UnixListener) -> Result<()> {
    let plan: Plan = disk::read_json(&dir.join("plan.json"))?.ok_or_else(|| Failure::internal("no plan"))?;
    let mut pump = Pump::new(listener, plan.record.config.stdin_once.unwrap_or_default());
    let data = plan.data.clone();
    let runtime = Runtime::new(&plan.runtime_root);
    let id = plan.record.id.clone();
    let volatile = plan.record.auto_remove();
    let (pidfd, cgroup, keep) = match start(plan, &runtime, &mut pump) {
        Ok(started) => started,
        Err(failure) => {
            let _ = runtime.delete(&id, true);
            let code = i64::from(failure.status);
            // Who is attached sees the end of its connection; who asked for the start is told why.
            let _ = pump.meet();
            pump.report(Report::Failed { code, message: failure.message });
            return pump.farewell();
        }
    };
    let code = pump.run(pidfd)?;
    let oom = cgroup.oom_kills().is_ok_and(|n| n > 0);
    // Its other processes died with it if it had a PID namespace of its own; with the host's they have to be killed.
    // Before the output is read to its end, which they would hold open.
    let _ = cgroup.kill();
    pump.drain()?;
    let exit = Exit { code, oom, at: now() };
    disk::write_json(&data.join("exit.json"), &exit, Durable::Process)?;
    pump.report(Report::Exited(exit));
    // The container's own process is reaped, its group empty: what is left is directories.
    if let Err(e) = runtime.delete(&id, true) {
        eprintln!("the container's state could not be removed: {}", Failure::from(e).message);
    }
    drop(keep);
    pump.farewell()?;
    let rootfs = dir.join("rootfs");
    if !volatile {
        // Here and not by the end of the namespace, so that the layer is whole on its disk when the daemon hears that we end.
        let _ = layers::overlay::unmount(&rootfs);
    }
    Ok(())
}

/// Everything up to the program that runs.
fn start(plan: Plan, runtime: &Runtime, pump: &mut Pump) -> Result<(OwnedFd, Cgroup, Option<proxy::Proxy>)> {
    let failed = |e: Failure| Failure { status: 128, ..e };
    if plan.record.explain
        && let Ok(file) = std::fs::OpenOptions::new().append(true).open(plan.run.join("explain"))
    {
        crate::explain::recorder(file.into()).install();
    }
    mount_root(&plan).map_err(failed)?;
    let record = &plan.record;
    let rootfs = plan.run.join("rootfs");
    let root = layers::root::Root::open(&rootfs)?;
    copy_up::all(&plan, &root).map_err(failed)?;
    let spec = spec::build(&plan, &root).map_err(failed)?;
    drop(root);
    disk::write_json(&plan.run.join("config.json"), &spec, Durable::Process).map_err(failed)?;

    let rotation =
        logs::Rotation::from(&record.host.log_config.clone().and_then(|l| l.config).unwrap_or_default())?;
    if record.host.log_config.as_ref().and_then(|l| l.typ.as_deref()) != Some("none") {
        let path = plan.data.join(format!("{}-json.log", record.id));
        pump.log_to(logs::Writer::open(&path, rotation).map_err(|e| failed(e.into()))?);
    }
    let tty = record.tty();
    let open = record.config.open_stdin.unwrap_or_default();
    let pipes = Pipes::new(open, tty).map_err(failed)?;
    let options = CreateOptions {
        stdio: pipes.stdio(),
        preserve_fds: 0,
        no_pivot: false,
        no_new_keyring: false,
        die_with_me: false,
    };
    let created = runtime.create(&record.id, &plan.run, &options).map_err(|e| refused(&e))?;
    let pid = created.pid;
    for endpoint in &plan.endpoints {
        plug(pid, endpoint).map_err(failed)?;
    }
    let (proxy, ports) = proxy::publish(&plan, pid).map_err(failed)?;
    let console = created.console;
    let (input, outputs) = pipes.ours();
    pump.connect(input, outputs, console).map_err(failed)?;
    pump.meet().map_err(failed)?;
    runtime.start(&record.id).map_err(|e| refused(&e))?;
    pump.report(Report::Started { pid: pid.as_raw(), at: now(), ports });
    Ok((created.pidfd, created.cgroup, proxy))
}

/// A mount namespace of our own, in which the root is mounted: when we die, however that happens, the mount dies too.
fn mount_root(plan: &Plan) -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNS).map_err(|e| Failure::from(e).doing("making a mount namespace"))?;
    // A slave: what the host unmounts goes here as well, and nothing that we mount is seen there.
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_SLAVE, None::<&str>)
        .map_err(|e| Failure::from(e).doing("making / a slave mount"))?;
    let (upper, work, rootfs) = (plan.data.join("upper"), plan.data.join("work"), plan.run.join("rootfs"));
    disk::make_dir(&upper, 0o755)?;
    disk::make_dir(&work, 0o700)?;
    disk::make_dir(&rootfs, 0o755)?;
    layers::overlay::mount(&plan.lower, Some((&upper, &work)), &rootfs, plan.record.auto_remove())?;
    Ok(())
}

pub(crate) fn plug(pid: nix::unistd::Pid, endpoint: &Endpoint) -> Result<()> {
    let end = namespaces::net::Endpoint {
        bridge: endpoint.bridge.clone(),
        host_name: endpoint.host_name.clone(),
        name: endpoint.name.clone(),
        address: endpoint.address,
        mac: endpoint.mac,
        gateway: endpoint.gateway,
    };
    Ok(namespaces::net::attach(pid, &end)?)
}

/// Why the runtime refused, with the exit status that docker gives: 127 not found, 126 not executable, 128 else.
pub(crate) fn refused(error: &cgroups::Error) -> Failure {
    let mut message = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        message = format!("{message}: {cause}");
        source = cause.source();
    }
    let has = |words: &str| message.contains(words);
    let status = if has("executable file not found") || has("no such file or directory") {
        127
    } else if has("permission denied") || has("is a directory") {
        126
    } else {
        128
    };
    Failure { status, message }
}

/// The standard streams of a process without a terminal: our ends and its ends.
pub(crate) struct Pipes {
    tty: bool,
    theirs: [OwnedFd; 3],
    input: Option<OwnedFd>,
    outputs: Vec<(u8, OwnedFd)>,
}

impl Pipes {
    /// Makes them, close-on-exec: the runtime makes copies at 0, 1 and 2.
    pub(crate) fn new(stdin: bool, tty: bool) -> Result<Pipes> {
        let null = || std::fs::File::open("/dev/null").map(OwnedFd::from);
        if tty {
            return Ok(Pipes { tty, theirs: [null()?, null()?, null()?], input: None, outputs: Vec::new() });
        }
        let (their_input, input) = match stdin {
            true => pipe2(OFlag::O_CLOEXEC).map(|(read, write)| (read, Some(write)))?,
            false => (null()?, None),
        };
        let (out, their_out) = pipe2(OFlag::O_CLOEXEC)?;
        let (err, their_err) = pipe2(OFlag::O_CLOEXEC)?;
        Ok(Pipes {
            tty,
            theirs: [their_input, their_out, their_err],
            input,
            outputs: vec![(1, out), (2, err)],
        })
    }

    /// The process's ends.
    pub(crate) fn stdio(&self) -> Stdio<'_> {
        if self.tty { Stdio::Inherit } else { Stdio::Fds(self.theirs.each_ref().map(|fd| fd.as_fd())) }
    }

    /// Ours. The others are closed: only the process holds them now, so that its end is the end of its output.
    pub(crate) fn ours(self) -> (Option<OwnedFd>, Vec<(u8, OwnedFd)>) {
        (self.input, self.outputs)
    }
}
