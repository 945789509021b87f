//! What is known about a container, and how it is kept: one directory below `--root`, one JSON file in it.
//!
//! No process of ours runs beside a container, so that every command begins by reading this file and asking the
//! kernel what has become of the process that it names. A process ID alone would not do: the kernel
//! gives it to another process one day. Together with the time of its start it means one process only.

use crate::{Error, Result, cgroup::Cgroup, error::Doing, tree};
use nix::unistd::Pid;
use oci_spec::runtime::{Hooks, Process};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

/// Where in its life a container is (OCI runtime-spec, runtime.md, State).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It is being made.
    Creating,
    /// It waits for its start.
    Created,
    /// Its program runs.
    Running,
    /// All its processes are held (a status that the spec leaves to the runtime).
    Paused,
    /// Its first process has ended.
    #[default]
    Stopped,
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Status::Creating => "creating",
            Status::Created => "created",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Stopped => "stopped",
        })
    }
}

/// The state of a container. The JSON is the spec's, with what `runc state` adds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    /// The version of the spec that this follows.
    #[serde(rename = "ociVersion")]
    pub version: String,
    /// Its name, unique below one `--root`.
    pub id: String,
    /// Its first process, as the host sees it; 0 when there is none.
    pub pid: i32,
    /// Where in its life it is.
    pub status: Status,
    /// The directory that it was made from, absolute.
    pub bundle: PathBuf,
    /// Its root, absolute.
    pub rootfs: PathBuf,
    /// When it was made, as RFC 3339 says.
    pub created: String,
    /// From the bundle.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Who made it.
    pub owner: String,
}

/// What is written down about a container.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Record {
    /// What people see. Its status is only a memory: [`Record::status`] asks anew.
    #[serde(flatten)]
    pub(crate) state: State,
    /// When its first process was started, in clock ticks since boot.
    #[serde(default)]
    pub(crate) start_time: u64,
    /// Its group's directories. They are written down before they are made.
    #[serde(default)]
    pub(crate) cgroup: Vec<(String, PathBuf)>,
    /// What `start` and `delete` have to run.
    #[serde(default)]
    pub(crate) hooks: Option<Hooks>,
    /// The socket of whoever wants to know when it is ready.
    #[serde(default)]
    pub(crate) notify: Option<PathBuf>,
    /// What `exec` takes its defaults from.
    #[serde(default)]
    pub(crate) process: Option<Process>,
}

/// The version of the spec that the state follows.
pub const OCI_VERSION: &str = "1.2.0";

/// Refuses an ID that could be a path, an option, or a line of its own (runc's alphabet).
pub fn check_id(id: &str) -> Result<()> {
    let good = |b: u8| b.is_ascii_alphanumeric() || b"_+-.".contains(&b);
    if id.is_empty() || id.len() > 1024 || !id.bytes().all(good) || id.starts_with(['-', '.']) {
        return Err(Error::BadId(id.into()));
    }
    Ok(())
}

/// Makes the container's directory. Whoever makes it has the name: mkdir(2) succeeds once.
pub(crate) fn claim(root: &Path, id: &str) -> Result<PathBuf> {
    let mut builder = fs::DirBuilder::new();
    builder
        .recursive(true)
        .mode(0o700)
        .create(root)
        .doing(|| format!("making the state root {}", root.display()))?;
    let directory = root.join(id);
    match builder.recursive(false).mode(0o711).create(&directory) {
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Err(Error::Exists(id.into())),
        other => other.doing(|| format!("making {}", directory.display())).map(|()| directory),
    }
}

