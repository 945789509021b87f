//! What these tests share: images to send, and a registry that does what a test tells it.
#![allow(dead_code)] // not every test uses all of it

use layers::Store;
use oci_spec::image::{Descriptor, DigestAlgorithm, MediaType};
use registry::{Options, Progress, Reference, manifest, pull, push};
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    path::Path,
    sync::{Arc, Mutex, atomic::AtomicBool, atomic::Ordering},
};

/// An image's parts, as bytes.
#[derive(Clone)]
pub(crate) struct Parts {
    pub(crate) layers: Vec<Vec<u8>>,
    pub(crate) config: Vec<u8>,
    pub(crate) manifest: Vec<u8>,
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    manifest::digest(&DigestAlgorithm::Sha256, bytes).unwrap().to_string()
}

/// A layer with one file of `size` bytes that do not compress.
pub(crate) fn layer(name: &str, size: usize) -> (Vec<u8>, String) {
    let mut seed = name.bytes().fold(0x9e37_79b9_7f4a_7c15_u64, |seed, b| seed.rotate_left(7) ^ u64::from(b));
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed.to_le_bytes()
    })
    .flatten()
    .take(size)
    .collect();
    // An ordinary user can give files only to himself.
    let me = std::fs::metadata("/proc/self").unwrap();
    let (uid, gid) = (std::os::unix::fs::MetadataExt::uid(&me), std::os::unix::fs::MetadataExt::gid(&me));
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(noise.len() as u64);
    header.set_mode(0o644);
    header.set_uid(uid.into());
    header.set_gid(gid.into());
    header.set_mtime(1);
    tar.append_data(&mut header, name, &noise[..]).unwrap();
    let tar = tar.into_inner().unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&tar).unwrap();
    (gzip.finish().unwrap(), sha256(&tar))
}

/// An image with layers of these sizes.
pub(crate) fn parts(name: &str, sizes: &[usize]) -> Parts {
    let layers: Vec<_> =
        sizes.iter().enumerate().map(|(n, size)| layer(&format!("{name}-{n}"), *size)).collect();
    let config = serde_json::json!({
        "architecture": registry::platform::Platform::host().arch, "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": layers.iter().map(|(_, diff_id)| diff_id).collect::<Vec<_>>()},
    });
    let config = config.to_string().into_bytes();
    let part = |kind: &str, bytes: &[u8]| serde_json::json!({"mediaType": kind, "size": bytes.len(), "digest": sha256(bytes)});
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": part("application/vnd.oci.image.config.v1+json", &config),
        "layers": layers.iter().map(|(blob, _)| part("application/vnd.oci.image.layer.v1.tar+gzip", blob)).collect::<Vec<_>>(),
    });
    Parts {
        layers: layers.into_iter().map(|(blob, _)| blob).collect(),
        config,
        manifest: manifest.to_string().into_bytes(),
    }
}

impl Parts {
    /// Puts it into a store.
    pub(crate) fn put(&self, store: &Store) -> Descriptor {
        for blob in &self.layers {
            store.put(MediaType::ImageLayerGzip, blob).unwrap();
        }
        store.put(MediaType::ImageConfig, &self.config).unwrap();
        store.put(MediaType::ImageManifest, &self.manifest).unwrap()
    }

    /// The answers of an honest registry.
    pub(crate) fn serve(&self, asked: &Asked) -> Reply {
        if asked.path == "/v2/" {
            return Reply::new(200, b"{}");
        }
        let blobs = self.layers.iter().chain([&self.config]);
        if asked.path.contains("/manifests/") {
            return Reply::new(200, &self.manifest)
                .header("Content-Type", "application/vnd.oci.image.manifest.v1+json");
        }
        for blob in blobs {
            if asked.path.ends_with(&sha256(blob)) {
                let from = asked
                    .header("range")
                    .and_then(|r| r.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
                return match from {
                    Some(from) => Reply::new(206, &blob[from..])
                        .header("Content-Range", &format!("bytes {from}-{}/{}", blob.len() - 1, blob.len())),
                    None => Reply::new(200, blob),
                };
            }
        }
        Reply::new(404, b"")
    }
}

/// A request that a scripted registry has got.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }
}

/// What it answers.
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Hangs up after so many bytes of the body.
    pub(crate) cut: Option<usize>,
    /// Sends the body again and again, without a length.
    pub(crate) endless: bool,
    /// Waits between each thousandth of the body.
    pub(crate) slow: bool,
}

