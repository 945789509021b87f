//! What a tar is: a header of 512 bytes, then the file's data padded to 512, and again (pax(1), "ustar
//! Interchange Format"; GNU tar's manual, "Basic Tar Format"). What does not fit a header's fields goes
//! before it: into pax records ("30 mtime=1700000000.123456789\n"), or GNU's long-name entries.
//!
//! We read this ourselves, with only the header's fields taken apart by the `tar` crate: its iterator
//! reads pax bodies of any size into memory, and a layer is hostile.

use crate::{Error, Result, error::Doing};
use std::{
    ffi::{OsStr, OsString},
    io::{BufRead, Read, Write},
    os::unix::ffi::{OsStrExt, OsStringExt},
};
use tar::{EntryType, Header};

pub use write::{write_end, write_header, write_padding};

/// The size of a header, and of what everything is padded to.
const BLOCK: u64 = 512;

/// The largest pax header or long name: Go's archive/tar, and so docker, has the same limit.
pub const MAX_EXTENSION: u64 = 1 << 20;

/// How pax names an extended attribute (star(5); what docker and every OCI tool write).
const XATTR: &str = "SCHILY.xattr.";

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link to `link`.
    Symlink,
    /// Another name for `link`, a path in the same tree.
    HardLink,
    /// A character device.
    Char,
    /// A block device.
    Block,
    /// A named pipe.
    Fifo,
}

/// One entry's header, whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its path, as the tar has it: not checked.
    pub path: OsString,
    /// What it is.
    pub kind: Kind,
    /// Where a link points, as the tar has it: not checked.
    pub link: OsString,
    /// Permissions with setuid, setgid and sticky bits.
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// The owning group.
    pub gid: u32,
    /// Modification time: seconds and nanoseconds.
    pub mtime: (i64, u32),
    /// Bytes of a file, holes included.
    pub size: u64,
    /// Major and minor of a device.
    pub device: (u32, u32),
    /// Extended attributes.
    pub xattrs: Vec<(OsString, Vec<u8>)>,
    /// Where the data of a sparse file belongs: offset and length of each piece. The rest are holes.
    pub pieces: Option<Vec<(u64, u64)>>,
}

impl Entry {
    /// An entry with nothing in it, owned by root.
    pub fn new(path: &OsStr, kind: Kind, mode: u32) -> Entry {
        Entry {
            path: path.to_owned(),
            kind,
            link: OsString::new(),
            mode,
            uid: 0,
            gid: 0,
            mtime: (0, 0),
            size: 0,
            device: (0, 0),
            xattrs: Vec::new(),
            pieces: None,
        }
    }
}

/// Reads a tar, entry by entry. Between two calls of [`Reader::next`], reading it gives the entry's data.
pub struct Reader<R> {
    from: R,
    /// Of the current entry: data not read yet, then padding.
    left: u64,
    padding: u64,
    /// Records of a global pax header: they hold for all entries that follow.
    global: Vec<(String, Vec<u8>)>,
}

impl<R: BufRead> Reader<R> {
    /// Reads from here. Nothing is read yet.
    pub fn new(from: R) -> Reader<R> {
        Reader { from, left: 0, padding: 0, global: Vec::new() }
    }

    /// The stream, after the entries.
    pub fn into_inner(self) -> R {
        self.from
    }

    /// The next entry; `None` at the end of the tar.
    #[expect(clippy::should_implement_trait, reason = "an iterator could not lend its data")]
    pub fn next(&mut self) -> Result<Option<Entry>> {
        self.skip()?;
        let mut records = self.global.clone();
        let (mut long_name, mut long_link) = (None, None);
        loop {
            let Some(header) = self.header()? else { return Ok(None) };
            let kind = header.entry_type();
            let size = number(header.entry_size(), &header, "size")?;
            match kind {
                EntryType::XHeader => records.extend(self.records(size)?),
                EntryType::XGlobalHeader => {
                    let global = self.records(size)?;
                    records.extend(global.iter().cloned());
                    self.global.extend(global);
                    // Its size is bounded, so their number is; but there may be many such headers.
                    if self.global.len() > 1024 {
                        return Err(refused(&header, "too many global pax records"));
                    }
                }
                EntryType::GNULongName => long_name = Some(self.long(size)?),
                EntryType::GNULongLink => long_link = Some(self.long(size)?),
                _ => return self.entry(&header, size, records, long_name, long_link).map(Some),
            }
        }
    }

