//! Variables in an instruction's words: `$name`, `${name:-default}` and so on; quotes and escapes.
//!
//! | written | value |
//! |---|---|
//! | `$v` `${v}` | of `v`, or nothing |
//! | `${v:-w}` `${v-w}` | `w` if `v` is unset (with `:`, or empty) |
//! | `${v:+w}` `${v+w}` | `w` if `v` is set (and, with `:`, not empty) |
//! | `${v:?w}` `${v?w}` | an error that says `w` if `v` is unset (or empty) |
//! | `${v#p}` `${v##p}` | without the shortest (longest) beginning that `p` matches |
//! | `${v%p}` `${v%%p}` | without the shortest (longest) end that `p` matches |
//! | `${v/p/w}` `${v//p/w}` | with the first (each) part that `p` matches replaced |
//! | `'...'` | as it is |
//! | `"..."` | one word, with variables |
//! | `\c` | `c` as it is |
//!
//! Not in RUN, CMD, ENTRYPOINT and HEALTHCHECK: what stands there is for the shell inside the container,
//! which has the same variables in its environment.

#[cfg(test)]
mod tests;

use crate::{Error, Result, glob};

/// The longest result. Values can hold values, and a dozen lines of `ENV a=$a$a` would be gigabytes; no
/// program could take more than this in one variable anyway (execve(2), `MAX_ARG_STRLEN`).
const MAX_LENGTH: usize = 128 << 10;
/// How deep `${a:-${b:-...}}` may go.
const MAX_DEPTH: usize = 32;

/// Where the values are.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Expands to one string, quotes removed.
pub fn word(text: &str, escape: char, lookup: Lookup) -> Result<String> {
    Ok(run(text, escape, lookup, false)?.concat())
}

/// Expands to words: what has no quotes around it is split where white space comes out.
pub fn words(text: &str, escape: char, lookup: Lookup) -> Result<Vec<String>> {
    run(text, escape, lookup, true)
}

/// Expands a document: quotes are text, and an escape frees `$` and itself only.
pub fn document(text: &str, escape: char, lookup: Lookup) -> Result<String> {
    let (mut out, mut lexer) = (Out::default(), Lexer::new(text, escape, lookup));
    lexer.document(&mut out).map_err(|reason| failed(text, reason))?;
    Ok(out.word.unwrap_or_default())
}

fn run(text: &str, escape: char, lookup: Lookup, split: bool) -> Result<Vec<String>> {
    let mut out = Out { split, ..Out::default() };
    let mut lexer = Lexer::new(text, escape, lookup);
    lexer.until(None, &mut out).map_err(|reason| failed(text, reason))?;
    out.end();
    Ok(out.words)
}

fn failed(text: &str, reason: String) -> Error {
    Error::Expand { word: text.chars().take(200).collect(), reason }
}

/// The words that come out.
#[derive(Default)]
struct Out {
    words: Vec<String>,
    word: Option<String>,
    /// Bare white space ends a word.
    split: bool,
    /// A pattern comes out: what was quoted keeps an escape, for [`glob`] to take it as it is.
    pattern: bool,
    length: usize,
}

impl Out {
    /// A character without quotes.
    fn bare(&mut self, c: char) -> Result<(), String> {
        if self.split && c.is_whitespace() {
            self.end();
            return Ok(());
        }
        self.push(c)
    }

    /// A character that was quoted or escaped.
    fn quoted(&mut self, c: char) -> Result<(), String> {
        if self.pattern {
            self.push('\\')?;
        }
        self.push(c)
    }

    fn push(&mut self, c: char) -> Result<(), String> {
        self.length += c.len_utf8();
        if self.length > MAX_LENGTH {
            return Err(format!("its value is longer than {MAX_LENGTH} bytes"));
        }
        self.word.get_or_insert_default().push(c);
        Ok(())
    }

    fn end(&mut self) {
        self.words.extend(self.word.take());
    }
}

struct Lexer<'a> {
    chars: Vec<char>,
    at: usize,
    escape: char,
    lookup: Lookup<'a>,
    depth: usize,
}

impl<'a> Lexer<'a> {
    fn new(text: &str, escape: char, lookup: Lookup<'a>) -> Lexer<'a> {
        Lexer { chars: text.chars().collect(), at: 0, escape, lookup, depth: 0 }
    }

    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += 1;
        Some(c)
    }

    /// Everything up to `stop`, which is taken too; without one, to the end.
    fn until(&mut self, stop: Option<char>, out: &mut Out) -> Result<(), String> {
        while let Some(c) = self.next() {
            match c {
                _ if Some(c) == stop => return Ok(()),
                '\'' => self.single(out)?,
                '"' => self.double(out)?,
                '$' => {
                    for c in self.dollar()?.chars() {
                        out.bare(c)?;
                    }
                }
                _ if c == self.escape => {
                    if let Some(c) = self.next() {
                        out.quoted(c)?;
                    }
                }
                _ => out.bare(c)?,
            }
        }
        match stop {
            None => Ok(()),
            Some(stop) => Err(format!("unexpected end of statement while looking for matching {stop}")),
        }
    }

