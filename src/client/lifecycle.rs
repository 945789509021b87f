//! `stop`, `kill`, `restart`, `rm`, `pause`, `unpause`, `rename`, `update`: what happens to containers that are there.

use super::{
    http::{Client, Query, escape, refusal},
    options::{limits::Limits, values::restart_policy},
};
use anyhow::{Result, bail};
use bollard_stubs::models::{ContainerUpdateBody, ContainerUpdateResponse};
use hyper::StatusCode;

/// Stop containers: ask, wait, then kill
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Stop {
    /// The signal that asks
    #[arg(short, long, value_name = "SIGNAL")]
    signal: Option<String>,
    /// Seconds to wait before it is killed; -1 for ever
    #[arg(short, long, visible_alias = "timeout", value_name = "SECONDS", allow_negative_numbers = true)]
    time: Option<i64>,
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// Stop containers and start them again
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Restart {
    #[command(flatten)]
    stop: Stop,
}

/// Kill containers, or send them another signal
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Kill {
    /// The signal
    #[arg(short, long, value_name = "SIGNAL")]
    signal: Option<String>,
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// Remove containers
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Rm {
    /// Even one that runs: it is killed
    #[arg(short, long)]
    force: bool,
    /// Remove the link, not the container
    #[arg(short, long)]
    link: bool,
    /// With its volumes that have no name
    #[arg(short, long)]
    volumes: bool,
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// Containers by name.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Names {
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// Give a container another name
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Rename {
    #[arg(value_name = "CONTAINER")]
    container: String,
    #[arg(value_name = "NEW_NAME")]
    name: String,
}

/// Change the limits of containers
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Update {
    #[command(flatten)]
    limits: Limits,
    /// When to start it again
    #[arg(long, value_name = "POLICY")]
    restart: Option<String>,
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// Sends a request for each name, prints the names that worked, and the refusals of the others.
pub(crate) async fn each(names: &[String], request: impl AsyncFn(&str) -> Result<()>) -> Result<u8> {
    let mut failed = false;
    for name in names {
        match request(name).await {
            Ok(()) => println!("{name}"),
            Err(why) => {
                failed = true;
                eprintln!("{why:#}");
            }
        }
    }
    Ok(u8::from(failed))
}

/// `stop`.
pub(crate) async fn stop(client: &Client, args: &Stop) -> Result<u8> {
    stop_or_restart(client, args, "stop").await
}

/// `restart`.
pub(crate) async fn restart(client: &Client, args: &Restart) -> Result<u8> {
    stop_or_restart(client, &args.stop, "restart").await
}

async fn stop_or_restart(client: &Client, args: &Stop, verb: &str) -> Result<u8> {
    let query =
        Query::default().maybe("signal", args.signal.as_deref()).maybe("t", args.time.map(|t| t.to_string()));
    let request =
        async |name: &str| client.post(format!("/containers/{}/{verb}{query}", escape(name))).done().await;
    each(&args.containers, request).await
}

/// `kill`.
pub(crate) async fn kill(client: &Client, args: &Kill) -> Result<u8> {
    let query = Query::default().maybe("signal", args.signal.as_deref());
    let request =
        async |name: &str| client.post(format!("/containers/{}/kill{query}", escape(name))).done().await;
    each(&args.containers, request).await
}

/// `rm`.
pub(crate) async fn rm(client: &Client, args: &Rm) -> Result<u8> {
    let query = Query::default().flag("force", args.force).flag("link", args.link).flag("v", args.volumes);
    let mut failed = false;
    for name in &args.containers {
        let name = name.trim_matches('/');
        match client.delete(format!("/containers/{}{query}", escape(name))).done().await {
            Ok(()) => println!("{name}"),
            Err(why) => {
                // What is gone already is what -f asks for.
                let gone = refusal(&why).is_some_and(|r| r.status == StatusCode::NOT_FOUND);
                failed |= !(args.force && gone);
                eprintln!("{why:#}");
            }
        }
    }
    Ok(u8::from(failed))
}

/// `pause` and `unpause`.
pub(crate) async fn freeze(client: &Client, args: &Names, verb: &str) -> Result<u8> {
    let request = async |name: &str| client.post(format!("/containers/{}/{verb}", escape(name))).done().await;
    each(&args.containers, request).await
}

/// `rename`.
pub(crate) async fn rename(client: &Client, args: &Rename) -> Result<u8> {
    if args.name.trim().is_empty() {
        bail!("new name cannot be blank");
    }
    let query = Query::default().add("name", &args.name);
    client.post(format!("/containers/{}/rename{query}", escape(&args.container))).done().await?;
    Ok(0)
}

/// `update`.
pub(crate) async fn update(client: &Client, args: &Update) -> Result<u8> {
    let body = ContainerUpdateBody {
        restart_policy: args.restart.as_deref().map(restart_policy).transpose()?,
        ..args.limits.body()?
    };
    if body == ContainerUpdateBody::default() {
        bail!("you must provide one or more flags when using this command");
    }
    let request = async |name: &str| {
        let call = client.post(format!("/containers/{}/update", escape(name))).body(&body)?;
        let answer: ContainerUpdateResponse = call.json().await?;
        answer.warnings.iter().flatten().for_each(|warning| eprintln!("{warning}"));
        Ok(())
    };
    each(&args.containers, request).await
}
