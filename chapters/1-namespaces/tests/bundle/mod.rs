//! A bundle to try things on: a root filesystem that is the host's own /usr, read-only, and a configuration
//! that a test changes. Root gets docker's default, an ordinary user the same in a user namespace.

#![allow(dead_code, clippy::unwrap_used, missing_docs, unreachable_pub)]

use serde_json::{Value, json};
use std::{
    fs,
    io::Read,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

pub struct Bundle {
    pub dir: tempfile::TempDir,
    pub config: Value,
}

#[derive(Debug)]
pub struct Output {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

pub fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_namespaces"))
}

impl Bundle {
    pub fn new() -> Bundle {
        let dir = tempfile::tempdir().unwrap();
        // Another user inside (or the mapped root) must be able to walk here.
        fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let mut args = vec!["spec"];
        if !kit::is_root() {
            args.push("--rootless");
        }
        let text = program().args(args).output().unwrap().stdout;
        let bundle = Bundle { dir, config: serde_json::from_slice(&text).unwrap() };
        bundle.fill()
    }

    fn fill(mut self) -> Bundle {
        let root = self.root();
        for dir in ["proc", "sys", "dev", "etc", "tmp", "usr"] {
            fs::create_dir_all(root.join(dir)).unwrap();
        }
        fs::write(root.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\nann:x:1000:1000::/home/ann:/bin/sh\n")
            .unwrap();
        self.bind("/usr", "/usr", &["rbind", "ro"]);
        for dir in ["bin", "sbin", "lib", "lib64", "lib32"] {
            let host = Path::new("/").join(dir);
            match fs::read_link(&host) {
                Ok(target) => symlink(target, root.join(dir)).unwrap(),
                Err(_) if host.is_dir() => {
                    fs::create_dir_all(root.join(dir)).unwrap();
                    self.bind(host.to_str().unwrap(), host.to_str().unwrap(), &["rbind", "ro"]);
                }
                Err(_) => {}
            }
        }
        self
    }

    pub fn root(&self) -> PathBuf {
        self.dir.path().join("rootfs")
    }

    pub fn bind(&mut self, from: &str, to: &str, options: &[&str]) -> &mut Bundle {
        self.mount(json!({"destination": to, "type": "bind", "source": from, "options": options}))
    }

    pub fn mount(&mut self, mount: Value) -> &mut Bundle {
        self.config["mounts"].as_array_mut().unwrap().push(mount);
        self
    }

    /// Takes a mount of the default away.
    pub fn without(&mut self, destination: &str) -> &mut Bundle {
        self.config["mounts"].as_array_mut().unwrap().retain(|m| m["destination"] != destination);
        self
    }

    /// Adds a namespace, or replaces the one of that kind.
    pub fn namespace(&mut self, namespace: Value) -> &mut Bundle {
        let all = self.config["linux"]["namespaces"].as_array_mut().unwrap();
        all.retain(|n| n["type"] != namespace["type"]);
        all.push(namespace);
        self
    }

    /// Changes a part of the configuration, named by a JSON pointer.
    pub fn set(&mut self, pointer: &str, value: Value) -> &mut Bundle {
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        self.config.pointer_mut(parent).unwrap()[name] = value;
        self
    }

    pub fn args(&mut self, args: &[&str]) -> &mut Bundle {
        self.set("/process/args", json!(args))
    }

    /// Writes config.json, and gives the command that runs the bundle.
    pub fn command(&self) -> Command {
        let text = serde_json::to_vec(&self.config).unwrap();
        fs::write(self.dir.path().join("config.json"), text).unwrap();
        let mut command = program();
        command.arg("run").arg(self.dir.path());
        command
    }

    pub fn run(&self) -> Output {
        finish(self.command().stdin(Stdio::null()))
    }

    /// Runs a shell script in it.
    pub fn sh(&mut self, script: &str) -> Output {
        self.args(&["/bin/sh", "-c", script]).run()
    }

    /// Runs a script that must succeed, and returns what it prints.
    pub fn says(&mut self, script: &str) -> String {
        let output = self.sh(script);
        assert_eq!(output.code, 0, "{script}: {output:?}");
        output.stdout.trim_end().to_owned()
    }

    /// Starts a script that says "up" and then sleeps; returns the runtime, and the container's
    /// first process as the host sees it.
    pub fn start(&mut self, script: &str) -> Running {
        let script = format!("{script}\necho up; while :; do sleep 0.05; done");
        self.args(&["/bin/sh", "-c", &script]);
        let mut runtime = self.command().stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut up = [0; 3];
        runtime.stdout.as_mut().unwrap().read_exact(&mut up).unwrap();
        let children = format!("/proc/{0}/task/{0}/children", runtime.id());
        let pid = fs::read_to_string(children).unwrap().trim().parse().unwrap();
        Running { runtime, pid }
    }
}

/// A container that runs. Dropped, also by a test that fails, it is killed.
pub struct Running {
    pub runtime: Child,
    /// The container's first process, as the host sees it.
    pub pid: i32,
}

impl Running {
    /// Kills the container from outside, and returns the runtime's exit code.
    pub fn kill(&mut self) -> i32 {
        let pid = nix::unistd::Pid::from_raw(self.pid);
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
        kit::code(self.runtime.wait().unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.runtime.try_wait(), Ok(None)) {
            self.kill();
        }
    }
}

pub fn finish(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    Output {
        code: kit::code(output.status),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
