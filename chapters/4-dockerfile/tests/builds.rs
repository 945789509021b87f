//! Builds, seen from outside: the program on real Dockerfiles, and what is in the image then.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod world;

use kit::{Case, Need, Traces};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use world::World;

/// RUN, COPY and all that is mounted need to be root, if only in a user namespace.
const NAMESPACES: &[Need] = &[Need::UserNamespaces, Need::Program("ldd")];
const ROOT: &[Need] = &[Need::Root, Need::Program("ldd")];

fn main() {
    kit::run(vec![
        Case::new("every_instruction_shows_in_the_configuration", NAMESPACES, configuration),
        Case::new("run_sees_arguments_environment_and_directory", NAMESPACES, run),
        Case::new("run_keeps_what_it_changed_and_no_mount_points", NAMESPACES, layers),
        Case::new("a_command_that_fails_ends_the_build", NAMESPACES, failure),
        Case::new("heredocs_are_scripts_and_files", NAMESPACES, heredocs),
        Case::new("copy_puts_files_where_docker_puts_them", NAMESPACES, copy),
        Case::new("copy_changes_owners_by_the_images_names", ROOT, owners),
        Case::new("stages_that_nothing_needs_are_not_built", NAMESPACES, stages),
        Case::new("the_cache_is_hit_by_the_same_and_missed_by_the_rest", NAMESPACES, cache),
        Case::new("a_cached_layer_that_is_gone_is_made_again", NAMESPACES, lost_layer),
        Case::new("equal_input_gives_equal_digests", NAMESPACES, reproducible),
        Case::new("the_ignore_file_hides_files", NAMESPACES, ignored),
        Case::new("links_never_lead_out_of_the_context", NAMESPACES, hostile_context),
        Case::new("links_never_lead_out_of_the_image", NAMESPACES, hostile_image),
        Case::new("add_unpacks_tars_and_nothing_out_of_them", NAMESPACES, add),
        Case::new("triggers_run_once_in_the_child", NAMESPACES, onbuild),
        Case::new("mounts_of_run_leave_nothing_in_the_image", NAMESPACES, mounts),
        Case::new("mounts_of_run_reach_nothing_of_the_host", NAMESPACES, hostile_mounts),
        Case::new("what_is_wrong_is_said_with_its_line", &[], errors),
        Case::new("bombs_of_variables_are_bounded", NAMESPACES, bombs),
        Case::new("the_tree_is_json", &[], tree),
        Case::new("a_killed_builds_leftovers_are_swept", NAMESPACES, leftovers),
        Case::new(
            "skopeo_and_umoci_read_the_image",
            &[Need::Root, Need::Program("ldd"), Need::Program("skopeo"), Need::Program("umoci")],
            peers,
        ),
        Case::new(
            "buildah_builds_the_same",
            &[Need::Root, Need::Program("ldd"), Need::Program("buildah"), Need::Program("umoci")],
            buildah,
        ),
    ]);
}

fn configuration() {
    let world = World::with_base();
    world.build(
        "FROM base\nMAINTAINER me\nARG V=1\nENV A=$V B=\"two words\" C='$A'\nENV old form $A\n\
         LABEL a=b \"c d\"='e'\nEXPOSE 80 53/udp 100-101\nVOLUME [\"/v w\"]\nVOLUME /x /y\nWORKDIR /a\nWORKDIR b\n\
         USER ${NONE:-app}\nSTOPSIGNAL SIGINT\nSHELL [\"/bin/sh\", \"-ec\"]\n\
         HEALTHCHECK --interval=5s --retries=2 CMD true\nONBUILD RUN x\nENTRYPOINT [\"e\"]\nCMD c d",
    );
    let config = world.config();
    let c = &config["config"];
    let env = c["Env"].as_array().unwrap();
    for line in ["A=1", "B=two words", "C=$A", "old=form 1"] {
        assert!(env.iter().any(|e| e == line), "{line} in {env:?}");
    }
    assert_eq!(config["author"], "me");
    assert_eq!(c["Labels"], serde_json::json!({"a": "b", "c d": "e"}));
    let ports: Vec<_> = c["ExposedPorts"].as_object().unwrap().keys().collect();
    assert_eq!(ports, ["100/tcp", "101/tcp", "53/udp", "80/tcp"]);
    assert_eq!(c["Volumes"].as_object().unwrap().keys().collect::<Vec<_>>(), ["/v w", "/x", "/y"]);
    assert_eq!(c["WorkingDir"], "/a/b");
    assert_eq!(c["User"], "app");
    assert_eq!(c["StopSignal"], "SIGINT");
    assert_eq!(c["Shell"], serde_json::json!(["/bin/sh", "-ec"]));
    assert_eq!(
        c["Healthcheck"],
        serde_json::json!({"Test": ["CMD-SHELL", "true"], "Interval": 5_000_000_000_i64, "Retries": 2})
    );
    assert_eq!(c["OnBuild"], serde_json::json!(["RUN x"]));
    assert_eq!(c["Entrypoint"], serde_json::json!(["e"]));
    assert_eq!(c["Cmd"], serde_json::json!(["/bin/sh", "-ec", "c d"]));
    let history = config["history"].as_array().unwrap();
    let made: Vec<_> = history.iter().map(|h| h["created_by"].as_str().unwrap()).collect();
    assert!(made.contains(&"/bin/sh -c #(nop)  ENV A=1 B=two words C=$A"), "{made:#?}");
    assert!(made.contains(&"/bin/sh -ec #(nop)  CMD [\"/bin/sh\" \"-ec\" \"c d\"]"), "{made:#?}");
    let layers = history.iter().filter(|h| h["empty_layer"] != true).count();
    assert_eq!(layers, config["rootfs"]["diff_ids"].as_array().unwrap().len());
}

