//! Images that come and go: pull, push, load, save.

use super::{
    answer::{self, Answer},
    call::Call,
    router::routes,
};
use crate::{
    engine::{
        Engine,
        failure::{Failure, Result},
        images, import,
    },
    explain::recorder,
};
use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use http_body_util::BodyExt;
use hyper::body::{Bytes, Incoming};
use registry::{Credentials, Options, Progress, Reference};
use serde::Deserialize;
use serde_json::{Value, json};
use std::{
    io::{BufRead, BufReader, Read, Write},
    os::{fd::OwnedFd, unix::net::UnixStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::sync::mpsc;

routes! {
    POST "/images/create" => pull;
    POST "/images/{*}/push" => push;
    POST "/images/load" => load;
    GET "/images/get" => save;
    GET "/images/{*}/get" => save_one;
}

/// Lines of JSON to a client. That it reads no more is known from `cancel`.
#[derive(Clone)]
pub(crate) struct Lines {
    to: mpsc::Sender<Bytes>,
    cancel: Arc<AtomicBool>,
}

impl Lines {
    /// A line. One that nobody reads cancels what makes it.
    pub(crate) fn say(&self, line: &Value) {
        if self.to.blocking_send(Bytes::from(format!("{line}\r\n"))).is_err() {
            self.cancel.store(true, Ordering::Relaxed);
        }
    }

    /// How docker tells a failure once the answer has begun.
    pub(crate) fn fail(&self, message: &str) {
        self.say(&json!({"errorDetail": {"message": message}, "error": message}));
    }
}

/// Does work in a thread of its own whose lines are the answer; it is cancelled when the client goes away.
fn streaming(work: impl FnOnce(&Lines) -> Result<()> + Send + 'static) -> (Answer, Arc<AtomicBool>) {
    let (to, body) = mpsc::channel(64);
    let cancel = Arc::new(AtomicBool::new(false));
    let lines = Lines { to: to.clone(), cancel: cancel.clone() };
    let watched = cancel.clone();
    let watch = tokio::spawn(async move {
        to.closed().await;
        watched.store(true, Ordering::Relaxed);
    });
    tokio::task::spawn_blocking(move || {
        if let Err(failure) = work(&lines) {
            lines.fail(&failure.message);
        }
        // Its sender would keep the answer open.
        watch.abort();
    });
    (answer::pieces("application/json", body), cancel)
}

async fn pull(call: Call) -> Answer {
    let from = call.get("fromImage").unwrap_or_default();
    if from.is_empty() {
        return import_tarball(call);
    }
    // The tag may come apart from the name, and may be a digest.
    let full = match call.get("tag") {
        None => from.to_owned(),
        Some(tag) if tag.contains(':') => format!("{from}@{tag}"),
        Some(tag) => format!("{from}:{tag}"),
    };
    let reference = Reference::parse(&full).map_err(|e| Failure::bad(e.to_string()))?;
    let credentials = credentials(&call)?;
    let platform = call.get("platform").map(str::to_owned);
    let (engine, explain) = (call.engine.clone(), call.header("X-Teu-Explain") == Some("1"));
    let (cancel_in, cancel_out) = std::sync::mpsc::channel();
    let (answer, cancel) = streaming(move |lines| {
        let cancel = cancel_out.recv().unwrap_or_default();
        let options = Options { credentials, platform, cancel, ..Options::default() };
        explained(explain, lines, || pull_now(&engine, &reference, &options, lines))
    });
    let _ = cancel_in.send(cancel);
    answer
}

/// `POST /images/create?fromSrc=-`: the body is a root filesystem.
fn import_tarball(call: Call) -> Answer {
    if call.get("fromSrc") != Some("-") {
        return Err(Failure::bad(
            "an image is pulled (fromImage) or imported from the request's body (fromSrc=-); fetch what is elsewhere first: \
             curl URL | docker import - NAME",
        ));
    }
    let name = call.get("repo").map(|repository| match call.get("tag") {
        Some(tag) => format!("{repository}:{tag}"),
        None => repository.to_owned(),
    });
    let name = name.map(|n| Reference::parse(&n).map_err(|e| Failure::bad(e.to_string()))).transpose()?;
    let wanted = import::Wanted {
        name,
        message: call.get("message").unwrap_or("Imported from -").to_owned(),
        changes: call.all("changes"),
        platform: call.get("platform").map(str::to_owned),
    };
    let engine = call.engine.clone();
    let upload = Upload::of(call.request.into_body());
    let (answer, _) = streaming(move |lines| {
        lines.say(&json!({"status": import::import(&engine, upload, wanted)?}));
        Ok(())
    });
    answer
}

fn pull_now(engine: &Engine, reference: &Reference, options: &Options, lines: &Lines) -> Result<()> {
    let before = engine.store.find(&reference.to_string())?;
    let shown = reference.familiar();
    let manifest = registry::pull::pull(&engine.store, reference, options, &|p| lines.say(&progress(&p)))?;
    let image = engine.store.image(&manifest)?;
    let news = if before.is_some_and(|b| b.digest() == manifest.digest()) {
        "Image is up to date for"
    } else {
        "Downloaded newer image for"
    };
    lines.say(&json!({"status": format!("Status: {news} {shown}")}));
    images::tell(engine, "pull", image.id().as_ref(), &shown);
    Ok(())
}

/// docker's line for what happens to a blob: its ID is cut to twelve digits.
pub(crate) fn progress(progress: &Progress) -> Value {
    let mut line = json!({"status": progress.status});
    if !progress.id.is_empty() {
        let hex = progress.id.strip_prefix("sha256:").filter(|h| h.len() == 64);
        line["id"] = hex.map_or(progress.id, |h| &h[..12]).into();
        line["progressDetail"] = json!({});
    }
    if let Some((current, total)) = progress.bytes {
        line["progressDetail"] = json!({"current": current, "total": total});
        line["progress"] = bar(current, total).into();
    }
    line
}

/// `[=====>     ]  1.2MB/3MB`, for clients that print the text as it comes.
fn bar(current: u64, total: u64) -> String {
    let done =
        (current.min(total) * 50).checked_div(total).and_then(|n| usize::try_from(n).ok()).unwrap_or(50);
    let arrow =
        if done < 50 { format!("{}>{}", "=".repeat(done), " ".repeat(49 - done)) } else { "=".repeat(50) };
    format!("[{arrow}]  {}/{}", size(current), size(total))
}

fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "kB", "MB"] {
        if value < 1000.0 {
            return if unit == "B" { format!("{value}B") } else { format!("{value:.2}{unit}") };
        }
        value /= 1000.0;
    }
    format!("{value:.2}GB")
}