    /// Puts one entry together: the header's fields, and over them what came before it.
    fn entry(
        &mut self,
        header: &Header,
        size: u64,
        records: Vec<(String, Vec<u8>)>,
        long_name: Option<OsString>,
        long_link: Option<OsString>,
    ) -> Result<Entry> {
        let mut entry = Entry::new(&long_name.unwrap_or_else(|| path(header)), Kind::File, 0);
        entry.link = long_link
            .unwrap_or_else(|| OsString::from_vec(header.link_name_bytes().unwrap_or_default().into_owned()));
        entry.mode = number(header.mode(), header, "mode")? & 0o7777;
        let raw = header.as_old();
        let mut uid = if blank(&raw.uid) { 0 } else { number(header.uid(), header, "uid")? };
        let mut gid = if blank(&raw.gid) { 0 } else { number(header.gid(), header, "gid")? };
        let mut size = size;
        let mut sparse = crate::sparse::Records::default();
        entry.mtime = (number(header.mtime(), header, "mtime")? as i64, 0);
        for (key, value) in records {
            let bad = || refused(header, &format!("pax record {key} is not a number"));
            match key.as_str() {
                "path" => entry.path = OsString::from_vec(value),
                "linkpath" => entry.link = OsString::from_vec(value),
                "size" => size = decimal(&value).ok_or_else(bad)?,
                "uid" => uid = decimal(&value).ok_or_else(bad)?,
                "gid" => gid = decimal(&value).ok_or_else(bad)?,
                "mtime" => entry.mtime = time(&value).ok_or_else(bad)?,
                key if key.starts_with(XATTR) => {
                    let name = OsString::from(&key[XATTR.len()..]);
                    entry.xattrs.retain(|(other, _)| *other != name);
                    entry.xattrs.push((name, value));
                }
                key if key.starts_with("GNU.sparse.") => sparse.add(key, value),
                _ => (),
            }
        }
        // A uid of 2^32 would become root in a 32-bit field (CVE-2024-40635).
        entry.uid = u32::try_from(uid).map_err(|_| refused(header, "uid beyond 32 bits"))?;
        entry.gid = u32::try_from(gid).map_err(|_| refused(header, "gid beyond 32 bits"))?;
        entry.kind = match header.entry_type() {
            // Tar of 1979 has no directories, only names that end in a slash.
            EntryType::Regular | EntryType::Continuous if entry.path.as_bytes().ends_with(b"/") => {
                Kind::Directory
            }
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => Kind::File,
            EntryType::Directory => Kind::Directory,
            EntryType::Symlink => Kind::Symlink,
            EntryType::Link => Kind::HardLink,
            EntryType::Char => Kind::Char,
            EntryType::Block => Kind::Block,
            EntryType::Fifo => Kind::Fifo,
            other => {
                return Err(refused(header, &format!("unknown type {:?}", char::from(other.as_byte()))));
            }
        };
        if matches!(entry.kind, Kind::Char | Kind::Block) {
            let field = |n: std::io::Result<Option<u32>>| Ok(number(n, header, "device")?.unwrap_or(0));
            entry.device = (field(header.device_major())?, field(header.device_minor())?);
        }
        // Only files have data; the size that some writers put into a link's header is not followed by any.
        self.left = if entry.kind == Kind::File { size } else { 0 };
        entry.size = self.left;
        self.padding = pad(self.left);
        sparse.apply(self, header, &mut entry)?;
        Ok(entry)
    }

    /// One header; `None` at the two blocks of zeros, or the end of the stream, that end a tar.
    pub(crate) fn header(&mut self) -> Result<Option<Header>> {
        let mut header = Header::new_old();
        if self.from.fill_buf().doing(reading)?.is_empty() {
            return Ok(None);
        }
        self.from.read_exact(header.as_mut_bytes()).doing(reading)?;
        let bytes = header.as_bytes();
        if bytes.iter().all(|b| *b == 0) {
            return Ok(None);
        }
        // The sum of all bytes, the checksum's own eight taken as blanks.
        let sum: u32 = bytes[..148].iter().chain(&bytes[156..]).map(|b| u32::from(*b)).sum::<u32>() + 8 * 32;
        if number(header.cksum(), &header, "checksum")? != sum {
            return Err(refused(&header, "its header's checksum is wrong: this is no tar, or a broken one"));
        }
        Ok(Some(header))
    }

    /// Reads a block that continues a header (GNU's sparse maps).
    pub(crate) fn block(&mut self) -> Result<[u8; 512]> {
        let mut block = [0; 512];
        self.from.read_exact(&mut block).doing(reading)?;
        Ok(block)
    }

    /// Reads a small body with its padding.
    fn extension(&mut self, size: u64) -> Result<Vec<u8>> {
        if size > MAX_EXTENSION {
            return Err(Error::Limit {
                what: "a tar's extended header".into(),
                limit: format!("{MAX_EXTENSION} bytes"),
            });
        }
        let mut body = vec![0; (size + pad(size)) as usize];
        self.from.read_exact(&mut body).doing(reading)?;
        body.truncate(size as usize);
        Ok(body)
    }

