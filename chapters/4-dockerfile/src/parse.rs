//! The syntax of a Dockerfile: from text to a tree.
//!
//! ```text
//!  # escape=`            directives   the first lines only
//!  RUN a && \            lines        continued lines are one, comments inside are none
//!      # why
//!      b <<EOF           heredoc      the lines after it, up to EOF
//!  COPY --from=x a b     words        flags, JSON, words, name=value
//!  FROM ...              stages       each FROM begins one
//! ```
//!
//! Nothing is expanded here and nothing is executed: a Dockerfile is parsed as a whole before its first
//! instruction runs, so that an error in the last line costs no build.

mod directives;
mod heredoc;
mod lines;
mod words;

pub(crate) use words::json;

pub use crate::tree::{Args, Dockerfile, Flag, Heredoc, Instruction, Pair, Stage};
use crate::{Error, Result, instruction, tree::Form};
use lines::{Lines, Logical};

/// The longest Dockerfile: 1 MiB. (What it makes is bounded by its text, except for variables, which
/// [`crate::expand`] bounds.)
pub const MAX_SIZE: usize = 1 << 20;

/// The most instructions. (Each but a few is a line of history, and most images have less than 20.)
pub const MAX_INSTRUCTIONS: usize = 5000;

/// Parses a Dockerfile. An error names its line, and what was expected there.
pub fn parse(text: &str) -> Result<Dockerfile> {
    if text.len() > MAX_SIZE {
        return Err(Error::File(format!("{} bytes: a Dockerfile has at most {MAX_SIZE}", text.len())));
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let directives = directives::read(text)?;
    let escape = directives::escape(&directives);
    let mut file = Dockerfile { directives, escape, args: Vec::new(), stages: Vec::new() };
    let mut lines = Lines::new(text, escape);
    let mut count = 0;
    while let Some(line) = lines.next_logical() {
        count += 1;
        if count > MAX_INSTRUCTIONS {
            return Err(Error::File(format!("more than {MAX_INSTRUCTIONS} instructions")));
        }
        let instruction = instruction(&line, &mut lines, escape)
            .map_err(|message| Error::Syntax { line: line.number, message })?;
        place(&mut file, instruction)?;
    }
    match file.stages.is_empty() {
        true if file.args.is_empty() => Err(Error::File("file with no instructions".into())),
        true => Err(Error::File("no FROM: an image starts from another image, or from scratch".into())),
        false => Ok(file),
    }
}

/// Parses one instruction that stands alone: a trigger that `ONBUILD` put into an image.
pub fn parse_one(text: &str, escape: char) -> Result<Instruction> {
    let line = Logical { number: 1, text: text.trim().to_owned() };
    instruction(&line, &mut Lines::new("", escape), escape)
        .map_err(|message| Error::Syntax { line: 1, message })
}

/// One logical line, with the documents that follow it.
fn instruction(line: &Logical, lines: &mut Lines, escape: char) -> Result<Instruction, String> {
    let (name, rest) = line.text.split_once(char::is_whitespace).unwrap_or((&line.text, ""));
    let keyword = instruction::find(name).ok_or_else(|| unknown(name))?;
    let (flags, rest) = words::flags(rest.trim(), escape, keyword)?;
    let args = arguments(keyword, rest, escape)?;
    // A document belongs to a shell's or a file's words; in JSON, `<<` is text like any other.
    let heredocs = match keyword.heredocs && !matches!(args, Args::Json(_)) {
        true => heredoc::read(rest, lines, escape)?,
        false => Vec::new(),
    };
    let (line, text) = (line.number, line.text.clone());
    let instruction = Instruction { line, keyword: keyword.name.into(), flags, args, heredocs, text };
    (keyword.check)(&instruction)?;
    Ok(instruction)
}

/// The arguments, in the form that the instruction wants them.
fn arguments(keyword: &instruction::Keyword, rest: &str, escape: char) -> Result<Args, String> {
    let name = keyword.name;
    let text = || Args::Text(rest.to_owned());
    let words = || Args::Words(rest.split_whitespace().map(str::to_owned).collect());
    Ok(match keyword.form {
        Form::Text if rest.is_empty() => return Err(format!("{name} requires exactly one argument")),
        Form::Text => text(),
        Form::Command => words::json(rest).map_or_else(text, Args::Json),
        Form::Paths => words::json(rest).map_or_else(words, Args::Json),
        Form::Words => words(),
        Form::Pairs => Args::Pairs(words::pairs(name, rest, escape)?),
        Form::Names => Args::Pairs(words::names(name, rest, escape)?),
        Form::Trigger => {
            trigger(rest, escape)?;
            text()
        }
    })
}

/// `ONBUILD` holds another instruction, which must be a right one today, though it runs some other day.
fn trigger(rest: &str, escape: char) -> Result<(), String> {
    let name = rest.split_whitespace().next().unwrap_or("").to_ascii_uppercase();
    match name.as_str() {
        "" => return Err("ONBUILD requires at least one argument".into()),
        "ONBUILD" => return Err("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed".into()),
        "FROM" | "MAINTAINER" => return Err(format!("{name} isn't allowed as an ONBUILD trigger")),
        _ => {}
    }
    match parse_one(rest, escape) {
        Err(Error::Syntax { message, .. }) if message.starts_with("unterminated heredoc") => {
            Err("a heredoc in ONBUILD is not kept by an image's configuration; \
                 put the document into a file and COPY it"
                .into())
        }
        Err(Error::Syntax { message, .. }) => Err(message),
        _ => Ok(()),
    }
}

/// Puts an instruction where it belongs: into a new stage, the last one, or before all.
fn place(file: &mut Dockerfile, instruction: Instruction) -> Result<()> {
    let line = instruction.line;
    let syntax = |message: String| Error::Syntax { line, message };
    match (instruction.keyword.as_str(), file.stages.last_mut()) {
        ("FROM", _) => {
            let words = instruction.words();
            let name = words.get(2).map(|n| n.to_ascii_lowercase());
            let (base, name) =
                (words[0].to_owned(), name.map(|n| stage_name(&n)).transpose().map_err(syntax)?);
            file.stages.push(Stage { name, base, instructions: vec![instruction] });
        }
        (_, Some(stage)) => stage.instructions.push(instruction),
        ("ARG", None) => file.args.push(instruction),
        (_, None) => return Err(syntax("no build stage in current context".into())),
    }
    Ok(())
}

/// A stage's name: a number would be taken for a stage's index.
fn stage_name(name: &str) -> Result<String, String> {
    let right = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c));
    match right {
        true => Ok(name.to_owned()),
        false => Err(format!(
            "invalid name for build stage: {name:?}, name can't start with a number or contain symbols"
        )),
    }
}

/// docker's text, with the nearest name if one is near.
fn unknown(name: &str) -> String {
    let names = instruction::ALL.iter().map(|k| k.name);
    let near = words::nearest(&name.to_uppercase(), names);
    let hint = near.map(|n| format!(" (did you mean {n}?)")).unwrap_or_default();
    format!("unknown instruction: {name}{hint}")
}
