//! A daemon of a test's own, in a directory of its own, and the two clients that speak to it.

#![allow(dead_code, reason = "shared by test programs that need different parts of it")]

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

/// The engine under test.
pub(crate) struct Engine {
    pub(crate) dir: PathBuf,
    child: Option<Child>,
}

impl Engine {
    /// Starts one, with the image `base` in it.
    pub(crate) fn start(name: &str) -> Engine {
        // Short, because sockets are in it: a socket's path has 107 bytes at most.
        let dir = PathBuf::from(format!("/tmp/teu-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a directory");
        let mut engine = Engine { dir, child: None };
        engine.up();
        run(engine.teu(&["image", "base"]));
        engine
    }

    /// Starts the daemon (again) on what is there, and waits until it answers.
    pub(crate) fn up(&mut self) {
        let log =
            std::fs::File::options().create(true).append(true).open(self.dir.join("log")).expect("a log");
        let child = Command::new(env!("CARGO_BIN_EXE_teu"))
            .arg("daemon")
            .arg("--data-root")
            .arg(self.dir.join("data"))
            .arg("--exec-root")
            .arg(self.dir.join("run"))
            .args(["--host", &self.host()])
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn()
            .expect("the daemon starts");
        self.child = Some(child);
        until("the daemon answers", || std::os::unix::net::UnixStream::connect(self.socket()).is_ok());
    }

    /// `kill -9`
    pub(crate) fn murder(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().expect("it can be killed");
        child.wait().expect("it ends");
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.join("s")
    }

    fn host(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// Our own client.
    pub(crate) fn teu(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_teu"));
        command.args(["-H", &self.host()]).args(words);
        command
    }

    /// docker's client, as it comes.
    pub(crate) fn docker(&self, words: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command
            .args(["-H", &self.host()])
            .args(words)
            .env("DOCKER_CONFIG", self.dir.join("docker"))
            .env_remove("DOCKER_HOST");
        command
    }

    /// What docker's client prints, if it succeeds.
    pub(crate) fn ok(&self, words: &[&str]) -> String {
        run(self.docker(words))
    }

    /// The exit status of docker's client, and all that it prints.
    pub(crate) fn code(&self, words: &[&str]) -> (i32, String) {
        let output = self.docker(words).stdin(Stdio::null()).output().expect("docker runs");
        let text = [output.stdout, output.stderr].concat();
        (kit::code(output.status), String::from_utf8_lossy(&text).into_owned())
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if self.child.is_none() {
            self.up();
        }
        // Removed by the engine itself: what it leaves is then its own fault.
        let all = self
            .teu(&["ps", "-aq"])
            .output()
            .map(|o| String::from_utf8_lossy(&o.stdout).into_owned())
            .unwrap_or_default();
        for id in all.split_whitespace() {
            let _ = self.teu(&["rm", "-f", id]).output();
        }
        if let Some(mut child) = self.child.take() {
            // SIGTERM by the pid of our own child: the daemon has its bridges to take down.
            let _ = Command::new("kill").arg(child.id().to_string()).status();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!(
                "the daemon's log:\n{}",
                std::fs::read_to_string(self.dir.join("log")).unwrap_or_default()
            );
        }
        if let Err(e) = std::fs::remove_dir_all(&self.dir) {
            eprintln!("{} stays behind: {e}", self.dir.display());
        }
    }
}

/// Runs a command that must succeed.
pub(crate) fn run(mut command: Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    text(&command, output)
}

/// Runs a command that must succeed, with this input.
pub(crate) fn feed(mut command: Command, input: &[u8]) -> String {
    use std::io::Write;
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    // Written beside the reading: all buffers on the way are bounded, and who does not read stops who writes.
    let (mut stdin, input) = (child.stdin.take().expect("a pipe"), input.to_vec());
    let writer = std::thread::spawn(move || stdin.write_all(&input).expect("it reads"));
    let output = child.wait_with_output().expect("it ends");
    writer.join().expect("all was written");
    text(&command, output)
}

fn text(command: &Command, output: Output) -> String {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{out}{err}", output.status);
    out.into_owned()
}

/// Waits until something holds; ten seconds are far more than it needs.
pub(crate) fn until(what: &str, holds: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < end, "{what}: not within 30 seconds");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Runs a test, and then looks for what it left behind.
pub(crate) fn without_a_trace(test: impl FnOnce()) {
    let before = kit::Traces::now();
    test();
    // Others on this machine may be at the same thing: what is theirs goes again, what is left behind stays.
    let left = || {
        let new = kit::Traces::now().beyond(&before);
        new.into_iter().filter(|line| line.contains("teu")).collect::<Vec<_>>()
    };
    let end = Instant::now() + Duration::from_secs(60);
    while !left().is_empty() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(200));
    }
    assert!(left().is_empty(), "left behind:\n{}", left().join("\n"));
}

/// A free port on loopback.
pub(crate) fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port()
}

/// Makes a file.
pub(crate) fn file(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
}
