//! From an image to an OCI runtime bundle (image-spec, conversion.md).
//!
//! An image says what to run, a bundle how: a root directory and a `config.json`. This fills in the part
//! of `config.json` that the image knows.

use crate::{Result, root::Root, users};
use oci_spec::{
    image::ImageConfiguration,
    runtime::{Process, Spec},
};
use std::{collections::HashMap, path::PathBuf};

/// The PATH of an image that sets none: docker's.
pub const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What the caller asks instead of the image's own.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// `--entrypoint`; `Some(vec![])` clears it.
    pub entrypoint: Option<Vec<String>>,
    /// The words after the image.
    pub cmd: Option<Vec<String>>,
    /// `NAME=value`; replaces and adds.
    pub env: Vec<String>,
    /// `-w`.
    pub cwd: Option<String>,
    /// `-u`: `user[:group]`, by name or number.
    pub user: Option<String>,
}

/// Applies an image's configuration and the overrides to `spec.process` (arguments, environment, working
/// directory, user with its additional groups). Names are looked up in the root's own /etc/passwd and
/// /etc/group. Ids beyond 32 bits are refused (CVE-2024-40635).
pub fn apply(spec: &mut Spec, config: &ImageConfiguration, overrides: &Overrides, root: &Root) -> Result<()> {
    let image = config.config().clone().unwrap_or_default();
    let mut process = spec.process().clone().unwrap_or_default();

    process.set_args(Some(args(image.entrypoint().clone(), image.cmd().clone(), overrides)));

    let cwd = overrides.cwd.clone().or(image.working_dir().clone()).filter(|cwd| !cwd.is_empty());
    process.set_cwd(PathBuf::from("/").join(cwd.unwrap_or_default()));

    let wanted = overrides.user.clone().or(image.user().clone()).unwrap_or_default();
    let user = users::find(root, &wanted)?;
    let home = user.home.clone();
    set_user(&mut process, user);

    let mut env = vec![PATH.to_owned()];
    env.extend(image.env().iter().flatten().cloned());
    env.extend(overrides.env.iter().cloned());
    let mut env = last_wins(env);
    if !env.iter().any(|line| line.starts_with("HOME=")) {
        env.push(format!("HOME={}", home.as_deref().unwrap_or("/")));
    }
    process.set_env(Some(env));
    spec.set_process(Some(process));

    let mut annotations = spec.annotations().clone().unwrap_or_default();
    annotate(&mut annotations, config);
    spec.set_annotations(Some(annotations));
    Ok(())
}

/// The program and its arguments: the entrypoint, then the command. Another entrypoint makes the image's
/// command meaningless, so that goes too.
fn args(entrypoint: Option<Vec<String>>, cmd: Option<Vec<String>>, overrides: &Overrides) -> Vec<String> {
    let (entrypoint, cmd) = match &overrides.entrypoint {
        Some(other) => (other.clone(), Vec::new()),
        None => (entrypoint.unwrap_or_default(), cmd.unwrap_or_default()),
    };
    entrypoint.into_iter().chain(overrides.cmd.clone().unwrap_or(cmd)).collect()
}

fn set_user(process: &mut Process, user: users::User) {
    let mut spec_user = process.user().clone();
    // The primary group is among the supplementary ones too: without that, a process could drop it from
    // its set, and get at what is closed to that group (CVE-2022-36109).
    let mut groups = vec![user.gid];
    groups.extend(user.groups.into_iter().filter(|gid| *gid != user.gid));
    spec_user.set_uid(user.uid).set_gid(user.gid).set_additional_gids(Some(groups));
    process.set_user(spec_user);
}

/// Of lines with the same name the last, at the place of the first. A name without `=` unsets, as docker's
/// `-e NAME` does for a variable that the client does not have.
fn last_wins(env: Vec<String>) -> Vec<String> {
    let mut order: Vec<String> = Vec::new();
    let mut values: HashMap<String, String> = HashMap::new();
    for line in env {
        let name = line.split('=').next().unwrap_or_default().to_owned();
        if !line.contains('=') {
            values.remove(&name);
            order.retain(|other| *other != name);
            continue;
        }
        if values.insert(name.clone(), line).is_none() {
            order.push(name);
        }
    }
    order.iter().filter_map(|name| values.remove(name)).collect()
}

/// What else of an image a runtime may want to know (conversion.md, "Annotation Fields"). What the image's
/// labels say of the same wins.
fn annotate(annotations: &mut HashMap<String, String>, config: &ImageConfiguration) {
    let image = config.config().as_ref();
    let mut ports = image.and_then(|c| c.exposed_ports().clone()).unwrap_or_default();
    ports.sort();
    let implicit = [
        ("os", Some(config.os().to_string())),
        ("architecture", Some(config.architecture().to_string())),
        ("variant", config.variant().clone()),
        ("os.version", config.os_version().clone()),
        ("author", config.author().clone()),
        ("created", config.created().clone()),
        ("stopSignal", image.and_then(|c| c.stop_signal().clone())),
        ("exposedPorts", (!ports.is_empty()).then(|| ports.join(","))),
    ];
    for (key, value) in implicit {
        if let Some(value) = value {
            annotations.insert(format!("org.opencontainers.image.{key}"), value);
        }
    }
    annotations.extend(image.and_then(|c| c.labels().clone()).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci_spec::image::{ConfigBuilder, ImageConfigurationBuilder};

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    fn applied(overrides: &Overrides) -> Spec {
        let dir = tempfile::tempdir().unwrap();
        let config = ConfigBuilder::default()
            .entrypoint(words("/entry"))
            .cmd(words("a b"))
            .env(words("A=1 PATH=/x"))
            .working_dir("srv")
            .user("7:8")
            .build()
            .unwrap();
        let image = ImageConfigurationBuilder::default().config(config).build().unwrap();
        let mut spec = Spec::default();
        apply(&mut spec, &image, overrides, &Root::open(dir.path()).unwrap()).unwrap();
        spec
    }

    #[test]
    fn the_image_is_the_default_and_the_caller_wins() {
        let process = applied(&Overrides::default()).process().clone().unwrap();
        assert_eq!(process.args().clone().unwrap(), words("/entry a b"));
        assert_eq!(process.env().clone().unwrap(), words("PATH=/x A=1 HOME=/"));
        assert_eq!(process.cwd(), &PathBuf::from("/srv"));
        assert_eq!((process.user().uid(), process.user().gid()), (7, 8));
        assert_eq!(process.user().additional_gids().clone(), Some(vec![8]));

        let overrides = Overrides {
            cmd: Some(words("c")),
            env: words("A=2 B=3 HOME=/h"),
            user: Some("0".into()),
            ..Overrides::default()
        };
        let process = applied(&overrides).process().clone().unwrap();
        assert_eq!(process.args().clone().unwrap(), words("/entry c"));
        assert_eq!(process.env().clone().unwrap(), words("PATH=/x A=2 B=3 HOME=/h"));
        assert_eq!(process.user().uid(), 0);
    }

    #[test]
    fn another_entrypoint_forgets_the_command() {
        let overrides = Overrides { entrypoint: Some(words("/other")), ..Overrides::default() };
        let process = applied(&overrides).process().clone().unwrap();
        assert_eq!(process.args().clone().unwrap(), words("/other"));
    }
}