fn run() {
    let world = World::with_base();
    let text = "FROM base\nARG V=7\nARG HIDDEN=1\nENV HIDDEN=2 E=3\nWORKDIR /w\n\
        RUN echo v=$V e=$E h=$HIDDEN p=$(pwd) x=$UNSET\nRUN [\"sh\", \"-c\", \"echo $0 exec\"]";
    let out = world.build(text);
    for line in ["v=7 e=3 h=2 p=/w x=", "sh exec"] {
        assert!(out.lines().any(|l| l == line), "{line} in\n{out}");
    }
    let made = world.created_by();
    assert!(made.iter().any(|l| l.starts_with("|1 V=7 /bin/sh -c echo v=$V")), "{made:#?}");
    let out = world.build_with(text, &["--build-arg", "V=8", "--build-arg", "TYPO=1"]);
    assert!(out.contains("v=8 "), "{out}");
    assert!(out.contains("[Warning] One or more build-args [TYPO] were not consumed"), "{out}");
}

fn layers() {
    let world = World::with_base();
    let before = Traces::now();
    let out = world
        .build("FROM base\nRUN true\nRUN echo x > /new && rm /etc/group\nRUN ls /proc/self/exe >/dev/null");
    assert!(out.contains(" ---> Running in "), "{out}");
    let config = world.config();
    let empty: Vec<_> =
        config["history"].as_array().unwrap().iter().map(|h| h["empty_layer"] == true).collect();
    assert_eq!(empty, [false, true, false, true]);
    let files = world.layer_files(1);
    assert_eq!(files, ["etc/", "etc/.wh.group", "new"]);
    // Others may be at work on this machine: only what has our names is ours.
    let ids = out.lines().filter_map(|l| l.strip_prefix(" ---> Running in ")).collect::<Vec<_>>();
    let directory = world.directory().to_str().unwrap();
    let left = Traces::now().beyond(&before);
    let ours = |line: &&String| line.contains(directory) || ids.iter().any(|id| line.contains(id));
    assert_eq!(left.iter().filter(ours).count(), 0, "{left:#?}");
    assert_eq!(ids.len(), 3);
}

fn failure() {
    let world = World::with_base();
    for (command, message) in [
        (
            "echo out; echo err >&2; exit 3",
            "The command '/bin/sh -c echo out; echo err >&2; exit 3' returned a non-zero code: 3",
        ),
        ("[\"sh\", \"-c\", \"sh -c 'kill -9 $$'; exit $?\"]", "returned a non-zero code: 137"),
        ("[\"/none\"]", "exec: \"/none\": stat /none: no such file or directory"),
    ] {
        let (code, out, err) = world.try_build(&format!("FROM base\nRUN {command}"), &[]);
        assert_ne!(code, 0);
        assert!(err.contains(message), "{err}");
        assert!(!command.contains("echo") || out.contains("out\nerr\n"), "{out}");
    }
    assert_eq!(std::fs::read_dir(world.store().join(".builder/work")).unwrap().count(), 0);
}

fn heredocs() {
    let world = World::with_base();
    let out = world.build(
        "FROM base\nARG V=1\nRUN <<EOF\necho one\necho two $V\nEOF\nRUN cat <<A - <<B\nx\nA\ny\nB\n\
         RUN <<S\n#!/bin/cat\nscript\nS\nCOPY <<f <<-\"g\" /d/\n$V \"q\" \\$V\nf\n\t$V\ng\n",
    );
    assert!(out.contains("one\ntwo 1\n"), "{out}");
    assert!(out.contains("#!/bin/cat\nscript\n"), "{out}");
    let root = world.unpack();
    assert_eq!(root.read("d/f"), "1 \"q\" $V\n");
    assert_eq!(root.read("d/g"), "$V\n");
}

