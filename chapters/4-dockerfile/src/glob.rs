//! Patterns with `*` and `?`: the ones of `${v#p}`, of COPY, and of the ignore file.
//!
//! A pattern is matched by walking all its possible positions at once, one character of the text after the
//! other. Backtracking, which is shorter to write, takes exponential time on `*a*a*a*a*`, and patterns come
//! from strangers.

/// The longest pattern: no path is longer (`PATH_MAX`).
const MAX_PATTERN: usize = 4096;

/// One step of a pattern.
#[derive(Clone, Debug, PartialEq)]
enum Token {
    /// Exactly this.
    Char(char),
    /// `?`
    One,
    /// `*`
    Many,
    /// `**`: any number of directories too.
    Deep,
    /// `**/`: any number of directories, or none.
    Directories,
    /// `[a-z]`, `[^a-z]`.
    Class { negated: bool, ranges: Vec<(char, char)> },
}

/// A pattern.
#[derive(Clone, Debug)]
pub(crate) struct Pattern {
    tokens: Vec<Token>,
    /// Whether `/` is a character like any other: in a variable, not in a path.
    flat: bool,
}

impl Pattern {
    /// A pattern for paths, with the rules of Go's `filepath.Match` and, if `deep`, `**`.
    pub(crate) fn path(text: &str, deep: bool) -> Result<Pattern, String> {
        if text.len() > MAX_PATTERN {
            return Err(format!("a pattern of {} bytes: a path has at most {MAX_PATTERN}", text.len()));
        }
        let bad = || format!("syntax error in pattern {text:?}");
        let mut tokens = Vec::new();
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            tokens.push(match c {
                '*' if deep && chars.peek() == Some(&'*') => {
                    chars.next();
                    match chars.peek() {
                        Some('/') => {
                            chars.next();
                            Token::Directories
                        }
                        _ => Token::Deep,
                    }
                }
                '*' => Token::Many,
                '?' => Token::One,
                '\\' => Token::Char(chars.next().ok_or_else(bad)?),
                '[' => class(&mut chars).ok_or_else(bad)?,
                c => Token::Char(c),
            });
        }
        Ok(Pattern { tokens, flat: false })
    }

    /// A pattern for a variable's value: only `*`, `?` and escapes, as docker has it.
    fn value(text: &str) -> Pattern {
        let mut chars = text.chars();
        let mut tokens = Vec::new();
        while let Some(c) = chars.next() {
            tokens.push(match c {
                '*' => Token::Many,
                '?' => Token::One,
                '\\' => Token::Char(chars.next().unwrap_or('\\')),
                c => Token::Char(c),
            });
        }
        Pattern { tokens, flat: true }
    }

    /// Whether it matches the whole text.
    pub(crate) fn matches(&self, text: &str) -> bool {
        let mut whole = false;
        let length = text.chars().count();
        self.walk(text.chars(), |at| whole = at == length);
        whole
    }

    /// Calls `found` with the length, in characters, of each beginning of the text that it matches,
    /// shortest first.
    fn walk(&self, text: impl Iterator<Item = char>, mut found: impl FnMut(usize)) {
        let end = self.tokens.len();
        let (mut here, mut next) = (Places::new(end), Places::new(end));
        self.reach(0, true, &mut here);
        if here.seen[end] {
            found(0);
        }
        for (index, c) in text.enumerate() {
            let separator = c == '/';
            for at in 0..here.list.len() {
                let place = here.list[at];
                let (ahead, stay) = match self.tokens.get(place) {
                    Some(Token::Char(x)) => (*x == c, false),
                    Some(Token::One) => (self.flat || !separator, false),
                    Some(Token::Many) => (false, self.flat || !separator),
                    Some(Token::Deep | Token::Directories) => (false, true),
                    Some(Token::Class { negated, ranges }) => {
                        let inside = ranges.iter().any(|(a, b)| (*a..=*b).contains(&c));
                        (!separator && inside != *negated, false)
                    }
                    None => (false, false),
                };
                if ahead || stay {
                    self.reach(place + usize::from(ahead), separator, &mut next);
                }
            }
            std::mem::swap(&mut here, &mut next);
            next.clear();
            if here.seen[end] {
                found(index + 1);
            }
            if here.list.is_empty() {
                break;
            }
        }
    }

    /// Adds a place, and those that are reached from it by matching nothing. At the beginning of a name
    /// `**/` may be over; in the middle of one it is not.
    fn reach(&self, mut place: usize, boundary: bool, places: &mut Places) {
        loop {
            places.add(place);
            match self.tokens.get(place) {
                Some(Token::Many | Token::Deep) => place += 1,
                Some(Token::Directories) if boundary => place += 1,
                _ => return,
            }
        }
    }
}

/// The places in a pattern that the text so far can have led to.
struct Places {
    list: Vec<usize>,
    seen: Vec<bool>,
}

