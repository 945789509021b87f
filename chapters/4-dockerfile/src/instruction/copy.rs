//! `COPY`: files from the context, another stage, or another image, as a layer.

use super::{FlagKind, Keyword, switch, value, values, workdir::absolute};
use crate::{
    Error, Result, archive, cache, chmod, chown,
    copy::{Copy, Rules},
    error::Doing,
    ignore::Ignore,
    mounted::Mounted,
    rootfs::Change,
    source::{Found, Source},
    stage::Stage,
    stat_cache::StatCache,
    tree::{Form, Instruction},
};
use layers::root::{Root, kind};
use nix::sys::stat::SFlag;
use std::path::{Path, PathBuf};

pub(super) static COPY: Keyword = Keyword {
    name: "COPY",
    form: Form::Paths,
    flags: &FLAGS,
    heredocs: true,
    check: |i| check(i),
    apply: |stage, i| transfer(stage, i, "COPY"),
};

const FLAGS: [FlagKind; 6] =
    [value("from"), value("chown"), value("chmod"), switch("link"), switch("parents"), values("exclude")];

/// Sources and a destination.
pub(super) fn check(i: &Instruction) -> Result<(), String> {
    match i.words().len() {
        0 => Err(format!("{} requires at least one argument", i.keyword)),
        1 => Err(format!(
            "{} requires at least two arguments, but only one was provided. Destination could not be determined.",
            i.keyword
        )),
        _ => Ok(()),
    }
}

/// What is copied, with its variables expanded.
struct Transfer {
    instruction: &'static str,
    sources: Vec<String>,
    /// As it is written, for the rules about a slash at its end.
    to: String,
    chown: Option<String>,
    chmod: Option<String>,
    exclude: Vec<String>,
    parents: bool,
}

/// Trees, and what was found in each.
type Taken = Vec<(Source, Vec<Found>)>;

/// Where it comes from.
enum Origin<'s> {
    /// The context, with what was found in it already: its digest is the cache key.
    Context(Taken),
    /// Another stage or image. It need not be there to be known: what it is made of is the cache key.
    Stage(Box<Stage<'s>>),
}

/// `COPY` and `ADD`.
pub(super) fn transfer(stage: &mut Stage, i: &Instruction, instruction: &'static str) -> Result<()> {
    let failed = |reason| Error::Instruction { instruction, reason };
    let transfer = Transfer::read(stage, i, instruction)?;
    let (origin, kind, digest) = match i.flag("from") {
        Some(from) => {
            let from = from_stage(stage, &stage.expand(from)?)?;
            let kind = if transfer.sources.len() > 1 { "multi" } else { "file" };
            let digest =
                cache::key(std::iter::once(&from.key).chain(&transfer.sources).map(|p| p.as_bytes()));
            (Origin::Stage(Box::new(from)), kind, digest)
        }
        None => {
            let (sources, kind, digest) = context(stage, i, &transfer)?;
            (Origin::Context(sources), kind, digest)
        }
    };
    let flag = |name: &str, value: &Option<String>| {
        value.as_ref().map(|v| format!("--{name}={v} ")).unwrap_or_default()
    };
    let flags = flag("chown", &transfer.chown) + &flag("chmod", &transfer.chmod);
    let shell = stage.config.config.shell().join(" ");
    let created_by = format!("{shell} #(nop) {instruction} {flags}{kind}:{digest} in {} ", transfer.to);
    let options = format!("{:?} {}", transfer.exclude, transfer.parents);

    stage.commit(&created_by, &[&digest, &transfer.to, &options], |stage| {
        let cwd = stage.config.config.working_dir.clone();
        stage.change(|stage, change| match origin {
            Origin::Context(sources) => {
                for (source, found) in &sources {
                    transfer.place(source, found, &cwd, change)?;
                }
                // A context is somebody's working directory. What was copied must be what was hashed, or the
                // cache would for ever give the one for the other.
                match transfer.digest(stage, &sources)? == digest {
                    true => Ok(()),
                    false => Err(failed("the context changed while it was copied; build again".into())),
                }
            }
            Origin::Stage(mut from) => {
                let mounted = Mounted::read_only(from.session, &from.lower()?)?;
                let source = Source::root(&mounted.path)?;
                let found = transfer.find(&source).map_err(failed)?;
                transfer.place(&source, &found, &cwd, change)
            }
        })
    })
}

/// The stage or image that `--from` names.
pub(crate) fn from_stage<'s>(stage: &Stage<'s>, name: &str) -> Result<Stage<'s>> {
    let session = stage.session;
    if let Some(done) = session.stage(name) {
        return Ok(Stage::clone(&done));
    }
    let refused = |why: &str| Err(Error::Plan(format!("invalid from flag value {name}: {why}")));
    if name.is_empty() || session.is_stage(name) {
        return refused("it is not a stage that is built before this one");
    }
    if name.bytes().all(|b| b.is_ascii_digit()) {
        return refused("index out of bounds");
    }
    if name == "scratch" {
        return refused("scratch holds no files");
    }
    let image = (session.build.resolve)(name).map_err(Error::Plan)?;
    Stage::from_image(session, &image, name)
}

