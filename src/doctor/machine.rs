//! The probes: namespaces, file systems, system calls, the network, security modules, helper programs.

use super::{
    Check, Here,
    probe::{Found, call, enter, enter_as_user, in_child, wait, words},
};
use crate::paths;
use nix::{
    errno::Errno,
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    unistd::{ForkResult, Uid, fork, geteuid, pause, setresuid},
};
use std::{
    ffi::CString,
    fs,
    net::Ipv4Addr,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    path::{Path, PathBuf},
};

/// The machine in a line.
pub(super) fn describe() -> String {
    let name = nix::sys::utsname::uname();
    let kernel = name.map(|n| n.release().to_string_lossy().into_owned()).unwrap_or_default();
    let who =
        if geteuid().is_root() { "root".to_owned() } else { format!("an ordinary user (uid {})", geteuid()) };
    format!("Linux {kernel} on {}, as {who}", crate::client::architecture())
}

fn check(
    group: &'static str,
    name: &str,
    needed_for: &'static str,
    found: Found,
    remedy: &'static str,
) -> Check {
    let here = if found.is_ok() { Here::Yes } else { Here::No };
    let found = found.unwrap_or_else(|why| why);
    Check { group, name: name.to_owned(), here, essential: false, needed_for, found, remedy }
}

fn essential(check: Check) -> Check {
    Check { essential: true, ..check }
}

/// Each kind of namespace.
pub(super) fn namespaces() -> Vec<Check> {
    const GROUP: &str = "namespaces";
    // From linux/sched.h; nix does not know it yet.
    const CLONE_NEWTIME: CloneFlags = CloneFlags::from_bits_retain(0x80);
    let remedy = "a kernel with this namespace built in, and not inside a container that forbids it";
    let one = |name, flag, needed_for| {
        check(GROUP, name, needed_for, in_child(|| enter(flag).map(|()| String::new())), remedy)
    };
    let ordinary = check(
        GROUP,
        "user, for ordinary users",
        "running without root (7.1)",
        in_child(|| {
            if geteuid().is_root() {
                let nobody = Uid::from_raw(65534);
                setresuid(nobody, nobody, nobody).map_err(|errno| words("setresuid", errno))?;
            }
            // The maps of a process that changed its user belong to root until it executes something: making the namespace is the test.
            unshare(CloneFlags::CLONE_NEWUSER)
                .map_err(|errno| format!("{}{}", words("unshare", errno), sysctls()))?;
            Ok(sysctls().trim_start_matches(", ").to_owned())
        }),
        "sysctl -w user.max_user_namespaces=15000; on Debian also kernel.unprivileged_userns_clone=1, on Ubuntu \
         kernel.apparmor_restrict_unprivileged_userns=0",
    );
    let ordinary = if geteuid().is_root() { ordinary } else { essential(ordinary) };
    vec![
        essential(one("mount", CloneFlags::CLONE_NEWNS, "a root of its own (7.1)")),
        essential(one("pid", CloneFlags::CLONE_NEWPID, "being process 1 (7.1)")),
        essential(one("uts", CloneFlags::CLONE_NEWUTS, "--hostname (7.1)")),
        essential(one("ipc", CloneFlags::CLONE_NEWIPC, "/dev/shm, --ipc (7.1)")),
        essential(one("network", CloneFlags::CLONE_NEWNET, "--network none and bridge (7.1)")),
        one("cgroup", CloneFlags::CLONE_NEWCGROUP, "its own /sys/fs/cgroup (7.2)"),
        one("time", CLONE_NEWTIME, "clock offsets of a bundle (7.1)"),
        check(
            GROUP,
            "user",
            "root inside, nobody outside (7.1)",
            in_child(|| enter_as_user(CloneFlags::empty()).map(|()| String::new())),
            remedy,
        ),
        ordinary,
    ]
}

/// The switches by which distributions forbid user namespaces, where they have them.
fn sysctls() -> String {
    [
        "user/max_user_namespaces",
        "kernel/unprivileged_userns_clone",
        "kernel/apparmor_restrict_unprivileged_userns",
    ]
    .iter()
    .filter_map(|name| {
        let value = fs::read_to_string(Path::new("/proc/sys").join(name)).ok()?;
        Some(format!(", {}={}", name.replace('/', "."), value.trim()))
    })
    .collect()
}

