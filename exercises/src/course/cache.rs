//! "The same again" is the whole secret of a build cache: a key that forgets something gives a stale image.

use super::{
    Answer, Case, Exercise, Wrong,
    tool::{ran, unwell, well},
};
use crate::{
    image::{self, Layout},
    verdict::Verdict,
};
use anyhow::{Context, Result};
use std::{
    collections::BTreeMap,
    fs,
    io::Read,
    os::unix::fs::{PermissionsExt, chown, symlink},
    path::Path,
    time::{Duration, SystemTime},
};

pub(super) const EXERCISE: Exercise = Exercise {
    id: "dockerfile/cache",
    title: "know when nothing has changed",
    section: "6.1",
    items: &[
        "dockerfile::stage::Stage::step_key",
        "dockerfile::source::Source::digest",
        "dockerfile::cache::key",
    ],
    program: "dockerfile",
    points: 25,
    task: "An instruction is not executed again if the same was executed before, on the same. Three functions say what \"the\n\
           same\" is. `key` makes one digest of several parts (VERSION before them all); other parts, or the same bytes parted\n\
           elsewhere, give another. `step_key` is the key of an instruction that is to be executed now: what is below it\n\
           (`self.key`), the configuration, `created_by`, the time that SOURCE_DATE_EPOCH sets (`epoch`), and `inputs`.\n\
           `digest` is over the files that a COPY takes: `walk` shows each of them, below what was `found`; a file's content\n\
           is `content`'s, in another image (not `self.context`) its owner counts too, and the context's own directory (`/`)\n\
           has no mode. `field` is for what has no fixed length.",
    invariants: &[
        "whatever changes the result changes the key: a file's name, mode or content, where a link points, what lies below",
        "what does not change the result does not change the key: times, owners in the context, files that are not copied",
        "no two lists of parts have the same key because they look the same when glued together",
    ],
    predict: "git checkout gives all files new times, and another machine other owners. Should COPY be executed again?",
    hints: [
        "Ask of each thing that stat(2) shows: would the layer be another one? The layer has the file's time in it, and yet \
         the time is left out: what would a cache be worth in CI with it?",
        "A hash over `ab` and `c` is the hash over `a` and `bc`, unless you say how long each part is.",
        "digest: for each found, field(name), then in walk: field(path), st_mode unless the path is `/`, uid and gid unless \
         context, then content, field(readlinkat) or st_rdev by the type; `hex` of it. key: the length as u64, then the part.",
    ],
    why: (
        "Why is what an instruction has made in the key of the next one, when the key of the first is in it already?",
        "The same instruction may be executed twice, with --no-cache or after a prune, and give something else the second \
         time (RUN apt-get update). What was built on the first result does not fit the second.",
    ),
    check,
    wrong: &[
        Wrong {
            name: "the mode is forgotten",
            answer: Answer::Change(
                "dockerfile::source::Source::digest",
                "all.update(visit.stat.st_mode.to_le_bytes());",
                "",
            ),
            told: "mode",
        },
        Wrong {
            name: "the time counts",
            answer: Answer::Change(
                "dockerfile::source::Source::digest",
                "all.update(visit.stat.st_mode.to_le_bytes());",
                "all.update(visit.stat.st_mtime.to_le_bytes());",
            ),
            told: "another time",
        },
        Wrong {
            name: "names are forgotten",
            answer: Answer::Change(
                "dockerfile::source::Source::digest",
                "field(&mut all, path.as_os_str().as_bytes());",
                "let _ = path;",
            ),
            told: "name",
        },
        Wrong {
            name: "a file is as large as before, so it is the same",
            answer: Answer::Change(
                "dockerfile::source::Source::digest",
                "all.update(content(visit, stats)?)",
                "{ let _ = content(visit, stats)?; all.update(visit.stat.st_size.to_le_bytes()) }",
            ),
            told: "content",
        },
        Wrong {
            name: "where a link points is forgotten",
            answer: Answer::Change(
                "dockerfile::source::Source::digest",
                "field(&mut all, text.as_bytes());",
                "let _ = text;",
            ),
            told: "link",
        },
        Wrong {
            name: "what lies below is forgotten",
            answer: Answer::Change(
                "dockerfile::stage::Stage::step_key",
                "self.key.as_bytes()",
                "b\"\".as_slice()",
            ),
            told: "below",
        },
        Wrong {
            name: "the inputs are forgotten",
            answer: Answer::Change(
                "dockerfile::stage::Stage::step_key",
                ".chain(inputs.iter().map(|i| i.as_bytes()))",
                ".chain(inputs.iter().take(0).map(|i| i.as_bytes()))",
            ),
            told: "--parents",
        },
        Wrong {
            name: "the instruction is forgotten",
            answer: Answer::Change(
                "dockerfile::stage::Stage::step_key",
                "created_by.as_bytes()",
                "created_by[..0].as_bytes()",
            ),
            told: "--chmod",
        },
        Wrong {
            name: "parts are glued together",
            answer: Answer::Change(
                "dockerfile::cache::key",
                "hash.update((part.len() as u64).to_le_bytes());",
                "",
            ),
            told: "glued",
        },
    ],
};