fn copy() {
    let world = World::with_base();
    world.file("a", "A", 0o640);
    world.file("d/x", "X", 0o755);
    world.file("d/e/y", "Y", 0o600);
    symlink("x", world.context().join("d/l")).unwrap();
    symlink("d", world.context().join("dirlink")).unwrap();
    world.build(
        "FROM base\nWORKDIR /w\nRUN mkdir -p /real && ln -s /real /link\nCOPY a b\nCOPY a sub/\nCOPY d /into\n\
         COPY d/ a /many/\nCOPY d/* /wild/\nCOPY dirlink /through\nCOPY a /link/\nCOPY a /link\n\
         COPY --chmod=u=rwX,go= d /modes\nCOPY --exclude=e --exclude=*l d /some\nCOPY --parents d/e/y /par/",
    );
    let root = world.unpack();
    for (path, content, mode) in [
        ("w/b", "A", 0o640),
        ("w/sub/a", "A", 0o640),
        ("into/x", "X", 0o755),
        ("into/e/y", "Y", 0o600),
        ("many/x", "X", 0o755),
        ("many/a", "A", 0o640),
        ("wild/x", "X", 0o755),
        // Of a directory that a pattern matches, the content.
        ("wild/y", "Y", 0o600),
        ("through/e/y", "Y", 0o600),
        ("real/a", "A", 0o640),
        ("modes/x", "X", 0o700),
        ("modes/e/y", "Y", 0o600),
        ("some/x", "X", 0o755),
        ("par/d/e/y", "Y", 0o600),
    ] {
        assert_eq!(root.read(path), content, "{path}");
        assert_eq!(root.stat(path).mode() & 0o7777, mode, "{path}");
    }
    assert_eq!(std::fs::read_link(root.path().join("into/l")).unwrap().to_str(), Some("x"));
    assert!(root.stat("link").is_symlink());
    assert!(!root.path().join("some/e").exists() && !root.path().join("some/l").exists());
    // Times are the files' own.
    let own = std::fs::metadata(world.context().join("a")).unwrap();
    assert_eq!(root.stat("w/b").mtime(), own.mtime());
    for (text, message) in [
        (
            "COPY none /",
            "COPY failed: file not found in build context or excluded by .dockerignore: stat none: file does not exist",
        ),
        ("COPY n* /", "COPY failed: no source files were specified"),
        (
            "COPY d a /x",
            "When using COPY with more than one source file, the destination must be a directory and end with a /",
        ),
        ("COPY ../a /", "COPY failed: forbidden path outside the build context: ../a ()"),
        ("COPY a /etc/passwd/x", "ENOTDIR"),
        ("COPY d /etc/passwd", "cannot copy to non-directory: /etc/passwd"),
        ("COPY --from=no-such a /", "no-such is not in the store"),
        ("COPY --from=5 a /", "invalid from flag value 5: index out of bounds"),
        ("COPY --chown=nobody-here a /", "can't find uid for user nobody-here"),
        ("COPY --chmod=9 a /", "invalid chmod parameter: '9'"),
    ] {
        let (code, _, err) = world.try_build(&format!("FROM base\n{text}"), &[]);
        assert!(code != 0 && err.contains(message), "{text}: {err}");
    }
}

fn owners() {
    let world = World::with_base();
    world.file("a", "A", 0o644);
    nix_chown(&world.context().join("a"), 77, 78);
    world.build(
        "FROM base AS one\nCOPY a /plain\nCOPY --chown=app a /app\nCOPY --chown=7 a /seven\n\
         COPY --chown=app:staff a /made/app-staff\nRUN chown 5:6 /plain\nFROM base\nCOPY --from=one /plain /seven /app /made/app-staff /d/",
    );
    let root = world.unpack();
    for (path, owner) in
        [("plain", (5, 6)), ("seven", (7, 7)), ("app", (1000, 1001)), ("app-staff", (1000, 50))]
    {
        let stat = root.stat(&format!("d/{path}"));
        assert_eq!((stat.uid(), stat.gid()), owner, "{path}");
    }
    let out = world.build(
        "FROM base\nCOPY a /plain\nCOPY --chown=app a /made/x\nUSER app:staff\nRUN echo u=$(id -u):$(id -g)",
    );
    assert!(out.contains("u=1000:50\n"), "{out}");
    let root = world.unpack();
    assert_eq!(root.stat("plain").uid(), 0);
    assert_eq!(root.stat("made").uid(), 1000);
}

fn nix_chown(path: &std::path::Path, uid: u32, gid: u32) {
    std::os::unix::fs::chown(path, Some(uid), Some(gid)).unwrap();
}

fn stages() {
    let world = World::with_base();
    let text = "ARG B=base\nFROM $B AS one\nRUN echo one > /f\nFROM base AS never\nRUN exit 9\n\
        FROM one AS three\nRUN cat /f\nFROM scratch AS last\nCOPY --from=one /f /from-name\nCOPY --from=0 /f /from-number\n\
        COPY --from=base /etc/group /from-image";
    let out = world.build(text);
    assert!(out.contains("Step 1/7 : ARG B=base\n"), "{out}");
    let root = world.unpack();
    assert_eq!(root.read("from-name"), "one\n");
    assert_eq!(root.read("from-number"), "one\n");
    assert!(root.read("from-image").contains("staff"));
    let out = world.build_with(text, &["--target", "three"]);
    assert!(out.contains("one\n") && !out.contains("exit 9"), "{out}");
    let (_, _, err) = world.try_build(text, &["--target", "x"]);
    assert!(err.contains("target stage \"x\" could not be found"), "{err}");
}

