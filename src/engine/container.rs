//! A container as the engine keeps it: a record on disk, and what is known of it while it runs.

use super::{
    disk,
    failure::{Failure, Result},
    health::Health,
    monitors::Live,
};
use bollard_stubs::models::{ContainerCreateBody, EndpointSettings, HostConfig, MountPoint};
use oci_spec::image::Descriptor;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};
use tokio::sync::watch;

/// What docker shows where a time is not known.
pub(crate) const NO_TIME: &str = "0001-01-01T00:00:00Z";

/// docker's states.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    /// Never started.
    #[default]
    Created,
    /// Its program runs.
    Running,
    /// Its processes are frozen.
    Paused,
    /// It ended, and will be started again.
    Restarting,
    /// It ended.
    Exited,
    /// It is being removed, or could not be removed wholly.
    Dead,
}

impl Status {
    /// As the API spells it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Status::Created => "created",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Restarting => "restarting",
            Status::Exited => "exited",
            Status::Dead => "dead",
        }
    }

    /// Whether it has processes.
    pub(crate) fn alive(self) -> bool {
        matches!(self, Status::Running | Status::Paused)
    }
}

/// What changes while it lives.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) status: Status,
    pub(crate) pid: i32,
    pub(crate) exit_code: i64,
    pub(crate) error: String,
    pub(crate) oom_killed: bool,
    pub(crate) started_at: String,
    pub(crate) finished_at: String,
    pub(crate) restart_count: i64,
    /// Somebody asked it to stop: no restart policy applies, but for `always`' at the daemon's start.
    pub(crate) stopped_by_hand: bool,
    /// The host ports that were really taken.
    #[serde(default)]
    pub(crate) ports: Vec<Published>,
}

impl Default for State {
    fn default() -> State {
        State {
            status: Status::Created,
            pid: 0,
            exit_code: 0,
            error: String::new(),
            oom_killed: false,
            started_at: NO_TIME.into(),
            finished_at: NO_TIME.into(),
            restart_count: 0,
            stopped_by_hand: false,
            ports: Vec::new(),
        }
    }
}

/// One published port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Published {
    /// In the container.
    pub(crate) port: u16,
    /// `tcp` or `udp`.
    pub(crate) protocol: String,
    /// The host's address; `0.0.0.0` and `::` for all.
    pub(crate) host_ip: String,
    /// The host's port; 0 asks for any.
    pub(crate) host_port: u16,
}

/// All that lasts of a container: `container.json` in its directory.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) created: String,
    /// The image as it was named.
    pub(crate) image: String,
    /// The image's ID.
    pub(crate) image_id: String,
    /// Its manifest.
    pub(crate) manifest: Descriptor,
    /// The unpacked layers, topmost first, as chain IDs: what garbage collection must keep.
    pub(crate) chain: Vec<oci_spec::image::Digest>,
    /// Their directories.
    pub(crate) lower: Vec<PathBuf>,
    /// The configuration, with the image's merged in.
    pub(crate) config: ContainerCreateBody,
    pub(crate) host: HostConfig,
    /// By network name: what was asked, and while it runs what was given.
    pub(crate) networks: BTreeMap<String, EndpointSettings>,
    /// By network name: the outer end of its cable.
    #[serde(default)]
    pub(crate) devices: BTreeMap<String, String>,
    pub(crate) mounts: Vec<MountPoint>,
    /// Whether its starts are recorded step by step.
    #[serde(default)]
    pub(crate) explain: bool,
    #[serde(default)]
    pub(crate) state: State,
}

impl Record {
    /// Program and arguments.
    pub(crate) fn command(&self) -> Vec<String> {
        let words = |list: &Option<Vec<String>>| list.clone().unwrap_or_default();
        [words(&self.config.entrypoint), words(&self.config.cmd)].concat()
    }

    /// Whether it has a terminal.
    pub(crate) fn tty(&self) -> bool {
        self.config.tty.unwrap_or_default()
    }

    /// Whether it is removed when it ends.
    pub(crate) fn auto_remove(&self) -> bool {
        self.host.auto_remove.unwrap_or_default()
    }

    /// `none`, `host`, `bridge`, `container:ID`, or a network's name.
    pub(crate) fn network_mode(&self) -> &str {
        match self.host.network_mode.as_deref() {
            None | Some("" | "default") => "bridge",
            Some(mode) => mode,
        }
    }
}

