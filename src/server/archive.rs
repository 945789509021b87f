//! `docker cp` and `docker export`: a container's files as a tar. The work is done by a process of its own, see
//! `monitor::archive`.

use super::{
    answer::{self, Answer, empty},
    call::Call,
    router::routes,
    transfer::Upload,
};
use crate::{
    engine::{
        Engine,
        container::Container,
        disk,
        failure::{Failure, Result},
        mounts, names,
    },
    monitor::{
        ROLE,
        archive::{ArchivePlan, Reply, Stat, Task},
    },
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use hyper::{Response, StatusCode, body::Bytes, header::HeaderValue};
use std::{path::PathBuf, process::Stdio, sync::Arc};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    process::{Child, ChildStdout, Command},
    sync::mpsc,
};

routes! {
    HEAD "/containers/{}/archive" => stat;
    GET "/containers/{}/archive" => get;
    PUT "/containers/{}/archive" => put;
    GET "/containers/{}/export" => export;
}

/// A copy under way. Its directory goes with it.
struct Copy {
    child: Child,
    dir: PathBuf,
}

impl Drop for Copy {
    fn drop(&mut self) {
        let _ = disk::remove_dir(&self.dir);
    }
}

fn begin(engine: &Engine, container: &Container, path: &str, task: Task) -> Result<Copy> {
    if path.is_empty() {
        return Err(Failure::bad("bad parameter: path cannot be empty"));
    }
    let record = container.record();
    let dir = engine.data_root.join("tmp").join(format!("cp-{}", names::id()?));
    disk::make_dir(&dir, 0o700)?;
    let put = matches!(task, Task::Put { .. });
    let plan = ArchivePlan {
        task,
        path: path.to_owned(),
        pid: record.state.status.alive().then_some(record.state.pid),
        lower: [vec![engine.init_layer()], record.lower].concat(),
        upper: container.dir.join("upper"),
        work: container.dir.join("work"),
        mounts: mounts::plan(&record.mounts, &record.host),
    };
    disk::write_json(&dir.join("plan.json"), &plan, disk::Durable::Process)?;
    let child = Command::new("/proc/self/exe")
        .arg0("teu")
        .args([ROLE, "archive"])
        .arg(&dir)
        .stdin(if put { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    Ok(Copy { child, dir })
}

/// The first line: what was found, or why not.
async fn reply(container: &Container, output: &mut BufReader<ChildStdout>) -> Result<Stat> {
    let mut line = String::new();
    output.read_line(&mut line).await?;
    match serde_json::from_str(&line).map_err(|_| Failure::internal("the copy ended without an answer"))? {
        Reply::Found(stat) => Ok(stat),
        Reply::Refused { status: 404, message } => {
            Err(Failure::missing(format!("{message} {}", container.name())))
        }
        Reply::Refused { status, message } => Err(Failure { status, message }),
    }
}

fn output(copy: &mut Copy) -> Result<BufReader<ChildStdout>> {
    copy.child
        .stdout
        .take()
        .map(|out| BufReader::with_capacity(64 << 10, out))
        .ok_or_else(|| Failure::internal("no output"))
}

fn with_stat(mut response: Response<answer::Body>, stat: &Stat) -> Answer {
    let header = HeaderValue::from_str(&STANDARD.encode(serde_json::to_vec(stat)?));
    response
        .headers_mut()
        .insert("X-Docker-Container-Path-Stat", header.map_err(|e| Failure::internal(e.to_string()))?);
    Ok(response)
}

async fn stat(call: Call) -> Answer {
    let container = call.engine.container(&call.path[0])?;
    let _one = container.operation.lock().await;
    let mut copy = begin(&call.engine, &container, call.get("path").unwrap_or_default(), Task::Stat)?;
    let mut out = output(&mut copy)?;
    let stat = reply(&container, &mut out).await?;
    with_stat(empty(StatusCode::OK)?, &stat)
}

async fn get(call: Call) -> Answer {
    let container = call.engine.container(&call.path[0])?;
    let path = call.get("path").unwrap_or_default().to_owned();
    send(call, container, &path).await
}

async fn export(call: Call) -> Answer {
    let container = call.engine.container(&call.path[0])?;
    send(call, container, "/.").await
}

async fn send(call: Call, container: Arc<Container>, path: &str) -> Answer {
    let engine = call.engine.clone();
    let (to, body) = mpsc::channel::<Bytes>(16);
    let (first, told) = tokio::sync::oneshot::channel::<Result<Stat>>();
    let path = path.to_owned();
    // Nobody starts it while its root is mounted for the copy.
    tokio::spawn(async move {
        let _one = container.operation.lock().await;
        let begun = async {
            let mut copy = begin(&engine, &container, &path, Task::Get)?;
            let mut out = output(&mut copy)?;
            let stat = reply(&container, &mut out).await?;
            Ok((copy, out, stat))
        };
        let (_copy, mut out) = match begun.await {
            Ok((copy, out, stat)) => {
                let _ = first.send(Ok(stat));
                (copy, out)
            }
            Err(failure) => {
                let _ = first.send(Err(failure));
                return;
            }
        };
        let mut buffer = vec![0; 64 << 10];
        while let Ok(length @ 1..) = out.read(&mut buffer).await {
            if to.send(Bytes::copy_from_slice(&buffer[..length])).await.is_err() {
                return;
            }
        }
    });
    let stat = told.await.map_err(|_| Failure::internal("the copy ended without an answer"))??;
    with_stat(answer::pieces("application/x-tar", body)?, &stat)
}

async fn put(call: Call) -> Answer {
    let container = call.engine.container(&call.path[0])?;
    let _one = container.operation.lock().await;
    let keep_kind = call.flag("noOverwriteDirNonDir");
    let mut copy =
        begin(&call.engine, &container, call.get("path").unwrap_or_default(), Task::Put { keep_kind })?;
    let mut out = output(&mut copy)?;
    let mut input = copy.child.stdin.take().ok_or_else(|| Failure::internal("no input"))?;
    let mut upload = Upload::of(call.request.into_body());
    let feed = async move {
        while let Some(piece) = upload.next().await {
            // It has refused, and says why.
            if input.write_all(&piece).await.is_err() {
                return;
            }
        }
    };
    let ((), answer) = tokio::join!(feed, reply(&container, &mut out));
    answer?;
    empty(StatusCode::OK)
}
