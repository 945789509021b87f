//! Mutants of a function: small changes that an attentive check has to notice. (The idea and the kinds are those of the tool
//! cargo-mutants; here each is judged by the exercise's own check.)

use crate::source;
use anyhow::{Context, Result};
use std::{fmt, ops::Range, path::Path};
use syn::{
    BinOp, Block, Expr, ExprBinary, ExprMatch, ExprUnary, GenericArgument, ItemFn, Pat, PatGuard,
    PathArguments, ReturnType, Stmt, Type, UnOp, spanned::Spanned, visit::Visit,
};

/// A changed body.
#[derive(Clone, Debug)]
pub struct Mutant {
    /// Of which function: its path.
    pub item: String,
    /// What was changed.
    pub what: String,
    /// In which line of the function, its documentation counted; none where it is the whole body.
    pub line: Option<usize>,
    /// All of the body.
    pub body: String,
}

impl fmt::Display for Mutant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.item, self.what)
    }
}

/// Mutants that need not be noticed: the same program in other words, or a difference that nobody can see.
const ARGUED: &str = include_str!("../mutants.md");

/// Whether it is among those that need not be noticed.
pub fn is_argued(mutant: &Mutant) -> bool {
    ARGUED.contains(&format!("`{mutant}`"))
}

/// The mutants of the function `item` of the workspace at `root`.
pub fn mutants(root: &Path, item: &str) -> Result<Vec<Mutant>> {
    let text = source::cut(root, item)?.text;
    of(item, &text).with_context(|| item.to_owned())
}

fn of(item: &str, text: &str) -> Result<Vec<Mutant>> {
    let function: ItemFn = syn::parse_str(text).context("it is not a function")?;
    let mut seeker = Seeker::default();
    seeker.visit_block(&function.block);
    let body = inside(&function.block);
    let mut all: Vec<(String, String, Option<usize>)> = values(&function.sig.output)
        .into_iter()
        .map(|value| (format!("the whole body: {value}"), format!(" {value} "), None))
        .collect();
    for change in seeker.changes {
        let mut new = text.to_owned();
        let number = text[..change.at.start].lines().count().max(1);
        let begin = text[..change.at.start].rfind('\n').map_or(0, |n| n + 1);
        let line = text[begin..].lines().next().unwrap_or_default().trim();
        let old = text[change.at.clone()].split_whitespace().collect::<Vec<_>>().join(" ");
        let grown = new.len();
        new.replace_range(change.at, &change.new);
        let end = (body.end + new.len()).saturating_sub(grown);
        // By its text and not by its number, which changes whenever something above it does.
        let what = if change.new.trim().is_empty() && old.len() > 1 {
            format!("without `{old}`")
        } else if change.new.trim().is_empty() {
            format!("without `{old}` in `{line}`")
        } else {
            format!("`{}` for `{old}` in `{line}`", change.new.trim())
        };
        // The same may be there twice.
        let same = all.iter().filter(|(other, ..)| other.split(" (no. ").next() == Some(&what)).count();
        let what = if same == 0 { what } else { format!("{what} (no. {})", same + 1) };
        all.push((what, new[body.start..end].to_owned(), Some(number)));
    }
    let named = |(what, body, line)| Mutant { item: item.to_owned(), what, line, body };
    Ok(all.into_iter().map(named).collect())
}

fn inside(block: &Block) -> Range<usize> {
    let braces = block.brace_token.span;
    braces.open().byte_range().end..braces.close().byte_range().start
}

/// What a lazy function of this type would return.
fn values(output: &ReturnType) -> Vec<String> {
    let ReturnType::Type(_, kind) = output else { return vec!["()".into()] };
    value(kind)
}

fn value(kind: &Type) -> Vec<String> {
    let some = |all: &[&str]| all.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
    match kind {
        Type::Tuple(tuple) if tuple.elems.is_empty() => some(&["()"]),
        Type::Path(path) => {
            let Some(last) = path.path.segments.last() else { return Vec::new() };
            let inner = match &last.arguments {
                PathArguments::AngleBracketed(all) => all.args.iter().find_map(|a| match a {
                    GenericArgument::Type(kind) => Some(value(kind)),
                    _ => None,
                }),
                _ => None,
            };
            let wrap = |name: &str| -> Vec<String> {
                inner.iter().flatten().map(|v| format!("{name}({v})")).collect()
            };
            match last.ident.to_string().as_str() {
                "bool" => some(&["true", "false"]),
                "Result" => wrap("Ok"),
                "Option" => [some(&["None"]), wrap("Some")].concat(),
                "String" => some(&["String::new()", "\"xyzzy\".into()"]),
                "u8" | "u16" | "u32" | "u64" | "usize" | "i32" | "i64" => some(&["0", "1"]),
                _ => some(&["Default::default()"]),
            }
        }
        _ => Vec::new(),
    }
}

/// A piece of the text, and what is to stand in its place.
struct Change {
    at: Range<usize>,
    new: String,
}

#[derive(Default)]
struct Seeker {
    changes: Vec<Change>,
}

impl Seeker {
    fn change(&mut self, at: &impl Spanned, new: &str) {
        self.changes.push(Change { at: at.span().byte_range(), new: new.to_owned() });
    }
}