async fn push(call: Call) -> Answer {
    let name = call.path[0].clone();
    let tag = call.get("tag").map(str::to_owned);
    let credentials = credentials(&call)?;
    let engine = call.engine.clone();
    // Without a tag, all tags of the repository are meant.
    let mut targets = Vec::new();
    let bad = |e: registry::Error| Failure::bad(e.to_string());
    match tag {
        Some(tag) => targets.push(Reference::parse(&format!("{name}:{tag}")).map_err(bad)?),
        None => {
            let wanted = Reference::parse(&name).map_err(bad)?;
            for (stored, _) in engine.store.list()? {
                let Some(Ok(stored)) = stored.map(|s| Reference::parse(&s)) else { continue };
                if stored.registry == wanted.registry && stored.repository == wanted.repository {
                    targets.push(stored);
                }
            }
        }
    }
    if targets.is_empty() {
        return Err(Failure::missing(format!("An image does not exist locally with the tag: {name}")));
    }
    for target in &targets {
        if engine.store.find(&target.to_string())?.is_none() {
            return Err(Failure::missing(format!(
                "An image does not exist locally with the tag: {}",
                target.familiar_name()
            )));
        }
    }
    let (cancel_in, cancel_out) = std::sync::mpsc::channel();
    let (answer, cancel) = streaming(move |lines| {
        let options =
            Options { credentials, cancel: cancel_out.recv().unwrap_or_default(), ..Options::default() };
        for target in &targets {
            let stored = target.to_string();
            let manifest = engine.store.find(&stored)?.ok_or_else(|| Failure::missing(stored))?;
            lines.say(&json!({"status": format!("The push refers to repository [{}/{}]", target.registry, target.repository)}));
            let pushed = registry::push::push(&engine.store, &manifest, target, &options, &|p| {
                lines.say(&progress(&p))
            })?;
            let tag = target.tag.as_deref().unwrap_or("latest");
            lines.say(
                &json!({"status": format!("{tag}: digest: {} size: {}", pushed.digest(), pushed.size())}),
            );
            lines.say(&json!({"progressDetail": {}, "aux": {"Tag": tag, "Digest": pushed.digest().to_string(), "Size": pushed.size()}}));
            images::tell(&engine, "push", manifest.digest().as_ref(), &target.familiar());
        }
        Ok(())
    });
    let _ = cancel_in.send(cancel);
    answer
}

/// `X-Registry-Auth`: base64 of a JSON document, with either alphabet, padded or not.
fn credentials(call: &Call) -> Result<Option<Credentials>> {
    let Some(header) = call.header("X-Registry-Auth").filter(|h| !h.is_empty()) else { return Ok(None) };
    let auth: Option<AuthConfig> = from_base64(header)?;
    Ok(auth.and_then(to_credentials))
}

