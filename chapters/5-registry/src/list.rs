//! Side room: the tags of a repository, page by page (distribution-spec, "Listing Tags").

use crate::{
    Error, Result,
    client::{Client, Payload},
    reference::is_tag,
    transport,
};
use serde::Deserialize;
use ureq::http::Method;

/// A registry that has more than this for us is not telling us tags.
const PAGES: usize = 1000;
const PAGE: u64 = 4 << 20;

#[derive(Deserialize)]
struct Page {
    tags: Option<Vec<String>>,
}

/// The tags that the client's repository has.
pub fn tags(client: &Client) -> Result<Vec<String>> {
    let untrusted = |why: String| Error::Untrusted {
        what: format!("the tags of {}", client.reference().familiar_name()),
        why,
    };
    let mut url = client.url("tags/list")?;
    let mut tags = Vec::new();
    for _ in 0..PAGES {
        let response = client.send(&Method::GET, &url, &[], &Payload::None)?;
        if response.status() != 200 {
            return Err(client.refused(response, "pull"));
        }
        let next =
            response.headers().get("link").and_then(|link| next(link.to_str().ok()?)).map(str::to_owned);
        let bytes = response
            .into_body()
            .into_with_config()
            .limit(PAGE)
            .read_to_vec()
            .map_err(|e| untrusted(e.to_string()))?;
        let page: Page = serde_json::from_slice(&bytes).map_err(|e| untrusted(e.to_string()))?;
        tags.extend(page.tags.unwrap_or_default().into_iter().filter(|tag| is_tag(tag)));
        let Some(next) = next else { return Ok(tags) };
        url =
            transport::resolve(&url, &next).ok_or_else(|| untrusted(format!("its next page is {next:?}")))?;
    }
    Err(untrusted("they go on and on".into()))
}

/// The target of `<…>; rel="next"` (RFC 8288).
fn next(link: &str) -> Option<&str> {
    let (target, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
    parameters.contains("next").then_some(target)
}

#[cfg(test)]
mod tests {
    use super::next;

    #[test]
    fn the_next_page_is_found() {
        assert_eq!(next("</v2/a/tags/list?n=2&last=b>; rel=\"next\""), Some("/v2/a/tags/list?n=2&last=b"));
        assert_eq!(next("</first>; rel=\"prev\""), None);
        assert_eq!(next("nonsense"), None);
    }
}
