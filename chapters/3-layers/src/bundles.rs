//! `layers unpack` and `layers commit`: an image as a bundle, and back.

use anyhow::{Context, Result, bail};
use layers::{
    Image, Store,
    bundle::{self, Overrides},
    compare::{commit_changes, compare},
    diff::{self, Kind},
    root::Root,
    stack::Stack,
};
use oci_spec::{image::Descriptor, runtime::Spec};
use std::{fs, path::Path, path::PathBuf};

/// Beside rootfs and config.json: the manifest that the bundle was made of.
const ORIGIN: &str = "layers.json";

/// Makes the bundle. An ordinary user gets one that a rootless runtime starts: everything is theirs.
pub(crate) fn unpack(store: &Store, name: &str, bundle: &Path) -> Result<()> {
    let image = super::image(store, name)?;
    fs::create_dir(bundle).with_context(|| format!("make the bundle {}", bundle.display()))?;
    let rootfs = bundle.join("rootfs");
    fs::create_dir(&rootfs).with_context(|| format!("make {}", rootfs.display()))?;
    store.unpack_into(&image, &rootfs)?;

    let me = (nix::unistd::geteuid(), nix::unistd::getegid());
    let mut spec =
        if me.0.is_root() { Spec::default() } else { Spec::rootless(me.0.as_raw(), me.1.as_raw()) };
    if let Some(root) = spec.root_mut() {
        root.set_path(PathBuf::from("rootfs")).set_readonly(Some(false));
    }
    bundle::apply(&mut spec, &image.config, &Overrides::default(), &Root::open(&rootfs)?)?;
    write(&bundle.join("config.json"), &spec)?;
    write(&bundle.join(ORIGIN), &image.descriptor)
}

fn write(path: &Path, document: &impl serde::Serialize) -> Result<()> {
    fs::write(path, serde_json::to_vec_pretty(document)?).with_context(|| format!("write {}", path.display()))
}

/// What was changed: a bundle knows its image; an upper directory needs to be told.
fn origin(store: &Store, changed: &Path, onto: Option<Image>) -> Result<(bool, Option<Image>)> {
    match fs::read(changed.join(ORIGIN)) {
        Ok(_) if onto.is_some() => {
            bail!("{} is a bundle, which knows its image: leave out --onto", changed.display())
        }
        Ok(bytes) => {
            let descriptor: Descriptor = serde_json::from_slice(&bytes)
                .with_context(|| format!("read {}/{ORIGIN}", changed.display()))?;
            Ok((true, Some(store.image(&descriptor)?)))
        }
        Err(_) if changed.join("config.json").exists() && changed.join("rootfs").is_dir() => {
            bail!(
                "{} is a bundle that `layers unpack` did not make: what it was made of is not known",
                changed.display()
            )
        }
        Err(_) => Ok((false, onto)),
    }
}

/// The new image, without a name yet.
pub(crate) fn commit(
    store: &Store,
    changed: &Path,
    onto: Option<Image>,
    message: &str,
) -> Result<Descriptor> {
    let (is_bundle, base) = origin(store, changed, onto)?;
    let layer = match (&base, is_bundle) {
        (Some(base), true) => {
            let root = Root::open(&changed.join("rootfs"))?;
            let changes = compare(&root, &Stack::open(&store.unpack(base)?)?)?;
            commit_changes(store, &root, &changes)?
        }
        _ => diff::commit(store, changed)?,
    };
    // No time: the same change to the same image is the same image.
    let history = serde_json::json!({ "created_by": message });
    Ok(store.write_on(base.as_ref(), Some(layer), history, |_| ())?)
}

/// As `docker diff` lists them.
pub(crate) fn changes(store: &Store, changed: &Path, onto: Option<Image>) -> Result<Vec<(Kind, PathBuf)>> {
    let (is_bundle, base) = origin(store, changed, onto)?;
    let lower = base.as_ref().map(|base| store.unpack(base)).transpose()?.unwrap_or_default();
    if is_bundle {
        let root = Root::open(&changed.join("rootfs"))?;
        let changes = compare(&root, &Stack::open(&lower)?)?;
        return Ok(changes.into_iter().map(|(path, kind)| (kind, path)).collect());
    }
    Ok(diff::changes(changed, &lower)?)
}
