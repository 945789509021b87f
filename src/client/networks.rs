//! `network …`.

use super::{
    changes::map,
    disk::{self, Prune},
    http::{Client, Query, escape},
    inspect::{self, Inspect},
    lifecycle::each,
    table::{List, short_id},
};
use anyhow::{Result, bail};
use bollard_stubs::models::{
    EndpointIpamConfig, EndpointSettings, Ipam, IpamConfig, NetworkConnectRequest, NetworkCreateRequest,
    NetworkCreateResponse, NetworkDisconnectRequest, NetworkSummary,
};
use clap::Subcommand;

/// `teu network …`.
#[derive(Debug, Subcommand)]
pub(crate) enum Network {
    Create(Create),
    /// List networks
    #[command(visible_alias = "list")]
    Ls(Ls),
    /// Remove networks
    #[command(visible_alias = "remove")]
    Rm(Rm),
    Inspect(Inspect),
    Connect(Connect),
    Disconnect(Disconnect),
    /// Remove networks that no container uses
    Prune(Prune),
}

/// Make a network
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Create {
    /// What makes it
    #[arg(short, long, value_name = "DRIVER", default_value = "bridge")]
    driver: String,
    /// Its router's address
    #[arg(long, value_name = "IP")]
    gateway: Vec<String>,
    /// Without a way out
    #[arg(long)]
    internal: bool,
    /// Give addresses only from this part
    #[arg(long, value_name = "SUBNET")]
    ip_range: Vec<String>,
    /// A label
    #[arg(long, value_name = "KEY[=VALUE]")]
    label: Vec<String>,
    /// An option of the driver
    #[arg(short, long, value_name = "KEY=VALUE")]
    opt: Vec<String>,
    /// Its addresses (10.1.0.0/16)
    #[arg(long, value_name = "SUBNET")]
    subnet: Vec<String>,
    #[arg(value_name = "NETWORK")]
    name: String,
}

/// What to list.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Ls {
    /// Only some
    #[arg(short, long, value_name = "FILTER")]
    pub(crate) filter: Vec<String>,
    /// A Go template, `table TEMPLATE`, or json
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
    /// Cut nothing short
    #[arg(long)]
    no_trunc: bool,
    /// Only IDs
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

/// What to remove.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Rm {
    /// One that is gone already is fine
    #[arg(short, long)]
    pub(crate) force: bool,
    #[arg(required = true, value_name = "NAME")]
    pub(crate) names: Vec<String>,
}

/// Plug a container into a network
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Connect {
    /// A further name in it
    #[arg(long, value_name = "NAME")]
    alias: Vec<String>,
    /// A fixed address
    #[arg(long, value_name = "IP")]
    ip: Option<String>,
    #[arg(value_name = "NETWORK")]
    network: String,
    #[arg(value_name = "CONTAINER")]
    container: String,
}

/// Unplug a container from a network
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Disconnect {
    /// Even if the container is gone
    #[arg(short, long)]
    force: bool,
    #[arg(value_name = "NETWORK")]
    network: String,
    #[arg(value_name = "CONTAINER")]
    container: String,
}

/// Any of them.
pub(crate) async fn network(client: &Client, command: &Network) -> Result<u8> {
    match command {
        Network::Create(args) => create(client, args).await,
        Network::Ls(args) => ls(client, args).await,
        Network::Rm(args) => {
            let request =
                async |name: &str| client.delete(format!("/networks/{}", escape(name))).done().await;
            each(&args.names, request).await
        }
        Network::Inspect(args) => inspect::inspect(client, args, Some("network")).await,
        Network::Connect(args) => {
            let endpoint = EndpointSettings {
                aliases: (!args.alias.is_empty()).then(|| args.alias.clone()),
                ipam_config: args
                    .ip
                    .clone()
                    .map(|ip| EndpointIpamConfig { ipv4_address: Some(ip), ..EndpointIpamConfig::default() }),
                ..EndpointSettings::default()
            };
            let body =
                NetworkConnectRequest { container: args.container.clone(), endpoint_config: Some(endpoint) };
            client.post(format!("/networks/{}/connect", escape(&args.network))).body(&body)?.done().await?;
            Ok(0)
        }
        Network::Disconnect(args) => {
            let body =
                NetworkDisconnectRequest { container: args.container.clone(), force: Some(args.force) };
            client
                .post(format!("/networks/{}/disconnect", escape(&args.network)))
                .body(&body)?
                .done()
                .await?;
            Ok(0)
        }
        Network::Prune(args) => disk::prune(client, args, &[disk::NETWORKS]).await,
    }
}

async fn create(client: &Client, args: &Create) -> Result<u8> {
    if args.gateway.len() > args.subnet.len() || args.ip_range.len() > args.subnet.len() {
        bail!("every --gateway and --ip-range needs a --subnet");
    }
    let config = args.subnet.iter().enumerate().map(|(n, subnet)| IpamConfig {
        subnet: Some(subnet.clone()),
        gateway: args.gateway.get(n).cloned(),
        ip_range: args.ip_range.get(n).cloned(),
        ..IpamConfig::default()
    });
    let body = NetworkCreateRequest {
        name: args.name.clone(),
        driver: Some(args.driver.clone()),
        internal: Some(args.internal),
        ipam: (!args.subnet.is_empty()).then(|| Ipam {
            driver: Some("default".into()),
            config: Some(config.collect()),
            options: None,
        }),
        labels: Some(super::options::lists::labels(&args.label, &[])?),
        options: map("opt", &args.opt)?,
        ..NetworkCreateRequest::default()
    };
    let made: NetworkCreateResponse = client.post("/networks/create").body(&body)?.json().await?;
    if !made.warning.is_empty() {
        eprintln!("WARNING: {}", made.warning);
    }
    println!("{}", made.id);
    Ok(0)
}

async fn ls(client: &Client, args: &Ls) -> Result<u8> {
    let query = Query::default().filters(&args.filter)?;
    let mut networks: Vec<NetworkSummary> = client.get(format!("/networks{query}")).json().await?;
    networks.sort_by(|a, b| a.name.cmp(&b.name));
    let mut list = List::default();
    for network in &networks {
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let id = text(&network.id);
        list.row([
            ("ID", if args.no_trunc { id } else { short_id(&id) }),
            ("Name", text(&network.name)),
            ("Driver", text(&network.driver)),
            ("Scope", text(&network.scope)),
            ("Internal", network.internal.unwrap_or(false).to_string()),
        ]);
    }
    let columns = [("ID", "NETWORK ID"), ("Name", "NAME"), ("Driver", "DRIVER"), ("Scope", "SCOPE")];
    list.print(if args.quiet { Some("{{.ID}}") } else { args.format.as_deref() }, &columns)?;
    Ok(0)
}
