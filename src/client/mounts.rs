//! `-v /host:/there:ro` and `--mount type=bind,source=/host,target=/there,readonly`.

use super::size;
use anyhow::{Context, Result, anyhow, bail};
use bollard_stubs::models::{
    Mount, MountBindOptions, MountBindOptionsPropagationEnum, MountTmpfsOptions, MountType,
    MountVolumeOptions, MountVolumeOptionsDriverConfig,
};

/// What `-v` asks for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Volumes {
    /// `source:target[:options]`, the source a path or a volume's name.
    pub(crate) binds: Vec<String>,
    /// Targets of volumes without a name.
    pub(crate) anonymous: Vec<String>,
}

/// Reads all `-v`. A relative source is one of the client's, so it is made absolute here.
pub(crate) fn volumes(flags: &[String]) -> Result<Volumes> {
    let mut volumes = Volumes::default();
    for text in flags {
        let (source, rest) = match text.split_once(':') {
            None => {
                if !text.starts_with('/') {
                    bail!(
                        "invalid volume specification: '{text}': the path in the container must be absolute"
                    );
                }
                volumes.anonymous.push(text.clone());
                continue;
            }
            Some(parts) => parts,
        };
        let target = rest.split(':').next().unwrap_or_default();
        if source.is_empty() || rest.matches(':').count() > 1 || !target.starts_with('/') {
            bail!("invalid volume specification: '{text}': write it as SOURCE:/TARGET[:OPTIONS]");
        }
        volumes.binds.push(format!("{}:{rest}", absolute(source)?));
    }
    Ok(volumes)
}

/// A path of the client's, absolute; a volume's name as it is.
fn absolute(source: &str) -> Result<String> {
    let relative = source == "." || source == ".." || source.starts_with("./") || source.starts_with("../");
    if !relative {
        return Ok(source.to_owned());
    }
    let path = std::path::absolute(source).with_context(|| format!("no absolute path of {source}"))?;
    path.into_os_string().into_string().map_err(|_| anyhow!("the path {source} is not UTF-8"))
}

