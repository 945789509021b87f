//! The child's half of a start: what the container's first process does before it becomes the
//! program. Read it from top to bottom: the order is the point, and each step says why it is there.

use crate::{
    Result, descriptors, devices,
    error::{Doing, invalid},
    gate, hooks, identity, inside, label,
    mounts::Mounter,
    net,
    plan::Plan,
    process::{Provided, Request, Stdio, in_bundle},
    program::{self, Program},
    rootfs, scheduling, seccomp, sys, sysctl,
    talk::{Orders, Talk, Word},
    terminal::{self, Terminal},
    timens,
};
use nix::{
    fcntl::{OFlag, open},
    sched::{CloneFlags, unshare},
    sys::{
        prctl,
        stat::{Mode, umask},
    },
    unistd::{fchdir, sethostname, setsid},
};
use oci_spec::runtime::{Hook, Hooks, Linux, LinuxNamespaceType as Kind, Process, Root};
use std::{
    convert::Infallible,
    io::Write,
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::PathBuf,
};

/// Never returns: ends in the program, or with a message to whoever waits for one.
pub(crate) fn run(request: &Request, plan: &Plan, provided: Provided, talk: Talk) -> ! {
    // Without one there will be no start: all that is made is the place for it.
    let nothing = Process::default();
    let process = request.spec.process().as_ref().unwrap_or(&nothing);
    let linux = request.spec.linux().as_ref();
    let Provided { idmapped, nodes, filter, agent } = provided;
    let init = Init { request, plan, idmapped, nodes, talk: &talk, process, linux };
    let prepared = init.prepare(filter, agent).and_then(|mut prepared| {
        let terminal = prepared.terminal.take(); // its master is the parent's from now on, and no one else's
        talk.say(Word::Ready, b"", terminal.as_ref().map(|t| t.master.as_fd()))?;
        Ok(prepared)
    });
    match prepared {
        Ok(prepared) => init.finish(prepared),
        Err(error) => talk.fail(&error),
    }
    sys::exit_now(1)
}

/// What every step may look at.
struct Init<'a> {
    request: &'a Request<'a>,
    plan: &'a Plan,
    idmapped: Vec<(usize, OwnedFd)>,
    nodes: Option<OwnedFd>,
    talk: &'a Talk,
    process: &'a Process,
    linux: Option<&'a Linux>,
}

/// What is left to use once the process stands at the gate.
struct Prepared {
    program: Option<Program>,
    filter: Option<seccomp::Program>,
    terminal: Option<Terminal>,
    state: Vec<u8>,
    /// The filter is loaded already.
    locked: bool,
}

