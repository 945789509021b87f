//! `layers tree`, `du` and `ls`: what is in the store, as tables.

use anyhow::Result;
use comfy_table::{CellAlignment, Table, presets::NOTHING};
use layers::{Image, Store, gc::disk_usage};
use oci_spec::image::Digest;
use std::collections::{BTreeMap, BTreeSet};

/// The layers of an image, bottom first, each with what made it; and what changed only the config.
pub(crate) fn tree(image: &Image, store: &Store) -> Result<()> {
    println!("image {}", image.id());
    let mut table = table(&["LAYER", "COMPRESSED", "ON DISK", "CHAIN ID", "CREATED BY"], &[1, 2]);
    let mut layers = image.manifest.layers().iter().zip(image.chain_ids()).enumerate();
    let mut add = |layer: Option<(usize, (&oci_spec::image::Descriptor, Digest))>, by: &str| {
        let (name, compressed, disk, chain) = match layer {
            Some((n, (blob, chain))) => (
                (n + 1).to_string(),
                size(blob.size()),
                if store.is_unpacked(&chain) {
                    disk_usage(&store.unpacked_path(&chain)).map_or_else(|e| e.to_string(), size)
                } else {
                    "not unpacked".into()
                },
                short(&chain),
            ),
            None => ("-".into(), String::new(), String::new(), "config only".into()),
        };
        table.add_row([name, compressed, disk, chain, by.to_owned()]);
    };
    for entry in image.config.history().iter().flatten() {
        let by = entry.created_by().as_deref().or(entry.comment().as_deref()).unwrap_or("");
        let layer = if entry.empty_layer() == Some(true) { None } else { layers.next() };
        add(layer, &by.split_whitespace().collect::<Vec<_>>().join(" "));
    }
    for rest in layers {
        add(Some(rest), "");
    }
    println!("{table}");
    Ok(())
}

/// For each image what it takes, what of that it shares, and what would go with it; and the sums, with and
/// without sharing.
pub(crate) fn du(store: &Store) -> Result<()> {
    // Content by digest: blobs, and unpacked layers by chain ID.
    let mut sizes: BTreeMap<String, u64> = BTreeMap::new();
    let mut images: BTreeMap<String, (BTreeSet<String>, Vec<String>)> = BTreeMap::new();
    for (name, descriptor) in store.list()? {
        let Ok(image) = store.image(&descriptor) else { continue };
        let (parts, names) = images.entry(image.descriptor.digest().to_string()).or_default();
        names.extend(name);
        let blobs = image.manifest.layers().iter().chain([image.manifest.config(), &image.descriptor]);
        for blob in blobs {
            sizes.insert(blob.digest().to_string(), blob.size());
            parts.insert(blob.digest().to_string());
        }
        for chain in image.chain_ids().iter().filter(|chain| store.is_unpacked(chain)) {
            let key = format!("unpacked {chain}");
            if !sizes.contains_key(&key) {
                sizes.insert(key.clone(), disk_usage(&store.unpacked_path(chain))?);
            }
            parts.insert(key);
        }
    }
    let mut users: BTreeMap<&str, usize> = BTreeMap::new();
    for part in images.values().flat_map(|(parts, _)| parts) {
        *users.entry(part).or_default() += 1;
    }

    let mut table = table(&["IMAGE", "LAYERS", "SIZE", "SHARED", "UNIQUE"], &[1, 2, 3, 4]);
    let mut apart = 0;
    for (digest, (parts, names)) in &images {
        let sum = |shared: bool| -> u64 {
            parts.iter().filter(|part| (users[part.as_str()] > 1) == shared).map(|part| sizes[part]).sum()
        };
        let (shared, unique) = (sum(true), sum(false));
        apart += shared + unique;
        let name =
            if names.is_empty() { digest[..19.min(digest.len())].to_owned() } else { names.join(", ") };
        let layers = parts.len() - parts.iter().filter(|part| part.starts_with("unpacked")).count() - 2;
        table.add_row([name, layers.to_string(), size(shared + unique), size(shared), size(unique)]);
    }
    println!("{table}");
    let together: u64 = sizes.values().sum();
    println!(
        "\n{} on disk; without sharing it would be {} ({} saved)",
        size(together),
        size(apart),
        size(apart - together)
    );
    Ok(())
}

/// The images by name.
pub(crate) fn ls(store: &Store) -> Result<()> {
    let mut table = table(&["NAME", "IMAGE ID", "LAYERS", "COMPRESSED"], &[2, 3]);
    for (name, descriptor) in store.list()? {
        let name = name.unwrap_or_else(|| "<none>".into());
        match store.image(&descriptor) {
            Ok(image) => {
                let compressed = image.manifest.layers().iter().map(|layer| layer.size()).sum();
                let layers = image.manifest.layers().len();
                table.add_row([name, short(image.id()), layers.to_string(), size(compressed)]);
            }
            Err(error) => {
                table.add_row([name, error.to_string()]);
            }
        }
    }
    println!("{table}");
    Ok(())
}

fn table(header: &[&str], right: &[usize]) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(header);
    if let Some(first) = table.column_mut(0) {
        first.set_padding((0, 1));
    }
    for n in right {
        if let Some(column) = table.column_mut(*n) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

fn short(digest: &Digest) -> String {
    digest.digest()[..12].to_owned()
}

/// As docker prints sizes: in powers of a thousand, with three digits.
pub(crate) fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut unit = "B";
    for next in ["kB", "MB", "GB", "TB"] {
        if value < 1000.0 {
            break;
        }
        (value, unit) = (value / 1000.0, next);
    }
    let digits = if unit == "B" || value >= 100.0 {
        0
    } else if value >= 10.0 {
        1
    } else {
        2
    };
    format!("{value:.digits$}{unit}")
}