/// Two builds, and whether the second has to be another one.
struct Scene {
    what: &'static str,
    /// The Dockerfiles.
    before: String,
    after: String,
    /// What is done to the context in between.
    change: fn(&Path) -> std::io::Result<()>,
    /// Arguments of the second build.
    arguments: Vec<String>,
    expected: Expected,
    hint: &'static str,
}

enum Expected {
    /// Everything comes from the cache.
    Same,
    /// Another image, and in its last layer this path, with mode and content, if given.
    Other(Option<(&'static str, u32, &'static str)>),
}

fn check(case: &Case) -> Result<Verdict> {
    for (n, scene) in scenes(case).into_iter().enumerate() {
        let (context, store) = (case.dir.join(format!("context{n}")), format!("store{n}"));
        Layout::make(&case.dir.join(&store))?;
        fill(&context).context("make a context")?;
        let first = match build(case, &store, &context, &scene.before, &[])? {
            Ok(built) => built,
            Err(verdict) => return Ok(verdict),
        };
        (scene.change)(&context).context("change a context")?;
        let second = match build(case, &store, &context, &scene.after, &scene.arguments)? {
            Ok(built) => built,
            Err(verdict) => return Ok(verdict),
        };
        let same = first.id == second.id;
        let what = scene.what;
        match scene.expected {
            Expected::Same if !same => {
                let seen =
                    format!("the second build gave another image: {}, and before {}", second.id, first.id);
                return Ok(Verdict::failed(format!("{what}: all comes from the cache"), seen, scene.hint));
            }
            Expected::Other(_) if same => {
                let seen = format!("the second build gave the image of the first: {}", first.id);
                return Ok(Verdict::failed(format!("{what}: it is built again"), seen, scene.hint));
            }
            Expected::Other(Some((path, mode, content))) => {
                let found = second.last.get(path);
                if found != Some(&(mode, content.to_owned())) {
                    let found = found.map_or("no such file".into(), |(mode, content)| {
                        format!("mode {mode:o}, {content:?}")
                    });
                    let expected = format!("{what}: the new layer has {path}, mode {mode:o}, {content:?}");
                    return Ok(Verdict::failed(expected, found, scene.hint));
                }
            }
            _ => (),
        }
    }
    Ok(Verdict::Passed)
}

