//! Users and groups of a root, from its own /etc/passwd and /etc/group (passwd(5), group(5)): the image says
//! who `postgres` is, not the host.

use crate::{Error, Result, root::Root};
use nix::errno::Errno;
use std::path::Path;

/// The largest id that docker takes. Beyond 32 bits a number would wrap around, and 2^32 would be root
/// (CVE-2024-40635).
const MAX_ID: u64 = (1 << 31) - 1;

/// Files larger than this are not read: they are the image's.
const MAX_FILE: u64 = 8 << 20;

/// Who a process is to run as.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// The user's id.
    pub uid: u32,
    /// The primary group's id.
    pub gid: u32,
    /// The groups beside the primary one.
    pub groups: Vec<u32>,
    /// The home directory, where /etc/passwd has one.
    pub home: Option<String>,
}

/// Finds `user[:group]`, each a name or a number; empty is root. A user without a group gets the groups
/// that name them as a member, and one with a group gets only that.
pub fn find(root: &Root, user: &str) -> Result<User> {
    let passwd = file(root, "/etc/passwd")?;
    let group = file(root, "/etc/group")?;
    let (user, wanted_group) = user.split_once(':').unwrap_or((user, ""));
    let user = if user.is_empty() { "0" } else { user };

    let number = id(user)?;
    let line = lines(&passwd).find(|line| {
        line.first() == Some(&user)
            || number.is_some_and(|n| line.get(2).and_then(|u| u.parse().ok()) == Some(n))
    });
    let mut found = User::default();
    match (&line, number) {
        (Some(line), _) => {
            found.uid = field(line, 2, "uid")?;
            found.gid = field(line, 3, "gid")?;
            found.home = line.get(5).filter(|home| !home.is_empty()).map(|home| (*home).to_owned());
        }
        (None, Some(n)) => found.uid = n,
        (None, None) => {
            return Err(Error::User(format!(
                "unable to find user {user}: no matching entries in passwd file"
            )));
        }
    }
    if wanted_group.is_empty() {
        let name = line.as_ref().and_then(|line| line.first().copied()).unwrap_or(user);
        for line in lines(&group) {
            if line.get(3).is_some_and(|members| members.split(',').any(|member| member == name)) {
                found.groups.push(field(&line, 2, "gid")?);
            }
        }
    } else {
        found.gid = find_group(&group, wanted_group)?;
    }
    Ok(found)
}

/// A group by name or number, as `--group-add` and `COPY --chown` name one.
pub fn group(root: &Root, name: &str) -> Result<u32> {
    find_group(&file(root, "/etc/group")?, name)
}

fn find_group(groups: &str, name: &str) -> Result<u32> {
    let number = id(name)?;
    let line = lines(groups).find(|line| line.first() == Some(&name));
    match (line, number) {
        (Some(line), _) => field(&line, 2, "gid"),
        (None, Some(n)) => Ok(n),
        (None, None) => {
            Err(Error::User(format!("unable to find group {name}: no matching entries in group file")))
        }
    }
}

/// A number, if it is one; one that is out of range is an error, not a name.
fn id(text: &str) -> Result<Option<u32>> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(None);
    }
    match text.parse::<u64>() {
        Ok(n) if n <= MAX_ID => Ok(Some(n as u32)),
        _ => Err(Error::User(format!("uids and gids must be in range 0-{MAX_ID}, and this is {text}"))),
    }
}

fn field(line: &[&str], n: usize, what: &str) -> Result<u32> {
    line.get(n).and_then(|text| id(text).transpose()).unwrap_or_else(|| {
        Err(Error::User(format!(
            "the image's entry of {} has no valid {what}",
            line.first().unwrap_or(&"an unnamed user")
        )))
    })
}

fn lines(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.lines()
        .map(str::trim)
        .filter(|l| !l.is_empty() && !l.starts_with('#'))
        .map(|l| l.split(':').collect())
}

/// A file that need not be there (a scratch image has none).
fn file(root: &Root, path: &str) -> Result<String> {
    match root.read_small(Path::new(path), MAX_FILE) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(e) if matches!(e.errno(), Some(Errno::ENOENT | Errno::ENOTDIR)) => Ok(String::new()),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        let passwd = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34::/srv:/bin/sh\nodd:x:4294967296:0::/:\n";
        std::fs::write(dir.path().join("etc/passwd"), passwd).unwrap();
        let group = "root:x:0:\nweb:x:34:\nlogs:x:4:root,web\nmail:x:8:web\n";
        std::fs::write(dir.path().join("etc/group"), group).unwrap();
        let root = Root::open(dir.path()).unwrap();
        (dir, root)
    }

    fn user(uid: u32, gid: u32, groups: &[u32], home: Option<&str>) -> User {
        User { uid, gid, groups: groups.to_vec(), home: home.map(str::to_owned) }
    }

    #[test]
    fn users_are_found_as_docker_finds_them() {
        let (_dir, root) = root();
        assert_eq!(find(&root, "").unwrap(), user(0, 0, &[4], Some("/root")));
        assert_eq!(find(&root, "web").unwrap(), user(33, 34, &[4, 8], Some("/srv")));
        assert_eq!(find(&root, "33").unwrap(), user(33, 34, &[4, 8], Some("/srv")));
        assert_eq!(find(&root, "web:logs").unwrap(), user(33, 4, &[], Some("/srv")));
        assert_eq!(find(&root, "1000").unwrap(), user(1000, 0, &[], None));
        assert_eq!(find(&root, "1000:1001").unwrap(), user(1000, 1001, &[], None));
    }

    #[test]
    fn ids_beyond_the_range_are_no_names_and_never_root() {
        let (_dir, root) = root();
        for bad in ["4294967296", "2147483648", "0:4294967296", "odd", "99999999999999999999999"] {
            assert!(matches!(find(&root, bad), Err(Error::User(_))), "{bad}");
        }
        let message = find(&root, "nobody").unwrap_err().to_string();
        assert_eq!(message, "unable to find user nobody: no matching entries in passwd file");
    }
}
