//! The floor: one container by nothing but the system calls that make it, everything known beforehand. No
//! configuration is read, nothing is checked, no state is kept, and no path is distrusted. Nobody could ship it; it shows
//! how much of a runtime's time is the kernel's, and so the most that a runtime can hope for.
//!
//! It is a program of its own, started anew for every container, as a runtime is. Its plan is a text file of lines:
//! `root DIR`, `group DIR`, `write FILE VALUE`, `cgroup NAME DATA` (a mount inside), `filter FILE`.

use nix::{
    errno::Errno,
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
    sys::{
        stat::{Mode, SFlag, makedev, mknod, umask},
        wait::waitpid,
    },
    unistd::{Pid, chdir, pivot_root, setsid, symlinkat},
};
use std::{
    ffi::CString,
    fs::{self, File, OpenOptions},
    io::Write,
    os::{fd::AsRawFd, unix::ffi::OsStrExt},
    path::{Path, PathBuf},
};

const NONE: Option<&str> = None;

/// What was planned.
#[derive(Default)]
struct Plan {
    root: PathBuf,
    groups: Vec<PathBuf>,
    writes: Vec<(PathBuf, String)>,
    mounts: Vec<(String, String)>,
    filter: Vec<u8>,
}

/// Runs `/bin/true` in a container as planned.
pub(crate) fn run(plan: &Path) {
    let plan = read(plan);
    for group in &plan.groups {
        fs::create_dir(group).expect("a group");
    }
    for (file, value) in &plan.writes {
        OpenOptions::new()
            .write(true)
            .open(file)
            .and_then(|mut f| f.write_all(value.as_bytes()))
            .expect("a limit");
    }
    // v1 groups are joined by the child; a v2 group is where it is born.
    let tasks: Vec<File> = plan
        .groups
        .iter()
        .filter_map(|g| OpenOptions::new().write(true).open(g.join("tasks")).ok())
        .collect();
    let v2 =
        plan.groups.iter().find(|g| !g.join("tasks").exists()).map(|g| File::open(g).expect("the v2 group"));
    let pid = clone(v2.as_ref());
    if pid == 0 {
        inside(&plan, tasks);
    }
    let status = waitpid(Pid::from_raw(pid as i32), None).expect("its end");
    assert!(matches!(status, nix::sys::wait::WaitStatus::Exited(_, 0)), "{status:?}");
    for group in &plan.groups {
        // A process leaves its group a moment after its parent has heard of its end.
        while let Err(error) = fs::remove_dir(group) {
            assert_eq!(error.raw_os_error(), Some(libc::EBUSY), "{error}");
            std::thread::yield_now();
        }
    }
}

fn read(plan: &Path) -> Plan {
    let text = fs::read_to_string(plan).expect("the plan");
    let mut plan = Plan::default();
    for line in text.lines() {
        let mut words = line.splitn(3, ' ');
        let (what, name, rest) =
            (words.next(), words.next().expect("a name"), words.next().unwrap_or_default());
        match what {
            Some("root") => plan.root = name.into(),
            Some("group") => plan.groups.push(name.into()),
            Some("write") => plan.writes.push((name.into(), rest.into())),
            Some("cgroup") => plan.mounts.push((name.into(), rest.into())),
            Some("filter") => plan.filter = fs::read(name).expect("the filter"),
            _ => panic!("{line}"),
        }
    }
    plan
}

/// clone3(2) with every namespace that can be made by it.
fn clone(v2: Option<&File>) -> i64 {
    let kinds = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWNET;
    // SAFETY: clone_args is plain integers, and zero means "not given" for each.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = kinds.bits() as u64;
    args.exit_signal = libc::SIGCHLD as u64;
    if let Some(group) = v2 {
        args.flags |= 0x2_0000_0000; // CLONE_INTO_CGROUP
        args.cgroup = group.as_raw_fd() as u64;
    }
    // SAFETY: without CLONE_VM this is a fork, of a process with one thread.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of_val(&args)) };
    Errno::result(pid).expect("clone3")
}

/// The child, up to its exec.
fn inside(plan: &Plan, tasks: Vec<File>) -> ! {
    for mut file in tasks {
        file.write_all(b"0").expect("join a group");
    }
    unshare(CloneFlags::CLONE_NEWCGROUP).expect("a cgroup namespace");
    setsid().expect("a session");
    umask(Mode::empty());
    loopback_up();
    nix::unistd::sethostname("floor").expect("a name");
    mount(NONE, "/", NONE, MsFlags::MS_SLAVE | MsFlags::MS_REC, NONE).expect("cut off");
    mount(Some(&plan.root), &plan.root, NONE, MsFlags::MS_BIND | MsFlags::MS_REC, NONE).expect("the root");
    chdir(&plan.root).expect("enter the root");
    mounts(plan);
    devices();
    masks();
    pivot_root(".", ".").expect("pivot");
    umount2(".", MntFlags::MNT_DETACH).expect("let go of the old root");
    chdir("/").expect("enter the root");
    privileges(&plan.filter);
    let path = CString::new("/bin/true").expect("no NUL");
    let Err(error) = nix::unistd::execve(&path, &[&path], &[c"PATH=/bin"]);
    panic!("execve: {error}");
}

fn loopback_up() {
    // SAFETY: a socket call with constants; the structure is zeroed, then filled as SIOCSIFFLAGS wants it (netdevice(7)).
    unsafe {
        let socket = libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
        let mut request: libc::ifreq = std::mem::zeroed();
        request.ifr_name[..2].copy_from_slice(&[b'l' as libc::c_char, b'o' as libc::c_char]);
        request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as i16;
        assert_eq!(libc::ioctl(socket, libc::SIOCSIFFLAGS, &request), 0);
        libc::close(socket);
    }
}

