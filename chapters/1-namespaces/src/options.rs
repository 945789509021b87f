//! Mount options by name (config.md, "Linux mount options"): a table, and what it means for the two
//! ways of mounting. A new file system takes `MS_*` flags and a data string, by mount(2). A bind
//! takes attributes to set and to clear, by mount_setattr(2).

use crate::sys::{MountAttr, attr};
use nix::mount::MsFlags;

/// A mount's options, understood.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Options {
    /// For mount(2).
    pub(crate) flags: MsFlags,
    /// For mount(2): what the file system itself understands, and everything unknown to us.
    pub(crate) data: String,
    /// For mount_setattr(2) on the mount alone.
    pub(crate) attr: MountAttr,
    /// The same on everything below it (`rro`, `rnosuid`, ...).
    pub(crate) below: MountAttr,
    /// `bind` (false) or `rbind` (true).
    pub(crate) bind: Option<bool>,
    /// `MS_PRIVATE`, `MS_SLAVE` ..., and whether everything below follows.
    pub(crate) propagation: Option<(u64, bool)>,
    /// A new tmpfs starts with what the image has at its place.
    pub(crate) copy_up: bool,
    /// `idmap` (false) or `ridmap` (true).
    pub(crate) idmap: Option<bool>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            flags: MsFlags::empty(),
            data: String::new(),
            attr: MountAttr::default(),
            below: MountAttr::default(),
            bind: None,
            propagation: None,
            copy_up: false,
            idmap: None,
        }
    }
}

/// Name, what its presence sets in mount(2)'s flags and in the attributes.
/// `ro` sets, `rw` clears; with an `r` in front it is meant for everything below.
const SETS: [(&str, MsFlags, u64); 6] = [
    ("ro", MsFlags::MS_RDONLY, attr::RDONLY),
    ("nosuid", MsFlags::MS_NOSUID, attr::NOSUID),
    ("nodev", MsFlags::MS_NODEV, attr::NODEV),
    ("noexec", MsFlags::MS_NOEXEC, attr::NOEXEC),
    ("nodiratime", MsFlags::MS_NODIRATIME, attr::NODIRATIME),
    ("nosymfollow", MsFlags::from_bits_retain(256), attr::NOSYMFOLLOW),
];

const CLEARS: [(&str, &str); 6] = [
    ("rw", "ro"),
    ("suid", "nosuid"),
    ("dev", "nodev"),
    ("exec", "noexec"),
    ("diratime", "nodiratime"),
    ("symfollow", "nosymfollow"),
];

/// How access times are kept: one choice of three.
const ATIMES: [(&str, MsFlags, u64); 6] = [
    ("noatime", MsFlags::MS_NOATIME, attr::NOATIME),
    ("atime", MsFlags::MS_RELATIME, attr::RELATIME),
    ("relatime", MsFlags::MS_RELATIME, attr::RELATIME),
    ("norelatime", MsFlags::MS_STRICTATIME, attr::STRICTATIME),
    ("strictatime", MsFlags::MS_STRICTATIME, attr::STRICTATIME),
    ("nostrictatime", MsFlags::MS_RELATIME, attr::RELATIME),
];

/// Flags of a file system, not of a mount: mount(2) only, and meaningless for a bind.
const OF_THE_FILE_SYSTEM: [(&str, bool, MsFlags); 13] = [
    ("sync", true, MsFlags::MS_SYNCHRONOUS),
    ("async", false, MsFlags::MS_SYNCHRONOUS),
    ("dirsync", true, MsFlags::MS_DIRSYNC),
    ("mand", true, MsFlags::MS_MANDLOCK),
    ("nomand", false, MsFlags::MS_MANDLOCK),
    ("iversion", true, MsFlags::MS_I_VERSION),
    ("noiversion", false, MsFlags::MS_I_VERSION),
    ("lazytime", true, MsFlags::MS_LAZYTIME),
    ("nolazytime", false, MsFlags::MS_LAZYTIME),
    ("silent", true, MsFlags::MS_SILENT),
    ("loud", false, MsFlags::MS_SILENT),
    ("remount", true, MsFlags::MS_REMOUNT),
    ("defaults", false, MsFlags::empty()),
];

const PROPAGATIONS: [(&str, MsFlags); 4] = [
    ("shared", MsFlags::MS_SHARED),
    ("private", MsFlags::MS_PRIVATE),
    ("slave", MsFlags::MS_SLAVE),
    ("unbindable", MsFlags::MS_UNBINDABLE),
];

