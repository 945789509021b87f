//! What has gone wrong for other runtimes: each attack is tried here, and named by its number.

#![allow(clippy::unwrap_used)]

mod bundle;

use bundle::{Bundle, finish, program};
use kit::{Case, Need};
use serde_json::json;
use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    process::{Command, Stdio},
};

const ANY: &[Need] = &[Need::UserNamespaces];
const ROOT: &[Need] = &[Need::Root];

fn main() {
    kit::run(vec![
        Case::new("cve_2019_5736_the_runtimes_own_file", ROOT, the_runtimes_own_file),
        Case::new("cve_2024_21626_a_cwd_by_an_open_descriptor", ANY, a_cwd_by_an_open_descriptor),
        Case::new("cve_2024_21626_a_program_by_an_open_descriptor", ANY, a_program_by_an_open_descriptor),
        Case::new("cve_2021_30465_a_target_that_is_a_link", ANY, a_target_that_is_a_link),
        Case::new("cve_2024_45310_nothing_is_made_outside", ANY, nothing_is_made_outside),
        Case::new("cve_2019_19921_proc_that_is_a_link", ANY, proc_that_is_a_link),
        Case::new("cve_2023_28642_proc_that_is_covered", ANY, proc_that_is_covered),
        Case::new("cve_2023_28642_proc_that_is_a_part_of_proc", ANY, proc_that_is_a_part_of_proc),
        Case::new("nothing_over_files_of_proc", ANY, nothing_over_files_of_proc),
        Case::new("cve_2025_31133_a_null_that_is_none", ANY, a_null_that_is_none),
        Case::new("cve_2025_52565_a_console_that_is_a_link", ANY, a_console_that_is_a_link),
        Case::new("cve_2025_52881_writes_that_are_redirected", ROOT, writes_that_are_redirected),
        Case::new("cve_2022_24769_no_inheritable_capabilities", ANY, no_inheritable_capabilities),
        Case::new("cve_2022_0492_no_release_agent", ANY, no_release_agent),
        Case::new("cve_2024_40635_ids_beyond_32_bits", ANY, ids_beyond_32_bits),
        Case::new("cve_2022_36109_no_groups_of_the_caller", ROOT, no_groups_of_the_caller),
        Case::new("cve_2016_9962_nobody_traces_who_enters", ROOT, nobody_traces_who_enters),
        Case::new("a_passwd_that_is_a_pipe", ANY, a_passwd_that_is_a_pipe),
        Case::new("a_label_that_nobody_enforces", ANY, a_label_that_nobody_enforces),
    ]);
}

/// The image's program is a script that the runtime itself is to interpret.
fn the_runtimes_own_file() {
    let mut bundle = Bundle::new();
    let own = fs::metadata(env!("CARGO_BIN_EXE_namespaces")).unwrap();
    let script = bundle.root().join("evil");
    fs::write(&script, "#!/proc/self/exe show\n").unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let output = bundle.args(&["/evil"]).run();
    // Whatever it did, it ran from a mount that cannot be written to. Seen from inside:
    let running = bundle.start("");
    let pid = running.pid;
    let enter = |script: &str| {
        finish(program().args(["enter", &pid.to_string(), "sh", "-c", script]).stdin(Stdio::null()))
    };
    let writable =
        enter("for exe in /proc/[0-9]*/exe; do (: >>$exe) 2>/dev/null && readlink $exe; done; true");
    assert!(!writable.stdout.contains("namespaces"), "{writable:?}");
    let now = fs::metadata(env!("CARGO_BIN_EXE_namespaces")).unwrap();
    assert_eq!((own.len(), own.modified().unwrap()), (now.len(), now.modified().unwrap()), "{output:?}");
    // And seen from outside, while it runs: its own program's mount is read-only.
    let exe = fs::File::open(format!("/proc/{}/exe", running.runtime.id())).unwrap();
    let flags = nix::sys::statvfs::fstatvfs(&exe).unwrap().flags();
    assert!(flags.contains(nix::sys::statvfs::FsFlags::ST_RDONLY));
}

