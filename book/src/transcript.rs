//! The terminal transcripts of a page: what a reader types, and what the machine answers.
//!
//! A transcript is a code block of the language `console`. Every one is run by `tests/transcripts.rs` and compared,
//! so that none can lie. The words behind `console` say what the test has to know; the reader does not see them:
//!
//! | word | what it says |
//! |---|---|
//! | `root`, `user`, `v1`, `v2` | it needs root, an ordinary user, a version of control groups |
//! | `with PROGRAM` | it needs a program that not everyone has |
//! | `fresh` | a new session begins: an empty directory, an engine that knows nothing |
//! | `terminal 2` | typed in a second terminal of the same session |
//! | `setup` | run, but not shown: what the text has said must be there |
//! | `below` | an outline: each line is run by another block of the page |
//! | `not run: REASON` | the only way out, for what no test machine can do |
//!
//! A block of another language with the word `file NAME` is a file that the reader writes: the session has it from there on.
//!
//! What varies is marked where it stands, with its kind and an example: `‹pid 4711›`. The page shows the example, the test
//! accepts whatever is of that kind. A line that is only `…` stands for any number of lines.

use anyhow::{Result, anyhow, bail};
use regex::Regex;
use std::sync::LazyLock;

/// A transcript.
#[derive(Debug)]
pub struct Block {
    /// The line of the page on which it begins, from 1.
    pub line: usize,
    /// What is done with it.
    pub kind: Kind,
    /// What it needs of the machine: `root`, `v2`, `with podman` …
    pub needs: Vec<String>,
    /// Whether a new session begins with it.
    pub fresh: bool,
    /// In which of the session's terminals it is typed.
    pub terminal: usize,
    /// The commands, and what each answers.
    pub steps: Vec<Step>,
}

/// What is done with a transcript.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Run, compared, and shown.
    Run,
    /// Run, and not shown.
    Setup,
    /// Shown; its lines are commands of other blocks.
    Below,
    /// Shown, and not run, for a reason.
    NotRun(String),
    /// A file that the reader writes: its name. Its lines are the answer of the only step.
    File(String),
}

/// A command, and what it answers.
#[derive(Debug)]
pub struct Step {
    /// The line of the page, from 1.
    pub line: usize,
    /// What is typed; several lines if the first ones end with a backslash.
    pub command: String,
    /// What the page shows as the answer.
    pub answer: Vec<String>,
}

/// The kinds of what varies, and the pattern of each.
const KINDS: [(&str, &str); 13] = [
    ("pid", r"\d+"),
    ("number", r"[0-9]+(?:\.[0-9]+)?"),
    ("id", r"(?:[0-9a-f]{64}|[0-9a-f]{12}[0-9a-f]*…?)"),
    ("digest", r"sha256:[0-9a-f]{64}"),
    ("hex", r"(?:0x)?[0-9a-f]+"),
    ("time", r"\d{1,2}:\d\d(?::\d\d)?"),
    ("date", r"\w{3} +\d{1,2} +(?:\d\d:\d\d|\d{4})"),
    ("ago", r"(?:Less than a second|About an? \w+|\d+ \w+)(?: ago)?"),
    ("size", r"\d+(?:\.\d+)? ?[kKMGT]?(?:i?B)?"),
    ("duration", r"(?:\d+m)?\d+(?:\.\d+)? ?(?:µs|ms|s)?"),
    ("tty", r"(?:pts/\d+|\?)"),
    ("word", r"\S+"),
    ("any", r".*"),
];

/// The kinds again, each as the pattern of a whole example.
static WHOLE: LazyLock<Vec<Regex>> = LazyLock::new(|| {
    let whole = |(_, kind): &(&str, &str)| Regex::new(&format!("^(?:{kind})$"));
    KINDS.iter().map(|kind| whole(kind).expect("a pattern of ours")).collect()
});

/// The transcripts of a page, in its order.
pub fn blocks(page: &str) -> Result<Vec<Block>> {
    let mut found: Vec<Block> = Vec::new();
    let mut open = false;
    for (at, line) in page.lines().enumerate() {
        let bare = line.trim_start();
        let wrong = |why: &str| anyhow!("line {}: {why}", at + 1);
        if let Some(info) = bare.strip_prefix("```") {
            let (language, words) = info.split_once(' ').unwrap_or((info, ""));
            let was_open = std::mem::replace(&mut open, false);
            if let Some(name) = words.strip_prefix("file ").filter(|_| !was_open) {
                let step = Step { line: at + 1, command: String::new(), answer: Vec::new() };
                let kind = Kind::File(name.into());
                found.push(Block { kind, steps: vec![step], ..header(at + 1, "")? });
                open = true;
            } else if !was_open && language == "console" {
                open = true;
                found.push(header(at + 1, words).map_err(|e| wrong(&e.to_string()))?);
            }
            continue;
        }
        let Some(block) = found.last_mut().filter(|_| open) else { continue };
        if let (Kind::File(_), [step]) = (&block.kind, &mut block.steps[..]) {
            step.answer.push(line.into());
            continue;
        }
        let continues = block.steps.last().is_some_and(|s| s.answer.is_empty() && s.command.ends_with('\\'));
        if continues {
            if let Some(step) = block.steps.last_mut() {
                step.command = format!("{}\n{}", step.command, bare);
            }
        } else if let Some(command) = typed(bare) {
            block.steps.push(Step { line: at + 1, command: command.into(), answer: Vec::new() });
        } else {
            pattern(bare).map_err(|e| wrong(&e.to_string()))?;
            let step = block.steps.last_mut().ok_or_else(|| wrong("an answer before the first command"))?;
            step.answer.push(bare.into());
        }
    }
    outlines(&found)?;
    Ok(found)
}

