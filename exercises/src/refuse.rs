//! What is not compiled: a body that would read files or name foreign code while it is being built, before any sandbox. It is
//! found by its tokens, so it makes no difference how it is written or from what it would be expanded.

use anyhow::{Result, anyhow};
use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};

/// Names that have no honest use in a function of a container engine, and what they do.
const NAMES: [(&str, &str); 9] = [
    ("include", "puts another file into the program"),
    ("include_str", "reads a file while the program is compiled"),
    ("include_bytes", "reads a file while the program is compiled"),
    ("option_env", "reads the grader's environment"),
    ("asm", "is machine code"),
    ("global_asm", "is machine code"),
    ("naked_asm", "is machine code"),
    ("macro_rules", "can hide what is written"),
    ("macro", "can hide what is written"),
];

/// Attributes that change nothing but warnings, and what is derived.
const ATTRIBUTES: [&str; 12] = [
    "allow", "expect", "warn", "cfg", "inline", "cold", "derive", "doc", "must_use", "repr", "rustfmt",
    "default",
];

/// Says what a body does that it must not, if it does.
pub fn refuse(body: &str) -> Result<()> {
    let tokens = body.parse::<TokenStream>().map_err(|e| anyhow!("it is not Rust: {e}"))?;
    look(tokens)
}

fn look(tokens: TokenStream) -> Result<()> {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    for (n, token) in tokens.iter().enumerate() {
        let next = tokens.get(n + 1);
        match token {
            TokenTree::Group(group) => look(group.stream())?,
            TokenTree::Ident(ident) => {
                let name = ident.to_string();
                let name = name.trim_start_matches("r#");
                if let Some((_, does)) = NAMES.iter().find(|(other, _)| *other == name) {
                    return Err(anyhow!("`{name}` {does}"));
                }
                match name {
                    "env"
                        if is(next, '!') || matches!(next, Some(TokenTree::Ident(word)) if word == "as") =>
                    {
                        return Err(anyhow!("`env!` reads the grader's environment"));
                    }
                    "mod" => return Err(anyhow!("`mod` can name another file")),
                    "extern" if !function(&tokens[n + 1..]) => {
                        return Err(anyhow!(
                            "`extern` names code from elsewhere (a function of the C ABI may be written)"
                        ));
                    }
                    _ => {}
                }
            }
            TokenTree::Punct(hash) if hash.as_char() == '#' => {
                let after = if is(next, '!') { tokens.get(n + 2) } else { next };
                if let Some(TokenTree::Group(group)) = after
                    && group.delimiter() == Delimiter::Bracket
                {
                    attribute(group)?;
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn is(token: Option<&TokenTree>, sign: char) -> bool {
    matches!(token, Some(TokenTree::Punct(p)) if p.as_char() == sign)
}

/// Whether after `extern` a function begins: `"C" fn`, or `fn`.
fn function(after: &[TokenTree]) -> bool {
    let mut after = after.iter().filter(|t| !matches!(t, TokenTree::Literal(_)));
    matches!(after.next(), Some(TokenTree::Ident(word)) if word == "fn")
}

fn attribute(group: &Group) -> Result<()> {
    match group.stream().into_iter().next() {
        Some(TokenTree::Ident(name)) if ATTRIBUTES.iter().any(|known| name == known) => Ok(()),
        first => {
            let name = first.map(|t| t.to_string()).unwrap_or_default();
            Err(anyhow!("the attribute `#[{name}]` changes how the engine is built"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_reads_files_while_it_is_compiled_is_refused_however_it_is_written() {
        for body in [
            "let s = include_str!(\"../x\");",
            "use core::include_bytes as honest; honest!(\"x\")",
            "if a { std::r#include!(\"x\") }",
            "macro_rules! m { ($a:ident) => { $a!(\"x\") } }",
            "vec![option_env!(\"HOME\")]",
            "env!(\"CARGO_MANIFEST_DIR\")",
            "use std::env as honest; honest!(\"HOME\")",
            "use std::{env as honest, fs}; honest!(\"HOME\")",
            "std::r#env!(\"HOME\")",
            "use std::{include_str as honest}; honest!(\"x\")",
            "#[doc = include_str!(\"x\")] fn f() {}",
            "#[derive(Parser)] struct S { #[arg(default_value = \"x\")] s: String }",
            "#[derive(Deserialize)] struct S { #[serde(default = \"x\")] s: String }",
            "#[tokio::main] async fn f() {}",
            "#![recursion_limit = \"1000000\"]",
            "use core::arch::global_asm as honest; honest!(\"nop\")",
            "macro m($a:ident) { $a!(\"x\") }",
            "unsafe { std::arch::asm!(\"nop\") }",
            "#[path = \"x.rs\"] struct S;",
            "#[cfg_attr(all(), path = \"x\")] struct S;",
            "mod a;",
            "extern crate std as other;",
            "unsafe extern \"C\" { fn system(s: *const u8); }",
            "#[unsafe(no_mangle)] fn f() {}",
            "\"not closed",
        ] {
            assert!(refuse(body).is_err(), "{body}");
        }
    }

    #[test]
    fn what_an_engine_needs_is_not() {
        for body in [
            "let home = std::env::var(\"HOME\");",
            "extern \"C\" fn child(_: *mut c_void) -> c_int { 0 }",
            "#[allow(unused)] #[inline] fn f() {}",
            "// include_str!\n\"include_str!\"",
            "todo!(\"write it\")",
        ] {
            refuse(body).expect(body);
        }
    }
}
