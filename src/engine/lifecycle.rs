//! Start, stop, kill, pause, remove: what moves a container from one state to the next.

use super::{
    Engine,
    container::{Container, Status, lock},
    disk, etc,
    failure::{Failure, Result},
    health,
    monitors::{self, Reports},
    plan,
};
use crate::monitor::wire::{Exit, Order, Report};
use bollard_stubs::models::RestartPolicyNameEnum;
use std::{sync::Arc, time::Duration};
use tokio::process::Child;

/// How long docker waits before SIGKILL when nobody says.
const STOP_TIMEOUT: i64 = 10;

impl Engine {
    /// Starts a container; false if it runs already.
    pub(crate) async fn start(self: &Arc<Engine>, container: &Arc<Container>) -> Result<bool> {
        let _one = container.operation.lock().await;
        match container.status() {
            Status::Running => return Ok(false),
            Status::Paused => {
                return Err(Failure::conflict("cannot start a paused container, try unpause instead"));
            }
            Status::Dead => {
                return Err(Failure::conflict("container is marked for removal and cannot be started"));
            }
            _ => {}
        }
        container.change(|r| r.state.stopped_by_hand = false)?;
        self.launch(container).await?;
        Ok(true)
    }

    /// The start itself. The caller holds `operation`.
    async fn launch(self: &Arc<Engine>, container: &Arc<Container>) -> Result<()> {
        // The monitor of the run before may still be tidying up.
        let _ = container.phase.subscribe().wait_for(|p| !p.monitor).await;
        let failure = match self.begin(container).await {
            Err(failure) => failure,
            Ok((mut reports, child)) => match reports.next().await {
                Some(Report::Started { pid, at, ports }) => {
                    container.change(|r| {
                        r.state.status = Status::Running;
                        r.state.pid = pid;
                        r.state.started_at = at;
                        r.state.ports = ports;
                        r.state.error.clear();
                        r.state.exit_code = 0;
                        r.state.oom_killed = false;
                    })?;
                    self.tell(container, "start", &[]);
                    health::watch(self, container);
                    tokio::spawn(follow(self.clone(), container.clone(), reports, Some(child)));
                    return Ok(());
                }
                other => failed(container, other, child).await,
            },
        };
        self.networks.release(&container.id);
        lock(&container.live).clear(&monitors::socket(&self.exec_root, &container.id));
        let code = exit_code(&failure);
        container.change(|r| {
            r.state.error.clone_from(&failure.message);
            r.state.exit_code = code;
            if r.state.status != Status::Created {
                r.state.status = Status::Exited;
            }
        })?;
        container.phase.send_modify(|p| {
            p.ends += 1;
            p.exit_code = code;
            p.monitor = false;
        });
        if container.look(|r| r.auto_remove()) {
            self.discard(container, true).await?;
        }
        Err(failure)
    }

    /// Plans, and starts the monitor.
    async fn begin(self: &Arc<Engine>, container: &Arc<Container>) -> Result<(Reports, Child)> {
        disk::make_dir(&container.run, 0o710)?;
        let _ = std::fs::remove_file(container.dir.join("exit.json"));
        if container.look(|r| r.lower.iter().any(|l| !l.is_dir())) {
            let image = self.store.image(&container.look(|r| r.manifest.clone()))?;
            let lower = self.store.unpack(&image)?;
            container.change(|r| r.lower = lower)?;
        }
        let plan = {
            let (engine, container) = (self.clone(), container.clone());
            blocking(move || plan::make(&engine, &container)).await?
        };
        disk::write_json(&container.run.join("plan.json"), &plan, disk::Durable::Process)?;
        if plan.record.explain {
            std::fs::File::create(container.run.join("explain"))?;
        }
        let socket = monitors::socket(&self.exec_root, &container.id);
        let spawned = monitors::spawn(&mut lock(&container.live), &socket, "container", &container.run)?;
        container.phase.send_modify(|p| p.monitor = true);
        for endpoint in &plan.endpoints {
            etc::refresh(self, &endpoint.network);
        }
        Ok(spawned)
    }

