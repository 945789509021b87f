//! `docker ps`.

use super::{
    answer::{Answer, json},
    call::{Call, Filters},
    router::routes,
};
use crate::engine::{
    blocking,
    container::{Container, Published, State, Status},
    failure::Result,
    images,
    volumes::disk_usage,
};
use serde_json::{Value, json};
use std::sync::Arc;

routes! {
    GET "/containers/json" => list;
}

const FILTERS: &[&str] = &[
    "ancestor",
    "before",
    "exited",
    "expose",
    "health",
    "id",
    "is-task",
    "isolation",
    "label",
    "label!",
    "name",
    "network",
    "publish",
    "since",
    "status",
    "volume",
];

async fn list(call: Call) -> Answer {
    let filters = call.filters()?;
    filters.only(FILTERS)?;
    let limit: i64 = call.number("limit")?.unwrap_or(-1);
    // Asked for by status or for the last few, those that do not run are meant too.
    let everything = call.flag("all")
        || limit > 0
        || !filters.get("status").is_empty()
        || !filters.get("exited").is_empty();
    let mut shown = Vec::new();
    for container in call.engine.containers() {
        if (everything || container.status().alive() || container.status() == Status::Restarting)
            && fits(&call, &filters, &container)?
        {
            shown.push(container);
        }
    }
    if let Ok(limit @ 1..) = usize::try_from(limit) {
        shown.truncate(limit);
    }
    let size = call.flag("size");
    let list = blocking(move || {
        Ok(shown
            .iter()
            .map(|container| {
                let mut summary = summary(container);
                if size {
                    summary["SizeRw"] = disk_usage(&container.dir.join("upper")).into();
                    let layers: u64 = container.look(|r| r.lower.iter().map(|l| disk_usage(l)).sum());
                    summary["SizeRootFs"] = (layers + summary["SizeRw"].as_u64().unwrap_or_default()).into();
                }
                summary
            })
            .collect::<Vec<Value>>())
    })
    .await?;
    json(&list)
}

fn fits(call: &Call, filters: &Filters, container: &Arc<Container>) -> Result<bool> {
    let engine = &call.engine;
    let record = container.record();
    let created_of = |reference: &String| engine.container(reference).map(|c| c.look(|r| r.created.clone()));
    for reference in filters.get("before") {
        if record.created >= created_of(reference)? {
            return Ok(false);
        }
    }
    for reference in filters.get("since") {
        if record.created <= created_of(reference)? {
            return Ok(false);
        }
    }
    let ancestor = |asked: &str| {
        asked == record.image || images::find(engine, asked).is_ok_and(|i| i.id().as_ref() == record.image_id)
    };
    let mounted = |asked: &str| {
        record
            .mounts
            .iter()
            .any(|m| [&m.name, &m.destination, &m.source].iter().any(|f| f.as_deref() == Some(asked)))
    };
    let network = |asked: &str| {
        let id = engine.networks.get(asked).map(|n| n.name);
        record.networks.keys().any(|n| n == asked || id.as_ref().is_ok_and(|i| i == n))
    };
    let port = |asked: &str| {
        let (number, protocol) = asked.split_once('/').unwrap_or((asked, "tcp"));
        record.state.ports.iter().any(|p| p.protocol == protocol && number.parse() == Ok(p.port))
    };
    let health = container.health().map_or("none".to_owned(), |h| h.status);
    Ok(filters.labels(&record.config.labels.clone().unwrap_or_default())
        && filters.fits("id", |id| record.id.starts_with(id))
        && filters.fits("name", |name| named(&record.name, name))
        && filters.fits("status", |status| record.state.status.as_str() == status)
        && filters.fits("exited", |code| {
            record.state.status == Status::Exited && code.parse() == Ok(record.state.exit_code)
        })
        && filters.fits("ancestor", ancestor)
        && filters.fits("volume", mounted)
        && filters.fits("network", network)
        && filters.fits("publish", port)
        && filters.fits("expose", port)
        && filters.fits("health", |asked| asked == health))
}