/// What is typed on a line that begins with a prompt. The head of a table (`#   µs`) does not.
fn typed(line: &str) -> Option<&str> {
    let command = line.strip_prefix("$ ").or_else(|| line.strip_prefix("# "))?;
    (!command.starts_with(' ')).then_some(command)
}

fn header(line: usize, words: &str) -> Result<Block> {
    let mut block =
        Block { line, kind: Kind::Run, needs: Vec::new(), fresh: false, terminal: 1, steps: Vec::new() };
    if let Some(reason) = words.strip_prefix("not run: ") {
        block.kind = Kind::NotRun(reason.into());
        return Ok(block);
    }
    for word in words.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        match word.split_once(' ').unwrap_or((word, "")) {
            ("root" | "user" | "v1" | "v2", "") => block.needs.push(word.into()),
            ("with", _) => block.needs.push(word.into()),
            ("fresh", "") => block.fresh = true,
            ("terminal", number) => block.terminal = number.parse()?,
            ("setup", "") => block.kind = Kind::Setup,
            ("below", "") => block.kind = Kind::Below,
            _ => bail!("a transcript knows no `{word}`"),
        }
    }
    Ok(block)
}

/// An outline promises only what is run.
fn outlines(blocks: &[Block]) -> Result<()> {
    let plain = |command: &str| {
        let words: Vec<&str> = command.split_whitespace().filter(|word| *word != "-q").collect();
        words.join(" ")
    };
    let run = |block: &&Block| matches!(block.kind, Kind::Run | Kind::NotRun(_));
    let known: Vec<String> =
        blocks.iter().filter(run).flat_map(|block| &block.steps).map(|step| plain(&step.command)).collect();
    let mut wrong = Vec::new();
    for step in blocks.iter().filter(|b| b.kind == Kind::Below).flat_map(|block| &block.steps) {
        let promised = plain(&step.command);
        let kept = match promised.strip_suffix('…') {
            Some(start) => known.iter().any(|command| command.starts_with(start.trim_end())),
            None => known.contains(&promised),
        };
        if !kept {
            wrong.push(format!("line {}: no block of this page runs `{promised}`", step.line));
        }
    }
    if wrong.is_empty() { Ok(()) } else { bail!(wrong.join("\n")) }
}

/// The page as the reader sees it: without the words for the test, an example where something varies. Lines
/// keep their numbers.
pub(crate) fn shown(page: &str) -> Result<String> {
    let mut out = String::with_capacity(page.len());
    let (mut console, mut hidden) = (false, false);
    for (at, line) in page.lines().enumerate() {
        if let Some(info) = line.trim_start().strip_prefix("```") {
            let indent = &line[..line.len() - line.trim_start().len()];
            let closes = console;
            let (language, words) = info.split_once(' ').unwrap_or((info, ""));
            console = !console && language == "console";
            if console {
                hidden = words.split(',').any(|word| word.trim() == "setup");
            }
            if !hidden && console {
                out.push_str(&format!("{indent}```console"));
            } else if !hidden {
                out.push_str(if words.starts_with("file ") {
                    line.trim_end_matches(words).trim_end()
                } else {
                    line
                });
            }
            hidden &= !closes;
        } else if console && !hidden {
            let (shown, _) = pattern(line).map_err(|e| anyhow!("line {}: {e}", at + 1))?;
            out.push_str(&shown);
        } else if !console {
            out.push_str(line);
        }
        out.push('\n');
    }
    Ok(out)
}

