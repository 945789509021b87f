//! Weaving: what a page asks for in `{{#…}}` is put into it. What cannot be resolved is an error.
//!
//! | in the page | in the book |
//! |---|---|
//! | `{{#item PATH}}` | the item, cut from the source, with its file and line |
//! | ``{{#item PATH from `A` to `B`}}`` | its lines from the first with A to the next with B |
//! | `{{#see PATH}}` | the item's name, linked to its line |
//! | `{{#figure NAME CAPTION}}` | `img/NAME.svg`, in the page, so that it takes the theme's colours |
//! | `{{#term NAME}}`, `{{#term NAME\|SHOWN}}` | a word of the glossary, linked |
//! | `{{#plot NAME CAPTION}}` | the measurement `data/NAME.json` as bars, with its date and machine |
//! | `{{#number NAME.KEY}}` | one number of a measurement, with its unit |
//! | `{{#ratio NAME.KEY NAME.KEY}}` | how many times the second number the first is |
//! | `{{#percent NAME.KEY NAME.KEY}}` | how much of the second number the first is |
//! | `{{#exercises SECTION}}` | the lab's exercises of that section |
//! | `{{#index CRATE}}` | every public item of the crate, and the page about it |
//! | `{{#predict}} … {{/predict}}` | a question to answer before reading on |
//! | `{{#answer}} … {{/answer}}` | what is shown only on a click |
//! | `{{#production}} … {{/production}}` | what production does differently |

use crate::{
    cover::{self, Shown},
    data::{self, Data},
    listing, plot, transcript,
};
use anyhow::{Context, Result, anyhow, bail};
use lab::{course, source as item};
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// The boxes, and what stands over each.
const BOXES: [(&str, &str); 3] = [
    ("predict", "Predict first"),
    ("answer", "Show the answer"),
    ("production", "What production does differently"),
];

/// Weaves the pages of one language.
pub(crate) struct Weaver {
    /// The workspace.
    root: PathBuf,
    /// Where the language's pages are.
    text: PathBuf,
    terms: BTreeSet<String>,
    /// The items that the pages show or link.
    pub(crate) shown: Shown,
    /// The exercises that they name.
    pub(crate) exercises: BTreeSet<&'static str>,
    /// The page that is being woven: its number or title, and its file.
    now: (String, String),
    /// The figures that they show.
    pub(crate) figures: BTreeSet<String>,
    /// The measurements that they draw.
    pub(crate) plots: BTreeSet<String>,
}

impl Weaver {
    pub(crate) fn new(root: &Path, text: &Path) -> Result<Weaver> {
        let glossary = fs::read_to_string(text.join("glossary.md")).context("the glossary")?;
        Ok(Weaver {
            root: root.into(),
            text: text.into(),
            terms: terms(&glossary),
            shown: Shown::new(),
            exercises: BTreeSet::new(),
            now: Default::default(),
            figures: BTreeSet::new(),
            plots: BTreeSet::new(),
        })
    }

    /// One page, woven. The error names each line that could not be.
    pub(crate) fn page(&mut self, page: &str, name: &str, file: &str) -> Result<String> {
        self.now = (name.into(), file.into());
        let mut woven = String::with_capacity(page.len() * 2);
        let (mut open, mut wrong) = (Vec::new(), Vec::new());
        for (number, line) in transcript::shown(page)?.lines().enumerate() {
            match self.line(line, &mut open) {
                Ok(line) => woven.push_str(&line),
                Err(error) => wrong.push(format!("line {}: {error:#}", number + 1)),
            }
            woven.push('\n');
        }
        wrong.extend(open.iter().map(|name| format!("`{{{{#{name}}}}}` is never closed")));
        if wrong.is_empty() { Ok(woven) } else { bail!(wrong.join("\n  ")) }
    }

