//! The chapter from outside: its command line, beside skopeo, umoci and docker, on real overlays, and
//! killed in the middle.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use kit::{Case, Need};
use layers::{
    Store, archive, diff, overlay, pagecache,
    tarball::{Entry, Kind, write_end, write_header},
};
use std::{
    fs,
    io::Write,
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::Duration,
};

fn main() {
    let skopeo = Need::Program("skopeo");
    let umoci = Need::Program("umoci");
    kit::run(vec![
        Case::new("skopeo_reads_and_writes_the_store", &[skopeo], skopeo_reads_and_writes_the_store),
        Case::new(
            "umoci_unpacks_the_same_and_repacks",
            &[Need::Root, umoci],
            umoci_unpacks_the_same_and_repacks,
        ),
        Case::new("an_ordinary_user_unpacks_and_commits", &[Need::UserNamespaces], ordinary_user),
        Case::new("a_commit_comes_back_as_it_was", &[], a_commit_comes_back_as_it_was),
        Case::new("overlay_as_root", &[Need::Root], overlay_as_root),
        Case::new("overlay_of_many_layers_with_long_paths", &[Need::Root], overlay_of_many_layers),
        Case::new("overlay_in_a_user_namespace", &[Need::UserNamespaces], overlay_in_a_user_namespace),
        Case::new("two_overlays_share_the_page_cache", &[Need::Root], two_overlays_share_the_page_cache),
        Case::new("killed_while_storing", &[], killed_while_storing),
        Case::new("killed_while_unpacking", &[], killed_while_unpacking),
        Case::new("many_processes_unpack_at_once", &[], many_processes_unpack_at_once),
        Case::new("many_processes_name_at_once", &[], many_processes_name_at_once),
        Case::new("archives_go_to_skopeo_and_back", &[skopeo], archives_go_to_skopeo_and_back),
        Case::new(
            "docker_loads_and_saves",
            &[Need::Root, Need::Program("dockerd"), Need::Program("docker")],
            docker_loads_and_saves,
        ),
        Case::new("removed_images_are_collected", &[], removed_images_are_collected),
    ]);
}

// ---- helpers

fn command(store: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_layers"));
    command.arg("--store").arg(store).args(args);
    command
}

fn ok(output: Output, what: &str) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{what}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

fn layers(store: &Path, args: &[&str]) -> String {
    ok(command(store, args).output().expect("layers starts"), &format!("layers {args:?}"))
}

fn program(name: &str, args: &[&str]) -> String {
    let path = kit::find_program(name).expect("named as a need");
    ok(Command::new(path).args(args).output().expect("it starts"), &format!("{name} {args:?}"))
}

fn s(path: &Path) -> &str {
    path.to_str().expect("a test's paths are UTF-8")
}

