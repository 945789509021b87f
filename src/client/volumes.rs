//! `volume …`.

use super::{
    changes::map,
    disk::{self, Prune},
    http::{Client, Query, escape},
    inspect::{self, Inspect},
    lifecycle::each,
    networks::{Ls, Rm},
    options::lists::labels,
    table::List,
};
use anyhow::Result;
use bollard_stubs::models::{Volume as Details, VolumeCreateRequest, VolumeListResponse};
use clap::Subcommand;

/// `teu volume …`.
#[derive(Debug, Subcommand)]
pub(crate) enum Volume {
    Create(Create),
    /// List volumes
    #[command(visible_alias = "list")]
    Ls(Ls),
    /// Remove volumes
    #[command(visible_alias = "remove")]
    Rm(Rm),
    Inspect(Inspect),
    /// Remove volumes that no container uses
    Prune(PruneVolumes),
}

/// Make a volume
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Create {
    /// What makes it
    #[arg(short, long, value_name = "DRIVER", default_value = "local")]
    driver: String,
    /// A label
    #[arg(long, value_name = "KEY[=VALUE]")]
    label: Vec<String>,
    /// An option of the driver
    #[arg(short, long, value_name = "KEY=VALUE")]
    opt: Vec<String>,
    #[arg(value_name = "VOLUME")]
    name: Option<String>,
}

/// What to prune.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct PruneVolumes {
    /// Those with a name, too
    #[arg(short, long)]
    all: bool,
    #[command(flatten)]
    prune: Prune,
}

/// Any of them.
pub(crate) async fn volume(client: &Client, command: &Volume) -> Result<u8> {
    match command {
        Volume::Create(args) => {
            let body = VolumeCreateRequest {
                name: args.name.clone(),
                driver: Some(args.driver.clone()),
                driver_opts: map("opt", &args.opt)?,
                labels: Some(labels(&args.label, &[])?),
                ..VolumeCreateRequest::default()
            };
            let made: Details = client.post("/volumes/create").body(&body)?.json().await?;
            println!("{}", made.name);
            Ok(0)
        }
        Volume::Ls(args) => ls(client, args).await,
        Volume::Rm(args) => {
            let query = Query::default().flag("force", args.force);
            let request =
                async |name: &str| client.delete(format!("/volumes/{}{query}", escape(name))).done().await;
            each(&args.names, request).await
        }
        Volume::Inspect(args) => inspect::inspect(client, args, Some("volume")).await,
        Volume::Prune(args) => {
            let mut prune = args.prune.clone();
            if args.all {
                prune.filter.push("all=true".into());
            }
            disk::prune(client, &prune, &[disk::VOLUMES]).await
        }
    }
}

async fn ls(client: &Client, args: &Ls) -> Result<u8> {
    let query = Query::default().filters(&args.filter)?;
    let answer: VolumeListResponse = client.get(format!("/volumes{query}")).json().await?;
    let mut volumes = answer.volumes.unwrap_or_default();
    volumes.sort_by(|a, b| a.name.cmp(&b.name));
    let mut list = List::default();
    for volume in volumes {
        let mut labels: Vec<_> = volume.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
        labels.sort();
        list.row([
            ("Driver", volume.driver),
            ("Name", volume.name),
            ("Mountpoint", volume.mountpoint),
            ("Scope", volume.scope.map(|s| s.to_string()).unwrap_or_default()),
            ("Labels", labels.join(",")),
        ]);
    }
    let columns = [("Driver", "DRIVER"), ("Name", "VOLUME NAME")];
    list.print(if args.quiet { Some("{{.Name}}") } else { args.format.as_deref() }, &columns)?;
    Ok(0)
}
