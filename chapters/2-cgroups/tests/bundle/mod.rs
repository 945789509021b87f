//! What the tests from outside share: bundles on this machine's own programs, and the runtime on them.
#![allow(dead_code)]

use oci_spec::runtime::Spec;
use serde_json::{Value, json};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// A bundle and a state root of its own. Dropped, it deletes the containers that a failing test left.
pub(crate) struct Bundle {
    pub(crate) dir: TempDir,
    pub(crate) id: String,
}

static NUMBER: AtomicU32 = AtomicU32::new(0);

impl Bundle {
    /// docker's defaults, the host's programs, and this script.
    pub(crate) fn new(script: &str) -> Bundle {
        Bundle::with(script, |_| {})
    }

    /// The same, changed.
    pub(crate) fn with(script: &str, change: impl FnOnce(&mut Value)) -> Bundle {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("rootfs")).unwrap();
        for name in ["usr", "bin", "lib", "lib64", "sbin", "etc", "tmp", "proc", "dev", "sys"] {
            fs::create_dir_all(dir.path().join("rootfs").join(name)).unwrap();
        }
        fs::write(dir.path().join("rootfs/etc/passwd"), "root:x:0:0::/:/bin/sh\n").unwrap();
        let id = format!("teu-test-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let bundle = Bundle { dir, id };
        let mut config: Value = serde_json::to_value(namespaces::spec::docker_default()).unwrap();
        config["process"]["args"] = json!(["/bin/sh", "-c", script]);
        config["process"]["terminal"] = json!(false);
        config["root"]["readonly"] = json!(false);
        // The host's own programs, read-only: nothing is copied, and nothing has to be installed.
        let mounts = config["mounts"].as_array_mut().unwrap();
        for name in ["/usr", "/bin", "/lib", "/lib64", "/sbin"] {
            if Path::new(name).is_dir() {
                mounts.push(
                    json!({"destination": name, "source": name, "type": "bind", "options": ["rbind", "ro"]}),
                );
            }
        }
        change(&mut config);
        bundle.write(&config);
        bundle
    }

    pub(crate) fn write(&self, config: &Value) {
        // It must be a configuration by the standard's own types too.
        let _: Spec = serde_json::from_value(config.clone()).unwrap();
        fs::write(self.path("config.json"), serde_json::to_vec_pretty(config).unwrap()).unwrap();
    }

    pub(crate) fn config(&self) -> Value {
        serde_json::from_slice(&fs::read(self.path("config.json")).unwrap()).unwrap()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Our runtime with these words; `ID` and `BUNDLE` stand for this bundle's.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(runtime());
        command.arg("--root").arg(self.path("state"));
        for word in words {
            match *word {
                "ID" => command.arg(&self.id),
                "BUNDLE" => command.arg(self.dir.path()),
                other => command.arg(other),
            };
        }
        command.stdin(Stdio::null());
        command
    }

    pub(crate) fn call(&self, words: &[&str]) -> Output {
        // The container holds our pipes as long as it lives, so that its `create` is not waited for by reading them.
        let (out, err) = (self.path("out"), self.path("err"));
        let status = self
            .command(words)
            .stdout(fs::File::create(&out).unwrap())
            .stderr(fs::File::create(&err).unwrap())
            .status()
            .unwrap();
        Output { status, stdout: fs::read(out).unwrap(), stderr: fs::read(err).unwrap() }
    }

    /// It must succeed; its standard output.
    pub(crate) fn ok(&self, words: &[&str]) -> String {
        let output = self.call(words);
        assert!(output.status.success(), "{words:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    /// It must fail; its standard error.
    pub(crate) fn fails(&self, words: &[&str]) -> String {
        let output = self.call(words);
        assert!(!output.status.success(), "{words:?} succeeded: {}", text(&output.stdout));
        text(&output.stderr)
    }

    pub(crate) fn state(&self) -> Value {
        serde_json::from_str(&self.ok(&["state", "ID"])).unwrap()
    }

    pub(crate) fn until(&self, status: &str) -> Value {
        let start = Instant::now();
        loop {
            let state = self.state();
            if state["status"] == status {
                return state;
            }
            assert!(start.elapsed() < Duration::from_secs(10), "waited for {status}: {state}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        let _ = self.command(&["delete", "--force", "ID"]).stderr(Stdio::null()).status();
    }
}

/// The runtime to be tested: ours, or the one that `TEU_RUNTIME` names, to see how another one does.
pub(crate) fn runtime() -> String {
    std::env::var("TEU_RUNTIME").unwrap_or_else(|_| env!("CARGO_BIN_EXE_cgroups").to_owned())
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Waits for a file to have something in it.
pub(crate) fn wait_for(file: &Path) -> String {
    let start = Instant::now();
    loop {
        match fs::read_to_string(file) {
            Ok(text) if !text.is_empty() => return text,
            _ => assert!(start.elapsed() < Duration::from_secs(10), "waited for {}", file.display()),
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
