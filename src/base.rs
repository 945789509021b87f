//! `teu image base`: an image out of the host itself.
//!
//! A program alone in an empty root does not start: it names a loader (ELF's `PT_INTERP`), and the loader
//! looks for the libraries that the program names (`DT_NEEDED`), and those that the libraries name. This
//! collects all of them for a shell and more than sixty tools, at the places where the host has them, and
//! that is an image that runs. A static busybox needs nothing but itself: where one is installed, it is
//! used alone.
//!
//! | module | what it explains |
//! |---|---|
//! | [`elf`] | what a program says that it needs |
//! | [`loader`] | where the loader looks for it (ld.so(8)) |
//! | [`tree`] | files, links and directories of the image, and their tar |
//! | [`archive`] | layer, config, manifest: an OCI image layout in one file |

mod archive;
mod elf;
mod loader;
mod tree;

use anyhow::{Context, Result, bail};
use elf::Elf;
use loader::Loader;
use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};
use tree::Tree;

/// What a shell script on a small system can count on.
const TOOLS: &str = "\
    awk basename cat chmod chown cp cut date dd df dirname du echo env expr false find free grep gzip head hostname id ip \
    kill ln ls mkdir mknod mktemp mount mv nproc od printf ps pwd readlink rm rmdir sed seq sh sha256sum sleep sort stat \
    stty sync tail tar tee test top touch tr true tty umount uname uniq wc which whoami xargs yes";

/// Read at run time by name, so that no ELF header tells of them: glibc's ways to look a name up, and what top needs to know of terminals.
const BESIDES: &[&str] = &[
    "/lib/terminfo/x/xterm",
    "/lib/terminfo/x/xterm-256color",
    "/lib/terminfo/l/linux",
    "/usr/share/terminfo/x/xterm",
    "/usr/share/terminfo/x/xterm-256color",
    "/usr/share/terminfo/l/linux",
];

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Where the tools come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum From {
    /// A static busybox if one is installed, else the host's own tools
    #[default]
    Auto,
    /// A static busybox alone
    Busybox,
    /// The host's own shell and tools, with the libraries that they need
    Host,
}

