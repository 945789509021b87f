//! An overlay's upper directory is the difference; to make a layer of it is to spell it as a tar.

use super::{
    Answer, Case, Exercise, Wrong,
    tool::{ran, refused, unwell, well},
};
use crate::{
    fence,
    image::{self, Layout, Tar},
    run,
    verdict::Verdict,
};
use anyhow::{Context, Result, ensure};
use nix::{
    sched::CloneFlags,
    sys::{
        stat::{FchmodatFlags, Mode, SFlag, UtimensatFlags, fchmodat, makedev, mknod, utimensat},
        time::TimeSpec,
    },
    unistd::{Gid, Uid, fchownat, mkfifo},
};
use std::{
    collections::BTreeMap,
    fs,
    io::Read,
    os::unix::{fs::MetadataExt, net::UnixListener},
    path::Path,
};
use tar::EntryType;

pub(super) const EXERCISE: Exercise = Exercise {
    id: "layers/diff",
    title: "make a layer of what has changed",
    section: "5.1",
    items: &["layers::pack::Packer::visit", "layers::pack::Packer::regular"],
    program: "layers",
    points: 25,
    task: "A walk shows you one thing after the other: its directory (open) and name, its stat. `visit` writes what a tar has\n\
           of it, as `path`: `Entry::new`, then `self.header`. Type, mode, owner, time (or those of `options`), device numbers,\n\
           where a link points, xattrs; directories have a slash at the end (`slashed`), and a socket is left out. With\n\
           `options.overlay` the tree is an overlay's upper directory: a whiteout becomes `self.whiteout`, an opaque directory\n\
           is followed by the mark `.wh..wh..opq` in it, and a name that would read as a mark is refused.\n\
           `regular` adds a file: its first name with size, content and padding, each other name of the same file as a hard\n\
           link to the first (`first_names` remembers). A file that becomes shorter while it is read is an error.",
    invariants: &[
        "equal trees give equal bytes, and so equal digests",
        "who unpacks the layer gets the same tree: modes with setuid and sticky bits, owners, nanoseconds, links as links",
        "a file with two names is in the layer once",
        "what the header promises comes: so many bytes, and zeros up to the next 512",
    ],
    predict: "you change the mode of a file of 1 GB, and commit. How large is the layer?",
    hints: [
        "Of what is there, what would a second walk see differently, though nobody changed it? Nothing of that may be in a tar.",
        "Two names are one file if device and inode are the same; only a file with more than one link needs a look.",
        "is_whiteout(stat), is_opaque(fd) of the open directory; readlinkat, read_xattrs(&proc_path(fd)); open files with \
         O_NOFOLLOW, copy `(&file).take(entry.size)`, then write_padding.",
    ],
    why: (
        "Why is the directory opened, and the file, with O_NOFOLLOW, when the stat has said what it is?",
        "The tree belongs to somebody else: between the stat and the open it may have become a link to a file of the host, \
         whose content would then be in the image.",
    ),
    check,
    wrong: &[
        Wrong {
            name: "hard links are copied",
            answer: Answer::Change("layers::pack::Packer::regular", "if stat.st_nlink > 1 {", "if false {"),
            told: "one file with more than one name",
        },
        Wrong {
            name: "the opaque directory is forgotten",
            answer: Answer::Change(
                "layers::pack::Packer::visit",
                "if options.overlay && is_opaque(dir.as_fd()) {",
                "if false {",
            ),
            told: ".wh..wh..opq",
        },
        Wrong {
            name: "a whiteout stays a device",
            answer: Answer::Change(
                "layers::pack::Packer::visit",
                "if options.overlay && is_whiteout(stat) {",
                "if false {",
            ),
            told: ".wh.",
        },
        Wrong {
            name: "the time is that of the commit",
            answer: Answer::Change(
                "layers::pack::Packer::visit",
                "entry.mtime = (stat.st_mtime, stat.st_mtime_nsec as u32);",
                "entry.mtime = (std::time::UNIX_EPOCH.elapsed().map_or(0, |d| d.as_secs() as i64), 0);",
            ),
            told: "time",
        },
        Wrong {
            name: "the time has no nanoseconds",
            answer: Answer::Change("layers::pack::Packer::visit", "stat.st_mtime_nsec as u32", "0"),
            told: "nanoseconds",
        },
        Wrong {
            name: "the padding is forgotten",
            answer: Answer::Change(
                "layers::pack::Packer::regular",
                "write_padding(&mut self.out, entry.size).doing(doing)",
                "{ let _ = write_padding(&mut std::io::sink(), 0); Ok(()) }",
            ),
            told: "the layer is a tar",
        },
        Wrong {
            name: "special bits are left out",
            answer: Answer::Change("layers::pack::Packer::visit", "& 0o7777", "& 0o777"),
            told: "mode",
        },
        Wrong {
            name: "a name that reads as a mark is packed",
            answer: Answer::Change(
                "layers::pack::Packer::visit",
                "visit.name.as_bytes().starts_with(WHITEOUT)",
                "visit.name.is_empty()",
            ),
            told: "is refused",
        },
    ],
};

