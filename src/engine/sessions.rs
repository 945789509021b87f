//! exec: other processes in a running container, each with a monitor of its own.

use super::{
    Engine, blocking,
    container::{Container, lock},
    disk,
    failure::{Failure, Result},
    monitors::{self, Live, Reports},
    names,
};
use crate::monitor::wire::{Exit, Order, Report};
use bollard_stubs::models::ExecConfig;
use serde::{Deserialize, Serialize};
use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tokio::process::Child;

/// How long an ended one can still be asked for its exit status.
const KEPT: Duration = Duration::from_secs(300);

/// What the monitor of an exec is told, and what a later daemon finds: `plan.json` in the session's directory.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ExecPlan {
    pub(crate) id: String,
    pub(crate) container: String,
    /// The container's bundle: its configuration is where the process begins.
    pub(crate) bundle: PathBuf,
    pub(crate) runtime_root: PathBuf,
    pub(crate) pid: i32,
    /// The container's environment, then the session's own.
    pub(crate) env: Vec<String>,
    pub(crate) config: ExecConfig,
    /// The user when the session names none.
    pub(crate) user: Option<String>,
    /// The terminal's first size: rows and columns.
    pub(crate) console: Option<(u16, u16)>,
}

/// A session.
pub(crate) struct Session {
    pub(crate) id: String,
    pub(crate) container: Arc<Container>,
    pub(crate) config: ExecConfig,
    pub(crate) dir: PathBuf,
    pub(crate) live: Mutex<Live>,
    pub(crate) state: tokio::sync::watch::Sender<SessionState>,
}

/// How it stands.
#[derive(Clone, Debug, Default)]
pub(crate) struct SessionState {
    pub(crate) asked: bool,
    pub(crate) running: bool,
    pub(crate) pid: i32,
    pub(crate) exit_code: Option<i64>,
    pub(crate) error: Option<Failure>,
    ended: Option<Instant>,
}

/// All sessions.
#[derive(Default)]
pub(crate) struct Sessions(Mutex<HashMap<String, Arc<Session>>>);

impl Sessions {
    /// The session of an ID.
    pub(crate) fn get(&self, id: &str) -> Result<Arc<Session>> {
        lock(&self.0).get(id).cloned().ok_or_else(|| Failure::missing(format!("No such exec instance: {id}")))
    }

    /// The IDs of a container's sessions.
    pub(crate) fn of(&self, container: &str) -> Vec<String> {
        let all = lock(&self.0);
        all.values()
            .filter(|s| s.container.id == container && s.state.borrow().running)
            .map(|s| s.id.clone())
            .collect()
    }

    fn insert(&self, session: Arc<Session>) {
        let mut all = lock(&self.0);
        all.retain(|_, s| s.state.borrow().ended.is_none_or(|at| at.elapsed() < KEPT));
        all.insert(session.id.clone(), session);
    }
}

impl Session {
    fn new(engine: &Engine, id: &str, container: Arc<Container>, config: ExecConfig) -> Session {
        let dir = engine.exec_root.join("exec").join(id);
        Session {
            id: id.to_owned(),
            container,
            config,
            dir,
            live: Mutex::default(),
            state: tokio::sync::watch::Sender::default(),
        }
    }

    /// Whether it has a terminal.
    pub(crate) fn tty(&self) -> bool {
        self.config.tty.unwrap_or_default()
    }
}

/// Prepares a session; nothing runs yet.
pub(crate) fn create(engine: &Engine, container: Arc<Container>, config: ExecConfig) -> Result<Arc<Session>> {
    container.must_run()?;
    if config.cmd.as_ref().is_none_or(Vec::is_empty) {
        return Err(Failure::bad("No exec command specified"));
    }
    let words = config.cmd.clone().unwrap_or_default().join(" ");
    let session = Arc::new(Session::new(engine, &names::id()?, container, config));
    engine.tell(&session.container, &format!("exec_create: {words}"), &[("execID", session.id.clone())]);
    engine.sessions.insert(session.clone());
    Ok(session)
}

