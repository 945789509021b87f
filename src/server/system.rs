//! `_ping`, `version`, `info`, `system/df`: what this engine is.

use super::{
    answer::{self, Answer, json},
    call::Call,
    router::{API, API_MIN, routes},
};
use crate::engine::{
    Engine, blocking,
    container::Status,
    failure::Result,
    images,
    volumes::{Volumes, disk_usage},
};
use cgroups::hierarchy::Version;
use hyper::header::{CACHE_CONTROL, HeaderValue, PRAGMA};
use serde_json::{Value, json};
use std::sync::Arc;

routes! {
    GET "/_ping" => ping;
    HEAD "/_ping" => ping;
    GET "/version" => version;
    GET "/info" => info;
    GET "/system/df" => disk;
}

async fn ping(_: Call) -> Answer {
    let mut response = answer::text("OK")?;
    let headers = response.headers_mut();
    // The classic builder: what a client may send to /build.
    headers.insert("Builder-Version", HeaderValue::from_static("1"));
    headers.insert("Swarm", HeaderValue::from_static("inactive"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, no-store, must-revalidate"));
    headers.insert(PRAGMA, HeaderValue::from_static("no-cache"));
    Ok(response)
}

/// Go's name for this machine's architecture.
pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

async fn version(_: Call) -> Answer {
    let (version, kernel) = (env!("CARGO_PKG_VERSION"), kernel());
    let api = format!("{}.{}", API.0, API.1);
    let min = format!("{}.{}", API_MIN.0, API_MIN.1);
    json(&json!({
        "Platform": {"Name": "teu"},
        "Components": [{
            "Name": "Engine",
            "Version": version,
            "Details": {
                "ApiVersion": api, "MinAPIVersion": min, "Arch": architecture(), "Os": "linux", "KernelVersion": kernel,
                "BuildTime": "", "Experimental": "false", "GitCommit": "", "GoVersion": "none: Rust",
            },
        }],
        "Version": version,
        "ApiVersion": api,
        "MinAPIVersion": min,
        "GitCommit": "",
        "GoVersion": "none: Rust",
        "Os": "linux",
        "Arch": architecture(),
        "KernelVersion": kernel,
        "BuildTime": "",
    }))
}

fn kernel() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned()
}

fn os_name() -> String {
    let text = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let name = text.lines().find_map(|l| l.strip_prefix("PRETTY_NAME="));
    name.map_or("Linux".into(), |n| n.trim_matches('"').to_owned())
}

async fn info(call: Call) -> Answer {
    let engine = &call.engine;
    let containers = engine.containers();
    let count = |wanted: &[Status]| containers.iter().filter(|c| wanted.contains(&c.status())).count();
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kilobytes = memory
        .lines()
        .find_map(|l| l.strip_prefix("MemTotal:")?.trim().trim_end_matches(" kB").parse::<u64>().ok());
    // Some trees of version 1 beside it, and docker says 1.
    let v2 = cgroups::hierarchy::detect().is_ok_and(|trees| trees.iter().all(|t| t.version == Version::V2));
    let limits = !engine.rootless || crate::engine::spec::delegated();
    let mut security = vec!["name=seccomp,profile=builtin", "name=cgroupns"];
    let mut warnings = Vec::new();
    if engine.rootless {
        security.push("name=rootless");
        if !limits {
            warnings.push("WARNING: limits need a delegated cgroup v2 group: they are discarded");
        }
    }
    json(&json!({
        "ID": engine.id,
        "Containers": containers.len(),
        "ContainersRunning": count(&[Status::Running]),
        "ContainersPaused": count(&[Status::Paused]),
        "ContainersStopped": count(&[Status::Created, Status::Exited, Status::Dead, Status::Restarting]),
        "Images": images::all(engine)?.len(),
        "Driver": "overlay2",
        "DriverStatus": [["Backing", "OCI image layout"], ["Unpacked layers", "by chain ID"]],
        "Plugins": {"Volume": ["local"], "Network": ["bridge", "host", "null"], "Authorization": null, "Log": ["json-file", "none"]},
        "MemoryLimit": limits, "SwapLimit": limits, "CpuCfsPeriod": limits, "CpuCfsQuota": limits, "CPUShares": limits,
        "CPUSet": limits, "PidsLimit": limits, "OomKillDisable": !v2,
        "IPv4Forwarding": true, "BridgeNfIptables": false, "BridgeNfIp6tables": false, "Debug": false,
        "NFd": std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count),
        "NGoroutines": 0,
        "SystemTime": crate::engine::now(),
        "LoggingDriver": "json-file",
        "CgroupDriver": "cgroupfs",
        "CgroupVersion": if v2 { "2" } else { "1" },
        "NEventsListener": 0,
        "KernelVersion": kernel(),
        "OperatingSystem": os_name(),
        "OSVersion": "",
        "OSType": "linux",
        "Architecture": std::env::consts::ARCH,
        "NCPU": std::thread::available_parallelism().map_or(1, usize::from),
        "MemTotal": kilobytes.unwrap_or_default() * 1024,
        "IndexServerAddress": "https://index.docker.io/v1/",
        "RegistryConfig": {"IndexConfigs": {}, "InsecureRegistryCIDRs": ["127.0.0.0/8", "::1/128"], "Mirrors": []},
        "DockerRootDir": engine.data_root,
        "HttpProxy": "", "HttpsProxy": "", "NoProxy": "",
        "Name": nix::unistd::gethostname()?.to_string_lossy(),
        "Labels": [],
        "ExperimentalBuild": false,
        "ServerVersion": env!("CARGO_PKG_VERSION"),
        "Runtimes": {"teu": {"path": "teu"}},
        "DefaultRuntime": "teu",
        "Swarm": {"NodeID": "", "NodeAddr": "", "LocalNodeState": "inactive", "ControlAvailable": false, "Error": "", "RemoteManagers": null},
        "LiveRestoreEnabled": true,
        "Isolation": "",
        "InitBinary": "docker-init",
        "ContainerdCommit": {"ID": "", "Expected": ""}, "RuncCommit": {"ID": "", "Expected": ""}, "InitCommit": {"ID": "", "Expected": ""},
        "SecurityOptions": security,
        "Warnings": warnings,
    }))
}

