//! An image's configuration (image-spec, config.md), as a document that loses nothing.
//!
//! `oci_spec`'s type knows the standard's fields only. Docker's images hold more (`Healthcheck`, `OnBuild`,
//! `Shell`), and whatever else a base image says must be in the image built on it. So here the fields that
//! instructions change have names, and the rest is kept as it came.

use crate::{Result, error::Doing};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

/// The configuration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Document {
    /// When the last layer was made (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// `MAINTAINER`.
    #[serde(default, skip_serializing_if = "String::is_empty", deserialize_with = "or_null")]
    pub author: String,
    /// Of the programs in it, in Go's words: `amd64`.
    pub architecture: String,
    /// `linux`.
    pub os: String,
    /// How a container of it runs.
    #[serde(default, deserialize_with = "or_null")]
    pub config: Container,
    /// Its layers.
    pub rootfs: RootFs,
    /// How it was made, instruction by instruction.
    #[serde(default, deserialize_with = "or_null")]
    pub history: Vec<History>,
    /// Everything else.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// How a container runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Container {
    /// `USER`.
    #[serde(default, skip_serializing_if = "String::is_empty", deserialize_with = "or_null")]
    pub user: String,
    /// `EXPOSE`: a set, written as an object with empty objects in it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "or_null")]
    pub exposed_ports: BTreeMap<String, Empty>,
    /// `ENV`: `NAME=value`.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "or_null")]
    pub env: Vec<String>,
    /// `ENTRYPOINT`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// `CMD`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cmd: Option<Vec<String>>,
    /// `VOLUME`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "or_null")]
    pub volumes: BTreeMap<String, Empty>,
    /// `WORKDIR`.
    #[serde(default, skip_serializing_if = "String::is_empty", deserialize_with = "or_null")]
    pub working_dir: String,
    /// `LABEL`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "or_null")]
    pub labels: BTreeMap<String, String>,
    /// `STOPSIGNAL`.
    #[serde(default, skip_serializing_if = "String::is_empty", deserialize_with = "or_null")]
    pub stop_signal: String,
    /// `HEALTHCHECK`; docker's own field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Health>,
    /// `ONBUILD`; docker's own field.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "or_null")]
    pub on_build: Vec<String>,
    /// `SHELL`; docker's own field.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "or_null")]
    pub shell: Vec<String>,
    /// Everything else.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// `{}`: Go has no sets, and so JSON from Go has maps to nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Empty {}

/// A health check. Times are in nanoseconds; 0 is the default.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Health {
    /// `["NONE"]`, `["CMD", ...]` or `["CMD-SHELL", command]`.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "or_null")]
    pub test: Vec<String>,
    /// Between two checks.
    #[serde(skip_serializing_if = "is_zero")]
    pub interval: i64,
    /// For one check.
    #[serde(skip_serializing_if = "is_zero")]
    pub timeout: i64,
    /// In which failures do not count.
    #[serde(skip_serializing_if = "is_zero")]
    pub start_period: i64,
    /// Between two checks in the start period.
    #[serde(skip_serializing_if = "is_zero")]
    pub start_interval: i64,
    /// Failures in a row before it counts as unhealthy.
    #[serde(skip_serializing_if = "is_zero")]
    pub retries: i64,
    /// Everything else.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// The layers, by the digests of their uncompressed tars.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RootFs {
    /// `layers`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Bottom first.
    #[serde(default, deserialize_with = "or_null")]
    pub diff_ids: Vec<String>,
}

impl Default for RootFs {
    fn default() -> RootFs {
        RootFs { kind: "layers".into(), diff_ids: Vec::new() }
    }
}

/// One line of `docker history`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// The instruction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// It changed no file.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub empty_layer: bool,
    /// Everything else.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// What docker's older images hold about the container that made them; it is not true of their children.
const NOT_INHERITED: [&str; 6] =
    ["container", "container_config", "docker_version", "id", "parent", "throwaway"];

impl Document {
    /// The configuration of `FROM scratch`.
    pub fn scratch() -> Document {
        Document { architecture: architecture().into(), os: "linux".into(), ..Document::default() }
    }

    /// Reads a base image's configuration.
    pub fn from_base(bytes: &[u8], name: &str) -> Result<Document> {
        let mut document: Document =
            serde_json::from_slice(bytes).doing(|| format!("read the configuration of {name}"))?;
        document.rest.retain(|key, _| !NOT_INHERITED.contains(&key.as_str()));
        Ok(document)
    }

    /// As it is stored. Keys are in a fixed order, so equal documents have equal digests.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(self).doing(|| "write the image's configuration".into())
    }
}

impl Container {
    /// The value of a variable of `ENV`.
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.env.iter().find_map(|v| v.split_once('=').filter(|(n, _)| *n == name).map(|(_, value)| value))
    }

    /// Sets one, in its place if it is there.
    pub fn set_variable(&mut self, name: &str, value: &str) {
        let line = format!("{name}={value}");
        match self.env.iter_mut().find(|v| v.split_once('=').is_some_and(|(n, _)| n == name)) {
            Some(old) => *old = line,
            None => self.env.push(line),
        }
    }

    /// The shell of the shell forms.
    pub fn shell(&self) -> Vec<String> {
        match self.shell.is_empty() {
            true => ["/bin/sh", "-c"].map(str::to_owned).to_vec(),
            false => self.shell.clone(),
        }
    }
}

/// Adds names to one of Go's sets.
pub(crate) fn insert(set: &mut BTreeMap<String, Empty>, names: BTreeSet<String>) {
    set.extend(names.into_iter().map(|name| (name, Empty {})));
}

/// This machine, in Go's words.
pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" => "ppc64le",
        "loongarch64" => "loong64",
        other => other,
    }
}

/// Go writes an empty list as `null`.
fn or_null<'de, T: Default + Deserialize<'de>, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

fn is_zero(n: &i64) -> bool {
    *n == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_does_not_know_stays() {
        let base = r#"{"architecture":"amd64","os":"linux","variant":"v3","container":"x",
            "config":{"Env":["A=b"],"ExposedPorts":null,"ArgsEscaped":true,"Healthcheck":{"Test":["CMD","x"],
            "Interval":5,"Odd":1},"OnBuild":null,"Shell":["/bin/bash","-c"]},
            "rootfs":{"type":"layers","diff_ids":["sha256:0"]},"history":[{"created_by":"x","comment":"y"}]}"#;
        let document = Document::from_base(base.as_bytes(), "base").unwrap();
        let value: Value = serde_json::from_slice(&document.to_bytes().unwrap()).unwrap();
        assert_eq!(value["variant"], "v3");
        assert_eq!(value["config"]["ArgsEscaped"], true);
        assert_eq!(value["config"]["Healthcheck"]["Odd"], 1);
        assert_eq!(value["history"][0]["comment"], "y");
        assert_eq!(value.get("container"), None);
        assert_eq!(value["config"].get("OnBuild"), None);
    }

    #[test]
    fn variables_keep_their_place() {
        let mut c = Container { env: vec!["A=1".into(), "B=2".into()], ..Container::default() };
        c.set_variable("A", "x=y");
        c.set_variable("C", "3");
        assert_eq!(c.env, ["A=x=y", "B=2", "C=3"]);
        assert_eq!(c.variable("A"), Some("x=y"));
        assert_eq!(c.variable("x"), None);
    }
}
