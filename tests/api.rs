//! The Docker Engine API, spoken to by docker's own client, as it comes.

mod engine;

use engine::{Engine, feed, file, free_port, run, until, without_a_trace};
use kit::{Case, Need};
use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    process::Stdio,
};

/// One at a time: each looks afterwards for what it left on this machine.
static ONE: std::sync::Mutex<()> = std::sync::Mutex::new(());

fn main() {
    use Need::*;
    let docker = [Root, Program("docker")];
    let alone = |name: &'static str, test: fn(&Engine)| {
        let _one = ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        without_a_trace(|| test(&Engine::start(&name[..6])));
    };
    let case = |name, test: fn(&Engine)| Case::new(name, &docker, move || alone(name, test));
    kit::run(vec![
        case("asking_what_it_is", asking),
        case("running_and_exit_codes", running),
        case("standard_input_ends_by_half_closing", input),
        case("detached_logs_stop_restart_remove", detached),
        case("exec_and_attach", exec),
        case("images_tag_history_save_load", images),
        case("build_classic", build),
        case("copying_in_and_out", copy),
        case("volumes_and_binds", volumes),
        case("limits_and_oom", limits),
        case("bridge_ports_and_names", bridge),
        case("pause_top_stats_update", live),
        case("commit_diff_rename", commit),
        case("importing_a_root_filesystem", import),
        case("no_swarm_and_one_host_network", elsewhere),
        case("health_and_restart_policy", health),
        case("privileges", privileges),
        Case::new("requests_that_are_wrong", &[Root], move || alone("wrong_requests", wrong)),
    ]);
}

fn asking(engine: &Engine) {
    let version = engine.ok(&["version", "--format", "{{.Server.APIVersion}} {{.Server.Os}}"]);
    assert_eq!(version, "1.47 linux\n");
    // The client cuts its times to seconds.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let info = engine.ok(&["info"]);
    assert!(info.contains("Images: 1") && info.contains("Storage Driver: overlay2"), "{info}");
    let events = engine.ok(&["events", "--since", "1h", "--until", "0s", "--filter", "type=image"]);
    assert!(events.contains("image load"), "{events}");
}

fn running(engine: &Engine) {
    let none = |words: &[&str]| engine.code(&[&["run", "--rm", "--network", "none"], words].concat());
    assert_eq!(none(&["base", "echo", "hi"]), (0, "hi\n".into()));
    assert_eq!(none(&["base", "sh", "-c", "exit 42"]).0, 42);
    assert_eq!(none(&["base", "sh", "-c", "sh -c 'kill -9 $$'; exit $?"]).0, 137);
    let (code, text) = none(&["base", "no-such-program"]);
    assert!(code == 127 && text.contains("executable file not found"), "{code} {text}");
    let (code, text) = none(&["base", "/etc"]);
    assert_eq!(code, 126, "{text}");
    let (code, text) = engine.code(&["run", "--rm", "--pull", "never", "nowhere/nothing"]);
    assert!(code == 125 && text.contains("No such image"), "{code} {text}");
    let (_, text) = none(&[
        "-e",
        "A=b c",
        "-w",
        "/tmp",
        "-h",
        "box",
        "base",
        "sh",
        "-c",
        "echo $A $PWD $HOSTNAME; hostname 2>/dev/null || cat /etc/hostname",
    ]);
    assert_eq!(text, "b c /tmp box\nbox\n");
    let (_, text) = none(&["base", "sh", "-c", "echo out; echo err >&2"]);
    assert!(text.contains("out\n") && text.contains("err\n"));
    let (_, text) = none(&["-t", "base", "sh", "-c", "test -t 0 && test -t 1 && echo terminal"]);
    assert_eq!(text, "terminal\r\n");
    let (_, text) =
        none(&["-u", "1234:5678", "base", "grep", "-E", "^(Uid|Gid|SigIgn)", "/proc/self/status"]);
    assert!(text.contains("Uid:\t1234") && text.contains("Gid:\t5678"), "{text}");
    let ignored =
        text.lines().find_map(|l| l.strip_prefix("SigIgn:\t")).and_then(|t| u64::from_str_radix(t, 16).ok());
    // Two above 31 belong to the C library.
    assert_eq!(ignored.map(|bits| bits & 0x7fff_ffff), Some(0), "signals are ignored: {text}");
    assert_eq!(engine.ok(&["ps", "-aq"]), "", "--rm leaves nothing");
}

