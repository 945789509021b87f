//! A grade in the forms that people and programs read.

mod html;

use crate::{
    grade::{Grade, Row},
    verdict::Verdict,
};
pub use html::html;
use serde_json::{Value, json};

/// A line for the terminal; what was found, below it.
pub fn line(row: &Row) -> String {
    format!("{:<26} {:>3} of {:>3}   {}", row.exercise.id, row.points(), row.exercise.points, row.verdict)
}

/// The last line for the terminal.
pub fn sum(grade: &Grade) -> String {
    let sum = format!("{} of {} points", grade.points(), grade.of_points());
    match grade.not_checked() {
        0 => sum,
        n => format!("{sum}; {n} exercises could not be checked on this machine and count as not passed"),
    }
}

/// One word for a verdict.
pub fn word(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Passed => "passed",
        Verdict::Failed(_) => "failed",
        Verdict::NotChecked(_) => "not checked",
    }
}

/// A grade as JSON.
pub fn json(grade: &Grade) -> String {
    format!("{:#}", value(grade))
}

/// The same, to be built on.
pub fn value(grade: &Grade) -> Value {
    let rows: Vec<Value> = grade.rows.iter().map(row).collect();
    json!({ "name": grade.name, "points": grade.points(), "of": grade.of_points(), "exercises": rows })
}

/// One exercise as JSON. The seed is a string: it has more digits than a JSON number keeps everywhere.
pub fn row(row: &Row) -> Value {
    let mut value = json!({
        "exercise": row.exercise.id,
        "title": row.exercise.title,
        "book": row.exercise.section,
        "points": row.points(),
        "of": row.exercise.points,
        "verdict": word(&row.verdict),
        "seed": row.seed.to_string(),
        "seconds": (row.took.as_secs_f64() * 10.0).round() / 10.0,
    });
    match &row.verdict {
        Verdict::Passed => {}
        Verdict::NotChecked(why) => value["because"] = json!(why),
        Verdict::Failed(found) => {
            value["expected"] = json!(found.expected);
            value["seen"] = json!(found.seen);
            value["perhaps"] = json!(found.hint);
        }
    }
    value
}

/// JUnit's XML, as most continuous integration reads it.
pub fn junit(grade: &Grade) -> String {
    let failed = grade.rows.iter().filter(|r| matches!(r.verdict, Verdict::Failed(_))).count();
    let time: f64 = grade.rows.iter().map(|r| r.took.as_secs_f64()).sum();
    let mut xml = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n<testsuite name=\"{}\" tests=\"{}\" failures=\"{failed}\" \
         errors=\"0\" skipped=\"{}\" time=\"{time:.1}\">\n",
        escape(&grade.name),
        grade.rows.len(),
        grade.not_checked(),
    );
    for row in &grade.rows {
        let (chapter, name) = row.exercise.id.split_once('/').unwrap_or(("", row.exercise.id));
        let head = format!(
            "<testcase classname=\"{chapter}\" name=\"{name}\" time=\"{:.1}\"",
            row.took.as_secs_f64()
        );
        xml += &match &row.verdict {
            Verdict::Passed => format!("{head}/>\n"),
            Verdict::NotChecked(why) => {
                format!("{head}><skipped message=\"{}\"/></testcase>\n", escape(why))
            }
            Verdict::Failed(found) => format!(
                "{head}><failure message=\"{}\">{}</failure></testcase>\n",
                escape(&found.expected),
                escape(&format!("{}\n  again      --seed {}", row.verdict, row.seed)),
            ),
        };
    }
    xml + "</testsuite>\n</testsuites>\n"
}

/// Gradescope's results.json (its documentation, "Autograder Specifications", "Output Format").
pub fn gradescope(grade: &Grade) -> String {
    let tests: Vec<Value> = grade
        .rows
        .iter()
        .map(|row| {
            json!({
                "name": row.exercise.id,
                "score": row.points(),
                "max_score": row.exercise.points,
                "status": if row.verdict.passed() { "passed" } else { "failed" },
                "output": format!("{}\n{}\nbook {}; --seed {}", row.exercise.title, row.verdict, row.exercise.section, row.seed),
                "output_format": "text",
                "visibility": "visible",
            })
        })
        .collect();
    let time: f64 = grade.rows.iter().map(|r| r.took.as_secs_f64()).sum();
    let all = json!({
        "score": grade.points(),
        "execution_time": time.round() as u64,
        "output": sum(grade),
        "output_format": "text",
        "visibility": "visible",
        "tests": tests,
    });
    format!("{all:#}")
}

/// Text between tags or quotes, of XML and HTML alike. What XML cannot say at all is left out.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            '\'' => out += "&#39;",
            '\n' | '\t' => out.push(c),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => {}
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::course;
    use std::time::Duration;

    fn grade() -> Grade {
        let row = |n: usize, verdict| Row {
            exercise: course::ALL[n],
            verdict,
            seed: u64::MAX,
            took: Duration::from_millis(1234),
            building: Duration::from_millis(1000),
        };
        let bad = Verdict::failed(
            "a <root>",
            "the \"host's\" & \u{1b}[31mnot\u{0} it",
            "<script>alert(1)</script>",
        );
        Grade {
            name: "Ann & Bob".into(),
            rows: vec![
                row(0, Verdict::Passed),
                row(1, bad),
                row(2, Verdict::NotChecked("no cgroups".into())),
            ],
        }
    }

    #[test]
    fn only_what_passed_has_points() {
        let (grade, points) = (grade(), course::ALL[0].points);
        assert_eq!((grade.points(), grade.not_checked()), (points, 1));
        let value: Value = serde_json::from_str(&json(&grade)).expect("JSON");
        assert_eq!(value["points"], points);
        assert_eq!(value["exercises"][1]["seed"], "18446744073709551615");
        assert_eq!(value["exercises"][2]["because"], "no cgroups");
        let value: Value = serde_json::from_str(&gradescope(&grade)).expect("JSON");
        assert_eq!((&value["score"], &value["tests"][1]["score"]), (&json!(points), &json!(0)));
        assert_eq!(value["tests"][2]["status"], "failed");
    }

    #[test]
    fn what_a_program_said_is_text_and_nothing_else() {
        for text in [junit(&grade()), html(&grade())] {
            assert!(!text.contains("<script>alert"), "{text}");
            assert!(text.contains("Ann &amp; Bob") && !text.contains('\u{1b}') && !text.contains('\0'));
        }
        assert!(junit(&grade()).contains("<skipped message=\"no cgroups\"/>"));
    }
}
