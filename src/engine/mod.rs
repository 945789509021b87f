//! Containers, images, networks, volumes, events: state on disk, and its rules.
