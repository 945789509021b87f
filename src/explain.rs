//! `--explain`: the steps of a start, as they happen.
//!
//! What a step is, who tells of it and who hears it, is in [`namespaces::tell`]. Here the listener is a [`recorder`],
//! which writes each step as a line of JSON; a client shows these lines as a table.
//!
//! How they travel: `X-Teu-Explain: 1` on `POST /containers/create` asks for them, `GET
//! /containers/{id}/explain`, opened before the start, streams them. Build and pull, asked with the
//! same header, put them among their other lines as `{"aux": {"step": {...}}}`.

use namespaces::tell::{Listener, Told};
use nix::unistd::write;
use std::os::fd::OwnedFd;

/// A listener that writes every step to a file descriptor.
///
/// Each line is one write(2), shorter than `PIPE_BUF`, so that lines of a process and of its child, which has a copy of the
/// listener, never mix (pipe(7)).
pub(crate) fn recorder(out: OwnedFd) -> Listener<impl Fn(Told) + Send + Sync + 'static> {
    Listener::new(true, false, move |told| {
        let Told::Step(step) = told else { return };
        let Ok(mut line) = serde_json::to_vec(&step) else { return };
        line.push(b'\n');
        // Nobody reads any more: the start itself must not fail for that.
        let _ = write(&out, &line);
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use namespaces::tell::Step;
    use std::io::Read;

    #[test]
    fn a_step_is_a_line() {
        let (mut read, write) = std::io::pipe().unwrap();
        tracing::subscriber::with_default(recorder(write.into()), || {
            tracing::warn!("not a step");
            tracing::info!(target: "step", section = "7.1", call = "pivot_root(2)", "a \"new\" root");
            tracing::info!(target: "step", section = "7.1", call = "mount(2)", "/proc");
        });
        let mut text = String::new();
        read.read_to_string(&mut text).unwrap();
        let steps: Vec<Step> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let seen: Vec<_> = steps.iter().map(|s| (s.call.as_str(), s.what.as_str())).collect();
        assert_eq!(seen, [("pivot_root(2)", "a \"new\" root"), ("mount(2)", "/proc")]);
    }
}