/// What the context and the documents in the Dockerfile give, and the digest over it.
fn context(stage: &Stage, i: &Instruction, transfer: &Transfer) -> Result<(Taken, &'static str, String)> {
    let failed = |reason| Error::Instruction { instruction: transfer.instruction, reason };
    let session = stage.session;
    let mut sources = Vec::new();
    if !transfer.sources.is_empty() {
        let source = session.context()?;
        let found = transfer.find(&source).map_err(failed)?;
        sources.push((source, found));
    }
    if !i.heredocs.is_empty() {
        let directory = session.directory()?;
        let source = Source::context(&directory, Ignore::default())?;
        let mut found = Vec::new();
        for heredoc in &i.heredocs {
            let content = match heredoc.expand {
                true => stage.expand_document(&heredoc.content)?,
                false => heredoc.content.clone(),
            };
            let mut file = Root::open(&directory)?.create(Path::new(&heredoc.name), 0o644)?;
            std::io::Write::write_all(&mut file, content.as_bytes())
                .doing(|| format!("write {}", heredoc.name))?;
            found.extend(source.find(&heredoc.name).map_err(failed)?);
        }
        sources.push((source, found));
    }
    let mut all = sources.iter().flat_map(|(_, found)| found);
    let kind = match (all.next(), all.next()) {
        (Some(one), None) if one.is_dir => "dir",
        (Some(_), None) => "file",
        _ => "multi",
    };
    let digest = transfer.digest(stage, &sources)?;
    Ok((sources, kind, digest))
}

impl Transfer {
    /// The digest over all that is taken.
    fn digest(&self, stage: &Stage, taken: &Taken) -> Result<String> {
        let session = stage.session;
        let mut stats = StatCache::open(&session.cache.path("files"), session.build.context);
        let exclude = self.exclude()?;
        let each = taken.iter().map(|(source, found)| source.digest(found, &exclude, &mut stats));
        let digests = each.collect::<Result<Vec<_>>>()?;
        stats.save();
        Ok(match &digests[..] {
            // A single one is shown as it is.
            [one] => one.clone(),
            many => cache::key(many.iter().map(|d| d.as_bytes())),
        })
    }

    fn read(stage: &Stage, i: &Instruction, instruction: &'static str) -> Result<Transfer> {
        let expand = |text: &str| stage.expand(text);
        let mut words = i.words();
        let to = expand(words.pop().unwrap_or("/"))?;
        // What a document announces is not a path.
        if !i.heredocs.is_empty() {
            words.retain(|w| !w.trim_start_matches(|c: char| c.is_ascii_digit()).starts_with("<<"));
        }
        Ok(Transfer {
            instruction,
            sources: words.into_iter().map(expand).collect::<Result<_>>()?,
            to,
            chown: i.flag("chown").map(expand).transpose()?,
            chmod: i.flag("chmod").map(expand).transpose()?,
            exclude: i
                .flags
                .iter()
                .filter(|f| f.name == "exclude")
                .filter_map(|f| f.value.as_deref())
                .map(expand)
                .collect::<Result<_>>()?,
            parents: i.switch("parents"),
        })
    }

    fn find(&self, source: &Source) -> Result<Vec<Found>, String> {
        let found: Result<Vec<_>, _> = self.sources.iter().map(|pattern| source.find(pattern)).collect();
        Ok(found?.concat())
    }

    fn exclude(&self) -> Result<Ignore> {
        let mut ignore = Ignore::default();
        for pattern in &self.exclude {
            let wrong = |message| Error::Ignore { file: "--exclude".into(), message };
            ignore.add(pattern).map_err(wrong)?;
        }
        Ok(ignore)
    }

    /// Puts what was found where it belongs.
    fn place(&self, source: &Source, found: &[Found], cwd: &str, change: &Change) -> Result<()> {
        let failed = |reason| Error::Instruction { instruction: self.instruction, reason };
        let slash = self.to.ends_with('/') || self.to.ends_with("/.") || self.to == ".";
        if found.len() > 1 && !slash {
            return Err(Error::Plan(format!(
                "When using {} with more than one source file, the destination must be a directory and end with a /",
                self.instruction
            )));
        }
        let root = change.root()?;
        let rules = Rules {
            instruction: self.instruction,
            owner: self.chown.as_ref().map(|c| chown::resolve(c, &root)).transpose().map_err(failed)?,
            mode: self.chmod.as_ref().map(|m| chmod::Mode::parse(m)).transpose().map_err(failed)?,
            exclude: self.exclude()?,
        };
        let mut copy = Copy::new(&root, &rules);
        for found in found {
            // Links in the destination that the instruction names are followed, inside the root.
            let to = root.resolve(&absolute(cwd, &self.to))?;
            let is_dir = slash || root.stat(&to).is_ok_and(|s| kind(&s) == SFlag::S_IFDIR);
            if self.instruction == "ADD" && !found.is_dir && archive::unpack(source, found, &mut copy, &to)? {
                continue;
            }
            let to = match (found.is_dir, is_dir) {
                _ if self.parents => to.join(self.kept(found)),
                (false, true) => to.join(found.name()),
                _ => to,
            };
            if found.is_dir && found.path == Path::new("/") {
                // The context's own directory is no part of the context.
                copy.directories(&to)?;
            }
            copy.copy(source, found, &to)?;
        }
        copy.finish()
    }

    /// `--parents`: the path below the destination, from `/./` on if one of the sources has that.
    fn kept(&self, found: &Found) -> PathBuf {
        let pivots = self.sources.iter().filter_map(|s| s.split_once("/./")).map(|(before, _)| before);
        let called = found.called.strip_prefix("/").unwrap_or(&found.called);
        let below = |base: &str| called.strip_prefix(base.trim_start_matches('/')).ok().map(Path::to_owned);
        pivots.filter_map(below).next().unwrap_or_else(|| called.to_owned())
    }
}
