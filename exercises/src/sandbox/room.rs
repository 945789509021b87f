//! The room: the root that the reader's code sees. It holds what is named here and nothing else, so that what nobody
//! thought of is not in it: a shell and plain tools, the libraries, the program, the check's directory.

use super::{NONE, PROGRAMS};
use anyhow::{Context, Result, bail};
use nix::{
    fcntl::{OFlag, open},
    libc,
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
    sys::{
        signal::{SigHandler, Signal, signal},
        stat::Mode,
    },
    unistd::{chdir, close, dup2_stderr, dup2_stdin, dup2_stdout, execve, pivot_root, write},
};
use std::{
    ffi::CString,
    fs,
    io::ErrorKind,
    os::{fd::OwnedFd, unix::fs::symlink},
    path::{Path, PathBuf},
};

/// The programs of the room. None of them does a chapter's work: no tar, no unshare, no sha256sum, no language.
const TOOLS: &str = "sh dash bash cat echo printf true false test [ sleep ls head tail wc cut tr sort uniq grep sed seq \
                     expr env id whoami hostname uname date stat readlink realpath basename dirname pwd mkdir rmdir rm \
                     touch ln cp mv chmod chown dd kill ps nproc od yes tee timeout tty stty";

/// Where a system keeps its programs.
const BINARIES: [&str; 4] = ["usr/bin", "usr/sbin", "bin", "sbin"];

/// Where it keeps its libraries.
const LIBRARIES: [&str; 8] =
    ["usr/lib", "usr/lib64", "usr/lib32", "usr/libx32", "lib", "lib64", "lib32", "libx32"];

/// Of `/etc`, what programs look into; nothing in it is a secret.
const ETC: [&str; 9] = [
    "passwd",
    "group",
    "hosts",
    "resolv.conf",
    "nsswitch.conf",
    "ld.so.cache",
    "localtime",
    "subuid",
    "subgid",
];

/// Device files that a system has; more are not in the room.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

/// What will be in it.
pub(super) struct Room {
    /// An empty directory, over which it is built.
    pub(super) at: PathBuf,
    /// The check's directory.
    pub(super) files: PathBuf,
    /// The program to be checked.
    pub(super) program: PathBuf,
}

impl Room {
    /// What the first process does: it moves in, says so by closing `say`, and waits until the other end of `life`, which is
    /// `hold`, is closed by the grader's end.
    pub(super) fn live(&self, life: &OwnedFd, hold: &OwnedFd, say: std::io::Result<OwnedFd>) -> ! {
        use std::os::fd::AsRawFd;
        if let Err(error) = self.move_in()
            && let Ok(say) = &say
        {
            let _ = write(say, format!("{error:#}").as_bytes()); // nobody hears: the grader is gone
            // SAFETY: _exit(2) ends this process at once, as is right after a fork.
            unsafe { libc::_exit(1) }
        }
        // Orphans become its children, and a parent that ignores SIGCHLD need not reap (sigaction(2)).
        // SAFETY: no handler is installed.
        let ignored = unsafe { signal(Signal::SIGCHLD, SigHandler::SigIgn) };
        let moved = ignored.and_then(|_| dup2_stdin(life)).and_then(|()| close(hold.as_raw_fd()));
        // What is the grader's output must not be had by /proc/1/fd.
        let silent = moved.and_then(|()| open("/dev/null", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty()));
        let silent = silent.and_then(|null| dup2_stdout(&null).and_then(|()| dup2_stderr(&null)));
        if silent.is_ok() && super::limits::close_the_rest().is_ok() {
            // The other descriptors close on exec, `say` among them: that is the word that it lives. A program of the host's
            // sees to it that its memory and its /proc/1/exe tell nothing of the grader.
            let _ = execve(c"/bin/cat", &[c"cat"], &[] as &[CString; 0]);
        }
        if let Ok(say) = &say {
            let _ = write(say, b"/bin/cat does not start in the sandbox"); // as above
        }
        // SAFETY: as above.
        unsafe { libc::_exit(1) }
    }

    fn move_in(&self) -> Result<()> {
        unshare(CloneFlags::CLONE_NEWNS).context("make the room's mount namespace")?;
        mount(NONE, "/", NONE, MsFlags::MS_PRIVATE | MsFlags::MS_REC, NONE)
            .context("keep the room's mounts")?;
        let room = self.at.as_path();
        mount(Some("lab"), room, Some("tmpfs"), MsFlags::empty(), Some("size=512m,nr_inodes=50k,mode=755"))
            .context("mount the room")?;
        for name in [
            "proc", "sys", "dev/pts", "dev/shm", "etc", "run", "root", "tmp", "var/tmp", "var/lib", "opt/teu",
        ] {
            fs::create_dir_all(room.join(name)).with_context(|| format!("make /{name} in the room"))?;
        }
        system(room)?;
        for name in ETC {
            copy(&Path::new("/etc").join(name), &room.join("etc").join(name))?;
        }
        // A copy: what is written to the program is not written to what the grader has built.
        let name = self.program.file_name().context("a program without a name")?;
        copy(&self.program, &room.join(&PROGRAMS[1..]).join(name))?;
        devices(room)?;
        mount(Some("proc"), &room.join("proc"), Some("proc"), MsFlags::empty(), NONE)
            .context("mount /proc")?;
        kernel(room)?;
        let dir = room.join(self.files.strip_prefix("/").context("the check's directory has no full path")?);
        fs::create_dir_all(&dir).context("make the check's directory in the room")?;
        bind(&self.files, &dir)?;
        open_to_all(&room.join("tmp"))?;

        // The same directory twice: the host's root is then over the room, and is taken off (pivot_root(2)).
        chdir(room).context("enter the room")?;
        pivot_root(".", ".").context("make the room the root")?;
        umount2(".", MntFlags::MNT_DETACH).context("let go of the host's root")?;
        chdir("/").context("go to the room's root")
    }
}