/// What a container's root is made of.
pub(super) fn filesystems() -> Vec<Check> {
    const GROUP: &str = "file systems";
    let as_user = in_child(|| {
        enter_as_user(CloneFlags::CLONE_NEWNS)?;
        overlay("userxattr")
    });
    let as_is = if geteuid().is_root() {
        in_child(|| {
            enter(CloneFlags::CLONE_NEWNS)?;
            overlay("")
        })
    } else {
        as_user.clone()
    };
    vec![
        essential(check(
            GROUP,
            "overlay",
            "every container's root (5.1)",
            as_is,
            "modprobe overlay; a kernel with CONFIG_OVERLAY_FS",
        )),
        check(
            GROUP,
            "overlay in a user namespace",
            "running without root (5.1)",
            as_user,
            "Linux 5.11 or later",
        ),
        essential(check(
            GROUP,
            "a new /proc",
            "seeing only one's own processes (7.1)",
            in_child(new_proc),
            "not inside a container that covers parts of /proc: run that one with --security-opt systempaths=unconfined",
        )),
        check(
            GROUP,
            "idmapped mounts",
            "layers shared between user namespaces (5.1)",
            in_child(idmapped),
            "Linux 5.12 or later, as root",
        ),
        check(
            GROUP,
            "/dev/fuse",
            "FUSE file systems in a container (--device)",
            open("/dev/fuse"),
            "modprobe fuse",
        ),
    ]
}

/// Covers /tmp with a tmpfs of this child's own, and mounts an overlay in it.
fn overlay(extra: &str) -> Found {
    scratch()?;
    for dir in ["lower", "upper", "work", "merged"] {
        fs::create_dir(Path::new("/tmp").join(dir)).map_err(|why| format!("mkdir: {why}"))?;
    }
    let comma = if extra.is_empty() { "" } else { "," };
    let options = format!("lowerdir=/tmp/lower,upperdir=/tmp/upper,workdir=/tmp/work{comma}{extra}");
    mount(Some("overlay"), "/tmp/merged", Some("overlay"), MsFlags::empty(), Some(options.as_str()))
        .map_err(|errno| words("mount overlay", errno))?;
    fs::write("/tmp/merged/file", "x").map_err(|why| format!("writing into it: {why}"))?;
    Ok(extra.to_owned())
}

/// A tmpfs over /tmp that nobody else sees.
fn scratch() -> Result<(), String> {
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>)
        .map_err(|errno| words("mount --make-rprivate /", errno))?;
    mount(Some("tmpfs"), "/tmp", Some("tmpfs"), MsFlags::empty(), None::<&str>)
        .map_err(|errno| words("mount tmpfs on /tmp", errno))
}

/// A proc for a new PID namespace can be mounted only by a process inside it.
fn new_proc() -> Found {
    enter(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID)?;
    in_child(|| {
        scratch()?;
        mount(Some("proc"), "/tmp", Some("proc"), MsFlags::empty(), None::<&str>)
            .map_err(|errno| words("mount proc", errno))?;
        Ok(String::new())
    })
}

/// A mount, of the file system where images are kept, seen with the ids of another user namespace.
fn idmapped() -> Found {
    if !geteuid().is_root() {
        return Err("only root may make one on the host's file systems".into());
    }
    // A child that stays in a user namespace until it is killed.
    // SAFETY: the doctor has one thread.
    let holder = match unsafe { fork() }.map_err(|errno| words("fork", errno))? {
        ForkResult::Child => {
            let _ = unshare(CloneFlags::CLONE_NEWUSER);
            // It dies with its parent, should that one not come to killing it.
            let _ = nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL);
            let _ = nix::sys::signal::raise(nix::sys::signal::Signal::SIGSTOP);
            pause();
            // SAFETY: as above, in the child.
            unsafe { libc::_exit(0) }
        }
        ForkResult::Parent { child } => child,
    };
    let _ = nix::sys::wait::waitpid(holder, Some(nix::sys::wait::WaitPidFlag::WUNTRACED));
    let found = map_mount(holder);
    let _ = nix::sys::signal::kill(holder, nix::sys::signal::Signal::SIGKILL);
    wait(holder);
    found
}

fn map_mount(holder: nix::unistd::Pid) -> Found {
    for file in ["uid_map", "gid_map"] {
        fs::write(format!("/proc/{holder}/{file}"), "0 100000 65536")
            .map_err(|why| format!("{file}: {why}"))?;
    }
    let namespace =
        fs::File::open(format!("/proc/{holder}/ns/user")).map_err(|why| format!("open: {why}"))?;
    let root = paths::data_root();
    let directory = root.ancestors().find(|dir| dir.is_dir()).unwrap_or(Path::new("/"));
    let path = CString::new(directory.as_os_str().as_encoded_bytes()).map_err(|why| why.to_string())?;
    let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC;
    // SAFETY: `path` is a C string that outlives the call; the answer is a new descriptor or -1.
    let tree = unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags) };
    let tree = Errno::result(tree).map_err(|errno| words("open_tree", errno))?;
    // SAFETY: open_tree(2) has just given it to us.
    let tree = unsafe { OwnedFd::from_raw_fd(i32::try_from(tree).map_err(|why| why.to_string())?) };
    let attributes = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_IDMAP,
        attr_clr: 0,
        propagation: 0,
        userns_fd: u64::try_from(namespace.as_raw_fd()).map_err(|why| why.to_string())?,
    };
    // SAFETY: the empty path and the attributes outlive the call, and the size is theirs (mount_setattr(2)).
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    Errno::result(done).map_err(|errno| words("mount_setattr", errno))?;
    Ok(format!("on the file system of {}", directory.display()))
}

