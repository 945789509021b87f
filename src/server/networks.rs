//! `docker network`.

use super::{
    answer::{Answer, done, empty, json, json_with},
    call::Call,
    router::routes,
};
use crate::engine::{
    Engine, blocking,
    container::Container,
    etc,
    failure::{Failure, Result},
    network::{Net, Wanted},
    plan,
};
use bollard_stubs::models::{NetworkConnectRequest, NetworkCreateRequest, NetworkDisconnectRequest};
use hyper::StatusCode;
use nix::unistd::Pid;
use serde_json::{Map, Value, json};
use std::sync::Arc;

routes! {
    GET "/networks" => list;
    POST "/networks/create" => create;
    POST "/networks/prune" => prune;
    GET "/networks/{}" => inspect;
    DELETE "/networks/{}" => remove;
    POST "/networks/{}/connect" => connect;
    POST "/networks/{}/disconnect" => disconnect;
}

/// Those who are plugged in now.
fn members(engine: &Engine, net: &Net) -> Vec<Arc<Container>> {
    let inside = |c: &Arc<Container>| c.status().alive() && c.look(|r| r.networks.contains_key(&net.name));
    engine.containers().into_iter().filter(inside).collect()
}

fn document(engine: &Engine, net: &Net, with_members: bool) -> Value {
    let config: Vec<Value> = net
        .subnet
        .iter()
        .map(|(address, bits)| json!({"Subnet": format!("{address}/{bits}"), "Gateway": net.gateway.map(|g| g.to_string()).unwrap_or_default()}))
        .collect();
    let mut options = net.options.clone();
    if !net.bridge.is_empty() {
        options.insert("com.docker.network.bridge.name".into(), net.bridge.clone());
    }
    let mut containers = Map::new();
    for member in if with_members { members(engine, net) } else { Vec::new() } {
        let endpoint = member.look(|r| {
            let settings = r.networks.get(&net.name).cloned().unwrap_or_default();
            let ip = settings.ip_address.filter(|ip| !ip.is_empty());
            json!({
                "Name": r.name,
                "EndpointID": settings.endpoint_id.unwrap_or_default(),
                "MacAddress": settings.mac_address.unwrap_or_default(),
                "IPv4Address": ip.map(|ip| format!("{ip}/{}", settings.ip_prefix_len.unwrap_or_default())).unwrap_or_default(),
                "IPv6Address": "",
            })
        });
        containers.insert(member.id.clone(), endpoint);
    }
    json!({
        "Name": net.name, "Id": net.id, "Created": net.created, "Scope": "local", "Driver": net.driver,
        "EnableIPv4": true, "EnableIPv6": false,
        "IPAM": {"Driver": "default", "Options": null, "Config": config},
        "Internal": net.internal, "Attachable": false, "Ingress": false,
        "ConfigFrom": {"Network": ""}, "ConfigOnly": false,
        "Containers": containers, "Options": options, "Labels": net.labels,
    })
}

async fn list(call: Call) -> Answer {
    let filters = call.filters()?;
    filters.only(&["dangling", "driver", "id", "label", "label!", "name", "scope", "type"])?;
    let mut networks = call.engine.networks.list();
    let builtin = |n: &Net| matches!(n.name.as_str(), "bridge" | "host" | "none");
    networks.retain(|n| {
        filters.fits("name", |name| n.name.contains(name))
            && filters.fits("id", |id| n.id.starts_with(id))
            && filters.fits("driver", |driver| n.driver == driver)
            && filters.fits("scope", |scope| scope == "local")
            && filters.fits("type", |kind| (kind == "builtin") == builtin(n))
            && filters
                .flag("dangling")
                .is_none_or(|d| (!builtin(n) && members(&call.engine, n).is_empty()) == d)
            && filters.labels(&n.labels)
    });
    let list: Vec<Value> = networks.iter().map(|n| document(&call.engine, n, false)).collect();
    json(&list)
}

async fn inspect(call: Call) -> Answer {
    let net = call.engine.networks.get(&call.path[0])?;
    json(&document(&call.engine, &net, true))
}

async fn create(mut call: Call) -> Answer {
    let asked: NetworkCreateRequest = call.options().await?;
    let ipam = asked.ipam.and_then(|i| i.config).unwrap_or_default().into_iter().next().unwrap_or_default();
    if asked.enable_ipv6.unwrap_or_default() {
        return Err(Failure::bad("networks with IPv6 are not supported"));
    }
    let wanted = Wanted {
        name: asked.name,
        driver: asked.driver.unwrap_or_default(),
        subnet: ipam.subnet,
        gateway: ipam.gateway,
        internal: asked.internal.unwrap_or_default(),
        labels: asked.labels.unwrap_or_default(),
        options: asked.options.unwrap_or_default(),
    };
    // They exist from the beginning, and a second one would be the same.
    if let driver @ ("host" | "null") = wanted.driver.as_str() {
        return Err(Failure::forbidden(format!("only one instance of \"{driver}\" network is allowed")));
    }
    let engine = call.engine.clone();
    let net = blocking(move || engine.networks.create(wanted)).await?;
    call.engine.events.emit("network", "create", &net.id, json!({"name": net.name, "type": net.driver}));
    json_with(StatusCode::CREATED, &json!({"Id": net.id, "Warning": ""}))
}

