//! A server for one reader: on loopback, the files of the built book and nothing else. The kernel tells of each edit, what it
//! has changed is built again, and the page reloads itself.

use crate::again::{self, Again};
use anyhow::{Context, Result, anyhow};
use notify::{Event, EventKind, RecursiveMode, Watcher};
use std::{
    collections::BTreeSet,
    fs,
    path::{Component, Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc},
    thread,
    time::{Duration, Instant},
};
use tiny_http::{Header, Response, Server};

const PORT: u16 = 3131;
/// An editor writes a file in several steps: what comes within this time of the last is one edit.
const SETTLED: Duration = Duration::from_millis(30);
/// So long nothing is edited before the search's index is made.
const PAUSE: Duration = Duration::from_secs(2);

/// Added to each page: ask what is built now, reload when it is another; a build that failed says why.
const RELOAD: &str = "<script>
{ let first;
  setInterval(async () => {
    const now = await fetch('/.built').then(r => r.text()).catch(() => first);
    first ??= now;
    if (now === first) return;
    if (!now.startsWith('error')) return location.reload();
    let box = document.getElementById('build-error') ?? document.createElement('pre');
    box.id = 'build-error';
    box.textContent = now;
    document.body.prepend(box);
  }, 150); }
</script>
</body>";

/// What is built: a number that grows, or the error that hindered it.
#[derive(Default)]
struct Built {
    number: u64,
    error: Option<String>,
}

/// Builds, serves, watches; returns only with an error.
pub(crate) fn serve(root: &Path, out: &Path, port: Option<u16>) -> Result<()> {
    let start = Instant::now();
    let server = match port {
        Some(port) => Server::http(("127.0.0.1", port)),
        None => Server::http(("127.0.0.1", PORT)).or_else(|_| Server::http("127.0.0.1:0")),
    };
    let server = server.map_err(|error| anyhow!("cannot listen on a loopback port: {error}"))?;
    // From before the first build on: an edit during it is not missed.
    let (_watcher, edits) = edits(root)?;
    let mut book = Again::first(root, out)?;
    let url = format!("http://{}/", server.server_addr());
    println!("The book, built in {:.1} s: {url}  (Ctrl-C ends)", start.elapsed().as_secs_f32());
    open(&url);

    let built = Arc::new(Mutex::new(Built::default()));
    let (shared, files) = (Arc::clone(&built), out.to_owned());
    thread::spawn(move || answer_all(&server, &files, &shared));
    let (edited, later) = mpsc::channel();
    let (index_root, index_out) = (root.to_owned(), out.to_owned());
    thread::spawn(move || index(&later, &index_root, &index_out));
    while let Ok(file) = edits.recv() {
        let mut files = BTreeSet::from([file]);
        while let Ok(file) = edits.recv_timeout(SETTLED) {
            files.insert(file);
        }
        let start = Instant::now();
        let now = book.edited(&files);
        let mut built = lock(&built);
        match now {
            Ok(0) if built.error.is_none() => {}
            Ok(pages) => {
                *built = Built { number: built.number + 1, error: None };
                println!("{pages} pages built again in {:.2} s", start.elapsed().as_secs_f32());
                let _ = edited.send(()); // that thread ends only with this one
            }
            Err(error) => {
                eprintln!("error: {error:#}");
                built.error = Some(format!("error: {error:#}"));
            }
        }
    }
    Err(anyhow!("nobody tells of edits any more"))
}

/// The files that are edited, as inotify(7) tells of them.
fn edits(root: &Path) -> Result<(impl Watcher, mpsc::Receiver<PathBuf>)> {
    let (tell, edits) = mpsc::channel();
    let everything = root.join("book/book.toml");
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
        // An error means that something was missed, and then anything may have changed.
        let paths = match event {
            Ok(event) if matches!(event.kind, EventKind::Access(_)) => Vec::new(),
            Ok(event) => event.paths,
            Err(_) => vec![everything.clone()],
        };
        for path in paths {
            let _ = tell.send(path); // nobody listens any more: this program is ending
        }
    })
    .context("watch files (inotify(7))")?;
    for part in ["book/en", "book/data", "book/theme", "book/book.toml", "book/src", "chapters", "src"] {
        let path = root.join(part);
        watcher
            .watch(&path, RecursiveMode::Recursive)
            .with_context(|| format!("watch {}", path.display()))?;
    }
    Ok((watcher, edits))
}

/// Makes the index of the search anew when the writer pauses.
fn index(edits: &mpsc::Receiver<()>, root: &Path, out: &Path) {
    while edits.recv().is_ok() {
        while edits.recv_timeout(PAUSE).is_ok() {}
        if let Err(error) = again::index(root, out) {
            eprintln!("the search still knows the old text: {error:#}");
        }
    }
}

fn answer_all(server: &Server, out: &Path, built: &Mutex<Built>) {
    for request in server.incoming_requests() {
        let (status, kind, body) = answer(request.url(), out, &lock(built));
        let mut response = Response::from_data(body).with_status_code(status);
        for (name, value) in [("Content-Type", kind), ("Cache-Control", "no-store")] {
            if let Ok(header) = Header::from_bytes(name, value) {
                response.add_header(header);
            }
        }
        // A browser that has gone away is no concern of the next request.
        let _ = request.respond(response);
    }
}

fn lock(built: &Mutex<Built>) -> MutexGuard<'_, Built> {
    built.lock().unwrap_or_else(PoisonError::into_inner)
}

