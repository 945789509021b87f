//! Points without the work: each way that somebody has thought of, tried on the real grader, by a body in a real workspace.

use kit::{Case, Need};
use std::{
    fs,
    os::unix::{fs::symlink, process::ExitStatusExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
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
        case("the_reference_the_peers_and_the_graders_output_are_nowhere_while_the_answer_runs", looking),
        case("the_reference_is_nowhere_while_the_answer_is_compiled", naming),
        case("who_computes_while_being_compiled_is_ended", computing),
        case("a_link_in_the_workspace_is_not_followed", linking),
        case("who_sleeps_past_the_limit_is_ended_with_all_its_children", sleeping),
        case("an_early_exit_with_status_0_gives_nothing", exiting),
        case("the_grader_cannot_be_killed", killing),
        case("nothing_survives_the_grader", surviving),
        case("a_flood_of_processes_ends_with_the_check", flooding),
        Case::new("who_freezes_itself_is_ended_all_the_same", &[Need::CgroupV1], freezing),
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
        lab::tree::start(&lab::tree::course(), &workspace.path(), lab::course::ALL).expect("started");
        workspace
    }

    /// Where it is: `start` wants a directory that is not there.
    fn path(&self) -> PathBuf {
        self.dir.path().join("mine")
    }

    /// One with this body in an exercise, and the engine's own in the exercise's other functions.
    fn with(of: (&str, &str), body: &str) -> Workspace {
        let workspace = Workspace::new();
        workspace.write(of, body);
        workspace
    }

    fn write(&self, (exercise, item): (&str, &str), body: &str) {
        let exercise = lab::course::find(exercise).expect("an exercise");
        let mut bodies = lab::tree::answer(&lab::tree::course(), exercise).expect("found");
        bodies.iter_mut().filter(|(i, _)| *i == item).for_each(|(_, b)| body.clone_into(b));
        lab::source::replace(&self.path(), &bodies).expect("written");
    }

    /// A check, as a reader begins it: in the workspace, whatever there is in it.
    fn command(&self, exercise: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lab"));
        command.arg("-C").arg(self.path()).args(["check", exercise]).current_dir(self.path());
        command
    }

    /// The verdict on an exercise: whether it passed, and all that was said.
    fn check(&self, exercise: &str) -> (bool, String) {
        verdict(exercise, &mut self.command(exercise))
    }

    /// A check that goes on.
    fn begin(&self, exercise: &str) -> Child {
        let mut command = self.command(exercise);
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the lab starts")
    }
}

fn verdict(exercise: &str, command: &mut Command) -> (bool, String) {
    let output = command.output().expect("the lab starts");
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.signal().is_none(), "the grader was killed: {said}");
    let code = output.status.code();
    assert!(matches!(code, Some(0 | 1)), "the grader failed, {code:?}: {said}");
    assert_eq!(code == Some(0), said.contains(&format!("/{exercise}: passed\n")), "{said}");
    assert!(said.chars().all(|c| matches!(c, '\n' | '\t') || !c.is_control()), "to a terminal: {said:?}");
    (code == Some(0), said)
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
        let write = |file: &str, text: &str| fs::write(dir.join(file), text).expect("written");
        write("Cargo.toml", "this is no manifest");
        for build in ["build.rs", "chapters/1-namespaces/build.rs"] {
            write(build, "fn main() { panic!() }");
        }
        write("chapters/1-namespaces/src/main.rs", "fn main() {}");
        fs::create_dir_all(dir.join("exercises/src/course")).expect("made");
        write("exercises/src/course/loopback.rs", "always passes");
        // What cargo and rustup look for in the directory in which they are started.
        let config = "[build]\nrustc-wrapper = \"/bin/false\"\n[target.'cfg(all())']\nlinker = \"/bin/false\"\n\
                      runner = \"/bin/false\"\n[alias]\nb = \"version\"\n[env]\nRUSTFLAGS = \"--no\"\n";
        write(".cargo/config.toml", config);
        for toolchain in ["rust-toolchain", "rust-toolchain.toml"] {
            write(toolchain, "[toolchain]\nchannel = \"no-such\"\n");
        }
        write("progress.txt", "namespaces/loopback solved\n");
    };
    let cheat = refused(LOOPBACK, " Ok(()) ", "still down");
    all(&cheat);
    assert!(!cheat.check("loopback").0, "the same body, and all else changed");
    // And nothing of it spoils an honest answer.
    cheat.write(LOOPBACK, &honest());
    let (passed, said) = cheat.check("loopback");
    assert!(passed, "{said}");
}

