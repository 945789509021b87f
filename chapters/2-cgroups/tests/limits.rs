//! Limits really hold: each test lets a program run into one and looks at what became of it. The same tests run on
//! v1, hybrid and v2 (`tests/vm/run.sh` for the last).
#![allow(clippy::unwrap_used)]

use cgroups::cgroup::Cgroup;
use kit::{Case, Need, Traces, code};
use oci_spec::runtime::LinuxResources;
use std::{
    fs,
    process::{Command, Output},
    time::{Duration, Instant},
};

fn main() {
    let root = &[Need::Root];
    kit::run(vec![
        Case::new("memory_ends_in_an_oom_kill_that_is_named", root, memory),
        Case::new("pids_refuse_the_fork", root, pids),
        Case::new("cpu_quota_holds_back_and_is_counted", root, cpu),
        Case::new("cpuset_pins", root, cpuset),
        Case::new("devices_are_denied", root, devices),
        Case::new("every_limit_reaches_its_file", root, files),
        Case::new("a_lower_limit_and_a_higher_one_can_both_be_set", root, update),
        Case::new("check_before_update", root, check_before_update),
        Case::new("each_limit_is_shown_with_its_file", &[Need::Root], shown),
        Case::new("unified_files", &[Need::CgroupV2], unified),
        Case::new("freeze_stops_and_thaw_goes_on", root, freeze),
        Case::new("without_a_v2_tree_the_freezer_does_it", &[Need::CgroupV1], freezer_v1),
        Case::new("kill_reaches_grandchildren_in_groups_below", root, kill),
        Case::new("a_group_that_fails_leaves_nothing", root, failed),
        Case::new("a_taken_group_is_refused", root, taken),
        Case::new("json_statistics", root, json),
        Case::new("exit_codes", root, exit_codes),
        Case::new("limit_passes_signals_on", root, signals),
        Case::new("a_user_without_a_group_is_told_how_to_get_one", &[Need::OrdinaryUser], user),
        Case::new(
            "a_user_with_a_delegated_group_has_limits",
            &[Need::CgroupV2, Need::Program("setpriv")],
            delegated,
        ),
    ]);
}

fn cgroups(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_cgroups")).args(arguments).output().unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn limits(json: &str) -> LinuxResources {
    serde_json::from_str(json).unwrap()
}

/// A group that is gone at the end of the test, also when that fails.
struct Group(Option<Cgroup>);

impl Group {
    fn new(name: &str, json: &str) -> Group {
        let path = format!("teu-test-{name}-{}", std::process::id());
        Group(Some(Cgroup::create(&path, Some(&limits(json))).unwrap()))
    }

    fn get(&self) -> &Cgroup {
        self.0.as_ref().unwrap()
    }

    fn spawn(&self, script: &str) -> std::process::Child {
        let child = Command::new("sh").args(["-c", script]).spawn().unwrap();
        self.get().attach(nix::unistd::Pid::from_raw(child.id() as i32)).unwrap();
        child
    }

    /// What is in a file, on whichever of the two names it has here.
    fn file(&self, names: [&str; 2]) -> String {
        let read = |name: &str| {
            self.get().directories().iter().find_map(|(_, d)| fs::read_to_string(d.join(name)).ok())
        };
        names.iter().find_map(|n| read(n)).unwrap_or_default().trim().to_owned()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0.take() {
            let _ = group.kill();
            let _ = group.remove();
        }
    }
}

fn memory() {
    // tail keeps all of a line that never ends.
    let output =
        cgroups(&["limit", "--memory", "24m", "--memory-swap", "24m", "--", "sh", "-c", "tail /dev/zero"]);
    assert_eq!(code(output.status), 137, "{}", err(&output));
    let told = err(&output);
    assert!(told.contains("out of memory: the kernel's OOM killer killed a process"), "{told}");
    assert!(told.contains("limit of 24MiB"), "{told}");
}

fn pids() {
    let output = cgroups(&[
        "limit",
        "--pids",
        "4",
        "--",
        "sh",
        "-c",
        "for i in 1 2 3 4 5 6 7 8; do sleep 1 & done; wait",
    ]);
    assert!(!output.status.success());
    let told = err(&output);
    assert!(told.to_lowercase().contains("fork"), "{told}");
    assert!(told.contains("the group may hold no more than 4"), "{told}");
}

