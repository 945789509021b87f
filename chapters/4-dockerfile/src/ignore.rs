//! The ignore file (`.dockerignore`): which paths of the context a build does not see.
//!
//! One pattern a line, with the rules of Go's `filepath.Match` and besides `**` for any number of
//! directories. A pattern that matches a directory matches all below it. A line that begins with `!` takes
//! paths back. The last line that matches decides.

use crate::{Error, Result, glob::Pattern};

/// The ignore file's patterns.
#[derive(Clone, Debug, Default)]
pub struct Ignore {
    rules: Vec<Rule>,
    /// Whether a line takes something back: only then may an excluded directory hold included files.
    exceptions: bool,
}

#[derive(Clone, Debug)]
struct Rule {
    /// It takes paths back.
    back: bool,
    pattern: Pattern,
}

/// Which rules match a path or one of the directories above it. (A rule that matched a directory matches
/// everything below, so a walk hands this down from directory to directory.)
#[derive(Clone, Debug, Default)]
pub struct Matched(Vec<bool>);

impl Ignore {
    /// Reads it. `file` is its name, for errors.
    pub fn parse(text: &str, file: &str) -> Result<Ignore> {
        let mut ignore = Ignore::default();
        for line in text.strip_prefix('\u{feff}').unwrap_or(text).lines() {
            if line.starts_with('#') || line.trim().is_empty() {
                continue;
            }
            ignore.add(line.trim()).map_err(|message| Error::Ignore { file: file.into(), message })?;
        }
        Ok(ignore)
    }

    /// Adds one pattern, which decides over those before it.
    pub fn add(&mut self, line: &str) -> Result<(), String> {
        let (back, text) = line.strip_prefix('!').map_or((false, line), |rest| (true, rest.trim()));
        if text.is_empty() {
            return Err(format!("illegal exclusion pattern: {line:?}"));
        }
        let pattern = Pattern::path(&clean(text), true)?;
        self.exceptions |= back;
        self.rules.push(Rule { back, pattern });
        Ok(())
    }

    /// Whether nothing is excluded.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether below an excluded directory something may be included.
    pub fn has_exceptions(&self) -> bool {
        self.exceptions
    }

    /// The rules that match `path` (relative, no leading slash), given those that match its directory.
    pub fn matched(&self, parent: &Matched, path: &str) -> Matched {
        // The context itself is not in the context.
        if path.is_empty() {
            return Matched::default();
        }
        let above = |i: usize| parent.0.get(i).copied().unwrap_or(false);
        Matched(self.rules.iter().enumerate().map(|(i, r)| above(i) || r.pattern.matches(path)).collect())
    }

    /// Whether the last rule that matched excludes.
    pub fn excludes(&self, matched: &Matched) -> bool {
        self.rules.iter().zip(&matched.0).rev().find(|(_, m)| **m).is_some_and(|(rule, _)| !rule.back)
    }

    /// The rules that match `path`, itself or by a directory above it.
    pub fn matched_deep(&self, path: &str) -> Matched {
        let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
        ends.fold(Matched::default(), |above, end| self.matched(&above, &path[..end]))
    }

    /// Whether `path` is excluded, itself or by a directory above it.
    pub fn is_excluded(&self, path: &str) -> bool {
        self.excludes(&self.matched_deep(path))
    }
}

/// A path without `.`, `..`, doubled and outer slashes (Go's `filepath.Clean`, made relative).
fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if path.starts_with('/') || parts.last().is_some_and(|p| *p != "..") => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    if parts.is_empty() { ".".into() } else { parts.join("/") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn excluded(rules: &str, path: &str) -> bool {
        Ignore::parse(rules, ".dockerignore").unwrap().is_excluded(path)
    }

    #[test]
    fn table() {
        for (rules, path, expected) in [
            ("a", "a", true),
            ("a", "a/b/c", true),
            ("a", "ab", false),
            ("a", "x/a", false),
            ("/a/", "a/b", true),
            ("./a/../b", "b", true),
            ("*/temp*", "x/tempfile", true),
            ("*/temp*", "temp", false),
            ("*/*/temp*", "x/y/temp.txt", true),
            ("temp?", "tempa", true),
            ("**/*.go", "a/b/c.go", true),
            ("**/*.go", "c.go", true),
            ("*.md\n!README.md", "README.md", false),
            ("*.md\n!README.md", "OTHER.md", true),
            ("*.md\n!README*.md\nREADME-secret.md", "README-secret.md", true),
            ("*.md\nREADME-secret.md\n!README*.md", "README-secret.md", false),
            ("a\n!a/keep", "a/keep", false),
            ("a\n!a/keep", "a/other", true),
            ("a\n!a/keep", "a/keep/below", false),
            ("*\n!src", "src/main.rs", false),
            ("*\n!src", "target/x", true),
            ("# a\n#b", "a", false),
            ("  a  ", "a", true),
            (" # a", "# a", true),
            ("!a\na", "a", true),
            ("! a", "a", false),
            (".", "a", false),
            ("..", "a", false),
            ("\u{feff}a", "a", true),
            ("", "a", false),
            ("*", "", false),
            ("**", "a/b", true),
        ] {
            assert_eq!(excluded(rules, path), expected, "{rules:?} {path}");
        }
    }

    #[test]
    fn what_is_no_pattern_is_named() {
        let message = Ignore::parse("ok\n[", ".dockerignore").unwrap_err().to_string();
        assert_eq!(message, ".dockerignore: syntax error in pattern \"[\"");
        assert!(Ignore::parse("!", "x").is_err());
    }
}
