//! chroot changes what a process calls `/`; pivot_root changes what the namespace has there.

use super::{Answer, Case, Exercise, Wrong};
use crate::{
    bundle::Bundle,
    course::{never_started, started},
    facts, run,
    verdict::Verdict,
};
use anyhow::Result;
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, setns, unshare},
};
use std::{fs::File, os::unix::process::CommandExt, process::Command};

pub(super) const EXERCISE: Exercise = Exercise {
    id: "namespaces/pivot",
    title: "make the new root the root, and let go of the old",
    section: "7.1",
    items: &["namespaces::rootfs::pivot"],
    program: "namespaces",
    points: 20,
    task: "`root` is the new root: a mount, with everything mounted in it. Make it the root of the mount namespace, and\n\
           leave nothing of the host's root behind: not reachable, not mounted. No directory inside the image may be needed\n\
           for that, since an image may be read-only. `propagation` is linux.rootfsPropagation: where it leaves mounts shared with\n\
           the host (not `is_all_cut_off`), the old root has to become a slave before it goes, or the host's own mounts go with it;\n\
           and at the end it is what the new root gets (`options::propagation`).",
    invariants: &[
        "whoever enters the mount namespace finds the image at /",
        "no file system of the host's root is mounted in it any more",
        "the working directory is the new root",
        "the host's own mounts stay, also where they are shared with ours",
    ],
    predict: "after pivot_root(\".\", \".\"), what is mounted at \"/\"? One thing, or two?",
    hints: [
        "pivot_root(2), \"NOTES\": both arguments may be the same directory.",
        "Then the old root is stacked on the new one at the same place, and is what \".\" means there.",
        "fchdir into the new root; pivot_root(\".\", \".\"); umount2(\".\", MNT_DETACH); chdir(\"/\").",
    ],
    why: (
        "Why is the unmount a lazy one (MNT_DETACH)?",
        "The old root holds other mounts, and this process came from it: a plain unmount would find it busy (EBUSY).",
    ),
    check,
    wrong: &[
        Wrong {
            name: "chroot instead",
            answer: Answer::Body(
                " let _ = propagation; fchdir(root).doing(|| \"x\".into())?; chroot(\".\").doing(|| \"x\".into())?; chdir(\"/\").doing(|| \"x\".into()) ",
            ),
            told: "the host's root",
        },
        Wrong {
            name: "the old root stays mounted",
            answer: Answer::Body(
                " let _ = propagation; fchdir(root).doing(|| \"x\".into())?; pivot_root(\".\", \".\").doing(|| \"x\".into())?; chdir(\"/\").doing(|| \"x\".into()) ",
            ),
            told: "the host's root",
        },
        Wrong {
            name: "the old root is put below the new one and stays there",
            answer: Answer::Body(
                " let _ = propagation; fchdir(root).doing(|| \"x\".into())?; pivot_root(\".\", \"old\").doing(|| \"x\".into())?; chdir(\"/\").doing(|| \"x\".into()) ",
            ),
            told: "still mounted",
        },
        Wrong {
            name: "a plain unmount",
            answer: Answer::Body(
                " let _ = propagation; fchdir(root).doing(|| \"x\".into())?; pivot_root(\".\", \".\").doing(|| \"x\".into())?; umount2(\".\", MntFlags::empty()).doing(|| \"let go of the old root\".into())?; chdir(\"/\").doing(|| \"x\".into()) ",
            ),
            told: "EBUSY",
        },
        Wrong {
            name: "nothing is done",
            answer: Answer::Body(" let _ = (root, propagation); Ok(()) "),
            told: "the host's root",
        },
    ],
};

