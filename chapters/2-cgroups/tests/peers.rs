//! The real engines on this runtime: what they call, and in which order, is theirs to decide.
#![allow(clippy::unwrap_used)]

mod bundle;

use bundle::text;
use kit::{Case, Need, code};
use std::{
    fs,
    path::Path,
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};
use tempfile::TempDir;

const US: &str = env!("CARGO_BIN_EXE_cgroups");

fn main() {
    let podman = &[Need::Root, Need::Program("podman"), Need::Program("conmon")];
    let dockerd =
        &[Need::Root, Need::Program("dockerd"), Need::Program("containerd"), Need::Program("docker")];
    let containerd = &[Need::Root, Need::Program("containerd"), Need::Program("ctr")];
    kit::run(vec![
        Case::new("podman_run", podman, podman_run),
        Case::new("podman_detached_exec_stop", podman, podman_detached),
        Case::new("dockerd_run_exec_stop", dockerd, docker),
        Case::new("containerd_run_exec_kill", containerd, containerd_run),
    ]);
}

/// A root of the machine's own programs, for engines that take a directory.
fn rootfs(dir: &Path) -> std::path::PathBuf {
    let root = dir.join("rootfs");
    for name in
        ["usr", "bin", "lib", "lib64", "sbin", "etc", "tmp", "proc", "dev", "sys", "root", "run", "var"]
    {
        fs::create_dir_all(root.join(name)).unwrap();
    }
    fs::write(root.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\n").unwrap();
    root
}

struct Podman {
    dir: TempDir,
}

impl Podman {
    fn new() -> Podman {
        let dir = tempfile::tempdir().unwrap();
        rootfs(dir.path());
        // No limit that this machine does not let root raise, and nothing of the user's configuration.
        let conf = "[containers]\ndefault_ulimits = []\ncgroups = \"enabled\"\n[engine]\ncgroup_manager = \"cgroupfs\"\n\
                    events_logger = \"file\"\n";
        fs::write(dir.path().join("containers.conf"), conf).unwrap();
        Podman { dir }
    }

    fn command(&self, words: &[&str]) -> Command {
        let at = |name: &str| self.dir.path().join(name);
        let mut command = Command::new("podman");
        command.env("CONTAINERS_CONF", at("containers.conf"));
        command
            .arg("--root")
            .arg(at("storage"))
            .arg("--runroot")
            .arg(at("run"))
            .arg("--tmpdir")
            .arg(at("tmp"));
        command.args(["--storage-driver", "vfs", "--cgroup-manager", "cgroupfs", "--runtime", US]);
        // conmon leaves a file named `oom` where it is.
        command.args(words).stdin(Stdio::null()).current_dir(self.dir.path());
        command
    }

    /// `podman run` with what every run here shares, on the root.
    fn run(&self, options: &[&str], words: &[&str]) -> Output {
        let mut all = vec!["run", "--network", "none", "--ulimit", "host"];
        all.extend(options);
        for mount in ["/usr", "/bin", "/lib", "/lib64", "/sbin"].iter().filter(|m| Path::new(m).is_dir()) {
            all.extend(["-v", Box::leak(format!("{mount}:{mount}:ro").into_boxed_str())]);
        }
        let root = self.dir.path().join("rootfs").display().to_string();
        all.extend(["--rootfs", &root]);
        all.extend(words);
        self.command(&all).output().unwrap()
    }

    fn call(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        let _ = self.call(&["rm", "-fa", "-t", "0"]);
        // podman leaves the parent of its groups behind, whatever the runtime. rmdir takes it only if it is empty.
        for tree in fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
            let _ = fs::remove_dir(tree.path().join("libpod_parent/conmon"));
            let _ = fs::remove_dir(tree.path().join("libpod_parent"));
        }
        let _ = fs::remove_dir("/sys/fs/cgroup/libpod_parent");
    }
}