/// Somebody left /'s descriptor 7 open for us.
fn with_open_root(bundle: &Bundle) -> bundle::Output {
    let _ = bundle.command(); // writes the configuration
    let mut shell = Command::new("/bin/sh");
    let line =
        format!("exec 7</; exec {} run {}", env!("CARGO_BIN_EXE_namespaces"), bundle.dir.path().display());
    finish(shell.args(["-c", &line]).stdin(Stdio::null()))
}

fn a_cwd_by_an_open_descriptor() {
    let mut bundle = Bundle::new();
    bundle.args(&["/bin/sh", "-c", "pwd; ls"]);
    for cwd in ["/proc/self/fd/7", "/proc/self/fd/7/../../..", "/proc/thread-self/fd/7", "/dev/fd/7"] {
        bundle.set("/process/cwd", json!(cwd));
        let output = with_open_root(&bundle);
        assert_eq!((output.code, output.stdout.as_str()), (125, ""), "{cwd}: {output:?}");
    }
}

fn a_program_by_an_open_descriptor() {
    let mut bundle = Bundle::new();
    bundle.args(&["/proc/self/fd/7/bin/sh", "-c", "echo out"]);
    let output = with_open_root(&bundle);
    assert_eq!((output.code, output.stdout.as_str()), (127, ""), "{output:?}");
}

fn a_target_that_is_a_link() {
    let host = tempfile::tempdir().unwrap();
    let mut bundle = Bundle::new();
    let up = "../".repeat(30);
    symlink(host.path(), bundle.root().join("absolute")).unwrap();
    symlink(format!("{up}{}", host.path().display()), bundle.root().join("relative")).unwrap();
    for link in ["absolute", "relative"] {
        bundle.mount(json!({"destination": format!("/{link}/x"), "type": "tmpfs", "source": "tmpfs"}));
    }
    // The same directory inside the root is where it went.
    let inside = host.path().to_str().unwrap();
    let mounts = bundle.says("grep -c /x' ' /proc/self/mountinfo");
    assert_eq!(mounts, "2");
    assert_eq!(fs::read_dir(host.path()).unwrap().count(), 0);
    assert!(bundle.root().join(inside.trim_start_matches('/')).join("x").is_dir());
}

fn nothing_is_made_outside() {
    let host = tempfile::tempdir().unwrap();
    let mut bundle = Bundle::new();
    symlink(host.path().join("missing"), bundle.root().join("gone")).unwrap();
    bundle.bind("/usr", "/gone/deep/er", &["bind"]);
    bundle.set("/process/cwd", json!("/gone/cwd"));
    assert_eq!(bundle.sh("true").code, 0);
    assert_eq!(fs::read_dir(host.path()).unwrap().count(), 0);
}

fn proc_that_is_a_link() {
    let mut bundle = Bundle::new();
    fs::remove_dir(bundle.root().join("proc")).unwrap();
    fs::create_dir(bundle.root().join("elsewhere")).unwrap();
    symlink("elsewhere", bundle.root().join("proc")).unwrap();
    let output = bundle.sh("true");
    assert!(output.code == 125 && output.stderr.contains("ordinary directory"), "{output:?}");
}

fn proc_that_is_covered() {
    let volume = tempfile::tempdir().unwrap();
    for (to, at) in [("/proc", "proc"), ("/link", "proc"), ("/sys", "sys")] {
        let mut bundle = Bundle::new();
        symlink(at, bundle.root().join("link")).unwrap();
        bundle.bind(volume.path().to_str().unwrap(), to, &["bind"]);
        let output = bundle.sh("true");
        assert!(output.code == 125 && output.stderr.contains("covered"), "{to}: {output:?}");
    }
}

/// A part of procfs is procfs too.
fn proc_that_is_a_part_of_proc() {
    let mut bundle = Bundle::new();
    bundle.bind("/proc/sys", "/proc", &["rbind"]);
    let output = bundle.sh("true");
    assert!(output.code == 125 && output.stderr.contains("covered"), "{output:?}");
}

