//! A tar can only add. So a layer says by a name that something is gone.

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
    collections::BTreeMap,
    fs,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::Path,
};

pub(super) const EXERCISE: Exercise = Exercise {
    id: "layers/whiteouts",
    title: "make what a layer deletes disappear",
    section: "5.1",
    items: &["layers::unpack::Extractor::whiteout", "layers::unpack::Extractor::empty"],
    program: "layers",
    points: 20,
    task: "A tar entry `.wh.NAME` says that NAME, which a layer below has, is gone; `.wh..wh..opq` says that all is gone that\n\
           the layers below have in this directory. `whiteout` gets such an entry: `path` is its path, `name` its last\n\
           component, `hidden` the NAME. What it does depends on `self.options.whiteouts`. With Overlay, the layer has a\n\
           directory to itself, and the mark becomes overlayfs's own: a character device 0/0 called NAME, or the xattr that\n\
           `opaque` sets. With Remove, all layers go into one directory, and NAME is removed; `empty` removes what is in a\n\
           directory, but for what this layer has itself brought (`self.brought`: paths from the root). Before anything is\n\
           removed, `self.open` (directories kept open, by path) is cleared. A mark that names `.`, `..` or nothing is refused.",
    invariants: &[
        "a mark speaks of the layers below only: what the same layer brings is there, before the mark or after it",
        "a directory that a layer deletes and brings anew shows nothing of what was in it",
        "no name that begins with .wh. is left for a container to see",
    ],
    predict: "a layer has the entries `d/`, `d/new` and `.wh.d`, in this order. Below it is `d/old`. What is in `d`?",
    hints: [
        "image-spec, layer.md, \"Whiteouts\", and for the other form Documentation/filesystems/overlayfs.rst, \"whiteouts and \
         opaque directories\".",
        "The kernel gives EEXIST if the layer has brought NAME already. A file then hides what is below by being there. A \
         directory does not: overlayfs merges it, unless it is opaque.",
        "mknodat(parent, hidden, S_IFCHR, empty mode, makedev(0, 0)); remove_at(parent, hidden); `self.root.walk` of the \
         resolved directory, Next::Into for itself and for what was brought, else note it and Next::Skip; remove_all.",
    ],
    why: (
        "Why does overlayfs need a mark for \"nothing here\", when an empty place would do?",
        "An empty place in the upper directory means that the lower one is asked. The upper directory holds only what is \
         different; and that something is not there is a difference.",
    ),
    check,
    wrong: &[
        Wrong {
            name: "the mark is unpacked like a file",
            answer: Answer::Body(
                " let _ = (entry, hidden); let parent = self.parent(path)?; self.new_file(path, parent.as_fd(), name).map(drop) ",
            ),
            told: ".wh.",
        },
        Wrong {
            name: "a mark removes what the same layer brought",
            answer: Answer::Change(
                "layers::unpack::Extractor::whiteout",
                "if !self.brought.contains(&gone) {",
                "if true {",
            ),
            told: "the same layer",
        },
        Wrong {
            name: "an opaque mark removes what the same layer brought",
            answer: Answer::Change(
                "layers::unpack::Extractor::empty",
                "visit.path == real || self.brought.contains(inside)",
                "{ let _ = inside; visit.path == real }",
            ),
            told: "the same layer",
        },
        Wrong {
            name: "the opaque mark is forgotten",
            answer: Answer::Change(
                "layers::unpack::Extractor::whiteout",
                "_ => self.empty(parent_path),",
                "_ => Ok(()),",
            ),
            told: "everything in it",
        },
        Wrong {
            name: "a directory that comes back is not opaque",
            answer: Answer::Change(
                "layers::unpack::Extractor::whiteout",
                "Err(Errno::EEXIST) if is_dir()? => self.opaque(parent.as_fd(), hidden).doing(|| doing(path)),",
                "",
            ),
            told: "opaque",
        },
        Wrong {
            name: "a layer of its own is emptied, not marked",
            answer: Answer::Change(
                "layers::unpack::Extractor::whiteout",
                "self.options.whiteouts == Whiteouts::Remove",
                "self.options.whiteouts != Whiteouts::Plain",
            ),
            told: "0/0",
        },
        Wrong {
            name: "`..` is a name like any other",
            answer: Answer::Change(
                "layers::unpack::Extractor::whiteout",
                "matches!(hidden.as_bytes(), b\"\" | b\".\" | b\"..\")",
                "hidden.as_bytes().is_empty()",
            ),
            told: "is refused",
        },
    ],
};