fn ok(output: Output) -> String {
    assert!(output.status.success(), "{}\n{}", text(&output.stderr), text(&output.stdout));
    text(&output.stdout)
}

fn podman_run() {
    let podman = Podman::new();
    assert_eq!(ok(podman.run(&["--rm"], &["echo", "hi"])), "hi\n");
    assert_eq!(code(podman.run(&["--rm"], &["sh", "-c", "exit 3"]).status), 3);
    let missing = podman.run(&["--rm"], &["no-such-program"]);
    assert_eq!(code(missing.status), 127, "{}", text(&missing.stderr));
    let terminal = ok(podman.run(&["--rm", "-t"], &["sh", "-c", "test -t 1 && echo terminal"]));
    assert_eq!(terminal.trim(), "terminal");
    let limited = podman.run(&["--rm", "--memory", "24m", "--memory-swap", "24m"], &["tail", "/dev/zero"]);
    assert_eq!(code(limited.status), 137, "{}", text(&limited.stderr));
}

fn podman_detached() {
    let podman = Podman::new();
    let script = "trap 'exit 0' TERM; while :; do sleep 0.1; done";
    ok(podman.run(&["-d", "--name", "web", "--pids-limit", "50"], &["sh", "-c", script]));
    assert_eq!(ok(podman.call(&["exec", "web", "echo", "in"])), "in\n");
    assert_eq!(ok(podman.call(&["exec", "-t", "web", "sh", "-c", "test -t 0 && echo tty"])).trim(), "tty");
    assert_eq!(code(podman.call(&["exec", "web", "sh", "-c", "exit 9"]).status), 9);
    assert!(ok(podman.call(&["top", "web"])).contains("sleep"));
    assert!(ok(podman.call(&["stats", "--no-stream", "web"])).contains("web"));
    ok(podman.call(&["pause", "web"]));
    assert_eq!(ok(podman.call(&["inspect", "--format", "{{.State.Status}}", "web"])).trim(), "paused");
    ok(podman.call(&["unpause", "web"]));
    ok(podman.call(&["update", "--memory", "64m", "web"]));
    ok(podman.call(&["stop", "web"]));
    assert_eq!(ok(podman.call(&["inspect", "--format", "{{.State.ExitCode}}", "web"])).trim(), "0");
    ok(podman.call(&["rm", "web"]));
}

/// A docker daemon of its own, under a directory, that knows this runtime.
struct Docker {
    dir: TempDir,
    daemon: Child,
}

impl Docker {
    fn new() -> Docker {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).display().to_string();
        let daemon = Command::new("dockerd")
            .args(["--data-root", &at("data"), "--exec-root", &at("exec"), "--pidfile", &at("pid")])
            .args(["-H", &format!("unix://{}", at("sock")), "--iptables=false", "--bridge=none"])
            .args([
                "--storage-driver",
                "vfs",
                "--add-runtime",
                &format!("us={US}"),
                "--default-runtime",
                "us",
            ])
            .stdout(Stdio::null())
            .stderr(fs::File::create(at("log")).unwrap())
            .spawn()
            .unwrap();
        let docker = Docker { dir, daemon };
        let start = Instant::now();
        while !docker.call(&["version"]).status.success() {
            let log = fs::read_to_string(docker.dir.path().join("log")).unwrap_or_default();
            assert!(start.elapsed() < Duration::from_secs(60), "{log}");
            std::thread::sleep(Duration::from_millis(200));
        }
        docker
    }

    fn call(&self, words: &[&str]) -> Output {
        let socket = format!("unix://{}", self.dir.path().join("sock").display());
        Command::new("docker").args(["-H", &socket]).args(words).stdin(Stdio::null()).output().unwrap()
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        let all = text(&self.call(&["ps", "-aq"]).stdout);
        for id in all.lines() {
            let _ = self.call(&["rm", "-f", id]);
        }
        let _ = nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(self.daemon.id() as i32),
            nix::sys::signal::SIGTERM,
        );
        let _ = self.daemon.wait();
        remove_parent();
    }
}

