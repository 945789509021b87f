//! `CMD`, `ENTRYPOINT`, `SHELL`: what a container of the image executes.

use super::{Keyword, anything};
use crate::{
    Result,
    stage::Stage,
    tree::{Args, Form, Instruction},
};

pub(super) static CMD: Keyword =
    Keyword { name: "CMD", form: Form::Command, flags: &[], heredocs: false, check: anything, apply: cmd };

pub(super) static ENTRYPOINT: Keyword = Keyword {
    name: "ENTRYPOINT",
    form: Form::Command,
    flags: &[],
    heredocs: false,
    check: anything,
    apply: entrypoint,
};

pub(super) static SHELL: Keyword =
    Keyword { name: "SHELL", form: Form::Command, flags: &[], heredocs: false, check: json, apply: shell };

fn cmd(stage: &mut Stage, i: &Instruction) -> Result<()> {
    let words = command(stage, i);
    let text = format!("CMD {}", quoted(&words));
    stage.config.config.cmd = Some(words);
    stage.cmd_set = true;
    stage.record(&text)
}

fn entrypoint(stage: &mut Stage, i: &Instruction) -> Result<()> {
    let words = command(stage, i);
    let text = format!("ENTRYPOINT {}", quoted(&words));
    stage.config.config.entrypoint = Some(words).filter(|w| !w.is_empty());
    // The base's CMD was meant for the base's ENTRYPOINT.
    if !stage.cmd_set {
        stage.config.config.cmd = None;
    }
    stage.record(&text)
}

fn shell(stage: &mut Stage, i: &Instruction) -> Result<()> {
    let words: Vec<String> = i.words().into_iter().map(str::to_owned).collect();
    let text = format!("SHELL [{}]", words.join(" "));
    stage.config.config.shell = words;
    stage.record(&text)
}

fn json(i: &Instruction) -> Result<(), String> {
    match &i.args {
        Args::Json(words) if words.is_empty() => Err("SHELL requires at least one argument".into()),
        Args::Json(_) => Ok(()),
        _ => Err("SHELL requires the arguments to be in JSON form".into()),
    }
}

/// The exec form as it is; the shell form with its shell before it.
pub(super) fn command(stage: &Stage, i: &Instruction) -> Vec<String> {
    match &i.args {
        Args::Text(text) if text.is_empty() => Vec::new(),
        Args::Text(text) => stage.config.config.shell().into_iter().chain([text.clone()]).collect(),
        _ => i.words().into_iter().map(str::to_owned).collect(),
    }
}

/// `["a" "b c"]`: as docker's history shows a list.
fn quoted(words: &[String]) -> String {
    format!("[{}]", words.iter().map(|w| format!("{w:?}")).collect::<Vec<_>>().join(" "))
}
