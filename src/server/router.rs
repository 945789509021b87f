//! From a request to its handler. Each file of this directory has a table of what it answers, and this one has the
//! table of tables.

use super::{
    answer::{self, Body},
    archive, build,
    call::{Answering, Call, decode},
    containers, events, exec, images, inspect, list, logs, networks, stats, stream, swarm, system, transfer,
    volumes,
};
use crate::engine::{Engine, failure::Failure};
use hyper::{
    Method, Request, Response,
    body::Incoming,
    header::{HeaderValue, SERVER},
};
use std::{convert::Infallible, sync::Arc};

/// The newest version of the API that is spoken here, and the oldest.
pub(crate) const API: (u32, u32) = (1, 47);
/// See [`API`].
pub(crate) const API_MIN: (u32, u32) = (1, 24);

/// One line of a table.
pub(crate) struct Route {
    pub(crate) method: Method,
    /// `{}` stands for one segment, `{*}` for one or more: names of images have slashes.
    pub(crate) path: &'static str,
    pub(crate) handler: fn(Call) -> Answering,
}

/// A file's table: `routes! { GET "/volumes" => list; }`
macro_rules! routes {
    ($($method:ident $path:literal => $handler:path;)*) => {
        pub(crate) const ROUTES: &[$crate::server::router::Route] = &[$(
            $crate::server::router::Route {
                method: hyper::Method::$method,
                path: $path,
                handler: |call| Box::pin($handler(call)),
            },
        )*];
    };
}
pub(crate) use routes;

const TABLES: &[&[Route]] = &[
    system::ROUTES,
    list::ROUTES,
    inspect::ROUTES,
    containers::ROUTES,
    stream::ROUTES,
    logs::ROUTES,
    stats::ROUTES,
    archive::ROUTES,
    exec::ROUTES,
    images::ROUTES,
    transfer::ROUTES,
    build::ROUTES,
    volumes::ROUTES,
    networks::ROUTES,
    events::ROUTES,
    swarm::ROUTES,
];

/// Answers a request.
pub(crate) async fn route(
    engine: Arc<Engine>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let shown = format!("{} {}", request.method(), request.uri().path());
    let mut response = match find(&request) {
        Ok((handler, path)) => handler(Call::new(engine, path, request)).await,
        Err(failure) => Err(failure),
    }
    .unwrap_or_else(|failure| {
        if failure.status >= 500 {
            eprintln!("{shown}: {}", failure.message);
        }
        answer::failed(&failure)
    });
    let headers = response.headers_mut();
    headers.insert(SERVER, HeaderValue::from_static(concat!("teu/", env!("CARGO_PKG_VERSION"), " (linux)")));
    headers.insert("Api-Version", HeaderValue::from_static("1.47"));
    headers.insert("Docker-Experimental", HeaderValue::from_static("false"));
    headers.insert("Ostype", HeaderValue::from_static("linux"));
    Ok(response)
}

type Found = (fn(Call) -> Answering, Vec<String>);

fn find(request: &Request<Incoming>) -> Result<Found, Failure> {
    let path = version(request.uri().path())?;
    let mut other_method = false;
    for route in TABLES.iter().copied().flatten() {
        if let Some(captured) = matches(route.path, path) {
            if route.method == request.method() {
                return Ok((route.handler, captured));
            }
            other_method = true;
        }
    }
    if other_method {
        let message = format!("method {} not allowed for {path}", request.method());
        return Err(Failure { status: 405, message });
    }
    Err(Failure::missing("page not found"))
}

/// Takes `/v1.43` off, and refuses what is too new or too old.
fn version(path: &str) -> Result<&str, Failure> {
    let Some((version, rest)) = path.strip_prefix("/v").and_then(|p| p.split_once('/')) else {
        return Ok(path);
    };
    let Some((major, minor)) = version.split_once('.') else { return Ok(path) };
    let (Ok(major), Ok(minor)) = (major.parse::<u32>(), minor.parse::<u32>()) else { return Ok(path) };
    if (major, minor) > API {
        return Err(Failure::bad(format!(
            "client version {version} is too new. Maximum supported API version is {}.{}",
            API.0, API.1
        )));
    }
    if (major, minor) < API_MIN {
        return Err(Failure::bad(format!(
            "client version {version} is too old. Minimum supported API version is {}.{}, please upgrade your client to a newer \
             version",
            API_MIN.0, API_MIN.1
        )));
    }
    Ok(&path[path.len() - rest.len() - 1..])
}

/// Whether a path is of a pattern, and what stands in it for `{}` and `{*}`.
fn matches(pattern: &str, path: &str) -> Option<Vec<String>> {
    let want: Vec<&str> = pattern.split('/').collect();
    let have: Vec<&str> = path.trim_end_matches('/').split('/').collect();
    let many = want.iter().position(|w| *w == "{*}");
    let extra = have.len().checked_sub(want.len())?;
    if extra > 0 && many.is_none() {
        return None;
    }
    let mut captured = Vec::new();
    let mut at = 0;
    for (index, segment) in want.iter().enumerate() {
        let length = if many == Some(index) { 1 + extra } else { 1 };
        let part = &have[at..at + length];
        at += length;
        match *segment {
            "{}" | "{*}" if part.iter().all(|p| !p.is_empty()) => captured.push(decode(&part.join("/"))),
            literal if part == [literal] => {}
            _ => return None,
        }
    }
    Some(captured)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_slashes_are_one_name() {
        assert_eq!(
            matches("/images/{*}/json", "/images/localhost:5000/a/b/json"),
            Some(vec!["localhost:5000/a/b".into()])
        );
        assert_eq!(matches("/images/{*}/json", "/images/json"), None);
        assert_eq!(matches("/containers/{}/json", "/containers/a%2Fb/json"), Some(vec!["a/b".into()]));
        assert_eq!(matches("/containers/{}/json", "/containers//json"), None);
        assert_eq!(matches("/containers/json", "/containers/json"), Some(vec![]));
    }

    #[test]
    fn versions_are_taken_off_or_refused() {
        assert_eq!(version("/v1.43/info").ok(), Some("/info"));
        assert_eq!(version("/info").ok(), Some("/info"));
        assert_eq!(version("/volumes").ok(), Some("/volumes"));
        let new = version("/v1.99/info").expect_err("too new");
        assert_eq!(new.message, "client version 1.99 is too new. Maximum supported API version is 1.47");
        assert_eq!(version("/v1.12/info").expect_err("too old").status, 400);
    }
}
