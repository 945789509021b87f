//! How a container goes away for good, and what goes with it.

use super::{
    Engine, blocking,
    container::{Container, Status, lock},
    disk,
    failure::{Failure, Result},
    lifecycle::stopped_within,
    monitors,
};

impl Engine {
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
