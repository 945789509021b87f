//! Building the book again after an edit: only the pages that the edit has changed, so that they are there before the
//! reader has looked up.
//!
//! All pages are woven (their listings come from files that were parsed before), and those whose text is another than
//! last time are rendered, beside the book, and then moved into it. An edit of the table of contents or of the theme changes every page,
//! and the whole book is made. The index of the search takes longest and is needed least: it comes later, see [`index`].

use crate::{make, sources};
use anyhow::{Context, Result};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// The book as it was built, so that the next time only what differs is.
pub(crate) struct Again {
    root: PathBuf,
    out: PathBuf,
    texts: BTreeMap<String, String>,
}

impl Again {
    /// Builds the whole book.
    pub(crate) fn first(root: &Path, out: &Path) -> Result<Again> {
        let texts = make::make(root, out)?.texts;
        Ok(Again { root: root.to_owned(), out: out.to_owned(), texts })
    }

    /// Builds what the edit of these files has changed, and says how many pages that were.
    pub(crate) fn edited(&mut self, files: &BTreeSet<PathBuf>) -> Result<usize> {
        let files: Vec<&Path> = files.iter().filter_map(|file| file.strip_prefix(&self.root).ok()).collect();
        let everywhere = |file: &&Path| file.ends_with("SUMMARY.md") || file.ends_with("book.toml");
        if files.iter().any(|file| everywhere(file) || file.starts_with("book/theme")) {
            let beside = beside(&self.out)?;
            self.texts = make::make(&self.root, beside.path())?.texts;
            take_over(beside.path(), &self.out, |_| true)?;
            return Ok(self.texts.len());
        }
        let woven = make::weave(&self.root)?;
        let texts = woven.made.texts.clone();
        let is_new = |(file, text): &(&String, &String)| self.texts.get(*file) != Some(*text);
        let changed: BTreeSet<String> = texts.iter().filter(is_new).map(|(file, _)| file.clone()).collect();
        if !changed.is_empty() {
            let beside = beside(&self.out)?;
            woven.render(&changed, beside.path())?;
            take_over(beside.path(), &self.out, |name| changed.contains(&name.replace(".html", ".md")))?;
            self.texts = texts;
        }
        let code = |file: &&&Path| {
            sources::TREES.iter().any(|tree| file.starts_with(tree))
                && file.extension().is_some_and(|e| e == "rs")
        };
        for file in files.iter().filter(code).filter(|file| self.root.join(file).is_file()) {
            sources::page(&self.root, file, &self.out)?;
        }
        Ok(changed.len())
    }
}

/// Makes the index of the search anew, from the files as they are now, and puts it into the book.
pub(crate) fn index(root: &Path, out: &Path) -> Result<()> {
    let beside = beside(out)?;
    make::make(root, beside.path())?;
    take_over(beside.path(), out, |name| name.starts_with("searchindex"))
}

/// A directory for what is being built: on the same file system, so that it can be moved, and gone with the next build if this
/// program is killed.
fn beside(out: &Path) -> Result<tempfile::TempDir> {
    tempfile::Builder::new()
        .prefix(".being-built-")
        .tempdir_in(out)
        .with_context(|| out.display().to_string())
}

/// Moves some files and directories of a book into another, over those of the same name.
fn take_over(from: &Path, to: &Path, some: impl Fn(&str) -> bool) -> Result<()> {
    for entry in fs::read_dir(from)? {
        let name = entry?.file_name();
        if name.to_str().is_some_and(&some) {
            let (new, old) = (from.join(&name), to.join(&name));
            if old.is_dir() {
                fs::remove_dir_all(&old).with_context(|| old.display().to_string())?;
            }
            fs::rename(new, &old).with_context(|| old.display().to_string())?;
        }
    }
    Ok(())
}
