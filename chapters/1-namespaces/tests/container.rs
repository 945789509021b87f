//! What a container is, looked at from inside and outside.

#![allow(clippy::unwrap_used)]

mod bundle;

use bundle::{Bundle, finish, program};
use kit::{Case, Need, Traces};
use nix::{
    sys::signal::{Signal, kill as send},
    sys::statfs::{BTRFS_SUPER_MAGIC, EXT4_SUPER_MAGIC, XFS_SUPER_MAGIC},
    unistd::Pid,
};
use serde_json::json;
use std::{fs, os::unix::fs::MetadataExt, process::Stdio, time::Duration};

const ANY: &[Need] = &[Need::UserNamespaces];
const ROOT: &[Need] = &[Need::Root];

fn main() {
    kit::run(vec![
        Case::new("every_namespace_is_its_own", ANY, every_namespace_is_its_own),
        Case::new("it_is_pid_1_and_alone", ANY, it_is_pid_1_and_alone),
        Case::new("hostname_and_domainname", ANY, hostname_and_domainname),
        Case::new("loopback_is_up", ANY, loopback_is_up),
        Case::new("devices_and_links", ANY, devices_and_links),
        Case::new("paths_are_masked_and_read_only", ANY, paths_are_masked_and_read_only),
        Case::new("the_root_can_be_read_only", ANY, the_root_can_be_read_only),
        Case::new("capabilities_are_dockers", ANY, capabilities_are_dockers),
        Case::new("the_filter_filters", ANY, the_filter_filters),
        Case::new("no_new_privileges", ANY, no_new_privileges),
        Case::new("exit_codes_are_the_programs", ANY, exit_codes_are_the_programs),
        Case::new("a_missing_program_is_127_and_another_126", ANY, missing_programs),
        Case::new("signals_are_passed_on", ANY, signals_are_passed_on),
        Case::new("a_killed_container_is_137", ANY, a_killed_container_is_137),
        Case::new("user_groups_umask_home", ROOT, user_groups_umask_home),
        Case::new("the_working_directory_is_made", ANY, the_working_directory_is_made),
        Case::new("rlimits_and_oom_score", ANY, rlimits_and_oom_score),
        Case::new("sysctls_of_its_own_namespaces_only", ANY, sysctls),
        Case::new("mount_options", ANY, mount_options),
        Case::new("tmpcopyup", ANY, tmpcopyup),
        Case::new("idmapped_mounts", ROOT, idmapped_mounts),
        Case::new("the_roots_propagation", ANY, the_roots_propagation),
        Case::new("the_host_keeps_its_mounts", ROOT, the_host_keeps_its_mounts),
        Case::new("a_root_without_pivot", ANY, a_root_without_pivot),
        Case::new("more_devices", ROOT, more_devices),
        Case::new("a_terminal_of_its_own", ANY, a_terminal_of_its_own),
        Case::new("hooks_run_where_they_should", ANY, hooks_run_where_they_should),
        Case::new("a_failing_hook_ends_it", ANY, a_failing_hook_ends_it),
        Case::new("a_time_namespace", ROOT, a_time_namespace),
        Case::new("namespaces_are_joined_by_path", ROOT, namespaces_are_joined_by_path),
        Case::new("a_user_namespace_with_many_ids", ROOT, a_user_namespace_with_many_ids),
        Case::new("enter_joins_everything", ANY, enter_joins_everything),
        Case::new("enter_has_exit_codes_and_users", ROOT, enter_has_exit_codes_and_users),
        Case::new("show_tells_what_differs", ANY, show_tells_what_differs),
        Case::new("scheduling_is_set", ANY, scheduling_is_set),
        Case::new("explain_tells_the_steps", ANY, explain_tells_the_steps),
        Case::new("an_ordinary_user_is_told_how", &[Need::OrdinaryUser], an_ordinary_user_is_told_how),
        Case::new("what_must_be_an_error_is_one", ROOT, what_must_be_an_error_is_one),
        Case::new("what_must_not_be_an_error_is_none", ANY, what_must_not_be_an_error_is_none),
        Case::new(
            "a_namespace_that_is_not_named_is_the_callers",
            ROOT,
            a_namespace_that_is_not_named_is_the_callers,
        ),
        Case::new("every_must_has_a_test", &[], every_must_has_a_test),
        Case::new("nothing_is_left_behind", ANY, nothing_is_left_behind),
    ]);
}

fn every_namespace_is_its_own() {
    for kind in ["cgroup", "ipc", "net", "mnt", "pid", "uts"] {
        let own = fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
        let inside = Bundle::new().says(&format!("readlink /proc/self/ns/{kind}"));
        assert!(inside.starts_with(kind) && inside != own.to_str().unwrap(), "{kind}: {inside}");
    }
}

