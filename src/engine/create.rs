//! From what a client asks to a container's record. Nothing is prepared that the start can do: a create is one
//! small file, written.

use super::{
    Engine,
    container::{Container, Record, State},
    failure::{Failure, Result},
    images, mounts, names,
};
use bollard_stubs::models::{
    ContainerCreateBody, EndpointSettings, HostConfig, HostConfigLogConfig, RestartPolicyNameEnum,
};
use layers::Image;
use std::{collections::BTreeMap, collections::HashMap, sync::Arc};

/// Makes a container. Returns it with what the user should be warned of.
pub(crate) fn create(
    engine: &Engine,
    name: Option<&str>,
    mut config: ContainerCreateBody,
    explain: bool,
) -> Result<(Arc<Container>, Vec<String>)> {
    let mut warnings = Vec::new();
    let mut host = config.host_config.take().unwrap_or_default();
    let networking = config.networking_config.take().and_then(|n| n.endpoints_config).unwrap_or_default();
    let reference = config.image.clone().unwrap_or_default();
    if reference.is_empty() {
        return Err(Failure::bad("no image specified"));
    }
    let image = images::find(engine, &reference)?;
    inherit(engine, &mut config, &image);
    let id = names::id()?;
    check(engine, &mut config, &mut host, &mut warnings)?;
    if config.hostname.as_deref().unwrap_or_default().is_empty() {
        let mode = host.network_mode.as_deref().unwrap_or_default();
        let own = !matches!(mode, "host") && host.uts_mode.as_deref() != Some("host");
        config.hostname = Some(if own {
            id[..12].to_owned()
        } else {
            nix::unistd::gethostname()?.to_string_lossy().into_owned()
        });
    }
    let networks = endpoints(engine, &host, networking)?;
    let mut record = Record {
        id: id.clone(),
        name: String::new(),
        created: super::now(),
        image: reference,
        image_id: image.id().to_string(),
        manifest: image.descriptor.clone(),
        chain: image.chain_ids(),
        lower: engine.store.unpack(&image)?,
        config,
        host,
        networks,
        devices: BTreeMap::new(),
        mounts: Vec::new(),
        explain,
        state: State::default(),
    };
    if record.command().is_empty() {
        return Err(Failure::bad("no command specified"));
    }
    record.name = take_name(engine, name, &id)?;
    let made = mounts::resolve(engine, &record.config, &record.host).and_then(|mounts| {
        record.mounts = mounts;
        let container = Arc::new(Container::new(record.clone(), &engine.data_root, &engine.exec_root));
        container.save()?;
        Ok(container)
    });
    let container = made.inspect_err(|_| engine.free_name(&record.name))?;
    engine.insert(container.clone());
    engine.tell(&container, "create", &[]);
    Ok((container, warnings))
}

fn take_name(engine: &Engine, name: Option<&str>, id: &str) -> Result<String> {
    if let Some(name) = name.map(|n| n.trim_start_matches('/')).filter(|n| !n.is_empty()) {
        engine.take_name(name, id)?;
        return Ok(name.to_owned());
    }
    for attempt in 0..64 {
        let name = names::random_name(attempt)?;
        if engine.take_name(&name, id).is_ok() {
            return Ok(name);
        }
    }
    Err(Failure::conflict("no free name was found; give one with --name"))
}