/// What a tar has of one thing.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Packed {
    kind: EntryType,
    mode: u32,
    owner: (u64, u64),
    /// Seconds and nanoseconds.
    mtime: (i64, u32),
    device: (u32, u32),
    link: String,
    content: Vec<u8>,
    xattrs: BTreeMap<String, Vec<u8>>,
}

fn check(case: &Case) -> Result<Verdict> {
    let layout = Layout::make(&case.dir.join("store"))?;
    let base = Tar::new()
        .file("gone", 0o644, b"old")
        .directory("emptied", 0o755)
        .file("emptied/x", 0o644, b"")
        .end();
    layout.image("base", std::slice::from_ref(&base))?;
    let words: Vec<String> = (0..6).map(|_| case.dice.word()).collect();
    let seeds = (case.dice.number(1..1 << 30), case.dice.number(1..1_000_000_000));

    let mut digests = Vec::new();
    for turn in ["first", "second"] {
        let upper = case.dir.join(turn);
        let (expected, twins) = make(case, &upper, &words, seeds, turn == "second")?;
        let ended = ran(case, &["--store", "store", "commit", turn, turn, "--onto", "base"])?;
        if !well(&ended) {
            return Ok(unwell(
                "an upper directory becomes a layer",
                &ended,
                "which call failed, and on what?",
            ));
        }
        let layer = match layer(&layout, turn, &base)? {
            Ok(layer) => layer,
            Err(verdict) => return Ok(verdict),
        };
        if let Some(verdict) = compare(&layer, expected, &twins)? {
            return Ok(verdict);
        }
        digests.push(image::digest(&layer));
    }
    if digests[0] != digests[1] {
        return Ok(Verdict::failed(
            "equal trees give equal digests",
            format!(
                "two equal trees, made in another order at another time, gave {} and {}",
                digests[0], digests[1]
            ),
            "what of the disk is in the tar that is not the tree's: an inode, the time of now, an order?",
        ));
    }

    // Somebody's file that would delete another one when the layer is unpacked.
    let upper = case.dir.join("marked");
    fs::create_dir(&upper).context("make a directory")?;
    fs::write(upper.join(format!(".wh.{}", words[0])), "").context("write a file")?;
    let ended = ran(case, &["--store", "store", "commit", "marked", "marked", "--onto", "base"])?;
    if !refused(&ended) || layout.find("marked")?.is_some() {
        return Ok(Verdict::failed(
            format!("a file that is called .wh.{} is refused", words[0]),
            ended.tell(),
            "in a layer it would say that the other is gone",
        ));
    }
    shorter(case, &layout)
}

