//! A registry may be anybody. What it sends is believed when it has the digest that was asked for.

use super::{
    Answer, Case, Exercise, Wrong,
    tool::{ran, refused, unwell, well},
};
use crate::{
    image::{self, Layout, MANIFEST, Tar},
    verdict::Verdict,
    wire::{self, Request, Server},
};
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::{collections::BTreeMap, fs};

pub(super) const EXERCISE: Exercise = Exercise {
    id: "registry/pull",
    title: "believe a registry nothing",
    section: "6.3",
    items: &["registry::manifest::fetch", "registry::pull::config"],
    program: "registry",
    points: 20,
    task: "`fetch` asks for a manifest, by a tag or a digest (which holds a colon), and says with Accept headers which kinds it\n\
           understands (ACCEPT). The answer must be a 200 (`client.refused` makes an error of another), not be longer than\n\
           LIMIT, and have the digest that was asked for. Asked by tag, it must at least be what the registry says that it sent\n\
           (`Docker-Content-Digest`, if that is by the algorithm that we use: sha256). Its descriptor: `media_type` of the\n\
           Content-Type and the bytes, size, digest.\n\
           `config` gives the configuration that a manifest names: from the store if it is `here`, else by a `Download`, which\n\
           stops at the size that the manifest says. At most `manifest::LIMIT` bytes, the right digest, JSON, and as many\n\
           diff IDs as the manifest has layers; all this before the first layer is fetched.",
    invariants: &[
        "only the first answer has to be believed, and only if it was asked for by tag",
        "nothing that a registry sends is read without a limit",
        "a pull that ends badly leaves no image, and one that ends well left no question unasked",
    ],
    predict: "you pull `alpine@sha256:…` over plain HTTP, and somebody on the way may change every byte. What can they do to you?",
    hints: [
        "Two digests: the one that you asked for, if you did, and the one of the bytes that came. A third one, in the header, \
         says only what the registry meant to send.",
        "into_body().into_with_config().limit(LIMIT).read_to_vec() is bounded; `digest` gives None for an algorithm that is \
         not ours. A Download keeps its reason in `failure`: that is told rather than what reading says.",
        "fetch: url(manifests/…), send GET, status, bytes, digest by asked's algorithm or sha256, compare with asked, compare \
         with said. config: size, here or Download::read_to_end and digest, from_slice, count.",
    ],
    why: (
        "Why is the number of diff IDs compared with the number of layers?",
        "Each diff ID checks what the layer of the same place is after it is unpacked. Were there fewer of them, the layers \
         that are left over would be checked by nothing.",
    ),
    check,
    wrong: &[
        Wrong {
            name: "the manifest's digest is not verified",
            answer: Answer::Change(
                "registry::manifest::fetch",
                "asked.filter(|asked| asked != digest.as_ref())",
                "asked.filter(|asked| asked.is_empty())",
            ),
            told: "another one than was asked for",
        },
        Wrong {
            name: "what the registry meant to send is not looked at",
            answer: Answer::Change(
                "registry::manifest::fetch",
                ".filter(|said| said != digest.as_ref())",
                ".filter(|said| said.is_empty())",
            ),
            told: "Docker-Content-Digest",
        },
        Wrong {
            name: "the manifest is read without a limit",
            answer: Answer::Change("registry::manifest::fetch", ".limit(LIMIT)", ".limit(64 << 20)"),
            told: "4 MiB",
        },
        Wrong {
            name: "any answer will do",
            answer: Answer::Change(
                "registry::manifest::fetch",
                "if response.status() != 200 {",
                "if response.status() == 999 {",
            ),
            told: "404",
        },
        Wrong {
            name: "nobody is told what is understood",
            answer: Answer::Change(
                "registry::manifest::fetch",
                "&ACCEPT.map(|kind| (\"accept\", kind))",
                "&[]",
            ),
            told: "Accept",
        },
        Wrong {
            name: "the config's digest is not verified",
            answer: Answer::Change(
                "registry::pull::config",
                "manifest::digest(blob.digest().algorithm(), &bytes).as_ref() != Some(blob.digest())",
                "bytes.is_empty()",
            ),
            told: "a layer was asked for",
        },
        Wrong {
            name: "what is there is fetched again",
            answer: Answer::Change(
                "registry::pull::config",
                "match here(store, blob) {",
                "match here(store, blob).filter(|_| false) {",
            ),
            told: "is in the store is not asked for again",
        },
        Wrong {
            name: "layers that no diff ID checks are taken",
            answer: Answer::Change(
                "registry::pull::config",
                "if said != found {",
                "if said > 1000 + found {",
            ),
            told: "diff ID",
        },
        Wrong {
            name: "the config may be as large as it likes",
            answer: Answer::Change(
                "registry::pull::config",
                "if blob.size() > manifest::LIMIT {",
                "if blob.size() == 0 {",
            ),
            told: "was asked for",
        },
    ],
};

