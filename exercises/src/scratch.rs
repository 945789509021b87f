//! Where the grader builds: one tree for all answers, so that only what differs is compiled.

use crate::{sandbox, source, tree};
use anyhow::{Context, Result};
use nix::{
    fcntl::{OFlag, open},
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    sys::stat::Mode,
    unistd::{chdir, fchdir, mkdir},
};
use std::{
    collections::BTreeMap,
    fs::{self, File},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::Command,
};

/// The tree.
pub struct Scratch {
    dir: PathBuf,
    course: PathBuf,
    /// All that is built, the lab included.
    target: PathBuf,
    /// Whether nobody has to be told that it is waited for another one.
    pub(crate) quiet: bool,
}

impl Scratch {
    /// The tree in which answers to this course are built.
    pub fn at(course: &Path) -> Result<Scratch> {
        let target =
            std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| course.join("target"), PathBuf::from);
        let target = std::path::absolute(target).context("find the directory of what is built")?;
        let dir = target.join("lab");
        fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
        Ok(Scratch { dir, course: course.to_owned(), target, quiet: false })
    }

    /// Waits for whoever is building there now, and keeps others out until it is dropped.
    pub fn lock(&self) -> Result<File> {
        let lock = File::create(self.dir.join("lock")).context("open the lock of the lab's scratch tree")?;
        if lock.try_lock().is_err() {
            if !self.quiet {
                eprintln!("another lab is building; waiting for it");
            }
            lock.lock().context("lock the lab's scratch tree")?;
        }
        Ok(lock)
    }

    /// Gets the libraries that the engine is built with, as long as there is a network: an answer is built without one.
    pub fn fetch(&self) -> Result<()> {
        let (had, lock) = (self.dir.join("fetched"), fs::read(self.course.join("Cargo.lock"))?);
        if fs::read(&had).is_ok_and(|old| old == lock) {
            return Ok(());
        }
        let libc = if cfg!(target_env = "musl") { "musl" } else { "gnu" };
        let target = format!("{}-unknown-linux-{libc}", std::env::consts::ARCH);
        let status =
            cargo().args(["fetch", "--quiet", "--target", &target]).current_dir(&self.course).status();
        // Without a network they may be there all the same: the compiler will say.
        if status.context("cargo does not start")?.success() {
            fs::write(&had, lock).context("note that the libraries are here")?;
        }
        Ok(())
    }

    /// A program of the engine, built with these bodies in it, if so wanted [`alone`](Scratch::alone). To be called with the
    /// lock, and the program to be used before it is dropped. The inner error is what the compiler said.
    pub fn build(
        &self,
        package: &str,
        bodies: &[(&str, String)],
        alone: bool,
    ) -> Result<Result<PathBuf, String>> {
        let files = source::replaced(&self.course, bodies)?;
        let (mut command, tree, target) = self.command(&[package], &files)?;
        if alone {
            self.alone(&mut command, tree)?;
        } else {
            command.current_dir(tree);
        }
        let output = if alone {
            sandbox::compile(&mut command)?
        } else {
            command.output().context("cargo does not start")?
        };
        if !output.status.success() {
            return Ok(Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
        }
        Ok(Ok(target.join("debug").join(package)))
    }

    /// These programs of the engine, built with these files in the place of the course's own: the directory in which they are.
    /// To be called with the lock. The inner error is what the compiler said, a line of JSON for each message.
    pub fn build_with(
        &self,
        packages: &[&str],
        files: &BTreeMap<String, String>,
    ) -> Result<Result<PathBuf, String>> {
        let (mut command, tree, target) = self.command(packages, files)?;
        // All that is wrong, also in another crate: each time that it is built costs.
        command.args(["--keep-going", "--message-format=json"]).current_dir(tree);
        let output = command.output().context("cargo does not start")?;
        if !output.status.success() {
            return Ok(Err(String::from_utf8_lossy(&output.stdout).into_owned()));
        }
        Ok(Ok(target.join("debug")))
    }

    /// Writes the tree; the command that builds it, the tree, and where what is built will be.
    fn command(
        &self,
        packages: &[&str],
        files: &BTreeMap<String, String>,
    ) -> Result<(Command, PathBuf, PathBuf)> {
        let (tree, target) = (self.dir.join("tree"), self.dir.join("target"));
        self.seed(&target)?;
        tree::copy_with(&self.course, &tree, files)?;
        let mut command = cargo();
        command
            // With features as the whole engine has them, or each chapter would compile the libraries in its own way.
            .args(["build", "--quiet", "--offline", "--workspace"])
            .args(packages.iter().flat_map(|package| ["--bin", package]))
            .env("CARGO_TARGET_DIR", &target)
            // Nobody debugs it: without debug information it is compiled and linked in half the time.
            .env("CARGO_PROFILE_DEV_DEBUG", "false")
            .env("CARGO_INCREMENTAL", "1")
            .env("CARGO_TERM_COLOR", "never");
        Ok((command, tree, target))
    }

    /// Begins with the libraries as the course itself was built with them, where it was: to compile them once more takes
    /// minutes. They are copies that keep their times, by which cargo tells what is up to date.
    fn seed(&self, target: &Path) -> Result<()> {
        if target.exists() {
            return Ok(());
        }
        let half = target.with_extension("half");
        if half.exists() {
            fs::remove_dir_all(&half).with_context(|| half.display().to_string())?;
        }
        for part in [".fingerprint", "build", "deps"] {
            let from = self.target.join("debug").join(part);
            if from.is_dir() {
                copy_built(&from, &half.join("debug").join(part))?;
            }
        }
        fs::create_dir_all(&half)
            .and_then(|()| fs::rename(&half, target))
            .with_context(|| target.display().to_string())
    }

    /// Runs a command in `dir`, in a mount namespace in which of the course there is nothing but the scratch tree: so while
    /// an answer is compiled, the engine's own is nowhere to be read.
    fn alone(&self, command: &mut Command, dir: PathBuf) -> Result<()> {
        let mut masks = vec![self.course.clone()];
        if !self.target.starts_with(&self.course) {
            masks.push(self.target.clone());
        }
        let within = |mask: &&PathBuf| self.dir.starts_with(mask);
        let from = masks.iter().find(within).context("the scratch tree is nowhere")?.clone();
        let mut way: Vec<PathBuf> =
            self.dir.ancestors().take_while(|a| *a != from).map(Path::to_owned).collect();
        way.reverse();
        let at = self.dir.clone();
        // SAFETY: between fork and exec only system calls are made, on what was made before.
        unsafe {
            command.pre_exec(move || {
                let none = None::<&str>;
                unshare(CloneFlags::CLONE_NEWNS)?;
                mount(none, "/", none, MsFlags::MS_SLAVE | MsFlags::MS_REC, none)?;
                // Held, it is still there when its path is covered.
                let scratch = open(&at, OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
                for mask in &masks {
                    mount(Some("lab"), mask, Some("tmpfs"), MsFlags::empty(), Some("mode=755"))?;
                }
                for step in &way {
                    mkdir(step, Mode::S_IRWXU)?;
                }
                fchdir(&scratch)?;
                mount(Some("."), &at, none, MsFlags::MS_BIND, none)?;
                chdir(&dir)?;
                Ok(())
            });
        }
        Ok(())
    }
}

/// Copies what was built, all but programs: those are large, and nobody's library.
fn copy_built(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| to.display().to_string())?;
    for entry in fs::read_dir(from).with_context(|| from.display().to_string())? {
        let (entry, deps) = (entry?, from.ends_with("deps"));
        let (path, to) = (entry.path(), to.join(entry.file_name()));
        let about = entry.metadata().with_context(|| path.display().to_string())?;
        if about.is_dir() {
            copy_built(&path, &to)?;
        } else if about.is_file() && !(deps && path.extension().is_none()) {
            fs::copy(&path, &to).with_context(|| path.display().to_string())?;
            let copy = File::options().write(true).open(&to);
            copy.and_then(|f| f.set_modified(about.modified()?)).with_context(|| to.display().to_string())?;
        }
    }
    Ok(())
}

/// The cargo that this program was started by.
fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // What the outer cargo says to this program is not meant for the inner one.
    command.env_remove("CARGO_MANIFEST_DIR");
    command
}
