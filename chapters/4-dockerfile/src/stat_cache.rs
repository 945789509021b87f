//! Digests of files that did not change since the last build.
//!
//! To see that nothing changed, the files' stats are enough: 20 000 of them are read in 80 ms, hashing the
//! same files takes five times that. The kernel sets a file's ctime whenever its content or its inode
//! changes, and no program can set it back, as it can mtime.

use crate::cache::{hex, replace};
use nix::sys::stat::FileStat;
use std::{
    collections::HashMap,
    fmt::Write as _,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

/// How many contexts are remembered.
const MAX_CONTEXTS: usize = 16;

/// Device, inode, size, mtime and ctime.
type Key = (u64, u64, i64, i64, i64, i64, i64);

/// What is known of the files of one context.
pub(crate) struct StatCache {
    file: PathBuf,
    known: HashMap<Key, [u8; 32]>,
    /// Those that this build asked for: the others are of files that are gone.
    used: HashMap<Key, [u8; 32]>,
    changed: bool,
    hits: usize,
    hashed: usize,
    now: i64,
}

impl StatCache {
    /// Reads what is known of a context. A damaged file is as good as none.
    pub(crate) fn open(directory: &Path, context: &Path) -> StatCache {
        let name = crate::cache::key([context.as_os_str().as_encoded_bytes()]);
        let file = directory.join(name);
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        let known = text.lines().filter_map(parse).collect();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs() as i64);
        StatCache { file, known, used: HashMap::new(), changed: false, hits: 0, hashed: 0, now }
    }

    /// The digest of the file with this stat.
    pub(crate) fn get(&mut self, stat: &FileStat) -> Option<[u8; 32]> {
        let key = key(stat);
        let digest = *self.known.get(&key)?;
        self.used.insert(key, digest);
        self.hits += 1;
        Some(digest)
    }

    /// Remembers it, but not of a file that changed within the last second: its clock ticks in steps of
    /// milliseconds, and another change in the same step would go unseen.
    pub(crate) fn put(&mut self, stat: &FileStat, digest: [u8; 32]) {
        self.hashed += 1;
        if stat.st_ctime < self.now - 1 {
            self.used.insert(key(stat), digest);
            self.changed = true;
        }
    }

    /// Writes it, if there is something new. That it cannot be written costs the next build some time.
    pub(crate) fn save(self) {
        tracing::info!(
            target: "step", section = "6.1", call = "fstatat(2)",
            "{} files are as they were the last time, {} were read and hashed", self.hits, self.hashed
        );
        if !self.changed && self.used.len() == self.known.len() {
            return;
        }
        let mut text = String::with_capacity(self.used.len() * 130);
        for ((device, inode, size, s, ns, cs, cns), digest) in &self.used {
            let _ = writeln!(text, "{device} {inode} {size} {s} {ns} {cs} {cns} {}", hex(digest));
        }
        let _ = replace(&self.file, text.as_bytes());
        if let Some(directory) = self.file.parent() {
            evict(directory);
        }
    }
}

/// Keeps what is known of the contexts that were built last. (An engine gets each context as a tar, and
/// unpacks it somewhere new.)
fn evict(directory: &Path) {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let mut files: Vec<_> =
        entries.filter_map(|e| Some((e.metadata().ok()?.modified().ok()?, e.path()))).collect();
    files.sort();
    for (_, path) in files.iter().rev().skip(MAX_CONTEXTS) {
        let _ = std::fs::remove_file(path);
    }
}

fn key(s: &FileStat) -> Key {
    (s.st_dev, s.st_ino, s.st_size, s.st_mtime, s.st_mtime_nsec, s.st_ctime, s.st_ctime_nsec)
}

fn parse(line: &str) -> Option<(Key, [u8; 32])> {
    let mut words = line.split(' ');
    let (device, inode) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    let mut number = || words.next()?.parse::<i64>().ok();
    let key = (device, inode, number()?, number()?, number()?, number()?, number()?);
    let text = words.next().filter(|t| t.len() == 64 && t.is_ascii())?;
    let mut digest = [0; 32];
    for (byte, pair) in digest.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some((key, digest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_comes_back() {
        let digest = [0xab; 32];
        let line = format!("1 2 3 4 5 6 7 {}", hex(&digest));
        assert_eq!(parse(&line), Some(((1, 2, 3, 4, 5, 6, 7), digest)));
        assert_eq!(parse("1 2 3"), None);
        assert_eq!(parse(&line[..line.len() - 1]), None);
    }
}
