//! A class is graded unattended: whole, broken, hostile and missing workspaces, each a row; killed and gone on with; nothing left.

use kit::{Case, Need};
use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

const ITEM: &str = "namespaces::net::loopback_up";

fn main() {
    kit::run(vec![Case::new(
        "a_class_is_graded_to_its_end_and_leaves_nothing",
        &[Need::UserNamespaces],
        whole,
    )]);
}

fn whole() {
    let dir = tempfile::tempdir().expect("a directory");
    let class = Class { at: dir.path() };
    let mark = format!("cls{}", std::process::id());
    hand_in(&class, &mark);
    let before = kit::Traces::now().mounts;

    // Killed after the first; what it was grading ends with it, and it goes on where it was.
    let mut begun =
        class.command(&[]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
    until(|| class.result("ann").exists() || begun.try_wait().expect("asked").is_some());
    begun.kill().expect("killed");
    begun.wait().expect("reaped");
    until(|| class.processes() == 0);
    let (code, said) = class.grade(&[]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("(graded before)"), "{said}");
    assert_eq!(said.lines().filter(|l| l.contains(" of 10 ")).count(), 10, "{said}");

    rows(&class, &said);
    // What has been graded is not graded again, unless it is wanted; one that is gone is.
    fs::remove_file(class.result("ann")).expect("removed");
    let (_, said) = class.grade(&[]);
    assert_eq!(said.matches("(graded before)").count(), 9, "{said}");
    let (_, said) = class.grade(&["--again"]);
    assert_eq!(said.matches("(graded before)").count(), 0, "{said}");
    claimed(&class);

    until(|| class.processes() == 0);
    let left: Vec<_> = fs::read_dir(class.temporary()).expect("read").flatten().map(|e| e.path()).collect();
    assert!(left.is_empty(), "left in the directory for temporary files: {left:?}");
    let mounts: Vec<_> = kit::Traces::now().mounts;
    let new: Vec<_> = mounts.iter().filter(|m| !before.contains(m) && m.contains("teu-lab-")).collect();
    assert!(new.is_empty(), "mounted: {new:?}");
    assert_eq!(groups(), 0, "control groups of graders that have ended");
    let marked = processes().filter(|p| fs::read_to_string(p.join("comm")).is_ok_and(|c| c.trim() == mark));
    assert_eq!(marked.count(), 0, "what a submission started is still there");
}

/// Workspaces of one chapter, for the others take time: whoever hands in no others has no points for them.
fn hand_in(class: &Class, mark: &str) {
    let whole = class.at.join("given");
    lab::tree::start(&lab::tree::course(), &whole, lab::course::ALL).expect("started");
    for other in ["2-cgroups", "3-layers", "4-dockerfile", "5-registry"] {
        fs::remove_dir_all(whole.join("chapters").join(other)).expect("removed");
    }
    fs::remove_dir_all(whole.join("src")).expect("removed");
    for name in ["ann", "bob", "cid", "eve", "fay", "gus", "hal", "ida", "jon"] {
        let copy = class.workspace(name);
        fs::create_dir_all(copy.parent().expect("a directory")).expect("made");
        let copied = Command::new("cp").arg("-a").arg(&whole).arg(&copy).status();
        assert!(copied.expect("cp starts").success());
    }
    let write = |name: &str, body: String| {
        lab::source::replace(&class.workspace(name), &[(ITEM, body)]).expect("written")
    };
    // Ann has done nothing, and claims all.
    fs::write(class.workspace("ann").join("progress.txt"), "namespaces/loopback solved\n").expect("written");
    // Bob has solved one; Cid's is no Rust any more; Dee has handed in nothing.
    let own = lab::source::body(&lab::tree::course(), ITEM).expect("found").text;
    write("bob", format!("\n    // mine\n{own}"));
    fs::write(class.workspace("cid").join("chapters/1-namespaces/src/lib.rs"), "((((").expect("written");
    fs::create_dir_all(class.at.join("class/dee/photos")).expect("made");
    // Eve's makes processes, Fay's talks without end, Gus's fills the disk.
    write(
        "eve",
        format!(
            " unsafe {{ nix::libc::prctl(nix::libc::PR_SET_NAME, c{mark:?}.as_ptr()) }}; \
             for _ in 0..5000 {{ unsafe {{ if nix::libc::fork() == 0 {{ loop {{ nix::libc::pause(); }} }} }} }} \
             std::thread::sleep(std::time::Duration::from_secs(99)); Ok(()) "
        ),
    );
    write("fay", " loop { println!(\"{}\", \"\\x1b[2J passed \".repeat(999)); } ".into());
    write(
        "gus",
        " use std::io::Write; let mut full = std::fs::File::create(\"/tmp/full\").expect(\"made\"); \
         while full.write_all(&[7; 1 << 16]).is_ok() {} Ok(()) "
            .into(),
    );
    // Hal's file is as long as a film, Ida's is nobody's to read, and all of Jon's chapters are a link to ours.
    let file = |name: &str| class.workspace(name).join("chapters/1-namespaces/src/net.rs");
    let long = fs::File::options().write(true).open(file("hal")).expect("opened");
    long.set_len(1 << 40).expect("long, and full of holes");
    fs::set_permissions(file("ida"), fs::Permissions::from_mode(0o000)).expect("closed");
    let chapters = class.workspace("jon").join("chapters");
    fs::remove_dir_all(&chapters).expect("removed");
    symlink(lab::tree::course().join("chapters"), chapters).expect("linked");
}

fn rows(class: &Class, said: &str) {
    let row = |name: &str| -> serde_json::Value {
        serde_json::from_slice(&fs::read(class.result(name)).expect("a result")).expect("JSON")
    };
    for (name, points, told) in [
        ("ann", 0, "the function is still empty"),
        ("bob", 10, "passed"),
        ("cid", 0, "is not Rust"),
        ("eve", 0, "failed"),
        ("fay", 0, "failed"),
        ("gus", 0, "failed"),
        ("hal", 0, "is larger than"),
        ("ida", 0, "namespaces/loopback"),
        ("jon", 0, "is not a plain file"),
    ] {
        let row = row(name);
        assert_eq!(row["points"], points, "{name}: {said}");
        assert!(row["exercises"].to_string().contains(told), "{name}: wanted `{told}` in {row:#}");
        assert!(!row.to_string().contains("\\u001b"), "{name}: {row:#}");
    }
    assert!(row("dee")["error"].as_str().is_some_and(|e| e.contains("no workspace")), "{said}");
    let csv = fs::read_to_string(class.at.join("results/class.csv")).expect("a table");
    assert_eq!(csv.lines().count(), 11, "{csv}");
    let page = fs::read_to_string(class.at.join("results/bob.html")).expect("a page");
    assert!(page.contains("<title>bob: 10 of"));
}

/// Progress and a report that are written by hand are not believed.
fn claimed(class: &Class) {
    let report = class.workspace("ann").join("results.json");
    fs::write(&report, "{ \"score\": 1000 }").expect("written");
    let mut command = class.lab();
    command.arg("-C").arg(class.workspace("ann")).args(["grade", "--json", "--cache", "results/cache"]);
    let output = command.arg("--gradescope").arg(&report).output().expect("the lab starts");
    let grade: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((output.status.code(), &grade["points"]), (Some(1), &serde_json::json!(0)), "{grade:#}");
    let written: serde_json::Value =
        serde_json::from_slice(&fs::read(&report).expect("a report")).expect("JSON");
    assert_eq!(written["score"], 0);
    assert!(grade["exercises"].as_array().is_some_and(|rows| rows.iter().all(|r| r["verdict"] != "passed")));
}

/// In a directory, with one for temporary files that nobody else uses.
struct Class<'a> {
    at: &'a Path,
}