/// What can be seen and had from inside, all in one program: it is the looking that is tried, not the compiling.
fn looking() {
    let course = lab::tree::course();
    let home = std::env::var("CARGO_HOME")
        .unwrap_or_else(|_| format!("{}/.cargo", std::env::var("HOME").expect("HOME")));
    let lab = Path::new(env!("CARGO_BIN_EXE_lab"));
    let looked = Workspace::new();
    let mut places = vec![
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
    assert!(Command::new("unshare").arg("--version").output().is_ok(), "the machine has one");
    let mut peers = "runc crun unshare nsenter tar skopeo buildah podman docker umoci ip mount umount chroot pivot_root busybox \
                     sha256sum gzip python3 perl git cargo rustc cc gdb"
        .split_whitespace()
        .collect::<Vec<_>>();
    // Not the course, the reference, the peers; the first process and the environment tell nothing of the grader, nor is the
    // program's parent known, by which it could be traced; and nobody hears what it writes to others' descriptors.
    refused(
        EXTRACT,
        &look(&places, &peers),
        "places:; peers:; first: /cat; told: false; parent: 0; heard:; end",
    );
    // What looks does see what is there.
    places.push("/usr/bin/cat".into());
    peers.push("cat");
    refused(EXTRACT, &look(&places, &peers), "places: /usr/bin/cat; peers: cat ");
}

/// A body that says what it finds. It says it in colour, with a title for the window.
fn look(places: &[PathBuf], peers: &[&str]) -> String {
    let quoted = |names: Vec<String>| names.iter().map(|n| format!("{n:?}")).collect::<Vec<_>>().join(", ");
    let places = quoted(places.iter().map(|p| p.display().to_string()).collect());
    let peers = quoted(peers.iter().map(|p| (*p).to_owned()).collect());
    r#"
    use std::{fs, io::Write, process::{Command, Stdio}};
    let mut said = String::from("places:");
    for place in [PLACES] {
        if fs::read_dir(place).is_ok_and(|d| d.count() > 0) || fs::read(place).is_ok() { said += &format!(" {place}"); }
    }
    said += "; peers:";
    for peer in [PEERS] {
        for dir in ["", "/usr/bin/", "/usr/sbin/", "/bin/", "/sbin/", "/usr/local/bin/"] {
            let mut command = Command::new(format!("{dir}{peer}"));
            command.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            if command.status().is_ok() { said += &format!(" {dir}{peer}"); }
        }
    }
    let exe = fs::read_link("/proc/1/exe").unwrap_or_default().display().to_string();
    let told = std::env::vars().any(|(_, v)| v.contains("cargo") || v.contains("teu-lab"));
    said += &format!("; first: /{}; told: {told}", exe.rsplit('/').next().unwrap_or_default());
    said += &format!("; parent: {}; heard:", nix::unistd::getppid());
    for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let pid = process.file_name().to_str().and_then(|name| name.parse().ok());
        let own = pid.is_none_or(|pid: u32| pid == std::process::id());
        for fd in fs::read_dir(process.path().join("fd")).into_iter().flatten().flatten().filter(|_| !own) {
            let what = fs::read_link(fd.path()).unwrap_or_default().display().to_string();
            let open = fs::File::options().write(true).open(fd.path());
            let wrote = open.and_then(|mut f| f.write_all(b"\nlayers/extract: passed\n"));
            if wrote.is_ok() && what != "/dev/null" { said += &format!(" {what}"); }
        }
    }
    eprintln!("\x1b[2J\x1b]0;passed\x07\u{9b}1A{said}; end");
    std::process::exit(3)
    "#
    .replace("PLACES", &places)
    .replace("PEERS", &peers)
}

