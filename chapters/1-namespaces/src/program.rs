//! The program: found in the container, and executed. The messages are docker's: its command line
//! tells 127 from 126 by their text.

use crate::{
    Error, Result,
    error::{Doing, invalid},
    users,
};
use nix::{
    errno::Errno,
    fcntl::OFlag,
    sys::stat::{Mode, SFlag, fstat, stat},
    unistd::{AccessFlags, access, chdir, execve, getcwd},
};
use oci_spec::runtime::Process;
use std::{
    ffi::CString,
    fs::File,
    io::Read,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

/// Everything that execve(2) wants, made while errors can still be told.
pub(crate) struct Program {
    path: CString,
    args: Vec<CString>,
    env: Vec<CString>,
}

impl Program {
    /// Looks the program up, as the user and from the directory that it will run in.
    pub(crate) fn find(process: &Process) -> Result<Program> {
        let args = process.args().as_deref().unwrap_or_default();
        let Some(name) = args.first() else {
            return invalid("process.args is empty: nothing to run");
        };
        let mut env = last_of_each(process.env().as_deref().unwrap_or_default());
        // An unset or empty HOME becomes the user's: tools expect one, images do not set it.
        if !env.iter().any(|v| v.strip_prefix("HOME=").is_some_and(|home| !home.is_empty())) {
            env.retain(|v| !v.starts_with("HOME="));
            env.push(format!("HOME={}", home_of(process.user().uid())));
        }
        let path = look_up(name, path_of(&env))?;
        let strings =
            |list: &[String]| list.iter().map(|s| CString::new(s.as_str())).collect::<Result<Vec<_>, _>>();
        let (Ok(args), Ok(env), Ok(path)) =
            (strings(args), strings(&env), CString::new(path.into_os_string().as_bytes()))
        else {
            return invalid("process.args and process.env may not contain a NUL character");
        };
        Ok(Program { path, args, env })
    }

    /// execve(2): returns only if it failed.
    pub(crate) fn exec(&self) -> Error {
        let Err(errno) = execve(&self.path, &self.args, &self.env);
        let name = self.path.to_string_lossy();
        match errno {
            Errno::ENOENT => missing(format!("exec {name}: no such file or directory")),
            Errno::EACCES => forbidden(format!("exec {name}: permission denied")),
            Errno::ENOEXEC => forbidden(format!("exec {name}: exec format error")),
            errno => Error::Sys { doing: format!("execute {name}"), errno },
        }
    }
}

/// Enters the working directory. A path like /proc/self/fd/7 could lead out of the root by a
/// descriptor that somebody left open (CVE-2024-21626). We leave none open, and the kernel says
/// whether a directory is below the root: outside, getcwd(2) has no path for it.
pub(crate) fn enter_directory(cwd: &Path) -> Result<()> {
    chdir(cwd).doing(|| format!("chdir to cwd ({:?}) set in config.json failed", cwd.display()))?;
    match getcwd() {
        Ok(path) if path.is_absolute() => Ok(()),
        _ => invalid(format!(
            "process.cwd {} is outside of the container's root: refused, possible attack",
            cwd.display()
        )),
    }
}

/// Of two variables with one name the later one counts, and only that is passed on: programs differ in which of two they
/// take.
fn last_of_each(env: &[String]) -> Vec<String> {
    let name = |variable: &str| variable.split('=').next().unwrap_or_default().to_owned();
    let names: Vec<String> = env.iter().map(|v| name(v)).collect();
    let counts = |(at, _): &(usize, &String)| !names[at + 1..].contains(&names[*at]);
    env.iter().enumerate().filter(counts).map(|(_, variable)| variable.clone()).collect()
}

fn path_of(env: &[String]) -> &str {
    const USUAL: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    env.iter().rev().find_map(|v| v.strip_prefix("PATH=")).unwrap_or(USUAL)
}

fn look_up(name: &str, path: &str) -> Result<PathBuf> {
    if name.contains('/') {
        return match executable(Path::new(name)) {
            Ok(()) => Ok(PathBuf::from(name)),
            Err(Errno::EISDIR) => Err(forbidden(format!("exec: {name:?}: is a directory"))),
            Err(Errno::EACCES) => Err(forbidden(format!("exec: {name:?}: permission denied"))),
            Err(errno) => {
                Err(missing(format!("exec: {name:?}: stat {name}: {}", errno.desc().to_lowercase())))
            }
        };
    }
    let mut denied = false;
    for dir in path.split(':') {
        let file = if dir.is_empty() { Path::new(".").join(name) } else { Path::new(dir).join(name) };
        match executable(&file) {
            Ok(()) if !name.is_empty() => return Ok(file),
            Err(Errno::EACCES) => denied = true,
            _ => {}
        }
    }
    match denied {
        true => Err(forbidden(format!("exec: {name:?}: permission denied"))),
        false => Err(missing(format!("exec: {name:?}: executable file not found in $PATH"))),
    }
}

/// A file that this user may execute.
fn executable(file: &Path) -> nix::Result<()> {
    let found = stat(file)?;
    let kind = SFlag::from_bits_truncate(found.st_mode & SFlag::S_IFMT.bits());
    match kind {
        SFlag::S_IFDIR => Err(Errno::EISDIR),
        SFlag::S_IFREG if found.st_mode & 0o111 != 0 => access(file, AccessFlags::X_OK),
        _ => Err(Errno::EACCES),
    }
}

fn missing(message: String) -> Error {
    Error::Program { message, code: 127 }
}

fn forbidden(message: String) -> Error {
    Error::Program { message, code: 126 }
}

/// The user's home by the container's /etc/passwd, or `/`. The file is the image's: it may be huge,
/// a device, or a pipe that nobody writes to.
fn home_of(uid: u32) -> String {
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let text = nix::fcntl::open("/etc/passwd", flags, Mode::empty())
        .ok()
        .filter(|fd| fstat(fd).is_ok_and(|s| s.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFREG.bits()))
        .and_then(|fd| {
            let mut text = Vec::new();
            File::from(fd).take(1 << 20).read_to_end(&mut text).ok()?;
            Some(text)
        })
        .unwrap_or_default();
    users::field(&text, uid, 5).unwrap_or_else(|| "/".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dockers_messages() {
        let say = |name| look_up(name, "/usr/bin:/bin").unwrap_err();
        let error = say("no-such-program");
        assert_eq!(error.to_string(), r#"exec: "no-such-program": executable file not found in $PATH"#);
        assert_eq!(error.exit_code(), 127);
        let error = say("/no/such");
        assert_eq!(error.to_string(), r#"exec: "/no/such": stat /no/such: no such file or directory"#);
        assert_eq!(say("/etc").to_string(), r#"exec: "/etc": is a directory"#);
        let error = say("/etc/passwd");
        assert_eq!(error.to_string(), r#"exec: "/etc/passwd": permission denied"#);
        assert_eq!(error.exit_code(), 126);
    }
}
