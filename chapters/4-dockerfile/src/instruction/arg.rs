//! `ARG`: a variable of the build, not of the image.

use super::{Keyword, anything};
use crate::{
    Result,
    session::Session,
    stage::Stage,
    tree::{Form, Instruction},
};

pub(super) static ARG: Keyword =
    Keyword { name: "ARG", form: Form::Names, flags: &[], heredocs: false, check: anything, apply };

/// Those that need no `ARG`, and are not in the history: who sits behind which proxy is not the image's
/// business, and would only spoil the cache.
pub(crate) const PREDEFINED: [&str; 10] = [
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "FTP_PROXY",
    "ftp_proxy",
    "NO_PROXY",
    "no_proxy",
    "ALL_PROXY",
    "all_proxy",
];

fn apply(stage: &mut Stage, i: &Instruction) -> Result<()> {
    let mut text = String::from("ARG");
    for pair in i.pairs() {
        let name = stage.expand(&pair.name)?;
        let default = pair.value.as_deref().map(|v| stage.expand(v)).transpose()?;
        text += &default.as_ref().map_or(format!(" {name}"), |d| format!(" {name}={d}"));
        let session = stage.session;
        let global = || session.globals.borrow().get(&name).cloned();
        let value = session.build_arg(&name).or(default).or_else(global).or_else(|| platform(&name));
        stage.args.insert(name, value);
    }
    stage.record(&text)
}

/// An `ARG` before the first `FROM`. It is seen by `FROM`s, and by an `ARG` of the same name without a
/// value.
pub(crate) fn global(session: &Session, i: &Instruction) -> Result<()> {
    for pair in i.pairs() {
        let default = pair.value.as_deref().map(|v| expand_global(session, v)).transpose()?;
        if let Some(value) = session.build_arg(&pair.name).or(default) {
            session.globals.borrow_mut().insert(pair.name.clone(), value);
        }
    }
    Ok(())
}

/// Expands what stands outside all stages.
pub(crate) fn expand_global(session: &Session, text: &str) -> Result<String> {
    let globals = session.globals.borrow();
    crate::expand::word(text, session.escape, &|name| globals.get(name).cloned().or_else(|| platform(name)))
}

/// The variables about the machine: what is built here is for here.
fn platform(name: &str) -> Option<String> {
    let architecture = crate::config::architecture();
    match name {
        "TARGETPLATFORM" | "BUILDPLATFORM" => Some(format!("linux/{architecture}")),
        "TARGETOS" | "BUILDOS" => Some("linux".into()),
        "TARGETARCH" | "BUILDARCH" => Some(architecture.into()),
        "TARGETVARIANT" | "BUILDVARIANT" => Some(String::new()),
        _ => None,
    }
}
