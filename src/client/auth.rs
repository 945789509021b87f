//! Who a user is at a registry: docker's own file, `~/.docker/config.json`.

use anyhow::{Context, Result, bail};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE},
};
use serde::Deserialize;
use serde_json::json;
use std::{
    collections::HashMap,
    io::{ErrorKind, Write},
    path::PathBuf,
    process::{Command, Stdio},
};

/// The key by which that file knows Docker Hub.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Config {
    auths: HashMap<String, Entry>,
    creds_store: Option<String>,
    cred_helpers: HashMap<String, String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Entry {
    auth: String,
    identitytoken: String,
}

/// The header `X-Registry-Auth` for an image, named in full.
pub(crate) fn header(image: &str) -> Result<String> {
    let registry = match image.split('/').next().unwrap_or_default() {
        "docker.io" => DOCKER_HUB,
        host => host,
    };
    let document = document(&read()?, registry)?;
    Ok(URL_SAFE.encode(document.to_string()))
}

/// The header `X-Registry-Config` of a build, which may pull from any of them.
pub(crate) fn all() -> Result<String> {
    let config = read()?;
    let registries = config.auths.keys().chain(config.cred_helpers.keys());
    let documents = registries
        .map(|name| Ok((name.clone(), document(&config, name)?)))
        .collect::<Result<serde_json::Map<_, _>>>()?;
    Ok(URL_SAFE.encode(serde_json::Value::Object(documents).to_string()))
}

fn read() -> Result<Config> {
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".docker"));
    let Some(directory) = std::env::var_os("DOCKER_CONFIG").map(PathBuf::from).or_else(home) else {
        return Ok(Config::default());
    };
    let file = directory.join("config.json");
    match std::fs::read(&file) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .with_context(|| format!("{} is not a configuration", file.display())),
        Err(why) if why.kind() == ErrorKind::NotFound => Ok(Config::default()),
        Err(why) => Err(why).with_context(|| format!("cannot read {}", file.display())),
    }
}

fn document(config: &Config, registry: &str) -> Result<serde_json::Value> {
    if let Some(helper) = config.cred_helpers.get(registry).or(config.creds_store.as_ref()) {
        return ask(helper, registry);
    }
    let entry = config.auths.get(registry).or_else(|| {
        let bare = |key: &str| {
            key.trim_start_matches("https://").trim_start_matches("http://").split('/').next()
                == Some(registry)
        };
        config.auths.iter().find(|(key, _)| bare(key)).map(|(_, entry)| entry)
    });
    let Some(entry) = entry else { return Ok(json!({})) };
    if !entry.identitytoken.is_empty() {
        return Ok(json!({"identitytoken": entry.identitytoken, "serveraddress": registry}));
    }
    let decoded = STANDARD.decode(&entry.auth).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    match decoded.as_deref().and_then(|pair| pair.split_once(':')) {
        Some((user, password)) => {
            Ok(json!({"username": user, "password": password, "serveraddress": registry}))
        }
        None if entry.auth.is_empty() => Ok(json!({})),
        None => bail!(
            "the entry of {registry} in docker's config.json is not base64 of user:password; log in again"
        ),
    }
}

/// Asks a credential helper: the registry on stdin of `docker-credential-NAME get`, JSON on its stdout.
fn ask(helper: &str, registry: &str) -> Result<serde_json::Value> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Answer {
        username: String,
        secret: String,
    }
    let program = format!("docker-credential-{helper}");
    let mut child = Command::new(&program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| format!("cannot run {program}, which docker's config.json names"))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(registry.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    // It fails where it knows nothing of the registry.
    let Ok(answer) = serde_json::from_slice::<Answer>(&output.stdout) else { return Ok(json!({})) };
    match answer.username.as_str() {
        "<token>" => Ok(json!({"identitytoken": answer.secret, "serveraddress": registry})),
        user => Ok(json!({"username": user, "password": answer.secret, "serveraddress": registry})),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_registry_gets_only_its_own_password() {
        let config: Config = serde_json::from_value(json!({"auths": {
            "https://index.docker.io/v1/": {"auth": STANDARD.encode("me:hub")},
            "localhost:5000": {"auth": STANDARD.encode("me:a:b")},
            "https://old.example/v2/": {"identitytoken": "token"},
        }}))
        .unwrap();
        let ask = |registry| document(&config, registry).unwrap();
        assert_eq!(ask(DOCKER_HUB)["password"], "hub");
        assert_eq!(ask("localhost:5000")["password"], "a:b");
        assert_eq!(ask("old.example")["identitytoken"], "token");
        assert_eq!(ask("evil.example"), json!({}));
    }
}