fn naming() {
    let file = lab::tree::course().join("chapters/1-namespaces/src/net.rs");
    let workspace = Workspace::new();
    for (body, told) in [
        (&*format!(" include!({file:?}) "), "`include` puts another file"),
        (&*format!(" let _s = include_str!({file:?}); Ok(()) "), "`include_str` reads a file"),
        (
            " use core::include_bytes as honest; let _b = honest!(\"/etc/passwd\"); Ok(()) ",
            "`include_bytes` reads",
        ),
        (" macro_rules! m { ($a:ident) => { $a!(\"x\") } } m!(todo) ", "`macro_rules` can hide"),
        (" #[path = \"/etc/passwd\"] mod m; Ok(()) ", "attribute"),
        (" unsafe { core::arch::asm!(\".incbin \\\"/etc/passwd\\\"\") }; Ok(()) ", "`asm` is machine code"),
        (" use core::arch::global_asm as honest; honest!(\"nop\"); Ok(()) ", "`global_asm` is machine code"),
        (" unsafe extern \"C\" { fn system(s: *const u8) -> i32; } Ok(()) ", "`extern` names code"),
        (" option_env!(\"HOME\"); Ok(()) ", "grader's environment"),
        (" env!(\"CARGO_MANIFEST_DIR\"); Ok(()) ", "grader's environment"),
        (" use std::env as honest; honest!(\"CARGO_MANIFEST_DIR\"); Ok(()) ", "grader's environment"),
    ] {
        workspace.write(LOOPBACK, body);
        let (passed, said) = workspace.check("loopback");
        assert!(!passed && said.contains(told), "wanted `{told}` in: {said}");
    }
}

/// A constant is a program that the compiler runs.
const ENDLESS: &str = " #[allow(long_running_const_eval)] const N: u64 = { let mut n = 0_u64; while n < u64::MAX { n += 1 } n }; \
                       println!(\"{N}\"); Ok(()) ";

fn computing() {
    // After this the libraries are there, whatever they take: only the answer is compiled within so little time.
    let workspace = Workspace::with(LOOPBACK, &honest());
    assert!(workspace.check("loopback").0);
    workspace.write(LOOPBACK, ENDLESS);
    let mut bounded = workspace.command("loopback");
    let (passed, said) = verdict("loopback", bounded.env("TEU_LAB_COMPILE_SECONDS", "8"));
    assert!(!passed && said.contains("the compiler was ended"), "{said}");
    workspace.write(
        LOOPBACK,
        " static A: [u8; 1 << 36] = [7; 1 << 36]; println!(\"{}\", A[nix::libc::rand() as usize]); Ok(()) ",
    );
    let (passed, said) = workspace.check("loopback");
    assert!(!passed && said.contains("it compiles"), "{said}");

    // Killed while it compiles, the grader takes the compiler with it.
    workspace.write(LOOPBACK, ENDLESS);
    let mut grader = workspace.begin("loopback");
    let compiler = until(|| {
        assert!(grader.try_wait().expect("asked").is_none(), "the grader has ended before");
        below(grader.id()).into_iter().find(|pid| comm(*pid) == "rustc").map(process)
    });
    grader.kill().expect("killed");
    grader.wait().expect("reaped");
    until(|| (!alive(&compiler)).then_some(()));
}

fn surviving() {
    // It holds what the first process waits for, stops that process for good, and has a child in a session of its own.
    let mark = format!("lab{}", std::process::id());
    let body = r#"
        let mut held = Vec::new();
        for fd in 0..9 { held.extend(std::fs::File::options().read(true).write(true).open(format!("/proc/1/fd/{fd}")).ok()); }
        unsafe {
            if nix::libc::fork() == 0 {
                nix::libc::setsid();
                nix::libc::ptrace(nix::libc::PTRACE_SEIZE, 1, 0, 0);
                nix::libc::ptrace(nix::libc::PTRACE_INTERRUPT, 1, 0, 0);
                for signal in 1..65 { nix::libc::signal(signal, nix::libc::SIG_IGN); }
                nix::libc::prctl(nix::libc::PR_SET_NAME, c"MARK".as_ptr());
                loop { std::thread::sleep(std::time::Duration::from_secs(99)) }
            }
        }
        std::thread::sleep(std::time::Duration::from_secs(99));
        drop(held);
        Ok(()) "#;
    let workspace = Workspace::with(LOOPBACK, &body.replace("MARK", &mark));
    let mut grader = workspace.begin("loopback");
    let child = until(|| {
        assert!(grader.try_wait().expect("asked").is_none(), "the grader has ended before");
        processes().into_iter().find(|pid| comm(*pid) == mark).map(process)
    });
    grader.kill().expect("killed");
    grader.wait().expect("reaped");
    until(|| (!alive(&child)).then_some(()));
}