/// Make the image `base` out of this machine: its shell and core tools, with the libraries that they need
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Base {
    /// The image's name
    #[arg(short, long, value_name = "NAME", default_value = "base")]
    pub(crate) tag: String,
    /// Where the tools come from
    #[arg(long, value_enum, default_value_t)]
    pub(crate) from: From,
    /// Write the archive to this file, and load it nowhere
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

/// The image, ready to be loaded.
#[derive(Debug)]
pub(crate) struct Image {
    /// An OCI image layout as a tar, with docker's manifest.json in it.
    pub(crate) archive: Vec<u8>,
    /// What is in it, in a sentence.
    pub(crate) summary: String,
    /// Tools that this host does not have.
    pub(crate) missing: Vec<String>,
}

/// Makes the image, in memory.
pub(crate) fn make(name: &str, from: From) -> Result<Image> {
    let mut tree = Tree::default();
    let busybox = match from {
        From::Host => None,
        From::Auto | From::Busybox => static_busybox(),
    };
    let mut path = PATH.to_owned();
    let mut missing = Vec::new();
    let summary = match busybox {
        Some(busybox) => {
            let applets = from_busybox(&mut tree, &busybox)?;
            format!("the static {} alone, under {applets} names", busybox.display())
        }
        None if from == From::Busybox => {
            bail!(
                "no static busybox on the PATH; install one (on Debian: apt-get install busybox-static), or use --from host"
            )
        }
        None => {
            let found = from_host(&mut tree)?;
            for dir in &found.directories {
                if !path.split(':').any(|known| Path::new(known) == dir) {
                    path = format!("{path}:{}", dir.display());
                }
            }
            missing = found.missing;
            format!("{} tools of this host with {} libraries", found.tools, found.libraries)
        }
    };
    furnish(&mut tree)?;
    let archive = archive::make(name, &tree, &path)?;
    Ok(Image { archive, summary, missing })
}

/// The busybox on the PATH, if it names no loader and no library.
fn static_busybox() -> Option<PathBuf> {
    let file = find_tool("busybox")?;
    let elf = Elf::parse(&fs::read(&file).ok()?)?;
    (elf.interpreter.is_none() && elf.needed.is_empty()).then_some(file)
}

/// Puts busybox into the tree, with a link for each applet that it says it has.
fn from_busybox(tree: &mut Tree, busybox: &Path) -> Result<usize> {
    let inside = Path::new("/bin/busybox");
    tree.file(inside, busybox)?;
    let listed =
        Command::new(busybox).arg("--list-full").output().context("cannot run busybox --list-full")?;
    let mut text = String::from_utf8_lossy(&listed.stdout).into_owned();
    if !listed.status.success() {
        // Built without the places: all of them in /bin, then.
        let listed = Command::new(busybox).arg("--list").output().context("cannot run busybox --list")?;
        text = String::from_utf8_lossy(&listed.stdout).lines().map(|name| format!("bin/{name}\n")).collect();
    }
    let names: BTreeSet<_> =
        text.lines().filter(|l| !l.is_empty() && *l != "bin/busybox" && !l.contains("..")).collect();
    for name in &names {
        tree.symlink(&Path::new("/").join(name), inside);
    }
    if !names.contains("bin/sh") {
        bail!("{} has no sh; use --from host", busybox.display());
    }
    Ok(names.len())
}

/// What was found of the host's tools.
struct Found {
    tools: usize,
    libraries: usize,
    missing: Vec<String>,
    directories: BTreeSet<PathBuf>,
}

/// Puts the host's tools into the tree, and everything that they need.
fn from_host(tree: &mut Tree) -> Result<Found> {
    // Where /bin is a link to usr/bin, it is one in the image: programs are asked for by both names.
    for dir in ["/bin", "/sbin", "/lib", "/lib64", "/usr/bin", "/usr/sbin", "/usr/lib"] {
        if fs::metadata(dir).is_ok_and(|m| m.is_dir()) {
            tree.copy(Path::new(dir))?;
        }
    }
    let loader = Loader::of_the_host();
    let mut found = Found { tools: 0, libraries: 0, missing: Vec::new(), directories: BTreeSet::new() };
    let mut libraries = BTreeSet::new();
    for name in TOOLS.split_whitespace() {
        let Some(tool) = find_tool(name) else {
            found.missing.push(name.to_owned());
            continue;
        };
        needs(&tool, &loader, &mut libraries)
            .with_context(|| format!("the tool {name} ({}) cannot be taken along", tool.display()))?;
        tree.copy(&tool)?;
        found.tools += 1;
        found.directories.extend(tool.parent().map(Path::to_path_buf));
    }
    if !Path::new("/bin/sh").exists() {
        bail!("this host has no /bin/sh");
    }
    // glibc before 2.34 looks names up with libraries of their own, which it opens by name.
    if let Some(libc) = libraries.iter().find(|l| l.file_name().is_some_and(|n| n == "libc.so.6")) {
        let beside =
            ["libnss_files.so.2", "libnss_dns.so.2", "libresolv.so.2"].map(|name| libc.with_file_name(name));
        for library in beside.into_iter().filter(|l| l.exists()) {
            needs(&library, &loader, &mut libraries)?;
            libraries.insert(library);
        }
    }
    found.libraries = libraries.len();
    for file in
        libraries.iter().map(PathBuf::as_path).chain(BESIDES.iter().map(Path::new).filter(|p| p.exists()))
    {
        tree.copy(file)?;
    }
    Ok(found)
}

/// Adds to `libraries` everything that a program or library names, and what that names in turn.
fn needs(file: &Path, loader: &Loader, libraries: &mut BTreeSet<PathBuf>) -> Result<()> {
    let bytes = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let Some(elf) = Elf::parse(&bytes) else {
        return match script_interpreter(&bytes) {
            Some(interpreter) if libraries.insert(interpreter.clone()) => {
                needs(&interpreter, loader, libraries)
            }
            _ => Ok(()),
        };
    };
    for interpreter in elf.interpreter.iter().map(PathBuf::from) {
        if libraries.insert(interpreter.clone()) {
            needs(&interpreter, loader, libraries)?;
        }
    }
    for name in &elf.needed {
        let Some(library) = loader.find(name, &elf, file) else {
            bail!(
                "{} needs {name}, which is neither in its run path, nor in /etc/ld.so.cache, nor in a default directory",
                file.display()
            );
        };
        if libraries.insert(library.clone()) {
            needs(&library, loader, libraries)?;
        }
    }
    Ok(())
}

/// The program of a script's first line, `#!/bin/sh -e`.
fn script_interpreter(bytes: &[u8]) -> Option<PathBuf> {
    let line = bytes.strip_prefix(b"#!")?.split(|b| *b == b'\n').next()?;
    let word = std::str::from_utf8(line).ok()?.split_whitespace().next()?;
    word.starts_with('/').then(|| word.into())
}

/// Where the host has a tool: on the PATH, or where administrators' tools are.
fn find_tool(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // The system's own directories first: what a user put before them is not what the host is made of.
    ["/usr/bin", "/bin", "/usr/sbin", "/sbin"]
        .map(PathBuf::from)
        .into_iter()
        .chain(std::env::split_paths(&path).filter(|dir| dir.is_absolute()))
        .map(|dir| dir.join(name))
        .find(|file| fs::metadata(file).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0))
}

