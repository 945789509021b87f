//! The book: weaves its text with the code that it explains, builds, serves and checks it.
//!
//! | module | what it does |
//! |---|---|
//! | [`lab::source`] | cuts an item out of the source by its path |
//! | [`weave`] | puts listings, figures, boxes and terms into a page |
//! | [`transcript`] | what a reader types, and what the machine answers; run by `tests/transcripts.rs` |
//! | [`listing`] | a listing as it stands in a page |
//! | [`measure`] | measures what the book says in numbers, beside the peers |
//! | [`data`], [`plot`] | the measured numbers, and bars drawn from them |
//! | [`world`] | an empty machine, for a transcript or a measurement |
//! | [`make`] | text to HTML, by mdBook's library |
//! | [`again`] | after an edit, only the pages that it has changed |
//! | [`sources`] | a page for every source file, so that a listing's line can be looked up |
//! | [`check`] | links, anchors, orphans, sections |
//! | [`calls`] | the system calls of the sources, which the page about them has to name |
//! | [`cover`] | the public items of the chapters: which page is about each |
//! | [`serve`] | a small server on loopback that reloads the page when a file changes |

mod again;
mod calls;
mod check;
mod cover;
mod data;
mod listing;
mod make;
mod measure;
mod plot;
mod serve;
mod sources;
pub mod transcript;
mod weave;
pub mod world;

use anyhow::Result;
use clap::{Parser, Subcommand};
use std::{io::Write, process::ExitCode};

/// Builds and serves the book; `build` and `check` do one thing and end.
#[derive(Parser)]
#[command(name = "cargo book", bin_name = "cargo book --", disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Build it
    Build {
        /// Where to
        #[arg(long, value_name = "DIR", default_value_os_t = make::out())]
        to: std::path::PathBuf,
    },
    /// Build it, and check every listing, link, anchor, section and command
    Check,
    /// Measure again what the book says in numbers (as root, with the peers; some minutes)
    Measure {
        /// Which measurements; without any, all
        names: Vec<String>,
        /// Where the programs are that are measured
        #[arg(long, value_name = "DIR", default_value_os_t = make::workspace().join("target/release"))]
        programs: std::path::PathBuf,
    },
    /// One measurement, inside the world made for it; prints the data
    #[command(hide = true)]
    MeasureInside {
        /// Which
        name: String,
    },
    /// Build it, serve it on a loopback port, and reload on each change (the default)
    Serve {
        /// The port; without it 3131, or any other that is free
        #[arg(long)]
        port: Option<u16>,
    },
}

/// The program.
pub fn main() -> ExitCode {
    // `cargo book -- check` arrives as `book -- check`: the alias brings a `--` of its own.
    let args = std::env::args_os().enumerate().filter(|(n, arg)| *n != 1 || arg != "--").map(|(_, arg)| arg);
    match run(Cli::parse_from(args).command.unwrap_or(Command::Serve { port: None })) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    let (root, out) = (make::workspace(), make::out());
    match command {
        Command::Build { to } => {
            let made = make::make(&root, &to)?;
            println!("{} pages: {}", made.pages.len(), to.join("index.html").display());
            Ok(())
        }
        Command::Check => {
            let report = check::check(&root, &out)?;
            // Who reads only the first lines (`| head`) has heard enough.
            let _ = write!(std::io::stdout(), "{report}");
            Ok(())
        }
        Command::Measure { names, programs } => measure::measure(&root, &names, &programs),
        Command::MeasureInside { name } => measure::inside(&name),
        Command::Serve { port } => serve::serve(&root, &out, port),
    }
}
