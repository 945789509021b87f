//! Variables, labels and other pairs, from flags and from files of one a line.

use anyhow::{Context, Result, anyhow, bail};
use std::{collections::HashMap, fs};

/// Variables from files and flags. One without a value is taken from our own environment, or not set at all.
pub(crate) fn environment(flags: &[String], files: &[String]) -> Result<Vec<String>> {
    let mut variables = Vec::new();
    let mut add = |text: &str| {
        if text.contains('=') {
            variables.push(text.to_owned());
        } else if let Ok(value) = std::env::var(text) {
            variables.push(format!("{text}={value}"));
        }
    };
    for file in files {
        let text = fs::read_to_string(file).with_context(|| format!("open {file}"))?;
        for line in text.lines().map(str::trim_start).filter(|l| !l.is_empty() && !l.starts_with('#')) {
            let name = line.split('=').next().unwrap_or_default();
            if name.is_empty() || name.contains(char::is_whitespace) {
                bail!("invalid env file ({file}): variable '{name}' contains whitespaces or has no name");
            }
            add(line);
        }
    }
    for flag in flags {
        if flag.starts_with('=') || flag.is_empty() {
            bail!("invalid environment variable: {flag}");
        }
        add(flag);
    }
    Ok(variables)
}

/// Labels from files and flags; one without a value has the empty one.
pub(crate) fn labels(flags: &[String], files: &[String]) -> Result<HashMap<String, String>> {
    let mut all = HashMap::new();
    let mut add = |text: &str| {
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        all.insert(key.to_owned(), value.to_owned());
    };
    for file in files {
        let text = fs::read_to_string(file).with_context(|| format!("open {file}"))?;
        text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#')).for_each(&mut add);
    }
    flags.iter().for_each(|flag| add(flag));
    Ok(all)
}

/// `key=value` of a flag.
pub(crate) fn pairs(flag: &str, list: &[String]) -> Result<HashMap<String, String>> {
    list.iter()
        .map(|text| {
            let (key, value) = text
                .split_once('=')
                .ok_or_else(|| anyhow!("invalid --{flag} '{text}': write it as key=value"))?;
            Ok((key.to_owned(), value.to_owned()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_come_from_flags_files_and_here() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "# a comment\nA=1\n\nB=two words\nNOT_SET_ANYWHERE\n").unwrap();
        let file = [file.path().display().to_string()];
        let seen = environment(&["C=3".into(), "PATH".into(), "NOT_SET_ANYWHERE".into()], &file).unwrap();
        assert_eq!(seen[..3], ["A=1", "B=two words", "C=3"]);
        assert!(seen[3].starts_with("PATH=/") && seen.len() == 4, "{seen:?}");
    }
}
