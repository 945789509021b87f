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

// The doc comments of the arguments are what `--help` shows, where [X] is a word that may be left out.
#![allow(rustdoc::broken_intra_doc_links, rustdoc::invalid_html_tags)]

mod archive;
mod attach;
mod auth;
mod build;
mod changes;
mod connect;
mod copy;
mod disk;
mod exec;
mod http;
mod images;
mod inspect;
mod lifecycle;
mod mounts;
mod networks;
mod options;
mod ports;
mod ps;
mod pull;
mod run;
mod signals;
mod size;
mod stats;
mod stream;
mod system;
mod table;
mod template;
mod volumes;
mod watch;

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
    Ps(ps::Ps),
    Logs(watch::Logs),
    Exec(exec::Exec),
    Stop(lifecycle::Stop),
    Kill(lifecycle::Kill),
    Restart(lifecycle::Restart),
    Rm(lifecycle::Rm),
    Attach(run::Attach),
    Wait(run::Wait),
    /// Hold containers still
    Pause(lifecycle::Names),
    /// Let held containers go on
    Unpause(lifecycle::Names),
    Rename(lifecycle::Rename),
    Update(Box<lifecycle::Update>),
    Top(watch::Top),
    Stats(stats::Stats),
    Port(changes::Port),
    Cp(copy::Cp),
    Diff(changes::Diff),
    Commit(changes::Commit),
    Export(changes::Export),
    Import(changes::Import),
    Images(images::Images),
    Pull(pull::Pull),
    Push(pull::Push),
    Build(Box<build::Build>),
    Tag(images::Tag),
    Rmi(images::Rmi),
    History(images::History),
    Save(archive::Save),
    Load(archive::Load),
    Inspect(inspect::Inspect),
    Events(watch::Events),
    Info(system::Info),
    Version(system::Version),
    /// Containers: the same commands by their full names
    #[command(subcommand)]
    Container(Box<Container>),
    /// Images: make, list, remove, …
    #[command(subcommand)]
    Image(Box<Image>),
    /// Networks: make, list, remove, …
    #[command(subcommand)]
    Network(networks::Network),
    /// Volumes: make, list, remove, …
    #[command(subcommand)]
    Volume(volumes::Volume),
    /// The daemon: what it keeps, and making room
    #[command(subcommand)]
    System(System),
    /// Run the daemon
    Daemon(crate::server::Options),
    Doctor(crate::doctor::Doctor),
    Tour(crate::tour::Tour),
}

/// `teu container …`.
#[derive(Debug, Subcommand)]
#[command(defer = true)]
enum Container {
    Attach(run::Attach),
    Commit(changes::Commit),
    Cp(copy::Cp),
    Create(run::Create),
    Diff(changes::Diff),
    Exec(exec::Exec),
    Export(changes::Export),
    Inspect(inspect::Inspect),
    Kill(lifecycle::Kill),
    Logs(watch::Logs),
    #[command(visible_aliases = ["list", "ps"])]
    Ls(ps::Ps),
    /// Hold containers still
    Pause(lifecycle::Names),
    Port(changes::Port),
    /// Remove stopped containers
    Prune(disk::Prune),
    Rename(lifecycle::Rename),
    Restart(lifecycle::Restart),
    #[command(visible_alias = "remove")]
    Rm(lifecycle::Rm),
    Run(run::Run),
    Start(run::Start),
    Stats(stats::Stats),
    Stop(lifecycle::Stop),
    Top(watch::Top),
    /// Let held containers go on
    Unpause(lifecycle::Names),
    Update(lifecycle::Update),
    Wait(run::Wait),
}

/// `teu image …`.
#[derive(Debug, Subcommand)]
#[command(defer = true)]
enum Image {
    Base(crate::base::Base),
    Build(build::Build),
    History(images::History),
    Import(changes::Import),
    Inspect(inspect::Inspect),
    Load(archive::Load),
    #[command(visible_alias = "list")]
    Ls(images::Images),
    Prune(disk::PruneImages),
    Pull(pull::Pull),
    Push(pull::Push),
    #[command(visible_alias = "remove")]
    Rm(images::Rmi),
    Save(archive::Save),
    Tag(images::Tag),
}

/// `teu system …`.
#[derive(Debug, Subcommand)]
#[command(defer = true)]
enum System {
    Df(disk::Df),
    Events(watch::Events),
    Info(system::Info),
    Prune(disk::PruneAll),
}

