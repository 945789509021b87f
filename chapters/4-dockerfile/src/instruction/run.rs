//! `RUN`: a command in a container on the stage's files; what it changed is the layer.

use super::{Keyword, command::command, not_empty, value, values};
use crate::{
    Error, Result,
    container::{self, Command},
    request::Network,
    run_mount::Wanted,
    stage::Stage,
    tree::{Args, Form, Heredoc, Instruction},
};

pub(super) static RUN: Keyword = Keyword {
    name: "RUN",
    form: Form::Command,
    flags: &[values("mount"), value("network"), value("security")],
    heredocs: true,
    check,
    apply,
};

fn check(i: &Instruction) -> Result<(), String> {
    match i.flag("network") {
        None | Some("default" | "none" | "host") => {}
        Some(other) => return Err(format!("invalid network mode: {other}; it is default, none or host")),
    }
    if let Some("insecure") = i.flag("security") {
        return Err("--security=insecure: a container with the host's rights is not made here".into());
    }
    not_empty(i)
}

fn apply(stage: &mut Stage, i: &Instruction) -> Result<()> {
    let script = script(i);
    let words = match &script {
        Some(Script::Shell(text)) => {
            stage.config.config.shell().into_iter().chain([text.clone()]).collect::<Vec<_>>()
        }
        Some(Script::File(heredoc)) => vec![format!("/dev/pipes/{}", heredoc.name)],
        None => command(stage, i),
    };
    // The variables of `ARG` are in its environment, and so in the key: they are in the history's text, as
    // docker has it (`|1 VERSION=3 /bin/sh -c make`).
    let args = arguments(stage);
    let list: Vec<_> = args.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let text = words.join(" ");
    let created_by = match list.len() {
        0 => text.clone(),
        n => format!("|{n} {} {text}", list.join(" ")),
    };
    let mut wanted = Vec::new();
    for flag in i.flags.iter().filter(|f| f.name == "mount") {
        let text = stage.expand(flag.value.as_deref().unwrap_or(""))?;
        wanted.push(
            Wanted::parse(stage, &text)
                .map_err(|reason| Error::Instruction { instruction: "RUN", reason })?,
        );
    }
    let network = match i.flag("network") {
        Some("none") => Network::None,
        Some("host") => Network::Host,
        _ => stage.session.build.network.clone(),
    };
    let mut inputs = vec![format!("{words:?}"), format!("{:?}", i.flag("network"))];
    if let Some(Script::File(heredoc)) = &script {
        inputs.push(heredoc.content.clone());
    }
    let mounted = wanted.iter().map(|mount| mount.input(stage)).collect::<Result<Vec<_>>>()?;
    inputs.extend(mounted.iter().cloned());
    let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();

    stage.commit(&created_by, &inputs, |stage| {
        let mut env = list.clone();
        env.extend(proxies(stage));
        let script = script.as_ref().and_then(|s| match s {
            Script::File(heredoc) => Some(*heredoc),
            Script::Shell(_) => None,
        });
        let run = Command { words: &words, env, network, mounts: &wanted, script };
        let layer = container::run(stage, &run)?;
        // As for a COPY: what the command saw must be what the key says.
        for (mount, before) in wanted.iter().zip(&mounted) {
            if mount.input(stage)? != *before {
                let reason = "what it mounts of the context changed while it ran; build again".into();
                return Err(Error::Instruction { instruction: "RUN", reason });
            }
        }
        Ok(layer)
    })
}

/// What a heredoc gives to be executed.
enum Script<'a> {
    /// To the shell, as its last argument.
    Shell(String),
    /// As a program: it begins with `#!`.
    File(&'a Heredoc),
}

/// A document alone is a script; one after other words is the shell's own affair, which gets it back.
fn script(i: &Instruction) -> Option<Script<'_>> {
    let (Args::Text(text), [first, ..]) = (&i.args, &i.heredocs[..]) else { return None };
    let alone = i.heredocs.len() == 1 && !text.contains(char::is_whitespace);
    if alone && first.content.starts_with("#!") {
        return Some(Script::File(first));
    }
    if alone {
        return Some(Script::Shell(first.content.clone()));
    }
    let documents = i.heredocs.iter().map(|h| format!("\n{}{}", h.content, h.name));
    Some(Script::Shell(std::iter::once(text.clone()).chain(documents).collect()))
}

/// The `ARG`s that have a value and that no `ENV` hides.
fn arguments(stage: &Stage) -> Vec<(String, String)> {
    let seen = |name: &String| stage.config.config.variable(name).is_none();
    let args = stage.args.iter().filter(|(name, _)| seen(name));
    args.filter_map(|(name, value)| Some((name.clone(), value.clone()?))).collect()
}

/// The proxies, which every RUN has and no history shows.
fn proxies(stage: &Stage) -> Vec<String> {
    let given = super::arg::PREDEFINED.iter().filter(|name| !stage.args.contains_key(**name));
    given.filter_map(|name| Some(format!("{name}={}", stage.session.build_arg(name)?))).collect()
}