/// Reads a list of options; a later one overrides an earlier one.
pub(crate) fn parse(options: &[String]) -> Options {
    let mut all = Options::default();
    let mut data = Vec::new();
    for option in options.iter().map(String::as_str).filter(|o| !o.is_empty()) {
        if !(all.special(option) || all.propagate(option) || all.attribute(option)) {
            data.push(option);
        }
    }
    all.data = data.join(",");
    all
}

/// A propagation by name, as `linux.rootfsPropagation` has it: its flag, and whether recursive.
pub(crate) fn propagation(name: &str) -> Option<(MsFlags, bool)> {
    let find = |name| PROPAGATIONS.iter().find(|(n, _)| *n == name).map(|(_, flag)| *flag);
    find(name)
        .map(|flag| (flag, false))
        .or_else(|| name.strip_prefix('r').and_then(find).map(|flag| (flag, true)))
}

impl Options {
    fn special(&mut self, option: &str) -> bool {
        match option {
            "bind" => self.bind = Some(false),
            "rbind" => self.bind = Some(true),
            "tmpcopyup" => self.copy_up = true,
            "idmap" => self.idmap = Some(false),
            "ridmap" => self.idmap = Some(true),
            _ => {
                let found = OF_THE_FILE_SYSTEM.iter().find(|(name, ..)| *name == option);
                let Some((_, set, flag)) = found else { return false };
                self.flags.set(*flag, *set);
            }
        }
        true
    }

    fn propagate(&mut self, option: &str) -> bool {
        let Some((flag, recursive)) = propagation(option) else { return false };
        self.propagation = Some((flag.bits(), recursive));
        true
    }

    fn attribute(&mut self, option: &str) -> bool {
        let here = change(option);
        // "ro" and "rw" themselves begin with neither prefix: only what is left of an r counts.
        let below = option.strip_prefix('r').and_then(change);
        let Some((flag, set, clear)) = here.or(below) else { return false };
        let to = if here.is_some() { &mut self.attr } else { &mut self.below };
        to.set = to.set & !clear | set;
        to.clear = to.clear & !set | clear;
        if here.is_some() {
            let atime = MsFlags::MS_NOATIME | MsFlags::MS_RELATIME | MsFlags::MS_STRICTATIME;
            match clear {
                attr::ATIME => self.flags = (self.flags - atime) | flag,
                _ => self.flags.set(flag, set != 0),
            }
        }
        true
    }
}

/// One attribute: mount(2)'s flag, bits to set, bits to clear.
fn change(option: &str) -> Option<(MsFlags, u64, u64)> {
    if let Some((_, flag, bits)) = SETS.iter().find(|(name, ..)| *name == option) {
        return Some((*flag, *bits, 0));
    }
    if let Some((_, flag, bits)) = ATIMES.iter().find(|(name, ..)| *name == option) {
        return Some((*flag, *bits, attr::ATIME));
    }
    let (_, set) = CLEARS.iter().find(|(name, _)| *name == option)?;
    let (flag, bits, _) = change(set)?;
    Some((flag, 0, bits))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(list: &[&str]) -> Options {
        parse(&list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn dockers_tmpfs() {
        let o = options(&["nosuid", "strictatime", "mode=755", "size=65536k"]);
        assert_eq!(o.flags, MsFlags::MS_NOSUID | MsFlags::MS_STRICTATIME);
        assert_eq!(o.data, "mode=755,size=65536k");
    }

    #[test]
    fn a_read_only_bind() {
        let o = options(&["rbind", "ro", "rprivate"]);
        assert_eq!((o.bind, o.attr.set, o.attr.clear), (Some(true), attr::RDONLY, 0));
        assert_eq!(o.propagation, Some((MsFlags::MS_PRIVATE.bits(), true)));
    }

    #[test]
    fn a_later_option_overrides() {
        let o = options(&["ro", "rw", "noatime", "relatime", "nosuid", "suid"]);
        assert_eq!((o.attr.set, o.flags), (0, MsFlags::MS_RELATIME));
        assert_eq!(o.attr.clear, attr::RDONLY | attr::ATIME | attr::NOSUID);
    }

    #[test]
    fn an_r_in_front_means_everything_below() {
        let o = options(&["rro", "rnosuid", "rnoatime", "rexec"]);
        assert_eq!(o.attr, MountAttr::default());
        assert_eq!(o.below.set, attr::RDONLY | attr::NOSUID | attr::NOATIME);
        assert_eq!(o.below.clear, attr::ATIME | attr::NOEXEC);
        assert_eq!(o.flags, MsFlags::empty());
        assert_eq!(options(&["rrw"]).below.clear, attr::RDONLY);
        assert_eq!(options(&["rrelatime"]).below.clear, attr::ATIME);
    }
}
