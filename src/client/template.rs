//! `--format '{{.State.Status}}'`: the part of Go's text/template that people use with docker.
//!
//! Fields, `index`, `json`, `range`, `with`, `if`, variables, pipes, comparisons, and the functions
//! that docker adds, over a JSON document. [`parse`] makes a tree, [`Template::render`] walks it.

use anyhow::{Context, Result, anyhow, bail};
use serde_json::Value;
use std::{collections::HashMap, iter::Peekable, vec::IntoIter};

/// A parsed template.
#[derive(Debug)]
pub(crate) struct Template(Vec<Node>);

#[derive(Debug)]
enum Node {
    Text(String),
    Print(Pipe),
    Set(String, Pipe),
    If(Pipe, Vec<Node>, Vec<Node>),
    With(Pipe, Vec<Node>, Vec<Node>),
    Range { key: Option<String>, item: Option<String>, over: Pipe, each: Vec<Node>, none: Vec<Node> },
}

/// `a | b x | c`: each call gets the value before it as its last argument.
type Pipe = Vec<Vec<Term>>;

#[derive(Clone, Debug)]
enum Term {
    Literal(Value),
    /// `.A.B`
    Field(Vec<String>),
    /// `$x.A.B`; `$` is the whole document.
    Variable(String, Vec<String>),
    Group(Pipe, Vec<String>),
    Function(String),
}

type Variables = HashMap<String, Value>;

impl Template {
    /// Fills it in from a document.
    pub(crate) fn render(&self, document: &Value) -> Result<String> {
        let mut out = String::new();
        let mut variables = Variables::from([("$".to_owned(), document.clone())]);
        render(&self.0, document, &mut variables, &mut out)?;
        Ok(out)
    }
}

fn render(nodes: &[Node], dot: &Value, variables: &mut Variables, out: &mut String) -> Result<()> {
    for node in nodes {
        match node {
            Node::Text(text) => out.push_str(text),
            Node::Print(pipe) => out.push_str(&show(&value(pipe, dot, variables)?)),
            Node::Set(name, pipe) => {
                let value = value(pipe, dot, variables)?;
                variables.insert(name.clone(), value);
            }
            Node::If(pipe, yes, no) => {
                let branch = if truth(&value(pipe, dot, variables)?) { yes } else { no };
                render(branch, dot, variables, out)?;
            }
            Node::With(pipe, yes, no) => {
                let value = value(pipe, dot, variables)?;
                if truth(&value) {
                    render(yes, &value, variables, out)?
                } else {
                    render(no, dot, variables, out)?
                }
            }
            Node::Range { key, item, over, each, none } => {
                let items: Vec<(Value, Value)> = match value(over, dot, variables)? {
                    Value::Array(all) => all.into_iter().enumerate().map(|(i, v)| (i.into(), v)).collect(),
                    Value::Object(all) => all.into_iter().map(|(k, v)| (k.into(), v)).collect(),
                    Value::Null => Vec::new(),
                    other => bail!("range can't iterate over {}", show(&other)),
                };
                if items.is_empty() {
                    render(none, dot, variables, out)?;
                }
                for (k, v) in items {
                    key.iter().for_each(|name| drop(variables.insert(name.clone(), k.clone())));
                    item.iter().for_each(|name| drop(variables.insert(name.clone(), v.clone())));
                    render(each, &v, variables, out)?;
                }
            }
        }
    }
    Ok(())
}

fn value(pipe: &Pipe, dot: &Value, variables: &Variables) -> Result<Value> {
    let mut piped = None;
    for call in pipe {
        let (first, rest) = call.split_first().context("missing value for command")?;
        let mut arguments = rest.iter().map(|t| term(t, dot, variables)).collect::<Result<Vec<_>>>()?;
        arguments.extend(piped.take());
        piped = Some(match first {
            Term::Function(name) => function(name, &arguments)?,
            other if arguments.is_empty() => term(other, dot, variables)?,
            _ => bail!("can't give arguments to what is not a function"),
        });
    }
    piped.context("missing value for command")
}

fn term(term: &Term, dot: &Value, variables: &Variables) -> Result<Value> {
    match term {
        Term::Literal(value) => Ok(value.clone()),
        Term::Field(path) => walk(dot, path),
        Term::Variable(name, path) => {
            walk(variables.get(name).ok_or_else(|| anyhow!("undefined variable \"{name}\""))?, path)
        }
        Term::Group(pipe, path) => walk(&value(pipe, dot, variables)?, path),
        Term::Function(name) => function(name, &[]),
    }
}