fn cache() {
    let world = World::with_base();
    world.file("a", "A", 0o644);
    world.file("d/x", "X", 0o644);
    let text = "FROM base\nENV E=1\nARG V=1\nCOPY a /\nCOPY d /d\nRUN echo $V > /v\nCMD x";
    let hits = |arguments: &[&str]| world.build_with(text, arguments).matches("Using cache").count();
    assert_eq!(hits(&[]), 0);
    let first = world.id();
    assert_eq!(hits(&[]), 6);
    assert_eq!(world.id(), first);
    assert_eq!(hits(&["--no-cache"]), 0);
    // The time of a file is not the file.
    let file = std::fs::File::options().write(true).open(world.context().join("a")).unwrap();
    file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    assert_eq!(hits(&[]), 6);
    // An argument counts where it is used: in every RUN after its ARG.
    assert_eq!(hits(&["--build-arg", "V=2"]), 4);
    assert_eq!(world.unpack().read("v"), "2\n");
    assert_eq!(hits(&["--build-arg", "V=2"]), 6);
    // Contents, modes and names do.
    world.file("d/x", "Y", 0o644);
    assert_eq!(hits(&[]), 3);
    assert_eq!(world.unpack().read("d/x"), "Y");
    world.file("d/x", "Y", 0o755);
    assert_eq!(hits(&[]), 3);
    std::fs::rename(world.context().join("d/x"), world.context().join("d/z")).unwrap();
    assert_eq!(hits(&[]), 3);
    // The same line on another environment is another line.
    let other = text.replace("E=1", "E=\"1 F=2\"");
    assert_eq!(world.build(&other).matches("Using cache").count(), 0);
    let other = text.replace("E=1", "E=1 F=2");
    assert_eq!(world.build(&other).matches("Using cache").count(), 0);
}

fn lost_layer() {
    let world = World::with_base();
    let text = "FROM base\nRUN echo x > /x\nRUN cat /x";
    world.build(text);
    let layer = world.layers().pop().unwrap();
    std::fs::remove_file(world.store().join("blobs/sha256").join(&layer)).unwrap();
    let out = world.build(text);
    assert!(out.contains("Running in"), "{out}");
    assert_eq!(world.unpack().read("x"), "x\n");
    // A damaged entry is none.
    for entry in std::fs::read_dir(world.store().join(".builder/steps")).unwrap() {
        std::fs::write(entry.unwrap().path(), "{").unwrap();
    }
    assert!(!world.build(text).contains("Using cache"));
    assert!(world.build(text).contains("Using cache"));
    let (code, out, err) = world.command(&["prune", "--store", "../store"]);
    assert!(code == 0 && out.starts_with("Total:"), "{err}");
    assert!(!world.build(text).contains("Using cache"));
}

fn reproducible() {
    let digests: Vec<_> = [1, 2]
        .into_iter()
        .map(|_| {
            let world = World::with_base();
            world.file("a", "A", 0o644);
            let file = std::fs::File::options().write(true).open(world.context().join("a")).unwrap();
            file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
            let text = "FROM base\nWORKDIR /w\nCOPY a /new/dir/\nRUN mkdir -p /m/n && echo x > /m/n/x && ln -s x /m/l\nCMD x";
            world.build_with(text, &["--build-arg", "SOURCE_DATE_EPOCH=1700000000"]);
            assert_eq!(world.config()["created"], "2023-11-14T22:13:20Z");
            assert_eq!(world.unpack().stat("m/n/x").mtime(), 1_700_000_000);
            std::thread::sleep(std::time::Duration::from_millis(1100));
            world.manifest_digest()
        })
        .collect();
    assert_eq!(digests[0], digests[1]);
}

fn ignored() {
    let world = World::with_base();
    for path in ["keep", "secret", "d/keep", "d/x.log", "node/m/deep", "node/important"] {
        world.file(path, path, 0o644);
    }
    world.file(".dockerignore", "# c\nsecret\n**/*.log\nnode\n!node/important\n", 0o644);
    world.build("FROM base\nCOPY . /all");
    let root = world.unpack();
    assert_eq!(root.files("all"), [".dockerignore", "Dockerfile", "d/keep", "keep", "node/important"]);
    let (_, _, err) = world.try_build("FROM base\nCOPY secret /", &[]);
    assert!(err.contains("excluded by .dockerignore"), "{err}");
    // Whether it changes is not seen either.
    world.file("secret", "other", 0o644);
    assert!(world.build("FROM base\nCOPY . /all").contains("Using cache"));
    // A link is not a way to it.
    symlink("secret", world.context().join("link")).unwrap();
    let (_, _, err) = world.try_build("FROM base\nCOPY link /", &[]);
    assert!(err.contains("excluded by .dockerignore"), "{err}");
    // The Dockerfile's own ignore file goes before.
    world.file("Dockerfile.dockerignore", "*\n!keep\n", 0o644);
    world.build("FROM base\nCOPY . /all");
    assert_eq!(world.unpack().files("all"), ["keep"]);
    // A mount shows no more than a COPY.
    let out = world.build("FROM base\nRUN --mount=target=/m ls /m");
    assert!(out.contains("keep\n") && !out.contains("secret"), "{out}");
    // To hide everything is allowed.
    world.file("Dockerfile.dockerignore", "*", 0o644);
    world.build("FROM base\nCOPY . /all");
    assert_eq!(world.unpack().files("all"), [""; 0]);
    world.file("Dockerfile.dockerignore", "[", 0o644);
    let (_, _, err) = world.try_build("FROM base\nCOPY . /all", &[]);
    assert!(err.contains("syntax error in pattern \"[\""), "{err}");
}