impl<'a> Visit<'a> for Seeker {
    fn visit_expr_binary(&mut self, e: &'a ExprBinary) {
        let others: &[&str] = match e.op {
            BinOp::Eq(_) => &["!="],
            BinOp::Ne(_) => &["=="],
            BinOp::Lt(_) => &["<=", ">="],
            BinOp::Le(_) => &["<", ">"],
            BinOp::Gt(_) => &[">=", "<="],
            BinOp::Ge(_) => &[">", "<"],
            BinOp::And(_) => &["||"],
            BinOp::Or(_) => &["&&"],
            BinOp::Add(_) => &["-"],
            BinOp::Sub(_) => &["+"],
            BinOp::Mul(_) => &["/"],
            BinOp::Div(_) | BinOp::Rem(_) => &["*"],
            BinOp::BitOr(_) => &["&"],
            BinOp::BitAnd(_) => &["|"],
            BinOp::Shl(_) => &[">>"],
            BinOp::Shr(_) => &["<<"],
            BinOp::AddAssign(_) => &["-="],
            BinOp::SubAssign(_) => &["+="],
            BinOp::BitOrAssign(_) => &["&="],
            _ => &[],
        };
        for other in others {
            self.change(&e.op, other);
        }
        syn::visit::visit_expr_binary(self, e);
    }

    fn visit_expr_unary(&mut self, e: &'a ExprUnary) {
        if matches!(e.op, UnOp::Not(_) | UnOp::Neg(_)) {
            self.change(&e.op, "");
        }
        syn::visit::visit_expr_unary(self, e);
    }

    fn visit_stmt(&mut self, s: &'a Stmt) {
        // A statement that ends with `;` and gives no name to anything may be forgotten.
        if matches!(s, Stmt::Expr(e, Some(_)) if !matches!(e, Expr::Let(_))) {
            self.change(s, "");
        }
        syn::visit::visit_stmt(self, s);
    }

    fn visit_expr_match(&mut self, e: &'a ExprMatch) {
        // Where another arm takes everything, each of the others may be forgotten.
        if e.arms.iter().any(|arm| matches!(arm.pat, Pat::Wild(_))) {
            for arm in e.arms.iter().filter(|arm| !matches!(arm.pat, Pat::Wild(_))) {
                self.change(arm, "");
            }
        }
        syn::visit::visit_expr_match(self, e);
    }

    fn visit_pat_guard(&mut self, pattern: &'a PatGuard) {
        self.change(&pattern.guard, "true");
        self.change(&pattern.guard, "false");
        syn::visit::visit_pat_guard(self, pattern);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{course, tree};

    #[test]
    fn each_kind_of_change_is_made_in_its_place() {
        let text = "/// Docs.\nfn f(a: u8) -> Result<bool> {\n    g();\n    match a {\n        1 if a == 2 => Ok(!b),\n        3 => h(),\n        _ => Ok(a < 4 && c),\n    }\n}\n";
        let all = of("a::f", text).expect("mutants");
        let what: Vec<&str> = all.iter().map(|m| m.what.as_str()).collect();
        for wanted in [
            "the whole body: Ok(true)",
            "the whole body: Ok(false)",
            "without `g();`",
            "`true` for `a == 2` in `1 if a == 2 => Ok(!b),`",
            "`!=` for `==` in `1 if a == 2 => Ok(!b),`",
            "without `!` in `1 if a == 2 => Ok(!b),`",
            "without `3 => h(),`",
            "`<=` for `<` in `_ => Ok(a < 4 && c),`",
            "`||` for `&&` in `_ => Ok(a < 4 && c),`",
        ] {
            assert!(what.contains(&wanted), "{wanted} is not in {what:#?}");
        }
        let or = all.iter().find(|m| m.what.contains("||")).expect("found");
        assert!(
            or.body.starts_with("\n    g();") && or.body.contains("a < 4 || c),\n    }\n"),
            "{}",
            or.body
        );
    }

    #[test]
    fn two_of_a_kind_in_a_line_are_told_apart() {
        let all = of("a::f", "fn f() -> bool {\n    a == 1 || b == 2\n}\n").expect("mutants");
        let same: Vec<_> = all.iter().filter(|m| m.what.contains("`!=`")).map(ToString::to_string).collect();
        assert_eq!(
            same,
            [
                "a::f: `!=` for `==` in `a == 1 || b == 2`",
                "a::f: `!=` for `==` in `a == 1 || b == 2` (no. 2)"
            ]
        );
    }

    /// What is argued is about the code as it is: a function that was changed is argued, or checked, again.
    #[test]
    fn what_is_argued_is_a_mutant_of_the_code_that_is_shipped() {
        for item in course::ALL.iter().flat_map(|e| e.items) {
            let all = mutants(&tree::course(), item).expect(item);
            for (at, _) in ARGUED.match_indices(&format!("`{item}: ")) {
                let here = &ARGUED[at..];
                let known = all.iter().any(|m| here.starts_with(&format!("`{m}`")));
                assert!(known, "no mutant any more: {}", here.lines().next().unwrap_or_default());
            }
        }
        let items: Vec<_> = course::ALL.iter().flat_map(|e| e.items).collect();
        for line in ARGUED.lines().filter(|l| l.starts_with("- ")) {
            let item = line.trim_start_matches("- `").split(": ").next().unwrap_or_default();
            assert!(items.contains(&&item), "no exercise has this: {line}");
        }
    }
}
