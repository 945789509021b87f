//! The container lifecycle by the command line, as conmon, containerd's shim and people use it.
#![allow(clippy::unwrap_used)]

mod bundle;

use bundle::{Bundle, text, wait_for};
use kit::{Case, Need, Traces, code};
use serde_json::{Value, json};
use std::{
    fs,
    io::{IoSliceMut, Read},
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::net::UnixListener,
    },
    process::Stdio,
    time::Duration,
};

fn main() {
    let root = &[Need::Root];
    kit::run(vec![
        Case::new("create_start_kill_delete", root, lifecycle),
        Case::new("state_is_the_specs_json", root, state_json),
        Case::new("run_gives_the_exit_code", root, exit_codes),
        Case::new("run_explains_its_steps", root, explained),
        Case::new("run_passes_signals_on", root, run_signals),
        Case::new("options_on_both_sides_of_the_id", root, both_sides),
        Case::new("an_id_is_taken_once", root, taken),
        Case::new("a_group_is_one_containers", root, group_taken),
        Case::new("an_id_may_be_used_again", root, used_again),
        Case::new("cgroups_paths", root, cgroups_paths),
        Case::new("every_operation_wants_an_id", &[], wants_an_id),
        Case::new("every_must_has_a_test", &[], musts),
        Case::new("bad_ids_are_refused", root, bad_ids),
        Case::new("only_the_stopped_are_deleted", root, delete),
        Case::new("exec", root, exec),
        Case::new("exec_by_process_json", root, exec_process),
        Case::new("exec_beside_a_process_that_moved_down", &[Need::CgroupV2], exec_below),
        Case::new("pause_and_resume", root, pause),
        Case::new("update_and_stats", root, update),
        Case::new("list_and_ps", root, list),
        Case::new("hooks_run_in_order_with_the_state", root, hooks),
        Case::new("a_failing_hook_undoes_the_creation", root, failing_hook),
        Case::new("later_changes_of_the_bundle_have_no_effect", root, frozen_config),
        Case::new("a_terminal_by_the_console_socket", root, console_socket),
        Case::new(
            "a_terminal_in_the_foreground",
            &[Need::Root, Need::Program("script")],
            foreground_terminal,
        ),
        Case::new("errors_go_to_the_log_as_json", root, log),
        Case::new("pid_file_and_preserved_descriptors", root, descriptors),
        Case::new("out_of_memory_is_told", root, oom),
        Case::new("after_a_crash_force_removes_all", root, crash),
        Case::new("no_namespaces_of_its_own_and_still_all_die", root, shared_pid),
        Case::new("an_ordinary_user_runs_a_bundle", &[Need::OrdinaryUser, Need::UserNamespaces], rootless),
        Case::new(
            "a_limit_without_a_group_is_explained",
            &[Need::OrdinaryUser, Need::UserNamespaces],
            rootless_limit,
        ),
        Case::new("nothing_is_left_behind", root, traces),
    ]);
}

fn explained() {
    let b = Bundle::new("exit 3");
    let said = b.fails(&["run", "--explain", "--bundle", "BUNDLE", "ID"]);
    let at = |words: &str| said.find(words).unwrap_or_else(|| panic!("{words}: {said}"));
    assert!(["system call", "mkdir(2)", "clone3(2)", "pivot_root(2)"].map(at).is_sorted(), "{said}");
}

fn lifecycle() {
    let b = Bundle::new("echo ran >/tmp/ran; exec sleep 100");
    b.ok(&["create", "--bundle", "BUNDLE", "ID"]);
    assert_eq!(b.state()["status"], "created");
    assert!(!b.path("rootfs/tmp/ran").exists(), "its program does not run before start");
    b.ok(&["start", "ID"]);
    wait_for(&b.path("rootfs/tmp/ran"));
    assert_eq!(b.state()["status"], "running");
    assert!(b.fails(&["start", "ID"]).contains("cannot start container"));
    b.ok(&["kill", "ID", "KILL"]);
    let state = b.until("stopped");
    assert_eq!(state["pid"], 0);
    assert!(
        b.fails(&["kill", "ID", "TERM"]).contains("container not running"),
        "containerd looks for these words"
    );
    b.ok(&["delete", "ID"]);
    assert!(b.fails(&["state", "ID"]).contains("does not exist"), "and podman for these");
    assert!(b.fails(&["delete", "ID"]).contains("does not exist"));
    b.ok(&["delete", "--force", "ID"]);
}

