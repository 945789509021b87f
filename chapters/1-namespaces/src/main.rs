//! The command line of this chapter.

fn main() {}
