//! What `run` and `create` say about a container, and the document that the API wants for it.

use super::{mounts, ports, size};
use anyhow::{Context, Result, anyhow, bail};
use bollard_stubs::models::{
    ContainerCreateBody, DeviceMapping, EndpointIpamConfig, EndpointSettings, HealthConfig, HostConfig,
    HostConfigLogConfig, NetworkingConfig, ResourcesUlimits, RestartPolicy, RestartPolicyNameEnum,
};
use std::{collections::HashMap, fs};

/// The flags of a container.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Settings {
    /// Print this help
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
    /// A line for the container's /etc/hosts (name:address)
    #[arg(long, value_name = "HOST:IP")]
    add_host: Vec<String>,
    /// Attach only to these of stdin, stdout, stderr
    #[arg(short, long, value_name = "STREAM")]
    pub(crate) attach: Vec<String>,
    /// Give a capability
    #[arg(long, value_name = "CAP")]
    cap_add: Vec<String>,
    /// Take a capability away
    #[arg(long, value_name = "CAP")]
    cap_drop: Vec<String>,
    /// The control group to be made under
    #[arg(long, value_name = "PATH")]
    cgroup_parent: Option<String>,
    /// Write the container's ID into this file
    #[arg(long, value_name = "FILE")]
    pub(crate) cidfile: Option<std::path::PathBuf>,
    /// The quota's period, in microseconds
    #[arg(long, value_name = "µs")]
    cpu_period: Option<i64>,
    /// Processor time in each period, in microseconds
    #[arg(long, value_name = "µs")]
    cpu_quota: Option<i64>,
    /// Weight against other containers when processors are busy
    #[arg(short, long, value_name = "WEIGHT")]
    cpu_shares: Option<i64>,
    /// How many processors it may keep busy (1.5)
    #[arg(long, value_name = "NUMBER")]
    cpus: Option<String>,
    /// Which processors it may use (0-3, 0,1)
    #[arg(long, value_name = "LIST")]
    cpuset_cpus: Option<String>,
    /// Which memory nodes it may use
    #[arg(long, value_name = "LIST")]
    cpuset_mems: Option<String>,
    /// A device of the host (HOST[:CONTAINER[:rwm]])
    #[arg(long, value_name = "DEVICE")]
    device: Vec<String>,
    /// A DNS server
    #[arg(long, value_name = "IP")]
    dns: Vec<String>,
    /// A DNS option
    #[arg(long, value_name = "OPTION")]
    dns_option: Vec<String>,
    /// A DNS search domain
    #[arg(long, value_name = "DOMAIN")]
    dns_search: Vec<String>,
    /// The NIS domain name
    #[arg(long, value_name = "NAME")]
    domainname: Option<String>,
    /// The program to run instead of the image's entrypoint
    #[arg(long, value_name = "COMMAND")]
    entrypoint: Option<String>,
    /// A variable (NAME=value, or NAME to take it from here)
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// A file of variables, one a line
    #[arg(long, value_name = "FILE")]
    env_file: Vec<String>,
    /// A port that the container listens on
    #[arg(long, value_name = "PORT")]
    expose: Vec<String>,
    /// A further group of the user
    #[arg(long, value_name = "GROUP")]
    group_add: Vec<String>,
    /// The command that tells whether the container is healthy
    #[arg(long, value_name = "COMMAND")]
    health_cmd: Option<String>,
    /// Time between two checks
    #[arg(long, value_name = "DURATION")]
    health_interval: Option<String>,
    /// So many failures in a row make it unhealthy
    #[arg(long, value_name = "NUMBER")]
    health_retries: Option<i64>,
    /// Failures in this time from the start do not count
    #[arg(long, value_name = "DURATION")]
    health_start_period: Option<String>,
    /// The longest that a check may take
    #[arg(long, value_name = "DURATION")]
    health_timeout: Option<String>,
    /// Switch the image's health check off
    #[arg(long)]
    no_healthcheck: bool,
    /// The container's host name
    #[arg(short = 'h', long, value_name = "NAME")]
    hostname: Option<String>,
    /// Run a small init as process 1, which forwards signals and reaps
    #[arg(long)]
    init: bool,
    /// Keep stdin open
    #[arg(short, long)]
    pub(crate) interactive: bool,
    /// A fixed IPv4 address in its network
    #[arg(long, value_name = "IP")]
    ip: Option<String>,
    /// The IPC namespace (private, shareable, host, container:NAME)
    #[arg(long, value_name = "MODE")]
    ipc: Option<String>,
    /// A label
    #[arg(short, long, value_name = "KEY[=VALUE]")]
    label: Vec<String>,
    /// A file of labels, one a line
    #[arg(long, value_name = "FILE")]
    label_file: Vec<String>,
    /// Where the log goes (json-file, none)
    #[arg(long, value_name = "DRIVER")]
    log_driver: Option<String>,
    /// An option of the log driver
    #[arg(long, value_name = "KEY=VALUE")]
    log_opt: Vec<String>,
    /// The most memory it may use (64m, 1g)
    #[arg(short, long, value_name = "BYTES")]
    memory: Option<String>,
    /// Memory that it is pushed back to when the host runs short
    #[arg(long, value_name = "BYTES")]
    memory_reservation: Option<String>,
    /// Memory and swap together; -1 for any amount
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    memory_swap: Option<String>,
    /// A mount (type=bind|volume|tmpfs,source=…,target=…,readonly)
    #[arg(long, value_name = "MOUNT")]
    mount: Vec<String>,
    /// The container's name
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Its network (bridge, none, host, container:NAME, or a network's name)
    #[arg(long, visible_alias = "net", value_name = "NETWORK")]
    network: Vec<String>,
    /// A further name in its network
    #[arg(long, visible_alias = "net-alias", value_name = "NAME")]
    network_alias: Vec<String>,
    /// Never kill it for lack of memory
    #[arg(long)]
    oom_kill_disable: bool,
    /// How willingly the kernel kills it for lack of memory (-1000 to 1000)
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    oom_score_adj: Option<i64>,
    /// The PID namespace (host, container:NAME)
    #[arg(long, value_name = "MODE")]
    pid: Option<String>,
    /// The most processes and threads; -1 for any number
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    pids_limit: Option<i64>,
    /// The image's platform (os/arch), if it has several
    #[arg(long, value_name = "PLATFORM")]
    pub(crate) platform: Option<String>,
    /// All capabilities and devices, nothing masked
    #[arg(long)]
    privileged: bool,
    /// Publish a port ([IP:][HOSTPORT:]PORT[/PROTOCOL])
    #[arg(short, long, value_name = "PORTS")]
    publish: Vec<String>,
    /// Publish every exposed port on some port of the host
    #[arg(short = 'P', long)]
    publish_all: bool,
    /// When to pull the image (always, missing, never)
    #[arg(long, value_name = "WHEN", default_value = "missing", value_parser = ["always", "missing", "never"])]
    pub(crate) pull: String,
    /// Do not show the pull
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Make the root read-only
    #[arg(long)]
    read_only: bool,
    /// When to start it again (no, on-failure[:MAX], always, unless-stopped)
    #[arg(long, value_name = "POLICY")]
    restart: Option<String>,
    /// Remove the container when it ends
    #[arg(long)]
    pub(crate) rm: bool,
    /// The OCI runtime
    #[arg(long, value_name = "NAME")]
    runtime: Option<String>,
    /// A security option (seccomp=FILE|unconfined, no-new-privileges, …)
    #[arg(long, value_name = "OPTION")]
    security_opt: Vec<String>,
    /// The size of /dev/shm
    #[arg(long, value_name = "BYTES")]
    shm_size: Option<String>,
    /// The signal that `stop` sends
    #[arg(long, value_name = "SIGNAL")]
    stop_signal: Option<String>,
    /// How long `stop` waits before it kills, in seconds
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    stop_timeout: Option<i64>,
    /// A kernel parameter of its namespaces
    #[arg(long, value_name = "KEY=VALUE")]
    sysctl: Vec<String>,
    /// A directory in memory (PATH[:OPTIONS])
    #[arg(long, value_name = "PATH")]
    tmpfs: Vec<String>,
    /// Give it a terminal
    #[arg(short, long)]
    pub(crate) tty: bool,
    /// A resource limit (nofile=1024:2048)
    #[arg(long, value_name = "NAME=SOFT[:HARD]")]
    ulimit: Vec<String>,
    /// The user (name or number, [:group])
    #[arg(short, long, value_name = "USER")]
    user: Option<String>,
    /// The user namespace (host)
    #[arg(long, value_name = "MODE")]
    userns: Option<String>,
    /// The UTS namespace (host)
    #[arg(long, value_name = "MODE")]
    uts: Option<String>,
    /// A directory or volume ([SOURCE:]TARGET[:OPTIONS])
    #[arg(short, long, value_name = "VOLUME")]
    volume: Vec<String>,
    /// Take the volumes of another container
    #[arg(long, value_name = "CONTAINER")]
    volumes_from: Vec<String>,
    /// The working directory
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
    /// The image, and the command with its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "IMAGE [COMMAND] [ARG...]")]
    words: Vec<String>,
}