fn state_json() {
    let b = Bundle::with("sleep 100", |c| c["annotations"] = json!({"org.example.key": "value"}));
    b.ok(&["create", "-b", "BUNDLE", "ID"]);
    let mut state = b.state();
    let pid = state["pid"].as_i64().unwrap();
    assert!(fs::metadata(format!("/proc/{pid}")).is_ok());
    let created = state["created"].take();
    assert!(created.as_str().unwrap().ends_with('Z'), "{created}");
    let bundle = b.dir.path().canonicalize().unwrap();
    assert_eq!(
        state,
        json!({
            "ociVersion": "1.2.0",
            "id": b.id,
            "status": "created",
            "pid": pid,
            "bundle": bundle,
            "rootfs": bundle.join("rootfs"),
            "created": null,
            "annotations": {"org.example.key": "value"},
            "owner": "",
        })
    );
}

fn exit_codes() {
    for (script, expected) in
        [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 0), ("sh -c 'kill -TERM $$'", 143)]
    {
        let b = Bundle::new(script);
        let output = b.call(&["run", "-b", "BUNDLE", "ID"]);
        // To the first process of a PID namespace its own SIGKILL is not delivered.
        assert_eq!(code(output.status), expected, "{script}: {}", text(&output.stderr));
        assert!(b.fails(&["state", "ID"]).contains("does not exist"), "run deletes");
    }
    let missing = Bundle::with("", |c| c["process"]["args"] = json!(["no-such-program"]));
    let output = missing.call(&["run", "-b", "BUNDLE", "ID"]);
    assert_eq!(code(output.status), 127);
    assert!(text(&output.stderr).contains("executable file not found in $PATH"), "{}", text(&output.stderr));
    assert!(missing.fails(&["state", "ID"]).contains("does not exist"));
    let killed = Bundle::new("echo up >/tmp/up; exec sleep 100");
    let mut child = killed.command(&["run", "-b", "BUNDLE", "ID"]).spawn().unwrap();
    wait_for(&killed.path("rootfs/tmp/up"));
    killed.ok(&["kill", "ID", "9"]);
    assert_eq!(code(child.wait().unwrap()), 137);
}

fn run_signals() {
    let b = Bundle::new("trap 'exit 42' TERM; echo up >/tmp/up; while :; do sleep 0.05; done");
    let mut child = b.command(&["run", "-b", "BUNDLE", "ID"]).spawn().unwrap();
    wait_for(&b.path("rootfs/tmp/up"));
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.id() as i32), nix::sys::signal::SIGTERM).unwrap();
    assert_eq!(code(child.wait().unwrap()), 42);
}

fn both_sides() {
    let b = Bundle::new("exec sleep 100");
    b.ok(&["create", "ID", "--bundle", "BUNDLE"]);
    b.ok(&["start", "ID"]);
    b.ok(&["kill", "ID", "SIGKILL", "--all"]);
    b.until("stopped");
    b.ok(&["delete", "ID", "--force"]);
}

fn taken() {
    let b = Bundle::new("exec sleep 100");
    b.ok(&["run", "-d", "-b", "BUNDLE", "ID"]);
    let pid = b.state()["pid"].clone();
    assert!(b.fails(&["create", "-b", "BUNDLE", "ID"]).contains("already exists"));
    assert_eq!(b.state()["pid"], pid, "the one that was there lives on");
}

fn group_taken() {
    let path = format!("/teu-test-shared-{}", std::process::id());
    let in_group = |c: &mut Value| c["linux"]["cgroupsPath"] = json!(path);
    let first = Bundle::with("exec sleep 100", in_group);
    first.ok(&["run", "-d", "-b", "BUNDLE", "ID"]);
    let second = Bundle::with("exec sleep 100", in_group);
    let told = second.fails(&["run", "-d", "-b", "BUNDLE", "ID"]);
    assert!(told.contains("is taken"), "{told}");
    second.ok(&["delete", "--force", "ID"]);
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(first.state()["status"], "running", "what went wrong for one must not end the other");
}

