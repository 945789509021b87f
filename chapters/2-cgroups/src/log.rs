//! Where errors go: to standard error for people, and to `--log` for the engine that called us.

use crate::cli::{Global, LogFormat};
use std::{fs::OpenOptions, io::Write, path::Path, sync::Mutex, time::Instant};
use tracing::{Event, Level, Metadata, Subscriber, field, span};

/// Tells the error, and what lies behind it, once.
pub(crate) fn error(global: &Global, error: &anyhow::Error) {
    let message = chain(error);
    eprintln!("cgroups: {message}");
    if let Some(file) = &global.log {
        write(file, global.log_format, "error", &message);
    }
}

/// Each cause that the one before it has not told already.
fn chain(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if !text.contains(&cause) {
            if !text.is_empty() {
                text += ": ";
            }
            text += &cause;
        }
    }
    text
}

/// One line, as logrus writes it for runc: conmon and containerd's shim look for `level` and `msg`.
fn write(file: &Path, format: LogFormat, level: &str, message: &str) {
    let time = jiff::Timestamp::now().to_string();
    let line = match format {
        LogFormat::Json => serde_json::json!({"level": level, "msg": message, "time": time}).to_string(),
        LogFormat::Text => format!("time={time:?} level={level} msg={message:?}"),
    };
    // A log that cannot be written must not stop what it tells about.
    if let Ok(mut file) = OpenOptions::new().create(true).append(true).open(file) {
        let _ = writeln!(file, "{line}");
    }
}

/// Sends warnings, and with `--debug` the steps too, to the log, or to standard error where there is none.
pub(crate) fn steps(global: &Global) {
    let level = if global.debug { Level::INFO } else { Level::WARN };
    let last = Mutex::new(Instant::now());
    let lines = Lines { level, log: global.log.clone(), format: global.log_format, last };
    let _ = tracing::subscriber::set_global_default(lines);
}

/// A tracing subscriber of one page: events only, a line each.
struct Lines {
    level: Level,
    log: Option<std::path::PathBuf>,
    format: LogFormat,
    /// When the step before was done.
    last: Mutex<Instant>,
}

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        !metadata.is_span() && *metadata.level() <= self.level
    }

    fn max_level_hint(&self) -> Option<tracing::level_filters::LevelFilter> {
        Some(self.level.into())
    }

    fn event(&self, event: &Event<'_>) {
        let mut words = Words::default();
        event.record(&mut words);
        if let (false, Ok(mut last)) = (words.call.is_empty(), self.last.lock()) {
            let since = std::mem::replace(&mut *last, Instant::now()).elapsed().as_micros();
            words.took = words.took.or(u64::try_from(since).ok()); // a child measures its own
        }
        let level = if *event.metadata().level() == Level::WARN { "warning" } else { "debug" };
        match &self.log {
            Some(file) => write(file, self.format, level, &words.line()),
            None => eprintln!("{level}: {}", words.line()),
        }
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

#[derive(Default)]
struct Words {
    call: String,
    message: String,
    /// In microseconds.
    took: Option<u64>,
}

impl Words {
    fn line(&self) -> String {
        let Words { call, message, took } = self;
        if call.is_empty() {
            return message.clone();
        }
        format!("{call}: {message} ({} us)", took.unwrap_or_default())
    }
}

impl field::Visit for Words {
    fn record_debug(&mut self, field: &field::Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            self.message = format!("{value:?}");
        }
    }

    fn record_str(&mut self, field: &field::Field, value: &str) {
        if field.name() == "call" {
            self.call = value.into();
        }
    }

    fn record_u64(&mut self, field: &field::Field, value: u64) {
        if field.name() == "us" {
            self.took = Some(value);
        }
    }
}
