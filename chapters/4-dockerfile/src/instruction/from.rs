//! `FROM`: where a stage starts.

use super::{Keyword, arg::expand_global, value};
use crate::{
    Error, Result, config,
    request::Event,
    stage::Stage,
    tree::{Form, Instruction},
};

pub(super) static FROM: Keyword =
    Keyword { name: "FROM", form: Form::Words, flags: &[value("platform")], heredocs: false, check, apply };

/// What a program looks for when nothing says where.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

fn check(i: &Instruction) -> Result<(), String> {
    match i.words()[..] {
        [_] => Ok(()),
        [_, word, _] if word.eq_ignore_ascii_case("as") => Ok(()),
        _ => Err("FROM requires either one or three arguments".into()),
    }
}

/// The stage is still nothing; it becomes what it starts from.
fn apply(stage: &mut Stage, i: &Instruction) -> Result<()> {
    let session = stage.session;
    let written = i.words().first().copied().unwrap_or("");
    let name = expand_global(session, written)?;
    if name.is_empty() {
        let reason = format!("base name ({written}) should not be blank; give its ARG a value");
        return Err(Error::Instruction { instruction: "FROM", reason });
    }
    if let Some(platform) = i.flag("platform") {
        check_platform(&expand_global(session, platform)?)?;
    }
    // A stage's name hides an image's.
    if let Some(base) = session.named_stage(&name) {
        *stage = Stage::on(&base);
        session.tell(Event::Image(stage.id()?.get(..12).unwrap_or_default()));
    } else if name == "scratch" {
        session.tell(Event::Image(""));
    } else {
        let image = (session.build.resolve)(&name).map_err(Error::Plan)?;
        *stage = Stage::from_image(session, &image, &name)?;
        session.tell(Event::Image(image.id().digest().get(..12).unwrap_or_default()));
    }

    let container = &mut stage.config.config;
    if container.variable("PATH").is_none() {
        container.set_variable("PATH", PATH);
    }
    // They are for the first child only, not for its children.
    stage.triggers = std::mem::take(&mut container.on_build);
    Ok(())
}

fn check_platform(platform: &str) -> Result<()> {
    let here = config::architecture();
    match platform.split('/').collect::<Vec<_>>()[..] {
        ["linux", architecture, ..] if architecture == here => Ok(()),
        [architecture] if architecture == here || architecture == "linux" => Ok(()),
        _ => Err(Error::Instruction {
            instruction: "FROM",
            reason: format!(
                "platform {platform}: this machine executes linux/{here}; build it on a machine of that \
                 platform, or leave out --platform"
            ),
        }),
    }
}
