//! One request to a registry.
//!
//! Everything a registry does is one of a few HTTP requests below `/v2/<repository>/`. This module sends
//! one: to the right place, with the proof that the registry wants, following it where it sends us (a
//! layer often lies on another server), and again after a while if it is only busy.

use crate::{Error, Options, Reference, Result, auth::Auth, refusal, transport, transport::Transport};
use std::{
    fs::File,
    io::Read,
    time::{Duration, Instant},
};
use ureq::{
    Body, SendBody,
    http::{Method, Request, Response, StatusCode, Uri, request::Builder},
};

/// How many times a layer may be said to lie elsewhere.
const REDIRECTS: u32 = 5;
/// How many times a busy registry is asked again, and how long all of it may take.
const RETRIES: u32 = 4;
const PATIENCE: Duration = Duration::from_secs(60);

/// A registry, and a repository there.
pub struct Client<'a> {
    /// `https://registry-1.docker.io`
    base: String,
    /// The same, so that it can be compared.
    origin: String,
    reference: &'a Reference,
    transport: Transport,
    auth: Auth,
    options: &'a Options,
}

/// What is sent with a request. A body may have to be sent twice, so it is something that can be.
pub(crate) enum Payload<'a> {
    /// Nothing.
    None,
    /// A document.
    Bytes(&'a [u8]),
    /// A blob, its size, and who watches it go.
    Blob(&'a dyn Fn() -> Result<File>, u64, &'a (dyn Fn(u64) + Sync)),
}

impl Payload<'_> {
    /// Whether a busy registry may be sent it again, just so. Of a blob it may have kept a part.
    fn repeats(&self) -> bool {
        !matches!(self, Payload::Blob(..))
    }
}

