//! The door between `create` and `start`: a listening unix socket that the
//! container's first process holds. It waits in `accept(2)`; whoever connects lets
//! it exec, and reads on that connection what became of it: end of file when the
//! program runs (the descriptor is close-on-exec), the error's text when it could
//! not be executed.

use crate::Result;
use std::{os::fd::OwnedFd, path::Path};

/// Makes the gate at `path` (a socket file in the runtime's state directory).
pub fn listen(path: &Path) -> Result<OwnedFd> {
    let _ = path;
    todo!()
}

/// Opens the gate: returns when the container's program has been executed, or with
/// the reason why it could not be ("executable file not found in $PATH", ...).
pub fn open(path: &Path) -> Result<()> {
    let _ = path;
    todo!()
}
