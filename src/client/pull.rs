//! `pull` and `push`, and the lines of progress that they share with `build` and `load`.

use super::{
    auth,
    http::{Client, Query, escape},
    stream,
};
use anyhow::{Result, bail};
use hyper::{Response, body::Incoming};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use namespaces::tell::{Step, Table};
use serde::Deserialize;
use std::{
    collections::HashMap,
    io::{IsTerminal, Write},
};

/// Download an image from a registry
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Pull {
    /// All tags of the repository
    #[arg(short, long)]
    all_tags: bool,
    /// The platform (os/arch), if the image has several
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<String>,
    /// Print only the image's full name
    #[arg(short, long)]
    quiet: bool,
    /// Show each step: what is asked of the registry and of the kernel, its time, the book's section
    #[arg(long)]
    explain: bool,
    #[arg(value_name = "NAME[:TAG|@DIGEST]")]
    image: String,
}

/// Upload an image to a registry
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Push {
    /// All tags of the repository
    #[arg(short, long)]
    all_tags: bool,
    /// Print only the image's full name
    #[arg(short, long)]
    quiet: bool,
    #[arg(value_name = "NAME[:TAG]")]
    image: String,
}

/// One line of a stream of progress.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Line {
    /// Which layer.
    pub(crate) id: Option<String>,
    /// What happens to it.
    pub(crate) status: Option<String>,
    /// How far.
    pub(crate) progress_detail: Option<Detail>,
    /// Output of a build.
    pub(crate) stream: Option<String>,
    /// The failure that ends the stream.
    pub(crate) error: Option<String>,
    /// The failure, with its code.
    pub(crate) error_detail: Option<Failure>,
    /// Results for programs.
    pub(crate) aux: Option<serde_json::Value>,
}

/// Bytes so far, and in all.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Detail {
    current: Option<u64>,
    total: Option<u64>,
}

/// A failure in the middle of a stream: the answer's head had said 200 already.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, thiserror::Error)]
#[error("{message}")]
#[serde(default)]
pub(crate) struct Failure {
    /// For a RUN: its exit code.
    pub(crate) code: Option<i64>,
    /// In words.
    pub(crate) message: String,
}

/// Where progress goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Show {
    /// Nowhere.
    Nothing,
    /// To stdout.
    Stdout,
    /// To stderr: stdout is the container's.
    Stderr,
}

impl Show {
    /// On stdout, unless quiet.
    pub(crate) fn stdout(quiet: bool) -> Show {
        if quiet { Show::Nothing } else { Show::Stdout }
    }

    /// On stderr, unless quiet.
    pub(crate) fn stderr(quiet: bool) -> Show {
        if quiet { Show::Nothing } else { Show::Stderr }
    }
}

/// `pull`.
pub(crate) async fn pull_command(client: &Client, args: &Pull) -> Result<u8> {
    if args.all_tags && (args.image.contains('@') || split(&args.image).1.is_some()) {
        bail!("tag can't be used with --all-tags/-a");
    }
    if !args.all_tags && !args.quiet && split(&args.image).1.is_none() {
        println!("Using default tag: latest");
    }
    let name = if args.all_tags { args.image.clone() } else { familiar(&args.image) };
    let want = Want {
        image: &args.image,
        all: args.all_tags,
        platform: args.platform.as_deref(),
        explain: args.explain,
    };
    pull_name(client, &want, Show::stdout(args.quiet)).await?;
    println!("{}", full(&name));
    Ok(0)
}

/// Pulls one image.
pub(crate) async fn pull(client: &Client, image: &str, platform: Option<&str>, show: Show) -> Result<()> {
    pull_name(client, &Want { image, all: false, platform, explain: false }, show).await
}

/// What to pull.
struct Want<'a> {
    image: &'a str,
    all: bool,
    platform: Option<&'a str>,
    explain: bool,
}