/// Goes down a path of fields. Names match exactly, or else without regard to case: docker's templates
/// name Go's fields (`.ID`), the document has the API's names (`Id`).
fn walk(from: &Value, path: &[String]) -> Result<Value> {
    let mut at = from;
    for name in path {
        at = match at {
            Value::Object(map) => map
                .get(name)
                .or_else(|| map.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, v)| v))
                .ok_or_else(|| anyhow!("map has no entry for key \"{name}\""))?,
            Value::Null => return Ok(Value::Null),
            _ => bail!("can't evaluate field {name}: it is not a map"),
        };
    }
    Ok(at.clone())
}

fn function(name: &str, arguments: &[Value]) -> Result<Value> {
    let text =
        |n: usize| arguments.get(n).map(show).ok_or_else(|| anyhow!("wrong number of args for {name}"));
    let any = |n: usize| arguments.get(n).ok_or_else(|| anyhow!("wrong number of args for {name}"));
    let last = arguments.len().saturating_sub(1);
    Ok(match name {
        "json" => serde_json::to_string(any(0)?)?.into(),
        "lower" => text(0)?.to_lowercase().into(),
        "upper" => text(0)?.to_uppercase().into(),
        "title" => {
            let text = text(0)?;
            let mut letters = text.chars();
            letters
                .next()
                .map(|c| c.to_uppercase().chain(letters).collect::<String>())
                .unwrap_or_default()
                .into()
        }
        "join" => {
            let Value::Array(items) = any(0)? else { bail!("join wants a list") };
            items.iter().map(show).collect::<Vec<_>>().join(&text(1)?).into()
        }
        "split" => text(0)?.split(&text(1)?).map(Value::from).collect(),
        "truncate" => {
            let length = usize::try_from(any(1)?.as_u64().context("truncate wants a number")?)?;
            text(0)?.chars().take(length).collect::<String>().into()
        }
        "pad" => {
            let spaces = |n: usize| {
                Ok::<_, anyhow::Error>(" ".repeat(usize::try_from(any(n)?.as_u64().unwrap_or(0))?))
            };
            format!("{}{}{}", spaces(1)?, text(0)?, spaces(2)?).into()
        }
        "print" => arguments.iter().map(show).collect::<String>().into(),
        "println" => format!("{}\n", arguments.iter().map(show).collect::<Vec<_>>().join(" ")).into(),
        "printf" => printf(&text(0)?, arguments.get(1..).unwrap_or_default())?.into(),
        "len" => match any(0)? {
            Value::Array(items) => items.len(),
            Value::Object(items) => items.len(),
            Value::String(text) => text.len(),
            _ => bail!("len of what has no length"),
        }
        .into(),
        "index" => {
            let mut at = any(0)?;
            for key in &arguments[1..] {
                at = match (at, key) {
                    (Value::Array(items), Value::Number(n)) => {
                        let n = n.as_u64().and_then(|n| usize::try_from(n).ok());
                        n.and_then(|n| items.get(n)).with_context(|| format!("index out of range: {key}"))?
                    }
                    (Value::Object(items), key) => items.get(&show(key)).unwrap_or(&Value::Null),
                    _ => bail!("can't index it with {}", show(key)),
                };
            }
            at.clone()
        }
        "not" => (!truth(any(0)?)).into(),
        "and" => arguments.iter().find(|v| !truth(v)).or(arguments.get(last)).cloned().unwrap_or_default(),
        "or" => arguments.iter().find(|v| truth(v)).or(arguments.get(last)).cloned().unwrap_or_default(),
        "eq" => {
            let first = any(0)?;
            arguments[1..].iter().any(|v| same(first, v)).into()
        }
        "ne" => (!same(any(0)?, any(1)?)).into(),
        "lt" => (number(any(0)?)? < number(any(1)?)?).into(),
        "le" => (number(any(0)?)? <= number(any(1)?)?).into(),
        "gt" => (number(any(0)?)? > number(any(1)?)?).into(),
        "ge" => (number(any(0)?)? >= number(any(1)?)?).into(),
        _ => bail!("function \"{name}\" not defined"),
    })
}

