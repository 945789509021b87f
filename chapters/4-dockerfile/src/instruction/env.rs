//! `ENV`, `LABEL`, `MAINTAINER`: lines of the configuration.

use super::{Keyword, anything};
use crate::{
    Result,
    stage::Stage,
    tree::{Form, Instruction},
};

pub(super) static ENV: Keyword =
    Keyword { name: "ENV", form: Form::Pairs, flags: &[], heredocs: false, check: anything, apply: env };

pub(super) static LABEL: Keyword =
    Keyword { name: "LABEL", form: Form::Pairs, flags: &[], heredocs: false, check: anything, apply: label };

pub(super) static MAINTAINER: Keyword = Keyword {
    name: "MAINTAINER",
    form: Form::Text,
    flags: &[],
    heredocs: false,
    check: anything,
    apply: maintainer,
};

fn env(stage: &mut Stage, i: &Instruction) -> Result<()> {
    let pairs = expanded(stage, i)?;
    for (name, value) in &pairs {
        stage.config.config.set_variable(name, value);
    }
    stage.record(&text("ENV", &pairs))
}

fn label(stage: &mut Stage, i: &Instruction) -> Result<()> {
    let pairs = expanded(stage, i)?;
    stage.config.config.labels.extend(pairs.iter().cloned());
    stage.record(&text("LABEL", &pairs))
}

fn maintainer(stage: &mut Stage, i: &Instruction) -> Result<()> {
    stage.config.author = i.text_args().to_owned();
    let text = format!("MAINTAINER {}", i.text_args());
    stage.record(&text)
}

/// All of one line are expanded before any of them is set: `ENV a=1 b=$a` takes the `a` of before.
fn expanded(stage: &Stage, i: &Instruction) -> Result<Vec<(String, String)>> {
    let pair =
        |p: &crate::tree::Pair| Ok((stage.expand(&p.name)?, stage.expand(p.value.as_deref().unwrap_or(""))?));
    i.pairs().iter().map(pair).collect()
}

fn text(name: &str, pairs: &[(String, String)]) -> String {
    pairs.iter().fold(name.to_owned(), |text, (n, v)| format!("{text} {n}={v}"))
}
