//! Builds, seen from outside.

fn main() {}