fn number(value: &Value) -> Result<f64> {
    value.as_f64().with_context(|| format!("{} is not a number", show(value)))
}

fn same(a: &Value, b: &Value) -> bool {
    match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => (a - b).abs() < f64::EPSILON,
        _ => a == b,
    }
}

/// `%s %v %d %q %%`, with a width.
fn printf(format: &str, arguments: &[Value]) -> Result<String> {
    let (mut out, mut arguments) = (String::new(), arguments.iter());
    let mut letters = format.chars();
    while let Some(letter) = letters.next() {
        if letter != '%' {
            out.push(letter);
            continue;
        }
        let mut width = String::new();
        let verb = loop {
            match letters.next().context("printf: the format ends in a %")? {
                c @ ('-' | '0'..='9') => width.push(c),
                verb => break verb,
            }
        };
        let text = match verb {
            '%' => "%".to_owned(),
            's' | 'v' | 'd' => show(arguments.next().context("printf: too few arguments")?),
            'q' => format!("{:?}", show(arguments.next().context("printf: too few arguments")?)),
            other => bail!("printf: %{other} is not supported"),
        };
        let n = width.trim_start_matches('-').parse::<usize>().unwrap_or(0);
        out.push_str(&if width.starts_with('-') { format!("{text:<n$}") } else { format!("{text:>n$}") });
    }
    Ok(out)
}

fn truth(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(b) => *b,
        Value::Number(n) => n.as_f64() != Some(0.0),
        Value::String(s) => !s.is_empty(),
        Value::Array(a) => !a.is_empty(),
        Value::Object(o) => !o.is_empty(),
    }
}

/// As Go prints it: `[a b]`, `map[k:v]`.
fn show(value: &Value) -> String {
    match value {
        Value::Null => "<no value>".into(),
        Value::Bool(b) => b.to_string(),
        Value::Number(n) => n.to_string(),
        Value::String(s) => s.clone(),
        Value::Array(a) => format!("[{}]", a.iter().map(show).collect::<Vec<_>>().join(" ")),
        Value::Object(o) => {
            format!(
                "map[{}]",
                o.iter().map(|(k, v)| format!("{k}:{}", show(v))).collect::<Vec<_>>().join(" ")
            )
        }
    }
}

/// Parses a template.
pub(crate) fn parse(text: &str) -> Result<Template> {
    let mut pieces = pieces(text)?.into_iter().peekable();
    let nodes = block(&mut pieces).with_context(|| format!("template parsing error: {text}"))?;
    if let Some(Piece::Action(words)) = pieces.next() {
        bail!("template parsing error: unexpected {{{{{}}}}}", words.join(" "));
    }
    Ok(Template(nodes))
}

#[derive(Debug)]
enum Piece {
    Text(String),
    Action(Vec<String>),
}

/// Cuts it at `{{` and `}}`; `{{-` and `-}}` eat the white space beside them.
fn pieces(text: &str) -> Result<Vec<Piece>> {
    let mut pieces = Vec::new();
    let mut rest = text;
    let mut trim = false;
    while let Some(open) = rest.find("{{") {
        let mut before = &rest[..open];
        let length = rest[open..].find("}}").context("template parsing error: unclosed action")?;
        let mut action = &rest[open + 2..open + length];
        rest = &rest[open + length + 2..];
        if trim {
            before = before.trim_start();
        }
        if let Some(trimmed) = action.strip_prefix("- ") {
            before = before.trim_end();
            action = trimmed;
        }
        trim = action.ends_with(" -");
        if trim {
            action = &action[..action.len() - 2];
        }
        pieces.push(Piece::Text(before.to_owned()));
        if !action.trim_start().starts_with("/*") {
            pieces.push(Piece::Action(words(action)?));
        }
    }
    pieces.push(Piece::Text(if trim { rest.trim_start() } else { rest }.to_owned()));
    Ok(pieces)
}

