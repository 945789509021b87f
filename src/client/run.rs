//! `run`, `create`, `start`, `attach`, `wait`: a container's life as a user sees it.

use super::{
    attach::{Attachment, End, Options, check_tty},
    http::{Client, Query, escape, refusal},
    options::Settings,
    pull, stream,
};
use anyhow::{Context, Result, anyhow, bail};
use bollard_stubs::models::{ContainerCreateResponse, ContainerInspectResponse};
use hyper::{Response, StatusCode, body::Incoming};
use namespaces::tell::{Step, Table};
use std::{fs, io::Write, time::Duration};

/// Create and run a new container from an image
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Run {
    #[command(flatten)]
    settings: Settings,
    /// Run it in the background and print its ID
    #[arg(short, long)]
    detach: bool,
    /// The keys that let go of a container (ctrl-p,ctrl-q)
    #[arg(long, value_name = "KEYS")]
    detach_keys: Option<String>,
    /// Send signals on to the container
    #[arg(long, value_name = "BOOL", default_value = "true", num_args = 0..=1, default_missing_value = "true", require_equals = true, action = clap::ArgAction::Set)]
    sig_proxy: bool,
    /// Show each step of the start: the system call, its time, the book's section
    #[arg(long)]
    explain: bool,
}

/// Create a new container
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Create {
    #[command(flatten)]
    settings: Settings,
}