fn hostile_context() {
    let world = World::with_base();
    let outside = world.directory().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("secret"), "SECRET").unwrap();
    let name = |link: &str| world.context().join(link);
    symlink(outside.join("secret"), name("absolute")).unwrap();
    symlink("../outside/secret", name("relative")).unwrap();
    symlink("../outside", name("directory")).unwrap();
    symlink("/proc/self/cwd", name("magic")).unwrap();
    symlink("loop", name("loop")).unwrap();
    for source in [
        "absolute",
        "relative",
        "directory/secret",
        "directory",
        "directory/*",
        "*/secret",
        "magic/etc/passwd",
        "loop",
    ] {
        let (code, _, err) = world.try_build(&format!("FROM base\nCOPY {source} /got/"), &[]);
        assert_ne!(code, 0, "{source}");
        assert!(err.contains("COPY failed") || err.contains("ELOOP"), "{source}: {err}");
        let (code, _, _) =
            world.try_build(&format!("FROM base\nRUN --mount=source={source},target=/m true"), &[]);
        assert_ne!(code, 0, "{source}");
    }
    // As part of a directory they are links, and stay links.
    world.build("FROM base\nCOPY . /got/");
    let root = world.unpack();
    assert!(root.stat("got/absolute").is_symlink() && root.stat("got/directory").is_symlink());
    // A fifo is none to be waited for.
    nix::unistd::mkfifo(&name("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    world.build("FROM base\nCOPY fifo /got/");
    let (code, _, err) = world.try_build("FROM base\nADD --chown=0 fifo /got/\nRUN true", &[]);
    assert!(code == 0 || err.contains("EINVAL"), "{err}");
}

fn hostile_image() {
    let world = World::with_base();
    world.file("a", "EVIL", 0o644);
    let victim = world.directory().join("victim");
    std::fs::create_dir(&victim).unwrap();
    let to = victim.display();
    world.build(&format!(
        "FROM base\nRUN ln -s {to} /absolute && ln -s ../../../../../../../../{to} /relative && mkdir /d && ln -s {to} /d/a\n\
         COPY a /absolute/\nCOPY a /relative/b\nCOPY a /d/\nWORKDIR /absolute/w\nADD a /absolute/c"
    ));
    assert_eq!(std::fs::read_dir(&victim).unwrap().count(), 0, "something was written outside");
    let root = world.unpack();
    let inside = victim.strip_prefix("/").unwrap();
    for name in ["a", "b", "c", "w"] {
        assert!(root.path().join(inside).join(name).exists(), "{name}");
    }
    // The link that was in the way was replaced, not followed.
    assert_eq!(root.read("d/a"), "EVIL");
}

fn add() {
    let world = World::with_base();
    let tar = |entries: &[(&str, &str)]| {
        let mut tar = tar::Builder::new(Vec::new());
        for (name, content) in entries {
            let mut header = tar::Header::new_gnu();
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_size(content.len() as u64);
            header.set_mode(0o640);
            header.set_mtime(1_000_000_000);
            header.set_uid(0);
            header.set_gid(0);
            header.set_cksum();
            tar.append(&header, content.as_bytes()).unwrap();
        }
        tar.into_inner().unwrap()
    };
    let plain = tar(&[("t/a", "A")]);
    std::fs::write(world.context().join("wh.tar"), tar(&[("etc/.wh.passwd", "")])).unwrap();
    std::fs::write(world.context().join("plain.tar"), &plain).unwrap();
    std::fs::write(world.context().join("z.tar.zst"), zstd::encode_all(&plain[..], 1).unwrap()).unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, &plain).unwrap();
    std::fs::write(world.context().join("g.tgz"), gzip.finish().unwrap()).unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, b"only text").unwrap();
    std::fs::write(world.context().join("text.gz"), gzip.finish().unwrap()).unwrap();
    std::fs::write(world.context().join("up.tar"), tar(&[("../../evil", "E")])).unwrap();
    std::fs::write(world.context().join("x.tar.xz"), b"\xfd7zXZ\0rest").unwrap();
    world.file("f", "F", 0o644);
    world.build(
        "FROM base\nADD plain.tar /p\nADD z.tar.zst /z/\nADD g.tgz g.tgz /g/\nADD text.gz f /kept/\nCOPY plain.tar /copied",
    );
    let root = world.unpack();
    for path in ["p/t/a", "z/t/a", "g/t/a"] {
        assert_eq!(root.read(path), "A");
        assert_eq!((root.stat(path).mode() & 0o777, root.stat(path).mtime()), (0o640, 1_000_000_000));
    }
    assert_eq!(root.files("kept"), ["f", "text.gz"]);
    assert!(root.stat("copied").is_file());
    for (text, message) in [
        ("ADD https://example.com/x /", "ADD takes files of the context only"),
        ("ADD git@example.com:x /", "ADD takes files of the context only"),
        ("ADD --checksum=sha256:0 f /", "checksum can't be specified for local sources"),
        ("ADD x.tar.xz /", "compressed with xz is not unpacked here"),
        // In a layer it would delete a file of the base.
        ("ADD wh.tar /", "a name that begins with .wh. deletes what is below"),
    ] {
        let (code, _, err) = world.try_build(&format!("FROM base\n{text}"), &[]);
        assert!(code != 0 && err.contains(message), "{err}");
    }
    let (code, _, _) = world.try_build("FROM base\nADD up.tar /deep/er/", &[]);
    let above = world.directory().join("evil").exists();
    assert!(!above);
    if code == 0 {
        assert!(!world.unpack().path().join("evil").exists(), "an entry rose above its directory");
    }
}