/// Cuts an action into words: fields, strings, brackets, pipes.
fn words(action: &str) -> Result<Vec<String>> {
    let mut words = Vec::new();
    let mut letters = action.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            c if c.is_whitespace() => {}
            '(' | ')' | '|' | ',' => words.push(letter.to_string()),
            '"' | '`' => {
                // Kept with a leading quote, which marks it as a string.
                let mut text = String::from('"');
                loop {
                    match letters.next().context("template parsing error: unterminated quoted string")? {
                        c if c == letter => break,
                        '\\' if letter == '"' => match letters.next() {
                            Some('n') => text.push('\n'),
                            Some('t') => text.push('\t'),
                            Some(c) => text.push(c),
                            None => {}
                        },
                        c => text.push(c),
                    }
                }
                words.push(text);
            }
            first => {
                let mut word = String::from(first);
                while let Some(c) = letters.next_if(|c| !c.is_whitespace() && !"()|,\"`".contains(*c)) {
                    word.push(c);
                }
                words.push(word);
            }
        }
    }
    Ok(words)
}

/// Nodes up to an `end` or `else`, which is left for the caller.
fn block(pieces: &mut Peekable<IntoIter<Piece>>) -> Result<Vec<Node>> {
    let mut nodes = Vec::new();
    while let Some(piece) = pieces
        .next_if(|p| !matches!(p, Piece::Action(w) if w.first().is_some_and(|w| w == "end" || w == "else")))
    {
        match piece {
            Piece::Text(text) => nodes.push(Node::Text(text)),
            Piece::Action(words) => nodes.push(action(words, pieces)?),
        }
    }
    Ok(nodes)
}

fn action(mut words: Vec<String>, pieces: &mut Peekable<IntoIter<Piece>>) -> Result<Node> {
    let keyword = words.first().cloned().unwrap_or_default();
    match keyword.as_str() {
        "if" | "with" | "range" => {
            let mut head = words.split_off(1);
            let names = match head.iter().position(|w| w == ":=") {
                Some(at) => {
                    let rest = head.split_off(at + 1);
                    let names: Vec<_> = std::mem::replace(&mut head, rest)
                        .into_iter()
                        .filter(|w| w.starts_with('$'))
                        .collect();
                    names
                }
                None => Vec::new(),
            };
            let pipe = pipe(&head)?;
            let yes = block(pieces)?;
            let no = tail(pieces)?;
            Ok(match keyword.as_str() {
                "if" => Node::If(pipe, yes, no),
                "with" => Node::With(pipe, yes, no),
                _ => {
                    let (key, item) = match names.as_slice() {
                        [key, item] => (Some(key.clone()), Some(item.clone())),
                        [item] => (None, Some(item.clone())),
                        _ => (None, None),
                    };
                    Node::Range { key, item, over: pipe, each: yes, none: no }
                }
            })
        }
        name if name.starts_with('$') && words.get(1).is_some_and(|w| w == ":=" || w == "=") => {
            Ok(Node::Set(name.to_owned(), pipe(&words[2..])?))
        }
        _ => Ok(Node::Print(pipe(&words)?)),
    }
}

/// `{{end}}`, or `{{else}}…{{end}}`, or `{{else if …}}…`.
fn tail(pieces: &mut Peekable<IntoIter<Piece>>) -> Result<Vec<Node>> {
    let Some(Piece::Action(words)) = pieces.next() else {
        bail!("unexpected EOF: an {{{{end}}}} is missing")
    };
    match words.as_slice() {
        [end] if end == "end" => Ok(Vec::new()),
        [_else] => {
            let nodes = block(pieces)?;
            tail(pieces)?;
            Ok(nodes)
        }
        // Its own {{end}} closes both.
        [_else, rest @ ..] => Ok(vec![action(rest.to_vec(), pieces)?]),
        [] => bail!("empty action"),
    }
}

fn pipe(words: &[String]) -> Result<Pipe> {
    let mut calls = vec![Vec::new()];
    let mut at = 0;
    while let Some(word) = words.get(at) {
        at += 1;
        let call = calls.last_mut().context("empty pipe")?;
        match word.as_str() {
            "|" => calls.push(Vec::new()),
            "(" => {
                let mut depth = 1;
                let begin = at;
                while depth > 0 {
                    match words.get(at).context("unclosed left paren")?.as_str() {
                        "(" => depth += 1,
                        ")" => depth -= 1,
                        _ => {}
                    }
                    at += 1;
                }
                let inner = pipe(&words[begin..at - 1])?;
                let path = words.get(at).filter(|w| w.len() > 1 && w.starts_with('.')).cloned();
                at += usize::from(path.is_some());
                call.push(Term::Group(inner, path.map(|p| fields(&p)).unwrap_or_default()));
            }
            ")" => bail!("unexpected right paren"),
            word => call.push(single(word)?),
        }
    }
    if calls.iter().any(Vec::is_empty) {
        bail!("missing value for command");
    }
    Ok(calls)
}

