//! A small registry: the OCI distribution API over an OCI image layout.
//!
//! | request | room |
//! |---|---|
//! | `GET`, `HEAD`, `DELETE /v2/<name>/blobs/<digest>` | `blobs` |
//! | `POST`, `PATCH`, `PUT`, `GET`, `DELETE /v2/<name>/blobs/uploads/…` | `uploads` |
//! | `GET`, `HEAD`, `PUT`, `DELETE /v2/<name>/manifests/<reference>` | `manifests` |
//! | `GET /v2/<name>/tags/list`, `GET /v2/_catalog` | `tags` |
//! | `GET /v2/<name>/referrers/<digest>` | `referrers` |
//!
//! The layout's own index.json holds the names, `library/base:latest` for a tag and
//! `library/base@sha256:…` for a manifest that the repository has, tagged or not. There is nothing else:
//! `skopeo` reads what was pushed here, and what `skopeo` has put into a layout can be pulled from here.
//!
//! What production does differently: users and their rights, TLS, storage in a cloud, and a look-up that
//! does not read the whole index. Put a proxy before this one where strangers can reach it.

mod answer;
mod blobs;
mod body;
mod http;
mod manifests;
mod referrers;
mod tags;
mod uploads;

use crate::{Error, Result};
use answer::{Code, refusal};
use http::{Answer, Connection, Request};
use layers::Store;
use std::{
    collections::{BTreeMap, HashSet},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};
use uploads::Uploads;

/// How many clients may be connected at the same time. Each has a thread, so that a slow one keeps only
/// itself waiting.
const CLIENTS: usize = 256;

/// A registry that listens. Dropped, it stops.
pub struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// What the handle and the serving threads both hold.
#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    /// Those connected, in the order in which they came, to hang up on them.
    clients: Mutex<BTreeMap<usize, Client>>,
}

/// One of them.
struct Client {
    socket: TcpStream,
    /// It has asked nothing that is not answered.
    idle: Arc<AtomicBool>,
}

impl Client {
    /// Its thread reads or writes in vain, and ends.
    fn hang_up(&self) {
        let _ = self.socket.shutdown(Shutdown::Both);
    }
}