fn nothing_over_files_of_proc() {
    let volume = tempfile::tempdir().unwrap();
    let source = volume.path().to_str().unwrap();
    fs::write(volume.path().join("file"), "64\n").unwrap();
    for to in ["/proc/self/attr", "/proc/sys", "/proc/1/../sys/kernel", "/link/sys"] {
        let mut bundle = Bundle::new();
        symlink("proc", bundle.root().join("link")).unwrap();
        bundle.bind(source, to, &["bind"]);
        let output = bundle.sh("true");
        assert!(output.code == 125 && output.stderr.contains("inside /proc"), "{to}: {output:?}");
    }
    // What lxcfs does is still possible.
    let mut bundle = Bundle::new();
    bundle.bind(&format!("{source}/file"), "/proc/uptime", &["bind", "ro"]);
    assert_eq!(bundle.says("cat /proc/uptime"), "64");
}

/// An image without its own /dev brings a null that is a file, and a link.
fn a_null_that_is_none() {
    for link in [false, true] {
        let mut bundle = Bundle::new();
        bundle.without("/dev").without("/dev/pts").without("/dev/shm").without("/dev/mqueue");
        let null = bundle.root().join("dev/null");
        if link {
            symlink("/etc/passwd", &null).unwrap();
        } else {
            fs::write(&null, "the host's interrupts").unwrap();
        }
        assert_eq!(bundle.says("wc -c </proc/interrupts; stat -c %t:%T /dev/null"), "0\n1:3");
        assert!(bundle.root().join("etc/passwd").metadata().unwrap().len() > 0);
    }
}

fn a_console_that_is_a_link() {
    let host = tempfile::tempdir().unwrap();
    let mut bundle = Bundle::new();
    bundle.without("/dev").without("/dev/shm").without("/dev/mqueue");
    fs::create_dir_all(bundle.root().join("dev/pts")).unwrap();
    symlink(host.path().join("victim"), bundle.root().join("dev/console")).unwrap();
    bundle.set("/process/terminal", json!(true));
    let output = bundle.sh("test -c /dev/console");
    assert_eq!(output.code, 0, "{output:?}");
    assert!(!host.path().join("victim").exists());
}

fn no_inheritable_capabilities() {
    let set = Bundle::new().says("grep CapInh /proc/self/status | tr -d '\\t'");
    assert_eq!(set, "CapInh:0000000000000000");
}

fn no_release_agent() {
    let output = Bundle::new().sh(
        "for f in $(find /sys/fs/cgroup -name release_agent -o -name notify_on_release); do \
         (echo x >$f) 2>/dev/null && echo wrote $f; done; mount -t cgroup -o memory none /tmp 2>/dev/null && echo mounted",
    );
    assert_eq!(output.stdout, "", "{output:?}");
}

fn ids_beyond_32_bits() {
    let mut bundle = Bundle::new();
    for id in [json!(4_294_967_296_u64), json!(-1), json!("0")] {
        bundle.set("/process/user", json!({"uid": id, "gid": 0}));
        let output = bundle.sh("id -u");
        assert_eq!((output.code, output.stdout.as_str()), (125, ""), "{output:?}");
    }
    // The one id that means "no change" to setresuid(2).
    bundle.set("/process/user", json!({"uid": u32::MAX, "gid": 0}));
    let output = bundle.sh("id -u");
    assert_eq!((output.code, output.stdout.as_str()), (125, ""), "{output:?}");
}

fn no_groups_of_the_caller() {
    let mut bundle = Bundle::new();
    bundle.args(&["/bin/sh", "-c", "grep Groups /proc/self/status"]);
    let mut command = bundle.command();
    // SAFETY: between fork and exec, one system call.
    unsafe {
        std::os::unix::process::CommandExt::pre_exec(&mut command, || {
            nix::unistd::setgroups(&[nix::unistd::Gid::from_raw(4), nix::unistd::Gid::from_raw(27)])
                .map_err(Into::into)
        });
    }
    let groups = finish(&mut command).stdout;
    assert_eq!(groups.split_whitespace().collect::<Vec<_>>(), ["Groups:"], "{groups}");
}

