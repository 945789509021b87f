//! A stage while it is built: a configuration, layers, and what the next instruction needs to know.

use crate::{
    Error, Result,
    cache::{self, Layer, Step},
    config::{Document, History},
    error::Doing,
    expand,
    request::Event,
    rootfs::Change,
    session::Session,
};
use layers::{
    Image,
    image::chain_ids,
    store::{MAX_DOCUMENT, digest},
};
use oci_spec::{
    image::{Descriptor, Digest, ImageManifest, ImageManifestBuilder, MediaType},
    runtime::Mount,
};
use sha2::{Digest as _, Sha256};
use std::{collections::BTreeMap, path::PathBuf, rc::Rc};

/// A stage, as far as it is built.
#[derive(Clone)]
pub(crate) struct Stage<'s> {
    pub(crate) session: &'s Session<'s>,
    /// The configuration so far.
    pub(crate) config: Document,
    /// The blobs of its layers, bottom first.
    pub(crate) layers: Vec<Descriptor>,
    /// The `ARG`s so far. One without a value hides nothing and is nothing.
    pub(crate) args: BTreeMap<String, Option<String>>,
    /// A `CMD` stood in this stage: an `ENTRYPOINT` after it does not clear it.
    pub(crate) cmd_set: bool,
    /// `ONBUILD` instructions of the base that are still to be executed.
    pub(crate) triggers: Vec<String>,
    /// The image that it still is, as long as nothing was done to it.
    pub(crate) untouched: Option<Descriptor>,
    /// The cache key of all this.
    pub(crate) key: String,
    /// The unpacked layers, topmost first; not known before somebody needs them. When all comes from the
    /// cache, nothing is ever unpacked.
    lower: Option<Vec<PathBuf>>,
}

