//! `docker logs`, also as it grows; and the steps of a start, which grow in the same way.

use super::{
    answer::{self, Answer},
    call::Call,
    router::routes,
};
use crate::{
    engine::{
        container::Container,
        failure::{Failure, Result},
        logs::{Entry, Reader},
    },
    monitor::wire::Attach,
};
use hyper::body::Bytes;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use std::{
    collections::VecDeque,
    io::{BufRead, BufReader},
    os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd},
    path::Path,
    sync::Arc,
};
use tokio::{
    io::{AsyncWriteExt, Interest, unix::AsyncFd},
    sync::mpsc,
};

routes! {
    GET "/containers/{}/logs" => logs;
    GET "/containers/{}/explain" => explain;
}

/// Which lines, and how.
struct Wanted {
    stdout: bool,
    stderr: bool,
    follow: bool,
    timestamps: bool,
    since: Option<jiff::Timestamp>,
    until: Option<jiff::Timestamp>,
    tail: Option<usize>,
    raw: bool,
}

async fn logs(call: Call) -> Answer {
    let container = call.engine.container(&call.path[0])?;
    let time = |name: &str| call.get(name).filter(|t| *t != "0").map(super::events::timestamp).transpose();
    let wanted = Wanted {
        stdout: call.flag("stdout"),
        stderr: call.flag("stderr"),
        follow: call.flag("follow"),
        timestamps: call.flag("timestamps"),
        since: time("since")?,
        until: time("until")?,
        // As docker: what is no number is all.
        tail: call.get("tail").and_then(|t| t.parse().ok()),
        raw: container.look(|r| r.tty()),
    };
    if !wanted.stdout && !wanted.stderr {
        return Err(Failure::bad("Bad parameters: you must choose at least one stream"));
    }
    let driver = container.look(|r| r.host.log_config.as_ref().and_then(|l| l.typ.clone()));
    if driver.as_deref() == Some("none") {
        return Err(Failure {
            status: 501,
            message: "configured logging driver does not support reading".into(),
        });
    }
    let kind = if wanted.raw {
        "application/vnd.docker.raw-stream"
    } else {
        "application/vnd.docker.multiplexed-stream"
    };
    let (sender, body) = mpsc::channel(16);
    tokio::spawn(async move {
        if let Err(failure) = send(&container, &wanted, &sender).await {
            eprintln!("logs of {}: {}", container.id, failure.message);
        }
    });
    answer::pieces(kind, body)
}

async fn send(container: &Arc<Container>, wanted: &Wanted, to: &mpsc::Sender<Bytes>) -> Result<()> {
    // Watched from before the first look, so that nothing comes between the two.
    let growth = Growth::of(&container.dir)?;
    let mut phase = container.phase.subscribe();
    let mut reader = Reader::open(&container.log_path());
    if let Some(tail) = wanted.tail {
        let mut last = VecDeque::new();
        while let Some(entry) = reader.next()? {
            if wanted.shows(&entry) {
                last.push_back(entry);
                if last.len() > tail {
                    last.pop_front();
                }
            }
        }
        for entry in last {
            if to.send(wanted.render(&entry)).await.is_err() {
                return Ok(());
            }
        }
    }
    loop {
        // Whether it had ended is asked before the last look: its last lines were written before it ended.
        let ended = !phase.borrow_and_update().alive;
        while let Some(entry) = reader.next()? {
            if wanted.until.is_some_and(|until| time(&entry).is_some_and(|t| t > until)) {
                return Ok(());
            }
            if wanted.shows(&entry) && to.send(wanted.render(&entry)).await.is_err() {
                return Ok(());
            }
        }
        if !wanted.follow || ended {
            return Ok(());
        }
        let left = wanted.until.map(|until| until.duration_since(jiff::Timestamp::now()).unsigned_abs());
        tokio::select! {
            grown = growth.wait() => grown?,
            _ = phase.changed() => {}
            () = to.closed() => return Ok(()),
            () = tokio::time::sleep(left.unwrap_or_default()), if left.is_some() => return Ok(()),
        }
    }
}

fn time(entry: &Entry) -> Option<jiff::Timestamp> {
    entry.time.parse().ok()
}