/// docker takes a regular expression; what people write are parts of names, with `^` and `$`.
fn named(name: &str, asked: &str) -> bool {
    let asked = asked.trim_start_matches('/');
    let (start, asked) =
        asked.strip_prefix('^').map_or((false, asked), |a| (true, a.trim_start_matches('/')));
    let (end, asked) = asked.strip_suffix('$').map_or((false, asked), |a| (true, a));
    match (start, end) {
        (true, true) => name == asked,
        (true, false) => name.starts_with(asked),
        (false, true) => name.ends_with(asked),
        (false, false) => name.contains(asked),
    }
}

/// One line of `docker ps`.
pub(crate) fn summary(container: &Container) -> Value {
    let health = container.health();
    container.look(|r| {
        let mut summary = json!({
            "Id": r.id,
            "Names": [format!("/{}", r.name)],
            "Image": r.image,
            "ImageID": r.image_id,
            "Command": r.command().join(" "),
            "Created": seconds(&r.created),
            "Ports": ports(&r.state),
            "Labels": r.config.labels.clone().unwrap_or_default(),
            "State": r.state.status.as_str(),
            "Status": status(&r.state, health.as_ref().map(|h| h.status.as_str())),
            "HostConfig": {"NetworkMode": r.network_mode()},
            "NetworkSettings": {"Networks": r.networks},
            "Mounts": r.mounts,
        });
        // As an image that was given a new name since is shown: by its ID.
        if r.image.starts_with("sha256:") {
            summary["Image"] = r.image_id[..19.min(r.image_id.len())].into();
        }
        summary
    })
}

fn ports(state: &State) -> Vec<Value> {
    let line = |p: &Published| json!({"IP": p.host_ip, "PrivatePort": p.port, "PublicPort": p.host_port, "Type": p.protocol});
    if state.status.alive() { state.ports.iter().map(line).collect() } else { Vec::new() }
}

fn seconds(at: &str) -> i64 {
    at.parse::<jiff::Timestamp>().map_or(0, jiff::Timestamp::as_second)
}

/// `Up 3 seconds`, `Exited (0) About a minute ago`
pub(crate) fn status(state: &State, health: Option<&str>) -> String {
    let since = |at: &str| human(jiff::Timestamp::now().as_second() - seconds(at));
    match state.status {
        Status::Created => "Created".into(),
        Status::Dead => "Dead".into(),
        Status::Paused => format!("Up {} (Paused)", since(&state.started_at)),
        Status::Running => match health {
            None => format!("Up {}", since(&state.started_at)),
            Some("starting") => format!("Up {} (health: starting)", since(&state.started_at)),
            Some(health) => format!("Up {} ({health})", since(&state.started_at)),
        },
        Status::Restarting => format!("Restarting ({}) {} ago", state.exit_code, since(&state.finished_at)),
        Status::Exited => format!("Exited ({}) {} ago", state.exit_code, since(&state.finished_at)),
    }
}

/// A duration in docker's words.
fn human(seconds: i64) -> String {
    let (minutes, hours) = (seconds / 60, (seconds + 1800) / 3600);
    match () {
        () if seconds < 1 => "Less than a second".into(),
        () if seconds == 1 => "1 second".into(),
        () if seconds < 60 => format!("{seconds} seconds"),
        () if minutes == 1 => "About a minute".into(),
        () if minutes < 60 => format!("{minutes} minutes"),
        () if hours == 1 => "About an hour".into(),
        () if hours < 48 => format!("{hours} hours"),
        () if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        () if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        () if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        () => format!("{} years", hours / 24 / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_in_dockers_words() {
        let cases = [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (150, "2 minutes"),
            (3600, "About an hour"),
            (7200, "2 hours"),
            (86_400 * 3, "3 days"),
            (86_400 * 15, "2 weeks"),
        ];
        for (seconds, words) in cases {
            assert_eq!(human(seconds), words);
        }
    }

    #[test]
    fn names_are_found_by_part_or_whole() {
        assert!(
            named("web-1", "web")
                && named("web-1", "^web")
                && named("web-1", "1$")
                && named("web-1", "^/web-1$")
        );
        assert!(!named("web-1", "^eb") && !named("web-1", "^web$"));
    }
}
