//! Parser directives: comments of the form `# key=value` before anything else.

use crate::{Error, Result};
use std::collections::BTreeMap;

/// Those that mean something. Any other first comment is a comment, and ends them.
const KNOWN: [&str; 3] = ["escape", "syntax", "check"];

/// Reads the directives of the first lines. They end at the first line that is none, be it blank: below
/// that, `# escape=` is a comment like any other.
pub(super) fn read(text: &str) -> Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    for (number, line) in text.lines().enumerate() {
        let Some((key, value)) = line.trim().strip_prefix('#').and_then(|l| l.split_once('=')) else { break };
        let (key, value) = (key.trim().to_ascii_lowercase(), value.trim());
        if !KNOWN.contains(&key.as_str()) {
            break;
        }
        let wrong = |message| Err(Error::Syntax { line: number + 1, message });
        if key == "escape" && !["\\", "`"].contains(&value) {
            return wrong(format!("invalid escape token '{value}' does not match ` or \\"));
        }
        if found.contains_key(&key) {
            return wrong(format!("only one {key} parser directive can be used"));
        }
        found.insert(key, value.to_owned());
    }
    Ok(found)
}

/// The escape character they ask for. (Windows' paths are why there is a choice.)
pub(super) fn escape(directives: &BTreeMap<String, String>) -> char {
    match directives.get("escape").map(String::as_str) {
        Some("`") => '`',
        _ => '\\',
    }
}
