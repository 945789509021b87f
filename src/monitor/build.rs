//! A build, in a process of its own: it makes containers (clone(2) wants one thread), it can be killed when the client
//! goes away, and what it leaves then is in one directory. The context comes over standard input, docker's lines go to
//! standard output.

use crate::{
    engine::{
        disk,
        failure::{Failure, Result},
        plan::Endpoint,
    },
    explain::recorder,
    server::{AuthConfig, progress, to_credentials},
};
use dockerfile::{Build, Event, Network};
use layers::{Image, Store, root::Root, unpack};
use oci_spec::image::Descriptor;
use registry::{Options, Reference};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    io::{BufReader, Read, Write},
    os::fd::AsFd,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

/// The plan of a build.
#[derive(Serialize, Deserialize)]
pub(crate) struct BuildPlan {
    /// The image store.
    pub(crate) store: PathBuf,
    /// The Dockerfile's path in the context.
    pub(crate) dockerfile: String,
    pub(crate) tags: Vec<String>,
    pub(crate) args: BTreeMap<String, Option<String>>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) target: Option<String>,
    pub(crate) no_cache: bool,
    /// Pull also what is there.
    pub(crate) pull: bool,
    pub(crate) platform: Option<String>,
    /// `none`, `host`, or the bridge's: then with an endpoint.
    pub(crate) network: String,
    pub(crate) endpoint: Option<Endpoint>,
    /// Passwords by registry. The plan is readable by its owner alone, and is removed as soon as it is read.
    pub(crate) auth: BTreeMap<String, Value>,
    pub(crate) explain: bool,
}

/// The role `build`: `dir` is the build's own directory.
pub(crate) fn main(dir: &Path) -> Result<()> {
    // The daemon kills a build whose client went away; one whose daemon died is to end as well.
    nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?;
    let plan: BuildPlan =
        disk::read_json(&dir.join("plan.json"))?.ok_or_else(|| Failure::internal("no plan"))?;
    let _ = std::fs::remove_file(dir.join("plan.json"));
    if plan.explain {
        recorder(std::io::stdout().as_fd().try_clone_to_owned()?).install();
    }
    let mut code = None;
    if let Err(failure) = run(&plan, dir, &mut code) {
        let detail = match code {
            Some(code) => json!({"code": code, "message": failure.message}),
            None => json!({"message": failure.message}),
        };
        say(&json!({"errorDetail": detail, "error": failure.message}));
    }
    Ok(())
}

/// A line for the client. The daemon closes the pipe when the client has gone: then there is no reason to go on.
fn say(line: &Value) {
    if writeln!(std::io::stdout(), "{line}\r").is_err() {
        std::process::exit(1);
    }
}

fn stream(text: &str) {
    say(&json!({"stream": text}));
}

/// Builds. `code` is set to the exit status of a RUN that failed, which becomes the client's own.
fn run(plan: &BuildPlan, dir: &Path, code: &mut Option<i32>) -> Result<()> {
    let store = Store::open(&plan.store)?;
    let tags = plan
        .tags
        .iter()
        .map(|t| Reference::parse(t))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| Failure::bad(e.to_string()))?;
    let (context, scratch) = (dir.join("context"), dir.join("scratch"));
    disk::make_dir(&context, 0o700)?;
    disk::make_dir(&scratch, 0o700)?;
    let root = Root::open(&context)?;
    receive(&root)?;
    let text = read(&root, &plan.dockerfile)?;
    let ignore = root.read_small(Path::new(&format!("{}.dockerignore", plan.dockerfile)), 1 << 20).ok();
    let ignore = ignore.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let (network, _holder) = network(plan)?;
    let resolve = |name: &str| find(plan, &store, name).map_err(|f| f.message);
    let build = Build {
        context: &context,
        dockerfile: &text,
        ignore: ignore.as_deref(),
        args: plan.args.clone(),
        target: plan.target.clone(),
        labels: plan.labels.clone(),
        secrets: BTreeMap::new(),
        no_cache: plan.no_cache,
        network,
        scratch: &scratch,
        resolve: &resolve,
    };
    let manifest = dockerfile::build(&store, &build, &mut |event| show(&event)).inspect_err(|error| {
        if let dockerfile::Error::Command { code: status, .. } = error {
            *code = Some(*status);
        }
    })?;
    let id = store.image(&manifest)?.id().to_string();
    say(&json!({"aux": {"ID": id}}));
    finish(&store, &manifest, &id, &tags)
}

fn finish(store: &Store, manifest: &Descriptor, id: &str, tags: &[Reference]) -> Result<()> {
    let hex = id.strip_prefix("sha256:").unwrap_or(id);
    stream(&format!("Successfully built {}\n", &hex[..12]));
    if tags.is_empty() {
        // Listed without a name, as docker does; until then nothing but this build knew it.
        store.add(manifest)?;
    }
    for tag in tags {
        store.tag(&tag.to_string(), manifest)?;
        stream(&format!("Successfully tagged {}\n", tag.familiar()));
    }
    Ok(())
}