fn cpu() {
    let group = Group::new("cpu", r#"{"cpu":{"quota":20000,"period":100000}}"#);
    let start = Instant::now();
    let mut child = group.spawn("while :; do :; done");
    // On a busy machine it is held back later: it has to have wanted more than it got.
    let held = || {
        let throttling = group.get().stats().unwrap().cpu.throttling;
        throttling.throttled_periods >= 5 && throttling.throttled_time > 300_000_000
    };
    while !held() && start.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(100));
    }
    let _ = child.kill();
    let _ = child.wait();
    let stats = group.get().stats().unwrap();
    let wall = start.elapsed().as_nanos() as f64;
    let share = stats.cpu.usage.total as f64 / wall;
    assert!(share < 0.35, "a fifth of a processor was allowed, {share} used");
    assert!(stats.cpu.throttling.throttled_periods >= 5, "{:?}", stats.cpu.throttling);
    assert!(stats.cpu.throttling.throttled_time > 300_000_000, "{:?}", stats.cpu.throttling);
}

fn cpuset() {
    let output = cgroups(&[
        "limit",
        "-q",
        "--cpuset-cpus",
        "0",
        "--",
        "grep",
        "Cpus_allowed_list",
        "/proc/self/status",
    ]);
    assert_eq!(out(&output).trim(), "Cpus_allowed_list:\t0", "{}", err(&output));
}

fn devices() {
    let rules = r#"{"devices":[{"allow":false,"access":"rwm"},{"allow":true,"type":"c","major":1,"minor":5,"access":"r"}]}"#;
    let group = Group::new("devices", rules);
    // The script waits until it is in the group.
    let ask = |test: &str| {
        let mut child = group.spawn(&format!("sleep 0.3; {test}"));
        child.wait().unwrap().success()
    };
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let node = |minor: u32| {
        let path = dir.path().join(minor.to_string());
        let made = Command::new("mknod").arg(&path).args(["c", "1", &minor.to_string()]).status().unwrap();
        assert!(made.success());
        path.display().to_string()
    };
    let (zero, kmsg) = (node(5), node(11));
    assert!(ask(&format!("head -c 1 {zero} >/dev/null")), "/dev/zero is allowed");
    assert!(Command::new("sh").args(["-c", &format!(": <{kmsg}")]).status().unwrap().success());
    assert!(!ask(&format!(": <{kmsg}")), "/dev/kmsg is not");
    assert!(ask(&format!("mknod {}/new c 1 11", dir.path().display())), "a node may be made of everything");
}

