//! docker's json-file log: one JSON object a line, `{"log":"hello\n","stream":"stdout","time":"…"}`. The monitor
//! writes it, the daemon reads it; between them is only the file, so that either may be restarted.

use super::failure::{Failure, Result};
use serde::{Deserialize, Serialize};
use std::{
    collections::HashMap,
    fs::{File, OpenOptions},
    io::{BufRead, BufReader, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

/// A longer line is written in parts, as docker does: no container makes the reader hold more than this.
const PART: usize = 16 << 10;

/// One line, or a part of one (then without `\n`).
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// The text.
    pub(crate) log: String,
    /// `stdout` or `stderr`.
    pub(crate) stream: String,
    /// When it was read.
    pub(crate) time: String,
}

/// `--log-opt max-size=10m --log-opt max-file=3`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rotation {
    max_size: Option<u64>,
    max_file: usize,
}

impl Rotation {
    /// Reads the options.
    pub(crate) fn from(options: &HashMap<String, String>) -> Result<Rotation> {
        let bad = |name: &str| Failure::bad(format!("invalid value for log option {name}"));
        let max_size = match options.get("max-size").map(String::as_str) {
            None | Some("" | "-1") => None,
            Some(text) => {
                let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
                let unit = match text[digits.len()..].to_ascii_lowercase().as_str() {
                    "" | "b" => 1,
                    "k" | "kb" => 1 << 10,
                    "m" | "mb" => 1 << 20,
                    "g" | "gb" => 1 << 30,
                    _ => return Err(bad("max-size")),
                };
                Some(digits.parse::<u64>().map_err(|_| bad("max-size"))?.saturating_mul(unit))
            }
        };
        let max_file = options.get("max-file").map_or(Ok(1), |n| n.parse()).map_err(|_| bad("max-file"))?;
        if max_file == 0 || max_file > 1000 {
            return Err(bad("max-file"));
        }
        Ok(Rotation { max_size, max_file })
    }
}

/// The writing side.
pub(crate) struct Writer {
    path: PathBuf,
    file: File,
    written: u64,
    rotation: Rotation,
    /// What has come of an unfinished line, for each stream.
    partial: [Vec<u8>; 2],
    buffer: Vec<u8>,
}

impl Writer {
    /// Appends to the log at `path`.
    pub(crate) fn open(path: &Path, rotation: Rotation) -> std::io::Result<Writer> {
        use std::os::unix::fs::OpenOptionsExt;
        let file = OpenOptions::new().create(true).append(true).mode(0o640).open(path)?;
        let written = file.metadata()?.len();
        Ok(Writer {
            path: path.to_owned(),
            file,
            written,
            rotation,
            partial: [Vec::new(), Vec::new()],
            buffer: Vec::new(),
        })
    }

    /// Takes what was read from a stream (1 or 2). Whole lines go to the file in one write(2).
    pub(crate) fn write(&mut self, stream: u8, bytes: &[u8]) -> std::io::Result<()> {
        let index = usize::from(stream == 2);
        let time = super::now();
        for piece in bytes.split_inclusive(|b| *b == b'\n') {
            self.partial[index].extend_from_slice(piece);
            while self.partial[index].len() >= PART || self.partial[index].ends_with(b"\n") {
                let cut = self.partial[index].len().min(PART);
                let rest = self.partial[index].split_off(cut);
                let part = std::mem::replace(&mut self.partial[index], rest);
                self.entry(stream, &part, &time);
            }
        }
        self.flush()
    }

    /// Writes what is left of unfinished lines: the streams have ended.
    pub(crate) fn finish(&mut self) -> std::io::Result<()> {
        let time = super::now();
        for stream in [1, 2] {
            let part = std::mem::take(&mut self.partial[usize::from(stream == 2)]);
            if !part.is_empty() {
                self.entry(stream, &part, &time);
            }
        }
        self.flush()
    }

