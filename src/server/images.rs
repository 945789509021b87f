//! `docker images`, `inspect`, `history`, `tag`, `rmi`.

use super::{
    answer::{Answer, empty, json},
    call::Call,
    router::routes,
};
use crate::engine::{blocking, failure::Result, images};
use hyper::StatusCode;
use serde_json::{Value, json};

routes! {
    GET "/images/json" => list;
    POST "/images/prune" => prune;
    GET "/images/{*}/json" => inspect;
    GET "/images/{*}/history" => history;
    POST "/images/{*}/tag" => tag;
    DELETE "/images/{*}" => remove;
}

const FILTERS: &[&str] = &["before", "dangling", "label", "label!", "reference", "since", "until"];

async fn list(call: Call) -> Answer {
    let filters = call.filters()?;
    filters.only(FILTERS)?;
    let digests = call.flag_or("digests", true);
    let time_of = |reference: &String| images::find(&call.engine, reference).map(|i| images::created(&i));
    let before = filters.get("before").first().map(time_of).transpose()?;
    let since = filters.get("since").first().map(time_of).transpose()?;
    let until = super::events::until(&filters)?.map(|t| t.as_second());
    // An older client asks with a parameter of its own.
    let name = call.get("filter").map(str::to_owned);
    let engine = call.engine.clone();
    let list = blocking(move || {
        let containers = engine.containers();
        let mut list = Vec::new();
        for named in images::all(&engine)? {
            let created = images::created(&named.image);
            let labels =
                named.image.config.config().as_ref().and_then(|c| c.labels().clone()).unwrap_or_default();
            let references = filters.get("reference").iter().chain(&name);
            let references: Vec<&String> = references.collect();
            let tags: Vec<&String> = named
                .tags
                .iter()
                .filter(|t| references.is_empty() || references.iter().any(|r| fits(t, r)))
                .collect();
            let shown = before.is_none_or(|b| created < b)
                && since.is_none_or(|s| created > s)
                && until.is_none_or(|u| created < u)
                && filters.flag("dangling").is_none_or(|d| named.tags.is_empty() == d)
                && filters.labels(&labels)
                && (references.is_empty() || !tags.is_empty());
            if !shown {
                continue;
            }
            let id = named.image.id().to_string();
            let size: u64 = engine.sizes.of(&engine, &named.image)?.iter().sum();
            list.push(json!({
                "Id": id,
                "ParentId": "",
                "RepoTags": tags,
                "RepoDigests": if digests { json!(named.digests) } else { json!([]) },
                "Created": created,
                "Size": size,
                "VirtualSize": size,
                "SharedSize": -1,
                "Containers": containers.iter().filter(|c| c.look(|r| r.image_id == id)).count(),
                "Labels": labels,
            }));
        }
        Ok(list)
    })
    .await?;
    json(&list)
}

/// Whether a name is of a pattern: `alpine`, `alpine:3.*`, `*/base`. Without a tag, any tag is meant.
fn fits(tag: &str, pattern: &str) -> bool {
    let (name, _) = tag.rsplit_once(':').unwrap_or((tag, ""));
    glob(pattern.as_bytes(), tag.as_bytes()) || glob(pattern.as_bytes(), name.as_bytes())
}

/// `*` is any run of characters but `/`, `?` any one.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern.first(), text.first()) {
        (None, None) => true,
        (Some(b'*'), _) => {
            glob(&pattern[1..], text)
                || (text.first().is_some_and(|c| *c != b'/') && glob(pattern, &text[1..]))
        }
        (Some(b'?'), Some(c)) if *c != b'/' => glob(&pattern[1..], &text[1..]),
        (Some(p), Some(c)) if p == c => glob(&pattern[1..], &text[1..]),
        _ => false,
    }
}

async fn inspect(call: Call) -> Answer {
    let engine = call.engine.clone();
    json(&blocking(move || images::inspect(&engine, &call.path[0])).await?)
}

async fn history(call: Call) -> Answer {
    let engine = call.engine.clone();
    json(&blocking(move || images::history(&engine, &call.path[0])).await?)
}

async fn tag(call: Call) -> Answer {
    images::tag(
        &call.engine,
        &call.path[0],
        call.get("repo").unwrap_or_default(),
        call.get("tag").unwrap_or_default(),
    )?;
    empty(StatusCode::CREATED)
}

async fn remove(call: Call) -> Answer {
    let (engine, force) = (call.engine.clone(), call.flag("force"));
    json(&blocking(move || images::remove(&engine, &call.path[0], force)).await?)
}

async fn prune(call: Call) -> Answer {
    let filters = call.filters()?;
    filters.only(&["dangling", "label", "label!", "until"])?;
    // Those without a name; with `dangling=false` all that no container uses.
    let dangling = filters.flag("dangling").unwrap_or(true);
    let until = super::events::until(&filters)?.map(|t| t.as_second());
    let engine = call.engine.clone();
    let answer = blocking(move || -> Result<Value> {
        let mut deleted = Vec::new();
        for named in images::all(&engine)? {
            let id = named.image.id().to_string();
            let used = engine.containers().iter().any(|c| c.look(|r| r.image_id == id));
            let labels =
                named.image.config.config().as_ref().and_then(|c| c.labels().clone()).unwrap_or_default();
            let old = until.is_none_or(|u| images::created(&named.image) < u);
            if used || !old || !filters.labels(&labels) || (dangling && !named.tags.is_empty()) {
                continue;
            }
            deleted.extend(images::remove(&engine, &id, true)?);
        }
        // What builds and pulls left behind has no name at all.
        let freed = images::collect(&engine)?;
        Ok(json!({"ImagesDeleted": deleted, "SpaceReclaimed": freed}))
    })
    .await?;
    json(&answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_by_pattern() {
        assert!(
            fits("alpine:3.20", "alpine") && fits("alpine:3.20", "alpine:3.*") && fits("a/base:1", "*/base")
        );
        assert!(
            !fits("alpine:3.20", "alp") && !fits("a/b/base:1", "*/base") && !fits("alpine:3.20", "alpine:2*")
        );
    }
}
