//! `build`: the context as a tar, sent as it is made, and the builder's words as they come.

use super::{
    archive::{reader, stream_body},
    auth,
    copy::Sending,
    http::{Body, Client, Query},
    options::lists::labels,
    pull::{Failure, Show, familiar, show_progress},
    size,
};
use anyhow::{Context, Result, anyhow, bail};
use dockerfile::ignore::Ignore;
use hyper::{Method, body::Bytes};
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Cursor, Read, Write},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::sync::mpsc;

/// Build an image from a Dockerfile
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Build {
    /// A value for an ARG (NAME=value, or NAME to take it from here)
    #[arg(long, value_name = "NAME[=VALUE]")]
    build_arg: Vec<String>,
    /// Show each step: what is asked of the kernel, its time, the book's section
    #[arg(long)]
    explain: bool,
    /// The Dockerfile (PATH/Dockerfile), or - for stdin
    #[arg(short, long, value_name = "FILE")]
    file: Option<String>,
    /// Write the image's ID into this file
    #[arg(long, value_name = "FILE")]
    iidfile: Option<PathBuf>,
    /// A label of the image
    #[arg(long, value_name = "KEY[=VALUE]")]
    label: Vec<String>,
    /// The network of each RUN (none, host, default)
    #[arg(long, value_name = "NETWORK")]
    network: Option<String>,
    /// Use no layer of an earlier build
    #[arg(long)]
    no_cache: bool,
    /// The platform to build for
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<String>,
    /// Look for a newer version of the base
    #[arg(long)]
    pull: bool,
    /// Print only the image's ID
    #[arg(short, long)]
    quiet: bool,
    /// A name for the image
    #[arg(short, long, value_name = "NAME[:TAG]")]
    tag: Vec<String>,
    /// Stop at this stage
    #[arg(long, value_name = "STAGE")]
    target: Option<String>,
    /// The context: a directory, a URL for the daemon to fetch, or - for a tar or Dockerfile on stdin
    #[arg(value_name = "PATH|URL|-")]
    context: String,
}

/// What is sent: the body, the Dockerfile's name in it, and how much it has been so far.
struct Sent {
    body: Body,
    dockerfile: String,
    remote: Option<String>,
    sent: Arc<AtomicU64>,
}

/// `build`. The exit code of a RUN that failed is ours.
pub(crate) async fn build(client: &Client, args: &Build) -> Result<u8> {
    let context = context(args)?;
    client.negotiate().await?;
    let mut arguments = BTreeMap::new();
    for argument in &args.build_arg {
        let (name, value) = match argument.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (argument.as_str(), std::env::var(argument).ok()),
        };
        arguments.insert(name.to_owned(), value);
    }
    let labels: BTreeMap<_, _> = labels(&args.label, &[])?.into_iter().collect();
    let mut query = Query::default()
        .add("version", "1")
        .add("dockerfile", &context.dockerfile)
        .add("rm", "1")
        .add("buildargs", serde_json::to_string(&arguments)?)
        .add("labels", serde_json::to_string(&labels)?)
        .maybe("remote", context.remote.as_deref())
        .maybe("target", args.target.as_deref())
        .maybe("networkmode", args.network.as_deref())
        .maybe("platform", args.platform.as_deref())
        .flag("nocache", args.no_cache)
        .flag("pull", args.pull)
        .flag("q", args.quiet);
    for tag in &args.tag {
        query = query.add("t", familiar(tag));
    }
    let mut headers = vec![("X-Registry-Config", auth::all()?)];
    if args.explain {
        headers.push(("X-Teu-Explain", "1".to_owned()));
    }
    let answer = client.stream_to(Method::POST, &format!("/build{query}"), &headers, context.body).await?;
    let sent = context.sent.load(Ordering::Relaxed);
    if !args.quiet && sent > 0 {
        println!("Sending build context to the daemon  {}", size::human(i64::try_from(sent)?, 4));
    }
    let mut id = None;
    let shown = show_progress(answer, Show::stdout(args.quiet), |line| {
        // With -q the ID is all that is said, and said as output.
        let said = line.stream.as_deref().map(str::trim).filter(|s| args.quiet && s.starts_with("sha256:"));
        let told = line.aux.as_ref().and_then(|aux| aux["ID"].as_str());
        id = told.or(said).map(str::to_owned).or(id.take());
    })
    .await;
    if let Err(why) = shown {
        let Some(failure) = why.downcast_ref::<Failure>() else { return Err(why) };
        eprintln!("{failure}");
        let code = failure.code.and_then(|code| u8::try_from(code).ok());
        return Ok(code.filter(|code| *code > 0).unwrap_or(1));
    }
    if args.quiet {
        println!("{}", id.as_deref().unwrap_or_default());
    }
    if let Some(file) = &args.iidfile {
        let id = id.ok_or_else(|| anyhow!("the daemon did not tell the image's ID"))?;
        fs::write(file, id).with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(0)
}