fn files() {
    let group = Group::new(
        "files",
        r#"{"memory":{"limit":67108864,"reservation":33554432,"swap":134217728},
            "cpu":{"shares":512,"quota":50000,"period":100000,"cpus":"0","mems":"0"},
            "pids":{"limit":17}}"#,
    );
    assert_eq!(group.file(["memory.limit_in_bytes", "memory.max"]), "67108864");
    assert_eq!(group.file(["memory.soft_limit_in_bytes", "memory.low"]), "33554432");
    let swap = group.file(["memory.memsw.limit_in_bytes", "memory.swap.max"]);
    assert!(swap == "134217728" || swap == "67108864", "together on v1, by itself on v2: {swap}");
    let shares = group.file(["cpu.shares", "cpu.weight"]);
    assert!(shares == "512" || shares == "20", "{shares}");
    let quota = group.file(["cpu.cfs_quota_us", "cpu.max"]);
    assert!(quota == "50000" || quota == "50000 100000", "{quota}");
    assert_eq!(group.file(["cpuset.cpus", "cpuset.cpus"]), "0");
    assert_eq!(group.file(["pids.max", "pids.max"]), "17");
    let settings = group.get().settings(&limits(r#"{"pids":{"limit":17}}"#)).unwrap();
    assert!(settings.iter().any(|(file, value)| file.ends_with("pids.max") && value == "17"));
}

fn update() {
    let mut group = Group::new("update", r#"{"memory":{"limit":67108864,"swap":67108864}}"#);
    let limit = |group: &Group| group.file(["memory.limit_in_bytes", "memory.max"]);
    // Upwards the swap limit must go first, downwards the memory limit.
    for bytes in [134_217_728u64, 33_554_432, 268_435_456] {
        let json = format!(r#"{{"memory":{{"limit":{bytes},"swap":{bytes}}}}}"#);
        group.0.as_mut().unwrap().set(&limits(&json)).unwrap();
        assert_eq!(limit(&group), bytes.to_string());
    }
    // A limit in a tree in which the group has no directory yet.
    let mut child = group.spawn("sleep 20");
    group.0.as_mut().unwrap().set(&limits(r#"{"cpu":{"shares":300,"cpus":"0"}}"#)).unwrap();
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    assert!(status.contains("Cpus_allowed_list:\t0\n"), "the process that runs already came along");
    let _ = child.kill();
    let _ = child.wait();
}

fn check_before_update() {
    let mut group = Group::new("check", r#"{"memory":{"limit":134217728}}"#);
    // Pages in a file in memory stay where they are.
    let file = tempfile::NamedTempFile::new_in("/dev/shm").unwrap();
    let script =
        format!("sleep 0.3; head -c 32000000 /dev/zero >{}; echo done; sleep 20", file.path().display());
    let mut child =
        Command::new("sh").args(["-c", &script]).stdout(std::process::Stdio::piped()).spawn().unwrap();
    group.get().attach(nix::unistd::Pid::from_raw(child.id() as i32)).unwrap();
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut [0u8; 5]).unwrap();
    let low = limits(r#"{"memory":{"limit":16777216,"checkBeforeUpdate":true}}"#);
    let error = group.0.as_mut().unwrap().set(&low).expect_err("the limit is below what is used").to_string();
    assert!(error.contains("checkBeforeUpdate"), "{error}");
    assert_eq!(group.file(["memory.limit_in_bytes", "memory.max"]), "134217728");
    assert!(child.try_wait().unwrap().is_none(), "and nothing was killed");
    let _ = child.kill();
    let _ = child.wait();
}

fn unified() {
    let group = Group::new(
        "unified",
        r#"{"memory":{"limit":67108864},"unified":{"memory.high":"33554432","pids.max":"9"}}"#,
    );
    assert_eq!(group.file(["memory.high", "memory.high"]), "33554432");
    assert_eq!(group.file(["memory.max", "memory.max"]), "67108864");
    assert_eq!(group.file(["pids.max", "pids.max"]), "9");
}

fn freeze() {
    let group = Group::new("freeze", "{}");
    let mut child = group.spawn("while :; do :; done");
    let time = || {
        let stat = fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
        stat.split(' ').nth(13).unwrap().parse::<u64>().unwrap()
    };
    group.get().freeze(true).unwrap();
    assert!(group.get().frozen());
    let before = time();
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(time(), before, "a frozen loop uses no time");
    group.get().freeze(false).unwrap();
    assert!(!group.get().frozen());
    std::thread::sleep(Duration::from_millis(300));
    assert!(time() > before);
    // Frozen processes die too.
    group.get().freeze(true).unwrap();
    group.get().kill().unwrap();
    group.get().freeze(false).unwrap();
    assert!(!child.wait().unwrap().success());
}

/// Hybrid machines have a v2 tree for it. This is what those do that have none.
fn freezer_v1() {
    let directory =
        std::path::PathBuf::from(format!("/sys/fs/cgroup/freezer/teu-test-v1-{}", std::process::id()));
    if fs::create_dir(&directory).is_err() {
        return println!("no freezer in /sys/fs/cgroup");
    }
    let group = Group(Some(Cgroup::of_directories([("freezer".to_owned(), directory.clone())])));
    let mut child = group.spawn("sleep 100 & sleep 100 & while :; do :; done");
    group.get().freeze(true).unwrap();
    assert!(group.get().frozen());
    group.get().freeze(false).unwrap();
    assert!(!group.get().frozen());
    group.get().freeze(true).unwrap();
    group.get().kill().unwrap();
    assert!(!child.wait().unwrap().success());
    drop(group);
    assert!(!directory.exists(), "all of them died, and the group is gone");
}

fn kill() {
    let group = Group::new("kill", "{}");
    let mut child = group.spawn("sleep 0.2; sleep 100 & sleep 100 & sleep 100");
    let start = Instant::now();
    while group.get().procs().unwrap().len() < 4 {
        assert!(start.elapsed() < Duration::from_secs(10), "{:?}", group.get().procs());
        std::thread::sleep(Duration::from_millis(5));
    }
    group.get().kill().unwrap();
    let _ = child.wait();
    let start = Instant::now();
    while !group.get().procs().unwrap().is_empty() {
        assert!(start.elapsed() < Duration::from_secs(5));
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn failed() {
    let name = format!("teu-test-failed-{}", std::process::id());
    let before = Traces::now();
    for bad in [
        r#"{"cpu":{"quota":1,"period":100000}}"#,
        r#"{"cpu":{"cpus":"9999"}}"#,
        r#"{"unified":{"../../x":"1"}}"#,
        r#"{"unified":{"nosuch.max":"1"}}"#,
        r#"{"hugepageLimits":[{"pageSize":"../2MB","limit":1}]}"#,
    ] {
        let error = Cgroup::create(&name, Some(&limits(bad))).err().unwrap_or_else(|| panic!("{bad}"));
        assert!(error.to_string().len() > 20, "{error}");
    }
    assert!(Cgroup::create("../../etc", None).is_err());
    let mine = |line: &String| line.contains("teu-test-failed");
    assert_eq!(
        Traces::now().beyond(&before).into_iter().filter(mine).collect::<Vec<_>>(),
        Vec::<String>::new()
    );
}

fn taken() {
    let group = Group::new("taken", "{}");
    let mut child = group.spawn("sleep 20");
    let path = format!("teu-test-taken-{}", std::process::id());
    let error = Cgroup::create(&path, None).err().expect("two containers cannot share a group").to_string();
    assert!(error.contains("is taken"), "{error}");
    assert!(child.try_wait().unwrap().is_none(), "and the one that was there is left alone");
    let _ = child.kill();
    let _ = child.wait();
}

fn json() {
    let output = cgroups(&["stats", "--json"]);
    let line: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(line["type"], "stats");
    assert!(line["data"]["cpu"]["usage"]["total"].as_u64().unwrap() > 0);
    let shown = cgroups(&["show"]);
    // The root of the version 2 tree is the one group that nothing limits.
    if std::fs::read_to_string("/proc/self/cgroup").unwrap() == "0::/\n" {
        assert!(err(&shown).contains("nothing is limited by this group"), "{shown:?}");
    } else {
        assert!(out(&shown).contains("FILE") && out(&shown).contains("VALUE"), "{shown:?}");
    }
}

/// What a user sees of limits: each file below its directory, the value, and what that says; no colours, for this is no terminal.
fn shown() {
    let output =
        cgroups(&["limit", "--show", "--memory", "64m", "--cpus", "0.5", "--pids", "20", "--", "true"]);
    let text = err(&output);
    let row = |file: &str| {
        let line =
            text.lines().find(|l| l.trim_start().starts_with(file)).unwrap_or_else(|| panic!("{text}"));
        line.split("  ").filter(|c| !c.is_empty()).map(|c| c.trim().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(row("FILE"), ["FILE", "VALUE", "IN WORDS", "WHAT IT IS"]);
    assert_eq!(row("memory.")[1..3], ["67108864", "64MiB"], "{text}");
    assert_eq!(row("pids.max")[1..], ["20", "processes and threads, at most"], "{text}");
    assert!(text.contains("50ms in each 100ms: 0.5 of a cpu"), "{text}");
    assert!(text.lines().any(|l| l.starts_with("/sys/fs/cgroup") && l.contains("teu-limit-")), "{text}");
    assert!(!text.contains('\x1b'), "{text}");
}

fn exit_codes() {
    for (script, expected) in [("exit 0", 0), ("exit 3", 3), ("kill -9 $$", 137), ("kill -TERM $$", 143)] {
        assert_eq!(code(cgroups(&["limit", "-q", "--", "sh", "-c", script]).status), expected, "{script}");
    }
    let missing = cgroups(&["limit", "--", "no-such-program"]);
    assert_eq!(code(missing.status), 127);
    assert!(err(&missing).contains("executable file not found in $PATH"), "{}", err(&missing));
    assert_eq!(code(cgroups(&["limit", "--", "/etc/passwd"]).status), 126);
    let size = cgroups(&["limit", "--memory", "64x", "--", "true"]);
    assert!(err(&size).contains("invalid size: '64x'"), "{}", err(&size));
}

fn signals() {
    let script = "trap 'exit 42' TERM; echo up; while :; do sleep 0.05; done";
    let mut child = Command::new(env!("CARGO_BIN_EXE_cgroups"))
        .args(["limit", "-q", "--", "sh", "-c", script])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = [0u8; 3];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut line).unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.id() as i32), nix::sys::signal::SIGTERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(42));
}

fn user() {
    let output = cgroups(&["limit", "--memory", "64m", "--", "true"]);
    // A user with a delegated group has what it takes.
    if !output.status.success() {
        assert!(err(&output).contains("systemd-run --user --scope -p Delegate=yes"), "{}", err(&output));
    }
}

/// What `systemd-run --user --scope -p Delegate=yes` does, by hand: a group that belongs to a user, with a shell in it.
fn delegated() {
    let group = std::path::PathBuf::from(format!("/sys/fs/cgroup/teu-test-delegated-{}", std::process::id()));
    fs::create_dir(&group).unwrap();
    let _ = fs::write("/sys/fs/cgroup/cgroup.subtree_control", "+memory +pids");
    for file in ["", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"] {
        std::os::unix::fs::chown(group.join(file), Some(4242), Some(4242)).unwrap();
    }
    let line = format!(
        "echo $$ >{}/cgroup.procs; exec setpriv --reuid 4242 --regid 4242 --clear-groups {} limit --memory 24m \
         --memory-swap 24m -- tail /dev/zero",
        group.display(),
        env!("CARGO_BIN_EXE_cgroups")
    );
    let output = Command::new("sh").args(["-c", &line]).output().unwrap();
    let left = fs::read_dir(&group).unwrap().flatten().filter(|e| e.path().is_dir()).count();
    let _ = fs::remove_dir(group.join("teu-self"));
    let _ = fs::remove_dir(&group);
    assert_eq!(code(output.status), 137, "{}", err(&output));
    assert!(err(&output).contains("OOM killer"), "{}", err(&output));
    assert_eq!(left, 1, "its own group is gone; the leaf into which the caller moved is the caller's");
    assert!(!group.exists());
}
