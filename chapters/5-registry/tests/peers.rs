//! The other programs of the trade: what they push we pull, what we push they pull.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{Parts, parts, pull, push, run, sha256, store};
use kit::{Case, Need};
use registry::{Credentials, Options, Reference, server::Server};
use std::{
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

fn main() {
    let registry = Need::Program("docker-registry");
    let skopeo = Need::Program("skopeo");
    let openssl = Need::Program("openssl");
    let mut cases = common::with_outer_address(vec![(
        "a_certificate_must_be_vouched_for",
        &[Need::Program("docker-registry"), Need::Program("openssl")],
        vouched_for,
    )]);
    cases.extend(vec![
        Case::new("docker_registry_takes_and_gives", &[registry], docker_registry),
        Case::new("docker_registry_mounts", &[registry], docker_registry_mounts),
        Case::new("docker_registry_with_a_password", &[registry], docker_registry_with_password),
        Case::new("docker_registry_takes_chunks", &[registry], docker_registry_chunks),
        Case::new("skopeo_pushes_and_pulls_at_our_server", &[skopeo], skopeo_at_our_server),
        Case::new("skopeo_reads_what_we_pulled", &[skopeo], skopeo_reads_our_store),
        Case::new("skopeos_docker_schema_2_is_pulled", &[skopeo], skopeo_schema_2),
        Case::new("an_image_goes_all_around", &[registry, skopeo], all_around),
        Case::new("tls_on_loopback_needs_no_one_to_vouch", &[registry, openssl], tls_on_loopback),
    ]);
    kit::run(cases);
}

/// A docker-registry that speaks TLS, with a certificate for its address that it has signed itself.
fn tls_peer(ip: std::net::IpAddr) -> Peer {
    let dir = tempfile::tempdir().unwrap();
    let (key, certificate) = (dir.path().join("key.pem"), dir.path().join("cert.pem"));
    let (key, certificate) = (key.to_str().unwrap(), certificate.to_str().unwrap());
    let name = format!("subjectAltName=IP:{ip}");
    let curve = "ec_paramgen_curve:prime256v1";
    #[rustfmt::skip]
    run("openssl", &["req", "-x509", "-newkey", "ec", "-pkeyopt", curve, "-nodes", "-days", "2", "-subj", "/CN=test",
        "-addext", &name, "-addext", "basicConstraints=critical,CA:FALSE", "-keyout", key, "-out", certificate]);
    let tls = format!(", tls: {{certificate: '{certificate}', key: '{key}'}}");
    start(dir, (ip, 0).into(), "", &tls)
}

fn tls_on_loopback() {
    let peer = tls_peer(std::net::Ipv4Addr::LOCALHOST.into());
    let dir = tempfile::tempdir().unwrap();
    let app = name(peer.address, "team/app:1");
    there_and_back(dir.path(), &parts("app", &[100_000]), &app, &Options::default());
}

fn vouched_for(ip: std::net::IpAddr) {
    let peer = tls_peer(ip);
    let dir = tempfile::tempdir().unwrap();
    let app = name(peer.address, "team/app:1");
    let insecure = Options { insecure: true, ..Options::default() };
    there_and_back(dir.path(), &parts("app", &[100_000]), &app, &insecure);
    let error = pull(&store(&dir.path().join("to")), &app, &Options::default()).unwrap_err();
    assert!(error.contains("certificate") && error.contains("install its certificate authority"), "{error}");
    // Trusted as this machine trusts: by a file that the environment names.
    let pulled = Command::new(env!("CARGO_BIN_EXE_registry"))
        .env("SSL_CERT_FILE", peer.dir.path().join("cert.pem"))
        .env_remove("HTTPS_PROXY")
        .env_remove("https_proxy")
        .args(["pull", "--store"])
        .arg(dir.path().join("third"))
        .arg(app.to_string())
        .output()
        .unwrap();
    assert!(pulled.status.success(), "{}", String::from_utf8_lossy(&pulled.stderr));
}

/// A docker-registry that ends with the test.
struct Peer {
    child: Child,
    address: SocketAddr,
    dir: tempfile::TempDir,
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn peer(htpasswd: Option<&str>) -> Peer {
    let dir = tempfile::tempdir().unwrap();
    let mut more = String::new();
    if let Some(line) = htpasswd {
        std::fs::write(dir.path().join("htpasswd"), line).unwrap();
        more = format!("auth: {{htpasswd: {{realm: test, path: {}/htpasswd}}}}\n", dir.path().display());
    }
    start(dir, "127.0.0.1:0".parse().unwrap(), &more, "")
}

/// Starts it, with `more` in its configuration, and `http` in the part about HTTP.
fn start(dir: tempfile::TempDir, address: SocketAddr, more: &str, http: &str) -> Peer {
    // The port is free now, and is not given to another so soon.
    let address = TcpListener::bind(address).unwrap().local_addr().unwrap();
    let root = dir.path().display();
    let config = format!(
        "version: 0.1\nlog: {{level: error}}\n\
         storage: {{filesystem: {{rootdirectory: {root}/data}}, delete: {{enabled: true}}}}\n\
         http: {{addr: '{address}'{http}}}\n{more}"
    );
    std::fs::write(dir.path().join("config.yml"), config).unwrap();
    let child = Command::new(kit::find_program("docker-registry").unwrap())
        .arg("serve")
        .arg(dir.path().join("config.yml"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let peer = Peer { child, address, dir };
    let deadline = Instant::now() + Duration::from_secs(20);
    while TcpStream::connect(address).is_err() {
        assert!(Instant::now() < deadline, "docker-registry does not begin");
        std::thread::sleep(Duration::from_millis(20));
    }
    peer
}

fn name(address: SocketAddr, rest: &str) -> Reference {
    Reference::parse(&format!("{address}/{rest}")).unwrap()
}

/// Pushes an image there, pulls it back, and compares.
fn there_and_back(dir: &Path, image: &Parts, name: &Reference, options: &Options) {
    let from = store(&dir.join("from"));
    let manifest = image.put(&from);
    push(&from, &manifest, name, options).unwrap();
    let to = store(&dir.join("to"));
    let (pulled, _) = pull(&to, name, options).unwrap();
    assert_eq!(to.read(&pulled).unwrap(), image.manifest);
    for layer in &image.layers {
        assert_eq!(std::fs::read(to.blob_path(&sha256(layer).parse().unwrap())).unwrap(), *layer);
    }
}

fn docker_registry() {
    let peer = peer(None);
    let dir = tempfile::tempdir().unwrap();
    let app = name(peer.address, "team/app:1");
    there_and_back(dir.path(), &parts("app", &[100_000, 5_000_000, 1]), &app, &Options::default());
    let error = pull(&store(&dir.path().join("to")), &name(peer.address, "team/app:2"), &Options::default())
        .unwrap_err();
    assert_eq!(
        error,
        format!("manifest for {}/team/app:2 not found: manifest unknown: manifest unknown", peer.address)
    );
}

fn docker_registry_mounts() {
    let peer = peer(None);
    let dir = tempfile::tempdir().unwrap();
    let from = store(dir.path());
    let manifest = parts("app", &[100_000]).put(&from);
    let base = name(peer.address, "team/base:1");
    push(&from, &manifest, &base, &Options::default()).unwrap();
    from.tag(&base.to_string(), &manifest).unwrap();
    let said = push(&from, &manifest, &name(peer.address, "team/app:1"), &Options::default()).unwrap();
    assert!(said.iter().any(|line| line.ends_with("Mounted from team/base")), "{said:?}");
}

fn docker_registry_with_password() {
    // bcrypt of `secret`, made by htpasswd(1)'s algorithm once and for all.
    let peer = peer(Some("user:$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n"));
    let dir = tempfile::tempdir().unwrap();
    let app = name(peer.address, "team/app:1");
    let user = |password: &str| Options {
        credentials: Some(Credentials {
            username: "user".into(),
            password: password.into(),
            identity_token: None,
        }),
        ..Options::default()
    };
    there_and_back(dir.path(), &parts("app", &[100_000, 2_000_000]), &app, &user("secret"));
    let to = store(&dir.path().join("to"));
    let error = pull(&to, &app, &Options::default()).unwrap_err();
    assert!(error.contains("no basic auth credentials"), "{error}");
    let error = pull(&to, &app, &user("wrong")).unwrap_err();
    assert!(error.starts_with("pull access denied for") && error.contains("docker login"), "{error}");
}

fn docker_registry_chunks() {
    // Something on the way that lets no large body through, as many a proxy does.
    let peer = peer(None);
    let behind = peer.address;
    let proxy = common::Script::start(move |asked| {
        if asked.body.len() > 17 << 20 {
            return common::Reply::new(413, b"");
        }
        let mut request =
            format!("{} {} HTTP/1.1\r\nHost: {behind}\r\nConnection: close\r\n", asked.method, asked.path);
        for (name, value) in asked
            .headers
            .iter()
            .filter(|(n, _)| !n.eq_ignore_ascii_case("host") && !n.eq_ignore_ascii_case("connection"))
        {
            request += &format!("{name}: {value}\r\n");
        }
        let mut stream = TcpStream::connect(behind).unwrap();
        std::io::Write::write_all(&mut stream, &[(request + "\r\n").as_bytes(), &asked.body].concat())
            .unwrap();
        let mut answer = Vec::new();
        std::io::Read::read_to_end(&mut stream, &mut answer).unwrap();
        let end = answer.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
        let head = String::from_utf8(answer[..end].to_vec()).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let mut reply = common::Reply::new(status, &answer[end + 4..]);
        for line in head.lines().skip(1) {
            let (name, value) = line.split_once(": ").unwrap();
            if !name.eq_ignore_ascii_case("connection") {
                reply = reply.header(name, &value.replace(&format!("http://{behind}"), ""));
            }
        }
        reply
    });
    let dir = tempfile::tempdir().unwrap();
    there_and_back(
        dir.path(),
        &parts("app", &[40 << 20]),
        &proxy.reference("team/app:1"),
        &Options::default(),
    );
    let asked = proxy.asked.lock().unwrap();
    assert_eq!(asked.iter().filter(|a| a.method == "PATCH").count(), 3, "40 MiB in chunks of 16");
}

fn layout(dir: &Path, tag: &str) -> String {
    format!("oci:{}:{tag}", dir.display())
}

fn skopeo_at_our_server() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start("127.0.0.1:0".parse().unwrap(), &dir.path().join("served")).unwrap();
    let from = store(&dir.path().join("from"));
    let image = parts("app", &[100_000, 3_000_000]);
    let manifest = image.put(&from);
    from.tag("app", &manifest).unwrap();
    let there = format!("docker://{}/team/app:1", server.address());
    let back = layout(&dir.path().join("back"), "app");
    run("skopeo", &["copy", "--dest-tls-verify=false", &layout(from.root(), "app"), &there]);
    run("skopeo", &["copy", "--src-tls-verify=false", &there, &back]);
    let back = store(&dir.path().join("back"));
    assert_eq!(back.find("app").unwrap().unwrap().digest(), manifest.digest());
    let to = store(&dir.path().join("to"));
    assert_eq!(
        pull(&to, &name(server.address(), "team/app:1"), &Options::default()).unwrap().0.digest(),
        manifest.digest()
    );
    let tags = run(
        "skopeo",
        &["list-tags", "--tls-verify=false", &format!("docker://{}/team/app", server.address())],
    );
    assert!(tags.contains("\"1\""), "{tags}");
    run("skopeo", &["delete", "--tls-verify=false", &there]);
    let error = pull(&to, &name(server.address(), "team/app:1"), &Options::default()).unwrap_err();
    assert!(error.contains("not found"), "{error}");
}

fn skopeo_reads_our_store() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start("127.0.0.1:0".parse().unwrap(), &dir.path().join("served")).unwrap();
    let from = store(&dir.path().join("from"));
    let manifest = parts("app", &[100_000, 0]).put(&from);
    let app = name(server.address(), "app:1");
    push(&from, &manifest, &app, &Options::default()).unwrap();
    let to = store(&dir.path().join("to"));
    pull(&to, &app, &Options::default()).unwrap();
    for root in [to.root().to_owned(), dir.path().join("served")] {
        let tag = if root == to.root() { app.to_string() } else { "app:1".into() };
        let copy = dir.path().join(format!("copy-{}", tag.len()));
        run("skopeo", &["copy", &layout(&root, &tag), &format!("dir:{}", copy.display())]);
        let read = std::fs::read(copy.join("manifest.json")).unwrap();
        assert_eq!(sha256(&read), manifest.digest().to_string());
    }
}

fn skopeo_schema_2() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start("127.0.0.1:0".parse().unwrap(), &dir.path().join("served")).unwrap();
    let from = store(&dir.path().join("from"));
    from.tag("app", &parts("app", &[100_000]).put(&from)).unwrap();
    let there = format!("docker://{}/team/app:1", server.address());
    run(
        "skopeo",
        &["copy", "--format", "v2s2", "--dest-tls-verify=false", &layout(from.root(), "app"), &there],
    );
    let to = store(&dir.path().join("to"));
    let (pulled, _) = pull(&to, &name(server.address(), "team/app:1"), &Options::default()).unwrap();
    assert_eq!(pulled.media_type().to_string(), "application/vnd.docker.distribution.manifest.v2+json");
    // And on, as it is.
    push(&to, &pulled, &name(server.address(), "team/again:1"), &Options::default()).unwrap();
}

fn all_around() {
    let peer = peer(None);
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start("127.0.0.1:0".parse().unwrap(), &dir.path().join("served")).unwrap();
    let from = store(&dir.path().join("from"));
    let manifest = parts("app", &[100_000, 2_000_000]).put(&from);
    let theirs = name(peer.address, "team/app:1");
    push(&from, &manifest, &theirs, &Options::default()).unwrap();
    let (a, b) = (format!("docker://{theirs}"), format!("docker://{}/team/app:1", server.address()));
    run("skopeo", &["copy", "--src-tls-verify=false", "--dest-tls-verify=false", &a, &b]);
    let to = store(&dir.path().join("to"));
    let (pulled, _) = pull(&to, &name(server.address(), "team/app:1"), &Options::default()).unwrap();
    assert_eq!(pulled.digest(), manifest.digest());
}