fn used_again() {
    let b = Bundle::new("exit 0");
    for _ in 0..3 {
        b.ok(&["run", "-d", "-b", "BUNDLE", "ID"]);
        b.until("stopped");
        b.ok(&["delete", "ID"]);
    }
}

/// Where a container's group is, in each tree.
fn groups(b: &Bundle) -> Vec<String> {
    let pid = b.state()["pid"].as_i64().unwrap();
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let mut all: Vec<String> =
        text.lines().filter_map(|l| l.splitn(3, ':').nth(2)).map(str::to_owned).collect();
    all.retain(|path| path.contains("teu-test"));
    all
}

fn cgroups_paths() {
    let name = format!("teu-test-path-{}", std::process::id());
    let at = |path: Option<String>| {
        let b = Bundle::with("exec sleep 100", |c| match path {
            Some(path) => c["linux"]["cgroupsPath"] = json!(path),
            None => drop(c["linux"].as_object_mut().unwrap().remove("cgroupsPath")),
        });
        b.ok(&["create", "-b", "BUNDLE", "ID"]);
        let groups = groups(&b);
        b.ok(&["delete", "-f", "ID"]);
        (groups, b)
    };
    let (absolute, _) = at(Some(format!("/{name}")));
    assert!(!absolute.is_empty() && absolute.iter().all(|g| *g == format!("/{name}")), "{absolute:?}");
    let (relative, _) = at(Some(name.clone()));
    assert!(
        !relative.is_empty() && relative.iter().all(|g| g.ends_with(&format!("/{name}"))),
        "{relative:?}"
    );
    assert_eq!(at(Some(name.clone())).0, relative, "the same place for the same path");
    let (none, b) = at(None);
    assert!(!none.is_empty() && none.iter().all(|g| g.ends_with(&b.id)), "{none:?}");
    let outside = Bundle::with("true", |c| c["linux"]["cgroupsPath"] = json!("/../../etc"));
    assert!(outside.fails(&["create", "-b", "BUNDLE", "ID"]).contains("contains '..'"));
}

fn wants_an_id() {
    let b = Bundle::new("true");
    for operation in ["create", "start", "state", "kill", "delete", "run", "exec", "pause", "resume"] {
        let told = b.fails(&[operation]);
        assert!(told.contains("<ID>") || told.contains("[ID]"), "{operation}: {told}");
    }
}

/// The table names tests; each must be one.
fn musts() {
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let table = fs::read_to_string(directory.join("musts.md")).unwrap();
    let tests = ["lifecycle.rs", "limits.rs", "conformance.rs"]
        .map(|f| fs::read_to_string(directory.join(f)).unwrap())
        .concat();
    let rows = table.lines().filter_map(|l| l.strip_prefix("| ")?.strip_suffix(" |")?.rsplit_once(" | "));
    let named: Vec<&str> = rows.map(|(_, test)| test).filter(|test| *test != "test").collect();
    assert!(named.len() > 30, "{named:?}");
    for test in named {
        assert!(tests.contains(&format!("\"{test}\"")), "musts.md names {test}, which is no test");
    }
}

fn bad_ids() {
    let b = Bundle::new("true");
    for bad in ["../x", "a/b", "", ".", ".."] {
        assert!(b.fails(&["create", "-b", "BUNDLE", "--", bad]).contains("invalid container ID"), "{bad:?}");
        assert!(b.fails(&["delete", "--force", "--", bad]).contains("invalid container ID"), "{bad:?}");
    }
}

fn delete() {
    let b = Bundle::new("exec sleep 100");
    b.ok(&["create", "-b", "BUNDLE", "ID"]);
    assert!(b.fails(&["delete", "ID"]).contains("cannot delete container"));
    b.ok(&["start", "ID"]);
    let told = b.fails(&["delete", "ID"]);
    assert!(told.contains("it is running (stop it first, or use --force)"), "{told}");
    b.ok(&["delete", "-f", "ID"]);
}