fn context(args: &Build) -> Result<Sent> {
    let sent = Arc::new(AtomicU64::new(0));
    let named = args.file.clone();
    if args.context == "-" {
        if named.as_deref() == Some("-") {
            bail!("invalid argument: can't use stdin for both build context and dockerfile");
        }
        let mut stdin = io::stdin();
        let mut begin = Vec::new();
        // A tar has its magic at 257; a compressed one begins with its own. Anything else is a Dockerfile.
        stdin.by_ref().take(512).read_to_end(&mut begin)?;
        let tar = begin.get(257..262) == Some(b"ustar");
        let packed =
            [&b"\x1f\x8b"[..], b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd"].iter().any(|m| begin.starts_with(m));
        let whole = Cursor::new(begin).chain(stdin);
        let dockerfile = named.unwrap_or_else(|| "Dockerfile".into());
        let body = if tar || packed {
            reader(Box::new(whole))?
        } else {
            let mut text = Vec::new();
            whole.take(1 << 20).read_to_end(&mut text)?;
            one_file("Dockerfile", &text)?
        };
        return Ok(Sent { body, dockerfile, remote: None, sent });
    }
    let remote = ["http://", "https://", "git://", "git@"].iter().any(|p| args.context.starts_with(p));
    if remote {
        let body = reader(Box::new(io::empty()))?;
        let dockerfile = named.unwrap_or_else(|| "Dockerfile".into());
        return Ok(Sent { body, dockerfile, remote: Some(args.context.clone()), sent });
    }
    directory(Path::new(&args.context), named.as_deref(), sent)
}

fn directory(root: &Path, named: Option<&str>, sent: Arc<AtomicU64>) -> Result<Sent> {
    let root = fs::canonicalize(root)
        .with_context(|| format!("unable to prepare context: path \"{}\" not found", root.display()))?;
    if !root.is_dir() {
        bail!("unable to prepare context: {} is not a directory", root.display());
    }
    // A Dockerfile from elsewhere, or from stdin, is sent along under a name that nothing else has.
    let mut extra = None;
    let dockerfile = match named {
        Some("-") => {
            let mut text = Vec::new();
            io::stdin().take(1 << 20).read_to_end(&mut text)?;
            extra = Some(text);
            foreign_name()
        }
        named => {
            let file = named.map_or_else(|| root.join("Dockerfile"), PathBuf::from);
            let shown = || format!("unable to evaluate symlinks in Dockerfile path: {}", file.display());
            let real = fs::canonicalize(&file).with_context(shown)?;
            match real.strip_prefix(&root) {
                Ok(inside) => inside.to_string_lossy().into_owned(),
                Err(_) => {
                    extra = Some(fs::read(&real).with_context(shown)?);
                    foreign_name()
                }
            }
        }
    };
    let ignore = ignore_file(&root, &dockerfile)?;
    let (sender, receiver) = mpsc::channel::<io::Result<Bytes>>(8);
    let keep = dockerfile.clone();
    let counter = sent.clone();
    std::thread::Builder::new().name("context".into()).spawn(move || {
        let out =
            Counting { out: io::BufWriter::with_capacity(64 * 1024, Sending(sender.clone())), sent: counter };
        let pack = || -> Result<()> {
            let mut tar = tar::Builder::new(out);
            if let Some(text) = &extra {
                append(&mut tar, &keep, text)?;
            }
            walk(&mut tar, &root, &ignore, &keep)?;
            Ok(tar.into_inner()?.flush()?)
        };
        if let Err(why) = pack() {
            // The request ends with it.
            let _ = sender.blocking_send(Err(io::Error::other(format!("{why:#}"))));
        }
    })?;
    Ok(Sent { body: stream_body(receiver), dockerfile, remote: None, sent })
}

fn foreign_name() -> String {
    format!(".dockerfile.{:x}{:x}", std::process::id(), size::now())
}

/// `NAME.dockerignore` beside the Dockerfile, else `.dockerignore` in the context.
fn ignore_file(root: &Path, dockerfile: &str) -> Result<Ignore> {
    for name in [format!("{dockerfile}.dockerignore"), ".dockerignore".to_owned()] {
        match fs::read_to_string(root.join(&name)) {
            Ok(text) => return Ok(Ignore::parse(&text, &name)?),
            Err(why) if why.kind() == io::ErrorKind::NotFound => {}
            Err(why) => return Err(why).with_context(|| format!("cannot read {name}")),
        }
    }
    Ok(Ignore::default())
}

/// Everything below `root` that is not ignored, sorted. The Dockerfile and the ignore file go along in any case: the builder needs them.
fn walk(tar: &mut tar::Builder<impl Write>, root: &Path, ignore: &Ignore, dockerfile: &str) -> Result<()> {
    let mut left = vec![String::new()];
    while let Some(path) = left.pop() {
        let full = root.join(&path);
        let about =
            fs::symlink_metadata(&full).with_context(|| format!("cannot look at {}", full.display()))?;
        let needed = path == dockerfile || path == ".dockerignore";
        let above = dockerfile.strip_prefix(path.as_str()).is_some_and(|rest| rest.starts_with('/'));
        let ignored = !path.is_empty() && !needed && ignore.is_excluded(&path);
        if about.is_dir() && (!ignored || above || ignore.has_exceptions()) {
            let mut names: Vec<_> = fs::read_dir(&full)
                .with_context(|| format!("cannot list {}", full.display()))?
                .collect::<io::Result<_>>()?;
            names.sort_by_key(|entry| std::cmp::Reverse(entry.file_name()));
            for entry in names {
                let name = entry.file_name();
                let name = name.to_str().with_context(|| {
                    format!("the name {} in {} is not UTF-8", name.display(), full.display())
                })?;
                left.push(if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") });
            }
        }
        if path.is_empty() || ignored {
            continue;
        }
        let mut header = tar::Header::new_gnu();
        header.set_metadata(&about);
        // As docker sends it: the builder says whose files are.
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(0);
        if about.is_symlink() {
            tar.append_link(&mut header, &path, fs::read_link(&full)?)?;
        } else if about.is_dir() {
            tar.append_data(&mut header, format!("{path}/"), io::empty())?;
        } else if about.is_file() {
            let file = File::open(&full).with_context(|| format!("cannot read {}", full.display()))?;
            header.set_size(about.len());
            // Growing while it is read, it is cut; shrinking, the tar would be wrong from here on.
            let mut file = Exactly { file: file.take(about.len()), left: about.len() };
            tar.append_data(&mut header, &path, &mut file)
                .with_context(|| format!("while sending {path}"))?;
        }
        // Sockets and devices are not files of a context.
    }
    Ok(())
}

/// A file that must be as long as it was.
struct Exactly<R> {
    file: R,
    left: u64,
}

impl<R: Read> Read for Exactly<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read(buffer)?;
        self.left -= n as u64;
        if n == 0 && self.left > 0 && !buffer.is_empty() {
            return Err(io::Error::other("the file became shorter while it was read"));
        }
        Ok(n)
    }
}

