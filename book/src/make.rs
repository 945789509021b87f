//! From the text to HTML: load it with mdBook, weave each page, render.

use crate::{cover::Shown, sources, weave::Weaver};
use anyhow::{Result, bail};
use mdbook_driver::{MDBook, config::Config};
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

/// The language built. The tree is laid for more: `zh` gets the same files and the same listings.
pub(crate) const LANGUAGE: &str = "en";

/// A book that was built.
pub(crate) struct Made {
    /// Its pages: section number (`5.1.1`; empty for the pages around the sections), title, file.
    pub(crate) pages: Vec<(String, String, String)>,
    /// The items that it shows or links.
    pub(crate) shown: Shown,
    /// The exercises that it names.
    pub(crate) exercises: BTreeSet<&'static str>,
    /// The figures that it shows.
    pub(crate) figures: BTreeSet<String>,
    /// The measurements that it draws.
    pub(crate) plots: BTreeSet<String>,
}

/// The workspace that this program was built in.
pub(crate) fn workspace() -> PathBuf {
    let book = Path::new(env!("CARGO_MANIFEST_DIR"));
    book.parent().unwrap_or(book).to_owned()
}

/// Where the book goes when nothing else is said.
pub(crate) fn out() -> PathBuf {
    workspace().join("book/out")
}

/// Builds the book of the workspace at `root` into `out`.
pub(crate) fn make(root: &Path, out: &Path) -> Result<Made> {
    let book = root.join("book");
    let mut config = Config::from_disk(book.join("book.toml"))?;
    config.build.build_dir = out.to_owned();
    config.book.src = LANGUAGE.into();
    let mut md = MDBook::load_with_config(&book, config)?;

    let mut weaver = Weaver::new(root, &book.join(LANGUAGE))?;
    let (mut pages, mut wrong) = (Vec::new(), Vec::new());
    md.book.for_each_chapter_mut(|page| {
        let file = page.path.as_deref().unwrap_or(Path::new("")).display().to_string();
        let number = page.number.as_ref().map(|n| n.to_string().trim_end_matches('.').to_owned());
        match weaver.page(&page.content, number.as_deref().unwrap_or(&page.name), &file) {
            Ok(woven) => page.content = woven,
            Err(error) => wrong.push(format!("book/{LANGUAGE}/{file}\n  {error}")),
        }
        pages.push((number.unwrap_or_default(), page.name.clone(), file));
    });
    if !wrong.is_empty() {
        bail!("the book cannot be woven\n{}", wrong.join("\n"));
    }
    md.build()?;
    sources::write(root, out)?;
    Ok(Made {
        pages,
        shown: weaver.shown,
        exercises: weaver.exercises,
        figures: weaver.figures,
        plots: weaver.plots,
    })
}
