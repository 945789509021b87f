//! The pages as text and as HTML: spelled right, by hunspell and a list of our own words; well formed, by tidy.

use kit::{Case, Need};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Write,
    path::Path,
    process::{Command, Stdio},
};

fn main() {
    kit::run(vec![
        Case::new("every_word_is_spelled_right", &[Need::Program("hunspell")], spelling),
        Case::new("every_page_is_html", &[Need::Program("tidy")], html),
    ]);
}

fn spelling() {
    let book = Path::new(env!("CARGO_MANIFEST_DIR"));
    let own = fs::read_to_string(book.join("words.txt")).expect("our own words");
    let own: BTreeSet<&str> = own.lines().collect();
    let mut unknown: BTreeMap<String, String> = BTreeMap::new();
    let mut used = BTreeSet::new();
    for entry in fs::read_dir(book.join("en")).expect("the text").flatten() {
        let path = entry.path();
        if path.extension().is_none_or(|e| e != "md") {
            continue;
        }
        let prose = prose(&fs::read_to_string(&path).expect("a page"));
        let mut hunspell = Command::new("hunspell")
            .args(["-l", "-i", "utf-8", "-d", "en_GB"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("hunspell");
        let mut input = hunspell.stdin.take().expect("a pipe");
        let writer = std::thread::spawn(move || input.write_all(prose.as_bytes()));
        let output = hunspell.wait_with_output().expect("its answer");
        assert!(output.status.success(), "hunspell: {}", output.status);
        writer.join().expect("it does not panic").expect("hunspell reads all");
        for word in String::from_utf8_lossy(&output.stdout).lines() {
            if let Some(word) = own.get(word) {
                used.insert(*word);
            } else {
                unknown.insert(word.to_owned(), entry.file_name().to_string_lossy().into());
            }
        }
    }
    let unknown: Vec<String> = unknown.iter().map(|(word, page)| format!("{word} ({page})")).collect();
    assert!(unknown.is_empty(), "not in the dictionary, nor in book/words.txt: {}", unknown.join(", "));
    let idle: Vec<&&str> = own.difference(&used).collect();
    assert!(idle.is_empty(), "in book/words.txt, and in no page: {idle:?}");
}

/// A page without what is not prose: code, commands, directives, addresses.
fn prose(page: &str) -> String {
    let (mut prose, mut code) = (String::new(), false);
    for line in page.lines() {
        if line.trim_start().starts_with("```") {
            code = !code;
            continue;
        }
        if code {
            continue;
        }
        let mut rest = line;
        while let Some(at) = rest.find(['`', '{', '(', '<']) {
            prose += &rest[..at];
            let end = match rest.as_bytes()[at] {
                b'`' => rest[at + 1..].find('`').map(|end| at + 1 + end + 1),
                b'{' if rest[at..].starts_with("{{") => rest[at..].find("}}").map(|end| at + end + 2),
                b'(' if rest[..at].ends_with(']') => rest[at..].find(')').map(|end| at + end + 1),
                b'<' => rest[at..].find('>').map(|end| at + end + 1),
                _ => None,
            };
            prose.push(' ');
            rest = &rest[end.unwrap_or(at + 1)..];
        }
        prose += rest;
        prose.push('\n');
    }
    prose
}

fn html() {
    let out = tempfile::tempdir().expect("a directory");
    let built = Command::new(env!("CARGO_BIN_EXE_book")).args(["build", "--to"]).arg(out.path()).output();
    let built = built.expect("the book's program");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let mut wrong = Vec::new();
    for entry in fs::read_dir(out.path()).expect("the book").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        // The frame of the table of contents for browsers without scripts is a piece of mdBook's, without a head.
        if !name.ends_with(".html") || name == "toc.html" {
            continue;
        }
        // Warnings of taste (an empty icon, a script where HTML 4 had none) are none of HTML's.
        let tidy = Command::new("tidy")
            .args([
                "-q",
                "-e",
                "--show-warnings",
                "no",
                "--custom-tags",
                "blocklevel",
                "--new-inline-tags",
                "mark",
            ])
            .arg(entry.path())
            .output()
            .expect("tidy");
        wrong.extend(String::from_utf8_lossy(&tidy.stderr).lines().map(|line| format!("{name}: {line}")));
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}
