//! `cp`: files into a container and out of it, as a tar over the API.

use super::{
    archive::{reader, stream_body},
    http::{Client, Query, escape, refusal},
    stream,
};
use anyhow::{Context, Result, anyhow, bail};
use base64::{Engine, engine::general_purpose::STANDARD};
use hyper::{Method, Response, StatusCode, body::Bytes, body::Incoming};
use std::{
    fs, io,
    io::{Read, Write},
    path::{Path, PathBuf},
};
use tokio::sync::mpsc;

/// Copy files between a container and here
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Cp {
    /// Keep owners
    #[arg(short, long)]
    archive: bool,
    /// Copy what a link in SRC_PATH leads to
    #[arg(short = 'L', long)]
    follow_link: bool,
    /// Say nothing
    #[arg(short, long)]
    quiet: bool,
    #[arg(value_name = "[CONTAINER:]SRC_PATH|-", allow_hyphen_values = true)]
    source: String,
    #[arg(value_name = "[CONTAINER:]DEST_PATH|-", allow_hyphen_values = true)]
    destination: String,
}

/// What the daemon says of a path (`X-Docker-Container-Path-Stat`).
#[derive(Debug, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stat {
    name: String,
    /// Go's file mode: the directory's bit is the highest, the link's the fifth below it.
    mode: u32,
    #[serde(default)]
    link_target: String,
}

impl Stat {
    fn is_dir(&self) -> bool {
        self.mode & 1 << 31 != 0
    }
    fn is_link(&self) -> bool {
        self.mode & 1 << 27 != 0
    }
}

/// `cp`.
pub(crate) async fn cp(client: &Client, args: &Cp) -> Result<u8> {
    // The answer to a HEAD has no words, so an older daemon could not say there which version it has.
    client.negotiate().await?;
    match (split(&args.source), split(&args.destination)) {
        ((Some(container), path), (None, _)) => from_container(client, args, container, path).await,
        ((None, _), (Some(container), path)) => to_container(client, args, container, path).await,
        ((Some(_), _), (Some(_), _)) => bail!("copying between containers is not supported"),
        _ => bail!("must specify at least one container source"),
    }
}

/// `container:path`; a path that begins with / or . is never a container's.
fn split(text: &str) -> (Option<&str>, &str) {
    if text.starts_with(['/', '.']) {
        return (None, text);
    }
    match text.split_once(':') {
        Some((container, path)) if !container.is_empty() => (Some(container), path),
        _ => (None, text),
    }
}

async fn stat(client: &Client, container: &str, path: &str) -> Result<Option<Stat>> {
    let query = Query::default().add("path", path);
    let call = client.call(Method::HEAD, format!("/containers/{}/archive{query}", escape(container)));
    match call.stream().await {
        Ok(answer) => Ok(Some(stat_of(&answer)?)),
        Err(why) if refusal(&why).is_some_and(|r| r.status == StatusCode::NOT_FOUND) => {
            // An answer to HEAD has no words: whether the container or the path is missing, another request tells.
            client.get(format!("/containers/{}/json", escape(container))).done().await?;
            Ok(None)
        }
        Err(why) => Err(why),
    }
}

fn stat_of(answer: &Response<Incoming>) -> Result<Stat> {
    let header = answer
        .headers()
        .get("X-Docker-Container-Path-Stat")
        .context("the daemon did not tell what the path is")?;
    serde_json::from_slice(&STANDARD.decode(header)?)
        .context("the daemon's word on the path is not what the API says")
}

