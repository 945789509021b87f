//! Tars written by hand (ustar, with GNU's long names), so that a check can write what a tar library refuses to: names
//! that lead out, links to anywhere, the same name twice.

/// A tar that is being written.
#[derive(Clone, Debug, Default)]
pub struct Tar {
    bytes: Vec<u8>,
}

impl Tar {
    /// An empty one.
    pub fn new() -> Tar {
        Tar::default()
    }

    /// Adds a file.
    pub fn file(self, name: &str, mode: u32, data: &[u8]) -> Tar {
        self.entry(b'0', name, mode, "", data)
    }

    /// Adds a directory.
    pub fn directory(self, name: &str, mode: u32) -> Tar {
        self.entry(b'5', &format!("{name}/"), mode, "", b"")
    }

    /// Adds a symbolic link.
    pub fn symlink(self, name: &str, to: &str) -> Tar {
        self.entry(b'2', name, 0o777, to, b"")
    }

    /// Adds another name for the file `to`.
    pub fn hard_link(self, name: &str, to: &str) -> Tar {
        self.entry(b'1', name, 0o644, to, b"")
    }

    /// Adds an entry of a type (ustar's letter).
    pub fn entry(mut self, kind: u8, name: &str, mode: u32, link: &str, data: &[u8]) -> Tar {
        for (kind, text) in [(b'L', name), (b'K', link)] {
            if text.len() > 100 {
                self.put(kind, "././@LongLink", 0, "", format!("{text}\0").as_bytes());
            }
        }
        self.put(kind, name, mode, link, data);
        self
    }

    fn put(&mut self, kind: u8, name: &str, mode: u32, link: &str, data: &[u8]) {
        let mut header = [0; 512];
        let mut field = |at: usize, length: usize, text: &[u8]| {
            let length = text.len().min(length);
            header[at..at + length].copy_from_slice(&text[..length]);
        };
        let (uid, gid) = (nix::unistd::getuid().as_raw(), nix::unistd::getgid().as_raw());
        field(0, 100, name.as_bytes());
        field(100, 8, format!("{mode:07o}").as_bytes());
        field(108, 8, format!("{uid:07o}").as_bytes());
        field(116, 8, format!("{gid:07o}").as_bytes());
        field(124, 12, format!("{:011o}", data.len()).as_bytes());
        field(136, 12, format!("{:011o}", MTIME).as_bytes());
        field(148, 8, b"        ");
        field(156, 1, &[kind]);
        field(157, 100, link.as_bytes());
        field(257, 8, b"ustar  \0");
        let sum: u32 = header.iter().map(|b| u32::from(*b)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.bytes.extend(header);
        self.bytes.extend(data);
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
    }

    /// Ends it.
    pub fn end(mut self) -> Vec<u8> {
        self.bytes.resize(self.bytes.len() + 1024, 0);
        self.bytes
    }
}

/// All entries have this time.
const MTIME: u64 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tar_library_reads_it() {
        let long = "n".repeat(150);
        let bytes = Tar::new().file("a", 0o640, b"data").symlink(&long, "/to").directory("d", 0o700).end();
        let mut archive = tar::Archive::new(bytes.as_slice());
        let read: Vec<_> = archive
            .entries()
            .expect("a tar")
            .map(|e| {
                let e = e.expect("an entry");
                let mode = e.header().mode().expect("a mode");
                (e.path().expect("a path").display().to_string(), mode, e.size())
            })
            .collect();
        assert_eq!(read, [("a".into(), 0o640, 4), (long, 0o777, 0), ("d/".into(), 0o700, 0)]);
    }
}
