//! Our own command line, as a user types it: what it prints, word for word, and its exit codes.

mod engine;

use engine::{Engine, feed, run};
use kit::{Case, Need};
use std::process::Stdio;

fn main() {
    let case = |name, test: fn(&Engine)| {
        Case::new(name, &[Need::UserNamespaces], move || test(&Engine::start(&name[..6])))
    };
    kit::run(vec![
        case("runs_and_exit_codes", runs),
        case("lists_and_formats", lists),
        case("containers_one_after_another", several),
        case("explain_tells_the_steps", explain),
        case("builds_and_what_is_ignored", builds),
        Case::new("a_daemon_that_is_not_there", &[], nobody),
    ]);
}

/// The exit code, stdout, stderr.
fn said(engine: &Engine, words: &[&str]) -> (i32, String, String) {
    let output = engine.teu(words).stdin(Stdio::null()).output().expect("teu runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (kit::code(output.status), text(&output.stdout), text(&output.stderr))
}

fn runs(engine: &Engine) {
    let none = |words: &[&str]| said(engine, &[&["run", "--rm", "--network", "none"], words].concat());
    assert_eq!(
        none(&["base", "sh", "-c", "echo out; echo err >&2; exit 3"]),
        (3, "out\n".into(), "err\n".into())
    );
    assert_eq!(
        feed(engine.teu(&["run", "-i", "--rm", "--network", "none", "base", "cat"]), b"to and fro"),
        "to and fro"
    );
    let (code, out, err) = none(&["base", "no-such-program"]);
    assert_eq!((code, out.as_str()), (127, ""));
    assert!(err.starts_with("teu: Error response from daemon: "), "{err}");
    assert!(err.ends_with("\n\nRun 'teu run --help' for more information\n"), "{err}");
    assert_eq!(none(&["base", "/etc/passwd"]).0, 126);
    let (code, _, err) = none(&["--pull", "never", "no-such-image"]);
    assert!(code == 125 && err.contains("No such image: no-such-image:latest"), "{code} {err}");
    let (code, _, err) = none(&["-m", "lots", "base"]);
    assert!(code == 125 && err.starts_with("teu: invalid size: 'lots'"), "{code} {err}");
    let (code, _, err) = said(engine, &["run", "--no-such-flag", "base"]);
    assert!(code == 125 && err.contains("--no-such-flag"), "{code} {err}");
}

fn lists(engine: &Engine) {
    let heading = run(engine.teu(&["ps", "-a"]));
    assert_eq!(heading, "CONTAINER ID   IMAGE     COMMAND   CREATED   STATUS    PORTS     NAMES\n");
    let names = run(engine.teu(&["images", "--format", "{{.Repository}}:{{.Tag}}"]));
    assert_eq!(names, "base:latest\n");
    assert_eq!(
        run(engine.teu(&["network", "ls", "--format", "table {{.Name}}\\t{{.Driver}}"])),
        "NAME      DRIVER\nbridge    bridge\nhost      host\nnone      null\n"
    );
    assert_eq!(
        run(engine.teu(&["inspect", "-f", "{{json .Config.Cmd}} {{.Os}}", "base"])),
        "[\"sh\"] linux\n"
    );
    assert_eq!(
        said(engine, &["inspect", "nothing"]),
        (1, "[]\n".into(), "Error: No such object: nothing\n".into())
    );
}

fn several(engine: &Engine) {
    let id = run(engine.teu(&[
        "run",
        "-d",
        "--name",
        "web",
        "--network",
        "none",
        "base",
        "sh",
        "-c",
        "echo up; exec sleep 1000",
    ]));
    assert_eq!(id.trim().len(), 64, "{id}");
    assert_eq!(run(engine.teu(&["ps", "-q", "--no-trunc"])), id);
    engine::until("it says up", || run(engine.teu(&["logs", "web"])) == "up\n");
    let (code, out, _) = said(engine, &["exec", "web", "sh", "-c", "echo in; exit 4"]);
    assert_eq!((code, out.as_str()), (4, "in\n"));
    assert_eq!(feed(engine.teu(&["exec", "-i", "web", "cat"]), b"data"), "data");
    let file = engine.dir.join("file");
    std::fs::write(&file, "copied").expect("a file");
    run(engine.teu(&["cp", &file.display().to_string(), "web:/tmp/new"]));
    assert_eq!(run(engine.teu(&["exec", "web", "cat", "/tmp/new"])), "copied");
    let back = engine.dir.join("back");
    run(engine.teu(&["cp", "web:/tmp/new", &back.display().to_string()]));
    assert_eq!(std::fs::read_to_string(&back).expect("it came back"), "copied");
    // Also where an ordinary user has no group by which to know them.
    assert!(run(engine.teu(&["top", "web"])).contains("sleep"));
    assert_eq!(run(engine.teu(&["stop", "-t", "0", "web"])), "web\n");
    assert_eq!(run(engine.teu(&["wait", "web"])), "137\n");
    let (code, out, err) = said(engine, &["rm", "web", "web"]);
    assert_eq!((code, out.as_str()), (1, "web\n"));
    assert_eq!(err, "Error response from daemon: No such container: web\n");
}

fn explain(engine: &Engine) {
    let (code, out, err) =
        said(engine, &["run", "--explain", "--rm", "--network", "none", "base", "echo", "hi"]);
    assert_eq!((code, out.as_str()), (0, "hi\n"), "{err}");
    assert!(err.starts_with("  #      µs  system call"), "{err}");
    let at = |call: &str| {
        err.lines().position(|line| line.contains(call)).unwrap_or_else(|| panic!("no {call}: {err}"))
    };
    assert!(
        at(" clone3(2) ") < at(" sethostname(2) ") && at(" sethostname(2) ") < at(" pivot_root(2) "),
        "{err}"
    );
    for (n, line) in err.lines().skip(1).enumerate() {
        assert_eq!(line.split_whitespace().next(), Some((n + 1).to_string().as_str()), "{line}");
    }
}

fn builds(engine: &Engine) {
    let context = engine.dir.join("context");
    std::fs::create_dir_all(context.join("sub")).expect("a directory");
    for (name, text) in [
        ("Dockerfile", "FROM base\nCOPY . /all\nCMD [\"ls\", \"/all\"]\n"),
        (".dockerignore", "*.log\n"),
        ("a.log", ""),
        ("sub/kept", ""),
    ] {
        std::fs::write(context.join(name), text).expect("a file");
    }
    let context = context.display().to_string();
    let out = run(engine.teu(&["build", "-t", "listing", &context]));
    assert!(
        out.contains("Step 2/3 : COPY . /all\n") && out.ends_with("Successfully tagged listing:latest\n"),
        "{out}"
    );
    assert_eq!(run(engine.teu(&["run", "--rm", "--network", "none", "listing"])), "Dockerfile\nsub\n");
    let id = run(engine.teu(&["build", "-q", &context]));
    assert!(id.starts_with("sha256:") && id.trim().len() == 71, "{id}");
    std::fs::write(engine.dir.join("context/Dockerfile"), "FROM base\nRUN exit 5\n").expect("a file");
    let (code, _, err) = said(engine, &["build", "--network", "none", &context]);
    assert!(code != 0 && err.contains("returned a non-zero code: 5"), "{code} {err}");
}

fn nobody() {
    let mut teu = std::process::Command::new(env!("CARGO_BIN_EXE_teu"));
    let output = teu.args(["-H", "unix:///nowhere/teu.sock", "ps"]).output().expect("teu runs");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        "Cannot connect to the daemon at unix:///nowhere/teu.sock. Is it running? Start it with: teu daemon --host unix:///nowhere/teu.sock\n"
    );
}
