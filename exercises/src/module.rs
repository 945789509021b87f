//! A crate's modules, followed from file to file as the compiler follows them.

use anyhow::{Context, Result, bail};
use std::{
    cell::RefCell,
    collections::HashMap,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    rc::Rc,
};
use syn::{Attribute, Item, UseTree, spanned::Spanned};

/// First and last line.
pub type Lines = (usize, usize);

/// A module: the file that it is in, and what is in it.
pub struct Module {
    /// The file, from the workspace's root.
    pub file: String,
    /// All of the file.
    pub source: Rc<str>,
    /// Its own items.
    pub items: Rc<Vec<Item>>,
    /// The lines of its own `//!`.
    pub docs: Option<Lines>,
    /// Where files of the modules declared in it are.
    dir: String,
}

impl Module {
    /// The module that is all of `file`.
    pub fn read(root: &Path, file: String) -> Result<Module> {
        let Parsed { source, items, docs, .. } = parsed(root, &file)?;
        let (parent, name) = file.rsplit_once('/').unwrap_or(("", &file));
        let dir = match name {
            "lib.rs" | "main.rs" | "mod.rs" => parent.to_owned(),
            _ => file.trim_end_matches(".rs").to_owned(),
        };
        Ok(Module { items, docs, dir, source, file })
    }

    /// The module `name` declared here, whether it is inline or in a file of its own.
    pub fn enter(&self, root: &Path, name: &str) -> Result<Option<Module>> {
        let Some(Item::Mod(module)) = self.items.iter().find(|item| is_module(item) && named(item, name))
        else {
            return Ok(None);
        };
        let dir = format!("{}/{name}", self.dir);
        if let Some((_, items)) = &module.content {
            let (file, source, items) = (self.file.clone(), self.source.clone(), Rc::new(items.clone()));
            return Ok(Some(Module { file, source, dir, items, docs: docs(&module.attrs) }));
        }
        let file = format!("{dir}.rs");
        let file = if root.join(&file).is_file() { file } else { format!("{dir}/mod.rs") };
        Module::read(root, file).map(Some)
    }

    /// All modules declared here that have files, tests left out.
    pub fn children(&self, root: &Path) -> Result<Vec<Module>> {
        let names = self.items.iter().filter_map(|item| match item {
            Item::Mod(module) if module.content.is_none() && module.ident != "tests" => {
                Some(module.ident.to_string())
            }
            _ => None,
        });
        names.filter_map(|name| self.enter(root, &name).transpose()).collect()
    }

    /// Where `name` really is, if a `use` brings it here: `pub use crate::defaults::docker_default`.
    pub fn imported(&self, name: &str) -> Option<Vec<String>> {
        self.items.iter().find_map(|item| match item {
            Item::Use(item) => leaf(&item.tree, name, &mut Vec::new()),
            _ => None,
        })
    }

    /// What can be named here, for messages.
    pub fn names(&self) -> String {
        let mut names: Vec<String> =
            self.items.iter().filter_map(ident).map(|name| format!("`{name}`")).collect();
        names.dedup();
        names.join(", ")
    }
}

/// A file that was read and understood.
#[derive(Clone)]
struct Parsed {
    /// By what it is known to be the same file still: inode, length, and the times of its last changes.
    stamp: [i64; 6],
    source: Rc<str>,
    items: Rc<Vec<Item>>,
    docs: Option<Lines>,
}

thread_local! {
    /// What this thread has parsed, by path, if it keeps it.
    static KEPT: RefCell<Option<HashMap<PathBuf, Parsed>>> = const { RefCell::new(None) };
}

/// From now on this thread parses a file again only when it has changed. For who reads the same files many times and trusts
/// them, as the book does, not for a stranger's workspace.
pub fn keep_parsed() {
    KEPT.with_borrow_mut(|kept| _ = kept.get_or_insert_default());
}

