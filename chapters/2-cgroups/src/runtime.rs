//! The container lifecycle (OCI runtime-spec, runtime.md): what `runc` does, as a library.
//!
//! ```text
//!  create ──▶ created ── start ──▶ running ◀── pause, resume ──▶ paused
//!                │                   │
//!                └────── kill ───────┴──▶ stopped ── delete ──▶ nothing
//! ```
//!
//! A side room holds what is done to a running container besides: [`crate::live`].

use crate::{
    Error, Result,
    cgroup::{Cgroup, Draft},
    error::Doing,
    freezer, hierarchy,
    notify::{self, Relay},
    pidfd,
    state::{self, OCI_VERSION, Record, State, Status},
};
use namespaces::{
    gate, hooks,
    process::{self, Stdio},
    spec::{self, Spec},
};
use nix::{sys::signal::Signal, unistd::Pid};
use oci_spec::runtime::{Hook, Hooks, LinuxResources};
use std::{
    fs,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

/// Containers, by the directory that holds their state (`--root`).
pub struct Runtime {
    root: PathBuf,
    systemd_paths: bool,
    config: PathBuf,
    listening: u16,
    notify: Option<PathBuf>,
}

/// How a container is made, beyond its bundle.
pub struct CreateOptions<'a> {
    /// Its standard streams.
    pub stdio: Stdio<'a>,
    /// How many descriptors from 3 on it inherits.
    pub preserve_fds: u32,
    /// `MS_MOVE` and chroot instead of pivot_root.
    pub no_pivot: bool,
    /// Keep the caller's session keyring.
    pub no_new_keyring: bool,
    /// It is killed when the caller dies (a build's RUN: who would read what it prints?).
    pub die_with_me: bool,
}

/// A container that waits for its start. Its first process is the caller's child.
pub struct Created {
    /// Its first process, as the caller sees it.
    pub pid: Pid,
    /// A descriptor for it.
    pub pidfd: OwnedFd,
    /// The master side of its terminal, if it has one.
    pub console: Option<OwnedFd>,
    /// Its control group.
    pub cgroup: Cgroup,
    record: Record,
    directory: PathBuf,
}

impl Created {
    /// Starts its program, as [`Runtime::start`] does it for somebody else's container.
    pub fn start(&self) -> Result<()> {
        start(&self.record, &self.directory)
    }

    /// What passes on that it is ready, to be asked for before the start; `None` if nobody wants to know.
    pub fn relay(&self) -> Result<Option<Relay>> {
        Relay::listen(&self.record, &self.directory)
    }

    /// Removes it, killed first if it still runs: [`Runtime::delete`] with force, for who still knows what it has made.
    pub fn delete(&self) -> Result<()> {
        if !self.directory.is_dir() {
            return Ok(()); // somebody else did it
        }
        end(&self.record, self.record.alive(), &self.directory)
    }
}

impl Runtime {
    /// Containers whose state is kept below `root`, which is made when it is missing.
    pub fn new(root: impl Into<PathBuf>) -> Runtime {
        Runtime {
            root: root.into(),
            systemd_paths: false,
            config: "config.json".into(),
            listening: 0,
            notify: None,
        }
    }

    /// Reads `linux.cgroupsPath` as systemd's `slice:prefix:name` (`--systemd-cgroup`). The groups are where systemd
    /// would make them, but it is not told of them.
    pub fn systemd_paths(self, yes: bool) -> Runtime {
        Runtime { systemd_paths: yes, ..self }
    }

    /// Reads another file than the bundle's config.json; a relative name begins at the bundle.
    pub fn config_file(self, file: impl Into<PathBuf>) -> Runtime {
        Runtime { config: file.into(), ..self }
    }

    /// Tells the program of so many sockets that it inherits from 3 on (sd_listen_fds(3)).
    pub fn listening(self, sockets: u16) -> Runtime {
        Runtime { listening: sockets, ..self }
    }

    /// Tells this socket when the container is ready (sd_notify(3)).
    pub fn notifying(self, socket: Option<PathBuf>) -> Runtime {
        Runtime { notify: socket, ..self }
    }

