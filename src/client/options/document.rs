//! From the flags, the document of `POST /containers/create`, in the API's units.

use super::{
    Settings, Streams,
    lists::{environment, labels, pairs},
    values::{device, extra_host, restart_policy, security_option, ulimit},
};
use crate::client::{mounts, ports, size, stream};
use anyhow::{Result, bail};
use bollard_stubs::models::{
    ContainerCreateBody, EndpointIpamConfig, EndpointSettings, HealthConfig, HostConfig, HostConfigLogConfig,
    NetworkingConfig,
};
use std::collections::HashMap;

impl Settings {
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
        let limits = self.limits.body()?;
        Ok(HostConfig {
            auto_remove: Some(self.rm),
            cap_add: some(&self.cap_add),
            cap_drop: some(&self.cap_drop),
            cgroup_parent: self.cgroup_parent.clone(),
            console_size: stream::terminal_size()
                .filter(|_| self.tty)
                .map(|(rows, columns)| vec![rows.into(), columns.into()]),
            cpu_period: limits.cpu_period,
            cpu_quota: limits.cpu_quota,
            cpu_shares: limits.cpu_shares,
            cpuset_cpus: limits.cpuset_cpus,
            cpuset_mems: limits.cpuset_mems,
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
            memory: limits.memory,
            memory_reservation: limits.memory_reservation,
            memory_swap: limits.memory_swap,
            mounts: (!self.mount.is_empty())
                .then(|| self.mount.iter().map(|m| mounts::mount(m)).collect::<Result<_>>())
                .transpose()?,
            nano_cpus: limits.nano_cpus,
            network_mode: Some(self.network.first().map_or("default", |n| network_name(n)).to_owned()),
            oom_kill_disable: self.oom_kill_disable.then_some(true),
            oom_score_adj: self.oom_score_adj,
            pid_mode: self.pid.clone(),
            pids_limit: limits.pids_limit,
            privileged: Some(self.privileged),
            publish_all_ports: Some(self.publish_all),
            readonly_rootfs: Some(self.read_only),
            restart_policy: self.restart.as_deref().map(restart_policy).transpose()?,
            runtime: self.runtime.clone(),
            security_opt: some(
                &self.security_opt.iter().map(|o| security_option(o)).collect::<Result<Vec<_>>>()?,
            ),
            shm_size: self.shm_size.as_deref().map(size::parse).transpose()?,
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
