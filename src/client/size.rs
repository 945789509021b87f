//! Sizes and times, as docker reads and writes them.

use anyhow::{Result, anyhow};
use std::time::{SystemTime, UNIX_EPOCH};

/// `64m`: bytes, as the chapter on control groups reads them.
pub(crate) fn parse(text: &str) -> Result<i64> {
    let bytes = cgroups::size::parse(text).map_err(|why| anyhow!(why))?;
    i64::try_from(bytes).map_err(|_| anyhow!("invalid size: '{text}' is more than there can be"))
}

/// `13.3MB`: powers of 1000, `digits` significant ones.
#[expect(clippy::cast_precision_loss, reason = "at most four digits are shown")]
pub(crate) fn human(bytes: i64, digits: usize) -> String {
    let (base, units) = (1000.0, ["B", "kB", "MB", "GB", "TB", "PB"]);
    let mut value = bytes as f64;
    let mut unit = 0;
    while value.abs() >= base && unit + 1 < units.len() {
        value /= base;
        unit += 1;
    }
    format!("{}{}", significant(value, digits), units[unit])
}

/// `12.7MiB`: powers of 1024, four significant digits.
pub(crate) fn human_binary(bytes: i64) -> String {
    cgroups::size::human(bytes.max(0).unsigned_abs())
}

/// `%.3g` of C, without the exponent.
fn significant(value: f64, digits: usize) -> String {
    let whole = format!("{:.0}", value.abs()).len();
    let decimals = if value.abs() < 1.0 { digits } else { digits.saturating_sub(whole) };
    let text = format!("{value:.decimals$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// `5 minutes`: how docker says a duration.
pub(crate) fn duration(seconds: i64) -> String {
    let (minutes, hours) = (seconds / 60, (seconds + 1800) / 3600);
    match seconds {
        ..1 => "Less than a second".into(),
        1 => "1 second".into(),
        2..60 => format!("{seconds} seconds"),
        60..120 => "About a minute".into(),
        120..3600 => format!("{minutes} minutes"),
        _ if hours == 1 => "About an hour".into(),
        _ if hours < 48 => format!("{hours} hours"),
        _ if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        _ if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        _ if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", hours / 24 / 365),
    }
}

/// `5 minutes ago`, of a moment in seconds since 1970.
pub(crate) fn ago(moment: i64) -> String {
    format!("{} ago", duration(now() - moment))
}

/// Now, in seconds since 1970.
pub(crate) fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_secs()).unwrap_or(0))
}

/// `2026-11-24 06:14:07 +0000 UTC`: a moment as docker's `{{.CreatedAt}}` shows it.
pub(crate) fn created_at(moment: i64) -> String {
    match jiff::Timestamp::from_second(moment) {
        Ok(time) => time.strftime("%Y-%m-%d %H:%M:%S +0000 UTC").to_string(),
        Err(_) => String::new(),
    }
}

/// A duration as a flag gives it (`1m30s`, `500ms`), in nanoseconds.
pub(crate) fn nanoseconds(text: &str) -> Result<i64> {
    let invalid = || anyhow!("invalid duration \"{text}\": write for example 1m30s or 500ms");
    let mut rest = text.trim();
    let mut total = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(invalid)?;
        let number: f64 = rest[..digits].parse().map_err(|_| invalid())?;
        let end =
            rest[digits..].find(|c: char| c.is_ascii_digit() || c == '.').map_or(rest.len(), |n| digits + n);
        let unit = match &rest[digits..end] {
            "ns" => 1.0,
            "us" | "µs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            _ => return Err(invalid()),
        };
        total += number * unit;
        rest = &rest[end..];
    }
    if text.trim().is_empty() || total >= 9.2e18 {
        return Err(invalid());
    }
    #[expect(clippy::cast_possible_truncation, reason = "checked above")]
    Ok(total as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_written_as_docker_writes_them() {
        for (bytes, text) in
            [(0, "0B"), (999, "999B"), (13_256, "13.3kB"), (1_240_000, "1.24MB"), (77_900_000, "77.9MB")]
        {
            assert_eq!(human(bytes, 3), text);
        }
    }

    #[test]
    fn durations_are_said_as_docker_says_them() {
        let said: Vec<_> =
            [0, 1, 59, 60, 119, 120, 3599, 3600, 5399, 5400, 172_800, 1_300_000, 6_000_000, 70_000_000]
                .map(duration)
                .into();
        assert_eq!(
            said,
            [
                "Less than a second",
                "1 second",
                "59 seconds",
                "About a minute",
                "About a minute",
                "2 minutes",
                "59 minutes",
                "About an hour",
                "About an hour",
                "2 hours",
                "2 days",
                "2 weeks",
                "2 months",
                "2 years"
            ]
        );
    }

    #[test]
    fn durations_of_flags() {
        assert_eq!(nanoseconds("1m30s").unwrap(), 90_000_000_000);
        assert_eq!(nanoseconds("1.5s").unwrap(), 1_500_000_000);
        for wrong in ["", "10", "5x", "s"] {
            assert!(nanoseconds(wrong).is_err(), "{wrong}");
        }
    }
}
