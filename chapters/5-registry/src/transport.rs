//! Side room: connections. Plain or TLS, through a proxy or not, and how long to wait.

use crate::{Error, Result};
use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};
use ureq::{
    Agent, Body, Proxy,
    http::{Request, Response, Uri},
    tls::{Certificate, RootCerts, TlsConfig},
};

/// Agents (each with its pool of kept connections), one for each origin.
pub(crate) struct Transport {
    /// The one origin whose certificate may go unchecked.
    unchecked: Mutex<Option<String>>,
    agents: Mutex<HashMap<String, Agent>>,
}

impl Transport {
    pub(crate) fn new() -> Transport {
        Transport { unchecked: Mutex::new(None), agents: Mutex::default() }
    }

    /// Finds out how a registry speaks: the scheme and host to begin its URLs with.
    ///
    /// A registry that must be trusted speaks TLS, and that is all. One on this machine may speak plain
    /// HTTP, and most do, so that is tried first; one that the user calls insecure may too, but there TLS
    /// is tried first, since it still keeps a password from those who only listen.
    pub(crate) fn find(&self, registry: &str, insecure: bool) -> Result<String> {
        let host = if registry == "docker.io" { "registry-1.docker.io" } else { registry };
        let local = is_loopback(host);
        if !local && !insecure {
            return Ok(format!("https://{host}"));
        }
        let (plain, tls) = (format!("http://{host}"), format!("https://{host}"));
        *self.unchecked.lock().unwrap_or_else(PoisonError::into_inner) = Some(tls.clone());
        let mut first_error = None;
        for base in if local { [plain, tls] } else { [tls, plain] } {
            match self.run(Request::get(format!("{base}/v2/")), ureq::SendBody::none()) {
                // A TLS server that is spoken to in plain HTTP answers 400, or just hangs up.
                Ok(response) if base.starts_with("http:") && response.status() == 400 => {
                    first_error.get_or_insert(unreachable(&base, "it speaks only TLS"));
                }
                Ok(_) => return Ok(base),
                Err(error) => {
                    first_error.get_or_insert(error);
                }
            }
        }
        Err(first_error.unwrap_or_else(|| unreachable(host, "no scheme was left to try")))
    }

    /// Sends one request over the connection that its URL needs.
    pub(crate) fn run(
        &self,
        request: ureq::http::request::Builder,
        body: ureq::SendBody<'_>,
    ) -> Result<Response<Body>> {
        let url = request.uri_ref().map(Uri::to_string).unwrap_or_default();
        let request = request.body(body).map_err(|e| unreachable(&url, &e.to_string()))?;
        let agent = self.agent(request.uri());
        agent.run(request).map_err(|e| unreachable(&url, &words(&e)))
    }

    fn agent(&self, url: &Uri) -> Agent {
        let origin = origin(url);
        let unchecked =
            self.unchecked.lock().unwrap_or_else(PoisonError::into_inner).as_ref() == Some(&origin);
        let mut agents = self.agents.lock().unwrap_or_else(PoisonError::into_inner);
        let make = || {
            let tls = TlsConfig::builder().disable_verification(unchecked);
            // Reading the machine's certificates takes a moment: not for a connection that has none.
            let tls = if unchecked || origin.starts_with("http:") { tls } else { tls.root_certs(roots()) };
            // A proxy's own loopback is not ours.
            let local = url.host().is_some_and(is_loopback);
            let proxy = if local { None } else { Proxy::try_from_env() };
            Agent::config_builder()
                .tls_config(tls.build())
                .proxy(proxy)
                .user_agent(concat!("teu/", env!("CARGO_PKG_VERSION")))
                .http_status_as_error(false)
                // The client follows redirects itself: it must know which of them may see a password.
                .max_redirects(0)
                .max_redirects_will_error(false)
                .max_idle_connections_per_host(8)
                .input_buffer_size(128 * 1024)
                .output_buffer_size(128 * 1024)
                .timeout_resolve(Some(Duration::from_secs(20)))
                .timeout_connect(Some(Duration::from_secs(30)))
                .timeout_recv_response(Some(Duration::from_secs(120)))
                // A layer may take hours; a connection that says nothing for a minute is dead.
                .timeout_per_read(Some(Duration::from_secs(60)))
                .timeout_per_write(Some(Duration::from_secs(60)))
                .build()
                .into()
        };
        agents.entry(origin.clone()).or_insert_with(make).clone()
    }
}

/// `scheme://host[:port]`, by which two URLs are the same place.
pub(crate) fn origin(url: &Uri) -> String {
    let scheme = url.scheme_str().unwrap_or("https");
    let host = url.host().unwrap_or_default().to_ascii_lowercase();
    match (scheme, url.port_u16()) {
        ("https", Some(443)) | ("http", Some(80)) | (_, None) => format!("{scheme}://{host}"),
        (_, Some(port)) => format!("{scheme}://{host}:{port}"),
    }
}

