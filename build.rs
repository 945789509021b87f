//! How the programs are linked: at a fixed address, and the runtimes with all that they call in one file.
//!
//! A position-independent program begins its life by relocating itself: some 16 000 pointers, written into 75 pages
//! that are then private to that one process. A runtime is executed twice for each container, and a monitor stays
//! for as long as the container does; both pay for it every time. What is given up is that the program's own code
//! lies at another address in each run, which makes memory errors harder to exploit; libraries, heap and stack still do.
//!
//! A program with shared libraries begins by finding, mapping and linking them, which costs as much again. So the two
//! runtimes are linked statically, where the C library is installed in that form too (Debian's libc6-dev has both).

use std::{env, fs, path::Path, process::Command};

/// The programs that look up no host and no user by name: for these a static C library, too, would load shared ones.
const STATIC: [&str; 2] = ["namespaces", "cgroups"];

fn main() {
    // To say at least one such thing tells cargo that the sources are none of this script's business.
    println!("cargo::rerun-if-env-changed=RUSTC_LINKER");
    // Other C libraries (musl) bring start-up code that is chosen by the compiler and not by this flag.
    if env::var("CARGO_CFG_TARGET_ENV").as_deref() != Ok("gnu") {
        return;
    }
    println!("cargo::rustc-link-arg-bins=-no-pie");
    let package = env::var("CARGO_PKG_NAME").unwrap_or_default();
    if STATIC.contains(&package.as_str()) {
        link_statically();
    }
}

/// rustc asks for the C library by `-lc` and the like, and for its shared form. What the linker finds by these names in the
/// first directory that it is shown may as well be a line that leads to the static form (ld(1), "INPUT").
fn link_statically() {
    let (Some(out), Some(libc)) = (env::var_os("OUT_DIR"), archive("c")) else { return };
    let Some(unwinder) = archive("gcc_eh") else { return };
    let mut lines = vec![
        ("c", format!("GROUP({libc} -lgcc {unwinder})")),
        ("gcc_s", format!("GROUP({unwinder} -lgcc {libc})")),
    ];
    // In a new C library these are parts of libc, and in an old one not.
    let parts = ["m", "rt", "pthread", "dl", "util"];
    lines.extend(parts.iter().filter_map(|part| Some((*part, format!("INPUT({})", archive(part)?)))));
    let out = Path::new(&out);
    let written =
        lines.iter().try_for_each(|(name, line)| fs::write(out.join(format!("lib{name}.so")), line));
    if written.is_ok() {
        println!("cargo::rustc-link-arg-bins=-static");
        println!("cargo::rustc-link-arg-bins=-L{}", out.display());
    }
}

/// Where a static library is, by the compiler that links: it repeats a name that it does not find.
fn archive(name: &str) -> Option<String> {
    let compiler = env::var_os("RUSTC_LINKER").unwrap_or_else(|| "cc".into());
    let asked = Command::new(compiler).arg(format!("-print-file-name=lib{name}.a")).output().ok()?;
    let path = String::from_utf8(asked.stdout).ok()?.trim().to_owned();
    path.contains('/').then_some(path)
}