    /// Where the state is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Makes the container of a bundle, all but its program. The caller must be single-threaded.
    /// On failure nothing of it is left.
    pub fn create(&self, id: &str, bundle: &Path, options: &CreateOptions) -> Result<Created> {
        state::check_id(id)?;
        // By the name it was given, which hooks and callers know it by: a link stays a link.
        let bundle =
            std::path::absolute(bundle).doing(|| format!("finding the bundle {}", bundle.display()))?;
        let file = bundle.join(&self.config);
        let (mut spec, text) = spec::load_with_text(&file)?;
        let path = cgroups_path(&spec, id, self.systemd_paths);
        let no_limits = LinuxResources::default();
        let limits = spec.linux().as_ref().and_then(|l| l.resources().as_ref()).unwrap_or(&no_limits);
        let draft = Draft::new(&path, limits)?;

        // The name is ours from here on. Everything that can outlive us is written down before it is
        // made: whoever deletes this container, after whatever crash, must know what to look for.
        let directory = state::claim(&self.root, id)?;
        let mut unfinished =
            Unfinished { directory: &directory, record: record(id, &bundle, &spec), done: false };
        let record = &mut unfinished.record;
        record.cgroup = draft.directories()?;
        record.notify.clone_from(&self.notify);
        record.save(&directory)?;
        // Later changes of the bundle's config.json are to have no effect on this container.
        fs::write(directory.join("config.json"), text)
            .doing(|| format!("keeping a copy of {}", file.display()))?;

        // The group first, complete with its limits: no instruction of the container runs outside of it.
        // (One that fails has undone itself, and may have failed because the group is another container's.)
        let cgroup = draft.create().inspect_err(|_| record.cgroup.clear())?;

        // Not in the record: what `exec` starts later inherits no sockets.
        if self.listening > 0 {
            tell_of_sockets(&mut spec, self.listening);
        }
        if let Some(socket) = &self.notify {
            notify::prepare(&mut spec, &directory, socket)?;
        }
        let door = gate::listen(&state::gate(&directory))?;
        let tasks = cgroup.tasks()?;
        let tasks: Vec<BorrowedFd> = tasks.iter().map(AsFd::as_fd).collect();
        let mut cloned = process::clone(&process::Request {
            spec: &spec,
            bundle: &bundle,
            stdio: options.stdio,
            cgroup: cgroup.birth(),
            tasks: &tasks,
            gate: door.as_fd(),
            preserve_fds: options.preserve_fds,
            no_pivot: options.no_pivot,
            no_new_keyring: options.no_new_keyring,
        })?;
        if options.die_with_me {
            cloned.die_with_me();
        }
        record.state.pid = cloned.pid.as_raw();
        record.start_time = state::start_time(cloned.pid);
        // Hooks run after step 2 of the lifecycle: to them it is created (runtime.md, "State").
        let json = json(&State { status: Status::Created, ..record.state.clone() });
        let ready = match spec.hooks() {
            Some(hooks) if before_pivot(hooks).next().is_some() => {
                record.save(&directory)?;
                // The namespaces are there, the root is not yet changed: what hooks are for (config.md).
                cloned.configure_with(&json, || {
                    before_pivot(hooks).try_for_each(|(kind, list)| hooks::run(kind, list, &json))
                })?
            }
            _ => {
                // While the child makes its mounts. If we die before this is written, it ends by itself: it has
                // nobody to tell that it is ready.
                cloned.begin(&json)?;
                record.save(&directory)?;
                cloned.configure(&json)?
            }
        };

        record.state.status = Status::Created;
        record.save(&directory)?;
        unfinished.done = true;
        let record = std::mem::take(&mut unfinished.record);
        drop(unfinished);
        Ok(Created { pid: ready.pid, pidfd: ready.pidfd, console: ready.console, cgroup, record, directory })
    }

    /// Starts the program of a created container. If somebody wants to know when it is ready, it returns then.
    pub fn start(&self, id: &str) -> Result<()> {
        let (record, directory) = self.load(id)?;
        let status = record.status(&directory);
        if status != Status::Created {
            return Err(wrong(id, "start", status, ""));
        }
        let relay = Relay::listen(&record, &directory)?;
        start(&record, &directory)?;
        relay.map_or(Ok(()), Relay::wait)
    }

    /// Its state now.
    pub fn state(&self, id: &str) -> Result<State> {
        let (record, directory) = self.load(id)?;
        Ok(record.state(&directory))
    }

