//! What a run has to tell besides its program's output: warnings, and with `--explain` each step as
//! it is done. The library emits them by `tracing`; here somebody listens.

use std::{
    fmt::{self, Write as _},
    io::Write as _,
    sync::Mutex,
    time::Instant,
};
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

/// Writes to standard error, a line each.
pub(crate) struct Teller {
    steps: bool,
    last: Mutex<Instant>,
}

/// Listens from now on.
pub(crate) fn listen(steps: bool) {
    let teller = Teller { steps, last: Mutex::new(Instant::now()) };
    let _ = tracing::subscriber::set_global_default(teller);
}

impl Subscriber for Teller {
    fn enabled(&self, about: &Metadata<'_>) -> bool {
        *about.level() <= Level::WARN || self.steps && about.target() == "step"
    }

    fn event(&self, event: &Event<'_>) {
        let mut said = Said::default();
        event.record(&mut said);
        let mut line = String::new();
        if event.metadata().target() == "step" {
            let now = Instant::now();
            let since = match self.last.lock() {
                Ok(mut last) => now.duration_since(std::mem::replace(&mut last, now)).as_micros(),
                Err(_) => 0,
            };
            let took = said.us.map_or(since, u128::from); // the child measures its own steps
            let _ = write!(line, "{took:>7} us  {:<18} {}", said.call, said.message);
        } else {
            let _ = write!(line, "namespaces: warning: {}", said.message);
        }
        // With a terminal the container's line is raw by now: a return as well as a new line.
        let _ = write!(std::io::stderr(), "{line}\r\n");
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

/// The fields of an event that we print.
#[derive(Default)]
struct Said {
    message: String,
    call: String,
    us: Option<u64>,
}

impl Visit for Said {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "call" {
            self.call = value.to_owned();
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == "us" {
            self.us = Some(value);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.message = format!("{value:?}");
        }
    }
}
