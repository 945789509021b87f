//! Where the time of one `teu run` goes, as `--explain` tells it: its steps, put together by what they are for.

use super::{Found, command, peers, rounds};
use crate::data::Row;
use anyhow::{Context, Result};
use std::time::Instant;

const ROUNDS: usize = 20;

/// The parts: a key, what it is, and the steps that belong to it, by section and call. The first that fits has it.
type Part = (&'static str, &'static str, fn(section: &str, call: &str) -> bool);
const PARTS: [Part; 8] = [
    ("overlay", "overlay: the layers become a root", |section, _| section == "5.1"),
    ("groups", "control groups: made", |section, call| section == "7.2" && call == "mkdir(2)"),
    ("limits", "control groups: limits and devices", |section, _| section == "7.2"),
    ("clone", "clone3(2): the new namespaces", |_, call| call == "clone3(2)"),
    ("network", "network: lo, veth pair, address", |_, call| call == "netlink(7)"),
    ("pivot", "pivot_root(2): the host is gone", |_, call| call == "pivot_root(2)"),
    ("mounts", "mounts, devices, masks", |_, call| call.contains("mount") || call == "mknod(2)"),
    ("identity", "host name, user, capabilities", |_, _| true),
];

pub(super) fn run() -> Result<Found> {
    peers::said("teu image base")?;
    let mut numbers = vec![Vec::new(); PARTS.len() + 1];
    for round in 0..=ROUNDS {
        let mut run = command("teu run --rm --explain base true");
        let began = Instant::now();
        let output = run.output();
        let whole = began.elapsed().as_secs_f64() * 1e3;
        let output = peers::succeeded(&run, output)?;
        let parts = parts(&String::from_utf8_lossy(&output.stderr))?;
        // The first one starts the daemon's caches.
        if round > 0 {
            let rest = (whole - parts.iter().sum::<f64>()).max(0.0);
            numbers.iter_mut().zip(parts.iter().chain([&rest])).for_each(|(kept, ms)| kept.push(*ms));
        }
    }
    let rest = ("rest", "the rest: client, daemon, true, end");
    let named = PARTS.iter().map(|(key, name, _)| (*key, *name)).chain([rest]);
    let rows = named.zip(numbers).map(|((key, name), numbers)| {
        let row = Row { key: key.into(), name: name.into(), ours: key != "rest", ..Row::default() };
        rounds::summary(row, numbers)
    });
    let title = "One teu run of true, by its steps";
    Ok(Found { title, unit: "ms", with: vec![], rounds: Some(ROUNDS), rows: rows.collect() })
}

/// The milliseconds of each part, from the table that `--explain` prints.
fn parts(table: &str) -> Result<Vec<f64>> {
    let mut parts = vec![0.0; PARTS.len()];
    for line in table.lines().skip(1) {
        let mut words = line.split_whitespace().skip(1);
        let (us, call, section) = (words.next(), words.next(), words.last());
        let (us, call, section) =
            (us.context("a duration")?, call.context("a call")?, section.context("a section")?);
        let at = PARTS.iter().position(|(.., has)| has(section, call)).context("the last has all")?;
        parts[at] += us.parse::<f64>().with_context(|| line.to_owned())? / 1e3;
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_step_belongs_to_a_part() {
        let table = "  #      µs  system call            what it does      book\n\
              1     695  fsconfig(2)            lowerdir+ once for each of 2 layers  5.1\n\
              2     338  move_mount(2)          the overlay, at /run/x 5.1\n\
              3    2700  mkdir(2)               /sys/fs/cgroup/pids/x   7.2\n\
              4     100  write(2)               c 1:3 rwm > devices.allow  7.2\n\
              5      50  move_mount(2)          12 paths masked, 5 read-only  7.1\n\
              6       5  sethostname(2)         x 7.1\n";
        assert_eq!(parts(table).unwrap(), [1.033, 2.7, 0.1, 0.0, 0.0, 0.0, 0.05, 0.005]);
        assert!(parts("head\nnonsense").is_err());
    }
}
