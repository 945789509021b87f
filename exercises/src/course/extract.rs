//! A layer comes from a stranger: whatever its names and links say, it is unpacked inside its directory.

use super::{
    Answer, Case, Exercise, Wrong,
    tool::{ran, refused, unwell, well},
};
use crate::{
    image::{Layout, Tar},
    verdict::Verdict,
};
use anyhow::{Context, Result};
use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

pub(super) const EXERCISE: Exercise = Exercise {
    id: "layers/extract",
    title: "unpack a layer that wants to get out",
    section: "5.1",
    items: &["layers::unpack::clean", "layers::root::Root::raw", "layers::unpack::Extractor::new_file"],
    program: "layers",
    points: 25,
    task: "Three functions stand between a tar from a stranger and your files.\n\
           `clean` makes of an entry's name a path below the layer's root, by its text alone: without a slash at its\n\
           beginning, without `.`, a `..` taken back; one that leads out of the layer is refused (`refused` makes the error).\n\
           `Root::raw` opens a path inside a root, with these open(2) flags, as if the root were `/`: links on the way are\n\
           followed, but they too lead to places inside. An empty path is the root itself.\n\
           `new_file` gives an empty file of this name in the directory `parent`: never one that was there before, nor one\n\
           that a link of this name leads to. `replacing` removes what is in the way, if the call says EEXIST.",
    invariants: &[
        "whatever a tar says, nothing outside the directory is made, changed, or linked to",
        "a name that leads out is refused, not bent until it fits",
        "an absolute link is followed inside: /bin -> /usr/bin is in every image, and means the image's own",
        "an entry that comes a second time gets a new file: other names of the first one keep the old content",
    ],
    predict: "a tar has a link `x` to `/etc` and then a file `x/passwd`. You check each name for `..` and a leading slash. \
              Is that enough?",
    hints: [
        "A path that was checked can be another one when it is used. Who can follow the path and look after it in one step?",
        "openat2(2) has a field `resolve`. Of its flags, one refuses what leads out, another treats the directory as `/`.",
        "OpenHow::new().flags(flags | O_CLOEXEC).mode(...).resolve(RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS), again on EAGAIN, \
         and a mode only with O_CREAT; O_CREAT | O_EXCL for the file; `Path::components` for the name.",
    ],
    why: (
        "Why is it not enough to resolve all links first, to look whether the result is inside, and then to open it?",
        "Between the look and the use somebody can put a link where a directory was: another process, or the next entry of \
         the same tar. The kernel resolves and opens in one step, and what it gives is a descriptor, no longer a name.",
    ),
    check,
    wrong: &[
        Wrong {
            name: "the name is taken as it is",
            answer: Answer::Body(" let _ = entry; Ok(PathBuf::from(path)) "),
            told: "leads out is refused",
        },
        Wrong {
            name: "a `..` too many is left out",
            answer: Answer::Change(
                "layers::unpack::clean",
                "return Err(refused(entry, \"its path leads out of the layer\"))",
                "()",
            ),
            told: "leads out is refused",
        },
        Wrong {
            name: "the path is joined to the root's",
            answer: Answer::Change(
                "layers::root::Root::raw",
                "openat2(&self.dir, path, how)",
                "{ let _ = how; nix::fcntl::open(&proc_path(self.dir.as_fd()).join(path.strip_prefix(\"/\").unwrap_or(path)), flags | OFlag::O_CLOEXEC, Mode::from_bits_truncate(mode)) }",
            ),
            told: "outside the layer's directory",
        },
        Wrong {
            name: "links that lead out are refused",
            answer: Answer::Change("layers::root::Root::raw", "RESOLVE_IN_ROOT", "RESOLVE_BENEATH"),
            told: "RESOLVE_IN_ROOT",
        },
        Wrong {
            name: "a file is written through a link of its name",
            answer: Answer::Change(
                "layers::unpack::Extractor::new_file",
                "OFlag::O_EXCL | OFlag::O_NOFOLLOW",
                "OFlag::O_TRUNC",
            ),
            told: "outside the layer's directory",
        },
        Wrong {
            name: "a file that was there is written over",
            answer: Answer::Change("layers::unpack::Extractor::new_file", "OFlag::O_EXCL", "OFlag::O_TRUNC"),
            told: "O_EXCL",
        },
    ],
};

