//! What an untrusted root may try.

use super::*;
use proptest::prelude::*;
use std::os::unix::fs::symlink;

fn root() -> (tempfile::TempDir, Root) {
    let dir = tempfile::tempdir().unwrap();
    let inside = dir.path().join("root");
    std::fs::create_dir_all(inside.join("etc")).unwrap();
    std::fs::write(inside.join("etc/passwd"), "inside").unwrap();
    std::fs::write(dir.path().join("secret"), "outside").unwrap();
    let root = Root::open(&inside).unwrap();
    (dir, root)
}

#[test]
fn links_and_dots_stay_inside() {
    let (dir, root) = root();
    let inside = dir.path().join("root");
    symlink("/etc/passwd", inside.join("absolute")).unwrap();
    symlink("../../../../etc/passwd", inside.join("dots")).unwrap();
    symlink(dir.path().join("secret"), inside.join("host")).unwrap();
    for path in ["absolute", "dots", "/../../etc/passwd", "etc/../../etc/passwd"] {
        let mut text = String::new();
        root.read(Path::new(path)).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "inside", "{path}");
    }
    assert_eq!(root.read(Path::new("host")).unwrap_err().errno(), Some(Errno::ENOENT));
}

#[test]
fn directories_are_made_where_a_dangling_link_points() {
    let (dir, root) = root();
    symlink("/run", dir.path().join("root/var-run")).unwrap();
    let mut made = vec![];
    root.make_dirs(Path::new("/var-run/a/b"), 0o755, &mut |p| made.push(p.to_owned())).unwrap();
    assert!(dir.path().join("root/run/a/b").is_dir());
    assert_eq!(made, [Path::new("/run"), Path::new("/run/a"), Path::new("/run/a/b")]);
    assert!(!Path::new("/run/a/b").exists());
}

#[test]
fn a_link_loop_ends() {
    let (dir, root) = root();
    symlink("loop", dir.path().join("root/loop")).unwrap();
    assert_eq!(root.resolve(Path::new("/loop/x")).unwrap_err().errno(), Some(Errno::ELOOP));
}

#[test]
fn a_fifo_is_not_waited_for() {
    let (dir, root) = root();
    nix::unistd::mkfifo(&dir.path().join("root/fifo"), Mode::from_bits_truncate(0o600)).unwrap();
    assert!(matches!(root.read(Path::new("fifo")), Err(Error::Entry { .. })));
}

#[test]
fn removing_never_follows_and_reaches_any_depth() {
    let (dir, root) = root();
    let inside = dir.path().join("root");
    std::fs::create_dir(inside.join("tree")).unwrap();
    symlink(dir.path(), inside.join("tree/link")).unwrap();
    // Deeper than PATH_MAX allows to say in one path.
    let mut here = Root::open(&inside.join("tree")).unwrap();
    for _ in 0..3000 {
        let next = here.mkdir_all(Path::new("abcdefghij"), 0o755).unwrap();
        here = Root::from(next);
    }
    root.remove_all(Path::new("/tree")).unwrap();
    assert!(!inside.join("tree").exists());
    assert!(dir.path().join("secret").exists());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Whatever links and paths an image has, what is resolved is inside, and it agrees with the kernel.
    #[test]
    fn resolve_agrees_with_the_kernel(
        links in prop::collection::vec(("[abc](/[abc]){0,2}", "/?(\\.\\./|[abc]/){0,4}[abc]"), 0..6),
        path in "/?(\\.\\./|[abc]/){0,6}[abc]",
    ) {
        let dir = tempfile::tempdir().unwrap();
        let inside = dir.path().join("root");
        std::fs::create_dir(&inside).unwrap();
        let root = Root::open(&inside).unwrap();
        for (at, to) in &links {
            let at = Path::new(at);
            if root.mkdir_all(at.parent().unwrap_or(Path::new("/")), 0o755).is_ok() {
                let _ = root.symlink(Path::new(to), at);
            }
        }
        if let Ok(fd) = root.raw(Path::new(&path), OFlag::O_PATH, 0) {
            let kernel = std::fs::read_link(proc_path(fd.as_fd())).unwrap();
            let ours = root.resolve(Path::new(&path)).unwrap();
            prop_assert_eq!(kernel, inside.join(ours.strip_prefix("/").unwrap()).components().collect::<PathBuf>());
        }
        // And making directories makes them inside.
        let _ = root.mkdir_all(Path::new(&path), 0o755);
        prop_assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
