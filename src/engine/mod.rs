//! Containers, images, networks, volumes, events: state on disk, and its rules.
//!
//! | module | what it holds |
//! |---|---|
//! | [`container`] | a container's record and states |
//! | [`create`] | from what a client asks to a record |
//! | [`commit`], [`import`] | from a container, and from a tarball, to an image |
//! | [`lifecycle`] | start, stop, kill, pause, restart |
//! | [`ends`] | the end of its program, and what follows: a restart, a removal |
//! | [`removal`] | what goes away with it |
//! | [`plan`], [`spec`] | what a monitor is told; from it, the OCI runtime's configuration |
//! | [`monitors`] | starting a monitor, speaking to it, finding it again |
//! | [`reconcile`] | what happened while no daemon was there |
//! | [`logs`] | docker's json-file |
//! | [`sessions`] | exec |
//! | [`images`], [`volumes`], [`network`] | the other things that have names |
//! | [`etc`] | a container's hosts, hostname and resolv.conf |
//! | [`health`] | HEALTHCHECK |
//! | [`events`], [`names`], [`signal`], [`disk`], [`failure`] | what all of them share |

pub(crate) mod commit;
pub(crate) mod container;
pub(crate) mod create;
pub(crate) mod disk;
pub(crate) mod ends;
pub(crate) mod etc;
pub(crate) mod events;
pub(crate) mod failure;
pub(crate) mod health;
pub(crate) mod images;
pub(crate) mod import;
pub(crate) mod lifecycle;
pub(crate) mod logs;
pub(crate) mod monitors;
pub(crate) mod mounts;
pub(crate) mod names;
pub(crate) mod network;
pub(crate) mod plan;
pub(crate) mod reconcile;
mod removal;
pub(crate) mod sessions;
pub(crate) mod signal;
pub(crate) mod spec;
pub(crate) mod volumes;

use container::{Container, lock};
use failure::{Failure, Result};
use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

/// The engine. One per data root.
pub(crate) struct Engine {
    pub(crate) data_root: PathBuf,
    pub(crate) exec_root: PathBuf,
    /// Root, but only in a user namespace: an ordinary user's daemon.
    pub(crate) rootless: bool,
    pub(crate) store: layers::Store,
    pub(crate) runtime: cgroups::runtime::Runtime,
    pub(crate) events: events::Events,
    pub(crate) networks: network::Networks,
    pub(crate) volumes: volumes::Volumes,
    pub(crate) sessions: sessions::Sessions,
    pub(crate) sizes: images::Sizes,
    /// Identifies this data root in `docker info`.
    pub(crate) id: String,
    containers: Mutex<HashMap<String, Arc<Container>>>,
    /// Names are taken here before a record exists, so that two requests cannot get the same.
    names: Mutex<HashMap<String, String>>,
}

impl Engine {
    /// Opens (or makes) the state below these directories.
    pub(crate) fn open(data_root: &Path, exec_root: &Path, rootless: bool) -> Result<Engine> {
        for dir in ["", "containers", "volumes", "networks", "tmp"] {
            disk::make_dir(&data_root.join(dir), 0o711)?;
        }
        for dir in ["", "containers", "exec", "s"] {
            disk::make_dir(&exec_root.join(dir), 0o711)?;
        }
        make_init_layer(&data_root.join("init"))?;
        let id_file = data_root.join("engine-id");
        let id = match std::fs::read_to_string(&id_file) {
            Ok(id) => id,
            Err(_) => {
                let id = names::id()?;
                disk::write(&id_file, id.as_bytes(), disk::Durable::Power)?;
                id
            }
        };
        Ok(Engine {
            store: layers::Store::open(&data_root.join("images"))?,
            runtime: cgroups::runtime::Runtime::new(exec_root.join("runtime")),
            events: events::Events::new(),
            networks: network::Networks::open(data_root)?,
            volumes: volumes::Volumes::open(data_root)?,
            sessions: sessions::Sessions::default(),
            sizes: images::Sizes::open(data_root),
            id,
            containers: Mutex::default(),
            names: Mutex::default(),
            data_root: data_root.to_owned(),
            exec_root: exec_root.to_owned(),
            rootless,
        })
    }

