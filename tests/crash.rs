//! `kill -9` of the daemon while containers run loses nothing.

mod engine;

use engine::{Engine, run, until, without_a_trace};
use kit::{Case, Need};
use std::process::Stdio;

fn main() {
    use Need::*;
    kit::run(vec![
        Case::new("a_killed_daemon_loses_no_container_log_line_or_exit_status", &[Root], || {
            without_a_trace(survive)
        }),
        Case::new("a_killed_monitor_takes_its_container_with_it", &[Root], || without_a_trace(orphan)),
        Case::new("a_second_daemon_is_refused_the_same_data", &[Root], second),
    ]);
}

/// Three containers: one goes on, one ends meanwhile, one is to be removed when it ends meanwhile.
fn survive() {
    let mut engine = Engine::start("crash");
    let none = ["run", "-d", "--network", "none"];
    let start = |more: &[&str]| run(engine.teu(&[&none[..], more].concat()));
    start(&[
        "--name",
        "goes-on",
        "base",
        "sh",
        "-c",
        "n=0; while :; do n=$((n+1)); echo line $n; sleep 0.1; done",
    ]);
    start(&["--name", "ends", "base", "sh", "-c", "sleep 1; echo last word; exit 7"]);
    start(&["--name", "vanishes", "--rm", "base", "sleep", "1"]);
    let before = run(engine.teu(&["logs", "goes-on"]));

    engine.murder();
    std::thread::sleep(std::time::Duration::from_secs(2));
    engine.up();

    let list = run(engine.teu(&["ps", "-a"]));
    assert!(list.contains("goes-on") && list.contains("Up "), "{list}");
    assert!(list.contains("Exited (7)"), "{list}");
    assert!(!list.contains("vanishes"), "--rm was not kept:\n{list}");
    assert_eq!(run(engine.teu(&["wait", "ends"])).trim(), "7");
    assert!(run(engine.teu(&["logs", "ends"])).contains("last word"));

    // No line is missing: they are numbered, and written ten a second, also while no daemon was there.
    let after = run(engine.teu(&["logs", "goes-on"]));
    assert!(after.starts_with(&before));
    let numbers: Vec<u32> = after.lines().filter_map(|l| l.strip_prefix("line ")?.parse().ok()).collect();
    assert!(numbers.len() >= 15, "only {} lines", numbers.len());
    assert!(numbers.iter().zip(1..).all(|(have, want)| *have == want), "{numbers:?}");

    // And all that can be done to a container still can.
    assert_eq!(run(engine.teu(&["exec", "goes-on", "echo", "inside"])), "inside\n");
    let mut follow = engine
        .teu(&["logs", "-f", "--tail", "1", "goes-on"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("follows");
    run(engine.teu(&["stop", "-t", "1", "goes-on"]));
    assert!(follow.wait().expect("ends with the container").success());
    assert!(run(engine.teu(&["ps", "-a", "--filter", "name=goes-on"])).contains("Exited (137)"));
    run(engine.teu(&["start", "goes-on"]));
    run(engine.teu(&["kill", "goes-on"]));
}

fn orphan() {
    let engine = Engine::start("orphan");
    let id = run(engine.teu(&["run", "-d", "--network", "none", "base", "sleep", "1000"])).trim().to_owned();
    let inside = || run(engine.teu(&["inspect", "--format", "{{.State.Pid}}", &id])).trim().to_owned();
    let pid = inside();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let monitor = status.lines().find_map(|l| l.strip_prefix("PPid:")).expect("a parent").trim().to_owned();
    run({
        let mut kill = std::process::Command::new("kill");
        kill.args(["-9", &monitor]);
        kill
    });
    until("the container is seen to have ended", || inside() == "0");
    until("its process is gone", || !std::path::Path::new(&format!("/proc/{pid}")).exists());
    assert!(run(engine.teu(&["ps", "-a"])).contains("Exited (137)"));
    run(engine.teu(&["start", &id]));
    assert_ne!(inside(), "0");
}

fn second() {
    let engine = Engine::start("twice");
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_teu"))
        .arg("daemon")
        .arg("--data-root")
        .arg(engine.dir.join("data"))
        .arg("--exec-root")
        .arg(engine.dir.join("run2"))
        .args(["--host", &format!("unix://{}", engine.dir.join("s2").display())])
        .output()
        .expect("it answers");
    assert!(!output.status.success());
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(message.contains("another daemon uses"), "{message}");
}