/// A tree in short: paths, each with a word for what is there.
type Tree = BTreeMap<String, String>;

/// A base, a layer on top, and what must come of it.
struct Scene {
    what: String,
    base: Tar,
    top: Tar,
    /// All layers in one directory.
    merged: Tree,
    /// The upper layer's own directory, in overlayfs's form; `None` if more than one form is right.
    overlay: Option<Tree>,
    hint: &'static str,
}

fn check(case: &Case) -> Result<Verdict> {
    fs::create_dir(case.dir.join("empty")).context("make a directory")?;
    for (n, scene) in scenes(case).into_iter().enumerate() {
        let store = format!("store{n}");
        let layout = Layout::make(&case.dir.join(&store))?;
        let layers = [scene.base.end(), scene.top.end()];
        layout.image("it", &layers)?;
        let what = &scene.what;

        let bundle = format!("bundle{n}");
        let ended = ran(case, &["--store", &store, "unpack", "it", &bundle])?;
        if !well(&ended) {
            return Ok(unwell(&format!("{what}: the layers are unpacked"), &ended, scene.hint));
        }
        let found = tree(&case.dir.join(bundle).join("rootfs"), "")?;
        if found != scene.merged {
            let expected = format!("{what}: all layers in one directory give {}", told(&scene.merged));
            return Ok(Verdict::failed(expected, format!("there is {}", told(&found)), scene.hint));
        }

        let Some(overlay) = scene.overlay else { continue };
        // What an empty directory changes is nothing; but to know that, the layers are unpacked for overlayfs.
        let ended = ran(case, &["--store", &store, "diff", "--onto", "it", "empty"])?;
        if !well(&ended) {
            return Ok(unwell(&format!("{what}: the layers are unpacked for overlayfs"), &ended, scene.hint));
        }
        let found = tree(&layout.unpacked(&layers), "")?;
        if found != overlay {
            let expected = format!("{what}: the layer's own directory has {}", told(&overlay));
            return Ok(Verdict::failed(expected, format!("it has {}", told(&found)), scene.hint));
        }
    }
    hostile(case)
}

/// Marks that name no file.
fn hostile(case: &Case) -> Result<Verdict> {
    let (dir, file) = (case.dice.word(), case.dice.word());
    for (n, mark) in [".wh.", ".wh..", ".wh..."].into_iter().enumerate() {
        let store = format!("hostile{n}");
        let layout = Layout::make(&case.dir.join(&store))?;
        let base = Tar::new().directory(&dir, 0o755).file(&format!("{dir}/{file}"), 0o644, b"").end();
        layout.image("it", &[base, Tar::new().file(&format!("{dir}/{mark}"), 0o644, b"").end()])?;
        let bundle = format!("taken{n}");
        let ended = ran(case, &["--store", &store, "unpack", "it", &bundle])?;
        let whole = case.dir.join(bundle).join("rootfs").join(&dir).join(&file).exists();
        if !refused(&ended) || !whole {
            let rest = if whole { "" } else { "; and the directory, or the one above it, was removed" };
            return Ok(Verdict::failed(
                format!("the mark {dir}/{mark} is refused"),
                format!("{}{rest}", ended.tell()),
                "what is left after .wh. may be nothing, `.` or `..`: that is no file",
            ));
        }
    }
    Ok(Verdict::Passed)
}

