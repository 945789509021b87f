//! The book's numbers: measured by `cargo book measure`, kept in `book/data/` with the date and the machine, put
//! into the text by name. So a number in the text has a command behind it, and no second copy.

use anyhow::{Context, Result, anyhow, bail};
use serde::{Deserialize, Serialize};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// One measured thing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Row {
    /// Its name in the text: `{{#number start.teu}}`.
    pub(crate) key: String,
    /// What it is, for a reader.
    pub(crate) name: String,
    /// The heading that it stands under, if there are several.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) group: String,
    /// Whether it is what this book is about, and not what it is compared with.
    #[serde(default)]
    pub(crate) ours: bool,
    /// The number; the median if it was measured several times.
    pub(crate) value: f64,
    /// The first and the third quartile, then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) quartiles: Option<[f64; 2]>,
}

/// A file of measurements.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Data {
    pub(crate) title: String,
    /// One of [`UNITS`].
    pub(crate) unit: String,
    pub(crate) date: String,
    /// How many processors, which, and the kernel.
    pub(crate) machine: String,
    /// The other programs that took part, with their versions.
    #[serde(default)]
    pub(crate) with: Vec<String>,
    /// How often each was measured, in turn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) rounds: Option<usize>,
    pub(crate) rows: Vec<Row>,
}

impl Data {
    /// Reads the measurement called `name`.
    pub(crate) fn read(root: &Path, name: &str) -> Result<Data> {
        let path = file(root, name);
        let text = fs::read_to_string(&path)
            .with_context(|| format!("the measurement `{name}`: cargo book measure {name}"))?;
        let data: Data = serde_json::from_str(&text).with_context(|| path.display().to_string())?;
        match scale(0.0, &data.unit) {
            Some(_) => Ok(data),
            None => bail!("{}: no unit is called {}", path.display(), data.unit),
        }
    }

    /// Keeps it as the measurement called `name`.
    pub(crate) fn write(&self, root: &Path, name: &str) -> Result<()> {
        let path = file(root, name);
        fs::write(&path, serde_json::to_string_pretty(self)? + "\n").context(path.display().to_string())
    }

    fn row(&self, key: &str) -> Result<&Row> {
        self.rows.iter().find(|row| row.key == key).ok_or_else(|| {
            let known: Vec<&str> = self.rows.iter().map(|row| row.key.as_str()).collect();
            anyhow!("no number `{key}` was measured there; there are {}", known.join(", "))
        })
    }

    /// A number as it is written, with its unit.
    pub(crate) fn shown(&self, value: f64) -> String {
        let (value, unit) = scale(value, &self.unit).unwrap_or((value, &self.unit));
        format!("{} {unit}", plain(value))
    }
}

/// `NAME.KEY`: one number, with its unit.
pub(crate) fn number(root: &Path, name: &str) -> Result<String> {
    let (data, key) = find(root, name)?;
    // A unit is not torn from its number by the end of a line.
    Ok(data.shown(data.row(&key)?.value).replace(' ', "\u{a0}"))
}

/// `NAME.KEY NAME.KEY`: how many times the second the first is.
pub(crate) fn ratio(root: &Path, names: &str) -> Result<String> {
    Ok(match quotient(root, names)? {
        ratio if ratio >= 10.0 => format!("{ratio:.0}"),
        ratio if ratio >= 1.0 => format!("{ratio:.1}").trim_end_matches(".0").to_owned(),
        ratio => format!("{ratio:.2}"),
    })
}

/// `NAME.KEY NAME.KEY`: how much of the second the first is, in percent.
pub(crate) fn percent(root: &Path, names: &str) -> Result<String> {
    let percent = 100.0 * quotient(root, names)?;
    Ok(if percent >= 1.0 { format!("{percent:.0}\u{a0}%") } else { format!("{}\u{a0}%", plain(percent)) })
}

fn quotient(root: &Path, names: &str) -> Result<f64> {
    let (first, second) = names.split_once(' ').context("two numbers: NAME.KEY NAME.KEY")?;
    let (ours, theirs) = (find(root, first)?, find(root, second)?);
    let base = |(data, key): &(Data, String)| {
        let value = data.row(key)?.value;
        let (kind, at) = place(&data.unit).context("its unit")?;
        Ok::<_, anyhow::Error>((kind, value * 1000_f64.powi(at as i32)))
    };
    let ((kind, value), (other, by)) = (base(&ours)?, base(&theirs)?);
    if kind != other || by == 0.0 {
        bail!("{first} cannot be divided by {second}");
    }
    Ok(value / by)
}

fn find(root: &Path, name: &str) -> Result<(Data, String)> {
    let (name, key) = name.split_once('.').context("a number is MEASUREMENT.KEY")?;
    Ok((Data::read(root, name)?, key.into()))
}

/// The units, each a thousand times the one before it.
const UNITS: [&[&str]; 2] = [&["µs", "ms", "s"], &["B", "kB", "MB", "GB"]];

