//! Users by name: for people to read, and for files that go by names (subuid(5)).
//!
//! getpwuid(3) answers by libraries that it loads when it is asked (nsswitch.conf(5)), and this program may be linked so
//! that it loads none. So a user who is not in /etc/passwd, but in a directory of the network, is left to getent(1).

use nix::unistd::Uid;
use std::{fs, process::Command};

/// The user's name on this machine, if they have one.
pub fn name(uid: Uid) -> Option<String> {
    let uid = uid.as_raw();
    let here = fs::read("/etc/passwd").ok().and_then(|text| field(&text, uid, 0));
    here.or_else(|| {
        let answer = Command::new("getent").args(["passwd", &uid.to_string()]).output().ok()?;
        field(&answer.stdout, uid, 0)
    })
}

/// One field of the user's line, if it is not empty: `name:password:uid:gid:comment:home:shell` (passwd(5)).
pub(crate) fn field(passwd: &[u8], uid: u32, which: usize) -> Option<String> {
    let uid = uid.to_string();
    passwd.split(|b| *b == b'\n').find_map(|line| {
        let fields: Vec<_> = line.split(|b| *b == b':').collect();
        let value = fields.get(which).filter(|_| fields.get(2) == Some(&uid.as_bytes()))?;
        (!value.is_empty()).then(|| String::from_utf8_lossy(value).into_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields() {
        let passwd = b"root:x:0:0::/root:/bin/sh\nann:x:7:7::/home/ann:\nbad\nnone:x:8:8::::\n";
        assert_eq!(field(passwd, 7, 0).as_deref(), Some("ann"));
        assert_eq!(field(passwd, 7, 5).as_deref(), Some("/home/ann"));
        assert_eq!((field(passwd, 8, 5), field(passwd, 9, 5)), (None, None));
    }

    #[test]
    fn the_first_user() {
        assert_eq!(name(Uid::from_raw(0)).as_deref(), Some("root"));
        assert_eq!(name(Uid::from_raw(u32::MAX - 1)), None);
    }
}
