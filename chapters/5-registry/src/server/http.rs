//! Side room: HTTP/1.1 for one connection (RFC 9112), as much of it as a registry needs.
//!
//! The reason to have it here: a stranger must not be able to make us keep a header line of any length, nor
//! to keep a thread by saying nothing, and a layer should go from the file to the socket without a detour
//! (`std::io::copy` uses sendfile(2) for that).

use super::body::Body;
use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
    net::{Shutdown, TcpStream},
    time::{Duration, Instant},
};

/// The head of a request fits in this, or is refused.
const HEAD: usize = 32 << 10;
pub(super) const HEADERS: usize = 64;
/// How long one may take to say what is wanted, and how long each pause in a body may be.
const HEAD_TIME: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_secs(60);
/// A body that no one wants is read up to here, so that the connection can be used again.
pub(super) const DRAIN: u64 = 1 << 20;

/// A connection, and what has been read from it beyond the last request.
pub(super) struct Connection {
    pub(super) stream: TcpStream,
    pub(super) buffer: Vec<u8>,
    /// `buffer[at..]` is not used yet.
    pub(super) at: usize,
    pub(super) body: Body,
    /// The client waits for `100 Continue` before it sends the body.
    pub(super) hesitant: bool,
    /// Since when the body is watched, and how much of it has come since.
    pub(super) pace: (Instant, usize),
    /// Nothing more can be read after this.
    pub(super) close: bool,
}

/// The head of a request.
pub(super) struct Request {
    pub(super) method: String,
    /// Without the query; not decoded, since no name that we allow needs it.
    pub(super) path: String,
    pub(super) query: Vec<(String, String)>,
    headers: Vec<(String, String)>,
    /// The body's size if it is known.
    pub(super) length: Option<u64>,
}

impl Request {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub(super) fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

/// An answer.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) content: Content,
}

/// What an answer carries.
pub(super) enum Content {
    Bytes(Vec<u8>),
    /// From a byte on, so many.
    File(File, u64, u64),
}

impl Answer {
    pub(super) fn new(status: u16) -> Answer {
        Answer { status, headers: Vec::new(), content: Content::Bytes(Vec::new()) }
    }

    pub(super) fn header(mut self, name: &'static str, value: impl ToString) -> Answer {
        self.headers.push((name, value.to_string()));
        self
    }

    pub(super) fn content(mut self, content: Content) -> Answer {
        self.content = content;
        self
    }
}