/// Counts what goes through.
struct Counting<W> {
    out: W,
    sent: Arc<AtomicU64>,
}

impl<W: Write> Write for Counting<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.out.write(bytes)?;
        self.sent.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

fn append(tar: &mut tar::Builder<impl Write>, name: &str, text: &[u8]) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o600);
    header.set_size(text.len() as u64);
    tar.append_data(&mut header, Path::new(std::ffi::OsStr::from_bytes(name.as_bytes())), text)
}

/// A context of one file.
fn one_file(name: &str, text: &[u8]) -> Result<Body> {
    let mut tar = tar::Builder::new(Vec::new());
    append(&mut tar, name, text)?;
    reader(Box::new(Cursor::new(tar.into_inner()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_context_is_what_the_ignore_file_leaves() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        for (name, text) in [
            (".dockerignore", "*.log\ntarget\n!target/keep\nbuild/Dockerfile\n"),
            ("a.txt", "a"),
            ("b.log", "b"),
            ("target/big", "x"),
            ("target/keep", "k"),
            ("build/Dockerfile", "FROM scratch"),
        ] {
            fs::create_dir_all(root.join(name).parent().unwrap()).unwrap();
            fs::write(root.join(name), text).unwrap();
        }
        std::os::unix::fs::symlink("a.txt", root.join("link")).unwrap();
        let ignore = ignore_file(root, "build/Dockerfile").unwrap();
        let mut tar = tar::Builder::new(Vec::new());
        walk(&mut tar, root, &ignore, "build/Dockerfile").unwrap();
        let bytes = tar.into_inner().unwrap();
        let mut archive = tar::Archive::new(&bytes[..]);
        let names: Vec<_> = archive
            .entries()
            .unwrap()
            .map(|e| {
                let e = e.unwrap();
                assert_eq!((e.header().uid().unwrap(), e.header().gid().unwrap()), (0, 0));
                e.path().unwrap().display().to_string()
            })
            .collect();
        assert_eq!(names, [".dockerignore", "a.txt", "build/", "build/Dockerfile", "link", "target/keep"]);
    }
}