    /// Asks it to stop, waits, and kills it.
    pub(crate) async fn stop(
        &self,
        container: &Container,
        signal_name: Option<&str>,
        timeout: Option<i64>,
    ) -> Result<bool> {
        let _one = container.operation.lock().await;
        container.change(|r| r.state.stopped_by_hand = true)?;
        if !container.status().alive() {
            // One that waits for its restart will not get it.
            return container.change(|r| {
                let waiting = r.state.status == Status::Restarting;
                if waiting {
                    r.state.status = Status::Exited;
                }
                waiting
            });
        }
        self.halt(container, signal_name, timeout).await?;
        self.tell(container, "stop", &[]);
        Ok(true)
    }

    async fn halt(
        &self,
        container: &Container,
        signal_name: Option<&str>,
        timeout: Option<i64>,
    ) -> Result<()> {
        let (own_signal, own_timeout) =
            container.look(|r| (r.config.stop_signal.clone(), r.config.stop_timeout));
        let name = signal_name.map(str::to_owned).or(own_signal).filter(|s| !s.is_empty());
        let number = signal(name.as_deref().unwrap_or("TERM"))?;
        let timeout = timeout.or(own_timeout).unwrap_or(STOP_TIMEOUT);
        self.signal(container, number)?;
        if stopped_within(container, timeout).await {
            return Ok(());
        }
        self.signal(container, libc::SIGKILL)?;
        if stopped_within(container, 10).await {
            return Ok(());
        }
        Err(Failure::internal(format!("container {} did not end though it was killed", container.id)))
    }

    /// `docker kill`
    pub(crate) async fn kill(&self, container: &Container, signal_name: &str) -> Result<()> {
        let number = signal(signal_name)?;
        if !container.status().alive() {
            return Err(Failure::conflict(format!(
                "cannot kill container: {}: container {} is not running",
                container.name(),
                container.id
            )));
        }
        let stopping = number == libc::SIGKILL
            || container.look(|r| r.config.stop_signal.as_deref().and_then(|s| signal(s).ok()))
                == Some(number);
        if stopping {
            container.change(|r| r.state.stopped_by_hand = true)?;
        }
        self.signal(container, number)?;
        if number == libc::SIGKILL && !stopped_within(container, 10).await {
            return Err(Failure::internal(format!(
                "container {} did not end though it was killed",
                container.id
            )));
        }
        Ok(())
    }

    fn signal(&self, container: &Container, number: i32) -> Result<()> {
        let sent = lock(&container.live).order(Order::Signal(number));
        // It may have ended in this very moment: then there is nobody left to be told, and that is no failure.
        if sent.is_err() && container.status().alive() {
            sent?;
        }
        self.tell(container, "kill", &[("signal", number.to_string())]);
        // A frozen process dies when it thaws.
        if container.status() == Status::Paused {
            self.runtime.resume(&container.id)?;
            container.change(|r| r.state.status = Status::Running)?;
        }
        Ok(())
    }

    /// Freezes it, or lets it go on.
    pub(crate) async fn pause(&self, container: &Container, freeze: bool) -> Result<()> {
        let _one = container.operation.lock().await;
        match (container.status(), freeze) {
            (Status::Running, true) => self.runtime.pause(&container.id)?,
            (Status::Paused, false) => self.runtime.resume(&container.id)?,
            (Status::Paused, true) => {
                return Err(Failure::conflict(format!("container {} is already paused", container.id)));
            }
            (Status::Running, false) => {
                return Err(Failure::conflict(format!("container {} is not paused", container.id)));
            }
            _ => return Err(Failure::conflict(format!("container {} is not running", container.id))),
        }
        container.change(|r| r.state.status = if freeze { Status::Paused } else { Status::Running })?;
        self.tell(container, if freeze { "pause" } else { "unpause" }, &[]);
        Ok(())
    }

