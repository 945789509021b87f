//! Hostile tars, one test for each thing that has gone wrong for somebody.

use super::*;
use crate::overlay;
use crate::tarball::{write_end, write_header, write_padding};
use std::{
    io::Write,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
};

/// A tar in the making.
#[derive(Default)]
struct Tar(Vec<u8>);

impl Tar {
    fn entry(mut self, entry: &Entry, data: &str) -> Tar {
        let mut entry = entry.clone();
        entry.size = data.len() as u64;
        write_header(&mut self.0, &entry).unwrap();
        self.0.write_all(data.as_bytes()).unwrap();
        write_padding(&mut self.0, entry.size).unwrap();
        self
    }
    fn add(self, path: &str, kind: Kind, link: &str, data: &str) -> Tar {
        let mut entry = Entry::new(OsStr::new(path), kind, 0o755);
        (entry.uid, entry.gid) = (nix::unistd::getuid().as_raw(), nix::unistd::getgid().as_raw());
        entry.link = link.into();
        self.entry(&entry, data)
    }
    fn file(self, path: &str, data: &str) -> Tar {
        self.add(path, Kind::File, "", data)
    }
    fn dir(self, path: &str) -> Tar {
        self.add(path, Kind::Directory, "", "")
    }
    fn symlink(self, path: &str, to: &str) -> Tar {
        self.add(path, Kind::Symlink, to, "")
    }
    fn hard_link(self, path: &str, to: &str) -> Tar {
        self.add(path, Kind::HardLink, to, "")
    }
    fn end(mut self) -> Vec<u8> {
        write_end(&mut self.0).unwrap();
        self.0
    }
}

/// A directory with a target in it, and beside that a secret that must stay as it is.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Place {
        let place = Place(tempfile::tempdir().unwrap());
        std::fs::create_dir(place.target()).unwrap();
        std::fs::write(place.0.path().join("secret"), "secret").unwrap();
        std::fs::set_permissions(place.0.path().join("secret"), PermissionsExt::from_mode(0o600)).unwrap();
        place
    }
    fn target(&self) -> PathBuf {
        self.0.path().join("target")
    }
    fn layer(&self, tar: Tar) -> Result<()> {
        let result = layer(tar.end().as_slice(), &self.target(), &[]);
        self.untouched();
        result
    }
    fn with(&self, tar: Tar, whiteouts: Whiteouts) -> Result<()> {
        let options = Options { whiteouts, ..Options::default() };
        let result = extract(tar.end().as_slice(), &Root::open(&self.target())?, &options);
        self.untouched();
        result.map(drop)
    }
    fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.target().join(path)).unwrap()
    }
    fn untouched(&self) {
        let secret = self.0.path().join("secret");
        assert_eq!(std::fs::read_to_string(&secret).unwrap(), "secret");
        assert_eq!(secret.metadata().unwrap().permissions().mode() & 0o7777, 0o600);
        assert_eq!(secret.metadata().unwrap().nlink(), 1, "somebody linked to the secret");
        let names = std::fs::read_dir(self.0.path()).unwrap().count();
        assert_eq!(names, 2, "something was made outside");
    }
    fn is_whiteout(&self, path: &str) -> bool {
        let meta = self.target().join(path).symlink_metadata().unwrap();
        meta.mode() & 0o170000 == 0o020000 && meta.rdev() == 0
    }
    fn is_opaque(&self, path: &str) -> bool {
        let name = format!("{}opaque", overlay::xattr_prefix());
        xattr::get(self.target().join(path), name).unwrap() == Some(b"y".to_vec())
    }
}

fn refusal(result: Result<()>) -> String {
    match result {
        Err(error @ Error::Entry { .. }) => error.to_string(),
        other => panic!("expected a refusal, and it was {other:?}"),
    }
}

#[test]
fn paths_that_lead_out_are_refused() {
    for path in ["../secret", "a/../../secret", "/../secret", ".."] {
        let why = refusal(Place::new().layer(Tar::default().file(path, "x")));
        assert!(why.contains("leads out"), "{path}: {why}");
    }
    let place = Place::new();
    place.layer(Tar::default().file("/absolute", "in").file("./a/../b", "in")).unwrap();
    assert_eq!((place.read("absolute").as_str(), place.read("b").as_str()), ("in", "in"));
}