fn onbuild() {
    let world = World::with_base();
    world.file("a", "A", 0o644);
    world.build_as("FROM base\nONBUILD COPY a /got\nONBUILD RUN cat /got && echo triggered", "parent");
    let out = world.build_as("FROM parent\nRUN echo after", "child");
    assert!(out.contains("# Executing 2 build triggers"), "{out}");
    let (trigger, after) = (out.find("Atriggered").unwrap(), out.find("\nafter").unwrap());
    assert!(trigger < after);
    let out = world.build_as("FROM child", "grandchild");
    assert!(!out.contains("Executing"), "{out}");
}

fn mounts() {
    let world = World::with_base();
    world.file("a", "A\n", 0o644);
    std::fs::write(world.directory().join("token"), "TOKEN").unwrap();
    let secret = format!("id=t,src={}", world.directory().join("token").display());
    let text = "FROM base AS one\nRUN echo from-stage > /f\nFROM base\n\
        RUN --mount=target=/m cat /m/a && ! touch /m/new 2>/dev/null\n\
        RUN --mount=type=bind,target=/m,rw echo changed > /m/a && cat /m/a\n\
        RUN --mount=type=bind,from=one,source=/f,target=/n cat /n\n\
        RUN --mount=type=cache,target=/c,id=../../x echo 1 >> /c/n; cat /c/n\n\
        RUN --mount=type=tmpfs,target=/t,size=1m echo x > /t/x\n\
        RUN --mount=type=secret,id=t cat /run/secrets/t; stat -c %a /run/secrets/t\n\
        RUN ls / /run 2>/dev/null; true";
    let out = world.build_with(text, &["--secret", &secret]);
    for line in ["A", "changed", "from-stage", "1", "TOKEN400"] {
        assert!(out.lines().any(|l| l.starts_with(line)), "{line} in\n{out}");
    }
    assert_eq!(std::fs::read_to_string(world.context().join("a")).unwrap(), "A\n");
    // No layer: not of mount points, not of what was in them.
    assert_eq!(world.layers().len(), 1);
    // What is in a cache outlives a build.
    let out = world.build_with(text, &["--secret", &secret, "--no-cache"]);
    assert!(out.contains("1\n1\n"), "{out}");
    // A mount is part of what a RUN is.
    world.file("a", "B\n", 0o644);
    let out = world.build_with(text, &["--secret", &secret]);
    assert!(out.contains("\nB\n"), "{out}");
    // What changes under a command is not what its key says: it must not be kept.
    let text = "FROM base\nRUN --mount=target=/m echo begun; while ! test -e /m/go; do sleep 0.1; done";
    let mut started = world.start(text);
    started.wait_for("begun");
    world.file("go", "", 0o644);
    let (code, err) = started.end();
    assert!(code == 1 && err.contains("changed while it ran; build again"), "{err}");
    assert!(world.build(text).contains("Running in"));
    let (code, _, err) =
        world.try_build("FROM base\nRUN --mount=type=secret,id=none,required=true true", &[]);
    assert!(code != 0 && err.contains("secret none: not found"), "{err}");
}

