//! A grade as a page that needs nothing else: no script, no font, no picture from anywhere.

use super::{escape, sum, word};
use crate::{
    grade::{Grade, Row},
    verdict::Verdict,
};

const STYLE: &str = "
:root { color-scheme: light dark; --line: #8884; --good: #1a7f37; --bad: #cf222e; --open: #9a6700; }
@media (prefers-color-scheme: dark) { :root { --good: #3fb950; --bad: #ff7b72; --open: #d29922; } }
* { box-sizing: border-box; }
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 52rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.4rem; margin: 0 0 .2rem; } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
progress { width: 100%; height: 1rem; accent-color: var(--good); }
details { border: 1px solid var(--line); border-radius: .4rem; margin: .4rem 0; padding: .5rem .8rem; }
summary { cursor: pointer; display: flex; gap: .6rem; flex-wrap: wrap; align-items: baseline; }
summary b { flex: 1 1 12rem; font-weight: 600; } summary .points { font-variant-numeric: tabular-nums; }
.passed .mark { color: var(--good); } .failed .mark { color: var(--bad); } .open .mark { color: var(--open); }
dl { display: grid; grid-template-columns: minmax(5rem, max-content) minmax(0, 1fr); gap: .3rem 1rem; margin: .7rem 0 0; }
dt { opacity: .75; } dd { margin: 0; white-space: pre-wrap; overflow-wrap: anywhere; }
code { font-family: ui-monospace, monospace; font-size: .92em; overflow-wrap: anywhere; }
@media (max-width: 30rem) { dl { grid-template-columns: 1fr; gap: 0; } dd { margin-bottom: .6rem; } }
@media print { details { break-inside: avoid; } }
";

/// The page.
pub fn html(grade: &Grade) -> String {
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{name}: {sum}</title>\n\
         <style>{STYLE}</style>\n</head>\n<body>\n<h1>{name}</h1>\n<p>{sum}</p>\n\
         <progress max=\"{of}\" value=\"{points}\">{sum}</progress>\n",
        name = escape(&grade.name),
        sum = escape(&sum(grade)),
        of = grade.of_points(),
        points = grade.points(),
    );
    let mut chapter = "";
    for row in &grade.rows {
        let own = row.exercise.id.split('/').next().unwrap_or_default();
        if own != chapter {
            chapter = own;
            page += &format!("<h2>{}</h2>\n", escape(chapter));
        }
        page += &exercise(row);
    }
    page + "</body>\n</html>\n"
}

fn exercise(row: &Row) -> String {
    let (class, mark, open) = match row.verdict {
        Verdict::Passed => ("passed", "✓", ""),
        Verdict::Failed(_) => ("failed", "✗", " open"),
        Verdict::NotChecked(_) => ("open", "?", " open"),
    };
    let mut facts = String::new();
    let mut fact = |name: &str, text: &str| {
        facts += &format!("<dt>{name}</dt><dd>{}</dd>\n", escape(text));
    };
    match &row.verdict {
        Verdict::Passed => {}
        Verdict::NotChecked(why) => fact("not checked", why),
        Verdict::Failed(found) => {
            fact("expected", &found.expected);
            fact("seen", &found.seen);
            fact("perhaps", &found.hint);
        }
    }
    fact("book", row.exercise.section);
    fact("seed", &row.seed.to_string());
    format!(
        "<details class=\"{class}\"{open}>\n<summary><span class=\"mark\" title=\"{}\">{mark}</span> <b>{}</b> \
         <code>{}</code> <span class=\"points\">{} of {}</span></summary>\n<dl>\n{facts}</dl>\n</details>\n",
        word(&row.verdict),
        escape(row.exercise.title),
        escape(row.exercise.id),
        row.points(),
        row.exercise.points,
    )
}