fn scenes(case: &Case) -> Vec<Scene> {
    let word = || case.dice.word();
    let (a, b, d, x, y, s) = (word(), word(), word(), word(), word(), word());
    let (old, new) = (word(), word());
    let file = |tar: Tar, path: &str| tar.file(path, 0o644, new.as_bytes());
    let mark = |tar: Tar, path: &str| tar.file(path, 0o644, b"");
    let dir = |tar: Tar, path: &str| tar.directory(path, 0o755);
    let is = |text: &str| format!("the file {text:?}");
    let (directory, opaque, white) = (
        || "a directory".to_owned(),
        || "an opaque directory".to_owned(),
        || "a whiteout (device 0/0)".to_owned(),
    );
    let of = |entries: &[(&str, String)]| {
        entries.iter().map(|(p, w)| ((*p).to_owned(), w.clone())).collect::<Tree>()
    };
    let (dx, dy, ds, dsx, dsy) = (
        format!("{d}/{x}"),
        format!("{d}/{y}"),
        format!("{d}/{s}"),
        format!("{d}/{s}/{x}"),
        format!("{d}/{s}/{y}"),
    );
    let (no_a, no_d, no_dx, no_all) =
        (format!(".wh.{a}"), format!(".wh.{d}"), format!("{d}/.wh.{x}"), format!("{d}/.wh..wh..opq"));
    let base = || {
        let tar = Tar::new().file(&a, 0o644, old.as_bytes()).file(&b, 0o644, old.as_bytes());
        dir(dir(tar, &d), &ds).file(&dx, 0o644, old.as_bytes()).file(&dsx, 0o644, old.as_bytes())
    };
    // What the base has, but for some, and with some more.
    let merged = |gone: &[&str], more: &[(&str, String)]| {
        let all = [
            (&a, is(&old)),
            (&b, is(&old)),
            (&d, directory()),
            (&dx, is(&old)),
            (&ds, directory()),
            (&dsx, is(&old)),
        ];
        let mut tree: Tree = all.into_iter().map(|(p, w)| (p.clone(), w)).collect();
        tree.retain(|path, _| !gone.iter().any(|g| path == g));
        tree.extend(of(more));
        tree
    };
    let same =
        "a mark speaks of the layers below: what the same layer brings stays, before the mark or after it";
    let both = "a directory that comes back is a new one: opaque for overlayfs, and emptied where all layers go into one";
    let all = "after .wh..wh..opq everything in it is gone that the layers below brought, and nothing else";
    let plain = "a mark is no file: for overlayfs it is a character device 0/0, elsewhere it removes";
    let scene = |what: &str, top: Tar, merged: Tree, overlay: Option<Tree>, hint| Scene {
        what: what.to_owned(),
        base: base(),
        top,
        merged,
        overlay,
        hint,
    };
    vec![
        scene(
            "a deleted file",
            mark(Tar::new(), &no_a),
            merged(&[&a], &[]),
            Some(of(&[(&a, white())])),
            plain,
        ),
        scene(
            "a deleted directory",
            mark(Tar::new(), &no_d),
            merged(&[&d, &dx, &ds, &dsx], &[]),
            Some(of(&[(&d, white())])),
            plain,
        ),
        scene(
            "a file deleted in a directory that the layer does not hold",
            mark(Tar::new(), &no_dx),
            merged(&[&dx], &[]),
            Some(of(&[(&d, directory()), (&dx, white())])),
            plain,
        ),
        scene(
            "a deleted file that was not there",
            mark(Tar::new(), &format!(".wh.{y}")),
            merged(&[], &[]),
            Some(of(&[(&y, white())])),
            plain,
        ),
        scene(
            "a file, and then the mark that it is gone, in the same layer",
            mark(file(Tar::new(), &a), &no_a),
            merged(&[], &[(&a, is(&new))]),
            Some(of(&[(&a, is(&new))])),
            same,
        ),
        scene(
            "the mark that a file is gone, and then the file, in the same layer",
            file(mark(Tar::new(), &no_a), &a),
            merged(&[], &[(&a, is(&new))]),
            Some(of(&[(&a, is(&new))])),
            same,
        ),
        scene(
            "a link to a directory, and then the mark that it is gone, in the same layer",
            mark(Tar::new().symlink(&a, &d), &no_a),
            merged(&[], &[(&a, format!("a link to {d}"))]),
            Some(of(&[(&a, format!("a link to {d}"))])),
            same,
        ),
        scene(
            "a directory with a file, and then the mark that the directory is gone, in the same layer",
            mark(file(dir(Tar::new(), &d), &dy), &no_d),
            merged(&[&dx, &ds, &dsx], &[(&dy, is(&new))]),
            Some(of(&[(&d, opaque()), (&dy, is(&new))])),
            both,
        ),
        scene(
            "the mark that a directory is gone, and then the directory with a file, in the same layer",
            file(dir(mark(Tar::new(), &no_d), &d), &dy),
            merged(&[&dx, &ds, &dsx], &[(&dy, is(&new))]),
            Some(of(&[(&d, opaque()), (&dy, is(&new))])),
            both,
        ),
        scene(
            "a directory with files of this layer, and then the opaque mark in it",
            mark(file(file(Tar::new(), &dy), &dsy), &no_all),
            merged(&[&dx, &dsx], &[(&dy, is(&new)), (&dsy, is(&new))]),
            Some(of(&[(&d, opaque()), (&dy, is(&new)), (&ds, directory()), (&dsy, is(&new))])),
            all,
        ),
        scene(
            "the opaque mark in a directory, and then files of this layer",
            file(file(mark(Tar::new(), &no_all), &dy), &dsy),
            merged(&[&dx, &dsx], &[(&dy, is(&new)), (&dsy, is(&new))]),
            Some(of(&[(&d, opaque()), (&dy, is(&new)), (&ds, directory()), (&dsy, is(&new))])),
            all,
        ),
        scene(
            "the opaque mark at the top",
            file(mark(Tar::new(), ".wh..wh..opq"), &y),
            of(&[(&y, is(&new))]),
            Some(of(&[("", opaque()), (&y, is(&new))])),
            all,
        ),
        scene(
            "a file deleted in a directory, then the directory deleted, then another file in it",
            file(mark(mark(Tar::new(), &no_dx), &no_d), &dy),
            merged(&[&dx, &ds, &dsx], &[(&dy, is(&new))]),
            None,
            "was `self.open` cleared? A directory kept open may be one that was removed",
        ),
        scene(
            "the opaque mark in a directory, then in the one above, and then a file in the first",
            file(mark(mark(Tar::new(), &format!("{ds}/.wh..wh..opq")), &no_all), &dsy),
            merged(&[&dx, &dsx], &[(&dsy, is(&new))]),
            None,
            "was `self.open` cleared? A directory kept open may be one that was removed",
        ),
    ]
}

