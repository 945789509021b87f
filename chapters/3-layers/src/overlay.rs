//! Many directories seen as one (Documentation/filesystems/overlayfs.rst).
//!
//! An image's layers lie under each other, none of them ever written to; what a container writes goes into
//! a directory of its own on top. A file is looked for from the top down, a changed one is first copied up,
//! a removed one is covered by a whiteout. So a thousand containers share one copy of their image, on disk
//! and in the page cache.

use crate::{Error, Result, error::Doing};
use nix::{
    errno::Errno,
    mount::{MntFlags, MsFlags, mount as mount2, umount2},
};
use std::{
    ffi::{CStr, CString, OsString},
    fs::File,
    io,
    os::{
        fd::AsFd,
        unix::ffi::{OsStrExt, OsStringExt},
    },
    path::{Path, PathBuf},
};

use new_api::{fsconfig, fsmount, fsopen, move_mount};

/// Mounts `lower` (topmost first) under `upper` (the writable directory, and the work directory that the
/// kernel needs on the same filesystem) at `target`; without an upper, read-only. `volatile` leaves out the
/// syncs, for a container that is removed when it ends. Any number of layers up to the kernel's 500; in a
/// user namespace too (`userxattr`).
pub fn mount(lower: &[PathBuf], upper: Option<(&Path, &Path)>, target: &Path, volatile: bool) -> Result<()> {
    // Nothing to lay over each other: an overlay needs a lower, and without an upper two of them.
    match (lower, upper) {
        ([], Some((upper, _))) => return bind(upper, target, false),
        ([only], None) => return bind(only, target, true),
        ([], None) => return Err(Error::Missing("a layer to mount".into())),
        _ => (),
    }
    match by_descriptor(lower, upper, target, volatile) {
        // Linux before 6.8 has no `lowerdir+`, and before 5.2 no fsopen(2).
        Err(Error::Sys { errno: Errno::EINVAL | Errno::ENOSYS, .. }) => {
            by_options(lower, upper, target, volatile)?
        }
        other => other?,
    }
    tracing::info!(target: "step", section = "5.1", call = "fsconfig(2)", "lowerdir+ once for each of {} layers", lower.len());
    tracing::info!(target: "step", section = "5.1", call = "move_mount(2)", "the overlay, at {}", target.display());
    Ok(())
}

/// Unmounts it. Lazily: a process that still has a file open keeps it until it closes it.
pub fn unmount(target: &Path) -> Result<()> {
    umount2(target, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW)
        .doing(|| format!("unmount {}", target.display()))
}

/// The prefix of overlayfs's extended attributes. `trusted.` needs CAP_SYS_ADMIN in the first user
/// namespace; elsewhere, and for an ordinary user (whose containers will be mounted in a user namespace),
/// it is `user.`, and the mount says `userxattr`.
pub fn xattr_prefix() -> &'static str {
    if in_user_namespace() || !nix::unistd::geteuid().is_root() {
        "user.overlay."
    } else {
        "trusted.overlay."
    }
}

/// Whether this process is in a user namespace other than the first: only there do all ids map to
/// themselves (user_namespaces(7)).
pub fn in_user_namespace() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let mut words = map.split_ascii_whitespace();
    [words.next(), words.next(), words.next()] != [Some("0"), Some("0"), Some("4294967295")]
}

/// Options with no path in them. Redirects and metadata-only copies are off: an upper directory must be
/// complete in itself, for it may become a layer, and no image may steer the mount by its attributes.
fn flags(upper: bool, volatile: bool) -> Vec<(&'static CStr, Option<&'static CStr>)> {
    let mut flags = vec![(c"redirect_dir", Some(c"nofollow")), (c"metacopy", Some(c"off"))];
    if xattr_prefix() == "user.overlay." {
        flags.push((c"userxattr", None));
    }
    if upper {
        flags.push((c"index", Some(c"off")));
        if volatile {
            flags.push((c"volatile", None));
        }
    }
    flags
}

