//! A small registry: the OCI distribution API over an OCI image layout.

use crate::Result;
use std::{net::SocketAddr, path::Path};

/// A registry that listens. Dropped, it stops.
pub struct Server {
    // private
}

impl Server {
    /// Begins to serve the layout in `root` at `address` (port 0: any).
    pub fn start(address: SocketAddr, root: &Path) -> Result<Server> {
        let _ = (address, root);
        todo!()
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        todo!()
    }

    /// Serves until the process ends.
    pub fn wait(self) {
        todo!()
    }
}
