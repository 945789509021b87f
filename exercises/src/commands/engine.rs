//! The whole engine, built from what the reader wrote: it runs as the reader's own program, in no sandbox, and keeps its
//! state beside their workspace.

use crate::{command, started};
use anyhow::{Context, Result, bail};
use lab::{course, judge, scratch::Scratch, tree};
use std::{
    fs,
    os::unix::net::UnixStream,
    path::Path,
    process::{Child, Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

/// Where the engine keeps its things, in the workspace.
const STATE: &str = ".engine";

/// Builds teu and runs it with these arguments.
pub(crate) fn engine(dir: &Path, arguments: &[String]) -> Result<ExitCode> {
    started(dir)?;
    let (mut bodies, mut open) = (Vec::new(), Vec::new());
    for e in course::ALL {
        let answer = tree::answer(dir, e)?;
        if answer.iter().any(|(_, body)| judge::is_empty(body)) {
            open.push(e.id);
        }
        bodies.extend(answer);
    }
    // Two exercises may share a function: it is the same one.
    bodies.sort();
    bodies.dedup();
    if !open.is_empty() {
        eprintln!("Not written yet, and it will stop where it needs them: {}\n", open.join(", "));
    }
    let course = tree::course();
    let scratch = Scratch::at(&course)?;
    scratch.fetch()?;
    let built = {
        let _lock = scratch.lock()?;
        match scratch.build("teu", &bodies, false)? {
            Ok(built) => built,
            Err(said) => bail!("your engine does not compile:\n{said}"),
        }
    };
    let state = std::path::absolute(dir)?.join(STATE);
    fs::create_dir_all(&state).with_context(|| format!("make {}", state.display()))?;
    // A copy, for the next check builds another one in its place.
    let teu = state.join("teu");
    let new = state.join("teu.new");
    fs::copy(&built, &new).and_then(|_| fs::rename(&new, &teu)).context("keep the engine that was built")?;

    let mut daemon = Daemon::start(&teu, &state)?;
    let ask = |words: &[&str]| {
        let mut command = Command::new(&teu);
        command.env("TEU_HOST", &daemon.host).args(words);
        command
    };
    let has_base = ask(&["image", "inspect", "base"]).stdout(Stdio::null()).stderr(Stdio::null()).status()?;
    if !has_base.success() {
        eprintln!("making the image `base` of this machine's own programs, once");
        let made = ask(&["image", "base"]).stdout(Stdio::null()).status().context("make the image `base`")?;
        if !made.success() {
            eprintln!(
                "that did not work: does every exercise of the chapter layers pass? {}",
                command(dir, "grade")
            );
        }
    }
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let status = ask(&words).status().context("run the engine")?;
    daemon.end();
    let signal = std::os::unix::process::ExitStatusExt::signal(&status);
    let code = signal.map_or_else(|| status.code().unwrap_or(1), |n| 128 + n);
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)))
}

/// The reader's daemon, as long as the command runs.
struct Daemon {
    child: Child,
    host: String,
}

impl Daemon {
    fn start(teu: &Path, state: &Path) -> Result<Daemon> {
        // A socket's path may have only 107 bytes (unix(7)): so its directory is a short one.
        let run = tempfile::Builder::new()
            .prefix("teu-lab-")
            .tempdir()
            .context("make a directory for the socket")?;
        let run = run.keep();
        let socket = run.join("s");
        let log = fs::File::create(state.join("daemon.log")).context("make the daemon's log")?;
        let host = format!("unix://{}", socket.display());
        let mut child = Command::new(teu)
            .arg("daemon")
            .args(["--host", &host])
            .arg("--data-root")
            .arg(state.join("data"))
            .arg("--exec-root")
            .arg(run.join("exec"))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("start the engine's daemon")?;
        let began = Instant::now();
        while UnixStream::connect(&socket).is_err() {
            if child.try_wait()?.is_some() || began.elapsed() > Duration::from_secs(20) {
                let said = fs::read_to_string(state.join("daemon.log")).unwrap_or_default();
                let _ = child.kill(); // it may have ended by itself
                let _ = child.wait();
                let _ = fs::remove_dir_all(&run);
                bail!("your engine's daemon does not start. It said:\n{}", said.trim());
            }
            // That somebody listens on a path cannot be waited for.
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(Daemon { child, host })
    }

    fn end(&mut self) {
        let pid = nix::unistd::Pid::from_raw(self.child.id() as i32);
        // It may have ended by itself.
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let _ = self.child.wait();
        if let Some(run) = self.host.strip_prefix("unix://").and_then(|s| Path::new(s).parent()) {
            let _ = fs::remove_dir_all(run);
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.end();
    }
}
