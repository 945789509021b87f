//! A command inside a group from its first instruction on.

use crate::{Result, cgroup::Cgroup};
use std::{
    io,
    os::{fd::AsFd, unix::process::CommandExt},
    process::{Child, Command},
};

impl Cgroup {
    /// Starts the command in the group: the child moves itself, before it becomes the command. If it were moved from here,
    /// after its start, what it had allocated until then would be counted elsewhere, and what it had forked would stay there.
    ///
    /// # Errors
    /// The outer one is the group's, the inner one the command's, which cannot be executed.
    pub fn spawn(&self, command: &mut Command) -> Result<io::Result<Child>> {
        // Opened now: the child may not be allowed to, once it is who it shall be.
        let doors = self.doors()?;
        // SAFETY: between fork and exec only write(2) is called, on what was opened before.
        unsafe {
            command.pre_exec(move || {
                for door in &doors {
                    nix::unistd::write(door.as_fd(), b"0")?;
                }
                Ok(())
            });
        }
        Ok(command.spawn())
    }
}
