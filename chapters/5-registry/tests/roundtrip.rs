//! Push to our own server and pull back, also when something goes wrong in between.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{Reply, Script, parts, pull, push, sha256, store};
use kit::Case;
use registry::{Options, Reference, server::Server};
use std::{
    process::{Command, Stdio},
    sync::{Arc, atomic::AtomicBool},
    time::{Duration, Instant},
};

fn main() {
    kit::run(vec![
        Case::new("an_image_goes_there_and_comes_back", &[], there_and_back),
        Case::new("what_is_there_is_not_sent_again", &[], only_what_is_missing),
        Case::new("a_layer_is_mounted_from_a_repository_that_has_it", &[], mount),
        Case::new("many_clients_push_and_pull_at_the_same_time", &[], crowd),
        Case::new("an_index_is_pushed_whole_and_pulled_for_one_platform", &[], index),
        Case::new("a_pull_that_is_killed_shows_nothing_and_goes_on", &[], killed),
        Case::new("a_pull_that_is_cancelled_ends_at_once", &[], cancelled),
        Case::new("a_server_that_is_dropped_is_gone", &[], dropped),
        Case::new("the_command_line", &[], command_line),
        Case::new("each_step_is_told_to_who_listens", &[], steps),
    ]);
}

fn serve(dir: &std::path::Path) -> Server {
    Server::start("127.0.0.1:0".parse().unwrap(), &dir.join("served")).unwrap()
}

fn reference(server: &Server, rest: &str) -> Reference {
    Reference::parse(&format!("{}/{rest}", server.address())).unwrap()
}

fn there_and_back() {
    let dir = tempfile::tempdir().unwrap();
    let server = serve(dir.path());
    let from = store(&dir.path().join("from"));
    let to = store(&dir.path().join("to"));
    let image = parts("app", &[200_000, 3_000_000, 0]);
    let manifest = image.put(&from);
    let name = reference(&server, "library/app:1");

    let said = push(&from, &manifest, &name, &Options::default()).unwrap();
    assert_eq!(said.iter().filter(|line| line.ends_with(" Pushed")).count(), 3);

    let (pulled, said) = pull(&to, &name, &Options::default()).unwrap();
    assert_eq!(pulled.digest(), manifest.digest());
    assert_eq!(to.read(&pulled).unwrap(), image.manifest);
    assert_eq!(to.find(&name.to_string()).unwrap().unwrap().digest(), manifest.digest());
    assert_eq!(said.first().unwrap(), "1 Pulling from library/app");
    assert_eq!(said.last().unwrap(), &format!("Digest: {}", manifest.digest()));
    for blob in &image.layers {
        let id = sha256(blob);
        let of_layer: Vec<_> = said.iter().filter_map(|line| line.strip_prefix(&format!("{id} "))).collect();
        assert_eq!(of_layer.first(), Some(&"Pulling fs layer"));
        assert!(of_layer.contains(&"Downloading") && of_layer.contains(&"Download complete"));
        assert_eq!(of_layer.last(), Some(&"Pull complete"));
        assert_eq!(std::fs::read(to.blob_path(&id.parse().unwrap())).unwrap(), *blob);
    }

    let (_, said) = pull(&to, &name, &Options::default()).unwrap();
    assert_eq!(said.iter().filter(|line| line.ends_with("Already exists")).count(), 3);

    let by_digest = reference(&server, &format!("library/app@{}", manifest.digest()));
    pull(&store(&dir.path().join("third")), &by_digest, &Options::default()).unwrap();
    let unknown = pull(&to, &reference(&server, "library/app:2"), &Options::default()).unwrap_err();
    assert_eq!(
        unknown,
        format!(
            "manifest for {}/library/app:2 not found: manifest unknown: manifest unknown",
            server.address()
        )
    );
}

fn only_what_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let server = serve(dir.path());
    let from = store(&dir.path().join("from"));
    let manifest = parts("app", &[1000, 2000]).put(&from);
    push(&from, &manifest, &reference(&server, "a/app:1"), &Options::default()).unwrap();
    let said = push(&from, &manifest, &reference(&server, "a/app:2"), &Options::default()).unwrap();
    assert_eq!(said.iter().filter(|line| line.ends_with("Layer already exists")).count(), 2, "{said:?}");
    assert!(!said.iter().any(|line| line.ends_with("Pushed")));
}