/// System calls that are newer than some kernels, or that a filter forbids.
pub(super) fn calls() -> Vec<Check> {
    const GROUP: &str = "system calls";
    let there = |number, arguments| match call(number, arguments) {
        Errno::ENOSYS => Err("ENOSYS: the kernel does not know it".to_owned()),
        Errno::EPERM => Err("EPERM: a seccomp filter forbids it".to_owned()),
        _ => Ok(String::new()),
    };
    let into_cgroup = || {
        // A descriptor that cannot be open: a kernel that knows the flag says EBADF, one that does not, EINVAL or E2BIG.
        let arguments = libc::clone_args {
            flags: 0x2_0000_0000,
            exit_signal: 17,
            cgroup: 1 << 30,
            pidfd: 0,
            child_tid: 0,
            parent_tid: 0,
            stack: 0,
            stack_size: 0,
            tls: 0,
            set_tid: 0,
            set_tid_size: 0,
        };
        // SAFETY: the arguments outlive the call, and the size is theirs; no child is made, since the descriptor is bad.
        let done =
            unsafe { libc::syscall(libc::SYS_clone3, &raw const arguments, size_of::<libc::clone_args>()) };
        match Errno::result(done) {
            Err(Errno::EBADF) => Ok(String::new()),
            Err(errno) => Err(words("clone3", errno)),
            Ok(_) => Err("the kernel took a descriptor that is none".into()),
        }
    };
    let filter = || {
        let action = libc::SECCOMP_RET_ERRNO;
        // SAFETY: asks about one action, a u32 that outlives the call (seccomp(2)).
        let done =
            unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_ACTION_AVAIL, 0, &raw const action) };
        Errno::result(done).map(|_| String::new()).map_err(|errno| words("seccomp", errno))
    };
    vec![
        essential(check(
            GROUP,
            "openat2",
            "paths inside an untrusted root (5.1)",
            there(libc::SYS_openat2, [-1, 0, 0, 0, 0]),
            "Linux 5.6 or later",
        )),
        check(
            GROUP,
            "clone3",
            "a start in one call (7.1)",
            there(libc::SYS_clone3, [0; 5]),
            "Linux 5.3 or later; older: clone",
        ),
        check(
            GROUP,
            "CLONE_INTO_CGROUP",
            "being born in one's group (7.2)",
            in_child(into_cgroup),
            "Linux 5.7 or later; older: moved after the birth",
        ),
        check(
            GROUP,
            "pidfd_open",
            "signals that cannot hit another process (7.1)",
            there(libc::SYS_pidfd_open, [-1, 0, 0, 0, 0]),
            "Linux 5.3 or later",
        ),
        check(
            GROUP,
            "mount_setattr",
            "read-only and idmapped mounts (7.1)",
            there(libc::SYS_mount_setattr, [-1, 0, 0, 0, 0]),
            "Linux 5.12 or later",
        ),
        check(
            GROUP,
            "seccomp filters",
            "--security-opt seccomp (7.1)",
            in_child(filter),
            "a kernel with CONFIG_SECCOMP_FILTER",
        ),
    ]
}

/// Devices for containers' networks.
pub(super) fn network() -> Vec<Check> {
    const GROUP: &str = "network";
    let net = || enter(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS);
    let address = (Ipv4Addr::new(10, 0, 0, 1), 24);
    let bridge = in_child(|| {
        net()?;
        namespaces::net::bridge("probe0", address).map(|()| String::new()).map_err(|why| why.to_string())
    });
    let veth = in_child(|| {
        net()?;
        namespaces::net::bridge("probe0", address).map_err(|why| why.to_string())?;
        veth()
    });
    let tables = in_child(|| {
        let nft = program_path("nft").ok_or("needs the program nft to tell")?;
        net()?;
        let done = std::process::Command::new(nft).args(["add", "table", "ip", "probe"]).output();
        let done = done.map_err(|why| format!("nft: {why}"))?;
        let said = String::from_utf8_lossy(&done.stderr).lines().next().unwrap_or_default().to_owned();
        if done.status.success() { Ok(String::new()) } else { Err(said) }
    });
    vec![
        check(
            GROUP,
            "bridge",
            "--network bridge (7.1)",
            bridge,
            "modprobe bridge; without: --network none or host",
        ),
        check(
            GROUP,
            "veth",
            "--network bridge (7.1)",
            veth,
            "modprobe veth; without: --network none or host",
        ),
        check(
            GROUP,
            "nf_tables",
            "--publish, the way out of a bridge (7.1)",
            tables,
            "modprobe nf_tables; install nftables",
        ),
        check(
            GROUP,
            "/dev/net/tun",
            "pasta: the network of ordinary users",
            open("/dev/net/tun"),
            "modprobe tun",
        ),
    ]
}

