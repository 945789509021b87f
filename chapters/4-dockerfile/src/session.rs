//! What all stages of a build share.

use crate::{
    Error, Result,
    cache::Cache,
    container,
    error::Doing,
    ignore::Ignore,
    request::{Build, Event},
    source::Source,
    stage::Stage,
};
use layers::{Store, root::Root};
use nix::fcntl::{Flock, FlockArg};
use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    fs::File,
    path::{Path, PathBuf},
    rc::Rc,
};

/// The longest ignore file.
const MAX_IGNORE: u64 = 1 << 20;

/// A stage's name, and the stage once it is done.
type Named<'a> = (Option<String>, Option<Rc<Stage<'a>>>);

/// One build.
pub(crate) struct Session<'a> {
    pub(crate) store: &'a Store,
    pub(crate) build: &'a Build<'a>,
    pub(crate) cache: Cache,
    /// `# escape=`.
    pub(crate) escape: char,
    /// `ARG`s before the first `FROM`.
    pub(crate) globals: RefCell<BTreeMap<String, String>>,
    /// The stages, with their names; those that are done have a result.
    pub(crate) stages: RefCell<Vec<Named<'a>>>,
    /// The `--build-arg`s that an `ARG` took.
    pub(crate) consumed: RefCell<BTreeSet<String>>,
    work: Work,
    events: RefCell<&'a mut dyn FnMut(Event)>,
}

impl<'a> Session<'a> {
    pub(crate) fn new(
        store: &'a Store,
        build: &'a Build<'a>,
        escape: char,
        events: &'a mut dyn FnMut(Event),
    ) -> Result<Session<'a>> {
        let cache = Cache::open(store)?;
        let work = Work::new(&cache.path("work"))?;
        let (globals, stages, consumed) = Default::default();
        Ok(Session {
            store,
            build,
            cache,
            escape,
            globals,
            stages,
            consumed,
            work,
            events: RefCell::new(events),
        })
    }

    /// Tells the caller.
    pub(crate) fn tell(&self, event: Event) {
        (self.events.borrow_mut())(event);
    }

    /// A new empty directory, on the store's filesystem, that is gone after the build.
    pub(crate) fn directory(&self) -> Result<PathBuf> {
        let number = self.work.next.replace(self.work.next.get() + 1);
        let path = self.work.path.join(number.to_string());
        std::fs::create_dir(&path).doing(|| format!("make the directory {}", path.display()))?;
        Ok(path)
    }

    /// The value of a `--build-arg`, which is thereby used.
    pub(crate) fn build_arg(&self, name: &str) -> Option<String> {
        let value = self.build.args.get(name)?.clone()?;
        self.consumed.borrow_mut().insert(name.into());
        Some(value)
    }

    /// The second that all times are set to, by the reproducible builds' convention.
    pub(crate) fn epoch(&self) -> Result<Option<i64>> {
        let Some(Some(text)) = self.build.args.get("SOURCE_DATE_EPOCH") else { return Ok(None) };
        text.parse().ok().filter(|s| (0..=253_402_300_799_i64).contains(s)).map(Some).ok_or_else(|| {
            Error::Plan(format!("SOURCE_DATE_EPOCH={text}: give the seconds since 1970 as a number"))
        })
    }

    /// The time to be written into the image (RFC 3339).
    pub(crate) fn now(&self) -> Result<String> {
        let epoch = self.epoch()?.map(jiff::Timestamp::from_second);
        Ok(epoch.and_then(|t| t.ok()).unwrap_or_else(jiff::Timestamp::now).to_string())
    }

    /// A finished stage, by name or number.
    pub(crate) fn stage(&self, name: &str) -> Option<Rc<Stage<'a>>> {
        let number = name.parse().ok().and_then(|n: usize| self.stages.borrow().get(n)?.1.clone());
        self.named_stage(name).or(number)
    }

    /// A finished stage, by name; of two with one name, the later.
    pub(crate) fn named_stage(&self, name: &str) -> Option<Rc<Stage<'a>>> {
        let stages = self.stages.borrow();
        let wanted = Some(name.to_ascii_lowercase());
        stages.iter().rev().filter(|(name, _)| *name == wanted).find_map(|(_, stage)| stage.clone())
    }

    /// Whether a stage has this name, be it finished or not.
    pub(crate) fn is_stage(&self, name: &str) -> bool {
        let wanted = Some(name.to_ascii_lowercase());
        self.stages.borrow().iter().any(|(name, _)| *name == wanted)
    }

    /// The context, without what its ignore file hides.
    pub(crate) fn context(&self) -> Result<Source> {
        let root = Root::open(self.build.context)?;
        tracing::info!(
            target: "step", section = "6.1", call = "openat2(2)",
            "the context is {}, and with RESOLVE_IN_ROOT it is all there is", self.build.context.display()
        );
        let name = Path::new(".dockerignore");
        let ignore = match self.build.ignore {
            Some(text) => Ignore::parse(text, "the ignore file")?,
            None if root.exists(name) => {
                let text = root.read_small(name, MAX_IGNORE)?;
                Ignore::parse(&String::from_utf8_lossy(&text), ".dockerignore")?
            }
            None => Ignore::default(),
        };
        Source::context(self.build.context, ignore)
    }
}

/// The directory of what is being built. Whoever holds its lock lives; a directory that nobody holds was
/// left by a build that was killed, and the next build removes it.
struct Work {
    path: PathBuf,
    next: Cell<usize>,
    lock: Option<Flock<File>>,
}

impl Work {
    fn new(parent: &Path) -> Result<Work> {
        for entry in std::fs::read_dir(parent).doing(|| format!("read {}", parent.display()))?.flatten() {
            if let Some(_dead) = lock(&entry.path()) {
                for change in std::fs::read_dir(entry.path()).into_iter().flatten().flatten() {
                    container::remove_left(&change.path());
                }
                remove(&entry.path());
            }
        }
        let directory =
            tempfile::tempdir_in(parent).doing(|| format!("make a directory in {}", parent.display()))?;
        let path = directory.keep();
        let lock = lock(&path);
        Ok(Work { path, next: Cell::new(0), lock })
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        remove(&self.path);
        self.lock = None;
    }
}

/// Removes it, best effort: another build may be removing it too. But not if anything is mounted in it:
/// whatever went wrong, to remove through a mount of somebody's context would be worse than to leave it.
fn remove(directory: &Path) {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mut points = mounts.lines().filter_map(|line| line.split(' ').nth(4));
    // As proc(5) writes a path there.
    let name = directory.to_string_lossy().replace('\\', "\\134").replace(' ', "\\040");
    if !points.any(|point| point.starts_with(&name)) {
        let _ = std::fs::remove_dir_all(directory);
    }
}

fn lock(directory: &Path) -> Option<Flock<File>> {
    Flock::lock(File::open(directory).ok()?, FlockArg::LockExclusiveNonblock).ok()
}
