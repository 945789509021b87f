//! `events`: a line of JSON whenever a while has passed, and one when the kernel killed for lack of memory.

use crate::{cli::Global, oci};
use anyhow::Result;
use cgroups::{runtime::Runtime, state::Status, stats::Stats};
use serde::Serialize;
use std::{
    io::Write,
    time::{Duration, Instant},
};

/// How often the counter of kills is looked at. (The kernel could wake us, by an eventfd on v1 and by
/// inotify on v2: a file read ten times a second costs less than either explains.)
const LOOK: Duration = Duration::from_millis(100);

pub(crate) fn events(global: &Global, id: &str, once: bool, interval: Duration) -> Result<()> {
    let runtime = oci::runtime(global)?;
    let status = runtime.state(id)?.status;
    if once {
        return stats(&runtime, id);
    }
    if status == Status::Stopped {
        return Err(cgroups::Error::NotRunning(id.into(), status).into());
    }
    let cgroup = runtime.cgroup(id)?;
    let mut kills = cgroup.oom_kills()?;
    let mut next = Instant::now() + interval;
    loop {
        std::thread::sleep(LOOK.min(interval));
        let now = cgroup.oom_kills()?;
        if now > kills {
            line(&Event { kind: "oom", id, data: None })?;
        }
        kills = now;
        // It may be deleted at any moment.
        match runtime.state(id) {
            Ok(state) if state.status != Status::Stopped => {}
            _ => return Ok(()),
        }
        if Instant::now() >= next {
            stats(&runtime, id)?;
            next += interval;
        }
    }
}

fn stats(runtime: &Runtime, id: &str) -> Result<()> {
    line(&Event { kind: "stats", id, data: Some(runtime.stats(id)?) })
}

/// In runc's order: there are readers that compare text.
#[derive(Serialize)]
struct Event<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Stats>,
}

/// A reader behind a pipe wants each line at once.
fn line(event: &Event) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", serde_json::to_string(event)?)?;
    Ok(out.flush()?)
}