    /// Stops it if it runs, and starts it.
    pub(crate) async fn restart(
        self: &Arc<Engine>,
        container: &Arc<Container>,
        signal_name: Option<&str>,
        timeout: Option<i64>,
    ) -> Result<()> {
        let _one = container.operation.lock().await;
        if container.status().alive() {
            // By hand, so that neither the restart policy nor --rm acts on this end.
            container.change(|r| r.state.stopped_by_hand = true)?;
            container.phase.send_modify(|p| p.restarting = true);
            let halted = self.halt(container, signal_name, timeout).await;
            let _ = container.phase.subscribe().wait_for(|p| !p.monitor).await;
            container.phase.send_modify(|p| p.restarting = false);
            halted?;
        }
        container.change(|r| r.state.stopped_by_hand = false)?;
        self.launch(container).await?;
        self.tell(container, "restart", &[]);
        Ok(())
    }

    /// `docker rm`
    pub(crate) async fn remove(&self, container: &Container, force: bool, volumes: bool) -> Result<()> {
        let _one = container.operation.lock().await;
        let status = container.status();
        if status.alive() && !force {
            let state = if status == Status::Paused { "paused" } else { "running" };
            let advice = if status == Status::Paused { "unpause and stop" } else { "stop" };
            return Err(Failure::conflict(format!(
                "cannot remove container \"/{}\": container is {state}: {advice} the container before removing or force remove",
                container.name()
            )));
        }
        container.change(|r| r.state.stopped_by_hand = true)?;
        if status.alive() {
            self.signal(container, libc::SIGKILL)?;
            if !stopped_within(container, 10).await {
                return Err(Failure::internal(format!(
                    "container {} did not end though it was killed",
                    container.id
                )));
            }
        }
        let _ = container.phase.subscribe().wait_for(|p| !p.monitor).await;
        self.discard(container, volumes).await
    }

    /// Takes away all that is left of a container that does not run. The record goes last: after a crash, what is left
    /// is known to be dead, and is removed at the next start.
    pub(crate) async fn discard(&self, container: &Container, volumes: bool) -> Result<()> {
        if container.phase.borrow().removed {
            return Ok(());
        }
        container.change(|r| r.state.status = Status::Dead)?;
        let (dir, run) = (container.dir.clone(), container.run.clone());
        blocking(move || {
            disk::remove_dir(&run)?;
            disk::remove_dir(&dir)
        })
        .await?;
        self.forget(container);
        lock(&container.live).clear(&monitors::socket(&self.exec_root, &container.id));
        if volumes {
            self.discard_volumes(container);
        }
        self.tell(container, "destroy", &[]);
        container.phase.send_modify(|p| {
            p.removed = true;
            p.alive = false;
        });
        Ok(())
    }

    /// The volumes that were made for this container and have no name that anyone gave.
    fn discard_volumes(&self, container: &Container) {
        for mount in container.record().mounts {
            let Some(name) = mount.name else { continue };
            let anonymous =
                self.volumes.get(&name).is_ok_and(|v| v.labels.contains_key("com.docker.volume.anonymous"));
            let used = self
                .containers()
                .iter()
                .any(|c| c.look(|r| r.mounts.iter().any(|m| m.name.as_ref() == Some(&name))));
            if anonymous
                && !used
                && let Err(e) = self.volumes.remove(&name)
            {
                eprintln!("warning: volume {name} stays: {}", e.message);
            }
        }
    }
}

/// Why it did not start.
async fn failed(container: &Container, report: Option<Report>, mut child: Child) -> Failure {
    let status = child.wait().await;
    match report {
        Some(Report::Failed { code, message }) => {
            let message = format!("failed to create task for container: {message}");
            Failure { status: if code == 128 { 500 } else { 400 }, message }
        }
        _ => {
            let log = std::fs::read_to_string(container.run.join("monitor.log")).unwrap_or_default();
            let status = status.map_or_else(|e| e.to_string(), |s| s.to_string());
            Failure::internal(format!("the container's monitor ended ({status}): {}", log.trim()))
        }
    }
}