/// A header that is a JSON document in base64.
pub(crate) fn from_base64<T: serde::de::DeserializeOwned>(header: &str) -> Result<T> {
    let lenient = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let decode = |alphabet| GeneralPurpose::new(alphabet, lenient).decode(header);
    let bytes = decode(&alphabet::URL_SAFE).or_else(|_| decode(&alphabet::STANDARD));
    // What was wrong is not said: it would show a password.
    let bad = || Failure::bad("the credentials in the header are not base64 of a JSON document");
    serde_json::from_slice(&bytes.map_err(|_| bad())?).map_err(|_| bad())
}

/// docker's document of who is asking.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct AuthConfig {
    username: String,
    password: String,
    identitytoken: String,
}

/// `None` for an anonymous one.
pub(crate) fn to_credentials(auth: AuthConfig) -> Option<Credentials> {
    let AuthConfig { username, password, identitytoken } = auth;
    let identity_token = Some(identitytoken).filter(|t| !t.is_empty());
    if username.is_empty() && identity_token.is_none() {
        return None;
    }
    Some(Credentials { username, password, identity_token })
}

/// Runs work whose steps are told among its lines, if that was asked.
fn explained(explain: bool, lines: &Lines, work: impl FnOnce() -> Result<()>) -> Result<()> {
    if !explain {
        return work();
    }
    let (read, write) = UnixStream::pair()?;
    let listener = lines.clone();
    let told = std::thread::spawn(move || {
        for line in BufReader::new(read).lines().map_while(std::result::Result::ok) {
            if let Ok(step) = serde_json::from_str::<Value>(&line) {
                listener.say(&json!({"aux": {"step": step}}));
            }
        }
    });
    let result = tracing::subscriber::with_default(recorder(OwnedFd::from(write)), work);
    let _ = told.join();
    result
}

/// A request's body, read by a thread that waits for it.
pub(crate) struct Upload {
    pieces: mpsc::Receiver<Bytes>,
    piece: Bytes,
}

impl Upload {
    /// Begins to receive it, at the pace at which it is read.
    pub(crate) fn of(mut body: Incoming) -> Upload {
        let (to, pieces) = mpsc::channel(4);
        tokio::spawn(async move {
            while let Some(Ok(frame)) = body.frame().await {
                if let Ok(data) = frame.into_data()
                    && to.send(data).await.is_err()
                {
                    return;
                }
            }
        });
        Upload { pieces, piece: Bytes::new() }
    }

    /// The next piece, for who can wait without a thread.
    pub(crate) async fn next(&mut self) -> Option<Bytes> {
        self.pieces.recv().await
    }
}

impl Read for Upload {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        while self.piece.is_empty() {
            match self.pieces.blocking_recv() {
                None => return Ok(0),
                Some(piece) => self.piece = piece,
            }
        }
        let length = self.piece.len().min(into.len());
        into[..length].copy_from_slice(&self.piece.split_to(length));
        Ok(length)
    }
}

/// An answer's body, written by a thread.
pub(crate) struct Download(pub(crate) mpsc::Sender<Bytes>);

impl Write for Download {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let gone = |_| std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        self.0.blocking_send(Bytes::copy_from_slice(bytes)).map_err(gone)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

async fn load(call: Call) -> Answer {
    let engine = call.engine.clone();
    let upload = Upload::of(call.request.into_body());
    let (answer, _) = streaming(move |lines| {
        for loaded in images::load(&engine, upload)? {
            lines.say(&json!({"stream": format!("{loaded}\n")}));
        }
        Ok(())
    });
    answer
}

async fn save(call: Call) -> Answer {
    let names = call.all("names");
    if names.is_empty() {
        return Err(Failure::bad("no images to save"));
    }
    save_all(call, names)
}

async fn save_one(call: Call) -> Answer {
    let name = call.path[0].clone();
    save_all(call, vec![name])
}

fn save_all(call: Call, names: Vec<String>) -> Answer {
    let engine = call.engine.clone();
    // What is not there is found out while there still is a status to say so.
    for name in &names {
        images::find(&engine, name)?;
    }
    let (to, body) = mpsc::channel(16);
    tokio::task::spawn_blocking(move || {
        let out = std::io::BufWriter::with_capacity(64 << 10, Download(to));
        if let Err(failure) = images::save(&engine, &names, out) {
            eprintln!("saving {}: {}", names.join(", "), failure.message);
        }
    });
    answer::pieces("application/x-tar", body)
}
