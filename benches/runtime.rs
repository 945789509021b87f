//! The OCI runtime beside crun and runc, and beside the floor: what one container costs from create to delete.
//!
//! `cargo bench -p cgroups [-- --rounds N] [--starts N] [--seconds N]`, as root. Each runs `true` in all namespaces, with
//! limits, docker's mounts, capabilities and filter, from one and the same bundle. The machines on which this
//! runs are noisy, so what counts is a ratio: in each round everyone runs once, in a new order. "floor" makes the same
//! container by the system calls that it needs and nothing else (see `floor.rs`).
//!
//! Everything happens in a mount namespace of the benchmark's own, in which state is kept in memory, as `/run` is on any
//! machine. On a hybrid host the v2 tree is unmounted there: crun refuses such a host when the tree has controllers.

mod floor;

use cgroups::cgroup::Cgroup;
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
    sys::resource::{UsageWho, getrusage},
};
use serde_json::{Value, json};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Output, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

const OURS: &str = env!("CARGO_BIN_EXE_cgroups");

/// Who makes containers: a name, and the words that come before the container's own.
struct Engine {
    name: &'static str,
    words: Vec<String>,
    wall: Vec<Duration>,
    cpu: Vec<Duration>,
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let [first, plan] = &words[..]
        && first == "floor"
    {
        floor::run(Path::new(plan));
        return ExitCode::SUCCESS;
    }
    let number = |name: &str, usual: usize| {
        let at = words.iter().position(|w| w == name);
        at.and_then(|at| words.get(at + 1)?.parse().ok()).unwrap_or(usual)
    };
    if !kit::is_root() {
        println!("skipped: the peers that this compares with need root");
        return ExitCode::SUCCESS;
    }
    let (rounds, starts, seconds) =
        (number("--rounds", 50), number("--starts", 1000), number("--seconds", 5));
    apart();
    // In memory from here on: what is left when this ends goes with the mount namespace.
    let dir = Path::new("/mnt");
    let bundle = bundle(dir);
    let mut engines = engines(dir, &bundle);
    one_by_one(dir, &mut engines, rounds);
    side_by_side(dir, &engines, seconds);
    unfailing(dir, &engines[0], starts);
    step_by_step(dir, &engines[0]);
    ExitCode::SUCCESS
}

/// A mount namespace of our own, which our children share.
fn apart() {
    unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace");
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_SLAVE | MsFlags::MS_REC, none).expect("cut off");
    if Path::new("/sys/fs/cgroup/unified/cgroup.controllers").exists() {
        umount2("/sys/fs/cgroup/unified", MntFlags::MNT_DETACH).expect("the hybrid v2 tree, here");
        println!("this is a hybrid host: measured on its v1 trees alone, since crun refuses both together");
    }
    mount(Some("tmpfs"), "/mnt", Some("tmpfs"), MsFlags::empty(), none).expect("a tmpfs");
}

/// A bundle with docker's default configuration, and limits.
fn bundle(dir: &Path) -> PathBuf {
    let bundle = dir.join("bundle");
    let rootfs = bundle.join("rootfs");
    fs::create_dir_all(rootfs.join("bin")).expect("a bundle");
    // The program, and what it is linked with.
    let program = kit::find_program("true").expect("the program true");
    fs::copy(&program, rootfs.join("bin/true")).expect("true");
    let linked = Command::new("ldd").arg(&program).output().expect("ldd");
    for word in String::from_utf8_lossy(&linked.stdout).split_whitespace().filter(|w| w.starts_with('/')) {
        let to = rootfs.join(&word[1..]);
        fs::create_dir_all(to.parent().expect("a directory")).expect("a directory");
        fs::copy(word, to).expect("a library");
    }
    for place in ["proc", "dev", "sys"] {
        fs::create_dir(rootfs.join(place)).expect("a place for a mount");
    }
    let file = bundle.join("config.json");
    let mut config: Value = serde_json::to_value(namespaces::spec::docker_default()).expect("JSON");
    config["process"]["args"] = json!(["/bin/true"]);
    let resources = &mut config["linux"]["resources"];
    resources["memory"] = json!({ "limit": 512 << 20 });
    resources["cpu"] = json!({ "shares": 512, "quota": 100_000, "period": 100_000 });
    resources["pids"] = json!({ "limit": 128 });
    fs::write(&file, config.to_string()).expect("config.json");
    bundle
}

