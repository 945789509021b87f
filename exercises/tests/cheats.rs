//! Points without the work: each way that somebody has thought of, tried on the real grader, by a body in a real workspace.

use kit::{Case, Need};
use std::{
    fs,
    os::unix::{fs::symlink, process::ExitStatusExt},
    path::{Path, PathBuf},
    process::{Command, Output},
    time::{Duration, Instant},
};

/// An exercise whose function runs in the container's first process, and one whose function runs in the program itself.
const LOOPBACK: (&str, &str) = ("loopback", "namespaces::net::loopback_up");
const EXTRACT: (&str, &str) = ("extract", "layers::unpack::clean");

fn main() {
    let case = |name, test: fn()| Case::new(name, &[Need::UserNamespaces], test);
    kit::run(vec![
        case("printing_what_is_expected_gives_nothing", printing),
        case("what_is_changed_beside_the_functions_is_not_taken", editing),
        case("the_reference_is_nowhere_while_the_answer_runs", reading),
        case("the_reference_is_nowhere_while_the_answer_is_compiled", compiling),
        case("a_file_of_the_workspace_that_is_a_link_is_not_followed", linking),
        case("the_peers_are_not_there", calling),
        case("who_sleeps_past_the_limit_is_ended_with_all_its_children", sleeping),
        case("an_early_exit_with_status_0_gives_nothing", exiting),
        case("the_grader_cannot_be_killed", killing),
        case("a_flood_of_processes_ends_with_the_check", flooding),
        case("progress_written_by_hand_is_not_believed", claiming),
    ]);
}

/// A workspace, removed when it is dropped.
struct Workspace {
    dir: tempfile::TempDir,
}

impl Workspace {
    fn new() -> Workspace {
        let dir = tempfile::tempdir().expect("a directory");
        let workspace = Workspace { dir };
        assert!(workspace.lab(&["start"]).status.success());
        workspace
    }

    /// Where it is: `start` wants a directory that is not there.
    fn path(&self) -> PathBuf {
        self.dir.path().join("mine")
    }

    /// One with this body in an exercise, and the engine's own in the exercise's other functions.
    fn with((exercise, item): (&str, &str), body: &str) -> Workspace {
        let workspace = Workspace::new();
        let exercise = lab::course::find(exercise).expect("an exercise");
        let mut bodies = lab::tree::answer(&lab::tree::course(), exercise).expect("found");
        bodies.iter_mut().filter(|(i, _)| *i == item).for_each(|(_, b)| body.clone_into(b));
        lab::source::replace(&workspace.path(), &bodies).expect("written");
        workspace
    }

    fn lab(&self, words: &[&str]) -> Output {
        let lab = env!("CARGO_BIN_EXE_lab");
        Command::new(lab).arg("-C").arg(self.path()).args(words).output().expect("the lab starts")
    }

    /// The verdict on an exercise: whether it passed, and all that was said.
    fn check(&self, exercise: &str) -> (bool, String) {
        let output = self.lab(&["check", exercise]);
        let said =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.signal().is_none(), "the grader was killed: {said}");
        let code = output.status.code();
        assert!(matches!(code, Some(0 | 1)), "the grader failed, {code:?}: {said}");
        assert_eq!(code == Some(0), said.contains(&format!("/{exercise}: passed\n")), "{said}");
        (code == Some(0), said)
    }
}

/// Fails if the body passes, or if the verdict does not say this.
fn refused(of: (&str, &str), body: &str, told: &str) -> Workspace {
    let workspace = Workspace::with(of, body);
    let (passed, said) = workspace.check(of.0);
    assert!(!passed && said.contains(told), "wanted `{told}` in: {said}");
    workspace
}

/// The engine's own body, put back by hand as an honest answer.
fn honest() -> String {
    lab::source::body(&lab::tree::course(), LOOPBACK.1).expect("found").text
}

fn printing() {
    refused(
        LOOPBACK,
        " println!(\"namespaces/loopback: passed\"); println!(\"127.0.0.1\"); eprintln!(\"lo: UP 127.0.0.1\"); Ok(()) ",
        "no 127.0.0.1",
    );
}

fn editing() {
    let all = |workspace: &Workspace| {
        let dir = workspace.path();
        fs::write(dir.join("Cargo.toml"), "this is no manifest").expect("written");
        fs::write(dir.join("chapters/1-namespaces/build.rs"), "fn main() { panic!() }").expect("written");
        fs::write(dir.join("chapters/1-namespaces/src/main.rs"), "fn main() {}").expect("written");
        fs::create_dir_all(dir.join("exercises/src/course")).expect("made");
        fs::write(dir.join("exercises/src/course/loopback.rs"), "always passes").expect("written");
    };
    let cheat = refused(LOOPBACK, " Ok(()) ", "still down");
    all(&cheat);
    assert!(!cheat.check("loopback").0, "the same body, and all else changed");
    // And nothing of it spoils an honest answer.
    let workspace = Workspace::with(LOOPBACK, &honest());
    all(&workspace);
    let (passed, said) = workspace.check("loopback");
    assert!(passed, "{said}");
}

