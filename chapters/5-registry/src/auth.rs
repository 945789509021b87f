//! How a registry asks who we are, and who may be told.
//!
//! A registry answers 401 with a challenge (RFC 7235). `Basic` wants name and password with each request.
//! `Bearer` names another server, the *realm*, which gives a token for the password, or for none: that is
//! how an anonymous pull from Docker Hub works too.
//!
//! A password is told to two parties only: the registry that it is for, and the realm that this registry
//! itself names, over a connection no weaker than the registry's own. Any other URL that appears on the way
//! (a redirect, an upload's location) gets nothing (CVE-2020-15157 was a layer's URL that asked and was told).

use crate::{Credentials, Error, Result, refusal, transport::Transport};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde::Deserialize;
use std::sync::{Mutex, PoisonError};
use ureq::{
    SendBody,
    http::{Request, Response, Uri},
};

/// What a registry asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Challenge {
    /// Name and password.
    Basic,
    /// A token from another server.
    Bearer {
        /// The URL of that server.
        realm: String,
        /// The name by which it knows the registry.
        service: String,
        /// What the request would have needed: `repository:library/alpine:pull`.
        scope: String,
    },
}

/// Who is asking, and the proof of it once there is one.
pub(crate) struct Auth {
    credentials: Option<Credentials>,
    /// What we will do, as scopes: asked for at once, so that one token serves all requests.
    scopes: Vec<String>,
    header: Mutex<Option<String>>,
}

/// What a realm answers.
#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

impl Auth {
    pub(crate) fn new(credentials: Option<Credentials>, scopes: Vec<String>) -> Auth {
        Auth { credentials, scopes, header: Mutex::default() }
    }

    /// The value for `Authorization`, if the registry has asked for one.
    pub(crate) fn header(&self) -> Option<String> {
        self.header.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Answers a 401 of the registry at `base`, so that the next request carries what it asks for.
    /// `sent` is the header that the refused request carried.
    pub(crate) fn answer(
        &self,
        transport: &Transport,
        base: &str,
        response: Response<ureq::Body>,
        sent: Option<&str>,
    ) -> Result<()> {
        let mut header = self.header.lock().unwrap_or_else(PoisonError::into_inner);
        if header.as_deref() != sent {
            return Ok(()); // Another thread met the same 401, and was quicker.
        }
        let challenges: Vec<Challenge> = response
            .headers()
            .get_all("www-authenticate")
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(parse)
            .collect();
        let bearer = challenges.iter().find(|challenge| matches!(challenge, Challenge::Bearer { .. }));
        *header = Some(match (bearer, challenges.contains(&Challenge::Basic), self.basic()) {
            (Some(bearer), _, _) => format!("Bearer {}", self.token(transport, base, bearer)?),
            (None, true, Some(basic)) if sent != Some(&basic) => basic,
            (None, true, None) => {
                return Err(Error::Denied(format!(
                    "{base}: no basic auth credentials; log in with 'docker login'"
                )));
            }
            _ => return Err(refusal::read(response, "log in", base)),
        });
        Ok(())
    }

    fn basic(&self) -> Option<String> {
        let credentials =
            self.credentials.as_ref().filter(|c| !c.username.is_empty() && !c.password.is_empty())?;
        let pair = format!("{}:{}", credentials.username, credentials.password);
        Some(format!("Basic {}", BASE64.encode(pair)))
    }

    /// Gets a token (distribution, `spec/auth/token.md` and `oauth.md`).
    fn token(&self, transport: &Transport, base: &str, challenge: &Challenge) -> Result<String> {
        let Challenge::Bearer { realm, service, scope } = challenge else { return Ok(String::new()) };
        let untrusted = |why: &str| Error::Untrusted {
            what: format!("the token server {realm:?} of {base}"),
            why: why.into(),
        };
        let url: Uri = realm.parse().map_err(|_| untrusted("that is no URL"))?;
        match url.scheme_str() {
            Some("https") => {}
            // A registry in plain text has shown our password to its network already.
            Some("http") if base.starts_with("http:") => {}
            _ => {
                return Err(untrusted("it would show the password to everyone on the way; it must be https"));
            }
        }
        let mut scopes = self.scopes.clone();
        scopes.extend(scope.split(' ').filter(|s| !s.is_empty()).map(str::to_owned));
        scopes.sort();
        scopes.dedup();

        let identity = self.credentials.as_ref().and_then(|c| c.identity_token.as_ref());
        let response = if let Some(identity) = identity.filter(|token| !token.is_empty()) {
            let scopes = scopes.join(" ");
            let form = query(&[
                ("grant_type", "refresh_token"),
                ("refresh_token", identity),
                ("service", service),
                ("client_id", "teu"),
                ("scope", &scopes),
            ]);
            let request = Request::post(url.clone())
                .header("content-type", "application/x-www-form-urlencoded")
                .header("content-length", form.len());
            transport.run(request, SendBody::from_owned_reader(std::io::Cursor::new(form)))?
        } else {
            let mut pairs = vec![("service", service.as_str())];
            pairs.extend(scopes.iter().map(|scope| ("scope", scope.as_str())));
            if self.basic().is_some() {
                pairs.push(("account", self.credentials.as_ref().map_or("", |c| &c.username)));
            }
            let separator = if url.query().is_some() { '&' } else { '?' };
            let mut request = Request::get(format!("{realm}{separator}{}", query(&pairs)));
            if let Some(basic) = self.basic() {
                request = request.header("authorization", basic);
            }
            transport.run(request, SendBody::none())?
        };
        if response.status() != 200 {
            return Err(refusal::read(response, "get a token", &url.to_string()));
        }
        let body = response.into_body().into_with_config().limit(1 << 20).read_to_vec();
        let body = body.map_err(|e| untrusted(&e.to_string()))?;
        let token: Token =
            serde_json::from_slice(&body).map_err(|e| untrusted(&format!("its answer is no token: {e}")))?;
        let token = token.token.filter(|t| !t.is_empty()).or(token.access_token).unwrap_or_default();
        if token.is_empty() || !token.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(untrusted("its answer holds no usable token"));
        }
        tracing::info!(target: "step", section = "6.3", call = "GET", "{}: a token for {}", url.host().unwrap_or(""), scopes.join(" "));
        Ok(token)
    }
}

