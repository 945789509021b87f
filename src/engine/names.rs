//! Ids and names: 64 random hex digits, and docker's way of naming what was not named.

use super::failure::{Failure, Result};
use std::{fs::File, io::Read};

const ADJECTIVES: &[&str] = &[
    "admiring",
    "amber",
    "bold",
    "brave",
    "bright",
    "busy",
    "calm",
    "clever",
    "cool",
    "dazzling",
    "eager",
    "elastic",
    "fervent",
    "focused",
    "gallant",
    "gentle",
    "gifted",
    "happy",
    "hopeful",
    "jolly",
    "keen",
    "kind",
    "lucid",
    "modest",
    "nimble",
    "patient",
    "quiet",
    "quirky",
    "relaxed",
    "serene",
    "sharp",
    "steady",
    "sunny",
    "tender",
    "upbeat",
    "vibrant",
    "vigilant",
    "wise",
    "wonderful",
    "zealous",
];

/// People to whom computing, or shipping, owes something.
const SURNAMES: &[&str] = &[
    "allen",
    "antonelli",
    "backus",
    "bartik",
    "boole",
    "cerf",
    "dijkstra",
    "engelbart",
    "feinler",
    "goldberg",
    "goldwasser",
    "hamilton",
    "hamming",
    "hoare",
    "hopper",
    "johnson",
    "kay",
    "kernighan",
    "knuth",
    "lamport",
    "liskov",
    "lovelace",
    "mclean",
    "mcilroy",
    "meitner",
    "milner",
    "naur",
    "neumann",
    "noether",
    "perlman",
    "ritchie",
    "shannon",
    "snyder",
    "spence",
    "sutherland",
    "thompson",
    "torvalds",
    "turing",
    "wilkes",
    "wing",
];

/// Random bytes from the kernel.
pub(crate) fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    File::open("/dev/urandom")
        .and_then(|mut f| f.read_exact(&mut bytes))
        .map_err(|e| Failure::from(e).doing("reading /dev/urandom"))?;
    Ok(bytes)
}

/// A new id. Never digits only in its short form: such a one could be taken for a number by scripts.
pub(crate) fn id() -> Result<String> {
    loop {
        let id: String = random::<32>()?.iter().map(|b| format!("{b:02x}")).collect();
        if id[..12].bytes().any(|b| b.is_ascii_alphabetic()) {
            return Ok(id);
        }
    }
}

/// A name such as `clever_hopper`; from the fourth try on with a number behind it.
pub(crate) fn random_name(attempt: usize) -> Result<String> {
    let [a, b, c] = random::<3>()?;
    let name = format!(
        "{}_{}",
        ADJECTIVES[usize::from(a) % ADJECTIVES.len()],
        SURNAMES[usize::from(b) % SURNAMES.len()]
    );
    Ok(if attempt < 3 { name } else { format!("{name}{c}") })
}

/// Whether docker allows the name: `[a-zA-Z0-9][a-zA-Z0-9_.-]+`. It becomes a path for volumes, so this is no formality.
pub(crate) fn valid(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphanumeric())
        && name.len() > 1
        && name.len() <= 255
        && bytes.all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_would_be_paths_are_refused() {
        for bad in ["", "a", ".", "..", "../x", "a/b", "-a", "a b", "a\0b"] {
            assert!(!valid(bad), "{bad:?}");
        }
        assert!(valid("web-1.a_b"));
    }

    #[test]
    fn ids_are_64_hex_digits_and_differ() {
        let (a, b) = (id().unwrap(), id().unwrap());
        assert_eq!(a.len(), 64);
        assert!(a.bytes().all(|b| b.is_ascii_hexdigit()));
        assert_ne!(a, b);
    }
}
