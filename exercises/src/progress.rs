//! What has been solved: `progress.txt` in the reader's directory, a line an exercise, made to be
//! committed. It is a convenience for the reader; a grade never believes it.

use crate::files;
use anyhow::{Context, Result};
use std::{collections::BTreeMap, fs, path::Path};

/// The file's name.
pub const FILE: &str = "progress.txt";

/// What the reader did, by exercise.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// `solved`, `given up`, and how many hints were taken.
    pub entries: BTreeMap<String, Entry>,
}

/// One exercise.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// Its check has passed once.
    pub solved: bool,
    /// The solution was shown before that.
    pub gave_up: bool,
    /// Hints taken.
    pub hints: usize,
}

impl Progress {
    /// Reads it; none is an empty one.
    pub fn read(dir: &Path) -> Result<Progress> {
        let path = dir.join(FILE);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(e) => return Err(e).with_context(|| path.display().to_string()),
        };
        let mut progress = Progress::default();
        for line in text.lines().filter(|l| !l.starts_with('#') && !l.trim().is_empty()) {
            let mut words = line.split_whitespace();
            let Some(id) = words.next() else { continue };
            let entry = progress.entries.entry(id.to_owned()).or_default();
            for word in words {
                match word.split_once('=') {
                    Some(("hints", n)) => entry.hints = n.parse().unwrap_or(0),
                    _ if word == "solved" => entry.solved = true,
                    _ if word == "gave-up" => entry.gave_up = true,
                    _ => {}
                }
            }
        }
        Ok(progress)
    }

    /// Writes it beside and renames it, so that it is never half there.
    pub fn write(&self, dir: &Path) -> Result<()> {
        let mut text = String::from(
            "# What you have done in the lab. Commit it if you like; a grade does not believe it.\n",
        );
        for (id, e) in &self.entries {
            text.push_str(id);
            if e.solved {
                text.push_str(" solved");
            }
            if e.gave_up {
                text.push_str(" gave-up");
            }
            if e.hints > 0 {
                text.push_str(&format!(" hints={}", e.hints));
            }
            text.push('\n');
        }
        files::write(&dir.join(FILE), text.as_bytes())
    }

    /// One exercise's line, to be changed.
    pub fn entry(&mut self, id: &str) -> &mut Entry {
        self.entries.entry(id.to_owned()).or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut progress = Progress::default();
        progress.entry("namespaces/clone").solved = true;
        *progress.entry("namespaces/pivot") = Entry { solved: false, gave_up: true, hints: 2 };
        progress.write(dir.path()).expect("written");
        assert_eq!(Progress::read(dir.path()).expect("read"), progress);
    }

    #[test]
    fn none_is_empty() {
        let dir = tempfile::tempdir().expect("a directory");
        assert_eq!(Progress::read(dir.path()).expect("read"), Progress::default());
    }
}
