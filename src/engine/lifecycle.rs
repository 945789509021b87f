//! Start, stop, kill, pause, restart: what a client asks for that moves a container from one state to the next.
//!
//! What happens without being asked, the end of its program, is in [`ends`](super::ends); how it goes away for good,
//! in [`removal`](super::removal).

use super::{
    Engine, blocking,
    container::{Container, Status, lock},
    disk,
    ends::follow,
    etc,
    failure::{Failure, Result},
    health,
    monitors::{self, Reports},
    plan, signal,
};
use crate::monitor::wire::{Order, Report};
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
    pub(super) async fn launch(self: &Arc<Engine>, container: &Arc<Container>) -> Result<()> {
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
        let number = signal::number(name.as_deref().unwrap_or("TERM"))?;
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
        let number = signal::number(signal_name)?;
        if !container.status().alive() {
            return Err(Failure::conflict(format!(
                "cannot kill container: {}: container {} is not running",
                container.name(),
                container.id
            )));
        }
        let stopping = number == libc::SIGKILL
            || container.look(|r| r.config.stop_signal.as_deref().and_then(|s| signal::number(s).ok()))
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

    /// Has its monitor send it a signal.
    pub(super) fn signal(&self, container: &Container, number: i32) -> Result<()> {
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

/// Waits until it has no processes; a negative time is for ever.
pub(super) async fn stopped_within(container: &Container, seconds: i64) -> bool {
    let mut phase = container.phase.subscribe();
    let stopped = phase.wait_for(|p| !p.alive || p.removed);
    match u64::try_from(seconds) {
        Err(_) => stopped.await.is_ok(),
        Ok(seconds) => tokio::time::timeout(Duration::from_secs(seconds), stopped).await.is_ok(),
    }
}