impl Places {
    fn new(end: usize) -> Places {
        Places { list: Vec::new(), seen: vec![false; end + 1] }
    }

    fn add(&mut self, place: usize) {
        if !std::mem::replace(&mut self.seen[place], true) {
            self.list.push(place);
        }
    }

    fn clear(&mut self) {
        for place in self.list.drain(..) {
            self.seen[place] = false;
        }
    }
}

/// `[...]`, the bracket open. `None` if it is not one.
fn class(chars: &mut std::iter::Peekable<std::str::Chars>) -> Option<Token> {
    let negated = chars.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    let one = |chars: &mut std::iter::Peekable<std::str::Chars>| match chars.next()? {
        '\\' => chars.next(),
        '-' | ']' => None,
        c => Some(c),
    };
    loop {
        if chars.peek() == Some(&']') && !ranges.is_empty() {
            chars.next();
            return Some(Token::Class { negated, ranges });
        }
        let low = one(chars)?;
        let high = if chars.next_if_eq(&'-').is_some() { one(chars)? } else { low };
        ranges.push((low, high));
    }
}

/// The most steps that a substitution may take.
const MAX_WORK: usize = 1 << 26;

fn bounded(work: usize) -> Result<(), String> {
    match work > MAX_WORK {
        true => Err("the value and the pattern are too long for a substitution".into()),
        false => Ok(()),
    }
}

/// `${v#p}`, `${v##p}`.
pub(crate) fn without_prefix(value: &str, pattern: &str, longest: bool) -> Result<String, String> {
    bounded(value.len().saturating_mul(pattern.len()))?;
    let mut cut = None;
    Pattern::value(pattern).walk(value.chars(), |n| cut = if longest { Some(n) } else { cut.or(Some(n)) });
    Ok(value.chars().skip(cut.unwrap_or(0)).collect())
}

/// `${v%p}`, `${v%%p}`: the same from the other end.
pub(crate) fn without_suffix(value: &str, pattern: &str, longest: bool) -> Result<String, String> {
    bounded(value.len().saturating_mul(pattern.len()))?;
    let mut backwards = Pattern::value(pattern);
    backwards.tokens.reverse();
    let mut cut = None;
    backwards.walk(value.chars().rev(), |n| cut = if longest { Some(n) } else { cut.or(Some(n)) });
    let keep = value.chars().count() - cut.unwrap_or(0);
    Ok(value.chars().take(keep).collect())
}

/// `${v/p/w}`, `${v//p/w}`: each time the longest part.
pub(crate) fn replace(value: &str, pattern: &str, with: &str, all: bool) -> Result<String, String> {
    let text: Vec<char> = value.chars().collect();
    bounded(text.len().saturating_mul(text.len()).saturating_mul(pattern.len()))?;
    bounded(text.len().saturating_mul(with.len()))?;
    let pattern = Pattern::value(pattern);
    let (mut out, mut at, mut done) = (String::new(), 0, false);
    while at < text.len() {
        let mut longest = 0;
        if !done {
            pattern.walk(text[at..].iter().copied(), |n| longest = n);
        }
        if longest > 0 {
            out.push_str(with);
            at += longest;
            done = !all;
        } else {
            out.push(text[at]);
            at += 1;
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        for (pattern, text, expected) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("*", "a", true),
            ("*", "a/b", false),
            ("*.rs", "x.rs", true),
            ("a?c", "abc", true),
            ("a?c", "a/c", false),
            ("[a-c]x", "bx", true),
            ("[^a-c]x", "bx", false),
            ("[^a-c]x", "dx", true),
            (r"\*", "*", true),
            (r"\*", "x", false),
            (r"[\]]", "]", true),
            ("**", "a/b/c", true),
            ("**/c", "a/b/c", true),
            ("**/c", "c", true),
            ("**/c", "xc", false),
            ("**/c", "a/xc", false),
            ("a/**/c", "a/c", true),
            ("a/**/c", "a/b/b/c", true),
            ("a/**/c", "a/bc", false),
            ("a/**", "a/b/c", true),
            ("a/**", "a", false),
            ("**/*.go", "a/b.go", true),
            ("**/**/x", "x", true),
            ("a**b", "a/x/b", true),
        ] {
            assert_eq!(Pattern::path(pattern, true).unwrap().matches(text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn without_deep_two_stars_are_one() {
        assert!(!Pattern::path("**", false).unwrap().matches("a/b"));
    }

    #[test]
    fn malformed() {
        for pattern in ["[", "[]", "[a", "[a-", "[-]", "\\", "[^]", "a[", "[a-]"] {
            assert!(Pattern::path(pattern, true).is_err(), "{pattern}");
        }
    }

    #[test]
    fn no_exponential_time() {
        let pattern = Pattern::path(&"*a".repeat(60), true).unwrap();
        assert!(!pattern.matches(&"a".repeat(59)));
        assert!(pattern.matches(&"a".repeat(400)));
    }
}