/// Of which kind a unit is, and how large.
fn place(unit: &str) -> Option<(usize, usize)> {
    let at = |units: &&[&str]| units.iter().position(|known| *known == unit);
    UNITS.iter().enumerate().find_map(|(kind, units)| Some((kind, at(units)?)))
}

/// In the unit in which a number has one to three digits before the point.
fn scale(mut value: f64, unit: &str) -> Option<(f64, &'static str)> {
    let (kind, mut at) = place(unit)?;
    while value >= 999.5 && at + 1 < UNITS[kind].len() {
        (value, at) = (value / 1000.0, at + 1);
    }
    while value > 0.0 && value < 0.9995 && at > 0 {
        (value, at) = (value * 1000.0, at - 1);
    }
    Some((value, UNITS[kind][at]))
}

/// A number with as many places as say something.
fn plain(value: f64) -> String {
    let places = match value {
        v if v >= 99.95 => 0,
        v if v >= 9.995 => 1,
        _ => 2,
    };
    let text = format!("{value:.places$}");
    if places == 0 { text } else { text.trim_end_matches('0').trim_end_matches('.').to_owned() }
}

fn file(root: &Path, name: &str) -> PathBuf {
    root.join("book/data").join(format!("{name}.json"))
}

/// The measurements that are kept.
pub(crate) fn names(root: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(root.join("book/data"))? {
        let path = entry?.path();
        names.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{make, measure};
    use std::collections::BTreeSet;

    #[test]
    fn every_file_has_a_date_a_machine_and_a_command_that_makes_it() {
        let root = make::workspace();
        let names = names(&root).unwrap();
        assert_eq!(names.iter().map(String::as_str).collect::<BTreeSet<_>>(), measure::names().collect());
        for name in names {
            let data = Data::read(&root, &name).unwrap();
            let date: Vec<usize> = data.date.split('-').map(str::len).collect();
            assert_eq!(date, [4, 2, 2], "{name} was measured on {}", data.date);
            assert!(data.machine.contains(" × ") && data.machine.contains("Linux "), "{name}: {data:?}");
            assert!(!data.title.is_empty() && data.rows.len() > 1, "{name}");
            let keys: BTreeSet<&str> = data.rows.iter().map(|row| row.key.as_str()).collect();
            assert_eq!(keys.len(), data.rows.len(), "{name}: two rows have one key");
            for row in &data.rows {
                let [low, high] = row.quartiles.unwrap_or([row.value; 2]);
                assert!(low >= 0.0 && low <= row.value && row.value <= high, "{name}: {row:?}");
                assert_eq!(row.quartiles.is_some(), data.rounds.is_some(), "{name}: {row:?}");
                // What does not fit beside its number at 360 pixels would lie over it.
                assert!(row.name.chars().count() <= 38, "{name}: too long: {}", row.name);
            }
        }
    }

    #[test]
    fn numbers_are_written_short() {
        let written = |value, unit| {
            let (value, unit) = scale(value, unit).unwrap();
            format!("{} {unit}", plain(value))
        };
        let cases = [(1504.0, "kB"), (5712.3, "ms"), (0.0525, "MB"), (267.4, "ms"), (14.68, "ms")];
        let texts = cases.map(|(value, unit)| written(value, unit));
        assert_eq!(texts, ["1.5 MB", "5.71 s", "52.5 kB", "267 ms", "14.7 ms"]);
        assert_eq!([written(0.0, "MB"), written(999.6, "kB"), written(3.0, "ms")], ["0 MB", "1 MB", "3 ms"]);
        assert!(scale(1.0, "furlong").is_none());
    }

    #[test]
    fn two_numbers_are_compared_whatever_their_units() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("book/data")).unwrap();
        let row = |key: &str, value| Row { key: key.into(), name: key.into(), value, ..Row::default() };
        let data = |unit: &str, rows| Data {
            title: "t".into(),
            unit: unit.into(),
            date: "2026-01-01".into(),
            machine: "m".into(),
            with: vec![],
            rounds: None,
            rows,
        };
        let write = |name, data: Data| data.write(root.path(), name).unwrap();
        write("a", data("ms", vec![row("x", 40.0), row("zero", 0.0)]));
        write("b", data("s", vec![row("y", 5.0)]));
        write("c", data("kB", vec![row("z", 1.0)]));
        let ratio = |names| ratio(root.path(), names);
        assert_eq!(ratio("b.y a.x").unwrap(), "125");
        assert_eq!(ratio("a.x b.y").unwrap(), "0.01");
        assert_eq!(percent(root.path(), "a.x b.y").unwrap(), "0.8\u{a0}%");
        assert_eq!(number(root.path(), "b.y").unwrap(), "5\u{a0}s");
        assert!(ratio("a.x c.z").unwrap_err().to_string().contains("cannot be divided"));
        assert!(ratio("a.x a.zero").unwrap_err().to_string().contains("cannot be divided"));
        assert!(ratio("a.x a.w").unwrap_err().to_string().contains("there are x, zero"));
        assert!(format!("{:#}", ratio("a.x d.w").unwrap_err()).contains("cargo book measure d"));
    }
}