/// What those who wait for a container are told.
#[derive(Clone, Debug, Default)]
pub(crate) struct Phase {
    /// Whether it has processes.
    pub(crate) alive: bool,
    /// How often it has ended (or failed to start) since this daemon knows it.
    pub(crate) ends: u64,
    /// With which status.
    pub(crate) exit_code: i64,
    /// It has a monitor, which may still be tidying up.
    pub(crate) monitor: bool,
    /// It is being stopped only to be started again.
    pub(crate) restarting: bool,
    /// It is gone.
    pub(crate) removed: bool,
}

/// A container.
pub(crate) struct Container {
    /// Its ID.
    pub(crate) id: String,
    /// What lasts of it.
    pub(crate) dir: PathBuf,
    /// What a reboot may take.
    pub(crate) run: PathBuf,
    record: Mutex<Record>,
    /// What its checks said.
    pub(crate) health: Mutex<Option<Health>>,
    /// Its monitor, while there is one.
    pub(crate) live: Mutex<Live>,
    /// Who waits for it looks here.
    pub(crate) phase: watch::Sender<Phase>,
    /// Held by whoever starts, stops or removes it: one at a time.
    pub(crate) operation: tokio::sync::Mutex<()>,
}

/// Locks, also after a panic of another holder: the data is valid after each single assignment.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Container {
    /// One that is read from disk, or about to be written there.
    pub(crate) fn new(record: Record, data_root: &Path, exec_root: &Path) -> Container {
        let phase = Phase {
            alive: record.state.status.alive(),
            exit_code: record.state.exit_code,
            ..Phase::default()
        };
        Container {
            id: record.id.clone(),
            dir: data_root.join("containers").join(&record.id),
            run: exec_root.join("containers").join(&record.id),
            record: Mutex::new(record),
            health: Mutex::default(),
            live: Mutex::default(),
            phase: watch::Sender::new(phase),
            operation: tokio::sync::Mutex::default(),
        }
    }

    /// A copy of the record.
    pub(crate) fn record(&self) -> Record {
        lock(&self.record).clone()
    }

    /// Looks at the record without copying it.
    pub(crate) fn look<T>(&self, at: impl FnOnce(&Record) -> T) -> T {
        at(&lock(&self.record))
    }

    /// Changes the record, in memory and then on disk.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut Record) -> T) -> Result<T> {
        let mut record = lock(&self.record);
        let result = change(&mut record);
        let alive = record.state.status.alive();
        // Removed in the meantime: there is nothing left to write to.
        if self.dir.is_dir() {
            disk::write_json(&self.dir.join("container.json"), &*record, disk::Durable::Process)?;
        }
        drop(record);
        self.phase.send_if_modified(|phase| std::mem::replace(&mut phase.alive, alive) != alive);
        Ok(result)
    }

    /// Writes it for the first time.
    pub(crate) fn save(&self) -> Result<()> {
        disk::make_dir(&self.dir, 0o710)?;
        self.change(|_| ())
    }

    /// Its status.
    pub(crate) fn status(&self) -> Status {
        lock(&self.record).state.status
    }

    /// Its name.
    pub(crate) fn name(&self) -> String {
        lock(&self.record).name.clone()
    }

    /// Refuses if it does not run.
    pub(crate) fn must_run(&self) -> Result<()> {
        match self.status() {
            Status::Running => Ok(()),
            Status::Paused => Err(Failure::conflict(format!(
                "container {} is paused, unpause the container before exec",
                self.id
            ))),
            _ => Err(Failure::conflict(format!("container {} is not running", self.id))),
        }
    }

    /// The json-file log.
    pub(crate) fn log_path(&self) -> PathBuf {
        self.dir.join(format!("{}-json.log", self.id))
    }

    /// Its health, if it is checked.
    pub(crate) fn health(&self) -> Option<Health> {
        lock(&self.health).clone()
    }

    /// What the attributes of its events are.
    pub(crate) fn attributes(&self) -> serde_json::Value {
        let record = lock(&self.record);
        let mut all: serde_json::Map<String, serde_json::Value> =
            record.config.labels.iter().flatten().map(|(k, v)| (k.clone(), v.clone().into())).collect();
        all.insert("image".into(), record.image.clone().into());
        all.insert("name".into(), record.name.clone().into());
        all.into()
    }
}
