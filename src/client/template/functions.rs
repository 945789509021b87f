//! The functions of templates: Go's own, and those that docker adds.

use anyhow::{Context, Result, anyhow, bail};
use serde_json::Value;

/// Calls one by its name. In a pipe, the value before it is the last argument.
pub(super) fn function(name: &str, arguments: &[Value]) -> Result<Value> {
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

/// What `if` takes for true: all but null, false, 0 and what is empty.
pub(super) fn truth(value: &Value) -> bool {
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
pub(super) fn show(value: &Value) -> String {
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