    /// Everything, with quotes as text.
    fn document(&mut self, out: &mut Out) -> Result<(), String> {
        while let Some(c) = self.next() {
            match (c, self.peek()) {
                ('$', _) => {
                    for c in self.dollar()?.chars() {
                        out.push(c)?;
                    }
                }
                (_, Some(next)) if c == self.escape && (next == '$' || next == self.escape) => {
                    self.at += 1;
                    out.push(next)?;
                }
                _ => out.push(c)?,
            }
        }
        Ok(())
    }

    /// `'...'`: nothing inside has a meaning.
    fn single(&mut self, out: &mut Out) -> Result<(), String> {
        out.word.get_or_insert_default();
        loop {
            match self.next() {
                Some('\'') => return Ok(()),
                Some(c) => out.quoted(c)?,
                None => {
                    return Err("unexpected end of statement while looking for matching single-quote".into());
                }
            }
        }
    }

    /// `"..."`: variables are expanded, and an escape frees `"`, `$` and itself only.
    fn double(&mut self, out: &mut Out) -> Result<(), String> {
        out.word.get_or_insert_default();
        loop {
            match self.next() {
                Some('"') => return Ok(()),
                Some('$') => {
                    for c in self.dollar()?.chars() {
                        out.quoted(c)?;
                    }
                }
                Some(c) if c == self.escape => match self.next() {
                    Some(next) if next == '"' || next == '$' || next == self.escape => out.quoted(next)?,
                    Some(next) => {
                        out.quoted(c)?;
                        out.quoted(next)?;
                    }
                    None => {}
                },
                Some(c) => out.quoted(c)?,
                None => {
                    return Err("unexpected end of statement while looking for matching double-quote".into());
                }
            }
        }
    }

    /// What a `$` stands for; one that begins no name is itself.
    fn dollar(&mut self) -> Result<String, String> {
        if self.peek() == Some('{') {
            self.at += 1;
            self.depth += 1;
            if self.depth > MAX_DEPTH {
                return Err(format!("substitutions nested deeper than {MAX_DEPTH}"));
            }
            let value = self.braces();
            self.depth -= 1;
            return value;
        }
        let name = self.name();
        Ok(if name.is_empty() { "$".into() } else { (self.lookup)(&name).unwrap_or_default() })
    }

    /// A variable's name; digits, or one of a shell's special parameters.
    fn name(&mut self) -> String {
        let mut name = String::new();
        let first = self.peek();
        let wanted: fn(char) -> bool = match first {
            Some(c) if c.is_ascii_alphabetic() || c == '_' => |c| c.is_ascii_alphanumeric() || c == '_',
            Some(c) if c.is_ascii_digit() => |c| c.is_ascii_digit(),
            Some(c) if "@*#?-$!".contains(c) => {
                self.at += 1;
                return c.to_string();
            }
            _ => return name,
        };
        while let Some(c) = self.peek().filter(|c| wanted(*c)) {
            name.push(c);
            self.at += 1;
        }
        name
    }

    /// What `${...}` stands for; the brace is open.
    fn braces(&mut self) -> Result<String, String> {
        let name = self.name();
        if name.is_empty() {
            return Err("bad substitution: after ${ comes a variable's name".into());
        }
        let value = (self.lookup)(&name);
        let colon = self.peek() == Some(':');
        self.at += usize::from(colon);
        let is_set = value.as_deref().is_some_and(|v| !colon || !v.is_empty());
        let unsupported = |c: char| {
            let colon = if colon { ":" } else { "" };
            Err(format!("unsupported modifier ({colon}{c}) in substitution"))
        };
        match self.next() {
            Some('}') if !colon => Ok(value.unwrap_or_default()),
            Some('-') => {
                self.part('}', false).map(|word| if is_set { value.unwrap_or_default() } else { word })
            }
            Some('+') => self.part('}', false).map(|word| if is_set { word } else { String::new() }),
            Some('?') => {
                let word = self.part('}', false)?;
                match (is_set, word.is_empty()) {
                    (true, _) => Ok(value.unwrap_or_default()),
                    (false, true) => Err(format!("{name}: not allowed to be {}", unset(colon))),
                    (false, false) => Err(format!("{name}: {word}")),
                }
            }
            Some(c @ ('#' | '%')) if !colon => {
                let longest = self.doubled(c);
                let (pattern, value) = (self.part('}', true)?, value.unwrap_or_default());
                let cut = if c == '#' { glob::without_prefix } else { glob::without_suffix };
                cut(&value, &pattern, longest)
            }
            Some('/') if !colon => {
                let all = self.doubled('/');
                let (pattern, word) = (self.part('/', true)?, self.part('}', false)?);
                glob::replace(&value.unwrap_or_default(), &pattern, &word, all)
            }
            Some(c) => unsupported(c),
            None => Err("syntax error: missing '}'".into()),
        }
    }

    /// Whether the same character comes once more (and takes it).
    fn doubled(&mut self, c: char) -> bool {
        let doubled = self.peek() == Some(c);
        self.at += usize::from(doubled);
        doubled
    }

    /// A word inside the braces.
    fn part(&mut self, stop: char, pattern: bool) -> Result<String, String> {
        let mut out = Out { pattern, ..Out::default() };
        self.until(Some(stop), &mut out)?;
        Ok(out.word.unwrap_or_default())
    }
}

fn unset(colon: bool) -> &'static str {
    if colon { "unset or empty" } else { "unset" }
}
