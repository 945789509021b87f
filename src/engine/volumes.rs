//! Named directories that outlive containers.

use super::{
    container::lock,
    disk::{self, Durable},
    failure::{Failure, Result},
    names,
};
use bollard_stubs::models::{Volume, VolumeScopeEnum};
use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    sync::Mutex,
};

/// All volumes: `volumes/NAME/volume.json`, and their content in `_data` beside it.
pub(crate) struct Volumes {
    root: PathBuf,
    all: Mutex<BTreeMap<String, Volume>>,
}

impl Volumes {
    /// Reads them.
    pub(crate) fn open(data_root: &Path) -> Result<Volumes> {
        let root = data_root.join("volumes");
        let mut all = BTreeMap::new();
        for entry in std::fs::read_dir(&root)?.flatten() {
            match disk::read_json::<Volume>(&entry.path().join("volume.json")) {
                Ok(Some(volume)) => {
                    all.insert(volume.name.clone(), volume);
                }
                // A crash between the directory and its file: nobody was told that there is such a volume.
                Ok(None) => disk::remove_dir(&entry.path())?,
                Err(e) => eprintln!("warning: a volume is left out: {}", e.message),
            }
        }
        Ok(Volumes { root, all: Mutex::new(all) })
    }

    /// All of them, by name.
    pub(crate) fn list(&self) -> Vec<Volume> {
        lock(&self.all).values().cloned().collect()
    }

    /// The one of this name.
    pub(crate) fn get(&self, name: &str) -> Result<Volume> {
        let missing = || Failure::missing(format!("get {name}: no such volume"));
        lock(&self.all).get(name).cloned().ok_or_else(missing)
    }

    /// Makes one; says whether it is new. An empty name asks for a random one; a name that is there is that volume.
    pub(crate) fn create(
        &self,
        name: &str,
        labels: HashMap<String, String>,
        options: HashMap<String, String>,
    ) -> Result<(Volume, bool)> {
        let mut all = lock(&self.all);
        if let Some(there) = all.get(name) {
            return Ok((there.clone(), false));
        }
        let anonymous = name.is_empty();
        let name = if anonymous { names::id()? } else { name.to_owned() };
        if !names::valid(&name) {
            return Err(Failure::bad(format!(
                "create {name}: \"{name}\" includes invalid characters for a local volume name, only \
                 \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path"
            )));
        }
        if let Some(option) = options.keys().next() {
            return Err(Failure::bad(format!(
                "create {name}: option \"{option}\" is not supported: a volume of teu is a directory; bind mounts take any \
                 path, tmpfs mounts have --tmpfs"
            )));
        }
        let dir = self.root.join(&name);
        disk::make_dir(&dir.join("_data"), 0o755)?;
        let mut labels = labels;
        if anonymous {
            labels.insert("com.docker.volume.anonymous".into(), String::new());
        }
        let volume = Volume {
            name: name.clone(),
            driver: "local".into(),
            mountpoint: dir.join("_data").display().to_string(),
            created_at: Some(super::now()),
            labels,
            scope: Some(VolumeScopeEnum::LOCAL),
            options,
            ..Volume::default()
        };
        // Only a volume that somebody named is worth a disk's wait: an anonymous one goes with its container.
        let durable = if anonymous { Durable::Process } else { Durable::Power };
        disk::write_json(&dir.join("volume.json"), &volume, durable)?;
        all.insert(name, volume.clone());
        Ok((volume, true))
    }

    /// Removes one and all that is in it. Whether it is in use is the caller's to know.
    pub(crate) fn remove(&self, name: &str) -> Result<()> {
        let mut all = lock(&self.all);
        if !all.contains_key(name) {
            return Err(Failure::missing(format!("get {name}: no such volume")));
        }
        // The record first: a crash after it leaves a directory that the next start removes.
        let dir = self.root.join(name);
        std::fs::remove_file(dir.join("volume.json"))?;
        all.remove(name);
        drop(all);
        disk::remove_dir(&dir)
    }

    /// Bytes in it.
    pub(crate) fn size(volume: &Volume) -> u64 {
        disk_usage(Path::new(&volume.mountpoint))
    }
}

/// Bytes of all files below a directory. Links are counted, not followed.
pub(crate) fn disk_usage(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let mut total = 0;
    let mut inodes = std::collections::HashSet::new();
    let mut left = vec![dir.to_owned()];
    while let Some(dir) = left.pop() {
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            let Ok(meta) = entry.metadata() else { continue };
            if meta.is_dir() {
                left.push(entry.path());
            } else if meta.nlink() == 1 || inodes.insert((meta.dev(), meta.ino())) {
                total += meta.size();
            }
        }
    }
    total
}