/// A pair between this namespace and a child's.
fn veth() -> Found {
    // SAFETY: the doctor has one thread.
    let child = match unsafe { fork() }.map_err(|errno| words("fork", errno))? {
        ForkResult::Child => {
            let _ = nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL);
            let _ = unshare(CloneFlags::CLONE_NEWNET);
            let _ = nix::sys::signal::raise(nix::sys::signal::Signal::SIGSTOP);
            pause();
            // SAFETY: ends the child.
            unsafe { libc::_exit(0) }
        }
        ForkResult::Parent { child } => child,
    };
    let _ = nix::sys::wait::waitpid(child, Some(nix::sys::wait::WaitPidFlag::WUNTRACED));
    let endpoint = namespaces::net::Endpoint {
        bridge: "probe0".into(),
        host_name: "probe1".into(),
        name: "eth0".into(),
        address: (Ipv4Addr::new(10, 0, 0, 2), 24),
        mac: [2, 0, 0, 0, 0, 1],
        gateway: None,
    };
    let found = namespaces::net::attach(child, &endpoint);
    let _ = nix::sys::signal::kill(child, nix::sys::signal::Signal::SIGKILL);
    wait(child);
    found.map(|()| String::new()).map_err(|why| why.to_string())
}

/// Security modules: nothing needs them, but they explain refusals.
pub(super) fn security() -> Vec<Check> {
    const GROUP: &str = "security modules";
    let apparmor = match fs::read_to_string("/sys/module/apparmor/parameters/enabled") {
        Ok(text) if text.trim() == "Y" => Ok("enabled".into()),
        _ => Err("not enabled".into()),
    };
    let selinux = match fs::read_to_string("/sys/fs/selinux/enforce") {
        Ok(text) if text.trim() == "1" => Ok("enforcing".into()),
        Ok(_) => Ok("permissive".into()),
        Err(_) => Err("not enabled".into()),
    };
    vec![
        check(GROUP, "AppArmor", "--security-opt apparmor", apparmor, ""),
        check(GROUP, "SELinux", "--security-opt label", selinux, ""),
    ]
}

/// Programs that are used where they are, and files that they read.
pub(super) fn helpers() -> Vec<Check> {
    const GROUP: &str = "helpers";
    let program = |name: &str| {
        program_path(name).map(|p| p.display().to_string()).ok_or_else(|| "not on the PATH".to_owned())
    };
    vec![
        check(
            GROUP,
            "newuidmap",
            "more than one user in an ordinary user's container",
            program("newuidmap"),
            "install uidmap (shadow-utils)",
        ),
        check(
            GROUP,
            "newgidmap",
            "more than one group, likewise",
            program("newgidmap"),
            "install uidmap (shadow-utils)",
        ),
        check(
            GROUP,
            "/etc/subuid",
            "ids for newuidmap to give",
            subordinate("/etc/subuid"),
            "usermod --add-subuids 100000-165535 USER",
        ),
        check(
            GROUP,
            "/etc/subgid",
            "ids for newgidmap to give",
            subordinate("/etc/subgid"),
            "usermod --add-subgids 100000-165535 USER",
        ),
        check(
            GROUP,
            "pasta",
            "a way out for ordinary users' containers",
            program("pasta"),
            "install passt; without: --network none or host",
        ),
        check(GROUP, "nft", "--publish, the way out of a bridge", program("nft"), "install nftables"),
    ]
}

/// Where a program is on the PATH, or in the directories that an ordinary user's PATH leaves out.
fn program_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories =
        std::env::split_paths(&path).chain(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from));
    directories.map(|dir| dir.join(name)).find(|file| file.is_file())
}

/// The line of this user in /etc/subuid: `name:first:count` (subuid(5)).
fn subordinate(file: &str) -> Found {
    let text = fs::read_to_string(file).map_err(|why| why.to_string())?;
    if geteuid().is_root() {
        return Ok("root has all ids and needs none".into());
    }
    let uid = geteuid().to_string();
    let name = nix::unistd::User::from_uid(geteuid()).ok().flatten().map(|u| u.name).unwrap_or_default();
    let line = text.lines().find(|l| l.split(':').next().is_some_and(|owner| owner == name || owner == uid));
    line.map(str::to_owned).ok_or_else(|| format!("no line for {name}"))
}

fn open(path: &str) -> Found {
    let file = fs::OpenOptions::new().read(true).write(true).open(path);
    file.map(|_| String::new()).map_err(|why| why.to_string())
}