fn scenes(case: &Case) -> Vec<Scene> {
    let copy = "FROM scratch\nCOPY f /f\nCOPY d /d\n";
    // Names that no answer can have been written for, where the names are ours to choose.
    let (x, y) = (case.dice.word(), case.dice.word());
    let other = || Expected::Other(None);
    let scene = |what, before: &str, after: &str, change, expected, hint| Scene {
        what,
        before: before.to_owned(),
        after: after.to_owned(),
        change,
        arguments: Vec::new(),
        expected,
        hint,
    };
    let same = |what, change, hint| scene(what, copy, copy, change, Expected::Same, hint);
    let changed = |what, change, expected, hint| scene(what, copy, copy, change, expected, hint);
    let none: fn(&Path) -> std::io::Result<()> = |_| Ok(());
    let mut scenes = vec![
        same("nothing has changed", none, "is there something in the key that is new every time?"),
        same(
            "a file has another time",
            |c| time(&c.join("d/a"), 77),
            "a fresh checkout of the same files is the same",
        ),
        same(
            "a file that is not copied has changed",
            |c| fs::write(c.join("other"), "x"),
            "only what `walk` shows is copied",
        ),
        same(
            "an ignored file has changed",
            |c| fs::write(c.join("d/ignored"), "new"),
            "only what `walk` shows is copied",
        ),
        changed(
            "a file has another content of the same size, and its old time",
            |c| fs::write(c.join("d/a"), "AAA").and_then(|()| time(&c.join("d/a"), 1)),
            Expected::Other(Some(("d/a", 0o644, "AAA"))),
            "the content itself must be hashed: size and time can be what they were",
        ),
        changed(
            "a file has another mode",
            |c| fs::set_permissions(c.join("d/a"), PermissionsExt::from_mode(0o755)),
            Expected::Other(Some(("d/a", 0o755, "aaa"))),
            "chmod +x is a change",
        ),
        changed(
            "a file in a directory has another name",
            |c| fs::rename(c.join("d/a"), c.join("d/aa")),
            Expected::Other(Some(("d/aa", 0o644, "aaa"))),
            "the path below what is copied belongs to it",
        ),
        changed(
            "two files have changed their names for each other's",
            |c| {
                fs::rename(c.join("d/a"), c.join("d/t"))?;
                fs::rename(c.join("d/b"), c.join("d/a"))?;
                fs::rename(c.join("d/t"), c.join("d/b"))
            },
            Expected::Other(Some(("d/a", 0o644, "bbb"))),
            "the path below what is copied belongs to it",
        ),
        changed(
            "a link points elsewhere",
            |c| fs::remove_file(c.join("d/link")).and_then(|()| symlink("elsewhere", c.join("d/link"))),
            other(),
            "a link's text is what is copied",
        ),
        changed(
            "an empty file more",
            |c| fs::write(c.join("d/empty"), ""),
            other(),
            "each file counts, also an empty one",
        ),
        scene(
            "a file found by `*` has another name",
            "FROM scratch\nCOPY g* /x/\n",
            "FROM scratch\nCOPY g* /x/\n",
            |c| fs::rename(c.join("g"), c.join("gg")),
            Expected::Other(Some(("x/gg", 0o644, "ggg"))),
            "what was found has a name, by which it is called in the image",
        ),
        scene(
            "names and links whose texts are the same when glued together (l -> m and mn; l -> mm and n)",
            "FROM scratch\nCOPY glue /x\n",
            "FROM scratch\nCOPY glue /x\n",
            |c| {
                fs::remove_dir_all(c.join("glue"))?;
                fs::create_dir(c.join("glue"))?;
                symlink("mm", c.join("glue/l"))?;
                fs::write(c.join("glue/n"), "same")
            },
            Expected::Other(Some(("x/n", 0o644, "same"))),
            "what has no fixed length needs its length before it: `field`",
        ),
        scene(
            "sources whose names are the same when glued together (/ab /c; /a b/c)",
            "FROM scratch AS s\nCOPY tree /\nFROM scratch\nCOPY --from=s /ab /c /x/\n",
            "FROM scratch AS s\nCOPY tree /\nFROM scratch\nCOPY --from=s /a b/c /x/\n",
            none,
            Expected::Other(Some(("x/a", 0o644, "a"))),
            "in `key`, the length of each part comes before it",
        ),
        scene(
            "the same COPY on other files below",
            "FROM scratch\nCOPY base /\nCOPY f /b\n",
            "FROM scratch\nCOPY base /\nCOPY f /b\n",
            |c| fs::create_dir(c.join("base/b")),
            Expected::Other(Some(("b/f", 0o644, "fff"))),
            "the same instruction does another thing on another tree: /b is a directory now. What is below it is `self.key`",
        ),
        scene(
            "COPY with --chmod",
            "FROM scratch\nCOPY --chmod=600 f /f\n",
            "FROM scratch\nCOPY --chmod=640 f /f\n",
            none,
            Expected::Other(Some(("f", 0o640, "fff"))),
            "created_by has the instruction with its flags",
        ),
        scene(
            "COPY with --parents",
            "FROM scratch\nCOPY d/a /x/\n",
            "FROM scratch\nCOPY --parents d/a /x/\n",
            none,
            Expected::Other(Some(("x/d/a", 0o644, "aaa"))),
            "what an instruction says that its result depends on is in `inputs`",
        ),
        scene(
            "COPY to another place",
            &format!("FROM scratch\nCOPY f /{x}\n"),
            &format!("FROM scratch\nCOPY f /{y}\n"),
            none,
            other(),
            "created_by has the instruction as it is written",
        ),
        scene(
            "another variable",
            &format!("FROM scratch\nENV A={x}\nCOPY f /f\n"),
            &format!("FROM scratch\nENV A={y}\nCOPY f /f\n"),
            none,
            other(),
            "the configuration is part of what lies below",
        ),
        Scene {
            arguments: vec![
                "--build-arg".into(),
                format!("SOURCE_DATE_EPOCH={}", case.dice.number(1..1 << 30)),
            ],
            ..scene(
                "another SOURCE_DATE_EPOCH",
                copy,
                copy,
                none,
                other(),
                "all times in the image are this one: another epoch, another image",
            )
        },
    ];
    if nix::unistd::geteuid().is_root() {
        let hint = "in the image, the context's files are root's, whosever they are here";
        scenes.push(scene(
            "a file of another stage has another owner",
            "FROM scratch AS s\nCOPY --chown=11:22 f /\nFROM scratch\nCOPY --from=s /f /f\n",
            "FROM scratch AS s\nCOPY --chown=33:22 f /\nFROM scratch\nCOPY --from=s /f /f\n",
            none,
            other(),
            "what comes from a stage keeps its owner: that belongs to what is copied",
        ));
        scenes.push(scene(
            "a file of another stage has another group",
            "FROM scratch AS s\nCOPY --chown=11:22 f /\nFROM scratch\nCOPY --from=s /f /f\n",
            "FROM scratch AS s\nCOPY --chown=11:33 f /\nFROM scratch\nCOPY --from=s /f /f\n",
            none,
            other(),
            "what comes from a stage keeps its owner: that belongs to what is copied",
        ));
        scenes.push(same("a file has another owner", |c| chown(c.join("d/a"), Some(1234), Some(1234)), hint));
    }
    scenes
}

