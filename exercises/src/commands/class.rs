//! Many workspaces, graded one after the other. Each is judged by a process of its own: whatever is in it, it can end only
//! that, and the class goes on.

use crate::{FAULT, NOT_YET};
use anyhow::{Context, Result, bail};
use comfy_table::{Table, presets};
use lab::{course, files, sandbox, verdict::printable};
use nix::sys::{prctl, signal::Signal};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    fs,
    io::Read,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

/// The longest that a submission may take.
const LIMIT: Duration = Duration::from_secs(20 * 60);

/// How deep in a submission its workspace may be.
const DEPTH: usize = 3;

/// What `class` is told.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Workspaces, or directories of submissions that have one in them
    #[arg(required = true)]
    dirs: Vec<PathBuf>,
    /// Where the results are: a file a submission, so that a class can be stopped and gone on with
    #[arg(long, value_name = "DIR", default_value = "class-results")]
    results: PathBuf,
    /// Grade also what has been graded
    #[arg(long)]
    again: bool,
}

/// A submission: what it is called, and where its workspace is.
struct Submission {
    name: String,
    workspace: Option<PathBuf>,
}

/// Grades them all.
pub(crate) fn class(options: &Options) -> Result<ExitCode> {
    let submissions = find(&options.dirs)?;
    if submissions.is_empty() {
        bail!("there is no submission in the directories given");
    }
    fs::create_dir_all(&options.results).with_context(|| format!("make {}", options.results.display()))?;
    let mut rows = Vec::new();
    for (n, submission) in submissions.iter().enumerate() {
        let file = options.results.join(format!("{}.json", submission.name));
        let before = if options.again { None } else { read(&file) };
        let (row, note) = match before {
            Some(row) => (row, " (graded before)"),
            None => {
                let row = grade(submission, &options.results)?;
                files::write(&file, format!("{row:#}").as_bytes())?;
                (row, "")
            }
        };
        let told = match row["error"].as_str() {
            Some(why) => why.to_owned(),
            None => format!("{} of {} points", row["points"], row["of"]),
        };
        println!("{:>3} of {}  {:<24} {told}{note}", n + 1, submissions.len(), submission.name);
        rows.push(row);
    }
    files::write(&options.results.join("class.csv"), csv(&rows).as_bytes())?;
    println!("\n{}", table(&rows));
    println!(
        "\n{0}/class.csv has the table, {0}/NAME.html a page for each of them.",
        options.results.display()
    );
    let broken = rows.iter().any(|r| r["error"].is_string());
    Ok(if broken { ExitCode::from(NOT_YET) } else { ExitCode::SUCCESS })
}

/// The submissions in these directories: one that is a workspace or has `teu-lab` in it is a submission itself; of any other
/// each directory is one.
fn find(dirs: &[PathBuf]) -> Result<Vec<Submission>> {
    let (mut all, mut names) = (Vec::new(), BTreeSet::new());
    let mut add = |dir: &Path, workspace: Option<PathBuf>| -> Result<()> {
        let dir = dir.canonicalize().with_context(|| dir.display().to_string())?;
        let plain = |c: char| if c.is_alphanumeric() || "-_.".contains(c) { c } else { '_' };
        let name: String = dir.file_name().unwrap_or_default().to_string_lossy().chars().map(plain).collect();
        let name = name.trim_start_matches('.').to_owned();
        // Two that are called the same are told apart by a number.
        let mut unique = name.clone();
        let mut n = 2;
        while !names.insert(unique.clone()) {
            unique = format!("{name}-{n}");
            n += 1;
        }
        all.push(Submission { name: unique, workspace });
        Ok(())
    };
    for dir in dirs {
        let own = [dir.clone(), dir.join(crate::HOME)].into_iter().find(|d| is_workspace(d));
        if own.is_some() {
            add(dir, own)?;
            continue;
        }
        for inside in inside(dir).with_context(|| format!("read {}", dir.display()))? {
            let workspace = below(&inside, DEPTH);
            add(&inside, workspace)?;
        }
    }
    Ok(all)
}

fn is_workspace(dir: &Path) -> bool {
    dir.join("Cargo.toml").is_file() && dir.join("chapters/1-namespaces").is_dir()
}

/// The directories in a directory, links left out.
fn inside(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() && !entry.file_name().as_encoded_bytes().starts_with(b".") {
            all.push(entry.path());
        }
    }
    all.sort();
    Ok(all)
}

fn below(dir: &Path, depth: usize) -> Option<PathBuf> {
    if is_workspace(dir) {
        return Some(dir.to_owned());
    }
    let deeper = depth.checked_sub(1)?;
    inside(dir).ok()?.iter().find_map(|d| below(d, deeper))
}

fn read(file: &Path) -> Option<Value> {
    serde_json::from_slice(&fs::read(file).ok()?).ok()
}

