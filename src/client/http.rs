//! HTTP over the daemon's socket: requests, answers, errors, and the upgrade to a raw connection.
//!
//! Every command is a few requests of the Docker Engine API. Three kinds of answer matter: a JSON
//! document, a stream of lines, and `101 UPGRADED`, after which the connection is no longer HTTP but
//! the container's stdin, stdout and stderr.

use super::connect::Host;
use anyhow::{Context, Result, anyhow, bail};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    client::conn::http1::{self, SendRequest},
    header,
};
use hyper_util::rt::TokioIo;
use serde::{Serialize, de::DeserializeOwned};
use std::{
    cell::{Cell, RefCell},
    io,
    os::unix::net::UnixStream as StdStream,
};
use tokio::net::UnixStream;

/// The version that we speak; an older daemon says which one it has, and then that is used.
const API_VERSION: (u32, u32) = (1, 44);
/// No document of the API is longer (an event, an inspection, a list).
const DOCUMENT_LIMIT: usize = 256 << 20;

/// The body of a request: nothing, a document, or a stream.
pub(crate) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// The daemon's refusal.
#[derive(Debug, thiserror::Error)]
#[error("Error response from daemon: {message}")]
pub(crate) struct Refusal {
    /// The HTTP status.
    pub(crate) status: StatusCode,
    /// The daemon's words.
    pub(crate) message: String,
}

/// The refusal in an error, if it is one.
pub(crate) fn refusal(error: &anyhow::Error) -> Option<&Refusal> {
    error.downcast_ref()
}

/// A client of one daemon.
pub(crate) struct Client {
    host: Host,
    version: Cell<(u32, u32)>,
    /// A connection that has answered, kept for the next request.
    idle: RefCell<Option<SendRequest<Body>>>,
}

/// A request that is being put together.
pub(crate) struct Call<'a> {
    client: &'a Client,
    method: Method,
    path: String,
    headers: Vec<(&'static str, String)>,
    body: Option<(&'static str, Bytes)>,
}

impl Client {
    /// A client of the daemon at `host`. Nothing is sent yet.
    pub(crate) fn new(host: Host) -> Client {
        Client { host, version: Cell::new(API_VERSION), idle: RefCell::new(None) }
    }

    /// Where the daemon is.
    pub(crate) fn host(&self) -> &Host {
        &self.host
    }

    /// The version that is spoken, `1.44`.
    pub(crate) fn version(&self) -> String {
        let (major, minor) = self.version.get();
        format!("{major}.{minor}")
    }

    /// Begins `GET path`.
    pub(crate) fn get(&self, path: impl Into<String>) -> Call<'_> {
        self.call(Method::GET, path)
    }

    /// Begins `POST path`.
    pub(crate) fn post(&self, path: impl Into<String>) -> Call<'_> {
        self.call(Method::POST, path)
    }

    /// Begins `DELETE path`.
    pub(crate) fn delete(&self, path: impl Into<String>) -> Call<'_> {
        self.call(Method::DELETE, path)
    }

    /// Begins a request of any method.
    pub(crate) fn call(&self, method: Method, path: impl Into<String>) -> Call<'_> {
        Call { client: self, method, path: path.into(), headers: Vec::new(), body: None }
    }

    /// Asks which version the daemon has, before a request whose body can be sent only once.
    pub(crate) async fn negotiate(&self) -> Result<()> {
        let answer = self.call(Method::HEAD, "/_ping").unversioned().await?;
        let offered = answer.headers().get("api-version").and_then(|v| v.to_str().ok());
        if let Some(version) = offered.and_then(parse_version) {
            self.version.set(version.min(API_VERSION));
        }
        Ok(())
    }

    /// Sends one request and reads the head of its answer.
    async fn send(&self, request: Request<Body>) -> Result<(Response<Incoming>, SendRequest<Body>)> {
        let mut kept = self.idle.borrow_mut().take();
        // The daemon may have closed it since.
        if let Some(sender) = &mut kept
            && sender.ready().await.is_err()
        {
            kept = None;
        }
        let mut sender = match kept {
            Some(sender) => sender,
            None => self.connect().await?,
        };
        let answer = sender.send_request(request).await.context("the daemon closed the connection")?;
        Ok((answer, sender))
    }

    async fn connect(&self) -> Result<SendRequest<Body>> {
        let stream = self.host.connect().await?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // The task ends with the connection; its error is the request's error too.
        tokio::spawn(async move {
            let _ = connection.with_upgrades().await;
        });
        Ok(sender)
    }

    /// Sends a request whose body is a stream. Call [`Client::negotiate`] first.
    pub(crate) async fn stream_to(
        &self,
        method: Method,
        path: &str,
        headers: &[(&'static str, String)],
        body: Body,
    ) -> Result<Response<Incoming>> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("/v{}{path}", self.version()))
            .header(header::HOST, "teu")
            .header(header::CONTENT_TYPE, "application/x-tar");
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        // A daemon may refuse and close before it has read the whole body.
        let (answer, _) = self.send(request.body(body)?).await?;
        accepted(answer).await
    }
}

