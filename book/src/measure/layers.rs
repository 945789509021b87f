//! The same three commands in three, two and one `RUN`: what each image takes on top of its base.

use super::{Found, peers::said};
use crate::data::Row;
use anyhow::Result;
use std::fs;

const MAKE: &str = "RUN head -c 50000000 /dev/urandom > /big";
const MODE: &str = "chmod 600 /big";
const REMOVE: &str = "rm /big";

pub(super) fn run() -> Result<Found> {
    said("teu image base")?;
    let size = |image: &str| -> Result<f64> {
        Ok(said(&format!("teu image inspect -f {{{{.Size}}}} {image}"))?.trim().parse()?)
    };
    let base = size("base")?;
    let mut rows = Vec::new();
    for (key, name, ours, lines) in [
        ("three", "three RUN", false, format!("{MAKE}\nRUN {MODE}\nRUN {REMOVE}\n")),
        ("two", "two RUN: chmod && rm joined", false, format!("{MAKE}\nRUN {MODE} && {REMOVE}\n")),
        ("one", "one RUN: all joined", true, format!("{MAKE} && {MODE} && {REMOVE}\n")),
    ] {
        fs::create_dir(key)?;
        fs::write(format!("{key}/Dockerfile"), format!("FROM base\n{lines}"))?;
        said(&format!("teu build -q --network none -t {key} {key}"))?;
        let value = ((size(key)? - base) / 1e5).round() / 10.0;
        rows.push(Row { key: key.into(), name: name.into(), ours, value, ..Row::default() });
    }
    Ok(Found {
        title: "The same files, in three, two and one RUN",
        unit: "MB",
        with: vec![],
        rounds: None,
        rows,
    })
}