impl Wanted {
    fn shows(&self, entry: &Entry) -> bool {
        let stream = if entry.stream == "stderr" { self.stderr } else { self.stdout };
        stream && self.since.is_none_or(|since| time(entry).is_none_or(|t| t >= since))
    }

    fn render(&self, entry: &Entry) -> Bytes {
        let mut text = Vec::with_capacity(entry.log.len() + 48);
        if self.timestamps {
            text.extend_from_slice(entry.time.as_bytes());
            text.push(b' ');
        }
        text.extend_from_slice(entry.log.as_bytes());
        if self.raw {
            return text.into();
        }
        let stream = if entry.stream == "stderr" { 2 } else { 1 };
        let length = u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes();
        [&[stream, 0, 0, 0], length.as_slice(), &text].concat().into()
    }
}

/// A directory whose files grow (inotify(7)).
struct Growth(AsyncFd<Watch>);

/// [`AsyncFd`] wants the older of the two traits.
struct Watch(Inotify);

impl AsRawFd for Watch {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl Growth {
    fn of(dir: &Path) -> Result<Growth> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        let flags = AddWatchFlags::IN_MODIFY
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_DELETE_SELF;
        inotify
            .add_watch(dir, flags)
            .map_err(|e| Failure::from(e).doing(format!("watching {}", dir.display())))?;
        // SAFETY: the descriptor is owned by the value that is given away, and is the same for as long as that lives.
        let watch = unsafe { AsyncFd::register_with_interest(Watch(inotify), Interest::READABLE) }?;
        Ok(Growth(watch))
    }

    /// Returns when something has changed since it was last asked.
    async fn wait(&self) -> Result<()> {
        let mut ready = self.0.readable().await?;
        // What happened is read and forgotten: the files themselves are looked at.
        while self.0.get_ref().0.read_events().is_ok() {}
        ready.clear_ready();
        Ok(())
    }
}

/// `attach?logs=1`: what was said so far, before what is to come.
pub(crate) async fn replay(container: &Arc<Container>, client: BorrowedFd<'_>, wants: &Attach) -> Result<()> {
    let stream = std::os::unix::net::UnixStream::from(client.try_clone_to_owned()?);
    stream.set_nonblocking(true)?;
    let mut stream = tokio::net::UnixStream::from_std(stream)?;
    let wanted = Wanted {
        stdout: wants.stdout,
        stderr: wants.stderr,
        follow: false,
        timestamps: false,
        since: None,
        until: None,
        tail: None,
        raw: wants.raw,
    };
    let mut reader = Reader::open(&container.log_path());
    while let Some(entry) = reader.next()? {
        if wanted.shows(&entry) {
            stream.write_all(&wanted.render(&entry)).await?;
        }
    }
    Ok(())
}

/// teu's own endpoint: the steps of a start, one JSON object a line, from the first to the one that executes the
/// program. It may be asked before the start, and waits for it then.
async fn explain(call: Call) -> Answer {
    let container = call.engine.container(&call.path[0])?;
    if !container.look(|r| r.explain) {
        return Err(Failure::conflict(
            "the container was created without X-Teu-Explain: 1: its starts are not recorded",
        ));
    }
    // The file is made by the start; its directory has to be there to be watched.
    crate::engine::disk::make_dir(&container.run, 0o710)?;
    let growth = Growth::of(&container.run)?;
    let (sender, body) = mpsc::channel(16);
    tokio::spawn(async move {
        let mut phase = container.phase.subscribe();
        let before = phase.borrow().ends;
        let mut file: Option<BufReader<std::fs::File>> = None;
        let mut line = Vec::new();
        loop {
            let over = {
                let now = phase.borrow_and_update();
                now.alive || now.ends > before || now.removed
            };
            if file.is_none() {
                file = std::fs::File::open(container.run.join("explain")).ok().map(BufReader::new);
            }
            while let Some(open) = &mut file
                && open.read_until(b'\n', &mut line).is_ok()
                && line.ends_with(b"\n")
            {
                if sender.send(std::mem::take(&mut line).into()).await.is_err() {
                    return;
                }
            }
            if over {
                return;
            }
            tokio::select! {
                grown = growth.wait() => if grown.is_err() { return },
                _ = phase.changed() => {}
                () = sender.closed() => return,
            }
        }
    });
    answer::pieces("application/x-ndjson", body)
}
