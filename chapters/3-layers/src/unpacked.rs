//! Unpacked layers: directories by chain ID in `.unpacked`, each complete or not there.
//!
//! They are a cache of the blobs: what is missing is unpacked again.

use crate::{
    Error, Image, Result, Store,
    digest::same,
    error::Doing,
    image::chain_ids,
    receive::{join, pour},
    root::{Root, remove_at},
    store::freshen,
    unpack::{Unsettled, Whiteouts, settle},
};
use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
};
use oci_spec::image::{Descriptor, Digest, DigestAlgorithm};
use std::{
    fs::{self, File},
    os::fd::AsFd,
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

/// A layer that is unpacked, and not yet settled on those below it.
pub(crate) struct Layer {
    pub(crate) dir: Temporary,
    pub(crate) diff_id: Digest,
    pub(crate) unsettled: Unsettled,
}

/// What [`Store::receive_layer`] leaves for [`Store::unpack`], beside the directory.
#[derive(serde::Serialize, serde::Deserialize)]
struct Pending {
    diff_id: Digest,
    unsettled: Unsettled,
}

impl Store {
    /// Unpacks the layers that are not unpacked yet (in parallel) and returns their directories for
    /// [`crate::overlay::mount`], topmost first.
    pub fn unpack(&self, image: &Image) -> Result<Vec<PathBuf>> {
        let diff_ids = image.diff_ids();
        let chain = chain_ids(&diff_ids);
        let missing: Vec<usize> = (0..chain.len()).filter(|n| !self.is_unpacked(&chain[*n])).collect();
        let mut layers = self.unpack_each(&missing, &image.manifest.layers().to_vec(), &diff_ids)?;

        // From the bottom up: each is settled on those below it.
        let mut dirs: Vec<PathBuf> = Vec::new();
        for (n, id) in chain.iter().enumerate() {
            if let Some(layer) = layers.get_mut(n).and_then(Option::take) {
                let below: Vec<&Path> = dirs.iter().rev().map(PathBuf::as_path).collect();
                settle(&Root::open(&layer.dir.diff())?, &layer.unsettled, &below)?;
                self.publish(layer.dir, id, n.checked_sub(1).map(|below| &chain[below]))?;
                tracing::info!(target: "step", section = "5.1", call = "openat2(2)", "layer {} unpacked as {id}", n + 1);
            }
            dirs.push(self.unpacked_path(id));
        }
        dirs.reverse();
        Ok(dirs)
    }

    /// Unpacks the layers of these numbers, as many at a time as there are processors.
    fn unpack_each(
        &self,
        numbers: &[usize],
        blobs: &[Descriptor],
        diff_ids: &[Digest],
    ) -> Result<Vec<Option<Layer>>> {
        let next = AtomicUsize::new(0);
        let done = Mutex::new((0..blobs.len()).map(|_| None).collect::<Vec<_>>());
        let work = || -> Result<()> {
            while let Some(n) = numbers.get(next.fetch_add(1, Ordering::Relaxed)) {
                let layer = self.unpack_one(&blobs[*n], &diff_ids[*n]).inspect_err(|_| {
                    next.store(numbers.len(), Ordering::Relaxed); // the others may stop too
                })?;
                done.lock().unwrap_or_else(|e| e.into_inner())[*n] = Some(layer);
            }
            Ok(())
        };
        let workers = thread::available_parallelism().map_or(1, |n| n.get()).min(numbers.len());
        thread::scope(|scope| {
            let threads: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
            threads.into_iter().try_for_each(join)
        })?;
        Ok(done.into_inner().unwrap_or_else(|e| e.into_inner()))
    }

    /// Unpacks a layer that is in the store, or takes it as it was received.
    fn unpack_one(&self, blob: &Descriptor, expected: &Digest) -> Result<Layer> {
        let layer = match self.take_pending(blob.digest()) {
            Some(pending) => pending,
            None => {
                let dir = self.temporary_dir()?;
                let root = Root::open(&dir.diff())?;
                let blob = self.open_blob(blob.digest())?;
                let (diff_id, unsettled) = pour(blob, &root, Whiteouts::Overlay)?;
                Layer { dir, diff_id, unsettled }
            }
        };
        check_content(blob, expected, &layer.diff_id)?;
        Ok(layer)
    }

    /// Unpacks all layers of an image into one directory, without overlay: what `umoci unpack` does.
    pub fn unpack_into(&self, image: &Image, target: &Path) -> Result<()> {
        let root = Root::open(target)?;
        for (blob, diff_id) in image.manifest.layers().iter().zip(image.diff_ids()) {
            let (found, unsettled) = pour(self.open_blob(blob.digest())?, &root, Whiteouts::Remove)?;
            check_content(blob, &diff_id, &found)?;
            settle(&root, &unsettled, &[])?;
        }
        Ok(())
    }

    // ---- unpacked layers

    /// Where a layer is unpacked, or would be, by its chain ID.
    pub fn unpacked_path(&self, chain_id: &Digest) -> PathBuf {
        self.unpacked_home(chain_id).join("diff")
    }

    /// Whether it is.
    pub fn is_unpacked(&self, chain_id: &Digest) -> bool {
        let home = self.unpacked_home(chain_id);
        let there = self.lock(FlockArg::LockShared).is_ok() && home.join("diff").is_dir();
        if there {
            freshen(&home);
        }
        there
    }

    /// Takes a directory in overlayfs's form (an upper directory that [`crate::diff::commit`] has made a
    /// layer of) as the unpacked layer of that chain ID: what was written once is not written again.
    /// The directory is moved. False if it cannot be (another filesystem): then it will be unpacked.
    pub fn adopt(&self, upper: &Path, chain_id: &Digest, parent: Option<&Digest>) -> Result<bool> {
        let dir = self.temporary_dir()?;
        let diff = dir.diff();
        match fs::rename(upper, &diff) {
            Ok(()) => self.publish(dir, chain_id, parent).map(|()| true),
            Err(e) if e.raw_os_error() == Some(libc::EXDEV) => Ok(false),
            Err(e) => Err(e).doing(|| format!("move {} into the store", upper.display())),
        }
    }

    pub(crate) fn unpacked_home(&self, chain_id: &Digest) -> PathBuf {
        self.root().join(".unpacked").join(chain_id.algorithm().as_ref()).join(chain_id.digest())
    }

    fn pending_home(&self, blob: &Digest) -> PathBuf {
        self.root().join(".unpacked/pending").join(format!("{}-{}", blob.algorithm(), blob.digest()))
    }

    /// Makes a layer visible under its chain ID: complete, or not at all.
    fn publish(&self, dir: Temporary, chain_id: &Digest, parent: Option<&Digest>) -> Result<()> {
        let home = self.unpacked_home(chain_id);
        let doing = || format!("publish the layer {}", home.display());
        // Who keeps this layer (a container) keeps those below it.
        let parent = parent.map(Digest::to_string).unwrap_or_default();
        fs::write(dir.path.join("parent"), parent).doing(doing)?;
        let _lock = self.lock(FlockArg::LockShared)?;
        match dir.rename(&home) {
            // Another process was faster with the same layer: it is the same.
            Err(Errno::ENOTEMPTY | Errno::EEXIST) => Ok(()),
            other => other.doing(doing),
        }
    }

    pub(crate) fn keep_pending(&self, blob: &Digest, layer: Layer) -> Result<()> {
        let home = self.pending_home(blob);
        let doing = || format!("keep the layer {}", home.display());
        let pending = Pending { diff_id: layer.diff_id, unsettled: layer.unsettled };
        let json = serde_json::to_vec(&pending).map_err(std::io::Error::from).doing(doing)?;
        fs::write(layer.dir.path.join("layer.json"), json).doing(doing)?;
        let _lock = self.lock(FlockArg::LockShared)?;
        match layer.dir.rename(&home) {
            Err(Errno::ENOTEMPTY | Errno::EEXIST) => Ok(()),
            other => other.doing(doing),
        }
    }

    /// Takes a received layer for ourselves; only one process gets it.
    fn take_pending(&self, blob: &Digest) -> Option<Layer> {
        let _lock = self.lock(FlockArg::LockShared).ok()?;
        let home = self.pending_home(blob);
        let file = File::open(&home).ok()?;
        let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock).ok()?;
        let path = self.temporary_name();
        fs::rename(&home, &path).ok()?;
        let dir = Temporary { path, lock, gone: false };
        let pending: Pending = serde_json::from_slice(&fs::read(dir.path.join("layer.json")).ok()?).ok()?;
        fs::remove_file(dir.path.join("layer.json")).ok()?;
        Some(Layer { dir, diff_id: pending.diff_id, unsettled: pending.unsettled })
    }

    /// A new directory in `.tmp` with an empty `diff`, locked as long as we live.
    pub(crate) fn temporary_dir(&self) -> Result<Temporary> {
        let path = self.temporary_name();
        let doing = || format!("make the directory {}", path.display());
        let _lock = self.lock(FlockArg::LockShared)?;
        fs::create_dir(&path).doing(doing)?;
        let lock = Flock::lock(File::open(&path).doing(doing)?, FlockArg::LockExclusive)
            .map_err(|(_, errno)| errno)
            .doing(doing)?;
        let dir = Temporary { path: path.clone(), lock, gone: false };
        fs::create_dir(dir.diff()).doing(doing)?;
        Ok(dir)
    }
}