/// Starts it, and returns when its program runs. Clients that attached before are served from the first byte.
pub(crate) async fn start(
    engine: &Arc<Engine>,
    session: &Arc<Session>,
    console: Option<(u16, u16)>,
) -> Result<()> {
    let begun = begin(engine, session, console);
    let (mut reports, child) =
        begun.inspect_err(|failure| finish(engine, session, None, Some(failure.clone())))?;
    match reports.next().await {
        Some(Report::Started { pid, .. }) => {
            session.state.send_modify(|s| {
                s.running = true;
                s.pid = pid;
            });
            let words = session.config.cmd.clone().unwrap_or_default().join(" ");
            engine.tell(
                &session.container,
                &format!("exec_start: {words}"),
                &[("execID", session.id.clone())],
            );
            tokio::spawn(follow(engine.clone(), session.clone(), reports, Some(child)));
            Ok(())
        }
        other => {
            let (code, message) = match other {
                Some(Report::Failed { code, message }) => (code, message),
                _ => (128, std::fs::read_to_string(session.dir.join("monitor.log")).unwrap_or_default()),
            };
            let failure = Failure { status: if code == 128 { 500 } else { 400 }, message };
            session.state.send_modify(|s| s.exit_code = Some(code));
            let _ = lock(&session.live).order(Order::Heard);
            let mut child = child;
            let _ = child.wait().await;
            finish(engine, session, Some(code), Some(failure.clone()));
            Err(failure)
        }
    }
}

fn begin(engine: &Engine, session: &Session, console: Option<(u16, u16)>) -> Result<(Reports, Child)> {
    session.container.must_run()?;
    let record = session.container.record();
    let own = session.config.env.clone().unwrap_or_default();
    let plan = ExecPlan {
        id: session.id.clone(),
        container: session.container.id.clone(),
        bundle: session.container.run.clone(),
        runtime_root: engine.runtime.root().to_owned(),
        pid: record.state.pid,
        env: [record.config.env.clone().unwrap_or_default(), own].concat(),
        user: session.config.user.clone().filter(|u| !u.is_empty()).or(record.config.user),
        config: session.config.clone(),
        console,
    };
    disk::make_dir(&session.dir, 0o710)?;
    disk::write_json(&session.dir.join("plan.json"), &plan, disk::Durable::Process)?;
    monitors::spawn(
        &mut lock(&session.live),
        &monitors::socket(&engine.exec_root, &session.id),
        "exec",
        &session.dir,
    )
}

async fn follow(engine: Arc<Engine>, session: Arc<Session>, mut reports: Reports, child: Option<Child>) {
    let mut exit = None;
    while let Some(report) = reports.next().await {
        if let Report::Exited(e) = report {
            exit = Some(e.code);
            session.state.send_modify(|s| {
                s.running = false;
                s.exit_code = exit;
            });
            // Only now: see `Order::Heard`.
            let _ = lock(&session.live).order(Order::Heard);
        }
    }
    if let Some(mut child) = child {
        let _ = child.wait().await;
    }
    let recorded = || disk::read_json::<Exit>(&session.dir.join("exit.json")).ok().flatten().map(|e| e.code);
    finish(&engine, &session, Some(exit.or_else(recorded).unwrap_or(137)), None);
}

fn finish(engine: &Engine, session: &Session, code: Option<i64>, error: Option<Failure>) {
    lock(&session.live).clear(&monitors::socket(&engine.exec_root, &session.id));
    let _ = disk::remove_dir(&session.dir);
    session.state.send_modify(|s| {
        s.running = false;
        s.exit_code = code.or(Some(126));
        s.error = error;
        s.ended = Some(Instant::now());
    });
    if let Some(code) = code {
        engine.tell(
            &session.container,
            "exec_die",
            &[("execID", session.id.clone()), ("exitCode", code.to_string())],
        );
    }
}

/// Finds the sessions that an earlier daemon had started.
pub(crate) async fn reconcile(engine: &Arc<Engine>) -> Result<()> {
    for entry in std::fs::read_dir(engine.exec_root.join("exec"))?.flatten() {
        let dir = entry.path();
        let plan = disk::read_json::<ExecPlan>(&dir.join("plan.json")).ok().flatten();
        let found = plan.and_then(|plan| {
            let container = engine.container(&plan.container).ok()?;
            let session = Arc::new(Session::new(engine, &plan.id, container, plan.config));
            let socket = monitors::socket(&engine.exec_root, &session.id);
            let reports = monitors::find(&mut lock(&session.live), &socket);
            Some((session, reports))
        });
        match found {
            Some((session, Some(reports))) => {
                session.state.send_modify(|s| {
                    s.asked = true;
                    s.running = true;
                });
                engine.sessions.insert(session.clone());
                tokio::spawn(follow(engine.clone(), session, reports, None));
            }
            Some((session, None)) => {
                let code =
                    disk::read_json::<Exit>(&dir.join("exit.json")).ok().flatten().map_or(137, |e| e.code);
                finish(engine, &session, Some(code), None);
                engine.sessions.insert(session);
            }
            None => blocking(move || disk::remove_dir(&dir)).await?,
        }
    }
    Ok(())
}