/// The most that a manifest or a config may have: the registry's LIMIT.
const LIMIT: usize = 4 << 20;

/// What the check's registry has, and how it answers.
#[derive(Clone)]
struct Shelf {
    manifest: Vec<u8>,
    status: u16,
    headers: Vec<(&'static str, String)>,
    blobs: BTreeMap<String, Vec<u8>>,
    /// The digests of the config and the layer.
    config: String,
    layer: String,
}

impl Shelf {
    /// An image of one layer with this config, and in its manifest these blanks more.
    fn new(layer: &[u8], config: &[u8], blanks: usize) -> Shelf {
        let part = |kind: &str, bytes: &[u8]| json!({ "mediaType": format!("application/vnd.oci.image.{kind}"), "digest": image::digest(bytes), "size": bytes.len() });
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": part("config.v1+json", config),
            "layers": [part("layer.v1.tar", layer)]
        });
        let blobs = [layer, config].map(|bytes| (image::digest(bytes), bytes.to_vec()));
        Shelf {
            manifest: (manifest.to_string() + &" ".repeat(blanks)).into_bytes(),
            status: 200,
            headers: vec![("content-type", MANIFEST.into())],
            blobs: blobs.into_iter().collect(),
            config: image::digest(config),
            layer: image::digest(layer),
        }
    }

    fn answer(&self, request: &Request) -> wire::Answer {
        if request.path == "/v2/" {
            return wire::Answer::new(200, "{}");
        }
        if request.path.contains("/manifests/") {
            let answer = wire::Answer::new(self.status, self.manifest.clone());
            return self.headers.iter().fold(answer, |answer, (name, value)| answer.header(name, value));
        }
        let blob = request.path.rsplit('/').next().and_then(|digest| self.blobs.get(digest));
        blob.map_or_else(|| wire::Answer::new(404, "{}"), |bytes| wire::Answer::new(200, bytes.clone()))
    }
}

fn check(case: &Case) -> Result<Verdict> {
    for part in [honest, lies] {
        match part(case)? {
            Verdict::Passed => (),
            other => return Ok(other),
        }
    }
    Ok(Verdict::Passed)
}

/// A layer, and the config of an image that has it.
fn parts(case: &Case) -> (Vec<u8>, Value) {
    let layer = Tar::new().file(&case.dice.word(), 0o644, case.dice.word().as_bytes()).end();
    let config = json!({
        "architecture": image::architecture(),
        "os": "linux",
        "config": { "Cmd": [case.dice.word()] },
        "rootfs": { "type": "layers", "diff_ids": [image::digest(&layer)] }
    });
    (layer, config)
}

