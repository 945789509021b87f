//! `EXPOSE`, `VOLUME`: what a container is to have, said in advance.

use super::{Keyword, not_empty};
use crate::{
    Error, Result, config,
    stage::Stage,
    tree::{Args, Form, Instruction},
};
use std::collections::BTreeSet;

pub(super) static EXPOSE: Keyword = Keyword {
    name: "EXPOSE",
    form: Form::Words,
    flags: &[],
    heredocs: false,
    check: not_empty,
    apply: expose,
};

pub(super) static VOLUME: Keyword =
    Keyword { name: "VOLUME", form: Form::Paths, flags: &[], heredocs: false, check: volumes, apply: volume };

fn expose(stage: &mut Stage, i: &Instruction) -> Result<()> {
    let mut words = stage.expand_words(&i.words().join(" "))?;
    words.sort();
    let mut ports = BTreeSet::new();
    for word in &words {
        ports.extend(range(word).map_err(Error::Plan)?);
    }
    config::insert(&mut stage.config.config.exposed_ports, ports);
    stage.record(&format!("EXPOSE {}", words.join(" ")))
}

/// `80`, `80/udp`, `8000-8010/tcp`: each port with its protocol.
fn range(word: &str) -> Result<Vec<String>, String> {
    let wrong = || format!("invalid containerPort: {word}");
    let (ports, protocol) = word.split_once('/').unwrap_or((word, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    if !["tcp", "udp", "sctp"].contains(&protocol.as_str()) {
        return Err(format!("invalid proto: {protocol}; it is tcp, udp or sctp"));
    }
    // `host:container`: only the container's port is the image's business.
    let ports = ports.rsplit(':').next().unwrap_or(ports);
    let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
    let port = |text: &str| text.parse::<u16>().map_err(|_| wrong());
    let (first, last) = (port(first)?, port(last)?);
    if first > last {
        return Err(wrong());
    }
    Ok((first..=last).map(|port| format!("{port}/{protocol}")).collect())
}

fn volumes(i: &Instruction) -> Result<(), String> {
    match i.words()[..] {
        [] => Err("VOLUME requires at least one argument".into()),
        ref paths if paths.iter().any(|path| path.trim().is_empty()) => Err(EMPTY.into()),
        _ => Ok(()),
    }
}

const EMPTY: &str = "VOLUME specified can not be an empty string";

fn volume(stage: &mut Stage, i: &Instruction) -> Result<()> {
    let mut paths = Vec::new();
    for word in i.words() {
        // In JSON each element is one path, with whatever spaces; otherwise a variable may hold many.
        match &i.args {
            Args::Json(_) => paths.push(stage.expand(word)?),
            _ => paths.extend(stage.expand_words(word)?),
        }
    }
    // It may have become empty by a variable.
    if paths.iter().any(|path| path.trim().is_empty()) {
        return Err(Error::Plan(EMPTY.into()));
    }
    config::insert(&mut stage.config.config.volumes, paths.iter().cloned().collect());
    stage.record(&format!("VOLUME [{}]", paths.join(" ")))
}

#[cfg(test)]
mod tests {
    use super::range;

    #[test]
    fn ports() {
        assert_eq!(range("80").unwrap(), ["80/tcp"]);
        assert_eq!(range("80/UDP").unwrap(), ["80/udp"]);
        assert_eq!(range("80-82/tcp").unwrap(), ["80/tcp", "81/tcp", "82/tcp"]);
        assert_eq!(range("8080:80").unwrap(), ["80/tcp"]);
        for wrong in ["", "x", "70000", "82-80", "80/icmp", "-", "80-"] {
            assert!(range(wrong).is_err(), "{wrong}");
        }
    }
}
