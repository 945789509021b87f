//! Side room: which of an index's images runs on this machine (image-spec, image-index.md).

use crate::{Error, Result};
use oci_spec::image::{Descriptor, ImageConfiguration};

/// An operating system and a processor, in Go's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Platform {
    /// `linux`.
    pub os: String,
    /// `amd64`, `arm64`.
    pub arch: String,
    /// `v7`; empty where the architecture's usual one is meant.
    pub variant: String,
}

impl Platform {
    /// This machine's.
    pub fn host() -> Platform {
        let little = cfg!(target_endian = "little");
        let arch = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "x86" => "386",
            "aarch64" => "arm64",
            "powerpc64" if little => "ppc64le",
            "powerpc64" => "ppc64",
            "mips64" if little => "mips64le",
            "loongarch64" => "loong64",
            same => same,
        };
        Platform::new(std::env::consts::OS, arch, "")
    }

    /// Reads `os/arch[/variant]`, or `arch[/variant]` for Linux.
    pub fn parse(text: &str) -> Result<Platform> {
        let bad = || {
            Error::Reference(format!(
                "invalid platform {text:?}: write it as os/arch[/variant], as in linux/arm64"
            ))
        };
        let word = |part: &&str| {
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b))
        };
        let parts: Vec<&str> = text.split('/').collect();
        if !parts.iter().all(word as fn(&&str) -> bool) {
            return Err(bad());
        }
        match parts[..] {
            [arch] if arch != "linux" => Ok(Platform::new("linux", arch, "")),
            [arch, variant] if is_variant(variant) => Ok(Platform::new("linux", arch, variant)),
            [os, arch] => Ok(Platform::new(os, arch, "")),
            [os, arch, variant] => Ok(Platform::new(os, arch, variant)),
            _ => Err(bad()),
        }
    }

    /// The usual names for the unusual ones, and no variant where it says nothing.
    fn new(os: &str, arch: &str, variant: &str) -> Platform {
        let lower = |text: &str| text.to_ascii_lowercase();
        let (arch, variant) = match (lower(arch).as_str(), lower(variant).as_str()) {
            ("x86_64" | "x86-64" | "amd64", "" | "v1") => ("amd64".into(), String::new()),
            ("x86_64" | "x86-64", variant) => ("amd64".into(), variant.to_owned()),
            ("aarch64" | "arm64", "" | "8" | "v8") => ("arm64".into(), String::new()),
            ("aarch64", variant) => ("arm64".into(), variant.to_owned()),
            ("armhf", _) | ("arm", "" | "7") => ("arm".into(), "v7".to_owned()),
            ("armel", _) | ("arm", "6") => ("arm".into(), "v6".to_owned()),
            ("arm", "5") => ("arm".into(), "v5".to_owned()),
            ("i386" | "386", _) => ("386".into(), String::new()),
            (arch, variant) => (arch.to_owned(), variant.to_owned()),
        };
        Platform { os: lower(os), arch, variant }
    }

    /// How well an image for `other` runs here: 0 is best, `None` not at all. A newer processor of these
    /// families runs what was made for an older one.
    fn distance(&self, other: &Platform) -> Option<u32> {
        if self.os != other.os || self.arch != other.arch {
            return None;
        }
        let level = |platform: &Platform| -> Option<u32> {
            match platform.variant.as_str() {
                "" => Some(if platform.arch == "arm64" { 8 } else { 1 }),
                variant => variant.strip_prefix('v')?.parse().ok(),
            }
        };
        if self.variant == other.variant {
            return Some(0);
        }
        if !matches!(self.arch.as_str(), "amd64" | "arm" | "arm64") {
            return None;
        }
        level(self)?.checked_sub(level(other)?)
    }

    /// The best of an index's entries. Entries for `unknown/unknown` (attestations) are for no machine.
    pub fn choose<'a>(&self, entries: &'a [Descriptor]) -> Option<&'a Descriptor> {
        entries
            .iter()
            .filter_map(|entry| Some((self.distance(&Platform::of_entry(entry)?)?, entry)))
            .min_by_key(|(distance, _)| *distance) // of equals the first, as the specification asks
            .map(|(_, entry)| entry)
    }

    /// What an index says of an entry.
    pub fn of_entry(entry: &Descriptor) -> Option<Platform> {
        let platform = entry.platform().as_ref()?;
        let variant = platform.variant().as_deref().unwrap_or("");
        Some(Platform::new(&platform.os().to_string(), &platform.architecture().to_string(), variant))
    }

    /// What an image says of itself.
    pub fn of_config(config: &ImageConfiguration) -> Platform {
        let variant = config.variant().as_deref().unwrap_or("");
        Platform::new(&config.os().to_string(), &config.architecture().to_string(), variant)
    }

    /// Whether an image for `other` runs here.
    pub fn runs(&self, other: &Platform) -> bool {
        self.distance(other).is_some()
    }
}

/// `v7`: there is no processor of such a name.
fn is_variant(text: &str) -> bool {
    text.strip_prefix('v').is_some_and(|number| number.bytes().all(|b| b.is_ascii_digit()))
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.os, self.arch)?;
        if self.variant.is_empty() { Ok(()) } else { write!(f, "/{}", self.variant) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(platforms: &[&str]) -> Vec<Descriptor> {
        let entry = |platform: &&str| {
            let platform = Platform::parse(platform).unwrap();
            serde_json::from_value(serde_json::json!({
                "mediaType": "application/vnd.oci.image.manifest.v1+json", "size": 1,
                "digest": format!("sha256:{}", "0".repeat(64)),
                "platform": {"os": platform.os, "architecture": platform.arch, "variant": platform.variant},
            }))
            .unwrap()
        };
        platforms.iter().map(entry).collect()
    }

    #[test]
    fn the_nearest_older_variant_is_chosen() {
        for (wanted, offered, chosen) in [
            ("linux/amd64", &["linux/arm64", "linux/amd64"][..], Some("linux/amd64")),
            ("linux/amd64", &["linux/amd64/v3", "linux/amd64"], Some("linux/amd64")),
            ("linux/amd64", &["linux/amd64/v3"], None),
            ("linux/amd64/v3", &["linux/amd64", "linux/amd64/v2", "linux/amd64/v4"], Some("linux/amd64/v2")),
            ("linux/arm/v7", &["linux/arm/v5", "linux/arm/v6", "linux/arm64"], Some("linux/arm/v6")),
            ("linux/arm", &["linux/arm/v6", "linux/arm/v7"], Some("linux/arm/v7")),
            ("linux/arm/v6", &["linux/arm/v7"], None),
            ("arm64/v8", &["linux/arm64"], Some("linux/arm64")),
            ("linux/arm64/v8", &["linux/arm64"], Some("linux/arm64")),
            ("linux/aarch64", &["linux/arm64/v8"], Some("linux/arm64")),
            ("linux/riscv64", &["unknown/unknown", "linux/amd64"], None),
        ] {
            let entries = entries(offered);
            let found = Platform::parse(wanted).unwrap().choose(&entries).and_then(Platform::of_entry);
            assert_eq!(found.map(|p| p.to_string()).as_deref(), chosen, "{wanted} of {offered:?}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "linux", "linux/", "/amd64", "a/b/c/d", "linux/am d64", "linux/am\u{1b}d64"] {
            assert!(Platform::parse(text).is_err(), "{text}");
        }
    }
}
