//! How the programs are linked: at a fixed address.
//!
//! A position-independent program begins its life by relocating itself: some 16 000 pointers, written into 75 pages
//! that are then private to that one process. A runtime is executed twice for each container, and a monitor stays
//! for as long as the container does; both pay for it every time. What is given up is that the program's own code
//! lies at another address in each run, which makes memory errors harder to exploit; libraries, heap and stack still do.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // Other C libraries (musl) bring start-up code that is chosen by the compiler and not by this flag.
    if std::env::var("CARGO_CFG_TARGET_ENV").as_deref() == Ok("gnu") {
        println!("cargo::rustc-link-arg-bins=-no-pie");
    }
}
