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
    collections::{HashMap, HashSet},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
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
    /// The sockets of those connected, to hang up on them at the end.
    clients: Mutex<HashMap<usize, TcpStream>>,
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
        for client in self.shared.clients.lock().unwrap_or_else(PoisonError::into_inner).values() {
            let _ = client.shutdown(Shutdown::Both);
        }
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
    let count = AtomicUsize::new(0);
    let lock = || shared.clients.lock().unwrap_or_else(PoisonError::into_inner);
    std::thread::scope(|scope| {
        for (id, stream) in listener.incoming().enumerate() {
            if shared.stop.load(Ordering::SeqCst) {
                return;
            }
            let stream = match stream {
                Ok(stream) => stream,
                Err(_) => {
                    // No descriptors left: some come back when others are done.
                    std::thread::sleep(std::time::Duration::from_millis(50));
                    continue;
                }
            };
            let Ok(handle) = stream.try_clone() else { continue };
            if count.fetch_add(1, Ordering::Relaxed) >= CLIENTS {
                count.fetch_sub(1, Ordering::Relaxed);
                continue; // Dropped, and so hung up on; it may come again.
            }
            lock().insert(id, handle);
            let count = &count;
            let served = std::thread::Builder::new().spawn_scoped(scope, move || {
                let _ = converse(stream, registry);
                lock().remove(&id);
                count.fetch_sub(1, Ordering::Relaxed);
            });
            if served.is_err() {
                lock().remove(&id);
                count.fetch_sub(1, Ordering::Relaxed);
            }
            // The server may have been stopped between the check above and the insert.
            if shared.stop.load(Ordering::SeqCst) {
                lock().values().for_each(|client| drop(client.shutdown(Shutdown::Both)));
            }
        }
    });
}

/// Answers one client's requests until it goes.
fn converse(stream: TcpStream, registry: &Registry) -> std::io::Result<()> {
    let mut connection = Connection::new(stream)?;
    while let Some(request) = connection.request()? {
        match request {
            Ok(request) => {
                let answer = registry.route(&request, &mut connection).unwrap_or_else(|answer| answer);
                tracing::debug!("{} {} {}", request.method, request.path, answer.status);
                let answer = answer.header("docker-distribution-api-version", "registry/2.0");
                connection.answer(answer, request.method == "HEAD")?;
            }
            Err(answer) => connection.answer(answer, false)?,
        }
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
