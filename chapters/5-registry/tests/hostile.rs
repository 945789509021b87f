//! Registries that lie, and what comes of it: nothing.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{Asked, Parts, Reply, Script, parts, pull, push, sha256, store};
use kit::Case;
use layers::Store;
use registry::{Credentials, Options};
use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

fn main() {
    let mut cases =
        common::with_outer_address(vec![("a_strangers_registry_is_spoken_to_in_tls_only", &[], tls_only)]);
    cases.extend(vec![
        Case::new("a_layer_with_another_digest_is_refused", &[], wrong_digest),
        Case::new("a_layer_of_another_size_is_refused", &[], wrong_size),
        Case::new("a_body_without_end_is_refused", &[], endless),
        Case::new("a_download_that_breaks_off_is_resumed", &[], resumed),
        Case::new("a_registry_without_ranges_is_resumed_too", &[], resumed_from_zero),
        Case::new("a_registry_that_always_breaks_off_is_given_up", &[], never_whole),
        Case::new("a_redirect_to_another_host_gets_no_password", &[], redirect),
        Case::new("a_redirect_without_end_is_refused", &[], redirects),
        Case::new("an_uploads_location_elsewhere_gets_no_password", &[], upload_elsewhere),
        Case::new("a_layers_own_urls_are_not_asked", &[], foreign_urls),
        Case::new("a_manifest_that_is_an_index_too_is_refused", &[], two_in_one),
        Case::new("a_manifest_with_another_digest_is_refused", &[], manifest_digest),
        Case::new("a_manifest_too_large_is_refused", &[], huge_manifest),
        Case::new("an_index_that_leads_to_indexes_is_refused", &[], index_of_indexes),
        Case::new("a_configuration_with_other_layers_is_refused", &[], other_config),
        Case::new("a_configuration_too_large_is_refused", &[], huge_config),
        Case::new("schema_1_is_refused_by_name", &[], schema_1),
        Case::new("a_busy_registry_is_asked_again_but_not_for_ever", &[], busy),
        Case::new("an_error_cannot_drive_the_terminal", &[], escape),
        Case::new("a_token_is_asked_for_and_used", &[], token),
        Case::new("an_identity_token_is_exchanged", &[], identity_token),
        Case::new("a_wrong_password_is_told_so", &[], wrong_password),
        Case::new("nobody_there_is_told_so", &[], nobody),
        Case::new("tags_come_in_pages_but_not_for_ever", &[], pages),
        Case::new("a_login_is_tried", &[], login),
        Case::new("a_broken_push_goes_on_in_chunks", &[], chunks),
    ]);
    kit::run(cases);
}

fn tls_only(ip: std::net::IpAddr) {
    let image = parts("app", &[10]);
    let script = Script::start_at(ip, move |asked| with_password(asked, |asked| image.serve(asked)));
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let error = pull(&store, &script.reference("app:1"), &known()).unwrap_err();
    assert!(error.contains("it seems to speak plain HTTP"), "{error}");
    assert_eq!(script.count(""), 0, "no request was sent in plain text, and so no password");
    let options = Options { insecure: true, ..known() };
    pull(&store, &script.reference("app:1"), &options).unwrap();
}

