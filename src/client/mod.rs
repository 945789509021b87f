//! The command line: docker's verbs, sent to the daemon as requests of the Docker Engine API.
//!
//! | module | what it does |
//! |---|---|
//! | [`connect`] | which daemon, and starting it |
//! | [`http`] | requests and answers |
//! | [`stream`], [`attach`], [`signals`] | a container's stdin, stdout and stderr, and its terminal |
//! | [`options`], [`ports`], [`mounts`] | the flags of `run`, and the document that they become |
//! | [`table`], [`template`], [`size`] | how answers are shown |
//! | the others | the commands, a group each |

mod archive;
mod attach;
mod auth;
mod connect;
mod http;
mod images;
mod mounts;
mod options;
mod ports;
mod ps;
mod pull;
mod run;
mod signals;
mod size;
mod stream;
mod system;
mod table;
mod template;

pub(crate) use system::architecture;
pub(crate) use table::align;

use clap::{Parser, Subcommand};
use http::Client;
use std::process::ExitCode;

/// A container engine that you can read
#[derive(Debug, Parser)]
#[command(name = "teu", version, about, arg_required_else_help = true, max_term_width = 100)]
struct Line {
    /// The daemon's socket
    #[arg(short = 'H', long, global = false, value_name = "unix://PATH")]
    host: Option<String>,
    #[command(subcommand)]
    command: Command,
}

// Each command is described to clap only when it is the one that was typed (`defer`): describing all of
// them takes longer than the daemon needs to answer.
#[derive(Debug, Subcommand)]
#[command(defer = true)]
enum Command {
    Run(Box<run::Run>),
    Create(Box<run::Create>),
    Start(run::Start),
    Attach(run::Attach),
    Wait(run::Wait),
    Ps(ps::Ps),
    Images(images::Images),
    Rmi(images::Rmi),
    Tag(images::Tag),
    History(images::History),
    Pull(pull::Pull),
    Push(pull::Push),
    Save(archive::Save),
    Load(archive::Load),
    /// Images: make, list, remove, …
    #[command(subcommand)]
    Image(Image),
    Version(system::Version),
    Info(system::Info),
    /// Run the daemon
    Daemon(crate::server::Options),
    Doctor(crate::doctor::Doctor),
}

/// `teu image …`.
#[derive(Debug, Subcommand)]
enum Image {
    Base(crate::base::Base),
    History(images::History),
    Load(archive::Load),
    #[command(visible_alias = "list")]
    Ls(images::Images),
    Pull(pull::Pull),
    Push(pull::Push),
    #[command(visible_alias = "remove")]
    Rm(images::Rmi),
    Save(archive::Save),
    Tag(images::Tag),
}

/// Parses the command line and does what it says.
pub(crate) fn main() -> ExitCode {
    die_of_broken_pipes();
    let line = Line::parse();
    // These want a process without threads.
    match &line.command {
        Command::Daemon(options) => return crate::server::main(options),
        Command::Doctor(args) => return crate::doctor::main(args),
        _ => {}
    }
    match talk(&line) {
        Ok(code) => ExitCode::from(code),
        Err(why) => {
            eprintln!("{why:#}");
            ExitCode::FAILURE
        }
    }
}

/// Does a command that speaks to the daemon. The exit code is the command's.
fn talk(line: &Line) -> anyhow::Result<u8> {
    let client = Client::new(connect::Host::choose(line.host.as_deref())?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    runtime.block_on(async {
        let client = &client;
        match &line.command {
            Command::Run(args) => run::run(client, args).await,
            Command::Create(args) => run::create(client, args).await,
            Command::Start(args) => run::start(client, args).await,
            Command::Attach(args) => run::attach(client, args).await,
            Command::Wait(args) => run::wait(client, args).await,
            Command::Ps(args) => ps::ps(client, args).await,
            Command::Images(args) | Command::Image(Image::Ls(args)) => images::images(client, args).await,
            Command::Rmi(args) | Command::Image(Image::Rm(args)) => images::rmi(client, args).await,
            Command::Tag(args) | Command::Image(Image::Tag(args)) => images::tag(client, args).await,
            Command::History(args) | Command::Image(Image::History(args)) => {
                images::history(client, args).await
            }
            Command::Pull(args) | Command::Image(Image::Pull(args)) => pull::pull_command(client, args).await,
            Command::Push(args) | Command::Image(Image::Push(args)) => pull::push_command(client, args).await,
            Command::Save(args) | Command::Image(Image::Save(args)) => archive::save(client, args).await,
            Command::Load(args) | Command::Image(Image::Load(args)) => archive::load(client, args).await,
            Command::Image(Image::Base(args)) => archive::base(client, args).await,
            Command::Version(args) => system::version(client, args).await,
            Command::Info(args) => system::info(client, args).await,
            Command::Daemon(_) | Command::Doctor(_) => Ok(0),
        }
    })
}

/// A name of an image with its tag: `base:latest`.
pub(crate) fn familiar_name(name: &str) -> String {
    pull::familiar(name)
}

/// The same with its registry: `docker.io/library/base:latest`.
pub(crate) fn full_name(name: &str) -> String {
    pull::full(&pull::familiar(name))
}

/// `teu ps | head -1` ends as quietly as `ls | head -1`. (Rust ignores SIGPIPE, and then printing panics.)
fn die_of_broken_pipes() {
    use nix::sys::signal::{SigHandler, Signal, signal};
    // SAFETY: the default action replaces no handler of ours, and no thread exists yet.
    let _ = unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) };
}
