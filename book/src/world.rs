//! A world for one session of the book: as if the machine had just been set up, and what it did in there ends with it.
//!
//! As root it is made of the book's own subject: new mount, process and network namespaces, in which `/run` and the
//! engines' directories are empty, so that ports, sockets and names are free. An ordinary user gets empty directories.

use anyhow::{Context, Result};
use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
};

/// The directories of a session; removed when it is dropped.
pub struct World {
    dir: tempfile::TempDir,
    programs: PathBuf,
    root: bool,
}

/// What the book types as `cargo run -p X` is the program that has been built.
const CARGO: &str = r#"#!/bin/sh
case $1 in
    tour) shift; exec teu tour "$@" ;;
    lab | book) exec "$@" ;;
esac
while [ $# -gt 0 ]; do
    case $1 in
        -p) program=$2; shift ;;
        --) shift; break ;;
    esac
    shift
done
exec "${program:-teu}" "$@"
"#;

/// Makes root's world, from inside its namespaces, and goes on with a command. A sysfs shows the devices of
/// the network namespace in which it was mounted.
const MAKE: &str = r#"
set -e
mount --bind "$BOOK_SESSION/run" /run
mkdir -p /run/lock /run/user
for name in teu docker containers containerd; do
    mkdir -p "$BOOK_SESSION/var/$name" /var/lib/$name
    mount --bind "$BOOK_SESSION/var/$name" /var/lib/$name
done
mkdir "$BOOK_SESSION/sys"
mount -t sysfs sysfs "$BOOK_SESSION/sys"
mount --rbind /sys/fs/cgroup "$BOOK_SESSION/sys/fs/cgroup"
mount --rbind "$BOOK_SESSION/sys" /sys
ip link set lo up
cd "$BOOK_SESSION/work"
set +e
exec "$@"
"#;

impl World {
    /// A new world, in which the programs of the directory `programs` come first on the path.
    pub fn new(programs: &Path, root: bool) -> Result<World> {
        let dir = tempfile::Builder::new().prefix("teu-book-").tempdir_in("/var/tmp")?;
        for name in ["bin", "work", "work/target", "home", "run", "var"] {
            fs::create_dir(dir.path().join(name))?;
        }
        symlink(programs, dir.path().join("work/target/debug"))?;
        let cargo = dir.path().join("bin/cargo");
        fs::write(&cargo, CARGO).with_context(|| cargo.display().to_string())?;
        fs::set_permissions(&cargo, fs::Permissions::from_mode(0o755))?;
        Ok(World { dir, programs: programs.to_owned(), root })
    }

    /// Where its directories are; commands begin in `work`.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// A command as the first process of the world.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = if self.root {
            let mut unshare = Command::new("unshare");
            unshare.args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--net"]);
            unshare.args(["--propagation", "private", "bash", "-c", MAKE, "world"]).args(words);
            unshare
        } else {
            let mut plain = Command::new(words[0]);
            plain.args(&words[1..]);
            plain
        };
        self.surround(&mut command);
        command
    }

    /// A command that joins the world which the process `unshare` (that of [`World::command`]) has made.
    pub fn join(&self, unshare: u32, words: &[&str]) -> Result<Command> {
        if !self.root {
            return Ok(self.command(words));
        }
        let first = fs::read_to_string(format!("/proc/{unshare}/task/{unshare}/children"))?;
        let mut command = Command::new("nsenter");
        command.args(["--target", first.trim(), "--mount", "--pid", "--net", "bash", "-c"]);
        command.args([r#"cd "$BOOK_SESSION/work" && exec "$@""#, "world"]).args(words);
        self.surround(&mut command);
        Ok(command)
    }

    fn surround(&self, command: &mut Command) {
        let at = self.path();
        let path = std::env::var("PATH").unwrap_or_default();
        let (bin, built) = (at.join("bin"), self.programs.display());
        let path = format!("{}:{built}:{path}:/usr/local/sbin:/usr/sbin:/sbin", bin.display());
        for name in ["CARGO", "CI", "DOCKER_HOST", "RUST_LOG", "XDG_DATA_HOME", "XDG_CONFIG_HOME"] {
            command.env_remove(name);
        }
        command
            .current_dir(at.join("work"))
            .env("PATH", path)
            .env("BOOK_SESSION", at)
            .env("HOME", at.join("home"))
            .env("XDG_RUNTIME_DIR", at.join("run"))
            .envs([
                ("TERM", "dumb"),
                ("NO_COLOR", "1"),
                ("LC_ALL", "C.UTF-8"),
                ("TZ", "UTC"),
                ("COLUMNS", "200"),
            ]);
    }

    /// Whether an engine has kept anything here.
    pub fn used(&self, engine: &str) -> bool {
        let file = match engine {
            "teu" => "run/teu",
            "docker" => "run/docker.sock",
            _ => "var/containers/storage",
        };
        self.path().join(file).exists()
    }

    /// Ends what an ordinary user's session has left running (root's ended with its first process), and
    /// removes the directories.
    pub fn end(self) {
        if !self.root {
            let mark = format!("BOOK_SESSION={}\0", self.path().display());
            for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
                let environment = fs::read(process.path().join("environ")).unwrap_or_default();
                let ours = environment.windows(mark.len()).any(|bytes| bytes == mark.as_bytes());
                if let Some(pid) = process.file_name().to_str().filter(|_| ours) {
                    // It may have ended by itself in the meantime.
                    let _ = Command::new("kill").args(["-KILL", pid]).status();
                }
            }
            // The files of subordinate ids are a user's own only inside a user namespace. What
            // stays is told by the directory's own removal.
            let mut remove = Command::new("unshare");
            let _ = remove.args(["--map-root-user", "--map-auto", "rm", "-rf"]).arg(self.path()).status();
        }
        drop(self.dir);
    }
}