#[test]
fn a_link_on_the_way_is_followed_inside_only() {
    let place = Place::new();
    let outside = place.0.path().to_str().unwrap().to_owned();
    let tar = Tar::default().symlink("up", "../..").file("up/secret", "x").symlink("abs", &outside);
    place
        .layer(tar.file("abs/secret", "y").dir("usr/lib").symlink("lib", "usr/lib").file("lib/f", "z"))
        .unwrap();
    assert_eq!(place.read("secret"), "x");
    assert_eq!(place.read("usr/lib/f"), "z");
    assert_eq!(place.read(&format!("{}/secret", outside.trim_start_matches('/'))), "y");
}

#[test]
fn the_last_component_is_never_followed() {
    let place = Place::new();
    // A file over a link replaces the link; attributes over a link do not reach its target (CVE-2021-32760).
    place.layer(Tar::default().symlink("f", "../secret").file("f", "mine")).unwrap();
    assert_eq!(place.read("f"), "mine");
    let place = Place::new();
    place.layer(Tar::default().dir("d").symlink("d", "..").file("d2", "")).unwrap();
    assert!(place.target().join("d").is_symlink());
}

#[test]
fn hard_links_reach_nothing_outside() {
    // CVE-2014-9356: the target of a hard link is a path too.
    for target in ["../secret", "/../secret"] {
        refusal(Place::new().layer(Tar::default().hard_link("l", target)));
    }
    let place = Place::new();
    let error = place.layer(Tar::default().symlink("up", "..").hard_link("l", "up/secret")).unwrap_err();
    assert!(error.to_string().contains("a hard link names it"), "{error}");
    // To a link: the link itself, not what it points to.
    let place = Place::new();
    place.layer(Tar::default().symlink("s", "../secret").hard_link("l", "s")).unwrap();
    assert!(place.target().join("l").is_symlink());
}

#[test]
fn the_root_itself_stays_a_directory() {
    // CVE-2021-29136.
    for path in [".", "./", "/", "a/.."] {
        let why = refusal(Place::new().layer(Tar::default().symlink(path, "..").file("x", "")));
        assert!(why.contains("own root"), "{path}: {why}");
    }
    let place = Place::new();
    let mut top = Entry::new(OsStr::new("./"), Kind::Directory, 0o711);
    (top.uid, top.gid) = (nix::unistd::getuid().as_raw(), nix::unistd::getgid().as_raw());
    top.mtime = (7, 0);
    place.layer(Tar::default().entry(&top, "").file("f", "")).unwrap();
    let meta = place.target().metadata().unwrap();
    assert_eq!((meta.mode() & 0o7777, meta.mtime()), (0o711, 7));
}

#[test]
fn whiteouts_become_devices_and_name_only_files() {
    let place = Place::new();
    place
        .layer(Tar::default().file("a/.wh.gone", "").file("b/.wh..wh..opq", "").file(".wh..wh.plnk/1", ""))
        .unwrap();
    assert!(place.is_whiteout("a/gone") && place.is_opaque("b"));
    assert!(!place.target().join(".wh..wh.plnk").exists());
    for path in [".wh.", "a/.wh..", "a/.wh..."] {
        let why = refusal(Place::new().layer(Tar::default().file(path, "")));
        assert!(why.contains("must name a file"), "{path}: {why}");
    }
}

#[test]
fn a_whiteout_hides_only_what_is_below_its_own_layer() {
    for order in [false, true] {
        let place = Place::new();
        let (tar, whiteouts) =
            (Tar::default(), |t: Tar| t.file(".wh.f", "").file(".wh.d", "").file(".wh.i", ""));
        let files = |t: Tar| t.file("f", "new").dir("d").file("d/x", "new").file("i/y", "new");
        place.layer(if order { files(whiteouts(tar)) } else { whiteouts(files(tar)) }).unwrap();
        assert_eq!(
            (place.read("f"), place.read("d/x"), place.read("i/y")),
            ("new".into(), "new".into(), "new".into())
        );
        assert!(place.is_opaque("d") && place.is_opaque("i"), "whiteouts first: {order}");
    }
}

#[test]
fn whiteouts_remove_where_layers_share_a_directory() {
    let place = Place::new();
    let base =
        Tar::default().file("keep", "").file("gone", "").file("d/old", "").file("e/old", "").dir("dir/sub");
    place.with(base, Whiteouts::Remove).unwrap();
    let next = Tar::default()
        .file("d/new", "")
        .file("d/.wh..wh..opq", "")
        .file(".wh.gone", "")
        .file("e/.wh.old", "");
    place.with(next.file("new", "").file(".wh.new", "").file(".wh.dir", ""), Whiteouts::Remove).unwrap();
    let all: Vec<String> = {
        let mut all = vec![];
        Root::open(&place.target())
            .unwrap()
            .walk(Path::new("/"), &mut |v| {
                all.push(v.path.display().to_string());
                Ok(crate::root::Next::Into)
            })
            .unwrap();
        all
    };
    assert_eq!(all, ["/", "/d", "/d/new", "/e", "/keep", "/new"]);
}

