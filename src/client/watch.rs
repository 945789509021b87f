//! `logs`, `top`, `events`: looking at containers without touching them.

use super::{
    http::{Client, Query, escape},
    size, stream,
    table::align_to,
    template,
};
use anyhow::{Context, Result};
use bollard_stubs::models::{ContainerInspectResponse, ContainerTopResponse};
use serde_json::Value;

/// Show what a container has printed
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Logs {
    /// The labels and variables that the log driver keeps with each line
    #[arg(long)]
    details: bool,
    /// Go on as it prints more
    #[arg(short, long)]
    follow: bool,
    /// Only from this moment on (a date, or 10m for ten minutes ago)
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only the last lines
    #[arg(short = 'n', long, visible_alias = "lines", value_name = "NUMBER", default_value = "all")]
    tail: String,
    /// With the moment of each line
    #[arg(short, long)]
    timestamps: bool,
    /// Only up to this moment
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    #[arg(value_name = "CONTAINER")]
    container: String,
}

/// Show the processes of a container
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Top {
    #[arg(value_name = "CONTAINER")]
    container: String,
    /// Options of ps
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "PS OPTIONS")]
    options: Vec<String>,
}

/// Show what happens, as it happens
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Events {
    /// Only some (container=…, event=…, type=…, …)
    #[arg(short, long, value_name = "FILTER")]
    filter: Vec<String>,
    /// A Go template, or json
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Those since this moment, too
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only up to this moment
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
}

/// `logs`.
pub(crate) async fn logs(client: &Client, args: &Logs) -> Result<u8> {
    let name = escape(&args.container);
    let details: ContainerInspectResponse = client.get(format!("/containers/{name}/json")).json().await?;
    let query = Query::default()
        .add("stdout", "1")
        .add("stderr", "1")
        .flag("follow", args.follow)
        .flag("timestamps", args.timestamps)
        .flag("details", args.details)
        .maybe("since", args.since.as_deref().map(moment).transpose()?)
        .maybe("until", args.until.as_deref().map(moment).transpose()?)
        .add("tail", &args.tail);
    let answer = client.get(format!("/containers/{name}/logs{query}")).stream().await?;
    stream::body(answer, details.config.and_then(|c| c.tty).unwrap_or(false)).await?;
    Ok(0)
}

/// A moment as a user writes it, in seconds since 1970 as the API wants it.
fn moment(text: &str) -> Result<String> {
    if let Ok(back) = size::nanoseconds(text) {
        return Ok((size::now() - back / 1_000_000_000).to_string());
    }
    if text.parse::<f64>().is_ok() {
        return Ok(text.to_owned());
    }
    // A date alone, or without its zone, is taken as UTC.
    let whole = match text.len() {
        10 => format!("{text}T00:00:00Z"),
        19 => format!("{text}Z"),
        _ => text.to_owned(),
    };
    let time: jiff::Timestamp = whole.parse().with_context(|| {
        format!("invalid time '{text}': write a date (2026-01-02T15:04:05Z), seconds since 1970, or how long ago (10m)")
    })?;
    Ok(format!("{}.{:09}", time.as_second(), time.subsec_nanosecond()))
}

/// `top`.
pub(crate) async fn top(client: &Client, args: &Top) -> Result<u8> {
    let options = (!args.options.is_empty()).then(|| args.options.join(" "));
    let query = Query::default().maybe("ps_args", options);
    let path = format!("/containers/{}/top{query}", escape(&args.container));
    let answer: ContainerTopResponse = client.get(path).json().await?;
    let rows: Vec<_> = answer.titles.into_iter().chain(answer.processes.into_iter().flatten()).collect();
    print!("{}", align_to(&rows, 20));
    Ok(0)
}

/// `events`.
pub(crate) async fn events(client: &Client, args: &Events) -> Result<u8> {
    let template = match args.format.as_deref() {
        None => None,
        Some("json") => Some(template::parse("{{json .}}")?),
        Some(text) => Some(template::parse(text)?),
    };
    let query = Query::default()
        .maybe("since", args.since.as_deref().map(moment).transpose()?)
        .maybe("until", args.until.as_deref().map(moment).transpose()?)
        .filters(&args.filter)?;
    let mut body = client.get(format!("/events{query}")).stream().await?.into_body();
    let mut rest = Vec::new();
    while let Some(bytes) = stream::next(&mut body).await? {
        rest.extend_from_slice(&bytes);
        let mut events = serde_json::Deserializer::from_slice(&rest).into_iter::<Value>();
        while let Some(Ok(event)) = events.next() {
            match &template {
                Some(template) => println!("{}", template.render(&event)?),
                None => println!("{}", event_line(&event)),
            }
        }
        let used = events.byte_offset();
        rest.drain(..used);
    }
    Ok(0)
}

/// `2026-11-24T06:14:07.123456789Z container start ID (image=base, name=web)`.
fn event_line(event: &Value) -> String {
    let nanos = event["timeNano"].as_i64().unwrap_or(0);
    let time = jiff::Timestamp::from_nanosecond(nanos.into()).unwrap_or_default();
    let time = time.strftime("%Y-%m-%dT%H:%M:%S.%9fZ");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (kind, action, id) = (text(&event["Type"]), text(&event["Action"]), text(&event["Actor"]["ID"]));
    let attributes = event["Actor"]["Attributes"].as_object();
    let attributes: Vec<_> =
        attributes.into_iter().flatten().map(|(k, v)| format!("{k}={}", text(v))).collect();
    let attributes =
        if attributes.is_empty() { String::new() } else { format!(" ({})", attributes.join(", ")) };
    format!("{time} {kind} {action} {id}{attributes}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_dates_seconds_or_so_long_ago() {
        assert_eq!(moment("2026-01-02T03:04:05Z").unwrap(), "1767323045.000000000");
        assert_eq!(moment("2026-01-02").unwrap(), "1767312000.000000000");
        assert_eq!(moment("1767312000").unwrap(), "1767312000");
        let ago: i64 = moment("10m").unwrap().parse().unwrap();
        assert!((size::now() - 600 - ago).abs() <= 1);
        assert!(moment("yesterday").is_err());
    }

    #[test]
    fn an_event_is_a_line() {
        let event = serde_json::json!({
            "Type": "container", "Action": "start", "timeNano": 1_767_323_045_000_000_001_i64,
            "Actor": {"ID": "0123", "Attributes": {"name": "web", "image": "base"}},
        });
        assert_eq!(
            event_line(&event),
            "2026-01-02T03:04:05.000000001Z container start 0123 (image=base, name=web)"
        );
    }
}
