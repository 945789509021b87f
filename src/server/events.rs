//! `docker events`.

use super::{
    answer::{self, Answer},
    call::{Call, Filters},
    router::routes,
};
use crate::engine::failure::{Failure, Result};
use hyper::body::Bytes;
use serde_json::Value;
use std::collections::HashMap;
use tokio::sync::{broadcast::error::RecvError, mpsc};

routes! {
    GET "/events" => events;
}

async fn events(call: Call) -> Answer {
    let filters = call.filters()?;
    let (since, until) =
        (call.get("since").map(timestamp).transpose()?, call.get("until").map(timestamp).transpose()?);
    let (past, mut live) = call.engine.events.listen();
    let (sender, body) = mpsc::channel(64);
    tokio::spawn(async move {
        let line = |event: &Value| Bytes::from(format!("{event}\n"));
        let at = |event: &Value| event["timeNano"].as_i64().map_or(0, i128::from);
        if let Some(since) = since {
            for event in &past {
                let before = until.is_none_or(|u| at(event) <= u.as_nanosecond());
                if at(event) >= since.as_nanosecond()
                    && before
                    && fits(&filters, event)
                    && sender.send(line(event)).await.is_err()
                {
                    return;
                }
            }
        }
        let left = until.map(|until| until.duration_since(jiff::Timestamp::now()));
        if left.is_some_and(|l| l.is_negative()) {
            return;
        }
        let end = async {
            match left {
                Some(left) => tokio::time::sleep(left.unsigned_abs()).await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(end);
        loop {
            let event = tokio::select! {
                event = live.recv() => event,
                () = &mut end => return,
                () = sender.closed() => return,
            };
            match event {
                Ok(event) if fits(&filters, &event) => {
                    if sender.send(line(&event)).await.is_err() {
                        return;
                    }
                }
                // A reader that is too slow misses some: better than a daemon that waits for it.
                Ok(_) | Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            }
        }
    });
    answer::pieces("application/json", body)
}

fn fits(filters: &Filters, event: &Value) -> bool {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (kind, action, id) = (text(&event["Type"]), text(&event["Action"]), text(&event["Actor"]["ID"]));
    let attributes: HashMap<String, String> = event["Actor"]["Attributes"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(k, v)| (k.clone(), text(v)))
        .collect();
    let of = |wanted: &'static str| {
        let (kind, id, attributes) = (kind.clone(), id.clone(), attributes.clone());
        move |asked: &str| {
            let own = kind == wanted
                && (id.starts_with(asked) || attributes.get("name").is_some_and(|n| n == asked));
            own || attributes.get(wanted).is_some_and(|a| a == asked)
        }
    };
    // `exec_start: sh` is found by `exec_start`.
    let event_name = |asked: &str| action == asked || action.split(':').next() == Some(asked);
    filters.fits("type", |asked| kind == asked)
        && filters.fits("event", event_name)
        && filters.fits("container", of("container"))
        && filters.fits("image", of("image"))
        && filters.fits("volume", of("volume"))
        && filters.fits("network", of("network"))
        && filters.labels(&attributes)
}

/// The `until` of a prune.
pub(crate) fn until(filters: &Filters) -> Result<Option<jiff::Timestamp>> {
    filters.get("until").first().map(|text| timestamp(text)).transpose()
}

/// A time as clients send it: seconds with a fraction, a date, or a duration that is so long ago.
pub(crate) fn timestamp(text: &str) -> Result<jiff::Timestamp> {
    let bad = || Failure::bad(format!("invalid value for time: {text:?}"));
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    if let Ok(seconds) = seconds.parse::<i64>() {
        let nanos = format!("{fraction:0<9}");
        let nanos = nanos.get(..9).and_then(|n| n.parse::<i32>().ok()).ok_or_else(bad)?;
        return jiff::Timestamp::new(seconds, nanos).map_err(|_| bad());
    }
    if let Ok(at) = text.parse::<jiff::Timestamp>() {
        return Ok(at);
    }
    let mut total = 0.0;
    let mut number = String::new();
    for c in text.chars() {
        if c.is_ascii_digit() || c == '.' {
            number.push(c);
            continue;
        }
        let unit = match c {
            'h' => 3600.0,
            'm' => 60.0,
            's' => 1.0,
            _ => return Err(bad()),
        };
        total += number.parse::<f64>().map_err(|_| bad())? * unit;
        number.clear();
    }
    if !number.is_empty() || text.is_empty() {
        return Err(bad());
    }
    let ago = std::time::Duration::try_from_secs_f64(total).map_err(|_| bad())?;
    jiff::Timestamp::now().checked_sub(ago).map_err(|_| bad())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_as_clients_send_them() {
        assert_eq!(
            timestamp("1136073600.000000001").map(|t| t.as_nanosecond()).ok(),
            Some(1_136_073_600_000_000_001)
        );
        assert_eq!(timestamp("2006-01-02T15:04:05Z").map(|t| t.as_second()).ok(), Some(1_136_214_245));
        let ago = timestamp("1h30m").expect("a duration");
        assert!((jiff::Timestamp::now().as_second() - ago.as_second() - 5400).abs() <= 1);
        assert!(timestamp("soon").is_err() && timestamp("").is_err());
    }
}
