//! What happened, told to whoever listens (`docker events`), and the last of it to whoever comes late.

use serde_json::{Value, json};
use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};
use tokio::sync::broadcast;

/// How many are kept for `--since`.
const KEPT: usize = 1024;

/// The engine's events.
pub(crate) struct Events {
    live: broadcast::Sender<Value>,
    past: Mutex<VecDeque<Value>>,
}

impl Events {
    pub(crate) fn new() -> Events {
        Events { live: broadcast::Sender::new(KEPT), past: Mutex::default() }
    }

    /// Tells of one. `kind` is `container`, `image`, `volume` or `network`.
    pub(crate) fn emit(&self, kind: &str, action: &str, id: &str, attributes: Value) {
        let now = jiff::Timestamp::now();
        let mut event = json!({
            "Type": kind,
            "Action": action,
            "Actor": {"ID": id, "Attributes": attributes},
            "scope": "local",
            "time": now.as_second(),
            "timeNano": u64::try_from(now.as_nanosecond()).unwrap_or_default(),
        });
        // The names of before API 1.22, which docker still sends for these two.
        if kind == "container" || kind == "image" {
            event["status"] = action.into();
            event["id"] = id.into();
            if let Some(image) = event["Actor"]["Attributes"].get("image").cloned() {
                event["from"] = image;
            }
        }
        let mut past = self.past.lock().unwrap_or_else(PoisonError::into_inner);
        if past.len() == KEPT {
            past.pop_front();
        }
        past.push_back(event.clone());
        // Sent under the lock, so that `listen` sees each event exactly once. Nobody listening is no error.
        let _ = self.live.send(event);
    }

    /// What is kept, and what is to come.
    pub(crate) fn listen(&self) -> (Vec<Value>, broadcast::Receiver<Value>) {
        let past = self.past.lock().unwrap_or_else(PoisonError::into_inner);
        (past.iter().cloned().collect(), self.live.subscribe())
    }
}
