//! The public items of the chapters: where the book explains each, and which it passes over.

use anyhow::{Result, anyhow};
use lab::{
    module::{Module, ident, span},
    source::CRATES,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    path::Path,
};
use syn::{Item, Visibility};

/// Which page shows or links an item first: the item's path, the page's number or title, its file.
pub(crate) type Shown = BTreeMap<String, (String, String)>;

/// A public item.
struct Public {
    path: String,
    file: String,
    line: usize,
    /// The first sentence of its docs.
    says: String,
}

/// The public items of each chapter crate that no page shows, nor any part of theirs.
pub(crate) fn unseen(root: &Path, shown: &Shown) -> Result<BTreeMap<String, Vec<String>>> {
    let mut unseen = BTreeMap::new();
    for (name, _) in CRATES.iter().filter(|(_, file)| file.starts_with("chapters/")) {
        let passed_over = public(root, name)?.into_iter().filter(|item| seen(&item.path, shown).is_none());
        let paths: Vec<String> = passed_over.map(|item| item.path).collect();
        if !paths.is_empty() {
            unseen.insert((*name).to_owned(), paths);
        }
    }
    Ok(unseen)
}

/// Every public item of a crate as a table: its name, linked to its line, what it is, and the page about it.
pub(crate) fn index(root: &Path, krate: &str, shown: &Shown) -> Result<String> {
    let mut table = "| item | what it is | |\n|---|---|---|\n".to_owned();
    for Public { path, file, line, says } in public(root, krate)? {
        let page = seen(&path, shown).map(|(name, file)| format!("[{name}]({file})")).unwrap_or_default();
        let says = says.replace('|', "\\|");
        let name = path.trim_start_matches(krate).trim_start_matches("::");
        let _ = writeln!(table, "| [`{name}`](source/{file}.html#L{line}) | {says} | {page} |");
    }
    Ok(table)
}

fn seen<'a>(item: &str, shown: &'a Shown) -> Option<&'a (String, String)> {
    let part = format!("{item}::");
    shown.iter().find(|(path, _)| *path == item || path.starts_with(&part)).map(|(_, page)| page)
}

fn public(root: &Path, krate: &str) -> Result<Vec<Public>> {
    let (_, file) = CRATES
        .iter()
        .find(|(name, _)| *name == krate)
        .ok_or_else(|| anyhow!("there is no crate `{krate}`"))?;
    let (mut items, mut known) = (Vec::new(), BTreeSet::new());
    collect(root, &Module::read(root, (*file).to_owned())?, krate, &mut items)?;
    // What is compiled one way here and another way there has one name.
    items.retain(|item: &Public| known.insert(item.path.clone()));
    Ok(items)
}

/// A module's public items, and those of its public modules.
fn collect(root: &Path, module: &Module, path: &str, items: &mut Vec<Public>) -> Result<()> {
    for found in module.items.iter() {
        let Some(name) = ident(found).filter(|_| is_public(found)) else { continue };
        let path = format!("{path}::{name}");
        if let Item::Mod(_) = found {
            if let Some(inner) = module.enter(root, &name.to_string())? {
                collect(root, &inner, &path, items)?;
            }
            continue;
        }
        let (line, _) = span(found);
        let docs = module.source.lines().skip(line - 1).map_while(|l| l.trim_start().strip_prefix("///"));
        let docs = docs.take_while(|l| !l.trim().is_empty()).collect::<String>();
        let says = docs.trim().split_inclusive(". ").next().unwrap_or_default().trim_end().to_owned();
        items.push(Public { path, file: module.file.clone(), line, says });
    }
    Ok(())
}

fn is_public(item: &Item) -> bool {
    let visibility = match item {
        Item::Const(item) => &item.vis,
        Item::Enum(item) => &item.vis,
        Item::Fn(item) => &item.vis,
        Item::Mod(item) => &item.vis,
        Item::Static(item) => &item.vis,
        Item::Struct(item) => &item.vis,
        Item::Trait(item) => &item.vis,
        Item::Type(item) => &item.vis,
        _ => return false,
    };
    matches!(visibility, Visibility::Public(_))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn an_item_is_seen_when_it_or_a_part_of_it_is_shown() {
        let root = tempfile::tempdir().unwrap();
        for (_, file) in CRATES.iter().filter(|(_, file)| file.starts_with("chapters/")) {
            let file = root.path().join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, "").unwrap();
        }
        let source = root.path().join("chapters/3-layers/src");
        fs::write(source.join("lib.rs"), "pub mod store; mod hidden; pub struct Image; struct Own;").unwrap();
        fs::write(
            source.join("store.rs"),
            "/// Keeps. A lot.\npub struct Store; pub fn open() {} pub(crate) fn own() {}",
        )
        .unwrap();
        let page = ("5.1".to_owned(), "5.1-layers.md".to_owned());
        let shown = Shown::from([("layers::store::Store::open".to_owned(), page)]);
        let index = index(root.path(), "layers", &shown).unwrap();
        assert!(index.contains("/store.rs.html#L1) | Keeps. | [5.1](5.1-layers.md) |"), "{index}");
        let unseen = unseen(root.path(), &shown).unwrap();
        assert_eq!(unseen["layers"], ["layers::store::open", "layers::Image"]);
        assert_eq!(unseen.len(), 1);
    }
}
