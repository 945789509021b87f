//! `ADD` of a local tar: it is unpacked.

use crate::{
    Error, Result,
    copy::Copy,
    error::Doing,
    source::{Found, Source, open_regular},
};
use layers::{
    image::Compression,
    root::{Root, kind},
    tarball::Reader,
    unpack::{Options, extract},
};
use nix::sys::stat::SFlag;
use std::{
    fs::File,
    io::{BufRead, BufReader, Read, Seek},
    os::fd::AsFd,
    path::Path,
};

/// Unpacks what was found into the directory `to`, if it is a tar (compressed or not). What only looks like
/// one is a file like any other: then nothing is done, and `false` returned.
pub(crate) fn unpack(source: &Source, found: &Found, copy: &mut Copy, to: &Path) -> Result<bool> {
    let (parent, name) = source.root.parent(&found.path)?;
    if kind(&source.root.lstat(&found.path)?) != SFlag::S_IFREG {
        return Ok(false);
    }
    let doing = || format!("read {}", found.path.display());
    let mut file = open_regular(parent.as_fd(), &name).doing(doing)?;
    let mut magic = Vec::new();
    file.by_ref().take(512).read_to_end(&mut magic).doing(doing)?;
    file.rewind().doing(doing)?;
    let unsupported = match &magic[..] {
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Some("xz"),
        [b'B', b'Z', b'h', b'1'..=b'9', ..] => Some("bzip2"),
        _ => None,
    };
    if let Some(kind) = unsupported {
        let reason = format!(
            "{}: a tar compressed with {kind} is not unpacked here; compress it with gzip or zstd, or COPY \
             it and unpack it in a RUN",
            found.called.display()
        );
        return Err(Error::Instruction { instruction: "ADD", reason });
    }
    // A look at its first header; an empty file is no tar, though an empty tar would be one.
    let is_tar = match Reader::new(inflate(&file, &magic)?).next() {
        Ok(first) => first.is_some(),
        Err(_) => false,
    };
    if !is_tar {
        return Ok(false);
    }
    file.rewind().doing(doing)?;
    // The directory is the root of whatever the tar says: a link in it leads nowhere else.
    let root = Root::from(copy.directories(to)?);
    let tar = inflate(&file, &magic)?;
    let left = extract(tar, &root, &Options { owner: copy.owner(), ..Options::default() })?;
    if let Some((link, target)) = left.links.first() {
        let (link, target) = (String::from_utf8_lossy(link), String::from_utf8_lossy(target));
        let reason = format!("{link} is a hard link to {target}, which is not in the tar");
        return Err(Error::Instruction { instruction: "ADD", reason });
    }
    Ok(true)
}

fn inflate<'f>(file: &'f File, magic: &[u8]) -> Result<Box<dyn BufRead + 'f>> {
    Compression::of(magic).inflate(BufReader::new(file)).doing(|| "inflate a tar".into())
}