/// Pulls from a registry that answers so, and expects that it is refused and leaves nothing.
fn refused(answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> String {
    let script = Script::start(answer);
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let begun = Instant::now();
    let error = pull(&store, &script.reference("app:1"), &Options::default()).unwrap_err();
    assert!(begun.elapsed() < Duration::from_secs(20), "it took {:?}", begun.elapsed());
    assert_eq!(store.list().unwrap(), []);
    error
}

fn is_layer(image: &Parts, asked: &Asked) -> bool {
    asked.path.ends_with(&sha256(&image.layers[0]))
}

fn wrong_digest() {
    let image = parts("app", &[10_000]);
    let digest = sha256(&image.layers[0]);
    let dir = tempfile::tempdir().unwrap();
    let store: Store = store(dir.path());
    let script = Script::start(move |asked| {
        let mut reply = image.serve(asked);
        if is_layer(&image, asked) {
            // The last bytes are the archive's length: still a stream that inflates to something.
            *reply.body.last_mut().unwrap() ^= 1;
        }
        reply
    });
    let error = pull(&store, &script.reference("app:1"), &Options::default()).unwrap_err();
    assert!(error.contains(&digest), "{error}");
    assert_eq!(store.list().unwrap(), []);
    assert!(!store.blob_path(&digest.parse().unwrap()).exists());
    let left: Vec<_> = std::fs::read_dir(dir.path().join("blobs/sha256")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

fn wrong_size() {
    let image = parts("app", &[10_000]);
    let error = refused(move |asked| {
        let mut reply = image.serve(asked);
        if is_layer(&image, asked) {
            reply.body.push(0);
        }
        reply
    });
    assert!(error.contains("its size is not the one that the manifest says"), "{error}");
}

fn endless() {
    let image = parts("app", &[10_000]);
    let error = refused(move |asked| Reply { endless: is_layer(&image, asked), ..image.serve(asked) });
    assert!(error.contains("goes on after its end") || error.contains("the blob"), "{error}");
    let error = refused(|asked| match asked.path.contains("/manifests/") {
        true => Reply { endless: true, ..Reply::new(200, &[b' '; 65536]).header("Content-Type", MANIFEST) },
        false => Reply::new(200, b"{}"),
    });
    assert!(error.contains("refusing the manifest"), "{error}");
    // An error whose explanation never ends.
    let error = refused(|asked| match asked.path.contains("/manifests/") {
        true => Reply { endless: true, ..Reply::new(403, &[b'x'; 65536]) },
        false => Reply::new(200, b"{}"),
    });
    assert!(error.starts_with("pull access denied for"), "{error}");
}

fn resumed() {
    let image = parts("app", &[3_000_000]);
    let cuts = AtomicUsize::new(0);
    let served = image.clone();
    let script = Script::start(move |asked| {
        let cut = (is_layer(&served, asked) && cuts.fetch_add(1, Ordering::SeqCst) < 2).then_some(1_000_000);
        Reply { cut, ..served.serve(asked) }
    });
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    pull(&store, &script.reference("app:1"), &Options::default()).unwrap();
    let asked = script.asked.lock().unwrap();
    let ranges: Vec<_> =
        asked.iter().filter(|a| is_layer(&image, a)).map(|a| a.header("range").unwrap_or("-")).collect();
    assert_eq!(ranges.len(), 3, "{ranges:?}");
    assert_eq!(ranges[0], "-");
    // What the kernel still held when the connection broke may be lost; what was read is not asked for again.
    let from = |range: &str| {
        range.strip_prefix("bytes=").unwrap().strip_suffix('-').unwrap().parse::<u64>().unwrap()
    };
    assert!(from(ranges[1]) > 0 && from(ranges[2]) > from(ranges[1]), "{ranges:?}");
}

fn resumed_from_zero() {
    let image = parts("app", &[3_000_000]);
    let cuts = AtomicUsize::new(0);
    let script = Script::start(move |asked| {
        let cut = (is_layer(&image, asked) && cuts.fetch_add(1, Ordering::SeqCst) == 0).then_some(1_000_000);
        let without = Asked { headers: Vec::new(), ..asked.clone() };
        Reply { cut, ..image.serve(&without) }
    });
    let dir = tempfile::tempdir().unwrap();
    pull(&store(dir.path()), &script.reference("app:1"), &Options::default()).unwrap();
}

fn never_whole() {
    let image = parts("app", &[3_000_000]);
    let error =
        refused(move |asked| Reply { cut: is_layer(&image, asked).then_some(10), ..image.serve(asked) });
    assert!(error.contains("pull again: what is complete is kept"), "{error}");
}

/// The options of a user with a password.
fn known() -> Options {
    let credentials =
        Credentials { username: "user".into(), password: "secret".into(), identity_token: None };
    Options { credentials: Some(credentials), ..Options::default() }
}

/// A registry that wants a password for everything.
fn with_password(asked: &Asked, answer: impl Fn(&Asked) -> Reply) -> Reply {
    if asked.header("authorization") == Some("Basic dXNlcjpzZWNyZXQ=") {
        answer(asked)
    } else {
        Reply::new(401, b"").header("WWW-Authenticate", "Basic realm=\"here\"")
    }
}

fn redirect() {
    let image = parts("app", &[10_000]);
    let served = image.clone();
    let elsewhere = Script::start(move |asked| served.serve(asked));
    // Another port is another host; and one that demands a password does not get it either.
    let greedy = Script::start(|_| Reply::new(401, b"").header("WWW-Authenticate", "Basic realm=\"mine\""));
    for (foreign, succeeds) in [(&elsewhere, true), (&greedy, false)] {
        let (image, to) = (image.clone(), foreign.address);
        let script = Script::start(move |asked| {
            with_password(asked, |asked| match asked.path.contains("/blobs/") {
                true => Reply::new(307, b"").header("Location", &format!("http://{to}{}", asked.path)),
                false => image.serve(asked),
            })
        });
        let dir = tempfile::tempdir().unwrap();
        let pulled = pull(&store(dir.path()), &script.reference("app:1"), &known());
        assert_eq!(pulled.is_ok(), succeeds, "{pulled:?}");
        let asked = foreign.asked.lock().unwrap();
        assert!(!asked.is_empty());
        assert!(asked.iter().all(|a| a.header("authorization").is_none()), "{asked:?}");
    }
}

fn redirects() {
    let image = parts("app", &[10]);
    let error = refused(move |asked| match asked.path.contains("/blobs/") {
        true => Reply::new(302, b"").header("Location", &asked.path),
        false => image.serve(asked),
    });
    assert!(error.contains("it goes on and on"), "{error}");
    let image = parts("app", &[10]);
    let error = refused(move |asked| match asked.path.contains("/blobs/") {
        true => Reply::new(302, b"").header("Location", "file:///etc/passwd"),
        false => image.serve(asked),
    });
    assert!(error.contains("it leads nowhere"), "{error}");
}

fn upload_elsewhere() {
    let image = parts("app", &[1000]);
    let elsewhere = Script::start(|_| Reply::new(201, b""));
    let to = elsewhere.address;
    let script = Script::start(move |asked| {
        with_password(asked, |asked| match asked.method.as_str() {
            "HEAD" => Reply::new(404, b""),
            "POST" => Reply::new(202, b"").header("Location", &format!("http://{to}/upload")),
            _ => Reply::new(201, b"{}"),
        })
    });
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    push(&store, &image.put(&store), &script.reference("app:1"), &known()).unwrap();
    let asked = elsewhere.asked.lock().unwrap();
    assert_eq!(asked.len(), 2);
    assert!(asked.iter().all(|a| a.header("authorization").is_none()));
}

fn foreign_urls() {
    let image = parts("app", &[10_000]);
    let served = image.clone();
    let elsewhere = Script::start(move |asked| served.serve(asked));
    let digest = sha256(&image.layers[0]);
    let mut manifest: serde_json::Value = serde_json::from_slice(&image.manifest).unwrap();
    manifest["layers"][0]["urls"] =
        serde_json::json!([format!("http://{}/v2/x/blobs/{digest}", elsewhere.address)]);
    manifest["layers"][0]["mediaType"] = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip".into();
    let image = Parts { manifest: manifest.to_string().into_bytes(), ..image };
    let error =
        refused(move |asked| if is_layer(&image, asked) { Reply::new(404, b"") } else { image.serve(asked) });
    assert!(error.contains("not found in the registry"), "{error}");
    assert_eq!(elsewhere.asked.lock().unwrap().len(), 0);
}

/// A registry with one document.
fn document(kind: &'static str, document: String) -> impl Fn(&Asked) -> Reply {
    move |asked| match asked.path.contains("/manifests/") {
        true => Reply::new(200, document.as_bytes()).header("Content-Type", kind),
        false => Reply::new(200, b"{}"),
    }
}

fn two_in_one() {
    let image = parts("app", &[10]);
    let mut both: serde_json::Value = serde_json::from_slice(&image.manifest).unwrap();
    both["manifests"] = serde_json::json!([]);
    both.as_object_mut().unwrap().remove("mediaType");
    for kind in [MANIFEST, INDEX] {
        let error = refused(document(kind, both.to_string()));
        assert!(error.contains("an image and an index in one"), "{error}");
    }
    let error = refused(document(INDEX, String::from_utf8(image.manifest.clone()).unwrap()));
    assert!(error.contains("calls itself"), "{error}");
}

fn manifest_digest() {
    let image = parts("app", &[10]);
    let other = sha256(b"other");
    let served = image.clone();
    let error = refused(move |asked| served.serve(asked).header("Docker-Content-Digest", &other));
    assert!(error.contains("and the registry said"), "{error}");
    let served = image.clone();
    let script = Script::start(move |asked| served.serve(asked));
    let dir = tempfile::tempdir().unwrap();
    let name = script.reference(&format!("app@{}", sha256(b"asked for")));
    let error = pull(&store(dir.path()), &name, &Options::default()).unwrap_err();
    assert!(error.contains("was asked for"), "{error}");
}

fn huge_manifest() {
    let error =
        refused(document(MANIFEST, format!("{{\"schemaVersion\":2,\"x\":\"{}\"}}", "x".repeat(5 << 20))));
    assert!(error.contains("refusing the manifest"), "{error}");
    let error = refused(document(MANIFEST, format!("{{\"schemaVersion\":2,\"x\":{}1", "[".repeat(1 << 20))));
    assert!(error.contains("refusing the manifest"), "{error}");
}

fn index_of_indexes() {
    let arch = registry::platform::Platform::host().arch;
    let wrap = |inner: &str| {
        serde_json::json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [
            {"mediaType": INDEX, "size": inner.len(), "digest": sha256(inner.as_bytes()),
             "platform": {"os": "linux", "architecture": arch}}]})
        .to_string()
    };
    let mut chain = vec!["{}".to_owned()];
    for _ in 0..20 {
        chain.push(wrap(chain.last().unwrap()));
    }
    let script = Script::start(move |asked| {
        let found = chain.iter().find(|text| asked.path.ends_with(&sha256(text.as_bytes())));
        Reply::new(200, found.or(chain.last()).unwrap().as_bytes()).header("Content-Type", INDEX)
    });
    let dir = tempfile::tempdir().unwrap();
    let error = pull(&store(dir.path()), &script.reference("app:1"), &Options::default()).unwrap_err();
    assert!(error.contains("from index to index"), "{error}");
    assert!(script.count("/manifests/") <= 4);
}

fn other_config() {
    let (image, other) = (parts("app", &[10]), parts("other", &[10, 20]));
    let text = String::from_utf8(image.manifest.clone()).unwrap();
    let text = text.replace(&sha256(&image.config), &sha256(&other.config));
    let text = text
        .replace(&format!("\"size\":{}", image.config.len()), &format!("\"size\":{}", other.config.len()));
    let image = Parts { config: other.config, manifest: text.into_bytes(), ..image };
    let error = refused(move |asked| image.serve(asked));
    assert!(error.contains("speaks of 2 layers, and the manifest of 1"), "{error}");

    // As many layers, but the configuration means others: found when the layer is unpacked.
    let (image, other) = (parts("app", &[10]), parts("other", &[20]));
    let text = String::from_utf8(image.manifest.clone()).unwrap();
    let text = text.replace(&sha256(&image.config), &sha256(&other.config));
    let image = Parts { config: other.config, manifest: text.into_bytes(), ..image };
    let error = refused(move |asked| image.serve(asked));
    assert!(error.contains("the content of layer"), "{error}");
}

fn huge_config() {
    let image = parts("app", &[10]);
    let text = String::from_utf8(image.manifest.clone()).unwrap();
    let text = text.replace(&format!("\"size\":{}", image.config.len()), "\"size\":9000000000");
    let image = Parts { manifest: text.into_bytes(), ..image };
    let error = refused(move |asked| image.serve(asked));
    assert!(error.contains("9000000000 bytes"), "{error}");
}

fn schema_1() {
    let error = refused(document(
        "application/vnd.docker.distribution.manifest.v1+prettyjws",
        "{\"schemaVersion\":1}".into(),
    ));
    assert!(error.contains("schema 1, which is no longer supported"), "{error}");
}

fn busy() {
    let image = parts("app", &[10]);
    let times = AtomicUsize::new(0);
    let served = image.clone();
    let script = Script::start(move |asked| {
        match asked.path.contains("/manifests/") && times.fetch_add(1, Ordering::SeqCst) < 2 {
            true => Reply::new(429, b"").header("Retry-After", "0"),
            false => served.serve(asked),
        }
    });
    let dir = tempfile::tempdir().unwrap();
    pull(&store(dir.path()), &script.reference("app:1"), &Options::default()).unwrap();

    let limit =
        br#"{"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached your pull rate limit."}]}"#;
    let error = refused(|asked| match asked.path.contains("/manifests/") {
        true => Reply::new(429, limit).header("Retry-After", "21600"),
        false => Reply::new(200, b"{}"),
    });
    assert_eq!(
        error,
        "toomanyrequests: You have reached your pull rate limit.; try again after 21600 s, \
         or log in with 'docker login' for a higher limit"
    );
}

fn escape() {
    let evil = "{\"errors\":[{\"code\":\"DENIED\",\"message\":\"\\u001b[2J\\u0007gone\"}]}";
    let error = refused(|asked| match asked.path.contains("/manifests/") {
        true => Reply::new(403, evil.as_bytes()),
        false => Reply::new(200, b"{}"),
    });
    assert!(error.contains("gone") && !error.contains('\x1b') && !error.contains('\x07'), "{error:?}");
}

/// A registry that wants a token, and the server that gives it.
fn token_registry(token_server: std::net::SocketAddr) -> Script {
    let image = parts("app", &[10_000]);
    Script::start(move |asked| {
        match asked.header("authorization") {
        Some("Bearer t0ken") => image.serve(asked),
        _ => Reply::new(401, b"").header(
            "WWW-Authenticate",
            &format!("Bearer realm=\"http://{token_server}/token?v=1\",service=\"reg\",scope=\"repository:app:pull\""),
        ),
    }
    })
}

fn token() {
    let tokens = Script::start(|_| Reply::new(200, br#"{"token":"t0ken","expires_in":60}"#));
    for (options, proof) in [(Options::default(), None), (known(), Some("Basic dXNlcjpzZWNyZXQ="))] {
        let script = token_registry(tokens.address);
        let dir = tempfile::tempdir().unwrap();
        tokens.asked.lock().unwrap().clear();
        pull(&store(dir.path()), &script.reference("app:1"), &options).unwrap();
        let asked = tokens.asked.lock().unwrap();
        assert_eq!(asked.len(), 1, "one token serves all requests");
        assert!(
            asked[0].path.starts_with("/token?v=1&service=reg&scope=repository%3Aapp%3Apull"),
            "{}",
            asked[0].path
        );
        assert_eq!(asked[0].header("authorization"), proof);
        let registry = script.asked.lock().unwrap();
        assert!(
            registry.iter().all(|a| a.header("authorization").is_none_or(|v| v == "Bearer t0ken")),
            "the password goes to the realm alone"
        );
    }
    // A realm that gives tokens that do not help is not asked again and again.
    let useless = Script::start(|_| Reply::new(200, br#"{"token":"wrong"}"#));
    let script = token_registry(useless.address);
    let dir = tempfile::tempdir().unwrap();
    let error = pull(&store(dir.path()), &script.reference("app:1"), &known()).unwrap_err();
    assert!(error.starts_with("pull access denied for"), "{error}");
    assert_eq!(useless.asked.lock().unwrap().len(), 1);
}

fn identity_token() {
    let tokens = Script::start(|asked| match asked.method.as_str() {
        "POST" => Reply::new(200, br#"{"access_token":"t0ken"}"#),
        _ => Reply::new(400, b""),
    });
    let script = token_registry(tokens.address);
    let dir = tempfile::tempdir().unwrap();
    let credentials = Credentials { identity_token: Some("re/fresh".into()), ..Credentials::default() };
    let options = Options { credentials: Some(credentials), ..Options::default() };
    pull(&store(dir.path()), &script.reference("app:1"), &options).unwrap();
    let asked = tokens.asked.lock().unwrap();
    let form = String::from_utf8(asked[0].body.clone()).unwrap();
    assert!(
        form.starts_with("grant_type=refresh_token&refresh_token=re%2Ffresh&service=reg&client_id="),
        "{form}"
    );
    assert!(!asked[0].path.contains("fresh"), "a secret does not belong in a URL");
}

fn wrong_password() {
    let tokens = Script::start(|_| Reply::new(401, br#"{"details":"incorrect username or password"}"#));
    let script = token_registry(tokens.address);
    let dir = tempfile::tempdir().unwrap();
    let error = pull(&store(dir.path()), &script.reference("app:1"), &known()).unwrap_err();
    assert!(error.contains("incorrect username or password") && error.contains("docker login"), "{error}");
    let script = Script::start(|asked| with_password(asked, |_| Reply::new(200, b"{}")));
    let error = pull(&store(dir.path()), &script.reference("app:1"), &Options::default()).unwrap_err();
    assert!(error.contains("no basic auth credentials"), "{error}");
}

fn nobody() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let name = registry::Reference::parse(&format!("{free}/app")).unwrap();
    let error = pull(&store(dir.path()), &name, &Options::default()).unwrap_err();
    assert!(
        error.contains("Connection refused") && error.contains("is a registry running there?"),
        "{error}"
    );
}

fn chunks() {
    let image = parts("app", &[20 << 20]);
    let blob = image.layers[0].clone();
    let whole = std::sync::Arc::new(std::sync::Mutex::new(Vec::<u8>::new()));
    let got = whole.clone();
    let broken = AtomicUsize::new(0);
    let script = Script::start(move |asked| {
        let mut got = got.lock().unwrap();
        let range = |len: usize| format!("0-{}", len.saturating_sub(1));
        match asked.method.as_str() {
            "HEAD" => Reply::new(404, b""),
            "POST" => Reply::new(202, b"").header("Location", "/up/1"),
            "PUT" if asked.path.contains("/manifests/") => Reply::new(201, b""),
            // One PUT of everything is too much for this one.
            "PUT" if asked.body.len() > 1 << 20 => Reply::new(413, b""),
            "PUT" => Reply::new(201, b""),
            "PATCH" => {
                let from = asked
                    .header("content-range")
                    .unwrap()
                    .split('-')
                    .next()
                    .unwrap()
                    .parse::<usize>()
                    .unwrap();
                assert_eq!(from, got.len());
                // The first chunk arrives half, and the server falls over.
                if broken.fetch_add(1, Ordering::SeqCst) == 0 {
                    got.extend(&asked.body[..asked.body.len() / 2]);
                    return Reply::new(503, b"");
                }
                got.extend(&asked.body);
                Reply::new(202, b"").header("Location", "/up/1").header("Range", &range(got.len()))
            }
            "GET" => Reply::new(204, b"").header("Location", "/up/1").header("Range", &range(got.len())),
            _ => Reply::new(500, b""),
        }
    });
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    push(&store, &image.put(&store), &script.reference("app:1"), &Options::default()).unwrap();
    assert!(*whole.lock().unwrap() == blob, "what arrived is what was sent");
}

fn pages() {
    let script = Script::start(|asked| match asked.path.as_str() {
        "/v2/app/tags/list" => {
            Reply::new(200, br#"{"tags":["a","b\u001b"]}"#).header("Link", "<?last=a>; rel=\"next\"")
        }
        "/v2/app/tags/list?last=a" => Reply::new(200, br#"{"tags":["c"]}"#),
        "/v2/ever/tags/list" => Reply::new(200, b"{}").header("Link", "</v2/ever/tags/list>; rel=\"next\""),
        _ => Reply::new(200, b"{}"),
    });
    let options = Options::default();
    let tags = |name: &str| {
        let reference = script.reference(name);
        registry::list::tags(&registry::client::Client::new(&reference, &options, "pull", &[]).unwrap())
    };
    assert_eq!(tags("app").unwrap(), ["a", "c"]);
    assert!(tags("ever").unwrap_err().to_string().contains("on and on"));
}

fn login() {
    let script = Script::start(|asked| with_password(asked, |_| Reply::new(200, b"{}")));
    let reference = script.reference("any");
    let ping =
        |options: &Options| registry::client::Client::new(&reference, options, "pull", &[]).unwrap().ping();
    ping(&known()).unwrap();
    assert!(ping(&Options::default()).unwrap_err().to_string().contains("no basic auth credentials"));
    let mut wrong = known();
    wrong.credentials.as_mut().unwrap().password = "wrong".into();
    assert!(ping(&wrong).unwrap_err().to_string().contains("docker login"));
}
