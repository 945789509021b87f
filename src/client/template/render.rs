//! A template filled in: the tree walked with a document in hand.

use super::{
    Node, Pipe, Template, Term,
    functions::{function, show, truth},
};
use anyhow::{Context, Result, anyhow, bail};
use serde_json::Value;
use std::collections::HashMap;

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
