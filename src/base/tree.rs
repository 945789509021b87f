//! The files of the image: collected by path, written as a tar that is the same every time.

use anyhow::{Context, Result};
use std::{
    collections::{BTreeMap, HashMap},
    fs, io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Component, Path, PathBuf},
};

#[derive(Debug)]
enum Entry {
    Directory { mode: u32 },
    Link(PathBuf),
    File { from: PathBuf, mode: u32, modified: u64, inode: (u64, u64) },
    Text(String),
}

/// Files, links and directories, by their absolute path. Sorted, so that a directory comes before what is in it.
#[derive(Debug, Default)]
pub(super) struct Tree(BTreeMap<PathBuf, Entry>);

impl Tree {
    /// Takes a path of the host along, at the same place, with every symbolic link on the way to it.
    pub(super) fn copy(&mut self, path: &Path) -> Result<()> {
        let mut left: Vec<PathBuf> = components(path);
        let mut at = PathBuf::from("/");
        let mut links = 0;
        while let Some(name) = left.pop() {
            if name == Path::new("..") {
                at.pop();
                continue;
            }
            let here = at.join(&name);
            let about =
                fs::symlink_metadata(&here).with_context(|| format!("cannot look at {}", here.display()))?;
            if about.is_symlink() {
                links += 1;
                // As many as the kernel follows (path_resolution(7)).
                anyhow::ensure!(links <= 40, "too many symbolic links on the way to {}", path.display());
                let target = fs::read_link(&here)?;
                if target.is_absolute() {
                    at = PathBuf::from("/");
                }
                left.extend(components(&target));
                self.symlink(&here, &target);
            } else if about.is_dir() {
                self.directory(&here, 0o755);
                at = here;
            } else {
                self.file(&here, &here)?;
            }
        }
        Ok(())
    }

    /// A file with the content of one of the host's.
    pub(super) fn file(&mut self, path: &Path, from: &Path) -> Result<()> {
        let about = fs::metadata(from).with_context(|| format!("cannot look at {}", from.display()))?;
        self.parents(path);
        self.0.insert(
            path.to_owned(),
            Entry::File {
                from: from.to_owned(),
                // Readable by all, and without set-user-ID: in a container root is root already.
                mode: if about.permissions().mode() & 0o111 == 0 { 0o644 } else { 0o755 },
                modified: about.mtime().try_into().unwrap_or(0),
                inode: (about.dev(), about.ino()),
            },
        );
        Ok(())
    }

    /// A symbolic link.
    pub(super) fn symlink(&mut self, path: &Path, target: &Path) {
        self.parents(path);
        self.0.insert(path.to_owned(), Entry::Link(target.to_owned()));
    }

    /// A file with this text.
    pub(super) fn text(&mut self, path: &Path, text: &str) {
        self.parents(path);
        self.0.insert(path.to_owned(), Entry::Text(text.to_owned()));
    }

    /// A directory, unless there is something of that name already.
    pub(super) fn directory(&mut self, path: &Path, mode: u32) {
        self.parents(path);
        self.0.entry(path.to_owned()).or_insert(Entry::Directory { mode });
    }

    /// Whether there is something of that name.
    #[cfg(test)]
    pub(super) fn has(&self, path: &Path) -> bool {
        self.0.contains_key(path)
    }

    fn parents(&mut self, path: &Path) {
        for dir in path.ancestors().skip(1).filter(|dir| *dir != Path::new("/")) {
            self.0.entry(dir.to_owned()).or_insert(Entry::Directory { mode: 0o755 });
        }
    }

    /// When the newest of the files was modified, in seconds since 1970: the image is as old as that.
    pub(super) fn modified(&self) -> u64 {
        let times = self.0.values().filter_map(|e| match e {
            Entry::File { modified, .. } => Some(*modified),
            _ => None,
        });
        times.max().unwrap_or(0)
    }

