//! `USER`: whose processes they are. Looked up when a container starts, since only then is it known which
//! /etc/passwd it has.

use super::{Keyword, anything};
use crate::{
    Result,
    stage::Stage,
    tree::{Form, Instruction},
};

pub(super) static USER: Keyword =
    Keyword { name: "USER", form: Form::Text, flags: &[], heredocs: false, check: anything, apply };

fn apply(stage: &mut Stage, i: &Instruction) -> Result<()> {
    let user = stage.expand(i.text_args())?;
    let text = format!("USER {user}");
    stage.config.config.user = user;
    stage.record(&text)
}
