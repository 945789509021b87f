//! In which order a program syncs and renames: no file shows it afterwards, only the system calls do. The kernel tells of
//! them (seccomp_unotify(2)): it stops the program at each, and goes on when the grader has noted it. Nothing traces the
//! program, so it runs as it would, and may trace others.

use anyhow::{Context, Result};
use nix::{
    libc,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};
use std::{
    fs,
    io::{self, Read, Seek, SeekFrom},
    os::{
        fd::{AsFd, AsRawFd, FromRawFd, OwnedFd},
        unix::{fs::MetadataExt, net::UnixStream, process::CommandExt},
    },
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex, PoisonError},
    thread,
};

/// What it asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// fsync(2) or fdatasync(2) of the file with this identity.
    Synced(Identity),
    /// sync(2) or syncfs(2): of everything.
    SyncedAll,
    /// rename(2) or link(2) of the file with this identity to this name, as the program gave it.
    Named(Identity, PathBuf),
}

/// Device and inode; none if there was no such file.
pub type Identity = Option<(u64, u64)>;

/// What a program and all that it starts have asked for so far.
pub struct Order {
    steps: Arc<Mutex<Vec<Step>>>,
}

impl Order {
    /// All of it, in the order in which it was asked for.
    pub fn steps(&self) -> Vec<Step> {
        self.steps.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The grader's end, until the program is started.
pub struct Listening {
    here: UnixStream,
    there: UnixStream,
}

/// Has the kernel tell of what this command will ask for.
pub fn listen(command: &mut Command) -> Result<Listening> {
    let (here, there) = UnixStream::pair().context("make a pair of sockets")?;
    let socket = there.as_raw_fd();
    // SAFETY: between fork and exec only system calls are made; `there` is held open until the program is started.
    unsafe {
        command.pre_exec(move || {
            // Where the kernel does not do it, nothing is sent, and the grader says so.
            let listener = load();
            if listener >= 0 {
                send(socket, listener)?;
                libc::close(listener);
            }
            Ok(())
        });
    }
    Ok(Listening { here, there })
}

impl Listening {
    /// To be called when the command has been started. None where the kernel cannot tell.
    pub fn begin(self) -> Result<Option<Order>> {
        drop(self.there);
        let Some(listener) = receive(&self.here)? else { return Ok(None) };
        let steps = Arc::new(Mutex::new(Vec::new()));
        let order = Order { steps: steps.clone() };
        // It ends when the last process that is told of has ended.
        thread::spawn(move || while note(&listener, &steps).is_ok() {});
        Ok(Some(order))
    }
}

mod requests {
    #![allow(
        missing_docs,
        unreachable_pub,
        reason = "the macro makes public functions, which nobody outside sees"
    )]
    nix::ioctl_readwrite!(receive, b'!', 0, nix::libc::seccomp_notif);
    nix::ioctl_readwrite!(send, b'!', 1, nix::libc::seccomp_notif_resp);
}

