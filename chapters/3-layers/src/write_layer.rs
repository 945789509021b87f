//! A tar on its way into the store as a layer.

use crate::{
    Result, Store, digest::sha256_digest, error::Doing, image::Compression, pipe::Pipe, receive::join,
};
use flate2::{Compression as Level, GzBuilder};
use oci_spec::image::{Descriptor, Digest};
use sha2::Digest as _;
use std::{
    io::{self, BufWriter, Write},
    sync::mpsc::{SyncSender, sync_channel},
    thread,
};

impl Store {
    /// Stores the tar that `write` writes as a layer: hashed for its diff ID, compressed, hashed for its
    /// digest, all in one pass, the compressing on a thread of its own.
    pub fn write_layer(
        &self,
        write: impl FnOnce(&mut dyn Write) -> Result<()>,
    ) -> Result<(Descriptor, Digest)> {
        let mut ingest = self.ingest()?;
        let mut hash = sha2::Sha256::new();
        let doing = || "compress a layer".to_string();
        thread::scope(|scope| -> Result<()> {
            let (plain, compressor) = sync_channel(16);
            let ingest = &mut ingest;
            let compress = scope.spawn(move || {
                // No name and no time in gzip's header: they would make equal layers differ.
                let mut gzip = GzBuilder::new().write(BufWriter::with_capacity(1 << 16, ingest), LEVEL);
                io::copy(&mut Pipe::new(compressor), &mut gzip).doing(doing)?;
                gzip.finish().doing(doing)?.flush().doing(doing)
            });
            let mut out = BufWriter::with_capacity(crate::unpack::CHUNK, Tee { hash: &mut hash, plain });
            let written = write(&mut out).and_then(|()| out.flush().doing(doing));
            drop(out);
            join(compress).and(written)
        })?;
        let blob = ingest.commit(Compression::Gzip.media_type(), None)?;
        let diff_id = sha256_digest(hash)?;
        tracing::info!(target: "step", section = "5.1", call = "rename(2)", "layer {} is in the store", blob.digest());
        Ok((blob, diff_id))
    }

    /// Stores a tar (compressed or not) that is to be a layer as it is. Returns the blob and its diff ID.
    pub fn write_tar(&self, mut tar: impl io::Read) -> Result<(Descriptor, Digest)> {
        self.write_layer(|out| io::copy(&mut tar, out).map(drop).doing(|| "read a layer".into()))
    }
}

/// Fast rather than small: a layer is compressed once for every build, and a registry can be told better.
const LEVEL: Level = Level::new(1);

/// Hashes, and hands over to the compressing thread.
struct Tee<'a> {
    hash: &'a mut sha2::Sha256,
    plain: SyncSender<Vec<u8>>,
}

impl Write for Tee<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.hash.update(buf);
        self.plain.send(buf.to_vec()).map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok(buf.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
