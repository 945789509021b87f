//! `--explain`: the steps of a start, as they happen.
//!
//! The chapters say each thing that they ask of the kernel as an event of the target `step`
//! (`tracing::info!(target: "step", section = "7.1", call = "pivot_root(2)", "...")`). Nobody listens
//! as a rule, and then an event costs one atomic load. With `--explain` a [`Recorder`] listens, and
//! writes each as a line of JSON; [`Table`] shows these lines.
//!
//! How they travel: `X-Teu-Explain: 1` on `POST /containers/create` asks for them, `GET
//! /containers/{id}/explain`, opened before the start, streams them. Build and pull, asked with the
//! same header, put them among their other lines as `{"aux": {"step": {...}}}`.

use nix::unistd::write;
use serde::{Deserialize, Serialize};
use std::{
    fmt::Write as _,
    os::fd::OwnedFd,
    sync::atomic::{AtomicU64, Ordering},
    time::Instant,
};
use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

/// The target that the chapters' steps carry.
const TARGET: &str = "step";

/// One step: one line of JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Step {
    /// When it was done, in microseconds since the recorder was made.
    pub(crate) at_us: u64,
    /// How long it took: the time since the step before it.
    pub(crate) took_us: u64,
    /// The system call, as its man page is called: `pivot_root(2)`.
    pub(crate) call: String,
    /// The section of the book that explains it.
    pub(crate) section: String,
    /// What it was for, with the argument that matters.
    pub(crate) what: String,
}

/// Writes every step that the process does to a file descriptor.
///
/// A child made by clone(2) has a copy of it, with its own clock hand: its first step is timed from the
/// last one that its parent had done. Each line is one write(2), shorter than `PIPE_BUF`, so that lines
/// of parent and child never mix (pipe(7)).
pub(crate) struct Recorder {
    out: OwnedFd,
    began: Instant,
    /// When the step before was done, in microseconds since `began`.
    last: AtomicU64,
}

impl Recorder {
    /// A recorder that writes to `out`. The clock starts now.
    pub(crate) fn new(out: OwnedFd) -> Recorder {
        Recorder { out, began: Instant::now(), last: AtomicU64::new(0) }
    }

    /// Makes it the listener of the whole process. For one thread only (a pull, a build), give
    /// [`Recorder::new`] to `tracing::subscriber::with_default`.
    pub(crate) fn install(out: OwnedFd) {
        // Refused only if there is one already: then that one goes on.
        let _ = tracing::subscriber::set_global_default(Recorder::new(out));
    }
}

impl Subscriber for Recorder {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == TARGET
    }

    fn event(&self, event: &Event<'_>) {
        let at_us = u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX);
        let before = self.last.swap(at_us, Ordering::Relaxed);
        let mut step = Step { at_us, took_us: at_us.saturating_sub(before), ..Step::default() };
        event.record(&mut step);
        let Ok(mut line) = serde_json::to_vec(&step) else { return };
        line.push(b'\n');
        // Nobody reads any more: the start itself must not fail for that.
        let _ = write(&self.out, &line);
    }

    // Steps are events; there are no spans among them.
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

impl Visit for Step {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "call" => self.call = value.to_owned(),
            "section" => self.section = value.to_owned(),
            "message" => self.what = value.to_owned(),
            _ => {}
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        // A step of a container's own process was measured there: here only its news arrive.
        if field.name() == "us" {
            self.took_us = value;
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            self.what.clear();
            let _ = write!(self.what, "{value:?}");
        }
    }
}

/// Shows steps as an aligned table, a line at a time.
#[derive(Debug, Default)]
pub(crate) struct Table {
    shown: usize,
}

impl Table {
    /// The line of one step; before the first, the head.
    pub(crate) fn line(&mut self, step: &Step) -> String {
        let head = match self.shown {
            0 => format!("{:>3} {:>7}  {:<22} {:<64} book\n", "#", "µs", "system call", "what it does"),
            _ => String::new(),
        };
        self.shown += 1;
        let Step { took_us, call, section, what, .. } = step;
        let what = shorten_ids(what);
        format!("{head}{:>3} {took_us:>7}  {call:<22} {what:<64} {section}\n", self.shown)
    }
}

/// Cuts IDs of 64 digits to 12, as all lists show them.
fn shorten_ids(text: &str) -> String {
    let mut short = String::with_capacity(text.len());
    for piece in text.split_inclusive(|c: char| !c.is_ascii_hexdigit()) {
        let id = piece.trim_end_matches(|c: char| !c.is_ascii_hexdigit());
        short.push_str(if id.len() == 64 { &id[..12] } else { id });
        short.push_str(&piece[id.len()..]);
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn recorded(act: impl FnOnce()) -> Vec<Step> {
        let (mut read, write) = std::io::pipe().unwrap();
        tracing::subscriber::with_default(Recorder::new(write.into()), act);
        let mut text = String::new();
        read.read_to_string(&mut text).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn a_step_is_a_line_with_its_call_section_and_words() {
        let name = "web";
        let steps = recorded(|| {
            tracing::info!(target: "step", section = "7.1", call = "sethostname(2)", "the name {name}");
            tracing::info!(target: "step", section = "7.1", call = "pivot_root(2)", "a \"new\" root");
        });
        let seen: Vec<_> =
            steps.iter().map(|s| (s.section.as_str(), s.call.as_str(), s.what.as_str())).collect();
        assert_eq!(
            seen,
            [("7.1", "sethostname(2)", "the name web"), ("7.1", "pivot_root(2)", "a \"new\" root")]
        );
        assert_eq!(steps[1].at_us - steps[0].at_us, steps[1].took_us);
    }

    #[test]
    fn other_events_are_not_steps() {
        assert_eq!(recorded(|| tracing::info!("hello")), []);
    }

    #[test]
    fn only_whole_ids_are_cut() {
        let id = "0123456789abcdef".repeat(4);
        assert_eq!(
            shorten_ids(&format!("/run/{id}/rootfs is {id}")),
            "/run/0123456789ab/rootfs is 0123456789ab"
        );
        assert_eq!(shorten_ids("/dev/null, 0xfe é"), "/dev/null, 0xfe é");
    }

    #[test]
    fn the_table_is_aligned() {
        let mut table = Table::default();
        let step = |took_us, call: &str, what: &str| Step {
            took_us,
            call: call.into(),
            what: what.into(),
            section: "7.1".into(),
            at_us: 0,
        };
        let shown = [
            table.line(&step(612, "clone3(2)", "a child in six new namespaces")),
            table.line(&step(7, "pivot_root(2)", "the bundle's root becomes /")),
        ]
        .concat();
        insta::assert_snapshot!(shown, @r"
          #      µs  system call            what it does                                                     book
          1     612  clone3(2)              a child in six new namespaces                                    7.1
          2       7  pivot_root(2)          the bundle's root becomes /                                      7.1
        ");
    }
}
