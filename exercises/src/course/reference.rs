//! `alpine` is short for something, and every tool must mean the same by it.

use super::{
    Answer, Case, Exercise, Wrong,
    tool::{ran, refused},
};
use crate::{
    image::{self, Layout, Tar},
    verdict::Verdict,
    wire::{self, Server},
};
use anyhow::Result;
use std::collections::BTreeMap;

pub(super) const EXERCISE: Exercise = Exercise {
    id: "registry/reference",
    title: "know which image is meant",
    section: "6.3",
    items: &[
        "registry::reference::Reference::parse",
        "registry::reference::split_registry",
        "registry::reference::Reference::target",
    ],
    program: "registry",
    points: 15,
    task: "`split_registry` gives the registry of what a user has typed, and what follows it: Docker Hub (HUB, once\n\
           HUB_OF_OLD) if none is written, where images without an owner are OFFICIAL ones. The first of several components is\n\
           a registry if it could not be somebody's name on Docker Hub: it has a dot, a colon or a capital, or is `localhost`.\n\
           `parse` makes a `Reference` of it all: refuse 64 hexadecimal digits (that is an image's ID) and capitals in the\n\
           repository's name, each in docker's own words; part repository, tag and digest; look at each with `is_registry`,\n\
           `is_component`, `is_tag`, `looks_like_digest` (or it is an \"invalid reference format\"), at the length of the name\n\
           (255), and at the digest with `check_digest`. Without tag and digest, LATEST is meant.\n\
           `target` is what a registry is asked for.",
    invariants: &[
        "what is left out is filled in as docker fills it in; what is written stays as it is written",
        "a digest says exactly which image: then no tag is made up, and a tag that is written is not asked for",
        "what is not in the grammar is refused before anybody is asked",
    ],
    predict: "which registry is asked for `localhost/app`, which for `local/app`, and which for `localhost`?",
    hints: [
        "Three kinds of things hold a colon: a port, a tag, a digest. Which can be taken off first without mistaking it?",
        "Without a slash there is no registry. `library/` is put before a name on Docker Hub that has no slash, and nowhere else.",
        "split_registry; capitals in the rest up to the first `:`; split_once('@'), then split_once(':'); the four checks; \
         tag.or_else(|| digest.is_none().then(|| LATEST)); target: the digest, or the tag.",
    ],
    why: (
        "Why is a digest safer than a tag?",
        "A tag is a name that its owner can give to another image at any time. A digest is the hash of the manifest, which \
         holds the hashes of everything else: whoever serves it can only serve that, or be found out.",
    ),
    check,
    wrong: &[
        Wrong {
            name: "library/ is forgotten",
            answer: Answer::Change(
                "registry::reference::split_registry",
                "registry == HUB && !rest.contains('/')",
                "false",
            ),
            told: "library/",
        },
        Wrong {
            name: "localhost is taken for a name",
            answer: Answer::Change("registry::reference::split_registry", "first == \"localhost\"", "false"),
            told: "means localhost/",
        },
        Wrong {
            name: "whatever stands before a slash is a registry",
            answer: Answer::Change(
                "registry::reference::split_registry",
                "first == \"localhost\"",
                "!first.is_empty()",
            ),
            told: "means docker.io/",
        },
        Wrong {
            name: "Docker Hub's old name is another registry",
            answer: Answer::Change("registry::reference::split_registry", "HUB | HUB_OF_OLD", "HUB"),
            told: "index.docker.io",
        },
        Wrong {
            name: "latest is meant beside a digest, too",
            answer: Answer::Change(
                "registry::reference::Reference::parse",
                "digest.is_none().then(|| LATEST.to_owned())",
                "Some(LATEST.to_owned())",
            ),
            told: "@sha256:",
        },
        Wrong {
            name: "the tag is asked for, and the digest is not",
            answer: Answer::Change(
                "registry::reference::Reference::target",
                "self.digest.as_deref().or(self.tag.as_deref())",
                "self.tag.as_deref().or(self.digest.as_deref())",
            ),
            told: "manifests/sha256:",
        },
        Wrong {
            name: "the grammar is not looked at",
            answer: Answer::Change(
                "registry::reference::Reference::parse",
                "if !grammatical {",
                "if grammatical && false {",
            ),
            told: "is refused",
        },
        Wrong {
            name: "an image's ID is a name",
            answer: Answer::Change(
                "registry::reference::Reference::parse",
                "text.len() == 64",
                "text.len() == 65",
            ),
            told: "hexadecimal",
        },
    ],
};