/// A file that gives less than its stat says, as one does that is cut off while it is read. The kernel has such files: each
/// of sysfs is called a page long.
fn shorter(case: &Case, layout: &Layout) -> Result<Verdict> {
    let file = case.dir.join("short").join(case.dice.word());
    fs::create_dir(case.dir.join("short")).context("make a directory")?;
    fs::write(&file, "").context("write a file")?;
    let mut command = case.command();
    command.args(["--store", "store", "commit", "short", "short", "--onto", "base"]);
    fence::around(&mut command, CloneFlags::empty(), vec![("/sys/class/net/lo/mtu".into(), file)]);
    let ended = run::start(&mut command)?.end()?;
    Ok(if refused(&ended) && layout.find("short")?.is_none() {
        Verdict::Passed
    } else {
        Verdict::failed(
            "a file that becomes shorter while it is read is an error",
            ended.tell(),
            "the header has said how many bytes come: what comes next would be read as the rest of them",
        )
    })
}

/// Paths, each with what a tar has of it.
type Made = BTreeMap<String, Packed>;

/// Makes an upper directory with one of everything; tells what a tar has of it, and which are names of one file.
fn make(
    case: &Case,
    upper: &Path,
    words: &[String],
    (seconds, nanoseconds): (u64, u64),
    backwards: bool,
) -> Result<(Made, Vec<[String; 2]>)> {
    let root = nix::unistd::geteuid().is_root();
    let doing = || format!("make what is to be packed in {}", upper.display());
    let [a, b, c, d, e, f] = words else { anyhow::bail!("six words") };
    for dir in ["", d, "emptied"] {
        fs::create_dir(upper.join(dir)).with_context(doing)?;
    }
    let content = |n: u64| -> Vec<u8> { (0..n).map(|i| (i * seconds % 251) as u8).collect() };
    let mut files = vec![
        (a.clone(), content(0)),
        (b.clone(), content(seconds % 511 + 1)),
        (format!("{d}/{c}"), content(512)),
        (format!("{d}/{e}"), content(70_000 + seconds % 1000)),
        (format!("{d}/one"), content(3)),
        (format!("{d}/two"), content(4)),
        ("emptied/new".to_owned(), content(5)),
    ];
    if backwards {
        files.reverse();
    }
    for (path, content) in &files {
        fs::write(upper.join(path), content).with_context(doing)?;
    }
    // Two files with two names each in the layer, and one whose other name is elsewhere.
    let twins = vec![[format!("{d}/one"), "uno".into()], [format!("{d}/two"), "zwei".into()]];
    for [one, other] in &twins {
        fs::hard_link(upper.join(one), upper.join(other)).with_context(doing)?;
    }
    fs::hard_link(upper.join(b), case.dir.join(format!("elsewhere-{backwards}"))).with_context(doing)?;
    std::os::unix::fs::symlink(format!("/etc/{e}"), upper.join(f)).with_context(doing)?;
    mkfifo(&upper.join("pipe"), Mode::S_IRUSR).with_context(doing)?;
    mknod(&upper.join("gone"), SFlag::S_IFCHR, Mode::empty(), makedev(0, 0)).with_context(doing)?;
    // Outside the first user namespace nobody makes devices: then there is none to be packed.
    let device = root && mknod(&upper.join("null"), SFlag::S_IFCHR, Mode::S_IRUSR, makedev(1, 3)).is_ok();
    drop(UnixListener::bind(upper.join("socket")).with_context(doing)?);
    for name in ["trusted.overlay.opaque", "user.overlay.opaque"] {
        // Only one of the two may be set by this user.
        let _ = xattr::set(upper.join("emptied"), name, b"y");
    }
    let marked = xattr::set(upper.join(b), "user.mark", c.as_bytes()).is_ok()
        && xattr::set(upper.join(d), "user.mark", e.as_bytes()).is_ok();

    let modes =
        [(a, 0o4755), (b, 0o640), (d, 0o1770), (&format!("{d}/{c}"), 0o2711), (&"emptied".to_owned(), 0o705)];
    if root {
        for (n, (path, _)) in modes.iter().enumerate() {
            let id = (seconds % 60_000) as u32 + n as u32;
            let (uid, gid) = (Uid::from_raw(id), Gid::from_raw(id + 1));
            fchownat(
                nix::fcntl::AT_FDCWD,
                &upper.join(path),
                Some(uid),
                Some(gid),
                nix::fcntl::AtFlags::empty(),
            )
            .with_context(doing)?;
        }
    }
    for (path, mode) in modes {
        fchmodat(
            nix::fcntl::AT_FDCWD,
            &upper.join(path),
            Mode::from_bits_truncate(mode),
            FchmodatFlags::FollowSymlink,
        )
        .with_context(doing)?;
    }
    let mut all: Vec<String> =
        files.into_iter().map(|(path, _)| path).chain(twins.iter().map(|t| t[1].clone())).collect();
    all.extend([f.clone(), "pipe".into(), d.clone(), "emptied".into()]);
    all.extend(device.then(|| "null".into()));
    let mut expected = BTreeMap::new();
    // The directories come last: whatever is done in them has been done.
    for path in &all {
        // By the path and not by the order, which is another one the second time.
        let own: u64 = path.bytes().map(u64::from).sum();
        let time = TimeSpec::new((seconds + own) as i64, ((nanoseconds + own) % 1_000_000_000) as i64);
        utimensat(nix::fcntl::AT_FDCWD, &upper.join(path), &time, &time, UtimensatFlags::NoFollowSymlink)
            .with_context(doing)?;
    }
    for path in all {
        let full = upper.join(&path);
        let stat = fs::symlink_metadata(&full).with_context(doing)?;
        let kind = match SFlag::from_bits_truncate(stat.mode() & SFlag::S_IFMT.bits()) {
            SFlag::S_IFDIR => EntryType::Directory,
            SFlag::S_IFLNK => EntryType::Symlink,
            SFlag::S_IFIFO => EntryType::Fifo,
            SFlag::S_IFCHR => EntryType::Char,
            _ => EntryType::Regular,
        };
        let link =
            if stat.is_symlink() { fs::read_link(&full)?.display().to_string() } else { String::new() };
        let content = if stat.is_file() { fs::read(&full)? } else { Vec::new() };
        let mark = if path == *b { Some(c) } else { (path == *d).then_some(e) };
        let mark = mark.filter(|_| marked).map(|m| ("user.mark".to_owned(), m.as_bytes().to_vec()));
        let packed = Packed {
            kind,
            mode: stat.mode() & 0o7777,
            owner: if root { (stat.uid().into(), stat.gid().into()) } else { (0, 0) },
            mtime: (stat.mtime(), stat.mtime_nsec() as u32),
            device: if kind == EntryType::Char { (1, 3) } else { (0, 0) },
            link,
            content,
            xattrs: mark.into_iter().collect(),
        };
        expected.insert(path, packed);
    }
    Ok((expected, twins))
}

