//! Where COPY and ADD take files from: the context, another stage, an image. And the digest over what they
//! take, which is their cache key.

use crate::{
    Result,
    cache::hex,
    error::Doing,
    glob::Pattern,
    ignore::{Ignore, Matched},
    stat_cache::StatCache,
};
use layers::root::{Next, Root, Visit, kind};
use nix::{
    errno::Errno,
    fcntl::{OFlag, openat, readlinkat},
    sys::stat::{Mode, SFlag, fstat},
};
use sha2::{Digest as _, Sha256};
use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io::Read,
    os::{fd::BorrowedFd, unix::ffi::OsStrExt},
    path::{Component, Path, PathBuf},
};

/// A tree that files are taken from. Everything is looked up inside it (openat2(2)): a link in a context
/// leads to another file of the context, or nowhere.
pub(crate) struct Source {
    pub(crate) root: Root,
    /// What is not to be seen.
    ignore: Ignore,
    /// It is the context (whose owners mean nothing inside an image), not another image's files.
    pub(crate) context: bool,
}

/// A path that was asked for and is there.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    /// Where it really is, from the tree's root, links followed.
    pub(crate) path: PathBuf,
    /// As it is called in the tree, links not followed.
    pub(crate) called: PathBuf,
    /// A directory: its content is copied, not itself.
    pub(crate) is_dir: bool,
}

impl Found {
    /// Its last component.
    pub(crate) fn name(&self) -> OsString {
        self.called.file_name().unwrap_or_default().to_owned()
    }
}

impl Source {
    /// The context.
    pub(crate) fn context(directory: &Path, ignore: Ignore) -> Result<Source> {
        Ok(Source { root: Root::open(directory)?, ignore, context: true })
    }

    /// Another root.
    pub(crate) fn root(directory: &Path) -> Result<Source> {
        Ok(Source { root: Root::open(directory)?, ignore: Ignore::default(), context: false })
    }

    /// Whether all its files may be seen.
    pub(crate) fn hides_nothing(&self) -> bool {
        self.ignore.is_empty()
    }

    /// The paths that `pattern` means: itself, or if it holds wildcards, all that match.
    pub(crate) fn find(&self, pattern: &str) -> Result<Vec<Found>, String> {
        let clean = self.clean(pattern)?;
        if !pattern.contains(['*', '?', '[', '\\']) {
            let found = self.look(&clean)?;
            return found.map(|found| vec![found]).ok_or_else(|| self.missing(&clean));
        }
        // Component by component: `*` never matches a slash.
        let mut here = vec![PathBuf::from("/")];
        for part in clean.components().skip(1) {
            let wanted = Pattern::path(&part.as_os_str().to_string_lossy(), false)?;
            let mut next = Vec::new();
            for directory in here {
                let names = self.names(&directory).into_iter();
                let matching = names.filter(|name| wanted.matches(&name.to_string_lossy()));
                next.extend(matching.map(|name| directory.join(name)));
            }
            here = next;
        }
        let found: Result<Vec<_>, _> = here.iter().map(|path| self.look(path)).collect();
        let found: Vec<_> = found?.into_iter().flatten().collect();
        match found.is_empty() {
            true => Err("no source files were specified".into()),
            false => Ok(found),
        }
    }

    /// The path from the tree's root, `.` and `..` taken by their text.
    fn clean(&self, pattern: &str) -> Result<PathBuf, String> {
        let mut clean = PathBuf::from("/");
        for part in Path::new(pattern).components() {
            match part {
                Component::Normal(part) => clean.push(part),
                // Above a root is nothing; above the context is the host, and docker says so.
                Component::ParentDir if !clean.pop() && self.context => {
                    return Err(format!("forbidden path outside the build context: {pattern} ()"));
                }
                _ => {}
            }
        }
        Ok(clean)
    }

    /// What is at a path, if it is there and not ignored.
    fn look(&self, called: &Path) -> Result<Option<Found>, String> {
        let path = self.root.resolve(called).map_err(|e| e.to_string())?;
        let Ok(stat) = self.root.lstat(&path) else { return Ok(None) };
        let is_dir = kind(&stat) == SFlag::S_IFDIR;
        let ignored = |p: &Path| self.ignore.is_excluded(&relative(p));
        // A directory that is ignored may hold something that is not.
        if (ignored(&path) || ignored(called)) && !(is_dir && self.ignore.has_exceptions()) {
            return Ok(None);
        }
        Ok(Some(Found { path, called: called.to_owned(), is_dir }))
    }

    fn missing(&self, path: &Path) -> String {
        let name = relative(path);
        match self.context {
            true => format!(
                "file not found in build context or excluded by .dockerignore: stat {name}: file does not exist"
            ),
            false => format!("stat {name}: file does not exist"),
        }
    }

    /// The names in a directory, links on the way to it followed; none if it is none.
    fn names(&self, directory: &Path) -> Vec<OsString> {
        let (mut names, mut first) = (Vec::new(), true);
        let real = self.root.resolve(directory).unwrap_or_default();
        // Nothing there, or no directory: nothing matches.
        let _ = self.root.walk(&real, &mut |visit| {
            if !std::mem::take(&mut first) {
                names.push(visit.name.to_owned());
                return Ok(Next::Skip);
            }
            Ok(Next::Into)
        });
        names
    }