fn remove_parent() {
    let name = parent();
    let name = name.trim_start_matches('/');
    for tree in fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
        let _ = fs::remove_dir(tree.path().join(name));
    }
    let _ = fs::remove_dir(Path::new("/sys/fs/cgroup").join(name));
}

/// Above the daemons' groups, so that what it leaves behind is ours to remove.
fn parent() -> String {
    format!("/teu-test-docker-{}", std::process::id())
}

fn docker() {
    let docker = Docker::new();
    // An image of nothing: the programs are mounted.
    let root = rootfs(docker.dir.path());
    let tar = docker.dir.path().join("root.tar");
    assert!(
        Command::new("tar").arg("-C").arg(&root).arg("-cf").arg(&tar).arg(".").status().unwrap().success()
    );
    ok(docker.call(&["import", tar.to_str().unwrap(), "empty"]));
    let run = |options: &[&str], words: &[&str]| {
        let mut all = vec!["run", "--network", "none"];
        all.extend(options);
        for mount in ["/usr", "/bin", "/lib", "/lib64", "/sbin"].iter().filter(|m| Path::new(m).is_dir()) {
            all.extend(["-v", Box::leak(format!("{mount}:{mount}:ro").into_boxed_str())]);
        }
        all.push("empty");
        all.extend(words);
        docker.call(&all)
    };
    assert_eq!(ok(run(&["--rm"], &["echo", "hi"])), "hi\n");
    assert_eq!(code(run(&["--rm"], &["sh", "-c", "exit 3"]).status), 3);
    assert_eq!(code(run(&["--rm"], &["no-such-program"]).status), 127);
    ok(run(
        &["-d", "--name", "web", "--memory", "64m"],
        &["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.1; done"],
    ));
    assert_eq!(ok(docker.call(&["exec", "web", "echo", "in"])), "in\n");
    assert_eq!(ok(docker.call(&["exec", "-t", "web", "sh", "-c", "test -t 0 && echo tty"])).trim(), "tty");
    assert_eq!(code(docker.call(&["exec", "web", "sh", "-c", "exit 9"]).status), 9);
    assert!(ok(docker.call(&["top", "web"])).contains("sleep"));
    assert!(ok(docker.call(&["stats", "--no-stream", "web"])).contains("64MiB"));
    ok(docker.call(&["pause", "web"]));
    assert!(ok(docker.call(&["ps"])).contains("(Paused)"));
    ok(docker.call(&["unpause", "web"]));
    ok(docker.call(&["update", "--memory", "96m", "--memory-swap", "96m", "web"]));
    assert!(ok(docker.call(&["stats", "--no-stream", "web"])).contains("96MiB"));
    ok(docker.call(&["stop", "web"]));
    assert_eq!(ok(docker.call(&["inspect", "--format", "{{.State.ExitCode}}", "web"])).trim(), "0");
    ok(docker.call(&["rm", "web"]));
    let limited = run(&["--name", "big", "--memory", "24m", "--memory-swap", "24m"], &["tail", "/dev/zero"]);
    assert_eq!(code(limited.status), 137, "{}", text(&limited.stderr));
    let told = ok(docker.call(&["inspect", "--format", "{{.State.OOMKilled}}", "big"]));
    assert_eq!(told.trim(), "true");
}

/// containerd of its own, under a directory.
struct Containerd {
    dir: TempDir,
    daemon: Child,
}

