//! Which public items of the chapters the book passes over in silence.

use anyhow::Result;
use lab::{
    module::{Module, ident},
    source::CRATES,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};
use syn::{Item, Visibility};

/// The public items of each chapter crate that are not in `shown` (nor any part of theirs).
pub(crate) fn unseen(root: &Path, shown: &BTreeSet<String>) -> Result<BTreeMap<String, Vec<String>>> {
    let mut unseen = BTreeMap::new();
    for (name, file) in CRATES.iter().filter(|(_, file)| file.starts_with("chapters/")) {
        let mut items = Vec::new();
        public(root, &Module::read(root, (*file).to_owned())?, name, &mut items)?;
        let seen =
            |item: &String| shown.iter().any(|path| path == item || path.starts_with(&format!("{item}::")));
        items.retain(|item| !seen(item));
        if !items.is_empty() {
            unseen.insert((*name).to_owned(), items);
        }
    }
    Ok(unseen)
}

/// Collects the paths of a module's public items, and of those of its public modules.
fn public(root: &Path, module: &Module, path: &str, items: &mut Vec<String>) -> Result<()> {
    for found in &module.items {
        let Some(name) = ident(found).filter(|_| is_public(found)) else { continue };
        let path = format!("{path}::{name}");
        match found {
            Item::Mod(_) => {
                if let Some(inner) = module.enter(root, &name.to_string())? {
                    public(root, &inner, &path, items)?;
                }
            }
            _ => items.push(path),
        }
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
        fs::write(source.join("store.rs"), "pub struct Store; pub fn open() {} pub(crate) fn own() {}")
            .unwrap();
        let shown = BTreeSet::from(["layers::store::Store::open".to_owned()]);
        let unseen = unseen(root.path(), &shown).unwrap();
        assert_eq!(unseen["layers"], ["layers::store::open", "layers::Image"]);
        assert_eq!(unseen.len(), 1);
    }
}