/// Reads one `--mount`.
pub(crate) fn mount(text: &str) -> Result<Mount> {
    let invalid = |why: String| anyhow!("invalid argument \"{text}\" for --mount: {why}");
    let mut mount = Mount { typ: Some(MountType::VOLUME), ..Mount::default() };
    let mut bind = MountBindOptions::default();
    let mut volume = MountVolumeOptions::default();
    let mut driver = MountVolumeOptionsDriverConfig::default();
    let mut tmpfs = MountTmpfsOptions::default();
    for field in text.split(',') {
        let (key, value) = field.split_once('=').unwrap_or((field, ""));
        let yes = || match value {
            "" | "1" | "true" => Ok(true),
            "0" | "false" => Ok(false),
            _ => Err(invalid(format!("invalid value for {key}: {value}"))),
        };
        match key.to_lowercase().as_str() {
            "type" => {
                mount.typ = Some(match value.to_lowercase().as_str() {
                    "bind" => MountType::BIND,
                    "volume" => MountType::VOLUME,
                    "tmpfs" => MountType::TMPFS,
                    _ => return Err(invalid(format!("the type '{value}' is none of bind, volume, tmpfs"))),
                });
            }
            "source" | "src" => mount.source = Some(absolute(value)?),
            "target" | "dst" | "destination" => mount.target = Some(value.to_owned()),
            "readonly" | "ro" => mount.read_only = Some(yes()?),
            "bind-propagation" => {
                let known = serde_json::from_value::<MountBindOptionsPropagationEnum>(value.into());
                bind.propagation =
                    Some(known.map_err(|_| invalid(format!("invalid propagation '{value}'")))?);
            }
            "bind-nonrecursive" => bind.non_recursive = Some(yes()?),
            "bind-recursive" => match value {
                "enabled" | "writable" => bind.read_only_non_recursive = Some(value == "writable"),
                "disabled" => bind.non_recursive = Some(true),
                "readonly" => bind.read_only_force_recursive = Some(true),
                _ => return Err(invalid(format!("invalid value for {key}: {value}"))),
            },
            "volume-nocopy" => volume.no_copy = Some(yes()?),
            "volume-subpath" => volume.subpath = Some(value.to_owned()),
            "volume-driver" => driver.name = Some(value.to_owned()),
            "volume-opt" | "volume-label" => {
                let (k, v) =
                    value.split_once('=').ok_or_else(|| invalid(format!("{key} wants key=value")))?;
                let map = if key == "volume-opt" { &mut driver.options } else { &mut volume.labels };
                map.get_or_insert_default().insert(k.to_owned(), v.to_owned());
            }
            "tmpfs-size" => tmpfs.size_bytes = Some(size::parse(value)?),
            "tmpfs-mode" => {
                let mode =
                    i64::from_str_radix(value, 8).map_err(|_| invalid(format!("invalid mode {value}")))?;
                tmpfs.mode = Some(mode);
            }
            _ => return Err(invalid(format!("unexpected key '{key}'"))),
        }
    }
    if driver != MountVolumeOptionsDriverConfig::default() {
        volume.driver_config = Some(driver);
    }
    mount.bind_options = (bind != MountBindOptions::default()).then_some(bind);
    mount.volume_options = (volume != MountVolumeOptions::default()).then_some(volume);
    mount.tmpfs_options = (tmpfs != MountTmpfsOptions::default()).then_some(tmpfs);
    if mount.target.as_deref().unwrap_or_default().is_empty() {
        return Err(invalid("target is required".into()));
    }
    let bound = mount.typ == Some(MountType::BIND);
    if bound && mount.source.is_none() {
        return Err(invalid("a bind needs a source".into()));
    }
    if (mount.bind_options.is_some() && !bound)
        || (mount.volume_options.is_some() && mount.typ != Some(MountType::VOLUME))
        || (mount.tmpfs_options.is_some() && mount.typ != Some(MountType::TMPFS))
    {
        return Err(invalid("options of one type with a mount of another".into()));
    }
    Ok(mount)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_are_named_anonymous_or_directories() {
        let flags = ["/data", "/srv:/data:ro", "name:/data", "./x:/x"].map(String::from);
        let volumes = volumes(&flags).unwrap();
        assert_eq!(volumes.anonymous, ["/data"]);
        assert_eq!(volumes.binds[..2], ["/srv:/data:ro", "name:/data"]);
        assert!(volumes.binds[2].starts_with('/') && volumes.binds[2].ends_with("/x:/x"), "{volumes:?}");
        for wrong in ["data", "/srv:data", ":/data", "a:/b:ro:z", "/a:"] {
            assert!(super::volumes(&[wrong.to_owned()]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn mounts_say_their_type_and_options() {
        let text = "type=bind,src=/srv,dst=/data,readonly,bind-propagation=rslave";
        let json = serde_json::to_value(mount(text).unwrap()).unwrap();
        assert_eq!(
            json,
            serde_json::json!({
                "Type": "bind", "Source": "/srv", "Target": "/data", "ReadOnly": true,
                "BindOptions": {"Propagation": "rslave"},
            })
        );
        let tmpfs = mount("type=tmpfs,target=/run,tmpfs-size=64m,tmpfs-mode=1777").unwrap();
        assert_eq!(tmpfs.tmpfs_options.unwrap().mode, Some(0o1777));
        for (wrong, why) in [
            ("type=bind,target=/x", "needs a source"),
            ("source=x", "target is required"),
            ("type=nfs,target=/x", "none of bind"),
            ("target=/x,colour=red", "unexpected key"),
            ("type=tmpfs,target=/x,volume-nocopy", "another"),
        ] {
            assert!(mount(wrong).unwrap_err().to_string().contains(why), "{wrong}");
        }
    }
}
