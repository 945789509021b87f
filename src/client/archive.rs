//! `save`, `load`, `image base`: images as files.

use super::{
    http::{Client, Query},
    pull::{Show, path, show_progress},
    stream,
};
use crate::base::{self, Base};
use anyhow::{Context as _, Result, bail};
use http_body_util::BodyExt;
use hyper::{
    Method,
    body::{Bytes, Frame},
};
use std::{
    fs::File,
    io::{self, IsTerminal, Read, Write},
    path::PathBuf,
    pin::Pin,
    task::{Context, Poll},
};

/// Write one or more images into a tar
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Save {
    /// The file to write, instead of stdout
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

/// Read images from a tar
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Load {
    /// The file to read, instead of stdin
    #[arg(short, long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Do not show the progress
    #[arg(short, long)]
    quiet: bool,
}

/// `save`.
pub(crate) async fn save(client: &Client, args: &Save) -> Result<u8> {
    if args.output.is_none() && io::stdout().is_terminal() {
        bail!("cowardly refusing to save to a terminal. Use the -o flag or redirect");
    }
    let answer = match args.images.as_slice() {
        [one] => client.get(format!("/images/{}/get", path(one))).stream().await?,
        many => {
            let query = many.iter().fold(Query::default(), |query, name| query.add("names", name));
            client.get(format!("/images/get{query}")).stream().await?
        }
    };
    to_file(answer, args.output.as_deref()).await?;
    Ok(0)
}

/// Writes an answer's body to a file, or to stdout. A file appears only when all of it is there.
pub(crate) async fn to_file(
    answer: hyper::Response<hyper::body::Incoming>,
    file: Option<&std::path::Path>,
) -> Result<()> {
    let mut body = answer.into_body();
    let Some(file) = file else {
        let mut out = io::stdout().lock();
        while let Some(bytes) = stream::next(&mut body).await? {
            out.write_all(&bytes)?;
        }
        return Ok(out.flush()?);
    };
    let directory = file.parent().filter(|d| !d.as_os_str().is_empty()).unwrap_or(std::path::Path::new("."));
    let mut beside = tempfile::NamedTempFile::new_in(directory).with_context(|| {
        format!("invalid output path: cannot write in the directory {}", directory.display())
    })?;
    while let Some(bytes) = stream::next(&mut body).await? {
        beside.write_all(&bytes)?;
    }
    beside.persist(file).with_context(|| format!("cannot write {}", file.display()))?;
    Ok(())
}

/// `load`.
pub(crate) async fn load(client: &Client, args: &Load) -> Result<u8> {
    let from: Box<dyn Read + Send> = match &args.input {
        Some(file) => Box::new(File::open(file).with_context(|| format!("open {}", file.display()))?),
        None if io::stdin().is_terminal() => bail!("requested load from stdin, but stdin is empty"),
        None => Box::new(io::stdin()),
    };
    client.negotiate().await?;
    let query = Query::default().flag("quiet", args.quiet);
    let answer = client.stream_to(Method::POST, &format!("/images/load{query}"), &[], reader(from)?).await?;
    show_progress(answer, Show::Stdout, |_| {}).await?;
    Ok(0)
}

/// `image base`.
pub(crate) async fn base(client: &Client, args: &Base) -> Result<u8> {
    let image = base::make(&args.tag, args.from)?;
    eprintln!("base: {}", image.summary);
    if !image.missing.is_empty() {
        eprintln!("left out, since this host does not have them: {}", image.missing.join(" "));
    }
    if let Some(file) = &args.output {
        std::fs::write(file, &image.archive).with_context(|| format!("cannot write {}", file.display()))?;
        return Ok(0);
    }
    let answer = client.post("/images/load?quiet=1").tar(image.archive).stream().await?;
    show_progress(answer, Show::Stdout, |_| {}).await?;
    Ok(0)
}

/// A reader as a request's body. A thread reads, so that a slow file holds up nothing else.
pub(crate) fn reader(mut from: Box<dyn Read + Send>) -> Result<super::http::Body> {
    let (sender, receiver) = tokio::sync::mpsc::channel::<io::Result<Bytes>>(4);
    std::thread::Builder::new().name("body".into()).spawn(move || {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let piece = match from.read(&mut buffer) {
                Ok(0) => return,
                Ok(n) => Ok(Bytes::copy_from_slice(&buffer[..n])),
                Err(why) if why.kind() == io::ErrorKind::Interrupted => continue,
                Err(why) => Err(why),
            };
            let failed = piece.is_err();
            // Nobody takes it any more: the request is over.
            if sender.blocking_send(piece).is_err() || failed {
                return;
            }
        }
    })?;
    Ok(stream_body(receiver))
}

/// Pieces from a channel as a request's body.
pub(crate) fn stream_body(receiver: tokio::sync::mpsc::Receiver<io::Result<Bytes>>) -> super::http::Body {
    struct Pieces(tokio::sync::mpsc::Receiver<io::Result<Bytes>>);
    impl hyper::body::Body for Pieces {
        type Data = Bytes;
        type Error = io::Error;
        fn poll_frame(
            mut self: Pin<&mut Self>,
            context: &mut Context,
        ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
            self.0.poll_recv(context).map(|piece| piece.map(|p| p.map(Frame::data)))
        }
    }
    Pieces(receiver).boxed_unsync()
}
