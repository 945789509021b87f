//! What the builds are tried on: a context, and a store with an image `base` made of the host's shell.

use oci_spec::image::MediaType;
use std::{
    fs::{self, Metadata},
    io::{BufRead, BufReader, Lines, Read},
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
};
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_dockerfile");
const TOOLS: [&str; 14] =
    ["sh", "cat", "chown", "echo", "env", "id", "ln", "ls", "mkdir", "rm", "stat", "touch", "true", "sleep"];

/// A directory with a context and a store.
pub(crate) struct World {
    directory: TempDir,
}

impl World {
    pub(crate) fn empty() -> World {
        // In lower case: buildah makes an image's name of it.
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let name = format!("builds-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let directory = tempfile::Builder::new().prefix(&name).rand_bytes(0).tempdir().unwrap();
        fs::create_dir(directory.path().join("context")).unwrap();
        World { directory }
    }

    /// With an image `base` in the store.
    pub(crate) fn with_base() -> World {
        let world = World::empty();
        let root = world.directory().join("base");
        for tool in TOOLS {
            let program = fs::canonicalize(kit::find_program(tool).unwrap()).unwrap();
            put(&program, &root.join("bin").join(tool));
            let libraries = output("ldd", &[program.to_str().unwrap()]);
            for library in libraries.split_whitespace().filter(|word| word.starts_with('/')) {
                put(Path::new(library), &root.join(&library[1..]));
            }
        }
        fs::create_dir_all(root.join("etc")).unwrap();
        fs::write(root.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\napp:x:1000:1001::/:/bin/sh\n")
            .unwrap();
        fs::write(root.join("etc/group"), "root:x:0:\napp:x:1001:\nstaff:x:50:\n").unwrap();
        // Equal bases for equal tests: no time of this moment.
        output("sh", &["-c", &format!("find {} -exec touch -h -d @1 {{}} +", root.display())]);
        let store = layers::Store::open(&world.store()).unwrap();
        let (layer, diff_id) = layers::diff::commit(&store, &root).unwrap();
        let architecture = oci_spec::image::Arch::default();
        let config = serde_json::json!({
            "architecture": architecture, "os": "linux", "config": {},
            "rootfs": {"type": "layers", "diff_ids": [diff_id]},
            "history": [{"created_by": "base"}],
        });
        let config = store.put(MediaType::ImageConfig, config.to_string().as_bytes()).unwrap();
        let manifest = serde_json::json!({
            "schemaVersion": 2, "mediaType": MediaType::ImageManifest, "config": config, "layers": [layer],
        });
        let manifest = store.put(MediaType::ImageManifest, manifest.to_string().as_bytes()).unwrap();
        store.tag("base:latest", &manifest).unwrap();
        world
    }

    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn context(&self) -> PathBuf {
        self.directory().join("context")
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.directory().join("store")
    }

    /// A file of the context.
    pub(crate) fn file(&self, path: &str, content: &str, mode: u32) {
        let path = self.context().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
    }

    /// Runs the program in the context: exit code, output, errors.
    pub(crate) fn command(&self, arguments: &[&str]) -> (i32, String, String) {
        let out = Command::new(PROGRAM).args(arguments).current_dir(self.context()).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (kit::code(out.status), text(&out.stdout), text(&out.stderr))
    }

    /// Builds `t`.
    pub(crate) fn try_build(&self, dockerfile: &str, arguments: &[&str]) -> (i32, String, String) {
        self.file("Dockerfile", dockerfile, 0o644);
        let mut all = vec!["build", "--store", "../store"];
        if !arguments.contains(&"-t") {
            all.extend(["-t", "t"]);
        }
        all.extend(arguments);
        all.push(".");
        self.command(&all)
    }

    pub(crate) fn build_with(&self, dockerfile: &str, arguments: &[&str]) -> String {
        let (code, out, err) = self.try_build(dockerfile, arguments);
        assert_eq!(code, 0, "{dockerfile}\n{out}\n{err}");
        out
    }

    pub(crate) fn build(&self, dockerfile: &str) -> String {
        self.build_with(dockerfile, &[])
    }

    pub(crate) fn build_as(&self, dockerfile: &str, name: &str) -> String {
        self.build_with(dockerfile, &["-t", name])
    }

    /// Begins a build of which the end is not waited for.
    pub(crate) fn start(&self, dockerfile: &str) -> Started {
        self.file("Dockerfile", dockerfile, 0o644);
        let mut child = Command::new(PROGRAM)
            .args(["build", "--store", "../store", "."])
            .current_dir(self.context())
            // What holds containers' state must outlive it.
            .env("TMPDIR", self.directory())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Started { child, lines }
    }

    // ---- what came out

    fn image(&self) -> layers::Image {
        let store = layers::Store::open(&self.store()).unwrap();
        store.image(&store.find("t:latest").unwrap().unwrap()).unwrap()
    }

    pub(crate) fn config(&self) -> serde_json::Value {
        self.image().raw_config
    }

    pub(crate) fn id(&self) -> String {
        self.image().id().to_string()
    }

    pub(crate) fn manifest_digest(&self) -> String {
        self.image().descriptor.digest().to_string()
    }

    pub(crate) fn created_by(&self) -> Vec<String> {
        let config = self.config();
        let history = config["history"].as_array().unwrap();
        history.iter().map(|h| h["created_by"].as_str().unwrap().to_owned()).collect()
    }

    /// The layers' digests, without the algorithm.
    pub(crate) fn layers(&self) -> Vec<String> {
        self.image().manifest.layers().iter().map(|l| l.digest().digest().to_owned()).collect()
    }

    /// The names in a layer.
    pub(crate) fn layer_files(&self, number: usize) -> Vec<String> {
        let blob = fs::File::open(self.store().join("blobs/sha256").join(&self.layers()[number])).unwrap();
        let mut tar = tar::Archive::new(flate2::read::GzDecoder::new(blob));
        let name =
            |entry: std::io::Result<tar::Entry<_>>| entry.unwrap().path().unwrap().display().to_string();
        let mut names: Vec<String> = tar.entries().unwrap().map(name).filter(|n| n != "./").collect();
        names.sort();
        names
    }

    /// The image's files. The layers are extracted here by hand, not by what made them.
    pub(crate) fn unpack(&self) -> Tree {
        let tree = Tree { directory: tempfile::tempdir().unwrap(), below: "" };
        for layer in self.layers() {
            let blob = fs::File::open(self.store().join("blobs/sha256").join(&layer)).unwrap();
            let mut tar = tar::Archive::new(flate2::read::GzDecoder::new(blob));
            tar.set_preserve_permissions(true);
            tar.set_preserve_mtime(true);
            tar.set_preserve_ownerships(kit::is_root());
            for entry in tar.entries().unwrap() {
                let mut entry = entry.unwrap();
                let path = entry.path().unwrap().into_owned();
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                match name.strip_prefix(".wh.") {
                    Some(gone) => {
                        let gone = tree.path().join(path.parent().unwrap()).join(gone);
                        fs::remove_dir_all(&gone).or_else(|_| fs::remove_file(&gone)).unwrap();
                    }
                    None => drop(entry.unpack_in(tree.path()).unwrap()),
                }
            }
        }
        tree
    }

    pub(crate) fn unpack_with_umoci(&self) -> Tree {
        let directory = tempfile::tempdir().unwrap();
        let bundle = directory.path().join("bundle");
        output(
            "umoci",
            &["unpack", "--image", &format!("{}:t:latest", self.store().display()), bundle.to_str().unwrap()],
        );
        Tree { directory, below: "bundle/rootfs" }
    }

    /// Builds `t` with buildah, from the same base into the same store.
    pub(crate) fn buildah(&self, dockerfile: &str) {
        let at = |name: &str| self.directory().join(name).display().to_string();
        self.file("Dockerfile", dockerfile, 0o644);
        let (root, run) = (at("buildah"), at("buildah-run"));
        let buildah = |arguments: &[&str]| {
            let mut all = vec!["--root", &root, "--runroot", &run, "--storage-driver", "vfs"];
            all.extend(arguments);
            output("buildah", &all)
        };
        let id = buildah(&["pull", "-q", &format!("oci:{}:base:latest", at("store"))]);
        buildah(&["tag", id.trim(), "base"]);
        buildah(&["bud", "-q", "--isolation", "chroot", "-t", "t", &at("context")]);
        buildah(&["push", "-q", "localhost/t", &format!("oci:{}:t:latest", at("store"))]);
        buildah(&["rmi", "-a", "-f"]);
    }
}

/// A build that is under way.
pub(crate) struct Started {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Started {
    /// Waits for a line that begins so, and returns the rest of it.
    pub(crate) fn wait_for(&mut self, beginning: &str) -> String {
        let rest =
            self.lines.by_ref().find_map(|line| line.unwrap().strip_prefix(beginning).map(str::to_owned));
        rest.unwrap_or_else(|| panic!("no line begins with {beginning:?}"))
    }

    /// Waits for its end: exit code and errors.
    pub(crate) fn end(mut self) -> (i32, String) {
        self.lines.by_ref().for_each(drop);
        let mut errors = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
        (kit::code(self.child.wait().unwrap()), errors)
    }

    /// With SIGKILL.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// The command lines of all processes.
pub(crate) fn processes() -> Vec<String> {
    let all = fs::read_dir("/proc").unwrap().flatten();
    all.filter_map(|entry| fs::read_to_string(entry.path().join("cmdline")).ok()).collect()
}

/// Some files.
pub(crate) struct Tree {
    directory: TempDir,
    below: &'static str,
}

impl Tree {
    pub(crate) fn path(&self) -> PathBuf {
        self.directory.path().join(self.below)
    }

    pub(crate) fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
    }

    pub(crate) fn stat(&self, path: &str) -> Metadata {
        fs::symlink_metadata(self.path().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
    }

    /// All that is no directory, relative to `below`.
    pub(crate) fn files(&self, below: &str) -> Vec<String> {
        let root = self.path().join(below);
        let mut files: Vec<_> = walk(&root)
            .into_iter()
            .filter(|path| !fs::symlink_metadata(path).unwrap().is_dir())
            .map(|path| path.strip_prefix(&root).unwrap().display().to_string())
            .collect();
        files.sort();
        files
    }

    /// Names, modes and owners.
    pub(crate) fn listing(&self) -> Vec<String> {
        let root = self.path();
        let mut all: Vec<_> = walk(&root)
            .into_iter()
            .map(|path| {
                let s = fs::symlink_metadata(&path).unwrap();
                let name = path.strip_prefix(&root).unwrap().display();
                format!(
                    "{name} {:o} {}:{} {}",
                    s.mode(),
                    s.uid(),
                    s.gid(),
                    if s.is_file() { s.len() } else { 0 }
                )
            })
            .collect();
        all.sort();
        all
    }
}

fn walk(directory: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if fs::symlink_metadata(&path).unwrap().is_dir() {
            all.extend(walk(&path));
        }
        all.push(path);
    }
    all
}

fn put(from: &Path, to: &Path) {
    if !to.exists() {
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(from, to).unwrap();
    }
}

/// What a program prints; it must succeed.
pub(crate) fn output(program: &str, arguments: &[&str]) -> String {
    let out = Command::new(program).args(arguments).output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(out.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&out.stderr));
    text
}
