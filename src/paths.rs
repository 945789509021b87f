//! Where the engine keeps things, for root and for an ordinary user.

use std::path::PathBuf;

/// What lasts: images, containers, volumes. `--data-root`.
pub(crate) fn data_root() -> PathBuf {
    if is_root() {
        return "/var/lib/teu".into();
    }
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_else(|| "/".into())).join(".local/share");
    std::env::var_os("XDG_DATA_HOME").map_or_else(home, PathBuf::from).join("teu")
}

/// What a reboot may take: state of what runs, sockets. `--exec-root`.
pub(crate) fn exec_root() -> PathBuf {
    if is_root() {
        return "/run/teu".into();
    }
    let uid = nix::unistd::geteuid();
    std::env::var_os("XDG_RUNTIME_DIR")
        .map_or_else(|| PathBuf::from(format!("/tmp/teu-{uid}")), |dir| PathBuf::from(dir).join("teu"))
}

/// Where the daemon listens: `unix://PATH`.
pub(crate) fn host() -> String {
    format!("unix://{}", exec_root().join("teu.sock").display())
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}