fn engines(dir: &Path, bundle: &Path) -> Vec<Engine> {
    let mut engines = Vec::new();
    let mut engine = |name, words: Vec<String>| {
        engines.push(Engine { name, words, wall: Vec::new(), cpu: Vec::new() });
    };
    let run = |program: &Path, name: &str| {
        let text = |p: &Path| p.display().to_string();
        let root = text(&dir.join(format!("state-{name}")));
        vec![text(program), "--root".into(), root, "run".into(), "--bundle".into(), text(bundle)]
    };
    engine("teu", run(Path::new(OURS), "teu"));
    for name in ["crun", "runc"] {
        match kit::find_program(name) {
            Some(program) => engine(name, run(&program, name)),
            None => println!("{name} left out: not installed"),
        }
    }
    let own = std::env::current_exe().expect("this program");
    engine("floor", vec![own.display().to_string(), "floor".into()]);
    plan(dir, bundle);
    // One that cannot run here at all is left out with its own words.
    engines.retain(|e| {
        let out = start(dir, e, "0").output().expect("it is executable");
        if !out.status.success() {
            println!("{} left out: {}", e.name, String::from_utf8_lossy(&out.stderr).trim());
        }
        out.status.success()
    });
    engines
}

/// What the floor does for the bundle, for as many containers at once as there are workers.
fn plan(dir: &Path, bundle: &Path) {
    let config = fs::read(bundle.join("config.json")).expect("config.json");
    let spec = namespaces::spec::parse(&config, Path::new("config.json")).expect("our own configuration");
    let linux = spec.linux().as_ref().expect("linux");
    let filter = namespaces::seccomp::compile(linux.seccomp().as_ref().expect("a filter")).expect("a filter");
    fs::write(dir.join("filter"), filter.to_bytes()).expect("the filter");
    let limits = linux.resources().as_ref().expect("limits");
    for worker in ["0", "1"] {
        let name = format!("teu-floor-{worker}");
        let group = Cgroup::create(&name, Some(limits)).expect("a group to look at");
        let mut text = floor::line("root", &bundle.join("rootfs"), "");
        group.directories().iter().for_each(|(_, at)| text += &floor::line("group", at, ""));
        let settings = group.settings(limits).expect("limits");
        settings.iter().for_each(|(file, value)| text += &floor::line("write", file, value));
        group.remove().expect("the group is empty");
        let hierarchies = fs::read_to_string("/proc/self/cgroup").expect("cgroups");
        for controllers in hierarchies.lines().filter_map(|l| l.split(':').nth(1)) {
            let name = controllers.strip_prefix("name=").unwrap_or(controllers);
            let on_v1 = Path::new("/sys/fs/cgroup").join(name).is_dir();
            match (controllers.is_empty(), on_v1) {
                (true, _) if Path::new("/sys/fs/cgroup/unified").is_dir() => text += "cgroup unified \n",
                (true, _) => text += "cgroup . \n",
                (false, true) => text += &format!("cgroup {name} {controllers}\n"),
                (false, false) => {}
            }
        }
        text += &floor::line("filter", &dir.join("filter"), "");
        fs::write(dir.join(format!("plan-{worker}")), text).expect("the plan");
    }
}

/// One container by this engine.
fn start(dir: &Path, engine: &Engine, worker: &str) -> Command {
    let mut command = Command::new(&engine.words[0]);
    command.args(&engine.words[1..]).stdin(Stdio::null());
    if engine.name == "floor" {
        command.arg(dir.join(format!("plan-{worker}")));
    } else {
        command.arg(format!("bench-{}-{worker}", engine.name));
    }
    command
}

