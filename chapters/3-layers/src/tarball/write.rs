//! Writing a tar: ustar headers, and pax records for what does not fit.

use super::{BLOCK, Entry, Kind, XATTR, pad};
use std::{io::Write, os::unix::ffi::OsStrExt};
use tar::{EntryType, Header};

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
pub(super) fn record(key: &[u8], value: &[u8]) -> Vec<u8> {
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