impl Call<'_> {
    /// Gives it a header.
    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Gives it a JSON document as its body.
    pub(crate) fn body(mut self, document: &impl Serialize) -> Result<Self> {
        self.body = Some(("application/json", serde_json::to_vec(document)?.into()));
        Ok(self)
    }

    /// Gives it a tar as its body.
    pub(crate) fn tar(mut self, bytes: Vec<u8>) -> Self {
        self.body = Some(("application/x-tar", bytes.into()));
        self
    }

    /// Sends it; the answer is a JSON document.
    pub(crate) async fn json<T: DeserializeOwned>(self) -> Result<T> {
        let path = self.path.clone();
        let bytes = self.bytes().await?;
        serde_json::from_slice(&bytes)
            .with_context(|| format!("the daemon's answer to {path} is not what the API says"))
    }

    /// Sends it; the answer is of no interest.
    pub(crate) async fn done(self) -> Result<()> {
        self.bytes().await.map(drop)
    }

    /// Sends it and reads the whole answer.
    pub(crate) async fn bytes(self) -> Result<Bytes> {
        let client = self.client;
        let (answer, sender) = self.send(false).await?;
        let bytes = accepted_bytes(answer).await?;
        *client.idle.borrow_mut() = Some(sender);
        Ok(bytes)
    }

    /// Sends it; the answer's body is read by the caller, as it comes.
    pub(crate) async fn stream(self) -> Result<Response<Incoming>> {
        accepted(self.send(false).await?.0).await
    }

    /// Sends it; the connection becomes a raw one.
    pub(crate) async fn upgrade(self) -> Result<Hijacked> {
        let answer = accepted(self.send(true).await?.0).await?;
        let upgraded =
            hyper::upgrade::on(answer).await.context("the daemon did not give the connection over")?;
        let parts =
            upgraded.downcast::<TokioIo<UnixStream>>().map_err(|_| anyhow!("not a connection of ours"))?;
        let socket = parts.io.into_inner().into_std()?;
        socket.set_nonblocking(false)?;
        Ok(Hijacked { socket, early: parts.read_buf })
    }

    async fn unversioned(self) -> Result<Response<Incoming>> {
        let uri = self.path.clone();
        accepted(self.client.send(self.request(&uri, false)?).await?.0).await
    }

    async fn send(self, upgrade: bool) -> Result<(Response<Incoming>, SendRequest<Body>)> {
        let uri = |client: &Client| format!("/v{}{}", client.version(), self.path);
        let (answer, sender) = self.client.send(self.request(&uri(self.client), upgrade)?).await?;
        if answer.status() != StatusCode::BAD_REQUEST {
            return Ok((answer, sender));
        }
        // No question is asked beforehand: an older daemon says so here, and is asked again in its own version.
        let refused = refused(answer).await;
        let Some(version) = too_new(&refused.message) else { return Err(refused.into()) };
        self.client.version.set(version);
        self.client.send(self.request(&uri(self.client), upgrade)?).await
    }

    fn request(&self, uri: &str, upgrade: bool) -> Result<Request<Body>> {
        let mut request = Request::builder().method(&self.method).uri(uri).header(header::HOST, "teu");
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        if upgrade {
            request = request.header(header::CONNECTION, "Upgrade").header(header::UPGRADE, "tcp");
        }
        let (kind, bytes) = self.body.clone().unwrap_or_default();
        if !kind.is_empty() {
            request = request.header(header::CONTENT_TYPE, kind);
        }
        let body = Full::new(bytes).map_err(|never| match never {});
        Ok(request.body(body.boxed_unsync())?)
    }
}

