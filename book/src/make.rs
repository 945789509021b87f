//! From the text to HTML: load it with mdBook, weave each page, render.

use crate::{cover::Shown, sources, weave::Weaver};
use anyhow::{Result, bail};
use lab::module::keep_parsed;
use mdbook_driver::{MDBook, book::Chapter, config::Config};
use std::{
    collections::{BTreeMap, BTreeSet},
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
    /// The woven text of each page, by its file.
    pub(crate) texts: BTreeMap<String, String>,
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

/// A book that was woven: each page's text has its listings, figures and boxes in it.
pub(crate) struct Woven {
    /// mdBook's own picture of it.
    md: MDBook,
    /// What is in it.
    pub(crate) made: Made,
}

/// Builds the book of the workspace at `root` into `out`.
pub(crate) fn make(root: &Path, out: &Path) -> Result<Made> {
    let mut woven = weave(root)?;
    woven.md.config.build.build_dir = out.to_owned();
    woven.md.build()?;
    sources::write(root, out)?;
    Ok(woven.made)
}

/// Puts into the pages what they ask for.
pub(crate) fn weave(root: &Path) -> Result<Woven> {
    // Hundreds of listings are cut from the same files.
    keep_parsed();
    let book = root.join("book");
    let mut config = Config::from_disk(book.join("book.toml"))?;
    config.book.src = LANGUAGE.into();
    let mut md = MDBook::load_with_config(&book, config)?;

    let mut weaver = Weaver::new(root, &book.join(LANGUAGE))?;
    let (mut pages, mut texts, mut wrong) = (Vec::new(), BTreeMap::new(), Vec::new());
    md.book.for_each_chapter_mut(|page| {
        let file = file(page);
        let number = page.number.as_ref().map(|n| n.to_string().trim_end_matches('.').to_owned());
        match weaver.page(&page.content, number.as_deref().unwrap_or(&page.name), &file) {
            Ok(woven) => {
                texts.insert(file.clone(), woven.clone());
                page.content = woven;
            }
            Err(error) => wrong.push(format!("book/{LANGUAGE}/{file}\n  {error}")),
        }
        pages.push((number.unwrap_or_default(), page.name.clone(), file));
    });
    if !wrong.is_empty() {
        bail!("the book cannot be woven\n{}", wrong.join("\n"));
    }
    let made = Made {
        pages,
        shown: weaver.shown,
        exercises: weaver.exercises,
        figures: weaver.figures,
        plots: weaver.plots,
        texts,
    };
    Ok(Woven { md, made })
}

impl Woven {
    /// Writes some pages as HTML into `out`. What stands around them is that of the whole book, the search's index left out.
    pub(crate) fn render(mut self, some: &BTreeSet<String>, out: &Path) -> Result<()> {
        self.md.book.for_each_chapter_mut(|page| {
            if !some.contains(&file(page)) {
                page.content.clear();
            }
        });
        self.md.config.set("output.html.search.enable", false)?;
        self.md.config.build.build_dir = out.to_owned();
        self.md.build()
    }
}

fn file(page: &Chapter) -> String {
    page.path.as_deref().unwrap_or(Path::new("")).display().to_string()
}
