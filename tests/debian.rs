//! Real input, from end to end, with everybody else's tools at each seam: a Debian root made by
//! debootstrap is pushed by umoci and skopeo to docker-registry, pulled by teu, built on, run with limits, pushed
//! back, and pulled and run by podman and by docker.

use kit::{Case, Need};
use std::{
    fs,
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// Ten instructions and a second stage; the last line is what every engine must print.
const DOCKERFILE: &str = r#"
ARG BASE
FROM ${BASE} AS build
ARG WHO=nobody
ENV GREETING="hello from"
RUN apt-get --version && dpkg --version
WORKDIR /src
COPY --chmod=755 greet.sh .
RUN sed -i "s/WHO/${WHO}/" greet.sh && ln greet.sh linked.sh && rm /etc/motd

FROM ${BASE}
LABEL org.example.kind="a test"
ENV GREETING="hello from"
COPY --from=build /src/ /usr/local/bin/
RUN useradd --uid 4321 greeter && test ! -e /src
USER greeter
WORKDIR /home
ENTRYPOINT ["greet.sh"]
CMD ["everyone"]
"#;

const SCRIPT: &str = "#!/bin/sh\necho \"$GREETING WHO to $1, as $(id -u) in $PWD\"\n";
const EXPECTED: &str = "hello from stage one to everyone, as 4321 in /home";

fn main() {
    use Need::*;
    let peers =
        ["debootstrap", "umoci", "skopeo", "docker-registry", "podman", "docker", "dockerd"].map(Program);
    let mut needs = vec![Root];
    needs.extend(peers);
    kit::run(vec![Case::new("a_debian_goes_round_through_everybodys_tools", &needs, round)]);
}

/// A directory and the daemons in it; both end with the test.
struct Bench {
    dir: PathBuf,
    children: Vec<Child>,
}

impl Drop for Bench {
    fn drop(&mut self) {
        for child in self.children.iter_mut().rev() {
            // TERM, so that they take their mounts down; the pid is our own child's.
            let _ = Command::new("kill").arg(child.id().to_string()).status();
            let _ = child.wait();
        }
        // podman leaves the directory of its mounts mounted on itself.
        let _ = Command::new("umount").arg(self.dir.join("podman/overlay")).stderr(Stdio::null()).status();
        // And both leave the parents of their groups; rmdir takes what is empty.
        for tree in fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            for group in ["libpod_parent/conmon", "libpod_parent", "docker"] {
                let _ = fs::remove_dir(tree.path().join(group));
            }
        }
        if let Err(e) = fs::remove_dir_all(&self.dir) {
            eprintln!("{} stays behind: {e}", self.dir.display());
        }
    }
}

impl Bench {
    fn daemon(&mut self, command: &mut Command) {
        let log =
            fs::File::create(self.dir.join(format!("daemon-{}.log", self.children.len()))).expect("a log");
        let child = command.stdin(Stdio::null()).stdout(log.try_clone().expect("a log")).stderr(log).spawn();
        self.children.push(child.unwrap_or_else(|e| panic!("{command:?}: {e}")));
    }
}

