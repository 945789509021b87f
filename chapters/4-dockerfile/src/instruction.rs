//! The instructions, one file each or a small group.
//!
//! **To add one**: write `instruction/NAME.rs` with a `pub(super) static NAME: Keyword`, which says how its
//! arguments are read, which flags it has, what is wrong with it by its text alone, and what it does to a
//! [`Stage`]; then name it in the list below. The parser, `ONBUILD`, the cache and the history follow.
//!
//! What it does ends in one of two ways: [`Stage::record`] if only the configuration changed, otherwise
//! [`Stage::commit`] with a closure that makes the layer, which is not called if the cache has it.

mod add;
mod arg;
mod command;
mod copy;
mod env;
mod expose;
mod from;
mod health;
mod onbuild;
mod run;
mod user;
mod workdir;

pub(crate) use arg::{PREDEFINED, global};
pub(crate) use copy::from_stage;
pub(crate) use workdir::absolute;

use crate::{
    Result,
    stage::Stage,
    tree::{Form, Instruction},
};

/// Every instruction.
pub(crate) static ALL: [&Keyword; 18] = [
    &add::ADD,
    &arg::ARG,
    &command::CMD,
    &copy::COPY,
    &command::ENTRYPOINT,
    &env::ENV,
    &expose::EXPOSE,
    &from::FROM,
    &health::HEALTHCHECK,
    &env::LABEL,
    &env::MAINTAINER,
    &onbuild::ONBUILD,
    &run::RUN,
    &command::SHELL,
    &health::STOPSIGNAL,
    &user::USER,
    &expose::VOLUME,
    &workdir::WORKDIR,
];

/// An instruction's syntax and meaning.
pub(crate) struct Keyword {
    /// In upper case. (In a Dockerfile, case does not matter.)
    pub(crate) name: &'static str,
    /// How its arguments are read.
    pub(crate) form: Form,
    /// Its flags.
    pub(crate) flags: &'static [FlagKind],
    /// Whether `<<EOF` among its words begins a document.
    pub(crate) heredocs: bool,
    /// What is wrong with it, as far as its text alone can tell.
    pub(crate) check: fn(&Instruction) -> Result<(), String>,
    /// What it does.
    pub(crate) apply: fn(&mut Stage, &Instruction) -> Result<()>,
}

/// A flag that an instruction may have.
pub(crate) struct FlagKind {
    pub(crate) name: &'static str,
    /// `--name=value`, not a switch.
    pub(crate) value: bool,
    /// More than once.
    pub(crate) many: bool,
}

/// `--name=value`
const fn value(name: &'static str) -> FlagKind {
    FlagKind { name, value: true, many: false }
}

/// `--name=value`, any number of times.
const fn values(name: &'static str) -> FlagKind {
    FlagKind { name, value: true, many: true }
}

/// `--name`
const fn switch(name: &'static str) -> FlagKind {
    FlagKind { name, value: false, many: false }
}

/// The instruction of a name.
pub(crate) fn find(name: &str) -> Option<&'static Keyword> {
    ALL.into_iter().find(|k| k.name.eq_ignore_ascii_case(name))
}

/// Nothing can be wrong.
fn anything(_: &Instruction) -> Result<(), String> {
    Ok(())
}

/// At least one argument.
fn not_empty(i: &Instruction) -> Result<(), String> {
    match i.words().iter().all(|w| w.is_empty()) {
        true => Err(format!("{} requires at least one argument", i.keyword)),
        false => Ok(()),
    }
}
