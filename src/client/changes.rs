//! `diff`, `commit`, `export`, `import`, `port`: what a container has become.

use super::{
    archive::{reader, to_file},
    http::{Client, Query, escape},
    options::lists::pairs,
    pull::{Show, show_progress, split},
};
use anyhow::{Context, Result, bail};
use bollard_stubs::models::{ContainerInspectResponse, FilesystemChange, IdResponse};
use hyper::Method;
use std::{
    fs::File,
    io::{self, IsTerminal, Read},
    path::PathBuf,
};

/// Show which files of a container differ from its image
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Diff {
    #[arg(value_name = "CONTAINER")]
    container: String,
}

/// Make an image out of a container's changes
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Commit {
    /// Who made it
    #[arg(short, long, value_name = "AUTHOR")]
    author: Option<String>,
    /// A Dockerfile instruction to apply (CMD, ENV, …)
    #[arg(short, long, value_name = "INSTRUCTION")]
    change: Vec<String>,
    /// What for
    #[arg(short, long, value_name = "MESSAGE")]
    message: Option<String>,
    /// Hold the container still meanwhile
    #[arg(short, long, default_value = "true", num_args = 0..=1, default_missing_value = "true", require_equals = true, action = clap::ArgAction::Set)]
    pause: bool,
    #[arg(value_name = "CONTAINER")]
    container: String,
    #[arg(value_name = "REPOSITORY[:TAG]")]
    name: Option<String>,
}

/// Write a container's files into a tar
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Export {
    /// The file to write, instead of stdout
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[arg(value_name = "CONTAINER")]
    container: String,
}

/// Make an image of one layer out of a tar
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Import {
    /// A Dockerfile instruction to apply
    #[arg(short, long, value_name = "INSTRUCTION")]
    change: Vec<String>,
    /// What for
    #[arg(short, long, value_name = "MESSAGE")]
    message: Option<String>,
    /// The platform it is for
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<String>,
    /// The tar, or - for stdin
    #[arg(value_name = "FILE|-")]
    file: String,
    #[arg(value_name = "REPOSITORY[:TAG]")]
    name: Option<String>,
}

/// Show where a container's ports are on the host
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Port {
    #[arg(value_name = "CONTAINER")]
    container: String,
    #[arg(value_name = "PORT[/PROTOCOL]")]
    port: Option<String>,
}

/// `diff`.
pub(crate) async fn diff(client: &Client, args: &Diff) -> Result<u8> {
    // Without changes the answer is null.
    let path = format!("/containers/{}/changes", escape(&args.container));
    let changes: Option<Vec<FilesystemChange>> = client.get(path).json().await?;
    for change in changes.into_iter().flatten() {
        let letter =
            ["C", "A", "D"].get(usize::try_from(i64::from(change.kind as u8)).unwrap_or(3)).unwrap_or(&"?");
        println!("{letter} {}", change.path);
    }
    Ok(0)
}

/// `commit`.
pub(crate) async fn commit(client: &Client, args: &Commit) -> Result<u8> {
    let (repository, tag) = args.name.as_deref().map_or((None, None), |name| {
        let (repository, tag) = split(name);
        (Some(repository), Some(tag.unwrap_or("latest")))
    });
    let mut query = Query::default()
        .add("container", &args.container)
        .maybe("repo", repository)
        .maybe("tag", tag)
        .maybe("author", args.author.as_deref())
        .maybe("comment", args.message.as_deref())
        .add("pause", if args.pause { "1" } else { "0" });
    for change in &args.change {
        query = query.add("changes", change);
    }
    let made: IdResponse = client.post(format!("/commit{query}")).json().await?;
    println!("{}", made.id);
    Ok(0)
}

/// `export`.
pub(crate) async fn export(client: &Client, args: &Export) -> Result<u8> {
    if args.output.is_none() && io::stdout().is_terminal() {
        bail!("cowardly refusing to save to a terminal. Use the -o flag or redirect");
    }
    let answer = client.get(format!("/containers/{}/export", escape(&args.container))).stream().await?;
    to_file(answer, args.output.as_deref()).await?;
    Ok(0)
}

/// `import`.
pub(crate) async fn import(client: &Client, args: &Import) -> Result<u8> {
    let from: Box<dyn Read + Send> = match args.file.as_str() {
        "-" => Box::new(io::stdin()),
        file => Box::new(File::open(file).with_context(|| format!("open {file}"))?),
    };
    let (repository, tag) = args.name.as_deref().map(split).unwrap_or_default();
    let mut query = Query::default()
        .add("fromSrc", "-")
        .maybe("repo", (!repository.is_empty()).then_some(repository))
        .maybe("tag", tag)
        .maybe("message", args.message.as_deref())
        .maybe("platform", args.platform.as_deref());
    for change in &args.change {
        query = query.add("changes", change);
    }
    client.negotiate().await?;
    let answer =
        client.stream_to(Method::POST, &format!("/images/create{query}"), &[], reader(from)?).await?;
    show_progress(answer, Show::Stdout, |_| {}).await?;
    Ok(0)
}

/// `port`.
pub(crate) async fn port(client: &Client, args: &Port) -> Result<u8> {
    let path = format!("/containers/{}/json", escape(&args.container));
    let details: ContainerInspectResponse = client.get(path).json().await?;
    let ports = details.network_settings.and_then(|n| n.ports).unwrap_or_default();
    let wanted = args.port.as_ref().map(|p| if p.contains('/') { p.clone() } else { format!("{p}/tcp") });
    let mut lines = Vec::new();
    for (port, bindings) in ports.iter().filter(|(port, _)| wanted.as_ref().is_none_or(|w| w == *port)) {
        for binding in bindings.iter().flatten() {
            let ip = binding.host_ip.clone().unwrap_or_default();
            let ip = if ip.contains(':') { format!("[{ip}]") } else { ip };
            let at = format!("{ip}:{}", binding.host_port.clone().unwrap_or_default());
            lines.push(if wanted.is_some() { at } else { format!("{port} -> {at}") });
        }
    }
    if let Some(wanted) = wanted.filter(|_| lines.is_empty()) {
        bail!("no public port '{wanted}' published for {}", args.container);
    }
    lines.sort();
    lines.iter().for_each(|line| println!("{line}"));
    Ok(0)
}

/// Labels and options that networks and volumes are made with.
pub(crate) fn map(flag: &str, list: &[String]) -> Result<Option<std::collections::HashMap<String, String>>> {
    (!list.is_empty()).then(|| pairs(flag, list)).transpose()
}
