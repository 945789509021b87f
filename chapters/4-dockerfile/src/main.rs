//! The command line of this chapter: a Dockerfile as a tree, and an image from it.

use anyhow::{Context, bail};
use clap::{Parser, Subcommand};
use dockerfile::{Build, Event, Network, build, cache, parse};
use layers::{Image, Store};
use std::{
    collections::BTreeMap,
    io::{Read, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

/// Reads Dockerfiles and builds images from them
#[derive(Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Prints a Dockerfile as a tree (JSON)
    Parse {
        /// The Dockerfile; - is the standard input
        #[arg(default_value = "Dockerfile")]
        file: PathBuf,
    },
    /// Builds an image into an OCI image layout
    Build(BuildOptions),
    /// Forgets what was built, so that everything is executed again
    Prune {
        /// The OCI image layout
        #[arg(long, value_name = "DIR")]
        store: PathBuf,
    },
}

#[derive(clap::Args)]
struct BuildOptions {
    /// The OCI image layout that holds the base images and gets the new one
    #[arg(long, value_name = "DIR")]
    store: PathBuf,
    /// The Dockerfile [default: CONTEXT/Dockerfile]; - is the standard input
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Its name in the store; without a tag, latest
    #[arg(short, long, value_name = "NAME")]
    tag: Vec<String>,
    /// A value for an ARG; without one, that of the environment
    #[arg(long, value_name = "NAME[=VALUE]")]
    build_arg: Vec<String>,
    /// Build this stage, and what it needs
    #[arg(long, value_name = "STAGE")]
    target: Option<String>,
    /// Execute everything, whatever was executed before
    #[arg(long)]
    no_cache: bool,
    /// The network of RUN
    #[arg(long, value_name = "none|host", default_value = "none", value_parser = ["none", "host"])]
    network: String,
    /// A label of the image
    #[arg(long, value_name = "NAME=VALUE")]
    label: Vec<String>,
    /// A file for RUN --mount=type=secret
    #[arg(long, value_name = "id=ID,src=FILE")]
    secret: Vec<String>,
    /// Print only the image's ID
    #[arg(short, long)]
    quiet: bool,
    /// The directory whose files COPY may take
    context: PathBuf,
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Parse { file } => tree(&file),
        Command::Build(options) => image(&options),
        Command::Prune { store } => prune(&store),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn tree(file: &Path) -> anyhow::Result<()> {
    let tree = parse(&read(file)?)?;
    let mut out = std::io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, &tree)?;
    Ok(writeln!(out)?)
}

fn image(options: &BuildOptions) -> anyhow::Result<()> {
    let file = options.file.clone().unwrap_or_else(|| options.context.join("Dockerfile"));
    let dockerfile = read(&file)?;
    // A Dockerfile may have an ignore file of its own beside it.
    let mut ignore = file.clone().into_os_string();
    ignore.push(".dockerignore");
    let ignore = std::fs::read_to_string(ignore).ok();

    own_mounts()?;
    let store = Store::open(&options.store)?;
    let scratch = tempfile::tempdir().context("make a directory for the containers' state")?;
    let request = Build {
        context: &options.context,
        dockerfile: &dockerfile,
        ignore: ignore.as_deref(),
        args: arguments(&options.build_arg),
        target: options.target.clone(),
        labels: options.label.iter().map(|l| pair(l)).collect(),
        secrets: secrets(&options.secret)?,
        no_cache: options.no_cache,
        network: if options.network == "host" { Network::Host } else { Network::None },
        scratch: scratch.path(),
        resolve: &|name| resolve(&store, name),
    };
    let built = build(&store, &request, &mut |event| {
        if !options.quiet {
            print(&event);
        }
    })?;
    let image = store.image(&built)?;
    let mut out = std::io::stdout().lock();
    match options.quiet {
        true => writeln!(out, "{}", image.id())?,
        false => writeln!(out, "Successfully built {}", &image.id().digest()[..12])?,
    }
    for name in &options.tag {
        let name = tagged(name);
        store.tag(&name, &built)?;
        if !options.quiet {
            writeln!(out, "Successfully tagged {name}")?;
        }
    }
    Ok(())
}

fn prune(store: &Path) -> anyhow::Result<()> {
    let freed = cache::prune(&Store::open(store)?)?;
    Ok(writeln!(std::io::stdout(), "Total:\t{freed}B")?)
}

/// Mounts that we make are nobody else's business, and go when we go. An ordinary user becomes root in a
/// user namespace for it.
fn own_mounts() -> anyhow::Result<()> {
    use nix::{mount, sched};
    if !nix::unistd::geteuid().is_root() {
        namespaces::userns::become_root().context("become root in a user namespace")?;
        return Ok(());
    }
    sched::unshare(sched::CloneFlags::CLONE_NEWNS).context("make a mount namespace")?;
    let none = None::<&str>;
    let flags = mount::MsFlags::MS_REC | mount::MsFlags::MS_SLAVE;
    mount::mount(none, "/", none, flags, none).context("keep mounts from the host")?;
    Ok(())
}

/// The lines of docker's own builder.
fn print(event: &Event) {
    let mut out = std::io::stdout().lock();
    // Nobody reads any more: the build goes on all the same.
    let _ = match event {
        Event::Step { number, of, text } => writeln!(out, "Step {number}/{of} : {text}"),
        Event::Triggers(1) => writeln!(out, "# Executing 1 build trigger"),
        Event::Triggers(n) => writeln!(out, "# Executing {n} build triggers"),
        Event::Cached => writeln!(out, " ---> Using cache"),
        Event::Running(id) => writeln!(out, " ---> Running in {id}"),
        Event::Removed(id) => writeln!(out, " ---> Removed intermediate container {id}"),
        Event::Image(id) => writeln!(out, " ---> {id}"),
        Event::Output(bytes) => out.write_all(bytes).and_then(|()| out.flush()),
        Event::Warning(text) => writeln!(out, "{text}"),
        _ => Ok(()),
    };
}

fn read(file: &Path) -> anyhow::Result<String> {
    let reading = || format!("read the Dockerfile {}", file.display());
    let mut text = Vec::new();
    let limit = parse::MAX_SIZE as u64 + 1;
    if file == Path::new("-") {
        std::io::stdin().lock().take(limit).read_to_end(&mut text).with_context(reading)?;
    } else {
        std::fs::File::open(file)
            .with_context(reading)?
            .take(limit)
            .read_to_end(&mut text)
            .with_context(reading)?;
    }
    if text.is_empty() {
        bail!("the Dockerfile ({}) cannot be empty", file.display());
    }
    String::from_utf8(text).with_context(|| format!("{} is not UTF-8 text", file.display()))
}

fn arguments(given: &[String]) -> BTreeMap<String, Option<String>> {
    let from_environment = |name: &str| (name.to_owned(), std::env::var(name).ok());
    let given = given.iter().map(|arg| match arg.split_once('=') {
        Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
        None => from_environment(arg),
    });
    // By its convention it is taken from the environment without being asked for.
    std::iter::once(from_environment("SOURCE_DATE_EPOCH")).chain(given).collect()
}

fn pair(text: &str) -> (String, String) {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    (name.to_owned(), value.to_owned())
}

fn secrets(given: &[String]) -> anyhow::Result<BTreeMap<String, PathBuf>> {
    let mut secrets = BTreeMap::new();
    for text in given {
        let fields: BTreeMap<_, _> = text.split(',').filter_map(|field| field.split_once('=')).collect();
        let file = fields.get("src").or_else(|| fields.get("source"));
        let (Some(id), Some(file)) = (fields.get("id"), file) else {
            bail!("--secret {text}: write id=ID,src=FILE");
        };
        secrets.insert((*id).to_owned(), PathBuf::from(file));
    }
    Ok(secrets)
}

/// With `latest` if it has no tag.
fn tagged(name: &str) -> String {
    let last = name.rsplit('/').next().unwrap_or(name);
    if last.contains([':', '@']) { name.to_owned() } else { format!("{name}:latest") }
}

/// The image of a name: as it is written, with `latest`, or as docker writes it in full.
fn resolve(store: &Store, name: &str) -> Result<Image, String> {
    let full = tagged(name);
    for candidate in [name, &full, &format!("docker.io/library/{full}"), &format!("docker.io/{full}")] {
        if let Some(descriptor) = store.find(candidate).map_err(|e| e.to_string())? {
            return store.image(&descriptor).map_err(|e| e.to_string());
        }
    }
    let place = store.root().display();
    Err(format!(
        "{name} is not in the store {place}; put it there, for example with skopeo copy docker://{name} oci:{place}:{full}"
    ))
}
