//! The server, asked by hand: what the distribution specification promises of it, and what it must survive.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{parts, sha256, store};
use kit::Case;
use registry::server::Server;
use std::{
    io::{Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

fn main() {
    kit::run(vec![
        Case::new("blobs_are_pulled_whole_and_in_part", &[], blobs),
        Case::new("a_blob_is_pushed_in_one_request", &[], monolithic),
        Case::new("a_blob_is_pushed_in_chunks_in_order", &[], chunked),
        Case::new("a_blob_with_another_digest_is_never_seen", &[], wrong_digest),
        Case::new("a_blob_is_mounted_or_an_upload_opened", &[], mount),
        Case::new("an_upload_is_cancelled", &[], cancel),
        Case::new("sha512_is_a_digest_too", &[], sha512),
        Case::new("a_manifest_is_checked_before_it_is_named", &[], manifests),
        Case::new("tags_and_repositories_are_listed_in_pages", &[], lists),
        Case::new("referrers_are_found_by_subject_and_type", &[], referrers),
        Case::new("tags_manifests_and_blobs_are_deleted", &[], delete),
        Case::new("names_and_digests_are_never_paths", &[], names),
        Case::new("idle_and_slow_clients_keep_no_one_waiting", &[], slow),
        Case::new("a_crowd_of_idle_clients_makes_room", &[], crowded),
        Case::new("garbage_is_survived", &[], garbage),
        Case::new("a_layout_that_others_made_is_served", &[], foreign_layout),
    ]);
}

/// A server, and a connection for each request.
struct Api {
    server: Server,
    dir: tempfile::TempDir,
}

struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map_or("", |(_, value)| value)
    }

    fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The code of an error, with the status.
    fn code(&self) -> (u16, String) {
        (self.status, self.json()["errors"][0]["code"].as_str().unwrap().to_owned())
    }
}

fn api() -> Api {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start("127.0.0.1:0".parse().unwrap(), dir.path()).unwrap();
    Api { server, dir }
}

impl Api {
    fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut stream = TcpStream::connect(self.server.address()).unwrap();
        let mut head = format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n",
            body.len()
        );
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        // A server that refuses early may close before all is sent.
        let _ = stream.write_all(&[(head + "\r\n").as_bytes(), body].concat());
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        let end = bytes.windows(4).position(|w| w == b"\r\n\r\n").expect("an answer");
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers =
            lines.map(|line| line.split_once(": ").unwrap()).map(|(n, v)| (n.into(), v.into())).collect();
        Answer { status, headers, body: bytes[end + 4..].to_vec() }
    }

    fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], b"")
    }

    /// Pushes a blob in one request and returns its digest.
    fn blob(&self, name: &str, bytes: &[u8]) -> String {
        let digest = sha256(bytes);
        let answer = self.ask("POST", &format!("/v2/{name}/blobs/uploads/?digest={digest}"), &[], bytes);
        assert_eq!(answer.status, 201);
        digest
    }

    fn manifest(&self, name: &str, target: &str, document: &serde_json::Value) -> Answer {
        let kind = document["mediaType"].as_str().unwrap_or(MANIFEST).to_owned();
        let path = format!("/v2/{name}/manifests/{target}");
        self.ask("PUT", &path, &[("Content-Type", &kind)], document.to_string().as_bytes())
    }

    /// An image document with one layer, whose blobs are there.
    fn image(&self, name: &str, content: &str) -> serde_json::Value {
        let layer = self.blob(name, content.as_bytes());
        let config = self.blob(name, b"{}");
        serde_json::json!({"schemaVersion": 2, "mediaType": MANIFEST,
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "size": 2, "digest": config},
            "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "size": content.len(), "digest": layer}]})
    }
}

