//! `$` in a Dockerfile: what stands for what, and what stands for itself.

use super::{
    Answer, Case, Exercise, Wrong,
    tool::{ran, refused, unwell, well},
};
use crate::{image::Layout, run::Ended, verdict::Verdict};
use anyhow::{Context, Result};
use std::fs;

pub(super) const EXERCISE: Exercise = Exercise {
    id: "dockerfile/expand",
    title: "expand the variables of a Dockerfile",
    section: "6.1",
    items: &[
        "dockerfile::expand::Lexer::until",
        "dockerfile::expand::Lexer::dollar",
        "dockerfile::expand::Lexer::braces",
    ],
    program: "dockerfile",
    points: 20,
    task: "The table at the top of the module says what is written and what it means. Three functions of its reader are yours.\n\
           `until` takes characters up to `stop` (or to the end, if there is none): quotes are the others' (`single`, `double`),\n\
           a `$` is `dollar`'s, the escape character takes its meaning from the next one (`out.quoted`), all else is\n\
           `out.bare`, and so is each character of a value. A `stop` that never comes is an error.\n\
           `dollar` comes after a `$`: `{` begins a substitution (at most MAX_DEPTH of them inside each other), else comes a\n\
           `name`; without one the `$` is itself. `braces` comes after `${`: the name, perhaps a colon, then one of\n\
           `} - + ? # % /`; `part` reads the word that follows, `doubled` sees ## %% //, `glob` has the patterns.",
    invariants: &[
        "a value is never read again: what is in it is text, also if it holds a `$`, a quote or an escape",
        "`:` means that an empty value is as good as none",
        "what cannot be understood ends the build; it is never guessed",
    ],
    predict: "after `ENV a=1` and `ENV b='$a'`, what is `$b`?",
    hints: [
        "Write `dollar` first, without braces: a name, and its value or nothing. What does `cost: 5$` give?",
        "`${v:-w}`: whether v counts as set depends on the colon, and w is a text like any other, with variables in it. \
         Read w also when it is not used: the `}` that ends it must be found.",
        "is_set = the value is there, and (no colon, or it is not empty). Then match on the next character: `}` only without a \
         colon; `-` `+` `?` take part('}', false); `#` `%` take part('}', true) and glob::without_prefix or _suffix; `/` takes \
         part('/', true) and part('}', false).",
    ],
    why: (
        "Why are variables not expanded in RUN and CMD?",
        "A shell inside the container reads these, and has the same variables in its environment. If the builder had replaced \
         them before, `RUN echo \"$HOME\"` would mean the builder's HOME, and quoting could not be relied on.",
    ),
    check,
    wrong: &[
        Wrong {
            name: "an empty value counts as set, colon or not",
            answer: Answer::Change(
                "dockerfile::expand::Lexer::braces",
                "value.as_deref().is_some_and(|v| !colon || !v.is_empty())",
                "value.is_some()",
            ),
            told: "with a colon, empty is as good as unset",
        },
        Wrong {
            name: "the escape is text",
            answer: Answer::Change(
                "dockerfile::expand::Lexer::until",
                "_ if c == self.escape =>",
                "_ if false =>",
            ),
            told: "an escaped character is itself",
        },
        Wrong {
            name: "the escape is always a backslash",
            answer: Answer::Change("dockerfile::expand::Lexer::until", "c == self.escape", "c == '\\\\'"),
            told: "# escape=`",
        },
        Wrong {
            name: "the value is expanded once more",
            answer: Answer::Change(
                "dockerfile::expand::Lexer::dollar",
                "(self.lookup)(&name).unwrap_or_default()",
                "word(&(self.lookup)(&name).unwrap_or_default(), self.escape, self.lookup).map_err(|e| e.to_string())?",
            ),
            told: "a value is not read again",
        },
        Wrong {
            name: "`+` is `-`",
            answer: Answer::Change(
                "dockerfile::expand::Lexer::braces",
                "if is_set { word } else { String::new() }",
                "if is_set { value.unwrap_or_default() } else { word }",
            ),
            told: ":+",
        },
        Wrong {
            name: "a brace that is never closed is forgiven",
            answer: Answer::Change(
                "dockerfile::expand::Lexer::until",
                "Some(stop) => Err(format!(\"unexpected end of statement while looking for matching {stop}\")),",
                "Some(_) => Ok(()),",
            ),
            told: "ends the build",
        },
        Wrong {
            name: "a missing value is taken for its message",
            answer: Answer::Change(
                "dockerfile::expand::Lexer::braces",
                "(false, false) => Err(format!(\"{name}: {word}\")),",
                "(false, false) => Ok(word),",
            ),
            told: "ends the build",
        },
        Wrong {
            name: "the depth is never taken back",
            answer: Answer::Change("dockerfile::expand::Lexer::dollar", "self.depth -= 1;", ""),
            told: "one after the other",
        },
    ],
};