/// What must go well, whatever of it is unusual.
fn honest(case: &Case) -> Result<Verdict> {
    let (layer, config) = parts(case);
    let plain = Shelf::new(&layer, config.to_string().as_bytes(), 0);
    let with = |headers: &[(&'static str, String)]| Shelf { headers: headers.to_vec(), ..plain.clone() };
    let large = padded(&config.to_string(), LIMIT);
    let digest = image::digest(&plain.manifest);
    let digest512 = image::digest512(&plain.manifest);
    let kind = |text: &str| ("content-type", text.to_owned());
    let said = |digest: &str| ("Docker-Content-Digest", digest.to_owned());
    let tag = format!(":{}", case.dice.word());
    for (n, (what, shelf, suffix)) in [
        ("an image", plain.clone(), tag.clone()),
        ("an image that is asked for by digest", plain.clone(), format!("@{digest}")),
        ("an image that is asked for by a sha512 digest", plain.clone(), format!("@{digest512}")),
        ("an image with its digest in the header", with(&[kind(MANIFEST), said(&digest)]), tag.clone()),
        (
            "an image with a digest in the header by another algorithm than asked for",
            with(&[kind(MANIFEST), said(&digest512)]),
            tag.clone(),
        ),
        (
            "an image whose Content-Type has a parameter",
            with(&[kind(&format!("{MANIFEST}; charset=utf-8"))]),
            tag.clone(),
        ),
        ("an image without a Content-Type", with(&[]), tag.clone()),
        ("an image with a config of exactly 4 MiB", Shelf::new(&layer, large.as_bytes(), 0), tag),
    ]
    .into_iter()
    .enumerate()
    {
        let store = format!("honest{n}");
        let layout = Layout::make(&case.dir.join(&store))?;
        let server = Server::start({
            let shelf = shelf.clone();
            move |request| shelf.answer(request)
        })?;
        let name = format!("{}/{}{suffix}", server.address, case.dice.word());
        let ended = ran(case, &["pull", "--store", &store, &name])?;
        if !well(&ended) {
            return Ok(unwell(
                &format!("{what} is pulled"),
                &ended,
                "everything about it is true: which check is too strict?",
            ));
        }
        let named = layout.names()?.into_iter().any(|(other, entry)| {
            other == name && entry["size"] == shelf.manifest.len() && entry["mediaType"] == MANIFEST
        });
        let whole = [&shelf.config, &shelf.layer].iter().all(|digest| layout.path(digest).is_file());
        if !named || !whole {
            let seen = format!("index.json has {:?}, and blobs {:?}", layout.names()?, layout.blob_names());
            let expected = format!("{what} is in the store, with its size and its kind, as {name}");
            return Ok(Verdict::failed(expected, seen, "the descriptor says what the bytes are"));
        }
        let asked = server.asked();
        let accept = asked.iter().find(|r| r.path.contains("/manifests/")).map(|r| r.header("accept"));
        let accept = accept.unwrap_or_default();
        if let Some(kind) = KINDS.iter().find(|kind| !accept.contains(*kind)) {
            let seen = if accept.is_empty() { "there is none".to_owned() } else { accept };
            let hint =
                "a registry sends an old kind to whoever does not say that they understand the new ones";
            return Ok(Verdict::failed(format!("the Accept headers of the request name {kind}"), seen, hint));
        }
        // Once more: only the name has to be asked for.
        let ended = ran(case, &["pull", "--store", &store, &name])?;
        let again = server.asked().split_off(asked.len());
        if let Some(request) = again.iter().find(|r| r.path.contains("/blobs/")) {
            let expected = "what is in the store is not asked for again";
            return Ok(Verdict::failed(
                expected,
                format!("{} {}", request.method, request.path),
                "`here` gives it",
            ));
        }
        if !well(&ended) {
            return Ok(unwell(
                &format!("{what} is pulled a second time"),
                &ended,
                "what is there is as good as what is sent",
            ));
        }
    }
    Ok(Verdict::Passed)
}

/// JSON with blanks behind it is the same JSON.
fn padded(text: &str, length: usize) -> String {
    text.to_owned() + &" ".repeat(length.saturating_sub(text.len()))
}

const KINDS: [&str; 4] = [
    MANIFEST,
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];

/// What must go wrong, and how far it may get.
enum Until {
    /// The config is not asked for.
    Config,
    /// No layer is asked for.
    Layer,
}

fn lies(case: &Case) -> Result<Verdict> {
    let (layer, config) = parts(case);
    let text = config.to_string();
    let plain = Shelf::new(&layer, text.as_bytes(), 0);
    let (other_layer, other_config) = parts(case);
    let other = Shelf::new(&other_layer, other_config.to_string().as_bytes(), 0);
    let digest = image::digest(&plain.manifest);
    let said = |shelf: &Shelf, digest: &str| {
        let mut shelf = shelf.clone();
        shelf.headers.push(("Docker-Content-Digest", digest.to_owned()));
        shelf
    };
    let with_config = |change: &dyn Fn(&mut Value)| {
        let mut changed = config.clone();
        change(&mut changed);
        Shelf::new(&layer, changed.to_string().as_bytes(), 0)
    };
    let (own, foreign) = (format!("@{digest}"), format!(":{}", case.dice.word()));
    let swapped = {
        let mut shelf = plain.clone();
        let command = config["config"]["Cmd"][0].as_str().unwrap_or_default();
        shelf.blobs.insert(shelf.config.clone(), text.replace(command, &case.dice.word()).into_bytes());
        shelf
    };
    let missing = Shelf { status: 404, ..plain.clone() };
    let huge = padded(&text, LIMIT + 1);
    let twice =
        with_config(&|c| c["rootfs"]["diff_ids"] = json!([image::digest(&layer), image::digest(&layer)]));
    let none = with_config(&|c| c["rootfs"]["diff_ids"] = json!([]));
    let broken = Shelf::new(&layer, &text.as_bytes()[1..], 0);
    let asked = "the digest of the bytes must be the one that was asked for, whatever headers say";
    for (n, (what, shelf, suffix, until, hint)) in [
        ("a manifest is another one than was asked for by digest", other.clone(), own.clone(), Until::Config, asked),
        (
            "a manifest is another one than was asked for by digest, and its header says that it is the right one",
            said(&other, &digest),
            own,
            Until::Config,
            asked,
        ),
        (
            "a manifest is not the one that its own header Docker-Content-Digest names",
            said(&other, &digest),
            foreign.clone(),
            Until::Config,
            "what the registry meant to send is not what has arrived",
        ),
        ("the answer is a 404, and yet has a manifest in it", missing, foreign.clone(), Until::Config, "look at the status first"),
        (
            "a manifest is longer than 4 MiB",
            Shelf::new(&layer, text.as_bytes(), LIMIT),
            foreign.clone(),
            Until::Config,
            "a stranger decides how much you read, unless you do",
        ),
        (
            "a manifest names a config of more than 4 MiB",
            Shelf::new(&layer, huge.as_bytes(), 0),
            foreign.clone(),
            Until::Config,
            "the manifest says how large it is: that is known before it is asked for",
        ),
        (
            "the config is not the one that the manifest names, but as long",
            swapped,
            foreign.clone(),
            Until::Layer,
            "its digest tells, and should be looked at before the layers are fetched",
        ),
        (
            "the config has more diff IDs than the manifest has layers",
            twice,
            foreign.clone(),
            Until::Layer,
            "a diff ID for each layer, and a layer for each diff ID",
        ),
        (
            "the config has no diff ID for a layer",
            none,
            foreign.clone(),
            Until::Layer,
            "a diff ID for each layer, and a layer for each diff ID",
        ),
        ("the config is no JSON", broken, foreign, Until::Layer, "from_slice says so"),
    ]
    .into_iter()
    .enumerate()
    {
        let store = format!("lie{n}");
        let layout = Layout::make(&case.dir.join(&store))?;
        let (config, layers) = (shelf.config.clone(), shelf.layer.clone());
        let server = Server::start(move |request| shelf.answer(request))?;
        let name = format!("{}/{}{suffix}", server.address, case.dice.word());
        let ended = ran(case, &["pull", "--store", &store, &name])?;
        if !refused(&ended) || !layout.names()?.is_empty() {
            return Ok(Verdict::failed(format!("{what}: the pull is refused, and leaves no image"), ended.tell(), hint));
        }
        for name in layout.blob_names() {
            let bytes = fs::read(layout.path(&name)).context("read a blob")?;
            if image::digest(&bytes) != name && image::digest512(&bytes) != name {
                let seen = format!("the blob {name} has other bytes in it");
                return Ok(Verdict::failed(format!("{what}: no blob is called what it is not"), seen, hint));
            }
        }
        let asked = server.asked();
        let blob = |digest: &str| asked.iter().any(|request| request.path.ends_with(digest));
        let too_far = match until {
            Until::Config if blob(&config) => Some("the config"),
            _ if blob(&layers) => Some("a layer"),
            _ => None,
        };
        if let Some(part) = too_far {
            let seen = format!("{part} was asked for: {}", ended.tell());
            return Ok(Verdict::failed(format!("{what}: that is seen before anything more is fetched"), seen, hint));
        }
    }
    Ok(Verdict::Passed)
}
