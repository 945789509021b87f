//! `-v`, `--mount`, `--tmpfs`, `VOLUME` and `--volumes-from`: from what a client asks to what is mounted.

use super::{
    Engine,
    failure::{Failure, Result},
    plan::Bind,
};
use bollard_stubs::models::{ContainerCreateBody, HostConfig, Mount, MountPoint, MountType};
use std::{
    collections::HashMap,
    path::{Component, Path},
};

/// All mounts of a new container, as `docker inspect` lists them. Volumes that are not there yet are made.
pub(crate) fn resolve(
    engine: &Engine,
    config: &ContainerCreateBody,
    host: &HostConfig,
) -> Result<Vec<MountPoint>> {
    let mut points: Vec<MountPoint> = Vec::new();
    for from in host.volumes_from.iter().flatten() {
        let (name, mode) = from.split_once(':').unwrap_or((from, ""));
        for mut point in engine.container(name)?.record().mounts {
            if mode == "ro" {
                point.rw = Some(false);
            }
            points.push(point);
        }
    }
    for bind in host.binds.iter().flatten() {
        let point = from_bind(engine, bind)?;
        add(&mut points, point)?;
    }
    for mount in host.mounts.iter().flatten() {
        let point = from_mount(engine, mount)?;
        add(&mut points, point)?;
    }
    for target in config.volumes.iter().flatten() {
        // A volume of the image, unless something is mounted there anyway. `-v a:/b` in the old list form, too.
        let target = target.trim_end_matches('/');
        let tmpfs = host.tmpfs.iter().flatten().any(|(t, _)| t.trim_end_matches('/') == target);
        if target.is_empty() || tmpfs || points.iter().any(|p| p.destination.as_deref() == Some(target)) {
            continue;
        }
        absolute(target)?;
        points.push(volume(engine, "", target, true, HashMap::new(), "")?);
    }
    Ok(points)
}

fn add(points: &mut Vec<MountPoint>, point: MountPoint) -> Result<()> {
    if points.iter().any(|p| p.destination == point.destination && p.source == point.source) {
        return Err(Failure::bad(format!(
            "Duplicate mount point: {}",
            point.destination.unwrap_or_default()
        )));
    }
    points.retain(|p| p.destination != point.destination);
    points.push(point);
    Ok(())
}

/// A target has to be absolute and not `/`. That it stays inside the root is the runtime's care.
fn absolute(target: &str) -> Result<()> {
    if !target.starts_with('/') {
        return Err(Failure::bad(format!("invalid mount path: '{target}' mount path must be absolute")));
    }
    let clean = Path::new(target).components().filter(|c| matches!(c, Component::Normal(_))).count();
    if clean == 0 {
        return Err(Failure::bad("invalid specification: destination can't be '/'"));
    }
    Ok(())
}

/// `SOURCE:TARGET[:OPTIONS]`
fn from_bind(engine: &Engine, text: &str) -> Result<MountPoint> {
    let bad = || Failure::bad(format!("invalid volume specification: '{text}'"));
    let mut parts = text.split(':');
    let (source, target, mode) =
        (parts.next().unwrap_or_default(), parts.next(), parts.next().unwrap_or_default());
    if parts.next().is_some() {
        return Err(bad());
    }
    let (source, target) = match target {
        Some(target) => (source, target),
        None => ("", source),
    };
    let target = if target.len() > 1 { target.trim_end_matches('/') } else { target };
    absolute(target).map_err(|e| e.doing(bad().message))?;
    let mut propagation = "rprivate";
    let mut rw = true;
    for option in mode.split(',').filter(|o| !o.is_empty()) {
        match option {
            "ro" => rw = false,
            "rw" | "nocopy" | "consistent" | "cached" | "delegated" => {}
            // Labels of SELinux: there is nothing to relabel without it.
            "z" | "Z" => {}
            "shared" | "rshared" | "slave" | "rslave" | "private" | "rprivate" => propagation = option,
            _ => return Err(Failure::bad(format!("invalid mode: {mode}"))),
        }
    }
    if !source.starts_with('/') {
        return volume(engine, source, target, rw, HashMap::new(), mode);
    }
    // -v makes a directory that is not there; --mount refuses.
    if !Path::new(source).exists() {
        super::disk::make_dir(Path::new(source), 0o755)?;
    }
    Ok(bind(source, target, rw, mode, propagation))
}

fn bind(source: &str, target: &str, rw: bool, mode: &str, propagation: &str) -> MountPoint {
    MountPoint {
        typ: Some("bind".into()),
        source: Some(source.into()),
        destination: Some(target.into()),
        mode: Some(mode.into()),
        rw: Some(rw),
        propagation: Some(propagation.into()),
        ..MountPoint::default()
    }
}