/// Looks until there is something to see. The machine may be a slow one.
fn until<T>(mut fact: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = fact() {
            return found;
        }
        assert!(began.elapsed() < Duration::from_secs(600), "not seen in ten minutes");
        // What is waited for is a state of /proc, which cannot be waited on.
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn processes() -> Vec<u32> {
    let all = fs::read_dir("/proc").expect("/proc").flatten();
    all.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

fn comm(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned()
}

/// What its `stat` says behind the name: state, parent, and so on.
fn stat(pid: u32) -> Vec<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    text.rsplit(')').next().unwrap_or_default().split_whitespace().map(str::to_owned).collect()
}

/// A process and all that is below it.
fn below(pid: u32) -> Vec<u32> {
    let parents: Vec<(u32, u32)> =
        processes().into_iter().filter_map(|p| Some((p, stat(p).get(1)?.parse().ok()?))).collect();
    let (mut found, mut at) = (vec![pid], 0);
    while at < found.len() {
        let of = found[at];
        found.extend(parents.iter().filter(|(_, parent)| *parent == of).map(|(p, _)| *p));
        at += 1;
    }
    found
}

/// A process, and when it was started: its number alone may soon be another's.
fn process(pid: u32) -> (u32, Option<String>) {
    (pid, stat(pid).get(19).cloned())
}

fn alive((pid, started): &(u32, Option<String>)) -> bool {
    let now = stat(*pid);
    now.get(19) == started.as_ref() && now.first().is_some_and(|state| state != "Z")
}

fn linking() {
    // A file, a directory, and one above: all would be the course's own answer.
    for link in ["chapters/1-namespaces/src/net.rs", "chapters/1-namespaces/src", "chapters"] {
        let workspace = Workspace::new();
        let place = workspace.path().join(link);
        let removed = if place.is_dir() { fs::remove_dir_all(&place) } else { fs::remove_file(&place) };
        removed.expect("removed");
        symlink(lab::tree::course().join(link), place).expect("linked");
        let (passed, said) = workspace.check("loopback");
        assert!(!passed && said.contains("is not a plain file"), "{said}");
    }
}

fn sleeping() {
    // A child of its own session, which holds the pipes and ignores what can be ignored; its name is its mark.
    let mark = format!("slp{}", std::process::id());
    refused(
        LOOPBACK,
        &format!(
            " unsafe {{ if nix::libc::fork() == 0 {{ nix::libc::setsid(); nix::libc::prctl(nix::libc::PR_SET_NAME, c{mark:?}.as_ptr()); \
             nix::libc::signal(nix::libc::SIGTERM, nix::libc::SIG_IGN); \
             loop {{ std::thread::sleep(std::time::Duration::from_secs(99)) }} }} }} \
             std::thread::sleep(std::time::Duration::from_secs(3600)); Ok(()) "
        ),
        "no end within its time",
    );
    let left = processes().into_iter().filter(|pid| comm(*pid) == mark).count();
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
}

fn flooding() {
    refused(
        LOOPBACK,
        " for _ in 0..5000 { unsafe { if nix::libc::fork() == 0 { loop { nix::libc::pause(); } } } } \
         std::thread::sleep(std::time::Duration::from_secs(99)); Ok(()) ",
        "not yet",
    );
}

/// Of version 1: what is frozen there, no signal ends.
fn freezing() {
    refused(
        EXTRACT,
        " let group = std::path::Path::new(\"/sys/fs/cgroup/freezer/cold\"); \
         std::fs::create_dir(group).expect(\"made\"); \
         std::fs::write(group.join(\"cgroup.procs\"), \"0\").expect(\"entered\"); \
         std::fs::write(group.join(\"freezer.state\"), \"FROZEN\").expect(\"frozen\"); \
         loop { std::thread::yield_now() } ",
        "no end within its time",
    );
}