/// The new layer's tar, if the image says of it what is true.
fn layer(layout: &Layout, name: &str, base: &[u8]) -> Result<Result<Vec<u8>, Verdict>> {
    let Some((manifest, config)) = layout.find(name)? else {
        let hint = "what was committed must have a manifest and a config";
        return Ok(Err(Verdict::failed(format!("the store has a whole image {name}"), "it has not", hint)));
    };
    let digest = manifest["layers"][1]["digest"].as_str().unwrap_or_default();
    let blob = fs::read(layout.path(digest)).unwrap_or_default();
    let Ok(tar) = image::inflate(&blob) else {
        return Ok(Err(Verdict::failed(
            "the layer is a tar in gzip",
            "it is not whole gzip",
            "does the packing panic?",
        )));
    };
    let ids = &config["rootfs"]["diff_ids"];
    let right =
        image::digest(&blob) == digest && ids[0] == image::digest(base) && ids[1] == image::digest(&tar);
    Ok(if right {
        Ok(tar)
    } else {
        Err(Verdict::failed(
            "the new layer lies on the base, under its digests",
            format!("{manifest} {config}"),
            "is something written twice?",
        ))
    })
}

/// Reads it with another tar reader than the chapter's own.
fn read(tar: &[u8]) -> Result<Vec<(String, Packed)>> {
    let mut read = Vec::new();
    for entry in tar::Archive::new(tar).entries()? {
        let mut entry = entry?;
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let is_directory = entry.header().entry_type() == EntryType::Directory;
        // Programs tell a directory by its slash, where they do not know better (tar(5)).
        ensure!(path.ends_with('/') == is_directory, "a name ends in a slash if it is a directory's: {path}");
        let path = path.trim_end_matches('/').to_owned();
        let link =
            entry.link_name_bytes().map(|l| String::from_utf8_lossy(&l).into_owned()).unwrap_or_default();
        let (mut mtime, mut xattrs) = ((entry.header().mtime()? as i64, 0), BTreeMap::new());
        for extension in entry.pax_extensions()?.into_iter().flatten() {
            let extension = extension?;
            let key = extension.key()?;
            if key == "mtime" {
                let (seconds, rest) = extension.value()?.split_once('.').unwrap_or((extension.value()?, ""));
                mtime = (seconds.parse()?, format!("{rest:0<9}")[..9].parse()?);
            } else if let Some(name) = key.strip_prefix("SCHILY.xattr.") {
                xattrs.insert(name.to_owned(), extension.value_bytes().to_vec());
            }
        }
        let header = entry.header().clone();
        let mut content = Vec::new();
        entry.read_to_end(&mut content)?;
        // (The fields are empty where they mean nothing.)
        let is_device = header.entry_type() == EntryType::Char;
        let numbers =
            || anyhow::Ok((header.device_major()?.unwrap_or(0), header.device_minor()?.unwrap_or(0)));
        let device = if is_device { numbers()? } else { (0, 0) };
        let packed = Packed {
            kind: header.entry_type(),
            mode: header.mode()? & 0o7777,
            owner: (header.uid()?, header.gid()?),
            mtime,
            device,
            link,
            content,
            xattrs,
        };
        read.push((path, packed));
    }
    Ok(read)
}