impl<'a> Client<'a> {
    /// Finds the registry. `actions` are `pull`, or `pull,push`; blobs may also be taken from the
    /// repositories `others`.
    pub fn new(
        reference: &'a Reference,
        options: &'a Options,
        actions: &str,
        others: &[String],
    ) -> Result<Client<'a>> {
        let transport = Transport::new();
        let base = transport.find(&reference.registry, options.insecure)?;
        let bad = |_| Error::Reference(format!("{base:?} is not a URL; check the name of the registry"));
        let origin = transport::origin(&base.parse().map_err(bad)?);
        let mut scopes = vec![format!("repository:{}:{actions}", reference.repository)];
        scopes.extend(others.iter().map(|other| format!("repository:{other}:pull")));
        let auth = Auth::new(options.credentials.clone(), scopes);
        Ok(Client { base, origin, reference, transport, auth, options })
    }

    /// Asks for nothing, to see whether the registry knows us: what `docker login` does.
    pub fn ping(&self) -> Result<()> {
        let url = format!("{}/v2/", self.base);
        let url = url.parse().map_err(|_| Error::Reference(format!("{url:?} is not a URL")))?;
        let response = self.send(&Method::GET, &url, &[], &Payload::None)?;
        if response.status().is_success() {
            Ok(())
        } else {
            Err(refusal::read(response, "log in", &self.base))
        }
    }

    /// The image that all this is about.
    pub fn reference(&self) -> &Reference {
        self.reference
    }

    pub(crate) fn options(&self) -> &Options {
        self.options
    }

    /// The URL of something in the repository: `manifests/latest`.
    pub(crate) fn url(&self, path: &str) -> Result<Uri> {
        let url = format!("{}/v2/{}/{path}", self.base, self.reference.repository);
        url.parse()
            .map_err(|_| Error::Reference(format!("{url:?} is not a URL; check the name of the image")))
    }

    /// Sends a request and returns the answer to it, whatever that is.
    pub(crate) fn send(
        &self,
        method: &Method,
        url: &Uri,
        headers: &[(&str, &str)],
        payload: &Payload,
    ) -> Result<Response<Body>> {
        let mut url = url.clone();
        let mut unproven = true;
        let (mut redirects, mut retries) = (0, 0);
        let begun = Instant::now();
        loop {
            if self.options.cancelled() {
                return Err(Error::Cancelled(self.reference.familiar()));
            }
            // Our proof is for the registry alone. Wherever else we are sent, we come as strangers.
            let ours = transport::origin(&url) == self.origin;
            let proof = self.auth.header().filter(|_| ours);
            let mut request = Request::builder().method(method.clone()).uri(url.clone());
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            if let Some(proof) = &proof {
                request = request.header("authorization", proof);
            }
            let response = self.transmit(request, payload)?;
            match response.status() {
                StatusCode::UNAUTHORIZED if ours && unproven => {
                    self.auth.answer(&self.transport, &self.base, response, proof.as_deref())?;
                    // A token may have run out, which one new token mends. A second refusal is one.
                    unproven = false;
                }
                status if status.is_redirection() && matches!(*method, Method::GET | Method::HEAD) => {
                    redirects += 1;
                    url = self.follow(&url, &response, redirects)?;
                }
                status if is_busy(status) && payload.repeats() && retries < RETRIES => {
                    let pause = pause(&response, retries);
                    if begun.elapsed() + pause > PATIENCE {
                        return Ok(response);
                    }
                    retries += 1;
                    self.wait(pause)?;
                }
                _ => return Ok(response),
            }
        }
    }

    fn transmit(&self, request: Builder, payload: &Payload) -> Result<Response<Body>> {
        match payload {
            Payload::None => self.transport.run(request, SendBody::none()),
            Payload::Bytes(bytes) => {
                let request = request.header("content-length", bytes.len());
                self.transport.run(request, SendBody::from_reader(&mut &**bytes))
            }
            Payload::Blob(open, size, watch) => {
                let request = request.header("content-length", *size);
                let mut body = Watched { file: open()?.take(*size), sent: 0, watch, options: self.options };
                self.transport.run(request, SendBody::from_reader(&mut body))
            }
        }
    }

    /// Where a redirect leads.
    fn follow(&self, from: &Uri, response: &Response<Body>, count: u32) -> Result<Uri> {
        let refuse =
            |why: &str| Error::Untrusted { what: format!("the redirect of {from}"), why: why.to_owned() };
        if count > REDIRECTS {
            return Err(refuse("it goes on and on"));
        }
        let to = location(from, response).ok_or_else(|| refuse("it leads nowhere"))?;
        if from.scheme_str() == Some("https") && to.scheme_str() != Some("https") {
            return Err(refuse("it leads out of TLS"));
        }
        Ok(to)
    }

    /// Sleeps, but wakes when the work is called off.
    pub(crate) fn wait(&self, pause: Duration) -> Result<()> {
        let end = Instant::now() + pause;
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            if self.options.cancelled() {
                return Err(Error::Cancelled(self.reference.familiar()));
            }
            std::thread::sleep(left.min(Duration::from_millis(100)));
        }
        Ok(())
    }

    /// The error of an answer about our image.
    pub(crate) fn refused(&self, response: Response<Body>, doing: &str) -> Error {
        refusal::of_image(response, doing, self.reference)
    }
}

/// The answer's `Location`.
pub(crate) fn location(from: &Uri, response: &Response<Body>) -> Option<Uri> {
    transport::resolve(from, response.headers().get("location")?.to_str().ok()?)
}

/// Answers that another time may be better.
fn is_busy(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 429 | 500 | 502 | 503 | 504)
}

/// As long as the registry asks, or twice as long each time.
fn pause(response: &Response<Body>, retries: u32) -> Duration {
    let asked = response.headers().get("retry-after").and_then(|v| v.to_str().ok()?.trim().parse().ok());
    asked.map_or(Duration::from_millis(250 << retries), Duration::from_secs)
}

/// A file on its way out.
struct Watched<'a> {
    file: std::io::Take<File>,
    sent: u64,
    watch: &'a (dyn Fn(u64) + Sync),
    options: &'a Options,
}

impl Read for Watched<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.options.cancelled() {
            return Err(std::io::Error::other("cancelled"));
        }
        let count = self.file.read(buffer)?;
        self.sent += count as u64;
        (self.watch)(self.sent);
        Ok(count)
    }
}
