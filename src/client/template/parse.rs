//! From a template's text to its tree: cut into text and actions, actions into words, words into calls.

use super::{Node, Pipe, Template, Term};
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::{iter::Peekable, vec::IntoIter};

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
