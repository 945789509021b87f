//! Cuts an item out of the workspace's source by its path: `namespaces::process::clone`.
//!
//! The path is followed the way the compiler follows it: crate, `mod` declarations to their files,
//! `use` to where a thing really is, then the item. The compiler's own grammar (`syn`) says where the
//! item begins and ends, so a listing can be neither cut short nor out of date.

use crate::module::{Lines, Module, is_module, named, span};
use anyhow::{Context, Result, anyhow, bail};
use std::{
    collections::{BTreeMap, btree_map::Entry},
    fs,
    ops::Range,
    path::Path,
};
use syn::{ImplItem, Item};

/// Each crate that can be shown or asked for, and the file in which its root module is.
pub const CRATES: [(&str, &str); 7] = [
    ("namespaces", "chapters/1-namespaces/src/lib.rs"),
    ("cgroups", "chapters/2-cgroups/src/lib.rs"),
    ("layers", "chapters/3-layers/src/lib.rs"),
    ("dockerfile", "chapters/4-dockerfile/src/lib.rs"),
    ("registry", "chapters/5-registry/src/lib.rs"),
    ("teu", "src/main.rs"),
    ("book", "book/src/lib.rs"),
];

/// How many `use`s may lead to an item.
const DETOURS: u32 = 8;

/// Lines of a source file.
#[derive(Debug, PartialEq, Eq)]
pub struct Listing {
    /// The file, from the workspace's root.
    pub file: String,
    /// Its first line, from 1.
    pub line: usize,
    /// The lines, without the indentation that all of them share.
    pub text: String,
}

/// Finds `path` in the workspace at `root`. A module gives its doc comment, everything else itself with
/// its docs and attributes.
pub fn cut(root: &Path, path: &str) -> Result<Listing> {
    let (module, found) = find(root, path)?;
    let docs = || module.docs.ok_or_else(|| anyhow!("`{path}`: {} has no `//!` docs", module.file));
    let (first, last) = found.map_or_else(docs, |(lines, _)| Ok(lines))?;
    let lines: Vec<&str> = module.source.lines().skip(first - 1).take(last + 1 - first).collect();
    Ok(Listing { line: first, text: dedent(&lines), file: module.file })
}

/// The body of a function: what stands between its braces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Body {
    /// The file, from the workspace's root.
    pub file: String,
    /// The line in which it begins, from 1.
    pub line: usize,
    /// The bytes between the braces.
    pub range: Range<usize>,
    /// They, as they are now.
    pub text: String,
}

/// Finds the body of the function or method `path`.
pub fn body(root: &Path, path: &str) -> Result<Body> {
    let (module, found) = find(root, path)?;
    let range = found
        .and_then(|(_, block)| block)
        .ok_or_else(|| anyhow!("`{path}` in {} is not a function", module.file))?;
    let text = module.source[range.clone()].to_owned();
    let line = module.source[..range.start].lines().count().max(1);
    Ok(Body { file: module.file, line, range, text })
}

/// Puts other bodies in the place of these functions', in the workspace at `root`.
pub fn replace(root: &Path, bodies: &[(&str, String)]) -> Result<()> {
    for (file, source) in replaced(root, bodies)? {
        fs::write(root.join(&file), source).with_context(|| file.clone())?;
    }
    Ok(())
}

/// The files of the workspace at `root` in which other bodies stand in the place of these functions', by their paths.
pub fn replaced(root: &Path, bodies: &[(&str, String)]) -> Result<BTreeMap<String, String>> {
    let mut found = Vec::new();
    for (path, text) in bodies {
        let Body { file, range, .. } = body(root, path)?;
        found.push((file, range, text));
    }
    // From the end of a file to its beginning: a replacement moves only what stands behind it.
    found.sort_by_key(|(_, range, _)| std::cmp::Reverse(range.start));
    let mut files = BTreeMap::new();
    for (file, range, text) in found {
        let source = match files.entry(file.clone()) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                entry.insert(fs::read_to_string(root.join(&file)).with_context(|| file.clone())?)
            }
        };
        source.replace_range(range, text);
    }
    Ok(files)
}

/// An item in its module: its lines and, of a function, the inside of its braces.
type Found = (Lines, Option<Range<usize>>);

/// Follows a path to its module, and in it to an item, if it names one.
fn find(root: &Path, path: &str) -> Result<(Module, Option<Found>)> {
    follow(root, path, DETOURS).map_err(|error| anyhow!("`{path}`: {error}"))
}

fn follow(root: &Path, path: &str, detours: u32) -> Result<(Module, Option<Found>)> {
    let names: Vec<&str> = path.split("::").collect();
    let krate = names[0];
    let file = CRATES.iter().find(|(name, _)| *name == krate).map(|(_, file)| (*file).to_owned());
    let file = file.ok_or_else(|| anyhow!("there is no crate `{krate}`"))?;
    let mut module = Module::read(root, file.clone())?;
    for at in 1..names.len() {
        let (name, tail) = (names[at], &names[at + 1..]);
        let item = module.items.iter().find(|item| !is_module(item) && named(item, name));
        match (item, tail) {
            // `dockerfile::build` may be a module and a function: a function has no inside.
            (Some(item), []) => {
                let block = if let Item::Fn(item) = item { Some(inside(&item.block)) } else { None };
                let found = (span(item), block);
                return Ok((module, Some(found)));
            }
            (Some(_), [inner]) => {
                if let Some(found) = within(&module.items, name, inner) {
                    return Ok((module, Some(found)));
                }
                // A type's methods may be in several files, each with an idea of its own.
                if let Some((module, found)) = anywhere(root, Module::read(root, file.clone())?, name, inner)?
                {
                    return Ok((module, Some(found)));
                }
            }
            _ => {}
        }
        let Some(next) = module.enter(root, name)? else {
            let Some(origin) = module.imported(name).filter(|_| detours > 0) else {
                bail!("{} has no `{}`. It has {}", module.file, names[at..].join("::"), module.names());
            };
            return follow(root, &real(&names[..at], &origin, tail), detours - 1);
        };
        module = next;
    }
    Ok((module, None))
}

