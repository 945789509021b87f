//! sd_notify(3): a service tells whoever manages it that it is ready, by a datagram to the socket that `NOTIFY_SOCKET`
//! names. The manager's own socket is not the container's to reach. So the container gets one of ours, in a directory that
//! is mounted where the manager's is, and what arrives there is passed on by `start`, or by a `run` as long as it lasts:
//! that it is ready, and nothing else. (It is crun's way; runc has the same with other names.)

use crate::{Result, error::Doing, pidfd, state::Record};
use namespaces::spec::Spec;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use oci_spec::runtime::MountBuilder;
use std::{
    fs::{self, DirBuilder, File, Permissions},
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::{
            fs::{DirBuilderExt, PermissionsExt},
            net::UnixDatagram,
        },
    },
    path::{Path, PathBuf},
};

/// The socket's name, and that of its directory in the container's own.
const NAME: &str = "notify";

/// What a service says when it is ready. Other lines may stand beside it.
const READY: &[u8] = b"READY=1";

/// Makes the directory for the socket and has it mounted at `to`, the manager's socket.
pub(crate) fn prepare(spec: &mut Spec, directory: &Path, to: &Path) -> Result<()> {
    let source = directory.join(NAME);
    let doing = || format!("making {}", source.display());
    DirBuilder::new().mode(0o755).create(&source).doing(doing)?;
    // The caller's umask may have taken from it, and the container's user is a stranger here.
    fs::set_permissions(&source, Permissions::from_mode(0o755)).doing(doing)?;
    let options = ["bind", "ro", "nosuid", "nodev", "noexec"].map(str::to_owned);
    let mount = MountBuilder::default().destination(to).source(source).typ("bind").options(options);
    if let Ok(mount) = mount.build() {
        spec.mounts_mut().get_or_insert_default().push(mount);
    }
    if let Some(process) = spec.process_mut() {
        let mut env = process.env().clone().unwrap_or_default();
        env.push(format!("NOTIFY_SOCKET={}", to.join(NAME).display()));
        process.set_env(Some(env));
    }
    Ok(())
}

/// The container's socket, and where what it hears is to go.
pub struct Relay {
    socket: UnixDatagram,
    manager: PathBuf,
    process: OwnedFd,
}

impl Relay {
    /// Before the start, or the first word could be lost. `None` for a container that has nobody to tell.
    pub(crate) fn listen(record: &Record, directory: &Path) -> Result<Option<Relay>> {
        let (Some(manager), Some(pid)) = (record.notify.clone(), record.alive()) else { return Ok(None) };
        let directory = directory.join(NAME);
        let doing = || format!("listening in {}", directory.display());
        // By the directory's descriptor: a socket's address holds 107 bytes.
        let place = File::open(&directory).doing(doing)?;
        let file = PathBuf::from(format!("/proc/self/fd/{}", place.as_raw_fd())).join(NAME);
        let _ = fs::remove_file(&file); // of a start that came to nothing
        let socket = UnixDatagram::bind(&file).doing(doing)?;
        fs::set_permissions(&file, Permissions::from_mode(0o777)).doing(doing)?;
        let process = pidfd::open(pid).doing(|| format!("watching process {pid}"))?;
        Ok(Some(Relay { socket, manager, process }))
    }

    /// Passes on that it is ready, and ends then; or when its first process does.
    ///
    /// # Errors
    /// The manager does not listen any more.
    pub fn wait(self) -> Result<()> {
        loop {
            let mut watched = [
                PollFd::new(self.socket.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.process.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut watched, PollTimeout::NONE) {
                Err(nix::errno::Errno::EINTR) => continue,
                other => other.doing(|| "waiting for the container to be ready".into())?,
            };
            // What it said last counts, even if it is gone by now.
            if watched[0].any() != Some(true) {
                return Ok(());
            }
            let mut said = [0; 4096];
            let length = self.socket.recv(&mut said).doing(|| "hearing whether it is ready".into())?;
            if said[..length].split(|byte| *byte == b'\n').any(|line| line == READY) {
                let doing = || format!("telling {} that it is ready", self.manager.display());
                return UnixDatagram::unbound()
                    .and_then(|out| out.send_to(READY, &self.manager))
                    .map(drop)
                    .doing(doing);
            }
        }
    }
}