impl Init<'_> {
    /// Everything up to the gate.
    fn prepare(&self, filter: Option<seccomp::Program>, agent: Option<UnixStream>) -> Result<Prepared> {
        let Init { request, plan, talk, process, .. } = self;
        scheduling::all_cpus();
        descriptors::join_groups(request.tasks)?;
        descriptors::close_others(&self.needed(agent.as_ref()), request.preserve_fds)?;
        // Until the parent has written our id maps we touch nothing.
        let (orders, state) = talk.wait_go()?;
        let root = self.find_root()?;
        if plan.has(Kind::User) {
            identity::root_of_the_namespace(process, self.keeps_groups())?;
            talk.step("setresuid(2)", || "root of the user namespace".into());
        }
        // A cgroup namespace's root is the group of whoever makes it: it can be made only now.
        if plan.new_cgroup {
            unshare(CloneFlags::CLONE_NEWCGROUP).doing(|| "make a cgroup namespace".into())?;
            talk.step("unshare(2)", || "CLONE_NEWCGROUP: the present cgroup becomes its /".into());
        }
        if plan.new_time {
            timens::enter_new(self.linux.and_then(|l| l.time_offsets().as_ref()))?;
            talk.step("unshare(2)", || "CLONE_NEWTIME: clocks of its own".into());
        }
        // The host's procfs, while it can still be reached: the container's is not ours to trust.
        let proc =
            open("/proc", OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).doing(|| "open /proc".into())?;
        label::on_exec(&proc, process)?;
        scheduling::apply(process, self.linux)?;
        let agent = match (self.linux.and_then(|l| l.seccomp().as_ref()), agent) {
            (Some(filter), Some(socket)) => Some(seccomp::agent(filter, socket, &proc, &state)?),
            _ => None,
        };
        // From here on nobody may look into this process: it still is the runtime, soon in a
        // container that may share its pid namespace with strangers (CVE-2016-9962).
        prctl::set_dumpable(false).doing(|| "make this process undumpable".into())?;
        if !request.no_new_keyring {
            let _ = sys::join_new_keyring(); // not every kernel has keyrings
        }
        setsid().doing(|| "start a session".into())?; // a terminal must belong to one
        umask(Mode::empty()); // the modes of what we make are meant as they are written

        if plan.makes(Kind::Network) {
            net::loopback_up()?;
            talk.step("netlink(7)", || "lo up".into());
        }
        self.name()?;
        let terminal = self.change_root(&proc, &state, orders, root)?;
        drop(proc); // no door to the host is open when the container's paths are looked up

        // As root first, since an image may hide a directory from the user that it is meant for.
        let entered = program::enter_directory(process.cwd());
        match &terminal {
            Some(terminal) => terminal::take(&terminal.slave)?,
            None => terminal::streams(request.stdio)?,
        }
        identity::user(process, self.keeps_groups(), talk)?;
        let user = process.user();
        talk.step("setresuid(2)", || format!("uid {}, gid {}", user.uid(), user.gid()));
        entered.or_else(|_| program::enter_directory(process.cwd()))?;
        let program = request.spec.process().as_ref().map(Program::find).transpose()?;
        descriptors::die_with_parent(orders)?;
        let asks = agent.is_some();
        let filter = filter.map(|f| f.tell(agent));
        if asks {
            // The agent gets its descriptor with the container, as from runc: an engine may wait for it before the start.
            identity::lock(process, filter.as_ref())?;
        }
        Ok(Prepared { program, filter, terminal, state, locked: asks })
    }

    /// The descriptors that are still to be used. Everything else that the runtime has open is a way
    /// out of the container (CVE-2024-21626).
    fn needed(&self, agent: Option<&UnixStream>) -> Vec<i32> {
        let mut needed = vec![self.talk.as_raw_fd(), self.request.gate.as_raw_fd()];
        needed.extend(self.idmapped.iter().map(|(_, fd)| fd.as_raw_fd()));
        needed.extend(self.nodes.as_ref().map(AsRawFd::as_raw_fd));
        needed.extend(agent.map(|socket| socket.as_raw_fd()));
        if let Stdio::Fds(fds) = self.request.stdio {
            needed.extend(fds.map(|fd| fd.as_raw_fd()));
        }
        needed
    }

    /// crun's annotation for those whose files are open to them by a group that has no name inside.
    fn keeps_groups(&self) -> bool {
        let annotations = self.request.spec.annotations().as_ref();
        annotations.is_some_and(|all| all.get(identity::KEEP_GROUPS).is_some_and(|keep| keep == "1"))
    }

    /// Host and domain name. In the host's own namespace they would change the host's.
    fn name(&self) -> Result<()> {
        let spec = self.request.spec;
        if let Some(name) = spec.hostname() {
            sethostname(name).doing(|| format!("set the hostname {name}"))?;
            self.talk.step("sethostname(2)", || name.clone());
        }
        if let Some(name) = spec.domainname() {
            sys::setdomainname(name).doing(|| format!("set the domainname {name}"))?;
        }
        Ok(())
    }

    /// The root's directory, found while we still are who we were outside: root of a user namespace may not be let through
    /// on the way there (a bundle in a directory of mode 0700).
    fn find_root(&self) -> Result<(PathBuf, OwnedFd)> {
        let Some(wanted) = self.request.spec.root() else { return invalid("config.json has no root") };
        let path = in_bundle(self.request.bundle, wanted.path())?;
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let root = open(&path, flags, Mode::empty()).doing(|| format!("open the root {}", path.display()))?;
        Ok((path, root))
    }

    /// From the host's tree to the container's, and the terminal, if one is asked for.
    fn change_root(
        &self,
        proc: &OwnedFd,
        state: &[u8],
        orders: Orders,
        (path, place): (PathBuf, OwnedFd),
    ) -> Result<Option<Terminal>> {
        let Init { request, plan, talk, process, linux, .. } = self;
        let spec = request.spec;
        if !plan.has(Kind::Mount) {
            return rootfs::only_chroot(&place, &path).map(|()| None);
        }
        let propagation = linux.and_then(|l| l.rootfs_propagation().as_deref());
        rootfs::cut_off(propagation)?;
        talk.step("mount(2)", || format!("/ is {} now", propagation.unwrap_or("rslave")));
        let root = rootfs::bind_root(place, &path, propagation)?;
        talk.step("move_mount(2)", || format!("{} bound on itself", path.display()));

        let mounts = spec.mounts().as_deref().unwrap_or_default();
        let mounter = Mounter {
            root: &root,
            bundle: request.bundle,
            talk,
            own_cgroup: plan.has(Kind::Cgroup),
            own_pid: plan.has(Kind::Pid),
            idmapped: &self.idmapped,
            context: label::mount_context(spec)?,
        };
        let readonly_later = mounter.all(mounts)?;
        if !rootfs::is_bound(mounts, "/dev") {
            devices::default_ones(&root, talk)?;
            let more = linux.and_then(|l| l.devices().as_deref()).unwrap_or_default();
            devices::more(&root, more, self.nodes.as_ref())?;
        }
        let terminal = match process.terminal() {
            Some(true) => Some(terminal::open(&root, process)?),
            _ => None,
        };
        if let Some(terminal) = &terminal {
            terminal::bind_console(&root, &terminal.slave)?;
            talk.step("ioctl(2)", || "TIOCGPTPEER: a terminal of the container's devpts".into());
        }

        // A missing working directory is made, while the root can still be written to.
        let _ = inside::make(&root, process.cwd(), inside::Kind::Dir);

        if orders.pause {
            talk.say(Word::Mounted, b"", None)?;
            talk.wait_go()?;
        }
        // Their paths are the host's, their namespaces the container's; they begin in its root, as with runc.
        fchdir(&root).doing(|| "enter the new root".into())?;
        hooks::run("createContainer", self.hooks(Hooks::create_container), state)?;

        // Now everything is where it belongs, and can be closed: settings, masks, read-only.
        if let Some(settings) = linux.and_then(|l| l.sysctl().as_ref()) {
            sysctl::write(proc, plan, settings)?;
        }
        let masked = linux.and_then(|l| l.masked_paths().as_deref()).unwrap_or_default();
        rootfs::mask(&root, masked)?;
        let readonly = linux.and_then(|l| l.readonly_paths().as_deref()).unwrap_or_default();
        rootfs::make_readonly(&root, readonly)?;
        talk.step("move_mount(2)", || format!("{} paths masked, {} read-only", masked.len(), readonly.len()));
        rootfs::close_later(&root, &readonly_later)?;
        if spec.root().as_ref().and_then(Root::readonly) == Some(true) {
            rootfs::set_readonly(&root).doing(|| "make the root read-only".into())?;
            talk.step("mount_setattr(2)", || "the root is read-only".into());
        }
        if request.no_pivot {
            rootfs::move_and_chroot(&root)?;
        } else {
            rootfs::pivot(&root, propagation)?;
            talk.step("pivot_root(2)", || format!("{} is / now, the host's / is gone", path.display()));
        }
        Ok(terminal)
    }

    fn hooks(&self, which: fn(&Hooks) -> &Option<Vec<Hook>>) -> &[Hook] {
        self.request.spec.hooks().as_ref().and_then(|h| which(h).as_deref()).unwrap_or_default()
    }

    /// Waits at the gate, then becomes the program. Whoever opens it reads what went wrong.
    fn finish(&self, prepared: Prepared) {
        let Ok(opener) = gate::wait(self.request.gate) else { return };
        let Err(error) = self.become_program(&prepared);
        let _ = std::fs::File::from(opener).write_all(&error.frame());
    }

    fn become_program(&self, prepared: &Prepared) -> Result<Infallible> {
        descriptors::restore_signals()?;
        if !prepared.locked {
            identity::lock(self.process, prepared.filter.as_ref())?;
        }
        // The hook is a program of the image, and gets no more rights than the container's own.
        // Without an environment of its own it has the program's, as with runc.
        let mut hooks = self.hooks(Hooks::start_container).to_vec();
        for hook in hooks.iter_mut().filter(|hook| hook.env().is_none()) {
            hook.set_env(Some(self.process.env().clone().unwrap_or_default()));
        }
        hooks::run("startContainer", &hooks, &prepared.state)?;
        let Some(program) = &prepared.program else {
            return invalid("config.json has no process: say what to run, in process.args");
        };
        Err(program.exec())
    }
}