/// A directory with one of everything that an ordinary user can make.
fn tree(dir: &Path) {
    fs::create_dir_all(dir.join("etc/deep/er")).unwrap();
    fs::write(dir.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n").unwrap();
    fs::write(dir.join("etc/deep/er/file"), vec![b'x'; 300_000]).unwrap();
    fs::hard_link(dir.join("etc/passwd"), dir.join("etc/deep/hard")).unwrap();
    symlink("/etc/passwd", dir.join("link")).unwrap();
    symlink("nowhere", dir.join("dangling")).unwrap();
    let long = "n".repeat(200);
    fs::create_dir(dir.join(&long)).unwrap();
    fs::write(dir.join(&long).join(&long), "long").unwrap();
    fs::write(dir.join("setuid"), "#!").unwrap();
    fs::set_permissions(dir.join("setuid"), PermissionsExt::from_mode(0o4755)).unwrap();
    fs::set_permissions(dir.join("etc/deep"), PermissionsExt::from_mode(0o1777)).unwrap();
    xattr::set(dir.join("setuid"), "user.colour", b"blue").unwrap();
}

/// Every path of a tree with all that must survive; of files with several names, which belong together.
fn listing(dir: &Path) -> Vec<String> {
    let mut all = Vec::new();
    let mut todo = vec![dir.to_owned()];
    let mut groups: Vec<u64> = Vec::new();
    while let Some(here) = todo.pop() {
        let mut names: Vec<PathBuf> = fs::read_dir(&here).unwrap().map(|e| e.unwrap().path()).collect();
        names.sort();
        for path in names {
            let meta = path.symlink_metadata().unwrap();
            let kind = meta.file_type();
            let content = if kind.is_symlink() {
                s(&fs::read_link(&path).unwrap()).to_owned()
            } else if kind.is_file() {
                format!("{} bytes {:?}", meta.len(), xattr::get(&path, "user.colour").unwrap())
            } else if kind.is_char_device() {
                format!("char {}", meta.rdev())
            } else {
                String::new()
            };
            let mut group = 0;
            if kind.is_file() && meta.nlink() > 1 {
                group = groups.iter().position(|i| *i == meta.ino()).unwrap_or_else(|| {
                    groups.push(meta.ino());
                    groups.len() - 1
                }) + 1;
            }
            all.push(format!(
                "{} {:o} {}:{} {}.{:09} {content} same={group}",
                path.strip_prefix(dir).unwrap().display(),
                meta.mode(),
                meta.uid(),
                meta.gid(),
                meta.mtime(),
                meta.mtime_nsec(),
            ));
            if kind.is_dir() {
                todo.push(path);
            }
        }
    }
    all.sort();
    all
}

/// A store with the image `base` in it.
fn store_with_base(at: &Path) -> (PathBuf, Vec<String>) {
    let (store, dir) = (at.join("store"), at.join("base"));
    tree(&dir);
    layers(&store, &["commit", s(&dir), "docker.io/library/base:latest"]);
    (store, listing(&dir))
}

const BASE: &str = "docker.io/library/base:latest";

// ---- peers

fn skopeo_reads_and_writes_the_store() {
    let place = tempfile::tempdir().unwrap();
    let (store, files) = store_with_base(place.path());
    let other = place.path().join("other");
    let (from, to) = (format!("oci:{}:{BASE}", s(&store)), format!("oci:{}:copied:1", s(&other)));
    program("skopeo", &["copy", "--quiet", &from, &to]);
    // Into a store that is ours already, beside what is there.
    let back = format!("oci:{}:docker.io/library/back:latest", s(&store));
    program("skopeo", &["copy", "--quiet", &to, &back]);
    for (store, name) in [(&store, "docker.io/library/back:latest"), (&other, "copied:1"), (&store, BASE)] {
        let bundle = place.path().join(format!("bundle-{}", name.replace(['/', ':'], "-")));
        layers(store, &["unpack", name, s(&bundle)]);
        assert_eq!(listing(&bundle.join("rootfs")), files, "{name}");
    }
    let inspect = program("skopeo", &["inspect", "--config", &from]);
    assert!(inspect.contains("layers commit"), "{inspect}");
}

fn umoci_unpacks_the_same_and_repacks() {
    let place = tempfile::tempdir().unwrap();
    let (store, files) = store_with_base(place.path());
    let bundle = place.path().join("umoci");
    let image = format!("{}:{BASE}", s(&store));
    program("umoci", &["unpack", "--image", &image, s(&bundle)]);
    assert_eq!(listing(&bundle.join("rootfs")), files);

    fs::remove_dir_all(bundle.join("rootfs/etc/deep")).unwrap();
    fs::write(bundle.join("rootfs/new"), "new").unwrap();
    // umoci packs times rounded to seconds.
    let timeless = |list: Vec<String>| -> Vec<String> {
        let without_time = |line: &String| {
            let words = line.split(' ').enumerate().filter(|(n, _)| *n != 3);
            words.map(|(_, word)| word).collect::<Vec<_>>().join(" ")
        };
        list.iter().map(without_time).collect()
    };
    let changed = timeless(listing(&bundle.join("rootfs")));
    program("umoci", &["repack", "--image", &format!("{}:changed", s(&store)), s(&bundle)]);
    let ours = place.path().join("ours");
    layers(&store, &["unpack", "changed", s(&ours)]);
    assert_eq!(timeless(listing(&ours.join("rootfs"))), changed);
    // And as layers under each other.
    let opened = Store::open(&store).unwrap();
    let image = opened.image(&opened.find("changed").unwrap().unwrap()).unwrap();
    let lower = opened.unpack(&image).unwrap();
    let merged = place.path().join("merged");
    fs::create_dir(&merged).unwrap();
    overlay::mount(&lower, None, &merged, false).unwrap();
    let seen = timeless(listing(&merged));
    overlay::unmount(&merged).unwrap();
    assert_eq!(seen, changed);
    program("umoci", &["gc", "--layout", s(&store)]);
    assert!(layers(&store, &["ls"]).contains("changed"));
}

/// Runs a script in a new user namespace, in which we are root but alone, as any user can.
fn in_user_namespace(script: &str) -> String {
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-euc", script])
        .output()
        .expect("unshare starts");
    ok(output, script)
}

fn ordinary_user() {
    let place = tempfile::tempdir().unwrap();
    let (store, _) = store_with_base(place.path());
    let (bundle, layers_bin) = (place.path().join("b"), env!("CARGO_BIN_EXE_layers"));
    // An image with a file of an id that the namespace does not map, and a device, which it may not make.
    let opened = Store::open(&store).unwrap();
    let base = opened.image(&opened.find(BASE).unwrap().unwrap()).unwrap();
    let layer = opened.write_layer(|out| {
        let mut packer = layers::pack::Packer::new(&mut *out);
        packer.file(Path::new("etc/foreign"), 0o640, (12345, 54321), 7, b"foreign")?;
        packer.into_inner();
        let mut device = Entry::new("null".as_ref(), Kind::Char, 0o666);
        device.device = (1, 3);
        write_header(out, &device).and_then(|()| write_end(out)).unwrap();
        Ok(())
    });
    let history = serde_json::json!({});
    let image = opened.write_on(Some(&base), Some(layer.unwrap()), history, |_| ()).unwrap();
    opened.tag("foreign", &image).unwrap();
    let (store, bundle) = (s(&store), s(&bundle));
    let rest = in_user_namespace(&format!(
        "{layers_bin} --store {store} unpack foreign {bundle}; cat {bundle}/rootfs/etc/foreign; echo; test ! -e {bundle}/rootfs/null
         rm -r {bundle}/rootfs/etc/deep; echo new > {bundle}/rootfs/etc/new
         {layers_bin} --store {store} diff {bundle}
         {layers_bin} --store {store} commit {bundle} changed >&2
         {layers_bin} --store {store} unpack changed {bundle}2; cat {bundle}2/rootfs/etc/new; ls {bundle}2/rootfs/etc"
    ));
    let lines: Vec<&str> = rest.lines().collect();
    assert_eq!(lines, ["foreign", "C /etc", "D /etc/deep", "A /etc/new", "new", "foreign", "new", "passwd"]);
}

// ---- diff and commit

fn a_commit_comes_back_as_it_was() {
    let place = tempfile::tempdir().unwrap();
    let (store, files) = store_with_base(place.path());
    let store = Store::open(&store).unwrap();
    let image = store.image(&store.find(BASE).unwrap().unwrap()).unwrap();
    let unpacked = store.unpack(&image).unwrap();
    assert_eq!(unpacked.len(), 1);
    assert_eq!(listing(&unpacked[0]), files);

    // Equal trees are equal layers, and an unpacked layer is a tree that gives the same layer again.
    let (again, diff_id) = diff::commit(&store, &place.path().join("base")).unwrap();
    let (third, _) = diff::commit(&store, &unpacked[0]).unwrap();
    assert_eq!(again.digest(), image.manifest.layers()[0].digest());
    assert_eq!(third.digest(), again.digest());
    assert_eq!(vec![diff_id], image.diff_ids());

    // A layer received in one pass is the same as one unpacked from the store.
    let other = Store::open(&place.path().join("received")).unwrap();
    let mut from = store.open_blob(again.digest()).unwrap();
    other.receive_layer(&again, &mut from).unwrap();
    other
        .put(image.manifest.config().media_type().clone(), &store.read(image.manifest.config()).unwrap())
        .unwrap();
    other.put(image.descriptor.media_type().clone(), &store.read(&image.descriptor).unwrap()).unwrap();
    other.tag("x", &image.descriptor).unwrap();
    assert_eq!(listing(&other.unpack(&image).unwrap()[0]), files);

    // What is not what it says is not there: neither short, nor long, nor changed.
    let bytes = fs::read(store.blob_path(again.digest())).unwrap();
    let mut changed = bytes.clone();
    let middle = changed.len() / 2;
    changed[middle] ^= 1;
    let long = [&bytes[..], b"more"].concat();
    let third = Store::open(&place.path().join("hostile")).unwrap();
    for bad in [&bytes[..bytes.len() - 1], &changed, &long, b""] {
        let error = third.receive_layer(&again, &mut &*bad).unwrap_err();
        assert!(matches!(error, layers::Error::Mismatch { .. }), "{error}");
        assert!(!third.has(&again));
    }
    assert_eq!(fs::read_dir(third.root().join(".tmp")).unwrap().count(), 0, "leftovers");
    assert_eq!(fs::read_dir(third.root().join(".unpacked/pending")).unwrap().count(), 0);
}

// ---- overlays

fn overlay_as_root() {
    let place = tempfile::tempdir().unwrap();
    let (store, _) = store_with_base(place.path());
    let before = kit::Traces::now();
    let (target, scratch) = (place.path().join("m"), place.path().join("scratch"));
    fs::create_dir(&target).unwrap();
    layers(&store, &["mount", BASE, s(&target), "--scratch", s(&scratch)]);
    fs::remove_file(target.join("link")).unwrap();
    fs::remove_dir_all(target.join("etc/deep")).unwrap();
    fs::create_dir(target.join("etc/deep")).unwrap();
    fs::write(target.join("etc/deep/new"), "new").unwrap();
    fs::write(target.join("etc/passwd"), "changed").unwrap();
    let mut merged = listing(&target);
    let changes = layers(&store, &["diff", s(&scratch.join("upper")), "--onto", BASE]);
    overlay::unmount(&target).unwrap();
    let expected =
        "C /etc\nC /etc/deep\nD /etc/deep/er\nD /etc/deep/hard\nA /etc/deep/new\nC /etc/passwd\nD /link\n";
    assert_eq!(changes, expected);

    // The upper directory as a layer, unpacked elsewhere, shows the same.
    layers(&store, &["commit", s(&scratch.join("upper")), "two", "--onto", BASE]);
    layers(&store, &["mount", "two", s(&target)]);
    let again = listing(&target);
    assert!(fs::write(target.join("x"), "").is_err(), "without an upper it is read-only");
    overlay::unmount(&target).unwrap();
    merged.sort();
    assert_eq!(again, merged);
    // And in one directory.
    layers(&store, &["unpack", "two", s(&place.path().join("b"))]);
    assert_eq!(listing(&place.path().join("b/rootfs")), merged);
    // Ours only: other tests may be mounting too.
    let mut left = kit::Traces::now().beyond(&before);
    left.retain(|trace| trace.contains(s(place.path())));
    assert_eq!(left, Vec::<String>::new());
}

fn overlay_of_many_layers() {
    let place = tempfile::tempdir().unwrap();
    let long = place.path().join("l".repeat(150));
    let lower: Vec<PathBuf> = (0..250).map(|n| long.join(format!("layer,with:odd-{n}"))).collect();
    for (n, dir) in lower.iter().enumerate() {
        fs::create_dir_all(dir).unwrap();
        fs::write(dir.join("all"), n.to_string()).unwrap();
        fs::write(dir.join(n.to_string()), "").unwrap();
    }
    let target = place.path().join("m");
    fs::create_dir(&target).unwrap();
    overlay::mount(&lower, None, &target, false).unwrap();
    let (top, count) =
        (fs::read_to_string(target.join("all")).unwrap(), fs::read_dir(&target).unwrap().count());
    overlay::unmount(&target).unwrap();
    assert_eq!((top.as_str(), count), ("0", 251));
}

fn overlay_in_a_user_namespace() {
    let place = tempfile::tempdir().unwrap();
    let (store, layers_bin) = (place.path().join("s"), env!("CARGO_BIN_EXE_layers"));
    tree(&place.path().join("base"));
    let p = s(place.path());
    let out = in_user_namespace(&format!(
        "cd {p}; l='{layers_bin} --store {}'
         $l commit base base >&2; mkdir m m2
         $l mount base m --scratch scratch
         rm m/link; rm -r m/etc/deep; mkdir m/etc/deep; echo new > m/etc/deep/new
         $l diff scratch/upper --onto base; $l commit scratch/upper two --onto base >&2
         $l mount two m2; ls m2/etc/deep; test ! -e m2/link; diff -r --no-dereference m m2 && echo same",
        s(&store)
    ));
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(
        lines,
        [
            "C /etc",
            "C /etc/deep",
            "D /etc/deep/er",
            "D /etc/deep/hard",
            "A /etc/deep/new",
            "D /link",
            "new",
            "same"
        ]
    );
}

fn two_overlays_share_the_page_cache() {
    let place = tempfile::tempdir().unwrap();
    let (store, _) = store_with_base(place.path());
    let store = Store::open(&store).unwrap();
    let image = store.image(&store.find(BASE).unwrap().unwrap()).unwrap();
    let lower = store.unpack(&image).unwrap();
    let file = lower[0].join("etc/deep/er/file");
    // Out of memory with it (posix_fadvise(2)): clean pages that nobody maps are dropped.
    let dropped = fs::File::open(&file).unwrap();
    dropped.sync_all().unwrap();
    nix::fcntl::posix_fadvise(&dropped, 0, 0, nix::fcntl::PosixFadviseAdvice::POSIX_FADV_DONTNEED).unwrap();
    assert_eq!(pagecache::resident(&file).unwrap().bytes, 0);
    let mut seen = Vec::new();
    let mut targets = Vec::new();
    for n in 0..2 {
        let dir = |what: &str| {
            let dir = place.path().join(format!("{what}{n}"));
            fs::create_dir(&dir).unwrap();
            dir
        };
        let (upper, work, target) = (dir("upper"), dir("work"), dir("m"));
        overlay::mount(&lower, Some((&upper, &work)), &target, true).unwrap();
        targets.push(target);
    }
    fs::read(targets[0].join("etc/deep/er/file")).unwrap();
    for target in &targets {
        seen.push(pagecache::resident(&target.join("etc/deep/er/file")).unwrap());
        overlay::unmount(target).unwrap();
    }
    assert_eq!(seen[0].bytes, 300_000);
    assert_eq!(seen[1], seen[0], "what one container read is in memory for the other");
}

// ---- crashes, and many at once

fn blobs(store: &Path) -> Vec<String> {
    let dir = fs::read_dir(store.join("blobs/sha256")).unwrap();
    let mut all: Vec<String> = dir.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    all.sort();
    all
}

fn killed_while_storing() {
    let place = tempfile::tempdir().unwrap();
    let (store, _) = store_with_base(place.path());
    let (acknowledged, named) = (blobs(&store), layers(&store, &["ls"]));
    // Another image, as an archive, of which all but the end arrives before the kill.
    let (other, tar) = (place.path().join("other"), place.path().join("tar"));
    fs::create_dir_all(place.path().join("big")).unwrap();
    let noise: Vec<u8> = (0..4u32 << 20).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    fs::write(place.path().join("big/noise"), &noise).unwrap();
    layers(&other, &["commit", s(&place.path().join("big")), "big"]);
    layers(&other, &["save", "big", "-o", s(&tar)]);
    let bytes = fs::read(&tar).unwrap();
    for cut in [700, 100_000, bytes.len() / 2, bytes.len() - 4000] {
        let mut child = command(&store, &["load", "-"]).stdin(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(&bytes[..cut]).unwrap();
        // Until it has read it all and waits for more: its position in the pipe tells.
        std::thread::sleep(Duration::from_millis(100));
        assert!(child.try_wait().unwrap().is_none(), "it waits for the rest");
        child.kill().unwrap();
        child.wait().unwrap();
        drop(stdin);
        // Whatever is visible is whole: every blob is what its name says.
        let opened = Store::open(&store).unwrap();
        assert_eq!(fs::read_dir(store.join(".tmp")).unwrap().count(), 0, "opening sweeps, cut at {cut}");
        for blob in blobs(&store) {
            let digest =
                layers::store::digest(&fs::read(store.join("blobs/sha256").join(&blob)).unwrap()).unwrap();
            assert_eq!(digest.digest(), blob);
        }
        assert_eq!(layers(&store, &["ls"]), named, "cut at {cut}");
        opened.collect_older(&[], Duration::ZERO).unwrap();
        assert_eq!(blobs(&store), acknowledged, "cut at {cut}");
    }
    // And a living writer is left alone by another's sweep.
    let opened = Store::open(&store).unwrap();
    let mut ingest = opened.ingest().unwrap();
    ingest.write_all(b"still here").unwrap();
    Store::open(&store).unwrap();
    opened.collect_older(&[], Duration::ZERO).unwrap();
    ingest.commit(oci_spec::image::MediaType::EmptyJSON, None).unwrap();
}

/// A store with an image `many` of some thousand files, not unpacked.
fn store_with_many(at: &Path) -> (PathBuf, Vec<String>) {
    let (store, dir) = (at.join("store"), at.join("many"));
    for n in 0..2000 {
        fs::create_dir_all(dir.join(format!("d{}", n % 20))).unwrap();
        fs::write(dir.join(format!("d{}/f{n}", n % 20)), n.to_string()).unwrap();
    }
    layers(&store, &["commit", s(&dir), "many"]);
    (store, listing(&dir))
}

fn killed_while_unpacking() {
    let place = tempfile::tempdir().unwrap();
    let (store, files) = store_with_many(place.path());
    let empty = place.path().join("empty");
    fs::create_dir(&empty).unwrap();
    let unpack = ["diff", s(&empty), "--onto", "many"];
    let mut cut_short = 0;
    for delay in [1, 5, 10, 20, 40, 80] {
        let mut child = command(&store, &unpack).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(delay));
        child.kill().unwrap();
        child.wait().unwrap();
        cut_short += usize::from(fs::read_dir(store.join(".tmp")).unwrap().next().is_some());
        // A layer is there whole, or not at all.
        let opened = Store::open(&store).unwrap();
        let image = opened.image(&opened.find("many").unwrap().unwrap()).unwrap();
        if opened.is_unpacked(&image.chain_ids()[0]) {
            assert_eq!(listing(&opened.unpacked_path(&image.chain_ids()[0])), files, "after {delay} ms");
        }
        assert_eq!(fs::read_dir(store.join(".tmp")).unwrap().count(), 0, "opening sweeps");
    }
    println!("killed {cut_short} times in the middle");
    layers(&store, &unpack);
}

fn many_processes_unpack_at_once() {
    let place = tempfile::tempdir().unwrap();
    let (store, files) = store_with_many(place.path());
    let empty = place.path().join("empty");
    fs::create_dir(&empty).unwrap();
    let unpack = ["diff", s(&empty), "--onto", "many"];
    let children: Vec<_> = (0..4).map(|_| command(&store, &unpack).spawn().unwrap()).collect();
    for child in children {
        assert!(child.wait_with_output().unwrap().status.success());
    }
    let opened = Store::open(&store).unwrap();
    let image = opened.image(&opened.find("many").unwrap().unwrap()).unwrap();
    assert!(opened.is_unpacked(&image.chain_ids()[0]));
    assert_eq!(listing(&opened.unpack(&image).unwrap()[0]), files);
}

fn many_processes_name_at_once() {
    let place = tempfile::tempdir().unwrap();
    let (store, _) = store_with_base(place.path());
    let children: Vec<_> =
        (0..16).map(|n| command(&store, &["tag", BASE, &format!("name:{n}")]).spawn().unwrap()).collect();
    for child in children {
        assert!(child.wait_with_output().unwrap().status.success());
    }
    let list = layers(&store, &["ls"]);
    for n in 0..16 {
        assert!(list.contains(&format!("name:{n} ")), "name:{n} was lost: {list}");
    }
}

// ---- archives

fn archives_go_to_skopeo_and_back() {
    let place = tempfile::tempdir().unwrap();
    let (store, files) = store_with_base(place.path());
    let id = |store: &Path, name: &str| {
        let store = Store::open(store).unwrap();
        store
            .image(&store.find(name).unwrap().unwrap_or_else(|| panic!("{name} was loaded")))
            .unwrap()
            .id()
            .clone()
    };
    let ours = place.path().join("ours.tar");
    layers(&store, &["save", BASE, "-o", s(&ours)]);
    for kind in ["docker-archive", "oci-archive"] {
        let read = program("skopeo", &["inspect", "--config", &format!("{kind}:{}", s(&ours))]);
        assert!(read.contains("layers commit"), "{kind}: {read}");
        let theirs = place.path().join(format!("{kind}.tar"));
        let from = format!("oci:{}:{BASE}", s(&store));
        program(
            "skopeo",
            &["copy", "--quiet", &from, &format!("{kind}:{}:docker.io/library/back:1", s(&theirs))],
        );
        let loaded = place.path().join(kind);
        let said = layers(&loaded, &["load", s(&theirs)]);
        assert_eq!(said, "Loaded image: docker.io/library/back:1\n");
        assert_eq!(id(&loaded, "docker.io/library/back:1"), id(&store, BASE), "the image ID stays the same");
        let bundle = place.path().join(format!("{kind}-bundle"));
        layers(&loaded, &["unpack", "docker.io/library/back:1", s(&bundle)]);
        assert_eq!(listing(&bundle.join("rootfs")), files);
    }
    // Compressed as a whole, as `docker save | gzip` makes them; and noise is refused.
    let opened = Store::open(&place.path().join("gz")).unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&fs::read(&ours).unwrap()).unwrap();
    let loaded = archive::load(&opened, gzip.finish().unwrap().as_slice()).unwrap();
    assert_eq!(loaded[0].0.as_deref(), Some(BASE));
    assert!(archive::load(&opened, &b"noise"[..]).is_err());
}

