//! `cargo tour`, to its end, and interrupted: in both cases nothing of it is left.

use kit::{Case, Need};
use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::Mutex,
    time::{Duration, Instant},
};

/// One tour at a time: what one has left is looked for while no other is under way.
static ONE: Mutex<()> = Mutex::new(());

fn main() {
    kit::run(vec![
        Case::new("the_tour_runs_to_its_end", &[Need::UserNamespaces], to_the_end),
        Case::new("ctrl_c_in_the_middle", &[Need::UserNamespaces], || interrupted("SIGINT", "$ teu ps", 130)),
        Case::new("sigterm_while_it_pushes", &[Need::UserNamespaces], || {
            interrupted("SIGTERM", "$ teu push", 143)
        }),
    ]);
}

fn to_the_end() {
    let _one = ONE.lock();
    let place = tempfile::tempdir().expect("a directory");
    let output = tour(place.path()).stderr(Stdio::piped()).output().expect("it starts");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}\n{out}\n{err}", output.status);
    for n in 1..=9 {
        assert!(out.contains(&format!("\n{n}. ")), "step {n} is missing:\n{out}");
    }
    assert!(out.contains("What was pulled is what was pushed: sha256:"), "{out}");
    assert!(out.contains("What the kernel was asked"), "{out}");
    // The limit is shown where this user may set one, and said to be skipped elsewhere.
    assert!(out.contains("OOMKilled=true ExitCode=137") || out.contains("Skipped here: "), "{out}");
    assert!(out.ends_with("Everything that the tour made is gone again.\n"), "{out}");
    nothing_is_left(place.path());
}

/// Sends a signal when a line appears.
fn interrupted(signal: &str, line: &str, code: i32) {
    let _one = ONE.lock();
    let place = tempfile::tempdir().expect("a directory");
    let mut child = tour(place.path()).stderr(Stdio::null()).spawn().expect("it starts");
    let mut said = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let reached = said.any(|text| text.is_ok_and(|text| text.starts_with(line)));
    assert!(reached, "the tour never came to {line}");
    let sent =
        Command::new("kill").args(["-s", &signal[3..], &child.id().to_string()]).status().expect("kill runs");
    assert!(sent.success());
    // Read on, or it would wait for us.
    said.for_each(drop);
    assert_eq!(kit::code(end_of(&mut child)), code);
    nothing_is_left(place.path());
}

fn tour(place: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_teu"));
    command.arg("tour").env("TMPDIR", place).stdin(Stdio::null()).stdout(Stdio::piped());
    command
}

fn end_of(child: &mut Child) -> std::process::ExitStatus {
    let latest = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(status) = child.try_wait().expect("it is our child") {
            return status;
        }
        assert!(Instant::now() < latest, "it does not end");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// No file, no mount, and no process that has the place in its command line.
fn nothing_is_left(place: &Path) {
    let files: Vec<_> = std::fs::read_dir(place).expect("it is there").flatten().map(|e| e.path()).collect();
    assert!(files.is_empty(), "left behind: {files:?}");
    let name = place.display().to_string();
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("proc is mounted");
    assert!(!mounts.contains(&name), "left mounted: {mounts}");
    let latest = Instant::now() + Duration::from_secs(5);
    loop {
        // Killed processes take a moment to be gone.
        let alive = processes(&name);
        if alive.is_empty() {
            return;
        }
        assert!(Instant::now() < latest, "still running: {alive:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn processes(name: &str) -> Vec<String> {
    let all = std::fs::read_dir("/proc").expect("proc is mounted").flatten();
    let lines = all.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    lines
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| line.contains(name))
        .collect()
}