    /// Visits what is found and all below it that is neither ignored nor in `exclude`. The path that
    /// `visit` gets is relative to what was found.
    pub(crate) fn walk(
        &self,
        found: &Found,
        exclude: &Ignore,
        visit: &mut dyn FnMut(&Path, &Visit) -> Result<()>,
    ) -> Result<()> {
        // The directories that we are in, with the rules that match them.
        let mut inside: Vec<(PathBuf, Matched, Matched)> = Vec::new();
        let exceptions = self.ignore.has_exceptions() || exclude.has_exceptions();
        let mut failure = None;
        let walked = self.root.walk(&found.path, &mut |v| {
            while inside.last().is_some_and(|(directory, ..)| !v.path.starts_with(directory)) {
                inside.pop();
            }
            let below = v.path.strip_prefix(&found.path).unwrap_or(v.path);
            let path = relative(v.path);
            // `--exclude` is about what is in a directory, or the name of a file.
            let name = if found.is_dir { relative(below) } else { found.name().to_string_lossy().into() };
            let (rules, excludes) = match inside.last() {
                Some((_, rules, excludes)) => {
                    (self.ignore.matched(rules, &path), exclude.matched(excludes, &name))
                }
                None => (self.ignore.matched_deep(&path), exclude.matched_deep(&name)),
            };
            let ignored = self.ignore.excludes(&rules) || exclude.excludes(&excludes);
            if ignored && !exceptions {
                return Ok(Next::Skip);
            }
            if !ignored && let Err(error) = visit(below, v) {
                // A walk knows layers' errors only: this one stops it, and ours is told.
                failure = Some(error);
                return Err(layers::Error::Missing(path));
            }
            if kind(&v.stat) == SFlag::S_IFDIR {
                inside.push((v.path.to_owned(), rules, excludes));
            }
            Ok(Next::Into)
        });
        match failure {
            Some(error) => Err(error),
            None => Ok(walked?),
        }
    }

    /// The digest over everything that copying these would copy: names, types, modes, contents, the targets
    /// of links, and (of another image) owners. Not the times: a fresh checkout of the same files is the same.
    pub(crate) fn digest(&self, found: &[Found], exclude: &Ignore, stats: &mut StatCache) -> Result<String> {
        let mut all = Sha256::new();
        for found in found {
            field(&mut all, found.name().as_bytes());
            self.walk(found, exclude, &mut |path, visit| {
                field(&mut all, path.as_os_str().as_bytes());
                // (The context's own directory is no part of it.)
                if visit.path != Path::new("/") {
                    all.update(visit.stat.st_mode.to_le_bytes());
                }
                if !self.context {
                    all.update(visit.stat.st_uid.to_le_bytes());
                    all.update(visit.stat.st_gid.to_le_bytes());
                }
                match kind(&visit.stat) {
                    SFlag::S_IFREG => all.update(content(visit, stats)?),
                    SFlag::S_IFLNK => {
                        let text = readlinkat(visit.dir, visit.name)
                            .doing(|| format!("read the link {}", visit.path.display()))?;
                        field(&mut all, text.as_bytes());
                    }
                    _ => all.update(visit.stat.st_rdev.to_le_bytes()),
                }
                Ok(())
            })?;
        }
        Ok(hex(&all.finalize()))
    }
}

/// A field of variable length, with its length before it.
fn field(hash: &mut Sha256, bytes: &[u8]) {
    hash.update((bytes.len() as u64).to_le_bytes());
    hash.update(bytes);
}

/// The digest of a file's content (and file capabilities), from its stat if that is known.
fn content(visit: &Visit, stats: &mut StatCache) -> Result<[u8; 32]> {
    if let Some(digest) = stats.get(&visit.stat) {
        return Ok(digest);
    }
    let mut file = open_regular(visit.dir, visit.name).doing(|| format!("open {}", visit.path.display()))?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => hash.update(&buffer[..n]),
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e).doing(|| format!("read {}", visit.path.display())),
        }
    }
    if let Some(capabilities) = capabilities(&file) {
        field(&mut hash, &capabilities);
    }
    let digest: [u8; 32] = hash.finalize().into();
    // What was hashed is what is behind the descriptor, whatever its name means by now.
    if let Ok(stat) = fstat(&file) {
        stats.put(&stat, digest);
    }
    Ok(digest)
}

/// Opens a file that is to be copied: not a link, not something that waits or acts when it is opened.
pub(crate) fn open_regular(dir: BorrowedFd, name: &OsStr) -> std::io::Result<File> {
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let file = File::from(openat(dir, name, flags, Mode::empty())?);
    match kind(&fstat(&file)?) {
        SFlag::S_IFREG => Ok(file),
        // It was one when it was looked at: somebody replaced it.
        _ => Err(Errno::EINVAL.into()),
    }
}

/// A file's capabilities (capabilities(7)), the only extended attribute that docker's COPY keeps.
pub(crate) fn capabilities(file: &File) -> Option<Vec<u8>> {
    xattr::FileExt::get_xattr(file, "security.capability").ok().flatten()
}

/// Without the leading slash, as patterns are written.
fn relative(path: &Path) -> String {
    path.strip_prefix("/").unwrap_or(path).to_string_lossy().into_owned()
}
