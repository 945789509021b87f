//! What a Dockerfile says, as data: the tree that `dockerfile parse` prints.

use serde::Serialize;
use std::collections::BTreeMap;

/// A Dockerfile, parsed.
#[derive(Clone, Debug, Serialize)]
pub struct Dockerfile {
    /// The parser directives of its first lines: `escape`, `syntax`, `check`.
    pub directives: BTreeMap<String, String>,
    /// The character that continues a line and takes the meaning from the next character: `\`, or what
    /// `# escape=` says.
    pub escape: char,
    /// The `ARG`s before the first `FROM`: they are seen by every `FROM`.
    pub args: Vec<Instruction>,
    /// Each `FROM` with what follows it.
    pub stages: Vec<Stage>,
}

/// One `FROM` and what follows it.
#[derive(Clone, Debug, Serialize)]
pub struct Stage {
    /// `AS name`, in lower case.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The image, or the stage, that it starts from, as it is written.
    pub base: String,
    /// All of it; the `FROM` is the first.
    pub instructions: Vec<Instruction>,
}

/// One instruction.
#[derive(Clone, Debug, Serialize)]
pub struct Instruction {
    /// The line it starts on, from 1.
    pub line: usize,
    /// Its name in upper case.
    #[serde(rename = "instruction")]
    pub keyword: String,
    /// `--name=value` before its arguments.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<Flag>,
    /// What follows.
    pub args: Args,
    /// The documents that follow its line.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub heredocs: Vec<Heredoc>,
    /// The instruction as it is written, continued lines joined.
    #[serde(skip)]
    pub text: String,
}

/// `--name=value`.
#[derive(Clone, Debug, Serialize)]
pub struct Flag {
    /// Without the dashes.
    pub name: String,
    /// A flag without a value is a switch that is on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

/// The arguments of an instruction, in the form in which they are written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Args {
    /// The rest of the line as it is: `RUN make all`.
    Text(String),
    /// `["a", "b"]`.
    Json(Vec<String>),
    /// Words with spaces between.
    Words(Vec<String>),
    /// `name=value name=value`.
    Pairs(Vec<Pair>),
}

/// `name=value`, or for `ARG` a name alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Pair {
    /// Before the `=`.
    pub name: String,
    /// After it, quotes and variables still in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

/// A document in the lines after an instruction: `<<NAME`.
#[derive(Clone, Debug, Serialize)]
pub struct Heredoc {
    /// The word that ends it.
    pub name: String,
    /// Its lines.
    pub content: String,
    /// `<<NAME` expands variables in a file for COPY, `<<"NAME"` does not.
    pub expand: bool,
    /// `<<-NAME`: tabs at the beginning of its lines are taken away.
    pub chomp: bool,
}

/// How an instruction's arguments are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// [`Args::Text`], which must be there.
    Text,
    /// [`Args::Json`] if it is that, otherwise [`Args::Text`].
    Command,
    /// [`Args::Json`] if it is that, otherwise [`Args::Words`].
    Paths,
    /// [`Args::Words`].
    Words,
    /// [`Args::Pairs`], or the old `name value` of `ENV` and `LABEL`.
    Pairs,
    /// [`Args::Pairs`] in which a name may stand alone.
    Names,
    /// [`Args::Text`] that is itself an instruction.
    Trigger,
}

impl Instruction {
    /// The value of a flag; of a switch, the empty string.
    pub fn flag(&self, name: &str) -> Option<&str> {
        self.flags.iter().find(|f| f.name == name).map(|f| f.value.as_deref().unwrap_or(""))
    }

    /// Whether a switch is on: `--link`, `--link=true`.
    pub fn switch(&self, name: &str) -> bool {
        matches!(self.flag(name), Some("" | "true" | "True" | "TRUE" | "1" | "t" | "T"))
    }

    /// The arguments as words: those of JSON and of words; the text as one.
    pub fn words(&self) -> Vec<&str> {
        match &self.args {
            Args::Text(text) => vec![text],
            Args::Json(words) | Args::Words(words) => words.iter().map(String::as_str).collect(),
            Args::Pairs(pairs) => pairs.iter().map(|p| p.name.as_str()).collect(),
        }
    }

    /// The arguments as pairs.
    pub fn pairs(&self) -> &[Pair] {
        match &self.args {
            Args::Pairs(pairs) => pairs,
            _ => &[],
        }
    }

    /// The arguments as one text.
    pub fn text_args(&self) -> &str {
        match &self.args {
            Args::Text(text) => text,
            _ => "",
        }
    }
}
