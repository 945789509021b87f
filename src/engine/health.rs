//! HEALTHCHECK: a program that is run in the container now and then, and what its exit status says.

use super::{
    Engine,
    container::{Container, lock},
    failure::Result,
    monitors, sessions,
};
use crate::monitor::wire::{Attach, Order};
use bollard_stubs::models::{ExecConfig, HealthConfig};
use serde_json::{Value, json};
use std::{
    os::{fd::AsFd, unix::net::UnixStream},
    sync::Arc,
    time::Duration,
};
use tokio::io::AsyncReadExt;

/// How much of a check's output is kept, and of how many checks.
const OUTPUT: u64 = 4096;
const CHECKS: usize = 5;

/// What the checks said.
#[derive(Clone, Debug)]
pub(crate) struct Health {
    /// `starting`, `healthy`, `unhealthy`.
    pub(crate) status: String,
    /// How many have failed since one did not.
    pub(crate) failing: u64,
    /// The last ones, as the API shows them.
    pub(crate) log: Vec<Value>,
}

/// How often, how long, and when it counts.
struct Schedule {
    interval: Duration,
    timeout: Duration,
    start_period: Duration,
    start_interval: Duration,
    retries: u64,
}

impl Schedule {
    /// docker's defaults where nothing is said. The API's numbers are nanoseconds.
    fn of(config: &HealthConfig) -> Schedule {
        let or = |n: Option<i64>, default: u64| {
            let asked = n.and_then(|n| u64::try_from(n).ok()).filter(|n| *n > 0);
            asked.map_or(Duration::from_secs(default), Duration::from_nanos)
        };
        Schedule {
            interval: or(config.interval, 30),
            timeout: or(config.timeout, 30),
            start_period: or(config.start_period, 0),
            start_interval: or(config.start_interval, 5),
            retries: config.retries.and_then(|n| u64::try_from(n).ok()).filter(|n| *n > 0).unwrap_or(3),
        }
    }
}

/// The command of a check; `None` if there is none, or it was turned off.
fn command(container: &Container) -> Option<(Vec<String>, Schedule)> {
    container.look(|r| {
        let config = r.config.healthcheck.as_ref()?;
        let test = config.test.clone()?;
        let command = match test.first().map(String::as_str)? {
            "CMD" => test[1..].to_vec(),
            "CMD-SHELL" => vec!["/bin/sh".into(), "-c".into(), test.get(1)?.clone()],
            _ => return None,
        };
        Some((command, Schedule::of(config)))
    })
}

/// Checks a container until it ends.
pub(crate) fn watch(engine: &Arc<Engine>, container: &Arc<Container>) {
    let Some((command, schedule)) = command(container) else {
        *lock(&container.health) = None;
        return;
    };
    *lock(&container.health) = Some(Health { status: "starting".into(), failing: 0, log: Vec::new() });
    let (engine, container) = (engine.clone(), container.clone());
    tokio::spawn(async move {
        let began = tokio::time::Instant::now();
        let mut phase = container.phase.subscribe();
        let runs = phase.borrow().ends;
        loop {
            let starting = began.elapsed() < schedule.start_period
                && container.health().is_some_and(|h| h.status == "starting");
            let pause =
                if starting { schedule.start_interval.min(schedule.interval) } else { schedule.interval };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = phase.wait_for(|p| p.ends != runs || p.removed) => return,
            }
            // One that is frozen can say nothing.
            if container.must_run().is_err() {
                continue;
            }
            let at = super::now();
            let (code, output) = check(&engine, &container, &command, schedule.timeout).await;
            let entry = json!({"Start": at, "End": super::now(), "ExitCode": code, "Output": output});
            let within = began.elapsed() < schedule.start_period;
            if let Some(status) = judge(&container, code, entry, within, schedule.retries) {
                engine.tell(&container, &format!("health_status: {status}"), &[]);
            }
        }
    });
}

/// Puts a check's result to the others. Returns the status if it is another than before.
fn judge(container: &Container, code: i64, entry: Value, starting: bool, retries: u64) -> Option<String> {
    let mut health = lock(&container.health);
    let health = health.as_mut()?;
    let before = health.status.clone();
    health.log.push(entry);
    if health.log.len() > CHECKS {
        health.log.remove(0);
    }
    if code == 0 {
        health.failing = 0;
        health.status = "healthy".into();
    } else if !(starting && before == "starting") {
        health.failing += 1;
        if health.failing >= retries {
            health.status = "unhealthy".into();
        }
    }
    (health.status != before).then(|| health.status.clone())
}

/// Runs the command once: its exit status, and what it said. One that takes too long is killed.
async fn check(
    engine: &Arc<Engine>,
    container: &Arc<Container>,
    command: &[String],
    timeout: Duration,
) -> (i64, String) {
    match run(engine, container, command, timeout).await {
        Ok(result) => result,
        Err(failure) => (-1, failure.message),
    }
}

async fn run(
    engine: &Arc<Engine>,
    container: &Arc<Container>,
    command: &[String],
    timeout: Duration,
) -> Result<(i64, String)> {
    let config = ExecConfig {
        cmd: Some(command.to_vec()),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        ..ExecConfig::default()
    };
    let session = sessions::create(engine, container.clone(), config)?;
    let (ours, theirs) = UnixStream::pair()?;
    let wants = Attach { stdout: true, stderr: true, raw: true, ..Attach::default() };
    lock(&session.live).attach(&monitors::socket(&engine.exec_root, &session.id), wants, theirs.as_fd())?;
    drop(theirs);
    ours.set_nonblocking(true)?;
    let mut output = tokio::net::UnixStream::from_std(ours)?;
    sessions::start(engine, &session, None).await?;
    let mut text = Vec::new();
    let read = async {
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = output.read(&mut buffer).await {
            let room = usize::try_from(OUTPUT).unwrap_or(usize::MAX).saturating_sub(text.len());
            text.extend_from_slice(&buffer[..length.min(room)]);
        }
    };
    let in_time = tokio::time::timeout(timeout, read).await.is_ok();
    if !in_time {
        let _ = lock(&session.live).order(Order::Signal(libc::SIGKILL));
        return Ok((-1, format!("Health check exceeded timeout ({}s)", timeout.as_secs_f32())));
    }
    let code =
        session.state.subscribe().wait_for(|s| s.exit_code.is_some()).await.ok().and_then(|s| s.exit_code);
    Ok((code.unwrap_or(-1), String::from_utf8_lossy(&text).into_owned()))
}