fn parsed(root: &Path, file: &str) -> Result<Parsed> {
    let path = root.join(file);
    // Asked before the file is read: a change in between makes it look old the next time, never new.
    let stamp = stamp(&path).with_context(|| file.to_owned())?;
    let same = |kept: &Parsed| kept.stamp == stamp;
    let kept = KEPT.with_borrow(|kept| kept.as_ref()?.get(&path).filter(|kept| same(kept)).cloned());
    if let Some(kept) = kept {
        return Ok(kept);
    }
    let source = read(root, file)?;
    let tree = syn::parse_file(&source).with_context(|| format!("{file} is not Rust"))?;
    let parsed = Parsed { stamp, source: source.into(), docs: docs(&tree.attrs), items: Rc::new(tree.items) };
    KEPT.with_borrow_mut(|kept| kept.as_mut().map(|kept| kept.insert(path, parsed.clone())));
    Ok(parsed)
}

fn stamp(path: &Path) -> std::io::Result<[i64; 6]> {
    let meta = fs::symlink_metadata(path)?;
    let (inode, length) = (meta.ino().cast_signed(), meta.size().cast_signed());
    Ok([inode, length, meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec()])
}

/// No file of Rust is larger.
const LARGEST: u64 = 4 << 20;

/// Deeper no honest code nests; a parser that follows deeper runs out of stack.
const DEEPEST: usize = 200;

/// Reads a source file. In a stranger's workspace it may be a link to something of ours, a pipe that never ends, or be made
/// to break the parser.
fn read(root: &Path, file: &str) -> Result<String> {
    let mut path = root.to_owned();
    for step in Path::new(file) {
        path.push(step);
        let kind = fs::symlink_metadata(&path).with_context(|| file.to_owned())?.file_type();
        if !kind.is_dir() && !kind.is_file() {
            bail!("{file}: {} is not a plain file", path.display());
        }
    }
    if fs::metadata(&path)?.len() > LARGEST {
        bail!("{file} is larger than {LARGEST} bytes");
    }
    let text = fs::read_to_string(&path).with_context(|| file.to_owned())?;
    let (mut depth, mut deepest) = (0_usize, 0);
    for byte in text.bytes() {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    if deepest > DEEPEST {
        bail!("{file} nests its brackets {deepest} deep");
    }
    Ok(text)
}

fn leaf(tree: &UseTree, name: &str, path: &mut Vec<String>) -> Option<Vec<String>> {
    match tree {
        UseTree::Path(step) => {
            path.push(step.ident.to_string());
            let found = leaf(&step.tree, name, path);
            path.pop();
            found
        }
        UseTree::Group(group) => group.items.iter().find_map(|tree| leaf(tree, name, path)),
        UseTree::Name(last) if last.ident == name => Some([path.as_slice(), &[name.to_owned()]].concat()),
        UseTree::Rename(last) if last.rename == name => {
            Some([path.as_slice(), &[last.ident.to_string()]].concat())
        }
        _ => None,
    }
}

/// The name that an item declares.
pub fn ident(item: &Item) -> Option<&syn::Ident> {
    match item {
        Item::Const(item) => Some(&item.ident),
        Item::Enum(item) => Some(&item.ident),
        Item::Fn(item) => Some(&item.sig.ident),
        Item::Macro(item) => item.ident.as_ref(),
        Item::Mod(item) => Some(&item.ident),
        Item::Static(item) => Some(&item.ident),
        Item::Struct(item) => Some(&item.ident),
        Item::Trait(item) => Some(&item.ident),
        Item::Type(item) => Some(&item.ident),
        Item::Union(item) => Some(&item.ident),
        _ => None,
    }
}

pub(crate) fn is_module(item: &Item) -> bool {
    matches!(item, Item::Mod(_))
}

pub(crate) fn named(item: &Item, name: &str) -> bool {
    ident(item).is_some_and(|ident| ident == name)
}

/// Doc comments included: to the grammar they are attributes.
pub fn span(item: &impl Spanned) -> Lines {
    (item.span().start().line, item.span().end().line)
}

fn docs(attrs: &[Attribute]) -> Option<Lines> {
    let inner =
        |attr: &&Attribute| matches!(attr.style, syn::AttrStyle::Inner(_)) && attr.path().is_ident("doc");
    let mut docs = attrs.iter().filter(inner).map(span);
    let first = docs.next()?;
    Some((first.0, docs.next_back().unwrap_or(first).1))
}