fn reading() {
    let course = lab::tree::course();
    let home = std::env::var("CARGO_HOME")
        .unwrap_or_else(|_| format!("{}/.cargo", std::env::var("HOME").expect("HOME")));
    let lab = Path::new(env!("CARGO_BIN_EXE_lab"));
    let looked = Workspace::new();
    let places = [
        course.join("chapters/1-namespaces/src/net.rs"),
        course.join("exercises/src/course/loopback.rs"),
        course.join(".git"),
        lab.to_owned(),
        lab.parent().expect("a directory").join("lab/tree"),
        home.into(),
        looked.path(),
        "/proc/1/root/root".into(),
        "/run/docker.sock".into(),
        "/usr/lib/git-core".into(),
    ];
    // The machine has what the sandbox has not: else the test would prove nothing.
    assert!(places[0].exists() && places[3].exists() && places[6].exists());
    refused(EXTRACT, &probe(&places), "NOTHING THERE");
    // What looks does see what is there.
    refused(EXTRACT, &probe(&["/nowhere".into(), "/usr/bin/cat".into()]), "FOUND /usr/bin/cat");
    // Nor do the first process, its memory and the environment tell of the grader.
    refused(
        EXTRACT,
        " let exe = std::fs::read_link(\"/proc/1/exe\").map(|p| p.display().to_string()).unwrap_or_default(); \
         let told = !exe.ends_with(\"/cat\") || std::env::vars().any(|(_, v)| v.contains(\"cargo\") || v.contains(\"teu-lab\")); \
         eprintln!(\"{}\", if told { \"FOUND\" } else { \"NOTHING THERE\" }); std::process::exit(3) ",
        "NOTHING THERE",
    );
}

/// A body that says which of this can be read.
fn probe(places: &[PathBuf]) -> String {
    let list: Vec<String> = places.iter().map(|p| format!("{:?}", p.display().to_string())).collect();
    format!(
        " for place in [{}] {{ if std::fs::read_dir(place).is_ok_and(|d| d.count() > 0) || std::fs::read(place).is_ok() {{ \
         eprintln!(\"FOUND {{place}}\"); std::process::exit(3) }} }} eprintln!(\"NOTHING THERE\"); std::process::exit(3) ",
        list.join(", ")
    )
}

fn compiling() {
    let file = lab::tree::course().join("chapters/1-namespaces/src/net.rs");
    refused(LOOPBACK, &format!(" include!({file:?}) "), "`include` puts another file");
    refused(LOOPBACK, &format!(" let _s = include_str!({file:?}); Ok(()) "), "`include_str` reads a file");
    refused(
        LOOPBACK,
        " use core::include_bytes as honest; let _b = honest!(\"/etc/passwd\"); Ok(()) ",
        "`include_bytes` reads",
    );
    refused(LOOPBACK, " macro_rules! m { ($a:ident) => { $a!(\"x\") } } m!(todo) ", "`macro_rules` can hide");
    refused(LOOPBACK, " #[path = \"/etc/passwd\"] mod m; Ok(()) ", "attribute");
    refused(
        LOOPBACK,
        " unsafe { core::arch::asm!(\".incbin \\\"/etc/passwd\\\"\") }; Ok(()) ",
        "`asm` is machine code",
    );
    refused(
        LOOPBACK,
        " unsafe extern \"C\" { fn system(s: *const u8) -> i32; } Ok(()) ",
        "`extern` names code",
    );
    let words = [" option_env!(\"HOME\"); Ok(()) ", " env!(\"CARGO_MANIFEST_DIR\"); Ok(()) "];
    words.iter().for_each(|body| drop(refused(LOOPBACK, body, "grader's environment")));
}

fn linking() {
    let workspace = Workspace::with(LOOPBACK, " Ok(()) ");
    let file = "chapters/1-namespaces/src/net.rs";
    fs::remove_file(workspace.path().join(file)).expect("removed");
    symlink(lab::tree::course().join(file), workspace.path().join(file)).expect("linked");
    let (passed, said) = workspace.check("loopback");
    assert!(!passed && said.contains("is not a plain file"), "{said}");
}

