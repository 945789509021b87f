//! Side room: sparse files in tars, in GNU tar's four notations (its manual, "Sparse Formats"). Docker
//! reads all four, so a layer may hold any.

use crate::{
    Error, Result,
    tarball::{Entry, Reader, decimal, refused},
};
use std::{
    ffi::OsString,
    io::{BufRead, Read},
    os::unix::ffi::OsStringExt,
};
use tar::Header;

/// More pieces than any honest file has.
const MAX_PIECES: usize = 1 << 20;

/// The pax records of a sparse entry.
#[derive(Default)]
pub(crate) struct Records {
    name: Option<Vec<u8>>,
    real_size: Option<Vec<u8>>,
    major: Option<Vec<u8>>,
    numbers: Vec<Vec<u8>>,
    any: bool,
}

impl Records {
    /// Notes one `GNU.sparse.` record.
    pub(crate) fn add(&mut self, key: &str, value: Vec<u8>) {
        self.any = true;
        match &key["GNU.sparse.".len()..] {
            "name" => self.name = Some(value),
            "size" | "realsize" => self.real_size = Some(value),
            "major" => self.major = Some(value),
            // 0.0 has a pair of records for each piece, 0.1 one with all numbers.
            "offset" | "numbytes" => self.numbers.push(value),
            "map" => self.numbers = value.split(|b| *b == b',').map(<[u8]>::to_vec).collect(),
            _ => (),
        }
    }

    /// Gives `entry` its pieces, reading the map from the stream where the notation keeps it there.
    pub(crate) fn apply<R: BufRead>(
        self,
        tar: &mut Reader<R>,
        header: &Header,
        entry: &mut Entry,
    ) -> Result<()> {
        let bad = || refused(header, "its sparse map is malformed");
        if header.entry_type().is_gnu_sparse() {
            let gnu = header.as_gnu().ok_or_else(bad)?;
            entry.pieces = Some(old_gnu(tar, gnu).ok_or_else(bad)??);
            entry.size = gnu.real_size().map_err(|_| bad())?;
        } else if self.any {
            let numbers = if self.major.as_deref() == Some(b"1") {
                in_data(tar).map_err(|_| bad())?
            } else {
                self.numbers.iter().map(|n| decimal(n)).collect::<Option<_>>().ok_or_else(bad)?
            };
            entry.size = self.real_size.as_deref().and_then(decimal).ok_or_else(bad)?;
            entry.pieces = Some(numbers.chunks(2).map(|p| (p[0], p.get(1).copied().unwrap_or(0))).collect());
            if let Some(name) = self.name {
                entry.path = OsString::from_vec(name);
            }
        }
        let Some(pieces) = &entry.pieces else { return Ok(()) };
        // In order, apart, inside the file, and together exactly the data that follows.
        let (mut end, mut data) = (0u64, 0u64);
        for (offset, length) in pieces {
            if *offset < end {
                return Err(bad());
            }
            end = offset.checked_add(*length).ok_or_else(bad)?;
            data += length;
        }
        if end > entry.size || data > tar.left() {
            return Err(bad());
        }
        Ok(())
    }
}

/// The oldest notation: four pieces in the header, 21 in each block that follows.
fn old_gnu<R: BufRead>(tar: &mut Reader<R>, gnu: &tar::GnuHeader) -> Option<Result<Vec<(u64, u64)>>> {
    let mut pieces = Vec::new();
    let mut add = |sparse: &[tar::GnuSparseHeader]| {
        for piece in sparse.iter().filter(|p| !p.is_empty()) {
            pieces.push((piece.offset().ok()?, piece.length().ok()?));
        }
        (pieces.len() <= MAX_PIECES).then_some(())
    };
    add(&gnu.sparse)?;
    let mut more = gnu.is_extended();
    while more {
        let mut block = tar::GnuExtSparseHeader::new();
        match tar.block() {
            Ok(bytes) => block.as_mut_bytes().copy_from_slice(&bytes),
            Err(e) => return Some(Err(e)),
        }
        add(&block.sparse)?;
        more = block.is_extended();
    }
    Some(Ok(pieces))
}

/// The newest notation: lines of decimal numbers at the beginning of the data, padded to a block.
fn in_data<R: BufRead>(tar: &mut Reader<R>) -> Result<Vec<u64>> {
    let bad = || Error::Entry { entry: "sparse map".into(), why: "malformed".into() };
    let mut read = 0u64;
    let mut line = |tar: &mut Reader<R>| {
        let mut text = Vec::new();
        tar.by_ref().take(20).read_until(b'\n', &mut text).map_err(|_| bad())?;
        read += text.len() as u64;
        text.strip_suffix(b"\n").and_then(decimal).ok_or_else(bad)
    };
    let count = line(tar)? as usize;
    if count > MAX_PIECES {
        return Err(bad());
    }
    let mut numbers = Vec::new();
    for _ in 0..2 * count {
        numbers.push(line(tar)?);
    }
    let padding = (512 - read % 512) % 512;
    tar.copy(padding, &mut std::io::sink()).map_err(|_| bad())?;
    Ok(numbers)
}