/// Which streams a client attaches to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Streams {
    /// stdin
    pub(crate) stdin: bool,
    /// stdout
    pub(crate) stdout: bool,
    /// stderr
    pub(crate) stderr: bool,
}

impl Settings {
    /// The image, as it was typed.
    pub(crate) fn image(&self) -> &str {
        self.words.first().map_or("", String::as_str)
    }

    /// What to attach to: nothing when detached, what `-a` says, else all but an stdin that nobody asked to keep open.
    pub(crate) fn streams(&self, detached: bool) -> Result<Streams> {
        let mut streams = Streams::default();
        if detached {
            return Ok(streams);
        }
        if self.attach.is_empty() {
            return Ok(Streams { stdin: self.interactive, stdout: true, stderr: true });
        }
        for name in &self.attach {
            match name.to_lowercase().as_str() {
                "stdin" => streams.stdin = true,
                "stdout" => streams.stdout = true,
                "stderr" => streams.stderr = true,
                _ => bail!("invalid argument \"{name}\" for -a: valid streams are stdin, stdout and stderr"),
            }
        }
        Ok(streams)
    }

    /// The document of `POST /containers/create`.
    pub(crate) fn document(&self, streams: Streams) -> Result<ContainerCreateBody> {
        let some = |list: &[String]| (!list.is_empty()).then(|| list.to_vec());
        let (exposed, bindings) = ports::parse(&self.publish, &self.expose)?;
        let volumes = mounts::volumes(&self.volume)?;
        let entrypoint = self.entrypoint.as_ref().map(|word| vec![word.clone()]);
        let cmd = self.words.get(1..).unwrap_or_default();
        Ok(ContainerCreateBody {
            hostname: self.hostname.clone(),
            domainname: self.domainname.clone(),
            user: self.user.clone(),
            attach_stdin: Some(streams.stdin),
            attach_stdout: Some(streams.stdout),
            attach_stderr: Some(streams.stderr),
            exposed_ports: some(&exposed),
            tty: Some(self.tty),
            open_stdin: Some(self.interactive),
            stdin_once: Some(self.interactive && streams.stdin),
            env: some(&environment(&self.env, &self.env_file)?),
            cmd: some(cmd),
            healthcheck: self.health()?,
            image: Some(self.image().to_owned()),
            volumes: some(&volumes.anonymous),
            working_dir: self.workdir.clone(),
            entrypoint,
            labels: Some(labels(&self.label, &self.label_file)?),
            stop_signal: self.stop_signal.clone(),
            stop_timeout: self.stop_timeout,
            host_config: Some(HostConfig {
                binds: some(&volumes.binds),
                port_bindings: (!bindings.is_empty()).then_some(bindings),
                ..self.host_config()?
            }),
            networking_config: self.networking()?,
            ..ContainerCreateBody::default()
        })
    }