    /// The places where every container has something mounted, as a layer between the image's and its own.
    pub(crate) fn init_layer(&self) -> PathBuf {
        self.data_root.join("init")
    }

    /// All containers, the newest first.
    pub(crate) fn containers(&self) -> Vec<Arc<Container>> {
        let mut all: Vec<_> = lock(&self.containers).values().cloned().collect();
        all.sort_by_cached_key(|c| std::cmp::Reverse(c.look(|r| r.created.clone())));
        all
    }

    /// The container of an ID, a name, or the beginning of an ID.
    pub(crate) fn container(&self, reference: &str) -> Result<Arc<Container>> {
        let name = reference.strip_prefix('/').unwrap_or(reference);
        let all = lock(&self.containers);
        let missing = || Failure::missing(format!("No such container: {reference}"));
        let by_name = lock(&self.names).get(name).cloned();
        if let Some(found) = all.get(name).or_else(|| all.get(&by_name?)) {
            return Ok(found.clone());
        }
        if name.is_empty() {
            return Err(missing());
        }
        let mut matching = all.iter().filter(|(id, _)| id.starts_with(name)).map(|(_, c)| c);
        let first = matching.next().ok_or_else(missing)?;
        match matching.next() {
            None => Ok(first.clone()),
            Some(_) => Err(Failure::bad(format!("multiple IDs found with provided prefix: {reference}"))),
        }
    }

    /// Takes a name for a container that is about to be; refuses one that is taken.
    pub(crate) fn take_name(&self, name: &str, id: &str) -> Result<()> {
        if !names::valid(name) {
            return Err(Failure::bad(format!(
                "Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
            )));
        }
        let mut names = lock(&self.names);
        if let Some(holder) = names.get(name) {
            return Err(Failure::conflict(format!(
                "Conflict. The container name \"/{name}\" is already in use by container \"{holder}\". You have to \
                 remove (or rename) that container to be able to reuse that name."
            )));
        }
        names.insert(name.to_owned(), id.to_owned());
        Ok(())
    }

    /// Gives a name back.
    pub(crate) fn free_name(&self, name: &str) {
        lock(&self.names).remove(name);
    }

    /// `docker rename`
    pub(crate) fn rename(&self, container: &Container, name: &str) -> Result<()> {
        let name = name.trim_start_matches('/');
        if name.is_empty() {
            return Err(Failure::bad("Neither old nor new names may be empty"));
        }
        let old = container.name();
        if old == name {
            return Err(Failure::bad("Renaming a container with the same name as its current name"));
        }
        self.take_name(name, &container.id)?;
        container.change(|r| r.name = name.to_owned())?;
        self.free_name(&old);
        self.tell(container, "rename", &[("oldName", format!("/{old}"))]);
        Ok(())
    }

    /// From now on it can be found.
    pub(crate) fn insert(&self, container: Arc<Container>) {
        lock(&self.containers).insert(container.id.clone(), container);
    }

    /// From now on it cannot.
    pub(crate) fn forget(&self, container: &Container) {
        lock(&self.containers).remove(&container.id);
        self.free_name(&container.name());
    }

    /// Tells of something that happened to a container.
    pub(crate) fn tell(&self, container: &Container, action: &str, more: &[(&str, String)]) {
        let mut attributes = container.attributes();
        for (key, value) in more {
            attributes[*key] = value.clone().into();
        }
        self.events.emit("container", action, &container.id, attributes);
    }
}

/// What a mount needs a place for, in one read-only layer that all containers share: without it, each start would make
/// these places anew in the container's own layer, where a commit would take them for the user's work.
fn make_init_layer(dir: &Path) -> Result<()> {
    for place in ["dev/pts", "dev/shm", "dev/mqueue", "proc", "sys", "etc"] {
        disk::make_dir(&dir.join(place), 0o755)?;
    }
    for place in ["dev/console", "etc/hostname", "etc/hosts", "etc/resolv.conf"] {
        std::fs::File::create(dir.join(place))?;
    }
    Ok(())
}

/// Runs what may block (disks, helpers, other programs) beside the requests that are being answered.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|e| Failure::internal(format!("a worker failed: {e}")))?
}

/// Now, as docker writes times.
pub(crate) fn now() -> String {
    // All nine digits, always: times are compared as text.
    format!("{:.9}", jiff::Timestamp::now())
}
