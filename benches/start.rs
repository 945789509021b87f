//! How long one run of `true` takes, beside crun, runc, podman and docker on the same root, in the same minutes.
//!
//! `cargo bench --bench start [-- --rounds N]`, as root. The machines on which this runs are noisy, so what
//! counts is the ratio: in every round each engine runs once, in a new order; the table gives
//! each one's median and what it is of ours. A peer that is not installed is left out and named.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

/// One engine: how it runs `true` once.
struct Engine {
    name: &'static str,
    run: Box<dyn Fn() -> Command>,
    times: Vec<Duration>,
}

/// A daemon that ends with the benchmark.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let pid = self.0.id().to_string();
        // TERM, not KILL: it has mounts and networks to take down.
        let _ = Command::new("kill").arg(&pid).status();
        let _ = self.0.wait();
    }
}

fn main() -> ExitCode {
    let mut rounds = 20;
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        if arg == "--rounds" {
            rounds = args.next().and_then(|n| n.parse().ok()).unwrap_or(rounds);
        }
    }
    if !kit::is_root() {
        println!("skipped: the peers that this compares with need root");
        return ExitCode::SUCCESS;
    }
    let dir = PathBuf::from(format!("/var/tmp/teu-bench-{}", std::process::id()));
    fs::create_dir_all(&dir).expect("a directory for the benchmark");
    let outcome = std::panic::catch_unwind(|| compare(&dir, rounds));
    fs::remove_dir_all(&dir).unwrap_or_else(|e| eprintln!("{} stays behind: {e}", dir.display()));
    if outcome.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn compare(dir: &Path, rounds: usize) {
    let teu = env!("CARGO_BIN_EXE_teu");
    let socket = format!("unix://{}/teu.sock", dir.display());
    let daemon = Command::new(teu)
        .args(["daemon", "--data-root"])
        .arg(dir.join("teu"))
        .arg("--exec-root")
        .arg(dir.join("teu-run"))
        .args(["-H", &socket])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("teu daemon starts");
    let _teu_daemon = Daemon(daemon);
    wait_for(&dir.join("teu.sock"));
    succeed(Command::new(teu).args(["-H", &socket, "image", "base"]));

    let mut engines = Vec::new();
    let mut engine =
        |name, run: Box<dyn Fn() -> Command>| engines.push(Engine { name, run, times: Vec::new() });
    let host = socket.clone();
    engine(
        "teu run",
        Box::new(move || command(teu, &["-H", &host, "run", "--rm", "--network", "none", "base", "true"])),
    );

    // The same root for the runtimes: the image, unpacked.
    let rootfs = dir.join("bundle/rootfs");
    fs::create_dir_all(&rootfs).expect("a bundle");
    let archive = dir.join("base.tar");
    succeed(Command::new(teu).args(["-H", &socket, "create", "--name", "root", "base", "true"]));
    succeed(Command::new(teu).args(["-H", &socket, "cp", "root:/"]).arg(&rootfs));
    succeed(Command::new(teu).args(["-H", &socket, "rm", "root"]));
    succeed(Command::new(teu).args(["-H", &socket, "save", "-o"]).arg(&archive).arg("base"));

    for name in ["crun", "runc"] {
        if let Some(program) = peer(name) {
            let bundle = bundle_for(dir, &program, name);
            let state = dir.join(format!("{name}-state"));
            engine(
                name,
                Box::new(move || {
                    let mut c = command(&program, &["--root"]);
                    c.arg(&state).arg("run").arg("--bundle").arg(&bundle).arg("bench");
                    c
                }),
            );
        }
    }
    if let Some(podman) = peer("podman") {
        let rootfs = rootfs.clone();
        engine(
            "podman run",
            Box::new(move || {
                let mut c =
                    command(&podman, &["run", "--rm", "--network", "none", "--ulimit", "host", "--rootfs"]);
                c.arg(&rootfs).arg("true");
                c
            }),
        );
    }
    let mut _dockerd = None;
    if let (Some(docker), Some(dockerd)) = (peer("docker"), peer("dockerd")) {
        let host = format!("unix://{}/docker.sock", dir.display());
        let child = Command::new(dockerd)
            .arg("--data-root")
            .arg(dir.join("docker"))
            .arg("--exec-root")
            .arg(dir.join("docker-run"))
            .arg("--pidfile")
            .arg(dir.join("docker.pid"))
            .args(["--iptables=false", "--bridge=none", "-H", &host])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("dockerd starts");
        _dockerd = Some(Daemon(child));
        wait_for(&dir.join("docker.sock"));
        succeed(command(&docker, &["-H", &host, "load", "-i"]).arg(&archive));
        engine(
            "docker run",
            Box::new(move || {
                command(&docker, &["-H", &host, "run", "--rm", "--network", "none", "base", "true"])
            }),
        );
    }

    // A peer that cannot run here at all (rlimits, for some) is left out with its own words.
    engines.retain(|e| {
        let out = (e.run)().output().expect("the engine is executable");
        if !out.status.success() {
            println!("{} left out: {}", e.name, String::from_utf8_lossy(&out.stderr).trim());
        }
        out.status.success()
    });
    let count = engines.len();
    for round in 0..rounds {
        for i in 0..count {
            let engine = &mut engines[(i + round) % count];
            let mut run = (engine.run)();
            let start = Instant::now();
            let status = run.stdout(Stdio::null()).stderr(Stdio::null()).status().expect("it starts");
            engine.times.push(start.elapsed());
            assert!(status.success(), "{} failed in round {round}", engine.name);
        }
    }

    let ours = median(&engines[0].times);
    println!(
        "one run of true, {rounds} rounds\n\n{:<12} {:>10} {:>10}   ours to theirs",
        "", "median ms", "best ms"
    );
    for e in &engines {
        let best = e.times.iter().min().map_or(0.0, Duration::as_secs_f64);
        let median = median(&e.times);
        println!("{:<12} {:>10.1} {:>10.1}   {:.2}", e.name, median * 1e3, best * 1e3, ours / median);
    }
}