fn answer(url: &str, out: &Path, built: &Built) -> (u16, &'static str, Vec<u8>) {
    let path = url.split(['?', '#']).next().unwrap_or_default().trim_start_matches('/');
    if path == ".built" {
        let now = built.error.clone().unwrap_or_else(|| built.number.to_string());
        return (200, "text/plain; charset=utf-8", now.into_bytes());
    }
    let path = Path::new(if path.is_empty() { "index.html" } else { path });
    let inside = path.components().all(|part| matches!(part, Component::Normal(_)));
    let Some(body) = inside.then(|| fs::read(out.join(path)).ok()).flatten() else {
        return (404, "text/plain", b"There is no such page. The first one is /\n".to_vec());
    };
    match path.extension().and_then(|e| e.to_str()).unwrap_or_default() {
        "html" => {
            let page = String::from_utf8_lossy(&body).replacen("</body>", RELOAD, 1);
            (200, "text/html; charset=utf-8", page.into_bytes())
        }
        "css" => (200, "text/css", body),
        "js" => (200, "text/javascript", body),
        "json" => (200, "application/json", body),
        "svg" => (200, "image/svg+xml", body),
        "png" => (200, "image/png", body),
        "woff2" => (200, "font/woff2", body),
        _ => (200, "text/plain; charset=utf-8", body),
    }
}

/// Opens a browser where there is a display to open it on.
fn open(url: &str) {
    let display = ["DISPLAY", "WAYLAND_DISPLAY"].iter().any(|name| std::env::var_os(name).is_some());
    if display {
        let null = || (Stdio::null(), Stdio::null());
        let (out, err) = null();
        let _ = Command::new("xdg-open").arg(url).stdout(out).stderr(err).spawn();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::{Read, Write},
        net::TcpStream,
    };

    /// What a browser gets, asked again until it is what it should be: how long that takes is not what is tested.
    fn wait_for(port: u16, url: &str, enough: impl Fn(&str) -> bool) -> String {
        let start = Instant::now();
        loop {
            let mut answer = String::new();
            if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) {
                write!(stream, "GET {url} HTTP/1.0\r\n\r\n").unwrap();
                let _ = stream.read_to_string(&mut answer);
            }
            if enough(&answer) {
                return answer;
            }
            assert!(start.elapsed() < Duration::from_secs(300), "{url} still is {answer:.600}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    #[test]
    fn an_edit_is_served() {
        let dir = tempfile::tempdir().unwrap();
        let (root, workspace) = (dir.path(), crate::make::workspace());
        fs::create_dir(root.join("book")).unwrap();
        for part in ["chapters", "src", "book/src", "book/en", "book/data", "book/theme", "book/book.toml"] {
            let copied =
                Command::new("cp").arg("-r").arg(workspace.join(part)).arg(root.join(part)).status().unwrap();
            assert!(copied.success());
        }
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (root_of_it, out) = (root.to_owned(), root.join("out"));
        // It serves until this program ends.
        thread::spawn(move || serve(&root_of_it, &out, Some(port)));
        let change = |file: &str, from: &str, to: &str| {
            let text = fs::read_to_string(root.join(file)).unwrap();
            assert!(text.contains(from), "{file} has no {from}");
            fs::write(root.join(file), text.replacen(from, to, 1)).unwrap();
        };
        wait_for(port, "/.built", |answer| answer.ends_with("\r\n\r\n0"));

        // The text of a page.
        change("book/en/8-summary.md", "# What you have built", "# What you have built\n\nA zebra.\n");
        let page = wait_for(port, "/8-summary.html", |page| page.contains("A zebra."));
        assert!(page.contains("class=\"nav-chapters previous\"") && page.contains("location.reload()"));
        // The code that a page shows, and its own page.
        change("chapters/1-namespaces/src/rootfs.rs", "fn cut_off(", "fn cut_off_(");
        let error = wait_for(port, "/.built", |answer| answer.contains("cut_off"));
        assert!(error.contains("error: the book cannot be woven"), "{error}");
        change("chapters/1-namespaces/src/rootfs.rs", "fn cut_off_(", "fn cut_off(");
        change("chapters/1-namespaces/src/rootfs.rs", "/// Cuts our", "/// An okapi.\n/// Cuts our");
        wait_for(port, "/7.1-namespaces.html", |page| page.contains("An okapi."));
        wait_for(port, "/source/chapters/1-namespaces/src/rootfs.rs.html", |page| page.contains("An okapi."));
        // The table of contents is on every page.
        change("book/en/SUMMARY.md", "[Set up]", "[Get ready, giraffe]");
        wait_for(port, "/toc.html", |page| page.contains("giraffe"));
        // The search learns of it too.
        wait_for(port, "/searchindex.js", |index| index.contains("zebra"));
    }

    #[test]
    fn nothing_outside_the_book_is_served() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("out")).unwrap();
        fs::write(dir.path().join("secret"), "s").unwrap();
        fs::write(dir.path().join("out/index.html"), "<body>hello</body>").unwrap();
        let built = Built { number: 7, error: None };
        let get = |url| answer(url, &dir.path().join("out"), &built);
        for url in ["/../secret", "/x/../../secret", "//etc/passwd", "/./../secret", "/nothing"] {
            assert_eq!(get(url).0, 404, "{url}");
        }
        let (status, kind, body) = get("/?x#y");
        assert_eq!((status, kind), (200, "text/html; charset=utf-8"));
        assert!(String::from_utf8(body).unwrap().contains("location.reload()"));
        assert_eq!(get("/.built").2, b"7");
    }
}