fn round() {
    let before = kit::Traces::now();
    {
        let dir = PathBuf::from(format!("/var/tmp/teu-debian-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("a directory for the test");
        go_round(Bench { dir, children: Vec::new() });
    }
    let left = kit::Traces::now().beyond(&before);
    assert!(left.is_empty(), "left behind:\n{}", left.join("\n"));
}

fn go_round(mut bench: Bench) {
    let dir = bench.dir.clone();
    let at = |name: &str| dir.join(name);

    // A Debian, as its own installer makes it.
    out(Command::new("debootstrap").args(["--variant=minbase", "bookworm"]).arg(at("root")));
    out(Command::new("tar").arg("-C").arg(at("root")).arg("-cf").arg(at("layer.tar")).arg("."));
    let layout = at("layout");
    let image = format!("{}:debian", layout.display());
    out(Command::new("umoci").args(["init", "--layout"]).arg(&layout));
    out(Command::new("umoci").args(["new", "--image", &image]));
    out(Command::new("umoci").args(["raw", "add-layer", "--image", &image]).arg(at("layer.tar")));

    // Somebody's registry.
    let port = free_port();
    let registry = format!("127.0.0.1:{port}");
    fs::write(
        at("registry.yml"),
        format!(
            "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '{registry}'}}\n",
            at("registry").display()
        ),
    )
    .expect("its configuration");
    bench.daemon(Command::new("docker-registry").arg("serve").arg(at("registry.yml")));
    until("docker-registry answers", || std::net::TcpStream::connect(&registry).is_ok());
    let debian = format!("{registry}/debian:bookworm");
    out(Command::new("skopeo").args([
        "copy",
        "--dest-tls-verify=false",
        &format!("oci:{image}"),
        &format!("docker://{debian}"),
    ]));

    // teu pulls, builds, runs with limits, and pushes.
    let socket = at("teu.sock");
    let host = format!("unix://{}", socket.display());
    bench.daemon(
        Command::new(env!("CARGO_BIN_EXE_teu"))
            .arg("daemon")
            .arg("--data-root")
            .arg(at("teu"))
            .arg("--exec-root")
            .arg(at("teu-run"))
            .args(["-H", &host]),
    );
    until("teu answers", || std::os::unix::net::UnixStream::connect(&socket).is_ok());
    let teu = || {
        let mut c = Command::new(env!("CARGO_BIN_EXE_teu"));
        c.args(["-H", &host]);
        c
    };
    out(teu().args(["pull", &debian]));
    fs::create_dir(at("context")).expect("a context");
    fs::write(at("context/greet.sh"), SCRIPT).expect("a script");
    fs::write(at("context/Dockerfile"), DOCKERFILE).expect("a Dockerfile");
    let app = format!("{registry}/app:1");
    let base = format!("BASE={debian}");
    let built = out(teu()
        .args([
            "build",
            "--network",
            "none",
            "-t",
            &app,
            "--build-arg",
            &base,
            "--build-arg",
            "WHO=stage one",
        ])
        .arg(at("context")));
    assert!(built.contains("apt "), "the build shows what apt-get printed:\n{built}");
    let limits = ["--memory", "128m", "--cpus", "0.5", "--pids-limit", "64", "--network", "none"];
    assert_eq!(out(teu().args(["run", "--rm"]).args(limits).arg(&app)).trim(), EXPECTED);
    out(teu().args(["push", &app]));

    // podman and docker have it from the registry.
    let podman = |words: &[&str]| {
        let mut c = Command::new("podman");
        c.arg("--root").arg(at("podman")).arg("--runroot").arg(at("podman-run")).args(words);
        c
    };
    out(&mut podman(&["pull", "--tls-verify=false", &app]));
    // Left to itself podman raises these two limits, which not every root may; and its usual runtime, crun,
    // refuses a machine with both kinds of control groups.
    let run =
        ["run", "--rm", "--network=none", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1000:1000"];
    assert_eq!(out(podman(&["--runtime", "runc"]).args(run).arg(&app)).trim(), EXPECTED);

    let docker_socket = at("docker.sock");
    let docker_host = format!("unix://{}", docker_socket.display());
    bench.daemon(
        Command::new("dockerd")
            .arg("--data-root")
            .arg(at("docker"))
            .arg("--exec-root")
            .arg(at("docker-run"))
            .arg("--pidfile")
            .arg(at("docker.pid"))
            .args(["--iptables=false", "--bridge=none", "-H", &docker_host]),
    );
    until("dockerd answers", || std::os::unix::net::UnixStream::connect(&docker_socket).is_ok());
    let docker = || {
        let mut c = Command::new("docker");
        c.args(["-H", &docker_host]);
        c
    };
    out(docker().args(["pull", &app]));
    assert_eq!(out(docker().args(["run", "--rm", "--network", "none", &app])).trim(), EXPECTED);
}

/// What a command printed; it must succeed.
fn out(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{stdout}\n{stderr}", output.status);
    stdout
}

/// Waits for another program, which tells us in no other way than by answering.
fn until(what: &str, ready: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !ready() {
        assert!(Instant::now() < deadline, "30 s passed, and not yet: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a loopback port").port()
}