    fn entry(&mut self, stream: u8, text: &[u8], time: &str) {
        let entry = Entry {
            log: String::from_utf8_lossy(text).into_owned(),
            stream: if stream == 2 { "stderr" } else { "stdout" }.into(),
            time: time.into(),
        };
        // Into a Vec, and of three strings: there is nothing that could fail.
        if serde_json::to_writer(&mut self.buffer, &entry).is_ok() {
            self.buffer.push(b'\n');
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        if self
            .rotation
            .max_size
            .is_some_and(|max| self.written + self.buffer.len() as u64 > max && self.written > 0)
        {
            self.rotate()?;
        }
        let buffer = std::mem::take(&mut self.buffer);
        self.file.write_all(&buffer)?;
        self.written += buffer.len() as u64;
        Ok(())
    }

    fn rotate(&mut self) -> std::io::Result<()> {
        let numbered = |n: usize| PathBuf::from(format!("{}.{n}", self.path.display()));
        if self.rotation.max_file == 1 {
            self.file.set_len(0)?;
        } else {
            for n in (1..self.rotation.max_file - 1).rev() {
                let _ = std::fs::rename(numbered(n), numbered(n + 1));
            }
            std::fs::rename(&self.path, numbered(1))?;
            self.file = OpenOptions::new().create(true).append(true).open(&self.path)?;
        }
        self.written = 0;
        Ok(())
    }
}

/// The reading side: entries in order, over the rotated files and then the current one.
pub(crate) struct Reader {
    path: PathBuf,
    older: Vec<PathBuf>,
    file: Option<BufReader<File>>,
    line: Vec<u8>,
}

impl Reader {
    /// Reads the log at `path` from its oldest line.
    pub(crate) fn open(path: &Path) -> Reader {
        // Popped from the end: the oldest last.
        let older = (1..1000)
            .map(|n| PathBuf::from(format!("{}.{n}", path.display())))
            .take_while(|p| p.exists())
            .collect();
        Reader { path: path.to_owned(), older, file: None, line: Vec::new() }
    }

    /// The next entry; `None` when there is no more for now. Asked again later, it goes on where it was.
    pub(crate) fn next(&mut self) -> std::io::Result<Option<Entry>> {
        loop {
            let Some(file) = &mut self.file else {
                let path = self.older.pop().unwrap_or_else(|| self.path.clone());
                match File::open(&path) {
                    Ok(file) => self.file = Some(BufReader::new(file)),
                    Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
                    Err(e) => return Err(e),
                }
                continue;
            };
            file.read_until(b'\n', &mut self.line)?;
            if self.line.ends_with(b"\n") {
                let entry = serde_json::from_slice(&self.line).ok();
                self.line.clear();
                // A line that is not ours (a disk's fault) is passed over: the others are still worth reading.
                match entry {
                    Some(entry) => return Ok(Some(entry)),
                    None => continue,
                }
            }
            // The end, or the middle of a line that is being written. Was the file rotated away under us?
            let moved = {
                use std::os::unix::fs::MetadataExt;
                let now = std::fs::metadata(&self.path).ok();
                let here = file.get_ref().metadata()?;
                let position = file.stream_position()?;
                if here.len() < position {
                    file.seek(SeekFrom::Start(0))?;
                    self.line.clear();
                    continue;
                }
                now.is_some_and(|n| n.ino() != here.ino())
            };
            if !moved {
                return Ok(None);
            }
            self.file = None;
            self.line.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(rotation: Rotation, pieces: &[(u8, &[u8])]) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("log");
        let mut writer = Writer::open(&path, rotation).expect("opens");
        for (stream, bytes) in pieces {
            writer.write(*stream, bytes).expect("writes");
        }
        writer.finish().expect("writes");
        (dir, path)
    }

    fn read(path: &Path) -> Vec<(String, String)> {
        let mut reader = Reader::open(path);
        std::iter::from_fn(|| reader.next().expect("reads")).map(|e| (e.stream, e.log)).collect()
    }

    #[test]
    fn lines_are_kept_whole_and_the_last_without_its_end() {
        let (_dir, path) = written(
            Rotation { max_size: None, max_file: 1 },
            &[(1, b"one\ntw"), (2, b"err\n"), (1, b"o\nthree")],
        );
        let expected = [("stdout", "one\n"), ("stderr", "err\n"), ("stdout", "two\n"), ("stdout", "three")];
        assert_eq!(read(&path), expected.map(|(a, b)| (a.to_owned(), b.to_owned())));
    }

    #[test]
    fn a_long_line_comes_in_parts() {
        let long = vec![b'x'; PART * 2 + 5];
        let (_dir, path) = written(Rotation { max_size: None, max_file: 1 }, &[(1, &long), (1, b"\n")]);
        let lengths: Vec<_> = read(&path).iter().map(|(_, l)| l.len()).collect();
        assert_eq!(lengths, [PART, PART, 6]);
    }

    #[test]
    fn rotation_keeps_the_newest_in_order() {
        let lines: Vec<Vec<u8>> = (0..10).map(|n| format!("line {n}\n").into_bytes()).collect();
        let pieces: Vec<(u8, &[u8])> = lines.iter().map(|l| (1, l.as_slice())).collect();
        let (_dir, path) = written(Rotation { max_size: Some(200), max_file: 3 }, &pieces);
        let kept = read(&path);
        assert!(kept.len() < 10);
        assert_eq!(kept.last().map(|(_, l)| l.as_str()), Some("line 9\n"));
        assert!(kept.windows(2).all(|w| w[0].1 < w[1].1), "{kept:?}");
    }
}
