//! A server for one reader: on loopback, the files of the built book and nothing else. While it
//! runs, a second thread looks at the files' times, rebuilds on a change, and the page reloads itself.

use crate::make;
use anyhow::{Result, anyhow};
use std::{
    fs,
    path::{Component, Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant, SystemTime},
};
use tiny_http::{Header, Response, Server};

const PORT: u16 = 3131;
const LOOK_EVERY: Duration = Duration::from_millis(250);

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
  }, 400); }
</script>
</body>";

/// What is built: a number that grows, or the error that hindered it. Held while the files change.
struct Built {
    number: u64,
    error: Option<String>,
}

/// Builds, serves, watches; returns only with an error.
pub(crate) fn serve(root: PathBuf, out: PathBuf, port: Option<u16>) -> Result<()> {
    let start = Instant::now();
    let seen = fingerprint(&root);
    make::make(&root, &out)?;
    let server = match port {
        Some(port) => Server::http(("127.0.0.1", port)),
        None => Server::http(("127.0.0.1", PORT)).or_else(|_| Server::http("127.0.0.1:0")),
    };
    let server = server.map_err(|error| anyhow!("cannot listen on a loopback port: {error}"))?;
    let url = format!("http://{}/", server.server_addr());
    println!("The book, built in {:.1} s: {url}  (Ctrl-C ends)", start.elapsed().as_secs_f32());
    open(&url);

    let built = Arc::new(Mutex::new(Built { number: 0, error: None }));
    let watched = (Arc::clone(&built), out.clone());
    thread::spawn(move || watch(&root, &watched.1, &watched.0, seen));
    for request in server.incoming_requests() {
        let (status, kind, body) = answer(request.url(), &out, &lock(&built));
        let mut response = Response::from_data(body).with_status_code(status);
        for (name, value) in [("Content-Type", kind), ("Cache-Control", "no-store")] {
            if let Ok(header) = Header::from_bytes(name, value) {
                response.add_header(header);
            }
        }
        // A browser that has gone away is no concern of the next request.
        let _ = request.respond(response);
    }
    Ok(())
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

fn watch(root: &Path, out: &Path, built: &Mutex<Built>, mut seen: Fingerprint) {
    loop {
        thread::sleep(LOOK_EVERY);
        let now = fingerprint(root);
        if now == seen {
            continue;
        }
        seen = now;
        let mut built = lock(built);
        let start = Instant::now();
        match make::make(root, out) {
            Ok(_) => {
                *built = Built { number: built.number + 1, error: None };
                println!("built again in {:.1} s", start.elapsed().as_secs_f32());
            }
            Err(error) => {
                eprintln!("error: {error:#}");
                built.error = Some(format!("error: {error:#}"));
            }
        }
    }
}

/// How many files there are, and when the last of them changed: enough to notice an edit.
type Fingerprint = (usize, Option<SystemTime>);

fn fingerprint(root: &Path) -> Fingerprint {
    let (mut count, mut newest) = (0, None);
    let mut todo: Vec<PathBuf> = ["book/en", "book/data", "book/theme", "book/book.toml", "chapters", "src"]
        .map(|p| root.join(p))
        .into();
    while let Some(path) = todo.pop() {
        let Ok(meta) = fs::metadata(&path) else { continue };
        if meta.is_dir() {
            todo.extend(fs::read_dir(&path).into_iter().flatten().flatten().map(|entry| entry.path()));
        } else {
            count += 1;
            newest = newest.max(meta.modified().ok());
        }
    }
    (count, newest)
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