/// How deep substitutions may lie in each other: the module's MAX_DEPTH.
const DEEP: usize = 32;

fn check(case: &Case) -> Result<Verdict> {
    Layout::make(&case.dir.join("store"))?;
    fs::create_dir(case.dir.join("context")).context("make a directory")?;
    let (name, none, empty, path, value, word) = (
        case.dice.word(),
        case.dice.word(),
        case.dice.word(),
        case.dice.word(),
        case.dice.word(),
        case.dice.word(),
    );
    let fill = |text: &str| {
        text.replace("VALUE", &value)
            .replace("NONE", &none)
            .replace("EMPTY", &empty)
            .replace("PATH", &path)
            .replace("WORD", &word)
            .replace("V", &name)
    };
    let before = format!("ENV {}\n", fill("V=VALUE EMPTY= PATH=/usr/lib/WORD.tar.gz"));

    // What is written, what it means, and what it shows.
    let mut lines: Vec<(String, String, &str)> =
        TABLE.iter().map(|(text, means, hint)| (fill(text), fill(means), *hint)).collect();
    let hint = "they come one after the other, not inside each other: is the depth taken back?";
    lines.push((fill(&"${V}".repeat(DEEP + 8)), value.repeat(DEEP + 8), hint));
    let nested = |depth: usize| fill(&format!("{}WORD{}", "${NONE:-".repeat(depth), "}".repeat(depth)));
    lines.push((nested(DEEP), word.clone(), "MAX_DEPTH of them may lie inside each other"));
    if let Some(verdict) = build(case, "plain", "", &before, &lines)? {
        return Ok(verdict);
    }
    let hint = "the line `# escape=`` makes ` the escape, and \\ a character like any other";
    let lines = [(fill("c:\\WORD`$V"), fill("c:\\WORD$V"), hint), (fill("c:\\$V"), fill("c:\\VALUE"), hint)];
    if let Some(verdict) = build(case, "backtick", "# escape=`\n", &before, &lines)? {
        return Ok(verdict);
    }

    // What ends the build, and what it must then say.
    let mut wrong: Vec<(String, String)> =
        REFUSED.iter().map(|(text, says)| (fill(text), fill(says))).collect();
    wrong.push((nested(DEEP + 1), String::new()));
    for (n, (text, says)) in wrong.into_iter().enumerate() {
        let name = format!("refused{n}");
        write(case, &name, &format!("FROM scratch\n{before}ENV RESULT={text}\n"))?;
        let ended = ran(case, &["build", "--store", "store", "-t", &name, "-f", &name, "context"])?;
        if !refused(&ended) || !ended.stderr.contains(&says) {
            let says = if says.is_empty() { String::new() } else { format!(", and the error says {says:?}") };
            return Ok(Verdict::failed(
                format!("{} ends the build{says}", short(&text)),
                ended.tell(),
                "what is neither understood nor complete is an error, with a sentence",
            ));
        }
    }
    Ok(Verdict::Passed)
}

