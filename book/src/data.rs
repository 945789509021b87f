//! The book's numbers: measured by `cargo book measure`, kept in `book/data/` with the date and the machine, put
//! into the text by name. So a number in the text has a command behind it, and no second copy.

use anyhow::{Context, Result, anyhow};
use serde_json::{Value, json};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::world::World;

/// One measured thing.
pub(crate) struct Row {
    /// Its name in the text: `{{#number start.teu}}`.
    pub(crate) key: String,
    /// What it is, for a reader.
    pub(crate) name: String,
    pub(crate) value: f64,
}

/// A file of measurements.
pub(crate) struct Data {
    pub(crate) title: String,
    pub(crate) unit: String,
    pub(crate) date: String,
    pub(crate) machine: String,
    pub(crate) rows: Vec<Row>,
}

impl Data {
    /// Reads the measurement called `name`.
    pub(crate) fn read(root: &Path, name: &str) -> Result<Data> {
        let path = file(root, name);
        let text = fs::read_to_string(&path).with_context(|| {
            format!("the measurement `{name}` ({}): cargo book measure {name}", path.display())
        })?;
        let value: Value = serde_json::from_str(&text).with_context(|| path.display().to_string())?;
        let text =
            |key: &str| value[key].as_str().map(str::to_owned).with_context(|| format!("{name}: no `{key}`"));
        let row = |row: &Value| {
            Some(Row {
                key: row["key"].as_str()?.into(),
                name: row["name"].as_str()?.into(),
                value: row["value"].as_f64()?,
            })
        };
        let rows: Option<Vec<Row>> = value["rows"].as_array().into_iter().flatten().map(row).collect();
        Ok(Data {
            title: text("title")?,
            unit: text("unit")?,
            date: text("date")?,
            machine: text("machine")?,
            rows: rows.with_context(|| format!("{name}: a row is not whole"))?,
        })
    }

    /// The number called `key`, with its unit.
    pub(crate) fn number(&self, key: &str) -> Result<String> {
        let row = self.rows.iter().find(|row| row.key == key);
        let row = row.ok_or_else(|| {
            let known: Vec<&str> = self.rows.iter().map(|row| row.key.as_str()).collect();
            anyhow!("no number `{key}` was measured there; there are {}", known.join(", "))
        })?;
        Ok(format!("{} {}", plain(row.value), self.unit))
    }
}

/// A number with as many places as say something.
pub(crate) fn plain(value: f64) -> String {
    match value {
        v if v >= 100.0 || v == v.trunc() => format!("{v:.0}"),
        v if v >= 10.0 => format!("{v:.1}").trim_end_matches(".0").to_owned(),
        v => format!("{v:.2}").trim_end_matches('0').trim_end_matches('.').to_owned(),
    }
}

fn file(root: &Path, name: &str) -> PathBuf {
    root.join("book/data").join(format!("{name}.json"))
}

/// The measurements that there are: the scripts of `book/measure`.
pub(crate) fn names(root: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(root.join("book/measure"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "sh") {
            names.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
        }
    }
    names.sort();
    Ok(names)
}

/// Runs the script of a measurement in a world of its own, with the programs built in `programs`, and keeps what it
/// prints: `key<TAB>name<TAB>value` lines, after `title` and `unit`.
pub(crate) fn measure(root: &Path, name: &str, programs: &Path) -> Result<()> {
    let script = root.join("book/measure").join(format!("{name}.sh"));
    let script = script.to_str().context("a path in UTF-8")?;
    let programs = fs::canonicalize(programs)
        .with_context(|| format!("{} (cargo build --release --workspace makes them)", programs.display()))?;
    let world = World::new(&programs, true)?;
    let output = world
        .command(&["bash", "-eu", script])
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run the measurement (it needs root)")?;
    world.end();
    if !output.status.success() {
        return Err(anyhow!("{script} failed: {}", output.status));
    }
    let text = String::from_utf8(output.stdout)?;
    let (mut title, mut unit, mut rows) = (String::new(), String::new(), Vec::new());
    for line in text.lines() {
        match line.split('\t').collect::<Vec<_>>()[..] {
            ["title", value] => title = value.into(),
            ["unit", value] => unit = value.into(),
            [key, name, value] => {
                let value: f64 = value.parse().with_context(|| format!("{script} printed {line:?}"))?;
                rows.push(json!({"key": key, "name": name, "value": value}));
            }
            _ => return Err(anyhow!("{script} printed {line:?}, which is no measurement")),
        }
    }
    let data = json!({
        "title": title, "unit": unit, "date": said("date", &["-u", "+%Y-%m-%d"])?, "machine": machine()?,
        "command": format!("cargo book measure {name}"), "rows": rows,
    });
    let path = file(root, name);
    fs::write(&path, serde_json::to_string_pretty(&data)? + "\n")
        .with_context(|| path.display().to_string())?;
    print!("{text}");
    Ok(())
}

/// The machine in a few words.
fn machine() -> Result<String> {
    let info = fs::read_to_string("/proc/cpuinfo")?;
    let model = info.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("\t: a processor");
    let count = info.lines().filter(|line| line.starts_with("processor")).count();
    let kernel = said("uname", &["-r"])?;
    let kernel = kernel.split('-').next().unwrap_or_default();
    Ok(format!("{count} × {}, Linux {kernel}", model.trim_start_matches(['\t', ':', ' '])))
}

fn said(program: &str, words: &[&str]) -> Result<String> {
    let output = Command::new(program).args(words).output().with_context(|| program.to_owned())?;
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}
