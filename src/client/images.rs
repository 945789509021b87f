//! `images`, `rmi`, `tag`, `history`: the images that are here.

use super::{
    http::{Client, Query},
    pull::{path, split},
    size,
    table::{List, short_id, shorten},
};
use anyhow::{Result, bail};
use bollard_stubs::models::{ImageDeleteResponseItem, ImageHistoryResponseItem, ImageSummary};

/// List images
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Images {
    /// Those between, too
    #[arg(short, long)]
    all: bool,
    /// Digests by which registries know them
    #[arg(long)]
    digests: bool,
    /// Only some (reference=…, label=…, dangling=true, before=…, since=…)
    #[arg(short, long, value_name = "FILTER")]
    filter: Vec<String>,
    /// A Go template, `table TEMPLATE`, or json
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Cut nothing short
    #[arg(long)]
    no_trunc: bool,
    /// Only IDs
    #[arg(short, long)]
    quiet: bool,
    #[arg(value_name = "REPOSITORY[:TAG]")]
    name: Option<String>,
}

/// Remove one or more images
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Rmi {
    /// Even if a stopped container uses it
    #[arg(short, long)]
    force: bool,
    /// Leave its parents without a name where they are
    #[arg(long)]
    no_prune: bool,
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

/// Give an image another name
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Tag {
    #[arg(value_name = "SOURCE[:TAG]")]
    source: String,
    #[arg(value_name = "TARGET[:TAG]")]
    target: String,
}

/// Show how an image was made, a layer a line
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct History {
    /// A Go template, `table TEMPLATE`, or json
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Sizes and dates for people
    #[arg(short = 'H', long, default_value = "true", num_args = 0..=1, default_missing_value = "true", require_equals = true, action = clap::ArgAction::Set)]
    human: bool,
    /// Cut nothing short
    #[arg(long)]
    no_trunc: bool,
    /// Only IDs
    #[arg(short, long)]
    quiet: bool,
    #[arg(value_name = "IMAGE")]
    image: String,
}

/// `images`.
pub(crate) async fn images(client: &Client, args: &Images) -> Result<u8> {
    let mut filter = args.filter.clone();
    filter.extend(args.name.iter().map(|name| format!("reference={name}")));
    let query = Query::default().flag("all", args.all).filters(&filter)?;
    let images: Vec<ImageSummary> = client.get(format!("/images/json{query}")).json().await?;
    let by_digest = args.digests || args.format.as_deref().is_some_and(|f| f.contains(".Digest"));
    let mut list = List::default();
    for image in &images {
        rows(&mut list, image, by_digest, args);
    }
    let mut columns = vec![("Repository", "REPOSITORY"), ("Tag", "TAG")];
    if args.digests {
        columns.push(("Digest", "DIGEST"));
    }
    columns.extend([("ID", "IMAGE ID"), ("CreatedSince", "CREATED"), ("Size", "SIZE")]);
    let format = if args.quiet { Some("{{.ID}}") } else { args.format.as_deref() };
    list.print(format, &columns)?;
    Ok(0)
}

/// A row for each name of an image; one for an image without a name.
fn rows(list: &mut List, image: &ImageSummary, by_digest: bool, args: &Images) {
    const NONE: &str = "<none>";
    let digest_of = |repository: &str| {
        let found =
            image.repo_digests.iter().filter_map(|d| d.split_once('@')).find(|(name, _)| *name == repository);
        found.map_or(NONE, |(_, digest)| digest)
    };
    let mut names: Vec<(&str, &str, &str)> = image
        .repo_tags
        .iter()
        .map(|name| split(name))
        .map(|(name, tag)| (name, tag.unwrap_or(NONE), digest_of(name)))
        .filter(|(name, ..)| *name != NONE)
        .collect();
    if names.is_empty() {
        let digests =
            image.repo_digests.iter().filter_map(|d| d.split_once('@')).filter(|(name, _)| *name != NONE);
        names.extend(digests.map(|(name, digest)| (name, NONE, digest)));
    }
    if names.is_empty() {
        names.push((NONE, NONE, NONE));
    }
    if args.quiet {
        names.truncate(1);
    }
    for (repository, tag, digest) in names {
        list.row([
            ("Repository", repository.to_owned()),
            ("Tag", tag.to_owned()),
            ("Digest", if by_digest { digest.to_owned() } else { NONE.to_owned() }),
            ("ID", if args.no_trunc { image.id.clone() } else { short_id(&image.id) }),
            ("CreatedAt", size::created_at(image.created)),
            ("CreatedSince", if image.created <= 0 { "N/A".into() } else { size::ago(image.created) }),
            ("Size", size::human(image.size, 3)),
            ("Containers", if image.containers < 0 { "N/A".into() } else { image.containers.to_string() }),
        ]);
    }
}

/// `rmi`.
pub(crate) async fn rmi(client: &Client, args: &Rmi) -> Result<u8> {
    let query = Query::default().flag("force", args.force).flag("noprune", args.no_prune);
    let mut failed = false;
    for image in &args.images {
        let call = client.delete(format!("/images/{}{query}", path(image)));
        match call.json::<Vec<ImageDeleteResponseItem>>().await {
            Ok(removed) => removed.iter().for_each(|item| {
                item.untagged.iter().for_each(|name| println!("Untagged: {name}"));
                item.deleted.iter().for_each(|id| println!("Deleted: {id}"));
            }),
            Err(why) => {
                failed = true;
                eprintln!("{why:#}");
            }
        }
    }
    Ok(u8::from(failed))
}

/// `tag`.
pub(crate) async fn tag(client: &Client, args: &Tag) -> Result<u8> {
    let (repository, tag) = split(&args.target);
    if args.target.contains('@') {
        bail!("refusing to create a tag with a digest reference");
    }
    let query = Query::default().add("repo", repository).add("tag", tag.unwrap_or("latest"));
    client.post(format!("/images/{}/tag{query}", path(&args.source))).done().await?;
    Ok(0)
}

/// `history`.
pub(crate) async fn history(client: &Client, args: &History) -> Result<u8> {
    let layers: Vec<ImageHistoryResponseItem> =
        client.get(format!("/images/{}/history", path(&args.image))).json().await?;
    let mut list = List::default();
    for layer in &layers {
        let command = layer.created_by.replace('\t', " ");
        let id = if args.no_trunc { layer.id.clone() } else { short_id(&layer.id) };
        let created = if layer.created > 0 { size::ago(layer.created) } else { "N/A".into() };
        list.row([
            ("ID", if layer.id == "<missing>" { layer.id.clone() } else { id }),
            (
                "CreatedAt",
                jiff::Timestamp::from_second(layer.created).map(|t| t.to_string()).unwrap_or_default(),
            ),
            ("CreatedSince", if args.human { created } else { size::created_at(layer.created) }),
            ("CreatedBy", if args.no_trunc { command } else { shorten(&command, 45) }),
            ("Size", if args.human { size::human(layer.size, 3) } else { layer.size.to_string() }),
            ("Comment", layer.comment.clone()),
        ]);
    }
    let columns = [
        ("ID", "IMAGE"),
        ("CreatedSince", "CREATED"),
        ("CreatedBy", "CREATED BY"),
        ("Size", "SIZE"),
        ("Comment", "COMMENT"),
    ];
    let format = if args.quiet { Some("{{.ID}}") } else { args.format.as_deref() };
    list.print(format, &columns)?;
    Ok(0)
}
