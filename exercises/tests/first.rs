//! A new user's first three exercises, through the real program in an empty directory: each command is taken from what the
//! one before has said comes next. `FIRST=print` in the environment prints the transcript.

use kit::{Case, Need};
use std::{path::Path, process::Command};

fn main() {
    kit::run(vec![Case::new("each_output_says_the_next_step", &[Need::UserNamespaces], || {
        let dir = tempfile::tempdir().expect("a directory");
        let mut reader =
            Reader { at: dir.path(), said: String::new(), print: std::env::var_os("FIRST").is_some() };
        reader.types("cargo lab");
        reader.types(&reader.next("cargo lab start"));
        assert!(reader.said.contains("Everything is red at first"));

        for _ in 0..3 {
            let show = reader.next("cargo lab show ");
            let name = show.rsplit(' ').next().expect("a name").to_owned();
            let exercise = lab::course::find(&name).expect("an exercise");
            reader.types(&show);
            assert!(reader.said.contains("What must hold:") && reader.said.contains("Before you write:"));
            let check = reader.next("cargo lab check ");
            let (file, item) = reader.place();

            reader.types(&check);
            if reader.said.contains("not checked here") {
                // As an ordinary user: the reader reads the solution and goes on.
                reader.types(&format!("cargo lab solution {name} --give-up"));
                continue;
            }
            assert!(reader.said.contains("not yet"), "{}", reader.said);
            reader.types(&reader.next("cargo lab hint "));
            assert!(reader.said.contains("hint 1 of 3:"));
            assert_eq!(reader.next("cargo lab check "), check);
            // "Write it there": as the engine has it.
            let bodies = lab::tree::answer(&lab::tree::course(), exercise).expect("found");
            let body = lab::source::body(&lab::tree::course(), &item).expect("found");
            assert!(file.ends_with(&body.file), "{file} is not {}", body.file);
            lab::source::replace(&dir.path().join("teu-lab"), &bodies).expect("written");
            reader.types(&check);
            assert!(
                reader.said.contains(": passed") && reader.said.contains("One question:"),
                "{}",
                reader.said
            );
            let follow = reader.said.clone();
            let solution = follow.split("how the engine does it: ").nth(1).and_then(|s| s.split(')').next());
            reader.types(solution.expect("the solution is offered"));
            assert!(reader.said.contains(item.rsplit("::").next().expect("a name")));
        }
        reader.types("cargo lab list");
        let done = reader.said.matches("─ ✓ ").count() + reader.said.matches("─ ~ ").count();
        assert_eq!(done, 3, "{}", reader.said);
    })]);
}

/// Somebody at a terminal.
struct Reader<'a> {
    at: &'a Path,
    /// What the last command printed.
    said: String,
    print: bool,
}

impl Reader<'_> {
    fn types(&mut self, line: &str) {
        let words = line.strip_prefix("cargo lab").expect("a command of the lab").split_whitespace();
        let lab = env!("CARGO_BIN_EXE_lab");
        let output = Command::new(lab).args(words).current_dir(self.at).output().expect("the lab starts");
        self.said =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code().is_some_and(|c| c < 2), "{line}: {}", self.said);
        if self.print {
            eprintln!("$ {line}\n{}", self.said);
        }
    }

    /// The command that the last output names after `next:`, which begins so.
    fn next(&self, begins: &str) -> String {
        let (_, after) =
            self.said.rsplit_once("\nnext: ").unwrap_or_else(|| panic!("no next step in: {}", self.said));
        let at = after.find(begins).unwrap_or_else(|| panic!("wanted {begins} in: {after}"));
        after[at..].lines().next().expect("a line").trim().to_owned()
    }

    /// The file and the item that the last output names.
    fn place(&self) -> (String, String) {
        let (_, after) = self.said.split_once("\nWhere:\n").expect("a place");
        let mut words = after.split_whitespace();
        let (place, item) = (words.next().expect("a file"), words.next().expect("an item"));
        (place.split(':').next().expect("a file").to_owned(), item.to_owned())
    }
}