impl<'s> Stage<'s> {
    /// A stage that starts from nothing.
    pub(crate) fn scratch(session: &'s Session<'s>) -> Stage<'s> {
        let config = Document::scratch();
        let key = cache::key([b"scratch".as_slice(), config.architecture.as_bytes()]);
        let (layers, args, triggers) = Default::default();
        Stage { session, config, layers, args, cmd_set: false, triggers, untouched: None, key, lower: None }
    }

    /// A stage that starts from another, which stays as it is.
    pub(crate) fn on(base: &Rc<Stage<'s>>) -> Stage<'s> {
        Stage { args: BTreeMap::new(), cmd_set: false, ..Stage::clone(base) }
    }

    /// A stage that starts from an image.
    pub(crate) fn from_image(session: &'s Session<'s>, image: &Image, name: &str) -> Result<Stage<'s>> {
        let bytes = session.store.read(image.manifest.config())?;
        let config = Document::from_base(&bytes, name)?;
        let layers: Vec<_> = image.manifest.layers().iter().map(standard).collect();
        let digests = layers.iter().map(|l| l.digest().as_ref().as_bytes());
        let key = cache::key(std::iter::once(image.id().as_ref().as_bytes()).chain(digests));
        let (args, triggers, untouched) = (BTreeMap::new(), Vec::new(), Some(image.descriptor.clone()));
        Ok(Stage { session, config, layers, args, cmd_set: false, triggers, untouched, key, lower: None })
    }

    // ---- variables

    /// The value of a variable: `ENV` before `ARG`.
    pub(crate) fn variable(&self, name: &str) -> Option<String> {
        let env = self.config.config.variable(name).map(str::to_owned);
        env.or_else(|| self.args.get(name).cloned().flatten())
    }

    /// Expands the variables of a word.
    pub(crate) fn expand(&self, word: &str) -> Result<String> {
        expand::word(word, self.session.escape, &|name| self.variable(name))
    }

    /// Expands to words, of which a variable may hold many.
    pub(crate) fn expand_words(&self, text: &str) -> Result<Vec<String>> {
        expand::words(text, self.session.escape, &|name| self.variable(name))
    }

    /// Expands the variables of a document, in which quotes are text.
    pub(crate) fn expand_document(&self, text: &str) -> Result<String> {
        expand::document(text, self.session.escape, &|name| self.variable(name))
    }

    // ---- results

    /// Ends an instruction that only changed the configuration. `text` is what `docker history` shows.
    pub(crate) fn record(&mut self, text: &str) -> Result<()> {
        // No command ever ran, says the `#(nop)`: a comment, to the shell that docker once started for it.
        let created_by = format!("{} #(nop)  {text}", self.config.config.shell().join(" "));
        self.commit(&created_by, &[], |_| Ok(None))
    }

    /// Ends an instruction: from the cache, or by `make`, which returns the layer if files changed.
    /// `inputs` is all that the result depends on besides the stage so far and `created_by`.
    pub(crate) fn commit(
        &mut self,
        created_by: &str,
        inputs: &[&str],
        make: impl FnOnce(&mut Stage<'s>) -> Result<Option<Layer>>,
    ) -> Result<()> {
        let session = self.session;
        let key = self.step_key(created_by, inputs)?;
        let found = (!session.build.no_cache).then(|| session.cache.get(&key, session.store)).flatten();
        let step = match found {
            Some(step) => {
                session.tell(Event::Cached);
                // Its layer is in the store; it is unpacked if somebody needs it.
                if step.layer.is_some() {
                    self.lower = None;
                }
                step
            }
            None => {
                let step = Step { layer: make(self)?, created: session.now()? };
                session.cache.put(&key, &step)?;
                step
            }
        };
        self.push(step, created_by, &key)?;
        session.tell(Event::Image(self.id()?.get(..12).unwrap_or_default()));
        Ok(())
    }

    /// The cache key of an instruction that is executed now: everything that its result depends on.
    fn step_key(&self, created_by: &str, inputs: &[&str]) -> Result<String> {
        let config = serde_json::to_vec(&self.config.config).doing(|| "write the configuration".into())?;
        let epoch = self.session.epoch()?.map(|e| e.to_string()).unwrap_or_default();
        let parts = [self.key.as_bytes(), &config, created_by.as_bytes(), epoch.as_bytes()];
        Ok(cache::key(parts.into_iter().chain(inputs.iter().map(|i| i.as_bytes()))))
    }

    /// Puts what an instruction made on top.
    fn push(&mut self, step: Step, created_by: &str, key: &str) -> Result<()> {
        let digest = step.layer.as_ref().map_or("", |layer| layer.descriptor.digest().as_ref());
        // By what it made too: were it made again, and differently, all that follows would be stale.
        self.key = cache::key([key.as_bytes(), digest.as_bytes()]);
        self.untouched = None;
        self.config.created = Some(step.created.clone());
        self.config.history.push(History {
            created: Some(step.created),
            created_by: Some(created_by.to_owned()),
            empty_layer: step.layer.is_none(),
            ..History::default()
        });
        if let Some(layer) = step.layer {
            self.config.rootfs.diff_ids.push(layer.diff_id);
            self.layers.push(layer.descriptor);
        }
        Ok(())
    }

    /// Lets `change` change the stage's files, and makes a layer of what it changed.
    pub(crate) fn change(
        &mut self,
        change: impl FnOnce(&mut Stage<'s>, &Change) -> Result<()>,
    ) -> Result<Option<Layer>> {
        self.change_under(&[], change)
    }

    /// The same with things mounted on top, whose mount points are no part of the layer.
    pub(crate) fn change_under(
        &mut self,
        mounts: &[Mount],
        change: impl FnOnce(&mut Stage<'s>, &Change) -> Result<()>,
    ) -> Result<Option<Layer>> {
        let lower = self.lower()?;
        let mounted = Change::begin_under(self.session, &lower, mounts)?;
        change(self, &mounted)?;
        let Some((layer, upper)) = mounted.commit(self)? else { return Ok(None) };
        // What was written is the unpacked layer too: nobody need unpack the blob.
        let mut chain = self.image()?.diff_ids();
        let parent = chain_ids(&chain).pop();
        chain.extend(layer.diff_id.parse::<Digest>());
        let Some(id) = chain_ids(&chain).pop() else { return Ok(Some(layer)) };
        let store = self.session.store;
        let top = if store.adopt(&upper, &id, parent.as_ref())? { store.unpacked_path(&id) } else { upper };
        self.lower = Some(std::iter::once(top).chain(lower).collect());
        Ok(Some(layer))
    }

    /// The directories of its layers, topmost first.
    pub(crate) fn lower(&mut self) -> Result<Vec<PathBuf>> {
        match &self.lower {
            Some(lower) => Ok(lower.clone()),
            None => {
                let lower = self.session.store.unpack(&self.image()?)?;
                self.lower = Some(lower.clone());
                Ok(lower)
            }
        }
    }

    // ---- as an image

    /// The image ID: the digest of the configuration, in hexadecimal.
    pub(crate) fn id(&self) -> Result<String> {
        let bytes = self.config.to_bytes()?;
        // Variables multiply what a Dockerfile holds, and nobody could read the image.
        if bytes.len() as u64 > MAX_DOCUMENT {
            let reason = format!("the image's configuration is longer than {MAX_DOCUMENT} bytes");
            return Err(Error::Plan(reason));
        }
        Ok(cache::hex(&Sha256::digest(bytes)))
    }

    /// The image as it would be stored now.
    pub(crate) fn image(&self) -> Result<Image> {
        let bytes = self.config.to_bytes()?;
        let reading = || "read the configuration".to_owned();
        let config = serde_json::from_slice(&bytes).doing(reading)?;
        let raw_config = serde_json::from_slice(&bytes).doing(reading)?;
        let manifest = self.manifest(descriptor(MediaType::ImageConfig, &bytes)?)?;
        let bytes = serde_json::to_vec(&manifest).doing(|| "write the manifest".into())?;
        Ok(Image { descriptor: descriptor(MediaType::ImageManifest, &bytes)?, manifest, config, raw_config })
    }

    /// Stores it: the configuration, then the manifest that names it. (The layers are there.)
    pub(crate) fn store(&self) -> Result<Descriptor> {
        if let Some(base) = &self.untouched {
            return Ok(base.clone());
        }
        let store = self.session.store;
        let config = store.put(MediaType::ImageConfig, &self.config.to_bytes()?)?;
        let manifest = self.manifest(config)?;
        let bytes = serde_json::to_vec(&manifest).doing(|| "write the manifest".into())?;
        Ok(store.put(MediaType::ImageManifest, &bytes)?)
    }

    fn manifest(&self, config: Descriptor) -> Result<ImageManifest> {
        ImageManifestBuilder::default()
            .schema_version(2u32)
            .media_type(MediaType::ImageManifest)
            .config(config)
            .layers(self.layers.clone())
            .build()
            .map_err(|e| Error::Plan(format!("make the manifest: {e}")))
    }
}

/// A layer with the OCI's name for its media type: an OCI manifest names no docker types.
fn standard(layer: &Descriptor) -> Descriptor {
    let mut layer = layer.clone();
    let media_type = match layer.media_type().to_string().as_str() {
        "application/vnd.docker.image.rootfs.diff.tar.gzip" => MediaType::ImageLayerGzip,
        "application/vnd.docker.image.rootfs.diff.tar" => MediaType::ImageLayer,
        "application/vnd.docker.image.rootfs.diff.tar.zstd" => MediaType::ImageLayerZstd,
        _ => return layer,
    };
    layer.set_media_type(media_type);
    layer
}

fn descriptor(media_type: MediaType, bytes: &[u8]) -> Result<Descriptor> {
    Ok(Descriptor::new(media_type, bytes.len() as u64, digest(bytes)?))
}