/// A line of an answer: how it is shown, and the pattern that it stands for. White space only separates: the
/// columns of a table are as wide as what is in them.
fn pattern(line: &str) -> Result<(String, String)> {
    let (mut shown, mut pattern) = (String::new(), String::new());
    let mut rest = line;
    while let Some((before, after)) = rest.split_once('‹') {
        let (mark, after) = after.split_once('›').ok_or_else(|| anyhow!("`‹` without `›`"))?;
        let (kind, example) = mark.split_once(' ').ok_or_else(|| anyhow!("‹{mark}› has no example"))?;
        let known = KINDS.iter().zip(&*WHOLE).find(|((name, _), _)| *name == kind);
        let ((_, of_kind), whole) = known.ok_or_else(|| anyhow!("nothing that varies is called `{kind}`"))?;
        if !whole.is_match(example) {
            bail!("`{example}` is no {kind}");
        }
        shown += &format!("{before}{example}");
        pattern += &format!("{}(?:{of_kind})", literal(before));
        rest = after;
    }
    Ok((shown + rest, pattern + &literal(rest)))
}

fn literal(text: &str) -> String {
    let mut out = String::new();
    let mut space = false;
    for c in text.chars() {
        if c.is_whitespace() {
            space = true;
            continue;
        }
        if std::mem::take(&mut space) {
            out.push_str(r"\s+");
        }
        out.push_str(&regex::escape(&c.to_string()));
    }
    if space { out + r"\s+" } else { out }
}

/// Whether what a command answered is what the page shows.
pub fn matches(expected: &[String], answer: &str) -> bool {
    let mut whole = String::from(r"(?m)\A");
    for line in expected {
        if line.trim() == "…" {
            whole.push_str(r"(?:.*\n)*?");
        } else if let Ok((_, pattern)) = pattern(line.trim()) {
            whole.push_str(&format!(r"[ \t]*{pattern}[ \t]*\n"));
        }
    }
    let mut answer: String = answer.lines().map(|line| format!("{}\n", line.trim_end())).collect();
    // An empty line at the end, of either, is layout.
    while answer.ends_with("\n\n") {
        answer.pop();
    }
    if answer == "\n" {
        answer.clear();
    }
    Regex::new(&(whole + r"\z")).is_ok_and(|regex| regex.is_match(&answer))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "\
text
```console below
$ a …
```
```console root, with podman, fresh
$ a b \\
  c
PID ‹pid 7› is  up
…
$ d
```
```console setup
$ hidden
```
```console terminal 2
# e
```
```console not run: it takes a cluster
$ kubectl
```
";

    fn lines(lines: &[&str]) -> Vec<String> {
        lines.iter().map(|line| (*line).into()).collect()
    }

    #[test]
    fn a_page_is_read() {
        let blocks = blocks(PAGE).unwrap();
        assert_eq!(blocks.len(), 5);
        assert_eq!(blocks[1].needs, ["root", "with podman"]);
        assert!(blocks[1].fresh && blocks[1].line == 5);
        assert_eq!(blocks[1].steps[0].command, "a b \\\nc");
        assert_eq!(blocks[1].steps[0].answer.len(), 2);
        assert_eq!((blocks[2].kind.clone(), blocks[3].terminal), (Kind::Setup, 2));
        assert_eq!(blocks[4].kind, Kind::NotRun("it takes a cluster".into()));
    }

    #[test]
    fn the_reader_sees_an_example() {
        let shown = shown(PAGE).unwrap();
        assert!(shown.contains("PID 7 is  up\n"), "{shown}");
        assert!(
            !shown.contains("hidden") && !shown.contains("podman") && !shown.contains("cluster"),
            "{shown}"
        );
        assert_eq!(shown.lines().count(), PAGE.lines().count());
        assert_eq!(shown.matches("```").count(), 8);
    }

    #[test]
    fn what_varies_may_vary_and_nothing_else() {
        let page = lines(&["PID ‹pid 7› is  up"]);
        assert!(matches(&page, "PID 1234    is up\n"));
        assert!(!matches(&page, "PID x is up\n") && !matches(&page, "PID 1 is up\nmore\n"));
        assert!(!matches(&page, "") && !matches(&[], "something\n") && matches(&[], ""));
        let page = lines(&["first", "…", "last"]);
        assert!(matches(&page, "first\nlast\n") && matches(&page, "first\n1\n2\nlast"));
        assert!(!matches(&page, "first\n1\n"));
        let page = lines(&["‹ago 3 seconds ago› ‹id 0123456789ab› ‹size 1.99MB›"]);
        assert!(matches(&page, "Less than a second ago 7d6cc7d89a4e 102MB\n"));
    }

    #[test]
    fn a_wrong_mark_and_an_empty_promise_are_errors() {
        let error = |page: &str| blocks(page).unwrap_err().to_string();
        assert_eq!(error("```console\n$ a\n‹pid x›\n```"), "line 3: `x` is no pid");
        assert!(error("```console\n$ a\n‹flux 1›\n```").contains("nothing that varies"));
        assert!(error("```console below\n$ a\n```").contains("no block of this page runs `a`"));
        assert!(error("```console sometimes\n$ a\n```").contains("knows no `sometimes`"));
    }
}