fn it_is_pid_1_and_alone() {
    assert_eq!(Bundle::new().says("echo $$; ls /proc | grep -c '^[0-9]'"), "1\n3"); // sh, ls, grep
    // Nothing of ours is open: the three streams, and what ls reads.
    assert_eq!(Bundle::new().says("ls /proc/self/fd | tr '\\n' ' '"), "0 1 2 3");
}

fn hostname_and_domainname() {
    let mut bundle = Bundle::new();
    bundle.set("/hostname", json!("box")).set("/domainname", json!("example.org"));
    let names = bundle.says("cat /proc/sys/kernel/hostname /proc/sys/kernel/domainname");
    assert_eq!(names, "box\nexample.org");
}

fn loopback_is_up() {
    assert_eq!(Bundle::new().says("cat /sys/class/net/lo/flags; ls /sys/class/net | head -1"), "0x9\nlo");
}

fn devices_and_links() {
    let mut bundle = Bundle::new();
    let nodes = bundle.says("cd /dev; stat -c '%n %F %t:%T' null zero full random urandom tty");
    assert_eq!(
        nodes.replace("character special file ", ""),
        "null 1:3\nzero 1:5\nfull 1:7\nrandom 1:8\nurandom 1:9\ntty 5:0"
    );
    assert_eq!(
        bundle.says("cd /dev; readlink fd stdin stdout stderr ptmx; echo x >null; echo y >/dev/stderr"),
        "/proc/self/fd\n/proc/self/fd/0\n/proc/self/fd/1\n/proc/self/fd/2\npts/ptmx"
    );
    let open = bundle.says("ls /proc/self/fd");
    assert_eq!(open, "0\n1\n2\n3", "3 is the directory that ls has open");
}

fn paths_are_masked_and_read_only() {
    let mut bundle = Bundle::new();
    bundle.set("/linux/maskedPaths", json!(["/proc/interrupts", "/proc/fs", "/sys/firmware", "/proc/none"]));
    let script = "wc -c </proc/interrupts; ls -A /proc/fs /sys/firmware | grep -v :; \
                  touch /sys/firmware/x || echo no; echo 1 >/proc/sys/vm/swappiness || echo no";
    let output = bundle.sh(script);
    let words: Vec<_> = output.stdout.split_whitespace().collect();
    assert_eq!(words, ["0", "no", "no"], "{output:?}");
}

fn the_root_can_be_read_only() {
    let mut bundle = Bundle::new();
    bundle.set("/root/readonly", json!(true));
    assert_eq!(bundle.says("touch /x 2>/dev/null || echo no; echo y >/dev/shm/y; cat /dev/shm/y"), "no\ny");
}

fn capabilities_are_dockers() {
    let mut bundle = Bundle::new();
    let script = "grep ^Cap /proc/self/status | tr -d '\\t'";
    let docker = "00000000a80425fb";
    let expected = |set: &str, ambient: &str| {
        format!("CapInh:{ambient}\nCapPrm:{set}\nCapEff:{set}\nCapBnd:{set}\nCapAmb:{ambient}")
    };
    assert_eq!(bundle.says(script), expected(docker, "0000000000000000"));
    bundle.config["process"].as_object_mut().unwrap().remove("capabilities");
    let none = "0000000000000000";
    assert_eq!(bundle.says(script), expected(none, none));
    let kill = json!(["CAP_KILL"]);
    bundle.set(
        "/process/capabilities",
        json!({"bounding": kill, "permitted": kill, "effective": kill, "inheritable": kill, "ambient": kill}),
    );
    let set = "0000000000000020";
    assert_eq!(bundle.says(script), expected(set, set));
}

fn the_filter_filters() {
    let mut bundle = Bundle::new();
    assert_eq!(bundle.says("grep ^Seccomp: /proc/self/status | tr -d '\\t'"), "Seccomp:2");
    // unshare(2) is for CAP_SYS_ADMIN, and the filter says so before the kernel does.
    assert_ne!(bundle.sh("unshare --user true").code, 0);
    let deny = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}]});
    bundle.set("/linux/seccomp", deny);
    let output = bundle.sh("mkdir /tmp/x");
    assert!(output.stderr.contains("No space left on device"), "{output:?}");
    bundle.set(
        "/linux/seccomp",
        json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_KILL_PROCESS"}]}),
    );
    assert_eq!(bundle.sh("mkdir /tmp/x; echo $?").stdout, "159\n"); // SIGSYS
    bundle.set("/linux/seccomp/defaultAction", json!("SCMP_ACT_NOTIFY"));
    let output = bundle.sh("true");
    assert!(output.code == 125 && output.stderr.contains("SCMP_ACT_NOTIFY"), "{output:?}");
}

fn no_new_privileges() {
    let mut bundle = Bundle::new();
    let script = "grep NoNewPrivs /proc/self/status | tr -d '\\t'";
    assert_eq!(bundle.says(script), "NoNewPrivs:0");
    bundle.set("/process/noNewPrivileges", json!(true));
    assert_eq!(bundle.says(script), "NoNewPrivs:1");
}

