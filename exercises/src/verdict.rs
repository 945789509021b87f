//! What a check found, and how it is told.

use serde_json::{Value, json};
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
        let text = |text: String| printable(&text);
        Verdict::Failed(Finding {
            expected: text(expected.into()),
            seen: text(seen.into()),
            hint: text(hint.into()),
        })
    }
}

/// Text that may be a stranger's, for a terminal: what would move the cursor, change a title or turn the reading direction is
/// shown as its number instead of done.
pub fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\t' => out.push(c),
            // The marks and brackets of direction: what they hide is not what is read (CVE-2021-42574).
            '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                out.extend(c.escape_unicode());
            }
            c if c.is_control() => out.extend(c.escape_unicode()),
            c => out.push(c),
        }
    }
    out
}

impl Verdict {
    /// For another process.
    pub fn to_json(&self) -> Value {
        match self {
            Verdict::Passed => json!({ "passed": true }),
            Verdict::NotChecked(why) => json!({ "because": why }),
            Verdict::Failed(found) => json!({
                "passed": false, "expected": found.expected, "seen": found.seen, "perhaps": found.hint
            }),
        }
    }

    /// What another process found; none if it is no verdict. What lacks the word that it is passed is not.
    pub fn from_json(value: &Value) -> Option<Verdict> {
        let text = |name: &str| value[name].as_str().map(str::to_owned);
        match value["passed"].as_bool() {
            Some(true) => Some(Verdict::Passed),
            Some(false) => Some(Verdict::failed(text("expected")?, text("seen")?, text("perhaps")?)),
            None => Some(Verdict::NotChecked(text("because")?)),
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_stranger_wrote_moves_no_cursor() {
        let said = "it said: \u{1b}]0;passed\u{7}\u{1b}[2J\u{9b}1A\r\u{202e}dessap\u{0}\u{7f} ü\n\tnext";
        let shown = Verdict::failed("a", said, "b").to_string();
        assert!(shown.chars().all(|c| matches!(c, '\n' | '\t') || !c.is_control()), "{shown:?}");
        assert!(
            shown.contains("\\u{1b}]0;passed\\u{7}")
                && shown.contains("\\u{202e}dessap")
                && shown.contains(" ü")
        );
    }

    #[test]
    fn a_verdict_is_the_same_in_another_process_and_half_a_one_is_none() {
        for verdict in [Verdict::Passed, Verdict::failed("a", "b", "c"), Verdict::NotChecked("d".into())] {
            let again = Verdict::from_json(&verdict.to_json()).expect("a verdict");
            assert_eq!((again.passed(), again.to_string()), (verdict.passed(), verdict.to_string()));
        }
        for half in [json!({}), json!({ "passed": "true" }), json!({ "passed": false, "expected": "a" })] {
            assert!(Verdict::from_json(&half).is_none(), "{half}");
        }
    }
}
