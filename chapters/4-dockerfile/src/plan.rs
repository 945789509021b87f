//! Which stages are built: the one that is asked for, and those that it needs.

use crate::{Error, Result, tree::Dockerfile};

/// The numbers of the stages to build, in their order; the last is the target.
pub(crate) fn plan(file: &Dockerfile, target: Option<&str>) -> Result<Vec<usize>> {
    let last = match target {
        None => file.stages.len() - 1,
        Some(name) => stage(file, name, file.stages.len()).ok_or_else(|| not_reachable(file, name))?,
    };
    let mut needed = vec![false; last + 1];
    needed[last] = true;
    // Backwards, since a stage needs only stages before it.
    for number in (0..=last).rev() {
        if needed[number] {
            needs(file, number).into_iter().for_each(|other| needed[other] = true);
        }
    }
    Ok((0..=last).filter(|n| needed[*n]).collect())
}

/// The stages that one takes files from.
fn needs(file: &Dockerfile, number: usize) -> Vec<usize> {
    let this = &file.stages[number];
    let mut needed: Vec<usize> = named(file, &this.base, number).into_iter().collect();
    if this.base.contains('$') {
        // Only known when it is executed: any that has a name.
        needed.extend((0..number).filter(|n| file.stages[*n].name.is_some()));
    }
    for flag in this.instructions.iter().flat_map(|i| &i.flags) {
        let value = flag.value.as_deref().unwrap_or("");
        let name = match flag.name.as_str() {
            "from" => Some(value),
            // `--mount=type=bind,from=build`
            "mount" => value.split(',').find_map(|field| field.strip_prefix("from=")),
            _ => None,
        };
        match name {
            Some(name) if name.contains('$') => needed.extend(0..number),
            Some(name) => needed.extend(stage(file, name, number)),
            None => {}
        }
    }
    needed
}

/// The stage before `limit` of this name or number.
fn stage(file: &Dockerfile, name: &str, limit: usize) -> Option<usize> {
    named(file, name, limit).or_else(|| name.parse().ok().filter(|n| *n < limit))
}

/// The last stage of this name before `limit`.
fn named(file: &Dockerfile, name: &str, limit: usize) -> Option<usize> {
    let name = name.to_ascii_lowercase();
    (0..limit).rev().find(|n| file.stages[*n].name.as_ref() == Some(&name))
}

fn not_reachable(file: &Dockerfile, target: &str) -> Error {
    let names: Vec<_> = file.stages.iter().filter_map(|s| s.name.as_deref()).collect();
    let has = match names.is_empty() {
        true => "no stage has a name".into(),
        false => format!("there are {}", names.join(", ")),
    };
    Error::Plan(format!("target stage {target:?} could not be found: {has}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "FROM a AS base\nFROM base AS tools\nFROM scratch AS unused\nFROM scratch AS files\n\
        FROM tools\nCOPY --from=3 / /\nFROM scratch as last\nRUN --mount=from=files,target=/x y";

    fn planned(target: Option<&str>) -> Result<Vec<usize>> {
        plan(&crate::parse(FILE).unwrap(), target)
    }

    #[test]
    fn only_what_is_needed() {
        assert_eq!(planned(None).unwrap(), [3, 5]);
        assert_eq!(planned(Some("4")).unwrap(), [0, 1, 3, 4]);
        assert_eq!(planned(Some("TOOLS")).unwrap(), [0, 1]);
        let message = planned(Some("x")).unwrap_err().to_string();
        assert!(
            message.starts_with("target stage \"x\" could not be found: there are base, tools"),
            "{message}"
        );
    }
}