fn single(word: &str) -> Result<Term> {
    if let Some(text) = word.strip_prefix('"') {
        return Ok(Term::Literal(text.into()));
    }
    if word.starts_with('.') {
        return Ok(Term::Field(fields(word)));
    }
    if word.starts_with('$') {
        let (name, path) = word.split_once('.').unwrap_or((word, ""));
        return Ok(Term::Variable(name.to_owned(), fields(path)));
    }
    Ok(match word {
        "true" => Term::Literal(true.into()),
        "false" => Term::Literal(false.into()),
        "nil" => Term::Literal(Value::Null),
        word if word.starts_with(|c: char| c.is_ascii_digit() || c == '-') => {
            Term::Literal(serde_json::from_str(word).with_context(|| format!("bad number: {word}"))?)
        }
        word => Term::Function(word.to_owned()),
    })
}

fn fields(path: &str) -> Vec<String> {
    path.split('.').filter(|p| !p.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn fill(template: &str) -> String {
        let document = json!({
            "Id": "0123456789abcdef",
            "Name": "/web",
            "State": {"Status": "running", "Pid": 42, "OOMKilled": false},
            "Config": {"Cmd": ["sh", "-c", "true"], "Labels": {"a": "1", "b": "2"}, "Volumes": null},
            "Ports": {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}], "90/udp": null},
        });
        match parse(template).and_then(|t| t.render(&document)) {
            Ok(text) => text,
            Err(why) => format!("! {why:#}"),
        }
    }

    #[test]
    fn what_people_write() {
        let cases = [
            ("{{.State.Status}} {{.State.Pid}}", "running 42"),
            ("{{.ID}}", "0123456789abcdef"),
            ("{{json .State}}", r#"{"OOMKilled":false,"Pid":42,"Status":"running"}"#),
            ("{{.Config.Cmd}} {{.Config.Labels}}", "[sh -c true] map[a:1 b:2]"),
            ("{{index .Config.Cmd 1}}", "-c"),
            (r#"{{index .Config.Labels "b"}}"#, "2"),
            (r#"{{join .Config.Cmd " "}}"#, "sh -c true"),
            ("{{range .Config.Cmd}}<{{.}}>{{end}}", "<sh><-c><true>"),
            ("{{range $k, $v := .Config.Labels}}{{$k}}={{$v}};{{end}}", "a=1;b=2;"),
            (r#"{{(index (index .Ports "80/tcp") 0).HostPort}}"#, "8080"),
            (
                "{{range $p, $c := .Ports}}{{$p}}{{with $c}} -> {{(index . 0).HostPort}}{{end}} {{end}}",
                "80/tcp -> 8080 90/udp ",
            ),
            ("{{if .State.OOMKilled}}oom{{else if eq .State.Pid 42}}fine{{else}}?{{end}}", "fine"),
            ("{{.Name | upper | printf \"%-6s|\"}}", "/WEB  |"),
            ("{{len .Config.Cmd}} {{not .State.OOMKilled}} {{ne 1 2}}", "3 true true"),
            ("a {{- .State.Pid -}} b", "a42b"),
            ("{{.Config.Volumes}}", "<no value>"),
            ("{{truncate .Id 4}}{{println}}", "0123\n"),
            ("{{range .Config.Volumes}}x{{else}}none{{end}}", "none"),
            ("{{$x := .State}}{{$x.Pid}}", "42"),
        ];
        for (template, text) in cases {
            assert_eq!(fill(template), text, "{template}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (template, why) in [
            ("{{.Nothing}}", "no entry for key \"Nothing\""),
            ("{{.State", "unclosed action"),
            ("{{if .State}}", "{{end}} is missing"),
            ("{{nope .}}", "function \"nope\" not defined"),
            ("{{end}}", "unexpected {{end}}"),
            ("{{(.State}}", "unclosed left paren"),
            ("{{index .Config.Cmd 9}}", "index out of range"),
            ("{{eq}}", "wrong number of args"),
        ] {
            assert!(fill(template).contains(why), "{template}: {}", fill(template));
        }
    }
}