fn hostile_mounts() {
    let world = World::with_base();
    let outside = world.directory().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("f"), "OUTSIDE").unwrap();
    symlink(&outside, world.context().join("link")).unwrap();
    for mount in [
        "type=bind,source=../outside,target=/m",
        "type=bind,source=link,target=/m",
        "type=bind,source=/proc/self/root/etc,target=/m",
        "type=cache,target=/m,id=../../../outside",
        "type=cache,target=/m,source=../../../../../../../../../../../etc",
        "type=cache,target=/m,source=/etc",
    ] {
        let (_, out, _) =
            world.try_build(&format!("FROM base\nRUN --mount={mount} ls /m; cat /m/f /m/passwd; true"), &[]);
        assert!(!out.contains("OUTSIDE") && !out.contains("root:"), "{mount}: {out}");
    }
    for (mount, message) in [
        ("type=bind,target=/", "invalid mount target"),
        ("type=bind", "target is required"),
        ("type=odd,target=/m", "unsupported mount type \"odd\""),
        ("type=tmpfs,target=/m,id=x", "unexpected key 'id'"),
        ("type=tmpfs,target=/m,size=1m;x", "invalid size"),
        ("type=secret,id=../x", "a secret needs an id"),
    ] {
        let (code, _, err) = world.try_build(&format!("FROM base\nRUN --mount={mount} true"), &[]);
        assert!(code != 0 && err.contains(message), "{mount}: {err}");
    }
}

fn errors() {
    let world = World::empty();
    for (text, message) in [
        ("FROM a\n\nRNU x", "dockerfile parse error on line 3: unknown instruction: RNU (did you mean RUN?)"),
        ("FROM a\nFOO x", "dockerfile parse error on line 2: unknown instruction: FOO"),
        ("RUN x", "dockerfile parse error on line 1: no build stage in current context"),
        ("# only a comment", "dockerfile parse error: file with no instructions"),
        ("ARG x", "dockerfile parse error: no FROM"),
        ("FROM", "dockerfile parse error on line 1: FROM requires either one or three arguments"),
        ("FROM a AS 1x", "dockerfile parse error on line 1: invalid name for build stage: \"1x\""),
        ("FROM a\nENV x", "dockerfile parse error on line 2: ENV must have two arguments"),
        ("FROM a\nENV", "dockerfile parse error on line 2: ENV requires at least one argument"),
        ("FROM a\nCOPY x", "COPY requires at least two arguments, but only one was provided."),
        ("FROM a\nCOPY --chwon=1 a b", "unknown flag: --chwon (did you mean chown?)"),
        ("FROM a\nCOPY --chown a b", "missing a value on flag: --chown"),
        ("FROM a\nRUN", "dockerfile parse error on line 2: RUN requires at least one argument"),
        ("FROM a\nRUN <<EOF\nx", "unterminated heredoc: no line is \"EOF\""),
        ("FROM a\nWORKDIR", "WORKDIR requires exactly one argument"),
        ("FROM a\nSHELL x", "SHELL requires the arguments to be in JSON form"),
        ("FROM a\nHEALTHCHECK FOO", "Unknown type \"FOO\" in HEALTHCHECK (try CMD)"),
        ("FROM a\nHEALTHCHECK --interval=x CMD y", "--interval: invalid duration \"x\""),
        ("FROM a\nONBUILD ONBUILD RUN x", "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"),
        ("FROM a\nONBUILD FROM x", "FROM isn't allowed as an ONBUILD trigger"),
        ("FROM a\nONBUILD RNU x", "unknown instruction: RNU (did you mean RUN?)"),
        ("FROM a\nEXPOSE", "EXPOSE requires at least one argument"),
        ("FROM a\nVOLUME [\"\"]", "VOLUME specified can not be an empty string"),
        ("# escape=x\nFROM a", "dockerfile parse error on line 1: invalid escape token 'x'"),
    ] {
        world.file("Dockerfile", text, 0o644);
        let (code, _, err) = world.command(&["parse", "Dockerfile"]);
        assert_eq!(code, 1);
        assert!(err.contains(message), "{text}: {err}");
    }
    let (code, _, err) = world.command(&["parse", "none"]);
    assert!(code == 1 && err.contains("read the Dockerfile none"), "{err}");
}

fn bombs() {
    let world = World::empty();
    let doubled = "ENV a=$a$a\n".repeat(40);
    let (code, _, err) = world.try_build(&format!("FROM scratch\nENV a=x\n{doubled}"), &[]);
    assert!(code == 1 && err.contains("its value is longer than 131072 bytes"), "{err}");
    let many: String = (0..200).map(|n| format!("ENV v{n}=$a\n")).collect();
    let doubled = "ENV a=$a$a\n".repeat(16);
    let (code, _, err) = world.try_build(&format!("FROM scratch\nENV a=x\n{doubled}{many}"), &[]);
    assert!(code == 1 && err.contains("the image's configuration is longer than"), "{err}");
    let (code, _, err) = world.try_build(&format!("FROM scratch\n{}", "USER x\n".repeat(5000)), &[]);
    assert!(code == 1 && err.contains("more than 5000 instructions"), "{err}");
    let (code, _, err) = world.try_build(&"#".repeat(2 << 20), &[]);
    assert!(code == 1 && err.contains("a Dockerfile has at most 1048576"), "{err}");
}