fn docker_loads_and_saves() {
    let place = tempfile::tempdir().unwrap();
    let (store, files) = store_with_base(place.path());
    let tar = place.path().join("ours.tar");
    layers(&store, &["save", BASE, "-o", s(&tar)]);
    let at = |name: &str| place.path().join(name).to_str().unwrap().to_owned();
    let host = format!("unix://{}", at("sock"));
    let mut daemon = Command::new(kit::find_program("dockerd").unwrap())
        .args(["--data-root", &at("data"), "--exec-root", &at("exec"), "--pidfile", &at("pid"), "-H", &host])
        .args(["--iptables=false", "--ip6tables=false", "--bridge=none", "--storage-driver=overlay2"])
        .stdout(Stdio::null())
        .stderr(fs::File::create(at("log")).unwrap())
        .spawn()
        .unwrap();
    let docker = |args: &[&str]| {
        let output = Command::new("docker").args(["-H", &host]).args(args).output().unwrap();
        output
            .status
            .success()
            .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
            .ok_or_else(|| format!("docker {args:?}: {}", String::from_utf8_lossy(&output.stderr)))
    };
    let up = (0..300).any(|_| {
        std::thread::sleep(Duration::from_millis(100));
        docker(&["version"]).is_ok()
    });
    let theirs = at("theirs.tar");
    let results = up.then(|| {
        let load = docker(&["load", "-i", s(&tar)]);
        let id = docker(&["image", "inspect", "--format", "{{.Id}}", "base"]);
        let save = docker(&["save", "-o", &theirs, "base:latest"]);
        (load, id, save)
    });
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(daemon.id() as i32), nix::sys::signal::Signal::SIGTERM)
        .unwrap();
    daemon.wait().unwrap();
    let (load, id, save) = results.unwrap_or_else(|| panic!("{}", fs::read_to_string(at("log")).unwrap()));
    assert_eq!(load.unwrap(), "Loaded image: base:latest\n");
    let opened = Store::open(&store).unwrap();
    let image = opened.image(&opened.find(BASE).unwrap().unwrap()).unwrap();
    assert_eq!(id.unwrap().trim(), image.id().as_ref());
    save.unwrap();
    let back = place.path().join("back");
    let said = layers(&back, &["load", &theirs]);
    assert!(said.contains("base:latest"), "{said}");
    let name = said.trim().trim_start_matches("Loaded image: ");
    layers(&back, &["unpack", name, &at("bundle")]);
    let (seen, expected) = (listing(&place.path().join("bundle/rootfs")), files);
    assert_eq!(seen, expected);
}

