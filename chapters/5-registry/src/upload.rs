//! Side room: the bytes of one blob on their way out, in one request or, where that breaks, in several
//! (distribution-spec, "Pushing a blob in chunks").

use crate::{
    Error, Result,
    client::{self, Client, Payload},
    push,
};
use layers::Store;
use oci_spec::image::Descriptor;
use std::{
    fs::File,
    io::{Seek, SeekFrom},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};
use ureq::http::{Method, Response, Uri};

/// The size of a chunk, unless the registry wants larger ones.
const CHUNK: u64 = 16 << 20;
/// How often an upload may break before it is given up.
const RETRIES: u32 = 5;

/// Sends a blob to the upload session that the registry has opened.
///
/// One PUT is what every registry knows, and the quickest. If it breaks, or is too large for something on
/// the way, the blob goes in chunks, and only the chunk that broke is sent again.
pub(crate) fn blob(
    client: &Client,
    store: &Store,
    blob: &Descriptor,
    session: Uri,
    watch: &(dyn Fn(u64) + Sync),
    stop: &AtomicBool,
) -> Result<()> {
    let open = || Ok(store.open_blob(blob.digest())?);
    let url = with_digest(&session, blob)?;
    let sent = client.send(&Method::PUT, &url, &[OCTETS], &Payload::Blob(&open, blob.size(), watch));
    match sent {
        Ok(response) if response.status() == 201 => return received(&response, blob),
        Ok(response) if !matches!(response.status().as_u16(), 413 | 500 | 502 | 503 | 504) => {
            return Err(client.refused(response, "push"));
        }
        Err(error) if !matches!(error, Error::Unreachable { .. }) => return Err(error),
        _ if client.options().cancelled() => return Err(Error::Cancelled(client.reference().familiar())),
        _ => {}
    }
    in_chunks(client, store, blob, watch, stop)
}

const OCTETS: (&str, &str) = ("content-type", "application/octet-stream");

fn in_chunks(
    client: &Client,
    store: &Store,
    blob: &Descriptor,
    watch: &(dyn Fn(u64) + Sync),
    stop: &AtomicBool,
) -> Result<()> {
    let start = client.url("blobs/uploads/")?;
    let response = client.send(&Method::POST, &start, &[], &Payload::Bytes(b""))?;
    if response.status() != 202 {
        return Err(client.refused(response, "push"));
    }
    let least = number(&response, "oci-chunk-min-length").unwrap_or(0);
    let mut session =
        client::location(&start, &response).ok_or_else(|| push::no_location(&start.to_string()))?;
    let (mut at, mut troubles) = (0, 0);
    while at < blob.size() {
        if stop.load(Ordering::Relaxed) {
            return Err(Error::Cancelled(client.reference().familiar()));
        }
        let end = blob.size().min(at + CHUNK.max(least));
        let range = format!("{at}-{}", end - 1);
        let open = || -> Result<File> {
            let mut file = store.open_blob(blob.digest())?;
            let doing = || format!("go to byte {at} of blob {}", blob.digest());
            file.seek(SeekFrom::Start(at)).map_err(|source| Error::Io { doing: doing(), source })?;
            Ok(file)
        };
        let payload = Payload::Blob(&open, end - at, &|sent| watch(at + sent));
        let sent = client.send(&Method::PATCH, &session, &[OCTETS, ("content-range", &range)], &payload);
        match sent {
            Ok(response) if response.status() == 202 => {
                session = client::location(&session, &response).unwrap_or(session);
                at = end;
                continue;
            }
            Ok(response) if !matches!(response.status().as_u16(), 416 | 500 | 502 | 503 | 504) => {
                return Err(client.refused(response, "push"));
            }
            Err(error) if troubles >= RETRIES || !matches!(error, Error::Unreachable { .. }) => {
                return Err(error);
            }
            Ok(response) if troubles >= RETRIES => return Err(client.refused(response, "push")),
            _ => {}
        }
        // How much of the chunk has come through, the registry knows best.
        troubles += 1;
        client.wait(Duration::from_millis(100 << troubles))?;
        let status = client.send(&Method::GET, &session, &[], &Payload::None)?;
        if status.status() != 204 {
            return Err(client.refused(status, "push"));
        }
        session = client::location(&session, &status).unwrap_or(session);
        at = end_of(&status)
            .filter(|at| *at <= blob.size())
            .ok_or_else(|| push::no_location(&session.to_string()))?;
    }
    let url = with_digest(&session, blob)?;
    let response = client.send(&Method::PUT, &url, &[], &Payload::Bytes(b""))?;
    if response.status() == 201 { received(&response, blob) } else { Err(client.refused(response, "push")) }
}

/// The session's URL with the digest that closes it.
fn with_digest(session: &Uri, blob: &Descriptor) -> Result<Uri> {
    let separator = if session.query().is_some() { '&' } else { '?' };
    let url = format!("{session}{separator}digest={}", blob.digest());
    url.parse().map_err(|_| push::no_location(&url))
}

/// What the registry says it has must be what was sent.
fn received(response: &Response<ureq::Body>, blob: &Descriptor) -> Result<()> {
    let said = response.headers().get("docker-content-digest").and_then(|v| v.to_str().ok());
    match said {
        Some(said) if said != blob.digest().as_ref() => Err(Error::Untrusted {
            what: format!("the registry's receipt for blob {}", blob.digest()),
            why: format!("it calls it {said}"),
        }),
        _ => Ok(()),
    }
}

fn number(response: &Response<ureq::Body>, header: &str) -> Option<u64> {
    response.headers().get(header)?.to_str().ok()?.trim().parse().ok()
}

/// How many bytes are there, by `Range: 0-499`. Nothing at all is written `0-0` too, which one byte sent
/// again does not harm: the registry refuses it, and says so.
fn end_of(response: &Response<ureq::Body>) -> Option<u64> {
    let range = response.headers().get("range")?.to_str().ok()?;
    let last: u64 = range.trim().trim_start_matches("bytes=").split_once('-')?.1.parse().ok()?;
    Some(if last == 0 { 0 } else { last + 1 })
}