#[test]
fn a_directory_removed_and_brought_anew_has_nothing_old_in_it() {
    for order in [false, true] {
        let place = Place::new();
        place.with(Tar::default().dir("d").file("d/old", ""), Whiteouts::Remove).unwrap();
        let files = |t: Tar| t.dir("d").file("d/new", "");
        let gone = |t: Tar| t.file(".wh.d", "");
        let next = if order { files(gone(Tar::default())) } else { gone(files(Tar::default())) };
        place.with(next, Whiteouts::Remove).unwrap();
        let there = |path: &str| place.target().join(path).exists();
        assert!(there("d/new") && !there("d/old"), "whiteout first: {order}");
    }
}

#[test]
fn in_a_plain_tar_whiteouts_are_files() {
    let place = Place::new();
    place.with(Tar::default().file(".wh.x", "data"), Whiteouts::Plain).unwrap();
    assert_eq!(place.read(".wh.x"), "data");
}

#[test]
fn the_last_entry_of_a_name_wins() {
    let place = Place::new();
    let tar = Tar::default().file("a", "1").file("a", "2").dir("b/c").file("b/c/d", "").file("b", "file");
    place
        .layer(tar.file("c", "").dir("c").file("c/x", "in").symlink("d", "a").dir("d").file("d/y", "in"))
        .unwrap();
    assert_eq!((place.read("a").as_str(), place.read("b").as_str()), ("2", "file"));
    assert_eq!((place.read("c/x").as_str(), place.read("d/y").as_str()), ("in", "in"));
    assert!(!place.target().join("d").is_symlink());
}

#[test]
fn bombs_end_at_a_limit() {
    let mut bomb = Entry::new(OsStr::new("zeros"), Kind::File, 0o644);
    bomb.size = MAX_BYTES + 1;
    let mut tar = Vec::new();
    write_header(&mut tar, &bomb).unwrap();
    let place = Place::new();
    let endless = tar.as_slice().chain(std::io::repeat(0));
    assert!(matches!(layer(endless, &place.target(), &[]), Err(Error::Limit { .. })));
    assert!(!place.target().join("zeros").exists());
}

#[test]
fn attributes_are_set_and_directories_last() {
    let place = Place::new();
    let owner = |mut e: Entry| {
        (e.uid, e.gid) = (nix::unistd::getuid().as_raw(), nix::unistd::getgid().as_raw());
        e.mtime = (1_600_000_000, 123_456_789);
        e
    };
    let mut file = owner(Entry::new(OsStr::new("d/setuid"), Kind::File, 0o4751));
    file.xattrs =
        vec![("user.colour".into(), b"blue".to_vec()), ("user.overlay.redirect".into(), b"/etc".to_vec())];
    let tar = Tar::default()
        .entry(&owner(Entry::new(OsStr::new("d"), Kind::Directory, 0o555)), "")
        .entry(&file, "data")
        .entry(
            &{
                let mut l = owner(Entry::new(OsStr::new("d/l"), Kind::Symlink, 0o777));
                l.link = "x".into();
                l
            },
            "",
        )
        .entry(&owner(Entry::new(OsStr::new("d/fifo"), Kind::Fifo, 0o620)), "");
    place.layer(tar).unwrap();
    for (path, mode) in [("d", 0o555), ("d/setuid", 0o4751), ("d/l", 0o777), ("d/fifo", 0o620)] {
        let meta = place.target().join(path).symlink_metadata().unwrap();
        assert_eq!(
            (meta.mode() & 0o7777, meta.mtime(), meta.mtime_nsec()),
            (mode, 1_600_000_000, 123_456_789),
            "{path}"
        );
    }
    let file = place.target().join("d/setuid");
    assert_eq!(xattr::get(&file, "user.colour").unwrap(), Some(b"blue".to_vec()));
    assert_eq!(xattr::get(&file, "user.overlay.redirect").unwrap(), None, "a layer must not steer overlayfs");
    std::fs::set_permissions(place.target().join("d"), PermissionsExt::from_mode(0o755)).unwrap();
}

