//! The value of one flag, as people write it, in the API's form.

use anyhow::{Context, Result, anyhow, bail};
use bollard_stubs::models::{DeviceMapping, ResourcesUlimits, RestartPolicy, RestartPolicyNameEnum};
use std::fs;

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

/// `nofile=1024:2048`: the soft limit and the hard one, which are the same where one is given.
pub(super) fn ulimit(text: &str) -> Result<ResourcesUlimits> {
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

/// `/dev/fuse:/dev/fuse:rwm`: where it is here, where it is there, and what may be done with it.
pub(super) fn device(text: &str) -> Result<DeviceMapping> {
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

/// A line for /etc/hosts: `name:address`, or `name:host-gateway`.
pub(super) fn extra_host(text: &str) -> Result<String> {
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
pub(super) fn security_option(text: &str) -> Result<String> {
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
