//! The daemon's side of a monitor: starting it, speaking to it, finding it again.

use super::failure::{Failure, Result};
use crate::monitor::{
    ROLE,
    wire::{self, Attach, Hello, Order, Report},
};
use std::{
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    process::Stdio,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    net::unix::OwnedReadHalf,
    process::{Child, Command},
    sync::mpsc,
};

/// What is known of one monitor: the socket, and the way to give it orders.
#[derive(Default)]
pub(crate) struct Live {
    /// Bound by the daemon before there is a monitor, so that clients can attach before the start: their
    /// connections wait in its backlog, and the monitor inherits it with them.
    listener: Option<UnixListener>,
    orders: Option<mpsc::UnboundedSender<Order>>,
}

/// Where a monitor listens. An ID is cut because a socket's path is at most 107 bytes long (unix(7)).
pub(crate) fn socket(exec_root: &Path, id: &str) -> PathBuf {
    exec_root.join("s").join(&id[..id.len().min(24)])
}

impl Live {
    fn listen(&mut self, socket: &Path) -> Result<&UnixListener> {
        if self.listener.is_none() && self.orders.is_none() {
            let _ = std::fs::remove_file(socket);
            let listener = UnixListener::bind(socket)
                .map_err(|e| Failure::internal(format!("listening on {}: {e}", socket.display())))?;
            self.listener = Some(listener);
        }
        self.listener.as_ref().ok_or_else(|| Failure::internal("the monitor runs already"))
    }

    /// Hands a client's connection over to the monitor, now or as soon as there is one.
    pub(crate) fn attach(&mut self, socket: &Path, attach: Attach, client: BorrowedFd) -> Result<()> {
        if self.orders.is_none() {
            self.listen(socket)?;
        }
        let connection = UnixStream::connect(socket)
            .map_err(|e| Failure::internal(format!("reaching the monitor at {}: {e}", socket.display())))?;
        wire::send(connection.as_fd(), &Hello::Attach(attach), Some(client))?;
        Ok(())
    }

    /// Gives an order; refused when there is no monitor.
    pub(crate) fn order(&self, order: Order) -> Result<()> {
        let gone = || Failure::conflict("the container has ended");
        self.orders.as_ref().ok_or_else(gone)?.send(order).map_err(|_| gone())
    }

    /// The monitor has ended.
    pub(crate) fn clear(&mut self, socket: &Path) {
        *self = Live::default();
        let _ = std::fs::remove_file(socket);
    }
}

/// What a monitor reports, one after the other.
pub(crate) struct Reports(Lines<BufReader<OwnedReadHalf>>);

impl Reports {
    /// The next one; `None` when the monitor has ended.
    pub(crate) async fn next(&mut self) -> Option<Report> {
        let line = self.0.next_line().await.ok()??;
        serde_json::from_str(&line).ok()
    }
}

/// Connects for control, and keeps what is to be said in order.
fn control(live: &mut Live, socket: &Path) -> std::io::Result<Reports> {
    let connection = UnixStream::connect(socket)?;
    wire::send(connection.as_fd(), &Hello::Control, None)?;
    connection.set_nonblocking(true)?;
    let (read, mut write) = tokio::net::UnixStream::from_std(connection)?.into_split();
    let (orders, mut inbox) = mpsc::unbounded_channel::<Order>();
    tokio::spawn(async move {
        while let Some(order) = inbox.recv().await {
            let Ok(mut line) = serde_json::to_vec(&order) else { continue };
            line.push(b'\n');
            if write.write_all(&line).await.is_err() {
                return;
            }
        }
    });
    live.orders = Some(orders);
    Ok(Reports(BufReader::new(read).lines()))
}

/// Starts a monitor on the plan in `dir`. It inherits the listening socket as its standard input, the
/// inetd(8) way: `Command` then needs no code between fork and exec, and can use vfork.
pub(crate) fn spawn(live: &mut Live, socket: &Path, role: &str, dir: &Path) -> Result<(Reports, Child)> {
    live.listen(socket)?;
    // Before the monitor runs: its first accept(2) finds us, and no report is lost.
    let reports = control(live, socket)?;
    let listener = live.listener.take().ok_or_else(|| Failure::internal("no socket"))?;
    let log = std::fs::File::create(dir.join("monitor.log"))?;
    let child = Command::new("/proc/self/exe")
        .arg0("teu")
        .args([ROLE, role])
        .arg(dir)
        .stdin(Stdio::from(OwnedFd::from(listener)))
        .stdout(Stdio::null())
        .stderr(Stdio::from(log))
        .spawn()
        .map_err(|e| Failure::internal(format!("starting the monitor: {e}")))?;
    Ok((reports, child))
}

/// Finds a monitor of an earlier daemon again; `None` if it has ended.
pub(crate) fn find(live: &mut Live, socket: &Path) -> Option<Reports> {
    control(live, socket).ok()
}
