//! Connections that become plain streams: attach and exec.
//!
//! The client asks for an upgrade (`Connection: Upgrade`, `Upgrade: tcp`), the answer is `101 UPGRADED`, and from then on
//! the connection is the container's: its descriptor is handed to the monitor, and the daemon is out of the way.
//! A client that asks for no upgrade gets what the container says as an ordinary answer.

use super::{
    answer::{self, Answer, Body},
    call::Call,
    router::routes,
};
use crate::{
    engine::{
        container::{Container, lock},
        failure::{Failure, Result},
        monitors,
    },
    monitor::wire::Attach,
};
use hyper::{
    Response, StatusCode,
    body::Bytes,
    header::{CONNECTION, CONTENT_TYPE, HeaderValue, UPGRADE},
    upgrade::OnUpgrade,
};
use hyper_util::rt::TokioIo;
use std::{
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream as StdUnixStream,
    },
    sync::Arc,
};
use tokio::{io::AsyncReadExt, net::UnixStream, sync::mpsc};

routes! {
    POST "/containers/{}/attach" => attach;
    POST "/containers/{}/resize" => resize;
}

/// docker's keys to detach: Ctrl-P, Ctrl-Q.
const DETACH_KEYS: &str = "ctrl-p,ctrl-q";

async fn attach(mut call: Call) -> Answer {
    let container = call.engine.container(&call.path[0])?;
    if container.status() == crate::engine::container::Status::Paused {
        return Err(Failure::conflict(format!(
            "container {} is paused, unpause the container before attach",
            container.name()
        )));
    }
    let tty = container.look(|r| r.tty());
    let wants = Attach {
        stdin: call.flag("stdin") && container.look(|r| r.config.open_stdin.unwrap_or_default()),
        stdout: call.flag("stdout"),
        stderr: call.flag("stderr"),
        raw: tty,
        detach_keys: if tty { keys(call.get("detachKeys").unwrap_or(DETACH_KEYS))? } else { Vec::new() },
        early: Vec::new(),
    };
    let logs = call.flag("logs");
    let (answer, connection) = hijack(&mut call, tty)?;
    tokio::spawn(async move {
        let handed = async {
            let (client, early) = connection.await?;
            if logs {
                super::logs::replay(&container, client.as_fd(), &wants).await?;
            }
            if !call.flag("stream") {
                return Ok(());
            }
            hand_over(&call, &container, Attach { early, ..wants }, client)
        };
        if let Err(failure) = handed.await {
            eprintln!("attach to {}: {}", container.id, failure.message);
        }
    });
    Ok(answer)
}

fn hand_over(call: &Call, container: &Arc<Container>, wants: Attach, client: OwnedFd) -> Result<()> {
    let socket = monitors::socket(&call.engine.exec_root, &container.id);
    lock(&container.live).attach(&socket, wants, client.as_fd())
}

/// A client's connection, and what had come over it already.
pub(crate) type Connection = (OwnedFd, Vec<u8>);

/// Answers, and promises the connection with what the client had sent already.
pub(crate) fn hijack(
    call: &mut Call,
    tty: bool,
) -> Result<(Response<Body>, impl Future<Output = Result<Connection>> + Send + use<>)> {
    let upgrade = call.header("Upgrade").is_some();
    let multiplexed = "application/vnd.docker.multiplexed-stream";
    let kind = if tty { "application/vnd.docker.raw-stream" } else { multiplexed };
    let mut relay = None;
    let mut response;
    if upgrade {
        response = Response::new(Body::Whole(None));
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        response.headers_mut().insert(UPGRADE, HeaderValue::from_static("tcp"));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    } else {
        let (ours, theirs) = StdUnixStream::pair()?;
        let (sender, body) = mpsc::channel(16);
        response = answer::pieces(kind, body)?;
        tokio::spawn(forward(ours, sender));
        relay = Some(theirs);
    }
    let upgraded: OnUpgrade = hyper::upgrade::on(&mut call.request);
    Ok((response, async move {
        if let Some(relay) = relay {
            return Ok((OwnedFd::from(relay), Vec::new()));
        }
        let upgraded = upgraded.await?;
        let parts = upgraded
            .downcast::<TokioIo<UnixStream>>()
            .map_err(|_| Failure::internal("the connection is not the one that was accepted"))?;
        let stream = parts.io.into_inner().into_std()?;
        Ok((OwnedFd::from(stream), parts.read_buf.to_vec()))
    }))
}

/// For clients that did not ask for an upgrade.
async fn forward(from: StdUnixStream, to: mpsc::Sender<Bytes>) {
    let _ = from.set_nonblocking(true);
    let Ok(mut from) = UnixStream::from_std(from) else { return };
    let mut buffer = vec![0; 32 << 10];
    loop {
        let read = tokio::select! {
            read = from.read(&mut buffer) => read,
            () = to.closed() => return,
        };
        match read {
            Ok(length) if length > 0 => {
                if to.send(Bytes::copy_from_slice(&buffer[..length])).await.is_err() {
                    return;
                }
            }
            _ => return,
        }
    }
}

async fn resize(call: Call) -> Answer {
    let container = call.engine.container(&call.path[0])?;
    let (height, width) = size(&call)?;
    let order = crate::monitor::wire::Order::Resize { height, width };
    lock(&container.live)
        .order(order)
        .map_err(|_| Failure::conflict(format!("container {} is not running", container.id)))?;
    answer::empty(StatusCode::OK)
}

/// `?h=24&w=80`
pub(crate) fn size(call: &Call) -> Result<(u16, u16)> {
    Ok((call.number("h")?.unwrap_or_default(), call.number("w")?.unwrap_or_default()))
}

/// `ctrl-p,ctrl-q`, or single characters.
pub(crate) fn keys(text: &str) -> Result<Vec<u8>> {
    let bad = || Failure::bad(format!("invalid escape keys ({text}) provided"));
    text.split(',')
        .filter(|k| !k.is_empty())
        .map(|key| {
            let one = |k: &str| <[u8; 1]>::try_from(k.as_bytes()).map(|[b]| b).map_err(|_| bad());
            match key.strip_prefix("ctrl-") {
                None => one(key),
                // A control character is its letter without the upper bits (ascii(7)).
                Some(letter) => match one(letter)? {
                    b @ (b'a'..=b'z' | b'@' | b'[' | b'\\' | b']' | b'^' | b'_') => Ok(b & 0x1f),
                    _ => Err(bad()),
                },
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn detach_keys_as_docker_writes_them() {
        assert_eq!(keys(DETACH_KEYS).ok(), Some(vec![16, 17]));
        assert_eq!(keys("ctrl-@,a").ok(), Some(vec![0, b'a']));
        assert!(keys("ctrl-").is_err() && keys("ab").is_err());
    }
}