fn blobs() {
    let api = api();
    let digest = api.blob("a/b", b"0123456789");
    let path = format!("/v2/a/b/blobs/{digest}");
    let whole = api.get(&path);
    assert_eq!((whole.status, whole.body.as_slice()), (200, &b"0123456789"[..]));
    assert_eq!(whole.header("docker-content-digest"), digest);
    let head = api.ask("HEAD", &path, &[], b"");
    assert_eq!((head.status, head.header("content-length"), head.body.len()), (200, "10", 0));
    let part = api.ask("GET", &path, &[("Range", "bytes=2-5")], b"");
    assert_eq!((part.status, part.body.as_slice()), (206, &b"2345"[..]));
    assert_eq!(part.header("content-range"), "bytes 2-5/10");
    let beyond = api.ask("GET", &path, &[("Range", "bytes=10-")], b"");
    assert_eq!((beyond.status, beyond.header("content-range")), (416, "bytes */10"));
    let reversed = api.ask("GET", &path, &[("Range", "bytes=5-0")], b"");
    assert_eq!(reversed.status, 416);
    let unknown = api.get(&format!("/v2/a/b/blobs/{}", sha256(b"unknown")));
    assert_eq!(unknown.code(), (404, "BLOB_UNKNOWN".into()));
    assert_eq!(api.get("/v2/").status, 200);
    assert_eq!(api.get("/v2/").header("docker-distribution-api-version"), "registry/2.0");
}

fn monolithic() {
    let api = api();
    let digest = sha256(b"in one");
    let opened = api.ask("POST", "/v2/a/b/blobs/uploads/", &[], b"");
    assert_eq!(opened.status, 202);
    let put = format!("{}?digest={}", opened.header("location"), digest.replace(':', "%3A"));
    let done = api.ask("PUT", &put, &[("Content-Type", "application/octet-stream")], b"in one");
    assert_eq!((done.status, done.header("location")), (201, format!("/v2/a/b/blobs/{digest}").as_str()));
    assert_eq!(api.get(done.header("location")).body, b"in one");
    assert_eq!(api.ask("PUT", &put, &[], b"in one").code(), (404, "BLOB_UPLOAD_UNKNOWN".into()));
}

fn chunked() {
    let api = api();
    let opened = api.ask("POST", "/v2/a/b/blobs/uploads/", &[], b"");
    let place = opened.header("location").to_owned();
    let first = api.ask("PATCH", &place, &[("Content-Range", "0-3")], b"0123");
    assert_eq!((first.status, first.header("range")), (202, "0-3"));
    for (range, body) in [("0-3", b"0123"), ("5-8", b"5678"), ("4-8", b"4567"), ("8-4", b"4567")] {
        let wrong = api.ask("PATCH", &place, &[("Content-Range", range)], body);
        assert_eq!((wrong.status, wrong.header("range")), (416, "0-3"), "{range}");
        assert_eq!(wrong.header("location"), place);
    }
    assert_eq!(api.ask("PATCH", &place, &[("Content-Range", "some")], b"4567").status, 400);
    let status = api.get(&place);
    assert_eq!((status.status, status.header("range")), (204, "0-3"));
    assert_eq!(api.ask("PATCH", &place, &[("Content-Range", "4-6")], b"456").status, 202);
    let digest = sha256(b"0123456789");
    let wrong = api.ask("PUT", &format!("{place}?digest={digest}"), &[("Content-Range", "0-2")], b"789");
    assert_eq!(wrong.status, 416);
    let done = api.ask("PUT", &format!("{place}?digest={digest}"), &[("Content-Range", "7-9")], b"789");
    assert_eq!(done.status, 201);
    assert_eq!(api.get(&format!("/v2/a/b/blobs/{digest}")).body, b"0123456789");
}

fn wrong_digest() {
    let api = api();
    let digest = sha256(b"promised");
    let one = api.ask("POST", &format!("/v2/a/b/blobs/uploads/?digest={digest}"), &[], b"delivered");
    assert_eq!(one.code(), (400, "DIGEST_INVALID".into()));
    let opened = api.ask("POST", "/v2/a/b/blobs/uploads/", &[], b"");
    let two = api.ask("PUT", &format!("{}?digest={digest}", opened.header("location")), &[], b"delivered");
    assert_eq!(two.code(), (400, "DIGEST_INVALID".into()));
    let opened = api.ask("POST", "/v2/a/b/blobs/uploads/", &[], b"");
    assert_eq!(api.ask("PUT", opened.header("location"), &[], b"x").code(), (400, "DIGEST_INVALID".into()));
    assert_eq!(api.get(&format!("/v2/a/b/blobs/{digest}")).status, 404);
    assert_eq!(api.get(&format!("/v2/a/b/blobs/{}", sha256(b"delivered"))).status, 404);
}

