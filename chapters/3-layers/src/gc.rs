//! Side room: what no image needs any more.
//!
//! Content is added before it has a name (a pull stores layers first, the name last), so "no image needs
//! it" is not enough to remove it: another process may be about to. As git does it: content that was written
//! or asked for within [`GRACE`] stays. Removing an image takes that protection from what it needed; and
//! naming one checks that all of it is there ([`Store::tag`]), so that the loser of that race is told.

use crate::{
    Result, Store,
    error::Doing,
    image::chain_ids,
    root::{Next, Root, remove_at},
};
use nix::fcntl::FlockArg;
use oci_spec::image::{Descriptor, Digest, MediaType};
use std::{
    collections::{BTreeSet, HashSet},
    fs::{self, File},
    os::fd::AsFd,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

/// How long unnamed content stays: a pull may take this long.
pub const GRACE: Duration = Duration::from_secs(3600);

/// How deep documents may refer to each other.
const MAX_NESTING: u32 = 8;

impl Store {
    /// Removes every blob and unpacked layer that no image needs (those in `keep`, chain IDs in use by
    /// containers, stay), and what a crash left. Returns the bytes freed.
    pub fn collect(&self, keep: &[Digest]) -> Result<u64> {
        self.collect_older(keep, GRACE)
    }

    /// The same with another grace. Zero is right where nothing else uses the store.
    pub fn collect_older(&self, keep: &[Digest], grace: Duration) -> Result<u64> {
        let mut freed = 0;
        let mut doomed = Vec::new();
        {
            let lock = self.lock(FlockArg::LockExclusive)?;
            let mut needed = HashSet::new();
            let mut chains: HashSet<Digest> = keep.iter().cloned().collect();
            for descriptor in self.index()?.manifests() {
                self.mark(descriptor.digest(), &mut needed, &mut chains, MAX_NESTING);
            }
            // With a layer stay those below it.
            for mut chain in keep.iter().cloned() {
                while let Some(parent) = self.parent_of(&chain) {
                    chains.insert(parent.clone());
                    chain = parent;
                }
            }
            let now = SystemTime::now();
            let old = |path: &Path| {
                let modified = fs::symlink_metadata(path).and_then(|m| m.modified());
                modified.is_ok_and(|m| grace.is_zero() || now.duration_since(m).is_ok_and(|age| age > grace))
            };
            for (digest, path) in self.digests("blobs")? {
                if !needed.contains(&digest) && old(&path) {
                    freed += fs::symlink_metadata(&path).map_or(0, |m| m.len());
                    fs::remove_file(&path).doing(|| format!("remove the blob {digest}"))?;
                }
            }
            let unpacked = self.digests(".unpacked")?;
            let unpacked = unpacked.into_iter().filter(|(digest, _)| !chains.contains(digest));
            for path in unpacked.map(|(_, path)| path).chain(self.pending()?).filter(|path| old(path)) {
                // Out of sight at once; the removing itself takes its time without the lock.
                let aside = self.temporary_name();
                fs::rename(&path, &aside).doing(|| format!("remove {}", path.display()))?;
                doomed.push(aside);
            }
            self.sweep_but(&lock, &doomed)?;
        }
        for dir in doomed {
            freed += disk_usage(&dir)?;
            let parent = File::open(self.root().join(".tmp")).doing(|| "open .tmp".into())?;
            let name = dir.file_name().unwrap_or_default();
            remove_at(parent.as_fd(), name).doing(|| format!("remove {}", dir.display()))?;
        }
        Ok(freed)
    }

    /// Every blob that a manifest or index needs, itself among them.
    pub(crate) fn needs(&self, manifest: &Digest) -> Result<HashSet<Digest>> {
        let mut needed = HashSet::new();
        self.mark(manifest, &mut needed, &mut HashSet::new(), MAX_NESTING);
        Ok(needed)
    }

    /// What of that is not there. Of an index, whole images may be missing: those of other platforms.
    pub(crate) fn lacks(&self, manifest: &Digest) -> Vec<Digest> {
        let mut missing = Vec::new();
        self.look_for_missing(manifest, &mut missing, MAX_NESTING);
        missing
    }

    fn look_for_missing(&self, manifest: &Digest, missing: &mut Vec<Digest>, depth: u32) {
        let Some(document) = self.document(manifest) else { return missing.push(manifest.clone()) };
        let list = |key: &str| document.get(key).and_then(|l| l.as_array()).into_iter().flatten();
        let digest_of = |d: &serde_json::Value| d.get("digest")?.as_str()?.parse::<Digest>().ok();
        for nested in list("manifests").filter_map(digest_of) {
            if depth > 0 && self.blob_path(&nested).exists() {
                self.look_for_missing(&nested, missing, depth - 1);
            }
        }
        // A subject is not asked for: a signature may come before what it signs (distribution-spec, "Pushing
        // Manifests with Subject"). And some layers may not be passed on (image-spec, layer.md,
        // "Non-Distributable Layers").
        let elsewhere = |layer: &&serde_json::Value| {
            let kind = layer["mediaType"].as_str().unwrap_or_default();
            kind.contains("nondistributable") || kind.contains(".foreign.")
        };
        let layers = list("layers").filter(|layer| !elsewhere(layer)).chain(list("blobs"));
        let blobs = layers.chain(document.get("config")).filter_map(digest_of);
        missing.extend(blobs.filter(|blob| !self.blob_path(blob).exists()));
    }

    /// Makes a blob old.
    pub(crate) fn age(&self, blob: &Digest) {
        if let Ok(file) = File::open(self.blob_path(blob)) {
            let _ = file.set_modified(SystemTime::UNIX_EPOCH);
        }
    }

    /// Marks what a document needs. It may be anything that other programs put there: so it is read by the
    /// names that all OCI documents share, and what cannot be read needs only itself.
    fn mark(&self, digest: &Digest, blobs: &mut HashSet<Digest>, chains: &mut HashSet<Digest>, depth: u32) {
        if !blobs.insert(digest.clone()) || depth == 0 {
            return;
        }
        let Some(document) = self.document(digest) else { return };
        let digest_of = |d: &serde_json::Value| d.get("digest")?.as_str()?.parse::<Digest>().ok();
        let list = |key: &str| document.get(key).and_then(|l| l.as_array()).into_iter().flatten();
        for nested in list("manifests").chain(document.get("subject")).filter_map(digest_of) {
            self.mark(&nested, blobs, chains, depth - 1);
        }
        blobs.extend(list("layers").chain(list("blobs")).filter_map(digest_of));
        if let Some(config) = document.get("config").and_then(digest_of) {
            let config_document = self.document(&config);
            blobs.insert(config);
            let ids = config_document
                .as_ref()
                .and_then(|c| c.get("rootfs")?.get("diff_ids")?.as_array())
                .into_iter()
                .flatten()
                .filter_map(|id| id.as_str()?.parse::<Digest>().ok())
                .collect::<Vec<_>>();
            chains.extend(chain_ids(&ids));
        }
    }

    /// A blob as JSON, if it is that, is there, and is small.
    fn document(&self, digest: &Digest) -> Option<serde_json::Value> {
        let size = fs::symlink_metadata(self.blob_path(digest)).ok()?.len();
        let descriptor = Descriptor::new(MediaType::Descriptor, size, digest.clone());
        serde_json::from_slice(&self.read(&descriptor).ok()?).ok()
    }

    /// What lies in `blobs` or `.unpacked` by digest. What has no digest for a name is not ours.
    pub(crate) fn digests(&self, dir: &str) -> Result<Vec<(Digest, PathBuf)>> {
        let mut all = Vec::new();
        for algorithm in ["sha256", "sha512"] {
            let Ok(entries) = fs::read_dir(self.root().join(dir).join(algorithm)) else { continue };
            for entry in entries {
                let entry = entry.doing(|| format!("list {dir}/{algorithm}"))?;
                let name = format!("{algorithm}:{}", entry.file_name().to_string_lossy());
                if let Ok(digest) = name.parse() {
                    all.push((digest, entry.path()));
                }
            }
        }
        Ok(all)
    }

    fn pending(&self) -> Result<Vec<PathBuf>> {
        let dir = self.root().join(".unpacked/pending");
        let entries = fs::read_dir(&dir).doing(|| format!("list {}", dir.display()))?;
        Ok(entries.flatten().map(|e| e.path()).collect())
    }

    /// The chain ID below an unpacked layer.
    pub(crate) fn parent_of(&self, chain: &Digest) -> Option<Digest> {
        fs::read_to_string(self.unpacked_home(chain).join("parent")).ok()?.parse().ok()
    }
}

/// The bytes that a tree takes on disk, files with several names counted once.
pub fn disk_usage(dir: &Path) -> Result<u64> {
    let mut seen = BTreeSet::new();
    let mut bytes = 0;
    Root::open(dir)?.walk(Path::new("/"), &mut |visit| {
        if visit.stat.st_nlink == 1 || seen.insert((visit.stat.st_dev, visit.stat.st_ino)) {
            bytes += visit.stat.st_blocks as u64 * 512;
        }
        Ok(Next::Into)
    })?;
    Ok(bytes)
}
