//! Being attached to a container: its output, our input, signals, and the size of the terminal.

use super::{
    http::{Client, Hijacked, Query},
    signals::Signals,
    stream::{self, InputEnd},
};
use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use std::{future::pending, io::IsTerminal};
use tokio::sync::oneshot::{Receiver, error::RecvError};

/// So many SIGINT or SIGTERM end the client, whatever the container does with them.
const ENOUGH: u32 = 3;

/// How to be attached.
#[derive(Clone, Debug, Default)]
pub(crate) struct Options {
    /// The container has a terminal.
    pub(crate) tty: bool,
    /// Give it our stdin.
    pub(crate) stdin: bool,
    /// Send signals on to this container.
    pub(crate) proxy: Option<String>,
    /// Where to tell the terminal's size: `/containers/ID` or `/exec/ID`.
    pub(crate) resize: String,
    /// The keys that let go; docker's if not given.
    pub(crate) detach_keys: Option<String>,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The container closed its side.
    Output,
    /// The detach keys were typed.
    Detached,
    /// A signal that was ours: exit with 128 and its number.
    Killed(Signal),
}

/// An attachment whose signals are held, and whose terminal may be raw.
pub(crate) struct Attachment<'a> {
    client: &'a Client,
    options: Options,
    signals: Option<Signals>,
    keys: Option<Vec<u8>>,
}

impl<'a> Attachment<'a> {
    /// Takes the signals over. Call it before any thread exists.
    pub(crate) fn new(client: &'a Client, options: Options) -> Result<Attachment<'a>> {
        let keys = options.detach_keys.as_deref().unwrap_or(stream::DETACH_KEYS);
        let keys = options.tty.then(|| stream::parse_keys(keys)).transpose()?;
        let signals = match (options.tty, &options.proxy) {
            (true, _) => Some(Signals::fatal()?),
            (false, Some(_)) => Some(Signals::all()?),
            (false, None) => None,
        };
        Ok(Attachment { client, options, signals, keys })
    }

    /// Copies in both directions until the end.
    pub(crate) async fn follow(mut self, mut hijacked: Hijacked) -> Result<End> {
        let _raw = if self.options.tty && self.options.stdin { stream::Raw::enter()? } else { None };
        let mut output = stream::output(&mut hijacked, self.options.tty)?;
        let mut input = match self.options.stdin {
            true => Some(stream::input(&hijacked.socket, self.keys.take())?),
            false => None,
        };
        if self.options.tty {
            self.resize().await;
        }
        let mut interrupts = 0;
        loop {
            tokio::select! {
                ended = &mut output => {
                    ended.context("the thread that copies the output is gone")??;
                    return Ok(End::Output);
                }
                ended = input_end(&mut input) => {
                    input = None;
                    if ended == Ok(InputEnd::Detached) {
                        return Ok(End::Detached);
                    }
                }
                signal = next_signal(&mut self.signals) => {
                    let signal = signal?;
                    if self.options.tty && signal == Signal::SIGWINCH {
                        self.resize().await;
                        continue;
                    }
                    if self.options.tty {
                        return Ok(End::Killed(signal));
                    }
                    interrupts += u32::from(matches!(signal, Signal::SIGINT | Signal::SIGTERM));
                    if interrupts >= ENOUGH {
                        eprintln!("\ngot {ENOUGH} SIGTERM/SIGINTs, forcefully exiting");
                        return Ok(End::Killed(signal));
                    }
                    self.send_on(signal).await;
                }
            }
        }
    }

    /// Tells the container how large the terminal is. One that has ended already does not mind.
    async fn resize(&self) {
        if let Some((rows, columns)) = stream::terminal_size() {
            let query = Query::default().add("h", rows.to_string()).add("w", columns.to_string());
            let _ = self.client.post(format!("{}/resize{query}", self.options.resize)).done().await;
        }
    }

    async fn send_on(&self, signal: Signal) {
        if let Some(container) = &self.options.proxy {
            let name = signal.as_str().trim_start_matches("SIG");
            let query = Query::default().add("signal", name);
            // It may have ended in this moment: then there is nobody to tell.
            let _ = self.client.post(format!("/containers/{container}/kill{query}")).done().await;
        }
    }
}

/// How the input ends; never, where there is none.
async fn input_end(input: &mut Option<Receiver<InputEnd>>) -> Result<InputEnd, RecvError> {
    match input {
        Some(input) => input.await,
        None => pending().await,
    }
}

/// The next signal; never, where they are not held.
async fn next_signal(signals: &mut Option<Signals>) -> Result<Signal> {
    match signals {
        Some(signals) => signals.next().await,
        None => pending().await,
    }
}

/// A terminal in the container with something that is not one at our end would hang: docker refuses it too.
pub(crate) fn check_tty(stdin: bool, tty: bool) -> Result<()> {
    if stdin && tty && !std::io::stdin().is_terminal() {
        anyhow::bail!("the input device is not a TTY");
    }
    Ok(())
}