impl Reply {
    pub(crate) fn new(status: u16, body: &[u8]) -> Reply {
        Reply { status, headers: Vec::new(), body: body.to_vec(), cut: None, endless: false, slow: false }
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Reply {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// A scripted registry on a loopback port.
pub(crate) struct Script {
    pub(crate) address: SocketAddr,
    pub(crate) asked: Arc<Mutex<Vec<Asked>>>,
    stop: Arc<AtomicBool>,
}

impl Script {
    pub(crate) fn start(answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Script {
        Script::start_at(Ipv4Addr::LOCALHOST.into(), answer)
    }

    pub(crate) fn start_at(ip: IpAddr, answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Script {
        let listener = TcpListener::bind((ip, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let (answer, log, stopped) = (Arc::new(answer), asked.clone(), stop.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                let (answer, log) = (answer.clone(), log.clone());
                std::thread::spawn(move || serve(&stream.unwrap(), &*answer, &log));
            }
        });
        Script { address, asked, stop }
    }

    pub(crate) fn reference(&self, rest: &str) -> Reference {
        Reference::parse(&format!("{}/{rest}", self.address)).unwrap()
    }

    /// How many requests were for paths that hold `part`.
    pub(crate) fn count(&self, part: &str) -> usize {
        self.asked.lock().unwrap().iter().filter(|asked| asked.path.contains(part)).count()
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
    }
}

fn serve(stream: &TcpStream, answer: &dyn Fn(&Asked) -> Reply, log: &Mutex<Vec<Asked>>) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
        let mut words = line.split(' ');
        let mut asked = Asked {
            method: words.next()?.to_owned(),
            path: words.next()?.to_owned(),
            headers: Vec::new(),
            body: Vec::new(),
        };
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok()?;
            let Some((name, value)) = line.trim_end().split_once(": ") else { break };
            asked.headers.push((name.to_owned(), value.to_owned()));
        }
        if let Some(length) = asked.header("content-length").and_then(|l| l.parse().ok()) {
            asked.body = vec![0; length];
            reader.read_exact(&mut asked.body).ok()?;
        }
        let reply = answer(&asked);
        let is_head = asked.method == "HEAD";
        log.lock().unwrap().push(asked);
        let mut head = format!("HTTP/1.1 {} Whatever\r\n", reply.status);
        for (name, value) in &reply.headers {
            head += &format!("{name}: {value}\r\n");
        }
        let mut out = stream;
        if reply.endless {
            out.write_all((head + "Transfer-Encoding: chunked\r\n\r\n").as_bytes()).ok()?;
            loop {
                out.write_all(format!("{:x}\r\n", reply.body.len()).as_bytes()).ok()?;
                out.write_all(&reply.body).ok()?;
                out.write_all(b"\r\n").ok()?;
            }
        }
        if !reply.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-length")) {
            head += &format!("Content-Length: {}\r\n", reply.body.len());
        }
        out.write_all((head + "\r\n").as_bytes()).ok()?;
        let body = if is_head {
            &[]
        } else {
            &reply.body[..reply.cut.unwrap_or(reply.body.len()).min(reply.body.len())]
        };
        for piece in body.chunks((body.len() / 1000).max(if reply.slow { 1 } else { 1 << 20 })) {
            out.write_all(piece).ok()?;
            if reply.slow {
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
        }
        if reply.cut.is_some() {
            let _ = stream.shutdown(std::net::Shutdown::Both);
            return None;
        }
    }
}

pub(crate) fn store(dir: &Path) -> Store {
    Store::open(dir).unwrap()
}

/// Pulls, and returns what was said on the way.
pub(crate) fn pull(
    store: &Store,
    reference: &Reference,
    options: &Options,
) -> Result<(Descriptor, Vec<String>), String> {
    let said = Mutex::new(Vec::new());
    let tell = |p: Progress| said.lock().unwrap().push(format!("{} {}", p.id, p.status).trim().to_owned());
    let pulled = pull::pull(store, reference, options, &tell).map_err(|e| e.to_string())?;
    Ok((pulled, said.into_inner().unwrap()))
}

/// Pushes, and returns what was said on the way.
pub(crate) fn push(
    store: &Store,
    manifest: &Descriptor,
    reference: &Reference,
    options: &Options,
) -> Result<Vec<String>, String> {
    let said = Mutex::new(Vec::new());
    let tell = |p: Progress| said.lock().unwrap().push(format!("{} {}", p.id, p.status).trim().to_owned());
    push::push(store, manifest, reference, options, &tell).map_err(|e| e.to_string())?;
    Ok(said.into_inner().unwrap())
}

/// Runs a program to its end and returns what it wrote; panics unless it succeeds.
pub(crate) fn run(program: &str, arguments: &[&str]) -> String {
    let output =
        std::process::Command::new(kit::find_program(program).unwrap()).args(arguments).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}{}",
        text(&output.stdout),
        text(&output.stderr)
    );
    text(&output.stdout)
}

/// An address of this machine that is not loopback: to be reached by it is to be a stranger. `None` where there is no
/// network at all. (Connecting a datagram socket sends nothing; it only chooses a way.)
pub(crate) fn outer_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|ip| !ip.is_loopback() && !ip.is_unspecified())
}

/// A name, what it needs besides, and the test with that address.
pub(crate) type OuterCase = (&'static str, &'static [kit::Need], fn(IpAddr));

/// The cases that need such an address; without one, they are named and left out.
pub(crate) fn with_outer_address(cases: Vec<OuterCase>) -> Vec<kit::Case> {
    let Some(ip) = outer_address() else {
        cases.iter().for_each(|(name, ..)| println!("skipped {name}: needs an address other than loopback"));
        return Vec::new();
    };
    cases.into_iter().map(|(name, needs, test)| kit::Case::new(name, needs, move || test(ip))).collect()
}
