//! `--chown=user[:group]`: by number, or by the names of the image's own /etc/passwd and /etc/group. (The
//! host's names mean nothing in it.)

use layers::{root::Root, users};

/// Resolves it inside a root.
pub(crate) fn resolve(text: &str, root: &Root) -> Result<(u32, u32), String> {
    let (user, group) = text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
    if user.is_empty() {
        return Err(format!("invalid chown string {text:?}; write user, or user:group"));
    }
    let found = users::find(root, user).map_err(|e| format!("can't find uid for user {user}: {e}"))?;
    let gid = match group {
        Some(group) => {
            users::group(root, group).map_err(|e| format!("can't find gid for group {group}: {e}"))?
        }
        // Without a group: of a name, its own; of a number, the same number.
        None if user.bytes().all(|b| b.is_ascii_digit()) => found.uid,
        None => found.gid,
    };
    Ok((found.uid, gid))
}
