//! `ONBUILD`: an instruction for the images that are built on this one. It is kept as text, and executed
//! right after their `FROM`.

use super::{Keyword, anything};
use crate::{
    Result,
    stage::Stage,
    tree::{Form, Instruction},
};

pub(super) static ONBUILD: Keyword =
    Keyword { name: "ONBUILD", form: Form::Trigger, flags: &[], heredocs: false, check: anything, apply };

fn apply(stage: &mut Stage, i: &Instruction) -> Result<()> {
    stage.config.config.on_build.push(i.text_args().to_owned());
    stage.record(&format!("ONBUILD {}", i.text_args()))
}