    /// All containers, by name.
    pub fn list(&self) -> Result<Vec<State>> {
        let entries = match fs::read_dir(&self.root) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.doing(|| format!("reading {}", self.root.display()))?,
        };
        let names = entries.flatten().filter_map(|e| e.file_name().into_string().ok());
        // One that is deleted in between is no error, nor is a file that is none of ours.
        let mut all: Vec<State> = names.filter_map(|id| self.state(&id).ok()).collect();
        all.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(all)
    }

    /// Sends a signal to its first process, or to all.
    pub fn kill(&self, id: &str, signal: Signal, all: bool) -> Result<()> {
        self.kill_number(id, signal as i32, all)
    }

    /// The same, by the signal's number (real-time signals have no other name).
    pub fn kill_number(&self, id: &str, signal: i32, all: bool) -> Result<()> {
        let (record, directory) = self.load(id)?;
        let (status, alive) = record.look(&directory);
        let asked_for_all = all;
        let cgroup = Cgroup::of_directories(record.cgroup.clone());
        // Others may live on when the first is gone, if the container has no PID namespace of its own. What kills it is then
        // for all of them: there is nobody else who could end the rest.
        let all = all || (signal == libc::SIGKILL && shares_our_pids(alive));
        let members = if all { cgroup.procs()? } else { Vec::new() };
        if all && members.is_empty() && status == Status::Stopped && asked_for_all {
            return Ok(());
        }
        if !members.is_empty() {
            return match signal {
                libc::SIGKILL => cgroup.kill(),
                _ => members.into_iter().try_for_each(|pid| pidfd::send(pid, signal)),
            };
        }
        match alive {
            Some(pid) if status != Status::Creating => pidfd::send(pid, signal)?,
            _ => return Err(Error::NotRunning(id.into(), status)),
        }
        // A frozen process is killed only when it is let go.
        if signal == libc::SIGKILL && status == Status::Paused {
            cgroup.freeze(false)?;
        }
        Ok(())
    }

    /// Removes what is left of a stopped container; with `force`, of a running one, killed first, and of
    /// one whose maker died at any point. With `force`, one that is not there is no error.
    pub fn delete(&self, id: &str, force: bool) -> Result<()> {
        let (record, directory) = match self.load(id) {
            Err(Error::NotFound(_)) if force => return Ok(()),
            // An unreadable record must not stand in the way of removing it.
            Err(Error::Json { .. }) if force => (Record::default(), self.root.join(id)),
            other => other?,
        };
        let (status, alive) = record.look(&directory);
        if status != Status::Stopped && !force {
            return Err(wrong(id, "delete", status, " (stop it first, or use --force)"));
        }
        end(&record, alive, &directory)
    }

    /// What is known of a container, and where.
    pub(crate) fn load(&self, id: &str) -> Result<(Record, PathBuf)> {
        let record = Record::load(&self.root, id)?;
        Ok((record, self.root.join(id)))
    }
}

/// Opens the gate at which a created container waits.
fn start(record: &Record, directory: &Path) -> Result<()> {
    if record.process.is_none() {
        return Err(Error::Usage("config.json has no process: say what to run, in process.args".into()));
    }
    let opened = gate::open(&state::gate(directory));
    // The gate stands for "created": it goes whether or not the program could be executed.
    let _ = fs::remove_file(state::gate(directory));
    // runtime.md, "Lifecycle" 8: if a startContainer hook fails, the container is stopped and destroyed.
    if let Err(namespaces::Error::Hook(_)) = opened {
        end(record, record.alive(), directory)?;
    }
    opened?;
    let hooks = record.hooks.as_ref().and_then(|h| h.poststart().as_deref()).unwrap_or_default();
    if hooks.is_empty() {
        return Ok(());
    }
    // runtime.md, "Lifecycle" 9: if one fails, "the runtime MUST generate an error, stop the container", and destroy it.
    // (Before version 1.2.1 of the spec it was a warning.)
    // Its program may have ended already; what they are told of is its start.
    let running = State { status: Status::Running, ..record.state.clone() };
    let ran = hooks::run("poststart", hooks, &json(&running));
    if ran.is_err() {
        end(record, record.alive(), directory)?;
    }
    Ok(ran?)
}

/// Stops a container, if its first process is alive, and destroys it.
fn end(record: &Record, alive: Option<Pid>, directory: &Path) -> Result<()> {
    if let Some(pid) = alive {
        pidfd::send(pid, libc::SIGKILL)?;
        freezer::take_out(pid)?;
        // A paused one dies only when it is let go, which killing the group does as well.
        Cgroup::of_directories(record.cgroup.clone()).kill()?;
        pidfd::wait_for_end(record)?;
    }
    // What the first process left behind goes too, and with it the group.
    destroy(directory, record.cgroup.clone())?;
    after_the_end(record);
    Ok(())
}

