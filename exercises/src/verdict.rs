//! What a check found, and how it is told.

use std::fmt;

/// The outcome of one exercise.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// Everything that must hold was seen to hold.
    Passed,
    /// Something did not. Only the first is told: the others often follow from it.
    Failed(Finding),
    /// This machine cannot show it. Never counted as passed.
    NotChecked(String),
}

/// One thing that does not hold.
#[derive(Clone, Debug)]
pub struct Finding {
    /// What must hold, as the task says it.
    pub expected: String,
    /// What was seen instead, by whom.
    pub seen: String,
    /// The likely mistake, as a question.
    pub hint: String,
}

impl Verdict {
    /// Whether it earns the points.
    pub fn passed(&self) -> bool {
        matches!(self, Verdict::Passed)
    }

    /// A failure.
    pub fn failed(expected: impl Into<String>, seen: impl Into<String>, hint: impl Into<String>) -> Verdict {
        Verdict::Failed(Finding { expected: expected.into(), seen: seen.into(), hint: hint.into() })
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Passed => write!(f, "passed"),
            Verdict::NotChecked(why) => write!(f, "not checked here: {why}"),
            Verdict::Failed(found) => {
                writeln!(f, "not yet")?;
                writeln!(f, "  expected   {}", indent(&found.expected))?;
                writeln!(f, "  seen       {}", indent(&found.seen))?;
                write!(f, "  perhaps    {}", indent(&found.hint))
            }
        }
    }
}

fn indent(text: &str) -> String {
    text.trim_end().replace('\n', "\n             ")
}