fn tree() {
    let world = World::empty();
    let text = "# syntax=docker/dockerfile:1\n# escape=`\nARG V=1\nFROM --platform=linux/amd64 a AS B\n\
        RUN --mount=type=tmpfs,target=/x a `\n# comment\n\n  b <<EOF\ntext\nEOF\nCOPY [\"a b\", \"c\"]\nENV x=\"y z\"";
    world.file("Dockerfile", text, 0o644);
    let (code, out, _) = world.command(&["parse"]);
    assert_eq!(code, 0);
    let tree: serde_json::Value = serde_json::from_str(&out).unwrap();
    let expected = serde_json::json!({
        "directives": {"syntax": "docker/dockerfile:1", "escape": "`"},
        "escape": "`",
        "args": [{"line": 3, "instruction": "ARG", "args": {"pairs": [{"name": "V", "value": "1"}]}}],
        "stages": [{
            "name": "b",
            "base": "a",
            "instructions": [
                {"line": 4, "instruction": "FROM", "flags": [{"name": "platform", "value": "linux/amd64"}],
                 "args": {"words": ["a", "AS", "B"]}},
                {"line": 5, "instruction": "RUN", "flags": [{"name": "mount", "value": "type=tmpfs,target=/x"}],
                 "args": {"text": "a   b <<EOF"},
                 "heredocs": [{"name": "EOF", "content": "text\n", "expand": true, "chomp": false}]},
                {"line": 11, "instruction": "COPY", "args": {"json": ["a b", "c"]}},
                {"line": 12, "instruction": "ENV", "args": {"pairs": [{"name": "x", "value": "\"y z\""}]}},
            ],
        }],
    });
    assert_eq!(tree, expected);
}

fn leftovers() {
    let world = World::with_base();
    world.build("FROM base\nRUN true");
    let dead = world.store().join(".builder/work/.dead");
    std::fs::create_dir_all(dead.join("1/upper")).unwrap();
    world.build("FROM base\nRUN true");
    assert!(!dead.exists());

    // Killed in the middle of a RUN: its container dies with it, and the next build removes the rest.
    let before = Traces::now();
    let mut killed = world.start("FROM base\nRUN echo begun; sleep 9871");
    let id = killed.wait_for(" ---> Running in ");
    killed.wait_for("begun");
    killed.kill();
    let gone = || !world::processes().iter().any(|command| command.contains("sleep\u{0}9871"));
    for _ in 0..100 {
        if gone() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert!(gone(), "the container outlives its builder");
    world.build("FROM base\nRUN true");
    let left = Traces::now().beyond(&before);
    assert!(!left.iter().any(|line| line.contains(&id)), "{left:#?}");
    assert_eq!(std::fs::read_dir(world.store().join(".builder/work")).unwrap().count(), 0);
}

fn peers() {
    let world = World::with_base();
    world.file("a", "A", 0o4755);
    world.build("FROM base\nCOPY a /a\nRUN rm /etc/group && echo x > /x\nCMD [\"/x\"]");
    let image = format!("oci:{}:t:latest", world.store().display());
    let out = world::output("skopeo", &["inspect", "--config", &image]);
    let seen: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(seen["config"]["Cmd"], serde_json::json!(["/x"]));
    let root = world.unpack_with_umoci();
    assert_eq!(root.read("x"), "x\n");
    assert_eq!(root.stat("a").permissions().mode() & 0o7777, 0o4755);
    assert!(!root.path().join("etc/group").exists());
}

fn buildah() {
    let world = World::with_base();
    world.file("a", "A", 0o640);
    world.file("d/x", "X", 0o755);
    symlink("a", world.context().join("l")).unwrap();
    let text = "FROM base AS one\nRUN echo data > /data && chown 5:6 /data\nWORKDIR /w/x\nCOPY a l ./\nCOPY d/ /dir\n\
        FROM base\nARG V=1\nENV A=$V B=\"x y\"\nLABEL a=b\nEXPOSE 80 53/udp\nVOLUME /v\nWORKDIR /p\nSTOPSIGNAL SIGINT\n\
        COPY --from=one /data /d1\nCOPY --from=one /w /d2\nCOPY --chown=app a /own\nCOPY d* /wild/\n\
        RUN echo $A > r\nUSER app\nENTRYPOINT [\"/bin/sh\"]\nCMD x";
    world.build(text);
    let ours = (world.config()["config"].clone(), world.unpack_with_umoci().listing());
    world.buildah(text);
    // buildah keeps the mount points of RUN and VOLUME.
    let points = ["dev ", "etc/host", "etc/resolv.conf", "proc ", "run ", "sys ", "v "];
    let mut theirs = (world.config()["config"].clone(), world.unpack_with_umoci().listing());
    theirs.0["Labels"].as_object_mut().unwrap().remove("io.buildah.version");
    theirs.1.retain(|line| !points.iter().any(|point| line.starts_with(point)));
    assert_eq!(ours, theirs);
}
