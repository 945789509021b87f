//! What happened while no daemon was there. The monitors went on: they kept the logs, and wrote down how their
//! containers ended. At its start the daemon reads that, finds those that still run, and sweeps up what a crash left.

use super::{
    Engine, blocking,
    container::{Container, Record, Status, lock},
    disk,
    ends::{self, follow},
    failure::Result,
    health, monitors, sessions,
};
use crate::monitor::wire::{Exit, Report};
use bollard_stubs::models::RestartPolicyNameEnum;
use std::sync::Arc;

/// Brings the engine's knowledge up to date.
pub(crate) async fn reconcile(engine: &Arc<Engine>) -> Result<()> {
    for entry in std::fs::read_dir(engine.data_root.join("containers"))?.flatten() {
        let dir = entry.path();
        match disk::read_json::<Record>(&dir.join("container.json")) {
            Ok(Some(record)) => {
                // Names first: a daemon that comes up must not give one away twice.
                if engine.take_name(&record.name, &record.id).is_err() {
                    eprintln!(
                        "warning: two containers are called {}; {} keeps no name",
                        record.name, record.id
                    );
                }
                let container = Container::new(record, &engine.data_root, &engine.exec_root);
                engine.insert(Arc::new(container));
            }
            // Never acknowledged: its directory was made, its record was not.
            Ok(None) => disk::remove_dir(&dir)?,
            Err(e) => eprintln!("warning: a container is left out, its directory stays: {}", e.message),
        }
    }
    for container in engine.containers() {
        if let Err(e) = meet(engine, &container).await {
            eprintln!("warning: container {}: {}", container.id, e.message);
        }
    }
    sessions::reconcile(engine).await?;
    sweep(engine)?;
    Ok(())
}

/// Meets one container again.
async fn meet(engine: &Arc<Engine>, container: &Arc<Container>) -> Result<()> {
    let record = container.record();
    if record.state.status == Status::Dead {
        return engine.discard(container, true).await;
    }
    let socket = monitors::socket(&engine.exec_root, &container.id);
    let found = monitors::find(&mut lock(&container.live), &socket);
    if let Some(mut reports) = found {
        container.phase.send_modify(|p| p.monitor = true);
        // A monitor that is there says first how things stand.
        match reports.next().await {
            Some(Report::Started { pid, at, ports }) => {
                container.change(|r| {
                    if !r.state.status.alive() {
                        r.state.status = Status::Running;
                    }
                    r.state.pid = pid;
                    r.state.started_at = at;
                    r.state.ports = ports;
                })?;
                for settings in record.networks.values() {
                    let address = settings.ip_address.as_deref().and_then(|a| a.parse().ok());
                    if let (Some(network), Some(address)) = (&settings.network_id, address) {
                        engine.networks.renew(network, address, &container.id);
                    }
                }
                health::watch(engine, container);
                tokio::spawn(follow(engine.clone(), container.clone(), reports, None));
                return Ok(());
            }
            Some(Report::Exited(exit)) => ends::end(engine, container, &exit),
            _ => {}
        }
        // It is about to end.
        while reports.next().await.is_some() {}
        ends::settle(engine, container).await;
        return Ok(());
    }
    lock(&container.live).clear(&socket);
    let exit: Option<Exit> = disk::read_json(&container.dir.join("exit.json")).ok().flatten();
    let unseen = exit.as_ref().is_some_and(|e| e.at != record.state.finished_at);
    if record.state.status.alive() || unseen {
        // Without a word of the monitor's: the machine went down (docker says 255), or the monitor was killed too.
        let rebooted = !container.run.exists();
        let lost = Exit { code: if rebooted { 255 } else { 137 }, oom: false, at: super::now() };
        ends::end(engine, container, &exit.unwrap_or(lost));
        let (with, id) = (engine.clone(), container.id.clone());
        let _ = blocking(move || Ok(with.runtime.delete(&id, true)?)).await;
        ends::settle(engine, container).await;
    } else if record.auto_remove() && record.state.status == Status::Exited {
        engine.discard(container, true).await?;
    } else if container.run.exists() {
        disk::remove_dir(&container.run)?;
    }
    // What shall always run does so again after a reboot, also if it was stopped by hand before.
    let policy = record.host.restart_policy.and_then(|p| p.name);
    let waiting = record.state.status == Status::Restarting;
    let always = policy == Some(RestartPolicyNameEnum::ALWAYS)
        && record.state.status == Status::Exited
        && record.state.stopped_by_hand;
    if waiting || always {
        let (engine, container) = (engine.clone(), container.clone());
        tokio::spawn(async move {
            if let Err(e) = engine.start(&container).await {
                eprintln!("warning: container {} could not be started again: {}", container.id, e.message);
            }
        });
    }
    Ok(())
}

/// Removes what belongs to no container: run directories, runtime state and with it control groups, bridges.
fn sweep(engine: &Engine) -> Result<()> {
    for state in engine.runtime.list().unwrap_or_default() {
        if engine.container(&state.id).is_err() {
            let _ = engine.runtime.delete(&state.id, true);
        }
    }
    for entry in std::fs::read_dir(engine.exec_root.join("containers"))?.flatten() {
        if engine.container(&entry.file_name().to_string_lossy()).is_err() {
            disk::remove_dir(&entry.path())?;
        }
    }
    for entry in std::fs::read_dir(engine.data_root.join("tmp"))?.flatten() {
        sweep_build(&entry.path());
        disk::remove_dir(&entry.path())?;
    }
    if !engine.rootless {
        engine.networks.sweep();
    }
    Ok(())
}

/// Removes the containers of a build that was killed in the middle of a RUN.
pub(crate) fn sweep_build(dir: &std::path::Path) {
    let scratch = dir.join("scratch");
    if !scratch.is_dir() {
        return;
    }
    let runtime = cgroups::runtime::Runtime::new(scratch);
    for state in runtime.list().unwrap_or_default() {
        let _ = runtime.delete(&state.id, true);
    }
}
