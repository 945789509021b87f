//! HTTP as bytes on a wire: a server of the check's own, which writes down what it is asked and answers as it is told to,
//! lies included; and a client that sends exactly what it is given.

use anyhow::{Context, Result};
use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

/// What was asked.
#[derive(Clone, Debug)]
pub struct Request {
    /// `GET`.
    pub method: String,
    /// The path, with the query if there is one.
    pub path: String,
    /// Names in small letters.
    pub headers: Vec<(String, String)>,
    /// What was sent with it.
    pub body: Vec<u8>,
}

impl Request {
    /// All values of a header, joined by commas (RFC 9110, section 5.3).
    pub fn header(&self, name: &str) -> String {
        let values = self.headers.iter().filter(|(n, _)| n == name).map(|(_, v)| v.as_str());
        values.collect::<Vec<_>>().join(",")
    }
}

/// What is answered.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// `200`.
    pub status: u16,
    /// Names as they are written.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// One with a body.
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Answer {
        Answer { status, headers: Vec::new(), body: body.into() }
    }

    /// With a header more.
    pub fn header(mut self, name: &str, value: impl ToString) -> Answer {
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }

    /// A header's value.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }
}

/// A server on a loopback port, until it is dropped.
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    asked: Arc<Mutex<Vec<Request>>>,
    over: Arc<AtomicBool>,
}

impl Server {
    /// Starts it. `answer` is called for each request, from several threads.
    pub fn start(answer: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Result<Server> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).context("listen on a loopback port")?;
        let address = listener.local_addr()?;
        let (asked, over) = (Arc::<Mutex<Vec<Request>>>::default(), Arc::<AtomicBool>::default());
        let (asked_too, over_too, answer) = (asked.clone(), over.clone(), Arc::new(answer));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if over_too.load(Ordering::Relaxed) {
                    return;
                }
                let (asked, answer) = (asked_too.clone(), answer.clone());
                thread::spawn(move || {
                    // A client that hangs up, or says what is no HTTP, has asked nothing.
                    let _ = serve(stream, &asked, &*answer);
                });
            }
        });
        Ok(Server { address, asked, over })
    }

    /// What it was asked so far.
    pub fn asked(&self) -> Vec<Request> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        // Wakes the thread that waits for a connection.
        let _ = TcpStream::connect(self.address);
    }
}

fn serve(stream: TcpStream, asked: &Mutex<Vec<Request>>, answer: &dyn Fn(&Request) -> Answer) -> Result<()> {
    stream.set_read_timeout(Some(crate::run::limit(Duration::from_secs(10))))?;
    let mut from = BufReader::new(&stream);
    let request = read(&mut from)?;
    asked.lock().unwrap_or_else(PoisonError::into_inner).push(request.clone());
    let answer = answer(&request);
    let mut head = format!("HTTP/1.1 {} -\r\nconnection: close\r\n", answer.status);
    if answer.get("content-length").is_none() {
        head += &format!("content-length: {}\r\n", answer.body.len());
    }
    for (name, value) in &answer.headers {
        head += &format!("{name}: {value}\r\n");
    }
    let body: &[u8] = if request.method == "HEAD" { b"" } else { &answer.body };
    Ok((&stream).write_all(&[head.as_bytes(), b"\r\n", body].concat())?)
}

/// Reads a request: its head, and as much of a body as it announces.
pub fn read(from: &mut impl BufRead) -> Result<Request> {
    let (first, headers) = head(from)?;
    let mut words = first.split(' ').map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().context("no request line")?);
    let mut request = Request { method, path, headers, body: Vec::new() };
    let length: u64 = request.header("content-length").parse().unwrap_or(0);
    from.take(length.min(64 << 20)).read_to_end(&mut request.body)?;
    Ok(request)
}

/// The first line of a head, and its headers.
fn head(from: &mut impl BufRead) -> Result<(String, Vec<(String, String)>)> {
    let mut line = || -> Result<String> {
        let mut line = String::new();
        from.take(64 << 10).read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    };
    let first = line()?;
    let mut headers = Vec::new();
    loop {
        let line = line()?;
        let Some((name, value)) = line.split_once(':') else { return Ok((first, headers)) };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
}

/// Asks a server.
pub fn ask(
    to: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Result<Answer> {
    let stream = TcpStream::connect(to).with_context(|| format!("connect to {to}"))?;
    stream.set_read_timeout(Some(crate::run::limit(Duration::from_secs(5))))?;
    let mut head = format!("{method} {path} HTTP/1.1\r\nhost: {to}\r\nconnection: close\r\n");
    head += &format!("content-length: {}\r\n", body.len());
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    (&stream).write_all(&[head.as_bytes(), b"\r\n", body].concat())?;
    let mut from = BufReader::new(&stream);
    let (first, headers) = self::head(&mut from)?;
    let status = first.split(' ').nth(1).and_then(|s| s.parse().ok());
    let mut answer = Answer { status: status.context("the answer is no HTTP")?, headers, body: Vec::new() };
    if method != "HEAD" {
        let length = answer.get("content-length").and_then(|l| l.parse().ok()).unwrap_or(64 << 20);
        from.take(length).read_to_end(&mut answer.body)?;
    }
    Ok(answer)
}

/// The loopback port on which a process listens, from the kernel's table and the process's open sockets.
pub fn listening(pid: i32) -> Option<SocketAddr> {
    let own: Vec<String> = fs::read_dir(format!("/proc/{pid}/fd"))
        .ok()?
        .flatten()
        .filter_map(|fd| fs::read_link(fd.path()).ok()?.to_str()?.strip_prefix("socket:[").map(str::to_owned))
        .collect();
    let table = fs::read_to_string(format!("/proc/{pid}/net/tcp")).ok()?;
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let inode = format!("{}]", fields.get(9)?);
        // 0A: TCP_LISTEN.
        let port =
            (*fields.get(3)? == "0A" && own.contains(&inode)).then(|| fields[1].split(':').nth(1))??;
        Some(([127, 0, 0, 1], u16::from_str_radix(port, 16).ok()?).into())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_is_written_down_and_answered() {
        let server = Server::start(|r| Answer::new(200 + r.body.len() as u16, "yes").header("x-is", &r.path));
        let server = server.expect("a server");
        let answer = ask(server.address, "PUT", "/a?b=c", &[("X-Y", "z")], b"four").expect("an answer");
        assert_eq!(
            (answer.status, answer.body.as_slice(), answer.get("X-Is")),
            (204, &b"yes"[..], Some("/a?b=c"))
        );
        let asked = server.asked();
        assert_eq!((asked[0].method.as_str(), asked[0].header("x-y")), ("PUT", "z".to_owned()));
        assert_eq!(listening(std::process::id() as i32), Some(server.address));
    }
}