/// Listens to a monitor until it ends, and does what is then to be done. (A start follows the monitor, whose end may
/// lead to a start: the type of such a circle has to be written down.)
pub(crate) fn follow(
    engine: Arc<Engine>,
    container: Arc<Container>,
    reports: Reports,
    child: Option<Child>,
) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(followed(engine, container, reports, child))
}

async fn followed(
    engine: Arc<Engine>,
    container: Arc<Container>,
    mut reports: Reports,
    child: Option<Child>,
) {
    let mut ended = false;
    while let Some(report) = reports.next().await {
        if let Report::Exited(exit) = report {
            ended = true;
            end(&engine, &container, &exit);
        }
    }
    if let Some(mut child) = child {
        // It closed its socket by ending: this does not wait.
        let _ = child.wait().await;
    }
    if !ended {
        // It wrote its last word, or it was killed: then the container must not outlive it unwatched.
        let exit = disk::read_json::<Exit>(&container.dir.join("exit.json")).ok().flatten();
        let exit = exit.unwrap_or(Exit { code: 137, oom: false, at: super::now() });
        end(&engine, &container, &exit);
        let (engine, id) = (engine.clone(), container.id.clone());
        let _ = blocking(move || Ok(engine.runtime.delete(&id, true)?)).await;
    }
    settle(&engine, &container).await;
}

/// Records an end. Those who wait are told at once; the monitor still has to tidy up.
pub(crate) fn end(engine: &Engine, container: &Container, exit: &Exit) {
    let changed = container.change(|r| {
        r.state.status = Status::Exited;
        r.state.pid = 0;
        r.state.exit_code = exit.code;
        r.state.oom_killed = exit.oom;
        r.state.finished_at.clone_from(&exit.at);
        for settings in r.networks.values_mut() {
            settings.ip_address = None;
        }
    });
    if let Err(e) = changed {
        eprintln!("warning: the end of container {} is not recorded: {}", container.id, e.message);
    }
    if exit.oom {
        engine.tell(container, "oom", &[]);
    }
    engine.tell(container, "die", &[("exitCode", exit.code.to_string())]);
    container.phase.send_modify(|p| {
        p.ends += 1;
        p.exit_code = exit.code;
    });
}

/// The monitor is gone: gives back what the container held, then restarts or removes it if that was asked.
pub(crate) async fn settle(engine: &Arc<Engine>, container: &Arc<Container>) {
    engine.networks.release(&container.id);
    let run = container.run.clone();
    let _ = blocking(move || disk::remove_dir(&run)).await;
    lock(&container.live).clear(&monitors::socket(&engine.exec_root, &container.id));
    for network in container.look(|r| r.networks.keys().cloned().collect::<Vec<_>>()) {
        etc::refresh(engine, &network);
    }
    let restarting = container.phase.borrow().restarting;
    container.phase.send_modify(|p| p.monitor = false);
    if restarting || container.status() == Status::Dead {
        return;
    }
    if container.look(|r| r.auto_remove()) {
        let _one = container.operation.lock().await;
        if let Err(e) = engine.discard(container, true).await {
            eprintln!("warning: container {} could not be removed: {}", container.id, e.message);
        }
        return;
    }
    if restart_due(container) {
        let (engine, container) = (engine.clone(), container.clone());
        tokio::spawn(async move { again(&engine, &container).await });
    }
}

/// Whether the restart policy wants it to run.
fn restart_due(container: &Container) -> bool {
    container.look(|r| {
        let policy = r.host.restart_policy.clone().unwrap_or_default();
        let most = policy.maximum_retry_count.unwrap_or_default();
        !r.state.stopped_by_hand
            && match policy.name {
                Some(RestartPolicyNameEnum::ALWAYS | RestartPolicyNameEnum::UNLESS_STOPPED) => true,
                Some(RestartPolicyNameEnum::ON_FAILURE) => {
                    r.state.exit_code != 0 && (most <= 0 || r.state.restart_count < most)
                }
                _ => false,
            }
    })
}