/// Start one or more stopped containers
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Start {
    /// Attach its output, and send signals on
    #[arg(short, long)]
    attach: bool,
    /// Attach its stdin
    #[arg(short, long)]
    interactive: bool,
    /// The keys that let go of a container (ctrl-p,ctrl-q)
    #[arg(long, value_name = "KEYS")]
    detach_keys: Option<String>,
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// Attach stdin, stdout and stderr to a running container
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Attach {
    /// Leave stdin alone
    #[arg(long)]
    no_stdin: bool,
    /// The keys that let go of a container (ctrl-p,ctrl-q)
    #[arg(long, value_name = "KEYS")]
    detach_keys: Option<String>,
    /// Send signals on to the container
    #[arg(long, value_name = "BOOL", default_value = "true", num_args = 0..=1, default_missing_value = "true", require_equals = true, action = clap::ArgAction::Set)]
    sig_proxy: bool,
    #[arg(value_name = "CONTAINER")]
    container: String,
}

/// Wait until containers stop, then print their exit codes
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Wait {
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// `run`: create, attach, wait, start, and only then look at what comes. The order is docker's: attached
/// before the start, no output is lost; waited for before the start, no exit is missed.
pub(crate) async fn run(client: &Client, args: &Run) -> Result<u8> {
    match run_steps(client, args).await {
        Ok(code) => Ok(code),
        Err(why) => {
            eprintln!("teu: {why:#}\n\nRun 'teu run --help' for more information");
            Ok(code_of(&why))
        }
    }
}

async fn run_steps(client: &Client, args: &Run) -> Result<u8> {
    let settings = &args.settings;
    let streams = settings.streams(args.detach)?;
    check_tty(streams.stdin, settings.tty)?;
    let id = create_container(client, settings, args.detach, args.explain).await?;
    let attached = streams.stdin || streams.stdout || streams.stderr;
    let attachment = Attachment::new(
        client,
        Options {
            tty: settings.tty,
            stdin: streams.stdin,
            proxy: (attached && args.sig_proxy && !settings.tty).then(|| id.clone()),
            resize: format!("/containers/{id}"),
            detach_keys: args.detach_keys.clone(),
        },
    )?;
    let hijacked = match attached {
        true => {
            let query = attach_query(streams.stdin, args.detach_keys.as_deref())
                .flag("stdout", streams.stdout)
                .flag("stderr", streams.stderr);
            Some(client.post(format!("/containers/{id}/attach{query}")).upgrade().await?)
        }
        false => None,
    };
    let condition = if settings.rm { "removed" } else { "next-exit" };
    let waiting = client.post(format!("/containers/{id}/wait?condition={condition}")).stream().await?;
    let explained = match args.explain {
        true => explain(client, &id, settings.tty).await,
        false => None,
    };
    client.post(format!("/containers/{id}/start")).done().await?;

    let code = match hijacked {
        None => {
            println!("{id}");
            0
        }
        Some(hijacked) => match attachment.follow(hijacked).await? {
            End::Detached => 0,
            End::Killed(signal) => 128 + signal as u8,
            End::Output => exit_code(waiting).await?,
        },
    };
    if let Some(explained) = explained {
        // The last lines may still be on their way; the daemon closes the stream at the end.
        let _ = tokio::time::timeout(Duration::from_secs(1), explained).await;
    }
    Ok(code)
}

/// `create`: prints the ID.
pub(crate) async fn create(client: &Client, args: &Create) -> Result<u8> {
    println!("{}", create_container(client, &args.settings, false, false).await?);
    Ok(0)
}

/// Creates the container, pulling its image first if that is missing. Returns its ID.
async fn create_container(
    client: &Client,
    settings: &Settings,
    detached: bool,
    explain: bool,
) -> Result<String> {
    let streams = settings.streams(detached)?;
    let document = settings.document(streams)?;
    if let Some(file) = &settings.cidfile
        && file.exists()
    {
        let file = file.display();
        bail!("container ID file found, make sure the other container isn't running or delete {file}");
    }
    let query = Query::default()
        .maybe("name", settings.name.as_deref())
        .maybe("platform", settings.platform.as_deref());
    let attempt = async || {
        let mut call = client.post(format!("/containers/create{query}"));
        if explain {
            call = call.header("X-Teu-Explain", "1");
        }
        call.body(&document)?.json::<ContainerCreateResponse>().await
    };
    let image = settings.image();
    let pull = async || {
        pull::pull(client, image, settings.platform.as_deref(), pull::Show::stderr(settings.quiet)).await
    };
    if settings.pull == "always" {
        pull().await?;
    }
    let created = match attempt().await {
        Err(why) if settings.pull == "missing" && no_such_image(&why) => {
            eprintln!("Unable to find image '{}' locally", pull::familiar(image));
            pull().await?;
            attempt().await?
        }
        other => other?,
    };
    created.warnings.iter().for_each(|warning| eprintln!("WARNING: {warning}"));
    if let Some(file) = &settings.cidfile {
        fs::write(file, &created.id)
            .with_context(|| format!("failed to write the container ID to {}", file.display()))?;
    }
    Ok(created.id)
}

fn no_such_image(why: &anyhow::Error) -> bool {
    refusal(why).is_some_and(|r| r.status == StatusCode::NOT_FOUND && r.message.contains("No such image"))
}

/// docker's exit codes of a start that failed.
fn code_of(why: &anyhow::Error) -> u8 {
    let Some(refusal) = refusal(why) else { return 125 };
    let said = |words: &[&str]| words.iter().any(|w| refusal.message.contains(w));
    if said(&["executable file not found", "no such file or directory"]) {
        127
    } else if said(&["permission denied", "is a directory"]) {
        126
    } else {
        125
    }
}

fn attach_query(stdin: bool, keys: Option<&str>) -> Query {
    Query::default().flag("stream", true).flag("stdin", stdin).maybe("detachKeys", keys)
}

/// The exit code that `wait` answers with.
async fn exit_code(waiting: Response<Incoming>) -> Result<u8> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Exit {
        status_code: i64,
        error: Option<Error>,
    }
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Error {
        message: String,
    }
    let mut document = Vec::new();
    let mut body = waiting.into_body();
    while let Some(bytes) = stream::next(&mut body).await? {
        document.extend_from_slice(&bytes);
    }
    let exit: Exit =
        serde_json::from_slice(&document).context("the daemon went away before the container ended")?;
    if let Some(error) = exit.error.filter(|e| !e.message.is_empty()) {
        bail!("Error waiting for container: {}", error.message);
    }
    // As wait(2) and the shell see it: the low eight bits.
    Ok((exit.status_code & 0xff) as u8)
}

/// Shows the steps of the start on stderr, as they come.
async fn explain(client: &Client, id: &str, tty: bool) -> Option<tokio::task::JoinHandle<()>> {
    let answer = match client.get(format!("/containers/{id}/explain")).stream().await {
        Ok(answer) => answer,
        Err(_) => {
            eprintln!("teu: this daemon does not explain its steps; run against `teu daemon` to see them");
            return None;
        }
    };
    Some(tokio::spawn(async move {
        let (mut table, mut rest, mut body) = (Table::default(), Vec::new(), answer.into_body());
        while let Ok(Some(bytes)) = stream::next(&mut body).await {
            rest.extend_from_slice(&bytes);
            while let Some(end) = rest.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = rest.drain(..=end).collect();
                if let Ok(step) = serde_json::from_slice::<Step>(&line) {
                    let text = table.line(&step);
                    // A raw terminal does not return to the first column by itself.
                    let text = if tty { text.replace('\n', "\r\n") } else { text };
                    let _ = std::io::stderr().write_all(text.as_bytes());
                }
            }
        }
    }))
}

