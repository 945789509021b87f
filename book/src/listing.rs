//! A listing as it stands in a page: which item it is, where, and its lines.

use lab::source::Listing;

/// The item `path`, with its file and line, linked.
pub(crate) fn html(path: &str, listing: &Listing) -> String {
    let link = link(listing);
    let (file, line, text) = (&listing.file, listing.line, &listing.text);
    // A module's docs are prose, and read as such.
    let (kind, body) = match text.starts_with("//!") {
        true => ("listing docs", prose(text)),
        false => ("listing", format!("~~~~~~rust\n{text}~~~~~~\n")),
    };
    format!(
        "<div class=\"{kind}\"><p class=\"where\"><code>{path}</code> <a href=\"{link}\">{file}:{line}</a></p>\n\n\
         {body}\n</div>\n"
    )
}

/// A module's docs as Markdown, its links to other items without the brackets: they are rustdoc's to follow.
fn prose(docs: &str) -> String {
    let mut prose = String::new();
    for line in docs.lines().map(|line| line.strip_prefix("//!").unwrap_or(line)) {
        let mut rest = line.strip_prefix(' ').unwrap_or(line);
        while let Some((before, link)) = rest.split_once("[`") {
            let Some((name, after)) = link.split_once("`]") else { break };
            let target = after.strip_prefix('(').and_then(|after| after.split_once(')'));
            rest = target.filter(|(target, _)| target.contains("::")).map_or(after, |(_, after)| after);
            prose.extend([before, "`", name, "`"]);
        }
        prose.extend([rest, "\n"]);
    }
    prose
}

/// Where the listing's first line is, in the copy of the source that comes with the book.
pub(crate) fn link(listing: &Listing) -> String {
    format!("source/{}.html#L{}", listing.file, listing.line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_modules_docs_lose_what_only_rustdoc_follows() {
        let docs = "//! Reads [`spec`] and [`glob`](crate::ignore); see [`x`](a.html).\n//!\n//! ```text\n//!  a [`\n";
        assert_eq!(prose(docs), "Reads `spec` and `glob`; see `x`(a.html).\n\n```text\n a [`\n");
    }
}