fn mount() {
    let api = api();
    let digest = api.blob("a/b", b"shared");
    let mounted = api.ask("POST", &format!("/v2/c/d/blobs/uploads/?mount={digest}&from=a/b"), &[], b"");
    assert_eq!(
        (mounted.status, mounted.header("location")),
        (201, format!("/v2/c/d/blobs/{digest}").as_str())
    );
    let opened =
        api.ask("POST", &format!("/v2/c/d/blobs/uploads/?mount={}&from=a/b", sha256(b"no")), &[], b"");
    assert_eq!(opened.status, 202);
    assert!(opened.header("location").starts_with("/v2/c/d/blobs/uploads/"));
}

fn cancel() {
    let api = api();
    let opened = api.ask("POST", "/v2/a/b/blobs/uploads/", &[], b"");
    let place = opened.header("location");
    assert_eq!(api.ask("PATCH", place, &[], b"some").status, 202);
    assert_eq!(api.ask("DELETE", place, &[], b"").status, 204);
    assert_eq!(api.get(place).code(), (404, "BLOB_UPLOAD_UNKNOWN".into()));
    let left: Vec<_> = std::fs::read_dir(api.dir.path().join(".tmp")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

fn sha512() {
    let api = api();
    let digest = registry::manifest::digest(&oci_spec::image::DigestAlgorithm::Sha512, b"long").unwrap();
    let path = format!("/v2/a/b/blobs/uploads/?digest={digest}");
    assert_eq!(api.ask("POST", &path, &[], b"other").code(), (400, "DIGEST_INVALID".into()));
    assert_eq!(api.ask("POST", &path, &[], b"long").status, 201);
    assert_eq!(api.get(&format!("/v2/a/b/blobs/{digest}")).body, b"long");
    let image = api.image("a/b", "layer").to_string();
    let digest =
        registry::manifest::digest(&oci_spec::image::DigestAlgorithm::Sha512, image.as_bytes()).unwrap();
    let path = format!("/v2/a/b/manifests/{digest}");
    assert_eq!(api.ask("PUT", &path, &[("Content-Type", MANIFEST)], image.as_bytes()).status, 201);
    assert_eq!(api.get(&path).body, image.as_bytes());
    let md5 = "/v2/a/b/blobs/md5:d41d8cd98f00b204e9800998ecf8427e";
    assert_eq!(api.get(md5).code(), (400, "DIGEST_INVALID".into()));
}

fn manifests() {
    let api = api();
    let image = api.image("a/b", "layer");
    let digest = sha256(image.to_string().as_bytes());
    let put = api.manifest("a/b", "v1", &image);
    assert_eq!((put.status, put.header("docker-content-digest")), (201, digest.as_str()));
    for target in ["v1", &digest] {
        let got = api.get(&format!("/v2/a/b/manifests/{target}"));
        assert_eq!(
            (got.status, got.header("content-type"), got.header("docker-content-digest")),
            (200, MANIFEST, digest.as_str())
        );
        assert_eq!(got.body, image.to_string().as_bytes());
        let head = api.ask("HEAD", &format!("/v2/a/b/manifests/{target}"), &[], b"");
        assert_eq!((head.status, head.body.len()), (200, 0));
    }
    assert_eq!(api.get(&format!("/v2/other/manifests/{digest}")).code(), (404, "MANIFEST_UNKNOWN".into()));
    assert_eq!(api.get("/v2/a/b/manifests/v2").code(), (404, "MANIFEST_UNKNOWN".into()));

    let mut incomplete = image.clone();
    incomplete["layers"][0]["digest"] = sha256(b"missing").into();
    assert_eq!(api.manifest("a/b", "v2", &incomplete).code(), (404, "MANIFEST_BLOB_UNKNOWN".into()));
    let mut elsewhere = incomplete.clone();
    elsewhere["layers"][0]["mediaType"] = "application/vnd.oci.image.layer.nondistributable.v1.tar".into();
    assert_eq!(api.manifest("a/b", "other", &elsewhere).status, 201);
    let mut both = image.clone();
    both["manifests"] = serde_json::json!([]);
    assert_eq!(api.manifest("a/b", "v2", &both).code(), (400, "MANIFEST_INVALID".into()));
    let path = "/v2/a/b/manifests/v2";
    assert_eq!(
        api.ask("PUT", path, &[("Content-Type", MANIFEST)], b"no json").code(),
        (400, "MANIFEST_INVALID".into())
    );
    assert_eq!(api.ask("PUT", path, &[("Content-Type", MANIFEST)], &vec![b' '; 5 << 20]).code().0, 413);
    assert_eq!(api.manifest("a/b", &sha256(b"other"), &image).code(), (400, "DIGEST_INVALID".into()));
    assert_eq!(api.manifest("a/b", "-bad", &image).code(), (400, "MANIFEST_INVALID".into()));
    assert_eq!(api.get(path).status, 404);
}

fn lists() {
    let api = api();
    assert_eq!(api.get("/v2/a/b/tags/list").code(), (404, "NAME_UNKNOWN".into()));
    let image = api.image("a/b", "layer");
    for tag in ["c", "a", "b", "D"] {
        assert_eq!(api.manifest("a/b", tag, &image).status, 201);
    }
    api.manifest("a/bb", "other", &image);
    let all = api.get("/v2/a/b/tags/list");
    assert_eq!(all.json(), serde_json::json!({"name": "a/b", "tags": ["D", "a", "b", "c"]}));
    assert_eq!(all.header("link"), "");
    let page = api.get("/v2/a/b/tags/list?n=2");
    assert_eq!(page.json()["tags"], serde_json::json!(["D", "a"]));
    assert_eq!(page.header("link"), "</v2/a/b/tags/list?n=2&last=a>; rel=\"next\"");
    assert_eq!(api.get("/v2/a/b/tags/list?n=2&last=a").json()["tags"], serde_json::json!(["b", "c"]));
    assert_eq!(api.get("/v2/a/b/tags/list?last=c").json()["tags"], serde_json::json!([]));
    assert_eq!(api.get("/v2/a/b/tags/list?n=0").json()["tags"], serde_json::json!([]));
    assert_eq!(api.get("/v2/_catalog").json(), serde_json::json!({"repositories": ["a/b", "a/bb"]}));
    assert_eq!(api.get("/v2/_catalog?n=1&last=a/b").json(), serde_json::json!({"repositories": ["a/bb"]}));
}

fn referrers() {
    let api = api();
    let image = api.image("a/b", "layer");
    let subject = sha256(image.to_string().as_bytes());
    // A signature may come before what it signs.
    let mut signature = api.image("a/b", "signature");
    signature["subject"] =
        serde_json::json!({"mediaType": MANIFEST, "size": image.to_string().len(), "digest": subject});
    signature["artifactType"] = "application/vnd.example.signature".into();
    signature["annotations"] = serde_json::json!({"by": "me"});
    let put = api.manifest("a/b", &sha256(signature.to_string().as_bytes()), &signature);
    assert_eq!((put.status, put.header("oci-subject")), (201, subject.as_str()));
    let mut plain = signature.clone();
    plain.as_object_mut().unwrap().remove("artifactType");
    assert_eq!(api.manifest("a/b", "plain", &plain).status, 201);
    assert_eq!(api.manifest("a/b", "v1", &image).header("oci-subject"), "");

    let all = api.get(&format!("/v2/a/b/referrers/{subject}"));
    assert_eq!((all.status, all.header("content-type")), (200, "application/vnd.oci.image.index.v1+json"));
    assert_eq!(all.json()["manifests"].as_array().unwrap().len(), 2);
    let one =
        api.get(&format!("/v2/a/b/referrers/{subject}?artifactType=application%2Fvnd.example.signature"));
    assert_eq!(one.header("oci-filters-applied"), "artifactType");
    let found = &one.json()["manifests"];
    assert_eq!(found.as_array().unwrap().len(), 1);
    assert_eq!(found[0]["digest"], sha256(signature.to_string().as_bytes()));
    assert_eq!(
        (&found[0]["artifactType"], &found[0]["annotations"]["by"]),
        (&"application/vnd.example.signature".into(), &"me".into())
    );
    let by_config = api
        .get(&format!("/v2/a/b/referrers/{subject}?artifactType=application/vnd.oci.image.config.v1%2Bjson"));
    assert_eq!(by_config.json()["manifests"].as_array().unwrap().len(), 1);
    let none = api.get(&format!("/v2/a/b/referrers/{}", sha256(b"nothing")));
    assert_eq!((none.status, none.json()["manifests"].as_array().unwrap().len()), (200, 0));
    assert_eq!(api.get("/v2/a/b/referrers/nonsense").code(), (400, "DIGEST_INVALID".into()));
}

fn delete() {
    let api = api();
    let image = api.image("a/b", "layer");
    let digest = sha256(image.to_string().as_bytes());
    let layer = format!("/v2/a/b/blobs/{}", sha256(b"layer"));
    api.manifest("a/b", "one", &image);
    api.manifest("a/b", "two", &image);
    assert_eq!(api.ask("DELETE", &layer, &[], b"").code(), (405, "UNSUPPORTED".into()), "it is needed");
    assert_eq!(api.ask("DELETE", "/v2/a/b/manifests/one", &[], b"").status, 202);
    assert_eq!(api.get("/v2/a/b/manifests/one").status, 404);
    assert_eq!(api.get("/v2/a/b/manifests/two").status, 200);
    assert_eq!(api.get("/v2/a/b/tags/list").json()["tags"], serde_json::json!(["two"]));
    assert_eq!(api.ask("DELETE", &format!("/v2/a/b/manifests/{digest}"), &[], b"").status, 202);
    for target in ["two", &digest] {
        assert_eq!(api.get(&format!("/v2/a/b/manifests/{target}")).status, 404);
        assert_eq!(api.ask("DELETE", &format!("/v2/a/b/manifests/{target}"), &[], b"").status, 404);
    }
    let left = api.get("/v2/a/b/tags/list");
    assert_eq!((left.status, &left.json()["tags"]), (200, &serde_json::json!([])), "known, and empty");
    assert_eq!(api.ask("DELETE", &layer, &[], b"").status, 202);
    assert_eq!(api.get(&layer).status, 404);
    assert_eq!(api.ask("DELETE", &layer, &[], b"").status, 404);
}

fn names() {
    let api = api();
    let outside = api.dir.path().join("secret");
    std::fs::write(&outside, b"secret").unwrap();
    for path in [
        "/v2/../secret/manifests/x",
        "/v2/a/../b/manifests/x",
        "/v2/A/manifests/x",
        "/v2/a//b/manifests/x",
        "/v2//manifests/x",
        "/v2/manifests/x",
        "/v2/a%2f..%2fb/manifests/x",
        "/v2/a/b/blobs/sha256:../../../secret",
        "/v2/a/b/blobs/..",
        "/v2/a/b/blobs/sha256:..%2f..%2fsecret",
        "/v2/a/b/manifests/..",
        "/v2/a/b/manifests/sha256:..",
        "/v2/a/b/blobs/uploads/../../../secret",
        "/v2/a/b/blobs/uploads/..",
        "/v2/a/b/secret",
        "/secret",
        "/",
        "*",
    ] {
        for method in ["GET", "HEAD", "PUT", "DELETE", "POST", "PATCH"] {
            let answer = api.ask(method, path, &[("Content-Type", MANIFEST)], b"");
            assert!((400..500).contains(&answer.status), "{method} {path}: {}", answer.status);
            assert!(
                !answer.body.windows(6).any(|w| w == b"secret") || path.contains("secret"),
                "{method} {path}"
            );
        }
    }
    assert_eq!(std::fs::read(&outside).unwrap(), b"secret");
    assert_eq!(api.ask("OPTIONS", "/v2/a/b/tags/list", &[], b"").code(), (405, "UNSUPPORTED".into()));
}

fn slow() {
    let api = api();
    let digest = api.blob("a/b", b"quick");
    // Clients that say nothing, begin a head and stop, or begin a body and stop.
    let mut held: Vec<TcpStream> =
        (0..60).map(|_| TcpStream::connect(api.server.address()).unwrap()).collect();
    for stream in &mut held[..20] {
        stream.write_all(b"GET /v2/ HT").unwrap();
    }
    for stream in &mut held[20..40] {
        stream
            .write_all(
                b"POST /v2/a/b/blobs/uploads/?digest=sha256:00 HTTP/1.1\r\nContent-Length: 100\r\n\r\nx",
            )
            .unwrap();
    }
    let begun = Instant::now();
    for _ in 0..20 {
        assert_eq!(api.get(&format!("/v2/a/b/blobs/{digest}")).body, b"quick");
    }
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

fn crowded() {
    let api = api();
    let digest = api.blob("a/b", b"quick");
    // More than it holds, and all of them silent: the oldest make room.
    let held: Vec<TcpStream> = (0..300).map(|_| TcpStream::connect(api.server.address()).unwrap()).collect();
    let begun = Instant::now();
    assert_eq!(api.get(&format!("/v2/a/b/blobs/{digest}")).body, b"quick");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    drop(held);
}

fn garbage() {
    let api = api();
    let mut seed = 1_u64;
    let mut random = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    let words = [
        "GET ",
        "PUT ",
        "/v2/",
        "a/b",
        "/blobs/uploads/",
        " HTTP/1.1",
        "\r\n",
        "Content-Length: ",
        "99",
        "-1",
        "Transfer-Encoding: chunked\r\n",
        "\r\n\r\n",
        "0\r\n\r\n",
        "Expect: 100-continue\r\n",
        "Range: bytes=",
        "\0",
        ":",
        "ü",
    ];
    for _ in 0..300 {
        let mut stream = TcpStream::connect(api.server.address()).unwrap();
        let text: String =
            (0..random() % 20).map(|_| words[(random() % words.len() as u64) as usize]).collect();
        let _ = stream.write_all(text.as_bytes());
        let _ = stream.shutdown(std::net::Shutdown::Write);
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let mut answer = Vec::new();
        let ended = stream.read_to_end(&mut answer);
        let hung = ended.is_err_and(|e| {
            matches!(e.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut)
        });
        assert!(!hung, "{text:?} keeps the server waiting");
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 "), "{text:?}");
    }
    assert_eq!(api.get("/v2/").status, 200);
}

fn foreign_layout() {
    let dir = tempfile::tempdir().unwrap();
    let layout = store(dir.path());
    let image = parts("app", &[1000]);
    let manifest = image.put(&layout);
    layout.tag("library/app:1", &manifest).unwrap();
    let server = Server::start("127.0.0.1:0".parse().unwrap(), dir.path()).unwrap();
    let api = Api { server, dir };
    assert_eq!(api.get("/v2/library/app/manifests/1").body, image.manifest);
    assert_eq!(api.get(&format!("/v2/library/app/manifests/{}", manifest.digest())).body, image.manifest);
    assert_eq!(api.get("/v2/_catalog").json(), serde_json::json!({"repositories": ["library/app"]}));
    // Its tag alone is deleted; the manifest stays known.
    assert_eq!(api.ask("DELETE", "/v2/library/app/manifests/1", &[], b"").status, 202);
    assert_eq!(api.get(&format!("/v2/library/app/manifests/{}", manifest.digest())).status, 200);
}
