//! From a stream of compressed bytes to a directory in one pass, and from an image to its directories.
//!
//! ```text
//! network --> store the blob, hash it --> inflate, hash again --> unpack
//!             (caller's thread)           (second thread)         (third thread)
//! ```
//! Two hashes, because a layer has two names: the digest of the compressed bytes is what the manifest says
//! and what is fetched; the *diff ID*, the digest of the tar itself, is what the config says, and stays the
//! same when somebody compresses the layer differently.

use crate::{
    Result, Store,
    digest::sha256_digest,
    error::Doing,
    image::Compression,
    pipe::{Pipe, pump},
    root::Root,
    unpack::{CHUNK, MAX_BYTES, Options, Unsettled, Whiteouts, extract},
    unpacked::Layer,
};
use oci_spec::image::{Descriptor, Digest};
use sha2::Digest as _;
use std::{
    fs::File,
    io::{BufRead, BufReader, Read},
    sync::mpsc::{SyncSender, sync_channel},
    thread,
};

/// How many chunks wait between two threads: enough that neither waits for the other's every breath.
const IN_FLIGHT: usize = 16;

impl Store {
    /// Receives one layer in one pass: hashes, stores, inflates, hashes again and unpacks while it is read.
    /// The blob is visible only if its digest is `descriptor`'s. Which layers lie below is not asked:
    /// [`Store::unpack`] settles that, so layers may be received in any order, and at the same time.
    pub fn receive_layer(&self, descriptor: &Descriptor, from: &mut dyn Read) -> Result<()> {
        let dir = self.temporary_dir()?;
        let root = Root::open(&dir.diff())?;
        let mut ingest = self.ingest()?;
        let (unpacked, stored) = thread::scope(|scope| {
            let (compressed, inflater) = sync_channel(IN_FLIGHT);
            let (plain, extractor) = sync_channel(IN_FLIGHT);
            let inflate = scope.spawn(move || inflate(Pipe::new(inflater), plain));
            let extract = scope.spawn(|| unpack(Pipe::new(extractor), &root, Whiteouts::Overlay));
            // One byte more than promised is read, so that "too long" is noticed and nothing is endless.
            let stored = pump(from.take(descriptor.size().saturating_add(1)), Some(&mut ingest), compressed);
            (both(join(inflate), join(extract)), stored)
        });
        stored.doing(|| format!("receive the layer {}", descriptor.digest()))?;
        // Bytes that are not the layer's explain whatever the unpacking said: the digest speaks first.
        ingest.check(descriptor)?;
        let (diff_id, unsettled) = unpacked?;
        ingest.commit(descriptor.media_type().clone(), Some(descriptor))?;
        tracing::info!(target: "step", section = "5.1", call = "rename(2)", "blob {} is in the store", descriptor.digest());
        self.keep_pending(descriptor.digest(), Layer { dir, diff_id, unsettled })
    }
}

// ---- the stages

/// A stored layer on two threads into a directory. Returns its diff ID, and what it leaves open.
pub(crate) fn pour(blob: File, root: &Root, whiteouts: Whiteouts) -> Result<(Digest, Unsettled)> {
    let from = BufReader::with_capacity(CHUNK, blob);
    thread::scope(|scope| {
        let (plain, extractor) = sync_channel(IN_FLIGHT);
        let inflate = scope.spawn(move || inflate(from, plain));
        let unpacked = unpack(Pipe::new(extractor), root, whiteouts);
        both(join(inflate), unpacked)
    })
}

/// Inflates, hashes, and passes on. Returns the diff ID.
fn inflate(mut from: impl BufRead, to: SyncSender<Vec<u8>>) -> Result<Digest> {
    let doing = || "inflate the layer".to_string();
    let first = from.fill_buf().doing(doing)?;
    let mut hash = sha2::Sha256::new();
    // A plain tar is a little larger than the files in it: the headers.
    let plain: &mut dyn Read = match Compression::of(first) {
        Compression::Gzip => &mut flate2::bufread::MultiGzDecoder::new(from),
        Compression::Zstd => &mut zstd::stream::read::Decoder::with_buffer(from).doing(doing)?,
        Compression::None => &mut from,
    };
    pump(plain.take(2 * MAX_BYTES), Some(&mut Hasher(&mut hash)), to).doing(doing)?;
    sha256_digest(hash)
}

/// Unpacks, and takes the rest of the stream too: the diff ID covers what follows the tar's end.
fn unpack(mut from: Pipe, root: &Root, whiteouts: Whiteouts) -> Result<Unsettled> {
    let options = Options { whiteouts, ..Options::default() };
    let unsettled = extract(&mut from, root, &options)?;
    std::io::copy(&mut from, &mut std::io::sink()).doing(|| "read a layer to its end".into())?;
    Ok(unsettled)
}

/// sha2 as a writer.
pub(crate) struct Hasher<'a>(pub(crate) &'a mut sha2::Sha256);

impl std::io::Write for Hasher<'_> {
    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        self.0.update(buf);
        Ok(buf.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Of two stages that fail together, the first one's reason: the second saw only a stream that ended.
fn both<A, B>(inflated: Result<A>, unpacked: Result<B>) -> Result<(A, B)> {
    let inflated = inflated?;
    Ok((inflated, unpacked?))
}

pub(crate) fn join<T>(thread: thread::ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
