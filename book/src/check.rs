//! What the text owes its reader, checked over the built book. Weaving has already refused every listing,
//! figure and term that does not resolve; here are the links, the anchors, the pages and the sections.

use crate::{calls, cover, data, make};
use anyhow::{Context, Result, bail};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs,
    path::{Component, Path, PathBuf},
};

/// The sections of the document that the book mirrors, in its order.
const SECTIONS: [&str; 15] =
    ["1", "2", "3", "4", "5", "5.1", "5.1.1", "6", "6.1", "6.2", "6.3", "7", "7.1", "7.2", "8"];

/// What was checked.
pub(crate) struct Report {
    pages: usize,
    links: usize,
    listed: usize,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} pages, {} links, {} items: all resolve", self.pages, self.links, self.listed)
    }
}

/// Builds the book of `root` into `out` and checks it. The error lists everything that is wrong.
pub(crate) fn check(root: &Path, out: &Path) -> Result<Report> {
    let made = make::make(root, out)?;
    let text = root.join("book").join(make::LANGUAGE);
    let mut wrong = Vec::new();

    let numbers: Vec<&str> = made.pages.iter().map(|(n, ..)| n.as_str()).filter(|n| !n.is_empty()).collect();
    let mut sorted = numbers.clone();
    sorted.sort_by_key(|n| n.split('.').map(|part| part.parse::<u32>().unwrap_or(0)).collect::<Vec<_>>());
    if sorted != SECTIONS {
        wrong.push(format!("the sections are {numbers:?}, those of the document {SECTIONS:?}"));
    }

    let files: BTreeSet<&str> = made.pages.iter().map(|(.., file)| file.as_str()).collect();
    for name in names(&text)? {
        if name.ends_with(".md") && name != "SUMMARY.md" && !files.contains(name.as_str()) {
            wrong.push(format!("{name} is in no table of contents: add it to SUMMARY.md"));
        }
    }
    for name in names(&text.join("img"))? {
        if name.strip_suffix(".svg").is_some_and(|figure| !made.figures.contains(figure)) {
            wrong.push(format!("no page shows img/{name}"));
        }
    }

    for name in data::names(root)?.into_iter().filter(|name| !made.plots.contains(name)) {
        wrong.push(format!("no page draws data/{name}.json: {{{{#plot {name} …}}}}"));
    }
    for exercise in lab::course::ALL.iter().filter(|e| !made.exercises.contains(e.id)) {
        wrong.push(format!(
            "no page names the exercise {}: {{{{#exercises {}}}}}",
            exercise.id, exercise.section
        ));
    }

    let page = fs::read_to_string(text.join("system-calls.md"))?;
    for call in calls::unnamed(root, &page)? {
        wrong.push(format!("system-calls.md does not say where and why {call} is called"));
    }

    let links = check_links(out, &mut wrong)?;
    for (chapter, items) in cover::unseen(root, &made.shown)? {
        let items = items.join(" ");
        wrong.push(format!(
            "{chapter}: no page shows or links {items}: {{{{#see …}}}} in \"The rest of the chapter\""
        ));
    }
    if !wrong.is_empty() {
        bail!("{} things are wrong with the book:\n  {}", wrong.len(), wrong.join("\n  "));
    }
    Ok(Report { pages: made.pages.len(), links, listed: made.shown.len() })
}

fn names(dir: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(dir).with_context(|| dir.display().to_string())?;
    let mut names = Vec::new();
    for entry in entries {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// Follows every link of every page that stays in the book. Returns how many there were.
fn check_links(out: &Path, wrong: &mut Vec<String>) -> Result<usize> {
    let pages: Vec<String> = names(out)?.into_iter().filter(|name| name.ends_with(".html")).collect();
    let mut ids: BTreeMap<PathBuf, BTreeSet<String>> = BTreeMap::new();
    let mut count = 0;
    for page in &pages {
        let html = fs::read_to_string(out.join(page))?;
        for link in
            tags(&html).iter().flat_map(|tag| [attribute(tag, "href"), attribute(tag, "src")]).flatten()
        {
            if link.contains("://") || ["mailto:", "data:", "javascript:"].iter().any(|s| link.starts_with(s))
            {
                continue;
            }
            count += 1;
            let (file, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target = out.join(normal(if file.is_empty() { page } else { file }));
            if !target.exists() {
                wrong.push(format!("{page}: {link}: there is no {file}"));
            } else if !anchor.is_empty() {
                let known = match ids.entry(target.clone()) {
                    std::collections::btree_map::Entry::Occupied(known) => known.into_mut(),
                    std::collections::btree_map::Entry::Vacant(empty) => {
                        let html = fs::read_to_string(&target)?;
                        empty.insert(tags(&html).iter().filter_map(|tag| attribute(tag, "id")).collect())
                    }
                };
                if !known.contains(anchor) {
                    wrong.push(format!("{page}: {link}: {} has no such anchor", target.display()));
                }
            }
        }
    }
    Ok(count)
}

/// The pages stand side by side, so that a link's path is one from the book's root.
fn normal(path: &str) -> PathBuf {
    Path::new(path).components().filter(|part| matches!(part, Component::Normal(_))).collect()
}

/// The insides of a page's tags. Text between them is no link, and a script's text is no tag.
fn tags(html: &str) -> Vec<&str> {
    let mut tags = Vec::new();
    let mut rest = html;
    while let Some(at) = rest.find('<') {
        rest = &rest[at + 1..];
        if rest.starts_with("!--") {
            rest = rest.split_once("-->").map_or("", |(_, after)| after);
            continue;
        }
        let mut quoted = false;
        let end = rest.find(|c| {
            quoted ^= c == '"';
            c == '>' && !quoted
        });
        let Some(end) = end else { break };
        let (tag, after) = rest.split_at(end);
        tags.push(tag);
        rest = after;
        if tag.starts_with("script") {
            rest = rest.find("</script").map_or("", |end| &rest[end..]);
        }
    }
    tags
}

fn attribute(tag: &str, name: &str) -> Option<String> {
    let (_, value) = tag.split_once(&format!(" {name}=\""))?;
    let (value, _) = value.split_once('"')?;
    Some(value.replace("&amp;", "&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The whole book: an item that was renamed in a chapter fails here.
    #[test]
    fn the_book_holds() {
        let out = tempfile::tempdir().unwrap();
        match check(&make::workspace(), out.path()) {
            Ok(report) => assert!(report.pages > SECTIONS.len() && report.links > 100, "{report}"),
            Err(error) => panic!("{error:#}"),
        }
    }

    #[test]
    fn a_link_that_leads_nowhere_is_found() {
        let out = tempfile::tempdir().unwrap();
        let page = "<a href=\"#here\" id=\"here\">x</a><a href='y'>\"</a><!-- <a href=\"no\"> -->\
                    <script>\"<a href=\\\"no\\\">\"</script><a href=\"b.html#there\"></a><a href=\"c.html\"></a>";
        fs::write(out.path().join("a.html"), page).unwrap();
        fs::write(out.path().join("b.html"), "<p id=\"elsewhere\">").unwrap();
        let mut wrong = Vec::new();
        assert_eq!(check_links(out.path(), &mut wrong).unwrap(), 3);
        assert_eq!(wrong.len(), 2, "{wrong:?}");
        assert!(wrong[0].contains("b.html#there") && wrong[1].contains("c.html"), "{wrong:?}");
    }
}