/// `a=1&b=x%2Fy`
fn query(pairs: &[(&str, &str)]) -> String {
    let escape = |text: &str| -> String {
        text.bytes()
            .map(|b| match b {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                    char::from(b).to_string()
                }
                _ => format!("%{b:02X}"),
            })
            .collect()
    };
    pairs.iter().map(|(name, value)| format!("{name}={}", escape(value))).collect::<Vec<_>>().join("&")
}

/// Reads the challenges of one `WWW-Authenticate` header. Unknown schemes are passed over.
pub fn parse(header: &str) -> Vec<Challenge> {
    let mut challenges = Vec::new();
    let mut rest = header.trim_start();
    while !rest.is_empty() {
        let (scheme, after) = rest.split_once(' ').unwrap_or((rest, ""));
        rest = after;
        let (mut realm, mut service, mut scope) = (String::new(), String::new(), String::new());
        // Parameters go on as long as there is `name=`; a word with none is the next scheme.
        while let Some((name, after)) = rest.trim_start_matches([' ', ',']).split_once('=') {
            if name.contains([' ', ',', '"']) {
                break;
            }
            let (value, after) = value(after);
            rest = after;
            match name.to_ascii_lowercase().as_str() {
                "realm" => realm = value,
                "service" => service = value,
                "scope" => scope = value,
                _ => {}
            }
        }
        match scheme.to_ascii_lowercase().as_str() {
            "basic" => challenges.push(Challenge::Basic),
            "bearer" if !realm.is_empty() => challenges.push(Challenge::Bearer { realm, service, scope }),
            _ => {}
        }
        rest = rest.trim_start_matches([' ', ',']);
    }
    challenges
}

/// A token or a quoted string, and what follows it.
fn value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut escaped = false;
    for (at, c) in quoted.char_indices() {
        match c {
            _ if escaped => (value.push(c), escaped = false).1,
            '\\' => escaped = true,
            '"' => return (value, &quoted[at + 1..]),
            _ => value.push(c),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bearer(realm: &str, service: &str, scope: &str) -> Challenge {
        Challenge::Bearer { realm: realm.into(), service: service.into(), scope: scope.into() }
    }

    #[test]
    fn challenges_are_read() {
        for (header, challenges) in [
            ("Basic realm=\"x\"", vec![Challenge::Basic]),
            (
                "Bearer realm=\"https://auth.docker.io/token\",service=\"registry.docker.io\",scope=\"repository:a/b:pull,push\"",
                vec![bearer(
                    "https://auth.docker.io/token",
                    "registry.docker.io",
                    "repository:a/b:pull,push",
                )],
            ),
            ("bearer realm=https://a/t, service=s", vec![bearer("https://a/t", "s", "")]),
            (
                "Basic realm=\"a, b\", Bearer realm=\"https://t\\\"x\"",
                vec![Challenge::Basic, bearer("https://t\"x", "", "")],
            ),
            ("Negotiate, Basic realm=\"r\"", vec![Challenge::Basic]),
            ("Bearer", vec![]),
            ("", vec![]),
        ] {
            assert_eq!(parse(header), challenges, "{header}");
        }
    }

    #[test]
    fn a_query_is_escaped() {
        assert_eq!(
            query(&[("scope", "repository:a/b:pull,push"), ("x", "é")]),
            "scope=repository%3Aa%2Fb%3Apull%2Cpush&x=%C3%A9"
        );
    }

    /// A registry that was reached by TLS cannot have the password sent in plain text.
    #[test]
    fn a_realm_is_no_weaker_than_its_registry() {
        let credentials =
            Credentials { username: "user".into(), password: "secret".into(), identity_token: None };
        for realm in ["http://127.0.0.1:1/token", "ftp://a.example/", "not a url", "/token"] {
            let response = Response::builder()
                .status(401)
                .header("www-authenticate", format!("Bearer realm=\"{realm}\",service=\"s\""))
                .body(ureq::Body::builder().data(""))
                .unwrap();
            let auth = Auth::new(Some(credentials.clone()), vec![]);
            let error = auth.answer(&Transport::new(), "https://r.example", response, None).unwrap_err();
            assert!(matches!(error, Error::Untrusted { .. }), "{realm}: {error}");
        }
    }

    proptest! {
        #[test]
        fn any_header_is_survived(header in "\\PC{0,60}") {
            parse(&header);
        }
    }
}
