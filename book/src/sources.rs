//! A page for every source file of the course, each line with its own anchor: where a listing's
//! `file:line` leads, with no network and no editor.

use anyhow::{Context, Result};
use std::{
    fmt::Write,
    fs,
    path::{Path, PathBuf},
};

/// The trees whose Rust files get a page.
pub(crate) const TREES: [&str; 3] = ["chapters", "src", "book/src"];

/// Every Rust file below [`TREES`], from the workspace's root.
pub(crate) fn files(root: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut todo: Vec<PathBuf> = TREES.iter().map(PathBuf::from).collect();
    while let Some(dir) = todo.pop() {
        let entries = fs::read_dir(root.join(&dir)).with_context(|| dir.display().to_string())?;
        for entry in entries {
            let entry = entry?;
            let path = dir.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                if entry.file_name() != "target" {
                    todo.push(path);
                }
            } else if path.extension().is_some_and(|e| e == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

/// Writes the pages into `out/source`.
pub(crate) fn write(root: &Path, out: &Path) -> Result<()> {
    files(root)?.iter().try_for_each(|file| page(root, file, out))
}

/// Writes the page of one file, given by its path from the workspace's root.
pub(crate) fn page(root: &Path, file: &Path, out: &Path) -> Result<()> {
    let page = out.join("source").join(format!("{}.html", file.display()));
    fs::create_dir_all(page.parent().unwrap_or(out))?;
    let text = fs::read_to_string(root.join(file)).with_context(|| file.display().to_string())?;
    fs::write(&page, html(file, &text)).with_context(|| page.display().to_string())
}

fn html(file: &Path, source: &str) -> String {
    let up = "../".repeat(file.components().count());
    let name = file.display();
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>{name}</title>\n\
         <link rel=\"stylesheet\" href=\"{up}theme/teu.css\">\n\
         <body class=\"source\"><p><a href=\"{up}index.html\">The book</a> / {name}</p>\n<pre>"
    );
    for (number, line) in source.lines().enumerate() {
        let n = number + 1;
        let line = line.replace('&', "&amp;").replace('<', "&lt;");
        let _ = writeln!(page, "<a id=\"L{n}\" href=\"#L{n}\">{n:4}</a> {line}");
    }
    page + "</pre>\n</body>\n</html>\n"
}