    fn host_config(&self) -> Result<HostConfig> {
        let some = |list: &[String]| (!list.is_empty()).then(|| list.to_vec());
        let bytes = |text: &Option<String>| text.as_deref().map(size::parse).transpose();
        Ok(HostConfig {
            auto_remove: Some(self.rm),
            cap_add: some(&self.cap_add),
            cap_drop: some(&self.cap_drop),
            cgroup_parent: self.cgroup_parent.clone(),
            console_size: super::stream::terminal_size()
                .filter(|_| self.tty)
                .map(|(rows, columns)| vec![rows.into(), columns.into()]),
            cpu_period: self.cpu_period,
            cpu_quota: self.cpu_quota,
            cpu_shares: self.cpu_shares,
            cpuset_cpus: self.cpuset_cpus.clone(),
            cpuset_mems: self.cpuset_mems.clone(),
            devices: (!self.device.is_empty())
                .then(|| self.device.iter().map(|d| device(d)).collect::<Result<_>>())
                .transpose()?,
            dns: some(&self.dns),
            dns_options: some(&self.dns_option),
            dns_search: some(&self.dns_search),
            extra_hosts: some(&self.add_host.iter().map(|h| extra_host(h)).collect::<Result<Vec<_>>>()?),
            group_add: some(&self.group_add),
            init: self.init.then_some(true),
            ipc_mode: self.ipc.clone(),
            log_config: self.log()?,
            memory: bytes(&self.memory)?,
            memory_reservation: bytes(&self.memory_reservation)?,
            memory_swap: match self.memory_swap.as_deref() {
                Some("-1") => Some(-1),
                _ => bytes(&self.memory_swap)?,
            },
            mounts: (!self.mount.is_empty())
                .then(|| self.mount.iter().map(|m| mounts::mount(m)).collect::<Result<_>>())
                .transpose()?,
            nano_cpus: self.cpus.as_deref().map(nano_cpus).transpose()?,
            network_mode: Some(self.network.first().map_or("default", |n| network_name(n)).to_owned()),
            oom_kill_disable: self.oom_kill_disable.then_some(true),
            oom_score_adj: self.oom_score_adj,
            pid_mode: self.pid.clone(),
            pids_limit: self.pids_limit,
            privileged: Some(self.privileged),
            publish_all_ports: Some(self.publish_all),
            readonly_rootfs: Some(self.read_only),
            restart_policy: self.restart.as_deref().map(restart_policy).transpose()?,
            runtime: self.runtime.clone(),
            security_opt: some(
                &self.security_opt.iter().map(|o| security_option(o)).collect::<Result<Vec<_>>>()?,
            ),
            shm_size: bytes(&self.shm_size)?,
            sysctls: (!self.sysctl.is_empty()).then(|| pairs("sysctl", &self.sysctl)).transpose()?,
            tmpfs: (!self.tmpfs.is_empty()).then(|| {
                let split = |t: &String| {
                    t.split_once(':').map_or((t.clone(), String::new()), |(p, o)| (p.into(), o.into()))
                };
                self.tmpfs.iter().map(split).collect()
            }),
            ulimits: (!self.ulimit.is_empty())
                .then(|| self.ulimit.iter().map(|u| ulimit(u)).collect::<Result<_>>())
                .transpose()?,
            userns_mode: self.userns.clone(),
            uts_mode: self.uts.clone(),
            volumes_from: some(&self.volumes_from),
            ..HostConfig::default()
        })
    }