fn input(engine: &Engine) {
    let words = ["run", "--rm", "-i", "--network", "none", "base", "cat"];
    assert_eq!(feed(engine.docker(&words), b"through\n"), "through\n");
    // More than any pipe or buffer on the way holds.
    let long = vec![b'x'; 3 << 20];
    assert_eq!(feed(engine.docker(&words), &long).len(), long.len());
}

fn detached(engine: &Engine) {
    let script = "trap 'echo bye; exit 3' TERM; echo one; echo two >&2; while :; do sleep 0.05; done";
    let id = engine.ok(&["run", "-d", "--name", "web", "--network", "none", "base", "sh", "-c", script]);
    assert_eq!(id.trim().len(), 64);
    until("it said two lines", || engine.code(&["logs", "web"]).1.contains("two"));
    assert_eq!(engine.ok(&["logs", "web"]), "one\n", "standard output alone");
    assert!(engine.ok(&["logs", "-t", "web"]).contains("Z one"));
    assert_eq!(engine.ok(&["logs", "--tail", "0", "web"]), "");
    assert!(engine.ok(&["ps"]).contains("Up "));
    let (code, text) = engine.code(&["run", "--name", "web", "base", "true"]);
    assert!(code == 125 && text.contains("is already in use"), "{text}");
    let (code, text) = engine.code(&["rm", "web"]);
    assert!(code == 1 && text.contains("is running"), "{text}");
    let follow = engine.docker(&["logs", "-f", "web"]).stdout(Stdio::piped()).spawn().expect("follows");
    assert_eq!(engine.ok(&["stop", "web"]), "web\n");
    let followed = follow.wait_with_output().expect("ends with it");
    assert!(String::from_utf8_lossy(&followed.stdout).ends_with("bye\n"));
    assert_eq!(engine.ok(&["inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "web"]), "exited 3\n");
    assert_eq!(engine.ok(&["wait", "web"]), "3\n");
    engine.ok(&["start", "web"]);
    engine.ok(&["restart", "-t", "1", "web"]);
    assert!(engine.ok(&["ps", "--filter", "name=web", "--format", "{{.Status}}"]).starts_with("Up "));
    engine.ok(&["kill", "web"]);
    assert_eq!(engine.ok(&["inspect", "-f", "{{.State.ExitCode}}", "web"]), "137\n");
    engine.ok(&["rm", "web"]);
    assert_eq!(engine.code(&["inspect", "web"]).0, 1);
}

fn exec(engine: &Engine) {
    engine.ok(&["run", "-dit", "--name", "shell", "--network", "none", "-e", "OWN=1", "base", "sh"]);
    assert_eq!(
        engine.ok(&["exec", "-e", "MORE=2", "-w", "/tmp", "shell", "sh", "-c", "echo $OWN $MORE $PWD"]),
        "1 2 /tmp\n"
    );
    assert_eq!(engine.code(&["exec", "shell", "sh", "-c", "exit 9"]).0, 9);
    let (code, text) = engine.code(&["exec", "shell", "no-such-program"]);
    assert!(code == 127 && text.contains("executable file not found"), "{code} {text}");
    assert_eq!(feed(engine.docker(&["exec", "-i", "shell", "cat"]), b"in\n"), "in\n");
    engine.ok(&["exec", "-d", "shell", "touch", "/tmp/done"]);
    until("the detached one ran", || engine.code(&["exec", "shell", "test", "-e", "/tmp/done"]).0 == 0);
    // The terminal echoes, the shell answers, and its end is everybody's.
    let mut attach =
        engine.docker(&["attach", "--no-stdin", "shell"]).stdout(Stdio::piped()).spawn().expect("attaches");
    std::thread::sleep(std::time::Duration::from_millis(500));
    engine.ok(&["exec", "shell", "sh", "-c", "kill -9 1; kill -HUP 1; echo to-terminal > /proc/1/fd/1"]);
    engine.ok(&["kill", "shell"]);
    let mut text = String::new();
    attach.stdout.take().expect("a pipe").read_to_string(&mut text).expect("text");
    attach.wait().expect("it ends");
    assert!(text.contains("to-terminal"), "{text:?}");
}

fn images(engine: &Engine) {
    assert!(engine.ok(&["images"]).contains("base"));
    engine.ok(&["tag", "base", "other:1"]);
    assert_eq!(engine.ok(&["images", "-q", "other"]), engine.ok(&["images", "-q", "base"]));
    assert!(engine.ok(&["history", "base"]).lines().count() >= 2);
    let tar = engine.dir.join("saved.tar");
    engine.ok(&["save", "-o", &tar.display().to_string(), "other:1"]);
    let removed = engine.ok(&["rmi", "other:1"]);
    assert_eq!(removed, "Untagged: other:1\n");
    engine.ok(&["create", "--name", "user", "base", "true"]);
    let (code, text) = engine.code(&["rmi", "base"]);
    assert!(code == 1 && text.contains("must force"), "{text}");
    engine.ok(&["rm", "user"]);
    assert!(engine.ok(&["rmi", "base"]).contains("Deleted: sha256:"));
    assert_eq!(engine.ok(&["images", "-q"]), "");
    assert!(engine.ok(&["load", "-i", &tar.display().to_string()]).contains("Loaded image: other:1"));
    assert_eq!(engine.ok(&["run", "--rm", "--network", "none", "other:1", "echo", "again"]), "again\n");
}

fn build(engine: &Engine) {
    let context = engine.dir.join("context");
    std::fs::create_dir(&context).expect("a context");
    file(
        &context.join("Dockerfile"),
        "FROM base\nARG WHO=nobody\nCOPY greeting /\nRUN echo \"$WHO\" >> /greeting\nCMD cat /greeting\n",
    );
    file(&context.join("greeting"), "hello\n");
    let build = |more: &[&str]| {
        let context = context.display().to_string();
        let mut command = engine.docker(&[&["build"], more, &[context.as_str()]].concat());
        command.env("DOCKER_BUILDKIT", "0");
        command
    };
    let first = run(build(&["-t", "greet", "--build-arg", "WHO=you", "--network", "none"]));
    assert!(
        first.contains("Step 5/5 : CMD") && first.contains("Successfully tagged greet:latest"),
        "{first}"
    );
    assert_eq!(engine.ok(&["run", "--rm", "--network", "none", "greet"]), "hello\nyou\n");
    let again = run(build(&["-t", "greet", "--build-arg", "WHO=you", "--network", "none"]));
    assert!(again.contains("Using cache"), "{again}");
    file(&context.join("Dockerfile"), "FROM base\nRUN exit 5\n");
    let output = build(&["--network", "none"]).output().expect("it runs");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && text.contains("returned a non-zero code: 5"), "{text}");
}

fn import(engine: &Engine) {
    engine.ok(&["create", "--name", "whole", "--network", "none", "base"]);
    let tar = engine.dir.join("whole.tar");
    let from = tar.display().to_string();
    engine.ok(&["export", "-o", &from, "whole"]);
    let id = engine.ok(&[
        "import",
        "-m",
        "from afar",
        "-c",
        "ENV A=b",
        "-c",
        "CMD [\"echo\", \"in\"]",
        &from,
        "flat:1",
    ]);
    let told = engine.ok(&["inspect", "-f", "{{.Id}} {{.Config.Env}}", "flat:1"]);
    assert!(told.starts_with(id.trim()) && told.ends_with("A=b]\n"), "{id} {told}");
    assert_eq!(engine.ok(&["inspect", "-f", "{{len .RootFS.Layers}}", "flat:1"]), "1\n");
    assert!(engine.ok(&["history", "flat:1"]).contains("from afar"));
    assert_eq!(engine.ok(&["run", "--rm", "--network", "none", "flat:1"]), "in\n");
    // Compressed, through a pipe.
    let gzip = std::process::Command::new("gzip").args(["-c", &from]).output().expect("gzip").stdout;
    feed(engine.docker(&["import", "-", "small"]), &gzip);
    assert_eq!(engine.ok(&["run", "--rm", "--network", "none", "small", "echo", "too"]), "too\n");
    // What is no tarball becomes no image.
    file(&tar, &"no tarball at all\n".repeat(100));
    let (code, text) = engine.code(&["import", &from, "bad"]);
    assert!(code == 1 && text.contains("not a root filesystem"), "{code} {text}");
    assert_eq!(engine.ok(&["images", "-q", "bad"]), "");
}

fn elsewhere(engine: &Engine) {
    let (code, text) = engine.code(&["node", "ls"]);
    assert!(code == 1 && text.contains("This node is not a swarm manager"), "{text}");
    let (code, text) = engine.code(&["swarm", "leave"]);
    assert!(code == 1 && text.contains("This node is not part of a swarm"), "{text}");
    let (code, text) = engine.code(&["network", "create", "-d", "host", "mine"]);
    assert!(code == 1 && text.contains("only one instance of \"host\" network is allowed"), "{text}");
    engine.ok(&["network", "create", "with space"]);
    engine.ok(&["network", "rm", "with space"]);
}

fn copy(engine: &Engine) {
    let (here, back) = (engine.dir.join("here"), engine.dir.join("back"));
    file(&here, "carried\n");
    engine.ok(&[
        "create",
        "--name",
        "box",
        "--network",
        "none",
        "base",
        "sh",
        "-c",
        "cat /tmp/here; ln -s /etc/shadow /tmp/link; sleep 100",
    ]);
    // Into one that has never run, and out of one that runs.
    engine.ok(&["cp", &here.display().to_string(), "box:/tmp/"]);
    engine.ok(&["start", "box"]);
    until("it reads the file", || engine.ok(&["logs", "box"]) == "carried\n");
    engine.ok(&["cp", "box:/tmp/here", &back.display().to_string()]);
    assert_eq!(std::fs::read_to_string(&back).expect("it came back"), "carried\n");
    let (code, text) = engine.code(&["cp", "box:/no/such/file", &back.display().to_string()]);
    assert!(code == 1 && text.contains("Could not find the file"), "{text}");
    // A link to /etc/shadow means the container's, never ours (CVE-2018-15664).
    let (_, text) = engine.code(&["cp", "-L", "box:/tmp/link", &back.display().to_string()]);
    let ours = std::fs::read("/etc/shadow").unwrap_or_default();
    assert_ne!(std::fs::read(&back).unwrap_or_default(), ours, "{text}");
    engine.ok(&["rm", "-f", "box"]);
}

fn volumes(engine: &Engine) {
    engine.ok(&["volume", "create", "kept"]);
    let none = |words: &[&str]| engine.code(&[&["run", "--rm", "--network", "none"], words].concat());
    assert_eq!(none(&["-v", "kept:/v", "base", "sh", "-c", "echo x > /v/file"]).0, 0);
    assert_eq!(none(&["-v", "kept:/v:ro", "base", "cat", "/v/file"]).1, "x\n");
    assert_ne!(none(&["-v", "kept:/v:ro", "base", "sh", "-c", "echo y > /v/file"]).0, 0);
    // A new volume begins with what the image has there.
    let (_, text) = none(&["-v", "/bin", "base", "sh", "-c", "test -s /bin/sh && echo filled"]);
    assert_eq!(text, "filled\n");
    let host = engine.dir.join("shared");
    assert_eq!(none(&["-v", &format!("{}:/s", host.display()), "base", "touch", "/s/made"]).0, 0);
    assert!(host.join("made").exists());
    assert_eq!(
        none(&["--tmpfs", "/t:size=1m", "base", "sh", "-c", "grep -c ' /t tmpfs' /proc/mounts"]).1,
        "1\n"
    );
    assert_eq!(engine.ok(&["volume", "ls", "-q"]), "kept\n", "the anonymous one went with its container");
    engine.ok(&["volume", "rm", "kept"]);
}

fn limits(engine: &Engine) {
    let (code, text) = engine.code(&[
        "run",
        "--name",
        "hungry",
        "--network",
        "none",
        "--memory",
        "16m",
        "--memory-swap",
        "16m",
        "base",
        "sh",
        "-c",
        "x=xxxxxxxxxxxxxxxx; while :; do x=$x$x; done",
    ]);
    assert_eq!(code, 137, "{text}");
    assert_eq!(engine.ok(&["inspect", "-f", "{{.State.OOMKilled}}", "hungry"]), "true\n");
    let (_, text) = engine.code(&["run", "--rm", "--network", "none", "--memory", "1m", "base", "true"]);
    assert!(text.contains("Minimum memory limit allowed is 6MB"), "{text}");
    let (code, _) = engine.code(&[
        "run",
        "--rm",
        "--network",
        "none",
        "--pids-limit",
        "4",
        "base",
        "sh",
        "-c",
        "for i in 1 2 3 4 5 6; do sleep 2 & done",
    ]);
    assert_ne!(code, 0);
}

fn bridge(engine: &Engine) {
    engine.ok(&["network", "create", "lan"]);
    let port = free_port();
    engine.ok(&[
        "run",
        "-d",
        "--name",
        "one",
        "--network",
        "lan",
        "-p",
        &format!("127.0.0.1:{port}:7000"),
        "base",
        "sleep",
        "100",
    ]);
    assert_eq!(engine.ok(&["port", "one"]), format!("7000/tcp -> 127.0.0.1:{port}\n"));
    // Of a range, the first that is free: the one that `one` has is not.
    let last = port.saturating_add(20);
    let range = format!("127.0.0.1:{port}-{last}:7000");
    engine.ok(&[
        "run",
        "-d",
        "--rm",
        "--name",
        "two",
        "--network",
        "lan",
        "-p",
        &range,
        "base",
        "sleep",
        "100",
    ]);
    let got = engine.ok(&["port", "two", "7000"]);
    let got = got.trim().strip_prefix("127.0.0.1:").and_then(|n| n.parse::<u16>().ok());
    assert!(got.is_some_and(|got| got > port && got <= last), "{got:?} of {range}");
    engine.ok(&["rm", "-f", "two"]);
    let ip = engine.ok(&["inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", "one"]);
    assert!(ip.trim().parse::<std::net::Ipv4Addr>().is_ok(), "{ip}");
    let hosts = engine.ok(&["run", "--rm", "--network", "lan", "base", "cat", "/etc/hosts"]);
    assert!(hosts.lines().any(|l| l.starts_with(ip.trim()) && l.contains("one")), "{hosts}");
    assert!(engine.ok(&["network", "inspect", "lan"]).contains("\"Name\": \"one\""));
    let (_, text) = engine.code(&["network", "rm", "lan"]);
    assert!(text.contains("has active endpoints"), "{text}");
    // Nobody listens inside: the connection is taken and closed, which shows that the proxy is there.
    assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
    engine.ok(&["rm", "-f", "one"]);
    until("the port is free again", || std::net::TcpListener::bind(("127.0.0.1", port)).is_ok());
    engine.ok(&["network", "rm", "lan"]);
    assert!(engine.ok(&["run", "--rm", "base", "cat", "/proc/net/route"]).contains("eth0"));
}

fn live(engine: &Engine) {
    engine.ok(&[
        "run",
        "-d",
        "--name",
        "busy",
        "--network",
        "none",
        "--memory",
        "64m",
        "base",
        "sleep",
        "1000",
    ]);
    engine.ok(&["pause", "busy"]);
    assert!(engine.ok(&["ps"]).contains("(Paused)"));
    engine.ok(&["unpause", "busy"]);
    assert!(engine.ok(&["top", "busy"]).contains("sleep 1000"));
    let stats = engine.ok(&["stats", "--no-stream", "--format", "{{.Name}} {{.PIDs}} {{.MemUsage}}", "busy"]);
    assert!(stats.starts_with("busy 1 ") && stats.contains("64MiB"), "{stats}");
    engine.ok(&["update", "--memory", "32m", "--memory-swap", "64m", "busy"]);
    assert!(engine.ok(&["stats", "--no-stream", "--format", "{{.MemUsage}}", "busy"]).contains("32MiB"));
    engine.ok(&["rm", "-f", "busy"]);
}

fn commit(engine: &Engine) {
    engine.ok(&[
        "run",
        "--name",
        "work",
        "--network",
        "none",
        "base",
        "sh",
        "-c",
        "echo made > /made; rm /etc/group",
    ]);
    let diff = engine.ok(&["diff", "work"]);
    assert!(diff.contains("A /made") && diff.contains("D /etc/group") && diff.contains("C /etc\n"), "{diff}");
    engine.ok(&["commit", "-m", "a test", "-c", "CMD [\"cat\", \"/made\"]", "work", "made:1"]);
    assert_eq!(engine.ok(&["run", "--rm", "--network", "none", "made:1"]), "made\n");
    assert_eq!(engine.code(&["run", "--rm", "--network", "none", "made:1", "test", "-e", "/etc/group"]).0, 1);
    engine.ok(&["rename", "work", "worked"]);
    assert_eq!(engine.ok(&["ps", "-a", "--format", "{{.Names}}"]), "worked\n");
    engine.ok(&["container", "prune", "-f"]);
    assert!(engine.ok(&["system", "df"]).contains("Containers      0"));
}

fn health(engine: &Engine) {
    engine.ok(&[
        "run",
        "-d",
        "--name",
        "well",
        "--network",
        "none",
        "--health-cmd",
        "test -e /tmp/ok",
        "--health-interval",
        "200ms",
        "--health-retries",
        "2",
        "base",
        "sleep",
        "100",
    ]);
    let status = || engine.ok(&["inspect", "-f", "{{.State.Health.Status}}", "well"]).trim().to_owned();
    until("two failures", || status() == "unhealthy");
    engine.ok(&["exec", "well", "touch", "/tmp/ok"]);
    until("it is well again", || status() == "healthy");
    engine.ok(&["rm", "-f", "well"]);
    engine.ok(&[
        "run",
        "-d",
        "--name",
        "again",
        "--network",
        "none",
        "--restart",
        "on-failure:2",
        "base",
        "false",
    ]);
    until("it was tried three times", || {
        engine.ok(&["inspect", "-f", "{{.RestartCount}} {{.State.Status}}", "again"]) == "2 exited\n"
    });
}

fn privileges(engine: &Engine) {
    let none = |words: &[&str]| engine.code(&[&["run", "--rm", "--network", "none"], words].concat()).1;
    let bounding = |words: &[&str]| {
        let text = none(&[words, &["base", "grep", "CapBnd", "/proc/self/status"]].concat());
        u64::from_str_radix(text.trim().rsplit('\t').next().unwrap_or_default(), 16)
            .unwrap_or_else(|_| panic!("{text}"))
    };
    assert_eq!(bounding(&[]), 0xa804_25fb, "docker's fourteen");
    assert_eq!(bounding(&["--cap-drop", "ALL"]), 0);
    assert_eq!(bounding(&["--cap-drop", "ALL", "--cap-add", "NET_ADMIN"]), 1 << 12);
    assert!(none(&["base", "grep", "Seccomp:", "/proc/self/status"]).contains('2'));
    assert!(
        none(&["--security-opt", "seccomp=unconfined", "base", "grep", "Seccomp:", "/proc/self/status"])
            .contains('0')
    );
    assert!(
        none(&["--security-opt", "no-new-privileges", "base", "grep", "NoNewPrivs", "/proc/self/status"])
            .contains('1')
    );
    assert!(none(&["--read-only", "base", "touch", "/x"]).contains("Read-only file system"));
    for masked in ["/proc/kcore", "/proc/keys", "/proc/timer_list"] {
        if std::path::Path::new(masked).exists() {
            assert_eq!(
                none(&["base", "sh", "-c", &format!("cat {masked} | wc -c")]).trim(),
                "0",
                "{masked} is masked"
            );
        }
    }
}

/// Spoken by hand, because no client of docker's would ask this.
fn wrong(engine: &Engine) {
    let ask = |request: &str| {
        let mut stream = UnixStream::connect(engine.socket()).expect("it answers");
        // It may have answered, and closed, before it had read all that we say.
        let _ = stream.write_all(request.as_bytes());
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let get = |path: &str| ask(&format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"));
    let post = |path: &str, body: &str| {
        ask(&format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ))
    };
    assert!(
        get("/v9.99/info").contains("client version 9.99 is too new. Maximum supported API version is 1.47")
    );
    assert!(get("/v1.1/info").starts_with("HTTP/1.1 400"));
    assert!(get("/nothing").starts_with("HTTP/1.1 404"));
    assert!(post("/grpc", "").starts_with("HTTP/1.1 404"), "buildx falls back on this");
    assert!(post("/containers/json", "").starts_with("HTTP/1.1 405"));
    assert!(get("/containers/../images/json").starts_with("HTTP/1.1 404"));
    assert!(post("/containers/create", "{").starts_with("HTTP/1.1 400"));
    assert!(post("/containers/create", "").starts_with("HTTP/1.1 400"));
    assert!(
        post("/containers/create?name=../../x", "{\"Image\":\"base\",\"Cmd\":[\"true\"]}")
            .contains("Invalid container name")
    );
    assert!(post("/volumes/create", "{\"Name\":\"../x\"}").starts_with("HTTP/1.1 400"));
    assert!(
        post("/containers/create", &format!("{{\"Image\":\"{}\"}}", "x".repeat(5 << 20)))
            .starts_with("HTTP/1.1 400")
    );
    let odd = "{\"Image\":\"base\",\"Cmd\":[\"true\"],\"HostConfig\":null,\"Unknown\":[1],\"Env\":null,\"Volumes\":null}";
    assert!(post("/containers/create", odd).starts_with("HTTP/1.1 201"), "null and unknown fields are taken");
    assert!(get("/containers/json?filters=%7B%22bogus%22%3A%5B%22x%22%5D%7D").starts_with("HTTP/1.1 400"));
}
