//! `teu doctor`: what this kernel can do, and what is lost without it.
//!
//! A kernel's version says little: distributions carry features back, and forbid others by a sysctl, a
//! seccomp filter or a security module. So every feature is tried, in a child process and in namespaces
//! of its own that vanish with it ([`probe`]). Nothing is changed.
//!
//! | module | what it tries |
//! |---|---|
//! | [`namespaces`] | each kind of namespace |
//! | [`filesystems`] | what a container's root is made of |
//! | [`cgroup`] | control groups and their controllers |
//! | [`calls`] | system calls that not every kernel has |
//! | [`network`] | bridges, pairs of cards, tables of rules |
//! | [`helpers`] | security modules and programs that others have set up |

mod calls;
mod cgroup;
mod filesystems;
mod helpers;
mod namespaces;
mod network;
mod probe;

use crate::client::align;
use nix::unistd::geteuid;
use serde::Serialize;
use std::{fmt::Write, process::ExitCode};

/// What this machine can do, and what is lost without it
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Doctor {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Whether something is here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Here {
    /// It is, and works.
    Yes,
    /// It is not, and what needs it fails, or does without.
    No,
}

/// One thing that was looked at.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Check {
    /// What kind of thing: a heading of the table.
    pub(crate) group: &'static str,
    /// Its name.
    pub(crate) name: String,
    /// Whether it is here.
    pub(crate) here: Here,
    /// Without it no container runs.
    pub(crate) essential: bool,
    /// What needs it: a flag, a command, with the section of the book.
    pub(crate) needed_for: &'static str,
    /// What was found, or what the kernel answered.
    pub(crate) found: String,
    /// What to do about it, if it is missing.
    pub(crate) remedy: &'static str,
}

/// Everything that was looked at.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    /// The machine, in a line.
    pub(crate) machine: String,
    /// Whether containers can run here.
    pub(crate) able: bool,
    /// What was looked at.
    pub(crate) checks: Vec<Check>,
}

/// Looks at everything. Call it before any thread exists: it forks.
pub(crate) fn examine() -> Report {
    let mut checks = Vec::new();
    checks.extend(namespaces::checks());
    checks.extend(filesystems::checks());
    checks.extend(cgroup::checks());
    checks.extend(calls::checks());
    checks.extend(network::checks());
    checks.extend(helpers::security());
    checks.extend(helpers::programs());
    let able = checks.iter().all(|c| !c.essential || c.here == Here::Yes);
    Report { machine: describe(), able, checks }
}

/// The machine in a line.
fn describe() -> String {
    let name = nix::sys::utsname::uname();
    let kernel = name.map(|n| n.release().to_string_lossy().into_owned()).unwrap_or_default();
    let who =
        if geteuid().is_root() { "root".to_owned() } else { format!("an ordinary user (uid {})", geteuid()) };
    format!("Linux {kernel} on {}, as {who}", crate::client::architecture())
}

/// `doctor`. Fails if no container can run here.
pub(crate) fn main(args: &Doctor) -> ExitCode {
    let report = examine();
    if args.json {
        match serde_json::to_string_pretty(&report) {
            Ok(text) => println!("{text}"),
            Err(why) => eprintln!("cannot write the report: {why}"),
        }
    } else {
        print!("{}", text(&report));
    }
    if report.able { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The report as a table, what is missing with what to do about it below.
fn text(report: &Report) -> String {
    let mut text = format!("{}\n", report.machine);
    let mut rows = Vec::new();
    let mut group = "";
    for check in &report.checks {
        if check.group != group {
            group = check.group;
            rows.push(vec![String::new()]);
            rows.push([&group.to_uppercase(), "HERE", "NEEDED FOR", "FOUND"].map(str::to_owned).to_vec());
        }
        let here = match (check.here, check.essential) {
            (Here::Yes, _) => "yes",
            (Here::No, true) => "MISSING",
            (Here::No, false) => "no",
        };
        rows.push(vec![
            check.name.clone(),
            here.to_owned(),
            check.needed_for.to_owned(),
            check.found.clone(),
        ]);
    }
    for line in align(&rows).lines() {
        let _ = writeln!(text, "{}", line.trim_end());
    }
    let missing: Vec<_> =
        report.checks.iter().filter(|c| c.here == Here::No && !c.remedy.is_empty()).collect();
    if !missing.is_empty() {
        text.push_str("\nWhat to do about what is missing:\n");
        for check in missing {
            let _ = writeln!(text, "  {}: {}", check.name, check.remedy);
        }
    }
    text.push_str(match report.able {
        true => "\nContainers can run here.\n",
        false => "\nContainers cannot run here: see what is MISSING above.\n",
    });
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, here: Here, essential: bool) -> Check {
        Check {
            group: "namespaces",
            name: name.into(),
            here,
            essential,
            needed_for: "every container (7.1)",
            found: "EPERM".into(),
            remedy: "sysctl -w user.max_user_namespaces=15000",
        }
    }

    #[test]
    fn what_is_missing_is_said_with_what_to_do() {
        let checks = vec![check("pid", Here::Yes, true), check("user", Here::No, true)];
        let report = Report { machine: "Linux 6.1 on amd64, as root".into(), able: false, checks };
        insta::assert_snapshot!(text(&report), @r"
        Linux 6.1 on amd64, as root

        NAMESPACES   HERE      NEEDED FOR              FOUND
        pid          yes       every container (7.1)   EPERM
        user         MISSING   every container (7.1)   EPERM

        What to do about what is missing:
          user: sysctl -w user.max_user_namespaces=15000

        Containers cannot run here: see what is MISSING above.
        ");
    }
}