/// Builds an image with a variable for each line, and looks for them in its configuration.
fn build(
    case: &Case,
    name: &str,
    directive: &str,
    before: &str,
    lines: &[(String, String, &str)],
) -> Result<Option<Verdict>> {
    let build = |count: usize| -> Result<Ended> {
        let mut text = format!("{directive}FROM scratch\n{before}");
        for (n, (line, ..)) in lines[..count].iter().enumerate() {
            text += &format!("ENV RESULT{n}={line}\n");
        }
        write(case, name, &text)?;
        ran(case, &["build", "--store", "store", "-t", name, "-f", name, "context"])
    };
    let escape = if directive.is_empty() { String::new() } else { format!(" (after {})", directive.trim()) };
    let means = |line: &str, means: &str| format!("{} means {:?}{escape}", short(line), short(means));
    let ended = build(lines.len())?;
    if !well(&ended) {
        // Which line was it? Those before it are built, those after it are not.
        let (mut right, mut wrong, mut said) = (0, lines.len(), ended);
        while right + 1 < wrong {
            let middle = right.midpoint(wrong);
            let ended = build(middle)?;
            if well(&ended) {
                right = middle;
            } else {
                (wrong, said) = (middle, ended);
            }
        }
        let (line, value, hint) = &lines[wrong - 1];
        return Ok(Some(unwell(&means(line, value), &said, hint)));
    }
    let layout = Layout { dir: case.dir.join("store") };
    let (_, config) = layout.find(&format!("{name}:latest"))?.context("the image is not in the store")?;
    let env = config["config"]["Env"].as_array().cloned().unwrap_or_default();
    for (n, (line, value, hint)) in lines.iter().enumerate() {
        let prefix = format!("RESULT{n}=");
        let found = env.iter().filter_map(|e| e.as_str()?.strip_prefix(&prefix)).next();
        if found != Some(value) {
            let found = found.map_or("no such variable".into(), |f| format!("{:?}", short(f)));
            return Ok(Some(Verdict::failed(means(line, value), found, *hint)));
        }
    }
    Ok(None)
}

/// Enough of a long text.
fn short(text: &str) -> String {
    let kept: String = text.chars().take(60).collect();
    if kept.len() < text.len() { kept + "..." } else { kept }
}

fn write(case: &Case, name: &str, text: &str) -> Result<()> {
    fs::write(case.dir.join(name), text).with_context(|| format!("write {name}"))
}

const PLAIN: &str = "a `$` and a name, or `${name}`, are the value; of what is not set, nothing";
const SELF: &str = "a `$` that begins no name is itself";
const ESCAPE: &str = "an escaped character is itself, be it $, a quote, or the escape";
const QUOTE: &str =
    "'...' is as it is; in \"...\" there are variables, and only $, \" and the escape can be escaped";
const AGAIN: &str = "a value is not read again: what is in it is text";
const COLON: &str = "with a colon, empty is as good as unset";
const NESTED: &str = "the word in the braces may itself hold variables and quotes";
const PATTERN: &str = "# cuts a beginning, % an end, twice the longest one; / replaces the first, // each";

