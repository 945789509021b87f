//! What a build does not see: a few lines of patterns, of which the last one that matches decides.

use super::{
    Answer, Case, Exercise, Wrong,
    tool::{ran, refused, unwell, well},
};
use crate::{
    image::{self, Layout},
    verdict::Verdict,
};
use anyhow::{Context, Result};
use std::{collections::BTreeSet, fs, path::Path};

pub(super) const EXERCISE: Exercise = Exercise {
    id: "dockerfile/ignore",
    title: "leave out what .dockerignore says",
    section: "6.1",
    items: &[
        "dockerfile::ignore::Ignore::add",
        "dockerfile::ignore::Ignore::matched",
        "dockerfile::ignore::Ignore::excludes",
    ],
    program: "dockerfile",
    points: 15,
    task: "A walk goes down the context and asks of each path what the lines of the ignore file say. `add` takes one line: a\n\
           `!` at its beginning takes paths back (`back`); the rest is a pattern (`Pattern::path`, with true for `**`), made\n\
           clean first (`clean`); nothing at all is an \"illegal exclusion pattern\". It notes in `exceptions` that something is\n\
           taken back. `matched` says for each rule whether it matches a path, or has matched a directory above it (`parent` is\n\
           what `matched` gave for that); the context itself, the empty path, matches nothing. `excludes` reads that: whether\n\
           the path is left out.",
    invariants: &[
        "the last rule that matches decides, be it of the path itself or of a directory above it",
        "a pattern is about the whole path from the context on: a name alone is a name at the top",
        "below a directory that is left out there may be something that is taken back",
    ],
    predict: "with the lines `docs`, `!docs/api` and `*.md`: is `docs/api/index.md` in the build? And `docs/readme.md`?",
    hints: [
        "How is this another thing than .gitignore? There, a name without a slash is looked for in every directory.",
        "Keep a list of booleans, one for each rule, and hand it down: what has matched a directory has matched all below.",
        "matched: above(i) || pattern.matches(path), for each rule. excludes: zip rules and booleans, from the end, the first \
         that is true; left out unless that one takes back; without one, not.",
    ],
    why: (
        "Why must the walk enter a directory that is left out?",
        "A later line may take back something in it. Only if no line takes anything back can it be skipped: for \
         node_modules that is the difference between one look and a hundred thousand.",
    ),
    check,
    wrong: &[
        Wrong {
            name: "the first rule decides",
            answer: Answer::Change("dockerfile::ignore::Ignore::excludes", ".rev()", ""),
            told: "the last line that matches",
        },
        Wrong {
            name: "`!` is a line like any other",
            answer: Answer::Change(
                "dockerfile::ignore::Ignore::add",
                "(true, rest.trim())",
                "(false, rest.trim())",
            ),
            told: "takes paths back",
        },
        Wrong {
            name: "a directory does not stand for what is in it",
            answer: Answer::Change(
                "dockerfile::ignore::Ignore::matched",
                "above(i) || r.pattern.matches(path)",
                "{ let _ = above(i); r.pattern.matches(path) }",
            ),
            told: "matches all below it",
        },
        Wrong {
            name: "a name is looked for in every directory, as git does",
            answer: Answer::Change(
                "dockerfile::ignore::Ignore::matched",
                "r.pattern.matches(path)",
                "path.rsplit('/').next().is_some_and(|name| r.pattern.matches(name)) || r.pattern.matches(path)",
            ),
            told: "whole path",
        },
        Wrong {
            name: "the pattern is not made clean",
            answer: Answer::Change("dockerfile::ignore::Ignore::add", "&clean(text)", "text"),
            told: "as Go's filepath.Clean",
        },
        Wrong {
            name: "nobody is told that something is taken back",
            answer: Answer::Change("dockerfile::ignore::Ignore::add", "self.exceptions |= back;", ""),
            told: "takes paths back",
        },
        Wrong {
            name: "an empty pattern is no error",
            answer: Answer::Change("dockerfile::ignore::Ignore::add", "if text.is_empty() {", "if false {"),
            told: "ends the build",
        },
    ],
};

/// The context. AA, BB, DD and EE are words of this run.
const FILES: &[&str] = &[
    "AA.md",
    "README.md",
    "BB.txt",
    "DD/AA.md",
    "DD/keep",
    "DD/sub/keep",
    "DD/sub/tempx",
    "EE/tempx",
    "temp",
];

const LAST: &str = "the last line that matches decides, whatever stands before it";
const BACK: &str = "a line that begins with `!` takes paths back; then a directory that is left out must be entered all the same";
const BELOW: &str = "a pattern that matches a directory matches all below it";
const WHOLE: &str = "a pattern is about the whole path: `a` is not `x/a`, and `*` matches no slash";
const CLEAN: &str = "outer slashes, `.` and `..` are taken out first, as Go's filepath.Clean does it";

