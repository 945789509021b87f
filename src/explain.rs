//! `--explain`: the steps of a start, as they happen.