/// What every root has: directories to mount on, and the few files that programs read.
fn furnish(tree: &mut Tree) -> Result<()> {
    for (dir, mode) in [
        ("/dev", 0o755),
        ("/etc", 0o755),
        ("/home", 0o755),
        ("/proc", 0o555),
        ("/root", 0o700),
        ("/run", 0o755),
        ("/sys", 0o555),
        ("/tmp", 0o1777),
        ("/usr", 0o755),
        ("/var", 0o755),
        ("/var/tmp", 0o1777),
    ] {
        tree.directory(Path::new(dir), mode);
    }
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let field = |name: &str| {
        let line = release.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix('='));
        line.map(|v| v.trim_matches('"').to_owned())
    };
    let host = field("PRETTY_NAME").unwrap_or_else(|| "an unnamed Linux".into());
    let like = field("ID").unwrap_or_else(|| "linux".into());
    for (file, text) in [
        (
            "/etc/passwd",
            "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n".to_owned(),
        ),
        ("/etc/group", "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n".to_owned()),
        ("/etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n".to_owned()),
        (
            "/etc/os-release",
            format!(
                "NAME=\"teu base\"\nID=teu-base\nID_LIKE={like}\nPRETTY_NAME=\"base, made by teu from {host}\"\n"
            ),
        ),
    ] {
        tree.text(Path::new(file), &text);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_host_gives_the_same_image() {
        let (a, b) = (make("base", From::Host).unwrap(), make("base", From::Host).unwrap());
        assert!(a.archive == b.archive, "two images of one host differ");
        assert!(a.summary.contains("tools of this host"), "{}", a.summary);
    }

    #[test]
    fn scripts_name_their_interpreter() {
        assert_eq!(script_interpreter(b"#!/bin/sh -e\nexit"), Some("/bin/sh".into()));
        assert_eq!(script_interpreter(b"#! /usr/bin/env awk\n"), Some("/usr/bin/env".into()));
        assert_eq!(script_interpreter(b"plain"), None);
    }

    #[test]
    fn the_shell_is_there_with_its_loader() {
        let mut tree = Tree::default();
        from_host(&mut tree).unwrap();
        let sh = fs::read(fs::canonicalize("/bin/sh").unwrap()).unwrap();
        if let Some(loader) = Elf::parse(&sh).unwrap().interpreter {
            let real = fs::canonicalize(&loader).unwrap();
            assert!(tree.has(&real), "{loader} ({}) is not in the tree", real.display());
        }
        assert!(tree.has(&fs::canonicalize("/bin/sh").unwrap()));
    }
}
