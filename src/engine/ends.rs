//! The end of a container's program: heard from its monitor, recorded, and followed by what was asked for that case,
//! which is nothing, a restart, or (`--rm`) its removal.

use super::{
    Engine, blocking,
    container::{Container, Status, lock},
    disk, etc,
    monitors::{self, Reports},
};
use crate::monitor::wire::{Exit, Report};
use bollard_stubs::models::RestartPolicyNameEnum;
use std::{sync::Arc, time::Duration};
use tokio::process::Child;

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
