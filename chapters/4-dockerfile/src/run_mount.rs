//! `RUN --mount`: files that a command sees and the image does not get.
//!
//! | type | what |
//! |---|---|
//! | `bind` | of the context, or with `from` of a stage or image; read-only, or changes are lost |
//! | `cache` | a directory that outlives the build: a package manager's downloads |
//! | `tmpfs` | memory |
//! | `secret` | a file that the caller of the build gives |
//!
//! Here lie two holes that were found in others: a source that is a link out of the context
//! (CVE-2024-1753), and a cache whose `id` or `source` names a path of the host (CVE-2024-9675). A source is
//! resolved by the kernel inside its root, and an id is only ever hashed.

use crate::{
    Error, Result, cache,
    container::bind,
    copy::{Copy, Rules},
    error::Doing,
    ignore::Ignore,
    instruction::from_stage,
    mounted::Mounted,
    stage::Stage,
    stat_cache::StatCache,
};
use layers::root::Root;
use nix::fcntl::{Flock, FlockArg};
use oci_spec::runtime::{Mount, MountBuilder};
use std::{
    collections::BTreeMap,
    fs::File,
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
};

/// A mount that was asked for.
pub(crate) struct Wanted {
    kind: Kind,
    target: PathBuf,
    options: BTreeMap<String, String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Bind,
    Cache,
    Tmpfs,
    Secret,
}

/// What must stay until the command has ended.
#[derive(Default)]
pub(crate) struct Held {
    // In this order they are taken away.
    _mounts: Vec<Mounted>,
    _lock: Option<Flock<File>>,
}

/// Which options each type has.
const OPTIONS: [(Kind, &str, &[&str]); 4] = [
    (Kind::Bind, "bind", &["from", "source", "rw"]),
    (Kind::Cache, "cache", &["id", "from", "source", "ro", "sharing", "mode", "uid", "gid"]),
    (Kind::Tmpfs, "tmpfs", &["size"]),
    (Kind::Secret, "secret", &["id", "required", "mode", "uid", "gid", "env"]),
];

impl Wanted {
    /// Reads `type=cache,target=/root/.cache,...`.
    pub(crate) fn parse(stage: &Stage, text: &str) -> Result<Wanted, String> {
        let mut options = BTreeMap::new();
        for field in text.split(',') {
            let (name, value) = field.split_once('=').unwrap_or((field, "true"));
            let name = match name.to_ascii_lowercase().as_str() {
                "src" => "source".to_owned(),
                "dst" | "destination" => "target".to_owned(),
                "readwrite" => "rw".to_owned(),
                "readonly" => "ro".to_owned(),
                name => name.to_owned(),
            };
            options.insert(name, value.to_owned());
        }
        let kind = options.remove("type").unwrap_or_else(|| "bind".into());
        let Some((kind, _, known)) = OPTIONS.iter().find(|(_, name, _)| *name == kind) else {
            return Err(format!("unsupported mount type {kind:?}; it is bind, cache, tmpfs or secret"));
        };
        let target = match (options.remove("target"), kind) {
            (Some(target), _) => target,
            (None, Kind::Secret) => match options.get("id") {
                Some(id) if !id.contains('/') && id != ".." => format!("/run/secrets/{id}"),
                _ => return Err("a secret needs an id, or a target".into()),
            },
            (None, _) => return Err(format!("--mount={text}: target is required")),
        };
        // As docker: reading only is what a bind does anyway, and what is said twice is no error.
        if *kind == Kind::Bind && options.get("ro").is_some_and(|v| v == "true") {
            options.remove("ro");
        }
        if let Some(name) = options.keys().find(|name| !known.contains(&name.as_str())) {
            return Err(format!("unexpected key '{name}' for mount type '{kind:?}'").to_ascii_lowercase());
        }
        let cwd = &stage.config.config.working_dir;
        let target = crate::instruction::absolute(cwd, &target);
        if target == Path::new("/") {
            return Err("invalid mount target \"/\": the root is the image's".into());
        }
        Ok(Wanted { kind: *kind, target, options })
    }

    fn option(&self, name: &str) -> Option<&str> {
        self.options.get(name).map(String::as_str)
    }

    fn is_on(&self, name: &str) -> bool {
        matches!(self.option(name), Some("true" | "1"))
    }

    fn number(&self, name: &str, default: u32, radix: u32) -> Result<u32> {
        let Some(text) = self.option(name) else { return Ok(default) };
        u32::from_str_radix(text, radix).map_err(|_| refused(format!("--mount: {name}={text} is no number")))
    }

    /// What goes into the cache key: the files of a bind; of the others, only that they are there.
    pub(crate) fn input(&self, stage: &Stage) -> Result<String> {
        let options = format!("{:?} {} {:?}", self.kind, self.target.display(), self.options);
        if self.kind != Kind::Bind {
            return Ok(options);
        }
        if let Some(from) = self.option("from") {
            return Ok(format!("{options} {}", from_stage(stage, from)?.key));
        }
        let source = stage.session.context()?;
        let found = source.find(self.source()).map_err(refused)?;
        let mut stats = StatCache::open(&stage.session.cache.path("files"), stage.session.build.context);
        let digest = source.digest(&found, &Ignore::default(), &mut stats)?;
        Ok(format!("{options} {digest}"))
    }

    fn source(&self) -> &str {
        self.option("source").unwrap_or("/")
    }

    /// Makes it ready.
    pub(crate) fn prepare(&self, stage: &Stage) -> Result<(Mount, Held)> {
        match self.kind {
            Kind::Bind => self.bind(stage),
            Kind::Cache => self.cache(stage),
            Kind::Tmpfs => self.tmpfs(),
            Kind::Secret => self.secret(stage),
        }
    }

