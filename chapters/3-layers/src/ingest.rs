//! A blob on its way into the store: hashed while it is written, visible only when it is whole.

use crate::{
    Result, Store,
    digest::{hash, known, same, sha256_digest},
    error::Doing,
    store::sync_dir,
};
use nix::fcntl::{Flock, FlockArg};
use oci_spec::image::{Descriptor, Digest, DigestAlgorithm, MediaType};
use sha2::Digest as _;
use std::{
    fs::{self, File},
    io::{self, Write},
    path::PathBuf,
};

/// A blob that is being written. Dropped without a commit, it never was.
#[derive(Debug)]
pub struct Ingest<'a> {
    store: &'a Store,
    file: Flock<File>,
    path: PathBuf,
    hash: sha2::Sha256,
    size: u64,
    written_back: u64,
}

impl Write for Ingest<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let n = self.file.write(buf)?;
        self.hash.update(&buf[..n]);
        self.size += n as u64;
        self.write_back();
        Ok(n)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> Ingest<'a> {
    pub(crate) fn new(store: &'a Store, file: Flock<File>, path: PathBuf) -> Ingest<'a> {
        Ingest { store, file, path, hash: sha2::Sha256::new(), size: 0, written_back: 0 }
    }

    /// Bytes so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Refuses what is not `expected`, before anything is made of it. (A digest other than sha256 is left
    /// to the commit.)
    pub fn check(&self, expected: &Descriptor) -> Result<()> {
        match expected.digest().algorithm() {
            DigestAlgorithm::Sha256 => self.compare(expected, &sha256_digest(self.hash.clone())?),
            _ => known(expected.digest()),
        }
    }

    fn compare(&self, expected: &Descriptor, digest: &Digest) -> Result<()> {
        let what = || format!("the blob {}", expected.digest());
        same(what, &expected.size().to_string(), &self.size.to_string())?;
        same(what, expected.digest().as_ref(), digest.as_ref())
    }

    /// Makes it visible (fsync, then rename); refuses if `expected` is another digest or size.
    pub fn commit(mut self, media_type: MediaType, expected: Option<&Descriptor>) -> Result<Descriptor> {
        let mut digest = sha256_digest(std::mem::take(&mut self.hash))?;
        if let Some(expected) = expected {
            known(expected.digest())?;
            if *expected.digest().algorithm() != DigestAlgorithm::Sha256 {
                io::Seek::rewind(&mut &*self.file).doing(|| "read a new blob again".into())?;
                digest = hash(expected.digest().algorithm(), &mut &*self.file)?;
            }
            self.compare(expected, &digest)?;
        }
        let doing = || format!("store the blob {digest}");
        let path = self.store.blob_path(&digest);
        let dir = path.parent().unwrap_or(self.store.root());
        fs::create_dir_all(dir).doing(doing)?;
        self.file.sync_all().doing(doing)?;
        {
            // Against a collect that would take it for old: same name, same bytes, so replacing is no harm.
            let _lock = self.store.lock(FlockArg::LockShared)?;
            fs::rename(&self.path, &path).doing(doing)?;
        }
        sync_dir(dir)?;
        Ok(Descriptor::new(media_type, self.size, digest.clone()))
    }

    /// Has the kernel begin to write to the disk while we are still receiving, so that the fsync at the end
    /// finds little to do (sync_file_range(2)).
    fn write_back(&mut self) {
        const STEP: u64 = 8 << 20;
        if self.size - self.written_back >= STEP {
            use std::os::fd::AsRawFd;
            // SAFETY: takes only numbers, on a descriptor that is open. A failure costs nothing but time.
            unsafe {
                libc::sync_file_range(
                    self.file.as_raw_fd(),
                    self.written_back as i64,
                    (self.size - self.written_back) as i64,
                    libc::SYNC_FILE_RANGE_WRITE,
                );
            }
            self.written_back = self.size;
        }
    }
}

impl Drop for Ingest<'_> {
    fn drop(&mut self) {
        // After a commit the name is gone already.
        let _ = fs::remove_file(&self.path);
    }
}
