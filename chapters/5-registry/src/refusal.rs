//! Side room: what a registry says when it says no, in the words that docker uses.

use crate::{Error, Reference};
use serde::Deserialize;
use ureq::{Body, http::Response};

/// The body of a refusal (distribution-spec, "Error Codes"); some token servers have their own.
#[derive(Deserialize, Default)]
struct Refusal {
    #[serde(default)]
    errors: Vec<Reason>,
    details: Option<String>,
    message: Option<String>,
}

#[derive(Deserialize)]
struct Reason {
    code: Option<String>,
    message: Option<String>,
}

/// Makes an error of an answer that was not expected. `doing` completes "cannot …", on `what`.
pub(crate) fn read(response: Response<Body>, doing: &str, what: &str) -> Error {
    let status = response.status().as_u16();
    let wait = response.headers().get("retry-after").and_then(|v| v.to_str().ok()).map(printable);
    let body = response.into_body().into_with_config().limit(64 * 1024).read_to_vec().unwrap_or_default();
    let (_, message) = reason(&body, status);
    match status {
        401 | 403 => Error::Denied(format!(
            "cannot {doing} at {what}: {message}; log in with 'docker login', or ask its owner for access"
        )),
        404 => Error::NotFound(format!("cannot {doing}: {what} not found: {message}")),
        429 => too_many(message, wait),
        _ => Error::Answer { doing: format!("cannot {doing} at {what}"), status, message },
    }
}

/// The same for a request about the image `reference`, as docker words it.
pub(crate) fn of_image(response: Response<Body>, doing: &str, reference: &Reference) -> Error {
    let status = response.status().as_u16();
    let wait = response.headers().get("retry-after").and_then(|v| v.to_str().ok()).map(printable);
    let body = response.into_body().into_with_config().limit(64 * 1024).read_to_vec().unwrap_or_default();
    let (code, message) = reason(&body, status);
    let name = reference.familiar_name();
    match (status, code.as_str()) {
        (401 | 403, _) | (_, "DENIED" | "UNAUTHORIZED") if doing == "push" => Error::Denied(format!(
            "push access denied for {name}, repository does not exist or may require 'docker login': {message}"
        )),
        (401 | 403, _) | (_, "DENIED" | "UNAUTHORIZED") => Error::Denied(format!(
            "pull access denied for {name}, repository does not exist or may require 'docker login': {message}"
        )),
        (404, "NAME_UNKNOWN") => {
            Error::NotFound(format!("repository {name} not found: {message}; check the name"))
        }
        (404, _) => Error::NotFound(format!("manifest for {} not found: {message}", reference.familiar())),
        (429, _) => too_many(message, wait),
        _ => Error::Answer { doing: format!("cannot {doing} {}", reference.familiar()), status, message },
    }
}

fn too_many(message: String, wait: Option<String>) -> Error {
    let message = message.trim_start_matches("toomanyrequests: ").to_owned();
    let next = match wait {
        Some(wait) => format!("try again after {wait} s, or log in with 'docker login' for a higher limit"),
        None => "try again later, or log in with 'docker login' for a higher limit".into(),
    };
    Error::TooManyRequests { message, next }
}

/// The first reason as docker prints it, `manifest unknown: manifest unknown`, and its code.
fn reason(body: &[u8], status: u16) -> (String, String) {
    let refusal: Refusal = serde_json::from_slice(body).unwrap_or_default();
    if let Some(first) = refusal.errors.first() {
        let code = printable(first.code.as_deref().unwrap_or("UNKNOWN"));
        let words = code.to_lowercase().replace('_', " ");
        let message = first.message.as_deref().map(printable).filter(|m| !m.is_empty());
        return (code, format!("{words}: {}", message.unwrap_or_else(|| words.clone())));
    }
    let message = refusal.details.or(refusal.message).map(|text| printable(&text));
    let message = message.unwrap_or_else(|| match status {
        401 => "unauthorized: authentication required".into(),
        403 => "denied: requested access to the resource is denied".into(),
        404 => "it does not exist".into(),
        _ => match printable(&String::from_utf8_lossy(body)) {
            text if text.is_empty() || text.starts_with('<') => "no reason given".into(),
            text => text,
        },
    });
    (String::new(), message)
}

/// A stranger's text may not move the cursor of a terminal, nor fill its screen.
fn printable(text: &str) -> String {
    text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).take(500).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_dockers() {
        let json = br#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown","detail":{}}]}"#;
        assert_eq!(reason(json, 404).1, "manifest unknown: manifest unknown");
        assert_eq!(reason(b"{\"errors\":[{\"code\":\"DENIED\"}]}", 403).1, "denied: denied");
        assert_eq!(
            reason(b"{\"details\":\"incorrect username or password\"}", 401).1,
            "incorrect username or password"
        );
        assert_eq!(reason(b"<html>", 502).1, "no reason given");
        assert_eq!(reason(b"", 401).1, "unauthorized: authentication required");
    }

    #[test]
    fn a_strangers_text_cannot_drive_the_terminal() {
        let json = "{\"errors\":[{\"code\":\"X\",\"message\":\"a\\u001b[2Jb\"}]}";
        assert_eq!(reason(json.as_bytes(), 500).1, "x: a [2Jb");
        assert!(reason("x".repeat(100_000).as_bytes(), 500).1.len() <= 500);
    }
}