/// Out of a container. The tar has the source's own name at its top.
async fn from_container(client: &Client, args: &Cp, container: &str, path: &str) -> Result<u8> {
    let mut path = absolute(path);
    if args.follow_link
        && let Some(link) = stat(client, container, &path).await?.filter(Stat::is_link)
    {
        path = join(&path, &link.link_target);
    }
    let query = Query::default().add("path", &path);
    let answer = client.get(format!("/containers/{}/archive{query}", escape(container))).stream().await?;
    let stat = stat_of(&answer)?;
    if args.destination == "-" {
        super::archive::to_file(answer, None).await?;
        return Ok(0);
    }
    let destination = PathBuf::from(&args.destination);
    let into = fs::metadata(&destination).is_ok_and(|m| m.is_dir());
    if !into && args.destination.ends_with('/') && !stat.is_dir() {
        bail!("destination directory {} must be a directory that exists", args.destination);
    }
    if !into && stat.is_dir() && destination.exists() {
        bail!("cannot copy a directory to a file: {}", args.destination);
    }
    let tar = Pieces::of(answer);
    let place = destination.clone();
    // Unpacking blocks: a thread of its own, while this one feeds it.
    let unpacked =
        std::thread::spawn(move || if into { unpack(tar, &place) } else { unpack_as(tar, &place) });
    while !unpacked.is_finished() {
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    unpacked.join().map_err(|_| anyhow!("the thread that unpacks is gone"))??;
    if !args.quiet {
        eprintln!("Successfully copied {} to {}", stat.name, args.destination);
    }
    Ok(0)
}

/// Unpacks into a directory. Nothing that the tar says leads out of it: the tar crate resolves each path
/// inside, and refuses entries with `..` and those behind links that lead elsewhere.
fn unpack(tar: impl Read, directory: &Path) -> Result<()> {
    let directory = fs::canonicalize(directory)?;
    let mut archive = tar::Archive::new(tar);
    archive.set_overwrite(true);
    let mut directories = Vec::new();
    for entry in archive.entries()? {
        let mut entry = entry?;
        if entry.header().entry_type().is_dir() {
            // Their modes come last: a directory without w would take no files.
            directories.push(entry);
        } else if !entry.unpack_in(&directory)? {
            bail!("the archive has a path that leads out of it: {}", entry.path()?.display());
        }
    }
    for mut entry in directories.into_iter().rev() {
        entry.unpack_in(&directory)?;
    }
    Ok(())
}

/// Unpacks beside `place`, then gives what came its name.
fn unpack_as(tar: impl Read, place: &Path) -> Result<()> {
    let parent = place.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let beside =
        tempfile::tempdir_in(parent).with_context(|| format!("invalid output path: {}", parent.display()))?;
    unpack(tar, beside.path())?;
    let mut entries: Vec<_> = fs::read_dir(beside.path())?.collect::<io::Result<_>>()?;
    match (entries.pop(), entries.is_empty()) {
        (Some(one), true) => fs::rename(one.path(), place)?,
        // The contents of a directory (SRC/.): the directory itself takes the name.
        _ => fs::rename(beside.keep(), place)?,
    }
    Ok(())
}

/// The body of an answer as a reader, for a thread.
struct Pieces {
    from: mpsc::Receiver<Result<Bytes>>,
    rest: Bytes,
}

impl Pieces {
    fn of(answer: Response<Incoming>) -> Pieces {
        let (sender, from) = mpsc::channel(4);
        tokio::spawn(async move {
            let mut body = answer.into_body();
            while let Some(piece) = stream::next(&mut body).await.transpose() {
                let failed = piece.is_err();
                if sender.send(piece).await.is_err() || failed {
                    return;
                }
            }
        });
        Pieces { from, rest: Bytes::new() }
    }
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            match self.from.blocking_recv() {
                None => return Ok(0),
                Some(piece) => self.rest = piece.map_err(io::Error::other)?,
            }
        }
        let n = buffer.len().min(self.rest.len());
        buffer[..n].copy_from_slice(&self.rest.split_to(n));
        Ok(n)
    }
}

/// Into a container: the daemon unpacks in a directory that is there, so the tar has the final name at its top.
async fn to_container(client: &Client, args: &Cp, container: &str, path: &str) -> Result<u8> {
    let path = absolute(path);
    let mut there = stat(client, container, &path).await?;
    let mut target = path.clone();
    if let Some(link) = there.as_ref().filter(|s| s.is_link()) {
        target = join(&path, &link.link_target);
        there = stat(client, container, &target).await?;
    }
    let is_dir = there.as_ref().is_some_and(Stat::is_dir);
    let query = |directory: &str| {
        let query = Query::default().add("path", directory).add("noOverwriteDirNonDir", "true");
        query.flag("copyUIDGID", args.archive)
    };
    let put = async |directory: &str, body| {
        let path = format!("/containers/{}/archive{}", escape(container), query(directory));
        client.stream_to(Method::PUT, &path, &[], body).await.map(drop)
    };
    if args.source == "-" {
        if !is_dir {
            bail!("destination \"{container}:{path}\" must be a directory");
        }
        put(&target, reader(Box::new(io::stdin()))?).await?;
        return Ok(0);
    }
    let source = PathBuf::from(&args.source);
    let about = if args.follow_link { fs::metadata(&source) } else { fs::symlink_metadata(&source) };
    let about = about.with_context(|| format!("lstat {}", source.display()))?;
    let contents = about.is_dir() && (args.source.ends_with("/.") || args.source == ".");
    let own = fs::canonicalize(&source)
        .ok()
        .filter(|_| contents || args.source.ends_with(".."))
        .unwrap_or_else(|| source.clone());
    let own_name = own.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let (directory, name) = if is_dir {
        (target, if contents { ".".to_owned() } else { own_name })
    } else {
        if there.is_some() && about.is_dir() {
            bail!("cannot copy directory");
        }
        if path.ends_with('/') && !about.is_dir() {
            bail!("destination directory {path} must be a directory that exists");
        }
        let trimmed = target.trim_end_matches('/');
        let (parent, name) = trimmed.rsplit_once('/').unwrap_or(("", trimmed));
        (if parent.is_empty() { "/".to_owned() } else { parent.to_owned() }, name.to_owned())
    };
    put(&directory, pack(source, name, args.follow_link)?).await?;
    if !args.quiet {
        eprintln!("Successfully copied {} to {container}:{path}", args.source);
    }
    Ok(0)
}