/// What is in a directory; itself (called the empty string) only if it is opaque.
fn tree(dir: &Path, prefix: &str) -> Result<Tree> {
    let mut tree = Tree::new();
    if prefix.is_empty() && is_opaque(dir) {
        tree.insert(String::new(), "an opaque directory".into());
    }
    for entry in fs::read_dir(dir).with_context(|| format!("read {}", dir.display()))? {
        let entry = entry?;
        let (path, stat) = (entry.path(), fs::symlink_metadata(entry.path())?);
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        let kind = stat.file_type();
        let what = if kind.is_dir() {
            tree.extend(self::tree(&path, &format!("{name}/"))?);
            if is_opaque(&path) { "an opaque directory".into() } else { "a directory".into() }
        } else if kind.is_symlink() {
            format!("a link to {}", fs::read_link(&path)?.display())
        } else if kind.is_char_device() && stat.rdev() == 0 {
            "a whiteout (device 0/0)".into()
        } else if kind.is_file() {
            let marked = if is_opaque(&path) { ", marked as an opaque directory" } else { "" };
            format!("the file {:?}{marked}", fs::read_to_string(&path).unwrap_or_default())
        } else {
            format!("something of the type {kind:?}")
        };
        tree.insert(name, what);
    }
    Ok(tree)
}

/// Whether overlayfs merges this directory with nothing; for root and in a user namespace, it asks different xattrs.
fn is_opaque(dir: &Path) -> bool {
    ["trusted.overlay.opaque", "user.overlay.opaque"]
        .iter()
        .any(|name| matches!(xattr::get(dir, name), Ok(Some(value)) if value == b"y"))
}

fn told(tree: &Tree) -> String {
    let lines =
        tree.iter().map(|(path, what)| format!("{}: {what}", if path.is_empty() { "itself" } else { path }));
    let lines: Vec<String> = lines.collect();
    if lines.is_empty() { "nothing".into() } else { lines.join("\n") }
}