/// Notes one call and lets it go on.
fn note(listener: &OwnedFd, steps: &Mutex<Vec<Step>>) -> io::Result<()> {
    let mut ready = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
    poll(&mut ready, PollTimeout::NONE)?;
    if !ready[0].revents().is_some_and(|r| r.contains(PollFlags::POLLIN)) {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    // SAFETY: both are plain numbers, for which zero is a value, and the kernel wants the first to be zero.
    let (mut call, mut answer): (libc::seccomp_notif, libc::seccomp_notif_resp) =
        unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
    // SAFETY: the structures are those of the two requests.
    match unsafe { requests::receive(listener.as_raw_fd(), &raw mut call) } {
        // Killed meanwhile.
        Err(nix::errno::Errno::ENOENT | nix::errno::Errno::EINTR) => return Ok(()),
        other => other?,
    };
    if let Some(step) = step(call.pid, &call.data) {
        steps.lock().unwrap_or_else(PoisonError::into_inner).push(step);
    }
    answer.id = call.id;
    answer.flags = libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32;
    // SAFETY: as above.
    match unsafe { requests::send(listener.as_raw_fd(), &raw mut answer) } {
        Err(nix::errno::Errno::ENOENT) => Ok(()), // killed meanwhile
        other => Ok(other.map(drop)?),
    }
}

/// What a call asks for.
fn step(pid: u32, call: &libc::seccomp_data) -> Option<Step> {
    let process = Path::new("/proc").join(pid.to_string());
    let a = call.args;
    let name = |at: u64| text(&process, at);
    let named = |from: (i32, u64), to: u64| {
        let path = from_inside(&process, from.0, &name(from.1)?);
        // A name in /proc/self/fd is a link to the file that is meant.
        let about =
            fs::symlink_metadata(&path).ok().filter(|m| !m.is_symlink()).or_else(|| fs::metadata(&path).ok());
        Some(Step::Named(about.map(|m| (m.dev(), m.ino())), name(to)?))
    };
    let cwd = libc::AT_FDCWD;
    match i64::from(call.nr) {
        libc::SYS_fsync | libc::SYS_fdatasync => {
            let about = fs::metadata(process.join("fd").join(a[0].to_string())).ok();
            Some(Step::Synced(about.map(|m| (m.dev(), m.ino()))))
        }
        libc::SYS_sync | libc::SYS_syncfs => Some(Step::SyncedAll),
        #[cfg(target_arch = "x86_64")]
        libc::SYS_rename | libc::SYS_link => named((cwd, a[0]), a[1]),
        // The descriptor is an int: its upper half means nothing.
        #[cfg(target_arch = "x86_64")]
        libc::SYS_renameat => named((a[0] as i32, a[1]), a[3]),
        libc::SYS_renameat2 | libc::SYS_linkat => named((a[0] as i32, a[1]), a[3]),
        _ => None,
    }
}

/// Where the grader finds a path of the program's.
fn from_inside(process: &Path, dir: i32, path: &Path) -> PathBuf {
    if let Ok(below) = path.strip_prefix("/proc/self") {
        return process.join(below);
    }
    match path.strip_prefix("/") {
        Ok(absolute) => process.join("root").join(absolute),
        Err(_) if dir == libc::AT_FDCWD => process.join("cwd").join(path),
        Err(_) => process.join("fd").join(dir.to_string()).join(path),
    }
}

/// A string in the program's memory.
fn text(process: &Path, at: u64) -> Option<PathBuf> {
    use std::os::unix::ffi::OsStringExt;
    let mut memory = fs::File::open(process.join("mem")).ok()?;
    memory.seek(SeekFrom::Start(at)).ok()?;
    let mut bytes = Vec::new();
    // Up to the end of what is mapped there, where reading fails.
    let mut page = [0; 256];
    while bytes.len() < libc::PATH_MAX as usize {
        let most = 256 - ((at as usize + bytes.len()) % 256);
        let Ok(n @ 1..) = memory.read(&mut page[..most]) else { break };
        bytes.extend_from_slice(&page[..n]);
        if let Some(end) = bytes.iter().position(|b| *b == 0) {
            bytes.truncate(end);
            return Some(std::ffi::OsString::from_vec(bytes).into());
        }
    }
    None
}

/// The calls that are told of.
#[cfg(target_arch = "x86_64")]
const CALLS: [i64; 9] = [
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_sync,
    libc::SYS_syncfs,
    libc::SYS_rename,
    libc::SYS_link,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_linkat,
];
#[cfg(not(target_arch = "x86_64"))]
const CALLS: [i64; 6] = [
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_sync,
    libc::SYS_syncfs,
    libc::SYS_renameat2,
    libc::SYS_linkat,
];

/// Loads the filter into this process. Only system calls. Returns the listener, or a negative number. (Foreign architectures
/// have been refused before: see the sandbox's limits.)
fn load() -> i32 {
    let step =
        |code: u32, yes: u8, value: u32| libc::sock_filter { code: code as u16, jt: yes, jf: 0, k: value };
    let mut program = [step(0, 0, 0); CALLS.len() + 3];
    program[0] = step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0); // seccomp_data.nr
    for (n, call) in CALLS.iter().enumerate() {
        let yes = (CALLS.len() - n) as u8;
        program[n + 1] = step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, yes, *call as u32);
    }
    program[CALLS.len() + 1] = step(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ALLOW);
    program[CALLS.len() + 2] = step(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_USER_NOTIF);
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: the kernel copies the program, which lives until then.
    let listener = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_NEW_LISTENER,
            &raw const program,
        )
    };
    listener as i32
}

/// A message of one byte with one descriptor (unix(7)).
struct Message {
    byte: [u8; 1],
    part: libc::iovec,
    control: [u64; 4],
}

impl Message {
    fn new() -> Message {
        let part = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 1 };
        Message { byte: [0], part, control: [0; 4] }
    }

    /// The header, which points into this message and is not to outlive it.
    fn header(&mut self) -> libc::msghdr {
        self.part.iov_base = self.byte.as_mut_ptr().cast();
        // SAFETY: zero is a value of each of its fields.
        let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
        header.msg_iov = &raw mut self.part;
        header.msg_iovlen = 1;
        header.msg_control = self.control.as_mut_ptr().cast();
        // SAFETY: arithmetic.
        header.msg_controllen = unsafe { libc::CMSG_SPACE(size_of::<i32>() as u32) } as _;
        header
    }
}

/// Only system calls: it is done between fork and exec.
fn send(socket: i32, fd: i32) -> io::Result<()> {
    let mut message = Message::new();
    let header = message.header();
    // SAFETY: the control part has room for one descriptor, and all of it lives until it is sent.
    let sent = unsafe {
        let first = libc::CMSG_FIRSTHDR(&raw const header);
        (*first).cmsg_level = libc::SOL_SOCKET;
        (*first).cmsg_type = libc::SCM_RIGHTS;
        (*first).cmsg_len = libc::CMSG_LEN(size_of::<i32>() as u32) as _;
        libc::CMSG_DATA(first).cast::<i32>().write_unaligned(fd);
        libc::sendmsg(socket, &raw const header, 0)
    };
    if sent == 1 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// None if the other end has closed without a descriptor.
fn receive(socket: &UnixStream) -> Result<Option<OwnedFd>> {
    let mut message = Message::new();
    let mut header = message.header();
    // SAFETY: the control part has room for one descriptor, and what is received is ours.
    unsafe {
        let received = libc::recvmsg(socket.as_raw_fd(), &raw mut header, libc::MSG_CMSG_CLOEXEC);
        if received < 0 {
            return Err(io::Error::last_os_error()).context("receive the kernel's listener");
        }
        let first = libc::CMSG_FIRSTHDR(&raw const header);
        if received == 0 || first.is_null() || (*first).cmsg_type != libc::SCM_RIGHTS {
            return Ok(None);
        }
        Ok(Some(OwnedFd::from_raw_fd(libc::CMSG_DATA(first).cast::<i32>().read_unaligned())))
    }
}