/// Starts it again, after a pause that doubles each time: a program that fails at once must not keep the machine busy.
/// One that ran for ten seconds begins with the short pause again.
async fn again(engine: &Arc<Engine>, container: &Arc<Container>) {
    let ran = container.look(|r| {
        let at = |text: &str| text.parse::<jiff::Timestamp>().ok();
        Some(at(&r.state.finished_at)?.as_second() - at(&r.state.started_at)?.as_second())
    });
    let count = if ran.unwrap_or_default() >= 10 { 0 } else { container.look(|r| r.state.restart_count) };
    let pause = Duration::from_millis(100 << count.clamp(0, 9)).min(Duration::from_secs(60));
    let _ = container.change(|r| {
        r.state.status = Status::Restarting;
        r.state.restart_count += 1;
    });
    tokio::time::sleep(pause).await;
    let _one = container.operation.lock().await;
    if container.status() == Status::Restarting
        && let Err(e) = Box::pin(engine.launch(container)).await
    {
        eprintln!("warning: container {} could not be restarted: {}", container.id, e.message);
    }
}

/// Waits until it has no processes; a negative time is for ever.
async fn stopped_within(container: &Container, seconds: i64) -> bool {
    let mut phase = container.phase.subscribe();
    let stopped = phase.wait_for(|p| !p.alive || p.removed);
    match u64::try_from(seconds) {
        Err(_) => stopped.await.is_ok(),
        Ok(seconds) => tokio::time::timeout(Duration::from_secs(seconds), stopped).await.is_ok(),
    }
}

/// The number of a signal, given as docker takes it: `9`, `KILL`, `SIGKILL`, `RTMIN+1`.
pub(crate) fn signal(text: &str) -> Result<i32> {
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let bad = || Failure::bad(format!("invalid signal: {text}"));
    let number = if let Ok(number) = name.parse::<i32>() {
        number
    } else if let Some(n) = name.strip_prefix("RTMIN") {
        34 + if n.is_empty() { 0 } else { n.parse::<i32>().map_err(|_| bad())? }
    } else if let Some(n) = name.strip_prefix("RTMAX") {
        64 + if n.is_empty() { 0 } else { n.parse::<i32>().map_err(|_| bad())? }
    } else {
        format!("SIG{name}").parse::<nix::sys::signal::Signal>().map_err(|_| bad())? as i32
    };
    if (1..=64).contains(&number) { Ok(number) } else { Err(bad()) }
}

/// The exit status that docker gives a container that could not be started (its client looks for the same words).
fn exit_code(failure: &Failure) -> i64 {
    let has = |words: &str| failure.message.contains(words);
    if has("executable file not found") || has("no such file or directory") {
        127
    } else if has("permission denied") || has("is a directory") {
        126
    } else {
        128
    }
}

/// Runs what may block (disks, helpers, other programs) beside the requests that are being answered.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|e| Failure::internal(format!("a worker failed: {e}")))?
}

/// `docker rename`
pub(crate) fn rename(engine: &Engine, container: &Container, name: &str) -> Result<()> {
    let name = name.trim_start_matches('/');
    if name.is_empty() {
        return Err(Failure::bad("Neither old nor new names may be empty"));
    }
    let old = container.name();
    if old == name {
        return Err(Failure::bad("Renaming a container with the same name as its current name"));
    }
    engine.take_name(name, &container.id)?;
    container.change(|r| r.name = name.to_owned())?;
    engine.free_name(&old);
    engine.tell(container, "rename", &[("oldName", format!("/{old}"))]);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_by_number_and_name() {
        for (text, number) in
            [("9", 9), ("KILL", 9), ("sigterm", 15), ("SIGHUP", 1), ("RTMIN+3", 37), ("SIGRTMAX-1", 63)]
        {
            assert_eq!(signal(text).ok(), Some(number), "{text}");
        }
        for bad in ["", "0", "65", "SIGNOT", "-1", "RTMIN+99"] {
            assert!(signal(bad).is_err(), "{bad}");
        }
    }
}