/// What the overlay's own marks are in a layer.
const MARKS: [(&str, &str); 2] =
    [(".wh.gone", "a whiteout of the overlay"), ("emptied/.wh..wh..opq", "an opaque directory")];

/// What is not as it should be.
fn compare(tar: &[u8], mut expected: Made, twins: &[[String; 2]]) -> Result<Option<Verdict>> {
    let entries = match read(tar) {
        Ok(entries) if tar.len().is_multiple_of(512) && tar.ends_with(&[0; 1024]) => entries,
        other => {
            let seen = other
                .err()
                .map_or("its length is no multiple of 512, or it does not end in zeros".into(), |e| {
                    format!("{e:#}")
                });
            let hint =
                "after a header come exactly as many bytes as it says, then zeros up to a multiple of 512";
            return Ok(Some(Verdict::failed("the layer is a tar that others can read", seen, hint)));
        }
    };
    let names: Vec<&str> = entries.iter().map(|(path, _)| path.as_str()).collect();

    // The marks have nothing but a name, and stand where they must.
    for (mark, what) in MARKS {
        if !names.contains(&mark) {
            let hint = "overlayfs spells it as a device 0/0 or an xattr; a layer spells it as an empty file with a name";
            return Ok(Some(Verdict::failed(
                format!("{what} is in the layer as {mark}"),
                format!("there is: {}", names.join(", ")),
                hint,
            )));
        }
    }
    // Of one file with two names, the first that comes has the content.
    for pair in twins {
        let mut two: Vec<_> = entries.iter().filter(|(path, _)| pair.contains(path)).collect();
        two.dedup_by(|(a, _), (b, _)| a == b);
        let whole = |p: &Packed| matches!(p.kind, EntryType::Regular | EntryType::Continuous);
        let right = matches!(two[..], [(first, one), (_, other)]
            if whole(one) && other.kind == EntryType::Link && other.link == *first && other.content.is_empty());
        if !right {
            let told: Vec<_> = two
                .iter()
                .map(|(path, p)| format!("{path}: {:?} {} of {} bytes", p.kind, p.link, p.content.len()))
                .collect();
            let expected = format!(
                "one file with more than one name ({}) is once a file, then a hard link to it",
                pair.join(", ")
            );
            let hint = "the same device and inode is the same file: remember its first name";
            return Ok(Some(Verdict::failed(expected, told.join("; "), hint)));
        }
        if let Some((path, _)) = two.get(1) {
            expected.remove(path);
        }
    }
    for (path, packed) in &entries {
        if names.iter().filter(|n| *n == path).count() > 1 {
            return Ok(Some(Verdict::failed(
                "each path is in the layer once",
                format!("{path} comes twice"),
                "is something packed by two ways?",
            )));
        }
        let link = packed.kind == EntryType::Link || MARKS.iter().any(|(mark, _)| mark == path);
        match expected.remove(path) {
            Some(wanted) if wanted == *packed => (),
            Some(wanted) => return Ok(Some(differs(path, &wanted, packed))),
            None if link => (),
            None => {
                let seen = format!("the layer has {path} ({:?})", packed.kind);
                let hint = "a socket is nothing without its process; a whiteout is only a mark";
                return Ok(Some(Verdict::failed("nothing else is in the layer", seen, hint)));
            }
        }
    }
    Ok(expected.into_keys().next().map(|path| {
        Verdict::failed(
            format!("{path} is in the layer"),
            format!("there is: {}", names.join(", ")),
            "was it left out by its type?",
        )
    }))
}