/// A container that is being made. Dropped before it is done, it is undone, as the spec has it for a failing
/// hook: the container is destroyed, and then the poststop hooks run. (Its process dies with its `Cloned`.)
struct Unfinished<'a> {
    directory: &'a Path,
    record: Record,
    done: bool,
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        // The error that brought us here is the one to tell.
        let _ = destroy(self.directory, std::mem::take(&mut self.record.cgroup));
        if self.record.state.pid != 0 {
            after_the_end(&self.record);
        }
    }
}

/// Removes a container's group, with all that is in it, and then its directory: as long as there is something to
/// remove, there is a record of it.
fn destroy(directory: &Path, cgroup: Vec<(String, PathBuf)>) -> Result<()> {
    // An empty group is removed at one word, and says so if it is none: only then is it worth a look inside.
    let busy: Vec<_> = cgroup.into_iter().filter(|(_, group)| !is_removed(group)).collect();
    if !busy.is_empty() {
        let cgroup = Cgroup::of_directories(busy);
        cgroup.kill()?;
        cgroup.remove()?;
    }
    match fs::remove_dir_all(directory) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other.doing(|| format!("removing {}", directory.display())),
    }
}

/// Whether a group's directory is gone now, or was before.
fn is_removed(group: &Path) -> bool {
    match fs::remove_dir(group) {
        Ok(()) => true,
        Err(e) => e.kind() == std::io::ErrorKind::NotFound,
    }
}

/// The first thing that is known about a container.
fn record(id: &str, bundle: &Path, spec: &Spec) -> Record {
    let rootfs = spec.root().as_ref().map_or(PathBuf::new(), |r| bundle.join(r.path()));
    Record {
        state: State {
            version: OCI_VERSION.into(),
            id: id.into(),
            pid: 0,
            status: Status::Creating,
            bundle: bundle.to_owned(),
            rootfs,
            created: jiff::Timestamp::now().to_string(),
            annotations: spec.annotations().clone().unwrap_or_default().into_iter().collect(),
            owner: String::new(),
        },
        hooks: spec.hooks().clone(),
        process: spec.process().clone(),
        ..Record::default()
    }
}

fn tell_of_sockets(spec: &mut Spec, sockets: u16) {
    if let Some(process) = spec.process_mut() {
        let mut env = process.env().clone().unwrap_or_default();
        env.extend([format!("LISTEN_FDS={sockets}"), "LISTEN_PID=1".into()]);
        process.set_env(Some(env));
    }
}

/// `linux.cgroupsPath`, or one below the caller's own group where the bundle leaves it to us.
fn cgroups_path(spec: &Spec, id: &str, systemd: bool) -> String {
    let asked = spec.linux().as_ref().and_then(|l| l.cgroups_path().as_ref());
    match asked.and_then(|p| p.to_str()).filter(|p| !p.is_empty()) {
        Some(path) => {
            systemd.then(|| hierarchy::systemd_path(path)).flatten().unwrap_or_else(|| path.to_owned())
        }
        None => id.to_owned(),
    }
}

/// The hooks that run in the runtime's namespaces while the container is made, in order.
#[allow(deprecated)] // `prestart` is, and podman's and nvidia's bundles still carry it.
fn before_pivot(hooks: &Hooks) -> impl Iterator<Item = (&'static str, &[Hook])> {
    let both = [("prestart", hooks.prestart()), ("createRuntime", hooks.create_runtime())];
    both.into_iter().filter_map(|(kind, list)| Some((kind, list.as_deref()?)))
}

/// Whether its first process is gone, or counts processes as we do.
fn shares_our_pids(alive: Option<Pid>) -> bool {
    let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    alive.is_none_or(|pid| namespace(&pid.to_string()) == namespace("self"))
}

fn json(state: &State) -> Vec<u8> {
    serde_json::to_vec(state).unwrap_or_default()
}

pub(crate) fn wrong(id: &str, doing: &'static str, status: Status, next: &'static str) -> Error {
    Error::WrongState { doing, id: id.into(), status, next }
}

/// Runs the poststop hooks. runtime.md, "Lifecycle" 13: if one fails, "the runtime MUST log a warning, but the remaining
/// hooks and lifecycle continue as if the hook had succeeded".
fn after_the_end(record: &Record) {
    let Some(list) = record.hooks.as_ref().and_then(|h| h.poststop().as_deref()) else { return };
    let state = json(&State { status: Status::Stopped, pid: 0, ..record.state.clone() });
    for hook in list {
        if let Err(error) = hooks::run("poststop", std::slice::from_ref(hook), &state) {
            tracing::warn!("{error}");
        }
    }
}