/// Has one graded by another process of this program.
fn grade(submission: &Submission, results: &Path) -> Result<Value> {
    let broken = |why: String| json!({ "name": submission.name, "error": why });
    let Some(workspace) = &submission.workspace else {
        return Ok(broken("there is no workspace in it (a directory made by `cargo lab start`)".into()));
    };
    // By this name it is this program also when another one has been built in its place meanwhile.
    let mut command = Command::new("/proc/self/exe");
    // SAFETY: between fork and exec, one system call. When the class is killed, its grader tidies up and ends.
    unsafe {
        command.pre_exec(|| Ok(prctl::set_pdeathsig(Signal::SIGTERM)?));
    }
    let mut child = command
        .arg("-C")
        .arg(workspace)
        .args(["grade", "--json", "--name", &submission.name])
        .arg("--html")
        .arg(results.join(format!("{}.html", submission.name)))
        .arg("--cache")
        .arg(results.join("cache"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("start the grader of one submission")?;
    let read = |pipe: Option<Box<dyn Read + Send>>| {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            if let Some(mut pipe) = pipe {
                let _ = pipe.read_to_end(&mut bytes); // what is missing is missing in the JSON too
            }
            bytes
        })
    };
    let said = read(child.stdout.take().map(|p| Box::new(p) as _));
    let complained = read(child.stderr.take().map(|p| Box::new(p) as _));
    let began = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break Some(status);
        }
        if began.elapsed() > LIMIT {
            child.kill().context("end the grader of one submission")?;
            sandbox::end(child.id())?;
            child.wait()?;
            break None;
        }
        // The standard library has no wait with a limit; a grade takes seconds.
        std::thread::sleep(Duration::from_millis(50));
    };
    let said = said.join().unwrap_or_default();
    let complained = String::from_utf8_lossy(&complained.join().unwrap_or_default()).into_owned();
    let Some(status) = status else {
        return Ok(broken(format!("its grader was ended after {} minutes", LIMIT.as_secs() / 60)));
    };
    match serde_json::from_slice(&said) {
        Ok(row) if status.code().is_some_and(|c| c != i32::from(FAULT)) => Ok(row),
        _ => {
            let last = complained.lines().rfind(|l| !l.trim().is_empty()).unwrap_or("it said nothing");
            Ok(broken(printable(&format!("its grader ended with {status}: {}", last.trim()))))
        }
    }
}

fn table(rows: &[Value]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(["SUBMISSION", "POINTS", "OF", "NOT CHECKED", ""]);
    for row in rows {
        let open = exercises(row).filter(|e| e["verdict"] == "not checked").count();
        let open = if open == 0 { String::new() } else { open.to_string() };
        let number = |name: &str| row[name].as_u64().map(|n| n.to_string()).unwrap_or_default();
        let error = row["error"].as_str().unwrap_or_default();
        table.add_row([
            row["name"].as_str().unwrap_or_default(),
            &number("points"),
            &number("of"),
            &open,
            error,
        ]);
    }
    table
}

fn exercises(row: &Value) -> impl Iterator<Item = &Value> {
    row["exercises"].as_array().into_iter().flatten()
}

/// A line a submission, a column an exercise (RFC 4180).
fn csv(rows: &[Value]) -> String {
    let mut out = String::from("submission,points,of,error");
    for e in course::ALL {
        out += &format!(",{}", e.id);
    }
    for row in rows {
        let number = |value: &Value| value.as_u64().map(|n| n.to_string()).unwrap_or_default();
        let text = |name: &str| cell(row[name].as_str().unwrap_or_default());
        out += &format!(
            "\r\n{},{},{},{}",
            text("name"),
            number(&row["points"]),
            number(&row["of"]),
            text("error")
        );
        for e in course::ALL {
            let own = exercises(row).find(|r| r["exercise"] == e.id);
            out += &format!(",{}", own.map(|r| number(&r["points"])).unwrap_or_default());
        }
    }
    out + "\r\n"
}

/// A table calculation takes what begins so for a formula.
fn cell(text: &str) -> String {
    let guard = if text.starts_with(['=', '+', '-', '@', '\t', '\r']) { "'" } else { "" };
    format!("\"{guard}{}\"", text.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_no_formula_and_no_second_cell() {
        assert_eq!(cell("=1+1"), "\"'=1+1\"");
        assert_eq!(cell("a\",b"), "\"a\"\",b\"");
        let row = json!({ "name": "ann", "error": "gone, \"all\"" });
        assert!(csv(&[row]).contains("\r\n\"ann\",,,\"gone, \"\"all\"\"\","));
    }

    #[test]
    fn submissions_are_found_with_their_workspaces() {
        let dir = tempfile::tempdir().expect("a directory");
        let make = |path: &str| {
            fs::create_dir_all(dir.path().join(path).join("chapters/1-namespaces")).expect("made");
            fs::write(dir.path().join(path).join("Cargo.toml"), "").expect("written");
        };
        make("class/ann/repo/teu-lab");
        make("class/bob");
        make("other/bob");
        fs::create_dir_all(dir.path().join("class/eve/photos")).expect("made");
        let found = find(&[dir.path().join("class"), dir.path().join("other/bob")]).expect("found");
        let told: Vec<_> = found.iter().map(|s| (s.name.as_str(), s.workspace.is_some())).collect();
        assert_eq!(told, [("ann", true), ("bob", true), ("eve", false), ("bob-2", true)]);
    }
}
