//! The daemon: the Docker Engine API on a unix socket.
//!
//! | module | what it answers |
//! |---|---|
//! | [`router`] | which handler a request goes to; adding an endpoint is adding a line to its file's table |
//! | [`call`] | a request with all that a handler needs; [`answer`] what comes back |
//! | [`system`] | `_ping`, `version`, `info`, `system/df` |
//! | [`containers`], [`inspect`], [`archive`], [`stats`], [`logs`], [`exec`] | `containers/…` |
//! | [`images`], [`transfer`], [`build`] | `images/…`, pull, push, load, save, build |
//! | [`volumes`], [`networks`], [`events`] | what they are called |
//! | [`swarm`] | what needs several machines, refused as docker does |
//! | [`stream`] | connections that become plain streams: attach and exec |

mod answer;
mod archive;
mod build;
mod call;
mod containers;
mod events;
mod exec;
mod images;
mod inspect;
mod list;
mod logs;
mod networks;
mod router;
mod stats;
mod stream;
mod swarm;
mod system;
mod transfer;
mod volumes;

pub(crate) use transfer::{AuthConfig, progress, to_credentials};

use crate::engine::{
    Engine,
    failure::{Failure, Result},
    reconcile,
};
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use nix::fcntl::{Flock, FlockArg};
use std::{
    fs::{self, File},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};
use tokio::{
    net::{UnixListener, UnixStream},
    signal::unix::{SignalKind, signal},
};

/// `teu daemon`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// Where images, containers and volumes are kept
    #[arg(long, value_name = "DIR", default_value_os_t = crate::paths::data_root())]
    pub(crate) data_root: PathBuf,
    /// Where the state of what runs is kept
    #[arg(long, value_name = "DIR", default_value_os_t = crate::paths::exec_root())]
    pub(crate) exec_root: PathBuf,
    /// The socket to listen on
    #[arg(short = 'H', long, value_name = "unix://PATH", default_value_t = crate::paths::host())]
    pub(crate) host: String,
}

/// Runs the daemon until it is told to stop. Called before any thread or runtime exists.
pub(crate) fn main(options: &Options) -> ExitCode {
    match run(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("teu daemon: {}", failure.message);
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<()> {
    // The monitors are this program started again, and each is a container's first process for the
    // time until its exec: what they run must not be writable from there (CVE-2019-5736).
    namespaces::sealed::ensure()?;
    let rootless = !nix::unistd::geteuid().is_root();
    if rootless {
        // unshare(2) of a user namespace wants a process with one thread: now, or never.
        namespaces::userns::become_root()?;
    }
    // Clients that go away in the middle of an answer are an error of a write, not the end of the daemon.
    // SAFETY: to ignore a signal installs no handler that could run.
    unsafe {
        nix::sys::signal::signal(nix::sys::signal::Signal::SIGPIPE, nix::sys::signal::SigHandler::SigIgn)
    }?;
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    let path = options.host.strip_prefix("unix://").ok_or_else(|| {
        Failure::bad(format!(
            "cannot listen on {}: only unix:// sockets are served, whose file's owner says who may connect",
            options.host
        ))
    })?;
    let (data_root, exec_root) = (absolute(&options.data_root)?, absolute(&options.exec_root)?);
    for dir in [&data_root, &exec_root] {
        crate::engine::disk::make_dir(dir, 0o711)?;
    }
    // Held until we end, however that happens.
    let _data = own(&data_root)?;
    let _exec = own(&exec_root)?;
    let engine = Engine::open(&data_root, &exec_root, rootless)?;
    // One thread answers all requests; what blocks has threads of its own, which come and go.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let served = runtime.block_on(serve(Arc::new(engine), Path::new(path)));
    // What still blocks (a pull) does not hold us up: it left nothing half-done that anyone can see.
    runtime.shutdown_background();
    served
}

fn absolute(path: &Path) -> Result<PathBuf> {
    Ok(std::path::absolute(path)?)
}

/// Makes sure that no other daemon uses a directory.
fn own(dir: &Path) -> Result<Flock<File>> {
    let file = File::create(dir.join("lock"))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|_| {
        Failure::conflict(format!(
            "another daemon uses {}; stop it, or give this one its own --data-root and --exec-root",
            dir.display()
        ))
    })
}

async fn serve(engine: Arc<Engine>, path: &Path) -> Result<()> {
    // What happened while we were away comes first: from its first answer on, the daemon tells the truth.
    reconcile::reconcile(&engine).await?;
    let listener = listen(path)?;
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    println!("teu {} answers on unix://{}", env!("CARGO_PKG_VERSION"), path.display());
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((connection, _)) => drop(tokio::spawn(converse(engine.clone(), connection))),
                // Out of descriptors, as a rule: those that are open will end.
                Err(e) => {
                    eprintln!("warning: a connection was not accepted: {e}");
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                }
            },
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        }
    }
    // Containers go on: their monitors need no daemon, and the next one finds them.
    let _ = fs::remove_file(path);
    if !engine.rootless {
        engine.networks.sweep();
    }
    println!("teu ends; what runs goes on");
    Ok(())
}

fn listen(path: &Path) -> Result<UnixListener> {
    if let Some(dir) = path.parent() {
        crate::engine::disk::make_dir(dir, 0o711)?;
    }
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(Failure::conflict(format!("something answers on {} already", path.display())));
    }
    let _ = fs::remove_file(path);
    let listener = UnixListener::bind(path)
        .map_err(|e| Failure::internal(format!("listening on {}: {e}", path.display())))?;
    // Whoever may write to it is root on this machine.
    fs::set_permissions(path, fs::Permissions::from_mode(0o660))?;
    Ok(listener)
}

async fn converse(engine: Arc<Engine>, connection: UnixStream) {
    let service = service_fn(move |request| router::route(engine.clone(), request));
    // A client that goes away in the middle is no error of ours.
    let _ = http1::Builder::new()
        .max_buf_size(64 << 10)
        .serve_connection(TokioIo::new(connection), service)
        .with_upgrades()
        .await;
}