/// Parses the command line and does what it says.
pub(crate) fn main() -> ExitCode {
    die_of_broken_pipes();
    let line = match Line::try_parse() {
        Ok(line) => line,
        Err(error) => return misused(&error),
    };
    // These want a process without threads.
    match &line.command {
        Command::Daemon(options) => return crate::server::main(options),
        Command::Doctor(args) => return crate::doctor::main(args),
        Command::Tour(args) => return crate::tour::main(args),
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

/// Help was asked for, or the line cannot be understood: docker's exit codes are 1 for an unknown command and 125
/// for what is wrong with a known one.
fn misused(error: &clap::Error) -> ExitCode {
    // Nothing can be said where there is nobody to read it.
    let _ = error.print();
    ExitCode::from(match error.kind() {
        _ if !error.use_stderr() => 0,
        clap::error::ErrorKind::InvalidSubcommand => 1,
        _ => 125,
    })
}

/// Does a command that speaks to the daemon. The exit code is the command's.
fn talk(line: &Line) -> anyhow::Result<u8> {
    let client = Client::new(connect::Host::choose(line.host.as_deref())?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    runtime.block_on(command(&client, &line.command))
}

async fn command(client: &Client, command: &Command) -> anyhow::Result<u8> {
    match command {
        Command::Run(args) => run::run(client, args).await,
        Command::Create(args) => run::create(client, args).await,
        Command::Start(args) => run::start(client, args).await,
        Command::Ps(args) => ps::ps(client, args).await,
        Command::Logs(args) => watch::logs(client, args).await,
        Command::Exec(args) => exec::exec(client, args).await,
        Command::Stop(args) => lifecycle::stop(client, args).await,
        Command::Kill(args) => lifecycle::kill(client, args).await,
        Command::Restart(args) => lifecycle::restart(client, args).await,
        Command::Rm(args) => lifecycle::rm(client, args).await,
        Command::Attach(args) => run::attach(client, args).await,
        Command::Wait(args) => run::wait(client, args).await,
        Command::Rename(args) => lifecycle::rename(client, args).await,
        Command::Update(args) => lifecycle::update(client, args).await,
        Command::Top(args) => watch::top(client, args).await,
        Command::Stats(args) => stats::stats(client, args).await,
        Command::Port(args) => changes::port(client, args).await,
        Command::Cp(args) => copy::cp(client, args).await,
        Command::Diff(args) => changes::diff(client, args).await,
        Command::Commit(args) => changes::commit(client, args).await,
        Command::Export(args) => changes::export(client, args).await,
        Command::Pause(args) => lifecycle::freeze(client, args, "pause").await,
        Command::Unpause(args) => lifecycle::freeze(client, args, "unpause").await,
        Command::Images(args) => images::images(client, args).await,
        Command::Pull(args) => pull::pull_command(client, args).await,
        Command::Push(args) => pull::push_command(client, args).await,
        Command::Build(args) => build::build(client, args).await,
        Command::Tag(args) => images::tag(client, args).await,
        Command::Rmi(args) => images::rmi(client, args).await,
        Command::History(args) => images::history(client, args).await,
        Command::Save(args) => archive::save(client, args).await,
        Command::Load(args) => archive::load(client, args).await,
        Command::Import(args) => changes::import(client, args).await,
        Command::Inspect(args) => inspect::inspect(client, args, None).await,
        Command::Events(args) => watch::events(client, args).await,
        Command::Info(args) => system::info(client, args).await,
        Command::Version(args) => system::version(client, args).await,
        Command::Container(command) => container(client, command).await,
        Command::Image(command) => image(client, command).await,
        Command::Network(command) => networks::network(client, command).await,
        Command::Volume(command) => volumes::volume(client, command).await,
        Command::System(System::Df(args)) => disk::df(client, args).await,
        Command::System(System::Events(args)) => watch::events(client, args).await,
        Command::System(System::Info(args)) => system::info(client, args).await,
        Command::System(System::Prune(args)) => disk::prune_all(client, args).await,
        Command::Daemon(_) | Command::Doctor(_) | Command::Tour(_) => Ok(0),
    }
}

async fn container(client: &Client, command: &Container) -> anyhow::Result<u8> {
    match command {
        Container::Run(args) => run::run(client, args).await,
        Container::Create(args) => run::create(client, args).await,
        Container::Start(args) => run::start(client, args).await,
        Container::Ls(args) => ps::ps(client, args).await,
        Container::Logs(args) => watch::logs(client, args).await,
        Container::Exec(args) => exec::exec(client, args).await,
        Container::Stop(args) => lifecycle::stop(client, args).await,
        Container::Kill(args) => lifecycle::kill(client, args).await,
        Container::Restart(args) => lifecycle::restart(client, args).await,
        Container::Rm(args) => lifecycle::rm(client, args).await,
        Container::Attach(args) => run::attach(client, args).await,
        Container::Wait(args) => run::wait(client, args).await,
        Container::Rename(args) => lifecycle::rename(client, args).await,
        Container::Update(args) => lifecycle::update(client, args).await,
        Container::Top(args) => watch::top(client, args).await,
        Container::Stats(args) => stats::stats(client, args).await,
        Container::Port(args) => changes::port(client, args).await,
        Container::Cp(args) => copy::cp(client, args).await,
        Container::Diff(args) => changes::diff(client, args).await,
        Container::Commit(args) => changes::commit(client, args).await,
        Container::Export(args) => changes::export(client, args).await,
        Container::Pause(args) => lifecycle::freeze(client, args, "pause").await,
        Container::Unpause(args) => lifecycle::freeze(client, args, "unpause").await,
        Container::Inspect(args) => inspect::inspect(client, args, Some("container")).await,
        Container::Prune(args) => disk::prune(client, args, &[disk::CONTAINERS]).await,
    }
}

async fn image(client: &Client, command: &Image) -> anyhow::Result<u8> {
    match command {
        Image::Base(args) => archive::base(client, args).await,
        Image::Ls(args) => images::images(client, args).await,
        Image::Pull(args) => pull::pull_command(client, args).await,
        Image::Push(args) => pull::push_command(client, args).await,
        Image::Build(args) => build::build(client, args).await,
        Image::Tag(args) => images::tag(client, args).await,
        Image::Rm(args) => images::rmi(client, args).await,
        Image::History(args) => images::history(client, args).await,
        Image::Save(args) => archive::save(client, args).await,
        Image::Load(args) => archive::load(client, args).await,
        Image::Import(args) => changes::import(client, args).await,
        Image::Inspect(args) => inspect::inspect(client, args, Some("image")).await,
        Image::Prune(args) => disk::prune_images(client, args).await,
    }
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
