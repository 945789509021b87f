//! Where the tour takes place: a directory, a daemon, a registry, and the way out.

use anyhow::{Context, Result, anyhow, bail};
use nix::{
    sys::signal::{SigSet, Signal, kill},
    unistd::Pid,
};
use std::{
    io::{self, BufRead, IsTerminal, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// Of the lines that `--explain` shows, so many are shown here.
const STEPS_SHOWN: usize = 30;

/// Everything that the tour made, so that it can be taken down from anywhere.
struct Props {
    exe: PathBuf,
    directory: Option<tempfile::TempDir>,
    daemon: Option<Child>,
    registry: Option<registry::server::Server>,
}

/// The stage.
pub(super) struct Stage {
    exe: PathBuf,
    directory: PathBuf,
    host: String,
    pause: bool,
    number: AtomicUsize,
    registry: SocketAddr,
    props: Arc<Mutex<Props>>,
    interrupted: Arc<AtomicBool>,
}

/// What a command printed.
pub(super) struct Said {
    /// On stdout.
    pub(super) out: String,
    /// Its exit code.
    pub(super) code: i32,
}

impl Stage {
    /// Makes the directory, listens for signals, starts the daemon and the registry.
    pub(super) fn set_up(straight_through: bool) -> Result<Stage> {
        let exe = std::env::current_exe().context("cannot find this program's own file")?;
        let kept =
            tempfile::Builder::new().prefix("teu-tour-").tempdir().context("cannot make a directory")?;
        let directory = kept.path().to_owned();
        let props = Props { exe: exe.clone(), directory: Some(kept), daemon: None, registry: None };
        let props = Arc::new(Mutex::new(props));
        let interrupted = Arc::new(AtomicBool::new(false));
        // Before the first thread and the first child: signals are waited for in one place.
        watch_signals(props.clone(), interrupted.clone())?;

        let server = registry::server::Server::start(([127, 0, 0, 1], 0).into(), &directory.join("registry"))
            .context("cannot start a registry on the loopback device")?;
        let stage = Stage {
            exe,
            host: format!("unix://{}", directory.join("teu.sock").display()),
            directory,
            pause: !straight_through && io::stdin().is_terminal() && io::stdout().is_terminal(),
            number: AtomicUsize::new(0),
            registry: server.address(),
            props,
            interrupted,
        };
        match stage.raise(server) {
            Ok(()) => Ok(stage),
            Err(why) => {
                stage.show_daemon_log();
                stage.clear_away()?;
                Err(why)
            }
        }
    }

    /// Starts the daemon, and waits until it answers.
    fn raise(&self, registry: registry::server::Server) -> Result<()> {
        let log = std::fs::File::create(self.directory.join("daemon.log"))?;
        let mut command = Command::new(&self.exe);
        command.arg("daemon").arg("--data-root").arg(self.data_root());
        command.arg("--exec-root").arg(self.directory.join("run")).args(["--host", &self.host]);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        // A group of its own: Ctrl-C is for the tour, which then stops the daemon in order.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        {
            let mut props = self.props.lock().map_err(|_| anyhow!("the thread that clears away is gone"))?;
            props.registry = Some(registry);
            if props.directory.is_some() {
                props.daemon = Some(command.spawn().context("cannot start the daemon")?);
            }
        }
        self.wait_for_daemon()
    }

    /// Until it answers: its socket appears before anybody listens, so asking is the only way to know.
    fn wait_for_daemon(&self) -> Result<()> {
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(20) {
            let asked = Command::new(&self.exe).env("TEU_HOST", &self.host).arg("version").output()?;
            if asked.status.success() {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(50));
        }
        bail!("the daemon did not answer within 20 s")
    }

    /// Where the registry listens: `localhost:PORT`.
    pub(super) fn registry(&self) -> String {
        format!("localhost:{}", self.registry.port())
    }

    /// The directory of the daemon's data.
    pub(super) fn data_root(&self) -> PathBuf {
        self.directory.join("data")
    }

    /// A directory for files of a step.
    pub(super) fn scratch(&self, name: &str) -> Result<PathBuf> {
        let directory = self.directory.join(name);
        std::fs::create_dir_all(&directory)?;
        Ok(directory)
    }

    /// Begins a step: its heading, and why it is there.
    pub(super) fn step(&self, title: &str, words: &str) {
        let number = self.number.fetch_add(1, Ordering::Relaxed) + 1;
        if number > 1 && self.pause {
            print!("\n[Enter] ");
            let _ = io::stdout().flush();
            let _ = io::stdin().lock().read_line(&mut String::new());
        }
        let heading = format!("{number}. {title}");
        println!("\n{heading}\n{}\n{words}\n", "-".repeat(heading.chars().count()));
    }

    /// Says something.
    pub(super) fn say(&self, words: &str) {
        println!("{words}");
    }

    /// Shows a command, runs it, shows what it printed. It must succeed.
    pub(super) fn teu(&self, arguments: &[&str]) -> Result<Said> {
        let said = self.teu_any(arguments)?;
        if said.code != 0 {
            bail!("`teu {}` ended with exit code {}", arguments.join(" "), said.code);
        }
        Ok(said)
    }

    /// The same, whatever its exit code is.
    pub(super) fn teu_any(&self, arguments: &[&str]) -> Result<Said> {
        let shown: Vec<_> = arguments.iter().map(|word| quote(word)).collect();
        println!("$ teu {}", shown.join(" "));
        let output = self.quietly(arguments)?;
        let out = String::from_utf8_lossy(&output.stdout).into_owned();
        let (words, steps) = split_steps(&String::from_utf8_lossy(&output.stderr));
        print!("{out}{words}");
        if !steps.is_empty() {
            let steps = condense(&steps);
            println!("\nWhat the kernel was asked, in this order:");
            steps.iter().take(STEPS_SHOWN).for_each(|line| println!("{line}"));
            if steps.len() > STEPS_SHOWN {
                println!("{:13}… and so on: run it yourself with --explain", "");
            }
        }
        println!();
        let code = std::os::unix::process::ExitStatusExt::signal(&output.status);
        let code = code.map_or_else(|| output.status.code().unwrap_or(-1), |signal| 128 + signal);
        Ok(Said { out, code })
    }

    /// Runs a command and shows nothing.
    pub(super) fn quietly(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = Command::new(&self.exe);
        command.env("TEU_HOST", &self.host).args(arguments).stdin(Stdio::null());
        command.output().with_context(|| format!("cannot run teu {}", arguments.join(" ")))
    }

    /// What a command prints, without showing it.
    pub(super) fn ask(&self, arguments: &[&str]) -> Result<String> {
        let output = self.quietly(arguments)?;
        if !output.status.success() {
            bail!("`teu {}`: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// A failure that a signal caused is not one to tell of: the thread that got the signal ends the program.
    pub(super) fn wait_if_interrupted(&self) {
        // The signal reaches the command that runs, too, and that may be noticed here first.
        thread::sleep(Duration::from_millis(100));
        while self.interrupted.load(Ordering::Acquire) {
            thread::park();
        }
    }

    /// The end of the daemon's log.
    pub(super) fn show_daemon_log(&self) {
        let text = std::fs::read_to_string(self.directory.join("daemon.log")).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        eprintln!("The daemon's log ends with:");
        lines[lines.len().saturating_sub(10)..].iter().for_each(|line| eprintln!("  {line}"));
    }

    /// Takes everything down.
    pub(super) fn clear_away(&self) -> Result<()> {
        match self.props.lock() {
            Ok(mut props) => props.clear_away(),
            Err(_) => bail!("the thread that clears away is gone"),
        }
    }
}

impl Props {
    /// Containers first, then the images, the daemon, the registry, the files. What is gone already is passed over.
    fn clear_away(&mut self) -> Result<()> {
        let Some(directory) = self.directory.take() else { return Ok(()) };
        let host = format!("unix://{}", directory.path().join("teu.sock").display());
        let teu = |arguments: &[&str]| {
            let mut command = Command::new(&self.exe);
            command.env("TEU_HOST", &host).args(arguments).stdin(Stdio::null()).stderr(Stdio::null()).output()
        };
        if let Some(mut daemon) = self.daemon.take() {
            if let Ok(listed) = teu(&["ps", "-aq"]) {
                let ids = String::from_utf8_lossy(&listed.stdout).into_owned();
                let ids: Vec<_> = ids.split_whitespace().collect();
                if !ids.is_empty() {
                    let _ = teu(&[&["rm", "-f", "-v"], &ids[..]].concat());
                }
            }
            // The daemon may own files that this user may not remove: those of other users inside containers.
            let _ = teu(&["image", "prune", "-a", "-f"]);
            end(&mut daemon);
        }
        self.registry = None;
        let path = directory.path().to_owned();
        directory.close().with_context(|| format!("cannot remove {}", path.display()))
    }
}

/// Asks a process to end, and kills it if it does not.
fn end(child: &mut Child) {
    let _ = kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM);
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(10) {
        if !matches!(child.try_wait(), Ok(None)) {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
    let _ = child.kill();
    let _ = child.wait();
}

/// Blocks the signals that end programs, and has a thread wait for them: it takes the stage down and ends
/// the program. (Children start with no signal blocked: std sees to that.)
fn watch_signals(props: Arc<Mutex<Props>>, interrupted: Arc<AtomicBool>) -> Result<()> {
    let set = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT]);
    set.thread_block()?;
    thread::Builder::new().name("signals".into()).spawn(move || {
        let Ok(signal) = set.wait() else { return };
        interrupted.store(true, Ordering::Release);
        eprintln!("\n{signal}: clearing away …");
        if let Ok(mut props) = props.lock()
            && let Err(why) = props.clear_away()
        {
            eprintln!("{why:#}");
        }
        std::process::exit(128 + signal as i32)
    })?;
    Ok(())
}

/// Parts the table of `--explain` from other words on stderr: its lines begin with a number and one more.
fn split_steps(text: &str) -> (String, Vec<String>) {
    let is_step = |line: &str| {
        let mut words = line.split_whitespace();
        let first = words.next().unwrap_or_default();
        let second = words.next().unwrap_or_default();
        (first == "#" && second == "µs")
            || (line.starts_with(' ') && [first, second].iter().all(|w| w.parse::<u64>().is_ok()))
    };
    let (steps, words): (Vec<&str>, Vec<&str>) = text.lines().partition(|line| is_step(line));
    let words = words.iter().map(|line| format!("{line}\n")).collect();
    (words, steps.into_iter().map(str::to_owned).collect())
}

/// Where the name of the call stands in a line of `--explain`.
const CALL: std::ops::Range<usize> = 13..35;

/// Shows only the first of several calls of one kind in a row, and how many there are.
fn condense(steps: &[String]) -> Vec<String> {
    let call = |line: &str| line.chars().skip(CALL.start).take(CALL.len()).collect::<String>();
    let mut shown = Vec::new();
    for alike in steps.chunk_by(|a, b| call(a) == call(b)) {
        shown.extend(alike.first().cloned());
        match alike.len() {
            1 => {}
            2 => shown.push(alike[1].clone()),
            n => shown.push(format!("{:CALL$}  … {} more of these", "", n - 1, CALL = CALL.end)),
        }
    }
    shown
}

/// A word as one would type it.
fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// The path below the tour's directory, for people.
pub(super) fn below<'a>(path: &'a Path, directory: &Path) -> &'a Path {
    path.strip_prefix(directory).unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_told_from_words() {
        let text =
            "  #      µs  system call            what it does\n  1     670  fsconfig(2)  x\nWARNING: 3 4\n";
        let (words, steps) = split_steps(text);
        assert_eq!(words, "WARNING: 3 4\n");
        assert_eq!(steps.len(), 2);
    }

    #[test]
    fn calls_of_a_kind_are_told_once() {
        let line = |n: usize, call: &str| format!("{n:>3} {:>7}  {call:<22} x", 5);
        let steps = [
            line(1, "clone3(2)"),
            line(2, "mount(2)"),
            line(3, "mount(2)"),
            line(4, "mount(2)"),
            line(5, "execve(2)"),
        ];
        insta::assert_snapshot!(condense(&steps).join("\n"), @r"
          1       5  clone3(2)              x
          2       5  mount(2)               x
                                             … 2 more of these
          5       5  execve(2)              x
        ");
    }

    #[test]
    fn words_are_quoted_where_a_shell_needs_it() {
        assert_eq!(quote("base:1"), "base:1");
        assert_eq!(quote("echo hi"), "'echo hi'");
        assert_eq!(quote("it's"), r"'it'\''s'");
        assert_eq!(quote(""), "''");
    }
}