/// A tar of a file or directory under another name, made in a thread as it is sent.
fn pack(source: PathBuf, name: String, follow: bool) -> Result<super::http::Body> {
    let (sender, receiver) = mpsc::channel::<io::Result<Bytes>>(4);
    let write = move |out: Sending| -> io::Result<()> {
        let mut tar = tar::Builder::new(out);
        tar.follow_symlinks(follow);
        if fs::metadata(&source)?.is_dir() && (follow || !fs::symlink_metadata(&source)?.is_symlink()) {
            tar.append_dir_all(&name, &source)?;
        } else {
            tar.append_path_with_name(&source, &name)?;
        }
        tar.into_inner()?.flush()
    };
    std::thread::Builder::new().name("tar".into()).spawn(move || {
        let out = Sending(sender.clone());
        if let Err(why) = write(out) {
            let _ = sender.blocking_send(Err(why));
        }
    })?;
    Ok(stream_body(receiver))
}

/// Writes into a request's body.
pub(crate) struct Sending(pub(crate) mpsc::Sender<io::Result<Bytes>>);

impl Write for Sending {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        self.0.blocking_send(Ok(Bytes::copy_from_slice(bytes))).map_err(gone)?;
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Paths in a container begin at its root.
fn absolute(path: &str) -> String {
    if path.starts_with('/') { path.to_owned() } else { format!("/{path}") }
}

/// Where a link at `path` leads.
fn join(path: &str, target: &str) -> String {
    if target.starts_with('/') {
        return target.to_owned();
    }
    let parent = path.trim_end_matches('/').rsplit_once('/').map_or("", |(parent, _)| parent);
    format!("{parent}/{target}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_and_paths() {
        assert_eq!(split("web:/etc"), (Some("web"), "/etc"));
        assert_eq!(split("./web:x"), (None, "./web:x"));
        assert_eq!(split("/a:b"), (None, "/a:b"));
        assert_eq!(split("plain"), (None, "plain"));
        assert_eq!(join("/a/link", "b"), "/a/b");
        assert_eq!(join("/link", "/c"), "/c");
    }

    fn tar_of(entries: &[(&str, tar::EntryType, &str)]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (path, kind, content) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_mode(0o755);
            // Written by hand: the crate's own way refuses `..`.
            header.as_gnu_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
            let data = if *kind == tar::EntryType::Regular { content.as_bytes() } else { &[] };
            if *kind == tar::EntryType::Symlink {
                header.set_link_name(content).unwrap();
            }
            header.set_size(data.len() as u64);
            header.set_cksum();
            tar.append(&header, data).unwrap();
        }
        tar.into_inner().unwrap()
    }

    #[test]
    fn nothing_is_written_outside() {
        use tar::EntryType::{Regular, Symlink};
        let dir = tempfile::tempdir().unwrap();
        let inside = dir.path().join("inside");
        fs::create_dir(&inside).unwrap();
        let outside = dir.path().join("outside");
        for bytes in [
            tar_of(&[("../outside", Regular, "x")]),
            tar_of(&[("link", Symlink, ".."), ("link/outside", Regular, "x")]),
        ] {
            assert!(unpack(&bytes[..], &inside).is_err());
            assert!(!outside.exists());
        }
    }

    #[test]
    fn a_file_takes_the_name_that_was_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let bytes = tar_of(&[("passwd", tar::EntryType::Regular, "root")]);
        unpack_as(&bytes[..], &dir.path().join("copy")).unwrap();
        assert_eq!(fs::read_to_string(dir.path().join("copy")).unwrap(), "root");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