    fn health(&self) -> Result<Option<HealthConfig>> {
        let time = |text: &Option<String>| text.as_deref().map(size::nanoseconds).transpose();
        let health = HealthConfig {
            test: match (&self.health_cmd, self.no_healthcheck) {
                (Some(_), true) => bail!("--no-healthcheck conflicts with --health-* options"),
                (None, true) => Some(vec!["NONE".into()]),
                (Some(command), false) => Some(vec!["CMD-SHELL".into(), command.clone()]),
                (None, false) => None,
            },
            interval: time(&self.health_interval)?,
            timeout: time(&self.health_timeout)?,
            start_period: time(&self.health_start_period)?,
            retries: self.health_retries,
            ..HealthConfig::default()
        };
        Ok((health != HealthConfig::default()).then_some(health))
    }

    fn log(&self) -> Result<Option<HostConfigLogConfig>> {
        if self.log_driver.is_none() && self.log_opt.is_empty() {
            return Ok(None);
        }
        let config = (!self.log_opt.is_empty()).then(|| pairs("log-opt", &self.log_opt)).transpose()?;
        Ok(Some(HostConfigLogConfig { typ: self.log_driver.clone(), config }))
    }

    /// The networks by name, each with what is asked of it; the first has the aliases and the address.
    fn networking(&self) -> Result<Option<NetworkingConfig>> {
        let plain =
            |name: &str| matches!(name, "none" | "host" | "default") || name.starts_with("container:");
        let first = self.network.first().map_or("default", |n| network_name(n));
        if plain(first) && (self.ip.is_some() || !self.network_alias.is_empty()) {
            bail!("an address or alias needs a network of your own: create one with `teu network create`");
        }
        let mut endpoints = HashMap::new();
        for (n, network) in self.network.iter().enumerate() {
            let name = network_name(network);
            if plain(name) {
                continue;
            }
            let mut endpoint = EndpointSettings::default();
            if n == 0 {
                endpoint.aliases = (!self.network_alias.is_empty()).then(|| self.network_alias.clone());
                endpoint.ipam_config = self
                    .ip
                    .clone()
                    .map(|ip| EndpointIpamConfig { ipv4_address: Some(ip), ..EndpointIpamConfig::default() });
            }
            endpoints.insert(name.to_owned(), endpoint);
        }
        Ok((!endpoints.is_empty()).then_some(NetworkingConfig { endpoints_config: Some(endpoints) }))
    }
}

