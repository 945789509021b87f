//! `docker inspect` of a container.

use super::{
    answer::{Answer, json},
    call::Call,
    router::routes,
};
use crate::engine::{
    blocking,
    container::{Container, Record, Status},
    volumes::disk_usage,
};
use serde_json::{Map, Value, json};

routes! {
    GET "/containers/{}/json" => inspect;
}

async fn inspect(call: Call) -> Answer {
    let container = call.engine.container(&call.path[0])?;
    let mut document = document(&call, &container);
    if call.flag("size") {
        let (upper, lower) = (container.dir.join("upper"), container.look(|r| r.lower.clone()));
        let (own, all) = blocking(move || {
            let own = disk_usage(&upper);
            Ok((own, own + lower.iter().map(|l| disk_usage(l)).sum::<u64>()))
        })
        .await?;
        document["SizeRw"] = own.into();
        document["SizeRootFs"] = all.into();
    }
    json(&document)
}

fn document(call: &Call, container: &Container) -> Value {
    let record = container.record();
    let command = record.command();
    let state = &record.state;
    let mut state_json = json!({
        "Status": state.status.as_str(),
        "Running": state.status.alive() || state.status == Status::Restarting,
        "Paused": state.status == Status::Paused,
        "Restarting": state.status == Status::Restarting,
        "OOMKilled": state.oom_killed,
        "Dead": state.status == Status::Dead,
        "Pid": state.pid,
        "ExitCode": state.exit_code,
        "Error": state.error,
        "StartedAt": state.started_at,
        "FinishedAt": state.finished_at,
    });
    if let Some(health) = container.health() {
        state_json["Health"] =
            json!({"Status": health.status, "FailingStreak": health.failing, "Log": health.log});
    }
    let sessions = call.engine.sessions.of(&record.id);
    json!({
        "Id": record.id,
        "Created": record.created,
        "Path": command.first(),
        "Args": command.get(1..).unwrap_or_default(),
        "State": state_json,
        "Image": record.image_id,
        "ResolvConfPath": container.dir.join("resolv.conf"),
        "HostnamePath": container.dir.join("hostname"),
        "HostsPath": container.dir.join("hosts"),
        "LogPath": container.log_path(),
        "Name": format!("/{}", record.name),
        "RestartCount": state.restart_count,
        "Driver": "overlay2",
        "Platform": "linux",
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": "",
        "ExecIDs": if sessions.is_empty() { Value::Null } else { json!(sessions) },
        "HostConfig": host(&record),
        "GraphDriver": {"Name": "overlay2", "Data": {
            "LowerDir": record.lower.iter().map(|l| l.display().to_string()).collect::<Vec<_>>().join(":"),
            "MergedDir": container.run.join("rootfs"),
            "UpperDir": container.dir.join("upper"),
            "WorkDir": container.dir.join("work"),
        }},
        "Mounts": record.mounts,
        "Config": config(&record),
        "NetworkSettings": network(&record),
    })
}

/// Fields that docker always writes, because its clients (and people's templates) rely on them.
fn complete(mut value: Value, always: &[(&str, Value)]) -> Value {
    if let Value::Object(map) = &mut value {
        for (name, default) in always {
            map.entry(*name).or_insert_with(|| default.clone());
        }
    }
    value
}

fn config(record: &Record) -> Value {
    let (empty, no) = (json!(""), json!(false));
    complete(
        json!(record.config),
        &[
            ("Hostname", empty.clone()),
            ("Domainname", empty.clone()),
            ("User", empty.clone()),
            ("AttachStdin", no.clone()),
            ("AttachStdout", no.clone()),
            ("AttachStderr", no.clone()),
            ("Tty", no.clone()),
            ("OpenStdin", no.clone()),
            ("StdinOnce", no),
            ("Env", json!([])),
            ("Cmd", Value::Null),
            ("Image", empty.clone()),
            ("Volumes", Value::Null),
            ("WorkingDir", empty),
            ("Entrypoint", Value::Null),
            ("OnBuild", Value::Null),
            ("Labels", json!({})),
        ],
    )
}

