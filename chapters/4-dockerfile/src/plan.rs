//! Which stages are built: the one that is asked for, and those that it needs.

use crate::{Error, Result, tree::Dockerfile};

/// The numbers of the stages to build, in their order; the last is the target.
pub(crate) fn plan(file: &Dockerfile, target: Option<&str>) -> Result<Vec<usize>> {
    let last = match target {
        None => file.stages.len() - 1,
        Some(target) => find(file, target, file.stages.len())
            .or_else(|| target.parse().ok().filter(|n| *n < file.stages.len()))
            .ok_or_else(|| Error::Plan(not_reachable(file, target)))?,
    };
    let mut needed = vec![false; last + 1];
    needed[last] = true;
    // Backwards: a stage needs only stages before it.
    for number in (0..=last).rev().filter(|_| true) {
        if needed[number] {
            for other in needs(file, number) {
                needed[other] = true;
            }
        }
    }
    Ok((0..=last).filter(|n| needed[*n]).collect())
}

/// The stages whose files a stage takes.
fn needs(file: &Dockerfile, number: usize) -> Vec<usize> {
    let stage = &file.stages[number];
    let mut needed = Vec::new();
    needed.extend(find(file, &stage.base, number));
    for i in &stage.instructions {
        // `COPY --from=build`, `RUN --mount=type=bind,from=build`
        let from = i.flag("from").into_iter().map(str::to_owned);
        let mounts = i.flags.iter().filter(|f| f.name == "mount").filter_map(|f| f.value.as_deref());
        let mounts = mounts.flat_map(|m| m.split(',')).filter_map(|field| field.strip_prefix("from="));
        for name in from.chain(mounts.map(str::to_owned)) {
            match () {
                // Only known when it runs: any of them.
                () if name.contains('$') => needed.extend(0..number),
                () => needed
                    .extend(find(file, &name, number).or_else(|| name.parse().ok().filter(|n| *n < number))),
            }
        }
    }
    // A name with a variable in FROM, and what an image's ONBUILD will take.
    if stage.base.contains('$') {
        needed.extend((0..number).filter(|n| file.stages[*n].name.is_some()));
    }
    needed
}

/// The last stage of this name before `limit`.
fn find(file: &Dockerfile, name: &str, limit: usize) -> Option<usize> {
    let name = name.to_ascii_lowercase();
    (0..limit).rev().find(|n| file.stages[*n].name.as_ref() == Some(&name))
}

fn not_reachable(file: &Dockerfile, target: &str) -> String {
    let names: Vec<_> = file.stages.iter().filter_map(|s| s.name.as_deref()).collect();
    let has = if names.is_empty() {
        "no stage has a name".into()
    } else {
        format!("there are {}", names.join(", "))
    };
    format!("target stage {target:?} could not be found: {has}")
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