/// The first thing that is another.
fn differs(path: &str, wanted: &Packed, found: &Packed) -> Verdict {
    let told = |what: &str, wanted: String, found: String, hint: &str| {
        Verdict::failed(
            format!("the layer has {path} with the {what} {wanted}"),
            format!("it has {found}"),
            hint,
        )
    };
    let (w, f) = (wanted, found);
    if w.kind != f.kind {
        return told("type", format!("{:?}", w.kind), format!("{:?}", f.kind), "st_mode says what it is");
    }
    if w.mode != f.mode {
        let octal = |mode: u32| format!("{mode:04o}");
        return told(
            "mode",
            octal(w.mode),
            octal(f.mode),
            "setuid, setgid and sticky bits belong to it: 0o7777",
        );
    }
    if w.owner != f.owner {
        let hint = "those of the stat, if `options` names nobody";
        return told("owner", format!("{:?}", w.owner), format!("{:?}", f.owner), hint);
    }
    if w.mtime != f.mtime {
        let time = |(s, n): (i64, u32)| format!("{s}.{n:09}");
        let hint = "the file's own time, with its nanoseconds";
        return told("time", time(w.mtime), time(f.mtime), hint);
    }
    if w.link != f.link {
        return told(
            "link to",
            w.link.clone(),
            f.link.clone(),
            "a link's text is packed as it is, whatever is there",
        );
    }
    if w.xattrs != f.xattrs {
        let hint = "read_xattrs of the open file or directory";
        return told("xattrs", format!("{:?}", w.xattrs), format!("{:?}", f.xattrs), hint);
    }
    if w.device != f.device {
        return told(
            "device",
            format!("{:?}", w.device),
            format!("{:?}", f.device),
            "major and minor of st_rdev",
        );
    }
    let bytes = |content: &[u8]| format!("of {} bytes, {}", content.len(), image::digest(content));
    told("content", bytes(&w.content), bytes(&f.content), "is all of it copied, and nothing more?")
}