/// The path that an import in the module `here` stands for.
fn real(here: &[&str], origin: &[String], tail: &[&str]) -> String {
    let mut path: Vec<&str> = here.to_vec();
    for step in origin {
        match step.as_str() {
            "crate" => path.truncate(1),
            "super" => drop(path.pop()),
            "self" => {}
            step => path.push(step),
        }
    }
    [path.as_slice(), tail].concat().join("::")
}

/// The method, in whichever of the crate's files it is.
fn anywhere(root: &Path, module: Module, outer: &str, inner: &str) -> Result<Option<(Module, Found)>> {
    if let Some(found) = within(&module.items, outer, inner) {
        return Ok(Some((module, found)));
    }
    for child in module.children(root)? {
        if let Some(found) = anywhere(root, child, outer, inner)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// The bytes between a block's braces.
fn inside(block: &syn::Block) -> Range<usize> {
    let braces = block.brace_token.span;
    braces.open().byte_range().end..braces.close().byte_range().start
}

/// From the first line that holds `from` to the next that holds `to`: for a function explained in pieces.
pub fn piece(listing: Listing, from: &str, to: &str) -> Result<Listing> {
    let lines: Vec<&str> = listing.text.lines().collect();
    let find = |what: &str, after: usize| {
        let at = lines.iter().skip(after).position(|line| line.contains(what));
        at.map(|n| n + after)
            .ok_or_else(|| anyhow!("no line with `{what}` in {}:{}", listing.file, listing.line))
    };
    let first = find(from, 0)?;
    let last = find(to, first)?;
    Ok(Listing { line: listing.line + first, text: dedent(&lines[first..=last]), file: listing.file })
}

/// A method, an associated item or a variant: what `Type::inner` can mean.
fn within(items: &[Item], outer: &str, inner: &str) -> Option<Found> {
    items.iter().find_map(|item| match item {
        Item::Impl(block) => {
            let syn::Type::Path(path) = &*block.self_ty else { return None };
            path.path.segments.last().filter(|last| last.ident == outer)?;
            let item = block.items.iter().find(|item| impl_ident(item).is_some_and(|name| name == inner))?;
            let block = if let ImplItem::Fn(function) = item { Some(inside(&function.block)) } else { None };
            Some((span(item), block))
        }
        Item::Enum(item) if item.ident == outer => {
            item.variants.iter().find(|v| v.ident == inner).map(|v| (span(v), None))
        }
        Item::Trait(item) if item.ident == outer => {
            let function = |i: &&syn::TraitItem| matches!(i, syn::TraitItem::Fn(f) if f.sig.ident == inner);
            item.items.iter().find(function).map(|f| (span(f), None))
        }
        _ => None,
    })
}

fn impl_ident(item: &ImplItem) -> Option<&syn::Ident> {
    match item {
        ImplItem::Fn(item) => Some(&item.sig.ident),
        ImplItem::Const(item) => Some(&item.ident),
        ImplItem::Type(item) => Some(&item.ident),
        _ => None,
    }
}

fn dedent(lines: &[&str]) -> String {
    let indent = |line: &&str| line.len() - line.trim_start().len();
    let shared = lines.iter().filter(|line| !line.trim().is_empty()).map(indent).min().unwrap_or(0);
    lines.iter().map(|line| format!("{}\n", line.get(shared..).unwrap_or_default())).collect()
}

#[cfg(test)]
#[path = "source_tests.rs"]
mod listings;

#[cfg(test)]
mod tests {
    use super::*;

    fn crate_with(text: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a directory");
        let source = dir.path().join("chapters/1-namespaces/src");
        fs::create_dir_all(&source).expect("made");
        fs::write(source.join("lib.rs"), "mod rooms;\n").expect("written");
        fs::write(source.join("rooms.rs"), text).expect("written");
        dir
    }

    #[test]
    fn a_body_is_what_stands_between_the_braces() {
        let dir = crate_with(
            "struct S;\nimpl S {\n    /// Ä.\n    fn f(&self) -> u8 { 1 }\n}\n/// Free.\nfn g() {\n    h();\n}\n",
        );
        assert_eq!(body(dir.path(), "namespaces::rooms::S::f").expect("found").text, " 1 ");
        assert_eq!(body(dir.path(), "namespaces::rooms::g").expect("found").text, "\n    h();\n");
        assert!(body(dir.path(), "namespaces::rooms::S").is_err());
        assert!(body(dir.path(), "namespaces::rooms::gone").is_err());
    }

    #[test]
    fn bodies_are_replaced_each_in_its_place() {
        let dir = crate_with("fn a() { 1 }\nfn b() { 2 }\n");
        let new =
            [("namespaces::rooms::a", " one() ".to_owned()), ("namespaces::rooms::b", " two() ".to_owned())];
        replace(dir.path(), &new).expect("replaced");
        let text = fs::read_to_string(dir.path().join("chapters/1-namespaces/src/rooms.rs")).expect("read");
        assert_eq!(text, "fn a() { one() }\nfn b() { two() }\n");
    }
}