/// `start`.
pub(crate) async fn start(client: &Client, args: &Start) -> Result<u8> {
    if !args.attach && !args.interactive {
        let mut failed = false;
        for name in &args.containers {
            match client.post(format!("/containers/{}/start", escape(name))).done().await {
                Ok(()) => println!("{name}"),
                Err(why) => {
                    failed = true;
                    eprintln!("{why:#}");
                }
            }
        }
        if failed {
            bail!("failed to start containers: {}", args.containers.join(", "));
        }
        return Ok(0);
    }
    let [name] = args.containers.as_slice() else {
        bail!("you cannot start and attach multiple containers at once");
    };
    let details: ContainerInspectResponse =
        client.get(format!("/containers/{}/json", escape(name))).json().await?;
    let id = details.id.clone().unwrap_or_default();
    let config = details.config.unwrap_or_default();
    let tty = config.tty.unwrap_or(false);
    let stdin = args.interactive && config.open_stdin.unwrap_or(false);
    check_tty(stdin, tty)?;
    let options = Options {
        tty,
        stdin,
        proxy: (!tty).then(|| id.clone()),
        resize: format!("/containers/{id}"),
        detach_keys: args.detach_keys.clone(),
    };
    let attachment = Attachment::new(client, options)?;
    let query = attach_query(stdin, args.detach_keys.as_deref()).flag("stdout", true).flag("stderr", true);
    let hijacked = client.post(format!("/containers/{id}/attach{query}")).upgrade().await?;
    let removed = details.host_config.and_then(|h| h.auto_remove).unwrap_or(false);
    let condition = if removed { "removed" } else { "next-exit" };
    let waiting = client.post(format!("/containers/{id}/wait?condition={condition}")).stream().await?;
    client.post(format!("/containers/{id}/start")).done().await?;
    match attachment.follow(hijacked).await? {
        End::Detached => Ok(0),
        End::Killed(signal) => Ok(128 + signal as u8),
        End::Output => exit_code(waiting).await,
    }
}

/// `attach`.
pub(crate) async fn attach(client: &Client, args: &Attach) -> Result<u8> {
    let path = format!("/containers/{}/json", escape(&args.container));
    let details: ContainerInspectResponse = client.get(path).json().await?;
    let state = details.state.unwrap_or_default();
    if !state.running.unwrap_or(false) {
        bail!("cannot attach to a stopped container, start it first");
    }
    if state.paused.unwrap_or(false) {
        bail!("cannot attach to a paused container, unpause it first");
    }
    let id = details.id.ok_or_else(|| anyhow!("the daemon gave the container no ID"))?;
    let config = details.config.unwrap_or_default();
    let tty = config.tty.unwrap_or(false);
    let stdin = !args.no_stdin && config.open_stdin.unwrap_or(false);
    check_tty(stdin, tty)?;
    let options = Options {
        tty,
        stdin,
        proxy: (args.sig_proxy && !tty).then(|| id.clone()),
        resize: format!("/containers/{id}"),
        detach_keys: args.detach_keys.clone(),
    };
    let attachment = Attachment::new(client, options)?;
    let waiting = client.post(format!("/containers/{id}/wait")).stream().await?;
    let query = attach_query(stdin, args.detach_keys.as_deref()).flag("stdout", true).flag("stderr", true);
    let hijacked = client.post(format!("/containers/{id}/attach{query}")).upgrade().await?;
    match attachment.follow(hijacked).await? {
        End::Detached => {
            eprintln!("read escape sequence");
            Ok(1)
        }
        End::Killed(signal) => Ok(128 + signal as u8),
        End::Output => exit_code(waiting).await,
    }
}

/// `wait`.
pub(crate) async fn wait(client: &Client, args: &Wait) -> Result<u8> {
    let mut failed = Vec::new();
    for name in &args.containers {
        let code = match client.post(format!("/containers/{}/wait", escape(name))).stream().await {
            Ok(waiting) => exit_code(waiting).await,
            Err(why) => Err(why),
        };
        match code {
            Ok(code) => println!("{code}"),
            Err(why) => failed.push(format!("{why:#}")),
        }
    }
    if failed.is_empty() { Ok(0) } else { bail!("{}", failed.join("\n")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::http::Refusal;

    #[test]
    fn exit_codes_of_a_failed_start_are_dockers() {
        let code = |message: &str| {
            code_of(&Refusal { status: StatusCode::BAD_REQUEST, message: message.to_owned() }.into())
        };
        assert_eq!(code(r#"exec: "nope": executable file not found in $PATH: unknown"#), 127);
        assert_eq!(code(r#"exec: "/etc/passwd": permission denied"#), 126);
        assert_eq!(code("Conflict. The container name is in use"), 125);
        assert_eq!(code_of(&anyhow!("no such file or directory")), 125);
    }
}
