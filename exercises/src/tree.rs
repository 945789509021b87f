//! Copies of the engine: the reader's, in which bodies are missing, and the grader's, into which the
//! reader's bodies are put. The grader takes nothing but the bodies: everything else, tests and
//! build files included, comes from the course.

use crate::{course::Exercise, source};
use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// What of the course a copy holds: the engine and its chapters.
const PARTS: [&str; 9] = [
    "Cargo.lock",
    "rustfmt.toml",
    "rust-toolchain.toml",
    ".cargo",
    "build.rs",
    "src",
    "chapters",
    "benches",
    "tests/kit",
];

/// The course: the workspace that this program was built in.
pub fn course() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

/// Makes the reader's workspace in `dir`, which must not exist or be empty.
pub fn start(course: &Path, dir: &Path, exercises: &[&Exercise]) -> Result<()> {
    if fs::read_dir(dir).is_ok_and(|mut d| d.next().is_some()) {
        bail!("{} is not empty. Name a new directory: cargo lab start DIR", dir.display());
    }
    copy(course, dir)?;
    for exercise in exercises {
        blank(dir, exercise)?;
    }
    fs::write(dir.join(".gitignore"), "/target\n/.engine\n").context("write .gitignore")?;
    // So that `cargo lab` is understood inside the workspace too, for this workspace and by this course.
    let dir = dir.canonicalize().with_context(|| dir.display().to_string())?;
    let words = ["run", "--quiet", "--manifest-path"].map(str::to_owned).into_iter();
    let words = words.chain([course.join("Cargo.toml").display().to_string()]);
    let words = words.chain(["--package", "lab", "--", "-C"].map(str::to_owned));
    let words: Vec<String> = words.chain([dir.display().to_string()]).collect();
    let alias = format!("[alias]\nlab = {}\n", serde_json::to_string(&words).context("write the alias")?);
    fs::write(dir.join(".cargo/config.toml"), alias).context("write .cargo/config.toml")
}

/// Takes an exercise's bodies out, leaving the sentence of what is to be written.
pub fn blank(dir: &Path, exercise: &Exercise) -> Result<()> {
    for item in exercise.items {
        source::replace(dir, &[(item, todo(exercise))])?;
    }
    Ok(())
}

/// What stands in the place of a body that is to be written.
pub fn todo(exercise: &Exercise) -> String {
    format!("\n    todo!(\"{}: cargo lab show {}\")\n", exercise.title, exercise.id)
}

/// Copies the course's engine, writing only what differs: a file that keeps its time is not compiled again.
pub fn copy(course: &Path, to: &Path) -> Result<()> {
    copy_with(course, to, &BTreeMap::new())
}

/// Copies the engine, with these files as they are given here.
pub(crate) fn copy_with(course: &Path, to: &Path, changed: &BTreeMap<String, String>) -> Result<()> {
    for part in PARTS {
        if course.join(part).exists() {
            copy_path(course, to, Path::new(part), changed)?;
        }
    }
    let manifest = to.join("Cargo.toml");
    let text = fs::read_to_string(course.join("Cargo.toml"))?;
    write_if_changed(&manifest, engine_only(&text).as_bytes())
}

/// The workspace's manifest without the book, the lab, tests and benchmarks.
fn engine_only(manifest: &str) -> String {
    let kept = manifest.lines().filter(|l| !matches!(l.trim(), "\"book\"," | "\"exercises\","));
    let text = kept.collect::<Vec<_>>().join("\n");
    let mut sections: Vec<&str> = text.split("\n[").collect();
    sections.retain(|s| !s.starts_with("[test]]") && !s.starts_with("[bench]]"));
    sections.join("\n[") + "\n"
}

fn copy_path(course: &Path, to: &Path, part: &Path, changed: &BTreeMap<String, String>) -> Result<()> {
    let (from, into) = (course.join(part), to.join(part));
    if from.is_file() {
        if let Some(text) = part.to_str().and_then(|name| changed.get(name)) {
            return write_if_changed(&into, text.as_bytes());
        }
        return write_if_changed(&into, &fs::read(&from).with_context(|| from.display().to_string())?);
    }
    fs::create_dir_all(&into).with_context(|| into.display().to_string())?;
    for entry in fs::read_dir(&from).with_context(|| from.display().to_string())? {
        copy_path(course, to, &part.join(entry?.file_name()), changed)?;
    }
    Ok(())
}

fn write_if_changed(path: &Path, bytes: &[u8]) -> Result<()> {
    if fs::read(path).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).with_context(|| parent.display().to_string())?;
    }
    fs::write(path, bytes).with_context(|| path.display().to_string())
}

/// The bodies that the reader wrote for an exercise.
pub fn answer(dir: &Path, exercise: &Exercise) -> Result<Vec<(&'static str, String)>> {
    exercise.items.iter().map(|item| Ok((*item, source::body(dir, item)?.text))).collect()
}

/// A digest of all that a verdict depends on, but for the answer: the engine, and the lab.
pub fn digest(course: &Path) -> Result<String> {
    let mut hash = Sha256::new();
    let parts = PARTS.iter().chain(&["Cargo.toml", "exercises/src"]);
    let mut open: Vec<PathBuf> = parts.map(|part| course.join(part)).filter(|p| p.exists()).collect();
    let mut files = Vec::new();
    while let Some(path) = open.pop() {
        if path.is_dir() {
            for entry in fs::read_dir(&path).with_context(|| path.display().to_string())? {
                open.push(entry?.path());
            }
        } else {
            files.push(path);
        }
    }
    files.sort();
    for path in files {
        let text = fs::read(&path).with_context(|| path.display().to_string())?;
        hash.update(format!("{} {}\n", path.display(), text.len()));
        hash.update(text);
    }
    Ok(hash.finalize().iter().map(|b| format!("{b:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engine_stands_without_book_lab_and_tests() {
        let text = engine_only(
            "[workspace]\nmembers = [\n    \"chapters/1\",\n    \"book\",\n]\n\n[package]\nname = \"teu\"\n\n[[test]]\nname = \"api\"\n\n[profile.dev]\nopt-level = 1",
        );
        assert_eq!(
            text,
            "[workspace]\nmembers = [\n    \"chapters/1\",\n]\n\n[package]\nname = \"teu\"\n\n[profile.dev]\nopt-level = 1\n"
        );
    }
}