    fn long(&mut self, size: u64) -> Result<OsString> {
        let mut name = self.extension(size)?;
        name.truncate(name.iter().position(|b| *b == 0).unwrap_or(name.len()));
        Ok(OsString::from_vec(name))
    }

    /// pax records: "LENGTH KEY=VALUE\n", the length counting all of itself.
    fn records(&mut self, size: u64) -> Result<Vec<(String, Vec<u8>)>> {
        let body = self.extension(size)?;
        let mut records = Vec::new();
        let mut rest = body.as_slice();
        while !rest.is_empty() {
            let record = (|| {
                let blank = rest.iter().position(|b| *b == b' ')?;
                let length = decimal(&rest[..blank])? as usize;
                let record = rest.get(blank + 1..length)?.strip_suffix(b"\n")?;
                let equals = record.iter().position(|b| *b == b'=')?;
                rest = &rest[length..];
                Some((String::from_utf8(record[..equals].to_vec()).ok()?, record[equals + 1..].to_vec()))
            })();
            records.push(record.ok_or_else(|| Error::Entry {
                entry: "pax header".into(),
                why: "its records are malformed".into(),
            })?);
        }
        Ok(records)
    }

    /// How much data the current entry still has.
    pub(crate) fn left(&self) -> u64 {
        self.left
    }

    /// Goes over what is left of the current entry.
    fn skip(&mut self) -> Result<()> {
        while self.left + self.padding > 0 {
            let have = self.from.fill_buf().doing(reading)?.len() as u64;
            if have == 0 {
                return Err(truncated()).doing(reading);
            }
            let n = have.min(self.left + self.padding);
            self.from.consume(n as usize);
            let data = n.min(self.left);
            self.left -= data;
            self.padding -= n - data;
        }
        Ok(())
    }

    /// Copies `length` bytes of the current entry's data, straight from the stream's buffer.
    pub fn copy(&mut self, mut length: u64, out: &mut impl Write) -> std::io::Result<()> {
        while length > 0 {
            let piece = self.fill_buf()?;
            if piece.is_empty() {
                return Err(truncated());
            }
            let n = length.min(piece.len() as u64) as usize;
            out.write_all(&piece[..n])?;
            self.consume(n);
            length -= n as u64;
        }
        Ok(())
    }
}

impl<R: BufRead> Read for Reader<R> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let piece = self.fill_buf()?;
        let n = piece.len().min(buf.len());
        buf[..n].copy_from_slice(&piece[..n]);
        self.consume(n);
        Ok(n)
    }
}

impl<R: BufRead> BufRead for Reader<R> {
    fn fill_buf(&mut self) -> std::io::Result<&[u8]> {
        if self.left == 0 {
            return Ok(&[]);
        }
        let left = self.left;
        let have = self.from.fill_buf()?;
        if have.is_empty() {
            return Err(truncated());
        }
        Ok(&have[..left.min(have.len() as u64) as usize])
    }
    fn consume(&mut self, n: usize) {
        self.left -= n as u64;
        self.from.consume(n);
    }
}

/// A pax time. Negative ones count from the second before: -1.5 is (-2, 500000000).
fn time(text: &[u8]) -> Option<(i64, u32)> {
    let text = std::str::from_utf8(text).ok()?;
    let (sign, text) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    let total =
        sign * (i128::from(decimal(whole.as_bytes())?) * 1_000_000_000 + digits.parse::<i128>().ok()?);
    Some((i64::try_from(total.div_euclid(1_000_000_000)).ok()?, total.rem_euclid(1_000_000_000) as u32))
}

/// Digits and nothing else: Rust's own parser would take a plus sign.
pub(crate) fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// The path of a header: in ustar, a prefix, a slash, a name.
fn path(header: &Header) -> OsString {
    OsString::from_vec(header.path_bytes().into_owned())
}

/// Some writers leave the owner's fields empty, and every reader takes that for root.
fn blank(field: &[u8]) -> bool {
    field.iter().all(|b| matches!(b, 0 | b' '))
}

fn number<T>(n: std::io::Result<T>, header: &Header, field: &str) -> Result<T> {
    n.map_err(|_| refused(header, &format!("its field {field} is not a number")))
}

pub(crate) fn refused(header: &Header, why: &str) -> Error {
    Error::Entry { entry: path(header).to_string_lossy().into_owned(), why: why.into() }
}

fn reading() -> String {
    "read the tar".into()
}

fn truncated() -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "it ends in the middle of an entry")
}

fn pad(size: u64) -> u64 {
    size.wrapping_neg() % BLOCK
}

#[cfg(test)]
mod tests;
mod write;
