//! Side room: the body of a request (RFC 9112, sections 6 and 7), read as it comes.

use super::http::{Connection, DRAIN, HEADERS};
use std::{
    io::{self, Read, Write},
    time::{Duration, Instant},
};

/// Reads of less go through the buffer.
const SMALL: usize = 4096;
/// In so long, at least so much must come.
const PACE_TIME: Duration = Duration::from_secs(60);
const PACE_BYTES: usize = 16 << 10;

/// What is left of a request's body.
#[derive(Clone, Copy)]
pub(super) enum Body {
    Sized(u64),
    /// Left of the chunk; the next chunk's size comes when it is 0.
    Chunked {
        left: u64,
        first: bool,
    },
}

impl Connection {
    /// Reads away what is left of the last body; fails if that is too much.
    pub(super) fn drain(&mut self) -> io::Result<()> {
        if self.hesitant {
            // It was never told to send the body, and may send the next request instead, or the body.
            self.close = !matches!(self.body, Body::Sized(0));
        }
        if self.close {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        let drained = io::copy(&mut (&mut *self).take(DRAIN + 1), &mut io::sink())?;
        if drained > DRAIN { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(()) }
    }

    /// Bytes of the body, from the buffer first.
    fn some(&mut self, out: &mut [u8], left: u64) -> io::Result<usize> {
        if self.hesitant {
            self.hesitant = false;
            self.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let room = out.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        if self.at == self.buffer.len() && room < SMALL {
            // Not one system call for each byte of a line.
            self.buffer.resize(SMALL, 0);
            let count = self.stream.read(&mut self.buffer)?;
            self.buffer.truncate(count);
            self.at = 0;
        }
        let waiting = &self.buffer[self.at..];
        let count = if waiting.is_empty() && room >= SMALL {
            self.stream.read(&mut out[..room])?
        } else {
            let count = room.min(waiting.len());
            out[..count].copy_from_slice(&waiting[..count]);
            self.at += count;
            count
        };
        self.keep_pace(count)?;
        if count == 0 && room > 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the client stopped in the middle of its data",
            ));
        }
        Ok(count)
    }

    /// Slow is allowed, a trickle that holds a thread for ever is not.
    fn keep_pace(&mut self, count: usize) -> io::Result<()> {
        let (since, bytes) = &mut self.pace;
        *bytes += count;
        let elapsed = since.elapsed();
        if elapsed < PACE_TIME {
            return Ok(());
        }
        if *bytes < PACE_BYTES {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "the client sends too slowly"));
        }
        self.pace = (Instant::now(), 0);
        Ok(())
    }

    /// A line of the chunked coding, without its end.
    fn line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        while line.len() < 256 {
            let mut byte = [0];
            self.some(&mut byte, 1)?;
            if byte[0] == b'\n' {
                if line.pop() != Some(b'\r') {
                    break;
                }
                return String::from_utf8(line).map_err(|_| io::ErrorKind::InvalidData.into());
            }
            line.push(byte[0]);
        }
        Err(io::Error::new(io::ErrorKind::InvalidData, "a chunk does not begin as one"))
    }
}

/// The body of the request that was read last.
impl Read for Connection {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() {
            return Ok(0);
        }
        match self.body {
            Body::Sized(0) => Ok(0),
            Body::Sized(left) => {
                let count = self.some(out, left)?;
                self.body = Body::Sized(left - count as u64);
                Ok(count)
            }
            Body::Chunked { left: 0, first } => {
                if !first && !self.line()?.is_empty() {
                    return Err(io::ErrorKind::InvalidData.into());
                }
                let line = self.line()?;
                let size = line.split(';').next().unwrap_or("").trim();
                let digits =
                    !size.is_empty() && size.len() <= 15 && size.bytes().all(|b| b.is_ascii_hexdigit());
                let left = if digits { u64::from_str_radix(size, 16).ok() } else { None };
                let left = left.ok_or_else(|| {
                    io::Error::new(io::ErrorKind::InvalidData, "a chunk's size is no number")
                })?;
                if left == 0 {
                    for _ in 0..HEADERS {
                        if self.line()?.is_empty() {
                            self.body = Body::Sized(0);
                            return Ok(0);
                        }
                    }
                    return Err(io::ErrorKind::InvalidData.into());
                }
                self.body = Body::Chunked { left, first: false };
                self.read(out)
            }
            Body::Chunked { left, first } => {
                let count = self.some(out, left)?;
                self.body = Body::Chunked { left: left - count as u64, first };
                Ok(count)
            }
        }
    }
}