    /// The layer: a tar of everything, owned by root. Files that are one on the host are one here (hard links).
    pub(super) fn tar(&self) -> Result<Vec<u8>> {
        let mut tar = tar::Builder::new(Vec::new());
        let mut seen = HashMap::<(u64, u64), PathBuf>::new();
        for (path, entry) in &self.0 {
            let name = path.strip_prefix("/").unwrap_or(path);
            let mut header = tar::Header::new_gnu();
            header.set_uid(0);
            header.set_gid(0);
            header.set_mtime(self.modified());
            header.set_size(0);
            match entry {
                Entry::Directory { mode } => {
                    header.set_entry_type(tar::EntryType::Directory);
                    header.set_mode(*mode);
                    tar.append_data(&mut header, name.join(""), io::empty())?;
                }
                Entry::Link(target) => {
                    header.set_entry_type(tar::EntryType::Symlink);
                    header.set_mode(0o777);
                    tar.append_link(&mut header, name, target)?;
                }
                Entry::Text(text) => {
                    header.set_mode(0o644);
                    header.set_size(text.len() as u64);
                    tar.append_data(&mut header, name, text.as_bytes())?;
                }
                Entry::File { from, mode, modified, inode } => {
                    header.set_mode(*mode);
                    header.set_mtime(*modified);
                    if let Some(first) = seen.get(inode) {
                        header.set_entry_type(tar::EntryType::Link);
                        tar.append_link(&mut header, name, first)?;
                        continue;
                    }
                    seen.insert(*inode, name.to_owned());
                    let content =
                        fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
                    header.set_size(content.len() as u64);
                    tar.append_data(&mut header, name, &content[..])?;
                }
            }
        }
        Ok(tar.into_inner()?)
    }
}

/// The names of a path, the first on top.
fn components(path: &Path) -> Vec<PathBuf> {
    let names = path.components().filter(|c| matches!(c, Component::Normal(_) | Component::ParentDir));
    names.map(|c| PathBuf::from(c.as_os_str())).rev().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_on_the_way_come_along() {
        let dir = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(dir.path()).unwrap();
        fs::create_dir_all(root.join("usr/bin")).unwrap();
        fs::write(root.join("usr/bin/tool-1"), "x").unwrap();
        std::os::unix::fs::symlink("usr/bin", root.join("bin")).unwrap();
        std::os::unix::fs::symlink("../../usr/bin/tool-1", root.join("usr/bin/tool")).unwrap();
        let mut tree = Tree::default();
        tree.copy(&root.join("bin/tool")).unwrap();
        for path in ["bin", "usr", "usr/bin", "usr/bin/tool", "usr/bin/tool-1"] {
            assert!(tree.has(&root.join(path)), "{path}");
        }
        assert!(!tree.has(&root.join("bin/tool")), "a path through a link is not a second file");
    }

    #[test]
    fn circles_of_links_end() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("b", dir.path().join("a")).unwrap();
        std::os::unix::fs::symlink("a", dir.path().join("b")).unwrap();
        let why = Tree::default().copy(&dir.path().join("a")).unwrap_err().to_string();
        assert!(why.contains("too many symbolic links"), "{why}");
    }

    #[test]
    fn one_file_of_two_names_is_stored_once() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a"), vec![7; 4096]).unwrap();
        fs::hard_link(dir.path().join("a"), dir.path().join("b")).unwrap();
        let mut tree = Tree::default();
        tree.file(Path::new("/a"), &dir.path().join("a")).unwrap();
        tree.file(Path::new("/b"), &dir.path().join("b")).unwrap();
        let bytes = tree.tar().unwrap();
        let mut archive = tar::Archive::new(&bytes[..]);
        let kinds: Vec<_> = archive.entries().unwrap().map(|e| e.unwrap().header().entry_type()).collect();
        assert_eq!(kinds, [tar::EntryType::Regular, tar::EntryType::Link]);
    }
}