// ---- gc

fn removed_images_are_collected() {
    let place = tempfile::tempdir().unwrap();
    let (store, _) = store_with_base(place.path());
    fs::create_dir(place.path().join("more")).unwrap();
    fs::write(place.path().join("more/file"), "more").unwrap();
    layers(&store, &["commit", s(&place.path().join("more")), "two", "--onto", BASE]);
    let opened = Store::open(&store).unwrap();
    let image = |name: &str| opened.image(&opened.find(name).unwrap().unwrap()).unwrap();
    let (base, two) = (image(BASE), image("two"));
    let dirs = opened.unpack(&two).unwrap();
    assert_eq!(dirs.len(), 2);
    assert!(layers(&store, &["du"]).contains("saved"));

    // Untagged is not removed: it stays an image without a name.
    opened.untag("two").unwrap();
    assert_eq!(opened.collect(&[]).unwrap(), 0);
    assert!(opened.list().unwrap().iter().any(|(n, d)| n.is_none() && d.digest() == two.descriptor.digest()));

    // Removed, but a container uses its layers: those stay, and the one below with them.
    let chain = two.chain_ids();
    opened.remove(two.descriptor.digest()).unwrap();
    opened.remove(base.descriptor.digest()).unwrap();
    assert!(opened.collect_older(&chain[1..], Duration::ZERO).unwrap() > 0);
    assert!(dirs.iter().all(|dir| dir.is_dir()));
    assert!(blobs(&store).is_empty());
    opened.collect_older(&[], Duration::ZERO).unwrap();
    assert!(dirs.iter().all(|dir| !dir.exists()));

    // What has just arrived has no name yet, and stays for a while.
    let fresh = opened.put(oci_spec::image::MediaType::ImageConfig, b"{}").unwrap();
    opened.collect(&[]).unwrap();
    assert!(opened.has(&fresh));
    // And what is not all there cannot be named.
    opened.remove(fresh.digest()).unwrap();
    assert!(opened.tag("broken", &base.descriptor).is_err());
}
