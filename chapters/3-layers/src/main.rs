//! `layers`: the image store and its layers on the command line.

mod bundles;
mod report;

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use layers::{Image, Store, archive};
use std::{
    fs::File,
    io::{self, BufWriter, Read, Write},
    path::{Path, PathBuf},
    time::Duration,
};

/// Content-addressed layers, and the overlay that stacks them.
///
/// The store is an OCI image layout: `skopeo copy … oci:DIR:NAME` fills one, and umoci works on the same
/// directory.
#[derive(Parser)]
#[command(name = "layers", version)]
struct Cli {
    /// The store: a directory, made when it is missing
    #[arg(long, default_value = "store", global = true)]
    store: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make a runtime bundle of an image: rootfs and config.json, as `umoci unpack` does
    Unpack {
        /// The image
        name: String,
        /// The bundle's directory, made new
        bundle: PathBuf,
    },
    /// Make an image of a changed bundle, or of an overlay's upper directory
    Commit {
        /// A bundle that `unpack` made, or an upper directory
        changed: PathBuf,
        /// The new image's name
        name: String,
        /// For an upper directory: the image below it (none: the directory is the whole image)
        #[arg(long)]
        onto: Option<String>,
        /// What the history says of the layer
        #[arg(long, short, default_value = "layers commit")]
        message: String,
    },
    /// Unpack an image's layers and mount them, read-only or under DIR/upper
    Mount {
        /// The image
        name: String,
        /// Where
        target: PathBuf,
        /// A directory for what is written (upper and work are made in it)
        #[arg(long)]
        scratch: Option<PathBuf>,
    },
    /// What a changed bundle or an upper directory changes, as `docker diff` prints it
    Diff {
        /// A bundle that `unpack` made, or an upper directory
        changed: PathBuf,
        /// For an upper directory: the image below it
        #[arg(long)]
        onto: Option<String>,
    },
    /// The layers of an image: size, chain ID, and what made them
    Tree {
        /// The image
        name: String,
    },
    /// What the images take on disk, and what they share
    Du,
    /// List the images
    Ls,
    /// Give an image another name
    Tag {
        /// The image
        name: String,
        /// Its new name
        new: String,
    },
    /// Take a name away; with the last name goes the image
    Rm {
        /// The names
        #[arg(required = true)]
        names: Vec<String>,
    },
    /// Remove what no image needs
    Gc {
        /// Also what arrived within the last hour and has no name yet: only while nobody is pulling
        #[arg(long)]
        all: bool,
    },
    /// Load images from a docker-archive or oci-archive (`-`: standard input)
    Load {
        /// The archive
        tar: PathBuf,
    },
    /// Save images as an archive that `docker load` takes (`-`: standard output)
    Save {
        /// The image, and more of them
        #[arg(required = true)]
        names: Vec<String>,
        /// The archive
        #[arg(long, short, default_value = "-")]
        output: PathBuf,
    },
}

fn main() {
    if let Err(error) = run(Cli::parse()) {
        eprintln!("layers: {error:#}");
        std::process::exit(1);
    }
}

fn run(cli: Cli) -> Result<()> {
    let store = Store::open(&cli.store)?;
    match cli.command {
        Command::Unpack { name, bundle } => bundles::unpack(&store, &name, &bundle),
        Command::Commit { changed, name, onto, message } => {
            let onto = onto.map(|onto| image(&store, &onto)).transpose()?;
            let manifest = bundles::commit(&store, &changed, onto, &message)?;
            store.tag(&name, &manifest)?;
            println!("{}", manifest.digest());
            Ok(())
        }
        Command::Mount { name, target, scratch } => mount(&store, &name, &target, scratch.as_deref()),
        Command::Diff { changed, onto } => {
            let onto = onto.map(|onto| image(&store, &onto)).transpose()?;
            for (kind, path) in bundles::changes(&store, &changed, onto)? {
                println!("{} {}", kind.letter(), path.display());
            }
            Ok(())
        }
        Command::Tree { name } => report::tree(&image(&store, &name)?, &store),
        Command::Du => report::du(&store),
        Command::Ls => report::ls(&store),
        Command::Tag { name, new } => {
            let manifest = store.find(&name)?.with_context(|| format!("{name} is not in the store"))?;
            Ok(store.tag(&new, &manifest)?)
        }
        Command::Rm { names } => names.iter().try_for_each(|name| rm(&store, name)),
        Command::Gc { all } => {
            let grace = if all { Duration::ZERO } else { layers::gc::GRACE };
            println!("freed {}", report::size(store.collect_older(&[], grace)?));
            Ok(())
        }
        Command::Load { tar } => load(&store, &tar),
        Command::Save { names, output } => save(&store, &names, &output),
    }
}

/// An image by its name, or by the beginning of its ID.
fn image(store: &Store, name: &str) -> Result<Image> {
    if let Some(descriptor) = store.find(name)? {
        return Ok(store.image(&descriptor)?);
    }
    let wanted = name.strip_prefix("sha256:").unwrap_or(name);
    for (_, descriptor) in store.list()? {
        if let Ok(image) = store.image(&descriptor)
            && wanted.len() >= 6
            && image.id().digest().starts_with(wanted)
        {
            return Ok(image);
        }
    }
    bail!("{name} is not in the store; `layers ls` lists what is")
}

fn mount(store: &Store, name: &str, target: &Path, scratch: Option<&Path>) -> Result<()> {
    let lower = store.unpack(&image(store, name)?)?;
    let dirs = scratch.map(|scratch| (scratch.join("upper"), scratch.join("work")));
    if let Some((upper, work)) = &dirs {
        for dir in [upper, work] {
            std::fs::create_dir_all(dir).with_context(|| format!("make {}", dir.display()))?;
        }
    }
    let upper = dirs.as_ref().map(|(upper, work)| (upper.as_path(), work.as_path()));
    Ok(layers::overlay::mount(&lower, upper, target, false)?)
}

fn rm(store: &Store, name: &str) -> Result<()> {
    let manifest = store.untag(name)?.with_context(|| format!("{name} is not in the store"))?;
    let still_named = store.list()?.iter().any(|(n, d)| n.is_some() && d.digest() == manifest.digest());
    if !still_named {
        store.remove(manifest.digest())?;
    }
    Ok(())
}

fn load(store: &Store, tar: &Path) -> Result<()> {
    let from: Box<dyn Read> = match tar == Path::new("-") {
        true => Box::new(io::stdin().lock()),
        false => Box::new(File::open(tar).with_context(|| format!("open {}", tar.display()))?),
    };
    for (name, manifest) in archive::load(store, from)? {
        match name {
            Some(name) => {
                store.tag(&name, &manifest)?;
                println!("Loaded image: {name}");
            }
            None => println!("Loaded image ID: {}", store.image(&manifest)?.id()),
        }
    }
    Ok(())
}

fn save(store: &Store, names: &[String], output: &Path) -> Result<()> {
    let images = names
        .iter()
        .map(|name| {
            let descriptor = store.find(name)?.with_context(|| format!("{name} is not in the store"))?;
            Ok((name.clone(), descriptor))
        })
        .collect::<Result<Vec<_>>>()?;
    let out: Box<dyn Write> = match output == Path::new("-") {
        true => Box::new(io::stdout().lock()),
        false => Box::new(File::create(output).with_context(|| format!("make {}", output.display()))?),
    };
    Ok(archive::save(store, &images, BufWriter::with_capacity(1 << 18, out))?)
}