/// What the image says where the client is silent. An entrypoint of the client's makes the image's command void; an
/// entrypoint of one empty word is docker's way to say "none".
fn inherit(engine: &Engine, config: &mut ContainerCreateBody, image: &Image) {
    let empty = oci_spec::image::Config::default();
    let from = image.config.config().as_ref().unwrap_or(&empty);
    let own_entrypoint = config.entrypoint.as_ref().is_some_and(|e| !e.is_empty());
    if own_entrypoint {
        config.entrypoint = config.entrypoint.take().filter(|e| *e != [""]);
    } else {
        config.entrypoint = from.entrypoint().clone();
    }
    if config.cmd.as_ref().is_none_or(Vec::is_empty) {
        config.cmd = if own_entrypoint { None } else { from.cmd().clone() };
    }
    let mut env = config.env.take().unwrap_or_default();
    let names: Vec<String> = env.iter().map(|e| e.split('=').next().unwrap_or_default().to_owned()).collect();
    let inherited =
        from.env().iter().flatten().filter(|e| !names.iter().any(|n| e.split('=').next() == Some(n)));
    // docker puts the client's first; a name without `=` takes the image's variable away.
    env.retain(|e| e.contains('='));
    env.extend(inherited.cloned());
    config.env = Some(env);
    let or = |own: &mut Option<String>, image: &Option<String>| {
        if own.as_deref().unwrap_or_default().is_empty() {
            own.clone_from(image);
        }
    };
    or(&mut config.user, from.user());
    or(&mut config.working_dir, from.working_dir());
    or(&mut config.stop_signal, from.stop_signal());
    for (own, image) in
        [(&mut config.volumes, from.volumes()), (&mut config.exposed_ports, from.exposed_ports())]
    {
        let own = own.get_or_insert_default();
        own.extend(image.iter().flatten().cloned());
        own.sort();
        own.dedup();
    }
    let mut labels: HashMap<String, String> = from.labels().clone().unwrap_or_default();
    labels.extend(config.labels.take().unwrap_or_default());
    config.labels = Some(labels);
    if config.healthcheck.as_ref().is_none_or(|h| h.test.as_ref().is_none_or(Vec::is_empty)) {
        config.healthcheck = images::healthcheck(engine, image).or(config.healthcheck.take());
    }
}

