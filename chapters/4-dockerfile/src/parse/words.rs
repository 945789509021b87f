//! Flags, JSON, words, and `name=value`.

use crate::{
    instruction::Keyword,
    tree::{Flag, Pair},
};

/// Splits at white space that is neither quoted nor escaped. Quotes and escapes stay in the words: they
/// have their meaning when variables are expanded.
pub(super) fn split(text: &str, escape: char) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), String::new(), None);
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            _ if c == escape && quote != Some('\'') => {
                word.push(c);
                word.extend(chars.next());
                continue;
            }
            '"' | '\'' if quote == Some(c) => quote = None,
            '"' | '\'' if quote.is_none() => quote = Some(c),
            _ if c.is_whitespace() && quote.is_none() => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                continue;
            }
            _ => {}
        }
        word.push(c);
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// Takes the flags off the front. `--` alone ends them.
pub(super) fn flags<'a>(
    text: &'a str,
    escape: char,
    keyword: &Keyword,
) -> Result<(Vec<Flag>, &'a str), String> {
    let (mut flags, mut rest) = (Vec::<Flag>::new(), text);
    while let Some(after) = rest.strip_prefix("--") {
        if after.is_empty() || after.starts_with(char::is_whitespace) {
            return Ok((flags, after.trim_start()));
        }
        let (word, next) = flag(after, escape);
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (word, None),
        };
        let known = keyword.flags.iter().find(|f| f.name == name).ok_or_else(|| {
            let near = nearest(&name, keyword.flags.iter().map(|f| f.name));
            let hint = near.map(|n| format!(" (did you mean {n}?)")).unwrap_or_default();
            format!("unknown flag: --{name}{hint}")
        })?;
        if known.value && value.is_none() {
            return Err(format!("missing a value on flag: --{name}"));
        }
        if !known.many && flags.iter().any(|f| f.name == name) {
            return Err(format!("duplicate flag specified: --{name}"));
        }
        flags.push(Flag { name, value });
        rest = next;
    }
    Ok((flags, rest))
}

/// One flag's word, unquoted, and what is after it.
fn flag(text: &str, escape: char) -> (String, &str) {
    let (mut word, mut quote) = (String::new(), None);
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            _ if c == escape => word.extend(chars.next().map(|(_, c)| c)),
            '"' | '\'' if quote == Some(c) => quote = None,
            '"' | '\'' if quote.is_none() => quote = Some(c),
            _ if c.is_whitespace() && quote.is_none() => return (word, text[at..].trim_start()),
            _ => word.push(c),
        }
    }
    (word, "")
}

/// `["a", "b"]`. What looks like it and is not, for example with single quotes, is left to the shell, as
/// docker does.
pub(crate) fn json(text: &str) -> Option<Vec<String>> {
    text.starts_with('[').then(|| serde_json::from_str(text).ok()).flatten()
}

/// `name=value ...`, or the old form `name the whole rest`.
pub(super) fn pairs(keyword: &str, text: &str, escape: char) -> Result<Vec<Pair>, String> {
    let words = split(text, escape);
    let first = words.first().ok_or_else(|| format!("{keyword} requires at least one argument"))?;
    if !first.contains('=') {
        let (name, value) = text
            .split_once(char::is_whitespace)
            .ok_or_else(|| format!("{keyword} must have two arguments"))?;
        return Ok(vec![Pair { name: name.to_owned(), value: Some(value.trim_start().to_owned()) }]);
    }
    let pair = |word: &String| match word.split_once('=') {
        Some(("", _)) => Err(format!("{keyword} names can not be blank")),
        Some((name, value)) => Ok(Pair { name: name.to_owned(), value: Some(value.to_owned()) }),
        None => Err(format!("Syntax error - can't find = in {word:?}. Must be of the form: name=value")),
    };
    words.iter().map(pair).collect()
}

/// `name` or `name=value`, any number.
pub(super) fn names(keyword: &str, text: &str, escape: char) -> Result<Vec<Pair>, String> {
    let words = split(text, escape);
    if words.is_empty() {
        return Err(format!("{keyword} requires at least one argument"));
    }
    let pair = |word: &String| match word.split_once('=') {
        Some(("", _)) => Err(format!("{keyword} names can not be blank")),
        Some((name, value)) => Ok(Pair { name: name.to_owned(), value: Some(value.to_owned()) }),
        None => Ok(Pair { name: word.clone(), value: None }),
    };
    words.iter().map(pair).collect()
}

/// The name that was probably meant: at most two letters away, and less than half of it wrong.
pub(super) fn nearest<'a>(word: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    if word.len() > 32 {
        return None;
    }
    names
        .map(|name| (distance(word, name), name))
        .min()
        .filter(|(d, n)| *d <= 2 && d * 2 < n.len() + 1)
        .map(|(_, n)| n)
}

/// How many letters are missing, too many, wrong, or swapped with their neighbour.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![(0..=b.len()).collect::<Vec<_>>()];
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let wrong = usize::from(a[i - 1] != b[j - 1]);
            row[j] = (rows[i - 1][j] + 1).min(row[j - 1] + 1).min(rows[i - 1][j - 1] + wrong);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(rows[i - 2][j - 2] + 1);
            }
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_keep_their_quotes() {
        assert_eq!(split(r#"a="b c" d='e "f' g\ h  i"#, '\\'), [r#"a="b c""#, r#"d='e "f'"#, r"g\ h", "i"]);
        assert_eq!(split("", '\\'), [""; 0]);
        assert_eq!(split("\"open end", '\\'), ["\"open end"]);
    }

    #[test]
    fn old_and_new_pairs() {
        let pair = |n: &str, v: &str| Pair { name: n.into(), value: Some(v.into()) };
        assert_eq!(pairs("ENV", "a=b c=\"d e\"", '\\'), Ok(vec![pair("a", "b"), pair("c", "\"d e\"")]));
        assert_eq!(pairs("ENV", "a b=c d", '\\'), Ok(vec![pair("a", "b=c d")]));
        assert_eq!(pairs("ENV", "a", '\\'), Err("ENV must have two arguments".into()));
        let text = "Syntax error - can't find = in \"c\". Must be of the form: name=value";
        assert_eq!(pairs("LABEL", "a=b c", '\\'), Err(text.into()));
        assert_eq!(pairs("ENV", "=b", '\\'), Err("ENV names can not be blank".into()));
    }

    #[test]
    fn json_is_json_or_it_is_words() {
        assert_eq!(json(r#"["a", "b"]"#), Some(vec!["a".into(), "b".into()]));
        assert_eq!(json("['a']"), None);
        assert_eq!(json("[1]"), None);
        assert_eq!(json("[ -d x ] && y"), None);
    }

    #[test]
    fn the_nearest_name() {
        let names = ["RUN", "COPY", "ENTRYPOINT", "ENV"];
        assert_eq!(nearest("RNU", names.into_iter()), Some("RUN"));
        assert_eq!(nearest("COPPY", names.into_iter()), Some("COPY"));
        assert_eq!(nearest("ENTRIPIONT", names.into_iter()), Some("ENTRYPOINT"));
        assert_eq!(nearest("XYZ", names.into_iter()), None);
    }
}
