//! From a container to an image: what it changed becomes a layer on those of its image (`docker commit`).

use super::{
    Engine,
    container::Container,
    disk,
    failure::{Failure, Result},
    images,
};
use oci_spec::image::{Descriptor, MediaType};
use registry::Reference;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// What is asked of a commit.
pub(crate) struct Wanted {
    pub(crate) repository: Option<String>,
    pub(crate) tag: Option<String>,
    pub(crate) author: String,
    pub(crate) comment: String,
    /// Instructions of a Dockerfile that change the configuration: `CMD ["x"]`.
    pub(crate) changes: Vec<String>,
    /// A configuration in the place of the container's.
    pub(crate) config: Option<Value>,
}

/// What of a container's configuration is an image's.
const FIELDS: &[&str] = &[
    "User",
    "ExposedPorts",
    "Env",
    "Entrypoint",
    "Cmd",
    "Volumes",
    "WorkingDir",
    "Labels",
    "StopSignal",
    "Healthcheck",
    "OnBuild",
    "Shell",
];

/// Makes the image, and returns its ID.
pub(crate) fn commit(engine: &Engine, container: &Container, wanted: Wanted) -> Result<String> {
    let target = match wanted.repository.as_deref() {
        None => None,
        Some(repository) => {
            let full = wanted.tag.as_ref().map_or(repository.to_owned(), |tag| format!("{repository}:{tag}"));
            Some(Reference::parse(&full).map_err(|e| Failure::bad(e.to_string()))?)
        }
    };
    let record = container.record();
    let parent = engine
        .store
        .image(&record.manifest)
        .map_err(|e| Failure::from(e).doing("the container's image is gone"))?;
    let upper = container.dir.join("upper");
    disk::make_dir(&upper, 0o755)?;
    let (layer, diff_id) = layers::diff::commit(&engine.store, &upper)?;

    let mut config = images::raw_config(engine, &parent)?;
    let now = super::now();
    config["created"] = now.clone().into();
    config["author"] = wanted.author.clone().into();
    config["config"] = own_config(&json!(record.config), wanted.config.as_ref());
    let mut step = json!({"created": now, "created_by": record.command().join(" ")});
    for (name, text) in [("author", &wanted.author), ("comment", &wanted.comment)] {
        if !text.is_empty() {
            step[name] = text.clone().into();
        }
    }
    push(&mut config, "history", None, step);
    push(&mut config, "rootfs", Some("diff_ids"), json!(diff_id.to_string()));
    let config =
        engine.store.put(parent.manifest.config().media_type().clone(), &serde_json::to_vec(&config)?)?;

    let mut manifest = serde_json::to_value(&parent.manifest)?;
    manifest["config"] = serde_json::to_value(&config)?;
    push(&mut manifest, "layers", None, serde_json::to_value(layer)?);
    let media_type = parent.manifest.media_type().clone().unwrap_or(MediaType::ImageManifest);
    let manifest = engine.store.put(media_type, &serde_json::to_vec(&manifest)?)?;
    let manifest = changed(engine, manifest, &wanted.changes)?;
    match &target {
        Some(name) => engine.store.tag(&name.to_string(), &manifest)?,
        None => engine.store.add(&manifest)?,
    }
    let image = engine.store.image(&manifest)?;
    engine.store.unpack(&image)?;
    let id = image.id().to_string();
    images::tell(engine, "commit", &id, &id);
    Ok(id)
}

/// The container's configuration, less what is the container's own, and what the request says instead.
fn own_config(container: &Value, request: Option<&Value>) -> Value {
    let mut config = Map::new();
    for source in [Some(container), request].into_iter().flatten() {
        for name in FIELDS {
            let empty = |v: &Value| v.is_null() || *v == json!("") || *v == json!([]) || *v == json!({});
            if let Some(value) = source.get(name).filter(|v| !empty(v)) {
                config.insert((*name).to_owned(), value.clone());
            }
        }
    }
    config.into()
}

/// Adds to a list of a document, which is made if it is not there.
fn push(document: &mut Value, name: &str, inner: Option<&str>, value: Value) {
    let mut list = &mut document[name];
    if let Some(inner) = inner {
        list = &mut list[inner];
    }
    match list {
        Value::Array(list) => list.push(value),
        other => *other = json!([value]),
    }
}

/// An image that is in nobody's list yet, with these instructions' changes to its configuration.
pub(crate) fn changed(engine: &Engine, manifest: Descriptor, changes: &[String]) -> Result<Descriptor> {
    if changes.is_empty() {
        return Ok(manifest);
    }
    // Listed at once, so that nothing collects it while the changes are made on it.
    engine.store.add(&manifest)?;
    let changed = with_changes(engine, &manifest, changes);
    engine.store.remove(manifest.digest())?;
    changed
}

/// `--change`: the builder of chapter 4 knows what the instructions mean.
fn with_changes(engine: &Engine, base: &Descriptor, changes: &[String]) -> Result<Descriptor> {
    let scratch = tempfile::tempdir_in(engine.data_root.join("tmp"))?;
    let text = format!("FROM committed\n{}\n", changes.join("\n"));
    for change in changes {
        let word = change.split_ascii_whitespace().next().unwrap_or_default().to_ascii_uppercase();
        let known = [
            "CMD",
            "ENTRYPOINT",
            "ENV",
            "EXPOSE",
            "LABEL",
            "ONBUILD",
            "STOPSIGNAL",
            "USER",
            "VOLUME",
            "WORKDIR",
            "HEALTHCHECK",
        ];
        if !known.contains(&word.as_str()) || change.contains('\n') {
            return Err(Failure::bad(format!("{word} is not a valid change command")));
        }
    }
    let build = dockerfile::Build {
        context: scratch.path(),
        dockerfile: &text,
        ignore: None,
        args: BTreeMap::new(),
        target: None,
        labels: BTreeMap::new(),
        secrets: BTreeMap::new(),
        no_cache: true,
        network: dockerfile::Network::None,
        scratch: scratch.path(),
        resolve: &|_| engine.store.image(base).map_err(|e| e.to_string()),
    };
    Ok(dockerfile::build(&engine.store, &build, &mut |_| {})?)
}
