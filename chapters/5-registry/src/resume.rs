//! Side room: a download that breaks off goes on where it was (RFC 9110, section 14, Range).

use crate::{
    Error, Result,
    client::{Client, Payload},
};
use oci_spec::image::Descriptor;
use std::{
    io::{self, Read},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};
use ureq::{
    BodyReader,
    http::{Method, Response},
};

/// How often a connection may break without having brought this much.
const RETRIES: u32 = 5;
const PROGRESS: u64 = 1 << 20;
/// How much comes between two words to whoever watches.
const STRIDE: u64 = 256 << 10;

/// A blob on its way in: exactly as many bytes as its descriptor says, from as many connections as it takes.
pub(crate) struct Download<'a> {
    client: &'a Client<'a>,
    blob: &'a Descriptor,
    body: Option<BodyReader<'static>>,
    at: u64,
    /// Where the last trouble was, and how many there were.
    trouble: (u64, u32),
    told: u64,
    watch: &'a dyn Fn(u64),
    stop: &'a AtomicBool,
    /// Why reading failed: an [`io::Error`] could not carry it.
    pub(crate) failure: Option<Error>,
}

impl<'a> Download<'a> {
    pub(crate) fn new(
        client: &'a Client<'a>,
        blob: &'a Descriptor,
        watch: &'a dyn Fn(u64),
        stop: &'a AtomicBool,
    ) -> Download<'a> {
        Download { client, blob, body: None, at: 0, trouble: (0, 0), told: 0, watch, stop, failure: None }
    }

    fn next(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let left = usize::try_from(self.blob.size() - self.at).unwrap_or(usize::MAX);
        loop {
            if self.stop.load(Ordering::Relaxed) || self.client.options().cancelled() {
                return Err(Error::Cancelled(self.client.reference().familiar()));
            }
            let body = match &mut self.body {
                Some(body) => body,
                None => match self.open() {
                    Ok(body) => self.body.insert(body),
                    Err(error @ Error::Unreachable { .. }) => {
                        self.pause(error)?;
                        continue;
                    }
                    Err(error) => return Err(error),
                },
            };
            if left == 0 {
                // One byte more than promised is one too many: who knows how many would follow.
                let more = body.read(&mut [0]).unwrap_or(0);
                return if more == 0 { Ok(0) } else { Err(self.untrusted("it goes on after its end")) };
            }
            let room = buffer.len().min(left);
            let why = match body.read(&mut buffer[..room]) {
                Ok(0) if room > 0 => "the connection ended early".to_owned(),
                Ok(count) => {
                    self.at += count as u64;
                    if self.at - self.told >= STRIDE || self.at == self.blob.size() {
                        self.told = self.at;
                        (self.watch)(self.at);
                    }
                    return Ok(count);
                }
                Err(error) => error.to_string(),
            };
            self.body = None;
            let url = self.client.url(&format!("blobs/{}", self.blob.digest()))?.to_string();
            self.pause(Error::Unreachable { url, why, hint: "; pull again: what is complete is kept" })?;
        }
    }

    /// Waits a little longer each time; gives up with `error` when there is no getting on.
    fn pause(&mut self, error: Error) -> Result<()> {
        if self.at >= self.trouble.0 + PROGRESS {
            self.trouble = (self.at, 0);
        }
        self.trouble.1 += 1;
        if self.trouble.1 > RETRIES {
            return Err(error);
        }
        self.client.wait(Duration::from_millis(100 << self.trouble.1))
    }

    /// Asks for what is missing.
    fn open(&self) -> Result<BodyReader<'static>> {
        let url = self.client.url(&format!("blobs/{}", self.blob.digest()))?;
        let range = format!("bytes={}-", self.at);
        let headers: &[(&str, &str)] = if self.at > 0 { &[("range", &range)] } else { &[] };
        let response = self.client.send(&Method::GET, &url, headers, &Payload::None)?;
        let skip = match response.status().as_u16() {
            206 if self.at > 0 => {
                if starts_at(&response) != Some(self.at) {
                    return Err(self.untrusted("it sent another part than the one asked for"));
                }
                0
            }
            200 => self.at, // It does not know ranges: what we have goes by once more.
            404 => {
                let what = format!(
                    "blob {} of {} not found in the registry",
                    self.blob.digest(),
                    self.client.reference().familiar()
                );
                return Err(Error::NotFound(format!("{what}; its publisher must push it again")));
            }
            _ => return Err(self.client.refused(response, "pull")),
        };
        let size = response.body().content_length();
        if size.is_some_and(|size| size != self.blob.size() - self.at + skip) {
            return Err(self.untrusted("its size is not the one that the manifest says"));
        }
        let mut body = response.into_body().into_reader();
        io::copy(&mut body.by_ref().take(skip), &mut io::sink()).map_err(|e| Error::Unreachable {
            url: url.to_string(),
            why: e.to_string(),
            hint: "",
        })?;
        Ok(body)
    }

    fn untrusted(&self, why: &str) -> Error {
        Error::Untrusted {
            what: format!("blob {} ({} bytes)", self.blob.digest(), self.blob.size()),
            why: why.into(),
        }
    }
}

/// The first byte's place in `Content-Range: bytes 100-199/200`.
fn starts_at(response: &Response<ureq::Body>) -> Option<u64> {
    let range = response.headers().get("content-range")?.to_str().ok()?;
    range.trim().strip_prefix("bytes ")?.split('-').next()?.trim().parse().ok()
}

impl Read for Download<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.failure.is_some() {
            return Err(io::Error::other("the download has failed"));
        }
        self.next(buffer).map_err(|error| {
            let words = error.to_string();
            self.failure = Some(error);
            io::Error::other(words)
        })
    }
}
