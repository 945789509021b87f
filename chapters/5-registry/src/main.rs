//! The command line of this chapter: `registry pull`, `push`, `serve`, `tags`, `inspect`.

mod bars;

use anyhow::{Context, Result, anyhow};
use bars::Bars;
use clap::{Args, Parser, Subcommand};
use layers::Store;
use oci_spec::image::Descriptor;
use registry::{
    Options, Reference, client::Client, credentials, list, manifest, platform::Platform, pull, push,
    server::Server,
};
use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

/// Carry images between registries and an OCI image layout, and be a registry.
#[derive(Parser)]
#[command(version, about, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Fetch an image, check every digest, and unpack its layers.
    Pull {
        /// The OCI image layout to put it in.
        #[arg(long, value_name = "DIR")]
        store: PathBuf,
        /// The image: alpine, quay.io/a/b:1, localhost:5000/x@sha256:…
        name: String,
        #[command(flatten)]
        how: How,
    },
    /// Send an image; what the registry has already is not sent.
    Push {
        /// The OCI image layout that it is in.
        #[arg(long, value_name = "DIR")]
        store: PathBuf,
        /// Its name there.
        name: String,
        /// Where to send it, if not where its name says.
        #[arg(long = "as", value_name = "REFERENCE")]
        target: Option<String>,
        #[command(flatten)]
        how: How,
    },
    /// Serve an OCI image layout as a registry.
    Serve {
        /// The OCI image layout; made if it is not there.
        #[arg(long, value_name = "DIR")]
        store: PathBuf,
        /// Where to listen.
        #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:5000")]
        listen: SocketAddr,
    },
    /// List the tags that a repository has in its registry.
    Tags {
        /// The repository.
        name: String,
        #[command(flatten)]
        how: How,
    },
    /// Print the manifest that a name means in its registry.
    Inspect {
        /// The image.
        name: String,
        #[command(flatten)]
        how: How,
    },
}

#[derive(Args)]
struct How {
    /// Allow plain HTTP, and certificates that no one vouches for.
    #[arg(long)]
    insecure: bool,
    /// Take the image for this os/arch[/variant] instead of this machine's.
    #[arg(long)]
    platform: Option<String>,
}

impl How {
    fn options(self, reference: &Reference) -> Result<Options> {
        let credentials = credentials::find(&reference.registry)?;
        Ok(Options { insecure: self.insecure, platform: self.platform, credentials, ..Options::default() })
    }
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("registry: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Pull { store, name, how } => {
            let reference = Reference::parse(&name)?;
            let options = how.options(&reference)?;
            let store = Store::open(&store)?;
            let bars = Bars::new();
            let before = store.find(&reference.to_string())?;
            let pulled = pull::pull(&store, &reference, &options, &|event| bars.show(&event))?;
            bars.finish();
            let same = before.is_some_and(|before| before.digest() == pulled.digest());
            let news = if same { "Image is up to date for" } else { "Downloaded newer image for" };
            println!("Status: {news} {}\n{reference}", reference.familiar());
        }
        Command::Push { store, name, target, how } => {
            let reference = Reference::parse(target.as_deref().unwrap_or(&name))?;
            let options = how.options(&reference)?;
            let store = Store::open(&store)?;
            let manifest = find(&store, &name)?;
            println!("The push refers to repository [{}/{}]", reference.registry, reference.repository);
            let bars = Bars::new();
            let pushed = push::push(&store, &manifest, &reference, &options, &|event| bars.show(&event))?;
            bars.finish();
            println!("{}: digest: {} size: {}", reference.target(), pushed.digest(), pushed.size());
        }
        Command::Serve { store, listen } => {
            let server = Server::start(listen, &store)?;
            println!("serving {} at http://{}/v2/", store.display(), server.address());
            server.wait();
        }
        Command::Tags { name, how } => {
            let reference = Reference::parse(&name)?;
            let options = how.options(&reference)?;
            let client = Client::new(&reference, &options, "pull", &[])?;
            list::tags(&client)?.iter().for_each(|tag| println!("{tag}"));
        }
        Command::Inspect { name, how } => {
            let reference = Reference::parse(&name)?;
            let options = how.options(&reference)?;
            inspect(&reference, &options)?;
        }
    }
    Ok(())
}

/// The manifest of a name in the store: in full, as the user typed it, or as another tool has written it.
fn find(store: &Store, name: &str) -> Result<Descriptor> {
    let full = Reference::parse(name).map(|reference| reference.to_string()).unwrap_or_default();
    for name in [name, &full] {
        if let Some(manifest) = store.find(name)? {
            return Ok(manifest);
        }
    }
    let names: Vec<String> = store.list()?.into_iter().filter_map(|(name, _)| name).collect();
    let has = if names.is_empty() { "nothing".into() } else { names.join(", ") };
    Err(anyhow!("no image {name} in {}; it has: {has}", store.root().display()))
}

fn inspect(reference: &Reference, options: &Options) -> Result<()> {
    let client = Client::new(reference, options, "pull", &[])?;
    let (descriptor, bytes) = manifest::fetch(&client, reference.target())?;
    let document: serde_json::Value = serde_json::from_slice(&bytes).context("the manifest is not JSON")?;
    eprintln!("{}  {}  {} bytes", descriptor.digest(), descriptor.media_type(), descriptor.size());
    println!("{}", serde_json::to_string_pretty(&document)?);
    if let manifest::Document::Index(index) =
        manifest::parse(descriptor.media_type(), &bytes, &reference.familiar())?
        && let Some(entry) = Platform::host().choose(index.manifests())
    {
        eprintln!("for this machine ({}): {}", Platform::host(), entry.digest());
    }
    Ok(())
}
