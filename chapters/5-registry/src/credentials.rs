//! Side room: where `docker login` has put our credentials.
//!
//! `~/.docker/config.json` (or the one in `$DOCKER_CONFIG`) holds them itself under `auths`, or names a
//! program that does: `docker-credential-NAME get` reads the registry's name and writes JSON.

use crate::{Credentials, Error, Result};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde::Deserialize;
use std::{
    collections::HashMap,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// Docker Hub's name in docker's configuration, for reasons of history.
const HUB: &str = "https://index.docker.io/v1/";
/// The user's name that says that the secret is an identity token.
const TOKEN: &str = "<token>";

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct Config {
    #[serde(default)]
    auths: HashMap<String, Auth>,
    #[serde(default)]
    cred_helpers: HashMap<String, String>,
    #[serde(default)]
    creds_store: String,
}

#[derive(Deserialize, Default, Clone)]
#[serde(default)]
struct Auth {
    auth: String,
    username: String,
    password: String,
    identitytoken: String,
}

/// What a helper writes.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Secret {
    username: String,
    secret: String,
}

/// The credentials for a registry (`docker.io`, `localhost:5000`), if there are any.
pub fn find(registry: &str) -> Result<Option<Credentials>> {
    let directory = match (std::env::var_os("DOCKER_CONFIG"), std::env::var_os("HOME")) {
        (Some(directory), _) if !directory.is_empty() => PathBuf::from(directory),
        (_, Some(home)) => Path::new(&home).join(".docker"),
        _ => return Ok(None),
    };
    find_in(&directory.join("config.json"), registry)
}

/// The same, from a given configuration file.
pub fn find_in(file: &Path, registry: &str) -> Result<Option<Credentials>> {
    let failed = |from: String, why: String| Error::Credentials { registry: registry.to_owned(), from, why };
    let text = match std::fs::read(file) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(failed(file.display().to_string(), e.to_string())),
    };
    let config: Config = serde_json::from_slice(&text).map_err(|e| {
        failed(file.display().to_string(), format!("{e}; mend the file, or remove it and log in again"))
    })?;

    let key = if registry == "docker.io" { HUB } else { registry };
    let helper =
        config.cred_helpers.get(key).or(config.cred_helpers.get(registry)).unwrap_or(&config.creds_store);
    if !helper.is_empty() {
        return ask(helper, key).map_err(|why| failed(format!("docker-credential-{helper}"), why));
    }
    let by_host = || config.auths.iter().find(|(name, _)| host(name) == host(key)).map(|(_, auth)| auth);
    let Some(auth) = config.auths.get(key).or_else(by_host) else { return Ok(None) };
    let credentials = read(auth.clone()).ok_or_else(|| {
        failed(file.display().to_string(), "its \"auth\" is not base64 of name:password; log in again".into())
    })?;
    Ok(Some(credentials).filter(|credentials| *credentials != Credentials::default()))
}

/// `https://index.docker.io/v1/` is `index.docker.io`.
fn host(key: &str) -> &str {
    let key = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    key.split('/').next().unwrap_or(key)
}

fn read(auth: Auth) -> Option<Credentials> {
    let (mut username, mut password) = (auth.username, auth.password);
    if !auth.auth.is_empty() {
        let pair = String::from_utf8(BASE64.decode(auth.auth.trim()).ok()?).ok()?;
        let (user, secret) = pair.split_once(':')?;
        (username, password) = (user.to_owned(), secret.trim_end_matches('\0').to_owned());
    }
    let identity_token = Some(auth.identitytoken).filter(|token| !token.is_empty());
    Some(Credentials { username, password, identity_token })
}

/// Asks a credential helper.
fn ask(helper: &str, key: &str) -> Result<Option<Credentials>, String> {
    // A name, not a path: the configuration may choose among the programs of this machine, no more.
    if !helper.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)) {
        return Err("this is no name of a credential helper".into());
    }
    let program = format!("docker-credential-{helper}");
    let mut child = Command::new(&program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| {
            format!("it does not start ({e}); install it, or take it out of docker's config.json")
        })?;
    if let Some(mut stdin) = child.stdin.take() {
        // A helper that does not read has its say below.
        let _ = stdin.write_all(key.as_bytes());
    }
    let output = child.wait_with_output().map_err(|e| e.to_string())?;
    if !output.status.success() {
        let words = [output.stdout, output.stderr].concat();
        let words = String::from_utf8_lossy(&words).trim().to_owned();
        return if words.contains("credentials not found") { Ok(None) } else { Err(words) };
    }
    let secret: Secret =
        serde_json::from_slice(&output.stdout).map_err(|e| format!("its answer cannot be read: {e}"))?;
    Ok(Some(if secret.username == TOKEN {
        Credentials { identity_token: Some(secret.secret), ..Credentials::default() }
    } else {
        Credentials { username: secret.username, password: secret.secret, identity_token: None }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(config: &str, registry: &str) -> Result<Option<Credentials>> {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("config.json");
        std::fs::write(&file, config).unwrap();
        find_in(&file, registry)
    }

    #[test]
    fn docker_logins_are_found() {
        let config = format!(
            r#"{{"auths": {{"https://index.docker.io/v1/": {{"auth": "{}"}}, "localhost:5000": {{"username": "u", "password": "p"}},
                "https://quay.io/v2/": {{"identitytoken": "t"}}, "empty.example": {{}}}}}}"#,
            BASE64.encode("me:pass:word")
        );
        let hub = find(&config, "docker.io").unwrap().unwrap();
        assert_eq!((hub.username.as_str(), hub.password.as_str()), ("me", "pass:word"));
        assert_eq!(find(&config, "localhost:5000").unwrap().unwrap().username, "u");
        assert_eq!(find(&config, "quay.io").unwrap().unwrap().identity_token.as_deref(), Some("t"));
        assert_eq!(find(&config, "empty.example").unwrap(), None);
        assert_eq!(find(&config, "localhost:5001").unwrap(), None, "another port is another registry");
        assert_eq!(find_in(Path::new("/nonexistent/config.json"), "docker.io").unwrap(), None);
    }

    #[test]
    fn a_broken_login_is_told_without_its_secret() {
        let error =
            find(r#"{"auths": {"a.example": {"auth": "c2VjcmV0"}}}"#, "a.example").unwrap_err().to_string();
        assert!(
            error.contains("log in again") && !error.contains("c2VjcmV0") && !error.contains("secret"),
            "{error}"
        );
        assert!(!format!("{:?}", Credentials { password: "pw".into(), ..Default::default() }).contains("pw"));
    }

    #[test]
    fn a_helper_is_a_name_and_not_a_path() {
        let error = find(r#"{"credsStore": "x/../../tmp/evil"}"#, "a.example").unwrap_err().to_string();
        assert!(error.contains("no name of a credential helper"), "{error}");
        let error =
            find(r#"{"credHelpers": {"a.example": "not-installed"}}"#, "a.example").unwrap_err().to_string();
        assert!(error.contains("docker-credential-not-installed") && error.contains("install it"), "{error}");
    }
}
