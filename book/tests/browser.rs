//! Every page in a real browser: a headless Chromium, driven through a pair of pipes by its DevTools protocol.
//!
//! At the width of a phone and of a desk, in light and in dark: no error on the console, nothing wider than
//! the screen, every text readable against what is behind it (WCAG AA), every link reached by the keyboard. And the search finds.

use kit::{Case, Need};
use serde_json::{Value, json};
use std::{
    collections::VecDeque,
    fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

/// What a reader may look for, and a page that has to be among the first answers.
const TERMS: [(&str, &str); 20] = [
    ("whiteout", "5.1-layers"),
    ("pivot_root", "7.1-namespaces"),
    ("digest", "4-docker"),
    ("manifest", "6.3-pull"),
    ("overlay", "5.1-layers"),
    ("seccomp", "7.1-namespaces"),
    ("cgroup", "7.2-control-groups"),
    ("OOM", "7.2-control-groups"),
    ("entrypoint", "6.2-run"),
    ("cache", "6.1-build"),
    ("context", "6.1-build"),
    ("hijacked", "6-client-and-daemon"),
    ("registry", "6.3-pull"),
    ("setns", "7.1-namespaces"),
    ("uid_map", "7.1-namespaces"),
    ("hypervisor", "3-container"),
    ("interpreter", "1-origins"),
    ("containerd", "beyond"),
    ("pasta", "set-up"),
    ("ENOENT", "1-origins"),
];

fn main() {
    let needs = [Need::Program("chromium")];
    kit::run(vec![
        Case::new("every_page_on_a_phone_in_light", &needs, || look(360, "light")),
        Case::new("every_page_on_a_phone_in_dark", &needs, || look(360, "dark")),
        Case::new("every_page_on_a_desk_in_light", &needs, || look(1280, "light")),
        Case::new("every_page_on_a_desk_in_dark", &needs, || look(1280, "dark")),
        Case::new("the_keyboard_is_enough", &needs, keyboard),
        Case::new("the_search_finds_twenty_terms", &needs, search),
    ]);
}

/// The book, built for this test.
struct Book(tempfile::TempDir);

impl Book {
    fn build() -> Book {
        let dir = tempfile::tempdir().expect("a directory");
        let built = Command::new(env!("CARGO_BIN_EXE_book")).args(["build", "--to"]).arg(dir.path()).output();
        let built = built.expect("the book's program");
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        Book(dir)
    }

    fn url(&self, page: &str) -> String {
        format!("file://{}/{page}.html", self.0.path().display())
    }

    fn pages(&self) -> Vec<String> {
        let own = |path: &Path| path.extension().is_some_and(|e| e == "html");
        let entries = fs::read_dir(self.0.path()).expect("the book").flatten().map(|entry| entry.path());
        let mut pages: Vec<String> = entries
            .filter(|path| own(path))
            .filter_map(|path| path.file_stem().map(|stem| stem.to_string_lossy().into_owned()))
            .filter(|name| !["toc", "404", "print"].contains(&name.as_str()))
            .collect();
        pages.sort();
        pages
    }
}

fn look(width: u32, scheme: &str) {
    let book = Book::build();
    let mut browser = Browser::start();
    browser.call(
        "Emulation.setDeviceMetricsOverride",
        json!({"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}),
    );
    browser.call(
        "Emulation.setEmulatedMedia",
        json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]}),
    );
    let pictures = std::env::var_os("BOOK_PICTURES").map(PathBuf::from);
    let mut wrong = Vec::new();
    for page in book.pages() {
        browser.open(&book.url(&page));
        let found = browser.run(include_str!("page.js"));
        let found = found.as_array().cloned().unwrap_or_default();
        wrong.extend(found.iter().map(|what| format!("{page}: {}", what.as_str().unwrap_or("?"))));
        wrong.extend(browser.errors.drain(..).map(|error| format!("{page}: on the console: {error}")));
        if let Some(dir) = &pictures {
            browser.picture(&dir.join(format!("{page}-{width}-{scheme}.png")));
        }
    }
    assert!(wrong.is_empty(), "{} things at {width} pixels in {scheme}:\n{}", wrong.len(), wrong.join("\n"));
}

/// The tab key goes through the page and shows where it is; the arrows turn the pages.
fn keyboard() {
    let book = Book::build();
    let mut browser = Browser::start();
    let targets = "[...document.querySelectorAll('main :is(a[href], summary, button)')].filter(e => e.checkVisibility())";
    for page in ["index", "5.1-layers"] {
        browser.open(&book.url(page));
        browser.run("addEventListener('focusin', e => e.target.dataset.reached = 1)");
        let count = browser.run(&format!("{targets}.length")).as_u64().expect("a number");
        // The buttons of the menu bar, and what scrolls, are reached as well.
        for _ in 0..count * 2 + 40 {
            browser.press("Tab", 9);
            let hidden = browser.run(
                "(() => { const e = document.activeElement, s = getComputedStyle(e);
                   const shown = e === document.body || s.outlineStyle !== 'none' || s.boxShadow !== 'none';
                   return shown ? null : e.outerHTML.slice(0, 90); })()",
            );
            assert!(hidden.is_null(), "{page}: the focus cannot be seen on {hidden}");
        }
        let missed = browser
            .run(&format!("{targets}.filter(e => !e.dataset.reached).map(e => e.outerHTML.slice(0, 90))"));
        assert!(count > 5 && missed == json!([]), "{page}: the tab key does not reach {missed}");
    }
    browser.open(&book.url("index"));
    browser.press("ArrowRight", 39);
    let next = browser.wait_for("!location.pathname.endsWith('index.html') && location.pathname");
    assert!(next.as_str().is_some_and(|path| path.ends_with("set-up.html")), "the arrow led to {next}");
}

