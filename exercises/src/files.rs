//! Files that are never half there.

use anyhow::{Context, Result};
use std::{fs, path::Path};

/// Writes a file beside its place and renames it.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let dir = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let new =
        tempfile::NamedTempFile::new_in(dir).with_context(|| format!("write into {}", dir.display()))?;
    fs::write(new.path(), bytes).with_context(|| format!("write {}", path.display()))?;
    // A temporary file is its maker's alone; this one is to be read like any other.
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    fs::set_permissions(new.path(), mode).with_context(|| format!("write {}", path.display()))?;
    new.persist(path).with_context(|| format!("write {}", path.display()))?;
    Ok(())
}