impl Connection {
    pub(super) fn new(stream: TcpStream) -> io::Result<Connection> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PAUSE))?;
        stream.set_write_timeout(Some(PAUSE))?;
        Ok(Connection {
            stream,
            buffer: Vec::new(),
            at: 0,
            body: Body::Sized(0),
            hesitant: false,
            pace: (Instant::now(), 0),
            close: false,
        })
    }

    /// The next request; `None` when the client has gone or has nothing more to ask. An answer instead of
    /// a request is one to send before hanging up.
    pub(super) fn request(&mut self) -> io::Result<Option<Result<Request, Answer>>> {
        if self.close || self.drain().is_err() {
            return Ok(None);
        }
        self.buffer.drain(..self.at);
        self.at = 0;
        let begun = Instant::now();
        loop {
            let mut headers = [httparse::EMPTY_HEADER; HEADERS];
            let mut head = httparse::Request::new(&mut headers);
            match head.parse(&self.buffer) {
                Ok(httparse::Status::Complete(length)) => {
                    let request = self.understand(&mut head_of(&head));
                    self.at = length;
                    self.pace = (Instant::now(), 0);
                    self.close |= request.is_err();
                    return Ok(Some(request));
                }
                Err(_) => return Ok(Some(Err(self.refuse(400)))),
                Ok(httparse::Status::Partial) if self.buffer.len() >= HEAD => {
                    return Ok(Some(Err(self.refuse(431))));
                }
                Ok(httparse::Status::Partial) if begun.elapsed() > HEAD_TIME => {
                    return Ok(Some(Err(self.refuse(408))));
                }
                Ok(httparse::Status::Partial) => {}
            }
            let mut block = [0; 4096];
            match self.stream.read(&mut block) {
                Ok(0) => return Ok(None),
                Ok(count) => self.buffer.extend_from_slice(&block[..count]),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }

    fn refuse(&mut self, status: u16) -> Answer {
        self.close = true;
        Answer::new(status)
    }

    /// How the body comes, and whether the connection is kept.
    fn understand(&mut self, head: &mut Head) -> Result<Request, Answer> {
        let (path, query) = head.target.split_once('?').unwrap_or((&head.target, ""));
        let mut request = Request {
            method: std::mem::take(&mut head.method),
            path: path.to_owned(),
            query: query.split('&').filter(|pair| !pair.is_empty()).filter_map(pair).collect(),
            headers: std::mem::take(&mut head.headers),
            length: None,
        };
        let all = |name: &str| {
            let values = request.headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name));
            values.map(|(_, value)| value.trim().to_ascii_lowercase()).collect::<Vec<_>>()
        };
        let (length, encoding) = (all("content-length"), all("transfer-encoding"));
        // Two opinions on where a body ends are how one request is smuggled inside another.
        self.body = match (&length[..], &encoding[..]) {
            ([], []) => Body::Sized(0),
            ([length], []) if length.bytes().all(|b| b.is_ascii_digit()) => {
                Body::Sized(length.parse().map_err(|_| self.refuse(400))?)
            }
            ([], [chunked]) if chunked == "chunked" && head.minor == 1 => {
                Body::Chunked { left: 0, first: true }
            }
            ([], [_]) => return Err(self.refuse(501)),
            _ => return Err(self.refuse(400)),
        };
        let connection = all("connection").join(",");
        self.close = connection.contains("close") || (head.minor == 0 && !connection.contains("keep-alive"));
        self.hesitant = all("expect").contains(&"100-continue".to_owned());
        if let Body::Sized(length) = self.body {
            request.length = Some(length);
        }
        Ok(request)
    }

    /// Sends an answer. `head` leaves its content out, as HEAD asks.
    pub(super) fn answer(&mut self, answer: Answer, head: bool) -> io::Result<()> {
        let length = match &answer.content {
            Content::Bytes(bytes) => bytes.len() as u64,
            Content::File(_, _, length) => *length,
        };
        // A client that is still sending a large body may as well stop.
        let unread = match self.body {
            Body::Sized(left) => left > DRAIN || (left > 0 && self.hesitant),
            Body::Chunked { .. } => self.hesitant,
        };
        self.close |= unread;
        let mut text = format!("HTTP/1.1 {} {}\r\n", answer.status, reason(answer.status));
        for (name, value) in &answer.headers {
            // A line break in a value would begin a header of its own.
            text += &format!("{name}: {}\r\n", value.replace(['\r', '\n'], " "));
        }
        if answer.status != 204 {
            text += &format!("content-length: {length}\r\n");
        }
        text += if self.close { "connection: close\r\n\r\n" } else { "\r\n" };
        let mut message = text.into_bytes();
        match answer.content {
            _ if head => self.stream.write_all(&message)?,
            Content::Bytes(bytes) => {
                message.extend(bytes);
                self.stream.write_all(&message)?;
            }
            Content::File(mut file, from, length) => {
                self.stream.write_all(&message)?;
                file.seek(SeekFrom::Start(from))?;
                let sent = io::copy(&mut file.take(length), &mut self.stream)?;
                if sent < length {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
        }
        if self.close {
            // Said, and then a moment to read it: data unread on our side would cut it off (a TCP reset).
            let _ = self.stream.shutdown(Shutdown::Write);
            let _ = self.stream.set_read_timeout(Some(Duration::from_millis(500)));
            let _ = io::copy(&mut Read::by_ref(&mut self.stream).take(DRAIN), &mut io::sink());
        }
        Ok(())
    }
}

/// A head that borrows nothing.
struct Head {
    method: String,
    target: String,
    minor: u8,
    headers: Vec<(String, String)>,
}

fn head_of(head: &httparse::Request) -> Head {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Head {
        method: head.method.unwrap_or_default().to_owned(),
        target: head.path.unwrap_or_default().to_owned(),
        minor: head.version.unwrap_or(0),
        headers: head.headers.iter().map(|h| (h.name.to_owned(), text(h.value))).collect(),
    }
}

/// `digest=sha256%3Aabc`; a pair that does not decode is left out.
fn pair(text: &str) -> Option<(String, String)> {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    Some((decode(name)?, decode(value)?))
}

fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(b) = rest.next() {
        match b {
            b'%' => {
                let hex = [rest.next()?, rest.next()?];
                bytes.push(
                    u8::from_str_radix(std::str::from_utf8(&hex).ok().filter(|h| !h.starts_with('+'))?, 16)
                        .ok()?,
                );
            }
            b'+' => bytes.push(b' '),
            b => bytes.push(b),
        }
    }
    String::from_utf8(bytes).ok()
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        206 => "Partial Content",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        413 => "Content Too Large",
        416 => "Range Not Satisfiable",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        _ => "Error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// What the server's side understands of `sent`: method, path and body of each request, or a status.
    fn understood(sent: &'static [u8]) -> Vec<String> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let client = std::thread::spawn(move || {
            let mut stream = TcpStream::connect(address).unwrap();
            let _ = stream.write_all(sent);
            let _ = stream.shutdown(Shutdown::Write);
            let mut answers = Vec::new();
            let _ = stream.read_to_end(&mut answers);
        });
        let mut connection = Connection::new(listener.accept().unwrap().0).unwrap();
        let mut seen = Vec::new();
        while let Ok(Some(request)) = connection.request() {
            match request {
                Ok(request) => {
                    let mut body = String::new();
                    let read = connection.read_to_string(&mut body);
                    seen.push(format!(
                        "{} {} {}",
                        request.method,
                        request.path,
                        read.map_or("broken".into(), |_| body)
                    ));
                    connection.answer(Answer::new(200), false).unwrap();
                }
                Err(answer) => {
                    seen.push(answer.status.to_string());
                    connection.answer(answer, false).unwrap();
                }
            }
        }
        drop(connection);
        client.join().unwrap();
        seen
    }

    #[test]
    fn requests_follow_one_another() {
        assert_eq!(
            understood(
                b"PUT /a HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcGET /b?x HTTP/1.1\r\n\r\n\
                  PUT /c HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nab\r\n1\r\nc\r\n0\r\nTrailer: x\r\n\r\nGET /d HTTP/1.0\r\n\r\nGET /e HTTP/1.1\r\n\r\n"
            ),
            ["PUT /a abc", "GET /b ", "PUT /c abc", "GET /d "]
        );
    }

    #[test]
    fn a_body_has_one_end_only() {
        let smuggled = b"PUT /a HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /b HTTP/1.1\r\n\r\n";
        assert_eq!(understood(smuggled), ["400"]);
        assert_eq!(
            understood(b"PUT /a HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd"),
            ["400"]
        );
        assert_eq!(understood(b"PUT /a HTTP/1.1\r\nContent-Length: +3\r\n\r\nabc"), ["400"]);
        assert_eq!(understood(b"PUT /a HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\nabc"), ["501"]);
        assert_eq!(
            understood(b"PUT /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\nabc"),
            ["PUT /a broken"]
        );
        assert_eq!(understood(b"PUT /a HTTP/1.1\r\nContent-Length: 9\r\n\r\nabc"), ["PUT /a broken"]);
    }

    #[test]
    fn a_head_without_end_is_refused() {
        static LONG: std::sync::LazyLock<Vec<u8>> =
            std::sync::LazyLock::new(|| [b"GET /a HTTP/1.1\r\nX: ".to_vec(), vec![b'x'; 1 << 20]].concat());
        assert_eq!(understood(&LONG), ["431"]);
        assert_eq!(understood(b"\x16\x03\x01\x02\x00"), ["400"]);
    }

    #[test]
    fn queries_are_decoded() {
        assert_eq!(pair("digest=sha256%3Aab"), Some(("digest".into(), "sha256:ab".into())));
        assert_eq!(pair("a=%zz"), None);
        assert_eq!(pair("a=%+1"), None);
        assert_eq!(pair("n"), Some(("n".into(), String::new())));
    }
}
