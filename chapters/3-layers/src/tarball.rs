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

/// Writes a header, with a pax header before it for whatever does not fit.
pub fn write_header(out: &mut (impl Write + ?Sized), entry: &Entry) -> std::io::Result<()> {
    let mut header = Header::new_ustar();
    let mut records: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    let mut need = |key: &str, value: &[u8]| records.push((key.into(), value.to_vec()));

    // A path that is too long stands there cut off too, for readers that know no pax.
    let old = header.as_old_mut();
    for (key, value, field) in
        [("path", &entry.path, &mut old.name), ("linkpath", &entry.link, &mut old.linkname)]
    {
        let value = value.as_bytes();
        let short = value.len().min(field.len());
        field[..short].copy_from_slice(&value[..short]);
        if value.len() > field.len() {
            need(key, value);
        }
    }
    // Octal digits: seven for ids, eleven for sizes and times.
    let mut fit = |key: &str, value: u64, limit: u64| {
        if value > limit {
            need(key, value.to_string().as_bytes());
        }
        value.min(limit)
    };
    header.set_uid(fit("uid", entry.uid.into(), 0o7777777));
    header.set_gid(fit("gid", entry.gid.into(), 0o7777777));
    header.set_size(fit("size", entry.size, 0o77777777777));
    let (seconds, nanoseconds) = entry.mtime;
    header.set_mtime(seconds.clamp(0, 0o77777777777) as u64);
    if nanoseconds != 0 || !(0..=0o77777777777).contains(&seconds) {
        need("mtime", pax_time(seconds, nanoseconds).as_bytes());
    }
    header.set_mode(entry.mode);
    header.set_entry_type(match entry.kind {
        Kind::File => EntryType::Regular,
        Kind::Directory => EntryType::Directory,
        Kind::Symlink => EntryType::Symlink,
        Kind::HardLink => EntryType::Link,
        Kind::Char => EntryType::Char,
        Kind::Block => EntryType::Block,
        Kind::Fifo => EntryType::Fifo,
    });
    if matches!(entry.kind, Kind::Char | Kind::Block) {
        header.set_device_major(entry.device.0)?;
        header.set_device_minor(entry.device.1)?;
    }
    for (name, value) in &entry.xattrs {
        records.push(([XATTR.as_bytes(), name.as_bytes()].concat(), value.clone()));
    }

    if !records.is_empty() {
        records.sort();
        let body: Vec<u8> = records.iter().flat_map(|(key, value)| record(key, value)).collect();
        let mut pax = Header::new_ustar();
        pax.set_path("PaxHeaders.0/entry")?;
        pax.set_entry_type(EntryType::XHeader);
        pax.set_mode(0o644);
        pax.set_uid(0);
        pax.set_gid(0);
        pax.set_mtime(0);
        pax.set_size(body.len() as u64);
        pax.set_cksum();
        out.write_all(pax.as_bytes())?;
        out.write_all(&body)?;
        write_padding(out, body.len() as u64)?;
    }
    header.set_cksum();
    out.write_all(header.as_bytes())
}

/// The zeros after `size` bytes of data.
pub fn write_padding(out: &mut (impl Write + ?Sized), size: u64) -> std::io::Result<()> {
    out.write_all(&[0; BLOCK as usize][..pad(size) as usize])
}

/// Two blocks of zeros end a tar.
pub fn write_end(out: &mut (impl Write + ?Sized)) -> std::io::Result<()> {
    out.write_all(&[0; 2 * BLOCK as usize])
}

/// One pax record. Its length counts the digits of the length.
fn record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    [length.to_string().as_bytes(), b" ", key, b"=", value, b"\n"].concat()
}

/// Seconds and nanoseconds as pax writes a time: a decimal number, cut after its last digit.
fn pax_time(seconds: i64, nanoseconds: u32) -> String {
    let total = i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds);
    let (sign, total) = if total < 0 { ("-", -total) } else { ("", total) };
    let text = format!("{sign}{}.{:09}", total / 1_000_000_000, total % 1_000_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
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

fn pad(size: u64) -> u64 {
    size.wrapping_neg() % BLOCK
}

fn reading() -> String {
    "read the tar".into()
}

fn truncated() -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "it ends in the middle of an entry")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn roundtrip(entry: &Entry, data: &[u8]) -> (Entry, Vec<u8>) {
        let mut tar = Vec::new();
        write_header(&mut tar, entry).unwrap();
        tar.extend(data);
        write_padding(&mut tar, data.len() as u64).unwrap();
        write_end(&mut tar).unwrap();
        let mut reader = Reader::new(tar.as_slice());
        let back = reader.next().unwrap().unwrap();
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).unwrap();
        assert!(reader.next().unwrap().is_none());
        (back, bytes)
    }

    #[test]
    fn an_owner_that_was_left_empty_is_root() {
        let mut header = Header::new_gnu();
        header.set_path("x").unwrap();
        header.set_mode(0o644);
        header.set_mtime(0);
        header.set_size(0);
        header.set_cksum();
        let entry = Reader::new([header.as_bytes().as_slice(), &[0; 1024]].concat().as_slice())
            .next()
            .unwrap()
            .unwrap();
        assert_eq!((entry.uid, entry.gid), (0, 0));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            path in "[a-z/é]{1,300}[a-z]", uid: u32, gid: u32, mode in 0u32..0o10000,
            seconds in -5_000_000_000i64..20_000_000_000, nanoseconds in 0u32..1_000_000_000,
            data in prop::collection::vec(any::<u8>(), 0..2000),
            xattrs in prop::collection::btree_map("user\\.[a-z]{1,8}", prop::collection::vec(any::<u8>(), 0..40), 0..3),
        ) {
            let mut entry = Entry::new(OsStr::new(&path), Kind::File, mode);
            (entry.uid, entry.gid, entry.mtime) = (uid, gid, (seconds, nanoseconds));
            entry.size = data.len() as u64;
            entry.xattrs = xattrs.into_iter().map(|(k, v)| (k.into(), v)).collect();
            let (back, bytes) = roundtrip(&entry, &data);
            prop_assert_eq!(back, entry);
            prop_assert_eq!(bytes, data);
        }

        #[test]
        fn noise_is_refused_without_panic(noise in prop::collection::vec(any::<u8>(), 512..3000)) {
            let mut reader = Reader::new(noise.as_slice());
            while let Ok(Some(_)) = reader.next() {}
        }
    }

    #[test]
    fn a_huge_pax_header_is_not_read_into_memory() {
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::XHeader);
        header.set_size(1 << 40);
        header.set_cksum();
        let mut reader = Reader::new(header.as_bytes().as_slice());
        assert!(matches!(reader.next(), Err(Error::Limit { .. })));
    }

    #[test]
    fn a_uid_beyond_32_bits_does_not_become_root() {
        let mut tar = Vec::new();
        let body = record(b"uid", b"4294967296");
        let mut pax = Header::new_ustar();
        pax.set_entry_type(EntryType::XHeader);
        pax.set_size(body.len() as u64);
        pax.set_cksum();
        tar.extend(pax.as_bytes());
        tar.extend(&body);
        write_padding(&mut tar, body.len() as u64).unwrap();
        write_header(&mut tar, &Entry::new(OsStr::new("f"), Kind::File, 0o644)).unwrap();
        let error = Reader::new(tar.as_slice()).next().unwrap_err();
        assert!(error.to_string().contains("uid beyond 32 bits"), "{error}");
    }
}
