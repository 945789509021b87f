//! Cuts an item out of the workspace's source by its path: `namespaces::process::clone`.
//!
//! The path is followed the way the compiler follows it: crate, then `mod` declarations to
//! their files, then the item. The compiler's own grammar (`syn`) says where the item begins
//! and ends, so a listing can be neither cut short nor out of date.

use anyhow::{Context, Result, anyhow, bail};
use proc_macro2::LineColumn;
use std::{fs, ops::Range, path::Path};
use syn::{Attribute, ImplItem, Item, spanned::Spanned};

/// Each crate that can be shown or asked for, and the file in which its root module is.
pub const CRATES: [(&str, &str); 7] = [
    ("namespaces", "chapters/1-namespaces/src/lib.rs"),
    ("cgroups", "chapters/2-cgroups/src/lib.rs"),
    ("layers", "chapters/3-layers/src/lib.rs"),
    ("dockerfile", "chapters/4-dockerfile/src/lib.rs"),
    ("registry", "chapters/5-registry/src/lib.rs"),
    ("teu", "src/main.rs"),
    ("book", "book/src/main.rs"),
];

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
    match find(root, path)? {
        (module, Some(lines), _) => module.lines(lines),
        (module, None, _) => {
            let docs = module.docs.ok_or_else(|| anyhow!("`{path}`: {} has no `//!` docs", module.file))?;
            module.lines(docs)
        }
    }
}

/// The body of a function: what stands between its braces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Body {
    /// The file, from the workspace's root.
    pub file: String,
    /// The bytes between the braces.
    pub range: Range<usize>,
    /// They, as they are now.
    pub text: String,
}

/// Finds the body of the function or method `path`.
pub fn body(root: &Path, path: &str) -> Result<Body> {
    let (module, _, block) = find(root, path)?;
    let range = block.ok_or_else(|| anyhow!("`{path}` in {} is not a function", module.file))?;
    let text = module.source[range.clone()].to_owned();
    Ok(Body { file: module.file, range, text })
}

/// Puts other bodies in the place of these functions', in the workspace at `root`.
pub fn replace(root: &Path, bodies: &[(&str, String)]) -> Result<()> {
    for (path, text) in bodies {
        // Found anew each time: the one before has moved what stands behind it.
        let Body { file, range, .. } = body(root, path)?;
        let name = root.join(&file);
        let mut source = fs::read_to_string(&name).with_context(|| file.clone())?;
        source.replace_range(range, text);
        fs::write(&name, source).with_context(|| file.clone())?;
    }
    Ok(())
}

/// Follows a path to its module, and in it to an item's lines and, of a function, the inside of its braces.
fn find(root: &Path, path: &str) -> Result<(Module, Option<Lines>, Option<Range<usize>>)> {
    let mut names = path.split("::");
    let krate = names.next().unwrap_or_default();
    let (_, file) = CRATES
        .iter()
        .find(|(name, _)| *name == krate)
        .ok_or_else(|| anyhow!("`{path}`: there is no crate `{krate}`"))?;
    let mut module = Module::read(root, (*file).to_owned())?;
    let names: Vec<&str> = names.collect();
    let mut rest = names.as_slice();
    while let [name, tail @ ..] = rest {
        let item = module.items.iter().find(|item| !is_module(item) && named(item, name));
        let found = match (item, tail) {
            // `dockerfile::build` may be a module and a function: a function has no inside.
            (Some(Item::Fn(item)), []) => Some((span(item), Some(inside(&item.block)))),
            (Some(item), []) => Some((span(item), None)),
            (Some(_), [inner]) => within(&module.items, name, inner),
            _ => None,
        };
        if let Some((lines, block)) = found {
            return Ok((module, Some(lines), block));
        }
        match module.enter(root, name)? {
            Some(inner) => module = inner,
            None => {
                bail!("`{path}`: {} has no `{}`. It has {}", module.file, rest.join("::"), module.names())
            }
        }
        rest = tail;
    }
    Ok((module, None, None))
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

type Lines = (usize, usize);

/// A module: the file that it is in, and what is in it.
struct Module {
    file: String,
    source: String,
    /// Where files of the modules declared in it are.
    dir: String,
    items: Vec<Item>,
    docs: Option<Lines>,
}

impl Module {
    fn read(root: &Path, file: String) -> Result<Module> {
        let source = fs::read_to_string(root.join(&file)).with_context(|| file.clone())?;
        let parsed = syn::parse_file(&source).with_context(|| format!("{file} is not Rust"))?;
        let (parent, name) = file.rsplit_once('/').unwrap_or(("", &file));
        let dir = match name {
            "lib.rs" | "main.rs" | "mod.rs" => parent.to_owned(),
            _ => file.trim_end_matches(".rs").to_owned(),
        };
        let docs = docs(&parsed.attrs);
        Ok(Module { items: parsed.items, docs, dir, source, file })
    }

    /// The module `name` declared here, whether it is inline or in a file of its own.
    fn enter(&self, root: &Path, name: &str) -> Result<Option<Module>> {
        let Some(Item::Mod(module)) = self.items.iter().find(|item| is_module(item) && named(item, name))
        else {
            return Ok(None);
        };
        let dir = format!("{}/{name}", self.dir);
        if let Some((_, items)) = &module.content {
            let (file, source) = (self.file.clone(), self.source.clone());
            return Ok(Some(Module { file, source, dir, items: items.clone(), docs: docs(&module.attrs) }));
        }
        let file = format!("{dir}.rs");
        let file = if root.join(&file).is_file() { file } else { format!("{dir}/mod.rs") };
        Module::read(root, file).map(Some)
    }

    fn lines(&self, (first, last): Lines) -> Result<Listing> {
        let lines: Vec<&str> = self.source.lines().skip(first - 1).take(last + 1 - first).collect();
        Ok(Listing { file: self.file.clone(), line: first, text: dedent(&lines) })
    }

    fn names(&self) -> String {
        let mut names: Vec<String> =
            self.items.iter().filter_map(ident).map(|name| format!("`{name}`")).collect();
        names.dedup();
        names.join(", ")
    }
}

/// A method, an associated item or a variant: what `Type::inner` can mean.
fn within(items: &[Item], outer: &str, inner: &str) -> Option<(Lines, Option<Range<usize>>)> {
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

/// The name that an item declares, if it declares one.
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

fn is_module(item: &Item) -> bool {
    matches!(item, Item::Mod(_))
}

fn named(item: &Item, name: &str) -> bool {
    ident(item).is_some_and(|ident| ident == name)
}

/// First and last line, doc comments included: to the grammar they are attributes.
fn span(item: &impl Spanned) -> Lines {
    let LineColumn { line, .. } = item.span().start();
    (line, item.span().end().line)
}

/// The lines of a module's own `//!`.
fn docs(attrs: &[Attribute]) -> Option<Lines> {
    let inner =
        |attr: &&Attribute| matches!(attr.style, syn::AttrStyle::Inner(_)) && attr.path().is_ident("doc");
    let mut docs = attrs.iter().filter(inner).map(span);
    let first = docs.next()?;
    Some((first.0, docs.next_back().unwrap_or(first).1))
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
