//! Lists: the tags of a repository, and the repositories; a page at a time.

use super::{
    Outcome, Registry,
    answer::{self, Code, refusal},
    http::Request,
};
use std::{collections::BTreeSet, sync::PoisonError};

/// How many names a page has at most.
const PAGE: usize = 10_000;

impl Registry<'_> {
    /// `GET /v2/<name>/tags/list?n=…&last=…`
    pub(super) fn tags(&self, name: &str, request: &Request) -> Outcome {
        let own = self.own(name)?;
        if own.is_empty() && !self.emptied.lock().unwrap_or_else(PoisonError::into_inner).contains(name) {
            return Err(refusal(404, Code::NameUnknown, "repository name not known to registry"));
        }
        let tags = own.iter().filter_map(|(rest, _)| rest.strip_prefix(':')).map(str::to_owned).collect();
        page(tags, request, |tags| serde_json::json!({"name": name, "tags": tags}))
    }

    /// `GET /v2/_catalog?n=…&last=…`
    pub(super) fn catalog(&self, request: &Request) -> Outcome {
        if request.method != "GET" {
            return Err(refusal(405, Code::Unsupported, "this method is not for that"));
        }
        let all = self.store.list().map_err(answer::broken)?;
        // `localhost:5000/x:1` has two colons, and `x@sha256:…` has its colon behind the `@`.
        let repository = |name: String| -> Option<String> {
            let name = name.split_once('@').map_or(name.as_str(), |(name, _)| name);
            let end = name.rfind(':').filter(|colon| !name[*colon..].contains('/')).unwrap_or(name.len());
            Some(name[..end].to_owned()).filter(|name| crate::reference::is_repository(name))
        };
        let names = all.into_iter().filter_map(|(name, _)| repository(name?)).collect();
        page(names, request, |names| serde_json::json!({"repositories": names}))
    }
}

/// The names after `last`, `n` of them, and a link to the rest.
fn page(
    names: BTreeSet<String>,
    request: &Request,
    document: impl Fn(&[String]) -> serde_json::Value,
) -> Outcome {
    let n = match request.query("n").map(str::parse::<usize>) {
        None => PAGE,
        Some(Ok(n)) => n.min(PAGE),
        Some(Err(_)) => return Err(refusal(400, Code::Unsupported, "n is a number")),
    };
    let last = request.query("last").unwrap_or("");
    let rest: Vec<String> =
        names.into_iter().filter(|name| last.is_empty() || name.as_str() > last).collect();
    let page = &rest[..rest.len().min(n)];
    let answer = answer::json(200, &document(page));
    Ok(match page.last() {
        Some(end) if page.len() < rest.len() => {
            answer.header("link", format!("<{}?n={n}&last={end}>; rel=\"next\"", request.path))
        }
        _ => answer,
    })
}