async fn disk(call: Call) -> Answer {
    let engine = call.engine.clone();
    let usage = blocking(move || usage(&engine)).await?;
    json(&usage)
}

/// What is used, and how much of it could be freed, which the client works out from the counts.
fn usage(engine: &Arc<Engine>) -> Result<Value> {
    let containers = engine.containers();
    let mut layers = std::collections::HashMap::new();
    let mut list = Vec::new();
    for named in images::all(engine)? {
        let sizes = engine.sizes.of(engine, &named.image)?;
        let id = named.image.id().to_string();
        let users = containers.iter().filter(|c| c.look(|r| r.image_id == id)).count();
        list.push(json!({
            "Id": id, "ParentId": "", "RepoTags": named.tags, "RepoDigests": named.digests,
            "Created": images::created(&named.image), "Size": sizes.iter().sum::<u64>(), "SharedSize": 0, "Containers": users, "Labels": null,
        }));
        layers.extend(named.image.chain_ids().into_iter().map(|c| c.to_string()).zip(sizes));
    }
    let volumes: Vec<Value> = engine
        .volumes
        .list()
        .into_iter()
        .map(|volume| {
            let users = containers
                .iter()
                .filter(|c| c.look(|r| r.mounts.iter().any(|m| m.name.as_ref() == Some(&volume.name))))
                .count();
            let size = Volumes::size(&volume);
            let mut value = json!(volume);
            value["UsageData"] = json!({"Size": size, "RefCount": users});
            value
        })
        .collect();
    let containers: Vec<Value> = containers
        .iter()
        .map(|c| {
            let mut summary = super::list::summary(c);
            summary["SizeRw"] = disk_usage(&c.dir.join("upper")).into();
            summary
        })
        .collect();
    Ok(json!({
        "LayersSize": layers.values().sum::<u64>(),
        "Images": list,
        "Containers": containers,
        "Volumes": volumes,
        "BuildCache": [],
    }))
}