    fn line(&mut self, line: &str, open: &mut Vec<String>) -> Result<String> {
        let mut woven = String::new();
        let mut rest = line;
        while let Some(at) = [rest.find("{{#"), rest.find("{{/")].into_iter().flatten().min() {
            let (before, directive) = rest.split_at(at);
            let end = directive.find("}}").ok_or_else(|| anyhow!("`{directive}` has no `}}}}`"))?;
            woven.push_str(before);
            woven.push_str(&self.directive(&directive[2..end], open)?);
            rest = &directive[end + 2..];
        }
        woven.push_str(rest);
        Ok(woven)
    }

    fn directive(&mut self, text: &str, open: &mut Vec<String>) -> Result<String> {
        let (name, argument) = text.split_once(' ').unwrap_or((text, ""));
        match (name, argument.trim()) {
            ("#item", argument) => self.item(argument),
            ("#see", path) => {
                let found = item::cut(&self.root, path)?;
                self.show(path);
                Ok(format!("[`{path}`]({})", listing::link(&found)))
            }
            ("#figure", argument) => self.figure(argument),
            ("#term", term) => {
                let (term, shown) = term.split_once('|').unwrap_or((term, term));
                let id = self.terms.get(term).map(|term| anchor(term));
                let id = id.ok_or_else(|| anyhow!("the glossary has no `{term}`"))?;
                Ok(format!("<a class=\"term\" href=\"glossary.html#{id}\">{shown}</a>"))
            }
            ("#plot", argument) => self.plot(argument),
            ("#number", name) => data::number(&self.root, name),
            ("#ratio", names) => data::ratio(&self.root, names),
            ("#percent", names) => data::percent(&self.root, names),
            ("#exercises", section) => self.exercises(section),
            ("#index", krate) => cover::index(&self.root, krate, &self.shown),
            (name, "") => boxed(name, open),
            (name, _) => bail!("no such directive: `{{{{{name}}}}}`"),
        }
    }

    fn show(&mut self, path: &str) {
        self.shown.entry(path.into()).or_insert_with(|| self.now.clone());
    }

    /// The lab's exercises of a section: the reader writes what the page has shown.
    fn exercises(&mut self, section: &str) -> Result<String> {
        let mut list = String::new();
        for exercise in course::ALL.iter().filter(|exercise| exercise.section == section) {
            self.exercises.insert(exercise.id);
            let (id, title, points, predict) =
                (exercise.id, exercise.title, exercise.points, exercise.predict);
            list += &format!("- `cargo lab check {id}`: {title} ({points} points). *Predict: {predict}*\n");
        }
        if list.is_empty() {
            bail!("the lab has no exercise of section {section}");
        }
        Ok(format!(
            "<aside class=\"lab\"><p class=\"title\">Write it yourself</p>\n\n\
             `cargo lab start` makes a copy of the engine in which these functions are empty.\n\n{list}\n</aside>\n"
        ))
    }

    fn item(&mut self, argument: &str) -> Result<String> {
        let (path, piece) = argument.split_once(' ').unwrap_or((argument, ""));
        let mut listing = item::cut(&self.root, path)?;
        match piece.split('`').collect::<Vec<_>>()[..] {
            [""] => {}
            ["from ", from, " to ", to, ""] => listing = item::piece(listing, from, to)?,
            _ => bail!("after the path, only: from `A` to `B`"),
        }
        self.show(path);
        Ok(listing::html(path, &listing))
    }

    fn plot(&mut self, argument: &str) -> Result<String> {
        let (name, caption) = argument.split_once(' ').unwrap_or((argument, ""));
        let data = Data::read(&self.root, name)?;
        self.plots.insert(name.into());
        let (bars, title, origin) = (plot::bars(&data), &data.title, plot::origin(&data, name));
        Ok(format!(
            "<figure class=\"plot\">\n{bars}<figcaption><b>{title}.</b> {caption} <span>{origin}</span></figcaption>\n\
             </figure>\n"
        ))
    }