/// Docker's mounts, by paths relative to the root.
fn mounts(plan: &Plan) {
    let (nosuid, noexec, nodev) = (MsFlags::MS_NOSUID, MsFlags::MS_NOEXEC, MsFlags::MS_NODEV);
    let all = nosuid | noexec | nodev;
    let mount = |kind: &str, at: &str, flags, data: Option<&str>| {
        mount(Some(kind), at, Some(kind), flags, data).unwrap_or_else(|e| panic!("{kind} on {at}: {e}"));
    };
    let make = |at: &str| nix::unistd::mkdir(at, Mode::from_bits_truncate(0o755)).expect("a directory");
    mount("proc", "proc", all, None);
    mount("tmpfs", "dev", nosuid | MsFlags::MS_STRICTATIME, Some("mode=755,size=65536k"));
    make("dev/pts");
    mount("devpts", "dev/pts", nosuid | noexec, Some("newinstance,ptmxmode=0666,mode=0620,gid=5"));
    mount("sysfs", "sys", all | MsFlags::MS_RDONLY, None);
    if let [(name, _)] = &plan.mounts[..]
        && name == "."
    {
        mount("cgroup2", "sys/fs/cgroup", all | MsFlags::MS_RDONLY, None);
    } else {
        mount("tmpfs", "sys/fs/cgroup", all, Some("mode=755"));
        for (name, data) in &plan.mounts {
            let at = format!("sys/fs/cgroup/{name}");
            make(&at);
            let kind = if data.is_empty() { "cgroup2" } else { "cgroup" };
            let data = (!data.is_empty()).then_some(data.as_str());
            mount(kind, &at, all | MsFlags::MS_RDONLY, data);
        }
        mount_readonly("sys/fs/cgroup", all);
    }
    make("dev/mqueue");
    mount("mqueue", "dev/mqueue", all, None);
    make("dev/shm");
    mount("tmpfs", "dev/shm", all, Some("mode=1777,size=67108864"));
}

fn mount_readonly(at: &str, flags: MsFlags) {
    let flags = flags | MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY;
    mount(NONE, at, NONE, flags, NONE).unwrap_or_else(|e| panic!("{at} read-only: {e}"));
}

fn devices() {
    const NODES: [(&str, u64, u64); 6] =
        [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];
    for (name, major, minor) in NODES {
        let mode = Mode::from_bits_truncate(0o666);
        mknod(&PathBuf::from(format!("dev/{name}")), SFlag::S_IFCHR, mode, makedev(major, minor))
            .expect("a device");
    }
    const LINKS: [(&str, &str); 5] = [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("ptmx", "pts/ptmx"),
    ];
    for (name, target) in LINKS {
        symlinkat(target, nix::fcntl::AT_FDCWD, format!("dev/{name}").as_str()).expect("a link");
    }
}

/// Docker's masked and read-only paths, those that are there.
fn masks() {
    const HIDDEN: [&str; 12] = [
        "proc/acpi",
        "proc/asound",
        "proc/interrupts",
        "proc/kcore",
        "proc/keys",
        "proc/latency_stats",
        "proc/sched_debug",
        "proc/scsi",
        "proc/timer_list",
        "proc/timer_stats",
        "sys/firmware",
        "sys/devices/virtual/powercap",
    ];
    let mut empty = None;
    for path in HIDDEN {
        // A file first: most are, and a directory answers ENOTDIR.
        match mount(Some("/dev/null"), path, NONE, MsFlags::MS_BIND, NONE) {
            Err(Errno::ENOTDIR) => match empty {
                None => {
                    let data = Some("size=0k,nr_inodes=2,mode=755");
                    mount(Some("tmpfs"), path, Some("tmpfs"), MsFlags::MS_RDONLY, data).expect("a mask");
                    empty = Some(path);
                }
                Some(empty) => mount(Some(empty), path, NONE, MsFlags::MS_BIND, NONE).expect("a mask"),
            },
            Err(Errno::ENOENT) | Ok(()) => {}
            Err(error) => panic!("{path}: {error}"),
        }
    }
    for path in ["proc/bus", "proc/fs", "proc/irq", "proc/sys", "proc/sysrq-trigger"] {
        match mount(Some(path), path, NONE, MsFlags::MS_BIND | MsFlags::MS_REC, NONE) {
            Err(Errno::ENOENT) => {}
            other => {
                other.expect("a read-only path");
                mount_readonly(path, MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC);
            }
        }
    }
}

/// Docker's 14 capabilities, and the filter.
fn privileges(filter: &[u8]) {
    const KEEP: u64 = 0xa804_25fb;
    // SAFETY: prctl with integers; capset and seccomp get structures that live until they return.
    unsafe {
        for number in (0..=40).filter(|n| KEEP & 1 << n == 0) {
            assert_eq!(libc::prctl(libc::PR_CAPBSET_DROP, number, 0, 0, 0), 0);
        }
        let program = libc::sock_fprog { len: (filter.len() / 8) as u16, filter: filter.as_ptr() as *mut _ };
        let flags = 0;
        let loaded =
            libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program);
        assert_eq!(loaded, 0, "seccomp: {}", Errno::last());
        let header: [u32; 2] = [0x2008_0522, 0]; // _LINUX_CAPABILITY_VERSION_3, this process
        let (low, high) = (KEEP as u32, (KEEP >> 32) as u32);
        let sets: [u32; 6] = [low, low, 0, high, high, 0];
        assert_eq!(libc::syscall(libc::SYS_capset, header.as_ptr(), sets.as_ptr()), 0);
    }
}

/// The lines of a plan.
pub(crate) fn line(what: &str, path: &Path, rest: &str) -> String {
    format!("{what} {} {rest}\n", String::from_utf8_lossy(path.as_os_str().as_bytes()))
}