impl Class<'_> {
    fn workspace(&self, name: &str) -> PathBuf {
        self.at.join("class").join(name).join("repository/teu-lab")
    }

    fn result(&self, name: &str) -> PathBuf {
        self.at.join("results").join(format!("{name}.json"))
    }

    fn temporary(&self) -> PathBuf {
        self.at.join("tmp")
    }

    fn lab(&self) -> Command {
        fs::create_dir_all(self.temporary()).expect("made");
        let mut command = Command::new(env!("CARGO_BIN_EXE_lab"));
        command.current_dir(self.at).env("TMPDIR", self.temporary());
        command
    }

    fn command(&self, more: &[&str]) -> Command {
        let mut command = self.lab();
        command.args(["class", "class", "--results", "results"]).args(more);
        command
    }

    fn grade(&self, more: &[&str]) -> (Option<i32>, String) {
        let output = self.command(more).output().expect("the lab starts");
        let said =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        (output.status.code(), said)
    }

    /// How many processes know this directory: by their words or by what they were given.
    fn processes(&self) -> usize {
        let name = self.at.display().to_string();
        let knows =
            |file: PathBuf| fs::read(file).is_ok_and(|text| String::from_utf8_lossy(&text).contains(&name));
        processes().filter(|p| knows(p.join("cmdline")) || knows(p.join("environ"))).count()
    }
}

fn processes() -> impl Iterator<Item = PathBuf> {
    let all = fs::read_dir("/proc").expect("/proc").flatten().map(|e| e.path());
    all.filter(|p| p.file_name().and_then(|n| n.to_str()).is_some_and(|n| n.parse::<u32>().is_ok()))
}

/// Looks until it is so. What is waited for are files and processes of others, and the machine may be a slow one.
fn until(mut so: impl FnMut() -> bool) {
    let began = std::time::Instant::now();
    while !so() {
        assert!(began.elapsed() < Duration::from_secs(900), "not seen in fifteen minutes");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The control groups of graders that have ended.
fn groups() -> usize {
    let dead =
        |name: &str| name.strip_prefix("teu-lab-").is_some_and(|pid| !Path::new("/proc").join(pid).exists());
    let trees = fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten();
    let inside = trees.flat_map(|t| fs::read_dir(t.path()).into_iter().flatten().flatten());
    inside.filter(|e| e.file_name().to_str().is_some_and(dead)).count()
}