    fn figure(&mut self, argument: &str) -> Result<String> {
        let (name, caption) = argument.split_once(' ').unwrap_or((argument, ""));
        let path = self.text.join("img").join(format!("{name}.svg"));
        let svg = fs::read_to_string(&path).with_context(|| format!("the figure `{name}`"))?;
        if !svg.contains("role=\"img\"") || !svg.contains("aria-label=\"") {
            bail!("the figure `{name}` says nothing to who cannot see it: role=\"img\" aria-label=\"…\"");
        }
        self.figures.insert(name.into());
        // An empty line would end the HTML block for the Markdown parser.
        let svg: Vec<&str> = svg.lines().filter(|line| !line.trim().is_empty()).collect();
        Ok(format!("<figure>\n{}\n<figcaption>{caption}</figcaption>\n</figure>\n", svg.join("\n")))
    }
}

fn boxed(name: &str, open: &mut Vec<String>) -> Result<String> {
    let known = BOXES.iter().find(|(known, _)| *known == &name[1..]);
    let (kind, title) = known.ok_or_else(|| anyhow!("no such directive: `{{{{{name}}}}}`"))?;
    let hidden = *kind == "answer";
    if name.starts_with('#') {
        open.push((*kind).into());
        return Ok(match hidden {
            true => format!("<details class=\"{kind}\"><summary>{title}</summary>\n"),
            false => format!("<aside class=\"{kind}\"><p class=\"title\">{title}</p>\n"),
        });
    }
    match open.pop() {
        Some(last) if last == *kind => Ok(format!("\n</{}>\n", if hidden { "details" } else { "aside" })),
        _ => bail!("`{{{{/{kind}}}}}` closes nothing"),
    }
}

/// The terms of a glossary: the lines that a line beginning with `: ` follows.
fn terms(glossary: &str) -> BTreeSet<String> {
    let lines: Vec<&str> = glossary.lines().collect();
    let defined = lines.windows(2).filter(|pair| pair[1].starts_with(": "));
    defined.map(|pair| pair[0].trim().to_owned()).collect()
}

/// The anchor that mdBook gives a heading or a term.
pub(crate) fn anchor(text: &str) -> String {
    let kept = text.to_lowercase();
    let kept = kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weaver() -> Weaver {
        Weaver::new(&crate::make::workspace(), &crate::make::workspace().join("book/en")).unwrap()
    }

    fn error(page: &str) -> String {
        format!("{:#}", weaver().page(page, "1", "1.md").unwrap_err())
    }

    #[test]
    fn what_does_not_resolve_is_an_error_that_names_the_line() {
        assert_eq!(error("\n{{#term flux capacitor}}"), "line 2: the glossary has no `flux capacitor`");
        assert!(
            error("{{#item book::nothing}}").starts_with("line 1: `book::nothing`: book/src/lib.rs has no")
        );
        assert!(error("{{#include x}}").contains("no such directive"));
        assert!(error("{{#figure nothing}}").contains("the figure `nothing`"));
        assert!(error("{{#number nothing.at}}").contains("the measurement `nothing`"));
        assert!(error("{{#number layers.nothing}}").contains("no number `nothing`"));
        assert!(error("{{#ratio layers.two}}").contains("two numbers"));
        assert!(error("{{#item book::item").contains("has no `}}`"));
    }

    #[test]
    fn boxes_open_and_close_in_order() {
        assert!(error("{{#predict}}").contains("never closed"));
        assert!(error("{{/predict}}").contains("closes nothing"));
        assert!(error("{{#predict}}\n{{#answer}}\n{{/predict}}\n{{/answer}}").contains("closes nothing"));
        let woven = weaver().page("{{#answer}}\nforty-two\n{{/answer}}", "1", "1.md").unwrap();
        assert!(woven.starts_with("<details") && woven.trim_end().ends_with("</details>"), "{woven}");
    }

    #[test]
    fn a_term_links_to_its_definition() {
        assert_eq!(terms("bundle\n: a directory\n\nnot a term\n"), BTreeSet::from(["bundle".to_owned()]));
        assert_eq!(anchor("OCI runtime"), "oci-runtime");
    }
}
