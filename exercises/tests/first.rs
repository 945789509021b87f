//! A new user's first three exercises, as the book's page "The lab" shows them: each command of the page is typed in an empty
//! directory, what it answers is compared with what the page says, and each one but the first was named by the answer before it.
//! Between a hint and the next check the reader writes; what is written is the engine's own. `FIRST=print` in the environment
//! prints what is answered.

use book::transcript::{self, Kind};
use kit::{Case, Need};
use std::{path::Path, process::Command};

/// Why the book's own tests do not type these commands.
const OURS: &str = "the lab's own test types it";

fn main() {
    kit::run(vec![Case::new("the_page_is_what_happens", &[Need::UserNamespaces], || {
        let page = lab::tree::course().join("book/en/lab.md");
        let page = std::fs::read_to_string(page).expect("the page");
        let blocks = transcript::blocks(&page).expect("its transcripts");
        let ours = |kind: &Kind| matches!(kind, Kind::NotRun(reason) if reason.starts_with(OURS));
        let steps: Vec<_> = blocks.iter().filter(|b| ours(&b.kind)).flat_map(|b| &b.steps).collect();
        let dir = tempfile::tempdir().expect("a directory");
        let mut said = String::new();
        let mut solved = 0;
        for (n, step) in steps.iter().enumerate() {
            let (at, line) = (step.line, step.command.as_str());
            assert!(n == 0 || offers(&said, line), "line {at}: nobody has said `{line}` in: {said}");
            if n > 0 && steps[n - 1].command.starts_with("cargo lab hint ") {
                write(&dir.path().join("teu-lab"), line.rsplit(' ').next().expect("a name"));
            }
            said = types(dir.path(), line);
            solved += usize::from(said.contains(": passed\n"));
            assert!(transcript::matches(&step.answer, &said), "line {at}: `{line}` answers: {said}");
        }
        assert_eq!(solved, 3, "three exercises from nothing");
    })]);
}

/// Whether an answer names this as what to type next, up to the end of a line or a bracket.
fn offers(said: &str, line: &str) -> bool {
    said.match_indices(line).any(|(at, _)| matches!(said[at + line.len()..].chars().next(), Some('\n' | ')')))
}

/// "Write it there": as the engine has it.
fn write(workspace: &Path, exercise: &str) {
    let exercise = lab::course::find(exercise).expect("an exercise");
    let bodies = lab::tree::answer(&lab::tree::course(), exercise).expect("found");
    lab::source::replace(workspace, &bodies).expect("written");
}

/// What a command answers.
fn types(at: &Path, line: &str) -> String {
    let words = line.strip_prefix("cargo lab").expect("a command of the lab").split_whitespace();
    let lab = env!("CARGO_BIN_EXE_lab");
    let output = Command::new(lab).args(words).current_dir(at).output().expect("the lab starts");
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code().is_some_and(|c| c < 2), "{line}: {said}");
    if std::env::var_os("FIRST").is_some() {
        eprintln!("$ {line}\n{said}");
    }
    said
}