impl Server {
    /// Begins to serve the layout in `root` at `address` (port 0: any).
    pub fn start(address: SocketAddr, root: &Path) -> Result<Server> {
        let store = Store::open(root)?;
        let failed = |source| Error::Listen { root: root.to_owned(), address, source };
        let listener = TcpListener::bind(address).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let shared = Arc::new(Shared::default());
        let theirs = shared.clone();
        let thread = std::thread::Builder::new()
            .name("registry".into())
            .spawn(move || {
                accept(
                    &listener,
                    &Registry { store: &store, uploads: Uploads::default(), emptied: Mutex::default() },
                    &theirs,
                )
            })
            .map_err(failed)?;
        Ok(Server { address, shared, thread: Some(thread) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until the process ends.
    pub fn wait(mut self) {
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        // The listener sleeps in accept(2) until someone comes.
        let _ = TcpStream::connect(self.address);
        self.shared.clients.lock().unwrap_or_else(PoisonError::into_inner).values().for_each(Client::hang_up);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What is served.
struct Registry<'a> {
    store: &'a Store,
    uploads: Uploads<'a>,
    /// Repositories whose last manifest was deleted: they are known, and have no tags.
    emptied: Mutex<HashSet<String>>,
}

/// Gives each client a thread.
fn accept(listener: &TcpListener, registry: &Registry, shared: &Shared) {
    let clients = || shared.clients.lock().unwrap_or_else(PoisonError::into_inner);
    std::thread::scope(|scope| {
        for (id, socket) in listener.incoming().enumerate() {
            if shared.stop.load(Ordering::SeqCst) {
                return;
            }
            let Ok((socket, ours)) = socket.and_then(|socket| Ok((socket.try_clone()?, socket))) else {
                // No descriptors left: some come back when others are done.
                std::thread::sleep(Duration::from_millis(50));
                continue;
            };
            if clients().len() >= CLIENTS {
                // Room is made by who has been idle longest. If no one is, the new one may come again.
                match clients().values().find(|client| client.idle.load(Ordering::Relaxed)) {
                    Some(client) => client.hang_up(),
                    None => continue,
                }
            }
            let idle = Arc::new(AtomicBool::new(true));
            clients().insert(id, Client { socket, idle: idle.clone() });
            let served = std::thread::Builder::new().spawn_scoped(scope, move || {
                let _ = converse(ours, registry, &idle);
                clients().remove(&id);
            });
            if served.is_err() {
                clients().remove(&id);
            }
            // The server may have been stopped between the check above and the insert.
            if shared.stop.load(Ordering::SeqCst) {
                clients().values().for_each(Client::hang_up);
            }
        }
    });
}

/// Answers one client's requests until it goes.
fn converse(socket: TcpStream, registry: &Registry, idle: &AtomicBool) -> std::io::Result<()> {
    let mut connection = Connection::new(socket)?;
    while let Some(request) = connection.request()? {
        idle.store(false, Ordering::Relaxed);
        match request {
            Ok(request) => {
                let answer = registry.route(&request, &mut connection).unwrap_or_else(|answer| answer);
                tracing::debug!("{} {} {}", request.method, request.path, answer.status);
                let answer = answer.header("docker-distribution-api-version", "registry/2.0");
                connection.answer(answer, request.method == "HEAD")?;
            }
            Err(answer) => connection.answer(answer, false)?,
        }
        idle.store(true, Ordering::Relaxed);
    }
    Ok(())
}

/// Both ways a request can end are answers; `?` passes on the one that refuses.
type Outcome = std::result::Result<Answer, Answer>;

impl Registry<'_> {
    /// Finds the room for a request. Names may hold slashes, so paths are read from their end.
    fn route(&self, request: &Request, body: &mut Connection) -> Outcome {
        let path = request
            .path
            .strip_prefix("/v2")
            .ok_or_else(|| refusal(404, Code::NameUnknown, "the API is at /v2/"))?;
        let parts: Vec<&str> = path.split('/').skip(1).collect();
        let method = request.method.as_str();
        let (name, end): (&[&str], &[&str]) = match parts[..] {
            [] | [""] => return self.version(method),
            ["_catalog"] => return self.catalog(request),
            [ref name @ .., "blobs", "uploads", _] | [ref name @ .., "blobs", "uploads"] => {
                (name, &parts[name.len()..])
            }
            [ref name @ .., "tags" | "blobs" | "manifests" | "referrers", _] => (name, &parts[name.len()..]),
            _ => return Err(refusal(404, Code::NameUnknown, "there is no such thing in this API")),
        };
        let name = name.join("/");
        if !crate::reference::is_repository(&name) {
            return Err(refusal(400, Code::NameInvalid, &format!("invalid repository name: {name}")));
        }
        match (method, end) {
            ("POST", ["blobs", "uploads", ""] | ["blobs", "uploads"]) => self.begin(&name, request, body),
            ("PATCH", ["blobs", "uploads", id]) => self.append(&name, id, request, body),
            ("PUT", ["blobs", "uploads", id]) => self.finish(&name, id, request, body),
            ("GET", ["blobs", "uploads", id]) => self.progress(&name, id),
            ("DELETE", ["blobs", "uploads", id]) => self.cancel(id),
            ("GET" | "HEAD", ["blobs", digest]) => self.blob(digest, request),
            ("DELETE", ["blobs", digest]) => self.delete_blob(digest),
            ("GET" | "HEAD", ["manifests", target]) => self.manifest(&name, target),
            ("PUT", ["manifests", target]) => self.put_manifest(&name, target, request, body),
            ("DELETE", ["manifests", target]) => self.delete_manifest(&name, target),
            ("GET", ["tags", "list"]) => self.tags(&name, request),
            ("GET", ["referrers", digest]) => self.referrers(&name, digest, request),
            _ => Err(refusal(405, Code::Unsupported, "this method is not for that")),
        }
    }

    fn version(&self, method: &str) -> Outcome {
        match method {
            "GET" | "HEAD" => Ok(answer::json(200, &serde_json::json!({}))),
            _ => Err(refusal(405, Code::Unsupported, "this method is not for that")),
        }
    }
}