fn host(record: &Record) -> Value {
    let (empty, no, zero, null) = (json!(""), json!(false), json!(0), Value::Null);
    complete(
        json!(record.host),
        &[
            ("Binds", null.clone()),
            ("ContainerIDFile", empty.clone()),
            ("LogConfig", json!({"Type": "json-file", "Config": {}})),
            ("NetworkMode", json!("bridge")),
            ("PortBindings", json!({})),
            ("RestartPolicy", json!({"Name": "no", "MaximumRetryCount": 0})),
            ("AutoRemove", no.clone()),
            ("VolumesFrom", null.clone()),
            ("CapAdd", null.clone()),
            ("CapDrop", null.clone()),
            ("CgroupnsMode", json!("private")),
            ("Dns", json!([])),
            ("DnsOptions", json!([])),
            ("DnsSearch", json!([])),
            ("ExtraHosts", null.clone()),
            ("GroupAdd", null.clone()),
            ("IpcMode", json!("private")),
            ("Cgroup", empty.clone()),
            ("Links", null.clone()),
            ("OomScoreAdj", zero.clone()),
            ("PidMode", empty.clone()),
            ("Privileged", no.clone()),
            ("PublishAllPorts", no.clone()),
            ("ReadonlyRootfs", no),
            ("SecurityOpt", null.clone()),
            ("UTSMode", empty.clone()),
            ("UsernsMode", empty.clone()),
            ("ShmSize", json!(64 << 20)),
            ("Runtime", json!("teu")),
            ("Isolation", empty.clone()),
            ("CpuShares", zero.clone()),
            ("Memory", zero.clone()),
            ("NanoCpus", zero.clone()),
            ("CgroupParent", empty.clone()),
            ("BlkioWeight", zero.clone()),
            ("CpuPeriod", zero.clone()),
            ("CpuQuota", zero.clone()),
            ("CpusetCpus", empty.clone()),
            ("CpusetMems", empty),
            ("Devices", json!([])),
            ("MemoryReservation", zero.clone()),
            ("MemorySwap", zero),
            ("MemorySwappiness", null.clone()),
            ("OomKillDisable", null.clone()),
            ("PidsLimit", null.clone()),
            ("Ulimits", null),
        ],
    )
}

fn network(record: &Record) -> Value {
    let mut ports: Map<String, Value> = Map::new();
    if record.state.status.alive() {
        for spec in record.config.exposed_ports.iter().flatten() {
            ports.insert(spec.clone(), Value::Null);
        }
        for port in &record.state.ports {
            let entry = ports.entry(format!("{}/{}", port.port, port.protocol)).or_insert(Value::Null);
            let binding = json!({"HostIp": port.host_ip, "HostPort": port.host_port.to_string()});
            match entry {
                Value::Array(list) => list.push(binding),
                other => *other = json!([binding]),
            }
        }
    }
    let first = record.networks.get(record.network_mode()).cloned().unwrap_or_default();
    let networks: Map<String, Value> = record
        .networks
        .iter()
        .map(|(name, settings)| {
            let empty = json!("");
            let settings = complete(
                json!(settings),
                &[
                    ("IPAMConfig", Value::Null),
                    ("Links", Value::Null),
                    ("Aliases", Value::Null),
                    ("MacAddress", empty.clone()),
                    ("NetworkID", empty.clone()),
                    ("EndpointID", empty.clone()),
                    ("Gateway", empty.clone()),
                    ("IPAddress", empty.clone()),
                    ("IPPrefixLen", json!(0)),
                    ("IPv6Gateway", empty.clone()),
                    ("GlobalIPv6Address", empty),
                    ("GlobalIPv6PrefixLen", json!(0)),
                    ("DriverOpts", Value::Null),
                    ("DNSNames", Value::Null),
                ],
            );
            (name.clone(), settings)
        })
        .collect();
    json!({
        "Bridge": "", "SandboxID": "", "SandboxKey": if record.state.pid > 0 { format!("/proc/{}/ns/net", record.state.pid) } else { String::new() },
        "Ports": ports,
        "Gateway": first.gateway.unwrap_or_default(),
        "IPAddress": first.ip_address.unwrap_or_default(),
        "IPPrefixLen": first.ip_prefix_len.unwrap_or_default(),
        "MacAddress": first.mac_address.unwrap_or_default(),
        "EndpointID": first.endpoint_id.unwrap_or_default(),
        "GlobalIPv6Address": "", "GlobalIPv6PrefixLen": 0, "IPv6Gateway": "",
        "Networks": networks,
    })
}
