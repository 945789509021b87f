//! A class is graded unattended: whole, broken and missing workspaces, each a row; stopped and gone on with; nothing left.

use kit::{Case, Need};
use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

fn main() {
    kit::run(vec![Case::new(
        "a_class_is_graded_to_its_end_and_leaves_nothing",
        &[Need::UserNamespaces],
        || {
            let dir = tempfile::tempdir().expect("a directory");
            let at = dir.path();
            for name in ["ann", "bob", "cid"] {
                let workspace = at.join("class").join(name).join("repository/teu-lab");
                fs::create_dir_all(workspace.parent().expect("a directory")).expect("made");
                let lab =
                    Command::new(env!("CARGO_BIN_EXE_lab")).arg("-C").arg(&workspace).arg("start").output();
                assert!(lab.expect("the lab starts").status.success());
            }
            // Bob has solved one; Cid's is no Rust any more, and one file is a link to nowhere; Dee has handed in nothing.
            let item = "namespaces::net::loopback_up";
            let bob = at.join("class/bob/repository/teu-lab");
            let body = lab::source::body(&lab::tree::course(), item).expect("found").text;
            lab::source::replace(&bob, &[(item, format!("\n    // mine\n{body}"))]).expect("written");
            let cid = at.join("class/cid/repository/teu-lab/chapters");
            fs::write(cid.join("1-namespaces/src/lib.rs"), "((((").expect("written");
            fs::remove_file(cid.join("3-layers/src/lib.rs")).expect("removed");
            std::os::unix::fs::symlink("lib.rs", cid.join("3-layers/src/lib.rs")).expect("linked");
            fs::create_dir_all(at.join("class/dee/photos")).expect("made");

            let before = (mounts(), groups());
            let output = class(at, &[]);
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            assert_eq!(output.status.code(), Some(1), "{said}{}", String::from_utf8_lossy(&output.stderr));
            assert_eq!((mounts(), groups()), before, "something is left behind");

            let points = |name: &str| -> serde_json::Value {
                let text = fs::read(at.join("results").join(format!("{name}.json"))).expect("a result");
                serde_json::from_slice::<serde_json::Value>(&text).expect("JSON")
            };
            assert_eq!(
                (&points("ann")["points"], &points("cid")["points"]),
                (&0.into(), &0.into()),
                "{said}"
            );
            assert_eq!(points("bob")["points"], 10, "{said}");
            assert!(points("dee")["error"].as_str().is_some_and(|e| e.contains("no workspace")), "{said}");
            assert!(points("cid")["exercises"].to_string().contains("not a plain file"), "{said}");
            let csv = fs::read_to_string(at.join("results/class.csv")).expect("a table");
            assert_eq!(csv.lines().count(), 5, "{csv}");
            assert!(
                fs::read_to_string(at.join("results/bob.html"))
                    .expect("a page")
                    .contains("<title>bob: 10 of")
            );

            // Stopped after Ann: the others are found.
            fs::remove_file(at.join("results/ann.json")).expect("removed");
            let said = String::from_utf8_lossy(&class(at, &[]).stdout).into_owned();
            assert_eq!(said.matches("(graded before)").count(), 3, "{said}");
            let said = String::from_utf8_lossy(&class(at, &["--again"]).stdout).into_owned();
            assert_eq!(said.matches("(graded before)").count(), 0, "{said}");
        },
    )]);
}

fn class(at: &Path, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lab"));
    command.current_dir(at).args(["class", "class", "--results", "results"]).args(more);
    command.output().expect("the lab starts")
}

/// How many of the host's mounts are a grader's, and its control groups that are.
fn mounts() -> usize {
    let text = fs::read_to_string("/proc/self/mountinfo").expect("read");
    text.lines().filter(|l| l.contains(" - tmpfs lab ")).count()
}

/// Those of this test: other labs may run.
fn groups() -> usize {
    let dead =
        |name: &str| name.strip_prefix("teu-lab-").is_some_and(|pid| !Path::new("/proc").join(pid).exists());
    let trees = fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten();
    let inside = trees.flat_map(|t| fs::read_dir(t.path()).into_iter().flatten().flatten());
    inside.filter(|e| e.file_name().to_str().is_some_and(dead)).count()
}