/// Refuses what cannot be, completes what docker completes, warns of what will not be honoured.
fn check(
    engine: &Engine,
    config: &mut ContainerCreateBody,
    host: &mut HostConfig,
    warnings: &mut Vec<String>,
) -> Result<()> {
    if std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        super::spec::limits::discard_what_v2_lacks(host, warnings);
    }
    if let Some(dir) = config.working_dir.as_deref().filter(|d| !d.is_empty() && !d.starts_with('/')) {
        return Err(Failure::bad(format!(
            "the working directory '{dir}' is invalid, it needs to be an absolute path"
        )));
    }
    for env in config.env.iter().flatten() {
        if env.starts_with('=') || env.contains('\0') {
            return Err(Failure::bad(format!("invalid environment variable: {env}")));
        }
    }
    if let Some(signal) = config.stop_signal.as_deref().filter(|s| !s.is_empty()) {
        super::signal::number(signal)?;
    }
    let memory = host.memory.unwrap_or_default();
    if memory != 0 && memory < 6 << 20 {
        return Err(Failure::bad("Minimum memory limit allowed is 6MB"));
    }
    let swap = host.memory_swap.unwrap_or_default();
    if memory == 0 && swap > 0 {
        return Err(Failure::bad(
            "You should always set the Memory limit when using Memoryswap limit, see usage",
        ));
    }
    if swap > 0 && swap < memory {
        return Err(Failure::bad("Minimum memoryswap limit should be larger than memory limit, see usage"));
    }
    if host.memory_reservation.is_some_and(|r| memory > 0 && r > memory) {
        return Err(Failure::bad(
            "Minimum memory limit can not be less than memory reservation limit, see usage",
        ));
    }
    // As docker: with a memory limit, as much again in swap.
    if memory > 0 && swap == 0 {
        host.memory_swap = Some(memory.saturating_mul(2));
    }
    let nano = host.nano_cpus.unwrap_or_default();
    let cpus = std::thread::available_parallelism().map_or(1, usize::from) as i64;
    if nano < 0 || nano > cpus * 1_000_000_000 {
        return Err(Failure::bad(format!(
            "range of CPUs is from 0.01 to {cpus}.00, as there are only {cpus} CPUs available"
        )));
    }
    if nano > 0 && (host.cpu_quota.unwrap_or_default() > 0 || host.cpu_period.unwrap_or_default() > 0) {
        return Err(Failure::bad("Conflicting options: Nano CPUs and CPU Period cannot both be set."));
    }
    let policy = host.restart_policy.clone().unwrap_or_default();
    let restarts =
        !matches!(policy.name, None | Some(RestartPolicyNameEnum::EMPTY | RestartPolicyNameEnum::NO));
    if restarts && host.auto_remove.unwrap_or_default() {
        return Err(Failure::bad("can't create 'AutoRemove' container with restart policy"));
    }
    if policy.name.is_none() || policy.name == Some(RestartPolicyNameEnum::EMPTY) {
        host.restart_policy.get_or_insert_default().name = Some(RestartPolicyNameEnum::NO);
    }
    for limit in host.ulimits.iter().flatten() {
        if limit.soft.unwrap_or_default() > limit.hard.unwrap_or_default() && limit.hard != Some(-1) {
            return Err(Failure::bad("ulimit soft limit must be less than or equal to hard limit"));
        }
    }
    let log = host.log_config.get_or_insert_with(HostConfigLogConfig::default);
    match log.typ.as_deref() {
        None | Some("") => log.typ = Some("json-file".into()),
        Some("json-file" | "local" | "none") => {}
        Some(other) => {
            return Err(Failure::bad(format!("logger: no log driver named '{other}' is registered")));
        }
    }
    if host.runtime.as_deref().unwrap_or_default().is_empty() {
        host.runtime = Some("teu".into());
    }
    if host.shm_size.unwrap_or_default() <= 0 {
        host.shm_size = Some(64 << 20);
    }
    if host.network_mode.as_deref().unwrap_or_default().is_empty()
        || host.network_mode.as_deref() == Some("default")
    {
        host.network_mode = Some("bridge".into());
    }
    if engine.rootless {
        let limits = [
            (memory > 0, "memory limit"),
            (nano > 0 || host.cpu_quota.unwrap_or_default() > 0, "CPU CFS quota"),
            (host.cpu_shares.unwrap_or_default() > 0, "CPU shares"),
            (host.pids_limit.unwrap_or_default() > 0, "PIDs limit"),
            (!host.cpuset_cpus.as_deref().unwrap_or_default().is_empty(), "cpuset"),
        ];
        for (_, what) in limits.iter().filter(|(asked, _)| *asked && !super::spec::delegated()) {
            warnings.push(format!(
                "Your kernel does not support {what} for this user, or the cgroup is not delegated. Limitation discarded."
            ));
        }
        if host.network_mode.as_deref() == Some("bridge") {
            warnings.push(
                "An ordinary user's container has only a loopback device: joining a bridge of the host takes root. \
                 Use --network host to reach the outside, or --network none to be without this warning."
                    .into(),
            );
        }
    }
    Ok(())
}

/// The networks that it will be plugged into, by name, with what is asked of each.
fn endpoints(
    engine: &Engine,
    host: &HostConfig,
    mut asked: HashMap<String, EndpointSettings>,
) -> Result<BTreeMap<String, EndpointSettings>> {
    let mode = host.network_mode.as_deref().unwrap_or("bridge");
    let mut all = BTreeMap::new();
    if mode.starts_with("container:") {
        return Ok(all);
    }
    // A network that is not there is found out at the start, as docker does it; its name is kept.
    let name_of = |reference: &str| engine.networks.get(reference).map_or(reference.to_owned(), |n| n.name);
    let mine = asked.remove(mode).or_else(|| asked.remove("default")).unwrap_or_default();
    all.insert(name_of(mode), mine);
    for (name, settings) in asked {
        all.entry(name_of(&name)).or_insert(settings);
    }
    for settings in all.values() {
        if let Some(ip) =
            settings.ipam_config.as_ref().and_then(|c| c.ipv4_address.as_deref()).filter(|i| !i.is_empty())
        {
            ip.parse::<std::net::Ipv4Addr>()
                .map_err(|_| Failure::bad(format!("invalid IPv4 address: {ip}")))?;
            if mode == "bridge" {
                return Err(Failure::bad(
                    "invalid config for network bridge: user specified IP address is supported on user defined networks only",
                ));
            }
        }
    }
    Ok(all)
}
