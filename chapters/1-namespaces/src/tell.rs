//! What a start has to tell: each step as it is done, and warnings.
//!
//! Every chapter says each thing that it asks of the kernel as an event of the target `step`
//! (`tracing::info!(target: "step", section = "7.1", call = "pivot_root(2)", "...")`), and what it could not do as it
//! was asked as a warning. Nobody listens as a rule, and then an event costs one atomic load. A [`Listener`] is the other
//! end: one for all programs of this book, and each gives it what is to be done with what it hears.

use serde::{Deserialize, Serialize};
use std::{
    fmt::Debug,
    io::{IsTerminal, Write},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    level_filters::LevelFilter,
    span,
};

/// The target that steps carry.
const STEP: &str = "step";

/// One step.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Step {
    /// When it was done, in microseconds since the listener was made.
    pub at_us: u64,
    /// How long it took: the time since the step before it. (A step inside a container's own process was measured there.)
    pub took_us: u64,
    /// The system call, as its man page is called: `pivot_root(2)`.
    pub call: String,
    /// The section of the book that explains it.
    pub section: String,
    /// What it was for, with the argument that matters.
    pub what: String,
}

/// What a listener hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// A step that is done.
    Step(Step),
    /// What is not as it was asked for.
    Warning(String),
}

/// Hears steps, or warnings, or both, and gives each to a function. A subscriber of [`tracing`].
///
/// A child made by clone(2) has a copy of it, with its own clock hand: its first step is timed from the last one that
/// its parent had done.
pub struct Listener<F> {
    steps: bool,
    warnings: bool,
    hear: F,
    began: Instant,
    /// When the step before was done, in microseconds since `began`.
    last: AtomicU64,
}

impl<F: Fn(Told) + Send + Sync + 'static> Listener<F> {
    /// Its clock starts now.
    pub fn new(steps: bool, warnings: bool, hear: F) -> Listener<F> {
        Listener { steps, warnings, hear, began: Instant::now(), last: AtomicU64::new(0) }
    }

    /// Makes it the listener of the whole process. For one thread only, give it to `tracing::subscriber::with_default`.
    pub fn install(self) {
        // Refused only if there is one already: then that one goes on.
        let _ = tracing::subscriber::set_global_default(self);
    }
}

impl<F: Fn(Told) + Send + Sync + 'static> Subscriber for Listener<F> {
    fn enabled(&self, about: &Metadata<'_>) -> bool {
        // Not only events: who measures for a step asks first whether there is anybody to hear of it (`tracing::enabled`).
        let wanted = if about.target() == STEP { self.steps } else { self.warnings };
        wanted && !about.is_span() && (about.target() == STEP || *about.level() <= Level::WARN)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        // What nobody will hear is then not even asked about.
        Some(if self.steps { LevelFilter::INFO } else { LevelFilter::WARN })
    }

    fn event(&self, event: &Event<'_>) {
        let mut words = Words::default();
        event.record(&mut words);
        let Words { mut step, us } = words;
        if event.metadata().target() != STEP {
            return (self.hear)(Told::Warning(step.what));
        }
        step.at_us = u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX);
        let before = self.last.swap(step.at_us, Ordering::Relaxed);
        step.took_us = us.unwrap_or(step.at_us.saturating_sub(before));
        (self.hear)(Told::Step(step));
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

/// The fields of an event, and the time that was measured elsewhere.
#[derive(Default)]
struct Words {
    step: Step,
    us: Option<u64>,
}

impl Visit for Words {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "call" => self.step.call = value.to_owned(),
            "section" => self.step.section = value.to_owned(),
            _ => self.record_debug(field, &format_args!("{value}")),
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == "us" {
            self.us = Some(value);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            self.step.what = format!("{value:?}");
        }
    }
}

/// Shows steps as an aligned table, a line at a time.
#[derive(Debug, Default)]
pub struct Table {
    shown: usize,
}

impl Table {
    /// The line of one step; before the first, the head.
    pub fn line(&mut self, step: &Step) -> String {
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

/// From now on warnings, and with `steps` each step as a row of a [`Table`], go to standard error.
pub fn people(program: &'static str, steps: bool) {
    let table = Mutex::new(Table::default());
    let hear = move |told| {
        let text = match (told, table.lock()) {
            (Told::Warning(why), _) => format!("{program}: warning: {why}\n"),
            (Told::Step(step), Ok(mut table)) => table.line(&step),
            (Told::Step(_), Err(_)) => return,
        };
        // The container's terminal is raw by now: there a line needs a return as well. A reader that is gone is no failure.
        let text = if std::io::stderr().is_terminal() { text.replace('\n', "\r\n") } else { text };
        let _ = write!(std::io::stderr(), "{text}");
    };
    Listener::new(steps, true, hear).install();
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn told(steps: bool, warnings: bool, act: impl FnOnce()) -> Vec<Told> {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let into = heard.clone();
        let hear = move |told| into.lock().unwrap().push(told);
        tracing::subscriber::with_default(Listener::new(steps, warnings, hear), act);
        let heard = heard.lock().unwrap();
        heard.clone()
    }

    #[test]
    fn a_step_has_its_call_section_and_words() {
        let name = "web";
        let told = told(true, false, || {
            assert!(tracing::enabled!(target: "step", Level::INFO));
            tracing::info!(target: "step", section = "7.1", call = "sethostname(2)", "the name {name}");
            tracing::info!(target: "step", section = "7.1", call = "pivot_root(2)", "a \"new\" root");
            tracing::info!(target: "step", section = "7.1", call = "mount(2)", us = 7u64, "inside");
        });
        let steps: Vec<_> = told
            .iter()
            .map(|t| match t {
                Told::Step(s) => s,
                Told::Warning(why) => panic!("{why}"),
            })
            .collect();
        let seen: Vec<_> =
            steps.iter().map(|s| (s.section.as_str(), s.call.as_str(), s.what.as_str())).collect();
        assert_eq!(
            seen,
            [
                ("7.1", "sethostname(2)", "the name web"),
                ("7.1", "pivot_root(2)", "a \"new\" root"),
                ("7.1", "mount(2)", "inside")
            ]
        );
        assert_eq!(steps[1].at_us - steps[0].at_us, steps[1].took_us);
        assert_eq!(steps[2].took_us, 7);
    }

    #[test]
    fn only_what_was_asked_for_is_heard() {
        let all = || {
            tracing::info!("hello");
            tracing::warn!("{} is left out", "CAP_FLY");
            tracing::info!(target: "step", call = "mount(2)", "/proc");
        };
        assert_eq!(told(false, true, all), [Told::Warning("CAP_FLY is left out".into())]);
        assert_eq!(told(true, true, all).len(), 2);
        assert_eq!(told(false, false, all), []);
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
        let head = format!("  #      µs  system call            what it does{} book\n", " ".repeat(52));
        let rows = format!(
            "  1     612  clone3(2)              a child in six new namespaces{} 7.1\n  \
             2       7  pivot_root(2)          the bundle's root becomes /{} 7.1\n",
            " ".repeat(35),
            " ".repeat(37)
        );
        assert_eq!(shown, head + &rows);
    }
}