/// A bundle with crun's or runc's own default configuration, on the common root, without rlimits (a
/// machine may forbid to raise them) and without a terminal.
fn bundle_for(dir: &Path, program: &Path, name: &str) -> PathBuf {
    let bundle = dir.join(format!("bundle-{name}"));
    fs::create_dir_all(&bundle).expect("a bundle");
    std::os::unix::fs::symlink("../bundle/rootfs", bundle.join("rootfs")).expect("a link to the root");
    succeed(Command::new(program).arg("spec").current_dir(&bundle));
    let path = bundle.join("config.json");
    let text = fs::read_to_string(&path).expect("its configuration");
    let mut config: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    config["process"]["args"] = serde_json::json!(["true"]);
    config["process"]["terminal"] = false.into();
    config["process"].as_object_mut().expect("an object").remove("rlimits");
    config["root"]["path"] = dir.join("bundle/rootfs").to_string_lossy().as_ref().into();
    fs::write(&path, config.to_string()).expect("its configuration");
    bundle
}

fn peer(name: &str) -> Option<PathBuf> {
    let found = kit::find_program(name);
    if found.is_none() {
        println!("{name} left out: not installed");
    }
    found
}

fn command(program: impl AsRef<std::ffi::OsStr>, args: &[&str]) -> Command {
    let mut c = Command::new(program);
    c.args(args).stdin(Stdio::null());
    c
}

fn succeed(c: &mut Command) {
    let out = c.output().unwrap_or_else(|e| panic!("{c:?}: {e}"));
    assert!(out.status.success(), "{c:?}: {}", String::from_utf8_lossy(&out.stderr));
}

/// Waits until a daemon listens. It says so in no other way than by answering.
fn wait_for(socket: &Path) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while std::os::unix::net::UnixStream::connect(socket).is_err() {
        assert!(Instant::now() < deadline, "nothing listens on {} after 30 s", socket.display());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// In seconds.
fn median(times: &[Duration]) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort();
    sorted[sorted.len() / 2].as_secs_f64()
}