fn check(case: &Case) -> Result<Verdict> {
    let server = Server::start(|request| match request.method.as_str() {
        "HEAD" => wire::Answer::new(200, ""),
        "PUT" => wire::Answer::new(201, ""),
        _ if request.path == "/v2/" => wire::Answer::new(200, "{}"),
        _ => wire::Answer::new(404, "{}"),
    })?;
    for look in [found, asked, grammar] {
        match look(case, &server)? {
            Verdict::Passed => (),
            other => return Ok(other),
        }
    }
    Ok(Verdict::Passed)
}

/// What is typed, and what it means. The store has images under full names; which of them is sent for a short one shows
/// how it was understood. (No registry but the check's own is ever asked.)
fn found(case: &Case, server: &Server) -> Result<Verdict> {
    let word = || case.dice.word();
    let (a, b, c, tag, port) = (word(), word(), word(), word(), case.dice.number(1..65_536));
    let digest = image::digest(&case.dice.bytes(8));
    let capital = tag.to_uppercase();
    let long = format!("{a}-{}", "z".repeat(55));
    let mut cases: Vec<(String, String)> = Vec::new();
    let mut case_of = |typed: String, means: String| cases.push((typed, means));
    case_of(a.clone(), format!("docker.io/library/{a}:latest"));
    case_of(format!("{a}:{tag}"), format!("docker.io/library/{a}:{tag}"));
    case_of(format!("{a}:{capital}"), format!("docker.io/library/{a}:{capital}"));
    case_of("cafe".into(), "docker.io/library/cafe:latest".into());
    case_of(long.clone(), format!("docker.io/library/{long}:latest"));
    case_of(format!("{a}.{b}"), format!("docker.io/library/{a}.{b}:latest"));
    case_of(format!("{a}--{b}__{c}_{a}"), format!("docker.io/library/{a}--{b}__{c}_{a}:latest"));
    case_of(format!("{a}/{b}"), format!("docker.io/{a}/{b}:latest"));
    case_of(format!("{a}/{b}/{c}:{tag}"), format!("docker.io/{a}/{b}/{c}:{tag}"));
    case_of(format!("docker.io/{b}"), format!("docker.io/library/{b}:latest"));
    case_of(format!("docker.io/{b}/{c}:{tag}"), format!("docker.io/{b}/{c}:{tag}"));
    case_of(format!("docker.io/library/{c}"), format!("docker.io/library/{c}:latest"));
    case_of(format!("library/{c}:{tag}"), format!("docker.io/library/{c}:{tag}"));
    case_of(format!("library/{c}/{a}"), format!("docker.io/library/{c}/{a}:latest"));
    case_of(format!("index.docker.io/{b}:{tag}"), format!("docker.io/library/{b}:{tag}"));
    case_of(format!("index.docker.io/{c}/{b}"), format!("docker.io/{c}/{b}:latest"));
    case_of("localhost".into(), "docker.io/library/localhost:latest".into());
    case_of(format!("localhost/{a}"), format!("localhost/{a}:latest"));
    case_of(format!("localhost:{port}/{a}"), format!("localhost:{port}/{a}:latest"));
    case_of(format!("{a}:{port}/{b}:{tag}"), format!("{a}:{port}/{b}:{tag}"));
    case_of(format!("{a}.example/{b}/{c}"), format!("{a}.example/{b}/{c}:latest"));
    case_of(format!("{capital}/{b}"), format!("{capital}/{b}:latest"));
    case_of(format!("[::1]:{port}/{b}"), format!("[::1]:{port}/{b}:latest"));
    case_of(format!("{b}@{digest}"), format!("docker.io/library/{b}@{digest}"));
    case_of(format!("{b}:{tag}@{digest}"), format!("docker.io/library/{b}:{tag}@{digest}"));
    case_of(format!("localhost:{port}/{b}/{c}@{digest}"), format!("localhost:{port}/{b}/{c}@{digest}"));

    // An image for each full name, and for the names that a mistake would lead to.
    let layout = Layout::make(&case.dir.join("store"))?;
    let mut names: BTreeMap<String, String> = BTreeMap::new();
    let wrong = |typed: &str| {
        let mut all = Vec::new();
        for before in ["", "docker.io/", "docker.io/library/", "index.docker.io/", "library/"] {
            all.extend([format!("{before}{typed}"), format!("{before}{typed}:latest")]);
        }
        all.push(typed.replacen('@', ":latest@", 1).replacen("", "docker.io/library/", 1));
        all
    };
    let means: Vec<&String> = cases.iter().map(|(_, means)| means).collect();
    let decoys = cases.iter().flat_map(|(typed, _)| wrong(typed));
    let typed: Vec<&String> = cases.iter().map(|(typed, _)| typed).collect();
    let decoys: Vec<String> = decoys.filter(|name| !typed.contains(&name)).collect();
    for name in means.into_iter().cloned().chain(decoys) {
        if names.values().any(|known| *known == name) {
            continue;
        }
        let layer = [Tar::new().file("name", 0o644, name.as_bytes()).end()];
        layout.image(&name, &layer)?;
        names.insert(image::digest(image::documents(&layer).manifest.as_bytes()), name);
    }

    for (typed, means) in &cases {
        let target = format!("{}/{}:{}", server.address, word(), word());
        let ended = ran(case, &["push", "--store", "store", "--as", &target, typed])?;
        let sent = server.asked().into_iter().rfind(|request| request.method == "PUT");
        let sent = sent.and_then(|request| names.get(&image::digest(&request.body)));
        let ended_well = super::tool::well(&ended);
        if !ended_well || sent != Some(means) {
            let seen = match sent {
                Some(other) if ended_well => format!("the image {other} was taken"),
                _ => ended.tell().chars().take(300).collect(),
            };
            let hint = if ended.untouched() {
                "the function is still empty"
            } else {
                "a registry has a dot, a colon or a capital, or is localhost; on Docker Hub, no owner is `library/`; no tag is \
                 `latest`, unless there is a digest"
            };
            return Ok(Verdict::failed(format!("{typed} means {means}"), seen, hint));
        }
    }
    Ok(Verdict::Passed)
}

