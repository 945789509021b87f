//! The parser against anything that is no Dockerfile.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use dockerfile::{expand, ignore::Ignore, parse};
use proptest::prelude::*;

/// Text made of what Dockerfiles are made of, in any order: it comes deeper into the parser than noise does.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "FROM",
        "RUN",
        "COPY",
        "ADD",
        "ENV",
        "ARG",
        "ONBUILD",
        "HEALTHCHECK",
        "LABEL",
        "SHELL",
        "EXPOSE",
        " ",
        " ",
        "\n",
        "\n",
        "\\\n",
        "\\",
        "`",
        "#",
        "# escape=`\n",
        "<<EOF",
        "<<-'E O'",
        "EOF\n",
        "--from=",
        "--chown",
        "--",
        "[\"a\",",
        "\"]",
        "\"",
        "'",
        "$",
        "${",
        "}",
        ":-",
        "%%",
        "/",
        "=",
        "a",
        "b c",
        "é",
        "\u{feff}",
        "\t",
        "\r",
    ]);
    prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn never_panics(text in ".{0,200}|[\\x00-\\x7f]{0,200}") {
        let _ = parse(&text);
        let _ = parse(&format!("FROM a\n{text}"));
    }

    #[test]
    fn never_panics_on_pieces(text in pieces()) {
        let _ = parse(&text);
        let _ = parse(&format!("FROM a\nRUN {text}"));
    }

    #[test]
    fn every_instruction_comes_back_on_its_line(blank in 0usize..5, words in prop::collection::vec("[a-z]{1,8}", 1..5)) {
        let text = format!("FROM a\n{}RUN {}\nUSER x", "\n# c\n".repeat(blank), words.join(" \\\n#\n "));
        let file = parse(&text).unwrap();
        let [_, run, user] = &file.stages[0].instructions[..] else { panic!("{file:?}") };
        prop_assert_eq!(run.line, 2 + 2 * blank);
        prop_assert_eq!(user.line, run.line + 1 + 2 * (words.len() - 1));
        prop_assert_eq!(run.text_args().split_whitespace().collect::<Vec<_>>(), words);
    }

    #[test]
    fn expansion_never_panics_and_quotes_protect(text in pieces(), plain in "[^'$\\\\\"]{0,50}") {
        let lookup = |name: &str| (name != "none").then(|| name.to_owned());
        let _ = expand::word(&text, '\\', &lookup);
        let _ = expand::words(&text, '`', &lookup);
        let _ = expand::document(&text, '\\', &lookup);
        prop_assert_eq!(expand::word(&format!("'{plain}'"), '\\', &lookup).unwrap(), plain);
    }

    #[test]
    fn the_ignore_file_never_panics(text in ".{0,80}", path in "[a-c/*.]{0,20}") {
        if let Ok(ignore) = Ignore::parse(&text, "x") {
            ignore.is_excluded(&path);
        }
    }
}
