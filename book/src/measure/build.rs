//! One Dockerfile with a COPY of some thousand files and six RUN, built cold, and then again from the cache.

use super::{
    Found, command,
    peers::{self, LIMITS, said, version},
    rounds::{Contestant, take_turns, time},
};
use crate::data::Row;
use anyhow::Result;
use std::{
    fs::{self, OpenOptions},
    io::Write,
    path::Path,
    time::Duration,
};

const ROUNDS: usize = 4;
const FILES: usize = 3000;

pub(super) fn run() -> Result<Found> {
    let dockerd = peers::dockerd()?;
    peers::share_base("podman")?;
    said("layers --store store load base.tar")?;
    let teu = "teu build -q --network none -t app context";
    let chapter = "dockerfile build -q --store store -t app context";
    let docker = "docker build -q --network none -t app context";
    let buildah = format!("buildah build -q --layers --network none --pull-never {LIMITS} -t app context");
    let contestants = vec![
        contestant("teu", "teu build", teu.into()),
        contestant("chapter", "dockerfile build (chapter 4)", chapter.into()),
        contestant("docker", "docker build (classic)", docker.into()),
        contestant("buildah", "buildah build --layers", buildah),
    ];
    let mut rows = take_turns(ROUNDS, |round| context(Path::new("context"), round), contestants)?;
    // The cold ones first.
    rows.sort_by_key(|row| row.key.ends_with("-cached"));
    let with = ["docker", "buildah"].map(version).into_iter().collect::<Result<_>>()?;
    drop(dockerd);
    let title = "COPY of 3000 files and six RUN";
    Ok(Found { title, unit: "ms", with, rounds: Some(ROUNDS), rows })
}

/// Builds twice: the files are new in each round, so that the first build finds nothing in its cache, and the
/// second finds all.
fn contestant(who: &str, name: &str, line: String) -> Contestant<'static> {
    let row = |key: String, group: &str| Row {
        key,
        name: name.into(),
        group: group.into(),
        ours: who == "teu" || who == "chapter",
        ..Row::default()
    };
    let rows = vec![row(who.into(), "cold"), row(format!("{who}-cached"), "again, all in the cache")];
    // Without this, the newer docker commands look for a plugin.
    let build = move || time(command(&line).env("DOCKER_BUILDKIT", "0"));
    Contestant { rows, turn: Box::new(move |_| Ok(vec![build()?, build()?])) }
}

/// A new context: files of about 2.5 kB, as those of a program's source are. They are written over the last one's, as
/// they are equally long: to remove so many files takes longer than anything that is measured here.
fn context(at: &Path, round: usize) -> Result<()> {
    for number in 0..FILES {
        let dir = at.join(format!("src/{}", number / 100));
        if number % 100 == 0 {
            fs::create_dir_all(&dir)?;
        }
        let line =
            format!("round {round}, file {number}: {:x}\n", number.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let path = dir.join(number.to_string());
        let mut file = OpenOptions::new().create(true).write(true).truncate(false).open(path)?;
        file.write_all(line.repeat(2500 / line.len()).as_bytes())?;
    }
    let runs: String = (1..=6).map(|n| format!("RUN echo {n} > /made-{n}\n")).collect();
    fs::write(at.join("Dockerfile"), format!("FROM base\nCOPY . /app\n{runs}"))?;
    // What was written this very second no cache may trust, and a user's files are older than that.
    said("sync")?;
    std::thread::sleep(Duration::from_secs(2));
    Ok(())
}