fn check(case: &Case) -> Result<Verdict> {
    let bundle = Bundle::new(case, "cat")?;
    bundle.write()?;
    let mut running = run::start(case.command().arg("run").arg(&bundle.dir))?;
    let Some(pid) = started(&mut running, &bundle)? else {
        return never_started(running, |said| {
            if said.contains("EBUSY") {
                "the old root is busy: was the umount detached?"
            } else {
                "is the new root the root now, and the working directory in it?"
            }
        });
    };
    // From outside: what does somebody find who enters the namespace, at its root and not at the process's?
    let enter = |words: &[&str]| -> Result<String> {
        let ns = |kind: &str| File::open(format!("/proc/{pid}/ns/{kind}"));
        let (user, mount) = (ns("user")?, ns("mnt")?);
        let mut command = Command::new(words[0]);
        let ordinary = !nix::unistd::geteuid().is_root();
        command.args(&words[1..]).env_clear();
        // SAFETY: between fork and exec only two system calls are made.
        unsafe {
            command.pre_exec(move || {
                if ordinary {
                    setns(&user, CloneFlags::CLONE_NEWUSER)?; // first: it gives the right to the other
                }
                setns(&mount, CloneFlags::CLONE_NEWNS)?;
                Ok(())
            });
        }
        Ok(String::from_utf8_lossy(&command.output()?.stdout).into_owned())
    };
    let marker = enter(&["/bin/cat", "/etc/marker"])?;
    if marker != bundle.word {
        return Ok(Verdict::failed(
            format!(
                "whoever enters the namespace finds the image at / (its /etc/marker says {})",
                bundle.word
            ),
            "the host's root is there, over or under the image's",
            "chroot changes only what this process calls /; and after pivot_root(\".\", \".\") the old root must be unmounted",
        ));
    }
    let old = facts::mounts(pid).into_iter().map(|m| m.at).find(|at| at == "/old" || at.starts_with("/old/"));
    if let Some(old) = old {
        return Ok(Verdict::failed(
            "no file system of the host's root is mounted in the namespace",
            format!("it is still mounted, at {old}"),
            "the old root has to be unmounted, wherever it was put",
        ));
    }
    drop(running);
    // A shared tree is only root's to make.
    if nix::unistd::geteuid().is_root() { shared(case, bundle) } else { Ok(Verdict::Passed) }
}

/// A container that asks to share its mounts, on a host (in a mount namespace of its own) that shares them, too: what we let
/// go of there, goes there.
fn shared(case: &Case, mut bundle: Bundle) -> Result<Verdict> {
    bundle.config["linux"]["rootfsPropagation"] = "rshared".into();
    bundle.write()?;
    let mut command = case.command();
    command.arg("run").arg(&bundle.dir);
    // SAFETY: between fork and exec only system calls are made.
    unsafe {
        command.pre_exec(|| {
            unshare(CloneFlags::CLONE_NEWNS)?;
            for flag in [MsFlags::MS_SLAVE, MsFlags::MS_SHARED] {
                mount(None::<&str>, "/", None::<&str>, flag | MsFlags::MS_REC, None::<&str>)?;
            }
            Ok(())
        });
    }
    let mut running = run::start(&mut command)?;
    let host = running.pid();
    let Some(pid) = started(&mut running, &bundle)? else {
        return never_started(running, |_| "which call failed, with the flags of `options::propagation`?");
    };
    let there = |pid: i32| facts::mounts(pid).into_iter().map(|m| m.at).collect::<Vec<_>>();
    let after = there(host);
    let gone: Vec<String> =
        there(case.sandbox.first()).into_iter().filter(|at| !after.contains(at)).collect();
    if !gone.is_empty() {
        return Ok(Verdict::failed(
            "with rootfsPropagation rshared, the host keeps its mounts",
            format!("the host has lost {}", gone.join(", ")),
            "an unmount is shared, too: the old root has to become a slave first, with all below it",
        ));
    }
    let root = facts::mounts(pid).into_iter().find(|m| m.at == "/");
    let propagation = root.map(|m| m.propagation).unwrap_or_default();
    Ok(if propagation.contains("shared:") {
        Verdict::Passed
    } else {
        Verdict::failed(
            "with rootfsPropagation rshared, the new root is shared",
            format!(
                "/proc/PID/mountinfo says of it: {}",
                if propagation.is_empty() { "private" } else { &propagation }
            ),
            "the last step: mount(2) with the flag of `options::propagation`, on /",
        )
    })
}