/// The new mount API: one call per layer, so their number is not bounded by a page of options.
fn by_descriptor(
    lower: &[PathBuf],
    upper: Option<(&Path, &Path)>,
    target: &Path,
    volatile: bool,
) -> Result<()> {
    let context = fsopen(c"overlay").doing(|| "fsopen overlay".into())?;
    // The kernel puts its reasons into a log that is read from the descriptor (fsopen(2)).
    let said = |what: &str| {
        let mut log = [0; 512];
        let n = nix::unistd::read(&context, &mut log).unwrap_or(0);
        format!("{what} for {}: {}", target.display(), String::from_utf8_lossy(&log[..n]).trim())
    };
    let path = |key: &CStr, path: &Path| -> Result<()> {
        let value = cstring(path)?;
        fsconfig(&context, libc::FSCONFIG_SET_STRING, Some(key), Some(&value))
            .doing(|| said(&format!("overlay option {}={}", key.to_string_lossy(), path.display())))
    };
    for dir in lower {
        path(c"lowerdir+", dir)?;
    }
    if let Some((upper, work)) = upper {
        path(c"upperdir", upper)?;
        path(c"workdir", work)?;
    }
    for (key, value) in flags(upper.is_some(), volatile) {
        let command = if value.is_some() { libc::FSCONFIG_SET_STRING } else { libc::FSCONFIG_SET_FLAG };
        fsconfig(&context, command, Some(key), value)
            .doing(|| said(&format!("overlay option {}", key.to_string_lossy())))?;
    }
    fsconfig(&context, libc::FSCONFIG_CMD_CREATE, None, None).doing(|| said("overlay could not be made"))?;
    let mount = fsmount(&context).doing(|| said("fsmount"))?;
    move_mount(&mount, &cstring(target)?).doing(|| format!("mount the overlay at {}", target.display()))
}

/// The old mount(2). All options together must fit a page: where the paths are too long for that, each
/// layer is named by an open descriptor.
fn by_options(lower: &[PathBuf], upper: Option<(&Path, &Path)>, target: &Path, volatile: bool) -> Result<()> {
    let mut rest = OsString::new();
    if let Some((upper, work)) = upper {
        for (key, path) in [(",upperdir=", upper), (",workdir=", work)] {
            rest.push(key);
            rest.push(escape(path));
        }
    }
    for (key, value) in flags(upper.is_some(), volatile) {
        rest.push(format!(",{}", key.to_string_lossy()));
        if let Some(value) = value {
            rest.push(format!("={}", value.to_string_lossy()));
        }
    }
    let options = |lower: &mut dyn Iterator<Item = OsString>| {
        let mut options = OsString::from("lowerdir=");
        for (n, dir) in lower.enumerate() {
            options.push(if n > 0 { ":" } else { "" });
            options.push(dir);
        }
        options.push(&rest);
        options
    };
    let mut all = options(&mut lower.iter().map(|dir| escape(dir)));
    let mut open = Vec::new();
    if all.len() >= 4096 {
        for dir in lower {
            open.push(File::open(dir).doing(|| format!("open the layer {}", dir.display()))?);
        }
        all = options(&mut open.iter().map(|f| crate::root::proc_path(f.as_fd()).into_os_string()));
    }
    mount2(Some("overlay"), target, Some("overlay"), MsFlags::empty(), Some(all.as_os_str()))
        .doing(|| format!("mount an overlay of {} layers at {}", lower.len(), target.display()))
}

/// One directory is its own overlay.
fn bind(source: &Path, target: &Path, read_only: bool) -> Result<()> {
    let doing = || format!("bind {} to {}", source.display(), target.display());
    mount2(Some(source), target, None::<&str>, MsFlags::MS_BIND, None::<&str>).doing(doing)?;
    if read_only {
        let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        mount2(None::<&str>, target, None::<&str>, flags, None::<&str>).doing(doing)?;
    }
    Ok(())
}

/// In mount(2)'s options, `:` parts layers and `,` parts options.
fn escape(path: &Path) -> OsString {
    let mut escaped = Vec::new();
    for byte in path.as_os_str().as_bytes() {
        if matches!(byte, b':' | b',' | b'\\') {
            escaped.push(b'\\');
        }
        escaped.push(*byte);
    }
    OsString::from_vec(escaped)
}

fn cstring(path: &Path) -> Result<CString> {
    CString::new(path.as_os_str().as_bytes())
        .map_err(io::Error::from)
        .doing(|| format!("use the path {}", path.display()))
}

mod new_api;
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn separators_in_paths_are_escaped() {
        assert_eq!(escape(Path::new("/a:b,c\\d")), "/a\\:b\\,c\\\\d");
    }
}
