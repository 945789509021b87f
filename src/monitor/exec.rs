//! Another process in a container that runs: `docker exec`.

use super::{
    container::{Pipes, refused},
    pump::Pump,
    wire::{Exit, Report},
};
use crate::engine::{
    disk::{self, Durable},
    failure::{Failure, Result},
    now,
    sessions::ExecPlan,
};
use cgroups::runtime::Runtime;
use layers::{bundle::Overrides, root::Root};
use oci_spec::{
    image::ImageConfiguration,
    runtime::{Process, Spec},
};
use std::{
    os::{fd::OwnedFd, unix::net::UnixListener},
    path::Path,
};

/// The role `exec`: `dir` is the session's directory with the plan.
pub(crate) fn main(dir: &Path, listener: UnixListener) -> Result<()> {
    let plan: ExecPlan =
        disk::read_json(&dir.join("plan.json"))?.ok_or_else(|| Failure::internal("no plan"))?;
    // The client that closes its input closes the process's, always: nobody else will ever be attached to it.
    let mut pump = Pump::new(listener, true);
    let pidfd = match start(&plan, &mut pump) {
        Ok(pidfd) => pidfd,
        Err(failure) => {
            let _ = pump.meet();
            let message = format!("OCI runtime exec failed: {}", failure.message);
            // As docker does: in the place of its output, and in the answer to who asked.
            pump.say(&format!("{message}\r\n"));
            pump.report(Report::Failed { code: i64::from(failure.status), message });
            pump.until_heard()?;
            return pump.farewell();
        }
    };
    let code = pump.run(pidfd)?;
    pump.drain()?;
    let exit = Exit { code, oom: false, at: now() };
    disk::write_json(&dir.join("exit.json"), &exit, Durable::Process)?;
    pump.report(Report::Exited(exit));
    pump.until_heard()?;
    pump.farewell()
}

fn start(plan: &ExecPlan, pump: &mut Pump) -> Result<OwnedFd> {
    let failed = |e: Failure| Failure { status: 128, ..e };
    let tty = plan.config.tty.unwrap_or_default();
    let process = process(plan).map_err(failed)?;
    let pipes = Pipes::new(plan.config.attach_stdin.unwrap_or_default(), tty).map_err(failed)?;
    let runtime = Runtime::new(&plan.runtime_root);
    // Before the process begins: it may be over in no time.
    pump.meet().map_err(failed)?;
    let running = runtime
        .exec(&plan.container, &process, pipes.stdio(), &Default::default())
        .map_err(|e| refused(&e))?;
    if let (Some(console), Some((height, width))) = (&running.console, plan.console) {
        // As it was before, if it will not: only its program can tell.
        let _ = namespaces::terminal::resize(console, height, width);
    }
    let (input, outputs) = pipes.ours();
    pump.connect(input, outputs, running.console).map_err(failed)?;
    pump.report(Report::Started { pid: running.pid.as_raw(), at: now(), ports: Vec::new() });
    Ok(running.pidfd)
}

/// The container's own process, but for what the session asks.
fn process(plan: &ExecPlan) -> Result<Process> {
    let mut spec: Spec = disk::read_json(&plan.bundle.join("config.json"))?
        .ok_or_else(|| Failure::internal("the container's config.json is gone"))?;
    // Names are looked up in the root as the container sees it, mounts and all.
    let root = Root::open(&Path::new("/proc").join(plan.pid.to_string()).join("root"))?;
    let cwd = spec.process().as_ref().map(|p| p.cwd().display().to_string());
    let overrides = Overrides {
        entrypoint: Some(Vec::new()),
        cmd: plan.config.cmd.clone(),
        env: plan.env.clone(),
        cwd: plan.config.working_dir.clone().filter(|d| !d.is_empty()).or(cwd),
        user: plan.user.clone(),
    };
    layers::bundle::apply(&mut spec, &ImageConfiguration::default(), &overrides, &root)?;
    let mut process = spec.process().clone().unwrap_or_default();
    process.set_terminal(plan.config.tty);
    let mut env = process.env().clone().unwrap_or_default();
    if plan.config.tty.unwrap_or_default() && !env.iter().any(|e| e.starts_with("TERM=")) {
        env.push("TERM=xterm".into());
        process.set_env(Some(env));
    }
    crate::engine::spec::exec_privileges(&mut process, plan.config.privileged.unwrap_or_default())?;
    Ok(process)
}