/// The host's system, as far as it is in the room. Links such as /bin -> usr/bin are kept.
fn system(room: &Path) -> Result<()> {
    for name in BINARIES.iter().chain(&LIBRARIES) {
        let (host, here) = (Path::new("/").join(name), room.join(name));
        match fs::read_link(&host) {
            Ok(target) => {
                fs::create_dir_all(here.parent().unwrap_or(room))?;
                symlink(target, &here).with_context(|| format!("link /{name}"))?;
            }
            Err(_) if !host.is_dir() => {}
            Err(_) if BINARIES.contains(name) => {
                fs::create_dir_all(&here)?;
                for tool in TOOLS.split_whitespace() {
                    copy(&host.join(tool), &here.join(tool))?;
                }
            }
            Err(_) => libraries(&host, &here)?,
        }
    }
    Ok(())
}

/// Where a system keeps its libraries by architecture, those: the other directories beside them hold programs too. Else all.
fn libraries(host: &Path, here: &Path) -> Result<()> {
    let mut chosen = Vec::new();
    for entry in fs::read_dir(host).with_context(|| host.display().to_string())? {
        let entry = entry?;
        let name = entry.file_name();
        if entry.file_type()?.is_dir() && name.to_string_lossy().contains("-linux-") {
            chosen.push(name);
        }
    }
    if chosen.is_empty() {
        return shown(host, here);
    }
    chosen.iter().try_for_each(|name| shown(&host.join(name), &here.join(name)))
}

/// A directory of the host that can be read and, not even by root, be changed: an overlay without an upper layer.
fn shown(host: &Path, here: &Path) -> Result<()> {
    fs::create_dir_all(here).with_context(|| here.display().to_string())?;
    if !nix::unistd::geteuid().is_root() {
        // An ordinary user cannot change them anyway.
        return bind(host, here);
    }
    let empty = here.with_extension("lab-empty");
    fs::create_dir(&empty)?;
    let options = format!("lowerdir={}:{}", host.display(), empty.display());
    mount(Some("lab"), here, Some("overlay"), MsFlags::MS_RDONLY, Some(options.as_str()))
        .with_context(|| format!("show {}", host.display()))
}

fn devices(room: &Path) -> Result<()> {
    let dev = room.join("dev");
    for name in DEVICES {
        fs::write(dev.join(name), "")?;
        bind(&Path::new("/dev").join(name), &dev.join(name))?;
    }
    let options = Some("newinstance,ptmxmode=0666,mode=620");
    mount(Some("devpts"), &dev.join("pts"), Some("devpts"), MsFlags::empty(), options)
        .context("mount /dev/pts")?;
    for (name, target) in [
        ("ptmx", "pts/ptmx"),
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ] {
        symlink(target, dev.join(name))?;
    }
    open_to_all(&dev.join("shm"))
}

/// `/sys`: as root that of the check's network namespace, with the grader's view of the control groups.
fn kernel(room: &Path) -> Result<()> {
    let sys = room.join("sys");
    if !nix::unistd::geteuid().is_root() {
        return bind(Path::new("/sys"), &sys);
    }
    mount(Some("sysfs"), &sys, Some("sysfs"), MsFlags::empty(), NONE).context("mount /sys")?;
    let (groups, here) = (Path::new("/sys/fs/cgroup"), sys.join("fs/cgroup"));
    if groups.is_dir() { bind(groups, &here) } else { Ok(()) }
}

fn bind(from: &Path, to: &Path) -> Result<()> {
    mount(Some(from), to, NONE, MsFlags::MS_BIND | MsFlags::MS_REC, NONE)
        .with_context(|| format!("show {} in the room", from.display()))
}

/// Copies a file that the host may not have.
fn copy(from: &Path, to: &Path) -> Result<()> {
    match fs::copy(from, to) {
        Ok(_) => Ok(()),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e).with_context(|| format!("copy {} into the room", from.display())),
    }
}

fn open_to_all(dir: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(dir, fs::Permissions::from_mode(0o1777)).with_context(|| dir.display().to_string())
}

/// Brings the loopback device of this thread's network namespace up.
pub(super) fn loopback() -> Result<()> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
    use std::os::fd::AsRawFd;
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    // SAFETY: an all-zero ifreq is a valid one: an empty name and no flags.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;
    // SAFETY: the request is an ifreq, as netdevice(7) wants it.
    if unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) } != 0 {
        bail!("SIOCSIFFLAGS: {}", std::io::Error::last_os_error());
    }
    Ok(())
}
