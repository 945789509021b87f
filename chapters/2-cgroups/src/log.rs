//! Where errors, warnings and steps go: to standard error for people, and to `--log` for the engine that called us.

use crate::cli::{Global, LogFormat};
use namespaces::tell::{self, Listener, Told};
use std::{fs::OpenOptions, io::Write, path::Path};

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

/// Warnings, and with `--debug` the steps too, go to the log, or to standard error where there is none; with `--explain`
/// the steps are a table there.
pub(crate) fn steps(global: &Global, explain: bool) {
    if explain {
        return tell::people("cgroups", true);
    }
    let (log, format) = (global.log.clone(), global.log_format);
    let hear = move |told| {
        let (level, message) = match told {
            Told::Warning(why) => ("warning", why),
            Told::Step(step) => ("debug", format!("{}: {} ({} us)", step.call, step.what, step.took_us)),
        };
        match &log {
            Some(file) => write(file, format, level, &message),
            None => eprintln!("{level}: {message}"),
        }
    };
    Listener::new(global.debug, true, hear).install();
}