/// A connection that is no longer HTTP.
pub(crate) struct Hijacked {
    /// The socket, blocking: plain threads copy to and from it.
    pub(crate) socket: StdStream,
    /// What came with the answer's head.
    pub(crate) early: Bytes,
}

async fn accepted(answer: Response<Incoming>) -> Result<Response<Incoming>> {
    if answer.status().is_client_error() || answer.status().is_server_error() {
        return Err(refused(answer).await.into());
    }
    Ok(answer)
}

async fn accepted_bytes(answer: Response<Incoming>) -> Result<Bytes> {
    let body = accepted(answer).await?.into_body();
    match http_body_util::Limited::new(body, DOCUMENT_LIMIT).collect().await {
        Ok(whole) => Ok(whole.to_bytes()),
        Err(why) => bail!("the daemon's answer broke off: {why}"),
    }
}

async fn refused(answer: Response<Incoming>) -> Refusal {
    #[derive(serde::Deserialize)]
    struct Message {
        message: String,
    }
    let status = answer.status();
    let bytes = match http_body_util::Limited::new(answer.into_body(), DOCUMENT_LIMIT).collect().await {
        Ok(whole) => whole.to_bytes(),
        Err(_) => Bytes::new(),
    };
    let message = match serde_json::from_slice::<Message>(&bytes) {
        Ok(document) => document.message.trim_end().to_owned(),
        Err(_) if bytes.is_empty() => status.to_string(),
        Err(_) => String::from_utf8_lossy(&bytes).trim_end().to_owned(),
    };
    Refusal { status, message }
}

/// `client version 1.44 is too new. Maximum supported API version is 1.41`: 1.41.
fn too_new(message: &str) -> Option<(u32, u32)> {
    message.contains("is too new").then(|| message.rsplit(' ').next().and_then(parse_version))?
}

fn parse_version(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.trim().trim_end_matches('.').split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// Puts the query of a URL together.
#[derive(Debug, Default)]
pub(crate) struct Query(String);

impl Query {
    /// `?name=value`, if there is a value.
    pub(crate) fn add(mut self, name: &str, value: impl AsRef<str>) -> Query {
        self.0.push(if self.0.is_empty() { '?' } else { '&' });
        self.0.push_str(name);
        self.0.push('=');
        self.0.push_str(&escape(value.as_ref()));
        self
    }

    /// `name=1`, if so.
    pub(crate) fn flag(self, name: &str, on: bool) -> Query {
        if on { self.add(name, "1") } else { self }
    }

    /// `name=value`, if there is one.
    pub(crate) fn maybe(self, name: &str, value: Option<impl AsRef<str>>) -> Query {
        match value {
            Some(value) => self.add(name, value),
            None => self,
        }
    }

    /// `filters={"name":["value"]}` from `name=value` as a user types it.
    pub(crate) fn filters(self, typed: &[String]) -> Result<Query> {
        if typed.is_empty() {
            return Ok(self);
        }
        let mut filters = std::collections::BTreeMap::<String, Vec<String>>::new();
        for filter in typed {
            let (name, value) = filter
                .split_once('=')
                .ok_or_else(|| anyhow!("invalid filter '{filter}': write it as name=value"))?;
            filters.entry(name.trim().to_lowercase()).or_default().push(value.trim().to_owned());
        }
        Ok(self.add("filters", serde_json::to_string(&filters)?))
    }
}

impl std::fmt::Display for Query {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Escapes what is not unreserved in a URL (RFC 3986).
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for &byte in text.as_bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_daemon_says_which_version_it_has() {
        let message = "client version 1.44 is too new. Maximum supported API version is 1.41";
        assert_eq!(too_new(message), Some((1, 41)));
        assert_eq!(too_new("no such container: x"), None);
    }

    #[test]
    fn what_a_user_types_cannot_leave_its_place_in_the_url() {
        let query = Query::default().add("name", "a&b=c/../é").flag("all", true).flag("size", false);
        assert_eq!(query.to_string(), "?name=a%26b%3Dc%2F..%2F%C3%A9&all=1");
    }

    #[test]
    fn filters_of_one_name_are_a_list() {
        let typed = ["status=exited".to_owned(), "status=created".into(), "name=web".into()];
        let query = Query::default().filters(&typed).unwrap().to_string();
        assert_eq!(
            query,
            format!("?filters={}", escape(r#"{"name":["web"],"status":["exited","created"]}"#))
        );
    }
}