async fn remove(call: Call) -> Answer {
    let net = call.engine.networks.get(&call.path[0])?;
    delete(&call.engine, net).await?;
    done()
}

async fn delete(engine: &Arc<Engine>, net: Net) -> Result<()> {
    if !members(engine, &net).is_empty() {
        return Err(Failure::forbidden(format!(
            "error while removing network: network {} id {} has active endpoints",
            net.name, net.id
        )));
    }
    let (with, gone) = (engine.clone(), net.clone());
    blocking(move || with.networks.remove(&gone)).await?;
    engine.events.emit("network", "destroy", &net.id, json!({"name": net.name, "type": net.driver}));
    Ok(())
}

async fn prune(call: Call) -> Answer {
    let filters = call.filters()?;
    filters.only(&["label", "label!", "until"])?;
    let mut deleted = Vec::new();
    for net in call.engine.networks.list() {
        let builtin = matches!(net.name.as_str(), "bridge" | "host" | "none");
        let used = call.engine.containers().iter().any(|c| c.look(|r| r.networks.contains_key(&net.name)));
        if !builtin && !used && filters.labels(&net.labels) {
            deleted.push(net.name.clone());
            delete(&call.engine, net).await?;
        }
    }
    json(&json!({"NetworksDeleted": deleted}))
}

async fn connect(mut call: Call) -> Answer {
    let asked: NetworkConnectRequest = call.options().await?;
    let container = call.engine.container(&asked.container)?;
    let net = call.engine.networks.get(&call.path[0])?;
    let _one = container.operation.lock().await;
    let mode = container.look(|r| r.network_mode().to_owned());
    if mode == "host" || mode.starts_with("container:") {
        return Err(Failure::forbidden(format!(
            "container sharing network namespace with another container or host cannot be connected to any other network: {mode}"
        )));
    }
    if net.driver != "bridge" || mode == "none" {
        return Err(Failure::forbidden(
            "container cannot be connected to multiple networks with one of the networks in private (none) mode",
        ));
    }
    if container.look(|r| r.networks.contains_key(&net.name)) {
        return Err(Failure::forbidden(format!(
            "endpoint with name {} already exists in network {}",
            container.name(),
            net.name
        )));
    }
    let settings = asked.endpoint_config.unwrap_or_default();
    if !container.status().alive() {
        container.change(|r| r.networks.insert(net.name.clone(), settings))?;
        return empty(StatusCode::OK);
    }
    let (engine, with, network) = (call.engine.clone(), container.clone(), net.clone());
    blocking(move || {
        let mut record = with.record();
        record.networks.insert(network.name.clone(), settings);
        // Its devices are eth0, eth1 …: the next number is as good as any that is free.
        let number = record.networks.len() - 1;
        let endpoint = plan::plug(&engine, &mut record, &network, number)?;
        namespaces::net::attach(
            Pid::from_raw(record.state.pid),
            &namespaces::net::Endpoint {
                bridge: endpoint.bridge,
                host_name: endpoint.host_name,
                name: endpoint.name,
                address: endpoint.address,
                mac: endpoint.mac,
                gateway: None,
            },
        )?;
        with.change(|r| (r.networks, r.devices) = (record.networks, record.devices))?;
        etc::write(&engine, &with)?;
        etc::refresh(&engine, &network.name);
        Ok(())
    })
    .await?;
    tell(&call, "connect", &net, &container);
    empty(StatusCode::OK)
}

async fn disconnect(mut call: Call) -> Answer {
    let asked: NetworkDisconnectRequest = call.options().await?;
    let container = call.engine.container(&asked.container)?;
    let net = call.engine.networks.get(&call.path[0])?;
    let _one = container.operation.lock().await;
    let missing =
        || Failure::forbidden(format!("container {} is not connected to network {}", container.id, net.name));
    let settings = container.look(|r| r.networks.get(&net.name).cloned()).ok_or_else(missing)?;
    if container.status().alive() {
        // With the outer end of the cable goes the inner one.
        if let Some(device) = container.look(|r| r.devices.get(&net.name).cloned()) {
            blocking(move || Ok(namespaces::net::remove(&device)?)).await?;
        }
        let address = settings.ip_address.as_deref().and_then(|a| a.parse().ok());
        call.engine.networks.give_back(&net.id, address);
    }
    container.change(|r| r.networks.remove(&net.name))?;
    etc::write(&call.engine, &container)?;
    etc::refresh(&call.engine, &net.name);
    tell(&call, "disconnect", &net, &container);
    empty(StatusCode::OK)
}

/// Tells of a container's cable to a network.
fn tell(call: &Call, action: &str, net: &Net, container: &Container) {
    let about = json!({"container": container.id, "name": net.name, "type": net.driver});
    call.engine.events.emit("network", action, &net.id, about);
}