fn search() {
    let book = Book::build();
    let mut browser = Browser::start();
    let mut wrong = Vec::new();
    for (term, page) in TERMS {
        browser.open(&format!("{}?search={term}", book.url("index")));
        let found = browser.wait_for(
            "(() => { const r = [...document.querySelectorAll('#mdbook-searchresults a, #searchresults a')].map(a => a.pathname.split('/').pop());
               return r.length ? r : null; })()",
        );
        let pages: Vec<&str> = found.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        if !pages.contains(&format!("{page}.html").as_str()) {
            wrong.push(format!("{term}: {page} is not among {pages:?}"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// A browser with one tab.
struct Browser {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    session: Option<String>,
    last: u64,
    events: VecDeque<Value>,
    errors: Vec<String>,
    _home: tempfile::TempDir,
}

impl Browser {
    fn start() -> Browser {
        let home = tempfile::tempdir().expect("a directory");
        // It speaks on descriptors 3 and 4. The pages are ours, so it needs no sandbox, which root could not have.
        let mut child = Command::new("sh")
            .args(["-c", r#"exec "$@" 3<&0 4>&1 0</dev/null 1>/dev/null 2>&1"#, "sh", "chromium"])
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--hide-scrollbars",
            ])
            .arg(format!("--user-data-dir={}", home.path().display()))
            .args(["--remote-debugging-pipe", "--allow-file-access-from-files", "about:blank"])
            // What it keeps elsewhere would stay: it is killed in the end.
            .env("TMPDIR", home.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a browser");
        let input = child.stdin.take().expect("a pipe");
        let output = BufReader::new(child.stdout.take().expect("a pipe"));
        let (events, errors) = (VecDeque::new(), Vec::new());
        let mut browser =
            Browser { child, input, output, session: None, last: 0, events, errors, _home: home };
        let target = browser.call("Target.createTarget", json!({"url": "about:blank"}));
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let session = browser.call("Target.attachToTarget", attach);
        browser.session = session["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page.enable", "Runtime.enable", "Log.enable"] {
            browser.call(domain, json!({}));
        }
        browser
    }

    /// Sends a message and returns the answer; events that come before it are kept.
    fn call(&mut self, method: &str, params: Value) -> Value {
        self.last += 1;
        let mut message = json!({"id": self.last, "method": method, "params": params});
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        self.input.write_all(format!("{message}\0").as_bytes()).expect("the browser listens");
        loop {
            let mut answer = self.next();
            if answer["id"] == self.last {
                assert!(answer["error"].is_null(), "{method}: {}", answer["error"]);
                return answer["result"].take();
            }
            self.events.push_back(answer);
        }
    }

    fn next(&mut self) -> Value {
        let mut message = Vec::new();
        self.output.read_until(0, &mut message).expect("the browser speaks");
        assert_eq!(message.pop(), Some(0), "the browser has ended");
        let message: Value = serde_json::from_slice(&message).expect("JSON");
        match message["method"].as_str() {
            Some("Runtime.exceptionThrown") => self.errors.push(message["params"].to_string()),
            Some("Log.entryAdded") if message["params"]["entry"]["level"] == "error" => {
                self.errors.push(message["params"]["entry"].to_string());
            }
            Some("Runtime.consoleAPICalled") if message["params"]["type"] == "error" => {
                self.errors.push(message["params"]["args"].to_string());
            }
            _ => {}
        }
        message
    }

    fn open(&mut self, url: &str) {
        self.events.clear();
        self.call("Page.navigate", json!({"url": url}));
        let loaded = |event: &Value| event["method"] == "Page.loadEventFired";
        if !self.events.iter().any(loaded) {
            while !loaded(&self.next()) {}
        }
    }

    fn run(&mut self, script: &str) -> Value {
        let asked = json!({"expression": script, "returnByValue": true, "awaitPromise": true});
        let mut answer = self.call("Runtime.evaluate", asked);
        assert!(answer["exceptionDetails"].is_null(), "{}", answer["exceptionDetails"]);
        answer["result"]["value"].take()
    }

    /// Asks again and again until the answer is something: pages load their parts when they like.
    fn wait_for(&mut self, script: &str) -> Value {
        let each = "await new Promise(r => setTimeout(r, 50))";
        self.run(&format!(
            "(async () => {{ for (let i = 0; i < 200; i++) {{ const v = {script}; if (v) return v; {each}; }} return null; }})()"
        ))
    }

    fn press(&mut self, key: &str, code: u32) {
        for kind in ["rawKeyDown", "keyUp"] {
            let event = json!({"type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code});
            self.call("Input.dispatchKeyEvent", event);
        }
    }

    fn picture(&mut self, path: &Path) {
        let size = self.run("[document.documentElement.clientWidth, document.documentElement.scrollHeight]");
        let clip = json!({"x": 0, "y": 0, "width": size[0], "height": size[1], "scale": 1});
        let shot = self.call("Page.captureScreenshot", json!({"clip": clip, "captureBeyondViewport": true}));
        let encoded = path.with_extension("b64");
        fs::write(&encoded, shot["data"].as_str().expect("a picture")).expect("a file");
        let decode = Command::new("sh")
            .args(["-c", "base64 -d \"$1\" > \"$2\"", "sh"])
            .arg(&encoded)
            .arg(path)
            .status();
        assert!(decode.expect("base64 runs").success());
        fs::remove_file(encoded).expect("it was there");
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
