//! The runtime's own program, out of the container's reach.
//!
//! Until its exec the container's first process runs this very program. An image whose entry point
//! is a script `#!/proc/self/exe` makes the kernel run it once more, inside, with the image's
//! libraries; these can open /proc/self/exe and, as root, wait until nobody executes it and write
//! to it: the host's runtime is theirs (CVE-2019-5736). So what is executed must not be writable
//! through that door, whoever asks: the program starts itself again from an unattached read-only
//! mount of its file, which costs three system calls and an exec.

use crate::{
    Result,
    error::Doing,
    sys::{self, MountAttr, attr},
};
use nix::{
    errno::Errno,
    fcntl::{AT_FDCWD, FcntlArg, OFlag, SealFlag, fcntl, open},
    sys::{
        memfd::{MFdFlags, memfd_create},
        prctl,
        stat::Mode,
        statvfs::{FsFlags, fstatvfs},
    },
    unistd::{AccessFlags, access, fexecve},
};
use std::{
    convert::Infallible,
    env,
    ffi::CString,
    fs::File,
    os::{fd::OwnedFd, unix::ffi::OsStringExt},
};

const OWN: &str = "/proc/self/exe";

/// Returns when this process is out of reach: at once if it is already, or if nobody with this user's
/// rights could write to the program anyway; else as a new execution of itself. To be called
/// first thing in `main` by a program that calls [`crate::process::clone`] or
/// [`crate::enter::clone`].
pub fn ensure() -> Result<()> {
    let doing = || "look at this program's own file".to_owned();
    if access(OWN, AccessFlags::W_OK) == Err(Errno::EACCES) {
        return Ok(());
    }
    let own = open(OWN, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()).doing(doing)?;
    if fstatvfs(&own).doing(doing)?.flags().contains(FsFlags::ST_RDONLY) || is_sealed(&own) {
        name_again();
        return Ok(());
    }
    let copy = match read_only_mount() {
        Ok(mount) => mount,
        Err(_) => sealed_copy(&own).doing(|| "copy this program into sealed memory".into())?,
    };
    let Err(errno) = again(&copy);
    Err(errno).doing(|| "start this program again from its read-only copy".into())
}

/// For a program that starts the runtime as a child: a descriptor to execute (as
/// `/proc/self/fd/N`), made once, so that each start is spared its own.
pub fn copy() -> Result<OwnedFd> {
    let own = open(OWN, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()).doing(|| format!("open {OWN}"))?;
    read_only_mount().or_else(|_| sealed_copy(&own)).doing(|| "make a read-only copy of this program".into())
}

/// Nobody can make it writable again: it is attached nowhere, and remounting needs a path.
fn read_only_mount() -> nix::Result<OwnedFd> {
    let mount = sys::open_tree(AT_FDCWD, OWN, false)?;
    sys::mount_setattr(&mount, &MountAttr { set: attr::RDONLY, ..MountAttr::default() }, false)?;
    Ok(mount)
}

/// An ordinary user may make no mounts; a file in memory, sealed against writing, does as well
/// (memfd_create(2), "File-sealing").
fn sealed_copy(own: &OwnedFd) -> nix::Result<OwnedFd> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let copy = memfd_create("runtime", flags)?;
    let (mut from, mut to) = (File::from(own.try_clone().map_err(io)?), File::from(copy));
    std::io::copy(&mut from, &mut to).map_err(io)?;
    let copy = OwnedFd::from(to);
    fcntl(&copy, FcntlArg::F_ADD_SEALS(seals()))?;
    Ok(copy)
}

fn io(error: std::io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))
}

fn seals() -> SealFlag {
    SealFlag::F_SEAL_SEAL | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_WRITE
}

fn is_sealed(own: &OwnedFd) -> bool {
    fcntl(own, FcntlArg::F_GET_SEALS).is_ok_and(|s| SealFlag::from_bits_truncate(s).contains(seals()))
}

/// Executed by descriptor, a process is named after its number: ps(1) would show "4".
fn name_again() {
    let path = env::args_os().next().unwrap_or_default();
    let name = std::path::Path::new(&path).file_name().unwrap_or_default().to_owned();
    if let Ok(name) = CString::new(name.into_vec()) {
        let _ = prctl::set_name(&name);
    }
}

fn again(copy: &OwnedFd) -> nix::Result<Infallible> {
    let string = |s: std::ffi::OsString| CString::new(s.into_vec()).map_err(|_| Errno::EINVAL);
    let args = env::args_os().map(string).collect::<nix::Result<Vec<_>>>()?;
    let join = |(mut name, value): (std::ffi::OsString, std::ffi::OsString)| {
        name.push("=");
        name.push(value);
        string(name)
    };
    let env = env::vars_os().map(join).collect::<nix::Result<Vec<_>>>()?;
    fexecve(copy, &args, &env)
}