async fn pull_name(client: &Client, want: &Want<'_>, show: Show) -> Result<()> {
    let (repository, tag) = split(want.image);
    let tag = if want.all { None } else { Some(tag.unwrap_or("latest")) };
    let query =
        Query::default().add("fromImage", repository).maybe("tag", tag).maybe("platform", want.platform);
    let mut call = client.post(format!("/images/create{query}"));
    if want.explain {
        call = call.header("X-Teu-Explain", "1");
    }
    let answer = call.header("X-Registry-Auth", auth::header(&full(repository))?).stream().await?;
    show_progress(answer, show, |_| {}).await
}

/// `push`.
pub(crate) async fn push_command(client: &Client, args: &Push) -> Result<u8> {
    let (repository, tag) = split(&args.image);
    if args.all_tags && tag.is_some() {
        bail!("tag can't be used with --all-tags/-a");
    }
    let tag = if args.all_tags { None } else { Some(tag.unwrap_or("latest")) };
    if !args.quiet && !args.all_tags && split(&args.image).1.is_none() {
        println!("Using default tag: latest");
    }
    let query = Query::default().maybe("tag", tag);
    let call = client.post(format!("/images/{}/push{query}", path(repository)));
    let answer = call.header("X-Registry-Auth", auth::header(&full(repository))?).stream().await?;
    show_progress(answer, Show::stdout(args.quiet), |_| {}).await?;
    if args.quiet {
        println!("{}", full(&familiar(&args.image)));
    }
    Ok(0)
}

/// A name in a path: its slashes are part of the path.
pub(crate) fn path(name: &str) -> String {
    name.split('/').map(escape).collect::<Vec<_>>().join("/")
}

/// Shows a stream of progress to its end, and tells each line to `listen`. An error in it is the error.
pub(crate) async fn show_progress(
    answer: Response<Incoming>,
    show: Show,
    mut listen: impl FnMut(&Line),
) -> Result<()> {
    let mut screen = Screen::new(show);
    let mut rest = Vec::new();
    let mut body = answer.into_body();
    while let Some(bytes) = stream::next(&mut body).await? {
        rest.extend_from_slice(&bytes);
        // Documents follow each other, as a rule a line each; the last may be cut anywhere.
        let mut lines = serde_json::Deserializer::from_slice(&rest).into_iter::<Line>();
        while let Some(Ok(line)) = lines.next() {
            if let Some(failure) = failure(&line) {
                return Err(failure.into());
            }
            match line.aux.as_ref().and_then(|aux| Step::deserialize(&aux["step"]).ok()) {
                Some(step) => screen.explain(&step)?,
                None => listen(&line),
            }
            screen.show(&line)?;
        }
        let used = lines.byte_offset();
        rest.drain(..used);
    }
    if rest.iter().any(|b| !b.is_ascii_whitespace()) {
        bail!("the daemon's answer broke off: {}", String::from_utf8_lossy(&rest));
    }
    Ok(())
}

fn failure(line: &Line) -> Option<Failure> {
    let detail = line.error_detail.clone().filter(|d| !d.message.is_empty());
    detail.or_else(|| line.error.clone().map(|message| Failure { code: None, message }))
}

/// On a terminal a bar for each layer; elsewhere a line for each change of state.
struct Screen {
    show: Show,
    bars: Option<MultiProgress>,
    by_id: HashMap<String, ProgressBar>,
    steps: Table,
}

impl Screen {
    fn new(show: Show) -> Screen {
        let terminal = match show {
            Show::Nothing => false,
            Show::Stdout => std::io::stdout().is_terminal(),
            Show::Stderr => std::io::stderr().is_terminal(),
        };
        let target = || match show {
            Show::Stderr => ProgressDrawTarget::stderr(),
            _ => ProgressDrawTarget::stdout(),
        };
        Screen {
            show,
            bars: terminal.then(|| MultiProgress::with_draw_target(target())),
            by_id: HashMap::new(),
            steps: Table::default(),
        }
    }