/// V is a variable that is VALUE; EMPTY one that is empty; NONE one that is not set; WORD is a word.
const TABLE: &[(&str, &str, &str)] = &[
    ("$V", "VALUE", PLAIN),
    ("${V}", "VALUE", PLAIN),
    ("a${V}b", "aVALUEb", PLAIN),
    ("$V.$V/$V", "VALUE.VALUE/VALUE", PLAIN),
    ("[$NONE|${NONE}|$EMPTY]", "[||]", PLAIN),
    ("${V}WORD$V", "VALUEWORDVALUE", PLAIN),
    ("WORD$", "WORD$", SELF),
    ("$.WORD", "$.WORD", SELF),
    ("$/$V", "$/VALUE", SELF),
    ("\\$V", "$V", ESCAPE),
    ("\\\\$V", "\\VALUE", ESCAPE),
    ("\\${V}", "${V}", ESCAPE),
    ("\\'$V\\'", "'VALUE'", ESCAPE),
    ("\\WORD", "WORD", ESCAPE),
    ("WORD\\ $V", "WORD VALUE", ESCAPE),
    ("'$V'", "$V", QUOTE),
    ("'\\$V'", "\\$V", QUOTE),
    ("\"$V WORD\"", "VALUE WORD", QUOTE),
    ("\"\\$V \\WORD\"", "$V \\WORD", QUOTE),
    ("a'b'\"c\"", "abc", QUOTE),
    ("$V'$V'\"$V\"", "VALUE$VVALUE", QUOTE),
    // RESULT21 and what follows it.
    ("'$V \"\\'", "$V \"\\", QUOTE),
    ("$RESULT21", "$V \"\\", AGAIN),
    ("${RESULT21}", "$V \"\\", AGAIN),
    ("${NONE:-$RESULT21}", "$V \"\\", AGAIN),
    ("${V:-WORD}", "VALUE", COLON),
    ("${NONE:-WORD}", "WORD", COLON),
    ("${EMPTY:-WORD}", "WORD", COLON),
    ("${V-WORD}", "VALUE", COLON),
    ("${NONE-WORD}", "WORD", COLON),
    ("[${EMPTY-WORD}]", "[]", COLON),
    ("${V:+WORD}", "WORD", COLON),
    ("[${NONE:+WORD}${EMPTY:+WORD}]", "[]", COLON),
    ("${V+WORD}", "WORD", COLON),
    ("[${NONE+WORD}]", "[]", COLON),
    ("${EMPTY+WORD}", "WORD", COLON),
    ("${V:?WORD}", "VALUE", COLON),
    ("${V?WORD}", "VALUE", COLON),
    ("[${EMPTY?WORD}]", "[]", COLON),
    ("${NONE:-}WORD", "WORD", NESTED),
    ("${NONE:-a${V}b}", "aVALUEb", NESTED),
    ("${NONE:-${NONE:-$V}}.WORD", "VALUE.WORD", NESTED),
    ("${NONE:-'}'}", "}", NESTED),
    ("${NONE:-\\}}", "}", NESTED),
    ("${V:+a${V}}WORD", "aVALUEWORD", NESTED),
    ("${V:-${NONE:-WORD}}", "VALUE", NESTED),
    ("${PATH#*/}", "usr/lib/WORD.tar.gz", PATTERN),
    ("${PATH##*/}", "WORD.tar.gz", PATTERN),
    ("${PATH%.*}", "/usr/lib/WORD.tar", PATTERN),
    ("${PATH%%.*}", "/usr/lib/WORD", PATTERN),
    ("${PATH/WORD/x}", "/usr/lib/x.tar.gz", PATTERN),
    ("${PATH/.\\*/x}", "/usr/lib/WORD.tar.gz", PATTERN),
    ("${PATH//\\//:}", ":usr:lib:WORD.tar.gz", PATTERN),
    ("${PATH/\\//:}", ":usr/lib/WORD.tar.gz", PATTERN),
    ("[${NONE#x}${NONE%x}${NONE/x/y}]", "[]", PATTERN),
    ("${V/VALUE/$PATH}", "/usr/lib/WORD.tar.gz", PATTERN),
];

/// What ends a build, and what the error has in it.
const REFUSED: &[(&str, &str)] = &[
    ("${V", "}"),
    ("${V:-WORD", "}"),
    ("${V:-${V}", "}"),
    ("${}", "substitution"),
    ("${:-WORD}", "substitution"),
    ("${V:}", ":}"),
    ("${V:xWORD}", ":x"),
    ("${V!WORD}", "!"),
    ("${V:#WORD}", ":#"),
    ("${V:%WORD}", ":%"),
    ("${V:/a/b}", ":/"),
    ("${NONE:?WORD}", "WORD"),
    ("${NONE?WORD}", "WORD"),
    ("${EMPTY:?WORD}", "WORD"),
    ("${NONE?}", "NONE"),
    ("${NONE:?}", "NONE"),
    ("'$V", "quote"),
];
