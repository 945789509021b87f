//! What is written, and what becomes of it.

use super::*;

fn lookup(name: &str) -> Option<String> {
    match name {
        "v" => Some("value".into()),
        "path" => Some("/usr/lib/x.tar.gz".into()),
        "empty" => Some(String::new()),
        "two" => Some("a  b".into()),
        "star" => Some("a*b".into()),
        _ => None,
    }
}

#[test]
fn table() {
    for (text, expected) in [
        ("plain", "plain"),
        ("$v", "value"),
        ("a${v}b", "avalueb"),
        ("$none|${none}", "|"),
        ("$v.$v", "value.value"),
        ("$", "$"),
        ("a$ b", "a$ b"),
        ("$.", "$."),
        (r"\$v", "$v"),
        (r"\\$v", r"\value"),
        ("'$v'", "$v"),
        ("\"$v\"", "value"),
        (r#""\$v \" \n""#, r#"$v " \n"#),
        (r"'a\b'", r"a\b"),
        (r"a\ b", "a b"),
        ("''", ""),
        ("x'y'\"z\"", "xyz"),
        ("${v:-d}${none:-d}${empty:-d}", "valuedd"),
        ("${v-d}${none-d}${empty-d}", "valued"),
        ("${v:+a}${none:+a}${empty:+a}", "a"),
        ("${v+a}${none+a}${empty+a}", "aa"),
        ("${none:-${v}}", "value"),
        ("${none:-${none:-$v}}", "value"),
        ("${none:-'}'}", "}"),
        ("${v:?x}", "value"),
        ("${path#*/}", "usr/lib/x.tar.gz"),
        ("${path##*/}", "x.tar.gz"),
        ("${path%.*}", "/usr/lib/x.tar"),
        ("${path%%.*}", "/usr/lib/x"),
        ("${path#none}", "/usr/lib/x.tar.gz"),
        ("${v/a/o}", "volue"),
        ("${path//[/]/:}", "/usr/lib/x.tar.gz"),
        (r"${path//\//:}", ":usr:lib:x.tar.gz"),
        ("${path/l*b/L}", "/usr/L/x.tar.gz"),
        (r"${star/\*/-}", "a-b"),
        ("${star/'*'/-}", "a-b"),
        ("${star#?}", "*b"),
        ("${none/a/b}", ""),
        ("$two", "a  b"),
    ] {
        assert_eq!(word(text, '\\', &lookup).unwrap(), expected, "{text}");
    }
}

#[test]
fn errors_say_what_is_missing() {
    for (text, expected) in [
        ("'a", "unexpected end of statement while looking for matching single-quote"),
        ("\"a", "unexpected end of statement while looking for matching double-quote"),
        ("${v", "syntax error: missing '}'"),
        ("${v:-", "unexpected end of statement while looking for matching }"),
        ("${}", "bad substitution: after ${ comes a variable's name"),
        ("${v:x}", "unsupported modifier (:x) in substitution"),
        ("${v!x}", "unsupported modifier (!) in substitution"),
        ("${none:?set it}", "none: set it"),
        ("${none?}", "none: not allowed to be unset"),
    ] {
        let Err(Error::Expand { reason, .. }) = word(text, '\\', &lookup) else { panic!("{text}") };
        assert_eq!(reason, expected, "{text}");
    }
}

#[test]
fn splits_what_is_not_quoted() {
    let split = |text| words(text, '\\', &lookup).unwrap();
    assert_eq!(split("$two c"), ["a", "b", "c"]);
    assert_eq!(split("\"$two\" c"), ["a  b", "c"]);
    assert_eq!(split("x${two}y '' "), ["xa", "by", ""]);
    assert_eq!(split("$none"), [""; 0]);
}

#[test]
fn another_escape() {
    assert_eq!(word(r"c:\$v`$v", '`', &lookup).unwrap(), r"c:\value$v");
}

#[test]
fn bombs_are_bounded() {
    let long = "x".repeat(MAX_LENGTH);
    assert!(word("$a$a", '\\', &|_| Some(long.clone())).is_err());
    assert!(word(&"${a:-".repeat(5000), '\\', &|_| None).is_err());
}