/// The context: a tar, as it is or compressed.
fn receive(root: &Root) -> Result<()> {
    let mut input = BufReader::with_capacity(64 << 10, std::io::stdin());
    let bad = |e: layers::Error| Failure::from(e).doing("the build context");
    unpack::extract(&mut input, root, &unpack::Options::default()).map_err(bad)?;
    // What follows the tar's end is read as well: a client that cannot send it all would see a broken connection.
    std::io::copy(&mut input.take(1 << 30), &mut std::io::sink())?;
    Ok(())
}

fn read(root: &Root, name: &str) -> Result<String> {
    let missing = |_| Failure::bad(format!("Cannot locate specified Dockerfile: {name}"));
    let bytes = root.read_small(Path::new(name), 1 << 20).map_err(missing)?;
    String::from_utf8(bytes).map_err(|_| Failure::bad(format!("{name} is not text in UTF-8")))
}

/// docker's words for what happens.
fn show(event: &Event) {
    match event {
        Event::Step { number, of, text } => stream(&format!("Step {number}/{of} : {text}\n")),
        Event::Triggers(1) => stream("# Executing 1 build trigger\n"),
        Event::Triggers(n) => stream(&format!("# Executing {n} build triggers\n")),
        Event::Running(id) => stream(&format!(" ---> Running in {id}\n")),
        Event::Removed(id) => stream(&format!(" ---> Removed intermediate container {id}\n")),
        Event::Cached => stream(" ---> Using cache\n"),
        Event::Image(id) => stream(&format!(" ---> {id}\n")),
        Event::Output(bytes) => stream(&String::from_utf8_lossy(bytes)),
        Event::Warning(text) => stream(&format!("{text}\n")),
        // A newer builder may tell more; the lines above are what docker's client knows.
        _ => {}
    }
}

/// The image of a FROM: one that is here, or one that is pulled.
fn find(plan: &BuildPlan, store: &Store, name: &str) -> Result<Image> {
    let by_id = || -> Result<Option<Image>> {
        let hex = name.strip_prefix("sha256:").unwrap_or(name);
        if hex.len() < 4 || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Ok(None);
        }
        for (_, descriptor) in store.list()? {
            if let Ok(image) = store.image(&descriptor)
                && image.id().digest().starts_with(hex)
            {
                return Ok(Some(image));
            }
        }
        Ok(None)
    };
    let reference = Reference::parse(name).map_err(|e| Failure::bad(e.to_string()));
    if !plan.pull {
        if let Ok(reference) = &reference
            && let Some(descriptor) = store.find(&reference.to_string())?
        {
            return Ok(store.image(&descriptor)?);
        }
        if let Some(image) = by_id()? {
            return Ok(image);
        }
    }
    let reference = reference?;
    let key =
        if reference.registry == "docker.io" { "https://index.docker.io/v1/" } else { &reference.registry };
    let auth = plan.auth.get(key).and_then(|a| serde_json::from_value::<AuthConfig>(a.clone()).ok());
    let options = Options {
        credentials: auth.and_then(to_credentials),
        platform: plan.platform.clone(),
        ..Options::default()
    };
    let manifest = registry::pull::pull(store, &reference, &options, &|p| say(&progress(&p)))?;
    Ok(store.image(&manifest)?)
}

/// The network of the RUNs, and the process that holds it open.
fn network(plan: &BuildPlan) -> Result<(Network, Option<Holder>)> {
    if plan.network == "host" {
        return Ok((Network::Host, None));
    }
    let Some(endpoint) = &plan.endpoint else { return Ok((Network::None, None)) };
    let mut child = Command::new("/proc/self/exe")
        .args([super::ROLE, "hold-network"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut ready = [0];
    if let Some(out) = &mut child.stdout {
        out.read_exact(&mut ready).map_err(|e| Failure::from(e).doing("making a network namespace"))?;
    }
    let pid = i32::try_from(child.id()).map_err(|_| Failure::internal("a process ID out of range"))?;
    let holder = Holder(child);
    super::container::plug(nix::unistd::Pid::from_raw(pid), endpoint)?;
    Ok((Network::Path(format!("/proc/{pid}/ns/net").into()), Some(holder)))
}

/// A process in a network namespace of its own. Dropped, it ends; if we are killed, its input ends, and so does it.
struct Holder(Child);

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The role `hold-network`.
pub(crate) fn hold_network() -> Result<()> {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET)?;
    namespaces::net::loopback_up()?;
    std::io::stdout().write_all(b"k")?;
    std::io::stdout().flush()?;
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    Ok(())
}
