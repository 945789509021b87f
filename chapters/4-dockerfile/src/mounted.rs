//! Mounts that the builder makes for itself, and takes away again.

use crate::{Result, error::Doing, session::Session};
use layers::{overlay, root::Root};
use nix::{
    fcntl::OFlag,
    mount::{MsFlags, mount},
};
use std::{
    os::fd::AsRawFd,
    path::{Path, PathBuf},
};

/// A mounted tree. Dropped, it is unmounted.
pub(crate) struct Mounted {
    pub(crate) path: PathBuf,
    mounted: bool,
}

impl Mounted {
    /// The files of these layers (topmost first), to read.
    pub(crate) fn read_only(session: &Session, lower: &[PathBuf]) -> Result<Mounted> {
        match lower {
            [] => Ok(Mounted { path: session.directory()?, mounted: false }),
            // One layer is what it shows.
            [one] => Ok(Mounted { path: one.clone(), mounted: false }),
            _ => {
                let path = session.directory()?;
                overlay::mount(lower, None, &path, false)?;
                Ok(Mounted { path, mounted: true })
            }
        }
    }

    /// The same, to write to: what is written is lost.
    pub(crate) fn scratch(session: &Session, lower: &Path) -> Result<Mounted> {
        let directory = session.directory()?;
        let make = |name: &str| -> Result<PathBuf> {
            let path = directory.join(name);
            std::fs::create_dir(&path).doing(|| format!("make the directory {}", path.display()))?;
            Ok(path)
        };
        let (upper, work, path) = (make("upper")?, make("work")?, make("merged")?);
        overlay::mount(&[lower.to_owned()], Some((&upper, &work)), &path, true)?;
        Ok(Mounted { path, mounted: true })
    }

    /// A path inside a root, as a place of its own. It is resolved once, inside the root; afterwards nobody
    /// can turn it into another by changing a link on the way (CVE-2024-1753, CVE-2024-9675).
    pub(crate) fn bind(session: &Session, root: &Root, path: &Path) -> Result<Mounted> {
        let target = session.directory()?;
        let fd = root.open_with(path, OFlag::O_PATH, 0)?;
        let source = format!("/proc/self/fd/{}", fd.as_raw_fd());
        let doing = || format!("mount {} for a RUN", path.display());
        let is_dir = std::fs::metadata(&source).doing(doing)?.is_dir();
        let place = if is_dir { target } else { target.join("file") };
        if !is_dir {
            std::fs::File::create(&place).doing(doing)?;
        }
        let none = None::<&str>;
        mount(Some(source.as_str()), &place, none, MsFlags::MS_BIND | MsFlags::MS_REC, none).doing(doing)?;
        Ok(Mounted { path: place, mounted: true })
    }

    /// Memory: what must not reach a disk.
    pub(crate) fn memory(session: &Session) -> Result<Mounted> {
        let path = session.directory()?;
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        mount(Some("tmpfs"), &path, Some("tmpfs"), flags, Some("size=1m,mode=0700"))
            .doing(|| "mount a tmpfs for a secret".into())?;
        Ok(Mounted { path, mounted: true })
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if self.mounted {
            // Detached: another mount may still sit in it for a moment.
            let _ = nix::mount::umount2(&self.path, nix::mount::MntFlags::MNT_DETACH);
        }
    }
}