fn volume(
    engine: &Engine,
    name: &str,
    target: &str,
    rw: bool,
    labels: HashMap<String, String>,
    mode: &str,
) -> Result<MountPoint> {
    let (volume, new) = engine.volumes.create(name, labels, HashMap::new())?;
    if new {
        engine.events.emit("volume", "create", &volume.name, serde_json::json!({"driver": "local"}));
    }
    Ok(MountPoint {
        typ: Some("volume".into()),
        name: Some(volume.name),
        source: Some(volume.mountpoint),
        destination: Some(target.into()),
        driver: Some("local".into()),
        mode: Some(if mode.is_empty() { "z".into() } else { mode.into() }),
        rw: Some(rw),
        propagation: Some(String::new()),
    })
}

fn from_mount(engine: &Engine, mount: &Mount) -> Result<MountPoint> {
    let target = mount.target.as_deref().unwrap_or_default();
    let target = if target.len() > 1 { target.trim_end_matches('/') } else { target };
    let source = mount.source.as_deref().unwrap_or_default();
    let kind = mount.typ.unwrap_or(MountType::VOLUME);
    let invalid = |why: &str| Failure::bad(format!("invalid mount config for type \"{kind}\": {why}"));
    absolute(target).map_err(|e| invalid(&e.message))?;
    let rw = !mount.read_only.unwrap_or_default();
    match kind {
        MountType::BIND => {
            if !source.starts_with('/') {
                return Err(invalid("invalid mount path: must be absolute"));
            }
            let options = mount.bind_options.clone().unwrap_or_default();
            if !Path::new(source).exists() {
                if !options.create_mountpoint.unwrap_or_default() {
                    return Err(invalid(&format!("bind source path does not exist: {source}")));
                }
                super::disk::make_dir(Path::new(source), 0o755)?;
            }
            let propagation = options.propagation.map(|p| p.to_string()).filter(|p| !p.is_empty());
            Ok(bind(source, target, rw, "", propagation.as_deref().unwrap_or("rprivate")))
        }
        MountType::VOLUME => {
            let labels = mount.volume_options.as_ref().and_then(|o| o.labels.clone()).unwrap_or_default();
            volume(engine, source, target, rw, labels, "")
        }
        MountType::TMPFS => {
            let options = mount.tmpfs_options.clone().unwrap_or_default();
            let mut mode = Vec::new();
            if let Some(size) = options.size_bytes.filter(|s| *s > 0) {
                mode.push(format!("size={size}"));
            }
            if let Some(bits) = options.mode.filter(|m| *m > 0) {
                mode.push(format!("mode={bits:o}"));
            }
            Ok(MountPoint {
                typ: Some("tmpfs".into()),
                source: Some(String::new()),
                destination: Some(target.into()),
                mode: Some(mode.join(",")),
                rw: Some(rw),
                ..MountPoint::default()
            })
        }
        other => Err(invalid(&format!("{other} mounts are not supported"))),
    }
}

/// What a monitor has to mount for them.
pub(crate) fn plan(points: &[MountPoint], host: &HostConfig) -> Vec<Bind> {
    let text = |t: &Option<String>| t.clone().unwrap_or_default();
    let mut binds: Vec<Bind> = points
        .iter()
        .map(|point| {
            let (kind, mode) = (text(&point.typ), text(&point.mode));
            let writable = if point.rw == Some(false) { "ro" } else { "rw" };
            let target = text(&point.destination).into();
            if kind == "tmpfs" {
                let mut options = tmpfs_options(&mode);
                options.push(writable.into());
                return Bind { kind, target, options, ..Bind::default() };
            }
            let propagation = text(&point.propagation);
            let propagation = if propagation.is_empty() { "rprivate".into() } else { propagation };
            let copy_up = kind == "volume" && !mode.split(',').any(|o| o == "nocopy");
            let options = vec!["rbind".into(), writable.into(), propagation];
            Bind { kind: "bind".into(), source: text(&point.source).into(), target, options, copy_up }
        })
        .collect();
    for (target, options) in host.tmpfs.iter().flatten() {
        let options = tmpfs_options(options);
        binds.push(Bind { kind: "tmpfs".into(), target: target.into(), options, ..Bind::default() });
    }
    // A mount below another comes after it, or the other would hide it.
    binds.sort_by_key(|b| b.target.components().count());
    binds
}

/// docker's defaults for a tmpfs, and what is asked after them: the last word counts.
fn tmpfs_options(asked: &str) -> Vec<String> {
    ["noexec", "nosuid", "nodev"]
        .into_iter()
        .chain(asked.split(',').filter(|o| !o.is_empty()))
        .map(str::to_owned)
        .collect()
}