fn exit_codes_are_the_programs() {
    let mut bundle = Bundle::new();
    assert_eq!(bundle.sh("exit 0").code, 0);
    assert_eq!(bundle.sh("exit 7").code, 7);
    assert_eq!(bundle.sh("exit 255").code, 255);
}

fn missing_programs() {
    let mut bundle = Bundle::new();
    fs::write(bundle.root().join("plain"), "").unwrap();
    for (name, code, message) in [
        ("nope", 127, r#"exec: "nope": executable file not found in $PATH"#),
        ("/nope", 127, r#"exec: "/nope": stat /nope: no such file or directory"#),
        ("/plain", 126, r#"exec: "/plain": permission denied"#),
        ("/etc", 126, r#"exec: "/etc": is a directory"#),
    ] {
        let output = bundle.args(&[name]).run();
        assert_eq!((output.code, output.stderr.trim()), (code, format!("namespaces: {message}").as_str()));
    }
}

fn signals_are_passed_on() {
    for (signal, code) in [(Signal::SIGTERM, 41), (Signal::SIGINT, 42), (Signal::SIGUSR1, 43)] {
        let mut bundle = Bundle::new();
        let mut running = bundle.start("trap 'exit 41' TERM; trap 'exit 42' INT; trap 'exit 43' USR1");
        send(Pid::from_raw(running.runtime.id() as i32), signal).unwrap();
        assert_eq!(kit::code(running.runtime.wait().unwrap()), code, "{signal}");
    }
}

fn a_killed_container_is_137() {
    let mut bundle = Bundle::new();
    let mut running = bundle.start("");
    assert_eq!(running.kill(), 137);
}

fn user_groups_umask_home() {
    let mut bundle = Bundle::new();
    bundle.set("/process/user", json!({"uid": 1000, "gid": 1000, "additionalGids": [5, 10], "umask": 0o77}));
    let script = "id -u; id -g; id -G; umask; echo $HOME; grep CapEff /proc/self/status | tr -d '\\t'";
    assert_eq!(bundle.says(script), "1000\n1000\n1000 5 10\n0077\n/home/ann\nCapEff:0000000000000000");
    // No groups of the caller's come along.
    bundle.set("/process/user", json!({"uid": 77, "gid": 78}));
    assert_eq!(bundle.says("id -G; umask; echo $HOME"), "78\n0022\n/");
}

fn the_working_directory_is_made() {
    let mut bundle = Bundle::new();
    bundle.set("/process/cwd", json!("/made/for/it"));
    assert_eq!(bundle.says("pwd"), "/made/for/it");
}

fn rlimits_and_oom_score() {
    let mut bundle = Bundle::new();
    bundle.set("/process/rlimits", json!([{"type": "RLIMIT_NOFILE", "soft": 111, "hard": 222}]));
    bundle.set("/process/oomScoreAdj", json!(500));
    let script = "ulimit -Sn; ulimit -Hn; cat /proc/self/oom_score_adj";
    assert_eq!(bundle.says(script), "111\n222\n500");
    bundle.set("/process/oomScoreAdj", json!(null));
    let own = fs::read_to_string("/proc/self/oom_score_adj").unwrap();
    assert_eq!(bundle.says(script), format!("111\n222\n{}", own.trim()));
    bundle.set("/process/rlimits", json!([{"type": "RLIMIT_NOFILE", "soft": 3, "hard": 2}]));
    assert_eq!(bundle.sh("true").code, 125);
}

fn sysctls() {
    let mut bundle = Bundle::new();
    bundle.set("/linux/sysctl", json!({"net.ipv4.ip_forward": "1", "kernel.msgmax": "4096"}));
    assert_eq!(bundle.says("cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax"), "1\n4096");
    for name in ["kernel.core_pattern", "vm.swappiness", "net/../kernel/core_pattern"] {
        bundle.set("/linux/sysctl", json!({name: "0"}));
        let output = bundle.sh("true");
        assert!(output.code == 125 && output.stderr.contains("would change the host"), "{output:?}");
    }
}

fn mount_options() {
    let mut bundle = Bundle::new();
    let volume = tempfile::tempdir().unwrap();
    let source = volume.path().to_str().unwrap().to_owned();
    fs::create_dir(volume.path().join("below")).unwrap();
    // In a user namespace the kernel locks how access times are kept.
    let atime = if kit::is_root() { "noatime" } else { "relatime" };
    bundle.bind(&source, "/ro", &["bind", "ro", "nosuid", "nodev", "noexec", atime, "private"]);
    bundle.bind(&source, "/rw", &["bind"]);
    bundle.bind(&source, "/rro", &["rbind", "rro"]);
    bundle.mount(json!({"destination": "/rro/below", "type": "tmpfs", "source": "tmpfs", "options": ["ro"]}));
    let table =
        bundle.says("echo x >/rw/x; cat /ro/x; touch /ro/y /rro/y 2>/dev/null; cat /proc/self/mountinfo");
    let options = |at: &str| {
        let line =
            table.lines().find(|l| l.split(' ').nth(4) == Some(at)).unwrap_or_else(|| panic!("{table}"));
        line.split(' ').nth(5).unwrap().to_owned()
    };
    assert!(table.starts_with("x\n"));
    assert_eq!(options("/ro"), format!("ro,nosuid,nodev,noexec,{atime}"));
    assert!(options("/rro").starts_with("ro"));
    assert!(!volume.path().join("y").exists());
}

fn tmpcopyup() {
    let mut bundle = Bundle::new();
    let etc = bundle.root().join("data/deep");
    fs::create_dir_all(&etc).unwrap();
    fs::write(etc.join("file"), "text").unwrap();
    std::os::unix::fs::symlink("deep/file", bundle.root().join("data/link")).unwrap();
    bundle
        .mount(json!({"destination": "/data", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup"]}));
    assert_eq!(bundle.says("cat /data/link; echo more >/data/deep/file; cat /data/link"), "textmore");
    assert_eq!(fs::read_to_string(etc.join("file")).unwrap(), "text");
}

fn idmapped_mounts() {
    let mut bundle = Bundle::new();
    let volume = tempfile::tempdir_in("/var/tmp").unwrap();
    fs::write(volume.path().join("file"), "").unwrap();
    let map = json!([{"containerID": 0, "hostID": 5000, "size": 10}]);
    bundle.mount(
        json!({"destination": "/v", "type": "bind", "source": volume.path(), "options": ["bind", "idmap"],
        "uidMappings": map, "gidMappings": map}),
    );
    // Most file systems can be idmapped by now, but not all: then the message says which mount.
    let kind = nix::sys::statfs::statfs(volume.path()).unwrap().filesystem_type();
    if [EXT4_SUPER_MAGIC, XFS_SUPER_MAGIC, BTRFS_SUPER_MAGIC].contains(&kind) {
        assert_eq!(bundle.says("stat -c %u:%g /v/file"), "5000:5000");
    } else {
        let output = bundle.sh("stat -c %u:%g /v/file");
        assert!(output.stdout == "5000:5000\n" || output.stderr.contains("map the ids of"), "{output:?}");
    }
}

fn the_roots_propagation() {
    // mountinfo's optional fields (proc(5)): between the options and the dash.
    for (name, field) in [
        ("", "master:"),
        ("rslave", "master:"),
        ("slave", "master:"),
        ("rprivate", "-"),
        ("private", "-"),
        ("unbindable", "unbindable"),
        ("shared", "shared:"),
        ("rshared", "shared:"),
    ] {
        let mut bundle = Bundle::new();
        if !name.is_empty() {
            bundle.set("/linux/rootfsPropagation", json!(name));
        }
        let table = bundle.says("cat /proc/self/mountinfo");
        let root = table.lines().find(|l| l.split(' ').nth(4) == Some("/")).unwrap();
        let got = root.split(' ').nth(6).unwrap();
        // A slave of nobody is private: whether the host's mounts are shared is the host's choice.
        assert!(got.starts_with(field) || (field == "master:" && got == "-"), "{name}: {root}");
        assert!(
            !Traces::now().mounts.iter().any(|m| m.starts_with(bundle.dir.path().to_str().unwrap())),
            "{name}"
        );
    }
    let mut bundle = Bundle::new();
    bundle.set("/linux/rootfsPropagation", json!("sideways"));
    assert_eq!(bundle.sh("true").code, 125);
}

/// On a host whose mounts are shared, as systemd makes them: none may appear or vanish there.
fn the_host_keeps_its_mounts() {
    for name in ["", "slave", "private", "unbindable", "shared", "rshared"] {
        let mut bundle = Bundle::new();
        if !name.is_empty() {
            bundle.set("/linux/rootfsPropagation", json!(name));
        }
        bundle.args(&["/bin/true"]);
        bundle.command();
        let script = format!(
            "mount --make-rshared /; mount -t tmpfs t /mnt; mkdir /mnt/x; mount -t tmpfs t /mnt/x; mkdir /mnt/x/y; \
             mount -t tmpfs t /mnt/x/y; cat /proc/self/mountinfo >/mnt/before; {} run {} || exit 1; \
             cut -d' ' -f1-6 /mnt/before >/mnt/1; cut -d' ' -f1-6 /proc/self/mountinfo | cmp - /mnt/1",
            env!("CARGO_BIN_EXE_namespaces"),
            bundle.dir.path().display(),
        );
        let mut host = std::process::Command::new("unshare");
        let output = finish(host.args(["--mount", "--propagation", "private", "sh", "-c", &script]));
        assert_eq!(output.code, 0, "{name}: {output:?}");
    }
}

fn a_root_without_pivot() {
    let mut bundle = Bundle::new();
    bundle.args(&["/bin/sh", "-c", "ls -d /proc/1 /etc/passwd; test -e /boot || echo no boot"]);
    let mut command = bundle.command();
    let output = finish(command.arg("--no-pivot").stdin(Stdio::null()));
    assert_eq!((output.code, output.stdout.as_str()), (0, "/etc/passwd\n/proc/1\nno boot\n"), "{output:?}");
}

fn more_devices() {
    let mut bundle = Bundle::new();
    bundle.set("/linux/devices", json!([
        {"path": "/dev/foo", "type": "c", "major": 10, "minor": 229, "fileMode": 0o640, "uid": 5, "gid": 7},
        {"path": "/dev/net/tun", "type": "c", "major": 10, "minor": 200},
        {"path": "/dev/null", "type": "c", "major": 1, "minor": 3},
        {"path": "/dev/blk", "type": "b", "major": 7, "minor": 0, "fileMode": 0o100_600},
        {"path": "/dev/fifo", "type": "p"},
    ]));
    let got = bundle.says("cd /dev; stat -c '%n %A %u:%g %t:%T' foo net/tun null blk fifo");
    assert_eq!(
        got,
        "foo crw-r----- 5:7 a:e5\nnet/tun crw-rw-rw- 0:0 a:c8\nnull crw-rw-rw- 0:0 1:3\n\
         blk brw------- 0:0 7:0\nfifo prw-rw-rw- 0:0 0:0"
    );
}

fn a_terminal_of_its_own() {
    let mut bundle = Bundle::new();
    bundle.set("/process/terminal", json!(true));
    bundle.set("/process/consoleSize", json!({"height": 33, "width": 77}));
    let output = bundle.sh("tty; stty size; test -c /dev/console && echo console; exit 3");
    assert_eq!(
        (output.code, output.stdout.as_str()),
        (3, "/dev/pts/0\r\n33 77\r\nconsole\r\n"),
        "{output:?}"
    );
}

fn hooks_run_where_they_should() {
    let mut bundle = Bundle::new();
    let file = bundle.dir.path().join("hook");
    let script = format!("cat >{0}; hostname >>{0}; env | grep -v ^PWD >>{0}", file.display());
    bundle.set("/hostname", json!("box"));
    bundle.set(
        "/hooks",
        json!({
            "createContainer": [{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"]}],
            "startContainer": [{"path": "/bin/sh", "args": ["sh", "-c", "echo started >/tmp/hook"]}],
        }),
    );
    assert_eq!(bundle.says("cat /tmp/hook"), "started");
    let seen = fs::read_to_string(file).unwrap();
    let (state, rest) = seen.split_once('}').unwrap();
    assert!(state.contains("\"status\":\"created\""), "{seen}");
    let mut lines: Vec<_> =
        rest.lines().filter(|l| !l.starts_with("_=") && !l.starts_with("SHLVL")).collect();
    lines.sort_unstable();
    assert_eq!(lines, ["PATH=/bin:/usr/bin", "box"], "{seen}");
}

fn a_failing_hook_ends_it() {
    let mut bundle = Bundle::new();
    let hook = |script: &str, timeout: i64| json!([{"path": "/bin/sh", "args": ["sh", "-c", script], "timeout": timeout}]);
    for kind in ["createContainer", "startContainer"] {
        bundle.set("/hooks", json!({kind: hook("echo because; exit 3", 9)}));
        let output = bundle.sh("echo never");
        assert!(output.stderr.contains("exit code 3: because"), "{output:?}");
        assert_eq!((output.code, output.stdout.as_str()), (125, ""));
    }
    bundle.set("/hooks", json!({"createContainer": hook("sleep 60", 1)}));
    let output = bundle.sh("echo never");
    assert!(output.stderr.contains("did not end in 1 s"), "{output:?}");
}

fn a_time_namespace() {
    let mut bundle = Bundle::new();
    bundle.namespace(json!({"type": "time"}));
    bundle.set("/linux/timeOffsets", json!({"boottime": {"secs": 1_000_000_000}}));
    let uptime: f64 = bundle.says("cut -d' ' -f1 /proc/uptime").parse().unwrap();
    assert!(uptime > 1e9);
}

fn namespaces_are_joined_by_path() {
    let mut first = Bundle::new();
    let running = first.start("");
    let pid = running.pid;
    let mut second = Bundle::new();
    for (kind, file) in [("network", "net"), ("ipc", "ipc"), ("uts", "uts"), ("pid", "pid")] {
        second.namespace(json!({"type": kind, "path": format!("/proc/{pid}/ns/{file}")}));
    }
    second.config.as_object_mut().unwrap().remove("hostname");
    for kind in ["net", "ipc", "uts", "pid"] {
        let theirs = fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap();
        assert_eq!(second.says(&format!("readlink /proc/self/ns/{kind}")), theirs.to_str().unwrap());
    }
    let shared = second.says("echo $$; tr '\\0' '\\n' </proc/1/cmdline | head -1");
    assert!(!shared.starts_with("1\n") && shared.ends_with("/bin/sh"), "{shared}");
}

fn a_user_namespace_with_many_ids() {
    let mut first = Bundle::new();
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 1000}]);
    first.namespace(json!({"type": "user"}));
    first.set("/linux/uidMappings", map.clone()).set("/linux/gidMappings", map.clone());
    first.set("/process/user", json!({"uid": 5, "gid": 6}));
    let words = |text: String| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(words(first.says("id -u; id -g; cat /proc/self/uid_map")), ["5", "6", "0", "100000", "1000"]);
    first.set("/process/user", json!({"uid": 1001, "gid": 0}));
    let output = first.sh("true");
    assert!(output.stderr.contains("uid 1001 is not mapped"), "{output:?}");
    first.set("/process/user", json!({"uid": 0, "gid": 0}));
    let running = first.start("");
    let pid = running.pid;
    assert_eq!(fs::metadata(format!("/proc/{pid}")).unwrap().uid(), 100_000);
    // Another container in the same user namespace: joined by path.
    let mut second = Bundle::new();
    second.namespace(json!({"type": "user", "path": format!("/proc/{pid}/ns/user")}));
    let theirs = fs::read_link(format!("/proc/{pid}/ns/user")).unwrap();
    assert_eq!(second.says("readlink /proc/self/ns/user"), theirs.to_str().unwrap());
}

fn enter_joins_everything() {
    let mut bundle = Bundle::new();
    let running = bundle.start("echo mark >/tmp/mark");
    let pid = running.pid;
    let enter = |script: &str| {
        finish(program().args(["enter", &pid.to_string(), "sh", "-c", script]).stdin(Stdio::null()))
    };
    for kind in ["cgroup", "ipc", "net", "mnt", "pid", "user", "uts"] {
        let theirs = fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap();
        let output = enter(&format!("readlink /proc/self/ns/{kind}"));
        assert_eq!(output.stdout.trim(), theirs.to_str().unwrap(), "{output:?}");
    }
    assert_eq!(enter("cat /tmp/mark; ls /proc/self/fd | tr '\\n' ' '").stdout, "mark\n0 1 2 3 ");
    assert_eq!(enter("grep CapEff /proc/self/status | tr -d '\\t'").stdout, "CapEff:00000000a80425fb\n");
    drop(running);
    let output = finish(program().args(["enter", &i32::MAX.to_string(), "true"]));
    assert!(output.code == 125 && output.stderr.contains("ESRCH"), "{output:?}");
}

fn enter_has_exit_codes_and_users() {
    let mut bundle = Bundle::new();
    let running = bundle.start("");
    let pid = running.pid;
    let enter = |args: &[&str]| finish(program().arg("enter").args(args).stdin(Stdio::null()));
    let pid_text = pid.to_string();
    assert_eq!(enter(&[&pid_text, "sh", "-c", "exit 9"]).code, 9);
    assert_eq!(enter(&[&pid_text, "sh", "-c", "kill -KILL $$"]).code, 137);
    let output = enter(&[&pid_text, "nope"]);
    assert!(output.code == 127 && output.stderr.contains("executable file not found in $PATH"), "{output:?}");
    let output = enter(&[
        "-u",
        "1000:5",
        "-c",
        "/tmp",
        "-e",
        "A=b",
        &pid_text,
        "sh",
        "-c",
        "id -u; id -g; pwd; echo $A $HOME",
    ]);
    assert_eq!(output.stdout, "1000\n5\n/tmp\nb /home/ann\n");
}

fn show_tells_what_differs() {
    let mut bundle = Bundle::new();
    let running = bundle.start("");
    let pid = running.pid;
    let output = finish(program().args(["show", &pid.to_string()]));
    let inode = |pid: &str| fs::metadata(format!("/proc/{pid}/ns/uts")).unwrap().ino();
    let (inode, mine) = (inode(&pid.to_string()), inode("self"));
    let uts = output.stdout.lines().find(|l| l.trim_start().starts_with("uts")).unwrap();
    assert!(uts.contains(&format!("{inode}  {mine}  new")), "{output:?}");
    let time = output.stdout.lines().find(|l| l.trim_start().starts_with("time")).unwrap();
    assert!(time.contains("same"), "{output:?}");
    assert!(!output.stdout.contains('\x1b'), "colours are for terminals: {output:?}");
    let gone = finish(program().args(["show", &i32::MAX.to_string()]));
    assert!(gone.code == 125 && gone.stderr.contains("`ps -e` lists"), "{gone:?}");
}

fn scheduling_is_set() {
    let mut bundle = Bundle::new();
    bundle.set("/process/scheduler", json!({"policy": "SCHED_BATCH", "nice": 5}));
    bundle.set("/process/ioPriority", json!({"class": "IOPRIO_CLASS_IDLE", "priority": 0}));
    bundle.set("/linux/personality", json!({"domain": "LINUX32"}));
    // Fields 19 and 41 of /proc/PID/stat (proc(5)): nice, and policy, where SCHED_BATCH is 3.
    assert_eq!(bundle.says("cut -d' ' -f19,41 /proc/self/stat; uname -m"), "5 3\ni686");
    bundle.set("/linux/memoryPolicy", json!({"mode": "MPOL_BIND", "nodes": "0"}));
    assert!(bundle.says("grep stack /proc/self/numa_maps").contains("bind:0"));
    bundle.set("/linux/memoryPolicy/nodes", json!("0-x"));
    assert_eq!(bundle.sh("true").code, 125);
    bundle.set("/linux/memoryPolicy", json!({"mode": "MPOL_DEFAULT"}));
    bundle.set("/process/scheduler", json!({"policy": "SCHED_DEADLINE", "runtime": 0}));
    assert_eq!(bundle.sh("true").code, 125);
}

fn explain_tells_the_steps() {
    let mut bundle = Bundle::new();
    bundle.args(&["/bin/true"]);
    let mut command = bundle.command();
    let output = finish(command.arg("--explain").stdin(Stdio::null()));
    let at = |call: &str| output.stderr.find(call).unwrap_or_else(|| panic!("{call}: {output:?}"));
    let order = [
        "system call",
        "clone3(2)",
        "CLONE_NEWCGROUP",
        "lo up",
        "sethostname(2)",
        "bound on itself",
        "pivot_root(2)",
    ];
    assert!(order.map(at).is_sorted(), "{output:?}");
    // What cannot be had is told without being asked for.
    bundle.set("/process/capabilities/bounding", json!(["CAP_KILL", "CAP_FLY"]));
    let output = bundle.run();
    assert!(
        output.code == 0 && output.stderr.contains("warning: the capability \"CAP_FLY\" is unknown"),
        "{output:?}"
    );
}

fn an_ordinary_user_is_told_how() {
    let mut bundle = Bundle::new();
    bundle.config["linux"]["namespaces"].as_array_mut().unwrap().retain(|n| n["type"] != "user");
    let output = bundle.sh("true");
    assert!(output.code == 125 && output.stderr.contains("spec --rootless"), "{output:?}");
}

fn nothing_is_left_behind() {
    let before = Traces::now();
    let temporary = || {
        fs::read_dir(std::env::temp_dir())
            .unwrap()
            .flatten()
            .filter(|e| e.file_name().to_string_lossy().starts_with("namespaces."))
            .count()
    };
    let files = temporary();
    let mut bundle = Bundle::new();
    assert_eq!(bundle.sh("exit 3").code, 3);
    assert_eq!(bundle.args(&["nope"]).run().code, 127);
    // Killed in the middle, again and again at another moment: what was half made goes with it.
    for milliseconds in (0..40).step_by(4) {
        bundle.args(&["/bin/true"]);
        let mut runtime = bundle.command().stdin(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(milliseconds));
        let _ = runtime.kill();
        runtime.wait().unwrap();
    }
    std::thread::sleep(Duration::from_millis(300));
    let left = fs::read_dir("/proc").unwrap().flatten().filter(|e| {
        let text = fs::read(e.path().join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&text).contains(bundle.dir.path().to_str().unwrap())
    });
    assert_eq!(left.count(), 0, "processes");
    drop(bundle);
    let other = |line: &String| line.contains("namespaces.");
    assert_eq!(Traces::now().beyond(&before).iter().filter(|l| other(l)).count(), 0);
    let _ = files; // a killed runtime cannot remove its directory of one socket
}

/// What the specification has be an error, and a word of it.
fn what_must_be_an_error_is_one() {
    let device = |path: &str| json!([{"path": path, "type": "c", "major": 10, "minor": 229}]);
    let rule = |rule: serde_json::Value| json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]});
    let namespace =
        |path: &str| json!([{"type": "mount"}, {"type": "uts"}, {"type": "network", "path": path}]);
    for (pointer, value, word) in [
        ("/linux/namespaces", namespace("/proc/self/ns/uts"), "join the net namespace"),
        ("/linux/namespaces", namespace("/etc/passwd"), "join the net namespace"),
        ("/linux/namespaces", namespace("ns/net"), "is not absolute"),
        ("/linux/namespaces", json!([{"type": "mount"}, {"type": "uts"}, {"type": "nonsense"}]), "nonsense"),
        ("/linux/devices", device("/etc/passwd"), "something else is at"),
        ("/linux/devices", device("dev/relative"), "is not absolute"),
        ("/linux/maskedPaths", json!(["relative"]), "is not absolute"),
        ("/linux/readonlyPaths", json!(["relative"]), "is not absolute"),
        ("/linux/rootfsPropagation", json!("sideways"), "is unknown"),
        ("/linux/seccomp", rule(json!({"names": [], "action": "SCMP_ACT_ERRNO"})), "names no system call"),
        (
            "/linux/seccomp",
            rule(json!({"names": ["read"], "action": "SCMP_ACT_NONSENSE"})),
            "SCMP_ACT_NONSENSE",
        ),
        ("/linux/intelRdt", json!({}), "intelRdt"),
        ("/root/path", json!("no-such-directory"), "no-such-directory"),
        ("/mounts", json!([{"destination": "", "type": "tmpfs"}]), "is not absolute"),
        ("/mounts", json!([{"destination": "/m", "type": "nonsense"}]), "mount nonsense"),
        (
            "/mounts",
            json!([{"destination": "/m", "type": "bind", "source": "/", "options": ["bind"],
            "uidMappings": [{"containerID": 0, "hostID": 1, "size": 1}]}]),
            "uidMappings and gidMappings",
        ),
        ("/process/cwd", json!("relative"), "is not absolute"),
        ("/process/rlimits", json!([{"type": "RLIMIT_NONSENSE", "soft": 1, "hard": 1}]), "RLIMIT_NONSENSE"),
        (
            "/process/rlimits",
            json!([{"type": "RLIMIT_NOFILE", "soft": u64::MAX, "hard": u64::MAX}]),
            "nr_open",
        ),
        ("/process/scheduler", json!({"policy": "SCHED_NONSENSE"}), "SCHED_NONSENSE"),
        (
            "/process/ioPriority",
            json!({"class": "IOPRIO_CLASS_NONSENSE", "priority": 1}),
            "IOPRIO_CLASS_NONSENSE",
        ),
        ("/hooks", json!({"createContainer": [{"path": "true"}]}), "absolute"),
        ("/hooks", json!({"createContainer": [{"path": "/bin/true", "timeout": 0}]}), "not above zero"),
    ] {
        let mut bundle = Bundle::new();
        bundle.set(pointer, value.clone());
        let output = bundle.sh("echo ran");
        assert!(output.code != 0 && output.stdout.is_empty(), "{pointer} {value}: {output:?}");
        assert!(output.stderr.contains(word), "{pointer} {value}: {output:?}");
    }
}

fn what_must_not_be_an_error_is_none() {
    for (pointer, value) in [
        ("/annotations", json!({"com.example.unknown": "", "org.example": "x"})),
        ("/fromTheFuture", json!({"a": [1]})),
        ("/linux/fromTheFuture", json!("x")),
        ("/process/consoleSize", json!({"height": 1, "width": 2})),
        ("/linux/maskedPaths", json!(["/no/such/path"])),
    ] {
        let mut bundle = Bundle::new();
        bundle.set(pointer, value.clone());
        assert_eq!(bundle.says("test -t 0 || echo ran"), "ran", "{pointer} {value}");
    }
    // The order of mounts is the configuration's, and where a relative source begins is the bundle.
    let mut bundle = Bundle::new();
    fs::create_dir(bundle.dir.path().join("data")).unwrap();
    fs::write(bundle.dir.path().join("data/file"), "").unwrap();
    bundle.bind("data", "/data", &["bind"]);
    for (to, mark) in [("/m", "outer"), ("/m/below", "inner"), ("/m", "top")] {
        bundle.mount(json!({"destination": to, "type": "tmpfs", "source": mark, "options": ["mode=755"]}));
    }
    let told = bundle.says("grep -o '^[a-z]* /m[^ ]*' /proc/mounts; ls /m /data/file");
    assert_eq!(told, "outer /m\ninner /m/below\ntop /m\n/data/file\n\n/m:");
}

fn a_namespace_that_is_not_named_is_the_callers() {
    let mut bundle = Bundle::new();
    bundle.set("/linux/namespaces", json!([{"type": "mount"}, {"type": "uts"}, {"type": "pid"}]));
    for (kind, own) in
        [("net", false), ("ipc", false), ("user", false), ("cgroup", false), ("mnt", true), ("pid", true)]
    {
        let ours = fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
        let theirs = bundle.says(&format!("readlink /proc/self/ns/{kind}"));
        assert_eq!(theirs != ours.to_str().unwrap(), own, "{kind}");
    }
}

/// The table names tests; each must be one.
fn every_must_has_a_test() {
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let table = fs::read_to_string(directory.join("tests/musts.md")).unwrap();
    let read = |file: &str| fs::read_to_string(directory.join(file)).unwrap();
    let tests =
        ["tests/container.rs", "tests/attacks.rs", "tests/network.rs", "src/spec.rs", "src/seccomp/tests.rs"];
    let tests = tests.map(read).concat();
    let rows = table.lines().filter_map(|l| l.strip_prefix("| ")?.strip_suffix(" |")?.rsplit_once(" | "));
    let named: Vec<&str> = rows.map(|(_, test)| test).filter(|test| *test != "test").collect();
    assert!(named.len() > 50, "{named:?}");
    for test in named {
        let there = tests.contains(&format!("\"{test}\"")) || tests.contains(&format!("fn {test}()"));
        assert!(there, "musts.md names {test}, which is no test");
    }
}