fn exec() {
    let b = Bundle::new("exec sleep 100");
    b.ok(&["run", "-d", "-b", "BUNDLE", "ID"]);
    assert_eq!(b.ok(&["exec", "ID", "echo", "-n", "hi"]), "hi");
    assert_eq!(code(b.call(&["exec", "ID", "sh", "-c", "exit 9"]).status), 9);
    assert_eq!(code(b.call(&["exec", "ID", "sh", "-c", "kill -9 $$"]).status), 137);
    assert_eq!(code(b.call(&["exec", "ID", "no-such-program"]).status), 255, "runc's");
    let told = b.ok(&[
        "exec",
        "--env",
        "A=B",
        "--cwd",
        "/tmp",
        "--user",
        "12:34",
        "ID",
        "sh",
        "-c",
        "echo $A $PWD $(id -u) $(id -g)",
    ]);
    assert_eq!(told, "B /tmp 12 34\n");
    let cgroup = |who: &[&str]| {
        b.ok(who)
            .lines()
            .filter(|l| l.contains("memory") || l.starts_with("0::"))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let _ = cgroup;
    // It is in the container's group and namespaces.
    let pids: Vec<i32> = serde_json::from_str(&b.ok(&["ps", "--format", "json", "ID"])).unwrap();
    b.ok(&["exec", "--detach", "--pid-file", b.path("pid").to_str().unwrap(), "ID", "sleep", "50"]);
    let pid: i32 = fs::read_to_string(b.path("pid")).unwrap().parse().unwrap();
    let now: Vec<i32> = serde_json::from_str(&b.ok(&["ps", "--format", "json", "ID"])).unwrap();
    assert!(!pids.contains(&pid) && now.contains(&pid), "{pid} in {now:?}");
    let ns = |pid: i64, kind: &str| fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap();
    let first = b.state()["pid"].as_i64().unwrap();
    for kind in ["pid", "mnt", "uts", "ipc", "net", "cgroup"] {
        assert_eq!(ns(pid.into(), kind), ns(first, kind), "{kind}");
    }
    b.ok(&["kill", "ID", "KILL"]);
    b.until("stopped");
    assert!(b.fails(&["exec", "ID", "true"]).contains("it is stopped"));
}

fn exec_process() {
    let b = Bundle::new("exec sleep 100");
    b.ok(&["run", "-d", "-b", "BUNDLE", "ID"]);
    let process = json!({
        "args": ["/bin/sh", "-c", "echo $X; grep -E 'NoNewPrivs|CapEff' /proc/self/status"],
        "cwd": "/", "env": ["X=yes", "PATH=/usr/bin:/bin"], "user": {"uid": 0, "gid": 0}, "noNewPrivileges": true,
        "capabilities": {"bounding": ["CAP_KILL"], "effective": ["CAP_KILL"], "permitted": ["CAP_KILL"]},
    });
    fs::write(b.path("process.json"), process.to_string()).unwrap();
    let told = b.ok(&["exec", "--process", b.path("process.json").to_str().unwrap(), "ID"]);
    assert_eq!(told, "yes\nCapEff:\t0000000000000020\nNoNewPrivs:\t1\n");
}

fn exec_below() {
    let b = Bundle::new("exec sleep 100");
    b.ok(&["run", "-d", "-b", "BUNDLE", "ID"]);
    let group = std::path::Path::new("/sys/fs/cgroup").join(groups(&b)[0].trim_start_matches('/'));
    fs::create_dir(group.join("inner")).unwrap();
    fs::write(group.join("inner/cgroup.procs"), b.state()["pid"].to_string()).unwrap();
    fs::write(group.join("cgroup.subtree_control"), "+pids").unwrap();
    assert_eq!(b.ok(&["exec", "ID", "echo", "hi"]), "hi\n");
    b.ok(&["delete", "-f", "ID"]);
    assert!(!group.exists(), "what the container made below goes with it");
}

fn pause() {
    let b = Bundle::new("while :; do echo x >>/tmp/x; sleep 0.01; done");
    b.ok(&["run", "-d", "-b", "BUNDLE", "ID"]);
    wait_for(&b.path("rootfs/tmp/x"));
    b.ok(&["pause", "ID"]);
    assert_eq!(b.state()["status"], "paused");
    let size = || fs::metadata(b.path("rootfs/tmp/x")).unwrap().len();
    let before = size();
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(size(), before);
    assert!(b.fails(&["exec", "ID", "true"]).contains("resume it first"));
    b.ok(&["resume", "ID"]);
    assert_eq!(b.state()["status"], "running");
    std::thread::sleep(Duration::from_millis(200));
    assert!(size() > before);
    assert!(b.fails(&["resume", "ID"]).contains("cannot resume"));
    b.ok(&["pause", "ID"]);
    b.ok(&["kill", "ID", "KILL"]);
    b.until("stopped");
}

fn update() {
    let b = Bundle::with("exec sleep 100", |c| {
        c["linux"]["resources"]["memory"] = json!({"limit": 67_108_864});
        c["linux"]["resources"]["pids"] = json!({"limit": 20});
    });
    b.ok(&["run", "-d", "-b", "BUNDLE", "ID"]);
    let stats = || serde_json::from_str::<Value>(&b.ok(&["events", "--stats", "ID"])).unwrap();
    let first = stats();
    assert_eq!(first["type"], "stats");
    assert_eq!(first["id"], b.id.as_str());
    assert_eq!(first["data"]["memory"]["usage"]["limit"], 67_108_864);
    assert_eq!(first["data"]["pids"], json!({"current": 1, "limit": 20}));
    b.ok(&[
        "update",
        "--memory",
        "128m",
        "--pids-limit",
        "30",
        "--cpu-quota",
        "50000",
        "--cpu-period",
        "100000",
        "ID",
    ]);
    assert_eq!(stats()["data"]["memory"]["usage"]["limit"], 134_217_728);
    assert_eq!(stats()["data"]["pids"]["limit"], 30);
    fs::write(b.path("limits.json"), r#"{"pids":{"limit":40}}"#).unwrap();
    b.ok(&["update", "--resources", b.path("limits.json").to_str().unwrap(), "ID"]);
    assert_eq!(stats()["data"]["pids"]["limit"], 40);
    let shown = b.ok(&["show", "ID"]);
    assert!(shown.contains("134217728") && shown.contains("50000"), "{shown}");
}

fn list() {
    let b = Bundle::new("exec sleep 100");
    assert_eq!(b.ok(&["list"]), "ID          PID         STATUS      BUNDLE      CREATED     OWNER\n");
    assert_eq!(b.ok(&["list", "-f", "json"]).trim(), "[]");
    b.ok(&["run", "-d", "-b", "BUNDLE", "ID"]);
    let listed: Value = serde_json::from_str(&b.ok(&["list", "--format", "json"])).unwrap();
    assert_eq!(
        (&listed[0]["id"], &listed[0]["status"], &listed[0]["owner"]),
        (&json!(b.id), &json!("running"), &json!("root"))
    );
    let table = b.ok(&["list"]);
    let row: Vec<&str> = table.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!((row[0], row[2], row[5]), (b.id.as_str(), "running", "root"));
    assert_eq!(b.ok(&["list", "-q"]).trim(), b.id);
    assert_eq!(b.ok(&["ps", "-f", "json", "ID"]).trim(), format!("[{}]", b.state()["pid"]));
    if kit::find_program("ps").is_some() {
        let ps = b.ok(&["ps", "ID", "-ef"]);
        assert!(ps.starts_with("UID") && ps.contains("sleep 100") && ps.lines().count() == 2, "{ps}");
    }
}

/// A hook that adds its name, and the status and ID that it was told, to a file.
fn hook(b: &Bundle, name: &str) -> Value {
    let script = format!(
        "s=$(cat); echo {name} $(echo \"$s\" | sed 's/.*\"status\":\"\\([a-z]*\\)\".*/\\1/') >>{}",
        b.path("order").display()
    );
    json!([{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"]}])
}

fn hooks() {
    let b = Bundle::new("exec sleep 100");
    let mut config = b.config();
    config["hooks"] = json!({});
    for name in ["prestart", "createRuntime", "createContainer", "poststart", "poststop"] {
        config["hooks"][name] = hook(&b, name);
    }
    // This one runs inside the root, where the file is another one.
    let inside = "cat >/tmp/startContainer";
    config["hooks"]["startContainer"] =
        json!([{"path": "/bin/sh", "args": ["sh", "-c", inside], "env": ["PATH=/usr/bin:/bin"]}]);
    b.write(&config);
    let order = || fs::read_to_string(b.path("order")).unwrap();
    b.ok(&["create", "-b", "BUNDLE", "ID"]);
    assert_eq!(order(), "prestart created\ncreateRuntime created\ncreateContainer created\n");
    assert!(!b.path("rootfs/tmp/startContainer").exists(), "startContainer waits for start");
    b.ok(&["start", "ID"]);
    let told: Value = serde_json::from_str(&wait_for(&b.path("rootfs/tmp/startContainer"))).unwrap();
    assert_eq!(told["id"], b.id.as_str());
    assert!(order().ends_with("poststart running\n"), "{}", order());
    b.ok(&["delete", "-f", "ID"]);
    assert!(order().ends_with("poststop stopped\n"), "{}", order());
}

fn failing_hook() {
    let before = Traces::now();
    let b = Bundle::new("true");
    for name in ["prestart", "createRuntime", "createContainer"] {
        let mut config = b.config();
        config["hooks"] =
            json!({name: [{"path": "/bin/sh", "args": ["sh", "-c", "echo no good >&2; exit 3"]}]});
        b.write(&config);
        let told = b.fails(&["create", "-b", "BUNDLE", "ID"]);
        assert!(told.contains("hook"), "{name}: {told}");
        assert!(b.fails(&["state", "ID"]).contains("does not exist"), "{name}");
        assert_eq!(mine(&b, &before), Vec::<String>::new(), "{name}");
    }
    // After the start: an error, the container is stopped and destroyed, and no further hook runs.
    let mut config = b.config();
    config["process"]["args"] = json!(["sleep", "100"]);
    let third =
        ["sh", "-c", "echo called >HERE"].map(|w| w.replace("HERE", b.path("third").to_str().unwrap()));
    config["hooks"] = json!({"poststart": [{"path": "/bin/true"}, {"path": "/bin/false"}, {"path": "/bin/sh", "args": third}]});
    b.write(&config);
    b.ok(&["create", "-b", "BUNDLE", "ID"]);
    assert!(b.fails(&["start", "ID"]).contains("error running poststart hook #1:"));
    assert!(b.fails(&["state", "ID"]).contains("does not exist"));
    assert!(!b.path("third").exists());
    assert_eq!(mine(&b, &before), Vec::<String>::new());
    // When it is deleted there is nothing left to fail: a warning.
    config["hooks"] = json!({"poststop": [{"path": "/bin/false"}]});
    config["process"]["args"] = json!(["true"]);
    b.write(&config);
    let output = b.call(&["run", "-b", "BUNDLE", "ID"]);
    assert!(output.status.success());
    assert!(text(&output.stderr).contains("warning"), "{}", text(&output.stderr));
}

/// Traces of this bundle's container.
fn mine(b: &Bundle, before: &Traces) -> Vec<String> {
    let directory = b.dir.path().display().to_string();
    Traces::now().beyond(before).into_iter().filter(|l| l.contains(&b.id) || l.contains(&directory)).collect()
}

fn frozen_config() {
    let b = Bundle::new("exec sleep 100");
    b.ok(&["create", "-b", "BUNDLE", "ID"]);
    fs::write(b.path("config.json"), "{}").unwrap();
    b.ok(&["start", "ID"]);
    assert_eq!(b.state()["status"], "running");
    assert_eq!(b.ok(&["exec", "ID", "echo", "hi"]), "hi\n");
}

/// Takes the descriptor out of one message.
fn receive(listener: &UnixListener) -> OwnedFd {
    let (stream, _) = listener.accept().unwrap();
    let mut space = nix::cmsg_space!(std::os::fd::RawFd);
    let mut name = [0u8; 64];
    let mut iov = [IoSliceMut::new(&mut name)];
    let message = nix::sys::socket::recvmsg::<()>(
        stream.as_raw_fd(),
        &mut iov,
        Some(&mut space),
        nix::sys::socket::MsgFlags::empty(),
    )
    .unwrap();
    for control in message.cmsgs().unwrap() {
        if let nix::sys::socket::ControlMessageOwned::ScmRights(fds) = control {
            // SAFETY: the kernel has just given us this descriptor.
            return unsafe { OwnedFd::from_raw_fd(fds[0]) };
        }
    }
    panic!("no descriptor came");
}

fn console_socket() {
    let b = Bundle::with("", |c| {
        c["process"]["terminal"] = json!(true);
        c["process"]["args"] = json!(["/bin/sh", "-c", "test -t 0 && tty && read line && echo got $line"]);
    });
    let told = b.fails(&["create", "-b", "BUNDLE", "ID"]);
    assert!(told.contains("--console-socket"), "{told}");
    let socket = b.path("console");
    let listener = UnixListener::bind(&socket).unwrap();
    b.ok(&["create", "-b", "BUNDLE", "--console-socket", socket.to_str().unwrap(), "ID"]);
    let mut master = fs::File::from(receive(&listener));
    b.ok(&["start", "ID"]);
    std::io::Write::write_all(&mut master, b"hello\n").unwrap();
    let mut all = Vec::new();
    // The end of a terminal is EIO.
    let _ = master.read_to_end(&mut all);
    let told = text(&all);
    assert!(told.contains("/dev/pts/0") || told.contains("/dev/console"), "{told:?}");
    assert!(told.contains("got hello"), "{told:?}");
}

fn foreground_terminal() {
    let b = Bundle::with("", |c| {
        c["process"]["terminal"] = json!(true);
        c["process"]["args"] = json!(["/bin/sh", "-c", "stty size; read x; echo got $x; exit 5"]);
    });
    let command = format!(
        "stty rows 33 cols 77; {} --root {} run -b {} {}; echo code $?",
        env!("CARGO_BIN_EXE_cgroups"),
        b.path("state").display(),
        b.dir.path().display(),
        b.id
    );
    let mut child = std::process::Command::new("script")
        .args(["-qec", &command, "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    std::thread::sleep(Duration::from_millis(700));
    std::io::Write::write_all(&mut stdin, b"typed\n").unwrap();
    std::thread::sleep(Duration::from_millis(500));
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    let told = text(&output.stdout);
    assert!(told.contains("33 77"), "{told:?}");
    assert!(told.contains("got typed"), "{told:?}");
    assert!(told.contains("code 5"), "{told:?}");
}

fn log() {
    let b = Bundle::new("true");
    let log = b.path("log");
    b.fails(&["--log-format=json", "--log", log.to_str().unwrap(), "create", "--bundle", "/nowhere", "ID"]);
    let line: Value =
        serde_json::from_str(fs::read_to_string(&log).unwrap().lines().last().unwrap()).unwrap();
    assert_eq!(line["level"], "error");
    assert!(line["msg"].as_str().unwrap().contains("/nowhere"), "{line}");
    assert!(line["time"].as_str().unwrap().ends_with('Z'), "{line}");
}

fn descriptors() {
    let b = Bundle::new("cat <&3 >/tmp/three; ls /proc/self/fd >/tmp/fds");
    let secret = b.path("secret");
    fs::write(&secret, "from three").unwrap();
    let pid = b.path("pid");
    let line = format!(
        "exec 3<{}; exec {} --root {} create -b {} --pid-file {} --preserve-fds 1 {} >/dev/null",
        secret.display(),
        env!("CARGO_BIN_EXE_cgroups"),
        b.path("state").display(),
        b.dir.path().display(),
        pid.display(),
        b.id
    );
    assert!(std::process::Command::new("sh").args(["-c", &line]).status().unwrap().success());
    assert_eq!(fs::read_to_string(&pid).unwrap(), b.state()["pid"].to_string());
    b.ok(&["start", "ID"]);
    assert_eq!(wait_for(&b.path("rootfs/tmp/three")), "from three");
    // 0, 1, 2, the preserved one, and the directory that ls reads.
    assert_eq!(
        wait_for(&b.path("rootfs/tmp/fds")).split_whitespace().collect::<Vec<_>>(),
        ["0", "1", "2", "3", "4"]
    );
}

fn oom() {
    let b = Bundle::with("tail /dev/zero; sleep 100", |c| {
        c["linux"]["resources"]["memory"] = json!({"limit": 25_165_824, "swap": 25_165_824});
    });
    b.ok(&["create", "-b", "BUNDLE", "ID"]);
    let mut events = b.command(&["events", "--interval", "1h", "ID"]).stdout(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(200));
    b.ok(&["start", "ID"]);
    let mut line = String::new();
    let out = events.stdout.take().unwrap();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(out), &mut line).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&line).unwrap(), json!({"type": "oom", "id": b.id}));
    let stats: Value = serde_json::from_str(&b.ok(&["events", "--stats", "ID"])).unwrap();
    assert!(stats["data"]["memory"]["outOfMemoryKills"].as_u64().unwrap() >= 1, "{stats}");
    b.ok(&["delete", "-f", "ID"]);
    assert!(events.wait().unwrap().success(), "events ends with the container");
}

fn crash() {
    let before = Traces::now();
    // The maker died before it wrote anything down.
    let b = Bundle::new("exec sleep 100");
    fs::create_dir_all(b.path("state").join(&b.id)).unwrap();
    assert_eq!(b.state()["status"], "creating");
    assert!(b.fails(&["delete", "ID"]).contains("it is creating"));
    b.ok(&["delete", "--force", "ID"]);
    // It died at some later moment: kill it at many different ones.
    for microseconds in (0..20).map(|n| n * 1400) {
        let b = Bundle::new("exec sleep 100");
        let mut create = b
            .command(&["create", "-b", "BUNDLE", "ID"])
            .stderr(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_micros(microseconds));
        let _ = create.kill();
        let _ = create.wait();
        b.ok(&["delete", "--force", "ID"]);
        assert!(b.fails(&["state", "ID"]).contains("does not exist"));
        // A child that has not heard of its parent's death yet needs a moment.
        std::thread::sleep(Duration::from_millis(5));
        assert_eq!(mine(&b, &before), Vec::<String>::new(), "killed after {microseconds} us");
    }
}

fn shared_pid() {
    // Without a PID namespace the others outlive the first process, until the group is killed.
    let b = Bundle::with("sleep 100 & sleep 100 & echo up >/tmp/up; wait", |c| {
        let namespaces = c["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|n| n["type"] != "pid");
        let mounts = c["mounts"].as_array_mut().unwrap();
        let proc = mounts.iter_mut().find(|m| m["destination"] == "/proc").unwrap();
        *proc = json!({"destination": "/proc", "source": "/proc", "type": "bind", "options": ["rbind"]});
    });
    b.ok(&["run", "-d", "-b", "BUNDLE", "ID"]);
    wait_for(&b.path("rootfs/tmp/up"));
    let pids: Vec<i32> = serde_json::from_str(&b.ok(&["ps", "-f", "json", "ID"])).unwrap();
    assert!(pids.len() >= 3, "{pids:?}");
    b.ok(&["delete", "-f", "ID"]);
    for pid in pids {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        assert!(stat.is_empty() || stat.contains(") Z ") || !stat.contains("(sleep)"), "{stat}");
    }
}

fn rootless() {
    let b = Bundle::new("id -u; exit 4");
    let mut spec: oci_spec::runtime::Spec = serde_json::from_value(b.config()).unwrap();
    namespaces::spec::in_user_namespace(&mut spec);
    b.write(&serde_json::to_value(&spec).unwrap());
    let output = b.call(&["run", "-b", "BUNDLE", "ID"]);
    assert_eq!(code(output.status), 4, "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), "0\n");
}

fn rootless_limit() {
    let b = Bundle::new("true");
    let mut config = b.config();
    config["linux"]["resources"]["memory"] = json!({"limit": 67_108_864});
    let mut spec: oci_spec::runtime::Spec = serde_json::from_value(config).unwrap();
    namespaces::spec::in_user_namespace(&mut spec);
    b.write(&serde_json::to_value(&spec).unwrap());
    let output = b.call(&["run", "-b", "BUNDLE", "ID"]);
    if !output.status.success() {
        let told = text(&output.stderr);
        assert!(told.contains("systemd-run --user --scope -p Delegate=yes"), "{told}");
    }
}

fn traces() {
    let before = Traces::now();
    let b = Bundle::new("exit 0");
    for _ in 0..10 {
        b.ok(&["run", "-b", "BUNDLE", "ID"]);
    }
    assert_eq!(mine(&b, &before), Vec::<String>::new());
    assert!(fs::read_dir(b.path("state")).unwrap().next().is_none());
}