impl Record {
    /// Reads it. A container that was never written down whole is one that is being made, or whose
    /// maker died at its first step.
    pub(crate) fn load(root: &Path, id: &str) -> Result<Record> {
        check_id(id)?;
        let file = root.join(id).join("state.json");
        match fs::read(&file) {
            Ok(text) => serde_json::from_slice(&text)
                .map_err(|source| Error::Json { file: file.display().to_string(), source }),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && root.join(id).is_dir() => {
                let (version, id, status) = (OCI_VERSION.into(), id.into(), Status::Creating);
                let state = State { version, id, status, ..State::default() };
                Ok(Record { state, ..Record::default() })
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Err(Error::NotFound(id.into())),
            Err(e) => Err(e).doing(|| format!("reading {}", file.display())),
        }
    }

    /// Writes it beside and renames it into place: a reader sees the old or the new, never a half. It is not
    /// synced, since it tells of processes, and those do not outlive a crash of the machine either.
    pub(crate) fn save(&self, directory: &Path) -> Result<()> {
        let (file, beside) = (directory.join("state.json"), directory.join(".state.json"));
        let json = serde_json::to_vec(self)
            .map_err(|source| Error::Json { file: file.display().to_string(), source })?;
        fs::write(&beside, json).doing(|| format!("writing {}", beside.display()))?;
        fs::rename(&beside, &file).doing(|| format!("writing {}", file.display()))
    }

    /// Its first process, if that still is one (a zombie is not).
    pub(crate) fn alive(&self) -> Option<Pid> {
        let (running, start_time) = stat(self.state.pid)?;
        (running && start_time == self.start_time).then(|| Pid::from_raw(self.state.pid))
    }

    /// Where in its life the container is now.
    pub(crate) fn status(&self, directory: &Path) -> Status {
        self.look(directory).0
    }

    /// The same, and its first process, if that still is one. It waits for its start as long as its gate stands.
    pub(crate) fn look(&self, directory: &Path) -> (Status, Option<Pid>) {
        let alive = self.alive();
        let status = match alive {
            None if self.state.status == Status::Creating && self.state.pid == 0 => Status::Creating,
            None => Status::Stopped,
            Some(_) if self.state.status == Status::Creating => Status::Creating,
            Some(_) if gate(directory).exists() => Status::Created,
            Some(_) if Cgroup::of_directories(self.cgroup.clone()).frozen() => Status::Paused,
            Some(_) => Status::Running,
        };
        (status, alive)
    }

    /// What people see of it now.
    pub(crate) fn state(&self, directory: &Path) -> State {
        let status = self.status(directory);
        let pid = if status == Status::Stopped { 0 } else { self.state.pid };
        State { status, pid, ..self.state.clone() }
    }
}

/// The door at which a created container waits.
pub(crate) fn gate(directory: &Path) -> PathBuf {
    directory.join("gate")
}

/// Whether a process runs, and when it was started: the third and the 22nd field of `/proc/PID/stat` (proc(5)). The
/// second is the program's name in parentheses, and may hold spaces and parentheses itself.
fn stat(pid: i32) -> Option<(bool, u64)> {
    if pid <= 0 {
        return None;
    }
    let text = tree::text(Path::new(&format!("/proc/{pid}/stat"))).ok()?;
    let after = text.rsplit_once(") ")?.1;
    let mut fields = after.split(' ');
    let running = !matches!(fields.next()?, "Z" | "X");
    Some((running, fields.nth(18)?.parse().ok()?))
}

/// When a process was started, in clock ticks since boot.
pub(crate) fn start_time(pid: Pid) -> u64 {
    stat(pid.as_raw()).map_or(0, |(_, time)| time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids() {
        for good in ["a", "web_1", "A.b-c+d", "0123456789abcdef"] {
            assert!(check_id(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "-f", "a b", "a\n", "é", ".hidden"] {
            assert!(check_id(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_reused_pid_is_another_process() {
        let me = Pid::this();
        let mut record = Record { start_time: start_time(me), ..Record::default() };
        record.state.pid = me.as_raw();
        assert_eq!(record.alive(), Some(me));
        record.start_time += 1;
        assert_eq!(record.alive(), None);
    }

    #[test]
    fn json_is_the_specs() {
        let state = State {
            version: OCI_VERSION.into(),
            id: "a".into(),
            pid: 7,
            status: Status::Running,
            bundle: "/b".into(),
            ..State::default()
        };
        let json = serde_json::to_value(&state).unwrap();
        assert_eq!(json["ociVersion"], "1.2.0");
        assert_eq!(json["status"], "running");
        assert_eq!(json["bundle"], "/b");
        assert!(json.get("annotations").is_none());
    }

    #[test]
    fn a_record_survives_and_is_never_half() {
        let root = tempfile::tempdir().unwrap();
        let directory = claim(root.path(), "c").unwrap();
        assert!(matches!(claim(root.path(), "c"), Err(Error::Exists(_))));
        assert_eq!(Record::load(root.path(), "c").unwrap().state.id, "c", "before anything is written");
        let mut record = Record::load(root.path(), "c").unwrap();
        record.cgroup = vec![("memory".into(), "/x".into())];
        record.save(&directory).unwrap();
        assert_eq!(Record::load(root.path(), "c").unwrap().cgroup, record.cgroup);
        assert!(matches!(Record::load(root.path(), "d"), Err(Error::NotFound(_))));
    }
}
