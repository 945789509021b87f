//! Every command that the book tells its reader to type exists: each program of this workspace is asked
//! for the help of the subcommand, which must know every flag that the text uses.

use kit::{Case, Need};
use std::{fs, path::Path, process::Command};

/// The programs of the workspace that the text uses.
const PROGRAMS: [&str; 6] = ["teu", "namespaces", "cgroups", "layers", "dockerfile", "registry"];
/// Subcommands that have subcommands.
const GROUPS: [&str; 6] = ["image", "container", "system", "network", "volume", "builder"];
/// Ends a command on its line.
const ENDS: [&str; 9] = ["$(", "|", "&&", "||", ";", ">", "&", "\\", "done"];

fn main() {
    // What was built lies beside what runs: `target/debug/deps/commands-…` beside `target/debug/teu`.
    let built = std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.parent()?.to_owned()));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths(built.into_iter().chain(std::env::split_paths(&path))).expect("a PATH");
    // SAFETY: no thread has been started yet.
    unsafe { std::env::set_var("PATH", path) };
    let case = |program: &'static str| {
        let name: &'static str = format!("the_commands_of_{program}_exist").leak();
        Case::new(name, &[Need::Program(program)], move || check(program))
    };
    kit::run(PROGRAMS.map(case).into());
}

fn check(program: &str) {
    let mut wrong = Vec::new();
    let mut count = 0;
    let text = Path::new(env!("CARGO_MANIFEST_DIR")).join("en");
    for page in fs::read_dir(&text)
        .expect("the text")
        .flatten()
        .filter(|p| p.path().extension().is_some_and(|e| e == "md"))
    {
        let name = page.file_name().to_string_lossy().into_owned();
        for (number, words) in commands(&fs::read_to_string(page.path()).expect("a page"), program) {
            count += 1;
            if let Err(why) = try_one(program, &words) {
                wrong.push(format!("{name}:{number}: {program} {}: {why}", words.join(" ")));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    assert!(count > 0 || program == "cgroups", "the book never uses {program}");
}

/// What follows `program` in the console blocks of a page, line by line.
fn commands(page: &str, program: &str) -> Vec<(usize, Vec<String>)> {
    let mut found = Vec::new();
    let mut console = false;
    for (number, line) in page.lines().enumerate() {
        if line.starts_with("```") {
            console = line == "```console";
            continue;
        }
        let Some(command) = line.strip_prefix("$ ").or(line.strip_prefix("# ")).filter(|_| console) else {
            continue;
        };
        let command = command.replace("$(", " $( ").replace(')', " ");
        let words: Vec<&str> = command.split_whitespace().collect();
        let starts = words.windows(2).enumerate().filter_map(|(at, pair)| match pair {
            [_, "--"] if at > 0 && words[at - 1] == "-p" && words[at] == program => Some(at + 2),
            _ => None,
        });
        let plain = words.iter().enumerate().filter(|(at, word)| {
            **word == program
                && (*at == 0
                    || ENDS.contains(&words[at - 1])
                    || words[at - 1].ends_with(';')
                    || ["do", "time"].contains(&words[at - 1]))
        });
        for start in starts.chain(plain.map(|(at, _)| at + 1)) {
            let end = |word: &&&str| !ENDS.contains(word) && **word != "2>&1";
            let mut words: Vec<String> =
                words[start..].iter().take_while(end).map(|w| w.trim_end_matches(';').to_owned()).collect();
            if words.is_empty() {
                words.push("--help".into());
            }
            found.push((number + 1, words));
        }
    }
    found
}

fn try_one(program: &str, words: &[String]) -> Result<(), String> {
    // Options before the subcommand are the program's own, and ours all take a value.
    let mut rest = words;
    while let [option, _, tail @ ..] = rest {
        if !option.starts_with('-') {
            break;
        }
        known(&help(program, &[])?, option)?;
        rest = tail;
    }
    let Some(first) = rest.first().filter(|w| !w.starts_with('-')) else { return Ok(()) };
    let depth = if GROUPS.contains(&first.as_str()) { 2 } else { 1 }.min(rest.len());
    let (subcommand, arguments) = rest.split_at(depth);
    let help = help(program, subcommand)?;
    let mut arguments = arguments.iter();
    while let Some(word) = arguments.next() {
        if word == "--" {
            break;
        }
        if !word.starts_with('-') || word == "-" {
            // After the image, `run` takes the words as they come, and so do its like.
            if ["run", "exec", "create", "limit", "enter"].contains(&first.as_str()) {
                break;
            }
            continue;
        }
        if known(&help, word)? && !word.contains('=') {
            arguments.next();
        }
    }
    Ok(())
}

/// Whether the flag takes a value; an error if there is no such flag.
fn known(help: &str, word: &str) -> Result<bool, String> {
    let flags: Vec<String> = match word.strip_prefix("--") {
        Some(long) => vec![format!("--{}", long.split('=').next().unwrap_or(long))],
        None => word[1..].chars().map(|c| format!("-{c}")).collect(),
    };
    let mut takes_value = false;
    for flag in flags {
        let is_it = |part: &str| part.trim() == flag || part.trim().starts_with(&format!("{flag} <"));
        let line = help.lines().find(|line| {
            line.trim_start().starts_with('-')
                && line
                    .split(", ")
                    .any(|part| is_it(part) || part.trim().split("  ").next().is_some_and(is_it))
        });
        let line = line.ok_or_else(|| format!("there is no {flag}"))?;
        takes_value |=
            line.split("  ").find(|part| part.contains('-')).is_some_and(|part| part.contains(" <"));
    }
    Ok(takes_value)
}

fn help(program: &str, subcommand: &[String]) -> Result<String, String> {
    let output = Command::new(program).args(subcommand).arg("--help").output().map_err(|e| e.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() && text.contains("Usage") {
        return Ok(text);
    }
    Err(String::from_utf8_lossy(&output.stderr).lines().next().unwrap_or("prints no help").to_owned())
}