/// What a registry is asked for.
fn asked(case: &Case, server: &Server) -> Result<Verdict> {
    let word = || case.dice.word();
    let (a, b, tag, digest) = (word(), word(), word(), image::digest(&case.dice.bytes(8)));
    let port = server.address.port();
    let (longest, longest_tag) = (format!("{a}/{}", "n".repeat(254 - a.len())), "T".repeat(128));
    for (typed, path) in [
        (a.clone(), format!("/v2/{a}/manifests/latest")),
        (format!("{a}/{b}:{tag}"), format!("/v2/{a}/{b}/manifests/{tag}")),
        (format!("{a}/{b}@{digest}"), format!("/v2/{a}/{b}/manifests/{digest}")),
        (format!("{b}:{tag}@{digest}"), format!("/v2/{b}/manifests/{digest}")),
        (longest.clone(), format!("/v2/{longest}/manifests/latest")),
        (format!("{a}:{longest_tag}"), format!("/v2/{a}/manifests/{longest_tag}")),
    ] {
        for host in ["localhost", "127.0.0.1"] {
            let before = server.asked().len();
            let ended = ran(case, &["inspect", &format!("{host}:{port}/{typed}")])?;
            let asked: Vec<String> = server
                .asked()
                .split_off(before)
                .into_iter()
                .map(|r| r.path)
                .filter(|p| p != "/v2/")
                .collect();
            if asked != [path.clone()] {
                let seen = if asked.is_empty() {
                    ended.tell()
                } else {
                    format!("it was asked for {}", asked.join(", "))
                };
                let hint = "the digest if there is one, else the tag; `library/` is Docker Hub's alone";
                return Ok(Verdict::failed(
                    format!("for {host}:PORT/{typed} the registry is asked for {path}"),
                    seen,
                    hint,
                ));
            }
        }
    }
    Ok(Verdict::Passed)
}

