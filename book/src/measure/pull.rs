//! One image, pulled from a registry on loopback until it could be run, by an engine that has none of it.

use super::{
    Found, command,
    peers::{self, said, version},
    rounds::{Contestant, take_turns, time},
};
use crate::data::Row;
use anyhow::Result;
use std::fs;

const ROUNDS: usize = 5;

pub(super) fn run() -> Result<Found> {
    let dockerd = peers::dockerd()?;
    let (registry, address) = peers::registry()?;
    said("teu image base")?;
    let image = |round: usize| format!("{address}/image:{round}");
    let contestants = vec![
        contestant("teu", "teu pull", &image, "teu pull -q IMAGE", "teu rmi IMAGE"),
        contestant("docker", "docker pull", &image, "docker pull -q IMAGE", "docker rmi IMAGE"),
        contestant(
            "podman",
            "podman pull",
            &image,
            "podman pull -q --tls-verify=false IMAGE",
            "podman rmi IMAGE",
        ),
        contestant(
            "skopeo",
            "skopeo copy, umoci unpack",
            &image,
            "sh fetch.sh IMAGE",
            "rm -rf layout bundle",
        ),
    ];
    let fetch = "set -e\nskopeo copy -q --src-tls-verify=false docker://$1 oci:layout:x\numoci unpack --image layout:x bundle\n";
    fs::write("fetch.sh", fetch)?;
    let publish = |round: usize| publish(round, &image(round));
    let rows = take_turns(ROUNDS, publish, contestants)?;
    let with = ["docker", "podman", "skopeo", "umoci"].map(version).into_iter().collect::<Result<_>>()?;
    drop((registry, dockerd));
    let title = "A pull of five layers, 150 MB";
    Ok(Found { title, unit: "ms", with, rounds: Some(ROUNDS), rows })
}

fn contestant<'a>(
    key: &str,
    name: &str,
    image: &'a dyn Fn(usize) -> String,
    pull: &'a str,
    remove: &'a str,
) -> Contestant<'a> {
    let row = Row { key: key.into(), name: name.into(), ours: key == "teu", ..Row::default() };
    let turn = move |round| {
        let image = image(round);
        // What others have written is not to be waited for here.
        said("sync")?;
        let took = time(&mut command(&pull.replace("IMAGE", &image)))?;
        said(&remove.replace("IMAGE", &image))?;
        Ok(vec![took])
    };
    Contestant { rows: vec![row], turn: Box::new(turn) }
}

/// Puts an image into the registry that is new in each layer, so that nobody has a part of it: over the base, three
/// layers of many small files and one of a few large ones, as images are.
fn publish(round: usize, image: &str) -> Result<()> {
    let mut noise = Noise::new(round as u64 + 1);
    for layer in 0..3 {
        for number in 0..1000 {
            let dir = format!("context/{layer}/{}", number / 100);
            fs::create_dir_all(&dir)?;
            fs::write(format!("{dir}/{number}"), noise.text(20_000))?;
        }
    }
    fs::create_dir_all("context/3")?;
    for number in 0..9 {
        fs::write(format!("context/3/{number}"), noise.text(10_000_000))?;
    }
    let copies: String = (0..4).map(|layer| format!("COPY {layer} /data/{layer}\n")).collect();
    fs::write("context/Dockerfile", format!("FROM base\n{copies}"))?;
    said(&format!("teu build -q -t {image} context"))?;
    said(&format!("teu push -q {image}"))?;
    said(&format!("teu rmi {image}"))?;
    Ok(fs::remove_dir_all("context")?)
}

/// Text of words in no order, which a compressor makes about half of.
struct Noise {
    state: u64,
    words: Vec<String>,
}

impl Noise {
    fn new(seed: u64) -> Noise {
        let mut noise = Noise { state: seed, words: Vec::new() };
        noise.words = (0..4096).map(|_| format!("{:x} ", noise.next())).collect();
        noise
    }

    /// A linear congruential generator (Knuth's constants): noise enough, and the same everywhere.
    fn next(&mut self) -> u32 {
        self.state =
            self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.state >> 32) as u32
    }

    fn text(&mut self, size: usize) -> String {
        let mut text = String::with_capacity(size + 16);
        while text.len() < size {
            let word = self.next() as usize % self.words.len();
            text.push_str(&self.words[word]);
        }
        text
    }
}
