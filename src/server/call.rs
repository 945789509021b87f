//! A request, with all that a handler needs to answer it.

use super::answer::Body;
use crate::engine::{
    Engine,
    failure::{Failure, Result},
};
use http_body_util::{BodyExt, Limited};
use hyper::{Request, body::Incoming};
use serde::de::DeserializeOwned;
use std::{collections::HashMap, sync::Arc};

/// The longest document that is read. Archives are streamed, and have no bound here.
const DOCUMENT: usize = 4 << 20;

/// A request on its way to a handler.
pub(crate) struct Call {
    /// The engine.
    pub(crate) engine: Arc<Engine>,
    /// What stood in the path for `{…}`, in order.
    pub(crate) path: Vec<String>,
    /// The request itself.
    pub(crate) request: Request<Incoming>,
    query: Vec<(String, String)>,
}

impl Call {
    /// Reads the query.
    pub(crate) fn new(engine: Arc<Engine>, path: Vec<String>, request: Request<Incoming>) -> Call {
        let query = request.uri().query().unwrap_or_default();
        let query = query
            .split('&')
            .filter(|p| !p.is_empty())
            .map(|pair| {
                let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                (decode(&name.replace('+', " ")), decode(&value.replace('+', " ")))
            })
            .collect();
        Call { engine, path, request, query }
    }

    /// A parameter; an empty one is as none.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str()).filter(|v| !v.is_empty())
    }

    /// All values of a parameter that may come more than once.
    pub(crate) fn all(&self, name: &str) -> Vec<String> {
        self.query.iter().filter(|(n, v)| n == name && !v.is_empty()).map(|(_, v)| v.clone()).collect()
    }

    /// Whether a parameter is set, as docker reads it: all but these mean yes.
    pub(crate) fn flag(&self, name: &str) -> bool {
        self.get(name)
            .is_some_and(|v| !matches!(v.to_ascii_lowercase().as_str(), "0" | "no" | "false" | "none"))
    }

    /// The same, with what it is when it is not there.
    pub(crate) fn flag_or(&self, name: &str, default: bool) -> bool {
        if self.get(name).is_none() { default } else { self.flag(name) }
    }

    /// A number.
    pub(crate) fn number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>> {
        self.get(name)
            .map(|v| v.parse().map_err(|_| Failure::bad(format!("invalid value for {name}: {v:?}"))))
            .transpose()
    }

    /// A header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.request.headers().get(name)?.to_str().ok()
    }

    /// The filters.
    pub(crate) fn filters(&self) -> Result<Filters> {
        let Some(text) = self.get("filters") else { return Ok(Filters::default()) };
        let bad = |e: serde_json::Error| Failure::bad(format!("invalid filter: {e}"));
        let parsed: HashMap<String, serde_json::Value> = serde_json::from_str(text).map_err(bad)?;
        let mut filters = HashMap::new();
        for (name, values) in parsed {
            let values = match values {
                serde_json::Value::Array(list) => {
                    list.iter().filter_map(|v| v.as_str().map(str::to_owned)).collect()
                }
                // Newer than a list: a set, written as an object.
                serde_json::Value::Object(set) => set
                    .into_iter()
                    .filter(|(_, v)| v != &serde_json::Value::Bool(false))
                    .map(|(k, _)| k)
                    .collect(),
                _ => return Err(Failure::bad(format!("invalid filter: {name}"))),
            };
            filters.insert(name, values);
        }
        Ok(Filters(filters))
    }

    /// The body, as a document. One that is not there is `null`: what may be left out, is.
    pub(crate) async fn document<T: DeserializeOwned>(&mut self) -> Result<T> {
        let body = Limited::new(self.request.body_mut(), DOCUMENT).collect().await;
        let bytes =
            body.map_err(|e| Failure::bad(format!("the request's body cannot be read: {e}")))?.to_bytes();
        // Whatever Content-Length says: the bytes that came are what is parsed, and all of them (CVE-2024-41110).
        let bytes: &[u8] = if bytes.iter().all(u8::is_ascii_whitespace) { b"null" } else { &bytes };
        serde_json::from_slice(bytes).map_err(|e| Failure::bad(format!("invalid JSON: {e}")))
    }

    /// The same, for a body whose every field may be left out.
    pub(crate) async fn options<T: DeserializeOwned + Default>(&mut self) -> Result<T> {
        Ok(self.document::<Option<T>>().await?.unwrap_or_default())
    }
}

/// `{"label": ["a=b"], …}`
#[derive(Debug, Default)]
pub(crate) struct Filters(HashMap<String, Vec<String>>);

impl Filters {
    /// Whether nothing is asked under this name, or one of the values fits.
    pub(crate) fn fits(&self, name: &str, fits: impl Fn(&str) -> bool) -> bool {
        self.0.get(name).is_none_or(|values| values.is_empty() || values.iter().any(|v| fits(v)))
    }

    /// The values of a name.
    pub(crate) fn get(&self, name: &str) -> &[String] {
        self.0.get(name).map(Vec::as_slice).unwrap_or_default()
    }

    /// Whether a value, if there is one, means yes.
    pub(crate) fn flag(&self, name: &str) -> Option<bool> {
        self.get(name).first().map(|v| matches!(v.as_str(), "1" | "true" | "True" | "TRUE" | "t"))
    }

    /// Whether all labels that are asked for are there: `name`, or `name=value`; and none of `label!`.
    pub(crate) fn labels(&self, labels: &HashMap<String, String>) -> bool {
        let has = |asked: &String| match asked.split_once('=') {
            Some((name, value)) => labels.get(name).is_some_and(|v| v == value),
            None => labels.contains_key(asked),
        };
        self.get("label").iter().all(has) && !self.get("label!").iter().any(has)
    }

    /// Refuses names that the endpoint does not know.
    pub(crate) fn only(&self, known: &[&str]) -> Result<()> {
        match self.0.keys().find(|k| !known.contains(&k.as_str())) {
            None => Ok(()),
            Some(other) => Err(Failure::bad(format!("invalid filter '{other}'"))),
        }
    }
}

/// `%2F` is `/`. What is no such thing stays as it is.
pub(crate) fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = bytes
            .get(at + 1..at + 3)
            .and_then(|h| std::str::from_utf8(h).ok())
            .and_then(|h| u8::from_str_radix(h, 16).ok());
        match (bytes[at], hex) {
            (b'%', Some(byte)) => {
                out.push(byte);
                at += 3;
            }
            (byte, _) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// A handler's promise.
pub(crate) type Answering =
    std::pin::Pin<Box<dyn Future<Output = Result<hyper::Response<Body>, Failure>> + Send>>;
