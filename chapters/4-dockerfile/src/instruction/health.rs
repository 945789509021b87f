//! `HEALTHCHECK`, `STOPSIGNAL`: how an engine watches and ends a container.

use super::{Keyword, anything, value};
use crate::{
    Error, Result,
    config::Health,
    parse::json,
    stage::Stage,
    tree::{Form, Instruction},
};

pub(super) static HEALTHCHECK: Keyword = Keyword {
    name: "HEALTHCHECK",
    form: Form::Text,
    flags: &[
        value("interval"),
        value("timeout"),
        value("start-period"),
        value("start-interval"),
        value("retries"),
    ],
    heredocs: false,
    check: |i| health(i).map(|_| ()),
    apply: healthcheck,
};

pub(super) static STOPSIGNAL: Keyword = Keyword {
    name: "STOPSIGNAL",
    form: Form::Text,
    flags: &[],
    heredocs: false,
    check: anything,
    apply: stopsignal,
};

fn healthcheck(stage: &mut Stage, i: &Instruction) -> Result<()> {
    let wrong = |reason| Error::Instruction { instruction: "HEALTHCHECK", reason };
    stage.config.config.healthcheck = Some(health(i).map_err(wrong)?);
    stage.record(&i.text)
}

/// `NONE`, or `CMD` and a command.
fn health(i: &Instruction) -> Result<Health, String> {
    let (kind, rest) = i.text_args().split_once(char::is_whitespace).unwrap_or((i.text_args(), ""));
    let rest = rest.trim_start();
    let test = match kind.to_ascii_uppercase().as_str() {
        "NONE" if !rest.is_empty() => return Err("HEALTHCHECK NONE takes no arguments".into()),
        "NONE" => vec!["NONE".to_owned()],
        "CMD" if rest.is_empty() => return Err("Missing command after HEALTHCHECK CMD".into()),
        "CMD" => match json(rest) {
            Some(words) => std::iter::once("CMD".to_owned()).chain(words).collect(),
            None => vec!["CMD-SHELL".to_owned(), rest.to_owned()],
        },
        _ => return Err(format!("Unknown type {kind:?} in HEALTHCHECK (try CMD)")),
    };
    let duration = |name: &str| i.flag(name).map_or(Ok(0), |text| nanoseconds(name, text));
    let retries = match i.flag("retries").map(str::parse::<i64>) {
        None => 0,
        Some(Ok(n)) if n >= 0 => n,
        Some(_) => return Err("--retries is a number, and not less than 0".into()),
    };
    Ok(Health {
        test,
        interval: duration("interval")?,
        timeout: duration("timeout")?,
        start_period: duration("start-period")?,
        start_interval: duration("start-interval")?,
        retries,
        ..Health::default()
    })
}

/// A duration as Go writes it: `1m30s`, `1.5h`, `500ms`.
fn nanoseconds(name: &str, text: &str) -> Result<i64, String> {
    let wrong = || format!("--{name}: invalid duration {text:?}; write for example 30s, 1m30s, 500ms");
    let (mut total, mut rest) = (0f64, text);
    if text == "0" {
        return Ok(0);
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let number: f64 = rest[..end].parse().map_err(|_| wrong())?;
        let unit_end =
            rest[end..].find(|c: char| c.is_ascii_digit() || c == '.').map_or(rest.len(), |n| end + n);
        total += number
            * match &rest[end..unit_end] {
                "ns" => 1.0,
                "us" | "µs" => 1e3,
                "ms" => 1e6,
                "s" => 1e9,
                "m" => 60e9,
                "h" => 3600e9,
                _ => return Err(wrong()),
            };
        rest = &rest[unit_end..];
    }
    match total {
        _ if text.is_empty() || total > i64::MAX as f64 => Err(wrong()),
        _ if total > 0.0 && total < 1e6 => Err(format!("Interval {name:?} cannot be less than 1ms")),
        _ => Ok(total as i64),
    }
}

fn stopsignal(stage: &mut Stage, i: &Instruction) -> Result<()> {
    let signal = stage.expand(i.text_args())?;
    let name = signal.to_ascii_uppercase();
    let number = name.parse::<u8>().is_ok_and(|n| (1..=64).contains(&n));
    let full = if name.starts_with("SIG") { name.clone() } else { format!("SIG{name}") };
    let real_time = ["SIGRTMIN", "SIGRTMAX"].iter().any(|s| full.starts_with(s));
    if !number && !real_time && full.parse::<nix::sys::signal::Signal>().is_err() {
        let reason = format!("invalid signal: {signal}; write a name like SIGTERM or a number from 1 to 64");
        return Err(Error::Plan(reason));
    }
    let text = format!("STOPSIGNAL {signal}");
    stage.config.config.stop_signal = signal;
    stage.record(&text)
}

#[cfg(test)]
mod tests {
    use super::nanoseconds;

    #[test]
    fn durations() {
        let read = |text| nanoseconds("interval", text);
        assert_eq!(read("30s"), Ok(30_000_000_000));
        assert_eq!(read("1m30s"), Ok(90_000_000_000));
        assert_eq!(read("1.5h"), Ok(5_400_000_000_000));
        assert_eq!(read("5ms"), Ok(5_000_000));
        assert_eq!(read("0"), Ok(0));
        for wrong in ["", "5", "s", "5x", "-5s", "1ns", "999999999h", "1..5s"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