fn calling() {
    let peers = "runc crun unshare nsenter tar skopeo buildah podman docker umoci ip mount umount chroot pivot_root busybox \
                 sha256sum gzip python3 perl git cargo rustc cc gdb";
    assert!(Command::new("unshare").arg("--version").output().is_ok(), "the machine has one");
    let probe = |names: &str| {
        let list: Vec<String> = names.split_whitespace().map(|p| format!("{p:?}")).collect();
        format!(
            " for peer in [{}] {{ for dir in [\"\", \"/usr/bin/\", \"/usr/sbin/\", \"/bin/\", \"/sbin/\", \"/usr/local/bin/\"] {{ \
             if std::process::Command::new(format!(\"{{dir}}{{peer}}\")).arg(\"--version\").output().is_ok() {{ eprintln!(\"FOUND {{dir}}{{peer}}\"); std::process::exit(3) }} }} }} \
             eprintln!(\"NOTHING THERE\"); std::process::exit(3) ",
            list.join(", ")
        )
    };
    refused(EXTRACT, &probe(peers), "NOTHING THERE");
    refused(EXTRACT, &probe("no-such-thing cat"), "FOUND cat");
}

fn sleeping() {
    let began = Instant::now();
    // A child of its own session, which holds the pipes and ignores what can be ignored; its name is its mark.
    let mark = format!("lab{}", std::process::id());
    refused(
        LOOPBACK,
        &format!(
            " unsafe {{ if nix::libc::fork() == 0 {{ nix::libc::setsid(); std::fs::write(\"/proc/self/comm\", {mark:?}).ok(); \
             nix::libc::signal(nix::libc::SIGTERM, nix::libc::SIG_IGN); \
             loop {{ std::thread::sleep(std::time::Duration::from_secs(99)) }} }} }} \
             std::thread::sleep(std::time::Duration::from_secs(3600)); Ok(()) "
        ),
        "no end within its time",
    );
    assert!(began.elapsed() < Duration::from_secs(120), "it took {:?}", began.elapsed());
    let named = |pid: &fs::DirEntry| fs::read_to_string(pid.path().join("comm")).unwrap_or_default();
    let left =
        fs::read_dir("/proc").expect("/proc").flatten().filter(|pid| named(pid).trim() == mark).count();
    assert_eq!(left, 0, "processes are left");
}

fn exiting() {
    refused(LOOPBACK, " std::process::exit(0) ", "ended before");
    refused(LOOPBACK, " unsafe { nix::libc::_exit(0) } ", "ended before");
    refused(LOOPBACK, " panic!(\"no\") ", "ended before");
}

fn killing() {
    let all = " unsafe { nix::libc::kill(nix::libc::getppid(), 9); for pid in 2..70000 { if pid != nix::libc::getpid() { \
               nix::libc::kill(pid, 9); } } nix::libc::kill(-1, 9); nix::libc::kill(1, 9); }";
    refused(EXTRACT, &format!("{all} eprintln!(\"all are dead\"); std::process::exit(3) "), "not yet");
    refused(LOOPBACK, &format!("{all} Ok(()) "), "not yet");
    // Nor its parent's number known, by which it could be traced.
    refused(
        EXTRACT,
        " eprintln!(\"my parent is {}\", nix::unistd::getppid()); std::process::exit(3) ",
        "my parent is 0",
    );
}

fn flooding() {
    refused(
        LOOPBACK,
        " for _ in 0..5000 { unsafe { if nix::libc::fork() == 0 { loop { nix::libc::pause(); } } } } \
         std::thread::sleep(std::time::Duration::from_secs(99)); Ok(()) ",
        "not yet",
    );
    let own = format!("teu-lab-{}", std::process::id());
    assert!(!Path::new("/sys/fs/cgroup/pids").join(own).exists());
}

fn claiming() {
    let workspace = Workspace::with(LOOPBACK, " Ok(()) ");
    let claim = "namespaces/loopback solved\nnamespaces/pivot solved\n";
    fs::write(workspace.path().join("progress.txt"), claim).expect("written");
    let report = workspace.path().join("results.json");
    fs::write(&report, "{ \"score\": 1000 }").expect("written");
    let output = workspace.lab(&["grade", "--json", "--gradescope", report.to_str().expect("a path")]);
    let grade: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((output.status.code(), &grade["points"]), (Some(1), &serde_json::json!(0)), "{grade:#}");
    let written: serde_json::Value =
        serde_json::from_slice(&fs::read(&report).expect("a report")).expect("JSON");
    assert_eq!(written["score"], 0);
    assert!(grade["exercises"].as_array().is_some_and(|rows| rows.iter().all(|r| r["verdict"] != "passed")));
}