/// What must come of a tar.
enum Outcome {
    /// These files, by path and content.
    Files(Vec<(String, String)>),
    /// The program says no.
    Refused,
}

fn check(case: &Case) -> Result<Verdict> {
    let outside = case.dir.join("outside");
    let victim = case.dice.word();
    fs::create_dir_all(outside.join("deep")).context("make a directory")?;
    fs::write(outside.join(&victim), case.dice.bytes(100)).context("write a file")?;
    let before = snapshot(&outside)?;

    for (n, (what, tar, outcome, hint)) in tars(case, &outside, &victim).into_iter().enumerate() {
        let layout = Layout::make(&case.dir.join(format!("store{n}")))?;
        layout.image("it", &[tar])?;
        let (store, bundle) = (format!("store{n}"), format!("bundle{n}"));
        let ended = ran(case, &["--store", &store, "unpack", "it", &bundle])?;
        let bundle = case.dir.join(bundle);
        let hint = if ended.stderr.contains("EXDEV") { LINKS } else { hint };

        if snapshot(&outside)? != before {
            let seen =
                format!("a file outside the layer's directory was made, changed or linked to, by {what}");
            return Ok(Verdict::failed("nothing outside changes", seen, hint));
        }
        let known = ["rootfs", "config.json", "layers.json"];
        let names = fs::read_dir(&bundle).into_iter().flatten().flatten().map(|e| e.file_name());
        if let Some(stranger) = names.into_iter().find(|name| !known.iter().any(|known| name == *known)) {
            let seen = format!("{} was made outside the layer's directory, by {what}", stranger.display());
            return Ok(Verdict::failed("nothing outside changes", seen, hint));
        }
        match outcome {
            Outcome::Refused if refused(&ended) => (),
            Outcome::Refused => {
                let seen = format!("{what}: {}", ended.tell());
                return Ok(Verdict::failed("an entry that leads out is refused", seen, hint));
            }
            Outcome::Files(_) if !well(&ended) => {
                return Ok(unwell(&format!("a tar with {what} is unpacked"), &ended, hint));
            }
            Outcome::Files(files) => {
                for (path, content) in files {
                    let file = bundle.join("rootfs").join(path.trim_start_matches('/'));
                    let is_file = fs::symlink_metadata(&file).is_ok_and(|m| m.is_file());
                    let found = fs::read_to_string(&file).unwrap_or_default();
                    if !is_file || found != content {
                        let found = if is_file { format!("{found:?}") } else { "no such file".into() };
                        let expected =
                            format!("{what}: there is a file {path} in the root, with {content:?} in it");
                        return Ok(Verdict::failed(expected, found, hint));
                    }
                }
            }
        }
    }
    Ok(Verdict::Passed)
}

const LINKS: &str = "who follows the links on the way? openat2(2) with RESOLVE_IN_ROOT keeps them inside";

