//! Bytes from one thread to another.

use std::{
    io::{self, BufRead, Read, Write},
    sync::mpsc::{Receiver, SyncSender},
};

/// How much goes over at a time.
const CHUNK: usize = crate::unpack::CHUNK;

/// The reading end. It ends where the writing end is dropped.
pub(crate) struct Pipe {
    from: Receiver<Vec<u8>>,
    chunk: Vec<u8>,
    at: usize,
}

impl Pipe {
    pub(crate) fn new(from: Receiver<Vec<u8>>) -> Pipe {
        Pipe { from, chunk: Vec::new(), at: 0 }
    }
}

impl Read for Pipe {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.fill_buf()?.read(buf)?;
        self.consume(n);
        Ok(n)
    }
}

impl BufRead for Pipe {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.at == self.chunk.len() {
            match self.from.recv() {
                Ok(chunk) => (self.chunk, self.at) = (chunk, 0),
                Err(_) => return Ok(&[]),
            }
        }
        Ok(&self.chunk[self.at..])
    }
    fn consume(&mut self, n: usize) {
        self.at += n;
    }
}

/// Reads to the end; every chunk goes to `also` and then to the other thread. Where that has stopped
/// listening (it failed, and says so itself), reading goes on for `also`'s sake.
pub(crate) fn pump(
    mut from: impl Read,
    mut also: Option<&mut dyn Write>,
    to: SyncSender<Vec<u8>>,
) -> io::Result<()> {
    loop {
        let mut chunk = vec![0; CHUNK];
        let mut filled = 0;
        while filled < CHUNK {
            match from.read(&mut chunk[filled..]) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => (),
                Err(e) => return Err(e),
            }
        }
        if filled == 0 {
            return Ok(());
        }
        chunk.truncate(filled);
        if let Some(also) = &mut also {
            also.write_all(&chunk)?;
        }
        let _ = to.send(chunk);
    }
}