impl Containerd {
    fn new() -> Containerd {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).display().to_string();
        // Nothing of Kubernetes, which would look for its networks.
        let config = format!(
            "version = 2\nroot = \"{}\"\nstate = \"{}\"\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
             [grpc]\naddress = \"{}\"\n[ttrpc]\naddress = \"{}\"\n",
            at("data"),
            at("state"),
            at("sock"),
            at("ttrpc"),
        );
        fs::write(at("config.toml"), config).unwrap();
        let daemon = Command::new("containerd")
            .args(["--config", &at("config.toml")])
            .stdout(Stdio::null())
            .stderr(fs::File::create(at("log")).unwrap())
            .spawn()
            .unwrap();
        let containerd = Containerd { dir, daemon };
        let start = Instant::now();
        while !containerd.ctr(&["version"]).status.success() {
            let log = fs::read_to_string(containerd.dir.path().join("log")).unwrap_or_default();
            assert!(start.elapsed() < Duration::from_secs(60), "{log}");
            std::thread::sleep(Duration::from_millis(200));
        }
        containerd
    }

    fn ctr(&self, words: &[&str]) -> Output {
        let socket = self.dir.path().join("sock");
        Command::new("ctr").arg("--address").arg(socket).args(words).stdin(Stdio::null()).output().unwrap()
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        for id in ["one", "web"] {
            let _ = self.ctr(&["tasks", "kill", "-s", "KILL", id]);
            let _ = self.ctr(&["tasks", "delete", "-f", id]);
        }
        let _ = nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(self.daemon.id() as i32),
            nix::sys::signal::SIGTERM,
        );
        let _ = self.daemon.wait();
        remove_parent();
    }
}

fn containerd_run() {
    let containerd = Containerd::new();
    let root = rootfs(containerd.dir.path()).display().to_string();
    let run = |options: &[&str], words: &[&str]| {
        let parent = format!("{}/ctr", parent());
        let mut all =
            vec!["run", "--runc-binary", US, "--rootfs", "--cgroup", Box::leak(parent.into_boxed_str())];
        all.extend(options);
        for mount in ["/usr", "/bin", "/lib", "/lib64", "/sbin"].iter().filter(|m| Path::new(m).is_dir()) {
            let text = format!("type=bind,src={mount},dst={mount},options=rbind:ro");
            all.extend(["--mount", Box::leak(text.into_boxed_str())]);
        }
        all.push(&root);
        all.extend(words);
        containerd.ctr(&all)
    };
    assert_eq!(ok(run(&["--rm"], &["one", "/bin/echo", "hi"])), "hi\n");
    assert_eq!(code(run(&["--rm"], &["one", "/bin/sh", "-c", "exit 3"]).status), 3);
    let script = "trap 'exit 7' TERM; while :; do sleep 0.1; done";
    ok(run(&["-d", "--memory-limit", "67108864"], &["web", "/bin/sh", "-c", script]));
    assert!(ok(containerd.ctr(&["tasks", "list"])).contains("RUNNING"));
    // It stays a moment: ctr stops copying when the process has ended, whether or not it has begun by then.
    let words = ["tasks", "exec", "--exec-id", "e1", "web", "/bin/sh", "-c", "echo in; sleep 1"];
    assert_eq!(ok(containerd.ctr(&words)), "in\n");
    assert_eq!(
        code(containerd.ctr(&["tasks", "exec", "--exec-id", "e2", "web", "/bin/sh", "-c", "exit 9"]).status),
        9
    );
    assert!(ok(containerd.ctr(&["tasks", "metrics", "web"])).contains("67108864"));
    ok(containerd.ctr(&["tasks", "pause", "web"]));
    assert!(ok(containerd.ctr(&["tasks", "list"])).contains("PAUSED"));
    ok(containerd.ctr(&["tasks", "resume", "web"]));
    ok(containerd.ctr(&["tasks", "kill", "-s", "TERM", "web"]));
    let start = Instant::now();
    while ok(containerd.ctr(&["tasks", "list"])).contains("RUNNING") {
        assert!(start.elapsed() < Duration::from_secs(20));
        std::thread::sleep(Duration::from_millis(50));
    }
    ok(containerd.ctr(&["tasks", "delete", "web"]));
    ok(containerd.ctr(&["containers", "delete", "web"]));
}