#[test]
fn implied_directories_and_links_come_from_the_layers_below() {
    let below = Place::new();
    let mut private = Entry::new(OsStr::new("etc"), Kind::Directory, 0o700);
    (private.uid, private.gid) = (nix::unistd::getuid().as_raw(), nix::unistd::getgid().as_raw());
    private.mtime = (5, 6);
    below.layer(Tar::default().entry(&private, "").file("etc/passwd", "root")).unwrap();
    let place = Place::new();
    let tar = Tar::default().hard_link("etc/copy", "etc/passwd").file("new/f", "").end();
    layer(tar.as_slice(), &place.target(), &[&below.target()]).unwrap();
    let meta = place.target().join("etc").metadata().unwrap();
    assert_eq!((meta.mode() & 0o7777, meta.mtime(), meta.mtime_nsec()), (0o700, 5, 6));
    assert_eq!(place.target().join("new").metadata().unwrap().mode() & 0o7777, 0o755);
    // The copied-up file has both names, as if it had been linked in a mounted overlay.
    assert_eq!(place.read("etc/copy"), "root");
    let ino = |p: &str| place.target().join(p).metadata().unwrap().ino();
    assert_eq!(ino("etc/copy"), ino("etc/passwd"));
    assert_eq!(below.target().join("etc/passwd").metadata().unwrap().nlink(), 1);
}

#[test]
fn the_last_entry_wins_over_a_link_to_below_too() {
    let below = Place::new();
    below.layer(Tar::default().file("old", "old")).unwrap();
    let place = Place::new();
    let mut dir = Entry::new(OsStr::new("d"), Kind::Directory, 0o755);
    (dir.uid, dir.gid) = (nix::unistd::getuid().as_raw(), nix::unistd::getgid().as_raw());
    dir.mtime = (9, 8);
    let tar = Tar::default().entry(&dir, "").hard_link("d/a", "old").file("d/a", "new");
    let tar = tar.file("d/b", "new").hard_link("d/b", "old").end();
    layer(tar.as_slice(), &place.target(), &[&below.target()]).unwrap();
    assert_eq!((place.read("d/a").as_str(), place.read("d/b").as_str()), ("new", "old"));
    let meta = place.target().join("d").metadata().unwrap();
    assert_eq!((meta.mtime(), meta.mtime_nsec()), (9, 8), "settling leaves the directory's time");
}

#[test]
fn a_planted_link_below_is_not_followed_when_settling() {
    let below = Place::new();
    symlink("../..", below.target().join("etc")).unwrap();
    let place = Place::new();
    let tar = Tar::default().hard_link("l", "etc/secret").end();
    assert!(layer(tar.as_slice(), &place.target(), &[&below.target()]).is_err());
    below.untouched();
}

#[test]
fn sparse_files_in_gnus_newest_notation() {
    let map = format!("{:\0<512}", "2\n0\n3\n1048573\n3\n");
    let data = format!("{map}abcxyz");
    let records =
        ["GNU.sparse.major=1", "GNU.sparse.minor=0", "GNU.sparse.name=real", "GNU.sparse.realsize=1048576"];
    let body: String = records.iter().map(|r| format!("{} {r}\n", r.len() + 4)).collect();
    let mut tar = Vec::new();
    let mut pax = tar::Header::new_ustar();
    pax.set_entry_type(tar::EntryType::XHeader);
    pax.set_size(body.len() as u64);
    pax.set_cksum();
    tar.extend(pax.as_bytes());
    tar.extend(body.as_bytes());
    write_padding(&mut tar, body.len() as u64).unwrap();
    let tar = Tar(tar).file("GNUSparseFile.0/real", &data);
    let place = Place::new();
    place.layer(tar).unwrap();
    let bytes = std::fs::read(place.target().join("real")).unwrap();
    assert_eq!(bytes.len(), 1 << 20);
    assert_eq!((&bytes[..4], &bytes[bytes.len() - 4..]), (&b"abc\0"[..], &b"\0xyz"[..]));
    assert!(place.target().join("real").metadata().unwrap().blocks() < 100, "the hole is a hole");
}

#[test]
fn docker_cp_does_not_turn_a_directory_into_a_file() {
    let place = Place::new();
    std::fs::create_dir(place.target().join("d")).unwrap();
    let options = Options { keep_kind: true, ..Options::default() };
    let root = Root::open(&place.target()).unwrap();
    assert!(extract(Tar::default().file("d", "").end().as_slice(), &root, &options).is_err());
    std::fs::write(place.target().join("f"), "").unwrap();
    assert!(extract(Tar::default().dir("f").end().as_slice(), &root, &options).is_err());
}
