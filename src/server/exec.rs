//! `docker exec`.

use super::{
    answer::{Answer, empty, json, json_with},
    call::Call,
    router::routes,
    stream,
};
use crate::{
    engine::{container::lock, failure::Failure, monitors, sessions},
    monitor::wire::{Attach, Order},
};
use bollard_stubs::models::ExecConfig;
use hyper::StatusCode;
use serde::Deserialize;
use serde_json::json;
use std::os::fd::AsFd;

routes! {
    POST "/containers/{}/exec" => create;
    POST "/exec/{}/start" => start;
    POST "/exec/{}/resize" => resize;
    GET "/exec/{}/json" => inspect;
}

async fn create(mut call: Call) -> Answer {
    let config: ExecConfig = call.options().await?;
    let container = call.engine.container(&call.path[0])?;
    let session = sessions::create(&call.engine, container, config)?;
    json_with(StatusCode::CREATED, &json!({"Id": session.id}))
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Start {
    detach: Option<bool>,
    console_size: Option<(u16, u16)>,
}

async fn start(mut call: Call) -> Answer {
    let asked: Start = call.options().await?;
    let session = call.engine.sessions.get(&call.path[0])?;
    session.container.must_run()?;
    let mut first = false;
    session.state.send_modify(|s| first = !std::mem::replace(&mut s.asked, true));
    if !first {
        return Err(Failure::conflict(format!("Error: Exec command {} is already running", session.id)));
    }
    if asked.detach.unwrap_or_default() {
        sessions::start(&call.engine, &session, asked.console_size).await?;
        return empty(StatusCode::OK);
    }
    let config = &session.config;
    let wants = Attach {
        stdin: config.attach_stdin.unwrap_or_default(),
        stdout: config.attach_stdout.unwrap_or_default(),
        stderr: config.attach_stderr.unwrap_or_default(),
        raw: session.tty(),
        detach_keys: match (session.tty(), config.detach_keys.as_deref()) {
            (false, _) => Vec::new(),
            (true, None | Some("")) => stream::keys("ctrl-p,ctrl-q")?,
            (true, Some(keys)) => stream::keys(keys)?,
        },
        early: Vec::new(),
    };
    let (answer, connection) = stream::hijack(&mut call, session.tty())?;
    let engine = call.engine.clone();
    tokio::spawn(async move {
        let begun = async {
            let (client, early) = connection.await?;
            let socket = monitors::socket(&engine.exec_root, &session.id);
            // Attached before it is started: its first byte is not lost. What fails is said on this connection.
            lock(&session.live).attach(&socket, Attach { early, ..wants }, client.as_fd())?;
            drop(client);
            sessions::start(&engine, &session, asked.console_size).await
        };
        // The client asks for the exit status next, and gets it from the session.
        let _ = begun.await;
    });
    Ok(answer)
}

async fn resize(call: Call) -> Answer {
    let session = call.engine.sessions.get(&call.path[0])?;
    let (height, width) = stream::size(&call)?;
    // The client sends its size as soon as it can, which may be before the process runs.
    let running = session
        .state
        .subscribe()
        .wait_for(|s| s.running || s.exit_code.is_some())
        .await
        .is_ok_and(|s| s.running);
    if running {
        lock(&session.live).order(Order::Resize { height, width })?;
    }
    empty(StatusCode::OK)
}

async fn inspect(call: Call) -> Answer {
    let session = call.engine.sessions.get(&call.path[0])?;
    let state = session.state.borrow().clone();
    let config = &session.config;
    let command = config.cmd.clone().unwrap_or_default();
    json(&json!({
        "ID": session.id,
        "Running": state.running,
        "ExitCode": state.exit_code,
        "ProcessConfig": {
            "tty": session.tty(),
            "entrypoint": command.first(),
            "arguments": command.get(1..).unwrap_or_default(),
            "privileged": config.privileged.unwrap_or_default(),
            "user": config.user.clone().unwrap_or_default(),
        },
        "OpenStdin": config.attach_stdin.unwrap_or_default(),
        "OpenStderr": config.attach_stderr.unwrap_or_default(),
        "OpenStdout": config.attach_stdout.unwrap_or_default(),
        "CanRemove": state.exit_code.is_some(),
        "ContainerID": session.container.id,
        "DetachKeys": "",
        "Pid": state.pid,
    }))
}