/// Tars, each with what it tries, what must come of it, and what may be wrong if it does not.
fn tars(case: &Case, outside: &Path, victim: &str) -> Vec<(String, Vec<u8>, Outcome, &'static str)> {
    let word = || case.dice.word();
    let (a, b, c, text, other) = (word(), word(), word(), word(), word());
    let data = text.as_bytes();
    let absolute = outside.display().to_string();
    let file = |name: &str| Tar::new().file(name, 0o644, data).end();
    let one = |path: String| Outcome::Files(vec![(path, text.clone())]);
    let names = "Path::components tells a name from `.`, `..` and the slash at the beginning";
    let new = "O_CREAT alone opens what is there, and follows a link; with O_EXCL it is a new file or EEXIST";
    vec![
        (format!("the name {a}/{b}"), file(&format!("{a}/{b}")), one(format!("{a}/{b}")), names),
        (format!("the name /{a}/{b}"), file(&format!("/{a}/{b}")), one(format!("{a}/{b}")), names),
        (format!("the name ./{a}/../{b}"), file(&format!("./{a}/../{b}")), one(b.clone()), names),
        (format!("the name ../{a}"), file(&format!("../{a}")), Outcome::Refused, names),
        (format!("the name {a}/../../{b}"), file(&format!("{a}/../../{b}")), Outcome::Refused, names),
        (format!("the name {a}/../.."), file(&format!("{a}/../..")), Outcome::Refused, names),
        (
            format!("the name ../../outside/{victim}"),
            file(&format!("../../outside/{victim}")),
            Outcome::Refused,
            names,
        ),
        (
            format!("a link {a} -> /{b}, a directory {b}, and a file {a}/{c}"),
            Tar::new()
                .directory(&b, 0o755)
                .symlink(&a, &format!("/{b}"))
                .file(&format!("{a}/{c}"), 0o644, data)
                .end(),
            one(format!("{b}/{c}")),
            LINKS,
        ),
        (
            format!("a link {a} to a directory of the host, and a file {a}/{c}"),
            Tar::new().symlink(&a, &absolute).file(&format!("{a}/{c}"), 0o644, data).end(),
            one(format!("{absolute}/{c}")),
            LINKS,
        ),
        (
            format!("a link {a} -> ../../outside, and a file {a}/deep/{c}"),
            Tar::new().symlink(&a, "../../outside").file(&format!("{a}/deep/{c}"), 0o644, data).end(),
            one(format!("outside/deep/{c}")),
            LINKS,
        ),
        (
            format!("a link {a} to a directory of the host, and a hard link to {a}/{victim}"),
            Tar::new().symlink(&a, &absolute).hard_link(&b, &format!("{a}/{victim}")).end(),
            Outcome::Refused,
            LINKS,
        ),
        (
            "a hard link to a file of the host by `..`".to_owned(),
            Tar::new().hard_link(&b, &format!("../../outside/{victim}")).end(),
            Outcome::Refused,
            names,
        ),
        (
            format!("a link {a} to a file of the host, and a file {a}"),
            Tar::new().symlink(&a, &format!("{absolute}/{victim}")).file(&a, 0o644, data).end(),
            one(a.clone()),
            new,
        ),
        (
            format!("a link {a} to a file that the host has not, and a file {a}"),
            Tar::new().symlink(&a, &format!("{absolute}/{c}")).file(&a, 0o644, data).end(),
            one(a.clone()),
            new,
        ),
        (
            format!("a named pipe {a}, and a file {a}/{c}"),
            Tar::new().entry(b'6', &a, 0o644, "", b"").file(&format!("{a}/{c}"), 0o644, data).end(),
            Outcome::Refused,
            "a pipe opened for reading waits for a writer: are the flags that were given among those of the call?",
        ),
        (
            format!("a file {a}, another name {b} for it, and a file {a} once more"),
            Tar::new().file(&a, 0o644, other.as_bytes()).hard_link(&b, &a).file(&a, 0o600, data).end(),
            Outcome::Files(vec![(a.clone(), text.clone()), (b.clone(), other)]),
            new,
        ),
    ]
}

/// Path, mode, number of links, inode, content.
type Seen = (PathBuf, u32, u64, u64, Vec<u8>);

/// All that can be seen of a tree.
fn snapshot(dir: &Path) -> Result<Vec<Seen>> {
    let mut seen = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| format!("read {}", dir.display()))? {
        let path = entry?.path();
        let stat = fs::symlink_metadata(&path)?;
        let content = if stat.is_file() { fs::read(&path)? } else { Vec::new() };
        let links = if stat.is_dir() { 0 } else { stat.nlink() };
        seen.push((path.clone(), stat.mode(), links, stat.ino(), content));
        if stat.is_dir() {
            seen.extend(snapshot(&path)?);
        }
    }
    seen.sort();
    Ok(seen)
}