fn one_by_one(dir: &Path, engines: &mut [Engine], rounds: usize) {
    let used = || {
        let usage = getrusage(UsageWho::RUSAGE_CHILDREN).expect("our children's time");
        let micros = |t: nix::sys::time::TimeVal| t.tv_sec() as u64 * 1_000_000 + t.tv_usec() as u64;
        Duration::from_micros(micros(usage.user_time()) + micros(usage.system_time()))
    };
    for round in 0..rounds {
        for i in 0..engines.len() {
            let at = (i + round) % engines.len();
            let mut command = start(dir, &engines[at], "0");
            let (before, began) = (used(), Instant::now());
            succeed(&mut command);
            engines[at].wall.push(began.elapsed());
            engines[at].cpu.push(used() - before);
        }
    }
    println!("\none container, create to delete: {rounds} rounds, milliseconds\n");
    println!("{:<8}{:>12}{:>8}{:>12}   ours to theirs: wall   CPU", "", "wall median", "best", "CPU mean");
    let wall = |e: &Engine| median(&e.wall);
    let cpu = |e: &Engine| e.cpu.iter().sum::<Duration>().as_secs_f64() * 1e3 / e.cpu.len() as f64;
    for e in engines.iter() {
        let best = e.wall.iter().min().map_or(0.0, Duration::as_secs_f64) * 1e3;
        let (wall_ratio, cpu_ratio) = (wall(&engines[0]) / wall(e), cpu(&engines[0]) / cpu(e));
        println!(
            "{:<8}{:>12.2}{best:>8.2}{:>12.2}{wall_ratio:>23.2}{cpu_ratio:>6.2}",
            e.name,
            wall(e),
            cpu(e)
        );
    }
}

fn side_by_side(dir: &Path, engines: &[Engine], seconds: usize) {
    println!("\ncontainers per second, two workers at once, {seconds} s each\n");
    let mut ours = None;
    for e in engines {
        let made = AtomicUsize::new(0);
        let began = Instant::now();
        std::thread::scope(|scope| {
            for worker in ["0", "1"] {
                let made = &made;
                scope.spawn(move || {
                    while began.elapsed().as_secs() < seconds as u64 {
                        succeed(&mut start(dir, e, worker));
                        made.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        let rate = made.into_inner() as f64 / began.elapsed().as_secs_f64();
        let ours = *ours.get_or_insert(rate);
        println!("{:<8}{rate:>12.1}{:>12.2}", e.name, ours / rate);
    }
}

fn unfailing(dir: &Path, engine: &Engine, starts: usize) {
    let failed =
        (0..starts).filter(|_| !start(dir, engine, "0").output().is_ok_and(|o| o.status.success())).count();
    println!("\n{failed} of {starts} starts failed");
}

/// Our own steps, as `--debug` logs them, on average.
fn step_by_step(dir: &Path, engine: &Engine) {
    const ROUNDS: u32 = 30;
    let log = dir.join("log");
    let mut steps: Vec<(String, u64, u32)> = Vec::new();
    for _ in 0..ROUNDS {
        let _ = fs::remove_file(&log); // there is none in the first round
        let mut command = start(dir, engine, "0");
        let words: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
        command = Command::new(OURS);
        command.args(["--debug", "--log"]).arg(&log).args(words).stdin(Stdio::null());
        succeed(&mut command);
        for line in fs::read_to_string(&log).expect("the log").lines() {
            let Some((what, took)) = step(line) else { continue };
            match steps.iter_mut().find(|(w, ..)| *w == what) {
                Some((_, sum, count)) => (*sum, *count) = (*sum + took, *count + 1),
                None => steps.push((what, took, 1)),
            }
        }
    }
    println!(
        "\nwhere our time goes: microseconds, on average over {ROUNDS} runs (as logged, which costs time too)\n"
    );
    for (what, sum, count) in steps {
        let times = if count > ROUNDS { format!("  ({} times)", count / ROUNDS) } else { String::new() };
        println!("{:>8}  {what}{times}", sum / u64::from(ROUNDS));
    }
}

/// `… msg="mount(2): proc proc on /proc (72 us)"`. A value written or a group made is one of many.
fn step(line: &str) -> Option<(String, u64)> {
    let message = line.split_once("msg=\"")?.1.strip_suffix(" us)\"")?;
    let (what, took) = message.rsplit_once(" (")?;
    let what = match what.split_once(": ")?.0 {
        "mkdir(2)" => "mkdir(2): a group",
        "write(2)" if what.contains(" > ") => "write(2): a limit",
        _ => what,
    };
    Some((what.chars().take(90).collect(), took.parse().ok()?))
}

fn succeed(command: &mut Command) -> Output {
    let out = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(out.status.success(), "{command:?}: {}", String::from_utf8_lossy(&out.stderr));
    out
}

/// In milliseconds.
fn median(times: &[Duration]) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort();
    sorted[sorted.len() / 2].as_secs_f64() * 1e3
}