/// Sets a file's time.
fn time(path: &Path, seconds: u64) -> std::io::Result<()> {
    fs::File::options()
        .write(true)
        .open(path)?
        .set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
}

/// Makes a context.
fn fill(context: &Path) -> std::io::Result<()> {
    for dir in ["d", "base", "glue", "tree/b"] {
        fs::create_dir_all(context.join(dir))?;
    }
    for (path, content) in [
        ("f", "fff"),
        ("g", "ggg"),
        ("d/a", "aaa"),
        ("d/b", "bbb"),
        ("d/ignored", "old"),
        ("base/keep", ""),
        ("glue/mn", "same"),
        ("tree/a", "a"),
        ("tree/ab", "ab"),
        ("tree/c", "c"),
        ("tree/b/c", "b/c"),
        (".dockerignore", "**/ignored\n"),
    ] {
        fs::write(context.join(path), content)?;
        fs::set_permissions(context.join(path), PermissionsExt::from_mode(0o644))?;
        time(&context.join(path), 1)?;
    }
    symlink("m", context.join("glue/l"))?;
    symlink("somewhere", context.join("d/link"))
}

/// What came of a build.
struct Built {
    /// The image's ID: if something was executed again, its history has another time in it.
    id: String,
    /// Modes and contents of the files of the last layer.
    last: BTreeMap<String, (u32, String)>,
}

fn build(
    case: &Case,
    store: &str,
    context: &Path,
    dockerfile: &str,
    more: &[String],
) -> Result<Result<Built, Verdict>> {
    fs::write(case.dir.join("Dockerfile"), dockerfile).context("write a Dockerfile")?;
    let context = context.display().to_string();
    let mut arguments = vec!["build", "--store", store, "-t", "it", "-f", "Dockerfile"];
    arguments.extend(more.iter().map(String::as_str));
    arguments.push(&context);
    let ended = ran(case, &arguments)?;
    if !well(&ended) {
        let hint = "a key is 64 hexadecimal digits, and a name in a directory";
        return Ok(Err(unwell(&format!("this is built:\n{dockerfile}"), &ended, hint)));
    }
    let layout = Layout { dir: case.dir.join(store) };
    let (manifest, _) = layout.find("it:latest")?.context("the image is not in the store")?;
    let id = manifest["config"]["digest"].as_str().unwrap_or_default().to_owned();
    let layer = manifest["layers"].as_array().and_then(|layers| layers.last()?["digest"].as_str());
    let tar = image::inflate(&fs::read(layout.path(layer.context("the image has no layer")?))?)?;
    let mut last = BTreeMap::new();
    for entry in tar::Archive::new(tar.as_slice()).entries()? {
        let mut entry = entry?;
        let path = entry.path()?.display().to_string();
        let mode = entry.header().mode()? & 0o7777;
        let mut content = String::new();
        entry.read_to_string(&mut content)?;
        last.insert(path, (mode, content));
    }
    Ok(Ok(Built { id, last }))
}