/// The lines of an ignore file, what they leave out, and what may be wrong if it is something else.
const TABLE: &[(&str, &[&str], &str)] = &[
    ("", &[], WHOLE),
    ("DD", &["DD/AA.md", "DD/keep", "DD/sub/keep", "DD/sub/tempx"], BELOW),
    ("AA.md", &["AA.md"], WHOLE),
    ("keep", &[], WHOLE),
    ("*.md", &["AA.md", "README.md"], WHOLE),
    ("*/temp*", &["EE/tempx"], WHOLE),
    ("temp?", &[], WHOLE),
    ("**/AA.md", &["AA.md", "DD/AA.md"], WHOLE),
    ("# DD\n\n  BB.txt  ", &["BB.txt"], WHOLE),
    ("/DD/", &["DD/AA.md", "DD/keep", "DD/sub/keep", "DD/sub/tempx"], CLEAN),
    ("./EE/../BB.txt", &["BB.txt"], CLEAN),
    (".", &[], CLEAN),
    ("DD\n!nothing", &["DD/AA.md", "DD/keep", "DD/sub/keep", "DD/sub/tempx"], BELOW),
    ("!README.md\n*.md", &["AA.md", "README.md"], LAST),
    ("*.md\n!README.md", &["AA.md"], BACK),
    ("*.md\n! README.md", &["AA.md"], BACK),
    ("DD\n!DD/keep", &["DD/AA.md", "DD/sub/keep", "DD/sub/tempx"], BACK),
    ("DD\n!DD/sub", &["DD/AA.md", "DD/keep"], BELOW),
    ("DD\n!BB.txt", &["DD/AA.md", "DD/keep", "DD/sub/keep", "DD/sub/tempx"], BELOW),
    (
        "*\n!DD/sub/keep",
        &["AA.md", "README.md", "BB.txt", "DD/AA.md", "DD/keep", "DD/sub/tempx", "EE/tempx", "temp"],
        BACK,
    ),
    ("**\n!**/keep", &["AA.md", "README.md", "BB.txt", "DD/AA.md", "DD/sub/tempx", "EE/tempx", "temp"], BACK),
    ("*.md\n!README*.md\nREADME.md", &["AA.md", "README.md"], LAST),
    ("DD/sub\n!DD", &[], LAST),
    ("DD/**\n!DD/sub/**\nDD/sub/temp*", &["DD/AA.md", "DD/keep", "DD/sub/tempx"], LAST),
];

fn check(case: &Case) -> Result<Verdict> {
    let words: Vec<String> = (0..4).map(|_| case.dice.word()).collect();
    let fill = |text: &str| {
        let names = ["AA", "BB", "DD", "EE"].into_iter().zip(&words);
        names.fold(text.to_owned(), |text, (name, word)| text.replace(name, word))
    };
    let context = case.dir.join("context");
    for file in FILES {
        let path = context.join(fill(file));
        fs::create_dir_all(path.parent().unwrap_or(&context)).context("make a directory")?;
        fs::write(&path, fill(file)).context("write a file")?;
    }
    fs::write(case.dir.join("Dockerfile"), "FROM scratch\nCOPY . /all/\n").context("write a Dockerfile")?;
    Layout::make(&case.dir.join("store"))?;

    for (lines, out, hint) in TABLE {
        let lines = fill(lines);
        fs::write(context.join(".dockerignore"), &lines).context("write the ignore file")?;
        let ended = ran(
            case,
            &["build", "--no-cache", "--store", "store", "-t", "it", "-f", "Dockerfile", "context"],
        )?;
        if !well(&ended) {
            return Ok(unwell(&format!("a context with this ignore file is built:\n{lines}"), &ended, hint));
        }
        let expected: BTreeSet<String> = FILES.iter().filter(|f| !out.contains(f)).map(|f| fill(f)).collect();
        let found = copied(&case.dir.join("store"))?;
        if found != expected {
            let told = |set: Vec<&String>| set.into_iter().map(String::as_str).collect::<Vec<_>>().join(", ");
            let (more, less) =
                (told(found.difference(&expected).collect()), told(expected.difference(&found).collect()));
            let out: Vec<String> = out.iter().map(|f| fill(f)).collect();
            let out = if out.is_empty() { "nothing".to_owned() } else { out.join(", ") };
            let seen = format!("wrongly copied: {more}\nwrongly left out: {less}");
            return Ok(Verdict::failed(format!("this ignore file leaves out {out}:\n{lines}"), seen, *hint));
        }
    }
    for lines in ["!", "DD\n!  "] {
        fs::write(context.join(".dockerignore"), fill(lines)).context("write the ignore file")?;
        let ended = ran(case, &["build", "--store", "store", "-t", "bad", "-f", "Dockerfile", "context"])?;
        if !refused(&ended) || !ended.stderr.contains("illegal exclusion pattern") {
            let expected = "a `!` with nothing behind it ends the build: illegal exclusion pattern";
            return Ok(Verdict::failed(expected, ended.tell(), "what cannot be meant is an error"));
        }
    }
    Ok(Verdict::Passed)
}

/// The files below /all in the image that was built.
fn copied(store: &Path) -> Result<BTreeSet<String>> {
    let layout = Layout { dir: store.to_owned() };
    let (manifest, _) = layout.find("it:latest")?.context("the image is not in the store")?;
    let mut files = BTreeSet::new();
    for layer in manifest["layers"].as_array().into_iter().flatten() {
        let tar = image::inflate(&fs::read(layout.path(layer["digest"].as_str().unwrap_or_default()))?)?;
        for entry in tar::Archive::new(tar.as_slice()).entries()? {
            let entry = entry?;
            let path = entry.path()?.display().to_string();
            // The ignore file itself is a file of the context like any other.
            let name = path.strip_prefix("all/").filter(|name| *name != ".dockerignore");
            if entry.header().entry_type() == tar::EntryType::Regular {
                files.extend(name.map(str::to_owned));
            }
        }
    }
    Ok(files)
}