/// What docker refuses, in its words.
fn grammar(case: &Case, server: &Server) -> Result<Verdict> {
    let (a, b) = (case.dice.word(), case.dice.word());
    let hex = image::digest(a.as_bytes())[7..].to_owned();
    let capital = a.to_uppercase();
    let format = "invalid reference format";
    let lower = |name: &str| format!("repository name ({name}) must be lowercase");
    let here = |bad: &str| format!("{}/{bad}", server.address);
    let too_long = format!("{a}/{}", "n".repeat(255 - a.len()));
    for (typed, says) in [
        (String::new(), format.to_owned()),
        (format!(":{a}"), format.to_owned()),
        (format!("/{a}"), format.to_owned()),
        (hex.clone(), format!("invalid repository name ({hex}), cannot specify 64-byte hexadecimal strings")),
        (capital.clone(), lower(&format!("library/{capital}"))),
        (format!("{a}/{capital}"), lower(&format!("{a}/{capital}"))),
        (format!("-{a}.example/{b}"), format.to_owned()),
        (format!("{a}.example:{b}/x"), format.to_owned()),
        (format!("[::{a}]/{b}"), format.to_owned()),
        (format!("https://{a}/{b}"), format.to_owned()),
        (here(&capital), lower(&capital)),
        (here(&format!("{a}..{b}")), format.to_owned()),
        (here(&format!("{a}___{b}")), format.to_owned()),
        (here(&format!("{a}//{b}")), format.to_owned()),
        (here(&format!("../{a}")), format.to_owned()),
        (here(&format!("{a}-")), format.to_owned()),
        (here(&format!("{a}/")), format.to_owned()),
        (here(&format!("{a} {b}")), format.to_owned()),
        (here(&format!("{a}:")), format.to_owned()),
        (here(&format!("{a}:{b}:{a}")), format.to_owned()),
        (here(&format!("{a}:-{b}")), format.to_owned()),
        (here(&format!("{a}:{}", "t".repeat(129))), format.to_owned()),
        (here(&format!("{a}@sha256:{}", &hex[..12])), format.to_owned()),
        (here(&too_long), "repository name must not be more than 255 characters".to_owned()),
        (here(&format!("{a}@md5:{}", &hex[..32])), "unsupported digest algorithm".to_owned()),
        (here(&format!("{a}@sha256:{}", &hex[..40])), "invalid checksum digest length".to_owned()),
    ] {
        let before = server.asked().len();
        let ended = ran(case, &["inspect", "--", &typed])?;
        let asked = server.asked().len() - before;
        if !refused(&ended) || asked > 0 || !ended.stderr.contains(&says) {
            let asked = if asked > 0 { ", and the registry was asked" } else { "" };
            return Ok(Verdict::failed(
                format!("{typed:?} is refused: {says}"),
                format!("{}{asked}", ended.tell().chars().take(300).collect::<String>()),
                "each part has a grammar (the module's first lines); what is not in it is never sent",
            ));
        }
    }
    Ok(Verdict::Passed)
}