/// The config names the layer's content, and the config was checked by its own digest: so this check covers
/// also a blob that another program put into the store.
fn check_content(blob: &Descriptor, expected: &Digest, found: &Digest) -> Result<()> {
    if *expected.algorithm() != DigestAlgorithm::Sha256 {
        return Err(Error::Algorithm(expected.to_string()));
    }
    same(|| format!("the content of layer {}", blob.digest()), expected.as_ref(), found.as_ref())
}

/// A directory that goes away with this value, unless it is renamed to where it belongs.
pub(crate) struct Temporary {
    path: PathBuf,
    #[expect(dead_code, reason = "held: while it is, no sweep takes the directory for a leftover")]
    lock: Flock<File>,
    gone: bool,
}

impl Temporary {
    pub(crate) fn diff(&self) -> PathBuf {
        self.path.join("diff")
    }

    fn rename(mut self, to: &Path) -> nix::Result<()> {
        fs::rename(&self.path, to).map_err(|e| Errno::from_raw(e.raw_os_error().unwrap_or(libc::EIO)))?;
        self.gone = true;
        freshen(to);
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if let (false, Some(parent), Some(name)) = (self.gone, self.path.parent(), self.path.file_name())
            && let Ok(parent) = File::open(parent)
        {
            let _ = remove_at(parent.as_fd(), name);
        }
    }
}