/// `name=web` and `web` are the same network.
fn network_name(text: &str) -> &str {
    text.strip_prefix("name=").unwrap_or(text)
}

/// Variables from files and flags. One without a value is taken from our own environment, or not set at all.
pub(crate) fn environment(flags: &[String], files: &[String]) -> Result<Vec<String>> {
    let mut variables = Vec::new();
    let mut add = |text: &str| {
        if text.contains('=') {
            variables.push(text.to_owned());
        } else if let Ok(value) = std::env::var(text) {
            variables.push(format!("{text}={value}"));
        }
    };
    for file in files {
        let text = fs::read_to_string(file).with_context(|| format!("open {file}"))?;
        for line in text.lines().map(str::trim_start).filter(|l| !l.is_empty() && !l.starts_with('#')) {
            let name = line.split('=').next().unwrap_or_default();
            if name.is_empty() || name.contains(char::is_whitespace) {
                bail!("invalid env file ({file}): variable '{name}' contains whitespaces or has no name");
            }
            add(line);
        }
    }
    for flag in flags {
        if flag.starts_with('=') || flag.is_empty() {
            bail!("invalid environment variable: {flag}");
        }
        add(flag);
    }
    Ok(variables)
}

/// Labels from files and flags; one without a value has the empty one.
pub(crate) fn labels(flags: &[String], files: &[String]) -> Result<HashMap<String, String>> {
    let mut all = HashMap::new();
    let mut add = |text: &str| {
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        all.insert(key.to_owned(), value.to_owned());
    };
    for file in files {
        let text = fs::read_to_string(file).with_context(|| format!("open {file}"))?;
        text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#')).for_each(&mut add);
    }
    flags.iter().for_each(|flag| add(flag));
    Ok(all)
}