fn mount() {
    let image = parts("app", &[5000]);
    let served = image.clone();
    let script = Script::start(move |asked| match (asked.method.as_str(), asked.path.as_str()) {
        ("HEAD", _) => Reply::new(404, b""),
        ("POST", path) if path.contains("mount=") => Reply::new(201, b""),
        ("POST", _) => Reply::new(202, b"").header("Location", "/v2/team/app/blobs/uploads/1?state=x"),
        ("PUT", _) => Reply::new(201, b""),
        _ => served.serve(asked),
    });
    let dir = tempfile::tempdir().unwrap();
    let from = store(dir.path());
    let manifest = image.put(&from);
    // The store's own names tell that the layer is in another repository there.
    from.tag(&script.reference("team/base:1").to_string(), &manifest).unwrap();
    let said = push(&from, &manifest, &script.reference("team/app:1"), &Options::default()).unwrap();
    assert!(said.iter().any(|line| line.ends_with("Mounted from team/base")), "{said:?}");
    let asked = script.asked.lock().unwrap();
    let layer = sha256(&image.layers[0]);
    assert!(
        asked.iter().any(|a| a.path == format!("/v2/team/app/blobs/uploads/?mount={layer}&from=team/base"))
    );
    let config = format!("/v2/team/app/blobs/uploads/1?state=x&digest={}", sha256(&image.config));
    assert!(asked.iter().any(|a| a.method == "PUT" && a.path == config && a.body == image.config));
    assert_eq!(asked.last().unwrap().path, "/v2/team/app/manifests/1", "the manifest comes last");
}

fn crowd() {
    let dir = tempfile::tempdir().unwrap();
    let server = serve(dir.path());
    let from = store(&dir.path().join("from"));
    std::thread::scope(|scope| {
        for n in 0..8 {
            let (server, from, dir) = (&server, &from, dir.path());
            scope.spawn(move || {
                // All push the same first layer, and one of their own.
                let mut image = parts("shared", &[100_000]);
                if n % 2 == 0 {
                    image = parts(&format!("own-{n}"), &[300_000, 10]);
                }
                let manifest = image.put(from);
                let name = reference(server, &format!("crowd/app:{n}"));
                push(from, &manifest, &name, &Options::default()).unwrap();
                let to = store(&dir.join(format!("to-{n}")));
                assert_eq!(pull(&to, &name, &Options::default()).unwrap().0.digest(), manifest.digest());
            });
        }
    });
}

fn index() {
    let dir = tempfile::tempdir().unwrap();
    let server = serve(dir.path());
    let from = store(&dir.path().join("from"));
    let host = registry::platform::Platform::host();
    let (ours, theirs) = (parts("ours", &[1000]).put(&from), parts("theirs", &[1000]).put(&from));
    let entry = |d: &oci_spec::image::Descriptor, arch: &str| {
        serde_json::json!({"mediaType": d.media_type(), "size": d.size(), "digest": d.digest(),
            "platform": {"os": "linux", "architecture": arch}})
    };
    let index = serde_json::json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [entry(&theirs, "s390x"), entry(&ours, &host.arch)]});
    let index = from.put(oci_spec::image::MediaType::ImageIndex, index.to_string().as_bytes()).unwrap();
    let name = reference(&server, "multi/app:1");
    push(&from, &index, &name, &Options::default()).unwrap();

    let to = store(&dir.path().join("to"));
    let (pulled, said) = pull(&to, &name, &Options::default()).unwrap();
    assert_eq!(pulled.digest(), ours.digest());
    assert!(said.contains(&format!("Digest: {}", index.digest())), "{said:?}");
    // By the index's digest the registry knows it, and whoever pulls it for another platform.
    let entry = to.find(&name.to_string()).unwrap().unwrap();
    assert_eq!(entry.digest(), ours.digest());
    let origin = registry::pull::origin(&entry).unwrap();
    assert_eq!((origin.repository.as_str(), origin.tag), (name.repository.as_str(), None));
    assert_eq!(origin.digest, Some(index.digest().to_string()));
    let arm = Options { platform: Some("linux/arm/v7".into()), ..Options::default() };
    let error = pull(&to, &name, &arm).unwrap_err();
    assert!(
        error.starts_with("no matching manifest for linux/arm/v7 in the manifest list entries"),
        "{error}"
    );
    // The config of `theirs` says that it is for this machine, as a careless publisher's does: the index decides.
    let single = Options { platform: Some("linux/s390x".into()), ..Options::default() };
    let error = pull(&to, &name, &single).unwrap_err();
    assert!(error.contains("does not match the specified platform (linux/s390x)"), "{error}");
}

fn killed() {
    let image = parts("big", &[1000, 4_000_000]);
    let (small, big) = (sha256(&image.layers[0]), sha256(&image.layers[1]));
    let served = image.clone();
    let slow = big.clone();
    let script =
        Script::start(move |asked| Reply { slow: asked.path.ends_with(&slow), ..served.serve(asked) });
    let dir = tempfile::tempdir().unwrap();
    let name = script.reference("app:1");
    let pulling = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_registry"));
        command.args(["pull", "--store"]).arg(dir.path()).arg(name.to_string()).stdout(Stdio::null());
        command
    };
    let mut child = pulling().spawn().unwrap();
    let store = store(dir.path());
    let deadline = Instant::now() + Duration::from_secs(20);
    while !store.blob_path(&small.parse().unwrap()).exists() || script.count(&big) == 0 {
        assert!(Instant::now() < deadline, "the small layer never came");
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(store.list().unwrap(), [], "nothing has a name");
    assert!(!store.blob_path(&big.parse().unwrap()).exists());

    // Again, from another registry that is quick, under the same name only in spirit: the store is the same.
    let served = image.clone();
    let quick = Script::start(move |asked| served.serve(asked));
    let (pulled, said) = pull(&store, &quick.reference("app:1"), &Options::default()).unwrap();
    assert_eq!(pulled.digest().as_ref(), sha256(&image.manifest));
    assert!(said.contains(&format!("{small} Already exists")), "{said:?}");
    assert_eq!((quick.count(&small), quick.count(&big)), (0, 1));
}