    fn bind(&self, stage: &Stage) -> Result<(Mount, Held)> {
        let session = stage.session;
        let mut mounts = Vec::new();
        let root = match self.option("from") {
            Some(from) => {
                let mounted = Mounted::read_only(session, &from_stage(stage, from)?.lower()?)?;
                let root = Root::open(&mounted.path)?;
                mounts.push(mounted);
                root
            }
            None => {
                let context = session.context()?;
                if context.hides_nothing() {
                    context.root
                } else {
                    // What the ignore file hides must not be seen: the rest is copied.
                    let directory = session.directory()?;
                    let (root, rules) = (Root::open(&directory)?, Rules::default());
                    let mut copy = Copy::new(&root, &rules);
                    for found in context.find("/").map_err(refused)? {
                        copy.copy(&context, &found, Path::new("/"))?;
                    }
                    copy.finish()?;
                    root
                }
            }
        };
        let mut place = Mounted::bind(session, &root, Path::new(self.source()))?;
        let mut options = vec!["rbind", "rprivate"];
        if self.is_on("rw") {
            if !place.path.is_dir() {
                return Err(refused("--mount: rw is for directories".into()));
            }
            let scratch = Mounted::scratch(session, &place.path)?;
            mounts.insert(0, std::mem::replace(&mut place, scratch));
        } else {
            options.push("ro");
        }
        let mount = bind(&place.path, &self.target, &options)?;
        mounts.insert(0, place);
        Ok((mount, Held { _mounts: mounts, _lock: None }))
    }

    fn cache(&self, stage: &Stage) -> Result<(Mount, Held)> {
        let session = stage.session;
        let target = self.target.to_string_lossy();
        // The id is the Dockerfile's author's: hashed, it is a name and never a path.
        let id = cache::key([self.option("id").unwrap_or(&target).as_bytes()]);
        let path = session.cache.path("mounts").join(id);
        let doing = || format!("make the cache {}", path.display());
        if !path.exists() {
            std::fs::create_dir_all(&path).doing(doing)?;
            let mode = self.number("mode", 0o755, 8)? & 0o7777;
            std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).doing(doing)?;
            chown(&path, Some(self.number("uid", 0, 10)?), Some(self.number("gid", 0, 10)?)).doing(doing)?;
        }
        let mut place = path.clone();
        let mut lock = None;
        match self.option("sharing") {
            None | Some("shared") => {}
            Some(how @ ("locked" | "private")) => {
                let wait =
                    if how == "locked" { FlockArg::LockExclusive } else { FlockArg::LockExclusiveNonblock };
                lock = Flock::lock(File::open(&path).doing(doing)?, wait).ok();
                if lock.is_none() {
                    // Another build has it: private means to have one's own, then.
                    place = session.directory()?;
                }
            }
            Some(other) => return Err(refused(format!("--mount: unsupported sharing value {other:?}"))),
        }
        let mut mounts = Vec::new();
        if let Some(source) = self.option("source") {
            let bound = Mounted::bind(session, &Root::open(&place)?, Path::new(source))?;
            place = bound.path.clone();
            mounts.push(bound);
        }
        let mut options = vec!["rbind", "rprivate"];
        if self.is_on("ro") {
            options.push("ro");
        }
        Ok((bind(&place, &self.target, &options)?, Held { _mounts: mounts, _lock: lock }))
    }

    fn tmpfs(&self) -> Result<(Mount, Held)> {
        let mut options = vec!["nosuid".to_owned(), "nodev".into(), "mode=1777".into()];
        if let Some(size) = self.option("size") {
            let right = size.trim_end_matches(['k', 'K', 'm', 'M', 'g', 'G']);
            if right.is_empty() || !right.bytes().all(|b| b.is_ascii_digit()) {
                return Err(refused(format!("--mount: invalid size {size:?}; write for example 64m")));
            }
            options.push(format!("size={size}"));
        }
        let mount = MountBuilder::default()
            .typ("tmpfs")
            .source(PathBuf::from("tmpfs"))
            .destination(self.target.clone())
            .options(options)
            .build()
            .map_err(|e| refused(e.to_string()))?;
        Ok((mount, Held::default()))
    }

    fn secret(&self, stage: &Stage) -> Result<(Mount, Held)> {
        let session = stage.session;
        if self.options.contains_key("env") {
            return Err(refused("--mount=type=secret,env=: give it a target and read the file".into()));
        }
        let name = self.target.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let id = self.option("id").unwrap_or(&name);
        let memory = Mounted::memory(session)?;
        let path = memory.path.join("secret");
        let doing = || format!("read the secret {id}");
        let bytes = match session.build.secrets.get(id) {
            Some(file) => std::fs::read(file).doing(doing)?,
            None if self.is_on("required") => {
                return Err(refused(format!(
                    "secret {id}: not found; give it with --secret id={id},src=FILE"
                )));
            }
            // docker mounts nothing then; an empty file is as much.
            None => Vec::new(),
        };
        std::fs::write(&path, bytes).doing(doing)?;
        let mode = self.number("mode", 0o400, 8)? & 0o777;
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).doing(doing)?;
        chown(&path, Some(self.number("uid", 0, 10)?), Some(self.number("gid", 0, 10)?)).doing(doing)?;
        let mount = bind(&path, &self.target, &["rbind", "rprivate", "ro", "nosuid", "nodev", "noexec"])?;
        Ok((mount, Held { _mounts: vec![memory], _lock: None }))
    }
}

fn refused(reason: String) -> Error {
    Error::Instruction { instruction: "RUN", reason }
}