/// While `enter` is on its way in, a process of the container tries to reach it.
fn nobody_traces_who_enters() {
    let mut bundle = Bundle::new();
    let spy = "(while :; do for p in /proc/[0-9]*; do case $(readlink $p/exe 2>/dev/null) in \
               *namespaces*) echo $p >>/tmp/caught;; esac; ls $p/fd/ >/dev/null 2>&1; done; done) & ";
    let running = bundle.start(spy);
    let pid = running.pid;
    for _ in 0..10 {
        let output = finish(program().args(["enter", &pid.to_string(), "true"]).stdin(Stdio::null()));
        assert_eq!(output.code, 0, "{output:?}");
    }
    assert!(!bundle.root().join("tmp/caught").exists());
}

fn a_passwd_that_is_a_pipe() {
    let mut bundle = Bundle::new();
    let passwd = bundle.root().join("etc/passwd");
    fs::remove_file(&passwd).unwrap();
    nix::unistd::mkfifo(&passwd, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert_eq!(bundle.says("echo $HOME"), "/");
}

fn a_label_that_nobody_enforces() {
    let apparmor =
        fs::read_to_string("/sys/module/apparmor/parameters/enabled").is_ok_and(|t| t.starts_with('Y'));
    let selinux = std::path::Path::new("/sys/fs/selinux/enforce").exists();
    for (pointer, module) in [
        ("/process/apparmorProfile", apparmor),
        ("/process/selinuxLabel", selinux),
        ("/linux/mountLabel", selinux),
    ] {
        let mut bundle = Bundle::new();
        bundle.set(pointer, json!("no-such-label"));
        let output = bundle.sh("true");
        // Without the module, or with one that does not know it: never as if nothing had been asked.
        assert_eq!(output.code, 125, "{output:?}");
        assert!(module || output.stderr.contains("this host has no"), "{output:?}");
        bundle.set(pointer, json!(""));
        assert_eq!(bundle.sh("true").code, 0, "{pointer}");
    }
}

/// What stands at /proc in the container is the attacker's, laid out so that the runtime's writes (settings, labels, scores)
/// would land in files of their choice.
fn writes_that_are_redirected() {
    let volume = tempfile::tempdir().unwrap();
    let caught = ["sys/net/ipv4/ip_forward", "self/attr/exec", "self/oom_score_adj", "thread-self/attr/exec"];
    for file in caught {
        let file = volume.path().join(file);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, "untouched").unwrap();
    }
    let mut bundle = Bundle::new();
    bundle.without("/proc").bind(volume.path().to_str().unwrap(), "/proc", &["bind"]);
    bundle.mount(json!({"destination": "/tmp/proc", "type": "proc", "source": "proc"}));
    bundle.set("/linux/sysctl", json!({"net.ipv4.ip_forward": "1"}));
    bundle.set("/process/oomScoreAdj", json!(321));
    // The settings are the container's, whatever it calls /proc ...
    let told = bundle.says("cat /tmp/proc/sys/net/ipv4/ip_forward /tmp/proc/self/oom_score_adj");
    assert_eq!(told, "1\n321");
    // ... and the attacker's files have caught nothing.
    for file in caught {
        assert_eq!(fs::read_to_string(volume.path().join(file)).unwrap(), "untouched", "{file}");
    }
    // Nor may the way to a file lead through a link of theirs into the real one.
    fs::remove_file(volume.path().join(caught[0])).unwrap();
    symlink("/tmp/proc/sys/kernel/core_pattern", volume.path().join(caught[0])).unwrap();
    let before = fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    assert_eq!(bundle.says("cat /tmp/proc/sys/net/ipv4/ip_forward"), "1");
    assert_eq!(fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap(), before);
}
