//! The builder: one instruction after the other, each a layer or a line of configuration.
//!
//! ```text
//! parse       text            → stages of instructions
//! plan        stages          → those that are needed
//! FROM        name            → configuration and layers to start from
//! instruction stage           → stage, with one more line of history and perhaps one more layer
//! store       the last stage  → configuration, manifest: an image
//! ```

pub use crate::request::{Build, Event, Network};
use crate::{
    Error, Result,
    instruction::{self, PREDEFINED, global},
    parse::{parse, parse_one},
    plan::plan,
    session::Session,
    stage::Stage,
    tree::Instruction,
};
use layers::Store;
use oci_spec::image::Descriptor;
use std::rc::Rc;

/// Builds, and returns the manifest of the last (or target) stage. It is in the store, without a name.
///
/// Needs to be root, be it in a user namespace of its own, in a private mount namespace, and to be
/// single-threaded: a RUN starts a container.
pub fn build(store: &Store, build: &Build, events: &mut dyn FnMut(Event)) -> Result<Descriptor> {
    let file = parse(build.dockerfile)?;
    let planned = plan(&file, build.target.as_deref())?;
    let session = Session::new(store, build, file.escape, events)?;
    *session.stages.borrow_mut() = file.stages.iter().map(|s| (s.name.clone(), None)).collect();
    let lines = planned.iter().map(|n| file.stages[*n].instructions.len());
    let mut steps = Steps { number: 0, of: file.args.len() + lines.sum::<usize>() };

    for arg in &file.args {
        steps.next(&session, &arg.text);
        global(&session, arg)?;
    }
    let mut last = Stage::scratch(&session);
    for number in planned {
        let stage = one_stage(&session, &file.stages[number].instructions, &mut steps)?;
        // From here on, `COPY --from` and `FROM` find it.
        session.stages.borrow_mut()[number].1 = Some(Rc::new(stage.clone()));
        last = stage;
    }
    label(&mut last)?;
    warn_unconsumed(&session);
    let descriptor = last.store()?;
    tracing::info!(
        target: "step", section = "6.1", call = "rename(2)",
        "configuration and manifest {} are in the store", descriptor.digest()
    );
    // Stages hold the session that holds them.
    session.stages.borrow_mut().clear();
    Ok(descriptor)
}

/// All instructions of a stage, after its `FROM` those that the base has in store for its children.
fn one_stage<'s>(
    session: &'s Session<'s>,
    instructions: &[Instruction],
    steps: &mut Steps,
) -> Result<Stage<'s>> {
    let mut stage = Stage::scratch(session);
    for i in instructions {
        steps.next(session, &i.text);
        apply(&mut stage, i)?;
        let triggers = std::mem::take(&mut stage.triggers);
        if !triggers.is_empty() {
            session.tell(Event::Triggers(triggers.len()));
        }
        for trigger in triggers {
            apply(&mut stage, &parse_one(&trigger, session.escape)?)?;
        }
    }
    Ok(stage)
}

fn apply(stage: &mut Stage, i: &Instruction) -> Result<()> {
    let keyword = instruction::find(&i.keyword)
        .ok_or_else(|| Error::Plan(format!("line {}: unknown instruction {}", i.line, i.keyword)))?;
    (keyword.apply)(stage, i)
}

/// `--label`: one more line of history, as if the Dockerfile ended in a `LABEL`.
fn label(stage: &mut Stage) -> Result<()> {
    let labels = &stage.session.build.labels;
    if labels.is_empty() {
        return Ok(());
    }
    stage.config.config.labels.extend(labels.clone());
    let text = labels.iter().fold("LABEL".to_owned(), |text, (n, v)| format!("{text} {n}={v}"));
    stage.record(&text)
}

/// A `--build-arg` that no `ARG` takes is probably misspelt.
fn warn_unconsumed(session: &Session) {
    let consumed = session.consumed.borrow();
    let known = |name: &str| name == "SOURCE_DATE_EPOCH" || PREDEFINED.contains(&name);
    let left: Vec<_> = session
        .build
        .args
        .keys()
        .map(String::as_str)
        .filter(|name| !consumed.contains(*name) && !known(name))
        .collect();
    if !left.is_empty() {
        let text = format!("[Warning] One or more build-args [{}] were not consumed", left.join(" "));
        session.tell(Event::Warning(&text));
    }
}

/// `Step 2/5`
struct Steps {
    number: usize,
    of: usize,
}

impl Steps {
    fn next(&mut self, session: &Session, text: &str) {
        self.number += 1;
        session.tell(Event::Step { number: self.number, of: self.of, text });
    }
}
