//! `exec`: another process in a container that runs.

use super::{
    attach::{Attachment, End, Options, check_tty},
    http::{Client, escape},
    options::lists::environment,
    stream::terminal_size,
};
use anyhow::Result;
use bollard_stubs::models::{ExecConfig, ExecInspectResponse, ExecStartConfig, IdResponse};
use std::time::Duration;

/// The longest pause between two questions for an exit code.
const PATIENCE: Duration = Duration::from_secs(1);

/// Run a command in a running container
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Exec {
    /// In the background
    #[arg(short, long)]
    detach: bool,
    /// The keys that let go of it (ctrl-p,ctrl-q)
    #[arg(long, value_name = "KEYS")]
    detach_keys: Option<String>,
    /// A variable
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// A file of variables, one a line
    #[arg(long, value_name = "FILE")]
    env_file: Vec<String>,
    /// Keep stdin open
    #[arg(short, long)]
    interactive: bool,
    /// All capabilities
    #[arg(long)]
    privileged: bool,
    /// Give it a terminal
    #[arg(short, long)]
    tty: bool,
    /// The user (name or number, [:group])
    #[arg(short, long, value_name = "USER")]
    user: Option<String>,
    /// The working directory
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
    #[arg(value_name = "CONTAINER")]
    container: String,
    /// The command with its arguments
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "COMMAND [ARG...]"
    )]
    words: Vec<String>,
}

/// `exec`: make it, start it on a connection that is taken over, then ask for its exit code.
pub(crate) async fn exec(client: &Client, args: &Exec) -> Result<u8> {
    check_tty(args.interactive && !args.detach, args.tty)?;
    let attached = !args.detach;
    let console =
        terminal_size().filter(|_| args.tty).map(|(rows, columns)| vec![rows.into(), columns.into()]);
    let config = ExecConfig {
        attach_stdin: Some(args.interactive && attached),
        attach_stdout: Some(attached),
        attach_stderr: Some(attached),
        cmd: Some(args.words.clone()),
        console_size: console.clone(),
        detach_keys: args.detach_keys.clone(),
        env: Some(environment(&args.env, &args.env_file)?),
        privileged: Some(args.privileged),
        tty: Some(args.tty),
        user: args.user.clone(),
        working_dir: args.workdir.clone(),
    };
    let made = client.post(format!("/containers/{}/exec", escape(&args.container))).body(&config)?;
    let id = made.json::<IdResponse>().await?.id;
    let start = ExecStartConfig { detach: Some(args.detach), tty: Some(args.tty), console_size: console };
    let start = client.post(format!("/exec/{id}/start")).body(&start)?;
    if args.detach {
        start.done().await?;
        return Ok(0);
    }
    let options = Options {
        tty: args.tty,
        stdin: args.interactive,
        proxy: None,
        resize: format!("/exec/{id}"),
        detach_keys: args.detach_keys.clone(),
    };
    let attachment = Attachment::new(client, options)?;
    match attachment.follow(start.upgrade().await?).await? {
        End::Detached => return Ok(0),
        End::Killed(signal) => return Ok(128 + signal as u8),
        End::Output => {}
    }
    exit_code(client, &id).await
}

/// The exit code. Its output may have ended before it (or the daemon may not have heard of its end yet), and no request
/// waits for an exec: it is asked again for a while.
async fn exit_code(client: &Client, id: &str) -> Result<u8> {
    let mut pause = Duration::from_millis(1);
    loop {
        let exec: ExecInspectResponse = client.get(format!("/exec/{id}/json")).json().await?;
        if !exec.running.unwrap_or(false) || pause > PATIENCE {
            return Ok((exec.exit_code.unwrap_or(0) & 0xff) as u8);
        }
        tokio::time::sleep(pause).await;
        pause *= 2;
    }
}