/// `key=value` of a flag.
pub(crate) fn pairs(flag: &str, list: &[String]) -> Result<HashMap<String, String>> {
    list.iter()
        .map(|text| {
            let (key, value) = text
                .split_once('=')
                .ok_or_else(|| anyhow!("invalid --{flag} '{text}': write it as key=value"))?;
            Ok((key.to_owned(), value.to_owned()))
        })
        .collect()
}

/// `1.5` processors, in billionths.
pub(crate) fn nano_cpus(text: &str) -> Result<i64> {
    let cpus: f64 = text.parse().with_context(|| format!("invalid number of cpus '{text}'"))?;
    if !(0.0..1e6).contains(&cpus) {
        bail!("invalid number of cpus '{text}'");
    }
    #[expect(clippy::cast_possible_truncation, reason = "checked above")]
    Ok((cpus * 1e9).round() as i64)
}

/// `on-failure:3`.
pub(crate) fn restart_policy(text: &str) -> Result<RestartPolicy> {
    let (name, count) = text.split_once(':').map_or((text, None), |(n, c)| (n, Some(c)));
    let name = match name {
        "" | "no" => RestartPolicyNameEnum::NO,
        "always" => RestartPolicyNameEnum::ALWAYS,
        "unless-stopped" => RestartPolicyNameEnum::UNLESS_STOPPED,
        "on-failure" => RestartPolicyNameEnum::ON_FAILURE,
        _ => bail!("invalid restart policy '{text}': use no, on-failure[:max], always or unless-stopped"),
    };
    if count.is_some() && name != RestartPolicyNameEnum::ON_FAILURE {
        bail!("invalid restart policy '{text}': maximum retry count can only be used with 'on-failure'");
    }
    let count =
        count.map(|c| c.parse().with_context(|| format!("invalid restart policy '{text}'"))).transpose()?;
    Ok(RestartPolicy { name: Some(name), maximum_retry_count: count })
}

fn ulimit(text: &str) -> Result<ResourcesUlimits> {
    let invalid = || anyhow!("invalid ulimit argument: {text}: write it as name=soft[:hard]");
    let (name, limits) = text.split_once('=').ok_or_else(invalid)?;
    let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
    let (soft, hard) =
        (soft.parse::<i64>().map_err(|_| invalid())?, hard.parse::<i64>().map_err(|_| invalid())?);
    if hard >= 0 && soft > hard {
        bail!("ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}");
    }
    Ok(ResourcesUlimits { name: Some(name.to_owned()), soft: Some(soft), hard: Some(hard) })
}

fn device(text: &str) -> Result<DeviceMapping> {
    let parts: Vec<_> = text.split(':').collect();
    let rights = |word: &str| !word.is_empty() && word.chars().all(|c| "rwm".contains(c));
    let (host, container, rights) = match parts.as_slice() {
        [host] => (*host, *host, "rwm"),
        [host, word] if rights(word) => (*host, *host, *word),
        [host, container] => (*host, *container, "rwm"),
        [host, container, word] if rights(word) => (*host, *container, *word),
        _ => bail!("invalid device specification: {text}"),
    };
    Ok(DeviceMapping {
        path_on_host: Some(host.to_owned()),
        path_in_container: Some(container.to_owned()),
        cgroup_permissions: Some(rights.to_owned()),
    })
}

fn extra_host(text: &str) -> Result<String> {
    let (name, address) = text
        .split_once('=')
        .or_else(|| text.split_once(':'))
        .ok_or_else(|| anyhow!("bad format for add-host: \"{text}\""))?;
    let bare = address.trim_matches(['[', ']']);
    if name.is_empty() || (address != "host-gateway" && bare.parse::<std::net::IpAddr>().is_err()) {
        bail!("invalid IP address in add-host: \"{address}\"");
    }
    Ok(format!("{name}:{bare}"))
}

