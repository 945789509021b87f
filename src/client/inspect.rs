//! `inspect`: everything that the daemon knows of something.

use super::{
    http::{Client, Query, escape, refusal},
    pull::path,
    table::indent,
    template,
};
use anyhow::{Result, bail};
use hyper::StatusCode;

/// Show everything about containers, images, networks or volumes
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Inspect {
    /// A Go template ({{.State.Status}}), or json
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
    /// With the sizes of containers
    #[arg(short, long)]
    size: bool,
    /// Only things of this kind (container, image, network, volume)
    #[arg(long, value_name = "KIND", value_parser = ["container", "image", "network", "volume"])]
    r#type: Option<String>,
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

const KINDS: &[&str] = &["container", "image", "network", "volume"];

/// `inspect`, of any kind or of the one that the command's group is about.
pub(crate) async fn inspect(client: &Client, args: &Inspect, kind: Option<&str>) -> Result<u8> {
    let kind = kind.or(args.r#type.as_deref());
    let template = match args.format.as_deref() {
        None | Some("json") => None,
        Some(text) => Some(template::parse(text)?),
    };
    let mut documents = Vec::new();
    let mut failures = Vec::new();
    for name in &args.names {
        match look(client, name, kind, args.size).await {
            Ok(document) => documents.push(document),
            Err(why) => failures.push(format!("{why:#}")),
        }
    }
    match (&template, args.format.as_deref()) {
        (Some(template), _) => {
            for document in &documents {
                println!("{}", template.render(&serde_json::from_str(document)?)?);
            }
        }
        (None, Some(_)) => documents.iter().for_each(|document| println!("{}", document.trim())),
        (None, None) => println!("{}", indent(&format!("[{}]", documents.join(",")))),
    }
    failures.iter().for_each(|why| eprintln!("{why}"));
    Ok(u8::from(!failures.is_empty()))
}

/// The document, as the daemon wrote it: its order is part of what people read.
async fn look(client: &Client, name: &str, kind: Option<&str>, size: bool) -> Result<String> {
    for candidate in KINDS.iter().filter(|k| kind.is_none_or(|kind| kind == **k)) {
        let query = Query::default().flag("size", size);
        let path = match *candidate {
            "container" => format!("/containers/{}/json{query}", escape(name)),
            "image" => format!("/images/{}/json", path(name)),
            "network" => format!("/networks/{}", escape(name)),
            _ => format!("/volumes/{}", escape(name)),
        };
        match client.get(path).bytes().await {
            Ok(bytes) => return Ok(String::from_utf8_lossy(&bytes).trim().to_owned()),
            // Not of this kind: it may be of the next.
            Err(why)
                if kind.is_none() && refusal(&why).is_some_and(|r| r.status == StatusCode::NOT_FOUND) => {}
            Err(why) => return Err(why),
        }
    }
    bail!("Error: No such object: {name}")
}
