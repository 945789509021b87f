//! `ADD`: `COPY` that unpacks a local tar. (And fetches what is far away, in docker: here that is refused,
//! since a build that reads the network in its middle is another one tomorrow.)

use super::{
    FlagKind, Keyword,
    copy::{check, transfer},
    switch, value, values,
};
use crate::{
    Error, Result,
    stage::Stage,
    tree::{Form, Instruction},
};

pub(super) static ADD: Keyword =
    Keyword { name: "ADD", form: Form::Paths, flags: &FLAGS, heredocs: true, check: |i| check(i), apply };

const FLAGS: [FlagKind; 6] = [
    value("chown"),
    value("chmod"),
    switch("link"),
    values("exclude"),
    switch("keep-git-dir"),
    value("checksum"),
];

fn apply(stage: &mut Stage, i: &Instruction) -> Result<()> {
    if i.flag("checksum").is_some() {
        return Err(Error::Plan("checksum can't be specified for local sources".into()));
    }
    let words = i.words();
    let (_, sources) = words.split_last().unwrap_or((&"", &[]));
    for source in sources {
        let source = stage.expand(source)?;
        let far = ["http://", "https://", "git://", "git@", "ssh://"].iter().any(|p| source.starts_with(p));
        if far {
            let reason = format!(
                "{source}: ADD takes files of the context only; fetch it first, or in a RUN with a network, \
                 and check its digest there"
            );
            return Err(Error::Instruction { instruction: "ADD", reason });
        }
    }
    transfer(stage, i, "ADD")
}