    fn show(&mut self, line: &Line) -> Result<()> {
        if let Some(text) = &line.stream {
            return self.print(text);
        }
        let Some(status) = &line.status else { return Ok(()) };
        let id = line.id.as_deref().unwrap_or_default();
        let (current, total) = match &line.progress_detail {
            Some(Detail { current: Some(current), total }) => (Some(*current), total.filter(|t| *t > 0)),
            _ => (None, None),
        };
        let layer = !id.is_empty() && !status.starts_with("Pulling from");
        let Some(bars) = self.bars.as_ref().filter(|_| layer) else {
            // Without a terminal nobody sees a bar move.
            return match (id, current) {
                (_, Some(_)) => Ok(()),
                ("", None) => self.print(&format!("{status}\n")),
                (id, None) => self.print(&format!("{id}: {status}\n")),
            };
        };
        let bar = self.by_id.entry(id.to_owned()).or_insert_with(|| {
            let bar = bars.add(ProgressBar::no_length());
            bar.set_prefix(id.to_owned());
            bar
        });
        let template = match total {
            Some(_) => "{prefix}: {msg} [{bar:50.green}] {bytes}/{total_bytes}",
            None => "{prefix}: {msg}",
        };
        let style = ProgressStyle::with_template(template)?.progress_chars("=> ");
        bar.set_style(style);
        if let Some(total) = total {
            bar.set_length(total);
            bar.set_position(current.unwrap_or(0));
        }
        bar.set_message(status.clone());
        let ended = ["Pull complete", "Already exists", "Pushed", "Layer already exists", "Loaded"];
        if ended.iter().any(|e| status.starts_with(e)) || status.starts_with("Mounted from") {
            bar.abandon();
        }
        Ok(())
    }

    /// A step of `--explain`: on stderr, between the lines of progress.
    fn explain(&mut self, step: &Step) -> Result<()> {
        let line = self.steps.line(step);
        let write = || std::io::stderr().write_all(line.as_bytes());
        match &self.bars {
            Some(bars) => bars.suspend(write)?,
            None => write()?,
        }
        Ok(())
    }

    fn print(&self, text: &str) -> Result<()> {
        let write = || match self.show {
            Show::Nothing => Ok(()),
            Show::Stdout => {
                std::io::stdout().write_all(text.as_bytes()).and_then(|()| std::io::stdout().flush())
            }
            Show::Stderr => std::io::stderr().write_all(text.as_bytes()),
        };
        match &self.bars {
            Some(bars) => bars.suspend(write)?,
            None => write()?,
        }
        Ok(())
    }
}

/// The repository, and the tag or digest if there is one.
pub(crate) fn split(image: &str) -> (&str, Option<&str>) {
    if let Some((name, digest)) = image.split_once('@') {
        let slash = name.rfind('/').map_or(0, |at| at + 1);
        let name = name[slash..].find(':').map_or(name, |at| &name[..slash + at]);
        return (name, Some(digest));
    }
    let slash = image.rfind('/').map_or(0, |at| at + 1);
    image[slash..]
        .find(':')
        .map_or((image, None), |at| (&image[..slash + at], Some(&image[slash + at + 1..])))
}

/// The name as docker shows it, with its tag.
pub(crate) fn familiar(image: &str) -> String {
    match split(image) {
        (_, Some(_)) => image.to_owned(),
        (name, None) => format!("{name}:latest"),
    }
}

/// The name with the registry that it is at.
pub(crate) fn full(image: &str) -> String {
    match image.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => image.to_owned(),
        Some(_) => format!("docker.io/{image}"),
        None => format!("docker.io/library/{image}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_split_where_docker_splits_them() {
        assert_eq!(split("base"), ("base", None));
        assert_eq!(split("localhost:5000/base"), ("localhost:5000/base", None));
        assert_eq!(split("localhost:5000/base:1"), ("localhost:5000/base", Some("1")));
        assert_eq!(split("a/b:1@sha256:00"), ("a/b", Some("sha256:00")));
        assert_eq!(familiar("base"), "base:latest");
        assert_eq!(full("base:1"), "docker.io/library/base:1");
        assert_eq!(full("me/base"), "docker.io/me/base");
        assert_eq!(full("localhost:5000/base"), "localhost:5000/base");
    }

    #[test]
    fn an_error_in_the_stream_is_found() {
        let line: Line =
            serde_json::from_str(r#"{"errorDetail":{"code":1,"message":"no such layer"},"error":"x"}"#)
                .unwrap();
        assert_eq!(failure(&line), Some(Failure { code: Some(1), message: "no such layer".into() }));
    }
}