/// A seccomp profile is a file of the client's machine: its text is sent.
fn security_option(text: &str) -> Result<String> {
    let Some(file) = text.strip_prefix("seccomp=").or_else(|| text.strip_prefix("seccomp:")) else {
        return Ok(text.to_owned());
    };
    if matches!(file, "unconfined" | "builtin") {
        return Ok(format!("seccomp={file}"));
    }
    let profile =
        fs::read_to_string(file).with_context(|| format!("opening seccomp profile ({file}) failed"))?;
    let profile: serde_json::Value = serde_json::from_str(&profile)
        .with_context(|| format!("compacting json for seccomp profile ({file}) failed"))?;
    Ok(format!("seccomp={profile}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    #[command(disable_help_flag = true)]
    struct Line {
        #[command(flatten)]
        settings: Settings,
    }

    fn settings(line: &str) -> Result<Settings> {
        Ok(Line::try_parse_from(std::iter::once("run").chain(line.split(' ')))?.settings)
    }

    fn document(line: &str) -> Result<serde_json::Value> {
        let settings = settings(line)?;
        let document = settings.document(settings.streams(false)?)?;
        Ok(serde_json::to_value(document)?)
    }

    #[test]
    fn options_end_at_the_image() {
        let settings = settings("-i base ls -l --rm -t").unwrap();
        assert_eq!(settings.words, ["base", "ls", "-l", "--rm", "-t"]);
        assert!(settings.interactive && !settings.tty && !settings.rm);
        assert!(super::tests::settings("--no-such-flag base").is_err());
    }

    #[test]
    fn limits_reach_the_document_in_the_apis_units() {
        let host =
            &document("-m 64m --memory-swap -1 --cpus 0.5 --pids-limit 32 -h web --ulimit nofile=10:20 base")
                .unwrap()["HostConfig"];
        assert_eq!(host["Memory"], 67_108_864);
        assert_eq!(host["MemorySwap"], -1);
        assert_eq!(host["NanoCpus"], 500_000_000);
        assert_eq!(host["PidsLimit"], 32);
        assert_eq!(host["Ulimits"][0]["Hard"], 20);
    }

    #[test]
    fn the_whole_document_of_a_plain_run() {
        let document = document("--rm --network none base true").unwrap();
        insta::assert_snapshot!(serde_json::to_string_pretty(&document).unwrap(), @r#"
        {
          "AttachStderr": true,
          "AttachStdin": false,
          "AttachStdout": true,
          "Cmd": [
            "true"
          ],
          "HostConfig": {
            "AutoRemove": true,
            "NetworkMode": "none",
            "Privileged": false,
            "PublishAllPorts": false,
            "ReadonlyRootfs": false
          },
          "Image": "base",
          "Labels": {},
          "OpenStdin": false,
          "StdinOnce": false,
          "Tty": false
        }
        "#);
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for (line, why) in [
            ("-m lots base", "invalid size: 'lots'"),
            ("--cpus x base", "invalid number of cpus"),
            ("--restart sometimes base", "invalid restart policy"),
            ("--restart always:3 base", "can only be used with 'on-failure'"),
            ("--ulimit nofile base", "invalid ulimit"),
            ("--ulimit nofile=9:3 base", "soft limit must be less"),
            ("--device /a:/b:/c:/d base", "invalid device"),
            ("--add-host web:nowhere base", "invalid IP address"),
            ("-a stdlog base", "valid streams"),
            ("--ip 10.0.0.2 --network host base", "network of your own"),
            ("--sysctl x base", "invalid --sysctl"),
        ] {
            let said = document(line).map_or_else(|e| format!("{e:#}"), |_| "accepted".into());
            assert!(said.contains(why), "{line}: {said}");
        }
    }

    #[test]
    fn variables_come_from_flags_files_and_here() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "# a comment\nA=1\n\nB=two words\nNOT_SET_ANYWHERE\n").unwrap();
        let file = [file.path().display().to_string()];
        let seen = environment(&["C=3".into(), "PATH".into(), "NOT_SET_ANYWHERE".into()], &file).unwrap();
        assert_eq!(seen[..3], ["A=1", "B=two words", "C=3"]);
        assert!(seen[3].starts_with("PATH=/") && seen.len() == 4, "{seen:?}");
    }
}