fn cancelled() {
    let image = parts("big", &[4_000_000]);
    let script =
        Script::start(move |asked| Reply { slow: asked.path.contains("/blobs/"), ..image.serve(asked) });
    let dir = tempfile::tempdir().unwrap();
    let cancel = Arc::new(AtomicBool::new(false));
    let options = Options { cancel: cancel.clone(), ..Options::default() };
    let begun = Instant::now();
    let waker = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        cancel.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    let error = pull(&store(dir.path()), &script.reference("app:1"), &options).unwrap_err();
    waker.join().unwrap();
    assert!(error.contains("was cancelled"), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(5));
}

fn dropped() {
    let dir = tempfile::tempdir().unwrap();
    let server = serve(dir.path());
    let address = server.address();
    let idle = std::net::TcpStream::connect(address).unwrap();
    let begun = Instant::now();
    drop(server);
    assert!(begun.elapsed() < Duration::from_secs(2), "an idle client does not hold it");
    assert!(std::net::TcpStream::connect(address).is_err());
    drop(idle);
    let again = Server::start(address, &dir.path().join("served")).unwrap();
    assert_eq!(again.address(), address);
}

fn command_line() {
    let dir = tempfile::tempdir().unwrap();
    let server = serve(dir.path());
    let from = store(&dir.path().join("from"));
    let manifest = parts("app", &[1000]).put(&from);
    from.tag("docker.io/library/app:1", &manifest).unwrap();
    let registry = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_registry"));
        // A proxy's own loopback is not ours: were it asked, nobody would answer.
        for proxy in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"] {
            command.env(proxy, "http://127.0.0.1:1");
        }
        let output = command.current_dir(dir.path()).args(arguments).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let name = reference(&server, "x/app:1").to_string();
    let (code, _, stderr) = registry(&["push", "--store", "from", "app:1", "--as", &name]);
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    let (code, stdout, _) = registry(&["pull", "--store", "to", &name]);
    assert_eq!(code, Some(0));
    assert!(stdout.contains(&format!("Status: Downloaded newer image for {name}\n")), "{stdout}");
    assert_eq!(stdout.lines().last(), Some(name.as_str()));
    assert_eq!(registry(&["tags", &name]), (Some(0), "1\n".into(), String::new()));
    let (code, stdout, _) = registry(&["inspect", &name]);
    assert_eq!(code, Some(0));
    assert!(stdout.contains("\"schemaVersion\": 2"), "{stdout}");
    let (code, _, stderr) = registry(&["pull", "--store", "to", "No"]);
    assert_eq!(code, Some(1));
    assert_eq!(
        stderr,
        "registry: invalid reference format: repository name (library/No) must be lowercase\n"
    );
    let (code, _, stderr) = registry(&["push", "--store", "from", "nothing"]);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("no image nothing in") && stderr.contains("docker.io/library/app:1"), "{stderr}");
}

/// Writes down the calls of the steps.
struct Listener(Arc<std::sync::Mutex<Vec<String>>>);

impl tracing::Subscriber for Listener {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target() == "step"
    }
    fn event(&self, event: &tracing::Event<'_>) {
        struct Fields(String);
        impl tracing::field::Visit for Fields {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                self.0 += &format!("{}={value:?} ", field.name());
            }
        }
        let mut fields = Fields(String::new());
        event.record(&mut fields);
        self.0.lock().unwrap().push(fields.0);
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

fn steps() {
    let dir = tempfile::tempdir().unwrap();
    let server = serve(dir.path());
    let from = store(&dir.path().join("from"));
    let manifest = parts("app", &[1000, 2000]).put(&from);
    let heard = Arc::new(std::sync::Mutex::new(Vec::new()));
    tracing::subscriber::with_default(Listener(heard.clone()), || {
        let name = reference(&server, "app:1");
        push(&from, &manifest, &name, &Options::default()).unwrap();
        pull(&store(&dir.path().join("to")), &name, &Options::default()).unwrap();
    });
    let heard = heard.lock().unwrap();
    let of = |call: &str, part: &str| {
        let wanted = format!("call=\"{call}\"");
        heard
            .iter()
            .filter(|s| s.contains("section=\"6.3\"") && s.contains(&wanted) && s.contains(part))
            .count()
    };
    // Two layers and a configuration each way, the helpers' steps among them.
    assert_eq!(
        (of("HEAD", "/blobs/"), of("PUT", "/blobs/uploads/"), of("PUT", "/manifests/1")),
        (3, 3, 1),
        "{heard:#?}"
    );
    assert_eq!(
        (of("GET", "/manifests/1"), of("GET", "blobs/"), of("rename(2)", "index.json")),
        (1, 3, 1),
        "{heard:#?}"
    );
}