/// What a `Location` means at `base` (RFC 3986, section 5.2, for the forms that servers send).
pub(crate) fn resolve(base: &Uri, location: &str) -> Option<Uri> {
    let scheme = base.scheme_str()?;
    let authority = base.authority()?;
    let text = match location {
        full if full.starts_with("https://") || full.starts_with("http://") => full.to_owned(),
        host if host.starts_with("//") => format!("{scheme}:{host}"),
        path if path.starts_with('/') => format!("{scheme}://{authority}{path}"),
        query if query.starts_with('?') => format!("{scheme}://{authority}{}{query}", base.path()),
        other if other.contains("://") => return None,
        relative => {
            let directory = base.path().rsplit_once('/').map_or("", |(directory, _)| directory);
            format!("{scheme}://{authority}{directory}/{relative}")
        }
    };
    let url: Uri = text.parse().ok()?;
    // `https://us:pw@host/`: no registry needs it, and it hides where a URL goes.
    let named = url.host().is_some_and(|host| !host.is_empty()) && !url.authority()?.as_str().contains('@');
    named.then_some(url)
}

/// Whether a host (with or without a port) is this machine.
pub(crate) fn is_loopback(host: &str) -> bool {
    let host = match host.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => host,
        _ => host,
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

/// The certificates that this machine trusts; where it has none, those of Mozilla that came with us.
fn roots() -> RootCerts {
    static ROOTS: OnceLock<Option<Arc<Vec<Certificate<'static>>>>> = OnceLock::new();
    let load = || {
        let found = rustls_native_certs::load_native_certs().certs;
        let certificates: Vec<_> =
            found.iter().map(|certificate| Certificate::from_der(certificate).to_owned()).collect();
        (!certificates.is_empty()).then(|| Arc::new(certificates))
    };
    match ROOTS.get_or_init(load) {
        Some(certificates) => RootCerts::Specific(certificates.clone()),
        None => RootCerts::WebPki,
    }
}

fn words(error: &ureq::Error) -> String {
    match error {
        ureq::Error::HostNotFound => "no such host".into(),
        ureq::Error::Timeout(what) => format!("timeout ({what})"),
        ureq::Error::Io(error) => error.to_string(),
        other => other.to_string(),
    }
}

/// What becomes of a TLS greeting that meets a server that knows only HTTP.
const NO_TLS: [&str; 3] = ["corrupt message", "InvalidContentType", "unexpected end of file"];

fn unreachable(url: &str, why: &str) -> Error {
    let hint = if why.contains("no such host") {
        "; check the name of the registry, and this machine's DNS"
    } else if why.contains("refused") {
        "; is a registry running there?"
    } else if why.to_lowercase().contains("certificate") {
        "; install its certificate authority on this machine, or call the registry insecure if it is yours"
    } else if why.contains("timeout") {
        "; check the network, and HTTPS_PROXY if there is a proxy"
    } else if url.starts_with("https:") && NO_TLS.iter().any(|words| why.contains(words)) {
        "; it seems to speak plain HTTP, which is allowed only for a registry that is called insecure"
    } else {
        ""
    };
    Error::Unreachable { url: url.to_owned(), why: why.to_owned(), hint }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_are_resolved_as_a_browser_does() {
        let base: Uri = "http://r.example:5000/v2/a/blobs/uploads/1?x=y".parse().unwrap();
        for (location, meant) in [
            ("/v2/z?d=1", Some("http://r.example:5000/v2/z?d=1")),
            ("https://cdn.example/b", Some("https://cdn.example/b")),
            ("//cdn.example/b", Some("http://cdn.example/b")),
            ("2", Some("http://r.example:5000/v2/a/blobs/uploads/2")),
            ("?state=3", Some("http://r.example:5000/v2/a/blobs/uploads/1?state=3")),
            ("file:///etc/passwd", None),
            ("https://user:word@evil.example/", None),
            ("http:///x", None),
        ] {
            assert_eq!(resolve(&base, location).map(|u| u.to_string()).as_deref(), meant, "{location}");
        }
    }

    #[test]
    fn this_machine_is_known_by_all_its_names() {
        for host in
            ["localhost", "localhost:5000", "LOCALHOST", "127.0.0.1:1", "127.9.9.9", "[::1]:5000", "[::1]"]
        {
            assert!(is_loopback(host), "{host}");
        }
        for host in [
            "localhost.example",
            "10.0.0.1",
            "127.0.0.1.example:80",
            "[2001:db8::1]:80",
            "registry-1.docker.io",
        ] {
            assert!(!is_loopback(host), "{host}");
        }
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let origin = |text: &str| super::origin(&text.parse().unwrap());
        assert_eq!(origin("https://A.example:443/x"), origin("https://a.example/y"));
        assert_ne!(origin("https://a.example/"), origin("http://a.example/"));
        assert_ne!(origin("https://a.example/"), origin("https://a.example:444/"));
    }
}
